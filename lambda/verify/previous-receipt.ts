import { BACKUP_ID_PATTERN, backupIdBefore } from '../shared/backup-id';
import { findReceipt, type Receipt, type ReceiptDeps, receiptKey } from '../shared/receipt';
import { listVersions, type Store } from '../shared/store';

/** What is known of the last verified backup before one. */
export interface PreviousReceipt {
  readonly previous: Receipt | undefined;
  /** Why newer receipts than that were passed over. */
  readonly untrusted: readonly string[];
}

const DAY_SECONDS = 24 * 60 * 60;
// Most often the last receipt is an hour old. undefined: as far back as there are any.
const LOOK_BACK_DAYS = [2, 35, undefined] as const;
// When the receipt key was replaced no earlier receipt can be trusted; the history then begins anew, with a finding, instead of taking up
// all of the function's time at every run.
const MAX_UNTRUSTED = 50;

/**
 * The newest receipt with an older id that can be trusted, of the 50 before this one at least. What is passed over is told, for a finding.
 * Not a pre-restore one: it holds what a restore replaced.
 */
export async function findPreviousReceipt(deps: ReceiptDeps, backupId: string): Promise<PreviousReceipt> {
  const untrusted = new Map<string, readonly string[]>();
  const replaced = new Set<string>();
  for (const days of LOOK_BACK_DAYS) {
    const after = days === undefined ? undefined : backupIdBefore(backupId, days * DAY_SECONDS);
    const ids = (await listReceiptIds(deps.store, after)).filter(
      (id) => id < backupId && !untrusted.has(id) && !replaced.has(id),
    );
    for (const id of ids.reverse()) {
      const found = await findReceipt(deps, id);
      if (found.receipt?.kind === 'pre-restore') {
        replaced.add(id);
        continue;
      }
      if (found.untrusted.length > 0) {
        untrusted.set(id, found.untrusted);
      }
      if (found.receipt !== undefined || untrusted.size >= MAX_UNTRUSTED) {
        return { previous: found.receipt, untrusted: [...untrusted.values()].flat() };
      }
    }
  }
  return { previous: undefined, untrusted: [...untrusted.values()].flat() };
}

/** The receipt with the next later id that can be trusted, but no pre-restore one: of a backup whose event came before this one's. */
export async function findNextReceipt(
  deps: ReceiptDeps,
  backupId: string,
): Promise<{ readonly next: Receipt | undefined }> {
  for (const id of (await listReceiptIds(deps.store, backupId)).slice(0, MAX_UNTRUSTED)) {
    const { receipt } = await findReceipt(deps, id);
    if (receipt !== undefined && receipt.kind !== 'pre-restore') {
      return { next: receipt };
    }
  }
  return { next: undefined };
}

const RECEIPT_KEY = /^receipts\/(.+)\.json$/;

/** Ids of backups that have a receipt, trusted or not, in order, from after `afterId` on. */
export async function listReceiptIds(store: Store, afterId: string | undefined): Promise<string[]> {
  const { versions } = await listVersions(store, 'receipts/', afterId === undefined ? undefined : receiptKey(afterId));
  return [
    ...new Set(
      versions.flatMap(({ key }) => {
        const id = RECEIPT_KEY.exec(key)?.[1];
        return id !== undefined && BACKUP_ID_PATTERN.test(id) ? id : [];
      }),
    ),
  ];
}
