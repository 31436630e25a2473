import { bundleIdOf } from '../../../lambda/pki/event';

const NOW = new Date('2026-11-21T03:20:07.500Z');
const scheduleArn = 'arn:aws:scheduler:eu-central-1:111122223333:schedule/group/pki';

describe('the id of a bundle', () => {
  test('is the time of the trigger, whenever it is delivered', () => {
    expect(bundleIdOf({ scheduledTime: '2026-11-21T03:20:00Z', scheduleArn }, NOW)).toBe('20261121T032000Z');
  });

  test('is the time of the invocation, to the second, when somebody asks by hand', () => {
    expect(bundleIdOf({}, NOW)).toBe('20261121T032007Z');
  });

  test.each([
    ['the console’s sample event', { key1: 'value1' }, 'key1'],
    ['nothing', null, 'value'],
    ['a time without its schedule', { scheduledTime: '2026-11-21T03:20:00Z' }, 'scheduleArn'],
    ['a schedule without its time', { scheduleArn }, 'scheduledTime'],
    ['a time that is none', { scheduledTime: '2026-13-41T03:20:00Z', scheduleArn }, 'scheduledTime'],
    ['a time without a zone', { scheduledTime: '2026-11-21T03:20:00', scheduleArn }, 'scheduledTime'],
    ['a time to come', { scheduledTime: '2026-11-21T03:26:00Z', scheduleArn }, 'a time that has come'],
    ['more than the schedule sends', { scheduledTime: '2026-11-21T03:20:00Z', scheduleArn, keepDays: 3 }, 'keepDays'],
  ])('is not made of %s', (_what, event, problem) => {
    expect(() => bundleIdOf(event, NOW)).toThrow(problem);
    expect(() => bundleIdOf(event, NOW)).toThrow('send {} for a bundle now');
  });
});
