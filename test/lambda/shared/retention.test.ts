import { backupIdBefore, backupIdOf } from '../../../lambda/shared/backup-id';
import {
  classOf,
  type Keep,
  keptDays,
  lockUntil,
  type Retention,
  type RetentionClass,
  RETENTIONS,
  settle,
} from '../../../lambda/shared/retention';

const DEFAULTS: Keep = {
  hourlyHours: 48,
  dailyDays: 7,
  weeklyWeeks: 4,
  monthlyMonths: 6,
  onDemandDays: 30,
  preRestoreDays: 30,
};

describe('the days for which a class is kept', () => {
  test.each<[RetentionClass, Partial<Keep>, number]>([
    ['hourly', {}, 2],
    ['hourly', { hourlyHours: 1 }, 1],
    ['hourly', { hourlyHours: 49 }, 3],
    ['daily', {}, 7],
    ['weekly', {}, 28],
    ['monthly', {}, 186],
    ['on-demand', {}, 30],
    ['pre-restore', { preRestoreDays: 3 }, 3],
  ])('%s with %j is %d', (name, change, days) => {
    expect(keptDays(name, { ...DEFAULTS, ...change })).toBe(days);
  });

  test.each<[RetentionClass, Partial<Keep>]>([
    ['hourly', { hourlyHours: 0 }],
    ['daily', { dailyDays: 0 }],
    ['weekly', { weeklyWeeks: 0 }],
    ['monthly', { monthlyMonths: 0 }],
  ])('of %s are the least that S3 knows when it is off', (name, off) => {
    expect(keptDays(name, { ...DEFAULTS, ...off })).toBe(1);
  });
});

describe('the class of a newly verified backup', () => {
  const scheduled = (backupId: string) => ({ backupId, kind: 'schedule' as const });
  // Thursday 20 November 2026; its week began on Monday the 16th.
  test.each<[string, string, [string, RetentionClass][], Partial<Keep>, RetentionClass]>([
    ['the first of all', '20261119T140000Z', [], {}, 'monthly'],
    ['the first of a month', '20261101T000000Z', [['20261031T230000Z', 'hourly']], {}, 'monthly'],
    ['the first of a week', '20261116T000000Z', [['20261101T000000Z', 'monthly']], {}, 'weekly'],
    [
      'the first of a day',
      '20261119T000000Z',
      [
        ['20261101T000000Z', 'monthly'],
        ['20261116T000000Z', 'weekly'],
      ],
      {},
      'daily',
    ],
    ['another one on the day of the monthly one', '20261101T010000Z', [['20261101T000000Z', 'monthly']], {}, 'hourly'],
    [
      'another one on the day of the weekly one',
      '20261116T010000Z',
      [
        ['20261101T000000Z', 'monthly'],
        ['20261116T000000Z', 'weekly'],
      ],
      {},
      'hourly',
    ],
    [
      'the first on the second day of a month, in a week that began in the month before',
      '20260702T000000Z',
      [
        ['20260629T000000Z', 'weekly'],
        ['20260701T000000Z', 'monthly'],
      ],
      {},
      'daily',
    ],
    [
      'the first of a month that is a Wednesday, although its week has one',
      '20260701T000000Z',
      [['20260629T000000Z', 'weekly']],
      {},
      'monthly',
    ],
    [
      'the first of week 1, which begins in December',
      '20241230T000000Z',
      [
        ['20241201T000000Z', 'monthly'],
        ['20241223T000000Z', 'weekly'],
      ],
      {},
      'weekly',
    ],
    [
      'the second of week 53, on the other side of the new year',
      '20270102T000000Z',
      [
        ['20261228T000000Z', 'weekly'],
        ['20270101T000000Z', 'monthly'],
      ],
      {},
      'daily',
    ],
    [
      'the first of 29 February',
      '20280229T000000Z',
      [
        ['20280201T000000Z', 'monthly'],
        ['20280228T000000Z', 'weekly'],
      ],
      {},
      'daily',
    ],
    [
      'one that was verified after a later one of its day',
      '20261119T130000Z',
      [['20261119T140000Z', 'monthly']],
      {},
      'hourly',
    ],
    [
      'one of which only an on-demand one was there before',
      '20261119T140000Z',
      [['20261119T130000Z', 'on-demand']],
      {},
      'monthly',
    ],
    [
      'one of which only a pre-restore one was there before',
      '20261119T140000Z',
      [['20261119T130000Z', 'pre-restore']],
      {},
      'monthly',
    ],
    ['itself again', '20261119T140000Z', [['20261119T140000Z', 'monthly']], {}, 'monthly'],
    ['the first of a month without monthly ones', '20261101T000000Z', [], { monthlyMonths: 0 }, 'weekly'],
    [
      'the first of a month with daily ones only',
      '20261101T000000Z',
      [],
      { monthlyMonths: 0, weeklyWeeks: 0 },
      'daily',
    ],
    [
      'the first of a month with hourly ones only',
      '20261101T000000Z',
      [],
      { monthlyMonths: 0, weeklyWeeks: 0, dailyDays: 0 },
      'hourly',
    ],
    [
      'one after daily ones were switched on',
      '20261119T140000Z',
      [
        ['20261101T000000Z', 'monthly'],
        ['20261116T000000Z', 'weekly'],
        ['20261119T130000Z', 'hourly'],
      ],
      {},
      'daily',
    ],
  ])('%s: %s after %j with %j is %s', (_what, backupId, before, change, expected) => {
    const verified = before.map(([id, name]) => ({ backupId: id, class: name }));
    expect(classOf(scheduled(backupId), verified, { ...DEFAULTS, ...change })).toBe(expected);
  });

  test.each(['on-demand', 'pre-restore'] as const)('is %s for one of that kind, even the first of a month', (kind) => {
    expect(classOf({ backupId: '20261101T000000Z', kind }, [], DEFAULTS)).toBe(kind);
  });
});

