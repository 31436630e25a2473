// A new member's WAL: one file in use and one prepared, 64 MB each (etcd, server/storage/wal: SegmentSizeBytes).
const WAL_BYTES = 2 * 64_000_000;

/** What the file system needs for itself. */
export const DISK_RESERVE_BYTES = 64 * 1024 * 1024;

/**
 * What a drill has on its disk at most: the decompressed snapshot beside the database that is made of it, both as long as the snapshot; then
 * that database grows a little while etcd compacts it, when the snapshot is gone. The compressed one is never written.
 */
export function neededDisk(snapshotBytes: number, toolBytes: readonly number[]): number {
  return 2 * snapshotBytes + toolBytes.reduce((sum, bytes) => sum + bytes, 0) + WAL_BYTES + DISK_RESERVE_BYTES;
}
