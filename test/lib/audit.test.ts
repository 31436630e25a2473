import type { LifecycleRule } from '@aws-sdk/client-s3';
import { readEvent } from '../../lambda/audit/event';
import { type ExpectedLifecycle, lifecycleRisks } from '../../lambda/audit/lifecycle';
import { policyRisks } from '../../lambda/audit/policy';
import { type CfnTemplate, exampleTemplate, resourcesOfType, theFunction, theResource } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();

const ACCOUNT = 'eu-central-1:111122223333';
const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const CALLER = `${BUCKET}/restores/20261120T140000Z/caller.json`;
const SNAPSHOT_KEY = `arn:aws:kms:${ACCOUNT}:key/SnapshotKey`;
const ANNOUNCEMENT_KEY = `arn:aws:kms:${ACCOUNT}:key/AnnouncementKey`;
const RECEIPT_KEY = `arn:aws:kms:${ACCOUNT}:key/ReceiptKey`;
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };

const functionArn = (step: string) => {
  const [id] = resourcesOfType(template, 'AWS::Lambda::Function').find(
    ([, resource]) => resource === theFunction(template, step),
  ) as [string, unknown];
  return `arn:aws:lambda:${ACCOUNT}:function:${id}`;
};
const machineArn = (part: string) => {
  const found = resourcesOfType(template, 'AWS::StepFunctions::StateMachine').find(([id]) => id.startsWith(part));
  return `arn:aws:states:${ACCOUNT}:stateMachine:${found?.[0] ?? ''}`;
};
const scheduleId = (part: string, from: CfnTemplate = template) =>
  resourcesOfType(from, 'AWS::Scheduler::Schedule').find(([id]) => id.startsWith(part))?.[0] ?? '';