interface Tagged {
  readonly backupId: string;
  readonly versionId: string;
  readonly class: RetentionClass;
  tag: Retention | undefined;
}

function tagged(backupId: string, tag: Retention | undefined, change: Partial<Tagged> = {}): Tagged {
  return { backupId, versionId: `version-of-${backupId}`, class: 'hourly', tag, ...change };
}

function written(backups: readonly Tagged[]): string[] {
  return settle(backups).map(({ backupId, versionId, tag }) => {
    expect(versionId).toBe(`version-of-${backupId}`);
    return `${backupId}=${tag}`;
  });
}

describe('settling', () => {
  test.each<[string, Tagged[], string[]]>([
    ['nothing', [], []],
    ['the first backup', [tagged('a', 'pending')], ['a=latest']],
    ['a new one before the last one', [tagged('a', 'latest'), tagged('b', 'pending')], ['b=latest', 'a=hourly']],
    ['what is settled', [tagged('a', 'hourly'), tagged('b', 'latest')], []],
    ['two latest after a crash', [tagged('a', 'latest'), tagged('b', 'latest')], ['a=hourly']],
    [
      'an older one that was verified late, as its class only',
      [tagged('a', 'pending', { class: 'daily' }), tagged('b', 'latest')],
      ['a=daily'],
    ],
    ['one without a tag', [tagged('a', undefined), tagged('b', 'latest')], ['a=hourly']],
    ['one that failed before', [tagged('a', 'failed'), tagged('b', 'latest')], ['a=hourly']],
    ['one with a tag of another class', [tagged('a', 'weekly'), tagged('b', 'latest')], ['a=hourly']],
    [
      'an on-demand one, which may be the newest',
      [tagged('a', 'latest'), tagged('b', 'pending', { class: 'on-demand' })],
      ['b=latest', 'a=hourly'],
    ],
    [
      'a pre-restore one, which is never the newest',
      [tagged('a', 'latest'), tagged('b', 'pending', { class: 'pre-restore' })],
      ['b=pre-restore'],
    ],
    ['a pre-restore one alone', [tagged('a', 'pending', { class: 'pre-restore' })], ['a=pre-restore']],
    [
      'a pre-restore one with the newest id, which leaves latest where it is',
      [tagged('20261120', 'latest'), tagged('20261121', 'pre-restore', { class: 'pre-restore' })],
      [],
    ],
  ])('writes for %s: %#', (_what, backups, expected) => {
    expect(written(backups)).toEqual(expected);
  });

  test('leaves one latest at least, whichever of its writes is the last that is made, and heals with the next run', () => {
    const states: (Retention | undefined)[] = ['pending', 'failed', 'latest', 'hourly', 'daily', undefined];
    for (const first of states) {
      for (const second of states) {
        // What nothing was ever latest in can only gain one.
        const start = () => [tagged('a', first), tagged('b', second, { class: 'daily' }), tagged('c', 'pending')];
        const all = settle(start());
        const hadLatest = start().some(({ tag }) => tag === 'latest');
        for (let made = 0; made <= all.length; made++) {
          const backups = start();
          apply(backups, all.slice(0, made));
          const latest = backups.filter(({ tag }) => tag === 'latest').map(({ backupId }) => backupId);
          expect(latest.length).toBeGreaterThanOrEqual(hadLatest || made > 0 ? 1 : 0);

          apply(backups, settle(backups));
          expect(backups.map(({ tag }) => tag)).toEqual(['hourly', 'daily', 'latest']);
          expect(settle(backups)).toEqual([]);
        }
      }
    }
  });
});

