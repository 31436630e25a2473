import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const START_SECONDS = 60;
const STOP_SECONDS = 10;
const POLL_MS = 50;

/** A server that the lab started, with its output in a file. */
export interface ServerProcess {
  readonly pid: number;
  stop(): Promise<void>;
}

/** A port that was free a moment ago, on the given address. */
export const freePort = (host: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => {
        resolve(port);
      });
    });
  });

const stop = async (child: ChildProcess, exited: Promise<void>): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_SECONDS * 1000);
  await exited;
  clearTimeout(timer);
};

/** Starts a server and waits until `ready` holds. Throws with the end of its output when it ends or is not ready in 60 s. */
export const startServer = async (options: {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly log: string;
  readonly ready: () => Promise<boolean>;
}): Promise<ServerProcess> => {
  const output = openSync(options.log, 'a', 0o600);
  // The kernel ends the server with the lab, however that dies.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', options.command, ...options.args], {
    env: options.env,
    cwd: options.cwd,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  let failure: Error | undefined;
  const exited = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      failure = error;
      resolve();
    });
    child.once('exit', () => {
      resolve();
    });
  });
  const deadline = Date.now() + START_SECONDS * 1000;
  while (!(await options.ready())) {
    const ended = child.exitCode !== null || child.signalCode !== null || failure !== undefined;
    if (ended || Date.now() > deadline) {
      await stop(child, exited);
      const reason =
        failure?.message ??
        (ended
          ? `ended with ${String(child.exitCode ?? child.signalCode)}`
          : `not ready after ${String(START_SECONDS)} s`);
      throw new Error(
        `${options.command}: ${reason}; the end of ${options.log}:\n${readFileSync(options.log, 'utf8').slice(-2000)}`,
      );
    }
    await sleep(POLL_MS);
  }
  return { pid: child.pid ?? 0, stop: () => stop(child, exited) };
};
