import { compareVersions } from '../backup/choose-nodes';
import type { StoredTool } from '../backup/tool-parameters';
import { highestRevisionOf } from '../shared/chosen-snapshot';
import type { Inspection, LiveMember } from '../shared/inspection';
import { isOfficial, type OfficialTools } from '../shared/official-tools';
import type { Receipt } from '../shared/receipt';
import { type Forceable, FORCE_FIELDS, type RestoreNode, type RestoreRequest } from '../shared/restore-state';
import type { KnownInstance } from './find-instances';
import type { InspectedNode } from './inspect';
import { type Absence, hostsOf, isSameMember, judgeAbsent, knownMembers } from './members';

/** All that is known before anything is changed. */
export interface Situation {
  readonly request: RestoreRequest;
  /** Of the backup that is to be restored; null for a survivor, which is its own. */
  readonly receipt: Receipt | null;
  /** Of the newest backup on the present timeline; null: there is none. */
  readonly newest: Receipt | null;
  /** Running instances with the control plane's tags. */
  readonly nodes: readonly InspectedNode[];
  /** What EC2 says of others. */
  readonly instances: readonly KnownInstance[];
  /** Tools in the bucket. */
  readonly tools: readonly StoredTool[];
  readonly officialTools: OfficialTools;
  readonly acknowledgedTools: readonly string[];
  readonly diskLimitPercent: number;
  /** Highest revision in the records of restores; 0: none. */
  readonly recordedRevision: number;
}

/** Why a restore would not go on. */
export interface Refusal {
  readonly name: string;
  /** The field of the input that forces it; null: nothing does. */
  readonly force: string | null;
  /** What was got, what was expected, what to do. */
  readonly sentence: string;
}

/** A member that serves. */
export interface Survivor {
  readonly instanceId: string;
  readonly memberName: string;
  readonly revision: number;
  readonly raftAppliedIndex: string;
  /** Whether it has a quorum. */
  readonly linearizable: boolean;
}

/** What follows from a situation. */
export interface Judgement {
  /** What is left after what was forced. */
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
  /** Nodes that are restored, in the order of their members' names. */
  readonly nodes: readonly RestoreNode[];
  /** Members that no node is. */
  readonly absent: readonly Absence[];
  /** Members that serve, the one that knows most first. */
  readonly survivors: readonly Survivor[];
  /** Highest revision that was seen anywhere; 0: none. */
  readonly highestRevision: number;
  /** Hex ids of the clusters that were there. */
  readonly clusterIdsBefore: readonly string[];
}

/** A node that has a member to restore. */
type EtcdNode = InspectedNode & { readonly inspection: Inspection };

/** What one check has found. */
interface Found {
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
}

const MEBIBYTE = 1024 * 1024;
// A new member's first WAL file (etcd, server/storage/wal: SegmentSizeBytes).
const WAL_BYTES = 64 * MEBIBYTE;
// Runbooks and rotation take days.
const CERTIFICATE_DAYS = 7;

