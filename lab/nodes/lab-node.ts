import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startDaemon, stopDaemon, type Daemon } from './daemon';
import { MANIFESTS, WAL_MOUNT, clientUrl, etcdManifest, peerUrl, type Component, type EtcdMember } from './manifests';
import { run } from './run';
import { labBinary, type EtcdMinor } from './tools';

const MANIFEST = `${MANIFESTS}/etcd.yaml`;
const STOPPED_MANIFEST = '/etc/kubernetes/etcd.yaml.stopped';
/** A link on each node to the programs of etcd's image, whose own path has a colon and so cannot be in PATH. */
export const IMAGE_BIN = '/opt/lab/etcd-image';

// Of the node's /run/lab, which is this directory.
const IGNORE_REMOVED = '/opt/lab/run/ignore-removed-manifests';
// The kernel keeps this much of a process's name.
const COMM_LENGTH = 15;

const POLL_MS = 50;
const ETCD_START_MS = 60_000;
const ETCD_STOP_MS = 45_000;

/** What root has in its environment on a node when the SSM agent runs something: next to nothing. */
export const NODE_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C',
};

/** How a command on a node ended. */
export interface NodeResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** True when `timeoutMs` passed and the command's process group was killed. */
  readonly timedOut: boolean;
}

/** A write of a node's API server that etcd confirmed: the revision it got, and when (milliseconds since 1970) the answer was there. */
export interface ApiWrite {
  readonly revision: number;
  readonly time: number;
}

/** What the state file keeps about a node. */
export interface NodeState {
  readonly name: string;
  readonly ip: string;
  readonly instanceId: string;
  readonly privateDnsName: string;
  readonly arch: 'amd64' | 'arm64';
  /** Directory of the node on the host: root/ is its file system, init.log and init.json its beginnings. */
  readonly dir: string;
  readonly namespace: string;
  readonly bridgeNamespace: string;
  readonly member: EtcdMember;
  /** Holds the node's namespaces open: `unshare`, whose death kills the node. */
  readonly holder: Daemon;
  /** The node's pid 1, by the host's numbering. */
  readonly pid: number;
  readonly persist: boolean;
  readonly forwards: Readonly<Record<string, Daemon>>;
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** One control-plane node: namespaces of its own, a root of its own, a kubelet and the static pod of etcd. */
export class LabNode {
  constructor(
    private state: NodeState,
    private readonly save: (state: NodeState) => Promise<void>,
  ) {}

  get name(): string {
    return this.state.name;
  }

  get ip(): string {
    return this.state.ip;
  }

  /** Stable for a control plane's name and a node's name. */
  get instanceId(): string {
    return this.state.instanceId;
  }

  get privateDnsName(): string {
    return this.state.privateDnsName;
  }

  get arch(): 'amd64' | 'arm64' {
    return this.state.arch;
  }

  /** The node's pid 1, by the host's numbering. */
  get pid(): number {
    return this.state.pid;
  }

  /** The image of etcd as the manifest names it. */
  get image(): string {
    return this.state.member.image;
  }

  /** The client URL that the member advertises. */
  get clientUrl(): string {
    return clientUrl(this.state.member.host);
  }

  /** The peer URL that the member advertises. */
  get peerUrl(): string {
    return peerUrl(this.state.member.host);
  }

  /** Where a file of the node lies on the host; not for /usr, /proc, /sys, /dev, nor a staging file system of its own. */
  path(file: string): string {
    return join(this.state.dir, 'root', file);
  }

  /** The command of the host that runs `argv` inside all namespaces of the node. */
  enter(argv: readonly string[]): readonly [string, ...string[]] {
    return ['nsenter', '--target', String(this.pid), '--mount', '--uts', '--ipc', '--net', '--pid', '--', ...argv];
  }

