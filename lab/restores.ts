import { GetObjectCommand } from '@aws-sdk/client-s3';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Receipt } from '../lambda/shared/receipt';
import type { Execution } from './aws/aws';
import { s3Client } from './aws/s3';
import type { LabNode } from './nodes/lab-node';
import { type LabWatch, openWatch } from './nodes/watch';
import type { Lab } from './start-lab';

// What the demo, the tests and the matrix share: how to lose a control plane, and how to tell whether it came back as it was.

/** How a control plane is lost. */
export type Disaster = 'none' | 'one member down' | 'quorum lost' | 'all data gone' | "one node's data gone";

/** A backup that was proven, and what etcd holds at its revision. */
export interface Proven {
  readonly backupId: string;
  readonly revision: number;
  readonly receipt: Receipt;
  /** Number of keys at the revision, and a SHA-256 over all keys and values. */
  readonly contents: string;
}

const STATE_DATA = '/var/lib/etcd-backup';
const LATER_KEY = '/registry/configmaps/default/written-after-the-backup';
const EARLIER_KEY = '/registry/configmaps/default/written-before-the-backup';

/** Writes the key that must be there after a restore, and takes away the one that must not. */
export const writeEarlier = async (node: LabNode): Promise<void> => {
  await node.etcdctl(['del', LATER_KEY]);
  await node.etcdctl(['put', EARLIER_KEY, `before ${new Date().toISOString()}`]);
};

/** Writes the key that must not be there after a restore of a backup from before. */
export const writeLater = (node: LabNode): Promise<string> =>
  node.etcdctl(['put', LATER_KEY, `after ${new Date().toISOString()}`]);

/** An output of the lab's stack. */
export const output = ({ aws }: Lab, name: string): string => {
  const value = aws.outputs.get(name);
  if (value === undefined)
    throw new Error(`the stack has no output ${name}, expected one of ${[...aws.outputs.keys()].join(', ')}`);
  return value;
};

/** All that a member holds at a revision, as "<keys> keys <SHA-256 over keys and values>". Needs no quorum. */
export const contentsAt = async (node: LabNode, revision: number): Promise<string> => {
  const text = await node.etcdctl([
    'get',
    '',
    '--prefix',
    '--consistency=s',
    `--rev=${String(revision)}`,
    '--command-timeout=120s',
    '-w',
    'json',
  ]);
  const { kvs = [] } = JSON.parse(text) as { kvs?: { key: string; value?: string; mod_revision: number }[] };
  const hash = createHash('sha256');
  for (const { key, value, mod_revision } of kvs) hash.update(`${key} ${value ?? ''} ${String(mod_revision)}\n`);
  return `${String(kvs.length)} keys ${hash.digest('hex').slice(0, 16)}`;
};

/** The revision that a member is at. Needs no quorum. */
export const revisionOf = async (node: LabNode): Promise<number> => {
  const [, revision] = /"revision":(\d+)/.exec(await node.etcdctl(['endpoint', 'status', '-w', 'json'])) ?? [];
  return Number(revision);
};

/** A receipt out of the bucket. */
export const readReceipt = async (lab: Lab, backupId: string): Promise<Receipt> => {
  const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  try {
    const object = await s3.send(
      new GetObjectCommand({ Bucket: output(lab, 'BucketName'), Key: `receipts/${backupId}.json` }),
    );
    return JSON.parse((await object.Body?.transformToString()) ?? '') as Receipt;
  } finally {
    s3.destroy();
  }
};

const firstOf = ({ controlPlane: { nodes } }: Lab): LabNode => {
  const [first] = nodes;
  if (first === undefined) throw new Error('a lab without nodes, expected one at least');
  return first;
};