/** Everything that speaks against a restore and can be known without writing anything. */
export function judge(situation: Situation): Judgement {
  const { request, receipt, newest, nodes } = situation;
  const receipts = [receipt, newest].filter((candidate) => candidate !== null);
  const inspected = nodes.filter((node): node is EtcdNode => node.inspection !== null);
  const etcdNodes = inspected
    .filter(({ inspection }) => inspection.etcd.manifest !== 'missing')
    .toSorted((a, b) => (a.inspection.etcd.memberName < b.inspection.etcd.memberName ? -1 : 1));
  const survivors = findSurvivors(etcdNodes);
  const members = knownMembers({
    receipts,
    inspections: inspected.map(({ inspection }) => inspection),
    newestRevision: knownRevision(situation).revision,
  });
  const unreachable = nodes.filter(({ inspection }) => inspection === null);
  const absent = judgeAbsent(
    members.filter(
      (member) =>
        !etcdNodes.some(({ inspection }) => isSameMember(member, toMember(inspection))) &&
        // These are refused for themselves.
        !unreachable.some(({ addresses }) => hostsOf(member.peerUrls).some((host) => addresses.includes(host))),
    ),
    situation,
  );
  const found = [
    checkNodes(situation, etcdNodes, inspected),
    checkHeld(situation, etcdNodes),
    checkAbsent(absent),
    ...etcdNodes.map((node) => checkNode(situation, node, { etcdNodes, survivors })),
    checkSurvivor(situation, survivors),
    ...(receipt === null ? [] : [checkBackup(receipt)]),
  ];
  const refusals = found.flatMap((part) => part.refusals);
  const isForced = ({ name }: Refusal) => (request.forced as readonly string[]).includes(name);
  return {
    refusals: refusals.filter((refusal) => !isForced(refusal)),
    warnings: [
      ...refusals.filter(isForced).map(({ name, sentence }) => `forced (${name}): ${sentence}`),
      ...found.flatMap((part) => part.warnings),
    ],
    nodes: etcdNodes.flatMap(toRestoreNode),
    absent,
    survivors,
    highestRevision: Math.max(
      situation.recordedRevision,
      ...receipts.map(highestRevisionOf),
      ...survivors.map(({ revision }) => revision),
      ...etcdNodes.map(({ inspection }) => inspection.etcd.member?.revision ?? 0),
    ),
    clusterIdsBefore: [
      ...new Set([
        ...receipts.map(({ announced }) => announced.clusterId),
        ...etcdNodes.flatMap(({ inspection }) => inspection.etcd.member?.clusterId ?? []),
      ]),
    ],
  };
}

function refusal(name: string, sentence: string): Refusal {
  return { name, force: name in FORCE_FIELDS ? FORCE_FIELDS[name as Forceable] : null, sentence };
}

function toMember({ etcd }: Inspection) {
  return { name: etcd.memberName, peerUrls: etcd.peerUrls };
}

function toRestoreNode({ instanceId, inspection }: EtcdNode): RestoreNode[] {
  const { etcd, apiServer, kubelet, arch } = inspection;
  return [
    {
      instanceId,
      memberName: etcd.memberName,
      peerUrls: etcd.peerUrls.join(','),
      arch,
      // Without one it is refused; a rollback needs none.
      etcdVersion: etcd.version ?? '',
      before: { etcd: etcd.member?.linearizable === true, apiServer: apiServer.ready, kubelet: kubelet.active },
    },
  ];
}

function findSurvivors(nodes: readonly EtcdNode[]): Survivor[] {
  return nodes
    .flatMap(({ instanceId, inspection: { etcd } }) =>
      etcd.member === null || etcd.member.isLearner
        ? []
        : [
            {
              instanceId,
              memberName: etcd.memberName,
              revision: etcd.member.revision,
              raftAppliedIndex: etcd.member.raftAppliedIndex,
              linearizable: etcd.member.linearizable,
            },
          ],
    )
    .toSorted(
      // By the revision first: an index of another cluster, such as that of a first node that came back empty, says nothing.
      (a, b) => b.revision - a.revision || Number(BigInt(b.raftAppliedIndex) - BigInt(a.raftAppliedIndex)),
    );
}

