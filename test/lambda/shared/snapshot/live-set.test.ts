import { LiveSet } from '../../../../lambda/shared/snapshot/live-set';

interface Row {
  readonly key: string;
  /** 0: a deletion. */
  readonly bytes: number;
}

/** What is alive, found with a map that keeps every key. */
function plainly(rows: readonly Row[]): { keys: number; bytes: number; hash: number; largest: number[] } {
  const alive = new Map<string, number>();
  for (const { key, bytes } of rows) {
    if (bytes === 0) {
      alive.delete(key);
    } else {
      alive.set(key, bytes);
    }
  }
  const sizes = [...alive.values()].sort((a, b) => b - a);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  return { keys: sizes.length, bytes, hash: bytes * 3, largest: sizes.slice(0, 5) };
}

function counted(rows: readonly Row[], maxSlots?: number) {
  let keys = 0;
  let bytes = 0;
  let hash = 0;
  const marked = { keys: 0 };
  const set = new LiveSet(
    {
      added: (group, size, marks, ofRow) => {
        keys++;
        bytes += size;
        hash += ofRow;
        marked.keys += marks === 5 && group === 7 ? 1 : 0;
      },
      removed: (group, size, marks, ofRow) => {
        keys--;
        bytes -= size;
        hash -= ofRow;
        marked.keys -= marks === 5 && group === 7 ? 1 : 0;
      },
    },
    maxSlots,
  );
  const largest: number[] = [];
  let walks = 0;
  do {
    walks++;
    rows.forEach(({ key, bytes: size }, position) => {
      const name = Buffer.from(key);
      if (size === 0) {
        set.delete(name, 0, name.length);
      } else {
        set.put(name, 0, name.length, { group: 7, bytes: size, marks: 5, position, hash: size * 3 });
      }
    });
    largest.push(...set.largest(5).map((found) => found.bytes));
  } while (set.nextShare());
  return { keys, bytes, hash, largest: largest.sort((a, b) => b - a).slice(0, 5), marked: marked.keys, walks };
}

/** Writes, overwrites and deletions of some keys, by a fixed sequence of numbers. */
function rowsOf(count: number, names: number): Row[] {
  let state = 12345;
  // mulberry32
  const next = (limit: number) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
  return Array.from({ length: count }, () => ({
    key: `/registry/pods/ns/${String(next(names))}`,
    bytes: next(4) === 0 ? 0 : 1 + next(100_000),
  }));
}

describe('the set of live keys', () => {
  test('has what a map of all keys would have, after writes, overwrites and deletions', () => {
    const rows = rowsOf(50_000, 20_000);
    expect(counted(rows)).toEqual({ ...plainly(rows), marked: plainly(rows).keys, walks: 1 });
  });

  test('grows as keys come', () => {
    const rows = rowsOf(300_000, 250_000);
    expect(counted(rows)).toEqual({ ...plainly(rows), marked: plainly(rows).keys, walks: 1 });
  });

  test('has the same within a bound of memory, in more walks over the same rows', () => {
    const rows = rowsOf(300_000, 250_000);
    const { walks, ...found } = counted(rows, 65_536);
    expect(found).toEqual({ ...plainly(rows), marked: plainly(rows).keys });
    expect(walks).toBeGreaterThan(2);
  });

  test('counts a key that is deleted before it was written as none', () => {
    expect(counted([{ key: 'a', bytes: 0 }]).keys).toBe(0);
  });

  test('gives up on more keys than an etcd can hold, instead of walking on', () => {
    const set = new LiveSet({ added: () => undefined, removed: () => undefined }, 65_536, 3);
    const walk = () => {
      for (let index = 0; index < 200_000; index++) {
        const name = Buffer.from(index.toString(36));
        set.put(name, 0, name.length, { group: 0, bytes: 1, marks: 0, position: 0, hash: 0 });
      }
      return set.nextShare();
    };
    expect(() => {
      while (walk());
    }).toThrow(/got more different keys than 3 walks of 45875 each can count/);
  });
});
