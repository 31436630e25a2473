import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  attachControlPlane,
  removeControlPlane,
  startControlPlane,
  type ControlPlane,
} from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import { KUBERNETES_VERSION } from '../../lab/nodes/manifests';
import { run } from '../../lab/nodes/run';
import { ETCD_MINORS, etcdVersion } from '../../lab/nodes/tools';
import { openWatch } from '../../lab/nodes/watch';

const ROOT = join(__dirname, '..', '..');

// A process belongs to a lab when a mount in its namespace lies in the lab's directory, or when its command names it.
const belongsTo = (pid: string, name: string): boolean => {
  try {
    return (
      readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(`/.lab/${name}/`) ||
      new RegExp(`/\\.lab/${name}/|/netns/${name}-`).test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    );
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) return false; // it has just ended
    throw error;
  }
};

/** What a lab could leave on the host. */
const hostState = async (
  name: string,
): Promise<Record<'namespaces' | 'mounts' | 'processes', readonly string[]> & Record<string, unknown>> => ({
  namespaces: (await run('ip', ['netns', 'list'])).split('\n').filter((line) => line.startsWith(`${name}-`)),
  mounts: readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/.lab/${name}/`) || line.includes(`/netns/${name}-`)),
  processes: readdirSync('/proc').filter((entry) => /^\d+$/.test(entry) && belongsTo(entry, name)),
  addresses: await run('ip', ['-oneline', 'address', 'show']),
  directory: existsSync(join(ROOT, '.lab', name)),
  kubernetes: existsSync('/etc/kubernetes'),
  dataDir: existsSync('/var/lib/etcd'),
  staging: existsSync('/var/lib/etcd-backup'),
});

const until = async (what: string, condition: () => boolean | Promise<boolean>, seconds = 30): Promise<void> => {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${String(seconds)} s for ${what}`);
    await sleep(100);
  }
};

const reads = async (node: LabNode): Promise<boolean> =>
  (
    await node.exec([`${node.imageBin}/etcdctl`, '--command-timeout=2s', 'get', '/any'], {
      env: node.etcdctlEnvironment,
    })
  ).code === 0;

const pidOf = (node: LabNode): number => {
  const pid = node.etcdPid();
  if (pid === undefined) throw new Error(`no etcd on ${node.name}, expected one`);
  return pid;
};

describe.each(ETCD_MINORS)('a control plane with etcd %s', (minor) => {
  test('comes up with three members and leaves nothing behind', async () => {
    const name = 'nodes-minor';
    const before = await hostState(name);
    const controlPlane = await startControlPlane({ name, etcd: minor });
    try {
      expect(controlPlane.etcdVersion).toBe(etcdVersion(minor));
      const members = (await controlPlane.node('cp2').etcdctl(['member', 'list'])).trim().split('\n');
      expect(members.map((line) => line.split(', ').slice(1, 3).concat(line.split(', ').slice(5))).sort()).toEqual(
        ['cp1', 'cp2', 'cp3'].map((node) => ['started', node, 'false']),
      );
      for (const node of controlPlane.nodes) {
        expect((await node.must(['ls', node.imageBin])).trim().split('\n')).toEqual(
          minor === '3.5' ? ['etcd', 'etcdctl'] : ['etcd', 'etcdctl', 'etcdutl'],
        );
        const running = await node.must(['cat', `/proc/${String(pidOf(node))}/cmdline`]);
        const manifest = readFileSync(node.path('/etc/kubernetes/manifests/etcd.yaml'), 'utf8');
        for (const flag of running.split('\0').slice(1, -1)) expect(manifest).toContain(`    - ${flag}\n`);
      }
      const during = await hostState(name);
      expect(during.addresses).toBe(before.addresses);
      expect(during.mounts).toHaveLength(4); // the named network namespaces, and nothing of the nodes
      expect(during.namespaces).toHaveLength(4);
      // Of each node: its holder, its init, a kubelet and etcd.
      expect(during.processes.length).toBeGreaterThanOrEqual(12);
      expect(during.kubernetes).toBe(before.kubernetes);
    } finally {
      await controlPlane.down();
    }
    expect(await hostState(name)).toEqual(before);
  });
});

