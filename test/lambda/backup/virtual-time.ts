import { setImmediate } from 'node:timers/promises';

/** A clock that only moves when everybody who runs on it sleeps, so that several invocations can meet at one moment. */
export class VirtualTime {
  #now: number;
  #running = 0;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  constructor(start: string) {
    this.#now = Date.parse(start);
  }

  readonly now = (): Date => new Date(this.#now);

  readonly sleep = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => this.#sleepers.push({ at: this.#now + milliseconds, wake: resolve }));

  /** Moves the clock while nobody runs. */
  advance(seconds: number): void {
    this.#now += seconds * 1000;
  }

  /** Runs these side by side to their ends. */
  async run<T>(...works: (() => Promise<T>)[]): Promise<PromiseSettledResult<T>[]> {
    this.#running = works.length;
    const all = Promise.allSettled(
      works.map((work) =>
        work().finally(() => {
          this.#running -= 1;
        }),
      ),
    );
    while (this.#running > 0) {
      await setImmediate();
      if (this.#sleepers.length > 0 && this.#sleepers.length === this.#running) {
        this.#now = Math.min(...this.#sleepers.map(({ at }) => at));
        const due = this.#sleepers.filter(({ at }) => at <= this.#now);
        this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#now);
        for (const { wake } of due) {
          wake();
        }
      }
    }
    return all;
  }
}
