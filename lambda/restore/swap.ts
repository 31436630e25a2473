import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { failedOf, nodesFailed, runOnAll } from './run-on-all';

const PATIENCE_SECONDS = 300;

/** Renames the data to `member.before-<id>` and the staged one into its place, on all nodes. */
export async function swapData(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const swaps = await runOnAll(run, {
    document: deps.documents.swap,
    comment: `${state.restoreId} SwapData`,
    parameters: () => Promise.resolve({ RestoreId: state.restoreId }),
    read: resultOf('swap', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  if (!swaps.done) {
    return { done: false };
  }
  const failed = failedOf(swaps.outcomes);
  return failed.length > 0 ? { done: true, ok: false, ...nodesFailed(run, failed) } : { done: true, ok: true };
}
