import { AwsError } from './aws-error';
import type { CredentialStore } from './credentials';
import { startJsonService, type Endpoint, type Operation } from './endpoint';
import { page, type Fleet, type FleetNode } from './fleet';
import type { Iam } from './iam';
import { check, type Field } from './shape';
import { commandStatus, type Command, type Invocation, type SsmCommands } from './ssm-commands';
import { resolveParameters, type SsmDocument } from './ssm-document';

const COMMENT_MAX = 100;
const DEFAULT_TIMEOUT_SECONDS = 3600;
const DETAIL_CHARACTERS = 2500;

const text: Field = { type: 'string', required: true, min: 1 };
const commandId: Field = { type: 'string', pattern: /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/ };
const instanceId: Field = { type: 'string', pattern: /^(i-[0-9a-f]{8,17}|mi-[0-9a-f]{17})$/ };
const nextToken: Field = { type: 'string' };

const SEND_COMMAND: Readonly<Record<string, Field>> = {
  DocumentName: text,
  DocumentVersion: { type: 'string', pattern: /^(\$LATEST|\$DEFAULT|[1-9][0-9]*)$/ },
  DocumentHash: { type: 'string', max: 256 },
  DocumentHashType: { type: 'string', values: ['Sha256'] },
  InstanceIds: { type: 'list', required: true, min: 1, max: 50, of: instanceId },
  Parameters: { type: 'map', of: { type: 'list', of: { type: 'string' } } },
  TimeoutSeconds: { type: 'integer', min: 30, max: 2_592_000 },
  Comment: { type: 'string', max: COMMENT_MAX },
};

const COMMAND_FILTERS: Field = {
  type: 'list',
  min: 1,
  max: 5,
  of: {
    type: 'object',
    fields: {
      key: { type: 'string', required: true, values: ['InvokedAfter', 'InvokedBefore', 'Status', 'DocumentName'] },
      value: { type: 'string', required: true, min: 1, max: 128 },
    },
  },
};
const LIST: Readonly<Record<string, Field>> = {
  CommandId: commandId,
  InstanceId: instanceId,
  MaxResults: { type: 'integer', min: 1, max: 50 },
  NextToken: nextToken,
  Filters: COMMAND_FILTERS,
};
const INSTANCE_FILTERS: Field = {
  type: 'list',
  of: {
    type: 'object',
    fields: {
      Key: { type: 'string', required: true, values: ['InstanceIds', 'PingStatus', 'PlatformTypes', 'AgentVersion'] },
      Values: { type: 'list', required: true, min: 1, max: 100, of: text },
    },
  },
};

const instant = (value: string): number => {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/.test(value))
    throw new AwsError('InvalidFilterValue', `The filter value '${value}' is not a time as 2026-11-21T00:00:00Z`);
  return Date.parse(value);
};

const passes = (command: Command, { key, value }: { readonly key: string; readonly value: string }): boolean => {
  switch (key) {
    case 'InvokedAfter':
      return command.requestedAt.getTime() >= instant(value);
    case 'InvokedBefore':
      return command.requestedAt.getTime() < instant(value);
    case 'Status':
      return commandStatus(command) === value;
    default:
      return command.document.name === value;
  }
};

const describeCommand = (command: Command): unknown => {
  const finished = command.invocations.filter(({ status }) => status !== 'Pending' && status !== 'InProgress');
  const count = (matching: (invocation: Invocation) => boolean): number => finished.filter(matching).length;
  return {
    CommandId: command.commandId,
    DocumentName: command.document.name,
    DocumentVersion: command.document.version,
    Comment: command.comment,
    Parameters: command.parameters,
    InstanceIds: command.invocations.map((invocation) => invocation.instanceId),
    Targets: [],
    RequestedDateTime: command.requestedAt.getTime() / 1000,
    ExpiresAfter:
      (command.requestedAt.getTime() + (command.timeoutSeconds + command.document.timeoutSeconds) * 1000) / 1000,
    Status: commandStatus(command),
    StatusDetails: commandStatus(command),
    MaxConcurrency: '50',
    MaxErrors: '0',
    TargetCount: command.invocations.length,
    CompletedCount: finished.length,
    ErrorCount: count(({ status }) => status === 'Failed'),
    DeliveryTimedOutCount: count(({ statusDetails }) => statusDetails === 'DeliveryTimedOut'),
    TimeoutSeconds: command.timeoutSeconds,
  };
};

const finished = (invocation: Invocation): boolean => invocation.endedAt !== undefined;

