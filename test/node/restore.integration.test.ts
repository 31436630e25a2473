import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import { contentsAt, revisionOf } from '../../lab/restores';
import { reissue } from './reissue';
import { type Packed, RestoreScripts, type RestoreScript } from './restore-scripts';

// The scripts of a restore on a real node, each killed before each of its changes. The whole machine on three nodes is in test/lab/restore.test.ts.

const JOURNAL = '/var/lib/etcd-backup/restore/journal';
const BUMP = 1_000_000_000;

let cluster: ControlPlane;
let node: LabNode;
let scripts: RestoreScripts;
let packed: Packed;
let contents: string;
let number = 0;

/** A restore id that no other test uses. */
function nextId(): string {
  number += 1;
  return `20261121T${String(100000 + number)}Z`;
}

/** Every file below these directories with its mode, owner and the SHA-256 of its bytes. */
function fingerprint(...directories: string[]): string {
  const lines: string[] = [];
  const walk = (path: string): void => {
    const stat = lstatSync(path);
    const bytes = stat.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    lines.push(`${path} ${stat.mode.toString(8)} ${String(stat.uid)}:${String(stat.gid)} ${bytes}`);
    if (stat.isDirectory()) for (const entry of readdirSync(path).sort()) walk(join(path, entry));
  };
  for (const directory of directories) walk(node.path(directory));
  return lines.join('\n');
}

/** What a restore that was undone and cleaned up must have left as it was. */
async function expectOldState(before: { manifests: string; clusterId: string }, id: string): Promise<void> {
  const check = await scripts.run(node, 'check', {
    RestoreId: id,
    Component: 'before',
    WaitSeconds: '60',
    Revision: '0',
  });
  expect([check.code, check.result]).toEqual([0, expect.objectContaining({ ok: true })]);
  const cleanup = await scripts.run(node, 'cleanup', { RestoreId: id, Outcome: 'failed' });
  expect([cleanup.code, cleanup.result]).toEqual([0, expect.objectContaining({ ok: true })]);
  expect(fingerprint('/etc/kubernetes')).toBe(before.manifests);
  expect(readdirSync(node.path('/var/lib/etcd'))).toEqual(['member']);
  expect(existsSync(node.path(JOURNAL))).toBe(false);
  expect(existsSync(`/proc/${String(node.pid)}/root/run/etcd-backup`)).toBe(false);
  expect(await routingRules()).not.toContain('unreachable');
  expect(await clusterId()).toBe(before.clusterId);
  expect(await contentsAt(node, packed.revision)).toBe(contents);
  expect(await node.apiReady()).toBe(true);
}

async function routingRules(): Promise<string> {
  return (await node.must(['ip', '-4', 'rule', 'show'])) + (await node.must(['ip', '-6', 'rule', 'show']));
}

async function clusterId(): Promise<string> {
  return String(/"cluster_id":(\d+)/.exec(await node.etcdctl(['endpoint', 'status', '-w', 'json']))?.[1]);
}

/** The scheduler as a restore leaves it that holds the controllers back; what it gives lets it go again. */
function holdScheduler(): () => void {
  const folder = node.path(`/etc/kubernetes/manifests.before-${nextId()}`);
  const manifest = node.path('/etc/kubernetes/manifests/kube-scheduler.yaml');
  mkdirSync(folder, { mode: 0o700 });
  renameSync(manifest, join(folder, 'kube-scheduler.yaml'));
  return () => {
    renameSync(join(folder, 'kube-scheduler.yaml'), manifest);
    rmSync(folder, { recursive: true });
  };
}

/** Leaves out of the journal what a version or a run that ended early would not have written. */
function keepOfJournal(keep: (line: string) => boolean): void {
  const lines = readFileSync(node.path(JOURNAL), 'utf8').split('\n').filter(keep);
  writeFileSync(node.path(JOURNAL), `${lines.join('\n').trimEnd()}\n`);
}

async function prepare(id: string): Promise<{ manifests: string; clusterId: string }> {
  const before = { manifests: fingerprint('/etc/kubernetes'), clusterId: await clusterId() };
  await scripts.prepare(id, packed);
  return before;
}

/** What is restored from here on, and what the old state is compared with. */
async function takeSnapshot(): Promise<void> {
  packed = await scripts.snapshot();
  contents = await contentsAt(node, packed.revision);
}

