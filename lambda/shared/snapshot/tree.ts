import { SnapshotDamagedError } from './damage';
import type { MetaPage } from './meta-page';
import { copyExtent, type Extent, type PageFile } from './page-file';
import { type PageGraph, pageHeader, readPageNumber } from './page-graph';

/** What a walk meets, in the order of the keys. The bytes are valid during the call only. */
export interface Visitor {
  /** A bucket begins. `depth` 1: one of the root bucket's. */
  bucket(depth: number, extent: Extent, name: number, end: number): void;
  /** A key and its value, of the bucket that began last at `depth`. A bucket within a bucket has no row. */
  row(depth: number, extent: Extent, key: number, value: number, end: number): void;
  /** The rows from the last call on, of one page, are these bytes: keys and values without a gap. Called after their `row`. */
  rows(depth: number, extent: Extent, start: number, end: number): void;
  /** A bucket within the bucket that began last at `depth`, which has no value of its own. */
  nested(depth: number, extent: Extent, key: number, end: number): void;
}

const HEADER_BYTES = 16;
const ELEMENT_BYTES = 16;
const BRANCH_FLAG = 0x01;
const LEAF_FLAG = 0x02;
/** In a leaf element: its value is a bucket. */
const BUCKET_FLAG = 0x01;
/** Root page u64 and sequence u64; root page 0: the bucket's only page follows (bbolt, internal/common/bucket.go). */
const BUCKET_BYTES = 16;
// bbolt refuses longer ones (errors.ErrKeyTooLarge).
const MAX_KEY_BYTES = 32_768;
// bbolt's branch pages hold two keys at least, so 2^40 pages are 40 levels; what is deeper was made to exhaust the stack.
const MAX_DEPTH = 64;
const MAX_NESTED_BUCKETS = 16;
const PREFETCH_PAGES = 512;
// bbolt splits a branch page from five keys on, and the longest key has 32 KB; a path of twenty such pages would have 3 MB.
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/**
 * Walks every bucket of a bbolt file in the order of its keys, and holds what bbolt's own check holds of each page (tx_check.go), and its
 * extents besides. Memory: one window, the branch pages from the root down, and the longest page.
 */
export class Tree {
  private readonly lastKey = new Uint8Array(MAX_KEY_BYTES);
  private lastKeyLength = -1;
  /** Whether the last key is that of a branch page's element, which its child's first key may equal. */
  private lastIsSeparator = false;
  /** Bytes of the pages from the root down that are kept while what is below them is read. */
  private keptBytes = 0;
  readonly pages = { branch: 0, leaf: 0, overflow: 0 };

  constructor(
    private readonly file: PageFile,
    /** Left out, the walk looks at pages that were found sound before. */
    private readonly graph: PageGraph | undefined,
    private readonly visitor: Visitor,
  ) {}

  /** Throws SnapshotDamagedError at the first page that is not sound. */
  walk(meta: MetaPage): void {
    this.walkBucket(meta.root, 0);
  }

  /** Walks the one bucket at this page, as if it were at this depth. */
  walkBucket(root: number, bucketDepth: number): void {
    if (bucketDepth > MAX_NESTED_BUCKETS) {
      throw damaged(
        root,
        `buckets within buckets more than ${String(MAX_NESTED_BUCKETS)} deep, expected none (etcd nests none)`,
      );
    }
    this.lastKeyLength = -1;
    this.walkPage(root, bucketDepth, 0);
  }

