import {
  GetObjectTaggingCommand,
  ListObjectVersionsCommand,
  PutObjectRetentionCommand,
  PutObjectTaggingCommand,
} from '@aws-sdk/client-s3';
import { LookupEventsCommand } from '@aws-sdk/client-cloudtrail';
import { DescribeKeyCommand } from '@aws-sdk/client-kms';
import { setTimeout } from 'node:timers/promises';
import type { AuditError } from '../../../lambda/shared/errors';
import { ANNOUNCEMENT_KEY, RECEIPT_KEY } from '../verify/world';
import { AuditWorld, failure, POLICY, SNAPSHOT_KEY } from './world';

const A = '20261120T140000Z';
const B = '20261120T150000Z';
const C = '20261120T160000Z';
const HOUR = 3600;

let audit: AuditWorld;

beforeEach(() => {
  audit = new AuditWorld();
});

afterEach(() => {
  audit.world.remove();
});

const problems = (...expected: RegExp[]) =>
  expect.objectContaining({
    name: 'AuditError',
    problems: expected.map((problem) => expect.stringMatching(problem) as unknown),
  }) as Error;

const never = () => new Promise(() => undefined);

const at = (time: string) => {
  audit.world.now = new Date(time);
};

/** Minutes later. */
const later = (minutes: number) => {
  audit.world.now = new Date(audit.world.now.getTime() + minutes * 60_000);
};

describe('a cluster that is well', () => {
  beforeEach(async () => {
    await audit.verified(A);
    await audit.verified(B);
    await audit.verified(C);
    audit.drill('20261120T043000Z');
    at('2026-11-20T16:35:00Z');
    audit.forget();
  });

  test('has a gauge for each thing, and nothing at risk', async () => {
    const outcome = await audit.run();
    expect(outcome).toEqual({
      gauges: {
        VerifiedAgeSeconds: 35 * 60,
        DrillAgeSeconds: 12 * HOUR + 5 * 60,
        UnverifiedObjects: 0,
        KeysAtRisk: 0,
        BucketAtRisk: 0,
        SchedulesAtRisk: 0,
        StoredBackups: 3,
        StoredPending: 0,
        StoredFailed: 0,
        StoredLatest: 1,
        StoredHourly: 1,
        StoredDaily: 0,
        StoredWeekly: 0,
        StoredMonthly: 1,
        StoredOnDemand: 0,
        StoredPreRestore: 0,
      },
      risks: [],
      asked: [],
      locked: null,
      callers: [],
    });
    expect(audit.gauges).toEqual(outcome.gauges);
    expect(audit.published).toEqual([outcome.gauges]);
    expect(audit.world.lines.at(-1)).toMatchObject({ message: 'phase done', phase: 'audit', seconds: 0 });
  });

  test('changes nothing', async () => {
    audit.world.writes.length = 0;
    await audit.hour();
    expect(audit.world.writes).toEqual([]);
    expect(audit.asked).toEqual([]);
  });

  test('has an age that grows when nothing new comes', async () => {
    await audit.run();
    later(120);
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(155 * 60);
  });
});

