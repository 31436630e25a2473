import * as z from 'zod/mini';
import { backupIdOf } from '../shared/backup-id';
import { check, printable, text } from '../shared/check';
import { EventError } from '../shared/errors';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z$/;

const scheduled = z.strictObject(
  { scheduledTime: text(TIME, 'a time such as 2026-11-20T03:20:00Z'), scheduleArn: printable(2048) },
  'an object',
);

const byHand = z.strictObject({}, 'an object');

// Clocks differ by seconds; a bundle of a later time would be the newest one until that time comes.
const FUTURE_MINUTES = 5;

/** The id of the bundle that an event asks for at this moment. Throws EventError with everything that is wrong with it. */
export function bundleIdOf(event: unknown, now: Date): string {
  const isScheduled =
    typeof event === 'object' && event !== null && ('scheduledTime' in event || 'scheduleArn' in event);
  const checked = check(isScheduled ? scheduled : byHand, event);
  if (!checked.ok) {
    throw refused(checked.problems);
  }
  const { scheduledTime } = checked.value as { readonly scheduledTime?: string };
  if (scheduledTime === undefined) {
    return backupIdOf(now);
  }
  const time = new Date(scheduledTime);
  const latest = new Date(now.getTime() + FUTURE_MINUTES * 60_000);
  if (Number.isNaN(time.getTime()) || time > latest) {
    throw refused([
      `scheduledTime: got "${scheduledTime}", expected a time that has come, at most ${String(FUTURE_MINUTES)} minutes after ${now.toISOString()}`,
    ]);
  }
  return backupIdOf(time);
}

function refused(problems: readonly string[]): EventError {
  return new EventError(
    problems,
    'send {} for a bundle now, or {"scheduledTime": …, "scheduleArn": …} as the schedule does',
  );
}
