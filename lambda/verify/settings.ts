import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { check, wholeNumber } from '../shared/check';
import { env } from '../shared/env';
import { EnvironmentError } from '../shared/errors';
import { type Keep, MAX_KEPT } from '../shared/retention';

const number = wholeNumber(0, MAX_KEPT);
const keep = z.strictObject(
  {
    hourlyHours: number,
    dailyDays: number,
    weeklyWeeks: number,
    monthlyMonths: number,
    onDemandDays: number,
    preRestoreDays: number,
  },
  'a JSON object',
);

/** How long each class is kept, from the environment variable KEEP. Throws EnvironmentError. */
export function envKeep(): Keep {
  const value = env('KEEP');
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch (error) {
    throw new EnvironmentError(
      `environment variable KEEP: got '${value.slice(0, 100)}', expected a JSON object; deploy again`,
      error,
    );
  }
  const checked = check(keep, parsed);
  if (!checked.ok) {
    throw new EnvironmentError(`environment variable KEEP: ${checked.problems.join('; ')}; deploy again`);
  }
  return checked.value;
}

/** Ids of timeline starts separated by blanks, from ACKNOWLEDGED_TIMELINES; empty is none. Throws EnvironmentError. */
export function envTimelines(): readonly string[] {
  const value = process.env['ACKNOWLEDGED_TIMELINES'];
  const ids = value?.split(' ').filter((id) => id !== '');
  if (ids?.every((id) => BACKUP_ID_PATTERN.test(id)) !== true) {
    throw new EnvironmentError(
      `environment variable ACKNOWLEDGED_TIMELINES: got ${value === undefined ? 'nothing' : `'${value.slice(0, 200)}'`}, expected times such as 20261121T030000Z separated by blanks, or an empty value; deploy again`,
    );
  }
  return ids;
}
