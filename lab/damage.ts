// Damage to snapshots, for tests and the fuzzer: what disks, copies and forgers do to a file, made by a seed so that it can be made again.

/** Numbers that are the same for the same seed (mulberry32). */
export class Random {
  constructor(private state: number) {}

  next(): number {
    this.state = (this.state + 0x6d2b_79f5) | 0;
    let bits = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return (bits ^ (bits >>> 14)) >>> 0;
  }

  /** From 0 to `below` - 1. */
  below(below: number): number {
    return this.next() % below;
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error('got an empty list, expected something to pick from');
    return list[this.below(list.length)] as T;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.next();
    return bytes;
  }
}

export const TRAILER_BYTES = 32;

const PAGE_HEADER = 16;
const ELEMENT = 16;
const META = PAGE_HEADER;
const META_BYTES = 56;
const NO_FREE_LIST = 0xffff_ffff_ffff_ffffn;

/** What some bytes of a file are for. */
export type Region =
  | 'meta'
  | 'page header'
  | 'branch elements'
  | 'branch keys'
  | 'leaf elements'
  | 'keys'
  | 'values'
  | 'overflow'
  | 'bucket headers'
  | 'inline buckets'
  | 'free list'
  | 'free pages'
  | 'unused';

/** A number in a file. */
interface Field {
  readonly at: number;
  readonly bytes: 2 | 4 | 8;
  /** Lies in a meta page, whose checksum follows it. */
  readonly meta: boolean;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** Where a sound bbolt file, without its trailer, has what. */
export class Layout {
  readonly pageSize: number;
  readonly pageCount: number;
  readonly regions = new Map<Region, Span[]>();
  /** By what they are: there are thousands of elements, and two meta pages. */
  readonly fields = new Map<string, Field[]>();
  /** Pages of the tree, without their overflow. */
  readonly treePages: number[] = [];
  private readonly used = new Set<number>();

  constructor(readonly body: Buffer) {
    this.pageSize = body.readUInt32LE(META + 8);
    const newer = this.transaction(1) > this.transaction(0) ? 1 : 0;
    const meta = newer * this.pageSize + META;
    this.pageCount = Number(body.readBigUInt64LE(meta + 40));
    for (const page of [0, 1]) {
      const at = page * this.pageSize;
      this.used.add(page);
      this.region('page header', at, at + PAGE_HEADER);
      this.region('meta', at + META, at + META + META_BYTES + 8);
      this.region('unused', at + META + META_BYTES + 8, at + this.pageSize);
      this.header(at, page);
      for (const [what, offset, bytes] of [
        ['magic', 0, 4],
        ['version', 4, 4],
        ['page size', 8, 4],
        ['flags', 12, 4],
        ['root', 16, 8],
        ['sequence', 24, 8],
        ['free list', 32, 8],
        ['page count', 40, 8],
        ['transaction', 48, 8],
      ] as const) {
        this.field(`meta ${what}`, at + META + offset, bytes, true);
      }
    }
    this.walk(Number(body.readBigUInt64LE(meta + 16)));
    const freeList = body.readBigUInt64LE(meta + 32);
    if (freeList !== NO_FREE_LIST) this.freeList(Number(freeList));
    for (let page = 2; page < this.pageCount; page++) {
      if (!this.used.has(page)) this.region('free pages', page * this.pageSize, (page + 1) * this.pageSize);
    }
    this.region('unused', this.pageCount * this.pageSize, body.length);
  }

  private transaction(page: number): bigint {
    return this.body.readBigUInt64LE(page * this.pageSize + META + 48);
  }

  private region(name: Region, start: number, end: number): void {
    if (end <= start) return;
    const spans = this.regions.get(name) ?? [];
    spans.push({ start, end });
    this.regions.set(name, spans);
  }

  private field(what: string, at: number, bytes: 2 | 4 | 8, meta = false): void {
    const fields = this.fields.get(what) ?? [];
    fields.push({ at, bytes, meta });
    this.fields.set(what, fields);
  }

  /** The header of a page, or of an inline bucket's, which has no number: -1. */
  private header(at: number, page: number): void {
    const kind = page < 0 ? 'inline page' : page < 2 ? 'meta page' : 'page';
    this.field(`${kind} id`, at, 8);
    this.field(`${kind} flags`, at + 8, 2);
    this.field(`${kind} count`, at + 10, 2);
    this.field(`${kind} overflow`, at + 12, 4);
  }

  private begin(page: number): { at: number; end: number; count: number } {
    const at = page * this.pageSize;
    const overflow = this.body.readUInt32LE(at + 12);
    for (let i = page; i <= page + overflow; i++) this.used.add(i);
    this.region('page header', at, at + PAGE_HEADER);
    this.header(at, page);
    const end = at + (overflow + 1) * this.pageSize;
    this.region('overflow', at + this.pageSize, end);
    return { at, end, count: this.body.readUInt16LE(at + 10) };
  }