beforeAll(async () => {
  cluster = await startControlPlane({ name: 'scripts', members: 1, etcd: '3.6', apiServer: true });
  node = cluster.nodes[0] as LabNode;
  scripts = new RestoreScripts(cluster);
  await scripts.start();
  await loadData(cluster, { sizeBytes: 2_000_000 });
  await takeSnapshot();
});

afterAll(async () => {
  scripts.stop();
  await cluster.down();
});

describe('inspect', () => {
  test('says what is there and changes no byte', async () => {
    const directories = ['/etc/kubernetes', '/var/lib/etcd-backup'].filter((path) => existsSync(node.path(path)));
    const before = fingerprint(...directories);
    const { code, result } = await scripts.run(node, 'inspect', {
      ClusterName: 'lab',
      Peers: 'https://10.90.0.99:2380',
    });
    expect(code).toBe(0);
    expect(result).toMatchObject({
      ok: true,
      kubelet: { installed: true, active: true },
      etcd: {
        manifest: 'present',
        version: cluster.etcdVersion,
        running: true,
        memberName: node.name,
        hostDataDir: '/var/lib/etcd',
        quotaBytes: 2_147_483_648,
        member: { linearizable: true, isLearner: false, alarms: [], members: [{ name: node.name }] },
      },
      apiServer: { manifest: true, running: true, ready: true },
      data: { member: true, kept: [], ownMount: false },
      certificates: expect.arrayContaining(
        ['etcd/peer', 'apiserver', 'apiserver-kubelet-client'].map((name) => ({
          file: `/etc/kubernetes/pki/${name}.crt`,
          daysLeft: expect.any(Number) as number,
        })),
      ) as unknown,
      peers: expect.arrayContaining([
        { url: 'https://10.90.0.99:2380', answers: false },
        { url: node.peerUrl, answers: true },
      ]) as unknown,
      held: [],
      journal: null,
      problems: [],
    });
    expect(fingerprint(...directories)).toBe(before);
    expect(existsSync(`/proc/${String(node.pid)}/root/run/etcd-backup`)).toBe(false);
  });
});

describe('the whole way', () => {
  test('a restore with held controllers ends with the data of the snapshot at the raised revision, the old data kept, and a second one, undone and done, as well', async () => {
    const [first, undone, second] = [nextId(), nextId(), nextId()];
    const controllers = () => [...node.pidsOf('kube-controller-manager'), ...node.pidsOf('kube-scheduler')];
    await node.etcdctl(['put', 'later', 'than the snapshot']);
    await scripts.restore(first, packed, [node], { hold: true });
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
    expect(await node.etcdctl(['get', 'later'])).toBe('');
    expect(readdirSync(node.path('/var/lib/etcd')).sort()).toEqual(['member', `member.before-${first}`]);
    expect(controllers()).toEqual([]);
    const { result } = await scripts.run(node, 'inspect', { ClusterName: 'lab', Peers: '' });
    const held = ['kube-controller-manager', 'kube-scheduler'].map((component) => ({ component, restoreId: first }));
    expect(result).toMatchObject({ held });
    const kubernetes = fingerprint('/etc/kubernetes');
    await scripts.prepare(undone, packed);
    await scripts.must('stop', { RestoreId: undone });
    expect(readdirSync(node.path(`/etc/kubernetes/manifests.before-${first}`))).toEqual([]);
    await scripts.must('rollback', { RestoreId: undone, Served: 'no' });
    await scripts.must('cleanup', { RestoreId: undone, Outcome: 'failed' });
    expect(fingerprint('/etc/kubernetes')).toBe(kubernetes);
    expect(controllers()).toEqual([]);
    await cluster.waitApiReady();
    await scripts.restore(second, packed);
    expect(controllers()).toHaveLength(2);
    expect(readdirSync(node.path('/etc/kubernetes')).filter((name) => name.includes('.before-'))).toEqual([]);
    expect(readdirSync(node.path('/var/lib/etcd')).sort()).toEqual([
      'member',
      `member.before-${first}`,
      `member.before-${second}`,
    ]);
    expect(existsSync(node.path(JOURNAL))).toBe(false);
    for (const id of [first, second]) rmSync(node.path(`/var/lib/etcd/member.before-${id}`), { recursive: true });
    // What was written before these restores is compacted: the tests after this compare with what is there now.
    await takeSnapshot();
  });
});

