import { PHASES } from '../../lambda/restore/run';
import { exampleTemplate } from './example-stack';
import { type Definition, definitionOf, nextOf, reachableFrom, type State } from './restore-definition';
import { policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();
const restore = definitionOf(template, 'RestoreMachine');
const plan = definitionOf(template, 'PlanMachine');
const machines: [string, Definition][] = [
  ['restore', restore],
  ['plan', plan],
];

// From the first command that changes anything to the last one.
const STOPPED = [
  'StopControlPlane',
  'SwapData',
  'StartEtcd',
  'CheckEtcd',
  'StartApiServer',
  'StartControllers',
  'CheckCluster',
  'RecordRestore',
  'TakeBackup',
];
// Nodes may be stopped while these wait.
const WAY_BACK = ['RollBack', 'CheckRolledBack', 'CleanUp'];
const HALF_AN_HOUR = { MaxAttempts: 30, MaxDelaySeconds: 60, BackoffRate: 2, IntervalSeconds: 2 };
// Where one function does not answer, no other can say it: these have words of their own.
const FIXED = {
  RollbackUnknown: ['RollbackFailed', /Start an execution with \{"rollback": "<restore id>"\}/],
  RestoredWithoutBackup: ['RestoredWithoutBackup', /^The restore is done .*nothing has to be undone/],
} as const;
const BEFORE = ['ChooseSnapshot', 'Inspect', 'KeepSurvivor', 'Preflight', 'KeepCurrentState'];

function statesOf(definition: Definition, ...types: State['Type'][]): [string, State][] {
  return Object.entries(definition.States).filter(([, { Type }]) => types.includes(Type));
}

function endsOf(definition: Definition, starts: readonly string[], but: readonly string[] = []): string[] {
  return [...reachableFrom(definition, starts, but)].filter((name) =>
    ['Succeed', 'Fail'].includes(definition.States[name]?.Type ?? ''),
  );
}

/** What comes next when nothing fails: past each choice, the way of `ok`. */
function happyPath(definition: Definition, start: string): string[] {
  const path = [];
  for (let name: string | undefined = start; name !== undefined;) {
    const state: State | undefined = definition.States[name];
    if (state?.Type !== 'Choice') {
      path.push(name);
    }
    name =
      state?.Type === 'Choice' ? state.Choices?.find(({ Variable }) => Variable === '$.step.ok')?.Next : state?.Next;
  }
  return path;
}

describe.each(machines)('the %s machine', (_name, definition) => {
  const tasks = statesOf(definition, 'Task');

  test.each(tasks)('gives %s less time than its function has', (_state, { TimeoutSeconds }) => {
    expect(TimeoutSeconds).toBe(890);
  });

  test.each(tasks)('retries %s when Lambda did not run it', (name, { Retry }) => {
    expect(Retry?.[0]).toMatchObject({
      ErrorEquals: [
        'Lambda.ServiceException',
        'Lambda.AWSLambdaException',
        'Lambda.SdkClientException',
        'Lambda.TooManyRequestsException',
      ],
      ...(WAY_BACK.includes(name) ? HALF_AN_HOUR : { MaxAttempts: 6 }),
    });
  });

  test('retries every other task that was cut off, because it attaches, but not the choice of a snapshot', () => {
    for (const [name, { Retry }] of tasks) {
      const cutOff = Retry?.find(({ ErrorEquals }) => ErrorEquals.includes('States.Timeout'));
      expect([name, cutOff]).toEqual([
        name,
        name === 'ChooseSnapshot'
          ? undefined
          : expect.objectContaining({
              ErrorEquals: [
                'States.Timeout',
                'Sandbox.Timedout',
                'Runtime.ExitError',
                'Runtime.OutOfMemory',
                'Lambda.Unknown',
              ],
              ...(WAY_BACK.includes(name) ? HALF_AN_HOUR : { MaxAttempts: 2 }),
            }),
      ]);
    }
  });

  test('retries no error of ours: what it refuses once it refuses again', () => {
    const retried = tasks.flatMap(([, { Retry }]) => Retry ?? []).flatMap(({ ErrorEquals }) => ErrorEquals);
    expect(retried.filter((error) => !/^(Lambda|States|Sandbox|Runtime)\./.test(error))).toEqual([]);
    expect(retried).not.toContain('States.ALL');
    expect(retried).not.toContain('States.TaskFailed');
  });

  test.each(tasks)('catches every error of %s and keeps it beside the state', (_state, { Catch }) => {
    expect(Catch?.map(({ ErrorEquals, ResultPath }) => [ErrorEquals, ResultPath])).toEqual([
      [['States.DataLimitExceeded'], '$.error'],
      [['States.ALL'], '$.error'],
    ]);
  });

  test.each(tasks)(
    'ends in Fail, or asks what was done, whatever happens after an error of %s',
    (_state, { Catch }) => {
      const after = (Catch ?? []).map(({ Next }) => Next);
      const ends = endsOf(definition, after);
      expect(ends.filter((end) => definition.States[end]?.Type === 'Fail')).not.toEqual([]);
      // An undo that was asked for and succeeds after all has the only good ends behind a catch.
      const undone = ['RolledBack', 'FinishedForward'];
      expect(ends.filter((end) => definition.States[end]?.Type === 'Succeed' && !undone.includes(end))).toEqual([]);
    },
  );

  test('has a default in every choice', () => {
    for (const [name, { Default }] of statesOf(definition, 'Choice')) {
      expect([name, Default]).toEqual([name, expect.any(String)]);
    }
  });

  test('has no Map and no Parallel, in which one failure aborts the others half way, and no time limit as a whole', () => {
    expect(statesOf(definition, 'Map', 'Parallel')).toEqual([]);
    expect(definition).not.toHaveProperty('TimeoutSeconds');
  });

  test('says at every state what it does', () => {
    for (const [name, { Comment }] of Object.entries(definition.States)) {
      expect([name, Comment]).toEqual([name, expect.stringMatching(/^[A-Z].{20,}/)]);
    }
    expect(definition.Comment).toContain('{}');
  });

  test('reaches every state, and from every state an end', () => {
    expect([...reachableFrom(definition, [definition.StartAt])].sort()).toEqual(Object.keys(definition.States).sort());
    for (const name of Object.keys(definition.States)) {
      expect([name, endsOf(definition, [name])]).not.toEqual([name, []]);
    }
  });

  test('goes only to states that are there', () => {
    const targets = Object.keys(definition.States).flatMap((name) => nextOf(definition, name));
    expect(targets.filter((target) => !(target in definition.States))).toEqual([]);
  });

  test('shows in every Fail what failed', () => {
    for (const [name, { Error, Cause, ErrorPath, CausePath }] of statesOf(definition, 'Fail')) {
      if (name in FIXED) {
        const [error, cause] = FIXED[name as keyof typeof FIXED];
        expect([name, Error, Cause]).toEqual([name, error, expect.stringMatching(cause)]);
      } else {
        expect([name, ErrorPath, CausePath]).toEqual([name, '$.failure.error', '$.failure.cause']);
      }
    }
  });

  test('shows in every Succeed the plan, which is what the console can show', () => {
    for (const [name, { OutputPath }] of statesOf(definition, 'Succeed')) {
      expect([name, OutputPath]).toEqual([name, '$.plan']);
    }
  });

  test('gives ChooseSnapshot the input as it came, and the execution', () => {
    expect(definition.States['ChooseSnapshot']?.Parameters).toEqual({
      phase: 'ChooseSnapshot',
      machine: _name,
      'input.$': '$$.Execution.Input',
      execution: {
        'id.$': '$$.Execution.Id',
        'startTime.$': '$$.Execution.StartTime',
      },
    });
  });
});

describe('the restore machine', () => {
  // TakeBackup comes when the restore is done and recorded. To undo it, or to say that its rollback failed, because no backup was taken
  // after it would be wrong: its catch is the one that does not pass RollBack, and has a test of its own.
  const without = (definition: Definition, from: readonly string[]) => {
    const ends = endsOf(definition, from, ['RollBack', 'TakeBackup']);
    return ends.filter((end) => definition.States[end]?.Type === 'Fail');
  };

  test('goes through its states in the order of the runbook when nothing fails', () => {
    expect(happyPath(restore, 'ChooseSnapshot')).toEqual(['ChooseSnapshot', 'Inspect']);
    expect(happyPath(restore, 'KeepSurvivor')).toEqual([
      'KeepSurvivor',
      'Preflight',
      'KeepCurrentState',
      ...STOPPED,
      'Restored',
    ]);
    expect(happyPath(restore, 'RollBack')).toEqual(['RollBack', 'CheckRolledBack', 'CleanUp']);
  });

  const UNDOABLE = STOPPED.filter((name) => name !== 'TakeBackup');

  test.each(UNDOABLE)('ends no failure from %s on without RollBack', (name) => {
    expect(without(restore, [name])).toEqual([]);
    expect(nextOf(restore, name)).toContain('RollBack');
    expect(nextOf(restore, `${name}Done?`)).toContain('RollBack');
  });

  test('neither undoes a restore that is done nor calls it failed when only the backup after it is missing', () => {
    expect(endsOf(restore, ['TakeBackup']).sort()).toEqual(['Restored', 'RestoredWithoutBackup']);
    const into = Object.keys(restore.States).filter((name) => nextOf(restore, name).includes('RestoredWithoutBackup'));
    expect(into.sort()).toEqual(['TakeBackup', 'TakeBackupDone?']);
  });

  test('would show a way around RollBack, if there was one', () => {
    const broken = structuredClone(restore) as unknown as { States: Record<string, { Catch?: { Next: string }[] }> };
    const [caught] = broken.States['SwapData']?.Catch ?? [];
    Object.assign(caught ?? {}, { Next: 'RestoreFailed' });
    expect(without(broken as unknown as Definition, ['StopControlPlane'])).toEqual(['RestoreFailed']);
  });

  test('stops nothing before all is proven', () => {
    expect([...reachableFrom(restore, ['ChooseSnapshot'], ['KeepCurrentState', 'RollBack'])]).not.toContain(
      'StopControlPlane',
    );
    expect([...reachableFrom(restore, ['ChooseSnapshot'], ['Preflight'])]).not.toContain('StopControlPlane');
  });

  test.each(BEFORE)('does not roll back what %s has not changed', (name) => {
    const reached = reachableFrom(restore, [name], ['StopControlPlane', 'PlanOnly?']);
    expect([...reached]).not.toContain('RollBack');
  });

  test.each(['KeepSurvivor', 'Preflight', 'KeepCurrentState'])('cleans up when %s fails', (name) => {
    expect([...new Set(restore.States[name]?.Catch?.map(({ Next }) => Next))]).toEqual(['CleanUp']);
    expect(restore.States[`${name}Done?`]?.Default).toBe('CleanUp');
  });

  test('gathers evidence before every failure but that of looking', () => {
    for (const name of [...UNDOABLE, 'KeepSurvivor', 'Preflight', 'KeepCurrentState', 'RollBack', 'CheckRolledBack']) {
      const ends = without(restoreWithout('GatherEvidence', 'GatherRollbackEvidence'), [name]);
      expect([name, ends]).toEqual([name, []]);
    }
  });

  function restoreWithout(...names: string[]): Definition {
    const { States, ...rest } = structuredClone(restore);
    return { ...rest, States: Object.fromEntries(Object.entries(States).filter(([name]) => !names.includes(name))) };
  }

  test('tells a rollback that failed from a restore that failed', () => {
    expect(endsOf(restore, ['GatherRollbackEvidence']).sort()).toEqual(['RollbackFailed', 'RollbackUnknown']);
    expect(endsOf(restore, ['GatherEvidence'])).toEqual(['RestoreFailed']);
    expect(nextOf(restore, 'RollBackDone?')).toEqual(['RollBack', 'CheckRolledBack', 'GatherRollbackEvidence']);
    expect(nextOf(restore, 'CheckRolledBackDone?')).toEqual(['CheckRolledBack', 'CleanUp', 'GatherRollbackEvidence']);
  });

  test('waits in one state until it is done, and goes on only when all nodes agree', () => {
    const waits = statesOf(restore, 'Choice').filter(([name]) => name.endsWith('Done?'));
    expect(waits.map(([name]) => name.replace('Done?', '')).sort()).toEqual([...PHASES].sort());
    for (const [name, { Choices }] of waits) {
      expect(Choices).toEqual([
        { Variable: '$.step.done', BooleanEquals: false, Next: name.replace('Done?', '') },
        { Variable: '$.step.ok', BooleanEquals: true, Next: expect.any(String) as string },
      ]);
    }
  });

  test('calls the restore function with the name of the state, as it knows them, and all that is known', () => {
    const called = statesOf(restore, 'Task').filter(([, { Resource }]) => Resource?.includes('RestoreService'));
    expect(called.map(([name]) => name).sort()).toEqual([...PHASES].sort());
    for (const [name, { Parameters }] of called) {
      expect(Parameters).toEqual({ phase: name, 'state.$': '$' });
    }
  });

  test('looks with the plan function, which cannot change anything', () => {
    const called = statesOf(restore, 'Task').filter(([, { Resource }]) => Resource?.includes('PlanService'));
    expect(called.map(([name]) => name)).toEqual(['ChooseSnapshot', 'Inspect']);
    expect(restore.States['Inspect']?.Parameters).toEqual({ phase: 'Inspect', 'state.$': '$' });
  });

  test('does what was asked: a plan, an undo, a survivor’s data, or a backup’s', () => {
    expect(restore.States['PlanOnly?']).toMatchObject({
      Choices: [
        { Variable: '$.mode', StringEquals: 'plan', Next: 'PlanOnly' },
        { Variable: '$.mode', StringEquals: 'rollback', Next: 'RollBack' },
        { Variable: '$.request.from', StringEquals: 'survivor', Next: 'KeepSurvivor' },
      ],
      Default: 'Preflight',
    });
  });

  test('names a failure that no function could name', () => {
    expect(restore.States['FailureKnown?']).toMatchObject({
      Choices: [{ Variable: '$.failure.error', IsPresent: true, Next: 'RestoreFailed' }],
      Default: 'NameFailure',
    });
    expect(restore.States['NameFailure']).toMatchObject({
      Parameters: { 'error.$': '$.error.Error', 'cause.$': '$.error.Cause' },
      ResultPath: '$.failure',
      Next: 'RestoreFailed',
    });
  });

  test('shows after a way back of which nobody could tell no failure that reads as if all had been put back', () => {
    expect(restore.States['RollbackFailureKnown?']).toMatchObject({
      Choices: [
        {
          And: [
            { Variable: '$.failure.error', IsPresent: true },
            { Variable: '$.failure.error', StringEquals: 'RollbackFailed' },
          ],
          Next: 'RollbackFailed',
        },
      ],
      Default: 'RollbackUnknown',
    });
  });

  test('says of an undo that was asked for whether the old data is back', () => {
    expect(restore.States['RollbackAsked?']).toMatchObject({
      Choices: [
        {
          And: [
            { Variable: '$.mode', StringEquals: 'rollback' },
            { Variable: '$.served', BooleanEquals: true },
          ],
          Next: 'FinishedForward',
        },
        { Variable: '$.mode', StringEquals: 'rollback', Next: 'RolledBack' },
      ],
      Default: 'GatherEvidence',
    });
  });
});

describe('the plan machine', () => {
  test('looks, and ends', () => {
    expect(happyPath(plan, 'ChooseSnapshot')).toEqual(['ChooseSnapshot', 'Inspect', 'PlanOnly']);
    expect(statesOf(plan, 'Task').map(([name]) => name)).toEqual(['ChooseSnapshot', 'Inspect']);
    expect(endsOf(plan, ['ChooseSnapshot']).sort()).toEqual(['PlanFailed', 'PlanOnly']);
  });
});

describe.each([
  ['RestoreMachine', ['PlanService', 'RestoreService'], ['BackupService', 'VerifyService']],
  ['PlanMachine', ['PlanService'], ['RestoreService', 'BackupService', 'VerifyService']],
])('the role of %s', (machine, allowed, denied) => {
  const functionArn = (part: string) =>
    `arn:aws:lambda:eu-central-1:111122223333:function:${Object.keys(template.Resources).find((id) => id.startsWith(part) && template.Resources[id]?.Type === 'AWS::Lambda::Function') ?? ''}`;
  const may = (action: string, resource: string) =>
    simulate({
      principal: roleArn(template, `${machine}Role`),
      action,
      resource,
      identityPolicies: policiesOf(template, `${machine}Role`),
    });

  test.each(allowed)('may start %s', async (part) => {
    await expect(may('lambda:InvokeFunction', functionArn(part))).resolves.toBe('Allowed');
  });

  test.each(denied)('may not start %s', async (part) => {
    await expect(may('lambda:InvokeFunction', functionArn(part))).resolves.not.toBe('Allowed');
  });

  test('may nothing else but have its log delivered', () => {
    const actions = policiesOf(template, `${machine}Role`).flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect(actions.filter((action) => !action.startsWith('logs:'))).toEqual(['lambda:InvokeFunction']);
  });
});
