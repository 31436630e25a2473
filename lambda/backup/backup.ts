import type { EC2Client } from '@aws-sdk/client-ec2';
import type { KMSClient } from '@aws-sdk/client-kms';
import type { SSMClient } from '@aws-sdk/client-ssm';
import { type Announcement, canonicalJson, type FailedCommand, type Trigger } from '../shared/announcement';
import { backupIdOf } from '../shared/backup-id';
import {
  AllNodesFailedError,
  BackupRefusedError,
  describeError,
  EventError,
  NodeResultError,
  NoNodeError,
  SnapshotConflictError,
  TimeLeftError,
  ToolsNotKeptError,
} from '../shared/errors';
import { afterExitCode } from '../shared/exit-codes';
import {
  clean,
  readFailure,
  readSnapshotResult,
  readToolsResult,
  readUploadResult,
  type SnapshotResult,
  type ToolsResult,
} from '../shared/node-result';
import type { OfficialTools } from '../shared/official-tools';
import {
  type Command,
  type CommandEnd,
  type Document,
  isUndelivered,
  listCommands,
  type RunCommandDeps,
  sendDocument,
  waitForCommand,
} from '../shared/run-document';
import { headObject, putInput, type Store } from '../shared/store';
import { type Fields, MetricUnit, type Telemetry } from '../shared/telemetry';
import {
  makeAnnouncement,
  type PublishedAnnouncement,
  publishAnnouncement,
  snapshotKey,
  snapshotMetadata,
} from './announce';
import { chooseNodes, leaderInstance, type Node, type UsableNode } from './choose-nodes';
import { type Claim, claimBackup, findOwnBackupId, readClaim } from './claim';
import { readEvent, type Request } from './event';
import { findNodes } from './find-nodes';
import { readHistory, uploadsOf } from './history';
import { type ImageTool, missingTools, toolsParameters } from './keep-tools';
import {
  findPreviousBackup,
  readAnnouncementOf,
  requireOwnCluster,
  requireTrusted,
  wasRestoredSince,
} from './previous-backup';
import { headersParameter, presignPut } from './presign';
import { listTools, type StoredTool, toolPins, toolUrls, trustedTools } from './tool-parameters';
import { presignTools, type ToolsUploads } from './tools-upload';

/** What the function works with. */
export interface BackupDeps {
  readonly clusterName: string;
  readonly controlPlaneTags: Readonly<Record<string, string>>;
  /** Members that remain after an intended scale-down; 0: none is acknowledged. */
  readonly acknowledgedMembers: number;
  /** SHA-256 of tools that may be used although their hash changed. */
  readonly acknowledgedTools: readonly string[];
  /** Longest time that an on-demand backup may ask to be kept. */
  readonly maxKeepDays: number;
  readonly snapshotDocument: Document;
  readonly uploadDocument: Document;
  readonly toolsDocument: Document;
  readonly announcementKeyArn: string;
  readonly store: Store;
  readonly ec2: EC2Client;
  readonly kms: KMSClient;
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
  /** The same for an asynchronous event and its retries. */
  readonly requestId: string;
  readonly remainingMilliseconds: () => number;
}

/** `exists`: an earlier delivery of the same trigger has stored it. */
export type BackupOutcome =
  | { readonly outcome: 'exists'; readonly backupId: string; readonly key: string }
  | {
      readonly outcome: 'stored';
      readonly backupId: string;
      readonly key: string;
      readonly announcement: string;
      readonly instanceId: string;
      readonly revision: number | null;
      readonly compressedBytes: number;
    };

/** Stores one snapshot, or hands out URLs to upload tools with. Every error says what to do; the platform retries. */
export async function backup(
  deps: BackupDeps,
  event: unknown,
  invocation: Invocation,
): Promise<BackupOutcome | ToolsUploads> {
  const request = readEvent(event, { now: deps.now(), maxKeepDays: deps.maxKeepDays });
  if (request.kind === 'tools') {
    return presignTools(deps, request.tools);
  }
  const run = new Run(deps, invocation);
  try {
    return await storeSnapshot(run, request);
  } finally {
    deps.telemetry.measure('NodesTried', MetricUnit.Count, run.tried.size);
    deps.telemetry.publish();
  }
}

