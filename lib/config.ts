import { Duration } from 'aws-cdk-lib';
import * as z from 'zod';
import { isBackupId } from '../lambda/shared/backup-id';
import { type Keep, keptDays, MAX_KEPT, type RetentionClass, RETENTIONS } from '../lambda/shared/retention';
import { longestInterval, shortestInterval } from './schedule-expression';

/** One cluster to back up. Only `name`, `controlPlaneTags` and `notify` are required; every default lives in this file. */
export interface ClusterEntry {
  /** Name of the cluster: stack name, metric dimension, and what `confirm` must repeat before a restore. */
  readonly name: string;

  /** EC2 tags, all of which an instance must carry to count as a control-plane node of this cluster. */
  readonly controlPlaneTags: Readonly<Record<string, string>>;

  /**
   * Who is told of alarms and restores. A decision that has no default: `{ emails: [...] }`, `{ topicArn }`, or `'nobody'`, which makes every
   * alarm all the same and tells no one.
   */
  readonly notify: Notified;

  /**
   * AWS account of the cluster, 12 digits.
   *
   * @default - the account of the credentials that deploy
   */
  readonly account?: string;

  /**
   * AWS region of the cluster.
   *
   * @default - the region of the credentials that deploy
   */
  readonly region?: string;

  /**
   * When to back up: `cron(minutes hours day-of-month month day-of-week year)` or `rate(value unit)`.
   *
   * @default - every full hour, `cron(0 * * * ? *)`
   */
  readonly schedule?: string;

  /**
   * IANA time zone in which the cron expression is read. Where clocks change, the hour that is skipped in spring has no backup.
   *
   * @default - `UTC`
   */
  readonly timeZone?: string;

  /**
   * How much later than the schedule says a backup may start, so that many clusters do not start at the same second.
   *
   * @default - none, a backup starts in the minute that the schedule names
   */
  readonly flexibleWindow?: Duration;

  /**
   * How long EventBridge Scheduler keeps trying to deliver a trigger before it goes to the dead-letter queue.
   *
   * @default - half the schedule's shortest interval, at most 10 minutes
   */
  readonly maximumEventAge?: Duration;

  /**
   * Recovery point objective (RPO): the newest verified backup must never be older than this, or an alarm rings. Counted from the time for
   * which a backup was scheduled to the time when the next one is verified, so it has to be longer than the longest gap in the schedule.
   *
   * @default - twice the longest gap between two triggers of the schedule, at least 1 hour
   */
  readonly recoveryPoint?: Duration;

  /**
   * When to restore the newest backup into a throwaway etcd: `cron(…)` in UTC or `rate(…)`, as for `schedule`.
   *
   * @default - every day at half past four, `cron(30 4 * * ? *)`
   */
  readonly drillSchedule?: string;

  /**
   * Architecture of the control-plane nodes: drills run the very binaries of etcd that the nodes run.
   *
   * @default - `x86_64`
   */
  readonly architecture?: 'arm64' | 'x86_64';

  /**
   * How long verified backups are kept, by class; what is left out has its default. 0 switches `hourlyHours`, `dailyDays`, `weeklyWeeks` or
   * `monthlyMonths` off. A month is 31 days. S3 counts whole days and rounds up: docs/retention.md says what is really kept.
   *
   * @default - 48 hours, 7 days, 4 weeks, 6 months; 30 days each for on-demand backups and for what a restore replaced
   */
  readonly keep?: Partial<Keep>;

  /**
   * Storage class of monthly backups from their 31st day on. It has to be paid for at least 30 days (STANDARD_IA) or 90 days (GLACIER_IR),
   * and each read of one costs more.
   *
   * @default - they stay in S3 Standard
   */
  readonly monthlyStorageClass?: 'STANDARD_IA' | 'GLACIER_IR';

  /**
   * Default Object Lock (governance) of every object in the bucket, in days: also of announcements, and of what is pending or failed, none of
   * which expires before. Verify locks a proven backup for as long as its class is kept.
   *
   * @default - as long as the hourly class is kept, in whole days, but no longer than on-demand and pre-restore backups are
   */
  readonly lockDays?: number;

  /**
   * Backup ids from which on backups are held only against each other: after a restore that was done by hand, a rebuilt cluster or a new CA.
   * At most 50. One in the future counts from then on.
   *
   * @default - none: a backup whose identity or revision does not follow from the last one is not verified
   */
  readonly acknowledgedTimelines?: readonly string[];

  /**
   * 1 to 99. A backup that has this many percent fewer live keys than the last one has the finding `keys-lost`.
   *
   * @default - 20
   */
  readonly keysLostPercent?: number;

  /**
   * A node whose disk a snapshot would fill beyond this percentage refuses to take one.
   *
   * @default - 80
   */
  readonly diskLimitPercent?: number;

