import { PutObjectCommand } from '@aws-sdk/client-s3';
import { DescribeInstancesCommand } from '@aws-sdk/client-ec2';
import { membersBefore, secondsForNode } from '../../../lambda/backup/backup';
import { EXIT_CODES } from '../../../lambda/shared/exit-codes';
import {
  ANNOUNCEMENT_KEY_ARN,
  type Answer,
  Cloud,
  hex,
  NODE_1,
  NODE_2,
  NODE_3,
  refusal,
  scheduled,
  SNAPSHOT_KEY_ARN,
  snapshotResult,
  undelivered,
} from './cloud';

const TRIGGER = scheduled('2026-11-20T14:00:00Z');
const ID = '20261120T140000Z';

const success = (change: Parameters<typeof snapshotResult>[1] = {}, seconds = 5): Answer => ({
  seconds,
  status: 'Success',
  responseCode: 0,
  stdout: JSON.stringify(snapshotResult(ID, change)),
});

describe('a scheduled backup', () => {
  test('stores one snapshot, announced and signed, by two commands on one follower', async () => {
    const cloud = new Cloud();

    await expect(cloud.backup(TRIGGER)).resolves.toEqual({
      outcome: 'stored',
      backupId: ID,
      key: `snapshots/${ID}.db.zst`,
      announcement: `announcements/${ID}.json`,
      instanceId: NODE_1,
      revision: 123_456,
      compressedBytes: 9_000_000,
    });
    expect(
      cloud.commands.map(({ document, version, instanceId, comment, timeoutSeconds }) => ({
        document,
        version,
        instanceId,
        comment,
        timeoutSeconds,
      })),
    ).toEqual([
      { document: 'Snapshot-1A2B', version: '1', instanceId: NODE_1, comment: ID, timeoutSeconds: 30 },
      { document: 'Upload-3C4D', version: '1', instanceId: NODE_1, comment: ID, timeoutSeconds: 30 },
    ]);
    expect(cloud.sent('Snapshot')[0]?.parameters).toEqual({
      BackupId: ID,
      ClusterName: 'lab',
      RestoreId: '',
      MembersBefore: '0',
      ToolPins: '',
      ToolUrls: '',
    });
    expect(cloud.keys('')).toEqual([
      `announcements/${ID}.json`,
      `announcements/${ID}.started.json`,
      `snapshots/${ID}.db.zst`,
    ]);
    const announcement = cloud.objects.get(`announcements/${ID}.json`);
    const signature = cloud.sign(Buffer.from(hex(announcement?.bytes.toString() ?? ''), 'hex')).toString('base64');
    expect(announcement?.metadata).toEqual({ signature });
    expect(cloud.objects.get(`snapshots/${ID}.db.zst`)?.metadata).toEqual({
      'backup-id': ID,
      sha256: hex(`compressed ${ID}`),
      announcement: `announcements/${ID}.json`,
      'announcement-sha256': hex(announcement?.bytes.toString() ?? ''),
      'announcement-signature': signature,
      revision: '123456',
      hash: '2912345678',
      'total-key': '9876',
      'snapshot-size': '50000032',
      'etcd-version': '3.6.5',
      cluster: 'lab',
    });
  });

  test('asks no node for anything when the claim is refused, and the error has the words of S3 and no node', async () => {
    const cloud = new Cloud();
    const refused = { name: 'KMS.DisabledException', $metadata: { httpStatusCode: 400 } };
    cloud.s3Mock.on(PutObjectCommand).rejects(Object.assign(new Error('the key is disabled'), refused));

    const error: unknown = await cloud.backup(TRIGGER).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      name: 'StoreError',
      message: expect.stringMatching(
        `PutObject s3://lab-backups/announcements/${ID}\\.started\\.json: .*KMS\\.DisabledException.*the key is disabled`,
      ) as string,
    });
    expect(String(error)).not.toMatch(/\bi-[0-9a-f]+/);
    expect(cloud.commands).toEqual([]);
    expect(cloud.keys('')).toEqual([]);
  });

  test('writes what it puts itself with our key, our account, its SHA-256, and never over another object', async () => {
    const cloud = new Cloud();
    await cloud.backup(TRIGGER);

    const puts = cloud.s3Mock.commandCalls(PutObjectCommand).map(({ args }) => args[0].input);
    expect(puts.map(({ Key }) => Key)).toEqual([`announcements/${ID}.started.json`, `announcements/${ID}.json`]);
    for (const { Body, ...input } of puts) {
      expect(input).toMatchObject({
        Bucket: 'lab-backups',
        ServerSideEncryption: 'aws:kms',
        SSEKMSKeyId: SNAPSHOT_KEY_ARN,
        IfNoneMatch: '*',
        ExpectedBucketOwner: '000000000000',
        ChecksumSHA256: Buffer.from(hex((Body as Buffer).toString()), 'hex').toString('base64'),
        ContentLength: (Body as Buffer).length,
      });
    }
  });

  test('writes one log line per phase, and measures durations, bytes, revision, ratio, nodes and findings', async () => {
    const cloud = new Cloud();
    await cloud.backup(TRIGGER);

    expect(cloud.lines.map(({ message, phase }) => `${message} ${phase}`)).toEqual([
      'phase done identify',
      'phase done previous',
      'phase done nodes',
      'phase done claim',
      'phase done snapshot',
      'phase done announce',
      'phase done upload',
    ]);
    const measured = Object.fromEntries(cloud.measured.map(({ name, value }) => [name, value]));
    expect(measured).toEqual({
      BackupSeconds: 9,
      SnapshotBytes: 50_000_032,
      CompressedBytes: 9_000_000,
      CompressedRatio: 9_000_000 / 50_000_032,
      Revision: 123_456,
      // The tool's hash is on no list yet.
      Findings: 1,
      LeaderChanges: 0,
      WalFsyncP99Seconds: 0.004,
      CertificateDaysLeft: 200,
      NodesTried: 1,
      published: 1,
    });
    expect(cloud.measured.at(-1)?.name).toBe('published');
  });

  test('stores gzip under .db.gz, and leaves out metadata that a node without status tool does not know', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [
      success({ compression: 'gzip', hash: null, revision: null, totalKey: null, totalSize: null }),
    ];

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ key: `snapshots/${ID}.db.gz`, revision: null });
    const metadata = cloud.objects.get(`snapshots/${ID}.db.gz`)?.metadata ?? {};
    expect(Object.keys(metadata)).not.toEqual(expect.arrayContaining(['hash']));
    expect(metadata['sha256']).toBe(hex(`compressed ${ID}`));
  });
});

