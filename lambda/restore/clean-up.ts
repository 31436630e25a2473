import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { type AllOutcomes, failedOf, nodesFailed, runOnAll } from './run-on-all';
import type { NodeResults } from './node-results';

const PATIENCE_SECONDS = 300;

/** What a restore leaves, by how it ended. Kept data stays in any case. */
export type CleanUpOutcome = 'failed' | 'restored' | 'held';

/** Removes what a failed restore staged, its key and its journal: the next one finds nothing in its way. */
export async function cleanUp(run: Run): Promise<PhaseResult> {
  // RollBack has done that, and not as after a failure.
  if (run.finishesForward) {
    return { done: true, ok: true };
  }
  const all = await cleanNodes(run, 'failed');
  if (!all.done) {
    return { done: false };
  }
  const failed = failedOf(all.outcomes);
  if (failed.length === 0) {
    return { done: true, ok: true };
  }
  const { error, cause } = nodesFailed(run, failed);
  return { done: true, ok: false, error, cause: `${cause}; ${leftBehind(run)}` };
}

/** What is in the way on a node that was not cleaned, and what removes it. */
export function leftBehind({ journalId }: Pick<Run, 'journalId'>): string {
  return `what restore ${journalId} staged, or its journal, is still there, and no backup runs on that node until it is gone: send {"rollback":"${journalId}"} when the node answers again`;
}

/** Runs the cleanup on all nodes. */
export function cleanNodes(run: Run, outcome: CleanUpOutcome): Promise<AllOutcomes<NodeResults['cleanup']>> {
  const { state, deps, phase, journalId } = run;
  return runOnAll(run, {
    document: deps.documents.cleanup,
    comment: `${state.restoreId} ${phase}`,
    parameters: () => Promise.resolve({ RestoreId: journalId, Outcome: outcome }),
    read: resultOf('cleanup', journalId),
    patienceSeconds: PATIENCE_SECONDS,
  });
}
