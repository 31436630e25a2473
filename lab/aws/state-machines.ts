import { randomUUID } from 'node:crypto';
import {
  ExecutionAbortedError,
  ExecutionError,
  ExecutionTimeoutError,
  type RunOptions,
  StateMachine,
} from 'aws-local-stepfunctions';
import { AwsError } from './aws-error';
import { forInterpreter, START_TIME, type Definition } from './definition';
import type { EventBus, ExecutionStatus, ExecutionStatusEvent } from './events';
import type { Iam } from './iam';
import type { Invocation, InvokeOptions, Lambda } from './lambda';
import type { Environment } from './template';

/** Step Functions' limit for input, output and every result of a state, in bytes of UTF-8. */
const DATA_LIMIT_BYTES = 262_144;
// A name that the interpreter gives a Fail state that has none.
const NAMELESS_FAILURE = 'FailStateError';

type Json = Parameters<StateMachine['run']>[0];
type Running = ReturnType<StateMachine['run']>;

/** A state machine as the template has it. */
export interface Machine {
  readonly logicalId: string;
  readonly name: string;
  readonly arn: string;
  readonly roleArn: string;
  readonly definition: Definition;
}

/** One stay in a state, with all its retries. */
export interface StateVisit {
  readonly name: string;
  readonly type: string;
  readonly entered: Date;
  readonly input: unknown;
  /** When it was left, by success or by a Catch; undefined in the state in which the execution is or ended. */
  exited?: Date;
  output?: unknown;
  /** What failed in it, also where a retry or a Catch followed. */
  readonly errors: { readonly error: string; readonly cause: string }[];
}

/** Something that happened in an execution. */
export interface StateEvent {
  readonly event: 'entered' | 'failed' | 'retried' | 'caught' | 'exited';
  readonly state: string;
  readonly at: Date;
  readonly visit: StateVisit;
}

/** A function that a Task state invoked. */
export interface Task {
  readonly state: string;
  /** From 1; grows with each retry and each later visit of the state. */
  readonly attempt: number;
  readonly input: unknown;
}

/** A task whose function was started. */
export interface InvokedTask extends Task {
  readonly invocation: Invocation;
}

/** How an execution ended. */
export interface ExecutionResult {
  readonly status: Exclude<ExecutionStatus, 'RUNNING'>;
  /** Only of one that succeeded. */
  readonly output?: unknown;
  readonly error?: string;
  readonly cause?: string;
}

/** Options of one execution. */
export interface ExecutionOptions {
  /** @default a UUID */
  readonly name?: string;
  /** ARN of who starts it. @default the account's root */
  readonly startedBy?: string;
  /** Asked before each invocation of a function, so that a test can shorten its time limit. @default the function's own Timeout */
  readonly invokeOptions?: (task: Task) => InvokeOptions | undefined;
}

/** One execution of a state machine. */
export class Execution {
  readonly executionArn: string;
  readonly startDate = new Date();
  readonly visits: StateVisit[] = [];
  /** Every invocation of a function, oldest first: to kill it, or to see how it ended. */
  readonly tasks: InvokedTask[] = [];
  stopDate?: Date;
  /** Resolves when it has ended, however it ended, and its status event was delivered. Rejects only for a fault of the lab itself. */
  readonly result: Promise<ExecutionResult>;
  #end: ExecutionResult | undefined;
  readonly #settled = Promise.withResolvers<ExecutionResult>();
  readonly #history: StateEvent[] = [];
  readonly #listeners: ((event: StateEvent) => void)[] = [];
  readonly #taskListeners: ((task: InvokedTask) => void)[] = [];

  constructor(
    readonly machine: Machine,
    readonly name: string,
    /** As it was given: a JSON text. */
    readonly input: string,
    { account, region }: Environment,
    /** ARN. */
    readonly startedBy = `arn:aws:iam::${account}:root`,
  ) {
    this.executionArn = `arn:aws:states:${region}:${account}:execution:${machine.name}:${name}`;
    this.result = this.#settled.promise;
    // Whoever only starts and never waits must not end the process; whoever waits still gets the rejection.
    this.result.catch(() => undefined);
  }

