import { backupIdOf } from '../shared/backup-id';
import { RestoreRefusedError } from '../shared/errors';
import { findReceipt, type Receipt, type ReceiptDeps } from '../shared/receipt';
import type { RestoreRequest } from '../shared/restore-state';
import { listVersions, type Versions } from '../shared/store';
import { backupIdOfSnapshot } from '../verify/event';
import { listReceiptIds } from '../verify/previous-receipt';
import type { ActionRecord, Records } from './records';

/** A backup that can be restored: its trusted receipt, and that its version lies in the bucket. */
export interface Chosen {
  readonly receipt: Receipt;
  /** What lies over it, and which newer ones were passed over. */
  readonly warnings: readonly string[];
}

// A backup every five minutes makes 288 a day: whoever finds that many receipts without proof has to say by id which one is meant.
const MAX_LOOKED_AT = 300;
// What a person reads.
const MAX_NAMED = 5;

/** The backup that was asked for. Throws RestoreRefusedError that says what was looked at, why it was not taken, and what could be. */
export async function chooseSnapshot(
  deps: ReceiptDeps & { readonly now: () => Date },
  selection: RestoreRequest['snapshot'],
  records: Records,
): Promise<Chosen> {
  if (selection.kind === 'id') {
    return chooseById(deps, selection.backupId, records);
  }
  const before = selection.kind === 'before' ? backupIdOf(new Date(selection.time)) : undefined;
  const found = await findNewest(deps, records, before);
  if (found.chosen !== undefined) {
    return found.chosen;
  }
  throw new RestoreRefusedError(
    [
      before === undefined
        ? `no verified backup on the timeline of now (${describeTimeline(found.timeline, records)})`
        : `no verified backup before ${before} on the timeline of then (${describeTimeline(found.timeline, records)})`,
      ...named(found.passedOver),
    ],
    found.earlier === undefined
      ? 'no backup can be restored: look at the verify function, or name another backup by its id'
      : `${found.earlier.backupId}, of the timeline before, could be restored: name it with "snapshot":"${found.earlier.backupId}" if that is what you want`,
  );
}

/**
 * The backup that holds what was there before a restore. Throws RestoreRefusedError when there is none that can be restored.
 *
 * @param restoreId id of the restore that is to be undone
 */
export async function choosePreRestore(
  deps: ReceiptDeps & { readonly now: () => Date },
  restoreId: string,
  records: Records,
): Promise<Chosen> {
  const kept = records.restored.find((record) => record.id === restoreId)?.keptBackupId;
  const ids = [...(typeof kept === 'string' ? [kept] : []), ...(await listReceiptIds(deps.store, restoreId))];
  for (const id of [...new Set(ids)].slice(0, MAX_LOOKED_AT)) {
    const { receipt } = await findReceipt(deps, id);
    if (receipt?.kind === 'pre-restore' && receipt.restoreId === restoreId) {
      return requireVersion(deps, receipt, []);
    }
  }
  throw new RestoreRefusedError(
    [
      `restore ${restoreId} is not under way on any node (right after an execution was stopped, its scripts may still be starting: try again in a minute), and no verified backup holds what was there before it${typeof kept === 'string' ? `: ${kept}, which was taken for that, has no receipt that can be trusted` : ''}`,
    ],
    `what it replaced may still lie on each node as member.before-${restoreId}: docs/restore.md says how to put that back by hand`,
  );
}

/** What was found when looking for the newest. */
export interface Newest {
  readonly chosen: Chosen | undefined;
  readonly timeline: string;
  readonly passedOver: readonly string[];
  /** The newest of an earlier timeline. */
  readonly earlier: Receipt | undefined;
}

/** The newest on the timeline that holds at `before`, or now; never a pre-restore one. */
export async function findNewest(
  deps: ReceiptDeps & { readonly now: () => Date },
  records: Records,
  before?: string,
): Promise<Newest> {
  const snapshots = await listVersions(deps.store, 'snapshots/');
  const withReceipt = new Set(await listReceiptIds(deps.store, undefined));
  return newestAmong(deps, { snapshots, withReceipt }, records.restored, { before });
}

/** What lies in the bucket, trusted or not. */
export interface Stored {
  readonly snapshots: Versions;
  /** Ids of backups that have a receipt. */
  readonly withReceipt: ReadonlySet<string>;
}

/** The same in lists that were read before. Looks at no more than `maxLookedAt` receipts. */
export async function newestAmong(
  deps: ReceiptDeps,
  { snapshots, withReceipt }: Stored,
  restored: Records['restored'],
  { before, maxLookedAt = MAX_LOOKED_AT }: { readonly before?: string | undefined; readonly maxLookedAt?: number },
): Promise<Newest> {
  const ids = [...new Set([...snapshots.versions.flatMap(({ key }) => backupIdOfSnapshot(key) ?? []), ...withReceipt])]
    .filter((id) => before === undefined || id < before)
    .sort();
  let timeline = restored.findLast(({ id }) => before === undefined || id < before)?.id ?? '';
  const passedOver: string[] = [];
  let lookedAt = 0;
  for (const id of ids.reverse()) {
    // However long nothing was verified, the newest that was is found: what has no receipt takes no call to know.
    if (!withReceipt.has(id)) {
      passedOver.push(`${id}: it has no receipt: it was not verified, or not yet`);
      continue;
    }
    if (++lookedAt > maxLookedAt) {
      break;
    }
    const { receipt, untrusted } = await findReceipt(deps, id);
    if (receipt === undefined) {
      passedOver.push(`${id}: ${untrusted[0] ?? 'its receipt is gone'}`);
      continue;
    }
    if (receipt.kind === 'pre-restore') {
      continue;
    }
    const own = timelineOf(receipt, restored);
    if (own < timeline) {
      return { chosen: undefined, timeline, passedOver, earlier: receipt };
    }
    // One that the configuration acknowledged has no record: the receipts know of it.
    timeline = own;
    const gone = whyGone(receipt, snapshots);
    if (gone !== undefined) {
      passedOver.push(`${id}: ${gone}`);
      continue;
    }
    return {
      chosen: {
        receipt,
        warnings: [
          ...named(passedOver.map((why) => `a newer backup was passed over: ${why}`)),
          ...whatLiesOver(receipt, snapshots),
        ],
      },
      timeline,
      passedOver,
      earlier: undefined,
    };
  }
  return { chosen: undefined, timeline, passedOver, earlier: undefined };
}

