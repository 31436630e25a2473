import { Logger } from '@aws-lambda-powertools/logger';
import type { Context } from 'aws-lambda';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { env } from '../shared/env';
import { drillRun, type DrillRunDeps } from './run';

const deps: DrillRunDeps = {
  // Not the temporary directory itself: it is emptied, and on a machine that is not Lambda's it is not the function's alone.
  directory: join(tmpdir(), 'etcd-backup-drill'),
  fetch,
  sleep: (milliseconds) => setTimeout(milliseconds),
  arch: process.arch,
  log: new Logger({ persistentKeys: { cluster: env('CLUSTER_NAME') } }),
};

/** Entry point of the drill-run function. */
export const handler = (event: unknown, context: Context) =>
  drillRun(deps, event, () => context.getRemainingTimeInMillis());
