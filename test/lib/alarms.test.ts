import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AlarmState, type Datapoint, runAlarms, watchedMetrics } from '../../lab/alarm-clock';
import { type CfnTemplate, exampleTemplate, type Resource, resourcesOfType, theFunction } from './example-stack';

const PROJECT = join(__dirname, '..', '..');
const template = exampleTemplate();
const withBundles = exampleTemplate({ pkiBundle: true });
const withAll = exampleTemplate({
  account: '111122223333',
  region: 'eu-central-1',
  replica: { bucketName: 'copies', keyArn: 'arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab' },
  pkiBundle: true,
});
const PREFIX = 'etcd-backup-example-';

interface AlarmProperties {
  readonly AlarmName: string;
  readonly AlarmDescription: string;
  readonly AlarmActions?: readonly unknown[];
  readonly OKActions?: readonly unknown[];
  readonly TreatMissingData: string;
  readonly Threshold: number;
  readonly EvaluationPeriods: number;
  readonly Metrics?: readonly unknown[];
}

function alarmsOf(from: CfnTemplate): Map<string, AlarmProperties> {
  return new Map(
    resourcesOfType(from, 'AWS::CloudWatch::Alarm').map(([, { Properties }]) => {
      const properties = Properties as unknown as AlarmProperties;
      return [properties.AlarmName.replace(PREFIX, ''), properties];
    }),
  );
}

const alarms = alarmsOf(template);
const names = [...alarms.keys()];
const all = alarmsOf(withAll);
const allNames = [...all.keys()];
const topic = resourcesOfType(template, 'AWS::SNS::Topic').map(([id]) => id);

const GAUGES = [
  'no-verified-backup',
  'backups-unverified',
  'no-proven-drill',
  'key-at-risk',
  'bucket-at-risk',
  'schedule-at-risk',
];

// With the names of resources as they are in the template, without their hashes.
const WATCHED: Readonly<Record<string, readonly string[]>> = {
  'no-verified-backup': ['EtcdBackup VerifiedAgeSeconds'],
  'backup-did-not-start': [
    'AWS/Scheduler InvocationDroppedCount of etcdbackupexample-Schedule-Group-',
    'AWS/Scheduler InvocationsFailedToBeSentToDeadLetterCount of etcdbackupexample-Schedule-Group-',
    'AWS/Scheduler InvocationThrottleCount of etcdbackupexample-Schedule-Group-',
    'AWS/Scheduler TargetErrorThrottledCount of etcdbackupexample-Schedule-Group-',
    'AWS/SQS ApproximateNumberOfMessagesVisible of ScheduleDeadLetters',
    'AWS/Lambda Throttles of BackupServiceFunction',
  ],
  'backup-failed': [
    'AWS/Lambda AsyncEventsDropped of BackupServiceFunction',
    'AWS/Lambda DestinationDeliveryFailures of BackupServiceFunction',
  ],
  'verify-failed': [
    'EtcdBackup VerifyFailed',
    'AWS/Lambda AsyncEventsDropped of VerifyServiceFunction',
    'AWS/Lambda DestinationDeliveryFailures of VerifyServiceFunction',
    'AWS/Lambda Throttles of VerifyServiceFunction',
    'AWS/SQS ApproximateNumberOfMessagesVisible of VerifyDeadLetters',
  ],
  'backups-unverified': ['EtcdBackup UnverifiedObjects'],
  'no-pki-bundle': ['EtcdBackup PkiBundleStored'],
  'pki-bundle-failed': [
    'EtcdBackup PkiBundleIncomplete',
    'AWS/Lambda AsyncEventsDropped of PkiServiceFunction',
    'AWS/Scheduler InvocationDroppedCount of etcdbackupexample-Pki-Schedule-Group-',
    'AWS/SQS ApproximateNumberOfMessagesVisible of PkiScheduleDeadLetters',
  ],
  'rollback-failed': ['EtcdBackup RollbacksFailed'],
  'restore-interrupted': [
    'EtcdBackup RestoresInterrupted',
    'AWS/States ExecutionsTimedOut of RestoreMachineStateMachine',
    'AWS/States ExecutionsAborted of RestoreMachineStateMachine',
    'AWS/Lambda AsyncEventsDropped of RestoreServiceFunction',
    'AWS/SQS ApproximateNumberOfMessagesVisible of InterruptedDeadLetters',
  ],
  'restore-failed': ['EtcdBackup RestoresFailed', 'AWS/States ExecutionsFailed of RestoreMachineStateMachine'],
  'no-proven-drill': ['EtcdBackup DrillAgeSeconds'],
  'drill-failed': [
    'EtcdBackup DrillsFailed',
    'EtcdBackup DrillNotPossible',
    'AWS/Lambda AsyncEventsDropped of DrillServiceFunction',
    'AWS/Scheduler InvocationDroppedCount of etcdbackupexample-Drill-Schedule-Group-',
    'AWS/SQS ApproximateNumberOfMessagesVisible of DrillScheduleDeadLetters',
  ],
  'key-at-risk': ['EtcdBackup KeysAtRisk'],
  'bucket-at-risk': ['EtcdBackup BucketAtRisk'],
  'schedule-at-risk': ['EtcdBackup SchedulesAtRisk'],
  'replication-failed': ['snapshots', 'announcements', 'receipts', 'restores', 'tools', 'drills'].map(
    (prefix) => `AWS/S3 OperationsFailedReplication of copies,replica-${prefix},Bucket`,
  ),
  'finding-urgent': ['EtcdBackup UrgentFindings'],
  'finding-to-correct': ['EtcdBackup FindingsToCorrect', 'EtcdBackup FindingToolsNotKept'],
  'audit-silent': ['AWS/Lambda Invocations of AuditServiceFunction'],
  'audit-failing': ['AWS/Lambda Errors of AuditServiceFunction'],
  'function-errors': [
    'AWS/Lambda Errors of BackupServiceFunction',
    'AWS/Lambda Errors of VerifyServiceFunction',
    'AWS/Lambda Errors of PlanServiceFunction',
    'AWS/Lambda Errors of RestoreServiceFunction',
    'AWS/Lambda Errors of DrillServiceFunction',
    'AWS/Lambda Errors of DrillRunFunction',
    'AWS/Lambda Errors of PkiServiceFunction',
    'AWS/Lambda Errors of NotifyServiceFunction',
  ],
  'notify-failed': [
    'AWS/Lambda AsyncEventsDropped of NotifyServiceFunction',
    'AWS/SQS ApproximateNumberOfMessagesVisible of NotifyDeadLetters',
    'AWS/SNS NumberOfNotificationsFailed of NotifyTopic',
  ],
  'dashboard-failed': ['AWS/Lambda Errors of DashboardServiceFunction'],
};

