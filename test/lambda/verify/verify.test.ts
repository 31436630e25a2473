import {
  GetObjectCommand,
  GetObjectTaggingCommand,
  PutObjectRetentionCommand,
  PutObjectTaggingCommand,
} from '@aws-sdk/client-s3';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { SnapshotDamagedError } from '../../../lambda/shared/snapshot/damage';
import type { SnapshotFacts } from '../../../lambda/shared/snapshot/facts';
import { type Backup, fileOf, objectCreated, RECEIPT_KEY, sha256, sign, snapshotFacts, World } from './world';

const A = '20261120T140000Z';
const B = '20261120T150000Z';
const C = '20261120T160000Z';

let world: World;

beforeEach(() => {
  world = new World();
});

afterEach(() => {
  world.remove();
});

const failed = (...reasons: RegExp[]) =>
  expect.objectContaining({
    name: 'VerificationFailedError',
    reasons: reasons.map((reason) => expect.stringMatching(reason) as unknown),
  }) as Error;

describe('a sound backup', () => {
  test('gets a signed receipt of what was measured, the tag latest and a lock as long as its class', async () => {
    const { event, stored } = world.backup(A);
    world.reader = (file, { trailerSha256 }) => {
      expect(readFileSync(file).equals(fileOf(A))).toBe(true);
      expect(trailerSha256).toBe(sha256(fileOf(A).subarray(0, -32)));
      return snapshotFacts();
    };

    await expect(world.verify(event)).resolves.toEqual({
      outcome: 'verified',
      backupId: A,
      versionId: stored.versionId,
      receipt: `receipts/${A}.json`,
      class: 'monthly',
      findings: [],
    });
    const receipt = world.receipt(A);
    expect(receipt).toMatchObject({
      schema: 1,
      backupId: A,
      cluster: 'lab',
      bucket: 'lab-backups',
      key: `snapshots/${A}.db.zst`,
      versionId: stored.versionId,
      kind: 'schedule',
      keepDays: null,
      class: 'monthly',
      timeline: 'first',
      previous: null,
      newestOfClass: { monthly: null, weekly: null, daily: null },
      storedAt: '2026-11-20T14:05:00.000Z',
      verifiedAt: '2026-11-20T14:05:00.000Z',
      verifiedBy: { function: 'verify', version: '7' },
      announcement: { key: `announcements/${A}.json` },
      compression: 'zstd',
      compressedBytes: stored.bytes.length,
      compressedSha256: sha256(stored.bytes),
      sizeBytes: fileOf(A).length,
      sha256: sha256(fileOf(A)),
      identity: { kubeSystemUid: 'uid-1', kubeSystemEncrypted: false },
      snapshot: { hash: 2_912_345_678, revision: 123_456, totalKey: { rows: 20_000, live: 9876 } },
      inventory: { objects: 9876, largest: [{ key: '/registry/configmaps/a/big', bytes: 400_000 }] },
      announced: { instanceId: 'i-1', hash: 2_912_345_678, totalKey: 9876 },
      findings: [],
      seconds: { triggerToReceipt: 300 },
    });
    const object = world.stored.find(({ key }) => key === `receipts/${A}.json`);
    expect(object?.metadata).toEqual({
      'receipt-signature': sign(
        RECEIPT_KEY,
        createHash('sha256')
          .update(
            `{"bucket":"lab-backups","identity":${JSON.stringify(sorted(receipt.identity))},"key":"snapshots/${A}.db.zst","receiptSha256":"${sha256(object?.bytes as Buffer)}","schema":1,"sha256":"${sha256(fileOf(A))}","type":"receipt","versionId":"${stored.versionId}"}`,
          )
          .digest(),
      ).toString('base64'),
      'receipt-sha256': sha256(object?.bytes as Buffer),
      'backup-id': A,
      cluster: 'lab',
    });
    expect(world.tags).toEqual({ [A]: 'latest' });
    expect(world.lockedDays(stored)).toBe(6 * 31);
    expect(world.writes).toEqual([`receipts/${A}.json`, `lock ${A}`, `tag ${A}=latest`]);
    expect(world.diskIsEmpty).toBe(true);
  });

  test('is measured, with one log line per phase and no key of etcd in them', async () => {
    await world.verify(world.backup(A).event);
    expect(world.measured).toEqual({
      Verified: [1],
      VerifyFailed: [0],
      VerifySeconds: [0],
      TriggerToReceiptSeconds: [300],
      SnapshotBytes: [fileOf(A).length],
      CompressedBytes: [expect.any(Number)],
      LiveObjects: [9876],
      Revision: [123_456],
      UrgentFindings: [0],
      FindingsToCorrect: [0],
    });
    expect(world.lines.map(({ message, phase }) => `${message} ${phase}`)).toEqual([
      'phase done identify',
      'phase done previous',
      'phase done download',
      'phase done read',
      'phase done receipt',
      'phase done settle',
    ]);
    expect(JSON.stringify(world.lines)).not.toContain('/registry/');
  });

  test('is verified from gzip as well', async () => {
    await expect(world.verify(world.backup(A, { compression: 'gzip' }).event)).resolves.toMatchObject({
      outcome: 'verified',
    });
    expect(world.receipt(A)).toMatchObject({ key: `snapshots/${A}.db.gz`, compression: 'gzip' });
  });

  test('takes latest over from the one before, which gets its class', async () => {
    for (const id of [A, B, C]) {
      await world.verify(world.backup(id).event);
    }
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'hourly', [C]: 'latest' });
    expect(world.receipt(C)).toMatchObject({ previous: B, newestOfClass: { monthly: A } });
    expect(world.writes.slice(-3)).toEqual([`receipts/${C}.json`, `tag ${C}=latest`, `tag ${B}=hourly`]);
  });

  test('is locked for the days that an on-demand backup asked for', async () => {
    const { event, stored } = world.backup(A, { trigger: { kind: 'on-demand', reason: null, keepDays: 90 } });
    await expect(world.verify(event)).resolves.toMatchObject({ class: 'on-demand' });
    expect(world.lockedDays(stored)).toBe(90);
    expect(world.receipt(A)).toMatchObject({ kind: 'on-demand', keepDays: 90 });
  });

  test('never has its lock shortened', async () => {
    const { event, stored } = world.backup(A);
    stored.lock = new Date('2036-01-01T00:00:00Z');
    await world.verify(event);
    expect(stored.lock).toEqual(new Date('2036-01-01T00:00:00Z'));
  });

  test('gets its findings into the receipt and one metric each', async () => {
    world.reader = () =>
      snapshotFacts({
        kubernetes: {
          objects: 9000,
          kubeSystemUid: 'uid-1',
          kubeSystemEncrypted: false,
          secrets: { total: 40, plainText: 3 },
        },
      });
    await expect(
      world.verify(world.backup(A, { result: { findings: ['leader-changed', 'made-up', 'made-up-too'] } }).event),
    ).resolves.toMatchObject({
      findings: ['secrets-in-plain-text', 'leader-changed', 'made-up', 'made-up-too'],
    });
    expect(world.measured).toMatchObject({
      FindingSecretsInPlainText: [1],
      FindingLeaderChanged: [1],
      FindingUnknown: [1],
      // Secrets in plain text, and the two words that nobody knows here; the leader's change asks for nothing.
      FindingsToCorrect: [3],
      UrgentFindings: [0],
    });
  });

  test('has a receipt without namespaces when it would be too large with them', async () => {
    const namespaces = Array.from({ length: 20_000 }, (_, number) => ({
      namespace: `namespace-with-a-rather-long-name-${String(number)}`,
      objects: 1,
      bytes: 1,
    }));
    const { inventory } = snapshotFacts();
    world.reader = () =>
      snapshotFacts({
        inventory: { ...inventory, kinds: [{ kind: 'pods', objects: 20_000, bytes: 20_000, namespaces }] },
      });
    await expect(world.verify(world.backup(A).event)).resolves.toMatchObject({ findings: ['inventory-shortened'] });
    expect(world.receipt(A).inventory.kinds).toEqual([
      { kind: 'pods', objects: 20_000, bytes: 20_000, namespaces: [] },
    ]);
  });
});

