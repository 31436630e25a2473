import { GetObjectCommand } from '@aws-sdk/client-s3';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { download, emptyDisk, prepareDisk } from '../../../lambda/verify/download';
import { fileOf, sha256, World } from './world';

const FILE = fileOf('20261120T140000Z');
const worlds: World[] = [];

afterEach(() => {
  for (const world of worlds.splice(0)) {
    world.remove();
  }
});

type Compression = 'zstd' | 'gzip';

/** `zstd` of a node adds a checksum to its frame; Node does not by itself. */
const withChecksum = (bytes: Buffer): Buffer =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });

const compress = (compression: Compression, bytes = FILE): Buffer =>
  compression === 'zstd' ? withChecksum(bytes) : gzipSync(bytes);

/** A small frame without content size or checksum, of one raw block, as the format's description has it. */
const SMALL_ZSTD = Buffer.from('28b52ffd00000900006b', 'hex');
const SKIPPABLE_ZSTD = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.from('abcd')]);

async function downloadOf(
  body: Buffer,
  compression: Compression,
  change: { readonly sizeBytes?: number; readonly breaks?: number[] } = {},
) {
  const world = new World();
  worlds.push(world);
  const { stored } = world.put('snapshots/20261120T140000Z.db.zst', body, {});
  world.breaks = change.breaks ?? [];
  const file = join(world.directory, 'snapshot.db');
  mkdirSync(world.directory, { recursive: true });
  const result = await download(
    world.deps.store,
    { version: stored, compression, compressedBytes: body.length, sizeBytes: change.sizeBytes ?? FILE.length },
    file,
  );
  return { result, file, world };
}

const damaged = (message: RegExp) =>
  expect.objectContaining({
    name: 'SnapshotDamagedError',
    damage: 'bad-compression',
    message: expect.stringMatching(message) as unknown,
  }) as Error;