  private walkPage(page: number, bucketDepth: number, depth: number): void {
    if (page < 2 || page >= this.file.pageCount) {
      throw damaged(page, `a reference to it, expected pages from 2 to ${String(this.file.pageCount - 1)}`);
    }
    if (depth > MAX_DEPTH) {
      throw damaged(page, `a tree more than ${String(MAX_DEPTH)} pages deep, expected less`);
    }
    const extent = this.file.page(page);
    const { id, flags, count, overflow } = pageHeader(extent);
    if (id !== page) {
      throw damaged(page, `a page that says it is number ${String(id)}, expected number ${String(page)}`);
    }
    if (flags !== BRANCH_FLAG && flags !== LEAF_FLAG) {
      throw damaged(
        page,
        `flags ${String(flags)}, expected ${String(BRANCH_FLAG)} (branch) or ${String(LEAF_FLAG)} (leaf)`,
      );
    }
    this.graph?.reach(page, overflow);
    this.pages.overflow += overflow;
    if (flags === LEAF_FLAG) {
      this.pages.leaf++;
      this.walkLeaf(page, extent, count, bucketDepth);
    } else {
      this.pages.branch++;
      this.walkBranch(page, extent, count, bucketDepth, depth);
    }
  }

  private walkBranch(page: number, given: Extent, count: number, bucketDepth: number, depth: number): void {
    const { children, keys } = this.readBranch(page, given, count);
    const firstKey = keys[0] as number;
    const keptBytes = (keys[count] as number) - firstKey;
    // A copy of the keys: what is read below moves the window.
    const { bytes } = this.keep(page, { ...given, start: firstKey, end: firstKey + keptBytes });
    for (let i = 0; i < count; i++) {
      if (i % PREFETCH_PAGES === 0) {
        this.file.prefetch(children.slice(i, i + PREFETCH_PAGES));
      }
      const key = (keys[i] as number) - firstKey;
      const keyEnd = (keys[i + 1] as number) - firstKey;
      // Every key of a child is at or above the child's key, and below the next child's. The first element of a page stands for the same
      // key as its parent's element does, so it may be equal to what was taken over from there.
      const order = this.compareLast(bytes, key, keyEnd);
      if (order > 0 || (order === 0 && !(i === 0 && this.lastIsSeparator))) {
        throw disorder(page, i, 'the keys before it');
      }
      this.keepKey(bytes, key, keyEnd, true);
      this.walkPage(children[i] as number, bucketDepth, depth + 1);
    }
    this.keptBytes -= keptBytes;
  }

  /** The pages that a branch page leads to, and where the key of each begins; behind the last of these, where it ends. */
  private readBranch(page: number, extent: Extent, count: number): { children: number[]; keys: number[] } {
    const { bytes, words, start, end } = extent;
    if (count === 0) {
      throw damaged(page, 'a branch page with no element, expected one at least');
    }
    this.requireElements(page, extent, count);
    let data = start + HEADER_BYTES + count * ELEMENT_BYTES;
    const children: number[] = [];
    const keys: number[] = [data];
    for (let i = 0, element = start + HEADER_BYTES; i < count; i++, element += ELEMENT_BYTES) {
      const at = element >> 2;
      const keyBytes = words[at + 1] as number;
      if (element + (words[at] as number) !== data) {
        throw this.misplaced(page, i, words[at] as number, data - element);
      }
      if (keyBytes === 0 || keyBytes > MAX_KEY_BYTES || data + keyBytes > end) {
        throw this.badLength(page, i, keyBytes, end - data);
      }
      if (i > 0 && compare(bytes, keys[i - 1] as number, data, bytes, data, data + keyBytes) >= 0) {
        throw disorder(page, i, 'the key before it');
      }
      children.push(readPageNumber(extent, element + 8));
      data += keyBytes;
      keys.push(data);
    }
    return { children, keys };
  }