describe('the same trigger', () => {
  test('delivered again after the backup is a success that sends nothing', async () => {
    const cloud = new Cloud();
    await cloud.backup(TRIGGER, { requestId: 'first' });
    cloud.time.advance(30);

    await expect(cloud.backup(TRIGGER, { requestId: 'second' })).resolves.toEqual({
      outcome: 'exists',
      backupId: ID,
      key: `snapshots/${ID}.db.zst`,
    });
    expect(cloud.commands).toHaveLength(2);
  });

  test('delivered twice at the same moment makes one command of each kind and one object, and both succeed', async () => {
    const cloud = new Cloud();

    const results = await cloud.invoke({ event: TRIGGER, requestId: 'first' }, { event: TRIGGER, requestId: 'second' });

    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(cloud.sent('Snapshot')).toHaveLength(1);
    expect(cloud.sent('Upload')).toHaveLength(1);
    expect(cloud.keys('snapshots/')).toHaveLength(1);
    expect(cloud.keys('announcements/')).toHaveLength(2);
  });

  test('delivered three times at the same moment, with the same request id twice, still makes one command of each kind', async () => {
    const cloud = new Cloud();

    const results = await cloud.invoke(
      { event: TRIGGER, requestId: 'first' },
      { event: TRIGGER, requestId: 'first' },
      { event: TRIGGER, requestId: 'second' },
    );

    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
    expect(cloud.sent('Snapshot')).toHaveLength(1);
    expect(cloud.sent('Upload')).toHaveLength(1);
  });

  test('delivered twice while the first node fails asks the second node once', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [refusal(41, 'no-quorum')];

    const results = await cloud.invoke({ event: TRIGGER, requestId: 'first' }, { event: TRIGGER, requestId: 'second' });

    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(cloud.sent('Snapshot').map(({ instanceId }) => instanceId)).toEqual([NODE_1, NODE_2]);
    expect(cloud.sent('Upload')).toHaveLength(1);
    expect(cloud.json(`announcements/${ID}.json`)['earlierCommands']).toEqual([
      { instanceId: NODE_1, commandId: cloud.commands[0]?.commandId, error: 'no-quorum' },
    ]);
  });

  test('whose winner died between claim and command is taken over after a minute', async () => {
    const cloud = new Cloud();
    const claim = {
      backupId: ID,
      requestId: 'dead',
      startedAt: '2026-11-20T14:00:00Z',
      trigger: { kind: 'schedule', scheduledTime: '2026-11-20T14:00:00Z' },
    };
    cloud.objects.set(`announcements/${ID}.started.json`, { bytes: Buffer.from(JSON.stringify(claim)), metadata: {} });
    const started = cloud.time.now().getTime();

    await expect(cloud.backup(TRIGGER, { requestId: 'second' })).resolves.toMatchObject({ outcome: 'stored' });

    const waited = ((cloud.sent('Snapshot')[0]?.at.getTime() ?? 0) - started) / 1000;
    expect(waited).toBeGreaterThanOrEqual(60);
    expect(waited).toBeLessThan(65);
  });
});

