import { type CfnTemplate, resourcesOfType } from './example-stack';

/** One row of the tables in docs/security.md, without its last column, which says why. */
export interface Right {
  /** The role or managed policy under whose heading the row stands, or one of the two headings below. */
  readonly holder: string;
  /** Under a role: action, resources, conditions. Under the other two headings with the roles, or who is allowed or denied, before them. */
  readonly cells: readonly string[];
}

/** Heading of what each function may do with its own log group and failure queue, and no other's. */
export const EVERY_FUNCTION = 'every function';
/** Heading of what policies of buckets, keys, queues, topics, functions and roles say of others. */
export const RESOURCES = 'resources';

/** The accounts that templates have here, where they are not those of the credentials. */
export const ACCOUNT = '111122223333';
export const REPLICA_ACCOUNT = '444455556666';

type OneOrMore = string | readonly string[];

interface Statement {
  readonly Effect: 'Allow' | 'Deny';
  readonly Action?: OneOrMore;
  readonly NotAction?: unknown;
  readonly NotPrincipal?: unknown;
  readonly Principal?: string | Readonly<Record<string, unknown>>;
  readonly Resource?: unknown;
  readonly NotResource?: unknown;
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

interface Document {
  readonly Statement: readonly Statement[];
}

/** Every action of every role and managed policy of a template: one row for each action of each statement. Throws on what it has no words for. */
export function rolesOf(template: CfnTemplate): Right[] {
  const rights = new Map<string, Right>();
  const own = new Map<string, { readonly cells: readonly string[]; readonly roles: Set<string> }>();
  const add = (holder: string, document: unknown) => {
    for (const statement of (document as Document).Statement) {
      if (statement.Effect !== 'Allow' || statement.Principal !== undefined || statement.NotResource !== undefined) {
        throw new Error(
          `policy of ${holder}: got ${JSON.stringify(statement)}, expected it to allow something on resources`,
        );
      }
      for (const action of actionsOf(holder, statement)) {
        const on = inWords(template, statement.Resource);
        const onlyIf = conditions(template, statement.Condition);
        const part = /^`(.*Service)(Logs|Failures)`$/.exec(on);
        if (part?.[1] !== undefined && `${part[1]}Role` === holder) {
          const cells = [code(action), `its own \`…${String(part[2])}\``, onlyIf];
          const row = own.get(cells.join(' | ')) ?? { cells, roles: new Set<string>() };
          row.roles.add(code(holder));
          own.set(cells.join(' | '), row);
          continue;
        }
        const cells = [code(action), on, onlyIf];
        rights.set([holder, ...cells].join(' | '), { holder, cells });
      }
    }
  };
  for (const [id, { Properties }] of resourcesOfType(template, 'AWS::IAM::Role')) {
    const { ManagedPolicyArns, Policies } = Properties;
    if (ManagedPolicyArns !== undefined || Policies !== undefined || Properties['PermissionsBoundary'] !== undefined) {
      throw new Error(`role ${id}: got policies of its own or of others, expected only resources AWS::IAM::Policy`);
    }
  }
  for (const [, { Properties }] of resourcesOfType(template, 'AWS::IAM::Policy')) {
    for (const role of Properties['Roles'] as readonly unknown[]) {
      add(text(template, role), Properties['PolicyDocument']);
    }
    if (Properties['Users'] !== undefined || Properties['Groups'] !== undefined) {
      throw new Error('policy: got users or groups, expected only roles');
    }
  }
  for (const [id, { Properties }] of resourcesOfType(template, 'AWS::IAM::ManagedPolicy')) {
    add(nameOf(id), Properties['PolicyDocument']);
  }
  return [
    ...[...own.values()].map(({ cells, roles }) => ({
      holder: EVERY_FUNCTION,
      cells: [[...roles].sort().join(', '), ...cells],
    })),
    ...rights.values(),
  ];
}

/** The roles of a template, also those that may do nothing. */
export function roleNames(template: CfnTemplate): string[] {
  return ['AWS::IAM::Role', 'AWS::IAM::ManagedPolicy'].flatMap((type) =>
    resourcesOfType(template, type).map(([id]) => nameOf(id)),
  );
}

const POLICIES: Readonly<
  Record<string, (resource: { readonly id: string; readonly properties: Readonly<Record<string, unknown>> }) => unknown>
> = {
  'AWS::S3::BucketPolicy': ({ properties }) => properties['PolicyDocument'],
  'AWS::SQS::QueuePolicy': ({ properties }) => properties['PolicyDocument'],
  'AWS::SNS::TopicPolicy': ({ properties }) => properties['PolicyDocument'],
  'AWS::KMS::Key': ({ id, properties }) => onItself(id, properties['KeyPolicy']),
  'AWS::IAM::Role': ({ id, properties }) => onItself(id, properties['AssumeRolePolicyDocument']),
  'AWS::Lambda::Permission': ({ properties }) => permission(properties),
};

// What else can carry a policy of its own, and must not without a word for it here.
const WITHOUT_POLICY = [
  'AWS::Lambda::LayerVersionPermission',
  'AWS::Logs::ResourcePolicy',
  'AWS::Events::EventBusPolicy',
];

/** What policies of resources allow or deny, and to whom; rows that differ only in the resource are one. */
export function resourcePoliciesOf(template: CfnTemplate): Right[] {
  const on = new Map<string, { readonly cells: readonly [string, string, string]; readonly resources: Set<string> }>();
  for (const type of WITHOUT_POLICY) {
    if (resourcesOfType(template, type).length > 0) {
      throw new Error(
        `resources of type ${type}: got some, expected none, because nobody has words for their policies`,
      );
    }
  }
  for (const [type, policyOf] of Object.entries(POLICIES)) {
    for (const [id, { Properties }] of resourcesOfType(template, type)) {
      const { Statement } = policyOf({ id, properties: Properties }) as Document;
      for (const statement of Statement) {
        const who = `${statement.Effect === 'Deny' ? 'denied to ' : ''}${principal(template, statement.Principal)}`;
        const where = resources(template, statement);
        for (const action of actionsOf(id, statement)) {
          const cells = [who, code(action), conditions(template, statement.Condition)] as const;
          const row = on.get(cells.join(' | ')) ?? { cells, resources: new Set<string>() };
          row.resources.add(where);
          on.set(cells.join(' | '), row);
        }
      }
    }
  }
  return [...on.values()].map(({ cells: [who, action, onlyIf], resources: names }) => ({
    holder: RESOURCES,
    cells: [who, action, [...names].sort().join(', '), onlyIf],
  }));
}

function onItself(id: string, document: unknown): Document {
  return { Statement: (document as Document).Statement.map((statement) => ({ ...statement, Resource: { Ref: id } })) };
}

function permission({
  Action,
  FunctionName,
  Principal,
  SourceArn,
  SourceAccount,
}: Readonly<Record<string, unknown>>): Document {
  return {
    Statement: [
      {
        Effect: 'Allow',
        Action: Action as string,
        Principal: { Service: Principal },
        Resource: FunctionName,
        Condition: {
          ...(SourceArn === undefined ? {} : { ArnEquals: { 'aws:SourceArn': SourceArn } }),
          ...(SourceAccount === undefined ? {} : { StringEquals: { 'aws:SourceAccount': SourceAccount } }),
        },
      },
    ],
  };
}

function actionsOf(holder: string, { Action, NotAction, NotPrincipal }: Statement): readonly string[] {
  if (Action === undefined || NotAction !== undefined || NotPrincipal !== undefined) {
    throw new Error(`policy of ${holder}: got NotAction, NotPrincipal or no Action, expected only Action`);
  }
  return list(Action) as readonly string[];
}

function resources(template: CfnTemplate, { Resource, NotResource }: Statement): string {
  return NotResource === undefined ? inWords(template, Resource) : `all but ${inWords(template, NotResource)}`;
}

function principal(template: CfnTemplate, value: Statement['Principal']): string {
  if (value === undefined) {
    throw new Error('principal: got none, expected one in the policy of a resource');
  }
  if (value === '*') {
    return 'everybody';
  }
  return Object.values(value as Readonly<Record<string, unknown>>)
    .flatMap(list)
    .map((one) => ACCOUNTS[joined(template, one)] ?? code(text(template, one)))
    .join(', ');
}

/** Whose account a principal is; to it IAM decides. */
const ACCOUNTS: Readonly<Record<string, string>> = {
  '*': 'everybody',
  'arn:aws:iam::account:root': "the cluster's account, by IAM",
  [`arn:aws:iam::${ACCOUNT}:root`]: "the cluster's account, by IAM",
  [`arn:aws:iam::${REPLICA_ACCOUNT}:root`]: "the replica's account, by IAM",
};

const OPERATORS: Readonly<Record<string, string>> = {
  ArnEquals: 'is',
  ArnLike: 'is',
  ArnNotEquals: 'is not',
  ArnNotEqualsIfExists: 'is missing or is not',
  Bool: 'is',
  NumericGreaterThan: 'is more than',
  StringEquals: 'is',
  StringLike: 'is',
  StringLikeIfExists: 'is missing or is',
  StringNotEquals: 'is not',
  StringNotEqualsIfExists: 'is missing or is not',
  StringNotLike: 'is not',
};

function conditions(template: CfnTemplate, condition: Statement['Condition']): string {
  return Object.entries(condition ?? {})
    .flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, value]) => {
        if (operator === 'Null') {
          return `${code(key)} is ${value === 'true' ? 'missing' : 'there'}`;
        }
        const words = OPERATORS[operator];
        if (words === undefined) {
          throw new Error(
            `operator of a condition: got ${operator}, expected one of ${Object.keys(OPERATORS).join(', ')}`,
          );
        }
        return `${code(key)} ${words} ${inWords(template, value)}`;
      }),
    )
    .sort()
    .join('; ');
}

