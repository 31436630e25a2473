import { Duration } from 'aws-cdk-lib';
import {
  Alarm,
  type CfnAlarm,
  ComparisonOperator,
  type IMetric,
  MathExpression,
  Metric,
  Stats,
  TreatMissingData,
} from 'aws-cdk-lib/aws-cloudwatch';
import type { IRule } from 'aws-cdk-lib/aws-events';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import type { IScheduleGroup } from 'aws-cdk-lib/aws-scheduler';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { IStateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import { alarmPrefix, type Notify } from './notify';
import { runbook } from './runbook';
import { longestInterval } from './schedule-expression';

/** A step with a function. */
export interface Watched {
  readonly service: { readonly function: IFunction };
}

/** A schedule of its own group, and where its undelivered triggers end. */
export interface WatchedSchedule {
  readonly schedule: { readonly scheduleGroup?: IScheduleGroup };
  readonly deadLetters: IQueue;
}

/** A rule, and where its undelivered events end. */
export interface WatchedRule {
  readonly rule: IRule;
  readonly deadLetters: IQueue;
}

export interface AlarmsProps {
  readonly cluster: Cluster;
  readonly notify: Notify;
  /** Of the replica what could not be copied, which is empty where there is none. */
  readonly store: { readonly failedCopies: Readonly<Record<string, Metric>> };
  readonly schedule: WatchedSchedule;
  readonly backup: Watched;
  readonly verify: Watched & WatchedRule;
  readonly plan: Watched;
  readonly restore: Watched;
  readonly interrupted: WatchedRule;
  readonly restoreMachine: IStateMachine;
  readonly drill: Watched & WatchedSchedule & { readonly run: { readonly function: IFunction } };
  readonly audit: Watched;
  /**
   * The bundles of the PKI.
   *
   * @default - the cluster stores none
   */
  readonly pki?: Watched & WatchedSchedule;
}

/** What an alarm tells a person. Each a sentence or two. */
interface Description {
  readonly what: string;
  readonly means: string;
  readonly toDo: string;
}

// Audit runs every five minutes, so every sliding window of that length has a gauge in it, or the one before has.
const PERIOD = Duration.minutes(5);
const HOUR_MINUTES = 60;
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html: seven days at most.
const LONGEST_SPAN_HOURS = 7 * 24;
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-warm-up.html
const LONGEST_WARM_UP_MINUTES = 2880;
// CloudFormation may create an alarm before what lets audit run. A warm-up ends early with the first value.
const WARM_UP = Duration.minutes(30);
/** After so long without a bundle it rings: they are stored daily, and two hours are for one that is late. */
export const PKI_BUNDLE_HOURS = 26;
// An attempt of a backup that its time ran out for is an error, and the retry goes on from there: one or two are no news.
const ERRORS = 3;

/**
 * Everything that rings. Three kinds: gauges of audit, whose absence rings as well; events, each of which rings; and AWS's own metrics
 * of audit, which watch the watcher. docs/alarms.md says how long each takes.
 */
export class Alarms extends Construct {
  /** In the order of what a person has to look at first. */
  readonly all: readonly Alarm[];

  private readonly alarms: Alarm[] = [];

  constructor(
    scope: Construct,
    id: string,
    private readonly props: AlarmsProps,
  ) {
    super(scope, id);
    const { cluster } = props;

    this.backups(props);
    this.pkiBundles(props);
    this.restores(props);
    this.drills(props);
    this.whatGuardsThem(cluster);
    this.replica(props);
    this.findings(cluster);
    this.functions(props);
    this.all = this.alarms;
  }

  /** Rings when the function behind the list on the dashboard fails, which is made from all other alarms. */
  watchDashboard({ service }: Watched): void {
    const { cluster } = this.props;
    this.event('dashboard-failed', {
      metrics: { failed: service.function.metricErrors(SUMMED) },
      what: `The list of backups on the dashboard of ${cluster.name} could not be made: its function failed.`,
      means: 'Nothing is wrong with backups. Who looks at the dashboard sees an error or an old list in its place.',
      toDo: `Read the function's log; if the function was changed: ${REPAIR}. Until then, the list is in the bucket.`,
    });
  }

  private backups({ cluster, schedule, backup, verify }: AlarmsProps): void {
    const rpo = cluster.recoveryPoint.toMinutes();
    this.gauge('no-verified-backup', 'VerifiedAgeSeconds', {
      above: cluster.recoveryPoint.toSeconds(),
      // Of a new cluster there is no backup yet.
      warmUp: Duration.minutes(Math.min(rpo, LONGEST_WARM_UP_MINUTES)),
      what: `The newest verified backup of ${cluster.name} is older than ${inWords(rpo)}, or audit does not know of one.`,
      means:
        'What was written to etcd since then would be lost. Whatever the cause is, this alarm rings: node, role, scheduler, cluster, key, bucket.',
      toDo: 'See which other alarm rings and follow that one; if there is none, invoke the backup function by hand and read its log.',
    });
    this.event('backup-did-not-start', {
      metrics: {
        dropped: schedulerMetric(schedule, 'InvocationDroppedCount'),
        undelivered: schedulerMetric(schedule, 'InvocationsFailedToBeSentToDeadLetterCount'),
        held: schedulerMetric(schedule, 'InvocationThrottleCount'),
        refused: schedulerMetric(schedule, 'TargetErrorThrottledCount'),
        waiting: depthOf(schedule.deadLetters),
        throttled: backup.service.function.metricThrottles(SUMMED),
      },
      what: `A trigger of the schedule did not start the backup function of ${cluster.name} in time, or Lambda or Scheduler throttles it.`,
      means: 'At least one backup was not taken at its time. Those that are stored are not affected.',
      toDo: "Read the message in the schedule's dead-letter queue: ERROR_CODE says why. Correct it, take a backup by hand, then delete the message: the alarm ends with it.",
    });
    this.event('backup-failed', {
      metrics: {
        dropped: backup.service.function.metric('AsyncEventsDropped', SUMMED),
        unsaved: backup.service.function.metric('DestinationDeliveryFailures', SUMMED),
      },
      what: `A backup of ${cluster.name} was given up after three attempts: no snapshot was taken, or it was not uploaded.`,
      means:
        'No control-plane node could give a sound snapshot, or AWS refused something. The next trigger tries again.',
      toDo: "Read the log of the backup function: it has each node's reason. The event lies in the function's failure queue.",
    });
    this.event('verify-failed', {
      metrics: {
        refused: this.custom('VerifyFailed', Stats.SUM),
        dropped: verify.service.function.metric('AsyncEventsDropped', SUMMED),
        unsaved: verify.service.function.metric('DestinationDeliveryFailures', SUMMED),
        throttled: verify.service.function.metricThrottles(SUMMED),
        waiting: depthOf(verify.deadLetters),
      },
      what: `A stored backup of ${cluster.name} was not verified: it is not what was announced, or the verify function did not come to an end.`,
      means: 'This backup proves nothing and is not restored. Earlier verified backups are not affected.',
      toDo: 'Read the log of the verify function: it has every reason. Correct it and send the function {"backupId": …}. A message in the dead-letter queue of its rule keeps this alarm up: delete it afterwards.',
    });
    this.gauge('backups-unverified', 'UnverifiedObjects', {
      above: 0,
      what: `The bucket of ${cluster.name} has snapshots that were stored more than an hour ago and have no receipt, or audit cannot tell.`,
      means: 'Verify does not run or does not end, or somebody took a receipt away. Audit has called verify again.',
      toDo: 'If this alarm does not end within the hour, read the log of the verify function. A receipt that was there before is gone or hidden: look in CloudTrail for who did that.',
    });
  }

  private pkiBundles({ cluster, pki }: AlarmsProps): void {
    if (pki === undefined) {
      return;
    }
    this.add('no-pki-bundle', this.custom('PkiBundleStored', Stats.SUM, Duration.hours(1)), {
      below: 1,
      evaluationPeriods: PKI_BUNDLE_HOURS,
      missing: TreatMissingData.BREACHING,
      tellWhenOver: true,
      warmUp: Duration.hours(PKI_BUNDLE_HOURS),
      what: `For more than a day no bundle of certificates, keys and manifests of ${cluster.name} was stored.`,
      means: 'Snapshots are not affected. To build the cluster anew from nothing, an older bundle would have to do.',
      toDo: "Read the log of the pki function: it has each node's reason. Correct it and invoke the function by hand.",
    });
    this.event('pki-bundle-failed', {
      metrics: {
        incomplete: this.custom('PkiBundleIncomplete', Stats.SUM),
        dropped: pki.service.function.metric('AsyncEventsDropped', SUMMED),
        notStarted: schedulerMetric(pki, 'InvocationDroppedCount'),
        waiting: depthOf(pki.deadLetters),
      },
      what: `The bundle of certificates, keys and manifests of ${cluster.name} was given up, or lacks files that the manifests name.`,
      means: 'Snapshots are not affected. A cluster that is built anew from this bundle would lack something.',
      toDo: 'Read the log of the pki function: it names what is missing, and why. Correct it and invoke the function by hand.',
    });
  }

  private restores({ cluster, restore, interrupted, restoreMachine }: AlarmsProps): void {
    this.event('rollback-failed', {
      metrics: { failed: this.custom('RollbacksFailed', Stats.SUM) },
      section: 'restore.md#when-it-ends-in-rollbackfailed',
      what: `A restore of ${cluster.name} failed, and not everything could be put back.`,
      means:
        'Control-plane nodes may be stopped or run on different data. Nothing was deleted: old data is kept on the nodes.',
      toDo: 'Open the execution: its cause says on which node what is left to do. Do exactly that, in that order.',
    });
    this.event('restore-interrupted', {
      metrics: {
        interrupted: this.custom('RestoresInterrupted', Stats.SUM),
        timedOut: restoreMachine.metricTimedOut(SUMMED),
        aborted: restoreMachine.metricAborted(SUMMED),
        dropped: restore.service.function.metric('AsyncEventsDropped', SUMMED),
        waiting: depthOf(interrupted.deadLetters),
      },
      section: 'restore.md#when-an-execution-was-stopped-or-timed-out',
      what: `A restore of ${cluster.name} was stopped by somebody, timed out, or was ended by Step Functions itself.`,
      means: 'No state of it could undo anything: the nodes are as they were at that moment, and may be stopped.',
      toDo: 'Start the restore machine with {"rollback": "<restore id>"}; the id is in the output of ChooseSnapshot.',
    });
    this.event('restore-failed', {
      metrics: { failed: this.custom('RestoresFailed', Stats.SUM), ended: restoreMachine.metricFailed(SUMMED) },
      section: 'restore.md#when-it-ends-in-restorefailed',
      what: `A restore of ${cluster.name} failed, or was refused; or the undo of one.`,
      means:
        'Nothing is changed, or all of it was put back, unless rollback-failed or restore-interrupted rings too, or the error is States.Runtime. What an undo was to put back is as it was: nodes may be stopped.',
      toDo: 'Open the execution: its cause says why. Correct that; then make a plan before you restore, or send the undo again. After States.Runtime: {"rollback": "<restore id>"}.',
    });
  }

  private drills({ cluster, drill }: AlarmsProps): void {
    const tooOld = 2 * (longestInterval(cluster.drillSchedule) ?? 24 * HOUR_MINUTES);
    this.gauge('no-proven-drill', 'DrillAgeSeconds', {
      above: tooOld * 60,
      warmUp: Duration.minutes(Math.min(tooOld, LONGEST_WARM_UP_MINUTES)),
      what: `For ${inWords(tooOld)} no backup of ${cluster.name} was really restored into a throwaway etcd, or audit does not know of it.`,
      means: 'Backups are verified, but that a restore works, and how long it takes, is proven no more.',
      toDo: 'Read the log of the drill function; invoke it by hand.',
    });
    this.event('drill-failed', {
      metrics: {
        failed: this.custom('DrillsFailed', Stats.SUM),
        impossible: this.custom('DrillNotPossible', Stats.SUM),
        dropped: drill.service.function.metric('AsyncEventsDropped', SUMMED),
        notStarted: schedulerMetric(drill, 'InvocationDroppedCount'),
        waiting: depthOf(drill.deadLetters),
      },
      what: `A stored backup of ${cluster.name} was not restored as its receipt says, or could not be drilled at all.`,
      means: 'A restore of this backup may fail, or its tools are missing, or it is too large for a function.',
      toDo: 'Read reason and sentence of the newest object under drills/ in the bucket, and the log of the drill function.',
    });
  }

  private whatGuardsThem(cluster: Cluster): void {
    this.gauge('key-at-risk', 'KeysAtRisk', {
      above: 0,
      what: `A KMS key of the backups of ${cluster.name} is disabled or will be deleted, or audit cannot see it.`,
      means: 'Without its key a backup cannot be read, nor trusted. What a deleted key encrypted is lost for ever.',
      toDo: 'At once: aws kms cancel-key-deletion and enable-key, for the key that the log of audit names. Then look in CloudTrail for who it was.',
    });
    this.gauge('bucket-at-risk', 'BucketAtRisk', {
      above: 0,
      what: `The bucket of ${cluster.name} is no longer as it has to be, or audit cannot see it: lock, versioning, policy, lifecycle, public access or events.`,
      means: 'Backups could be deleted, overwritten or read by others, or new ones are not verified.',
      toDo: `Read the log of audit: it names each difference. Put them right with ${REPAIR}, then look in CloudTrail for who it was.`,
    });
    this.gauge('schedule-at-risk', 'SchedulesAtRisk', {
      above: 0,
      what: `A schedule of ${cluster.name} is disabled or missing, or audit cannot see it.`,
      means: 'Backups or drills no longer run by themselves.',
      toDo: `Enable it in EventBridge Scheduler; if it is gone: ${REPAIR}. Then look in CloudTrail for who it was.`,
    });
  }

  private replica({ cluster, store: { failedCopies } }: AlarmsProps): void {
    if (Object.keys(failedCopies).length === 0) {
      return;
    }
    this.event('replication-failed', {
      metrics: failedCopies,
      section: 'retention.md#when-replication-fails',
      what: `S3 could not copy something of the backups of ${cluster.name} to the replica.`,
      means:
        'Backups here are not affected. S3 does not try that copy again, and lets nothing expire here that was not copied: the bill grows.',
      toDo: 'See why: mostly the role, or the bucket, its policy or its key in the other account. Correct it, then copy what failed with S3 Batch Replication.',
    });
  }

  private findings(cluster: Cluster): void {
    // A finding that stays comes with every backup: over a window in which there surely is one, so that it rings once and not each time.
    const gapHours = Math.ceil((longestInterval(cluster.schedule) ?? 24 * HOUR_MINUTES) / HOUR_MINUTES);
    const window = {
      period: Duration.hours(1),
      evaluationPeriods: Math.min(gapHours + 1, LONGEST_SPAN_HOURS),
      tellWhenOver: true,
    };
    this.event('finding-urgent', {
      ...window,
      metrics: { found: this.custom('UrgentFindings', Stats.MAXIMUM, window.period) },
      section: 'findings.md#findings',
      what: `A backup of ${cluster.name} is verified and has a finding that may mean loss or forgery: keys lost, members that differ, versions or receipts that somebody else wrote.`,
      means: 'What is in etcd, or in the bucket, may not be what you think. The earlier backups are kept.',
      toDo: 'Read the findings in the newest receipt, and docs/findings.md for each word. If the good backups would expire before you know: raise their class in `keep` and deploy, or get them out by version.',
    });
    this.event('finding-to-correct', {
      ...window,
      metrics: {
        found: this.custom('FindingsToCorrect', Stats.MAXIMUM, window.period),
        toolsNotKept: this.custom('FindingToolsNotKept', Stats.MAXIMUM, window.period),
      },
      section: 'findings.md#findings',
      what: `A backup of ${cluster.name} is verified and has a finding to correct: secrets in plain text, tools missing, certificates or quota near their end, redundancy lost.`,
      means: 'Backups are sound. A restore may be refused, or the cluster gets into trouble, if nobody sees to it.',
      toDo: 'Read the findings in the newest receipt, and docs/findings.md for each word.',
    });
  }

  private functions(props: AlarmsProps): void {
    const { cluster, backup, verify, plan, restore, drill, audit, notify, pki } = props;
    const auditing = audit.service.function;
    this.add('audit-silent', auditing.metricInvocations({ ...SUMMED, period: PERIOD }), {
      below: 1,
      missing: TreatMissingData.BREACHING,
      tellWhenOver: true,
      what: `Audit of ${cluster.name} has not run for a quarter of an hour.`,
      means:
        'Nobody looks at age, keys, bucket and schedules any more. Every gauge is missing, so their alarms ring as well.',
      toDo: `See whether its schedule is enabled and Lambda throttles it. If something is gone or changed: ${REPAIR}.`,
    });
    this.add('audit-failing', auditing.metricErrors({ ...SUMMED, period: PERIOD }), {
      atLeast: 1,
      evaluationPeriods: 3,
      missing: TreatMissingData.NOT_BREACHING,
      tellWhenOver: true,
      what: `Audit of ${cluster.name} has failed for a quarter of an hour.`,
      means: 'It cannot see something that it has to see. The gauge of that is missing; the others are still measured.',
      toDo: 'Read the log of the audit function: the error names everything that it could not see, and why.',
    });
    this.event('function-errors', {
      period: Duration.minutes(15),
      atLeast: ERRORS,
      metrics: Object.fromEntries(
        Object.entries({
          backup: backup.service.function,
          verify: verify.service.function,
          plan: plan.service.function,
          restore: restore.service.function,
          drill: drill.service.function,
          drillRun: drill.run.function,
          ...(pki === undefined ? {} : { pki: pki.service.function }),
          ...(notify.told === undefined ? {} : { notify: notify.told.service.function }),
        }).map(([name, fn]) => [name, fn.metricErrors({ ...SUMMED, period: Duration.minutes(15) })]),
      ),
      what: `Functions of ${cluster.name} failed ${String(ERRORS)} times or more within 15 minutes.`,
      means:
        'A function crashes, runs out of time or memory, or refuses what it gets, again and again. Another alarm mostly says which.',
      toDo: 'Look at the errors of each function in Lambda, and read the log of the one that has them.',
    });
    const { told } = notify;
    if (told !== undefined) {
      this.event('notify-failed', {
        metrics: {
          dropped: told.service.function.metric('AsyncEventsDropped', SUMMED),
          waiting: depthOf(told.deadLetters),
          undelivered: told.topic.metricNumberOfNotificationsFailed(SUMMED),
        },
        what: `A message about ${cluster.name} did not get through: the notify function failed, or SNS could not deliver.`,
        means:
          'News of a restore or of a key is missing. Alarms go to the topic by another way, but to the same addresses.',
        toDo: 'Read the log of the notify function. Confirm or correct the subscriptions of the topic.',
      });
    }
  }

  /** Rings above a value of a gauge, and when there is none. */
  private gauge(
    name: string,
    metric: string,
    { above, ...rest }: Description & { readonly above: number; readonly warmUp?: Duration },
  ): void {
    this.add(name, this.custom(metric, Stats.MAXIMUM), {
      ...rest,
      above,
      missing: TreatMissingData.BREACHING,
      tellWhenOver: true,
    });
  }

  /** Rings when the sum of some metrics is not 0. Nothing is counted where nothing happens, so what is missing is well. */
  private event(
    name: string,
    {
      metrics,
      period = PERIOD,
      atLeast = 1,
      ...rest
    }: Description & {
      readonly metrics: Readonly<Record<string, Metric>>;
      readonly period?: Duration;
      readonly atLeast?: number;
      readonly evaluationPeriods?: number;
      readonly section?: string;
      readonly tellWhenOver?: boolean;
    },
  ): void {
    const [only, ...others] = Object.values(metrics);
    this.add(
      name,
      only !== undefined && others.length === 0
        ? only
        : // Where one of them has no value it counts as 0:
          // https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
          new MathExpression({
            expression: `SUM([${Object.keys(metrics).join(', ')}])`,
            usingMetrics: { ...metrics },
            period,
          }),
      // That nothing happened for five minutes does not mean that all is well again.
      { tellWhenOver: false, ...rest, atLeast, datapointsToAlarm: 1, missing: TreatMissingData.NOT_BREACHING },
    );
  }

  private add(
    name: string,
    metric: IMetric,
    props: Description & {
      readonly missing: TreatMissingData;
      readonly tellWhenOver: boolean;
      readonly above?: number;
      readonly atLeast?: number;
      readonly below?: number;
      readonly evaluationPeriods?: number;
      readonly datapointsToAlarm?: number;
      readonly section?: string;
      readonly warmUp?: Duration;
    },
  ): void {
    const { cluster } = this.props;
    const { above, atLeast, below, evaluationPeriods = 1, section = `alarms.md#${name}` } = props;
    const alarm = new Alarm(this, pascal(name), {
      alarmName: `${alarmPrefix(cluster)}${name}`,
      alarmDescription: describe(props, section),
      metric,
      evaluationPeriods,
      datapointsToAlarm: props.datapointsToAlarm ?? evaluationPeriods,
      threshold: above ?? atLeast ?? below ?? 0,
      comparisonOperator:
        above !== undefined
          ? ComparisonOperator.GREATER_THAN_THRESHOLD
          : atLeast !== undefined
            ? ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
            : ComparisonOperator.LESS_THAN_THRESHOLD,
      treatMissingData: props.missing,
    });
    // Before the first value, what breaches when it is missing would ring for nothing.
    const warmUp = props.warmUp ?? (props.missing === TreatMissingData.BREACHING ? WARM_UP : undefined);
    if (warmUp !== undefined) {
      // No property of the construct yet.
      (alarm.node.defaultChild as CfnAlarm).warmUpConfiguration = { warmUpPeriodDurationInMinutes: warmUp.toMinutes() };
    }
    this.act(alarm, props);
    this.alarms.push(alarm);
  }

  private act(alarm: Alarm, { tellWhenOver }: { readonly tellWhenOver: boolean }): void {
    const { told } = this.props.notify;
    if (told === undefined) {
      return;
    }
    alarm.addAlarmAction(told.action);
    if (tellWhenOver) {
      alarm.addOkAction(told.action);
    }
  }

  private custom(metricName: string, statistic: string, period = PERIOD): Metric {
    const { cluster } = this.props;
    return new Metric({
      namespace: 'EtcdBackup',
      metricName,
      dimensionsMap: { cluster: cluster.name },
      statistic,
      period,
    });
  }
}

const SUMMED = { statistic: Stats.SUM, period: PERIOD };
// Without the flag CloudFormation compares templates, and repairs nothing that only differs in AWS:
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html
const REPAIR = 'cdk deploy --revert-drift';

function schedulerMetric({ schedule }: WatchedSchedule, name: string): Metric {
  const { scheduleGroup } = schedule;
  if (scheduleGroup === undefined) {
    throw new Error('group of a schedule: got none, expected one of its own, which Scheduler counts by');
  }
  return scheduleGroup.metric(name, SUMMED);
}

function depthOf(queue: IQueue): Metric {
  return queue.metricApproximateNumberOfMessagesVisible({ statistic: Stats.MAXIMUM, period: PERIOD });
}

// Cut off, it would lose the link: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
const DESCRIPTION_CHARACTERS = 1024;

function describe({ what, means, toDo }: Description, section: string): string {
  const description = [what, `Means: ${means}`, `Do: ${toDo}`, `Runbook: ${runbook(section)}`].join('\n');
  if (description.length > DESCRIPTION_CHARACTERS) {
    throw new Error(
      `description of an alarm: got ${String(description.length)} characters, expected at most ${String(DESCRIPTION_CHARACTERS)}: ${what}`,
    );
  }
  return description;
}

function pascal(name: string): string {
  return name.replace(/(?:^|-)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** For example `2 hours`, `90 minutes`. */
function inWords(minutes: number): string {
  const units = [
    [24 * HOUR_MINUTES, 'day'],
    [HOUR_MINUTES, 'hour'],
    [1, 'minute'],
  ] as const;
  const [size, unit] = units.find(([length]) => minutes % length === 0) ?? [1, 'minute'];
  const count = minutes / size;
  return `${String(count)} ${unit}${count === 1 ? '' : 's'}`;
}
