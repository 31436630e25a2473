import type { Metric } from './aws/metrics';

/** A state of an alarm, as CloudWatch names it. */
export type AlarmState = 'OK' | 'ALARM' | 'INSUFFICIENT_DATA';

/** An alarm that changed its state. */
export interface Transition {
  readonly alarm: string;
  readonly from: AlarmState;
  readonly to: AlarmState;
  readonly at: Date;
  /** Whether an action of the alarm is taken at this. */
  readonly acts: boolean;
}

/** What of a template is read. */
export interface AlarmTemplate {
  readonly Resources: Readonly<Record<string, { readonly Type: string; readonly Properties?: unknown }>>;
}

/** One value of one metric. */
export type Datapoint = Pick<Metric, 'namespace' | 'name' | 'dimensions' | 'value' | 'timestamp'>;

/** What time it is, and what was there before. */
export interface Clock {
  /** When the stack was deployed: alarms begin without data, but metrics from before count. */
  readonly from: Date;
  readonly until: Date;
  /**
   * How many data points more than EvaluationPeriods CloudWatch fetches. It says that it does, and not how many; its one example has 2.
   *
   * @default 2
   */
  readonly extraDatapoints?: number;
}

interface MetricStat {
  readonly namespace: string;
  readonly name: string;
  /** Names of the stack's resources are their logical ids. */
  readonly dimensions: Readonly<Record<string, string>>;
  readonly statistic: 'Sum' | 'Maximum' | 'Minimum' | 'Average';
}

interface AlarmDefinition {
  readonly name: string;
  /** What is added up; one: no expression. */
  readonly metrics: readonly MetricStat[];
  readonly periodMs: number;
  readonly evaluationPeriods: number;
  readonly datapointsToAlarm: number;
  readonly breaches: (value: number) => boolean;
  readonly missing: Treatment;
  readonly warmUpMs: number;
  readonly acts: Readonly<Record<AlarmState, boolean>>;
}

type Treatment = 'missing' | 'ignore' | 'breaching' | 'notBreaching';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * When which alarm of a synthesized template rings over these values of metrics: every setting is the template's. Where CloudWatch's pages
 * do not say how it does something, the table of their examples decides (test/lib/alarm-clock.test.ts). Throws for anything in an alarm
 * that it does not know, rather than leaving it out.
 */
export function runAlarms(template: AlarmTemplate, datapoints: readonly Datapoint[], clock: Clock): Transition[] {
  return alarmsOf(template)
    .flatMap((alarm) => run(alarm, datapoints, clock))
    .sort((one, other) => one.at.getTime() - other.at.getTime() || (one.alarm < other.alarm ? -1 : 1));
}

function run(alarm: AlarmDefinition, datapoints: readonly Datapoint[], clock: Clock): Transition[] {
  const { from, until, extraDatapoints = 2 } = clock;
  const series = alarm.metrics.map((metric): Series => {
    const points = datapoints
      .filter((point) => isOf(metric, point))
      .map(({ timestamp, value }) => ({ time: timestamp.getTime(), value }));
    return { metric, points: points.sort((one, other) => one.time - other.time) };
  });
  const span = alarm.periodMs * alarm.evaluationPeriods;
  // https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html: each minute over a window that slides; more than a
  // day only once an hour, up to the full hour.
  const step = span > DAY ? HOUR : MINUTE;
  const transitions: Transition[] = [];
  let state: AlarmState = 'INSUFFICIENT_DATA';
  let firstDataMs: number | undefined;
  // Once only: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-warm-up.html. Over after its time, or with a whole window
  // since the first value.
  let isWarm = false;
  for (let now = Math.ceil(from.getTime() / step) * step; now <= until.getTime(); now += step) {
    const range = Array.from({ length: alarm.evaluationPeriods + extraDatapoints }, (_, age) =>
      valueIn(series, now - (age + 1) * alarm.periodMs, now - age * alarm.periodMs),
    );
    if (firstDataMs === undefined && range[0] !== undefined) {
      firstDataMs = now;
    }
    isWarm ||=
      now - from.getTime() >= alarm.warmUpMs ||
      (firstDataMs !== undefined && now - firstDataMs >= span && range[0] !== undefined);
    if (!isWarm) {
      continue;
    }
    const next = evaluate(
      range.map((value) => (value === undefined ? 'missing' : alarm.breaches(value) ? 'breaching' : 'ok')),
      alarm,
      state,
    );
    if (next !== state) {
      transitions.push({ alarm: alarm.name, from: state, to: next, at: new Date(now), acts: alarm.acts[next] });
      state = next;
    }
  }
  return transitions;
}

/** One data point of an alarm, held against the threshold. */
export type Judged = 'ok' | 'breaching' | 'missing';

/**
 * The state that follows from the data points of the evaluation range, the newest first, as
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html has it.
 */
