/** The properties of one resource, each of which has to be taken; one that nobody takes is an error. */
export class Properties {
  readonly #left: Map<string, unknown>;

  constructor(
    private readonly path: string,
    value: unknown,
  ) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new Error(`${path}: got ${JSON.stringify(value)}, expected an object`);
    this.#left = new Map(Object.entries(value));
  }

  #take(name: string): unknown {
    const value = this.#left.get(name);
    this.#left.delete(name);
    return value;
  }

  #mistyped(name: string, value: unknown, expected: string): never {
    throw new Error(`${this.path}.${name}: got ${JSON.stringify(value)}, expected ${expected}`);
  }

  /** Takes a value as it is; undefined when it is not there. */
  any(name: string): unknown {
    return this.#take(name);
  }

  text(name: string): string {
    return this.optionalText(name) ?? this.#mistyped(name, undefined, 'a string');
  }

  optionalText(name: string): string | undefined {
    const value = this.#take(name);
    if (value !== undefined && typeof value !== 'string') this.#mistyped(name, value, 'a string');
    return value;
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#take(name);
    if (value !== undefined && typeof value !== 'number') this.#mistyped(name, value, 'a number');
    return value;
  }

  optionalBoolean(name: string): boolean | undefined {
    const value = this.#take(name);
    if (value !== undefined && typeof value !== 'boolean') this.#mistyped(name, value, 'a boolean');
    return value;
  }

  /** Takes a property that can only have this one value. */
  only(name: string, expected: unknown): void {
    const value = this.#take(name);
    if (value !== undefined && JSON.stringify(value) !== JSON.stringify(expected))
      this.#mistyped(name, value, JSON.stringify(expected));
  }

  object(name: string): Properties {
    return new Properties(`${this.path}.${name}`, this.#take(name));
  }

  optionalObject(name: string): Properties | undefined {
    return this.#left.has(name) ? this.object(name) : undefined;
  }

  list(name: string): Properties[] {
    const value = this.#take(name) ?? [];
    if (!Array.isArray(value)) return this.#mistyped(name, value, 'a list');
    return value.map((item, index) => new Properties(`${this.path}.${name}[${String(index)}]`, item));
  }

  /** Takes properties that change nothing in the lab; docs/lab.md says which. */
  ignore(...names: readonly string[]): void {
    for (const name of names) this.#left.delete(name);
  }

  /** Throws when a property is left that nobody took. */
  done(): void {
    if (this.#left.size > 0)
      throw new Error(`${this.path}: properties ${[...this.#left.keys()].join(', ')} are not known to the lab`);
  }
}
