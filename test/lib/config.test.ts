import { Duration } from 'aws-cdk-lib';
import {
  type ClusterEntry,
  ConfigError,
  longestDays,
  readClusters,
  readReplicas,
  type ReplicaEntry,
} from '../../lib/config';
import { envKeep } from '../../lambda/verify/settings';
import { type Keep, MAX_KEPT } from '../../lambda/shared/retention';

const MINIMAL: ClusterEntry = {
  name: 'prod',
  controlPlaneTags: { 'k8s.io/role/control-plane': '1' },
  notify: { emails: ['oncall@example.com'] },
};

const ANNOUNCEMENT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/66666666-7777-8888-9999-000000000000';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/99999999-7777-8888-9999-000000000000';
const SIGNING_KEYS = { existingAnnouncementKeyArn: ANNOUNCEMENT_KEY, existingReceiptKeyArn: RECEIPT_KEY };

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
        notify: { emails: ['oncall@example.com'] },
        schedule: 'cron(0 * * * ? *)',
        timeZone: 'UTC',
        maximumEventAge: Duration.minutes(10),
        recoveryPoint: Duration.minutes(120),
        drillSchedule: 'cron(30 4 * * ? *)',
        architecture: 'x86_64',
        keep: {
          hourlyHours: 48,
          dailyDays: 7,
          weeklyWeeks: 4,
          monthlyMonths: 6,
          onDemandDays: 30,
          preRestoreDays: 30,
        },
        lockDays: 2,
        acknowledgedTimelines: [],
        keysLostPercent: 20,
        diskLimitPercent: 80,
        acknowledgedTools: [],
        pkiBundle: false,
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

describe('the recovery point objective', () => {
  test.each([
    ['rate(5 minutes)', 60],
    ['rate(45 minutes)', 90],
    ['rate(1 hour)', 120],
    ['cron(0 8-18/2 ? * MON-FRI *)', 2 * (2 * 1440 + 14 * 60)],
    ['rate(10 days)', 20 * 1440],
  ])('of %s is by default %d minutes, twice the longest gap', (schedule, minutes) => {
    const keep = { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 4 };
    expect(readClusters([{ ...MINIMAL, schedule, keep }])[0]?.recoveryPoint.toMinutes()).toBe(minutes);
  });

  test.each<[string, object, string[]]>([
    ['a quarter of an hour longer than the gap', { recoveryPoint: Duration.minutes(75) }, []],
    [
      'as long as the gap',
      { recoveryPoint: Duration.minutes(74) },
      [
        'prod.recoveryPoint: got 74 minutes, expected at least 75 minutes: the longest gap that the schedule can leave between two backups is 60, and a backup and its proof take their time, for which 15 are left',
      ],
    ],
    [
      'longer than the gap, but not with the flexible window',
      { recoveryPoint: Duration.minutes(70), flexibleWindow: Duration.minutes(15) },
      [
        'prod.recoveryPoint: got 70 minutes, expected at least 90 minutes: the longest gap that the schedule and flexibleWindow can leave between two backups is 75, and a backup and its proof take their time, for which 15 are left',
      ],
    ],
    [
      'shorter than the weekend that the schedule leaves out',
      { recoveryPoint: Duration.days(1), schedule: 'cron(0 * ? * MON-FRI *)' },
      [
        'prod.recoveryPoint: got 1440 minutes, expected at least 2955 minutes: the longest gap that the schedule can leave between two backups is 2940, and a backup and its proof take their time, for which 15 are left',
      ],
    ],
  ])('that is %s has the problems %#', (_what, change, problems) => {
    expect(problemsOf({ ...MINIMAL, ...change })).toEqual(problems);
  });
});

