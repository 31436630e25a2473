import type { Receipt } from './receipt';
import type { ChosenSnapshot } from './restore-state';

/** The snapshot that a trusted receipt proves, by the version that was read. */
export function chosenFromReceipt(receipt: Receipt): ChosenSnapshot {
  return {
    backupId: receipt.backupId,
    key: receipt.key,
    versionId: receipt.versionId,
    compression: receipt.compression,
    compressedBytes: receipt.compressedBytes,
    compressedSha256: receipt.compressedSha256,
    sizeBytes: receipt.sizeBytes,
    sha256: receipt.sha256,
    revision: receipt.snapshot.revision,
    hash: receipt.snapshot.hash,
    etcdVersion: receipt.announced.etcdVersion,
    kubernetesVersion: receipt.announced.kubernetesVersion,
  };
}

/** The highest revision that a receipt knows of: in the file, compacted away in it, or on the member at the time. */
export function highestRevisionOf(receipt: Pick<Receipt, 'snapshot' | 'announced'>): number {
  return Math.max(
    receipt.snapshot.revision,
    receipt.snapshot.mvcc.compactedRevision ?? 0,
    receipt.announced.liveRevision,
  );
}
