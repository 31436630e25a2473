import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bboltWrite, withTrailer, type BboltFile } from '../../lab/bbolt-file';
import { SnapshotDamagedError } from '../../lambda/shared/snapshot/damage';
import { readSnapshot } from '../../lambda/shared/snapshot/read-snapshot';
import { bboltCheck, CASES, Etcd, kubernetesRows, MINORS, status, take, type Minor } from './corpus';

// The reader against the real thing: what every etcd from 3.4 to 3.7 saves, and what bbolt itself writes, read by us and by their own tools.

let work: string;

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'reader-'));
});

afterAll(() => {
  rmSync(work, { recursive: true });
});

// From 3.6 on the tools count live keys and print the storage version; up to 3.5 they count rows.
const COUNTS_LIVE: readonly Minor[] = ['3.6', '3.7'];
const RESTORED = 'restored with a bumped revision';

/** Holds what we read of a file against `snapshot status` of every etcd. */
async function expectSameAsTools(file: string): Promise<ReturnType<typeof readSnapshot>> {
  const facts = readSnapshot(file);
  for (const minor of MINORS) {
    const live = COUNTS_LIVE.includes(minor);
    expect({
      minor,
      hash: facts.hash,
      revision: facts.revision,
      totalKey: live ? facts.totalKey.live : facts.totalKey.rows,
      totalSize: facts.totalSizeBytes,
      ...(live && { version: facts.storageVersion ?? '' }),
    }).toEqual({ minor, ...(await status(minor, file)) });
  }
  return facts;
}

describe.each(MINORS)('a snapshot of etcd %s', (minor) => {
  test.each(CASES.filter(({ minors }) => minors.includes(minor)))('$name', async (what) => {
    const dir = mkdtempSync(join(work, 'etcd-'));
    const file = join(dir, 'snapshot.db');
    const { before, after } = await take(minor, what, join(dir, 'only'), file);

    const facts = await expectSameAsTools(file);
    expect(what.shows?.(facts) ?? true).toBe(true);
    expect(facts.sizeBytes).toBe(statSync(file).size);
    expect(facts.trailerSha256).toBe(readFileSync(file).subarray(-32).toString('hex'));
    expect(facts.clusterVersion).toBe(`${minor}.0`);
    expect(facts.auth).toEqual({ enabled: after.users > 0, users: after.users, roles: after.roles });
    expect(facts.alarms).toEqual(after.alarms);
    expect(facts.leases).toBe(after.leases);
    // 3.4 does not store the term, nor the index of what changes no row, and its restore leaves the former member in the file.
    expect(facts.term).toBe(minor === '3.4' ? null : after.raftTerm);
    expect(Number(facts.consistentIndex)).toBeGreaterThanOrEqual(minor === '3.4' ? 0 : Number(before.raftIndex));
    expect(Number(facts.consistentIndex)).toBeLessThanOrEqual(Number(after.raftIndex));
    if (minor === '3.4' && what.name === RESTORED) {
      expect(facts.members).toEqual(expect.arrayContaining([...after.members]));
    } else {
      expect(facts.members).toEqual(after.members);
      expect(facts.bootstrapClusterId).toBe(after.clusterId);
    }
    // Only what rests can be asked what was in it; and what is under load must be seen to be.
    if (what.meanwhile !== undefined) {
      expect(after.revision).toBeGreaterThan(before.revision);
      expect(facts.revision).toBeGreaterThanOrEqual(before.revision);
      expect(facts.revision).toBeLessThanOrEqual(after.revision);
    } else {
      expect(facts.inventory.objects).toBe(after.keys);
      // Up to a revision that is a deletion and was compacted away.
      expect(after.revision - facts.revision).toBeLessThanOrEqual(1);
    }
    rmSync(dir, { recursive: true });
  });
});

