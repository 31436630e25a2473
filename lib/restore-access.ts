import { ArnFormat, CfnOutput, Stack } from 'aws-cdk-lib';
import { ManagedPolicy, Policy, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import type { ServiceFunction } from './service-function';
import type { Store } from './store';
import { acknowledgeWildcard } from './wildcard';

export interface RestoreAccessProps {
  readonly cluster: Cluster;
  readonly store: Store;
  readonly planMachine: StateMachine;
  readonly restoreMachine: StateMachine;
  /** The function that keeps restores one at a time. */
  readonly plan: ServiceFunction;
}

/** Who may start what: two policies to attach to people's roles, and what the plan function must see of executions. */
export class RestoreAccess extends Construct {
  readonly planner: ManagedPolicy;
  readonly operator: ManagedPolicy;

  constructor(scope: Construct, id: string, props: RestoreAccessProps) {
    super(scope, id);
    const { cluster, store, planMachine, restoreMachine } = props;

    this.planner = new ManagedPolicy(this, 'RestorePlanner', {
      description: `Shows what a restore of etcd of ${cluster.name} would do`,
      statements: [...this.mayStart(planMachine), this.mayList()],
    });
    this.acknowledge(this.planner, [planMachine]);

    this.operator = new ManagedPolicy(this, 'RestoreOperator', {
      description: `Restores etcd of ${cluster.name}, rolls back and shows plans`,
      statements: [
        ...this.mayStart(planMachine),
        ...this.mayStart(restoreMachine),
        // No RedriveExecution: it would go on with old answers where another restore may have been since.
        new PolicyStatement({ actions: ['states:StopExecution'], resources: [this.executionsOf(restoreMachine)] }),
        this.mayList(),
        ...mayReadRecords(store),
      ],
    });
    acknowledgeWildcard(this.operator, recordsOf(store), 'records and evidence of every restore, which hold no secret');
    this.acknowledge(this.operator, [planMachine, restoreMachine]);

    // A policy of its own: in that of the role, the function would wait for the machine, which waits for the function.
    const executions = new Policy(this, 'SeeExecutions', {
      roles: [props.plan.role],
      statements: [
        new PolicyStatement({ actions: ['states:ListExecutions'], resources: [restoreMachine.stateMachineArn] }),
        new PolicyStatement({ actions: ['states:DescribeExecution'], resources: [this.executionsOf(restoreMachine)] }),
      ],
    });
    acknowledgeWildcard(executions, this.executionsOf(restoreMachine), EXECUTIONS);

    new CfnOutput(this, 'RestorePlannerArn', { value: this.planner.managedPolicyArn }).overrideLogicalId(
      'RestorePlannerArn',
    );
    new CfnOutput(this, 'RestoreOperatorArn', { value: this.operator.managedPolicyArn }).overrideLogicalId(
      'RestoreOperatorArn',
    );
  }

  private mayStart(machine: StateMachine): PolicyStatement[] {
    return [
      new PolicyStatement({
        actions: ['states:DescribeStateMachine', 'states:ListExecutions', 'states:StartExecution'],
        resources: [machine.stateMachineArn],
      }),
      new PolicyStatement({
        actions: ['states:DescribeExecution', 'states:DescribeStateMachineForExecution', 'states:GetExecutionHistory'],
        resources: [this.executionsOf(machine)],
      }),
    ];
  }

  /** For the console's first page. */
  private mayList(): PolicyStatement {
    return new PolicyStatement({ actions: ['states:ListStateMachines'], resources: ['*'] });
  }

  private acknowledge(policy: ManagedPolicy, machines: readonly StateMachine[]): void {
    acknowledgeWildcard(policy, '*', 'states:ListStateMachines knows no resource-level permissions; it shows names');
    for (const machine of machines) {
      acknowledgeWildcard(policy, this.executionsOf(machine), EXECUTIONS);
    }
  }

  private executionsOf(machine: StateMachine): string {
    return Stack.of(this).formatArn({
      service: 'states',
      resource: 'execution',
      resourceName: `${machine.stateMachineName}:*`,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
  }
}

function recordsOf({ bucket }: Store): string {
  return bucket.arnForObjects('restores/*');
}

/** What was done, and the evidence of what failed. */
function mayReadRecords(store: Store): PolicyStatement[] {
  return [
    new PolicyStatement({ actions: ['s3:GetObject'], resources: [recordsOf(store)] }),
    new PolicyStatement({
      actions: ['s3:ListBucket'],
      resources: [store.bucket.bucketArn],
      conditions: { StringLike: { 's3:prefix': 'restores/*' } },
    }),
    new PolicyStatement({
      actions: ['kms:Decrypt'],
      resources: [store.snapshotKey.keyArn],
      conditions: { StringLike: { 'kms:EncryptionContext:aws:s3:arn': recordsOf(store) } },
    }),
  ];
}

const EXECUTIONS = 'each execution has a name of its own; the name of the machine before it is what limits the right';