describe('the newest verified backup', () => {
  test('has no gauge as long as there is none, which is no problem of its own', async () => {
    at('2026-11-20T14:05:00Z');
    const { gauges } = await audit.run();
    expect(gauges).not.toHaveProperty('VerifiedAgeSeconds');
    expect(gauges).not.toHaveProperty('DrillAgeSeconds');
    expect(gauges).toMatchObject({ StoredBackups: 0, UnverifiedObjects: 0, BucketAtRisk: 0 });
  });

  test('is not one with a forged receipt, however new', async () => {
    await audit.verified(A);
    const { stored } = audit.world.backup(B);
    const forged = { ...audit.world.receipt(A), backupId: B, key: stored.key, versionId: stored.versionId };
    audit.world.put(`receipts/${B}.json`, Buffer.from(JSON.stringify(forged)), {
      'receipt-signature': Buffer.from('forged').toString('base64'),
    });
    at('2026-11-20T15:35:00Z');
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(95 * 60);
    expect(audit.world.lines.at(-1)?.['passedOver']).toEqual([expect.stringMatching(/^20261120T150000Z: signature/)]);
  });

  test('is not one that a restore left behind, although its id is the newest', async () => {
    await audit.verified(A);
    const kept = audit.world.backup(B, { trigger: { kind: 'pre-restore', restoreId: '20261120T145500Z' } });
    await audit.world.verify(kept.event);
    at('2026-11-20T15:35:00Z');
    await audit.run();
    expect(audit.gauges).toMatchObject({ VerifiedAgeSeconds: 95 * 60, StoredPreRestore: 1, StoredLatest: 1 });
  });

  test('is none right after a restore: what was stored before it is of another timeline, but stays locked', async () => {
    await audit.verified(A);
    audit.world.put('restores/20261120T150000Z.json', Buffer.from('{"revisionAfter":1000123456}'), {});
    audit.forget();
    at('2026-11-24T15:05:00Z');
    audit.world.stored.forEach((stored) => (stored.lock = undefined));
    const { gauges, locked } = await audit.run();
    expect(gauges).not.toHaveProperty('VerifiedAgeSeconds');
    expect(locked).toBe(A);
  });

  test('is none when it was saved before the restore whose timeline its receipt names', async () => {
    audit.world.put('restores/20261120T133000Z.json', Buffer.from('{"revisionAfter":1000123456}'), {});
    // Its revision is that of before.
    await audit.verified(A);
    audit.forget();
    expect((await audit.run()).gauges).not.toHaveProperty('VerifiedAgeSeconds');
  });

  test('is found under a delete marker', async () => {
    const { stored } = await audit.verified(A);
    audit.world.deleteMarker(stored.key);
    audit.world.deleteMarker(`receipts/${A}.json`);
    at('2026-11-20T15:00:00Z');
    await audit.run();
    expect(audit.gauges).toMatchObject({ VerifiedAgeSeconds: HOUR, StoredBackups: 1, UnverifiedObjects: 0 });
  });

  test('is the one before when its version is gone', async () => {
    await audit.verified(A);
    const { stored } = await audit.verified(B);
    audit.world.stored.splice(audit.world.stored.indexOf(stored), 1);
    at('2026-11-20T16:00:00Z');
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(2 * HOUR);
  });

  test('is as old as its trigger, not as its storing', async () => {
    await audit.verified(A);
    at('2026-11-20T14:05:00Z');
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(300);
  });

  test('does not look younger by an id that lies ahead', async () => {
    const now = audit.world.now;
    const { event, stored } = audit.world.backup('20301120T140000Z');
    Object.assign(stored, { storedAt: now });
    audit.world.now = now;
    await audit.world.verify(event);
    later(60);
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(HOUR);
  });

  test.each([
    [250, 0],
    [0, 0],
  ])('is of age 0 when S3’s clock is %d s ahead', async (seconds, age) => {
    const { stored } = await audit.verified(A);
    at('2026-11-20T14:00:00Z');
    Object.assign(stored, { storedAt: new Date(audit.world.now.getTime() + seconds * 1000) });
    await audit.run();
    expect(audit.gauges['VerifiedAgeSeconds']).toBe(age);
  });

  test('has no gauge when the clocks differ by more', async () => {
    const { stored } = await audit.verified(A);
    Object.assign(stored, { storedAt: new Date('2026-11-20T14:00:00Z') });
    at('2026-11-20T13:54:00Z');
    audit.forget();
    await expect(audit.run()).rejects.toEqual(
      problems(
        /^newest drill: ClockError: .* 660 s ahead of/,
        /^newest verified backup: ClockError: .* 360 s ahead of/,
      ),
    );
    expect(audit.gauges).not.toHaveProperty('VerifiedAgeSeconds');
    expect(audit.gauges).not.toHaveProperty('DrillAgeSeconds');
    expect(audit.gauges).toMatchObject({ StoredBackups: 1, KeysAtRisk: 0 });
  });
});

test('an object whose name is that of an old backup, and of no time, hides no receipt', async () => {
  await audit.verified(A);
  audit.world.put('snapshots/20259999T999999Z.db.zst', Buffer.from('x'), {}, { tag: 'failed' });
  audit.forget();
  await audit.run();
  expect(audit.gauges).toMatchObject({ VerifiedAgeSeconds: 300, UnverifiedObjects: 0, StoredBackups: 2 });
});

