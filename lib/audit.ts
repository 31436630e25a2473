import { Duration, Size, Stack } from 'aws-cdk-lib';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { ContextAttribute, ScheduleExpression, ScheduleTargetInput, type Schedule } from 'aws-cdk-lib/aws-scheduler';
import type { Queue } from 'aws-cdk-lib/aws-sqs';
import type { IStateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { RETENTIONS } from '../lambda/shared/retention';
import type { Cluster } from './config';
import { FunctionSchedule } from './function-schedule';
import type { Told } from './notify';
import { ServiceFunction } from './service-function';
import { expiryDays, lifecycleRules, NONCURRENT, type Store } from './store';
import { acknowledgeWildcard } from './wildcard';

export interface AuditProps {
  readonly cluster: Cluster;
  readonly store: Store;
  readonly verify: { readonly service: ServiceFunction };
  /** Whose executions are recorded with who started them. */
  readonly restoreMachine: IStateMachine;
  /** Whose topic's key is looked at: without it the alarms reach nobody. */
  readonly notify: { readonly told: Pick<Told, 'key'> | undefined };
  /** Those that have to be enabled. */
  readonly schedules: readonly Schedule[];
}

/** The audit function, which measures every five minutes, from outside the cluster, whether its backups are what they have to be. */
export class Audit extends Construct {
  readonly service: ServiceFunction;
  readonly schedule: Schedule;
  /** Receives every trigger that Scheduler could not hand over. */
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, props: AuditProps) {
    super(scope, id);
    const { cluster, store, restoreMachine } = props;
    const topicKey = props.notify.told?.key;
    const verify = props.verify.service.function;

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'audit',
      description: 'Measures whether the etcd backups are what they have to be',
      // Of the few seconds that it takes, all but one or two are for services that do not answer.
      timeout: Duration.minutes(4),
      memory: Size.mebibytes(512),
      // The next run is due in five minutes; one that is late would tell of another moment.
      retryAttempts: 0,
      maxEventAge: Duration.minutes(5),
      environment: {
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        BUCKET_ADOPTED: cluster.existingBucketName === undefined ? 'no' : 'yes',
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        ANNOUNCEMENT_KEY_ARN: store.announcementKey.keyArn,
        RECEIPT_KEY_ARN: store.receiptKey.keyArn,
        ...(store.pkiKey === undefined ? {} : { PKI_KEY_ARN: store.pkiKey.keyArn }),
        ...(topicKey === undefined ? {} : { TOPIC_KEY_ARN: topicKey.keyArn }),
        VERIFY_FUNCTION: verify.functionName,
        RESTORE_MACHINE_ARN: restoreMachine.stateMachineArn,
        SCHEDULES: props.schedules.map(nameOf).join(' '),
        LOCK_DAYS: String(cluster.lockDays),
        EXPIRY: JSON.stringify({
          days: Object.fromEntries(
            RETENTIONS.flatMap((retention) =>
              retention === 'latest' ? [] : [[retention, expiryDays(retention, cluster)]],
            ),
          ),
          prefixDays: Object.fromEntries(
            lifecycleRules(cluster).flatMap(({ prefix, tagFilters, expiration }) =>
              prefix === undefined || tagFilters !== undefined || expiration === undefined
                ? []
                : [[prefix, expiration.toDays()]],
            ),
          ),
          noncurrentDays: NONCURRENT.toDays(),
        }),
      },
    });

    const { role } = this.service;
    store.grantInspect(role);
    store.grantListVersions(role, ['snapshots', 'receipts', 'restores', 'drills']);
    store.grantReadTags(role, 'snapshots');
    store.grantExtendLock(role, 'snapshots');
    store.grantGetVersions(role, ['receipts', 'restores', 'drills']);
    store.grantDecrypt(role, ['receipts', 'restores', 'drills']);
    store.grantPutOnly(role, 'restores', '*/caller.json');
    store.receiptKey.grant(role, 'kms:Verify');
    if (topicKey !== undefined) {
      role.addToPrincipalPolicy(new PolicyStatement({ actions: ['kms:DescribeKey'], resources: [topicKey.keyArn] }));
    }
    // Not the function's own grant: that adds every version and alias, by a wildcard.
    role.addToPrincipalPolicy(
      new PolicyStatement({ actions: ['lambda:InvokeFunction'], resources: [verify.functionArn] }),
    );
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['scheduler:GetSchedule'],
        resources: props.schedules.map(({ scheduleArn }) => scheduleArn),
      }),
    );
    role.addToPrincipalPolicy(
      new PolicyStatement({ actions: ['states:ListExecutions'], resources: [restoreMachine.stateMachineArn] }),
    );
    role.addToPrincipalPolicy(new PolicyStatement({ actions: ['cloudtrail:LookupEvents'], resources: ['*'] }));
    acknowledgeWildcard(
      role,
      '*',
      "cloudtrail:LookupEvents knows no resource-level permissions; it shows the account's management events of 90 days, and only StartExecution is asked for",
    );

    const schedule = new FunctionSchedule(this, 'Schedule', {
      description: `Audits the backups of ${cluster.name}`,
      expression: ScheduleExpression.rate(Duration.minutes(5)),
      target: this.service.function,
      input: ScheduleTargetInput.fromObject({
        scheduledTime: ContextAttribute.scheduledTime,
        // Here and not in the environment, which has no room for it.
        policy: store.expectedPolicy,
      }),
      maxEventAge: Duration.minutes(4),
      retryAttempts: 3,
    });
    this.schedule = schedule.schedule;
    this.deadLetters = schedule.deadLetters;
  }
}

/** `<group>/<name>`, as the function reads it. */
function nameOf({ scheduleGroup, scheduleName }: Schedule): string {
  return `${scheduleGroup?.scheduleGroupName ?? 'default'}/${scheduleName}`;
}