// The function is killed when its time is over; before that it says where it was, so that the retry's log makes sense.
const RESERVE_SECONDS = 60;
const OWN_PATIENCE_SECONDS = 15;
const OTHERS_PATIENCE_SECONDS = 60;
const LOOK_MILLISECONDS = 2000;
// Longer than all retries of one trigger together.
const HISTORY_HOURS = 6;

/** What one invocation has learnt so far. */
class Run {
  readonly startedAt: Date;
  phase = 'identify';
  /** Commands of this backup that need no second look. */
  readonly judged = new Set<string>();
  /** Instances that this invocation asked, or whose refusal it read. */
  readonly tried = new Set<string>();
  readonly failures: string[] = [];

  constructor(
    readonly deps: BackupDeps,
    readonly invocation: Invocation,
  ) {
    this.startedAt = deps.now();
  }

  get runCommand(): RunCommandDeps {
    const { ssm, ssmOnce, now } = this.deps;
    return { ssm, ssmOnce, now, pause: (milliseconds) => this.pause(milliseconds) };
  }

  async pause(milliseconds: number): Promise<void> {
    this.requireTime(milliseconds);
    await this.deps.sleep(milliseconds);
  }

  requireTime(milliseconds = 0): void {
    const leftSeconds = (this.invocation.remainingMilliseconds() - milliseconds) / 1000;
    if (leftSeconds <= RESERVE_SECONDS) {
      throw new TimeLeftError(
        this.phase,
        `phase ${this.phase}: ${leftSeconds.toFixed(0)} s of the function's time are left, expected more than ${String(RESERVE_SECONDS)}; the asynchronous retry attaches to what runs on the node; when it fails too, see what slows this phase down`,
      );
    }
  }

  /** Runs one phase: one log line and one duration, whatever comes of it. */
  async inPhase<T>(phase: string, work: () => Promise<readonly [T, Fields]>): Promise<T> {
    const { telemetry, now } = this.deps;
    const started = now().getTime();
    const seconds = () => (now().getTime() - started) / 1000;
    this.phase = phase;
    try {
      this.requireTime();
      const [result, fields] = await work();
      telemetry.phaseDone(phase, seconds(), fields);
      return result;
    } catch (error) {
      telemetry.phaseFailed(phase, seconds(), { error: describeError(error), requestId: this.invocation.requestId });
      throw error;
    }
  }
}

/** What a backup knows before it asks a node. */
interface Plan {
  readonly backupId: string;
  readonly previous: Announcement | undefined;
  /** A restore was done since: the cluster may have fewer members than then. */
  readonly restored: boolean;
  /** All that the bucket holds. */
  readonly tools: readonly StoredTool[];
  readonly nodes: readonly UsableNode[];
  readonly claim: Claim;
  /** How long to look for another run's command before sending one. */
  readonly patienceSeconds: number;
}

async function storeSnapshot(run: Run, request: Request & { readonly kind: 'backup' }): Promise<BackupOutcome> {
  const { deps } = run;
  const { backupId, storedKey } = await run.inPhase('identify', () => identify(run, request));
  if (storedKey !== undefined) {
    return { outcome: 'exists', backupId, key: storedKey };
  }
  const plan = await makePlan(run, backupId, request);
  for (;;) {
    const taken = await run.inPhase('snapshot', () => takeSnapshot(run, plan));
    const published = await run.inPhase('announce', () => announce(run, plan, taken));
    const stored = await run.inPhase('upload', () => upload(run, plan, taken, published));
    if (stored) {
      deps.telemetry.measure(
        'BackupSeconds',
        MetricUnit.Seconds,
        (deps.now().getTime() - Date.parse(plan.claim.startedAt)) / 1000,
      );
      measure(deps.telemetry, published.announcement);
      // Who wrote the announcement sends them, so that two deliveries do not. A node that is about to be restored is left alone.
      if (published.created && request.trigger.kind !== 'pre-restore') {
        await keepTools(run, plan, taken);
      }
      return {
        outcome: 'stored',
        backupId,
        key: published.announcement.key,
        announcement: published.key,
        instanceId: taken.command.instanceId,
        revision: published.announcement.revision,
        compressedBytes: published.announcement.compressedBytes,
      };
    }
  }
}

