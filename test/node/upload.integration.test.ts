import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startKes } from '../../lab/aws/kes';
import { KmsKeys } from '../../lab/aws/kms-keys';
import { type S3Server, startMinio } from '../../lab/aws/s3';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { etcdTools } from '../../lab/nodes/tools';
import { headersParameter, presignPut } from '../../lambda/backup/presign';
import { BACKUP_ID, runScript } from './run-script';

const REGION = 'us-east-1';
const BUCKET = 'uploads';
const STAGING = '/var/lib/etcd-backup/staging';
const BYTES = randomBytes(3_000_000);
const credentials = { accessKeyId: 'AKIATESTTESTTESTTEST', secretAccessKey: randomBytes(20).toString('hex') };

let dir: string;
let cluster: ControlPlane;
let node: LabNode;
let minio: S3Server;
let stopKes: () => Promise<void>;
let s3: S3Client;
let number = 0;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'upload-'));
  const kes = await startKes({ dir: join(dir, 'kes'), keys: new KmsKeys(join(dir, 'kms')), port: 0 });
  stopKes = () => kes.stop();
  minio = await startMinio({ dir: join(dir, 's3'), region: REGION, credentials, kes });
  s3 = new S3Client({
    endpoint: minio.url,
    region: REGION,
    credentials,
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  await s3.send(new CreateBucketCommand({ Bucket: BUCKET }));
  cluster = await startControlPlane({ name: 'upload', members: 1, etcd: '3.6', etcdutlInImage: false });
  node = cluster.nodes[0] as LabNode;
  await node.forward(Number(new URL(minio.url).port));
});

afterAll(async () => {
  s3.destroy();
  await cluster.down();
  await minio.stop();
  await stopKes();
  rmSync(dir, { recursive: true });
});

function stage(bytes = BYTES): void {
  mkdirSync(node.path(`${STAGING}/${BACKUP_ID}`), { recursive: true });
  writeFileSync(node.path(`${STAGING}/${BACKUP_ID}/snapshot.db.zst`), bytes);
}

async function presigned() {
  number += 1;
  const key = `snapshots/${String(number)}.db.zst`;
  const { url, headers } = await presignPut(s3, {
    Bucket: BUCKET,
    Key: key,
    ContentLength: BYTES.length,
    ChecksumSHA256: createHash('sha256').update(BYTES).digest('base64'),
    IfNoneMatch: '*',
    Tagging: 'retention=pending',
    Metadata: { revision: '42' },
  });
  return { key, Url: url, Headers: headersParameter(headers) };
}

async function upload({ Url, Headers }: { Url: string; Headers: string }) {
  const { result, code } = await runScript(node, 'upload', { parameters: { Url, Headers } });
  expect(existsSync(node.path(STAGING)) ? readdirSync(node.path(STAGING)) : []).toEqual([]);
  return { code, result };
}

