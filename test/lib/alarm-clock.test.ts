import {
  type AlarmState,
  type AlarmTemplate,
  type Datapoint,
  evaluate,
  type Judged,
  runAlarms,
} from '../../lab/alarm-clock';

const POINTS: Readonly<Record<string, Judged>> = { '0': 'ok', X: 'breaching', '-': 'missing' };

/** As AWS writes it: the newest on the right. */
function range(points: string): Judged[] {
  return points
    .split(' ')
    .map((point) => POINTS[point] ?? 'missing')
    .reverse();
}

const RETAIN = 'as before';

// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html, row by row.
describe.each([
  {
    what: '3 of 3',
    datapointsToAlarm: 3,
    rows: [
      ['0 - X - X', 'OK', 'OK', 'OK', 'OK'],
      ['0 - - - -', 'OK', 'OK', 'OK', 'OK'],
      ['- - - - -', 'INSUFFICIENT_DATA', RETAIN, 'ALARM', 'OK'],
      ['0 X X - X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
      ['- - X - -', 'ALARM', RETAIN, 'ALARM', 'OK'],
    ],
  },
  {
    what: '2 of 3',
    datapointsToAlarm: 2,
    rows: [
      ['0 - X - X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
      ['0 0 X 0 X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
      ['0 - X - -', 'OK', 'OK', 'ALARM', 'OK'],
      ['- - - - 0', 'OK', 'OK', 'ALARM', 'OK'],
      ['- - - X -', 'ALARM', RETAIN, 'ALARM', 'OK'],
    ],
  },
])('an alarm of $what, of the five data points that AWS gives as examples,', ({ datapointsToAlarm, rows }) => {
  test.each(rows)('judges %s as AWS says', (points, ...expected) => {
    const treatments = ['missing', 'ignore', 'breaching', 'notBreaching'] as const;
    for (const before of ['OK', 'ALARM', 'INSUFFICIENT_DATA'] as const) {
      const states = treatments.map((missing) =>
        evaluate(range(points), { evaluationPeriods: 3, datapointsToAlarm, missing }, before),
      );
      expect(states).toEqual(expected.map((state) => (state === RETAIN ? before : state)));
    }
  });
});

test.each(['- - - - X', '- - - X -'])('an alarm of 3 of 3 waits with %s for what comes next, as AWS says', (points) => {
  expect(evaluate(range(points), { evaluationPeriods: 3, datapointsToAlarm: 3, missing: 'missing' }, 'OK')).toBe('OK');
});

test('an alarm of 2 of 3 does not wait when two breach already', () => {
  for (const missing of ['missing', 'ignore', 'breaching', 'notBreaching'] as const) {
    expect(evaluate(range('- - X - X'), { evaluationPeriods: 3, datapointsToAlarm: 2, missing }, 'OK')).toBe('ALARM');
  }
});

const START = Date.UTC(2026, 10, 21, 12);
const MINUTES = 60_000;

function at(minutes: number): Date {
  return new Date(START + minutes * MINUTES);
}

function points(...values: readonly (readonly [minutes: number, value: number, name?: string])[]): Datapoint[] {
  return values.map(([minutes, value, name = 'Age']) => ({
    namespace: 'Test',
    name,
    dimensions: { cluster: 'a' },
    value,
    timestamp: at(minutes),
  }));
}

function template(properties: object): AlarmTemplate {
  return {
    Resources: {
      Bucket: { Type: 'AWS::S3::Bucket' },
      Rings: {
        Type: 'AWS::CloudWatch::Alarm',
        Properties: {
          AlarmName: 'rings',
          AlarmActions: [{ Ref: 'Topic' }],
          ComparisonOperator: 'GreaterThanThreshold',
          EvaluationPeriods: 1,
          Threshold: 10,
          Namespace: 'Test',
          MetricName: 'Age',
          Dimensions: [{ Name: 'cluster', Value: 'a' }],
          Period: 300,
          Statistic: 'Maximum',
          ...properties,
        },
      },
    },
  };
}

function states(properties: object, data: readonly Datapoint[], minutes = 60): [AlarmState, number][] {
  return runAlarms(template(properties), data, { from: at(0), until: at(minutes) }).map(({ to, at: time }) => [
    to,
    (time.getTime() - START) / MINUTES,
  ]);
}

describe('the alarm clock', () => {
  test('evaluates each minute over a window that slides', () => {
    // At minute 6 the window is minutes 1 to 5; at 11 the value has left it, and 9 stands alone until it is out of the range.
    expect(states({}, points([2, 9], [5, 11], [9, 9], [14, 9], [19, 9]), 20)).toEqual([
      ['OK', 3],
      ['ALARM', 6],
      ['OK', 11],
    ]);
  });

  test('says whether an action is taken, by the state that the alarm goes to', () => {
    const transitions = runAlarms(template({}), points([0, 9], [5, 11]), { from: at(0), until: at(7) });
    expect(transitions.map(({ from, to, acts }) => [from, to, acts])).toEqual([
      ['INSUFFICIENT_DATA', 'OK', false],
      ['OK', 'ALARM', true],
    ]);
    const silent = runAlarms(template({ ActionsEnabled: false }), points([5, 11]), { from: at(0), until: at(7) });
    expect(silent.map(({ to, acts }) => [to, acts])).toEqual([['ALARM', false]]);
  });

  test('lets missing data breach only when the last value has left the range', () => {
    const { Resources } = template({ TreatMissingData: 'breaching' });
    const until = at(60);
    const after = (extraDatapoints: number) =>
      runAlarms({ Resources }, points([-1, 9], [4, 9]), { from: at(0), until, extraDatapoints })
        .filter(({ to }) => to === 'ALARM')
        .map(({ at: time }) => (time.getTime() - START) / MINUTES - 4);
    expect(after(2)).toEqual([16]);
    expect(after(1)).toEqual([11]);
    expect(after(0)).toEqual([6]);
  });

  test.each([
    ['Sum', 12],
    ['Maximum', 7],
    ['Minimum', 5],
    ['Average', 6],
  ])('takes the %s of a period', (Statistic, value) => {
    const data = points([1, 5], [2, 7]);
    expect(states({ Statistic, Threshold: value - 0.1 }, data, 3).at(-1)?.[0]).toBe('ALARM');
    expect(states({ Statistic, Threshold: value }, data, 3).at(-1)?.[0]).toBe('OK');
  });

  test.each([
    ['GreaterThanThreshold', 9, 10, 11],
    ['GreaterThanOrEqualToThreshold', 9, 10, 10],
    ['LessThanThreshold', 11, 10, 9],
    ['LessThanOrEqualToThreshold', 11, 10, 10],
  ])('compares by %s', (ComparisonOperator, well, Threshold, bad) => {
    expect(states({ ComparisonOperator, Threshold }, points([1, well]), 3).map(([state]) => state)).toEqual(['OK']);
    expect(states({ ComparisonOperator, Threshold }, points([1, bad]), 3).map(([state]) => state)).toEqual(['ALARM']);
  });

  test('evaluates more than a day once an hour, up to the full hour', () => {
    const day = { Period: 86_400, EvaluationPeriods: 3, DatapointsToAlarm: 1, TreatMissingData: 'notBreaching' };
    expect(states(day, points([2, 11]), 120)).toEqual([
      ['OK', 0],
      ['ALARM', 60],
    ]);
  });

  test('waits for a whole window of data while an alarm is new', () => {
    const warm = { TreatMissingData: 'breaching', WarmUpConfiguration: { WarmUpPeriodDurationInMinutes: 40 } };
    expect(states(warm, [], 60)).toEqual([['ALARM', 40]]);
    expect(states(warm, points([8, 9], [13, 9], [18, 9]), 20)).toEqual([['OK', 14]]);
    // Once it has begun, it does not wait again.
    expect(states(warm, points([8, 9], [13, 9]), 35)).toEqual([
      ['OK', 14],
      ['ALARM', 29],
    ]);
  });

  const SUM = {
    MetricName: undefined,
    Metrics: [
      { Id: 'sum', Expression: 'SUM([a, b])' },
      {
        Id: 'a',
        ReturnData: false,
        MetricStat: {
          Metric: { Namespace: 'Test', MetricName: 'Age', Dimensions: [{ Name: 'cluster', Value: 'a' }] },
          Period: 300,
          Stat: 'Sum',
        },
      },
      {
        Id: 'b',
        ReturnData: false,
        MetricStat: {
          Metric: { Namespace: 'Test', MetricName: 'Other', Dimensions: [{ Name: 'cluster', Value: { Ref: 'Name' } }] },
          Period: 300,
          Stat: 'Maximum',
        },
      },
    ],
  };

  test('adds metrics up, where what is missing beside another counts as 0, and dimensions may be names of resources', () => {
    const other = (minutes: number, value: number): Datapoint => ({
      namespace: 'Test',
      name: 'Other',
      dimensions: { cluster: 'Name' },
      value,
      timestamp: at(minutes),
    });
    expect(states(SUM, [...points([1, 6]), other(2, 5)], 3)).toEqual([
      ['OK', 2],
      ['ALARM', 3],
    ]);
    expect(states(SUM, [other(2, 11)], 3)).toEqual([['ALARM', 3]]);
    expect(states(SUM, [...points([1, 4]), other(2, 5), other(2, 4)], 3)).toEqual([['OK', 2]]);
  });

  test('does not take the value of another metric, nor of one with other dimensions', () => {
    const stranger = points([1, 11]).map((point) => ({ ...point, dimensions: { cluster: 'b' } }));
    const more = points([1, 11]).map((point) => ({ ...point, dimensions: { cluster: 'a', service: 'x' } }));
    expect(states({}, [...stranger, ...more, ...points([1, 11, 'Count'])], 5)).toEqual([]);
  });

  test.each<[string, object, RegExp]>([
    ['an expression', { Metrics: [{ Id: 'e', Expression: 'FILL(a, 0)' }] }, /got the expression FILL\(a, 0\)/],
    ['a comparison', { ComparisonOperator: 'GreaterThanUpperThreshold' }, /GreaterThanUpperThreshold/],
    ['a statistic', { Statistic: 'p99' }, /got the statistic p99/],
    ['a setting', { EvaluationWindow: {} }, /with EvaluationWindow/],
  ])('throws for %s that it does not know', (_what, properties, message) => {
    expect(() => states(properties, [])).toThrow(message);
  });

  test('throws for an alarm of another kind', () => {
    const { Resources } = template({});
    const composite = { Type: 'AWS::CloudWatch::CompositeAlarm', Properties: { AlarmRule: 'ALARM(rings)' } };
    expect(() =>
      runAlarms({ Resources: { ...Resources, Both: composite } }, [], { from: at(0), until: at(1) }),
    ).toThrow(/^Both: got AWS::CloudWatch::CompositeAlarm/);
  });
});
