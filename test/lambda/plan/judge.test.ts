import { judge, type Situation } from '../../../lambda/plan/judge';
import type { Inspection } from '../../../lambda/shared/inspection';
import { FORCE_FIELDS, type Forceable } from '../../../lambda/shared/restore-state';
import { allNodes, hash, journalOf, liveMember, node, receipt, REQUEST, situation } from './situation';

const names = (change: Partial<Situation>) => judge(situation(change)).refusals.map(({ name }) => name);
const stopped = (number: number) => ({
  instanceId: `i-${String(number)}`,
  state: 'stopped' as const,
  addresses: [`10.0.0.${String(number)}`],
  vpcId: 'vpc-1',
});
/** Members that run without a quorum. */
const withoutQuorum = liveMember({ linearizable: false, leaderId: '0', alarms: null });

test('nothing speaks against three healthy nodes and a backup of theirs', () => {
  const judgement = judge(situation());
  expect(judgement).toMatchObject({
    refusals: [],
    warnings: [],
    absent: [],
    highestRevision: 1500,
    clusterIdsBefore: ['c1'],
  });
  expect(judgement.nodes).toEqual(
    [1, 2, 3].map((number) => ({
      instanceId: `i-${String(number)}`,
      memberName: `cp${String(number)}`,
      peerUrls: `https://10.0.0.${String(number)}:2380`,
      arch: 'amd64',
      etcdVersion: '3.6.5',
      before: { etcd: true, apiServer: true, kubelet: true },
    })),
  );
});

test('data that is gone everywhere is no reason to refuse', () => {
  const gone = { etcd: { running: false, member: null }, data: { member: false, dbBytes: null }, tools: [] };
  const judgement = judge(
    situation({
      nodes: [1, 2, 3].map((number) =>
        node(number, { ...gone, etcd: { ...node(number).inspection?.etcd, ...gone.etcd } }),
      ),
      tools: [{ key: 'k', version: '3.6.5', arch: 'amd64', name: 'etcdutl', sha256: hash('d') }],
    }),
  );
  expect(judgement).toMatchObject({ refusals: [], survivors: [], highestRevision: 1001 });
  expect(judgement.nodes).toHaveLength(3);
});

