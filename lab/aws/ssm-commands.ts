import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { reachesAgent, type Fleet, type FleetNode } from './fleet';
import { runStep } from './ssm-agent';
import type { SsmDocument } from './ssm-document';

// The agent's CommandWorkersLimit.
const WORKERS_PER_NODE = 5;
const REACH_POLL_MS = 50;
// setTimeout fires at once beyond 2^31 - 1 ms; 24 days outlast any lab.
const MAX_TIMER_MS = 2 ** 31 - 1;

type Status = 'Pending' | 'InProgress' | 'Success' | 'Failed' | 'TimedOut';

/** One command on one node. */
export interface Invocation {
  readonly instanceId: string;
  status: Status;
  statusDetails: 'Pending' | 'InProgress' | 'Success' | 'Failed' | 'ExecutionTimedOut' | 'DeliveryTimedOut';
  responseCode: number;
  stdout: string;
  stderr: string;
  startedAt?: Date;
  endedAt?: Date;
}

/** One accepted SendCommand. */
export interface Command {
  readonly commandId: string;
  readonly comment: string;
  readonly document: SsmDocument;
  readonly parameters: Readonly<Record<string, readonly string[]>>;
  readonly requestedAt: Date;
  readonly timeoutSeconds: number;
  readonly invocations: readonly Invocation[];
}

/** How long things take; shorter in tests than in AWS. */
export interface SsmTiming {
  /** Milliseconds until a new command is seen by the read calls. @default 200 */
  readonly visibleAfterMs?: number;
  /** Milliseconds that a second of TimeoutSeconds lasts. @default 1000 */
  readonly deliverySecondMs?: number;
  /** Milliseconds that a second of a step's timeoutSeconds lasts. @default 1000 */
  readonly executionSecondMs?: number;
}

const after = (ms: number, action: () => void): NodeJS.Timeout =>
  setTimeout(action, Math.min(ms, MAX_TIMER_MS)).unref();

const reached = async (node: FleetNode): Promise<void> => {
  // Not to be waited for by a process that has nothing else to do.
  while (!reachesAgent(node)) await sleep(REACH_POLL_MS, undefined, { ref: false });
};

/** One node's agent: takes commands from its queue, at most five at a time. */
class Agent {
  running = true;
  // Grows each time the agent stops: what an earlier agent started is not reported by a later one.
  #life = 0;
  #busy = 0;
  #queue: (() => Promise<void>)[] = [];

  get life(): number {
    return this.#life;
  }

  offer(job: () => Promise<void>): void {
    this.#queue.push(job);
    this.#next();
  }

  stop(): void {
    this.running = false;
    this.#life += 1;
    this.#busy = 0;
  }

  start(): void {
    this.running = true;
    this.#next();
  }

  #next(): void {
    while (this.running && this.#busy < WORKERS_PER_NODE) {
      const job = this.#queue.shift();
      if (job === undefined) return;
      const life = this.#life;
      this.#busy += 1;
      void job().finally(() => {
        if (life !== this.#life) return;
        this.#busy -= 1;
        this.#next();
      });
    }
  }
}

/** All commands of the lab and the agents that run them. */
export class SsmCommands {
  readonly commands: Command[] = [];
  /** Instance ids of nodes whose agent was asked to reboot by exit code 194; the lab reboots none. */
  readonly reboots: string[] = [];
  readonly #agents = new Map<string, Agent>();
  readonly #visibleAfterMs: number;
  readonly #deliverySecondMs: number;
  readonly #executionSecondMs: number;

  constructor(
    private readonly fleet: Fleet,
    private readonly region: string,
    timing: SsmTiming,
  ) {
    this.#visibleAfterMs = timing.visibleAfterMs ?? 200;
    this.#deliverySecondMs = timing.deliverySecondMs ?? 1000;
    this.#executionSecondMs = timing.executionSecondMs ?? 1000;
  }