describe('whom to notify', () => {
  const TOPIC = 'arn:aws:sns:eu-central-1:111122223333:oncall';
  const EITHER =
    "expected one of { emails: ['oncall@example.com'] }, { topicArn: 'arn:aws:sns:eu-central-1:111122223333:oncall' } and 'nobody', for a cluster whose alarms tell no one";

  test.each<[string, object, string[]]>([
    ['nobody, said in so many words', { notify: 'nobody' }, []],
    ['a word', { notify: 'everybody' }, [`prod.notify: got "everybody", ${EITHER}`]],
    ['addresses', { notify: { emails: ['a@example.com', 'b+etcd@mail.example.co.uk'] } }, []],
    ['a topic', { notify: { topicArn: TOPIC } }, []],
    ['a topic in the region of the cluster', { notify: { topicArn: TOPIC }, region: 'eu-central-1' }, []],
    ['left out', { notify: undefined }, [`prod.notify: got nothing, ${EITHER}`]],
    ['empty', { notify: {} }, [`prod.notify: got {}, ${EITHER}`]],
    ['no addresses', { notify: { emails: [] } }, [`prod.notify: got {"emails":[]}, ${EITHER}`]],
    [
      'addresses and a topic',
      { notify: { emails: ['a@example.com'], topicArn: TOPIC } },
      [`prod.notify: got {"emails":["a@example.com"],"topicArn":"${TOPIC}"}, ${EITHER}`],
    ],
    [
      'no address',
      { notify: { emails: ['oncall'] } },
      ['prod.notify.emails.0: got "oncall", expected an e-mail address, for example oncall@example.com'],
    ],
    [
      'an address with something behind it',
      { notify: { emails: ['a@example.com, b@example.com'] } },
      [
        'prod.notify.emails.0: got "a@example.com, b@example.com", expected an e-mail address, for example oncall@example.com',
      ],
    ],
    [
      'a FIFO topic, which alarms do not publish to',
      { notify: { topicArn: `${TOPIC}.fifo` } },
      [
        `prod.notify.topicArn: got "${TOPIC}.fifo", expected the ARN of an SNS standard topic, for example arn:aws:sns:eu-central-1:111122223333:oncall`,
      ],
    ],
    [
      'a misspelt field',
      { notify: { mails: ['a@example.com'] } },
      [
        'prod.notify.mails: got ["a@example.com"], expected no such field; known are emails, topicArn',
        `prod.notify: got {"mails":["a@example.com"]}, ${EITHER}`,
      ],
    ],
    [
      'a topic in another region',
      { notify: { topicArn: TOPIC }, region: 'eu-west-1' },
      [
        `prod.notify.topicArn: got "${TOPIC}", expected a topic in eu-west-1, the cluster's region: an alarm tells only topics of its own`,
      ],
    ],
  ])('may be or may not be: %s', (_what, change, problems) => {
    expect(problemsOf({ ...MINIMAL, ...change })).toEqual(problems);
  });
});

