import type { KMSClient } from '@aws-sdk/client-kms';
import type { LambdaClient } from '@aws-sdk/client-lambda';
import type { SchedulerClient } from '@aws-sdk/client-scheduler';
import type { Stored } from '../plan/choose-snapshot';
import { AuditError, ClockError, describeError } from '../shared/errors';
import type { ReceiptDeps } from '../shared/receipt';
import type { Retention } from '../shared/retention';
import { MetricUnit, type Telemetry, type Unit } from '../shared/telemetry';
import { askVerify, dueAt } from './ask-verify';
import { type ExpectedBucket, lookAtBucket } from './bucket';
import { type CallersDeps, recordCallers } from './callers';
import { findFirstReceipt, findProvenDrill } from './drills';
import { readEvent, type Request } from './event';
import { type GuardedKey, lookAtKeys } from './keys';
import { findNewest, lockNewest, readRestores, type Restores, savedAt, versionOf } from './newest';
import { countOf, type Looked } from './risks';
import { lookAtSchedules, type ScheduleName } from './schedules';
import { countByTag, type Held, listStored, type Memory, readHeld, unsettled, unverified } from './stored';

/** What the function works with. */
export interface AuditDeps extends ReceiptDeps, CallersDeps {
  readonly lambda: LambdaClient;
  readonly kms: KMSClient;
  readonly scheduler: SchedulerClient;
  readonly verifyFunction: string;
  readonly keys: readonly GuardedKey[];
  readonly schedules: readonly ScheduleName[];
  readonly bucket: Omit<ExpectedBucket, 'policy'>;
  readonly memory: Memory;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
  /** Resolves after that time, or rejects once `signal` is aborted. */
  readonly wait: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** What a run measured and did. */
export interface AuditOutcome {
  /** Each gauge that was emitted, by its name. */
  readonly gauges: Readonly<Record<string, number>>;
  /** What is not as it has to be, each in a sentence. */
  readonly risks: readonly string[];
  /** Backup ids that verify was started for. */
  readonly asked: readonly string[];
  /** Backup id whose lock was extended. */
  readonly locked: string | null;
  /** Restore ids whose caller was recorded. */
  readonly callers: readonly string[];
}

// Lambda's own timeout would take all gauges along, which leave the function at its end.
const PATIENCE_MILLISECONDS = 200_000;

/**
 * Measures whether the backups are what they have to be, emits a gauge for each thing, and puts right what a run that died left behind. What
 * cannot be determined has no gauge, which lets its alarm ring; all else has one. Throws AuditError at the end with everything that could not be
 * determined or done, and EventError at once.
 */
export async function audit(deps: AuditDeps, event: unknown): Promise<AuditOutcome> {
  const request = readEvent(event);
  const run = new Run(deps);
  const over = new AbortController();
  try {
    // All at once: a service that does not answer takes its time, and the rest must be told before this function's is over.
    const all = Promise.all([
      run.attempt('stored backups', () => auditStored(run, request)),
      run.attempt('newest drill', () => auditDrills(run)),
      run.attempt('keys', () => run.risk('KeysAtRisk', lookAtKeys(deps.kms, deps.keys))),
      run.attempt('schedules', () => run.risk('SchedulesAtRisk', lookAtSchedules(deps.scheduler, deps.schedules))),
      run.attempt('bucket', () =>
        run.risk('BucketAtRisk', lookAtBucket(deps.store, { ...deps.bucket, policy: request.policy })),
      ),
    ]);
    await Promise.race([all, deps.wait(PATIENCE_MILLISECONDS, over.signal)]);
    return run.end();
  } finally {
    over.abort();
    deps.telemetry.publish();
  }
}

class Run {
  readonly now: Date;
  readonly #gauges: Record<string, number> = {};
  readonly #risks: string[] = [];
  readonly #problems: string[] = [];
  readonly #underWay = new Set<string>();
  #isOver = false;
  readonly asked: string[] = [];
  readonly callers: string[] = [];
  readonly passedOver: string[] = [];
  locked: string | null = null;

  constructor(readonly deps: AuditDeps) {
    this.now = deps.now();
  }

  gauge(name: string, unit: Unit, value: number): void {
    if (this.#isOver) {
      // Lambda thaws what was left under way together with the next run, whose gauges are newer.
      return;
    }
    this.#gauges[name] = value;
    this.deps.telemetry.measure(name, unit, value);
  }

  async risk(name: string, looked: Promise<Looked>): Promise<void> {
    const { risks, problems } = await looked;
    this.#risks.push(...risks);
    this.#problems.push(...problems);
    const count = countOf({ risks, problems });
    if (count !== undefined) {
      this.gauge(name, MetricUnit.Count, count);
    }
  }

  /** Keeps what goes wrong for the end. */
  async attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    this.#underWay.add(what);
    try {
      return await work();
    } catch (error) {
      this.#problems.push(`${what}: ${describeError(error)}`);
      return undefined;
    } finally {
      this.#underWay.delete(what);
    }
  }