  /** Stops a node's agent: what it runs goes on unreported, as when the agent or the node dies. */
  stopAgent(instanceId: string): void {
    this.#agent(instanceId).stop();
  }

  /** Starts a node's agent again; it takes what is still pending. */
  startAgent(instanceId: string): void {
    this.#agent(instanceId).start();
  }

  #agent(instanceId: string): Agent {
    if (this.fleet.find(instanceId) === undefined) throw new Error(`no node ${instanceId} in the fleet`);
    const agent = this.#agents.get(instanceId) ?? new Agent();
    this.#agents.set(instanceId, agent);
    return agent;
  }

  send(options: {
    readonly document: SsmDocument;
    readonly nodes: readonly FleetNode[];
    readonly given: Readonly<Record<string, readonly string[]>>;
    readonly values: Readonly<Record<string, string>>;
    readonly comment: string;
    readonly timeoutSeconds: number;
  }): Command {
    const invocations = options.nodes.map((node): Invocation => ({
      instanceId: node.instanceId,
      status: 'Pending',
      statusDetails: 'Pending',
      responseCode: -1,
      stdout: '',
      stderr: '',
    }));
    const command: Command = {
      commandId: randomUUID(),
      comment: options.comment,
      document: options.document,
      parameters: options.given,
      requestedAt: new Date(),
      timeoutSeconds: options.timeoutSeconds,
      invocations,
    };
    this.commands.push(command);
    for (const [index, node] of options.nodes.entries()) {
      const invocation = invocations[index];
      if (invocation !== undefined) this.#deliver(command, invocation, node, options.values);
    }
    return command;
  }

  #deliver(command: Command, invocation: Invocation, node: FleetNode, values: Readonly<Record<string, string>>): void {
    const deliveryMs = command.timeoutSeconds * this.#deliverySecondMs;
    const executionMs = command.document.timeoutSeconds * this.#executionSecondMs;
    let deliverable = true;
    after(deliveryMs, () => {
      deliverable = false;
    });
    // Only the agent knows that nothing ran, or that a step ran out of time: until the sum of both has passed, a command that no agent
    // took is pending, and one whose agent died is in progress.
    after(deliveryMs + executionMs, () => {
      if (invocation.status !== 'Pending' && invocation.status !== 'InProgress') return;
      Object.assign(invocation, { status: 'TimedOut', statusDetails: 'DeliveryTimedOut', endedAt: new Date() });
    });
    const agent = this.#agent(node.instanceId);
    const job = async (): Promise<void> => {
      const { life } = agent;
      await reached(node);
      if (agent.life !== life) {
        agent.offer(job);
        return;
      }
      if (!deliverable || invocation.status !== 'Pending') return;
      Object.assign(invocation, { status: 'InProgress', statusDetails: 'InProgress', startedAt: new Date() });
      const result = await runStep({
        node,
        document: command.document,
        commandId: command.commandId,
        region: this.region,
        parameters: values,
        timeoutMs: executionMs,
      });
      await reached(node);
      // The timer may have changed it meanwhile, which narrowing does not see.
      if (agent.life !== life || (invocation.status as Status) !== 'InProgress') return;
      const { reboot, ...reported } = result;
      Object.assign(invocation, { ...reported, endedAt: new Date() });
      if (reboot) this.reboots.push(node.instanceId);
    };
    agent.offer(job);
  }

  /** What the read calls see: commands older than the time that AWS needs to show them, newest first. */
  visible(): Command[] {
    const until = Date.now() - this.#visibleAfterMs;
    return this.commands.filter(({ requestedAt }) => requestedAt.getTime() <= until).reverse();
  }
}

/** The status of a command over all of its nodes. */
export const commandStatus = (command: Command): Status => {
  const statuses = command.invocations.map(({ status }) => status);
  if (statuses.every((status) => status === 'Pending')) return 'Pending';
  if (statuses.some((status) => status === 'Pending' || status === 'InProgress')) return 'InProgress';
  return statuses.find((status) => status !== 'Success') ?? 'Success';
};