describe('a backup that is not what it has to be is tagged failed, with every reason', () => {
  const bad = async (backup: Backup, ...reasons: RegExp[]) => {
    const put = world.backup(A, backup);
    await expect(world.verify(put.event)).rejects.toThrow(failed(...reasons));
    expect(put.stored.tag).toBe('failed');
    expect(world.writes).toEqual([`tag ${A}=failed`]);
    expect(world.measured).toMatchObject({ Verified: [0], VerifyFailed: [1] });
    expect(world.lines.filter(({ phase }) => phase === 'verify')).toEqual([
      expect.objectContaining({
        message: 'phase failed',
        reasons: reasons.map((reason) => expect.stringMatching(reason) as unknown),
      }),
    ]);
    expect(world.diskIsEmpty).toBe(true);
  };
  const other = Buffer.from(fileOf(B));
  const announcedSize = (body: Buffer) => ({ result: { compressedSize: body.length }, body });

  test('stored bytes of another length are not even read', async () => {
    await bad({ body: Buffer.alloc(10) }, /^stored-bytes: length of the object: got 10, expected \d+ as the node/);
    expect(world.reads).toBe(0);
  });

  test('bytes of another file', async () => {
    await bad(
      announcedSize(zstdCompressSync(other)),
      /^stored-sha256: /,
      /^compressed-sha256: SHA-256 of what was read: got [0-9a-f]{64}, expected [0-9a-f]{64} as the node announced/,
      /^sha256: /,
    );
  });

  test('bytes that no decoder takes', async () => {
    const body = Buffer.alloc(1000, 7);
    await bad(announcedSize(body), /^bad-compression: compressed file, byte 0: got 07070707/);
  });

  test('a snapshot that S3 stored without a checksum, or with that of other bytes', async () => {
    await bad({ checksum: Buffer.alloc(32).toString('base64') }, /^stored-sha256: .*got 0{64}, expected/);
  });

  test('fewer decompressed bytes than announced', async () => {
    await bad({ result: { size: 256_033 } }, /^size: decompressed bytes: got 256032, expected 256033/);
  });

  test('another hash before and after compression', async () => {
    await bad({ result: { sha256: 'b'.repeat(64) } }, /^sha256: /);
  });

  test('damage that the reader finds', async () => {
    world.reader = () => {
      throw new SnapshotDamagedError('bad-trailer', 'trailer: got this, expected that');
    };
    await bad({}, /^bad-trailer: trailer: got this, expected that$/);
  });

  test('another hash, revision, number of keys and size than the tool on the node saw', async () => {
    await bad(
      { result: { hash: 1, revision: 2, totalKey: 3, totalSize: 4 } },
      /^hash: hash of the database: got 2912345678, expected 1 as/,
      /^revision: revision: got 123456, expected 2 as/,
      /^total-key: keys \(live keys, as tools from 3.6 count\): got 9876, expected 3 as/,
      /^total-size: bytes of the database: got 49999872, expected 4 as/,
    );
  });

  test.each<[string, Backup, RegExp]>([
    ['has no signature', { signature: '' }, /^unsigned: signature of announcements\/.*: got/],
    ['is signed by another key', { signature: 'AAAA' }, /^unsigned: signature of .*: got one that .* did not make/],
    ['is not named', { metadata: { announcement: 'announcements/x' } }, /^unsigned: metadata 'announcement' of/],
    ['has other bytes', { metadata: { 'announcement-sha256': 'b' } }, /^unsigned: .*got no version with SHA-256 b/],
    ["is another cluster's", { cluster: 'prod' }, /^unsigned: cluster in .*: got 'prod', expected 'lab'/],
    ["is another bucket's", { announcement: { bucket: 'x' } }, /^unsigned: bucket in .*: got 'x', expected 'lab-b/],
    ["is another key's", { announcement: { key: 'x' } }, /^unsigned: key in .*: got 'x', expected 'snapshots/],
    ["is another backup's", { announcement: { backupId: B } }, /^unsigned: backupId in .*: got '20261120T15/],
  ])('a snapshot whose announcement %s', async (_, backup, reason) => {
    await bad(backup, reason);
    expect(world.reads).toBe(0);
  });

  test('another cluster under the same name, and a revision that went back', async () => {
    await world.verify(world.backup(A).event);
    world.reader = () =>
      snapshotFacts({
        revision: 100,
        mvcc: { tombstones: 0, compactedRevision: null },
        kubernetes: { ...snapshotFacts().kubernetes, kubeSystemUid: 'uid-2' },
      });
    const put = world.backup(B, { result: { revision: 100 } });
    await expect(world.verify(put.event)).rejects.toThrow(
      failed(
        /^identity-changed: UID of the namespace kube-system: got another, expected the one in the receipt of 20261120T14/,
        /^revision-went-back: revision: got 100, expected at least 123456/,
      ),
    );
    expect(world.tags).toEqual({ [A]: 'latest', [B]: 'failed' });
    expect(world.measured).toMatchObject({ FindingIdentityChanged: [1], FindingRevisionWentBack: [1] });
  });
});

describe('trouble that says nothing about the snapshot leaves it pending', () => {
  test('a signed announcement is of a version that this function does not read', async () => {
    const { event, stored } = world.backup(A, { announcement: { schema: 2 as 1 } });
    await expect(world.verify(event)).rejects.toMatchObject({
      name: 'AnnouncementVersionError',
      message: expect.stringMatching(/deploy the newest version, and verify the backup again/) as unknown,
    });
    expect([stored.tag, world.measured]).toEqual(['pending', {}]);
  });

  test('S3 does not say what it computed, and says it later', async () => {
    const { event, stored } = world.backup(A);
    const { checksum } = stored;
    stored.checksum = undefined;
    await expect(world.verify(event)).rejects.toMatchObject({
      name: 'StoreError',
      message: expect.stringMatching(/got no x-amz-checksum-sha256/) as unknown,
    });
    expect(stored.tag).toBe('pending');
    stored.checksum = checksum;
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'verified' });
  });

  test('KMS is down', async () => {
    const { event, stored } = world.backup(A);
    world.kmsDown = true;
    await expect(world.verify(event)).rejects.toMatchObject({ name: 'SigningKeyError' });
    expect([stored.tag, world.writes, world.measured]).toEqual(['pending', [], {}]);
  });

  test('the connection keeps breaking', async () => {
    const { event, stored } = world.backup(A);
    world.breaks = Array<number>(20).fill(0);
    await expect(world.verify(event)).rejects.toMatchObject({ name: 'StoreError' });
    expect([stored.tag, world.writes, world.diskIsEmpty]).toEqual(['pending', [], true]);
  });

  test('the reader meets a disk that fails', async () => {
    const { event, stored } = world.backup(A);
    world.reader = () => {
      throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    };
    await expect(world.verify(event)).rejects.toMatchObject({ code: 'EIO' });
    expect([stored.tag, world.writes, world.diskIsEmpty]).toEqual(['pending', [], true]);
  });

  test('S3 forbids to read', async () => {
    const { event, stored } = world.backup(A);
    world.s3Mock.on(GetObjectCommand).rejects(Object.assign(new Error('no'), { name: 'AccessDenied' }));
    await expect(world.verify(event)).rejects.toMatchObject({ name: 'StoreError' });
    expect(stored.tag).toBe('pending');
  });
});

describe('the same event again', () => {
  test('reads nothing, writes nothing and measures nothing', async () => {
    const { event, stored } = world.backup(A);
    await world.verify(event);
    const writes = [...world.writes];
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'known', versionId: stored.versionId });
    expect([world.reads, world.writes, world.measured['Verified']]).toEqual([1, writes, [1]]);
  });

  test('late, after others, moves no tag', async () => {
    const { event } = world.backup(A);
    await world.verify(event);
    await world.verify(world.backup(B).event);
    const tags = world.tags;
    await world.verify(event);
    expect(world.tags).toEqual(tags);
  });

  test('side by side: one receipt stands', async () => {
    const { event } = world.backup(A);
    const outcomes = await Promise.all([
      world.verify(event),
      new Promise((resolve) => setImmediate(resolve)).then(() => {
        // Each execution environment has a disk of its own.
        world.change = { directory: `${world.directory}-2` };
        return world.verify(event);
      }),
    ]);
    expect(outcomes.map(({ outcome }) => outcome).sort()).toEqual(['known', 'verified']);
    expect(world.writes.filter((write) => write.startsWith('receipts/'))).toHaveLength(1);
    expect(world.tags).toEqual({ [A]: 'latest' });
  });

  test('after a refusal comes to the same refusal, which is counted once; and passes when it was not the snapshot', async () => {
    const { event } = world.backup(A, { result: { hash: 1 } });
    for (let delivery = 0; delivery < 3; delivery++) {
      await expect(world.verify(event)).rejects.toThrow(failed(/^hash: /));
    }
    expect(world.tags).toEqual({ [A]: 'failed' });
    expect([world.measured['VerifyFailed'], world.measured['Verified']]).toEqual([[1], [0]]);

    world.reader = () => snapshotFacts({ hash: 1 });
    await expect(world.verify({ backupId: A })).resolves.toMatchObject({ outcome: 'verified' });
    expect(world.tags).toEqual({ [A]: 'latest' });
  });
});

