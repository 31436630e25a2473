import { drillIdOf, drillKey, type DrillRecord, readDrillRecord } from '../../../lambda/shared/drill-record';

const record: DrillRecord = {
  schema: 1,
  drillId: '20261121T043000Z',
  cluster: 'lab',
  backupId: '20261121T040000Z',
  versionId: 'v1',
  outcome: 'proven',
  reason: null,
  sentence: null,
  etcdVersion: '3.6.5',
  tools: { etcd: 'a'.repeat(64) },
  seconds: { download: 1, restore: 2, boot: 3, read: 4, total: 10.5 },
  measured: {
    revision: 1000,
    servedRevision: 1_000_001_000,
    keys: 50,
    bytes: 1000,
    hash: 4711,
    memoryBytes: 100,
    diskBytes: 200,
  },
  startedAt: '2026-11-21T04:30:07.000Z',
  finishedAt: '2026-11-21T04:30:19.000Z',
};
const key = 'drills/20261121T043000Z.json';
const read = (value: unknown, under = key) => readDrillRecord(under, Buffer.from(JSON.stringify(value)));

test('a record is read as it was written, also by fields that are not known yet', () => {
  expect(read(record)).toEqual(record);
  expect(read({ ...record, later: 1 })).toEqual(record);
});

test('a drill that did not run has neither seconds nor measurements', () => {
  const notPossible = { ...record, outcome: 'not-possible', reason: 'too-large', seconds: {}, measured: null };
  expect(read(notPossible)).toEqual(notPossible);
});

test.each([
  [{ ...record, schema: 2 }, /schema: got 2, expected 1/],
  [{ ...record, outcome: 'fine' }, /outcome: got "fine", expected 'proven', 'failed' or 'not-possible'/],
  [{ ...record, reason: 'Some Words' }, /reason: got "Some Words"/],
  [{ ...record, seconds: { total: -1 } }, /seconds.total: got -1/],
  [
    { ...record, drillId: '20261122T043000Z' },
    /got the record of drill 20261122T043000Z, expected that of the drill in its name/,
  ],
  [[], /expected an object/],
])('what is no record of this version is refused', (value, message) => {
  expect(() => read(value)).toThrow(expect.objectContaining({ name: 'DrillRecordError' }) as Error);
  expect(() => read(value)).toThrow(message);
});

test('bytes that are no JSON are not repeated', () => {
  expect(() => readDrillRecord(key, Buffer.from('hello'))).toThrow(/got 5 bytes that are no JSON/);
});

test('a key and an id say the same', () => {
  expect(drillKey(record.drillId)).toBe(key);
  expect(drillIdOf(key)).toBe(record.drillId);
  expect(drillIdOf('drills/x.json')).toBeUndefined();
});