describe('a version that was not verified', () => {
  test('is counted after an hour, and verify is started for it once in each hour', async () => {
    const { stored } = audit.world.backup(A);
    at('2026-11-20T14:00:00Z');
    await audit.hour();
    expect(audit.gauges['UnverifiedObjects']).toBe(0);
    expect(audit.asked).toEqual([]);

    later(10);
    await audit.hour();
    expect(audit.gauges['UnverifiedObjects']).toBe(1);
    expect(audit.asked).toEqual([stored.key]);
    await audit.hour();
    expect(audit.asked).toEqual([stored.key, stored.key]);
  });

  test('is verified by that', async () => {
    audit.world.backup(A);
    at('2026-11-20T15:30:00Z');
    audit.onAsked = (event) => audit.world.verify(event);
    await audit.hour();
    expect(audit.world.tags).toEqual({ [A]: 'latest' });
    await audit.run();
    expect(audit.gauges).toMatchObject({ UnverifiedObjects: 0, VerifiedAgeSeconds: 150 * 60, StoredLatest: 1 });
  });

  test('is not asked for again when it was refused: that alarm has rung', async () => {
    const { event } = audit.world.backup(A, { result: { cluster: undefined } as never, cluster: 'another' });
    await expect(audit.world.verify(event)).rejects.toThrow(/not verified/);
    at('2026-11-20T17:00:00Z');
    await audit.hour();
    expect(audit.gauges).toMatchObject({ UnverifiedObjects: 0, StoredFailed: 1 });
    expect(audit.asked).toEqual([]);
  });

  test('is one that was proven and whose receipt is gone', async () => {
    const { stored } = await audit.verified(A);
    const receipt = audit.world.stored.findIndex(({ key }) => key.startsWith('receipts/'));
    audit.world.stored.splice(receipt, 1);
    at('2026-11-20T15:30:00Z');
    await audit.hour();
    expect(audit.gauges['UnverifiedObjects']).toBe(1);
    expect(audit.asked).toEqual([stored.key]);
  });

  test('is found again when its receipt goes away between two runs', async () => {
    await audit.verified(A);
    at('2026-11-20T15:30:00Z');
    await audit.run();
    expect(audit.gauges['UnverifiedObjects']).toBe(0);
    audit.world.stored.splice(
      audit.world.stored.findIndex(({ key }) => key.startsWith('receipts/')),
      1,
    );
    await audit.run();
    expect(audit.gauges['UnverifiedObjects']).toBe(1);
  });

  test('is still told when verify cannot be started', async () => {
    audit.world.backup(A);
    audit.change = { verifyFunction: 'gone' };
    at('2026-11-20T15:30:00Z');
    await expect(audit.hour()).rejects.toEqual(problems(/^verify: VerifyNotAskedError: lambda:InvokeFunction of gone/));
    expect(audit.gauges).toMatchObject({ UnverifiedObjects: 1, BucketAtRisk: 0 });
  });
});

describe('what a dying verify left behind', () => {
  async function twoLatest(): Promise<void> {
    await audit.verified(A);
    await audit.verified(B);
    const { event } = audit.world.backup(C);
    audit.world.diesAfterWrites = audit.world.writes.length + 2;
    await expect(audit.world.verify(event)).rejects.toThrow('killed');
    audit.world.diesAfterWrites = Infinity;
    expect(audit.world.tags).toEqual({ [A]: 'monthly', [B]: 'latest', [C]: 'latest' });
  }

  test('is a second latest, which gets its class after an hour, through verify', async () => {
    await twoLatest();
    audit.onAsked = (event) => audit.world.verify(event);
    await audit.run();
    expect(audit.gauges['StoredLatest']).toBe(2);
    expect(audit.asked).toEqual([]);

    later(61);
    await audit.hour();
    expect(audit.asked).toEqual([`snapshots/${B}.db.zst`]);
    expect(audit.world.tags).toEqual({ [A]: 'monthly', [B]: 'hourly', [C]: 'latest' });
    await audit.run();
    expect(audit.gauges['StoredLatest']).toBe(1);
  });

  test('is a latest of three days ago, which gets its class although the newest is never an hour old', async () => {
    const stray = '20261117T130000Z';
    const { stored } = await audit.verified(stray);
    await audit.verified(A);
    stored.tag = 'latest';
    audit.onAsked = (event) => audit.world.verify(event);
    // Until 55 minutes after the newest was stored.
    await audit.hour();
    expect(audit.asked).toEqual([`snapshots/${stray}.db.zst`]);
    expect(audit.world.tags).toEqual({ [stray]: 'monthly', [A]: 'latest' });
  });

  test('never loses a latest by that: audit itself writes no tag', async () => {
    await twoLatest();
    audit.world.s3Mock.resetHistory();
    later(61);
    await audit.hour();
    expect(audit.world.s3Mock.commandCalls(PutObjectTaggingCommand)).toEqual([]);
    expect(audit.world.tags).toEqual({ [A]: 'monthly', [B]: 'latest', [C]: 'latest' });
  });

  test('is a newest one that is not latest, which it becomes again', async () => {
    await audit.verified(A);
    const { stored } = await audit.verified(B);
    // The newest is gone, and what was before it has its class already.
    audit.world.stored.splice(audit.world.stored.indexOf(stored), 1);
    expect(audit.world.tags).toEqual({ [A]: 'monthly' });
    audit.onAsked = (event) => audit.world.verify(event);
    at('2026-11-20T16:00:00Z');
    await audit.hour();
    expect(audit.asked).toEqual([`snapshots/${A}.db.zst`]);
    expect(audit.world.tags).toEqual({ [A]: 'latest' });
  });
});

