import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import { labBinary } from '../../lab/nodes/tools';
import { contentsAt, revisionOf } from '../../lab/restores';
import { type Packed, RestoreScripts } from './restore-scripts';

// What went wrong for users of other tools, on one real node that goes from etcd 3.5 over 3.6 to 3.7.

const BUMP = 1_000_000_000;
const DATA_DIR = '/var/lib/etcd';
const RESTORE_DIR = '/var/lib/etcd-backup/restore';
const OTHER_POD = '/etc/kubernetes/manifests/kube-vip.yaml';

// As they stand in /etc/environment or in a drop-in of the agent's unit, of a node on which somebody has worked with etcd by hand.
const INHERITED = {
  ETCDCTL_API: '2',
  ETCDCTL_CACERT: '/nonexistent/ca.crt',
  ETCDCTL_ENDPOINTS: 'https://10.90.0.99:2379',
  ETCDCTL_WRITE_OUT: 'fields',
  ETCDUTL_WRITE_OUT: 'fields',
  ETCD_DATA_DIR: '/var/lib/other-etcd',
  ETCD_INITIAL_CLUSTER: 'other=https://10.90.0.99:2380',
  ETCD_INITIAL_CLUSTER_TOKEN: 'other',
  ETCD_LISTEN_METRICS_URLS: 'http://127.0.0.1:2379',
  ETCD_NAME: 'other',
  ETCD_PID: '1',
  ETCD_VERSION: '3.4.0',
  ETCD_WAL_DIR: '/var/lib/other-wal',
};

let cluster: ControlPlane;
let node: LabNode;
let scripts: RestoreScripts;
/** An older snapshot, and the one to restore. */
let stale: Packed;
let packed: Packed;
let contents: string;
let number = 0;

/** A restore id that no other test uses. */
function nextId(): string {
  number += 1;
  return `20261122T${String(100000 + number)}Z`;
}

/** A static pod beside the four: a virtual address for the API servers, by the words of its manifest one of the control plane. */
async function startOtherPod(): Promise<void> {
  const image = join(cluster.dir, 'images', 'kube-vip:v1', 'usr/local/bin/kube-vip');
  mkdirSync(dirname(image), { recursive: true });
  copyFileSync(labBinary(), image);
  // The lab's program does what its first argument says: this one waits until it is ended.
  writeFileSync(
    node.path(OTHER_POD),
    `apiVersion: v1
kind: Pod
metadata:
  labels:
    component: kube-vip
    tier: control-plane
  name: kube-vip
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-vip
    - kube-scheduler
    - --kubeconfig=/etc/kubernetes/admin.conf
    image: kube-vip:v1
    name: kube-vip
    volumeMounts:
    - mountPath: /etc/kubernetes/admin.conf
      name: kubeconfig
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/kubernetes/admin.conf
      type: FileOrCreate
    name: kubeconfig
`,
  );
  await otherPod();
}

/** The pid of the other pod's process, once it runs. */
async function otherPod(): Promise<string> {
  for (let tries = 0; tries < 300; tries += 1) {
    const { stdout } = await node.exec(['pgrep', '-x', 'kube-vip']);
    if (stdout !== '') return stdout.trim();
    await sleep(100);
  }
  throw new Error('no process kube-vip after 30 s, expected the kubelet to run its pod');
}

/** Every file of /etc/kubernetes: mode, owner, inode, time and SHA-256. What was renamed and renamed back is the same file. */
const manifests = (): Promise<string> =>
  node.must([
    'bash',
    '-c',
    'cd /etc/kubernetes && find . -type d | sort && find . -type f -printf "%p %M %U:%G %i %T@\\n" | sort && find . -type f -exec sha256sum {} + | sort',
  ]);

async function clusterId(): Promise<string> {
  return String(/"cluster_id":(\d+)/.exec(await node.etcdctl(['endpoint', 'status', '-w', 'json']))?.[1]);
}

/** Hash, revision and number of keys of what a preflight has staged. */
async function stage(id: string): Promise<unknown> {
  const [said] = await scripts.prepare(id, packed);
  return said?.result?.['staged'];
}

async function takeSnapshot(): Promise<void> {
  packed = await scripts.snapshot();
  contents = await contentsAt(node, packed.revision);
}

beforeAll(async () => {
  cluster = await startControlPlane({ name: 'notes', members: 1, etcd: '3.5', apiServer: true });
  node = cluster.nodes[0] as LabNode;
  scripts = new RestoreScripts(cluster);
  await scripts.start();
  await startOtherPod();
  stale = await scripts.snapshot();
  await loadData(cluster, { sizeBytes: 1_000_000 });
  await takeSnapshot();
});

afterAll(async () => {
  scripts.stop();
  await cluster.down();
});

