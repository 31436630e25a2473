import { Duration } from 'aws-cdk-lib';
import { type ClusterEntry, ConfigError, readClusters } from '../../lib/config';

const MINIMAL: ClusterEntry = { name: 'prod', controlPlaneTags: { 'k8s.io/role/control-plane': '1' } };

function problemsOf(...entries: unknown[]): readonly string[] {
  try {
    readClusters(entries as ClusterEntry[]);
  } catch (error) {
    if (error instanceof ConfigError) {
      return error.problems;
    }
    throw error;
  }
  return [];
}

describe('a cluster with only what is required', () => {
  test('gets every default', () => {
    expect(readClusters([MINIMAL])).toEqual([
      {
        name: 'prod',
        controlPlaneTags: { 'k8s.io/role/control-plane': '1' },
        schedule: 'cron(0 * * * ? *)',
        timeZone: 'UTC',
        maximumEventAge: Duration.minutes(10),
        lockDays: 2,
        diskLimitPercent: 80,
        acknowledgedTools: [],
        tags: {},
      },
    ]);
  });

  test('keeps nothing of a field that was given as undefined', () => {
    const [cluster] = readClusters([{ ...MINIMAL, region: undefined } as unknown as ClusterEntry]);
    expect(cluster).not.toHaveProperty('region');
  });
});

describe('the default maximum event age', () => {
  test.each([
    ['rate(5 minutes)', 2],
    ['rate(15 minutes)', 7],
    ['rate(1 hour)', 10],
    ['cron(0,30 * * * ? *)', 10],
    ['rate(1 day)', 10],
  ])('of %s is %d minutes', (schedule, minutes) => {
    expect(readClusters([{ ...MINIMAL, schedule }])[0]?.maximumEventAge.toMinutes()).toBe(minutes);
  });
});

describe('a full entry', () => {
  test('is kept as it is', () => {
    const full: ClusterEntry = {
      ...MINIMAL,
      account: '111122223333',
      region: 'eu-central-1',
      schedule: 'rate(30 minutes)',
      timeZone: 'America/Argentina/Buenos_Aires',
      flexibleWindow: Duration.minutes(5),
      maximumEventAge: Duration.minutes(20),
      lockDays: 7,
      diskLimitPercent: 70,
      acknowledgedMembers: 3,
      acknowledgedTools: ['0123456789abcdef'.repeat(4)],
      existingBucketName: 'kept-backups',
      existingSnapshotKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      existingAnnouncementKeyArn: 'arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234',
      tags: { team: 'platform' },
    };
    expect(readClusters([full])).toEqual([full]);
  });
});

