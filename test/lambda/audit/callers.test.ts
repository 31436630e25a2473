import { LookupEventsCommand } from '@aws-sdk/client-cloudtrail';
import { ListExecutionsCommand } from '@aws-sdk/client-sfn';
import { AuditWorld, failure, MACHINE } from './world';

const ID = '20261120T140000Z';
const ARN = 'arn:aws:states:us-east-1:000000000000:execution:restore:one';
const ROLE = 'arn:aws:iam::000000000000:role/RestoreOperator';

let audit: AuditWorld;

beforeEach(() => {
  audit = new AuditWorld();
  audit.world.now = new Date('2026-11-20T14:20:00Z');
  audit.executions = [{ executionArn: ARN, startDate: new Date('2026-11-20T14:00:00.123Z') }];
});

afterEach(() => {
  audit.world.remove();
});

const started = (executionArn: string, eventTime = '2026-11-20T14:00:00Z', change: object = {}) => ({
  eventVersion: '1.11',
  eventName: 'StartExecution',
  eventID: 'e-1',
  eventTime,
  sourceIPAddress: '192.0.2.1',
  userAgent: 'console',
  userIdentity: {
    type: 'AssumedRole',
    principalId: 'AROA:anna',
    arn: 'arn:aws:sts::000000000000:assumed-role/RestoreOperator/anna',
    sessionContext: { sessionIssuer: { arn: ROLE }, sourceIdentity: 'anna' },
  },
  requestParameters: { stateMachineArn: MACHINE, input: 'HIDDEN_DUE_TO_SECURITY_REASONS' },
  responseElements: { startDate: 'Nov 20, 2026, 2:00:00 PM', executionArn },
  ...change,
});

const recordOf = (restoreId: string) => {
  const found = audit.world.stored.filter(
    ({ key, isDeleteMarker }) => key === `restores/${restoreId}/caller.json` && !isDeleteMarker,
  );
  return found.map(({ bytes }) => JSON.parse(bytes.toString()) as unknown);
};

describe('who started a restore', () => {
  test('is written beside its records, once, from the call that answered with the execution', async () => {
    audit.trail = [started('arn:another'), { eventTime: '2026-11-20T14:00:01Z' }, started(ARN, '2026-11-20T14:00:01Z')];
    expect((await audit.run()).callers).toEqual([ID]);
    expect(recordOf(ID)).toEqual([
      {
        schema: 1,
        restoreId: ID,
        cluster: 'lab',
        executionArn: ARN,
        startedAt: '2026-11-20T14:00:00.123Z',
        caller: {
          type: 'AssumedRole',
          arn: 'arn:aws:sts::000000000000:assumed-role/RestoreOperator/anna',
          roleArn: ROLE,
          principalId: 'AROA:anna',
          sourceIdentity: 'anna',
          invokedBy: null,
          sourceIpAddress: '192.0.2.1',
          userAgent: 'console',
        },
        reason: null,
        eventId: 'e-1',
        eventTime: '2026-11-20T14:00:01Z',
        recordedAt: '2026-11-20T14:20:00.000Z',
      },
    ]);
    audit.trailMock.resetHistory();
    expect((await audit.run()).callers).toEqual([]);
    expect(audit.trailMock.commandCalls(LookupEventsCommand)).toEqual([]);
  });

  test('is also known of a service, which has no ARN', async () => {
    audit.trail = [
      started(ARN, '2026-11-20T14:00:00Z', { userIdentity: { type: 'AWSService', invokedBy: 'events.amazonaws.com' } }),
    ];
    await audit.run();
    expect(recordOf(ID)).toEqual([
      expect.objectContaining({
        caller: expect.objectContaining({ arn: null, invokedBy: 'events.amazonaws.com' }) as unknown,
      }),
    ]);
  });

  test('is no timeline of its own', async () => {
    audit.trail = [started(ARN)];
    await audit.run();
    await audit.verified('20261120T150000Z');
    expect(audit.world.receipt('20261120T150000Z').timeline).toBe('first');
  });

  test('is looked for again as long as CloudTrail does not know, and for a day at most', async () => {
    await audit.run();
    expect(recordOf(ID)).toEqual([]);
    audit.world.now = new Date('2026-11-21T14:00:00Z');
    await audit.run();
    expect(recordOf(ID)).toEqual([]);
    audit.world.now = new Date('2026-11-21T14:05:00Z');
    await audit.run();
    expect(recordOf(ID)).toEqual([
      expect.objectContaining({ caller: null, reason: expect.stringMatching(/has no StartExecution that/) as unknown }),
    ]);
  });

  test('is looked for in twenty seconds and five pages, whoever starts what else', async () => {
    audit.trail = Array.from({ length: 40 }, (_, index) => started(`arn:other:${String(index)}`));
    await audit.run();
    const calls = audit.trailMock.commandCalls(LookupEventsCommand);
    expect(calls).toHaveLength(5);
    expect(calls[0]?.args[0].input).toMatchObject({
      LookupAttributes: [{ AttributeKey: 'EventName', AttributeValue: 'StartExecution' }],
      StartTime: new Date('2026-11-20T13:59:50.123Z'),
      EndTime: new Date('2026-11-20T14:00:10.123Z'),
    });
  });

  test('is looked for of three executions a run, the newest first', async () => {
    audit.executions = Array.from({ length: 5 }, (_, index) => ({
      executionArn: `${ARN}-${String(index)}`,
      startDate: new Date(Date.UTC(2026, 10, 20, 14, 10 - index)),
    }));
    audit.trail = audit.executions.map(({ executionArn, startDate }) => started(executionArn, startDate.toISOString()));
    expect((await audit.run()).callers).toEqual(['20261120T141000Z', '20261120T140900Z', '20261120T140800Z']);
    expect((await audit.run()).callers).toEqual(['20261120T140700Z', '20261120T140600Z']);
  });

  test('that is on record already is not written over', async () => {
    audit.trail = [started(ARN)];
    audit.world.put(`restores/${ID}/caller.json`, Buffer.from('{"schema":1}'), {});
    audit.world.deleteMarker(`restores/${ID}/caller.json`);
    expect((await audit.run()).callers).toEqual([]);
    expect(recordOf(ID)).toEqual([{ schema: 1 }]);
  });

  test.each([
    ['Step Functions', 'sfnMock', ListExecutionsCommand, /^who started restores: StatesError: states:ListExecutions/],
    ['CloudTrail', 'trailMock', LookupEventsCommand, /^who started restores: TrailError: cloudtrail:LookupEvents/],
  ] as const)(
    'is a problem when %s does not answer, and takes no gauge away',
    async (_what, mock, command, problem) => {
      (audit[mock] as AuditWorld['sfnMock'])
        .on(command as typeof ListExecutionsCommand)
        .rejects(failure('AccessDeniedException'));
      await expect(audit.run()).rejects.toMatchObject({
        name: 'AuditError',
        problems: [expect.stringMatching(problem)],
      });
      expect(audit.gauges).toMatchObject({ BucketAtRisk: 0, KeysAtRisk: 0, UnverifiedObjects: 0 });
    },
  );
});
