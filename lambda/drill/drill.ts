import type { LambdaClient } from '@aws-sdk/client-lambda';
import type { Order } from '../drill-run/order';
import { chooseSnapshot } from '../plan/choose-snapshot';
import { readRecords } from '../plan/records';
import { bumpOf } from '../restore/preflight';
import { presignGet } from '../restore/seal';
import { canonicalJson } from '../shared/announcement';
import { highestRevisionOf } from '../shared/chosen-snapshot';
import { type DrillRecord, drillKey, MAX_DRILL_RECORD_BYTES, readDrillRecord } from '../shared/drill-record';
import { describeError, DrillFailedError, DrillRecordError, EventError } from '../shared/errors';
import type { OfficialTools } from '../shared/official-tools';
import type { Receipt, ReceiptDeps } from '../shared/receipt';
import { getVersion, listVersions, putNew, type VersionId } from '../shared/store';
import { type Fields, MetricUnit, type Telemetry } from '../shared/telemetry';
import { type DrillTool, listDrillTools } from './choose-tools';
import { NEXT, readEvent, type Request } from './event';
import { invokeRun } from './invoke-run';
import { judge, type Verdict } from './judge';
import { planDrill } from './plan-drill';

/** What the function works with. */
export interface DrillDeps extends ReceiptDeps {
  /** Of the nodes, as etcd's releases name it. */
  readonly arch: Order['arch'];
  readonly acknowledgedTools: readonly string[];
  readonly officialTools: OfficialTools;
  /** Tries once: an answer that was lost is no second drill. */
  readonly lambda: LambdaClient;
  /** Name of the function that runs etcd. */
  readonly runFunction: string;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
}

/** `known`: an earlier delivery of the same trigger has written the record. */
export interface DrillOutcome {
  readonly outcome: 'proven' | 'not-possible' | 'known';
  readonly drillId: string;
  readonly backupId: string;
  readonly record: string;
  readonly reason: string | null;
}

/**
 * Restores one stored backup into a throwaway etcd and judges what came of it. Throws DrillFailedError when the backup did not restore, and every
 * other error when nothing is known; the platform retries. What cannot be drilled is an outcome with a metric of its own.
 */
export async function drill(deps: DrillDeps, event: unknown): Promise<DrillOutcome> {
  const startedAt = deps.now();
  const request = readEvent(event, startedAt);
  const known = await readExisting(deps, request);
  if (known !== undefined) {
    return settled(known, 'known');
  }
  let written: Written | undefined;
  try {
    written = await run(deps, request, startedAt);
    return settled(written.record, written.created ? undefined : 'known');
  } finally {
    measure(deps.telemetry, written);
    deps.telemetry.publish();
  }
}

interface Written {
  readonly record: DrillRecord;
  /** False: another delivery of this trigger was faster. */
  readonly created: boolean;
}

async function run(deps: DrillDeps, request: Request, startedAt: Date): Promise<Written> {
  const { drillId } = request;
  const chosen = await inPhase(deps, drillId, 'drillChoose', async () => {
    const found = await choose(deps, request);
    return [found, { backupId: found.receipt.backupId, versionId: found.receipt.versionId }];
  });
  const { receipt } = chosen;
  const plan = planDrill(receipt, chosen.tools, deps);
  const verdict: Verdict =
    'reason' in plan
      ? { outcome: 'not-possible', ...plan, seconds: {}, measured: null }
      : await inPhase(deps, drillId, 'drillRun', async () => {
          const order = await makeOrder(deps, drillId, { ...chosen, ...plan });
          const invokedAt = deps.now();
          const invoked = await invokeRun(deps, order);
          const seconds = (deps.now().getTime() - invokedAt.getTime()) / 1000;
          const judged = judge(receipt, order, invoked, seconds);
          return [judged, { backupId: receipt.backupId, outcome: judged.outcome, reason: judged.reason }];
        });
  return writeRecord(deps, {
    schema: 1,
    drillId,
    cluster: deps.clusterName,
    backupId: receipt.backupId,
    versionId: receipt.versionId,
    ...verdict,
    etcdVersion: receipt.announced.etcdVersion,
    tools: 'reason' in plan ? {} : Object.fromEntries(plan.tools.map(({ name, sha256 }) => [name, sha256])),
    trust: 'reason' in plan ? {} : Object.fromEntries(plan.tools.map(({ name, trust }) => [name, trust])),
    startedAt: startedAt.toISOString(),
    finishedAt: deps.now().toISOString(),
  });
}

interface Chosen {
  readonly receipt: Receipt;
  /** Highest revision known anywhere: as for a restore. */
  readonly highestRevision: number;
  /** All of the receipt's version of etcd. */
  readonly tools: readonly DrillTool[];
}

async function choose(deps: DrillDeps, { selection }: Request): Promise<Chosen> {
  const records = await readRecords(deps.store);
  const { receipt } = await chooseSnapshot(deps, selection, records);
  return {
    receipt,
    highestRevision: Math.max(highestRevisionOf(receipt), records.highestRevision),
    tools: await listDrillTools(deps.store, receipt.announced.etcdVersion, deps.arch),
  };
}

