import type { EC2Client } from '@aws-sdk/client-ec2';
import type { KMSClient } from '@aws-sdk/client-kms';
import type { SFNClient } from '@aws-sdk/client-sfn';
import type { SSMClient } from '@aws-sdk/client-ssm';
import * as z from 'zod/mini';
import type { Node } from '../backup/choose-nodes';
import { findNodes } from '../backup/find-nodes';
import { listTools } from '../backup/tool-parameters';
import { canonicalJson, readAnnouncement } from '../shared/announcement';
import { backupIdOf } from '../shared/backup-id';
import { check } from '../shared/check';
import { chosenFromReceipt } from '../shared/chosen-snapshot';
import {
  AnnouncementError,
  describeError,
  EventError,
  NoNodeError,
  RestoreRefusedError,
  SigningKeyError,
  StoreError,
} from '../shared/errors';
import type { Inspection } from '../shared/inspection';
import type { OfficialTools } from '../shared/official-tools';
import { findReceipt, type Receipt } from '../shared/receipt';
import type { RestoreNode, RestoreState } from '../shared/restore-state';
import type { Document } from '../shared/run-document';
import { getVersion, listVersions, putNew, sha256Hex, type Store } from '../shared/store';
import type { Fields, Telemetry } from '../shared/telemetry';
import { choosePreRestore, chooseSnapshot, findNewest } from './choose-snapshot';
import { findByHosts, findByIds, findByTags, inVpcsOf, type KnownInstance } from './find-instances';
import { type InspectedNode, inspectNodes } from './inspect';
import { judge, type Judgement } from './judge';
import { type KubernetesNodes, makePlan, type Plan } from './make-plan';
import { hostsOf, isSameMember, knownMembers } from './members';
import { requireOnlyOne } from './one-at-a-time';
import { planKey, readPlannedNodes, type Records, readRecords } from './records';
import { examples, readRequest } from './request';

/** What the function works with. */
export interface PlanDeps {
  readonly clusterName: string;
  readonly controlPlaneTags: Readonly<Record<string, string>>;
  /** SHA-256 of tools that may be used although they are not official. */
  readonly acknowledgedTools: readonly string[];
  /** How full a restore may make a node's disk, in percent. */
  readonly diskLimitPercent: number;
  readonly inspectDocument: Document;
  readonly receiptKeyArn: string;
  readonly store: Store;
  readonly ec2: EC2Client;
  readonly kms: KMSClient;
  readonly sfn: SFNClient;
  readonly ssm: SSMClient;
  /** Sends each request once. */
  readonly ssmOnce: SSMClient;
  readonly officialTools: OfficialTools;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** One run of the function. */
export interface Invocation {
  readonly requestId: string;
}

const chooseEvent = z.strictObject(
  {
    phase: z.literal('ChooseSnapshot', "'ChooseSnapshot' or 'Inspect'"),
    machine: z.enum(['restore', 'plan'], "'restore' or 'plan'"),
    input: z.unknown(),
    execution: z.object(
      { id: z.string('the ARN of an execution'), startTime: z.iso.datetime('a time in ISO 8601') },
      'an object',
    ),
  },
  'an event of the state machine',
);

// What the function itself has returned one state before, untouched by the machine.
const inspectEvent = z.strictObject(
  {
    phase: z.literal('Inspect'),
    state: z.custom<RestoreState>(
      (state: unknown) => typeof state === 'object' && state !== null && 'restoreId' in state,
      'the state of a restore',
    ),
  },
  'an event of the state machine',
);

const NEXT = 'start an execution of the state machine; nothing else starts this function';

/** Runs one of the two phases of the machines that only look. Every error says what to do; none is worth a retry but those of AWS. */
export async function plan(deps: PlanDeps, event: unknown, invocation: Invocation): Promise<RestoreState> {
  const isInspect = typeof event === 'object' && event !== null && 'phase' in event && event.phase === 'Inspect';
  const asked = isInspect ? valid(inspectEvent, event) : valid(chooseEvent, event);
  try {
    if (asked.phase === 'Inspect') {
      const { state } = asked;
      return await inPhase(deps, invocation, 'inspect', state.restoreId, () => inspect(deps, state));
    }
    const { machine, input, execution } = asked;
    const restoreId = backupIdOf(new Date(execution.startTime));
    return await inPhase(deps, invocation, 'chooseSnapshot', restoreId, () =>
      choose(deps, { machine, input, restoreId, executionArn: execution.id }),
    );
  } finally {
    deps.telemetry.publish();
  }
}

function valid<Schema extends z.core.$ZodType>(schema: Schema, event: unknown): z.output<Schema> {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(checked.problems, NEXT);
  }
  return checked.value;
}

