import { GetPublicKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { execFileSync } from 'node:child_process';
import { createHash, createPublicKey } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { readDrillRecord } from '../lambda/shared/drill-record';
import { type Receipt, verifyReceiptOffline } from '../lambda/shared/receipt';
import type { Execution, Invocation, LabAws, ObjectCreatedEvent, Outcome } from './aws/aws';
import { s3Client } from './aws/s3';
import { CLUSTER } from './cluster';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import { etcdTools } from './nodes/tools';
import { compare, contentsAt, lookBefore, startRestore, strike, writeEarlier, writeLater } from './restores';
import { type Lab, startLab } from './start-lab';

// `npm run demo -- --size 200MB`: the story of one backup and of its proof, told while it happens, then of the disaster that it is for and of the
// restore, and then of three forgeries. It throws, and so fails, where the proof does not hold, where the restored control plane is not
// what the backup was, and where a forgery passes.

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

/** Says what functions log from line `from` on until this asynchronous invocation is over. Throws when it failed. */
async function follow(aws: LabAws, invocation: Invocation, from: number): Promise<Outcome> {
  let seen = from;
  let outcome: Outcome | undefined;
  const done = invocation.done.then((value) => {
    outcome = value;
  });
  for (;;) {
    const over = outcome !== undefined;
    for (const { line, requestId } of aws.logs.slice(seen)) {
      if (requestId === invocation.requestId) {
        tellPhase(line);
      }
    }
    seen = aws.logs.length;
    if (over) {
      await done;
      break;
    }
    await sleep(100);
  }
  if (outcome?.ok !== true) {
    throw new Error(
      `got ${outcome?.error?.errorType ?? 'no outcome'}: ${outcome?.error?.errorMessage ?? ''}, expected success`,
    );
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

/** What the rest of the story reads and writes the bucket with: the administrator, who may do everything. */
interface Administrator {
  readonly s3: S3Client;
  readonly bucket: string;
  readonly receiptPublicKey: string;
}

function output(aws: LabAws, name: string): string {
  const value = aws.outputs.get(name);
  if (value === undefined) {
    throw new Error(`the stack has no output ${name}, expected one`);
  }
  return value;
}

async function administrator(aws: LabAws): Promise<Administrator> {
  const kms = new KMSClient({ endpoint: aws.endpoints.kms, region: aws.region, credentials: aws.credentials });
  const { PublicKey = new Uint8Array() } = await kms.send(
    new GetPublicKeyCommand({ KeyId: output(aws, 'ReceiptKeyArn') }),
  );
  kms.destroy();
  return {
    s3: s3Client(aws.endpoints.s3, aws.credentials, aws.region),
    bucket: output(aws, 'BucketName'),
    receiptPublicKey: createPublicKey({ key: Buffer.from(PublicKey), format: 'der', type: 'spki' })
      .export({ type: 'spki', format: 'pem' })
      .toString(),
  };
}

async function read({ s3, bucket }: Administrator, version: { Key: string; VersionId?: string | undefined }) {
  const object = await s3.send(new GetObjectCommand({ Bucket: bucket, ...version, ChecksumMode: 'ENABLED' }));
  return {
    object,
    bytes: Buffer.from((await object.Body?.transformToByteArray()) ?? []),
    metadata: object.Metadata ?? {},
  };
}

function versionOf(event: ObjectCreatedEvent): { Key: string; VersionId: string } {
  const { key, 'version-id': versionId } = event.detail.object;
  return { Key: key, VersionId: versionId };
}

async function tellBucket({ s3, bucket }: Administrator): Promise<void> {
  const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  say(`the bucket ${bucket} holds`);
  for (const { Key, Size, VersionId } of Versions) {
    const version = { Bucket: bucket, Key, VersionId };
    const head = await s3.send(new HeadObjectCommand(version));
    const { TagSet = [] } = await s3.send(new GetObjectTaggingCommand(version));
    const tags = TagSet.map((tag) => `, ${String(tag.Key)}=${String(tag.Value)}`).join('');
    say(
      `  ${String(Key)}  ${String(Size)} bytes, ${String(head.ServerSideEncryption)}, locked until ${head.ObjectLockRetainUntilDate?.toISOString() ?? 'never'} (${String(head.ObjectLockMode)})${tags}`,
    );
  }
}

function tellReceipt({ identity, snapshot, inventory, findings, timeline, class: klass, seconds }: Receipt): void {
  const amount = (objects: number, bytes: number): string =>
    `${String(objects).padStart(6)} objects ${megabytes(bytes).padStart(9)}`;
  say(
    `  class ${klass}, timeline ${timeline}; download ${seconds.download.toFixed(1)} s, read ${seconds.read.toFixed(1)} s`,
  );
  say(
    `  hash ${String(snapshot.hash)}, revision ${String(snapshot.revision)}, ${String(snapshot.totalKey.live)} live keys in ${String(snapshot.totalKey.rows)} rows, ${String(snapshot.pages.total)} pages (${String(snapshot.pages.free)} free)`,
  );
  say(
    `  kube-system ${String(identity.kubeSystemUid)}, members ${snapshot.members.map(({ name }) => name).join(', ')}`,
  );
  for (const { kind, objects, bytes, namespaces } of inventory.kinds.slice(0, 5)) {
    const [largest] = namespaces;
    say(
      `  ${kind.padEnd(16)} ${amount(objects, bytes)}${largest === undefined ? '' : `  in ${String(namespaces.length)} namespaces, most in ${largest.namespace}`}`,
    );
  }
  say(`  ${'events, apart'.padEnd(16)} ${amount(inventory.events.objects, inventory.events.bytes)}`);
  const [largest] = inventory.largest;
  say(`  largest object ${String(largest?.key)} with ${String(largest?.bytes)} bytes`);
  say(`  Secrets: ${String(snapshot.secrets.total)}, of which ${String(snapshot.secrets.plainText)} in plain text`);
  for (const { finding, sentence } of findings) {
    say(`  finding ${finding}: ${sentence}`.slice(0, 230));
  }
}

/** Downloads the snapshot and holds what the receipt says against etcd's own tool and S3. */
async function prove(lab: Lab, admin: Administrator, event: ObjectCreatedEvent, receipt: Receipt): Promise<void> {
  const { object, bytes } = await read(admin, versionOf(event));
  const file = join(lab.dir, 'proof.db');
  await writeFile(file, receipt.compression === 'zstd' ? zstdDecompressSync(bytes) : gunzipSync(bytes));
  const { etcdutl } = etcdTools('3.6');
  const status = JSON.parse(
    execFileSync(etcdutl, ['snapshot', 'status', '-w', 'json', file], { encoding: 'utf8' }),
  ) as Record<string, number>;
  await rm(file);
  const { snapshot } = receipt;
  const proof: readonly (readonly [string, string | undefined, string | undefined])[] = [
    ['SHA-256 of what S3 gives back', createHash('sha256').update(bytes).digest('hex'), receipt.compressedSha256],
    [
      'SHA-256 as S3 itself keeps it',
      Buffer.from(object.ChecksumSHA256 ?? '', 'base64').toString('hex'),
      receipt.compressedSha256,
    ],
    ['encrypted with the key', object.SSEKMSKeyId, output(lab.aws, 'SnapshotKeyArn')],
    ['hash       (etcdutl snapshot status)', String(status.hash), String(snapshot.hash)],
    ['revision   (etcdutl snapshot status)', String(status.revision), String(snapshot.revision)],
    ['total keys (etcdutl snapshot status)', String(status.totalKey), String(snapshot.totalKey.live)],
    ['total size (etcdutl snapshot status)', String(status.totalSize), String(snapshot.totalSizeBytes)],
  ];
  say('a second opinion: downloaded again, and held against the receipt');
  for (const [what, got, expected] of proof) {
    say(`  ${got === expected ? 'same     ' : 'DIFFERENT'} ${what.padEnd(38)} ${String(got)}`);
  }
  const wrong = proof.filter(([, got, expected]) => got !== expected);
  if (wrong.length > 0) {
    throw new Error(
      wrong.map(([what, got, expected]) => `${what}: got ${String(got)}, expected ${String(expected)}`).join('; '),
    );
  }
}

/** The receipt under its key, held against its signature with nothing but the public key. */
async function checkReceipt(admin: Administrator, key: string): Promise<ReturnType<typeof verifyReceiptOffline>> {
  const { bytes, metadata } = await read(admin, { Key: key });
  return verifyReceiptOffline({
    receiptBytes: bytes,
    signatureBase64: metadata['receipt-signature'] ?? '',
    publicKeyPem: admin.receiptPublicKey,
  });
}

type Change = (object: { bytes: Buffer; metadata: Record<string, string> }) => {
  bytes: Buffer;
  metadata: Record<string, string>;
};

/** Puts something else in the place of a version, as only somebody could who may remove what is locked. */
async function forge(
  { s3, bucket }: Administrator,
  version: { Key: string; VersionId?: string | undefined },
  original: { bytes: Buffer; metadata: Record<string, string> },
  change: Change,
): Promise<string> {
  const { bytes: Body, metadata: Metadata } = change(original);
  await s3.send(new DeleteObjectCommand({ Bucket: bucket, ...version, BypassGovernanceRetention: true }));
  const ChecksumSHA256 = createHash('sha256').update(Body).digest('base64');
  const { VersionId } = await s3.send(
    new PutObjectCommand({ Bucket: bucket, Key: version.Key, Body, Metadata, ChecksumSHA256 }),
  );
  return String(VersionId);
}

/** Says why the verify function refuses an event. Throws when it does not. */
async function mustRefuse(aws: LabAws, event: ObjectCreatedEvent, expected: string): Promise<void> {
  const { ok, error } = await aws.invoke(output(aws, 'VerifyFunctionName'), event).done;
  const message = error?.errorMessage ?? '';
  if (ok || !message.includes(expected)) {
    throw new Error(`a forged object: got ${ok ? 'verified' : message}, expected it to be refused with '${expected}'`);
  }
  say(`  REFUSED ${error?.errorType ?? ''}: ${message.slice(message.indexOf(expected))}`.slice(0, 330));
}

/** Three forgeries by somebody who may do everything in the bucket, but has neither of the two signing keys. */
async function tellForgeries(lab: Lab, admin: Administrator, first: ObjectCreatedEvent): Promise<void> {
  const { aws } = lab;
  say('now somebody who may do everything in the bucket forges, but cannot sign; a second backup is taken for that');
  aws.events.hold();
  const { ok, result, error } = await aws.invoke(output(aws, 'BackupFunctionName'), { reason: 'to be forged' }).done;
  if (!ok) {
    throw new Error(`the second backup: got ${error?.errorMessage ?? ''}, expected it to be stored`);
  }
  const event = await aws.events.created((result as { key: string }).key);
  const original = await read(admin, versionOf(event));
  const tampered = (versionId: string): ObjectCreatedEvent => ({
    ...event,
    detail: { ...event.detail, object: { ...event.detail.object, 'version-id': versionId } },
  });

  say(`the bytes: one bit in the middle of ${event.detail.object.key} is another`);
  const flipped = Buffer.from(original.bytes);
  const middle = flipped.length >> 1;
  flipped[middle] = (flipped[middle] ?? 0) ^ 1;
  const version = await forge(admin, versionOf(event), original, ({ metadata }) => ({ bytes: flipped, metadata }));
  await mustRefuse(aws, tampered(version), 'bad-compression: ');

  say('the metadata: the right bytes again, but with the announcement of the first backup');
  const { metadata } = await read(admin, versionOf(first));
  const forged = { Key: event.detail.object.key, VersionId: version };
  const again = await forge(admin, forged, original, ({ bytes }) => ({ bytes, metadata }));
  await mustRefuse(aws, tampered(again), 'unsigned: ');

  const key = `receipts/${first.detail.object.key.slice('snapshots/'.length, -'.db.zst'.length)}.json`;
  say(`the receipt: ${key} with its findings taken out, its signature kept`);
  const receipt = await read(admin, { Key: key });
  await forge(admin, { Key: key, VersionId: receipt.object.VersionId }, receipt, (object) => ({
    bytes: Buffer.from(object.bytes.toString('utf8').replace(/"findings":\[.*?\],"/, '"findings":[],"')),
    metadata: object.metadata,
  }));
  const checked = await checkReceipt(admin, key);
  if (checked.ok) {
    throw new Error('a forged receipt: got a valid signature, expected it not to fit');
  }
  say(`  REFUSED offline: ${checked.problems.join('; ')}`);
  await mustRefuse(aws, first, 'got an object that is no receipt of ours');
}

/** Starts an execution and says each state as it ends. Gives it back when it has succeeded; throws when it has not. */
async function execute(lab: Lab, input: object): Promise<Execution> {
  say(`starting an execution of the restore state machine with ${JSON.stringify(input)}`);
  const execution = startRestore(lab, input);
  execution.onState(({ event, state, visit }) => {
    if (event === 'exited' && visit.type === 'Task') {
      say(
        `  ${state.padEnd(17)} ${(((visit.exited ?? new Date()).getTime() - visit.entered.getTime()) / 1000).toFixed(1)} s`,
      );
    }
  });
  const { status, error, cause } = await execution.result;
  if (status !== 'SUCCEEDED') {
    throw new Error(`the execution ended ${status}: ${error ?? ''} ${cause ?? ''}`);
  }
  return execution;
}

/** What runs every day: the newest backup in a throwaway etcd, by the function that has no right but its log. */
async function tellDrill({ aws }: Lab, admin: Administrator): Promise<void> {
  say('a drill: the backup is restored into a throwaway etcd, with the binaries that the cluster runs');
  const outcome = await aws.invoke(output(aws, 'DrillFunctionName'), {}).done;
  if (!outcome.ok) {
    throw new Error(`the drill: got ${JSON.stringify(outcome.error)}, expected it to be proven`);
  }
  const { record: key } = outcome.result as { record: string };
  const { seconds, measured } = readDrillRecord(key, (await read(admin, { Key: key })).bytes);
  const took = (name: keyof typeof seconds): string => `${name} ${seconds[name]?.toFixed(1) ?? '?'} s`;
  say(`  ${took('download')}, ${took('restore')}, ${took('boot')}, ${took('read')}`);
  say(
    `  ${String(measured?.keys)} keys read back through etcdctl, hash ${String(measured?.hash)}: as in the receipt; etcd took ${megabytes(measured?.memoryBytes ?? NaN)} of memory`,
  );
}

/** Plan, disaster, restore, comparison. */
async function tellRestore(lab: Lab, proven: { contents: string; revision: number }): Promise<void> {
  const { nodes } = lab.controlPlane;
  const [first] = nodes;
  if (first === undefined) {
    throw new Error('a lab without nodes, expected three');
  }
  await writeLater(first);
  const plan = (await (await execute(lab, {})).result).output as { summary: string; lost: { sentence: string } };
  say(`  the plan: ${plan.summary}`);
  say(`  ${plan.lost.sentence}`);
  const seen = await lookBefore(lab);
  say(
    `the disaster: a watch is open on each member, revision ${String(seen.revision)}; then /var/lib/etcd is emptied on all three nodes`,
  );
  await strike(lab, 'all data gone');
  const execution = await execute(lab, {
    confirm: CLUSTER.name,
    requestedBy: 'the demo',
    reason: 'all data directories were wiped',
  });
  const summary = (await execution.result).output as { downtimeSeconds: number; revision: number; next: string[] };
  say(
    `restored: ${summary.downtimeSeconds.toFixed(1)} s from the first member's stop to the first API server that was ready`,
  );
  const found = await compare(lab, { execution, expected: proven, seen, laterKey: 'gone' });
  say('held against the backup, on each of the three members');
  say(`  every key that was in the backup is there, with its value and revision, and no other: ${found.contents}`);
  say('  the key that was written after the backup is not there');
  say(`  revision ${String(found.revisionAfter)}, higher than any seen before (${String(seen.revision)})`);
  say(
    `  ${String(found.watchesCut)} watches that were open before got ErrCompacted; ${String(found.writesWhileStopped)} writes between stop and start`,
  );
  for (const sentence of summary.next) {
    say(`  next: ${sentence}`.slice(0, 230));
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '50MB' } } });
  const sizeBytes = readSize(values.size);
  const lab = await startLab({ name: 'demo', apiServer: true, onProgress: say });
  try {
    const { aws, controlPlane } = lab;
    say(
      `up: ${controlPlane.nodes.map(({ name, ip }) => `${name} ${ip}`).join(', ')}; etcd ${controlPlane.etcdVersion} with TLS, ${(await controlPlane.leader()).name} leads`,
    );
    const data = await loadData(controlPlane, { sizeBytes });
    say(
      `loaded ${String(data.keys)} Kubernetes-like objects, revision ${String(data.revision)}, database ${megabytes(data.dbSize)}`,
    );
    aws.topics.onMessage(({ mails }) => {
      for (const { to, subject } of mails) {
        say(`  e-mail to ${to}: ${subject}`);
      }
    });
    await writeEarlier(controlPlane.nodes[0] as LabNode);
    const hour = new Date();
    hour.setUTCMinutes(0, 0, 0);
    const triggered = Date.now();
    const trigger = await aws.fireSchedule(undefined, { scheduledTime: hour });
    if (!trigger.delivered) {
      throw new Error(`the schedule could not deliver: ${trigger.error}`);
    }
    say(`the schedule fired for ${hour.toISOString()}; its target, the backup function, runs asynchronously`);
    const stored = await follow(aws, trigger.invocation, 0);
    const { key } = stored.result as { key: string };
    say(`stored: ${key}`);
    const delivery = await aws.events.delivered(key);
    if (!delivery.delivered) {
      throw new Error(`the rule could not deliver: ${delivery.error}`);
    }
    say(
      `S3 said "${delivery.event['detail-type']}"; the rule gave it to the verify function, which runs asynchronously`,
    );
    const proven = await follow(aws, delivery.invocation, 0);
    const { receipt: receiptKey } = proven.result as { receipt: string };
    const [attempt] = proven.attempts;
    say(
      `verified: ${((Date.now() - triggered) / 1000).toFixed(1)} s from the trigger to the receipt; the function took ${((attempt?.durationMs ?? NaN) / 1000).toFixed(1)} s and ${megabytes(attempt?.peakRssBytes ?? NaN)} of memory at most`,
    );
    const admin = await administrator(aws);
    await tellBucket(admin);
    const checked = await checkReceipt(admin, receiptKey);
    if (!checked.ok) {
      throw new Error(`the receipt: ${checked.problems.join('; ')}`);
    }
    say(`${receiptKey}, whose signature fits it and the receipt key's public half, says`);
    tellReceipt(checked.receipt);
    await prove(lab, admin, delivery.event, checked.receipt);
    const { revision } = checked.receipt.snapshot;
    const contents = await contentsAt(controlPlane.nodes[0] as LabNode, revision);
    await tellDrill(lab, admin);
    await tellRestore(lab, { revision, contents });
    await tellForgeries(lab, admin, delivery.event);
    admin.s3.destroy();
  } finally {
    say('taking the lab down');
    await lab.down();
  }
  say(
    'done: the snapshot in the bucket is the one that etcd gave, the control plane came back from it, and what was forged was refused',
  );
}

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
