import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { bboltWrite, withTrailer, type BboltFile } from '../../lab/bbolt-file';
import {
  duplicatePage,
  flipBit,
  Layout,
  Random,
  sealMeta,
  setField,
  smear,
  swapPages,
  TRAILER_BYTES,
  truncate,
  zeroPage,
  type Damaged,
  type Region,
} from '../../lab/damage';
import { factsOf, Judges, objectionTo, type Reading, type Verdict } from '../../lab/judges';
import type { Damage } from '../../lambda/shared/snapshot/damage';
import { CASES, MINORS, take } from './corpus';

// 10,000 damaged files made from good ones: none is called good. Then the same damage with a trailer that fits it, as a forger or a broken
// disk under etcd would make it: whatever bbolt refuses, we refuse, and what both take, both read alike.

const FILES = 10_000;
const SEED = Number(process.env.DAMAGE_SEED ?? 20_261_121);
const AT_A_TIME = 64;
// What a reader of small files may have in memory: Node and tsx some 130 MB, its window 8 MB.
const MAX_RSS_BYTES = 400_000_000;
const KEPT = join(__dirname, '..', '..', '.lab', 'damaged');

const BBOLT_FILES: readonly BboltFile[] = [
  { shape: 'empty', pageSize: 4096, as: 'snapshot' },
  { shape: 'small', pageSize: 4096, as: 'snapshot' },
  { shape: 'nested', pageSize: 4096, as: 'snapshot' },
  { shape: 'overflow', pageSize: 4096, as: 'snapshot' },
  { shape: 'deep', pageSize: 4096, as: 'snapshot' },
  { shape: 'free', pageSize: 4096, as: 'file' },
  { shape: 'free', pageSize: 4096, as: 'snapshot', freelist: 'none' },
  { shape: 'small', pageSize: 16_384, as: 'snapshot' },
  { shape: 'free', pageSize: 16_384, as: 'file', freelist: 'hashmap' },
  { shape: 'empty', pageSize: 65_536, as: 'snapshot' },
  { shape: 'small', pageSize: 65_536, as: 'snapshot' },
];

let work: string;
let judges: Judges;
const good: { readonly name: string; readonly file: Buffer; readonly layout: Layout }[] = [];

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'damage-'));
  // Another reader, to see that a broken one does not pass.
  judges = new Judges(process.env.DAMAGE_READER);
  const add = (name: string, path: string) => {
    const file = readFileSync(path);
    good.push({ name, file, layout: new Layout(file.subarray(0, -TRAILER_BYTES)) });
  };
  for (const what of BBOLT_FILES) {
    const path = join(work, 'bbolt.db');
    await bboltWrite(path, what);
    add(`bbolt ${what.shape} ${String(what.pageSize)} ${what.as} ${what.freelist ?? 'array'}`, path);
  }
  const deletes = CASES.find(({ name }) => name === 'deletes');
  if (deletes === undefined) throw new Error('expected a case with deletes');
  for (const minor of MINORS) {
    const path = join(work, `${minor}.db`);
    await take(minor, deletes, join(work, minor), path);
    add(`etcd ${minor}`, path);
  }
});

afterAll(() => {
  judges.close();
  rmSync(work, { recursive: true });
});

/** The damage to the body of one good file: every page boundary, every page, and then what the numbers say, `count` in all. */
function* damages(layout: Layout, random: Random, count: number): Generator<Damaged> {
  const { pageSize, pageCount, body } = layout;
  const fixed: (() => Damaged)[] = [];
  for (let page = 0; page < pageCount; page++) {
    fixed.push(
      () => truncate(layout, page * pageSize),
      () => truncate(layout, page * pageSize + 1 + random.below(pageSize - 1)),
      () => truncate(layout, page * pageSize + 512 * (1 + random.below(pageSize / 512 - 1))),
      () => zeroPage(layout, page),
    );
  }
  for (let i = 0; i < 20; i++) {
    fixed.push(
      () => swapPages(layout, random),
      () => duplicatePage(layout, random, i % 2 === 0),
    );
  }
  for (let i = 0; i < 3; i++) {
    fixed.push(
      () => ({ body: random.bytes(body.length), what: 'random bytes' }),
      () => ({ body: Buffer.concat([body, random.bytes(512)]), what: 'random bytes behind the end' }),
    );
  }
  // Of a file with many pages, some.
  while (fixed.length > count / 2) fixed.splice(random.below(fixed.length), 1);
  // Every region as often as the others, whatever its size.
  const regions = [...layout.regions.keys()];
  for (let i = 0; i < count;) {
    const damaged =
      fixed.pop()?.() ??
      random.pick([
        () => flipBit(layout, random, random.pick(regions)),
        () => flipBit(layout, random, random.pick(regions)),
        () => smear(layout, random, random.pick(regions)),
        () => setField(layout, random),
      ])();
    // Two equal pages swapped, a zero zeroed: no damage.
    if (damaged.body.equals(body)) continue;
    i++;
    yield damaged;
  }
}

