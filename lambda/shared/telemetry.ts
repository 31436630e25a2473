import { Logger } from '@aws-lambda-powertools/logger';
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics';

export { MetricUnit };

/** A unit of CloudWatch. */
export type Unit = (typeof MetricUnit)[keyof typeof MetricUnit];

/** What a field of a log line may be. */
export type Fields = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/**
 * Phases whose duration is in their log line only. A name that comes every hour costs $0.30 a month (docs/costs.md), and no graph and no alarm shows
 * these: they are short, or, as the audit, timed by AWS itself.
 */
export const ONLY_LOGGED: readonly string[] = [
  'announce',
  'audit',
  'claim',
  'identify',
  'nodes',
  'previous',
  'receipt',
];

/** One log line per phase, and metrics with the one dimension `cluster`. */
export interface Telemetry {
  /** A phase that ended well: a line, and its duration as metric `<Phase>Seconds`, unless it is one of ONLY_LOGGED. */
  phaseDone(phase: string, seconds: number, fields: Fields): void;
  /** A phase that ended in an error, which is thrown as well: a line, and its duration. */
  phaseFailed(phase: string, seconds: number, fields: Fields): void;
  measure(name: string, unit: Unit, value: number): void;
  /** Writes what was measured as one line of embedded metric format. */
  publish(): void;
}

/** Telemetry that writes to stdout, where Lambda sends it to the log group and CloudWatch reads metrics out of it. */
export function createTelemetry(cluster: string): Telemetry {
  const logger = new Logger({ persistentKeys: { cluster } });
  const metrics = new Metrics();
  // Powertools adds a dimension `service`; alarms then would have to name it too.
  metrics.clearDefaultDimensions();
  metrics.setDefaultDimensions({ cluster });

  const measureDuration = (phase: string, seconds: number) => {
    if (ONLY_LOGGED.includes(phase)) {
      return;
    }
    metrics.addMetric(`${phase.charAt(0).toUpperCase()}${phase.slice(1)}Seconds`, MetricUnit.Seconds, seconds);
  };
  return {
    phaseDone(phase, seconds, fields) {
      logger.info('phase done', { phase, seconds, ...fields });
      measureDuration(phase, seconds);
    },
    phaseFailed(phase, seconds, fields) {
      logger.error('phase failed', { phase, seconds, ...fields });
      measureDuration(phase, seconds);
    },
    measure(name, unit, value) {
      metrics.addMetric(name, unit, value);
    },
    publish() {
      metrics.publishStoredMetrics();
    },
  };
}
