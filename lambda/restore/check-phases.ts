import { checkMembers } from './check';
import { ROLLBACK_FAILED } from './failure';
import { type NodeResults, resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { type AllOutcomes, failedOf, nodesFailed, runOnAll, valuesOf } from './run-on-all';
import { strangersOf } from './strangers';

const PATIENCE_SECONDS = 300;
const ROLLBACK_PATIENCE_SECONDS = 1800;
/** How long a node's script waits for what it looks for. */
const WAIT_SECONDS = 300;

/** Of components that have none: every parameter has to be there. */
export const NO_REVISION = '0';

/** Whether the members are the one restored cluster, before any client reads it. */
export async function checkEtcd(run: Run): Promise<PhaseResult> {
  const { state } = run;
  const revision = (state.snapshot?.revision ?? 0) + state.bump;
  const all = await check(run, 'etcd', String(revision), resultOf('etcd', state.restoreId));
  if (!all.done) {
    return { done: false };
  }
  const members = valuesOf(all.outcomes);
  if (members === undefined) {
    return { done: true, ok: false, ...nodesFailed(run, failedOf(all.outcomes)) };
  }
  const problems = checkMembers(
    { revision, nodes: state.nodes, clusterIdsBefore: state.clusterIdsBefore ?? [] },
    members,
  );
  if (problems.length > 0) {
    return { done: true, ok: false, error: 'CheckEtcdFailed', cause: problems.join('; ').slice(0, 3000) };
  }
  const strangers = await strangersOf(run);
  if (strangers !== undefined) {
    return { done: true, ok: false, error: 'CheckEtcdFailed', cause: strangers };
  }
  const clusterId = members[0]?.value.member.clusterId ?? '';
  // Before the first API server is started, not after: a call that dies in between leaves the machine with the state from here.
  return { done: true, ok: true, change: { served: true, clusterId } };
}

/** Whether the whole control plane runs and is ready. */
export async function checkCluster(run: Run): Promise<PhaseResult> {
  const { state } = run;
  const all = await check(run, 'cluster', NO_REVISION, resultOf('cluster', state.restoreId));
  if (!all.done) {
    return { done: false };
  }
  const nodes = valuesOf(all.outcomes);
  if (nodes === undefined) {
    return { done: true, ok: false, ...nodesFailed(run, failedOf(all.outcomes)) };
  }
  return { done: true, ok: true, change: { warnings: [...state.warnings, ...staleLeases(nodes)] } };
}

/** API servers announce themselves under /registry/masterleases; more of them than nodes are of nodes that are gone. */
export function staleLeases(
  nodes: readonly { readonly value: Pick<NodeResults['cluster'], 'masterleases'> }[],
): string[] {
  const leases = [...new Set(nodes.flatMap(({ value }) => value.masterleases))].sort();
  return leases.length <= nodes.length
    ? []
    : [
        `masterleases: got ${leases.join(', ')}, expected ${String(nodes.length)}, one for each API server; those of nodes that are gone expire within a minute: if they do not, clients of the Service 'kubernetes' are sent to nothing`,
      ];
}

/** Whether what was healthy before the restore is healthy again. */
export async function checkRolledBack(run: Run): Promise<PhaseResult> {
  const { state, journalId } = run;
  // Nothing was rolled back, and the journals that say what was healthy before are gone.
  if (run.finishesForward) {
    return { done: true, ok: true };
  }
  const all = await check(run, 'before', NO_REVISION, resultOf('before', journalId), ROLLBACK_PATIENCE_SECONDS);
  if (!all.done) {
    return { done: false };
  }
  const failed = failedOf(all.outcomes);
  if (failed.length > 0) {
    const { cause } = nodesFailed(run, failed);
    return {
      done: true,
      ok: false,
      error: ROLLBACK_FAILED,
      cause: `the old data is back on all nodes, and not all of it is healthy again: ${cause}; what is left to do there: correct what the message says, and start the kubelet and the static pods of that node; then send {"rollback":"${journalId}"}, which removes the journals: until then no backup runs on these nodes`,
    };
  }
  const undone = `restore ${journalId} was undone: the old data, manifests and components are back on all ${String(state.nodes.length)} nodes, and what was healthy before is healthy again`;
  const { failure } = state;
  return {
    done: true,
    ok: true,
    change:
      failure === null
        ? { plan: { result: 'RolledBack', restoreId: journalId, text: undone, warnings: state.warnings } }
        : { failure: { error: failure.error, cause: `${failure.cause}; ${undone}` } },
  };
}

function check<T>(
  run: Run,
  component: 'etcd' | 'cluster' | 'before',
  revision: string,
  read: (stdout: string) => T,
  patienceSeconds = PATIENCE_SECONDS,
): Promise<AllOutcomes<T>> {
  const { state, deps, phase, journalId } = run;
  return runOnAll(run, {
    document: deps.documents.check,
    comment: `${state.restoreId} ${phase}`,
    parameters: () =>
      Promise.resolve({
        RestoreId: journalId,
        Component: component,
        WaitSeconds: String(WAIT_SECONDS),
        Revision: revision,
      }),
    read,
    patienceSeconds,
  });
}
