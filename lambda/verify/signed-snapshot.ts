import type { KMSClient } from '@aws-sdk/client-kms';
import { type Announcement, readAnnouncement, verifyAnnouncement } from '../shared/announcement';
import { AnnouncementError, AnnouncementVersionError, describeError } from '../shared/errors';
import { getVersion, headVersion, listVersions, type ObjectVersion, sha256Hex, type Store } from '../shared/store';

/** What reading announcements needs. */
export interface SignedSnapshotDeps {
  readonly clusterName: string;
  readonly store: Store;
  readonly kms: KMSClient;
  readonly announcementKeyArn: string;
}

/** A version of a snapshot with the announcement that the backup function signed for it. */
export interface SignedSnapshot {
  readonly version: ObjectVersion;
  /** What S3 computed when it stored the version, in hex; undefined when there is none. */
  readonly storedSha256: string | undefined;
  readonly announcement: Announcement;
  readonly announcementKey: string;
  readonly announcementSha256: string;
}

const ANNOUNCEMENT_KEY = /^announcements\/\d{8}T\d{6}Z(\.\d)?\.json$/;
// What a node says fits SSM's 24,000 characters; the function adds pins and commands.
const MAX_ANNOUNCEMENT_BYTES = 1_000_000;

/**
 * The signed announcement of a version. Throws AnnouncementError when it has none that this function's announcement key signed for this very
 * object of this cluster; AnnouncementVersionError, StoreError or SigningKeyError when nothing can be said.
 */
export async function readSignedSnapshot(
  deps: SignedSnapshotDeps,
  backupId: string,
  version: ObjectVersion,
): Promise<SignedSnapshot> {
  const { store, kms, announcementKeyArn } = deps;
  const { metadata, sha256: storedSha256 } = await headVersion(store, version);
  const key = metadata['announcement'];
  if (key === undefined || !ANNOUNCEMENT_KEY.test(key)) {
    throw new AnnouncementError(
      `metadata 'announcement' of ${version.key}: got ${key === undefined ? 'none' : `'${key.slice(0, 100)}'`}, expected the key of its announcement; find out in CloudTrail who wrote this version`,
    );
  }
  const sha256 = metadata['announcement-sha256'];
  const bytes = await findBytes(store, key, sha256);
  if (bytes === undefined) {
    throw new AnnouncementError(
      `${key}: got no version with SHA-256 ${sha256?.slice(0, 64) ?? 'none'}, expected one as the metadata of ${version.key} says; find out in CloudTrail who wrote what`,
    );
  }
  await verifyAnnouncement(kms, announcementKeyArn, { key, bytes, signature: metadata['announcement-signature'] });
  const announcement = readSigned(key, bytes);
  for (const [what, got, expected] of [
    ['cluster', announcement.cluster, deps.clusterName],
    ['bucket', announcement.bucket, store.bucket],
    ['key', announcement.key, version.key],
    ['backupId', announcement.backupId, backupId],
  ] as const) {
    if (got !== expected) {
      throw new AnnouncementError(
        `${what} in ${key}: got '${got.slice(0, 100)}', expected '${expected}'; it was signed for another snapshot: find out in CloudTrail who wrote this version`,
      );
    }
  }
  return {
    version,
    storedSha256,
    announcement,
    announcementKey: key,
    announcementSha256: sha256Hex(bytes),
  };
}

/** What is signed and still not understood is of another version of this project, and says nothing against the snapshot. */
function readSigned(key: string, bytes: Buffer): Announcement {
  try {
    return readAnnouncement(key, bytes);
  } catch (error) {
    throw new AnnouncementVersionError(
      `${key}: got a signed announcement that this version of the function cannot read (${describeError(error)}), expected schema 1; deploy the newest version, and verify the backup again`,
      error,
    );
  }
}

/** Of all versions of the announcement the one with this hash: what was put over it later hides nothing. */
async function findBytes(store: Store, key: string, sha256: string | undefined): Promise<Buffer | undefined> {
  const { versions } = await listVersions(store, key);
  for (const version of versions) {
    if (version.key === key && version.bytes <= MAX_ANNOUNCEMENT_BYTES) {
      const { bytes } = await getVersion(store, version, MAX_ANNOUNCEMENT_BYTES);
      if (sha256Hex(bytes) === sha256) {
        return bytes;
      }
    }
  }
  return undefined;
}