/** One log line and one duration, whatever comes of it. */
async function inPhase(
  deps: PlanDeps,
  { requestId }: Invocation,
  phase: string,
  restoreId: string,
  work: () => Promise<readonly [RestoreState, Fields]>,
): Promise<RestoreState> {
  const started = deps.now().getTime();
  const seconds = () => (deps.now().getTime() - started) / 1000;
  try {
    const [state, fields] = await work();
    deps.telemetry.phaseDone(phase, seconds(), { restoreId, mode: state.mode, ...fields });
    return state;
  } catch (error) {
    deps.telemetry.phaseFailed(phase, seconds(), { restoreId, error: describeError(error), requestId });
    throw error;
  }
}

async function choose(
  deps: PlanDeps,
  started: {
    readonly machine: 'restore' | 'plan';
    readonly input: unknown;
    readonly restoreId: string;
    readonly executionArn: string;
  },
): Promise<readonly [RestoreState, Fields]> {
  const { restoreId, executionArn, machine } = started;
  const { request, rollbackId } = readRequest(started.input, { clusterName: deps.clusterName, machine });
  if (request.confirm || rollbackId !== null) {
    await requireOnlyOne(deps, executionArn);
  }
  const chosen =
    rollbackId === null && request.from === 'backup'
      ? await chooseSnapshot(deps, request.snapshot, await readRecords(deps.store))
      : undefined;
  const state: RestoreState = {
    restoreId,
    executionArn,
    mode: rollbackId !== null ? 'rollback' : request.confirm ? 'restore' : 'plan',
    request,
    rollbackId,
    snapshot: chosen === undefined ? null : chosenFromReceipt(chosen.receipt),
    nodes: [],
    survivor: null,
    plan: null,
    highestRevision: 0,
    bump: 0,
    token: '',
    keptBackupId: null,
    served: false,
    step: { name: 'ChooseSnapshot', done: true, ok: true },
    failure: null,
    warnings: chosen?.warnings ?? [],
    seconds: {},
    stoppedAt: null,
    servedAt: null,
  };
  return [state, { snapshot: state.snapshot?.backupId ?? null, from: request.from, rollback: rollbackId }];
}

async function inspect(deps: PlanDeps, state: RestoreState): Promise<readonly [RestoreState, Fields]> {
  const { restoreId } = state;
  if (state.mode !== 'plan') {
    // Once more: Step Functions lists what runs with some delay.
    await requireOnlyOne(deps, state.executionArn);
  }
  if (state.rollbackId !== null) {
    // Nothing of the bucket is needed to undo: S3 may be what the restore failed for.
    const { running, warnings } = await nodesOfRestore(deps, state.rollbackId);
    const nodes = await inspectNodes(deps, running, { restoreId, peers: [] });
    const record = await recordOf(deps, state.rollbackId);
    const undo = undoOf(state, state.rollbackId, nodes, { ...record, warnings: [...warnings, ...record.warnings] });
    if (undo !== undefined) {
      return [undo, { rollback: state.rollbackId, served: undo.served, nodes: undo.nodes.length }];
    }
    return wayBack(deps, state, state.rollbackId);
  }
  const records = await readRecords(deps.store);
  const receipt = state.snapshot === null ? null : await receiptOf(deps, state.snapshot.backupId);
  return finish(deps, state, { records, receipt, wayBackOf: null });
}

/** A restore that has ended is not undone: what was there before it is restored, with a revision that is higher again. */
async function wayBack(
  deps: PlanDeps,
  state: RestoreState,
  rollbackId: string,
): Promise<readonly [RestoreState, Fields]> {
  const records = await readRecords(deps.store);
  const { receipt, warnings } = await choosePreRestore(deps, rollbackId, records);
  return finish(
    deps,
    {
      ...state,
      mode: state.request.confirm ? 'restore' : 'plan',
      rollbackId: null,
      snapshot: chosenFromReceipt(receipt),
      warnings: [...state.warnings, ...warnings],
    },
    { records, receipt, wayBackOf: rollbackId },
  );
}

/** What is restored, and what was done before. */
interface Subject {
  readonly records: Records;
  /** null: from a survivor. */
  readonly receipt: Receipt | null;
  readonly wayBackOf: string | null;
}

