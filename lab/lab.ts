import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { daemonOf, isAlive, startDaemon, type Daemon } from './nodes/daemon';
import { attachControlPlane, removeControlPlane, type ControlPlane } from './nodes/control-plane';
import { loadData } from './nodes/load';
import { NODE_ENVIRONMENT } from './nodes/lab-node';
import { ETCD_MINORS, type EtcdMinor } from './nodes/tools';
import { controlPlaneDir, labDir, startLab } from './start-lab';

const USAGE = `npm run lab -- <command>

  up [--etcd 3.5|3.6|3.7] [--members 3] [--size 50MB] [--ipv6] [--host-names] [--no-etcdutl]
                         bring the lab up and leave it up (the command without a name does the same)
  status                 what is up, and how etcd is
  exec <node> -- <cmd>   run a command on a node; etcdctl and etcdutl have their environment, certificates included
  env                    shell lines for the AWS CLI and SDKs:  eval "$(npm run --silent lab -- env)"
  load --size 50MB [--secrets plain] [--seed 1]
                         fill etcd until its database has that size
  backup                 invoke the backup function once, as 'aws lambda invoke' with {} would; 'logs' shows the proof
  logs                   what the lab and its functions said so far
  down                   take it down without a trace

LAB_NAME in the environment names another lab beside 'lab'.`;

const READY = 'lab: ready';
const START_TIMEOUT_MS = 10 * 60_000;
const STOP_TIMEOUT_MS = 60_000;
const DEFAULT_SIZE = '50MB';

// What the process that holds the lab writes down for the others: itself at once, the rest when all is up.
interface DaemonFile {
  readonly daemon: Daemon;
}

interface LabFile extends DaemonFile {
  readonly environment: Readonly<Record<string, string>>;
  readonly endpoints: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
  readonly resources: Readonly<Record<string, string>>;
}

const NAME = process.env.LAB_NAME ?? 'lab';
const DIR = labDir(NAME);
// Beside the lab's directory, which goes away with the lab.
const DAEMON_FILE = `${DIR}.json`;
const LOG = `${DIR}.log`;

const parseSize = (text: string): number => {
  const match = /^(\d+(?:\.\d+)?)(KB|MB|GB|KiB|MiB|GiB)$/.exec(text);
  const units: Readonly<Record<string, number>> = {
    KB: 1e3,
    MB: 1e6,
    GB: 1e9,
    KiB: 2 ** 10,
    MiB: 2 ** 20,
    GiB: 2 ** 30,
  };
  const unit = units[match?.[2] ?? ''];
  if (match?.[1] === undefined || unit === undefined)
    throw new Error(`--size is '${text}', expected for example 50MB or 1GB`);
  return Math.round(Number(match[1]) * unit);
};

const readDaemonFile = (): DaemonFile | LabFile | undefined => {
  const file = existsSync(DAEMON_FILE) ? (JSON.parse(readFileSync(DAEMON_FILE, 'utf8')) as DaemonFile) : undefined;
  return file !== undefined && isAlive(file.daemon) ? file : undefined;
};

const writeDaemonFile = async (file: DaemonFile | LabFile): Promise<void> => {
  await writeFile(`${DAEMON_FILE}.next`, JSON.stringify(file, null, 2), { mode: 0o600 });
  await rename(`${DAEMON_FILE}.next`, DAEMON_FILE);
};

const readLab = (): LabFile => {
  const file = readDaemonFile();
  if (file === undefined) throw new Error("the lab is not up; bring it up with 'npm run lab'");
  if (!('environment' in file))
    throw new Error("the lab is still coming up; wait for it, or take it down with 'npm run lab -- down'");
  return file;
};

const attach = (): Promise<ControlPlane> => {
  readLab();
  return attachControlPlane(controlPlaneDir(DIR));
};

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const upOptions = (args: readonly string[]) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      etcd: { type: 'string', default: '3.6' },
      members: { type: 'string', default: '3' },
      size: { type: 'string', default: DEFAULT_SIZE },
      ipv6: { type: 'boolean', default: false },
      'host-names': { type: 'boolean', default: false },
      'no-etcdutl': { type: 'boolean', default: false },
    },
  });
  const etcd = ETCD_MINORS.find((minor) => minor === values.etcd);
  if (etcd === undefined) throw new Error(`--etcd is '${values.etcd}', expected ${ETCD_MINORS.join(', ')}`);
  return {
    sizeBytes: parseSize(values.size),
    lab: {
      etcd: etcd satisfies EtcdMinor,
      members: Number(values.members),
      ipFamily: values.ipv6 ? (6 as const) : (4 as const),
      hostNames: values['host-names'],
      ...(values['no-etcdutl'] ? { etcdutlInImage: false } : {}),
    },
  };
};

