import { resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { type AllOutcomes, failedOf, nodesFailed, runOnAll } from './run-on-all';

const PATIENCE_SECONDS = 300;

/** Starts etcd. Whether it is well is for CheckEtcd to say. */
export async function startEtcd(run: Run): Promise<PhaseResult> {
  return endOf(run, await start(run, 'etcd'));
}

/** Starts the API servers; each node's script waits until its own is ready. Clients read the restored data from here on. */
export async function startApiServer(run: Run): Promise<PhaseResult> {
  const started = await start(run, 'api-server');
  const first = started.done
    ? started.outcomes.flatMap((outcome) => (outcome.kind === 'ok' ? outcome.seenAt.toISOString() : [])).toSorted()[0]
    : undefined;
  return { ...endOf(run, started), change: { servedAt: run.state.servedAt ?? first ?? null } };
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
    parameters: () => Promise.resolve({ RestoreId: state.restoreId, Component: component }),
    read: resultOf('start', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
}

function endOf<T>(run: Run, all: AllOutcomes<T>): PhaseResult {
  if (!all.done) {
    return { done: false };
  }
  const failed = failedOf(all.outcomes);
  return failed.length > 0 ? { done: true, ok: false, ...nodesFailed(run, failed) } : { done: true, ok: true };
}
