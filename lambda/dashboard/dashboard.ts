import { describeError, SigningKeyError, StoreError } from '../shared/errors';
import type { Telemetry } from '../shared/telemetry';
import { DOCUMENTATION } from './describe';
import type { DashboardModel } from './model';
import { type NewestBackupsDeps, readNewestBackups } from './newest-backups';
import { renderFailure, renderPage } from './render';
import { readWidgetRequest } from './widget-context';

export interface DashboardDeps extends NewestBackupsDeps {
  readonly telemetry: Telemetry;
  /** Resolves after that time, or rejects once `signal` is aborted. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

// Somebody waits for the page, and Lambda's own timeout would show them nothing that says what to do.
const PATIENCE_MILLISECONDS = 20_000;

/**
 * The custom widget: HTML, or its documentation in markdown for `{"describe": true}`. When S3 or KMS do not answer, the page says so and
 * what to do. Any other error is thrown.
 */
export async function dashboard(
  deps: DashboardDeps,
  event: unknown,
  invocation: { readonly requestId: string },
): Promise<string> {
  const request = readWidgetRequest(event);
  if (request.kind === 'describe') {
    return DOCUMENTATION;
  }
  const startedAt = deps.now();
  const seconds = (): number => (deps.now().getTime() - startedAt.getTime()) / 1000;
  try {
    const model = await inTime(deps);
    deps.telemetry.phaseDone('dashboard', seconds(), {
      stored: model.stored,
      newestProof: model.newestProof?.backupId ?? null,
      requestId: invocation.requestId,
    });
    return renderPage(model, request.context);
  } catch (error) {
    deps.telemetry.phaseFailed('dashboard', seconds(), {
      error: describeError(error),
      requestId: invocation.requestId,
    });
    if (error instanceof StoreError || error instanceof SigningKeyError) {
      const { clusterName: cluster, restoreMachineArn } = deps;
      return renderFailure({ message: describeError(error), cluster, restoreMachineArn }, request.context);
    }
    throw error;
  } finally {
    deps.telemetry.publish();
  }
}

async function inTime(deps: DashboardDeps): Promise<DashboardModel> {
  const over = new AbortController();
  try {
    return await Promise.race([
      readNewestBackups(deps),
      deps.wait(PATIENCE_MILLISECONDS, over.signal).then(() => {
        throw new StoreError(
          `s3://${deps.store.bucket}: got no complete answer within ${String(PATIENCE_MILLISECONDS / 1000)} s, expected the newest backups; reload, and see the health of S3 and KMS in this region`,
        );
      }),
    ]);
  } finally {
    over.abort();
  }
}
