import { EXPIRY } from './world';

const environment = {
  CLUSTER_NAME: 'lab',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  BUCKET_ADOPTED: 'no',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  ANNOUNCEMENT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/2',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  VERIFY_FUNCTION: 'verify',
  RESTORE_MACHINE_ARN: 'arn:aws:states:us-east-1:000000000000:stateMachine:restore',
  SCHEDULES: 'backups/hourly drills/daily',
  LOCK_DAYS: '2',
  EXPIRY: JSON.stringify(EXPIRY),
};

type HandlerModule = { readonly handler: (event: unknown) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/audit/handler');
  });
  return loaded as HandlerModule;
}

const before = { ...process.env };

beforeEach(() => {
  process.env = { ...before, ...environment, AWS_REGION: 'us-east-1' };
});

afterAll(() => {
  process.env = before;
});

test('loads with the environment that the stack sets, and refuses an event before it calls anything', async () => {
  await expect(load().handler({ key1: 'value1' })).rejects.toMatchObject({ name: 'EventError' });
});

test.each(['PKI_KEY_ARN', 'TOPIC_KEY_ARN'])(
  'fails to load with an empty %s, which is only there where there is a key',
  (name) => {
    process.env[name] = '';
    expect(load).toThrow(`environment variable ${name}: got an empty value`);
  },
);

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(
    expect.objectContaining({
      name: 'EnvironmentError',
      message: expect.stringMatching(new RegExp(`^environment variable ${name}: got an empty value`)) as unknown,
    }) as Error,
  );
});

test.each([
  ['EXPIRY', '{', /EXPIRY: got '\{', expected a JSON object/],
  ['EXPIRY', '{"days":{},"noncurrentDays":7}', /EXPIRY: days.pending: got nothing, expected a whole number from 1/],
  [
    'EXPIRY',
    JSON.stringify({ ...EXPIRY, days: { ...EXPIRY.days, latest: 1 } }),
    /latest: got a field that is not known/,
  ],
  [
    'EXPIRY',
    JSON.stringify({ ...EXPIRY, prefixDays: { 'announcements/': 35 } }),
    /EXPIRY: prefixDays.pki\/: got nothing, expected a whole number from 1/,
  ],
  ['SCHEDULES', 'backups', /SCHEDULES: 0: got "backups", expected a group and a name/],
  ['BUCKET_ADOPTED', 'true', /BUCKET_ADOPTED: got 'true', expected 'yes' or 'no'/],
  ['LOCK_DAYS', 'two', /LOCK_DAYS: got 'two', expected a whole number/],
])('fails to load with %s %s', (name, value, message) => {
  process.env[name] = value;
  expect(load).toThrow(message);
});
