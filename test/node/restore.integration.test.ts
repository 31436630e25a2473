import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import { contentsAt, revisionOf } from '../../lab/restores';
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
      peers: expect.arrayContaining([
        { url: 'https://10.90.0.99:2380', answers: false },
        { url: node.peerUrl, answers: true },
      ]) as unknown,
      journal: null,
      problems: [],
    });
    expect(fingerprint(...directories)).toBe(before);
    expect(existsSync(`/proc/${String(node.pid)}/root/run/etcd-backup`)).toBe(false);
  });
});

describe('the whole way', () => {
  test('a restore ends with the data of the snapshot at the raised revision, the old data kept, and a second one as well', async () => {
    const [first, second] = [nextId(), nextId()];
    await node.etcdctl(['put', 'later', 'than the snapshot']);
    await scripts.restore(first, packed);
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
    expect(await node.etcdctl(['get', 'later'])).toBe('');
    expect(readdirSync(node.path('/var/lib/etcd')).sort()).toEqual(['member', `member.before-${first}`]);
    await scripts.restore(second, packed);
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

  test('stop: rolled back, the old state is exactly there again', async () => {
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      const end = await runKilled('stop', { RestoreId: id }, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(10);
  });

  test('swap, and again after it: rolled back, the old state is exactly there again', async () => {
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      await scripts.must('stop', { RestoreId: id });
      const end = await runKilled('swap', { RestoreId: id }, killAt);
      // Half of them are done once more before the undo, as after a lost answer.
      if (killAt % 2 === 0) await scripts.must('swap', { RestoreId: id });
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
    expect((await routingRules()).match(/ipproto tcp dport 2380 unreachable/g)).toHaveLength(2);
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

  test('rollback: done again, the old state is exactly there again', async () => {
    const changes = await sweep(async (killAt) => {
      const id = nextId();
      const before = await prepare(id);
      for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
      await scripts.must('start', { RestoreId: id, Component: 'etcd' });
      const end = await runKilled('rollback', { RestoreId: id, Served: 'no' }, killAt);
      await scripts.must('rollback', { RestoreId: id, Served: 'no' });
      await expectOldState(before, id);
      return end;
    });
    expect(changes).toBeGreaterThan(15);
  });
});

describe('refusals', () => {
  test.each([
    ['other bytes', { Sha256: 'a'.repeat(64) }, 84, /snapshot-bytes/],
    ['another length', { CompressedBytes: '5' }, 84, /snapshot-bytes/],
    ['no room', { DiskLimitPercent: '1' }, 50, /disk/],
    ['a tool that nobody pinned', { ToolPins: `3.6.0/amd64/etcdutl=${'b'.repeat(64)}` }, 52, /tool-changed/],
    ['a cluster that this member is not of', { InitialCluster: 'other=https://10.90.0.99:2380' }, 85, /restore-failed/],
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
    await scripts.must('check', { RestoreId: id, Component: 'cluster', WaitSeconds: '60', Revision: '0' });
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

  test('a kubelet that was stopped before, with all running on, is as before after a rollback, and so is all', async () => {
    const id = nextId();
    await node.stopKubelet();
    const before = await prepare(id);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    expect(node.pidsOf('kubelet')).toEqual([]);
    await expectOldState(before, id);
    await node.startKubelet();
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
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'restored' });
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
