import { readdirSync, readFileSync } from 'node:fs';

const SAMPLE_MS = 100;

/** Highest sums of memory over the processes that were watched, each counted with its share of what it uses. */
export interface Peak {
  /** Memory of their own. */
  anonymousBytes: number;
  /** With what they have mapped of files. */
  mappedBytes: number;
}

/** One run of one of the two ways. */
export interface Measured {
  readonly seconds: number;
  readonly phases: Readonly<Record<string, number>>;
  readonly peak: Peak;
}

/** Watches the memory of the processes under a /proc, those of which `counts` holds, until it is stopped. */
export const watchMemory = (proc: string, counts: (pid: string) => boolean): { stop(): Peak } => {
  const peak: Peak = { anonymousBytes: 0, mappedBytes: 0 };
  const sample = (): void => {
    let anonymousBytes = 0;
    let mappedBytes = 0;
    for (const pid of readdirSync(proc).filter((entry) => /^\d+$/.test(entry))) {
      try {
        if (!counts(pid)) continue;
        const rollup = readFileSync(`${proc}/${pid}/smaps_rollup`, 'utf8');
        mappedBytes += Number(/^Pss: +(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
        anonymousBytes += Number(/^Pss_Anon: +(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
      } catch (error) {
        // It ended while we looked.
        if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      }
    }
    peak.anonymousBytes = Math.max(peak.anonymousBytes, anonymousBytes);
    peak.mappedBytes = Math.max(peak.mappedBytes, mappedBytes);
  };
  const timer = setInterval(sample, SAMPLE_MS);
  return {
    stop: () => {
      clearInterval(timer);
      return peak;
    },
  };
};

/** The middle one, or the mean of the two in the middle. NaN for none. */
export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
};

/** Whole megabytes (10^6). */
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;

/** The median of each phase that takes 0.05 s or more. */
export const medianPhases = (runs: readonly Measured[]): string =>
  Object.keys(runs[0]?.phases ?? {})
    .map((name) => [name, median(runs.map(({ phases }) => phases[name] ?? 0))] as const)
    .filter(([, seconds]) => seconds >= 0.05)
    .map(([name, seconds]) => `${name} ${seconds.toFixed(1)} s`)
    .join(', ');

/** The ratio of one way to the other: the median, and from where to where. */
export const ratio = (
  own: readonly Pick<Measured, 'seconds'>[],
  other: readonly Pick<Measured, 'seconds'>[],
): string => {
  const ratios = own.map(({ seconds }, index) => seconds / (other[index]?.seconds ?? NaN));
  return `${median(ratios).toFixed(2)} (from ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`;
};

/** Peak of memory as a line says it. */
export const peakOf = (runs: readonly Measured[]): string =>
  `${megabytes(median(runs.map(({ peak }) => peak.anonymousBytes)))} of its own, ${megabytes(median(runs.map(({ peak }) => peak.mappedBytes)))} with mapped files`;
