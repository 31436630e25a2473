import { exampleTemplate, resourcesOfType } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, type Policy, simulate } from './simulated-iam';

const template = exampleTemplate();

function arnOf(machine: string): string {
  const [id] = resourcesOfType(template, 'AWS::StepFunctions::StateMachine').find(([name]) =>
    name.startsWith(machine),
  ) ?? [''];
  return `arn:aws:states:eu-central-1:111122223333:stateMachine:${id}`;
}

const PLAN = arnOf('PlanMachine');
const RESTORE = arnOf('RestoreMachine');
const executionOf = (machine: string) => `${machine.replace(':stateMachine:', ':execution:')}:one`;

function policy(name: string): Policy {
  const [, found] = resourcesOfType(template, 'AWS::IAM::ManagedPolicy').find(([id]) => id.includes(name)) ?? [];
  return deployed(template, found?.Properties['PolicyDocument']) as Policy;
}

const may = (name: string, action: string, resource: string, context: Record<string, string> = {}) =>
  simulate({
    principal: 'arn:aws:iam::111122223333:role/somebody',
    action,
    resource,
    context,
    identityPolicies: [policy(name)],
    ...(action.startsWith('s3:') ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(action.startsWith('kms:') ? { resourcePolicy: keyPolicy(template, 'SnapshotKey') } : {}),
  });

describe.each([
  ['RestorePlanner', [PLAN], [RESTORE]],
  ['RestoreOperator', [PLAN, RESTORE], []],
])('%s', (name, allowed, denied) => {
  test.each(allowed)('may start %s, and follow what comes of it', async (machine) => {
    for (const action of ['StartExecution', 'DescribeStateMachine', 'ListExecutions']) {
      await expect(may(name, `states:${action}`, machine)).resolves.toBe('Allowed');
    }
    for (const action of ['DescribeExecution', 'GetExecutionHistory', 'DescribeStateMachineForExecution']) {
      await expect(may(name, `states:${action}`, executionOf(machine))).resolves.toBe('Allowed');
    }
  });

  test('may find the machines in the console', async () => {
    await expect(may(name, 'states:ListStateMachines', '*')).resolves.toBe('Allowed');
  });

  test.each([...denied, 'arn:aws:states:eu-central-1:111122223333:stateMachine:other'])(
    'may not start or follow %s',
    async (machine) => {
      await expect(may(name, 'states:StartExecution', machine)).resolves.not.toBe('Allowed');
      await expect(may(name, 'states:DescribeExecution', executionOf(machine))).resolves.not.toBe('Allowed');
    },
  );

  test.each([
    ['states:RedriveExecution', executionOf(RESTORE)],
    ['states:UpdateStateMachine', RESTORE],
    ['states:DeleteStateMachine', RESTORE],
    ['lambda:InvokeFunction', 'arn:aws:lambda:eu-central-1:111122223333:function:any'],
    ['ssm:SendCommand', 'arn:aws:ssm:eu-central-1:111122223333:document/any'],
    ['s3:GetObject', 'arn:aws:s3:::bucket/snapshots/a.db.zst'],
  ])('may not %s', async (action, resource) => {
    await expect(may(name, action, resource)).resolves.not.toBe('Allowed');
  });
});

test('only an operator may stop a restore', async () => {
  await expect(may('RestoreOperator', 'states:StopExecution', executionOf(RESTORE))).resolves.toBe('Allowed');
  await expect(may('RestorePlanner', 'states:StopExecution', executionOf(RESTORE))).resolves.not.toBe('Allowed');
});

test.each([
  ['RestoreOperator', 'Allowed'],
  ['RestorePlanner', 'ImplicitlyDenied'],
])('%s: reading the evidence of a restore that failed is %s, and reading a snapshot never is', async (name, answer) => {
  const key = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
  const encrypted = (object: string) => ({ 'kms:EncryptionContext:aws:s3:arn': `arn:aws:s3:::bucket/${object}` });
  await expect(may(name, 's3:GetObject', 'arn:aws:s3:::bucket/restores/a/evidence.json')).resolves.toBe(answer);
  await expect(may(name, 'kms:Decrypt', key, encrypted('restores/a/evidence.json'))).resolves.toBe(answer);
  await expect(may(name, 's3:ListBucket', 'arn:aws:s3:::bucket', { 's3:prefix': 'restores/a/' })).resolves.toBe(answer);
  await expect(may(name, 'kms:Decrypt', key, encrypted('snapshots/a.db.zst'))).resolves.not.toBe('Allowed');
  await expect(may(name, 's3:PutObject', 'arn:aws:s3:::bucket/restores/a.json')).resolves.not.toBe('Allowed');
});
