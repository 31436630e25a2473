import { findNodes } from '../backup/find-nodes';
import { timeOf } from '../shared/backup-id';
import { NodeResultError, NoNodeError, RunCommandError, TimeLeftError } from '../shared/errors';
import { clean, readFailure } from '../shared/node-result';
import type { RestoreNode } from '../shared/restore-state';
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
import type { Failure } from './failure';
import type { Run } from './run';

/** One document that is run on every node, once. */
export interface OnAll<T> {
  readonly document: Document;
  /** What the commands are found by: the same in every call that means the same run. */
  readonly comment: string;
  /** Made for each command that is sent: a presigned URL is to be young. */
  readonly parameters: (node: RestoreNode) => Promise<Readonly<Record<string, string>>>;
  /** Throws NodeResultError when the line is not what this document prints. */
  readonly read: (stdout: string) => T;
  /** How long a node that cannot be reached, or is busy with another script, is tried from the beginning of the state on. */
  readonly patienceSeconds: number;
}

/** How a node's script ended. `killed`: again and again before it had a result; `unreachable`: no agent answers. */
export type NodeOutcome<T> =
  { readonly kind: 'ok'; readonly node: RestoreNode; readonly value: T; readonly seenAt: Date } | NodeFailed;

/** A node whose script did not do what it should. */
export interface NodeFailed {
  readonly kind: 'refused' | 'killed' | 'unreachable';
  readonly node: RestoreNode;
  readonly reason: string;
}

/** What came of a document on all nodes. */
export interface AllOutcomes<T> {
  /** false: at least one node is not at its end, and not among the outcomes; call again. */
  readonly done: boolean;
  readonly outcomes: readonly NodeOutcome<T>[];
  /** When SSM took the first command for it; undefined: none was sent. */
  readonly firstSentAt: Date | undefined;
}

const RETRY_MILLISECONDS = 5000;
const RESENDS = 2;
// A state that is entered again by a new call gives a node that was just lost this long at least.
const LEAST_PATIENCE_SECONDS = 60;
const EXIT_ALREADY_RUNNING = 12;
const EXIT_UNEXPECTED = 99;

/**
 * Runs a document on all nodes side by side and waits for every end, whatever the others' are. Commands that an earlier call sent are
 * attached to; a script that was killed is sent again, because every script can be run again. Nothing of a node is thrown.
 */
export async function runOnAll<T>(run: Run, what: OnAll<T>): Promise<AllOutcomes<T>> {
  const sent: Date[] = [];
  // Not Promise.all: what it leaves running would send commands in a later call.
  const settled = await Promise.allSettled(run.state.nodes.map((node) => runOnNode(run, what, node, sent)));
  const rejected = settled.find(({ status }) => status === 'rejected');
  if (rejected?.status === 'rejected') {
    throw rejected.reason;
  }
  const ends = settled.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  const outcomes = ends.filter((end) => end !== 'waiting');
  return {
    done: outcomes.length === ends.length,
    outcomes,
    firstSentAt: sent.toSorted((one, other) => one.getTime() - other.getTime())[0],
  };
}

/** The values of all nodes, or undefined when one has none. */
export function valuesOf<T>(
  outcomes: readonly NodeOutcome<T>[],
): readonly { readonly node: RestoreNode; readonly value: T }[] | undefined {
  const ok = outcomes.filter((outcome) => outcome.kind === 'ok');
  return ok.length === outcomes.length ? ok : undefined;
}

/** Nodes that failed. */
export function failedOf<T>(outcomes: readonly NodeOutcome<T>[]): readonly NodeFailed[] {
  return outcomes.filter((outcome) => outcome.kind !== 'ok');
}

const MAX_CHARACTERS = 3000;

/** What a state says of the nodes that failed: each with its own words, all within 3,000 characters. */
export function nodesFailed(run: Run, failed: readonly NodeFailed[]): Failure {
  const each = Math.floor(MAX_CHARACTERS / failed.length) - 50;
  const sentences = failed.map(({ node, kind, reason }) => `${nameOf(node)} ${kind}: ${shorten(reason, each)}`);
  return {
    error: `${run.phase}Failed`,
    cause: `${run.phase} failed on ${String(failed.length)} of ${String(run.state.nodes.length)} nodes: ${sentences.join('; ')}`,
  };
}

/** A node as people know it. */
export function nameOf({ instanceId, memberName }: RestoreNode): string {
  return `${instanceId} (${memberName})`;
}

function shorten(text: string, max: number): string {
  return text.length > max ? `${text.slice(0, max)}…` : text;
}

/** What the end of one command means. `again`: the script may be sent once more. */
type Judgement<T> =
  | { readonly kind: 'ok'; readonly value: T }
  | { readonly kind: 'refused' | 'killed' | 'busy' | 'unreachable'; readonly reason: string };

