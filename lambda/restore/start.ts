import type { RestoreNode } from '../shared/restore-state';
import { NO_REVISION } from './check-phases';
import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { type AllOutcomes, failedOf, nodesFailed, runOnAll } from './run-on-all';

const PATIENCE_SECONDS = 300;
/** How long a node's script waits for its API server to be ready. */
const READY_SECONDS = 300;

/** Starts etcd, each member once those before it serve. Whether it is well is for CheckEtcd to say. */
export async function startEtcd(run: Run): Promise<PhaseResult> {
  return endOf(run, await start(run, 'etcd'));
}

/** Starts the API servers and waits until all are ready. Clients read the restored data from here on. */
export async function startApiServer(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const started = await start(run, 'api-server');
  if (!started.done || failedOf(started.outcomes).length > 0) {
    return endOf(run, started);
  }
  const ready = await runOnAll(run, {
    document: deps.documents.check,
    comment: `${state.restoreId} StartApiServer`,
    parameters: () =>
      Promise.resolve({
        RestoreId: state.restoreId,
        Component: 'api-server',
        WaitSeconds: String(READY_SECONDS),
        Revision: NO_REVISION,
      }),
    read: resultOf('apiServer', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  const first = ready.done
    ? ready.outcomes.flatMap((outcome) => (outcome.kind === 'ok' ? outcome.seenAt.toISOString() : [])).toSorted()[0]
    : undefined;
  return { ...endOf(run, ready), change: { servedAt: state.servedAt ?? first ?? null } };
}

/** Starts controller manager and scheduler, unless they are to be held back. */
export async function startControllers(run: Run): Promise<PhaseResult> {
  return run.state.request.hold === 'controllers'
    ? { done: true, ok: true }
    : endOf(run, await start(run, 'controllers'));
}

function start(run: Run, component: 'etcd' | 'api-server' | 'controllers') {
  const { state, deps, phase } = run;
  return runOnAll(run, {
    document: deps.documents.start,
    comment: `${state.restoreId} ${phase}`,
    parameters: (node) =>
      Promise.resolve({
        RestoreId: state.restoreId,
        Component: component,
        StartAfter: component === 'etcd' ? peersBefore(state.nodes, node).join(' ') : '',
      }),
    read: resultOf('start', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
}

/** A peer URL of each node that stands before this one. */
function peersBefore(nodes: readonly RestoreNode[], node: RestoreNode): string[] {
  const own = nodes.findIndex(({ instanceId }) => instanceId === node.instanceId);
  return nodes.slice(0, own).flatMap(({ peerUrls }) => peerUrls.split(',').slice(0, 1));
}

function endOf<T>(run: Run, all: AllOutcomes<T>): PhaseResult {
  if (!all.done) {
    return { done: false };
  }
  const failed = failedOf(all.outcomes);
  return failed.length > 0 ? { done: true, ok: false, ...nodesFailed(run, failed) } : { done: true, ok: true };
}