describe('a function that runs out of time', () => {
  test('throws at 60 s left and names the phase; the retry attaches, and one command of each kind is sent', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [success({}, 1000)];

    await expect(cloud.backup(TRIGGER, { requestId: 'same' })).rejects.toMatchObject({
      name: 'TimeLeftError',
      phase: 'snapshot',
      message: expect.stringMatching(
        /^phase snapshot: (60|5\d) s .* expected more than 60; the asynchronous retry attaches/,
      ) as unknown,
    });
    expect(cloud.time.now().toISOString() <= '2026-11-20T14:14:06Z').toBe(true);
    cloud.time.advance(60);
    await expect(cloud.backup(TRIGGER, { requestId: 'same' })).resolves.toMatchObject({ outcome: 'stored' });

    expect(cloud.sent('Snapshot')).toHaveLength(1);
    expect(cloud.sent('Upload')).toHaveLength(1);
    expect(cloud.keys('announcements/')).toEqual([`announcements/${ID}.json`, `announcements/${ID}.started.json`]);
  });

  test('during the upload leaves it running; the retry attaches to it and announces nothing new', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [
      {
        seconds: 850,
        status: 'Success',
        responseCode: 0,
        stdout: JSON.stringify({ ok: true, backupId: ID, compressedSize: 9_000_000, seconds: 849 }),
      },
    ];

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'TimeLeftError', phase: 'upload' });
    cloud.time.advance(60);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({
      outcome: 'stored',
      announcement: `announcements/${ID}.json`,
    });

    expect(cloud.commands).toHaveLength(2);
  });

  test('during the upload of a second node: the retry comes to the same announcement, and attaches', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [refusal(43, 'fewer-members')];
    cloud.uploads[NODE_2] = [
      {
        seconds: 850,
        status: 'Success',
        responseCode: 0,
        stdout: JSON.stringify({ ok: true, backupId: ID, compressedSize: 9_000_000, seconds: 849 }),
      },
    ];

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'TimeLeftError', phase: 'upload' });
    cloud.time.advance(60);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({
      outcome: 'stored',
      announcement: `announcements/${ID}.json`,
      instanceId: NODE_2,
    });
    expect(cloud.commands).toHaveLength(3);
  });

  test('does not begin on another node when the time left is less than the last backup needed', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [{ ...refusal(60, 'save-failed'), seconds: 740 }];

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'TimeLeftError',
      message: expect.stringMatching(
        /expected 169 for a backup by the next node; the asynchronous retry asks it; so far: i-00000000000000001: save-failed \(60\)/,
      ) as unknown,
    });
    cloud.time.advance(60);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });

  test('asks its first node however little more than 60 s is left', async () => {
    const cloud = new Cloud();
    await expect(cloud.backup(TRIGGER, { seconds: 100 })).resolves.toMatchObject({ outcome: 'stored' });
  });
});

