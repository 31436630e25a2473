#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { describeError } from '../lambda/shared/errors';
import { type CommandResult, verify } from './verify';

const USAGE = `npx etcd-backup verify FILE [--json]

Reads a snapshot of etcd and says whether it is sound: its SHA-256 trailer, every page, and every key's place.
Needs no etcd and no other program, and changes nothing.

  --json   one line of JSON: hash, revision, totalKey and totalSize as 'etcdutl snapshot status -w json' has them, and all that was measured

Exit codes: 0 sound; 2 wrong arguments; 3 the file cannot be read; 10 to 19 damaged (docs/snapshot-format.md says what each means).
`;

function run(args: readonly string[]): CommandResult {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
    });
  } catch (error) {
    return { exitCode: 2, stdout: '', stderr: `${describeError(error)}\n\n${USAGE}` };
  }
  const { values, positionals } = parsed;
  if (values.help) {
    return { exitCode: 0, stdout: USAGE, stderr: '' };
  }
  const [command, file, ...rest] = positionals;
  if (command !== 'verify' || file === undefined || rest.length > 0) {
    return {
      exitCode: 2,
      stdout: '',
      stderr: `arguments: got '${positionals.join(' ')}', expected 'verify' and one file\n\n${USAGE}`,
    };
  }
  try {
    return verify({ file, json: values.json });
  } catch (error) {
    return {
      exitCode: 3,
      stdout: '',
      stderr: `${file}: got ${describeError(error)}, expected a file that can be read\n`,
    };
  }
}

const result = run(process.argv.slice(2));
process.stdout.write(result.stdout);
process.stderr.write(result.stderr);
process.exitCode = result.exitCode;
