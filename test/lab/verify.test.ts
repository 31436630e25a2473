import { GetPublicKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, createPublicKey } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Invocation, ObjectCreatedEvent, Outcome } from '../../lab/aws/aws';
import { s3Client } from '../../lab/aws/s3';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData, type LoadSummary } from '../../lab/nodes/load';
import { etcdTools, type EtcdMinor } from '../../lab/nodes/tools';
import { type Lab, type LabOptions, startLab } from '../../lab/start-lab';
import { type Receipt, verifyReceiptOffline } from '../../lambda/shared/receipt';

// The proof of a backup on real parts: schedule, snapshot, upload, S3's event, the verify function, its receipt, tags and locks.

const DAY_MS = 86_400_000;

let lab: Lab;
let s3: S3Client;
let bucket: string;
let data: LoadSummary;
let hour = 0;

async function bringUp(options: LabOptions): Promise<void> {
  lab = await startLab({
    cdkOut: process.env['CDK_OUT'] as string,
    ...options,
    aws: { lambda: { retryDelaysMs: [200, 200] }, ssm: { deliverySecondMs: 100 } },
  });
  s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  bucket = output('BucketName');
  data = await loadData(lab.controlPlane, { sizeBytes: 20_000_000 });
}

async function takeDown(): Promise<void> {
  s3.destroy();
  await lab.down();
}

function output(name: string): string {
  const value = lab.aws.outputs.get(name);
  if (value === undefined) {
    throw new Error(`the stack has no output ${name}, expected one of ${[...lab.aws.outputs.keys()].join(', ')}`);
  }
  return value;
}

/** A trigger time that no other test uses: from Wednesday, 11 March 2026 on. */
function nextHour(): Date {
  hour += 1;
  return new Date(Date.UTC(2026, 2, 11) + hour * 3_600_000);
}

function idOf(time: Date): string {
  return time.toISOString().replace(/[-:]|\.000/g, '');
}

function keyOf(time: Date): string {
  return `snapshots/${idOf(time)}.db.zst`;
}

/** Takes a backup; whether its event is delivered is another matter. */
async function backUp(time: Date): Promise<ObjectCreatedEvent> {
  const delivery = await lab.aws.fireSchedule(undefined, { scheduledTime: time });
  if (!delivery.delivered) {
    throw delivery.error;
  }
  const outcome = await delivery.invocation.done;
  if (!outcome.ok) {
    throw new Error(JSON.stringify(outcome.error));
  }
  return lab.aws.events.created(keyOf(time));
}

/** Takes a backup whose event is kept back. */
async function backUpOnly(time: Date): Promise<ObjectCreatedEvent> {
  lab.aws.events.hold();
  try {
    return await backUp(time);
  } finally {
    lab.aws.events.release();
  }
}

async function deliver(event: ObjectCreatedEvent): Promise<Invocation> {
  const [delivery] = await lab.aws.events.deliver(event);
  if (delivery?.delivered !== true) {
    throw delivery?.error ?? new Error('no rule took the event');
  }
  return delivery.invocation;
}

/** The outcome of the verify function for the newest event of a backup that was delivered. */
async function proofOf(time: Date): Promise<Outcome> {
  const delivery = await lab.aws.events.delivered(keyOf(time));
  if (!delivery.delivered) {
    throw delivery.error;
  }
  return delivery.invocation.done;
}

async function mustVerify(time: Date): Promise<Record<string, unknown>> {
  await backUp(time);
  return resultOf(await proofOf(time));
}

function resultOf(outcome: Outcome): Record<string, unknown> {
  if (!outcome.ok) {
    throw new Error(JSON.stringify(outcome.error));
  }
  return outcome.result as Record<string, unknown>;
}

/** As a delivery, but without the retries, for what no retry changes. */
function deliverOnce(event: ObjectCreatedEvent): Promise<Outcome> {
  return lab.aws.invoke(output('VerifyFunctionName'), event).done;
}

function byHand(time: Date): Promise<Outcome> {
  return lab.aws.invoke(output('VerifyFunctionName'), { backupId: idOf(time) }).done;
}

async function versionsOf(key: string) {
  const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key }));
  return Versions.filter(({ Key }) => Key === key);
}

