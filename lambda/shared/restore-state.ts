/** What a restore execution carries from state to state. Every function of the machine takes it and returns it whole; at most some 100 KB. */
export interface RestoreState {
  /** The execution's start in the form of a backup id: names the record, the journals and the kept data. */
  readonly restoreId: string;
  readonly executionArn: string;
  /** `plan`: nothing is changed; `restore`; `rollback`: only the undo of restore `rollbackId`. */
  readonly mode: 'plan' | 'restore' | 'rollback';
  readonly request: RestoreRequest;
  /** The restore that `mode` rollback undoes; null otherwise. */
  readonly rollbackId: string | null;
  /** null until it is known: for a survivor its snapshot is taken first. */
  readonly snapshot: ChosenSnapshot | null;
  /** The control-plane nodes to be restored, in the order of their member names. Empty before Inspect. */
  readonly nodes: readonly RestoreNode[];
  /** Instance ids of running control-plane nodes that have no etcd: known, and not restored. Absent before Inspect. */
  readonly leftOut?: readonly string[];
  /** Instance to take the survivor's or the current state's snapshot from; null: no member serves. */
  readonly survivor: { readonly instanceId: string; readonly revision: number } | null;
  /** What the console shows. null before Inspect. */
  readonly plan: Readonly<Record<string, unknown>> | null;
  /** Highest revision seen anywhere; 0 when none is known. */
  readonly highestRevision: number;
  /** Added to the snapshot's revision; 0 before Preflight. */
  readonly bump: number;
  /** `--initial-cluster-token` of the new cluster; '' before Preflight. */
  readonly token: string;
  /** Backup that holds the state before the restore; null when none could be taken. */
  readonly keptBackupId: string | null;
  /** From StartApiServer on: clients may have read the restored data, so renaming back is no undo any more. */
  readonly served: boolean;
  readonly step: RestoreStep;
  /** The first failure; null while all goes well. What the Fail states show. */
  readonly failure: { readonly error: string; readonly cause: string } | null;
  /** What went wrong and did not fail the restore, and what a person still has to do. */
  readonly warnings: readonly string[];
  /** Seconds by state, as far as it is known. */
  readonly seconds: Readonly<Record<string, number>>;
  /** ISO time when the first member was stopped, and when the first API server answered; null before. */
  readonly stoppedAt: string | null;
  readonly servedAt: string | null;
  /** Hex ids of the clusters that were there before, as far as members or the receipt named them. */
  readonly clusterIdsBefore?: readonly string[];
  /** Hex id of the restored cluster; from CheckEtcd on. */
  readonly clusterId?: string;
  /** Put there by a Catch of the machine. */
  readonly error?: { readonly Error: string; readonly Cause: string };
}

/** How far the present state is. `done` false: call it again; `ok` false: at least one node refused or failed. */
export interface RestoreStep {
  readonly name: string;
  readonly done: boolean;
  readonly ok: boolean;
  /** ISO time when the state began, over all the calls that it took. Absent where nobody waits for long. */
  readonly startedAt?: string;
}

/** What was asked for, checked. */
export interface RestoreRequest {
  readonly confirm: boolean;
  /** Newest verified one, one by id, or the newest before a time (ISO). */
  readonly snapshot:
    | { readonly kind: 'newest' }
    | { readonly kind: 'id'; readonly backupId: string }
    | { readonly kind: 'before'; readonly time: string };
  readonly from: 'backup' | 'survivor';
  readonly hold: 'controllers' | null;
  readonly requestedBy: string | null;
  readonly reason: string | null;
  /** Refusals that do not count. */
  readonly forced: readonly Forceable[];
}

/** Refusals that can be forced, each with the field of the input that forces it. */
export const FORCE_FIELDS = {
  'missing-member': 'forceMissingMember',
  'kubernetes-version': 'forceKubernetesVersion',
  'cluster-ca': 'forceClusterCa',
  'etcd-ca': 'forceEtcdCa',
  'service-account-key': 'forceServiceAccountKey',
  'encryption-key': 'forceEncryptionKey',
  quota: 'forceQuota',
  'unknown-tool': 'forceUnknownTool',
  'api-server-elsewhere': 'forceApiServerElsewhere',
} as const;

/** Name of a refusal that can be forced. */
export type Forceable = keyof typeof FORCE_FIELDS;

/** The proven snapshot, as its signed receipt and the stored version say. */
export interface ChosenSnapshot {
  readonly backupId: string;
  readonly key: string;
  readonly versionId: string;
  readonly compression: 'zstd' | 'gzip';
  readonly compressedBytes: number;
  readonly compressedSha256: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly revision: number;
  readonly hash: number;
  readonly etcdVersion: string;
  readonly kubernetesVersion: string | null;
}

/** A node of the control plane that is restored. */
export interface RestoreNode {
  readonly instanceId: string;
  readonly memberName: string;
  /** The one URL (or comma-separated URLs) that the member's manifest advertises to peers. */
  readonly peerUrls: string;
  readonly arch: 'amd64' | 'arm64';
  readonly etcdVersion: string;
  /** Whether this node's member, API server and kubelet served before: what a rollback has to bring back. */
  readonly before: { readonly etcd: boolean; readonly apiServer: boolean; readonly kubelet: boolean };
}
