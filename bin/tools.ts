#!/usr/bin/env -S npx tsx
import { InvokeCommand, LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { TIMEOUTS } from '../lambda/shared/clients';
import { describeError } from '../lambda/shared/errors';
import type { OfficialTools } from '../lambda/shared/official-tools';

const RELEASES = 'https://github.com/etcd-io/etcd/releases/download';
const ARCHITECTURES: readonly string[] = ['amd64', 'arm64'];
const NAMES = ['etcd', 'etcdctl', 'etcdutl'] as const;

const USAGE = `npm run tools -- add <version> [--arch amd64,arm64] [--cluster NAME | --function NAME] [--from DIR | URL]

Puts the tools of an official etcd release into the backup bucket, for nodes whose etcd image lacks them.

  1. gets etcd-v<version>-linux-<arch>.tar.gz and SHA256SUMS, and checks the one against the other
  2. writes the hashes of etcd, etcdctl and etcdutl into lib/official-tools.json; a hash that is there already must be equal
  3. asks the cluster's backup function for upload URLs, which it gives only for hashes that it was deployed with, and uploads

So a new version takes two runs: run, commit lib/official-tools.json and deploy, run again.

  --arch      architectures, separated by commas; default: amd64,arm64
  --cluster   name of the cluster in bin/etcd-backup.ts; default: the one that is deployed, if it is the only one
  --function  name of its backup function (the stack's output BackupFunctionName) instead
  --from      a folder that holds the two files, or the URL of a mirror under which they lie in v<version>/;
              default: ${RELEASES}

AWS credentials and region come from the environment, as for the AWS CLI; the right needed is lambda:InvokeFunction on that function
(and lambda:ListFunctions without --function).`;

/** Wrong arguments, a release that is not what it says, or an upload that was refused. */
export class ToolsError extends Error {
  override readonly name = 'ToolsError';

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** What the command line asks for. */
export interface ToolsCommand {
  readonly version: string;
  readonly architectures: readonly string[];
  readonly cluster?: string;
  readonly functionName?: string;
  /** A folder, or the URL of a mirror. */
  readonly from: string;
}

/** What the command works with. */
export interface ToolsDeps {
  readonly lambda: LambdaClient;
  readonly fetch: typeof fetch;
  /** Path of the committed list. */
  readonly listPath: string;
  readonly print: (line: string) => void;
}

/** One tool of a release; `bytes` are its content. */
export interface Tool {
  readonly name: string;
  readonly sha256: string;
  readonly bytes: Buffer;
}

/** Reads the command line; undefined when it asks for help. Throws ToolsError with every problem. */
export function parseCommand(args: readonly string[]): ToolsCommand | undefined {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        arch: { type: 'string', default: ARCHITECTURES.join(',') },
        cluster: { type: 'string' },
        function: { type: 'string' },
        from: { type: 'string', default: RELEASES },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new ToolsError(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`, error);
  }
  const { values, positionals } = parsed;
  if (values.help || positionals.length === 0) {
    return undefined;
  }
  const [verb, version = '', ...rest] = positionals;
  const architectures = values.arch.split(',');
  const problems = [
    ...(verb === 'add' ? [] : [`command: got '${String(verb)}', expected 'add'`]),
    ...(/^v?\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(version) ? [] : [`version: got '${version}', expected one such as 3.6.5`]),
    ...rest.map((extra) => `argument: got '${extra}', expected none after the version`),
    ...architectures.flatMap((arch) =>
      ARCHITECTURES.includes(arch) ? [] : [`--arch: got '${arch}', expected ${ARCHITECTURES.join(' or ')}`],
    ),
    ...(values.cluster !== undefined && values.function !== undefined
      ? [`--cluster and --function: got both, expected one of them`]
      : []),
  ];
  if (problems.length > 0) {
    throw new ToolsError(`${problems.join('\n')}\n\n${USAGE}`);
  }
  return {
    version: version.replace(/^v/, ''),
    architectures: [...new Set(architectures)],
    ...(values.cluster === undefined ? {} : { cluster: values.cluster }),
    ...(values.function === undefined ? {} : { functionName: values.function }),
    from: values.from,
  };
}

/** Adds the tools of a release to the committed list and to the bucket. Throws ToolsError, before anything is written when the release is wrong. */
export async function addTools(deps: ToolsDeps, command: ToolsCommand): Promise<void> {
  const byArch = new Map<string, Tool[]>();
  for (const arch of command.architectures) {
    byArch.set(arch, await readRelease(deps, command, arch));
  }
  await addToList(deps, command.version, byArch);
  const functionName = command.functionName ?? (await findFunction(deps, command.cluster));
  for (const [arch, tools] of byArch) {
    await uploadTools(deps, { functionName, version: command.version, arch, tools });
  }
}

async function readRelease(deps: ToolsDeps, { from, version }: ToolsCommand, arch: string): Promise<Tool[]> {
  const release = `etcd-v${version}-linux-${arch}`;
  const tarball = `${release}.tar.gz`;
  const sums = (await readFrom(deps, from, version, 'SHA256SUMS')).toString('utf8');
  const expected = sums
    .split('\n')
    .map((line) => /^([0-9a-f]{64})\s+\*?(\S+)$/.exec(line.trim()))
    .find((line) => line?.[2] === tarball)?.[1];
  if (expected === undefined) {
    throw new ToolsError(
      `SHA256SUMS from ${from}: got no line for ${tarball}, expected one; check the version and the mirror`,
    );
  }
  const bytes = await readFrom(deps, from, version, tarball);
  const sha256 = sha256Of(bytes);
  if (sha256 !== expected) {
    throw new ToolsError(
      `${tarball} from ${from}: got SHA-256 ${sha256}, expected ${expected} as SHA256SUMS says; nothing was written; get it again, or from elsewhere`,
    );
  }
  deps.print(`${tarball}: ${String(bytes.length)} bytes, SHA-256 as in SHA256SUMS`);

  const folder = await mkdtemp(join(tmpdir(), 'etcd-tools-'));
  try {
    const path = join(folder, tarball);
    await writeFile(path, bytes);
    await promisify(execFile)('tar', ['-xzf', path, '-C', folder, ...NAMES.map((name) => `${release}/${name}`)]);
    const tools: Tool[] = [];
    for (const name of NAMES) {
      const content = await readFile(join(folder, release, name));
      tools.push({ name, sha256: sha256Of(content), bytes: content });
    }
    return tools;
  } catch (error) {
    throw new ToolsError(
      `${tarball} from ${from}: got ${describeError(error).trim()}, expected a tarball with ${NAMES.join(', ')} in ${release}/; check the mirror, and that tar is installed`,
      error,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readFrom({ fetch, print }: ToolsDeps, from: string, version: string, file: string): Promise<Buffer> {
  if (!/^https?:\/\//.test(from)) {
    try {
      return await readFile(join(from, file));
    } catch (error) {
      throw new ToolsError(
        `${join(from, file)}: got ${describeError(error)}, expected the file of the official release; download it into that folder`,
        error,
      );
    }
  }
  const url = `${from.replace(/\/+$/, '')}/v${version}/${file}`;
  print(`getting ${url}`);
  let answer;
  try {
    answer = await fetch(url);
  } catch (error) {
    throw new ToolsError(
      `${url}: got no answer (${error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error)}), expected the file; check the network, or give a folder or a mirror with --from`,
      error,
    );
  }
  if (!answer.ok) {
    throw new ToolsError(
      `${url}: got HTTP ${String(answer.status)}, expected 200; check the version, or give a mirror with --from`,
    );
  }
  return Buffer.from(await answer.arrayBuffer());
}

async function addToList(
  deps: ToolsDeps,
  version: string,
  byArch: ReadonlyMap<string, readonly Tool[]>,
): Promise<void> {
  const list = JSON.parse(await readFile(deps.listPath, 'utf8')) as Record<
    string,
    Record<string, Record<string, string>>
  >;
  const different: string[] = [];
  let added = 0;
  for (const [arch, tools] of byArch) {
    for (const { name, sha256 } of tools) {
      const known = list[version]?.[arch]?.[name];
      if (known === undefined) {
        ((list[version] ??= {})[arch] ??= {})[name] = sha256;
        added += 1;
      } else if (known !== sha256) {
        different.push(`${name} ${version} (${arch}): got SHA-256 ${sha256}, expected ${known}`);
      }
    }
  }
  if (different.length > 0) {
    throw new ToolsError(
      `${different.join('\n')}\nas ${deps.listPath} says; a release never changes: find out where this one comes from; nothing was written`,
    );
  }
  if (added > 0) {
    await writeFile(deps.listPath, `${JSON.stringify(inOrder(list), null, 2)}\n`);
  }
  deps.print(
    `${deps.listPath}: ${added === 0 ? 'has these hashes already' : `${String(added)} hashes added, commit it`}`,
  );
}

/** Versions by number, the rest by name, so that the file's diff shows what was added. */
function inOrder(list: OfficialTools): OfficialTools {
  const byName = <T>(record: Readonly<Record<string, T>>): Record<string, T> =>
    Object.fromEntries(Object.entries(record).sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true })));
  return byName(
    Object.fromEntries(
      Object.entries(list).map(([version, byArch]) => [
        version,
        byName(Object.fromEntries(Object.entries(byArch).map(([arch, tools]) => [arch, byName(tools)]))),
      ]),
    ),
  );
}

async function findFunction({ lambda }: ToolsDeps, cluster: string | undefined): Promise<string> {
  const found: { readonly name: string; readonly cluster: string }[] = [];
  let marker: string | undefined;
  do {
    let answer;
    try {
      answer = await lambda.send(new ListFunctionsCommand(marker === undefined ? {} : { Marker: marker }));
    } catch (error) {
      throw new ToolsError(
        `lambda:ListFunctions: got ${describeError(error)}, expected the deployed functions; check credentials and region, or give --function`,
        error,
      );
    }
    for (const { FunctionName, Environment } of answer.Functions ?? []) {
      const variables = Environment?.Variables ?? {};
      if (
        FunctionName !== undefined &&
        variables['POWERTOOLS_METRICS_NAMESPACE'] === 'EtcdBackup' &&
        variables['POWERTOOLS_SERVICE_NAME'] === 'backup'
      ) {
        found.push({ name: FunctionName, cluster: variables['CLUSTER_NAME'] ?? '' });
      }
    }
    marker = answer.NextMarker;
  } while (marker !== undefined && marker !== '');
  const candidates = cluster === undefined ? found : found.filter((entry) => entry.cluster === cluster);
  const [only, ...others] = candidates;
  if (only === undefined) {
    throw new ToolsError(
      `backup function${cluster === undefined ? '' : ` of cluster ${cluster}`}: got none in this account and region (clusters: ${found.map((entry) => entry.cluster).join(', ') || 'none'}), expected one; deploy first, then run this again`,
    );
  }
  if (others.length > 0) {
    throw new ToolsError(
      `backup function: got those of ${candidates.map((entry) => `${entry.cluster} (${entry.name})`).join(', ')}, expected one; choose with --cluster or --function`,
    );
  }
  return only.name;
}

interface Upload {
  readonly name: string;
  readonly key: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

async function uploadTools(
  deps: ToolsDeps,
  request: {
    readonly functionName: string;
    readonly version: string;
    readonly arch: string;
    readonly tools: readonly Tool[];
  },
): Promise<void> {
  const { version, arch, tools } = request;
  const uploads = await requestUploads(deps, request.functionName, {
    version,
    arch,
    files: tools.map(({ name, sha256, bytes }) => ({ name, sha256, bytes: bytes.length })),
  });
  for (const { name, key, url, headers } of uploads) {
    const tool = tools.find((candidate) => candidate.name === name);
    if (tool === undefined) {
      throw new ToolsError(
        `answer of ${request.functionName}: got a URL for '${name}', expected only ${tools.map((item) => item.name).join(', ')}; deploy this version of the project`,
      );
    }
    const answer = await deps.fetch(url, { method: 'PUT', headers, body: new Uint8Array(tool.bytes) });
    const body = await answer.text();
    if (answer.status === 412) {
      deps.print(`${key}: already there`);
    } else if (answer.ok) {
      deps.print(`${key}: uploaded`);
    } else {
      throw new ToolsError(
        `PUT of ${key}: got HTTP ${String(answer.status)} ${/<Code>([^<]*)<\/Code>/.exec(body)?.[1] ?? ''} ${/<Message>([^<]*)<\/Message>/.exec(body)?.[1] ?? body.slice(0, 200)}, expected 200; check the bucket's policy and the key's, and this machine's clock`,
      );
    }
  }
}

