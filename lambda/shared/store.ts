import {
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type PutObjectCommandInput,
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
  const keys: string[] = [];
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
    keys.push(...(answer.Contents ?? []).flatMap(({ Key }) => Key ?? []));
    token = answer.NextContinuationToken;
    if (token === undefined) {
      return keys;
    }
  }
  throw new StoreError(
    `keys under s3://${store.bucket}/${prefix} after '${startAfter ?? ''}': got more than ${String(keys.length)}, expected fewer; find out what else writes there`,
  );
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