  get status(): ExecutionStatus {
    return this.#end?.status ?? 'RUNNING';
  }

  /** How it ended; undefined while it runs. */
  get ended(): ExecutionResult | undefined {
    return this.#end;
  }

  /** Calls back for each thing that happens in it, from its start on: what has happened before is told first. */
  onState(listener: (event: StateEvent) => void): void {
    this.#history.forEach(listener);
    this.#listeners.push(listener);
  }

  /** Waits until it enters a state; at once when it has. Throws when it ended without. */
  entered(state: string): Promise<StateVisit> {
    return this.#before(`entering ${state}`, (resolve) => {
      this.onState(({ event, visit }) => {
        if (event === 'entered' && visit.name === state) resolve(visit);
      });
    });
  }

  /** Waits until the function of a state was started, for the nth time; at once when it was. Throws when it ended without. */
  invoked(state: string, attempt = 1): Promise<InvokedTask> {
    return this.#before(`invoking the function of ${state} for the ${String(attempt)}. time`, (resolve) => {
      const wanted = (task: InvokedTask): void => {
        if (task.state === state && task.attempt === attempt) resolve(task);
      };
      this.tasks.forEach(wanted);
      this.#taskListeners.push(wanted);
    });
  }

  #before<Found>(what: string, find: (resolve: (found: Found) => void) => void): Promise<Found> {
    return new Promise((resolve, reject) => {
      find(resolve);
      this.result.then(({ status, error = '', cause = '' }) => {
        reject(new Error(`execution ${this.name}: ended ${status} ${error} before ${what}: ${cause}`));
      }, reject);
    });
  }

  /** Takes note of a function that was started. */
  add(task: InvokedTask): void {
    this.tasks.push(task);
    for (const listener of this.#taskListeners) listener(task);
  }

  /** Takes note of something that happened. */
  tell(event: StateEvent): void {
    this.#history.push(event);
    for (const listener of this.#listeners) listener(event);
  }

  /** Takes its end; the first one counts. */
  end(end: ExecutionResult): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.stopDate = new Date();
  }

  /** Lets those go on who wait for its end. */
  settle(): void {
    if (this.#end !== undefined) this.#settled.resolve(this.#end);
  }

  /** Throws a fault of the lab to those who wait for its end. */
  fail(fault: unknown): void {
    this.#settled.reject(fault instanceof Error ? fault : new Error(String(fault)));
  }
}

/** A failure of a task by the name that Retry and Catch match. */
class TaskError extends Error {
  constructor(name: string, cause: string) {
    super(cause);
    this.name = name;
  }
}

/** What neither Retry nor Catch see, not even as States.ALL; the interpreter asks for these two fields. */
class TerminalError extends TaskError {
  readonly isRetryable = false;
  readonly isCatchable = false;
}

const limited = (value: unknown, what: string): Json => {
  const text = JSON.stringify(value ?? null);
  const bytes = Buffer.byteLength(text);
  if (bytes > DATA_LIMIT_BYTES)
    throw new TerminalError(
      'States.DataLimitExceeded',
      `${what}: got ${String(bytes)} bytes, expected at most ${String(DATA_LIMIT_BYTES)}`,
    );
  return JSON.parse(text) as Json;
};

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** How Step Functions behaves in this lab. */
export interface StatesOptions {
  /** What every wait, of Wait states and before retries, is multiplied by; time limits stay. @default 1 */
  readonly waitFactor?: number;
}

/** The state machines of the template and their executions, run by an interpreter that is not ours. */
export class StateMachines {
  readonly machines: Machine[] = [];
  /** Oldest first. */
  readonly executions: Execution[] = [];
  readonly #running = new Map<Execution, Running>();
  readonly #waitFactor: number;
  #stopped = false;

  constructor(
    private readonly lambda: Lambda,
    private readonly events: EventBus,
    private readonly iam: Iam,
    private readonly environment: Environment,
    options: StatesOptions,
  ) {
    this.#waitFactor = options.waitFactor ?? 1;
  }

  /** By logical id, name or ARN. Throws StateMachineDoesNotExist. */
  find(id: string): Machine {
    const machine = this.machines.find(({ logicalId, name, arn }) => [logicalId, name, arn].includes(id));
    if (machine === undefined)
      throw new AwsError(
        'StateMachineDoesNotExist',
        `State Machine Does Not Exist: '${id}'; the template has ${this.machines.map(({ logicalId }) => logicalId).join(', ')}`,
      );
    return machine;
  }

  /** Throws ExecutionDoesNotExist. */
  execution(arn: string): Execution {
    const execution = this.executions.find(({ executionArn }) => executionArn === arn);
    if (execution === undefined) throw new AwsError('ExecutionDoesNotExist', `Execution Does Not Exist: '${arn}'`);
    return execution;
  }

  /** Starts an execution; `input` is a JSON text. A name that is taken gives the execution that runs under it with the same input, or throws ExecutionAlreadyExists. */
  start(machine: Machine, input: string, options: ExecutionOptions = {}): Execution {
    const { name = randomUUID() } = options;
    const taken = this.executions.find((execution) => execution.machine === machine && execution.name === name);
    if (taken !== undefined) {
      if (taken.status === 'RUNNING' && taken.input === input) return taken;
      throw new AwsError('ExecutionAlreadyExists', `Execution Already Exists: '${taken.executionArn}'`);
    }
    const execution = new Execution(machine, name, input, this.environment, options.startedBy);
    this.executions.push(execution);
    this.#run(execution, options).catch((fault: unknown) => {
      execution.fail(fault);
    });
    return execution;
  }

  /** Ends an execution as ABORTED: no further state runs, and the function that runs goes on by itself, as in AWS. One that has ended stays as it is. */
  async stopExecution(arn: string, reason: { readonly error?: string; readonly cause?: string } = {}): Promise<Date> {
    const execution = this.execution(arn);
    const running = this.#running.get(execution);
    execution.end({ status: 'ABORTED', ...reason });
    running?.abort();
    await execution.result;
    return execution.stopDate ?? new Date();
  }

  /** Ends all executions; nobody hears of it. */
  stop(): Promise<void> {
    this.#stopped = true;
    for (const [execution, running] of this.#running) {
      execution.end({ status: 'ABORTED' });
      running.abort();
    }
    return Promise.resolve();
  }

  async #run(execution: Execution, options: ExecutionOptions): Promise<void> {
    const { machine } = execution;
    let fault: Error | undefined;
    const handlers: NonNullable<NonNullable<RunOptions['overrides']>['taskResourceLocalHandlers']> = {};
    for (const [state, functionArn] of machine.definition.tasks) {
      handlers[state] = async (input) => {
        try {
          return await this.#task(execution, { state, functionArn, input }, options);
        } catch (error) {
          if (error instanceof TaskError) throw error;
          fault = error instanceof Error ? error : new Error(String(error));
          throw new TerminalError('LabFault', fault.message);
        }
      };
    }
    const running = new StateMachine(forInterpreter(machine.definition, this.#waitFactor), {
      validationOptions: { noValidate: true },
    }).run(JSON.parse(execution.input) as Json, {
      overrides: { taskResourceLocalHandlers: handlers },
      context: contextOf(execution),
    });
    this.#running.set(execution, running);
    const followed = follow(execution, running);
    await this.events.putStatus(statusEvent(execution, this.environment));
    const result = await running.result.then(
      (output): ExecutionResult => ({ status: 'SUCCEEDED', output }),
      (error: unknown): ExecutionResult => failureOf(error),
    );
    await followed;
    this.#running.delete(execution);
    // One that was stopped has its end, with the reason that was given for it.
    execution.end(result);
    if (fault !== undefined) throw fault;
    if (!this.#stopped) await this.events.putStatus(statusEvent(execution, this.environment));
    execution.settle();
  }

  async #task(
    execution: Execution,
    { state, functionArn, input }: { readonly state: string; readonly functionArn: string; readonly input: unknown },
    options: ExecutionOptions,
  ): Promise<Json> {
    const payload = limited(input, `input of ${state}`);
    const caller = { accessKeyId: '', roleArn: execution.machine.roleArn };
    const fn = this.lambda.find(functionArn);
    try {
      await this.iam.authorize(caller, [{ action: 'lambda:InvokeFunction', resource: fn.arn }]);
    } catch (error) {
      if (error instanceof AwsError) throw new TaskError('Lambda.AWSLambdaException', error.message);
      throw error;
    }
    // The interpreter goes on with a retry that an abort cut short.
    if (execution.status !== 'RUNNING') throw new TerminalError('Stopped', `execution is ${execution.status}`);
    const task: Task = {
      state,
      attempt: execution.tasks.filter((earlier) => earlier.state === state).length + 1,
      input: payload,
    };
    const invocation = this.lambda.invoke(fn.arn, payload, options.invokeOptions?.(task));
    execution.add({ ...task, invocation });
    const outcome = await invocation.done;
    if (!outcome.ok) throw new TaskError(outcome.error?.errorType ?? 'Lambda.Unknown', JSON.stringify(outcome.error));
    return limited(outcome.result, `result of ${state}`);
  }
}