export function evaluate(
  range: readonly Judged[],
  settings: { readonly evaluationPeriods: number; readonly datapointsToAlarm: number; readonly missing: Treatment },
  state: AlarmState,
): AlarmState {
  const { evaluationPeriods, datapointsToAlarm, missing } = settings;
  const real = range.filter((point) => point !== 'missing');
  const breaching = (points: readonly Judged[]) => points.filter((point) => point === 'breaching').length;
  // Enough of them: what is missing between them does not count, and extra ones from farther back do only then.
  if (real.length >= evaluationPeriods) {
    return breaching(real.slice(0, evaluationPeriods)) >= datapointsToAlarm ? 'ALARM' : 'OK';
  }
  if (breaching(real) >= datapointsToAlarm) {
    return 'ALARM';
  }
  // All real ones are taken, and only as many are filled in as lack.
  const filled = evaluationPeriods - real.length;
  switch (missing) {
    case 'breaching':
      return breaching(real) + filled >= datapointsToAlarm ? 'ALARM' : 'OK';
    case 'notBreaching':
      return 'OK';
    case 'ignore':
      return real.includes('ok') ? 'OK' : state;
    case 'missing':
      if (real.includes('ok')) {
        return 'OK';
      }
      if (real.length === 0) {
        return 'INSUFFICIENT_DATA';
      }
      // Too few, and all of them breach: only when the oldest has waited for as many periods as it takes.
      return range.lastIndexOf('breaching') + 1 >= datapointsToAlarm ? 'ALARM' : state;
  }
}

interface Series {
  readonly metric: MetricStat;
  /** The oldest first. */
  readonly points: readonly { readonly time: number; readonly value: number }[];
}

/** What the metrics add up to within a period; undefined: none has a value there. */
function valueIn(series: readonly Series[], from: number, to: number): number | undefined {
  const values = series.flatMap(({ metric, points }) => {
    const inside = points.slice(firstFrom(points, from), firstFrom(points, to)).map(({ value }) => value);
    return inside.length === 0 ? [] : [statistic(metric.statistic, inside)];
  });
  // https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html: what is missing counts as 0 where another has a value.
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
}

/** Position of the first point that is not before `time`; days of values are looked at each minute. */
function firstFrom(points: Series['points'], time: number): number {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle]?.time ?? time) < time) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

function statistic(name: MetricStat['statistic'], values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  switch (name) {
    case 'Sum':
      return sum;
    case 'Maximum':
      return Math.max(...values);
    case 'Minimum':
      return Math.min(...values);
    case 'Average':
      return sum / values.length;
  }
}

function isOf({ namespace, name, dimensions }: MetricStat, point: Datapoint): boolean {
  const names = Object.keys(dimensions);
  return (
    point.namespace === namespace &&
    point.name === name &&
    Object.keys(point.dimensions).length === names.length &&
    names.every((dimension) => point.dimensions[dimension] === dimensions[dimension])
  );
}

/** The metrics that the alarms of a template watch, by alarm name: which values there are to give. */
export function watchedMetrics(template: AlarmTemplate): Record<string, readonly Omit<MetricStat, 'statistic'>[]> {
  return Object.fromEntries(alarmsOf(template).map(({ name, metrics }) => [name, metrics]));
}

const COMPARISONS: Readonly<Record<string, (value: number, threshold: number) => boolean>> = {
  GreaterThanThreshold: (value, threshold) => value > threshold,
  GreaterThanOrEqualToThreshold: (value, threshold) => value >= threshold,
  LessThanThreshold: (value, threshold) => value < threshold,
  LessThanOrEqualToThreshold: (value, threshold) => value <= threshold,
};

const KNOWN = [
  'ActionsEnabled',
  'AlarmActions',
  'AlarmDescription',
  'AlarmName',
  'ComparisonOperator',
  'DatapointsToAlarm',
  'Dimensions',
  'EvaluationPeriods',
  'InsufficientDataActions',
  'MetricName',
  'Metrics',
  'Namespace',
  'OKActions',
  'Period',
  'Statistic',
  'Tags',
  'Threshold',
  'TreatMissingData',
  'WarmUpConfiguration',
];

interface AlarmProperties {
  readonly ActionsEnabled?: boolean;
  readonly AlarmActions?: readonly unknown[];
  readonly AlarmName?: string;
  readonly ComparisonOperator: string;
  readonly DatapointsToAlarm?: number;
  readonly EvaluationPeriods: number;
  readonly InsufficientDataActions?: readonly unknown[];
  readonly Metrics?: readonly MetricQuery[];
  readonly OKActions?: readonly unknown[];
  readonly Threshold: number;
  readonly TreatMissingData?: Treatment;
  readonly WarmUpConfiguration?: {
    readonly WarmUpPeriodDurationInMinutes: number;
    readonly OnlyStartEvaluatingAfterWarmUpPeriodEnds?: boolean;
  };
}

interface PlainMetric {
  readonly Namespace: string;
  readonly MetricName: string;
  readonly Dimensions?: readonly { readonly Name: string; readonly Value: unknown }[];
}

