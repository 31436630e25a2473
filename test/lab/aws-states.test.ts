import {
  DescribeExecutionCommand,
  DescribeStateMachineCommand,
  ListExecutionsCommand,
  SFNClient,
  StartExecutionCommand,
  StopExecutionCommand,
} from '@aws-sdk/client-sfn';
import { type Credentials, type Execution, type LabAws, startAws } from '../../lab/aws/aws';
import { readDefinition } from '../../lab/aws/definition';
import { fixtureAssembly, folder, REGION, removeFolders, statesTemplate } from './aws-fixture';

const WAIT_FACTOR = 0.01;

let aws: LabAws;
let machineArn: string;

const client = (credentials: Credentials = aws.credentials): SFNClient =>
  new SFNClient({ endpoint: aws.endpoints.sfn, region: REGION, credentials, maxAttempts: 1 });

const start = (input: unknown, options: Parameters<LabAws['startExecution']>[2] = {}): Execution =>
  aws.startExecution('Machine', input, options);

const namesOf = ({ visits }: Execution): string[] => visits.map(({ name }) => name);

beforeAll(async () => {
  aws = await startAws({
    dir: folder(),
    cdkOut: fixtureAssembly(statesTemplate()),
    stackName: 'lab',
    nodes: [],
    states: { waitFactor: WAIT_FACTOR },
  });
  machineArn = aws.resources.get('Machine') ?? '';
});

afterAll(async () => {
  await aws.stop();
  removeFolders();
});

