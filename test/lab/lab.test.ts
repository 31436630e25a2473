import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../lab/nodes/run';

const ROOT = join(__dirname, '..', '..');
const NAME = 'lab-test';

const lab = (
  ...args: string[]
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn('bash', [join(ROOT, 'lab', 'lab.sh'), ...args], { env: { ...process.env, LAB_NAME: NAME } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, stdout, stderr });
    });
  });

const left = async (): Promise<unknown> => ({
  files: ['', '.json', '.log'].filter((suffix) => existsSync(join(ROOT, '.lab', `${NAME}${suffix}`))),
  namespaces: (await run('ip', ['netns', 'list'])).split('\n').filter((line) => line.startsWith(`${NAME}-`)),
});

const NOTHING = { files: [], namespaces: [] };

describe('npm run lab', () => {
  afterAll(async () => {
    await lab('down');
  });

  test('fails with a way on when the lab is not up', async () => {
    for (const args of [['status'], ['env'], ['backup'], ['exec', 'cp1', '--', 'true']])
      expect(await lab(...args)).toMatchObject({
        code: 1,
        stderr: "lab: the lab is not up; bring it up with 'npm run lab'\n",
      });
    expect((await lab('fly')).stderr).toContain("got command 'fly', expected one of these");
    expect((await lab('up', '--etcd', '3.4')).stderr).toContain("--etcd is '3.4', expected 3.5, 3.6, 3.7");
    expect((await lab('up', '--size', 'much')).stderr).toContain("--size is 'much', expected for example 50MB or 1GB");
  });

  test('brings the lab up, leaves it up, and says how to reach it', async () => {
    const { code, stdout, stderr } = await lab('up', '--members', '1', '--size', '2MB');
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toMatch(/loaded \d+ keys at revision \d+/);
    expect(stdout).toContain('npm run lab -- exec cp1 -- etcdctl member list');
    expect(stdout).toMatch(/s3 +http:\/\/127\.0\.0\.1:\d+/);
    expect((await lab('up')).stdout).toContain('the lab is up already');
  });

  test('runs a command on a node, with etcdctl at hand, and ends as it does', async () => {
    const members = await lab('exec', 'cp1', '--', 'etcdctl', 'member', 'list');
    expect(members.stdout).toMatch(/started, cp1, https:\/\/10\.90\.0\.11:2380/);
    expect((await lab('exec', 'cp1', '--', 'bash', '-c', 'exit 7')).code).toBe(7);
    expect((await lab('exec', 'cp9', '--', 'true')).stderr).toContain("no node 'cp9', expected one of cp1");
    expect((await lab('status')).stdout).toContain('RAFT TERM');
  });

  test('loads more data and takes a backup that says what it stored', async () => {
    const loaded = await lab('load', '--size', '4MB', '--secrets', 'plain');
    expect(JSON.parse(loaded.stdout)).toMatchObject({ secrets: 'plain' });
    const backup = await lab('backup');
    expect(backup.stderr).toBe('');
    expect(JSON.parse(backup.stdout)).toMatchObject({ outcome: 'stored' });
    expect((await lab('logs')).stdout).toContain('BackupServiceFunction');
  });

  test('prints an environment that the AWS SDK and CLI understand', async () => {
    const { stdout } = await lab('env');
    for (const service of ['S3', 'KMS', 'SSM', 'EC2', 'LAMBDA'])
      expect(stdout).toMatch(new RegExp(`^export AWS_ENDPOINT_URL_${service}='http://127\\.0\\.0\\.1:\\d+'$`, 'm'));
    expect(stdout).toMatch(/^export AWS_ACCESS_KEY_ID='\w+'$/m);
  });

  test('takes it down without a trace, also when its process was killed', async () => {
    expect(await lab('down')).toMatchObject({ code: 0, stdout: 'the lab is down\n' });
    expect(await left()).toEqual(NOTHING);

    expect((await lab('up', '--members', '1', '--size', '1MB')).code).toBe(0);
    const { daemon } = JSON.parse(readFileSync(join(ROOT, '.lab', `${NAME}.json`), 'utf8')) as {
      daemon: { pid: number };
    };
    process.kill(daemon.pid, 'SIGKILL');
    expect((await lab('status')).code).toBe(1);
    expect((await lab('down')).code).toBe(0);
    expect(await left()).toEqual(NOTHING);
  });
});
