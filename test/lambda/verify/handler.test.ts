const keep = { hourlyHours: 48, dailyDays: 7, weeklyWeeks: 4, monthlyMonths: 6, onDemandDays: 30, preRestoreDays: 30 };
const environment = {
  CLUSTER_NAME: 'lab',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  ANNOUNCEMENT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/2',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  KEEP: JSON.stringify(keep),
  KEYS_LOST_PERCENT: '20',
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/verify/handler');
  });
  return loaded as HandlerModule;
}

const before = { ...process.env };

beforeEach(() => {
  process.env = { ...before, ...environment, ACKNOWLEDGED_TIMELINES: '', AWS_REGION: 'us-east-1' };
});

afterAll(() => {
  process.env = before;
});

const refused = (message: RegExp) =>
  expect.objectContaining({ name: 'EnvironmentError', message: expect.stringMatching(message) as unknown }) as Error;

test('loads with the environment that the stack sets, and refuses an event before it calls anything', async () => {
  const context = { awsRequestId: 'r-1', functionName: 'verify', functionVersion: '1' } as never;
  await expect(load().handler({ key1: 'value1' }, context)).rejects.toMatchObject({ name: 'EventError' });
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(refused(new RegExp(`^environment variable ${name}: got an empty value, expected`)));
});

test.each([
  ['{', /KEEP: got '\{', expected a JSON object/],
  ['{}', /KEEP: hourlyHours: got nothing, expected a whole number .*; preRestoreDays: got nothing/],
  [JSON.stringify({ ...keep, dailyDays: -1 }), /KEEP: dailyDays: got -1, expected a whole number from 0/],
  [JSON.stringify({ ...keep, yearlyYears: 1 }), /KEEP: yearlyYears: got a field that is not known here/],
])('fails to load with KEEP %s', (value, message) => {
  process.env['KEEP'] = value;
  expect(load).toThrow(refused(message));
});

test.each([undefined, 'yesterday', '20261121T030000Z, 20261122T030000Z'])(
  'fails to load with ACKNOWLEDGED_TIMELINES %s',
  (value) => {
    delete process.env['ACKNOWLEDGED_TIMELINES'];
    Object.assign(process.env, value === undefined ? {} : { ACKNOWLEDGED_TIMELINES: value });
    expect(load).toThrow(refused(/ACKNOWLEDGED_TIMELINES: got .*, expected times such as 20261121T030000Z/));
  },
);

test('loads with two acknowledged timelines', () => {
  process.env['ACKNOWLEDGED_TIMELINES'] = '20261121T030000Z 20261122T030000Z';
  expect(load).not.toThrow();
});