describe('what is proven is never tagged failed', () => {
  test('by a run that began before another one had proven it', async () => {
    await world.verify(world.backup(A).event);
    const { event } = world.backup(B);
    // In the middle of this run, another delivery of the event proves the version.
    const provenMeanwhile = async () => {
      world.change = {};
      await world.verify(event);
      return snapshotFacts({ hash: 1 });
    };
    world.change = { readSnapshot: provenMeanwhile as never };
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'known', backupId: B });
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'latest' });
    expect(world.writes).not.toContain(`tag ${B}=failed`);
  });

  test('when its receipt and its announcement cannot be trusted any more', async () => {
    const { event } = world.backup(A);
    await world.verify(event);
    await world.verify(world.backup(B).event);
    world.change = {
      receiptKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/another',
      announcementKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/another-one',
    };
    for (const again of [event, { backupId: A }]) {
      await expect(world.verify(again)).rejects.toMatchObject({
        name: 'ReceiptError',
        message: expect.stringMatching(
          /got the tag 'monthly', which only a proven version has.*unsigned: .*; the tag stays: /,
        ) as unknown,
      });
    }
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'latest' });
  });

  test('when only its announcement is gone: its receipt says enough', async () => {
    await world.verify(world.backup(A).event);
    world.change = { announcementKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/another' };
    await expect(world.verify({ backupId: A })).resolves.toMatchObject({ outcome: 'known' });
    expect(world.tags).toEqual({ [A]: 'latest' });
  });
});