/** Takes a backup and waits for its proof. Throws when either fails. */
export const prove = async (lab: Lab, reason: string): Promise<Receipt> => {
  const { aws } = lab;
  const stored = await aws.invoke(output(lab, 'BackupFunctionName'), { reason }).done;
  if (!stored.ok) throw new Error(`the backup: got ${JSON.stringify(stored.error)}, expected it to be stored`);
  const { key, backupId } = stored.result as { key: string; backupId: string };
  const delivery = await aws.events.delivered(key);
  if (!delivery.delivered) throw new Error(`the rule could not deliver: ${delivery.error}`);
  const proven = await delivery.invocation.done;
  if (!proven.ok) throw new Error(`the proof: got ${JSON.stringify(proven.error)}, expected a receipt`);
  return readReceipt(lab, backupId);
};

/** Takes a backup, waits for its proof, and reads what etcd holds at its revision. Throws when either fails. */
export const backUp = async (lab: Lab, reason = 'for the lab'): Promise<Proven> => {
  const first = firstOf(lab);
  await writeEarlier(first);
  const receipt = await prove(lab, reason);
  const { revision } = receipt.snapshot;
  const contents = await contentsAt(first, revision);
  await writeLater(first);
  return { backupId: receipt.backupId, revision, receipt, contents };
};

/** Ends a node's member as a crash of the machine's software does: kubelet stopped, process killed, data as it was. */
export const killMember = async (node: LabNode): Promise<void> => {
  await node.stopKubelet();
  for (const component of ['etcd', 'kube-apiserver'] as const)
    for (const pid of node.pidsOf(component)) await node.must(['kill', '-KILL', String(pid)]);
};

/** Does what the disaster says. Throws for one that a control plane of this size cannot have. */
export const strike = async ({ controlPlane: { nodes } }: Lab, disaster: Disaster): Promise<void> => {
  switch (disaster) {
    case 'none':
      return;
    case 'one member down':
      await killMember(nodes.at(-1) as LabNode);
      return;
    case 'quorum lost':
      for (const node of nodes.slice(nodes.length === 1 ? 0 : -(Math.floor(nodes.length / 2) + (nodes.length % 2))))
        await killMember(node);
      return;
    case 'all data gone':
      for (const node of nodes) await node.wipeData();
      return;
    case "one node's data gone":
      await (nodes.at(-1) as LabNode).wipeData();
      return;
  }
};

/** What clients saw before: to be held against what they see after. */
export interface Seen {
  readonly watches: readonly LabWatch[];
  /** The highest revision that any member was at. */
  readonly revision: number;
}

/** Opens a watch on each node that serves, and notes the highest revision. */
export const lookBefore = async ({ controlPlane: { nodes } }: Lab): Promise<Seen> => {
  const watches = await Promise.all(nodes.map((node) => openWatch(node, { prefix: '/registry/' })));
  const revisions = await Promise.all(nodes.map(revisionOf));
  return { watches, revision: Math.max(...revisions) };
};

/** Starts a restore. */
export const startRestore = (lab: Lab, input: unknown): Execution =>
  lab.aws.startExecution(output(lab, 'RestoreMachineArn'), input);

const within = async <T>(promise: Promise<T>, seconds: number, what: string): Promise<T> => {
  const controller = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(seconds * 1000, undefined, { signal: controller.signal }).then(() => {
        throw new Error(`${what}: nothing for ${String(seconds)} s`);
      }),
    ]);
  } finally {
    controller.abort();
  }
};

/** What a restore leaves that stands in the way of a backup or of the next restore. */
export const leftBehind = ({ controlPlane: { nodes } }: Lab): string[] =>
  nodes.flatMap((node) =>
    [
      `${STATE_DATA}/restore/journal`,
      `${STATE_DATA}/restore/journal.next`,
      ...named(node, '/var/lib/etcd', '.restore-'),
      ...named(node, '/etc/kubernetes', 'manifests.before-'),
      // What failed is kept for the evidence, until the next restore.
      ...named(node, `${STATE_DATA}/restore`, '2').filter((path) => !/\.failed(\.next)?$/.test(path)),
    ]
      .filter((path) => existsSync(`/proc/${String(node.pid)}/root${path}`))
      .concat(existsSync(`/proc/${String(node.pid)}/root/run/etcd-backup`) ? ['/run/etcd-backup'] : [])
      .map((path) => `${path} is still there on ${node.name}`),
  );

