import { judge } from '../../../lambda/drill/judge';
import type { FailedAnswer, ProvenAnswer } from '../../../lambda/drill-run/order';
import { RUN_FAILURES } from '../../../lambda/drill-run/order';
import { receipt } from '../plan/situation';

const expected = receipt({ snapshot: { ...receipt().snapshot, liveHash: 4711 } });
const bump = 1_000_000_001;

const proven = (change: Partial<ProvenAnswer> = {}): ProvenAnswer => ({
  ok: true,
  drillId: '20261120T043000Z',
  seconds: { download: 3, restore: 2, boot: 1, read: 4, total: 11 },
  restoredRevision: 1_000_001_001,
  servedRevision: 1_000_001_001,
  keys: 50,
  bytes: 1000,
  hash: 4711,
  alarms: 0,
  memoryBytes: 100_000_000,
  diskBytes: 200_000_000,
  ...change,
});

const verdictOn = (answer: ProvenAnswer | FailedAnswer, from = expected) =>
  judge(from, { bump }, { kind: 'answer', answer }, 12);

test('a backup is proven when revision, keys, bytes and hash of what was read back are those of its receipt', () => {
  expect(verdictOn(proven())).toEqual({
    outcome: 'proven',
    reason: null,
    sentence: null,
    seconds: { download: 3, restore: 2, boot: 1, read: 4, total: 11 },
    measured: {
      revision: 1000,
      servedRevision: 1_000_001_001,
      keys: 50,
      bytes: 1000,
      hash: 4711,
      memoryBytes: 100_000_000,
      diskBytes: 200_000_000,
    },
  });
});

test.each([
  [{ restoredRevision: 1000 }, 'other-revision', /revision of the restored database: got 1000, expected 1000001001/],
  [{ servedRevision: 1_000_001_002 }, 'other-revision', /revision that etcd served: got 1000001002/],
  [{ keys: 49 }, 'other-keys', /keys read back: got 49, expected 50 as the receipt says/],
  [{ bytes: 1001 }, 'other-contents', /bytes of keys and values read back: got 1001, expected 1000/],
  [{ hash: 4712 }, 'other-contents', /hash over what was read back: got 4712, expected 4711/],
  [{ alarms: 1 }, 'alarm', /alarms of the restored etcd: got 1, expected 0/],
  [{ keys: 0, bytes: 0, hash: 0 }, 'other-keys', /got 0, expected 50.*got 0, expected 1000.*got 0, expected 4711/],
  [
    { seconds: { download: 300, restore: 2, boot: 1, read: 4, total: 307 } },
    'bad-answer',
    /seconds: got 307, expected no more than the 12\.0 that the answer took/,
  ],
  [{ seconds: { download: 9, restore: 9, boot: 9, read: 9, total: 11 } }, 'bad-answer', /seconds: got 11/],
])('it has failed with %j', (change, reason, sentence) => {
  const verdict = verdictOn(proven(change));
  expect(verdict).toMatchObject({ outcome: 'failed', reason });
  expect(verdict.sentence).toMatch(sentence);
  expect(verdict.measured).not.toBeNull();
});

test('leases that ended since may have moved the revision on, and never back', () => {
  const leased = receipt({ snapshot: { ...expected.snapshot, leases: 3 } });
  expect(verdictOn(proven({ servedRevision: 1_000_001_004 }), leased).outcome).toBe('proven');
  expect(verdictOn(proven({ servedRevision: 1_000_001_000 }), leased).reason).toBe('other-revision');
});

test('alarms that the snapshot has are no surprise', () => {
  const alarmed = receipt({
    snapshot: { ...expected.snapshot, alarms: [{ memberId: 'a1', alarm: 'NOSPACE' }] },
  });
  expect(verdictOn(proven({ alarms: 1 }), alarmed).outcome).toBe('proven');
});

test('a receipt without a hash over live keys, of an older version, is held against keys and bytes', () => {
  expect(verdictOn(proven({ hash: 1 }), receipt()).outcome).toBe('proven');
  expect(verdictOn(proven({ keys: 1 }), receipt()).reason).toBe('other-keys');
});

const failed = (change: Partial<FailedAnswer>): FailedAnswer => ({
  ok: false,
  drillId: '20261120T043000Z',
  reason: 'restore-failed',
  tool: null,
  code: null,
  freeBytes: null,
  seconds: { download: 3, total: 4 },
  ...change,
});

test.each(RUN_FAILURES)('what drill-run calls %s is told in a sentence that says what to do', (reason) => {
  const verdict = verdictOn(failed({ reason }));
  expect(verdict).toMatchObject({
    outcome: reason === 'too-large' ? 'not-possible' : 'failed',
    reason,
    seconds: { download: 3, total: 4 },
    measured: null,
  });
  expect(verdict.sentence).toMatch(/^[^:]+: got .+, expected .+; .+/);
});

test('numbers of a failure are told: exit code, HTTP status, free bytes', () => {
  expect(verdictOn(failed({ reason: 'restore-failed', tool: 'etcdutl', code: 128 })).sentence).toContain(
    'with etcdutl: got exit code 128',
  );
  expect(verdictOn(failed({ reason: 'snapshot-download', code: 404 })).sentence).toContain('got HTTP 404');
  expect(verdictOn(failed({ reason: 'tool-download', tool: 'etcd' })).sentence).toContain('a broken connection');
  expect(verdictOn(failed({ reason: 'too-large', freeBytes: 17 })).sentence).toContain('got 17 bytes free');
});

test('no answer, and one that is none, are failures', () => {
  expect(judge(expected, { bump }, { kind: 'no-answer', errorType: 'Sandbox.Timedout' }, 780)).toMatchObject({
    outcome: 'failed',
    reason: 'no-answer',
    sentence: expect.stringContaining('got Sandbox.Timedout after 780 s') as string,
    seconds: {},
    measured: null,
  });
  expect(judge(expected, { bump }, { kind: 'bad-answer', problems: ['hash', 'keys'] }, 1)).toMatchObject({
    outcome: 'failed',
    reason: 'bad-answer',
    sentence: expect.stringContaining('got something else in hash, keys') as string,
  });
});