describe('the lock of the newest verified backup', () => {
  test('is extended while no newer one comes, in days as it was locked when it was stored', async () => {
    await audit.verified(A);
    const { stored } = await audit.verified(B);
    audit.world.writes.length = 0;
    expect(audit.world.lockedDays(stored)).toBe(2);

    at('2026-11-21T15:00:00Z');
    expect((await audit.run()).locked).toBeNull();
    at('2026-11-21T15:10:00Z');
    expect((await audit.run()).locked).toBe(B);
    expect(stored.lock).toEqual(new Date('2026-11-23T15:10:00Z'));
    expect((await audit.run()).locked).toBeNull();
    expect(audit.world.writes).toEqual([`lock ${B}`]);
  });

  test('has no gap in a month without backups', async () => {
    await audit.verified(A);
    const { stored } = await audit.verified(B);
    for (let hours = 0; hours < 31 * 24; hours += 12) {
      expect(stored.lock?.getTime()).toBeGreaterThan(audit.world.now.getTime());
      await audit.run();
      later(720);
    }
    // Twice in two days at most.
    expect(audit.world.s3Mock.commandCalls(PutObjectRetentionCommand).length).toBeLessThan(40);
  });

  test('is not extended for the others', async () => {
    const { stored } = await audit.verified(A);
    const { stored: hourly } = await audit.verified(B);
    const { stored: newest } = await audit.verified(C);
    const locks = [stored.lock, hourly.lock];
    at('2026-12-20T16:00:00Z');
    await audit.run();
    expect([stored.lock, hourly.lock]).toEqual(locks);
    expect(newest.lock).toEqual(new Date('2026-12-22T16:00:00Z'));
  });

  test('that cannot be extended is a problem, and takes no gauge away', async () => {
    await audit.verified(A);
    const { stored } = await audit.verified(B);
    stored.lock = undefined;
    audit.world.s3Mock.on(PutObjectRetentionCommand).rejects(failure('AccessDenied', 403));
    await expect(audit.run()).rejects.toEqual(
      problems(/^lock of the newest verified backup: StoreError: PutObjectRetention .*AccessDenied/),
    );
    expect(audit.gauges).toMatchObject({ VerifiedAgeSeconds: 300, StoredBackups: 2 });
  });
});

describe('the newest drill', () => {
  beforeEach(() => {
    at('2026-11-21T04:30:00Z');
  });

  test.each([
    ['the newest that proved a backup', ['20261119T043000Z', {}, '20261120T043000Z', {}], 24 * HOUR],
    [
      'not one that failed',
      ['20261119T043000Z', {}, '20261120T043000Z', { outcome: 'failed', reason: 'x' }],
      48 * HOUR,
    ],
    [
      'not one that was not possible',
      ['20261119T043000Z', {}, '20261120T043000Z', { outcome: 'not-possible' }],
      48 * HOUR,
    ],
    ['not one of another cluster', ['20261119T043000Z', {}, '20261120T043000Z', { cluster: 'other' }], 48 * HOUR],
    ['not one that cannot be read', ['20261119T043000Z', {}, '20261120T043000Z', { schema: 2 }], 48 * HOUR],
    ['none at all when none is proven and nothing verified', ['20261120T043000Z', { outcome: 'failed' }], undefined],
  ] as const)('is %s', async (_what, drills, age) => {
    for (let index = 0; index < drills.length; index += 2) {
      audit.drill(drills[index] as string, drills[index + 1] as Record<string, unknown>);
    }
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(age);
  });

  test('is not one that was put over another later', async () => {
    audit.drill('20261120T043000Z', { outcome: 'failed' });
    audit.drill('20261120T043000Z');
    await audit.run();
    expect(audit.gauges).not.toHaveProperty('DrillAgeSeconds');
  });
});

