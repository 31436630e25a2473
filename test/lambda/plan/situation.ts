import type { Inspection, LiveMember } from '../../../lambda/shared/inspection';
import type { Receipt } from '../../../lambda/shared/receipt';
import type { RestoreRequest } from '../../../lambda/shared/restore-state';
import type { InspectedNode } from '../../../lambda/plan/inspect';
import type { Situation } from '../../../lambda/plan/judge';

type Journal = NonNullable<Inspection['journal']>;

export const hash = (character: string): string => character.repeat(64);

export const REQUEST: RestoreRequest = {
  confirm: true,
  snapshot: { kind: 'newest' },
  from: 'backup',
  hold: null,
  requestedBy: null,
  reason: null,
  forced: [],
};

const members = [1, 2, 3].map((number) => ({
  id: `a${String(number)}`,
  name: `cp${String(number)}`,
  peerUrls: [`https://10.0.0.${String(number)}:2380`],
  clientUrls: [`https://10.0.0.${String(number)}:2379`],
  isLearner: false,
}));

/** The receipt of a backup of three members, all fields as a healthy one has them. */
export function receipt(change: Partial<Receipt> = {}): Receipt {
  return {
    schema: 1,
    backupId: '20261120T140000Z',
    cluster: 'lab',
    bucket: 'lab-backups',
    key: 'snapshots/20261120T140000Z.db.zst',
    versionId: 'v3',
    kind: 'schedule',
    keepDays: null,
    class: 'daily',
    timeline: 'first',
    previous: null,
    newestOfClass: { monthly: null, weekly: null, daily: null },
    storedAt: '2026-11-20T14:00:10.000Z',
    verifiedAt: '2026-11-20T14:00:20.000Z',
    verifiedBy: { function: 'verify', version: '7' },
    announcement: { key: 'announcements/20261120T140000Z.json', sha256: hash('0') },
    compression: 'zstd',
    compressedBytes: 20_000_000,
    compressedSha256: hash('1'),
    sizeBytes: 50_000_000,
    sha256: hash('2'),
    identity: {
      kubeSystemUid: 'uid-1',
      kubeSystemEncrypted: false,
      etcdCaSha256: hash('a'),
      clusterCaSha256: hash('b'),
      saPubSha256: hash('c'),
      encryptionConfigSha256: null,
    },
    knownIdentity: { kubeSystemUid: 'uid-1', etcdCaSha256: hash('a') },
    compared: { identity: true, revision: true },
    snapshot: {
      pageSizeBytes: 4096,
      hash: 1,
      revision: 1000,
      totalKey: { rows: 100, live: 50 },
      totalSizeBytes: 49_999_968,
      storageVersion: '3.6.0',
      consistentIndex: '2000',
      term: '4',
      clusterVersion: '3.6.0',
      members: [],
      removedMembers: [],
      bootstrapClusterId: null,
      pages: { total: 10, free: 1, branch: 1, leaf: 8, overflow: 0 },
      buckets: [],
      mvcc: { tombstones: 0, compactedRevision: null },
      leases: 0,
      alarms: [],
      auth: { enabled: false, users: 0, roles: 0 },
      secrets: { total: 4, plainText: 1 },
    },
    inventory: {
      objects: 50,
      bytes: 1000,
      leased: 0,
      kinds: [
        { kind: 'pods', objects: 30, bytes: 700, namespaces: [] },
        { kind: 'secrets', objects: 4, bytes: 200, namespaces: [] },
      ],
      beyondBounds: { objects: 0, bytes: 0 },
      events: { objects: 5, bytes: 50 },
      largest: [],
      nodes: ['cp1', 'cp2', 'cp3', 'worker1'],
    },
    announced: {
      instanceId: 'i-1',
      etcdVersion: '3.6.5',
      clusterVersion: '3.6.0',
      kubernetesVersion: 'v1.33.1',
      arch: 'amd64',
      memberId: 'a1',
      memberName: 'cp1',
      clusterId: 'c1',
      leaderId: 'a1',
      members,
      raftTerm: 4,
      raftIndex: '2000',
      databaseBytes: 50_000_000,
      liveRevision: 1001,
      dataDir: '/var/lib/etcd',
      hash: 1,
      revision: 1000,
      totalKey: 50,
      totalSizeBytes: 49_999_968,
    },
    findings: [],
    seconds: { download: 1, read: 1, verify: 3, triggerToReceipt: 9 },
    ...change,
  };
}

