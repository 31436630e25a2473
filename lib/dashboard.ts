import { Aws, CfnOutput, Duration, Size, Stack } from 'aws-cdk-lib';
import {
  type Alarm,
  AlarmStatusWidget,
  AlarmStatusWidgetSortBy,
  CustomWidget,
  Dashboard as CloudWatchDashboard,
  GraphWidget,
  type GraphWidgetProps,
  type IMetric,
  type IWidget,
  LegendPosition,
  MathExpression,
  Metric,
  PeriodOverride,
  Shading,
  SingleValueWidget,
  TextWidget,
  TextWidgetBackground,
} from 'aws-cdk-lib/aws-cloudwatch';
import type { IStateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { RETENTIONS } from '../lambda/shared/retention';
import { FINDING_WORDS, findingMetric } from '../lambda/verify/findings';
import { type Alarms, PKI_BUNDLE_HOURS } from './alarms';
import type { Cluster } from './config';
import { runbook } from './runbook';
import { ServiceFunction } from './service-function';
import { expiryDays, NONCURRENT, type Store } from './store';

export interface DashboardProps {
  readonly cluster: Cluster;
  readonly store: Store;
  readonly planMachine: IStateMachine;
  readonly restoreMachine: IStateMachine;
  /**
   * All alarms of the cluster, at most 100: what CloudWatch shows in a widget. Two of them draw the lines beyond which they ring. The one on the
   * dashboard's own function is added to them here.
   */
  readonly alarms: Pick<Alarms, 'all' | 'watchDashboard'>;
}

const COLUMNS = 24;
const HOUR_SECONDS = 3600;

// A gauge of the audit comes every 5 minutes, an event at most that often.
const GAUGE = Duration.minutes(5);
const EVENT = Duration.hours(1);
// Drills come once a day, and restores, it is hoped, hardly ever.
const RARE = Duration.days(1);
const RARE_START = '-P3M';
const RESTORES_START = '-P12M';

const GOOD = '#2ca02c';
const BAD = '#d62728';

type Stat = 'Maximum' | 'Minimum' | 'Sum';

/** The dashboard of one cluster, in the order of what is asked at night, and the function behind its list of backups. */
export class Dashboard extends Construct {
  readonly service: ServiceFunction;
  readonly dashboard: CloudWatchDashboard;
  private readonly cluster: Cluster;

  constructor(scope: Construct, id: string, props: DashboardProps) {
    super(scope, id);
    const { cluster } = props;
    this.cluster = cluster;
    this.service = this.createFunction(props);
    props.alarms.watchDashboard(this);
    const alarms = props.alarms.all;

    this.dashboard = new CloudWatchDashboard(this, 'Dashboard', {
      // Dashboards are global in an account: two clusters of one name in two regions would share it.
      dashboardName: `etcd-backup-${cluster.name}-${Aws.REGION}`,
      defaultInterval: Duration.days(7),
      // Otherwise CloudWatch chooses periods by the time range, and a sum means another thing in each.
      periodOverride: PeriodOverride.INHERIT,
      widgets: [
        [
          heading(
            `# ${cluster.name}: is it safe now?`,
            `Every alarm green: yes. Red: its description says what happened, what it means and what to do ([${runbook('alarms.md')}](${runbook('alarms.md')})).`,
          ),
        ],
        [this.alarmStatus('Alarms', 15, AlarmStatusWidgetSortBy.STATE_UPDATED_TIMESTAMP, alarms), this.risks()],
        [heading('## How old is the newest proof?')],
        [this.proofAge(alarms), this.drillAge(alarms)],
        [heading('## What would a restore take?')],
        [this.restoreTimes(), this.drillPhases()],
        [heading('## The newest backups, and how to restore one')],
        [
          new CustomWidget({
            title: '',
            functionArn: this.service.function.functionArn,
            width: COLUMNS,
            height: 17,
            updateOnRefresh: true,
            updateOnResize: true,
            // It shows what is stored now, whatever range the graphs have.
            updateOnTimeRangeChange: false,
          }),
        ],
        [heading('## How long does each phase take?')],
        this.phases(),
        [heading('## How large is it?')],
        this.sizes(),
        [heading('## What is kept?')],
        this.kept(),
        [heading('## What failed?')],
        this.failures(props),
        [heading('## Alarms, the last one that changed first')],
        [this.alarmStatus('Alarms by time', COLUMNS, AlarmStatusWidgetSortBy.TIMESTAMP, alarms)],
      ],
    });
    new CfnOutput(this, 'DashboardName', { value: this.dashboard.dashboardName }).overrideLogicalId('DashboardName');
  }

  private createFunction({ cluster, store, restoreMachine, alarms }: DashboardProps): ServiceFunction {
    const service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'dashboard',
      description: 'Lists the newest etcd backups on the dashboard',
      timeout: Duration.seconds(30),
      // The share of a CPU that comes with it makes 60 signatures and receipts a matter of a second.
      memory: Size.mebibytes(1024),
      environment: {
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        RECEIPT_KEY_ARN: store.receiptKey.keyArn,
        RESTORE_MACHINE_ARN: restoreMachine.stateMachineArn,
        RECOVERY_POINT_SECONDS: String(thresholdOf(alarms.all, 'VerifiedAgeSeconds')),
        DRILL_TOO_OLD_SECONDS: String(thresholdOf(alarms.all, 'DrillAgeSeconds')),
        ...(cluster.pkiBundle ? { PKI_TOO_OLD_SECONDS: String(PKI_BUNDLE_HOURS * HOUR_SECONDS) } : {}),
        EXPIRY: JSON.stringify({
          days: Object.fromEntries(
            RETENTIONS.flatMap((retention) =>
              retention === 'latest' ? [] : [[retention, expiryDays(retention, cluster)]],
            ),
          ),
          noncurrentDays: NONCURRENT.toDays(),
        }),
      },
    });
    const { role } = service;
    // Of snapshots and bundles it sees that they are there, and of snapshots their tags.
    store.grantListVersions(role, ['snapshots', 'receipts', 'restores', 'drills']);
    if (cluster.pkiBundle) {
      store.grantListVersions(role, ['pki']);
    }
    store.grantReadTags(role, 'snapshots');
    store.grantGetVersions(role, ['receipts', 'restores', 'drills']);
    store.grantDecrypt(role, ['receipts', 'restores', 'drills']);
    store.receiptKey.grant(role, 'kms:Verify');
    return service;
  }

  private metric(metricName: string, statistic: Stat, period: Duration, label?: string, color?: string): Metric {
    return new Metric({
      namespace: 'EtcdBackup',
      metricName,
      dimensionsMap: { cluster: this.cluster.name },
      statistic,
      period,
      ...(label === undefined ? {} : { label }),
      ...(color === undefined ? {} : { color }),
    });
  }

  /** Each metric by its name and label, the highest value of each period. */
  private highest(names: Readonly<Record<string, string>>, period: Duration): Metric[] {
    return Object.entries(names).map(([name, label]) => this.metric(name, 'Maximum', period, label));
  }

  private counted(names: Readonly<Record<string, string>>): Metric[] {
    return Object.entries(names).map(([name, label]) => this.metric(name, 'Sum', EVENT, label));
  }

  private alarmStatus(
    title: string,
    width: number,
    sortBy: AlarmStatusWidgetSortBy,
    alarms: readonly Alarm[],
  ): IWidget {
    return new AlarmStatusWidget({ title, width, height: 6, sortBy, alarms: [...alarms] });
  }

  private risks(): IWidget {
    return new SingleValueWidget({
      title: 'All of these have to be 0',
      width: 9,
      height: 6,
      metrics: this.highest(
        {
          UnverifiedObjects: 'not verified after an hour',
          KeysAtRisk: 'keys disabled or to be deleted',
          BucketAtRisk: 'of the bucket not as it has to be',
          SchedulesAtRisk: 'schedules off or missing',
        },
        GAUGE,
      ),
    });
  }

  private proofAge(alarms: readonly Alarm[]): IWidget {
    return this.age('VerifiedAgeSeconds', alarms, {
      title: 'Age of the newest verified backup; a gap: nothing is known, which is as bad',
      width: 15,
      line: 'recovery point objective',
    });
  }

  private drillAge(alarms: readonly Alarm[]): IWidget {
    return this.age('DrillAgeSeconds', alarms, {
      // Before the first one it counts from the first backup: no age of a proof.
      title: 'Time without a drill that proved a backup',
      width: 9,
      line: 'too old',
    });
  }

  /** In hours, with the line beyond which its alarm rings. */
  private age(
    metricName: string,
    alarms: readonly Alarm[],
    { title, width, line }: { readonly title: string; readonly width: number; readonly line: string },
  ): IWidget {
    const hours = thresholdOf(alarms, metricName) / HOUR_SECONDS;
    return graph({
      title,
      width,
      left: [
        new MathExpression({
          expression: `seconds / ${String(HOUR_SECONDS)}`,
          usingMetrics: { seconds: this.metric(metricName, 'Maximum', GAUGE) },
          label: 'hours',
          period: GAUGE,
        }),
      ],
      leftAnnotations: [
        {
          value: hours,
          label: `${line}: ${Number.isInteger(hours) ? String(hours) : hours.toFixed(1)} h`,
          color: BAD,
          fill: Shading.ABOVE,
        },
      ],
      leftYAxis: { min: 0, label: 'hours', showUnits: false },
    });
  }

  private restoreTimes(): IWidget {
    return new SingleValueWidget({
      title: 'Last drill, and last real restore in a year',
      width: 9,
      height: 6,
      start: RESTORES_START,
      metrics: this.highest(
        {
          DrillSeconds: 'drill: download, restore, start',
          RestoreDowntimeSeconds: 'restore: downtime',
          RestoreSeconds: 'restore: from start to end',
        },
        RARE,
      ),
    });
  }

  private drillPhases(): IWidget {
    return graph({
      title: 'Drills, by phase',
      width: 15,
      start: RARE_START,
      stacked: true,
      left: this.highest(
        {
          DrillDownloadSeconds: 'download',
          DrillRestoreSeconds: 'restore',
          DrillBootSeconds: 'boot',
          DrillReadSeconds: 'read all keys back',
        },
        RARE,
      ),
      leftYAxis: { min: 0, label: 'seconds', showUnits: false },
    });
  }

  private phases(): IWidget[] {
    const seconds = { min: 0, label: 'seconds', showUnits: false };
    return [
      graph({
        title: 'Backup',
        left: this.highest(
          {
            TriggerToReceiptSeconds: 'from the trigger to the proof',
            BackupSeconds: 'backup',
            SnapshotSeconds: 'snapshot on the node',
            UploadSeconds: 'upload',
          },
          EVENT,
        ),
        leftYAxis: seconds,
      }),
      graph({
        title: 'Verify',
        left: this.highest(
          {
            VerifySeconds: 'verify',
            DownloadSeconds: 'download, decompress, hash',
            ReadSeconds: 'read every page',
            SettleSeconds: 'tags and locks',
          },
          EVENT,
        ),
        leftYAxis: seconds,
      }),
      graph({
        title: 'Restores of the last year',
        start: RESTORES_START,
        stacked: true,
        left: this.highest(
          {
            PreflightSeconds: 'Preflight',
            KeepCurrentStateSeconds: 'KeepCurrentState',
            StopControlPlaneSeconds: 'StopControlPlane',
            SwapDataSeconds: 'SwapData',
            StartEtcdSeconds: 'StartEtcd',
            CheckEtcdSeconds: 'CheckEtcd',
            StartApiServerSeconds: 'StartApiServer',
            StartControllersSeconds: 'StartControllers',
            CheckClusterSeconds: 'CheckCluster',
            RollBackSeconds: 'RollBack',
          },
          RARE,
        ),
        leftYAxis: seconds,
      }),
    ];
  }

  private sizes(): IWidget[] {
    return [
      graph({
        title: 'Size',
        left: this.highest({ SnapshotBytes: 'snapshot', CompressedBytes: 'as it is stored' }, EVENT),
        leftYAxis: { min: 0 },
      }),
      graph({
        title: 'Revision; it only rises, also across a restore',
        left: this.highest({ Revision: 'revision' }, EVENT),
        leftYAxis: { showUnits: false },
      }),
      graph({
        title: 'Live keys',
        left: this.highest({ LiveObjects: 'live keys' }, EVENT),
        leftYAxis: { min: 0, showUnits: false },
      }),
    ];
  }

  private kept(): IWidget[] {
    return [
      graph({
        title: 'Backups by class',
        width: 15,
        stacked: true,
        left: this.highest(
          {
            StoredLatest: 'latest',
            StoredHourly: 'hourly',
            StoredDaily: 'daily',
            StoredWeekly: 'weekly',
            StoredMonthly: 'monthly',
            StoredOnDemand: 'on-demand',
            StoredPreRestore: 'pre-restore',
          },
          GAUGE,
        ),
        leftYAxis: { min: 0, showUnits: false },
      }),
      graph({
        title: 'Without proof, of all',
        width: 9,
        left: [
          ...this.highest({ StoredPending: 'pending', StoredFailed: 'failed' }, GAUGE),
          this.metric('StoredBackups', 'Maximum', GAUGE, 'all', GOOD),
        ],
        leftYAxis: { min: 0, showUnits: false },
      }),
    ];
  }

  private failures({ planMachine, restoreMachine }: DashboardProps): IWidget[] {
    const executions = (machine: IStateMachine, what: string): IMetric[] => [
      machine.metricFailed({ label: `${what}: failed`, period: EVENT, statistic: 'Sum' }),
      machine.metricTimedOut({ label: `${what}: timed out`, period: EVENT, statistic: 'Sum' }),
      machine.metricAborted({ label: `${what}: stopped`, period: EVENT, statistic: 'Sum' }),
    ];
    const whole = { min: 0, showUnits: false };
    return [
      graph({
        title: 'Backups, drills and restores that failed',
        left: this.counted({
          VerifyFailed: 'backups not verified',
          DrillsFailed: 'drills failed',
          DrillNotPossible: 'drills not possible',
          RestoresFailed: 'restores failed',
          RollbacksFailed: 'rollbacks failed',
          RestoresInterrupted: 'restores interrupted',
        }),
        leftYAxis: whole,
      }),
      graph({
        title: 'Findings of verify',
        left: findingMetrics().map((name) => this.metric(name, 'Sum', EVENT, name.replace(/^Finding/, ''))),
        leftYAxis: whole,
        legendPosition: LegendPosition.RIGHT,
      }),
      graph({
        title: 'Executions of the state machines',
        left: [...executions(restoreMachine, 'restore'), ...executions(planMachine, 'plan')],
        leftYAxis: whole,
      }),
    ];
  }
}

/** Names of the metrics that findings have, each once. */
function findingMetrics(): string[] {
  return [...new Set([...FINDING_WORDS.map(findingMetric), 'FindingUnknown'])];
}

function heading(title: string, text?: string): IWidget {
  return new TextWidget({
    markdown: text === undefined ? title : `${title}\n${text}`,
    width: COLUMNS,
    height: text === undefined ? 1 : 2,
    background: TextWidgetBackground.TRANSPARENT,
  });
}

function graph(props: GraphWidgetProps): IWidget {
  return new GraphWidget({ width: 8, height: 6, ...props });
}

/** What the alarm on a metric rings above. Throws when there is none. */
function thresholdOf(alarms: readonly Alarm[], metricName: string): number {
  const alarm = alarms.find(({ metric }) => metric instanceof Metric && metric.metricName === metricName);
  if (alarm === undefined) {
    throw new Error(`alarm on ${metricName}: got none, expected one, whose threshold is drawn on the dashboard`);
  }
  return alarm.toAnnotation().value;
}
