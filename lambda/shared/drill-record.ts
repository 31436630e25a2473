import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from './backup-id';
import { check, text, wholeNumber } from './check';
import { DrillRecordError } from './errors';

const sha256 = text(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
const backupId = text(BACKUP_ID_PATTERN, 'a backup id');
const words = z.string('text');
const count = wholeNumber(0);
const seconds = z.number('a number of seconds').check(z.gte(0, 'a number of seconds from 0 on'));
const time = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'a time in UTC with milliseconds');
/** Why a binary may run where it has a backup in its hands: docs/drill.md. */
export type ToolTrust = 'official' | 'acknowledged' | 'image';

const trust = z.enum(['official', 'acknowledged', 'image'], "'official', 'acknowledged' or 'image'");
const object = <Shape extends z.core.$ZodShape>(shape: Shape) => z.object(shape, 'an object');

const recordSchema = object({
  /** Grows when a field changes its meaning or goes away; new fields do not count. */
  schema: z.literal(1, '1, the version that this function reads'),
  /** The schedule's time, or the second in which it was asked for by hand. */
  drillId: backupId,
  cluster: words,
  backupId,
  versionId: words,
  outcome: z.enum(['proven', 'failed', 'not-possible'], "'proven', 'failed' or 'not-possible'"),
  /** A word of docs/drill.md such as `snapshot-damaged`; null when proven. */
  reason: z.nullable(text(/^[a-z0-9-]{1,64}$/, 'a word in kebab-case')),
  /** The same for people, with what to do; null when proven. */
  sentence: z.nullable(words),
  etcdVersion: words,
  /** SHA-256 of each binary by its name (etcd, etcdctl, etcdutl): those that were to be run. */
  tools: z.record(words, sha256, 'an object'),
  /** By the same names, why each may be run. Absent in records of older versions. */
  trust: z.optional(z.record(words, trust, 'an object')),
  /** Of those phases that ended; `total` is the whole of drill-run. Empty when it did not run. */
  seconds: object({
    download: z.optional(seconds),
    restore: z.optional(seconds),
    boot: z.optional(seconds),
    read: z.optional(seconds),
    total: z.optional(seconds),
  }),
  /** What the restored etcd said, and what it took; null unless its answer was complete. */
  measured: z.nullable(
    object({
      /** Of the snapshot. */
      revision: count,
      /** That the restored etcd served: the snapshot's, raised as a restore raises it. */
      servedRevision: count,
      /** Read back by etcdctl at that revision. */
      keys: count,
      /** Of those keys and their values. */
      bytes: count,
      /** Over everything that was read back, as `snapshot.liveHash` of a receipt. */
      hash: count,
      /** The most that etcd had resident. */
      memoryBytes: count,
      /** The most that lay on the disk. */
      diskBytes: count,
    }),
  ),
  startedAt: time,
  finishedAt: time,
});

/** What a drill came to; docs/drill.md has each field. Lies at `drills/<id>.json`. */
export type DrillRecord = z.output<typeof recordSchema>;

/** A record is read into memory: what is larger than this is none. */
export const MAX_DRILL_RECORD_BYTES = 100_000;

const KEY = /^drills\/(\d{8}T\d{6}Z)\.json$/;

/** The key of a drill's record. */
export function drillKey(drillId: string): string {
  return `drills/${drillId}.json`;
}

/** The id of the drill whose record has this key; undefined when it is none. */
export function drillIdOf(key: string): string | undefined {
  return KEY.exec(key)?.[1];
}

/** The record in these bytes. Throws DrillRecordError when they are none of this version, or of another drill than the key says. */
export function readDrillRecord(key: string, bytes: Buffer): DrillRecord {
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new DrillRecordError(
      `${key}: got ${String(bytes.length)} bytes that are no JSON, expected the record of a drill; find out in CloudTrail who wrote it`,
    );
  }
  const checked = check(recordSchema, parsed);
  if (!checked.ok) {
    throw new DrillRecordError(
      `${key}: ${checked.problems.slice(0, 5).join('; ')}; it was written by another version of the function, or is damaged`,
    );
  }
  const { drillId } = checked.value;
  if (drillKey(drillId) !== key) {
    throw new DrillRecordError(
      `${key}: got the record of drill ${drillId}, expected that of the drill in its name; find out in CloudTrail who wrote it`,
    );
  }
  return checked.value;
}
