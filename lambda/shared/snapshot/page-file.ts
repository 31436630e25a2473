import { readSync } from 'node:fs';
import { SnapshotDamagedError } from './damage';

/** Some bytes of the file in memory: `bytes[start, end)`, where `words` is the same memory as little-endian words and `start` a multiple of 4. */
export interface Extent {
  readonly bytes: Buffer;
  readonly words: Uint32Array;
  readonly start: number;
  readonly end: number;
  /** Where in the file `bytes[0]` would lie. */
  readonly position: number;
}

// Pages of the children of one branch page lie near each other on disk: this much between two of them is read along.
const GAP_BYTES = 64 * 1024;
// Values that are longer than a page go on behind it.
const TAIL_BYTES = 16 * 1024;
const WINDOW_BYTES = 8 * 1024 * 1024;

/**
 * A page and its overflow longer than this are refused: etcd's own limit for a request is 1.5 MB, and what a page says of its length is not
 * to be trusted with memory.
 */
export const MAX_PAGE_BYTES = 256 * 1024 * 1024;

/**
 * The pages of a bbolt file, read from disk into a window of fixed size. What `page` returns is valid until the next call. Throws the
 * file system's errors as they are.
 */
export class PageFile {
  private readonly window = new Memory(WINDOW_BYTES);
  private single = new Memory(64 * 1024);
  /** Page numbers that lie in the window, to the place of their first byte and the end of what was read with them. */
  private readonly loaded = new Map<number, readonly [start: number, end: number]>();

  constructor(
    private readonly fd: number,
    readonly pageSize: number,
    /** Pages below this number can be read. */
    readonly pageCount: number,
  ) {}

  /** Reads these pages, and what lies between them, with as few reads as possible. Numbers outside of the file are passed over. */
  prefetch(pages: readonly number[]): void {
    this.loaded.clear();
    const inFile = pages.filter((page) => page < this.pageCount).sort((a, b) => a - b);
    let used = 0;
    for (let first = 0; first < inFile.length;) {
      let last = first;
      const from = (inFile[first] as number) * this.pageSize;
      let to = from + this.pageSize;
      for (let next = first + 1; next < inFile.length; next++) {
        const start = (inFile[next] as number) * this.pageSize;
        if (start - to > GAP_BYTES || used + start + this.pageSize - from > WINDOW_BYTES) {
          break;
        }
        to = start + this.pageSize;
        last = next;
      }
      to = Math.min(to + TAIL_BYTES, this.pageCount * this.pageSize, from + WINDOW_BYTES - used);
      if (to - from < this.pageSize) {
        return;
      }
      this.read(this.window, used, from, to - from);
      for (; first <= last; first++) {
        const page = inFile[first] as number;
        this.loaded.set(page, [used + page * this.pageSize - from, used + to - from]);
      }
      // A multiple of the page size, so that words stay aligned.
      used += Math.ceil((to - from) / this.pageSize) * this.pageSize;
    }
  }

  /** One page and what overflows from it. `page` must be below `pageCount`; throws SnapshotDamagedError when its overflow is not. */
  page(page: number): Extent {
    const loaded = this.loaded.get(page);
    if (loaded !== undefined) {
      const [start, end] = loaded;
      const length = this.extentLength(page, this.window.words[(start >> 2) + 3] as number);
      if (start + length <= end) {
        return {
          bytes: this.window.bytes,
          words: this.window.words,
          start,
          end: start + length,
          position: page * this.pageSize - start,
        };
      }
      return this.readSingle(page, length);
    }
    const head = this.readSingle(page, this.pageSize);
    const length = this.extentLength(page, head.words[3] as number);
    return length === this.pageSize ? head : this.readSingle(page, length);
  }

  private extentLength(page: number, overflow: number): number {
    if (page + overflow >= this.pageCount) {
      throw new SnapshotDamagedError(
        'bad-page',
        `page ${String(page)}: got an overflow of ${String(overflow)} pages, expected it to end below page ${String(this.pageCount)}`,
        page,
      );
    }
    const length = (overflow + 1) * this.pageSize;
    if (length > MAX_PAGE_BYTES) {
      throw new SnapshotDamagedError(
        'bad-page',
        `page ${String(page)}: got a length of ${String(length)} bytes with its overflow, expected at most ${String(MAX_PAGE_BYTES)}`,
        page,
      );
    }
    return length;
  }

  private readSingle(page: number, length: number): Extent {
    if (this.single.bytes.length < length) {
      this.single = new Memory(length);
    }
    this.read(this.single, 0, page * this.pageSize, length);
    return {
      bytes: this.single.bytes,
      words: this.single.words,
      start: 0,
      end: length,
      position: page * this.pageSize,
    };
  }

  private read(memory: Memory, at: number, position: number, length: number): void {
    for (let done = 0; done < length;) {
      const count = readSync(this.fd, memory.bytes, at + done, length - done, position + done);
      if (count === 0) {
        throw new SnapshotDamagedError(
          'bad-length',
          `file: got its end at byte ${String(position + done)}, expected ${String(position + length)} bytes; something cut it while it was read`,
        );
      }
      done += count;
    }
  }
}

class Memory {
  readonly bytes: Buffer;
  readonly words: Uint32Array;

  constructor(length: number) {
    const buffer = new ArrayBuffer(length);
    this.bytes = Buffer.from(buffer);
    this.words = new Uint32Array(buffer);
  }
}

/** A copy that outlives the window, at a start that is aligned. */
export function copyExtent({ bytes, start, end, position }: Extent): Extent {
  // Page numbers are read as two words.
  const buffer = new ArrayBuffer((end - start + 7) & ~7);
  const copy = Buffer.from(buffer);
  bytes.copy(copy, 0, start, end);
  return { bytes: copy, words: new Uint32Array(buffer), start: 0, end: end - start, position: position + start };
}
