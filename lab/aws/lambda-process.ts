import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const RUNTIME = join(__dirname, 'lambda-runtime.mts');
// The npm package `node`, pinned to the runtime's version; the Node that runs the lab may be another.
const NODE = resolve(__dirname, '..', '..', 'node_modules', 'node', 'bin', 'node');
// Lambda's own places. The sources are bound by relative paths from an open directory, so that they may lie anywhere, under /tmp and /var too.
const SANDBOX = `
set -e
cd "$1"
mount --bind "$2" var/task
mount -o remount,bind,ro var/task
mount --bind "$3" var/runtime/node
mount --bind "$4" var/runtime/runtime.mts
mount --no-canonicalize --bind tmp /tmp
mount --no-canonicalize --rbind var /var
cd /var/task
exec /var/runtime/node "$5" /var/runtime/runtime.mts
`;
// What Lambda's runtime leaves to the heap: 90 % of the function's memory.
const HEAP_SHARE = 0.9;

/** A function as the template has it. */
export interface LambdaFunction {
  readonly logicalId: string;
  readonly name: string;
  readonly arn: string;
  readonly roleArn: string;
  readonly codeDir: string;
  readonly handler: string;
  readonly timeoutSeconds: number;
  readonly memoryMiB: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly logGroup: string;
}

/** What Lambda answers for an error of a function. */
export interface FunctionError {
  readonly errorType: string;
  readonly errorMessage: string;
  readonly trace?: readonly string[];
}

/** One run of a function. */
export interface Attempt {
  readonly requestId: string;
  readonly ok: boolean;
  readonly result?: unknown;
  readonly error?: FunctionError;
  readonly durationMs: number;
  readonly peakRssBytes: number;
  readonly startedAt: Date;
  /** Paths of what it left in its /tmp, which the next run in this environment finds. */
  readonly leftInTmp: readonly string[];
}

/** One line that a function wrote. */
export interface LogLine {
  readonly logicalId: string;
  readonly requestId: string;
  readonly stream: 'stdout' | 'stderr';
  readonly line: string;
}

interface Reply {
  readonly result?: unknown;
  readonly error?: FunctionError;
  readonly maxRssKib: number;
}

const lines = (stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void => {
  let rest = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    parts.forEach(onLine);
  });
  stream?.on('end', () => {
    if (rest !== '') onLine(rest);
  });
};

// High-water mark of a process that is about to be killed and can no longer say it itself.
const peakRssKib = (pid: number): number => {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0);
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0;
    throw error;
  }
};

/** The /tmp of an environment as the host sees it. */
export const tmpOf = (environmentDir: string): string => join(environmentDir, 'tmp');

// In a mount namespace of its own: /tmp is the environment's and no other, for a function may empty it.
const started = (options: {
  readonly fn: LambdaFunction;
  readonly environment: Readonly<Record<string, string>>;
  readonly environmentDir: string;
}): ChildProcess => {
  const { fn, environmentDir } = options;
  for (const folder of [tmpOf(environmentDir), join(environmentDir, 'var', 'task')])
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  const runtime = join(environmentDir, 'var', 'runtime');
  mkdirSync(runtime, { recursive: true });
  for (const file of ['node', 'runtime.mts']) writeFileSync(join(runtime, file), '');
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LANG: 'en_US.UTF-8',
    TZ: ':UTC',
    LAMBDA_TASK_ROOT: '/var/task',
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    _HANDLER: fn.handler,
    AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
    AWS_LAMBDA_FUNCTION_NAME: fn.name,
    AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(fn.memoryMiB),
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_LAMBDA_LOG_GROUP_NAME: fn.logGroup,
    AWS_LAMBDA_LOG_STREAM_NAME: `lab/[$LATEST]${randomUUID().replaceAll('-', '')}`,
    ...options.environment,
    ...fn.environment,
  };
  const heap = `--max-old-space-size=${String(Math.floor(fn.memoryMiB * HEAP_SHARE))}`;
  return spawn(
    'unshare',
    [
      '--mount',
      '--propagation',
      'private',
      '--',
      '/bin/sh',
      '-c',
      SANDBOX,
      'sh',
      environmentDir,
      fn.codeDir,
      NODE,
      RUNTIME,
      heap,
    ],
    { env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
  );
};

