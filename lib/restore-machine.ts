import { Aws, Duration, Fn, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import {
  Chain,
  Choice,
  Condition,
  DefinitionBody,
  Fail,
  type IChainable,
  type INextable,
  JsonPath,
  LogLevel,
  Pass,
  type State,
  StateMachine,
  StateMachineType,
  Succeed,
  TaskInput,
  Timeout,
} from 'aws-cdk-lib/aws-stepfunctions';
import { LambdaInvoke } from 'aws-cdk-lib/aws-stepfunctions-tasks';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import type { ServiceFunction } from './service-function';
import { acknowledgeWildcard } from './wildcard';

// Under the 15 minutes of the functions: what takes longer is waited for by the next run.
const TASK_TIMEOUT = Duration.seconds(890);

// What Lambda itself says when it could not run the function, or does not know whether it did.
const NOT_RUN = [
  'Lambda.ServiceException',
  'Lambda.AWSLambdaException',
  'Lambda.SdkClientException',
  'Lambda.TooManyRequestsException',
];
const CUT_OFF = ['States.Timeout', 'Sandbox.Timedout', 'Runtime.ExitError', 'Runtime.OutOfMemory', 'Lambda.Unknown'];

export interface MachineProps {
  readonly cluster: Cluster;
  /** The function of ChooseSnapshot and Inspect. */
  readonly plan: ServiceFunction;
}

export interface RestoreMachineProps extends MachineProps {
  /** The function of all other states. */
  readonly restore: ServiceFunction;
}

/** Shows what a restore would do, and can do nothing else. */
export class PlanMachine extends Construct {
  readonly stateMachine: StateMachine;

  constructor(scope: Construct, id: string, { cluster, plan }: MachineProps) {
    super(scope, id);

    const planFailed = new Fail(this, 'PlanFailed', {
      comment:
        'No plan could be made; the cause says what was got, what was expected and what to do. Nothing was touched.',
      errorPath: '$.failure.error',
      causePath: '$.failure.cause',
    });
    const planMade = new Succeed(this, 'PlanOnly', {
      comment: 'The output is the plan. Nothing was written on any node and no URL was made.',
      outputPath: '$.plan',
    });

    const nameFailure = nameTheFailure(this, 'NameFailure', planFailed);
    const chooseSnapshot = chooseSnapshotTask(this, plan, 'plan', nameFailure);
    const inspect = inspectTask(this, plan, nameFailure);

    this.stateMachine = stateMachine(this, {
      comment: `What a restore of etcd of ${cluster.name} would do. Start with {}: reads only`,
      functions: [plan],
      definition: chooseSnapshot.next(inspect).next(planMade),
    });
  }
}

/** Restores a whole control plane, and puts everything back when anything fails. */
export class RestoreMachine extends Construct {
  readonly stateMachine: StateMachine;

  constructor(scope: Construct, id: string, { cluster, plan, restore }: RestoreMachineProps) {
    super(scope, id);
    /** A state whose function runs until every node is done, and then goes on, or elsewhere. */
    const phase = (state: string, comment: string, onFailure: IChainable, onError = onFailure): Phase =>
      new Phase(this, phaseTask(this, restore, { state, comment, onError }), onFailure);
    /** A phase of the way back: nodes may be stopped, so it does not give up while Lambda is disturbed for half an hour. */
    const phaseBack = (state: string, comment: string, onFailure: IChainable): Phase =>
      new Phase(this, phaseTask(this, restore, { state, comment, onError: onFailure, patient: true }), onFailure);

    // How it can end.
    const planOnly = new Succeed(this, 'PlanOnly', {
      comment:
        'No "confirm": the output is the plan, and how to confirm it. Nothing was written on any node and no URL was made.',
      outputPath: '$.plan',
    });
    const restored = new Succeed(this, 'Restored', {
      comment:
        'The control plane runs on the restored data; the output says what is left to do. Old data is kept on the nodes.',
      outputPath: '$.plan',
    });
    const rolledBack = new Succeed(this, 'RolledBack', {
      comment: 'The unfinished restore that was named is undone: the data from before it is back.',
      outputPath: '$.plan',
    });
    const restoreFailed = new Fail(this, 'RestoreFailed', {
      comment:
        'Nothing is changed, or all of it was put back. The cause says why; docs/restore.md what to do about it.',
      errorPath: '$.failure.error',
      causePath: '$.failure.cause',
    });
    const rollbackFailed = new Fail(this, 'RollbackFailed', {
      comment:
        'Not everything could be put back. The cause says on which node what is left to do. Old data is kept on the nodes.',
      errorPath: '$.failure.error',
      causePath: '$.failure.cause',
    });

    const finishedForward = new Succeed(this, 'FinishedForward', {
      comment:
        'Clients had seen the data of the unfinished restore that was named, so it stays: everything was started on it.',
      outputPath: '$.plan',
    });
    const rollbackUnknown = new Fail(this, 'RollbackUnknown', {
      comment: 'Nobody could ask or tell what the way back came to. Old data is kept on the nodes.',
      error: 'RollbackFailed',
      cause:
        'The restore function did not answer, so the nodes are as they were at that moment. Start an execution with {"rollback": "<restore id>"}; the id is in the output of Inspect.',
    });
    const restoredWithoutBackup = new Fail(this, 'RestoredWithoutBackup', {
      comment:
        'The restore is done, and stays: the control plane runs on the restored data. Only the backup after it was not taken.',
      error: 'RestoredWithoutBackup',
      cause:
        'The restore is done and the control plane runs on the restored data: nothing has to be undone. Only whether a backup was taken after it is not known, because the restore function did not answer. The next trigger of the schedule takes one; what was restored is in the output of RecordRestore.',
    });

    // What comes before those ends: evidence for whoever is asked for help.
    const failWithout = failureKnown(this, restoreFailed);
    const whatEvidence =
      'Versions, members, endpoint status and logs of each node, without secrets, into the record of the restore';
    const gatherEvidence = phase('GatherEvidence', whatEvidence, restoreFailed, failWithout).next(restoreFailed);
    const gatherRollbackEvidence = phase(
      'GatherRollbackEvidence',
      whatEvidence,
      rollbackFailed,
      new Choice(this, 'RollbackFailureKnown?', {
        comment: 'The function did not answer; if it had said before what is left to do, that is what the end shows',
      })
        .when(
          Condition.and(
            Condition.isPresent('$.failure.error'),
            Condition.stringEquals('$.failure.error', 'RollbackFailed'),
          ),
          rollbackFailed,
        )
        .otherwise(rollbackUnknown),
    ).next(rollbackFailed);

    // The way back.
    const cleanUp = phaseBack(
      'CleanUp',
      'Removes what was staged on the nodes, the key and the journal; data is not touched',
      gatherEvidence,
    );
    const rollBack = phaseBack(
      'RollBack',
      'Puts the old data, manifests and kubelets back on all nodes, or all into service when clients have seen the restored data',
      gatherRollbackEvidence,
    );
    const checkRolledBack = phaseBack(
      'CheckRolledBack',
      'Waits until what was healthy before the restore is healthy again',
      gatherRollbackEvidence,
    );
    rollBack
      .next(checkRolledBack)
      .next(cleanUp)
      .next(
        new Choice(this, 'RollbackAsked?', { comment: 'Whether the undo was what this execution was started for' })
          .when(
            Condition.and(Condition.stringEquals('$.mode', 'rollback'), Condition.booleanEquals('$.served', true)),
            finishedForward,
          )
          .when(Condition.stringEquals('$.mode', 'rollback'), rolledBack)
          .otherwise(gatherEvidence),
      );

    // Proof, before anything is stopped.
    const chooseSnapshot = chooseSnapshotTask(this, plan, 'restore', failWithout);
    const inspect = inspectTask(this, plan, failWithout);
    const keepSurvivor = phase(
      'KeepSurvivor',
      'Takes a snapshot of the surviving member with the highest revision, and waits until it is proven',
      cleanUp,
    );
    const preflight = phase(
      'Preflight',
      'Each node downloads and checks the snapshot and restores it aside, while everything runs; all must get the same hash',
      cleanUp,
    );
    const keepCurrentState = phase(
      'KeepCurrentState',
      'Backs up what is about to be replaced, if a member still serves; that this fails does not stop the restore',
      cleanUp,
    );

    // From here on any failure goes through RollBack.
    const stopControlPlane = phase(
      'StopControlPlane',
      'On all nodes at once: takes the manifests away, stops kubelet, API server, controllers and etcd. The downtime begins',
      rollBack,
    );
    const swapData = phase(
      'SwapData',
      'Renames the old data to member.before-<restore id> and the restored data into its place',
      rollBack,
    );
    const startEtcd = phase('StartEtcd', 'Puts etcd’s manifest back and starts the kubelet', rollBack);
    const checkEtcd = phase(
      'CheckEtcd',
      'Holds before any client sees it: one new cluster, the expected members and revision, equal hashes, no alarms, a write works',
      rollBack,
    );
    const startApiServer = phase(
      'StartApiServer',
      'Starts the API servers and waits until they are ready: the downtime ends, and renaming back is no undo any more',
      rollBack,
    );
    const startControllers = phase(
      'StartControllers',
      'Starts kube-controller-manager and kube-scheduler, unless "hold" is "controllers"',
      rollBack,
    );
    const checkCluster = phase('CheckCluster', 'Waits until the whole control plane is up on every node', rollBack);
    const recordRestore = phase(
      'RecordRestore',
      'Removes staging and journals, and writes the record with which a new timeline of backups begins',
      rollBack,
    );
    const takeBackup = phase(
      'TakeBackup',
      'Backs up the restored cluster; that this fails is a warning in the output',
      // The restore is done and recorded: nothing of it is undone, and it has not failed.
      restoredWithoutBackup,
    );

    const restoreAll = keepSurvivor
      .next(preflight)
      .next(keepCurrentState)
      .next(stopControlPlane)
      .next(swapData)
      .next(startEtcd)
      .next(checkEtcd)
      .next(startApiServer)
      .next(startControllers)
      .next(checkCluster)
      .next(recordRestore)
      .next(takeBackup)
      .next(restored);

    const whatWasAsked = new Choice(this, 'PlanOnly?', {
      comment:
        'Without "confirm" only the plan; with "rollback" only the undo; with "from": "survivor" its snapshot first',
    })
      .when(Condition.stringEquals('$.mode', 'plan'), planOnly)
      .when(Condition.stringEquals('$.mode', 'rollback'), rollBack)
      .when(Condition.stringEquals('$.request.from', 'survivor'), restoreAll)
      .otherwise(preflight);

    this.stateMachine = stateMachine(this, {
      comment: `Restores etcd of ${cluster.name}. Start with {} for the plan, with {"confirm": "${cluster.name}"} to do it`,
      functions: [plan, restore],
      definition: chooseSnapshot.next(inspect).next(whatWasAsked),
    });
  }
}

/** A task that is called again until it says `done`, and then goes on if it says `ok`. Reads like one state in a chain. */
class Phase implements IChainable {
  readonly id: string;
  readonly startState: State;
  readonly endStates: INextable[];
  private readonly choice: Choice;

  constructor(scope: Construct, task: LambdaInvoke, onFailure: IChainable) {
    this.id = task.node.id;
    this.startState = task;
    this.choice = new Choice(scope, `${this.id}Done?`, {
      comment: 'Not done: wait on. Done: go on if all nodes agree',
    });
    task.next(this.choice);
    this.choice.when(Condition.booleanEquals('$.step.done', false), task).otherwise(onFailure);
    this.endStates = [this];
  }

  next(state: IChainable): Chain {
    this.choice.when(Condition.booleanEquals('$.step.ok', true), state);
    return Chain.custom(this.startState, state.endStates, state);
  }
}

interface TaskProps {
  readonly state: string;
  readonly comment: string;
  readonly onError: IChainable;
  /** Whether it is tried for half an hour; otherwise for two minutes. */
  readonly patient?: boolean;
}

/** The function gets the name of the state, and all that is known. */
function phaseTask(scope: Construct, service: ServiceFunction, props: TaskProps): LambdaInvoke {
  const payload = { phase: props.state, state: JsonPath.entirePayload };
  return functionTask(scope, service, { ...props, payload, attaches: true });
}

function inspectTask(scope: Construct, plan: ServiceFunction, onError: IChainable): LambdaInvoke {
  return phaseTask(scope, plan, {
    state: 'Inspect',
    comment:
      'Looks at every node, read only, and judges whether the restore can work; refuses with all reasons at once',
    onError,
  });
}

function chooseSnapshotTask(
  scope: Construct,
  plan: ServiceFunction,
  machine: 'plan' | 'restore',
  onError: IChainable,
): LambdaInvoke {
  return functionTask(scope, plan, {
    state: 'ChooseSnapshot',
    comment: 'Checks the input, and finds the backup: proven, signed, and still there as it was proven',
    payload: {
      phase: 'ChooseSnapshot',
      machine,
      input: JsonPath.objectAt('$$.Execution.Input'),
      execution: {
        id: JsonPath.stringAt('$$.Execution.Id'),
        startTime: JsonPath.stringAt('$$.Execution.StartTime'),
      },
    },
    onError,
    attaches: false,
  });
}

function functionTask(
  scope: Construct,
  service: ServiceFunction,
  props: TaskProps & {
    readonly payload: Record<string, unknown>;
    /** Whether a second run goes on with what the first one began. */
    readonly attaches: boolean;
  },
): LambdaInvoke {
  const task = new LambdaInvoke(scope, props.state, {
    comment: props.comment,
    lambdaFunction: service.function,
    payloadResponseOnly: true,
    payload: TaskInput.fromObject(props.payload),
    taskTimeout: Timeout.duration(TASK_TIMEOUT),
    // Ours are below: one set for every task.
    retryOnServiceExceptions: false,
  });
  const retry = { interval: Duration.seconds(2), backoffRate: 2 };
  const patience = { ...retry, maxAttempts: 30, maxDelay: Duration.seconds(60) };
  task.addRetry({ errors: NOT_RUN, ...(props.patient === true ? patience : { ...retry, maxAttempts: 6 }) });
  if (props.attaches) {
    task.addRetry({ errors: CUT_OFF, ...(props.patient === true ? patience : { ...retry, maxAttempts: 2 }) });
  }
  // States.ALL does not hold for an output that is too large.
  for (const error of ['States.DataLimitExceeded', 'States.ALL']) {
    task.addCatch(props.onError, { errors: [error], resultPath: '$.error' });
  }
  return task;
}

/** A function that died has left only what Lambda says of it: that becomes the failure which the end shows. */
function nameTheFailure(scope: Construct, id: string, end: Fail): Chain {
  return new Pass(scope, id, {
    comment: 'There was none before: that error is the failure',
    parameters: { error: JsonPath.stringAt('$.error.Error'), cause: JsonPath.stringAt('$.error.Cause') },
    resultPath: '$.failure',
  }).next(end);
}

/** What failed first is what the end shows; without it, the error that was caught. */
function failureKnown(scope: Construct, end: Fail): Choice {
  return new Choice(scope, 'FailureKnown?', {
    comment: 'The function did not answer; a failure from before is what the end shows',
  })
    .when(Condition.isPresent('$.failure.error'), end)
    .otherwise(nameTheFailure(scope, 'NameFailure', end));
}

interface StateMachineProps {
  readonly comment: string;
  readonly functions: readonly ServiceFunction[];
  readonly definition: IChainable;
}

/** Our one kind of state machine: Standard, with a role that may start its functions, and a log of every state. */
function stateMachine(scope: Construct, props: StateMachineProps): StateMachine {
  const stack = Stack.of(scope);
  const role = new Role(scope, 'Role', {
    description: props.comment,
    assumedBy: new ServicePrincipal('states.amazonaws.com', {
      conditions: { StringEquals: { 'aws:SourceAccount': stack.account } },
    }),
  });
  role.addToPrincipalPolicy(
    new PolicyStatement({
      actions: ['lambda:InvokeFunction'],
      resources: props.functions.map((service) => service.function.functionArn),
    }),
  );
  role.addToPrincipalPolicy(
    new PolicyStatement({
      actions: [
        'logs:CreateLogDelivery',
        'logs:DeleteLogDelivery',
        'logs:DescribeLogGroups',
        'logs:DescribeResourcePolicies',
        'logs:GetLogDelivery',
        'logs:ListLogDeliveries',
        'logs:PutResourcePolicy',
        'logs:UpdateLogDelivery',
      ],
      resources: ['*'],
    }),
  );
  acknowledgeWildcard(
    role,
    '*',
    'Step Functions asks for these to set up the delivery of its log, and they know no resource-level permissions',
  );
  const logs = new LogGroup(scope, 'Logs', {
    // The account's one policy for log deliveries has 5,120 characters; groups of this name need no line of their own in it.
    logGroupName: `/aws/vendedlogs/states/${scope.node.path.replaceAll('/', '-')}-${Fn.select(2, Fn.split('/', Aws.STACK_ID))}`,
    retention: RetentionDays.THREE_MONTHS,
    // A group with a fixed name that stayed would be in the way of the next stack; executions are kept 90 days by themselves.
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const machine = new StateMachine(scope, 'StateMachine', {
    comment: props.comment,
    stateMachineType: StateMachineType.STANDARD,
    definitionBody: DefinitionBody.fromChainable(props.definition),
    // The targets would add the right to invoke every version and alias, by a wildcard.
    role: role.withoutPolicyUpdates(),
    // What goes from state to state holds no secret: no URL, no key, no value of etcd.
    logs: { destination: logs, level: LogLevel.ALL, includeExecutionData: true },
  });
  // Nothing in the machine refers to the policy, and a first execution must not come before it.
  machine.node.addDependency(role);
  Validations.of(machine).acknowledge({
    id: 'AwsSolutions-SF2',
    reason: 'every state is in the log with its data; traces of a few functions in a row would show nothing more',
  });
  return machine;
}
