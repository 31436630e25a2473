import * as z from 'zod/mini';
import { check, text } from '../shared/check';
import { EventError } from '../shared/errors';
import type { Policy } from './policy';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/;

const oneOrMore = z.union([z.string('text'), z.array(z.string('text'), 'a list')], 'text or a list of texts');
const statement = z.object(
  {
    Sid: z.optional(z.string('text')),
    Effect: z.string("'Allow' or 'Deny'"),
    Principal: z.optional(z.unknown()),
    Action: z.optional(oneOrMore),
    NotAction: z.optional(oneOrMore),
    Resource: z.optional(oneOrMore),
    NotResource: z.optional(oneOrMore),
    Condition: z.optional(
      z.record(z.string('text'), z.record(z.string('text'), z.unknown(), 'an object'), 'an object'),
    ),
  },
  'a statement',
);

/** What a bucket policy looks like; one statement may stand without its list. */
export const policySchema = z.object(
  { Statement: z.union([z.array(statement, 'a list'), statement], 'a list of statements') },
  'a policy',
);

const schema = z.strictObject(
  {
    scheduledTime: z.optional(text(TIME, 'a time such as 2026-11-20T14:05:00Z')),
    policy: z.optional(policySchema),
  },
  'an object',
);

/** What the schedule sends. */
export interface Request {
  /** The time of the trigger, the same for every delivery of it; by hand the time of the run. */
  readonly scheduledTime: Date | undefined;
  /** The bucket policy as it has to be; by hand it is not known. */
  readonly policy: Policy | undefined;
}

/** What an event asks for. Throws EventError with everything that is wrong with it. */
export function readEvent(event: unknown): Request {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(
      checked.problems,
      'send {} to audit now without the bucket policy, or what the schedule of the function has as its input',
    );
  }
  const { scheduledTime, policy } = checked.value;
  return { scheduledTime: scheduledTime === undefined ? undefined : new Date(scheduledTime), policy };
}
