import { backupIdOf } from '../../../lambda/shared/backup-id';
import { classOf, type Keep, type RetentionClass } from '../../../lambda/shared/retention';
import { type Classed, holders, newestOfClassAfter } from '../../../lambda/verify/periods';

const KEEP: Keep = {
  hourlyHours: 48,
  dailyDays: 7,
  weeklyWeeks: 4,
  monthlyMonths: 6,
  onDemandDays: 30,
  preRestoreDays: 30,
};

test('the first receipt knows of none before it', () => {
  expect(newestOfClassAfter(undefined)).toEqual({ monthly: null, weekly: null, daily: null });
  expect(holders(newestOfClassAfter(undefined))).toEqual([]);
});

test.each<[RetentionClass, object]>([
  ['monthly', { monthly: 'new', weekly: 'w', daily: 'd' }],
  ['weekly', { monthly: 'm', weekly: 'new', daily: 'd' }],
  ['daily', { monthly: 'm', weekly: 'w', daily: 'new' }],
  ['hourly', { monthly: 'm', weekly: 'w', daily: 'd' }],
  ['on-demand', { monthly: 'm', weekly: 'w', daily: 'd' }],
  ['pre-restore', { monthly: 'm', weekly: 'w', daily: 'd' }],
])('a receipt of class %s hands on %j', (held, newest) => {
  const previous = { backupId: 'new', class: held, newestOfClass: { monthly: 'm', weekly: 'w', daily: 'd' } };
  expect(newestOfClassAfter(previous)).toEqual(newest);
});

test.each<[string, Partial<Keep>]>([
  ['with all classes', {}],
  ['without weeks', { weeklyWeeks: 0 }],
  ['without days', { dailyDays: 0 }],
  ['without months', { monthlyMonths: 0 }],
])('over a year with gaps, what goes from receipt to receipt decides as all receipts would, %s', (_, change) => {
  const keep = { ...KEEP, ...change };
  // Of which the last 500 are held against: more than share a month or a week.
  const all: { backupId: string; class: RetentionClass }[] = [];
  const counted = new Set<RetentionClass>();
  let previous: Classed | undefined;
  // A small generator of its own: the same year each time.
  let seed = 20_261_121;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let hour = 0; hour < 366 * 24; hour++) {
    if (random() < 0.7) {
      continue;
    }
    const backupId = backupIdOf(new Date(Date.UTC(2026, 10, 1, hour)));
    const kind = random() < 0.1 ? 'on-demand' : 'schedule';
    const newestOfClass = newestOfClassAfter(previous);
    const decided = classOf({ backupId, kind }, holders(newestOfClass), keep);
    expect([backupId, decided]).toEqual([backupId, classOf({ backupId, kind }, all.slice(-500), keep)]);
    previous = { backupId, class: decided, newestOfClass };
    all.push({ backupId, class: decided });
    counted.add(decided);
  }
  expect(counted.size).toBe(5 - Object.keys(change).length);
});
