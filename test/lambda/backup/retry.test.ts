import { DescribeInstancesCommand } from '@aws-sdk/client-ec2';
import { ListCommandsCommand, SendCommandCommand } from '@aws-sdk/client-ssm';
import {
  type Answer,
  Cloud,
  hex,
  NODE_1,
  NODE_2,
  NODE_3,
  refusal,
  scheduled,
  snapshotResult,
  undelivered,
} from './cloud';

const TRIGGER = scheduled('2026-11-20T14:00:00Z');
const ID = '20261120T140000Z';
const ALL = [NODE_1, NODE_2, NODE_3];

const success = (change: Parameters<typeof snapshotResult>[1] = {}, seconds = 5): Answer => ({
  seconds,
  status: 'Success',
  responseCode: 0,
  stdout: JSON.stringify(snapshotResult(ID, change)),
});

const named = (name: string): Error => Object.assign(new Error(name), { name });

/** A cluster whose 13:00 backup is stored, an hour later. */
async function afterFirstBackup(): Promise<Cloud> {
  const cloud = new Cloud('2026-11-20T13:00:05Z');
  await cloud.backup(scheduled('2026-11-20T13:00:00Z'), { requestId: 'first' });
  cloud.time.advance(3600);
  cloud.commands.length = 0;
  cloud.measured.length = 0;
  return cloud;
}

describe('a retry', () => {
  test('takes a new snapshot when every upload failed before', async () => {
    const cloud = new Cloud();
    for (const node of ALL) {
      cloud.uploads[node] = [refusal(73, 'upload-failed')];
    }
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'AllNodesFailedError' });
    cloud.time.advance(60);

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored', instanceId: NODE_1 });
    expect(cloud.sent('Snapshot')).toHaveLength(4);
    expect(cloud.sent('Upload')).toHaveLength(4);
  });

  test('asks a node afresh when what it attached to is not staged any more (74)', async () => {
    const cloud = new Cloud();
    cloud.instances.length = 1;
    cloud.snapshots[NODE_1] = [success({}, 1000)];
    cloud.uploads[NODE_1] = [refusal(74, 'nothing-staged')];
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'TimeLeftError' });
    cloud.time.advance(300);

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored', instanceId: NODE_1 });
    expect(cloud.sent('Snapshot')).toHaveLength(2);
  });

  test.each(['Pending', 'InProgress'])(
    'asks nodes afresh whose commands were not delivered and are %s in the list',
    async (status) => {
      const cloud = new Cloud();
      for (const node of ALL) {
        cloud.snapshots[node] = [undelivered()];
      }
      await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'AllNodesFailedError' });
      cloud.time.advance(60);
      cloud.ssmMock.on(ListCommandsCommand).callsFake((input: { Filters: { value: string }[] }) => ({
        Commands: cloud.commands
          .filter(({ document }) => document === input.Filters[0]?.value)
          .map((command) => ({
            CommandId: command.commandId,
            Comment: command.comment,
            InstanceIds: [command.instanceId],
            RequestedDateTime: command.at,
            Status: command.answer.undelivered === true ? status : command.finished ? 'Success' : 'InProgress',
          })),
      }));

      await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
      expect(cloud.sent('Snapshot')).toHaveLength(4);
    },
  );

  test('sends the upload again when it was not delivered', async () => {
    const cloud = new Cloud();
    cloud.instances.length = 1;
    cloud.uploads[NODE_1] = [undelivered()];
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'AllNodesFailedError' });
    cloud.time.advance(60);

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
    expect(cloud.sent('Snapshot')).toHaveLength(1);
    expect(cloud.sent('Upload')).toHaveLength(2);
  });

  test.each([
    [40, 'auth'],
    [64, 'too-large'],
  ])('throws the same error at once after a code that holds on every node (%d)', async (code, name) => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [refusal(code, name)];
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'BackupRefusedError' });
    cloud.time.advance(60);

    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'BackupRefusedError',
      message: expect.stringContaining(`${NODE_1}: ${name} (${String(code)})`) as unknown,
    });
    expect(cloud.commands).toHaveLength(1);
  });

  test('measures what its first run could not, and counts from the claim', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [{ ...refusal(73, 'upload-failed'), seconds: 850, stores: true }];
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'TimeLeftError' });
    cloud.time.advance(60);
    cloud.measured.length = 0;
    // Somebody looks, so that the virtual node's upload ends.
    await cloud.backup(TRIGGER, { requestId: 'other' });
    expect(cloud.measured.find(({ name }) => name === 'BackupSeconds')?.value).toBeGreaterThan(850);
    cloud.measured.length = 0;

    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'exists' });
    const names = cloud.measured.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['SnapshotBytes', 'CompressedBytes', 'CompressedRatio', 'Revision']));
    expect(names).not.toContain('BackupSeconds');
  });
});

describe('an upload', () => {
  test.each([
    [71, 'upload-expired'],
    [74, 'nothing-staged'],
    [12, 'already-running'],
  ])('that ends in %d (%s) is followed by the next node', async (code, name) => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [refusal(code, name)];
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
  });

  test('that ends in 12 waits for the upload that is running', async () => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = [
      {
        ...refusal(12, 'already-running'),
        onEnd: () => {
          // Another run's, which SSM lists only now.
          const mine = cloud.commands.at(-1);
          if (mine !== undefined) {
            const stdout = JSON.stringify({ ok: true, backupId: ID, compressedSize: 1, seconds: 1 });
            const answer = { seconds: 30, status: 'Success', responseCode: 0, stdout } as const;
            cloud.commands.push({ ...mine, commandId: 'theirs', finished: false, answer });
          }
        },
      },
    ];
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_1 });
    expect(cloud.sent('Snapshot')).toHaveLength(1);
  });

  test('is not begun beside an object of the other compression', async () => {
    const cloud = new Cloud();
    const other = { metadata: { cluster: 'lab', announcement: 'a' }, bytes: Buffer.alloc(0) };
    cloud.snapshots[NODE_1] = [{ ...success(), onEnd: () => cloud.objects.set(`snapshots/${ID}.db.gz`, other) }];
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'SnapshotConflictError' });
    expect(cloud.sent('Upload')).toHaveLength(0);
  });
});

