import { createTelemetry, MetricUnit, ONLY_LOGGED } from '../../../lambda/shared/telemetry';

const environment = {
  POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
  POWERTOOLS_SERVICE_NAME: 'backup',
  POWERTOOLS_DEV: 'true',
  POWERTOOLS_METRICS_DISABLED: 'false',
};

beforeEach(() => {
  Object.assign(process.env, environment);
});

afterEach(() => {
  for (const name of Object.keys(environment)) {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- assigning undefined would set the text 'undefined'
    delete process.env[name];
  }
  jest.restoreAllMocks();
});

test('metrics are one line of embedded metric format with the one dimension cluster', () => {
  const lines: string[] = [];
  jest.spyOn(console, 'log').mockImplementation((line: string) => lines.push(line));
  jest.spyOn(console, 'info').mockReturnValue();
  const telemetry = createTelemetry('lab');

  telemetry.phaseDone('snapshot', 12.5, { revision: 7 });
  telemetry.measure('CompressedBytes', MetricUnit.Bytes, 9_000_000);
  telemetry.publish();

  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    _aws: {
      CloudWatchMetrics: [
        {
          Namespace: 'EtcdBackup',
          Dimensions: [['cluster']],
          Metrics: [
            { Name: 'SnapshotSeconds', Unit: 'Seconds' },
            { Name: 'CompressedBytes', Unit: 'Bytes' },
          ],
        },
      ],
    },
    cluster: 'lab',
    SnapshotSeconds: 12.5,
    CompressedBytes: 9_000_000,
  });
});

test.each(ONLY_LOGGED)('the duration of %s is in its line, and no metric that is paid for', (phase) => {
  const metrics: string[] = [];
  const lines: string[] = [];
  jest.spyOn(console, 'log').mockImplementation((line: string) => metrics.push(line));
  jest.spyOn(console, 'info').mockImplementation((line: string) => lines.push(line));
  jest.spyOn(console, 'error').mockImplementation((line: string) => lines.push(line));
  const telemetry = createTelemetry('lab');

  telemetry.phaseDone(phase, 12.5, {});
  telemetry.phaseFailed(phase, 2, {});
  telemetry.measure('CompressedBytes', MetricUnit.Bytes, 9_000_000);
  telemetry.publish();

  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { phase, seconds: 12.5 },
    { phase, seconds: 2 },
  ]);
  expect(JSON.parse(metrics[0] ?? '')).toMatchObject({
    _aws: { CloudWatchMetrics: [{ Metrics: [{ Name: 'CompressedBytes', Unit: 'Bytes' }] }] },
  });
});

test('a phase is one line of JSON: a constant message, and fields', () => {
  const lines: string[] = [];
  jest.spyOn(console, 'info').mockImplementation((line: string) => lines.push(line));
  jest.spyOn(console, 'error').mockImplementation((line: string) => lines.push(line));
  const telemetry = createTelemetry('lab');

  telemetry.phaseDone('snapshot', 12.5, { revision: 7, nodes: ['a', 'b'] });
  telemetry.phaseFailed('upload', 1, { error: 'StoreError: no' });

  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    {
      level: 'INFO',
      message: 'phase done',
      cluster: 'lab',
      phase: 'snapshot',
      seconds: 12.5,
      revision: 7,
      nodes: ['a', 'b'],
    },
    { level: 'ERROR', message: 'phase failed', cluster: 'lab', phase: 'upload', seconds: 1, error: 'StoreError: no' },
  ]);
});
