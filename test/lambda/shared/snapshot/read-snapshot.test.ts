import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ReaderAnswer } from '../../../../lab/reader-process';
import { type Damage, SnapshotDamagedError } from '../../../../lambda/shared/snapshot/damage';
import type { SnapshotFacts } from '../../../../lambda/shared/snapshot/facts';
import { readSnapshot, type ReadSnapshotOptions } from '../../../../lambda/shared/snapshot/read-snapshot';
import {
  branch,
  bucketAt,
  changedMeta,
  field,
  freeList,
  inlineBucket,
  keyRow,
  leaf,
  type LeafElement,
  meta,
  PAGE_SIZE,
  rootPage,
  smallSnapshot,
  snapshot,
} from './bolt-file';
import { slowCrc32c } from './slow-crc32c';

const LAB = join(__dirname, '../../../../lab');
const READER = join(__dirname, '../../../../lambda/shared/snapshot/read-snapshot.ts');

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'read-snapshot-'));
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});

function read(bytes: Buffer, options?: ReadSnapshotOptions): SnapshotFacts {
  const file = join(dir, 'snapshot.db');
  writeFileSync(file, bytes);
  return readSnapshot(file, options);
}

function refusal(bytes: Buffer): SnapshotDamagedError {
  try {
    read(bytes);
  } catch (error) {
    if (error instanceof SnapshotDamagedError) {
      return error;
    }
    throw error;
  }
  throw new Error('the snapshot was called sound');
}

const metas = (pages: number, root = 3): Buffer[] => [
  meta({ id: 0, root, freeList: 2, pages, transaction: 6 }),
  meta({ id: 1, root, freeList: 2, pages, transaction: 5 }),
];
const root = (page = 4): Buffer => rootPage(page);
const rows = (from: number, to: number): LeafElement[] =>
  Array.from({ length: to - from }, (_, index) =>
    keyRow(from + index, `/registry/pods/a/${String(from + index)}`, 'v'),
  );

/** Page 3 with one more inline bucket, of a name that sorts before `key` or between it and `meta`. */
function withBucket(name: string, elements: readonly LeafElement[]): Buffer {
  return leaf(
    3,
    [
      { key: 'key', value: inlineBucket([]), bucket: true },
      { key: 'meta', value: inlineBucket([]), bucket: true },
      { key: name, value: inlineBucket(elements), bucket: true },
    ].sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key))),
  );
}

/** The key of etcd in a row. */
function keyIn({ value = '' }: LeafElement): string {
  const bytes = Buffer.from(value);
  return bytes.toString('latin1', 2, 2 + bytes.readUInt8(1));
}

/** As many leaves as the rows need, under one branch page; `shuffle`: not in the order of their keys, and the other way round. */
function manyLeaves(elements: readonly LeafElement[], { shuffle = false } = {}): Buffer {
  const groups: LeafElement[][] = [];
  for (let from = 0; from < elements.length; from += 40) {
    groups.push(elements.slice(from, from + 40));
  }
  const order = groups.map((_, index) => index);
  if (shuffle) {
    order.sort((a, b) => ((a * 7919) % groups.length) - ((b * 7919) % groups.length));
  }
  // Each branch page has up to 60 leaves, and one page leads to all of them.
  const branchPages = Math.ceil(groups.length / 60);
  let next = 5 + branchPages;
  const pageOf: number[] = [];
  const leaves: Buffer[] = [];
  for (const index of order) {
    const page = leaf(next, groups[index] ?? []);
    pageOf[index] = next;
    leaves.push(page);
    next += page.length / PAGE_SIZE;
  }
  const keyOf = (index: number) => Buffer.from(groups[index]?.[0]?.key ?? '');
  const branches = Array.from({ length: branchPages }, (_, position) =>
    branch(
      5 + position,
      groups
        .slice(position * 60, position * 60 + 60)
        .map((__, offset) => ({ key: keyOf(position * 60 + offset), page: pageOf[position * 60 + offset] ?? 0 })),
    ),
  );
  return snapshot(
    ...metas(next),
    freeList(2, []),
    root(),
    branch(
      4,
      branches.map((_, position) => ({ key: keyOf(position * 60), page: 5 + position })),
    ),
    ...branches,
    ...leaves,
  );
}