describe('killed before each of its changes', () => {
  /** How many times a script was killed, by test. */
  const kills: number[] = [];

  afterAll(() => {
    console.log(
      `scripts killed ${String(kills.reduce((sum, each) => sum + each, 0))} times (${kills.join(' + ')}): every time the old state was there again`,
    );
  });

  /**
   * Kills a script at its first change, at a later one and so on, until it ends by itself. Gives at least how many changes it has. Every
   * sixth change in CI, for the time it takes; each of them with EVERY_CHANGE=1.
   */
  async function sweep(round: (killAt: number) => Promise<'killed' | 'ended'>, limit = 80): Promise<number> {
    const stride = process.env['EVERY_CHANGE'] === '1' ? 1 : 6;
    for (let killAt = 1; killAt <= limit; killAt += stride) {
      if ((await round(killAt)) === 'ended') {
        kills.push(Math.max(0, (killAt - 1) / stride));
        return killAt - stride;
      }
    }
    throw new Error(`more than ${String(limit)} changes, expected fewer`);
  }

  async function runKilled(
    script: RestoreScript,
    parameters: Readonly<Record<string, string>>,
    killAt: number,
  ): Promise<'killed' | 'ended'> {
    const { code, result, stderr } = await scripts.run(node, script, parameters, { killAt });
    if (result === undefined) return 'killed';
    expect([code, result, code === 0 ? '' : stderr]).toEqual([0, expect.objectContaining({ ok: true }), '']);
    return 'ended';
  }

  test('preflight: cleaned up, nothing is left and nothing was changed', async () => {
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = { manifests: fingerprint('/etc/kubernetes'), clusterId: await clusterId() };
      const parameters = await scripts.stageParameters(node, { restoreId: id, packed });
      const end = await runKilled('preflight', parameters, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(15);
  });

  test('stop, with a controller that an earlier restore holds: rolled back, the old state is exactly there again', async () => {
    const letGo = holdScheduler();
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      const end = await runKilled('stop', { RestoreId: id }, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(15);
    letGo();
  });

  test('swap, and again after it: rolled back, the old state is exactly there again', async () => {
    let again = false;
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      await scripts.must('stop', { RestoreId: id });
      const end = await runKilled('swap', { RestoreId: id }, killAt);
      // Every other one is done once more before the undo, as after a lost answer.
      again = !again;
      if (again) await scripts.must('swap', { RestoreId: id });
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(4);
  });

  test('start of etcd: rolled back, the old state is exactly there again', async () => {
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
      const end = await runKilled('start', { RestoreId: id, Component: 'etcd' }, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(4);
  });

  test('start of etcd, while it is kept from its peers: their port is refused at once and nothing else, until the next script', async () => {
    const id = nextId();
    const before = await prepare(id);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    // Its change: the start of the kubelet.
    expect(await runKilled('start', { RestoreId: id, Component: 'etcd' }, 9)).toBe('killed');
    expect((await routingRules()).match(/iif lo ipproto tcp dport 2380 unreachable/g)).toHaveLength(2);
    const connect = async (address: string, port: number): Promise<string> => {
      const { code, stderr } = await node.exec([
        'timeout',
        '2',
        'bash',
        '-c',
        `exec 8<>/dev/tcp/${address}/${String(port)}`,
      ]);
      return code === 0 ? 'answers' : stderr;
    };
    // An address of the nodes' network that nobody has: without the rule nobody says so for seconds.
    const peer = node.ip.replace(/\d+$/, '99');
    expect(await connect(peer, 2380)).toContain('Network is unreachable');
    expect(await connect(peer, 2381)).toBe('');
    // Nobody has started etcd; what is asked is this node itself.
    expect(await connect(node.ip, 2380)).toContain('Connection refused');
    await scripts.must('start', { RestoreId: id, Component: 'etcd' });
    expect(await routingRules()).not.toContain('unreachable');
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await expectOldState(before, id);
  });

  test('rollback, with a controller that an earlier restore holds: done again, the old state is exactly there again', async () => {
    const letGo = holdScheduler();
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
      await scripts.must('start', { RestoreId: id, Component: 'etcd' });
      // It hangs, so that these are its last words.
      const mark = `"msg":"${id} cannot go on"`;
      const hang = `kill -STOP ${String(node.etcdPid())}; echo '{"level":"fatal",${mark}}' >>/var/log/pods/etcd.log`;
      await node.must(['sh', '-c', hang]);
      const end = await runKilled('rollback', { RestoreId: id, Served: 'no' }, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      // What the evidence has to show is the member that failed. The healthy one writes another log by now, and the journal is gone.
      const { result } = await scripts.run(node, 'diagnose', { RestoreId: id });
      const evidence = result?.['evidence'] as Record<string, string>;
      expect([evidence['failed-etcd']?.includes(mark), evidence['etcd']?.includes(mark)]).toEqual([true, false]);
      expect(evidence['failed-journal']).toMatch(
        new RegExp(`^restore ${id}\n[^]*\nswap ended\n[^]*\nrollback begun\n$`),
      );
      return end;
    });
    expect(changes).toBeGreaterThan(15);
    const kept = readdirSync(node.path('/var/lib/etcd-backup/restore'));
    expect(kept).toEqual([expect.stringMatching(/^\d{8}T\d{6}Z\.failed$/)]);
    expect(fingerprint('/var/lib/etcd-backup/restore').match(/ 100600 0:0 /g)).toHaveLength(3);
    letGo();
  });
});

describe('refusals', () => {
  test.each([
    ['other bytes', { Sha256: 'a'.repeat(64) }, 84, /snapshot-bytes/],
    ['another length', { CompressedBytes: '5' }, 84, /snapshot-bytes/],
    ['no room', { DiskLimitPercent: '1' }, 50, /disk/],
    ['a tool that nobody pinned', { ToolPins: `3.6.0/amd64/etcdutl=${'b'.repeat(64)}` }, 52, /tool-changed/],
    ['a cluster that this member is not of', { InitialCluster: 'other=https://10.90.0.99:2380' }, 85, /restore-failed/],
    [
      'a member with a URL that it does not advertise',
      { InitialCluster: 'scripts1=https://10.90.0.11:2380,scripts1=https://[fd00::11]:2380' },
      85,
      /restore-failed/,
    ],
    ['what was sealed to another key', { SealedSignature: 'A'.repeat(512) }, 82, /seal/],
  ])('preflight refuses %s, and nothing was stopped', async (_, change, code, name) => {
    const id = nextId();
    const pids = [node.etcdPid(), ...node.pidsOf('kube-apiserver')];
    const said = await scripts.run(
      node,
      'preflight',
      await scripts.stageParameters(node, { restoreId: id, packed, change: change }),
    );
    expect([said.code, String(said.result?.['error'])]).toEqual([code, expect.stringMatching(name)]);
    expect([node.etcdPid(), ...node.pidsOf('kube-apiserver')]).toEqual(pids);
    expect(readFileSync(node.path(JOURNAL), 'utf8')).toContain('nodes 1\n');
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
    expect(readdirSync(node.path('/var/lib/etcd'))).toEqual(['member']);
  });

  test.each([
    ['etcd/peer', 'etcd/ca'],
    ['apiserver', 'ca'],
  ])('a certificate that has ended (%s) is seen and refused, and nothing was stopped', async (name, ca) => {
    const id = nextId();
    const pids = [node.etcdPid(), ...node.pidsOf('kube-apiserver')];
    const file = `/etc/kubernetes/pki/${name}.crt`;
    const before = readFileSync(node.path(file));
    reissue(node, file, { usage: 'serverAuth,clientAuth', end: '20250101000000Z', ca: `/etc/kubernetes/pki/${ca}` });
    const parameters = await scripts.stageParameters(node, { restoreId: id, packed });
    const [seen, said] = [
      await scripts.run(node, 'inspect', { ClusterName: 'lab', Peers: '' }),
      await scripts.run(node, 'preflight', parameters),
    ];
    writeFileSync(node.path(file), before);
    const daysLeft = -Math.floor((Date.now() - Date.parse('2025-01-01T00:00:00Z')) / 86_400_000) - 1;
    expect(seen.result?.['certificates']).toContainEqual({ file, daysLeft });
    expect([said.code, String(said.result?.['message'])]).toEqual([33, expect.stringContaining(`${file} expired`)]);
    expect([node.etcdPid(), ...node.pidsOf('kube-apiserver')]).toEqual(pids);
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
  });

  test('preflight that is run again after its download says that it was killed, and not that the node was restarted', async () => {
    const id = nextId();
    const parameters = await scripts.stageParameters(node, { restoreId: id, packed });
    const keyless = await scripts.run(node, 'preflight', { ...parameters, RestoreId: nextId() });
    expect([keyless.code, String(keyless.result?.['message'])]).toEqual([82, expect.stringContaining('was restarted')]);
    // After all but the last of its changes.
    for (let killAt = 40; ; killAt += 1) {
      const { result } = await scripts.run(node, 'preflight', parameters, { killAt });
      if (result === undefined && existsSync(`/proc/${String(node.pid)}/root/run/etcd-backup`)) continue;
      break;
    }
    const again = await scripts.run(node, 'preflight', parameters);
    expect([again.code, String(again.result?.['message'])]).toEqual([
      82,
      expect.stringContaining('was killed after its download'),
    ]);
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
    expect(readdirSync(node.path('/var/lib/etcd'))).toEqual(['member']);
  });

  test('no step acts without the one before it, nor on the journal of another restore', async () => {
    const [id, other] = [nextId(), nextId()];
    expect((await scripts.run(node, 'stop', { RestoreId: id })).code).toBe(81);
    await scripts.prepare(id, packed);
    expect((await scripts.run(node, 'swap', { RestoreId: id })).code).toBe(81);
    expect((await scripts.run(node, 'start', { RestoreId: id, Component: 'etcd' })).code).toBe(81);
    expect((await scripts.run(node, 'stop', { RestoreId: other })).code).toBe(80);
    expect((await scripts.run(node, 'rollback', { RestoreId: other, Served: 'no' })).code).toBe(80);
    await scripts.must('stop', { RestoreId: id });
    expect((await scripts.run(node, 'preflight', { RestoreId: other, Step: 'key' })).code).toBe(80);
    expect((await scripts.run(node, 'cleanup', { RestoreId: id, Outcome: 'failed' })).code).toBe(92);
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
  });

  test('once an API server was started nothing is renamed back, and all goes on on the restored data', async () => {
    const id = nextId();
    await prepare(id);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    await scripts.must('start', { RestoreId: id, Component: 'etcd' });
    await scripts.must('start', { RestoreId: id, Component: 'api-server' });
    expect(await node.apiReady()).toBe(true);
    expect((await scripts.run(node, 'rollback', { RestoreId: id, Served: 'no' })).code).toBe(91);
    const [said] = await scripts.must('rollback', { RestoreId: id, Served: 'yes' });
    expect(said?.result).toMatchObject({ undone: false, finishedForward: true });
    const cluster60 = { RestoreId: id, Component: 'cluster', WaitSeconds: '60', Revision: '0' };
    // Of a node that is gone.
    const lease = String(/lease (\w+) granted/.exec(await node.etcdctl(['lease', 'grant', '5']))?.[1]);
    await node.etcdctl(['put', `--lease=${lease}`, '/registry/masterleases/10.90.0.99', '']);
    const [whole] = await scripts.must('check', cluster60);
    expect(whole?.result).toMatchObject({
      running: ['kube-controller-manager', 'kube-scheduler', 'kube-apiserver', 'etcd'],
      advertised: [node.ip],
      masterleases: [node.ip],
    });
    // As on a node that never had an API server.
    const [manifest, elsewhere] = ['manifests/kube-apiserver.yaml', 'kube-apiserver.elsewhere'].map((file) =>
      node.path(`/etc/kubernetes/${file}`),
    ) as [string, string];
    renameSync(manifest, elsewhere);
    const without = await scripts.run(node, 'check', { ...cluster60, WaitSeconds: '3' });
    const seen = await scripts.run(node, 'inspect', { ClusterName: 'lab', Peers: '' });
    renameSync(elsewhere, manifest);
    expect([without.code, without.result]).toEqual([0, expect.objectContaining({ advertised: [] })]);
    expect(seen.result).toMatchObject({
      apiServer: { manifest: false },
      identity: { etcdCaSha256: expect.any(String) as string, clusterCaSha256: expect.any(String) as string },
      certificates: expect.arrayContaining([
        { file: '/etc/kubernetes/pki/etcd/peer.crt', daysLeft: expect.any(Number) as number },
      ]) as unknown,
    });
    await cluster.waitApiReady();
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'restored' });
    expect(await revisionOf(node)).toBeGreaterThan(packed.revision + BUMP);
    rmSync(node.path(`/var/lib/etcd/member.before-${id}`), { recursive: true });
    // What was written before this restore is compacted: the tests after this compare with what is there now.
    await takeSnapshot();
  });

  test('another restore that stopped nothing is taken over from', async () => {
    const [dead, id] = [nextId(), nextId()];
    mkdirSync(node.path('/var/lib/etcd-backup/restore'), { recursive: true });
    writeFileSync(node.path(JOURNAL), `restore ${dead}\nphase preflight\nstatic-po`);
    await scripts.prepare(id, packed);
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
    expect(readdirSync(node.path('/var/lib/etcd'))).toEqual(['member']);
  });
});

