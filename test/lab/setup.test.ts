import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../lab/nodes/run';
import { etcdTools, etcdVersion, labBinary } from '../../lab/nodes/tools';

const ROOT = join(__dirname, '..', '..');
const VERSION = etcdVersion('3.6');
const RELEASE = `etcd-v${VERSION}-linux-${process.arch === 'arm64' ? 'arm64' : 'amd64'}`;

let work: string;
let cache: string;

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'setup-'));
  cache = join(work, 'cache');
});

afterEach(() => {
  rmSync(work, { recursive: true, force: true });
});

interface Outcome {
  readonly code: number | null;
  readonly output: string;
}

const start = (args: readonly string[], env: Readonly<Record<string, string>> = {}, before: readonly string[] = []) => {
  const [command = 'bash', ...rest] = [...before, 'bash', join(ROOT, 'lab', 'setup.sh'), ...args];
  const child = spawn(command, rest, {
    detached: true,
    env: { PATH: process.env.PATH, HOME: work, ETCD_BACKUP_CACHE: cache, ...env },
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, output });
    });
  });
  return { child, outcome };
};

const setUp = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
  start(args, env).outcome;

const tools = (dir: string, names = ['etcd', 'etcdctl', 'etcdutl']): string => {
  mkdirSync(dir, { recursive: true });
  for (const name of names) writeFileSync(join(dir, name), `#!/bin/sh\necho ${name}\n`, { mode: 0o755 });
  return dir;
};