describe('keep', () => {
  test('has its default for each class that is left out', () => {
    expect(readClusters([{ ...MINIMAL, keep: { dailyDays: 10 } }])[0]?.keep).toEqual({
      hourlyHours: 48,
      dailyDays: 10,
      weeklyWeeks: 4,
      monthlyMonths: 6,
      onDemandDays: 30,
      preRestoreDays: 30,
    });
  });

  test.each([
    [48, 2],
    [49, 3],
    [1, 1],
    [0, 1],
  ])('of %d hours locks by default for %d days, which is how long S3 keeps them', (hourlyHours, days) => {
    expect(readClusters([{ ...MINIMAL, keep: { hourlyHours } }])[0]?.lockDays).toBe(days);
  });

  test.each([
    ['on-demand backups', { onDemandDays: 3 }, 3],
    ['pre-restore backups', { preRestoreDays: 2 }, 2],
  ])('locks by default for no longer than %s are kept', (_what, change, days) => {
    expect(readClusters([{ ...MINIMAL, keep: { hourlyHours: 168, ...change } }])[0]?.lockDays).toBe(days);
  });

  const OFF = { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 0, monthlyMonths: 0 };
  test.each<[keyof Keep, number]>([
    ['hourlyHours', MAX_KEPT],
    ['dailyDays', 3650],
    ['weeklyWeeks', 521],
    ['monthlyMonths', 117],
    ['onDemandDays', 3650],
    ['preRestoreDays', 3650],
  ])('with the most of %s, %d, is what the verify function takes too', (field, most) => {
    const [cluster] = readClusters([{ ...MINIMAL, keep: { ...OFF, [field]: most } }]);
    process.env['KEEP'] = JSON.stringify(cluster?.keep);
    try {
      expect(envKeep()[field]).toBe(most);
    } finally {
      delete process.env['KEEP'];
    }
    expect(problemsOf({ ...MINIMAL, keep: { ...OFF, [field]: most + 1 } })).toEqual([
      expect.stringMatching(new RegExp(`^prod\\.keep\\.${field}: got ${String(most + 1)}, .* to ${String(most)}$`)),
    ]);
  });

  test.each<[string, object]>([
    ['all classes off', { keep: { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 0, monthlyMonths: 0 } }],
    ['classes off between two that are on', { keep: { dailyDays: 0, weeklyWeeks: 0 } }],
    ['a class as long as the one below', { keep: { hourlyHours: 168, dailyDays: 7 } }],
    ['a backup each day', { schedule: 'rate(1 day)' }],
    ['hourly backups for as long as the schedule takes', { schedule: 'rate(48 hours)' }],
    ['a backup every ten days', { schedule: 'rate(10 days)', keep: { hourlyHours: 0, dailyDays: 0 } }],
    [
      'STANDARD_IA for the least of months',
      { monthlyStorageClass: 'STANDARD_IA', keep: { weeklyWeeks: 4, monthlyMonths: 2 } },
    ],
    ['GLACIER_IR for the least of months', { monthlyStorageClass: 'GLACIER_IR', keep: { monthlyMonths: 4 } }],
    ['a lock shorter than the hourly class', { lockDays: 1 }],
  ])('may be %s', (_what, change) => {
    expect(problemsOf({ ...MINIMAL, ...change })).toEqual([]);
  });

  const LONGEST = 'expected a whole number from';
  test.each<[string, object, string[]]>([
    ['no object', { keep: 7 }, ['prod.keep: got 7, expected an object such as { hourlyHours: 48, dailyDays: 7 }']],
    [
      'a field that nobody knows',
      { keep: { daylyDays: 7 } },
      [
        'prod.keep.daylyDays: got 7, expected no such field; known are hourlyHours, dailyDays, weeklyWeeks, monthlyMonths, onDemandDays, preRestoreDays',
      ],
    ],
    ['half a day', { keep: { dailyDays: 7.5 } }, [`prod.keep.dailyDays: got 7.5, ${LONGEST} 0 to 3650`]],
    ['less than nothing', { keep: { weeklyWeeks: -1 } }, [`prod.keep.weeklyWeeks: got -1, ${LONGEST} 0 to 521`]],
    [
      'more than ten years',
      { keep: { monthlyMonths: 118 } },
      [`prod.keep.monthlyMonths: got 118, ${LONGEST} 0 to 117`],
    ],
    [
      'on-demand backups that are off',
      { keep: { onDemandDays: 0 } },
      [`prod.keep.onDemandDays: got 0, ${LONGEST} 1 to 3650`],
    ],
    [
      'pre-restore backups that are off',
      { keep: { preRestoreDays: 0 } },
      [`prod.keep.preRestoreDays: got 0, ${LONGEST} 1 to 3650`],
    ],
    [
      'a class that is gone before the next backup',
      { schedule: 'rate(3 days)', keep: { dailyDays: 2 } },
      [
        'prod.keep.hourlyHours: got the default 48, expected at least 72 hours, since the schedule leaves 4320 minutes between two backups, or 0 to switch the class off',
        'prod.keep.dailyDays: got 2, expected at least 3 days, since the schedule leaves 4320 minutes between two backups, or 0 to switch the class off',
      ],
    ],
    [
      'weekly and monthly backups that are gone before the next backup',
      { schedule: 'rate(40 days)', keep: { hourlyHours: 0, dailyDays: 0, weeklyWeeks: 1, monthlyMonths: 1 } },
      [
        'prod.keep.weeklyWeeks: got 1, expected at least 6 weeks, since the schedule leaves 57600 minutes between two backups, or 0 to switch the class off',
        'prod.keep.monthlyMonths: got 1, expected at least 2 months of 31 days, since the schedule leaves 57600 minutes between two backups, or 0 to switch the class off',
      ],
    ],
    [
      'daily backups that are gone before hourly ones',
      { keep: { hourlyHours: 240 } },
      [
        'prod.keep.dailyDays: got the default 7, expected at least as long as hourlyHours, which is 10 days, because a backup that is daily is not hourly as well; or 0 to switch the class off',
      ],
    ],
    [
      'monthly backups that are gone before daily ones, with no weekly ones between',
      { keep: { dailyDays: 40, weeklyWeeks: 0, monthlyMonths: 1 } },
      [
        'prod.keep.monthlyMonths: got 1, expected at least as long as dailyDays, which is 40 days, because a backup that is monthly is not daily as well; or 0 to switch the class off',
      ],
    ],
    [
      'a lock that outlives the hourly class',
      { lockDays: 3 },
      [
        'prod.lockDays: got 3, expected at most 2, the whole days for which hourly backups are kept: what is locked does not expire; keep.hourlyHours sets that',
      ],
    ],
    [
      'a lock of more than a day without an hourly class',
      { lockDays: 2, keep: { hourlyHours: 0 } },
      [
        'prod.lockDays: got 2, expected at most 1, the whole days for which hourly backups are kept: what is locked does not expire; keep.hourlyHours sets that',
      ],
    ],
    [
      'a lock that outlives on-demand and pre-restore backups',
      { lockDays: 7, keep: { hourlyHours: 168, onDemandDays: 3, preRestoreDays: 6 } },
      [
        'prod.lockDays: got 7, expected at most 3, for which on-demand backups are kept: what is locked does not expire; keep.onDemandDays sets that',
        'prod.lockDays: got 7, expected at most 6, for which pre-restore backups are kept: what is locked does not expire; keep.preRestoreDays sets that',
      ],
    ],
    [
      'a storage class that is none',
      { monthlyStorageClass: 'GLACIER' },
      [`prod.monthlyStorageClass: got "GLACIER", expected 'STANDARD_IA' or 'GLACIER_IR', or nothing for S3 Standard`],
    ],
    [
      'STANDARD_IA for less than it has to be paid for',
      { monthlyStorageClass: 'STANDARD_IA', keep: { monthlyMonths: 1 } },
      [
        'prod.monthlyStorageClass: got "STANDARD_IA", expected keep.monthlyMonths of at least 2 with it, got 1: an object moves after 30 days and is paid for 30 days from then on',
      ],
    ],
    [
      'GLACIER_IR for less than it has to be paid for',
      { monthlyStorageClass: 'GLACIER_IR', keep: { monthlyMonths: 3 } },
      [
        'prod.monthlyStorageClass: got "GLACIER_IR", expected keep.monthlyMonths of at least 4 with it, got 3: an object moves after 30 days and is paid for 90 days from then on',
      ],
    ],
    [
      'a storage class for monthly backups that are off',
      { monthlyStorageClass: 'STANDARD_IA', keep: { monthlyMonths: 0 } },
      [
        'prod.monthlyStorageClass: got "STANDARD_IA", expected keep.monthlyMonths of at least 2 with it, got 0: an object moves after 30 days and is paid for 30 days from then on',
      ],
    ],
  ])('may not be %s', (_what, change, problems) => {
    expect(problemsOf({ ...MINIMAL, ...change })).toEqual(problems);
  });
});