const describeInvocation = (command: Command, invocation: Invocation, details: boolean): unknown => ({
  CommandId: command.commandId,
  InstanceId: invocation.instanceId,
  InstanceName: '',
  Comment: command.comment,
  DocumentName: command.document.name,
  DocumentVersion: command.document.version,
  RequestedDateTime: command.requestedAt.getTime() / 1000,
  Status: invocation.status,
  StatusDetails: invocation.statusDetails,
  StandardOutputUrl: '',
  StandardErrorUrl: '',
  CommandPlugins: details
    ? [
        {
          Name: command.document.step,
          Status: invocation.status,
          StatusDetails: invocation.statusDetails,
          ResponseCode: invocation.responseCode,
          Output: finished(invocation) ? invocation.stdout.slice(0, DETAIL_CHARACTERS) : '',
        },
      ]
    : [],
});

const invocationDetail = (command: Command, invocation: Invocation): unknown => {
  const { startedAt, endedAt } = invocation;
  const done = finished(invocation);
  return {
    CommandId: command.commandId,
    InstanceId: invocation.instanceId,
    Comment: command.comment,
    DocumentName: command.document.name,
    DocumentVersion: command.document.version,
    PluginName: command.document.step,
    ResponseCode: invocation.responseCode,
    ExecutionStartDateTime: startedAt?.toISOString() ?? '',
    ExecutionElapsedTime:
      startedAt !== undefined && endedAt !== undefined
        ? `PT${String((endedAt.getTime() - startedAt.getTime()) / 1000)}S`
        : '',
    ExecutionEndDateTime: startedAt === undefined ? '' : (endedAt?.toISOString() ?? ''),
    Status: invocation.status,
    StatusDetails: invocation.statusDetails,
    StandardOutputContent: done ? invocation.stdout : '',
    StandardOutputUrl: '',
    StandardErrorContent: done ? invocation.stderr : '',
    StandardErrorUrl: '',
    CloudWatchOutputConfig: { CloudWatchLogGroupName: '', CloudWatchOutputEnabled: false },
  };
};

const describeNode = (node: FleetNode): unknown => ({
  InstanceId: node.instanceId,
  PingStatus: node.pingStatus,
  LastPingDateTime: Date.now() / 1000,
  AgentVersion: node.agentVersion,
  IsLatestVersion: false,
  PlatformType: 'Linux',
  PlatformName: 'Linux',
  PlatformVersion: 'lab',
  ResourceType: 'EC2Instance',
  IPAddress: node.privateIp,
  ComputerName: node.privateDnsName,
});

const nodePasses = (
  node: FleetNode,
  { Key, Values }: { readonly Key: string; readonly Values: readonly string[] },
): boolean => {
  const value = {
    InstanceIds: node.instanceId,
    PingStatus: node.pingStatus,
    PlatformTypes: 'Linux',
    AgentVersion: node.agentVersion,
  }[Key];
  return value !== undefined && Values.includes(value);
};

