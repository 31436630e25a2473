import { KMSClient, SignCommand, VerifyCommand } from '@aws-sdk/client-kms';
import {
  GetObjectCommand,
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  PutObjectTaggingCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { mockClient } from 'aws-sdk-client-mock';
import { createHash, createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { makeAnnouncement, snapshotKey } from '../../../lambda/backup/announce';
import { type Announcement, announcementBytes, type Trigger } from '../../../lambda/shared/announcement';
import type { SnapshotResult } from '../../../lambda/shared/node-result';
import type { Receipt } from '../../../lambda/shared/receipt';
import type { SnapshotFacts } from '../../../lambda/shared/snapshot/facts';
import { listVersions } from '../../../lambda/shared/store';
import type { Fields, Telemetry } from '../../../lambda/shared/telemetry';
import { verify, type VerifyDeps } from '../../../lambda/verify/verify';
import { CREDENTIALS, snapshotResult } from '../backup/cloud';

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
export const ANNOUNCEMENT_KEY = 'arn:aws:kms:us-east-1:000000000000:key/announcement';
export const RECEIPT_KEY = 'arn:aws:kms:us-east-1:000000000000:key/receipt';
const BUCKET = 'lab-backups';

/** What the reader finds in a healthy snapshot, as `snapshotResult` of the backup's tests announces it. */
export function snapshotFacts(change: Partial<SnapshotFacts> = {}): SnapshotFacts {
  return {
    sizeBytes: 50_000_032,
    trailerSha256: 'a'.repeat(64),
    pageSizeBytes: 4096,
    hash: 2_912_345_678,
    liveHash: 1_234_567_890,
    revision: 123_456,
    totalKey: { rows: 20_000, live: 9876 },
    totalSizeBytes: 49_999_872,
    storageVersion: '3.6.0',
    consistentIndex: '130000',
    term: '4',
    clusterVersion: '3.6.0',
    members: [],
    removedMembers: [],
    bootstrapClusterId: 'cdf818194e3a8c32',
    pages: { total: 12_207, free: 100, branch: 20, leaf: 12_000, overflow: 80 },
    buckets: [{ name: 'key', rows: 20_000, bytes: 40_000_000 }],
    mvcc: { tombstones: 5, compactedRevision: 120_000 },
    leases: 7,
    alarms: [],
    auth: { enabled: false, users: 0, roles: 0 },
    kubernetes: {
      objects: 9000,
      kubeSystemUid: 'uid-1',
      kubeSystemEncrypted: false,
      secrets: { total: 40, plainText: 0 },
    },
    inventory: {
      objects: 9876,
      bytes: 30_000_000,
      leased: 500,
      kinds: [
        { kind: 'pods', objects: 300, bytes: 900_000, namespaces: [{ namespace: 'a', objects: 300, bytes: 900_000 }] },
      ],
      beyondBounds: { objects: 0, bytes: 0 },
      events: { objects: 876, bytes: 1_000_000 },
      largest: [{ key: '/registry/configmaps/a/big', bytes: 400_000 }],
      nodes: ['ip-10-0-0-1.ec2.internal'],
    },
    ...change,
  };
}

interface Stored {
  readonly key: string;
  readonly versionId: string;
  readonly storedAt: Date;
  readonly bytes: Buffer;
  readonly metadata: Record<string, string>;
  readonly isDeleteMarker: boolean;
  /** Base64. */
  checksum: string | undefined;
  tag: string | undefined;
  lock: Date | undefined;
}

/** A version, and the event that S3 sends for it. */
export interface Put {
  readonly stored: Stored;
  readonly event: unknown;
}

/** How a backup was announced, when it is not as usual. */
export interface Backup {
  readonly compression?: 'zstd' | 'gzip';
  readonly result?: Partial<SnapshotResult>;
  readonly trigger?: Trigger;
  readonly cluster?: string;
  readonly announcement?: Partial<Announcement>;
  readonly metadata?: Record<string, string>;
  /** Base64, instead of the announcement key's. */
  readonly signature?: string;
  /** What is stored in place of what was announced. */
  readonly body?: Buffer;
  readonly checksum?: string;
}

const failure = (status: number, name: string) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });

