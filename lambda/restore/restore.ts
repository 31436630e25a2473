import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { check, text } from '../shared/check';
import { EventError, TimeLeftError } from '../shared/errors';
import type { RestoreState } from '../shared/restore-state';
import { checkCluster, checkEtcd, checkRolledBack } from './check-phases';
import { cleanUp } from './clean-up';
import { withCaughtError, withFailure } from './failure';
import { gatherEvidence } from './gather-evidence';
import { type Interrupted, isStatusChange, recordInterruption } from './interrupted';
import { keepCurrentState, keepSurvivor, takeBackup } from './keep-state';
import { preflight } from './preflight';
import { recordRestore } from './record';
import { rollBack } from './roll-back';
import { type Invocation, type Phase, type PhaseResult, PHASES, type RestoreDeps, Run } from './run';
import { startApiServer, startControllers, startEtcd } from './start';
import { stopControlPlane } from './stop';
import { swapData } from './swap';

const WORK: Readonly<Record<Phase, (run: Run) => Promise<PhaseResult>>> = {
  KeepSurvivor: keepSurvivor,
  Preflight: preflight,
  KeepCurrentState: keepCurrentState,
  StopControlPlane: stopControlPlane,
  SwapData: swapData,
  StartEtcd: startEtcd,
  CheckEtcd: checkEtcd,
  StartApiServer: startApiServer,
  StartControllers: startControllers,
  CheckCluster: checkCluster,
  RecordRestore: recordRestore,
  TakeBackup: takeBackup,
  RollBack: rollBack,
  CheckRolledBack: checkRolledBack,
  CleanUp: cleanUp,
  GatherEvidence: gatherEvidence,
  GatherRollbackEvidence: gatherEvidence,
};

// What the plan function made and this one returned is not from outside; only that it is a state at all is looked at.
const eventSchema = z.object(
  {
    phase: z.enum(PHASES, `one of ${PHASES.join(', ')}`),
    state: z.looseObject(
      {
        restoreId: text(BACKUP_ID_PATTERN, 'the id of a restore'),
        mode: z.enum(['restore', 'rollback'], "'restore' or 'rollback'"),
        nodes: z
          .array(z.unknown(), "the list of the control plane's nodes")
          .check(z.minLength(1, "the list of the control plane's nodes")),
        step: z.looseObject({ name: z.string('the name of a state') }, 'how far the machine is'),
      },
      'the state of an execution after Inspect',
    ),
  },
  'an object with phase and state',
);

/**
 * One call for one state of the machine: answers the state with how far it is in `step`, or keeps a record of an execution that was
 * stopped from outside. What fails on a node is in `failure`, never thrown.
 *
 * @throws EventError when the event is neither; errors of AWS's services that are no node's fault
 */
export async function restore(
  deps: RestoreDeps,
  event: unknown,
  invocation: Invocation,
): Promise<RestoreState | Interrupted> {
  try {
    if (isStatusChange(event)) {
      return await recordInterruption(deps, event);
    }
    const { phase, state } = readEvent(event);
    return await work(new Run(deps, phase, withCaughtError(state, phase), invocation));
  } finally {
    deps.telemetry.publish();
  }
}

function readEvent(event: unknown): { readonly phase: Phase; readonly state: RestoreState } {
  const checked = check(eventSchema, event);
  if (!checked.ok) {
    throw new EventError(
      checked.problems,
      'this function is called by the restore state machine: start an execution of that, {} shows the plan',
    );
  }
  return { phase: checked.value.phase, state: checked.value.state as unknown as RestoreState };
}

async function work(run: Run): Promise<RestoreState> {
  const { deps, phase, state } = run;
  const result = await resultOf(run);
  const changed = { ...state, ...result.change };
  if (!result.done) {
    return { ...changed, step: { name: phase, done: false, ok: false, startedAt: run.startedAt.toISOString() } };
  }
  const { seconds } = run;
  const answer: RestoreState = {
    ...changed,
    step: { name: phase, done: true, ok: result.ok },
    seconds: { ...changed.seconds, [phase]: seconds },
  };
  const name = `${phase.charAt(0).toLowerCase()}${phase.slice(1)}`;
  const fields = {
    restoreId: state.restoreId,
    mode: state.mode,
    nodes: state.nodes.map(({ instanceId }) => instanceId),
  };
  if (result.ok) {
    deps.telemetry.phaseDone(name, seconds, { ...fields, warnings: changed.warnings });
    return answer;
  }
  deps.telemetry.phaseFailed(name, seconds, { ...fields, error: `${result.error}: ${result.cause}` });
  return withFailure(answer, result);
}

/** One call that waits long enough is no failure: the machine calls again. */
async function resultOf(run: Run): Promise<PhaseResult> {
  try {
    return await WORK[run.phase](run);
  } catch (error) {
    if (error instanceof TimeLeftError) {
      return { done: false };
    }
    throw error;
  }
}
