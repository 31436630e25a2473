import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { Outcome } from '../../lab/aws/aws';
import { freePort } from '../../lab/aws/process';
import { s3Client } from '../../lab/aws/s3';
import { loadData } from '../../lab/nodes/load';
import { etcdTools, type EtcdMinor } from '../../lab/nodes/tools';
import { type Lab, startLab } from '../../lab/start-lab';
import type { Answer, Order } from '../../lambda/drill-run/order';
import { drillRun } from '../../lambda/drill-run/run';
import { type DrillRecord, readDrillRecord } from '../../lambda/shared/drill-record';
import type { Receipt } from '../../lambda/shared/receipt';
import { readSnapshot } from '../../lambda/shared/snapshot/read-snapshot';

// Stored backups that are really restored: with the binaries that a backup left in the bucket, by the two functions of the synthesized stack.

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';

const quiet = { info: () => undefined, error: () => undefined };

/** The work of drill-run without its function, in a directory of the test's own. */
const runIn = (directory: string, order: Order): Promise<Answer> =>
  drillRun({ directory, fetch, sleep, arch: process.arch, log: quiet }, order, () => 120_000);

describe('the drill', () => {
  const backupTime = new Date('2026-03-06T01:00:00Z');
  const backupId = '20260306T010000Z';
  let lab: Lab;
  let s3: S3Client;
  let bucket: string;
  let receipt: Receipt;
  let day = 6;

  const output = (name: string): string => {
    const value = lab.aws.outputs.get(name);
    if (value === undefined) {
      throw new Error(`the stack has no output ${name}, expected one of ${[...lab.aws.outputs.keys()].join(', ')}`);
    }
    return value;
  };

  const scheduleOf = (prefix: string): string => {
    const found = [...lab.aws.resources.keys()].find((id) => new RegExp(`^${prefix}[0-9A-F]{8}$`).test(id));
    if (found === undefined) {
      throw new Error(`schedule ${prefix}: got none, expected it in the template`);
    }
    return found;
  };

  const fire = async (schedule: string, scheduledTime: Date): Promise<Outcome> => {
    const delivery = await lab.aws.fireSchedule(scheduleOf(schedule), { scheduledTime });
    if (!delivery.delivered) {
      throw delivery.error;
    }
    return delivery.invocation.done;
  };

  const nextDay = (): Date => new Date(Date.UTC(2026, 2, ++day, 4, 30));

  const idOf = (time: Date): string => time.toISOString().replace(/[-:]|\.000/g, '');

  const versionsOf = async (prefix: string) => {
    const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix }));
    return Versions.map(({ Key = '', VersionId = '' }) => ({ Key, VersionId }));
  };

  const bytesOf = async (version: { Key: string; VersionId?: string }): Promise<Buffer> => {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, ...version }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  };

  const recordOf = async (time: Date): Promise<DrillRecord> => {
    const key = `drills/${idOf(time)}.json`;
    expect(await versionsOf(key)).toHaveLength(1);
    return readDrillRecord(key, await bytesOf({ Key: key }));
  };

  const toolVersion = async (name: string) => {
    const [found, ...others] = (await versionsOf('tools/')).filter(({ Key }) => Key.endsWith(`/${name}`));
    if (found === undefined || others.length > 0) {
      throw new Error(`versions of ${name}: got ${String(others.length)} more, expected the one of the backup`);
    }
    return found;
  };

  const remove = (version: { Key: string; VersionId: string }) =>
    s3.send(new DeleteObjectCommand({ Bucket: bucket, ...version, BypassGovernanceRetention: true }));

  const put = (Key: string, Body: Buffer) => s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));

  const metricsFrom = (from: number) =>
    Object.fromEntries(
      lab.aws.metrics.slice(from).flatMap(({ name, value }) => (name.startsWith('Drill') ? [[name, value]] : [])),
    );

  /** What drill would tell drill-run, with URLs of whoever may read everything. */
  const order = async (change: { snapshot?: Partial<Order['snapshot']> } = {}): Promise<Order> => {
    const urlOf = (Key: string, VersionId?: string) =>
      getSignedUrl(
        s3,
        new GetObjectCommand({ Bucket: bucket, Key, ...(VersionId === undefined ? {} : { VersionId }) }),
        {
          expiresIn: 300,
        },
      );
    const tools = await Promise.all(
      (['etcd', 'etcdctl', 'etcdutl'] as const).map(async (name) => {
        const bytes = readFileSync(etcdTools('3.6')[name]);
        const { Key, VersionId } = await toolVersion(name);
        return { name, url: await urlOf(Key, VersionId), bytes: bytes.length, sha256: sha256(bytes) };
      }),
    );
    const { compression, compressedBytes, compressedSha256, sizeBytes, key, versionId, snapshot } = receipt;
    return {
      drillId: '20260306T050000Z',
      arch,
      tools,
      bump: 1_000_000_000,
      keysPerPage: 500,
      snapshot: {
        url: await urlOf(key, versionId),
        compression,
        compressedBytes,
        compressedSha256,
        sizeBytes,
        sha256: receipt.sha256,
        revision: snapshot.revision,
        ...change.snapshot,
      },
    };
  };

  beforeAll(async () => {
    lab = await startLab({
      cdkOut: process.env['CDK_OUT'] as string,
      name: 'drill36',
      members: 1,
      etcd: '3.6',
      aws: { lambda: { retryDelaysMs: [200, 200] }, ssm: { deliverySecondMs: 100 } },
    });
    s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
    bucket = output('BucketName');
    await loadData(lab.controlPlane, { sizeBytes: 10_000_000 });
    const stored = await fire('Schedule', backupTime);
    expect(stored.error).toBeUndefined();
    const verified = await lab.aws.events.delivered(`snapshots/${backupId}.db.zst`);
    expect(verified.delivered && (await verified.invocation.done).ok).toBe(true);
    receipt = JSON.parse((await bytesOf({ Key: `receipts/${backupId}.json` })).toString('utf8')) as Receipt;
  });

  afterAll(async () => {
    s3.destroy();
    await lab.down();
  });

  test('restores the newest backup every day, and reads back every key of it with the hash that its receipt has', async () => {
    const time = nextDay();
    const outcome = await fire('DrillSchedule', time);
    expect(outcome.error).toBeUndefined();
    expect(outcome.result).toEqual({
      outcome: 'proven',
      drillId: idOf(time),
      backupId,
      record: `drills/${idOf(time)}.json`,
      reason: null,
    });
    const { inventory, snapshot, versionId } = receipt;
    expect(inventory.objects).toBeGreaterThan(1000);
    const record = await recordOf(time);
    const tools = etcdTools('3.6');
    expect(record).toMatchObject({
      cluster: 'lab',
      versionId,
      etcdVersion: tools.version,
      tools: {
        etcd: sha256(readFileSync(tools.etcd)),
        etcdctl: sha256(readFileSync(tools.etcdctl)),
        etcdutl: sha256(readFileSync(tools.etcdutl)),
      },
      // lab/app.ts acknowledges the two that nodes run beside their own etcd.
      trust: { etcd: 'image', etcdctl: 'acknowledged', etcdutl: 'acknowledged' },
      measured: {
        revision: snapshot.revision,
        keys: inventory.objects,
        bytes: inventory.bytes,
        hash: snapshot.liveHash,
      },
    });
    expect(record.measured?.servedRevision).toBeGreaterThanOrEqual(snapshot.revision + 1_000_000_000);
    expect(record.measured?.memoryBytes).toBeGreaterThan(10_000_000);
    // Etcd has some 60 MB of its own and maps the file; 50 MB of data are read back with 182 MB (docs/drill.md). What grows while it is read shows.
    expect(record.measured?.memoryBytes).toBeLessThan(180_000_000);
    expect(record.measured?.diskBytes).toBeGreaterThan(2 * receipt.sizeBytes);
    const { download = 0, restore = 0, boot = 0, read = 0 } = record.seconds;
    expect(Math.min(download, restore, boot, read)).toBeGreaterThan(0);
    expect(metricsFrom(0)).toMatchObject({
      DrillsFailed: 0,
      DrillNotPossible: 0,
      DrillDownloadSeconds: download,
      DrillRestoreSeconds: restore,
      DrillBootSeconds: boot,
      DrillReadSeconds: read,
      DrillSeconds: download + restore + boot,
    });
  });

  test('leaves nothing behind: no file, no etcd, and neither a key nor a URL in a log', () => {
    const environments = globSync('aws/**/tmp', { cwd: lab.dir }).map((tmp) => join(lab.dir, tmp, 'etcd-backup-drill'));
    expect(environments.length).toBeGreaterThan(1);
    expect(environments.filter((directory) => existsSync(directory))).toEqual([]);
    const lines = lab.aws.logs.filter(({ logicalId }) => logicalId.startsWith('Drill')).map(({ line }) => line);
    expect(lines.some((line) => line.includes('"phase":"boot"'))).toBe(true);
    expect(lines.filter((line) => /registry|X-Amz-|k8s:enc/.test(line))).toEqual([]);
  });

  test('is the same drill when its trigger is delivered again', async () => {
    const time = new Date(Date.UTC(2026, 2, day, 4, 30));
    const before = lab.aws.metrics.length;
    const outcome = await fire('DrillSchedule', time);
    expect(outcome.result).toMatchObject({ outcome: 'known', drillId: idOf(time), backupId });
    await recordOf(time);
    expect(metricsFrom(before)).toEqual({});
  });

  test('takes a backup by its id, and says of one that is not there what could be drilled', async () => {
    const drill = output('DrillFunctionName');
    const known = await lab.aws.invoke(drill, { snapshot: backupId }).done;
    expect(known.result).toMatchObject({ outcome: 'proven', backupId });
    const before = lab.aws.metrics.length;
    const unknown = await lab.aws.invoke(drill, { snapshot: '20260101T000000Z' }).done;
    expect(unknown.error).toMatchObject({
      errorType: 'RestoreRefusedError',
      errorMessage: expect.stringContaining(`the newest that can be restored is ${backupId}`) as string,
    });
    expect(metricsFrom(before)).toMatchObject({ DrillsFailed: 1 });
  });

  test('fails, and keeps failing, on a binary that is not what the key of it says; nothing of it is run', async () => {
    const { Key, VersionId } = await toolVersion('etcdutl');
    const original = await bytesOf({ Key, VersionId });
    await remove({ Key, VersionId });
    await put(Key, Buffer.concat([original, Buffer.from('x')]));
    const changed = await toolVersion('etcdutl');
    const time = nextDay();
    const before = lab.aws.metrics.length;
    const outcome = await fire('DrillSchedule', time);
    expect(outcome.error).toMatchObject({
      errorType: 'DrillFailedError',
      errorMessage: expect.stringMatching(/failed \(tool-changed\): etcdutl in the bucket's tools\//) as string,
    });
    expect(outcome.attempts).toHaveLength(3);
    expect(outcome.failureMessage).toBeDefined();
    expect(await recordOf(time)).toMatchObject({ outcome: 'failed', reason: 'tool-changed', measured: null });
    expect(metricsFrom(before)).toMatchObject({ DrillsFailed: 1 });
    await remove(changed);
    await put(Key, original);
  });

  test('is not possible without a binary, which is a finding', async () => {
    const version = await toolVersion('etcd');
    const original = await bytesOf(version);
    await remove(version);
    const time = nextDay();
    const before = lab.aws.metrics.length;
    const outcome = await fire('DrillSchedule', time);
    expect(outcome.result).toMatchObject({ outcome: 'not-possible', reason: 'tools-missing' });
    expect(await recordOf(time)).toMatchObject({ outcome: 'not-possible', seconds: {}, measured: null });
    expect((await recordOf(time)).sentence).toContain('got no etcd in the bucket');
    expect(metricsFrom(before)).toMatchObject({ DrillsFailed: 0, DrillNotPossible: 1 });
    await put(version.Key, original);
  });

  test('refuses a stored snapshot that was never verified', async () => {
    const stored = await bytesOf({ Key: receipt.key, VersionId: receipt.versionId });
    await put('snapshots/20260306T005900Z.db.zst', stored);
    const outcome = await lab.aws.invoke(output('DrillFunctionName'), { snapshot: '20260306T005900Z' }).done;
    expect(outcome.error?.errorMessage).toContain('got a stored snapshot without a receipt');
  });

  test('knows a damaged backup, and one that is gone', async () => {
    const run = output('DrillRunFunctionName');
    const damaged = await bytesOf({ Key: receipt.key, VersionId: receipt.versionId });
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 5) ^ 1, damaged.length - 5);
    await put('tools/damaged', damaged);
    const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key: 'tools/damaged' }));
    const answerTo = async (snapshot: Partial<Order['snapshot']>) =>
      (await lab.aws.invoke(run, await order({ snapshot })).done).result;
    expect(await answerTo({ url })).toMatchObject({ ok: false, reason: 'snapshot-damaged' });
    const gone = await getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key: 'tools/nothing' }));
    expect(await answerTo({ url: gone })).toMatchObject({ reason: 'snapshot-download', code: 404 });
  });

  test('knows a disk that is too small, and one that fills while it works', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'etcd-backup-drill-'));
    // Blocks enough and inodes for nothing but the binaries: what fills up cannot be known before.
    for (const [options, expected] of [
      ['size=64m', { ok: false, reason: 'too-large', freeBytes: expect.any(Number) as number }],
      ['size=1g,nr_inodes=7', { ok: false, reason: 'disk-full' }],
    ] as const) {
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]).status).toBe(0);
      try {
        expect(await runIn(join(dir, 'work'), await order())).toMatchObject(expected);
        expect(existsSync(join(dir, 'work'))).toBe(false);
      } finally {
        spawnSync('umount', [dir]);
      }
    }
    rmSync(dir, { recursive: true });
  });
});

