import { type ChildProcess, spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunError } from './failure';
import { BARE_ENVIRONMENT, end, peakMemory, runTool } from './processes';

/** The one member of the throwaway cluster. */
export const MEMBER = 'drill';

/** Where it listens: loopback, on ports that were free a moment ago. */
export interface Addresses {
  readonly clientUrl: string;
  readonly peerUrl: string;
}

/** Free ports of 127.0.0.1. */
export async function freeAddresses(): Promise<Addresses> {
  const servers = [createServer(), createServer()];
  const urls: string[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    urls.push(`http://127.0.0.1:${String(typeof address === 'object' ? (address?.port ?? 0) : 0)}`);
  }
  // Only now, so that the two differ.
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  const [clientUrl = '', peerUrl = ''] = urls;
  return { clientUrl, peerUrl };
}

const BOOT_SECONDS = 300;
const POLL_MILLISECONDS = 50;
const LOG_TAIL_BYTES = 256 * 1024;

/** A real etcd on a restored data directory. To be ended whatever happens: a frozen environment would keep it. */
export class Etcd {
  private exit: { readonly code: number | null } | undefined;
  private readonly closed: Promise<unknown>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly logFile: string,
  ) {
    this.closed = new Promise((resolve) => {
      const ended = (code: number | null) => {
        this.exit ??= { code };
        resolve(undefined);
      };
      child.once('close', ended);
      child.once('error', () => {
        ended(null);
      });
    });
  }

  /** Starts it, as a kubelet would the restored member: the data directory knows the rest. */
  static async start(
    binary: string,
    {
      directory,
      dataDir,
      addresses,
    }: { readonly directory: string; readonly dataDir: string; readonly addresses: Addresses },
  ): Promise<Etcd> {
    const logFile = join(directory, 'etcd.log');
    const log = await open(logFile, 'w', 0o600);
    try {
      const child = spawn(
        binary,
        [
          `--name=${MEMBER}`,
          `--data-dir=${dataDir}`,
          `--listen-client-urls=${addresses.clientUrl}`,
          `--advertise-client-urls=${addresses.clientUrl}`,
          `--listen-peer-urls=${addresses.peerUrl}`,
          `--initial-advertise-peer-urls=${addresses.peerUrl}`,
          `--initial-cluster=${MEMBER}=${addresses.peerUrl}`,
          // No quota: whether the database fits the nodes' own is what a restore's preflight asks.
          '--quota-backend-bytes=-1',
          '--logger=zap',
          '--log-outputs=stderr',
          '--log-level=warn',
        ],
        { cwd: directory, env: BARE_ENVIRONMENT, stdio: ['ignore', log.fd, log.fd] },
      );
      return new Etcd(child, logFile);
    } finally {
      await log.close();
    }
  }

  /** Waits until a read goes through. Throws RunError('boot-failed'), and the signal's reason. */
  async waitUntilHealthy(clientUrl: string, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + BOOT_SECONDS * 1000;
    while (!(await isHealthy(clientUrl))) {
      signal.throwIfAborted();
      if (this.exit !== undefined) {
        throw new RunError(
          'boot-failed',
          `etcd: got ${this.exit.code === null ? 'its end by a signal' : `exit code ${String(this.exit.code)}`} (${await this.lastFatal()}), expected it to serve the restored data`,
          { tool: 'etcd', code: this.exit.code ?? undefined },
        );
      }
      if (performance.now() > deadline) {
        throw new RunError(
          'boot-failed',
          `etcd: got no answer within ${String(BOOT_SECONDS)} s (${await this.lastFatal()}), expected it to serve the restored data`,
          { tool: 'etcd' },
        );
      }
      await sleep(POLL_MILLISECONDS);
    }
  }

  /** The most that it had resident, in bytes. */
  memory(): Promise<number> {
    return peakMemory(this.child.pid ?? 0);
  }

  /** Ends it at once: nothing of it is kept. */
  async stop(): Promise<void> {
    if (this.exit === undefined && this.child.pid !== undefined) {
      end(this.child.pid);
    }
    await this.closed;
  }

  /** Of its last grave line the words that are fixed in its source: the rest of a line may name keys. */
  private async lastFatal(): Promise<string> {
    const lines = (await readFile(this.logFile, 'latin1')).slice(-LOG_TAIL_BYTES).split('\n');
    for (const line of lines.reverse()) {
      const [, message] =
        /^\{"level":"(?:error|dpanic|panic|fatal)".{0,300}?"msg":"([ -!#-~]{1,200})"/.exec(line) ?? [];
      if (message !== undefined) {
        return message;
      }
    }
    return 'it logged no error';
  }
}

/** A linearizable read, as kubeadm's startup probe does it. */
async function isHealthy(clientUrl: string): Promise<boolean> {
  try {
    const answer = await fetch(`${clientUrl}/health`, { signal: AbortSignal.timeout(5000) });
    const text = await answer.text();
    return answer.ok && text.includes('"health":"true"');
  } catch {
    // Not yet, or not any more: the caller looks at the process.
    return false;
  }
}

/** Runs etcdctl against it, and gives what it printed. Throws RunError('read-failed'). */
export async function etcdctl(
  binary: string,
  args: readonly string[],
  options: {
    readonly clientUrl: string;
    readonly cwd: string;
    readonly signal: AbortSignal;
    readonly onOutput: (chunk: Buffer) => void;
  },
): Promise<void> {
  const { code, said } = await runTool(
    binary,
    [`--endpoints=${options.clientUrl}`, '--dial-timeout=10s', '--command-timeout=120s', ...args],
    options,
  );
  if (code !== 0) {
    throw new RunError(
      'read-failed',
      `etcdctl ${args[0] ?? ''}: got ${code === null ? 'its end by a signal' : `exit code ${String(code)}`} (${said}), expected an answer`,
      { tool: 'etcdctl', code: code ?? undefined },
    );
  }
}