describe('a control plane', () => {
  let controlPlane: ControlPlane;
  let cp1: LabNode;
  let cp2: LabNode;
  let cp3: LabNode;

  beforeAll(async () => {
    controlPlane = await startControlPlane({ name: 'nodes', etcd: '3.6', stagingBytes: 32 * 1024 * 1024 });
    cp1 = controlPlane.node('cp1');
    cp2 = controlPlane.node('cp2');
    cp3 = controlPlane.node('cp3');
  });

  afterAll(async () => {
    await removeControlPlane(join(ROOT, '.lab', 'nodes'));
  });

  test('gives each node a root, a host name and a process tree of its own', async () => {
    const mark = `/tmp/${randomBytes(8).toString('hex')}`;
    await cp1.must(['touch', mark]);
    expect(existsSync(mark)).toBe(false);
    expect(existsSync(cp1.path(mark))).toBe(true);
    expect((await cp2.exec(['test', '-e', mark])).code).toBe(1);
    expect((await cp1.exec(['test', '-e', __filename])).code).toBe(1);
    expect(await cp3.must(['hostname'])).toBe('cp3\n');
    expect(await cp1.must(['cat', '/proc/1/comm'])).toBe('lab\n');
    expect((await cp1.must(['ip', '-4', '-oneline', 'address', 'show', 'dev', 'eth0'])).includes(`${cp1.ip}/24`)).toBe(
      true,
    );
    const write = await cp1.exec(['touch', '/usr/touched']);
    expect(write.stderr).toContain('Read-only file system');
  });

  test('shows the kubelet, and etcd in a root of its own without a shell', async () => {
    const kubelet = (
      await cp1.must([
        'bash',
        '-c',
        'for c in /proc/[0-9]*/comm; do [[ $(<$c) != kubelet ]] || tr "\\0" " " <${c%comm}cmdline; done',
      ])
    ).trim();
    expect(kubelet).toContain('--config=/var/lib/kubelet/config.yaml');
    const root = `/proc/${String(pidOf(cp1))}/root`;
    expect((await cp1.must(['ls', `${root}/usr/local/bin`])).trim().split('\n')).toEqual([
      'etcd',
      'etcdctl',
      'etcdutl',
    ]);
    expect((await cp1.exec(['test', '-e', `${root}/bin/sh`])).code).toBe(1);
    expect(await cp1.must(['readlink', `/proc/${String(pidOf(cp1))}/ns/net`])).toBe(
      await cp1.must(['readlink', '/proc/self/ns/net']),
    );
    expect(await cp1.must(['readlink', `/proc/${String(pidOf(cp1))}/ns/mnt`])).not.toBe(
      await cp1.must(['readlink', '/proc/self/ns/mnt']),
    );
  });

  test('runs no pod that is marked never to run', async () => {
    expect(readFileSync(cp1.path('/etc/kubernetes/manifests/kube-apiserver.yaml'), 'utf8')).toContain(
      'kube-apiserver:v1.33.1',
    );
    expect(readFileSync(cp1.path('/var/log/kubelet.log'), 'utf8')).not.toContain('kube-apiserver');
    expect((await cp1.exec(['pgrep', '-x', 'kube-apiserver'])).code).toBe(1);
  });

  test('gives a command a clean environment, its input, and its own way to end', async () => {
    process.env.STRAY_OF_THE_HOST = 'x';
    expect((await cp1.must(['env'], { env: { MINE: '1' } })).trim().split('\n').sort()).toEqual([
      'HOME=/root',
      'LANG=C',
      'MINE=1',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ]);
    expect(await cp1.exec(['bash', '-c', 'cat; echo bad >&2; exit 7'], { input: 'in' })).toMatchObject({
      code: 7,
      stdout: 'in',
      stderr: 'bad\n',
      timedOut: false,
    });
    expect(await cp1.exec(['bash', '-c', 'kill -TERM $$'])).toMatchObject({ code: null, signal: 'SIGTERM' });
  });

  test('kills a command with all that it started when its time is over', async () => {
    const result = await cp1.exec(['bash', '-c', 'trap "" TERM; sleep 4711 & sleep 4711 | cat'], { timeoutMs: 500 });
    expect(result).toMatchObject({ timedOut: true, signal: 'SIGKILL' });
    await until('sleep to be gone', async () => (await cp1.exec(['pgrep', '-f', 'sleep 4711'])).code === 1, 5);
  });

  test('restarts an etcd that was killed', async () => {
    const before = pidOf(cp2);
    await cp2.must(['kill', '-KILL', String(before)]);
    await until('another etcd', () => ![undefined, before].includes(cp2.etcdPid()));
    await controlPlane.waitHealthy([cp2]);
  });

  test('stops etcd when its manifest goes and starts it when it comes back', async () => {
    await cp2.stopEtcd();
    expect(cp2.etcdPid()).toBeUndefined();
    expect(readFileSync(cp2.path('/var/log/pods/etcd.log'), 'utf8')).toContain('received signal; shutting down');
    expect(await reads(cp1)).toBe(true);
    await cp2.startEtcd();
    await controlPlane.waitHealthy([cp2]);
  });

  test('leaves a pod alone whose manifest goes while the kubelet ignores that', async () => {
    const before = pidOf(cp2);
    writeFileSync(cp2.path('/opt/lab/run/ignore-removed-manifests'), '');
    await cp2.must(['mv', '/etc/kubernetes/manifests/etcd.yaml', '/etc/kubernetes/etcd.yaml.away']);
    await sleep(1500);
    expect(cp2.etcdPid()).toBe(before);
    await rm(cp2.path('/opt/lab/run/ignore-removed-manifests'));
    await until('etcd to stop', () => cp2.etcdPid() === undefined);
    await cp2.must(['mv', '/etc/kubernetes/etcd.yaml.away', '/etc/kubernetes/manifests/etcd.yaml']);
    await controlPlane.waitHealthy([cp2]);
  });

  test('cuts a member off from quorum when its link goes down, while it still hands out what it has', async () => {
    await cp3.linkDown();
    await until('cp3 to be without quorum', async () => !(await reads(cp3)), 20);
    expect(await reads(cp1)).toBe(true);
    expect(['cp1', 'cp2']).toContain((await controlPlane.leader()).name);
    await cp1.etcdctl(['put', '/written/while/cut', 'off']);
    // The trap that a backup must not fall into: this ends with 0, and the snapshot is stale.
    await cp3.etcdctl(['snapshot', 'save', '/tmp/stale.db']);
    await cp3.linkUp();
    await controlPlane.waitHealthy();
    expect(await cp3.etcdctl(['get', '/written/while/cut', '--print-value-only'])).toBe('off\n');
  });

  test('tells the static pod from another etcd on the node', async () => {
    const pod = pidOf(cp1);
    const other = cp1.spawn([
      `${cp1.imageBin}/etcd`,
      '--name=events',
      '--data-dir=/tmp/events.etcd',
      '--listen-client-urls=http://127.0.0.1:12379',
      '--advertise-client-urls=http://127.0.0.1:12379',
      '--listen-peer-urls=http://127.0.0.1:12380',
    ]);
    try {
      await until(
        'the other etcd',
        async () =>
          (await cp1.exec([`${cp1.imageBin}/etcdctl`, '--endpoints=http://127.0.0.1:12379', 'get', '/a'])).code === 0,
      );
      expect((await cp1.must(['pgrep', '-c', '-x', 'etcd'])).trim()).toBe('2');
      expect(cp1.etcdPid()).toBe(pod);
    } finally {
      process.kill(-(other.pid ?? 0), 'SIGKILL');
    }
  });

  test('has staging of its own size, and etcd goes on when that is full', async () => {
    expect(
      (await cp1.must(['df', '--block-size=1', '--output=size', '/var/lib/etcd-backup'])).split('\n')[1]?.trim(),
    ).toBe(String(32 * 1024 * 1024));
    const fill = await cp1.exec(['dd', 'if=/dev/zero', 'of=/var/lib/etcd-backup/full', 'bs=1M', 'count=64']);
    expect(fill.stderr).toContain('No space left on device');
    await cp1.etcdctl(['put', '/after/full', 'yes']);
    await cp1.must(['rm', '/var/lib/etcd-backup/full']);
  });

  test('loads data as an API server writes it', async () => {
    const summary = await loadData(controlPlane, { sizeBytes: 3_000_000 });
    expect(summary.dbSize).toBeGreaterThan(2_900_000);
    expect(summary.revision).toBeGreaterThan(summary.keys);
    const value = (key: string): Promise<string> => cp2.etcdctl(['get', key, '--print-value-only']);
    expect(await value('/registry/namespaces/kube-system')).toMatch(
      new RegExp(`^k8s\\0.*v1.*Namespace.*kube-system.*${summary.kubeSystemUid}`, 's'),
    );
    const secret = '/registry/secrets/team-00/server-00000-token';
    expect((await value(secret)).slice(0, 26)).toBe('k8s:enc:secretbox:v1:key1:');
    const leases = (await cp2.etcdctl(['lease', 'list'])).trim().split('\n').slice(1);
    const attached = await cp2.etcdctl(['lease', 'timetolive', leases[0] ?? '', '--keys']);
    expect(attached).toMatch(/\/registry\/(events|masterleases)\//);
    expect(await cp2.etcdctl(['get', '/registry/masterleases/', '--prefix', '--keys-only'])).toContain(
      `/registry/masterleases/${cp3.ip}`,
    );

    const again = await loadData(controlPlane, { sizeBytes: 12_000_000, plainSecrets: true });
    expect(again.kubeSystemUid).toBe(summary.kubeSystemUid);
    // Which secrets the second load reaches before the size is reached is a matter of timing; in 8 MB more there are hundreds.
    const secrets = await cp2.etcdctl(['get', '/registry/secrets/', '--prefix', '--print-value-only']);
    expect(secrets).toMatch(/k8s\0.{0,20}v1.{0,10}Secret/s);
  });

  describe('with a server on the host', () => {
    let server: Server;
    let port: number;
    let received: number;

    beforeAll(async () => {
      server = createServer((request, response) => {
        received = 0;
        request.on('data', (chunk: Buffer) => (received += chunk.length));
        request.on('end', () => response.end(`got ${String(received)}`));
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      port = (server.address() as AddressInfo).port;
    });

    afterAll(() => {
      server.closeAllConnections();
      server.close();
    });

    const COULD_NOT_CONNECT = 7; // curl's exit code
    const fetch = (node: LabNode, ...args: string[]) =>
      node.exec(['curl', '-q', '-sS', '--max-time', '60', ...args, `http://127.0.0.1:${String(port)}/`]);

    test('reaches it only while its port is forwarded', async () => {
      expect((await fetch(cp1)).code).toBe(COULD_NOT_CONNECT);
      await cp1.forward(port);
      expect((await fetch(cp1)).stdout).toBe('got 0');
      expect((await fetch(cp2)).code).toBe(COULD_NOT_CONNECT);
      await cp1.must(['bash', '-c', 'head -c 200000000 /dev/zero >/tmp/big']);
      expect((await fetch(cp1, '-T', '/tmp/big')).stdout).toBe('got 200000000');

      const upload = fetch(cp1, '-T', '/tmp/big', '--limit-rate', '10M');
      await sleep(1000);
      await cp1.unforward(port);
      expect((await upload).code).toBeGreaterThan(0);
      expect((await fetch(cp1)).code).toBe(COULD_NOT_CONNECT);
    });
  });

  test('can be attached to by another process', async () => {
    const attached = await attachControlPlane(join(ROOT, '.lab', 'nodes'));
    expect(attached.nodes.map((node) => node.instanceId)).toEqual(controlPlane.nodes.map((node) => node.instanceId));
    expect(await attached.node('cp2').must(['hostname'])).toBe('cp2\n');
    expect(() => attached.node('cp9')).toThrow("no node 'cp9', expected one of cp1, cp2, cp3");
  });

  test('fails to come up twice', async () => {
    await expect(startControlPlane({ name: 'nodes' })).rejects.toThrow("a control plane 'nodes' is up in");
    await expect(startControlPlane({ name: 'nodes', dir: join(ROOT, '.lab', 'elsewhere') })).rejects.toThrow(
      /network namespace nodes-\w+ is in use by processes/,
    );
    await expect(startControlPlane({ name: 'nodes', members: 6 })).rejects.toThrow('members is 6, expected 1 to 5');
  });

  // Last, because the first member is not the cluster's any more.
  test('has, in a wiped first node, an empty cluster with the old ids', async () => {
    const status = async (): Promise<readonly (string | undefined)[]> => {
      const text = await cp1.etcdctl(['endpoint', 'status', '-w', 'json']);
      return [/"cluster_id":(\d+)/.exec(text)?.[1], /"member_id":(\d+)/.exec(text)?.[1]];
    };
    const before = await status();
    expect(before.every((id) => id !== undefined)).toBe(true);
    await cp1.linkDown();
    await cp1.wipe();
    await controlPlane.waitHealthy([cp1]);
    expect(await status()).toEqual(before);
    expect((await cp1.etcdctl(['member', 'list'])).trim().split('\n')).toHaveLength(1);
    expect(await cp1.etcdctl(['get', '/registry/', '--prefix', '--count-only', '-w', 'fields'])).toContain(
      '"Count" : 0',
    );
  });
});

describe('a control plane with API servers and a WAL volume', () => {
  const COMPONENTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;
  const PKI = '/etc/kubernetes/pki';
  let controlPlane: ControlPlane;
  let node: LabNode;

  beforeAll(async () => {
    controlPlane = await startControlPlane({ name: 'nodes-api', members: 1, apiServer: true, walDir: true });
    node = controlPlane.node('cp1');
  });

  afterAll(async () => {
    await removeControlPlane(join(ROOT, '.lab', 'nodes-api'));
  });

  const pids = (): readonly (readonly number[])[] => COMPONENTS.map((component) => node.pidsOf(component));

  const writesAgain = async (): Promise<void> => {
    await controlPlane.waitHealthy();
    await controlPlane.waitApiReady();
    const before = node.apiWrites().length;
    await until('another write', () => node.apiWrites().length > before);
  };

  test('runs each component as one process of its name', async () => {
    expect(pids().map((each) => each.length)).toEqual([1, 1, 1, 1]);
    expect(await node.must(['cat', `/proc/${String(node.pidsOf('kube-controller-manager')[0])}/comm`])).toBe(
      'kube-controller\n',
    );
    expect(await node.must(['kubelet', '--version'])).toBe(`Kubernetes ${KUBERNETES_VERSION}\n`);
  });

  test('answers only who has a certificate of the cluster CA, on the address of the node only', async () => {
    const client = ['--cert', `${PKI}/apiserver-kubelet-client.crt`, '--key', `${PKI}/apiserver-kubelet-client.key`];
    const other = ['--cert', `${PKI}/etcd/healthcheck-client.crt`, '--key', `${PKI}/etcd/healthcheck-client.key`];
    const ask = (...args: readonly string[]) =>
      node.exec(['curl', '-q', '-sS', '-w', ' %{http_code}', '--cacert', `${PKI}/ca.crt`, ...args]);
    expect((await ask(...client, `${node.apiUrl}/version`)).stdout).toContain(`"gitVersion": "${KUBERNETES_VERSION}"`);
    expect((await ask(...client, `${node.apiUrl}/readyz`)).stdout).toBe('ok 200');
    expect((await ask(`${node.apiUrl}/readyz`)).stdout).toMatch(/Unauthorized.* 401$/);
    expect((await ask(...other, `${node.apiUrl}/readyz`)).stdout).toMatch(/ 401$/);
    expect((await ask(...client, 'https://127.0.0.1:6443/readyz')).stderr).toContain("'127.0.0.1'");
  });

  test('writes all the time, and says each revision in order', async () => {
    const before = node.apiWrites().length;
    await until('ten more writes', () => node.apiWrites().length >= before + 10);
    const writes = node.apiWrites();
    expect(writes.map(({ revision }) => revision)).toEqual(
      [...writes.map(({ revision }) => revision)].sort((left, right) => left - right),
    );
    expect(await node.etcdctl(['get', '/registry/lab/heartbeat/cp1', '--print-value-only'])).toMatch(/"counter":\d+/);
    expect(Date.now() - (writes.at(-1)?.time ?? 0)).toBeLessThan(10_000);
  });

  test('keeps the WAL on its volume', async () => {
    expect(await node.must(['ls', '/var/lib/etcd/member'])).toBe('snap\n');
    expect(await node.must(['ls', '/var/lib/etcd-wal/wal'])).toContain('.wal\n');
  });

  test('leaves containers running when the kubelet stops or dies, and takes them over', async () => {
    const before = pids();
    await node.stopKubelet();
    expect(await node.exec(['systemctl', 'is-active', 'kubelet'])).toMatchObject({ code: 3, stdout: 'inactive\n' });
    expect(node.pidsOf('kubelet')).toEqual([]);
    await sleep(1500); // a supervisor that did not know of the stop would have started another
    expect(node.pidsOf('kubelet')).toEqual([]);
    expect(pids()).toEqual(before);
    await node.startKubelet();
    expect(await node.exec(['systemctl', 'is-active', 'kubelet'])).toMatchObject({ code: 0, stdout: 'active\n' });
    const [kubelet] = node.pidsOf('kubelet');
    await node.must(['kill', '-KILL', String(kubelet)]);
    await until('another kubelet', () => ![undefined, kubelet].includes(node.pidsOf('kubelet')[0]));
    await sleep(1000); // two rounds of the kubelet
    expect(pids()).toEqual(before);
    await node.must(['kill', '-KILL', String(before[0]?.[0])]);
    await until('another etcd', () => ![undefined, before[0]?.[0]].includes(node.etcdPid()));
    await writesAgain();
  });

  test('catches up on manifests that went while the kubelet was stopped, unless it ignores that', async () => {
    const [before] = node.pidsOf('kube-scheduler');
    const manifest = '/etc/kubernetes/manifests/kube-scheduler.yaml';
    await node.ignoreRemovedManifests(true);
    await node.stopKubelet();
    await node.must(['mv', manifest, '/etc/kubernetes/aside.yaml']);
    await node.startKubelet();
    await sleep(1500);
    expect(node.pidsOf('kube-scheduler')).toEqual([before]);
    await node.ignoreRemovedManifests(false);
    await until('the scheduler to stop', () => node.pidsOf('kube-scheduler').length === 0);
    await node.must(['mv', '/etc/kubernetes/aside.yaml', manifest]);
    await until('the scheduler to start', () => node.pidsOf('kube-scheduler').length === 1);
    expect(node.pidsOf('kube-scheduler')).not.toEqual([before]);
  });

  test('shows pods, containers, images and logs as crictl does', async () => {
    const crictl = async (...args: readonly string[]) => (await node.must(['crictl', ...args])).trim();
    const id = await crictl('pods', '-q', '--namespace', 'kube-system', '--name', '^kube-scheduler-');
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    const container = await crictl('ps', '-q', '--pod', id);
    expect(JSON.parse(await crictl('inspect', container))).toMatchObject({
      status: { metadata: { name: 'kube-scheduler' }, state: 'CONTAINER_RUNNING' },
      info: { sandboxID: id, pid: node.pidsOf('kube-scheduler')[0] },
    });
    expect(await crictl('logs', '--tail', '1', container)).toBe('started with /etc/kubernetes/scheduler.conf');
    expect(
      await node.must(['bash', '-c', 'cat /var/log/pods/kube-system_kube-scheduler-cp1_*/kube-scheduler/0.log']),
    ).toContain('started with');
    expect(await node.must(['journalctl', '--unit', 'kubelet', '--lines', '200', '--no-pager'])).toContain(
      'starting pod kube-scheduler',
    );
    expect(await crictl('inspecti', '-q', node.image)).toMatch(/^sha256:/);
    expect(await node.exec(['crictl', 'inspecti', `${node.image}9`])).toMatchObject({ code: 1 });
    expect(await crictl('images')).toContain(`registry.k8s.io/kube-apiserver:${KUBERNETES_VERSION}`);

    await node.stopKubelet();
    await crictl('stopp', id);
    expect(node.pidsOf('kube-scheduler')).toEqual([]);
    expect(await crictl('pods', '-q', '--state', 'NotReady')).toBe(id);
    expect(await crictl('ps', '-a', '--state', 'Exited', '-q')).toBe(container);
    await node.startKubelet();
    await until('the scheduler to start', () => node.pidsOf('kube-scheduler').length === 1);
    expect(await crictl('pods', '-q', '--state', 'NotReady')).toBe('');
  });

  test('fails for what its systemctl, journalctl and crictl do not know', async () => {
    expect((await node.exec(['systemctl', 'daemon-reload'])).code).toBe(1);
    expect((await node.exec(['systemctl', 'mask', 'kubelet'])).stderr).toContain('unknown command verb mask');
    expect(await node.exec(['systemctl', 'start', 'etcd'])).toMatchObject({ code: 5 });
    expect(await node.exec(['systemctl', 'is-enabled', 'etcd'])).toMatchObject({ code: 1, stdout: '' });
    expect((await node.exec(['journalctl', '--unit', 'etcd'])).code).toBe(1);
    expect((await node.exec(['crictl', 'runp', 'x.json'])).stderr).toContain('no command "runp"');
  });

  test('cuts a watch from before with ErrCompacted when a snapshot was restored with a higher revision', async () => {
    await node.etcdctl(['snapshot', 'save', '/tmp/snapshot.db']);
    const watch = await openWatch(node);
    try {
      await until('an event', () => watch.events.some(({ type }) => type === 'put'));
      await node.stopKubelet();
      await node.must(['bash', '-c', 'crictl stopp $(crictl pods -q --name "^(etcd|kube-apiserver)-")']);
      const stoppedAt = Date.now();
      const seen = Math.max(...node.apiWrites().map(({ revision }) => revision));
      await node.must(['bash', '-c', 'rm -r /var/lib/etcd/member /var/lib/etcd-wal/wal']);
      // prettier-ignore
      await node.must([
        `${node.imageBin}/etcdutl`, 'snapshot', 'restore', '/tmp/snapshot.db', '--name=cp1', `--initial-cluster=cp1=${node.peerUrl}`,
        `--initial-advertise-peer-urls=${node.peerUrl}`, '--initial-cluster-token=again', '--bump-revision=1000000000', '--mark-compacted',
        '--data-dir=/var/lib/etcd/new', '--wal-dir=/var/lib/etcd-wal/wal',
      ]);
      await node.must(['mv', '/var/lib/etcd/new/member', '/var/lib/etcd/member']);
      const startedAt = Date.now();
      await node.startKubelet();
      const compactRevision = await watch.compacted;
      expect(compactRevision).toBeGreaterThan(1_000_000_000);
      // One write may have been confirmed to nobody.
      expect(watch.events.filter(({ revision }) => revision > seen + 1)).toEqual([]);
      await writesAgain();
      const writes = node.apiWrites();
      expect(writes.filter(({ time }) => time > stoppedAt && time < startedAt)).toEqual([]);
      expect(writes.at(-1)?.revision).toBeGreaterThan(compactRevision);
    } finally {
      watch.close();
    }
  });

  // Last, because nothing is left after it.
  test('loses its data under running processes, as by a slip of a hand', async () => {
    const etcd = node.etcdPid();
    await node.wipeData();
    expect(node.etcdPid()).toBe(etcd);
    expect(readdirSync(node.path('/var/lib/etcd'))).toEqual([]);
    expect(readdirSync(node.path('/var/lib/etcd-wal'))).toEqual([]);
    await node.must(['kill', '-KILL', ...COMPONENTS.slice(0, 2).flatMap((each) => node.pidsOf(each).map(String))]);
    // It bootstraps anew by its manifest: empty, but for what the API server writes.
    await writesAgain();
    expect(node.apiWrites().at(-1)?.revision).toBeLessThan(1000);
  });
});

test('a control plane with IPv6 and host names in its URLs comes up', async () => {
  const controlPlane = await startControlPlane({ name: 'nodes-six', ipFamily: 6, hostNames: true, apiServer: true });
  try {
    for (const node of controlPlane.nodes) expect(await node.apiReady()).toBe(true);
    const members = await controlPlane.node('cp3').etcdctl(['member', 'list']);
    for (const node of controlPlane.nodes) expect(members).toContain(`https://${node.privateDnsName}:2379`);
    await controlPlane.node('cp2').linkDown();
    await controlPlane.node('cp2').linkUp();
    await controlPlane.waitHealthy();
    expect(await controlPlane.node('cp2').must(['ip', '-6', '-oneline', 'address', 'show', 'dev', 'eth0'])).toContain(
      'fd00:90::12/64',
    );
  } finally {
    await controlPlane.down();
  }
});

test('a control plane dies with the process that started it, and its remains do not hinder the next one', async () => {
  const name = 'nodes-orphan';
  const before = await hostState(name);
  const script = `require('${ROOT}/lab/nodes/control-plane').startControlPlane({ name: '${name}', members: 1 }).then(() => console.log('up'))`;
  const child = spawn(
    process.execPath,
    ['--import', require.resolve('tsx'), '-e', `${script}; setInterval(() => {}, 1000)`],
    { cwd: ROOT },
  );
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the other process to say up', () => said.includes('up\n'), 60).catch((error: unknown) => {
    throw new Error(`${String(error)}; it said: ${said}`);
  });
  expect((await hostState(name)).processes.length).toBeGreaterThan(2);
  child.kill('SIGKILL');
  await until('every process to be gone', async () => (await hostState(name)).processes.length === 0);
  const next = await startControlPlane({ name, members: 1 });
  await next.down();
  expect(await hostState(name)).toEqual(before);
});