/** A versioned and locked bucket and KMS in memory, on a clock that moves by hand. */
export class World {
  now = new Date('2026-11-20T14:05:00Z');
  readonly stored: Stored[] = [];
  /** What was written, in order. */
  readonly writes: string[] = [];
  /** The function dies when it has written so often: what was written stays, and nothing is answered any more. */
  diesAfterWrites = Infinity;
  readonly measured: Record<string, number[]> = {};
  readonly lines: ({ readonly message: string; readonly phase: string } & Fields)[] = [];
  /** What the reader makes of the file of a backup. */
  reader: (file: string, options: { readonly trailerSha256?: string }) => SnapshotFacts = () => snapshotFacts();
  /** Bytes after which the connection breaks, one for each request for a snapshot; then none breaks. */
  breaks: number[] = [];
  reads = 0;
  kmsDown = false;
  change: Partial<VerifyDeps> = {};
  readonly directory = join(mkdtempSync(join(tmpdir(), 'verify-test-')), 'disk');
  readonly s3Mock = mockClient(S3Client);
  readonly kmsMock = mockClient(KMSClient);

  constructor() {
    this.#answerS3();
    this.#answerKms();
  }

  get deps(): VerifyDeps {
    const config = { region: 'us-east-1', credentials: CREDENTIALS };
    return {
      clusterName: 'lab',
      announcementKeyArn: ANNOUNCEMENT_KEY,
      receiptKeyArn: RECEIPT_KEY,
      keep: { hourlyHours: 48, dailyDays: 7, weeklyWeeks: 4, monthlyMonths: 6, onDemandDays: 30, preRestoreDays: 30 },
      acknowledgedTimelines: [],
      keysLostPercent: 20,
      directory: this.directory,
      store: {
        s3: new S3Client(config),
        bucket: BUCKET,
        bucketOwner: '000000000000',
        snapshotKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/snapshot',
        sleep: () => Promise.resolve(),
      },
      kms: new KMSClient(config),
      readSnapshot: (file, options) => {
        this.reads++;
        return this.reader(file, options);
      },
      telemetry: this.#telemetry(),
      now: () => this.now,
      ...this.change,
    };
  }

  /** One run of the function that answers, whatever died before. */
  async verify(event: unknown) {
    return verify(this.deps, event, { requestId: 'request-1', functionName: 'verify', functionVersion: '7' });
  }

  /** A backup as the backup function and a node leave it, five minutes after its trigger. */
  backup(backupId: string, backup: Backup = {}): Put {
    const compression = backup.compression ?? 'zstd';
    const file = fileOf(backupId);
    const body = compression === 'zstd' ? zstdCompressSync(file) : gzipSync(file);
    const time = backupId.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z');
    const announcement: Announcement = {
      ...makeAnnouncement({
        result: snapshotResult(backupId, {
          compression,
          size: file.length,
          sha256: sha256(file),
          compressedSize: body.length,
          compressedSha256: sha256(body),
          ...backup.result,
        }),
        command: { instanceId: 'i-1', commandId: 'command-1' },
        earlierCommands: [],
        trigger: backup.trigger ?? { kind: 'schedule', scheduledTime: time },
        clusterName: backup.cluster ?? 'lab',
        bucket: BUCKET,
        previous: undefined,
        officialTools: { '3.6.5': { amd64: { etcdctl: snapshotResult(backupId).tools[0]?.sha256 ?? '' } } },
        acknowledgedTools: [],
        controlPlane: [],
        findings: [],
      }),
      ...backup.announcement,
    };
    const bytes = announcementBytes(announcement);
    const key = `announcements/${backupId}.json`;
    this.put(key, bytes, {});
    this.now = new Date(Date.parse(time) + 300_000);
    return this.put(
      snapshotKey(backupId, compression),
      backup.body ?? body,
      {
        announcement: key,
        'announcement-sha256': sha256(bytes),
        'announcement-signature': backup.signature ?? sign(ANNOUNCEMENT_KEY, sha256Bytes(bytes)).toString('base64'),
        ...backup.metadata,
      },
      { tag: 'pending', checksum: backup.checksum },
    );
  }

  put(
    key: string,
    bytes: Buffer,
    metadata: Record<string, string>,
    options: { readonly tag?: string; readonly checksum?: string | undefined } = {},
  ): Put {
    const stored: Stored = {
      key,
      versionId: `v${String(this.stored.length + 1)}`,
      storedAt: this.now,
      bytes,
      metadata,
      isDeleteMarker: false,
      checksum: options.checksum ?? createHash('sha256').update(bytes).digest('base64'),
      tag: options.tag,
      lock: new Date(this.now.getTime() + 2 * 86_400_000),
    };
    this.stored.push(stored);
    return { stored, event: objectCreated(stored) };
  }

  deleteMarker(key: string): void {
    const { stored } = this.put(key, Buffer.alloc(0), {});
    this.stored[this.stored.length - 1] = { ...stored, isDeleteMarker: true };
  }