describe('the longest that anything is kept', () => {
  test.each<[Partial<ClusterEntry>, number]>([
    [{}, 186],
    [{ keep: { onDemandDays: 200 } }, 200],
    [
      { keep: { hourlyHours: 24, dailyDays: 0, weeklyWeeks: 0, monthlyMonths: 0, onDemandDays: 1, preRestoreDays: 1 } },
      1,
    ],
  ])('with %j is %d days', (change, days) => {
    const [cluster] = readClusters([{ ...MINIMAL, ...change }]);
    expect(cluster === undefined ? undefined : longestDays(cluster)).toBe(days);
  });
});

describe('a replica', () => {
  const SOURCE = { ...MINIMAL, account: '111122223333', region: 'eu-central-1' };
  const KEY = 'arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab';
  const replica = { bucketName: 'copies', keyArn: KEY };

  test.each<[string, object, string[]]>([
    ['in another account and region', {}, []],
    ['in another region of the same account', { account: '444455556666' }, []],
    ['in another account of the same region', { region: 'eu-west-1' }, []],
    [
      'beside the original',
      { account: '444455556666', region: 'eu-west-1' },
      [
        `prod.replica.keyArn: got "${KEY}", expected a key in another account or region than the cluster: beside the original a replica is lost with it`,
      ],
    ],
    [
      'of a cluster that names neither account nor region',
      { account: undefined, region: undefined },
      [
        "prod.account: got nothing, expected the cluster's own account, which a cluster with a replica has to name: the other side lets in only that",
        "prod.region: got nothing, expected the cluster's own region, which a cluster with a replica has to name: the other side lets in only that",
      ],
    ],
    [
      'of an adopted bucket',
      { existingBucketName: 'kept-backups', ...SIGNING_KEYS },
      [
        `prod.replica: got ${JSON.stringify(replica)}, expected none with existingBucketName: the stack changes nothing on a bucket that it adopts, so its owner has it replicated`,
      ],
    ],
    [
      'with a misspelt field',
      { replica: { ...replica, bucket: 'copies' } },
      ['prod.replica.bucket: got "copies", expected no such field; known are bucketName, keyArn'],
    ],
    [
      'that is no object',
      { replica: 'copies' },
      ['prod.replica: got "copies", expected an object with bucketName and keyArn'],
    ],
  ])('%s has the problems %#', (_what, change, problems) => {
    expect(problemsOf({ ...SOURCE, replica, ...change })).toEqual(problems);
  });

  const ENTRY = { name: 'prod', account: '444455556666', region: 'eu-west-1' };

  function replicaProblemsOf(cluster: object, ...entries: unknown[]): readonly string[] {
    try {
      readReplicas(entries as ReplicaEntry[], readClusters([{ ...SOURCE, ...cluster }]));
    } catch (error) {
      if (error instanceof ConfigError) {
        return error.problems;
      }
      throw error;
    }
    return [];
  }

  test('of the table of replicas comes with its cluster', () => {
    const [cluster] = readClusters([SOURCE]);
    expect(cluster).toBeDefined();
    expect(readReplicas([ENTRY], cluster === undefined ? [] : [cluster])).toEqual([
      {
        cluster,
        source: { account: '111122223333', region: 'eu-central-1' },
        account: '444455556666',
        region: 'eu-west-1',
      },
    ]);
  });

  test.each<[string, object, unknown[], string[]]>([
    ['without problems', {}, [ENTRY], []],
    ['where its cluster has its key', { replica }, [ENTRY], []],
    [
      'of no cluster',
      {},
      [{ ...ENTRY, name: 'other' }],
      ['replicas[0].name: got "other", expected a cluster of the table of clusters that has account and region'],
    ],
    [
      'of a cluster without an account',
      { account: undefined },
      [ENTRY],
      ['replicas[0].name: got "prod", expected a cluster of the table of clusters that has account and region'],
    ],
    [
      'beside the original',
      {},
      [{ ...ENTRY, account: '111122223333', region: 'eu-central-1' }],
      [
        'replicas[0]: got account 111122223333 and region eu-central-1, expected others than those of prod: beside the original a replica is lost with it',
      ],
    ],
    [
      'elsewhere than where its cluster has its key',
      { replica },
      [{ ...ENTRY, region: 'us-east-1' }],
      [
        'replicas[0]: got account 444455556666 and region us-east-1, expected 444455556666 and eu-west-1, where the key of prod.replica is',
      ],
    ],
    ['twice', {}, [ENTRY, ENTRY], ['replicas[1].name: got "prod", expected a cluster that no other replica has']],
    [
      'with every field wrong',
      {},
      [{ name: 1, account: '1', region: 'x', colour: 'red' }],
      [
        'replicas[0].name: got 1, expected the name of a cluster',
        'replicas[0].account: got "1", expected an account id of 12 digits',
        'replicas[0].region: got "x", expected a region, for example eu-central-1',
        'replicas[0].colour: got "red", expected no such field; known are name, account, region',
      ],
    ],
  ])('of the table of replicas that is %s has the problems %#', (_what, cluster, entries, problems) => {
    expect(replicaProblemsOf(cluster, ...entries)).toEqual(problems);
  });

  test('that is wrong is said to be in the table of replicas', () => {
    expect(() => readReplicas([{ ...ENTRY, name: 'other' }], [])).toThrow(/^the table of replicas has 1 problem:/);
  });
});

