import * as z from 'zod/mini';
import { check, text, wholeNumber } from '../shared/check';
import { env } from '../shared/env';
import { EnvironmentError } from '../shared/errors';
import { RETENTIONS } from '../shared/retention';
import { type ExpectedExpiry, type ExpectedLifecycle, EXPIRING } from './lifecycle';
import type { ScheduleName } from './schedules';

const days = wholeNumber(1);
const expiry = z.strictObject(
  {
    days: z.strictObject(
      Object.fromEntries(
        RETENTIONS.filter((retention) => retention !== 'latest').map((retention) => [retention, days]),
      ),
      'an object',
    ),
    noncurrentDays: days,
  },
  'a JSON object',
);
const lifecycle = z.extend(expiry, {
  prefixDays: z.strictObject(Object.fromEntries(EXPIRING.map((prefix) => [prefix, days])), 'an object'),
});

/** What the lifecycle rules of snapshots say, from the environment variable EXPIRY. Throws EnvironmentError. */
export function envExpiry(): ExpectedExpiry {
  return readExpiry(expiry);
}

/** What all of them say, from the same. Throws EnvironmentError. */
export function envLifecycle(): ExpectedLifecycle {
  return readExpiry(lifecycle);
}

function readExpiry<Schema extends z.core.$ZodType>(schema: Schema): z.output<Schema> {
  const value = env('EXPIRY');
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch (error) {
    throw new EnvironmentError(
      `environment variable EXPIRY: got '${value.slice(0, 100)}', expected a JSON object; deploy again`,
      error,
    );
  }
  const checked = check(schema, parsed);
  if (!checked.ok) {
    throw new EnvironmentError(`environment variable EXPIRY: ${checked.problems.join('; ')}; deploy again`);
  }
  return checked.value;
}

const scheduleNames = z.array(
  text(/^[0-9A-Za-z_.-]{1,64}\/[0-9A-Za-z_.-]{1,64}$/, 'a group and a name such as group/name'),
);

/** Groups and names of schedules, separated by blanks, from SCHEDULES. Throws EnvironmentError. */
export function envSchedules(): readonly ScheduleName[] {
  const checked = check(scheduleNames, env('SCHEDULES').split(' '));
  if (!checked.ok) {
    throw new EnvironmentError(`environment variable SCHEDULES: ${checked.problems.join('; ')}; deploy again`);
  }
  return checked.value.map((value) => {
    const [group = '', name = ''] = value.split('/');
    return { group, name };
  });
}

/** Whether somebody else owns the bucket, from BUCKET_ADOPTED. Throws EnvironmentError. */
export function envAdopted(): boolean {
  const value = env('BUCKET_ADOPTED');
  if (value !== 'yes' && value !== 'no') {
    throw new EnvironmentError(
      `environment variable BUCKET_ADOPTED: got '${value.slice(0, 100)}', expected 'yes' or 'no'; deploy again`,
    );
  }
  return value === 'yes';
}
