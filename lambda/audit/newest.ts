import * as z from 'zod/mini';
import { type Newest, newestAmong, type Stored } from '../plan/choose-snapshot';
import { timeOf } from '../shared/backup-id';
import { check } from '../shared/check';
import type { Receipt, ReceiptDeps } from '../shared/receipt';
import { extendLock, getLock, getVersion, listVersions, type ObjectVersion, type Store } from '../shared/store';

const RESTORE_KEY = /^restores\/(\d{8}T\d{6}Z)\.json$/;
const MAX_RECORD_BYTES = 1_000_000;
// Every one takes three calls. With so many that cannot be trusted in a row, it makes no difference what comes before them.
const MAX_LOOKED_AT = 50;

const revisionAfter = z.object({ revisionAfter: z.optional(z.number('a revision')) });

/** Records of restores, as far as a timeline depends on them: the last one begins the timeline of now. */
export type Restored = readonly { readonly id: string; readonly revisionAfter?: number | undefined }[];

/** The versions under `restores/`, and what of them begins a timeline. */
export interface Restores {
  readonly versions: readonly ObjectVersion[];
  readonly restored: Restored;
}

/** Lists what restores have left, and reads the newest record. Throws StoreError when S3 does not answer. */
export async function readRestores(store: Store): Promise<Restores> {
  const { versions } = await listVersions(store, 'restores/');
  const records = versions.filter(({ key }, index) => RESTORE_KEY.test(key) && versions[index - 1]?.key !== key);
  const ids = records.map(({ key }) => ({ id: RESTORE_KEY.exec(key)?.[1] as string }));
  const last = records.at(-1);
  const id = ids.at(-1)?.id;
  if (last === undefined || id === undefined) {
    return { versions, restored: [] };
  }
  return { versions, restored: [...ids.slice(0, -1), { id, ...(await readRevision(store, last)) }] };
}

/** Its key alone says that a timeline begins there: a record that cannot be read only says no revision. */
async function readRevision(store: Store, version: ObjectVersion): Promise<z.output<typeof revisionAfter>> {
  if (version.bytes > MAX_RECORD_BYTES) {
    return {};
  }
  const { bytes } = await getVersion(store, version, MAX_RECORD_BYTES);
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    parsed = undefined;
  }
  const checked = check(revisionAfter, parsed);
  return checked.ok ? checked.value : {};
}

/** The backup that a restore would choose now. Throws when S3 or KMS do not answer. */
export function findNewest(deps: ReceiptDeps, stored: Stored, { restored }: Restores): Promise<Newest> {
  return newestAmong(deps, stored, restored, { maxLookedAt: MAX_LOOKED_AT });
}

/** The version that a receipt proves; undefined when it is not in the bucket any more. */
export function versionOf({ key, versionId }: Receipt, { snapshots }: Stored): ObjectVersion | undefined {
  return snapshots.versions.find((version) => version.key === key && version.versionId === versionId);
}

/**
 * The moment that a stored backup is as old as: that of its trigger, which its id names, whenever it was stored; but no later than that, since an
 * id may name a time that lies ahead, or none at all.
 */
export function savedAt(backupId: string, storedAt: Date): Date {
  const named = timeOf(backupId);
  return named < storedAt ? named : storedAt;
}

const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

/**
 * Until when the newest verified backup is to be locked from now on; undefined when it is locked for long enough. While no newer one comes, it
 * stays locked for at least half of what everything here is locked for when it is stored.
 */
export function lockNewestUntil(lockedUntil: Date | undefined, now: Date, lockDays: number): Date | undefined {
  const span = lockDays * DAY_MILLISECONDS;
  const left = (lockedUntil?.getTime() ?? 0) - now.getTime();
  return left < span / 2 ? new Date(now.getTime() + span) : undefined;
}

/** Extends the lock of the newest verified backup when it is about to end. Returns whether it was. */
export async function lockNewest(
  store: Store,
  version: ObjectVersion,
  { now, lockDays }: { readonly now: Date; readonly lockDays: number },
): Promise<boolean> {
  const until = lockNewestUntil((await getLock(store, version))?.until, now, lockDays);
  return until !== undefined && (await extendLock(store, version, until));
}