async function identify(
  run: Run,
  request: Request & { readonly kind: 'backup' },
): Promise<readonly [{ readonly backupId: string; readonly storedKey: string | undefined }, Fields]> {
  const { deps } = run;
  const { store, now } = deps;
  const nowId = backupIdOf(now());
  const backupId = request.backupId ?? (await findOwnBackupId(store, run.invocation.requestId, nowId)) ?? nowId;
  if (request.trigger.kind === 'pre-restore') {
    requireSameTrigger(backupId, request.trigger, (await readClaim(store, backupId))?.trigger ?? request.trigger);
  }
  for (const compression of ['zstd', 'gzip'] as const) {
    const key = snapshotKey(backupId, compression);
    const metadata = await headObject(store, key);
    if (metadata !== undefined) {
      requireOwnCluster(deps, key, metadata['cluster']);
      // Its upload ended after the run that began it: that one could not measure it any more.
      if ((await readClaim(store, backupId))?.requestId === run.invocation.requestId) {
        measure(deps.telemetry, await readAnnouncementOf(deps, key));
      }
      return [
        { backupId, storedKey: key },
        { backupId, exists: true },
      ];
    }
  }
  return [
    { backupId, storedKey: undefined },
    { backupId, exists: false },
  ];
}

/** A schedule may have the second that was chosen for a pre-restore backup. Throws EventError when it is another backup's. */
function requireSameTrigger(backupId: string, asked: Trigger, found: Trigger): void {
  if (canonicalJson(asked) !== canonicalJson(found)) {
    throw new EventError(
      [
        `preRestore.backupId: got "${backupId}", which is the id of another backup (${found.kind}), expected one of its own`,
      ],
      'send it again with the id of another second',
    );
  }
}

async function makePlan(run: Run, backupId: string, request: Request & { readonly kind: 'backup' }): Promise<Plan> {
  const { deps } = run;
  const isPreRestore = request.trigger.kind === 'pre-restore';
  const { previous, untrusted, tools, restored } = await run.inPhase('previous', async () => {
    const found = await findPreviousBackup(deps, backupId);
    // What a restore is about to replace is saved whatever members there are.
    if (!isPreRestore) {
      requireTrusted(found);
    }
    const [stored, restoredSince] = await Promise.all([
      listTools(deps.store),
      found.previous !== undefined && wasRestoredSince(deps.store, found.previous),
    ]);
    return [
      { ...found, tools: stored, restored: restoredSince },
      {
        backupId,
        previous: found.previous?.backupId ?? null,
        members: found.previous?.members.length ?? null,
        restored: restoredSince,
        tools: stored.length,
        untrusted: found.untrusted.slice(0, 5),
      },
    ] as const;
  });
  const { nodes, controlPlane, byIds } = await run.inPhase('nodes', () =>
    orderNodes(run, backupId, previous, request.instanceId),
  );
  return run.inPhase('claim', async () => {
    const { won, claim } = await claimBackup(deps.store, {
      backupId,
      requestId: run.invocation.requestId,
      startedAt: run.startedAt.toISOString(),
      trigger: request.trigger,
      controlPlane: [...controlPlane],
      findings: [
        ...(untrusted.length > 0 ? ['previous-announcement-untrusted'] : []),
        ...(byIds ? ['nodes-found-by-id'] : []),
      ],
    });
    if (isPreRestore) {
      requireSameTrigger(backupId, request.trigger, claim.trigger);
    }
    const own = claim.requestId === run.invocation.requestId;
    // The winner's retry goes first; a run of another delivery only steps in when that one does not come.
    const patienceSeconds = won ? 0 : own ? OWN_PATIENCE_SECONDS : OTHERS_PATIENCE_SECONDS;
    return [
      { backupId, previous, restored, tools, nodes, claim, patienceSeconds },
      { backupId, won, claimedBy: claim.requestId },
    ] as const;
  });
}

/** The control plane, and its nodes in the order in which to ask them. */
interface Ordered {
  readonly nodes: readonly UsableNode[];
  /** Instance ids of all of its nodes. */
  readonly controlPlane: readonly string[];
  /** EC2 could not find them by their tags. */
  readonly byIds: boolean;
}