/** The control plane as a whole. */
function checkNodes(situation: Situation, etcdNodes: readonly EtcdNode[], inspected: readonly EtcdNode[]): Found {
  const refusals: Refusal[] = [];
  const warnings: string[] = [];
  for (const node of situation.nodes) {
    if (node.problem !== null) {
      refusals.push(refusal('unreachable-node', node.problem));
    }
  }
  for (const { instanceId, inspection } of inspected) {
    if (inspection.etcd.manifest !== 'missing') {
      continue;
    }
    if (inspection.apiServer.manifest) {
      refusals.push(
        refusal(
          'external-etcd',
          `${instanceId} has a manifest of kube-apiserver and none of etcd, expected both as kubeadm writes them; an etcd that runs elsewhere is restored by hand: see docs/restore.md`,
        ),
      );
    } else {
      warnings.push(`${instanceId} has no etcd: it is left out, and joins by 'kubeadm join' after the restore`);
    }
  }
  if (etcdNodes.length === 0) {
    refusals.push(
      refusal(
        'no-nodes',
        `got no running control-plane node with a manifest of etcd among ${String(situation.nodes.length)} running instances with the cluster's tags, expected at least one; see docs/restore.md for restoring onto new machines`,
      ),
    );
  }
  for (const [name, what] of [
    ['memberName', 'the member name'],
    ['peerUrls', 'the peer URLs'],
  ] as const) {
    const values = etcdNodes.map(({ inspection }) => String(inspection.etcd[name]));
    if (values.some((value, index) => value === '' || values.indexOf(value) !== index)) {
      refusals.push(
        refusal(
          'member-flags',
          `${what} in the manifests of ${etcdNodes.map(({ instanceId }) => instanceId).join(', ')}: got ${values.map((value) => `'${value}'`).join(', ')}, expected one of its own on each; correct --name and --initial-advertise-peer-urls`,
        ),
      );
    }
  }
  if (etcdNodes.length > 0 && etcdNodes.length % 2 === 0) {
    warnings.push(
      `${String(etcdNodes.length)} members are restored: an even number bears no more failures than one less; add or remove a member after the restore`,
    );
  }
  if (etcdNodes.length > 0 && etcdNodes.every(({ inspection }) => !inspection.apiServer.manifest)) {
    refusals.push(
      refusal(
        'api-server-elsewhere',
        `no node has a manifest of kube-apiserver, expected one beside each etcd; an API server elsewhere would go on writing while etcd is replaced: stop it, then force this`,
      ),
    );
  }
  return { refusals, warnings };
}

function checkAbsent(absent: readonly Absence[]): Found {
  const nameOf = ({ member }: Absence) =>
    `member ${member.name === '' ? '(never started)' : member.name} at ${member.peerUrls.join(', ')}`;
  return {
    refusals: absent
      .filter(({ down }) => !down)
      .map((absence) =>
        refusal(
          'missing-member',
          `${nameOf(absence)} is on none of the nodes: ${absence.why}; expected it among them, or EC2 to say that its instance is stopped or terminated; stop that instance, or give it the control plane's tags`,
        ),
      ),
    warnings: absent
      .filter(({ down }) => down)
      .map(
        (absence) =>
          `${nameOf(absence)} is not restored: ${absence.why}; do not start that machine again with its old data: it joins anew after the restore`,
      ),
  };
}

/** Controllers that an earlier restore holds back: this one takes them over, as if they had run. */
function checkHeld({ request }: Situation, etcdNodes: readonly EtcdNode[]): Found {
  const held = etcdNodes.flatMap(({ instanceId, inspection }) =>
    [...new Set(inspection.held.map(({ component }) => component))].map((component) => ({
      instanceId,
      component,
      restoreIds: inspection.held.filter((each) => each.component === component).map(({ restoreId }) => restoreId),
    })),
  );
  // Several manifests of one component: the node's scripts leave all of them where they are.
  const unclear = held.filter(({ restoreIds }) => restoreIds.length > 1);
  const taken = held.filter(({ restoreIds }) => restoreIds.length === 1);
  return {
    refusals: [],
    warnings: [
      ...[...new Set(taken.flatMap(({ restoreIds }) => restoreIds))].sort().map((restoreId) => {
        const of = taken.filter(({ restoreIds }) => restoreIds.includes(restoreId));
        const [components, instanceIds] = [
          [...new Set(of.map(({ component }) => component))].sort().join(' and '),
          [...new Set(of.map(({ instanceId }) => instanceId))].join(', '),
        ];
        return `${components} on ${instanceIds}: held back since restore ${restoreId}; ${
          request.hold === null
            ? 'this restore lets them go, and they make the world as it is in its backup: to look at that first, ask for "hold": "controllers"'
            : 'this restore holds them back as well'
        }`;
      }),
      ...unclear.map(
        ({ instanceId, component, restoreIds }) =>
          `${instanceId}: the manifest of ${component} is in ${restoreIds.map((restoreId) => `manifests.before-${restoreId}`).join(' and ')}, expected it in one folder: it is not started; move the one that counts to the static pods`,
      ),
    ],
  };
}

