import { GetObjectCommand, HeadObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { LabAws, Outcome } from './aws/aws';
import { s3Client } from './aws/s3';
import { loadData } from './nodes/load';
import { etcdTools } from './nodes/tools';
import { type Lab, startLab } from './start-lab';

// `npm run demo -- --size 200MB`: the story of one backup, told while it happens. It throws, and so fails, where the proof does not hold.

const started = Date.now();

function say(line: string): void {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function readSize(text: string): number {
  const [, digits] = /^(\d+)MB$/.exec(text) ?? [];
  if (digits === undefined || Number(digits) < 1 || Number(digits) > 4000) {
    throw new Error(`--size is '${text}', expected 1MB to 4000MB`);
  }
  return Number(digits) * 1e6;
}

/** Fires the schedule's own target and says what the function logs until its asynchronous invocation is over. */
async function fireAndFollow(aws: LabAws, scheduledTime: Date): Promise<Outcome> {
  const delivery = await aws.fireSchedule(undefined, { scheduledTime });
  if (!delivery.delivered) {
    throw new Error(`the schedule could not deliver: ${delivery.error}`);
  }
  say(`the schedule fired for ${scheduledTime.toISOString()}; its target, the backup function, runs asynchronously`);
  let seen = 0;
  let outcome: Outcome | undefined;
  const done = delivery.invocation.done.then((value) => {
    outcome = value;
  });
  for (;;) {
    const over = outcome !== undefined;
    for (const { line } of aws.logs.slice(seen)) {
      tellPhase(line);
    }
    seen = aws.logs.length;
    if (over) {
      await done;
      break;
    }
    await sleep(100);
  }
  if (outcome === undefined) {
    throw new Error('the invocation ended without an outcome, expected one');
  }
  return outcome;
}

function tellPhase(line: string): void {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    // Not a log entry of ours: the runtime's own words are for those who debug.
    return;
  }
  if (entry.message === 'phase done' || entry.message === 'phase failed') {
    const left = [
      'level',
      'message',
      'timestamp',
      'service',
      'cluster',
      'backupId',
      'phase',
      'seconds',
      'sampling_rate',
    ];
    const fields = Object.entries(entry)
      .filter(([name, value]) => !left.includes(name) && value !== undefined)
      .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
    say(`  ${String(entry.phase).padEnd(8)} ${Number(entry.seconds).toFixed(1)} s  ${fields.join(' ')}`.slice(0, 230));
  }
}

/** Lists the bucket, downloads the snapshot and holds it against its own metadata with etcd's own tool. */
async function prove(lab: Lab): Promise<void> {
  const { aws } = lab;
  const s3 = s3Client(aws.endpoints.s3, aws.credentials, aws.region);
  const bucket = aws.outputs.get('BucketName');
  if (bucket === undefined) {
    throw new Error('the stack has no output BucketName, expected one');
  }
  const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  say(`the bucket ${bucket} holds`);
  for (const { Key, Size, VersionId } of Versions) {
    const head = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key, VersionId, ChecksumMode: 'ENABLED' }));
    say(
      `  ${String(Key)}  ${String(Size)} bytes, ${String(head.ServerSideEncryption)}, locked until ${head.ObjectLockRetainUntilDate?.toISOString() ?? 'never'} (${String(head.ObjectLockMode)})`,
    );
  }
  const key = Versions.find(({ Key }) => Key?.startsWith('snapshots/') === true)?.Key;
  if (key === undefined) {
    throw new Error(`no object under snapshots/ in ${bucket}, expected one`);
  }
  const object = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key, ChecksumMode: 'ENABLED' }));
  const stored = Buffer.from((await object.Body?.transformToByteArray()) ?? []);
  const metadata = object.Metadata ?? {};
  say(`metadata of ${key}`);
  for (const [name, value] of Object.entries(metadata).sort()) {
    say(`  ${name.padEnd(24)} ${value}`);
  }
  const snapshot = key.endsWith('.zst') ? zstdDecompressSync(stored) : gunzipSync(stored);
  const file = join(lab.dir, 'proof.db');
  await writeFile(file, snapshot);
  const { etcdutl } = etcdTools('3.6');
  const status = JSON.parse(
    execFileSync(etcdutl, ['snapshot', 'status', '-w', 'json', file], { encoding: 'utf8' }),
  ) as Record<string, number>;
  await rm(file);
  const proof: readonly (readonly [string, string | undefined, string | undefined])[] = [
    ['SHA-256 of what S3 gives back', createHash('sha256').update(stored).digest('hex'), metadata.sha256],
    [
      'SHA-256 as S3 itself keeps it',
      Buffer.from(object.ChecksumSHA256 ?? '', 'base64').toString('hex'),
      metadata.sha256,
    ],
    ['encrypted with the key', object.SSEKMSKeyId, aws.outputs.get('SnapshotKeyArn')],
    ['hash      (etcdutl snapshot status)', String(status.hash), metadata.hash],
    ['revision  (etcdutl snapshot status)', String(status.revision), metadata.revision],
    ['total keys (etcdutl snapshot status)', String(status.totalKey), metadata['total-key']],
  ];
  say('the proof: downloaded, decompressed, and held against what the metadata claims');
  for (const [what, got, expected] of proof) {
    say(`  ${got === expected ? 'same     ' : 'DIFFERENT'} ${what.padEnd(38)} ${String(got)}`);
  }
  s3.destroy();
  const wrong = proof.filter(([, got, expected]) => got !== expected);
  if (wrong.length > 0) {
    throw new Error(
      wrong.map(([what, got, expected]) => `${what}: got ${String(got)}, expected ${String(expected)}`).join('; '),
    );
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '50MB' } } });
  const sizeBytes = readSize(values.size);
  const lab = await startLab({ name: 'demo', onProgress: say });
  try {
    const { controlPlane } = lab;
    say(
      `up: ${controlPlane.nodes.map(({ name, ip }) => `${name} ${ip}`).join(', ')}; etcd ${controlPlane.etcdVersion} with TLS, ${(await controlPlane.leader()).name} leads`,
    );
    const data = await loadData(controlPlane, { sizeBytes });
    say(
      `loaded ${String(data.keys)} Kubernetes-like objects, revision ${String(data.revision)}, database ${megabytes(data.dbSize)}`,
    );
    const hour = new Date();
    hour.setUTCMinutes(0, 0, 0);
    const outcome = await fireAndFollow(lab.aws, hour);
    if (!outcome.ok) {
      throw new Error(
        `the backup failed: ${outcome.error?.errorType ?? 'no error'}: ${outcome.error?.errorMessage ?? ''}`,
      );
    }
    say(`the function says ${JSON.stringify(outcome.result)}`);
    await prove(lab);
  } finally {
    say('taking the lab down');
    await lab.down();
  }
  say('done: the snapshot in the bucket is the one that etcd gave');
}

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
