const documents = ['PREFLIGHT', 'STOP', 'SWAP', 'START', 'CHECK', 'ROLLBACK', 'CLEANUP', 'DIAGNOSE'];
const environment = {
  CLUSTER_NAME: 'lab',
  CONTROL_PLANE_TAGS: '{"etcd-backup":"lab"}',
  DISK_LIMIT_PERCENT: '80',
  BACKUP_FUNCTION: 'backup',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  RECEIPT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/3',
  ...Object.fromEntries(
    documents.flatMap((name) => [
      [`${name}_DOCUMENT`, name],
      [`${name}_DOCUMENT_VERSION`, '1'],
    ]),
  ),
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/restore/handler');
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
  const context = { getRemainingTimeInMillis: () => 900_000 } as never;
  await expect(load().handler({ key1: 'value1' }, context)).rejects.toMatchObject({ name: 'EventError' });
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(
    expect.objectContaining({
      name: 'EnvironmentError',
      message: expect.stringMatching(
        new RegExp(`^environment variable ${name}: got an empty value, expected`),
      ) as string,
    }) as Error,
  );
});