async function orderNodes(
  run: Run,
  backupId: string,
  previous: Announcement | undefined,
  only: string | undefined,
): Promise<readonly [Ordered, Fields]> {
  const { deps } = run;
  const known = new Set([...(previous?.controlPlane ?? []), ...(only === undefined ? [] : [only])]);
  const { nodes, byIdsBecause } = await findNodes(deps, [...known]);
  if (nodes.length === 0) {
    throw new NoNodeError(
      `running EC2 instances with all the tags ${JSON.stringify(deps.controlPlaneTags)}: got none, expected the control-plane nodes of ${deps.clusterName}; correct controlPlaneTags in the table of clusters, or the tags of the instances`,
    );
  }
  const history = readHistory({
    backupId,
    snapshots: await listCommands(run.runCommand, { document: deps.snapshotDocument, after: historyStart(run) }),
    uploads: await listCommands(run.runCommand, { document: deps.uploadDocument, after: historyStart(run) }),
    instanceIds: nodes.map(({ instanceId }) => instanceId),
    previous,
    startedAt: run.startedAt,
    now: deps.now(),
  });
  for (const command of history.failed) {
    const failure = await readRefusal(run, command);
    // Asking again would not help either: what an earlier run threw is thrown again.
    if (failure?.code !== undefined && afterExitCode(failure.code) === 'stop') {
      noteFailure(run, `${command.instanceId}: ${failure.reason}`, failure.code);
    }
  }
  for (const commandId of history.judged) {
    run.judged.add(commandId);
  }
  const asked = only === undefined ? nodes : nodes.filter(({ instanceId }) => instanceId === only);
  if (asked.length === 0) {
    throw new NoNodeError(
      `instance ${String(only)}: got none with this id among ${nodes.map(({ instanceId }) => instanceId).join(', ')}, expected a running control-plane node of ${deps.clusterName}; ask for one of these`,
    );
  }
  const { order, unusable } = chooseNodes({
    nodes: asked,
    failedLast: history.failedLast,
    failedBefore: history.failedBefore,
    leaderInstanceId: leaderInstance(previous, nodes),
  });
  if (order.length === 0) {
    throw new NoNodeError(
      `control-plane nodes of ${deps.clusterName} that can be asked for a snapshot: got none of ${String(asked.length)}, expected at least one; ${unusable.join('; ')}`,
    );
  }
  return [
    { nodes: order, controlPlane: nodes.map(({ instanceId }) => instanceId).sort(), byIds: byIdsBecause !== undefined },
    { backupId, order: order.map(({ instanceId }) => instanceId), unusable, byIdsBecause: byIdsBecause ?? null },
  ];
}

/** What a command that failed before this run said; undefined when no agent has reported on it. */
async function readRefusal(run: Run, command: Command) {
  if (command.status !== 'failed') {
    return undefined;
  }
  const end = await waitForCommand(run.runCommand, command, () => Promise.resolve(undefined));
  const judgement = judge(end, () => undefined);
  return judgement.ok ? undefined : judgement;
}

/** A snapshot that is staged on a node. */
interface Taken {
  readonly command: Command;
  /** Another run had sent the command. */
  readonly attached: boolean;
  readonly result: SnapshotResult;
  readonly earlierCommands: readonly FailedCommand[];
}

async function takeSnapshot(run: Run, plan: Plan): Promise<readonly [Taken, Fields]> {
  const { deps } = run;
  for (;;) {
    const found = await findCommand(run, plan);
    const command = found ?? (await askNextNode(run, plan));
    if (command === undefined) {
      continue;
    }
    run.judged.add(command.commandId);
    const end = await waitForCommand(run.runCommand, command, (instanceId) => whyLost(deps, instanceId));
    // Another run's command that no agent took says nothing about the node now.
    if (end.ran) {
      run.tried.add(command.instanceId);
    }
    const result = judge(end, (stdout) => readSnapshotResult(stdout, plan.backupId));
    if (result.ok) {
      return [
        {
          command,
          attached: found !== undefined,
          result: result.value,
          earlierCommands: await findEarlierCommands(run, plan, command),
        },
        {
          backupId: plan.backupId,
          instanceId: command.instanceId,
          commandId: command.commandId,
          member: result.value.memberName,
          etcdVersion: result.value.etcdVersion,
          revision: result.value.revision,
          sizeBytes: result.value.size,
          compressedBytes: result.value.compressedSize,
          nodesTried: run.tried.size,
          failures: [...run.failures],
        },
      ];
    }
    noteFailure(run, `${command.instanceId}: ${result.reason}`, result.code);
  }
}

