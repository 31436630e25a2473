import type { ExpectedExpiry } from '../audit/lifecycle';
import { readRestores } from '../audit/newest';
import { justBefore } from '../audit/stored';
import { newestAmong } from '../plan/choose-snapshot';
import { timeOf } from '../shared/backup-id';
import { type DrillRecord, drillIdOf, MAX_DRILL_RECORD_BYTES, readDrillRecord } from '../shared/drill-record';
import { DrillRecordError } from '../shared/errors';
import { inParallel } from '../shared/in-parallel';
import { findReceipt, type Receipt, type ReceiptDeps } from '../shared/receipt';
import { getRetentionTag, getVersion, listVersions, type ObjectVersion, type Versions } from '../shared/store';
import { listReceiptIds } from '../verify/previous-receipt';
import {
  type BackupLine,
  type DashboardModel,
  type Found,
  type Listed,
  listedBackups,
  newestBundle,
  type PkiBundles,
  toLine,
} from './model';

/** What reading the newest backups needs. */
export interface NewestBackupsDeps extends ReceiptDeps {
  readonly expiry: ExpectedExpiry;
  readonly recoveryPointSeconds: number;
  readonly drillTooOldSeconds: number;
  /** Undefined where the cluster keeps no PKI bundles. */
  readonly pkiTooOldSeconds: number | undefined;
  readonly restoreMachineArn: string;
  readonly now: () => Date;
}

/** As many as fit on a screen. */
export const SHOWN = 20;

// For the newest proof, when none of those that are shown is verified.
const MAX_LOOKED_AT = 40;
// One a day, and some by hand.
const DRILLS = 20;
const CLOCKS_DIFFER_MILLISECONDS = 300_000;

type Restored = Awaited<ReturnType<typeof readRestores>>['restored'];

/**
 * The newest backups, each by its version: some 100 requests beside the lists, and some 120 more at most when none of those that are shown is
 * verified. Throws StoreError or SigningKeyError when S3 or KMS do not answer.
 */
export async function readNewestBackups(deps: NewestBackupsDeps): Promise<DashboardModel> {
  const now = deps.now();
  const snapshots = await listVersions(deps.store, 'snapshots/');
  const backups = listedBackups(snapshots);
  const shown = backups.slice(0, SHOWN);
  const oldestShown = shown.at(-1)?.backupId;
  const [receiptIds, { restored }, { drills, warnings }, pki] = await Promise.all([
    // Receipts never expire, so there are far more of them than backups.
    oldestShown === undefined ? [] : listReceiptIds(deps.store, justBefore(oldestShown)),
    readRestores(deps.store),
    readDrills(deps),
    readBundles(deps),
  ]);
  const context = { drills, expiry: deps.expiry, now };
  const recent = new Set(receiptIds);
  const lines = await inParallel(shown, async (listed) =>
    toLine(listed, await find(deps, listed, recent.has(listed.backupId)), context),
  );
  const newest = await findNewestProof(deps, { snapshots, backups, recent, restored });
  return {
    cluster: deps.clusterName,
    now,
    recoveryPointSeconds: deps.recoveryPointSeconds,
    drillTooOldSeconds: deps.drillTooOldSeconds,
    lines,
    newestProof: newest === undefined ? undefined : lineOf(newest, lines, backups, context),
    stored: backups.length,
    markedDeleted: backups.filter(({ deleteMarkers }) => deleteMarkers > 0).length,
    restores: restored.map(({ id }) => id).filter((id) => oldestShown !== undefined && id > oldestShown),
    lastDrill: drills.at(-1),
    pki,
    warnings,
    restoreMachineArn: deps.restoreMachineArn,
  };
}

async function find(deps: NewestBackupsDeps, { backupId, versions }: Listed, hasReceipt: boolean): Promise<Found> {
  const { receipt, untrusted } = hasReceipt ? await findReceipt(deps, backupId) : { receipt: undefined, untrusted: [] };
  const newest = versions.at(-1);
  const tag =
    receipt === undefined && untrusted.length === 0 && newest !== undefined
      ? await getRetentionTag(deps.store, newest)
      : undefined;
  return { receipt, untrusted, tag };
}