describe('history', () => {
  test('that begins anew with another receipt key is a finding, and does not read receipts without end', async () => {
    for (let hour = 0; hour < 60; hour++) {
      world.put(
        `receipts/20261118T${String(hour % 24).padStart(2, '0')}${String(hour).padStart(2, '0')}00Z.json`,
        Buffer.from('{}'),
        {},
      );
    }
    const { event } = world.backup(A);
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'verified', findings: ['receipt-untrusted'] });
    const receipts = world.s3Mock
      .commandCalls(GetObjectCommand)
      .filter(({ args }) => args[0].input.Key?.startsWith('receipts/') === true);
    expect(receipts.length).toBeLessThan(60);
  });

  test('is held against what was known last, past backups that do not know who they are', async () => {
    await world.verify(world.backup(A).event);
    const { kubernetes } = snapshotFacts();
    world.reader = () =>
      snapshotFacts({ kubernetes: { ...kubernetes, kubeSystemUid: null, kubeSystemEncrypted: true } });
    await world.verify(world.backup(B).event);
    expect(world.receipt(B)).toMatchObject({
      identity: { kubeSystemUid: null },
      knownIdentity: { kubeSystemUid: 'uid-1' },
      compared: { identity: true, revision: true },
    });
    world.reader = () => snapshotFacts({ kubernetes: { ...kubernetes, kubeSystemUid: 'uid-2' } });
    await expect(world.verify(world.backup(C).event)).rejects.toThrow(failed(/^identity-changed: /));
  });

  test('that a later backup contradicts is a finding of the earlier one', async () => {
    world.reader = () => snapshotFacts({ revision: 100, mvcc: { tombstones: 0, compactedRevision: null } });
    await world.verify(world.backup(B, { result: { revision: 100, liveRevision: 100 } }).event);
    world.reader = () => snapshotFacts();
    await expect(world.verify(world.backup(A).event)).resolves.toMatchObject({
      outcome: 'verified',
      findings: ['revision-went-back'],
    });
  });

  test('of which nothing was compared does not say that it was', async () => {
    await world.verify(world.backup(A).event);
    expect(world.receipt(A).compared).toEqual({ identity: false, revision: false });
    world.change = { acknowledgedTimelines: [B] };
    await world.verify(world.backup(B).event);
    expect(world.receipt(B)).toMatchObject({ previous: A, compared: { identity: false, revision: false } });
  });
});