/** Two levels: page 4 is a branch over the leaves 5 and 6. */
function twoLevels(
  change: {
    readonly first?: readonly LeafElement[];
    readonly separator?: Buffer;
    readonly second?: readonly LeafElement[];
  } = {},
) {
  const second = change.second ?? rows(20, 25);
  return snapshot(
    ...metas(7),
    freeList(2, []),
    root(),
    branch(4, [
      { key: Buffer.from(rows(10, 11)[0]?.key ?? ''), page: 5 },
      { key: change.separator ?? Buffer.from(rows(20, 21)[0]?.key ?? ''), page: 6 },
    ]),
    leaf(5, change.first ?? rows(10, 15)),
    leaf(6, second),
  );
}

describe('a sound snapshot', () => {
  test('has the hash over names, keys and values, revision, keys and size as etcdutl counts them', () => {
    const elements = [
      keyRow(2, '/registry/pods/a/x', 'one'),
      keyRow(3, '/registry/pods/a/x', null),
      keyRow(4, 'y', 'two'),
    ];
    const facts = read(smallSnapshot(elements));
    const hashed = Buffer.concat([
      Buffer.from('key'),
      ...elements.flatMap(({ key, value = '' }) => [Buffer.from(key), Buffer.from(value)]),
      Buffer.from('meta'),
    ]);
    expect(facts.hash).toBe(slowCrc32c(hashed));
    expect(facts.liveHash).toBe(slowCrc32c(Buffer.from(elements[2]?.value ?? '')));
    expect(facts).toMatchObject({
      revision: 4,
      totalKey: { rows: 3, live: 1 },
      totalSizeBytes: 5 * PAGE_SIZE,
      pageSizeBytes: PAGE_SIZE,
      mvcc: { tombstones: 1, compactedRevision: null },
      pages: { total: 5, free: 0, branch: 0, leaf: 2, overflow: 0 },
      members: [],
      storageVersion: null,
    });
  });

  test('has a sum of the hashes of its live keys, each with its newest row, whatever was overwritten or deleted', () => {
    const elements = [
      keyRow(2, 'a', 'one'),
      keyRow(3, 'b', 'two'),
      keyRow(4, 'c', 'three', { lease: 7 }),
      keyRow(5, 'b', 'four'),
      keyRow(6, 'a', null),
    ];
    const hashOf = (row: number) => slowCrc32c(Buffer.from(elements[row]?.value ?? ''));
    expect(read(smallSnapshot(elements)).liveHash).toBe((hashOf(2) + hashOf(3)) % 2 ** 32);
  });

  test.each([4096, 8192, 16384, 32768, 65536])('may have pages of %d bytes', (pageSize) => {
    expect(read(smallSnapshot(rows(2, 30), { pageSize }))).toMatchObject({ pageSizeBytes: pageSize, revision: 29 });
  });

  test('may have values longer than a page, whose pages the hash goes over whole', () => {
    const elements = [keyRow(2, 'a', 'x'.repeat(100_000)), keyRow(3, 'b', 'y'.repeat(70_001))];
    const facts = read(smallSnapshot(elements));
    expect(facts.pages.overflow).toBe(41);
    expect(facts.hash).toBe(
      slowCrc32c(
        Buffer.concat([
          Buffer.from('key'),
          ...elements.flatMap(({ key, value = '' }) => [Buffer.from(key), Buffer.from(value)]),
          Buffer.from('meta'),
        ]),
      ),
    );
    expect(facts.inventory.bytes).toBe(170_003);
  });

  test('may have branch pages, whose leaves are read in the order of the keys', () => {
    expect(read(twoLevels())).toMatchObject({ revision: 24, totalKey: { rows: 10 }, pages: { branch: 1, leaf: 3 } });
  });

  test('falls back to the older meta page when the newer one is torn, whichever of the two that is', () => {
    const keys = leaf(4, rows(2, 5));
    for (const torn of [0, 1]) {
      const bytes = snapshot(
        meta({ id: 0, root: 3, freeList: 2, pages: 5, transaction: torn === 0 ? 9 : 4, torn: torn === 0 }),
        meta({ id: 1, root: 3, freeList: 2, pages: 5, transaction: torn === 1 ? 9 : 4, torn: torn === 1 }),
        freeList(2, []),
        root(),
        keys,
      );
      expect(read(bytes).revision).toBe(4);
    }
  });

  test('is read at the newer of two meta pages', () => {
    const bytes = (newer: number) =>
      snapshot(
        meta({ id: 0, root: 3, freeList: 2, pages: 7, transaction: newer === 0 ? 9 : 8 }),
        meta({ id: 1, root: 5, freeList: 2, pages: 7, transaction: newer === 1 ? 9 : 8 }),
        freeList(2, newer === 0 ? [5, 6] : [3, 4]),
        root(4),
        leaf(4, rows(2, 5)),
        leaf(5, [
          { key: 'key', value: bucketAt(6), bucket: true },
          { key: 'meta', value: inlineBucket([]), bucket: true },
        ]),
        leaf(6, rows(2, 9)),
      );
    expect([read(bytes(0)).revision, read(bytes(1)).revision]).toEqual([4, 8]);
  });

  test('may keep no free list: what is not reachable is free', () => {
    const bytes = snapshot(
      meta({ id: 0, root: 3, pages: 6, transaction: 6 }),
      meta({ id: 1, root: 3, pages: 6, transaction: 5 }),
      Buffer.alloc(PAGE_SIZE),
      root(),
      leaf(4, rows(2, 5)),
      Buffer.alloc(PAGE_SIZE),
    );
    expect(read(bytes).pages).toMatchObject({ total: 6, free: 2 });
  });

  test('may have its free list counted in the first entry', () => {
    const bytes = snapshot(
      ...metas(6),
      freeList(2, [5], { counted: true }),
      root(),
      leaf(4, rows(2, 5)),
      Buffer.alloc(PAGE_SIZE),
    );
    expect(read(bytes).pages.free).toBe(1);
  });

  test('may have inline and nested buckets; of a nested one only the name counts', () => {
    const bytes = snapshot(
      ...metas(6),
      freeList(2, []),
      leaf(3, [
        { key: 'auth', value: inlineBucket([{ key: 'authEnabled', value: Buffer.from([1]) }]), bucket: true },
        { key: 'key', value: inlineBucket([]), bucket: true },
        { key: 'meta', value: inlineBucket([]), bucket: true },
        { key: 'test', value: bucketAt(4), bucket: true },
      ]),
      leaf(4, [
        { key: 'inner', value: bucketAt(5), bucket: true },
        { key: 'row', value: 'v' },
      ]),
      leaf(5, [{ key: 'hidden', value: 'w' }]),
    );
    const facts = read(bytes);
    expect(facts.hash).toBe(
      slowCrc32c(
        Buffer.concat(
          ['auth', 'authEnabled', Buffer.from([1]), 'key', 'meta', 'test', 'inner', 'row', 'v'].map((part) =>
            Buffer.from(part),
          ),
        ),
      ),
    );
    expect(facts).toMatchObject({ totalKey: { rows: 3 }, auth: { enabled: true } });
  });

  test('has members, alarms, versions and the compacted revision as its small buckets say', () => {
    const uint64 = (value: bigint) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(value);
      return bytes;
    };
    const member = { name: 'cp-1', peerURLs: ['https://a:2380'], clientURLs: ['https://a:2379'], isLearner: true };
    const facts = read(
      snapshot(
        ...metas(4),
        freeList(2, []),
        leaf(3, [
          { key: 'alarm', value: inlineBucket([{ key: Buffer.from([8, 0x2a, 16, 1]) }]), bucket: true },
          { key: 'cluster', value: inlineBucket([{ key: 'clusterVersion', value: '3.6.0' }]), bucket: true },
          { key: 'key', value: inlineBucket([]), bucket: true },
          {
            key: 'members',
            value: inlineBucket([{ key: '8e9e05c52164694d', value: JSON.stringify(member) }]),
            bucket: true,
          },
          { key: 'members_removed', value: inlineBucket([{ key: 'beef', value: 'removed' }]), bucket: true },
          {
            key: 'meta',
            value: inlineBucket([
              { key: 'consistent_index', value: uint64(18_446_744_073_709_551_615n) },
              { key: 'finishedCompactRev', value: keyRow(7, 'x', '').key },
              { key: 'storageVersion', value: '3.6.0' },
              { key: 'term', value: uint64(3n) },
            ]),
            bucket: true,
          },
        ]),
      ),
    );
    expect(facts).toMatchObject({
      alarms: [{ memberId: '2a', alarm: 'NOSPACE' }],
      clusterVersion: '3.6.0',
      storageVersion: '3.6.0',
      consistentIndex: '18446744073709551615',
      term: '3',
      members: [
        {
          id: '8e9e05c52164694d',
          name: 'cp-1',
          peerUrls: ['https://a:2380'],
          clientUrls: ['https://a:2379'],
          isLearner: true,
        },
      ],
      removedMembers: ['beef'],
      // SHA-1 of the one id, as etcd prints it for a member of its default name and URL.
      bootstrapClusterId: 'cdf818194e3a8c32',
      mvcc: { compactedRevision: 7 },
    });
  });

  test('is read in several walks when its keys do not fit the memory at once, with the same facts', () => {
    const uid = 'd86af689-a947-49ac-a18d-b672ac7d12ae';
    const elements = Array.from({ length: 120_000 }, (_, index) =>
      keyRow(index + 2, `/registry/pods/ns-${String(index % 7)}/${String(index % 100_000)}`, 'x'.repeat(index % 50)),
    );
    elements.push(
      keyRow(120_002, '/registry/namespaces/kube-system', JSON.stringify({ metadata: { uid } })),
      keyRow(120_003, '/registry/pods/ns-1/99', null),
      keyRow(120_004, '/registry/pods/ns-1/large', 'y'.repeat(9000)),
    );
    const bytes = manyLeaves(elements);
    const atOnce = read(bytes);
    expect(read(bytes, { maxKeySlots: 65_536 })).toEqual(atOnce);
    expect(atOnce).toMatchObject({
      kubernetes: { kubeSystemUid: uid },
      inventory: { largest: expect.arrayContaining([{ key: '/registry/pods/ns-1/large', bytes: 9025 }]) as unknown },
    });
    expect(atOnce.totalKey.live).toBe(new Set(elements.map((element) => keyIn(element))).size - 1);
  });

  test('is never in memory as a whole, and neither are its values', () => {
    const file = join(dir, 'large.db');
    const value = Buffer.alloc(1_000_000, 'v');
    const leafOf = (index: number) =>
      [0, 1, 2].map((row) => keyRow(2 + 3 * index + row, `/registry/pods/a/${String(index)}-${String(row)}`, value));
    const leaves = 90;
    const leafPages = leaf(5, leafOf(0)).length / PAGE_SIZE;
    const fd = openSync(file, 'w');
    const sha256 = createHash('sha256');
    const put = (page: Buffer) => {
      sha256.update(page);
      writeSync(fd, page);
    };
    const pages = 5 + leaves * leafPages;
    [...metas(pages), freeList(2, []), root()].forEach(put);
    const pageOf = (index: number) => 5 + index * leafPages;
    const indices = Array.from({ length: leaves }, (_, index) => index);
    put(
      branch(
        4,
        indices.map((index) => ({ key: leafOf(index)[0]?.key ?? '', page: pageOf(index) })),
      ),
    );
    for (const index of indices) {
      put(leaf(pageOf(index), leafOf(index)));
    }
    writeSync(fd, sha256.digest());
    closeSync(fd);

    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--max-old-space-size=192', '--import', 'tsx', join(LAB, 'reader-process.ts'), READER],
      { input: `${file}\n`, encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    const answer = JSON.parse(stdout) as ReaderAnswer;
    expect(answer).toMatchObject({ ok: true, rows: 3 * leaves, totalSize: pages * PAGE_SIZE });
    // Node and tsx have some 130 MB, the reader some 20 MB. With the file, or all values, it would have 350 MB.
    expect(answer.maxRssBytes).toBeLessThan(250_000_000);
  });

  test('is read the same when its pages lie in any order, with values that go on far behind what is read at once', () => {
    const elements = Array.from({ length: 3_000 }, (_, index) =>
      keyRow(
        index + 2,
        `/registry/pods/a/${String(index)}`,
        'v'.repeat(index % 97 === 0 ? 90_000 : (index * 37) % 3000),
      ),
    );
    const inOrder = read(manyLeaves(elements));
    const shuffled = read(manyLeaves(elements, { shuffle: true }));
    const { largest } = shuffled.inventory;
    expect(largest.map(({ bytes }) => bytes)).toEqual(inOrder.inventory.largest.map(({ bytes }) => bytes));
    // Of objects of the same size, those that come first in the file are named.
    expect(shuffled).toEqual({
      ...inOrder,
      trailerSha256: shuffled.trailerSha256,
      inventory: { ...inOrder.inventory, largest },
    });
    expect(inOrder.hash).toBe(
      slowCrc32c(
        Buffer.concat(
          ['key', ...elements.flatMap(({ key, value = '' }) => [key, value]), 'meta'].map((part) => Buffer.from(part)),
        ),
      ),
    );
  });

  test('may have removed more members than are listed', () => {
    const removed = Array.from({ length: 1_200 }, (_, index) => ({
      key: (0x1000 + index).toString(16),
      value: 'removed',
    }));
    const facts = read(
      snapshot(
        ...metas(4 + leaf(4, removed).length / PAGE_SIZE),
        freeList(2, []),
        leaf(3, [
          { key: 'key', value: inlineBucket([]), bucket: true },
          { key: 'members_removed', value: bucketAt(4), bucket: true },
          { key: 'meta', value: inlineBucket([]), bucket: true },
        ]),
        leaf(4, removed),
      ),
    );
    expect(facts.removedMembers).toHaveLength(1_000);
    expect(facts.buckets.find(({ name }) => name === 'members_removed')?.rows).toBe(1_200);
  });

  test('is read the same when the caller has hashed it before', () => {
    const bytes = smallSnapshot(rows(2, 5));
    const trailerSha256 = createHash('sha256').update(bytes.subarray(0, -32)).digest('hex');
    expect(read(bytes, { trailerSha256 })).toEqual(read(bytes));
    expect(() =>
      read(bytes, { trailerSha256: trailerSha256.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) }),
    ).toThrow(SnapshotDamagedError);
  });
});

