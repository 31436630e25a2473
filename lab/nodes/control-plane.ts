import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import {
  chmod,
  copyFile,
  cp,
  constants,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, startDaemon } from './daemon';
import { IMAGE_BIN, LabNode, type NodeState } from './lab-node';
import {
  COMPONENTS,
  MANIFESTS,
  apiServerManifest,
  controllerManifest,
  encryptionConfiguration,
  kubeletConfiguration,
  kubernetesImage,
  type EtcdMember,
} from './manifests';
import { makeClusterPki, makeKubeconfigs, makeNodePki } from './pki';
import { run } from './run';
import { etcdTools, labBinary, type EtcdMinor } from './tools';

const STATE_FILE = 'control-plane.json';
const HEALTHY_TIMEOUT_MS = 60_000;
const POLL_MS = 200;
// Files of the host's /etc that no node needs and nobody wants copied.
const PRIVATE_ETC = /^(shadow|gshadow|passwd-|group-|subuid|subgid|sudoers|ssh$|ssl$|kubernetes|krb5|apt$|.*\.lock$)/;

/** What a control plane of the lab can be. */
export interface ControlPlaneOptions {
  /**
   * Name of the control plane: its network namespaces are `<name>-net` and `<name>-<node>`.
   *
   * @default 'lab'
   */
  readonly name?: string;

  /**
   * Directory that holds everything of it, made and removed by it.
   *
   * @default - `.lab/<name>` in the project
   */
  readonly dir?: string;

  /**
   * Number of nodes, 1 to 5: cp1, cp2 ...
   *
   * @default 3
   */
  readonly members?: number;

  /**
   * Minor of etcd.
   *
   * @default '3.6'
   */
  readonly etcd?: EtcdMinor;

  /**
   * Whether the image has etcdutl beside etcd and etcdctl.
   *
   * @default - as in Kubernetes' images: not with 3.5
   */
  readonly etcdutlInImage?: boolean;

  /**
   * Family of the nodes' addresses.
   *
   * @default 4
   */
  readonly ipFamily?: 4 | 6;

  /**
   * Host names instead of addresses in advertised URLs.
   *
   * @default false
   */
  readonly hostNames?: boolean;

  /**
   * Flags for etcd besides what kubeadm writes; the same flag given here wins. `--unsafe-no-fsync=true` is for the benchmark only: it makes
   * loading a gigabyte bearable and says nothing about a real etcd's speed.
   *
   * @default - none
   */
  readonly extraEtcdFlags?: readonly string[];

  /**
   * etcd's quota in bytes.
   *
   * @default - etcd's own, 2 GiB
   */
  readonly quotaBytes?: number;

  /**
   * Size in bytes of a file system of its own for /var/lib/etcd-backup on each node, in memory.
   *
   * @default - staging lies on the node's root
   */
  readonly stagingBytes?: number;

  /**
   * Whether each node runs an API server, which writes ten times a second, a controller manager and a scheduler. Otherwise there is only the
   * API server's manifest, to be read, and nothing writes by itself.
   *
   * @default false
   */
  readonly apiServer?: boolean;

  /**
   * Whether the WAL lies on a volume of its own, in /var/lib/etcd-wal/wal (`--wal-dir`).
   *
   * @default false
   */
  readonly walDir?: boolean;

  /**
   * Lives on when this process ends; otherwise it dies with it, however it ends.
   *
   * @default false
   */
  readonly persist?: boolean;
}

interface State {
  readonly name: string;
  readonly etcd: EtcdMinor;
  readonly etcdVersion: string;
  readonly bridgeNamespace: string;
  readonly nodes: readonly NodeState[];
}

const defaultDir = (name: string): string => join(__dirname, '..', '..', '.lab', name);

const requireRoot = (): void => {
  if (process.getuid?.() !== 0)
    throw new Error(
      `running as uid ${String(process.getuid?.())}, expected root: the lab's nodes are namespaces and mounts; run it with sudo`,
    );
};

/** A control plane that is up. */
export class ControlPlane {
  readonly nodes: readonly LabNode[];

  constructor(
    readonly dir: string,
    private state: State,
  ) {
    this.nodes = state.nodes.map((node) => new LabNode(node, (next) => this.saveNode(next)));
  }

  get name(): string {
    return this.state.name;
  }

  /** Version of the etcd that runs, for example 3.6.16. */
  get etcdVersion(): string {
    return this.state.etcdVersion;
  }

