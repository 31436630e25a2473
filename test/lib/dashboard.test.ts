import { App, Duration, Stack } from 'aws-cdk-lib';
import { Alarm, Metric } from 'aws-cdk-lib/aws-cloudwatch';
import { Pass, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { DefinitionBody } from 'aws-cdk-lib/aws-stepfunctions';
import { readClusters } from '../../lib/config';
import { Dashboard } from '../../lib/dashboard';
import { Store } from '../../lib/store';
import { emittedMetrics } from './emitted-metrics';
import { exampleTemplate, resourcesOfType, theFunction, theResource } from './example-stack';
import { bucketPolicy, deployed, keyPolicy, policiesOf, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate({ recoveryPoint: Duration.hours(3), drillSchedule: 'rate(12 hours)' });

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const ANNOUNCEMENT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/AnnouncementKey';
const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/ReceiptKey';
const REGION = 'eu-central-1';
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };

const alarmArn = (logicalId: string) => `arn:aws:cloudwatch:${REGION}:111122223333:alarm:${logicalId}`;
const machineArn = (logicalId: string) => `arn:aws:states:${REGION}:111122223333:stateMachine:${logicalId}`;

type MetricEntry = readonly (string | Readonly<Record<string, unknown>>)[];

interface Widget {
  readonly type: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly properties: {
    readonly title?: string;
    readonly markdown?: string;
    readonly endpoint?: string;
    readonly updateOn?: Readonly<Record<string, boolean>>;
    readonly alarms?: readonly string[];
    readonly metrics?: readonly MetricEntry[];
    readonly annotations?: { readonly horizontal?: readonly { readonly value: number; readonly label: string }[] };
    readonly region?: string;
    readonly view?: string;
  };
}

interface Body {
  readonly start?: string;
  readonly periodOverride?: string;
  readonly widgets: readonly Widget[];
}

/** The body as CloudWatch gets it. Alarms are left to this test: no policy names one. */
const body = ((): Body => {
  const { DashboardBody } = theResource(template, 'AWS::CloudWatch::Dashboard').Properties as {
    DashboardBody: { 'Fn::Join': [string, unknown[]] };
  };
  const [separator, parts] = DashboardBody['Fn::Join'];
  const known = parts.map((part) => {
    const id = (part as { 'Fn::GetAtt'?: [string, string] })['Fn::GetAtt']?.[0];
    return id !== undefined && template.Resources[id]?.Type === 'AWS::CloudWatch::Alarm' ? alarmArn(id) : part;
  });
  return JSON.parse(String(deployed(template, { 'Fn::Join': [separator, known] }))) as Body;
})();

/** Written out: in a line a dot stands for the namespace, name, dimension or value above it. */
function metricsOf({ properties }: Widget): string[][] {
  const lines: string[][] = [];
  for (const entry of properties.metrics ?? []) {
    const words = entry.filter((word) => typeof word === 'string');
    if (words.length > 0) {
      const above = lines.at(-1) ?? [];
      lines.push(words.map((word, index) => (word === '.' ? (above[index] ?? '') : word)));
    }
  }
  return lines;
}

const metrics = body.widgets.flatMap(metricsOf);
const titled = (title: RegExp) => {
  const [found, ...others] = body.widgets.filter(({ properties }) => title.test(properties.title ?? ''));
  if (found === undefined || others.length > 0) {
    throw new Error(`widgets like ${String(title)}: got ${found === undefined ? 'none' : 'several'}, expected 1`);
  }
  return found;
};

describe('the dashboard', () => {
  test('has the name of the cluster and of the region, since dashboards are global in an account', () => {
    const { DashboardName } = theResource(template, 'AWS::CloudWatch::Dashboard').Properties;
    expect(deployed(template, DashboardName)).toBe('etcd-backup-example-eu-central-1');
    expect(deployed(template, template.Outputs['DashboardName']?.Value)).toMatch(/Dashboard/);
  });

  test('answers in the order of what is asked at night', () => {
    expect(body.widgets.flatMap(({ properties }) => properties.markdown?.split('\n')[0] ?? [])).toEqual([
      '# example: is it safe now?',
      '## How old is the newest proof?',
      '## What would a restore take?',
      '## The newest backups, and how to restore one',
      '## How long does each phase take?',
      '## How large is it?',
      '## What is kept?',
      '## What failed?',
      '## Alarms, the last one that changed first',
    ]);
  });

  test('lies in the grid of 24 columns, no widget over another', () => {
    const taken = new Set<string>();
    for (const { x, y, width, height } of body.widgets) {
      expect(x + width).toBeLessThanOrEqual(24);
      for (let column = x; column < x + width; column++) {
        for (let row = y; row < y + height; row++) {
          expect(taken.has(`${String(column)},${String(row)}`)).toBe(false);
          taken.add(`${String(column)},${String(row)}`);
        }
      }
    }
  });

  // https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
  test('stays within the limits of CloudWatch', () => {
    expect(body.widgets.length).toBeLessThanOrEqual(500);
    expect(metrics.length).toBeLessThanOrEqual(2500);
    for (const widget of body.widgets) {
      expect(metricsOf(widget).length).toBeLessThanOrEqual(500);
      expect(widget.properties.alarms?.length ?? 0).toBeLessThanOrEqual(100);
    }
    expect(JSON.stringify(body).length).toBeLessThan(100_000);
  });

  test('shows a week, with the periods that the widgets have', () => {
    expect(body).toMatchObject({ start: '-P7D', periodOverride: 'inherit' });
  });

  test('shows every alarm, at the top those that ring first', () => {
    const alarms = resourcesOfType(template, 'AWS::CloudWatch::Alarm').map(([id]) => alarmArn(id));
    expect(alarms.length).toBeGreaterThan(10);
    const shown = body.widgets.filter(({ type }) => type === 'alarm');
    expect(shown.map(({ properties }) => [...(properties.alarms ?? [])].sort())).toEqual([
      [...alarms].sort(),
      [...alarms].sort(),
    ]);
    expect(shown[0]).toMatchObject({ y: 2, properties: { sortBy: 'stateUpdatedTimestamp' } });
  });

  test('shows no metric that nobody emits', () => {
    const emitted = emittedMetrics();
    const own = metrics.filter(([namespace]) => namespace === 'EtcdBackup');
    expect(own.length).toBeGreaterThan(60);
    for (const [, name = '', ...dimensions] of own) {
      expect({ name, emitted: emitted.has(name) }).toEqual({ name, emitted: true });
      expect(dimensions).toEqual(['cluster', 'example']);
    }
  });

  test('beside those shows what Step Functions says of its two machines', () => {
    const others = metrics.filter(([namespace]) => namespace !== 'EtcdBackup');
    const ids = resourcesOfType(template, 'AWS::StepFunctions::StateMachine').map(([id]) => machineArn(id));
    expect(new Set(others.map(([namespace, , dimension]) => [namespace, dimension].join(' ')))).toEqual(
      new Set(['AWS/States StateMachineArn']),
    );
    expect(new Set(others.map(([, , , value]) => value))).toEqual(new Set(ids));
    expect(new Set(others.map(([, name]) => name))).toEqual(
      new Set(['ExecutionsFailed', 'ExecutionsTimedOut', 'ExecutionsAborted']),
    );
  });

  test.each([
    ['freshness', ['VerifiedAgeSeconds', 'DrillAgeSeconds']],
    ['risks', ['UnverifiedObjects', 'KeysAtRisk', 'BucketAtRisk', 'SchedulesAtRisk']],
    ['a restore', ['DrillSeconds', 'RestoreDowntimeSeconds', 'DrillDownloadSeconds', 'DrillBootSeconds']],
    ['sizes', ['SnapshotBytes', 'CompressedBytes', 'Revision', 'LiveObjects']],
    ['classes', ['StoredHourly', 'StoredDaily', 'StoredWeekly', 'StoredMonthly', 'StoredLatest', 'StoredPending']],
    ['failures', ['VerifyFailed', 'DrillsFailed', 'RestoresFailed', 'RollbacksFailed', 'FindingSecretsInPlainText']],
  ])('shows what there is of %s', (_what, names) => {
    expect(metrics.map(([, name]) => name)).toEqual(expect.arrayContaining(names));
  });

  test('takes all metrics from the region that it is of', () => {
    for (const { type, properties } of body.widgets) {
      if (type === 'metric') {
        expect(properties.region).toBe(REGION);
      }
    }
  });

  test.each([
    [/newest verified backup/, 'VerifiedAgeSeconds', 'recovery point objective: 3 h'],
    [/without a drill that proved/, 'DrillAgeSeconds', 'too old: 24 h'],
  ])('draws the line beyond which the alarm on %s rings', (title, metricName, label) => {
    const [, alarm] =
      resourcesOfType(template, 'AWS::CloudWatch::Alarm').find(
        ([, { Properties }]) => Properties['MetricName'] === metricName,
      ) ?? [];
    const [line, ...others] = titled(title).properties.annotations?.horizontal ?? [];
    expect(others).toEqual([]);
    expect(line).toMatchObject({ label, value: Number(alarm?.Properties['Threshold']) / 3600 });
  });

  test('calls the function for the list of backups, also when it is resized', () => {
    const [id] =
      resourcesOfType(template, 'AWS::Lambda::Function').find(
        ([, resource]) => resource === theFunction(template, 'dashboard'),
      ) ?? [];
    const [widget, ...others] = body.widgets.filter(({ type }) => type === 'custom');
    expect(others).toEqual([]);
    expect(widget?.properties).toMatchObject({
      endpoint: `arn:aws:lambda:${REGION}:111122223333:function:${String(id)}`,
      updateOn: { refresh: true, resize: true, timeRange: false },
    });
  });
});

test('an alarm whose line is to be drawn has to be there', () => {
  const stack = new Stack(new App({ context: { 'aws:cdk:bundling-stacks': [] } }), 'Test');
  const [cluster] = readClusters([{ name: 'example', controlPlaneTags: { a: 'b' }, notify: 'nobody' }]);
  if (cluster === undefined) {
    throw new Error('no cluster');
  }
  const machine = (id: string) =>
    new StateMachine(stack, id, { definitionBody: DefinitionBody.fromChainable(new Pass(stack, `${id}Pass`)) });
  const alarm = new Alarm(stack, 'Alarm', {
    metric: new Metric({ namespace: 'EtcdBackup', metricName: 'VerifiedAgeSeconds' }),
    threshold: 1,
    evaluationPeriods: 1,
  });
  expect(
    () =>
      new Dashboard(stack, 'Dashboard', {
        cluster,
        store: new Store(stack, 'Store', { cluster }),
        planMachine: machine('Plan'),
        restoreMachine: machine('Restore'),
        alarms: { all: [alarm], watchDashboard: () => undefined },
      }),
  ).toThrow('alarm on DrillAgeSeconds: got none, expected one');
});

function may(action: string, resource: string, context: Record<string, string> = {}) {
  const [service] = action.split(':');
  const key = resource.split('/')[1] ?? '';
  return simulate({
    principal: roleArn(template, 'DashboardService'),
    action,
    resource,
    context,
    identityPolicies: policiesOf(template, 'DashboardService'),
    ...(service === 's3' ? { resourcePolicy: bucketPolicy(template) } : {}),
    ...(service === 'kms' && key in template.Resources ? { resourcePolicy: keyPolicy(template, key) } : {}),
  });
}

function encrypted(arn: string) {
  return { 'kms:EncryptionContext:aws:s3:arn': arn };
}

describe('the dashboard role', () => {
  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'DashboardService').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect([...new Set(actions)].sort()).toEqual([
      'kms:Decrypt',
      'kms:Verify',
      'logs:CreateLogStream',
      'logs:PutLogEvents',
      's3:GetObjectVersion',
      's3:GetObjectVersionTagging',
      's3:ListBucketVersions',
      'sqs:GetQueueAttributes',
      'sqs:GetQueueUrl',
      'sqs:SendMessage',
    ]);
  });

  test.each([
    ['see which snapshots are there', 's3:ListBucketVersions', BUCKET, { 's3:prefix': 'snapshots/' }],
    ['see the tag of a snapshot', 's3:GetObjectVersionTagging', SNAPSHOT, {}],
    ...['receipts', 'restores', 'drills'].flatMap((prefix): [string, string, string, Record<string, string>][] => [
      [`list ${prefix}`, 's3:ListBucketVersions', BUCKET, { 's3:prefix': `${prefix}/` }],
      [`get what is under ${prefix}/`, 's3:GetObjectVersion', `${BUCKET}/${prefix}/a.json`, {}],
      [`read it`, 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/${prefix}/a.json`)],
    ]),
    ['check the signature of a receipt', 'kms:Verify', RECEIPT_KEY, {}],
  ])('may %s', async (_what, action, resource, context) => {
    await expect(may(action, resource, context)).resolves.toBe('Allowed');
  });

  test.each([
    ['get a snapshot', 's3:GetObjectVersion', SNAPSHOT, {}],
    ['decrypt a snapshot', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(SNAPSHOT)],
    ['get the newest of a receipt', 's3:GetObject', `${BUCKET}/receipts/a.json`, {}],
    ['read an announcement', 'kms:Decrypt', SNAPSHOT_KEY, encrypted(`${BUCKET}/announcements/a.json`)],
    ['put a receipt', 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    ['put a drill', 's3:PutObject', `${BUCKET}/drills/a.json`, PUT],
    ['tag a snapshot', 's3:PutObjectVersionTagging', SNAPSHOT, { 's3:RequestObjectTag/retention': 'failed' }],
    ['lock a snapshot', 's3:PutObjectRetention', SNAPSHOT, {}],
    ['delete a snapshot', 's3:DeleteObjectVersion', SNAPSHOT, {}],
    ['sign a receipt', 'kms:Sign', RECEIPT_KEY, {}],
    ['use the key of announcements', 'kms:Verify', ANNOUNCEMENT_KEY, {}],
    ['start a restore', 'states:StartExecution', machineArn('RestoreMachine'), {}],
    ['call a function', 'lambda:InvokeFunction', `arn:aws:lambda:${REGION}:111122223333:function:any`, {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(may(action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });
});

describe('with PKI bundles', () => {
  const of = exampleTemplate({ pkiBundle: true });
  const may = (action: string, resource: string, context: Record<string, string> = {}) =>
    simulate({
      principal: roleArn(of, 'DashboardService'),
      action,
      resource,
      context,
      identityPolicies: policiesOf(of, 'DashboardService'),
      resourcePolicy: bucketPolicy(of),
    });

  test('the function knows when one is too old, which is when the alarm on them rings', () => {
    const { Variables } = theFunction(of, 'dashboard').Properties['Environment'] as {
      Variables: Record<string, string>;
    };
    const [, alarm] =
      resourcesOfType(of, 'AWS::CloudWatch::Alarm').find(
        ([, { Properties }]) => Properties['MetricName'] === 'PkiBundleStored',
      ) ?? [];
    const { Period, EvaluationPeriods } = alarm?.Properties ?? {};
    expect(Variables['PKI_TOO_OLD_SECONDS']).toBe(String(Number(Period) * Number(EvaluationPeriods)));
  });

  test('the role may see that they are there, and read none', async () => {
    const bundle = `${BUCKET}/pki/20261120T060000Z.tar.zst`;
    await expect(may('s3:ListBucketVersions', BUCKET, { 's3:prefix': 'pki/' })).resolves.toBe('Allowed');
    await expect(may('s3:GetObjectVersion', bundle)).resolves.not.toBe('Allowed');
    await expect(may('s3:GetObject', bundle)).resolves.not.toBe('Allowed');
  });
});

test('the role may not see bundles where the cluster keeps none', async () => {
  await expect(may('s3:ListBucketVersions', BUCKET, { 's3:prefix': 'pki/' })).resolves.not.toBe('Allowed');
});

test('the dashboard function gets the environment that its handler reads', () => {
  const { Variables } = theFunction(template, 'dashboard').Properties['Environment'] as { Variables: unknown };
  expect(deployed(template, Variables)).toEqual({
    BUCKET: 'bucket',
    BUCKET_OWNER: '111122223333',
    CLUSTER_NAME: 'example',
    DRILL_TOO_OLD_SECONDS: String(24 * 3600),
    EXPIRY:
      '{"days":{"pending":35,"failed":7,"hourly":2,"daily":7,"weekly":28,"monthly":186,"on-demand":30,"pre-restore":30},"noncurrentDays":7}',
    NODE_OPTIONS: '--enable-source-maps',
    POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
    POWERTOOLS_SERVICE_NAME: 'dashboard',
    RECEIPT_KEY_ARN: RECEIPT_KEY,
    RECOVERY_POINT_SECONDS: String(3 * 3600),
    RESTORE_MACHINE_ARN: expect.stringMatching(/:stateMachine:RestoreMachine/) as string,
    SNAPSHOT_KEY_ARN: SNAPSHOT_KEY,
  });
});