async function tagOf(event: ObjectCreatedEvent): Promise<string | undefined> {
  const { TagSet } = await s3.send(new GetObjectTaggingCommand(versionOf(event)));
  return TagSet?.find(({ Key }) => Key === 'retention')?.Value;
}

function versionOf(event: ObjectCreatedEvent) {
  const { key, 'version-id': VersionId } = event.detail.object;
  return { Bucket: bucket, Key: key, VersionId };
}

async function bytesOf(version: { Key: string; VersionId?: string | undefined }) {
  const object = await s3.send(new GetObjectCommand({ Bucket: bucket, ...version }));
  return {
    bytes: Buffer.from((await object.Body?.transformToByteArray()) ?? []),
    metadata: object.Metadata ?? {},
  };
}

async function receiptOf(time: Date) {
  const Key = `receipts/${idOf(time)}.json`;
  expect(await versionsOf(Key)).toHaveLength(1);
  const { bytes, metadata } = await bytesOf({ Key });
  return { bytes, metadata, receipt: JSON.parse(bytes.toString('utf8')) as Receipt };
}

async function expectNoReceipt(time: Date): Promise<void> {
  expect(await versionsOf(`receipts/${idOf(time)}.json`)).toEqual([]);
}

async function receiptPublicKey(): Promise<string> {
  const { accessKeyId, secretAccessKey } = lab.aws.credentials;
  const kms = new KMSClient({
    endpoint: lab.aws.endpoints.kms,
    region: lab.aws.region,
    credentials: { accessKeyId, secretAccessKey },
  });
  const { PublicKey = new Uint8Array() } = await kms.send(new GetPublicKeyCommand({ KeyId: output('ReceiptKeyArn') }));
  kms.destroy();
  return createPublicKey({ key: Buffer.from(PublicKey), format: 'der', type: 'spki' })
    .export({ type: 'spki', format: 'pem' })
    .toString();
}

/** Written apart from the function's own, so that the two are held against each other. */
function inOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return value;
  }
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, inOrder((value as Record<string, unknown>)[name])]),
  );
}

async function etcdutlStatus(etcd: EtcdMinor, event: ObjectCreatedEvent): Promise<Record<string, number>> {
  const version = versionOf(event);
  const { bytes } = await bytesOf(version);
  const file = join(lab.dir, 'proof.db');
  writeFileSync(file, version.Key.endsWith('.zst') ? zstdDecompressSync(bytes) : gunzipSync(bytes));
  const status = execFileSync(etcdTools(etcd).etcdutl, ['snapshot', 'status', '-w', 'json', file], {
    encoding: 'utf8',
  });
  rmSync(file);
  return JSON.parse(status) as Record<string, number>;
}

function reasonsOf(outcome: Outcome): string {
  expect(outcome).toMatchObject({ ok: false, error: { errorType: 'VerificationFailedError' } });
  return outcome.error?.errorMessage ?? '';
}

function hasLogged(time: Date, phase: string, from: number): boolean {
  return lab.aws.logs
    .slice(from)
    .some(({ line }) => line.includes(`"backupId":"${idOf(time)}"`) && line.includes(`"phase":"${phase}"`));
}

/** Puts other bytes or metadata in the place of a version, as somebody who may remove locked versions could: it is gone without a trace. */
async function replaceVersion(
  version: { Key: string; VersionId?: string | undefined },
  change: (object: { bytes: Buffer; metadata: Record<string, string> }) => {
    bytes?: Buffer;
    metadata?: Record<string, string>;
  },
): Promise<ObjectCreatedEvent> {
  const object = await bytesOf(version);
  const { bytes: Body = object.bytes, metadata: Metadata = object.metadata } = change(object);
  await s3.send(new DeleteObjectCommand({ Bucket: bucket, ...version, BypassGovernanceRetention: true }));
  const before = lab.aws.events.arrived.length;
  // With S3's own checksum: whoever may do this would not forget it.
  const ChecksumSHA256 = createHash('sha256').update(Body).digest('base64');
  await s3.send(new PutObjectCommand({ Bucket: bucket, Key: version.Key, Body, Metadata, ChecksumSHA256 }));
  for (;;) {
    const event = lab.aws.events.arrived.slice(before).find(({ detail }) => detail.object.key === version.Key);
    if (event !== undefined) {
      return event;
    }
    await sleep(20);
  }
}

