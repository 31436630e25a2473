import { type CfnTemplate, exampleTemplate, resourcesOfType, theFunction, theResource } from './example-stack';
import { deployed, keyPolicy, policiesOf, type Policy, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate({ notify: { emails: ['a@example.com', 'b@example.com'] } });
const TOPIC = 'arn:aws:sns:eu-central-1:111122223333:oncall';
const adopted = exampleTemplate({ notify: { topicArn: TOPIC } });
const nobody = exampleTemplate({ notify: 'nobody' });
const withBundles = exampleTemplate({ pkiBundle: true });

const [KEY_ID = ''] = resourcesOfType(template, 'AWS::KMS::Key')
  .map(([id]) => id)
  .filter((id) => id.startsWith('Notify'));
const KEY = `arn:aws:kms:eu-central-1:111122223333:key/${KEY_ID}`;

const textOf = (value: object): string => JSON.stringify(value);

function notifyRules(from: CfnTemplate): Record<string, unknown>[] {
  return resourcesOfType(from, 'AWS::Events::Rule')
    .filter(([id]) => id.startsWith('Notify'))
    .map(([, { Properties }]) => Properties);
}

describe('the topic', () => {
  test('is encrypted with a key that encrypts nothing else', () => {
    expect(theResource(template, 'AWS::SNS::Topic').Properties).toMatchObject({
      KmsMasterKeyId: { 'Fn::GetAtt': [KEY_ID, 'Arn'] },
    });
    const using = Object.entries(template.Resources)
      .filter(([, resource]) => JSON.stringify(resource.Properties).includes(`"${KEY_ID}"`))
      .map(([, { Type }]) => Type);
    // Audit's function and role see whether it is enabled.
    expect(using.sort()).toEqual([
      // That tells of what is done to it.
      'AWS::Events::Rule',
      'AWS::IAM::Policy',
      'AWS::IAM::Policy',
      'AWS::Lambda::Function',
      'AWS::SNS::Topic',
    ]);
    expect(template.Resources[KEY_ID]?.Properties).toMatchObject({ EnableKeyRotation: true });
  });

  test('has a subscription for each address', () => {
    expect(
      resourcesOfType(template, 'AWS::SNS::Subscription').map(([, { Properties }]) => [
        Properties['Protocol'],
        Properties['Endpoint'],
      ]),
    ).toEqual([
      ['email', 'a@example.com'],
      ['email', 'b@example.com'],
    ]);
  });

  const statements = (
    deployed(template, theResource(template, 'AWS::SNS::TopicPolicy').Properties['PolicyDocument']) as Policy
  ).Statement;
  const ALARMS = {
    StringEquals: { 'aws:SourceAccount': '111122223333' },
    ArnLike: { 'aws:SourceArn': expect.stringMatching(/:alarm:etcd-backup-example-\*$/) as string },
  };

  test('takes messages from alarms of this cluster, and from no other service', () => {
    expect(statements.filter(({ Effect }) => Effect === 'Allow')).toEqual([
      expect.objectContaining({
        Principal: { Service: 'cloudwatch.amazonaws.com' },
        Action: 'sns:Publish',
        Condition: ALARMS,
      }),
    ]);
  });

  test('refuses requests without TLS', () => {
    expect(statements).toContainEqual(
      expect.objectContaining({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
    );
  });

  test('has a key that serves the same, and leaves the rest to IAM', () => {
    expect(keyPolicy(template, KEY_ID).Statement).toEqual([
      expect.objectContaining({ Action: 'kms:*', Principal: { AWS: 'arn:aws:iam::111122223333:root' } }),
      expect.objectContaining({
        Action: ['kms:Decrypt', 'kms:GenerateDataKey*'],
        Principal: { Service: 'cloudwatch.amazonaws.com' },
        Condition: ALARMS,
      }),
    ]);
  });
});

describe('the notify function', () => {
  test('has exactly these actions', () => {
    const actions = (from: CfnTemplate) => [
      ...new Set(
        policiesOf(from, 'NotifyService').flatMap(({ Statement }) => Statement.flatMap(({ Action }) => Action)),
      ),
    ];
    const always = [
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      'sns:Publish',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
    ];
    expect(actions(template).sort()).toEqual(['kms:Decrypt', 'kms:GenerateDataKey', ...always]);
    // The policy of somebody else's key is theirs to write.
    expect(actions(adopted).sort()).toEqual(always);
  });

  test.each([
    ['encrypt a message', 'kms:GenerateDataKey', KEY, 'Allowed'],
    [
      'use the key of the snapshots',
      'kms:Decrypt',
      'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey',
      'ImplicitlyDenied',
    ],
  ])('may or may not %s', async (_what, action, resource, expected) => {
    await expect(
      simulate({
        principal: roleArn(template, 'NotifyService'),
        action,
        resource,
        identityPolicies: policiesOf(template, 'NotifyService'),
        resourcePolicy: keyPolicy(template, resource.split('/')[1] ?? ''),
      }),
    ).resolves.toBe(expected);
  });

  test('knows which machine only plans, and where the documentation lies', () => {
    const { Variables } = theFunction(template, 'notify').Properties['Environment'] as { Variables: unknown };
    expect(Variables).toMatchObject({
      PLAN_MACHINE_ARN: { Ref: expect.stringMatching(/^PlanMachine/) as string },
      DOCS: expect.stringMatching(/docs\/$/) as string,
    });
  });
});

describe('its rules', () => {
  test('send every end of a restore, its start, and every plan', () => {
    expect(notifyRules(template).map(({ EventPattern }) => EventPattern)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          source: ['aws.states'],
          detail: {
            stateMachineArn: [{ Ref: expect.stringMatching(/^RestoreMachine/) as string }],
            status: ['RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'],
          },
        }),
        expect.objectContaining({
          source: ['aws.states'],
          detail: {
            stateMachineArn: [{ Ref: expect.stringMatching(/^PlanMachine/) as string }],
            status: ['SUCCEEDED', 'FAILED'],
          },
        }),
      ]),
    );
  });

  test.each<[string, CfnTemplate, number]>([
    ['without bundles', template, 4],
    ['with bundles', withBundles, 5],
    ['with a topic of somebody else', adopted, 3],
  ])('send what is done to each key of a stack %s, by its ARN and by its id', (_what, from, count) => {
    const keys = resourcesOfType(from, 'AWS::KMS::Key').map(([id]) => id);
    expect(keys).toHaveLength(count);
    const pattern = notifyRules(from)
      .map(({ EventPattern }) => EventPattern as { source: string[]; detail: Record<string, unknown> })
      .find(({ source }) => source[0] === 'aws.kms');
    expect(pattern?.detail).toEqual({
      eventSource: ['kms.amazonaws.com'],
      eventName: ['DisableKey', 'ScheduleKeyDeletion'],
      requestParameters: { keyId: expect.anything() as unknown },
    });
    expect((pattern?.detail['requestParameters'] as { keyId: object[] }).keyId.map(textOf).sort()).toEqual(
      keys.flatMap((id) => [{ 'Fn::GetAtt': [id, 'Arn'] }, { Ref: id }].map(textOf)).sort(),
    );
  });

  test('keep what they cannot deliver', () => {
    const queues = notifyRules(template).map(
      ({ Targets }) => (Targets as { DeadLetterConfig?: unknown }[])[0]?.DeadLetterConfig,
    );
    expect(queues).toHaveLength(3);
    expect(new Set(queues.map((queue) => JSON.stringify(queue))).size).toBe(1);
    expect(queues[0]).toBeDefined();
  });
});

describe('a topic of somebody else', () => {
  test('is what alarms act on, and nothing is made of it or for it', () => {
    for (const type of ['AWS::SNS::Topic', 'AWS::SNS::TopicPolicy', 'AWS::SNS::Subscription']) {
      expect(resourcesOfType(adopted, type)).toEqual([]);
    }
    expect(resourcesOfType(adopted, 'AWS::KMS::Key').map(([id]) => id)).toEqual([
      'SnapshotKey',
      'AnnouncementKey',
      'ReceiptKey',
    ]);
    for (const [, { Properties }] of resourcesOfType(adopted, 'AWS::CloudWatch::Alarm')) {
      expect(Properties['AlarmActions']).toEqual([TOPIC]);
    }
  });
});

test('nobody to notify means no topic, no key, no function and no rule for it', () => {
  expect(Object.keys(nobody.Resources).filter((id) => id.startsWith('Notify'))).toEqual([]);
  expect(resourcesOfType(nobody, 'AWS::CloudWatch::Alarm').length).toBeGreaterThan(15);
});