/** A member that serves and has a quorum. */
export function liveMember(change: Partial<LiveMember> = {}): LiveMember {
  return {
    id: 'a1',
    clusterId: 'c1',
    leaderId: 'a1',
    revision: 1500,
    raftTerm: 4,
    raftIndex: '2500',
    raftAppliedIndex: '2500',
    isLearner: false,
    dbSize: 60_000_000,
    dbSizeInUse: 50_000_000,
    linearizable: true,
    alarms: [],
    members,
    ...change,
  };
}

/** What a restore has left on a node that it has stopped. */
export function journalOf(restoreId: string, change: Partial<Journal> = {}): Journal {
  return {
    restoreId,
    phase: 'preflight',
    served: false,
    stopped: true,
    started: false,
    checked: false,
    undone: false,
    nodes: 3,
    ...change,
  };
}

/** What a change of an inspection may name: whole parts, or fields of them. */
export type Change = {
  readonly [Part in keyof Inspection]?: Inspection[Part] extends readonly unknown[]
    ? Inspection[Part]
    : Inspection[Part] extends object
      ? Partial<Inspection[Part]>
      : Inspection[Part];
};

/** What a healthy node says of itself. */
export function inspection(number: number, change: Change = {}): Inspection {
  const name = `cp${String(number)}`;
  const host = `10.0.0.${String(number)}`;
  const base: Inspection = {
    ok: true,
    hostname: name,
    arch: 'amd64',
    kubelet: { installed: true, active: true, version: null },
    etcd: {
      manifest: 'present',
      version: '3.6.5',
      running: true,
      memberName: name,
      dataDir: '/var/lib/etcd',
      hostDataDir: '/var/lib/etcd',
      walDir: null,
      hostWalDir: null,
      quotaBytes: 2_147_483_648,
      initialCluster: members.map((member) => ({ name: member.name, peerUrl: member.peerUrls[0] as string })),
      peerUrls: [`https://${host}:2380`],
      clientUrls: [`https://${host}:2379`],
      image: 'registry.k8s.io/etcd:3.6.5-0',
      member: liveMember({ id: `a${String(number)}` }),
    },
    apiServer: {
      manifest: true,
      version: 'v1.33.4',
      etcdServers: ['https://127.0.0.1:2379'],
      running: true,
      ready: true,
    },
    identity: {
      etcdCaSha256: hash('a'),
      clusterCaSha256: hash('b'),
      saPubSha256: hash('c'),
      encryptionConfigSha256: null,
    },
    certificates: [{ file: '/etc/kubernetes/pki/etcd/server.crt', daysLeft: 200 }],
    data: { member: true, dbBytes: 60_000_000, kept: [], ownMount: false },
    disk: { size: 1_000_000_000, available: 700_000_000 },
    zstd: true,
    images: [{ name: 'registry.k8s.io/etcd:3.6.5-0', present: true }],
    tools: [{ name: 'etcdutl', version: '3.6.5', arch: 'amd64', sha256: hash('d'), source: 'image' }],
    peers: [],
    held: [],
    journal: null,
    problems: [],
  };
  return Object.fromEntries(
    Object.entries(base).map(([part, value]) => {
      const changed: unknown = (change as Record<string, unknown>)[part];
      return [
        part,
        changed === undefined
          ? value
          : typeof changed === 'object' && changed !== null && !Array.isArray(changed)
            ? { ...(value as object), ...changed }
            : changed,
      ];
    }),
  ) as Inspection;
}

/** A running instance that said this, or why it said nothing. */
export function node(number: number, said: Change | string = {}): InspectedNode {
  const base = { instanceId: `i-${String(number)}`, arch: 'amd64' as const, addresses: [`10.0.0.${String(number)}`] };
  return typeof said === 'string'
    ? { ...base, inspection: null, problem: said }
    : { ...base, inspection: inspection(number, said), problem: null };
}

/** Three healthy nodes and a backup of theirs. */
export function situation(change: Partial<Situation> = {}): Situation {
  return {
    request: REQUEST,
    receipt: receipt(),
    newest: receipt(),
    nodes: [node(1), node(2), node(3)],
    instances: [],
    tools: [],
    officialTools: { '3.6.5': { amd64: { etcdutl: hash('d') } } },
    acknowledgedTools: [],
    diskLimitPercent: 80,
    recordedRevision: 0,
    ...change,
  };
}

/** All of the nodes with the same change. */
export const allNodes = (change: Change): InspectedNode[] => [node(1, change), node(2, change), node(3, change)];
