import type { KMSClient } from '@aws-sdk/client-kms';
import { type Announcement, readAnnouncement, verifyAnnouncement } from '../shared/announcement';
import { backupIdBefore, backupIdOf } from '../shared/backup-id';
import { AnnouncementError, SharedBucketError, StoreError } from '../shared/errors';
import { getObject, headObject, httpStatus, listKeys, listObjects, sha256Hex, type Store } from '../shared/store';

/** What finding the last backup needs. */
export interface PreviousBackupDeps {
  readonly clusterName: string;
  readonly store: Store;
  readonly kms: KMSClient;
  readonly announcementKeyArn: string;
  readonly now: () => Date;
}

/** What is known of the last backup. */
export interface PreviousBackup {
  readonly previous: Announcement | undefined;
  /** Why newer announcements than that were passed over. */
  readonly untrusted: readonly string[];
}

const DAY_SECONDS = 24 * 60 * 60;
// Most often the last backup is an hour old; announcements are kept for 35 days.
const LOOK_BACK_DAYS = [2, 35] as const;
const SNAPSHOT_KEY = /^snapshots\/(\d{8}T\d{6}Z)\.db\.(?:zst|gz)$/;

/**
 * The newest announcement of a stored snapshot that can be trusted, but not `backupId`'s and of no later time than now; none when there is
 * no such snapshot of the last 35 days. Not a pre-restore one: it is of what a restore replaced, and of whatever member still served.
 */
export async function findPreviousBackup(deps: PreviousBackupDeps, backupId: string): Promise<PreviousBackup> {
  const nowId = backupIdOf(deps.now());
  const untrusted = new Map<string, string>();
  for (const days of LOOK_BACK_DAYS) {
    const after = `snapshots/${backupIdBefore(backupId < nowId ? backupId : nowId, days * DAY_SECONDS)}`;
    const keys = (await listKeys(deps.store, 'snapshots/', after)).filter((key) => {
      const id = SNAPSHOT_KEY.exec(key)?.[1];
      return id !== undefined && id !== backupId && id <= nowId && !untrusted.has(key);
    });
    for (const key of keys.reverse()) {
      try {
        const previous = await readAnnouncementOf(deps, key);
        if (previous.trigger.kind !== 'pre-restore') {
          return { previous, untrusted: [...untrusted.values()] };
        }
      } catch (error) {
        // One bad announcement must not end all backups; that it was passed over is a finding of this one.
        if (!isUntrusted(error)) {
          throw error;
        }
        untrusted.set(key, error.message);
      }
    }
  }
  return { previous: undefined, untrusted: [...untrusted.values()] };
}

/** Throws AnnouncementError when there are announcements and none of them can be trusted. */
export function requireTrusted({ previous, untrusted }: PreviousBackup): void {
  if (previous === undefined && untrusted.length > 0) {
    throw new AnnouncementError(
      `announcements of the last ${String(LOOK_BACK_DAYS[1])} days: got ${String(untrusted.length)} and none that can be trusted, expected at least one, because without it nobody knows how many members the cluster has; the newest: ${String(untrusted[0])}; correct that, or deploy with a new bucket if the old one is not to be trusted any more`,
    );
  }
}

// A restore is done long before that, so its record is not missed although it bears the time of its start.
const LONGEST_RESTORE_DAYS = 7;
const RESTORE_KEY = /^restores\/\d{8}T\d{6}Z\.json$/;

/** Whether a restore was done since a backup: then the cluster may have fewer members, and did not lose them. */
export async function wasRestoredSince(store: Store, { backupId }: Pick<Announcement, 'backupId'>): Promise<boolean> {
  const after = `restores/${backupIdBefore(backupId, LONGEST_RESTORE_DAYS * DAY_SECONDS)}`;
  return (await listObjects(store, 'restores/', after)).some(
    ({ key, storedAt }) => RESTORE_KEY.test(key) && backupIdOf(storedAt) >= backupId,
  );
}

/** The verified announcement of a stored snapshot. Throws AnnouncementError, or SharedBucketError when it is another cluster's. */
export async function readAnnouncementOf(deps: PreviousBackupDeps, snapshotKey: string): Promise<Announcement> {
  const { store, kms, announcementKeyArn } = deps;
  const metadata = await headObject(store, snapshotKey);
  if (metadata?.['cluster'] !== undefined) {
    requireOwnCluster(deps, snapshotKey, metadata['cluster']);
  }
  const key = metadata?.['announcement'];
  if (key === undefined || !/^announcements\/\d{8}T\d{6}Z(\.\d)?\.json$/.test(key)) {
    throw new AnnouncementError(
      `metadata 'announcement' of ${snapshotKey}: got ${key === undefined ? 'none' : `'${key.slice(0, 100)}'`}, expected the key of its announcement; find out in CloudTrail who wrote the snapshot`,
    );
  }
  const object = await getObject(store, key);
  if (object === undefined) {
    throw new AnnouncementError(
      `${key}: got no object, expected the announcement that ${snapshotKey} names; look for a delete marker over it, and in CloudTrail for who put it there`,
    );
  }
  const sha256 = sha256Hex(object.bytes);
  if (sha256 !== metadata?.['announcement-sha256']) {
    throw new AnnouncementError(
      `${key}: got SHA-256 ${sha256}, expected ${metadata?.['announcement-sha256'] ?? 'none'} as the metadata of ${snapshotKey} says; find out in CloudTrail who wrote a second version`,
    );
  }
  await verifyAnnouncement(kms, announcementKeyArn, {
    key,
    bytes: object.bytes,
    signature: metadata['announcement-signature'],
  });
  const announcement = readAnnouncement(key, object.bytes);
  requireOwnCluster(deps, snapshotKey, announcement.cluster);
  return announcement;
}

/** Throws SharedBucketError unless a stored snapshot is this cluster's. */
export function requireOwnCluster(
  deps: { readonly clusterName: string; readonly store: Store },
  snapshotKey: string,
  cluster: string | undefined,
): void {
  if (cluster !== deps.clusterName) {
    throw new SharedBucketError(
      `cluster of s3://${deps.store.bucket}/${snapshotKey}: got ${cluster === undefined ? 'none' : `'${cluster.slice(0, 100)}'`}, expected '${deps.clusterName}'; the bucket is shared with another cluster, and each cluster needs its own: correct existingBucketName in the table of clusters`,
    );
  }
}

/** About this one announcement, in contrast to S3 or KMS not answering. */
function isUntrusted(error: unknown): error is Error {
  if (error instanceof AnnouncementError) {
    return true;
  }
  const status = error instanceof StoreError ? httpStatus(error.cause) : undefined;
  // 403: encrypted with a key that this function may not use, for instance. 429 is S3 asking for patience.
  return status !== undefined && status >= 400 && status < 500 && status !== 429;
}