describe('refusals of a node', () => {
  test.each<[string, Parameters<typeof node>[1], string]>([
    ['unreachable-node', 'i-2 does not answer', 'i-2 does not answer'],
    [
      'external-etcd',
      { etcd: { manifest: 'missing', member: null } },
      'i-2 has a manifest of kube-apiserver and none of etcd',
    ],
    ['node-problem', { problems: ['the manifest starts etcd with --config-file=/x'] }, '--config-file=/x'],
    ['no-kubelet', { kubelet: { installed: false, active: false } }, 'got no kubelet'],
    ['own-mount', { data: { ownMount: true } }, 'is a mount of its own'],
    [
      'certificate-ended',
      { certificates: [{ file: '/pki/server.crt', daysLeft: -3 }] },
      '/pki/server.crt ended 3 days ago',
    ],
    ['no-image', { images: [{ name: 'etcd:3.6.5-0', present: false }] }, 'the image etcd:3.6.5-0 is not on this node'],
    ['unfinished-restore', { journal: journalOf('20261119T000000Z') }, '{"rollback":"20261119T000000Z"}'],
    [
      'disk',
      { disk: { size: 1_000_000_000, available: 380_000_000 } },
      'would fill the disk to 80 %, expected at most 79 %',
    ],
    ['quota', { etcd: { quotaBytes: 49_999_999 } }, "the database has 50 MB and etcd's quota is 50 MB"],
    ['no-zstd', { zstd: false }, 'is compressed with zstd'],
    ['no-version', { etcd: { version: null, image: 'etcd@sha256:00' } }, 'the image etcd@sha256:00 does not name it'],
    ['newer-etcd', { etcd: { version: '3.5.30' } }, '20261120T140000Z is of etcd 3.6.5 and this node runs 3.5.30'],
    [
      'kubernetes-version',
      { apiServer: { version: 'v1.34.0' } },
      'is of Kubernetes v1.33.1 and this node runs v1.34.0',
    ],
    ['etcd-ca', { identity: { etcdCaSha256: hash('f') } }, "etcd's CA has SHA-256 ffffffffffffffff…"],
    ['cluster-ca', { identity: { clusterCaSha256: hash('f') } }, "the cluster's CA has"],
    ['service-account-key', { identity: { saPubSha256: hash('f') } }, 'sa.pub has'],
    ['no-tool', { tools: [] }, 'npm run tools -- add 3.6.5'],
    [
      'unknown-tool',
      { tools: [{ name: 'etcdutl', version: '3.6.5', arch: 'amd64', sha256: hash('e'), source: 'image' }] },
      `has SHA-256 ${hash('e')}`,
    ],
    [
      'api-server-elsewhere',
      { apiServer: { etcdServers: ['https://10.9.9.9:2379'] } },
      '--etcd-servers=https://10.9.9.9:2379',
    ],
    [
      'api-server-elsewhere',
      { apiServer: { etcdServers: ['https://127.0.0.1:4001'] } },
      '--etcd-servers=https://127.0.0.1:4001',
    ],
    ['api-server-elsewhere', { apiServer: { etcdServers: [] } }, '--etcd-servers=(none)'],
  ])('%s: %j', (name, said, sentence) => {
    const base = node(2).inspection;
    const change =
      typeof said === 'string' || said?.etcd === undefined ? said : { ...said, etcd: { ...base?.etcd, ...said.etcd } };
    const { refusals } = judge(situation({ nodes: [node(1), node(2, change), node(3)], diskLimitPercent: 79 }));
    const found = refusals.filter((refusal) => refusal.name === name);
    expect(found).toHaveLength(1);
    expect(found[0]?.sentence).toContain(sentence);
    expect(found[0]?.force).toBe((FORCE_FIELDS as Record<string, string>)[name] ?? null);
  });

  test('a journal that has stopped nothing is taken over by the next restore', () => {
    const journal = journalOf('20261119T000000Z', { stopped: false, nodes: null });
    expect(names({ nodes: [node(1, { journal }), node(2), node(3)] })).toEqual([]);
  });

  test('a disk that older kept data can be removed from is a warning', () => {
    const disk = { size: 1_000_000_000, available: 300_000_000 };
    const kept = ['20261101T000000Z', '20261102T000000Z'];
    const judgement = judge(situation({ nodes: [node(1, { disk, data: { kept } }), node(2), node(3)] }));
    expect(judgement.refusals).toEqual([]);
    expect(judgement.warnings).toEqual([expect.stringContaining('(20261101T000000Z) is removed to make room')]);
    expect(names({ nodes: [node(1, { disk, data: { kept: kept.slice(1) } }), node(2), node(3)] })).toEqual(['disk']);
  });

  test('three copies and a WAL fit exactly, or are refused', () => {
    // 20 MB + 2 * 50 MB + 64 MiB on 1 GB, of which less than 81 % may be used.
    const need = 120_000_000 + 64 * 1024 * 1024;
    const free = (available: number) => allNodes({ disk: { size: 1_000_000_000, available } });
    expect(names({ nodes: free(190_000_001 + need) })).toEqual([]);
    expect(names({ nodes: free(190_000_000 + need) })).toEqual(['disk', 'disk', 'disk']);
  });
});

