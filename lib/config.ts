import { Duration } from 'aws-cdk-lib';
import * as z from 'zod';
import { shortestInterval } from './schedule-expression';

/** One cluster to back up. Only `name` and `controlPlaneTags` are required; every default lives in this file. */
export interface ClusterEntry {
  /** Name of the cluster: stack name, metric dimension, and what `confirm` must repeat before a restore. */
  readonly name: string;

  /** EC2 tags, all of which an instance must carry to count as a control-plane node of this cluster. */
  readonly controlPlaneTags: Readonly<Record<string, string>>;

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
   * Default Object Lock (governance) of every object in the bucket, in days.
   *
   * @default - 2, as long as the hourly class is kept
   */
  readonly lockDays?: number;

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
   * image was rebuilt. At most 12.
   *
   * @default - none: a tool that changed without its version is refused
   */
  readonly acknowledgedTools?: readonly string[];

  /**
   * Name of a bucket to use instead of a new one; `lib/store.ts` says what it must have. One cluster's only.
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
   * ARN of an ECC_NIST_P256 signing key to sign announcements with instead of a new one.
   *
   * @default - the stack creates a key, and keeps it when the stack is deleted
   */
  readonly existingAnnouncementKeyArn?: string;

  /**
   * Tags for everything in the stack.
   *
   * @default - none
   */
  readonly tags?: Readonly<Record<string, string>>;
}

type WithoutDefault =
  | 'account'
  | 'region'
  | 'flexibleWindow'
  | 'acknowledgedMembers'
  | 'existingBucketName'
  | 'existingSnapshotKeyArn'
  | 'existingAnnouncementKeyArn';

/** A checked cluster entry with every default filled in. */
export type Cluster = Required<Omit<ClusterEntry, WithoutDefault>> & Pick<ClusterEntry, WithoutDefault>;

/** Thrown when the table of clusters is wrong; `problems` lists every one, each with the value got and the value expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  constructor(readonly problems: readonly string[]) {
    super(
      [
        `the table of clusters has ${problems.length === 1 ? '1 problem' : `${String(problems.length)} problems`}:`,
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
// A backup may take the 15 minutes that a function has; below five minutes triggers would mostly meet a busy node.
const SHORTEST_INTERVAL_MINUTES = 5;

// They share the 4 KB that Lambda has for all environment variables of a function.
const ACKNOWLEDGED_TOOLS_LIMIT = 12;
const ACKNOWLEDGED_TOOLS_EXPECTED = `a list of at most ${String(ACKNOWLEDGED_TOOLS_LIMIT)} SHA-256 hashes`;

const MINUTES_PER_DAY = 24 * 60;

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

const SCHEDULE_EXPECTED = `cron(minutes hours day-of-month month day-of-week year) or rate(value unit), not more often than every ${String(SHORTEST_INTERVAL_MINUTES)} minutes, for example ${DEFAULT_SCHEDULE}`;

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
      account: text(/^[0-9]{12}$/, 'an account id of 12 digits').optional(),
      region: text(/^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$/, 'a region, for example eu-central-1').optional(),
      schedule: z
        .string(SCHEDULE_EXPECTED)
        .refine((expression) => {
          const interval = shortestInterval(expression);
          return interval !== undefined && interval >= SHORTEST_INTERVAL_MINUTES;
        }, SCHEDULE_EXPECTED)
        .default(DEFAULT_SCHEDULE),
      timeZone: z
        .string('an IANA time zone, for example Europe/Berlin')
        .refine(isTimeZone, 'an IANA time zone, for example Europe/Berlin')
        .default('UTC'),
      flexibleWindow: minutes({ min: 1, max: MINUTES_PER_DAY }).optional(),
      maximumEventAge: minutes({ min: 1, max: MINUTES_PER_DAY }).optional(),
      lockDays: wholeNumber({ min: 1, max: 36_500 }).default(2),
      diskLimitPercent: wholeNumber({ min: 10, max: 95 }).default(80),
      acknowledgedMembers: wholeNumber({ min: 1, max: 99 }).optional(),
      acknowledgedTools: z
        .array(text(/^[0-9a-f]{64}$/, 'a SHA-256 hash of 64 lower case hex digits'), ACKNOWLEDGED_TOOLS_EXPECTED)
        .refine((tools) => tools.length <= ACKNOWLEDGED_TOOLS_LIMIT, ACKNOWLEDGED_TOOLS_EXPECTED)
        .default([]),
      existingBucketName: text(
        /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
        'a bucket name of 3 to 63 lower case letters, digits, dots and hyphens',
      ).optional(),
      existingSnapshotKeyArn: keyArn().optional(),
      existingAnnouncementKeyArn: keyArn().optional(),
      tags: tagMap({
        key: /^(?!aws:).{1,128}$/i,
        keyExpected: 'a tag name of 1 to 128 characters that does not begin with aws:',
        value: /^.{0,256}$/,
        valueExpected: 'a tag value of up to 256 characters',
      }).default({}),
    },
    { error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'an object with name and controlPlaneTags') },
  )
  .check((context) => {
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
      clusters.push(withMaximumEventAge(result.data));
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
  if (problems.length > 0) {
    throw new ConfigError(problems);
  }
  return clusters;
}

type CheckedEntry = z.output<typeof clusterEntry>;

function withMaximumEventAge(entry: CheckedEntry): Cluster {
  const { maximumEventAge, ...rest } = entry;
  const half = Math.floor((shortestInterval(entry.schedule) ?? MINUTES_PER_DAY) / 2);
  return {
    ...definedOnly(rest),
    maximumEventAge: maximumEventAge ?? Duration.minutes(Math.min(half, DEFAULT_MAXIMUM_EVENT_AGE_MINUTES)),
  };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

// zod keeps an optional field that was given as undefined; the rest of the code only knows "there" and "not there".
function definedOnly<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Defined<T>;
}

function textOf(entry: unknown, field: 'name' | 'existingBucketName'): string | undefined {
  const value = valueAt(entry, [field]);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function clusterLabel(entry: unknown, position: number): string {
  return textOf(entry, 'name') ?? `clusters[${String(position)}]`;
}

function describe(issue: z.core.$ZodIssue, label: string, entry: unknown): string[] {
  const path = [label, ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(
      (key) =>
        `${path}.${key}: got ${show(valueAt(entry, [...issue.path, key]))}, expected no such field; known are ${Object.keys(clusterEntry.shape).join(', ')}`,
    );
  }
  if (issue.code === 'invalid_key') {
    return issue.issues.map((inner) => `${path}: got ${show(issue.path.at(-1))}, expected ${inner.message}`);
  }
  return [`${path}: got ${show(valueAt(entry, issue.path))}, expected ${issue.message}`];
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
