import { backupIdBefore, backupIdOf } from '../shared/backup-id';
import { SettleError } from '../shared/errors';
import { inParallel } from '../shared/in-parallel';
import { findReceipt, type Receipt, type ReceiptDeps } from '../shared/receipt';
import { type Keep, lockUntil, type Retention, type RetentionClass, RETENTIONS, settle } from '../shared/retention';
import {
  extendLock,
  getRetentionTag,
  listVersions,
  type ObjectVersion,
  putRetentionTag,
  type Store,
} from '../shared/store';
import { backupIdOfSnapshot } from './event';
import { listReceiptIds } from './previous-receipt';

export interface SettleDeps extends ReceiptDeps {
  readonly keep: Keep;
  readonly now: () => Date;
}

/** A verified backup, with the tag that its version carries. */
export interface Verified {
  readonly backupId: string;
  readonly version: ObjectVersion;
  readonly class: RetentionClass;
  readonly tag: Retention | undefined;
  /** Read only where its tag does not say its class. */
  readonly receipt: Receipt | undefined;
}

/** What settling changed. */
export interface Settled {
  readonly tags: readonly { readonly backupId: string; readonly tag: Retention }[];
  readonly locks: number;
}

const HOUR_SECONDS = 60 * 60;
const RECENT_HOURS = 48;
const RECENT_COUNT = 20;
const LOOK_BACK_HOURS = [RECENT_HOURS, 35 * 24, undefined] as const;

/**
 * Locks and tags what was verified of late: the newest is `latest`, every other has its class. Each version is locked before it is tagged,
 * and the newest goes first: whatever run dies in between, at least one stays `latest`, and the next run finds by the tags what is left to do.
 *
 * One version whose lock or tag is refused keeps none of the others from theirs. Throws SettleError with all of these at the end, and at
 * once when the newest cannot be tagged: then no other may lose its `latest`.
 */
export async function settleRecent(deps: SettleDeps, current: Receipt): Promise<Settled> {
  const { store } = deps;
  const ids = new Set([...(await recentIds(deps)), current.backupId]);
  const verified = await readVerified(deps, [...ids].sort(), current);
  const tags: { backupId: string; tag: Retention }[] = [];
  let locks = 0;
  const own = verified.find(({ backupId }) => backupId === current.backupId);
  const locked = new Set<string>();
  const lock = async (backup: Verified): Promise<void> => {
    if (!locked.has(backup.backupId)) {
      locked.add(backup.backupId);
      locks += Number(await extendOwnLock(deps, backup));
    }
  };
  const writes = settle(
    verified.map(({ backupId, version, class: klass, tag }) => ({
      backupId,
      versionId: version.versionId,
      class: klass,
      tag,
    })),
  );
  const refused: unknown[] = [];
  const attempt = async (work: () => Promise<void>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      refused.push(error);
      return false;
    }
  };
  for (const { backupId, tag } of writes) {
    const backup = verified.find((one) => one.backupId === backupId) as Verified;
    const isLocked = await attempt(() => lock(backup));
    // A class without its lock would not be looked at again; the newest is, when it is not the newest any more.
    if (!isLocked && tag !== 'latest') {
      continue;
    }
    if (await attempt(() => putRetentionTag(store, backup.version, tag))) {
      tags.push({ backupId, tag });
    } else if (tag === 'latest') {
      break;
    }
  }
  if (own !== undefined) {
    // The configuration may keep its class for longer since it was locked.
    await attempt(() => lock(own));
  }
  if (refused.length > 0) {
    throw new SettleError(refused);
  }
  return { tags, locks };
}

/** Ids with a receipt of the last 48 hours, but at least the newest 20. */
async function recentIds({ store, now }: SettleDeps): Promise<string[]> {
  const nowId = backupIdOf(now());
  for (const hours of LOOK_BACK_HOURS) {
    const ids = await listReceiptIds(
      store,
      hours === undefined ? undefined : backupIdBefore(nowId, hours * HOUR_SECONDS),
    );
    if (ids.length >= RECENT_COUNT || hours === undefined) {
      return hours === RECENT_HOURS ? ids : ids.slice(-RECENT_COUNT);
    }
  }
  return [];
}

/**
 * Which of these backups are verified, oldest first. A class in the tag says it, as only this function writes those; where the tag is another, the
 * receipt does. Passed over is what has no snapshot any more, and what has no receipt that can be trusted.
 */
export async function readVerified(deps: ReceiptDeps, ids: readonly string[], current?: Receipt): Promise<Verified[]> {
  const oldest = ids[0];
  if (oldest === undefined) {
    return [];
  }
  // The key before the oldest: a marker is left out of what it begins.
  const { versions } = await listVersions(deps.store, 'snapshots/', `snapshots/${oldest}`);
  const byId = Map.groupBy(versions, ({ key }) => backupIdOfSnapshot(key));
  return (
    await inParallel(ids, (id) => readOne(deps, id, byId.get(id) ?? [], current?.backupId === id ? current : undefined))
  ).flat();
}

async function readOne(
  deps: ReceiptDeps,
  backupId: string,
  versions: readonly ObjectVersion[],
  current: Receipt | undefined,
): Promise<Verified[]> {
  const [only] = versions;
  if (only === undefined) {
    return [];
  }
  if (versions.length === 1 && current === undefined) {
    const tag = await readTag(deps.store, only);
    if (tag !== undefined && isClass(tag)) {
      return [{ backupId, version: only, class: tag, tag, receipt: undefined }];
    }
  }
  const receipt = current ?? (await findReceipt(deps, backupId)).receipt;
  const version = versions.find(({ key, versionId }) => receipt?.key === key && receipt.versionId === versionId);
  if (receipt === undefined || version === undefined) {
    return [];
  }
  return [{ backupId, version, class: receipt.class, tag: await readTag(deps.store, version), receipt }];
}

async function extendOwnLock(deps: SettleDeps, backup: Verified): Promise<boolean> {
  // A class in the tag was written after its lock: its receipt is read for no other reason.
  const keepDays = backup.receipt?.keepDays ?? null;
  const until = lockUntil({ class: backup.class, storedAt: backup.version.storedAt, keepDays }, deps.keep);
  // S3 refuses a lock that ends in the past.
  return until > deps.now() && extendLock(deps.store, backup.version, until);
}

async function readTag(store: Store, version: ObjectVersion): Promise<Retention | undefined> {
  const tag = await getRetentionTag(store, version);
  return RETENTIONS.find((retention) => retention === tag);
}

function isClass(tag: Retention): tag is RetentionClass {
  return tag !== 'pending' && tag !== 'failed' && tag !== 'latest';
}