describe('what can be forced', () => {
  const cases: Record<Forceable, Partial<Situation>> = {
    'missing-member': { nodes: [node(1), node(2)] },
    'kubernetes-version': { nodes: allNodes({ apiServer: { version: 'v1.32.9' } }) },
    'cluster-ca': { nodes: allNodes({ identity: { clusterCaSha256: hash('f') } }) },
    'etcd-ca': { nodes: allNodes({ identity: { etcdCaSha256: hash('f') } }) },
    'service-account-key': { nodes: allNodes({ identity: { saPubSha256: hash('f') } }) },
    'encryption-key': { receipt: receipt({ identity: { ...receipt().identity, encryptionConfigSha256: hash('f') } }) },
    quota: {
      receipt: receipt({ sizeBytes: 3_000_000_000 }),
      nodes: [1, 2, 3].map((number) => node(number, { disk: { size: 1e12, available: 9e11 } })),
    },
    'unknown-tool': { officialTools: {} },
    'api-server-elsewhere': { nodes: allNodes({ apiServer: { etcdServers: ['https://10.9.9.9:2379'] } }) },
  };

  test.each(Object.entries(cases))('%s', (name, change) => {
    const refused = judge(situation(change));
    expect([...new Set(refused.refusals.map((refusal) => refusal.name))]).toEqual([name]);
    const forced = judge(situation({ ...change, request: { ...REQUEST, forced: [name as Forceable] } }));
    expect(forced.refusals).toEqual([]);
    expect(forced.warnings).toContainEqual(expect.stringMatching(new RegExp(`^forced \\(${name}\\): `)));
  });

  test('another name forces nothing, and a newer etcd cannot be forced', () => {
    const all = Object.keys(FORCE_FIELDS) as Forceable[];
    const older = [1, 2, 3].map((number) =>
      node(number, { etcd: { ...node(number).inspection?.etcd, version: '3.5.30' } }),
    );
    expect(names({ ...cases.quota, request: { ...REQUEST, forced: all.filter((name) => name !== 'quota') } })).toEqual([
      'quota',
      'quota',
      'quota',
    ]);
    expect(names({ nodes: older, request: { ...REQUEST, forced: all } })).toContain('newer-etcd');
  });
});

describe('versions of etcd', () => {
  const of = (etcdVersion: string, storageVersion: string | null, now: string) =>
    judge(
      situation({
        receipt: receipt({
          announced: { ...receipt().announced, etcdVersion },
          snapshot: { ...receipt().snapshot, storageVersion },
        }),
        nodes: [1, 2, 3].map((number) => node(number, { etcd: { ...node(number).inspection?.etcd, version: now } })),
        acknowledgedTools: [hash('d')],
      }),
    );

  test.each([
    ['3.6.5', '3.6.0', '3.6.1', [], 0],
    ['3.5.30', null, '3.6.5', [], 3],
    ['3.5.30', null, '3.7.0', ['older-etcd'], 0],
    ['3.7.0', '3.7.0', '3.6.5', ['newer-etcd'], 0],
    // The cluster was half way through an upgrade: its storage is already the newer one.
    ['3.6.5', '3.7.0', '3.6.5', ['newer-etcd'], 0],
  ])('backup of %s with storage %s on %s', (then, storage, now, refusals, warnings) => {
    const judgement = of(then, storage, now);
    expect([...new Set(judgement.refusals.map(({ name }) => name))]).toEqual(refusals);
    expect(judgement.warnings.filter((warning) => warning.includes('upgrades the data'))).toHaveLength(warnings);
  });
});

describe('tools', () => {
  const tool = (name: 'etcdctl' | 'etcdutl', version: string, character: string) => ({
    name,
    version,
    arch: 'amd64' as const,
    sha256: hash(character),
    source: 'image' as const,
  });
  const stored = (name: string, version: string, character: string, arch = 'amd64') => ({
    key: 'k',
    name,
    version,
    arch,
    sha256: hash(character),
  });
  const of = (
    version: string,
    tools: ReturnType<typeof tool>[],
    inBucket: ReturnType<typeof stored>[],
    acknowledgedTools: string[] = [],
  ) =>
    names({
      receipt: receipt({
        announced: { ...receipt().announced, etcdVersion: version },
        snapshot: { ...receipt().snapshot, storageVersion: null },
      }),
      nodes: [1, 2, 3].map((number) => node(number, { etcd: { ...node(number).inspection?.etcd, version }, tools })),
      tools: inBucket,
      acknowledgedTools,
    }).slice(0, 1);

  test.each<[string, string, ReturnType<typeof tool>[], ReturnType<typeof stored>[], string[], string[]]>([
    [
      'etcdctl of 3.5.10 restores with a raised revision',
      '3.5.10',
      [tool('etcdctl', '3.5.10', '9')],
      [],
      [hash('9')],
      [],
    ],
    ['etcdctl of 3.5.9 does not', '3.5.9', [tool('etcdctl', '3.5.9', '9')], [], [hash('9')], ['no-tool']],
    ['etcdctl of 3.6 does not', '3.6.2', [tool('etcdctl', '3.6.2', '9')], [], [hash('9')], ['no-tool']],
    [
      'where the image has none the bucket has it',
      '3.6.2',
      [tool('etcdctl', '3.6.2', '9')],
      [stored('etcdutl', '3.6.2', '8')],
      [hash('8')],
      [],
    ],
    ['what the bucket has must be known too', '3.6.2', [], [stored('etcdutl', '3.6.2', '8')], [], ['unknown-tool']],
    [
      'of several in the bucket one that is known is enough',
      '3.6.2',
      [],
      [stored('etcdutl', '3.6.2', '8'), stored('etcdutl', '3.6.2', '7')],
      [hash('7')],
      [],
    ],
    ['another version in the bucket is none', '3.6.2', [], [stored('etcdutl', '3.6.4', '8')], [hash('8')], ['no-tool']],
    ['another architecture is none', '3.6.2', [], [stored('etcdutl', '3.6.2', '8', 'arm64')], [hash('8')], ['no-tool']],
    [
      "the image's own goes before the bucket's",
      '3.6.2',
      [tool('etcdutl', '3.6.2', '9')],
      [stored('etcdutl', '3.6.2', '8')],
      [hash('8')],
      ['unknown-tool'],
    ],
  ])('%s', (_, version, tools, inBucket, acknowledged, expected) => {
    expect(of(version, tools, inBucket, acknowledged)).toEqual(expected);
  });
});

