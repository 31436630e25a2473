import { exampleTemplate, resourcesOfType, theFunction } from './example-stack';
import { bucketPolicy, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const RECEIPT = `${BUCKET}/receipts/20261120T140000Z.json`;
const DRILL = `${BUCKET}/drills/20261121T043000Z.json`;
const TOOL = `${BUCKET}/tools/3.6.5/amd64/${'a'.repeat(64)}/etcd`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/ReceiptKey';
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };

const functionArn = (step: string) => {
  const [id = ''] =
    resourcesOfType(template, 'AWS::Lambda::Function').find(
      ([, resource]) => resource === theFunction(template, step),
    ) ?? [];
  return `arn:aws:lambda:eu-central-1:111122223333:function:${id}`;
};

function may(role: string, action: string, resource: string, context: Record<string, string> = {}) {
  const service = action.split(':')[0];
  return simulate({
    principal: roleArn(template, role),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, role),
    ...(service === 's3' ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(service === 'kms' ? { resourcePolicy: keyPolicy(template, resource.split('/')[1] ?? '') } : {}),
  });
}

const mayDrill = (action: string, resource: string, context: Record<string, string> = {}) =>
  may('DrillService', action, resource, context);

const encrypted = (arn: string) => ({ 'kms:EncryptionContext:aws:s3:arn': arn });

const actionsOf = (role: string) => [
  ...new Set(policiesOf(template, role).flatMap(({ Statement }) => Statement.flatMap(({ Action }) => Action))),
];