describe('a lock or tag that is refused', () => {
  const denied = (what: typeof PutObjectRetentionCommand | typeof PutObjectTaggingCommand, id: string) => {
    world.s3Mock
      .on(what as typeof PutObjectTaggingCommand, { Key: `snapshots/${id}.db.zst` })
      .rejects(Object.assign(new Error('denied'), { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } }));
  };

  test('keeps no other backup from its own, is told at the end, and hides not that this one is proven', async () => {
    await world.verify(world.backup(A).event);
    const onDemand = world.backup(B, { trigger: { kind: 'on-demand', reason: null, keepDays: 90 } });
    await world.verify(onDemand.event);
    onDemand.stored.lock = undefined;
    denied(PutObjectRetentionCommand, B);
    const { event } = world.backup(C);
    await expect(world.verify(event)).rejects.toMatchObject({
      name: 'SettleError',
      message: expect.stringMatching(
        /tags and locks of 1 versions: got StoreError: PutObjectRetention .*20261120T15/,
      ) as unknown,
    });
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'latest', [C]: 'latest' });
    expect(world.measured['Verified']).toEqual([1, 1, 1]);
  });

  test('of the newest leaves the one before it latest', async () => {
    await world.verify(world.backup(A).event);
    denied(PutObjectTaggingCommand, B);
    await expect(world.verify(world.backup(B).event)).rejects.toMatchObject({ name: 'SettleError' });
    expect(world.tags).toEqual({ [A]: 'latest', [B]: 'pending' });
  });
});

