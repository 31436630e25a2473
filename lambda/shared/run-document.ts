import {
  GetCommandInvocationCommand,
  type GetCommandInvocationCommandOutput,
  ListCommandsCommand,
  SendCommandCommand,
  type SendCommandCommandInput,
  type SendCommandCommandOutput,
  type Command as SsmCommand,
  type SSMClient,
} from '@aws-sdk/client-ssm';
import { describeError, RunCommandError } from './errors';

/** An SSM document in one exact version. */
export interface Document {
  readonly name: string;
  readonly version: string;
}

/** One run of a document on one node. `pending`: no agent has taken it yet; `failed` covers every end but success. */
export interface Command {
  readonly commandId: string;
  readonly instanceId: string;
  readonly comment: string;
  readonly status: 'pending' | 'running' | 'succeeded' | 'failed';
  readonly requestedAt: Date;
}

/** How a command ended, or why it is not waited for any longer. */
export type CommandEnd =
  | {
      readonly kind: 'finished';
      readonly succeeded: boolean;
      /** SSM's finer status, such as ExecutionTimedOut. */
      readonly statusDetails: string;
      /** The script's exit status; -1 when it did not start. */
      readonly responseCode: number;
      /** The first 24,000 characters. */
      readonly stdout: string;
      /** The first 8,000 characters. */
      readonly stderr: string;
      /** false: no agent ever took it. */
      readonly ran: boolean;
    }
  | { readonly kind: 'unreachable'; readonly reason: string; readonly ran: boolean };

/** What running documents needs. */
export interface RunCommandDeps {
  readonly ssm: SSMClient;
  /** A client that sends each request once: a SendCommand that is repeated after a lost answer is a second command. */
  readonly ssmOnce: SSMClient;
  readonly now: () => Date;
  /** Sleeps, or throws TimeLeftError when the function's time is nearly over. */
  readonly pause: (milliseconds: number) => Promise<void>;
}

/** A command that no agent picked up by then will not run any more; 30 s is the least that SSM takes. */
export const DELIVERY_TIMEOUT_SECONDS = 30;

const PENDING: readonly string[] = ['Pending', 'Delayed'];
const ENDED_BADLY: readonly string[] = ['Failed', 'TimedOut', 'Cancelled'];
// What passes between the end of the delivery timeout and our seeing it.
const DELIVERY_MARGIN_SECONDS = 15;
// Most scripts of a restore are done within a second or two, small backups within some; large ones need no more than a look every two. AWS does
// not say how often GetCommandInvocation may be called: five nodes make 17 calls per second here at the most, and what is throttled is tried again.
const POLLS = [
  { untilSeconds: 3, milliseconds: 300 },
  { untilSeconds: 30, milliseconds: 500 },
];
const POLL_MILLISECONDS = 2000;
// The agent's heart-beat is every five minutes: more often would tell nothing new.
const LOST_CHECK_MILLISECONDS = 30_000;
// Five minutes between backups and three nodes make 216 commands in six hours; pages may come half empty.
const LIST_PAGES = 50;
const SEND_ATTEMPTS = 4;
const SEND_PAUSE_MILLISECONDS = 1000;
// What SSM answers instead of starting anything.
const THROTTLED: readonly string[] = ['ThrottlingException', 'Throttling', 'TooManyRequestsException', 'RateExceeded'];

/** Whether a command was not taken in time. AWS keeps it Pending until delivery and execution timeout have passed; it will not run any more. */
export function isUndelivered(command: Command, now: Date): boolean {
  const ageSeconds = (now.getTime() - command.requestedAt.getTime()) / 1000;
  return command.status === 'pending' && ageSeconds > DELIVERY_TIMEOUT_SECONDS + DELIVERY_MARGIN_SECONDS;
}

/** Runs of a document since `after`, oldest first. Throws RunCommandError rather than leave some out. */
export async function listCommands(
  deps: RunCommandDeps,
  query: { readonly document: Document; readonly after: Date },
): Promise<Command[]> {
  const commands: SsmCommand[] = [];
  let token: string | undefined;
  for (let page = 1; ; page++) {
    if (page > LIST_PAGES) {
      throw new RunCommandError(
        `ssm:ListCommands of ${query.document.name} after ${query.after.toISOString()}: got more than ${String(LIST_PAGES)} pages with ${String(commands.length)} commands, expected all of them within; find out what else runs this document`,
      );
    }
    try {
      const answer = await deps.ssm.send(
        new ListCommandsCommand({
          Filters: [
            { key: 'DocumentName', value: query.document.name },
            { key: 'InvokedAfter', value: `${query.after.toISOString().slice(0, 19)}Z` },
          ],
          MaxResults: 50,
          ...(token === undefined ? {} : { NextToken: token }),
        }),
      );
      commands.push(...(answer.Commands ?? []));
      token = answer.NextToken;
    } catch (error) {
      throw new RunCommandError(
        `ssm:ListCommands of ${query.document.name}: got ${describeError(error)}, expected the commands of the last hours; check the function's role`,
        error,
      );
    }
    if (token === undefined || token === '') {
      break;
    }
  }
  return commands.flatMap(toCommand).sort((a, b) => a.requestedAt.getTime() - b.requestedAt.getTime());
}

