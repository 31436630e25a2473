import type { KMSClient } from '@aws-sdk/client-kms';
import { createPublicKey, verify as verifySignature } from 'node:crypto';
import * as z from 'zod/mini';
import { canonicalJson } from './announcement';
import { BACKUP_ID_PATTERN } from './backup-id';
import { check, text, wholeNumber } from './check';
import { describeError, ReceiptError } from './errors';
import { isSigned, sign, SIGNATURE_PATTERN } from './signature';
import { getVersion, listVersions, sha256Hex, type Store } from './store';

const sha256 = text(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
const backupId = text(BACKUP_ID_PATTERN, 'a backup id');
const words = z.string('text');
const known = z.nullable(words);
const count = wholeNumber(0);
const seconds = z.number('a number of seconds');
const flag = z.boolean('true or false');
const time = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'a time in UTC with milliseconds');
const list = <Item extends z.core.$ZodType>(item: Item) => z.array(item, 'a list');
const object = <Shape extends z.core.$ZodShape>(shape: Shape) => z.object(shape, 'an object');
const amount = { objects: count, bytes: count };
const member = object({ id: words, name: words, peerUrls: list(words), clientUrls: list(words), isLearner: flag });

const identity = object({
  /** UID of the namespace kube-system, read out of the snapshot; null when there is none, or when it is encrypted. */
  kubeSystemUid: known,
  kubeSystemEncrypted: flag,
  /** Fingerprints as the node reported them. */
  etcdCaSha256: z.nullable(sha256),
  clusterCaSha256: z.nullable(sha256),
  saPubSha256: z.nullable(sha256),
  encryptionConfigSha256: z.nullable(sha256),
});

/** As in SnapshotFacts, which says what each field is. */
const snapshot = object({
  pageSizeBytes: count,
  hash: count,
  /** Absent in receipts of older versions. */
  liveHash: z.optional(count),
  revision: count,
  totalKey: object({ rows: count, live: count }),
  totalSizeBytes: count,
  storageVersion: known,
  consistentIndex: known,
  term: known,
  clusterVersion: known,
  members: list(member),
  removedMembers: list(words),
  bootstrapClusterId: known,
  pages: object({ total: count, free: count, branch: count, leaf: count, overflow: count }),
  buckets: list(object({ name: words, rows: count, bytes: count })),
  mvcc: object({ tombstones: count, compactedRevision: z.nullable(count) }),
  leases: count,
  alarms: list(object({ memberId: words, alarm: words })),
  auth: object({ enabled: flag, users: count, roles: count }),
  secrets: object({ total: count, plainText: count }),
});

const inventory = object({
  ...amount,
  leased: count,
  kinds: list(object({ kind: words, ...amount, namespaces: list(object({ namespace: words, ...amount })) })),
  beyondBounds: object(amount),
  events: object(amount),
  largest: list(object({ key: words, bytes: count })),
  /** Names of Kubernetes' nodes. Absent in receipts of older versions. */
  nodes: z.optional(list(words)),
});

const receiptSchema = object({
  /** Grows when a field changes its meaning or goes away; new fields do not count. */
  schema: z.literal(1, '1, the version that this function reads'),
  backupId,
  cluster: words,
  bucket: words,
  key: words,
  versionId: words,
  kind: z.enum(['schedule', 'on-demand', 'pre-restore'], "'schedule', 'on-demand' or 'pre-restore'"),
  /** Of an on-demand backup; null when none was asked for. */
  keepDays: z.nullable(count),
  /** Of a pre-restore backup: the restore that it was taken before. */
  restoreId: z.optional(backupId),
  class: z.enum(
    ['hourly', 'daily', 'weekly', 'monthly', 'on-demand', 'pre-restore'],
    'hourly, daily, weekly, monthly, on-demand or pre-restore',
  ),
  /** Id of the timeline start that this backup comes after; 'first' before any. */
  timeline: words,
  /** Backup id of the newest trusted receipt before this one; `compared` says what was held against it. */
  previous: z.nullable(backupId),
  /** The newest earlier backup of each class, as known when this one's class was decided. */
  newestOfClass: object({
    monthly: z.nullable(backupId),
    weekly: z.nullable(backupId),
    daily: z.nullable(backupId),
  }),
  /** When S3 stored the version. */
  storedAt: time,
  verifiedAt: time,
  /** Name and version of the function. */
  verifiedBy: object({ function: words, version: words }),
  /** The signed announcement that the snapshot was held against. */
  announcement: object({ key: words, sha256 }),
  compression: z.enum(['zstd', 'gzip'], "'zstd' or 'gzip'"),
  /** Of the stored bytes. */
  compressedBytes: count,
  compressedSha256: sha256,
  /** Of the decompressed file. */
  sizeBytes: count,
  sha256,
  identity,
  /** Of the UID and the CA what was known last, here or in the receipts before: what the next backup is held against. */
  knownIdentity: object({ kubeSystemUid: known, etcdCaSha256: z.nullable(sha256) }),
  /** What of this backup was held against the previous receipt. */
  compared: object({ identity: flag, revision: flag }),
  /** What was read in the file. */
  snapshot,
  inventory,
  /** What the node announced, and nothing in the file could prove. */
  announced: object({
    instanceId: words,
    etcdVersion: words,
    clusterVersion: words,
    kubernetesVersion: known,
    arch: words,
    memberId: words,
    memberName: words,
    clusterId: words,
    leaderId: words,
    members: list(member),
    raftTerm: count,
    raftIndex: words,
    databaseBytes: count,
    liveRevision: count,
    dataDir: words,
    /** What a tool on the node found; null where there was none. */
    hash: z.nullable(count),
    revision: z.nullable(count),
    totalKey: z.nullable(count),
    totalSizeBytes: z.nullable(count),
    /** What of etcd, etcdctl and etcdutl was in the member's image. Absent in receipts of older versions. */
    imageTools: z.optional(list(object({ name: words, sha256, bytes: count }))),
  }),
  findings: list(object({ finding: text(/^[a-z0-9-]{1,64}$/, 'a word in kebab-case'), sentence: words })),
  seconds: object({
    /** Download, decompression and hashes together. */
    download: seconds,
    read: seconds,
    /** From the beginning of the function's run to the receipt. */
    verify: seconds,
    /** From the trigger of the backup to the receipt. */
    triggerToReceipt: seconds,
  }),
});