  /** The node of that name. Throws when there is none. */
  node(name: string): LabNode {
    const found = this.nodes.find((each) => each.name === name);
    if (found === undefined)
      throw new Error(`no node '${name}', expected one of ${this.nodes.map((each) => each.name).join(', ')}`);
    return found;
  }

  /** Waits until each of the nodes (by default all) does a linearizable read. Throws after 60 s with what they said last. */
  async waitHealthy(nodes: readonly LabNode[] = this.nodes): Promise<void> {
    const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
    for (const node of nodes) {
      for (;;) {
        const result = await node.exec(
          [`${node.imageBin}/etcdctl`, '--command-timeout=3s', 'get', '/health-of-the-lab'],
          {
            env: node.etcdctlEnvironment,
          },
        );
        if (result.code === 0) break;
        if (Date.now() > deadline) {
          const log = node.path('/var/log/pods/etcd.log');
          throw new Error(
            `${node.name} did no linearizable read in 60 s: ${result.stderr.trim().slice(-500)}; ${existsSync(log) ? readFileSync(log, 'utf8').slice(-1500) : 'etcd has no log'}`,
          );
        }
        await sleep(POLL_MS);
      }
    }
  }

  /** Waits until the API server of each of the nodes (by default all) is ready. Throws after 60 s with what it said last. */
  async waitApiReady(nodes: readonly LabNode[] = this.nodes): Promise<void> {
    const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
    for (const node of nodes)
      while (!(await node.apiReady())) {
        if (Date.now() > deadline) {
          const log = node.path('/var/log/pods/kube-apiserver.log');
          throw new Error(
            `the API server of ${node.name} was not ready in 60 s: ${existsSync(log) ? readFileSync(log, 'utf8').slice(-500) : 'it has no log'}`,
          );
        }
        await sleep(POLL_MS);
      }
  }

  /** The node whose member leads, as the first node that answers says. Throws when none knows a leader. */
  async leader(): Promise<LabNode> {
    const said: string[] = [];
    for (const node of this.nodes) {
      const result = await node.exec(
        [`${node.imageBin}/etcdctl`, '--command-timeout=3s', 'endpoint', 'status', '--cluster', '-w', 'json'],
        {
          env: node.etcdctlEnvironment,
        },
      );
      // With a member down etcdctl fails and still prints what the others say. Ids exceed what a JSON number holds: read as text.
      for (const [, url, id, leader] of result.stdout.matchAll(
        /"Endpoint":"([^"]+)".*?"member_id":(\d+).*?"leader":(\d+)/g,
      )) {
        const found = this.nodes.find((each) => each.clientUrl === url);
        if (id === leader && found !== undefined) return found;
      }
      said.push(`${node.name}: ${result.stderr.trim()}`);
    }
    throw new Error(`no member says that it leads: ${said.join('; ')}`);
  }

  /** Upgrades etcd to another minor with its image as Kubernetes has it, node by node, each on its data, until it is healthy. */
  async upgradeEtcd(minor: EtcdMinor): Promise<void> {
    const image = await makeImage(join(this.dir, 'images'), minor, minor !== '3.5');
    for (const node of this.nodes) {
      await node.changeImage(minor, image);
      await this.waitHealthy([node]);
    }
    this.state = { ...this.state, etcd: minor, etcdVersion: etcdTools(minor).version };
    await saveState(this.dir, this.state);
  }

  /** Ends every process, namespace and mount of it, and removes its directory unless its logs are asked for. */
  async down(options: { readonly keepLogs?: boolean } = {}): Promise<void> {
    for (const node of this.nodes) await node.stop();
    await removeNamespaces(this.state.name);
    if (options.keepLogs === true) {
      const logs = `${this.dir}.logs`;
      await rm(logs, { recursive: true, force: true });
      for (const node of this.nodes) await cp(node.path('/var/log'), join(logs, node.name), { recursive: true });
    }
    await rm(this.dir, { recursive: true, force: true });
  }

  private async saveNode(next: NodeState): Promise<void> {
    this.state = { ...this.state, nodes: this.state.nodes.map((node) => (node.name === next.name ? next : node)) };
    await saveState(this.dir, this.state);
  }
}

