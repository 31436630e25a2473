import * as z from 'zod/mini';
import { check } from '../shared/check';
import { EventError } from '../shared/errors';

/** An execution of one of the machines began or ended. */
export interface ExecutionEvent {
  readonly kind: 'execution';
  readonly machine: 'restore' | 'plan';
  readonly status: 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'TIMED_OUT' | 'ABORTED';
  readonly executionArn: string;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  /** What it was started with; undefined when the event had no room for it, or it is no JSON. */
  readonly input: unknown;
  /** What it came to, likewise. */
  readonly output: unknown;
  readonly error: string | null;
  readonly cause: string | null;
}

/** Somebody did something to a key, or tried to. */
export interface KeyEvent {
  readonly kind: 'key';
  readonly action: 'DisableKey' | 'ScheduleKeyDeletion';
  /** Id or ARN, as the caller wrote it. */
  readonly keyId: string;
  /** ARN of the caller; null when CloudTrail does not say. */
  readonly caller: string | null;
  readonly at: string;
  /** Why KMS refused; null: it was done. */
  readonly refused: string | null;
}

const optionalText = z.optional(z.nullable(z.string('text')));

// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html: input and output are strings, left out above 248 KiB.
const executionEvent = z.object(
  {
    'detail-type': z.literal('Step Functions Execution Status Change'),
    detail: z.object(
      {
        executionArn: z.string("an execution's ARN"),
        stateMachineArn: z.string("a state machine's ARN"),
        status: z.enum(
          ['RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'],
          "'RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT' or 'ABORTED'",
        ),
        startDate: z.int('a time in milliseconds'),
        stopDate: z.optional(z.nullable(z.int('a time in milliseconds'))),
        input: optionalText,
        output: optionalText,
        error: optionalText,
        cause: optionalText,
      },
      'the detail of the event',
    ),
  },
  'an event of Step Functions',
);

// https://docs.aws.amazon.com/kms/latest/developerguide/ct-disablekey.html
const keyEvent = z.object(
  {
    'detail-type': z.literal('AWS API Call via CloudTrail'),
    detail: z.object(
      {
        eventName: z.enum(['DisableKey', 'ScheduleKeyDeletion'], "'DisableKey' or 'ScheduleKeyDeletion'"),
        eventTime: z.string('a time'),
        requestParameters: z.object({ keyId: z.string('the id or ARN of a key') }, 'the parameters of the call'),
        userIdentity: z.optional(z.nullable(z.object({ arn: optionalText }, 'an object'))),
        errorCode: optionalText,
      },
      'the detail of the event',
    ),
  },
  'an event of CloudTrail',
);

const NEXT = 'the rules of the stack send such events; deploy it again';

/** What EventBridge sent. Throws EventError when it is something else. */
export function readEvent(event: unknown, planMachineArn: string): ExecutionEvent | KeyEvent {
  if (typeof event === 'object' && event !== null && 'source' in event && event.source === 'aws.kms') {
    const { eventName, eventTime, requestParameters, userIdentity, errorCode } = valid(keyEvent, event).detail;
    return {
      kind: 'key',
      action: eventName,
      keyId: requestParameters.keyId,
      caller: userIdentity?.arn ?? null,
      at: eventTime,
      refused: errorCode ?? null,
    };
  }
  const { detail } = valid(executionEvent, event);
  return {
    kind: 'execution',
    machine: detail.stateMachineArn === planMachineArn ? 'plan' : 'restore',
    status: detail.status,
    executionArn: detail.executionArn,
    startedAt: new Date(detail.startDate),
    endedAt: typeof detail.stopDate === 'number' ? new Date(detail.stopDate) : null,
    input: parsed(detail.input),
    output: parsed(detail.output),
    error: detail.error ?? null,
    cause: detail.cause ?? null,
  };
}

function valid<Schema extends z.core.$ZodType>(schema: Schema, event: unknown): z.output<Schema> {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(checked.problems, NEXT);
  }
  return checked.value;
}

function parsed(json: string | null | undefined): unknown {
  try {
    return JSON.parse(json ?? '') as unknown;
  } catch {
    // Anybody who may start an execution gives it the input; what cannot be read is shown as that.
    return undefined;
  }
}
