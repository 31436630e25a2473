import { randomBytes } from 'node:crypto';
import { SnapshotDamagedError } from './damage';
import { HalfSipHash } from './half-sip-hash';

/** Told of every key that comes into the set, with its newest row, and of every one that leaves it. */
export interface LiveSetListener {
  added(group: number, bytes: number, marks: number, hash: number): void;
  removed(group: number, bytes: number, marks: number, hash: number): void;
}

const FIRST_SLOTS = 1 << 16;
// 28 bytes each, 117 MB; twice that while keys move to another table.
const MAX_SLOTS = 1 << 22;
// Some 50 million keys. etcd keeps an index of them in memory, which would need more than 8 GB.
const MAX_WALKS = 32;
const FULL = 0.7;
const USED = 1;
const LIVE = 2;
const MARKS_SHIFT = 2;
const GROUP_SHIFT = 8;

/** Marks of a key, at most six of them. */
export const MAX_MARKS = 1 << (GROUP_SHIFT - MARKS_SHIFT);

/** Keys whose hash leaves `remainder` when divided by `modulus`. */
interface Share {
  readonly modulus: number;
  readonly remainder: number;
}

/**
 * The set of keys that are alive at the newest revision, from rows in the order of their revisions. Memory is bounded: when there are more
 * keys than fit, the set goes on with a share of them, and `nextShare` asks for another walk over the same rows for the rest.
 *
 * A key is known by a keyed hash of 64 bits: that two of 20 million share one has a chance of 1 in 90,000, and nobody can bring it about.
 */
export class LiveSet {
  private readonly sip: HalfSipHash;
  private share: Share = { modulus: 1, remainder: 0 };
  private readonly shares: Share[] = [];
  private walks = 1;
  private slots = new Slots(FIRST_SLOTS);
  private used = 0;

  constructor(
    private readonly listener: LiveSetListener,
    private readonly maxSlots = MAX_SLOTS,
    private readonly maxWalks = MAX_WALKS,
  ) {
    const seed = randomBytes(8);
    this.sip = new HalfSipHash(seed.readInt32LE(0), seed.readInt32LE(4));
  }

  /** The newest row of the key `bytes[start, end)` so far. `position`: where in the file the row's value lies. `hash`: of that value, 32 bits. */
  put(
    bytes: Uint8Array,
    start: number,
    end: number,
    row: { group: number; bytes: number; marks: number; position: number; hash: number },
  ): void {
    const slot = this.find(bytes, start, end);
    if (slot === -1) {
      return;
    }
    this.remove(slot);
    const { slots } = this;
    slots.bytes[slot] = row.bytes;
    slots.state[slot] = USED | LIVE | (row.marks << MARKS_SHIFT) | (row.group << GROUP_SHIFT);
    slots.position[slot] = row.position;
    slots.hash[slot] = row.hash;
    this.listener.added(row.group, row.bytes, row.marks, row.hash);
  }

  /** The newest row of this key so far deletes it. */
  delete(bytes: Uint8Array, start: number, end: number): void {
    const slot = this.find(bytes, start, end);
    if (slot !== -1) {
      this.remove(slot);
      this.slots.state[slot] = USED;
    }
  }

  /**
   * Ends a walk over all rows. True when the rows have to be walked again, for keys that this walk passed over. Throws SnapshotDamagedError
   * after 32 walks, unless told otherwise.
   */
  nextShare(): boolean {
    const next = this.shares.pop();
    if (next === undefined) {
      return false;
    }
    this.walks++;
    if (this.walks > this.maxWalks) {
      throw new SnapshotDamagedError(
        'bad-content',
        `bucket 'key': got more different keys than ${String(this.maxWalks)} walks of ${String(Math.floor(this.slots.count * FULL))} each can count, expected fewer: no etcd holds so many`,
      );
    }
    this.share = next;
    this.slots.clear();
    this.used = 0;
    return true;
  }

