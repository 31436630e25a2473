import { dueAt, MAX_ASKED } from '../../../lambda/audit/ask-verify';
import { encryptionRisks, lockRisks, publicAccessRisks } from '../../../lambda/audit/bucket';
import { readEvent } from '../../../lambda/audit/event';
import { lockNewestUntil, savedAt } from '../../../lambda/audit/newest';
import { countOf } from '../../../lambda/audit/risks';
import { countByTag, type Held, unsettled, unverified } from '../../../lambda/audit/stored';
import type { Retention } from '../../../lambda/shared/retention';

const NOW = new Date('2026-11-20T16:00:00Z');

function held(id: string, tag: Retention | undefined, hasReceipt: boolean, minutes: number): Held {
  return {
    backupId: id,
    version: {
      key: `snapshots/${id}.db.zst`,
      versionId: `v-${id}`,
      storedAt: new Date(NOW.getTime() - minutes * 60_000),
      bytes: 1,
    },
    tag,
    hasReceipt,
  };
}

test.each([
  ['its trigger', '20261120T140000Z', '2026-11-20T14:00:00.000Z'],
  ['its storing, where its id lies ahead', '20991120T140000Z', '2026-11-20T14:05:00.000Z'],
  ['its storing, where its id names no time', '20269999T999999Z', '2026-11-20T14:05:00.000Z'],
  ['its storing, where its id names none that is early', '20009999T999999Z', '2026-11-20T14:05:00.000Z'],
])('a backup is as old as %s', (_what, backupId, expected) => {
  expect(savedAt(backupId, new Date('2026-11-20T14:05:00Z')).toISOString()).toBe(expected);
});

describe('what is not verified', () => {
  test.each<[string, Retention | undefined, boolean, number, boolean]>([
    ['pending, an hour and a minute old', 'pending', false, 61, true],
    ['pending, an hour old', 'pending', false, 60, false],
    ['pending, stored just now', 'pending', false, 0, false],
    ['pending, stored in the future', 'pending', false, -600, false],
    ['pending although it has a receipt', 'pending', true, 61, true],
    ['without a tag', undefined, true, 61, true],
    ['refused', 'failed', false, 6000, false],
    ['proven', 'hourly', true, 6000, false],
    ['proven and without a receipt', 'hourly', false, 61, true],
    ['latest and without a receipt', 'latest', false, 61, true],
    ['what a restore replaced, proven', 'pre-restore', true, 61, false],
  ])('%s', (_what, tag, hasReceipt, minutes, expected) => {
    expect(unverified([held('20261120T140000Z', tag, hasReceipt, minutes)], NOW)).toHaveLength(expected ? 1 : 0);
  });
});

describe('what is not settled', () => {
  const older = held('20261120T130000Z', 'latest', true, 170);
  const newest = (tag: Retention, minutes = 61) => held('20261120T140000Z', tag, true, minutes);
  const ids = (all: Held[], of = newest('latest').version) => unsettled(all, of, NOW).map(({ backupId }) => backupId);

  test.each<[string, Held[], string[]]>([
    ['nothing when the newest alone is latest', [held('20261120T130000Z', 'hourly', true, 170), newest('latest')], []],
    ['the older of two', [older, newest('latest')], ['20261120T130000Z']],
    [
      'one of three days ago, although the newest is of five minutes ago',
      [held('20261117T130000Z', 'latest', true, 3 * 24 * 60), newest('latest', 5)],
      ['20261117T130000Z'],
    ],
    [
      'nothing while verify may still be at it',
      [held('20261120T130000Z', 'latest', true, 60), newest('hourly', 59)],
      [],
    ],
    ['the newest when it is not latest', [newest('hourly')], ['20261120T140000Z']],
    [
      'both when the older one is latest in its place',
      [older, newest('hourly')],
      ['20261120T130000Z', '20261120T140000Z'],
    ],
    ['nothing when the newest is not known here', [older], []],
  ])('is %s', (_what, all, expected) => {
    expect(ids(all)).toEqual(expected);
  });

  test('is nothing when no newest is known', () => {
    expect(unsettled([older, newest('latest')], undefined, NOW)).toEqual([]);
  });
});

test('versions are counted by their tag, those without one by none', () => {
  const all = [
    held('20261120T130000Z', 'hourly', true, 1),
    held('20261120T140000Z', 'hourly', true, 1),
    held('20261120T150000Z', undefined, true, 1),
  ];
  expect(countByTag(all)).toMatchObject({ hourly: 2, latest: 0, pending: 0 });
});