async function finish(
  deps: PlanDeps,
  state: RestoreState,
  { records, receipt, wayBackOf }: Subject,
): Promise<readonly [RestoreState, Fields]> {
  const newest = (await findNewest(deps, records)).chosen?.receipt ?? null;
  const fleet = await lookAt(
    deps,
    state.restoreId,
    [receipt, newest].filter((known) => known !== null),
  );
  const judgement = judge({
    request: state.request,
    receipt,
    newest,
    ...fleet,
    tools: await listTools(deps.store),
    officialTools: deps.officialTools,
    acknowledgedTools: deps.acknowledgedTools,
    diskLimitPercent: deps.diskLimitPercent,
    recordedRevision: records.highestRevision,
  });
  const warnings = [...state.warnings, ...records.warnings, ...fleet.warnings];
  const shown = makePlan({
    clusterName: deps.clusterName,
    state,
    now: deps.now(),
    receipt,
    newest,
    nodes: fleet.nodes,
    judgement,
    records,
    kubernetesNodes: await compareKubernetesNodes(deps, receipt, newest, fleet),
    warnings,
    wayBackOf,
  });
  await recordPlan(deps, state, shown);
  const fields = {
    snapshot: receipt?.backupId ?? null,
    nodes: judgement.nodes.map(({ instanceId }) => instanceId),
    refusals: judgement.refusals.map(({ name }) => name),
  };
  requireNoRefusal(deps, state, judgement);
  const [best] = judgement.survivors;
  return [
    {
      ...state,
      nodes: judgement.nodes,
      leftOut: fleet.nodes.flatMap(({ instanceId, inspection }) =>
        inspection?.etcd.manifest === 'missing' ? instanceId : [],
      ),
      survivor: best === undefined ? null : { instanceId: best.instanceId, revision: best.revision },
      plan: shown,
      highestRevision: judgement.highestRevision,
      clusterIdsBefore: judgement.clusterIdsBefore,
      warnings: [...warnings, ...judgement.warnings],
      step: { name: 'Inspect', done: true, ok: true },
    },
    fields,
  ];
}

/** A plan shows its refusals; a restore ends with them. */
function requireNoRefusal(deps: PlanDeps, { mode, restoreId }: RestoreState, { refusals }: Judgement): void {
  if (mode === 'plan' || refusals.length === 0) {
    return;
  }
  const fields = [...new Set(refusals.flatMap(({ force }) => force ?? []))];
  throw new RestoreRefusedError(
    refusals.map(({ name, sentence }) => `${name}: ${sentence}`),
    `the plan is in s3://${deps.store.bucket}/${planKey(restoreId)}; correct each${
      fields.length === 0
        ? ''
        : `, or force what can be forced with ${fields.map((field) => `"${field}":true`).join(', ')}`
    }, and start again`,
  );
}

/** Writes the plan beside the records of restores. One that is there is of an earlier run of this state, or of a plan of the same second. */
async function recordPlan(deps: PlanDeps, state: RestoreState, shown: Plan): Promise<void> {
  const body = Buffer.from(
    canonicalJson({
      schema: 1,
      cluster: deps.clusterName,
      executionArn: state.executionArn,
      mode: state.mode,
      request: state.request,
      plannedAt: deps.now().toISOString(),
      plan: shown,
    }),
  );
  await putNew(deps.store, { key: planKey(state.restoreId), body });
}

/** The receipt that ChooseSnapshot has chosen, read again: the state carries no more of it than a restore needs. */
async function receiptOf(deps: PlanDeps, backupId: string): Promise<Receipt> {
  const { receipt, untrusted } = await findReceipt(deps, backupId);
  if (receipt === undefined) {
    throw new RestoreRefusedError(
      [
        `backup ${backupId}: its receipt was there a moment ago and is not any more; ${untrusted[0] ?? 'no version of it lies in the bucket'}`,
      ],
      examples(deps.clusterName),
    );
  }
  return receipt;
}

// Nothing triggers a restore, or its undo, once more.
const WHEN_EC2_ANSWERS = 'nothing was changed: start it again when EC2 answers';

/**
 * The running nodes that a restore which is to be undone may have stopped. While EC2 answers no search, those that its plan or a backup knew.
 * Throws NoNodeError when neither EC2 nor the bucket says.
 */
