import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { makeDirectory } from '../../../lambda/drill-run/disk';
import { drillRun, type DrillRunDeps } from '../../../lambda/drill-run/run';
import type { Order } from '../../../lambda/drill-run/order';

// Scripts in place of etcd's binaries, for what the real ones do not do when asked: test/lab/drill.test.ts runs those.

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const snapshot = Buffer.from('a snapshot of etcd '.repeat(500));

const dir = mkdtempSync(join(tmpdir(), 'drill-run-test-'));
const directory = join(dir, 'work');
let objects: Map<string, Buffer>;
let lines: string[];
let deps: DrillRunDeps;
let status: number;

const script = (text: string) => Buffer.from(`#!/bin/sh\n${text}\n`);

beforeEach(() => {
  objects = new Map([
    ['/snapshot', gzipSync(snapshot)],
    ['/etcd', script('exit 0')],
    ['/etcdctl', script('exit 0')],
    ['/etcdutl', script('exit 0')],
  ]);
  lines = [];
  status = 200;
  const log = (message: string, fields: object) => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  deps = {
    directory,
    arch: 'x64',
    sleep: () => Promise.resolve(),
    log: { info: log, error: log },
    fetch: (url) => {
      const bytes = objects.get(new URL(url).pathname) ?? Buffer.alloc(0);
      return Promise.resolve(
        new Response(new Uint8Array(bytes), { status, headers: { 'content-length': String(bytes.length) } }),
      );
    },
  };
});

afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

const order = (change: Partial<Order> = {}): Order => {
  const urlOf = (name: string) => `https://bucket.s3.amazonaws.com/${name}?X-Amz-Signature=secret`;
  const packed = objects.get('/snapshot') ?? Buffer.alloc(0);
  return {
    drillId: '20261121T043000Z',
    arch: 'amd64',
    tools: (['etcd', 'etcdctl', 'etcdutl'] as const).map((name) => {
      const bytes = objects.get(`/${name}`) ?? Buffer.alloc(0);
      return { name, url: urlOf(name), bytes: bytes.length, sha256: sha256(bytes) };
    }),
    snapshot: {
      url: urlOf('snapshot'),
      compression: 'gzip',
      compressedBytes: packed.length,
      compressedSha256: sha256(packed),
      sizeBytes: snapshot.length,
      sha256: sha256(snapshot),
      revision: 1000,
    },
    bump: 1_000_000_000,
    keysPerPage: 100,
    ...change,
  };
};

const run = (event: unknown = order(), remaining = 60_000) => drillRun(deps, event, () => remaining);

afterEach(() => {
  expect(existsSync(directory)).toBe(false);
  expect(lines.join('\n')).not.toMatch(/X-Amz-Signature|secret/);
});

test.each([
  ['nothing', null],
  ['a field too many', { ...order0(), note: 'x' }],
  ['a file in place of a URL', { ...order0(), snapshot: { url: 'file:///etc/passwd' } }],
])(
  'an event that is no order (%s) is refused by the names of its fields, because values may be secret',
  async (_what, event) => {
    await expect(run(event)).rejects.toMatchObject({ name: 'EventError' });
    await expect(run(event)).rejects.not.toThrow(/passwd/);
  },
);

function order0(): object {
  return { drillId: '20261121T043000Z', arch: 'amd64' };
}

test('a restore that fails is told by its exit code; what the binary said stays in the log of this function', async () => {
  objects.set('/etcdutl', script('echo first >&2; echo "Error: expected sha256 [1 2], got [3 4]" >&2; exit 128'));
  const answer = await run();
  expect(answer).toMatchObject({ ok: false, reason: 'restore-failed', tool: 'etcdutl', code: 128, freeBytes: null });
  expect(JSON.stringify(answer)).not.toContain('sha256');
  expect(lines.at(-1)).toContain('exit code 128 (Error: expected sha256 [1 2], got [3 4])');
});

test('a disk that a binary finds full is told as such', async () => {
  objects.set('/etcdutl', script('echo "Error: write /x: no space left on device" >&2; exit 1'));
  await expect(run()).resolves.toMatchObject({ ok: false, reason: 'disk-full', tool: 'etcdutl' });
});

test('etcdctl restores where there is no etcdutl', async () => {
  objects.set('/etcdctl', script('[ "$1 $2" = "snapshot restore" ] && exit 7; exit 8'));
  const { tools } = order();
  const answer = await run(order({ tools: tools.filter(({ name }) => name !== 'etcdutl') }));
  expect(answer).toMatchObject({ reason: 'restore-failed', tool: 'etcdctl', code: 7 });
});

test('a binary gets no environment of this function', async () => {
  process.env['AWS_SECRET_ACCESS_KEY'] = 'of-the-function';
  process.env['ETCDCTL_ENDPOINTS'] = 'stray';
  objects.set('/etcdutl', script('echo "$AWS_SECRET_ACCESS_KEY-$ETCDCTL_ENDPOINTS-$PATH" >&2; exit 1'));
  await run();
  delete process.env['AWS_SECRET_ACCESS_KEY'];
  delete process.env['ETCDCTL_ENDPOINTS'];
  expect(lines.at(-1)).toContain('(--/nonexistent)');
});

const restoring = script(`
if [ "$2" = status ]; then echo '{"revision":1000001000}'; exit 0; fi
for word in "$@"; do case $word in --data-dir=*) data="\${word#*=}" ;; esac; done
/bin/mkdir -p "$data/member/snap"
echo restored > "$data/member/snap/db"`);