/** What was tried for this backup before `command`, and why it failed: read from SSM, so that every run and retry finds the same. */
async function findEarlierCommands(run: Run, plan: Plan, command: Command): Promise<FailedCommand[]> {
  const { deps } = run;
  const all = await listCommands(run.runCommand, { document: deps.snapshotDocument, after: historyStart(run) });
  const earlier = all.filter(
    (other) =>
      other.comment === plan.backupId &&
      other.commandId !== command.commandId &&
      other.requestedAt < command.requestedAt,
  );
  const failed: FailedCommand[] = [];
  for (const other of earlier) {
    const { commandId, instanceId } = other;
    failed.push({ instanceId, commandId, error: (await readRefusal(run, other))?.error ?? null });
  }
  return failed;
}

/** Another run's command for this backup, or an earlier one of our own: attached to rather than sent again. */
async function findCommand(run: Run, plan: Plan): Promise<Command | undefined> {
  const { deps } = run;
  const until = deps.now().getTime() + plan.patienceSeconds * 1000;
  for (;;) {
    const commands = await listCommands(run.runCommand, { document: deps.snapshotDocument, after: historyStart(run) });
    const command = commands.findLast(
      (candidate) =>
        candidate.comment === plan.backupId &&
        !run.judged.has(candidate.commandId) &&
        !isUndelivered(candidate, deps.now()),
    );
    const allTried = plan.nodes.every(({ instanceId }) => run.tried.has(instanceId));
    if (command !== undefined || allTried || deps.now().getTime() >= until) {
      return command;
    }
    await run.pause(LOOK_MILLISECONDS);
  }
}

async function askNextNode(run: Run, plan: Plan): Promise<Command | undefined> {
  const { deps } = run;
  const node = plan.nodes.find(({ instanceId }) => !run.tried.has(instanceId));
  if (node === undefined) {
    throw new AllNodesFailedError(run.failures);
  }
  if (run.failures.length > 0) {
    requireTimeForNode(run, plan);
  }
  run.tried.add(node.instanceId);
  const sent = await sendDocument(run.runCommand, {
    document: deps.snapshotDocument,
    instanceId: node.instanceId,
    comment: plan.backupId,
    parameters: {
      BackupId: plan.backupId,
      ClusterName: deps.clusterName,
      RestoreId: restoreIdOf(plan),
      MembersBefore: String(plan.restored ? 0 : membersBefore(plan.previous, deps.acknowledgedMembers)),
      ToolPins: toolPins(plan.previous, deps.officialTools, deps.acknowledgedTools),
      ToolUrls: await toolUrls(deps.store, {
        tools: trustedTools(plan.tools, deps.officialTools, deps.acknowledgedTools),
        arch: node.arch,
        etcdVersion: plan.previous?.etcdVersion,
      }),
    },
  });
  if ('kind' in sent) {
    noteFailure(run, `${node.instanceId}: ${sent.reason}`);
    return undefined;
  }
  return sent;
}

/** The restore whose journal this backup may pass by on the node; '' for every other backup. */
function restoreIdOf({ claim }: Plan): string {
  return claim.trigger.kind === 'pre-restore' ? claim.trigger.restoreId : '';
}

async function announce(run: Run, plan: Plan, taken: Taken): Promise<readonly [PublishedAnnouncement, Fields]> {
  const { deps } = run;
  const announcement = makeAnnouncement({
    ...taken,
    // The claim's, so that two deliveries in one second announce the same bytes.
    trigger: plan.claim.trigger,
    clusterName: deps.clusterName,
    bucket: deps.store.bucket,
    previous: plan.previous,
    officialTools: deps.officialTools,
    acknowledgedTools: deps.acknowledgedTools,
    controlPlane: plan.claim.controlPlane ?? [],
    findings: [
      ...(plan.claim.findings ?? []),
      ...(membersBefore(plan.previous, deps.acknowledgedMembers) < (plan.previous?.members.length ?? 0)
        ? ['scale-down-acknowledged']
        : []),
    ],
  });
  const published = await publishAnnouncement(deps, announcement);
  return [
    published,
    {
      backupId: plan.backupId,
      announcement: published.key,
      created: published.created,
      findings: announcement.findings,
    },
  ];
}