describe('as long as no drill has proven a backup', () => {
  // Each is verified five minutes after its trigger.
  beforeEach(async () => {
    await audit.verified(A);
    await audit.verified(B);
  });

  test('the age is the time since the first backup was verified', async () => {
    at('2026-11-27T14:05:00Z');
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(7 * 24 * HOUR);
  });

  test('drills that failed do not make it less', async () => {
    audit.drill('20261121T043000Z', { outcome: 'failed', reason: 'x' });
    audit.drill('20261122T043000Z', { outcome: 'not-possible' });
    at('2026-11-27T14:05:00Z');
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(7 * 24 * HOUR);
  });

  test('it grows for longer than any snapshot is kept: a drill may be due every year', async () => {
    audit.world.stored.splice(
      audit.world.stored.findIndex(({ key }) => key === `snapshots/${A}.db.zst`),
      1,
    );
    at('2027-11-20T14:05:00Z');
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(365 * 24 * HOUR);
  });

  test('it is not less by the receipt of an id that lies far back', async () => {
    at('2026-11-26T14:05:00Z');
    audit.world.put('receipts/20009999T999999Z.json', Buffer.from('{}'), {});
    at('2026-11-27T14:05:00Z');
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(7 * 24 * HOUR);
  });

  test('also when one of more than 30 drills ago did, so that it is never less than it is', async () => {
    audit.drill('20261120T160000Z');
    for (let minute = 10; minute < 40; minute++) {
      audit.drill(`20261121T04${String(minute)}00Z`, { outcome: 'failed' });
    }
    at('2026-11-21T14:05:00Z');
    await audit.run();
    expect(audit.gauges['DrillAgeSeconds']).toBe(24 * HOUR);
  });

  test('it is unknown when S3 does not list receipts', async () => {
    audit.forget();
    audit.world.s3Mock.on(ListObjectVersionsCommand, { Prefix: 'receipts/' }).rejects(failure('AccessDenied', 403));
    await expect(audit.run()).rejects.toEqual(
      problems(
        /^newest drill: StoreError: ListObjectVersions s3:\/\/lab-backups\/receipts\/: got AccessDenied/,
        /^what is stored/,
      ),
    );
    expect(audit.gauges).not.toHaveProperty('DrillAgeSeconds');
  });
});

describe('keys', () => {
  test.each([
    [
      'disabled',
      { KeyState: 'Disabled' },
      /^snapshot key arn:\S+: its state is Disabled, expected Enabled; without it no/,
    ],
    [
      'pending deletion',
      { KeyState: 'PendingDeletion', DeletionDate: new Date('2026-12-01T00:00:00Z') },
      /its state is PendingDeletion, to be deleted on 2026-12-01/,
    ],
    ['gone', failure('NotFoundException'), /its state is gone/],
  ])('are at risk when one is %s', async (_what, metadata, sentence) => {
    audit.keys[SNAPSHOT_KEY] = metadata;
    const { gauges, risks } = await audit.run();
    expect(gauges['KeysAtRisk']).toBe(1);
    expect(risks).toEqual([expect.stringMatching(sentence)]);
  });

  test('are all counted', async () => {
    audit.keys[ANNOUNCEMENT_KEY] = { KeyState: 'Disabled' };
    audit.keys[RECEIPT_KEY] = { KeyState: 'PendingDeletion' };
    expect((await audit.run()).gauges['KeysAtRisk']).toBe(2);
  });

  test('have no gauge when one of them cannot be asked for and the others are well', async () => {
    audit.keys[RECEIPT_KEY] = failure('AccessDeniedException');
    await expect(audit.run()).rejects.toEqual(problems(/kms:DescribeKey of the receipt key .*AccessDeniedException/));
    expect(audit.gauges).not.toHaveProperty('KeysAtRisk');
    expect(audit.gauges).toMatchObject({ SchedulesAtRisk: 0, BucketAtRisk: 0, UnverifiedObjects: 0 });
  });

  test('are at risk when one is disabled, although another cannot be asked for', async () => {
    audit.keys[SNAPSHOT_KEY] = { KeyState: 'Disabled' };
    audit.keys[RECEIPT_KEY] = failure('AccessDeniedException');
    await expect(audit.run()).rejects.toEqual(problems(/DescribeKey/));
    expect(audit.gauges['KeysAtRisk']).toBe(1);
  });

  test('that do not verify receipts leave no age of a backup', async () => {
    await audit.verified(A);
    audit.forget();
    audit.world.kmsDown = true;
    await expect(audit.run()).rejects.toEqual(problems(/^newest verified backup: SigningKeyError/));
    expect(audit.gauges).not.toHaveProperty('VerifiedAgeSeconds');
    expect(audit.gauges).toMatchObject({ StoredLatest: 1, UnverifiedObjects: 0 });
  });
});

