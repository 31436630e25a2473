import { Stack, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { watchedMetrics } from '../../lab/alarm-clock';
import { Backup } from '../../lib/backup';
import { type ClusterEntry, readClusters } from '../../lib/config';
import { Pki } from '../../lib/pki';
import { Store } from '../../lib/store';
import { Verify } from '../../lib/verify';
import {
  type CfnTemplate,
  exampleApp,
  exampleTemplate,
  resourcesOfType,
  theFunction,
  theResource,
} from './example-stack';
import {
  bucketPolicy,
  deployed,
  everyPolicy,
  keyPolicy,
  policiesOf,
  type Policy,
  roleArn,
  simulate,
} from './simulated-iam';

const BUCKET = 'arn:aws:s3:::bucket';
const BUNDLE = `${BUCKET}/pki/20261121T032000Z.tar.zst`;
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const PKI_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/PkiKey';
const ADMINISTRATOR = 'arn:aws:iam::111122223333:role/Administrator';
const INSTANCE = 'arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0';
const TAGGED = { 'ssm:resourceTag/kubernetes.io/cluster/example': 'owned' };
const THROUGH_S3 = { 'kms:ViaService': 's3.eu-central-1.amazonaws.com' };

const EVERYTHING: Policy = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }],
};

/** The steps of the flow that write snapshots, and the bundles beside them. */
function templateOf(entry: Partial<ClusterEntry> = {}, { nag = false } = {}): CfnTemplate {
  const app = exampleApp();
  if (nag) {
    Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  }
  const stack = new Stack(app, 'etcd-backup-example');
  const [cluster] = readClusters([
    {
      name: 'example',
      controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned' },
      notify: 'nobody',
      pkiBundle: true,
      ...entry,
    },
  ]);
  if (cluster === undefined) {
    throw new Error('clusters: got none, expected the example');
  }
  const store = new Store(stack, 'Store', { cluster });
  new Backup(stack, 'Backup', { cluster, store });
  new Verify(stack, 'Verify', { cluster, store });
  if (cluster.pkiBundle) {
    new Pki(stack, 'Pki', { cluster, store });
  }
  return app.synth().getStackByName(stack.stackName).template as CfnTemplate;
}

const template = templateOf();
const PKI_ROLE = roleArn(template, 'PkiService');
const BACKUP_ROLE = roleArn(template, 'BackupService');