/** Starts the SSM stand-in: SendCommand, GetCommandInvocation, ListCommands, ListCommandInvocations, DescribeInstanceInformation. */
export const startSsm = (options: {
  readonly commands: SsmCommands;
  readonly documents: ReadonlyMap<string, SsmDocument>;
  readonly fleet: Fleet;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> => {
  const { commands, documents, fleet, iam } = options;

  const findDocument = (input: Record<string, unknown>): SsmDocument => {
    const name = input.DocumentName as string;
    const document = documents.get(name);
    if (document === undefined) throw new AwsError('InvalidDocument', `Document with name ${name} does not exist.`);
    const version = (input.DocumentVersion as string | undefined) ?? '$DEFAULT';
    if (!version.startsWith('$') && version !== document.version)
      throw new AwsError('InvalidDocumentVersion', `Document ${name} has no version ${version}, only 1`);
    if (input.DocumentHash !== undefined && input.DocumentHash !== document.sha256) {
      throw new AwsError(
        'InvalidDocument',
        `The provided hash ${input.DocumentHash as string} does not match that of document ${name}`,
      );
    }
    return document;
  };

  const findNodes = (ids: readonly string[]): FleetNode[] => {
    const nodes = ids.map((id) => fleet.find(id));
    const invalid = ids.filter(
      (_, index) => nodes[index]?.pingStatus !== 'Online' || (nodes[index].state ?? 'running') !== 'running',
    );
    if (invalid.length > 0)
      throw new AwsError(
        'InvalidInstanceId',
        `Instances [[${invalid.join(', ')}]] not in a valid state for account ${iam.account}`,
      );
    return nodes.filter((node) => node !== undefined);
  };

  const filtered = (input: Record<string, unknown>): Command[] => {
    const filters = (input.Filters ?? []) as { key: string; value: string }[];
    return commands
      .visible()
      .filter((command) => input.CommandId === undefined || command.commandId === input.CommandId)
      .filter(
        (command) =>
          input.InstanceId === undefined ||
          command.invocations.some((invocation) => invocation.instanceId === input.InstanceId),
      )
      .filter((command) => filters.every((filter) => passes(command, filter)));
  };

  const paged = <Item>(
    items: readonly Item[],
    input: Record<string, unknown>,
  ): { items: readonly Item[]; token: { NextToken?: string } } => {
    const result = page(
      items,
      (input.MaxResults as number | undefined) ?? 50,
      input.NextToken as string | undefined,
      'InvalidNextToken',
    );
    return { items: result.items, token: result.next === undefined ? {} : { NextToken: result.next } };
  };

  const everything = (action: string): { readonly action: string; readonly resource: string }[] => [
    { action: `ssm:${action}`, resource: '*' },
  ];

  const operations: Record<string, Operation> = {
    SendCommand: async (input, caller) => {
      check(input, SEND_COMMAND);
      const ids = input.InstanceIds as string[];
      const name = input.DocumentName as string;
      await iam.authorize(caller, [
        {
          action: 'ssm:SendCommand',
          resource: documents.get(name)?.arn ?? `arn:aws:ssm:${options.region}:${iam.account}:document/${name}`,
        },
        ...ids.map((id) => ({
          action: 'ssm:SendCommand',
          resource: `arn:aws:ec2:${options.region}:${iam.account}:instance/${id}`,
          context: Object.fromEntries(
            Object.entries(fleet.find(id)?.tags ?? {}).flatMap(([key, value]) => [
              [`ssm:resourceTag/${key}`, value],
              [`aws:ResourceTag/${key}`, value],
            ]),
          ),
        })),
      ]);
      const document = findDocument(input);
      const nodes = findNodes(ids);
      const given = (input.Parameters ?? {}) as Record<string, string[]>;
      const values = resolveParameters(document, given);
      const command = commands.send({
        document,
        nodes,
        given,
        values,
        comment: (input.Comment as string | undefined) ?? '',
        timeoutSeconds: (input.TimeoutSeconds as number | undefined) ?? DEFAULT_TIMEOUT_SECONDS,
      });
      return { Command: describeCommand(command) };
    },
    GetCommandInvocation: async (input, caller) => {
      check(input, {
        CommandId: { ...commandId, required: true },
        InstanceId: { ...instanceId, required: true },
        PluginName: { type: 'string', min: 4 },
      });
      await iam.authorize(caller, everything('GetCommandInvocation'));
      const command = commands.visible().find((candidate) => candidate.commandId === input.CommandId);
      const invocation = command?.invocations.find((candidate) => candidate.instanceId === input.InstanceId);
      if (command === undefined || invocation === undefined) {
        throw new AwsError(
          'InvocationDoesNotExist',
          `no invocation of command ${String(input.CommandId)} on ${String(input.InstanceId)}, or none yet`,
        );
      }
      if (input.PluginName !== undefined && input.PluginName !== command.document.step) {
        throw new AwsError(
          'InvalidPluginName',
          `the command has no step ${input.PluginName as string}, only ${command.document.step}`,
        );
      }
      return invocationDetail(command, invocation);
    },
    ListCommands: async (input, caller) => {
      check(input, LIST);
      await iam.authorize(caller, everything('ListCommands'));
      const { items, token } = paged(filtered(input), input);
      return { Commands: items.map(describeCommand), ...token };
    },
    ListCommandInvocations: async (input, caller) => {
      check(input, { ...LIST, Details: { type: 'boolean' } });
      await iam.authorize(caller, everything('ListCommandInvocations'));
      const all = filtered(input).flatMap((command) =>
        command.invocations
          .filter((invocation) => input.InstanceId === undefined || invocation.instanceId === input.InstanceId)
          .map((invocation) => describeInvocation(command, invocation, input.Details === true)),
      );
      const { items, token } = paged(all, input);
      return { CommandInvocations: items, ...token };
    },
    DescribeInstanceInformation: async (input, caller) => {
      check(input, {
        Filters: INSTANCE_FILTERS,
        MaxResults: { type: 'integer', min: 5, max: 50 },
        NextToken: nextToken,
      });
      await iam.authorize(caller, everything('DescribeInstanceInformation'));
      const filters = (input.Filters ?? []) as { Key: string; Values: string[] }[];
      const nodes = fleet
        .all()
        .filter(
          (node) => (node.state ?? 'running') !== 'terminated' && filters.every((filter) => nodePasses(node, filter)),
        );
      const { items, token } = paged(nodes, input);
      return { InstanceInformationList: items.map(describeNode), ...token };
    },
  };

  return startJsonService({
    service: 'ssm',
    prefix: 'AmazonSSM',
    operations,
    region: options.region,
    port: options.port,
    credentials: options.credentials,
  });
};
