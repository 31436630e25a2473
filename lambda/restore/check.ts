import type { RestoreNode } from '../shared/restore-state';
import type { NodeResults } from './node-results';
import { nameOf } from './run-on-all';

/** What CheckEtcd found on one node. */
export interface CheckedMember {
  readonly node: RestoreNode;
  readonly value: Pick<NodeResults['etcd'], 'member' | 'wrote'>;
}

/** What the restored cluster has to be. */
export interface ExpectedCluster {
  /** Snapshot's revision and bump, exactly: nothing can have written since. */
  readonly revision: number;
  readonly nodes: readonly RestoreNode[];
  /** Hex ids of clusters that were there before. */
  readonly clusterIdsBefore: readonly string[];
}

/** Everything by which the restored members are not the one cluster that was to come out, each with what was expected. Empty: all is well. */
export function checkMembers(expected: ExpectedCluster, members: readonly CheckedMember[]): string[] {
  return [
    ...members.flatMap((member) => [
      ...checkRevision(expected, member),
      ...checkList(expected, member),
      ...checkState(member),
    ]),
    ...checkClusterId(expected, members),
    ...checkHashes(members),
  ];
}

function checkRevision({ revision }: ExpectedCluster, { node, value }: CheckedMember): string[] {
  return value.member.revision === revision
    ? []
    : [
        `revision of ${nameOf(node)}: got ${String(value.member.revision)}, expected ${String(revision)}, the snapshot's and the bump; something wrote before the API servers were started, or other data was started`,
      ];
}

function checkList({ nodes }: ExpectedCluster, { node, value }: CheckedMember): string[] {
  const lines = (members: readonly { readonly name: string; readonly urls: readonly string[] }[]) =>
    members
      .map(({ name, urls }) => `${name}=${urls.toSorted().join(',')}`)
      .toSorted()
      .join(' ');
  const got = lines(value.member.members.map(({ name, peerUrls }) => ({ name, urls: peerUrls })));
  const expected = lines(nodes.map(({ memberName, peerUrls }) => ({ name: memberName, urls: peerUrls.split(',') })));
  return got === expected ? [] : [`members as ${nameOf(node)} lists them: got '${got}', expected '${expected}'`];
}

function checkState({ node, value }: CheckedMember): string[] {
  const { member, wrote } = value;
  const learners = member.members.filter(({ isLearner }) => isLearner).map(({ name }) => name);
  return [
    ...(member.leaderId === '0' ? [`leader as ${nameOf(node)} knows it: got none, expected one`] : []),
    ...(member.isLearner || learners.length > 0
      ? [`learners on ${nameOf(node)}: got ${learners.join(', ')}, expected none: a restored member votes`]
      : []),
    ...(member.alarms.length > 0
      ? [
          `alarms on ${nameOf(node)}: got ${member.alarms.map(({ memberId, alarm }) => `${alarm} of ${memberId}`).join(', ')}, expected none`,
        ]
      : []),
    ...(wrote ? [] : [`a write on ${nameOf(node)}: got none, expected a lease to be granted and revoked`]),
  ];
}

function checkClusterId({ clusterIdsBefore }: ExpectedCluster, members: readonly CheckedMember[]): string[] {
  const ids = [...new Set(members.map(({ value }) => value.member.clusterId))];
  const old = ids.filter((id) => clusterIdsBefore.includes(id));
  return [
    ...(ids.length > 1
      ? [
          `cluster ids: got ${members.map(({ node, value }) => `${value.member.clusterId} on ${nameOf(node)}`).join(', ')}, expected one on all`,
        ]
      : []),
    ...(old.length > 0
      ? [`cluster id: got ${old.join(', ')}, expected a new one: a member of the old cluster was started`]
      : []),
  ];
}

function checkHashes(members: readonly CheckedMember[]): string[] {
  const hashes = members.map(({ value }) => `${String(value.member.hashKv)} at ${String(value.member.hashRevision)}`);
  return new Set(hashes).size <= 1
    ? []
    : [
        `hashes of the key space: got ${members.map(({ node }, index) => `${hashes[index] ?? ''} on ${nameOf(node)}`).join(', ')}, expected one at one revision on all`,
      ];
}
