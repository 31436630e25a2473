import { runSimulation, type Simulation } from '@cloud-copilot/iam-simulate';
import { type CfnTemplate, resourcesOfType, theResource } from './example-stack';

export const ACCOUNT = '111122223333';
const REGION = 'eu-central-1';

// The simulator knows no encryption context; a string that stands for it, in policies and requests alike, decides the same way.
const S3_CONTEXT = 'kms:EncryptionContext:aws:s3:arn';
const STAND_IN = 'aws:SourceIdentity';

const PSEUDO: Readonly<Record<string, string>> = {
  'AWS::AccountId': ACCOUNT,
  'AWS::Partition': 'aws',
  'AWS::Region': REGION,
  'AWS::URLSuffix': 'amazonaws.com',
};

const ARN_OF_TYPE: Readonly<Record<string, (logicalId: string) => string>> = {
  'AWS::Events::Rule': (id) => `arn:aws:events:${REGION}:${ACCOUNT}:rule/${id}`,
  'AWS::IAM::Role': (id) => `arn:aws:iam::${ACCOUNT}:role/${id}`,
  'AWS::KMS::Key': (id) => `arn:aws:kms:${REGION}:${ACCOUNT}:key/${id}`,
  'AWS::Lambda::Function': (id) => `arn:aws:lambda:${REGION}:${ACCOUNT}:function:${id}`,
  'AWS::Logs::LogGroup': (id) => `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:${id}:*`,
  'AWS::S3::Bucket': (id) => `arn:aws:s3:::${id.toLowerCase()}`,
  'AWS::StepFunctions::StateMachine': (id) => `arn:aws:states:${REGION}:${ACCOUNT}:stateMachine:${id}`,
  'AWS::SQS::Queue': (id) => `arn:aws:sqs:${REGION}:${ACCOUNT}:${id}`,
  'AWS::Scheduler::Schedule': (id) => `arn:aws:scheduler:${REGION}:${ACCOUNT}:schedule/group/${id}`,
  'AWS::Scheduler::ScheduleGroup': (id) => `arn:aws:scheduler:${REGION}:${ACCOUNT}:schedule-group/${id}`,
};

/** What CloudFormation would make of a value: references become the names and ARNs of an imaginary deployment. */
export function deployed(template: CfnTemplate, value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => deployed(template, item));
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const entries = Object.entries(value);
  const [intrinsic, argument] = entries[0] ?? [];
  if (intrinsic === 'Ref') {
    const id = String(argument);
    const type = template.Resources[id]?.Type ?? '';
    if (type === 'AWS::StepFunctions::StateMachine') {
      return ARN_OF_TYPE[type]?.(id);
    }
    return PSEUDO[id] ?? (type === 'AWS::S3::Bucket' ? id.toLowerCase() : id);
  }
  if (intrinsic === 'Fn::GetAtt') {
    const [id, attribute] = argument as [string, string];
    const type = template.Resources[id]?.Type ?? '';
    if (type === 'AWS::StepFunctions::StateMachine' && attribute === 'Name') {
      return id;
    }
    const arn = attribute === 'Arn' ? ARN_OF_TYPE[type]?.(id) : undefined;
    if (arn === undefined) {
      throw new Error(`attribute ${attribute} of ${id}: got type '${type}', expected an Arn of a known type`);
    }
    return arn;
  }
  if (intrinsic === 'Fn::Join') {
    const [separator, parts] = argument as [string, unknown];
    return (deployed(template, parts) as unknown[]).map(String).join(separator);
  }
  if (intrinsic === 'Fn::Split') {
    const [separator, text] = argument as [string, unknown];
    return String(deployed(template, text)).split(separator);
  }
  if (intrinsic?.startsWith('Fn::') === true) {
    throw new Error(`intrinsic: got ${intrinsic}, expected Ref, Fn::GetAtt, Fn::Join or Fn::Split`);
  }
  return Object.fromEntries(entries.map(([key, item]) => [key, deployed(template, item)]));
}