  /**
   * The number of members that remain after an intended scale-down. Without it, a member list that shrank is refused,
   * because a wiped first node comes back as an empty cluster of one. It stays in force while it is set, and each backup that only it let
   * pass has the finding `scale-down-acknowledged`: take it out after the next backup.
   *
   * @default - a smaller member list than the last one is refused
   */
  readonly acknowledgedMembers?: number;

  /**
   * SHA-256 hashes, in lower case hex, of etcd tools that may run although they differ from those known for their version: after an etcd
   * image was rebuilt. At most 7.
   *
   * @default - none: a tool that changed without its version is refused
   */
  readonly acknowledgedTools?: readonly string[];

  /**
   * Name of a bucket to use instead of a new one; `lib/store.ts` says what it must have. One cluster's only. Needs
   * `existingAnnouncementKeyArn` and `existingReceiptKeyArn`: what other keys signed would not be trusted any more. What is in it can be read
   * only with `existingSnapshotKeyArn`.
   *
   * @default - the stack creates a bucket, and keeps it when the stack is deleted
   */
  readonly existingBucketName?: string;

  /**
   * ARN of a symmetric KMS key to encrypt with instead of a new one; `lib/store.ts` says what it must allow.
   *
   * @default - the stack creates a key, and keeps it when the stack is deleted
   */
  readonly existingSnapshotKeyArn?: string;

  /**
   * ARN of an ECC_NIST_P256 signing key to sign announcements with instead of a new one. Never one that signs receipts.
   *
   * @default - the stack creates a key, and keeps it when the stack is deleted
   */
  readonly existingAnnouncementKeyArn?: string;

  /**
   * ARN of an ECC_NIST_P256 signing key to sign receipts with instead of a new one.
   *
   * @default - the stack creates a key, and keeps it when the stack is deleted
   */
  readonly existingReceiptKeyArn?: string;

  /**
   * A bucket to which S3 copies everything, in another region or account: what the stack of an entry in the table of replicas has made and
   * prints. Needs `account` and `region`. Not with `existingBucketName`.
   *
   * @default - no replica
   */
  readonly replica?: ReplicaTarget;

  /**
   * Whether a bundle of `/etc/kubernetes/pki`, of the manifests and of what they name is stored every day, under a key of its own: all private keys
   * of the control plane, to rebuild it from nothing. docs/restore.md says who can read it and how. It does not go to a replica.
   *
   * @default false
   */
  readonly pkiBundle?: boolean;

  /**
   * Tags for everything in the stack.
   *
   * @default - none
   */
  readonly tags?: Readonly<Record<string, string>>;
}

/** Whom to tell: addresses, which a topic of the stack's own sends to, or a topic of somebody else; not both. */
export type Notified =
  | {
      /** Each gets a mail that it has to confirm before it is told anything. */
      readonly emails?: readonly string[];
      /** ARN of an SNS standard topic in the cluster's region; docs/alarms.md says what its policy and its key must allow. */
      readonly topicArn?: string;
    }
  | 'nobody';

/** Where replicas go. */
export interface ReplicaTarget {
  /** Output `ReplicaBucketName`; a bucket of somebody else has to be as `lib/replica.ts` makes it. */
  readonly bucketName: string;
  /** Output `ReplicaKeyArn`: encrypts the replicas, and says which account and region they are in. */
  readonly keyArn: string;
}

/** One bucket for replicas, with a stack and a key of its own, in an account and region that are not the cluster's. */
export interface ReplicaEntry {
  /** Name of the cluster in the table of clusters, which must have `account` and `region`. */
  readonly name: string;
  /** AWS account of the replicas, 12 digits. */
  readonly account: string;
  /** AWS region of the replicas. */
  readonly region: string;
}

type WithoutDefault =
  | 'account'
  | 'region'
  | 'flexibleWindow'
  | 'acknowledgedMembers'
  | 'existingBucketName'
  | 'existingSnapshotKeyArn'
  | 'existingAnnouncementKeyArn'
  | 'existingReceiptKeyArn'
  | 'monthlyStorageClass'
  | 'replica';

/** A checked cluster entry with every default filled in. */
export type Cluster = Required<Omit<ClusterEntry, WithoutDefault | 'keep'>> &
  Pick<ClusterEntry, WithoutDefault> & { readonly keep: Keep };

