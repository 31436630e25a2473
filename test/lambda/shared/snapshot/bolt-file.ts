import { createHash } from 'node:crypto';

/** An element of a leaf page; `bucket`: its value is a bucket. */
export interface LeafElement {
  readonly key: Buffer | string;
  readonly value?: Buffer | string;
  readonly bucket?: boolean;
}

/** An element of a branch page. */
export interface BranchElement {
  readonly key: Buffer | string;
  readonly page: number;
}

export const PAGE_SIZE = 4096;
const LEAF = 0x02;
const BRANCH = 0x01;
const META = 0x04;
const FREE_LIST = 0x10;

function header(id: number, flags: number, count: number, overflow: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(id), 0);
  bytes.writeUInt16LE(flags, 8);
  bytes.writeUInt16LE(count, 10);
  bytes.writeUInt32LE(overflow, 12);
  return bytes;
}

function padded(bytes: Buffer, pageSize: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((pageSize - (bytes.length % pageSize)) % pageSize)]);
}

/** A leaf page with its overflow. */
export function leaf(id: number, elements: readonly LeafElement[], pageSize = PAGE_SIZE): Buffer {
  const heads = Buffer.alloc(16 * elements.length);
  const data: Buffer[] = [];
  let at = heads.length;
  elements.forEach(({ key, value = '', bucket = false }, index) => {
    const [keyBytes, valueBytes] = [Buffer.from(key), Buffer.from(value)];
    heads.writeUInt32LE(bucket ? 1 : 0, index * 16);
    heads.writeUInt32LE(at - index * 16, index * 16 + 4);
    heads.writeUInt32LE(keyBytes.length, index * 16 + 8);
    heads.writeUInt32LE(valueBytes.length, index * 16 + 12);
    data.push(keyBytes, valueBytes);
    at += keyBytes.length + valueBytes.length;
  });
  const overflow = Math.ceil((16 + at) / pageSize) - 1;
  return padded(Buffer.concat([header(id, LEAF, elements.length, overflow), heads, ...data]), pageSize);
}

/** A branch page. */
export function branch(id: number, elements: readonly BranchElement[], pageSize = PAGE_SIZE): Buffer {
  const heads = Buffer.alloc(16 * elements.length);
  const data: Buffer[] = [];
  let at = heads.length;
  elements.forEach(({ key, page }, index) => {
    const keyBytes = Buffer.from(key);
    heads.writeUInt32LE(at - index * 16, index * 16);
    heads.writeUInt32LE(keyBytes.length, index * 16 + 4);
    heads.writeBigUInt64LE(BigInt(page), index * 16 + 8);
    data.push(keyBytes);
    at += keyBytes.length;
  });
  const overflow = Math.ceil((16 + at) / pageSize) - 1;
  return padded(Buffer.concat([header(id, BRANCH, elements.length, overflow), heads, ...data]), pageSize);
}

/** A free list; `counted`: with the count as its first entry, as bbolt writes it from 65,535 pages on. */
export function freeList(
  id: number,
  pages: readonly number[],
  { counted = false, pageSize = PAGE_SIZE }: { counted?: boolean; pageSize?: number } = {},
): Buffer {
  const entries = counted ? [pages.length, ...pages] : pages;
  const ids = Buffer.alloc(entries.length * 8);
  entries.forEach((page, index) => ids.writeBigUInt64LE(BigInt(page), index * 8));
  const overflow = Math.ceil((16 + ids.length) / pageSize) - 1;
  return padded(Buffer.concat([header(id, FREE_LIST, counted ? 0xffff : pages.length, overflow), ids]), pageSize);
}

/** The value of a bucket element whose pages lie elsewhere. */
export function bucketAt(root: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(root), 0);
  return bytes;
}

/** The value of a bucket element that holds its only page. */
export function inlineBucket(elements: readonly LeafElement[]): Buffer {
  const page = leaf(0, elements);
  const length =
    16 +
    elements.reduce((sum, { key, value = '' }) => sum + 16 + Buffer.from(key).length + Buffer.from(value).length, 0);
  return Buffer.concat([bucketAt(0), page.subarray(0, length)]);
}

