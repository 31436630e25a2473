import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { TIMEOUTS } from '../../../lambda/shared/clients';

const hash = 'a'.repeat(64);
const empty = { ACKNOWLEDGED_TOOLS: '' };

const environment = {
  CLUSTER_NAME: 'lab',
  CONTROL_PLANE_TAGS: '{"role":"control-plane"}',
  ACKNOWLEDGED_MEMBERS: '0',
  MAX_KEEP_DAYS: '186',
  BUCKET: 'lab-backups',
  BUCKET_OWNER: '000000000000',
  SNAPSHOT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/1',
  ANNOUNCEMENT_KEY_ARN: 'arn:aws:kms:us-east-1:000000000000:key/2',
  SNAPSHOT_DOCUMENT: 'Snapshot-1A2B',
  SNAPSHOT_DOCUMENT_VERSION: '1',
  UPLOAD_DOCUMENT: 'Upload-3C4D',
  UPLOAD_DOCUMENT_VERSION: '1',
  TOOLS_DOCUMENT: 'Tools-5E6F',
  TOOLS_DOCUMENT_VERSION: '1',
};

type HandlerModule = { readonly handler: (event: unknown, context: never) => Promise<unknown> };

/** The module, loaded anew: the environment is read once, at load. */
function load(): HandlerModule {
  let loaded: HandlerModule | undefined;
  jest.isolateModules(() => {
    loaded = jest.requireActual<HandlerModule>('../../../lambda/backup/handler');
  });
  return loaded as HandlerModule;
}

const before = { ...process.env };

beforeEach(() => {
  process.env = { ...before, ...environment, ...empty, AWS_REGION: 'us-east-1' };
});

afterAll(() => {
  process.env = before;
});

test('loads with the environment that the stack sets, and refuses an event before it calls anything', async () => {
  const { handler } = load();
  const context = { awsRequestId: 'r-1', getRemainingTimeInMillis: () => 900_000 } as never;
  await expect(handler({ key1: 'value1' }, context)).rejects.toMatchObject({ name: 'EventError' });
});

test.each([undefined, 'abc', hash.toUpperCase(), `${hash} x`])('fails to load with ACKNOWLEDGED_TOOLS %s', (value) => {
  delete process.env['ACKNOWLEDGED_TOOLS'];
  Object.assign(process.env, value === undefined ? {} : { ACKNOWLEDGED_TOOLS: value });
  expect(load).toThrow(/environment variable ACKNOWLEDGED_TOOLS: got .*, expected SHA-256 hashes/);
});

test('loads with two acknowledged tools', () => {
  process.env['ACKNOWLEDGED_TOOLS'] = `${hash} ${hash}`;
  expect(load).not.toThrow();
});

test('a client with the timeouts gives up on a server that does not answer', async () => {
  expect(TIMEOUTS.requestHandler).toMatchObject({ connectionTimeout: 5000, requestTimeout: 30_000 });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const s3 = new S3Client({
    region: 'us-east-1',
    endpoint: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    maxAttempts: 1,
    requestHandler: { ...TIMEOUTS.requestHandler, requestTimeout: 200 },
  });
  await expect(s3.send(new ListBucketsCommand())).rejects.toMatchObject({ name: 'TimeoutError' });
  s3.destroy();
  server.closeAllConnections();
  server.close();
});

test.each(Object.keys(environment))('fails to load without %s', (name) => {
  process.env[name] = '';
  expect(load).toThrow(
    expect.objectContaining({
      name: 'EnvironmentError',
      message: expect.stringContaining(`environment variable ${name}: got an empty value, expected`) as unknown,
    }) as Error,
  );
});
