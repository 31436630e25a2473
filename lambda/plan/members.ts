import type { Inspection } from '../shared/inspection';
import type { Receipt } from '../shared/receipt';
import type { KnownInstance } from './find-instances';
import type { InspectedNode } from './inspect';

/** A member that the cluster has, or had, by all that is known. */
export interface KnownMember {
  /** '' for one that was added and has never started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
}

/** Where members are known from. */
export interface MemberSources {
  /** The receipt of the backup that is restored, and the newest one. */
  readonly receipts: readonly Receipt[];
  readonly inspections: readonly Inspection[];
  /** What the cluster had come to for certain, by its newest backup or restore; 0: not known. Infinity: no member's list is taken for all. */
  readonly newestRevision: number;
}

/**
 * The members that ought to be there. While a member with a quorum says who they are, that is the list, unless it is behind the newest
 * backup, as a first node that came back empty is. Without one: everybody whom a backup, a manifest or a member names.
 */
export function knownMembers({ receipts, inspections, newestRevision }: MemberSources): KnownMember[] {
  const live = inspections.flatMap(({ etcd }) => etcd.member ?? []);
  const quorum = live.find(({ linearizable, revision }) => linearizable && revision >= newestRevision);
  if (quorum !== undefined) {
    return merge(quorum.members);
  }
  return merge([
    ...receipts.flatMap(({ announced }) => announced.members),
    ...live.flatMap(({ members }) => members),
    ...inspections.flatMap(({ etcd }) =>
      etcd.initialCluster.map(({ name, peerUrl }) => ({ name, peerUrls: [peerUrl] })),
    ),
  ]);
}

/** The same name or a common URL is the same member. */
export function isSameMember(a: KnownMember, b: KnownMember): boolean {
  return (a.name !== '' && a.name === b.name) || a.peerUrls.some((url) => b.peerUrls.includes(url));
}

function merge(all: readonly KnownMember[]): KnownMember[] {
  const members: KnownMember[] = [];
  for (const { name, peerUrls } of all) {
    const index = members.findIndex((other) => isSameMember(other, { name, peerUrls }));
    const known = members[index];
    if (known === undefined) {
      members.push({ name, peerUrls: [...peerUrls] });
    } else {
      members[index] = {
        name: known.name === '' ? name : known.name,
        peerUrls: [...new Set([...known.peerUrls, ...peerUrls])],
      };
    }
  }
  return members;
}

/** Host names and addresses of URLs, in lower case, without brackets. */
export function hostsOf(urls: readonly string[]): string[] {
  return [
    ...new Set(
      urls.flatMap((url) => {
        const host = URL.parse(url)
          ?.hostname.toLowerCase()
          .replace(/^\[|\]$/g, '');
        return host === undefined || host === '' ? [] : host;
      }),
    ),
  ];
}

/** Whether a member that no node is, is known to be down: `why` says by what, or what stands against it. */
export interface Absence {
  readonly member: KnownMember;
  readonly down: boolean;
  readonly why: string;
}

const DOWN: readonly KnownInstance['state'][] = ['stopped', 'terminated', 'vanished'];

/**
 * Holds members that no node is against EC2 and the nodes' own knocking. A terminated instance has no address any more: an instance that
 * was of the control plane, is gone, and had nobody else's address, accounts for one member at whose address EC2 knows nothing.
 */
export function judgeAbsent(
  absent: readonly KnownMember[],
  { nodes, instances }: { readonly nodes: readonly InspectedNode[]; readonly instances: readonly KnownInstance[] },
): Absence[] {
  const gone = instances.filter(({ state, addresses }) => DOWN.includes(state) && addresses.length === 0);
  return absent.map((member) => {
    const urls = member.peerUrls.join(', ');
    const answering = nodes.filter(({ inspection }) =>
      inspection?.peers.some(({ url, answers }) => answers && member.peerUrls.includes(url)),
    );
    const hosts = hostsOf(member.peerUrls);
    const there = instances.filter(({ addresses }) => addresses.some((address) => hosts.includes(address)));
    const alive = there.find(({ state }) => !DOWN.includes(state));
    const blank = nodes.find(
      ({ addresses, inspection }) =>
        inspection?.etcd.manifest === 'missing' && addresses.some((address) => hosts.includes(address)),
    );
    if (answering.length > 0) {
      return {
        member,
        down: false,
        why: `something answers at ${urls}, as ${answering.map(({ instanceId }) => instanceId).join(', ')} found`,
      };
    }
    if (blank !== undefined) {
      return { member, down: true, why: `${blank.instanceId} has its address now, and no etcd` };
    }
    if (alive !== undefined) {
      return { member, down: false, why: `EC2 says that ${alive.instanceId} with its address is ${alive.state}` };
    }
    const dead = there[0] ?? gone.shift();
    return dead === undefined
      ? { member, down: false, why: `EC2 knows no instance at ${urls}, and none of the control plane that is gone` }
      : {
          member,
          down: true,
          why: `EC2 says that ${dead.instanceId} is ${dead.state === 'vanished' ? 'not there any more' : dead.state}, and nothing answers at ${urls}`,
        };
  });
}
