import {
  DescribeExecutionCommand,
  ListExecutionsCommand,
  type ExecutionListItem,
  type SFNClient,
} from '@aws-sdk/client-sfn';
import { describeError, RestoreRefusedError, StatesError } from '../shared/errors';

/** What looking for other executions needs. */
export interface OneAtATimeDeps {
  readonly sfn: SFNClient;
}

/**
 * Throws RestoreRefusedError when an older execution of the same machine that restores or undoes is running. Step Functions lists what runs with some
 * delay, so this is asked again before a node is touched; what still gets through stops at the nodes' journals.
 */
export async function requireOnlyOne({ sfn }: OneAtATimeDeps, executionArn: string): Promise<void> {
  const running = await listRunning(sfn, machineOf(executionArn));
  const own = running.find((execution) => execution.executionArn === executionArn);
  const older: string[] = [];
  for (const execution of running) {
    if (
      execution.executionArn !== executionArn &&
      (own === undefined || isOlder(execution, own)) &&
      (await acts(sfn, execution))
    ) {
      older.push(
        `${String(execution.executionArn)}, which runs since ${execution.startDate?.toISOString() ?? 'a time that is not known'}`,
      );
    }
  }
  if (older.length > 0) {
    throw new RestoreRefusedError(
      older.map((execution) => `another restore is under way: ${execution}`),
      'wait until it has ended; if it has to be given up, stop it, and undo it with {"rollback":"<its restore id>"}',
    );
  }
}

/** The ARN of an execution's machine. Throws StatesError when it is none of an execution. */
function machineOf(executionArn: string): string {
  const [, start, name] = /^(arn:[^:]+:states:[^:]+:[^:]+):execution:([^:]+):[^:]+$/.exec(executionArn) ?? [];
  if (start === undefined || name === undefined) {
    throw new StatesError(
      `execution.id: got '${executionArn.slice(0, 300)}', expected the ARN of an execution; start this function through its state machine`,
    );
  }
  return `${start}:stateMachine:${name}`;
}

async function listRunning(sfn: SFNClient, stateMachineArn: string): Promise<ExecutionListItem[]> {
  const executions: ExecutionListItem[] = [];
  let token: string | undefined;
  do {
    try {
      const answer = await sfn.send(
        new ListExecutionsCommand({
          stateMachineArn,
          statusFilter: 'RUNNING',
          ...(token === undefined ? {} : { nextToken: token }),
        }),
      );
      executions.push(...(answer.executions ?? []));
      token = answer.nextToken;
    } catch (error) {
      throw new StatesError(
        `states:ListExecutions of ${stateMachineArn}: got ${describeError(error)}, expected what is running; check the function's role`,
        error,
      );
    }
  } while (token !== undefined);
  return executions;
}

/** By the start, and of one moment by the name, so that of two exactly one is the older. */
function isOlder(a: ExecutionListItem, b: ExecutionListItem): boolean {
  const difference = (a.startDate?.getTime() ?? 0) - (b.startDate?.getTime() ?? 0);
  return difference === 0 ? String(a.executionArn) < String(b.executionArn) : difference < 0;
}

/** Whether an execution does more than plan. What cannot be read as a plan is taken for a restore. */
async function acts(sfn: SFNClient, { executionArn }: ExecutionListItem): Promise<boolean> {
  let input: string | undefined;
  try {
    ({ input } = await sfn.send(new DescribeExecutionCommand({ executionArn })));
  } catch (error) {
    throw new StatesError(
      `states:DescribeExecution of ${String(executionArn)}: got ${describeError(error)}, expected its input; check the function's role`,
      error,
    );
  }
  try {
    const parsed: unknown = JSON.parse(input ?? '');
    return typeof parsed !== 'object' || parsed === null || 'confirm' in parsed || 'rollback' in parsed;
  } catch {
    // Not JSON: Step Functions itself would have refused it.
    return true;
  }
}
