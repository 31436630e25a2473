import { ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { s3Client } from '../../lab/aws/s3';
import { etcdTools, etcdVersion } from '../../lab/nodes/tools';
import { startLab } from '../../lab/start-lab';

// `npm run tools` as a user runs it: a release into the list, a deploy, the release into the bucket, and a node that gets it from there.
// In a copy of the project, because the list is a file of the project.

const ROOT = join(__dirname, '..', '..');
const ARCH = process.arch === 'arm64' ? 'arm64' : 'amd64';
const VERSION = etcdVersion('3.6');

let work: string;
let project: string;
let release: string;

beforeAll(() => {
  mkdirSync(join(ROOT, '.lab'), { recursive: true });
  work = mkdtempSync(join(ROOT, '.lab', 'tools-'));
  project = join(work, 'project');
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  for (const file of files.split('\n').filter((name) => name !== '')) {
    mkdirSync(dirname(join(project, file)), { recursive: true });
    cpSync(join(ROOT, file), join(project, file));
  }
  symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'));
  // What GitHub serves, made of the lab's own binaries.
  release = join(work, 'release');
  const name = `etcd-v${VERSION}-linux-${ARCH}`;
  mkdirSync(join(release, name), { recursive: true });
  for (const tool of ['etcd', 'etcdctl', 'etcdutl'] as const) {
    cpSync(etcdTools('3.6')[tool], join(release, name, tool));
  }
  execFileSync('tar', ['-C', release, '-czf', join(release, `${name}.tar.gz`), name]);
  writeFileSync(
    join(release, 'SHA256SUMS'),
    execFileSync('sha256sum', [`${name}.tar.gz`], { cwd: release, encoding: 'utf8' }),
  );
});

afterAll(() => {
  rmSync(work, { recursive: true });
});

/** Runs the command beside this process, which must go on serving the AWS side. */
async function tools(functionName: string, environment: Record<string, string>) {
  const child = spawn(
    join(ROOT, 'node_modules', '.bin', 'tsx'),
    ['bin/tools.ts', 'add', VERSION, '--arch', ARCH, '--from', release, '--function', functionName],
    { cwd: project, env: { PATH: process.env.PATH ?? '', ...environment }, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { status, stderr };
}

function synthesize(out: string): void {
  execFileSync(
    join(ROOT, 'node_modules', '.bin', 'cdk'),
    ['synth', '--quiet', '--no-version-reporting', '--app', 'node_modules/.bin/tsx lab/app.ts', '--output', out],
    { cwd: project, stdio: ['ignore', 'ignore', 'inherit'] },
  );
}

test('a node whose image lacks etcdutl gets it from the bucket, once the release was added and deployed', async () => {
  const list = join(project, 'lib', 'official-tools.json');
  const before = readFileSync(list, 'utf8');

  synthesize(join(work, 'before'));
  let lab = await startLab({
    name: 'tools',
    members: 1,
    etcd: '3.6',
    etcdutlInImage: false,
    cdkOut: join(work, 'before'),
  });
  try {
    // Not deployed yet: the list is written, and the function does not hand out URLs for what it does not know.
    const early = await tools(lab.aws.outputs.get('BackupFunctionName') ?? '', lab.aws.environment());
    expect(early.status).not.toBe(0);
    expect(early.stderr).toContain('deploy');
    expect(readFileSync(list, 'utf8')).not.toBe(before);
    const { ok, result } = await lab.aws.invoke(lab.aws.outputs.get('BackupFunctionName') ?? '', {}).done;
    // The backup goes on without a status tool; the finding is in its announcement.
    expect({ ok, result }).toMatchObject({ ok: true, result: { outcome: 'stored', revision: null } });
  } finally {
    await lab.down();
  }

  synthesize(join(work, 'after'));
  lab = await startLab({ name: 'tools', members: 1, etcd: '3.6', etcdutlInImage: false, cdkOut: join(work, 'after') });
  try {
    const fn = lab.aws.outputs.get('BackupFunctionName') ?? '';
    for (const run of ['first', 'again']) {
      const added = await tools(fn, lab.aws.environment());
      expect({ run, status: added.status, stderr: added.stderr }).toEqual({ run, status: 0, stderr: '' });
    }
    const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
    const { Versions = [] } = await s3.send(
      new ListObjectVersionsCommand({ Bucket: lab.aws.outputs.get('BucketName') ?? '', Prefix: 'tools/' }),
    );
    s3.destroy();
    expect(Versions.map(({ Key }) => Key?.replace(/[0-9a-f]{64}/, 'sha256')).sort()).toEqual(
      ['etcd', 'etcdctl', 'etcdutl'].map((tool) => `tools/${VERSION}/${ARCH}/sha256/${tool}`),
    );
    const { ok, result } = await lab.aws.invoke(fn, {}).done;
    expect({ ok, result }).toMatchObject({
      ok: true,
      result: { outcome: 'stored', revision: expect.any(Number) as number },
    });
  } finally {
    await lab.down();
  }
});