function apply(backups: readonly Tagged[], writes: ReturnType<typeof settle>): void {
  for (const { backupId, versionId, tag } of writes) {
    const backup = backups.find((one) => one.backupId === backupId && one.versionId === versionId);
    if (backup === undefined) {
      throw new Error(`write to ${backupId}: got no such backup, expected one that was given`);
    }
    backup.tag = tag;
  }
}

describe('the lock of a verified backup', () => {
  const storedAt = new Date('2026-11-20T14:03:07Z');
  test.each<[RetentionClass, number | null, string]>([
    ['hourly', null, '2026-11-22T14:03:07.000Z'],
    ['monthly', null, '2027-05-25T14:03:07.000Z'],
    ['on-demand', null, '2026-12-20T14:03:07.000Z'],
    ['on-demand', 7, '2026-12-20T14:03:07.000Z'],
    ['on-demand', 100, '2027-02-28T14:03:07.000Z'],
    ['hourly', 100, '2026-11-22T14:03:07.000Z'],
  ])('that is %s and was to be kept %p days holds until %s', (name, keepDays, until) => {
    expect(lockUntil({ class: name, storedAt, keepDays }, DEFAULTS).toISOString()).toBe(until);
  });
});

const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;
const NONCURRENT_DAYS = 7;
const UNVERIFIED_DAYS = { pending: 35, failed: 7 };

/** What happens to one backup. Times in milliseconds. */
interface Happening {
  readonly backupId: string;
  readonly kind: 'schedule' | 'on-demand' | 'pre-restore';
  readonly storedAt: number;
  /** Absent for one that fails. */
  readonly verifiedAt?: number;
  /** How many tags are written before the function dies. */
  readonly dies?: number;
}

interface Stored extends Tagged {
  readonly happening: Happening;
  readonly lockedUntil: number;
  /** When the delete marker came; by version it can still be read. */
  expiredAt?: number;
  goneAt?: number;
}

function nextMidnight(time: number): number {
  return Math.ceil(time / DAY) * DAY;
}

function daysOf(tag: Retention | undefined, keep: Keep): number | undefined {
  if (tag === undefined || tag === 'latest') {
    return undefined;
  }
  return tag === 'pending' || tag === 'failed' ? UNVERIFIED_DAYS[tag] : keptDays(tag, keep);
}

/**
 * S3 and the verify function over the years: verifies what happens, in the order in which that is verified, and runs the lifecycle at each
 * midnight by the tag that an object has on that day. Calls `everyMidnight` after it.
 */