describe('an upload from a node', () => {
  test('stores the staged bytes, and leaves nothing behind', async () => {
    stage();
    const { key, Url, Headers } = await presigned();
    expect(await upload({ Url, Headers })).toMatchObject({
      code: 0,
      result: { ok: true, backupId: BACKUP_ID, compressedSize: BYTES.length, attempts: 1 },
    });
    const stored = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
    expect(Buffer.from((await stored.Body?.transformToByteArray()) ?? []).equals(BYTES)).toBe(true);
    expect(stored.TagCount).toBe(1);
  });

  test('is told apart when the key exists already', async () => {
    const parameters = await presigned();
    stage();
    expect(await upload(parameters)).toMatchObject({ code: 0 });
    stage();
    expect(await upload(parameters)).toMatchObject({ code: 72, result: { ok: false, error: 'upload-exists' } });
  });

  test("that S3 refuses says S3's error code", async () => {
    stage();
    const { Url, Headers } = await presigned();
    const { code, result } = await upload({ Url, Headers: Headers.replace('revision: 42', 'revision: 43') });
    expect({ code, error: result.error }).toEqual({ code: 70, error: 'upload-refused' });
    expect(result.message).toContain('SignatureDoesNotMatch');
  });

  test('of other bytes than those announced is refused', async () => {
    stage(randomBytes(BYTES.length));
    const parameters = await presigned();
    const { code, result } = await upload(parameters);
    expect(code).toBe(70);
    expect(result.message).toMatch(/BadDigest|XAmzContentChecksumMismatch|ContentChecksum/);
  });

  test('through a URL that expired says so', async () => {
    stage();
    const Url = await getSignedUrl(s3, new PutObjectCommand({ Bucket: BUCKET, Key: 'late' }), { expiresIn: 1 });
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(await upload({ Url, Headers: 'if-none-match: *' })).toMatchObject({
      code: 71,
      result: { ok: false, error: 'upload-expired' },
    });
  });

  test('with a header that would have another host take it is refused, and not sent', async () => {
    stage();
    const { Url, Headers } = await presigned();
    const parameters = { Url, Headers: `${Headers}|host: elsewhere.example` };
    expect(await runScript(node, 'upload', { parameters })).toMatchObject({
      code: 11,
      result: { ok: false, error: 'bad-parameter' },
    });
    // What is staged is as it was, and the key is still free.
    expect(await upload({ Url, Headers })).toMatchObject({ code: 0 });
  });

  test('with nobody at the other end is tried three times, then fails', async () => {
    stage();
    const parameters = await presigned();
    await node.unforward(Number(new URL(minio.url).port));
    try {
      const { code, result } = await upload(parameters);
      expect(code).toBe(73);
      expect(result.message).toContain('3 attempts');
    } finally {
      await node.forward(Number(new URL(minio.url).port));
    }
  });

  test('that is killed leaves what the next run removes', async () => {
    stage();
    const parameters = await presigned();
    const { Url } = parameters;
    // Nothing answers there, so the script waits between its attempts when the kill comes.
    const hanging = runScript(node, 'upload', {
      parameters: { Headers: parameters.Headers, Url: Url.replace(/:\d+\//, ':1/') },
    });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await node.must(['bash', '-c', 'for c in /proc/[0-9]*/comm; do [[ $(<"$c") != sleep ]] || exit 0; done; exit 1']);
    await node.must([
      'bash',
      '-c',
      'for f in /proc/[0-9]*/environ; do p=${f//[!0-9]/}; [[ $p != $$ && $(tr "\\0" "\\n" <"$f" 2>/dev/null) == *SSM_Url* ]] && kill -KILL "$p"; done; :',
    ]);
    await expect(hanging).rejects.toThrow('Unexpected end of JSON input');
    expect(readdirSync(node.path(STAGING))).toEqual([BACKUP_ID]);
    expect((await runScript(node, 'snapshot')).result).toMatchObject({ ok: true });
  });
});

describe('tools that a node sends', () => {
  const fromImage = (name: 'etcd' | 'etcdctl') => readFileSync(etcdTools('3.6')[name]);
  const sha256 = (bytes: Buffer, encoding: 'hex' | 'base64' = 'hex') =>
    createHash('sha256').update(bytes).digest(encoding);

  async function parametersOf(tools: Readonly<Record<string, Buffer>>) {
    const uploads: string[] = [];
    let common = '';
    for (const [name, bytes] of Object.entries(tools)) {
      const { url, headers } = await presignPut(s3, {
        Bucket: BUCKET,
        Key: keyOf(name),
        ContentLength: bytes.length,
        ChecksumSHA256: sha256(bytes, 'base64'),
        IfNoneMatch: '*',
      });
      uploads.push(`${name}=${sha256(bytes)}=${url}`);
      const { 'x-amz-checksum-sha256': checksum, ...others } = headers;
      expect(checksum).toBe(sha256(bytes, 'base64'));
      common = headersParameter(others);
    }
    return { Uploads: uploads.join(' '), Headers: common };
  }

  const keyOf = (name: string) => `tools/3.6.0/amd64/${name}`;

  async function send(parameters: Readonly<Record<string, string>>) {
    const { result } = await runScript(node, 'tools', { parameters });
    // A snapshot that waits there for its upload is left alone.
    expect(existsSync(node.path(`${STAGING}/tools`))).toBe(false);
    return result;
  }

  test('are stored byte for byte, and a second time they are there already', async () => {
    const tools = { etcd: fromImage('etcd'), etcdctl: fromImage('etcdctl') };
    const parameters = await parametersOf(tools);
    expect(await send(parameters)).toMatchObject({ ok: true, stored: ['etcd', 'etcdctl'], existed: [] });
    for (const [name, bytes] of Object.entries(tools)) {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: keyOf(name) }));
      expect(sha256(Buffer.from((await Body?.transformToByteArray()) ?? []))).toBe(sha256(bytes));
    }
    expect(await send(parameters)).toMatchObject({ ok: true, stored: [], existed: ['etcd', 'etcdctl'] });
  });

  test('are what the backup saw a moment ago, or nothing is sent', async () => {
    const changed = Buffer.concat([fromImage('etcdctl'), Buffer.from('x')]);
    expect(await send(await parametersOf({ etcdctl: changed }))).toMatchObject({ code: 52, error: 'tool-changed' });
    expect(await send(await parametersOf({ etcdutl: changed }))).toMatchObject({ code: 51, error: 'no-tool' });
  });

  test('are not sent where a restore is under way', async () => {
    mkdirSync(node.path('/var/lib/etcd-backup/restore'), { recursive: true });
    writeFileSync(node.path('/var/lib/etcd-backup/restore/journal'), 'restore 20261120T135900Z\n');
    try {
      expect(await send(await parametersOf({ etcd: fromImage('etcd') }))).toMatchObject({ code: 13 });
    } finally {
      rmSync(node.path('/var/lib/etcd-backup/restore'), { recursive: true });
    }
  });

  test.each([
    ['Uploads', `sh=${'0'.repeat(64)}=http://127.0.0.1:1/`],
    ['Uploads', 'etcd=$(id)=http://127.0.0.1:1/'],
    ['Uploads', `etcd=${'0'.repeat(64)}=file:///etc/shadow`],
    ['Headers', 'a: b"\noutput = "/etc/passwd'],
    ['Headers', 'if-none-match: *|host: elsewhere.example'],
  ])('are refused with a parameter %s that is none: %s', async (name, value) => {
    expect(await send({ [name]: value })).toMatchObject({ code: 11, error: 'bad-parameter' });
  });
});