const saveState = async (dir: string, state: State): Promise<void> => {
  const file = join(dir, STATE_FILE);
  await writeFile(`${file}.next`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  await rename(`${file}.next`, file);
};

const namespacesOf = async (name: string): Promise<readonly string[]> =>
  (await run('ip', ['netns', 'list']))
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((namespace) => namespace === `${name}-net` || new RegExp(`^${name}-cp[1-5]$`).test(namespace));

const removeNamespaces = async (name: string): Promise<void> => {
  for (const namespace of await namespacesOf(name)) await run('ip', ['netns', 'delete', namespace]);
};

// Network namespaces have one list of names for the whole machine: another checkout may have a control plane of the same name.
const removeLeftNamespaces = async (name: string): Promise<void> => {
  for (const namespace of await namespacesOf(name)) {
    const pids = (await run('ip', ['netns', 'pids', namespace])).split('\n').filter((pid) => pid !== '');
    if (pids.length > 0)
      throw new Error(
        `network namespace ${namespace} is in use by processes ${pids.join(', ')}, expected no control plane named '${name}' on this machine; take that one down, or choose another name`,
      );
  }
  await removeNamespaces(name);
};

/** Gives the API for a control plane that an earlier process left up. Throws when there is none in that directory. */
export const attachControlPlane = async (dir = defaultDir('lab')): Promise<ControlPlane> => {
  requireRoot();
  const file = join(resolve(dir), STATE_FILE);
  if (!existsSync(file)) throw new Error(`no ${file}, expected a control plane there; start one with 'npm run lab'`);
  const state = JSON.parse(await readFile(file, 'utf8')) as State;
  const dead = state.nodes.filter((node) => !isAlive(node.holder)).map((node) => node.name);
  if (dead.length > 0)
    throw new Error(
      `nodes ${dead.join(', ')} of ${file} no longer run; remove what is left with 'npm run lab -- down'`,
    );
  return new ControlPlane(resolve(dir), state);
};

/** Ends what an earlier process left in that directory, whatever state it is in. Does nothing when there is nothing. */
export const removeControlPlane = async (
  dir = defaultDir('lab'),
  options: { readonly keepLogs?: boolean } = {},
): Promise<void> => {
  requireRoot();
  const file = join(resolve(dir), STATE_FILE);
  if (existsSync(file))
    await new ControlPlane(resolve(dir), JSON.parse(await readFile(file, 'utf8')) as State).down(options);
};

const makeImage = async (images: string, minor: EtcdMinor, withEtcdutl: boolean): Promise<string> => {
  const tools = etcdTools(minor);
  const image = `registry.k8s.io/etcd:${tools.version}-0`;
  const bin = join(images, image, 'usr', 'local', 'bin');
  await mkdir(bin, { recursive: true });
  for (const name of ['etcd', 'etcdctl', ...(withEtcdutl ? (['etcdutl'] as const) : [])] as const)
    await copyFile(tools[name], join(bin, name), constants.COPYFILE_FICLONE);
  return image;
};

// What runs in the static pods beside etcd is the lab's own program, by their names.
const makeKubernetesImages = async (images: string): Promise<void> => {
  for (const component of COMPONENTS) {
    if (component === 'etcd') continue;
    const bin = join(images, kubernetesImage(component), 'usr', 'local', 'bin');
    await mkdir(bin, { recursive: true });
    await copyFile(labBinary(), join(bin, component), constants.COPYFILE_FICLONE);
  }
};

// A node's /etc starts as a copy of the host's: OpenSSL's configuration, users, the trust store.
const copyEtc = async (target: string): Promise<void> => {
  await mkdir(target, { recursive: true });
  for (const entry of await readdir('/etc')) {
    if (PRIVATE_ETC.test(entry)) continue;
    const source = join('/etc', entry);
    if (existsSync(source) && !statSync(source).isSocket())
      await cp(source, join(target, entry), { recursive: true, verbatimSymlinks: true });
  }
  await mkdir(join(target, 'ssl'), { recursive: true });
  for (const entry of ['certs', 'openssl.cnf'])
    if (existsSync(join('/etc/ssl', entry)))
      await cp(join('/etc/ssl', entry), join(target, 'ssl', entry), { recursive: true, verbatimSymlinks: true });
};

const instanceId = (name: string, node: string): string =>
  `i-${createHash('sha256').update(`${name}/${node}`).digest('hex').slice(0, 17)}`;

/**
 * Brings up a control plane as kubeadm would: the first node bootstraps etcd alone, each other one joins as a learner and is promoted.
 * Needs root; changes nothing on the host but files in its directory and named network namespaces.
 */
export const startControlPlane = async (options: ControlPlaneOptions = {}): Promise<ControlPlane> => {
  requireRoot();
  const name = options.name ?? 'lab';
  const dir = resolve(options.dir ?? defaultDir(name));
  const members = options.members ?? 3;
  const minor = options.etcd ?? '3.6';
  const persist = options.persist ?? false;
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) throw new Error(`name is '${name}', expected ^[a-z][a-z0-9-]{0,30}$`);
  if (!Number.isInteger(members) || members < 1 || members > 5)
    throw new Error(`members is ${String(members)}, expected 1 to 5`);
  if (existsSync(join(dir, STATE_FILE))) {
    const state = JSON.parse(await readFile(join(dir, STATE_FILE), 'utf8')) as State;
    if (state.nodes.some((node) => isAlive(node.holder)))
      throw new Error(
        `a control plane '${state.name}' is up in ${dir}; take it down first, with 'npm run lab -- down'`,
      );
    await removeControlPlane(dir);
  }
  await removeLeftNamespaces(name);
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true, mode: 0o700 });

  const images = join(dir, 'images');
  const image = await makeImage(images, minor, options.etcdutlInImage ?? minor !== '3.5');
  const withApiServer = options.apiServer ?? false;
  if (withApiServer) await makeKubernetesImages(images);
  const pki = join(dir, 'pki');
  await makeClusterPki(pki);
  const encryption = encryptionConfiguration();
  const bridgeNamespace = `${name}-net`;
  const state: State = { name, etcd: minor, etcdVersion: etcdTools(minor).version, bridgeNamespace, nodes: [] };
  const six = options.ipFamily === 6;
  const plans = Array.from({ length: members }, (_, index) => {
    const node = `cp${String(index + 1)}`;
    const ip = six ? `fd00:90::${String(index + 11)}` : `10.90.0.${String(index + 11)}`;
    const id = instanceId(name, node);
    const privateDnsName = six ? `${id}.ec2.internal` : `ip-${ip.replaceAll('.', '-')}.ec2.internal`;
    return { node, ip, id, privateDnsName, host: options.hostNames === true ? privateDnsName : ip };
  });
  const hosts = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost',
    ...plans.map((plan) => `${plan.ip} ${plan.privateDnsName} ${plan.node}`),
    '',
  ].join('\n');
  const extraFlags = [
    ...(options.extraEtcdFlags ?? []),
    ...(options.quotaBytes === undefined ? [] : [`--quota-backend-bytes=${String(options.quotaBytes)}`]),
  ];

  const nodes: NodeState[] = [];
  try {
    await run('ip', ['netns', 'add', bridgeNamespace]);
    await run('ip', ['-n', bridgeNamespace, 'link', 'add', 'br0', 'type', 'bridge']);
    await run('ip', ['-n', bridgeNamespace, 'link', 'set', 'br0', 'up']);
    for (const plan of plans) {
      const nodeDir = join(dir, 'nodes', plan.node);
      const root = join(nodeDir, 'root');
      const namespace = `${name}-${plan.node}`;
      const member: EtcdMember = {
        name: plan.node,
        ip: plan.ip,
        host: plan.host,
        minor,
        image,
        initialCluster: [],
        joins: plan.node !== 'cp1',
        extraFlags,
        walDir: options.walDir ?? false,
      };
      await copyEtc(join(root, 'etc'));
      for (const each of [
        'root',
        'tmp',
        'run',
        'opt/lab/run',
        'opt/lab',
        'var/log/pods',
        'var/tmp',
        'var/lib/kubelet',
        'var/lib/etcd',
        'etc/kubernetes/manifests',
        'etc/kubernetes/enc',
      ])
        await mkdir(join(root, each), {
          recursive: true,
          mode: each === 'var/lib/etcd' ? 0o700 : 0o755,
        });
      // mkdir is held back by the umask.
      for (const each of ['tmp', 'var/tmp']) await chmod(join(root, each), 0o1777);
      await makeNodePki(pki, {
        dir: join(root, 'etc/kubernetes/pki'),
        hostname: plan.node,
        dnsNames: [plan.privateDnsName],
        ip: plan.ip,
      });
      await symlink(`images/${image}/usr/local/bin`, join(root, IMAGE_BIN));
      await writeFile(join(root, 'etc/hosts'), hosts);
      await writeFile(join(root, 'etc/hostname'), `${plan.node}\n`);
      await writeFile(join(root, 'etc/kubernetes/enc/enc.yaml'), encryption, { mode: 0o600 });
      await writeFile(join(root, 'var/lib/kubelet/config.yaml'), kubeletConfiguration(), { mode: 0o644 });
      if (withApiServer) await makeKubeconfigs(join(root, 'etc/kubernetes'), plan.ip);
      else
        await writeFile(join(root, MANIFESTS, 'kube-apiserver.yaml'), apiServerManifest({ ip: plan.ip, runs: false }), {
          mode: 0o600,
        });

      await run('ip', ['netns', 'add', namespace]);
      await run('ip', [
        '-n',
        bridgeNamespace,
        'link',
        'add',
        plan.node,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        namespace,
      ]);
      await run('ip', ['-n', bridgeNamespace, 'link', 'set', plan.node, 'master', 'br0', 'up']);
      await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
      await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up']);
      // Without duplicate address detection: an address that is still tentative cannot be listened on.
      await run('ip', [
        '-n',
        namespace,
        'address',
        'add',
        `${plan.ip}/${six ? '64' : '24'}`,
        'dev',
        'eth0',
        ...(six ? ['nodad'] : []),
      ]);

      const pidFile = join(nodeDir, 'init.pid');
      const spec = {
        root,
        hostname: plan.node,
        binary: labBinary(),
        images,
        stagingBytes: options.stagingBytes ?? 0,
        pidFile,
        persist,
        // prettier-ignore
        kubelet: [
          '--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf', '--kubeconfig=/etc/kubernetes/kubelet.conf',
          '--config=/var/lib/kubelet/config.yaml', `--node-ip=${plan.ip}`,
        ],
      };
      await writeFile(join(nodeDir, 'init.json'), JSON.stringify(spec));
      const holder = await startDaemon({
        // prettier-ignore
        argv: [
          'nsenter', `--net=/run/netns/${namespace}`, 'unshare', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child',
          '--propagation', 'private', labBinary(), 'init', join(nodeDir, 'init.json'),
        ],
        log: join(nodeDir, 'init.log'),
        persist,
        ready: () => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '',
      });
      nodes.push({
        name: plan.node,
        ip: plan.ip,
        instanceId: plan.id,
        privateDnsName: plan.privateDnsName,
        arch: process.arch === 'arm64' ? 'arm64' : 'amd64',
        dir: nodeDir,
        namespace,
        bridgeNamespace,
        member,
        holder,
        pid: Number(readFileSync(pidFile, 'utf8')),
        persist,
        forwards: {},
      });
      await saveState(dir, { ...state, nodes });
    }
    const controlPlane = new ControlPlane(dir, { ...state, nodes });
    await bootstrap(controlPlane);
    if (withApiServer) {
      for (const node of controlPlane.nodes) {
        await node.writeStaticPod('kube-apiserver', apiServerManifest({ ip: node.ip, runs: true }));
        for (const component of ['kube-controller-manager', 'kube-scheduler'] as const)
          await node.writeStaticPod(component, controllerManifest(component));
      }
      await controlPlane.waitApiReady();
    }
    return controlPlane;
  } catch (error) {
    await new ControlPlane(dir, { ...state, nodes }).down({ keepLogs: true });
    throw new Error(`the control plane '${name}' did not come up; its logs are in ${dir}.logs`, { cause: error });
  }
};

