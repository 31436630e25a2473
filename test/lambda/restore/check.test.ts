import { type CheckedMember, checkMembers } from '../../../lambda/restore/check';
import { missingComponents, staleLeases } from '../../../lambda/restore/check-phases';
import type { NodeResults } from '../../../lambda/restore/node-results';
import { NODES, restoredMember } from './world';

const EXPECTED = { revision: 1_000_001_500, nodes: NODES, clusterIdsBefore: ['cdf818194e3a8c32'] };

/** Three members, the second one changed. */
function members(change: Record<string, unknown> = {}, wrote = true): CheckedMember[] {
  return NODES.map((node, index) => ({
    node,
    value: { member: restoredMember(index === 1 ? change : {}), wrote: index === 1 ? wrote : true },
  }));
}

test('three equal members of a new cluster at the expected revision are well', () => {
  expect(checkMembers(EXPECTED, members())).toEqual([]);
});

test('so is a single one', () => {
  const [node] = NODES;
  const [first] = restoredMember().members;
  const value = { member: restoredMember({ members: [first] }), wrote: true };
  expect(node === undefined ? ['no node'] : checkMembers({ ...EXPECTED, nodes: [node] }, [{ node, value }])).toEqual(
    [],
  );
});

test('the URLs of a member that advertises two count as a set', () => {
  const two = {
    ...EXPECTED,
    nodes: NODES.map((node) => ({ ...node, peerUrls: `https://[fd00::1]:2380,${node.peerUrls}` })),
  };
  const lists = members().map(({ node, value }) => ({
    node,
    value: {
      ...value,
      member: {
        ...value.member,
        members: value.member.members.map((member) => ({
          ...member,
          peerUrls: [...member.peerUrls, 'https://[fd00::1]:2380'],
        })),
      },
    },
  }));
  expect(checkMembers(two, lists)).toEqual([]);
});

const list = restoredMember().members;

test.each([
  ['a revision above', { revision: 1_000_001_501 }, /^revision of .*\(cp2\): got 1000001501, expected 1000001500/],
  ['a revision below', { revision: 1_000_001_499 }, /^revision of .*\(cp2\): got 1000001499/],
  ['another cluster id', { clusterId: 'aaaa' }, /^cluster ids: got .*aaaa on .*\(cp2\).*, expected one on all/],
  ['no leader', { leaderId: '0' }, /^leader as .*\(cp2\) knows it: got none/],
  [
    'an alarm',
    { alarms: [{ memberId: 'b2', alarm: 'NOSPACE' }] },
    /^alarms on .*\(cp2\): got NOSPACE of b2, expected none/,
  ],
  [
    'another hash',
    { hashKv: 98 },
    /^hashes of the key space: got 99 at 1000001500 on .*, 98 at 1000001500 on .*\(cp2\)/,
  ],
  ['a hash at another revision', { hashRevision: 7 }, /^hashes of the key space: .*99 at 7 on/],
  [
    'a member too few',
    { members: list.slice(1) },
    /^members as .*\(cp2\) lists them: got 'cp2=.* cp3=.*', expected 'cp1=/,
  ],
  ['a member too many', { members: [...list, { ...list[0], name: 'cp4' }] }, /^members as .*got '.*cp4=/],
  ['another URL', { members: [{ ...list[0], peerUrls: ['https://10.9.9.9:2380'] }, ...list.slice(1)] }, /10\.9\.9\.9/],
  [
    'a learner',
    { members: [{ ...list[0], isLearner: true }, ...list.slice(1)] },
    /^learners on .*got cp1, expected none/,
  ],
])('%s on one member is told', (_, change, message) => {
  expect(checkMembers(EXPECTED, members(change))).toEqual([expect.stringMatching(message)]);
});

test('a member that takes no write is told', () => {
  expect(checkMembers(EXPECTED, members({}, false))).toEqual([
    expect.stringMatching(/^a write on .*\(cp2\): got none/),
  ]);
});

test('the id of a cluster that was there before is told', () => {
  expect(checkMembers({ ...EXPECTED, clusterIdsBefore: ['ffff000011112222'] }, members())).toEqual([
    expect.stringMatching(/^cluster id: got ffff000011112222, expected a new one/),
  ]);
});

test('everything is told at once', () => {
  expect(
    checkMembers(EXPECTED, members({ revision: 1, leaderId: '0', clusterId: 'aa', hashKv: 1 }, false)),
  ).toHaveLength(5);
});

test.each([
  [['10.0.0.1'], null],
  [['10.0.0.1', '10.0.0.2', 'fd00::3'], null],
  [['FD00:0::3'], null],
  // No more than there are nodes, and still of one that is gone.
  [['10.0.0.1', '10.0.0.2', '10.0.0.9'], '10.0.0.9'],
  [['10.0.0.9', '10.0.0.1', '10.0.0.2', 'fd00::3', '10.0.0.8'], '10.0.0.8, 10.0.0.9'],
])("leases %j beside three nodes' API servers: %p is warned of", (masterleases, stale) => {
  const advertised = [['10.0.0.1'], ['10.0.0.2'], ['fd00::3']];
  expect(staleLeases(advertised.map((own) => ({ value: { advertised: own, masterleases } })))).toEqual(
    stale === null
      ? []
      : [expect.stringContaining(`got ${stale} beside the restored nodes' API servers (10.0.0.1, 10.0.0.2, fd00::3)`)],
  );
});

test.each<[NodeResults['cluster']['running'][], 'controllers' | null, string[]]>([
  [[['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'], ['etcd']], null, []],
  [
    [
      ['etcd', 'kube-apiserver', 'kube-controller-manager'],
      ['etcd', 'kube-scheduler'],
    ],
    null,
    [],
  ],
  [
    [
      ['etcd', 'kube-apiserver'],
      ['etcd', 'kube-apiserver', 'kube-scheduler'],
    ],
    null,
    ['kube-controller-manager'],
  ],
  [[['etcd', 'kube-apiserver']], 'controllers', []],
  [[['etcd']], 'controllers', ['kube-apiserver']],
])('with %j running and hold %p: %j is told to run nowhere', (running, hold, missing) => {
  expect(
    missingComponents(
      running.map((each) => ({ value: { running: each } })),
      hold,
    ),
  ).toEqual(missing.map((component) => expect.stringMatching(`^${component} runs on no node`) as unknown));
});
