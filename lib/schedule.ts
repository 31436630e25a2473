import { Duration, RemovalPolicy, Stack, TimeZone, Validations } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import {
  ContextAttribute,
  Schedule as SchedulerSchedule,
  ScheduleExpression,
  ScheduleGroup,
  ScheduleTargetInput,
  TimeWindow,
} from 'aws-cdk-lib/aws-scheduler';
import { LambdaInvoke } from 'aws-cdk-lib/aws-scheduler-targets';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import type { Cluster } from './config';

// With exponential backoff the maximum event age is reached first; the number only has to be no limit before that.
const RETRY_ATTEMPTS = 10;

export interface ScheduleProps {
  readonly cluster: Cluster;
  /** The backup function. */
  readonly target: IFunction;
}

/** Starts the backup function; what cannot be delivered in time goes to a dead-letter queue. */
export class Schedule extends Construct {
  readonly schedule: SchedulerSchedule;
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, props: ScheduleProps) {
    super(scope, id);
    const { cluster, target } = props;

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

    // Scheduler counts its metrics by group, so each cluster has one.
    const group = new ScheduleGroup(this, 'Group', { removalPolicy: RemovalPolicy.DESTROY });

    const role = new Role(this, 'Role', {
      description: `Lets EventBridge Scheduler start the backup function of ${cluster.name}`,
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

    this.schedule = new SchedulerSchedule(this, 'Schedule', {
      description: `Backs up etcd of ${cluster.name}`,
      scheduleGroup: group,
      schedule: ScheduleExpression.expression(cluster.schedule, TimeZone.of(cluster.timeZone)),
      timeWindow: cluster.flexibleWindow === undefined ? TimeWindow.off() : TimeWindow.flexible(cluster.flexibleWindow),
      target: new LambdaInvoke(target, {
        input: ScheduleTargetInput.fromObject({
          // Equal for every delivery of one trigger, so it is the id of the backup; the execution id is not.
          scheduledTime: ContextAttribute.scheduledTime,
          scheduleArn: ContextAttribute.scheduleArn,
        }),
        deadLetterQueue: this.deadLetters,
        maxEventAge: cluster.maximumEventAge,
        retryAttempts: RETRY_ATTEMPTS,
        // The target would add the right to invoke every version and alias, by a wildcard.
        role: role.withoutPolicyUpdates(),
      }),
    });
    // Nothing in the schedule refers to the policy, and a first trigger must not come before it.
    this.schedule.node.addDependency(role);
  }
}