/** What the backup itself says. */
function checkBackup({ backupId, snapshot, findings, kind }: Receipt): Found {
  const alarms = [...new Set(snapshot.alarms.map(({ alarm }) => alarm))];
  return {
    refusals: [],
    warnings: [
      ...(kind === 'pre-restore' ? [`${backupId} holds what an earlier restore replaced`] : []),
      ...(alarms.length === 0
        ? []
        : [`${backupId} holds the alarm ${alarms.join(', ')}: it is disarmed after the start; see what raised it`]),
      ...findings
        .filter(({ finding }) => ['corrupt-alarm', 'etcd-version-corrupts', 'not-compared'].includes(finding))
        .map(({ finding, sentence }) => `finding ${finding} of ${backupId}: ${sentence}`),
    ],
  };
}

/** What the cluster had come to for certain, by the newest backup or, right after a restore, by its record, and what says so. */
function knownRevision({ newest, recordedRevision }: Situation): { readonly revision: number; readonly by: string } {
  return newest !== null && newest.snapshot.revision >= recordedRevision
    ? { revision: newest.snapshot.revision, by: `backup ${newest.backupId} has ${String(newest.snapshot.revision)}` }
    : {
        revision: recordedRevision,
        by: `the cluster has begun with ${String(recordedRevision)} after a restore, as its record says`,
      };
}

function checkSurvivor(situation: Situation, survivors: readonly Survivor[]): Found {
  const { request } = situation;
  if (request.from !== 'survivor') {
    return { refusals: [], warnings: [] };
  }
  const [best] = survivors;
  if (best === undefined) {
    return {
      refusals: [
        refusal(
          'no-survivor',
          'got no member that serves, expected one for "from":"survivor"; restore a backup instead, without "from"',
        ),
      ],
      warnings: [],
    };
  }
  const known = knownRevision(situation);
  if (best.revision < known.revision) {
    return {
      refusals: [
        refusal(
          'survivor-older',
          `the survivor ${best.memberName} is at revision ${String(best.revision)}, and ${known.by}; expected a survivor that knows as much, and this may be one that came back empty; restore a backup instead, without "from"`,
        ),
      ],
      warnings: [],
    };
  }
  return {
    refusals: [],
    warnings: best.linearizable
      ? [
          `${best.memberName} has a quorum: the cluster serves, and restoring it from itself gains nothing but a new cluster`,
        ]
      : [],
  };
}