describe('an on-demand backup', () => {
  test('takes its id from the clock, to the second, and keeps its reason and days', async () => {
    const cloud = new Cloud('2026-11-20T14:23:45.678Z');

    await expect(cloud.backup({ reason: 'before the upgrade', keepDays: 30 })).resolves.toMatchObject({
      backupId: '20261120T142345Z',
    });
    expect(cloud.json('announcements/20261120T142345Z.json')['trigger']).toEqual({
      kind: 'on-demand',
      reason: 'before the upgrade',
      keepDays: 30,
    });
  });

  test('keeps its id when the same invocation is retried', async () => {
    const cloud = new Cloud('2026-11-20T14:23:45Z');
    cloud.snapshots[NODE_1] = [{ ...success({}, 1000), stdout: JSON.stringify(snapshotResult('20261120T142345Z')) }];

    await expect(cloud.backup({}, { requestId: 'mine' })).rejects.toMatchObject({ name: 'TimeLeftError' });
    cloud.time.advance(120);

    await expect(cloud.backup({}, { requestId: 'mine' })).resolves.toMatchObject({ backupId: '20261120T142345Z' });
    expect(cloud.sent('Snapshot')).toHaveLength(1);
  });

  test('of another invocation is another backup', async () => {
    const cloud = new Cloud('2026-11-20T14:23:45Z');
    await cloud.backup({}, { requestId: 'one' });
    cloud.time.advance(5);

    const second = await cloud.backup({}, { requestId: 'two' });

    expect(second).toMatchObject({ outcome: 'stored' });
    expect(cloud.keys('snapshots/')).toHaveLength(2);
  });
});

