import { readRequest } from '../../../lambda/plan/request';
import { FORCE_FIELDS } from '../../../lambda/shared/restore-state';

const read = (input: unknown, machine: 'restore' | 'plan' = 'restore') =>
  readRequest(input, { clusterName: 'prod-eu', machine });

const PLAN = {
  confirm: false,
  snapshot: { kind: 'newest' },
  from: 'backup',
  hold: null,
  requestedBy: null,
  reason: null,
  forced: [],
};

test.each([
  [{}, PLAN],
  [{ Comment: 'Insert your JSON here' }, PLAN],
  [{ confirm: 'prod-eu' }, { ...PLAN, confirm: true }],
  [{ snapshot: 'newest' }, PLAN],
  [{ snapshot: '20261120T140000Z' }, { ...PLAN, snapshot: { kind: 'id', backupId: '20261120T140000Z' } }],
  [
    { snapshot: 'newest before 2026-11-20T14:00:00Z' },
    { ...PLAN, snapshot: { kind: 'before', time: '2026-11-20T14:00:00.000Z' } },
  ],
  [
    { from: 'survivor', hold: 'controllers' },
    { ...PLAN, from: 'survivor', hold: 'controllers' },
  ],
  [{ from: 'backup' }, PLAN],
  [
    { requestedBy: 'ann', reason: 'quorum lost' },
    { ...PLAN, requestedBy: 'ann', reason: 'quorum lost' },
  ],
])('%j is taken', (input, expected) => {
  expect(read(input)).toEqual({ request: expected, rollbackId: null });
});

test('the undo of a restore is taken with and without confirm', () => {
  expect(read({ rollback: '20261120T140000Z' })).toEqual({ request: PLAN, rollbackId: '20261120T140000Z' });
  expect(read({ rollback: '20261120T140000Z', confirm: 'prod-eu' }).request.confirm).toBe(true);
});

test.each(Object.entries(FORCE_FIELDS))(
  'the refusal %s is forced by the field %s alone, and by nothing but true',
  (name, field) => {
    expect(read({ [field]: true }).request.forced).toEqual([name]);
    expect(() => read({ [field]: false })).toThrow(`${field}: got false, expected true`);
    expect(() => read({ [field]: 'true' })).toThrow(`${field}: got "true", expected true`);
  },
);

test.each([
  [[], 'value: got [], expected a JSON object such as {}'],
  ['x', 'value: got "x", expected a JSON object such as {}'],
  [
    { confirm: 'prod-us' },
    'confirm: got "prod-us", expected "prod-eu", the name of the cluster that is to be overwritten',
  ],
  [{ confirm: true }, 'confirm: got true, expected "prod-eu"'],
  [{ snapshot: 'latest' }, 'snapshot: got "latest", expected "newest", a backup id'],
  [{ snapshot: '20261320T140000Z' }, 'snapshot: got "20261320T140000Z", expected "newest"'],
  [{ snapshot: '20260231T140000Z' }, 'snapshot: got "20260231T140000Z", expected "newest"'],
  [{ snapshot: 'newest before 2026-11-20' }, 'snapshot: got "newest before 2026-11-20", expected'],
  [{ snapshot: 'newest before 2026-02-31T00:00:00Z' }, 'snapshot: got "newest before 2026-02-31T00:00:00Z", expected'],
  [{ from: 'survivor', snapshot: 'newest' }, 'snapshot: got it together with "from":"survivor"'],
  [{ from: 'cp1' }, 'from: got "cp1", expected "backup" or "survivor"'],
  [{ hold: 'all' }, 'hold: got "all", expected "controllers"'],
  [{ rollback: 'newest' }, 'rollback: got "newest", expected the id of a restore'],
  [{ rollback: '20261120T140000Z', snapshot: 'newest' }, 'snapshot: got it together with rollback'],
  [{ rollback: '20261120T140000Z', from: 'backup' }, 'from: got it together with rollback'],
  [{ rollback: '20261120T140000Z', hold: 'controllers' }, 'hold: got it together with rollback'],
  [{ reason: '' }, 'reason: got "", expected 1 to 200 printable ASCII characters'],
  [{ requestedBy: 'x'.repeat(201) }, 'expected 1 to 200 printable ASCII characters'],
  [{ force: true }, 'force: got a field that is not known here'],
])('%j is refused with what was got, what was expected and an example', (input, problem) => {
  expect(() => read(input)).toThrow(problem);
  expect(() => read(input)).toThrow('send {} for the plan, {"confirm":"prod-eu"');
});

test('every problem of an input is said at once', () => {
  const input = { confirm: 'x', snapshot: 'y', hold: 'z', unknown: 1, forceQuota: 'yes' };
  expect(() => read(input)).toThrow(/^the input has 5 problems: /);
});

test('the machine for planning takes neither confirm nor rollback', () => {
  expect(read({ snapshot: '20261120T140000Z' }, 'plan').request.confirm).toBe(false);
  expect(() => read({ confirm: 'prod-eu' }, 'plan')).toThrow('confirm: got it on the machine for planning');
  expect(() => read({ rollback: '20261120T140000Z' }, 'plan')).toThrow('rollback: got it on the machine for planning');
});