/** One node against the backup, or against the survivor. */
function checkNode(
  situation: Situation,
  node: EtcdNode,
  others: { readonly etcdNodes: readonly EtcdNode[]; readonly survivors: readonly Survivor[] },
): Found {
  const { receipt } = situation;
  const { instanceId, inspection } = node;
  const name = `${instanceId} (${inspection.etcd.memberName})`;
  const source = sourceOf(situation, others);
  const refusals: Refusal[] = [];
  const warnings: string[] = [];
  const refuse = (of: string, sentence: string) => refusals.push(refusal(of, `${name}: ${sentence}`));
  const warn = (sentence: string) => warnings.push(`${name}: ${sentence}`);

  for (const problem of inspection.problems) {
    refuse('node-problem', problem);
  }
  const { journal, kubelet, data, disk, etcd, apiServer } = inspection;
  if (journal?.stopped === true) {
    refuse(
      'unfinished-restore',
      `restore ${journal.restoreId} has stopped this node and was neither ended nor undone, expected none under way; start an execution with {"rollback":"${journal.restoreId}"} first`,
    );
  }
  if (!kubelet.installed) {
    refuse(
      'no-kubelet',
      'got no kubelet, expected it installed as a unit of systemd, because it starts what is restored; install it',
    );
  }
  if (data.ownMount) {
    refuse(
      'own-mount',
      `member or wal in ${etcd.dataDir} is a mount of its own, expected a directory, because it has to be renamed; restore by hand as docs/restore.md says`,
    );
  }
  for (const { file, daysLeft } of inspection.certificates) {
    if (daysLeft < 0) {
      refuse(
        'certificate-ended',
        `${file} ended ${String(-daysLeft)} days ago, expected it in date, or nothing starts again; run 'kubeadm certs renew' first`,
      );
    } else if (daysLeft < CERTIFICATE_DAYS) {
      warn(`${file} ends in ${String(daysLeft)} days: run 'kubeadm certs renew'`);
    }
  }
  for (const image of inspection.images) {
    if (image.present === false) {
      refuse(
        'no-image',
        `the image ${image.name} is not on this node, expected it, because nothing can be pulled while the control plane is down; pull it ('crictl pull ${image.name}')`,
      );
    } else if (image.present === null) {
      warn(`it is not known whether the image ${image.name} is there: the node has no crictl`);
    }
  }
  const known = knownRevision(situation);
  if (etcd.member !== null && etcd.member.revision < known.revision) {
    // Controllers and kubelets that ask an empty API delete what it does not know.
    warn(
      `this member serves revision ${String(etcd.member.revision)}, and ${known.by}: it came back ${etcd.member.linearizable ? 'empty or old, with a quorum of its own, and an API server on it makes kubelets delete pods' : 'empty or old'}; stop it now, before the restore: 'systemctl stop kubelet', then end kube-apiserver and etcd`,
    );
  }
  if (etcd.member?.isLearner === true) {
    warn('this member is a learner: it votes after the restore');
  }
  if (etcd.member?.alarms?.includes('CORRUPT') === true) {
    warn('an alarm CORRUPT is raised: the data of at least one member is not what the others have');
  }
  if (source !== undefined) {
    const { sizeBytes, compressedBytes } = source;
    const need = compressedBytes + 2 * sizeBytes + WAL_BYTES;
    const percent = disk.size === 0 ? 100 : Math.floor(((disk.size - disk.available + need) * 100) / disk.size);
    if (percent > situation.diskLimitPercent || need > disk.available) {
      const sentence = `the restore needs ${megabytes(need)} beside etcd and ${megabytes(disk.available)} of ${megabytes(disk.size)} are free, which would fill the disk to ${String(percent)} %, expected at most ${String(situation.diskLimitPercent)} %`;
      if (data.kept.length > 1) {
        warn(
          `${sentence}; data that earlier restores kept (${data.kept.slice(0, -1).join(', ')}) is removed to make room`,
        );
      } else {
        refuse('disk', `${sentence}; free space or enlarge the disk`);
      }
    }
    if (sizeBytes > etcd.quotaBytes) {
      refuse(
        'quota',
        `the database has ${megabytes(sizeBytes)} and etcd's quota is ${megabytes(etcd.quotaBytes)}, expected it to fit, or etcd takes only reads and deletions; raise --quota-backend-bytes`,
      );
    }
  }
  if (receipt !== null) {
    if (receipt.compression === 'zstd' && !inspection.zstd) {
      refuse(
        'no-zstd',
        `${receipt.backupId} is compressed with zstd, and the node has none, expected it; install its package`,
      );
    }
    const compared = compareWithBackup(receipt, inspection);
    compared.refusals.forEach(([of, sentence]) => refuse(of, sentence));
    compared.warnings.forEach(warn);
  }
  if (etcd.version === null) {
    refuse(
      'no-version',
      `the version of etcd is not known: it does not run, and the image ${etcd.image ?? '(none)'} does not name it; expected a tag such as 3.6.5-0 in the manifest`,
    );
  } else {
    const tool = checkTools(situation, inspection, etcd.version);
    if (tool !== undefined) {
      refuse(...tool);
    }
  }
  for (const sentence of checkApiServer(apiServer, others.etcdNodes)) {
    refuse('api-server-elsewhere', sentence);
  }
  return { refusals, warnings };
}