function mayAudit(action: string, resource: string, context: Record<string, string> = {}) {
  const service = action.split(':')[0];
  return simulate({
    principal: roleArn(template, 'AuditService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'AuditService'),
    ...(service === 's3' ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(service === 'kms' ? { resourcePolicy: keyPolicy(template, resource.split('/')[1] ?? '') } : {}),
  });
}

const encrypted = (arn: string) => ({ 'kms:EncryptionContext:aws:s3:arn': arn });

describe('the audit role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'AuditService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'cloudtrail:LookupEvents',
      'kms:Decrypt',
      'kms:DescribeKey',
      'kms:GenerateDataKey',
      'kms:Verify',
      'lambda:InvokeFunction',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetBucketNotification',
      's3:GetBucketObjectLockConfiguration',
      's3:GetBucketPolicy',
      's3:GetBucketPublicAccessBlock',
      's3:GetBucketVersioning',
      's3:GetEncryptionConfiguration',
      's3:GetLifecycleConfiguration',
      's3:GetObjectRetention',
      's3:GetObjectVersion',
      's3:GetObjectVersionTagging',
      's3:ListBucketVersions',
      's3:PutObject',
      's3:PutObjectRetention',
      'scheduler:GetSchedule',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
      'states:ListExecutions',
    ]);
  });

  test.each(['receipts', 'restores', 'drills'])(
    'may list, get by version and decrypt what is under %s/',
    async (prefix) => {
      const object = `${BUCKET}/${prefix}/20261120T140000Z.json`;
      await expect(mayAudit('s3:ListBucketVersions', BUCKET, { 's3:prefix': `${prefix}/` })).resolves.toBe('Allowed');
      await expect(mayAudit('s3:GetObjectVersion', object)).resolves.toBe('Allowed');
      await expect(mayAudit('kms:Decrypt', SNAPSHOT_KEY, encrypted(object))).resolves.toBe('Allowed');
    },
  );

  test.each([
    ['list snapshots', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'snapshots/' }],
    ['see the tag of a snapshot', 's3:GetObjectVersionTagging', SNAPSHOT, {}],
    ['see the lock of a snapshot', 's3:GetObjectRetention', SNAPSHOT, {}],
    [
      'lock a snapshot for longer',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'GOVERNANCE', 's3:object-lock-remaining-retention-days': '2' },
    ],
    ['put the record of a caller', 's3:PutObject', CALLER, PUT],
    ['encrypt it', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(CALLER)],
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
    ['see the state of the snapshot key', 'kms:DescribeKey', SNAPSHOT_KEY, {}],
    ['see the state of the announcement key', 'kms:DescribeKey', ANNOUNCEMENT_KEY, {}],
    ['see the state of the receipt key', 'kms:DescribeKey', RECEIPT_KEY, {}],
    ['see the bucket’s policy', 's3:GetBucketPolicy', BUCKET, {}],
    ['see the bucket’s lock', 's3:GetBucketObjectLockConfiguration', BUCKET, {}],
    ['start verify', 'lambda:InvokeFunction', functionArn('verify'), {}],
    ['list the executions of the restore machine', 'states:ListExecutions', machineArn('RestoreMachine'), {}],
    [
      'see the schedule of the backups',
      'scheduler:GetSchedule',
      `arn:aws:scheduler:${ACCOUNT}:schedule/group/${scheduleId('Schedule')}`,
      {},
    ],
    [
      'see the schedule of the drills',
      'scheduler:GetSchedule',
      `arn:aws:scheduler:${ACCOUNT}:schedule/group/${scheduleId('Drill')}`,
      {},
    ],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayAudit(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['read a snapshot', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['decrypt a snapshot', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    [
      'take latest from the newest',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'hourly' },
    ],
    ['give the first tag', 's3:PutObjectVersionTagging', SNAPSHOT, { 's3:RequestObjectTag/retention': 'failed' }],
    [
      'lock a snapshot longer than the longest class',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '187' },
    ],
    [
      'lock a snapshot so that nobody can end it',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'COMPLIANCE', 's3:object-lock-remaining-retention-days': '2' },
    ],
    ['lock a receipt', 's3:PutObjectRetention', `${BUCKET}/receipts/a.json`, {}],
    ['end a lock', 's3:BypassGovernanceRetention', SNAPSHOT, {}],
    ['delete a version', 's3:DeleteObjectVersion', SNAPSHOT, {}],
    ['put a receipt', 's3:PutObject', `${BUCKET}/receipts/20261120T140000Z.json`, PUT],
    ['put a snapshot', 's3:PutObject', SNAPSHOT, PUT],
    ['put the record of a drill', 's3:PutObject', `${BUCKET}/drills/20261120T140000Z.json`, PUT],
    ['begin a timeline', 's3:PutObject', `${BUCKET}/restores/20261120T140000Z.json`, PUT],
    ['put a plan', 's3:PutObject', `${BUCKET}/restores/20261120T140000Z/plan.json`, PUT],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['disable a key', 'kms:DisableKey', SNAPSHOT_KEY, {}],
    ['change the lifecycle', 's3:PutLifecycleConfiguration', BUCKET, {}],
    ['change the bucket’s policy', 's3:PutBucketPolicy', BUCKET, {}],
    ['start the backup function', 'lambda:InvokeFunction', functionArn('backup'), {}],
    ['start a version or an alias of verify', 'lambda:InvokeFunction', `${functionArn('verify')}:1`, {}],
    ['start a restore', 'states:StartExecution', machineArn('RestoreMachine'), {}],
    ['list the executions of another machine', 'states:ListExecutions', machineArn('PlanMachine'), {}],
    [
      'change a schedule',
      'scheduler:UpdateSchedule',
      `arn:aws:scheduler:${ACCOUNT}:schedule/group/${scheduleId('Schedule')}`,
      {},
    ],
    ['run a command', 'ssm:SendCommand', `arn:aws:ssm:${ACCOUNT}:document/any`, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(mayAudit(action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });

  test('may not put the record of a caller over another', async () => {
    const key = 's3:x-amz-server-side-encryption-aws-kms-key-id';
    await expect(mayAudit('s3:PutObject', CALLER, { [key]: SNAPSHOT_KEY })).resolves.toBe('ExplicitlyDenied');
  });
});

