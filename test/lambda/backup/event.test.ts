import { readEvent as readEventAt } from '../../../lambda/backup/event';
import { hex, SCHEDULE_ARN } from './cloud';

const readEvent = (event: unknown) => readEventAt(event, { now: new Date('2026-11-20T14:00:00Z'), maxKeepDays: 186 });

test.each([
  ['2026-11-20T14:00:00Z', '20261120T140000Z'],
  ['2026-02-28T23:59:59.999Z', '20260228T235959Z'],
])('a schedule of %s has the id %s', (scheduledTime, backupId) => {
  expect(readEvent({ scheduledTime, scheduleArn: SCHEDULE_ARN })).toEqual({
    kind: 'backup',
    backupId,
    trigger: { kind: 'schedule', scheduledTime },
  });
});

test('an empty event asks for a backup now', () => {
  expect(readEvent({})).toEqual({ kind: 'backup', trigger: { kind: 'on-demand', reason: null, keepDays: null } });
});

test('reason and keepDays are kept', () => {
  expect(readEvent({ reason: 'vor dem Umzug – größer', keepDays: 30 })).toMatchObject({
    trigger: { reason: 'vor dem Umzug – größer', keepDays: 30 },
  });
});

test('a request for tools is told apart', () => {
  const tools = { version: '3.6.5', arch: 'arm64', files: [{ name: 'etcdutl', sha256: hex('etcdutl'), bytes: 15 }] };
  expect(readEvent({ tools })).toEqual({ kind: 'tools', tools });
});

const PRE_RESTORE = { restoreId: '20261120T135000Z', instanceId: 'i-0123456789abcdef0', backupId: '20261120T140000Z' };

test('a restore asks for a backup of one instance, with an id of its own', () => {
  expect(readEvent({ preRestore: PRE_RESTORE })).toEqual({
    kind: 'backup',
    backupId: '20261120T140000Z',
    instanceId: 'i-0123456789abcdef0',
    trigger: { kind: 'pre-restore', restoreId: '20261120T135000Z' },
  });
});

test.each([
  ['20261120T134959Z', false],
  ['20261120T135000Z', true],
  ['20261120T140500Z', true],
  ['20261120T140501Z', false],
])('at 14:00 the restore of 13:50 may give its backup the id %s: %s', (backupId, taken) => {
  const read = () => readEvent({ preRestore: { ...PRE_RESTORE, backupId } });
  if (taken) {
    expect(read()).toMatchObject({ backupId });
  } else {
    expect(read).toThrow(
      /preRestore\.backupId: got ".*", expected one from restoreId 20261120T135000Z on, and at most 5 minutes after/,
    );
  }
});

test.each([
  [null, ['value: got null, expected an object']],
  ['{}', ['value: got "{}", expected an object']],
  [{ Comment: 'x' }, ['Comment: got a field that is not known here, expected none but the documented ones']],
  [
    { reason: '', keepDays: 1.5 },
    [
      'reason: got "", expected 1 to 200 characters without control characters',
      'keepDays: got 1.5, expected a whole number from 1 to 186',
    ],
  ],
  [
    { scheduledTime: '<aws.scheduler.scheduled-time>' },
    [
      `scheduledTime: got "<aws.scheduler.scheduled-time>", expected the schedule's time in UTC such as '2026-11-20T14:00:00Z'`,
      `scheduleArn: got nothing, expected a schedule's ARN`,
    ],
  ],
  [
    { scheduledTime: '2026-02-30T25:00:00Z', scheduleArn: SCHEDULE_ARN },
    ['scheduledTime: got "2026-02-30T25:00:00Z", expected a time that exists'],
  ],
  [
    { tools: { version: '3.6', arch: 'x86', files: [{ name: 'bash', sha256: 'A', bytes: 0 }] } },
    [
      `tools.version: got "3.6", expected a version such as '3.6.5'`,
      `tools.arch: got "x86", expected 'amd64' or 'arm64'`,
      `tools.files.0.name: got "bash", expected 'etcd', 'etcdctl' or 'etcdutl'`,
      'tools.files.0.sha256: got "A", expected 64 lower-case hex digits',
      'tools.files.0.bytes: got 0, expected a whole number from 1 to 500000000',
    ],
  ],
  [
    { preRestore: { restoreId: 'x', instanceId: 'cp1', extra: 1 } },
    [
      'preRestore.restoreId: got "x", expected the id of the restore such as 20261120T140000Z',
      'preRestore.instanceId: got "cp1", expected the id of an EC2 instance',
      'preRestore.backupId: got nothing, expected an id for the backup such as 20261120T140500Z',
      'preRestore.extra: got a field that is not known here, expected none but the documented ones',
    ],
  ],
  [
    { preRestore: PRE_RESTORE, reason: 'x' },
    ['reason: got a field that is not known here, expected none but the documented ones'],
  ],
  [{ tools: { version: '3.6.5', arch: 'amd64', files: [] } }, ['tools.files: got [], expected a list of 1 to 3 files']],
])('throws with every problem of %j at once', (event, problems) => {
  expect(() => readEvent(event)).toThrow(expect.objectContaining({ name: 'EventError', problems }) as Error);
});

test('the error says what may be sent instead', () => {
  expect(() => readEvent({ key1: 'value1' })).toThrow(/the event has 1 problem: key1: .*; send \{\} or /);
});

test.each([
  ['2026-11-20T14:05:00Z', true],
  ['2026-11-20T14:05:01Z', false],
  ['9999-11-20T14:00:00Z', false],
])('at 14:00 a schedule of %s is taken: %s', (scheduledTime, taken) => {
  const read = () => readEvent({ scheduledTime, scheduleArn: SCHEDULE_ARN });
  if (taken) {
    expect(read()).toMatchObject({ kind: 'backup' });
  } else {
    expect(read).toThrow(/scheduledTime: got ".*", expected a time that has come, at most 5 minutes after/);
  }
});