describe('a function that dies', () => {
  /** Two backups are settled; then one runs, dies after so many writes, and either is retried or followed by the next. */
  const settled = async () => {
    await world.verify(world.backup(A).event);
    await world.verify(world.backup(B).event);
    world.writes.length = 0;
    return world.backup(C, { trigger: { kind: 'on-demand', reason: null, keepDays: 90 } });
  };

  test('writes the receipt, the lock, latest, and last the class of the one before', async () => {
    await world.verify((await settled()).event);
    expect(world.writes).toEqual([`receipts/${C}.json`, `lock ${C}`, `tag ${C}=latest`, `tag ${B}=hourly`]);
  });

  test.each([1, 2, 3, 4])('after write %i is healed by its retry', async (writes) => {
    const { event, stored } = await settled();
    world.diesAfterWrites = writes;
    await expect(world.verify(event)).rejects.toThrow(/killed/);
    expect(Object.values(world.tags)).toContain('latest');
    world.diesAfterWrites = Infinity;
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'known' });
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'hourly', [C]: 'latest' });
    expect(world.lockedDays(stored)).toBe(90);
    expect(world.reads).toBe(3);
  });

  test.each([1, 2, 3, 4])('after write %i, for good, is healed by the next backup', async (writes) => {
    const { event, stored } = await settled();
    world.diesAfterWrites = writes;
    await expect(world.verify(event)).rejects.toThrow(/killed/);
    world.diesAfterWrites = Infinity;
    await world.verify(world.backup('20261120T170000Z').event);
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'hourly', [C]: 'on-demand', '20261120T170000Z': 'latest' });
    expect(world.lockedDays(stored)).toBe(90);
  });

  test('leaves nothing on the disk that the next run keeps', async () => {
    const { event } = world.backup(A);
    world.reader = (file) => {
      expect(existsSync(join(world.directory, 'left.db'))).toBe(false);
      expect(existsSync(file)).toBe(true);
      return snapshotFacts();
    };
    const put = world.backup(B);
    await world.verify(event);
    mkdirSync(world.directory, { recursive: true });
    writeFileSync(join(world.directory, 'left.db'), 'x');
    await world.verify(put.event);
    expect(world.diskIsEmpty).toBe(true);
  });
});

describe('versions', () => {
  test('a delete marker and a later version hide nothing, and are findings', async () => {
    const { event, stored } = world.backup(A);
    world.deleteMarker(stored.key);
    const later = world.put(stored.key, Buffer.from('other'), {}, { tag: 'pending' });
    await expect(world.verify(event)).resolves.toMatchObject({
      outcome: 'verified',
      versionId: stored.versionId,
      findings: ['delete-marker', 'other-version'],
    });
    expect(stored.tag).toBe('latest');
    await expect(world.verify(later.event)).rejects.toThrow(
      failed(/^verified-version-exists: version v4: got another than the one that was verified, expected v2/),
    );
    expect([stored.tag, later.stored.tag]).toEqual(['latest', 'failed']);
  });

  test('a later version that comes first is refused, and the signed one is verified', async () => {
    const { event, stored } = world.backup(A);
    const later = world.put(stored.key, stored.bytes, stored.metadata, { tag: 'pending' });
    await expect(world.verify(later.event)).rejects.toThrow(
      failed(/^later-version: version v3: got one that is later than the signed version v2/),
    );
    await world.verify(event);
    expect([stored.tag, later.stored.tag]).toEqual(['latest', 'failed']);
  });

  test('an older one that nobody signed does not count', async () => {
    const first = world.put(`snapshots/${A}.db.zst`, Buffer.from('other'), {}, { tag: 'pending' });
    const { event, stored } = world.backup(A);
    await expect(world.verify(event)).resolves.toMatchObject({
      versionId: stored.versionId,
      findings: ['other-version'],
    });
    await expect(world.verify(first.event)).rejects.toThrow(
      failed(/^verified-version-exists/, /^unsigned: metadata 'announcement'/),
    );
    expect(world.stored.filter(({ key }) => key.startsWith('snapshots/')).map(({ tag }) => tag)).toEqual([
      'failed',
      'latest',
    ]);
  });

  test('the announcement is found under whatever was put over it', async () => {
    const { event } = world.backup(A);
    world.deleteMarker(`announcements/${A}.json`);
    world.put(`announcements/${A}.json`, Buffer.from('{}'), {});
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'verified' });
  });

  test('every object is read by its version', async () => {
    await world.verify(world.backup(A).event);
    await world.verify(world.backup(B).event);
    // The bucket of these tests answers no request for an object without one.
    expect(world.s3Mock.commandCalls(GetObjectCommand).length).toBeGreaterThan(3);
    for (const { args } of [
      ...world.s3Mock.commandCalls(GetObjectCommand),
      ...world.s3Mock.commandCalls(GetObjectTaggingCommand),
      ...world.s3Mock.commandCalls(PutObjectTaggingCommand),
    ]) {
      expect(args[0].input).toMatchObject({
        VersionId: expect.any(String) as string,
        ExpectedBucketOwner: '000000000000',
      });
    }
  });

  test('a version that is not there is refused before anything is called bad', async () => {
    world.backup(A);
    await expect(
      world.verify(objectCreated({ key: `snapshots/${A}.db.zst`, versionId: 'gone' })),
    ).rejects.toMatchObject({ name: 'EventError' });
    expect(world.writes).toEqual([]);
  });
});

