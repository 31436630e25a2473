import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import type { EtcdMinor } from './nodes/tools';
import {
  backUp,
  type Comparison,
  compare,
  contentsAt,
  type Disaster,
  lookBefore,
  type Proven,
  readReceipt,
  startRestore,
  strike,
} from './restores';
import { type Lab, labDir, startLab, synthesize } from './start-lab';

// `npm run matrix -- [--members 1,3,5] [--etcd 3.5,3.6,3.7] [--cases <part of a name>]`: restores for every size, version and disaster, each
// held against the backup key by key. It takes the better part of an hour; what CI runs of it is in test/lab/restore.test.ts.

interface Case {
  readonly name: string;
  /** Sizes of the control plane that it makes sense for. */
  readonly members: readonly number[];
  readonly run: (lab: Lab) => Promise<Comparison>;
}

const started = Date.now();
const say = (line: string): void => {
  console.log(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}`);
};

/** Backup, disaster, restore, comparison. */
const lose =
  (disaster: Disaster) =>
  async (lab: Lab): Promise<Comparison> => {
    const expected = await backUp(lab, disaster);
    return restore(lab, { expected, disaster, input: { snapshot: expected.backupId } });
  };

const restore = async (
  lab: Lab,
  run: {
    readonly expected: Proven;
    readonly disaster: Disaster;
    readonly input: object;
    readonly prepare?: () => Promise<void>;
  },
): Promise<Comparison> => {
  const seen = await lookBefore(lab);
  await strike(lab, run.disaster);
  await run.prepare?.();
  const execution = startRestore(lab, {
    confirm: 'lab',
    requestedBy: 'the matrix',
    reason: run.disaster,
    ...run.input,
  });
  const { status, error, cause } = await execution.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${error ?? ''} ${cause ?? ''}`);
  return compare(lab, { execution, expected: run.expected, seen, laterKey: 'gone' });
};

const fromSurvivor = async (lab: Lab): Promise<Comparison> => {
  await backUp(lab, 'older than the survivor');
  const seen = await lookBefore(lab);
  await strike(lab, 'quorum lost');
  const execution = startRestore(lab, { confirm: 'lab', from: 'survivor' });
  const { status, error, cause } = await execution.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${error ?? ''} ${cause ?? ''}`);
  const { snapshot, bump } = execution.visits.findLast(({ name }) => name === 'CheckEtcd')?.output as {
    snapshot: { revision: number };
    bump: number;
  };
  // All that the survivor held; that it is more than the backup shows in the key that was written after it.
  const contents = await contentsAt(lab.controlPlane.nodes[0] as LabNode, snapshot.revision + bump);
  return compare(lab, { execution, expected: { contents, revision: snapshot.revision }, seen, laterKey: 'there' });
};

/** The same backup twice: the second time the revision rises again, and a watch from between is cut. */
const twice = async (lab: Lab): Promise<Comparison> => {
  const expected = await backUp(lab, 'twice');
  const first = await restore(lab, { expected, disaster: 'none', input: { snapshot: expected.backupId } });
  const second = await restore(lab, { expected, disaster: 'none', input: { snapshot: expected.backupId } });
  if (second.revisionAfter <= first.revisionAfter)
    throw new Error(
      `revision after the second restore: got ${String(second.revisionAfter)}, expected more than ${String(first.revisionAfter)}`,
    );
  return second;
};

/** Back to what was before a restore that clients have read: by the backup that it took, with a higher revision again. */
const goBack = async (lab: Lab): Promise<Comparison> => {
  const expected = await backUp(lab, 'to be gone back from');
  const [first] = lab.controlPlane.nodes as [LabNode];
  await first.etcdctl(['put', '/registry/configmaps/default/only-before-the-restore', 'here']);
  const forth = startRestore(lab, { confirm: 'lab', snapshot: expected.backupId });
  const { status, cause } = await forth.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${cause ?? ''}`);
  const { restoreId, keptBackupId } = forth.visits.findLast(({ name }) => name === 'RecordRestore')?.output as {
    restoreId: string;
    keptBackupId: string;
  };
  const seen = await lookBefore(lab);
  const back = startRestore(lab, { rollback: restoreId, confirm: 'lab' });
  const end = await back.result;
  if (end.status !== 'SUCCEEDED') throw new Error(`the way back ended ${end.status}: ${end.cause ?? ''}`);
  const { snapshot, bump } = back.visits.findLast(({ name }) => name === 'CheckEtcd')?.output as {
    snapshot: { backupId: string; revision: number };
    bump: number;
  };
  if (snapshot.backupId !== keptBackupId)
    throw new Error(`backup that was gone back to: got ${snapshot.backupId}, expected ${keptBackupId}`);
  const here = await first.etcdctl([
    'get',
    '/registry/configmaps/default/only-before-the-restore',
    '--print-value-only',
  ]);
  if (here.trim() !== 'here')
    throw new Error(`what was written before the first restore: got '${here}', expected it back`);
  const contents = await contentsAt(first, snapshot.revision + bump);
  return compare(lab, {
    execution: back,
    expected: { contents, revision: snapshot.revision },
    seen,
    laterKey: 'there',
  });
};