/** What was proven of one version of a snapshot; docs/receipts.md has each field with its unit. */
export type Receipt = z.output<typeof receiptSchema>;

/** A receipt is read into memory: what is larger than this is none. */
export const MAX_RECEIPT_BYTES = 1_000_000;

/** The key of a backup's receipt. */
export function receiptKey(id: string): string {
  return `receipts/${id}.json`;
}

/** The exact bytes that are stored. Throws ReceiptError when they are more than 1 MB. */
export function receiptBytes(receipt: Receipt): Buffer {
  const bytes = Buffer.from(canonicalJson(receipt));
  if (bytes.length > MAX_RECEIPT_BYTES) {
    throw new ReceiptError(
      `${receiptKey(receipt.backupId)}: got ${String(bytes.length)} bytes, expected at most ${String(MAX_RECEIPT_BYTES)}; look in the announcement for what is so long`,
    );
  }
  return bytes;
}

/** The receipt in these bytes. Throws ReceiptError when they are none of this version. */
export function readReceipt(key: string, bytes: Buffer): Receipt {
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    // No cause: the parser's message quotes what it read, and a receipt holds names of objects.
    throw new ReceiptError(`${key}: got ${String(bytes.length)} bytes that are no JSON, expected a receipt`);
  }
  const checked = check(receiptSchema, parsed);
  if (!checked.ok) {
    const fields = checked.problems.map((problem) => problem.slice(0, problem.indexOf(':')));
    throw new ReceiptError(
      `${key}: got other than what a receipt has in ${fields.slice(0, 10).join(', ')}, expected the fields of schema 1; it was written by another version of the function, or is damaged`,
    );
  }
  return checked.value;
}

/** What the receipt key signs: which object it is about, what was proven of it, and the exact bytes of the receipt. */
export function signedPayload(receipt: Receipt, bytes: Buffer): Buffer {
  const { schema, bucket, key, versionId } = receipt;
  return Buffer.from(
    canonicalJson({
      // Nothing else that a key signs may pass for a receipt.
      type: 'receipt',
      schema,
      bucket,
      key,
      versionId,
      sha256: receipt.sha256,
      identity: receipt.identity,
      receiptSha256: sha256Hex(bytes),
    }),
  );
}

/** Signs a receipt. Returns base64. Throws SigningKeyError when KMS does not. */
export function signReceipt(kms: KMSClient, keyArn: string, receipt: Receipt, bytes: Buffer): Promise<string> {
  return sign(kms, keyArn, signedPayload(receipt, bytes));
}

/** What reading receipts needs. */
export interface ReceiptDeps {
  readonly clusterName: string;
  readonly store: Store;
  readonly kms: KMSClient;
  readonly receiptKeyArn: string;
}

/** What lies under a receipt's key: the oldest version that can be trusted, and why others cannot. */
export interface FoundReceipt {
  readonly receipt: Receipt | undefined;
  readonly untrusted: readonly string[];
}

