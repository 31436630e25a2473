import type { RestoreState } from '../shared/restore-state';
import type { Phase } from './run';

/** An error's name and what it means, as the machine's Fail states show them. */
export interface Failure {
  readonly error: string;
  readonly cause: string;
}

// Step Functions takes 32,768 characters; the first failure and what came of undoing it have to be read by a person.
const MAX_CAUSE = 10_000;

/** Name of the failure that a person has to act on first. */
export const ROLLBACK_FAILED = 'RollbackFailed';

/** The state with one failure more. The first one's name stays and the others are told behind it, unless a rollback failed: that leads. */
export function withFailure(state: RestoreState, { error, cause }: Failure): RestoreState {
  const before = state.failure;
  if (before === null) {
    return { ...state, failure: { error, cause: cause.slice(0, MAX_CAUSE) } };
  }
  const both =
    error === ROLLBACK_FAILED
      ? { error, cause: `${cause}; the restore had failed with ${before.error}: ${before.cause}` }
      : { error: before.error, cause: `${before.cause}; then ${error}: ${cause}` };
  return { ...state, failure: { error: both.error, cause: both.cause.slice(0, MAX_CAUSE) } };
}

/** The state with what a Catch of the machine put into it as a failure; `phase` is the state that it went to. */
export function withCaughtError(state: RestoreState, phase: Phase): RestoreState {
  const { error: caught, ...rest } = state;
  if (caught === undefined) {
    return state;
  }
  const { name, done } = state.step;
  const place = done ? `the state after ${name}` : `the state ${name}`;
  const cause = `${place} ended in ${caught.Error}: ${messageOf(caught.Cause)}`;
  // Nobody knows how far the undo or the cleanup came, and nothing after this goes on with it.
  switch (phase) {
    case 'GatherRollbackEvidence':
      return withFailure(rest, { error: ROLLBACK_FAILED, cause: `${cause}; ${notEnded(state, 'the undo')}` });
    case 'GatherEvidence':
      return withFailure(rest, { error: caught.Error, cause: `${cause}; ${notEnded(state, 'the cleanup')}` });
    default:
      return withFailure(rest, { error: caught.Error, cause });
  }
}

function notEnded({ nodes, restoreId, rollbackId }: RestoreState, what: string): string {
  const id = rollbackId ?? restoreId;
  const names = nodes.map(({ instanceId, memberName }) => `${instanceId} (${memberName})`).join(', ');
  return `so ${what} of restore ${id} has not ended on ${names}, and no backup runs there until it has; what is left to do: send {"rollback":"${id}"}, which goes on where it was`;
}

/** Lambda's cause is JSON with the message and a stack trace. */
function messageOf(cause: string): string {
  try {
    const { errorMessage } = JSON.parse(cause) as { readonly errorMessage?: unknown };
    return typeof errorMessage === 'string' ? errorMessage : cause;
  } catch {
    return cause;
  }
}
