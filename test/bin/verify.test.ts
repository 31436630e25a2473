import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { keyRow, smallSnapshot } from '../lambda/shared/snapshot/bolt-file';

const PROJECT = join(__dirname, '..', '..');

let dir: string;
let cli: string;
let snapshot: string;

/** The command as it is shipped: out of the package that npm makes. */
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'verify-'));
  const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', dir], {
    cwd: PROJECT,
    encoding: 'utf8',
  });
  execFileSync('tar', ['-xzf', join(dir, packed.trim().split('\n').at(-1) ?? ''), '-C', dir]);
  cli = join(dir, 'package', 'dist', 'cli.js');
  snapshot = join(dir, 'snapshot.db');
  writeFileSync(
    snapshot,
    smallSnapshot([keyRow(2, '/registry/pods/a/x', 'secret-value'), keyRow(3, '/registry/pods/a/x', null)]),
  );
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: dir });
}

describe('npx etcd-backup verify', () => {
  test('says what is in a sound snapshot, and ends with 0', () => {
    const { status, stdout, stderr } = run('verify', snapshot);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^.*snapshot\.db: sound$/m);
    expect(stdout).toMatch(/^revision +3$/m);
    expect(stdout).toMatch(/^total keys +2 \(0 alive, 2 rows\)$/m);
    expect(stdout).not.toContain('secret-value');
    expect(status).toBe(0);
  });

  test('prints one line of JSON with the names of etcdutl', () => {
    const { status, stdout } = run('verify', snapshot, '--json');
    const [line = '', ...rest] = stdout.trimEnd().split('\n');
    expect(rest).toEqual([]);
    const parsed = JSON.parse(line) as Record<string, unknown>;
    // The file has no storage version, so it is of 3.5 or before: all rows count, and there is no version.
    expect(parsed).toMatchObject({
      ok: true,
      revision: 3,
      totalKey: 2,
      totalSize: 20_480,
      facts: { totalKey: { live: 0 } },
    });
    expect(parsed).not.toHaveProperty('version');
    expect(typeof parsed['hash']).toBe('number');
    expect(status).toBe(0);
  });

  test.each([
    ['cut', (bytes: Buffer) => bytes.subarray(0, 12_000), 10, 'too-short'],
    ['cut at a page', (bytes: Buffer) => bytes.subarray(0, -4096), 12, 'bad-trailer'],
    ['without trailer', (bytes: Buffer) => bytes.subarray(0, -32), 11, 'bad-length'],
    ['of nothing', () => Buffer.alloc(0), 10, 'too-short'],
  ])('ends with the code of its damage for a file %s', (_name, damage, code, word) => {
    const file = join(dir, 'damaged.db');
    writeFileSync(file, damage(smallSnapshot([keyRow(2, 'a', 'b')])));
    expect(run('verify', file)).toMatchObject({
      status: code,
      stdout: '',
      stderr: expect.stringContaining(`DAMAGED (${word})`) as string,
    });
    const { status, stdout } = run('verify', '--json', file);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, damage: word });
    expect(status).toBe(code);
  });

  test.each([
    ['zstd', zstdCompressSync],
    ['gzip', gzipSync],
  ])('reads one out of the bucket, compressed with %s, and leaves nothing behind', (_name, compress) => {
    const file = join(dir, 'compressed');
    writeFileSync(file, compress(readFileSync(snapshot)));
    const temporary = mkdtempSync(join(dir, 'tmp-'));
    const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'verify', file], {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: temporary },
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/compressed: sound\n/);
    expect(status).toBe(0);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test.each([
    ['cut', (bytes: Buffer) => bytes.subarray(0, -3)],
    ['with something behind it', (bytes: Buffer) => Buffer.concat([bytes, Buffer.from('x')])],
    ['of two frames', (bytes: Buffer) => Buffer.concat([bytes, bytes])],
  ])('ends with 19 for a compressed file %s', (_name, damage) => {
    const file = join(dir, 'compressed');
    for (const compress of [zstdCompressSync, gzipSync]) {
      writeFileSync(file, damage(compress(readFileSync(snapshot))));
      const { status, stderr } = run('verify', file);
      expect(stderr).toContain('DAMAGED (bad-compression)');
      expect(status).toBe(19);
    }
  });

  test('ends with 3 for a folder, and does not wait for a pipe', () => {
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    for (const path of [dir, join(dir, 'pipe')]) {
      const { status, stderr } = run('verify', path);
      expect(stderr).toMatch(/got a directory, pipe or device, expected a regular file/);
      expect(status).toBe(3);
    }
  });

  test('ends with 3 for a file that is not there', () => {
    const { status, stderr } = run('verify', join(dir, 'missing.db'));
    expect(stderr).toMatch(/missing\.db: got Error: ENOENT.*expected files that can be read/);
    expect(status).toBe(3);
  });

  test.each([
    [[]],
    [['verify']],
    [['verify', 'a', 'b']],
    [['prove', 'a']],
    [['verify', 'a', '--fast']],
    [['verify', 'a', '--snapshot', 'b']],
    [['receipt', 'a', '--json']],
  ])('ends with 2 and says how it is used for the arguments %j', (args) => {
    const { status, stderr } = run(...args);
    expect(stderr).toContain('npx etcd-backup verify FILE');
    expect(status).toBe(2);
  });
});