describe('the alarms', () => {
  test('are those of docs/alarms.md', () => {
    const page = readFileSync(join(PROJECT, 'docs', 'alarms.md'), 'utf8');
    const sections = [...page.matchAll(/^### ([a-z-]+)$/gm)].map(([, name]) => name);
    expect(sections.sort()).toEqual([...allNames].sort());
    expect(allNames.filter((name) => !names.includes(name))).toEqual([
      'no-pki-bundle',
      'pki-bundle-failed',
      'replication-failed',
    ]);
  });

  test.each(allNames)('%s acts on the topic', (name) => {
    expect(topic).toHaveLength(1);
    expect(all.get(name)?.AlarmActions).toEqual([{ Ref: topic[0] }]);
  });

  test.each(allNames)('%s says what happened, what it means, what to do and where that is written', (name) => {
    const { AlarmDescription: description = '' } = all.get(name) ?? {};
    expect(description).toMatch(/^[^\n]+\.\nMeans: [^\n]+\.\nDo: [^\n]+\.\nRunbook: \S+$/);
    expect(description.length).toBeLessThanOrEqual(1024);
    expect(description).toContain('example');
  });

  test.each(allNames)('%s leads to a section that is there', (name) => {
    const [, page = '', section = ''] = /docs\/([a-z-]+\.md)#(\S+)$/.exec(all.get(name)?.AlarmDescription ?? '') ?? [];
    expect(sectionsOf(page)).toContain(section);
  });

  test.each(GAUGES)('%s rings when its gauge is missing', (name) => {
    expect(alarms.get(name)?.TreatMissingData).toBe('breaching');
  });

  test('tell that it is over where a state ended, and not where only nothing new happened', () => {
    expect(names.filter((name) => alarms.get(name)?.OKActions !== undefined).sort()).toEqual(
      [...GAUGES, 'audit-silent', 'audit-failing', 'finding-urgent', 'finding-to-correct'].sort(),
    );
  });

  test('that watch audit hang on nothing that audit says', () => {
    for (const name of ['audit-silent', 'audit-failing']) {
      expect(watchedMetrics(template)[`${PREFIX}${name}`]?.map(({ namespace }) => namespace)).toEqual(['AWS/Lambda']);
    }
  });

  test('watch only metrics of ours that some function emits', () => {
    const code = filesUnder(join(PROJECT, 'lambda'))
      .map((file) => readFileSync(file, 'utf8'))
      .join('\n');
    const watched = Object.values(watchedMetrics(template))
      .flat()
      .filter(({ namespace }) => namespace === 'EtcdBackup');
    expect(watched.length).toBeGreaterThan(10);
    for (const { name, dimensions } of watched) {
      expect(dimensions).toEqual({ cluster: 'example' });
      // Finding metrics are put together from the word.
      expect(code).toMatch(new RegExp(`'${name}'|\\b${name}:`));
    }
  });

  test('watch the errors of every function that is there before them', () => {
    const functions = resourcesOfType(template, 'AWS::Lambda::Function').map(([id]) => id);
    const watched = Object.values(watchedMetrics(template))
      .flat()
      .filter(({ name }) => name === 'Errors')
      .flatMap(({ dimensions }) => Object.values(dimensions));
    expect(functions.filter((id) => !watched.includes(id))).toEqual([]);
  });

  test('watch exactly this', () => {
    const watched = Object.entries(watchedMetrics(withAll)).map(([name, metrics]) => [
      name.replace(PREFIX, ''),
      metrics.map(
        ({ namespace, name: metric, dimensions }) =>
          `${namespace} ${metric}${
            namespace === 'EtcdBackup'
              ? ''
              : ` of ${Object.values(dimensions)
                  .join()
                  .replace(/[0-9A-F]{8}$/, '')}`
          }`,
      ),
    ]);
    expect(Object.fromEntries(watched)).toEqual(WATCHED);
  });

  test('watch every dead-letter queue', () => {
    const queues = resourcesOfType(template, 'AWS::SQS::Queue')
      .map(([id]) => id)
      .filter((id) => id.includes('DeadLetters'));
    const watched = Object.values(watchedMetrics(template))
      .flat()
      .filter(({ name }) => name === 'ApproximateNumberOfMessagesVisible')
      .flatMap(({ dimensions }) => Object.values(dimensions));
    // What does not start audit is seen by its not running.
    expect(queues.filter((id) => !watched.includes(id)).filter((id) => !id.startsWith('Audit'))).toEqual([]);
  });

  test('are there, and act on nothing, when nobody is to be told', () => {
    const silent = alarmsOf(exampleTemplate({ notify: 'nobody' }));
    expect([...silent.keys()].sort()).toEqual(names.filter((name) => name !== 'notify-failed').sort());
    expect([...silent.values()].flatMap(({ AlarmActions, OKActions }) => [AlarmActions, OKActions])).toEqual(
      [...silent.keys()].flatMap(() => [undefined, undefined]),
    );
  });

  test.each([
    ['rate(5 minutes)', 3600, 2],
    ['rate(10 days)', 20 * 86_400, 168],
  ])('with the schedule %s allow an age of %d s, and look for findings over %d hours', (schedule, age, hours) => {
    const keep = { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 4 };
    const of = alarmsOf(exampleTemplate({ schedule, keep }));
    expect(of.get('no-verified-backup')?.Threshold).toBe(age);
    expect(of.get('finding-urgent')?.EvaluationPeriods).toBe(hours);
  });
});

function filesUnder(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The anchors of a page's headings, as GitHub makes them. */
function sectionsOf(page: string): string[] {
  return [...readFileSync(join(PROJECT, 'docs', page), 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    (heading ?? '')
      .toLowerCase()
      .replace(/[^a-z0-9 _-]/g, '')
      .replaceAll(' ', '-'),
  );
}

// Hours of a cluster with the defaults: a backup each full hour, verified two minutes later, audit at minutes 2, 7, 12 and so on.
const MINUTE = 60_000;
const BREAK = Date.UTC(2026, 10, 21, 12, 20);
const FROM = BREAK - 3 * 60 * MINUTE;
const UNTIL = BREAK + 3 * 60 * MINUTE;

const functionId = (step: string): string =>
  resourcesOfType(template, 'AWS::Lambda::Function').find(
    ([, resource]) => resource === theFunction(template, step),
  )?.[0] ?? '';

function datapoint(
  namespace: string,
  name: string,
  dimensions: Record<string, string>,
  value: number,
  time: number,
): Datapoint {
  return { namespace, name, dimensions, value, timestamp: new Date(time) };
}

const ours = (name: string, value: number, time: number): Datapoint =>
  datapoint('EtcdBackup', name, { cluster: 'example' }, value, time);

const lambda = (step: string, name: string, value: number, time: number): Datapoint =>
  datapoint('AWS/Lambda', name, { FunctionName: functionId(step) }, value, time);

/** The metric of an alarm by its name, whatever its dimensions are. */
function aws(alarm: string, name: string, value: number, time: number): Datapoint {
  const metric = watchedMetrics(template)[`${PREFIX}${alarm}`]?.find((candidate) => candidate.name === name);
  if (metric === undefined) {
    throw new Error(`metrics of ${alarm}: got none with the name ${name}, expected one`);
  }
  return { ...metric, value, timestamp: new Date(time) };
}

/** What breaks, as far as it changes what is measured. Each gets the time, and is asked only after the break. */
interface Broken {
  /** What comes of a trigger of the schedule in place of a backup that is verified. */
  readonly trigger?: (time: number) => Datapoint[];
  /** What comes of a run of audit in place of what it measures otherwise; `gauges` is that. */
  readonly audit?: (time: number, gauges: Datapoint[]) => Datapoint[];
}

function simulate({ trigger, audit }: Broken): Datapoint[] {
  const points: Datapoint[] = [];
  let newest = 0;
  for (let time = FROM - (FROM % (60 * MINUTE)); time < UNTIL; time += MINUTE) {
    const minute = new Date(time).getUTCMinutes();
    const isBroken = time >= BREAK;
    if (minute === 0) {
      if (isBroken && trigger !== undefined) {
        points.push(...trigger(time));
      } else {
        points.push(...backedUp(time), ...verified(time + 2 * MINUTE));
        newest = time;
      }
    }
    if (minute % 5 === 2) {
      const gauges = auditedAt(time, newest);
      points.push(...(isBroken && audit !== undefined ? audit(time, gauges) : gauges));
    }
  }
  return points;
}

function backedUp(time: number): Datapoint[] {
  return [lambda('backup', 'Invocations', 1, time), lambda('backup', 'Errors', 0, time)];
}

function verified(time: number): Datapoint[] {
  return [
    lambda('verify', 'Errors', 0, time),
    ours('Verified', 1, time),
    ours('VerifyFailed', 0, time),
    ours('UrgentFindings', 0, time),
    ours('FindingsToCorrect', 0, time),
  ];
}

function auditedAt(time: number, newest: number): Datapoint[] {
  return [
    lambda('audit', 'Invocations', 1, time),
    lambda('audit', 'Errors', 0, time),
    ours('VerifiedAgeSeconds', (time - newest) / 1000, time),
    ours('DrillAgeSeconds', 8 * 3600, time),
    ...['UnverifiedObjects', 'KeysAtRisk', 'BucketAtRisk', 'SchedulesAtRisk'].map((name) => ours(name, 0, time)),
  ];
}

/** Lambda runs what throws twice more, a minute and two minutes after, and then gives it up. */
function givenUp(step: string, time: number, seconds: number): Datapoint[] {
  const run = seconds * 1000;
  const starts = [time, time + run + MINUTE, time + 2 * run + 3 * MINUTE];
  return [
    ...starts.map((start) => lambda(step, 'Errors', 1, start)),
    lambda(step, 'AsyncEventsDropped', 1, time + 3 * run + 3 * MINUTE),
  ];
}

const without =
  (...missing: readonly string[]) =>
  (gauges: Datapoint[]): Datapoint[] =>
    gauges.filter(({ name }) => !missing.includes(name));

const instead = (name: string, value: number) => (gauges: Datapoint[]) =>
  gauges.map((point) => (point.name === name ? { ...point, value } : point));

const SCENARIOS: readonly (readonly [what: string, broken: Broken])[] = [
  ['the schedule is disabled', { trigger: () => [], audit: (_time, gauges) => instead('SchedulesAtRisk', 1)(gauges) }],
  [
    'Scheduler may not start the function any more',
    {
      // After the maximum event age, which is ten minutes here.
      trigger: (time) => [
        aws('backup-did-not-start', 'InvocationDroppedCount', 1, time + 10 * MINUTE),
        aws('backup-did-not-start', 'ApproximateNumberOfMessagesVisible', 1, time + 11 * MINUTE),
      ],
    },
  ],
  [
    'no node takes commands (role of the nodes broken)',
    // Thirty seconds for each of three nodes, three times.
    { trigger: (time) => givenUp('backup', time, 90) },
  ],
  ['the members have lost quorum', { trigger: (time) => givenUp('backup', time, 20) }],
  [
    'the snapshot key is disabled',
    {
      trigger: (time) => givenUp('backup', time, 60),
      // Receipts and records cannot be read, and audit says so by failing.
      audit: (time, gauges) => [
        ...instead('KeysAtRisk', 1)(without('VerifiedAgeSeconds', 'DrillAgeSeconds', 'Errors')(gauges)),
        lambda('audit', 'Errors', 1, time),
      ],
    },
  ],
  [
    'a stored object is damaged before it is verified',
    {
      trigger: (time) => [
        ...backedUp(time),
        ours('VerifyFailed', 1, time + 2 * MINUTE),
        ...givenUp('verify', time + 2 * MINUTE, 5),
      ],
    },
  ],
  ['the receipt of an older backup is deleted', { audit: (_time, gauges) => instead('UnverifiedObjects', 1)(gauges) }],
  [
    'verify is killed each time (out of memory)',
    {
      trigger: (time) => [...backedUp(time), ...givenUp('verify', time + 2 * MINUTE, 5)],
      // From an hour after the first backup that verify did not end.
      audit: (time, gauges) => (time > BREAK + 105 * MINUTE ? instead('UnverifiedObjects', 1)(gauges) : gauges),
    },
  ],
  ['audit does not run any more', { audit: () => [] }],
  [
    'audit throws in each run',
    { audit: (time) => [lambda('audit', 'Invocations', 1, time), lambda('audit', 'Errors', 1, time)] },
  ],
];

interface Ring {
  readonly alarm: string;
  readonly minutes: number;
}

/** What rings after the break, in this order; the minutes since then. */
function ringing(broken: Broken, extraDatapoints = 2): Ring[] {
  const transitions = runAlarms(template, simulate(broken), {
    from: new Date(FROM),
    until: new Date(UNTIL),
    extraDatapoints,
  });
  const rang = transitions.filter(({ to, at: time }) => to === 'ALARM' && time.getTime() >= BREAK);
  const first = new Map<string, number>();
  for (const { alarm, at: time } of rang) {
    const name = alarm.replace(PREFIX, '');
    if (!first.has(name)) {
      first.set(name, Math.ceil((time.getTime() - BREAK) / MINUTE));
    }
  }
  return [...first].map(([alarm, minutes]) => ({ alarm, minutes }));
}

function scenarioLines(): string[] {
  return SCENARIOS.map(([what, broken]) => {
    const rings = ringing(broken).map(({ alarm, minutes }) => `\`${alarm}\` ${inWords(minutes)}`);
    return `| ${what} | ${rings.join(', ')} |`;
  });
}

function inWords(minutes: number): string {
  return minutes < 60 ? `${String(minutes)} min` : `${String(Math.floor(minutes / 60))} h ${String(minutes % 60)} min`;
}

const NOTHING_MORE = { extraDatapoints: 2 };

/** What rings over these values, each alarm once for each time that it does. */
function rung(from: CfnTemplate, points: readonly Datapoint[], hours: number, clock = NOTHING_MORE): string[] {
  return runAlarms(from, points, { from: new Date(FROM), until: new Date(FROM + hours * 60 * MINUTE), ...clock })
    .filter(({ to }) => to === ('ALARM' satisfies AlarmState))
    .map(({ alarm }) => alarm.replace(PREFIX, ''));
}

/** The same, with how many full hours after the deployment it does. */
function rungAfter(from: CfnTemplate, points: readonly Datapoint[], hours: number): (readonly [string, number])[] {
  const until = new Date(FROM + hours * 60 * MINUTE);
  return runAlarms(from, points, { from: new Date(FROM), until })
    .filter(({ to }) => to === ('ALARM' satisfies AlarmState))
    .map(({ alarm, at }) => [alarm.replace(PREFIX, ''), Math.floor((at.getTime() - FROM) / (60 * MINUTE))]);
}

const every = (minutes: number, hours: number, at: (time: number) => Datapoint[], from = 0): Datapoint[] =>
  Array.from({ length: Math.floor((hours * 60) / minutes) }, (_, index) => index * minutes)
    .filter((minute) => minute >= from)
    .flatMap((minute) => at(FROM + minute * MINUTE));

interface NewCluster {
  readonly gap: number;
  readonly hours: number;
  readonly audit: number;
  /** When somebody takes a backup. */
  readonly byHand?: number;
}

/**
 * A cluster from its deployment on: audit from the minute `audit` on, a backup each `gap` hours, the first one after as long, another one by hand,
 * a bundle each day, and no drill.
 */
function newCluster({ gap, hours, audit, byHand }: NewCluster): Datapoint[] {
  const isBackup = (minute: number) => (minute > 0 && minute % (gap * 60) === 0) || minute === byHand;
  const backups = Array.from({ length: hours * 60 }, (_, minute) => minute)
    .filter(isBackup)
    .map((minute) => FROM + minute * MINUTE);
  const audits = every(5, hours, (time) => {
    const at = time + audit * MINUTE;
    const proven = backups.filter((backup) => at - backup >= 3 * MINUTE);
    return [
      ...without('VerifiedAgeSeconds', 'DrillAgeSeconds')(auditedAt(at, 0)),
      ...proven.slice(-1).map((newest) => ours('VerifiedAgeSeconds', (at - newest) / 1000, at)),
      // Before the first drill it is the age of the first receipt, which is of what could have been drilled.
      ...proven.slice(0, 1).map((first) => ours('DrillAgeSeconds', (at - first - 3 * MINUTE) / 1000, at)),
    ];
  });
  return [
    ...backups.flatMap((time) => [...backedUp(time), ...verified(time + 3 * MINUTE)]),
    ...audits,
    ...every(24 * 60, hours, (time) => [ours('PkiBundleStored', 1, time + 90 * MINUTE)]),
  ];
}

const rare = exampleTemplate({
  schedule: 'rate(12 hours)',
  drillSchedule: 'cron(30 4 ? * SUN *)',
  pkiBundle: true,
  keep: { hourlyHours: 48, dailyDays: 7 },
});

const rarer = exampleTemplate({
  schedule: 'rate(3 days)',
  drillSchedule: 'cron(30 4 ? * SUN *)',
  keep: { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 4 },
});

describe('from the deployment on', () => {
  test.each([
    ['of an hour', withBundles, 1],
    ['of 12 hours', rare, 12],
  ])('nothing rings with a schedule %s before the first backup and the first drill are due', (_what, of, gap) => {
    for (const extraDatapoints of [0, 2]) {
      for (const audit of [1, 20]) {
        expect(rung(of, newCluster({ gap, hours: 25, audit }), 25, { extraDatapoints })).toEqual([]);
      }
    }
  });

  test('of weekly drills nothing rings before two of them could have proven the first backup, and then it does', () => {
    const days = 15;
    const points = newCluster({ gap: 12, hours: days * 24, audit: 20 });
    // Only those that time alone could ring: it is each minute of two weeks.
    const rings = ([, { Properties }]: [string, Resource]) => Properties['TreatMissingData'] === 'breaching';
    const of = {
      ...rare,
      Resources: Object.fromEntries(resourcesOfType(rare, 'AWS::CloudWatch::Alarm').filter(rings)),
    };
    expect(rungAfter(of, points, days * 24)).toEqual([['no-proven-drill', 12 + 14 * 24]]);
  });

  test('nothing rings with a schedule rarer than two days when a backup is taken by hand, and else after two days', () => {
    const cluster = { gap: 3 * 24, audit: 7 };
    expect(rungAfter(rarer, newCluster({ ...cluster, hours: 100, byHand: 30 }), 100)).toEqual([]);
    // What there is no backup of cannot be drilled either.
    expect(rungAfter(rarer, newCluster({ ...cluster, hours: 50 }), 50)).toEqual([
      ['no-proven-drill', 48],
      ['no-verified-backup', 48],
    ]);
  });

  test('what never comes rings in the end', () => {
    const points = without('PkiBundleStored')(newCluster({ gap: 1000, hours: 50, audit: 7 }));
    expect(rung(template, points, 50)).toEqual(['no-verified-backup', 'no-proven-drill']);
    expect(rung(withBundles, points, 50)).toEqual(['no-verified-backup', 'no-pki-bundle', 'no-proven-drill']);
    expect([...new Set(rung(template, [], 3))].sort()).toEqual(
      [...GAUGES, 'audit-silent'].filter((name) => name !== 'no-proven-drill').sort(),
    );
  });
});

test.each(GAUGES)('%s rings by the worst value, also when a better one comes a moment before or after', (name) => {
  const [metric] = watchedMetrics(template)[`${PREFIX}${name}`] ?? [];
  const { Threshold } = alarms.get(name) ?? { Threshold: 0 };
  if (metric === undefined) {
    throw new Error(`metric of ${name}: got none, expected one`);
  }
  const at = (minutes: number, value: number): Datapoint => ({
    ...metric,
    value,
    timestamp: new Date(FROM + minutes * MINUTE),
  });
  const steady = Array.from({ length: 6 }, (_, index) => at(index * 5, 0));
  expect(rung(template, [...steady, at(26, Threshold)], 0.5)).not.toContain(name);
  expect(rung(template, [...steady, at(26, Threshold + 1), at(27, 0)], 0.5)).toContain(name);
});

describe('what happens once', () => {
  const EVENTS = allNames.filter(
    (name) => all.get(name)?.TreatMissingData === 'notBreaching' && name !== 'audit-failing',
  );

  test.each(EVENTS)('rings for each of the metrics of %s alone', (name) => {
    const count = name === 'function-errors' ? 3 : 1;
    const watched = watchedMetrics(withAll)[`${PREFIX}${name}`] ?? [];
    expect(watched).not.toEqual([]);
    for (const metric of watched) {
      const once = (value: number, time: number): Datapoint => ({ ...metric, value, timestamp: new Date(time) });
      // With what is well a moment before and after: neither its least nor its mean may be what counts.
      const well = metric.namespace.startsWith('AWS/') ? [once(0, BREAK), once(0, BREAK + 2 * MINUTE)] : [];
      const bad = Array.from({ length: count }, (_, index) => once(1, BREAK + (1 + index) * MINUTE));
      expect(rung(withAll, [...well, ...bad], 6)).toContain(name);
      expect(rung(withAll, [...well, ...bad.slice(1)], 6)).not.toContain(name);
    }
  });

  test('rings once for a finding that stays, however rare backups are, and again when it comes back', () => {
    const found = (time: number) => [ours('UrgentFindings', 1, time), ours('FindingsToCorrect', 0, time)];
    const clear = (time: number) => [ours('UrgentFindings', 0, time), ours('FindingsToCorrect', 0, time)];
    const findings = (points: readonly Datapoint[]) =>
      rung(rare, points, 24 * 6).filter((name) => name.startsWith('finding-'));
    const days = every(12 * 60, 24 * 6, (time) => (time < FROM + 48 * 60 * MINUTE ? clear(time) : found(time)));
    expect(findings(days)).toEqual(['finding-urgent']);
    const again = every(12 * 60, 24 * 6, (time) =>
      time > FROM + 50 * 60 * MINUTE && time < FROM + 80 * 60 * MINUTE ? clear(time) : found(time),
    );
    expect(findings(again)).toEqual(['finding-urgent', 'finding-urgent']);
  });
});

describe('PKI bundles', () => {
  const pki = (points: readonly Datapoint[], hours: number) =>
    rung(withBundles, points, hours).filter((name) => name.includes('pki'));
  const stored = (value: number) => (time: number) => [ours('PkiBundleStored', value, time)];

  test('ring not while one comes a day, however late it is by an hour', () => {
    expect(pki([...every(24 * 60, 72, stored(1)), ...every(25 * 60, 72, stored(0), 60)], 72)).toEqual([]);
  });

  test('ring a day and some hours after the last one, whether runs fail or there are none', () => {
    const one = stored(1)(FROM);
    for (const points of [one, [...one, ...every(60, 40, stored(0), 1)]]) {
      expect(pki(points, 24)).toEqual([]);
      expect(pki(points, 32)).toEqual(['no-pki-bundle']);
    }
  });

  test('ring at once when one is not complete', () => {
    expect(pki([...stored(1)(FROM), ours('PkiBundleIncomplete', 2, FROM)], 1)).toEqual(['pki-bundle-failed']);
  });
});

test.each<[string, number, CfnTemplate]>([
  ['daily', 48, template],
  ['weekly', 14 * 24, rare],
])('with %s drills the newest one that proved a backup may be %d hours old', (_what, hours, of) => {
  const at = (age: number) =>
    rung(
      of,
      every(5, 1, (time) => [ours('DrillAgeSeconds', age * 3600, time)]),
      1,
    );
  expect(at(hours)).not.toContain('no-proven-drill');
  expect(at(hours + 1)).toContain('no-proven-drill');
});

test('one run of audit that is lost, and triggers that come a minute early or late, ring nothing', () => {
  const lost = FROM + 97 * MINUTE;
  const points = simulate({})
    .filter(({ timestamp }) => timestamp.getTime() !== lost)
    .map((point) => ({
      ...point,
      timestamp: new Date(point.timestamp.getTime() + (point.timestamp.getTime() % 7) * 10_000 - 30_000),
    }));
  expect(simulate({}).some(({ timestamp }) => timestamp.getTime() === lost)).toBe(true);
  expect(rung(template, points, 6)).toEqual([]);
});

describe('over simulated hours', () => {
  test('nothing rings while all is well', () => {
    for (const extraDatapoints of [0, 1, 2, 5]) {
      const rang = runAlarms(template, simulate({}), { from: new Date(FROM), until: new Date(UNTIL), extraDatapoints });
      expect(rang.filter(({ to }) => to === 'ALARM')).toEqual([]);
      expect(rang.filter(({ to }) => to === 'OK').length).toBeGreaterThan(8);
    }
  });

  test.each<[string, string, number]>([
    ['the schedule is disabled', 'schedule-at-risk', 5],
    ['the schedule is disabled', 'no-verified-backup', 105],
    ['Scheduler may not start the function any more', 'backup-did-not-start', 52],
    ['no node takes commands (role of the nodes broken)', 'backup-failed', 50],
    ['the members have lost quorum', 'backup-failed', 46],
    ['the snapshot key is disabled', 'key-at-risk', 5],
    ['a stored object is damaged before it is verified', 'verify-failed', 44],
    ['the receipt of an older backup is deleted', 'backups-unverified', 5],
    ['verify is killed each time (out of memory)', 'verify-failed', 47],
    ['audit does not run any more', 'audit-silent', 20],
    ['audit throws in each run', 'audit-failing', 20],
  ])('when %s, %s rings within %d minutes', (what, alarm, minutes) => {
    const broken = SCENARIOS.find(([name]) => name === what)?.[1] ?? {};
    for (const extraDatapoints of [1, 2]) {
      const ring = ringing(broken, extraDatapoints).find((candidate) => candidate.alarm === alarm);
      expect(ring?.minutes).toBeLessThanOrEqual(minutes);
    }
  });

  test.each(SCENARIOS)(
    'when %s, it is told within the recovery point objective, and the age rings in the end',
    (_what, broken) => {
      const rings = ringing(broken);
      expect(Math.min(...rings.map(({ minutes }) => minutes))).toBeLessThan(120);
      if (broken.trigger !== undefined) {
        expect(rings.map(({ alarm }) => alarm)).toContain('no-verified-backup');
      }
    },
  );

  test('what rings, and when, is what docs/alarms.md says', () => {
    const page = readFileSync(join(PROJECT, 'docs', 'alarms.md'), 'utf8');
    for (const line of scenarioLines()) {
      expect(page).toContain(line);
    }
  });
});

/** From a value that breaches until the alarm, and from the last value until then; undefined: it does not. In minutes. */
function delaysOf(alarm: string): { readonly value: number | undefined; readonly nothing: number | undefined } {
  const [metric] = watchedMetrics(template)[`${PREFIX}${alarm}`] ?? [];
  if (metric === undefined) {
    throw new Error(`metrics of ${alarm}: got none, expected one`);
  }
  const { Threshold } = alarms.get(alarm) ?? { Threshold: 0 };
  const isLess = alarm === 'audit-silent';
  const well = isLess ? Threshold : 0;
  const every5 = (from: number, until: number, value: number): Datapoint[] =>
    Array.from({ length: Math.ceil((until - from) / (5 * MINUTE)) }, (_, number) => ({
      ...metric,
      value,
      timestamp: new Date(from + number * 5 * MINUTE),
    }));
  const until = BREAK + 120 * MINUTE;
  const firstAlarm = (points: Datapoint[], since: number): number | undefined => {
    const only = runAlarms(template, points, { from: new Date(FROM), until: new Date(until) }).find(
      ({ alarm: name, to, at: time }) =>
        name === `${PREFIX}${alarm}` && to === ('ALARM' satisfies AlarmState) && time.getTime() > since,
    );
    return only === undefined ? undefined : Math.round((only.at.getTime() - since) / MINUTE);
  };
  const before = every5(FROM, BREAK, well);
  return {
    value: isLess ? undefined : firstAlarm([...before, ...every5(BREAK, until, Threshold + 1)], BREAK),
    nothing: firstAlarm(before, BREAK - 5 * MINUTE),
  };
}

test('how long each alarm takes is what docs/alarms.md says', () => {
  const page = readFileSync(join(PROJECT, 'docs', 'alarms.md'), 'utf8');
  const lines = names.map((name) => {
    const { value, nothing } = delaysOf(name);
    const minutes = (count: number | undefined): string => (count === undefined ? '–' : `${String(count)} min`);
    return `| [\`${name}\`](#${name}) | ${minutes(value)} | ${minutes(nothing)} |`;
  });
  for (const line of lines) {
    expect(page).toContain(line);
  }
});