/** '' is the first one. A backup that was triggered while a restore began, and saved before it, is still of the timeline before. */
function timelineOf({ timeline, snapshot }: Receipt, restored: Records['restored']): string {
  const own = timeline === 'first' ? '' : timeline;
  const index = restored.findIndex(({ id }) => id === own);
  const revisionAfter = restored[index]?.revisionAfter;
  return revisionAfter !== undefined && snapshot.revision < revisionAfter ? (restored[index - 1]?.id ?? '') : own;
}

function describeTimeline(timeline: string, { restored }: Records): string {
  if (timeline === '') {
    return 'the first one';
  }
  const record: ActionRecord | undefined = restored.find(({ id }) => id === timeline);
  return record === undefined
    ? `which began at ${timeline} as acknowledged`
    : `which began with the restore ${timeline}${record.snapshot === undefined || record.snapshot === null ? '' : ` of backup ${record.snapshot.backupId}`}`;
}

async function chooseById(
  deps: ReceiptDeps & { readonly now: () => Date },
  id: string,
  records: Records,
): Promise<Chosen> {
  const { receipt, untrusted } = await findReceipt(deps, id);
  if (receipt !== undefined) {
    return requireVersion(deps, receipt, untrusted);
  }
  const { versions } = await listVersions(deps.store, `snapshots/${id}.db.`);
  const why =
    untrusted.length > 0
      ? untrusted.slice(0, MAX_NAMED)
      : [
          versions.length > 0
            ? `backup ${id}: got a stored snapshot without a receipt, expected a signed one; it was not verified, or not yet: send {"backupId":"${id}"} to the verify function`
            : `backup ${id}: got no snapshot with this id, expected one in s3://${deps.store.bucket}/snapshots/`,
        ];
  throw new RestoreRefusedError(why, await whatCouldBe(deps, records));
}

/** A receipt proves one version: it has to lie there still, whatever lies over it. */
async function requireVersion(
  deps: ReceiptDeps & { readonly now: () => Date },
  receipt: Receipt,
  untrusted: readonly string[],
): Promise<Chosen> {
  const snapshots = await listVersions(deps.store, `snapshots/${receipt.backupId}.db.`);
  const gone = whyGone(receipt, snapshots);
  if (gone !== undefined) {
    throw new RestoreRefusedError(
      [`backup ${receipt.backupId}: ${gone}`],
      'name another backup, or send {} for the newest',
    );
  }
  return {
    receipt,
    warnings: [
      ...untrusted.slice(0, MAX_NAMED).map((why) => `another receipt of this backup was passed over: ${why}`),
      ...whatLiesOver(receipt, snapshots),
    ],
  };
}

async function whatCouldBe(deps: ReceiptDeps & { readonly now: () => Date }, records: Records): Promise<string> {
  const { chosen, earlier } = await findNewest(deps, records);
  const newest = chosen?.receipt ?? earlier;
  return newest === undefined
    ? 'no other backup can be restored either: look at the verify function'
    : `the newest that can be restored is ${newest.backupId}`;
}

/** Content and checksum of a version never change: what has to hold is that this version is there, and as long as it was. */
function whyGone(receipt: Receipt, { versions }: Versions): string | undefined {
  const version = versions.find(({ key, versionId }) => key === receipt.key && versionId === receipt.versionId);
  if (version === undefined) {
    return `the version ${receipt.versionId} of ${receipt.key} that its receipt proves is not in the bucket any more; it has expired, or was removed`;
  }
  return version.bytes === receipt.compressedBytes
    ? undefined
    : `${receipt.key} version ${receipt.versionId} has ${String(version.bytes)} bytes, expected ${String(receipt.compressedBytes)} as its receipt says; find out what answers in place of S3`;
}

function whatLiesOver(receipt: Receipt, { versions, deleteMarkers }: Versions): string[] {
  const ofBackup = ({ key }: { readonly key: string }) => backupIdOfSnapshot(key) === receipt.backupId;
  const others = versions.filter((version) => ofBackup(version) && version.versionId !== receipt.versionId);
  const markers = deleteMarkers.filter(ofBackup);
  return [
    ...(others.length === 0
      ? []
      : [
          `${String(others.length)} other version(s) lie under the key of ${receipt.backupId}, the newest stored at ${others.at(-1)?.storedAt.toISOString() ?? ''}; they hide nothing, the proven version is read by its id: find out in CloudTrail who wrote them`,
        ]),
    ...(markers.length === 0
      ? []
      : [
          `${String(markers.length)} delete marker(s) lie over ${receipt.backupId}; they hide nothing, the proven version is read by its id: find out in CloudTrail who put them there`,
        ]),
  ];
}

function named(sentences: readonly string[]): string[] {
  const more = sentences.length - MAX_NAMED;
  return [...sentences.slice(0, MAX_NAMED), ...(more > 0 ? [`and ${String(more)} more`] : [])];
}
