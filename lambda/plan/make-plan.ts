import { timeOf } from '../shared/backup-id';
import type { Receipt } from '../shared/receipt';
import { FORCE_FIELDS, type RestoreState } from '../shared/restore-state';
import type { InspectedNode } from './inspect';
import type { Judgement, Survivor } from './judge';
import type { Records } from './records';

/** What a plan is made of. */
export interface PlanInput {
  readonly clusterName: string;
  readonly state: Pick<RestoreState, 'restoreId' | 'mode' | 'request'>;
  readonly now: Date;
  /** null: from a survivor. */
  readonly receipt: Receipt | null;
  readonly newest: Receipt | null;
  readonly nodes: readonly InspectedNode[];
  readonly judgement: Judgement;
  readonly records: Records;
  readonly kubernetesNodes: KubernetesNodes;
  readonly warnings: readonly string[];
  /** The restore whose pre-restore backup this is about; null: none. */
  readonly wayBackOf: string | null;
}

/** Names of Kubernetes' nodes, in the backup and now. */
export interface KubernetesNodes {
  /** In the backup, and EC2 runs no such instance. null: the backup does not say, or its names are not those of EC2. */
  readonly gone: readonly string[] | null;
  /** Known now, and not in the backup. */
  readonly joinedAfter: readonly string[];
}

/** What the console shows; JSON of at most 20 KB. */
export type Plan = Readonly<Record<string, unknown>>;

/** Step Functions takes 256 KB, a person much less. */
export const MAX_PLAN_BYTES = 20_000;

const KINDS = 12;
const NAMES = 10;

/** The plan, in the order in which a person reads it. */
export function makePlan(input: PlanInput): Plan {
  const full = planOf(input, { lists: Infinity, characters: 2000 });
  // Long lists and sentences go first; what is decided stays.
  for (const bounds of [
    { lists: 40, characters: 1000 },
    { lists: 10, characters: 500 },
    { lists: 5, characters: 250 },
  ]) {
    if (sizeOf(full) <= MAX_PLAN_BYTES) {
      return full;
    }
    const shorter = planOf(input, bounds);
    if (sizeOf(shorter) <= MAX_PLAN_BYTES) {
      return shorter;
    }
  }
  return planOf(input, { lists: 2, characters: 200 });
}

function sizeOf(plan: Plan): number {
  return Buffer.byteLength(JSON.stringify(plan));
}

interface Bounds {
  readonly lists: number;
  readonly characters: number;
}

function planOf(input: PlanInput, bounds: Bounds): Plan {
  const { clusterName, state, receipt, judgement, records, wayBackOf } = input;
  const { refusals } = judgement;
  return {
    result: 'Plan',
    summary: summaryOf(input),
    cluster: clusterName,
    restoreId: state.restoreId,
    ...(wayBackOf === null ? {} : { wayBackOf }),
    canBeRestored: refusals.length === 0,
    refusals: bounded(refusals, bounds).map((refusal) =>
      typeof refusal === 'string'
        ? refusal
        : {
            name: refusal.name,
            sentence: cut(refusal.sentence, bounds),
            ...(refusal.force === null ? {} : { force: `"${refusal.force}":true` }),
          },
    ),
    warnings: bounded([...input.warnings, ...judgement.warnings], bounds).map((warning) => cut(warning, bounds)),
    backup: receipt === null ? null : backupOf(receipt, input),
    lost: lostOf(input),
    contents: receipt === null ? null : contentsOf(receipt, input.newest),
    nodes: input.nodes.map((node) => nodeOf(node, input)),
    absentMembers: judgement.absent.map(
      ({ member, down, why }) => `${member.name}: ${down ? 'down' : 'not known to be down'}, ${cut(why, bounds)}`,
    ),
    kubernetesNodes: {
      inBackup: receipt?.inventory.nodes?.length ?? null,
      gone: input.kubernetesNodes.gone === null ? null : bounded(input.kubernetesNodes.gone, bounds),
      // Their objects are not in the backup: each kubelet makes its own anew when it starts.
      joinedAfterTheBackup: bounded(input.kubernetesNodes.joinedAfter, bounds),
    },
    survivors: judgement.survivors.map((survivor) => survivorOf(survivor, input)),
    durations: durationsOf(records),
    next: nextOf(input),
  };
}

function cut(text: string, { characters }: Bounds): string {
  return text.length > characters ? `${text.slice(0, characters)}…` : text;
}

function bounded<T>(items: readonly T[], { lists }: Bounds): (T | string)[] {
  return items.length <= lists ? [...items] : [...items.slice(0, lists), `and ${String(items.length - lists)} more`];
}