const putWith = (key: string) => ({ 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': key });
const encrypted = (object: string) => ({ 'kms:EncryptionContext:aws:s3:arn': object });

function documentArn(step: string): string {
  const id = resourcesOfType(template, 'AWS::SSM::Document').find(([logicalId]) => logicalId.startsWith(step))?.[0];
  return `arn:aws:ssm:eu-central-1:111122223333:document/${String(id)}`;
}

function resourcePolicyOf(action: string, resource: string) {
  if (action.startsWith('s3:')) {
    return { resourcePolicy: bucketPolicy(template) };
  }
  return action.startsWith('kms:') ? { resourcePolicy: keyPolicy(template, resource.split('/').at(-1) ?? '') } : {};
}

function may(
  principal: string,
  identityPolicies: readonly Policy[],
  action: string,
  resource: string,
  context: Record<string, string> = {},
) {
  return simulate({ principal, action, resource, context, identityPolicies, ...resourcePolicyOf(action, resource) });
}

describe('the pki role', () => {
  const policies = policiesOf(template, 'PkiService');

  test('has exactly these actions', () => {
    const actions = policies.flatMap(({ Statement }) => Statement.flatMap(({ Action }) => Action));
    expect([...new Set(actions)].sort()).toEqual([
      'ec2:DescribeInstances',
      'kms:GenerateDataKey',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObject',
      's3:ListBucket',
      's3:PutObject',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
      'ssm:DescribeInstanceInformation',
      'ssm:GetCommandInvocation',
      'ssm:ListCommands',
      'ssm:SendCommand',
    ]);
  });

  test.each([
    ['send its document', 'ssm:SendCommand', documentArn('PkiBundle'), {}],
    ['send a command to an instance with the tags', 'ssm:SendCommand', INSTANCE, TAGGED],
    ['put a bundle', 's3:PutObject', BUNDLE, putWith(PKI_KEY)],
    ['encrypt a bundle', 'kms:GenerateDataKey', PKI_KEY, { ...THROUGH_S3, ...encrypted(BUNDLE) }],
    ['see that a bundle is there', 's3:GetObject', BUNDLE, {}],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(may(PKI_ROLE, policies, action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['read what is in a bundle', 'kms:Decrypt', PKI_KEY, { ...THROUGH_S3, ...encrypted(BUNDLE) }],
    ['put a bundle with the key of snapshots', 's3:PutObject', BUNDLE, putWith(SNAPSHOT_KEY)],
    ['put a snapshot', 's3:PutObject', SNAPSHOT, putWith(SNAPSHOT_KEY)],
    ['put a snapshot with the key of bundles', 's3:PutObject', SNAPSHOT, putWith(PKI_KEY)],
    ['see a snapshot', 's3:GetObject', SNAPSHOT, {}],
    ['read a snapshot', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['encrypt with the key of snapshots', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(BUNDLE)],
    ['upload a snapshot that waits on a node', 'ssm:SendCommand', documentArn('BackupUpload'), {}],
    ['take a snapshot', 'ssm:SendCommand', documentArn('BackupSnapshot'), {}],
    ['run anything else', 'ssm:SendCommand', 'arn:aws:ssm:eu-central-1:111122223333:document/RunShellScript', {}],
    ['send a command to another instance', 'ssm:SendCommand', INSTANCE, {}],
    ['tag a bundle', 's3:PutObjectTagging', BUNDLE, { 's3:RequestObjectTag/retention': 'failed' }],
    ['lock a bundle', 's3:PutObjectRetention', BUNDLE, {}],
    ['delete a bundle', 's3:DeleteObject', BUNDLE, {}],
    ['get an older version', 's3:GetObjectVersion', BUNDLE, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(may(PKI_ROLE, policies, action, resource, context as Record<string, string>)).resolves.not.toBe(
      'Allowed',
    );
  });
});

describe('a bundle and a snapshot', () => {
  test('have keys that no role of the stack may use for the other, and bundles one that no role may decrypt with', () => {
    const uses = (keyArn: string) =>
      everyPolicy(template)
        .flatMap(({ Statement }) => Statement)
        .filter(({ Resource }) => [Resource].flat().includes(keyArn))
        .map(({ Action, Condition }) => [Action, Condition]);
    expect(uses(PKI_KEY)).toEqual([
      ['kms:GenerateDataKey', { StringLike: { 'kms:EncryptionContext:aws:s3:arn': [`${BUCKET}/pki/*`] } }],
    ]);
    expect(JSON.stringify(uses(SNAPSHOT_KEY))).not.toContain('/pki/');
  });

  test.each([
    ['a bundle with its own key by its own role', PKI_ROLE, BUNDLE, PKI_KEY, 'Allowed'],
    ['a snapshot with its own key by its own role', BACKUP_ROLE, SNAPSHOT, SNAPSHOT_KEY, 'Allowed'],
    ['a bundle with the key of snapshots', PKI_ROLE, BUNDLE, SNAPSHOT_KEY, 'ExplicitlyDenied'],
    ['a snapshot with the key of bundles', BACKUP_ROLE, SNAPSHOT, PKI_KEY, 'ExplicitlyDenied'],
    ['a bundle with a third key', PKI_ROLE, BUNDLE, `${PKI_KEY}2`, 'ExplicitlyDenied'],
    ['a bundle by the backup role', BACKUP_ROLE, BUNDLE, PKI_KEY, 'ExplicitlyDenied'],
    ['a bundle by an administrator', ADMINISTRATOR, BUNDLE, PKI_KEY, 'ExplicitlyDenied'],
    ['a snapshot by the pki role', PKI_ROLE, SNAPSHOT, SNAPSHOT_KEY, 'ExplicitlyDenied'],
  ])('are put as the bucket policy says: %s', async (_what, principal, object, key, answer) => {
    await expect(may(principal, [EVERYTHING], 's3:PutObject', object, putWith(key))).resolves.toBe(answer);
  });

  test.each([
    ['a bundle that may be overwritten', { 's3:x-amz-server-side-encryption-aws-kms-key-id': PKI_KEY }],
    ['a bundle without a key', { 's3:if-none-match': '*' }],
    ['a bundle without TLS', { ...putWith(PKI_KEY), 'aws:SecureTransport': 'false' }],
  ])('are put as the bucket policy says: never %s', async (_what, context) => {
    await expect(may(PKI_ROLE, [EVERYTHING], 's3:PutObject', BUNDLE, context)).resolves.toBe('ExplicitlyDenied');
  });
});

describe('the key of bundles', () => {
  test('rotates, and stays when the stack is deleted', () => {
    expect(template.Resources['PkiKey']).toMatchObject({
      DeletionPolicy: 'Retain',
      UpdateReplacePolicy: 'Retain',
      Properties: { EnableKeyRotation: true },
    });
  });

  test.each([
    ['lets somebody with every right read a bundle, through S3', 'kms:Decrypt', THROUGH_S3, BUNDLE, 'Allowed'],
    ['opens nothing but bundles', 'kms:Decrypt', THROUGH_S3, SNAPSHOT, 'ExplicitlyDenied'],
    ['closes nothing but bundles', 'kms:GenerateDataKey', THROUGH_S3, SNAPSHOT, 'ExplicitlyDenied'],
    ['opens no bundle of another bucket', 'kms:Decrypt', THROUGH_S3, 'arn:aws:s3:::b2/pki/a', 'ExplicitlyDenied'],
    ['opens nothing without S3', 'kms:Decrypt', {}, BUNDLE, 'ExplicitlyDenied'],
    [
      'serves no other service',
      'kms:Decrypt',
      { 'kms:ViaService': 'ebs.eu-central-1.amazonaws.com' },
      BUNDLE,
      'ExplicitlyDenied',
    ],
    [
      'serves no other region',
      'kms:Decrypt',
      { 'kms:ViaService': 's3.us-east-1.amazonaws.com' },
      BUNDLE,
      'ExplicitlyDenied',
    ],
  ])('%s', async (_what, action, via, object, answer) => {
    await expect(may(ADMINISTRATOR, [EVERYTHING], action, PKI_KEY, { ...via, ...encrypted(object) })).resolves.toBe(
      answer,
    );
  });

  test('can still be described, disabled and given another policy by who administers the account', async () => {
    for (const action of ['kms:DescribeKey', 'kms:DisableKey', 'kms:PutKeyPolicy']) {
      await expect(may(ADMINISTRATOR, [EVERYTHING], action, PKI_KEY)).resolves.toBe('Allowed');
    }
  });
});

test('the key of bundles is one of those whose state audit may ask for, and does', async () => {
  const whole = exampleTemplate({ pkiBundle: true });
  expect(theFunction(whole, 'audit').Properties['Environment']).toMatchObject({
    Variables: { PKI_KEY_ARN: { 'Fn::GetAtt': ['PkiKey', 'Arn'] } },
  });
  const described = simulate({
    principal: roleArn(whole, 'AuditService'),
    action: 'kms:DescribeKey',
    resource: PKI_KEY,
    identityPolicies: policiesOf(whole, 'AuditService'),
    resourcePolicy: keyPolicy(whole, 'PkiKey'),
  });
  await expect(described).resolves.toBe('Allowed');
});

describe('the policy PkiReader', () => {
  const { Properties } = theResource(template, 'AWS::IAM::ManagedPolicy');
  const policies = [deployed(template, Properties['PolicyDocument']) as Policy];

  test('is attached to nobody', () => {
    expect(Properties).not.toHaveProperty('Roles');
    expect(Properties).not.toHaveProperty('Users');
    expect(Properties).not.toHaveProperty('Groups');
  });

  test.each([
    ['find bundles', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'pki/' }],
    ['get a bundle by its version', 's3:GetObjectVersion', BUNDLE, {}],
    ['read a bundle', 'kms:Decrypt', PKI_KEY, { ...THROUGH_S3, ...encrypted(BUNDLE) }],
  ])('lets somebody %s', async (_what, action, resource, context) => {
    await expect(may(ADMINISTRATOR, policies, action, resource, context as Record<string, string>)).resolves.toBe(
      'Allowed',
    );
  });

  test.each([
    ['find snapshots', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'snapshots/' }],
    ['get a snapshot', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['read a snapshot', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['put a bundle', 's3:PutObject', BUNDLE, putWith(PKI_KEY)],
    ['delete a bundle', 's3:DeleteObject', BUNDLE, {}],
  ])('does not let somebody %s', async (_what, action, resource, context) => {
    await expect(may(ADMINISTRATOR, policies, action, resource, context as Record<string, string>)).resolves.not.toBe(
      'Allowed',
    );
  });
});

interface Rule {
  readonly Id: string;
  readonly Prefix?: string;
  readonly ExpirationInDays?: number;
  readonly TagFilters?: unknown;
}

describe('retention', () => {
  const rulesOf = (from: CfnTemplate) =>
    (theResource(from, 'AWS::S3::Bucket').Properties['LifecycleConfiguration'] as { Rules: Rule[] }).Rules;

  test.each<[string, Partial<ClusterEntry>, number]>([
    ['the defaults', {}, 186 + 35],
    ['a year of monthly backups', { keep: { monthlyMonths: 12 } }, 372 + 35],
    ['bundles that are off, as those of the time when they were on have to go', { pkiBundle: false }, 186 + 35],
  ])('is longer than that of any snapshot beside it: with %s', (_what, entry, days) => {
    expect(rulesOf(templateOf(entry)).filter(({ Prefix }) => Prefix?.startsWith('pki') === true)).toEqual([
      {
        Id: 'pki',
        Status: 'Enabled',
        Prefix: 'pki/',
        ExpirationInDays: days,
        NoncurrentVersionExpiration: { NoncurrentDays: 7 },
      },
    ]);
  });
});

describe('the schedule', () => {
  test('starts the pki function once a day, off the full hour, with the time of the trigger', () => {
    expect(theResource(template, 'AWS::Scheduler::Schedule').Properties).toMatchObject({
      ScheduleExpression: 'cron(20 3 * * ? *)',
      State: 'ENABLED',
      Target: {
        Input: JSON.stringify({
          scheduledTime: '<aws.scheduler.scheduled-time>',
          scheduleArn: '<aws.scheduler.schedule-arn>',
        }),
        RetryPolicy: { MaximumEventAgeInSeconds: 6 * 3600, MaximumRetryAttempts: 10 },
      },
    });
  });
});

describe('the pki function', () => {
  test('gets the environment that its handler reads', () => {
    const { Variables } = theFunction(template, 'pki').Properties['Environment'] as { Variables: unknown };
    expect(deployed(template, Variables)).toEqual({
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      CLUSTER_NAME: 'example',
      CONTROL_PLANE_TAGS: '{"kubernetes.io/cluster/example":"owned"}',
      NODE_OPTIONS: '--enable-source-maps',
      PKI_DOCUMENT: documentArn('PkiBundle').split('/')[1],
      PKI_DOCUMENT_VERSION: '1',
      PKI_KEY_ARN: PKI_KEY,
      POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
      POWERTOOLS_SERVICE_NAME: 'pki',
    });
  });
});

describe('a replica', () => {
  const replicated = (pkiBundle: boolean) =>
    exampleTemplate({
      account: '111122223333',
      region: 'eu-central-1',
      replica: { bucketName: 'copies', keyArn: `arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab` },
      pkiBundle,
    });
  const rulesOf = (from: CfnTemplate) =>
    (
      theResource(from, 'AWS::S3::Bucket').Properties['ReplicationConfiguration'] as {
        Rules: { Id: string; Priority: number; Filter: { Prefix: string } }[];
      }
    ).Rules;
  const watchedOf = (from: CfnTemplate) =>
    watchedMetrics(from)['etcd-backup-example-replication-failed']?.map(({ dimensions }) => dimensions['RuleId']);

  test('gets everything but bundles, by rules that one alarm watches', () => {
    const on = replicated(true);
    expect(rulesOf(on).map(({ Id, Filter, Priority }) => [Id, Filter.Prefix, Priority])).toEqual([
      ['replica-snapshots', 'snapshots/', 1],
      ['replica-announcements', 'announcements/', 2],
      ['replica-receipts', 'receipts/', 3],
      ['replica-restores', 'restores/', 4],
      ['replica-tools', 'tools/', 5],
      ['replica-drills', 'drills/', 6],
    ]);
    expect(watchedOf(on)).toEqual(rulesOf(on).map(({ Id }) => Id));
  });

  test('has one rule, which is watched, where there are no bundles', () => {
    const off = replicated(false);
    expect(rulesOf(off).map(({ Id, Filter }) => [Id, Filter.Prefix])).toEqual([['replica', '']]);
    expect(watchedOf(off)).toEqual(['replica']);
  });
});

describe('without pkiBundle', () => {
  const off = templateOf({ pkiBundle: false });

  test('there is no key for bundles, and nobody may put one', async () => {
    expect(off.Resources).not.toHaveProperty('PkiKey');
    const answers = [PKI_ROLE, BACKUP_ROLE, ADMINISTRATOR].map((principal) =>
      simulate({
        principal,
        action: 's3:PutObject',
        resource: BUNDLE,
        context: putWith(SNAPSHOT_KEY),
        identityPolicies: [EVERYTHING],
        resourcePolicy: bucketPolicy(off),
      }),
    );
    expect(await Promise.all(answers)).toEqual(['ExplicitlyDenied', 'ExplicitlyDenied', 'ExplicitlyDenied']);
  });

  test('it can be switched on by true and by nothing else', () => {
    expect(() => templateOf({ pkiBundle: 'yes' as never })).toThrow(
      'example.pkiBundle: got "yes", expected true or false',
    );
  });

  test('the construct says what is missing', () => {
    const app = exampleApp();
    const stack = new Stack(app, 'other');
    const [cluster] = readClusters([{ name: 'example', controlPlaneTags: { a: 'b' }, notify: 'nobody' }]);
    if (cluster === undefined) {
      throw new Error('clusters: got none, expected the example');
    }
    const store = new Store(stack, 'Store', { cluster });
    expect(() => new Pki(stack, 'Pki', { cluster, store })).toThrow('expected pkiBundle to be on');
  });
});

test('passes every rule of AwsSolutions, or says beside the code why not', () => {
  expect(() => templateOf({}, { nag: true })).not.toThrow();
});