describe.each<Compression>(['zstd', 'gzip'])('%s', (compression) => {
  const good = compress(compression);

  test('writes the decompressed file and measures both sides of it', async () => {
    const { result, file } = await downloadOf(good, compression);
    expect(readFileSync(file).equals(FILE)).toBe(true);
    expect(result).toEqual({
      compressedSha256: sha256(good),
      sizeBytes: FILE.length,
      sha256: sha256(FILE),
      bodySha256: sha256(FILE.subarray(0, -32)),
      resumed: 0,
    });
  });

  test('goes on from the next byte when the connection breaks, as often as need be', async () => {
    const { result, world } = await downloadOf(good, compression, { breaks: [50_000, 0, 30_000, 20_000] });
    expect(result).toMatchObject({ compressedSha256: sha256(good), sha256: sha256(FILE), resumed: 4 });
    expect(world.s3Mock.calls().map(({ args }) => (args[0].input as { Range?: string }).Range)).toEqual([
      undefined,
      'bytes=50000-',
      'bytes=50000-',
      'bytes=80000-',
      'bytes=100000-',
    ]);
  });

  test('throws StoreError, and calls nothing damaged, when connections keep breaking', async () => {
    await expect(downloadOf(good, compression, { breaks: Array<number>(20).fill(0) })).rejects.toMatchObject({
      name: 'StoreError',
      message: expect.stringMatching(/got Error: aborted after 0 of \d+ bytes, for the 9th time/) as unknown,
    });
  });

  test('stops at the first byte beyond what was announced', async () => {
    const bomb = compress(compression, Buffer.alloc(100_000_000));
    await expect(downloadOf(bomb, compression)).rejects.toThrow(damaged(/got more than 256032 bytes out of it/));
    await expect(downloadOf(good, compression, { sizeBytes: FILE.length - 1 })).rejects.toThrow(
      damaged(/got more than 256031 bytes out of it/),
    );
  });

  test('tells when there is less than announced', async () => {
    const { result } = await downloadOf(good, compression, { sizeBytes: FILE.length + 1 });
    expect(result.sizeBytes).toBe(FILE.length);
  });

  test.each([1, 3, 4, 5, 8, 9, 10, 100, 100_000])('throws when its last %i bytes are missing', async (missing) => {
    await expect(downloadOf(good.subarray(0, -missing), compression)).rejects.toThrow(damaged(/compressed file/));
  });

  test.each([1, 2, 3, 4, 5, 9, 10, 17, 18, 19])('throws when only its first %i bytes are there', async (there) => {
    await expect(downloadOf(good.subarray(0, there), compression)).rejects.toThrow(damaged(/compressed file/));
  });

  test.each([
    ['one zero byte', Buffer.alloc(1)],
    ['eight bytes', randomBytes(8)],
    ['zeros that fill many chunks', Buffer.alloc(3_000_000)],
    ['itself once more', good],
    ['an empty frame', compress(compression, Buffer.alloc(0))],
    ['a skippable frame', SKIPPABLE_ZSTD],
  ])('throws when %s follows', async (_, more) => {
    const said =
      compression === 'zstd'
        ? /^compressed file, byte \d+: got more bytes, expected the end of the file, where its one frame ends$/
        : /^compressed file: got bytes behind the end of its data/;
    // What follows by less than gzip's own 8 bytes moves those.
    await expect(downloadOf(Buffer.concat([good, more]), compression)).rejects.toThrow(
      damaged(compression === 'gzip' && more.length <= 8 ? /compressed file/ : said),
    );
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['an empty frame', compress(compression, Buffer.alloc(0))],
    ['a skippable frame', SKIPPABLE_ZSTD],
    ['zeros', Buffer.alloc(20)],
  ])('throws when %s comes first', async (_, first) => {
    const body = first.length === 0 ? first : Buffer.concat([first, good]);
    await expect(downloadOf(body, compression)).rejects.toThrow(damaged(/compressed file/));
  });

  test('throws for each flipped bit of the frame, or gives other bytes', async () => {
    for (let at = 0; at < good.length; at += at < 40 || at > good.length - 12 ? 1 : 9973) {
      const bytes = Buffer.from(good);
      bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
      const outcome = await downloadOf(bytes, compression).then(
        ({ result }) => result.compressedSha256,
        (error: unknown) => (error as { damage?: string }).damage,
      );
      expect([at, outcome]).toEqual([at, outcome === 'bad-compression' ? outcome : sha256(bytes)]);
    }
  });

  test('refuses the other compression', async () => {
    const other = compress(compression === 'zstd' ? 'gzip' : 'zstd');
    await expect(downloadOf(other, compression)).rejects.toThrow(damaged(/byte 0: got/));
  });
});

test('throws when the checks at the end of a gzip file are of other data', async () => {
  const data = deflateRawSync(FILE);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(FILE.length, 4);
  const body = Buffer.concat([Buffer.from('1f8b0800000000000003', 'hex'), data, trailer]);
  await expect(downloadOf(body, 'gzip')).rejects.toThrow(damaged(/gzip trailer: got CRC-32 0 and length 256032/));
});

test.each([
  ['a name', 8, Buffer.from('snapshot.db\0')],
  ['a comment', 16, Buffer.from('x\0')],
  ['an extra field', 4, Buffer.from('0300616263', 'hex')],
  ['a header checksum', 2, Buffer.alloc(2)],
  ['all of them', 30, Buffer.from('0300616263' + '6100' + '6200' + '0000', 'hex')],
])('reads a gzip header with %s', async (_, flags, fields) => {
  const plain = gzipSync(FILE);
  const body = Buffer.concat([
    plain.subarray(0, 3),
    Buffer.from([flags]),
    plain.subarray(4, 10),
    fields,
    plain.subarray(10),
  ]);
  expect((await downloadOf(body, 'gzip')).result.sha256).toBe(sha256(FILE));
});