test('a command that SSM throttles is sent again, any other error is not', async () => {
  const cloud = new Cloud();
  cloud.ssmMock.on(SendCommandCommand).rejects(named('TimeoutError'));
  await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'RunCommandError' });
  expect(cloud.ssmMock.commandCalls(SendCommandCommand)).toHaveLength(1);
  cloud.ssmMock.on(SendCommandCommand).rejects(named('ThrottlingException'));
  await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({ name: 'RunCommandError' });
  expect(cloud.ssmMock.commandCalls(SendCommandCommand)).toHaveLength(5);
});

test('throws when the command history has no end, instead of leaving some out', async () => {
  const cloud = new Cloud();
  cloud.ssmMock.on(ListCommandsCommand).resolves({ Commands: [], NextToken: 'more' });
  await expect(cloud.backup(TRIGGER)).rejects.toThrow(/got more than 50 pages/);
});

describe('while EC2 is disturbed', () => {
  test('a healthy run goes on waiting', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_1] = [success({}, 100)];
    const all = cloud.instances.map((instance) => ({ Instances: [instance] }));
    cloud.ec2Mock.on(DescribeInstancesCommand).resolvesOnce({ Reservations: all }).rejects(named('Unavailable'));
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_1 });
  });

  test('nodes are found by the ids of the last backup, which is a finding', async () => {
    const cloud = await afterFirstBackup();
    cloud.ec2Mock.on(DescribeInstancesCommand).callsFake(({ InstanceIds }: { InstanceIds?: string[] }) => {
      if (InstanceIds === undefined) {
        throw named('Unavailable');
      }
      if (InstanceIds[0] === NODE_1) {
        throw named('InvalidInstanceID.NotFound');
      }
      return { Reservations: [{ Instances: cloud.instances.filter((one) => one.InstanceId === InstanceIds[0]) }] };
    });
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ instanceId: NODE_2 });
    expect(cloud.json(`announcements/${ID}.json`)).toMatchObject({
      controlPlane: [NODE_2, NODE_3],
      findings: ['nodes-found-by-id', 'tool-unknown'],
    });
  });
});

describe('the bucket', () => {
  test('with one bad announcement: the one before counts, which is a finding', async () => {
    const cloud = await afterFirstBackup();
    const bad = { cluster: 'lab', announcement: 'announcements/20261120T133000Z.json' };
    cloud.objects.set('snapshots/20261120T133000Z.db.zst', { bytes: Buffer.alloc(0), metadata: bad });
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
    expect(cloud.sent('Snapshot')[0]?.parameters['MembersBefore']).toBe('3');
    expect(cloud.json(`announcements/${ID}.json`)['findings']).toEqual([
      'previous-announcement-untrusted',
      'tool-unknown',
    ]);
  });

  test.each([ID, '20261120T130000Z'])('with a snapshot %s of another cluster is refused as shared', async (id) => {
    const cloud = new Cloud();
    const metadata = { cluster: 'prod', announcement: `announcements/${id}.json` };
    cloud.objects.set(`snapshots/${id}.db.zst`, { bytes: Buffer.alloc(0), metadata });
    await expect(cloud.backup(TRIGGER)).rejects.toMatchObject({
      name: 'SharedBucketError',
      message: expect.stringContaining(`got 'prod', expected 'lab'; the bucket is shared`) as unknown,
    });
    expect(cloud.commands).toHaveLength(0);
  });

  test('with a snapshot of a later time: it is not the last backup', async () => {
    const cloud = new Cloud();
    cloud.objects.set('snapshots/20991120T140000Z.db.zst', { bytes: Buffer.alloc(0), metadata: {} });
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
  });
});

test('a node that failed days ago is asked last, as the last announcement says', async () => {
  const cloud = new Cloud();
  cloud.snapshots[NODE_1] = [refusal(60, 'save-failed')];
  await cloud.backup(TRIGGER);
  cloud.time.advance(24 * 3600);
  await expect(cloud.backup({}, { requestId: 'next' })).resolves.toMatchObject({ instanceId: NODE_2 });
});

test('a tool that is acknowledged is pinned beside the known one, and using it is a finding', async () => {
  const cloud = await afterFirstBackup();
  const sha256 = hex('new build');
  cloud.acknowledgedTools = [sha256];
  cloud.snapshots[NODE_1] = [
    success({ tools: [{ name: 'etcdctl', version: '3.6.5', arch: 'amd64', sha256, source: 'image' }] }),
  ];
  await cloud.backup(TRIGGER);
  expect(cloud.sent('Snapshot')[0]?.parameters['ToolPins']).toBe(
    `3.6.5/amd64/etcdctl=${hex('etcdctl 3.6.5')} 3.6.5/amd64/etcdctl=${sha256}`,
  );
  expect(cloud.json(`announcements/${ID}.json`)['findings']).toEqual(['tool-acknowledged', 'tool-unknown']);
});
