import type { Announcement } from '../shared/announcement';
import type { Receipt } from '../shared/receipt';
import type { SnapshotFacts } from '../shared/snapshot/facts';
import { versionNumbers } from './etcd-version';
import { newestRevision } from './checks';
import type { Comparable } from './timelines';

/** What somebody should look at although the backup is verified. */
export interface Finding {
  readonly finding: string;
  readonly sentence: string;
}

/** What findings are made of. */
export interface Findable {
  readonly announcement: Pick<
    Announcement,
    | 'findings'
    | 'flags'
    | 'databaseBytes'
    | 'certificates'
    | 'etcdVersion'
    | 'members'
    | 'leaderChanges'
    | 'hash'
    | 'identity'
    | 'liveRevision'
  >;
  readonly facts: Pick<
    SnapshotFacts,
    'kubernetes' | 'pages' | 'pageSizeBytes' | 'totalKey' | 'inventory' | 'revision' | 'mvcc'
  >;
  readonly previous: PreviousFacts | undefined;
  readonly comparable: Comparable;
  /** Share of keys, in percent, whose loss since the previous receipt is a finding. */
  readonly keysLostPercent: number;
  /** What else lies under the snapshot's keys. */
  readonly others: { readonly deleteMarkers: number; readonly otherVersions: number };
  /** Receipts that were passed over. */
  readonly untrustedReceipts: readonly string[];
  /** The next later backup of the same timeline, when it was verified before this one. */
  readonly next: Pick<Receipt, 'backupId' | 'snapshot'> | undefined;
}

/** What of the previous receipt findings look at. */
export interface PreviousFacts {
  readonly backupId: string;
  readonly knownIdentity: Receipt['knownIdentity'];
  readonly snapshot: { readonly totalKey: { readonly live: number } };
  readonly inventory: { readonly events: { readonly objects: number } };
  readonly announced: Pick<Receipt['announced'], 'etcdVersion' | 'members'>;
}

const QUOTA_PERCENT = 80;
// etcd's default (server/storage/quota.go), and what 0 stands for.
const DEFAULT_QUOTA_BYTES = 2 * 1024 ** 3;
const CERTIFICATE_DAYS = 30;
const FREE_PERCENT = 50;
const FREE_BYTES = 100_000_000;

/** What the node or the backup function found; every other word gets a sentence that names it. */
const ANNOUNCED: Readonly<Record<string, string>> = {
  'tools-missing':
    "the node has no etcdutl or etcdctl that can restore with a raised revision; a restore's preflight will refuse: run 'npm run tools -- add <version>'",
  'corrupt-alarm':
    'a CORRUPT alarm was raised; the snapshot is of a member that agrees with the majority; replace the member that differs',
  'revision-behind':
    'the newest revision with a row is older than the live one; so it is after a compaction of deletions, or in an empty etcd',
  'compressed-over-4gb':
    'the compressed snapshot has more than 4 GB and S3 takes 5 GB in one request; compact and defragment etcd',
  'leader-changed': 'the leader changed while the snapshot was saved; look at disks and network of the control plane',
  'previous-announcement-untrusted':
    'announcements of earlier backups could not be trusted and were passed over; see the log of the backup function',
  'no-leader':
    'the member had no leader when a restore saved it, so no quorum: what others took in since may be missing; the restore says how old it is',
  'nodes-found-by-id': 'EC2 could not search by tags, so nodes were found by the ids of the backup before',
  'fewer-members': 'a node refused because it knew fewer members than the backup before; it may have been wiped',
  corrupt: 'a node refused because its data differs from that of the majority; replace this member',
  'wrong-member': 'a node refused because another member than its own answered there',
  'tool-changed': 'a node refused because a tool of a known version has another SHA-256 than before',
  'tool-unknown': 'a tool is not on the list of official releases; a restore will refuse it unless it is forced',
  'tool-acknowledged': 'a tool with a changed SHA-256 was used because it is acknowledged',
};

