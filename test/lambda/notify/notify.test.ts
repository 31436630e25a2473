import { PublishCommand, SNSClient } from '@aws-sdk/client-sns';
import { mockClient } from 'aws-sdk-client-mock';
import { notify, type NotifyDeps } from '../../../lambda/notify/notify';

const sns = mockClient(SNSClient);
const TOPIC = 'arn:aws:sns:eu-central-1:111122223333:oncall';
const published: string[] = [];

const deps: NotifyDeps = {
  clusterName: 'prod-eu',
  docs: 'docs/',
  planMachineArn: 'arn:aws:states:eu-central-1:111122223333:stateMachine:Plan',
  topicArn: TOPIC,
  sns: new SNSClient({ region: 'eu-central-1' }),
  telemetry: {
    phaseDone: (phase) => published.push(phase),
    phaseFailed: (phase) => published.push(`${phase} failed`),
    measure: () => undefined,
    publish: () => published.push('publish'),
  },
  now: () => new Date('2026-11-21T14:00:00Z'),
};

function started(input: string): unknown {
  return {
    source: 'aws.states',
    'detail-type': 'Step Functions Execution Status Change',
    detail: {
      executionArn: 'arn:aws:states:eu-central-1:111122223333:execution:Restore:one',
      stateMachineArn: 'arn:aws:states:eu-central-1:111122223333:stateMachine:Restore',
      status: 'RUNNING',
      startDate: Date.UTC(2026, 10, 21, 14),
      input,
    },
  };
}

beforeEach(() => {
  sns.reset();
  published.length = 0;
});

describe('the notify function', () => {
  test('publishes one message for each kind of subscription', async () => {
    sns.on(PublishCommand).resolves({ MessageId: '1' });
    await expect(notify(deps, started('{"confirm":"prod-eu"}'))).resolves.toEqual({ told: 'Restore started' });
    expect(sns.commandCalls(PublishCommand)[0]?.args[0].input).toEqual({
      TopicArn: TOPIC,
      Subject: 'etcd of prod-eu: Restore started',
      Message: expect.stringMatching(/^\{"default":"A restore .*","https":"\{\\"version\\":\\"1\.0\\"/) as string,
      MessageStructure: 'json',
    });
    expect(published).toEqual(['notify', 'publish']);
  });

  test('publishes nothing of the start of a plan', async () => {
    await expect(notify(deps, started('{}'))).resolves.toEqual({ told: null });
    expect(sns.calls()).toEqual([]);
  });

  test('throws what SNS says, so that Lambda tries again and the alarm rings in the end', async () => {
    sns.on(PublishCommand).rejects(new Error('KMSDisabledException'));
    await expect(notify(deps, started('{"confirm":"prod-eu"}'))).rejects.toThrow('KMSDisabledException');
    expect(published).toEqual(['publish']);
  });

  test('throws for an event that no rule sends', async () => {
    await expect(notify(deps, {})).rejects.toThrow(/^the event has /);
    expect(sns.calls()).toEqual([]);
  });
});