describe('fall-over', () => {
  const codes = EXIT_CODES.filter(({ code }) => code < 70 || code === 99);

  test.each(codes.filter(({ then }) => then === 'next node'))(
    'asks the next node after $name ($code)',
    async ({ code, name }) => {
      const cloud = new Cloud();
      cloud.snapshots[NODE_1] = [refusal(code, name)];

      await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
      expect(cloud.measured.find(({ name: metric }) => metric === 'NodesTried')?.value).toBe(2);
    },
  );

  test.each(codes.filter(({ then }) => then === 'stop'))(
    'asks no other node after $name ($code)',
    async ({ code, name }) => {
      const cloud = new Cloud();
      cloud.snapshots[NODE_1] = [refusal(code, name, 'got 1 member, expected 3; find out why')];

      await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
        name: 'BackupRefusedError',
        message: expect.stringContaining(
          `${NODE_1}: ${name} (${String(code)}): got 1 member, expected 3; find out why`,
        ) as unknown,
      });
      expect(cloud.commands).toHaveLength(1);
    },
  );

  test("throws with every node's reason when all of them fail", async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [refusal(41, 'no-quorum')];
    cloud.snapshots[NODE_2] = [refusal(50, 'disk')];
    cloud.snapshots[NODE_3] = [refusal(42, 'learner')];

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'AllNodesFailedError',
      failures: [
        expect.stringContaining(`${NODE_1}: no-quorum (41): `) as unknown,
        expect.stringContaining(`${NODE_2}: disk (50): `) as unknown,
        expect.stringContaining(`${NODE_3}: learner (42): `) as unknown,
      ],
    });
    expect(cloud.lines.at(-1)).toMatchObject({ message: 'phase failed', phase: 'snapshot' });
    expect(cloud.measured.at(-1)?.name).toBe('published');
  });

  test('tries all nodes once more when the function is retried, the ones that failed first, first', async () => {
    const cloud = new Cloud();
    for (const node of [NODE_1, NODE_2, NODE_3]) {
      cloud.snapshots[node] = [refusal(41, 'no-quorum')];
    }
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'AllNodesFailedError' });
    cloud.time.advance(60);

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_1 });
    expect(cloud.sent('Snapshot')).toHaveLength(4);
  });

  test('asks the next node when SSM calls an instance invalid', async () => {
    const cloud = new Cloud();
    cloud.invalid.add(NODE_1);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });

  test('asks the next node when no agent takes the command within the delivery timeout', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [undelivered()];
    const started = cloud.time.now().getTime();

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
    const waited = ((cloud.sent('Snapshot')[1]?.at.getTime() ?? 0) - started) / 1000;
    expect(waited).toBeGreaterThan(45);
    expect(waited).toBeLessThan(50);
  });

  test('asks the next node when the instance is gone while SSM still says InProgress', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [success({}, Infinity)];
    const all = cloud.instances.map((instance) => ({ Instances: [instance] }));
    cloud.ec2Mock
      .on(DescribeInstancesCommand)
      .resolvesOnce({ Reservations: all })
      .resolves({ Reservations: all.slice(1) });

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });

  test('asks the next node when SSM loses the agent while the command is InProgress', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [success({}, Infinity)];
    cloud.agents[0] = { InstanceId: NODE_1, AgentVersion: '3.3.2746.0', PingStatus: 'ConnectionLost' };
    for (const agent of cloud.agents.slice(1)) {
      cloud.snapshots[agent.InstanceId as string] = [refusal(41, 'no-quorum')];
    }
    // The node whose agent is lost comes last; when it was asked, waiting for it ends.
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      failures: [
        expect.stringContaining(NODE_2) as unknown,
        expect.stringContaining(NODE_3) as unknown,
        expect.stringMatching(
          /was InProgress when SSM had lost the agent of i-00000000000000001 \(ConnectionLost\)/,
        ) as unknown,
      ],
    });
  });

  test.each([
    ['nothing', '', /got 0 characters/],
    ['two lines', '{"ok":true}\n{"ok":true}\n', /expected exactly one JSON line/],
    ['a line that is cut', '{"ok":true,"backupId":"2026', /expected exactly one JSON line/],
    [
      'another backup',
      JSON.stringify(snapshotResult('20261120T130000Z')),
      /backupId in the result line: got 20261120T130000Z, expected 20261120T140000Z/,
    ],
    [
      'ids that are not hex',
      JSON.stringify(snapshotResult(ID, { memberId: '$(reboot)' })),
      /memberId: got "\$\(reboot\)", expected 1 to 16 lower-case hex digits/,
    ],
    [
      'a header in a version',
      JSON.stringify(snapshotResult(ID, { etcdVersion: '3.6.5\r\nx-amz-acl: public-read' })),
      /etcdVersion: got/,
    ],
  ])('counts a success with %s in its output as a failure', async (_, stdout, expected) => {
    const cloud = new Cloud();
    for (const node of [NODE_1, NODE_2, NODE_3]) {
      cloud.snapshots[node] = [{ seconds: 2, status: 'Success', responseCode: 0, stdout }];
    }
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'AllNodesFailedError',
      message: expect.stringMatching(expected) as unknown,
    });
    expect(cloud.sent('Upload')).toHaveLength(0);
  });

  test('says what SSM says when a script was killed', async () => {
    const cloud = new Cloud();
    const killed: Answer = {
      seconds: 2,
      status: 'TimedOut',
      statusDetails: 'ExecutionTimedOut',
      responseCode: 137,
      stdout: '',
      stderr: 'saving\n',
    };
    for (const node of [NODE_1, NODE_2, NODE_3]) {
      cloud.snapshots[node] = [killed];
    }
    await expect(cloud.backup(TRIGGER)).rejects.toThrow(
      /SSM says ExecutionTimedOut, exit status 137; .*stderr ends with 'saving'/,
    );
  });
});

