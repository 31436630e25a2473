import type { Announcement } from '../shared/announcement';

/** A running control-plane node, with what SSM knows of its agent. */
export interface Node {
  readonly instanceId: string;
  /** undefined: an architecture that etcd is not built for. */
  readonly arch: 'amd64' | 'arm64' | undefined;
  /** Its private addresses and host names. */
  readonly addresses: readonly string[];
  /** undefined: SSM does not know the instance. */
  readonly agentVersion: string | undefined;
  /** Minutes late: a hint, no proof. */
  readonly pingStatus: string | undefined;
}

/** A node that can be asked for a snapshot. */
export type UsableNode = Node & { readonly arch: 'amd64' | 'arm64' };

/** The first agent that passes parameters as environment variables instead of pasting them into the script. */
export const MINIMUM_AGENT_VERSION = '3.3.2746.0';

/** What is known of a cluster before a backup. */
export interface Knowledge {
  readonly nodes: readonly Node[];
  /** Instances whose last snapshot command failed. */
  readonly failedLast: readonly string[];
  /** Instances that failed for this same backup before, oldest failure first. */
  readonly failedBefore: readonly string[];
  readonly leaderInstanceId: string | undefined;
}

/** The nodes in the order in which to ask them, and why each of the others cannot be asked. */
export function chooseNodes(knowledge: Knowledge): {
  readonly order: readonly UsableNode[];
  readonly unusable: readonly string[];
} {
  const { nodes, failedLast, failedBefore, leaderInstanceId } = knowledge;
  const usable = nodes.filter((node): node is UsableNode => whyUnusable(node) === undefined);
  const ranks = (node: Node): readonly number[] => [
    failedBefore.indexOf(node.instanceId),
    Number(failedLast.includes(node.instanceId)),
    Number(node.pingStatus !== 'Online'),
    Number(node.instanceId === leaderInstanceId),
  ];
  return {
    order: usable.toSorted((a, b) => compareLists(ranks(a), ranks(b)) || (a.instanceId < b.instanceId ? -1 : 1)),
    unusable: nodes.flatMap((node) => whyUnusable(node) ?? []),
  };
}

/** The instance that led at the last backup, by the addresses in its members' URLs. */
export function leaderInstance(previous: Announcement | undefined, nodes: readonly Node[]): string | undefined {
  if (previous === undefined) {
    return undefined;
  }
  if (previous.isLeader) {
    return previous.instanceId;
  }
  const leader = previous.members.find(({ id }) => id === previous.leaderId);
  const hosts = [...(leader?.peerUrls ?? []), ...(leader?.clientUrls ?? [])].flatMap((url) => {
    const host = URL.parse(url)
      ?.hostname.toLowerCase()
      .replace(/^\[|\]$/g, '');
    return host === undefined || host === '' ? [] : host;
  });
  return nodes.find(({ addresses }) => addresses.some((address) => hosts.includes(address)))?.instanceId;
}

/** Compares versions of numbers and dots, number by number. Negative: `a` is older. */
export function compareVersions(a: string, b: string): number {
  const numbers = (version: string) => version.split('.').map(Number);
  return compareLists(numbers(a), numbers(b));
}

function compareLists(a: readonly number[], b: readonly number[]): number {
  const length = Math.max(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}

function whyUnusable({ instanceId, arch, agentVersion }: Node): string | undefined {
  if (arch === undefined) {
    return `${instanceId} has an architecture other than x86_64 and arm64`;
  }
  if (agentVersion === undefined) {
    return `${instanceId} is not registered with SSM, expected its agent to be: check the agent, its role and its route to SSM`;
  }
  if (!/^\d+(\.\d+)*$/.test(agentVersion) || compareVersions(agentVersion, MINIMUM_AGENT_VERSION) < 0) {
    return `${instanceId} has SSM agent ${agentVersion}, expected ${MINIMUM_AGENT_VERSION} or newer: update the agent`;
  }
  return undefined;
}