describe('schedules', () => {
  test.each([
    ['disabled', { State: 'DISABLED' }, 'schedule drills/daily: its state is DISABLED, expected ENABLED; enable it'],
    ['gone', undefined, 'schedule drills/daily: it is gone, expected it to be there; deploy the stack again'],
  ])('are at risk when one is %s', async (_what, schedule, sentence) => {
    audit.schedules['drills/daily'] = schedule;
    const { gauges, risks } = await audit.run();
    expect(gauges['SchedulesAtRisk']).toBe(1);
    expect(risks).toEqual([sentence]);
  });

  test('have no gauge when Scheduler does not answer', async () => {
    audit.schedules['drills/daily'] = failure('InternalServerException', 500);
    await expect(audit.run()).rejects.toEqual(problems(/scheduler:GetSchedule of drills\/daily: got InternalServer/));
    expect(audit.gauges).not.toHaveProperty('SchedulesAtRisk');
  });
});

describe('the bucket', () => {
  test.each<[string, string, unknown, RegExp]>([
    ['has no lock', 'lock', failure('ObjectLockConfigurationNotFoundError', 404), /^object lock: the bucket has none/],
    [
      'locks nothing by default',
      'lock',
      { ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled' } },
      /^object lock: what is stored is locked for 0 days, expected at least 2/,
    ],
    ['has its versions suspended', 'versioning', { Status: 'Suspended' }, /^versioning: got 'Suspended'/],
    [
      'may be made public',
      'publicAccess',
      failure('NoSuchPublicAccessBlockConfiguration', 404),
      /^public access: BlockPublicAcls, .* are off/,
    ],
    [
      'is encrypted with another key',
      'encryption',
      failure('ServerSideEncryptionConfigurationNotFoundError', 404),
      /^encryption: got none/,
    ],
    ['sends no events', 'events', {}, /^events: the bucket sends none/],
  ])('is at risk when it %s', async (_what, setting, answer, sentence) => {
    audit.bucket[setting] = answer;
    const { gauges, risks } = await audit.run();
    expect(gauges['BucketAtRisk']).toBe(1);
    expect(risks).toEqual([expect.stringMatching(sentence)]);
  });

  test('is at risk by as much as is wrong with it', async () => {
    audit.bucket['policy'] = failure('NoSuchBucketPolicy', 404);
    audit.bucket['versioning'] = {};
    expect((await audit.run()).gauges['BucketAtRisk']).toBe(3);
  });

  test('has no gauge when one thing cannot be asked for', async () => {
    audit.bucket['policy'] = failure('AccessDenied', 403);
    await expect(audit.run()).rejects.toEqual(problems(/^GetBucketPolicy of lab-backups: got AccessDenied/));
    expect(audit.gauges).not.toHaveProperty('BucketAtRisk');
    expect(audit.gauges).toMatchObject({ KeysAtRisk: 0, SchedulesAtRisk: 0 });
  });

  test('has no gauge when the run was started by hand without its policy', async () => {
    await expect(audit.run({ policy: undefined })).rejects.toEqual(problems(/^bucket policy: got none in the event/));
    expect(audit.gauges).not.toHaveProperty('BucketAtRisk');
  });

  test('has no gauge when its policy is none that can be read', async () => {
    audit.bucket['policy'] = { Policy: '{"Statement": 1}' };
    await expect(audit.run()).rejects.toEqual(problems(/^GetBucketPolicy of lab-backups: Statement: got 1/));
  });
});

describe('everything at once', () => {
  test('throws one error with all problems, after all that could be measured was', async () => {
    await audit.verified(A);
    audit.forget();
    audit.keys[SNAPSHOT_KEY] = failure('AccessDeniedException');
    audit.schedules['backups/hourly'] = failure('ThrottlingException');
    audit.bucket['lock'] = failure('SlowDown', 503);
    audit.world.s3Mock.on(GetObjectTaggingCommand).rejects(failure('SlowDown', 503));
    await expect(audit.run()).rejects.toEqual(
      problems(/^GetObjectLockConfiguration/, /^kms:DescribeKey/, /^scheduler:GetSchedule/, /^tags: StoreError/),
    );
    expect(audit.gauges).toEqual({ VerifiedAgeSeconds: 300, DrillAgeSeconds: 0 });
    expect(audit.world.lines.at(-1)).toMatchObject({ message: 'phase failed', phase: 'audit' });
  });

  test('still looks at keys, schedules and bucket when S3 lists nothing', async () => {
    audit.world.s3Mock.on(ListObjectVersionsCommand).rejects(failure('AccessDenied', 403));
    await expect(audit.run()).rejects.toEqual(problems(/^newest drill/, /^records of restores/, /^what is stored/));
    expect(audit.gauges).toEqual({ KeysAtRisk: 0, SchedulesAtRisk: 0, BucketAtRisk: 0 });
  });

  test('tells no age when it is not known on which timeline a backup is', async () => {
    await audit.verified(A);
    audit.forget();
    audit.world.s3Mock.on(ListObjectVersionsCommand, { Prefix: 'restores/' }).rejects(failure('AccessDenied', 403));
    await expect(audit.run()).rejects.toEqual(problems(/^records of restores: StoreError/));
    expect(audit.gauges).not.toHaveProperty('VerifiedAgeSeconds');
    expect(audit.gauges).toMatchObject({ StoredLatest: 1, UnverifiedObjects: 0, KeysAtRisk: 0 });
  });

  test('says in its message what to correct, and that all else was measured', async () => {
    audit.keys[RECEIPT_KEY] = failure('AccessDeniedException');
    await expect(audit.run()).rejects.toThrow(
      /^audit could not determine or do 1 thing: kms:DescribeKey of the receipt key .*; all else was measured, and what is missing lets its alarm ring: correct that/,
    );
    expect(audit.published).toEqual([
      expect.objectContaining({ StoredBackups: 0, UnverifiedObjects: 0, SchedulesAtRisk: 0, BucketAtRisk: 0 }),
    ]);
  });

  test.each<[string, () => void, RegExp, string[]]>([
    [
      'S3 hangs while it lists',
      () => audit.world.s3Mock.on(ListObjectVersionsCommand).callsFake(never),
      /^records of restores: got no answer within 200 s/,
      ['KeysAtRisk', 'SchedulesAtRisk', 'BucketAtRisk'],
    ],
    [
      'KMS hangs',
      () => audit.world.kmsMock.on(DescribeKeyCommand).callsFake(never),
      /^keys: got no answer within 200 s/,
      ['VerifiedAgeSeconds', 'StoredBackups', 'UnverifiedObjects', 'SchedulesAtRisk', 'BucketAtRisk'],
    ],
    [
      'CloudTrail hangs',
      () => {
        audit.executions = [{ executionArn: 'arn:execution', startDate: new Date('2026-11-20T14:00:00Z') }];
        audit.trailMock.on(LookupEventsCommand).callsFake(never);
      },
      /^who started restores: got no answer within 200 s/,
      ['VerifiedAgeSeconds', 'StoredBackups', 'UnverifiedObjects', 'KeysAtRisk', 'SchedulesAtRisk', 'BucketAtRisk'],
    ],
  ])('tells all else before its own time is over when %s', async (_what, hang, problem, gauges) => {
    await audit.verified(A);
    audit.forget();
    hang();
    audit.change = { wait: () => setTimeout(300) };
    const error: unknown = await audit.run().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'AuditError' });
    expect((error as AuditError).problems).toContainEqual(expect.stringMatching(problem));
    expect(Object.keys(audit.published[0] ?? {})).toEqual(expect.arrayContaining(gauges));
  });

  test('a run whose time was over measures nothing any more when its answers come, together with those of the next one', async () => {
    const answers: ((answer: unknown) => void)[] = [];
    audit.world.kmsMock.on(DescribeKeyCommand).callsFake(() => new Promise((resolve) => answers.push(resolve)));
    audit.change = { wait: () => setTimeout(300) };
    await expect(audit.run()).rejects.toEqual(problems(/^keys: got no answer/));
    audit.forget();
    answers.forEach((answer) => {
      answer({ KeyMetadata: { KeyState: 'Enabled' } });
    });
    await setTimeout(20);
    expect(audit.gauges).toEqual({});
  });

  test('refuses an event of something else before it asks anything', async () => {
    await expect(audit.run({ source: 'aws.s3' })).rejects.toMatchObject({ name: 'EventError' });
    expect(audit.gauges).toEqual({});
  });
});

