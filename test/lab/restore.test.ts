import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { s3Client } from '../../lab/aws/s3';
import type { Execution, Mail } from '../../lab/aws/aws';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import {
  backUp,
  compare,
  contentsAt,
  lookBefore,
  output,
  type Proven,
  revisionOf,
  startRestore,
  strike,
} from '../../lab/restores';
import { type Lab, startLab } from '../../lab/start-lab';

// The whole machine, from the synthesized definition, on three real nodes. All of sizes, versions and disasters: npm run matrix.

let lab: Lab;
let s3: S3Client;
let proven: Proven;

const nodes = (): readonly LabNode[] => lab.controlPlane.nodes;
const bucket = (): string => output(lab, 'BucketName');

/** Every file below these directories of all nodes with its mode, owner, times and bytes. */
function fingerprint(...directories: string[]): string {
  const lines: string[] = [];
  const walk = (path: string): void => {
    const stat = lstatSync(path);
    const bytes = stat.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    lines.push(
      `${path} ${stat.mode.toString(8)} ${String(stat.uid)}:${String(stat.gid)} ${stat.isFile() ? String(stat.mtimeMs) : ''} ${bytes}`,
    );
    if (stat.isDirectory()) for (const entry of readdirSync(path).sort()) walk(join(path, entry));
  };
  for (const node of nodes())
    for (const directory of directories) if (existsSync(node.path(directory))) walk(node.path(directory));
  return lines.join('\n');
}

async function clusterId(): Promise<string> {
  return String(
    /"cluster_id":(\d+)/.exec(await (nodes()[0] as LabNode).etcdctl(['endpoint', 'status', '-w', 'json']))?.[1],
  );
}

/** What must be the same again after a restore that was undone. */
async function oldState(): Promise<{ manifests: string; clusterId: string; revision: number; contents: string }> {
  const [first] = nodes() as [LabNode];
  const revision = await revisionOf(first);
  return {
    manifests: fingerprint('/etc/kubernetes'),
    clusterId: await clusterId(),
    revision,
    contents: await contentsAt(first, revision),
  };
}

async function expectOldState(before: Awaited<ReturnType<typeof oldState>>): Promise<void> {
  await lab.controlPlane.waitHealthy();
  await lab.controlPlane.waitApiReady();
  expect(fingerprint('/etc/kubernetes')).toBe(before.manifests);
  expect(await clusterId()).toBe(before.clusterId);
  for (const node of nodes()) {
    expect(await contentsAt(node, before.revision)).toBe(before.contents);
    expect(readdirSync(node.path('/var/lib/etcd')).filter((name) => name.startsWith('.restore-'))).toEqual([]);
    expect(existsSync(node.path('/var/lib/etcd-backup/restore/journal'))).toBe(false);
  }
}

function visited(execution: Execution): string[] {
  return execution.visits.map(({ name }) => name).filter((name) => !name.endsWith('?'));
}

