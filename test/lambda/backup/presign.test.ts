import { S3Client } from '@aws-sdk/client-s3';
import { headersParameter, presignPut } from '../../../lambda/backup/presign';
import { putInput } from '../../../lambda/shared/store';
import { CREDENTIALS, hex, SNAPSHOT_KEY_ARN } from './cloud';

const store = (client: ConstructorParameters<typeof S3Client>[0] = {}) => ({
  s3: new S3Client({
    region: 'us-east-1',
    credentials: CREDENTIALS,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...client,
  }),
  bucket: 'lab-backups',
  bucketOwner: '000000000000',
  snapshotKeyArn: SNAPSHOT_KEY_ARN,
  sleep: () => Promise.resolve(),
});

const metadata = {
  'backup-id': '20261120T140000Z',
  sha256: hex('bytes'),
  announcement: 'announcements/20261120T140000Z.json',
  'announcement-sha256': hex('announcement'),
  'announcement-signature': Buffer.alloc(71, 1).toString('base64'),
  revision: '123456',
  hash: '2912345678',
  'total-key': '9876',
  'snapshot-size': '50000032',
  'etcd-version': '3.6.5',
  cluster: 'lab',
};

const presigned = (client?: ConstructorParameters<typeof S3Client>[0]) => {
  const where = store(client);
  return presignPut(where.s3, {
    ...putInput(where, { key: 'snapshots/20261120T140000Z.db.zst', sha256: hex('bytes'), contentLength: 9_000_000 }),
    ContentLength: 9_000_000,
    Tagging: 'retention=pending',
    Metadata: metadata,
  });
};

const SIGNED = [
  'content-length',
  'host',
  'if-none-match',
  'x-amz-checksum-sha256',
  'x-amz-expected-bucket-owner',
  'x-amz-meta-announcement',
  'x-amz-meta-announcement-sha256',
  'x-amz-meta-announcement-signature',
  'x-amz-meta-backup-id',
  'x-amz-meta-cluster',
  'x-amz-meta-etcd-version',
  'x-amz-meta-hash',
  'x-amz-meta-revision',
  'x-amz-meta-sha256',
  'x-amz-meta-snapshot-size',
  'x-amz-meta-total-key',
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-aws-kms-key-id',
  'x-amz-tagging',
];

test('X-Amz-SignedHeaders of the PUT is exactly this list', async () => {
  const { url } = await presigned();
  expect(new URL(url).searchParams.get('X-Amz-SignedHeaders')?.split(';')).toEqual(SIGNED);
});

test('the query of the PUT has no x-amz- name outside the signing set', async () => {
  const { url } = await presigned();
  expect([...new URL(url).searchParams.keys()].sort()).toEqual([
    'X-Amz-Algorithm',
    'X-Amz-Content-Sha256',
    'X-Amz-Credential',
    'X-Amz-Date',
    'X-Amz-Expires',
    'X-Amz-Security-Token',
    'X-Amz-Signature',
    'X-Amz-SignedHeaders',
    'x-id',
  ]);
  expect(new URL(url).searchParams.get('X-Amz-Expires')).toBe('900');
});

test('the headers to send are those that are signed, but for the two that curl sets itself', async () => {
  const { headers } = await presigned();
  expect(headers).toEqual({
    'if-none-match': '*',
    'x-amz-checksum-sha256': Buffer.from(hex('bytes'), 'hex').toString('base64'),
    'x-amz-expected-bucket-owner': '000000000000',
    'x-amz-server-side-encryption': 'aws:kms',
    'x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY_ARN,
    'x-amz-tagging': 'retention=pending',
    ...Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`x-amz-meta-${name}`, value])),
  });
});

test('only SHA-256 is sent as checksum', async () => {
  const { url, headers } = await presigned();
  expect(Object.keys(headers).filter((name) => name.includes('checksum'))).toEqual(['x-amz-checksum-sha256']);
  expect(url).not.toMatch(/crc|checksum-algorithm/i);
});

test('URL and headers fit the patterns and lengths of the upload document', async () => {
  const { url, headers } = await presigned({
    credentials: { ...CREDENTIALS, sessionToken: 'IQoJb3JpZ2luX2Vj//+='.repeat(60) },
  });
  const parameter = headersParameter(headers);
  expect(url).toMatch(/^https?:\/\/[A-Za-z0-9.:/?&=%~_+-]+$/);
  expect(url.length).toBeLessThanOrEqual(8000);
  expect(parameter).toMatch(/^[A-Za-z0-9:;,=/+._| *()-]+$/);
  expect(parameter.length).toBeLessThanOrEqual(6000);
  expect(parameter.split('|')).toContain('if-none-match: *');
});

test('an endpoint with an address and a port is signed as host', async () => {
  const { url } = await presigned({ endpoint: 'http://10.99.0.1:9000' });
  expect(url).toMatch(/^http:\/\/10\.99\.0\.1:9000\/lab-backups\/snapshots\/20261120T140000Z\.db\.zst\?/);
});

test('fails when the SDK would put another header into the query', async () => {
  const where = store();
  where.s3.middlewareStack.add(
    (next) => (args) => {
      (args.request as { query: Record<string, string> }).query['x-amz-acl'] = 'public-read';
      return next(args);
    },
    { step: 'build', name: 'strayQuery' },
  );
  await expect(
    presignPut(where.s3, {
      ...putInput(where, { key: 'snapshots/a', sha256: hex('bytes'), contentLength: 1 }),
      ContentLength: 1,
    }),
  ).rejects.toMatchObject({
    name: 'PresignError',
    message: expect.stringMatching(/got x-amz-acl, expected no x-amz- name/) as unknown,
  });
});

test.each(['a|b', 'a"b', 'a$b', 'a\nb', 'ä'])(
  'fails when a header value is %j, which the document would refuse',
  (value) => {
    expect(() => headersParameter({ 'x-amz-meta-cluster': value })).toThrow(
      /header x-amz-meta-cluster of the presigned PUT: got .*, expected only/,
    );
  },
);
