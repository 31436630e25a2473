import { type CloudTrailClient, type Event, LookupEventsCommand } from '@aws-sdk/client-cloudtrail';
import { ListExecutionsCommand, type SFNClient } from '@aws-sdk/client-sfn';
import * as z from 'zod/mini';
import { canonicalJson } from '../shared/announcement';
import { backupIdOf } from '../shared/backup-id';
import { check } from '../shared/check';
import { describeError, StatesError, TrailError } from '../shared/errors';
import { putNew, type Store, type VersionId } from '../shared/store';

/** What finding out who started a restore needs. */
export interface CallersDeps {
  readonly clusterName: string;
  readonly store: Store;
  readonly sfn: SFNClient;
  readonly cloudTrail: CloudTrailClient;
  readonly restoreMachineArn: string;
}

/** An execution of the restore machine. */
interface Execution {
  readonly restoreId: string;
  readonly arn: string;
  readonly startedAt: Date;
}

// CloudTrail answers two lookups a second, to all of an account together.
const MAX_EXECUTIONS = 3;
const MAX_PAGES = 5;
// Both name the moment of the start, one to the second and one to the millisecond.
const WINDOW_MILLISECONDS = 10_000;
// Event history is complete within some 15 minutes.
const GIVEN_UP_MILLISECONDS = 24 * 60 * 60 * 1000;

const words = z.nullish(z.string('text'));
const trailEvent = z.object({
  eventID: words,
  eventTime: words,
  sourceIPAddress: words,
  userAgent: words,
  errorCode: words,
  userIdentity: z.optional(
    z.object({
      type: words,
      arn: words,
      principalId: words,
      invokedBy: words,
      sessionContext: z.nullish(
        z.object({ sessionIssuer: z.nullish(z.object({ arn: words })), sourceIdentity: words }),
      ),
    }),
  ),
  responseElements: z.nullish(z.object({ executionArn: words })),
});

/** The key of the record of who started an execution of the restore machine. */
export function callerKey(restoreId: string): string {
  return `restores/${restoreId}/caller.json`;
}

/**
 * Writes who started each execution of the restore machine beside its records, once, at most three a run and the newest first. What CloudTrail's
 * event history does not know within a day is written as unknown. Returns the restore ids that were written. Throws StatesError, TrailError or
 * StoreError.
 *
 * @param known what lies under `restores/`
 */
export async function recordCallers(deps: CallersDeps, known: readonly VersionId[], now: Date): Promise<string[]> {
  const written: string[] = [];
  const keys = new Set(known.map(({ key }) => key));
  const open = (await listExecutions(deps)).filter(({ restoreId }) => !keys.has(callerKey(restoreId)));
  for (const execution of open.slice(0, MAX_EXECUTIONS)) {
    const found = await findStart(deps, execution);
    if (found === undefined && now.getTime() - execution.startedAt.getTime() < GIVEN_UP_MILLISECONDS) {
      continue;
    }
    const record = {
      schema: 1,
      restoreId: execution.restoreId,
      cluster: deps.clusterName,
      executionArn: execution.arn,
      startedAt: execution.startedAt.toISOString(),
      ...callerOf(found),
      recordedAt: now.toISOString(),
    };
    await putNew(deps.store, { key: callerKey(execution.restoreId), body: Buffer.from(canonicalJson(record)) });
    written.push(execution.restoreId);
  }
  return written;
}

/** Newest first, as Step Functions lists them; it forgets them after 90 days, as CloudTrail does. */
async function listExecutions({ sfn, restoreMachineArn }: CallersDeps): Promise<Execution[]> {
  try {
    const { executions } = await sfn.send(
      new ListExecutionsCommand({ stateMachineArn: restoreMachineArn, maxResults: 100 }),
    );
    return (executions ?? []).flatMap(({ executionArn, startDate }) =>
      executionArn === undefined || startDate === undefined
        ? []
        : [{ restoreId: backupIdOf(startDate), arn: executionArn, startedAt: startDate }],
    );
  } catch (error) {
    throw new StatesError(
      `states:ListExecutions of ${restoreMachineArn}: got ${describeError(error)}, expected its executions; check the function's role`,
      error,
    );
  }
}

type Found = z.output<typeof trailEvent>;

/** The call that started an execution: the one whose answer names it. */
async function findStart({ cloudTrail }: CallersDeps, execution: Execution): Promise<Found | undefined> {
  const at = execution.startedAt.getTime();
  let token: string | undefined;
  for (let page = 1; page <= MAX_PAGES; page++) {
    let answer;
    try {
      answer = await cloudTrail.send(
        new LookupEventsCommand({
          LookupAttributes: [{ AttributeKey: 'EventName', AttributeValue: 'StartExecution' }],
          StartTime: new Date(at - WINDOW_MILLISECONDS),
          EndTime: new Date(at + WINDOW_MILLISECONDS),
          MaxResults: 50,
          ...(token === undefined ? {} : { NextToken: token }),
        }),
      );
    } catch (error) {
      throw new TrailError(
        `cloudtrail:LookupEvents: got ${describeError(error)}, expected who started ${execution.arn}; check the function's role`,
        error,
      );
    }
    const found = (answer.Events ?? [])
      .flatMap(readTrailEvent)
      .find(({ responseElements }) => responseElements?.executionArn === execution.arn);
    token = answer.NextToken;
    if (found !== undefined || token === undefined) {
      return found;
    }
  }
  return undefined;
}

function readTrailEvent({ CloudTrailEvent }: Event): Found[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(CloudTrailEvent ?? '');
  } catch {
    parsed = undefined;
  }
  const checked = check(trailEvent, parsed);
  return checked.ok ? [checked.value] : [];
}

function callerOf(found: Found | undefined): Record<string, unknown> {
  if (found === undefined) {
    return {
      caller: null,
      reason: "CloudTrail's event history has no StartExecution that answered with this execution",
    };
  }
  const { userIdentity, eventID, eventTime, sourceIPAddress, userAgent } = found;
  const { type, arn, principalId, invokedBy, sessionContext } = userIdentity ?? {};
  const short = (value: string | null | undefined) => value?.slice(0, 500) ?? null;
  return {
    caller: {
      type: short(type),
      arn: short(arn),
      roleArn: short(sessionContext?.sessionIssuer?.arn),
      principalId: short(principalId),
      sourceIdentity: short(sessionContext?.sourceIdentity),
      invokedBy: short(invokedBy),
      sourceIpAddress: short(sourceIPAddress),
      userAgent: short(userAgent),
    },
    reason: null,
    eventId: short(eventID),
    eventTime: short(eventTime),
  };
}