  private freeList(page: number): void {
    const { at, count } = this.begin(page);
    const many = count === 0xffff;
    const ids = many ? Number(this.body.readBigUInt64LE(at + PAGE_HEADER)) + 1 : count;
    this.region('free list', at + PAGE_HEADER, at + PAGE_HEADER + ids * 8);
    for (let i = 0; i < Math.min(ids, 64); i++) this.field('free id', at + PAGE_HEADER + i * 8, 8);
  }

  private walk(page: number): void {
    this.treePages.push(page);
    const { at, end, count } = this.begin(page);
    if ((this.body.readUInt16LE(at + 8) & 1) !== 0) {
      this.region('branch elements', at + PAGE_HEADER, at + PAGE_HEADER + count * ELEMENT);
      for (let i = 0; i < count; i++) {
        const element = at + PAGE_HEADER + i * ELEMENT;
        this.field('branch pos', element, 4);
        this.field('branch ksize', element + 4, 4);
        this.field('branch child', element + 8, 8);
        const key = element + this.body.readUInt32LE(element);
        this.region('branch keys', key, key + this.body.readUInt32LE(element + 4));
        this.walk(Number(this.body.readBigUInt64LE(element + 8)));
      }
    } else {
      this.leaf(at, count, end);
    }
  }

  private leaf(at: number, count: number, end: number): void {
    this.region('leaf elements', at + PAGE_HEADER, at + PAGE_HEADER + count * ELEMENT);
    let last = at + PAGE_HEADER;
    for (let i = 0; i < count; i++) {
      const element = at + PAGE_HEADER + i * ELEMENT;
      for (const [index, what] of ['flags', 'pos', 'ksize', 'vsize'].entries()) {
        this.field(`leaf ${what}`, element + index * 4, 4);
      }
      const key = element + this.body.readUInt32LE(element + 4);
      const value = key + this.body.readUInt32LE(element + 8);
      last = value + this.body.readUInt32LE(element + 12);
      this.region('keys', key, value);
      if ((this.body.readUInt32LE(element) & 1) === 0) {
        this.region('values', value, last);
        continue;
      }
      this.region('bucket headers', value, value + 16);
      this.field('bucket root', value, 8);
      this.field('bucket sequence', value + 8, 8);
      const root = Number(this.body.readBigUInt64LE(value));
      if (root !== 0) {
        this.walk(root);
        continue;
      }
      const inline = value + 16;
      this.region('inline buckets', inline, last);
      this.header(inline, -1);
      this.leaf(inline, this.body.readUInt16LE(inline + 10), last);
    }
    this.region('unused', last, end);
  }
}

/** FNV-1a of 64 bits (bbolt: internal/common/meta.go, Sum64). */
function fnv1a64(bytes: Uint8Array): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x0000_0100_0000_01b3n);
  return hash;
}

/** Gives a meta page the checksum that fits it. */
export function sealMeta(body: Buffer, page: number, pageSize: number): void {
  const at = page * pageSize + META;
  body.writeBigUInt64LE(fnv1a64(body.subarray(at, at + META_BYTES)), at + META_BYTES);
}

function readField(body: Buffer, { at, bytes }: Field): bigint {
  if (bytes === 2) return BigInt(body.readUInt16LE(at));
  return bytes === 4 ? BigInt(body.readUInt32LE(at)) : body.readBigUInt64LE(at);
}

function writeField(body: Buffer, { at, bytes }: Field, value: bigint): void {
  if (bytes === 2) body.writeUInt16LE(Number(BigInt.asUintN(16, value)), at);
  else if (bytes === 4) body.writeUInt32LE(Number(BigInt.asUintN(32, value)), at);
  else body.writeBigUInt64LE(BigInt.asUintN(64, value), at);
}

/** A damaged body, and in words what was done to it. */
export interface Damaged {
  readonly body: Buffer;
  readonly what: string;
}

/** Flips one bit of a region, of `body` where it was damaged before. */
export function flipBit(layout: Layout, random: Random, region: Region, body = Buffer.from(layout.body)): Damaged {
  const { start, end } = random.pick(layout.regions.get(region) ?? []);
  const at = start + random.below(end - start);
  const bit = random.below(8);
  body[at] = (body[at] as number) ^ (1 << bit);
  return { body, what: `bit ${String(bit)} of byte ${String(at)} (${region}) flipped` };
}