/** How large what is restored is. */
function sourceOf(
  { receipt }: Situation,
  { etcdNodes, survivors }: { readonly etcdNodes: readonly EtcdNode[]; readonly survivors: readonly Survivor[] },
): { readonly sizeBytes: number; readonly compressedBytes: number } | undefined {
  if (receipt !== null) {
    return receipt;
  }
  const member: LiveMember | null | undefined = etcdNodes.find(
    ({ instanceId }) => instanceId === survivors[0]?.instanceId,
  )?.inspection.etcd.member;
  // How far it compresses is not known before it is done.
  return member === null || member === undefined
    ? undefined
    : { sizeBytes: member.dbSize, compressedBytes: member.dbSize };
}

function compareWithBackup(
  receipt: Receipt,
  { etcd, apiServer, identity }: Inspection,
): { readonly refusals: readonly (readonly [string, string])[]; readonly warnings: readonly string[] } {
  const refusals: (readonly [string, string])[] = [];
  const warnings: string[] = [];
  const { announced, snapshot, backupId } = receipt;
  // What the snapshot's file says of its storage counts as much as the member that gave it.
  const versions = [...(snapshot.storageVersion === null ? [] : [snapshot.storageVersion]), announced.etcdVersion];
  if (etcd.version !== null) {
    const newest = versions.toSorted(compareMinors).at(-1) as string;
    const steps = minorOf(etcd.version) - minorOf(newest);
    if (majorOf(newest) !== majorOf(etcd.version) || steps < 0) {
      refusals.push([
        'newer-etcd',
        `${backupId} is of etcd ${newest} and this node runs ${etcd.version}, expected the same minor version or a newer one, because etcd cannot go back; upgrade etcd here first`,
      ]);
    } else if (steps > 1) {
      refusals.push([
        'older-etcd',
        `${backupId} is of etcd ${newest} and this node runs ${etcd.version}, expected at most one minor version between them, because etcd upgrades one at a time; restore with the version in between first`,
      ]);
    } else if (steps === 1) {
      warnings.push(
        `${backupId} is of etcd ${newest} and this node runs ${etcd.version}: etcd upgrades the data at its start`,
      );
    }
  }
  if (announced.kubernetesVersion === null || apiServer.version === null) {
    warnings.push('the versions of Kubernetes could not be compared: one of them is not known');
  } else if (
    majorOf(announced.kubernetesVersion) !== majorOf(apiServer.version) ||
    minorOf(announced.kubernetesVersion) !== minorOf(apiServer.version)
  ) {
    refusals.push([
      'kubernetes-version',
      `${backupId} is of Kubernetes ${announced.kubernetesVersion} and this node runs ${apiServer.version}, expected the same minor version, because objects may be stored in versions that the other does not know; choose a backup from after the upgrade`,
    ]);
  }
  for (const [name, field, what, then] of [
    ['etcd-ca', 'etcdCaSha256', "etcd's CA", 'a backup of another cluster would have another one'],
    ['cluster-ca', 'clusterCaSha256', "the cluster's CA", 'certificates and tokens in the backup would not be trusted'],
    ['service-account-key', 'saPubSha256', 'sa.pub', 'tokens of service accounts in the backup would not be accepted'],
  ] as const) {
    const [before, now] = [receipt.identity[field], identity[field]];
    if (before === null || now === null) {
      warnings.push(
        `${what} could not be compared: its fingerprint is not known ${before === null ? `of ${backupId}` : 'of this node'}`,
      );
    } else if (before !== now) {
      refusals.push([
        name,
        `${what} has SHA-256 ${short(now)} here and had ${short(before)} in ${backupId}, expected the same: ${then}; put back the one from then, or choose another backup`,
      ]);
    }
  }
  const [keyBefore, keyNow] = [receipt.identity.encryptionConfigSha256, identity.encryptionConfigSha256];
  if (keyBefore !== null && keyBefore !== keyNow) {
    refusals.push([
      'encryption-key',
      `the encryption configuration of the API server has SHA-256 ${keyNow === null ? '(there is none)' : short(keyNow)} here and had ${short(keyBefore)} in ${backupId}, expected the same, because what was encrypted with a key that is missing cannot be read; see that every key from then is in it, then force this`,
    ]);
  } else if (keyBefore === null && keyNow !== null) {
    warnings.push(
      `encryption was configured after ${backupId}: the provider 'identity' has to be in the configuration, or what is in plain text cannot be read`,
    );
  }
  return { refusals, warnings };
}

