import { type Download, readObject } from '../../../lambda/drill-run/fetch';

const bytes = Buffer.alloc(5_000_000, Buffer.from(Array.from({ length: 251 }, (_, index) => index)));
const download: Download = {
  url: 'https://bucket.s3.amazonaws.com/snapshot?X-Amz-Signature=secret',
  bytes: bytes.length,
  name: 'the snapshot',
  reason: 'snapshot-download',
};

/** An S3 that answers ranges, and whose connections break after so many bytes each; then none breaks. */
function s3(breaks: number[], headers: Record<string, string> = {}) {
  const asked: (string | null)[] = [];
  const fetch = ((_url: string, init: RequestInit) => {
    const range = new Headers(init.headers).get('range');
    asked.push(range);
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')?.[1]);
    const rest = bytes.subarray(from);
    const breakAfter = breaks.shift();
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const end = Math.min(at + 100_000, breakAfter ?? rest.length, rest.length);
        if (end > at) {
          controller.enqueue(new Uint8Array(rest.subarray(at, end)));
          at = end;
        } else if (at === rest.length) {
          controller.close();
        } else {
          controller.error(new Error('ECONNRESET'));
        }
      },
    });
    return Promise.resolve(
      new Response(body, {
        status: range === null ? 200 : 206,
        headers: { 'content-length': String(rest.length), ...headers },
      }),
    );
  }) as typeof globalThis.fetch;
  return { asked, fetch };
}

async function read(from: ReturnType<typeof s3>, signal = new AbortController().signal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of readObject({ fetch: from.fetch, sleep: () => Promise.resolve(), signal }, download)) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

test('an object comes in chunks of about a megabyte', async () => {
  const chunks: number[] = [];
  const from = s3([]);
  const deps = { fetch: from.fetch, sleep: () => Promise.resolve(), signal: new AbortController().signal };
  for await (const chunk of readObject(deps, download)) {
    chunks.push(chunk.length);
  }
  expect(chunks.slice(0, -1).every((length) => length >= 1024 * 1024)).toBe(true);
  expect(chunks).toHaveLength(5);
});

test('a connection that breaks is taken up behind the last chunk, and no byte comes twice', async () => {
  const from = s3([2_500_000, 100, 1_200_000]);
  expect((await read(from)).equals(bytes)).toBe(true);
  expect(from.asked).toEqual([null, 'bytes=2200000-', 'bytes=2200000-', 'bytes=3300000-']);
});

test('a connection that breaks again and again is given up, without the URL', async () => {
  const answer = read(s3([0, 0, 0, 0, 0, 0]));
  await expect(answer).rejects.toMatchObject({ name: 'RunError', reason: 'snapshot-download' });
  await expect(answer).rejects.toThrow(
    /^GET of the snapshot: got Error: ECONNRESET after 0 of 5000000 bytes and 5 attempts/,
  );
  await expect(answer).rejects.not.toThrow(/secret/);
});

test('an object of another length is refused at once', async () => {
  const from = s3([], { 'content-length': '4999999' });
  await expect(read(from)).rejects.toThrow('got HTTP 200 with 4999999 bytes, expected the 5000000 bytes from 0 on');
  expect(from.asked).toHaveLength(1);
});

test('a busy S3 is asked again', async () => {
  const good = s3([]);
  let busy = 2;
  const fetch = ((url: string, init: RequestInit) =>
    busy-- > 0
      ? Promise.resolve(new Response('SlowDown', { status: 503 }))
      : good.fetch(url, init)) as typeof globalThis.fetch;
  await expect(read({ asked: [], fetch })).resolves.toHaveLength(bytes.length);
});

test('nothing is tried again when the time is over', async () => {
  const over = AbortSignal.abort(new Error('time'));
  const from = s3([0, 0]);
  await expect(read(from, over)).rejects.toMatchObject({ name: 'RunError' });
  expect(from.asked).toHaveLength(1);
});
