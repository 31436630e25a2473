import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { FleetNode } from './fleet';
import { handsOverEnvironment, type SsmDocument } from './ssm-document';

const STDOUT_CHARACTERS = 24_000;
const STDERR_CHARACTERS = 8_000;
const SUCCESS_AND_STOP = 168;
const SUCCESS_AND_REBOOT = 194;
const STOPPED_BY_SIGNAL = 137;
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** How a step ended, as the agent reports it. */
export interface StepResult {
  readonly status: 'Success' | 'Failed' | 'TimedOut';
  readonly statusDetails: 'Success' | 'Failed' | 'ExecutionTimedOut';
  readonly responseCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Exit code 194: the agent would reboot the node now. */
  readonly reboot: boolean;
}

/** The start of a stream; what exceeds it is read and dropped, as a full pipe would stop the script. */
class Head {
  #text = '';

  constructor(
    stream: NodeJS.ReadableStream | null,
    private readonly limit: number,
  ) {
    stream?.setEncoding('utf8');
    stream?.on('data', (chunk: string) => {
      this.#text += chunk.slice(0, this.limit - this.#text.length);
    });
  }

  text(): string {
    return this.#text;
  }
}

const ended = async (child: ChildProcess): Promise<number> => {
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  if (code !== null) return code;
  // A program ended by SIGKILL or SIGTERM is what the agent calls stopped; by any other signal it has no exit code.
  return signal === 'SIGKILL' || signal === 'SIGTERM' ? STOPPED_BY_SIGNAL : -1;
};

/** Exit code to status, as `pluginutil.GetStatus` of the agent maps them. */
const judge = (code: number): Pick<StepResult, 'status' | 'statusDetails' | 'reboot'> => {
  if (code === 0 || code === SUCCESS_AND_STOP) return { status: 'Success', statusDetails: 'Success', reboot: false };
  if (code === SUCCESS_AND_REBOOT) return { status: 'Success', statusDetails: 'Success', reboot: true };
  if (code === STOPPED_BY_SIGNAL) return { status: 'TimedOut', statusDetails: 'ExecutionTimedOut', reboot: false };
  return { status: 'Failed', statusDetails: 'Failed', reboot: false };
};

const environment = (
  node: FleetNode,
  commandId: string,
  region: string,
  parameters: Readonly<Record<string, string>>,
): Record<string, string> => ({
  PATH: SYSTEM_PATH,
  LANG: 'C.UTF-8',
  SSM_COMMAND_ID: commandId,
  AWS_SSM_INSTANCE_ID: node.instanceId,
  AWS_SSM_REGION_NAME: region,
  AWS_SSM_PLATFORM_NAME: 'Linux',
  AWS_SSM_PLATFORM_VERSION: 'lab',
  ...(handsOverEnvironment(node.agentVersion)
    ? Object.fromEntries(Object.entries(parameters).map(([name, value]) => [`SSM_${name}`, value]))
    : {}),
});

const killGroup = (child: ChildProcess): void => {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    // Gone between the timer and here.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
};

/** Runs a document's step in a node as the agent does: script file, `sh -c`, its environment, SIGKILL to the group at the time limit. */
export const runStep = async (options: {
  readonly node: FleetNode;
  readonly document: SsmDocument;
  readonly commandId: string;
  readonly region: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}): Promise<StepResult> => {
  const { node, document, commandId } = options;
  const env = environment(node, commandId, options.region, options.parameters);
  const root = node.orchestrationDir ?? `/var/lib/amazon/ssm/${node.instanceId}/document/orchestration`;
  const folder = `${root}/${commandId}/awsrunShellScript/${document.step}`;

  const writer = node.spawn(
    ['sh', '-c', 'umask 077 && mkdir -p "$0" && cat > "$0/_script.sh" && chmod 700 "$0/_script.sh"', folder],
    { env: { PATH: SYSTEM_PATH } },
  );
  const complaint = new Head(writer.stderr, STDERR_CHARACTERS);
  writer.stdin?.end(`${document.script}\n`);
  const written = await ended(writer);
  if (written !== 0) {
    return {
      status: 'Failed',
      statusDetails: 'Failed',
      responseCode: 1,
      stdout: '',
      stderr: `failed to write the script to ${folder}: ${complaint.text()}`,
      reboot: false,
    };
  }

  const child = node.spawn(['sh', '-c', `${folder}/_script.sh`], { env });
  const stdout = new Head(child.stdout, STDOUT_CHARACTERS);
  const stderr = new Head(child.stderr, STDERR_CHARACTERS);
  child.stdin?.end();
  const limit = { passed: false };
  const timer = setTimeout(() => {
    limit.passed = true;
    killGroup(child);
  }, options.timeoutMs);
  const code = await ended(child).finally(() => {
    clearTimeout(timer);
  });
  const responseCode = limit.passed ? STOPPED_BY_SIGNAL : code;
  return { ...judge(responseCode), responseCode, stdout: stdout.text(), stderr: stderr.text() };
};
