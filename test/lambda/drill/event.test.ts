import { readEvent } from '../../../lambda/drill/event';

const now = new Date('2026-11-20T04:30:07Z');
const scheduleArn = 'arn:aws:scheduler:eu-central-1:111122223333:schedule/group/drill';

test('a trigger of the schedule is the drill of its own time, however late or often it comes', () => {
  const event = { scheduledTime: '2026-11-20T04:30:00Z', scheduleArn };
  expect(readEvent(event, now)).toEqual({ drillId: '20261120T043000Z', selection: { kind: 'newest' } });
  expect(readEvent(event, new Date('2026-11-20T09:00:00Z'))).toEqual(readEvent(event, now));
});

test('by hand the second gives the id, and the newest backup is meant or the one that is named', () => {
  expect(readEvent({}, now)).toEqual({ drillId: '20261120T043007Z', selection: { kind: 'newest' } });
  expect(readEvent({ snapshot: '20261101T000000Z' }, now)).toEqual({
    drillId: '20261120T043007Z',
    selection: { kind: 'id', backupId: '20261101T000000Z' },
  });
});

test.each([
  [null, /value: got null, expected an object/],
  [{ snapshot: 'newest' }, /snapshot: got "newest", expected a backup id/],
  [{ backupId: '20261101T000000Z' }, /backupId: got a field that is not known here/],
  [{ scheduledTime: '2026-11-20T04:40:00Z', scheduleArn }, /expected a time that has come/],
  [{ scheduledTime: '2026-13-01T04:40:00Z', scheduleArn }, /expected a time that exists/],
  [{ scheduledTime: '2026-11-20T04:30:00Z' }, /scheduleArn: got nothing, expected a schedule's ARN/],
])('%j is refused with what could be sent', (event, message) => {
  expect(() => readEvent(event, now)).toThrow(message);
  expect(() => readEvent(event, now)).toThrow('send {} to drill the newest backup');
});