  private walkLeaf(page: number, given: Extent, count: number, bucketDepth: number): void {
    this.requireElements(page, given, count);
    const hasBuckets = this.hasBuckets(given, count);
    // What is read for a bucket's own pages moves the window.
    const extent = hasBuckets ? this.keep(page, given) : given;
    const { bytes, words, start, end } = extent;
    const { visitor } = this;
    let data = start + HEADER_BYTES + count * ELEMENT_BYTES;
    let rowsFrom = data;
    let before = -1;
    for (let i = 0, element = start + HEADER_BYTES; i < count; i++, element += ELEMENT_BYTES) {
      const at = element >> 2;
      const flags = words[at] as number;
      const keyBytes = words[at + 2] as number;
      const valueBytes = words[at + 3] as number;
      if (element + (words[at + 1] as number) !== data) {
        throw this.misplaced(page, i, words[at + 1] as number, data - element);
      }
      if (keyBytes === 0 || keyBytes > MAX_KEY_BYTES || data + keyBytes + valueBytes > end) {
        throw this.badLength(page, i, keyBytes, end - data, valueBytes);
      }
      const value = data + keyBytes;
      if (before === -1) {
        const order = this.compareLast(bytes, data, value);
        // At or above the key that the branch page has for this page.
        if (order > 0 || (order === 0 && !this.lastIsSeparator)) {
          throw disorder(page, i, 'the keys of the pages before it');
        }
      } else if (compare(bytes, before, before + (words[at - 2] as number), bytes, data, value) >= 0) {
        throw disorder(page, i, 'the key before it');
      }
      before = data;
      if (flags === 0) {
        visitor.row(bucketDepth, extent, data, value, value + valueBytes);
      } else if (flags === BUCKET_FLAG) {
        if (data > rowsFrom) {
          visitor.rows(bucketDepth, extent, rowsFrom, data);
        }
        this.walkElement({ page, index: i, extent, key: data, value, end: value + valueBytes, bucketDepth });
        rowsFrom = value + valueBytes;
      } else {
        throw damaged(
          page,
          `flags ${String(flags)} in element ${String(i)}, expected 0 (a value) or ${String(BUCKET_FLAG)} (a bucket)`,
        );
      }
      data = value + valueBytes;
    }
    if (data > rowsFrom) {
      visitor.rows(bucketDepth, extent, rowsFrom, data);
    }
    if (before !== -1) {
      this.keepKey(
        bytes,
        before,
        before + (words[((start + HEADER_BYTES + (count - 1) * ELEMENT_BYTES) >> 2) + 2] as number),
        false,
      );
    }
    if (hasBuckets) {
      this.keptBytes -= end - start;
    }
  }

  /** A leaf element that is a bucket: its page lies elsewhere, or within the element. */
  private walkElement(element: {
    page: number;
    index: number;
    extent: Extent;
    key: number;
    value: number;
    end: number;
    bucketDepth: number;
  }): void {
    const { page, index, extent, key, value, end, bucketDepth } = element;
    if (end - value < BUCKET_BYTES) {
      throw damaged(
        page,
        `a bucket of ${String(end - value)} bytes in element ${String(index)}, expected at least ${String(BUCKET_BYTES)}`,
      );
    }
    // Values are not aligned; an inline page is read from a copy that is.
    const bucket = copyExtent({ ...extent, start: value, end });
    const root = readPageNumber(bucket, 0);
    if (bucketDepth === 0) {
      this.visitor.bucket(1, extent, key, value);
    } else {
      this.visitor.nested(bucketDepth, extent, key, value);
    }
    if (root !== 0) {
      if (end - value > BUCKET_BYTES) {
        throw damaged(
          page,
          `a bucket of ${String(end - value)} bytes in element ${String(index)} whose pages lie elsewhere, expected ${String(BUCKET_BYTES)}`,
        );
      }
      this.walkBucket(root, bucketDepth + 1);
    } else {
      this.walkInline(page, index, { ...bucket, start: BUCKET_BYTES }, bucketDepth + 1);
    }
  }