/** Thrown when the table of clusters, or that of replicas, is wrong; `problems` lists every one, each with the value got and the value expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  constructor(
    readonly problems: readonly string[],
    table = 'the table of clusters',
  ) {
    super(
      [
        `${table} has ${problems.length === 1 ? '1 problem' : `${String(problems.length)} problems`}:`,
        ...problems.map((problem) => `  - ${problem}`),
        'correct these in bin/etcd-backup.ts and synthesize again',
      ].join('\n'),
    );
    // The cause is in the table, not in the code: a trace would only hide the list.
    this.stack = `${this.name}: ${this.message}`;
  }
}

const DEFAULT_SCHEDULE = 'cron(0 * * * ? *)';
const DEFAULT_MAXIMUM_EVENT_AGE_MINUTES = 10;
// Below, a backup that is late by one retry would ring.
const SHORTEST_DEFAULT_RECOVERY_POINT_MINUTES = 60;
const DEFAULT_DRILL_SCHEDULE = 'cron(30 4 * * ? *)';
// A drill may take the 15 minutes that each of its two functions has.
const SHORTEST_DRILL_INTERVAL_MINUTES = 60;
// A backup may take the 15 minutes that a function has; below five minutes triggers would mostly meet a busy node.
const SHORTEST_INTERVAL_MINUTES = 5;

/**
 * Most hashes in `acknowledgedTools`: each may be etcdctl's or etcdutl's, and the pins of both have to fit into a parameter of the document
 * Preflight, beside the longest script.
 */
export const ACKNOWLEDGED_TOOLS_LIMIT = 7;
const ACKNOWLEDGED_TOOLS_EXPECTED = `a list of at most ${String(ACKNOWLEDGED_TOOLS_LIMIT)} SHA-256 hashes`;

// 18 bytes each, in the 4 KB that Lambda has for all environment variables of a function.
const ACKNOWLEDGED_TIMELINES_LIMIT = 50;
const ACKNOWLEDGED_TIMELINES_EXPECTED = `a list of at most ${String(ACKNOWLEDGED_TIMELINES_LIMIT)} backup ids`;

const MINUTES_PER_DAY = 24 * 60;
// Ten years; a lock cannot be taken back. No field goes beyond MAX_KEPT, which is all that the verify function takes.
const LONGEST_DAYS = 3650;

/** Age at which a monthly backup moves to its storage class: the least that S3 takes for STANDARD_IA. */
export const MONTHLY_TRANSITION_DAYS = 30;
/** What S3 has paid for at least once an object is there. */
const MINIMUM_STORAGE_DAYS = { STANDARD_IA: 30, GLACIER_IR: 90 } as const;

/** The longest that any class of this cluster is kept, which is the longest that anything can be locked. In days. */
export function longestDays({ keep, lockDays }: Pick<Cluster, 'keep' | 'lockDays'>): number {
  return Math.max(lockDays, ...CLASSES.map((name) => keptDays(name, keep)));
}

const CLASSES = RETENTIONS.filter(
  (retention): retention is RetentionClass => !['pending', 'failed', 'latest'].includes(retention),
);

function text(pattern: RegExp, expected: string) {
  return z.string(expected).regex(pattern, expected);
}

function wholeNumber({ min, max }: { min: number; max: number }) {
  const expected = `a whole number from ${String(min)} to ${String(max)}`;
  return z.int(expected).min(min, expected).max(max, expected);
}

function minutes({ min, max }: { min: number; max: number }) {
  const expected = `a Duration from ${String(min)} to ${String(max)} minutes, in whole minutes`;
  return z.custom<Duration>((value) => {
    const length = value instanceof Duration ? value.toMinutes({ integral: false }) : Number.NaN;
    return Number.isInteger(length) && length >= min && length <= max;
  }, expected);
}

function tagMap(options: { key: RegExp; keyExpected: string; value: RegExp; valueExpected: string }) {
  return z.record(z.string().regex(options.key, options.keyExpected), text(options.value, options.valueExpected), {
    error: 'an object of tag names and values',
  });
}

