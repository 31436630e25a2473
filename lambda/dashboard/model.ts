import type { DrillRecord } from '../shared/drill-record';
import type { Receipt } from '../shared/receipt';
import type { ExpectedExpiry } from '../audit/lifecycle';
import { savedAt } from '../audit/newest';
import type { Versions } from '../shared/store';
import { backupIdOfSnapshot } from '../verify/event';

/** A word and what it means, with what to do: of a receipt, or of what lies in the bucket now. */
export interface Remark {
  readonly word: string;
  readonly sentence: string;
}

/** What is known of the proof of a backup. Only `verified` can be restored. */
export type Proof =
  | { readonly kind: 'verified'; readonly receipt: Receipt }
  | { readonly kind: 'pending' }
  | { readonly kind: 'failed' }
  /** `why` says what is wrong with its receipts, its tag or what they prove. */
  | { readonly kind: 'not-trusted' | 'gone' | 'unproven'; readonly why: string };

/** One backup in the list. */
export interface BackupLine {
  readonly backupId: string;
  readonly time: Date;
  readonly proof: Proof;
  /** Of the newest version that is stored. */
  readonly compressedBytes: number;
  readonly remarks: readonly Remark[];
  /** The newest drill of this very version. */
  readonly drill: DrillRecord | undefined;
}

/** The bundles of certificates, keys and manifests that are stored. */
export interface PkiBundles {
  readonly newest: Date | undefined;
  readonly tooOldSeconds: number;
}

/** What the widget shows. Nothing of it is a key or a value of etcd. */
export interface DashboardModel {
  readonly cluster: string;
  readonly now: Date;
  readonly recoveryPointSeconds: number;
  readonly drillTooOldSeconds: number;
  /** Newest first. */
  readonly lines: readonly BackupLine[];
  /** The newest verified one on the current timeline, also when it is older than all lines; undefined when none was found. */
  readonly newestProof: BackupLine | undefined;
  /** How many backups are stored, those that are shown included. */
  readonly stored: number;
  /** Of those that are stored: how many have a delete marker over them. */
  readonly markedDeleted: number;
  /** Ids of restores that began a timeline while the backups of the list were taken, oldest first. */
  readonly restores: readonly string[];
  readonly lastDrill: DrillRecord | undefined;
  /** Undefined where the cluster keeps no PKI bundles. */
  readonly pki: PkiBundles | undefined;
  /** What could not be read and is not in the list, in sentences. */
  readonly warnings: readonly string[];
  readonly restoreMachineArn: string;
}

/** What was found under the receipt's key of a backup, and its tag where there was no receipt. */
export interface Found {
  readonly receipt: Receipt | undefined;
  readonly untrusted: readonly string[];
  readonly tag: string | undefined;
}

/** What S3 lists of one backup's snapshot. */
export interface Listed {
  readonly backupId: string;
  readonly versions: Versions['versions'];
  readonly deleteMarkers: number;
}

/** The backups of a list of `snapshots/`, newest first. What has only delete markers left is none. */
export function listedBackups({ versions, deleteMarkers }: Versions): Listed[] {
  const found = new Map<string, { versions: Versions['versions'][number][]; deleteMarkers: number }>();
  for (const version of versions) {
    const id = backupIdOfSnapshot(version.key);
    if (id !== undefined) {
      const backup = found.get(id) ?? { versions: [], deleteMarkers: 0 };
      backup.versions.push(version);
      found.set(id, backup);
    }
  }
  for (const { key } of deleteMarkers) {
    const backup = found.get(backupIdOfSnapshot(key) ?? '');
    if (backup !== undefined) {
      backup.deleteMarkers++;
    }
  }
  return [...found]
    .map(([backupId, backup]) => ({ backupId, ...backup }))
    .sort((a, b) => (a.backupId < b.backupId ? 1 : -1));
}

/** What is to be said of the proof. A receipt proves one version, which has to lie there still, as long as it was. */
export function proofOf(listed: Listed, { receipt, untrusted, tag }: Found): Proof {
  if (receipt !== undefined) {
    const version = listed.versions.find(
      ({ key, versionId }) => key === receipt.key && versionId === receipt.versionId,
    );
    if (version === undefined) {
      return {
        kind: 'gone',
        why: `the version ${receipt.versionId} that its receipt proves is not in the bucket any more; find out in CloudTrail who removed it`,
      };
    }
    return version.bytes === receipt.compressedBytes
      ? { kind: 'verified', receipt }
      : {
          kind: 'gone',
          why: `the version that its receipt proves has ${String(version.bytes)} bytes, expected ${String(receipt.compressedBytes)}; find out what answers in place of S3`,
        };
  }
  const [why] = untrusted;
  if (why !== undefined) {
    return { kind: 'not-trusted', why };
  }
  if (tag === 'pending' || tag === 'failed') {
    return { kind: tag };
  }
  return {
    kind: 'unproven',
    why:
      tag === undefined
        ? 'it has neither a receipt nor a tag; find out in CloudTrail who wrote it'
        : `its tag says '${tag}', which only a verified backup has, but its receipt is gone; find out in CloudTrail who removed it, and send {"backupId":"${listed.backupId}"} to the verify function`,
  };
}