describe('a damaged snapshot is refused, with the page and what is wrong', () => {
  const good = smallSnapshot(rows(2, 6));
  /** Damages the database and gives it the trailer of what it is now. */
  const changed = (change: (database: Buffer) => void, bytes = good): Buffer => {
    const database = Buffer.from(bytes.subarray(0, -32));
    change(database);
    return snapshot(database);
  };
  const at = (page: number, offset: number) => page * PAGE_SIZE + offset;

  const cases: readonly (readonly [string, () => Buffer, Damage, RegExp])[] = [
    ['nothing at all', () => Buffer.alloc(0), 'too-short', /got 0 bytes/],
    ['a trailer alone', () => Buffer.alloc(32), 'too-short', /got 32 bytes/],
    ['no trailer', () => good.subarray(0, -32), 'bad-length', /database out of a data directory/],
    ['a doubled trailer', () => Buffer.concat([good, good.subarray(-32)]), 'bad-length', /got \d+ bytes/],
    ['one byte less', () => good.subarray(0, -1), 'bad-length', /the file was cut/],
    [
      'a flipped bit',
      () => {
        const bytes = Buffer.from(good);
        bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000);
        return bytes;
      },
      'bad-trailer',
      /got SHA-256 [0-9a-f]{64} of the first 20480 bytes/,
    ],
    [
      'a cut with a trailer of its own',
      () => snapshot(good.subarray(0, 4 * PAGE_SIZE)),
      'bad-meta',
      /5 pages of 4096 bytes, expected them to fit/,
    ],
    [
      'two torn meta pages',
      () =>
        changed((db) => {
          db.writeUInt8(1, at(0, 20));
          db.writeUInt8(1, at(1, 30));
        }),
      'bad-meta',
      /page 0: version 1, expected 2; page 1: wrong checksum/,
    ],
    [
      'a meta page that says it is another',
      () => changed((db) => db.writeUInt8(7, at(1, 0))),
      'bad-meta',
      /page 1: got a page that says it is number 7/,
    ],
    [
      'a root bucket outside',
      () => snapshot(...metas(5, 5), freeList(2, []), root(), leaf(4, [])),
      'bad-meta',
      /page 5 for the root bucket, expected one from 2 to 4/,
    ],
    [
      'a page size that no machine has',
      () => snapshot(meta({ id: 0, root: 3, pages: 5, transaction: 2, pageSize: 2048 }), Buffer.alloc(20_480)),
      'bad-meta',
      /page 0: got a page size of 2048 bytes, expected 4096, 8192/,
    ],
    [
      'a first meta page with a page size of 0 beside an older one that is whole',
      () =>
        snapshot(
          changedMeta(meta({ id: 0, root: 3, freeList: 2, pages: 5, transaction: 9 }), (bytes) =>
            bytes.writeUInt32LE(0, 8),
          ),
          ...metas(5).slice(1),
          freeList(2, []),
          root(),
          leaf(4, []),
        ),
      'bad-meta',
      /page 0: got a page size of 0 bytes/,
    ],
    [
      'meta pages that do not agree on the page size',
      () =>
        snapshot(
          ...metas(5).slice(0, 1),
          changedMeta(meta({ id: 1, root: 3, freeList: 2, pages: 5, transaction: 9 }), (bytes) =>
            bytes.writeUInt32LE(8192, 8),
          ),
          freeList(2, []),
          root(),
          leaf(4, []),
        ),
      'bad-meta',
      /page 1: got a page size of 8192 bytes, expected 4096/,
    ],
    [
      'a free list that is none',
      () => changed((db) => db.writeUInt8(2, at(2, 8))),
      'bad-free-list',
      /page 2: .* flags 2, expected number 2 with flags 16/,
    ],
    [
      'a free list longer than itself',
      () => changed((db) => db.writeUInt16LE(600, at(2, 10))),
      'bad-free-list',
      /600 pages, expected at most the 510/,
    ],
    [
      'a counted free list that claims everything',
      () =>
        changed((db) => {
          db.writeUInt16LE(0xffff, at(2, 10));
          db.fill(0xff, at(2, 16), at(2, 24));
        }),
      'bad-free-list',
      /free list of 1844674407370955\d+ pages/,
    ],
    [
      'a free page outside',
      () => snapshot(...metas(5), freeList(2, [5]), root(), leaf(4, [])),
      'bad-free-list',
      /page 5 in the free list, expected pages from 2 to 4/,
    ],
    [
      'a page free twice',
      () => snapshot(...metas(6), freeList(2, [5, 5]), root(), leaf(4, []), leaf(5, [])),
      'bad-free-list',
      /page 5 twice/,
    ],
    [
      'the free list among the free',
      () => snapshot(...metas(5), freeList(2, [2]), root(), leaf(4, [])),
      'bad-page-graph',
      /page 2: .*although it is in use/,
    ],
    [
      'a page both free and in use',
      () => snapshot(...metas(5), freeList(2, [4]), root(), leaf(4, [])),
      'bad-page-graph',
      /page 4: .*although it is in the free list/,
    ],
    [
      'a page neither free nor in use',
      () => snapshot(...metas(6), freeList(2, []), root(), leaf(4, []), leaf(5, [])),
      'bad-page-graph',
      /page 5: got neither/,
    ],
    [
      'a page in use twice',
      () =>
        snapshot(
          ...metas(5),
          freeList(2, []),
          leaf(3, [
            { key: 'a', value: bucketAt(4), bucket: true },
            { key: 'b', value: bucketAt(4), bucket: true },
          ]),
          leaf(4, []),
        ),
      'bad-page-graph',
      /page 4: got a second reference/,
    ],
    [
      'a page that leads to itself',
      () => snapshot(...metas(5), freeList(2, []), root(), branch(4, [{ key: 'a', page: 4 }])),
      'bad-page-graph',
      /page 4: got a second reference/,
    ],
    [
      'a page that says it is another',
      () => changed((db) => db.writeUInt8(9, at(4, 0))),
      'bad-page',
      /page 4: got a page that says it is number 9/,
    ],
    ['a page of two types', () => changed((db) => db.writeUInt8(3, at(4, 8))), 'bad-page', /page 4: got flags 3/],
    [
      'a reference outside',
      () => snapshot(...metas(5), freeList(2, []), root(5), leaf(4, [])),
      'bad-page',
      /page 5: got a reference to it, expected pages from 2 to 4/,
    ],
    [
      'a reference to a meta page',
      () => snapshot(...metas(5), freeList(2, []), root(1), leaf(4, [])),
      'bad-page',
      /page 1: got a reference/,
    ],
    [
      'an overflow beyond the file',
      () => changed((db) => db.writeUInt32LE(0xffff_ffff, at(4, 12))),
      'bad-page',
      /page 4: got an overflow of 4294967295 pages/,
    ],
    [
      'more elements than fit',
      () => changed((db) => db.writeUInt16LE(60_000, at(4, 10))),
      'bad-page',
      /page 4: got 60000 elements, expected at most the 255/,
    ],
    [
      'an element out of place',
      () => changed((db) => db.writeUInt32LE(db.readUInt32LE(at(4, 20)) + 1, at(4, 20))),
      'bad-page',
      /page 4: got element 0 at offset 65, expected 64/,
    ],
    [
      'a value longer than its page',
      () => changed((db) => db.writeUInt32LE(0xffff_fff0, at(4, 16 + 3 * 16 + 12))),
      'bad-page',
      /page 4: got element 3 with a key of 17 bytes and a value of 4294967280/,
    ],
    ['a key of no length', () => changed((db) => db.writeUInt32LE(0, at(4, 24))), 'bad-page', /a key of 0 bytes/],
    [
      'an element that is neither value nor bucket',
      () => changed((db) => db.writeUInt32LE(2, at(4, 16))),
      'bad-page',
      /flags 2 in element 0/,
    ],
    [
      'a branch page with no element',
      () => snapshot(...metas(5), freeList(2, []), root(), branch(4, [])),
      'bad-page',
      /branch page with no element/,
    ],
    [
      'a bucket too short for one',
      () => snapshot(...metas(4), freeList(2, []), leaf(3, [{ key: 'key', value: 'short', bucket: true }])),
      'bad-page',
      /a bucket of 5 bytes/,
    ],
    [
      'an inline bucket without a page',
      () => snapshot(...metas(4), freeList(2, []), leaf(3, [{ key: 'key', value: bucketAt(0), bucket: true }])),
      'bad-page',
      /an inline bucket of 0 bytes/,
    ],
    [
      'a bucket within an inline bucket',
      () =>
        snapshot(
          ...metas(4),
          freeList(2, []),
          leaf(3, [
            { key: 'key', value: inlineBucket([{ key: 'x', value: bucketAt(0), bucket: true }]), bucket: true },
          ]),
        ),
      'bad-page',
      /a bucket within the inline bucket/,
    ],
    [
      'a value that calls itself a bucket',
      () =>
        snapshot(
          ...metas(5),
          freeList(2, []),
          leaf(3, [{ key: 'key', value: Buffer.concat([bucketAt(4), Buffer.alloc(4)]), bucket: true }]),
          leaf(4, []),
        ),
      'bad-page',
      /whose pages lie elsewhere/,
    ],
    [
      'keys in disorder',
      () => smallSnapshot([...rows(5, 7), ...rows(3, 4)]),
      'bad-key-order',
      /page 4: got element 2 with a key at or below the key before it/,
    ],
    ['a key twice', () => smallSnapshot([...rows(5, 6), ...rows(5, 6)]), 'bad-key-order', /page 4: got element 1/],
    [
      'keys in disorder across pages',
      () => twoLevels({ first: rows(10, 30) }),
      'bad-key-order',
      /page 4: got element 1 with a key at or below the keys before it/,
    ],
    [
      'a key below that of its branch page',
      () => twoLevels({ second: rows(19, 25) }),
      'bad-key-order',
      /page 6: got element 0/,
    ],
    [
      'branch keys in disorder',
      () => twoLevels({ separator: Buffer.from(rows(9, 10)[0]?.key ?? '') }),
      'bad-key-order',
      /page 4: got element 1 with a key at or below the key before it/,
    ],
    [
      'a bbolt file of another program',
      () => snapshot(...metas(4), freeList(2, []), leaf(3, [{ key: 'key', value: inlineBucket([]), bucket: true }])),
      'bad-content',
      /got no bucket 'meta', expected both 'key' and 'meta'/,
    ],
    [
      'a value in the root bucket',
      () => snapshot(...metas(4), freeList(2, []), leaf(3, [{ key: 'key', value: 'v' }])),
      'bad-content',
      /buckets only/,
    ],
    [
      'a row that is no revision',
      () => smallSnapshot([{ key: 'x'.repeat(17), value: '' }]),
      'bad-content',
      /17 bytes is no revision/,
    ],
    [
      'a deletion with another mark',
      () =>
        smallSnapshot([{ key: Buffer.concat([Buffer.from(keyRow(2, 'a', 'b').key), Buffer.from('u')]), value: '' }]),
      'bad-content',
      /18 bytes is no revision/,
    ],
    [
      'a number of more than 64 bits',
      () =>
        smallSnapshot([
          { key: keyRow(2, 'a', 'b').key, value: Buffer.from([2 << 3, ...Array<number>(9).fill(0xff), 0x7f]) },
        ]),
      'bad-content',
      /revision 2: got 11 bytes that are no key and value/,
    ],
    [
      'a bucket among the revisions',
      () => smallSnapshot([{ key: keyRow(2, 'a', 'b').key, value: bucketAt(0), bucket: true }]),
      'bad-content',
      /bucket 'key': got a bucket in it/,
    ],
    [
      'a lease whose id is none',
      () => snapshot(...metas(4), freeList(2, []), withBucket('lease', [{ key: 'four', value: '' }])),
      'bad-content',
      /bucket 'lease': got a row whose key has 4 bytes, expected the 8 of a lease id/,
    ],
    [
      'a user that is no message',
      () =>
        snapshot(
          ...metas(4),
          freeList(2, []),
          withBucket('authUsers', [{ key: 'root', value: Buffer.from([0x0a, 9]) }]),
        ),
      'bad-content',
      /bucket 'authUsers': got a row of 2 bytes that is no protobuf message/,
    ],
    [
      'a row that is no key and value',
      () => smallSnapshot([{ key: keyRow(2, 'a', 'b').key, value: Buffer.from([0x0a, 0x50, 1]) }]),
      'bad-content',
      /revision 2: got 3 bytes/,
    ],
    [
      'a field of another type',
      () => smallSnapshot([{ key: keyRow(2, 'a', 'b').key, value: field(6, Buffer.from('x')) }]),
      'bad-content',
      /revision 2/,
    ],
    [
      'a member that is no JSON',
      () =>
        snapshot(
          ...metas(4),
          freeList(2, []),
          leaf(3, [{ key: 'members', value: inlineBucket([{ key: 'beef', value: '{' }]), bucket: true }]),
        ),
      'bad-content',
      /bucket 'members': got a member of 1 bytes/,
    ],
  ];

  test.each(cases)('%s', (_name, bytes, damage, message) => {
    const error = refusal(bytes());
    expect(error.damage).toBe(damage);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('/registry/');
  });

  test('a way down that would have to keep more than 4 MB of keys is refused before the memory is used', () => {
    const key = 'k'.repeat(30_000);
    const long = (id: number, next: number) =>
      branch(id, [...Array.from({ length: 60 }, (_, index) => ({ key: `${key}${String(100 + index)}`, page: next }))]);
    const pages: Buffer[] = [];
    let id = 4;
    for (let level = 0; level < 4; level++) {
      const page = long(id, id + Math.ceil((60 * 30_100) / PAGE_SIZE));
      pages.push(page);
      id += page.length / PAGE_SIZE;
    }
    expect(pages[0]?.length).toBeGreaterThan(1_800_000);
    const chain = pages.map(
      (_, index) => 4 + pages.slice(0, index).reduce((sum, page) => sum + page.length / PAGE_SIZE, 0),
    );
    const linked = chain.map((at, index) => long(at, chain[index + 1] ?? 4));
    const bytes = snapshot(...metas(id), freeList(2, []), root(), ...linked);
    expect(refusal(bytes).message).toMatch(/bytes of keys on the way to it, expected at most 4194304/);
  });

  test('what is no file is neither judged nor waited for', () => {
    expect(() => readSnapshot(dir)).toThrow(/got a directory, pipe or device, expected a regular file/);
  });

  test('buckets nested without end are refused before the stack is', () => {
    const depth = 40;
    const pages = Array.from({ length: depth }, (_, index) =>
      leaf(4 + index, [{ key: 'a', value: bucketAt(5 + index), bucket: true }]),
    );
    const bytes = snapshot(
      ...metas(4 + depth + 1),
      freeList(2, []),
      leaf(3, [{ key: 'other', value: bucketAt(4), bucket: true }]),
      ...pages,
      leaf(4 + depth, []),
    );
    expect(refusal(bytes).message).toMatch(/buckets within buckets more than 16 deep/);
  });

  test('a tree without end is refused before the stack is', () => {
    const depth = 100;
    const pages = Array.from({ length: depth }, (_, index) => branch(4 + index, [{ key: 'a', page: 5 + index }]));
    const bytes = snapshot(...metas(4 + depth + 1), freeList(2, []), root(), ...pages, leaf(4 + depth, []));
    expect(refusal(bytes).message).toMatch(/a tree more than 64 pages deep/);
  });
});
