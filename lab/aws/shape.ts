import { validation } from './aws-error';

/** What one field of a request must look like. */
export type Field =
  | {
      readonly type: 'string';
      readonly required?: true;
      readonly min?: number;
      readonly max?: number;
      readonly pattern?: RegExp;
      readonly values?: readonly string[];
    }
  | { readonly type: 'integer'; readonly required?: true; readonly min?: number; readonly max?: number }
  | { readonly type: 'boolean'; readonly required?: true }
  | {
      readonly type: 'list';
      readonly required?: true;
      readonly min?: number;
      readonly max?: number;
      readonly of: Field;
    }
  | { readonly type: 'map'; readonly required?: true; readonly of: Field }
  | { readonly type: 'object'; readonly required?: true; readonly fields: Readonly<Record<string, Field>> };

const within = (
  path: string,
  what: string,
  size: number,
  field: { readonly min?: number; readonly max?: number },
): string[] => [
  ...(field.min !== undefined && size < field.min
    ? [`${path}: got ${what} ${String(size)}, expected at least ${String(field.min)}`]
    : []),
  ...(field.max !== undefined && size > field.max
    ? [`${path}: got ${what} ${String(size)}, expected at most ${String(field.max)}`]
    : []),
];

const stringProblems = (value: string, field: Extract<Field, { type: 'string' }>, path: string): string[] => [
  ...within(path, 'length', value.length, field),
  ...(field.pattern !== undefined && !field.pattern.test(value)
    ? [`${path}: got '${value}', expected ${String(field.pattern)}`]
    : []),
  ...(field.values !== undefined && !field.values.includes(value)
    ? [`${path}: got '${value}', expected one of ${field.values.join(', ')}`]
    : []),
];

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const problems = (value: unknown, field: Field, path: string): string[] => {
  const mistyped = [`${path}: got ${JSON.stringify(value)}, expected ${field.type}`];
  switch (field.type) {
    case 'string':
      return typeof value === 'string' ? stringProblems(value, field, path) : mistyped;
    case 'integer':
      return Number.isInteger(value) ? within(path, 'value', value as number, field) : mistyped;
    case 'boolean':
      return typeof value === 'boolean' ? [] : mistyped;
    case 'list':
      return Array.isArray(value)
        ? [
            ...within(path, 'size', value.length, field),
            ...value.flatMap((item, index) => problems(item, field.of, `${path}[${String(index)}]`)),
          ]
        : mistyped;
    case 'map':
      return isObject(value)
        ? Object.entries(value).flatMap(([key, item]) => problems(item, field.of, `${path}.${key}`))
        : mistyped;
    case 'object':
      return isObject(value) ? objectProblems(value, field.fields, path) : mistyped;
  }
};

/** Every way in which an object differs from its fields; an unknown field is one of them. */
export const objectProblems = (
  value: Record<string, unknown>,
  fields: Readonly<Record<string, Field>>,
  path: string,
): string[] => [
  ...Object.keys(value)
    .filter((name) => !Object.hasOwn(fields, name))
    .map((name) => `${path}.${name}: not a field that this stand-in knows`),
  ...Object.entries(fields).flatMap(([name, field]) => {
    const item = value[name];
    if (item === undefined || item === null) return field.required === true ? [`${path}.${name}: missing`] : [];
    return problems(item, field, `${path}.${name}`);
  }),
];

/** Throws ValidationException with all problems of a request at once. */
export const check = (input: Record<string, unknown>, fields: Readonly<Record<string, Field>>): void => {
  const found = objectProblems(input, fields, 'input');
  if (found.length > 0)
    throw validation(
      `${String(found.length)} validation error${found.length === 1 ? '' : 's'} detected: ${found.join('; ')}`,
    );
};