/** Everything worth a look, each word once. */
export function findFindings(input: Findable): Finding[] {
  const { announcement, facts, previous, comparable } = input;
  const found = [
    ...plainTextSecrets(facts.kubernetes),
    ...noKubernetesObjects(facts.kubernetes),
    ...(previous !== undefined && comparable.revision ? keysLost(facts, previous, input.keysLostPercent) : []),
    ...nearQuota(announcement),
    ...certificatesNearEnd(announcement.certificates),
    ...mostlyFree(facts),
    ...etcdVersion(announcement.etcdVersion, previous),
    ...redundancyLost(announcement.members, previous),
    ...leaderChanged(announcement.leaderChanges),
    ...revisionBehind(announcement.liveRevision, facts),
    ...laterWentBack(facts, input.next),
    ...notCompared(input),
    ...otherVersions(input.others),
    ...untrustedReceipts(input.untrustedReceipts),
    ...announcement.findings.map((word) => ({
      finding: word,
      sentence: ANNOUNCED[word] ?? `the node or the backup function found '${word}', a word of another version`,
    })),
  ];
  return [...new Map(found.toReversed().map((finding) => [finding.finding, finding])).values()].reverse();
}

/** The metric of a finding. Words of a node that are not known here share one: each metric costs, and a node says what it likes. */
export function findingMetric(word: string): string {
  if (!FINDING_WORDS.includes(word)) {
    return 'FindingUnknown';
  }
  return `Finding${word.replace(/(?:^|-)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())}`;
}

/**
 * Every word that has a metric of its own; `identity-changed`, and most often `revision-went-back`, are of backups that are not verified, and
 * `tools-not-kept` is measured by the backup function, when the announcement is long written.
 */
export const FINDING_WORDS: readonly string[] = [
  'secrets-in-plain-text',
  'no-kubernetes-objects',
  'keys-lost',
  'revision-went-back',
  'database-near-quota',
  'certificates-near-end',
  'mostly-free-pages',
  'etcd-version-changed',
  'identity-changed',
  'redundancy-lost',
  'etcd-version-corrupts',
  'etcd-version-too-old',
  'not-compared',
  'identity-not-compared',
  'delete-marker',
  'other-version',
  'receipt-untrusted',
  'inventory-shortened',
  'tools-not-kept',
  ...Object.keys(ANNOUNCED),
];

/** May mean that data was lost, or that somebody else wrote what is there. */
const URGENT: readonly string[] = [
  'keys-lost',
  'no-kubernetes-objects',
  'revision-went-back',
  'identity-changed',
  'corrupt-alarm',
  'corrupt',
  'wrong-member',
  'fewer-members',
  'tool-changed',
  'delete-marker',
  'other-version',
  'receipt-untrusted',
  'previous-announcement-untrusted',
  'etcd-version-corrupts',
];

/** Good to know; nobody has to do anything. */
const NOTED: readonly string[] = [
  'etcd-version-changed',
  'mostly-free-pages',
  'leader-changed',
  'revision-behind',
  'nodes-found-by-id',
  'tool-acknowledged',
  'inventory-shortened',
];

/** What a finding asks for: to look at once, to correct something, or nothing. A word that is not known here is worth a look. */
export function urgencyOf(word: string): 'urgent' | 'correct' | 'noted' {
  return URGENT.includes(word) ? 'urgent' : NOTED.includes(word) ? 'noted' : 'correct';
}

function plainTextSecrets({ secrets }: Findable['facts']['kubernetes']): Finding[] {
  return secrets.plainText === 0
    ? []
    : [
        {
          finding: 'secrets-in-plain-text',
          sentence: `${String(secrets.plainText)} of ${String(secrets.total)} Secrets are stored in plain text, expected all to be encrypted by the API server; whoever reads a backup reads them: give kube-apiserver an --encryption-provider-config and rewrite them`,
        },
      ];
}

function noKubernetesObjects({ objects }: Findable['facts']['kubernetes']): Finding[] {
  return objects > 0
    ? []
    : [
        {
          finding: 'no-kubernetes-objects',
          sentence:
            "0 live objects lie under /registry/, expected Kubernetes' there; so nothing is known of Secrets and of kube-system: if kube-apiserver has another --etcd-prefix, the inventory does not know it; if not, this etcd is empty",
        },
      ];
}