/** Paths in a folder of a node whose names begin so. */
export const named = (node: LabNode, folder: string, start: string): string[] => {
  const path = `/proc/${String(node.pid)}/root${folder}`;
  return existsSync(path)
    ? readdirSync(path)
        .filter((name) => name.startsWith(start))
        .map((name) => `${folder}/${name}`)
    : [];
};

/** What was found after a restore. Throws with the first thing that is not as it has to be. */
export interface Comparison {
  readonly contents: string;
  readonly revisionAfter: number;
  readonly writesWhileStopped: number;
  readonly watchesCut: number;
}

/**
 * Holds the restored control plane against the backup: every key and value of it is there with its revision and nothing else, on each node; what was
 * written after it is not; the revision is higher than any seen before; watches from before get `compacted`; API servers are ready; nothing
 * was written between stop and start; nothing is left that blocks the next restore or backup.
 */
export const compare = async (
  lab: Lab,
  run: {
    readonly execution: Execution;
    readonly expected: { readonly contents: string; readonly revision: number };
    readonly seen: Seen;
    readonly laterKey: 'gone' | 'there';
    readonly leftBehind?: 'judged by the caller';
  },
): Promise<Comparison> => {
  const { nodes } = lab.controlPlane;
  const { execution, expected, seen } = run;
  const state = execution.visits.findLast(({ name }) => name === 'CheckEtcd')?.output as {
    bump: number;
    snapshot: { revision: number };
  };
  const revisionAfter = state.snapshot.revision + state.bump;
  const complaints: string[] = [];
  const hold = (what: string, got: unknown, wanted: unknown): void => {
    if (got !== wanted) complaints.push(`${what}: got ${String(got)}, expected ${String(wanted)}`);
  };
  if (revisionAfter <= seen.revision)
    complaints.push(`revision after: got ${String(revisionAfter)}, expected more than ${String(seen.revision)}`);
  for (const node of nodes) {
    hold(`contents of ${node.name}`, await contentsAt(node, revisionAfter), expected.contents);
    hold(
      `key from before on ${node.name}`,
      (await node.etcdctl(['get', EARLIER_KEY, '--print-value-only'])).startsWith('before'),
      true,
    );
    hold(
      `key from after on ${node.name}`,
      (await node.etcdctl(['get', LATER_KEY, '--print-value-only'])) !== '',
      run.laterKey === 'there',
    );
    hold(`API server of ${node.name} ready`, await node.apiReady(), true);
    hold(`manifests of ${node.name}`, readdirSync(node.path('/etc/kubernetes/manifests')).length, 4);
  }
  if (run.leftBehind !== 'judged by the caller') complaints.push(...leftBehind(lab));
  let watchesCut = 0;
  for (const watch of seen.watches) {
    const compactRevision = await within(watch.compacted, 60, 'a watch from before the restore');
    hold('compacted revision that a watch from before was told', compactRevision, revisionAfter);
    watchesCut += 1;
  }
  // Called again, a state has more than one visit.
  const stopped = execution.visits.findLast(({ name }) => name === 'StopControlPlane')?.exited?.getTime() ?? 0;
  const started = execution.visits.find(({ name }) => name === 'StartApiServer')?.entered.getTime() ?? 0;
  const writes = nodes.flatMap((node) => node.apiWrites());
  const writesWhileStopped = writes.filter(({ time }) => time > stopped && time < started).length;
  hold('writes between stop and start', writesWhileStopped, 0);
  hold(
    'API servers write again',
    writes.some(({ revision }) => revision > revisionAfter),
    true,
  );
  if (complaints.length > 0) throw new Error(`not restored as it was: ${complaints.join('; ')}`);
  return { contents: expected.contents, revisionAfter, writesWhileStopped, watchesCut };
};