describe('hundreds of versions', () => {
  const start = Date.parse('2026-11-01T00:00:00Z');
  const idOf = (hour: number) =>
    `${new Date(start + hour * 3_600_000).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;

  beforeEach(async () => {
    for (let hour = 0; hour < 300; hour++) {
      at(new Date(start + hour * 3_600_000).toISOString());
      audit.world.put(
        `snapshots/${idOf(hour)}.db.zst`,
        Buffer.alloc(1),
        {},
        { tag: hour % 24 === 0 ? 'daily' : 'hourly' },
      );
      audit.world.put(`receipts/${idOf(hour)}.json`, Buffer.from('{}'), {});
    }
    await audit.verified(A);
    audit.world.s3Mock.resetHistory();
  });

  const tagReads = () => audit.world.s3Mock.commandCalls(GetObjectTaggingCommand).length;

  test('are counted, each tag read once in six hours and not once in five minutes', async () => {
    await audit.run();
    expect(audit.gauges).toMatchObject({
      StoredBackups: 301,
      StoredDaily: 13,
      StoredHourly: 287,
      StoredLatest: 1,
      UnverifiedObjects: 0,
    });
    expect(tagReads()).toBe(301);
    for (let run = 0; run < 3; run++) {
      later(5);
      await audit.run();
    }
    // What is latest may change at any time.
    expect(tagReads()).toBe(301 + 3);
    expect(audit.gauges).toMatchObject({ StoredDaily: 13, StoredHourly: 287 });

    later(345);
    await audit.run();
    expect(tagReads()).toBe(2 * 301 + 3);
  });

  test('are listed with the receipts of the last days only, once the others are known', async () => {
    await audit.run();
    const listed = (from: number) =>
      audit.world.s3Mock
        .commandCalls(ListObjectVersionsCommand)
        .slice(from)
        .filter(({ args }) => args[0].input.Prefix === 'receipts/').length;
    const first = listed(0);
    const calls = audit.world.s3Mock.commandCalls(ListObjectVersionsCommand).length;
    await audit.run();
    expect(first).toBeGreaterThan(100);
    expect(listed(calls)).toBeLessThan(5);
  });

  test('are all told when none of them has a receipt', async () => {
    for (const { key } of [...audit.world.stored]) {
      if (key.startsWith('receipts/2026110')) {
        audit.world.stored.splice(
          audit.world.stored.findIndex((stored) => stored.key === key),
          1,
        );
      }
    }
    await audit.run();
    expect(audit.gauges['UnverifiedObjects']).toBe(9 * 24);
    expect(audit.asked.length).toBeLessThanOrEqual(5);
  });
});

test('a version that expires between list and tag is not counted', async () => {
  await audit.verified(A);
  await audit.verified(B);
  audit.world.s3Mock
    .on(GetObjectTaggingCommand, { Key: `snapshots/${A}.db.zst` })
    .rejects(failure('NoSuchVersion', 404));
  await audit.run();
  expect(audit.gauges).toMatchObject({ StoredBackups: 1, StoredLatest: 1, StoredMonthly: 0 });
});

test('the policy that the schedule passes is compared with what S3 has', async () => {
  audit.bucket['policy'] = { Policy: JSON.stringify({ ...POLICY, Statement: POLICY.Statement.slice(1) }) };
  const { risks } = await audit.run();
  expect(risks).toEqual([expect.stringMatching(/^bucket policy: the statement DenyDeleteAndBypass is not there/)]);
});
