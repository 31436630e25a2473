import { Duration, Size, Stack, TimeZone } from 'aws-cdk-lib';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Architecture } from 'aws-cdk-lib/aws-lambda';
import { ContextAttribute, type Schedule, ScheduleExpression, ScheduleTargetInput } from 'aws-cdk-lib/aws-scheduler';
import type { Queue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import { FunctionSchedule } from './function-schedule';
import { BareFunction, ServiceFunction } from './service-function';
import type { Store } from './store';

// Shorter than the answer is waited for (lambda/drill/invoke-run.ts), which is shorter than the drill function may run.
const RUN_TIMEOUT = Duration.minutes(13);

export interface DrillProps {
  readonly cluster: Cluster;
  readonly store: Store;
}

/**
 * Two functions that restore a stored backup into a throwaway etcd, every day. One chooses and judges; the other runs binaries that come from
 * nodes, and has no right but to write its log.
 */
export class Drill extends Construct {
  readonly service: ServiceFunction;
  /** Runs etcd. */
  readonly run: BareFunction;
  readonly schedule: Schedule;
  /** Receives the triggers that could not be delivered. */
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, props: DrillProps) {
    super(scope, id);
    const { cluster, store } = props;
    const isArm = cluster.architecture === 'arm64';

    this.run = new BareFunction(this, 'Run', {
      clusterName: cluster.name,
      step: 'drill-run',
      description:
        'Restores a snapshot of etcd on its own disk, boots etcd on it and reads it back; may do nothing else',
      // The nodes' own binaries run in it.
      architecture: isArm ? Architecture.ARM_64 : Architecture.X86_64,
      timeout: RUN_TIMEOUT,
      // The most that a new account may have; etcd keeps an index of all keys in memory.
      memory: Size.mebibytes(3008),
      // The most that Lambda has: the snapshot and the database made of it lie on this disk side by side.
      disk: Size.mebibytes(10_240),
      environment: {},
    });

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'drill',
      description: 'Has a stored etcd snapshot restored into a throwaway etcd, and judges what came of it',
      timeout: Duration.minutes(15),
      memory: Size.mebibytes(512),
      environment: {
        ARCHITECTURE: isArm ? 'arm64' : 'amd64',
        ACKNOWLEDGED_TOOLS: cluster.acknowledgedTools.join(' '),
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        RECEIPT_KEY_ARN: store.receiptKey.keyArn,
        RUN_FUNCTION: this.run.function.functionName,
      },
    });

    const { role } = this.service;
    store.grantListVersions(role, ['snapshots', 'receipts', 'restores', 'drills', 'tools']);
    // Of snapshots and tools it reads none itself: presigned URLs carry its rights, each to one version.
    store.grantGetVersions(role, ['snapshots', 'receipts', 'restores', 'drills', 'tools']);
    store.grantDecrypt(role, ['snapshots', 'receipts', 'restores', 'drills', 'tools']);
    store.grantPut(role, ['drills']);
    store.receiptKey.grant(role, 'kms:Verify');
    // Not by grantInvoke: that would add every version and alias, by a wildcard.
    role.addToPrincipalPolicy(
      new PolicyStatement({ actions: ['lambda:InvokeFunction'], resources: [this.run.function.functionArn] }),
    );

    const { schedule, deadLetters } = new FunctionSchedule(this, 'Schedule', {
      description: `Restores the newest backup of ${cluster.name} into a throwaway etcd`,
      expression: ScheduleExpression.expression(cluster.drillSchedule, TimeZone.ETC_UTC),
      target: this.service.function,
      input: ScheduleTargetInput.fromObject({
        // Equal for every delivery of one trigger, so it is the id of the drill; the execution id is not.
        scheduledTime: ContextAttribute.scheduledTime,
        scheduleArn: ContextAttribute.scheduleArn,
      }),
      // A drill that is late is as good as one on time.
      maxEventAge: Duration.hours(6),
      // With exponential backoff the maximum event age is reached first; the number only has to be no limit before that.
      retryAttempts: 40,
    });
    this.schedule = schedule;
    this.deadLetters = deadLetters;
  }
}