/** What a restore would choose now. However long nothing was verified, the page says how old the newest proof is. */
async function findNewestProof(
  deps: NewestBackupsDeps,
  bucket: {
    readonly snapshots: Versions;
    readonly backups: readonly Listed[];
    readonly recent: ReadonlySet<string>;
    readonly restored: Restored;
  },
): Promise<Receipt | undefined> {
  const { snapshots, backups, recent, restored } = bucket;
  const among = (withReceipt: ReadonlySet<string>) =>
    newestAmong(deps, { snapshots, withReceipt }, restored, { maxLookedAt: MAX_LOOKED_AT });
  const { chosen, earlier } = await among(recent);
  const oldest = backups.at(-1)?.backupId;
  if (chosen !== undefined || earlier !== undefined || oldest === undefined || backups.length <= SHOWN) {
    return chosen?.receipt;
  }
  return (await among(new Set(await listReceiptIds(deps.store, justBefore(oldest))))).chosen?.receipt;
}

function lineOf(
  receipt: Receipt,
  lines: readonly BackupLine[],
  backups: readonly Listed[],
  context: Parameters<typeof toLine>[2],
): BackupLine | undefined {
  const listed = backups.find(({ backupId }) => backupId === receipt.backupId);
  return (
    lines.find(({ backupId }) => backupId === receipt.backupId) ??
    (listed === undefined ? undefined : toLine(listed, { receipt, untrusted: [], tag: undefined }, context))
  );
}

/** What can be seen of the bundles without the right to read one. */
async function readBundles({ store, pkiTooOldSeconds }: NewestBackupsDeps): Promise<PkiBundles | undefined> {
  return pkiTooOldSeconds === undefined
    ? undefined
    : { newest: newestBundle(await listVersions(store, 'pki/')), tooOldSeconds: pkiTooOldSeconds };
}

/** The newest drills, oldest first, each by its oldest version: what was put over it later says nothing. */
async function readDrills(
  deps: NewestBackupsDeps,
): Promise<{ readonly drills: readonly DrillRecord[]; readonly warnings: readonly string[] }> {
  const { versions } = await listVersions(deps.store, 'drills/');
  const first = versions.filter(({ key }, index) => drillIdOf(key) !== undefined && versions[index - 1]?.key !== key);
  const read = await inParallel(first.slice(-DRILLS), (version) => readDrill(deps, version));
  return {
    drills: read.flatMap((result) => (typeof result === 'string' ? [] : result)),
    warnings: read.filter((result) => typeof result === 'string'),
  };
}

/** The record, or a sentence that says why it is none. */
async function readDrill(deps: NewestBackupsDeps, version: ObjectVersion): Promise<DrillRecord | string> {
  if (version.bytes > MAX_DRILL_RECORD_BYTES) {
    return `${version.key}: got ${String(version.bytes)} bytes, expected at most ${String(MAX_DRILL_RECORD_BYTES)}; find out in CloudTrail who wrote it`;
  }
  const { bytes } = await getVersion(deps.store, version, MAX_DRILL_RECORD_BYTES);
  try {
    const record = readDrillRecord(version.key, bytes);
    if (!(timeOf(record.drillId).getTime() < version.storedAt.getTime() + CLOCKS_DIFFER_MILLISECONDS)) {
      return `${version.key}: got a drill of a time after that at which its record was stored, or of none, expected one of before; find out in CloudTrail who wrote it`;
    }
    return record.cluster === deps.clusterName
      ? record
      : `${version.key}: got the record of a drill of cluster '${record.cluster.slice(0, 100)}', expected '${deps.clusterName}'; it was copied from elsewhere`;
  } catch (error) {
    if (error instanceof DrillRecordError) {
      return error.message;
    }
    throw error;
  }
}