/** Whether the announced bytes are in the bucket; false: the next node may be tried. Throws when other bytes are there. */
async function upload(
  run: Run,
  plan: Plan,
  taken: Taken,
  published: PublishedAnnouncement,
): Promise<readonly [boolean, Fields]> {
  const { deps } = run;
  const { instanceId } = taken.command;
  const fields = { backupId: plan.backupId, instanceId, key: published.announcement.key };
  // Who wrote the announcement sends the upload, so even the winner of the claim waits a little when that was another run.
  const patienceSeconds = published.created ? 0 : Math.max(plan.patienceSeconds, OWN_PATIENCE_SECONDS);
  let found = await findUpload(run, taken, patienceSeconds);
  // Two objects for one backup, .zst and .gz, would both be accepted by S3.
  if (found === undefined && (await isStored(deps, published))) {
    return [true, { ...fields, stored: true, created: published.created }];
  }
  let command = found ?? (await startUpload(run, plan, taken, published));
  for (;;) {
    if ('kind' in command) {
      noteFailure(run, `${instanceId}: ${command.reason}`);
      return [false, { ...fields, stored: false, reason: command.reason }];
    }
    const { commandId } = command;
    run.judged.add(commandId);
    const end = await waitForCommand(run.runCommand, command, (lost) => whyLost(deps, lost));
    const result = judge(end, (stdout) => readUploadResult(stdout, plan.backupId));
    // Whatever the node says, S3 has the last word: an answer can get lost, and a node can lie.
    if (await isStored(deps, published)) {
      return [true, { ...fields, commandId, stored: true, created: published.created }];
    }
    const code = result.ok ? undefined : result.code;
    if (code === EXIT_ALREADY_RUNNING) {
      // Most likely it is the upload of another run, which SSM did not list yet.
      found = await findUpload(run, taken, OWN_PATIENCE_SECONDS);
      if (found !== undefined) {
        command = found;
        continue;
      }
    }
    // What was staged is gone, by an upload that was not ours: the node itself was not tried by this run.
    if (taken.attached && (found !== undefined || code === EXIT_NOTHING_STAGED)) {
      run.tried.delete(instanceId);
    }
    const reason = result.ok
      ? `the node says that it uploaded ${published.announcement.key}, and S3 has no such object`
      : result.reason;
    noteFailure(run, `${instanceId}: ${reason}`, code);
    return [false, { ...fields, commandId, stored: false, reason }];
  }
}

const EXIT_ALREADY_RUNNING = 12;
const EXIT_NOTHING_STAGED = 74;

/** The upload that another run of this backup has started, or an earlier run of our own. */
async function findUpload(run: Run, taken: Taken, patienceSeconds: number): Promise<Command | undefined> {
  const { deps } = run;
  const until = deps.now().getTime() + patienceSeconds * 1000;
  for (;;) {
    const commands = await listCommands(run.runCommand, { document: deps.uploadDocument, after: historyStart(run) });
    const command = uploadsOf(taken.command, commands).findLast(
      (candidate) =>
        !run.judged.has(candidate.commandId) &&
        !isUndelivered(candidate, deps.now()) &&
        (candidate.status !== 'failed' || candidate.requestedAt >= run.startedAt),
    );
    if (command !== undefined || deps.now().getTime() >= until) {
      return command;
    }
    await run.pause(LOOK_MILLISECONDS);
  }
}

async function startUpload(run: Run, plan: Plan, taken: Taken, published: PublishedAnnouncement) {
  const { deps } = run;
  const { announcement } = published;
  const { url, headers } = await presignPut(deps.store.s3, {
    ...putInput(deps.store, {
      key: announcement.key,
      sha256: announcement.compressedSha256,
      contentLength: announcement.compressedBytes,
    }),
    ContentLength: announcement.compressedBytes,
    Tagging: 'retention=pending',
    Metadata: snapshotMetadata(published),
  });
  return sendDocument(run.runCommand, {
    document: deps.uploadDocument,
    instanceId: taken.command.instanceId,
    comment: plan.backupId,
    parameters: {
      BackupId: plan.backupId,
      RestoreId: restoreIdOf(plan),
      Url: url,
      Headers: headersParameter(headers),
    },
  });
}

