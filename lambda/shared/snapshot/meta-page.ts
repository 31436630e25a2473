import { readSync } from 'node:fs';
import { SnapshotDamagedError } from './damage';

/** What the newest valid meta page of a bbolt file says. */
export interface MetaPage {
  readonly pageSize: number;
  /** Page of the root bucket. */
  readonly root: number;
  /** Page of the free list; null when the file keeps none, and what is not reachable is free. */
  readonly freeList: number | null;
  /** High water mark: every page in use lies below it. */
  readonly pageCount: number;
}

// A bbolt file's first two pages are meta pages, written in turns (bbolt, internal/common/meta.go):
// page header (id u64, flags u16, count u16, overflow u32), then magic u32, version u32, page size u32, flags u32, root page u64,
// root sequence u64, free list page u64, page count u64, transaction u64, FNV-1a of all of these u64. Little endian.
const HEADER_BYTES = 16;
const META_BYTES = 64;
const CHECKSUM_AT = 56;
const MAGIC = 0xed0c_daed;
const VERSION = 2;
const META_FLAG = 0x04;
const NO_FREE_LIST = 0xffff_ffff_ffff_ffffn;

/** Page sizes of the machines that run etcd: 4 KB, and 16 KB or 64 KB on some arm64 and ppc64 kernels. */
const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536];

interface Candidate extends MetaPage {
  readonly transaction: bigint;
}

/**
 * Chooses the meta page as bbolt does: the one of the newer transaction, or the other one when that was torn.
 *
 * @throws SnapshotDamagedError when neither is valid, or when the pages they stand on say that they are something else
 */
export function readMetaPage(fd: number, databaseBytes: number): MetaPage {
  const first = readCandidate(fd, 0, 0);
  // Without a valid first page its size is not known: the second one is looked for at every size.
  const sizes = typeof first === 'string' ? PAGE_SIZES : [first.pageSize];
  const seconds = sizes
    .filter((size) => size + HEADER_BYTES + META_BYTES <= databaseBytes)
    .map((size) => readCandidate(fd, 1, size));
  const second =
    seconds.find((candidate) => typeof candidate !== 'string') ?? seconds[0] ?? 'it lies outside of the file';
  if (typeof first === 'string' && typeof second === 'string') {
    throw new SnapshotDamagedError(
      'bad-meta',
      `meta pages: got none that is valid (page 0: ${first}; page 1: ${second}), expected at least one`,
    );
  }
  const chosen =
    typeof first === 'string' || (typeof second !== 'string' && second.transaction > first.transaction)
      ? (second as Candidate)
      : first;
  for (const page of [0, 1]) {
    requireMetaHeader(fd, page, chosen.pageSize);
  }
  if (chosen.pageCount * chosen.pageSize > databaseBytes) {
    throw new SnapshotDamagedError(
      'bad-meta',
      `meta page: got ${String(chosen.pageCount)} pages of ${String(chosen.pageSize)} bytes, expected them to fit the file's ${String(databaseBytes)} bytes before its trailer; the file was cut`,
    );
  }
  for (const [what, page] of [
    ['root bucket', chosen.root],
    ['free list', chosen.freeList],
  ] as const) {
    if (page !== null && (page < 2 || page >= chosen.pageCount)) {
      throw new SnapshotDamagedError(
        'bad-meta',
        `meta page: got page ${String(page)} for the ${what}, expected one from 2 to ${String(chosen.pageCount - 1)}`,
      );
    }
  }
  return chosen;
}

/** The meta page at this place; what is wrong with it, when it was torn. Throws SnapshotDamagedError when it is whole and still wrong. */
function readCandidate(fd: number, page: number, position: number): Candidate | string {
  const bytes = Buffer.alloc(HEADER_BYTES + META_BYTES);
  if (readSync(fd, bytes, 0, bytes.length, position) < bytes.length) {
    return 'it lies outside of the file';
  }
  const meta = bytes.subarray(HEADER_BYTES);
  const magic = meta.readUInt32LE(0);
  if (magic !== MAGIC) {
    return `magic number ${magic.toString(16)}, expected ${MAGIC.toString(16)}`;
  }
  const version = meta.readUInt32LE(4);
  if (version !== VERSION) {
    return `version ${String(version)}, expected ${String(VERSION)}`;
  }
  const checksum = meta.readBigUInt64LE(CHECKSUM_AT);
  if (checksum !== fnv1a64(meta.subarray(0, CHECKSUM_AT))) {
    return 'wrong checksum';
  }
  const size = meta.readUInt32LE(8);
  // Its checksum is right, so it was not torn: bbolt goes by such a page.
  const expected = page === 0 ? PAGE_SIZES : [position];
  if (!expected.includes(size)) {
    throw new SnapshotDamagedError(
      'bad-meta',
      `page ${String(page)}: got a page size of ${String(size)} bytes, expected ${expected.join(', ')}`,
      page,
    );
  }
  const freeList = meta.readBigUInt64LE(32);
  return {
    pageSize: size,
    // As numbers they are exact up to 2^53; beyond, no file has such a page, and the check against the page count says so.
    root: Number(meta.readBigUInt64LE(16)),
    freeList: freeList === NO_FREE_LIST ? null : Number(freeList),
    pageCount: Number(meta.readBigUInt64LE(40)),
    transaction: meta.readBigUInt64LE(48),
  };
}

function requireMetaHeader(fd: number, page: number, pageSize: number): void {
  const header = Buffer.alloc(HEADER_BYTES);
  readSync(fd, header, 0, header.length, page * pageSize);
  const id = header.readBigUInt64LE(0);
  const flags = header.readUInt16LE(8);
  if (id !== BigInt(page) || flags !== META_FLAG) {
    throw new SnapshotDamagedError(
      'bad-meta',
      `page ${String(page)}: got a page that says it is number ${String(id)} with flags ${String(flags)}, expected number ${String(page)} with flags ${String(META_FLAG)} (meta)`,
      page,
    );
  }
}

function fnv1a64(bytes: Uint8Array): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const byte of bytes) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n);
  }
  return hash;
}