const contextOf = ({
  machine,
  executionArn,
  name,
  startDate,
}: Execution): Exclude<RunOptions['context'], undefined> => ({
  Execution: { Id: executionArn, Name: name, RoleArn: machine.roleArn },
  StateMachine: { Id: machine.arn, Name: machine.name },
  [START_TIME]: startDate.toISOString(),
});

/** The event of an execution's present status. Source: AWS Step Functions Developer Guide, "Step Functions Execution Status Change". */
const statusEvent = (
  { machine, executionArn, name, status, startDate, stopDate, input, ended }: Execution,
  { account, region }: Environment,
): ExecutionStatusEvent => ({
  version: '0',
  id: randomUUID(),
  'detail-type': 'Step Functions Execution Status Change',
  source: 'aws.states',
  account,
  time: (stopDate ?? startDate).toISOString().replace(/\.\d{3}Z$/, 'Z'),
  region,
  resources: [executionArn],
  detail: {
    executionArn,
    stateMachineArn: machine.arn,
    name,
    status,
    startDate: startDate.getTime(),
    stopDate: stopDate?.getTime() ?? null,
    input,
    inputDetails: { included: true },
    output: ended?.status === 'SUCCEEDED' ? JSON.stringify(ended.output) : null,
    outputDetails: ended?.status === 'SUCCEEDED' ? { included: true } : null,
    error: ended?.error ?? null,
    cause: ended?.cause ?? null,
  },
});

