import { canonicalJson } from '../shared/announcement';
import { StoreError } from '../shared/errors';
import type { RestoreState } from '../shared/restore-state';
import { putNew } from '../shared/store';
import { MetricUnit } from '../shared/telemetry';
import { type Failure, ROLLBACK_FAILED } from './failure';
import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { nameOf, runOnAll } from './run-on-all';

// The restore has failed already; who looks at it waits for this.
const PATIENCE_SECONDS = 60;

/** Writes what one needs to ask for help into `restores/<id>/evidence.json`, per node and without secrets. */
export async function gatherEvidence(run: Run): Promise<PhaseResult> {
  const { state, deps, journalId, phase } = run;
  const all = await runOnAll(run, {
    document: deps.documents.diagnose,
    comment: `${state.restoreId} ${phase}`,
    parameters: () => Promise.resolve({ RestoreId: journalId }),
    read: resultOf('evidence', journalId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  const failed = failureToShow(run);
  // Called once: a node that is not at its end by now is told as that.
  const nodes = Object.fromEntries(
    state.nodes.map((node) => {
      const outcome = all.outcomes.find((candidate) => candidate.node === node);
      const evidence =
        outcome?.kind === 'ok' ? outcome.value.evidence : { [outcome?.kind ?? 'waiting']: outcome?.reason ?? '' };
      return [nameOf(node), evidence];
    }),
  );
  const rollbackFailed = failed.error === ROLLBACK_FAILED;
  deps.telemetry.measure(rollbackFailed ? 'RollbacksFailed' : 'RestoresFailed', MetricUnit.Count, 1);
  const told = await store(run, { ...state, failure: failed }, { nodes, rollbackFailed });
  return { done: true, ok: true, change: { failure: { error: failed.error, cause: `${failed.cause}; ${told}` } } };
}

const UNKNOWN: Failure = {
  error: 'RestoreFailed',
  cause: 'got no failure from the states before, expected one; look at the history of the execution',
};

/** After a rollback that nobody could tell of, the first failure alone would read as if all had been put back. */
function failureToShow({ state, phase, journalId }: Run): Failure {
  const known = state.failure ?? UNKNOWN;
  return phase === 'GatherRollbackEvidence' && known.error !== ROLLBACK_FAILED
    ? {
        error: ROLLBACK_FAILED,
        cause: `the rollback did not come to its end, and nodes may be stopped: start an execution with {"rollback":"${journalId}"}; ${known.cause}`,
      }
    : known;
}

/** Where the evidence is, in words. */
async function store(
  { deps }: Run,
  state: RestoreState,
  { nodes, rollbackFailed }: { readonly nodes: Readonly<Record<string, unknown>>; readonly rollbackFailed: boolean },
): Promise<string> {
  const key = `restores/${state.restoreId}/evidence.json`;
  const evidence = {
    schema: 1,
    restoreId: state.restoreId,
    cluster: deps.clusterName,
    executionArn: state.executionArn,
    outcome: rollbackFailed ? 'rollback-failed' : 'failed',
    state,
    nodes,
    gatheredAt: deps.now().toISOString(),
  };
  try {
    await putNew(deps.store, { key, body: Buffer.from(canonicalJson(evidence)) });
    return `logs and status of each node: s3://${deps.store.bucket}/${key}`;
  } catch (error) {
    if (!(error instanceof StoreError)) {
      throw error;
    }
    // The restore's own failure must not be hidden behind this one.
    return `logs and status of the nodes could not be stored: ${error.message}`;
  }
}