/** Sets one number of the file to one that is likely to matter; a meta page's checksum fits again. */
export function setField(layout: Layout, random: Random, body = Buffer.from(layout.body)): Damaged {
  const what = random.pick([...layout.fields.keys()]);
  const same = layout.fields.get(what) ?? [];
  const field = random.pick(same);
  const { pageSize, pageCount } = layout;
  const old = readField(body, field);
  const value = random.pick([
    () => 0n,
    () => 1n,
    () => 2n,
    () => 3n,
    () => -1n,
    () => old + 1n,
    () => old - 1n,
    () => old ^ (1n << BigInt(random.below(field.bytes * 8))),
    () => BigInt(pageCount),
    () => BigInt(pageCount - 1),
    () => BigInt(pageCount + 1),
    () => BigInt(random.below(pageCount)),
    () => BigInt(random.pick(layout.treePages)),
    () => BigInt(Math.floor(field.at / pageSize)),
    () => BigInt(pageSize - random.below(33)),
    () => BigInt(pageSize - (field.at % pageSize)),
    () => 0x7fffn,
    () => 0xffffn,
    () => 0x7fff_ffffn,
    () => 0x8000_0000n,
    () => 0xffff_fff0n,
    () => 1n << BigInt(random.below(64)),
    () => BigInt(random.next()),
    () => readField(body, random.pick(same)),
  ])();
  writeField(body, field, value);
  if (field.meta) {
    const page = field.at < pageSize ? 0 : 1;
    sealMeta(body, page, pageSize);
    // The other one would be taken instead when it is the newer: often both say the same.
    if (random.below(2) === 0) {
      const other = { ...field, at: field.at + (page === 0 ? pageSize : -pageSize) };
      writeField(body, other, value);
      sealMeta(body, 1 - page, pageSize);
    }
  }
  return { body, what: `${what} at ${String(field.at)} from ${String(old)} to ${String(value)}` };
}

/** Writes random, zero or repeated bytes over a part of a region. */
export function smear(layout: Layout, random: Random, region: Region, body = Buffer.from(layout.body)): Damaged {
  const { start, end } = random.pick(layout.regions.get(region) ?? []);
  const at = start + random.below(end - start);
  const length = 1 + random.below(Math.min(end - at, 64));
  const bytes = random.pick([random.bytes(length), Buffer.alloc(length), Buffer.alloc(length, 0xff)]);
  bytes.copy(body, at);
  return { body, what: `${String(length)} bytes from ${String(at)} on (${region}) overwritten` };
}

/** Writes a number as protobuf does into a value: where etcd reads a tag, a length or a revision. */
export function garbleValue(layout: Layout, random: Random, body = Buffer.from(layout.body)): Damaged {
  const { start, end } = random.pick(layout.regions.get('values') ?? []);
  const at = start + random.below(Math.min(end - start, 48));
  const varint: number[] = [];
  let rest = random.pick([0n, 1n, 2n ** 31n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n, BigInt(random.next())]);
  for (; rest >= 0x80n; rest >>= 7n) varint.push(Number(rest & 0x7fn) | 0x80);
  // One that never ends, too.
  varint.push(random.below(8) === 0 ? 0xff : Number(rest));
  const length = Math.min(varint.length, end - at);
  Buffer.from(varint).copy(body, at, 0, length);
  return { body, what: `a varint of ${String(length)} bytes at ${String(at)} (values)` };
}

function page(body: Buffer, { pageSize }: Layout, number: number): Buffer {
  return body.subarray(number * pageSize, (number + 1) * pageSize);
}

export function swapPages(layout: Layout, random: Random): Damaged {
  const body = Buffer.from(layout.body);
  const [a, b] = [random.below(layout.pageCount), random.below(layout.pageCount)];
  page(layout.body, layout, a).copy(body, b * layout.pageSize);
  page(layout.body, layout, b).copy(body, a * layout.pageSize);
  return { body, what: `pages ${String(a)} and ${String(b)} swapped` };
}

/** A page in the place of another one; as forged, it says that it is the other one. */
export function duplicatePage(layout: Layout, random: Random, forged: boolean): Damaged {
  const body = Buffer.from(layout.body);
  const [a, b] = [random.below(layout.pageCount), random.below(layout.pageCount)];
  page(layout.body, layout, a).copy(body, b * layout.pageSize);
  if (forged) body.writeBigUInt64LE(BigInt(b), b * layout.pageSize);
  return { body, what: `page ${String(a)} ${forged ? 'forged' : 'copied'} into the place of ${String(b)}` };
}

export function zeroPage(layout: Layout, number: number): Damaged {
  const body = Buffer.from(layout.body);
  page(body, layout, number).fill(0);
  return { body, what: `page ${String(number)} zeroed` };
}

export function truncate(layout: Layout, length: number): Damaged {
  return { body: Buffer.from(layout.body.subarray(0, length)), what: `cut to ${String(length)} bytes` };
}