describe('the upload', () => {
  test('that another node wins after a refusal is announced under the next number', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [refusal(70, 'upload-refused', 'S3 refused the upload with AccessDenied')];
    cloud.snapshots[NODE_2] = [success({ memberId: 'a2', memberName: 'cp2', compressedSha256: hex('of cp2') })];

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({
      instanceId: NODE_2,
      announcement: `announcements/${ID}.2.json`,
    });
    expect(cloud.objects.get(`snapshots/${ID}.db.zst`)?.metadata).toMatchObject({
      announcement: `announcements/${ID}.2.json`,
      sha256: hex('of cp2'),
    });
    expect(cloud.json(`announcements/${ID}.2.json`)).toMatchObject({
      instanceId: NODE_2,
      earlierCommands: [{ instanceId: NODE_1 }],
    });
  });

  test.each<[string, Answer]>([
    ['exists already (72)', refusal(72, 'upload-exists')],
    ['got no answer (73)', refusal(73, 'upload-failed')],
    ['was killed', { seconds: 2, status: 'TimedOut', responseCode: 137, stdout: '' }],
  ])('that %s is a success when the stored object has the announced SHA-256', async (_, answer) => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [{ ...answer, stores: true }];
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored', instanceId: NODE_1 });
  });

  test('that meets an object with other bytes throws and names both', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [
      {
        ...refusal(72, 'upload-exists'),
        onEnd: () => {
          cloud.objects.set(`snapshots/${ID}.db.zst`, {
            bytes: Buffer.alloc(0),
            metadata: { cluster: 'lab', sha256: hex('other'), announcement: `announcements/${ID}.2.json` },
          });
        },
      },
    ];

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'SnapshotConflictError',
      message: expect.stringMatching(
        new RegExp(
          `got an object with SHA-256 ${hex('other')} \\(announced in announcements/${ID}\\.2\\.json\\), expected ${hex(`compressed ${ID}`)} from ${NODE_1}`,
        ),
      ) as unknown,
    });
    expect(cloud.sent('Snapshot')).toHaveLength(1);
  });

  test('that a node claims and S3 does not have is a failure, and the next node is asked', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [
      {
        seconds: 2,
        status: 'Success',
        responseCode: 0,
        stdout: JSON.stringify({ ok: true, backupId: ID, compressedSize: 1, seconds: 1 }),
        stores: false,
      },
    ];
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });
});

describe('what the last backup tells', () => {
  const firstBackup = async (change: Parameters<typeof snapshotResult>[1] = {}): Promise<Cloud> => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    cloud.snapshots[NODE_1] = [{ ...success(), stdout: JSON.stringify(snapshotResult('20261120T130000Z', change)) }];
    await cloud.backup(scheduled('2026-11-20T13:00:00Z'), { requestId: 'first' });
    cloud.time.advance(3600);
    cloud.commands.length = 0;
    return cloud;
  };

  test('members go to the node as MembersBefore, tools as pins', async () => {
    const cloud = await firstBackup();
    await cloud.backup(TRIGGER);
    expect(cloud.sent('Snapshot')[0]?.parameters).toMatchObject({
      MembersBefore: '3',
      ToolPins: `3.6.5/amd64/etcdctl=${hex('etcdctl 3.6.5')}`,
    });
  });

  test('the leader of then is asked last', async () => {
    const cloud = await firstBackup({ leaderId: 'a1', isLeader: true });
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });

  test('a scale-down that is acknowledged lowers MembersBefore, and is a finding', async () => {
    const cloud = await firstBackup();
    cloud.acknowledgedMembers = 1;
    await cloud.backup(TRIGGER);
    expect(cloud.sent('Snapshot')[0]?.parameters).toMatchObject({ MembersBefore: '1' });
    expect(cloud.json(`announcements/${ID}.json`)['findings']).toEqual(['scale-down-acknowledged', 'tool-unknown']);
  });

  test.each([
    [
      'has no signature',
      { 'announcement-signature': undefined },
      /signature of announcements\/20261120T130000Z\.json: got none, expected one in base64/,
    ],
    [
      'has a signature by another key',
      { 'announcement-signature': Buffer.from('forged').toString('base64') },
      /got one that arn:aws:kms:.* did not make, expected that key's; find out in CloudTrail/,
    ],
    [
      'has another digest',
      { 'announcement-sha256': hex('other') },
      /got SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64} as the metadata/,
    ],
    [
      'is named by nobody',
      { announcement: undefined },
      /metadata 'announcement' of snapshots\/20261120T130000Z\.db\.zst: got none, expected/,
    ],
    [
      'is gone',
      { announcement: 'announcements/20261120T120000Z.json' },
      /announcements\/20261120T120000Z\.json: got no object, expected/,
    ],
  ])('is not trusted when its announcement %s: throws before any command', async (_, change, expected) => {
    const cloud = await firstBackup();
    const key = 'snapshots/20261120T130000Z.db.zst';
    const metadata = { ...cloud.objects.get(key)?.metadata, ...change };
    cloud.objects.set(key, {
      bytes: Buffer.alloc(0),
      metadata: Object.fromEntries(Object.entries(metadata).filter(([, value]) => value !== undefined)) as Record<
        string,
        string
      >,
    });

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'AnnouncementError',
      message: expect.stringMatching(expected) as unknown,
    });
    expect(cloud.commands).toHaveLength(0);
  });

  test('is found among many, and 34 days later', async () => {
    const cloud = await firstBackup();
    cloud.time.advance(34 * 24 * 3600);
    await cloud.backup({});
    expect(cloud.sent('Snapshot')[0]?.parameters['MembersBefore']).toBe('3');
  });
});