async function nodesOfRestore(
  deps: PlanDeps,
  rollbackId: string,
): Promise<{ readonly running: readonly Node[]; readonly warnings: readonly string[] }> {
  try {
    const { nodes: running } = await findNodes(deps, [], WHEN_EC2_ANSWERS);
    return { running, warnings: [] };
  } catch (error) {
    if (!(error instanceof NoNodeError)) {
      throw error;
    }
    const { ids, from, warnings } = await knownOf(deps, rollbackId);
    if (ids.length === 0) {
      throw new NoNodeError(
        `${error.message}; the bucket was asked for the ids, too: got ${warnings.length === 0 ? 'none' : warnings.join('; ')}, expected those in ${planKey(rollbackId)}`,
        error,
      );
    }
    const { nodes: running } = await findNodes(deps, ids, WHEN_EC2_ANSWERS);
    return { running, warnings: [...warnings, `nodes were looked up by the ids in ${from}: ${error.message}`] };
  }
}

/** Instance ids of the control plane from the plan of a restore, or else from the newest receipt. What S3 and KMS do not say is a warning. */
async function knownOf(
  deps: PlanDeps,
  rollbackId: string,
): Promise<{ readonly ids: readonly string[]; readonly from: string; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  try {
    const planned = await readPlannedNodes(deps.store, rollbackId);
    warnings.push(...planned.warnings);
    if (planned.ids.length > 0) {
      return { ids: planned.ids, from: planKey(rollbackId), warnings };
    }
    const newest = (await findNewest(deps, await readRecords(deps.store))).chosen?.receipt;
    if (newest !== undefined) {
      return { ids: [...new Set(await controlPlaneOf(deps, newest))], from: `the backup ${newest.backupId}`, warnings };
    }
  } catch (error) {
    if (!(error instanceof StoreError || error instanceof SigningKeyError)) {
      throw error;
    }
    warnings.push(error.message);
  }
  return { ids: [], from: '', warnings };
}

/** The control plane as it is. */
interface Fleet {
  readonly nodes: readonly InspectedNode[];
  readonly instances: readonly KnownInstance[];
  /** Whether EC2 answers searches, and not only calls by id. */
  readonly searchable: boolean;
  readonly warnings: readonly string[];
}

async function lookAt(deps: PlanDeps, restoreId: string, receipts: readonly Receipt[]): Promise<Fleet> {
  const knownIds = [...new Set((await Promise.all(receipts.map((receipt) => controlPlaneOf(deps, receipt)))).flat())];
  const { nodes: running, byIdsBecause } = await findNodes(deps, knownIds, WHEN_EC2_ANSWERS);
  const own = new Set(running.flatMap(({ addresses }) => addresses));
  const peers = receipts
    .flatMap(({ announced }) => announced.members)
    .flatMap(({ peerUrls }) => peerUrls)
    .filter((url) => !hostsOf([url]).some((host) => own.has(host)));
  const nodes = await inspectNodes(deps, running, { restoreId, peers: [...new Set(peers)] });
  const hosts = knownMembers({
    receipts,
    inspections: nodes.flatMap(({ inspection }) => inspection ?? []),
    // Everybody whom anyone names: a first node that came back empty has a quorum of its own, and names only itself.
    newestRevision: Infinity,
  }).flatMap(({ peerUrls }) => hostsOf(peerUrls).filter((host) => !own.has(host)));
  // Every search is the same to EC2: what failed by tags fails by addresses.
  const tagged = byIdsBecause === undefined ? await findByTags(deps) : [];
  const atHosts = byIdsBecause === undefined ? await findByHosts(deps, hosts) : [];
  const found = [...(await findByIds(deps, knownIds)), ...tagged, ...inVpcsOf(tagged, atHosts)];
  const isOther = ({ instanceId }: KnownInstance, index: number) =>
    !running.some((node) => node.instanceId === instanceId) &&
    found.findIndex((other) => other.instanceId === instanceId) === index;
  return {
    nodes,
    instances: found.filter(isOther),
    searchable: byIdsBecause === undefined,
    warnings: byIdsBecause === undefined ? [] : [`nodes were looked up by the ids of the last backup: ${byIdsBecause}`],
  };
}

const MAX_ANNOUNCEMENT_BYTES = 1_000_000;

