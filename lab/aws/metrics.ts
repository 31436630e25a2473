/** One value of one metric, as CloudWatch reads it out of an EMF line. */
export interface Metric {
  readonly namespace: string;
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly timestamp: Date;
}

interface Emf {
  readonly _aws: {
    readonly Timestamp: number;
    readonly CloudWatchMetrics: readonly {
      readonly Namespace: string;
      readonly Dimensions: readonly (readonly string[])[];
      readonly Metrics: readonly { readonly Name: string; readonly Unit?: string }[];
    }[];
  };
  readonly [field: string]: unknown;
}

const parse = (line: string): Emf | undefined => {
  if (!line.startsWith('{')) return undefined;
  try {
    const value = JSON.parse(line) as Partial<Emf>;
    return value._aws === undefined ? undefined : (value as Emf);
  } catch {
    // A line that only starts as JSON does is a log line like any other.
    return undefined;
  }
};

/** The metrics in one line of a function's output; none when it is no EMF. Throws for EMF whose values are missing or no numbers. */
export const metricsOf = (line: string): Metric[] => {
  const emf = parse(line);
  if (emf === undefined) return [];
  return emf._aws.CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
    Metrics.flatMap(({ Name, Unit = 'None' }) => {
      const values = [emf[Name]].flat();
      if (!values.every((value): value is number => typeof value === 'number'))
        throw new Error(`EMF metric ${Name}: got ${JSON.stringify(emf[Name])}, expected numbers`);
      const dimensions = Object.fromEntries(
        (Dimensions[0] ?? []).map((dimension) => [dimension, String(emf[dimension])]),
      );
      return values.map((value) => ({
        namespace: Namespace,
        name: Name,
        unit: Unit,
        value,
        dimensions,
        timestamp: new Date(emf._aws.Timestamp),
      }));
    }),
  );
};