describe('an adopted bucket', () => {
  const WHY =
    'in this bucket are signed with it, and none of them would be trusted any more; for a bucket that is empty, a new ECC_NIST_P256 key for SIGN_VERIFY';

  test('comes with the keys that signed what is in it', () => {
    expect(problemsOf({ ...MINIMAL, existingBucketName: 'kept-backups', ...SIGNING_KEYS })).toEqual([]);
    expect(problemsOf({ ...MINIMAL, existingBucketName: 'kept-backups' })).toEqual([
      `prod.existingAnnouncementKeyArn: got nothing, expected its own key, as existingBucketName is given: the announcements ${WHY}`,
      `prod.existingReceiptKeyArn: got nothing, expected its own key, as existingBucketName is given: the receipts ${WHY}`,
    ]);
  });
});

describe('the keys that sign', () => {
  test('may be adopted for a new bucket, each alone', () => {
    expect(problemsOf({ ...MINIMAL, existingAnnouncementKeyArn: ANNOUNCEMENT_KEY })).toEqual([]);
    expect(problemsOf({ ...MINIMAL, existingReceiptKeyArn: RECEIPT_KEY })).toEqual([]);
  });

  test('are two, or the backup role could sign receipts', () => {
    expect(
      problemsOf({ ...MINIMAL, existingAnnouncementKeyArn: RECEIPT_KEY, existingReceiptKeyArn: RECEIPT_KEY }),
    ).toEqual([
      `prod.existingAnnouncementKeyArn: got "${RECEIPT_KEY}", expected a key that is not the existingReceiptKeyArn of prod: the backup role could sign receipts with it`,
    ]);
  });

  test('are two across clusters as well, in either order', () => {
    const first = { ...MINIMAL, ...SIGNING_KEYS };
    const second = { ...MINIMAL, name: 'other', existingAnnouncementKeyArn: RECEIPT_KEY };
    const problem = `other.existingAnnouncementKeyArn: got "${RECEIPT_KEY}", expected a key that is not the existingReceiptKeyArn of prod: the backup role could sign receipts with it`;
    expect(problemsOf(first, second)).toEqual([problem]);
    expect(problemsOf(second, first)).toEqual([problem]);
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
      recoveryPoint: Duration.minutes(90),
      drillSchedule: 'rate(12 hours)',
      architecture: 'arm64',
      keep: {
        hourlyHours: 168,
        dailyDays: 14,
        weeklyWeeks: 8,
        monthlyMonths: 24,
        onDemandDays: 90,
        preRestoreDays: 60,
      },
      monthlyStorageClass: 'GLACIER_IR',
      lockDays: 7,
      acknowledgedTimelines: ['20261120T140000Z', '20280229T235959Z'],
      keysLostPercent: 50,
      diskLimitPercent: 70,
      acknowledgedMembers: 3,
      acknowledgedTools: ['0123456789abcdef'.repeat(4)],
      existingSnapshotKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      existingAnnouncementKeyArn: 'arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234',
      existingReceiptKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/mrk-5678',
      replica: {
        bucketName: 'copies',
        keyArn: 'arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      },
      pkiBundle: true,
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
      'schedule',
      { schedule: 'cron(0 0 31 FEB ? *)' },
      `prod.schedule: got "cron(0 0 31 FEB ? *)", expected ${SCHEDULE}`,
    ],
    [
      'drillSchedule',
      { drillSchedule: 'rate(30 minutes)' },
      'prod.drillSchedule: got "rate(30 minutes)", expected cron(minutes hours day-of-month month day-of-week year) or rate(value unit), not more often than every 60 minutes, for example cron(30 4 * * ? *)',
    ],
    ['architecture', { architecture: 'arm' }, `prod.architecture: got "arm", expected 'arm64' or 'x86_64'`],
    [
      'recoveryPoint',
      { recoveryPoint: 120 },
      'prod.recoveryPoint: got 120, expected a Duration from 1 to 5256000 minutes, in whole minutes',
    ],
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
    ['lockDays', { lockDays: 0 }, 'prod.lockDays: got 0, expected a whole number from 1 to 3650'],
    ['lockDays', { lockDays: 1.5 }, 'prod.lockDays: got 1.5, expected a whole number from 1 to 3650'],
    [
      'acknowledgedTimelines',
      { acknowledgedTimelines: ['2026-11-20'] },
      'prod.acknowledgedTimelines.0: got "2026-11-20", expected a backup id that is a time, for example 20261120T140000Z',
    ],
    [
      'acknowledgedTimelines',
      { acknowledgedTimelines: ['20270229T000000Z'] },
      'prod.acknowledgedTimelines.0: got "20270229T000000Z", expected a backup id that is a time, for example 20261120T140000Z',
    ],
    [
      'acknowledgedTimelines',
      { acknowledgedTimelines: '20261120T140000Z' },
      'prod.acknowledgedTimelines: got "20261120T140000Z", expected a list of at most 50 backup ids',
    ],
    ['keysLostPercent', { keysLostPercent: 0 }, 'prod.keysLostPercent: got 0, expected a whole number from 1 to 99'],
    [
      'keysLostPercent',
      { keysLostPercent: 100 },
      'prod.keysLostPercent: got 100, expected a whole number from 1 to 99',
    ],
    [
      'existingReceiptKeyArn',
      { existingReceiptKeyArn: 'alias/receipts' },
      `prod.existingReceiptKeyArn: got "alias/receipts", expected ${KEY}`,
    ],
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
      `prod.acknowledgedTools: got "${'a'.repeat(64)}", expected a list of at most 7 SHA-256 hashes`,
    ],
    [
      'existingBucketName',
      { existingBucketName: 'arn:aws:s3:::b', ...SIGNING_KEYS },
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
        /^prod\.scheduel: got "rate\(1 hour\)", expected no such field; known are name, controlPlaneTags, notify, account, .*, tags$/,
      ),
    ]);
  });

  test('that is no object at all is a problem too', () => {
    expect(problemsOf('prod')).toEqual([
      'clusters[0]: got "prod", expected an object with name, controlPlaneTags and notify',
    ]);
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
    const error = new ConfigError(['prod.lockDays: got 0, expected a whole number from 1 to 3650']);
    expect(error.stack).toBe(
      [
        'ConfigError: the table of clusters has 1 problem:',
        '  - prod.lockDays: got 0, expected a whole number from 1 to 3650',
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
    const shared = { ...MINIMAL, existingBucketName: 'kept-backups', ...SIGNING_KEYS };
    expect(
      problemsOf({ ...shared, ...first }, { ...MINIMAL, name: 'between' }, { ...shared, ...second, name: 'other' }),
    ).toEqual([
      'other.existingBucketName: got "kept-backups", expected a bucket that clusters[0] does not have: their backups would have the same keys, and their bucket policies deny each other',
    ]);
  });

  test('lists more acknowledged tools than a call of a document holds as a problem', () => {
    const tools = Array.from({ length: 8 }, () => 'a'.repeat(64));
    expect(problemsOf({ ...MINIMAL, acknowledgedTools: tools })).toEqual([
      expect.stringMatching(/^prod\.acknowledgedTools: got .*, expected a list of at most 7 SHA-256 hashes$/),
    ]);
  });

  test('is not empty', () => {
    expect(problemsOf()).toEqual(['clusters: got none, expected at least one entry']);
  });
});
