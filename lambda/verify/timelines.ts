import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { listVersions, type Store } from '../shared/store';

/**
 * Where a new history of the cluster begins. `restore`: a restore of ours; the cluster is the same, its revisions are not. `acknowledged`: the
 * user says so; backups from then on are held only against each other.
 */
export interface TimelineStart {
  readonly id: string;
  readonly kind: 'restore' | 'acknowledged';
}

/** The timeline before any start. */
export const FIRST_TIMELINE = 'first';

const RESTORE_KEY = /^restores\/(.+)\.json$/;

/**
 * All timeline starts, oldest first: the records `restores/<id>.json` in the bucket, which only restores that were done have, and what the
 * configuration acknowledges. What else a restore writes lies below `restores/<id>/`.
 */
export async function findTimelineStarts(store: Store, acknowledged: readonly string[]): Promise<TimelineStart[]> {
  const { versions } = await listVersions(store, 'restores/');
  const restores = versions.flatMap(({ key }) => {
    const id = RESTORE_KEY.exec(key)?.[1];
    return id !== undefined && BACKUP_ID_PATTERN.test(id) ? id : [];
  });
  return [
    ...[...new Set(restores)].map((id) => ({ id, kind: 'restore' as const })),
    ...acknowledged.map((id) => ({ id, kind: 'acknowledged' as const })),
  ].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

/** Where in the cluster's history a backup stands: at its id; a pre-restore one right before its restore, although its id is later. */
export interface Place {
  readonly backupId: string;
  /** Of a pre-restore backup: the restore that it was taken before. */
  readonly restoreId?: string | undefined;
}

function isUpTo({ id }: TimelineStart, { backupId, restoreId }: Place): boolean {
  return restoreId === undefined ? id <= backupId : id < restoreId;
}

/** The timeline of a backup: the newest start that is not after it. */
export function timelineOf(backup: Place, starts: readonly TimelineStart[]): string {
  return starts.findLast((start) => isUpTo(start, backup))?.id ?? FIRST_TIMELINE;
}

/** What of two backups can be held against each other. */
export interface Comparable {
  readonly identity: boolean;
  /** Revisions, and the number of keys. */
  readonly revision: boolean;
}

/**
 * Whether a backup can be held against an earlier one, by the starts between them. A pre-restore one is of whatever member still served,
 * so neither its revision nor its keys are held against anything.
 */
export function comparable(earlierId: string, backup: Place, starts: readonly TimelineStart[]): Comparable {
  const between = starts.filter((start) => earlierId < start.id && isUpTo(start, backup));
  return {
    identity: between.every(({ kind }) => kind !== 'acknowledged'),
    revision: between.length === 0 && backup.restoreId === undefined,
  };
}
