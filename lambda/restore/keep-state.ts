import { backupIdBefore } from '../shared/backup-id';
import { chosenFromReceipt, highestRevisionOf } from '../shared/chosen-snapshot';
import { findReceipt } from '../shared/receipt';
import { invokeBackup } from './invoke-backup';
import type { PhaseResult, Run } from './run';

// A large database takes two runs of the backup function; the second attaches to the first.
const BACKUP_PATIENCE_SECONDS = 1800;
const RECEIPT_PATIENCE_SECONDS = 1200;
const RECEIPT_LOOK_MILLISECONDS = 5000;
const RETRY_MILLISECONDS = 10_000;
// Of KeepSurvivor; the rest of its seconds is the wait for the proof.
const SNAPSHOT_TAKEN = 'KeepSurvivorSnapshot';

/** Takes the survivor's snapshot, waits until it is proven, and makes it the one that is restored. */
export async function keepSurvivor(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const failed = (cause: string): PhaseResult => ({ done: true, ok: false, error: 'KeepSurvivorFailed', cause });
  if (state.survivor === null) {
    return failed(
      'members that serve a snapshot: got none, expected a survivor; restore a backup instead, without "from"',
    );
  }
  if (state.keptBackupId === null) {
    const answer = await invokeBackup(deps, preRestore(run, state.survivor));
    if (answer.kind === 'stored') {
      return {
        done: false,
        change: { keptBackupId: answer.backupId, seconds: { ...state.seconds, [SNAPSHOT_TAKEN]: run.seconds } },
      };
    }
    if (!answer.again || run.seconds >= BACKUP_PATIENCE_SECONDS) {
      return failed(
        `snapshot of the survivor ${state.survivor.instanceId}: ${answer.reason}; nothing was changed: correct that, or restore a backup instead, without "from"`,
      );
    }
    await deps.sleep(RETRY_MILLISECONDS);
    return { done: false };
  }
  const id = state.keptBackupId;
  const takenAfter = state.seconds[SNAPSHOT_TAKEN] ?? 0;
  for (;;) {
    const { receipt, untrusted } = await findReceipt(deps, id);
    if (receipt !== undefined) {
      return {
        done: true,
        ok: true,
        change: {
          snapshot: chosenFromReceipt(receipt),
          highestRevision: Math.max(state.highestRevision, highestRevisionOf(receipt)),
          clusterIdsBefore: [...new Set([...(state.clusterIdsBefore ?? []), receipt.announced.clusterId])],
          warnings: [...state.warnings, ...untrusted],
        },
      };
    }
    if (run.seconds >= takenAfter + RECEIPT_PATIENCE_SECONDS) {
      return failed(
        `receipts/${id}.json: got none that can be trusted${untrusted.length > 0 ? ` (${untrusted.join('; ')})` : ''}, expected the proof of the survivor's snapshot; look at the verify function's log for ${id}, or restore a backup instead, without "from"; nothing was changed`,
      );
    }
    await run.pause(RECEIPT_LOOK_MILLISECONDS);
  }
}

/** Keeps what is there as a backup of class `pre-restore`. That none can be taken is often why one restores: a warning. */
export async function keepCurrentState(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  if (state.keptBackupId !== null) {
    return { done: true, ok: true };
  }
  if (state.survivor === null) {
    return warned(
      run,
      'no backup of the present state was taken, because no member serves; the data stays on the nodes',
    );
  }
  const answer = await invokeBackup(deps, preRestore(run, state.survivor));
  if (answer.kind === 'stored') {
    return { done: true, ok: true, change: { keptBackupId: answer.backupId } };
  }
  if (!answer.again || run.seconds >= BACKUP_PATIENCE_SECONDS) {
    return warned(
      run,
      `no backup of the present state was taken: ${answer.reason}; the data stays on the nodes as member.before-${state.restoreId}`,
    );
  }
  await deps.sleep(RETRY_MILLISECONDS);
  return { done: false };
}

/** The first backup on the new timeline. The next trigger of the schedule makes up for one that fails: a warning. */
export async function takeBackup(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const answer = await invokeBackup(deps, { reason: `after restore ${state.restoreId}` });
  if (answer.kind === 'stored') {
    return { done: true, ok: true, change: { plan: { ...state.plan, backupAfter: answer.backupId } } };
  }
  if (answer.again && run.seconds < BACKUP_PATIENCE_SECONDS) {
    await deps.sleep(RETRY_MILLISECONDS);
    return { done: false };
  }
  return warned(
    run,
    `no backup was taken after the restore: ${answer.reason}; the next trigger of the schedule takes one`,
  );
}

function warned({ state }: Run, warning: string): PhaseResult {
  const warnings = [...state.warnings, warning];
  return {
    done: true,
    ok: true,
    change: { warnings, ...(state.plan?.['result'] === 'Restored' ? { plan: { ...state.plan, warnings } } : {}) },
  };
}

/** The same event in every call, so that all of them are one backup. */
function preRestore({ state }: Run, { instanceId }: { readonly instanceId: string }): Record<string, unknown> {
  return { preRestore: { restoreId: state.restoreId, instanceId, backupId: keptId(state.restoreId) } };
}

/** The id of the backup before a restore: a second later, or two, because the schedule's ids are whole minutes. */
export function keptId(restoreId: string): string {
  const next = backupIdBefore(restoreId, -1);
  return next.endsWith('00Z') ? backupIdBefore(restoreId, -2) : next;
}
