import * as z from 'zod/mini';
import { check } from '../shared/check';
import { getVersion, listVersions, type ObjectVersion, type Store } from '../shared/store';

const seconds = z.number('a number of seconds');
const revision = z.number('a revision');

// Written by functions of this project, also of other versions of it: only what is used is looked at.
const record = z.object({
  revisionAfter: z.optional(revision),
  keptBackupId: z.optional(z.nullable(z.string('a backup id'))),
  seconds: z.optional(z.union([seconds, z.record(z.string(), seconds)], 'seconds')),
  downtimeSeconds: z.optional(z.nullable(seconds)),
  snapshot: z.optional(z.nullable(z.object({ backupId: z.string('a backup id') }))),
});

/** The state in which a restore failed. */
const evidence = z.object({
  state: z.object({
    served: z.boolean('true or false'),
    bump: revision,
    snapshot: z.nullable(z.object({ revision })),
    highestRevision: z.optional(revision),
  }),
});

/** What is known of an earlier restore or drill, as far as its record says. */
export interface ActionRecord extends z.output<typeof record> {
  readonly id: string;
}

/** What was done before, from the records in the bucket. */
export interface Records {
  /** Restores whose data was served, oldest first: each begins a timeline. */
  readonly restored: readonly ActionRecord[];
  /** Highest revision that a restored cluster began with, as far as records say; 0: none. */
  readonly highestRevision: number;
  /** null: there was no drill yet. */
  readonly lastDrill: ActionRecord | null;
  /** Records that could not be read. */
  readonly warnings: readonly string[];
}

/** A plan that was recorded, with the nodes that ran then. */
const planned = z.object({
  plan: z.object({ nodes: z.array(z.object({ instanceId: z.string('an instance id') }), 'a list of nodes') }),
});

const RESTORE_KEY = /^restores\/(\d{8}T\d{6}Z)\.json$/;
const EVIDENCE_KEY = /^restores\/\d{8}T\d{6}Z\/evidence\.json$/;
const DRILL_KEY = /^drills\/(\d{8}T\d{6}Z)\.json$/;
const MAX_RECORD_BYTES = 1_000_000;
// Every restore begins above all revisions that were seen before it, so that of those that failed the newest say enough.
const NEWEST_FAILED = 10;

/** Reads the records of restores and drills. Throws StoreError when S3 does not answer. */
export async function readRecords(store: Store): Promise<Records> {
  const restores = firstVersions((await listVersions(store, 'restores/')).versions);
  const drills = firstVersions((await listVersions(store, 'drills/')).versions);
  const warnings: string[] = [];
  const restored: ActionRecord[] = [];
  const revisions: number[] = [0];
  for (const version of restores) {
    const id = RESTORE_KEY.exec(version.key)?.[1];
    if (id !== undefined) {
      // Its key alone says that a timeline begins there.
      restored.push({ ...(await readRecord(store, version, record, warnings)), id });
    }
  }
  for (const version of restores.filter(({ key }) => EVIDENCE_KEY.test(key)).slice(-NEWEST_FAILED)) {
    const { served, bump, snapshot, highestRevision } =
      (await readRecord(store, version, evidence, warnings))?.state ?? {};
    // A failure after clients had read leaves no other record where a node could not be brought up.
    if (served === true && bump !== undefined && snapshot !== undefined) {
      // An execution that only ends another one's work knows no snapshot, but what the members had come to.
      revisions.push(snapshot === null ? (highestRevision ?? 0) : snapshot.revision + bump);
    }
  }
  const last = drills.findLast(({ key }) => DRILL_KEY.test(key));
  return {
    restored,
    highestRevision: Math.max(...revisions, ...restored.map(({ revisionAfter }) => revisionAfter ?? 0)),
    lastDrill:
      last === undefined
        ? null
        : { ...(await readRecord(store, last, record, warnings)), id: DRILL_KEY.exec(last.key)?.[1] as string },
    warnings,
  };
}

/** The key of a plan's record. */
export function planKey(restoreId: string): string {
  return `restores/${restoreId}/plan.json`;
}

/** Ids of the instances that ran when a restore was planned, empty where no record says. Throws StoreError when S3 does not answer. */
export async function readPlannedNodes(
  store: Store,
  restoreId: string,
): Promise<{ readonly ids: readonly string[]; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  const { versions } = await listVersions(store, planKey(restoreId));
  const [version] = versions.filter(({ key }) => key === planKey(restoreId));
  const record = version === undefined ? undefined : await readRecord(store, version, planned, warnings);
  return { ids: record?.plan.nodes.map(({ instanceId }) => instanceId) ?? [], warnings };
}

/** The oldest version of each key, in the order of the keys: what was put over it later says nothing. */
function firstVersions(versions: readonly ObjectVersion[]): ObjectVersion[] {
  return versions.filter(({ key }, index) => versions[index - 1]?.key !== key);
}

async function readRecord<Schema extends z.core.$ZodType>(
  store: Store,
  version: ObjectVersion,
  schema: Schema,
  warnings: string[],
): Promise<z.output<Schema> | undefined> {
  if (version.bytes > MAX_RECORD_BYTES) {
    warnings.push(
      `${version.key} has ${String(version.bytes)} bytes, expected at most 1 MB; what it says was left out`,
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
  const checked = check(schema, parsed);
  if (!checked.ok) {
    warnings.push(`${version.key} is no record that this version reads; what it says was left out`);
    return undefined;
  }
  return checked.value;
}
