import * as z from 'zod/mini';
import { check } from '../shared/check';
import { getVersion, listVersions, type ObjectVersion, type Store } from '../shared/store';

const seconds = z.number('a number of seconds');

// Written by functions of this project, also of other versions of it: only what is used is looked at.
const record = z.object({
  revisionAfter: z.optional(z.number('a revision')),
  keptBackupId: z.optional(z.nullable(z.string('a backup id'))),
  seconds: z.optional(z.union([seconds, z.record(z.string(), seconds)], 'seconds')),
  downtimeSeconds: z.optional(z.nullable(seconds)),
  restoredAt: z.optional(z.string('a time')),
  snapshot: z.optional(z.nullable(z.object({ backupId: z.string('a backup id'), sizeBytes: z.number('bytes') }))),
});

/** What is known of an earlier restore, as far as its records say. */
export interface RestoreRecord extends z.output<typeof record> {
  readonly restoreId: string;
}

/** What was done before, from the records in the bucket. */
export interface Records {
  /** Restores that succeeded, oldest first: each begins a timeline. */
  readonly restored: readonly RestoreRecord[];
  /** Highest revision that any record of a restore speaks of, also of one that failed after clients could read; 0: none. */
  readonly highestRevision: number;
  /** The newest drill's record, with its id; null: none yet. */
  readonly lastDrill: RestoreRecord | null;
  /** Records that could not be read. */
  readonly warnings: readonly string[];
}

const RECORD_KEY = /^(?:restores|drills)\/(\d{8}T\d{6}Z)\.json$/;
const ANY_RECORD_KEY = /^restores\/\d{8}T\d{6}Z(?:\/[a-z-]{1,64})?\.json$/;
const MAX_RECORD_BYTES = 1_000_000;
// A plan of an earlier execution says nothing that its receipts do not.
const PLAN = /\/plan\.json$/;
// Of failed ones the newest few: each later restore was above them.
const NEWEST = 20;

/** Reads the records of restores and drills. Throws StoreError when S3 does not answer. */
export async function readRecords(store: Store): Promise<Records> {
  const warnings: string[] = [];
  const restores = firstVersions((await listVersions(store, 'restores/')).versions);
  const drills = firstVersions((await listVersions(store, 'drills/')).versions);
  const restored: RestoreRecord[] = [];
  let highestRevision = 0;
  const recent = restores.filter(({ key }) => ANY_RECORD_KEY.test(key) && !PLAN.test(key)).slice(-NEWEST);
  for (const version of restores.filter((candidate) => RECORD_KEY.test(candidate.key) || recent.includes(candidate))) {
    const found = await readRecord(store, version, warnings);
    highestRevision = Math.max(highestRevision, found?.revisionAfter ?? 0);
    const restoreId = RECORD_KEY.exec(version.key)?.[1];
    if (restoreId !== undefined) {
      // Its key alone says that a timeline begins there.
      restored.push({ ...found, restoreId });
    }
  }
  const lastDrill = drills.findLast(({ key }) => RECORD_KEY.test(key));
  const drill = lastDrill === undefined ? undefined : await readRecord(store, lastDrill, warnings);
  return {
    restored,
    highestRevision,
    lastDrill:
      lastDrill === undefined || drill === undefined
        ? null
        : { ...drill, restoreId: RECORD_KEY.exec(lastDrill.key)?.[1] as string },
    warnings,
  };
}

/** The oldest version of each key, in the order of the keys: what was put over it later says nothing. */
function firstVersions(versions: readonly ObjectVersion[]): ObjectVersion[] {
  return versions.filter(({ key }, index) => versions[index - 1]?.key !== key);
}

async function readRecord(
  store: Store,
  version: ObjectVersion,
  warnings: string[],
): Promise<z.output<typeof record> | undefined> {
  if (version.bytes > MAX_RECORD_BYTES) {
    warnings.push(
      `${version.key} has ${String(version.bytes)} bytes, expected a record of at most 1 MB; it was not read`,
    );
    return undefined;
  }
  const { bytes } = await getVersion(store, version, MAX_RECORD_BYTES);
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    parsed = undefined;
  }
  const checked = check(record, parsed);
  if (!checked.ok) {
    warnings.push(`${version.key} is no record that this version reads; what it says was left out`);
    return undefined;
  }
  return checked.value;
}
