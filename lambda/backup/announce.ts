import type { KMSClient } from '@aws-sdk/client-kms';
import {
  type Announcement,
  announcementBytes,
  type FailedCommand,
  type Trigger,
  verifyAnnouncement,
} from '../shared/announcement';
import { AnnouncementError } from '../shared/errors';
import type { SnapshotResult } from '../shared/node-result';
import type { OfficialTools } from '../shared/official-tools';
import type { Command } from '../shared/run-document';
import { sign } from '../shared/signature';
import { getObject, putNew, sha256Hex, type Store } from '../shared/store';
import { markOfficial, rememberTools } from './tool-parameters';

/** All that an announcement is made of. No clock: a retry must come to the same bytes. */
export interface AnnouncementInput {
  readonly result: SnapshotResult;
  readonly command: Pick<Command, 'instanceId' | 'commandId'>;
  /** Commands for the same backup that were tried before this one. */
  readonly earlierCommands: readonly FailedCommand[];
  readonly trigger: Trigger;
  readonly clusterName: string;
  readonly bucket: string;
  readonly previous: Announcement | undefined;
  readonly officialTools: OfficialTools;
  /** SHA-256 of tools that may be used although their hash changed. */
  readonly acknowledgedTools: readonly string[];
  readonly controlPlane: readonly string[];
  /** Findings of the function, beside the node's. */
  readonly findings: readonly string[];
}

// Another node could be backed up, and still somebody has to look at this one.
const WORTH_A_FINDING: readonly string[] = ['fewer-members', 'corrupt', 'wrong-member', 'tool-changed'];

/** The key under which a backup's snapshot is stored. */
export function snapshotKey(backupId: string, compression: 'zstd' | 'gzip'): string {
  return `snapshots/${backupId}.db.${compression === 'zstd' ? 'zst' : 'gz'}`;
}

/** The announcement of a snapshot that a node has staged. */
export function makeAnnouncement(input: AnnouncementInput): Announcement {
  const { result, command, previous, officialTools } = input;
  const tools = markOfficial(result.tools, officialTools);
  return {
    schema: 1,
    backupId: result.backupId,
    cluster: input.clusterName,
    trigger: input.trigger,
    bucket: input.bucket,
    key: snapshotKey(result.backupId, result.compression),
    compression: result.compression,
    compressedBytes: result.compressedSize,
    compressedSha256: result.compressedSha256,
    sizeBytes: result.size,
    sha256: result.sha256,
    hash: result.hash,
    revision: result.revision,
    totalKey: result.totalKey,
    totalSizeBytes: result.totalSize,
    instanceId: command.instanceId,
    commandId: command.commandId,
    earlierCommands: [...input.earlierCommands],
    controlPlane: [...input.controlPlane],
    etcdVersion: result.etcdVersion,
    clusterVersion: result.clusterVersion,
    kubernetesVersion: result.kubernetesVersion,
    arch: result.arch,
    memberId: result.memberId,
    memberName: result.memberName,
    clusterId: result.clusterId,
    leaderId: result.leaderId,
    isLeader: result.isLeader,
    members: result.members,
    raftTerm: result.raftTerm,
    raftIndex: result.raftIndex,
    databaseBytes: result.dbSize,
    databaseBytesInUse: result.dbSizeInUse,
    liveRevision: result.liveRevision,
    flags: result.flags,
    dataDir: result.dataDir,
    hostDataDir: result.hostDataDir,
    identity: result.identity,
    certificates: result.certificates,
    alarms: result.alarms,
    leaderChanges: result.leaderChanges,
    walFsyncP99Seconds: result.walFsyncP99Seconds,
    tools,
    imageTools: result.imageTools,
    knownTools: rememberTools(result.tools, previous),
    findings: [
      ...new Set([
        ...result.findings,
        ...input.findings,
        ...input.earlierCommands.flatMap(({ error }) =>
          error !== null && WORTH_A_FINDING.includes(error) ? error : [],
        ),
        ...(tools.every(({ official }) => official) ? [] : ['tool-unknown']),
        ...(tools.some(({ sha256 }) => input.acknowledgedTools.includes(sha256)) ? ['tool-acknowledged'] : []),
      ]),
    ].sort(),
    durationSeconds: result.seconds,
    peakBytesStaged: result.peakBytesStaged,
  };
}

/** An announcement that lies in the bucket. */
export interface PublishedAnnouncement {
  readonly announcement: Announcement;
  readonly key: string;
  readonly sha256: string;
  /** base64 */
  readonly signature: string;
  /** Whether this run wrote it, or another run of the same backup had. */
  readonly created: boolean;
}

const MAX_NUMBER = 9;

/**
 * Signs and stores an announcement as `announcements/<id>.json`, or under the next number when another node's snapshot was announced
 * for this backup before. Throws AnnouncementError after the ninth.
 */
export async function publishAnnouncement(
  deps: { readonly store: Store; readonly kms: KMSClient; readonly announcementKeyArn: string },
  announcement: Announcement,
): Promise<PublishedAnnouncement> {
  const { store, kms, announcementKeyArn } = deps;
  const bytes = announcementBytes(announcement);
  const sha256 = sha256Hex(bytes);
  const signature = await sign(kms, announcementKeyArn, bytes);
  for (let number = 1; number <= MAX_NUMBER; number++) {
    const key = `announcements/${announcement.backupId}${number === 1 ? '' : `.${String(number)}`}.json`;
    if ((await putNew(store, { key, body: bytes, metadata: { signature } })) === 'created') {
      return { announcement, key, sha256, signature, created: true };
    }
    const existing = await getObject(store, key);
    if (existing !== undefined && sha256Hex(existing.bytes) === sha256) {
      await verifyAnnouncement(kms, announcementKeyArn, { key, bytes, signature: existing.metadata['signature'] });
      return { announcement, key, sha256, signature: existing.metadata['signature'] ?? signature, created: false };
    }
  }
  throw new AnnouncementError(
    `announcements of ${announcement.backupId}: got ${String(MAX_NUMBER)} with other contents, expected at most one per node; find out what keeps announcing, the next trigger starts a new backup`,
  );
}

/** Metadata of the snapshot object: enough to hold it against its announcement. Under 2 KB, which is all that S3 takes. */
export function snapshotMetadata(published: PublishedAnnouncement): Record<string, string> {
  const { announcement } = published;
  const known = (value: number | null): string | undefined => (value === null ? undefined : String(value));
  const metadata: Record<string, string | undefined> = {
    'backup-id': announcement.backupId,
    sha256: announcement.compressedSha256,
    announcement: published.key,
    'announcement-sha256': published.sha256,
    'announcement-signature': published.signature,
    revision: known(announcement.revision),
    hash: known(announcement.hash),
    'total-key': known(announcement.totalKey),
    'snapshot-size': String(announcement.sizeBytes),
    'etcd-version': announcement.etcdVersion,
    cluster: announcement.cluster,
  };
  return Object.fromEntries(
    Object.entries(metadata).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