describe('by hand', () => {
  test('verifies a pending backup by its id', async () => {
    const { stored } = world.backup(A);
    await expect(world.verify({ backupId: A })).resolves.toMatchObject({
      outcome: 'verified',
      versionId: stored.versionId,
    });
  });

  test('verifies a failed backup again once what was wrong is corrected', async () => {
    await world.verify(world.backup(A).event);
    world.reader = () => snapshotFacts({ kubernetes: { ...snapshotFacts().kubernetes, kubeSystemUid: 'uid-2' } });
    await expect(world.verify(world.backup(B).event)).rejects.toThrow(failed(/^identity-changed/));
    world.change = { acknowledgedTimelines: ['20261120T143000Z'] };
    await expect(world.verify({ backupId: B })).resolves.toMatchObject({ outcome: 'verified' });
    expect(world.receipt(B).timeline).toBe('20261120T143000Z');
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'latest' });
  });

  test('takes the oldest signed version of several', async () => {
    world.put(`snapshots/${A}.db.zst`, Buffer.from('other'), {}, { tag: 'pending' });
    const { stored } = world.backup(A);
    world.put(stored.key, stored.bytes, stored.metadata, { tag: 'pending' });
    await expect(world.verify({ backupId: A })).resolves.toMatchObject({ versionId: stored.versionId });
  });

  test('refuses an id without a snapshot', async () => {
    await expect(world.verify({ backupId: A })).rejects.toMatchObject({
      name: 'EventError',
      problems: [`backupId: got ${A}, expected what is in the bucket; there are 0 versions of this backup`],
    });
  });
});

describe('out of order', () => {
  test('an older backup gets its class and not latest, and is held against what is older than it', async () => {
    const older = world.backup(B);
    await world.verify(world.backup(A).event);
    await world.verify(world.backup(C).event);
    await expect(world.verify(older.event)).resolves.toMatchObject({ class: 'hourly' });
    expect(world.tags).toEqual({ [B]: 'hourly', [A]: 'monthly', [C]: 'latest' });
    expect(world.receipt(B).previous).toBe(A);
  });

  test('an older backup leaves the class of its period to the one that was verified first', async () => {
    const older = world.backup(A);
    await expect(world.verify(world.backup(B).event)).resolves.toMatchObject({ class: 'monthly' });
    await expect(world.verify(older.event)).resolves.toMatchObject({ class: 'hourly' });
  });

  test('the first of a day and of a week that is verified gets the class', async () => {
    const classes: string[] = [];
    for (const id of [
      '20261101T230000Z',
      '20261102T000000Z',
      '20261102T010000Z',
      '20261103T000000Z',
      '20261103T010000Z',
      '20261109T000000Z',
      '20261201T000000Z',
    ]) {
      classes.push((await world.verify(world.backup(id).event)).class);
    }
    expect(classes).toEqual(['monthly', 'weekly', 'hourly', 'daily', 'hourly', 'weekly', 'monthly']);
  });
});

describe('receipts of others', () => {
  const forge = (key: string) => {
    const stored = world.stored.find((one) => one.key === key);
    const bytes = Buffer.from(stored?.bytes.toString().replace('"hash":2912345678', '"hash":1') ?? '');
    world.stored.splice(world.stored.indexOf(stored as never), 1);
    return world.put(key, bytes, stored?.metadata ?? {});
  };

  test('with a changed byte is passed over, and that is a finding', async () => {
    await world.verify(world.backup(A).event);
    await world.verify(world.backup(B).event);
    forge(`receipts/${B}.json`);
    await expect(world.verify(world.backup(C).event)).resolves.toMatchObject({ findings: ['receipt-untrusted'] });
    expect(world.receipt(C)).toMatchObject({
      previous: A,
      findings: [{ sentence: expect.stringMatching(/1 newer receipts were passed over.*did not make/) as unknown }],
    });
  });

  test('in the place of this one is never called ours', async () => {
    await world.verify(world.backup(B).event);
    world.put(`receipts/${A}.json`, Buffer.from('{}'), {});
    const put = world.backup(A);
    await expect(world.verify(put.event)).rejects.toMatchObject({
      name: 'ReceiptError',
      message: expect.stringMatching(/got an object that is no receipt of ours/) as unknown,
    });
    expect(put.stored.tag).toBe('pending');
  });

  test('over ours does not hide it', async () => {
    const { event } = world.backup(A);
    await world.verify(event);
    world.deleteMarker(`receipts/${A}.json`);
    world.put(`receipts/${A}.json`, Buffer.from('{}'), {});
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'known' });
  });
});