export interface Statement {
  readonly Sid?: string;
  readonly Effect: 'Allow' | 'Deny';
  readonly Action: string | string[];
  readonly Principal?: unknown;
  readonly Resource?: string | string[];
  readonly Condition?: unknown;
}

export interface Policy {
  readonly Version: string;
  readonly Statement: Statement[];
}

/** The logical id of the one role whose id contains `part`. */
export function roleId(template: CfnTemplate, part: string): string {
  const found = resourcesOfType(template, 'AWS::IAM::Role').filter(([id]) => id.includes(part));
  const [first] = found;
  if (first === undefined || found.length > 1) {
    throw new Error(`roles with ${part} in their id: got ${String(found.length)}, expected 1`);
  }
  return first[0];
}

export function roleArn(template: CfnTemplate, part: string): string {
  return deployed(template, { 'Fn::GetAtt': [roleId(template, part), 'Arn'] }) as string;
}

/** All policies of a role, as deployed: inline ones, and those that are attached to it. */
export function policiesOf(template: CfnTemplate, part: string): Policy[] {
  return policiesOfRole(template, roleId(template, part));
}

/** All policies of all roles, as deployed. */
export function everyPolicy(template: CfnTemplate): Policy[] {
  return resourcesOfType(template, 'AWS::IAM::Role').flatMap(([id]) => policiesOfRole(template, id));
}

function policiesOfRole(template: CfnTemplate, id: string): Policy[] {
  const inline = (template.Resources[id]?.Properties['Policies'] ?? []) as Record<string, unknown>[];
  const attached = ['AWS::IAM::Policy', 'AWS::IAM::ManagedPolicy']
    .flatMap((type) => resourcesOfType(template, type))
    .map(([, { Properties }]) => Properties)
    .filter(({ Roles }) => ((Roles ?? []) as { Ref: string }[]).some(({ Ref }) => Ref === id));
  return [...inline, ...attached].map(({ PolicyDocument }) => deployed(template, PolicyDocument) as Policy);
}

export function bucketPolicy(template: CfnTemplate): Policy {
  return deployed(template, theResource(template, 'AWS::S3::BucketPolicy').Properties['PolicyDocument']) as Policy;
}

export interface Request {
  readonly principal: string;
  readonly action: string;
  readonly resource: string;
  readonly context?: Readonly<Record<string, string>>;
  readonly identityPolicies: readonly Policy[];
  readonly resourcePolicy?: Policy;
  /** @default - the account of the imaginary deployment */
  readonly resourceAccount?: string;
}

/** The policy of a key, as deployed. */
export function keyPolicy(template: CfnTemplate, logicalId: string): Policy {
  return deployed(template, template.Resources[logicalId]?.Properties['KeyPolicy']) as Policy;
}

/** What IAM would answer. Throws when the request has a context key that the action does not know: it would decide nothing. */
export async function simulate(request: Request): Promise<'Allowed' | 'ExplicitlyDenied' | 'ImplicitlyDenied'> {
  const { context = {}, ...policies } = JSON.parse(JSON.stringify(request).replaceAll(S3_CONTEXT, STAND_IN)) as Request;
  const simulation: Simulation = {
    request: {
      principal: request.principal,
      action: request.action,
      resource: { resource: request.resource, accountId: request.resourceAccount ?? ACCOUNT },
      contextVariables: { 'aws:PrincipalArn': request.principal, 'aws:SecureTransport': 'true', ...context },
    },
    identityPolicies: policies.identityPolicies.map((policy, index) => ({ name: `policy${String(index)}`, policy })),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    ...(policies.resourcePolicy === undefined ? {} : { resourcePolicy: policies.resourcePolicy }),
  };
  const answer = await runSimulation(simulation, {});
  if (answer.resultType !== 'single') {
    throw new Error(`simulation of ${request.action}: got ${JSON.stringify(answer)}, expected one result`);
  }
  const ignored = (answer.result.ignoredContextKeys ?? []).filter((key) => key in context);
  if (ignored.length > 0) {
    throw new Error(`context of ${request.action}: got ${ignored.join(', ')}, expected keys that the action knows`);
  }
  return answer.overallResult;
}
