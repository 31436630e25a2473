import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { bboltWrite, withTrailer, type BboltFile } from './bbolt-file';
import {
  duplicatePage,
  flipBit,
  garbleValue,
  Layout,
  Random,
  setField,
  smear,
  swapPages,
  TRAILER_BYTES,
  truncate,
  type Damaged,
} from './damage';
import { Judges, objectionTo } from './judges';

// npm run fuzz -- [--minutes 10] [--seed N] [--only N] [--reader MODULE]
// Damages sound bbolt files by their structure, gives them a trailer that fits, and holds the reader against bbolt. It ends with exit code 1
// when the reader crashed, hung, took too much memory, threw anything but a SnapshotDamagedError, took what bbolt refuses, or read another
// hash, revision, count or size than etcdutl does. The same seed makes the same files; `--only` makes one of them again, and keeps it;
// `--reader` is another module that exports readSnapshot: one that was broken on purpose must not pass.

const FILES: readonly BboltFile[] = [
  { shape: 'small', pageSize: 4096, as: 'snapshot' },
  { shape: 'nested', pageSize: 4096, as: 'snapshot' },
  { shape: 'overflow', pageSize: 4096, as: 'snapshot' },
  { shape: 'deep', pageSize: 4096, as: 'snapshot' },
  { shape: 'free', pageSize: 4096, as: 'file', freelist: 'hashmap' },
  { shape: 'free', pageSize: 4096, as: 'snapshot', freelist: 'none' },
  { shape: 'free', pageSize: 4096, as: 'snapshot' },
  { shape: 'small', pageSize: 16_384, as: 'file' },
  { shape: 'empty', pageSize: 65_536, as: 'snapshot' },
];
const AT_A_TIME = 48;
const REPORT_MS = 30_000;
/** Node and tsx take some 130 MB, the reader's window 8 MB. */
const MAX_RSS_BYTES = 400_000_000;

const KEPT = join(__dirname, '..', '.lab', 'fuzz');

/** One to four damages on top of each other, most of them to what the structure is made of. */
function damage(layout: Layout, random: Random): Damaged {
  const regions = [...layout.regions.keys()];
  const whole = random.below(40);
  if (whole === 0) return swapPages(layout, random);
  if (whole === 1) return duplicatePage(layout, random, true);
  if (whole === 2) return truncate(layout, 512 * random.below(layout.body.length / 512));
  const body = Buffer.from(layout.body);
  const done: string[] = [];
  for (let i = 1 + random.below(4); i > 0; i--) {
    const { what } = random.pick([
      () => setField(layout, random, body),
      () => setField(layout, random, body),
      () => setField(layout, random, body),
      () => garbleValue(layout, random, body),
      () => flipBit(layout, random, random.pick(regions), body),
      () => smear(layout, random, random.pick(regions), body),
    ])();
    done.push(what);
  }
  return { body, what: done.join('; ') };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string' },
      only: { type: 'string' },
      reader: { type: 'string' },
    },
  });
  const minutes = Number(values.minutes ?? 10);
  const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
  const only = values.only === undefined ? undefined : Number(values.only);
  if (!(minutes > 0) || !Number.isSafeInteger(seed) || (only !== undefined && !Number.isSafeInteger(only))) {
    throw new Error('expected --minutes, a number above 0, and --seed and --only, whole numbers');
  }
  const work = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const judges = new Judges(values.reader === undefined ? undefined : resolve(values.reader));
  const counts = new Map<string, number>();
  const findings: string[] = [];
  try {
    const layouts: Layout[] = [];
    for (const what of FILES) {
      const path = join(work, 'sound.db');
      await bboltWrite(path, what);
      layouts.push(new Layout(readFileSync(path).subarray(0, -TRAILER_BYTES)));
    }
    const execute = async (number: number) => {
      const random = new Random(Math.imul(seed + number, 0x9e37_79b1));
      const { body, what } = damage(random.pick(layouts), random);
      const path = join(work, `${String(number)}.db`);
      writeFileSync(path, withTrailer(body));
      const [reading, verdict] = await Promise.all([judges.read(path), judges.check(path)]);
      const outcome = objectionTo(reading, verdict);
      const name = outcome.objection === undefined ? outcome.outcome : 'FINDINGS';
      counts.set(name, (counts.get(name) ?? 0) + 1);
      if (outcome.objection !== undefined || only !== undefined) {
        mkdirSync(KEPT, { recursive: true });
        const kept = join(KEPT, `${String(seed)}-${String(number)}.db`);
        copyFileSync(path, kept);
        const finding = `--seed ${String(seed)} --only ${String(number)}: ${what}: ${outcome.objection ?? outcome.outcome} (${kept})`;
        if (outcome.objection !== undefined) findings.push(finding);
        process.stdout.write(`${finding}\n`);
      }
      rmSync(path);
    };
    const started = Date.now();
    let reported = started;
    let executions = 0;
    const report = () => {
      const seconds = (Date.now() - started) / 1000;
      const rows = [...counts].sort(([, a], [, b]) => b - a).map(([what, n]) => `${String(n).padStart(9)}  ${what}`);
      process.stdout.write(
        [
          `seed ${String(seed)}: ${String(executions)} files in ${seconds.toFixed(0)} s, reader at most ${(judges.maxRssBytes / 1e6).toFixed(0)} MB, ${String(findings.length)} findings`,
          ...rows,
          '',
        ].join('\n'),
      );
    };
    if (only !== undefined) {
      await execute(only);
      executions = 1;
    } else {
      const underWay = new Set<Promise<void>>();
      while (Date.now() - started < minutes * 60_000) {
        const done = execute(executions++);
        underWay.add(done);
        void done.finally(() => underWay.delete(done));
        if (underWay.size >= AT_A_TIME) await Promise.race(underWay);
        if (Date.now() - reported >= REPORT_MS) {
          reported = Date.now();
          report();
        }
      }
      await Promise.all(underWay);
    }
    report();
    if (judges.maxRssBytes > MAX_RSS_BYTES) {
      findings.push(
        `the reader took ${String(judges.maxRssBytes)} bytes of memory, expected at most ${String(MAX_RSS_BYTES)}`,
      );
      process.stdout.write(`${findings.at(-1) ?? ''}\n`);
    }
  } finally {
    judges.close();
    rmSync(work, { recursive: true });
  }
  process.exitCode = findings.length === 0 ? 0 : 1;
}

main().catch((error: unknown) => {
  process.stderr.write(`fuzz: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