describe('after a restore', () => {
  const restored: SnapshotFacts = snapshotFacts({ revision: 99, mvcc: { tombstones: 0, compactedRevision: null } });

  test('revisions begin anew, the cluster stays the same', async () => {
    await world.verify(world.backup(A).event);
    world.put('restores/20261120T143000Z.json', Buffer.from('{}'), {});
    world.reader = () => restored;
    await expect(world.verify(world.backup(B, { result: { revision: 99 } }).event)).resolves.toMatchObject({
      outcome: 'verified',
    });
    expect(world.receipt(B).timeline).toBe('20261120T143000Z');
    world.reader = () => ({ ...restored, kubernetes: { ...restored.kubernetes, kubeSystemUid: 'uid-2' } });
    world.put('restores/20261120T153000Z.json', Buffer.from('{}'), {});
    await expect(world.verify(world.backup(C, { result: { revision: 99 } }).event)).rejects.toThrow(
      failed(/^identity-changed/),
    );
  });
});

const sorted = (record: object): object =>
  Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));

describe('a pre-restore backup', () => {
  const RESTORE = '20261120T145900Z';
  const preRestore: Backup = { trigger: { kind: 'pre-restore', restoreId: RESTORE } };
  const record = (id: string) => world.put(`restores/${id}.json`, Buffer.from('{}'), {});

  test('is of the timeline that its restore ended, also when that is on record, and never latest', async () => {
    await world.verify(world.backup(A).event);
    const { event } = world.backup(B, preRestore);
    record(RESTORE);
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'verified', class: 'pre-restore' });
    expect(world.receipt(B)).toMatchObject({
      kind: 'pre-restore',
      restoreId: RESTORE,
      keepDays: null,
      timeline: 'first',
      previous: A,
      compared: { identity: true, revision: false },
      findings: [],
    });
    expect(world.tags).toEqual({ [A]: 'latest', [B]: 'pre-restore' });
  });

  test('is not held by its revision or keys: a survivor may be behind', async () => {
    await world.verify(world.backup(A).event);
    world.reader = () =>
      snapshotFacts({
        revision: 1000,
        mvcc: { tombstones: 0, compactedRevision: 900 },
        totalKey: { rows: 10, live: 10 },
      });
    const { event } = world.backup(B, {
      ...preRestore,
      result: { revision: 1000, totalKey: 10, liveRevision: 1000, leaderId: '0' },
    });
    await expect(world.verify(event)).resolves.toMatchObject({ outcome: 'verified', findings: [] });
  });

  test('of another cluster is not verified', async () => {
    await world.verify(world.backup(A).event);
    const other = snapshotFacts();
    world.reader = () => ({ ...other, kubernetes: { ...other.kubernetes, kubeSystemUid: 'uid-2' } });
    await expect(world.verify(world.backup(B, preRestore).event)).rejects.toEqual(failed(/^identity-changed: /));
  });

  test('is never what a later backup is held against', async () => {
    await world.verify(world.backup(A).event);
    const higher = snapshotFacts({ revision: 500_000 });
    world.reader = () => higher;
    await world.verify(world.backup(B, { ...preRestore, result: { revision: 500_000 } }).event);
    world.reader = () => snapshotFacts();
    // The restore failed and left no record: the same timeline goes on, lower than what was saved of one member.
    await expect(world.verify(world.backup(C).event)).resolves.toMatchObject({ outcome: 'verified', findings: [] });
    expect(world.receipt(C)).toMatchObject({ previous: A, compared: { identity: true, revision: true } });
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'pre-restore', [C]: 'latest' });
  });

  test('is never what an earlier one that is verified late is held against: the next ordinary one is', async () => {
    const late = world.backup(A);
    await world.verify(world.backup(B, preRestore).event);
    world.reader = () => snapshotFacts({ revision: 1000, mvcc: { tombstones: 0, compactedRevision: null } });
    await world.verify(world.backup(C, { result: { revision: 1000, liveRevision: 1000 } }).event);
    world.reader = () => snapshotFacts();
    await expect(world.verify(late.event)).resolves.toMatchObject({ findings: ['revision-went-back'] });
    expect(world.receipt(A).findings[0]?.sentence).toContain(`1000 in ${C}`);
  });

  test('of a restore that was done leaves the first backup after it on the new timeline, held by identity alone', async () => {
    await world.verify(world.backup(A).event);
    await world.verify(world.backup(B, preRestore).event);
    record(RESTORE);
    world.reader = () => snapshotFacts({ revision: 99 + 1_000_000_000 });
    await world.verify(world.backup(C, { result: { revision: 99 + 1_000_000_000 } }).event);
    expect(world.receipt(C)).toMatchObject({
      timeline: RESTORE,
      previous: A,
      compared: { identity: true, revision: false },
      class: 'hourly',
    });
    expect(world.receipt(C)).not.toHaveProperty('restoreId');
    expect(world.tags).toEqual({ [A]: 'monthly', [B]: 'pre-restore', [C]: 'latest' });
  });
});

test("the receipt names Kubernetes' nodes, which what a restore brings back is held against", async () => {
  await world.verify(world.backup(A).event);
  expect(world.receipt(A).inventory.nodes).toEqual(['ip-10-0-0-1.ec2.internal']);
});