function summaryOf({ clusterName, state, receipt, judgement, nodes, now }: PlanInput): string {
  const what =
    receipt === null
      ? judgement.survivors[0] === undefined
        ? 'what a survivor has, of which there is none'
        : `what the member ${judgement.survivors[0].memberName} has, at revision ${String(judgement.survivors[0].revision)}`
      : `backup ${receipt.backupId}, ${ageOf(receipt.backupId, now)} old`;
  const on = `${String(judgement.nodes.length)} of ${String(nodes.length)} running nodes of ${clusterName}`;
  const { refusals } = judgement;
  const but =
    refusals.length === 0
      ? 'nothing speaks against it'
      : `it would be refused: ${[...new Set(refusals.map(({ name }) => name))].join(', ')}`;
  return `${state.mode === 'plan' ? 'would restore' : 'restores'} ${what}, on ${on}; ${but}`;
}

function backupOf(receipt: Receipt, { now, newest }: PlanInput): Record<string, unknown> {
  const { snapshot, announced } = receipt;
  return {
    id: receipt.backupId,
    age: ageOf(receipt.backupId, now),
    kind: receipt.kind,
    class: receipt.class,
    isNewest: newest?.backupId === receipt.backupId,
    ...(newest === null || newest.backupId === receipt.backupId ? {} : { newest: newest.backupId }),
    timeline: receipt.timeline,
    verified: `${receipt.verifiedAt} by ${receipt.verifiedBy.function} version ${receipt.verifiedBy.version}`,
    takenOn: `${announced.memberName} (${announced.instanceId})`,
    revision: snapshot.revision,
    etcdVersion: announced.etcdVersion,
    kubernetesVersion: announced.kubernetesVersion,
    sizeBytes: receipt.sizeBytes,
    compressedBytes: receipt.compressedBytes,
    key: receipt.key,
    versionId: receipt.versionId,
    findings: receipt.findings.map(({ finding }) => finding),
  };
}

/** What is not in the backup, as far as revisions say. A look inside etcd is none that a plan may take. */
function lostOf({ receipt, judgement }: PlanInput): Record<string, unknown> {
  const [best] = judgement.survivors;
  if (receipt === null) {
    return {
      sentence:
        best === undefined
          ? 'nothing is known'
          : `what ${best.memberName} has is kept; what other members had and it had not received is not known`,
    };
  }
  const since = Math.max(0, (best?.revision ?? receipt.announced.liveRevision) - receipt.snapshot.revision);
  return {
    revisions: since,
    sentence:
      best === undefined || best.revision < receipt.snapshot.revision
        ? `no member has more than this backup: what was written after it is lost, and how much that was is not known`
        : `${best.memberName} is ${String(since)} revisions further: each is a write that a restore takes back`,
  };
}

/** Live objects by kind, the largest first, beside those of the newest backup. */
function contentsOf({ inventory, snapshot, backupId }: Receipt, newest: Receipt | null): Record<string, unknown> {
  const then = newest === null || newest.backupId === backupId ? null : newest.inventory;
  const counts = (kinds: Receipt['inventory']['kinds']) => new Map(kinds.map(({ kind, objects }) => [kind, objects]));
  const before = counts(inventory.kinds);
  const after = then === null ? before : counts(then.kinds);
  const changed = [...new Set([...before.keys(), ...after.keys()])]
    .map((kind) => ({ kind, here: before.get(kind) ?? 0, inNewest: after.get(kind) ?? 0 }))
    .filter(({ here, inNewest }) => here !== inNewest)
    .toSorted((a, b) => Math.abs(b.here - b.inNewest) - Math.abs(a.here - a.inNewest));
  return {
    objects: inventory.objects,
    bytes: inventory.bytes,
    events: inventory.events.objects,
    kinds: Object.fromEntries(inventory.kinds.slice(0, KINDS).map(({ kind, objects }) => [kind, objects])),
    otherKinds: Math.max(0, inventory.kinds.length - KINDS),
    secrets: `${String(snapshot.secrets.total)}, of which ${String(snapshot.secrets.plainText)} in plain text`,
    ...(then === null
      ? {}
      : {
          // What is alive now is not read: the newest backup stands for it.
          againstNewest: {
            objects: then.objects - inventory.objects,
            kinds: changed
              .slice(0, KINDS)
              .map(({ kind, here, inNewest }) => `${kind}: ${String(here)} here, ${String(inNewest)} there`),
          },
        }),
  };
}

