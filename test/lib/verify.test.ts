import { exampleTemplate, resourcesOfType, theFunction } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate({ acknowledgedTimelines: ['20261120T140000Z', '20261121T030000Z'] });

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const RECEIPT = `${BUCKET}/receipts/20261120T140000Z.json`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const ANNOUNCEMENT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/AnnouncementKey';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/ReceiptKey';
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };
const READ_PREFIXES = ['snapshots', 'announcements', 'receipts'];

function resourcePolicyOf(action: string, resource: string) {
  const service = action.split(':')[0];
  if (service === 's3') {
    return { resourcePolicy: bucketPolicy(template) };
  }
  const key = resource.split('/')[1] ?? '';
  return service === 'kms' && key in template.Resources ? { resourcePolicy: keyPolicy(template, key) } : {};
}

function mayVerify(action: string, resource: string, context: Record<string, string> = {}) {
  return simulate({
    principal: roleArn(template, 'VerifyService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'VerifyService'),
    ...resourcePolicyOf(action, resource),
  });
}

function encrypted(arn: string) {
  return { 'kms:EncryptionContext:aws:s3:arn': arn };
}

describe('the verify role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'VerifyService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'kms:Decrypt',
      'kms:GenerateDataKey',
      'kms:Sign',
      'kms:Verify',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObjectRetention',
      's3:GetObjectVersion',
      's3:GetObjectVersionTagging',
      's3:ListBucketVersions',
      's3:PutObject',
      's3:PutObjectRetention',
      's3:PutObjectVersionTagging',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
    ]);
  });

  test.each(READ_PREFIXES)('may list, get by version and decrypt what is under %s/', async (prefix) => {
    const object = `${BUCKET}/${prefix}/20261120T140000Z`;
    await expect(mayVerify('s3:ListBucketVersions', BUCKET, { 's3:prefix': `${prefix}/` })).resolves.toBe('Allowed');
    await expect(mayVerify('s3:GetObjectVersion', object)).resolves.toBe('Allowed');
    await expect(mayVerify('kms:Decrypt', SNAPSHOT_KEY, encrypted(object))).resolves.toBe('Allowed');
  });

  test('may list the records of restores, whose names are all that it needs', async () => {
    await expect(mayVerify('s3:ListBucketVersions', BUCKET, { 's3:prefix': 'restores/' })).resolves.toBe('Allowed');
  });

  test.each(['latest', 'hourly', 'daily', 'weekly', 'monthly', 'on-demand', 'pre-restore'])(
    'may call a snapshot %s, whatever it is called now',
    async (retention) => {
      for (const existing of ['pending', 'failed', 'latest', 'hourly']) {
        const context = { 's3:RequestObjectTag/retention': retention, 's3:ExistingObjectTag/retention': existing };
        await expect(mayVerify('s3:PutObjectVersionTagging', SNAPSHOT, context)).resolves.toBe('Allowed');
      }
    },
  );

  test.each(['pending', 'failed', undefined])('may call a snapshot failed that is called %s', async (existing) => {
    const context = {
      's3:RequestObjectTag/retention': 'failed',
      ...(existing === undefined ? {} : { 's3:ExistingObjectTag/retention': existing }),
    };
    await expect(mayVerify('s3:PutObjectVersionTagging', SNAPSHOT, context)).resolves.toBe('Allowed');
  });

  test.each([
    ['see the tag of a version', 's3:GetObjectVersionTagging', SNAPSHOT, {}],
    ['see the lock of a snapshot', 's3:GetObjectRetention', SNAPSHOT, {}],
    [
      'lock a snapshot as long as the longest class',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'GOVERNANCE', 's3:object-lock-remaining-retention-days': '186' },
    ],
    ['put a receipt', 's3:PutObject', RECEIPT, PUT],
    ['encrypt a receipt', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(RECEIPT)],
    ['check the signature of an announcement', 'kms:Verify', ANNOUNCEMENT_KEY, {}],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayVerify(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['sign an announcement', 'kms:Sign', ANNOUNCEMENT_KEY, {}],
    ['sign with another key', 'kms:Sign', 'arn:aws:kms:eu-central-1:111122223333:key/other', {}],
    [
      'call a proven snapshot failed',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'lock a snapshot so that nobody can end it',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'COMPLIANCE', 's3:object-lock-remaining-retention-days': '2' },
    ],
    ['call a snapshot pending', 's3:PutObjectVersionTagging', SNAPSHOT, { 's3:RequestObjectTag/retention': 'pending' }],
    [
      'call a snapshot what no rule knows',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:RequestObjectTag/retention': 'x' },
    ],
    ['take the tag away by putting others', 's3:PutObjectVersionTagging', SNAPSHOT, { 's3:RequestObjectTag/a': 'b' }],
    [
      'tag whatever version is the newest',
      's3:PutObjectTagging',
      SNAPSHOT,
      { 's3:RequestObjectTag/retention': 'latest' },
    ],
    ['tag a receipt', 's3:PutObjectVersionTagging', RECEIPT, { 's3:RequestObjectTag/retention': 'failed' }],
    ['see the tag of a receipt', 's3:GetObjectVersionTagging', RECEIPT, {}],
    [
      'lock a snapshot for longer than any class',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '187' },
    ],
    ['lock a receipt', 's3:PutObjectRetention', RECEIPT, { 's3:object-lock-remaining-retention-days': '2' }],
    ['hold a snapshot', 's3:PutObjectLegalHold', SNAPSHOT, {}],
    ['bypass a lock', 's3:BypassGovernanceRetention', SNAPSHOT, {}],
    ['put a snapshot', 's3:PutObject', SNAPSHOT, PUT],
    ['put an announcement', 's3:PutObject', `${BUCKET}/announcements/a.json`, PUT],
    ['put a record of a restore', 's3:PutObject', `${BUCKET}/restores/a.json`, PUT],
    ['put a receipt over another', 's3:PutObject', RECEIPT, { ...PUT, 's3:if-none-match': undefined }],
    ['encrypt a snapshot', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['decrypt a tool', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/tools/a`)],
    ['decrypt the PKI', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/pki/a`)],
    ['decrypt without S3', 'kms:Decrypt', SNAPSHOT_KEY, {}],
    ['get whatever version is the newest', 's3:GetObject', SNAPSHOT, {}],
    ['get the record of a restore', 's3:GetObjectVersion', `${BUCKET}/restores/a.json`, {}],
    ['decrypt the record of a restore', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/restores/a.json`)],
    ['get a tool', 's3:GetObjectVersion', `${BUCKET}/tools/a`, {}],
    ['list the whole bucket', 's3:ListBucketVersions', BUCKET, {}],
    ['list another prefix', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'pki/' }],
    ['delete a snapshot', 's3:DeleteObject', SNAPSHOT, {}],
    ['delete a version', 's3:DeleteObjectVersion', SNAPSHOT, {}],
    ['change the lifecycle', 's3:PutLifecycleConfiguration', BUCKET, {}],
    ['run a command', 'ssm:SendCommand', 'arn:aws:ssm:eu-central-1:111122223333:document/any', {}],
    ['start a function', 'lambda:InvokeFunction', 'arn:aws:lambda:eu-central-1:111122223333:function:any', {}],
  ])('may not %s', async (_what, action, resource, context) => {
    const given = Object.entries(context).filter(([, value]) => value !== undefined) as [string, string][];
    await expect(mayVerify(action, resource, Object.fromEntries(given))).resolves.not.toBe('Allowed');
  });
});

describe('the verify function', () => {
  test('gets the environment that its handler reads', () => {
    const { Variables } = theFunction(template, 'verify').Properties['Environment'] as { Variables: unknown };
    expect(deployed(template, Variables)).toEqual({
      ACKNOWLEDGED_TIMELINES: '20261120T140000Z 20261121T030000Z',
      ANNOUNCEMENT_KEY_ARN: ANNOUNCEMENT_KEY,
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      CLUSTER_NAME: 'example',
      KEEP: '{"hourlyHours":48,"dailyDays":7,"weeklyWeeks":4,"monthlyMonths":6,"onDemandDays":30,"preRestoreDays":30}',
      KEYS_LOST_PERCENT: '20',
      NODE_OPTIONS: '--enable-source-maps',
      POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
      POWERTOOLS_SERVICE_NAME: 'verify',
      RECEIPT_KEY_ARN: RECEIPT_KEY,
      SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
    });
  });

  test('has 15 minutes, one vCPU, and the largest disk there is', () => {
    expect(theFunction(template, 'verify').Properties).toMatchObject({
      Timeout: 900,
      MemorySize: 1769,
      EphemeralStorage: { Size: 10_240 },
    });
  });

  test('is the only one that needs a disk', () => {
    expect(theFunction(template, 'backup').Properties).not.toHaveProperty('EphemeralStorage');
  });
});

describe('the rule', () => {
  const found = resourcesOfType(template, 'AWS::Events::Rule').find(([id]) => id.startsWith('Verify'));
  const ruleId = found?.[0] ?? '';
  const rule = found?.[1].Properties ?? {};

  test('is for objects that were created under snapshots/ of this bucket', () => {
    expect(deployed(template, rule['EventPattern'])).toEqual({
      source: ['aws.s3'],
      'detail-type': ['Object Created'],
      detail: { bucket: { name: ['bucket'] }, object: { key: [{ prefix: 'snapshots/' }] } },
    });
    expect(rule['State']).toBe('ENABLED');
  });

  test('starts the verify function, tries for a day, and keeps what it cannot deliver', () => {
    const [target, ...others] = rule['Targets'] as Record<string, unknown>[];
    const [functionId] =
      resourcesOfType(template, 'AWS::Lambda::Function').find(
        ([, resource]) => resource === theFunction(template, 'verify'),
      ) ?? [];
    expect(others).toEqual([]);
    expect(target).toMatchObject({
      Arn: { 'Fn::GetAtt': [functionId, 'Arn'] },
      RetryPolicy: { MaximumEventAgeInSeconds: 86_400, MaximumRetryAttempts: 185 },
    });
    const { Arn } = target?.['DeadLetterConfig'] as { Arn: { 'Fn::GetAtt': [string, string] } };
    expect(template.Resources[Arn['Fn::GetAtt'][0]]).toMatchObject({
      Type: 'AWS::SQS::Queue',
      Properties: { SqsManagedSseEnabled: true, MessageRetentionPeriod: 14 * 24 * 3600 },
    });
  });

  test('is all that may start it, and all of EventBridge that may write to its queue', () => {
    const arn = { 'Fn::GetAtt': [ruleId, 'Arn'] };
    const ofVerify = (type: string) =>
      resourcesOfType(template, type)
        .filter(([id]) => id.startsWith('Verify'))
        .map(([, { Properties }]) => Properties);
    expect(ofVerify('AWS::Lambda::Permission')).toEqual([
      expect.objectContaining({
        Action: 'lambda:InvokeFunction',
        Principal: 'events.amazonaws.com',
        SourceArn: arn,
      }),
    ]);
    const letIn = ofVerify('AWS::SQS::QueuePolicy').flatMap((properties) =>
      (properties['PolicyDocument'] as { Statement: { Effect: string }[] }).Statement.filter(
        ({ Effect }) => Effect === 'Allow',
      ),
    );
    expect(letIn).toEqual([
      expect.objectContaining({
        Action: 'sqs:SendMessage',
        Principal: { Service: 'events.amazonaws.com' },
        Condition: { ArnEquals: { 'aws:SourceArn': arn } },
      }),
    ]);
  });
});