function live(
  happenings: readonly Happening[],
  keep: Keep,
  everyMidnight: (now: number, verified: readonly Stored[]) => void,
): void {
  const storedLater = [...happenings].sort((a, b) => a.storedAt - b.storedAt);
  const verifiedLater = happenings
    .filter((happening) => happening.verifiedAt !== undefined)
    .sort((a, b) => (a.verifiedAt as number) - (b.verifiedAt as number));
  const verified: Stored[] = [];
  let present: Stored[] = [];
  const first = nextMidnight(storedLater[0]?.storedAt ?? 0);
  const last = (storedLater.at(-1)?.storedAt ?? 0) + 30 * DAY;
  for (let midnight = first; midnight <= last; midnight += DAY) {
    while ((verifiedLater[0]?.verifiedAt ?? Infinity) < midnight) {
      const happening = verifiedLater.shift() as Happening;
      const { backupId, kind } = happening;
      const monthBefore = backupIdBefore(backupId, 31 * 24 * 3600);
      const name = classOf(
        { backupId, kind },
        // The last 1,100 are 45 days at least: what is older is in no period of this one.
        verified.slice(-1100).filter((other) => other.backupId >= monthBefore),
        keep,
      );
      const backup: Stored = {
        ...tagged(backupId, 'pending', { class: name }),
        happening,
        lockedUntil: lockUntil({ class: name, storedAt: new Date(happening.storedAt), keepDays: null }, keep).getTime(),
      };
      verified.push(backup);
      present.splice(present.findLastIndex((other) => other.backupId < backupId) + 1, 0, backup);
      const twoDaysAgo = backupIdBefore(backupIdOf(new Date(happening.verifiedAt as number)), 48 * 3600);
      const newest = present.filter(
        (other, position) => position >= present.length - 20 || other.backupId >= twoDaysAgo || other === backup,
      );
      apply(newest, settle(newest).slice(0, happening.dies));
    }
    for (const backup of present) {
      const days = daysOf(backup.tag, keep);
      if (
        backup.expiredAt === undefined &&
        days !== undefined &&
        nextMidnight(backup.happening.storedAt + days * DAY) <= midnight
      ) {
        backup.expiredAt = midnight;
      }
      if (
        backup.expiredAt !== undefined &&
        days !== undefined &&
        nextMidnight(backup.expiredAt + NONCURRENT_DAYS * DAY) <= midnight &&
        backup.lockedUntil <= midnight
      ) {
        backup.goneAt = midnight;
      }
    }
    present = present.filter(({ goneAt }) => goneAt === undefined);
    everyMidnight(midnight, verified);
  }
}

/** The number of a week as ISO 8601 has it, computed otherwise than in the code: by the Thursday that lies in it. */
function isoWeek(time: number): string {
  const thursday = new Date(time + (4 - (new Date(time).getUTCDay() || 7)) * DAY);
  const dayOfYear = Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / DAY);
  return `${String(thursday.getUTCFullYear())}-W${String(Math.floor(dayOfYear / 7) + 1)}`;
}

