import { createHash } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import { bucketSettings } from './bucket-settings';
import { readDefinition } from './definition';
import { readPattern } from './event-pattern';
import type { EventBus } from './events';
import type { Iam } from './iam';
import type { KeySpec, KmsKeys } from './kms-keys';
import type { Lambda } from './lambda';
import { Properties } from './properties';
import type { Queues } from './queues';
import { applyBucket } from './s3';
import type { Scheduler } from './scheduler';
import { parseDocument, withS3At, type SsmDocument } from './ssm-document';
import type { StateMachines } from './state-machines';
import type { Assembly, Environment, Identity, Resolver, TemplateResource } from './template';
import type { Topics } from './topics';

/** Where the resources of a template are created. */
export interface Services {
  readonly environment: Environment;
  readonly assembly: Assembly;
  readonly keys: KmsKeys;
  readonly iam: Iam;
  readonly lambda: Lambda;
  readonly queues: Queues;
  readonly topics: Topics;
  readonly scheduler: Scheduler;
  readonly events: EventBus;
  readonly stateMachines: StateMachines;
  readonly documents: Map<string, SsmDocument>;
  readonly s3: S3Client;
  readonly s3Url: string;
  /** Bucket name to its policy; the lab's S3 enforces none. */
  readonly bucketPolicies: Map<string, unknown>;
  /** Logical id of a managed policy to the ARN of a role of the lab's own that has it and nothing else. */
  readonly policyHolders: Map<string, string>;
  readonly notApplied: string[];
}

interface Created {
  readonly logicalId: string;
  readonly identity: Identity;
  readonly properties: Properties;
  readonly services: Services;
}

interface ResourceType {
  readonly identify: (options: {
    readonly name: string;
    readonly uuid: string;
    readonly given: (property: string) => string | undefined;
    readonly environment: Environment;
  }) => Identity;
  readonly create: (created: Created) => Promise<void> | void;
}

const accepted =
  (...names: readonly string[]): ResourceType['create'] =>
  ({ properties }) => {
    properties.ignore(...names);
    properties.done();
  };

