import { GetObjectCommand, HeadObjectCommand, ListObjectVersionsCommand, type S3Client } from '@aws-sdk/client-s3';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { FleetNode, Outcome } from '../../lab/aws/aws';
import { s3Client } from '../../lab/aws/s3';
import type { LabNode } from '../../lab/nodes/lab-node';
import { etcdTools, etcdVersion } from '../../lab/nodes/tools';
import { type Lab, type LabOptions, startLab } from '../../lab/start-lab';

// The whole path on real parts: schedule, function, SSM document, etcd with TLS, S3.

let lab: Lab;
let s3: S3Client;
let bucket: string;
let hour = 0;

async function bringUp(options: LabOptions): Promise<void> {
  lab = await startLab({
    cdkOut: process.env['CDK_OUT'] as string,
    ...options,
    // A second of a delivery timeout is 0.1 s here; retries follow after a second.
    aws: { lambda: { retryDelaysMs: [1000, 1000] }, ssm: { deliverySecondMs: 100 } },
  });
  s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  bucket = lab.aws.outputs.get('BucketName') ?? '';
  const first = lab.controlPlane.nodes[0] as LabNode;
  for (let i = 0; i < 50; i += 1) {
    await first.etcdctl(['put', `/registry/configmaps/default/object-${String(i)}`, 'x'.repeat(20_000)]);
  }
}

async function takeDown(): Promise<void> {
  s3.destroy();
  await lab.down();
}

/** A trigger time that no other test uses. */
function nextHour(): Date {
  hour += 1;
  return new Date(Date.UTC(2026, 10, 20, 0, 0, 0) + hour * 3_600_000);
}

function idOf(time: Date): string {
  return time.toISOString().replace(/[-:]|\.000/g, '');
}

async function fire(time: Date, options: { timeoutSeconds?: number } = {}): Promise<Outcome> {
  const delivery = await lab.aws.fireSchedule(undefined, { scheduledTime: time, ...options });
  if (!delivery.delivered) {
    throw delivery.error;
  }
  return delivery.invocation.done;
}

async function mustSucceed(time: Date): Promise<Record<string, unknown>> {
  const outcome = await fire(time);
  if (!outcome.ok) {
    throw new Error(JSON.stringify(outcome.error));
  }
  return outcome.result as Record<string, unknown>;
}

function commandsOf(time: Date, step: 'Snapshot' | 'Upload' | 'Tools') {
  return lab.aws.commands.commands.filter(({ comment, document }) => comment === idOf(time) && document.step === step);
}

async function versionsOf(prefix: string) {
  const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix }));
  return Versions;
}

/** Downloads a snapshot and holds it, with etcd's own tool, against its metadata. */
async function expectProven(time: Date, etcd: '3.5' | '3.6' | '3.7'): Promise<Record<string, string>> {
  const versions = await versionsOf(`snapshots/${idOf(time)}`);
  expect(versions).toHaveLength(1);
  const Key = String(versions[0]?.Key);
  const object = await s3.send(new GetObjectCommand({ Bucket: bucket, Key }));
  const stored = Buffer.from((await object.Body?.transformToByteArray()) ?? []);
  const file = join(lab.dir, 'proof.db');
  writeFileSync(file, Key.endsWith('.zst') ? zstdDecompressSync(stored) : gunzipSync(stored));
  const status = JSON.parse(
    execFileSync(etcdTools(etcd).etcdutl, ['snapshot', 'status', '-w', 'json', file], { encoding: 'utf8' }),
  ) as Record<string, number>;
  rmSync(file);
  const metadata = object.Metadata ?? {};
  expect(object.SSEKMSKeyId).toBe(lab.aws.outputs.get('SnapshotKeyArn'));
  expect({ hash: metadata.hash, revision: metadata.revision, totalKey: metadata['total-key'] }).toEqual({
    hash: String(status.hash),
    revision: String(status.revision),
    totalKey: String(status.totalKey),
  });
  return metadata;
}