describe('the audit function', () => {
  const variablesOf = (from: CfnTemplate) =>
    deployed(
      from,
      (theFunction(from, 'audit').Properties['Environment'] as { Variables: unknown }).Variables,
    ) as Record<string, string>;

  test('gets the environment that its handler reads', () => {
    expect(variablesOf(template)).toMatchObject({
      CLUSTER_NAME: 'example',
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      BUCKET_ADOPTED: 'no',
      SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
      ANNOUNCEMENT_KEY_ARN: ANNOUNCEMENT_KEY,
      RECEIPT_KEY_ARN: RECEIPT_KEY,
      VERIFY_FUNCTION: functionArn('verify').split(':').at(-1),
      RESTORE_MACHINE_ARN: machineArn('RestoreMachine'),
      LOCK_DAYS: '2',
      SCHEDULES: ['Schedule', 'Drill'].map((part) => `${groupOf(scheduleId(part))}/${scheduleId(part)}`).join(' '),
    });
  });

  test('looks at the key of the topic, without which no alarm reaches anybody, where the stack has one of its own', async () => {
    const arn = variablesOf(template)['TOPIC_KEY_ARN'] ?? '';
    const id = arn.split('/').at(-1) ?? '';
    expect(template.Resources[id]?.Properties['Description']).toMatch(/^Encrypts messages of the topic/);
    await expect(mayAudit('kms:DescribeKey', arn)).resolves.toBe('Allowed');
    await expect(mayAudit('kms:Decrypt', arn)).resolves.not.toBe('Allowed');
    const topicArn = 'arn:aws:sns:eu-central-1:111122223333:oncall';
    for (const notify of ['nobody', { topicArn }] as const) {
      expect(variablesOf(exampleTemplate({ notify }))).not.toHaveProperty('TOPIC_KEY_ARN');
    }
  });

  test('looks at the key and the schedule of PKI bundles where the cluster keeps them', async () => {
    const of = exampleTemplate({ pkiBundle: true });
    const { PKI_KEY_ARN: arn = '', SCHEDULES = '' } = variablesOf(of);
    expect(of.Resources[arn.split('/').at(-1) ?? '']?.Type).toBe('AWS::KMS::Key');
    expect(SCHEDULES.split(' ')).toHaveLength(3);
    expect(SCHEDULES).toContain(`/${scheduleId('Pki', of)}`);
    const may = (action: string) =>
      simulate({
        principal: roleArn(of, 'AuditService'),
        action,
        resource: arn,
        context: {},
        identityPolicies: policiesOf(of, 'AuditService'),
        resourcePolicy: keyPolicy(of, arn.split('/').at(-1) ?? ''),
      });
    await expect(may('kms:DescribeKey')).resolves.toBe('Allowed');
    await expect(may('kms:Decrypt')).resolves.not.toBe('Allowed');
  });

  function groupOf(id: string): string {
    return String(template.Resources[id]?.Properties['GroupName']);
  }

  test.each([
    ['as they are by default', {}],
    ['with a class that is off, and one that is short', { keep: { weeklyWeeks: 0, hourlyHours: 25, dailyDays: 14 } }],
  ])('expects the lifecycle rules that the bucket has: %s', (_what, entry) => {
    const of = exampleTemplate(entry);
    const expected = JSON.parse(variablesOf(of)['EXPIRY'] ?? '') as ExpectedLifecycle;
    const rules = (
      theResource(of, 'AWS::S3::Bucket').Properties['LifecycleConfiguration'] as { Rules: CfnRule[] }
    ).Rules.map(asS3Has);
    expect(lifecycleRisks(rules, expected)).toEqual([]);
    // All but the one that only removes markers, and parts of uploads.
    for (const rule of rules.filter(({ ID }) => ID !== 'leftovers')) {
      expect(lifecycleRisks(without(rules, rule), expected)).toHaveLength(2);
    }
  });

  test('knows that a bucket is adopted', () => {
    const key = (id: string) => `arn:aws:kms:${ACCOUNT}:key/${id}${id}${id}${id}-2222-3333-4444-555555555555`;
    const adopting = exampleTemplate({
      existingBucketName: 'kept-backups',
      existingSnapshotKeyArn: key('11'),
      existingAnnouncementKeyArn: key('22'),
      existingReceiptKeyArn: key('33'),
    });
    expect(variablesOf(adopting)).toMatchObject({ BUCKET: 'kept-backups', BUCKET_ADOPTED: 'yes' });
    const { policy } = inputOf(adopting);
    const printed = JSON.parse(String(deployed(adopting, adopting.Outputs['BucketPolicy']?.Value))) as typeof policy;
    expect(policy).toEqual(printed);
  });

  test('is not run again when it failed: the next run is in five minutes', () => {
    const [id] = resourcesOfType(template, 'AWS::Lambda::Function').find(
      ([, resource]) => resource === theFunction(template, 'audit'),
    ) as [string, unknown];
    const invoke = resourcesOfType(template, 'AWS::Lambda::EventInvokeConfig').find(
      ([, { Properties }]) => (Properties['FunctionName'] as { Ref: string }).Ref === id,
    );
    expect(invoke?.[1].Properties).toMatchObject({ MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 300 });
    expect(theFunction(template, 'audit').Properties).toMatchObject({ Timeout: 240 });
  });
});

