import type { EC2Client } from '@aws-sdk/client-ec2';
import type { KMSClient } from '@aws-sdk/client-kms';
import type { LambdaClient } from '@aws-sdk/client-lambda';
import type { SSMClient } from '@aws-sdk/client-ssm';
import { TimeLeftError } from '../shared/errors';
import type { OfficialTools } from '../shared/official-tools';
import type { RestoreState } from '../shared/restore-state';
import type { Document } from '../shared/run-document';
import type { Store } from '../shared/store';
import type { Telemetry } from '../shared/telemetry';

/** What the function works with. */
export interface RestoreDeps {
  readonly clusterName: string;
  readonly controlPlaneTags: Readonly<Record<string, string>>;
  /** SHA-256 of tools that may be used although they are on no official list. */
  readonly acknowledgedTools: readonly string[];
  /** How full a node's disk may become. */
  readonly diskLimitPercent: number;
  readonly documents: Readonly<
    Record<'preflight' | 'stop' | 'swap' | 'start' | 'check' | 'rollback' | 'cleanup' | 'diagnose', Document>
  >;
  readonly backupFunction: string;
  readonly receiptKeyArn: string;
  readonly store: Store;
  readonly ec2: EC2Client;
  readonly kms: KMSClient;
  readonly ssm: SSMClient;
  /** Sends each request once. */
  readonly ssmOnce: SSMClient;
  /** Sends each request once, and waits for as long as a backup takes. */
  readonly lambda: LambdaClient;
  readonly officialTools: OfficialTools;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** One run of the function. */
export interface Invocation {
  readonly remainingMilliseconds: () => number;
}

/** States of the machine that this function works for. */
export const PHASES = [
  'KeepSurvivor',
  'Preflight',
  'KeepCurrentState',
  'StopControlPlane',
  'SwapData',
  'StartEtcd',
  'CheckEtcd',
  'StartApiServer',
  'StartControllers',
  'CheckCluster',
  'RecordRestore',
  'TakeBackup',
  'RollBack',
  'CheckRolledBack',
  'CleanUp',
  'GatherEvidence',
  'GatherRollbackEvidence',
] as const;

/** A state of the machine that this function works for. */
export type Phase = (typeof PHASES)[number];

/** What came of one call. `change` goes into the state whatever came of it. */
export type PhaseResult = { readonly change?: Partial<RestoreState> } & (
  | { readonly done: false }
  | { readonly done: true; readonly ok: true }
  /** `cause` names each node that failed, and what to do. */
  | { readonly done: true; readonly ok: false; readonly error: string; readonly cause: string }
);

// A console shows nothing of a state while its function runs: a look every ten minutes is the least.
const LONGEST_MILLISECONDS = 600_000;
const RESERVE_MILLISECONDS = 60_000;

/** One call of the function for one state of the machine. */
export class Run {
  /** When the state began, over all the calls that it took. */
  readonly startedAt: Date;
  readonly #until: number;

  constructor(
    readonly deps: RestoreDeps,
    readonly phase: Phase,
    readonly state: RestoreState,
    invocation: Invocation,
  ) {
    const now = deps.now();
    const { step } = state;
    // A Catch leaves the state of another phase, with that one's beginning.
    this.startedAt = step.name === phase && step.startedAt !== undefined ? new Date(step.startedAt) : now;
    this.#until =
      now.getTime() + Math.min(LONGEST_MILLISECONDS, invocation.remainingMilliseconds() - RESERVE_MILLISECONDS);
  }

  /** Seconds since the state began. */
  get seconds(): number {
    return (this.deps.now().getTime() - this.startedAt.getTime()) / 1000;
  }

  /** The restore that the nodes' journals and kept data are named after: in mode rollback the one to be undone. */
  get journalId(): string {
    return this.state.rollbackId ?? this.state.restoreId;
  }

  /** Whether an undo that was asked for has nothing to undo, because clients have seen the restored data. */
  get finishesForward(): boolean {
    return this.state.mode === 'rollback' && this.state.served;
  }

  /** Sleeps, or throws TimeLeftError when this call has waited long enough; the machine then calls again. */
  async pause(milliseconds: number): Promise<void> {
    if (this.deps.now().getTime() + milliseconds > this.#until) {
      throw new TimeLeftError(
        this.phase,
        `state ${this.phase}: this call's time is over, expected the machine to call again; what runs on the nodes is attached to`,
      );
    }
    await this.deps.sleep(milliseconds);
  }
}
