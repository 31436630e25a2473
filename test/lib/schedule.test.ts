import { Duration } from 'aws-cdk-lib';
import { type CfnTemplate, exampleTemplate, type Resource, resourcesOfType } from './example-stack';
import { deployed, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();
const FUNCTION = String(deployed(template, theFunctionArn(template)));

function theFunctionArn(from: CfnTemplate): unknown {
  return { 'Fn::GetAtt': [resourcesOfType(from, 'AWS::Lambda::Function')[0]?.[0], 'Arn'] };
}

/** The stack's other schedules have tests of their own. */
function ofBackups(from: CfnTemplate, type: string): Resource {
  const [found, ...others] = resourcesOfType(from, type).filter(([id]) => id.startsWith('Schedule'));
  if (found === undefined || others.length > 0) {
    throw new Error(`${type} of backups: got ${String(others.length + (found === undefined ? 0 : 1))}, expected 1`);
  }
  return found[1];
}

describe('the schedule', () => {
  test('runs at every full hour in UTC when nothing else is said', () => {
    expect(ofBackups(template, 'AWS::Scheduler::Schedule').Properties).toMatchObject({
      ScheduleExpression: 'cron(0 * * * ? *)',
      ScheduleExpressionTimezone: 'UTC',
      FlexibleTimeWindow: { Mode: 'OFF' },
      State: 'ENABLED',
    });
  });

  test('runs when, and as loosely as, the cluster says', () => {
    const ofCluster = exampleTemplate({
      schedule: 'cron(30 2 ? * MON-FRI *)',
      timeZone: 'Europe/Berlin',
      flexibleWindow: Duration.minutes(15),
      maximumEventAge: Duration.hours(2),
    });
    expect(ofBackups(ofCluster, 'AWS::Scheduler::Schedule').Properties).toMatchObject({
      ScheduleExpression: 'cron(30 2 ? * MON-FRI *)',
      ScheduleExpressionTimezone: 'Europe/Berlin',
      FlexibleTimeWindow: { Mode: 'FLEXIBLE', MaximumWindowInMinutes: 15 },
      Target: { RetryPolicy: { MaximumEventAgeInSeconds: 7200 } },
    });
  });

  test('passes the time of the trigger, which is the same for every delivery of it', () => {
    const { Input } = ofBackups(template, 'AWS::Scheduler::Schedule').Properties['Target'] as { Input: string };
    expect(JSON.parse(Input)).toEqual({
      scheduledTime: '<aws.scheduler.scheduled-time>',
      scheduleArn: '<aws.scheduler.schedule-arn>',
    });
  });

  test('gives up a trigger well before the next one and keeps it in an encrypted dead-letter queue', () => {
    const { Target } = ofBackups(template, 'AWS::Scheduler::Schedule').Properties as {
      Target: { DeadLetterConfig: { Arn: { 'Fn::GetAtt': [string, string] } } };
    };
    expect(Target).toMatchObject({ RetryPolicy: { MaximumEventAgeInSeconds: 600 } });
    const queue = template.Resources[Target.DeadLetterConfig.Arn['Fn::GetAtt'][0]];
    expect(queue).toMatchObject({ Type: 'AWS::SQS::Queue', Properties: { SqsManagedSseEnabled: true } });
  });

  test('does not keep its group when the stack is deleted, whose name the next stack needs', () => {
    expect(ofBackups(template, 'AWS::Scheduler::ScheduleGroup').DeletionPolicy).toBe('Delete');
  });
});

describe('the scheduler role', () => {
  const ROLE = resourcesOfType(template, 'AWS::IAM::Role').find(([id]) => id.startsWith('ScheduleRole'))?.[0] ?? '';

  function mayScheduler(action: string, resource: string) {
    return simulate({
      principal: roleArn(template, ROLE),
      action,
      resource,
      identityPolicies: policiesOf(template, ROLE),
    });
  }

  test('has exactly these actions', () => {
    expect(policiesOf(template, ROLE).flatMap(({ Statement }) => Statement.map(({ Action }) => Action))).toEqual([
      'lambda:InvokeFunction',
      'sqs:SendMessage',
    ]);
  });

  test('may start the backup function', async () => {
    await expect(mayScheduler('lambda:InvokeFunction', FUNCTION)).resolves.toBe('Allowed');
  });

  test.each([
    ['a version or an alias of it', `${FUNCTION}:1`],
    ['another function', 'arn:aws:lambda:eu-central-1:111122223333:function:other'],
  ])('may not start %s', async (_what, resource) => {
    await expect(mayScheduler('lambda:InvokeFunction', resource)).resolves.toBe('ImplicitlyDenied');
  });

  test('is only assumed for schedules of its own group', () => {
    const role = resourcesOfType(template, 'AWS::IAM::Role').find(([id]) => id.startsWith('ScheduleRole'))?.[1];
    expect(deployed(template, role?.Properties['AssumeRolePolicyDocument'])).toMatchObject({
      Statement: [
        {
          Action: 'sts:AssumeRole',
          Principal: { Service: 'scheduler.amazonaws.com' },
          Condition: {
            StringEquals: {
              'aws:SourceAccount': '111122223333',
              'aws:SourceArn': expect.stringContaining(':schedule-group/') as string,
            },
          },
        },
      ],
    });
  });
});