/** Starts a document on one node. SendCommand has no idempotency token, so callers look for a running command first. */
export async function sendDocument(
  deps: RunCommandDeps,
  run: {
    readonly document: Document;
    readonly instanceId: string;
    /** What later callers find the command by. */
    readonly comment: string;
    readonly parameters: Readonly<Record<string, string>>;
  },
): Promise<Command | { readonly kind: 'unreachable'; readonly reason: string }> {
  const input: SendCommandCommandInput = {
    DocumentName: run.document.name,
    DocumentVersion: run.document.version,
    // Ids, never tags: a tag that matches nothing is a success for SSM.
    InstanceIds: [run.instanceId],
    Comment: run.comment,
    TimeoutSeconds: DELIVERY_TIMEOUT_SECONDS,
    Parameters: Object.fromEntries(Object.entries(run.parameters).map(([name, value]) => [name, [value]])),
  };
  try {
    const { Command: command } = await sendUnlessThrottled(deps, input);
    if (command?.CommandId === undefined) {
      throw new RunCommandError(
        `ssm:SendCommand of ${run.document.name} to ${run.instanceId}: got no command id, expected one; run the backup again`,
      );
    }
    return {
      commandId: command.CommandId,
      instanceId: run.instanceId,
      comment: run.comment,
      status: 'pending',
      requestedAt: command.RequestedDateTime ?? deps.now(),
    };
  } catch (error) {
    if (error instanceof Error && error.name === 'InvalidInstanceId') {
      return { kind: 'unreachable', reason: `SSM says InvalidInstanceId: ${error.message}` };
    }
    if (error instanceof RunCommandError) {
      throw error;
    }
    throw new RunCommandError(
      `ssm:SendCommand of ${run.document.name} to ${run.instanceId}: got ${describeError(error)}, expected a command; check the function's role, the node's tags and the document`,
      error,
    );
  }
}

async function sendUnlessThrottled(
  deps: RunCommandDeps,
  input: SendCommandCommandInput,
): Promise<SendCommandCommandOutput> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await deps.ssmOnce.send(new SendCommandCommand(input));
    } catch (error) {
      // After any other error the command may have been started: the retry of the function finds it, or sends it.
      if (!(error instanceof Error && THROTTLED.includes(error.name)) || attempt === SEND_ATTEMPTS) {
        throw error;
      }
    }
    await deps.pause(SEND_PAUSE_MILLISECONDS * 2 ** (attempt - 1));
  }
}

/**
 * Waits until a command ended, was not delivered, or its node is gone.
 * `whyLost` is asked now and then; a text from it ends the waiting.
 */
export async function waitForCommand(
  deps: RunCommandDeps,
  command: Command,
  whyLost: (instanceId: string) => Promise<string | undefined>,
): Promise<CommandEnd> {
  let lookedForNode = deps.now().getTime();
  for (;;) {
    const invocation = await getInvocation(deps, command);
    const status = invocation?.Status ?? 'Pending';
    if (invocation !== undefined && (status === 'Success' || ENDED_BADLY.includes(status))) {
      return {
        kind: 'finished',
        succeeded: status === 'Success',
        statusDetails: invocation.StatusDetails ?? status,
        responseCode: invocation.ResponseCode ?? -1,
        stdout: invocation.StandardOutputContent ?? '',
        stderr: invocation.StandardErrorContent ?? '',
        ran: (invocation.ResponseCode ?? -1) !== -1,
      };
    }
    const now = deps.now().getTime();
    const ageSeconds = (now - command.requestedAt.getTime()) / 1000;
    const ran = !PENDING.includes(status);
    if (!ran && ageSeconds > DELIVERY_TIMEOUT_SECONDS + DELIVERY_MARGIN_SECONDS) {
      return {
        kind: 'unreachable',
        reason: `command ${command.commandId} is ${status} after ${ageSeconds.toFixed(0)} s, expected the agent to take it within ${String(DELIVERY_TIMEOUT_SECONDS)} s`,
        ran,
      };
    }
    // When an agent or its node dies, SSM says InProgress until the document's own timeout.
    if (now - lookedForNode >= LOST_CHECK_MILLISECONDS) {
      lookedForNode = now;
      const reason = await whyLost(command.instanceId);
      if (reason !== undefined) {
        return { kind: 'unreachable', reason: `command ${command.commandId} was ${status} when ${reason}`, ran };
      }
    }
    await deps.pause(POLLS.find(({ untilSeconds }) => ageSeconds < untilSeconds)?.milliseconds ?? POLL_MILLISECONDS);
  }
}

async function getInvocation(
  deps: RunCommandDeps,
  command: Command,
): Promise<GetCommandInvocationCommandOutput | undefined> {
  try {
    return await deps.ssm.send(
      new GetCommandInvocationCommand({ CommandId: command.commandId, InstanceId: command.instanceId }),
    );
  } catch (error) {
    // SSM is eventually consistent: right after SendCommand this is normal.
    if (error instanceof Error && error.name === 'InvocationDoesNotExist') {
      return undefined;
    }
    throw new RunCommandError(
      `ssm:GetCommandInvocation of ${command.commandId} on ${command.instanceId}: got ${describeError(error)}, expected its status; the retry attaches to the command`,
      error,
    );
  }
}

function statusOf(status: string): Command['status'] {
  if (status === 'Success') {
    return 'succeeded';
  }
  if (ENDED_BADLY.includes(status)) {
    return 'failed';
  }
  return PENDING.includes(status) ? 'pending' : 'running';
}

function toCommand(command: SsmCommand): Command[] {
  const { CommandId: commandId, RequestedDateTime: requestedAt, Status: status, InstanceIds: instanceIds } = command;
  if (commandId === undefined || requestedAt === undefined || status === undefined) {
    return [];
  }
  return (instanceIds ?? []).map((instanceId) => ({
    commandId,
    instanceId,
    comment: command.Comment ?? '',
    status: statusOf(status),
    requestedAt,
  }));
}