/** What oncall@example.com was told of an execution that has ended: subjects, and all that was said of it. */
async function told(execution: Execution): Promise<{ subjects: string[]; mails: readonly Mail[]; last: string }> {
  const { executionArn } = execution;
  for (const delivery of lab.aws.events.statusDeliveries) {
    if (delivery.event.detail.executionArn !== executionArn) continue;
    if (!delivery.delivered) throw delivery.error;
    await expect(delivery.invocation.done).resolves.toMatchObject({ ok: true });
  }
  // As a person finds out which execution a mail is of.
  const link = `https://us-east-1.console.aws.amazon.com/states/home?region=us-east-1#/v2/executions/details/${executionArn}`;
  const mails = lab.aws.topics.all
    .flatMap(({ messages }) => messages.flatMap((message) => message.mails))
    .filter(({ text }) => text.split('\n').includes(`Execution: ${link}`));
  for (const mail of mails) {
    expect(mail.to).toBe('oncall@example.com');
    expect(mail.text).toMatch(/^Runbook: \S*docs\/restore\.md#[a-z-]+$/m);
    expect(mail.text).not.toMatch(/undefined|null|\[object|NaN/);
  }
  return { subjects: mails.map(({ subject }) => subject), mails, last: mails.at(-1)?.text ?? '' };
}

beforeAll(async () => {
  lab = await startLab({
    name: 'restore',
    cdkOut: process.env['CDK_OUT'] as string,
    members: 3,
    etcd: '3.6',
    apiServer: true,
    aws: { lambda: { retryDelaysMs: [200, 200] }, ssm: { deliverySecondMs: 100 }, states: { waitFactor: 0.1 } },
  });
  s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  await loadData(lab.controlPlane, { sizeBytes: 5_000_000 });
  proven = await backUp(lab);
});

afterAll(async () => {
  s3.destroy();
  await lab.down();
});

test('{} shows the plan, changes no byte on any node and makes no URL', async () => {
  const directories = ['/etc/kubernetes', '/var/lib/etcd-backup'];
  const before = fingerprint(...directories);
  const names = nodes().map((node) => readdirSync(node.path('/var/lib/etcd')));
  for (const machine of ['PlanMachineArn', 'RestoreMachineArn']) {
    const execution = lab.aws.startExecution(output(lab, machine), {});
    const { status, output: plan } = await execution.result;
    expect([status, plan]).toEqual([
      'SUCCEEDED',
      expect.objectContaining({ canBeRestored: true, refusals: [], cluster: 'lab' }),
    ]);
    expect(JSON.stringify(plan)).toContain(proven.backupId);
    expect(JSON.stringify(plan).length).toBeLessThan(20_000);
    expect(visited(execution)).toEqual(['ChooseSnapshot', 'Inspect', 'PlanOnly']);
    expect(JSON.stringify(execution.visits)).not.toContain('X-Amz-');
    const { subjects, last } = await told(execution);
    expect(subjects).toEqual(['etcd of lab: Restore planned']);
    expect(last).toMatch(/^Nothing was changed\. The plan .*\d{8}T\d{6}Z/);
    expect(last).toContain('- To do it, start with: {');
  }
  expect(fingerprint(...directories)).toBe(before);
  expect(nodes().map((node) => readdirSync(node.path('/var/lib/etcd')))).toEqual(names);
});

test('what a planner may start refuses to restore', async () => {
  const execution = lab.aws.startExecution(output(lab, 'PlanMachineArn'), { confirm: 'lab' });
  const { status, cause } = await execution.result;
  expect([status, cause]).toEqual(['FAILED', expect.stringMatching(/confirm/)]);
  const { subjects, last } = await told(execution);
  expect(subjects).toEqual(['etcd of lab: No plan could be made']);
  expect(last).toMatch(/^Cause: .*confirm/m);
});

test('every problem of an input is said at once, with an example of what is accepted', async () => {
  const execution = startRestore(lab, { confirm: 'other', snapshot: 'yesterday', forse: true });
  const { status, error, cause } = await execution.result;
  expect([status, error]).toEqual(['FAILED', 'RestoreRequestError']);
  for (const word of ['confirm', 'snapshot', 'forse', 'newest before']) expect(cause).toContain(word);
  const { subjects, last } = await told(execution);
  expect(subjects).toEqual(['etcd of lab: Restore started', 'etcd of lab: Restore refused']);
  for (const word of ['Nothing was changed.', 'forse', 'newest before']) expect(last).toContain(word);
});

test('all data gone: every key of the backup is back and nothing else, whatever lies over it in the bucket', async () => {
  const seen = await lookBefore(lab);
  // A later version that nobody signed, and a delete marker over the receipt.
  const key = proven.receipt.key;
  const later = await s3.send(new PutObjectCommand({ Bucket: bucket(), Key: key, Body: 'not a snapshot' }));
  const receipt = `receipts/${proven.backupId}.json`;
  const marker = await s3.send(new DeleteObjectCommand({ Bucket: bucket(), Key: receipt }));
  await strike(lab, 'all data gone');
  // One kubelet is as after a restart without an API server.
  await (nodes()[1] as LabNode).ignoreRemovedManifests(true);
  const execution = startRestore(lab, { confirm: 'lab', requestedBy: 'the test', reason: 'all data gone' });
  const { status, output: summary, cause } = await execution.result;
  expect([status, cause]).toEqual(['SUCCEEDED', undefined]);
  expect(summary).toMatchObject({ result: 'Restored', snapshot: { backupId: proven.backupId } });
  const found = await compare(lab, { execution, expected: proven, seen, laterKey: 'gone' });
  expect(found.watchesCut).toBe(3);
  await (nodes()[1] as LabNode).ignoreRemovedManifests(false);
  for (const version of [
    { Key: key, VersionId: later.VersionId },
    { Key: receipt, VersionId: marker.VersionId },
  ]) {
    await s3.send(new DeleteObjectCommand({ Bucket: bucket(), ...version, BypassGovernanceRetention: true }));
  }
  const { subjects, mails, last } = await told(execution);
  expect(subjects).toEqual(['etcd of lab: Restore started', 'etcd of lab: Restored']);
  expect(mails[0]?.text).toContain('Asked for, as the input says, by: the test');
  expect(mails[0]?.text).toContain('Reason, as the input says: all data gone');
  const names = nodes().map(({ name, instanceId }) => `${name} (${instanceId})`);
  expect(last).toContain(`runs on the data of backup ${proven.backupId}, on ${names.join(', ')}.`);
  expect(last).toMatch(/^No API server answered for \d+ s; the restore took \d+ (s|min) in all\.$/m);
});

test('quorum lost, from the survivor: what was written after the backup is there as well', async () => {
  proven = await backUp(lab, 'for the survivor');
  const seen = await lookBefore(lab);
  await strike(lab, 'quorum lost');
  const execution = startRestore(lab, { confirm: 'lab', from: 'survivor' });
  const { status, cause } = await execution.result;
  expect([status, cause]).toEqual(['SUCCEEDED', undefined]);
  const { snapshot } = execution.visits.findLast(({ name }) => name === 'CheckEtcd')?.output as {
    snapshot: { revision: number };
  };
  expect(snapshot.revision).toBeGreaterThan(proven.revision);
  const expected = {
    revision: snapshot.revision,
    // The survivor's own old data is kept, but not served any more: what the three agree on is held against each other.
    contents: await contentsAt(nodes()[0] as LabNode, snapshot.revision + bumpOf(execution)),
  };
  await compare(lab, { execution, expected, seen, laterKey: 'there' });
});

function bumpOf(execution: Execution): number {
  return (execution.visits.findLast(({ name }) => name === 'CheckEtcd')?.output as { bump: number }).bump;
}

test('a node that cannot swap: every node is put back as it was, and evidence is kept', async () => {
  proven = await backUp(lab, 'before a failure');
  const before = await oldState();
  const execution = startRestore(lab, { confirm: 'lab' });
  await execution.entered('SwapData');
  const [, second] = nodes() as [LabNode, LabNode, LabNode];
  // As somebody with a shell on the node does it; and the last words of its etcd.
  const lastWords = '"msg":"the disk of this member is gone"';
  await second.must(['sh', '-c', `rm -rf /var/lib/etcd/.restore-*; echo '{${lastWords}}' >>/var/log/pods/etcd.log`]);
  const { status, error, cause } = await execution.result;
  expect([status, error]).toEqual(['FAILED', expect.any(String)]);
  expect(cause).toContain(second.name);
  const { subjects, last } = await told(execution);
  expect(subjects).toEqual(['etcd of lab: Restore started', 'etcd of lab: Restore failed']);
  expect(last).toContain(`Error: ${String(error)}\n`);
  expect(last).toMatch(new RegExp(`^Cause: .*${second.name}`, 'm'));
  expect(visited(execution).slice(-5)).toEqual([
    'RollBack',
    'CheckRolledBack',
    'CleanUp',
    'GatherEvidence',
    'RestoreFailed',
  ]);
  const [, key = ''] = /s3:\/\/[^/]+\/(restores\/\S+\/evidence\.json)$/.exec(String(cause)) ?? [];
  const stored = await s3.send(new GetObjectCommand({ Bucket: bucket(), Key: key }));
  const { nodes: asked } = JSON.parse(String(await stored.Body?.transformToString())) as {
    nodes: Record<string, Record<string, string>>;
  };
  expect(Object.keys(asked)).toHaveLength(3);
  const evidence = Object.entries(asked).find(([name]) => name.includes(`(${second.name})`))?.[1] ?? {};
  expect(evidence['version']).toContain(lab.controlPlane.etcdVersion);
  // Of the node as it was when it failed: by now its etcd is well, and its journal gone.
  expect(evidence['failed-etcd']).toContain(lastWords);
  expect(evidence['failed-journal']).toMatch(/\nswap begun\n[^]*rollback begun\n$/);
  expect(evidence['etcd']).not.toContain(lastWords);
  await expectOldState(before);
});

test('an execution that is stopped from outside is noticed, and its undo can be started alone', async () => {
  const before = await oldState();
  const execution = startRestore(lab, { confirm: 'lab' });
  const { restoreId } = (await execution.entered('StartEtcd')).input as { restoreId: string };
  await lab.aws.stopExecution(execution.executionArn);
  expect((await execution.result).status).toBe('ABORTED');
  const stopped = await told(execution);
  expect(stopped.subjects).toEqual(['etcd of lab: Restore started', 'etcd of lab: RESTORE STOPPED: act now']);
  expect(stopped.last).toContain(`Start the restore machine with {"rollback":"${restoreId}"}`);
  expect(lab.aws.metrics.map(({ name }) => name)).toContain('RestoresInterrupted');
  const second = startRestore(lab, { rollback: restoreId });
  const { status, cause } = await second.result;
  expect([status, cause]).toEqual(['SUCCEEDED', undefined]);
  expect(visited(second)).toContain('RollBack');
  const { subjects, mails } = await told(second);
  expect(subjects).toEqual(['etcd of lab: Rollback started', 'etcd of lab: Rolled back']);
  expect(mails[0]?.text).toContain(`The undo of restore ${restoreId} of etcd of lab has started.`);
  expect(mails[0]?.text).not.toContain('before every node has proven the snapshot');
  await expectOldState(before);
});