/** What happens to a file as a whole, with its trailer. */
function* misfortunes(file: Buffer, random: Random): Generator<Damaged> {
  const body = file.subarray(0, -TRAILER_BYTES);
  const trailer = file.subarray(-TRAILER_BYTES);
  yield { body: Buffer.alloc(0), what: 'empty' };
  yield { body, what: 'without its trailer' };
  yield { body: Buffer.concat([file, trailer]), what: 'with its trailer twice' };
  yield { body: Buffer.concat([file, file]), what: 'twice' };
  yield { body: trailer, what: 'only its trailer' };
  yield { body: Buffer.concat([body, Buffer.alloc(TRAILER_BYTES)]), what: 'with a trailer of zeros' };
  yield { body: Buffer.concat([file, Buffer.alloc(512)]), what: 'with zeros behind it' };
  yield { body: Buffer.concat([file, random.bytes(1)]), what: 'with a byte behind it' };
  for (let i = 0; i < 8; i++) {
    const cut = file.length - 1 - random.below(TRAILER_BYTES - 1);
    yield { body: file.subarray(0, cut), what: `cut to ${String(cut)} bytes` };
    const flipped = Buffer.from(file);
    const at = body.length + random.below(TRAILER_BYTES);
    flipped[at] = (flipped[at] as number) ^ (1 << random.below(8));
    yield { body: flipped, what: `byte ${String(at)} of the trailer changed` };
  }
  for (const [name, compressed] of [
    ['gzip', gzipSync(file)],
    ['zstd', zstdCompressSync(file)],
  ] as const) {
    yield { body: compressed, what: `still compressed with ${name}` };
    yield {
      body: compressed.subarray(0, random.below(compressed.length)),
      what: `still compressed with ${name}, and cut`,
    };
  }
}