test('reads zstd frames whose header has each form, and takes no checksum for granted', async () => {
  await expect(downloadOf(SMALL_ZSTD, 'zstd', { sizeBytes: 1 })).resolves.toMatchObject({
    result: { sizeBytes: 1, sha256: createHash('sha256').update('k').digest('hex') },
  });
  for (const [size, params] of [
    [1, {}],
    [300, {}],
    [70_000, { [constants.ZSTD_c_checksumFlag]: 1 }],
    [3_000_000, { [constants.ZSTD_c_contentSizeFlag]: 0 }],
    [3_000_000, { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_checksumFlag]: 1 }],
  ] as const) {
    const file = Buffer.concat([randomBytes(Math.floor(size / 3)), Buffer.alloc(size - Math.floor(size / 3))]);
    const { result } = await downloadOf(zstdCompressSync(file, { params }), 'zstd', { sizeBytes: size });
    expect(result.sha256).toBe(sha256(file));
  }
});

test('throws StoreError when S3 sends another length than was asked for', async () => {
  const world = new World();
  worlds.push(world);
  const { stored } = world.put('snapshots/20261120T140000Z.db.zst', compress('zstd'), {});
  mkdirSync(world.directory, { recursive: true });
  const announced = { version: stored, compression: 'zstd' as const, compressedBytes: 1000, sizeBytes: FILE.length };
  await expect(download(world.deps.store, announced, join(world.directory, 'x'))).rejects.toMatchObject({
    name: 'StoreError',
    message: expect.stringMatching(/from byte 0: got \d+ bytes \(no range\), expected 1000/) as unknown,
  });
});

test('lets go of a connection that stays silent when what came out before is too much', async () => {
  const world = new World();
  worlds.push(world);
  const object = zstdCompressSync(randomBytes(3_000_000));
  const { stored } = world.put('snapshots/20261120T140000Z.db.zst', object, {});
  const body = new PassThrough({ highWaterMark: object.length });
  body.write(object.subarray(0, 1_500_000));
  world.s3Mock.on(GetObjectCommand).resolves({ ContentLength: object.length, Body: body as never });
  mkdirSync(world.directory, { recursive: true });
  const announced = { version: stored, compression: 'zstd' as const, compressedBytes: object.length, sizeBytes: 9 };
  await expect(download(world.deps.store, announced, join(world.directory, 'x'))).rejects.toThrow(
    damaged(/got more than 9 bytes out of it/),
  );
  expect(body.destroyed).toBe(true);
  expect(world.s3Mock.commandCalls(GetObjectCommand)).toHaveLength(1);
});

test('calls a disk that fails a disk that fails', async () => {
  const world = new World();
  worlds.push(world);
  const body = compress('zstd');
  const { stored } = world.put('snapshots/20261120T140000Z.db.zst', body, {});
  const announced = {
    version: stored,
    compression: 'zstd' as const,
    compressedBytes: body.length,
    sizeBytes: FILE.length,
  };
  await expect(download(world.deps.store, announced, '/dev/full')).rejects.toMatchObject({
    name: 'FunctionDiskError',
    message: expect.stringContaining('ENOSPC') as unknown,
  });
  await expect(prepareDisk(world.directory, 2 ** 53)).rejects.toMatchObject({
    name: 'FunctionDiskError',
    message: expect.stringMatching(/got \d+ bytes free, expected \d+/) as unknown,
  });
});

test('empties its directory first and last', async () => {
  const world = new World();
  worlds.push(world);
  mkdirSync(join(world.directory, 'deep'), { recursive: true });
  const left = join(world.directory, 'deep', 'left.db');
  writeFileSync(left, 'x');
  await prepareDisk(world.directory, 1);
  expect([existsSync(left), existsSync(world.directory)]).toEqual([false, true]);
  await emptyDisk(world.directory);
  expect(existsSync(world.directory)).toBe(false);
});
