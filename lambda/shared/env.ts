import { EnvironmentError } from './errors';

/** The value of an environment variable. Throws EnvironmentError when it is missing or empty. */
export function env(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') {
    throw new EnvironmentError(
      `environment variable ${name}: got ${value === undefined ? 'nothing' : 'an empty value'}, expected a value as the stack sets it; deploy again`,
    );
  }
  return value;
}

/** Like `env`, for a JSON object whose values are strings. */
export function envRecord(name: string): Readonly<Record<string, string>> {
  const value = env(name);
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch (error) {
    throw new EnvironmentError(
      `environment variable ${name}: got '${value}', expected a JSON object; deploy again`,
      error,
    );
  }
  if (
    typeof parsed !== 'object' ||
    parsed === null ||
    Array.isArray(parsed) ||
    !Object.values(parsed).every((item) => typeof item === 'string')
  ) {
    throw new EnvironmentError(
      `environment variable ${name}: got '${value}', expected a JSON object of strings; deploy again`,
    );
  }
  return parsed as Record<string, string>;
}

/** SHA-256 hashes in hex, separated by blanks; an empty value is none. Throws EnvironmentError when the variable is missing. */
export function envHashes(name: string): readonly string[] {
  const value = process.env[name];
  const hashes = value?.split(' ').filter((hash) => hash !== '');
  if (hashes?.every((hash) => /^[0-9a-f]{64}$/.test(hash)) !== true) {
    throw new EnvironmentError(
      `environment variable ${name}: got ${value === undefined ? 'nothing' : `'${value}'`}, expected SHA-256 hashes of 64 lower-case hex digits separated by blanks, or an empty value; deploy again`,
    );
  }
  return hashes;
}

/** Like `env`, for a whole number from 0 on. */
export function envNumber(name: string): number {
  const value = env(name);
  if (!/^\d{1,9}$/.test(value)) {
    throw new EnvironmentError(
      `environment variable ${name}: got '${value}', expected a whole number from 0 on; deploy again`,
    );
  }
  return Number(value);
}
