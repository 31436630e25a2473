import { env, envNumber, envRecord } from '../../../lambda/shared/env';

const NAME = 'ETCD_BACKUP_TEST';

afterEach(() => {
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- assigning undefined would set the text 'undefined'
  delete process.env[NAME];
});

test('reads a text, a number and a record', () => {
  process.env[NAME] = '12';
  expect(env(NAME)).toBe('12');
  expect(envNumber(NAME)).toBe(12);
  process.env[NAME] = '{"role":"control-plane"}';
  expect(envRecord(NAME)).toEqual({ role: 'control-plane' });
});

test.each([
  [undefined, /got nothing, expected a value as the stack sets it; deploy again/],
  ['', /got an empty value, expected/],
])('throws when the variable is %j', (value, expected) => {
  if (value !== undefined) {
    process.env[NAME] = value;
  }
  expect(() => env(NAME)).toThrow(expected);
});

test.each(['{', '[]', '"a"', '{"a":1}', 'null'])('throws when a record is %s', (value) => {
  process.env[NAME] = value;
  expect(() => envRecord(NAME)).toThrow(/ETCD_BACKUP_TEST: got '.*', expected a JSON object/);
});

test.each(['-1', '1.5', 'x'])('throws when a number is %s', (value) => {
  process.env[NAME] = value;
  expect(() => envNumber(NAME)).toThrow(/expected a whole number from 0 on/);
});
