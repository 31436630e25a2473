import { MAX_RECEIPT_BYTES, type Receipt, receiptBytes } from '../shared/receipt';
import type { RetentionClass } from '../shared/retention';
import type { SnapshotFacts } from '../shared/snapshot/facts';
import type { Downloaded } from './download';
import type { Finding } from './findings';
import type { SignedSnapshot } from './signed-snapshot';

/** All that a receipt is made of. */
export interface ReceiptInput {
  readonly snapshot: SignedSnapshot;
  readonly downloaded: Downloaded;
  readonly facts: SnapshotFacts;
  readonly findings: readonly Finding[];
  readonly previous: Receipt | undefined;
  readonly compared: Receipt['compared'];
  readonly class: RetentionClass;
  readonly timeline: string;
  readonly newestOfClass: Receipt['newestOfClass'];
  readonly verifiedAt: Date;
  readonly verifiedBy: Receipt['verifiedBy'];
  readonly seconds: Receipt['seconds'];
}

/** Who the cluster in a snapshot is: the UID as read, the fingerprints as the node said. */
export function identityOf({ announcement }: SignedSnapshot, facts: SnapshotFacts): Receipt['identity'] {
  const { kubeSystemUid, kubeSystemEncrypted } = facts.kubernetes;
  const { etcdCaSha256, clusterCaSha256, saPubSha256, encryptionConfigSha256 } = announcement.identity;
  return { kubeSystemUid, kubeSystemEncrypted, etcdCaSha256, clusterCaSha256, saPubSha256, encryptionConfigSha256 };
}

/** What a backup does not know of itself, encrypted namespaces for instance, the receipts before may know. */
function knownIdentityOf(identity: Receipt['identity'], previous: Receipt | undefined): Receipt['knownIdentity'] {
  return {
    kubeSystemUid: identity.kubeSystemUid ?? previous?.knownIdentity.kubeSystemUid ?? null,
    etcdCaSha256: identity.etcdCaSha256 ?? previous?.knownIdentity.etcdCaSha256 ?? null,
  };
}

/** The receipt of a verified snapshot. Its inventory is shortened, with a finding, when it would be larger than a receipt may be. */
export function makeReceipt(input: ReceiptInput): Receipt {
  const receipt = fullReceipt(input);
  // Room for the finding, and for what a later version of this function adds.
  if (Buffer.byteLength(JSON.stringify(receipt)) <= MAX_RECEIPT_BYTES * 0.95) {
    return receipt;
  }
  const shortened: Receipt = {
    ...receipt,
    inventory: { ...receipt.inventory, kinds: receipt.inventory.kinds.map((kind) => ({ ...kind, namespaces: [] })) },
    findings: [
      ...receipt.findings,
      {
        finding: 'inventory-shortened',
        sentence:
          'the inventory by namespace did not fit into the receipt and was left out; the totals by kind are complete',
      },
    ],
  };
  receiptBytes(shortened);
  return shortened;
}

function fullReceipt(input: ReceiptInput): Receipt {
  const { snapshot, downloaded, facts, previous, seconds } = input;
  const { announcement, version } = snapshot;
  const { trigger } = announcement;
  return {
    schema: 1,
    backupId: announcement.backupId,
    cluster: announcement.cluster,
    bucket: announcement.bucket,
    key: version.key,
    versionId: version.versionId,
    kind: trigger.kind,
    keepDays: trigger.kind === 'on-demand' ? trigger.keepDays : null,
    ...(trigger.kind === 'pre-restore' ? { restoreId: trigger.restoreId } : {}),
    class: input.class,
    timeline: input.timeline,
    previous: previous?.backupId ?? null,
    newestOfClass: input.newestOfClass,
    storedAt: version.storedAt.toISOString(),
    verifiedAt: input.verifiedAt.toISOString(),
    verifiedBy: input.verifiedBy,
    announcement: { key: snapshot.announcementKey, sha256: snapshot.announcementSha256 },
    compression: announcement.compression,
    compressedBytes: version.bytes,
    compressedSha256: downloaded.compressedSha256,
    sizeBytes: downloaded.sizeBytes,
    sha256: downloaded.sha256,
    identity: identityOf(snapshot, facts),
    knownIdentity: knownIdentityOf(identityOf(snapshot, facts), input.compared.identity ? previous : undefined),
    compared: input.compared,
    snapshot: {
      pageSizeBytes: facts.pageSizeBytes,
      hash: facts.hash,
      liveHash: facts.liveHash,
      revision: facts.revision,
      totalKey: { ...facts.totalKey },
      totalSizeBytes: facts.totalSizeBytes,
      storageVersion: facts.storageVersion,
      consistentIndex: facts.consistentIndex,
      term: facts.term,
      clusterVersion: facts.clusterVersion,
      members: facts.members.map(copyMember),
      removedMembers: [...facts.removedMembers],
      bootstrapClusterId: facts.bootstrapClusterId,
      pages: { ...facts.pages },
      buckets: facts.buckets.map((bucket) => ({ ...bucket })),
      mvcc: { ...facts.mvcc },
      leases: facts.leases,
      alarms: facts.alarms.map((alarm) => ({ ...alarm })),
      auth: { ...facts.auth },
      secrets: { ...facts.kubernetes.secrets },
    },
    inventory: {
      ...facts.inventory,
      kinds: facts.inventory.kinds.map((kind) => ({ ...kind, namespaces: [...kind.namespaces] })),
      largest: [...facts.inventory.largest],
      nodes: [...facts.inventory.nodes],
    },
    announced: {
      instanceId: announcement.instanceId,
      etcdVersion: announcement.etcdVersion,
      clusterVersion: announcement.clusterVersion,
      kubernetesVersion: announcement.kubernetesVersion,
      arch: announcement.arch,
      memberId: announcement.memberId,
      memberName: announcement.memberName,
      clusterId: announcement.clusterId,
      leaderId: announcement.leaderId,
      members: announcement.members.map(copyMember),
      raftTerm: announcement.raftTerm,
      raftIndex: announcement.raftIndex,
      databaseBytes: announcement.databaseBytes,
      liveRevision: announcement.liveRevision,
      dataDir: announcement.dataDir,
      hash: announcement.hash,
      revision: announcement.revision,
      totalKey: announcement.totalKey,
      totalSizeBytes: announcement.totalSizeBytes,
      ...(announcement.imageTools === undefined
        ? {}
        : { imageTools: announcement.imageTools.map(({ name, sha256, bytes }) => ({ name, sha256, bytes })) }),
    },
    findings: input.findings.map(({ finding, sentence }) => ({ finding, sentence })),
    seconds,
  };
}

function copyMember({ id, name, peerUrls, clientUrls, isLearner }: SnapshotFacts['members'][number]) {
  return { id, name, peerUrls: [...peerUrls], clientUrls: [...clientUrls], isLearner };
}