describe('drill-run', () => {
  const dir = mkdtempSync(join(tmpdir(), 'etcd-backup-drill-run-'));

  afterAll(() => {
    rmSync(dir, { recursive: true, force: true });
  });

  /** A snapshot of an etcd with keys as Kubernetes never has them, too. */
  const snapshotOf = async (minor: EtcdMinor, file: string): Promise<void> => {
    const { etcd, etcdctl } = etcdTools(minor);
    const [client, peer] = [await freePort('127.0.0.1'), await freePort('127.0.0.1')];
    const clientUrl = `http://127.0.0.1:${String(client)}`;
    const peerUrl = `http://127.0.0.1:${String(peer)}`;
    const dataDir = join(dir, `etcd-${minor}`);
    mkdirSync(dataDir);
    const server = spawn(
      etcd,
      [
        `--data-dir=${dataDir}`,
        `--listen-client-urls=${clientUrl}`,
        `--advertise-client-urls=${clientUrl}`,
        `--listen-peer-urls=${peerUrl}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        `--initial-cluster=default=${peerUrl}`,
      ],
      { stdio: 'ignore' },
    );
    try {
      const script = `
        set -euo pipefail
        ctl() { "${etcdctl}" --endpoints=${clientUrl} "$@"; }
        until ctl get x >/dev/null 2>&1; do sleep 0.1; done
        ctl put /registry/pods/a/1 one
        ctl put /registry/pods/a/2 two
        ctl put /registry/pods/a/2 "$(printf 'v%.0s' {1..9000})"
        ctl put /registry/pods/a/3 three
        ctl del /registry/pods/a/3
        lease=$(ctl lease grant 3600 | cut -d ' ' -f 2)
        ctl put --lease="$lease" /registry/masterleases/10.0.0.1 here
        ctl put -- -x dash
        for byte in fd fe ff; do ctl put "$(printf "/\\x$byte")" "$byte"; done
        ctl snapshot save "${file}"`;
      const { status, stderr } = spawnSync('bash', ['-c', script], {
        encoding: 'utf8',
        env: { PATH: process.env.PATH },
      });
      if (status !== 0) {
        throw new Error(stderr);
      }
    } finally {
      server.kill('SIGKILL');
    }
  };

  // etcdutl is not in Kubernetes' images of 3.5; there etcdctl restores.
  test.each([
    ['3.5', ['etcd', 'etcdctl']],
    ['3.7', ['etcd', 'etcdctl', 'etcdutl']],
  ] as const)(
    'restores with the binaries of etcd %s, and reads one key at a time whatever its bytes are',
    async (minor, names) => {
      const file = join(dir, `${minor}.db`);
      await snapshotOf(minor, file);
      const facts = readSnapshot(file);
      expect(facts.totalKey.live).toBe(7);
      const snapshot = readFileSync(file);
      const packed = gzipSync(snapshot);
      const files = new Map<string, Buffer>([
        ['snapshot', packed],
        ...names.map((name): [string, Buffer] => [name, readFileSync(etcdTools(minor)[name])]),
      ]);
      const server = createServer((request, answer) => {
        const body = files.get((request.url ?? '').slice(1)) ?? Buffer.alloc(0);
        answer.writeHead(200, { 'content-length': body.length }).end(body);
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const urlOf = (name: string) => `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/${name}`;
      try {
        const answer = await runIn(join(dir, 'work'), {
          drillId: '20260306T050000Z',
          arch,
          tools: names.map((name) => {
            const bytes = files.get(name) ?? Buffer.alloc(0);
            return { name, url: urlOf(name), bytes: bytes.length, sha256: sha256(bytes) };
          }),
          bump: 1_000_000_000,
          keysPerPage: 1,
          snapshot: {
            url: urlOf('snapshot'),
            compression: 'gzip',
            compressedBytes: packed.length,
            compressedSha256: sha256(packed),
            sizeBytes: snapshot.length,
            sha256: sha256(snapshot),
            revision: facts.revision,
          },
        });
        expect(answer).toMatchObject({
          ok: true,
          restoredRevision: facts.revision + 1_000_000_000,
          servedRevision: facts.revision + 1_000_000_000,
          keys: 7,
          bytes: facts.inventory.bytes,
          hash: facts.liveHash,
          alarms: 0,
        });
      } finally {
        server.close();
      }
    },
  );
});
