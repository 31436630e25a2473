import {
  DescribeInstancesCommand,
  type DescribeInstancesCommandInput,
  type EC2Client,
  type Instance,
} from '@aws-sdk/client-ec2';
import { describeError, NoNodeError } from '../shared/errors';

/** An instance as EC2 knows it. `vanished`: it forgets terminated ones after some hours. */
export interface KnownInstance {
  readonly instanceId: string;
  readonly state: 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated' | 'vanished';
  /** Private addresses and host names, in lower case; EC2 takes them from terminated ones. */
  readonly addresses: readonly string[];
  /** null: EC2 does not say, as of terminated ones. */
  readonly vpcId: string | null;
}

/** What finding instances needs. */
export interface FindInstancesDeps {
  readonly ec2: EC2Client;
  readonly controlPlaneTags: Readonly<Record<string, string>>;
}

// EC2 takes 200 values in one filter.
const FILTER_VALUES = 200;

/** All instances with the control plane's tags, whatever their state. Throws NoNodeError when EC2 does not say. */
export async function findByTags({ ec2, controlPlaneTags }: FindInstancesDeps): Promise<KnownInstance[]> {
  return describe(ec2, {
    Filters: Object.entries(controlPlaneTags).map(([tag, value]) => ({ Name: `tag:${tag}`, Values: [value] })),
  });
}

/** What became of instances that a backup knew. One call each: EC2 answers a call with one unknown id among others with an error. */
export async function findByIds({ ec2 }: FindInstancesDeps, ids: readonly string[]): Promise<KnownInstance[]> {
  const found: KnownInstance[] = [];
  for (const instanceId of ids) {
    try {
      found.push(...(await describe(ec2, { InstanceIds: [instanceId] })));
    } catch (error) {
      if (!(error instanceof NoNodeError && isUnknownId(error.cause))) {
        throw error;
      }
      found.push({ instanceId, state: 'vanished', addresses: [], vpcId: null });
    }
  }
  return found;
}

/** Instances at these addresses or private DNS names, whatever their tags and state. Neither is unique in a region: other VPCs may have them too. */
export async function findByHosts({ ec2 }: FindInstancesDeps, hosts: readonly string[]): Promise<KnownInstance[]> {
  const found: KnownInstance[] = [];
  for (const [Name, matches] of [
    ['private-ip-address', (host: string) => /^[\d.]+$/.test(host)],
    ['network-interface.ipv6-addresses.ipv6-address', (host: string) => host.includes(':')],
    ['private-dns-name', (host: string) => !/^[\d.]+$/.test(host) && !host.includes(':')],
  ] as const) {
    const values = hosts.filter(matches);
    for (let at = 0; at < values.length; at += FILTER_VALUES) {
      found.push(...(await describe(ec2, { Filters: [{ Name, Values: values.slice(at, at + FILTER_VALUES) }] })));
    }
  }
  return found;
}

/** Those in a VPC of the others; all of them, where of none of the others a VPC is known. */
export function inVpcsOf(others: readonly KnownInstance[], found: readonly KnownInstance[]): KnownInstance[] {
  const vpcs = new Set(others.flatMap(({ vpcId }) => vpcId ?? []));
  return found.filter(({ vpcId }) => vpcs.size === 0 || (vpcId !== null && vpcs.has(vpcId)));
}

function isUnknownId(error: unknown): boolean {
  return error instanceof Error && error.name.startsWith('InvalidInstanceID');
}

async function describe(ec2: EC2Client, input: DescribeInstancesCommandInput): Promise<KnownInstance[]> {
  const instances: Instance[] = [];
  let token: string | undefined;
  do {
    try {
      const answer = await ec2.send(
        new DescribeInstancesCommand({ ...input, ...(token === undefined ? {} : { NextToken: token }) }),
      );
      instances.push(...(answer.Reservations ?? []).flatMap(({ Instances }) => Instances ?? []));
      token = answer.NextToken;
    } catch (error) {
      throw new NoNodeError(
        `ec2:DescribeInstances of ${JSON.stringify(input.InstanceIds ?? input.Filters)}: got ${describeError(error)}, expected their states; a restore does not go on without knowing what runs: start it again when EC2 answers`,
        error,
      );
    }
  } while (token !== undefined && token !== '');
  return instances.flatMap((instance) =>
    instance.InstanceId === undefined
      ? []
      : {
          instanceId: instance.InstanceId,
          // Without a state nothing says that it is down.
          state: instance.State?.Name ?? 'running',
          addresses: [
            instance.PrivateIpAddress,
            instance.PrivateDnsName,
            instance.Ipv6Address,
            ...(instance.NetworkInterfaces ?? []).flatMap((device) => [
              ...(device.PrivateIpAddresses ?? []).map((address) => address.PrivateIpAddress),
              ...(device.Ipv6Addresses ?? []).map((address) => address.Ipv6Address),
            ]),
          ].flatMap((address) => (address === undefined || address === '' ? [] : address.toLowerCase())),
          vpcId: instance.VpcId ?? null,
        },
  );
}