test('a snapshot of 1 GB', async () => {
  const dir = mkdtempSync(join(work, 'etcd-'));
  const file = join(dir, 'snapshot.db');
  const etcd = await Etcd.start('3.6', join(dir, 'only'));
  let keys: number;
  try {
    // Some 10,000 objects of 9 KB at a time; what is sent waits in memory.
    for (let first = 0; first < 110_000; first += 10_000) await etcd.put(kubernetesRows(10_000, 9_000, first));
    await etcd.remove('/registry/pods/ns-1/', '/registry/pods/ns-2/');
    await etcd.snapshot(file);
    ({ keys } = await etcd.answers());
  } finally {
    await etcd.stop();
  }
  expect(statSync(file).size).toBeGreaterThan(1e9);
  const facts = await expectSameAsTools(file);
  expect(facts.inventory.objects).toBe(keys);
  rmSync(dir, { recursive: true });
});

const SHAPES = ['empty', 'small', 'deep', 'overflow', 'nested', 'free'] as const;
const PAGE_SIZES = [4096, 16_384, 65_536] as const;
const BBOLT_FILES: readonly BboltFile[] = [
  ...PAGE_SIZES.flatMap((pageSize) =>
    SHAPES.flatMap((shape) =>
      (['snapshot', 'file'] as const).flatMap((as) =>
        (['array', 'hashmap', 'none'] as const).map((freelist) => ({ shape, pageSize, as, freelist })),
      ),
    ),
  ),
  // More free pages than a page can count: 269 MB.
  { shape: 'free-many', pageSize: 4096, as: 'snapshot', freelist: 'array' },
  { shape: 'free-many', pageSize: 4096, as: 'file', freelist: 'hashmap' },
  { shape: 'free-many', pageSize: 4096, as: 'snapshot', freelist: 'none' },
];

describe('a file that bbolt itself wrote', () => {
  test.each(BBOLT_FILES)('$shape, pages of $pageSize bytes, as $as, free list $freelist', async (what) => {
    const file = join(work, 'bbolt.db');
    await bboltWrite(file, what);
    const [verdict] = await bboltCheck([file]);
    const facts = readSnapshot(file);
    expect({
      ok: true,
      hash: facts.hash,
      revision: facts.revision,
      rows: facts.totalKey.rows,
      live: facts.totalKey.live,
      totalSize: facts.totalSizeBytes,
      pageSize: facts.pageSizeBytes,
      buckets: facts.buckets.length,
    }).toEqual({ ...verdict, file: undefined });
    expect(facts.pages.free > 65_535).toBe(what.shape === 'free-many');
  });

  test.each(PAGE_SIZES)('pages of %d bytes: every etcd of 3.4 to 3.7 says the same of it', async (pageSize) => {
    for (const shape of ['nested', 'overflow', 'deep'] as const) {
      const file = join(work, `${shape}.db`);
      await bboltWrite(file, { shape, pageSize, as: 'snapshot' });
      await expectSameAsTools(file);
    }
  });

  test.each([
    ['is of another program', 'foreign'],
    ['has no bucket of keys', 'keyless'],
  ] as const)('is not called a snapshot when it %s', async (_, shape) => {
    const file = join(work, `${shape}.db`);
    await bboltWrite(file, { shape, pageSize: 4096, as: 'snapshot' });
    expect(() => readSnapshot(file)).toThrow(SnapshotDamagedError);
    expect(() => readSnapshot(file)).toThrow(expect.objectContaining({ damage: 'bad-content' }) as Error);
  });

  test.each(PAGE_SIZES)('with a torn newer meta page of %d bytes it is read by the older one', async (pageSize) => {
    const file = join(work, 'torn.db');
    await bboltWrite(file, { shape: 'free', pageSize, as: 'file' });
    const whole = readSnapshot(file);
    const body = readFileSync(file).subarray(0, -32);
    const transaction = (page: number) => body.readBigUInt64LE(page * pageSize + 16 + 48);
    const newer = transaction(1) > transaction(0) ? 1 : 0;
    body.fill(0xff, newer * pageSize + 16 + 40, newer * pageSize + 16 + 56);
    writeFileSync(file, withTrailer(body));

    const facts = readSnapshot(file);
    const [verdict] = await bboltCheck([file]);
    expect({ ok: true, hash: facts.hash, revision: facts.revision, rows: facts.totalKey.rows }).toEqual({
      ok: verdict?.ok,
      hash: verdict?.hash,
      revision: verdict?.revision,
      rows: verdict?.rows,
    });
    expect(facts.revision).toBeLessThan(whole.revision);
  });
});
