import { matches, readPattern } from '../../lab/aws/event-pattern';
import { expectedPins } from '../../lambda/restore/preflight';
import { officialTools } from '../../lambda/shared/official-tools';
import { ACKNOWLEDGED_TOOLS_LIMIT } from '../../lib/config';
import { exampleTemplate, resourcesOfType, theFunction } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const RECORD = `${BUCKET}/restores/20261120T140000Z.json`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/ReceiptKey';
const INSTANCE = 'arn:aws:ec2:eu-central-1:111122223333:instance/i-0123456789abcdef0';
const TAGS = { 'ssm:resourceTag/kubernetes.io/cluster/example': 'owned' };
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };
const STEPS = ['Preflight', 'Stop', 'Swap', 'Start', 'Check', 'Rollback', 'Cleanup', 'Diagnose'];

function idOf(type: string, part: string): string {
  return resourcesOfType(template, type).find(([id]) => id.startsWith(part))?.[0] ?? '';
}

const document = (name: string) => `arn:aws:ssm:eu-central-1:111122223333:document/${idOf('AWS::SSM::Document', name)}`;
const functionArn = (part: string) =>
  `arn:aws:lambda:eu-central-1:111122223333:function:${idOf('AWS::Lambda::Function', part)}`;

function mayRestore(action: string, resource: string, context: Record<string, string> = {}) {
  const service = action.split(':')[0];
  const key = resource.split('/')[1] ?? '';
  return simulate({
    principal: roleArn(template, 'RestoreService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'RestoreService'),
    ...(service === 's3' ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(service === 'kms' && key in template.Resources ? { resourcePolicy: keyPolicy(template, key) } : {}),
  });
}

function encrypted(arn: string) {
  return { 'kms:EncryptionContext:aws:s3:arn': arn };
}

describe('the restore role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'RestoreService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'ec2:DescribeInstances',
      'kms:Decrypt',
      'kms:GenerateDataKey',
      'kms:Verify',
      'lambda:InvokeFunction',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObject',
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
    ]);
  });

  test.each(STEPS)('may send the document %s', async (step) => {
    await expect(mayRestore('ssm:SendCommand', document(`Restore${step}`))).resolves.toBe('Allowed');
  });

  test.each([
    ['send a command to a control-plane node', 'ssm:SendCommand', INSTANCE, TAGS],
    ['get a snapshot by version, and so sign a URL for it', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['have a snapshot decrypted', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['find the receipt of a survivor’s snapshot', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'receipts/' }],
    ['read a receipt', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/receipts/a.json`)],
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
    ['get a tool', 's3:GetObject', `${BUCKET}/tools/3.6.16/amd64/aa/etcdutl`, {}],
    ['have a tool decrypted', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/tools/3.6.16/amd64/aa/etcdutl`)],
    ['write the record of a restore', 's3:PutObject', RECORD, PUT],
    ['write evidence', 's3:PutObject', `${BUCKET}/restores/20261120T140000Z/evidence.json`, PUT],
    ['encrypt a record', 'kms:GenerateDataKey', SNAPSHOT_KEY, encrypted(RECORD)],
    ['start the backup function', 'lambda:InvokeFunction', functionArn('BackupService'), {}],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(mayRestore(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test.each([
    ['send another document', 'ssm:SendCommand', 'arn:aws:ssm:eu-central-1:111122223333:document/RunShellScript', {}],
    ['send the documents of the backup', 'ssm:SendCommand', document('BackupSnapshot'), {}],
    ['send a command to another instance', 'ssm:SendCommand', INSTANCE, {}],
    ['get whatever version of a snapshot is the newest', 's3:GetObject', SNAPSHOT, {}],
    ['decrypt without S3', 'kms:Decrypt', SNAPSHOT_KEY, {}],
    ['decrypt the PKI', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/pki/a`)],
    ['read an announcement', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/announcements/a.json`)],
    ['put a snapshot', 's3:PutObject', SNAPSHOT, PUT],
    ['put a receipt, which would make any snapshot one to restore', 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['put a tool', 's3:PutObject', `${BUCKET}/tools/a`, PUT],
    ['write over a record', 's3:PutObject', RECORD, { ...PUT, 's3:if-none-match': undefined }],
    ['tag a snapshot', 's3:PutObjectTagging', SNAPSHOT, { 's3:RequestObjectTag/retention': 'pending' }],
    ['start the verify function', 'lambda:InvokeFunction', functionArn('VerifyService'), {}],
    ['start a version of the backup function', 'lambda:InvokeFunction', `${functionArn('BackupService')}:1`, {}],
    [
      'start a restore',
      'states:StartExecution',
      `arn:aws:states:eu-central-1:111122223333:stateMachine:${idOf('AWS::StepFunctions::StateMachine', 'RestoreMachine')}`,
      {},
    ],
    ['stop an instance', 'ec2:StopInstances', INSTANCE, {}],
    ['delete a snapshot', 's3:DeleteObjectVersion', SNAPSHOT, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    const given = Object.entries(context).filter(([, value]) => value !== undefined) as [string, string][];
    await expect(mayRestore(action, resource, Object.fromEntries(given))).resolves.not.toBe('Allowed');
  });

  test('shares the records of restores with the plan role, and with nobody else', async () => {
    for (const part of ['BackupService', 'VerifyService']) {
      await expect(
        simulate({
          principal: roleArn(template, part),
          action: 's3:PutObject',
          resource: RECORD,
          context: PUT,
          // Whatever its own policies say.
          identityPolicies: [
            { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:PutObject', Resource: '*' }] },
          ],
          resourcePolicy: bucketPolicy(template),
        }),
      ).resolves.toBe('ExplicitlyDenied');
    }
  });
});

describe('the restore function', () => {
  test('gets the environment that its handler reads', () => {
    const { Variables } = theFunction(template, 'restore').Properties['Environment'] as { Variables: unknown };
    expect(deployed(template, Variables)).toEqual({
      ACKNOWLEDGED_TOOLS: '',
      BACKUP_FUNCTION: idOf('AWS::Lambda::Function', 'BackupService'),
      BUCKET: 'bucket',
      BUCKET_OWNER: '111122223333',
      CLUSTER_NAME: 'example',
      CONTROL_PLANE_TAGS: '{"kubernetes.io/cluster/example":"owned"}',
      DISK_LIMIT_PERCENT: '80',
      NODE_OPTIONS: '--enable-source-maps',
      POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
      POWERTOOLS_SERVICE_NAME: 'restore',
      RECEIPT_KEY_ARN: RECEIPT_KEY,
      SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
      ...Object.fromEntries(
        STEPS.flatMap((step) => [
          [`${step.toUpperCase()}_DOCUMENT`, idOf('AWS::SSM::Document', `Restore${step}`)],
          [`${step.toUpperCase()}_DOCUMENT_VERSION`, '1'],
        ]),
      ),
    });
  });
});

describe('the documents of a restore', () => {
  const content = (name: string) =>
    deployed(template, template.Resources[idOf('AWS::SSM::Document', name)]?.Properties['Content']) as {
      parameters: Record<string, { allowedPattern: string; maxChars: number; default?: string }>;
      mainSteps: { inputs: { timeoutSeconds: string } }[];
    };

  test('take the hashes of every official release with as many acknowledged ones as there may be', () => {
    const acknowledged = Array.from({ length: ACKNOWLEDGED_TOOLS_LIMIT }, (_, index) => String(index).repeat(64));
    const lengths = Object.keys(officialTools).flatMap((etcdVersion) =>
      (['amd64', 'arm64'] as const).map(
        (arch) => expectedPins({ etcdVersion, arch }, officialTools, acknowledged).length,
      ),
    );
    expect(Math.min(...lengths)).toBeGreaterThan(ACKNOWLEDGED_TOOLS_LIMIT * 2 * 64);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(content('RestorePreflight').parameters['ToolPins']?.maxChars ?? 0);
  });

  test.each([
    ['PlanInspect', '120', ['ClusterName', 'Peers']],
    [
      'RestorePreflight',
      '3600',
      [
        'RestoreId',
        'Step',
        'SnapshotUrl',
        'SealedSignature',
        'Compression',
        'CompressedBytes',
        'CompressedSha256',
        'SizeBytes',
        'Sha256',
        'Revision',
        'Bump',
        'InitialCluster',
        'Token',
        'ToolPins',
        'ToolUrls',
        'EtcdVersion',
        'DiskLimitPercent',
        'AllowQuota',
      ],
    ],
    ['RestoreStop', '600', ['RestoreId', 'Hold']],
    ['RestoreSwap', '300', ['RestoreId']],
    ['RestoreStart', '600', ['RestoreId', 'Component']],
    ['RestoreCheck', '900', ['RestoreId', 'Component', 'WaitSeconds', 'Revision']],
    ['RestoreRollback', '1200', ['RestoreId', 'Served']],
    ['RestoreCleanup', '300', ['RestoreId', 'Outcome']],
    ['RestoreDiagnose', '180', ['RestoreId']],
  ])('%s is killed after %s seconds and takes %p', (name, seconds, parameters) => {
    const { mainSteps, parameters: declared } = content(name);
    expect(mainSteps[0]?.inputs.timeoutSeconds).toBe(seconds);
    expect(Object.keys(declared)).toEqual(parameters);
  });

  test.each([
    ['RestorePreflight', 'Step', ['key', 'stage'], ['', 'keystage', 'Key']],
    [
      'RestorePreflight',
      'SnapshotUrl',
      ['', 'https://bucket.s3.eu-central-1.amazonaws.com/snapshots/a?versionId=b&X-Amz-Signature='],
      ['ftp://a', 'https://a b', 'https://b.s3.amazonaws.com/snapshots/a?X-Amz-Signature='],
    ],
    ['RestorePreflight', 'InitialCluster', ['cp1=https://10.0.0.1:2380,cp2=https://[fd00::2]:2380'], ['a b', 'a;b']],
    ['RestorePreflight', 'AllowQuota', ['', 'yes', 'no'], ['maybe']],
    ['RestoreStart', 'Component', ['etcd', 'api-server', 'controllers'], ['', 'cluster']],
    ['RestoreCheck', 'Component', ['etcd', 'cluster', 'before'], ['', 'api-server', 'controllers']],
    ['RestoreCheck', 'WaitSeconds', ['0', '5', '30', '599', '600'], ['', '601', '1000', '-1']],
    ['RestoreRollback', 'Served', ['yes', 'no', 'held'], ['', 'true']],
    ['RestoreCleanup', 'Outcome', ['failed', 'restored', 'held'], ['', 'done']],
    ['RestoreStop', 'RestoreId', ['20261120T140000Z'], ['', '20261120T140000', '../x']],
    ['RestoreStop', 'Hold', ['none', 'controllers'], ['', 'yes', 'none; id']],
    ['PlanInspect', 'Peers', ['', 'https://10.0.0.1:2380 https://[fe80::1%25eth0]:2380'], ['$(x)', 'a;b']],
  ])('%s takes as %s %p, and none of %p', (name, parameter, good, bad) => {
    const pattern = new RegExp(content(name).parameters[parameter]?.allowedPattern ?? '^$');
    expect(good.filter((value) => !pattern.test(value))).toEqual([]);
    expect(bad.filter((value) => pattern.test(value))).toEqual([]);
  });

  test('have no default: a call that forgets something is refused', () => {
    const defaults = STEPS.flatMap((step) =>
      Object.entries(content(`Restore${step}`).parameters).filter(([, parameter]) => 'default' in parameter),
    );
    expect(defaults.map(([name]) => name)).toEqual(['ToolPins', 'ToolUrls']);
  });
});

describe('the rule for executions that no state knows to have ended', () => {
  const [ruleId, rule] = resourcesOfType(template, 'AWS::Events::Rule').find(([id]) =>
    id.startsWith('Interrupted'),
  ) ?? ['', undefined];

  test('is for restores that were stopped, timed out or ended by Step Functions itself, and for no plan', () => {
    expect(deployed(template, rule?.Properties['EventPattern'])).toEqual({
      source: ['aws.states'],
      'detail-type': ['Step Functions Execution Status Change'],
      detail: {
        $or: [{ status: ['TIMED_OUT', 'ABORTED'] }, { status: ['FAILED'], error: ['States.Runtime'] }],
        stateMachineArn: [
          `arn:aws:states:eu-central-1:111122223333:stateMachine:${idOf('AWS::StepFunctions::StateMachine', 'RestoreMachine')}`,
        ],
      },
    });
  });

  test.each([
    ['TIMED_OUT', null, true],
    ['ABORTED', 'Operator', true],
    ['FAILED', 'States.Runtime', true],
    ['FAILED', 'RollbackFailed', false],
    ['FAILED', null, false],
    ['SUCCEEDED', null, false],
  ])('takes a restore that is %s with the error %p: %p', (status, error, takes) => {
    const stateMachineArn = `arn:aws:states:eu-central-1:111122223333:stateMachine:${idOf('AWS::StepFunctions::StateMachine', 'RestoreMachine')}`;
    const event = {
      source: 'aws.states',
      'detail-type': 'Step Functions Execution Status Change',
      detail: { stateMachineArn, status, error },
    };
    const pattern = readPattern(deployed(template, rule?.Properties['EventPattern']));
    expect(matches(pattern, event)).toBe(takes);
    expect(matches(pattern, { ...event, detail: { ...event.detail, stateMachineArn: 'another' } })).toBe(false);
  });

  test('gives the event to the restore function, and what it cannot give to a queue', () => {
    const [target] = deployed(template, rule?.Properties['Targets']) as Record<string, unknown>[];
    expect(target).toMatchObject({
      Arn: functionArn('RestoreService'),
      DeadLetterConfig: { Arn: expect.stringContaining('InterruptedDeadLetters') as string },
      RetryPolicy: { MaximumEventAgeInSeconds: 86_400, MaximumRetryAttempts: 185 },
    });
    expect(target).not.toHaveProperty('Input');
  });

  test('is the only one that may start the restore function without the machine', () => {
    const permissions = resourcesOfType(template, 'AWS::Lambda::Permission')
      .map(([, { Properties }]) => deployed(template, Properties) as Record<string, unknown>)
      .filter(({ FunctionName }) => String(FunctionName).includes('RestoreService'));
    expect(permissions).toHaveLength(1);
    expect(permissions[0]).toMatchObject({ Principal: 'events.amazonaws.com' });
    expect(String(permissions[0]?.['SourceArn'])).toContain(ruleId);
  });
});
