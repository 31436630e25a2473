#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { describeError } from '../lambda/shared/errors';
import { receipt } from './receipt';
import { type CommandResult, verify } from './verify';

const USAGE = `npx etcd-backup verify FILE [--json]

Reads a snapshot of etcd and says whether it is sound: its SHA-256 trailer, every page, and every key's place. FILE may be one out of
the bucket (.db.zst, .db.gz), which is decompressed in the folder for temporary files (TMPDIR). Needs no etcd and no other program.

  --json        one line of JSON: hash, revision, totalKey and totalSize as 'etcdutl snapshot status -w json' has them, and all that
                was measured

npx etcd-backup receipt FILE --signature BASE64 --public-key PEM [--snapshot FILE]

Says whether a receipt is the one that was signed, and whether a snapshot is the one that it is about. Asks nobody.

  --signature   the receipt's metadata 'receipt-signature'
  --public-key  file with the receipt key's public part, kept with your configuration: one out of the bucket proves nothing
  --snapshot    a snapshot out of the bucket, or what it decompresses to

Exit codes: 0 sound, signed; 2 wrong arguments; 3 a file cannot be read; 10 to 19 damaged; 20 not signed, 21 another snapshot
(docs/snapshot-format.md says what each means).
`;

const OPTIONS = {
  json: { type: 'boolean' },
  signature: { type: 'string' },
  'public-key': { type: 'string' },
  snapshot: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

const FLAGS_OF: Readonly<Record<string, readonly string[]>> = {
  verify: ['json'],
  receipt: ['signature', 'public-key', 'snapshot'],
};

function parse(args: readonly string[]) {
  return parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
}

async function run(args: readonly string[]): Promise<CommandResult> {
  let parsed;
  try {
    parsed = parse(args);
  } catch (error) {
    return wrong([error instanceof Error ? error.message : String(error)]);
  }
  const { values, positionals } = parsed;
  if (values.help === true) {
    return { exitCode: 0, stdout: USAGE, stderr: '' };
  }
  const problems = problemsOf(parsed);
  const [command, file] = positionals;
  if (problems.length > 0 || file === undefined) {
    return wrong(problems);
  }
  try {
    if (command === 'verify') {
      return await verify({ file, json: values.json === true });
    }
    const { signature = '', 'public-key': publicKey = '', snapshot } = values;
    return await receipt({ file, signature, publicKey, ...(snapshot === undefined ? {} : { snapshot }) });
  } catch (error) {
    return {
      exitCode: 3,
      stdout: '',
      stderr: `${file}: got ${describeError(error)}, expected files that can be read\n`,
    };
  }
}

/** Everything that is wrong with the arguments, at once. */
function problemsOf({ values, positionals }: ReturnType<typeof parse>): string[] {
  const [command = '', ...files] = positionals;
  const flags = FLAGS_OF[command];
  if (flags === undefined) {
    return [`command: got '${command}', expected ${Object.keys(FLAGS_OF).join(' or ')}`];
  }
  return [
    ...(files.length === 1 ? [] : [`files: got ${String(files.length)}, expected one after '${command}'`]),
    ...Object.keys(values)
      .filter((name) => !flags.includes(name))
      .map(
        (name) => `--${name}: got it with '${command}', expected ${flags.map((flag) => `--${flag}`).join(', ')} only`,
      ),
    ...(command === 'receipt'
      ? (['signature', 'public-key'] as const)
          .filter((name) => values[name] === undefined)
          .map((name) => `--${name}: got nothing, expected it with 'receipt'`)
      : []),
  ];
}

function wrong(problems: readonly string[]): CommandResult {
  return { exitCode: 2, stdout: '', stderr: `${problems.join('\n')}\n\n${USAGE}` };
}

void run(process.argv.slice(2)).then((result) => {
  process.stdout.write(result.stdout);
  process.stderr.write(result.stderr);
  process.exitCode = result.exitCode;
});