function nodeOf({ instanceId, inspection, problem }: InspectedNode, { receipt }: PlanInput): Record<string, unknown> {
  if (inspection === null) {
    return { instanceId, problem: problem.slice(0, 500) };
  }
  const { etcd, apiServer, data, disk, journal } = inspection;
  const { member } = etcd;
  return {
    instanceId,
    hostname: inspection.hostname,
    member: etcd.memberName,
    etcd: `${etcd.version ?? 'unknown version'}, ${
      member === null
        ? etcd.running
          ? 'runs and does not answer'
          : 'does not run'
        : `revision ${String(member.revision)}, ${member.linearizable ? 'has a quorum' : 'has no quorum'}, ${String(member.members.length)} members`
    }`,
    apiServer: `${apiServer.version ?? 'unknown version'}, ${apiServer.ready ? 'ready' : apiServer.running ? 'not ready' : 'does not run'}`,
    kubelet: inspection.kubelet.active ? 'active' : inspection.kubelet.installed ? 'not active' : 'not installed',
    data: data.member ? `${String(data.dbBytes ?? 0)} bytes` : 'none',
    freeDiskBytes: disk.available,
    // As preflight counts it: the compressed file, the snapshot and the restored database lie side by side for a while.
    ...(receipt === null ? {} : { neededDiskBytes: receipt.compressedBytes + 2 * receipt.sizeBytes }),
    kept: data.kept.slice(-NAMES),
    ...(journal === null ? {} : { unfinishedRestore: journal.restoreId }),
  };
}

function survivorOf(survivor: Survivor, { judgement, newest }: PlanInput): Record<string, unknown> {
  const { memberName, instanceId, revision, linearizable } = survivor;
  const behind = (judgement.survivors[0]?.revision ?? revision) - revision;
  return {
    member: memberName,
    instanceId,
    revision,
    quorum: linearizable,
    ...(newest === null ? {} : { beyondNewestBackup: revision - newest.snapshot.revision }),
    // With a quorum the others are only read a moment earlier or later.
    wouldLose: linearizable
      ? 'nothing: it has a quorum'
      : `${String(behind)} revisions against the member that knows most, and what no member that serves has received`,
  };
}

function durationsOf({ restored, lastDrill }: Records): Record<string, unknown> {
  const last = restored.at(-1);
  return {
    lastRestore:
      last === undefined
        ? null
        : { restoreId: last.id, downtimeSeconds: last.downtimeSeconds ?? null, seconds: last.seconds ?? null },
    lastDrill: lastDrill === null ? null : { drill: lastDrill.id, seconds: lastDrill.seconds ?? null },
  };
}

/** The exact input for each thing that can be done now. */
function nextOf({ clusterName, state, receipt, judgement, wayBackOf }: PlanInput): Record<string, unknown> {
  const { refusals } = judgement;
  // What was forced already is no refusal any more, and would be one without its field.
  const force = Object.fromEntries([
    ...state.request.forced.map((name) => [FORCE_FIELDS[name], true]),
    ...refusals.flatMap((refusal) => (refusal.force === null ? [] : [[refusal.force, true]])),
  ]) as Record<string, unknown>;
  const asked = Object.fromEntries([
    ...(state.request.hold === null ? [] : [['hold', state.request.hold]]),
    ...(wayBackOf === null
      ? receipt === null
        ? [['from', 'survivor']]
        : [['snapshot', receipt.backupId]]
      : [['rollback', wayBackOf]]),
  ]) as Record<string, unknown>;
  const who = { requestedBy: 'your name', reason: 'why' };
  const input = JSON.stringify({ confirm: clusterName, ...asked, ...force, ...who });
  const unforceable = refusals.some((refusal) => refusal.force === null);
  const [best] = judgement.survivors;
  return {
    ...(refusals.length === 0 ? { toRestoreThis: input } : {}),
    ...(unforceable ? { correct: 'what the refusals without a force say, then start with {} again' } : {}),
    // Named for what it does: at three in the morning what is there to be pasted is pasted.
    ...(refusals.length > 0 && !unforceable
      ? {
          correct: 'what the refusals say, then start with {} again',
          forces: [...new Set([...state.request.forced, ...refusals.map(({ name }) => name)])].join(', '),
          toForceAllOfThis: input,
        }
      : {}),
    ...(best === undefined || best.linearizable || receipt === null
      ? {}
      : { toRestoreFromTheSurvivor: JSON.stringify({ confirm: clusterName, from: 'survivor', ...who }) }),
    toSeeAnother: '{"snapshot":"newest before 2026-11-20T14:00:00Z"}',
  };
}

/** For example `3 h 5 min`. */
function ageOf(backupId: string, now: Date): string {
  const time = timeOf(backupId).getTime();
  const minutes = Math.max(0, Math.floor((now.getTime() - time) / 60_000));
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  return days > 0
    ? `${String(days)} d ${String(hours)} h`
    : hours > 0
      ? `${String(hours)} h ${String(minutes % 60)} min`
      : `${String(minutes)} min`;
}