test.each([
  'https://localhost:2379',
  'https://[::1]:2379',
  'https://127.0.0.2:2379',
  'https://10.0.0.3:2379',
  'https://CP3.internal:2379',
])('an API server that asks %s asks a member that is restored', (url) => {
  const third = { ...node(3), addresses: ['10.0.0.3', 'cp3.internal'] };
  const asking = node(1, { apiServer: { etcdServers: [url] } });
  expect(names({ nodes: [asking, node(2), third] })).toEqual([]);
});

test('members with IPv6 addresses and host names are told from others', () => {
  const members = [
    { id: 'a1', name: 'cp1', peerUrls: ['https://[2001:db8::1]:2380'], clientUrls: [], isLearner: false },
    { id: 'a2', name: 'cp2', peerUrls: ['https://cp2.internal:2380'], clientUrls: [], isLearner: false },
  ];
  const first = node(1, {
    etcd: { ...node(1).inspection?.etcd, peerUrls: ['https://[2001:db8::1]:2380'], member: liveMember({ members }) },
  });
  const change = { nodes: [{ ...first, addresses: ['2001:db8::1'] }], receipt: receipt(), newest: null };
  expect(names(change)).toEqual(['missing-member']);
  const down = { instanceId: 'i-2', state: 'stopped' as const, addresses: ['cp2.internal'], vpcId: null };
  expect(names({ ...change, instances: [down] })).toEqual([]);
});

describe('fingerprints', () => {
  test('what is not known is a warning and no refusal', () => {
    const identity = { etcdCaSha256: null, clusterCaSha256: null, saPubSha256: null };
    const judgement = judge(situation({ nodes: [node(1, { identity }), node(2), node(3)] }));
    expect(judgement.refusals).toEqual([]);
    expect(judgement.warnings).toHaveLength(3);
    expect(judgement.warnings[0]).toContain('could not be compared: its fingerprint is not known of this node');
  });

  test('encryption that was configured after the backup is a warning, one that is gone a refusal', () => {
    const now = allNodes({ identity: { encryptionConfigSha256: hash('e') } });
    expect(judge(situation({ nodes: now })).warnings).toHaveLength(3);
    const then = receipt({ identity: { ...receipt().identity, encryptionConfigSha256: hash('e') } });
    expect(names({ receipt: then, nodes: now })).toEqual([]);
    expect(names({ receipt: then })).toEqual(['encryption-key', 'encryption-key', 'encryption-key']);
  });
});