const listOfText = (properties: Properties, name: string): string[] => {
  const value = properties.any(name) ?? [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw new Error(`${name}: got ${JSON.stringify(value)}, expected a list of strings`);
  return value;
};

const roleArn = (account: string, name: string): string => `arn:aws:iam::${account}:role/${name}`;

const createKey = ({ identity, properties, services }: Created): void => {
  const spec = properties.optionalText('KeySpec') ?? 'SYMMETRIC_DEFAULT';
  if (spec !== 'SYMMETRIC_DEFAULT' && spec !== 'ECC_NIST_P256')
    throw new Error(`KeySpec: got ${spec}, expected SYMMETRIC_DEFAULT or ECC_NIST_P256`);
  const expectedUsage: Record<KeySpec, 'ENCRYPT_DECRYPT' | 'SIGN_VERIFY'> = {
    SYMMETRIC_DEFAULT: 'ENCRYPT_DECRYPT',
    ECC_NIST_P256: 'SIGN_VERIFY',
  };
  properties.only('KeyUsage', expectedUsage[spec]);
  services.keys.create({
    keyId: identity.ref,
    arn: identity.attributes.Arn ?? '',
    spec,
    usage: expectedUsage[spec],
    description: properties.optionalText('Description') ?? '',
    policy: properties.any('KeyPolicy'),
    enabled: properties.optionalBoolean('Enabled') ?? true,
  });
  properties.ignore('EnableKeyRotation', 'RotationPeriodInDays', 'PendingWindowInDays', 'Tags');
  properties.done();
};

const createRole = ({ identity, properties, services }: Created): void => {
  const arn = identity.attributes.Arn ?? '';
  services.iam.addRole(arn);
  for (const policy of properties.list('Policies')) {
    services.iam.attach(arn, { name: policy.text('PolicyName'), policy: policy.any('PolicyDocument') });
    policy.done();
  }
  const managed = listOfText(properties, 'ManagedPolicyArns');
  if (managed.length > 0)
    throw new Error(
      `ManagedPolicyArns: got ${managed.join(', ')}, expected none: the lab does not know what AWS puts into them`,
    );
  properties.ignore('AssumeRolePolicyDocument', 'Description', 'RoleName', 'Path', 'MaxSessionDuration', 'Tags');
  properties.done();
};

const createPolicy = ({ properties, services }: Created): void => {
  const policy = { name: properties.text('PolicyName'), policy: properties.any('PolicyDocument') };
  for (const role of listOfText(properties, 'Roles'))
    services.iam.attach(roleArn(services.environment.account, role), policy);
  properties.done();
};

// The template attaches a managed policy to nobody: people get them. Somebody has to hold it, so that it can be tried.
const createManagedPolicy = ({ logicalId, identity, properties, services }: Created): void => {
  const policy = { name: identity.ref, policy: properties.any('PolicyDocument') };
  const holder = roleArn(services.environment.account, `holder-of-${logicalId}`);
  services.iam.addRole(holder);
  services.iam.attach(holder, policy);
  services.policyHolders.set(logicalId, holder);
  for (const role of listOfText(properties, 'Roles'))
    services.iam.attach(roleArn(services.environment.account, role), policy);
  properties.ignore('Description', 'ManagedPolicyName', 'Path');
  properties.done();
};

const createStateMachine = ({ logicalId, identity, properties, services }: Created): void => {
  properties.only('StateMachineType', 'STANDARD');
  const definition = readDefinition(properties.text('DefinitionString'));
  for (const functionArn of definition.tasks.values()) services.lambda.find(functionArn);
  const role = properties.text('RoleArn');
  services.iam.policiesOf(role);
  services.stateMachines.machines.push({
    logicalId,
    name: identity.attributes.Name ?? '',
    arn: identity.ref,
    roleArn: role,
    definition,
  });
  properties.ignore('StateMachineName', 'LoggingConfiguration', 'TracingConfiguration', 'Tags');
  properties.done();
};

const createFunction = ({ logicalId, identity, properties, services }: Created): void => {
  const code = properties.object('Code');
  code.ignore('S3Bucket');
  const key = code.text('S3Key');
  code.done();
  const codeDir = services.assembly.codeDirs.get(key);
  if (codeDir === undefined) throw new Error(`code ${key}: not an asset of the assembly`);
  const environment = properties.optionalObject('Environment');
  const logging = properties.optionalObject('LoggingConfig');
  logging?.ignore('LogFormat', 'ApplicationLogLevel', 'SystemLogLevel');
  const logGroup = logging?.optionalText('LogGroup') ?? `/aws/lambda/${identity.ref}`;
  properties.only('Runtime', 'nodejs24.x');
  const architectures = listOfText(properties, 'Architectures');
  const host = process.arch === 'arm64' ? 'arm64' : 'x86_64';
  if ((architectures[0] ?? 'x86_64') !== host)
    services.notApplied.push(
      `function ${logicalId}: architecture ${architectures.join()} (it runs on this host's, ${host})`,
    );
  services.lambda.add({
    logicalId,
    name: identity.ref,
    arn: identity.attributes.Arn ?? '',
    roleArn: properties.text('Role'),
    codeDir,
    handler: properties.text('Handler'),
    timeoutSeconds: properties.optionalNumber('Timeout') ?? 3,
    memoryMiB: properties.optionalNumber('MemorySize') ?? 128,
    environment: (environment?.any('Variables') ?? {}) as Record<string, string>,
    logGroup,
  });
  for (const taken of [environment, logging]) taken?.done();
  properties.ignore('Description', 'FunctionName', 'EphemeralStorage', 'TracingConfig', 'Tags');
  properties.done();
};

const createEventInvokeConfig = ({ properties, services }: Created): void => {
  const name = properties.text('FunctionName');
  properties.only('Qualifier', '$LATEST');
  const destinations = properties.optionalObject('DestinationConfig');
  const onFailure = destinations?.optionalObject('OnFailure');
  const queueArn = onFailure?.text('Destination');
  if (queueArn !== undefined) services.queues.byArn(queueArn);
  for (const taken of [onFailure, destinations]) taken?.done();
  services.lambda.setEventInvoke(name, {
    maximumRetryAttempts: properties.optionalNumber('MaximumRetryAttempts') ?? 2,
    maximumEventAgeSeconds: properties.optionalNumber('MaximumEventAgeInSeconds') ?? 21_600,
    ...(queueArn === undefined ? {} : { onFailureQueueArn: queueArn }),
  });
  properties.done();
};

const createSchedule = ({ logicalId, identity, properties, services }: Created): void => {
  const target = properties.object('Target');
  const deadLetters = target.optionalObject('DeadLetterConfig');
  const deadLetterArn = deadLetters?.text('Arn');
  if (deadLetterArn !== undefined) services.queues.byArn(deadLetterArn);
  const targetArn = target.text('Arn');
  if (!services.lambda.functions.some(({ arn }) => arn === targetArn))
    throw new Error(`target ${targetArn}: expected a function of the template`);
  const state = properties.optionalText('State') ?? 'ENABLED';
  if (state !== 'ENABLED' && state !== 'DISABLED') throw new Error(`State: got ${state}, expected ENABLED or DISABLED`);
  services.scheduler.schedules.push({
    logicalId,
    arn: identity.attributes.Arn ?? '',
    state,
    expression: properties.text('ScheduleExpression'),
    targetArn,
    roleArn: target.text('RoleArn'),
    input: target.text('Input'),
    ...(deadLetterArn === undefined ? {} : { deadLetterArn }),
  });
  target.ignore('RetryPolicy');
  for (const taken of [deadLetters, target]) taken?.done();
  properties.ignore(
    'Description',
    'FlexibleTimeWindow',
    'GroupName',
    'Name',
    'ScheduleExpressionTimezone',
    'StartDate',
    'EndDate',
  );
  properties.done();
};

const createRule = ({ logicalId, identity, properties, services }: Created): void => {
  const state = properties.optionalText('State') ?? 'ENABLED';
  if (state !== 'ENABLED' && state !== 'DISABLED') throw new Error(`State: got ${state}, expected ENABLED or DISABLED`);
  properties.only('EventBusName', 'default');
  const targets = properties.list('Targets').map((target) => {
    const deadLetters = target.optionalObject('DeadLetterConfig');
    const deadLetterArn = deadLetters?.text('Arn');
    if (deadLetterArn !== undefined) services.queues.byArn(deadLetterArn);
    const { arn } = services.lambda.find(target.text('Arn'));
    const id = target.text('Id');
    target.ignore('RetryPolicy');
    for (const taken of [deadLetters, target]) taken?.done();
    return { id, arn, ...(deadLetterArn === undefined ? {} : { deadLetterArn }) };
  });
  services.events.rules.push({
    logicalId,
    arn: identity.attributes.Arn ?? '',
    state,
    pattern: readPattern(properties.any('EventPattern')),
    targets,
  });
  properties.ignore('Description', 'Name', 'Tags');
  properties.done();
};

const createPermission = ({ properties, services }: Created): void => {
  const sourceArn = properties.optionalText('SourceArn');
  const sourceAccount = properties.optionalText('SourceAccount');
  services.lambda.permit(properties.text('FunctionName'), {
    action: properties.text('Action'),
    principal: properties.text('Principal'),
    ...(sourceArn === undefined ? {} : { sourceArn }),
    ...(sourceAccount === undefined ? {} : { sourceAccount }),
  });
  properties.done();
};

const createQueuePolicy = ({ properties, services }: Created): void => {
  const policy = properties.any('PolicyDocument');
  for (const url of listOfText(properties, 'Queues')) services.queues.setPolicy(url, policy);
  properties.done();
};

const createDocument = ({ identity, properties, services }: Created): void => {
  const { account, region } = services.environment;
  properties.only('DocumentType', 'Command');
  properties.only('DocumentFormat', 'JSON');
  properties.only('TargetType', '/AWS::EC2::Instance');
  const document = parseDocument(
    identity.ref,
    `arn:aws:ssm:${region}:${account}:document/${identity.ref}`,
    withS3At(properties.any('Content'), services.s3Url, region),
  );
  services.documents.set(document.name, document);
  properties.ignore('UpdateMethod', 'Name', 'Tags');
  properties.done();
};

const createQueue = ({ logicalId, identity, properties, services }: Created): void => {
  services.queues.all.push({
    logicalId,
    name: identity.attributes.QueueName ?? '',
    url: identity.ref,
    arn: identity.attributes.Arn ?? '',
    messages: [],
  });
  properties.ignore('MessageRetentionPeriod', 'SqsManagedSseEnabled', 'KmsMasterKeyId', 'QueueName', 'Tags');
  properties.done();
};

const createTopic = ({ logicalId, identity, properties, services }: Created): void => {
  const key = properties.optionalText('KmsMasterKeyId');
  services.topics.all.push({
    logicalId,
    arn: identity.ref,
    ...(key === undefined ? {} : { keyArn: services.keys.find(key).arn }),
    emails: [],
    messages: [],
  });
  properties.ignore('DisplayName', 'TopicName', 'Tags');
  properties.done();
};

const createTopicPolicy = ({ properties, services }: Created): void => {
  const policy = properties.any('PolicyDocument');
  for (const arn of listOfText(properties, 'Topics')) services.topics.setPolicy(arn, policy);
  properties.done();
};

const createSubscription = ({ properties, services }: Created): void => {
  const { arn, emails } = services.topics.byArn(properties.text('TopicArn'));
  properties.only('Protocol', 'email');
  const address = properties.text('Endpoint');
  emails.push(address);
  services.notApplied.push(`topic ${arn}: e-mail to ${address} (nothing leaves the lab; it is kept)`);
  properties.done();
};

/** The resource types that the lab knows, in the order in which they are created: what refers to others by look-up comes after them. */
const TYPES: Readonly<Record<string, ResourceType>> = {
  'AWS::KMS::Key': {
    identify: ({ uuid, environment: { account, region } }) => ({
      ref: uuid,
      attributes: { Arn: `arn:aws:kms:${region}:${account}:key/${uuid}`, KeyId: uuid },
    }),
    create: createKey,
  },
  'AWS::KMS::Alias': {
    identify: ({ given }) => ({ ref: given('AliasName') ?? '', attributes: {} }),
    create: ({ properties, services }) => {
      services.keys.addAlias(properties.text('AliasName'), services.keys.find(properties.text('TargetKeyId')).arn);
      properties.done();
    },
  },
  'AWS::S3::Bucket': {
    identify: ({ name, given, environment: { region } }) => {
      const bucket =
        given('BucketName') ??
        name
          .toLowerCase()
          .slice(-63)
          .replace(/^[^a-z0-9]+/, '');
      return {
        ref: bucket,
        attributes: {
          Arn: `arn:aws:s3:::${bucket}`,
          DomainName: `${bucket}.s3.amazonaws.com`,
          RegionalDomainName: `${bucket}.s3.${region}.amazonaws.com`,
        },
      };
    },
    create: async ({ identity, properties, services }) =>
      applyBucket(
        services.s3,
        services.environment.region,
        bucketSettings(identity.ref, properties, services.notApplied),
      ),
  },
  'AWS::S3::BucketPolicy': {
    identify: ({ name }) => ({ ref: name, attributes: {} }),
    create: ({ properties, services }) => {
      const bucket = properties.text('Bucket');
      services.bucketPolicies.set(bucket, properties.any('PolicyDocument'));
      services.notApplied.push(`bucket ${bucket}: its policy (MinIO holds only anonymous requests to one)`);
      properties.done();
    },
  },
  'AWS::Logs::LogGroup': {
    identify: ({ name, given, environment: { account, region } }) => {
      const group = given('LogGroupName') ?? name;
      return { ref: group, attributes: { Arn: `arn:aws:logs:${region}:${account}:log-group:${group}:*` } };
    },
    create: accepted('RetentionInDays', 'LogGroupName', 'KmsKeyId', 'Tags'),
  },
  'AWS::SQS::Queue': {
    identify: ({ name, given, environment: { account, region } }) => {
      const queue = given('QueueName') ?? name;
      const url = `https://sqs.${region}.amazonaws.com/${account}/${queue}`;
      return {
        ref: url,
        attributes: { Arn: `arn:aws:sqs:${region}:${account}:${queue}`, QueueName: queue, QueueUrl: url },
      };
    },
    create: createQueue,
  },
  'AWS::SQS::QueuePolicy': {
    identify: ({ name }) => ({ ref: name, attributes: {} }),
    create: createQueuePolicy,
  },
  'AWS::SNS::Topic': {
    identify: ({ name, given, environment: { account, region } }) => {
      const topic = given('TopicName') ?? name;
      const arn = `arn:aws:sns:${region}:${account}:${topic}`;
      return { ref: arn, attributes: { TopicArn: arn, TopicName: topic } };
    },
    create: createTopic,
  },
  'AWS::SNS::TopicPolicy': { identify: ({ name }) => ({ ref: name, attributes: {} }), create: createTopicPolicy },
  'AWS::SNS::Subscription': {
    identify: ({ name, environment: { account, region } }) => {
      const arn = `arn:aws:sns:${region}:${account}:${name}`;
      return { ref: arn, attributes: { Arn: arn } };
    },
    create: createSubscription,
  },
  'AWS::IAM::Role': {
    identify: ({ name, given, environment: { account } }) => {
      const role = given('RoleName') ?? name.slice(0, 64);
      return { ref: role, attributes: { Arn: roleArn(account, role), RoleId: 'AROALABLABLABLABLABLA' } };
    },
    create: createRole,
  },
  'AWS::IAM::Policy': { identify: ({ name }) => ({ ref: name, attributes: {} }), create: createPolicy },
  'AWS::IAM::ManagedPolicy': {
    identify: ({ name, given, environment: { account } }) => {
      const arn = `arn:aws:iam::${account}:policy${given('Path') ?? '/'}${given('ManagedPolicyName') ?? name}`;
      return { ref: arn, attributes: { PolicyArn: arn } };
    },
    create: createManagedPolicy,
  },
  'AWS::SSM::Document': {
    identify: ({ name, given }) => ({ ref: given('Name') ?? name, attributes: {} }),
    create: createDocument,
  },
  'AWS::Lambda::Function': {
    identify: ({ name, given, environment: { account, region } }) => {
      const fn = given('FunctionName') ?? name.slice(-64).replace(/^-+/, '');
      return { ref: fn, attributes: { Arn: `arn:aws:lambda:${region}:${account}:function:${fn}` } };
    },
    create: createFunction,
  },
  'AWS::Lambda::EventInvokeConfig': {
    identify: ({ name }) => ({ ref: name, attributes: {} }),
    create: createEventInvokeConfig,
  },
  'AWS::Lambda::Permission': {
    identify: ({ name }) => ({ ref: name, attributes: {} }),
    create: createPermission,
  },
  'AWS::StepFunctions::StateMachine': {
    identify: ({ name, given, environment: { account, region } }) => {
      const machine = given('StateMachineName') ?? name.slice(-80).replace(/^-+/, '');
      const arn = `arn:aws:states:${region}:${account}:stateMachine:${machine}`;
      return { ref: arn, attributes: { Arn: arn, Name: machine } };
    },
    create: createStateMachine,
  },
  'AWS::Events::Rule': {
    identify: ({ name, given, environment: { account, region } }) => {
      const rule = given('Name') ?? name.slice(-64).replace(/^-+/, '');
      return { ref: rule, attributes: { Arn: `arn:aws:events:${region}:${account}:rule/${rule}` } };
    },
    create: createRule,
  },
  'AWS::CloudWatch::Alarm': {
    identify: ({ name, given, environment: { account, region } }) => {
      const alarm = given('AlarmName') ?? name;
      return { ref: alarm, attributes: { Arn: `arn:aws:cloudwatch:${region}:${account}:alarm:${alarm}` } };
    },
    create: ({ logicalId, services }) => {
      services.notApplied.push(`alarm ${logicalId}: the lab reads no metric for it`);
    },
  },
  'AWS::CloudWatch::Dashboard': {
    identify: ({ name, given }) => ({ ref: given('DashboardName') ?? name, attributes: {} }),
    // Its body is JSON of the console's; test/lib/dashboard.test.ts reads it.
    create: accepted('DashboardName', 'DashboardBody'),
  },
  'AWS::Scheduler::ScheduleGroup': {
    identify: ({ name, given, environment: { account, region } }) => {
      const group = given('Name') ?? name;
      return { ref: group, attributes: { Arn: `arn:aws:scheduler:${region}:${account}:schedule-group/${group}` } };
    },
    create: accepted('Name', 'Tags'),
  },
  'AWS::Scheduler::Schedule': {
    identify: ({ name, given, environment: { account, region } }) => {
      const schedule = given('Name') ?? name.slice(-64).replace(/^-+/, '');
      return {
        ref: schedule,
        attributes: {
          Arn: `arn:aws:scheduler:${region}:${account}:schedule/${given('GroupName') ?? 'default'}/${schedule}`,
        },
      };
    },
    create: createSchedule,
  },
  'AWS::CDK::Metadata': { identify: ({ name }) => ({ ref: name, attributes: {} }), create: accepted('Analytics') },
};

const typeOf = (logicalId: string, { Type }: TemplateResource): ResourceType => {
  const type = TYPES[Type];
  if (type === undefined)
    throw new Error(`resource ${logicalId}: the lab does not know type ${Type}, only ${Object.keys(TYPES).join(', ')}`);
  return type;
};

/** Names a resource: the one it was given, else one made of stack, logical id and a hash, equal each time the lab comes up. */
export const identifyResource =
  (environment: Environment) =>
  (logicalId: string, resource: TemplateResource, resolver: Resolver): Identity => {
    const hash = createHash('sha256').update(`${environment.stackName}/${logicalId}`).digest('hex');
    const uuid = `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
    const given = (property: string): string | undefined => {
      const value = resource.Properties?.[property];
      return value === undefined ? undefined : resolver.text(value);
    };
    return typeOf(logicalId, resource).identify({
      name: `${environment.stackName}-${logicalId}-${hash.slice(0, 12)}`,
      uuid,
      given,
      environment,
    });
  };

/** Creates every resource of the template. Throws, naming the resource, for whatever the lab does not know. */
export const createResources = async (resolver: Resolver, services: Services): Promise<void> => {
  const { Resources } = services.assembly.template;
  const order = Object.keys(TYPES);
  const entries = resolver
    .logicalIds()
    .map((logicalId) => ({ logicalId, resource: Resources[logicalId] as TemplateResource }))
    .map((entry) => ({ ...entry, type: typeOf(entry.logicalId, entry.resource) }))
    .sort((left, right) => order.indexOf(left.resource.Type) - order.indexOf(right.resource.Type));
  for (const { logicalId, resource, type } of entries) {
    try {
      const properties = new Properties(logicalId, resolver.resolve(resource.Properties ?? {}));
      await type.create({ logicalId, identity: resolver.identity(logicalId), properties, services });
    } catch (error) {
      throw new Error(`resource ${logicalId} (${resource.Type}): ${(error as Error).message}`, { cause: error });
    }
  }
};