/** Events come and go by the thousand with their leases: they are left out. */
function keysLost(facts: Findable['facts'], previous: PreviousFacts, percent: number): Finding[] {
  const now = facts.totalKey.live - facts.inventory.events.objects;
  const before = previous.snapshot.totalKey.live - previous.inventory.events.objects;
  const lost = before - now;
  return lost <= 0 || lost * 100 <= before * percent
    ? []
    : [
        {
          finding: 'keys-lost',
          sentence: `${String(now)} keys besides events, expected about the ${String(before)} of ${previous.backupId}; ${((lost * 100) / before).toFixed(0)} % are gone, more than ${String(percent)} %: if nobody deleted them, keep that backup and find out who did`,
        },
      ];
}

function nearQuota({ databaseBytes, flags }: Findable['announcement']): Finding[] {
  const quota = quotaBytes(flags);
  return quota === undefined || databaseBytes * 100 < quota * QUOTA_PERCENT
    ? []
    : [
        {
          finding: 'database-near-quota',
          sentence: `the database has ${String(databaseBytes)} bytes, ${((databaseBytes * 100) / quota).toFixed(0)} % of its quota of ${String(quota)}, expected less than ${String(QUOTA_PERCENT)} %; at 100 % etcd takes no writes any more: compact, defragment, or raise --quota-backend-bytes`,
        },
      ];
}

/** The quota that a member runs with, by its flags and environment; undefined when it has none (a negative one). */
export function quotaBytes(flags: readonly string[]): number | undefined {
  const value =
    flags.reduce<string | undefined>((last, flag, index) => {
      const given = /^--?quota-backend-bytes(?:=(.*))?$/.exec(flag);
      return given === null ? last : (given[1] ?? flags[index + 1]);
    }, undefined) ?? flags.findLast((flag) => flag.startsWith('ETCD_QUOTA_BACKEND_BYTES='))?.split('=')[1];
  // etcd does not start with what is no number.
  const bytes = Number(value ?? 0);
  return bytes < 0 ? undefined : bytes === 0 || Number.isNaN(bytes) ? DEFAULT_QUOTA_BYTES : bytes;
}

function certificatesNearEnd(certificates: Announcement['certificates']): Finding[] {
  const near = certificates.filter(({ daysLeft }) => daysLeft < CERTIFICATE_DAYS);
  return near.length === 0
    ? []
    : [
        {
          finding: 'certificates-near-end',
          sentence: `${near
            .slice(0, 5)
            .map(({ file, daysLeft }) => `${file} (${String(daysLeft)} days)`)
            .join(
              ', ',
            )}: expected at least ${String(CERTIFICATE_DAYS)} days each; without valid certificates members do not speak to each other: 'kubeadm certs renew' renews them`,
        },
      ];
}

function mostlyFree({ pages, pageSizeBytes }: Findable['facts']): Finding[] {
  const freeBytes = pages.free * pageSizeBytes;
  return freeBytes <= FREE_BYTES || pages.free * 100 <= pages.total * FREE_PERCENT
    ? []
    : [
        {
          finding: 'mostly-free-pages',
          sentence: `${String(freeBytes)} of ${String(pages.total * pageSizeBytes)} bytes are free pages, expected at most ${String(FREE_PERCENT)} %; 'etcdctl defrag', one member after the other, makes backups and restores as much shorter`,
        },
      ];
}

function etcdVersion(version: string, previous: PreviousFacts | undefined): Finding[] {
  const [major, minor, patch] = versionNumbers(version);
  const before = previous?.announced.etcdVersion;
  return [
    ...(before === undefined || before === version
      ? []
      : [
          {
            finding: 'etcd-version-changed',
            sentence: `etcd ${version} on this node, ${before} at ${previous?.backupId ?? ''}; a backup of the older version is only restored by tools that know it`,
          },
        ]),
    ...(major === 3 && minor === 5 && patch <= 2
      ? [
          {
            finding: 'etcd-version-corrupts',
            sentence: `etcd ${version} is one of 3.5.0 to 3.5.2, which can corrupt data when a member is killed; upgrade to the newest 3.5`,
          },
        ]
      : []),
    ...(major < 3 || (major === 3 && (minor < 5 || (minor === 5 && patch < 10)))
      ? [
          {
            finding: 'etcd-version-too-old',
            sentence: `etcd ${version} is older than 3.5.10, whose tools are the first that raise the revision at a restore; without that, clients miss changes after it: upgrade, or add newer tools to the bucket`,
          },
        ]
      : []),
  ];
}

