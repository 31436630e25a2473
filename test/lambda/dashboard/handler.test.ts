const environment = {
  CLUSTER_NAME: 'lab',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  RESTORE_MACHINE_ARN: 'arn:aws:states:us-east-1:000000000000:stateMachine:restore-1',
  RECOVERY_POINT_SECONDS: '7200',
  DRILL_TOO_OLD_SECONDS: '172800',
  EXPIRY: JSON.stringify({
    days: { pending: 35, failed: 7, hourly: 2, daily: 7, weekly: 28, monthly: 186, 'on-demand': 30, 'pre-restore': 30 },
    noncurrentDays: 7,
  }),
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/dashboard/handler');
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

test('loads with the environment that the stack sets, and describes itself', async () => {
  const context = { awsRequestId: 'r-1' } as never;
  await expect(load().handler({ describe: true }, context)).resolves.toMatch(/^## /);
});

test('loads where the cluster keeps PKI bundles, and not with nonsense in their age', () => {
  process.env['PKI_TOO_OLD_SECONDS'] = '93600';
  expect(load).not.toThrow();
  process.env['PKI_TOO_OLD_SECONDS'] = 'a day';
  expect(load).toThrow('environment variable PKI_TOO_OLD_SECONDS');
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(`environment variable ${name}: got an empty value, expected`);
});
