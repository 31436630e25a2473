import { AwsError, validation } from './aws-error';
import type { CredentialStore } from './credentials';
import { startJsonService, type Endpoint, type Operation } from './endpoint';
import type { ExecutionStatus } from './events';
import { page } from './fleet';
import type { Iam } from './iam';
import { check, type Field } from './shape';
import type { Execution, Machine, StateMachines } from './state-machines';

const INPUT_LIMIT_BYTES = 262_144;
const DEFAULT_PAGE = 100;
const STATUSES: readonly ExecutionStatus[] = ['RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'];

const machineArn: Field = { type: 'string', required: true, min: 1, max: 256 };
const executionArn: Field = { type: 'string', required: true, min: 1, max: 256 };

const checkInput = (input: string): void => {
  const bytes = Buffer.byteLength(input);
  if (bytes > INPUT_LIMIT_BYTES)
    throw validation(`input: got ${String(bytes)} bytes, expected at most ${String(INPUT_LIMIT_BYTES)}`);
  try {
    JSON.parse(input);
  } catch (error) {
    throw new AwsError('InvalidExecutionInput', `Invalid State Machine Execution Input: '${String(error)}'`);
  }
};

const seconds = (time: Date): number => time.getTime() / 1000;

const describe = ({ executionArn: arn, machine, name, status, startDate, stopDate }: Execution): object => ({
  executionArn: arn,
  stateMachineArn: machine.arn,
  name,
  status,
  startDate: seconds(startDate),
  ...(stopDate === undefined ? {} : { stopDate: seconds(stopDate) }),
  redriveCount: 0,
});

const describeInFull = (execution: Execution): object => {
  const { ended } = execution;
  return {
    ...describe(execution),
    input: execution.input,
    inputDetails: { included: true },
    ...(ended?.status === 'SUCCEEDED'
      ? { output: JSON.stringify(ended.output), outputDetails: { included: true } }
      : {}),
    ...(ended?.error === undefined ? {} : { error: ended.error }),
    ...(ended?.cause === undefined ? {} : { cause: ended.cause }),
  };
};

/** Starts the Step Functions stand-in: StartExecution, StopExecution, DescribeExecution, ListExecutions. */
export const startStates = (options: {
  readonly stateMachines: StateMachines;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> => {
  const { stateMachines, iam } = options;

  // The right first: who may not look does not learn what there is.
  const machineOf = (input: Record<string, unknown>): Machine => {
    const machine = stateMachines.find(input.stateMachineArn as string);
    if (machine.arn !== input.stateMachineArn)
      throw new AwsError('InvalidArn', `Invalid Arn: '${String(input.stateMachineArn)}'`);
    return machine;
  };

  const operations: Record<string, Operation> = {
    StartExecution: async (input, caller) => {
      check(input, {
        stateMachineArn: machineArn,
        name: { type: 'string', min: 1, max: 80, pattern: /^[0-9A-Za-z_-]+$/ },
        input: { type: 'string' },
      });
      await iam.authorize(caller, [{ action: 'states:StartExecution', resource: input.stateMachineArn as string }]);
      const machine = machineOf(input);
      const text = (input.input as string | undefined) ?? '{}';
      checkInput(text);
      const name = input.name as string | undefined;
      const execution = stateMachines.start(machine, text, {
        ...(name === undefined ? {} : { name }),
        ...(caller.roleArn === undefined ? {} : { startedBy: caller.roleArn }),
      });
      return { executionArn: execution.executionArn, startDate: seconds(execution.startDate) };
    },
    StopExecution: async (input, caller) => {
      check(input, {
        executionArn,
        error: { type: 'string', max: 256 },
        cause: { type: 'string', max: 32_768 },
      });
      await iam.authorize(caller, [{ action: 'states:StopExecution', resource: input.executionArn as string }]);
      const stopDate = await stateMachines.stopExecution(input.executionArn as string, {
        ...(typeof input.error === 'string' ? { error: input.error } : {}),
        ...(typeof input.cause === 'string' ? { cause: input.cause } : {}),
      });
      return { stopDate: seconds(stopDate) };
    },
    DescribeExecution: async (input, caller) => {
      check(input, { executionArn });
      await iam.authorize(caller, [{ action: 'states:DescribeExecution', resource: input.executionArn as string }]);
      return describeInFull(stateMachines.execution(input.executionArn as string));
    },
    ListExecutions: async (input, caller) => {
      check(input, {
        stateMachineArn: machineArn,
        statusFilter: { type: 'string', values: STATUSES },
        maxResults: { type: 'integer', min: 0, max: 1000 },
        nextToken: { type: 'string', min: 1, max: 1024 },
      });
      await iam.authorize(caller, [{ action: 'states:ListExecutions', resource: input.stateMachineArn as string }]);
      const machine = machineOf(input);
      const found = stateMachines.executions
        .filter((execution) => execution.machine === machine)
        .filter(({ status }) => input.statusFilter === undefined || status === input.statusFilter)
        .reverse();
      // 0 is what Step Functions takes for its default.
      const size = (input.maxResults as number | undefined) ?? 0;
      const { items, next } = page(
        found,
        size === 0 ? DEFAULT_PAGE : size,
        input.nextToken as string | undefined,
        'InvalidToken',
      );
      return { executions: items.map(describe), ...(next === undefined ? {} : { nextToken: next }) };
    },
  };

  return startJsonService({
    service: 'states',
    prefix: 'AWSStepFunctions',
    version: '1.0',
    operations,
    region: options.region,
    port: options.port,
    credentials: options.credentials,
  });
};