/** Members that vote and have joined: one without a name was added and never started. */
function votingMembers(members: readonly { readonly name: string; readonly isLearner: boolean }[]): number {
  return members.filter(({ name, isLearner }) => !isLearner && name !== '').length;
}

function redundancyLost(members: Announcement['members'], previous: PreviousFacts | undefined): Finding[] {
  const now = votingMembers(members);
  const added = members.filter(({ isLearner }) => !isLearner).length;
  const before = previous === undefined ? now : votingMembers(previous.announced.members);
  const expected = now === 2 ? Math.max(3, before, added) : Math.max(before, added);
  return now >= expected
    ? []
    : [
        {
          finding: 'redundancy-lost',
          sentence: `${String(now)} voting members, expected ${String(expected)}; ${now <= 2 ? 'the loss of one more stops etcd' : 'the cluster bears fewer losses than before'}: bring the missing ones back`,
        },
      ];
}

function leaderChanged(changes: number): Finding[] {
  return changes > 0 ? [{ finding: 'leader-changed', sentence: ANNOUNCED['leader-changed'] ?? '' }] : [];
}

/** The snapshot begins after a linearizable read of this revision. An empty etcd is at 1 without a row. */
function revisionBehind(liveRevision: number, facts: Findable['facts']): Finding[] {
  return liveRevision <= 1 || newestRevision(facts) >= liveRevision
    ? []
    : [{ finding: 'revision-behind', sentence: ANNOUNCED['revision-behind'] ?? '' }];
}

function laterWentBack(facts: Findable['facts'], next: Findable['next']): Finding[] {
  return next === undefined || newestRevision(next.snapshot) >= newestRevision(facts)
    ? []
    : [
        {
          finding: 'revision-went-back',
          sentence: `revision ${String(newestRevision(facts))} here, and ${String(newestRevision(next.snapshot))} in ${next.backupId}, which is later and was verified before this one; expected revisions to grow: a member lost data in between, or etcd was restored by hand: then add that time to acknowledgedTimelines`,
        },
      ];
}

function notCompared({ announcement, facts, previous, comparable }: Findable): Finding[] {
  const uid = facts.kubernetes.kubeSystemUid !== null && (previous?.knownIdentity.kubeSystemUid ?? null) !== null;
  const ca = announcement.identity.etcdCaSha256 !== null && (previous?.knownIdentity.etcdCaSha256 ?? null) !== null;
  return [
    ...(announcement.hash === null
      ? [
          {
            finding: 'not-compared',
            sentence:
              "no tool on the node looked at the snapshot, so hash, revision and keys were measured here and held against nothing; run 'npm run tools -- add <version>'",
          },
        ]
      : []),
    ...(previous === undefined || !comparable.identity || uid || ca
      ? []
      : [
          {
            finding: 'identity-not-compared',
            sentence: `neither the UID of kube-system nor the fingerprint of etcd's CA is known of this backup and of ${previous.backupId}; nothing shows that both are of one cluster`,
          },
        ]),
  ];
}

function otherVersions({ deleteMarkers, otherVersions: versions }: Findable['others']): Finding[] {
  return [
    ...(deleteMarkers > 0
      ? [
          {
            finding: 'delete-marker',
            sentence: `${String(deleteMarkers)} delete markers lie over this snapshot, expected none; it is there and verified by its version: find out in CloudTrail who put them there`,
          },
        ]
      : []),
    ...(versions > 0
      ? [
          {
            finding: 'other-version',
            sentence: `${String(versions)} other versions lie under this snapshot's keys, expected none; they are not what was verified: find out in CloudTrail who wrote them`,
          },
        ]
      : []),
  ];
}

function untrustedReceipts(untrusted: readonly string[]): Finding[] {
  return untrusted.length === 0
    ? []
    : [
        {
          finding: 'receipt-untrusted',
          sentence: `${String(untrusted.length)} newer receipts were passed over, expected every receipt to be signed; the first: ${String(untrusted[0])}`,
        },
      ];
}