  /** Tags of the snapshots, by backup id (of several versions the last). */
  get tags(): Record<string, string | undefined> {
    return Object.fromEntries(
      this.stored
        .filter(({ key, isDeleteMarker }) => key.startsWith('snapshots/') && !isDeleteMarker)
        .map(({ key, tag }) => [key.slice(10, 26), tag]),
    );
  }

  receipt(backupId: string): Receipt {
    const stored = this.stored.find(({ key }) => key === `receipts/${backupId}.json`);
    if (stored === undefined) {
      throw new Error(`no receipt of ${backupId}`);
    }
    return JSON.parse(stored.bytes.toString()) as Receipt;
  }

  get diskIsEmpty(): boolean {
    return !existsSync(this.directory);
  }

  remove(): void {
    rmSync(join(this.directory, '..'), { recursive: true, force: true });
  }

  /** Days that a version is locked from when it was stored. */
  lockedDays({ lock, storedAt }: Stored): number {
    return ((lock?.getTime() ?? 0) - storedAt.getTime()) / 86_400_000;
  }

  #telemetry(): Telemetry {
    return {
      phaseDone: (phase, seconds, fields) => {
        this.lines.push({ message: 'phase done', phase, seconds, ...fields });
      },
      phaseFailed: (phase, seconds, fields) => {
        this.lines.push({ message: 'phase failed', phase, seconds, ...fields });
      },
      measure: (name, _, value) => {
        (this.measured[name] ??= []).push(value);
      },
      publish: () => undefined,
    };
  }

  #alive(): void {
    if (this.writes.length >= this.diesAfterWrites) {
      throw new Error('killed');
    }
  }

  #wrote(what: string): void {
    this.writes.push(what);
    // The write happened; nobody is there any more to hear of it.
    this.#alive();
  }

  #find({ Key, VersionId }: { Key: string; VersionId?: string }): Stored {
    this.#alive();
    if (VersionId === undefined) {
      throw new Error(`a request for ${Key} without a version`);
    }
    const found = this.stored.find(({ key, versionId }) => key === Key && versionId === VersionId);
    if (found === undefined || found.isDeleteMarker) {
      throw failure(404, 'NoSuchVersion');
    }
    return found;
  }

  #answerS3(): void {
    type Named = { Key: string; VersionId: string };
    this.s3Mock.on(ListObjectVersionsCommand).callsFake((input: ListInput) => {
      this.#alive();
      return this.#list(input);
    });
    this.s3Mock.on(HeadObjectCommand).callsFake((input: Named) => {
      const { bytes, metadata, checksum } = this.#find(input);
      return { ContentLength: bytes.length, Metadata: metadata, ChecksumSHA256: checksum };
    });
    this.s3Mock.on(GetObjectCommand).callsFake((input: Named & { Range?: string }) => {
      const { key, bytes, metadata } = this.#find(input);
      const from = Number(/^bytes=(\d+)-$/.exec(input.Range ?? '')?.[1] ?? 0);
      const rest = bytes.subarray(from);
      const breaksAfter = key.startsWith('snapshots/') ? this.breaks.shift() : undefined;
      return {
        ContentLength: rest.length,
        ...(from === 0
          ? {}
          : { ContentRange: `bytes ${String(from)}-${String(bytes.length - 1)}/${String(bytes.length)}` }),
        Metadata: metadata,
        Body: Object.assign(Readable.from(piecesOf(rest, breaksAfter), { objectMode: false }), {
          transformToByteArray: () => Promise.resolve(rest),
        }),
      };
    });
    this.s3Mock
      .on(PutObjectCommand)
      .callsFake((input: { Key: string; Body: Buffer; Metadata: Record<string, string>; IfNoneMatch?: string }) => {
        this.#alive();
        const last = this.stored.findLast(({ key }) => key === input.Key);
        if (input.IfNoneMatch !== '*') {
          throw failure(403, 'AccessDenied');
        }
        if (last?.isDeleteMarker === false) {
          throw failure(412, 'PreconditionFailed');
        }
        this.put(input.Key, input.Body, input.Metadata);
        this.#wrote(input.Key);
        return {};
      });
    this.s3Mock.on(GetObjectTaggingCommand).callsFake((input: Named) => {
      const { tag } = this.#find(input);
      return { TagSet: tag === undefined ? [] : [{ Key: 'retention', Value: tag }] };
    });
    this.s3Mock
      .on(PutObjectTaggingCommand)
      .callsFake((input: Named & { Tagging: { TagSet: { Key: string; Value: string }[] } }) => {
        const version = this.#find(input);
        version.tag = input.Tagging.TagSet.find(({ Key }) => Key === 'retention')?.Value;
        this.#wrote(`tag ${version.key.slice(10, 26)}=${String(version.tag)}`);
        return {};
      });
    this.s3Mock.on(GetObjectRetentionCommand).callsFake((input: Named) => {
      const { lock } = this.#find(input);
      if (lock === undefined) {
        throw failure(404, 'NoSuchObjectLockConfiguration');
      }
      return { Retention: { Mode: 'GOVERNANCE', RetainUntilDate: lock } };
    });
    this.s3Mock
      .on(PutObjectRetentionCommand)
      .callsFake((input: Named & { Retention: { Mode: string; RetainUntilDate: Date } }) => {
        const version = this.#find(input);
        const until = input.Retention.RetainUntilDate;
        if (until < this.now) {
          throw failure(400, 'InvalidArgument');
        }
        if (until < (version.lock ?? until)) {
          throw failure(403, 'AccessDenied');
        }
        version.lock = until;
        this.#wrote(`lock ${version.key.slice(10, 26)}`);
        return {};
      });
  }

  /** Small pages, so that everything that lists has to turn them. */
  #list({ Prefix, KeyMarker, VersionIdMarker }: ListInput) {
    const all = this.stored
      .toReversed()
      .filter(({ key }) => key.startsWith(Prefix))
      .toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    const start =
      KeyMarker === undefined
        ? 0
        : VersionIdMarker === undefined
          ? all.findIndex(({ key }) => key > KeyMarker)
          : all.findIndex(({ key, versionId }) => key === KeyMarker && versionId === VersionIdMarker) + 1;
    const rest = start < 0 ? [] : all.slice(start);
    const page = rest.slice(0, 3);
    const entry = ({ key, versionId, storedAt, bytes }: Stored) => ({
      Key: key,
      VersionId: versionId,
      LastModified: storedAt,
      Size: bytes.length,
    });
    const last = page.at(-1);
    return {
      Versions: page.filter(({ isDeleteMarker }) => !isDeleteMarker).map(entry),
      DeleteMarkers: page.filter(({ isDeleteMarker }) => isDeleteMarker).map(entry),
      IsTruncated: rest.length > page.length,
      ...(rest.length > page.length ? { NextKeyMarker: last?.key, NextVersionIdMarker: last?.versionId } : {}),
    };
  }

  #answerKms(): void {
    const up = () => {
      this.#alive();
      if (this.kmsDown) {
        throw failure(503, 'KMSInternalException');
      }
    };
    this.kmsMock.on(SignCommand).callsFake(({ KeyId, Message }: { KeyId: string; Message: Uint8Array }) => {
      up();
      return { Signature: sign(KeyId, Message) };
    });
    this.kmsMock.on(VerifyCommand).callsFake((input: { KeyId: string; Message: Uint8Array; Signature: Uint8Array }) => {
      up();
      if (!sign(input.KeyId, input.Message).equals(Buffer.from(input.Signature))) {
        throw Object.assign(new Error('invalid'), { name: 'KMSInvalidSignatureException' });
      }
      return { SignatureValid: true };
    });
  }
}

