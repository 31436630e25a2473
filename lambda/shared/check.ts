import * as z from 'zod/mini';

/** What came of holding a value against a schema. */
export type Checked<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problems: readonly string[] };

/**
 * Holds a value from outside against a schema whose messages say what is expected; every problem comes back at once, each with the
 * path, the value got and the value expected.
 */
export function check<Schema extends z.core.$ZodType>(schema: Schema, input: unknown): Checked<z.output<Schema>> {
  const result = z.safeParse(schema, input);
  return result.success
    ? { ok: true, value: result.data }
    : { ok: false, problems: result.error.issues.map((issue) => problem(issue, input)) };
}

/** A string that matches `pattern`; `expected` says in words what that is. */
export function text(pattern: RegExp, expected: string) {
  // What has the wrong form is not checked further: one value, one problem.
  return z.string(expected).check(z.regex(pattern, { error: expected, abort: true }));
}

/** Printable ASCII of bounded length: what a node may say in its own words. */
export function printable(maxLength: number) {
  const expected = `up to ${String(maxLength)} printable ASCII characters`;
  return z.string(expected).check(z.regex(/^[ -~]*$/, expected), z.maxLength(maxLength, expected));
}

/** A whole number between two bounds. */
export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  const expected = `a whole number from ${String(min)} to ${String(max)}`;
  return z.int(expected).check(z.gte(min, expected), z.lte(max, expected));
}

function problem(issue: z.core.$ZodIssue, input: unknown): string {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return `${[...(path === '' ? [] : [path]), issue.keys.join(', ')].join('.')}: got a field that is not known here, expected none but the documented ones`;
  }
  return `${path === '' ? 'value' : path}: got ${show(valueAt(input, issue.path))}, expected ${issue.message}`;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    input,
  );
}

function show(value: unknown): string {
  const json = value === undefined ? 'nothing' : JSON.stringify(value);
  return json.length > 100 ? `${json.slice(0, 100)}…` : json;
}