interface CfnRule {
  readonly Id?: string;
  readonly Status: 'Enabled' | 'Disabled';
  readonly Prefix?: string;
  readonly TagFilters?: { Key: string; Value: string }[];
  readonly ExpirationInDays?: number;
  readonly ExpiredObjectDeleteMarker?: boolean;
  readonly NoncurrentVersionExpiration?: { NoncurrentDays: number };
}

/** A rule of the template as S3 gives it back. */
function asS3Has(rule: CfnRule): LifecycleRule {
  const { Id, Status, Prefix, TagFilters, ExpirationInDays, ExpiredObjectDeleteMarker, NoncurrentVersionExpiration } =
    rule;
  return {
    ...(Id === undefined ? {} : { ID: Id }),
    Status,
    Filter: { And: { Prefix: Prefix ?? '', Tags: TagFilters ?? [] } },
    Expiration: {
      ...(ExpirationInDays === undefined ? {} : { Days: ExpirationInDays }),
      ...(ExpiredObjectDeleteMarker === undefined ? {} : { ExpiredObjectDeleteMarker }),
    },
    ...(NoncurrentVersionExpiration === undefined ? {} : { NoncurrentVersionExpiration }),
  };
}

function without<Item>(all: readonly Item[], one: Item): Item[] {
  return all.filter((other) => other !== one);
}

function inputOf(from: CfnTemplate) {
  const { Input } = (from.Resources[scheduleId('Audit', from)]?.Properties as { Target: { Input: unknown } }).Target;
  return JSON.parse(String(deployed(from, Input))) as {
    scheduledTime: string;
    policy: ReturnType<typeof bucketPolicy>;
  };
}

describe('the schedule of the audit', () => {
  const { Properties } = template.Resources[scheduleId('Audit')] ?? {};
  const target = Properties?.['Target'] as Record<string, unknown>;

  test('is every five minutes', () => {
    expect(Properties).toMatchObject({
      ScheduleExpression: 'rate(5 minutes)',
      FlexibleTimeWindow: { Mode: 'OFF' },
      State: 'ENABLED',
    });
  });

  test('passes the time of the trigger and the policy that the bucket has', () => {
    const { scheduledTime, policy } = inputOf(template);
    expect(scheduledTime).toBe('<aws.scheduler.scheduled-time>');
    expect(policy).toEqual(bucketPolicy(template));
    const request = readEvent({ scheduledTime: '2026-11-20T14:05:00Z', policy });
    expect(policyRisks(bucketPolicy(template) as never, request.policy ?? { Statement: [] }, false)).toEqual([]);
  });

  test('gives a trigger up before the next one, and keeps it', () => {
    expect(target).toMatchObject({ RetryPolicy: { MaximumEventAgeInSeconds: 240, MaximumRetryAttempts: 3 } });
    const { Arn } = target['DeadLetterConfig'] as { Arn: { 'Fn::GetAtt': [string, string] } };
    expect(template.Resources[Arn['Fn::GetAtt'][0]]).toMatchObject({
      Type: 'AWS::SQS::Queue',
      Properties: { SqsManagedSseEnabled: true, MessageRetentionPeriod: 14 * 24 * 3600 },
    });
  });

  test('has a group of its own', () => {
    const groups = resourcesOfType(template, 'AWS::Scheduler::Schedule').map(
      ([, schedule]) => schedule.Properties['GroupName'],
    );
    expect(new Set(groups).size).toBe(groups.length);
  });

  test('has a role that may start the audit function and keep what it cannot deliver, and nothing else', async () => {
    const may = (action: string, resource: string) =>
      simulate({
        principal: roleArn(template, 'AuditScheduleRole'),
        action,
        resource,
        identityPolicies: policiesOf(template, 'AuditScheduleRole'),
      });
    expect(
      policiesOf(template, 'AuditScheduleRole').flatMap(({ Statement }) => Statement.map(({ Action }) => Action)),
    ).toEqual(['lambda:InvokeFunction', 'sqs:SendMessage']);
    await expect(may('lambda:InvokeFunction', functionArn('audit'))).resolves.toBe('Allowed');
    await expect(may('lambda:InvokeFunction', functionArn('verify'))).resolves.toBe('ImplicitlyDenied');
  });
});