test('an etcd that does not come up is told by its exit code, and the log has only words that are fixed in its source', async () => {
  objects.set('/etcdutl', restoring);
  objects.set(
    '/etcd',
    script(
      `echo '{"level":"fatal","ts":"x","caller":"y","msg":"discovery failed","error":"/registry/secrets/a"}' >&2; exit 3`,
    ),
  );
  const answer = await run();
  expect(answer).toMatchObject({ ok: false, reason: 'boot-failed', tool: 'etcd', code: 3 });
  expect(Object.keys(answer.seconds)).toEqual(['download', 'restore', 'total']);
  expect(lines.at(-1)).toContain('exit code 3 (discovery failed)');
  expect(lines.join('\n')).not.toContain('registry');
});

test('a status that is no JSON is not repeated', async () => {
  objects.set('/etcdutl', Buffer.from(restoring.toString().replace('{"revision":1000001000}', 'hello you')));
  await expect(run()).resolves.toMatchObject({ ok: false, reason: 'restore-failed', tool: 'etcdutl', code: null });
  expect(lines.join('\n')).not.toContain('hello');
});

test('a binary with another hash is not run', async () => {
  const marker = join(dir, 'was-run');
  const told = order();
  objects.set('/etcdutl', script(`echo x > ${marker}`));
  const bytes = objects.get('/etcdutl')?.length ?? 0;
  const tools = told.tools.map((tool) => (tool.name === 'etcdutl' ? { ...tool, bytes } : tool));
  await expect(run({ ...told, tools })).resolves.toMatchObject({ ok: false, reason: 'tool-changed', tool: 'etcdutl' });
  expect(existsSync(marker)).toBe(false);
});

test.each([
  [
    'one byte is another',
    (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -20), Buffer.from([1]), bytes.subarray(-19)]),
  ],
  ['it is another one', () => gzipSync(Buffer.from('x'.repeat(9500)))],
])('a snapshot of which %s is damaged', async (_what, change) => {
  const told = order();
  const damaged = change(objects.get('/snapshot') ?? Buffer.alloc(0));
  objects.set('/snapshot', damaged);
  const event = { ...told, snapshot: { ...told.snapshot, compressedBytes: damaged.length } };
  await expect(run(event)).resolves.toMatchObject({ ok: false, reason: 'snapshot-damaged' });
});

test('an answer of S3 that is no object is told by its status', async () => {
  status = 403;
  await expect(run()).resolves.toMatchObject({ ok: false, reason: 'tool-download', tool: 'etcd', code: 403 });
});

test('a connection that breaks is taken up where it broke, and given up in the end', async () => {
  const { fetch } = deps;
  const ranges: (string | undefined)[] = [];
  let broken = 2;
  deps = {
    ...deps,
    fetch: async (url, init) => {
      if (!(url as string).includes('/snapshot')) {
        return fetch(url, init);
      }
      const range = (init?.headers as Record<string, string>)['range'];
      ranges.push(range);
      if (broken-- > 0) {
        throw new TypeError('fetch failed', { cause: new Error('ECONNRESET') });
      }
      return fetch(url, init);
    },
  };
  // The snapshot is there, and the scripts in place of binaries do nothing.
  await expect(run()).resolves.toMatchObject({ reason: 'restore-failed', tool: 'etcdutl', code: null });
  expect(ranges).toHaveLength(3);
  broken = 100;
  await expect(run()).resolves.toMatchObject({ reason: 'snapshot-download', code: null });
  expect(ranges).toHaveLength(8);
});

test('binaries for another architecture are not even downloaded', async () => {
  await expect(run(order({ arch: 'arm64' }))).resolves.toMatchObject({ ok: false, reason: 'other-architecture' });
  await expect(drillRun({ ...deps, arch: 'arm64' }, order(), () => 60_000)).resolves.toMatchObject({
    reason: 'other-architecture',
  });
});

test('the end of the time is told before it comes, and what runs is ended', async () => {
  objects.set('/etcdutl', script('exec /bin/sleep 60'));
  const started = performance.now();
  await expect(run(order(), 16_500)).resolves.toMatchObject({ ok: false, reason: 'out-of-time' });
  expect(performance.now() - started).toBeLessThan(20_000);
});

test('a disk with less room than is needed is refused before anything is written', async () => {
  const refused = makeDirectory(join(dir, 'too-small'), 1e18);
  await expect(refused).rejects.toMatchObject({
    reason: 'too-large',
    facts: { freeBytes: expect.any(Number) as number },
  });
});

test('what a run that was killed left is removed, and its etcd ended, before anything else', async () => {
  mkdirSync(join(directory, 'tools'), { recursive: true });
  const file = join(directory, 'tools', 'etcd');
  writeFileSync(join(directory, 'snapshot.db'), 'old');
  // The real thing: a process whose executable is that file.
  copyFileSync('/bin/sleep', file);
  chmodSync(file, 0o700);
  const left = spawn(file, ['60'], { stdio: 'ignore' });
  const other = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
  const ended = new Promise((resolve) =>
    left.once('exit', (_code, signal) => {
      resolve(signal);
    }),
  );
  await run();
  await expect(ended).resolves.toBe('SIGKILL');
  expect(other.exitCode).toBeNull();
  expect(other.kill('SIGKILL')).toBe(true);
});