async function requestUploads({ lambda }: ToolsDeps, functionName: string, tools: object): Promise<Upload[]> {
  let answer;
  try {
    answer = await lambda.send(
      new InvokeCommand({ FunctionName: functionName, Payload: Buffer.from(JSON.stringify({ tools })) }),
    );
  } catch (error) {
    throw new ToolsError(
      `lambda:InvokeFunction of ${functionName}: got ${describeError(error)}, expected upload URLs; check credentials, region and name`,
      error,
    );
  }
  const payload = Buffer.from(answer.Payload ?? []).toString('utf8');
  if (answer.FunctionError !== undefined) {
    const { errorType, errorMessage } = JSON.parse(payload) as { errorType?: string; errorMessage?: string };
    throw new ToolsError(
      errorType === 'ToolNotOfficialError'
        ? `the deployed function ${functionName} does not know these hashes yet: commit lib/official-tools.json and deploy first, then run this again (${String(errorMessage)})`
        : `${functionName}: got ${String(errorType)}: ${String(errorMessage)}, expected upload URLs; see its log`,
    );
  }
  const { uploads } = JSON.parse(payload) as { uploads?: Upload[] };
  if (uploads === undefined) {
    throw new ToolsError(
      `answer of ${functionName}: got ${payload.slice(0, 200)}, expected upload URLs; deploy this version of the project`,
    );
  }
  return uploads;
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function main(): Promise<void> {
  try {
    const command = parseCommand(process.argv.slice(2));
    if (command === undefined) {
      console.log(USAGE);
      return;
    }
    await addTools(
      {
        lambda: new LambdaClient(TIMEOUTS),
        fetch,
        listPath: join(__dirname, '..', 'lib', 'official-tools.json'),
        print: (line) => {
          console.log(line);
        },
      },
      command,
    );
  } catch (error) {
    if (!(error instanceof ToolsError)) {
      throw error;
    }
    console.error(error.message);
    process.exitCode = 1;
  }
}

if (require.main === module) {
  void main();
}
