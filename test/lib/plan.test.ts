import { exampleTemplate, resourcesOfType, theFunction } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate({ acknowledgedTools: ['a'.repeat(64)], diskLimitPercent: 70 });

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const PLAN_RECORD = `${BUCKET}/restores/20261120T140000Z/plan.json`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/ReceiptKey';
const ANNOUNCEMENT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/AnnouncementKey';
const INSTANCE = 'arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0';
const TAGS = { 'ssm:resourceTag/kubernetes.io/cluster/example': 'owned' };
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };

function idOf(type: string, part: string): string {
  return resourcesOfType(template, type).find(([id]) => id.startsWith(part))?.[0] ?? '';
}

const document = (name: string) => `arn:aws:ssm:eu-central-1:111122223333:document/${idOf('AWS::SSM::Document', name)}`;
const RESTORE_MACHINE = `arn:aws:states:eu-central-1:111122223333:stateMachine:${idOf('AWS::StepFunctions::StateMachine', 'RestoreMachine')}`;
const EXECUTION = `${RESTORE_MACHINE.replace('stateMachine', 'execution')}:one`;

function mayPlan(action: string, resource: string, context: Record<string, string> = {}) {
  const service = action.split(':')[0];
  const key = resource.split('/')[1] ?? '';
  return simulate({
    principal: roleArn(template, 'PlanService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'PlanService'),
    ...(service === 's3' ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(service === 'kms' && key in template.Resources ? { resourcePolicy: keyPolicy(template, key) } : {}),
  });
}

function encrypted(arn: string) {
  return { 'kms:EncryptionContext:aws:s3:arn': arn };
}

describe('the plan role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'PlanService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'ec2:DescribeInstances',
      'kms:Decrypt',
      'kms:GenerateDataKey',
      'kms:Verify',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObjectVersion',
      's3:ListBucket',
      's3:ListBucketVersions',
      's3:PutObject',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
      'ssm:DescribeInstanceInformation',
      'ssm:GetCommandInvocation',
      'ssm:ListCommands',
      'ssm:SendCommand',
      'states:DescribeExecution',
      'states:ListExecutions',
    ]);
  });

  test.each([
    ['send the inspect document', 'ssm:SendCommand', document('PlanInspect'), {}],
    ['send a command to a control-plane node', 'ssm:SendCommand', INSTANCE, TAGS],
    ['see which restores run', 'states:ListExecutions', RESTORE_MACHINE, {}],
    ['see what a restore was asked for', 'states:DescribeExecution', EXECUTION, {}],
    ['see which snapshots are there', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'snapshots/' }],
    ['see which tools are there', 's3:ListBucket', BUCKET, { 's3:prefix': 'tools/' }],
    ['get a receipt', 's3:GetObjectVersion', `${BUCKET}/receipts/a.json`, {}],
    ['read a receipt', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/receipts/a.json`)],
    ['read an announcement', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/announcements/a.json`)],
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
    ['read the record of a restore', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/restores/a.json`)],
    ['read the record of a drill', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/drills/a.json`)],
    ['put a plan', 's3:PutObject', PLAN_RECORD, PUT],
    ['encrypt a plan', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(PLAN_RECORD)],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayPlan(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['read a snapshot', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['get a snapshot, so that a URL that it signs is worth nothing', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['get the newest version of a snapshot', 's3:GetObject', SNAPSHOT, {}],
    ['get a tool', 's3:GetObject', `${BUCKET}/tools/a`, {}],
    ['write the record with which a timeline begins', 's3:PutObject', `${BUCKET}/restores/20261120T140000Z.json`, PUT],
    ['encrypt that record', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(`${BUCKET}/restores/20261120T140000Z.json`)],
    ['put a receipt', 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['use the key of announcements', 'kms:Verify', ANNOUNCEMENT_KEY, {}],
    ['stop a node', 'ssm:SendCommand', document('RestoreStop'), {}],
    ['prepare a node', 'ssm:SendCommand', document('RestorePreflight'), {}],
    ['take a snapshot', 'ssm:SendCommand', document('BackupSnapshot'), {}],
    ['send a command to another instance', 'ssm:SendCommand', INSTANCE, {}],
    ['start a restore', 'states:StartExecution', RESTORE_MACHINE, {}],
    ['stop a restore', 'states:StopExecution', EXECUTION, {}],
    [
      'see what another machine does',
      'states:DescribeExecution',
      'arn:aws:states:eu-central-1:111122223333:execution:other:a',
      {},
    ],
    ['start a function', 'lambda:InvokeFunction', 'arn:aws:lambda:eu-central-1:111122223333:function:any', {}],
    ['delete a plan', 's3:DeleteObject', PLAN_RECORD, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(mayPlan(action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });
});

describe('the plan function', () => {
  test('gets the environment that its handler reads', () => {
    const { Variables } = theFunction(template, 'plan').Properties['Environment'] as { Variables: unknown };
    expect(deployed(template, Variables)).toEqual({
      ACKNOWLEDGED_TOOLS: 'a'.repeat(64),
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      CLUSTER_NAME: 'example',
      CONTROL_PLANE_TAGS: '{"kubernetes.io/cluster/example":"owned"}',
      DISK_LIMIT_PERCENT: '70',
      INSPECT_DOCUMENT: document('PlanInspect').split('/')[1],
      INSPECT_DOCUMENT_VERSION: '1',
      NODE_OPTIONS: '--enable-source-maps',
      POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
      POWERTOOLS_SERVICE_NAME: 'plan',
      RECEIPT_KEY_ARN: RECEIPT_KEY,
      SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
    });
  });
});
