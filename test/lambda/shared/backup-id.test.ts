import { BACKUP_ID_PATTERN, backupIdBefore, backupIdOf } from '../../../lambda/shared/backup-id';

test.each([
  ['2026-11-20T14:00:00Z', '20261120T140000Z'],
  ['2026-01-01T00:00:00.999Z', '20260101T000000Z'],
])('the id of %s is %s', (time, id) => {
  expect(backupIdOf(new Date(time))).toBe(id);
  expect(id).toMatch(BACKUP_ID_PATTERN);
});

test.each([
  ['20261120T140000Z', 1, '20261120T135959Z'],
  ['20260301T000000Z', 1, '20260228T235959Z'],
  ['20261120T140000Z', 35 * 24 * 3600, '20261016T140000Z'],
])('the id before %s by %d s is %s', (id, seconds, expected) => {
  expect(backupIdBefore(id, seconds)).toBe(expected);
});

test('ids sort as their times do', () => {
  const ids = ['2026-11-20T14:00:00Z', '2026-11-20T14:00:01Z', '2026-12-01T00:00:00Z', '2027-01-01T00:00:00Z'].map(
    (time) => backupIdOf(new Date(time)),
  );
  expect([...ids].sort()).toEqual(ids);
});

test('throws on what is no id', () => {
  expect(() => backupIdBefore('2026-11-20', 1)).toThrow(/got '2026-11-20', expected one such as 20261120T140000Z/);
});
