// Runs one invocation of a bundled function, as Lambda's Node runtime does; lambda.ts starts it under the runtime's Node version, which
// takes types away by itself. It talks to lambda.ts over the IPC channel; stdout and stderr belong to the function.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

interface Start {
  readonly event: unknown;
  readonly context: Readonly<Record<string, string>>;
  readonly deadlineMs: number;
}

type Handler = (event: unknown, context: unknown) => Promise<unknown>;

// Not getrusage: its figure begins with what the process that forked this one had.
const peakRssKib = (): number => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

const send = (message: object): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send?.({ ...message, maxRssKib: peakRssKib() }, (error: Error | null) => {
      if (error === null) resolve();
      else reject(error);
    });
  });

// errorType is the error's name: that is what a Retry or a Catch of Step Functions matches.
const describe = (error: unknown): object =>
  error instanceof Error
    ? { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? '').split('\n') }
    : { errorType: typeof error, errorMessage: String(error), trace: [] };

const load = async (): Promise<Handler> => {
  const [file = '', name = ''] = (process.env._HANDLER ?? '').split('.');
  const module = (await import(pathToFileURL(`${process.env.LAMBDA_TASK_ROOT ?? ''}/${file}.mjs`).href)) as Record<
    string,
    unknown
  >;
  const handler = module[name];
  if (typeof handler !== 'function')
    throw new Error(`${file}.${name} is not a function of the bundle, expected an exported handler`);
  return handler as Handler;
};

const run = async ({ event, context, deadlineMs }: Start): Promise<void> => {
  try {
    const handler = await load();
    const result = await handler(event, {
      ...context,
      callbackWaitsForEmptyEventLoop: true,
      getRemainingTimeInMillis: () => deadlineMs - Date.now(),
    });
    await send({ result: result === undefined ? null : result });
  } catch (error) {
    await send({ error: describe(error) });
  }
  process.disconnect();
  // Lambda freezes the environment now; a timer or socket left open must not keep this process.
  process.exit(0);
};

process.once('message', (start: Start) => {
  void run(start);
});
// The lab is gone: nobody waits for this invocation any more.
process.once('disconnect', () => {
  process.exit(1);
});