describe('the role of drill-run', () => {
  test('has no right but to write to its own log', () => {
    const [policy, ...others] = policiesOf(template, 'DrillRun');
    expect(others).toEqual([]);
    const logs = resourcesOfType(template, 'AWS::Logs::LogGroup').find(([id]) => id.startsWith('DrillRun'))?.[0] ?? '';
    expect(policy?.Statement).toEqual([
      {
        Effect: 'Allow',
        Action: ['logs:CreateLogStream', 'logs:PutLogEvents'],
        Resource: `arn:aws:logs:eu-central-1:111122223333:log-group:${logs}:*`,
      },
    ]);
  });

  test('is named by no policy but its own, and by no key', () => {
    const id = roleArn(template, 'DrillRun').split('/')[1] ?? '';
    const others = Object.entries(template.Resources).filter(
      ([, resource]) => !['AWS::Lambda::Function', 'AWS::IAM::Policy'].includes(resource.Type),
    );
    expect(others.filter(([, resource]) => JSON.stringify(resource).includes(id))).toEqual([]);
  });

  test.each([
    ['read a snapshot', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['have one decrypted', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['write a record', 's3:PutObject', DRILL, PUT],
    ['invoke anything', 'lambda:InvokeFunction', functionArn('drill'), {}],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(may('DrillRun', action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });
});

describe('drill-run', () => {
  test("runs the nodes' binaries: on their architecture, with all the disk that there is, on no network of ours", () => {
    expect(theFunction(template, 'drill-run').Properties).toMatchObject({
      Architectures: ['x86_64'],
      EphemeralStorage: { Size: 10_240 },
      Timeout: 780,
      MemorySize: 3008,
    });
    expect(theFunction(template, 'drill-run').Properties).not.toHaveProperty('VpcConfig');
    const arm = exampleTemplate({ architecture: 'arm64' });
    expect(theFunction(arm, 'drill-run').Properties).toMatchObject({ Architectures: ['arm64'] });
    expect(theFunction(arm, 'drill').Properties).toMatchObject({
      Environment: { Variables: { ARCHITECTURE: 'arm64' } },
    });
  });

  test('is told nothing by its environment: not the bucket, not a key', () => {
    const { Variables } = theFunction(template, 'drill-run').Properties['Environment'] as {
      Variables: Record<string, unknown>;
    };
    expect(Object.keys(Variables).sort()).toEqual([
      'CLUSTER_NAME',
      'NODE_OPTIONS',
      'POWERTOOLS_METRICS_NAMESPACE',
      'POWERTOOLS_SERVICE_NAME',
    ]);
  });

  test('ends before the drill function does, which still has to write what came of it', () => {
    const seconds = (step: string) => Number(theFunction(template, step).Properties['Timeout']);
    expect(seconds('drill-run') + 40).toBeLessThanOrEqual(820);
    expect(820 + 60).toBeLessThanOrEqual(seconds('drill'));
  });
});

describe('the drill role', () => {
  test('has exactly these actions', () => {
    expect(actionsOf('DrillService').sort()).toEqual([
      'kms:Decrypt',
      'kms:GenerateDataKey',
      'kms:Verify',
      'lambda:InvokeFunction',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObjectVersion',
      's3:ListBucketVersions',
      's3:PutObject',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
    ]);
  });

  test.each(['snapshots', 'receipts', 'restores', 'drills', 'tools'])(
    'may list, get by version and decrypt what is under %s/',
    async (prefix) => {
      const object = `${BUCKET}/${prefix}/20261120T140000Z`;
      await expect(mayDrill('s3:ListBucketVersions', BUCKET, { 's3:prefix': `${prefix}/` })).resolves.toBe('Allowed');
      await expect(mayDrill('s3:GetObjectVersion', object)).resolves.toBe('Allowed');
      await expect(mayDrill('kms:Decrypt', SNAPSHOT_KEY, encrypted(object))).resolves.toBe('Allowed');
    },
  );

  test.each([
    ['put the record of a drill', 's3:PutObject', DRILL, PUT],
    ['encrypt it', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(DRILL)],
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
    ['invoke drill-run', 'lambda:InvokeFunction', functionArn('drill-run'), {}],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayDrill(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['put a receipt', 's3:PutObject', RECEIPT, PUT],
    ['put a snapshot', 's3:PutObject', SNAPSHOT, PUT],
    ['put a binary', 's3:PutObject', TOOL, PUT],
    ['write over a record', 's3:PutObject', DRILL, { 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY }],
    ['delete a record', 's3:DeleteObjectVersion', DRILL, {}],
    ['read what nodes announced', 's3:GetObjectVersion', `${BUCKET}/announcements/20261120T140000Z.json`, {}],
    ['invoke the backup function', 'lambda:InvokeFunction', functionArn('backup'), {}],
    ['invoke another version of drill-run', 'lambda:InvokeFunction', `${functionArn('drill-run')}:1`, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(mayDrill(action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });

  test('is the only one that may write records of drills', async () => {
    for (const role of ['BackupService', 'VerifyService', 'RestoreService', 'AuditService']) {
      await expect(may(role, 's3:PutObject', DRILL, PUT)).resolves.not.toBe('Allowed');
    }
  });
});

describe('the schedule of drills', () => {
  const scheduleOf = (from = template) =>
    resourcesOfType(from, 'AWS::Scheduler::Schedule').find(([id]) => id.startsWith('Drill'))?.[1].Properties;

  test('is daily, or as the cluster says, in UTC', () => {
    expect(scheduleOf()).toMatchObject({
      ScheduleExpression: 'cron(30 4 * * ? *)',
      ScheduleExpressionTimezone: 'Etc/UTC',
      State: 'ENABLED',
      Target: { RetryPolicy: { MaximumEventAgeInSeconds: 21_600 } },
    });
    expect(scheduleOf(exampleTemplate({ drillSchedule: 'rate(7 days)' }))).toMatchObject({
      ScheduleExpression: 'rate(7 days)',
    });
  });

  test('passes the time of the trigger, which is the same for every delivery of it', () => {
    const { Input } = scheduleOf()?.['Target'] as { Input: string };
    expect(JSON.parse(Input)).toEqual({
      scheduledTime: '<aws.scheduler.scheduled-time>',
      scheduleArn: '<aws.scheduler.schedule-arn>',
    });
  });
});