describe('lab/setup.sh', () => {
  test('fails at once when it is not root, before it touches anything', async () => {
    // In a user namespace without a mapping root is nobody, and can still read this project wherever it lies.
    const { code, output } = await start(['lab'], {}, ['unshare', '--user']).outcome;
    expect(code).toBe(1);
    expect(output).toMatch(/running as uid \d+, expected root/);
    expect(existsSync(cache)).toBe(false);
  });

  test('fails for a name that it does not know', async () => {
    const { code, output } = await setUp(['etcd-3.3']);
    expect(code).toBe(1);
    expect(output).toContain("'etcd-3.3' is not known, expected some of: npm commands lab etcd-3.4 etcd-3.5");
  });

  test("takes the user's own etcd and builds nothing", async () => {
    const own = tools(join(work, 'own'));
    const { code, output } = await setUp(['etcd-3.6'], { ETCD_3_6_BIN: own });
    expect(output).toContain(`etcd 3.6: your own in ${own}`);
    expect(code).toBe(0);
    expect(readdirSync(cache)).toEqual([]);
    process.env.ETCD_3_6_BIN = own;
    try {
      expect(etcdTools('3.6').etcdutl).toBe(join(own, 'etcdutl'));
    } finally {
      delete process.env.ETCD_3_6_BIN;
    }
  });

  test("fails when the user's own etcd is not complete", async () => {
    const own = tools(join(work, 'own'), ['etcd', 'etcdctl']);
    const { code, output } = await setUp(['etcd-3.6'], { ETCD_3_6_BIN: own });
    expect(code).toBe(1);
    expect(output).toContain(
      `ETCD_3_6_BIN is ${own}, expected a directory with etcd, etcdctl and etcdutl; etcdutl is not there`,
    );
  });

  test('builds the lab program of these very sources, and finds it the next time', async () => {
    // Go's own caches are the machine's: only what we keep is new here.
    const goEnvironment = {
      GOPATH: (await run('go', ['env', 'GOPATH'])).trim(),
      GOCACHE: (await run('go', ['env', 'GOCACHE'])).trim(),
    };
    const first = await setUp(['lab'], goEnvironment);
    expect(first.output).toContain("building the lab's own programs");
    process.env.ETCD_BACKUP_CACHE = cache;
    try {
      expect(statSync(labBinary()).mode & 0o111).toBe(0o111);
    } finally {
      delete process.env.ETCD_BACKUP_CACHE;
    }
    const second = await setUp(['lab'], goEnvironment);
    expect(second.output).not.toContain('building');
    expect([first.code, second.code]).toEqual([0, 0]);
  });

  describe('with a place that has official releases', () => {
    let server: Server;
    let base: string;
    let files: Record<string, Buffer | 'stall'>;

    beforeEach(async () => {
      tools(join(work, RELEASE));
      await run('tar', ['-czf', join(work, 'release.tar.gz'), '-C', work, RELEASE]);
      const tarball = readFileSync(join(work, 'release.tar.gz'));
      const sum = createHash('sha256').update(tarball).digest('hex');
      files = {
        [`/v${VERSION}/${RELEASE}.tar.gz`]: tarball,
        [`/v${VERSION}/SHA256SUMS`]: Buffer.from(`${'0'.repeat(64)}  another-file.zip\n${sum}  ${RELEASE}.tar.gz\n`),
      };
      server = createServer((request, response) => {
        const file = files[request.url ?? ''];
        if (file === 'stall') response.writeHead(200).write('the first bytes');
        else response.writeHead(file === undefined ? 404 : 200).end(file);
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      base = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    });

    afterEach(() => {
      server.closeAllConnections();
      server.close();
    });

    const download = () => setUp(['etcd-3.6'], { ETCD_RELEASES: '1', ETCD_RELEASE_BASE: base });
    const installed = (): string => join(cache, 'etcd-3.6', VERSION);

    test('downloads the release, checks it, and keeps its three programs', async () => {
      const { code, output } = await download();
      expect(output).toContain(`downloading etcd ${VERSION} from ${base}`);
      expect(code).toBe(0);
      expect(readdirSync(join(cache, 'etcd-3.6'))).toEqual([VERSION]);
      expect(readdirSync(installed()).sort()).toEqual(['etcd', 'etcdctl', 'etcdutl']);
      expect((await run(join(installed(), 'etcdutl'), [])).trim()).toBe('etcdutl');
    });

    test('fails and keeps nothing when the tarball is not the one that SHA256SUMS names', async () => {
      files[`/v${VERSION}/SHA256SUMS`] = Buffer.from(`${'0'.repeat(64)}  ${RELEASE}.tar.gz\n`);
      const { code, output } = await download();
      expect(code).toBe(1);
      expect(output).toContain(`${RELEASE}.tar.gz has not the SHA-256 that SHA256SUMS of release v${VERSION} names`);
      expect(readdirSync(join(cache, 'etcd-3.6'))).toEqual([]);
    });

    test('fails when SHA256SUMS does not name the tarball at all', async () => {
      files[`/v${VERSION}/SHA256SUMS`] = Buffer.from(`${'0'.repeat(64)}  another-file.zip\n`);
      expect((await download()).code).toBe(1);
      expect(existsSync(installed())).toBe(false);
    });

    test('fails and says what it could not download', async () => {
      files = {};
      const { code, output } = await download();
      expect(code).toBe(1);
      expect(output).toContain(`could not download ${base}/v${VERSION}/${RELEASE}.tar.gz`);
      expect(existsSync(installed())).toBe(false);
    });

    test('leaves no half tool when it is killed, and the next run succeeds', async () => {
      const whole = files[`/v${VERSION}/${RELEASE}.tar.gz`] ?? 'stall';
      files[`/v${VERSION}/${RELEASE}.tar.gz`] = 'stall';
      const asked = new Promise((resolve) => server.once('request', resolve));
      const { child, outcome } = start(['etcd-3.6'], { ETCD_RELEASES: '1', ETCD_RELEASE_BASE: base });
      await asked;
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      expect((await outcome).code).toBeNull();
      expect(existsSync(installed())).toBe(false);
      files[`/v${VERSION}/${RELEASE}.tar.gz`] = whole;
      expect((await download()).code).toBe(0);
      expect(readdirSync(installed()).sort()).toEqual(['etcd', 'etcdctl', 'etcdutl']);
    });
  });
});