/**
 * Runs one invocation in a process of its own, with the function's timeout (SIGKILL) and memory, and a /tmp that stays in `environmentDir`.
 * Never rejects for what the function does.
 */
export const runFunction = (options: {
  readonly fn: LambdaFunction;
  readonly event: unknown;
  readonly requestId: string;
  readonly timeoutSeconds: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly environmentDir: string;
  readonly onLine: (line: LogLine) => void;
  readonly onStart: (child: ChildProcess) => void;
}): Promise<Attempt> => {
  const { fn, requestId } = options;
  const startedAt = new Date();
  const child = started(options);
  options.onStart(child);
  for (const stream of ['stdout', 'stderr'] as const) {
    lines(child[stream], (line) => {
      options.onLine({ logicalId: fn.logicalId, requestId, stream, line });
    });
  }
  let reply: Reply | undefined;
  let failure: Error | undefined;
  let timedOut = false;
  let rssKib = 0;
  child.once('message', (message) => {
    reply = message as Reply;
  });
  child.once('error', (error) => {
    failure = error;
  });
  const timer = setTimeout(() => {
    timedOut = true;
    rssKib = peakRssKib(child.pid ?? 0);
    child.kill('SIGKILL');
  }, options.timeoutSeconds * 1000);
  child.send({
    event: options.event,
    deadlineMs: startedAt.getTime() + options.timeoutSeconds * 1000,
    context: {
      awsRequestId: requestId,
      functionName: fn.name,
      functionVersion: '$LATEST',
      invokedFunctionArn: fn.arn,
      memoryLimitInMB: String(fn.memoryMiB),
      logGroupName: fn.logGroup,
      logStreamName: 'lab',
    },
  });

  const failed = (errorType: string, errorMessage: string): FunctionError => ({ errorType, errorMessage });
  const verdict = (code: number | null, signal: NodeJS.Signals | null): Pick<Attempt, 'ok' | 'result' | 'error'> => {
    if (failure !== undefined) return { ok: false, error: failed('Runtime.ExitError', failure.message) };
    if (timedOut && reply === undefined) {
      return {
        ok: false,
        error: failed(
          'Sandbox.Timedout',
          `RequestId: ${requestId} Error: Task timed out after ${options.timeoutSeconds.toFixed(2)} seconds`,
        ),
      };
    }
    if (reply === undefined) {
      return {
        ok: false,
        error: failed(
          'Runtime.ExitError',
          `RequestId: ${requestId} Error: Runtime exited with ${signal === null ? `error: exit status ${String(code)}` : `signal: ${signal}`}`,
        ),
      };
    }
    if (reply.maxRssKib > fn.memoryMiB * 1024) {
      return {
        ok: false,
        error: failed(
          'Runtime.OutOfMemory',
          `RequestId: ${requestId} Error: used ${String(Math.ceil(reply.maxRssKib / 1024))} MB of ${String(fn.memoryMiB)} MB`,
        ),
      };
    }
    return reply.error === undefined ? { ok: true, result: reply.result } : { ok: false, error: reply.error };
  };

  return new Promise((done) => {
    // 'close' and not 'exit': the last lines are read by then. A program that could not be started closes too.
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      done({
        requestId,
        startedAt,
        durationMs: Date.now() - startedAt.getTime(),
        peakRssBytes: (reply?.maxRssKib ?? rssKib) * 1024,
        leftInTmp: readdirSync(tmpOf(options.environmentDir), { recursive: true, encoding: 'utf8' }),
        ...verdict(code, signal),
      });
    });
  });
};
