import {
  GetObjectCommand,
  type GetObjectCommandOutput,
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  type ObjectLockRetentionMode,
  PutObjectCommand,
  type PutObjectCommandInput,
  PutObjectRetentionCommand,
  PutObjectTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { createHash } from 'node:crypto';
import { describeError, StoreError } from './errors';

/** The bucket, and what every request to it names. */
export interface Store {
  readonly s3: S3Client;
  readonly bucket: string;
  /** 12-digit account id: a bucket of somebody else with our name is refused. */
  readonly bucketOwner: string;
  readonly snapshotKeyArn: string;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** What every object is written with: our key, never over another object, checked by S3 against its SHA-256. */
export function putInput(
  store: Store,
  object: { readonly key: string; readonly sha256: string; readonly contentLength: number },
): PutObjectCommandInput {
  return {
    Bucket: store.bucket,
    Key: object.key,
    ContentLength: object.contentLength,
    ChecksumSHA256: Buffer.from(object.sha256, 'hex').toString('base64'),
    ExpectedBucketOwner: store.bucketOwner,
    IfNoneMatch: '*',
    ServerSideEncryption: 'aws:kms',
    SSEKMSKeyId: store.snapshotKeyArn,
  };
}

const PUT_ATTEMPTS = 5;
const PUT_PAUSE_MILLISECONDS = 500;

/** Writes an object unless the key exists. Throws StoreError when S3 refuses for another reason. */
export async function putNew(
  store: Store,
  object: { readonly key: string; readonly body: Buffer; readonly metadata?: Readonly<Record<string, string>> },
): Promise<'created' | 'exists'> {
  const { key, body } = object;
  for (let attempt = 1; ; attempt++) {
    try {
      await store.s3.send(
        new PutObjectCommand({
          ...putInput(store, { key, sha256: sha256Hex(body), contentLength: body.length }),
          Body: body,
          ...(object.metadata === undefined ? {} : { Metadata: object.metadata }),
        }),
      );
      return 'created';
    } catch (error) {
      if (httpStatus(error) === 412) {
        return 'exists';
      }
      // 409: another conditional write of this key is under way. Once it is done, S3 knows whether the key exists.
      if (httpStatus(error) !== 409 || attempt === PUT_ATTEMPTS) {
        throw storeError('PutObject', store, key, error);
      }
      await store.sleep(attempt * PUT_PAUSE_MILLISECONDS);
    }
  }
}

/** An object's bytes and metadata, or undefined when there is none. */
export async function getObject(
  store: Store,
  key: string,
): Promise<{ readonly bytes: Buffer; readonly metadata: Readonly<Record<string, string>> } | undefined> {
  try {
    const answer = await store.s3.send(
      new GetObjectCommand({ Bucket: store.bucket, Key: key, ExpectedBucketOwner: store.bucketOwner }),
    );
    const bytes = Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
    return { bytes, metadata: answer.Metadata ?? {} };
  } catch (error) {
    if (httpStatus(error) === 404) {
      return undefined;
    }
    throw storeError('GetObject', store, key, error);
  }
}

/** An object's metadata, or undefined when there is none. No checksum is asked for: that would need the right to decrypt. */
export async function headObject(store: Store, key: string): Promise<Readonly<Record<string, string>> | undefined> {
  try {
    const answer = await store.s3.send(
      new HeadObjectCommand({ Bucket: store.bucket, Key: key, ExpectedBucketOwner: store.bucketOwner }),
    );
    return answer.Metadata ?? {};
  } catch (error) {
    if (httpStatus(error) === 404) {
      return undefined;
    }
    throw storeError('HeadObject', store, key, error);
  }
}

// 50,000 keys: a backup every five minutes for 35 days makes a fifth of that under each prefix.
const LIST_PAGES = 50;

/** Keys under a prefix, in order, from after `startAfter` on. Throws StoreError when there are more than 50,000. */
export async function listKeys(store: Store, prefix: string, startAfter?: string): Promise<string[]> {
  return (await listObjects(store, prefix, startAfter)).map(({ key }) => key);
}

/** The same with the time at which each was stored. */
export async function listObjects(
  store: Store,
  prefix: string,
  startAfter?: string,
): Promise<{ readonly key: string; readonly storedAt: Date }[]> {
  const objects: { readonly key: string; readonly storedAt: Date }[] = [];
  let token: string | undefined;
  for (let page = 1; page <= LIST_PAGES; page++) {
    let answer;
    try {
      answer = await store.s3.send(
        new ListObjectsV2Command({
          Bucket: store.bucket,
          Prefix: prefix,
          ExpectedBucketOwner: store.bucketOwner,
          ...(token === undefined
            ? startAfter === undefined
              ? {}
              : { StartAfter: startAfter }
            : { ContinuationToken: token }),
        }),
      );
    } catch (error) {
      throw storeError('ListObjectsV2', store, prefix, error);
    }
    for (const { Key, LastModified } of answer.Contents ?? []) {
      if (Key === undefined || LastModified === undefined) {
        throw new StoreError(
          `ListObjectsV2 s3://${store.bucket}/${prefix}: got an object without key or time, expected both; find out what answers in place of S3`,
        );
      }
      objects.push({ key: Key, storedAt: LastModified });
    }
    token = answer.NextContinuationToken;
    if (token === undefined) {
      return objects;
    }
  }
  throw new StoreError(
    `keys under s3://${store.bucket}/${prefix} after '${startAfter ?? ''}': got more than ${String(objects.length)}, expected fewer; find out what else writes there`,
  );
}

/** One version of an object, by which it is read whatever lies over it. */
export interface VersionId {
  readonly key: string;
  readonly versionId: string;
}

/** A version as a list shows it. */
export interface ObjectVersion extends VersionId {
  readonly storedAt: Date;
  readonly bytes: number;
}

/** All versions under a prefix: by key, and of one key the oldest first. */
export interface Versions {
  readonly versions: readonly ObjectVersion[];
  readonly deleteMarkers: readonly VersionId[];
}

// Receipts never expire: 500,000 are those of a backup every five minutes for four years and nine months.
const VERSION_LIST_PAGES = 500;

/** Versions and delete markers of the keys under a prefix, from after the key `afterKey` on. Throws StoreError when there are more than 500,000. */
export async function listVersions(store: Store, prefix: string, afterKey?: string): Promise<Versions> {
  const newestFirst: ObjectVersion[] = [];
  const deleteMarkers: VersionId[] = [];
  let marker: { KeyMarker?: string; VersionIdMarker?: string } = afterKey === undefined ? {} : { KeyMarker: afterKey };
  for (let page = 1; page <= VERSION_LIST_PAGES; page++) {
    let answer;
    try {
      answer = await store.s3.send(
        new ListObjectVersionsCommand({
          Bucket: store.bucket,
          Prefix: prefix,
          ExpectedBucketOwner: store.bucketOwner,
          ...marker,
        }),
      );
    } catch (error) {
      throw storeError('ListObjectVersions', store, prefix, error);
    }
    for (const { Key, VersionId, LastModified, Size } of answer.Versions ?? []) {
      if (Key === undefined || VersionId === undefined || LastModified === undefined || Size === undefined) {
        throw new StoreError(
          `ListObjectVersions s3://${store.bucket}/${prefix}: got a version without key, id, time or size, expected all four; find out what answers in place of S3`,
        );
      }
      newestFirst.push({ key: Key, versionId: VersionId, storedAt: LastModified, bytes: Size });
    }
    for (const { Key, VersionId } of answer.DeleteMarkers ?? []) {
      deleteMarkers.push({ key: Key ?? '', versionId: VersionId ?? '' });
    }
    if (answer.IsTruncated !== true) {
      // S3 lists the versions of a key from the newest to the oldest. Sorting is stable, so times of one second do not change that.
      const versions = newestFirst.reverse().toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
      return { versions, deleteMarkers };
    }
    marker = {
      ...(answer.NextKeyMarker === undefined ? {} : { KeyMarker: answer.NextKeyMarker }),
      ...(answer.NextVersionIdMarker === undefined ? {} : { VersionIdMarker: answer.NextVersionIdMarker }),
    };
  }
  throw new StoreError(
    `versions under s3://${store.bucket}/${prefix} after '${afterKey ?? ''}': got more than ${String(newestFirst.length + deleteMarkers.length)}, expected fewer; find out what else writes there`,
  );
}

/** What S3 says of a version without its body. */
export interface VersionHead {
  readonly metadata: Readonly<Record<string, string>>;
  readonly bytes: number;
  /** Hex, of the stored bytes; undefined when it was stored without one. */
  readonly sha256: string | undefined;
}

/** Metadata, length and checksum of a version. The checksum needs the right to decrypt. */
export async function headVersion(store: Store, version: VersionId): Promise<VersionHead> {
  try {
    const answer = await store.s3.send(
      new HeadObjectCommand({ ...versionInput(store, version), ChecksumMode: 'ENABLED' }),
    );
    const { ContentLength, ChecksumSHA256 } = answer;
    return {
      metadata: answer.Metadata ?? {},
      bytes: ContentLength ?? 0,
      sha256: ChecksumSHA256 === undefined ? undefined : Buffer.from(ChecksumSHA256, 'base64').toString('hex'),
    };
  } catch (error) {
    throw versionError('HeadObject', store, version, error);
  }
}

/** A version's bytes and metadata. Throws StoreError when there are more than `maxBytes`. */
export async function getVersion(
  store: Store,
  version: VersionId,
  maxBytes: number,
): Promise<{ readonly bytes: Buffer; readonly metadata: Readonly<Record<string, string>> }> {
  const answer = await openVersion(store, version);
  const length = answer.ContentLength ?? 0;
  if (length > maxBytes) {
    throw new StoreError(
      `s3://${store.bucket}/${version.key} version ${version.versionId}: got ${String(length)} bytes, expected at most ${String(maxBytes)}; find out in CloudTrail who wrote it`,
    );
  }
  try {
    return {
      bytes: Buffer.from((await answer.Body?.transformToByteArray()) ?? []),
      metadata: answer.Metadata ?? {},
    };
  } catch (error) {
    throw versionError('GetObject', store, version, error);
  }
}

/** Begins to read a version, from the byte `from` on. */
export async function openVersion(store: Store, version: VersionId, from = 0): Promise<GetObjectCommandOutput> {
  try {
    return await store.s3.send(
      new GetObjectCommand({
        ...versionInput(store, version),
        ...(from === 0 ? {} : { Range: `bytes=${String(from)}-` }),
      }),
    );
  } catch (error) {
    throw versionError('GetObject', store, version, error);
  }
}

const TAG = 'retention';

/** The value of a version's tag `retention`, or undefined when it has none. */
export async function getRetentionTag(store: Store, version: VersionId): Promise<string | undefined> {
  try {
    const { TagSet } = await store.s3.send(new GetObjectTaggingCommand(versionInput(store, version)));
    return TagSet?.find(({ Key }) => Key === TAG)?.Value;
  } catch (error) {
    throw versionError('GetObjectTagging', store, version, error);
  }
}

/** Makes `retention` a version's one tag. */
export async function putRetentionTag(store: Store, version: VersionId, retention: string): Promise<void> {
  try {
    await store.s3.send(
      new PutObjectTaggingCommand({
        ...versionInput(store, version),
        Tagging: { TagSet: [{ Key: TAG, Value: retention }] },
      }),
    );
  } catch (error) {
    throw versionError('PutObjectTagging', store, version, error);
  }
}

/** Extends a version's lock to `until`, unless it holds that long already. Returns whether it had to. */
export async function extendLock(store: Store, version: VersionId, until: Date): Promise<boolean> {
  const current = await getLock(store, version);
  if (current?.until !== undefined && current.until >= until) {
    return false;
  }
  try {
    await store.s3.send(
      new PutObjectRetentionCommand({
        ...versionInput(store, version),
        // A bucket whose owner chose compliance keeps it: S3 takes no weaker mode over a stronger one.
        Retention: { Mode: current?.mode ?? 'GOVERNANCE', RetainUntilDate: until },
      }),
    );
    return true;
  } catch (error) {
    throw versionError('PutObjectRetention', store, version, error);
  }
}

/** How a version is locked; undefined when it is not, or never was. */
export async function getLock(
  store: Store,
  version: VersionId,
): Promise<{ readonly mode: ObjectLockRetentionMode | undefined; readonly until: Date | undefined } | undefined> {
  try {
    const { Retention } = await store.s3.send(new GetObjectRetentionCommand(versionInput(store, version)));
    return { mode: Retention?.Mode, until: Retention?.RetainUntilDate };
  } catch (error) {
    if (error instanceof Error && error.name === 'NoSuchObjectLockConfiguration') {
      return undefined;
    }
    throw versionError('GetObjectRetention', store, version, error);
  }
}

function versionInput(store: Store, { key, versionId }: VersionId) {
  return { Bucket: store.bucket, Key: key, VersionId: versionId, ExpectedBucketOwner: store.bucketOwner };
}

function versionError(operation: string, store: Store, { key, versionId }: VersionId, error: unknown): StoreError {
  return storeError(operation, store, `${key} version ${versionId}`, error);
}

/** SHA-256 in lower-case hex. */
export function sha256Hex(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The status of S3's answer, or undefined when there was none. */
export function httpStatus(error: unknown): number | undefined {
  return error instanceof Error && '$metadata' in error
    ? (error.$metadata as { readonly httpStatusCode?: number }).httpStatusCode
    : undefined;
}

function storeError(operation: string, store: Store, key: string, error: unknown): StoreError {
  return new StoreError(
    `${operation} s3://${store.bucket}/${key}: got ${describeError(error)} (HTTP ${String(httpStatus(error) ?? 'none')}), expected success; check the function's role, the bucket's policy and the key's`,
    error,
  );
}
