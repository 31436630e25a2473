import type { Announcement } from '../shared/announcement';
import { type Command, isUndelivered } from '../shared/run-document';

/** What the commands of the last hours say before a backup, or its retry, asks a node. */
export interface History {
  /** Commands of this backup that failed, oldest first. */
  readonly failed: readonly Command[];
  /** Snapshot commands of this backup that are not worth attaching to. */
  readonly judged: readonly string[];
  /** Instances that failed for this same backup, oldest failure first. */
  readonly failedBefore: readonly string[];
  /** Instances that failed when they were asked last, for whatever backup. */
  readonly failedLast: readonly string[];
}

/** Reads the history of a cluster. Commands oldest first. */
export function readHistory(known: {
  readonly backupId: string;
  readonly snapshots: readonly Command[];
  readonly uploads: readonly Command[];
  readonly instanceIds: readonly string[];
  readonly previous: Pick<Announcement, 'instanceId' | 'earlierCommands'> | undefined;
  /** Only what was requested before is history; what came since belongs to a run beside this one. */
  readonly startedAt: Date;
  readonly now: Date;
}): History {
  const { backupId, snapshots, uploads, previous, startedAt, now } = known;
  const isFailed = (command: Command) => command.status === 'failed' || isUndelivered(command, now);
  const ours = (command: Command) => command.comment === backupId && command.requestedAt < startedAt;
  const failed = snapshots.filter((command) => ours(command) && isFailed(command));
  // Whatever ends an upload removes what was staged: there is nothing left to attach to.
  const spent = snapshots.filter(
    (command) => ours(command) && uploadsOf(command, uploads.filter(ours)).at(-1)?.status === 'failed',
  );
  const all = [...snapshots, ...uploads].toSorted((a, b) => a.requestedAt.getTime() - b.requestedAt.getTime());
  const ended = all.filter((command) => command.status === 'succeeded' || isFailed(command));
  return {
    failed,
    judged: [...failed, ...spent].map(({ commandId }) => commandId),
    failedBefore: [
      ...new Set(ended.filter((command) => ours(command) && isFailed(command)).map(({ instanceId }) => instanceId)),
    ],
    failedLast: known.instanceIds.filter((id) => {
      const last = ended.findLast(({ instanceId }) => instanceId === id);
      // Where backups are days apart, SSM's last hours say nothing, and the last announcement does.
      return last === undefined
        ? previous?.instanceId !== id && previous?.earlierCommands.some(({ instanceId }) => instanceId === id) === true
        : isFailed(last);
    }),
  };
}

/** The uploads of what a snapshot command has staged. */
export function uploadsOf(snapshot: Command, uploads: readonly Command[]): Command[] {
  return uploads.filter(
    ({ comment, instanceId, requestedAt }) =>
      comment === snapshot.comment && instanceId === snapshot.instanceId && requestedAt >= snapshot.requestedAt,
  );
}
