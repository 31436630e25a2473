import { spawn } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from './failure';

/** How a binary ended. */
export interface Ended {
  /** null: by a signal. */
  readonly code: number | null;
  /** The last line that it wrote to stderr: printable ASCII, at most 300 characters. */
  readonly said: string;
}

export interface RunOptions {
  readonly cwd: string;
  /** Ends the binary with SIGKILL. */
  readonly signal: AbortSignal;
  readonly onOutput?: (chunk: Buffer) => void;
}

/** For binaries of nodes: neither the function's credentials nor a stray ETCDCTL_ variable, which is fatal beside flags. */
export const BARE_ENVIRONMENT = { PATH: '/nonexistent', HOME: '/nonexistent', ETCDCTL_API: '3' };

const MAX_STDERR_BYTES = 16 * 1024;
const MAX_SAID = 300;

/** Runs a binary to its end. Throws when it cannot be started, when `onOutput` throws, and the signal's reason. */
export async function runTool(file: string, args: readonly string[], options: RunOptions): Promise<Ended> {
  const child = spawn(file, args, {
    cwd: options.cwd,
    env: BARE_ENVIRONMENT,
    stdio: ['ignore', options.onOutput === undefined ? 'ignore' : 'pipe', 'pipe'],
    signal: options.signal,
    killSignal: 'SIGKILL',
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // Awaited below; until then a failure to start is nobody's.
  ended.catch(() => undefined);
  let stderr = Buffer.alloc(0);
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = Buffer.concat([stderr, chunk]).subarray(-MAX_STDERR_BYTES);
  });
  try {
    for await (const chunk of child.stdout ?? []) {
      options.onOutput?.(chunk as Buffer);
    }
  } catch (error) {
    child.kill('SIGKILL');
    options.signal.throwIfAborted();
    throw error;
  }
  try {
    return { code: await ended, said: lastLine(stderr) };
  } catch (error) {
    options.signal.throwIfAborted();
    throw error;
  }
}

/** The last line of what a program wrote, for a log: printable ASCII, at most 300 characters. */
export function lastLine(bytes: Buffer): string {
  const lines = bytes.toString('latin1').trimEnd().split('\n');
  return (lines.at(-1) ?? '').replace(/[^ -~]/g, '?').slice(0, MAX_SAID);
}

/** The most that a process had resident so far, in bytes. 0 when it is gone. */
export async function peakMemory(pid: number): Promise<number> {
  try {
    const status = await readFile(`/proc/${String(pid)}/status`, 'latin1');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  } catch (error) {
    if (isGone(error)) {
      return 0;
    }
    throw error;
  }
}

const END_ATTEMPTS = 250;
const END_PAUSE_MILLISECONDS = 20;

/** Ends every process that runs one of these files: an environment that was frozen while etcd ran still has it. Returns how many there were. */
export async function endProcessesOf(files: readonly string[]): Promise<number> {
  const identities = new Set((await Promise.all(files.map(identityOf))).filter((identity) => identity !== undefined));
  let found = 0;
  for (let attempt = 1; identities.size > 0; attempt++) {
    const pids = await pidsOf(identities);
    if (pids.length === 0) {
      break;
    }
    if (attempt > END_ATTEMPTS) {
      throw new Error(
        `processes of an earlier drill: got ${String(pids.length)} that do not end by SIGKILL, expected none`,
      );
    }
    found = Math.max(found, pids.length);
    for (const pid of pids) {
      end(pid);
    }
    await sleep(END_PAUSE_MILLISECONDS);
  }
  return found;
}

/** Ends one process by its id, which may be gone already. */
export function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isGone(error)) {
      throw error;
    }
  }
}

async function pidsOf(identities: ReadonlySet<string>): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0 && pid !== process.pid);
  const running = await Promise.all(
    pids.map(async (pid) => ({ pid, identity: await identityOf(`/proc/${String(pid)}/exe`) })),
  );
  return running.flatMap(({ pid, identity }) => (identity !== undefined && identities.has(identity) ? [pid] : []));
}

/** By device and inode: a path says another thing in every mount namespace. Undefined: it is not there, or not ours to look at. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path);
    return `${String(dev)}:${String(ino)}`;
  } catch (error) {
    if (isGone(error)) {
      return undefined;
    }
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'ESRCH'].includes(errorCode(error));
}
