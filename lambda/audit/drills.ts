import { DrillRecordError } from '../shared/errors';
import { type DrillRecord, drillIdOf, MAX_DRILL_RECORD_BYTES, readDrillRecord } from '../shared/drill-record';
import { getVersion, listVersions, type ObjectVersion, type Store } from '../shared/store';

/** The newest drill that proved a backup, and when S3 stored its record. */
export interface ProvenDrill {
  readonly record: DrillRecord;
  readonly storedAt: Date;
}

// A month of days without one is no better than none.
const MAX_LOOKED_AT = 30;

/** Undefined when none of the newest 30 drills proved a backup. A record that cannot be read proves nothing. */
export async function findProvenDrill(store: Store, clusterName: string): Promise<ProvenDrill | undefined> {
  const { versions } = await listVersions(store, 'drills/');
  for (const version of firstVersions(versions).slice(-MAX_LOOKED_AT).reverse()) {
    const record = await readRecord(store, version);
    if (record?.outcome === 'proven' && record.cluster === clusterName) {
      return { record, storedAt: version.storedAt };
    }
  }
  return undefined;
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