describe('nodes that cannot be asked', () => {
  test('throws when no instance has the tags', async () => {
    const cloud = new Cloud();
    cloud.instances.length = 0;
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'NoNodeError',
      message: expect.stringMatching(
        /tags \{"etcd-backup":"lab"\}: got none, expected the control-plane nodes of lab; correct controlPlaneTags/,
      ) as unknown,
    });
  });

  test('throws with each version when every agent is too old, and does not use one', async () => {
    const cloud = new Cloud();
    cloud.agents.splice(
      0,
      3,
      ...[NODE_1, NODE_2].map((InstanceId) => ({
        InstanceId,
        AgentVersion: '3.3.987.0',
        PingStatus: 'Online' as const,
      })),
    );
    await expect(cloud.backup(TRIGGER)).rejects.toThrow(
      /got none of 3, expected at least one; i-00000000000000001 has SSM agent 3\.3\.987\.0, expected 3\.3\.2746\.0 or newer: update the agent; i-00000000000000002 has SSM agent 3\.3\.987\.0.*; i-00000000000000003 is not registered with SSM/,
    );
    expect(cloud.commands).toHaveLength(0);
  });

  test('throws when EC2 does not answer, and says that there is no other way', async () => {
    const cloud = new Cloud();
    cloud.ec2Mock.on(DescribeInstancesCommand).rejects(new Error('Unavailable'));
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'NoNodeError',
      message: expect.stringMatching(
        /got Error: Unavailable, .*without the nodes' ids there is no other way/,
      ) as unknown,
    });
  });

  test('asks the node that failed last time after the others', async () => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    cloud.snapshots[NODE_1] = [refusal(60, 'save-failed')];
    cloud.snapshots[NODE_2] = [{ ...success(), stdout: JSON.stringify(snapshotResult('20261120T130000Z')) }];
    await cloud.backup(scheduled('2026-11-20T13:00:00Z'), { requestId: 'first' });
    cloud.time.advance(3600);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });
});

test.each([
  [undefined, 60 + 45 + 12.8 + 51.2],
  [{ sizeBytes: 400e6, compressedBytes: 100e6 }, 60 + 45 + 10 + 10],
  [{ sizeBytes: 8e9, compressedBytes: 2e9 }, 60 + 45 + 200 + 200],
])('a backup by one more node after %j needs %d s', (previous, expected) => {
  expect(secondsForNode(previous)).toBeCloseTo(expected);
});

test.each([
  [3, 0, 3],
  [3, 1, 1],
  [1, 3, 1],
  [0, 0, 0],
])('after %d members with %d acknowledged at least %d are expected', (before, acknowledged, expected) => {
  const previous = before === 0 ? undefined : { members: snapshotResult(ID).members.slice(0, before) };
  expect(membersBefore(previous, acknowledged)).toBe(expected);
});

test('signs with the announcement key', async () => {
  const cloud = new Cloud();
  await cloud.backup(TRIGGER);
  expect(cloud.kmsMock.calls()[0]?.args[0].input).toMatchObject({
    KeyId: ANNOUNCEMENT_KEY_ARN,
    MessageType: 'DIGEST',
    SigningAlgorithm: 'ECDSA_SHA_256',
  });
});
