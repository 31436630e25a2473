import { backupIdBefore } from './backup-id';

/** How long a verified backup is kept; docs/retention.md says how long that really is in S3. */
export type RetentionClass = 'hourly' | 'daily' | 'weekly' | 'monthly' | 'on-demand' | 'pre-restore';

/** A value of the one tag `retention`. No lifecycle rule matches `latest`. */
export type Retention = 'pending' | 'failed' | 'latest' | RetentionClass;

/** Every value of the tag. */
export const RETENTIONS: readonly Retention[] = [
  'pending',
  'failed',
  'latest',
  'hourly',
  'daily',
  'weekly',
  'monthly',
  'on-demand',
  'pre-restore',
];

/** How long each class is kept, in the unit that its name ends with; 0 switches a class off. */
export interface Keep {
  readonly hourlyHours: number;
  readonly dailyDays: number;
  readonly weeklyWeeks: number;
  /** Months of 31 days: S3 counts no others. */
  readonly monthlyMonths: number;
  readonly onDemandDays: number;
  readonly preRestoreDays: number;
}

/** The largest number that any field of `Keep` may have, whatever its unit: what synth accepts, the verify function has to accept too. */
export const MAX_KEPT = 36_500;

const DAYS_PER_WEEK = 7;
const DAYS_PER_MONTH = 31;
const SECONDS_PER_DAY = 24 * 60 * 60;

/**
 * For how many whole days after its creation an object of this class does not expire: what its lifecycle rule says. At least 1, the
 * shortest that S3 knows, also for a class that is off: one that was on before has backups left.
 */
export function keptDays(retention: RetentionClass, keep: Keep): number {
  const days: Readonly<Record<RetentionClass, number>> = {
    hourly: Math.ceil(keep.hourlyHours / 24),
    daily: keep.dailyDays,
    weekly: keep.weeklyWeeks * DAYS_PER_WEEK,
    monthly: keep.monthlyMonths * DAYS_PER_MONTH,
    'on-demand': keep.onDemandDays,
    'pre-restore': keep.preRestoreDays,
  };
  return Math.max(1, days[retention]);
}

/** Classes that the first verified backup of a period gets, longest first, each with the period in which a backup id lies. */
const PERIODS = [
  { class: 'monthly', isOn: ({ monthlyMonths }: Keep) => monthlyMonths > 0, period: monthOf },
  { class: 'weekly', isOn: ({ weeklyWeeks }: Keep) => weeklyWeeks > 0, period: weekOf },
  { class: 'daily', isOn: ({ dailyDays }: Keep) => dailyDays > 0, period: dayOf },
] as const;

/**
 * The class of a newly verified backup. The first verified one of a UTC month, ISO week or UTC day gets `monthly`, `weekly` or `daily`,
 * the longest of those that are on; every other scheduled one is `hourly`. First is the one that was verified first, not the one with
 * the smallest id. An on-demand or pre-restore backup stands for no period, since it may expire before.
 *
 * @param verified the verified backups of the same month, week and day, at least; the backup itself does not count
 */
export function classOf(
  backup: { readonly backupId: string; readonly kind: 'schedule' | 'on-demand' | 'pre-restore' },
  verified: readonly { readonly backupId: string; readonly class: RetentionClass }[],
  keep: Keep,
): RetentionClass {
  if (backup.kind !== 'schedule') {
    return backup.kind;
  }
  const others = verified.filter(({ backupId }) => backupId !== backup.backupId);
  const on = PERIODS.filter(({ isOn }) => isOn(keep));
  for (const [position, { class: candidate, period }] of on.entries()) {
    // A longer class stands for the shorter period as well, so that a month's first backup is not kept twice.
    const standsFor = new Set<RetentionClass>(on.slice(0, position + 1).map((entry) => entry.class));
    const isTaken = others.some(
      (other) => standsFor.has(other.class) && period(other.backupId) === period(backup.backupId),
    );
    if (!isTaken) {
      return candidate;
    }
  }
  return 'hourly';
}

// A period is the id of the moment at which it begins; an ISO week is known by its Monday, so week 53 needs no care.

function dayOf(backupId: string): string {
  return `${backupId.slice(0, 8)}T000000Z`;
}

function monthOf(backupId: string): string {
  return `${backupId.slice(0, 6)}01T000000Z`;
}

function weekOf(backupId: string): string {
  const date = new Date(`${backupId.slice(0, 4)}-${backupId.slice(4, 6)}-${backupId.slice(6, 8)}`);
  return idAfter(dayOf(backupId), -((date.getUTCDay() + 6) % DAYS_PER_WEEK));
}

function idAfter(backupId: string, days: number): string {
  return backupIdBefore(backupId, -days * SECONDS_PER_DAY);
}

/**
 * Which tags to write, in this order: `latest` on the newest, unless it has it, and then on each other its class, unless it has that. A
 * crash between two of them leaves two with `latest` and never none, and what is left out is in the next answer. The newest has the newest
 * id, which is on the newest timeline too; it is never a pre-restore one, which holds what a restore replaced.
 *
 * @param verified `tag` is what the version carries now
 */
export function settle(
  verified: readonly {
    readonly backupId: string;
    readonly versionId: string;
    readonly class: RetentionClass;
    readonly tag: Retention | undefined;
  }[],
): readonly { readonly backupId: string; readonly versionId: string; readonly tag: Retention }[] {
  const newest = verified
    .filter((backup) => backup.class !== 'pre-restore')
    .reduce<(typeof verified)[number] | undefined>(
      (best, backup) => (best === undefined || backup.backupId > best.backupId ? backup : best),
      undefined,
    );
  const write = ({ backupId, versionId }: (typeof verified)[number], tag: Retention) => ({ backupId, versionId, tag });
  return [
    ...(newest === undefined || newest.tag === 'latest' ? [] : [write(newest, 'latest')]),
    ...verified
      .filter((backup) => backup !== newest && backup.tag !== backup.class)
      .map((backup) => write(backup, backup.class)),
  ];
}

/**
 * Until when a version's lock must hold: its class's days from when it was stored, or the days asked for when an on-demand backup was to
 * be kept longer. S3 extends a lock and never shortens it, so a shorter class in the configuration frees nothing that is stored.
 */
export function lockUntil(
  backup: { readonly class: RetentionClass; readonly storedAt: Date; readonly keepDays: number | null },
  keep: Keep,
): Date {
  const asked = backup.class === 'on-demand' ? (backup.keepDays ?? 0) : 0;
  const days = Math.max(keptDays(backup.class, keep), asked);
  return new Date(backup.storedAt.getTime() + days * SECONDS_PER_DAY * 1000);
}
