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

/** All timeline starts, oldest first: the restore records in the bucket and what the configuration acknowledges. */
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

/** The timeline of a backup: the newest start that is not after it. */
export function timelineOf(backupId: string, starts: readonly TimelineStart[]): string {
  return starts.findLast(({ id }) => id <= backupId)?.id ?? FIRST_TIMELINE;
}

/** What of two backups can be held against each other. */
export interface Comparable {
  readonly identity: boolean;
  /** Revisions, and the number of keys. */
  readonly revision: boolean;
}

/** Whether a backup can be held against an earlier one, by the starts between them. */
export function comparable(earlierId: string, backupId: string, starts: readonly TimelineStart[]): Comparable {
  const between = starts.filter(({ id }) => earlierId < id && id <= backupId);
  return {
    identity: between.every(({ kind }) => kind !== 'acknowledged'),
    revision: between.length === 0,
  };
}