const BUNDLE_KEY = /^pki\/(\d{8}T\d{6}Z)\.tar\.(?:zst|gz)$/;

/** When the newest bundle in a list of `pki/` was saved; undefined when there is none. */
export function newestBundle({ versions }: Pick<Versions, 'versions'>): Date | undefined {
  return versions
    .flatMap(({ key, storedAt }) => {
      const id = BUNDLE_KEY.exec(key)?.[1];
      return id === undefined ? [] : [savedAt(id, storedAt)];
    })
    .toSorted((a, b) => a.getTime() - b.getTime())
    .at(-1);
}

/** One line of the list. */
export function toLine(
  listed: Listed,
  found: Found,
  context: {
    readonly drills: readonly DrillRecord[];
    readonly expiry: ExpectedExpiry;
    readonly now: Date;
  },
): BackupLine {
  const { backupId, versions } = listed;
  const proof = proofOf(listed, found);
  return {
    backupId,
    time: savedAt(backupId, versions[0]?.storedAt ?? context.now),
    proof,
    compressedBytes: versions.at(-1)?.bytes ?? 0,
    remarks: remarksOf(listed, found, proof, context),
    drill: context.drills.findLast(
      (drill) =>
        drill.backupId === backupId &&
        (proof.kind === 'verified'
          ? drill.versionId === proof.receipt.versionId
          : versions.some(({ versionId }) => versionId === drill.versionId)),
    ),
  };
}

function remarksOf(
  { versions, deleteMarkers }: Listed,
  { receipt, untrusted }: Found,
  proof: Proof,
  { expiry, now }: { readonly expiry: ExpectedExpiry; readonly now: Date },
): Remark[] {
  const storedAt = versions[0]?.storedAt ?? now;
  const remarks: Remark[] = [
    ...(deleteMarkers > 0 ? [markerRemark(storedAt, proof, expiry, now)] : []),
    ...(versions.length > 1
      ? [
          {
            word: 'other-version',
            sentence: `${String(versions.length)} versions lie under its key, expected one; only the one that the receipt names is proven, and it is read by its id: find out in CloudTrail who wrote the others`,
          },
        ]
      : []),
    ...(receipt !== undefined && untrusted.length > 0
      ? [
          {
            word: 'receipt-untrusted',
            sentence: `beside the signed receipt there are ${String(untrusted.length)} that cannot be trusted: ${untrusted[0] ?? ''}`,
          },
        ]
      : []),
    ...(receipt?.findings ?? []).map(({ finding, sentence }) => ({ word: finding, sentence })),
  ];
  // What is seen now comes before what verify saw.
  return remarks.filter(({ word }, index) => remarks.findIndex((other) => other.word === word) === index);
}

const DAY_MILLISECONDS = 86_400_000;

/** Lifecycle expires by putting a marker, once the days of the class are over; before that somebody else did. */
function markerRemark(storedAt: Date, proof: Proof, expiry: ExpectedExpiry, now: Date): Remark {
  const tag = proof.kind === 'verified' ? proof.receipt.class : proof.kind === 'pending' ? 'pending' : 'failed';
  const days = expiry.days[tag] ?? 0;
  return now.getTime() - storedAt.getTime() >= days * DAY_MILLISECONDS
    ? {
        word: 'expired',
        sentence: `its ${String(days)} days as ${tag} are over; it can be restored as long as it is listed, which is about ${String(expiry.noncurrentDays)} days more`,
      }
    : {
        word: 'delete-marker',
        sentence:
          'a delete marker lies over it before its time; it hides nothing, the proven version is read by its id: find out in CloudTrail who put it there',
      };
}

/** Seconds of what a restore's staging and start take: download, restore and boot. Undefined when one of them did not end. */
export function drillSeconds({ seconds }: DrillRecord): number | undefined {
  const { download, restore, boot } = seconds;
  return download === undefined || restore === undefined || boot === undefined ? undefined : download + restore + boot;
}