// The process in the background that the lab lives and dies with.
const serve = async (args: readonly string[]): Promise<void> => {
  const { lab: options, sizeBytes } = upOptions(args);
  let asked: () => void = () => undefined;
  const stop = new Promise<void>((resolve) => {
    asked = resolve;
  });
  process.on('SIGTERM', asked);
  process.on('SIGINT', asked);
  await writeDaemonFile({ daemon: daemonOf(process.pid) });
  const lab = await startLab({ ...options, name: NAME, onProgress: say });
  try {
    say(`loading ${String(Math.round(sizeBytes / 1e6))} MB of Kubernetes-like data`);
    const data = await loadData(lab.controlPlane, { sizeBytes });
    say(
      `loaded ${String(data.keys)} keys at revision ${String(data.revision)}, ${String(data.dbSize)} bytes, in ${String(data.seconds)} s`,
    );
    await writeDaemonFile({
      daemon: daemonOf(process.pid),
      environment: lab.aws.environment(),
      endpoints: { ...lab.aws.endpoints },
      outputs: Object.fromEntries(lab.aws.outputs),
      resources: Object.fromEntries(lab.aws.resources),
    });
    say(READY);
    // What the functions say goes where everything else of the lab does; the timer also keeps this process up.
    lab.aws.topics.onMessage(({ mails }) => {
      for (const { to, subject, text } of mails) say(`e-mail to ${to}: ${subject}\n${text.replaceAll(/^/gm, '  ')}`);
    });
    let shown = 0;
    const alive = setInterval(() => {
      for (const { logicalId, line } of lab.aws.logs.slice(shown)) say(`${logicalId}  ${line}`);
      shown = lab.aws.logs.length;
    }, 500);
    await stop;
    clearInterval(alive);
  } finally {
    await lab.down();
    await rm(DAEMON_FILE, { force: true });
  }
};

const printAccess = (controlPlane: ControlPlane, lab: LabFile): void => {
  say(`etcd ${controlPlane.etcdVersion} on ${String(controlPlane.nodes.length)} nodes:`);
  for (const node of controlPlane.nodes)
    say(
      `  ${node.name}  ${node.ip}  ${node.instanceId}  ${node.privateDnsName}   npm run lab -- exec ${node.name} -- etcdctl member list -w table`,
    );
  say('AWS side (account 000000000000, us-east-1):');
  for (const [name, url] of Object.entries(lab.endpoints)) say(`  ${name.padEnd(7)} ${url}`);
  for (const [id, ref] of Object.entries(lab.resources))
    if (/^(Bucket|\w+(Document|Function)[0-9A-F]{8}|Schedule[0-9A-F]{8})$/.test(id)) say(`  ${id}: ${ref}`);
  say('  AWS CLI and SDKs:   eval "$(npm run --silent lab -- env)"; aws s3 ls');
  say('A backup:             npm run lab -- backup');
  say('Take it down:         npm run lab -- down');
};

const up = async (args: readonly string[]): Promise<void> => {
  upOptions(args);
  if (readDaemonFile() !== undefined) {
    readLab();
    say('the lab is up already');
  } else {
    await mkdir(join(DIR, '..'), { recursive: true });
    await rm(LOG, { force: true });
    let shown = 0;
    const deadline = Date.now() + START_TIMEOUT_MS;
    const show = (): string => {
      const text = readFileSync(LOG, 'utf8');
      for (const line of text
        .slice(shown, text.lastIndexOf('\n') + 1)
        .split('\n')
        .slice(0, -1))
        if (line !== READY) say(line);
      shown = Math.max(shown, text.lastIndexOf('\n') + 1);
      return text;
    };
    const daemon = await startDaemon({
      argv: [process.execPath, '--import', require.resolve('tsx'), __filename, 'serve', ...args],
      log: LOG,
      persist: true,
      ready: () => existsSync(LOG),
    });
    for (;;) {
      const text = show();
      if (text.includes(`${READY}\n`)) break;
      if (!isAlive(daemon)) throw new Error(`the lab did not come up; ${LOG} has everything it said`);
      if (Date.now() > deadline)
        throw new Error(
          `the lab was not up after ${String(START_TIMEOUT_MS / 60_000)} minutes; look into ${LOG}, then 'npm run lab -- down'`,
        );
      await sleep(200);
    }
  }
  printAccess(await attach(), readLab());
};