/** Has the node put what the bucket lacks of its tools there. Whatever goes wrong is a finding: the snapshot is stored. */
async function keepTools(run: Run, plan: Plan, taken: Taken): Promise<void> {
  const missing = missingTools(taken.result, plan.tools);
  if (missing.length === 0) {
    return;
  }
  try {
    await run.inPhase('tools', () => uploadTools(run, plan, taken, missing));
  } catch {
    // The phase has said why. What is missing is sent after the next backup.
    run.deps.telemetry.measure('FindingToolsNotKept', MetricUnit.Count, 1);
  }
}

async function uploadTools(
  run: Run,
  plan: Plan,
  taken: Taken,
  missing: readonly ImageTool[],
): Promise<readonly [undefined, Fields]> {
  const { deps } = run;
  const { instanceId } = taken.command;
  const sent = await sendDocument(run.runCommand, {
    document: deps.toolsDocument,
    instanceId,
    comment: plan.backupId,
    parameters: { BackupId: plan.backupId, ...(await toolsParameters(deps.store, missing)) },
  });
  const judgement: Judgement<ToolsResult> =
    'kind' in sent
      ? { ok: false, reason: sent.reason }
      : judge(await waitForCommand(run.runCommand, sent, (lost) => whyLost(deps, lost)), (stdout) =>
          readToolsResult(stdout, plan.backupId),
        );
  const names = missing.map(({ name, version }) => `${name} ${version}`);
  if (!judgement.ok) {
    throw new ToolsNotKeptError(
      `tools ${names.join(', ')} of ${instanceId}: got ${judgement.reason}, expected them in the bucket's tools/, where a restore or a drill gets them when the node is gone; the next backup tries again`,
    );
  }
  const { stored, existed } = judgement.value;
  return [undefined, { backupId: plan.backupId, instanceId, stored, existed }];
}

/** Whether the announced bytes are stored. Throws SnapshotConflictError when others are, under either key of the backup. */
async function isStored(deps: BackupDeps, { announcement }: PublishedAnnouncement): Promise<boolean> {
  const { store } = deps;
  const otherKey = snapshotKey(announcement.backupId, announcement.compression === 'zstd' ? 'gzip' : 'zstd');
  const other = await headObject(store, otherKey);
  if (other !== undefined) {
    requireOwnCluster(deps, otherKey, other['cluster']);
    throw new SnapshotConflictError(
      `s3://${store.bucket}/${otherKey}: got an object (announced in ${other['announcement'] ?? 'nothing'}), expected none beside ${announcement.key} from ${announcement.instanceId}; two nodes were asked for one backup: the stored one is whole, compare both announcements`,
    );
  }
  const metadata = await headObject(store, announcement.key);
  if (metadata === undefined) {
    return false;
  }
  requireOwnCluster(deps, announcement.key, metadata['cluster']);
  // The presigned PUT binds this metadata and the checksum together: S3 stored it only because the bytes have this SHA-256.
  if (metadata['sha256'] !== announcement.compressedSha256) {
    throw new SnapshotConflictError(
      `s3://${store.bucket}/${announcement.key}: got an object with SHA-256 ${metadata['sha256'] ?? 'unknown'} (announced in ${metadata['announcement'] ?? 'nothing'}), expected ${announcement.compressedSha256} from ${announcement.instanceId}; two nodes were asked for one backup: the stored one is whole, compare both announcements`,
    );
  }
  return true;
}

type Judgement<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: string; readonly code?: number; readonly error?: string };

/** What a command's end means. A success without a valid result line is none. */
function judge<T>(end: CommandEnd, read: (stdout: string) => T): Judgement<T> {
  if (end.kind === 'unreachable') {
    return { ok: false, reason: end.reason };
  }
  try {
    if (end.succeeded) {
      return { ok: true, value: read(end.stdout) };
    }
    const { error, code, message } = readFailure(end.stdout);
    return { ok: false, reason: `${error} (${String(code)}): ${message}`, code, error };
  } catch (notReadable) {
    if (!(notReadable instanceof NodeResultError)) {
      throw notReadable;
    }
    return {
      ok: false,
      reason: `SSM says ${end.statusDetails}, exit status ${String(end.responseCode)}; ${notReadable.message}; stderr ends with '${clean(end.stderr.slice(-300).trim(), 300)}'`,
    };
  }
}