describe('the proof of a backup', () => {
  beforeAll(() => bringUp({ name: 'veri36', members: 3, etcd: '3.6' }));
  afterAll(takeDown);

  // A Friday, a Friday, a Monday and a Tuesday.
  const days = ['2026-03-06T01:00:00Z', '2026-03-06T02:00:00Z', '2026-03-09T00:00:00Z', '2026-03-10T00:00:00Z'];
  const [first, second, third, fourth] = days.map((text) => new Date(text)) as [Date, Date, Date, Date];

  test('comes by itself: a receipt whose facts etcdutl and etcd confirm, the tag latest, and a lock for as long as its class is kept', async () => {
    const event = await backUp(first);
    const outcome = await proofOf(first);
    expect(resultOf(outcome)).toEqual({
      outcome: 'verified',
      backupId: idOf(first),
      versionId: event.detail.object['version-id'],
      receipt: `receipts/${idOf(first)}.json`,
      class: 'monthly',
      findings: ['tool-acknowledged', 'tool-unknown'],
    });
    expect(outcome.attempts).toHaveLength(1);
    expect(outcome.attempts[0]?.leftInTmp).toEqual([]);

    const { receipt } = await receiptOf(first);
    const status = await etcdutlStatus('3.6', event);
    expect(receipt.snapshot).toMatchObject({
      hash: status.hash,
      revision: status.revision,
      totalKey: { live: status.totalKey },
      totalSizeBytes: status.totalSize,
    });
    const stored = await bytesOf(versionOf(event));
    const file = zstdDecompressSync(stored.bytes);
    expect(receipt).toMatchObject({
      compressedSha256: createHash('sha256').update(stored.bytes).digest('hex'),
      compressedBytes: stored.bytes.length,
      sha256: createHash('sha256').update(file).digest('hex'),
      sizeBytes: file.length,
      timeline: 'first',
      previous: null,
      identity: { kubeSystemUid: data.kubeSystemUid, kubeSystemEncrypted: false },
    });
    // What etcd itself counts at that revision.
    const node = lab.controlPlane.nodes[0] as LabNode;
    for (const kind of ['pods', 'secrets', 'configmaps', 'namespaces']) {
      const fields = await node.etcdctl([
        'get',
        `/registry/${kind}/`,
        '--prefix',
        '--count-only',
        '--write-out=fields',
        `--rev=${String(status.revision)}`,
      ]);
      const counted = Number(/^"Count" : (\d+)$/m.exec(fields)?.[1]);
      expect(receipt.inventory.kinds.find((each) => each.kind === kind)?.objects).toBe(counted);
    }
    expect(receipt.snapshot.secrets).toEqual({ total: expect.any(Number) as number, plainText: 0 });

    expect(await tagOf(event)).toBe('latest');
    const [version] = await versionsOf(keyOf(first));
    const { Retention } = await s3.send(new GetObjectRetentionCommand(versionOf(event)));
    expect(Retention).toEqual({
      Mode: 'GOVERNANCE',
      RetainUntilDate: new Date(Number(version?.LastModified?.getTime()) + 186 * DAY_MS),
    });
    const metrics = lab.aws.metrics.filter(({ dimensions }) => dimensions.cluster === 'lab');
    expect(metrics).toContainEqual(expect.objectContaining({ namespace: 'EtcdBackup', name: 'Verified', value: 1 }));
    expect(metrics).toContainEqual(expect.objectContaining({ name: 'FindingToolUnknown', value: 1 }));
  });

  test("has a signature that openssl confirms with nothing but the receipt, its metadata and the key's public half", async () => {
    const { bytes, metadata, receipt } = await receiptOf(first);
    const receiptSha256 = createHash('sha256').update(bytes).digest('hex');
    expect(metadata).toMatchObject({ 'receipt-sha256': receiptSha256, 'backup-id': idOf(first), cluster: 'lab' });
    const publicKeyPem = await receiptPublicKey();
    const { schema, key, versionId, sha256, identity } = receipt;
    const payload = JSON.stringify(
      inOrder({ type: 'receipt', schema, bucket: receipt.bucket, key, versionId, sha256, identity, receiptSha256 }),
    );
    const signatureBase64 = metadata['receipt-signature'] ?? '';
    const dir = join(lab.dir, 'signature');
    mkdirSync(dir);
    const file = (name: string, content: string | Buffer): string => {
      writeFileSync(join(dir, name), content);
      return join(dir, name);
    };
    const openssl = (content: string): string =>
      spawnSync(
        'openssl',
        [
          'dgst',
          '-sha256',
          '-verify',
          file('key.pem', publicKeyPem),
          '-signature',
          file('signature', Buffer.from(signatureBase64, 'base64')),
          file('payload', content),
        ],
        { encoding: 'utf8' },
      ).stdout;
    expect(openssl(payload)).toBe('Verified OK\n');
    expect(openssl(payload.replace('"schema":1', '"schema":2'))).toBe('Verification failure\n');
    expect(verifyReceiptOffline({ receiptBytes: bytes, signatureBase64, publicKeyPem })).toMatchObject({
      ok: true,
      receiptSha256,
    });
    const forged = Buffer.from(bytes.toString('utf8').replace('"class":"monthly"', '"class":"hourly"'));
    expect(verifyReceiptOffline({ receiptBytes: forged, signatureBase64, publicKeyPem })).toMatchObject({ ok: false });
  });

  test('makes each new one the latest, and gives the one before its class: monthly, hourly, weekly, daily', async () => {
    const events = [await lab.aws.events.created(keyOf(first))];
    const tags = async (): Promise<unknown[]> => Promise.all(events.map(tagOf));
    for (const [time, klass, expected] of [
      [second, 'hourly', ['monthly', 'latest']],
      [third, 'weekly', ['monthly', 'hourly', 'latest']],
      [fourth, 'daily', ['monthly', 'hourly', 'weekly', 'latest']],
    ] as const) {
      expect(await mustVerify(time)).toMatchObject({ outcome: 'verified', class: klass });
      events.push(await lab.aws.events.created(keyOf(time)));
      expect(await tags()).toEqual(expected);
    }
    const { receipt } = await receiptOf(fourth);
    expect(receipt).toMatchObject({ previous: idOf(third), class: 'daily' });
  });

  test('is one receipt when the event comes again, and when it comes twice at once', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const outcomes = await Promise.all((await Promise.all([deliver(event), deliver(event)])).map(({ done }) => done));
    outcomes.push(await (await deliver(event)).done);
    const results = outcomes.map(resultOf);
    expect(results.map(({ outcome }) => outcome).sort()).toEqual(['known', 'known', 'verified']);
    expect(new Set(results.map(({ class: klass }) => klass)).size).toBe(1);
    await receiptOf(time);
    expect(await tagOf(event)).toBe('latest');
  });

  test('may come late and out of order: the newest backup is the latest, whichever was proven last', async () => {
    const [older, newer] = [nextHour(), nextHour()];
    const [olderEvent, newerEvent] = [await backUpOnly(older), await backUpOnly(newer)];
    expect(await tagOf(newerEvent)).toBe('pending');
    resultOf(await (await deliver(newerEvent)).done);
    expect(await tagOf(newerEvent)).toBe('latest');
    expect(resultOf(await (await deliver(olderEvent)).done)).toMatchObject({ outcome: 'verified', class: 'hourly' });
    expect([await tagOf(olderEvent), await tagOf(newerEvent)]).toEqual(['hourly', 'latest']);
  });

  test('goes on after its function was killed in the middle of the download, and leaves nothing on the disk', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const invocation = await deliver(event);
    const isDownloading = (): boolean => {
      const dir = invocation.tmpDir();
      return (
        dir !== undefined &&
        existsSync(dir) &&
        readdirSync(dir, { recursive: true }).some((name) => String(name).endsWith('.db'))
      );
    };
    while (!isDownloading()) {
      await setImmediate();
    }
    invocation.kill();
    const outcome = await invocation.done;
    expect(resultOf(outcome)).toMatchObject({ outcome: 'verified' });
    expect(outcome.attempts.map(({ ok }) => ok)).toEqual([false, true]);
    expect(outcome.attempts[0]?.leftInTmp.some((name) => name.endsWith('.db'))).toBe(true);
    expect(outcome.attempts[1]?.leftInTmp).toEqual([]);
    expect(await tagOf(event)).toBe('latest');
  });

  test.each([
    ['identify', 'verified'],
    ['previous', 'verified'],
    ['download', 'verified'],
    ['read', 'verified'],
    ['receipt', 'known'],
  ])('goes on after its function was killed right after the phase %s', async (phase, expected) => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const from = lab.aws.logs.length;
    const invocation = await deliver(event);
    while (!hasLogged(time, phase, from)) {
      await setImmediate();
    }
    invocation.kill();
    const outcome = await invocation.done;
    expect(outcome.attempts.map(({ ok }) => ok)).toEqual([false, true]);
    // After the phase receipt the receipt is there, and says that it was verified; before it, all is done again.
    const { outcome: said } = resultOf(outcome);
    expect(phase === 'read' ? ['verified', 'known'] : [expected]).toContain(said);
    await receiptOf(time);
    expect(await tagOf(event)).toBe('latest');
  });

  test('says nothing while the key is disabled: the tag stays pending, and by hand it is verified once the key is enabled', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const key = output('SnapshotKeyArn');
    lab.aws.keys.setEnabled(key, false);
    try {
      const outcome = await (await deliver(event)).done;
      expect(outcome.ok).toBe(false);
      expect(outcome.error?.errorType).toBe('StoreError');
      expect(outcome.error?.errorMessage).toMatch(/kms|key/i);
      expect(outcome.attempts).toHaveLength(3);
      // It is not lost: what is to be verified lies in the failure queue.
      expect(JSON.parse(outcome.failureMessage?.body ?? '{}')).toMatchObject({ requestPayload: event });
    } finally {
      lab.aws.keys.setEnabled(key, true);
    }
    expect(await tagOf(event)).toBe('pending');
    await expectNoReceipt(time);
    expect(resultOf(await byHand(time))).toMatchObject({ outcome: 'verified', backupId: idOf(time) });
    expect(await tagOf(event)).toBe('latest');
  });

  test('says nothing while the receipt key is disabled: no receipt without a signature', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    lab.aws.keys.setEnabled(output('ReceiptKeyArn'), false);
    try {
      expect((await deliverOnce(event)).error?.errorType).toBe('SigningKeyError');
    } finally {
      lab.aws.keys.setEnabled(output('ReceiptKeyArn'), true);
    }
    expect(await tagOf(event)).toBe('pending');
    await expectNoReceipt(time);
    expect(resultOf(await byHand(time))).toMatchObject({ outcome: 'verified' });
  });

  test('is not hidden by a delete marker, which is a finding', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: keyOf(time) }));
    const { outcome, findings } = resultOf(await (await deliver(event)).done);
    expect(outcome).toBe('verified');
    expect(findings).toContain('delete-marker');
    expect(await tagOf(event)).toBe('latest');
  });

  test('is not replaced by a later version, which is refused and tagged failed, before it was proven and after', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const { metadata } = await bytesOf(versionOf(event));
    const put = async (): Promise<ObjectCreatedEvent> => {
      lab.aws.events.hold();
      const before = lab.aws.events.arrived.length;
      await s3.send(
        new PutObjectCommand({ Bucket: bucket, Key: keyOf(time), Body: 'other bytes', Metadata: metadata }),
      );
      while (lab.aws.events.arrived.length === before) {
        await sleep(20);
      }
      lab.aws.events.release();
      return lab.aws.events.created(keyOf(time));
    };
    const earlyVersion = await put();
    expect(reasonsOf(await deliverOnce(earlyVersion))).toContain('later-version: ');
    expect(await tagOf(earlyVersion)).toBe('failed');
    const { outcome, findings } = resultOf(await (await deliver(event)).done);
    expect(outcome).toBe('verified');
    expect(findings).toContain('other-version');
    const lateVersion = await put();
    expect(reasonsOf(await deliverOnce(lateVersion))).toContain('verified-version-exists: ');
    expect(await tagOf(lateVersion)).toBe('failed');
    expect(await tagOf(event)).toBe('latest');
    const { receipt } = await receiptOf(time);
    expect(receipt.versionId).toBe(event.detail.object['version-id']);
  });

  test.each<[string, (bytes: Buffer) => Buffer, string]>([
    [
      'one bit of it',
      (bytes) => {
        const changed = Buffer.from(bytes);
        const middle = changed.length >> 1;
        changed[middle] = (changed[middle] ?? 0) ^ 1;
        return changed;
      },
      'bad-compression: ',
    ],
    ['its end', (bytes) => bytes.subarray(0, -1), 'stored-bytes: '],
    [
      'one bit of the snapshot in it',
      (bytes) => {
        const file = zstdDecompressSync(bytes);
        const middle = file.length >> 1;
        file[middle] = (file[middle] ?? 0) ^ 1;
        return zstdCompressSync(file);
      },
      'stored-bytes: ',
    ],
  ])('is refused when somebody changed %s and removed the version that was announced', async (_, change, reason) => {
    const time = nextHour();
    const event = await backUpOnly(time);
    lab.aws.events.hold();
    const replaced = await replaceVersion(versionOf(event), ({ bytes }) => ({ bytes: change(bytes) }));
    lab.aws.events.release();
    expect(reasonsOf(await deliverOnce(replaced))).toContain(reason);
    expect(await tagOf(replaced)).toBe('failed');
    await expectNoReceipt(time);
    expect(lab.aws.metrics).toContainEqual(expect.objectContaining({ name: 'VerifyFailed', value: 1 }));
  });

  test.each<[string, (metadata: Record<string, string>) => Record<string, string>, string]>([
    [
      'another announcement',
      (metadata) => ({ ...metadata, announcement: `announcements/${idOf(first)}.json` }),
      'got no version with SHA-256',
    ],
    ['none at all', () => ({}), "metadata 'announcement'"],
    [
      'another signature',
      (metadata) => ({ ...metadata, 'announcement-signature': Buffer.alloc(70, 1).toString('base64') }),
      'signature of announcements/',
    ],
  ])('is refused when its metadata names %s', async (_, change, words) => {
    const time = nextHour();
    const event = await backUpOnly(time);
    lab.aws.events.hold();
    const replaced = await replaceVersion(versionOf(event), ({ metadata }) => ({ metadata: change(metadata) }));
    lab.aws.events.release();
    const reasons = reasonsOf(await deliverOnce(replaced));
    expect(reasons).toContain('unsigned: ');
    expect(reasons).toContain(words);
    expect(await tagOf(replaced)).toBe('failed');
    await expectNoReceipt(time);
  });

  test("is refused when another backup's object lies under its key, signature and all", async () => {
    const [time, other] = [nextHour(), nextHour()];
    const [event, otherEvent] = [await backUpOnly(time), await backUpOnly(other)];
    const { bytes, metadata } = await bytesOf(versionOf(otherEvent));
    lab.aws.events.hold();
    const replaced = await replaceVersion(versionOf(event), () => ({ bytes, metadata }));
    lab.aws.events.release();
    expect(reasonsOf(await deliverOnce(replaced))).toContain(`got '${keyOf(other)}', expected '${keyOf(time)}'`);
    await expectNoReceipt(time);
  });

  test('says nothing of bytes that S3 itself cannot read any more: not verified, and not called failed', async () => {
    const time = nextHour();
    const event = await backUpOnly(time);
    const dir = join(lab.aws.s3DataDir, bucket, keyOf(time));
    const parts = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('part.1'));
    expect(parts).toHaveLength(1);
    const fd = openSync(join(dir, parts[0] ?? ''), 'r+');
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, 1_500_000);
    writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, 1_500_000);
    closeSync(fd);
    const outcome = await deliverOnce(event);
    expect(outcome.ok).toBe(false);
    expect(outcome.error?.errorType).toBe('StoreError');
    expect(await tagOf(event)).toBe('pending');
    await expectNoReceipt(time);
  });

  test('is done again when somebody forged its receipt, and the forgery in its place is an error', async () => {
    const time = nextHour();
    await mustVerify(time);
    const event = await lab.aws.events.created(keyOf(time));
    const [version] = await versionsOf(`receipts/${idOf(time)}.json`);
    // Over it: the signed one counts, and the forgery hides nothing.
    const { bytes, metadata } = await bytesOf({ Key: `receipts/${idOf(time)}.json` });
    const forged = Buffer.from(bytes.toString('utf8').replace(/"findings":\[.*?\],/, '"findings":[],'));
    expect(forged.equals(bytes)).toBe(false);
    const put = { Bucket: bucket, Key: `receipts/${idOf(time)}.json`, Body: forged, Metadata: metadata };
    await s3.send(new PutObjectCommand(put));
    expect(resultOf(await (await deliver(event)).done)).toMatchObject({ outcome: 'known' });
    // In its place: nothing says any more that this backup was proven.
    await s3.send(
      new DeleteObjectCommand({
        Bucket: bucket,
        Key: version?.Key,
        VersionId: version?.VersionId,
        BypassGovernanceRetention: true,
      }),
    );
    const outcome = await deliverOnce(event);
    expect(outcome.ok).toBe(false);
    expect(outcome.error?.errorType).toBe('ReceiptError');
    expect(outcome.error?.errorMessage).toContain('no receipt of ours');
    // The next one passes it over, and says so.
    const { findings } = await mustVerify(nextHour());
    expect(findings).toContain('receipt-untrusted');
  });

  test('has the finding when Secrets are stored in plain text, and names none of them', async () => {
    await loadData(lab.controlPlane, { sizeBytes: 22_000_000, plainSecrets: true, seed: 7 });
    const time = nextHour();
    const { findings } = await mustVerify(time);
    expect(findings).toContain('secrets-in-plain-text');
    const { receipt } = await receiptOf(time);
    expect(receipt.snapshot.secrets.plainText).toBeGreaterThan(0);
    expect(lab.aws.metrics).toContainEqual(expect.objectContaining({ name: 'FindingSecretsInPlainText', value: 1 }));
  });
});