const down = async (): Promise<void> => {
  const daemon = readDaemonFile()?.daemon;
  if (daemon !== undefined) {
    process.kill(daemon.pid, 'SIGTERM');
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    while (isAlive(daemon)) {
      if (Date.now() > deadline)
        throw new Error(
          `process ${String(daemon.pid)} of the lab did not end in 60 s; ${LOG} says why; end it with 'kill -9 ${String(daemon.pid)}' and take the lab down again`,
        );
      await sleep(100);
    }
  }
  // What a lab leaves whose process was killed.
  await removeControlPlane(controlPlaneDir(DIR));
  for (const path of [DIR, DAEMON_FILE, LOG]) await rm(path, { recursive: true, force: true });
  say('the lab is down');
};

const exec = async (args: readonly string[]): Promise<void> => {
  const [name, ...rest] = args;
  const argv = rest[0] === '--' ? rest.slice(1) : rest;
  if (name === undefined || argv.length === 0)
    throw new Error(`got 'exec ${args.join(' ')}', expected for example: exec cp1 -- etcdctl member list`);
  const node = (await attach()).node(name);
  // A real node has no etcdctl in its path; this is for people.
  const env = {
    ...NODE_ENVIRONMENT,
    ...node.etcdctlEnvironment,
    PATH: `${node.imageBin}:${NODE_ENVIRONMENT.PATH ?? ''}`,
    TERM: process.env.TERM ?? 'dumb',
  };
  const [command, ...commandArgs] = node.enter(argv);
  const result = spawnSync(command, commandArgs, { stdio: 'inherit', env, cwd: '/' });
  if (result.error !== undefined) throw result.error;
  process.exitCode = result.status ?? 128;
};

const status = async (): Promise<void> => {
  const lab = readLab();
  const controlPlane = await attach();
  printAccess(controlPlane, lab);
  const [node] = controlPlane.nodes;
  if (node !== undefined) {
    const result = await node.exec([`${node.imageBin}/etcdctl`, 'endpoint', 'status', '--cluster', '-w', 'table'], {
      env: node.etcdctlEnvironment,
    });
    say(result.stdout.trimEnd());
    if (result.code !== 0) throw new Error(`not every member answers: ${result.stderr.trim()}`);
  }
};

const env = (): void => {
  for (const [name, value] of Object.entries(readLab().environment)) say(`export ${name}='${value}'`);
};

const load = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: DEFAULT_SIZE },
      secrets: { type: 'string', default: 'encrypted' },
      seed: { type: 'string', default: '1' },
    },
  });
  if (values.secrets !== 'encrypted' && values.secrets !== 'plain')
    throw new Error(`--secrets is '${values.secrets}', expected encrypted or plain`);
  const summary = await loadData(await attach(), {
    sizeBytes: parseSize(values.size),
    plainSecrets: values.secrets === 'plain',
    seed: Number(values.seed),
  });
  say(JSON.stringify(summary, null, 2));
};

const backup = async (): Promise<void> => {
  const { environment, outputs } = readLab();
  const {
    AWS_ACCESS_KEY_ID: accessKeyId = '',
    AWS_SECRET_ACCESS_KEY: secretAccessKey = '',
    AWS_REGION: region = '',
    AWS_ENDPOINT_URL_LAMBDA: endpoint = '',
  } = environment;
  const client = new LambdaClient({ endpoint, region, credentials: { accessKeyId, secretAccessKey } });
  const answer = await client.send(
    new InvokeCommand({ FunctionName: outputs.BackupFunctionName, Payload: Buffer.from('{}') }),
  );
  say(Buffer.from(answer.Payload ?? []).toString());
  if (answer.FunctionError !== undefined)
    throw new Error(`the backup failed (${answer.FunctionError}); 'npm run lab -- logs' says more`);
};

const commands: Readonly<Record<string, (args: readonly string[]) => void | Promise<void>>> = {
  up,
  serve,
  down,
  status,
  exec,
  env,
  load,
  backup,
  logs: () => {
    process.stdout.write(readFileSync(LOG, 'utf8'));
  },
  help: () => {
    say(USAGE);
  },
};

const main = async (): Promise<void> => {
  const [name = 'up', ...args] = process.argv.slice(2);
  const command = commands[name];
  if (command === undefined) throw new Error(`got command '${name}', expected one of these:\n\n${USAGE}`);
  await command(args);
};

main().catch((error: unknown) => {
  process.stderr.write(
    `lab: ${error instanceof Error ? [error.message, error.cause instanceof Error ? error.cause.message : ''].join('\n').trim() : String(error)}\n`,
  );
  process.exitCode = 1;
});