describe('what somebody did beside the restore', () => {
  test('a copy of a manifest in the folder of static pods is refused: the kubelet would start it in the middle', async () => {
    const id = nextId();
    const copy = '/etc/kubernetes/manifests/kube-apiserver.yaml.bak';
    // It reads copies, too.
    await node.stopKubelet();
    await node.must(['cp', '/etc/kubernetes/manifests/kube-apiserver.yaml', copy]);
    const parameters = await scripts.stageParameters(node, { restoreId: id, packed });
    const said = await scripts.run(node, 'preflight', parameters);
    const seen = await scripts.run(node, 'inspect', { ClusterName: 'lab', Peers: '' });
    await node.must(['rm', copy]);
    await node.startKubelet();
    expect([said.code, String(said.result?.['message'])]).toEqual([86, expect.stringContaining(copy)]);
    expect(JSON.stringify(seen.result?.['problems'])).toContain(copy);
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
  });

  test.each([
    ['', (line: string) => line !== ''],
    [
      ', by the journal of a version that did not look at each component',
      (line: string) => !/^was-running /.test(line),
    ],
  ])(
    'a kubelet that was stopped before, with all running on, is as before after a rollback, and so is all%s',
    async (_, remembered) => {
      const id = nextId();
      await node.stopKubelet();
      const before = await prepare(id);
      for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
      keepOfJournal(remembered);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      expect(node.pidsOf('kubelet')).toEqual([]);
      await expectOldState(before, id);
      await node.startKubelet();
    },
  );

  test('an API server that was ended on purpose is not started by a rollback, nor by one that is done again', async () => {
    const id = nextId();
    await node.stopKubelet();
    await node.must(['pkill', '-x', 'kube-apiserver']);
    while (node.pidsOf('kube-apiserver').length > 0) await sleep(50);
    const written = node.apiWrites().length;
    const before = await prepare(id);
    await scripts.must('stop', { RestoreId: id });
    for (let times = 1; times <= 2; times += 1) {
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      expect(fingerprint('/etc/kubernetes/manifests')).toBe(
        before.manifests
          .split('\n')
          .filter((line) => line.includes('/etc/kubernetes/manifests'))
          .join('\n'),
      );
      expect([...node.pidsOf('kubelet'), ...node.pidsOf('kube-apiserver')]).toEqual([]);
      expect([node.etcdPid(), ...node.pidsOf('kube-scheduler')]).toEqual([expect.any(Number), expect.any(Number)]);
      // As if it had been killed right before the end.
      if (times === 1) keepOfJournal((line) => line !== 'undone yes');
    }
    expect(node.apiWrites()).toHaveLength(written);
    await node.startKubelet();
    await cluster.waitApiReady();
    await expectOldState(before, id);
  });

  test('a node without data is left stopped by a rollback, or its etcd would begin an empty cluster, and the next restore starts it', async () => {
    const [stopped, swapped, id] = [nextId(), nextId(), nextId()];
    const before = fingerprint('/etc/kubernetes');
    const expectLeftStopped = async (restoreId: string): Promise<void> => {
      const [said] = await scripts.must('rollback', { RestoreId: restoreId, Served: 'no' });
      expect(said?.result).toMatchObject({ undone: true, leftStopped: true });
      const [again] = await scripts.must('rollback', { RestoreId: restoreId, Served: 'no' });
      expect(again?.result).toMatchObject({ undone: false, leftStopped: true });
      const check = { RestoreId: restoreId, Component: 'before', WaitSeconds: '3', Revision: '0' };
      const [checked] = await scripts.must('check', check);
      expect(checked?.result).toMatchObject({ healthy: [], leftStopped: true });
      await scripts.must('cleanup', { RestoreId: restoreId, Outcome: 'failed' });
      for (const program of ['kubelet', 'etcd', 'kube-apiserver', 'kube-scheduler'] as const)
        expect([program, ...node.pidsOf(program)]).toEqual([program]);
      expect(readdirSync(node.path('/var/lib/etcd'))).toEqual([]);
      expect(fingerprint('/etc/kubernetes')).toBe(before);
    };
    await prepare(stopped);
    await scripts.must('stop', { RestoreId: stopped });
    await node.wipeData();
    await expectLeftStopped(stopped);

    // Nothing of an image runs any more.
    const tool = `${node.imageBin}/etcdutl`;
    const [sha256] = (await node.must(['sha256sum', tool])).split(' ');
    const change = { ToolUrls: `${cluster.etcdVersion}/${node.arch}/etcdutl=${String(sha256)}=file://${tool}` };
    const prepareDead = async (restoreId: string): Promise<void> => {
      await scripts.must('preflight', await scripts.stageParameters(node, { restoreId, packed, change }));
      for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: restoreId });
    };
    await prepareDead(swapped);
    await expectLeftStopped(swapped);

    await prepareDead(id);
    for (const Component of ['etcd', 'api-server', 'controllers'])
      await scripts.must('start', { RestoreId: id, Component });
    await scripts.must('check', { RestoreId: id, Component: 'cluster', WaitSeconds: '60', Revision: '0' });
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'restored' });
    expect(node.pidsOf('kubelet')).toHaveLength(1);
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
    await takeSnapshot();
  });

  test('controllers that a restore was to hold are held by whoever brings it to its end later', async () => {
    const id = nextId();
    await prepare(id);
    await scripts.must('stop', { RestoreId: id, Hold: 'controllers' });
    await scripts.must('swap', { RestoreId: id });
    await scripts.must('start', { RestoreId: id, Component: 'etcd' });
    const [said] = await scripts.must('rollback', { RestoreId: id, Served: 'yes' });
    expect(said?.result).toMatchObject({ undone: false, finishedForward: true, held: true });
    await cluster.waitApiReady();
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'restored' });
    expect(existsSync(node.path(JOURNAL))).toBe(false);
    expect([...node.pidsOf('kube-controller-manager'), ...node.pidsOf('kube-scheduler')]).toEqual([]);
    const aside = `manifests.before-${id}`;
    expect(readdirSync(node.path(`/etc/kubernetes/${aside}`)).sort()).toEqual([
      'kube-controller-manager.yaml',
      'kube-scheduler.yaml',
    ]);
    // The words of the output.
    await node.must(['bash', '-c', `cd /etc/kubernetes && mv ${aside}/*.yaml manifests/ && rmdir ${aside}`]);
    rmSync(node.path(`/var/lib/etcd/member.before-${id}`), { recursive: true });
    await takeSnapshot();
  });

  test('old data that is gone is never called back in its place, and nothing is started on what is there', async () => {
    const id = nextId();
    await prepare(id);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    rmSync(node.path(`/var/lib/etcd/member.before-${id}`), { recursive: true });
    const said = await scripts.run(node, 'rollback', { RestoreId: id, Served: 'no' });
    expect([said.code, String(said.result?.['message'])]).toEqual([88, expect.stringContaining('not the member')]);
    expect([node.etcdPid(), ...node.pidsOf('kube-apiserver')]).toEqual([undefined]);
    // What is left is to go on with the restored data.
    await scripts.must('rollback', { RestoreId: id, Served: 'yes' });
    await cluster.waitApiReady();
    // By now clients have read it: whoever asks for the old data again comes too late.
    expect((await scripts.run(node, 'rollback', { RestoreId: id, Served: 'no' })).code).toBe(91);
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'restored' });
  });

  test('what opens the old database after the stop is waited for before anything is renamed', async () => {
    await takeSnapshot();
    const id = nextId();
    const before = await prepare(id);
    await scripts.must('stop', { RestoreId: id });
    const database = '/var/lib/etcd/member/snap/db';
    let open = true;
    const reader = node.must(['flock', database, 'sleep', '3']).finally(() => {
      open = false;
    });
    while ((await node.exec(['flock', '--nonblock', database, 'true'])).code === 0) await sleep(50);
    await scripts.must('swap', { RestoreId: id });
    expect(open).toBe(false);
    await reader;
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await expectOldState(before, id);
  });

  test('with the WAL named where it is anyway, a rollback that was killed between its renames is done again', async () => {
    const manifest = readFileSync(node.path('/etc/kubernetes/manifests/etcd.yaml'), 'utf8');
    await node.writeStaticPod(
      'etcd',
      manifest.replace('    - --data-dir=/var/lib/etcd\n', '$&    - --wal-dir=/var/lib/etcd/member/wal\n'),
    );
    await cluster.waitHealthy();
    await cluster.waitApiReady();
    await takeSnapshot();
    const id = nextId();
    const before = await prepare(id);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    // Its first rename.
    renameSync(node.path('/var/lib/etcd/member'), node.path(`/var/lib/etcd/.restore-${id}/member`));
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await expectOldState(before, id);
    await node.writeStaticPod('etcd', manifest);
    await cluster.waitHealthy();
    await cluster.waitApiReady();
  });
});