/** The tool that preflight would take, in its order, and whether it may be run as root. */
function checkTools(
  { tools, officialTools, acknowledgedTools }: Situation,
  { tools: ofImage, arch }: Inspection,
  version: string,
): readonly [string, string] | undefined {
  const isKnown = (tool: {
    readonly version: string;
    readonly arch: string;
    readonly name: string;
    readonly sha256: string;
  }) => isOfficial(officialTools, tool) || acknowledgedTools.includes(tool.sha256);
  // Since then etcdctl raises the revision; 3.6 took the restore out of it.
  const names =
    /^3\.5\./.test(version) && compareVersions(withoutSuffix(version), '3.5.10') >= 0
      ? ['etcdutl', 'etcdctl']
      : ['etcdutl'];
  const own = names.map((name) => ofImage.find((tool) => tool.name === name)).find((tool) => tool !== undefined);
  if (own !== undefined) {
    return isKnown({ ...own, version })
      ? undefined
      : [
          'unknown-tool',
          `${own.name} ${version} (${arch}) of the image has SHA-256 ${own.sha256}, expected one of the official releases or of acknowledgedTools, because it runs as root; see where the image comes from, then acknowledge it`,
        ];
  }
  const stored = tools.filter((tool) => tool.version === version && tool.arch === arch && names.includes(tool.name));
  if (stored.length === 0) {
    return [
      'no-tool',
      `got no ${names.join(' or ')} of etcd ${version} (${arch}) in the image or in the bucket's tools/, expected one to restore with; run 'npm run tools -- add ${version}'`,
    ];
  }
  return stored.some(isKnown)
    ? undefined
    : [
        'unknown-tool',
        `${stored.map(({ name }) => name).join(', ')} ${version} (${arch}) in the bucket's tools/ has SHA-256 ${stored.map(({ sha256 }) => sha256).join(', ')}, expected one of the official releases or of acknowledgedTools, because it runs as root; run 'npm run tools -- add ${version}'`,
      ];
}

/** `--etcd-servers` that are none of the members that are restored. */
function checkApiServer({ manifest, etcdServers }: Inspection['apiServer'], etcdNodes: readonly EtcdNode[]): string[] {
  if (!manifest) {
    return [];
  }
  const ports = new Set(etcdNodes.flatMap(({ inspection }) => inspection.etcd.clientUrls.map(portOf)));
  const hosts = new Set([
    ...etcdNodes.flatMap(({ addresses }) => addresses),
    ...etcdNodes.flatMap(({ inspection }) => hostsOf([...inspection.etcd.clientUrls, ...inspection.etcd.peerUrls])),
  ]);
  const elsewhere = etcdServers.filter((url) => {
    const [host = ''] = hostsOf([url]);
    const isLoopback = /^127\./.test(host) || ['localhost', '::1'].includes(host);
    return !((isLoopback || hosts.has(host)) && (ports.size === 0 || ports.has(portOf(url))));
  });
  if (etcdServers.length > 0 && elsewhere.length === 0) {
    return [];
  }
  return [
    `the API server has --etcd-servers=${etcdServers.length === 0 ? '(none)' : elsewhere.join(',')}, expected members that are restored, or it would serve other data than these; correct its manifest`,
  ];
}

function portOf(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null || parsed.port !== '' ? (parsed?.port ?? '') : parsed.protocol === 'https:' ? '443' : '80';
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0)} MB`;
}

function short(sha256: string): string {
  return `${sha256.slice(0, 16)}…`;
}

function withoutSuffix(version: string): string {
  return /^\d+(?:\.\d+)*/.exec(version)?.[0] ?? version;
}

function majorOf(version: string): number {
  return Number(/^v?(\d+)/.exec(version)?.[1] ?? -1);
}

function minorOf(version: string): number {
  return Number(/^v?\d+\.(\d+)/.exec(version)?.[1] ?? -1);
}

function compareMinors(a: string, b: string): number {
  return majorOf(a) - majorOf(b) || minorOf(a) - minorOf(b);
}
