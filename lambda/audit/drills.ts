import { ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { describeError, DrillRecordError, StoreError } from '../shared/errors';
import { type DrillRecord, drillIdOf, MAX_DRILL_RECORD_BYTES, readDrillRecord } from '../shared/drill-record';
import { getVersion, listVersions, type ObjectVersion, type Store } from '../shared/store';

/** Since when no drill has proven a backup: when S3 stored that object. */
export interface DrilledSince {
  readonly key: string;
  readonly storedAt: Date;
}

// A month of days without one is no better than none.
const MAX_LOOKED_AT = 30;

/**
 * The record of the newest drill that proved a backup; undefined when none of the newest 30 did. A record that cannot be read proves nothing.
 */
export async function findProvenDrill(store: Store, clusterName: string): Promise<DrilledSince | undefined> {
  const { versions } = await listVersions(store, 'drills/');
  for (const version of firstVersions(versions).slice(-MAX_LOOKED_AT).reverse()) {
    const record = await readRecord(store, version);
    if (record?.outcome === 'proven' && record.cluster === clusterName) {
      return version;
    }
  }
  return undefined;
}

/**
 * The receipt that was stored first, trusted or not: from then on there was something to drill. Not the oldest snapshot, which would never be as
 * old as a rare drill: receipts do not expire. Undefined when nothing was ever verified. Throws StoreError when S3 does not answer.
 */
export async function findFirstReceipt({ s3, bucket, bucketOwner }: Store): Promise<DrilledSince | undefined> {
  try {
    // One page: S3 lists by key, and a key begins with its time. More than the first of it, since an id may name a time long before its own.
    const { Versions = [] } = await s3.send(
      new ListObjectVersionsCommand({ Bucket: bucket, Prefix: 'receipts/', ExpectedBucketOwner: bucketOwner }),
    );
    return Versions.flatMap(({ Key: key, LastModified: storedAt }) =>
      key === undefined || storedAt === undefined ? [] : { key, storedAt },
    ).reduce<DrilledSince | undefined>(
      (first, one) => (first === undefined || one.storedAt < first.storedAt ? one : first),
      undefined,
    );
  } catch (error) {
    throw new StoreError(
      `ListObjectVersions s3://${bucket}/receipts/: got ${describeError(error)}, expected the first receipts; check the function's role and the bucket's policy`,
      error,
    );
  }
}

/** The oldest version of each record, in the order of their ids: what was put over it later says nothing. */
function firstVersions(versions: readonly ObjectVersion[]): ObjectVersion[] {
  return versions.filter(({ key }, index) => drillIdOf(key) !== undefined && versions[index - 1]?.key !== key);
}

async function readRecord(store: Store, version: ObjectVersion): Promise<DrillRecord | undefined> {
  if (version.bytes > MAX_DRILL_RECORD_BYTES) {
    return undefined;
  }
  const { bytes } = await getVersion(store, version, MAX_DRILL_RECORD_BYTES);
  try {
    return readDrillRecord(version.key, bytes);
  } catch (error) {
    if (error instanceof DrillRecordError) {
      return undefined;
    }
    throw error;
  }
}