describe('a wrong field', () => {
  const NAME = 'up to 32 lower case letters, digits and hyphens, beginning with a letter, for example prod-eu';
  const SCHEDULE =
    'cron(minutes hours day-of-month month day-of-week year) or rate(value unit), not more often than every 5 minutes, for example cron(0 * * * ? *)';
  const MINUTES = 'a Duration from 1 to 1440 minutes, in whole minutes';
  const KEY =
    'the ARN of a KMS key, for example arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab (an alias does not do)';

  test.each<[string, object, string]>([
    ['name', { name: 'Prod_1' }, `Prod_1.name: got "Prod_1", expected ${NAME}`],
    ['name', { name: undefined }, `clusters[0].name: got nothing, expected ${NAME}`],
    ['name', { name: 'a'.repeat(33) }, `${'a'.repeat(33)}.name: got "${'a'.repeat(33)}", expected ${NAME}`],
    [
      'controlPlaneTags',
      { controlPlaneTags: {} },
      'prod.controlPlaneTags: got {}, expected at least one tag, for example { "k8s.io/role/control-plane": "1" }',
    ],
    [
      'controlPlaneTags',
      { controlPlaneTags: undefined },
      'prod.controlPlaneTags: got nothing, expected an object of tag names and values',
    ],
    [
      'controlPlaneTags',
      { controlPlaneTags: { role: 'cp*' } },
      'prod.controlPlaneTags.role: got "cp*", expected a tag value of up to 256 characters without *, ? and \\',
    ],
    [
      'controlPlaneTags',
      { controlPlaneTags: { role: 1 } },
      'prod.controlPlaneTags.role: got 1, expected a tag value of up to 256 characters without *, ? and \\',
    ],
    [
      'controlPlaneTags',
      { controlPlaneTags: { '': 'a' } },
      'prod.controlPlaneTags.: got "", expected a tag name of 1 to 128 characters',
    ],
    ['account', { account: '1234' }, 'prod.account: got "1234", expected an account id of 12 digits'],
    ['region', { region: 'Frankfurt' }, 'prod.region: got "Frankfurt", expected a region, for example eu-central-1'],
    ['schedule', { schedule: 'hourly' }, `prod.schedule: got "hourly", expected ${SCHEDULE}`],
    ['schedule', { schedule: 'rate(1 minute)' }, `prod.schedule: got "rate(1 minute)", expected ${SCHEDULE}`],
    ['schedule', { schedule: 60 }, `prod.schedule: got 60, expected ${SCHEDULE}`],
    [
      'timeZone',
      { timeZone: 'Europe/Berln' },
      'prod.timeZone: got "Europe/Berln", expected an IANA time zone, for example Europe/Berlin',
    ],
    [
      'timeZone',
      { timeZone: '+01:00' },
      'prod.timeZone: got "+01:00", expected an IANA time zone, for example Europe/Berlin',
    ],
    ['flexibleWindow', { flexibleWindow: 15 }, `prod.flexibleWindow: got 15, expected ${MINUTES}`],
    [
      'flexibleWindow',
      { flexibleWindow: Duration.seconds(90) },
      `prod.flexibleWindow: got 1.5 minutes, expected ${MINUTES}`,
    ],
    [
      'flexibleWindow',
      { flexibleWindow: Duration.hours(1) },
      "prod.flexibleWindow: got 60 minutes, expected a Duration below the schedule's shortest interval of 60 minutes",
    ],
    [
      'maximumEventAge',
      { maximumEventAge: Duration.hours(3) },
      "prod.maximumEventAge: got 180 minutes, expected a Duration below the schedule's shortest interval of 60 minutes",
    ],
    ['lockDays', { lockDays: 0 }, 'prod.lockDays: got 0, expected a whole number from 1 to 36500'],
    ['lockDays', { lockDays: 1.5 }, 'prod.lockDays: got 1.5, expected a whole number from 1 to 36500'],
    [
      'diskLimitPercent',
      { diskLimitPercent: 99 },
      'prod.diskLimitPercent: got 99, expected a whole number from 10 to 95',
    ],
    [
      'acknowledgedMembers',
      { acknowledgedMembers: '3' },
      'prod.acknowledgedMembers: got "3", expected a whole number from 1 to 99',
    ],
    [
      'acknowledgedTools',
      { acknowledgedTools: ['A'.repeat(64)] },
      `prod.acknowledgedTools.0: got "${'A'.repeat(64)}", expected a SHA-256 hash of 64 lower case hex digits`,
    ],
    [
      'acknowledgedTools',
      { acknowledgedTools: 'a'.repeat(64) },
      `prod.acknowledgedTools: got "${'a'.repeat(64)}", expected a list of at most 12 SHA-256 hashes`,
    ],
    [
      'existingBucketName',
      { existingBucketName: 'arn:aws:s3:::b' },
      'prod.existingBucketName: got "arn:aws:s3:::b", expected a bucket name of 3 to 63 lower case letters, digits, dots and hyphens',
    ],
    [
      'existingSnapshotKeyArn',
      { existingSnapshotKeyArn: 'alias/etcd' },
      `prod.existingSnapshotKeyArn: got "alias/etcd", expected ${KEY}`,
    ],
    [
      'existingAnnouncementKeyArn',
      { existingAnnouncementKeyArn: 'x' },
      `prod.existingAnnouncementKeyArn: got "x", expected ${KEY}`,
    ],
    [
      'tags',
      { tags: { 'aws:team': 'a' } },
      'prod.tags.aws:team: got "aws:team", expected a tag name of 1 to 128 characters that does not begin with aws:',
    ],
  ])('%s is named with the value got and the value expected: %j', (_field, change, problem) => {
    expect(problemsOf({ ...MINIMAL, ...change })).toEqual([problem]);
  });

  test('that nobody knows is a problem, because a misspelt one would silently get its default', () => {
    expect(problemsOf({ ...MINIMAL, scheduel: 'rate(1 hour)' })).toEqual([
      expect.stringMatching(
        /^prod\.scheduel: got "rate\(1 hour\)", expected no such field; known are name, controlPlaneTags, account, .*, tags$/,
      ),
    ]);
  });

  test('that is no object at all is a problem too', () => {
    expect(problemsOf('prod')).toEqual(['clusters[0]: got "prod", expected an object with name and controlPlaneTags']);
  });
});

