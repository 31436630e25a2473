import { longestInterval, shortestInterval } from '../../lib/schedule-expression';

describe('the shortest interval', () => {
  test.each([
    ['rate(5 minutes)', 5],
    ['rate(1 hour)', 60],
    ['rate(12 hours)', 720],
    ['rate(2 days)', 2880],
    ['cron(0 * * * ? *)', 60],
    ['cron(0/15 * * * ? *)', 15],
    ['cron(*/10 * * * ? *)', 10],
    ['cron(5,50 * * * ? *)', 15],
    ['cron(0,7 3 * * ? *)', 7],
    ['cron(0 8-18/2 ? * MON-FRI *)', 120],
    ['cron(59 23 * * ? *)', 1440],
    ['cron(0,59 0,23 * * ? *)', 1],
    ['cron(0 10 L * ? *)', 1440],
    ['cron(0 10 15W * ? *)', 1440],
    ['cron(0 10 LW JAN,jul ? 2026-2030)', 1440],
    ['cron(0 10 ? * 6L *)', 1440],
    ['cron(0 10 ? * FRI#2 *)', 1440],
    ['cron(0 10 ? * 2-6 *)', 1440],
  ])('of %s is %d minutes', (expression, minutes) => {
    expect(shortestInterval(expression)).toBe(minutes);
  });

  test.each([
    'hourly',
    '',
    '0 * * * ? *',
    'rate(0 minutes)',
    'rate(1.5 hours)',
    'rate(1 week)',
    'rate(5minutes)',
    'at(2026-11-20T14:00:00)',
    'cron(0 * * * *)',
    'cron(0 * * * ? * *)',
    'cron(60 * * * ? *)',
    'cron(0 24 * * ? *)',
    'cron(0 * 0 * ? *)',
    'cron(0 * 32 * ? *)',
    'cron(0 * * 13 ? *)',
    'cron(0 * ? * 8 *)',
    'cron(0 * * * * *)',
    'cron(0 * ? * ? *)',
    'cron(0 * * * ? 1969)',
    'cron(10-5 * * * ? *)',
    'cron(0/0 * * * ? *)',
    'cron(0/5/5 * * * ? *)',
    'cron(1-2-3 * * * ? *)',
    'cron(, * * * ? *)',
    'cron(a * * * ? *)',
    'cron(0  * * * ? *)',
  ])('of %j is unknown, as it is no recurring schedule', (expression) => {
    expect(shortestInterval(expression)).toBeUndefined();
  });
});

describe('the longest interval', () => {
  const DAY = 1440;
  test.each([
    ['rate(5 minutes)', 5],
    ['rate(2 days)', 2 * DAY],
    ['cron(0 * * * ? *)', 60],
    ['cron(5,50 * * * ? *)', 45],
    ['cron(50,5 * * * ? *)', 45],
    ['cron(0,7 3 * * ? *)', DAY - 7],
    ['cron(0 8-18/2 * * ? *)', 14 * 60],
    ['cron(0 8-18/2 ? * MON-FRI *)', 2 * DAY + 14 * 60],
    ['cron(59 23 * * ? *)', DAY],
    ['cron(0 10 ? * SUN *)', 7 * DAY],
    ['cron(0 10 ? * L *)', 7 * DAY],
    // From the last Friday of one month to that of the next, the fourth or the fifth.
    ['cron(0 10 ? * 6L *)', 35 * DAY],
    ['cron(0 10 ? * FRI#2 *)', 35 * DAY],
    ['cron(0 10 L * ? *)', 31 * DAY],
    ['cron(0 10 31 * ? *)', 61 * DAY],
    // From Friday the 14th, as the 15th is a Saturday, over 31 days to Tuesday the 15th.
    ['cron(0 10 15W * ? *)', 32 * DAY],
    ['cron(0 10 29 2 ? *)', 1461 * DAY],
  ])('of %s is %d minutes', (expression, minutes) => {
    expect(longestInterval(expression)).toBe(minutes);
  });

  test.each([
    'cron(0 10 31 2 ? *)',
    'cron(0 10 31 4,6 ? *)',
    'at(2026-11-20T14:00:00)',
    'hourly',
    'cron(60 * * * ? *)',
  ])('of %j is unknown, as it never comes twice', (expression) => {
    expect(longestInterval(expression)).toBeUndefined();
  });
});
