const environment = {
  CLUSTER_NAME: 'lab',
  CONTROL_PLANE_TAGS: '{"role":"control-plane"}',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  PKI_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  PKI_DOCUMENT: 'Pki-1A2B',
  PKI_DOCUMENT_VERSION: '1',
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/pki/handler');
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
  const context = { getRemainingTimeInMillis: () => 900_000 } as never;
  await expect(load().handler({ key1: 'value1' }, context)).rejects.toMatchObject({ name: 'EventError' });
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  // process.env is read by name.
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete
  delete process.env[name];
  expect(load).toThrow(`environment variable ${name}: got nothing`);
});