  end(): AuditOutcome {
    const { asked, callers, locked } = this;
    this.#isOver = true;
    for (const what of this.#underWay) {
      this.#problems.push(
        `${what}: got no answer within ${String(PATIENCE_MILLISECONDS / 1000)} s, expected one; see the health of S3, KMS and Scheduler in this region`,
      );
    }
    const seconds = (this.deps.now().getTime() - this.now.getTime()) / 1000;
    // They come in whatever order services answer.
    const risks = this.#risks.sort();
    const problems = this.#problems.sort();
    const fields = { risks, asked, locked, callers, passedOver: this.passedOver.slice(0, 5) };
    if (problems.length > 0) {
      this.deps.telemetry.phaseFailed('audit', seconds, { ...fields, problems });
      throw new AuditError(problems);
    }
    this.deps.telemetry.phaseDone('audit', seconds, fields);
    return { gauges: this.#gauges, risks, asked, locked, callers };
  }
}

async function auditStored(run: Run, request: Request): Promise<void> {
  const { deps, now } = run;
  const restores = await run.attempt('records of restores', () => readRestores(deps.store));
  const stored = await run.attempt('what is stored', () => listStored(deps.store, deps.memory, now));
  if (stored !== undefined) {
    const newest =
      restores === undefined
        ? undefined
        : await run.attempt('newest verified backup', () => auditNewest(run, stored, restores));
    const held = await run.attempt('tags', () => readHeld(deps.store, stored, deps.memory));
    if (held !== undefined) {
      countStored(run, held);
      const open = unverified(held, now);
      run.gauge('UnverifiedObjects', MetricUnit.Count, open.length);
      const due = dueAt([...new Set([...open, ...unsettled(held, newest, now)])], request.scheduledTime ?? now);
      for (const { backupId, version } of due) {
        await run.attempt('verify', async () => {
          await askVerify(deps.lambda, deps.verifyFunction, deps.store.bucket, version);
          run.asked.push(backupId);
        });
      }
    }
  }
  if (restores !== undefined) {
    await run.attempt('who started restores', async () => {
      run.callers.push(...(await recordCallers(deps, restores.versions, now)));
    });
  }
}

/** Tells the age of the newest verified backup, and keeps it locked. Returns its version. */
async function auditNewest(run: Run, stored: Stored, restores: Restores) {
  const { deps, now } = run;
  const { chosen, earlier, passedOver } = await findNewest(deps, stored, restores);
  run.passedOver.push(...passedOver);
  const receipt = chosen?.receipt ?? earlier;
  const version = receipt === undefined ? undefined : versionOf(receipt, stored);
  if (receipt === undefined || version === undefined) {
    return undefined;
  }
  await run.attempt('lock of the newest verified backup', async () => {
    if (await lockNewest(deps.store, version, { now, lockDays: deps.bucket.lockDays })) {
      run.locked = receipt.backupId;
    }
  });
  if (chosen === undefined) {
    // Of the timeline before the last restore: worth its lock, and no backup of what runs now.
    return undefined;
  }
  const { storedAt } = version;
  run.gauge(
    'VerifiedAgeSeconds',
    MetricUnit.Seconds,
    ageSeconds(`${version.key} was stored`, storedAt, savedAt(receipt.backupId, storedAt), now),
  );
  return version;
}

/** Tells for how long no drill has proven a backup. */
async function auditDrills(run: Run): Promise<void> {
  const { deps, now } = run;
  // Before the first proof: without a value the alarm would ring before a rare drill is due.
  const since = (await findProvenDrill(deps.store, deps.clusterName)) ?? (await findFirstReceipt(deps.store));
  if (since !== undefined) {
    const { key, storedAt } = since;
    run.gauge('DrillAgeSeconds', MetricUnit.Seconds, ageSeconds(`${key} was stored`, storedAt, storedAt, now));
  }
}

const GAUGES: Readonly<Record<Retention, string>> = {
  pending: 'StoredPending',
  failed: 'StoredFailed',
  latest: 'StoredLatest',
  hourly: 'StoredHourly',
  daily: 'StoredDaily',
  weekly: 'StoredWeekly',
  monthly: 'StoredMonthly',
  'on-demand': 'StoredOnDemand',
  'pre-restore': 'StoredPreRestore',
};

function countStored(run: Run, held: readonly Held[]): void {
  run.gauge('StoredBackups', MetricUnit.Count, held.length);
  for (const [retention, count] of Object.entries(countByTag(held))) {
    run.gauge(GAUGES[retention as Retention], MetricUnit.Count, count);
  }
}

const CLOCKS_DIFFER_SECONDS = 300;

/** Throws ClockError when S3 says that something was stored in the future: then no age is worth anything. */
function ageSeconds(what: string, storedAt: Date, since: Date, now: Date): number {
  const ahead = (storedAt.getTime() - now.getTime()) / 1000;
  if (ahead > CLOCKS_DIFFER_SECONDS) {
    throw new ClockError(
      `${what} at ${storedAt.toISOString()}, which is ${String(Math.round(ahead))} s ahead of this function's clock, expected at most ${String(CLOCKS_DIFFER_SECONDS)}; find out which clock is wrong`,
    );
  }
  return Math.max(0, (now.getTime() - since.getTime()) / 1000);
}
