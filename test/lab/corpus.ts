import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Verdict } from '../../lab/judges';
import { run } from '../../lab/nodes/run';
import type { SnapshotFacts } from '../../lambda/shared/snapshot/facts';
import { ETCD_MINORS, etcd34Tools, etcdTools, labBinary } from '../../lab/nodes/tools';

/** Etcd minors whose snapshots are read. */
export const MINORS = ['3.4', ...ETCD_MINORS] as const;
export type Minor = (typeof MINORS)[number];

const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
// etcd takes 128 operations and 1.5 MiB per transaction unless it is told otherwise.
const OPERATIONS = 100;
const TRANSACTION_BYTES = 1_000_000;

interface Programs {
  readonly etcd: string;
  readonly etcdctl: string;
  /** `snapshot status` and `snapshot restore`: etcdutl, and etcdctl in 3.4. */
  readonly snapshotTool: string;
}

export function programs(minor: Minor): Programs {
  if (minor === '3.4') {
    const { etcd, etcdctl } = etcd34Tools();
    return { etcd, etcdctl, snapshotTool: etcdctl };
  }
  const { etcd, etcdctl, etcdutl } = etcdTools(minor);
  return { etcd, etcdctl, snapshotTool: etcdutl };
}

/** What `snapshot status -w json` prints; `version` from 3.6 on. */
export interface Status {
  readonly hash: number;
  readonly revision: number;
  readonly totalKey: number;
  readonly totalSize: number;
  readonly version?: string;
}

/** `snapshot status` of an etcd's own tool. Throws with the tool's words when it refuses the file. */
export async function status(minor: Minor, file: string): Promise<Status> {
  return JSON.parse(await run(programs(minor).snapshotTool, ['snapshot', 'status', '-w', 'json', file])) as Status;
}

/** bbolt's verdicts on files, in their order. */
export async function bboltCheck(files: readonly string[]): Promise<readonly Verdict[]> {
  const input = files.map((file) => `${file}\n`).join('');
  const lines = (await run(labBinary(), ['bbolt', 'check'], { input })).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Verdict);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Parses what etcdctl prints; ids of 64 bits stay decimal strings. */