describe('the proof of a backup of a single member', () => {
  beforeAll(() => bringUp({ name: 'veri1', members: 1, etcd: '3.6' }));
  afterAll(takeDown);

  test('is refused when etcd came back empty, where no other member could say so: another cluster, and less than it had', async () => {
    expect(await mustVerify(nextHour())).toMatchObject({ outcome: 'verified' });
    await (lab.controlPlane.nodes[0] as LabNode).wipe();
    await lab.controlPlane.waitHealthy();
    const time = nextHour();
    const event = await backUp(time);
    const reasons = reasonsOf(await proofOf(time));
    expect(reasons).toContain('identity-changed: ');
    expect(reasons).toContain('revision-went-back: ');
    expect(reasons).toContain('acknowledgedTimelines');
    expect(await tagOf(event)).toBe('failed');
    await expectNoReceipt(time);
  });
});

describe.each([
  ['3.5', 'whose image has no etcdutl', { etcd: '3.5', etcdutlInImage: false }],
  ['3.7', 'whose image has etcdutl', { etcd: '3.7', etcdutlInImage: true }],
] as const)('the proof of a backup of etcd %s %s', (etcd, _what, options) => {
  beforeAll(() => bringUp({ name: `veri${etcd.replace('.', '')}`, members: 3, ...options }));
  afterAll(takeDown);

  test('has the facts that etcdutl of that version gives', async () => {
    const time = nextHour();
    expect(await mustVerify(time)).toMatchObject({ outcome: 'verified' });
    const event = await lab.aws.events.created(keyOf(time));
    const { receipt } = await receiptOf(time);
    const { hash, revision, totalKey, totalSize } = await etcdutlStatus(etcd, event);
    expect(receipt.snapshot).toMatchObject({ hash, revision, totalSizeBytes: totalSize });
    expect(receipt.snapshot.totalKey[etcd === '3.5' ? 'rows' : 'live']).toBe(totalKey);
    expect(receipt.identity.kubeSystemUid).toBe(data.kubeSystemUid);
    expect(await tagOf(event)).toBe('latest');
  });
});