  /**
   * Starts a command as root inside all namespaces of the node, with a clean environment, in a process group of its own:
   * `process.kill(-child.pid, 'SIGKILL')` reaches everything it started that did not leave the group, as the SSM agent's kill does.
   */
  spawn(
    argv: readonly string[],
    options: { readonly env?: Readonly<Record<string, string>> } = {},
  ): ChildProcessWithoutNullStreams {
    const [command, ...args] = this.enter(argv);
    return spawn(command, args, {
      cwd: '/',
      detached: true,
      env: { ...NODE_ENVIRONMENT, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  }

  /** Runs a command on the node to its end. Throws only when it cannot be started; how it ended is in the result. */
  exec(
    argv: readonly string[],
    options: {
      readonly env?: Readonly<Record<string, string>>;
      readonly input?: string | Buffer;
      readonly timeoutMs?: number;
    } = {},
  ): Promise<NodeResult> {
    return new Promise((resolve, reject) => {
      const child = this.spawn(argv, options);
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      let timedOut = false;
      const timer =
        options.timeoutMs === undefined
          ? undefined
          : setTimeout(() => {
              timedOut = true;
              process.kill(-(child.pid ?? 0), 'SIGKILL');
            }, options.timeoutMs);
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
      child.once('error', (error) => {
        clearTimeout(timer);
        reject(
          new Error(`'${argv.join(' ')}' could not be started on ${this.name}: ${error.message}`, { cause: error }),
        );
      });
      child.once('close', (code, signal) => {
        clearTimeout(timer);
        resolve({
          code,
          signal,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
          timedOut,
        });
      });
      // A command that ends without reading its input is not an error of ours.
      child.stdin.on('error', () => undefined);
      child.stdin.end(options.input);
    });
  }

  /** Runs a command that must succeed and gives its stdout. Throws with its stderr when it does not. */
  async must(argv: readonly string[], options: Parameters<LabNode['exec']>[1] = {}): Promise<string> {
    const result = await this.exec(argv, options);
    if (result.code !== 0)
      throw new Error(
        `'${argv.join(' ')}' on ${this.name} ended with ${String(result.code ?? result.signal)}: ${result.stderr.trim()}`,
      );
    return result.stdout;
  }

  /** etcdctl's own words for this node's endpoint and healthcheck certificate, as environment. */
  get etcdctlEnvironment(): Readonly<Record<string, string>> {
    return {
      ETCDCTL_ENDPOINTS: clientUrl(this.ip.includes(':') ? '::1' : '127.0.0.1'),
      ETCDCTL_CACERT: '/etc/kubernetes/pki/etcd/ca.crt',
      ETCDCTL_CERT: '/etc/kubernetes/pki/etcd/healthcheck-client.crt',
      ETCDCTL_KEY: '/etc/kubernetes/pki/etcd/healthcheck-client.key',
    };
  }

  /** Directory, as seen on the node, of the programs in etcd's image. */
  get imageBin(): string {
    return IMAGE_BIN;
  }

  /** Runs the image's etcdctl against this node's member with the healthcheck certificate. Throws when it fails. */
  etcdctl(args: readonly string[]): Promise<string> {
    return this.must([`${this.imageBin}/etcdctl`, ...args], { env: this.etcdctlEnvironment });
  }

  /** Pid, by the node's own numbering, of the static pod's etcd; undefined when it does not run. */
  etcdPid(): number | undefined {
    return this.processes('etcd').find(
      ({ argv }) => argv.includes(`--name=${this.state.member.name}`) && argv.includes('--data-dir=/var/lib/etcd'),
    )?.pid;
  }

  /** Pids, by the node's own numbering, of all processes of that name, in a pod or not. */
  pidsOf(program: Component | 'kubelet'): readonly number[] {
    return this.processes(program).map(({ pid }) => pid);
  }

  private processes(program: string): readonly { readonly pid: number; readonly argv: readonly string[] }[] {
    const proc = `/proc/${String(this.pid)}/root/proc`;
    const comm = `${program.slice(0, COMM_LENGTH)}\n`;
    return readdirSync(proc).flatMap((entry) => {
      if (!/^\d+$/.test(entry)) return [];
      try {
        if (readFileSync(join(proc, entry, 'comm'), 'utf8') !== comm) return [];
        const argv = readFileSync(join(proc, entry, 'cmdline'), 'utf8').split('\0');
        // Without a command line: a process that has ended, and of which nobody has taken the exit status yet.
        return argv[0] === '' ? [] : [{ pid: Number(entry), argv }];
      } catch (error) {
        // It ended while we looked.
        if (!isMissing(error) && (error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        return [];
      }
    });
  }

  /** Unplugs the node from the others, as a cut cable does; loopback stays. */
  async linkDown(): Promise<void> {
    // At the switch's end: taking the node's own end down would drop its IPv6 address.
    await run('ip', ['-n', this.state.bridgeNamespace, 'link', 'set', this.name, 'down']);
  }

  /** Plugs it in again. */
  async linkUp(): Promise<void> {
    await run('ip', ['-n', this.state.bridgeNamespace, 'link', 'set', this.name, 'up']);
  }

  /** Takes etcd's manifest out of the folder of static pods and waits until etcd is gone. */
  async stopEtcd(): Promise<void> {
    if (existsSync(this.path(MANIFEST))) await rename(this.path(MANIFEST), this.path(STOPPED_MANIFEST));
    await this.wait(() => this.etcdPid() === undefined, ETCD_STOP_MS, 'etcd to stop');
  }

  /** Puts the manifest back and waits until the process runs, not until it is healthy. */
  async startEtcd(): Promise<void> {
    if (existsSync(this.path(STOPPED_MANIFEST))) await rename(this.path(STOPPED_MANIFEST), this.path(MANIFEST));
    await this.wait(() => this.etcdPid() !== undefined, ETCD_START_MS, 'etcd to start');
  }

  /** Stops the kubelet, and nothing else: containers run on. */
  async stopKubelet(): Promise<void> {
    await this.must(['systemctl', 'stop', 'kubelet']);
  }

  /** Starts the kubelet, which takes over the containers it finds. */
  async startKubelet(): Promise<void> {
    await this.must(['systemctl', 'start', 'kubelet']);
  }

  /**
   * While on, a manifest that goes away stops no pod, as with a kubelet that has not reached its API server since it started; also not one that
   * went while the kubelet was stopped. Off, the kubelet catches up on it.
   */
  async ignoreRemovedManifests(on: boolean): Promise<void> {
    if (on) await writeFile(this.path(IGNORE_REMOVED), '');
    else await rm(this.path(IGNORE_REMOVED), { force: true });
  }

  /** Whether the node's API server says that it is ready, to a client of the cluster's CA. */
  async apiReady(): Promise<boolean> {
    const pki = '/etc/kubernetes/pki';
    const result = await this.exec([
      ...['curl', '-q', '--silent', '--max-time', '5', '--noproxy', '*', '--globoff', '--cacert', `${pki}/ca.crt`],
      ...['--cert', `${pki}/apiserver-kubelet-client.crt`, '--key', `${pki}/apiserver-kubelet-client.key`],
      `${this.apiUrl}/readyz`,
    ]);
    return result.code === 0 && result.stdout === 'ok';
  }

  /** The URL of the node's API server. */
  get apiUrl(): string {
    return `https://${this.ip.includes(':') ? `[${this.ip}]` : this.ip}:6443`;
  }

  /** What the node's API server has written so far, by the log of its pod, in etcd's order. */
  apiWrites(): readonly ApiWrite[] {
    return readFileSync(this.path('/var/log/pods/kube-apiserver.log'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('"revision":'))
      .map((line) => JSON.parse(line) as { readonly time: string; readonly revision: number })
      .map(({ time, revision }) => ({ time: Date.parse(time), revision }));
  }

  /** Removes all data of etcd under the running process, as a slip of a hand does. */
  async wipeData(): Promise<void> {
    for (const dir of ['/var/lib/etcd', WAL_MOUNT]) {
      if (!existsSync(this.path(dir))) continue;
      for (const entry of await readdir(this.path(dir)))
        await rm(join(this.path(dir), entry), { recursive: true, force: true });
    }
  }

  /** Writes the manifest of a static pod; the kubelet starts it, or restarts it when its text changes. */
  async writeStaticPod(component: Component, text: string): Promise<void> {
    const file = this.path(`${MANIFESTS}/${component}.yaml`);
    await mkdir(dirname(file), { recursive: true });
    // Written beside the folder and moved in: the kubelet must never read half a manifest.
    const next = this.path(`/etc/kubernetes/${component}.yaml.next`);
    await writeFile(next, text, { mode: 0o600 });
    await rename(next, file);
  }

  /** Writes etcd.yaml; the kubelet restarts etcd when its text changes. The state remembers what was changed. */
  async writeManifest(change: Partial<EtcdMember> = {}): Promise<void> {
    const member = { ...this.state.member, ...change };
    await this.update({ member });
    await this.writeStaticPod('etcd', etcdManifest(member));
  }

  /**
   * Wipes the member as a lost disk does, and starts it by the manifest of a first node: it bootstraps an empty cluster of one. For the
   * first node of a control plane that is its own unchanged manifest, and the empty cluster has the old cluster's id. It stays up only if
   * the others cannot speak to it (linkDown) or have removed it from their member list; else their heartbeats make it panic, over and over.
   */
  async wipe(): Promise<void> {
    await this.stopEtcd();
    await rm(this.path('/var/lib/etcd/member'), { recursive: true, force: true });
    await rm(this.path(STOPPED_MANIFEST), { force: true });
    await this.writeManifest({ initialCluster: [`${this.name}=${this.peerUrl}`], joins: false });
    await this.startEtcd();
  }

  /** Runs the member with another image of etcd, on the data that it has, as an upgrade does. Waits until the process runs, not until it is healthy. */
  async changeImage(minor: EtcdMinor, image: string): Promise<void> {
    await this.stopEtcd();
    await rm(this.path(STOPPED_MANIFEST), { force: true });
    await rm(this.path(IMAGE_BIN));
    await symlink(`images/${image}/usr/local/bin`, this.path(IMAGE_BIN));
    await this.writeManifest({ minor, image });
    await this.startEtcd();
  }

  /**
   * Ends all processes of the node at once, as a loss of power does, empties /run, which is memory, and starts the kubelet, as its unit is
   * enabled. Resolves before the kubelet has started anything.
   */
  async reboot(): Promise<void> {
    await this.stopKubelet();
    // All but pid 1, which is the lab's, and this shell. It fails only when there is nothing else.
    await this.must(['bash', '-c', 'kill -KILL -1 2>/dev/null || :']);
    await this.must([
      'find',
      '/run',
      '-mindepth',
      '1',
      '-maxdepth',
      '1',
      '!',
      '-name',
      'lab',
      '-exec',
      'rm',
      '-r',
      '{}',
      '+',
    ]);
    // What the lab's container runtime remembers there; pid 1 listens beside it.
    await this.must(['rm', '-rf', '/run/lab/containers']);
    await this.startKubelet();
  }

  /** Makes 127.0.0.1:port of the host reachable at 127.0.0.1:port of the node. */
  async forward(port: number): Promise<void> {
    const { dir, namespace, persist } = this.state;
    if (this.state.forwards[port] !== undefined) return;
    const log = join(dir, `forward-${String(port)}.log`);
    await rm(log, { force: true });
    const daemon = await startDaemon({
      // prettier-ignore
      argv: [labBinary(), 'forward', '--netns', `/run/netns/${namespace}`, '--port', String(port), ...(persist ? ['--persist'] : [])],
      log,
      persist,
      ready: () => readFileSync(log, 'utf8').includes('listening'),
    });
    await this.update({ forwards: { ...this.state.forwards, [port]: daemon } });
  }

  /** Cuts what `forward` made, and every connection through it. */
  async unforward(port: number): Promise<void> {
    const { [String(port)]: daemon, ...rest } = this.state.forwards;
    if (daemon === undefined) return;
    await stopDaemon(daemon);
    await this.update({ forwards: rest });
  }

  /** Ends every process of the node and of its forwards; its files stay. */
  async stop(): Promise<void> {
    for (const daemon of Object.values(this.state.forwards)) await stopDaemon(daemon);
    // unshare --kill-child takes pid 1 with it, and pid 1 the rest; a zombie of ours is reaped by Node.
    await stopDaemon(this.state.holder);
    await this.wait(() => !existsSync(`/proc/${String(this.pid)}/root/proc/1`), ETCD_STOP_MS, 'its processes to end');
  }

  private async update(change: Partial<NodeState>): Promise<void> {
    this.state = { ...this.state, ...change };
    await this.save(this.state);
  }

  private async wait(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!condition()) {
      if (Date.now() > deadline) {
        const log = this.path('/var/log/kubelet.log');
        throw new Error(
          `waited ${String(timeoutMs / 1000)} s on ${this.name} for ${what}; the kubelet's log ends with: ${existsSync(log) ? readFileSync(log, 'utf8').slice(-500) : 'no log'}`,
        );
      }
      await sleep(POLL_MS);
    }
  }
}
