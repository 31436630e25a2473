import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { labBinary } from './nodes/tools';
import type { ReaderAnswer } from './reader-process';

/** A line of `lab bbolt check`: bbolt's verdict on a file, and etcdutl's facts of one that is good. */
export interface Verdict {
  readonly file: string;
  readonly ok: boolean;
  readonly by?: 'open' | 'check' | 'status' | 'crash' | 'hang';
  readonly error?: string;
  readonly hash: number;
  readonly revision: number;
  readonly rows: number;
  readonly live: number;
  readonly totalSize: number;
  readonly pageSize: number;
  readonly buckets: number;
}

/** What became of a file in the reader: its answer, or that it ended or hung the process. */
export type Reading = ReaderAnswer | { readonly ok: false; readonly error: 'hang' | 'crash'; readonly message: string };

const ROOT = join(__dirname, '..');
// Files of the tests take milliseconds; a machine that is busy with other things makes that a second.
const READ_TIMEOUT_MS = 15_000;
// The oracle has a limit of its own for each file.
const CHECK_TIMEOUT_MS = 60_000;
// The reader's windows and buffers lie outside of the heap.
const READER_HEAP_MB = 192;
const STDERR_KEPT = 2000;

interface Question {
  readonly file: string;
  /** Gets the line, or `hang` or `crash`. */
  readonly resolve: (answer: string) => void;
}

/** A process that answers each line with a line, and is started again when it ends or hangs. */
class LineProcess {
  private child: ChildProcess | undefined;
  private readonly questions: Question[] = [];
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  stderr = '';

  constructor(
    private readonly command: string,
    private readonly args: readonly string[],
    private readonly timeoutMs: number,
  ) {}

  ask(file: string): Promise<string> {
    return new Promise((resolve) => {
      this.questions.push({ file, resolve });
      if (this.child === undefined) this.start();
      else this.child.stdin?.write(`${file}\n`);
      if (this.questions.length === 1) this.watch();
    });
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.child?.kill('SIGKILL');
  }

  private start(): void {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', this.command, ...this.args], { cwd: ROOT });
    this.child = child;
    this.stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(0, STDERR_KEPT);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (this.child === child) this.answer(line);
    });
    // What it did not read any more is asked again of the next one.
    child.stdin.on('error', () => undefined);
    child.once('close', () => {
      if (this.child === child && !this.closed) this.restart('crash');
    });
    for (const { file } of this.questions) child.stdin.write(`${file}\n`);
  }

  private watch(): void {
    clearTimeout(this.timer);
    if (this.questions.length > 0) {
      this.timer = setTimeout(() => {
        this.restart('hang');
      }, this.timeoutMs);
    }
  }

  private answer(line: string): void {
    this.questions.shift()?.resolve(line);
    this.watch();
  }

  private restart(why: 'hang' | 'crash'): void {
    const { child } = this;
    this.child = undefined;
    child?.kill('SIGKILL');
    this.answer(why);
    if (this.questions.length > 0) this.start();
  }
}

/** The project's reader and bbolt itself, each in processes of its own, side by side. */
export class Judges {
  private readonly reader: LineProcess;
  private readonly oracle = new LineProcess(labBinary(), ['bbolt', 'check'], CHECK_TIMEOUT_MS);
  /** Largest resident memory of a process of the reader so far. */
  maxRssBytes = 0;

  /** `reader`: the module that exports readSnapshot. */
  constructor(reader = join(ROOT, 'lambda', 'shared', 'snapshot', 'read-snapshot.ts')) {
    const node = [`--max-old-space-size=${String(READER_HEAP_MB)}`, '--import', 'tsx'];
    this.reader = new LineProcess(
      process.execPath,
      [...node, join(__dirname, 'reader-process.ts'), reader],
      READ_TIMEOUT_MS,
    );
  }

  async read(file: string): Promise<Reading> {
    const answer = await this.reader.ask(file);
    if (answer === 'hang' || answer === 'crash') {
      return {
        ok: false,
        error: answer,
        message: answer === 'crash' ? this.reader.stderr : `over ${String(READ_TIMEOUT_MS)} ms`,
      };
    }
    const reading = JSON.parse(answer) as ReaderAnswer;
    this.maxRssBytes = Math.max(this.maxRssBytes, reading.maxRssBytes);
    return reading;
  }

  /** Throws when the oracle itself fails: that is no verdict. */
  async check(file: string): Promise<Verdict> {
    const answer = await this.oracle.ask(file);
    if (answer === 'hang' || answer === 'crash') {
      throw new Error(`lab bbolt check: got a ${answer} with ${file} (${this.oracle.stderr}), expected a verdict`);
    }
    return JSON.parse(answer) as Verdict;
  }

  close(): void {
    this.reader.close();
    this.oracle.close();
  }
}

const FACTS = ['hash', 'revision', 'rows', 'live', 'totalSize', 'pageSize', 'buckets'] as const;

/** What both read of a file, to be compared. */
export function factsOf(of: Pick<Verdict, (typeof FACTS)[number]>): string {
  return FACTS.map((name) => `${name} ${String(of[name])}`).join(', ');
}

/** Whether the reader may say that of a file of which bbolt says this; in words, and in few words for counting. */
export function objectionTo(
  reading: Reading,
  verdict: Verdict,
): { readonly outcome: string; readonly objection?: string } {
  if (!reading.ok) {
    if (!('damage' in reading) || reading.error !== 'SnapshotDamagedError') {
      return { outcome: reading.error, objection: `the reader ended with ${reading.error}: ${reading.message}` };
    }
    return { outcome: verdict.ok ? `only the reader refuses: ${String(reading.damage)}` : 'both refuse' };
  }
  if (!verdict.ok) {
    const by = `${verdict.by ?? ''}: ${verdict.error ?? ''}`;
    return { outcome: 'only bbolt refuses', objection: `called sound, but bbolt refuses it by ${by}` };
  }
  const [ours, theirs] = [factsOf(reading), factsOf(verdict)];
  return ours === theirs
    ? { outcome: 'both accept' }
    : { outcome: 'read differently', objection: `read as ${ours}; bbolt reads ${theirs}` };
}