function timeOf(backupId: string): number {
  return Date.parse(backupId.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
}

/** The classes as the words of the design give them: the first verified of each period, in the order of verification. */
class Oracle {
  private readonly seen = new Set<string>();

  constructor(private readonly keep: Keep) {}

  daysOfNext({ backupId, kind }: Happening): number {
    const { hourlyHours, dailyDays, weeklyWeeks, monthlyMonths, onDemandDays, preRestoreDays } = this.keep;
    if (kind !== 'schedule') {
      return kind === 'on-demand' ? onDemandDays : preRestoreDays;
    }
    const time = timeOf(backupId);
    const [date = ''] = new Date(time).toISOString().split('T');
    const periods = [
      [`month ${date.slice(0, 7)}`, monthlyMonths * 31],
      [`week ${isoWeek(time)}`, weeklyWeeks * 7],
      [`day ${date}`, dailyDays],
    ] as const;
    const isFirst = periods.filter(([period, days]) => days > 0 && !this.seen.has(period));
    for (const [period] of periods) {
      this.seen.add(period);
    }
    return isFirst[0]?.[1] ?? Math.max(1, Math.ceil(hourlyHours / 24));
  }
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A verified backup, and what the design says of it. */
interface Watched {
  readonly stored: Stored;
  /** Sorts by timeline and id, as the design has it. */
  readonly order: string;
  /** When it is to be current no longer, unless it is the newest. */
  readonly expires: number;
  /** The day, week and month that it stands for, with the time until which the class covers that. */
  readonly periods: readonly (readonly [period: string, until: number])[];
}

function watch(stored: Stored, keep: Keep, oracle: Oracle, timelineStarts: readonly string[]): Watched {
  const { backupId, happening } = stored;
  const day = Math.floor(timeOf(backupId) / DAY) * DAY;
  const month = timeOf(`${backupId.slice(0, 6)}01T000000Z`);
  const monday = day - ((new Date(day).getUTCDay() + 6) % 7) * DAY;
  return {
    stored,
    order: `${timelineStarts.findLast((start) => start <= backupId) ?? ''} ${backupId}`,
    expires: nextMidnight(happening.storedAt + oracle.daysOfNext(happening) * DAY),
    periods:
      happening.kind === 'schedule'
        ? [
            [`day of ${new Date(day).toISOString()}`, day + keep.dailyDays * DAY],
            [`week of ${new Date(monday).toISOString()}`, monday + keep.weeklyWeeks * 7 * DAY],
            [`month of ${new Date(month).toISOString()}`, month + keep.monthlyMonths * 31 * DAY],
          ]
        : [],
  };
}

interface Year {
  readonly from: string;
  readonly days: number;
  readonly everyHours?: number;
  readonly keep?: Partial<Keep>;
  /** Share of backups that fail. */
  readonly failing?: number;
  /** Share of hours in which an outage begins, of up to 14 days. */
  readonly outages?: number;
  /** Share of backups that are verified up to three days late. */
  readonly late?: number;
  /** Share of backups whose trigger says a time of up to a day before they are stored. */
  readonly clockJumps?: number;
  /** Share of verifications that die between two tags. */
  readonly deaths?: number;
  /** Share of backups that are on demand, or before a restore, in turns; a restore begins a timeline. */
  readonly others?: number;
}

function happeningsOf(year: Year): { happenings: Happening[]; timelineStarts: string[] } {
  const random = seeded(year.days + (year.everyHours ?? 1));
  const happens = (share: number | undefined) => random() < (share ?? 0);
  const happenings = new Map<string, Happening>();
  const timelineStarts: string[] = [];
  const start = Date.parse(year.from);
  let outageUntil = 0;
  for (let time = start; time < start + year.days * DAY; time += (year.everyHours ?? 1) * HOUR) {
    if (happens(year.outages)) {
      outageUntil = time + random() * 14 * DAY;
    }
    if (time < outageUntil) {
      continue;
    }
    const backupId = backupIdOf(new Date(time - (happens(year.clockJumps) ? random() * DAY : 0)));
    const storedAt = time + 2 * 60_000;
    const isOther = happens(year.others);
    const kind = isOther ? (happens(0.5) ? 'on-demand' : 'pre-restore') : 'schedule';
    if (kind === 'pre-restore') {
      timelineStarts.push(backupIdOf(new Date(time + 60_000)));
    }
    const verifiedAt = storedAt + (happens(year.late) ? random() * 3 * DAY : 60_000);
    happenings.set(backupId, {
      backupId,
      kind,
      storedAt,
      ...(happens(year.failing) ? {} : { verifiedAt }),
      ...(happens(year.deaths) ? { dies: Math.floor(random() * 2) } : {}),
    });
  }
  return { happenings: [...happenings.values()], timelineStarts };
}

describe.each<[string, Year]>([
  ['hourly backups, through week 53 of 2026', { from: '2026-07-01T00:00:00Z', days: 420 }],
  ['hourly backups, through the leap day of 2028', { from: '2027-12-15T07:00:00Z', days: 400 }],
  ['failures', { from: '2026-11-20T14:00:00Z', days: 400, failing: 0.3 }],
  ['nearly nothing but failures', { from: '2026-11-20T14:00:00Z', days: 400, failing: 0.97 }],
  ['outages', { from: '2026-11-20T14:00:00Z', days: 500, outages: 0.003, failing: 0.05 }],
  ['late verification', { from: '2026-11-20T14:00:00Z', days: 400, late: 0.2, failing: 0.1 }],
  ['clock jumps', { from: '2026-11-20T14:00:00Z', days: 400, clockJumps: 0.2, failing: 0.1 }],
  ['deaths between two tags', { from: '2026-11-20T14:00:00Z', days: 400, deaths: 0.2 }],
  ['backups on demand and restores', { from: '2026-11-20T14:00:00Z', days: 400, others: 0.02, failing: 0.1 }],
  [
    'everything at once',
    {
      from: '2027-11-20T14:00:00Z',
      days: 500,
      failing: 0.2,
      outages: 0.002,
      late: 0.1,
      clockJumps: 0.1,
      deaths: 0.1,
      others: 0.02,
    },
  ],
  ['a backup each day', { from: '2026-11-20T03:00:00Z', days: 500, everyHours: 24, failing: 0.1 }],
  ['a backup each 37 hours', { from: '2026-11-20T03:00:00Z', days: 500, everyHours: 37, keep: { hourlyHours: 0 } }],
  [
    'longer classes',
    {
      from: '2026-11-20T14:00:00Z',
      days: 450,
      keep: { hourlyHours: 100, dailyDays: 30, weeklyWeeks: 10, monthlyMonths: 12 },
      failing: 0.1,
    },
  ],
  ['no monthly ones', { from: '2026-11-20T14:00:00Z', days: 400, keep: { monthlyMonths: 0 }, failing: 0.1 }],
  ['no weekly ones', { from: '2026-11-20T14:00:00Z', days: 400, keep: { weeklyWeeks: 0 }, failing: 0.1 }],
  ['no daily ones', { from: '2026-11-20T14:00:00Z', days: 400, keep: { dailyDays: 0 }, failing: 0.1 }],
  [
    'hourly ones only',
    {
      from: '2026-11-20T14:00:00Z',
      days: 400,
      keep: { dailyDays: 0, weeklyWeeks: 0, monthlyMonths: 0 },
      outages: 0.003,
    },
  ],
])('a year of %s', (_what, year) => {
  const keep = { ...DEFAULTS, ...year.keep };
  const { happenings, timelineStarts } = happeningsOf(year);
  const problems = {
    'newest verified lost': [] as string[],
    'hourly one lost': [] as string[],
    uncovered: [] as string[],
    'kept otherwise than the design says': [] as string[],
    'gone in its lock or before its class’s days': [] as string[],
  };
  let midnights = 0;

  beforeAll(() => {
    const oracle = new Oracle(keep);
    // Each period in which something was verified, and until when its class covers it.
    const periods = new Map<string, number>();
    let watched: Watched[] = [];
    let newest: Watched | undefined;
    let judged = 0;
    live(happenings, keep, (now, verified) => {
      midnights++;
      for (; judged < verified.length; judged++) {
        const next = watch(verified[judged] as Stored, keep, oracle, timelineStarts);
        watched.push(next);
        for (const [period, until] of next.periods) {
          periods.set(period, until);
        }
        const { kind } = next.stored.happening;
        if (kind !== 'pre-restore' && (newest === undefined || next.order > newest.order)) {
          newest = next;
        }
      }

      const kept = new Set<string>();
      for (const backup of watched) {
        const { backupId, happening, expiredAt, goneAt, lockedUntil } = backup.stored;
        const note = (problem: keyof typeof problems) => {
          problems[problem].push(`${new Date(now).toISOString()} ${backupId}`);
        };
        const isCurrent = expiredAt === undefined;
        if (backup === newest && !isCurrent) {
          note('newest verified lost');
        }
        const isDue = backup !== newest && backup.expires <= now;
        // After a death the tags are behind until the next run: more may be there, never less.
        if (isCurrent === isDue && !(isCurrent && year.deaths !== undefined)) {
          note('kept otherwise than the design says');
        }
        if (goneAt === now && (lockedUntil > now || backup.expires + NONCURRENT_DAYS * DAY > now)) {
          note('gone in its lock or before its class’s days');
        }
        if (now < happening.storedAt + keep.hourlyHours * HOUR && !isCurrent) {
          note('hourly one lost');
        }
        for (const [period] of isCurrent ? backup.periods : []) {
          kept.add(period);
        }
      }
      for (const [period, until] of periods) {
        if (now >= until) {
          periods.delete(period);
        } else if (!kept.has(period)) {
          problems.uncovered.push(`${new Date(now).toISOString()} ${period}`);
        }
      }
      watched = watched.filter(({ stored }) => stored.goneAt === undefined);
    });
  });

  test('is over a year long and has backups', () => {
    expect(midnights).toBeGreaterThan(365);
    expect(happenings.filter(({ verifiedAt }) => verifiedAt !== undefined).length).toBeGreaterThan(200);
  });

  test.each(Object.keys(problems) as (keyof typeof problems)[])('on no day: %s', (problem) => {
    expect(problems[problem].slice(0, 5)).toEqual([]);
  });
});

test('every class has a tag of its own, and no tag is there twice', () => {
  expect(new Set(RETENTIONS).size).toBe(RETENTIONS.length);
  expect(RETENTIONS).toEqual(
    expect.arrayContaining([
      'pending',
      'failed',
      'latest',
      'hourly',
      'daily',
      'weekly',
      'monthly',
      'on-demand',
      'pre-restore',
    ]),
  );
});