function parse(json: string): unknown {
  return JSON.parse(json.replace(/(":|[[,])(\d{16,})(?=[,}\]])/g, '$1"$2"'));
}

/** What etcdctl says of a cluster that rests. Ids in hex, as etcd prints them. */
export interface Answers {
  readonly clusterId: string;
  readonly members: readonly {
    readonly id: string;
    readonly name: string;
    readonly peerUrls: readonly string[];
    readonly clientUrls: readonly string[];
    readonly isLearner: boolean;
  }[];
  readonly revision: number;
  readonly raftIndex: string;
  readonly raftTerm: string;
  readonly keys: number;
  readonly leases: number;
  readonly alarms: readonly { readonly memberId: string; readonly alarm: string }[];
  readonly users: number;
  readonly roles: number;
}

const hex = (id: string | number | undefined): string => BigInt(id ?? 0).toString(16);
const base64 = (text: string | Buffer): string => Buffer.from(text).toString('base64');

/** A cluster of one member on loopback, without TLS, in a directory of its own. */
export class Etcd {
  private token: string | undefined;

  private constructor(
    readonly minor: Minor,
    readonly dir: string,
    private readonly url: string,
    private readonly process: ChildProcess,
  ) {}

  /** Starts an etcd on `dir`, which may hold the data of another one. */
  static async start(minor: Minor, dir: string, args: readonly string[] = []): Promise<Etcd> {
    mkdirSync(dir, { recursive: true });
    const [client, peer] = [await freePort(), await freePort()];
    const url = `http://127.0.0.1:${String(client)}`;
    const peerUrl = `http://127.0.0.1:${String(peer)}`;
    // The disk of a machine that tests share is no matter here; 3.4 has no such flag.
    const fast = minor === '3.4' ? [] : ['--unsafe-no-fsync'];
    const log = openSync(join(dir, 'log'), 'a');
    const child = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', programs(minor).etcd, '--data-dir', join(dir, 'data'), '--name', 'only'],
        ...['--listen-client-urls', url, '--advertise-client-urls', url],
        ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
        ...['--initial-cluster', `only=${peerUrl}`, '--quota-backend-bytes', '8000000000', ...fast, ...args],
      ],
      { stdio: ['ignore', log, log], env: { PATH: process.env.PATH, ETCD_UNSUPPORTED_ARCH: process.arch } },
    );
    closeSync(log);
    const etcd = new Etcd(minor, dir, url, child);
    const started = Date.now();
    while (!(await etcd.isReady())) {
      if (child.exitCode !== null || Date.now() - started > READY_TIMEOUT_MS) {
        await etcd.stop();
        throw new Error(`etcd ${minor} did not come up: ${readFileSync(join(dir, 'log'), 'utf8').slice(-2000)}`);
      }
      await sleep(POLL_MS);
    }
    return etcd;
  }

  private async isReady(): Promise<boolean> {
    try {
      const response = await fetch(`${this.url}/health`);
      // A member with an alarm is up, too.
      return response.status === 200 || (await response.text()).includes('ALARM');
    } catch {
      return false;
    }
  }

  /** Calls etcd's JSON gateway. Throws with etcd's words. */
  async post(path: string, body: object): Promise<unknown> {
    const headers = this.token === undefined ? {} : { authorization: this.token };
    const response = await fetch(`${this.url}/v3/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`etcd ${this.minor} refused ${path}: ${text}`);
    return JSON.parse(text);
  }

  /** Writes rows, many in one revision. */
  async put(rows: Iterable<{ readonly key: string; readonly value: string | Buffer; readonly lease?: string }>) {
    let success: object[] = [];
    let size = 0;
    const flush = async () => {
      if (success.length > 0) await this.post('kv/txn', { success });
      success = [];
      size = 0;
    };
    for (const { key, value, lease } of rows) {
      if (success.length === OPERATIONS || (size > 0 && size + value.length > TRANSACTION_BYTES)) await flush();
      success.push({ requestPut: { key: base64(key), value: base64(value), ...(lease !== undefined && { lease }) } });
      size += value.length;
    }
    await flush();
  }

  /** Deletes all keys from `first` on and before `end`. */
  async remove(first: string, end: string): Promise<void> {
    await this.post('kv/deleterange', { key: base64(first), range_end: base64(end) });
  }

  /** Compacts all but the newest revision away. */
  async compact(): Promise<void> {
    const { revision } = await this.answers();
    await this.post('kv/compaction', { revision: String(revision), physical: true });
  }

  async defragment(): Promise<void> {
    await this.post('maintenance/defragment', {});
  }

  /** Turns authentication on; every later call is root's. */
  async enableAuth(users: readonly string[], roles: readonly string[]): Promise<void> {
    for (const name of ['root', ...roles]) await this.post('auth/role/add', { name });
    for (const name of ['root', ...users]) await this.post('auth/user/add', { name, password: 'secret' });
    await this.post('auth/user/grant', { user: 'root', role: 'root' });
    await this.post('auth/enable', {});
    const { token } = (await this.post('auth/authenticate', { name: 'root', password: 'secret' })) as { token: string };
    this.token = token;
  }

  async ctl(...args: readonly string[]): Promise<string> {
    const user = this.token === undefined ? [] : ['--user', 'root:secret'];
    return run(programs(this.minor).etcdctl, ['--endpoints', this.url, ...user, ...args]);
  }

  /** Saves a snapshot with this etcd's own etcdctl. */
  async snapshot(file: string): Promise<void> {
    await this.ctl('snapshot', 'save', file);
  }

  async answers(): Promise<Answers> {
    const ask = async <T>(...args: readonly string[]) => parse(await this.ctl(...args, '-w', 'json')) as T;
    const list = await ask<{
      header: { cluster_id: string };
      members: { ID: string; name?: string; peerURLs?: string[]; clientURLs?: string[]; isLearner?: boolean }[];
    }>('member', 'list');
    const [endpoint] = await ask<
      [{ Status: { header: { revision?: number }; raftIndex: number; raftAppliedIndex: number; raftTerm: number } }]
    >('endpoint', 'status');
    const { count = 0 } = await ask<{ count?: number }>('get', '', '--prefix', '--keys-only', '--limit', '1');
    const { leases = [] } = await ask<{ leases?: object[] }>('lease', 'list');
    const { alarms = [] } = await ask<{ alarms?: { memberID?: string; alarm?: number }[] }>('alarm', 'list');
    const { users = [] } = await ask<{ users?: string[] }>('user', 'list');
    const { roles = [] } = await ask<{ roles?: string[] }>('role', 'list');
    return {
      clusterId: hex(list.header.cluster_id),
      members: list.members.map((member) => ({
        id: hex(member.ID),
        name: member.name ?? '',
        peerUrls: member.peerURLs ?? [],
        clientUrls: member.clientURLs ?? [],
        isLearner: member.isLearner ?? false,
      })),
      revision: endpoint.Status.header.revision ?? 0,
      raftIndex: String(endpoint.Status.raftAppliedIndex),
      raftTerm: String(endpoint.Status.raftTerm),
      keys: count,
      leases: leases.length,
      alarms: alarms.map(({ memberID, alarm }) => ({
        memberId: hex(memberID),
        alarm: ['NONE', 'NOSPACE', 'CORRUPT'][alarm ?? 0] ?? '',
      })),
      users: users.length,
      roles: roles.length,
    };
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = new Promise((resolve) => this.process.once('close', resolve));
      this.process.kill('SIGTERM');
      await ended;
    }
  }
}

/** Rows with Kubernetes' keys and values of random bytes, which no compression makes small. */
export function* kubernetesRows(count: number, valueBytes: number, first = 0) {
  const kinds = ['configmaps', 'pods', 'secrets', 'apps/deployments', 'events', 'leases'];
  for (let i = first; i < first + count; i++) {
    const kind = kinds[i % kinds.length] ?? '';
    yield { key: `/registry/${kind}/ns-${String(i % 7)}/object-${String(i)}`, value: randomBytes(valueBytes) };
  }
}

/** A state of etcd that a snapshot is taken of. */
export interface Case {
  readonly name: string;
  readonly minors: readonly Minor[];
  readonly args?: readonly string[];
  /** Brings the etcd into the state; returns another one when that holds the state. */
  readonly prepare: (etcd: Etcd) => Promise<Etcd | undefined>;
  /** What must be seen in the snapshot for the case to be the case. */
  readonly shows?: (facts: SnapshotFacts) => boolean;
  /** Runs while the snapshot is taken; what etcdctl says before and after is then not what is in it. */
  readonly meanwhile?: (etcd: Etcd, signal: AbortSignal) => Promise<void>;
}

const BUMP = 1_000_000;

async function lease(etcd: Etcd): Promise<string> {
  const { ID } = (await etcd.post('lease/grant', { TTL: '3600' })) as { ID: string };
  return ID;
}

/** Restores a snapshot of `etcd` beside it, and starts it there. */
async function restored(etcd: Etcd): Promise<Etcd> {
  const file = join(etcd.dir, 'before.db');
  await etcd.snapshot(file);
  await etcd.stop();
  const dir = `${etcd.dir}-restored`;
  mkdirSync(dir, { recursive: true });
  const bump = etcd.minor === '3.4' ? [] : ['--bump-revision', String(BUMP), '--mark-compacted'];
  await run(programs(etcd.minor).snapshotTool, [
    ...['snapshot', 'restore', file, '--data-dir', join(dir, 'data'), '--name', 'only', ...bump],
    ...['--initial-cluster', 'only=http://127.0.0.1:1', '--initial-advertise-peer-urls', 'http://127.0.0.1:1'],
  ]);
  return Etcd.start(etcd.minor, dir);
}

/** All but the large one, which is a case of its own. */
export const CASES: readonly Case[] = [
  { name: 'empty', minors: MINORS, prepare: () => Promise.resolve(undefined) },
  {
    name: 'small',
    minors: MINORS,
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(250, 200));
      return undefined;
    },
  },
  {
    name: 'deletes',
    minors: MINORS,
    shows: ({ mvcc }) => mvcc.tombstones > 0,
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(300, 100));
      await etcd.remove('/registry/configmaps/ns-1/', '/registry/configmaps/ns-3/');
      // One that comes back after its deletion.
      await etcd.put(kubernetesRows(30, 100));
      await etcd.remove('/registry/pods/', '/registry/pods0');
      return undefined;
    },
  },
  {
    name: 'compacted',
    minors: MINORS,
    shows: ({ mvcc, pages }) => mvcc.compactedRevision !== null && pages.free > 50,
    prepare: async (etcd) => {
      for (let round = 0; round < 5; round++) await etcd.put(kubernetesRows(400, 400));
      await etcd.remove('/registry/pods/', '/registry/pods0');
      await etcd.compact();
      return undefined;
    },
  },
  {
    name: 'compacted and defragmented',
    minors: MINORS,
    shows: ({ mvcc, pages }) => mvcc.compactedRevision !== null && pages.free < 50,
    prepare: async (etcd) => {
      for (let round = 0; round < 5; round++) await etcd.put(kubernetesRows(400, 400));
      await etcd.remove('/registry/pods/', '/registry/pods0');
      await etcd.compact();
      await etcd.defragment();
      await etcd.put(kubernetesRows(20, 400));
      return undefined;
    },
  },
  {
    name: 'leases',
    minors: MINORS,
    shows: ({ leases, inventory }) => leases === 12 && inventory.leased === 120,
    prepare: async (etcd) => {
      for (let i = 0; i < 12; i++) {
        const id = await lease(etcd);
        await etcd.put([...kubernetesRows(10, 50, i * 10)].map((row) => ({ ...row, lease: id })));
      }
      return undefined;
    },
  },
  {
    name: 'large values',
    minors: MINORS,
    shows: ({ pages }) => pages.overflow > 300,
    prepare: async (etcd) => {
      for (const size of [0, 1, 3900, 4000, 4096, 5000, 8192, 65_535, 65_536, 70_000, 400_000, 1_000_000]) {
        await etcd.put([{ key: `/registry/configmaps/large/object-${String(size)}`, value: randomBytes(size) }]);
      }
      return undefined;
    },
  },
  {
    name: 'users and roles',
    minors: MINORS,
    shows: ({ auth }) => auth.enabled && auth.users === 3 && auth.roles === 4,
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(20, 100));
      await etcd.enableAuth(['alice', 'bob'], ['readers', 'writers', 'watchers']);
      await etcd.put(kubernetesRows(20, 100, 20));
      return undefined;
    },
  },
  {
    name: 'restored with a bumped revision',
    minors: MINORS,
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(200, 200));
      const other = await restored(etcd);
      await other.put(kubernetesRows(40, 200, 180));
      return other;
    },
  },
  {
    name: 'no space left in its quota',
    minors: MINORS,
    shows: ({ alarms }) => alarms[0]?.alarm === 'NOSPACE',
    args: ['--quota-backend-bytes', '2000000'],
    prepare: async (etcd) => {
      try {
        for (;;) await etcd.put(kubernetesRows(40, 5000));
      } catch (error) {
        if (!(error as Error).message.includes('database space exceeded')) throw error;
      }
      return undefined;
    },
  },
  {
    name: 'alarm of corruption',
    minors: MINORS,
    shows: ({ alarms }) => alarms[0]?.alarm === 'CORRUPT',
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(20, 100));
      const { members } = await etcd.answers();
      const memberID = BigInt(`0x${members[0]?.id ?? '0'}`).toString();
      await etcd.post('maintenance/alarm', { action: 'ACTIVATE', memberID, alarm: 'CORRUPT' });
      return undefined;
    },
  },
  {
    name: 'under write load',
    minors: MINORS,
    prepare: async (etcd) => {
      await etcd.put(kubernetesRows(3000, 4000));
      return undefined;
    },
    meanwhile: async (etcd, signal) => {
      for (let i = 0; !signal.aborted; i++) {
        await etcd.put(kubernetesRows(50, 1000, i * 50));
        if (i % 5 === 4) await etcd.remove('/registry/pods/', '/registry/pods0');
      }
    },
  },
];

/** Takes the snapshot of a case, and what etcdctl says before and after. */
export async function take(
  minor: Minor,
  what: Case,
  dir: string,
  file: string,
): Promise<{ readonly before: Answers; readonly after: Answers }> {
  const first = await Etcd.start(minor, dir, what.args);
  let etcd = first;
  try {
    etcd = (await what.prepare(first)) ?? first;
    const before = await etcd.answers();
    const busy = new AbortController();
    const load = what.meanwhile?.(etcd, busy.signal);
    try {
      await etcd.snapshot(file);
    } finally {
      busy.abort();
      await load;
    }
    return { before, after: await etcd.answers() };
  } finally {
    await first.stop();
    await etcd.stop();
  }
}
