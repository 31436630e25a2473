import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN, backupIdOf } from '../shared/backup-id';
import type { Trigger } from '../shared/announcement';
import { check, text, wholeNumber } from '../shared/check';
import { EventError } from '../shared/errors';

const scheduled = z.strictObject(
  {
    scheduledTime: text(
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/,
      "the schedule's time in UTC such as '2026-11-20T14:00:00Z'",
    ).check(z.refine((time) => !Number.isNaN(Date.parse(time)), 'a time that exists')),
    scheduleArn: text(/^arn:[a-z-]+:scheduler:[ -~]{1,1600}$/, "a schedule's ARN"),
  },
  'an object',
);

const onDemand = (maxKeepDays: number) =>
  z.strictObject(
    {
      reason: z.optional(
        // Goes into a signed announcement and is read by people.
        text(/^[^\p{Cc}]{1,200}$/u, '1 to 200 characters without control characters'),
      ),
      keepDays: z.optional(wholeNumber(1, maxKeepDays)),
    },
    'an object',
  );

const preRestore = z.strictObject(
  {
    preRestore: z.strictObject(
      {
        restoreId: text(BACKUP_ID_PATTERN, 'the id of the restore such as 20261120T140000Z'),
        instanceId: text(/^i-[0-9a-f]{8,17}$/, 'the id of an EC2 instance'),
        backupId: text(BACKUP_ID_PATTERN, 'an id for the backup such as 20261120T140500Z'),
      },
      'an object',
    ),
  },
  'an object',
);

const toolsRequest = z.strictObject(
  {
    version: text(/^\d{1,3}\.\d{1,3}\.\d{1,3}$/, "a version such as '3.6.5'"),
    arch: z.enum(['amd64', 'arm64'], "'amd64' or 'arm64'"),
    files: z
      .array(
        z.strictObject(
          {
            name: z.enum(['etcd', 'etcdctl', 'etcdutl'], "'etcd', 'etcdctl' or 'etcdutl'"),
            sha256: text(/^[0-9a-f]{64}$/, '64 lower-case hex digits'),
            bytes: wholeNumber(1, 500_000_000),
          },
          'an object',
        ),
        'a list of 1 to 3 files',
      )
      .check(z.minLength(1, 'a list of 1 to 3 files'), z.maxLength(3, 'a list of 1 to 3 files')),
  },
  'an object',
);

const tools = z.strictObject({ tools: toolsRequest }, 'an object');

/** Tools of an official release that are to be uploaded. Sizes in bytes. */
export type ToolsRequest = z.output<typeof toolsRequest>;

/** What the function was invoked for. */
export type Request =
  | { readonly kind: 'tools'; readonly tools: ToolsRequest }
  | {
      readonly kind: 'backup';
      readonly trigger: Trigger;
      /** Undefined: the clock gives it. */
      readonly backupId?: string;
      /** The only instance to ask. Undefined: the function chooses. */
      readonly instanceId?: string;
    };

// Clocks differ by seconds; a backup of a later time would be the newest one until that time comes.
const FUTURE_MINUTES = 5;

/**
 * What an event asks for at this moment. Throws EventError with everything that is wrong with it.
 *
 * @param maxKeepDays the longest lock that the bucket policy lets through: a longer `keepDays` could not be kept
 */
export function readEvent(event: unknown, { now, maxKeepDays }: { now: Date; maxKeepDays: number }): Request {
  const latest = new Date(now.getTime() + FUTURE_MINUTES * 60_000);
  const has = (name: string) => typeof event === 'object' && event !== null && name in event;
  if (has('tools')) {
    return { kind: 'tools', tools: valid(tools, event).tools };
  }
  if (has('scheduledTime') || has('scheduleArn')) {
    const { scheduledTime } = valid(scheduled, event);
    if (Date.parse(scheduledTime) > latest.getTime()) {
      throw new EventError([
        `scheduledTime: got "${scheduledTime}", expected a time that has come, at most ${String(FUTURE_MINUTES)} minutes after ${now.toISOString()}`,
      ]);
    }
    return {
      kind: 'backup',
      trigger: { kind: 'schedule', scheduledTime },
      backupId: backupIdOf(new Date(scheduledTime)),
    };
  }
  if (has('preRestore')) {
    const { restoreId, instanceId, backupId } = valid(preRestore, event).preRestore;
    if (backupId < restoreId || backupId > backupIdOf(latest)) {
      throw new EventError([
        `preRestore.backupId: got "${backupId}", expected one from restoreId ${restoreId} on, and at most ${String(FUTURE_MINUTES)} minutes after ${now.toISOString()}`,
      ]);
    }
    return { kind: 'backup', trigger: { kind: 'pre-restore', restoreId }, backupId, instanceId };
  }
  const { reason, keepDays } = valid(onDemand(maxKeepDays), event);
  return { kind: 'backup', trigger: { kind: 'on-demand', reason: reason ?? null, keepDays: keepDays ?? null } };
}

function valid<Schema extends z.core.$ZodType>(schema: Schema, event: unknown): z.output<Schema> {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(checked.problems);
  }
  return checked.value;
}