/** The receipt of a backup, by version: neither a delete marker nor a later version hides it. Throws when S3 or KMS do not answer. */
export async function findReceipt(deps: ReceiptDeps, id: string): Promise<FoundReceipt> {
  const key = receiptKey(id);
  const { versions } = await listVersions(deps.store, key);
  const untrusted: string[] = [];
  for (const version of versions) {
    if (version.key !== key) {
      continue;
    }
    try {
      if (version.bytes > MAX_RECEIPT_BYTES) {
        throw new ReceiptError(
          `${key}: got ${String(version.bytes)} bytes, expected at most ${String(MAX_RECEIPT_BYTES)}; find out in CloudTrail who wrote it`,
        );
      }
      const { bytes, metadata } = await getVersion(deps.store, version, MAX_RECEIPT_BYTES);
      const receipt = readReceipt(key, bytes);
      await verifyReceipt(deps, receipt, bytes, metadata['receipt-signature']);
      requireOwn(deps, id, receipt);
      return { receipt, untrusted };
    } catch (error) {
      if (!(error instanceof ReceiptError)) {
        throw error;
      }
      untrusted.push(error.message);
    }
  }
  return { receipt: undefined, untrusted };
}

/** Throws ReceiptError unless `signature` (base64) is the key's, SigningKeyError when KMS does not say. */
async function verifyReceipt(
  { kms, receiptKeyArn }: ReceiptDeps,
  receipt: Receipt,
  bytes: Buffer,
  signature: string | undefined,
): Promise<void> {
  const key = receiptKey(receipt.backupId);
  const next = 'find out in CloudTrail who wrote it; if the receipt key was replaced, give the old one back';
  if (signature === undefined || !SIGNATURE_PATTERN.test(signature)) {
    throw new ReceiptError(
      `signature of ${key}: got ${signature === undefined ? 'none' : 'one that is no base64'}, expected one in base64 in the metadata; ${next}`,
    );
  }
  if (await isSigned(kms, receiptKeyArn, { key, bytes: signedPayload(receipt, bytes), signature })) {
    return;
  }
  throw new ReceiptError(
    `signature of ${key}: got one that ${receiptKeyArn} did not make, expected that key's; ${next}`,
  );
}

function requireOwn({ clusterName, store }: ReceiptDeps, id: string, receipt: Receipt): void {
  for (const [what, got, expected] of [
    ['backupId', receipt.backupId, id],
    ['cluster', receipt.cluster, clusterName],
    ['bucket', receipt.bucket, store.bucket],
  ] as const) {
    if (got !== expected) {
      throw new ReceiptError(
        `${what} of ${receiptKey(id)}: got '${got.slice(0, 100)}', expected '${expected}'; it was copied from elsewhere, and proves nothing here`,
      );
    }
  }
}

/** What came of holding a receipt against its signature. */
export type ReceiptCheck =
  | {
      readonly ok: true;
      readonly receipt: Receipt;
      /** Hex, of the exact bytes. */
      readonly receiptSha256: string;
    }
  | { readonly ok: false; readonly problems: readonly string[] };

/**
 * Holds the bytes of a receipt against its signature with nothing but the public key: in another account, or when AWS is out of reach.
 * The key must not come from where the receipt comes from.
 */
export function verifyReceiptOffline(input: {
  readonly receiptBytes: Buffer;
  /** The object's metadata `receipt-signature`. */
  readonly signatureBase64: string;
  /** SubjectPublicKeyInfo in PEM, as the stack's owner keeps it. */
  readonly publicKeyPem: string;
}): ReceiptCheck {
  const problems: string[] = [];
  let publicKey;
  try {
    publicKey = createPublicKey(input.publicKeyPem);
    const { namedCurve } = publicKey.asymmetricKeyDetails ?? {};
    if (namedCurve !== 'prime256v1') {
      problems.push(
        `public key: got ${publicKey.asymmetricKeyType ?? 'an unknown kind'}${namedCurve === undefined ? '' : ` on ${namedCurve}`}, expected an EC key on P-256 (prime256v1), as the receipt key is`,
      );
    }
  } catch (error) {
    problems.push(
      `public key: got ${describeError(error)}, expected a public key in PEM; get it with kms:GetPublicKey`,
    );
  }
  const signature = input.signatureBase64.trim();
  if (!SIGNATURE_PATTERN.test(signature)) {
    problems.push(
      `signature: got '${signature.slice(0, 50)}', expected base64; it is the metadata receipt-signature of the receipt`,
    );
  }
  let receipt;
  try {
    receipt = readReceipt('receipt', input.receiptBytes);
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  if (publicKey === undefined || receipt === undefined || problems.length > 0) {
    return { ok: false, problems };
  }
  const payload = signedPayload(receipt, input.receiptBytes);
  if (!verifySignature('sha256', payload, publicKey, Buffer.from(signature, 'base64'))) {
    return {
      ok: false,
      problems: [
        `signature: got one that does not fit the receipt and the public key, expected it to; a byte of the receipt was changed, or the key is another`,
      ],
    };
  }
  return { ok: true, receipt, receiptSha256: sha256Hex(input.receiptBytes) };
}