const failureOf = (error: unknown): ExecutionResult => {
  if (error instanceof ExecutionAbortedError) return { status: 'ABORTED' };
  if (error instanceof ExecutionTimeoutError) return { status: 'TIMED_OUT', error: 'States.Timeout' };
  const reason = error instanceof ExecutionError ? error.cause : error;
  if (!(reason instanceof Error)) throw new Error(`the interpreter failed: ${String(reason)}`);
  return reason.name === NAMELESS_FAILURE
    ? { status: 'FAILED' }
    : { status: 'FAILED', error: reason.name, cause: reason.message };
};

/** Takes note of what the interpreter tells, to the end of the execution. */
const follow = async (execution: Execution, running: Running): Promise<void> => {
  for await (const event of running.eventLogs) {
    if (!('state' in event)) continue;
    const at = new Date(event.timestamp);
    const { name, type, input, output } = event.state;
    if (event.type === 'StateEntered') execution.visits.push({ name, type, entered: at, input, errors: [] });
    const visit = execution.visits.at(-1);
    if (visit === undefined) throw new Error(`the interpreter told ${event.type} of ${name} before it entered a state`);
    const tell = (kind: StateEvent['event']): void => {
      execution.tell({ event: kind, state: name, at, visit });
    };
    switch (event.type) {
      case 'StateEntered':
        tell('entered');
        break;
      case 'StateFailed':
        visit.errors.push({ error: event.Error, cause: textOf(event.Cause) });
        tell('failed');
        break;
      case 'StateRetried':
        tell('retried');
        break;
      case 'StateCaught':
        tell('caught');
        break;
      case 'StateExited':
        Object.assign(visit, { exited: at, output });
        tell('exited');
        break;
    }
  }
};
