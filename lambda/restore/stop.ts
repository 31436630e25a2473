import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { failedOf, nodesFailed, runOnAll } from './run-on-all';
import { strangersOf } from './strangers';

const PATIENCE_SECONDS = 120;

/** Stops etcd, the API server and both controllers on all nodes. From here on every failure is rolled back. */
export async function stopControlPlane(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const strangers = state.stoppedAt === null ? await strangersOf(run) : undefined;
  if (strangers !== undefined) {
    return { done: true, ok: false, error: 'StopControlPlaneFailed', cause: `${strangers}; nothing was stopped` };
  }
  const stops = await runOnAll(run, {
    document: deps.documents.stop,
    comment: `${state.restoreId} StopControlPlane`,
    parameters: () => Promise.resolve({ RestoreId: state.restoreId, Hold: state.request.hold ?? 'none' }),
    read: resultOf('stop', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  // SSM's word, so that a call that died after sending changes nothing of it.
  const change = { stoppedAt: stops.firstSentAt?.toISOString() ?? state.stoppedAt };
  if (!stops.done) {
    return { done: false, change };
  }
  const failed = failedOf(stops.outcomes);
  return failed.length > 0
    ? { done: true, ok: false, ...nodesFailed(run, failed), change }
    : { done: true, ok: true, change };
}