// As `kubeadm init` and `kubeadm join --control-plane` do, so that each manifest names the members that were there when it was written.
const bootstrap = async (controlPlane: ControlPlane): Promise<void> => {
  const [first, ...others] = controlPlane.nodes;
  if (first === undefined) throw new Error('a control plane without nodes, expected one at least');
  const cluster = [`${first.name}=${first.peerUrl}`];
  await first.writeManifest({ initialCluster: [...cluster] });
  await controlPlane.waitHealthy([first]);
  for (const node of others) {
    const added = await retry(first, ['member', 'add', node.name, '--learner', `--peer-urls=${node.peerUrl}`]);
    const id = /Member +([0-9a-f]+) added/.exec(added)?.[1];
    if (id === undefined) throw new Error(`'etcdctl member add' said '${added}', expected 'Member <id> added'`);
    cluster.push(`${node.name}=${node.peerUrl}`);
    await node.writeManifest({ initialCluster: [...cluster] });
    await retry(first, ['member', 'promote', id]);
    await controlPlane.waitHealthy([node]);
  }
};

// etcd takes a new member only when the others have been connected for 5 s, and promotes a learner only once it has caught up.
const retry = async (node: LabNode, args: readonly string[]): Promise<string> => {
  const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
  for (;;) {
    const result = await node.exec([`${node.imageBin}/etcdctl`, ...args], { env: node.etcdctlEnvironment });
    if (result.code === 0) return result.stdout;
    if (Date.now() > deadline)
      throw new Error(`'etcdctl ${args.join(' ')}' failed for 60 s: ${result.stderr.trim().slice(-500)}`);
    await sleep(POLL_MS);
  }
};