/** A kubelet that ignores removed manifests, as one that has not reached its API server since it started. */
const ignoringKubelet = async (lab: Lab): Promise<Comparison> => {
  const expected = await backUp(lab, 'a kubelet that ignores removed manifests');
  for (const node of lab.controlPlane.nodes) await node.ignoreRemovedManifests(true);
  try {
    return await restore(lab, { expected, disaster: 'none', input: { snapshot: expected.backupId } });
  } finally {
    for (const node of lab.controlPlane.nodes) await node.ignoreRemovedManifests(false);
  }
};

/** Controllers held back, looked at, and let go by the very command that the end of the restore says. */
const held = async (lab: Lab): Promise<Comparison> => {
  const { nodes } = lab.controlPlane;
  const expected = await backUp(lab, 'with held controllers');
  const seen = await lookBefore(lab);
  const execution = startRestore(lab, { confirm: 'lab', snapshot: expected.backupId, hold: 'controllers' });
  const { status, cause, output } = await execution.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${cause ?? ''}`);
  const { next } = output as { next: readonly string[] };
  const command = next.map((step) => / run on each node: (.*)$/.exec(step)?.[1]).find((each) => each !== undefined);
  if (command === undefined)
    throw new Error(`next: got ${next.join('; ')}, expected a command to let the controllers go`);
  for (const node of nodes) {
    const running = [...node.pidsOf('kube-controller-manager'), ...node.pidsOf('kube-scheduler')];
    if (running.length > 0) throw new Error(`controllers on ${node.name}: got ${running.join(', ')}, expected none`);
    await node.must(['bash', '-c', command]);
  }
  for (const node of nodes) {
    for (const component of ['kube-controller-manager', 'kube-scheduler'] as const) {
      for (let tries = 0; node.pidsOf(component).length === 0; tries++) {
        if (tries > 300) throw new Error(`${component} on ${node.name}: got no process after 30 s, expected one`);
        await sleep(100);
      }
    }
  }
  return compare(lab, { execution, expected, seen, laterKey: 'gone' });
};

/** A snapshot that has a NOSPACE alarm in it: the alarm is of a member that is no more, and goes. */
const noSpace = async (lab: Lab): Promise<Comparison> => {
  const { nodes } = lab.controlPlane;
  const [first] = nodes as [LabNode];
  const big = 'x'.repeat(1_000_000);
  for (let index = 0; ; index++) {
    const put = await first.exec([`${first.imageBin}/etcdctl`, 'put', `/registry/filler/${String(index)}`], {
      env: first.etcdctlEnvironment,
      input: big,
    });
    if (put.code !== 0) break;
    if (index > 200) throw new Error('200 MB were written, expected the quota to end that');
  }
  await first.etcdctl(['del', '--prefix', '/registry/filler/']);
  const { revision } = JSON.parse(
    (await first.etcdctl(['endpoint', 'status', '-w', 'json']))
      .replace(/^\[|\]\s*$/g, '')
      .replace(/.*"header":/s, '')
      .replace(/,"version".*$/s, ''),
  ) as { revision: number };
  await first.etcdctl(['compact', '--physical', String(revision)]);
  for (const node of nodes) await node.etcdctl(['defrag']);
  const alarms = await first.etcdctl(['alarm', 'list']);
  if (!alarms.includes('NOSPACE')) throw new Error(`alarms: got '${alarms}', expected NOSPACE`);
  const stored = await lab.aws.invoke(String(lab.aws.outputs.get('BackupFunctionName')), { reason: 'NOSPACE' }).done;
  if (!stored.ok) throw new Error(`the backup under NOSPACE: ${JSON.stringify(stored.error)}`);
  const { key, backupId } = stored.result as { key: string; backupId: string };
  const delivery = await lab.aws.events.delivered(key);
  if (!delivery.delivered) throw new Error(String(delivery.error));
  await delivery.invocation.done;
  const receipt = await readReceipt(lab, backupId);
  if (!receipt.snapshot.alarms.some(({ alarm }) => alarm === 'NOSPACE'))
    throw new Error('the snapshot has no NOSPACE alarm, expected one');
  const expected = {
    backupId,
    revision: receipt.snapshot.revision,
    receipt,
    contents: await contentsAt(first, receipt.snapshot.revision),
  };
  const seen = await lookBefore(lab);
  const execution = startRestore(lab, { confirm: 'lab', snapshot: backupId });
  const { status, cause } = await execution.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${cause ?? ''}`);
  const after = await first.etcdctl(['alarm', 'list']);
  if (after.trim() !== '') throw new Error(`alarms after the restore: got '${after}', expected none`);
  // Neither key was written after this backup: etcd took no writes.
  return compare(lab, { execution, expected, seen, laterKey: 'gone' });
};

