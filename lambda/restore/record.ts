import { canonicalJson } from '../shared/announcement';
import { timeOf } from '../shared/backup-id';
import { StoreError } from '../shared/errors';
import type { RestoreNode, RestoreState } from '../shared/restore-state';
import { putNew } from '../shared/store';
import { MetricUnit } from '../shared/telemetry';
import { cleanNodes, leftBehind } from './clean-up';
import type { PhaseResult, Run } from './run';
import { failedOf, nameOf, nodesFailed, valuesOf } from './run-on-all';

// The record begins the timeline: without it backups are held against those from before the restore.
const PATIENCE_SECONDS = 300;
const RETRY_MILLISECONDS = 10_000;

/** Takes the journals off the nodes and writes `restores/<id>.json`. What of that fails is a warning: the cluster is restored. */
export async function recordRestore(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const cleaned = await cleanNodes(run, state.request.hold === null ? 'restored' : 'held');
  if (!cleaned.done) {
    return { done: false };
  }
  const failed = failedOf(cleaned.outcomes);
  const kept = valuesOf(cleaned.outcomes)?.flatMap(({ value }) => value.kept) ?? [];
  const cleanedState: RestoreState = {
    ...state,
    warnings: [
      ...state.warnings,
      ...(failed.length > 0 ? [`${nodesFailed(run, failed).cause}; ${leftBehind(run)}`] : []),
    ],
  };
  let warnings = cleanedState.warnings;
  try {
    await writeRecord(run, cleanedState);
  } catch (error) {
    if (!(error instanceof StoreError)) {
      throw error;
    }
    if (run.seconds < PATIENCE_SECONDS) {
      await deps.sleep(RETRY_MILLISECONDS);
      return { done: false };
    }
    warnings = [...warnings, notRecorded(state.restoreId, error)];
  }
  const restoredAt = deps.now();
  deps.telemetry.measure('RestoreSeconds', MetricUnit.Seconds, secondsBetween(timeOf(state.restoreId), restoredAt));
  const downtime = downtimeSeconds(state);
  if (downtime !== null) {
    deps.telemetry.measure('RestoreDowntimeSeconds', MetricUnit.Seconds, downtime);
  }
  return {
    done: true,
    ok: true,
    change: { warnings, plan: { ...summaryOf(run, { ...state, warnings }), keptData: [...new Set(kept)].sort() } },
  };
}

/** The key of a restore's record: its presence begins a timeline. */
export function recordKey(restoreId: string): string {
  return `restores/${restoreId}.json`;
}

/** What it means that the record could not be written. */
export function notRecorded(restoreId: string, error: StoreError): string {
  return `${recordKey(restoreId)} was not written: ${error.message}; backups from now on are compared with those from before the restore: add ${restoreId} to acknowledgedTimelines`;
}

/** Writes the record unless it is there. Throws StoreError. */
export async function writeRecord({ deps, journalId }: Run, state: RestoreState): Promise<void> {
  const { snapshot } = state;
  const record = {
    schema: 1,
    restoreId: journalId,
    cluster: deps.clusterName,
    executionArn: state.executionArn,
    outcome: 'restored',
    snapshot,
    ...revisionAfter(state),
    bump: state.bump,
    clusterId: state.clusterId ?? null,
    nodes: state.nodes,
    request: state.request,
    warnings: state.warnings,
    /** What failed after the restored data had been served; null when all went well. */
    failure: state.failure,
    seconds: state.seconds,
    downtimeSeconds: downtimeSeconds(state),
    keptBackupId: state.keptBackupId,
    startedAt: timeOf(state.restoreId).toISOString(),
    restoredAt: deps.now().toISOString(),
  };
  await putNew(deps.store, { key: recordKey(journalId), body: Buffer.from(canonicalJson(record)) });
}

/** An execution that only ends another one's work does not know what that one restored: what was seen of the members is the least. */
function revisionAfter({ snapshot, bump, highestRevision }: RestoreState): { readonly revisionAfter?: number } {
  if (snapshot !== null) {
    return { revisionAfter: snapshot.revision + bump };
  }
  return highestRevision > 0 ? { revisionAfter: highestRevision } : {};
}

/** What the console shows at the end. */
function summaryOf({ deps }: Run, state: RestoreState): Record<string, unknown> {
  const { snapshot, request } = state;
  return {
    result: 'Restored',
    restoreId: state.restoreId,
    cluster: deps.clusterName,
    snapshot: snapshot === null ? null : { backupId: snapshot.backupId, revision: snapshot.revision },
    revision: (snapshot?.revision ?? 0) + state.bump,
    nodes: state.nodes.map(({ instanceId, memberName }) => `${memberName} (${instanceId})`),
    downtimeSeconds: downtimeSeconds(state),
    seconds: state.seconds,
    keptBackupId: state.keptBackupId,
    record: `s3://${deps.store.bucket}/${recordKey(state.restoreId)}`,
    warnings: state.warnings,
    next: [
      ...(request.hold === 'controllers' ? [heldBack(state.restoreId, state.nodes)] : []),
      'nodes that joined after the backup need a restart of their kubelet',
      ...(state.keptBackupId === null
        ? []
        : [`to go back: {"confirm":"${deps.clusterName}","rollback":"${state.restoreId}"}`]),
    ],
  };
}

/** Which nodes hold controllers back, and how they are let go. */
export function heldBack(restoreId: string, nodes: readonly RestoreNode[]): string {
  return `controller manager and scheduler are held back on ${nodes.map(nameOf).join(', ')}: when you have looked at the cluster, run on each of them: cd /etc/kubernetes && mv manifests.before-${restoreId}/*.yaml manifests/ && rmdir manifests.before-${restoreId}`;
}

/** From the first member that was stopped to the first API server that answered; null when one of both is not known. */
export function downtimeSeconds({ stoppedAt, servedAt }: Pick<RestoreState, 'stoppedAt' | 'servedAt'>): number | null {
  return stoppedAt === null || servedAt === null ? null : secondsBetween(new Date(stoppedAt), new Date(servedAt));
}

function secondsBetween(from: Date, to: Date): number {
  return (to.getTime() - from.getTime()) / 1000;
}
