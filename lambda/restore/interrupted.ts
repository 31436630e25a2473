import * as z from 'zod/mini';
import { canonicalJson } from '../shared/announcement';
import { backupIdOf } from '../shared/backup-id';
import { check } from '../shared/check';
import { EventError } from '../shared/errors';
import { putNew } from '../shared/store';
import { MetricUnit } from '../shared/telemetry';
import type { RestoreDeps } from './run';

const statusChange = z.object(
  {
    'detail-type': z.literal('Step Functions Execution Status Change', "'Step Functions Execution Status Change'"),
    detail: z
      .object(
        {
          executionArn: z.string("an execution's ARN"),
          status: z.enum(['TIMED_OUT', 'ABORTED', 'FAILED'], "'TIMED_OUT', 'ABORTED' or 'FAILED'"),
          startDate: z.int('a time in milliseconds'),
          stopDate: z.optional(z.nullable(z.int('a time in milliseconds'))),
          /** What StopExecution was given, or what Step Functions says. */
          error: z.optional(z.nullable(z.string('text'))),
          cause: z.optional(z.nullable(z.string('text'))),
        },
        'the detail of the event',
      )
      .check(
        // All other errors are those of a state, or were caught by one.
        z.refine(({ status, error }) => status !== 'FAILED' || error === 'States.Runtime', {
          error: "'States.Runtime' where an execution failed",
          path: ['error'],
        }),
      ),
  },
  'an event of Step Functions',
);

/** What was recorded of an execution that no state ended. */
export interface Interrupted {
  readonly restoreId: string;
  readonly record: string;
  readonly next: string;
}

/** Whether EventBridge sent this, and no state of the machine. */
export function isStatusChange(event: unknown): boolean {
  return typeof event === 'object' && event !== null && 'detail-type' in event;
}

/**
 * Counts and records an execution that was stopped, timed out, or was ended by Step Functions itself (`States.Runtime`): no Catch of its
 * machine ran, so the nodes are as they were at that moment. Throws EventError when the event is another, StoreError when the record cannot
 * be written.
 */
export async function recordInterruption(deps: RestoreDeps, event: unknown): Promise<Interrupted> {
  // First: whatever else fails, somebody has to look.
  deps.telemetry.measure('RestoresInterrupted', MetricUnit.Count, 1);
  const checked = check(statusChange, event);
  if (!checked.ok) {
    throw new EventError(checked.problems, 'the rule of the stack sends such events; deploy it again');
  }
  const { executionArn, status, startDate, stopDate, error, cause } = checked.value.detail;
  const restoreId = backupIdOf(new Date(startDate));
  const key = `restores/${restoreId}/interrupted.json`;
  const next = `nothing was undone: start an execution with {"rollback":"${restoreId}"}, which puts back what this one changed; it says so when there is nothing to undo`;
  const record = {
    schema: 1,
    restoreId,
    cluster: deps.clusterName,
    executionArn,
    outcome: 'interrupted',
    status,
    error: error ?? null,
    cause: cause ?? null,
    startedAt: new Date(startDate).toISOString(),
    stoppedAt: typeof stopDate === 'number' ? new Date(stopDate).toISOString() : null,
    next,
  };
  await putNew(deps.store, { key, body: Buffer.from(canonicalJson(record)) });
  deps.telemetry.phaseFailed('restoreInterrupted', ((stopDate ?? startDate) - startDate) / 1000, {
    restoreId,
    executionArn,
    status,
    next,
  });
  return { restoreId, record: `s3://${deps.store.bucket}/${key}`, next };
}