  /** The `count` largest live keys of this walk: bytes, and where in the file the value of their newest row lies. */
  largest(count: number): { readonly bytes: number; readonly position: number }[] {
    const { slots } = this;
    const found: { bytes: number; position: number }[] = [];
    for (let slot = 0; slot < slots.count; slot++) {
      if (((slots.state[slot] as number) & LIVE) === 0) {
        continue;
      }
      const candidate = { bytes: slots.bytes[slot] as number, position: slots.position[slot] as number };
      const last = found[count - 1];
      if (last === undefined || largestFirst(candidate, last) < 0) {
        found.push(candidate);
        found.sort(largestFirst);
        found.splice(count);
      }
    }
    return found;
  }

  /** The slot of this key, a new one if need be; -1 when the key is of another share. */
  private find(bytes: Uint8Array, start: number, end: number): number {
    const { sip } = this;
    sip.hash(bytes, start, end);
    if (this.isOther(sip.high)) {
      return -1;
    }
    let slot = this.slots.find(sip.low, sip.high);
    if (this.slots.state[slot] === 0) {
      if (this.used >= this.slots.count * FULL) {
        this.makeRoom();
        if (this.isOther(sip.high)) {
          return -1;
        }
        slot = this.slots.find(sip.low, sip.high);
      }
      this.used++;
      this.slots.low[slot] = sip.low;
      this.slots.high[slot] = sip.high;
      this.slots.state[slot] = USED;
    }
    return slot;
  }

  private isOther(high: number): boolean {
    return high % this.share.modulus !== this.share.remainder;
  }

  private remove(slot: number): void {
    const state = this.slots.state[slot] as number;
    if ((state & LIVE) !== 0) {
      this.listener.removed(
        state >>> GROUP_SHIFT,
        this.slots.bytes[slot] as number,
        (state >>> MARKS_SHIFT) & (MAX_MARKS - 1),
        this.slots.hash[slot] as number,
      );
    }
  }

  private makeRoom(): void {
    const old = this.slots;
    let count = old.count * 2;
    if (count > this.maxSlots) {
      // No more memory: half of these keys have to wait for the next walk.
      const { modulus, remainder } = this.share;
      this.shares.push({ modulus: modulus * 2, remainder: remainder + modulus });
      this.share = { modulus: modulus * 2, remainder };
      count = old.count;
    }
    this.slots = new Slots(count);
    this.used = 0;
    for (let from = 0; from < old.count; from++) {
      if (old.state[from] === 0) {
        continue;
      }
      const high = old.high[from] as number;
      if (this.isOther(high)) {
        const state = old.state[from] as number;
        if ((state & LIVE) !== 0) {
          this.listener.removed(
            state >>> GROUP_SHIFT,
            old.bytes[from] as number,
            (state >>> MARKS_SHIFT) & (MAX_MARKS - 1),
            old.hash[from] as number,
          );
        }
        continue;
      }
      const to = this.slots.find(old.low[from] as number, high);
      this.slots.low[to] = old.low[from] as number;
      this.slots.high[to] = high;
      this.slots.bytes[to] = old.bytes[from] as number;
      this.slots.state[to] = old.state[from] as number;
      this.slots.position[to] = old.position[from] as number;
      this.slots.hash[to] = old.hash[from] as number;
      this.used++;
    }
  }
}

/** Of the same size, what lies first in the file: the same file gives the same answer. */
export function largestFirst(
  a: { readonly bytes: number; readonly position: number },
  b: { readonly bytes: number; readonly position: number },
): number {
  return b.bytes - a.bytes || a.position - b.position;
}

/** A hash table with open addressing. */
class Slots {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
  readonly bytes: Uint32Array;
  /** 0: not used. */
  readonly state: Uint32Array;
  readonly position: Float64Array;
  readonly hash: Uint32Array;

  constructor(readonly count: number) {
    this.low = new Uint32Array(count);
    this.high = new Uint32Array(count);
    this.bytes = new Uint32Array(count);
    this.state = new Uint32Array(count);
    this.position = new Float64Array(count);
    this.hash = new Uint32Array(count);
  }

  clear(): void {
    this.state.fill(0);
  }

  /** The slot of this hash, or the unused one where it would go. */
  find(low: number, high: number): number {
    const mask = this.count - 1;
    let slot = low & mask;
    while (this.state[slot] !== 0 && !(this.low[slot] === low && this.high[slot] === high)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }
}
