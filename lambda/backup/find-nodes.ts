import { DescribeInstancesCommand, type EC2Client, type Filter, type Instance } from '@aws-sdk/client-ec2';
import { DescribeInstanceInformationCommand, type InstanceInformation, type SSMClient } from '@aws-sdk/client-ssm';
import { describeError, NoNodeError } from '../shared/errors';
import type { Node } from './choose-nodes';

/** What finding nodes needs. */
export interface FindNodesDeps {
  readonly ec2: EC2Client;
  readonly ssm: SSMClient;
  readonly clusterName: string;
  /** All of these an instance must carry. */
  readonly controlPlaneTags: Readonly<Record<string, string>>;
}

/** The control-plane nodes that were found. */
export interface FoundNodes {
  readonly nodes: readonly Node[];
  /** Why they were looked up by the ids that were known; undefined: EC2 found them by their tags. */
  readonly byIdsBecause: string | undefined;
}

/**
 * The cluster's running control-plane nodes, with what SSM knows of their agents. When EC2 cannot search by tags, which happens while an
 * availability zone is disrupted, it is asked for `knownIds`. Throws NoNodeError when EC2 or SSM does not say.
 *
 * @param next what to do when EC2 does not answer
 */
export async function findNodes(
  deps: FindNodesDeps,
  knownIds: readonly string[],
  next = 'the next trigger tries again',
): Promise<FoundNodes> {
  let instances: Instance[];
  let byIdsBecause: string | undefined;
  try {
    instances = await describeInstances(deps, next);
  } catch (error) {
    if (!(error instanceof NoNodeError) || knownIds.length === 0) {
      throw error;
    }
    byIdsBecause = error.message;
    instances = await describeKnown(deps, knownIds, next);
  }
  const ids = instances.flatMap(({ InstanceId }) => InstanceId ?? []);
  const agents = ids.length === 0 ? [] : await describeAgents(deps, ids);
  return { nodes: toNodes(instances, agents), byIdsBecause };
}

function toNodes(instances: readonly Instance[], agents: readonly InstanceInformation[]): Node[] {
  return instances.flatMap((instance) => {
    const { InstanceId: instanceId } = instance;
    if (instanceId === undefined) {
      return [];
    }
    const agent = agents.find((information) => information.InstanceId === instanceId);
    return [
      {
        instanceId,
        arch: archOf(instance),
        addresses: addressesOf(instance),
        agentVersion: agent?.AgentVersion,
        pingStatus: agent?.PingStatus,
      },
    ];
  });
}

/** One call per instance: EC2 answers a call with one unknown id among others with an error, and no instance. */
async function describeKnown(deps: FindNodesDeps, ids: readonly string[], next: string): Promise<Instance[]> {
  const instances: Instance[] = [];
  for (const id of ids) {
    try {
      const answer = await deps.ec2.send(
        new DescribeInstancesCommand({ InstanceIds: [id], Filters: filtersOf(deps.controlPlaneTags) }),
      );
      instances.push(...(answer.Reservations ?? []).flatMap(({ Instances }) => Instances ?? []));
    } catch (error) {
      if (!(error instanceof Error && error.name.startsWith('InvalidInstanceID'))) {
        throw new NoNodeError(
          `ec2:DescribeInstances of ${id}, which is known from before, after a call by tags had failed: got ${describeError(error)}, expected the instance; EC2 itself seems to be disturbed; ${next}`,
          error,
        );
      }
    }
  }
  return instances;
}

function filtersOf(tags: Readonly<Record<string, string>>): Filter[] {
  return [
    ...Object.entries(tags).map(([tag, value]) => ({ Name: `tag:${tag}`, Values: [value] })),
    { Name: 'instance-state-name', Values: ['running'] },
  ];
}

async function describeInstances({ ec2, controlPlaneTags }: FindNodesDeps, next: string): Promise<Instance[]> {
  const instances: Instance[] = [];
  let token: string | undefined;
  do {
    try {
      const answer = await ec2.send(
        new DescribeInstancesCommand({
          Filters: filtersOf(controlPlaneTags),
          ...(token === undefined ? {} : { NextToken: token }),
        }),
      );
      instances.push(...(answer.Reservations ?? []).flatMap(({ Instances }) => Instances ?? []));
      token = answer.NextToken;
    } catch (error) {
      throw new NoNodeError(
        `ec2:DescribeInstances by the tags ${JSON.stringify(controlPlaneTags)}: got ${describeError(error)}, expected the control-plane nodes; a call by tags fails while an availability zone is disrupted, and without the nodes' ids there is no other way to find them; ${next}`,
        error,
      );
    }
  } while (token !== undefined && token !== '');
  return instances;
}

async function describeAgents({ ssm }: FindNodesDeps, ids: readonly string[]): Promise<InstanceInformation[]> {
  const agents: InstanceInformation[] = [];
  let token: string | undefined;
  do {
    try {
      const answer = await ssm.send(
        new DescribeInstanceInformationCommand({
          Filters: [{ Key: 'InstanceIds', Values: [...ids] }],
          MaxResults: 50,
          ...(token === undefined ? {} : { NextToken: token }),
        }),
      );
      agents.push(...(answer.InstanceInformationList ?? []));
      token = answer.NextToken;
    } catch (error) {
      throw new NoNodeError(
        `ssm:DescribeInstanceInformation of ${ids.join(', ')}: got ${describeError(error)}, expected the versions of their agents; check the function's role`,
        error,
      );
    }
  } while (token !== undefined && token !== '');
  return agents;
}

function archOf({ Architecture }: Instance): Node['arch'] {
  if (Architecture === 'x86_64') {
    return 'amd64';
  }
  return Architecture === 'arm64' ? 'arm64' : undefined;
}

/** Every address and host name of an instance, as member URLs may have them. */
function addressesOf(instance: Instance): string[] {
  return [
    instance.PrivateIpAddress,
    instance.PrivateDnsName,
    instance.Ipv6Address,
    ...(instance.NetworkInterfaces ?? []).flatMap((device) => [
      ...(device.PrivateIpAddresses ?? []).flatMap((address) => [address.PrivateIpAddress, address.PrivateDnsName]),
      ...(device.Ipv6Addresses ?? []).map((address) => address.Ipv6Address),
    ]),
  ].flatMap((address) => (address === undefined || address === '' ? [] : address.toLowerCase()));
}
