import { exampleTemplate, resourcesOfType, theFunction } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate({
  controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned', 'k8s.io/role/control-plane': '1' },
});

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const ANNOUNCEMENT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/AnnouncementKey';
const INSTANCE = 'arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0';
const ALL_TAGS = {
  'ssm:resourceTag/kubernetes.io/cluster/example': 'owned',
  'ssm:resourceTag/k8s.io/role/control-plane': '1',
};
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };

function documentArn(step: string): string {
  const id = resourcesOfType(template, 'AWS::SSM::Document').find(([logicalId]) => logicalId.includes(step))?.[0] ?? '';
  return `arn:aws:ssm:eu-central-1:111122223333:document/${id}`;
}

function resourcePolicyOf(action: string) {
  const service = action.split(':')[0];
  if (service === 's3') {
    return { resourcePolicy: bucketPolicy(template) };
  }
  return service === 'kms' ? { resourcePolicy: keyPolicy(template, 'SnapshotKey') } : {};
}

function mayBackup(action: string, resource: string, context: Record<string, string> = {}) {
  return simulate({
    principal: roleArn(template, 'BackupService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'BackupService'),
    ...resourcePolicyOf(action),
  });
}

describe('the backup role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'BackupService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'ec2:DescribeInstances',
      'kms:Decrypt',
      'kms:GenerateDataKey',
      'kms:Sign',
      'kms:Verify',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObject',
      's3:ListBucket',
      's3:PutObject',
      's3:PutObjectTagging',
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
    ['send the snapshot document', 'ssm:SendCommand', documentArn('Snapshot'), {}],
    ['send the upload document', 'ssm:SendCommand', documentArn('Upload'), {}],
    ['send the tools document', 'ssm:SendCommand', documentArn('BackupTools'), {}],
    ['see when restores were', 's3:ListBucket', BUCKET, { 's3:prefix': 'restores/' }],
    ['send a command to an instance with all tags', 'ssm:SendCommand', INSTANCE, ALL_TAGS],
    ['find instances', 'ec2:DescribeInstances', '*', {}],
    ['read the agents’ versions', 'ssm:DescribeInstanceInformation', '*', {}],
    ['find a command by its comment', 'ssm:ListCommands', '*', {}],
    ['read what a command printed', 'ssm:GetCommandInvocation', '*', {}],
    ['sign an announcement', 'kms:Sign', ANNOUNCEMENT_KEY, {}],
    ['verify an announcement', 'kms:Verify', ANNOUNCEMENT_KEY, {}],
    ['put an announcement', 's3:PutObject', `${BUCKET}/announcements/20261120T140000Z.json`, PUT],
    ['put a snapshot', 's3:PutObject', `${BUCKET}/snapshots/20261120T140000Z.db.zst`, PUT],
    ['put a tool', 's3:PutObject', `${BUCKET}/tools/3.6.16/amd64/aa/etcdutl`, PUT],
    [
      'tag the snapshot that it puts as pending',
      's3:PutObjectTagging',
      `${BUCKET}/snapshots/a.db.zst`,
      { 's3:RequestObjectTag/retention': 'pending' },
    ],
    ['see that a snapshot is there', 's3:GetObject', `${BUCKET}/snapshots/20261120T140000Z.db.zst`, {}],
    ['list without a prefix, as HEAD of a missing key does, and so every key there is', 's3:ListBucket', BUCKET, {}],
    ['list announcements', 's3:ListBucket', BUCKET, { 's3:prefix': 'announcements/20261120T140000Z' }],
    [
      'encrypt a snapshot',
      'kms:GenerateDataKey',
      SNAPSHOT_KEY,
      { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/snapshots/a.db.zst` },
    ],
    [
      'read an announcement',
      'kms:Decrypt',
      SNAPSHOT_KEY,
      { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/announcements/a.json` },
    ],
    [
      'read a tool',
      'kms:Decrypt',
      SNAPSHOT_KEY,
      { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/tools/3.6.16/amd64/aa/etcdutl` },
    ],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayBackup(action, resource, context)).resolves.toBe('Allowed');
  });

  test.each([
    ['run any other document', 'ssm:SendCommand', 'arn:aws:ssm:eu-central-1:111122223333:document/RunShellScript', {}],
    [
      'send a command to an instance with only one of the tags',
      'ssm:SendCommand',
      INSTANCE,
      { 'ssm:resourceTag/k8s.io/role/control-plane': '1' },
    ],
    [
      'send a command to another cluster',
      'ssm:SendCommand',
      INSTANCE,
      { ...ALL_TAGS, 'ssm:resourceTag/kubernetes.io/cluster/example': 'shared' },
    ],
    ['stop a control plane', 'ssm:SendCommand', documentArn('RestoreStop'), {}],
    ['read the record of a restore', 's3:GetObject', `${BUCKET}/restores/a.json`, {}],
    ['write the record of a restore', 's3:PutObject', `${BUCKET}/restores/a.json`, PUT],
    ['send a command to an instance without tags', 'ssm:SendCommand', INSTANCE, {}],
    ['change a document', 'ssm:UpdateDocument', documentArn('Snapshot'), {}],
    [
      'read what is in a snapshot',
      'kms:Decrypt',
      SNAPSHOT_KEY,
      { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/snapshots/a.db.zst` },
    ],
    ['decrypt without S3', 'kms:Decrypt', SNAPSHOT_KEY, {}],
    [
      'encrypt what lies elsewhere',
      'kms:GenerateDataKey',
      SNAPSHOT_KEY,
      { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/receipts/a.json` },
    ],
    ['sign with another key', 'kms:Sign', 'arn:aws:kms:eu-central-1:111122223333:key/other', {}],
    ['delete a key', 'kms:ScheduleKeyDeletion', SNAPSHOT_KEY, {}],
    ['read a receipt', 's3:GetObject', `${BUCKET}/receipts/a.json`, {}],
    ['list another prefix', 's3:ListBucket', BUCKET, { 's3:prefix': 'pki/' }],
    ['put a receipt', 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    [
      'call a snapshot failed, so that it expires',
      's3:PutObjectTagging',
      `${BUCKET}/snapshots/a.db.zst`,
      { 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'call a verified snapshot pending, so that it expires',
      's3:PutObjectTagging',
      `${BUCKET}/snapshots/a.db.zst`,
      { 's3:RequestObjectTag/retention': 'pending', 's3:ExistingObjectTag/retention': 'latest' },
    ],
    ['list the invocations of every command', 'ssm:ListCommandInvocations', '*', {}],
    ['put into another bucket', 's3:PutObject', 'arn:aws:s3:::other/snapshots/a.db.zst', PUT],
    ['delete a snapshot', 's3:DeleteObject', `${BUCKET}/snapshots/a.db.zst`, {}],
    ['bypass a lock', 's3:BypassGovernanceRetention', `${BUCKET}/snapshots/a.db.zst`, {}],
    ['change the lifecycle', 's3:PutLifecycleConfiguration', BUCKET, {}],
    ['start itself', 'lambda:InvokeFunction', 'arn:aws:lambda:eu-central-1:111122223333:function:any', {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(mayBackup(action, resource, context)).resolves.not.toBe('Allowed');
  });
});

describe('the backup function', () => {
  test('gets the environment that its handler reads', () => {
    const { Variables } = theFunction(template, 'backup').Properties['Environment'] as {
      Variables: unknown;
    };
    expect(deployed(template, Variables)).toEqual({
      ACKNOWLEDGED_MEMBERS: '0',
      ACKNOWLEDGED_TOOLS: '',
      ANNOUNCEMENT_KEY_ARN: ANNOUNCEMENT_KEY,
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      CLUSTER_NAME: 'example',
      MAX_KEEP_DAYS: '186',
      CONTROL_PLANE_TAGS: '{"kubernetes.io/cluster/example":"owned","k8s.io/role/control-plane":"1"}',
      NODE_OPTIONS: '--enable-source-maps',
      POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
      POWERTOOLS_SERVICE_NAME: 'backup',
      SNAPSHOT_DOCUMENT: documentArn('Snapshot').split('/')[1],
      SNAPSHOT_DOCUMENT_VERSION: '1',
      SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
      TOOLS_DOCUMENT: documentArn('BackupTools').split('/')[1],
      TOOLS_DOCUMENT_VERSION: '1',
      UPLOAD_DOCUMENT: documentArn('Upload').split('/')[1],
      UPLOAD_DOCUMENT_VERSION: '1',
    });
  });

  test('gets the hashes of acknowledged tools with blanks between them', () => {
    const [first, second] = ['a'.repeat(64), 'b'.repeat(64)];
    const acknowledging = exampleTemplate({ acknowledgedTools: [first, second] });
    expect(theFunction(acknowledging, 'backup').Properties['Environment']).toMatchObject({
      Variables: { ACKNOWLEDGED_TOOLS: `${first} ${second}` },
    });
  });

  test('has 15 minutes and 512 MiB', () => {
    expect(theFunction(template, 'backup').Properties).toMatchObject({ Timeout: 900, MemorySize: 512 });
  });
});

describe('the snapshot document', () => {
  test('takes tools of a version with build metadata, such as 3.5.21+vendor.1', () => {
    const [, document] = resourcesOfType(template, 'AWS::SSM::Document').find(([id]) => id.includes('Snapshot')) ?? [];
    const { parameters } = document?.Properties['Content'] as {
      parameters: Record<string, { allowedPattern: string }>;
    };
    const pin = `3.5.21+vendor.1/amd64/etcdctl=${'a'.repeat(64)}`;
    expect(`${pin} ${pin}`).toMatch(new RegExp(parameters['ToolPins']?.allowedPattern ?? '^$'));
  });
});

describe('the disk limit of a cluster', () => {
  test('is what the snapshot document assumes when a call says nothing', () => {
    const limited = exampleTemplate({ diskLimitPercent: 70 });
    const [, document] = resourcesOfType(limited, 'AWS::SSM::Document').find(([id]) => id.includes('Snapshot')) ?? [];
    expect(document?.Properties['Content']).toMatchObject({ parameters: { DiskLimitPercent: { default: '70' } } });
  });
});
