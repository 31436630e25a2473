import { StoreError } from '../shared/errors';
import type { RestoreNode } from '../shared/restore-state';
import { type CleanUpOutcome, cleanNodes } from './clean-up';
import { type Failure, ROLLBACK_FAILED, withFailure } from './failure';
import { type NodeResults, resultOf } from './node-results';
import { heldBack, notRecorded, writeRecord } from './record';
import type { PhaseResult, Run } from './run';
import { failedOf, nameOf, nodesFailed, type NodeOutcome, runOnAll } from './run-on-all';

// A node that rebooted, or lost its network for a while, is back by then.
const PATIENCE_SECONDS = 1800;

/**
 * Puts back what was there, on all nodes. Once an API server has served the restored data that is no undo any more: then everything is
 * started on the restored data, and the failure says how to go back.
 */
export async function rollBack(run: Run): Promise<PhaseResult> {
  const { state, deps, journalId } = run;
  const forward = state.request.hold === null ? 'yes' : 'held';
  const all = await runOnAll(run, {
    document: deps.documents.rollback,
    comment: `${state.restoreId} RollBack`,
    parameters: () => Promise.resolve({ RestoreId: journalId, Served: state.served ? forward : 'no' }),
    read: resultOf('rollback', journalId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  if (!all.done) {
    return { done: false };
  }
  const failed = failedOf(all.outcomes);
  const stopped = leftStopped(nodesThat(all.outcomes, 'leftStopped'));
  if (failed.length > 0) {
    const { error, cause } = leftToDo(run, nodesFailed(run, failed));
    return { done: true, ok: false, error, cause: [cause, ...stopped].join('; ') };
  }
  const mixed = whyMixed(run, all.outcomes);
  if (mixed !== undefined) {
    return { done: true, ok: false, error: ROLLBACK_FAILED, cause: [mixed, ...stopped].join('; ') };
  }
  return state.served ? keepRestored(run, nodesThat(all.outcomes, 'held')) : { done: true, ok: true };
}

function nodesThat(
  outcomes: readonly NodeOutcome<NodeResults['rollback']>[],
  say: 'leftStopped' | 'held',
): readonly RestoreNode[] {
  return outcomes.flatMap((outcome) => (outcome.kind === 'ok' && outcome.value[say] === true ? outcome.node : []));
}

/** What is said of nodes that an undo has left without a kubelet, because they had no data before either; nothing of none. */
export function leftStopped(nodes: readonly RestoreNode[]): string[] {
  return nodes.map(
    (node) =>
      `${nameOf(node)} has no data: its kubelet is left stopped, because etcd would begin an empty cluster there, and kubelets delete the pods that its API server does not know; restore a backup, or run 'systemctl start kubelet' there when its data is back in its place`,
  );
}

/** Commands of an earlier call can have had another word on whether the data was served: no node may go another way than the others. */
function whyMixed(
  { state, journalId }: Run,
  outcomes: readonly NodeOutcome<NodeResults['rollback']>[],
): string | undefined {
  const other = outcomes.filter(
    (outcome) => outcome.kind === 'ok' && (state.served ? outcome.value.undone : outcome.value.finishedForward),
  );
  const [got, expected] = state.served
    ? ['put the old data back', 'the restored data to stay everywhere, because API servers had served it']
    : ['started everything on the restored data', 'the old data to be put back everywhere'];
  return other.length === 0
    ? undefined
    : `${other.map(({ node }) => nameOf(node)).join(', ')} ${got}, expected ${expected}; what is left to do: stop kubelet, kube-apiserver and etcd on these nodes, and bring all nodes to the same data by hand as docs/restore.md says: in the data directory member.before-${journalId} is the old data where member is the restored one, and .restore-${journalId}/member the restored one where member is the old data`;
}

/** What a person has to do on the nodes that could not be rolled back. */
function leftToDo({ state, deps, journalId }: Run, { cause }: Failure): Failure {
  return {
    error: ROLLBACK_FAILED,
    cause: state.served
      ? `${cause}; the data is the restored one on every node, what is left to do there: correct what the message says, then send {"rollback":"${journalId}"}, which starts what does not run; the other nodes run`
      : `${cause}; the other nodes are rolled back; what is left to do there: correct what the message says, then start an execution for ${deps.clusterName} with {"rollback":"${journalId}"}, or by hand as docs/restore.md says: member.before-${journalId} is the old data`,
  };
}

/** The nodes run on restored data that was read: it stays, is recorded, and no journal stands in the way of the next restore. */
async function keepRestored(run: Run, held: readonly RestoreNode[]): Promise<PhaseResult> {
  const { state, deps, journalId } = run;
  const outcome: CleanUpOutcome = state.request.hold === null ? 'restored' : 'held';
  const cleaned = await cleanNodes(run, outcome);
  if (!cleaned.done) {
    return { done: false };
  }
  const left = failedOf(cleaned.outcomes);
  if (run.finishesForward && left.length === 0) {
    return finishedForward(run, held);
  }
  const failure: Failure = {
    error: ROLLBACK_FAILED,
    cause: [
      'the old data was not put back, because API servers had served the restored data and clients have seen its revisions',
      startedBut(outcome === 'held' || held.length > 0),
      ...(held.length > 0 ? [heldBack(journalId, held)] : []),
      ...(left.length > 0 ? [nodesFailed(run, left).cause] : []),
      `to go back to what was there before, by its backup: {"confirm":"${deps.clusterName}","rollback":"${journalId}"}; where none could be taken, the old data is on the nodes as member.before-${journalId}, and docs/restore.md says how to use it`,
    ].join('; '),
  };
  try {
    await writeRecord(run, withFailure(state, failure));
  } catch (error) {
    if (!(error instanceof StoreError)) {
      throw error;
    }
    return { done: true, ok: false, ...failure, cause: `${failure.cause}; ${notRecorded(journalId, error)}` };
  }
  return { done: true, ok: false, ...failure };
}

function startedBut(held: boolean): string {
  return `every component${held ? ' but the held controllers' : ''} was started on the restored data`;
}

/** An undo was asked for, and what could be done in its place is done. */
async function finishedForward(run: Run, held: readonly RestoreNode[]): Promise<PhaseResult> {
  const { state, deps, journalId } = run;
  let { warnings } = state;
  try {
    await writeRecord(run, state);
  } catch (error) {
    if (!(error instanceof StoreError)) {
      throw error;
    }
    warnings = [...warnings, notRecorded(journalId, error)];
  }
  const plan = {
    result: 'FinishedForward',
    restoreId: journalId,
    text: `restore ${journalId} was not undone, because API servers had served its data and clients have seen its revisions; it was brought to its end instead: ${startedBut(held.length > 0)}, and no journal is left`,
    next: [
      ...(held.length > 0 ? [heldBack(journalId, held)] : []),
      `to go back to what was there before, by its backup: {"confirm":"${deps.clusterName}","rollback":"${journalId}"}`,
    ],
    warnings,
  };
  return { done: true, ok: true, change: { plan, warnings } };
}