describe('what lies about on a node', () => {
  const [id, other] = [nextId(), nextId()];
  let staged: unknown;

  beforeAll(async () => {
    staged = await stage(id);
  });

  afterAll(async () => {
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
  });

  test('ETCD_* and ETCDCTL_* of the environment change nothing of what is staged', async () => {
    scripts.environment = INHERITED;
    try {
      expect(await stage(id)).toEqual(staged);
    } finally {
      scripts.environment = {};
    }
  });

  test('what an earlier run has left is not restored, whether it was this restore or another, before the key is made or after it', async () => {
    const plant = (): void => {
      for (const each of [id, other]) {
        const files = {
          [`${DATA_DIR}/.restore-${each}/member/snap/db`]: stale.bytes,
          [`${RESTORE_DIR}/${each}/snapshot.packed`]: gzipSync(stale.bytes),
          [`${RESTORE_DIR}/${each}/snapshot.packed.part`]: gzipSync(stale.bytes),
          [`${RESTORE_DIR}/${each}/snapshot.db`]: stale.bytes,
          [`${RESTORE_DIR}/${each}/tools/etcdutl`]: '#!/bin/true\n',
        };
        for (const [file, bytes] of Object.entries(files)) {
          mkdirSync(dirname(node.path(file)), { recursive: true });
          writeFileSync(node.path(file), bytes);
        }
      }
    };
    plant();
    const parameters = await scripts.stageParameters(node, { restoreId: id, packed });
    plant();
    const said = await scripts.run(node, 'preflight', parameters);
    expect([said.code, said.result]).toEqual([0, expect.objectContaining({ staged })]);
    expect(readdirSync(node.path(DATA_DIR)).sort()).toEqual([`.restore-${id}`, 'member']);
    expect(readdirSync(node.path(RESTORE_DIR))).toEqual(['journal']);
  });
});

describe('a node that restarts', () => {
  test('between stop and start: nothing starts by itself, and after the rollback the old state is exactly there again', async () => {
    const id = nextId();
    const before = { manifests: await manifests(), clusterId: await clusterId() };
    await scripts.prepare(id, packed);
    for (const script of ['stop', 'swap'] as const) await scripts.must(script, { RestoreId: id });
    await node.reboot();
    // The kubelet has read its folder by then.
    await otherPod();
    expect([node.etcdPid(), ...node.pidsOf('kube-apiserver')]).toEqual([undefined]);
    await scripts.must('rollback', { RestoreId: id, Served: 'no' });
    await scripts.must('check', { RestoreId: id, Component: 'before', WaitSeconds: '60', Revision: '0' });
    await scripts.must('cleanup', { RestoreId: id, Outcome: 'failed' });
    expect({ manifests: await manifests(), clusterId: await clusterId() }).toEqual(before);
    expect(await contentsAt(node, packed.revision)).toBe(contents);
    expect(readdirSync(node.path(DATA_DIR))).toEqual(['member']);
    expect(readdirSync(node.path(RESTORE_DIR))).not.toContain('journal');
  });
});

describe('a snapshot of etcd 3.5 on a node that has 3.6', () => {
  let before: { readonly pid: string; readonly manifests: string };

  beforeAll(async () => {
    await cluster.upgradeEtcd('3.6');
    await cluster.waitApiReady();
    before = { pid: await otherPod(), manifests: await manifests() };
    await scripts.restore(nextId(), packed);
  });

  test('is restored: 3.6 serves every key of it', async () => {
    expect(await node.etcdctl(['endpoint', 'status', '-w', 'json'])).toMatch(/"version":"3\.6\./);
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
  });

  test('another static pod has run on all the time, and no manifest is another than before', async () => {
    expect(await otherPod()).toBe(before.pid);
    expect(await manifests()).toBe(before.manifests);
  });

  test('is still there after the node was restarted, with all that was written since', async () => {
    const [id, revision] = [await clusterId(), await revisionOf(node)];
    await node.reboot();
    await cluster.waitApiReady();
    expect(await clusterId()).toBe(id);
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
    expect(await revisionOf(node)).toBeGreaterThanOrEqual(revision);
    expect(readdirSync(node.path(RESTORE_DIR))).not.toContain('journal');
  });
});

describe('a snapshot of etcd 3.6 on a node that has 3.7', () => {
  // As an API server announces itself to clients of the Service kubernetes; the node of this one is gone.
  const lease = '/registry/masterleases/10.90.0.99';

  beforeAll(async () => {
    const id = String(/lease (\w+) granted/.exec(await node.etcdctl(['lease', 'grant', '10']))?.[1]);
    await node.etcdctl(['put', `--lease=${id}`, lease, '']);
    await takeSnapshot();
    await cluster.upgradeEtcd('3.7');
    await cluster.waitApiReady();
    await scripts.restore(nextId(), packed);
  });

  test('is restored: 3.7 serves every key of it', async () => {
    expect(await node.etcdctl(['endpoint', 'status', '-w', 'json'])).toMatch(/"version":"3\.7\./);
    expect(await contentsAt(node, packed.revision + BUMP)).toBe(contents);
  });

  test('came back with the address of an API server that is gone, and was not done before that had ended', async () => {
    const restored = await node.etcdctl(['get', lease, '--keys-only', `--rev=${String(packed.revision + BUMP)}`]);
    expect(restored.trim()).toBe(lease);
    expect(await node.etcdctl(['get', lease])).toBe('');
  });
});
