import { Duration, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import {
  Schedule,
  type ScheduleExpression,
  ScheduleGroup,
  type ScheduleTargetInput,
  TimeWindow,
} from 'aws-cdk-lib/aws-scheduler';
import { LambdaInvoke } from 'aws-cdk-lib/aws-scheduler-targets';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';

export interface FunctionScheduleProps {
  readonly description: string;
  readonly expression: ScheduleExpression;
  readonly target: IFunction;
  readonly input: ScheduleTargetInput;
  /** For how long Scheduler tries to hand a trigger over; at least a minute. */
  readonly maxEventAge: Duration;
  readonly retryAttempts: number;
}

/** Starts a function by the clock, in a group and with a role of its own; what cannot be delivered in time goes to a dead-letter queue. */
export class FunctionSchedule extends Construct {
  readonly schedule: Schedule;
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, props: FunctionScheduleProps) {
    super(scope, id);
    const { target } = props;

    this.deadLetters = new Queue(this, 'DeadLetters', {
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
    });
    Validations.of(this.deadLetters).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason:
        'this queue is itself the dead-letter queue of the schedule; what arrives is kept for 14 days for somebody to look at, and nothing consumes it',
    });

    // Scheduler counts its metrics by group, so what this one misses is not mixed with what others do.
    const group = new ScheduleGroup(this, 'Group', { removalPolicy: RemovalPolicy.DESTROY });
    const role = new Role(this, 'Role', {
      description: props.description,
      assumedBy: new ServicePrincipal('scheduler.amazonaws.com', {
        conditions: {
          StringEquals: { 'aws:SourceAccount': Stack.of(this).account, 'aws:SourceArn': group.scheduleGroupArn },
        },
      }),
    });
    role.addToPrincipalPolicy(
      new PolicyStatement({ actions: ['lambda:InvokeFunction'], resources: [target.functionArn] }),
    );
    this.deadLetters.grant(role, 'sqs:SendMessage');

    this.schedule = new Schedule(this, 'Schedule', {
      description: props.description,
      scheduleGroup: group,
      schedule: props.expression,
      timeWindow: TimeWindow.off(),
      target: new LambdaInvoke(target, {
        input: props.input,
        deadLetterQueue: this.deadLetters,
        maxEventAge: props.maxEventAge,
        retryAttempts: props.retryAttempts,
        // The target would add the right to invoke every version and alias, by a wildcard.
        role: role.withoutPolicyUpdates(),
      }),
    });
    // Nothing in the schedule refers to the policy, and a first trigger must not come before it.
    this.schedule.node.addDependency(role);
  }
}