describe('verify is asked', () => {
  const many = Array.from({ length: 300 }, (_, index) =>
    held(
      `2026112${String(Math.floor(index / 100))}T${String(index).padStart(4, '0').slice(-4)}00Z`,
      'pending',
      false,
      90,
    ),
  );
  const slots = Array.from({ length: 12 }, (_, slot) => new Date(NOW.getTime() + slot * 300_000));

  test('once in an hour for each, whatever the minute and second of its run', () => {
    const one = many.slice(0, 40);
    const asked = slots.flatMap((time) => dueAt(one, new Date(time.getTime() + 59_000)));
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked.length).toBeGreaterThan(30);
  });

  test('for the same ones when a trigger is delivered twice', () => {
    const [time = NOW] = slots;
    expect(dueAt(many, time)).toEqual(dueAt(many, time));
  });

  test('for no more than five in a run, the newest first', () => {
    for (const time of slots) {
      const asked = dueAt(many, time);
      expect(asked).toHaveLength(MAX_ASKED);
      expect(asked.map(({ version }) => version.key)).toEqual(
        asked
          .map(({ version }) => version.key)
          .toSorted()
          .reverse(),
      );
    }
  });
});

describe('the lock of the newest', () => {
  const days = (count: number) => new Date(NOW.getTime() + count * 86_400_000);

  test.each<[string, Date | undefined, number, Date | undefined]>([
    ['none', undefined, 2, days(2)],
    ['over', days(-1), 2, days(2)],
    ['less than half of the default left', days(0.99), 2, days(2)],
    ['half of it left', days(1), 2, undefined],
    ['that of its class, which is longer', days(186), 2, undefined],
    ['a day by default', days(0.4), 1, days(1)],
  ])('is extended when there is %s', (_what, until, lockDays, expected) => {
    expect(lockNewestUntil(until, NOW, lockDays)).toEqual(expected);
  });
});

describe('a number of risks', () => {
  test.each<[string, string[], string[], number | undefined]>([
    ['0 when all were looked at', [], [], 0],
    ['unknown when one could not be looked at', [], ['p'], undefined],
    ['at least those that were seen', ['a', 'b'], ['p'], 2],
  ])('is %s', (_what, risks, problems, count) => {
    expect(countOf({ risks, problems })).toBe(count);
  });
});

describe('the bucket’s lock', () => {
  const rule = (retention: object) =>
    ({ ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention: retention } }) as never;

  test.each<[string, unknown, number]>([
    ['as long as it has to be', rule({ Mode: 'GOVERNANCE', Days: 2 }), 0],
    ['longer', rule({ Mode: 'GOVERNANCE', Days: 30 }), 0],
    ['in years', rule({ Mode: 'GOVERNANCE', Years: 1 }), 0],
    ['shorter', rule({ Mode: 'GOVERNANCE', Days: 1 }), 1],
    ['without a mode', rule({ Days: 2 }), 1],
    ['never switched on', undefined, 1],
  ])('is %s', (_what, lock, count) => {
    expect(lockRisks(lock as never, 2)).toHaveLength(count);
  });
});

test('public access is at risk when one of four settings is off, and names it', () => {
  expect(
    publicAccessRisks({
      BlockPublicAcls: true,
      BlockPublicPolicy: false,
      IgnorePublicAcls: true,
      RestrictPublicBuckets: true,
    }),
  ).toEqual(['public access: BlockPublicPolicy are off, expected all four to be on']);
});

describe('encryption', () => {
  const of = (key: string | undefined, bucketKey = false) =>
    ({
      Rules: [
        {
          BucketKeyEnabled: bucketKey,
          ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: key },
        },
      ],
    }) as never;

  test.each<[string, unknown, boolean, number]>([
    ['our key', of('ours'), false, 0],
    ['another key', of('theirs'), false, 1],
    ['another key in an adopted bucket, whose owner says so', of('theirs'), true, 0],
    ['a Bucket Key', of('ours', true), false, 1],
    ['a Bucket Key in an adopted bucket', of('theirs', true), true, 1],
    ['none in an adopted bucket', undefined, true, 0],
  ])('with %s', (_what, configuration, adopted, count) => {
    expect(encryptionRisks(configuration as never, 'ours', adopted)).toHaveLength(count);
  });
});

describe('the event', () => {
  test('may be empty, as by hand', () => {
    expect(readEvent({})).toEqual({ scheduledTime: undefined, policy: undefined });
  });

  test('has the time of the trigger', () => {
    expect(readEvent({ scheduledTime: '2026-11-20T14:05:00Z' }).scheduledTime).toEqual(
      new Date('2026-11-20T14:05:00Z'),
    );
  });

  test.each<[unknown, RegExp]>([
    [null, /value: got null, expected an object/],
    [{ scheduledTime: 'yesterday' }, /scheduledTime: got "yesterday", expected a time/],
    [{ backupId: '20261120T140000Z' }, /backupId: got a field that is not known here/],
    [{ policy: 'none' }, /policy: got "none", expected a policy/],
    [
      { policy: { Statement: [{ Sid: 'a' }] } },
      /policy.Statement: got \[\{"Sid":"a"\}\], expected a list of statements/,
    ],
  ])('is refused as %j', (event, message) => {
    expect(() => readEvent(event)).toThrow(message);
  });
});
