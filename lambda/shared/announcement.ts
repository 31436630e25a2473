import type { KMSClient } from '@aws-sdk/client-kms';
import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from './backup-id';
import { check, printable, text, wholeNumber } from './check';
import { AnnouncementError } from './errors';
import { isSigned, SIGNATURE_PATTERN } from './signature';

const sha256 = text(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
const list = <Item extends z.core.$ZodType>(item: Item) => z.array(item, 'a list');
const seconds = z.number('a number of seconds');
const count = wholeNumber(0);
const failedCommand = z.object(
  {
    instanceId: printable(32),
    commandId: printable(64),
    /** The refusal's name; null when the node said none. */
    error: z.nullable(printable(64)),
  },
  'a command',
);

const knownTool = z.object({ version: printable(64), arch: printable(16), name: printable(16), sha256 }, 'a tool');

/** Why a backup was taken. */
export const trigger = z.discriminatedUnion(
  'kind',
  [
    z.object({ kind: z.literal('schedule'), scheduledTime: printable(64) }),
    z.object({ kind: z.literal('on-demand'), reason: z.nullable(z.string('text')), keepDays: z.nullable(count) }),
    /** Of what the restore `restoreId` is about to replace. */
    z.object({ kind: z.literal('pre-restore'), restoreId: text(BACKUP_ID_PATTERN, 'a restore id') }),
  ],
  'a trigger',
);

const announcementSchema = z.object(
  {
    /** Grows when a field changes its meaning or goes away; new fields do not count. */
    schema: z.literal(1, '1, the version that this function reads'),
    backupId: text(/^\d{8}T\d{6}Z$/, 'a backup id'),
    cluster: printable(64),
    trigger,
    bucket: printable(64),
    key: printable(256),
    compression: z.enum(['zstd', 'gzip'], "'zstd' or 'gzip'"),
    compressedBytes: count,
    compressedSha256: sha256,
    sizeBytes: count,
    sha256,
    hash: z.nullable(count),
    revision: z.nullable(count),
    totalKey: z.nullable(count),
    totalSizeBytes: z.nullable(count),
    instanceId: printable(32),
    commandId: printable(64),
    /** Commands for this backup before the one that gave the snapshot. */
    earlierCommands: list(failedCommand),
    /** Instance ids of the control plane: how to find it while EC2 cannot search by tags. Absent in announcements of older versions. */
    controlPlane: z.optional(list(printable(32))),
    etcdVersion: printable(64),
    clusterVersion: printable(64),
    kubernetesVersion: z.nullable(printable(64)),
    arch: z.enum(['amd64', 'arm64'], "'amd64' or 'arm64'"),
    memberId: printable(16),
    memberName: printable(253),
    clusterId: printable(16),
    leaderId: printable(16),
    isLeader: z.boolean('true or false'),
    members: list(
      z.object(
        {
          id: printable(16),
          name: printable(253),
          peerUrls: list(printable(500)),
          clientUrls: list(printable(500)),
          isLearner: z.boolean('true or false'),
        },
        'a member',
      ),
    ),
    raftTerm: count,
    raftIndex: printable(20),
    databaseBytes: count,
    databaseBytesInUse: z.nullable(count),
    liveRevision: count,
    flags: list(printable(4096)),
    dataDir: printable(4096),
    hostDataDir: printable(4096),
    identity: z.object(
      {
        etcdCaSha256: z.nullable(sha256),
        clusterCaSha256: z.nullable(sha256),
        saPubSha256: z.nullable(sha256),
        encryptionConfigSha256: z.nullable(sha256),
      },
      'fingerprints',
    ),
    certificates: list(z.object({ file: printable(4096), daysLeft: z.int('a whole number') }, 'a certificate')),
    alarms: list(printable(32)),
    leaderChanges: z.int('a whole number'),
    walFsyncP99Seconds: z.nullable(seconds),
    tools: list(
      z.object(
        {
          version: printable(64),
          arch: printable(16),
          name: printable(16),
          sha256,
          source: printable(16),
          official: z.boolean('true or false'),
        },
        'a tool',
      ),
    ),
    /** What of etcd, etcdctl and etcdutl is in the member's image, with its length in bytes. Absent in announcements of older versions. */
    imageTools: z.optional(list(z.object({ name: printable(16), sha256, bytes: count }, 'a tool'))),
    /** This backup's tools and those of the backups before it, newest first: what the next backup holds a node's tools against. */
    knownTools: list(knownTool),
    findings: list(printable(64)),
    durationSeconds: z.object({ inspect: seconds, save: seconds, prove: seconds, total: seconds }, 'seconds by phase'),
    peakBytesStaged: count,
  },
  'an announcement',
);

/** What a node announced before its upload; bytes, seconds and days as the names say, ids in hex. */
export type Announcement = z.output<typeof announcementSchema>;

/** A tool's name, version, architecture and SHA-256. */
export type KnownTool = z.output<typeof knownTool>;

/** A command that gave no snapshot. */
export type FailedCommand = z.output<typeof failedCommand>;

/** Why a backup was taken. */
export type Trigger = z.output<typeof trigger>;

/** The exact bytes that are stored and signed: keys in order, no blanks, so equal content has equal bytes. */
export function announcementBytes(announcement: Announcement): Buffer {
  return Buffer.from(canonicalJson(announcement));
}

/** The announcement in these bytes. Throws AnnouncementError when they are none of this version. */
export function readAnnouncement(key: string, bytes: Buffer): Announcement {
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new AnnouncementError(
      `${key}: got ${String(bytes.length)} bytes that are no JSON, expected an announcement`,
      error,
    );
  }
  const checked = check(announcementSchema, parsed);
  if (!checked.ok) {
    throw new AnnouncementError(
      `${key}: ${checked.problems.join('; ')}; it was written by another version of the function, deploy the newer of the two`,
    );
  }
  return checked.value;
}

/** Throws AnnouncementError unless `signature` (base64) is the key's over these bytes, SigningKeyError when KMS does not say. */
export async function verifyAnnouncement(
  kms: KMSClient,
  keyArn: string,
  announcement: { readonly key: string; readonly bytes: Buffer; readonly signature: string | undefined },
): Promise<void> {
  const { key, bytes, signature } = announcement;
  const next =
    'find out in CloudTrail who wrote it; if the announcement key was replaced, give the old one back as existingAnnouncementKeyArn';
  if (signature === undefined || !SIGNATURE_PATTERN.test(signature)) {
    throw new AnnouncementError(
      `signature of ${key}: got ${signature === undefined ? 'none' : `'${signature.slice(0, 100)}'`}, expected one in base64 in the metadata; ${next}`,
    );
  }
  if (!(await isSigned(kms, keyArn, { key, bytes, signature }))) {
    throw new AnnouncementError(
      `signature of ${key}: got one that ${keyArn} did not make, expected that key's; ${next}`,
    );
  }
}

/** JSON with the keys of every object in order and no blanks. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(canonicalJson).join(',')}]`;
  }
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`)
      .join(',')}}`;
  }
  return JSON.stringify(value);
}
