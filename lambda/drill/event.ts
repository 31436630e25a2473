import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN, backupIdOf } from '../shared/backup-id';
import { check, text } from '../shared/check';
import { EventError } from '../shared/errors';
import type { RestoreRequest } from '../shared/restore-state';

const scheduled = z.strictObject(
  {
    scheduledTime: text(
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/,
      "the schedule's time in UTC such as '2026-11-20T04:30:00Z'",
    ).check(z.refine((time) => !Number.isNaN(Date.parse(time)), 'a time that exists')),
    scheduleArn: text(/^arn:[a-z-]+:scheduler:[ -~]{1,1600}$/, "a schedule's ARN"),
  },
  'an object',
);

const byHand = z.strictObject(
  { snapshot: z.optional(text(BACKUP_ID_PATTERN, 'a backup id such as 20261120T140000Z')) },
  'an object',
);

/** What may be sent to the function. */
export const NEXT = `send {} to drill the newest backup, {"snapshot": "20261120T140000Z"} for one by its id, or {"scheduledTime": …, "scheduleArn": …} as the schedule does`;

/** What the function was invoked for. */
export interface Request {
  /** The same for every delivery of one trigger. By hand: the second in which it was asked for. */
  readonly drillId: string;
  readonly selection: Extract<RestoreRequest['snapshot'], { readonly kind: 'newest' | 'id' }>;
}

// Clocks differ by seconds; the record of a later time would be the newest one until that time comes.
const FUTURE_MINUTES = 5;

/** What an event asks for at this moment. Throws EventError with everything that is wrong with it. */
export function readEvent(event: unknown, now: Date): Request {
  if (typeof event === 'object' && event !== null && ('scheduledTime' in event || 'scheduleArn' in event)) {
    const { scheduledTime } = valid(scheduled, event);
    if (Date.parse(scheduledTime) > now.getTime() + FUTURE_MINUTES * 60_000) {
      throw new EventError(
        [
          `scheduledTime: got "${scheduledTime}", expected a time that has come, at most ${String(FUTURE_MINUTES)} minutes after ${now.toISOString()}`,
        ],
        NEXT,
      );
    }
    return { drillId: backupIdOf(new Date(scheduledTime)), selection: { kind: 'newest' } };
  }
  const { snapshot } = valid(byHand, event);
  return {
    drillId: backupIdOf(now),
    selection: snapshot === undefined ? { kind: 'newest' } : { kind: 'id', backupId: snapshot },
  };
}

function valid<Schema extends z.core.$ZodType>(schema: Schema, event: unknown): z.output<Schema> {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(checked.problems, NEXT);
  }
  return checked.value;
}
