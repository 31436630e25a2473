const environment = {
  CLUSTER_NAME: 'lab',
  ARCHITECTURE: 'amd64',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  RUN_FUNCTION: 'drill-run',
};

type HandlerModule = { readonly handler: (event: unknown) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/drill/handler');
  });
  return loaded as HandlerModule;
}

const before = { ...process.env };

beforeEach(() => {
  process.env = { ...before, ...environment, ACKNOWLEDGED_TOOLS: '', AWS_REGION: 'us-east-1' };
});

afterAll(() => {
  process.env = before;
});

test('loads with the environment that the stack sets, and refuses an event before it calls anything', async () => {
  await expect(load().handler({ key1: 'value1' })).rejects.toMatchObject({ name: 'EventError' });
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(`environment variable ${name}: got an empty value, expected`);
});

test('fails to load for an architecture that etcd is not released for', () => {
  process.env['ARCHITECTURE'] = 'x86_64';
  expect(load).toThrow("environment variable ARCHITECTURE: got 'x86_64', expected amd64 or arm64");
});
