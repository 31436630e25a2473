import { exampleTemplate, resourcesOfType } from './example-stack';
import { policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();
const functions = resourcesOfType(template, 'AWS::Lambda::Function');
/** Runs what nodes run, is only ever invoked by one that waits for it, and has no right but its log: test/lib/drill.test.ts. */
const isBare = (id: string) => id.startsWith('DrillRun');

describe('every function', () => {
  test('runs Node 24 on arm64, but for the one that runs binaries of nodes', () => {
    expect(functions.map(([, { Properties }]) => [Properties['Runtime'], Properties['Architectures']])).toEqual(
      functions.map(([id]) => ['nodejs24.x', [isBare(id) ? 'x86_64' : 'arm64']]),
    );
    expect(functions.length).toBeGreaterThan(0);
  });

  test('sends what failed for good, after two retries, to an encrypted queue', () => {
    for (const [id] of functions.filter(([each]) => !isBare(each))) {
      const config = resourcesOfType(template, 'AWS::Lambda::EventInvokeConfig').find(
        ([, { Properties }]) => (Properties['FunctionName'] as { Ref: string }).Ref === id,
      );
      expect(config?.[1].Properties).toMatchObject(
        // Five minutes later there is another run of it.
        id.startsWith('Audit')
          ? { MaximumRetryAttempts: 0 }
          : { MaximumRetryAttempts: 2, MaximumEventAgeInSeconds: 3600 },
      );
      const { DestinationConfig } = config?.[1].Properties as {
        DestinationConfig: { OnFailure: { Destination: { 'Fn::GetAtt': [string, string] } } };
      };
      const queue = template.Resources[DestinationConfig.OnFailure.Destination['Fn::GetAtt'][0]];
      expect(queue).toMatchObject({ Type: 'AWS::SQS::Queue', Properties: { SqsManagedSseEnabled: true } });
    }
  });

  test('reserves no concurrency, which small accounts cannot give', () => {
    for (const [, { Properties }] of functions) {
      expect(Properties).not.toHaveProperty('ReservedConcurrentExecutions');
    }
  });

  test('logs into a group of its own that forgets after three months', () => {
    const all = resourcesOfType(template, 'AWS::Logs::LogGroup');
    // The state machines have theirs too.
    const groups = all.filter(([id]) => id.includes('Service') || isBare(id));
    expect(groups).toHaveLength(functions.length);
    expect(all.map(([, { Properties }]) => Properties['RetentionInDays'])).toEqual(all.map(() => 90));
    expect(groups.map(([, { Properties }]) => Properties['RetentionInDays'])).toEqual(groups.map(() => 90));
    expect(functions.map(([, { Properties }]) => Properties['LoggingConfig'])).toEqual(
      groups.map(([id]) => ({ LogGroup: { Ref: id } })),
    );
  });

  test('has a role without any managed policy', () => {
    for (const [, { Properties }] of resourcesOfType(template, 'AWS::IAM::Role')) {
      expect(Properties).not.toHaveProperty('ManagedPolicyArns');
    }
    // Those for people are attached to nobody here.
    const policies = resourcesOfType(template, 'AWS::IAM::ManagedPolicy');
    expect(policies).toHaveLength(2);
    for (const [, { Properties }] of policies) {
      expect(Properties).not.toHaveProperty('Roles');
    }
  });
});

describe('every queue', () => {
  test('refuses requests without TLS', () => {
    const queues = resourcesOfType(template, 'AWS::SQS::Queue').map(([id]) => id);
    const refusing = resourcesOfType(template, 'AWS::SQS::QueuePolicy')
      .filter(([, { Properties }]) =>
        JSON.stringify(Properties).includes('{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny"'),
      )
      .flatMap(([, { Properties }]) => (Properties['Queues'] as { Ref: string }[]).map(({ Ref }) => Ref));
    expect(refusing.sort()).toEqual(queues.sort());
    expect(queues).toHaveLength(14);
  });
});

describe('the role of a function', () => {
  test.each([
    [
      'its own group',
      `arn:aws:logs:eu-central-1:111122223333:log-group:${resourcesOfType(template, 'AWS::Logs::LogGroup')[0]?.[0] ?? ''}:log-stream:a`,
      'Allowed',
    ],
    ['no other group', 'arn:aws:logs:eu-central-1:111122223333:log-group:other:log-stream:a', 'ImplicitlyDenied'],
  ])('may write logs to %s', async (_what, resource, expected) => {
    await expect(
      simulate({
        principal: roleArn(template, 'BackupService'),
        action: 'logs:PutLogEvents',
        resource,
        identityPolicies: policiesOf(template, 'BackupService'),
      }),
    ).resolves.toBe(expected);
  });
});
