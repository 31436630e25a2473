/** What a field has to be: one of these texts, or a text that begins with one of these prefixes. */
type Wanted = string | { readonly prefix: string };

/** An EventBridge pattern, of exactly the operators that the lab knows; `$or` has patterns of which one is enough. */
export interface EventPattern {
  readonly [field: string]: readonly Wanted[] | EventPattern | readonly EventPattern[];
}

const OR = '$or';

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const readWanted = (value: unknown, path: string): Wanted => {
  if (typeof value === 'string') return value;
  if (isObject(value) && Object.keys(value).length === 1 && typeof value.prefix === 'string')
    return { prefix: value.prefix };
  throw new Error(
    `${path}: got ${JSON.stringify(value)}, expected a string or {"prefix": "…"}; the lab matches no other`,
  );
};

/** Reads a rule's pattern. Throws for an operator that the lab does not match. */
export const readPattern = (value: unknown, path = 'EventPattern'): EventPattern => {
  if (!isObject(value)) throw new Error(`${path}: got ${JSON.stringify(value)}, expected an object`);
  return Object.fromEntries(
    Object.entries(value).map(([name, item]): [string, EventPattern[string]] => {
      const at = `${path}.${name}`;
      if (name === OR) return [name, readAlternatives(item, at)];
      if (name.startsWith('$')) throw new Error(`${at}: not an operator that the lab matches`);
      if (!Array.isArray(item)) return [name, readPattern(item, at)];
      if (item.length === 0) throw new Error(`${at}: got an empty list, expected at least one value`);
      return [name, (item as unknown[]).map((wanted) => readWanted(wanted, at))];
    }),
  );
};

const readAlternatives = (value: unknown, path: string): readonly EventPattern[] => {
  if (!Array.isArray(value) || value.length < 2)
    throw new Error(`${path}: got ${JSON.stringify(value)}, expected a list of two patterns or more`);
  return value.map((item: unknown, index) => readPattern(item, `${path}.${String(index)}`));
};

const isWanted = (value: unknown, wanted: Wanted): boolean =>
  typeof wanted === 'string' ? value === wanted : typeof value === 'string' && value.startsWith(wanted.prefix);

/** Whether an event has every field that the pattern names, with a value that it wants; one of them is enough where the event has a list. */
export const matches = (pattern: EventPattern, event: unknown): boolean =>
  isObject(event) &&
  Object.entries(pattern).every(([name, wanted]) => {
    if (name === OR) return (wanted as readonly EventPattern[]).some((one) => matches(one, event));
    const value = event[name];
    if (!Array.isArray(wanted)) return matches(wanted as EventPattern, value);
    return (Array.isArray(value) ? (value as unknown[]) : [value]).some((each) =>
      (wanted as readonly Wanted[]).some((one) => isWanted(each, one)),
    );
  });