/** Instance ids of the control plane when a backup was taken. The receipt is signed, and names its announcement by its hash. */
async function controlPlaneOf(deps: PlanDeps, { announcement, announced }: Receipt): Promise<readonly string[]> {
  const { versions } = await listVersions(deps.store, announcement.key);
  for (const version of versions) {
    if (version.key !== announcement.key || version.bytes > MAX_ANNOUNCEMENT_BYTES) {
      continue;
    }
    const { bytes } = await getVersion(deps.store, version, MAX_ANNOUNCEMENT_BYTES);
    if (sha256Hex(bytes) === announcement.sha256) {
      return [announced.instanceId, ...controlPlaneIn(announcement.key, bytes)];
    }
  }
  // Announcements expire before the oldest backups do.
  return [announced.instanceId];
}

function controlPlaneIn(key: string, bytes: Buffer): readonly string[] {
  try {
    return readAnnouncement(key, bytes).controlPlane ?? [];
  } catch (error) {
    // Of another version of this project: what it says of instances is only one more way to know that one is gone.
    if (error instanceof AnnouncementError) {
      return [];
    }
    throw error;
  }
}

/** Whether the bucket has a restore's record, which is only written of what was served. */
interface RecordSeen {
  readonly recorded: boolean;
  readonly warnings: readonly string[];
}

async function recordOf(deps: PlanDeps, restoreId: string): Promise<RecordSeen> {
  const recordKey = `restores/${restoreId}.json`;
  try {
    const { versions } = await listVersions(deps.store, recordKey);
    return { recorded: versions.some(({ key }) => key === recordKey), warnings: [] };
  } catch (error) {
    if (!(error instanceof StoreError)) {
      throw error;
    }
    return {
      recorded: false,
      warnings: [`whether ${recordKey} is there is not known, only the nodes were asked: ${error.message}`],
    };
  }
}

/** What a node has of a restore that was not cleaned up there. */
type Journal = NonNullable<Inspection['journal']>;

/**
 * What undoes a restore that has not ended: its journal is on a node. Where an API server has served the restored data there is no way
 * back any more, and the undo starts everything on that data. undefined: no node knows of it. Throws RestoreRefusedError where the nodes
 * do not say enough, or say both.
 */
function undoOf(
  state: RestoreState,
  rollbackId: string,
  nodes: readonly InspectedNode[],
  { recorded, warnings }: RecordSeen,
): RestoreState | undefined {
  const inspected = nodes.flatMap(({ instanceId, inspection }) =>
    inspection === null ? [] : { instanceId, inspection },
  );
  const under = inspected.flatMap(({ instanceId, inspection }) =>
    inspection.journal?.restoreId === rollbackId ? { instanceId, inspection, journal: inspection.journal } : [],
  );
  const others = inspected.filter(({ inspection }) => inspection.journal?.restoreId !== rollbackId);
  const journals = under.map(({ journal }) => journal);
  const silent = nodes.filter(({ inspection }) => inspection === null);
  const silence = silent
    .map(({ instanceId, problem }) => `${instanceId} does not answer (${problem?.slice(0, 200) ?? 'no reason given'})`)
    .join(', ');
  const again = `bring it back, or stop its instance, and send {"rollback":"${rollbackId}"} again`;
  if (journals.length === 0) {
    if (silent.length > 0) {
      throw new RestoreRefusedError(
        [
          `${silence}, and no other node has a journal of restore ${rollbackId}, expected every running node to say whether that restore is under way`,
        ],
        again,
      );
    }
    return undefined;
  }
  // An undo takes the kept data back: where it lies without a journal, the restore has ended there.
  const ended = others.filter(({ inspection }) => inspection.data.kept.includes(rollbackId));
  const knownServed = recorded || ended.length > 0 || journals.some((journal) => journal.served);
  if (!knownServed && silent.length > 0 && journals.some((journal) => journal.started)) {
    // Renaming back on the others while one of them has shown clients the restored data would leave two histories.
    throw new RestoreRefusedError(
      [
        `${silence}, and restore ${rollbackId} had started etcd on other nodes, expected every running node to say whether its API server has served the restored data`,
      ],
      again,
    );
  }
  const undone = under.filter(({ journal }) => journal.undone);
  if (knownServed && undone.length > 0) {
    const servedBy = [
      ...under.filter(({ journal }) => journal.served).map(({ instanceId }) => instanceId),
      ...ended.map(({ instanceId }) => instanceId),
    ];
    throw new RestoreRefusedError(
      [
        `restore ${rollbackId} was undone on ${undone.map(({ instanceId }) => instanceId).join(', ')} and its data was served ${servedBy.length === 0 ? `as restores/${rollbackId}.json says` : `on ${servedBy.join(', ')}`}, expected one of both everywhere`,
      ],
      `stop ${undone.map(({ instanceId }) => instanceId).join(', ')} and remove the journal there, as docs/restore.md says (Undone on some nodes and served on others), and send {"rollback":"${rollbackId}"} again`,
    );
  }
  const isBackInOldCluster = others.some(({ inspection }) =>
    inspection.etcd.member?.members.some((member) =>
      under.some(({ inspection: { etcd } }) =>
        isSameMember(member, { name: etcd.memberName, peerUrls: etcd.peerUrls }),
      ),
    ),
  );
  const served = knownServed || (!isBackInOldCluster && mayHaveServed(journals));
  const mine = nodes.filter(
    ({ inspection }) =>
      inspection === null || inspection.journal === null || inspection.journal.restoreId === rollbackId,
  );
  return {
    ...state,
    served,
    nodes: mine.map(toUndone).toSorted((a, b) => (a.memberName < b.memberName ? -1 : 1)),
    // What clients may have seen, for the record and for the next restore.
    highestRevision: Math.max(0, ...inspected.map(({ inspection }) => inspection.etcd.member?.revision ?? 0)),
    warnings: [...state.warnings, ...warnings],
    plan: {
      result: 'RollBack',
      rollback: rollbackId,
      summary: served
        ? `API servers have served what restore ${rollbackId} put there${knownServed ? '' : ', or one that is gone may have'}: nothing is put back, everything is started on the restored data; {"rollback":"${rollbackId}"} then shows the way back to what was there before`
        : `undoes restore ${rollbackId} on ${String(mine.length)} nodes: the data, the manifests and the kubelet as they were`,
      nodes: nodes.map((node) => ({
        instanceId: node.instanceId,
        member: node.inspection?.etcd.memberName ?? null,
        journal: node.inspection?.journal?.restoreId ?? null,
        ...(mine.includes(node) ? {} : { leftAlone: 'it has the journal of another restore' }),
        ...(node.problem === null ? {} : { problem: node.problem.slice(0, 500) }),
      })),
      warnings,
    },
    step: { name: 'Inspect', done: true, ok: true },
  };
}