async function makeOrder(
  deps: DrillDeps,
  drillId: string,
  { receipt, highestRevision, tools, keysPerPage }: Chosen & { readonly keysPerPage: number },
): Promise<Order> {
  const urlOf = async ({ key, versionId }: VersionId) => {
    const { url, signature } = await presignGet(deps.store.s3, { bucket: deps.store.bucket, key, versionId });
    return url + signature;
  };
  const { compression, compressedBytes, compressedSha256, sizeBytes, sha256, snapshot } = receipt;
  return {
    drillId,
    arch: deps.arch,
    tools: await Promise.all(
      tools.map(async (tool) => ({
        name: tool.name,
        url: await urlOf(tool),
        bytes: tool.bytes,
        sha256: tool.sha256,
      })),
    ),
    snapshot: {
      url: await urlOf(receipt),
      compression,
      compressedBytes,
      compressedSha256,
      sizeBytes,
      sha256,
      revision: snapshot.revision,
    },
    bump: bumpOf({ highestRevision }, snapshot),
    keysPerPage,
  };
}

async function writeRecord(deps: DrillDeps, record: DrillRecord): Promise<Written> {
  const key = drillKey(record.drillId);
  const body = Buffer.from(canonicalJson(record));
  if ((await putNew(deps.store, { key, body })) === 'created') {
    return { record, created: true };
  }
  const existing = await readRecord(deps, record.drillId);
  if (existing === undefined) {
    throw new DrillRecordError(
      `${key}: got no version of it after S3 said that it exists, expected the record of another delivery; find out in CloudTrail who removed it`,
    );
  }
  return { record: existing, created: false };
}

/** The record that an earlier delivery of this trigger has written. Throws EventError when it is of another request in the same second. */
async function readExisting(deps: DrillDeps, { drillId, selection }: Request): Promise<DrillRecord | undefined> {
  const record = await readRecord(deps, drillId);
  if (record !== undefined && selection.kind === 'id' && record.backupId !== selection.backupId) {
    throw new EventError(
      [`drill ${drillId}: got one of backup ${record.backupId} in this very second, expected none`],
      `send it again; ${NEXT}`,
    );
  }
  return record;
}

/** By its oldest version: what was put over it later says nothing. */
async function readRecord({ store }: DrillDeps, drillId: string): Promise<DrillRecord | undefined> {
  const key = drillKey(drillId);
  const version = (await listVersions(store, key)).versions.find((each) => each.key === key);
  return version === undefined
    ? undefined
    : readDrillRecord(key, (await getVersion(store, version, MAX_DRILL_RECORD_BYTES)).bytes);
}

/** The answer to whoever asked: a failed drill stays failed, however often its trigger is delivered. */
function settled(record: DrillRecord, known: 'known' | undefined): DrillOutcome {
  const { drillId, backupId, outcome, reason, sentence } = record;
  if (outcome === 'failed') {
    throw new DrillFailedError(
      reason ?? 'unknown',
      `drill ${drillId} of backup ${backupId} failed (${reason ?? 'unknown'}): ${sentence ?? 'its record says no more'}; docs/drill.md says what each reason means`,
    );
  }
  return { outcome: known ?? outcome, drillId, backupId, record: drillKey(drillId), reason };
}

/** `written` is undefined when nothing is known: that is a failure as well. */
function measure(telemetry: Telemetry, written: Written | undefined): void {
  if (written?.created === false) {
    return;
  }
  const outcome = written?.record.outcome;
  const { download, restore, boot, read } = written?.record.seconds ?? {};
  telemetry.measure('DrillsFailed', MetricUnit.Count, outcome === 'proven' || outcome === 'not-possible' ? 0 : 1);
  telemetry.measure('DrillNotPossible', MetricUnit.Count, outcome === 'not-possible' ? 1 : 0);
  for (const [name, seconds] of [
    ['DrillDownloadSeconds', download],
    ['DrillRestoreSeconds', restore],
    ['DrillBootSeconds', boot],
    ['DrillReadSeconds', read],
  ] as const) {
    if (seconds !== undefined) {
      telemetry.measure(name, MetricUnit.Seconds, seconds);
    }
  }
  if (outcome === 'proven' && download !== undefined && restore !== undefined && boot !== undefined) {
    // What staging and start of a restore take; reading everything back is the drill's own.
    telemetry.measure('DrillSeconds', MetricUnit.Seconds, download + restore + boot);
  }
}

/** Runs one phase: one log line and one duration, whatever comes of it. */
async function inPhase<T>(
  { telemetry, now }: DrillDeps,
  drillId: string,
  phase: string,
  work: () => Promise<readonly [T, Fields]>,
): Promise<T> {
  const started = now();
  const seconds = () => (now().getTime() - started.getTime()) / 1000;
  try {
    const [result, fields] = await work();
    telemetry.phaseDone(phase, seconds(), { drillId, ...fields });
    return result;
  } catch (error) {
    telemetry.phaseFailed(phase, seconds(), { drillId, error: describeError(error) });
    throw error;
  }
}
