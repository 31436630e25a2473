import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { Contents } from './contents';
import { SnapshotDamagedError } from './damage';
import type { SnapshotFacts } from './facts';
import { InventoryReader } from './inventory';
import { KeyRowsAgain } from './key-rows';
import { readMetaPage } from './meta-page';
import { PageFile } from './page-file';
import { PageGraph } from './page-graph';
import { Tree } from './tree';

/** Bytes of the SHA-256 that etcd appends to a snapshot it streams (etcd, server/etcdserver/api/v3rpc/maintenance.go). */
export const TRAILER_BYTES = 32;
// etcd takes a file for a snapshot with trailer when this much is over (etcdutl, snapshot/v3_snapshot.go, hasChecksum).
const SECTOR_BYTES = 512;
const SHORTEST_DATABASE_BYTES = 4 * 4096;
// Of a row whose key is wanted: keys are at most some 300 bytes long in Kubernetes.
const ROW_HEAD_BYTES = 4096;
const HASH_CHUNK_BYTES = 1024 * 1024;

/** The path leads to something that has no bytes to be judged. */
export class NotAFileError extends Error {
  override readonly name = 'NotAFileError';
}

export interface ReadSnapshotOptions {
  /**
   * SHA-256 of all but the last 32 bytes of the file, in hex, for whoever hashed them while writing the file.
   *
   * @default - the file is read for it
   */
  readonly trailerSha256?: string;

  /**
   * Keys that are kept in memory at once: a power of two from 65,536 on. More keys are read in several walks.
   *
   * @default - 4,194,304, some 117 MB, and twice that while the set grows
   */
  readonly maxKeySlots?: number;
}

/**
 * Reads and proves a snapshot of etcd 3.4 to 3.7: a bbolt file with a SHA-256 trailer. Memory does not grow with the file. Blocks until it
 * is done.
 *
 * @throws SnapshotDamagedError for any bytes that are no sound snapshot; NotAFileError; the file system's errors as they are
 */
export function readSnapshot(file: string, options: ReadSnapshotOptions = {}): SnapshotFacts {
  requireFile(file);
  const fd = openSync(file, 'r');
  try {
    return readOpenSnapshot(fd, options);
  } finally {
    closeSync(fd);
  }
}

/** Throws NotAFileError. To be called before a file is opened: that waits for ever at a pipe. */
export function requireFile(file: string): void {
  if (!statSync(file).isFile()) {
    throw new NotAFileError(`${file}: got a directory, pipe or device, expected a regular file`);
  }
}

function readOpenSnapshot(fd: number, options: ReadSnapshotOptions): SnapshotFacts {
  const sizeBytes = fstatSync(fd).size;
  const databaseBytes = sizeBytes - TRAILER_BYTES;
  requireLength(sizeBytes);
  const trailerSha256 = requireTrailer(fd, databaseBytes, options.trailerSha256);

  const meta = readMetaPage(fd, databaseBytes);
  const file = new PageFile(fd, meta.pageSize, meta.pageCount);
  const graph = new PageGraph(meta.pageCount);
  if (meta.freeList !== null) {
    graph.readFreeList(file, meta.freeList);
  }
  const inventory = new InventoryReader(options.maxKeySlots);
  const contents = new Contents(inventory);
  const tree = new Tree(file, graph, contents);
  tree.walk(meta);
  graph.requireComplete(meta.freeList !== null);
  while (inventory.endWalk()) {
    new Tree(file, undefined, new KeyRowsAgain(inventory)).walk(meta);
  }

  return {
    ...contents.facts(),
    sizeBytes,
    trailerSha256,
    pageSizeBytes: meta.pageSize,
    totalSizeBytes: meta.pageCount * meta.pageSize,
    pages: { total: meta.pageCount, free: graph.freePages, ...tree.pages },
    kubernetes: inventory.kubernetes(),
    inventory: inventory.inventory((position) => readAt(fd, position, ROW_HEAD_BYTES)),
  };
}

function requireLength(sizeBytes: number): void {
  if (sizeBytes < SHORTEST_DATABASE_BYTES + TRAILER_BYTES) {
    throw new SnapshotDamagedError(
      'too-short',
      `file: got ${String(sizeBytes)} bytes, expected at least the ${String(SHORTEST_DATABASE_BYTES + TRAILER_BYTES)} of an empty snapshot`,
    );
  }
  if (sizeBytes % SECTOR_BYTES !== TRAILER_BYTES) {
    throw new SnapshotDamagedError(
      'bad-length',
      `file: got ${String(sizeBytes)} bytes, expected a multiple of ${String(SECTOR_BYTES)} and a trailer of ${String(TRAILER_BYTES)}; the file was cut, or it is no snapshot but a database out of a data directory`,
    );
  }
}

function requireTrailer(fd: number, databaseBytes: number, known: string | undefined): string {
  const got = known ?? sha256Of(fd, databaseBytes);
  const trailer = readAt(fd, databaseBytes, TRAILER_BYTES).toString('hex');
  if (got !== trailer) {
    throw new SnapshotDamagedError(
      'bad-trailer',
      `file: got SHA-256 ${got} of the first ${String(databaseBytes)} bytes, expected ${trailer} as its last ${String(TRAILER_BYTES)} bytes say`,
    );
  }
  return got;
}

function sha256Of(fd: number, length: number): string {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(HASH_CHUNK_BYTES);
  for (let done = 0; done < length;) {
    const count = readSync(fd, chunk, 0, Math.min(chunk.length, length - done), done);
    if (count === 0) {
      break;
    }
    hash.update(chunk.subarray(0, count));
    done += count;
  }
  return hash.digest('hex');
}

/** Up to `length` bytes; fewer at the file's end. */
function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, position));
}
