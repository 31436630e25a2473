import { SnapshotDamagedError } from './damage';
import { type Extent, type PageFile } from './page-file';

const FREE_LIST_FLAG = 0x10;
const HEADER_BYTES = 16;
// A count of 65,535 means that the first of the ids is the count (bbolt, internal/freelist/shared.go).
const COUNT_IN_FIRST_ID = 0xffff;

/** Which pages are reachable, and which are free: two bits a page. */
export class PageGraph {
  private readonly reachable: Uint8Array;
  private readonly free: Uint8Array;
  private freeCount = 0;
  private reachableCount = 0;

  constructor(private readonly pageCount: number) {
    const length = Math.ceil(pageCount / 8);
    this.reachable = new Uint8Array(length);
    this.free = new Uint8Array(length);
    // The two meta pages.
    this.reach(0, 0);
    this.reach(1, 0);
  }

  /** A page was reached, with its overflow. Throws SnapshotDamagedError when it is free, or was reached before. */
  reach(page: number, overflow: number): void {
    for (let id = page; id <= page + overflow; id++) {
      const bit = 1 << (id & 7);
      if (((this.reachable[id >>> 3] as number) & bit) !== 0) {
        throw damaged(id, 'a second reference to it, expected every page to be reachable once');
      }
      if (((this.free[id >>> 3] as number) & bit) !== 0) {
        throw damaged(id, 'a reference to it although it is in the free list, expected it to be one of the two');
      }
      (this.reachable[id >>> 3] as number) |= bit;
    }
    this.reachableCount += overflow + 1;
  }

  /** Takes the free list in. Throws SnapshotDamagedError when it is none, or when a page is in it twice. */
  readFreeList(file: PageFile, page: number): void {
    const list = file.page(page);
    const header = pageHeader(list);
    if (header.id !== page || header.flags !== FREE_LIST_FLAG) {
      throw new SnapshotDamagedError(
        'bad-free-list',
        `page ${String(page)}: got a page that says it is number ${String(header.id)} with flags ${String(header.flags)}, expected number ${String(page)} with flags ${String(FREE_LIST_FLAG)} (free list)`,
        page,
      );
    }
    this.reach(page, header.overflow);
    const atFirst = list.start + HEADER_BYTES;
    const counted = header.count === COUNT_IN_FIRST_ID;
    const count = counted ? readPageNumber(list, atFirst) : header.count;
    const first = counted ? atFirst + 8 : atFirst;
    if (count > (list.end - first) / 8) {
      throw new SnapshotDamagedError(
        'bad-free-list',
        `page ${String(page)}: got a free list of ${String(count)} pages, expected at most the ${String((list.end - first) / 8)} that its own length has room for`,
        page,
      );
    }
    for (let i = 0; i < count; i++) {
      this.takeFree(page, readPageNumber(list, first + i * 8));
    }
  }

  /** Throws SnapshotDamagedError unless every page is reachable or free. Where the file keeps no free list, what is not reachable is free. */
  requireComplete(keepsFreeList: boolean): void {
    if (!keepsFreeList) {
      this.freeCount = this.pageCount - this.reachableCount;
      return;
    }
    if (this.reachableCount + this.freeCount === this.pageCount) {
      return;
    }
    for (let id = 0; id < this.pageCount; id++) {
      const bit = 1 << (id & 7);
      if ((((this.reachable[id >>> 3] as number) | (this.free[id >>> 3] as number)) & bit) === 0) {
        throw damaged(id, 'neither a reference to it nor an entry in the free list, expected one of the two');
      }
    }
  }

  get freePages(): number {
    return this.freeCount;
  }

  private takeFree(list: number, id: number): void {
    if (id < 2 || id >= this.pageCount) {
      throw new SnapshotDamagedError(
        'bad-free-list',
        `page ${String(list)}: got page ${String(id)} in the free list, expected pages from 2 to ${String(this.pageCount - 1)}`,
        list,
      );
    }
    const bit = 1 << (id & 7);
    if (((this.free[id >>> 3] as number) & bit) !== 0) {
      throw new SnapshotDamagedError(
        'bad-free-list',
        `page ${String(list)}: got page ${String(id)} twice in the free list, expected it once`,
        list,
      );
    }
    if (((this.reachable[id >>> 3] as number) & bit) !== 0) {
      throw damaged(id, 'an entry in the free list although it is in use, expected it to be one of the two');
    }
    (this.free[id >>> 3] as number) |= bit;
    this.freeCount++;
  }
}

/** The header of a page: id u64, flags u16, count u16, overflow u32 (bbolt, internal/common/page.go). */
export function pageHeader({ words, start }: Extent): { id: number; flags: number; count: number; overflow: number } {
  const at = start >> 2;
  const flagsAndCount = words[at + 2] as number;
  return {
    id: (words[at] as number) + (words[at + 1] as number) * 2 ** 32,
    flags: flagsAndCount & 0xffff,
    count: flagsAndCount >>> 16,
    overflow: words[at + 3] as number,
  };
}

/** A page number of 64 bits; beyond 2^53 not exact, but then no file has such a page. */
export function readPageNumber({ words }: Extent, at: number): number {
  return (words[at >> 2] as number) + (words[(at >> 2) + 1] as number) * 2 ** 32;
}

function damaged(page: number, got: string): SnapshotDamagedError {
  return new SnapshotDamagedError('bad-page-graph', `page ${String(page)}: got ${got}`, page);
}