interface MetricQuery {
  readonly Id: string;
  readonly Expression?: string;
  readonly Period?: number;
  readonly ReturnData?: boolean;
  readonly MetricStat?: { readonly Metric: PlainMetric; readonly Period: number; readonly Stat: string };
}

function alarmsOf({ Resources }: AlarmTemplate): AlarmDefinition[] {
  return Object.entries(Resources)
    .filter(([, { Type }]) => Type.startsWith('AWS::CloudWatch::') && Type.endsWith('Alarm'))
    .map(([id, { Type, Properties }]) => {
      const unknown = Object.keys(Properties as object).filter((name) => !KNOWN.includes(name));
      if (Type !== 'AWS::CloudWatch::Alarm' || unknown.length > 0) {
        throw new Error(
          `${id}: got ${Type}${unknown.length > 0 ? ` with ${unknown.join(', ')}` : ''}, expected an alarm with what this clock knows: ${KNOWN.join(', ')}`,
        );
      }
      return alarmOf(id, Properties as AlarmProperties);
    });
}

function alarmOf(id: string, properties: AlarmProperties): AlarmDefinition {
  const { ComparisonOperator, EvaluationPeriods, Threshold, WarmUpConfiguration } = properties;
  const compare = COMPARISONS[ComparisonOperator];
  if (compare === undefined || WarmUpConfiguration?.OnlyStartEvaluatingAfterWarmUpPeriodEnds === true) {
    throw new Error(`${id}: got ${ComparisonOperator} and a warm-up that waits, expected one that this clock knows`);
  }
  const enabled = properties.ActionsEnabled !== false;
  return {
    name: properties.AlarmName ?? id,
    ...metricsIn(id, properties),
    evaluationPeriods: EvaluationPeriods,
    datapointsToAlarm: properties.DatapointsToAlarm ?? EvaluationPeriods,
    breaches: (value) => compare(value, Threshold),
    missing: properties.TreatMissingData ?? 'missing',
    warmUpMs: (WarmUpConfiguration?.WarmUpPeriodDurationInMinutes ?? 0) * MINUTE,
    acts: {
      ALARM: enabled && (properties.AlarmActions ?? []).length > 0,
      OK: enabled && (properties.OKActions ?? []).length > 0,
      INSUFFICIENT_DATA: enabled && (properties.InsufficientDataActions ?? []).length > 0,
    },
  };
}

function metricsIn(id: string, properties: AlarmProperties): Pick<AlarmDefinition, 'metrics' | 'periodMs'> {
  const { Metrics } = properties;
  if (Metrics === undefined) {
    const { Period, Statistic, ...metric } = properties as unknown as PlainMetric & {
      readonly Period: number;
      readonly Statistic: string;
    };
    return { metrics: [metricStat(id, metric, Statistic)], periodMs: Period * 1000 };
  }
  const [result] = Metrics.filter(({ ReturnData }) => ReturnData !== false);
  const ids = /^SUM\(\[([a-zA-Z0-9_, ]+)\]\)$/.exec(result?.Expression ?? '')?.[1]?.split(/, */);
  const periods = new Set(Metrics.flatMap(({ MetricStat }) => MetricStat?.Period ?? []));
  const [period] = periods;
  if (ids === undefined || period === undefined || periods.size > 1) {
    throw new Error(
      `${id}: got the expression ${String(result?.Expression)} over periods of ${[...periods].join(' and ')} s, expected SUM([a, b]) over one period`,
    );
  }
  const metrics = ids.map((name) => {
    const stat = Metrics.find(({ Id }) => Id === name)?.MetricStat;
    if (stat === undefined) {
      throw new Error(`${id}: got ${name} in its expression, expected only metrics of the alarm`);
    }
    return metricStat(id, stat.Metric, stat.Stat);
  });
  return { metrics, periodMs: period * 1000 };
}

function metricStat(id: string, { Namespace, MetricName, Dimensions = [] }: PlainMetric, stat: string): MetricStat {
  if (stat !== 'Sum' && stat !== 'Maximum' && stat !== 'Minimum' && stat !== 'Average') {
    throw new Error(`${id}: got the statistic ${stat}, expected Sum, Maximum, Minimum or Average`);
  }
  return {
    namespace: Namespace,
    name: MetricName,
    dimensions: Object.fromEntries(Dimensions.map(({ Name, Value }) => [Name, nameIn(id, Value)])),
    statistic: stat,
  };
}

/** A text, or the logical id in `{ Ref }` and `{ "Fn::GetAtt": [id, …] }`. */
function nameIn(id: string, value: unknown): string {
  if (typeof value === 'string') {
    return value;
  }
  const { Ref, 'Fn::GetAtt': attribute } = value as {
    readonly Ref?: string;
    readonly 'Fn::GetAtt'?: readonly string[];
  };
  const name = Ref ?? attribute?.[0];
  if (name === undefined) {
    throw new Error(`${id}: got ${JSON.stringify(value)} as a dimension, expected a text, Ref or Fn::GetAtt`);
  }
  return name;
}
