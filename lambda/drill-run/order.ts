import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { text, wholeNumber } from '../shared/check';

// What drill tells drill-run, and what drill-run may answer. The answer comes from where binaries of nodes ran: nothing in it is free text.

/** The most disk that a function has: 10,240 MB (AWS Lambda quotas). */
export const DISK_BYTES = 10_240 * 1024 * 1024;

const sha256 = text(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
const url = text(/^https?:\/\/[ -~]{1,8000}$/, 'a URL');
const size = wholeNumber(1, DISK_BYTES);
const object = <Shape extends z.core.$ZodShape>(shape: Shape) => z.strictObject(shape, 'an object');

/** Names of the binaries that a drill may need. */
export const TOOL_NAMES = ['etcd', 'etcdctl', 'etcdutl'] as const;

export type ToolName = (typeof TOOL_NAMES)[number];

const tool = object({ name: z.enum(TOOL_NAMES, "'etcd', 'etcdctl' or 'etcdutl'"), url, bytes: size, sha256 });

export const orderSchema = object({
  drillId: text(BACKUP_ID_PATTERN, 'the id of a drill'),
  /** Of the nodes, as etcd's releases name it. */
  arch: z.enum(['amd64', 'arm64'], "'amd64' or 'arm64'"),
  /** Presigned GETs, each of one version. Sizes in bytes. */
  tools: z
    .array(tool, 'a list of 2 or 3 tools')
    .check(z.minLength(2, 'a list of 2 or 3 tools'), z.maxLength(3, 'a list of 2 or 3 tools')),
  snapshot: object({
    url,
    compression: z.enum(['zstd', 'gzip'], "'zstd' or 'gzip'"),
    compressedBytes: size,
    compressedSha256: sha256,
    sizeBytes: size,
    sha256,
    revision: wholeNumber(0),
  }),
  /** Added to the snapshot's revision, as a restore does. */
  bump: wholeNumber(0),
  /** How many keys are read at a time: what that many of the largest hold has to fit the memory. */
  keysPerPage: wholeNumber(1, 100_000),
});

/** What drill-run is told. It does not learn what is expected of the keys; it could compute it all the same, for it has the snapshot. */
export type Order = z.output<typeof orderSchema>;

export type OrderedTool = Order['tools'][number];

/** Why a drill did not come to its end, as drill-run says it. */
export const RUN_FAILURES = [
  /** Disk: before anything is downloaded, or while it is written. */
  'too-large',
  'disk-full',
  'other-architecture',
  'tool-download',
  'tool-changed',
  'snapshot-download',
  'snapshot-damaged',
  'restore-failed',
  'boot-failed',
  'read-failed',
  'out-of-time',
] as const;

export type RunFailure = (typeof RUN_FAILURES)[number];

/** Of a phase or of the whole: no more than a function can run. */
const seconds = z
  .number('a number of seconds from 0 to 900')
  .check(z.gte(0, 'a number of seconds from 0 to 900'), z.lte(900, 'a number of seconds from 0 to 900'));
const bytes = wholeNumber(0, 64 * 1024 * 1024 * 1024);
const uint32 = wholeNumber(0, 2 ** 32 - 1);
const drillId = text(BACKUP_ID_PATTERN, 'the id of a drill');

const proven = object({
  ok: z.literal(true, 'true'),
  drillId,
  seconds: object({ download: seconds, restore: seconds, boot: seconds, read: seconds, total: seconds }),
  /** As `snapshot status` says it of the restored database. */
  restoredRevision: wholeNumber(0),
  /** As the restored etcd said it when it first answered. */
  servedRevision: wholeNumber(0),
  /** Read back by etcdctl at the restored revision. */
  keys: wholeNumber(0),
  /** Of keys and values. */
  bytes: wholeNumber(0),
  /** Over what was read, as `liveHash` of a snapshot. */
  hash: uint32,
  alarms: wholeNumber(0, 1000),
  /** The most that etcd had resident. */
  memoryBytes: bytes,
  /** The most that lay on the disk. */
  diskBytes: bytes,
});

const failed = object({
  ok: z.literal(false, 'false'),
  drillId,
  reason: z.enum(RUN_FAILURES, 'a reason that docs/drill.md has'),
  /** The binary that it is about. */
  tool: z.nullable(z.enum(TOOL_NAMES, "'etcd', 'etcdctl' or 'etcdutl'")),
  /** Exit code of a binary, or status of an HTTP answer; null where there was none. */
  code: z.nullable(wholeNumber(0, 999)),
  /** Free on the disk when it was too little; null otherwise. */
  freeBytes: z.nullable(bytes),
  seconds: object({
    download: z.optional(seconds),
    restore: z.optional(seconds),
    boot: z.optional(seconds),
    read: z.optional(seconds),
    total: seconds,
  }),
});

export const answerSchema = z.union([proven, failed], 'an answer of drill-run');

/** What drill-run answers. */
export type Answer = z.output<typeof answerSchema>;

export type ProvenAnswer = z.output<typeof proven>;

export type FailedAnswer = z.output<typeof failed>;
