import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AwsError } from './aws-error';
import type { CredentialStore, Credentials } from './credentials';
import { startService, type Endpoint } from './endpoint';
import type { Iam } from './iam';
import {
  runFunction,
  tmpOf,
  type Attempt,
  type FunctionError,
  type LambdaFunction,
  type LogLine,
} from './lambda-process';
import { metricsOf, type Metric } from './metrics';
import type { QueueMessage, Queues } from './queues';

// Lambda waits one and two minutes before the two retries.
const DEFAULT_RETRY_DELAYS_MS = [60_000, 120_000];
const SYNC_LIMIT_BYTES = 6 * 1024 * 1024;
const ASYNC_LIMIT_BYTES = 1024 * 1024;

/** What an EventInvokeConfig says. */
export interface EventInvoke {
  readonly maximumRetryAttempts: number;
  readonly maximumEventAgeSeconds: number;
  readonly onFailureQueueArn?: string;
}

/** How an invocation ended, with every attempt at it. */
export interface Outcome {
  readonly requestId: string;
  readonly ok: boolean;
  readonly result?: unknown;
  readonly error?: FunctionError;
  readonly attempts: readonly Attempt[];
  /** What went to the on-failure destination. */
  readonly failureMessage?: QueueMessage;
}

/** An invocation under way. */
export interface Invocation {
  readonly requestId: string;
  readonly done: Promise<Outcome>;
  /** Ends the attempt that runs now with SIGKILL, as a crash of its environment. */
  kill(): void;
  /** The /tmp of the attempt that runs now, as the host sees it; undefined between attempts. */
  tmpDir(): string | undefined;
  /** The process of the attempt that runs now; undefined between attempts. */
  pid(): number | undefined;
}

/** Options of one invocation. */
export interface InvokeOptions {
  /** @default the function's Timeout */
  readonly timeoutSeconds?: number;
}

/** A statement of a function's resource policy, as AWS::Lambda::Permission has it. */
export interface Permission {
  readonly action: string;
  readonly principal: string;
  readonly sourceArn?: string;
  readonly sourceAccount?: string;
}

/** How Lambda behaves in this lab. */
export interface LambdaOptions {
  /** Waits before each retry of an asynchronous invocation. @default 60000 and 120000, as Lambda */
  readonly retryDelaysMs?: readonly number[];
}

/** The functions of the template, and what they wrote. */
export class Lambda {
  readonly functions: LambdaFunction[] = [];
  readonly logs: LogLine[] = [];
  readonly metrics: Metric[] = [];
  /** Environment of every function: region, endpoints; set before the first invocation. */
  environment: Readonly<Record<string, string>> = {};
  readonly #eventInvoke = new Map<string, EventInvoke>();
  readonly #permissions = new Map<string, Permission[]>();
  readonly #sessions = new Map<string, Credentials>();
  // Lambda keeps an environment's /tmp for its next run, also after a run that was killed.
  readonly #idleEnvironments = new Map<string, string[]>();
  readonly #children = new Set<ChildProcess>();
  readonly #retryDelaysMs: readonly number[];
  readonly #stopping = new AbortController();

  constructor(
    private readonly dir: string,
    private readonly queues: Queues,
    private readonly iam: Iam,
    options: LambdaOptions,
  ) {
    this.#retryDelaysMs = options.retryDelaysMs ?? DEFAULT_RETRY_DELAYS_MS;
  }

  add(fn: LambdaFunction): void {
    this.functions.push(fn);
  }

  setEventInvoke(functionName: string, config: EventInvoke): void {
    this.#eventInvoke.set(functionName, config);
  }

  /** Throws ResourceNotFoundException. */
  permit(functionId: string, permission: Permission): void {
    const { arn } = this.find(functionId);
    this.#permissions.set(arn, [...(this.#permissions.get(arn) ?? []), permission]);
  }

  /** The policy that Lambda makes of a function's permissions; undefined when it has none. */
  resourcePolicyOf(arn: string): unknown {
    const permissions = this.#permissions.get(arn);
    if (permissions === undefined) return undefined;
    return {
      Version: '2012-10-17',
      Statement: permissions.map(({ action, principal, sourceArn, sourceAccount }) => ({
        Effect: 'Allow',
        Principal: { Service: principal },
        Action: action,
        Resource: arn,
        Condition: {
          ...(sourceArn === undefined ? {} : { ArnLike: { 'AWS:SourceArn': sourceArn } }),
          ...(sourceAccount === undefined ? {} : { StringEquals: { 'AWS:SourceAccount': sourceAccount } }),
        },
      })),
    };
  }

