import { chooseNodes, compareVersions, leaderInstance, type Node } from '../../../lambda/backup/choose-nodes';
import { makeAnnouncement } from '../../../lambda/backup/announce';
import { NODE_1, NODE_2, NODE_3, snapshotResult } from './cloud';

const node = (instanceId: string, change: Partial<Node> = {}): Node => ({
  instanceId,
  arch: 'amd64',
  addresses: [],
  agentVersion: '3.3.2746.0',
  pingStatus: 'Online',
  ...change,
});

const order = (knowledge: Partial<Parameters<typeof chooseNodes>[0]>) =>
  chooseNodes({
    nodes: [node('i-c'), node('i-a'), node('i-b')],
    failedLast: [],
    failedBefore: [],
    leaderInstanceId: undefined,
    ...knowledge,
  }).order.map(({ instanceId }) => instanceId);

test.each([
  ['nothing is known: by instance id', {}, ['i-a', 'i-b', 'i-c']],
  ['a leader is known: it comes last', { leaderInstanceId: 'i-a' }, ['i-b', 'i-c', 'i-a']],
  [
    'one failed last: it comes last, after the leader too',
    { failedLast: ['i-b'], leaderInstanceId: 'i-a' },
    ['i-c', 'i-a', 'i-b'],
  ],
  [
    'all failed last: followers first',
    { failedLast: ['i-a', 'i-b', 'i-c'], leaderInstanceId: 'i-a' },
    ['i-b', 'i-c', 'i-a'],
  ],
  [
    'some failed for this backup: oldest failure first, after the others',
    { failedBefore: ['i-b', 'i-a'] },
    ['i-c', 'i-b', 'i-a'],
  ],
  [
    'an agent is lost: after those online, before those that failed',
    { nodes: [node('i-a', { pingStatus: 'ConnectionLost' }), node('i-b'), node('i-c')], failedLast: ['i-b'] },
    ['i-c', 'i-a', 'i-b'],
  ],
])('when %s', (_, knowledge, expected) => {
  expect(order(knowledge)).toEqual(expected);
});

test.each([
  ['3.3.2746.0', true],
  ['3.3.2747.1', true],
  ['3.10.0.0', true],
  ['4.0', true],
  ['3.3.2745.9', false],
  ['3.3.987.0', false],
  ['3.3.1611.0', false],
  ['3.3', false],
  ['unknown', false],
])('an agent of version %s may be used: %s', (agentVersion, usable) => {
  const { order: usables, unusable } = chooseNodes({
    nodes: [node('i-a', { agentVersion })],
    failedLast: [],
    failedBefore: [],
    leaderInstanceId: undefined,
  });
  expect(usables).toHaveLength(usable ? 1 : 0);
  expect(unusable).toEqual(
    usable ? [] : [`i-a has SSM agent ${agentVersion}, expected 3.3.2746.0 or newer: update the agent`],
  );
});

test('an instance that SSM does not know, or of another architecture, is not used and the reason is given', () => {
  const { order: usables, unusable } = chooseNodes({
    nodes: [node('i-a', { agentVersion: undefined }), node('i-b', { arch: undefined })],
    failedLast: [],
    failedBefore: [],
    leaderInstanceId: undefined,
  });
  expect(usables).toEqual([]);
  expect(unusable).toEqual([
    'i-a is not registered with SSM, expected its agent to be: check the agent, its role and its route to SSM',
    'i-b has an architecture other than x86_64 and arm64',
  ]);
});

test.each([
  ['1.2.3', '1.2.3', 0],
  ['1.2', '1.2.0', 0],
  ['1.10', '1.9', 1],
  ['3.5.21', '3.6.0', -1],
])('version %s against %s has the sign %d', (a, b, sign) => {
  expect(Math.sign(compareVersions(a, b))).toBe(sign);
});

describe('the leader at the last backup', () => {
  const previous = (change: Parameters<typeof snapshotResult>[1]) =>
    makeAnnouncement({
      result: snapshotResult('20261120T130000Z', change),
      command: { instanceId: NODE_1, commandId: 'c-1' },
      earlierCommands: [],
      trigger: { kind: 'on-demand', reason: null, keepDays: null },
      clusterName: 'lab',
      bucket: 'b',
      previous: undefined,
      officialTools: {},
      acknowledgedTools: [],
      controlPlane: [],
      findings: [],
    });
  const members = (url: string) => [{ id: 'a3', name: 'cp3', peerUrls: [url], clientUrls: [], isLearner: false }];

  test.each([
    ['an IPv4 address', 'https://10.0.0.3:2380'],
    ['an IPv6 address', 'https://[fd00::3]:2380'],
    ['a host name in capitals', 'https://IP-10-0-0-3.ec2.internal:2380'],
  ])('is found by %s in its URLs', (_, url) => {
    const nodes = [
      node(NODE_2, { addresses: ['10.0.0.2'] }),
      node(NODE_3, { addresses: ['10.0.0.3', 'fd00::3', 'ip-10-0-0-3.ec2.internal'] }),
    ];
    expect(leaderInstance(previous({ leaderId: 'a3', members: members(url) }), nodes)).toBe(NODE_3);
  });

  test('is the node that was backed up when that one led', () => {
    expect(leaderInstance(previous({ isLeader: true }), [])).toBe(NODE_1);
  });

  test('is unknown without a last backup, or when no instance has its address', () => {
    expect(leaderInstance(undefined, [node(NODE_1)])).toBeUndefined();
    expect(leaderInstance(previous({}), [node(NODE_1)])).toBeUndefined();
  });
});