describe('an execution', () => {
  it('runs the synthesized definition with the functions of the template and the context object of AWS', async () => {
    const input = { work: { answer: { done: true } } };
    const execution = start(input, { name: 'first' });
    const told: string[] = [];
    execution.onState(({ event, state }) => told.push(`${event} ${state}`));
    const { status, output } = await execution.result;
    expect(status).toBe('SUCCEEDED');
    expect(output).toEqual({
      ...input,
      result: { done: true },
      context: {
        id: execution.executionArn,
        name: 'first',
        startTime: execution.startDate.toISOString(),
        input,
        machine: machineArn,
      },
    });
    expect(execution.executionArn).toBe(`${machineArn.replace(':stateMachine:', ':execution:')}:first`);
    expect(told).toEqual(
      ['Context', 'Work', 'Again?', 'Finished'].flatMap((state) => [`entered ${state}`, `exited ${state}`]),
    );
    const described = await client().send(new DescribeExecutionCommand({ executionArn: execution.executionArn }));
    expect(described).toMatchObject({
      status: 'SUCCEEDED',
      name: 'first',
      stateMachineArn: machineArn,
      startDate: execution.startDate,
      stopDate: execution.stopDate,
      input: JSON.stringify(input),
      output: JSON.stringify(output),
    });
    const statuses = aws.events.statusChanges.filter(({ detail }) => detail.name === 'first');
    expect(statuses.map(({ detail }) => detail.status)).toEqual(['RUNNING', 'SUCCEEDED']);
    expect(aws.events.statusDeliveries).toEqual([]);
  });

  it('retries by the name of the error, waits as long as waitFactor says, and passes its number of tries', async () => {
    const begun = Date.now();
    const execution = start({ work: { failTimes: 2, answer: 1 } });
    await expect(execution.result).resolves.toMatchObject({ status: 'SUCCEEDED', output: { result: 1 } });
    const work = execution.visits.find(({ name }) => name === 'Work');
    expect(work?.errors.map(({ error }) => error)).toEqual(['NodeGoneError', 'NodeGoneError']);
    expect(execution.tasks.filter(({ state }) => state === 'Work').map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    const invoked = execution.tasks.map(({ invocation }) => invocation.done);
    const busy = (await Promise.all(invoked)).flatMap(({ attempts }) => attempts.map(({ durationMs }) => durationMs));
    // Unscaled it waits 2 and 4 s.
    expect(Date.now() - begun - busy.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(2000);
  });

  it('ends in the Fail state that a Catch leads to, with error and cause of the function', async () => {
    const execution = start({ work: { fail: 'node is gone' } });
    const { status, error, cause = '', output } = await execution.result;
    expect({ status, error, output }).toEqual({ status: 'FAILED', error: 'NodeGoneError', output: undefined });
    expect(JSON.parse(cause)).toMatchObject({ errorType: 'NodeGoneError', errorMessage: 'node is gone' });
    expect(namesOf(execution)).toEqual(['Context', 'Work', 'Failed']);
    expect(execution.tasks).toHaveLength(4);
    const described = await client().send(new DescribeExecutionCommand({ executionArn: execution.executionArn }));
    expect(described).toMatchObject({ status: 'FAILED', error, cause });
  });

  it('tells a function that crashed, was killed, or ran out of its time limit by the names of Lambda', async () => {
    const crashed = start({ work: { exit: 1 } });
    const killed = start({ work: { spin: true } });
    const slow = start(
      { work: { spin: true } },
      {
        invokeOptions: ({ state, attempt }) => (state === 'Work' && attempt === 1 ? { timeoutSeconds: 1 } : undefined),
      },
    );
    const { invocation } = await killed.invoked('Work');
    invocation.kill();
    await expect(crashed.result).resolves.toMatchObject({ status: 'FAILED', error: 'Runtime.ExitError' });
    await expect(killed.result).resolves.toMatchObject({ status: 'FAILED', error: 'Runtime.ExitError' });
    await expect(slow.result).resolves.toMatchObject({ status: 'FAILED', error: 'Sandbox.Timedout' });
  });

  it('holds a task to its TimeoutSeconds, while the function goes on', async () => {
    const execution = start({ work: { answer: 1 }, limited: { waitMs: 3000, answer: 'late' } });
    await expect(execution.result).resolves.toMatchObject({ status: 'FAILED', error: 'States.Timeout' });
    await expect(execution.tasks.at(-1)?.invocation.done).resolves.toMatchObject({ ok: true, result: 'late' });
  });

  it('fails for data of more than 256 KiB, which States.ALL does not catch', async () => {
    const execution = start({ work: { large: 262_144 } });
    await expect(execution.result).resolves.toMatchObject({ status: 'FAILED', error: 'States.DataLimitExceeded' });
    expect(namesOf(execution)).toEqual(['Context', 'Work']);
    expect(execution.visits.at(-1)?.errors).toHaveLength(1);
  });

  it('fails for a path that is not there, which States.ALL does not catch', async () => {
    const execution = start({});
    await expect(execution.result).resolves.toMatchObject({ status: 'FAILED', error: 'States.Runtime' });
    expect(namesOf(execution)).toEqual(['Context', 'Work']);
  });

  it("fails where the machine's role may not invoke the function", async () => {
    const execution = aws.startExecution('PowerlessMachine', { work: { answer: 1 } });
    await expect(execution.result).resolves.toMatchObject({
      status: 'FAILED',
      error: 'Lambda.AWSLambdaException',
      cause: expect.stringContaining('lambda:InvokeFunction') as string,
    });
    expect(execution.tasks).toEqual([]);
  });
});

describe('stopping an execution', () => {
  it('ends it ABORTED, tells the rules, and runs nothing more, while the function in flight goes on', async () => {
    const execution = start({ work: { waitMs: 1000, answer: 'by itself' } });
    const { invocation } = await execution.invoked('Work');
    await aws.stopExecution(execution.executionArn);
    await expect(execution.result).resolves.toEqual({ status: 'ABORTED' });
    await expect(invocation.done).resolves.toMatchObject({ ok: true, result: 'by itself' });
    expect(namesOf(execution)).toEqual(['Context', 'Work']);
    const deliveries = aws.events.statusDeliveries.filter(({ event }) => event.resources[0] === execution.executionArn);
    expect(deliveries.map(({ event, delivered }) => [event.detail.status, delivered])).toEqual([['ABORTED', true]]);
    const [delivery] = deliveries;
    if (delivery?.delivered !== true) throw new Error('the event was not delivered');
    await expect(delivery.invocation.done).resolves.toMatchObject({
      result: { event: { source: 'aws.states', detail: { status: 'ABORTED', executionArn: execution.executionArn } } },
    });
  });

  it('stops it in the state in which it is, also before its function was started', async () => {
    const execution = start({ work: { answer: 1 } });
    await aws.stopExecution(execution.executionArn);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(execution.status).toBe('ABORTED');
    expect(namesOf(execution)).toEqual(['Context']);
    expect(execution.tasks).toEqual([]);
  });

  it('starts no retry of a function that fails after', async () => {
    const execution = start({ work: { waitMs: 500, failTimes: 99 } });
    const { invocation } = await execution.invoked('Work');
    const stopDate = await aws.stateMachines.stopExecution(execution.executionArn, { error: 'Operator', cause: 'why' });
    await expect(invocation.done).resolves.toMatchObject({ ok: false, error: { errorType: 'NodeGoneError' } });
    // Its retry would come 20 ms later.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(execution.tasks.filter(({ state }) => state === 'Work')).toHaveLength(1);
    expect(execution.ended).toEqual({ status: 'ABORTED', error: 'Operator', cause: 'why' });
    // A second stop changes nothing.
    await expect(aws.stateMachines.stopExecution(execution.executionArn)).resolves.toEqual(stopDate);
  });
});

describe('the API of Step Functions', () => {
  it('starts, lists newest first in pages, and stops', async () => {
    const input = JSON.stringify({ work: { waitMs: 60_000 } });
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      const { executionArn = '' } = await client().send(
        new StartExecutionCommand({ stateMachineArn: machineArn, name, input }),
      );
      ids.push(executionArn);
    }
    // The same name and input is the same execution while it runs.
    await expect(
      client().send(new StartExecutionCommand({ stateMachineArn: machineArn, name: 'a', input })),
    ).resolves.toMatchObject({ executionArn: ids[0] });
    const running = { stateMachineArn: machineArn, statusFilter: 'RUNNING', maxResults: 2 } as const;
    const first = await client().send(new ListExecutionsCommand(running));
    expect(first.executions?.map(({ name }) => name)).toEqual(['c', 'b']);
    const second = await client().send(new ListExecutionsCommand({ ...running, nextToken: first.nextToken }));
    expect(second.executions?.map(({ name, status }) => [name, status])).toEqual([['a', 'RUNNING']]);
    expect(second.nextToken).toBeUndefined();
    for (const executionArn of ids) {
      const { stopDate } = await client().send(new StopExecutionCommand({ executionArn, error: 'E', cause: 'C' }));
      expect(stopDate).toEqual(aws.stateMachines.execution(executionArn).stopDate);
    }
    await expect(client().send(new ListExecutionsCommand(running))).resolves.toMatchObject({ executions: [] });
    await expect(client().send(new DescribeExecutionCommand({ executionArn: ids[0] }))).resolves.toMatchObject({
      status: 'ABORTED',
      error: 'E',
      cause: 'C',
    });
    for (const execution of ids.map((id) => aws.stateMachines.execution(id)))
      for (const { invocation } of execution.tasks) invocation.kill();
  });

  it.each([
    [
      'a machine that is not there',
      () => new StartExecutionCommand({ stateMachineArn: `${machineArn}x` }),
      'StateMachineDoesNotExist',
    ],
    ['a name instead of an ARN', () => new StartExecutionCommand({ stateMachineArn: 'Machine' }), 'InvalidArn'],
    [
      'input that is not JSON',
      () => new StartExecutionCommand({ stateMachineArn: machineArn, input: '{' }),
      'InvalidExecutionInput',
    ],
    [
      'input of more than 256 KiB',
      () => new StartExecutionCommand({ stateMachineArn: machineArn, input: JSON.stringify('x'.repeat(262_143)) }),
      'ValidationException',
    ],
    [
      'a name that was taken',
      () => new StartExecutionCommand({ stateMachineArn: machineArn, name: 'first' }),
      'ExecutionAlreadyExists',
    ],
    [
      'a field that it does not know',
      () => new StartExecutionCommand({ stateMachineArn: machineArn, traceHeader: 'x' }),
      'ValidationException',
    ],
    [
      'an execution that is not there',
      () => new DescribeExecutionCommand({ executionArn: 'arn:aws:states:x' }),
      'ExecutionDoesNotExist',
    ],
    [
      'a token that it did not give',
      () => new ListExecutionsCommand({ stateMachineArn: machineArn, nextToken: 'x' }),
      'InvalidToken',
    ],
    [
      'an operation that it does not know',
      () => new DescribeStateMachineCommand({ stateMachineArn: machineArn }),
      'UnknownOperationException',
    ],
  ])('fails for %s', async (_, command, name) => {
    await expect(client().send(command() as StartExecutionCommand)).rejects.toMatchObject({ name });
  });

  it('says before what an execution ended that a test waits for', async () => {
    const execution = start({});
    await expect(execution.invoked('Limited')).rejects.toThrow(
      /ended FAILED States.Runtime before invoking the function of Limited/,
    );
    await expect(execution.entered('Limited')).rejects.toThrow('before entering Limited');
    await expect(execution.entered('Work')).resolves.toMatchObject({ name: 'Work' });
  });

  it('holds whoever has a managed policy to exactly that, and a function to its role', async () => {
    const starter = client(aws.policyCredentials('Starter'));
    const { executionArn = '' } = await starter.send(
      new StartExecutionCommand({ stateMachineArn: machineArn, input: '{"work":{"answer":1}}' }),
    );
    await aws.stateMachines.execution(executionArn).result;
    await expect(starter.send(new DescribeExecutionCommand({ executionArn }))).resolves.toMatchObject({
      status: 'SUCCEEDED',
    });
    const denied = { name: 'AccessDeniedException' };
    await expect(starter.send(new StopExecutionCommand({ executionArn }))).rejects.toMatchObject(denied);
    const other = aws.resources.get('PowerlessMachine');
    await expect(starter.send(new StartExecutionCommand({ stateMachineArn: other }))).rejects.toMatchObject(denied);
    const own = client(aws.functionCredentials('Function'));
    await expect(own.send(new ListExecutionsCommand({ stateMachineArn: machineArn }))).rejects.toMatchObject(denied);
    expect(() => aws.policyCredentials('Nobody')).toThrow('got Nobody, expected one of Starter');
  });

  it('is what a function finds in its environment', async () => {
    await expect(aws.invoke('Function', {}).done).resolves.toMatchObject({
      result: { env: { AWS_ENDPOINT_URL_SFN: aws.endpoints.sfn } },
    });
  });
});

describe('a definition', () => {
  const resource = `arn:aws:lambda:${REGION}:000000000000:function:f`;
  const task = { Type: 'Task', Resource: resource, TimeoutSeconds: 60, End: true };
  const choice = (rule: object): object => ({
    A: { Type: 'Choice', Choices: [{ ...rule, Next: 'B' }], Default: 'B' },
    B: task,
  });

  const read = (States: object, more: object = {}): unknown =>
    readDefinition(JSON.stringify({ StartAt: Object.keys(States)[0], States, ...more }));

  it('is read with the functions of its tasks', () => {
    expect(read({ A: { ...task, Comment: 'x' } })).toMatchObject({ tasks: new Map([['A', resource]]) });
  });

  it.each([
    [
      'JSONata',
      { A: { ...task, QueryLanguage: 'JSONata' } },
      {},
      'States.A.QueryLanguage: got JSONata, expected JSONPath',
    ],
    ['JSONata as a whole', { A: task }, { QueryLanguage: 'JSONata' }, 'definition.QueryLanguage'],
    ['a Map state', { A: { Type: 'Map', End: true } }, {}, 'States.A.Type: got Map, expected one of Task'],
    [
      'a task without a time limit',
      { A: { ...task, TimeoutSeconds: undefined } },
      {},
      'States.A.TimeoutSeconds: missing',
    ],
    ['a heartbeat', { A: { ...task, HeartbeatSeconds: 1 } }, {}, 'States.A.HeartbeatSeconds: the lab knows only'],
    ['variables', { A: { ...task, Assign: { x: 1 } } }, {}, 'States.A.Assign: the lab knows only'],
    [
      'a service integration',
      { A: { ...task, Resource: 'arn:aws:states:::lambda:invoke' } },
      {},
      'States.A.Resource: got arn:aws:states:::lambda:invoke, expected the ARN of a function',
    ],
    [
      'a path of the context object that it does not fill in',
      { A: { ...task, Parameters: { a: [{ 'b.$': '$$.State.EnteredTime' }] } } },
      {},
      'States.A.Parameters.a[0].b.$: got $$.State.EnteredTime, expected one of $$.Execution.Id',
    ],
    [
      'an intrinsic function',
      { A: { ...task, Parameters: { 'b.$': "States.Format('{}', $.a)" } } },
      {},
      'expected no intrinsic function',
    ],
    ['ResultPath $', { A: { ...task, ResultPath: '$' } }, {}, 'States.A.ResultPath: got $, expected none'],
    [
      'ResultPath $ in a Catch',
      { A: { ...task, Catch: [{ ErrorEquals: ['States.ALL'], ResultPath: '$', Next: 'B' }] }, B: task },
      {},
      'States.A.Catch[0].ResultPath: got $',
    ],
    [
      'a Pass state with a false result',
      { A: { Type: 'Pass', Result: false, End: true } },
      {},
      'States.A.Result: got false',
    ],
    [
      'the opposite of IsPresent',
      choice({ Variable: '$.a', IsPresent: false }),
      {},
      'States.A.Choices[0].IsPresent: got false, expected {"Not"',
    ],
    [
      'the opposite of IsNull inside',
      choice({ And: [{ Variable: '$.a', IsNull: false }] }),
      {},
      'States.A.Choices[0].And[0].IsNull: got false',
    ],
    ['a wait until a time', { A: { Type: 'Wait', TimestampPath: '$.a', End: true } }, {}, 'States.A.TimestampPath'],
    ['a state that cannot be reached', { A: task, B: task }, {}, 'State machine definition is invalid'],
  ])('is refused with %s', (_, states, more, message) => {
    expect(() => read(states, more)).toThrow(message);
  });

  it('is refused with all of its problems at once', () => {
    expect(() => read({ A: { ...task, TimeoutSeconds: undefined, ResultPath: '$' } })).toThrow(
      /A\.ResultPath.*; .*A\.TimeoutSeconds/,
    );
  });
});
