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

/** The newest receipt with an older id that can be trusted. What is passed over on the way is told, for a finding. */
export async function findPreviousReceipt(deps: ReceiptDeps, backupId: string): Promise<PreviousReceipt> {
  const untrusted = new Map<string, readonly string[]>();
  for (const days of LOOK_BACK_DAYS) {
    const after = days === undefined ? undefined : backupIdBefore(backupId, days * DAY_SECONDS);
    const ids = (await listReceiptIds(deps.store, after)).filter((id) => id < backupId && !untrusted.has(id));
    for (const id of ids.reverse()) {
      const found = await findReceipt(deps, id);
      if (found.untrusted.length > 0) {
        untrusted.set(id, found.untrusted);
      }
      if (found.receipt !== undefined) {
        return { previous: found.receipt, untrusted: [...untrusted.values()].flat() };
      }
    }
  }
  return { previous: undefined, untrusted: [...untrusted.values()].flat() };
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
