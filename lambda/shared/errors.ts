// Names are set by hand: bundling may rename classes, and Lambda's errorType, alarms and retries go by the name.

/** A missing or malformed environment variable. */
export class EnvironmentError extends Error {
  override readonly name = 'EnvironmentError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** The event is none that the function takes; `problems` lists everything that is wrong with it. */
export class EventError extends Error {
  override readonly name = 'EventError';

  constructor(
    readonly problems: readonly string[],
    next = `send {} or {"reason": …, "keepDays": …} for a backup now, {"scheduledTime": …, "scheduleArn": …} as the schedule does, or use 'npm run tools'`,
  ) {
    super(
      `the event has ${String(problems.length)} problem${problems.length === 1 ? '' : 's'}: ${problems.join('; ')}; ${next}`,
    );
  }
}

/** S3 answered otherwise than expected. */
export class StoreError extends Error {
  override readonly name = 'StoreError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** Tags or locks could not be written; `causes` has every one. What is proven stays proven. */
export class SettleError extends Error {
  override readonly name = 'SettleError';

  constructor(readonly causes: readonly unknown[]) {
    super(
      `tags and locks of ${String(causes.length)} versions: got ${causes.slice(0, 5).map(describeError).join('; ')}, expected success; correct that: the next run of the function writes what is left to do`,
      { cause: causes[0] },
    );
  }
}

/** An announcement in the bucket is not signed, wrongly signed, or not one that this version reads. */
export class AnnouncementError extends Error {
  override readonly name = 'AnnouncementError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** A signed announcement is of a version that this function does not read: nothing is known about its snapshot. */
export class AnnouncementVersionError extends Error {
  override readonly name = 'AnnouncementVersionError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** KMS did not sign, or did not say whether a signature is valid: nothing is known about the announcement. */
export class SigningKeyError extends Error {
  override readonly name = 'SigningKeyError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** The bucket holds backups of another cluster. */
export class SharedBucketError extends Error {
  override readonly name = 'SharedBucketError';
}

/** A receipt in the bucket is not signed, wrongly signed, or not one that this version reads. */
export class ReceiptError extends Error {
  override readonly name = 'ReceiptError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** Lambda did not let the function run that a drill runs etcd in: nothing is known about the backup. */
export class DrillRunError extends Error {
  override readonly name = 'DrillRunError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** The record of a drill is not one that this version reads. */
export class DrillRecordError extends Error {
  override readonly name = 'DrillRecordError';
}

/** A stored backup was not restored as its receipt says, or could not be drilled; `reason` is a word of docs/drill.md. */
export class DrillFailedError extends Error {
  override readonly name = 'DrillFailedError';

  constructor(
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

/** The function's own disk has no room, or failed: nothing is known about the snapshot. */
export class FunctionDiskError extends Error {
  override readonly name = 'FunctionDiskError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** The snapshot is not what it has to be; `reasons` lists everything that was found. */
export class VerificationFailedError extends Error {
  override readonly name = 'VerificationFailedError';

  constructor(
    readonly snapshot: string,
    readonly reasons: readonly string[],
  ) {
    super(
      `${snapshot} is not verified and was tagged 'failed', for ${String(reasons.length)} reason${reasons.length === 1 ? '' : 's'}: ${reasons.join('; ')}; it is kept until 7 days after it was stored; docs/receipts.md says what each reason means; when it is corrected, send {"backupId": …} to verify it again`,
    );
  }
}

/** There is no control-plane node that can be asked for a snapshot. */
export class NoNodeError extends Error {
  override readonly name = 'NoNodeError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** A node's result line is not what the contract says. */
export class NodeResultError extends Error {
  override readonly name = 'NodeResultError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** Every node was tried and failed; the message has each node's reason. */
export class AllNodesFailedError extends Error {
  override readonly name = 'AllNodesFailedError';

  constructor(readonly failures: readonly string[]) {
    super(
      `no node could back up etcd: ${failures.join('; ')}; expected one of them to succeed; correct what the messages say, the next trigger tries all of them again`,
    );
  }
}

/** A node refused for a reason that holds on every node. */
export class BackupRefusedError extends Error {
  override readonly name = 'BackupRefusedError';
}

/** An object with other bytes than the announced ones has the key of this backup. */
export class SnapshotConflictError extends Error {
  override readonly name = 'SnapshotConflictError';
}

/** The function's time is over; the asynchronous retry goes on from here. */
export class TimeLeftError extends Error {
  override readonly name = 'TimeLeftError';

  constructor(
    readonly phase: string,
    message: string,
  ) {
    super(message);
  }
}

/** A presigned URL would not bind what it has to bind, or would not pass the document's patterns. */
export class PresignError extends Error {
  override readonly name = 'PresignError';
}

/** SSM answered otherwise than expected. */
export class RunCommandError extends Error {
  override readonly name = 'RunCommandError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** A tool's SHA-256 is not on the committed list of official releases. */
export class ToolNotOfficialError extends Error {
  override readonly name = 'ToolNotOfficialError';
}

/** The input of a restore is none that the machine takes; `problems` lists everything that is wrong with it. */
export class RestoreRequestError extends Error {
  override readonly name = 'RestoreRequestError';

  constructor(
    readonly problems: readonly string[],
    next: string,
  ) {
    super(
      `the input has ${String(problems.length)} problem${problems.length === 1 ? '' : 's'}: ${problems.join('; ')}; nothing was read or changed on a node; ${next}`,
    );
  }
}

/** The restore was refused before anything was changed; `refusals` lists every reason. */
export class RestoreRefusedError extends Error {
  override readonly name = 'RestoreRefusedError';

  constructor(
    readonly refusals: readonly string[],
    next: string,
  ) {
    super(
      `refused for ${String(refusals.length)} reason${refusals.length === 1 ? '' : 's'}: ${refusals.join('; ')}; nothing was changed anywhere; ${next}`,
    );
  }
}

/** Step Functions answered otherwise than expected. */
export class StatesError extends Error {
  override readonly name = 'StatesError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** Tools of a node's image could not be put into the bucket; the backup itself is stored. */
export class ToolsNotKeptError extends Error {
  override readonly name = 'ToolsNotKeptError';
}

/** No node's PKI bundle could be stored; the message has each node's reason. */
export class PkiBundleFailedError extends Error {
  override readonly name = 'PkiBundleFailedError';

  constructor(readonly failures: readonly string[]) {
    super(
      `no node's PKI bundle could be stored: ${failures.join('; ')}; expected one of them to be; correct what the messages say, then invoke the function with {}; bundles of earlier days are kept`,
    );
  }
}

/** Something that audit looks at could not be determined; `problems` lists every one. What could be was measured all the same. */
export class AuditError extends Error {
  override readonly name = 'AuditError';

  constructor(readonly problems: readonly string[]) {
    super(
      `audit could not determine or do ${String(problems.length)} thing${problems.length === 1 ? '' : 's'}: ${problems.join('; ')}; all else was measured, and what is missing lets its alarm ring: correct that, the next run is in 5 minutes`,
    );
  }
}

/** EventBridge Scheduler answered otherwise than expected. */
export class ScheduleError extends Error {
  override readonly name = 'ScheduleError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** The verify function could not be started. */
export class VerifyNotAskedError extends Error {
  override readonly name = 'VerifyNotAskedError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** CloudTrail answered otherwise than expected. */
export class TrailError extends Error {
  override readonly name = 'TrailError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** A time lies further ahead than clocks differ: no age can be told. */
export class ClockError extends Error {
  override readonly name = 'ClockError';
}

/** Name and message of anything that was thrown, for use inside another message. */
export function describeError(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