describe('missing members', () => {
  const two = [node(1), node(2)];

  test('one that EC2 knows to be stopped is left out', () => {
    const judgement = judge(situation({ nodes: two, instances: [stopped(3)] }));
    expect(judgement.refusals).toEqual([]);
    expect(judgement.absent).toEqual([
      {
        member: { name: 'cp3', peerUrls: ['https://10.0.0.3:2380'] },
        down: true,
        why: 'EC2 says that i-3 is stopped, and nothing answers at https://10.0.0.3:2380',
      },
    ]);
    expect(judgement.warnings).toContainEqual(expect.stringContaining('do not start that machine again'));
    expect(judgement.nodes).toHaveLength(2);
  });

  test.each(['running', 'pending', 'stopping', 'shutting-down'] as const)(
    'one that EC2 says is %s is refused',
    (state) => {
      const { refusals } = judge(situation({ nodes: two, instances: [{ ...stopped(3), state }] }));
      expect(refusals.map(({ name }) => name)).toEqual(['missing-member']);
      expect(refusals[0]?.sentence).toContain(`i-3 with its address is ${state}`);
    },
  );

  test('one that EC2 has forgotten is accounted for by an instance of the control plane that is gone, each by one', () => {
    const vanished = { instanceId: 'i-9', state: 'vanished' as const, addresses: [], vpcId: null };
    expect(names({ nodes: two, instances: [vanished] })).toEqual([]);
    expect(names({ nodes: [node(1)], instances: [vanished] })).toEqual(['missing-member']);
    expect(names({ nodes: two, instances: [] })).toEqual(['missing-member']);
  });

  test('one that answers is refused whatever EC2 says', () => {
    const peers = [{ url: 'https://10.0.0.3:2380', answers: true }];
    const { refusals } = judge(situation({ nodes: [node(1, { peers }), node(2)], instances: [stopped(3)] }));
    expect(refusals[0]?.sentence).toContain('something answers at https://10.0.0.3:2380, as i-1 found');
  });

  test('a machine that is blank has taken its place: it is left out, and joins later', () => {
    const blank = node(3, {
      etcd: { ...node(3).inspection?.etcd, manifest: 'missing', memberName: '', peerUrls: [], member: null },
      apiServer: { manifest: false },
    });
    const judgement = judge(situation({ nodes: [...two, blank] }));
    expect(judgement.refusals).toEqual([]);
    expect(judgement.nodes.map(({ instanceId }) => instanceId)).toEqual(['i-1', 'i-2']);
    expect(judgement.warnings).toContainEqual(
      expect.stringContaining("i-3 has no etcd: it is left out, and joins by 'kubeadm join'"),
    );
  });

  test('a node that runs and does not answer is refused for itself only', () => {
    expect(names({ nodes: [...two, node(3, 'i-3 does not answer')] })).toEqual(['unreachable-node']);
  });

  test('one that was removed from the cluster is not missed while a quorum says so', () => {
    const members = liveMember().members.slice(0, 2);
    const live = { etcd: { ...node(1).inspection?.etcd, member: liveMember({ members }) } };
    expect(names({ nodes: [node(1, live), node(2)] })).toEqual([]);
  });

  test('a first node that came back empty does not make the others forgotten', () => {
    const empty = liveMember({ revision: 1, members: liveMember().members.slice(0, 1) });
    const first = node(1, { etcd: { ...node(1).inspection?.etcd, member: empty } });
    expect(names({ nodes: [first] })).toEqual(['missing-member', 'missing-member']);
  });

  test('right after a restore its record stands for the backup that is not there yet', () => {
    const empty = liveMember({ revision: 203, members: liveMember().members.slice(0, 1) });
    const first = node(1, { etcd: { ...node(1).inspection?.etcd, member: empty } });
    const change = { nodes: [first], newest: null, receipt: receipt(), recordedRevision: 204 };
    expect(names(change)).toEqual(['missing-member', 'missing-member']);
    expect(names({ ...change, recordedRevision: 203 })).toEqual([]);
    expect(judge(situation(change)).warnings).toContainEqual(
      expect.stringContaining(
        'serves revision 203, and the cluster has begun with 204 after a restore, as its record says: it came back empty or old',
      ),
    );
  });

  test('a first node that came back empty is told to be stopped at once', () => {
    const empty = liveMember({ revision: 203, members: liveMember().members.slice(0, 1) });
    const first = node(1, { etcd: { ...node(1).inspection?.etcd, member: empty } });
    const dead = (number: number) => node(number, { etcd: { ...node(number).inspection?.etcd, member: null } });
    const judgement = judge(situation({ nodes: [first, dead(2), dead(3)] }));
    expect(judgement.refusals).toEqual([]);
    expect(judgement.warnings).toEqual([
      expect.stringMatching(
        /^i-1 \(cp1\): this member serves revision 203, and backup 20261120T140000Z has 1000: it came back empty or old, with a quorum of its own/,
      ),
    ]);
  });

  test('one that only an old manifest names is missed while no member has a quorum', () => {
    const initialCluster = [{ name: 'cp4', peerUrl: 'https://10.0.0.4:2380' }];
    const nodes = [1, 2, 3].map((number) =>
      node(number, { etcd: { ...node(number).inspection?.etcd, initialCluster, member: withoutQuorum } }),
    );
    expect(names({ nodes })).toEqual(['missing-member']);
  });
});