describe('a WAL directory of its own', () => {
  const [INSIDE, OWN] = ['/var/lib/etcd/member/wal', '/var/lib/etcd-wal/wal'] as const;

  /** Moves the WAL of the stopped member, with etcd's flag for it. */
  async function moveWal(from: string, to: string): Promise<void> {
    await node.stopEtcd();
    mkdirSync(dirname(node.path(to)), { recursive: true });
    renameSync(node.path(from), node.path(to));
    rmSync(node.path('/etc/kubernetes/etcd.yaml.stopped'));
    await node.writeManifest({ walDir: to === OWN });
    await node.startEtcd();
    await cluster.waitHealthy();
    await cluster.waitApiReady();
  }

  /** Each file with its inode, and what was written to it; etcd makes its files longer than what is in them. */
  const files = (): { name: string; inode: number; bytes: string }[] =>
    readdirSync(node.path(OWN))
      .filter((name) => name.endsWith('.wal'))
      .map((name) => {
        const path = join(node.path(OWN), name);
        return { name, inode: lstatSync(path).ino, bytes: readFileSync(path, 'latin1').replace(/\0+$/, '') };
      });

  beforeAll(async () => {
    await moveWal(INSIDE, OWN);
    await takeSnapshot();
  });

  afterAll(async () => {
    await moveWal(OWN, INSIDE);
    await takeSnapshot();
  });

  test.each([
    ['', () => undefined],
    [
      ' after a run that was killed in the middle of it',
      (id: string) => {
        const [data, kept, moving] = ['/var/lib/etcd', `${OWN}/wal.before-${id}`, `${OWN}/wal.moving`].map((path) =>
          node.path(path),
        ) as [string, string, string];
        renameSync(join(data, 'member'), join(data, `.restore-${id}/member`));
        renameSync(join(data, `member.before-${id}`), join(data, 'member'));
        for (const { name } of files())
          renameSync(node.path(`${OWN}/${name}`), node.path(`${OWN}/.restore-${id}/${name}`));
        renameSync(kept, moving);
        const [first = ''] = readdirSync(moving);
        renameSync(join(moving, first), node.path(`${OWN}/${first}`));
      },
    ],
  ])('is put back file by file%s, and all is the old state again', async (_, kill) => {
    const id = nextId();
    await node.etcdctl(['put', '/last', 'word before the restore']);
    const before = await prepare(id);
    await scripts.must('stop', { RestoreId: id });
    const old = files();
    await scripts.must('swap', { RestoreId: id });
    expect(readdirSync(node.path(`${OWN}/wal.before-${id}`))).toEqual(
      expect.arrayContaining(old.map(({ name }) => name)),
    );
    expect(files().map(({ inode }) => inode)).not.toContain(old[0]?.inode);
    kill(id);
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await expectOldState(before, id);
    expect(readdirSync(node.path(OWN)).filter((name) => !/\.(wal|tmp)$/.test(name))).toEqual([]);
    for (const { name, inode, bytes } of old) {
      const now = files().find((file) => file.name === name);
      expect([name, now?.inode, now?.bytes.startsWith(bytes)]).toEqual([name, inode, true]);
    }
    expect(await node.etcdctl(['get', '/last', '--print-value-only'])).toBe('word before the restore\n');
  });
});

describe('diagnose', () => {
  test('gives versions, members, status and logs within what SSM keeps, and no secret', async () => {
    const { code, result, stderr } = await scripts.run(node, 'diagnose', { RestoreId: nextId() });
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    const evidence = result?.['evidence'] as Record<string, string>;
    expect(Object.keys(evidence)).toEqual(
      expect.arrayContaining(['version', 'status', 'members', 'flags', 'data', 'processes', 'images', 'etcd']),
    );
    expect(evidence['version']).toContain(cluster.etcdVersion);
    expect(evidence['members']).toContain(node.name);
    expect(JSON.stringify(result).length).toBeLessThan(24_000);
    expect(JSON.stringify(result)).not.toMatch(/PRIVATE KEY|X-Amz-Signature=[0-9a-f]/);
  });
});