function isTimeZone(name: string): boolean {
  // Intl also takes offsets and any letter case; EventBridge Scheduler takes IANA names as they are written.
  if (!/^(UTC|GMT|[A-Z][A-Za-z]+(\/[A-Z][A-Za-z0-9_+-]*)+)$/.test(name)) {
    return false;
  }
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

const BACKUP_ID = 'a backup id that is a time, for example 20261120T140000Z';

function scheduleExpression({ shortest, example }: { shortest: number; example: string }) {
  const expected = `cron(minutes hours day-of-month month day-of-week year) or rate(value unit), not more often than every ${String(shortest)} minutes, for example ${example}`;
  return z
    .string(expected)
    .refine((expression) => {
      const interval = shortestInterval(expression);
      // One that never comes twice, such as on the 31st of February, has no longest interval.
      return interval !== undefined && interval >= shortest && longestInterval(expression) !== undefined;
    }, expected)
    .default(example);
}

const NOTIFY_EXPECTED =
  "one of { emails: ['oncall@example.com'] }, { topicArn: 'arn:aws:sns:eu-central-1:111122223333:oncall' } and 'nobody', for a cluster whose alarms tell no one";

const EMAIL_EXPECTED = 'an e-mail address, for example oncall@example.com';

const NOTIFY = z
  .union(
    [
      z.literal('nobody'),
      z.strictObject({
        // Only the plain form: whether an address exists shows when somebody confirms the subscription.
        emails: z
          .array(text(/^[^\s@<>,;"]{1,64}@[^\s@<>,;"]+\.[^\s@<>,;"]+$/, EMAIL_EXPECTED), 'a list of e-mail addresses')
          .optional(),
        // No FIFO topic: neither alarms nor e-mail work with one.
        topicArn: text(
          /^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$/,
          'the ARN of an SNS standard topic, for example arn:aws:sns:eu-central-1:111122223333:oncall',
        ).optional(),
      }),
    ],
    NOTIFY_EXPECTED,
  )
  .refine(
    (notify) => notify === 'nobody' || (notify.emails ?? []).length > 0 !== (notify.topicArn !== undefined),
    NOTIFY_EXPECTED,
  );

const KEEP = z.strictObject(
  {
    hourlyHours: wholeNumber({ min: 0, max: MAX_KEPT }).default(48),
    dailyDays: wholeNumber({ min: 0, max: LONGEST_DAYS }).default(7),
    weeklyWeeks: wholeNumber({ min: 0, max: Math.floor(LONGEST_DAYS / 7) }).default(4),
    monthlyMonths: wholeNumber({ min: 0, max: Math.floor(LONGEST_DAYS / 31) }).default(6),
    onDemandDays: wholeNumber({ min: 1, max: LONGEST_DAYS }).default(30),
    preRestoreDays: wholeNumber({ min: 1, max: LONGEST_DAYS }).default(30),
  },
  {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? undefined : 'an object such as { hourlyHours: 48, dailyDays: 7 }',
  },
);

const clusterEntry = z
  .strictObject(
    {
      name: text(
        /^[a-z][a-z0-9-]{0,31}$/,
        'up to 32 lower case letters, digits and hyphens, beginning with a letter, for example prod-eu',
      ),
      controlPlaneTags: tagMap({
        key: /^.{1,128}$/,
        keyExpected: 'a tag name of 1 to 128 characters',
        value: /^[^*?\\]{0,256}$/,
        // EC2 filters read * and ? as wildcards, which the IAM condition on the same tags does not.
        valueExpected: 'a tag value of up to 256 characters without *, ? and \\',
      }).refine(
        (tags) => Object.keys(tags).length > 0,
        'at least one tag, for example { "k8s.io/role/control-plane": "1" }',
      ),
      notify: NOTIFY,
      account: account().optional(),
      region: region().optional(),
      schedule: scheduleExpression({ shortest: SHORTEST_INTERVAL_MINUTES, example: DEFAULT_SCHEDULE }),
      timeZone: z
        .string('an IANA time zone, for example Europe/Berlin')
        .refine(isTimeZone, 'an IANA time zone, for example Europe/Berlin')
        .default('UTC'),
      flexibleWindow: minutes({ min: 1, max: MINUTES_PER_DAY }).optional(),
      maximumEventAge: minutes({ min: 1, max: MINUTES_PER_DAY }).optional(),
      recoveryPoint: minutes({ min: 1, max: LONGEST_DAYS * MINUTES_PER_DAY }).optional(),
      drillSchedule: scheduleExpression({
        shortest: SHORTEST_DRILL_INTERVAL_MINUTES,
        example: DEFAULT_DRILL_SCHEDULE,
      }),
      architecture: z.enum(['arm64', 'x86_64'], "'arm64' or 'x86_64'").default('x86_64'),
      keep: KEEP.prefault({}),
      monthlyStorageClass: z
        .enum(['STANDARD_IA', 'GLACIER_IR'], "'STANDARD_IA' or 'GLACIER_IR', or nothing for S3 Standard")
        .optional(),
      lockDays: wholeNumber({ min: 1, max: LONGEST_DAYS }).optional(),
      acknowledgedTimelines: z
        .array(z.string(BACKUP_ID).refine(isBackupId, BACKUP_ID), ACKNOWLEDGED_TIMELINES_EXPECTED)
        .refine((ids) => ids.length <= ACKNOWLEDGED_TIMELINES_LIMIT, ACKNOWLEDGED_TIMELINES_EXPECTED)
        .default([]),
      // More than 100 % cannot be lost, so with 100 the finding would never come.
      keysLostPercent: wholeNumber({ min: 1, max: 99 }).default(20),
      diskLimitPercent: wholeNumber({ min: 10, max: 95 }).default(80),
      acknowledgedMembers: wholeNumber({ min: 1, max: 99 }).optional(),
      acknowledgedTools: z
        .array(text(/^[0-9a-f]{64}$/, 'a SHA-256 hash of 64 lower case hex digits'), ACKNOWLEDGED_TOOLS_EXPECTED)
        .refine((tools) => tools.length <= ACKNOWLEDGED_TOOLS_LIMIT, ACKNOWLEDGED_TOOLS_EXPECTED)
        .default([]),
      existingBucketName: bucketName().optional(),
      existingSnapshotKeyArn: keyArn().optional(),
      existingAnnouncementKeyArn: keyArn().optional(),
      existingReceiptKeyArn: keyArn().optional(),
      replica: z
        .strictObject(
          { bucketName: bucketName(), keyArn: keyArn() },
          {
            error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'an object with bucketName and keyArn'),
          },
        )
        .optional(),
      pkiBundle: z.boolean('true or false').default(false),
      tags: tagMap({
        key: /^(?!aws:).{1,128}$/i,
        keyExpected: 'a tag name of 1 to 128 characters that does not begin with aws:',
        value: /^.{0,256}$/,
        valueExpected: 'a tag value of up to 256 characters',
      }).default({}),
    },
    {
      error: (issue) =>
        issue.code === 'unrecognized_keys' ? undefined : 'an object with name, controlPlaneTags and notify',
    },
  )
  .check((context) => {
    context.issues.push(
      ...[
        ...retentionProblems(context.value),
        ...adoptionProblems(context.value),
        ...replicaProblems(context.value),
        ...notifyProblems(context.value),
        ...recoveryPointProblems(context.value),
      ].map(({ path, input, message }) => ({ code: 'custom' as const, path: [...path], input, message })),
    );
    // The interval limits both ages: an older trigger would start beside, or after, the one that follows it.
    const interval = shortestInterval(context.value.schedule);
    if (interval === undefined) {
      return;
    }
    for (const field of ['flexibleWindow', 'maximumEventAge'] as const) {
      const duration = context.value[field];
      if (duration !== undefined && duration.toMinutes({ integral: false }) >= interval) {
        context.issues.push({
          code: 'custom',
          path: [field],
          input: duration,
          message: `a Duration below the schedule's shortest interval of ${String(interval)} minutes`,
        });
      }
    }
  });

interface Problem {
  readonly path: readonly string[];
  readonly input: unknown;
  /** What is expected, and why. */
  readonly message: string;
}

/** The classes that scheduled backups get, from the shortest to the longest: field, minutes of its unit, and word. */
const SCHEDULED_CLASSES = [
  { name: 'hourly', field: 'hourlyHours', unitMinutes: 60, unit: 'hours' },
  { name: 'daily', field: 'dailyDays', unitMinutes: MINUTES_PER_DAY, unit: 'days' },
  { name: 'weekly', field: 'weeklyWeeks', unitMinutes: 7 * MINUTES_PER_DAY, unit: 'weeks' },
  { name: 'monthly', field: 'monthlyMonths', unitMinutes: 31 * MINUTES_PER_DAY, unit: 'months of 31 days' },
] as const;

/** The classes that may be shorter than all others: the default lock must not outlive them. */
const LOCKED_BY_DEFAULT = [
  { name: 'hourly', field: 'hourlyHours', what: 'the whole days for which hourly backups are kept' },
  { name: 'on-demand', field: 'onDemandDays', what: 'for which on-demand backups are kept' },
  { name: 'pre-restore', field: 'preRestoreDays', what: 'for which pre-restore backups are kept' },
] as const;

/** Settings of retention that fight each other. */
function retentionProblems(entry: {
  readonly keep: Keep;
  readonly schedule: string;
  readonly lockDays?: number | undefined;
  readonly monthlyStorageClass?: 'STANDARD_IA' | 'GLACIER_IR' | undefined;
}): Problem[] {
  const { keep, lockDays, monthlyStorageClass } = entry;
  const problems: Problem[] = [];
  const on = SCHEDULED_CLASSES.filter(({ field }) => keep[field] > 0);
  const interval = shortestInterval(entry.schedule);

  for (const [position, { name, field, unitMinutes, unit }] of on.entries()) {
    const path = ['keep', field];
    const input = keep[field];
    // What expires before the next backup comes leaves a gap that the class is there to fill.
    if (interval !== undefined && input * unitMinutes < interval) {
      problems.push({
        path,
        input,
        message: `at least ${String(Math.ceil(interval / unitMinutes))} ${unit}, since the schedule leaves ${String(interval)} minutes between two backups, or 0 to switch the class off`,
      });
    }
    // The first backup of a day is daily and not hourly: it would be gone before the hourly ones beside it.
    const below = on[position - 1];
    if (below !== undefined && keptDays(name, keep) < keptDays(below.name, keep)) {
      problems.push({
        path,
        input,
        message: `at least as long as ${below.field}, which is ${String(keptDays(below.name, keep))} days, because a backup that is ${name} is not ${below.name} as well; or 0 to switch the class off`,
      });
    }
  }

  // Lifecycle deletes nothing that is locked: it would be kept, and paid for, longer than keep says.
  for (const { name, field, what } of LOCKED_BY_DEFAULT) {
    const days = keptDays(name, keep);
    if (lockDays !== undefined && lockDays > days) {
      problems.push({
        path: ['lockDays'],
        input: lockDays,
        message: `at most ${String(days)}, ${what}: what is locked does not expire; keep.${field} sets that`,
      });
    }
  }

  if (monthlyStorageClass !== undefined) {
    const least = MONTHLY_TRANSITION_DAYS + MINIMUM_STORAGE_DAYS[monthlyStorageClass];
    if (keep.monthlyMonths * 31 < least) {
      problems.push({
        path: ['monthlyStorageClass'],
        input: monthlyStorageClass,
        message: `keep.monthlyMonths of at least ${String(Math.ceil(least / 31))} with it, got ${String(keep.monthlyMonths)}: an object moves after ${String(MONTHLY_TRANSITION_DAYS)} days and is paid for ${String(MINIMUM_STORAGE_DAYS[monthlyStorageClass])} days from then on`,
      });
    }
  }
  return problems;
}

/** What is in a bucket already is of no use without the keys that signed it. */
function adoptionProblems(entry: {
  readonly existingBucketName?: string | undefined;
  readonly existingAnnouncementKeyArn?: string | undefined;
  readonly existingReceiptKeyArn?: string | undefined;
}): Problem[] {
  if (entry.existingBucketName === undefined) {
    return [];
  }
  return (
    [
      ['existingAnnouncementKeyArn', 'announcements'],
      ['existingReceiptKeyArn', 'receipts'],
    ] as const
  ).flatMap(([field, what]) =>
    entry[field] === undefined
      ? {
          path: [field],
          input: undefined,
          message: `its own key, as existingBucketName is given: the ${what} in this bucket are signed with it, and none of them would be trusted any more; for a bucket that is empty, a new ECC_NIST_P256 key for SIGN_VERIFY`,
        }
      : [],
  );
}

function replicaProblems(entry: {
  readonly account?: string | undefined;
  readonly region?: string | undefined;
  readonly existingBucketName?: string | undefined;
  readonly replica?: ReplicaTarget | undefined;
}): Problem[] {
  const { replica } = entry;
  if (replica === undefined) {
    return [];
  }
  const problems: Problem[] = [];
  if (entry.existingBucketName !== undefined) {
    problems.push({
      path: ['replica'],
      input: replica,
      message:
        'none with existingBucketName: the stack changes nothing on a bucket that it adopts, so its owner has it replicated',
    });
  }
  for (const field of ['account', 'region'] as const) {
    if (entry[field] === undefined) {
      problems.push({
        path: [field],
        input: undefined,
        message: `the cluster's own ${field}, which a cluster with a replica has to name: the other side lets in only that`,
      });
    }
  }
  const target = placeOf(replica.keyArn);
  if (target?.account === entry.account && target?.region === entry.region) {
    problems.push({
      path: ['replica', 'keyArn'],
      input: replica.keyArn,
      message: 'a key in another account or region than the cluster: beside the original a replica is lost with it',
    });
  }
  return problems;
}

/** Alarms act on topics of their own region only. */
function notifyProblems(entry: {
  readonly region?: string | undefined;
  readonly notify?: z.output<typeof NOTIFY> | undefined;
}): Problem[] {
  const topicArn = entry.notify === undefined || entry.notify === 'nobody' ? undefined : entry.notify.topicArn;
  return topicArn === undefined || entry.region === undefined || placeOf(topicArn)?.region === entry.region
    ? []
    : [
        {
          path: ['notify', 'topicArn'],
          input: topicArn,
          message: `a topic in ${entry.region}, the cluster's region: an alarm tells only topics of its own`,
        },
      ];
}

// Start, snapshot, upload and proof of a large database, and audit's five minutes.
const PROOF_MINUTES = 15;

/** An objective that the schedule cannot meet would ring at every backup. */
function recoveryPointProblems(entry: {
  readonly schedule: string;
  readonly flexibleWindow?: Duration | undefined;
  readonly recoveryPoint?: Duration | undefined;
}): Problem[] {
  const gap = longestInterval(entry.schedule);
  if (entry.recoveryPoint === undefined || gap === undefined) {
    return [];
  }
  const flexible = entry.flexibleWindow?.toMinutes({ integral: false }) ?? 0;
  const longest = gap + flexible;
  return entry.recoveryPoint.toMinutes({ integral: false }) >= longest + PROOF_MINUTES
    ? []
    : [
        {
          path: ['recoveryPoint'],
          input: entry.recoveryPoint,
          message: `at least ${String(longest + PROOF_MINUTES)} minutes: the longest gap that the schedule${flexible > 0 ? ' and flexibleWindow' : ''} can leave between two backups is ${String(longest)}, and a backup and its proof take their time, for which ${String(PROOF_MINUTES)} are left`,
        },
      ];
}

/** The account and region in the ARN of a key or topic; undefined when it is none. */
export function placeOf(arn: string): { readonly account: string; readonly region: string } | undefined {
  const [, , , region, account] = arn.split(':');
  return region === undefined || account === undefined ? undefined : { account, region };
}

function account() {
  return text(/^[0-9]{12}$/, 'an account id of 12 digits');
}

function region() {
  return text(/^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$/, 'a region, for example eu-central-1');
}

function bucketName() {
  return text(
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
    'a bucket name of 3 to 63 lower case letters, digits, dots and hyphens',
  );
}

function keyArn() {
  return text(
    /^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/[A-Za-z0-9-]+$/,
    'the ARN of a KMS key, for example arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab (an alias does not do)',
  );
}

/**
 * Checks the table of clusters and fills in the defaults.
 *
 * @throws ConfigError listing every problem of every cluster
 */
export function readClusters(entries: readonly ClusterEntry[]): Cluster[] {
  const problems: string[] = [];
  const clusters: Cluster[] = [];
  if (entries.length === 0) {
    problems.push('clusters: got none, expected at least one entry');
  }
  const positionOf = new Map<string, number>();
  const positionOfBucket = new Map<string, number>();
  for (const [position, entry] of entries.entries()) {
    const label = clusterLabel(entry, position);
    const result = clusterEntry.safeParse(entry, { reportInput: true });
    if (result.success) {
      clusters.push(withDerivedDefaults(result.data));
    } else {
      problems.push(...result.error.issues.flatMap((issue) => describe(issue, label, entry)));
    }
    const name = textOf(entry, 'name');
    const earlier = name === undefined ? undefined : positionOf.get(name);
    if (name !== undefined && earlier !== undefined) {
      problems.push(
        `clusters[${String(position)}].name: got ${show(name)}, expected a name that clusters[${String(earlier)}] does not have`,
      );
    } else if (name !== undefined) {
      positionOf.set(name, position);
    }
    // Whatever account or region the entries name: the name of a bucket is taken once for all of AWS.
    const bucket = textOf(entry, 'existingBucketName');
    const earlierOwner = bucket === undefined ? undefined : positionOfBucket.get(bucket);
    if (bucket !== undefined && earlierOwner !== undefined) {
      problems.push(
        `${label}.existingBucketName: got ${show(bucket)}, expected a bucket that clusters[${String(earlierOwner)}] does not have: their backups would have the same keys, and their bucket policies deny each other`,
      );
    } else if (bucket !== undefined) {
      positionOfBucket.set(bucket, position);
    }
  }
  problems.push(...sharedKeyProblems(entries));
  if (problems.length > 0) {
    throw new ConfigError(problems);
  }
  return clusters;
}

/** Whoever signs announcements, in this cluster or another, must not sign receipts: only those say that a backup was proven. */
function sharedKeyProblems(entries: readonly unknown[]): string[] {
  const ownerOf = new Map<string, string>();
  for (const [position, entry] of entries.entries()) {
    const key = textOf(entry, 'existingReceiptKeyArn');
    if (key !== undefined) {
      ownerOf.set(key, clusterLabel(entry, position));
    }
  }
  return entries.flatMap((entry, position) => {
    const key = textOf(entry, 'existingAnnouncementKeyArn');
    const owner = key === undefined ? undefined : ownerOf.get(key);
    return owner === undefined
      ? []
      : `${clusterLabel(entry, position)}.existingAnnouncementKeyArn: got ${show(key)}, expected a key that is not the existingReceiptKeyArn of ${owner}: the backup role could sign receipts with it`;
  });
}

const replicaEntry = z.strictObject(
  { name: z.string('the name of a cluster'), account: account(), region: region() },
  { error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'an object with name, account and region') },
);

/** A checked replica, with the cluster that it is of. */
export interface Replica {
  readonly cluster: Cluster;
  /** Account and region of the cluster. */
  readonly source: { readonly account: string; readonly region: string };
  readonly account: string;
  readonly region: string;
}

/**
 * Checks the table of replicas against that of the clusters.
 *
 * @throws ConfigError listing every problem of every replica
 */
export function readReplicas(entries: readonly ReplicaEntry[], clusters: readonly Cluster[]): Replica[] {
  const problems: string[] = [];
  const replicas: Replica[] = [];
  for (const [position, entry] of entries.entries()) {
    const label = `replicas[${String(position)}]`;
    const result = replicaEntry.safeParse(entry, { reportInput: true });
    if (!result.success) {
      problems.push(
        ...result.error.issues.flatMap((issue) => describe(issue, label, entry, Object.keys(replicaEntry.shape))),
      );
      continue;
    }
    const { name, account, region } = result.data;
    const cluster = clusters.find((one) => one.name === name);
    if (cluster?.account === undefined || cluster.region === undefined) {
      problems.push(
        `${label}.name: got ${show(name)}, expected a cluster of the table of clusters that has account and region`,
      );
      continue;
    }
    if (cluster.account === account && cluster.region === region) {
      problems.push(
        `${label}: got account ${account} and region ${region}, expected others than those of ${name}: beside the original a replica is lost with it`,
      );
    }
    const target = cluster.replica === undefined ? undefined : placeOf(cluster.replica.keyArn);
    if (target !== undefined && (target.account !== account || target.region !== region)) {
      problems.push(
        `${label}: got account ${account} and region ${region}, expected ${target.account} and ${target.region}, where the key of ${name}.replica is`,
      );
    }
    if (replicas.some((other) => other.cluster.name === name)) {
      problems.push(`${label}.name: got ${show(name)}, expected a cluster that no other replica has`);
    }
    replicas.push({ cluster, source: { account: cluster.account, region: cluster.region }, account, region });
  }
  if (problems.length > 0) {
    throw new ConfigError(problems, 'the table of replicas');
  }
  return replicas;
}

type CheckedEntry = z.output<typeof clusterEntry>;

function withDerivedDefaults(entry: CheckedEntry): Cluster {
  const { maximumEventAge, recoveryPoint, lockDays, notify, ...rest } = entry;
  const half = Math.floor((shortestInterval(entry.schedule) ?? MINUTES_PER_DAY) / 2);
  const twice = 2 * (longestInterval(entry.schedule) ?? MINUTES_PER_DAY);
  return {
    ...definedOnly(rest),
    notify: notify === 'nobody' ? notify : definedOnly(notify),
    recoveryPoint: recoveryPoint ?? Duration.minutes(Math.max(twice, SHORTEST_DEFAULT_RECOVERY_POINT_MINUTES)),
    lockDays: lockDays ?? Math.min(...LOCKED_BY_DEFAULT.map(({ name }) => keptDays(name, entry.keep))),
    maximumEventAge: maximumEventAge ?? Duration.minutes(Math.min(half, DEFAULT_MAXIMUM_EVENT_AGE_MINUTES)),
  };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

// zod keeps an optional field that was given as undefined; the rest of the code only knows "there" and "not there".
function definedOnly<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Defined<T>;
}

function textOf(
  entry: unknown,
  field: 'name' | 'existingBucketName' | 'existingAnnouncementKeyArn' | 'existingReceiptKeyArn',
): string | undefined {
  const value = valueAt(entry, [field]);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function clusterLabel(entry: unknown, position: number): string {
  return textOf(entry, 'name') ?? `clusters[${String(position)}]`;
}

function describe(
  issue: z.core.$ZodIssue,
  label: string,
  entry: unknown,
  known: readonly string[] = Object.keys(clusterEntry.shape),
): string[] {
  const path = [label, ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(
      (key) =>
        `${path}.${key}: got ${show(valueAt(entry, [...issue.path, key]))}, expected no such field; known are ${knownAt(issue.path, known).join(', ')}`,
    );
  }
  if (issue.code === 'invalid_key') {
    return issue.issues.map((inner) => `${path}: got ${show(issue.path.at(-1))}, expected ${inner.message}`);
  }
  const given = valueAt(entry, issue.path);
  const got = given === undefined && issue.input !== undefined ? `the default ${show(issue.input)}` : show(given);
  return [`${path}: got ${got}, expected ${issue.message}`];
}

const NESTED_FIELDS: Readonly<Record<string, readonly string[]>> = {
  keep: Object.keys(KEEP.shape),
  replica: ['bucketName', 'keyArn'],
  notify: ['emails', 'topicArn'],
};

function knownAt(path: readonly PropertyKey[], known: readonly string[]): readonly string[] {
  return path.length === 0 ? known : (NESTED_FIELDS[String(path[0])] ?? known);
}

function valueAt(entry: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    entry,
  );
}

function show(value: unknown): string {
  if (value === undefined) {
    return 'nothing';
  }
  if (value instanceof Duration) {
    return `${String(value.toMinutes({ integral: false }))} minutes`;
  }
  return typeof value === 'function' ? 'a function' : JSON.stringify(value);
}