describe('survivors', () => {
  const survivor = (number: number, revision: number, raftAppliedIndex = '1') =>
    node(number, {
      etcd: { ...node(number).inspection?.etcd, member: { ...withoutQuorum, revision, raftAppliedIndex } },
    });
  const from = { request: { ...REQUEST, from: 'survivor' as const }, receipt: null };

  test('the one at the highest revision goes first, of equal ones the one that has applied most', () => {
    const judgement = judge(
      situation({
        nodes: [
          survivor(1, 1200, '900'),
          survivor(2, 1400, '18446744073709551614'),
          survivor(3, 1400, '18446744073709551615'),
        ],
      }),
    );
    expect(judgement.survivors.map(({ instanceId }) => instanceId)).toEqual(['i-3', 'i-2', 'i-1']);
    expect(judgement.highestRevision).toBe(1400);
  });

  test('an applied index counts for nothing beside a higher revision', () => {
    const judgement = judge(
      situation({ nodes: [survivor(1, 1200, '9000'), survivor(2, 1400, '10'), survivor(3, 1100)] }),
    );
    expect(judgement.survivors.map(({ instanceId }) => instanceId)).toEqual(['i-2', 'i-1', 'i-3']);
  });

  test('a learner is none', () => {
    const learner = node(1, {
      etcd: { ...node(1).inspection?.etcd, member: liveMember({ isLearner: true, revision: 9000 }) },
    });
    const judgement = judge(situation({ nodes: [learner, survivor(2, 1400), survivor(3, 1300)] }));
    expect(judgement.survivors[0]?.instanceId).toBe('i-2');
    expect(judgement.highestRevision).toBe(9000);
  });

  test('without one a restore from it is refused', () => {
    const dead = [1, 2, 3].map((number) => node(number, { etcd: { ...node(number).inspection?.etcd, member: null } }));
    expect(names({ ...from, nodes: dead })).toEqual(['no-survivor']);
  });

  test('one that is older than the newest backup is refused', () => {
    expect(names({ ...from, nodes: [survivor(1, 999), survivor(2, 10), survivor(3, 10)] })).toEqual(['survivor-older']);
    expect(names({ ...from, nodes: [survivor(1, 1000), survivor(2, 10), survivor(3, 10)] })).toEqual([]);
  });

  test('one that is older than what the last restore began with is refused, also while there is no backup since', () => {
    const nodes = [survivor(1, 999), survivor(2, 10), survivor(3, 10)];
    const { refusals } = judge(situation({ ...from, nodes, newest: null, recordedRevision: 1000 }));
    expect(refusals.map(({ name }) => name)).toEqual(['survivor-older']);
    expect(refusals[0]?.sentence).toContain(
      'the survivor cp1 is at revision 999, and the cluster has begun with 1000 after a restore, as its record says; expected',
    );
    expect(names({ ...from, nodes, newest: null, recordedRevision: 999 })).toEqual([]);
    // Of two that know, the higher counts.
    expect(names({ ...from, nodes: [survivor(1, 1500), ...nodes.slice(1)], recordedRevision: 1501 })).toEqual([
      'survivor-older',
    ]);
  });

  test('one with a quorum is a warning', () => {
    expect(judge(situation(from)).warnings).toEqual([expect.stringContaining('cp1 has a quorum: the cluster serves')]);
  });

  test('its own size has to fit on the disk', () => {
    const nodes = [1, 2, 3].map((number) => node(number, { disk: { size: 1_000_000_000, available: 400_000_000 } }));
    // 3 * 60 MB + 64 MiB.
    expect(names({ ...from, nodes, diskLimitPercent: 83 })).toEqual(['disk', 'disk', 'disk']);
    expect(names({ ...from, nodes, diskLimitPercent: 84 })).toEqual([]);
  });
});