  /** A bucket so small that its one page is the value of its element. */
  private walkInline(page: number, index: number, extent: Extent, bucketDepth: number): void {
    if (extent.end - extent.start < HEADER_BYTES) {
      throw damaged(
        page,
        `an inline bucket of ${String(extent.end - extent.start)} bytes in element ${String(index)}, expected a page header of ${String(HEADER_BYTES)} at least`,
      );
    }
    const { id, flags, count, overflow } = pageHeader(extent);
    if (id !== 0 || flags !== LEAF_FLAG || overflow !== 0) {
      throw damaged(
        page,
        `an inline page numbered ${String(id)} with flags ${String(flags)} and overflow ${String(overflow)} in element ${String(index)}, expected 0, ${String(LEAF_FLAG)} (leaf) and 0`,
      );
    }
    this.requireElements(page, extent, count);
    if (this.hasBuckets(extent, count)) {
      throw damaged(page, `a bucket within the inline bucket of element ${String(index)}, expected values only`);
    }
    this.lastKeyLength = -1;
    this.walkLeaf(page, extent, count, bucketDepth);
  }

  /** A copy that outlives what is read below this page; `keptBytes` goes down again when that is done. */
  private keep(page: number, extent: Extent): Extent {
    this.keptBytes += extent.end - extent.start;
    if (this.keptBytes > MAX_KEPT_BYTES) {
      throw damaged(
        page,
        `${String(this.keptBytes)} bytes of keys on the way to it, expected at most ${String(MAX_KEPT_BYTES)}`,
      );
    }
    return copyExtent(extent);
  }

  private requireElements(page: number, { start, end }: Extent, count: number): void {
    const room = Math.floor((end - start - HEADER_BYTES) / ELEMENT_BYTES);
    if (count > room) {
      throw damaged(page, `${String(count)} elements, expected at most the ${String(room)} that it has room for`);
    }
  }

  private hasBuckets({ words, start }: Extent, count: number): boolean {
    for (let i = 0, at = (start + HEADER_BYTES) >> 2; i < count; i++, at += ELEMENT_BYTES >> 2) {
      if (words[at] === BUCKET_FLAG) {
        return true;
      }
    }
    return false;
  }

  private keepKey(bytes: Uint8Array, start: number, end: number, isSeparator: boolean): void {
    const length = end - start;
    for (let i = 0; i < length; i++) {
      this.lastKey[i] = bytes[start + i] as number;
    }
    this.lastKeyLength = length;
    this.lastIsSeparator = isSeparator;
  }

  /** Below 0 when the last key is below this one; 0 also stands for equal; there is none before the first. */
  private compareLast(bytes: Uint8Array, start: number, end: number): number {
    return this.lastKeyLength === -1 ? -1 : compare(this.lastKey, 0, this.lastKeyLength, bytes, start, end);
  }

  private misplaced(page: number, index: number, got: number, expected: number): SnapshotDamagedError {
    return damaged(
      page,
      `element ${String(index)} at offset ${String(got)}, expected ${String(expected)}: right behind the one before it`,
    );
  }

  private badLength(page: number, index: number, key: number, room: number, value?: number): SnapshotDamagedError {
    return damaged(
      page,
      `element ${String(index)} with a key of ${String(key)} bytes${value === undefined ? '' : ` and a value of ${String(value)}`}, expected a key of 1 to ${String(MAX_KEY_BYTES)} and no more than the ${String(room)} that are left of the page`,
    );
  }
}

function compare(a: Uint8Array, aStart: number, aEnd: number, b: Uint8Array, bStart: number, bEnd: number): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < length; i++) {
    const difference = (a[aStart + i] as number) - (b[bStart + i] as number);
    if (difference !== 0) {
      return difference;
    }
  }
  return aEnd - aStart - (bEnd - bStart);
}

function damaged(page: number, got: string): SnapshotDamagedError {
  return new SnapshotDamagedError('bad-page', `page ${String(page)}: got ${got}`, page);
}

function disorder(page: number, index: number, before: string): SnapshotDamagedError {
  return new SnapshotDamagedError(
    'bad-key-order',
    `page ${String(page)}: got element ${String(index)} with a key at or below ${before}, expected a higher one`,
    page,
  );
}
