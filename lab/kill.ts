import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from './damage';
import {
  type Case,
  casesBack,
  casesOf,
  type End,
  type Outcome,
  runCase,
  Scripts,
  STATES,
  TELLING_CASES,
} from './faults';
import { loadData } from './nodes/load';
import type { EtcdMinor } from './nodes/tools';
import { backUp } from './restores';
import { type Lab, labDir, startLab } from './start-lab';

// npm run kill -- [--members 3] [--etcd 3.6] [--only PATTERN] [--seed N] [--minutes N] [--cdk-out FOLDER] [--list]
// Restores one backup again and again, and lets something go wrong in every state: the script killed, etcd killed, a node cut off, the function
// killed or timed out, the disk full, S3 gone, what was downloaded corrupted, the execution stopped. Each case has to end Restored, or with
// exactly what was there before, or with a cause that says what is left to do, which is then done. It ends with exit code 1 when one ends otherwise.
// `--only` takes a regular expression on names; `--minutes` begins no further case after that time; the same seed strikes at the same moments.

const DATA_BYTES = 5_000_000;
// A snapshot of a database in which etcd has grown its file needs 168 MB, and may fill four fifths.
const STAGING_BYTES = 300_000_000;
const KEPT = join(__dirname, '..', '.lab', 'kill');
// First: it shows how long each script takes, so that the others are killed somewhere in it.
const UNDISTURBED: Case = { name: 'nothing goes wrong', strikes: [] };

const allCases = (): readonly Case[] => [UNDISTURBED, ...TELLING_CASES, ...STATES.flatMap(casesOf), ...casesBack()];

/** The rows of a table, each column as wide as it has to be; the last one as it is. */
const line = ({ name, end, last, seconds, note }: Outcome): string =>
  `${name.padEnd(42)} ${end.padEnd(14)} ${last.padEnd(15)} ${seconds.toFixed(0).padStart(4)} s  ${end === 'OTHER' ? note : note.slice(0, 200)}\n`;

const report = (outcomes: readonly Outcome[], notRun: readonly Case[]): string => {
  const ends = [
    'Restored',
    'RestoredToTidy',
    'OldState',
    'LeftToDo',
    'ServedOn',
    'OTHER',
  ] as const satisfies readonly End[];
  const counts = ends.map((end) => `${String(outcomes.filter((outcome) => outcome.end === end).length)} ${end}`);
  return [
    '',
    `${String(outcomes.length)} cases: ${counts.join(', ')}`,
    ...(notRun.length === 0 ? [] : [`not run: ${notRun.map(({ name }) => name).join(', ')}`]),
    ...outcomes.filter(({ end }) => end === 'OTHER').map(({ name, note }) => `OTHER  ${name}: ${note}`),
    '',
  ].join('\n');
};

/** The last executions and their commands, to be read. */
const keep = ({ aws }: Lab, name: string): string => {
  mkdirSync(KEPT, { recursive: true });
  const file = join(KEPT, `${name.replaceAll(/[^A-Za-z0-9]+/g, '-')}.json`);
  const executions = aws.stateMachines.executions.slice(-2);
  const since = executions[0]?.startDate.getTime() ?? 0;
  const commands = aws.commands.commands
    .filter(({ requestedAt }) => requestedAt.getTime() >= since)
    .map(({ comment, requestedAt, invocations }) => ({ comment, requestedAt, invocations }));
  writeFileSync(
    file,
    JSON.stringify(
      {
        executions: executions.map(({ input, visits, ended }) => ({ input, visits, ended })),
        commands,
        log: aws.logs.slice(-500),
      },
      null,
      1,
    ),
  );
  return file;
};

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      members: { type: 'string' },
      etcd: { type: 'string' },
      only: { type: 'string' },
      seed: { type: 'string' },
      minutes: { type: 'string' },
      'cdk-out': { type: 'string' },
      list: { type: 'boolean' },
    },
  });
  const members = Number(values.members ?? 3);
  const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
  const minutes = Number(values.minutes ?? Infinity);
  if (!Number.isInteger(members) || !Number.isSafeInteger(seed) || !(minutes > 0))
    throw new Error('expected --members and --seed, whole numbers, and --minutes, a number above 0');
  const pattern = new RegExp(values.only ?? '');
  const cases = allCases().filter(({ name }) => pattern.test(name));
  if (cases.length === 0) throw new Error(`--only ${values.only ?? ''}: got no case of that name, see --list`);
  if (values.list === true) {
    process.stdout.write(cases.map(({ name }) => `${name}\n`).join(''));
    return;
  }
  process.stdout.write(`seed ${String(seed)}, ${String(cases.length)} cases\n`);
  const outcomes: Outcome[] = [];
  const lasted = new Map<string, number>();
  const started = Date.now();
  const left = [...cases];
  const isTime = (): boolean => left.length > 0 && Date.now() - started < minutes * 60_000;
  // What an OTHER leaves is no sound beginning for the next case.
  while (isTime()) {
    // A bucket that a run that was killed left would be another cluster's.
    rmSync(labDir('kl'), { recursive: true, force: true });
    const lab = await startLab({
      name: 'kl',
      members,
      etcd: (values.etcd ?? '3.6') as EtcdMinor,
      apiServer: true,
      stagingBytes: STAGING_BYTES,
      ...(values['cdk-out'] === undefined ? {} : { cdkOut: values['cdk-out'] }),
      aws: { lambda: { retryDelaysMs: [200, 200] }, states: { waitFactor: 0.1 } },
      onProgress: (sentence) => process.stdout.write(`${sentence}\n`),
    });
    try {
      await loadData(lab.controlPlane, { sizeBytes: DATA_BYTES });
      const proven = await backUp(lab);
      const scripts = new Scripts(lab, lasted);
      let end: End = 'Restored';
      while (end !== 'OTHER' && isTime()) {
        const next = left.shift();
        if (next === undefined) break;
        // Of its own for each case, so that --only strikes as the whole run does.
        const random = new Random(Buffer.from(next.name).reduce((sum, byte) => Math.imul(sum, 31) + byte, seed));
        const outcome = await runCase(lab, { case: next, proven, scripts, random });
        outcomes.push(outcome);
        process.stdout.write(line(outcome));
        ({ end } = outcome);
        if (end === 'OTHER') process.stdout.write(`what happened: ${keep(lab, `${String(seed)} ${next.name}`)}\n`);
      }
    } finally {
      await lab.down();
    }
  }
  process.stdout.write(report(outcomes, left));
  process.exitCode = outcomes.every(({ end }) => end !== 'OTHER') ? 0 : 1;
};

main().catch((error: unknown) => {
  process.stderr.write(`kill: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