/** A meta page. `freeList` left out: the file keeps none. */
export function meta(options: {
  readonly id: number;
  readonly root: number;
  readonly freeList?: number;
  readonly pages: number;
  readonly transaction: number;
  readonly pageSize?: number;
  readonly torn?: boolean;
}): Buffer {
  const { pageSize = PAGE_SIZE } = options;
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32LE(0xed0cdaed, 0);
  bytes.writeUInt32LE(2, 4);
  bytes.writeUInt32LE(pageSize, 8);
  bytes.writeBigUInt64LE(BigInt(options.root), 16);
  bytes.writeBigUInt64LE(options.freeList === undefined ? 0xffff_ffff_ffff_ffffn : BigInt(options.freeList), 32);
  bytes.writeBigUInt64LE(BigInt(options.pages), 40);
  bytes.writeBigUInt64LE(BigInt(options.transaction), 48);
  bytes.writeBigUInt64LE(fnv1a64(bytes.subarray(0, 56)) ^ (options.torn === true ? 1n : 0n), 56);
  return padded(Buffer.concat([header(options.id, META, 0, 0), bytes]), pageSize);
}

function fnv1a64(bytes: Buffer): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const byte of bytes) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n);
  }
  return hash;
}

/** A meta page with something else in it, and the checksum of that; `change` gets what stands behind the page header. */
export function changedMeta(page: Buffer, change: (meta: Buffer) => void): Buffer {
  const bytes = Buffer.from(page);
  const content = bytes.subarray(16, 16 + 64);
  change(content);
  content.writeBigUInt64LE(fnv1a64(content.subarray(0, 56)), 56);
  return bytes;
}

/** A row of etcd's `key` bucket. */
export function keyRow(
  revision: number,
  key: string,
  value: Buffer | string | null,
  { sub = 0, lease = 0 }: { sub?: number; lease?: number } = {},
): LeafElement {
  const name = Buffer.alloc(value === null ? 18 : 17);
  name.writeBigUInt64BE(BigInt(revision), 0);
  name.write('_', 8);
  name.writeBigUInt64BE(BigInt(sub), 9);
  if (value === null) {
    name.write('t', 17);
  }
  return {
    key: name,
    value: Buffer.concat([
      field(1, Buffer.from(key)),
      ...(value === null ? [] : [field(5, Buffer.from(value))]),
      ...(lease === 0 ? [] : [Buffer.from([6 << 3, lease])]),
    ]),
  };
}

/** A field of a protobuf message that has a length. */
export function field(number: number, content: Buffer): Buffer {
  const length: number[] = [];
  let rest = content.length;
  for (; rest >= 0x80; rest >>>= 7) {
    length.push((rest & 0x7f) | 0x80);
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), content]);
}

/** A snapshot: the pages and their SHA-256. */
export function snapshot(...pages: readonly Buffer[]): Buffer {
  const database = Buffer.concat(pages);
  return Buffer.concat([database, createHash('sha256').update(database).digest()]);
}

/** Page 3, a root bucket as etcd's: the bucket `key` at this page, and an empty `meta`. */
export function rootPage(keys: number, pageSize = PAGE_SIZE): Buffer {
  return leaf(
    3,
    [
      { key: 'key', value: bucketAt(keys), bucket: true },
      { key: 'meta', value: inlineBucket([]), bucket: true },
    ],
    pageSize,
  );
}

/** A whole small snapshot with these rows in one bucket named `key`; pages: meta, meta, free list, root, bucket. */
export function smallSnapshot(rows: readonly LeafElement[], { pageSize = PAGE_SIZE } = {}): Buffer {
  const keys = leaf(4, rows, pageSize);
  const pages = 4 + keys.length / pageSize;
  return snapshot(
    meta({ id: 0, root: 3, freeList: 2, pages, transaction: 6, pageSize }),
    meta({ id: 1, root: 3, freeList: 2, pages, transaction: 5, pageSize }),
    freeList(2, [], { pageSize }),
    rootPage(4, pageSize),
    keys,
  );
}
