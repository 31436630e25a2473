import { hostsOf } from '../plan/members';
import type { RestoreRequest } from '../shared/restore-state';
import { checkMembers } from './check';
import { ROLLBACK_FAILED } from './failure';
import { type NodeResults, resultOf } from './node-results';
import { leftStopped } from './roll-back';
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
  return {
    done: true,
    ok: true,
    change: { warnings: [...state.warnings, ...missingComponents(nodes, state.request.hold), ...staleLeases(nodes)] },
  };
}

/** Components that run nowhere. What has a manifest runs: the nodes have waited for that. */
export function missingComponents(
  nodes: readonly { readonly value: Pick<NodeResults['cluster'], 'running'> }[],
  hold: RestoreRequest['hold'],
): string[] {
  const running = new Set(nodes.flatMap(({ value }) => value.running));
  return ['kube-apiserver', ...(hold === 'controllers' ? [] : ['kube-controller-manager', 'kube-scheduler'])]
    .filter((component) => !running.has(component))
    .map(
      (component) =>
        `${component} runs on no node, as no node has its manifest among the static pods, expected it on at least one; look whether it is in one of /etc/kubernetes/manifests.before-*, and move it to /etc/kubernetes/manifests`,
    );
}

/** API servers announce themselves under /registry/masterleases; what is not of the nodes' own, and does not end, is warned of by its address. */
export function staleLeases(
  nodes: readonly { readonly value: Pick<NodeResults['cluster'], 'advertised' | 'masterleases'> }[],
): string[] {
  const own = new Set(nodes.flatMap(({ value }) => value.advertised.map(canonical)));
  const leases = new Set(nodes.flatMap(({ value }) => value.masterleases.map(canonical)));
  const stale = [...leases].filter((address) => !own.has(address)).sort();
  return stale.length === 0
    ? []
    : [
        `masterleases: got ${stale.join(', ')} beside the restored nodes' API servers (${[...own].sort().join(', ')}), expected those of nodes that are gone to end within 30 s; clients of the Service 'kubernetes' are sent there, too: look again with 'etcdctl get --prefix --keys-only /registry/masterleases/', and what is still there after a minute is announced by an API server at that address: stop it`,
      ];
}

/** An IPv6 address may be written in many ways. */
function canonical(address: string): string {
  return hostsOf([`https://${address.includes(':') ? `[${address}]` : address}`])[0] ?? address;
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
  // A node says so to whoever asks it, also when the undo was another execution's.
  const stopped = leftStopped(
    all.outcomes.flatMap((outcome) =>
      outcome.kind === 'ok' && outcome.value.leftStopped === true ? outcome.node : [],
    ),
  );
  if (failed.length > 0) {
    const { cause } = nodesFailed(run, failed);
    return {
      done: true,
      ok: false,
      error: ROLLBACK_FAILED,
      cause: `the old data is back on all nodes, and not all of it is healthy again: ${cause}; what is left to do there: correct what the message says, and start the kubelet and the static pods of that node; then send {"rollback":"${journalId}"}, which removes the journals: until then no backup runs on these nodes${stopped.map((text) => `; ${text}`).join('')}`,
    };
  }
  const undone = [
    stopped.length === 0
      ? `restore ${journalId} was undone: the old data, manifests and components are back on all ${String(state.nodes.length)} nodes, and what was healthy before is healthy again`
      : `restore ${journalId} was undone: the manifests are back on all ${String(state.nodes.length)} nodes, the old data and the components on those that had data, and what was healthy before on these is healthy again`,
    ...stopped,
  ].join('; ');
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
