const environment = {
  CLUSTER_NAME: 'lab',
  CONTROL_PLANE_TAGS: '{"etcd-backup":"lab"}',
  DISK_LIMIT_PERCENT: '80',
  INSPECT_DOCUMENT: 'Inspect-1A2B',
  INSPECT_DOCUMENT_VERSION: '1',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/plan/handler');
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
  const context = { awsRequestId: 'r-1' } as never;
  await expect(load().handler({ key1: 'value1' }, context)).rejects.toMatchObject({ name: 'EventError' });
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(`environment variable ${name}: got an empty value, expected`);
});