async function runOnNode<T>(
  run: Run,
  what: OnAll<T>,
  node: RestoreNode,
  sent: Date[],
): Promise<NodeOutcome<T> | 'waiting'> {
  const enteredAt = run.deps.now().getTime();
  /** What commands came to that are over. */
  const over = new Map<string, Judgement<T>>();
  for (;;) {
    let judgement: Judgement<T>;
    try {
      judgement = await runOnce(run, what, node, { over, sent });
    } catch (error) {
      if (error instanceof TimeLeftError) {
        return 'waiting';
      }
      // SSM itself does not answer: as good as a node that does not.
      if (!(error instanceof RunCommandError)) {
        throw error;
      }
      judgement = { kind: 'unreachable', reason: error.message };
    }
    if (judgement.kind === 'ok') {
      return { kind: 'ok', node, value: judgement.value, seenAt: run.deps.now() };
    }
    const { kind, reason } = judgement;
    if (kind === 'refused') {
      return { kind, node, reason };
    }
    if (kind === 'killed') {
      const killed = [...over.values()].filter((earlier) => earlier.kind === 'killed').length;
      if (killed > RESENDS) {
        return { kind, node, reason: `${reason} (sent ${String(killed)} times)` };
      }
      continue;
    }
    const enteredSeconds = (run.deps.now().getTime() - enteredAt) / 1000;
    if (
      run.seconds >= what.patienceSeconds &&
      enteredSeconds >= Math.min(LEAST_PATIENCE_SECONDS, what.patienceSeconds)
    ) {
      return {
        kind: kind === 'busy' ? 'refused' : kind,
        node,
        reason: `${reason}; tried for ${run.seconds.toFixed(0)} s`,
      };
    }
    try {
      await run.pause(RETRY_MILLISECONDS);
    } catch (error) {
      if (error instanceof TimeLeftError) {
        return 'waiting';
      }
      throw error;
    }
  }
}

/** The end of the one command of this run on a node: of one that is there, or of a new one. */
async function runOnce<T>(
  run: Run,
  what: OnAll<T>,
  node: RestoreNode,
  known: { readonly over: Map<string, Judgement<T>>; readonly sent: Date[] },
): Promise<Judgement<T>> {
  const deps = runCommandDeps(run);
  const listed = await listCommands(deps, { document: what.document, after: historyStart(run) });
  const own = listed.filter(({ comment, instanceId }) => comment === what.comment && instanceId === node.instanceId);
  known.sent.push(...own.map(({ requestedAt }) => requestedAt));
  for (const command of own.filter(({ status, commandId }) => status === 'failed' && !known.over.has(commandId))) {
    known.over.set(command.commandId, judge(await endOf(run, command), what.read));
  }
  const final = [...known.over.values()].find(({ kind }) => kind === 'refused');
  const open = own.filter((command) => !known.over.has(command.commandId) && !isUndelivered(command, run.deps.now()));
  const command = open.findLast(({ status }) => status === 'succeeded') ?? open.at(-1);
  if (command === undefined && final !== undefined) {
    return final;
  }
  const killed = [...known.over.values()].filter(({ kind }) => kind === 'killed');
  const lastKilled = killed.at(-1);
  if (command === undefined && lastKilled !== undefined && killed.length > RESENDS) {
    return lastKilled;
  }
  const attached = command ?? (await sendDocument(deps, await sendable(what, node)));
  if ('kind' in attached) {
    return attached;
  }
  known.sent.push(attached.requestedAt);
  const end = await endOf(run, attached);
  const judgement = judge(end, what.read);
  // A node that was lost while its script ran may come back, and its script with it.
  if (!(end.kind === 'unreachable' && end.ran)) {
    known.over.set(attached.commandId, judgement);
  }
  return judgement;
}

async function sendable<T>(what: OnAll<T>, node: RestoreNode) {
  return {
    document: what.document,
    instanceId: node.instanceId,
    comment: what.comment,
    parameters: await what.parameters(node),
  };
}

function endOf(run: Run, command: Command): Promise<CommandEnd> {
  return waitForCommand(runCommandDeps(run), command, (instanceId) => whyLost(run, instanceId));
}

function runCommandDeps(run: Run): RunCommandDeps {
  const { ssm, ssmOnce, now } = run.deps;
  return { ssm, ssmOnce, now, pause: (milliseconds) => run.pause(milliseconds) };
}

// Clocks of EC2, SSM and Step Functions differ by seconds.
const CLOCKS_MILLISECONDS = 60_000;

/** No command of this execution is older than the execution. */
function historyStart({ state }: Run): Date {
  return new Date(timeOf(state.restoreId).getTime() - CLOCKS_MILLISECONDS);
}

function judge<T>(end: CommandEnd, read: (stdout: string) => T): Judgement<T> {
  if (end.kind === 'unreachable') {
    return { kind: 'unreachable', reason: end.reason };
  }
  if (!end.ran && !end.succeeded) {
    return { kind: 'unreachable', reason: `SSM says ${end.statusDetails}, expected the agent to take the command` };
  }
  try {
    if (end.succeeded) {
      return { kind: 'ok', value: read(end.stdout) };
    }
    const { error, code, message } = readFailure(end.stdout);
    const reason = `${error} (${String(code)}): ${message}`;
    if (code === EXIT_ALREADY_RUNNING) {
      return { kind: 'busy', reason };
    }
    return { kind: code === EXIT_UNEXPECTED ? 'killed' : 'refused', reason };
  } catch (notReadable) {
    if (!(notReadable instanceof NodeResultError)) {
      throw notReadable;
    }
    const reason = `SSM says ${end.statusDetails}, exit status ${String(end.responseCode)}; ${notReadable.message}; stderr ends with '${clean(end.stderr.slice(-300).trim(), 300)}'`;
    // A script that was killed has said nothing; one that succeeded and said something else is of another version.
    return { kind: end.succeeded ? 'refused' : 'killed', reason };
  }
}

/** Why a node's command will not end any more; undefined when it may, or when nobody knows. */
async function whyLost(run: Run, instanceId: string): Promise<string | undefined> {
  const { ec2, ssm, clusterName, controlPlaneTags } = run.deps;
  let nodes;
  try {
    ({ nodes } = await findNodes({ ec2, ssm, clusterName, controlPlaneTags }, [instanceId]));
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