const CASES: readonly Case[] = [
  { name: 'healthy', members: [1, 3, 5], run: lose('none') },
  { name: 'one member down', members: [3, 5], run: lose('one member down') },
  { name: 'quorum lost', members: [1, 3, 5], run: lose('quorum lost') },
  { name: 'from the survivor', members: [3, 5], run: fromSurvivor },
  { name: 'all data gone', members: [1, 3, 5], run: lose('all data gone') },
  { name: "one node's data gone", members: [3, 5], run: lose("one node's data gone") },
];

const SPECIAL: readonly Case[] = [
  { name: 'the same backup twice', members: [3], run: twice },
  { name: 'back after clients have read', members: [3], run: goBack },
  { name: 'a kubelet that ignores removed manifests', members: [3], run: ignoringKubelet },
  { name: 'controllers held back', members: [3], run: held },
  { name: 'NOSPACE in the snapshot', members: [3], run: noSpace },
  { name: '--wal-dir, all data gone', members: [3], run: lose('all data gone') },
];

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      members: { type: 'string', default: '1,3,5' },
      etcd: { type: 'string', default: '3.5,3.6,3.7' },
      cases: { type: 'string', default: '' },
    },
  });
  const cdkOut = join(__dirname, '..', '.lab', 'matrix.cdk.out');
  say('synthesizing the stack');
  await synthesize(cdkOut);
  const rows: string[] = [];
  let failed = 0;
  const series: { title: string; options: Parameters<typeof startLab>[0]; cases: readonly Case[] }[] = [];
  for (const etcd of values.etcd.split(',') as EtcdMinor[])
    for (const members of values.members.split(',').map(Number))
      series.push({
        title: `etcd ${etcd}, ${String(members)} members`,
        options: { etcd, members },
        cases: CASES.filter((each) => each.members.includes(members)),
      });
  series.push({
    title: 'etcd 3.6, 3 members, --wal-dir, quota 64 MB',
    options: { etcd: '3.6', members: 3, walDir: true, quotaBytes: 64_000_000 },
    cases: SPECIAL,
  });
  for (const { title, options, cases } of series) {
    const chosen = cases.filter(({ name }) => name.includes(values.cases));
    if (chosen.length === 0) continue;
    let lab: Lab | undefined;
    for (const { name, run } of chosen) {
      const began = Date.now();
      try {
        if (lab === undefined) {
          // A bucket that a run that was killed left would be another cluster's.
          await rm(labDir('matrix'), { recursive: true, force: true });
          lab = await startLab({
            ...options,
            name: 'matrix',
            apiServer: true,
            cdkOut,
            aws: { ssm: { deliverySecondMs: 100 } },
          });
          await loadData(lab.controlPlane, { sizeBytes: 5_000_000 });
        }
        const { contents, revisionAfter, watchesCut } = await run(lab);
        rows.push(
          `ok      ${title}: ${name}: ${contents}, revision ${String(revisionAfter)}, ${String(watchesCut)} watches cut, ${((Date.now() - began) / 1000).toFixed(0)} s`,
        );
      } catch (error) {
        failed += 1;
        rows.push(`FAILED  ${title}: ${name}: ${error instanceof Error ? error.message : String(error)}`);
        // The next case begins on a control plane that is as it should be.
        await lab?.down();
        lab = undefined;
      }
      say(rows.at(-1) ?? '');
    }
    await lab?.down();
  }
  console.log(`\n${rows.join('\n')}`);
  console.log(`\n${String(rows.length - failed)} passed, ${String(failed)} failed`);
  if (failed > 0 || !existsSync(cdkOut)) process.exitCode = 1;
};

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
