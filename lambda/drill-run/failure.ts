import type { RunFailure, ToolName } from './order';

/** What the answer may say of a failure: a word and numbers. */
export interface FailureFacts {
  readonly tool?: ToolName;
  /** Exit code, or HTTP status. */
  readonly code?: number | undefined;
  readonly freeBytes?: number;
}

/** A drill that cannot go on. The message is for the function's own log, and holds no key or value of etcd. */
export class RunError extends Error {
  override readonly name = 'RunError';

  constructor(
    readonly reason: RunFailure,
    message: string,
    readonly facts: FailureFacts = {},
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** What the disk did wrong, as a RunError; undefined when it was something else. */
export function asFullDisk(error: unknown): RunError | undefined {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new RunError(
        'disk-full',
        `disk of the function: got ${code}, expected room as there was at the beginning`,
        {},
        error,
      )
    : undefined;
}

/** The code of Node's own errors, such as ENOENT; '' for every other one. */
export function errorCode(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}