/** Gives each damaged file to `judge`, some at a time; those that it has an objection to are kept and listed. */
async function judgeAll(
  files: Iterable<{ readonly name: string; readonly what: string; readonly bytes: Buffer }>,
  judge: (path: string) => Promise<string | undefined>,
): Promise<{ readonly count: number; readonly objections: readonly string[] }> {
  const objections: string[] = [];
  const underWay = new Set<Promise<void>>();
  let count = 0;
  for (const { name, what, bytes } of files) {
    const number = count++;
    const path = join(work, `${String(number)}.db`);
    writeFileSync(path, bytes);
    const done = (async () => {
      const objection = await judge(path);
      if (objection !== undefined) {
        mkdirSync(KEPT, { recursive: true });
        const kept = join(KEPT, `${String(SEED)}-${String(number)}.db`);
        copyFileSync(path, kept);
        objections.push(`${name}, ${what}: ${objection} (seed ${String(SEED)}, kept as ${kept})`);
      }
      rmSync(path);
    })();
    underWay.add(done);
    void done.finally(() => underWay.delete(done));
    if (underWay.size >= AT_A_TIME) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  return { count, objections };
}

function* damagedFiles(count: number, trailer: (body: Buffer, original: Buffer) => Buffer) {
  for (const [index, { name, file, layout }] of good.entries()) {
    const share = Math.floor(count / good.length) + (index < count % good.length ? 1 : 0);
    for (const { body, what } of damages(layout, new Random(SEED + index), share)) {
      yield { name, what, bytes: trailer(body, file.subarray(-TRAILER_BYTES)) };
    }
  }
}

function* unluckyFiles() {
  for (const [index, { name, file }] of good.entries()) {
    for (const { body, what } of misfortunes(file, new Random(SEED + index))) yield { name, what, bytes: body };
  }
}

/** An answer of the reader that is none of its two: sound, or a SnapshotDamagedError. */
function notAnAnswer(reading: Reading): string | undefined {
  return reading.ok || reading.error === 'SnapshotDamagedError' ? undefined : `${reading.error}: ${reading.message}`;
}

class Table {
  private readonly counts = new Map<string, number>();

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  get(what: string): number {
    return this.counts.get(what) ?? 0;
  }

  print(title: string): void {
    const rows = [...this.counts].sort(([, a], [, b]) => b - a).map(([what, n]) => `${String(n).padStart(8)}  ${what}`);
    process.stdout.write([`${title} (seed ${String(SEED)})`, ...rows, ''].join('\n'));
  }
}

test('each file that will be damaged is good', async () => {
  for (const { name, file } of good) {
    const path = join(work, 'good.db');
    writeFileSync(path, file);
    const [reading, verdict] = await Promise.all([judges.read(path), judges.check(path)]);
    expect({ name, ok: reading.ok, oracle: verdict.ok }).toEqual({ name, ok: true, oracle: true });
    if (reading.ok) expect(factsOf(reading)).toBe(factsOf(verdict));
  }
});

// What this test found once: bbolt goes by the page size of a meta page whose checksum fits, whatever size it says.
test.each([0, 1, 25, 47, 4_294_967_280])('a first meta page that says pages have %d bytes is refused', async (size) => {
  const path = join(work, 'page-size.db');
  const sound = good.find(({ name }) => name.startsWith('bbolt free 4096 file'));
  if (sound === undefined) throw new Error('expected a sound data file');
  const body = Buffer.from(sound.file.subarray(0, -TRAILER_BYTES));
  body.writeUInt32LE(size, 16 + 8);
  sealMeta(body, 0, 4096);
  writeFileSync(path, withTrailer(body));
  const [reading, verdict] = await Promise.all([judges.read(path), judges.check(path)]);
  expect(verdict.ok).toBe(false);
  expect(reading).toMatchObject({ ok: false, error: 'SnapshotDamagedError', damage: 'bad-meta' });
});

const PAGE = 4096;

/** Forgeries with one fault each, of a data file with pages of 4096 bytes: what is written where, and what the reader must call it. */
const FORGERIES: readonly {
  readonly name: string;
  readonly damage: Damage;
  readonly forge: (body: Buffer, layout: Layout) => void;
}[] = [
  {
    name: 'a page that is in the free list twice',
    damage: 'bad-free-list',
    forge: (body, layout) => {
      const { start } = span(layout, 'free list');
      body.writeBigUInt64LE(body.readBigUInt64LE(start), start + 8);
    },
  },
  {
    name: 'a page of the tree in the free list',
    damage: 'bad-page-graph',
    forge: (body, layout) => {
      body.writeBigUInt64LE(BigInt(layout.treePages.at(-1) ?? 0), span(layout, 'free list').start);
    },
  },
  {
    name: 'a page that is neither free nor in the tree',
    damage: 'bad-page-graph',
    forge: (body, layout) => {
      const header = pageOf(span(layout, 'free list').start) * PAGE;
      body.writeUInt16LE(body.readUInt16LE(header + 10) - 1, header + 10);
    },
  },
  {
    name: 'a page that is the child of two',
    damage: 'bad-page-graph',
    forge: (body, layout) => {
      const { start } = span(layout, 'branch elements');
      body.writeBigUInt64LE(body.readBigUInt64LE(start + 8), start + 16 + 8);
    },
  },
  {
    name: 'a page that is its own child',
    damage: 'bad-page-graph',
    forge: (body, layout) => {
      const { start } = span(layout, 'branch elements');
      body.writeBigUInt64LE(BigInt(pageOf(start)), start + 8);
    },
  },
  {
    name: 'a child beyond the last page',
    damage: 'bad-page',
    forge: (body, layout) => {
      body.writeBigUInt64LE(BigInt(layout.pageCount), span(layout, 'branch elements').start + 8);
    },
  },
  {
    name: 'a page that says it is another one',
    damage: 'bad-page',
    forge: (body, layout) => {
      const at = (layout.treePages.at(-1) ?? 0) * PAGE;
      body.writeBigUInt64LE(body.readBigUInt64LE(at) + 1n, at);
    },
  },
  {
    name: 'two keys that changed places',
    damage: 'bad-key-order',
    forge: (body, layout) => {
      // Rows of the bucket `key`, whose keys have the same length.
      const [first, second] = (layout.regions.get('keys') ?? []).filter(({ start, end }) => end - start === 17);
      if (first === undefined || second === undefined) throw new Error('expected two rows');
      const key = Buffer.from(body.subarray(first.start, first.end));
      body.copy(body, first.start, second.start, second.end);
      key.copy(body, second.start);
    },
  },
  {
    name: 'a key twice',
    damage: 'bad-key-order',
    forge: (body, layout) => {
      const [first, second] = (layout.regions.get('keys') ?? []).filter(({ start, end }) => end - start === 17);
      if (first === undefined || second === undefined) throw new Error('expected two rows');
      body.copy(body, second.start, first.start, first.end);
    },
  },
];

const pageOf = (at: number): number => Math.floor(at / PAGE);

function span(layout: Layout, region: Region): { readonly start: number; readonly end: number } {
  const [first] = layout.regions.get(region) ?? [];
  if (first === undefined) throw new Error(`expected a file with ${region}`);
  return first;
}

test.each(FORGERIES)('$name is refused', async ({ damage, forge }) => {
  const sound = good.find(({ name }) => name.startsWith('bbolt free 4096 file'));
  if (sound === undefined) throw new Error('expected a sound data file');
  const body = Buffer.from(sound.layout.body);
  forge(body, sound.layout);
  const path = join(work, 'forged.db');
  writeFileSync(path, withTrailer(body));
  const [reading, verdict] = await Promise.all([judges.read(path), judges.check(path)]);
  expect(verdict.ok).toBe(false);
  expect(reading).toMatchObject({ ok: false, error: 'SnapshotDamagedError', damage });
});

test(`none of ${FILES.toLocaleString('en')} damaged files is called good`, async () => {
  const table = new Table();
  const judge = async (path: string) => {
    const reading = await judges.read(path);
    if (reading.ok) return 'called good';
    table.count('damage' in reading ? (reading.damage ?? reading.error) : reading.error);
    return notAnAnswer(reading);
  };
  const unlucky = await judgeAll(unluckyFiles(), judge);
  const keepsTrailer = (body: Buffer, original: Buffer) => Buffer.concat([body, original]);
  const damaged = await judgeAll(damagedFiles(FILES - unlucky.count, keepsTrailer), judge);
  table.print('damaged files, by what the reader says of them');
  expect([...unlucky.objections, ...damaged.objections]).toEqual([]);
  expect(unlucky.count + damaged.count).toBe(FILES);
});

test('with a trailer that fits the damage, whatever bbolt refuses is refused, and the rest is read as etcdutl reads it', async () => {
  const table = new Table();
  const original = new Map<string, Verdict>();
  for (const { name, file } of good) {
    const path = join(work, 'good.db');
    writeFileSync(path, file);
    original.set(name, await judges.check(path));
  }
  let name = '';
  const files = function* () {
    for (const file of damagedFiles(FILES, (body) => withTrailer(body))) {
      ({ name } = file);
      yield file;
    }
  };
  const { count, objections } = await judgeAll(files(), async (path) => {
    const before = original.get(name);
    const [reading, verdict] = await Promise.all([judges.read(path), judges.check(path)]);
    const { outcome, objection } = objectionTo(reading, verdict);
    if (outcome !== 'both accept' || before === undefined) table.count(outcome);
    else if (verdict.hash !== before.hash) table.count('both accept: another hash than the node announced');
    else if (factsOf(verdict) === factsOf(before)) table.count('both accept: nothing that is read has changed');
    else table.count('both accept: same hash');
    return objection;
  });
  table.print('damaged files whose trailer fits');
  expect(objections).toEqual([]);
  expect(count).toBe(FILES);
  // The damage is real, and there is some that only the trailer and the hash show.
  expect(table.get('both refuse')).toBeGreaterThan(FILES / 4);
  expect(judges.maxRssBytes).toBeLessThan(MAX_RSS_BYTES);
});