test('the highest revision is that of members, receipts and records, whichever is highest', () => {
  expect(judge(situation({ recordedRevision: 5000 })).highestRevision).toBe(5000);
  const newest = receipt({ announced: { ...receipt().announced, liveRevision: 7000 } });
  expect(judge(situation({ newest })).highestRevision).toBe(7000);
});

test('two members with one name or one URL cannot be restored', () => {
  const twin = node(2, { etcd: { ...node(2).inspection?.etcd, memberName: 'cp1' } });
  expect(names({ nodes: [node(1), twin, node(3)], instances: [stopped(2)] })).toContain('member-flags');
});

test('no node with etcd is refused, and so is a control plane without any API server', () => {
  expect(names({ nodes: [], request: { ...REQUEST, forced: ['missing-member'] } })).toEqual(['no-nodes']);
  expect(names({ nodes: allNodes({ apiServer: { manifest: false } }) })).toEqual(['api-server-elsewhere']);
});

const [HELD, HELD_TOO] = ['20261101T000000Z', '20261102T000000Z'];
const [MANAGER, SCHEDULER] = ['kube-controller-manager', 'kube-scheduler'];

test.each<[string, Inspection['held'][], 'controllers' | null, string[]]>([
  ['none', [], null, []],
  [
    'both on two nodes',
    [1, 2].map(() => [
      { component: MANAGER, restoreId: HELD },
      { component: SCHEDULER, restoreId: HELD },
    ]),
    null,
    [`${MANAGER} and ${SCHEDULER} on i-1, i-2: held back since restore ${HELD}; this restore lets them go`],
  ],
  [
    'one, and held again',
    [[], [{ component: SCHEDULER, restoreId: HELD }]],
    'controllers',
    [`${SCHEDULER} on i-2: held back since restore ${HELD}; this restore holds them back as well`],
  ],
  [
    'one of each of two restores',
    [[{ component: SCHEDULER, restoreId: HELD_TOO }], [{ component: SCHEDULER, restoreId: HELD }]],
    null,
    [
      `${SCHEDULER} on i-2: held back since restore ${HELD};`,
      `${SCHEDULER} on i-1: held back since restore ${HELD_TOO};`,
    ],
  ],
  [
    'one by two restores',
    [
      [
        { component: SCHEDULER, restoreId: HELD },
        { component: SCHEDULER, restoreId: HELD_TOO },
      ],
    ],
    null,
    [
      `i-1: the manifest of ${SCHEDULER} is in manifests.before-${HELD} and manifests.before-${HELD_TOO}, expected it in one`,
    ],
  ],
])('held controllers (%s: %j) with hold %p are told of', (_, held, hold, sentences) => {
  const { refusals, warnings } = judge(
    situation({
      request: { ...REQUEST, hold },
      nodes: [1, 2, 3].map((number) => node(number, { held: held[number - 1] ?? [] })),
    }),
  );
  expect(refusals).toEqual([]);
  expect(warnings).toEqual(sentences.map((sentence) => expect.stringContaining(sentence) as unknown));
});

test('alarms, findings and the kind of the backup are told', () => {
  const { warnings } = judge(
    situation({
      receipt: receipt({
        kind: 'pre-restore',
        findings: [{ finding: 'corrupt-alarm', sentence: 'a CORRUPT alarm is raised' }],
        snapshot: { ...receipt().snapshot, alarms: [{ memberId: 'a1', alarm: 'NOSPACE' }] },
      }),
    }),
  );
  expect(warnings).toEqual([
    '20261120T140000Z holds what an earlier restore replaced',
    expect.stringContaining('holds the alarm NOSPACE'),
    'finding corrupt-alarm of 20261120T140000Z: a CORRUPT alarm is raised',
  ]);
});