describe('the table of clusters', () => {
  test('throws one error that lists every problem of every cluster', () => {
    const wrong = [
      { ...MINIMAL, name: 'one', lockDays: -1, timeZone: 'Mars/Olympus' },
      MINIMAL,
      { ...MINIMAL, name: 'two', controlPlaneTags: {}, colour: 'red' },
    ] as unknown as ClusterEntry[];
    expect(problemsOf(...wrong).map((problem) => problem.split(':')[0])).toEqual([
      'one.timeZone',
      'one.lockDays',
      'two.controlPlaneTags',
      'two.colour',
    ]);
    expect(() => readClusters(wrong)).toThrow(
      /^the table of clusters has 4 problems:\n {2}- one\.timeZone: (.*\n){4}correct these in bin\/etcd-backup\.ts and synthesize again$/,
    );
  });

  test('throws an error that prints as that list, without a stack trace in front of it', () => {
    const error = new ConfigError(['prod.lockDays: got 0, expected a whole number from 1 to 36500']);
    expect(error.stack).toBe(
      [
        'ConfigError: the table of clusters has 1 problem:',
        '  - prod.lockDays: got 0, expected a whole number from 1 to 36500',
        'correct these in bin/etcd-backup.ts and synthesize again',
      ].join('\n'),
    );
  });

  test('does not have the same name twice', () => {
    expect(problemsOf(MINIMAL, { ...MINIMAL, name: 'other' }, MINIMAL)).toEqual([
      'clusters[2].name: got "prod", expected a name that clusters[0] does not have',
    ]);
  });

  test.each([
    ['in one account and region', {}, {}],
    ['in two accounts', { account: '111122223333' }, { account: '444455556666' }],
    ['in two regions', { region: 'eu-central-1' }, { region: 'us-east-1' }],
  ])('gives no bucket to two clusters, %s', (_where, first, second) => {
    const shared = { ...MINIMAL, existingBucketName: 'kept-backups' };
    expect(
      problemsOf({ ...shared, ...first }, { ...MINIMAL, name: 'between' }, { ...shared, ...second, name: 'other' }),
    ).toEqual([
      'other.existingBucketName: got "kept-backups", expected a bucket that clusters[0] does not have: their backups would have the same keys, and their bucket policies deny each other',
    ]);
  });

  test('lists more acknowledged tools than the environment of a function holds as a problem', () => {
    const tools = Array.from({ length: 13 }, () => 'a'.repeat(64));
    expect(problemsOf({ ...MINIMAL, acknowledgedTools: tools })).toEqual([
      expect.stringMatching(/^prod\.acknowledgedTools: got .*, expected a list of at most 12 SHA-256 hashes$/),
    ]);
  });

  test('is not empty', () => {
    expect(problemsOf()).toEqual(['clusters: got none, expected at least one entry']);
  });
});
