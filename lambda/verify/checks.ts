import type { Announcement } from '../shared/announcement';
import type { Receipt } from '../shared/receipt';
import type { Damage } from '../shared/snapshot/damage';
import type { SnapshotFacts } from '../shared/snapshot/facts';
import { versionNumbers } from './etcd-version';
import type { Comparable } from './timelines';

/** Why a snapshot is not verified: a word, and a sentence that says what was got and what was expected. */
export interface Reason {
  readonly reason:
    | 'unsigned'
    | 'later-version'
    | 'verified-version-exists'
    | 'stored-bytes'
    | 'stored-sha256'
    | 'compressed-sha256'
    | 'size'
    | 'sha256'
    | 'hash'
    | 'revision'
    | 'total-key'
    | 'total-size'
    | 'identity-changed'
    | 'revision-went-back'
    | Damage;
  readonly sentence: string;
}

/** What was measured while the object was read. */
export interface Measured {
  /** In hex, as S3 computed it when it stored the object; undefined when S3 has none. */
  readonly storedSha256: string | undefined;
  readonly compressedSha256: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

type AnnouncedBytes = Pick<Announcement, 'compressedBytes' | 'compressedSha256' | 'sizeBytes' | 'sha256'>;

/** Whether as many bytes are stored as were announced. */
export function checkStoredBytes(announcement: AnnouncedBytes, storedBytes: number): Reason[] {
  return different(
    'stored-bytes',
    'length of the object',
    storedBytes,
    announcement.compressedBytes,
    'the node announced',
  );
}

/** Whether the bytes are those that the node announced, before and after decompression. */
export function checkBytes(announcement: AnnouncedBytes, measured: Measured): Reason[] {
  return [
    ...different(
      'stored-sha256',
      'SHA-256 that S3 keeps with the object',
      measured.storedSha256 ?? 'none',
      announcement.compressedSha256,
      'the node announced',
    ),
    ...different(
      'compressed-sha256',
      'SHA-256 of what was read',
      measured.compressedSha256,
      announcement.compressedSha256,
      'the node announced',
    ),
    ...different('size', 'decompressed bytes', measured.sizeBytes, announcement.sizeBytes, 'the node announced'),
    ...different(
      'sha256',
      'SHA-256 of the decompressed file',
      measured.sha256,
      announcement.sha256,
      'the node announced',
    ),
  ];
}

/** Whether the file holds what the tool on the node found in it. What no tool looked at is not held against anything. */
export function checkContent(
  announcement: Pick<Announcement, 'hash' | 'revision' | 'totalKey' | 'totalSizeBytes' | 'tools' | 'etcdVersion'>,
  facts: Pick<SnapshotFacts, 'hash' | 'revision' | 'totalKey' | 'totalSizeBytes'>,
): Reason[] {
  const counting = countingOf(announcement);
  const says = "the node's tool said";
  return [
    ...different('hash', 'hash of the database', facts.hash, announcement.hash, says),
    ...different('revision', 'revision', facts.revision, announcement.revision, says),
    ...different('total-key', `keys (${COUNTED[counting]})`, facts.totalKey[counting], announcement.totalKey, says),
    ...different('total-size', 'bytes of the database', facts.totalSizeBytes, announcement.totalSizeBytes, says),
  ];
}

const COUNTED = { rows: 'rows of all buckets, as tools up to 3.5 count', live: 'live keys, as tools from 3.6 count' };

/** How the tool that looked at the snapshot counts keys: up to 3.5 rows of all buckets, from 3.6 on keys that are alive. */
export function countingOf({ tools, etcdVersion }: Pick<Announcement, 'tools' | 'etcdVersion'>): 'rows' | 'live' {
  // As on the node: etcdutl wherever there is one.
  const tool = tools.find(({ name }) => name === 'etcdutl') ?? tools.find(({ name }) => name === 'etcdctl');
  const [major, minor] = versionNumbers(tool?.version ?? etcdVersion);
  return major > 3 || (major === 3 && minor >= 6) ? 'live' : 'rows';
}

/** Who the cluster is. */
export type Identity = Receipt['identity'];

/** Whether it is the cluster of the previous receipt, or of the one before in which the UID or the CA was known last. */
export function checkIdentity(identity: Identity, previous: Pick<Receipt, 'backupId' | 'knownIdentity'>): Reason[] {
  const next =
    'if the cluster was rebuilt or has a new CA, add the time from which on that holds to acknowledgedTimelines; if not, somebody backs up another cluster in its place';
  const uid = identity.kubeSystemEncrypted
    ? []
    : changed('UID of the namespace kube-system', identity.kubeSystemUid, previous.knownIdentity.kubeSystemUid);
  const ca = changed("fingerprint of etcd's CA", identity.etcdCaSha256, previous.knownIdentity.etcdCaSha256);
  return [...uid, ...ca].map((sentence) => ({
    reason: 'identity-changed',
    sentence: `${sentence} in the receipt of ${previous.backupId}; ${next}`,
  }));
}

/** Says nothing of what it is: the UID comes out of etcd. */
function changed(what: string, got: string | null, before: string | null): string[] {
  return before === null || got === before
    ? []
    : [`${what}: got ${got === null ? 'none' : 'another'}, expected the one`];
}

/** What etcd goes on from when it opens the file: a deletion that was compacted away leaves no row with its revision. */
export function newestRevision(file: {
  readonly revision: number;
  readonly mvcc: { readonly compactedRevision: number | null };
}): number {
  return Math.max(file.revision, file.mvcc.compactedRevision ?? 0);
}

/** Whether history went on since the previous receipt. */
export function checkRevision(
  facts: Pick<SnapshotFacts, 'revision' | 'mvcc'>,
  previous: { readonly backupId: string; readonly snapshot: Pick<Receipt['snapshot'], 'revision' | 'mvcc'> },
): Reason[] {
  const got = newestRevision(facts);
  const before = newestRevision(previous.snapshot);
  return got >= before
    ? []
    : [
        {
          reason: 'revision-went-back',
          sentence: `revision: got ${String(got)}, expected at least ${String(before)}, as in the receipt of ${previous.backupId}; if etcd was restored by hand in between, add that time to acknowledgedTimelines; if not, this member lost data: compare it with the others`,
        },
      ];
}

/** All that is held against the previous receipt, as far as the timelines allow it. */
export function checkAgainst(
  previous: Pick<Receipt, 'backupId' | 'knownIdentity' | 'snapshot'>,
  now: { readonly identity: Identity; readonly facts: Pick<SnapshotFacts, 'revision' | 'mvcc'> },
  comparable: Comparable,
): Reason[] {
  return [
    ...(comparable.identity ? checkIdentity(now.identity, previous) : []),
    ...(comparable.revision ? checkRevision(now.facts, previous) : []),
  ];
}

function different(
  reason: Reason['reason'],
  what: string,
  got: string | number,
  expected: string | number | null,
  says: string,
): Reason[] {
  return expected === null || got === expected
    ? []
    : [{ reason, sentence: `${what}: got ${String(got)}, expected ${String(expected)} as ${says}` }];
}