function fleetOf(node: LabNode): FleetNode {
  const found = lab.fleet.find(({ instanceId }) => instanceId === node.instanceId);
  if (found === undefined) {
    throw new Error(`no ${node.instanceId} in the fleet`);
  }
  return found;
}

function nodeOf(instanceId: unknown): LabNode {
  const found = lab.controlPlane.nodes.find((node) => node.instanceId === instanceId);
  if (found === undefined) {
    throw new Error(`no node ${String(instanceId)}`);
  }
  return found;
}

function s3Port(): number {
  return Number(new URL(lab.aws.endpoints.s3).port);
}

describe('a backup of three members', () => {
  beforeAll(() => bringUp({ name: 'back36', members: 3, etcd: '3.6' }));
  afterAll(takeDown);

  test('goes from the schedule to one encrypted, locked object whose metadata etcdutl confirms', async () => {
    const time = nextHour();
    expect(await mustSucceed(time)).toMatchObject({
      outcome: 'stored',
      backupId: idOf(time),
      key: `snapshots/${idOf(time)}.db.zst`,
    });
    await expectProven(time, '3.6');
    const head = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: `snapshots/${idOf(time)}.db.zst` }));
    expect(head).toMatchObject({ ServerSideEncryption: 'aws:kms', ObjectLockMode: 'GOVERNANCE' });
    const metrics = lab.aws.metrics.filter(({ namespace }) => namespace === 'EtcdBackup');
    expect(metrics.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'SnapshotSeconds',
        'UploadSeconds',
        'SnapshotBytes',
        'Revision',
        'CompressedRatio',
        'NodesTried',
      ]),
    );
    expect(metrics[0]?.dimensions).toEqual({ cluster: 'lab' });
  });

  test("has put the tools of its member's image into the bucket, by hash and once", async () => {
    const tools = await versionsOf('tools/');
    const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');
    const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';
    expect(tools.map(({ Key, Size }) => [Key, Size])).toEqual(
      (['etcd', 'etcdctl', 'etcdutl'] as const)
        .map((name) => [name, etcdTools('3.6')[name]] as const)
        .map(([name, file]) => [
          `tools/${etcdVersion('3.6')}/${arch}/${sha256(file)}/${name}`,
          readFileSync(file).length,
        ])
        .sort(),
    );
    expect(lab.aws.metrics.map(({ name }) => name)).not.toContain('FindingToolsNotKept');
    const time = nextHour();
    await mustSucceed(time);
    expect(commandsOf(time, 'Tools')).toEqual([]);
  });

  test('asks a follower rather than the leader once it knows who leads', async () => {
    const { instanceId } = await mustSucceed(nextHour());
    expect(instanceId).not.toBe((await lab.controlPlane.leader()).instanceId);
  });

  test('is one object and one command when the schedule is delivered twice', async () => {
    const time = nextHour();
    expect(await mustSucceed(time)).toMatchObject({ outcome: 'stored' });
    expect(await mustSucceed(time)).toMatchObject({ outcome: 'exists' });
    expect(commandsOf(time, 'Snapshot')).toHaveLength(1);
    expect(await versionsOf(`snapshots/${idOf(time)}`)).toHaveLength(1);
  });

  test('is one object and one command when the schedule is delivered three times at the same moment', async () => {
    const time = nextHour();
    const outcomes = await Promise.all([fire(time), fire(time), fire(time)]);
    expect(outcomes.map(({ ok, attempts }) => [ok, attempts.length])).toEqual(Array(3).fill([true, 1]));
    expect(commandsOf(time, 'Snapshot')).toHaveLength(1);
    expect(commandsOf(time, 'Upload')).toHaveLength(1);
    expect(await versionsOf(`snapshots/${idOf(time)}`)).toHaveLength(1);
    await expectProven(time, '3.6');
  });

  test('stops at 60 s left and says in which phase; its retry attaches to the same command', async () => {
    const time = nextHour();
    // A snapshot that takes longer than the three seconds before the last sixty.
    const slow = lab.fleet.map((node) => {
      const spawn = node.spawn.bind(node);
      node.spawn = (argv, options) =>
        spawn(
          'SSM_MembersBefore' in options.env ? ['bash', '-c', 'sleep 4; exec "$@"', 'bash', ...argv] : argv,
          options,
        );
      return () => {
        node.spawn = spawn;
      };
    });
    const outcome = await fire(time, { timeoutSeconds: 63 });
    slow.forEach((undo) => {
      undo();
    });
    expect(outcome.ok).toBe(true);
    expect(outcome.attempts.length).toBeGreaterThan(1);
    expect(outcome.attempts[0]?.error).toMatchObject({
      errorType: 'TimeLeftError',
      errorMessage: expect.stringContaining('phase ') as string,
    });
    expect(commandsOf(time, 'Snapshot')).toHaveLength(1);
    await expectProven(time, '3.6');
  });

  test('goes on after the function was killed: the retry attaches to the same command', async () => {
    const time = nextHour();
    const delivery = await lab.aws.fireSchedule(undefined, { scheduledTime: time });
    if (!delivery.delivered) {
      throw delivery.error;
    }
    while (commandsOf(time, 'Snapshot').length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    delivery.invocation.kill();
    const outcome = await delivery.invocation.done;
    expect(outcome.attempts.map(({ ok }) => ok)).toEqual([false, true]);
    expect(commandsOf(time, 'Snapshot')).toHaveLength(1);
    await expectProven(time, '3.6');
  });

  test('falls over to the next node when the first one is cut off from the others', async () => {
    const time = nextHour();
    const { instanceId } = await mustSucceed(nextHour());
    const usual = nodeOf(instanceId);
    await usual.linkDown();
    try {
      const result = await mustSucceed(time);
      expect(result.instanceId).not.toBe(usual.instanceId);
      const [refused] = commandsOf(time, 'Snapshot');
      expect(refused?.invocations[0]).toMatchObject({ instanceId: usual.instanceId, responseCode: 41 });
    } finally {
      await usual.linkUp();
      await lab.controlPlane.waitHealthy();
    }
    await expectProven(time, '3.6');
  });

  test('does not ask the node first that failed last', async () => {
    const [failed] = lab.aws.commands.commands
      .filter(({ invocations }) => invocations[0]?.status === 'Failed')
      .slice(-1);
    const { instanceId } = await mustSucceed(nextHour());
    expect(instanceId).not.toBe(failed?.invocations[0]?.instanceId);
  });

  test('falls over to the next node when the first one cannot reach S3, with an announcement of its own', async () => {
    const time = nextHour();
    const { instanceId } = await mustSucceed(nextHour());
    const usual = nodeOf(instanceId);
    await usual.unforward(s3Port());
    try {
      expect((await mustSucceed(time)).instanceId).not.toBe(usual.instanceId);
    } finally {
      await usual.forward(s3Port());
    }
    const metadata = await expectProven(time, '3.6');
    expect(metadata.announcement).toBe(`announcements/${idOf(time)}.2.json`);
    expect(await usual.must(['ls', '-A', '/var/lib/etcd-backup'])).toBe('lock\n');
  });

  test('does not use an agent older than 3.3.2746.0, and fails with its version when there is no other', async () => {
    const versions = lab.fleet.map(({ agentVersion }) => agentVersion);
    const first = lab.fleet[0] as FleetNode;
    first.agentVersion = '3.3.2745.9';
    expect((await mustSucceed(nextHour())).instanceId).not.toBe(first.instanceId);
    lab.fleet.forEach((node) => {
      node.agentVersion = '3.3.987.0';
    });
    try {
      const outcome = await fire(nextHour());
      expect(outcome.ok).toBe(false);
      expect(outcome.error?.errorType).toBe('NoNodeError');
      expect(outcome.error?.errorMessage).toContain('3.3.987.0');
      expect(outcome.error?.errorMessage).toContain('3.3.2746.0');
      // Three attempts, then the on-failure destination: the failure is not lost.
      expect(outcome.attempts).toHaveLength(3);
      expect(JSON.stringify(outcome.failureMessage)).toContain('NoNodeError');
    } finally {
      lab.fleet.forEach((node, index) => {
        node.agentVersion = versions[index] ?? '';
      });
    }
  });

  test('goes to the next node when an agent does not answer', async () => {
    const { instanceId } = await mustSucceed(nextHour());
    const silent = nodeOf(instanceId);
    lab.aws.commands.stopAgent(silent.instanceId);
    try {
      expect((await mustSucceed(nextHour())).instanceId).not.toBe(silent.instanceId);
    } finally {
      lab.aws.commands.startAgent(silent.instanceId);
    }
  });

  test("is refused by S3 when the key is disabled, before any node is asked for a snapshot, and the error has S3's words", async () => {
    const key = lab.aws.outputs.get('SnapshotKeyArn') ?? '';
    const time = nextHour();
    lab.aws.keys.setEnabled(key, false);
    try {
      const outcome = await fire(time);
      expect(outcome.ok).toBe(false);
      expect(outcome.error?.errorMessage).toMatch(/KMS|key|disabled/i);
      // What S3 or KMS refuse is told as theirs, and no node is to blame.
      expect(outcome.error?.errorMessage).toContain(`s3://${bucket}/`);
      expect(outcome.error?.errorMessage).not.toMatch(/\bi-[0-9a-f]+/);
      expect(commandsOf(time, 'Snapshot')).toEqual([]);
    } finally {
      lab.aws.keys.setEnabled(key, true);
    }
  });

  test('can be asked for on demand, with an id of the clock', async () => {
    const fn = lab.aws.outputs.get('BackupFunctionName') ?? '';
    const { ok, result } = await lab.aws.invoke(fn, { reason: 'before the upgrade', keepDays: 30 }).done;
    expect(ok).toBe(true);
    expect(result).toMatchObject({ outcome: 'stored', backupId: expect.stringMatching(/^\d{8}T\d{6}Z$/) as string });
  });

  test('is refused on a wiped first node that came back as an empty cluster, and taken from the others', async () => {
    await mustSucceed(nextHour());
    const wiped = lab.controlPlane.node('cp1');
    // Cut off first: the others still know this member, and their messages would crash it.
    await wiped.linkDown();
    await wiped.wipe();
    await lab.controlPlane.waitHealthy([wiped]);
    const others = lab.controlPlane.nodes.filter((node) => node !== wiped);
    others.forEach((node) => {
      fleetOf(node).pingStatus = 'ConnectionLost';
      lab.aws.commands.stopAgent(node.instanceId);
    });
    const refused = await fire(nextHour());
    expect(refused.ok).toBe(false);
    expect(JSON.stringify(refused.failureMessage)).toContain('fewer-members');
    others.forEach((node) => {
      fleetOf(node).pingStatus = 'Online';
      lab.aws.commands.startAgent(node.instanceId);
    });
    await wiped.linkUp();
    const time = nextHour();
    const { instanceId } = await mustSucceed(time);
    expect(others.map((node) => node.instanceId)).toContain(instanceId);
    await expectProven(time, '3.6');
  });
});

describe.each([
  ['3.5', 'whose image has no etcdutl', { etcd: '3.5', etcdutlInImage: false }],
  ['3.6', 'with IPv6 addresses and host names in its URLs', { etcd: '3.6', ipFamily: 6, hostNames: true }],
  ['3.7', 'whose image has etcdutl', { etcd: '3.7', etcdutlInImage: true }],
] as const)('a backup of etcd %s %s', (etcd, _what, options) => {
  beforeAll(() => bringUp({ name: `matrix${etcd.replace('.', '')}`, members: 3, ...options }));
  afterAll(takeDown);

  test('is proven, on leader and follower', async () => {
    const leader = await lab.controlPlane.leader();
    for (const only of [leader, lab.controlPlane.nodes.find((node) => node !== leader) as LabNode]) {
      lab.fleet.forEach((node) => {
        node.agentVersion = node.instanceId === only.instanceId ? '3.3.3050.0' : '3.3.1.0';
      });
      const time = nextHour();
      expect(await mustSucceed(time)).toMatchObject({ instanceId: only.instanceId });
      await expectProven(time, etcd);
    }
  });
});
