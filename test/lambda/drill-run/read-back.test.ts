import { readBack, startFrom } from '../../../lambda/drill-run/read-back';
import { field, keyRow } from '../shared/snapshot/bolt-file';
import { slowCrc32c } from '../shared/snapshot/slow-crc32c';

interface Row {
  readonly key: Buffer;
  readonly message: Buffer;
}

const row = (key: string | Buffer, value: string): Row => {
  const bytes = Buffer.from(key as string);
  return {
    key: bytes,
    message: Buffer.concat([field(1, bytes), Buffer.from([2 << 3, 7]), field(5, Buffer.from(value))]),
  };
};

const hashOf = (rows: readonly Row[]) => rows.reduce((sum, { message }) => (sum + slowCrc32c(message)) % 2 ** 32, 0);

/** Answers as etcdctl does: a RangeResponse in chunks of some bytes. */
const etcdctl =
  (rows: readonly Row[], chunkBytes = 7) =>
  (start: string, limit: number, onOutput: (chunk: Buffer) => void): Promise<void> => {
    const from = rows.filter(({ key }) => Buffer.compare(key, Buffer.from(start)) >= 0);
    const page = from.slice(0, limit);
    const answer = Buffer.concat([
      field(1, Buffer.from([1 << 3, 5])),
      ...page.map(({ message }) => field(2, message)),
      ...(page.length < from.length ? [Buffer.from([3 << 3, 1])] : []),
      Buffer.from([4 << 3, from.length]),
    ]);
    for (let at = 0; at < answer.length; at += chunkBytes) {
      onOutput(answer.subarray(at, at + chunkBytes));
    }
    return Promise.resolve();
  };

const rows = Array.from({ length: 25 }, (_, index) =>
  row(`/registry/pods/${String(index).padStart(3, '0')}`, 'v'.repeat(index * 40)),
);

test.each([1, 2, 7, 24, 25, 26, 1000])(
  'every key is counted once, with its bytes and the hash of its message, in pages of %d',
  async (keysPerPage) => {
    await expect(readBack(etcdctl(rows), keysPerPage)).resolves.toEqual({
      keys: 25,
      bytes: rows.reduce((sum, { key }, index) => sum + key.length + index * 40, 0),
      hash: hashOf(rows),
    });
  },
);

test.each([1, 3, 64, 100_000])('chunks of %d bytes make no difference', async (chunkBytes) => {
  await expect(readBack(etcdctl(rows, chunkBytes), 10)).resolves.toMatchObject({ keys: 25, hash: hashOf(rows) });
});

test('the hash is the one that the reader gives a file with the same rows', async () => {
  const message = Buffer.from(keyRow(5, 'a', 'value', { lease: 3 }).value ?? '');
  const { hash } = await readBack(etcdctl([{ key: Buffer.from('a'), message }]), 10);
  expect(hash).toBe(slowCrc32c(message));
});

test('another value, revision or lease under the same key is another hash', async () => {
  const hashes = await Promise.all(
    [keyRow(5, 'a', 'value'), keyRow(5, 'a', 'valuf'), keyRow(5, 'a', 'value', { lease: 1 })].map(async ({ value }) => {
      const { hash } = await readBack(etcdctl([{ key: Buffer.from('a'), message: Buffer.from(value ?? '') }]), 10);
      return hash;
    }),
  );
  expect(new Set(hashes).size).toBe(3);
});

test('no key at all is no key', async () => {
  await expect(readBack(etcdctl([]), 10)).resolves.toEqual({ keys: 0, bytes: 0, hash: 0 });
});

test('keys that a command line cannot say are read all the same, in larger pages', async () => {
  const odd = [
    '/a',
    '/b\0c',
    '/b\0d',
    '/b\0e',
    Buffer.from([0x2f, 0xfd]),
    Buffer.from([0x2f, 0xfe]),
    Buffer.from([0xff, 1]),
    Buffer.from([0xff, 2]),
  ]
    .map((key) => row(key, 'x'))
    .sort((a, b) => Buffer.compare(a.key, b.key));
  await expect(readBack(etcdctl(odd), 1)).resolves.toMatchObject({ keys: 8, hash: hashOf(odd) });
});

test.each([
  ['/registry/pods/a', '/registry/pods/a'],
  ['/registry/pods/ä€😀', '/registry/pods/ä€😀'],
  ['a\0b', 'a'],
  [Buffer.from([0x2f, 0x61, 0xff, 0x62]), '/a'],
  [Buffer.from([0xff]), ''],
  ['a\uFFFDb', 'a\uFFFDb'],
  [undefined, ''],
])('the page after %j begins at %j', (key, start) => {
  expect(startFrom(key === undefined ? undefined : Buffer.from(key as string))).toBe(start);
});

test.each([
  ['text', Buffer.from('Error: etcdserver: request timed out')],
  ['half an answer', field(2, Buffer.alloc(300)).subarray(0, 200)],
  ['a row that is no key and value', field(2, Buffer.from([0xff, 0xff]))],
  ['a length beyond all bounds', Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])],
  ['a number without end', Buffer.from(Array.from({ length: 12 }, () => 0xff))],
])('%s is no answer, and nothing of it is in the error', async (_what, bytes) => {
  const answer = readBack((_start, _limit, onOutput) => {
    onOutput(bytes);
    return Promise.resolve();
  }, 10);
  await expect(answer).rejects.toMatchObject({ name: 'UnreadableAnswerError' });
  await expect(answer).rejects.toThrow(/^etcdctl get: got .* expected/);
  await expect(answer).rejects.not.toThrow(/etcdserver: request/);
});