interface ListInput {
  readonly Prefix: string;
  readonly KeyMarker?: string;
  readonly VersionIdMarker?: string;
}

/** The file that a backup is of: some bytes, and at their end their SHA-256, as etcd has it. */
export function fileOf(backupId: string): Buffer {
  const body = createHash('shake256', { outputLength: 200_000 }).update(backupId).digest();
  return Buffer.concat([body, Buffer.alloc(56_000), createHash('sha256').update(body).digest()]);
}

/** EventBridge's event for a version. */
export function objectCreated({ key, versionId }: { readonly key: string; readonly versionId: string }): unknown {
  return {
    version: '0',
    source: 'aws.s3',
    'detail-type': 'Object Created',
    detail: { bucket: { name: BUCKET }, object: { key, 'version-id': versionId, size: 1 }, reason: 'PutObject' },
  };
}

/** All versions under a prefix, as the product lists them. */
export const versionsOf = (world: World, prefix: string) => listVersions(world.deps.store, prefix);

function sha256Bytes(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** A signature as this world's keys make it, over a digest. */
export function sign(keyArn: string, digest: Uint8Array): Buffer {
  return createHmac('sha512', keyArn).update(digest).digest();
}

function* piecesOf(bytes: Buffer, breaksAfter = Infinity): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 10_000) {
    if (at >= breaksAfter) {
      throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
    }
    yield bytes.subarray(at, at + 10_000);
  }
}
