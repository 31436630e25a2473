import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 20;

/** A process of the lab that may outlive the one that started it. The start time tells it from a later process with its number. */
export interface Daemon {
  readonly pid: number;
  readonly startTime: string;
}

// Field 22 of /proc/<pid>/stat; the command's name before it may hold blanks and brackets. A zombie counts as gone.
const startTimeOf = (pid: number): string | undefined => {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? undefined : fields[19];
};

/** Names a running process. Throws when there is none with that number. */
export const daemonOf = (pid: number): Daemon => {
  const startTime = startTimeOf(pid);
  if (startTime === undefined) throw new Error(`process ${String(pid)} is gone, expected it to run`);
  return { pid, startTime };
};

/** Whether it still runs. */
export const isAlive = (daemon: Daemon): boolean => startTimeOf(daemon.pid) === daemon.startTime;

/** Kills it (SIGKILL) and waits until it is gone. Throws when it is still there after 10 s. */
export const stopDaemon = async (daemon: Daemon): Promise<void> => {
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (isAlive(daemon)) {
    try {
      process.kill(daemon.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    if (Date.now() > deadline) throw new Error(`process ${String(daemon.pid)} is still there 10 s after SIGKILL`);
    await sleep(POLL_MS);
  }
};

/**
 * Starts a process in a session of its own, output to `log`, and waits until `ready` holds. Unless `persist`, it holds the other end of a
 * pipe from us and ends when we do, however we end. Throws with the end of its log when it ends before it is ready, or after 20 s.
 */
export const startDaemon = async (options: {
  readonly argv: readonly [string, ...string[]];
  readonly log: string;
  readonly persist: boolean;
  readonly ready: () => boolean;
}): Promise<Daemon> => {
  const output = openSync(options.log, 'a', 0o600);
  const [command, ...args] = options.argv;
  const child = spawn(command, args, {
    cwd: '/',
    detached: true,
    stdio: [options.persist ? 'ignore' : 'pipe', output, output],
  });
  closeSync(output);
  let ended: string | undefined;
  child.once('error', (error) => {
    ended = error.message;
  });
  child.once('exit', (code, signal) => {
    ended = `ended with ${String(code ?? signal)}`;
  });
  // Neither the child nor the pipe keeps us from ending.
  child.unref();
  if (child.stdin !== null) {
    child.stdin.on('error', () => undefined);
    (child.stdin as unknown as { unref(): void }).unref();
  }
  const deadline = Date.now() + 20_000;
  while (!options.ready()) {
    if (ended !== undefined || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(
        `'${options.argv.join(' ')}' ${ended ?? 'was not ready after 20 s'}; ${options.log} ends with: ${readFileSync(options.log, 'utf8').slice(-1000)}`,
      );
    }
    await sleep(POLL_MS);
  }
  return daemonOf(child.pid ?? 0);
};