  setSession(roleArn: string, credentials: Credentials): void {
    this.#sessions.set(roleArn, credentials);
  }

  /** By logical id, name or ARN, with or without :$LATEST. Throws ResourceNotFoundException. */
  find(id: string): LambdaFunction {
    const bare = id.replace(/:\$LATEST$/, '');
    const fn = this.functions.find(({ logicalId, name, arn }) => [logicalId, name, arn].includes(bare));
    if (fn === undefined)
      throw new AwsError(
        'ResourceNotFoundException',
        `Function not found: ${id}; the template has ${this.functions.map(({ logicalId }) => logicalId).join(', ')}`,
        404,
      );
    return fn;
  }

  /** Runs a function once and waits, as invocation type RequestResponse. */
  invoke(id: string, event: unknown, options: InvokeOptions = {}): Invocation {
    const requestId = randomUUID();
    return this.#track(requestId, async (attempt) => {
      const only = await attempt(this.find(id), event, options);
      return {
        requestId,
        ok: only.ok,
        attempts: [only],
        ...(only.ok ? { result: only.result } : {}),
        ...(only.error === undefined ? {} : { error: only.error }),
      };
    });
  }

  /** Runs a function as invocation type Event: with retries, all under one request id, and the on-failure destination. */
  invokeAsync(id: string, event: unknown, options: InvokeOptions = {}): Invocation {
    const fn = this.find(id);
    const config = this.#eventInvoke.get(fn.name) ?? { maximumRetryAttempts: 2, maximumEventAgeSeconds: 21_600 };
    const requestId = randomUUID();
    return this.#track(requestId, async (attempt) => {
      const attempts: Attempt[] = [];
      for (let retry = 0; ; retry += 1) {
        const last = await attempt(fn, event, options);
        attempts.push(last);
        if (last.ok) return { requestId, ok: true, result: last.result, attempts };
        if (retry >= config.maximumRetryAttempts) {
          const failure = await this.#reportFailure(fn, config, event, attempts, last);
          return {
            requestId,
            ok: false,
            attempts,
            ...(last.error === undefined ? {} : { error: last.error }),
            ...(failure === undefined ? {} : { failureMessage: failure }),
          };
        }
        await sleep(this.#retryDelaysMs[Math.min(retry, this.#retryDelaysMs.length - 1)] ?? 0, undefined, {
          signal: this.#stopping.signal,
        });
      }
    });
  }

  #track(
    requestId: string,
    run: (
      attempt: (fn: LambdaFunction, event: unknown, options: InvokeOptions) => Promise<Attempt>,
    ) => Promise<Outcome>,
  ): Invocation {
    let current: ChildProcess | undefined;
    let environmentDir: string | undefined;
    const attempt = async (fn: LambdaFunction, event: unknown, options: InvokeOptions): Promise<Attempt> => {
      const idle = this.#idleEnvironments.get(fn.name) ?? [];
      this.#idleEnvironments.set(fn.name, idle);
      environmentDir = idle.pop() ?? join(this.dir, randomUUID());
      try {
        return await runFunction({
          fn,
          event,
          requestId,
          timeoutSeconds: options.timeoutSeconds ?? fn.timeoutSeconds,
          environment: this.#environmentOf(fn),
          environmentDir,
          onLine: (line) => {
            this.logs.push(line);
            this.metrics.push(...metricsOf(line.line));
          },
          onStart: (child) => {
            current = child;
            this.#children.add(child);
            child.once('close', () => this.#children.delete(child));
          },
        });
      } finally {
        idle.push(environmentDir);
        environmentDir = undefined;
        current = undefined;
      }
    };
    const done = run(attempt);
    // Whoever only fires and never waits must not end the process; whoever waits still gets the rejection.
    done.catch(() => undefined);
    return {
      requestId,
      done,
      kill: () => void current?.kill('SIGKILL'),
      pid: () => current?.pid,
      tmpDir: () => (environmentDir === undefined ? undefined : tmpOf(environmentDir)),
    };
  }

  /** Throws when the function's role has no credentials. */
  sessionOf(fn: LambdaFunction): Credentials {
    const session = this.#sessions.get(fn.roleArn);
    if (session === undefined) throw new Error(`no credentials for ${fn.roleArn}, the role of ${fn.logicalId}`);
    return session;
  }

  #environmentOf(fn: LambdaFunction): Record<string, string> {
    const session = this.sessionOf(fn);
    return {
      ...this.environment,
      AWS_ACCESS_KEY_ID: session.accessKeyId,
      AWS_SECRET_ACCESS_KEY: session.secretAccessKey,
      ...(session.sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: session.sessionToken }),
    };
  }

  async #reportFailure(
    fn: LambdaFunction,
    config: EventInvoke,
    event: unknown,
    attempts: readonly Attempt[],
    last: Attempt,
  ): Promise<QueueMessage | undefined> {
    const { onFailureQueueArn } = config;
    if (onFailureQueueArn === undefined) return undefined;
    await this.iam.authorize({ accessKeyId: '', roleArn: fn.roleArn }, [
      { action: 'sqs:SendMessage', resource: onFailureQueueArn },
    ]);
    const body = {
      version: '1.0',
      timestamp: new Date().toISOString(),
      requestContext: {
        requestId: last.requestId,
        functionArn: `${fn.arn}:$LATEST`,
        condition: 'RetriesExhausted',
        approximateInvokeCount: attempts.length,
      },
      requestPayload: event,
      responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' },
      responsePayload: last.error,
    };
    return this.queues.send(onFailureQueueArn, JSON.stringify(body));
  }

  /** Ends what runs and gives up what waits for a retry. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const ended = [...this.#children].map((child) => new Promise((resolve) => child.once('close', resolve)));
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all(ended);
  }
}

const limit = (body: Buffer, bytes: number): void => {
  if (body.length > bytes)
    throw new AwsError(
      'RequestTooLargeException',
      `${String(body.length)} byte payload is too large, expected at most ${String(bytes)}`,
      413,
    );
};

const readEvent = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString('utf8') || '{}');
  } catch (error) {
    throw new AwsError('InvalidRequestContentException', `Could not parse request body into json: ${String(error)}`);
  }
};

/** Starts the Lambda endpoint: Invoke, with invocation types RequestResponse and Event. */
export const startLambdaApi = (options: {
  readonly lambda: Lambda;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> =>
  startService({
    service: 'lambda',
    region: options.region,
    port: options.port,
    credentials: options.credentials,
    handle: async ({ method, url, headers, body, caller }) => {
      const [, name] = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(url.pathname) ?? [];
      if (method !== 'POST' || name === undefined || url.search !== '') {
        throw new AwsError(
          'UnknownOperationException',
          `this stand-in knows Invoke; got ${method} ${url.pathname}${url.search}`,
          404,
        );
      }
      const fn = options.lambda.find(decodeURIComponent(name));
      await options.iam.authorize(caller, [{ action: 'lambda:InvokeFunction', resource: fn.arn }]);
      const type = headers['x-amz-invocation-type'] ?? 'RequestResponse';
      switch (type) {
        case 'Event':
          limit(body, ASYNC_LIMIT_BYTES);
          options.lambda.invokeAsync(fn.name, readEvent(body));
          return { status: 202, body: '' };
        case 'RequestResponse': {
          limit(body, SYNC_LIMIT_BYTES);
          const outcome = await options.lambda.invoke(fn.name, readEvent(body)).done;
          const payload = JSON.stringify(outcome.ok ? outcome.result : outcome.error);
          return {
            headers: {
              'content-type': 'application/json',
              'x-amz-executed-version': '$LATEST',
              ...(outcome.ok ? {} : { 'x-amz-function-error': 'Unhandled' }),
            },
            body: payload,
          };
        }
        default:
          throw new AwsError(
            'InvalidParameterValueException',
            `invocation type: got ${String(type)}, expected RequestResponse or Event`,
          );
      }
    },
    renderError: (error) => ({
      status: error.status,
      headers: { 'content-type': 'application/json', 'x-amzn-errortype': error.code },
      body: JSON.stringify({ Type: 'User', Message: error.message, message: error.message }),
    }),
  });
