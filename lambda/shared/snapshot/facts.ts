/**
 * What was measured in a snapshot. Bytes as the names say; ids in hex as etcd prints them; nothing in here is an etcd value, and the only
 * etcd keys are those of `Inventory.largest`.
 */
export interface SnapshotFacts {
  /** Length of the file, with its trailer. */
  readonly sizeBytes: number;
  /** SHA-256 of all but the last 32 bytes, in hex: what the trailer holds. */
  readonly trailerSha256: string;
  /** Of the bbolt file: 4096 to 65536. */
  readonly pageSizeBytes: number;
  /** `hash` of `etcdutl snapshot status`: CRC-32C of every bucket's name, keys and values. */
  readonly hash: number;
  /** Over the live keys, as live-hash.ts says: what a client that reads all of them can compute too. */
  readonly liveHash: number;
  /** `revision` of `etcdutl snapshot status`: the newest main revision. 0 in an empty database. */
  readonly revision: number;
  readonly totalKey: {
    /** Rows of all buckets: `totalKey` as etcdutl and etcdctl up to 3.5 have it. */
    readonly rows: number;
    /** Keys alive at the newest revision: `totalKey` from 3.6 on. */
    readonly live: number;
  };
  /** `totalSize` of `etcdutl snapshot status`: pages below the high water mark. */
  readonly totalSizeBytes: number;
  /** Storage version as `etcdutl snapshot status` from 3.6 on prints it, for example '3.6.0'; null where the file has none (before 3.6). */
  readonly storageVersion: string | null;
  /** Newest raft index that is in the file; a decimal number. Null in a file that has none. */
  readonly consistentIndex: string | null;
  /** Raft term of that index; a decimal number. Null before etcd 3.5. */
  readonly term: string | null;
  /** For example '3.6.0'; null in a file that has none. */
  readonly clusterVersion: string | null;
  readonly members: readonly MemberFact[];
  /** Ids of members that were removed. */
  readonly removedMembers: readonly string[];
  /** The cluster id that etcd computes from these members at bootstrap; the cluster's own as long as no member was added or removed. */
  readonly bootstrapClusterId: string | null;
  readonly pages: {
    /** Below the high water mark, the two meta pages included. */
    readonly total: number;
    readonly free: number;
    readonly branch: number;
    readonly leaf: number;
    readonly overflow: number;
  };
  /** Top-level buckets, in the file's order. `bytes`: keys and values. */
  readonly buckets: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[];
  readonly mvcc: {
    /** Rows of the `key` bucket that are deletions. */
    readonly tombstones: number;
    /** Newest revision that was compacted away; null when none was. */
    readonly compactedRevision: number | null;
  };
  /** Rows of the `lease` bucket. */
  readonly leases: number;
  readonly alarms: readonly { readonly memberId: string; readonly alarm: string }[];
  readonly auth: { readonly enabled: boolean; readonly users: number; readonly roles: number };
  readonly kubernetes: KubernetesFacts;
  readonly inventory: Inventory;
}

export interface MemberFact {
  readonly id: string;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

/** What of Kubernetes the proof needs. */
export interface KubernetesFacts {
  /** UID of the namespace kube-system; null when there is none, or when it is encrypted. */
  readonly kubeSystemUid: string | null;
  /** The namespace kube-system is there but encrypted by the API server. */
  readonly kubeSystemEncrypted: boolean;
  /**
   * Live objects under `/registry/`. 0 where the API server was given another `--etcd-prefix`: then nothing is known of Secrets and of
   * kube-system.
   */
  readonly objects: number;
  /** Live Secrets, and how many of them do not begin with `k8s:enc:`. */
  readonly secrets: { readonly total: number; readonly plainText: number };
}

/** Live objects at the newest revision. Bytes: key and value of the newest row. */
export interface Inventory {
  readonly objects: number;
  readonly bytes: number;
  /** Live keys that are attached to a lease. */
  readonly leased: number;
  /**
   * By kind: as in the `/registry/` key, for example `pods`, `deployments`, `services/specs`, `cilium.io/ciliumnodes`; `(other)` for keys
   * outside `/registry/`. Largest bytes first, at most 1,000. Events are left out of these and stand in `events`.
   */
  readonly kinds: readonly {
    readonly kind: string;
    readonly objects: number;
    readonly bytes: number;
    /** Namespaces, largest bytes first, of all kinds together at most 5,000; empty for what has none. */
    readonly namespaces: readonly { readonly namespace: string; readonly objects: number; readonly bytes: number }[];
  }[];
  /** What `kinds` does not name: objects of smaller kinds, and in smaller namespaces. */
  readonly beyondBounds: { readonly objects: number; readonly bytes: number };
  readonly events: { readonly objects: number; readonly bytes: number };
  /** The ten largest live objects, largest first; keys as printable ASCII, at most 512 characters. */
  readonly largest: readonly { readonly key: string; readonly bytes: number }[];
  /** Names of Kubernetes' nodes (`/registry/minions/`), in order, at most 500; the kind `minions` has their number. */
  readonly nodes: readonly string[];
}