/**
 * Whether a node that is gone may have served: no API server is started before all members are checked, so one that is not checked proves
 * that none was. Nor is anything undone once one has served.
 */
function mayHaveServed(journals: readonly Journal[]): boolean {
  return (
    journals.length < Math.max(...journals.map(({ nodes }) => nodes ?? 0)) &&
    journals.every(({ checked, undone }) => checked && !undone)
  );
}

/** Every node takes part in an undo, also one that does not answer just now. */
function toUndone({ instanceId, arch, inspection }: InspectedNode): RestoreNode {
  return {
    instanceId,
    memberName: inspection === null || inspection.etcd.memberName === '' ? instanceId : inspection.etcd.memberName,
    peerUrls: inspection?.etcd.peerUrls.join(',') ?? '',
    arch: inspection?.arch ?? arch ?? 'amd64',
    etcdVersion: inspection?.etcd.version ?? '',
    before: { etcd: false, apiServer: false, kubelet: inspection?.kubelet.active ?? false },
  };
}

/** Which of Kubernetes' nodes in the backup are gone, by EC2's private DNS names, and which are only known since. */
async function compareKubernetesNodes(
  deps: PlanDeps,
  receipt: Receipt | null,
  newest: Receipt | null,
  { nodes, searchable }: Fleet,
): Promise<KubernetesNodes> {
  const before = receipt?.inventory.nodes;
  if (before === undefined) {
    return { gone: null, joinedAfter: [] };
  }
  const instances = searchable
    ? await findByHosts(
        deps,
        before.map((name) => name.toLowerCase()),
      )
    : [];
  const alive = new Set(instances.filter(({ state }) => state === 'running').flatMap(({ addresses }) => addresses));
  const gone = before.filter((name) => !alive.has(name.toLowerCase()));
  const hostnames = nodes.flatMap(({ inspection }) => inspection?.hostname ?? []);
  // Where no host bears the name of its node, a name that is missing says nothing.
  const controlPlane = hostnames.some((name) => before.includes(name)) ? hostnames : [];
  const joinedAfter = [...new Set([...(newest?.inventory.nodes ?? []), ...controlPlane])].filter(
    (name) => !before.includes(name),
  );
  // Where kubelets have names of their own, EC2 knows none of them, and that says nothing.
  return { gone: instances.length === 0 && before.length > 0 ? null : gone, joinedAfter };
}