function inWords(template: CfnTemplate, value: unknown): string {
  return list(value)
    .map((one) => code(text(template, one)))
    .sort()
    .join(', ');
}

function code(word: string): string {
  return `\`${word}\``;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}

/** The end of an ARN, with the names that resources have in the code; `*` stays what it is. */
function text(template: CfnTemplate, value: unknown): string {
  return joined(template, value)
    .replace(/^arn:[^:]*:[a-z0-9-]*:[^:]*:[^:]*:/, '')
    .replaceAll(ACCOUNT, 'account');
}

const PSEUDO: Readonly<Record<string, string>> = {
  'AWS::AccountId': 'account',
  'AWS::Partition': 'aws',
  'AWS::Region': 'region',
  'AWS::URLSuffix': 'amazonaws.com',
};

function joined(template: CfnTemplate, value: unknown): string {
  if (typeof value === 'string') {
    return value;
  }
  const [intrinsic, argument] = Object.entries((value ?? {}) as Record<string, unknown>)[0] ?? [];
  if (intrinsic === 'Ref') {
    return PSEUDO[String(argument)] ?? known(template, String(argument));
  }
  if (intrinsic === 'Fn::GetAtt') {
    return known(template, String((argument as readonly string[])[0]));
  }
  if (intrinsic === 'Fn::Join') {
    const [separator, parts] = argument as [string, readonly unknown[]];
    return parts.map((part) => joined(template, part)).join(separator);
  }
  throw new Error(`value in a policy: got ${JSON.stringify(value)}, expected a string, Ref, Fn::GetAtt or Fn::Join`);
}

function known(template: CfnTemplate, id: string): string {
  if (template.Resources[id] === undefined) {
    throw new Error(`resource in a policy: got ${id}, expected one of the template`);
  }
  return nameOf(id);
}

/** A logical id without the hash that the CDK puts behind it. */
function nameOf(id: string): string {
  return id.replace(/[0-9A-F]{8}$/, '');
}
