import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from './backup-id';
import { printable, text, wholeNumber } from './check';
import { readLine } from './node-result';

// As in node-result.ts: what a node says is input from outside, and has bounds.
const sha256 = z.nullable(text(/^[0-9a-f]{64}$/, '64 lower-case hex digits or null'));
const id = text(/^[0-9a-f]{1,16}$/, '1 to 16 lower-case hex digits');
const decimal = text(/^\d{1,20}$/, 'a decimal number in quotes');
const etcdVersion = text(/^\d{1,4}\.\d{1,4}\.\d{1,4}[A-Za-z0-9.+-]{0,32}$/, "a version such as '3.6.5'");
const restoreId = text(BACKUP_ID_PATTERN, 'the id of a restore');
const arch = z.enum(['amd64', 'arm64'], "'amd64' or 'arm64'");
const flag = z.boolean('true or false');
const count = wholeNumber(0);
const path = printable(4096);
const url = printable(500);
const list = <Item extends z.core.$ZodType>(item: Item, max: number) =>
  z.array(item, `a list of at most ${String(max)}`).check(z.maxLength(max, `a list of at most ${String(max)}`));
const object = <Shape extends z.core.$ZodShape>(shape: Shape) => z.object(shape, 'an object');

/** What the member that runs answers. Sizes in bytes. */
const member = object({
  id,
  clusterId: id,
  /** '0': it knows of no leader. */
  leaderId: id,
  revision: count,
  raftTerm: count,
  raftIndex: decimal,
  raftAppliedIndex: decimal,
  isLearner: flag,
  dbSize: count,
  dbSizeInUse: z.nullable(count),
  /** Whether a linearizable read was answered: the member has a quorum. */
  linearizable: flag,
  /** null: it did not say, as without a quorum. */
  alarms: z.nullable(list(printable(32), 50)),
  members: list(
    object({ id, name: printable(253), peerUrls: list(url, 20), clientUrls: list(url, 20), isLearner: flag }),
    50,
  ),
});

const inspectionSchema = z.object(
  {
    ok: z.literal(true, 'true'),
    hostname: printable(253),
    arch,
    kubelet: object({ installed: flag, active: flag, version: z.nullable(printable(64)) }),
    etcd: object({
      /** Whether the static pod's manifest is in its folder; `aside`: where a restore has put it. */
      manifest: z.enum(['present', 'aside', 'missing'], "'present', 'aside' or 'missing'"),
      version: z.nullable(etcdVersion),
      running: flag,
      memberName: printable(253),
      dataDir: path,
      hostDataDir: path,
      walDir: z.nullable(path),
      hostWalDir: z.nullable(path),
      quotaBytes: count,
      initialCluster: list(object({ name: printable(253), peerUrl: url }), 100),
      peerUrls: list(url, 20),
      clientUrls: list(url, 20),
      image: z.nullable(printable(500)),
      /** null: nothing runs, or it does not answer. */
      member: z.nullable(member),
    }),
    apiServer: object({
      manifest: flag,
      version: z.nullable(printable(64)),
      etcdServers: list(url, 20),
      running: flag,
      ready: flag,
    }),
    identity: object({
      etcdCaSha256: sha256,
      clusterCaSha256: sha256,
      saPubSha256: sha256,
      encryptionConfigSha256: sha256,
    }),
    certificates: list(object({ file: path, daysLeft: z.int('a whole number') }), 50),
    data: object({
      /** Whether the data directory has a `member` folder. */
      member: flag,
      dbBytes: z.nullable(count),
      /** Restores whose replaced data is kept as `member.before-<id>`. */
      kept: list(restoreId, 100),
      /** `member` or the WAL directory is a mount of its own. */
      ownMount: flag,
    }),
    /** Of the file system that holds the data directory. */
    disk: object({ size: count, available: count }),
    /** Whether the node can decompress zstd. */
    zstd: flag,
    images: list(object({ name: printable(500), present: z.nullable(flag) }), 20),
    tools: list(
      object({
        name: text(/^(etcd|etcdctl|etcdutl)$/, "'etcd', 'etcdctl' or 'etcdutl'"),
        version: etcdVersion,
        arch,
        sha256: text(/^[0-9a-f]{64}$/, '64 lower-case hex digits'),
        source: z.literal('image', "'image'"),
      }),
      10,
    ),
    /** Whether something listens at the peer URLs that were asked for. */
    peers: list(object({ url, answers: flag }), 100),
    /** Components that a restore holds back: no static pods, and their manifests in that restore's folder. */
    held: list(
      object({
        component: text(/^kube-(controller-manager|scheduler)$/, "'kube-controller-manager' or 'kube-scheduler'"),
        restoreId,
      }),
      40,
    ),
    /** Of a restore that has not been cleaned up on this node. */
    journal: z.nullable(
      object({
        restoreId,
        phase: printable(64),
        /** An API server has served what that restore put there. */
        served: flag,
        /** It has stopped this node and was not undone. */
        stopped: flag,
        /** etcd was started on what that restore put there. */
        started: flag,
        /** Its etcd has passed the check: what comes next is an API server, once all nodes have passed it. */
        checked: flag,
        /** The old data is back: that restore is undone on this node. */
        undone: flag,
        /** Members of the cluster that it makes; null: it has not come so far. */
        nodes: z.nullable(count),
      }),
    ),
    /** Why this node's etcd is not one that the scripts can restore, each in a sentence. */
    problems: list(printable(2000), 20),
  },
  "the inspect script's result",
);

/** What the read-only `inspect` document printed: one node as it is. Sizes in bytes, ids in hex. */
export type Inspection = z.output<typeof inspectionSchema>;

/** The member that runs on a node. */
export type LiveMember = z.output<typeof member>;

/** The inspect script's result line. Throws NodeResultError when it is not one. */
export function readInspection(stdout: string): Inspection {
  return readLine(inspectionSchema, stdout);
}