function noteFailure(run: Run, failure: string, code?: number): void {
  run.failures.push(failure);
  if (code !== undefined && afterExitCode(code) === 'stop') {
    throw new BackupRefusedError(
      `${failure}; no other node was asked, because none can give a better answer; tried: ${run.failures.join('; ')}`,
    );
  }
}

/** Why a node's command will not end any more; undefined when it may, or when nobody knows. */
async function whyLost(deps: BackupDeps, instanceId: string): Promise<string | undefined> {
  let nodes: readonly Node[];
  try {
    ({ nodes } = await findNodes(deps, []));
  } catch (error) {
    // EC2 and SSM are only asked whether to give up early. When they do not say, the command's own end is waited for.
    if (error instanceof NoNodeError) {
      return undefined;
    }
    throw error;
  }
  const node = nodes.find((candidate) => candidate.instanceId === instanceId);
  if (node === undefined) {
    return `${instanceId} was no longer among the running control-plane nodes`;
  }
  return node.pingStatus === undefined || node.pingStatus === 'Online'
    ? undefined
    : `SSM had lost the agent of ${instanceId} (${node.pingStatus})`;
}

function historyStart(run: Run): Date {
  return new Date(run.startedAt.getTime() - HISTORY_HOURS * 3_600_000);
}

function requireTimeForNode(run: Run, plan: Plan): void {
  const leftSeconds = run.invocation.remainingMilliseconds() / 1000;
  const neededSeconds = secondsForNode(plan.previous);
  if (leftSeconds < neededSeconds) {
    throw new TimeLeftError(
      run.phase,
      `phase ${run.phase}: ${leftSeconds.toFixed(0)} s of the function's time are left, expected ${neededSeconds.toFixed(0)} for a backup by the next node; the asynchronous retry asks it; so far: ${run.failures.join('; ')}`,
    );
  }
}

// Slow on purpose: gp3 volumes write 125 MB/s, and what is short here only costs a retry.
const SNAPSHOT_BYTES_PER_SECOND = 40e6;
const UPLOAD_BYTES_PER_SECOND = 10e6;
const UNKNOWN_BYTES = 512e6;

/**
 * Seconds that a backup by one more node needs: the reserve, 45 s to reach the node and look around, the last backup's size at 40 MB/s
 * to save, prove and compress, and its compressed size at 10 MB/s to upload. Where there is no last backup, 512 MB stand in for both.
 */
export function secondsForNode(previous: Pick<Announcement, 'sizeBytes' | 'compressedBytes'> | undefined): number {
  const { sizeBytes, compressedBytes } = previous ?? { sizeBytes: UNKNOWN_BYTES, compressedBytes: UNKNOWN_BYTES };
  return RESERVE_SECONDS + 45 + sizeBytes / SNAPSHOT_BYTES_PER_SECOND + compressedBytes / UPLOAD_BYTES_PER_SECOND;
}

/** The fewest members that the node may report: the last backup's, or fewer where a scale-down is acknowledged. 0: nothing is known. */
export function membersBefore(previous: Pick<Announcement, 'members'> | undefined, acknowledged: number): number {
  const before = previous?.members.length ?? 0;
  return acknowledged > 0 ? Math.min(before, acknowledged) : before;
}

function measure(telemetry: Telemetry, announcement: Announcement): void {
  telemetry.measure('SnapshotBytes', MetricUnit.Bytes, announcement.sizeBytes);
  telemetry.measure('CompressedBytes', MetricUnit.Bytes, announcement.compressedBytes);
  telemetry.measure('CompressedRatio', MetricUnit.NoUnit, announcement.compressedBytes / announcement.sizeBytes);
  telemetry.measure('Revision', MetricUnit.NoUnit, announcement.revision ?? announcement.liveRevision);
  telemetry.measure('Findings', MetricUnit.Count, announcement.findings.length);
  telemetry.measure('LeaderChanges', MetricUnit.Count, announcement.leaderChanges);
  if (announcement.walFsyncP99Seconds !== null) {
    telemetry.measure('WalFsyncP99Seconds', MetricUnit.Seconds, announcement.walFsyncP99Seconds);
  }
  if (announcement.certificates.length > 0) {
    telemetry.measure(
      'CertificateDaysLeft',
      MetricUnit.Count,
      Math.min(...announcement.certificates.map(({ daysLeft }) => daysLeft)),
    );
  }
}
