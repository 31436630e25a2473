import { join } from 'node:path';
import { timeOf } from '../shared/backup-id';
import {
  AnnouncementError,
  describeError,
  EventError,
  ReceiptError,
  StoreError,
  VerificationFailedError,
} from '../shared/errors';
import { findReceipt, type Receipt, receiptBytes, receiptKey, signReceipt } from '../shared/receipt';
import { classOf, type RetentionClass } from '../shared/retention';
import { SnapshotDamagedError } from '../shared/snapshot/damage';
import type { SnapshotFacts } from '../shared/snapshot/facts';
import {
  getRetentionTag,
  headVersion,
  listVersions,
  type ObjectVersion,
  putNew,
  putRetentionTag,
  sha256Hex,
} from '../shared/store';
import { type Fields, MetricUnit, type Telemetry } from '../shared/telemetry';
import { checkAgainst, checkBytes, checkContent, checkStoredBytes, type Reason } from './checks';
import { download, type Downloaded, emptyDisk, prepareDisk } from './download';
import { backupIdOfSnapshot, NEXT, readEvent, type Request } from './event';
import { FINDING_WORDS, findFindings, findingMetric, urgencyOf } from './findings';
import { identityOf, makeReceipt } from './make-receipt';
import { findNextReceipt, findPreviousReceipt, listReceiptIds } from './previous-receipt';
import { holders, newestOfClassAfter } from './periods';
import { readVerified, type SettleDeps, settleRecent } from './settle';
import { readSignedSnapshot, type SignedSnapshot } from './signed-snapshot';
import { comparable, findTimelineStarts, type Place, type TimelineStart, timelineOf } from './timelines';

/** What the function works with. */
export interface VerifyDeps extends SettleDeps {
  readonly announcementKeyArn: string;
  /** Ids from which on backups are held only against each other. */
  readonly acknowledgedTimelines: readonly string[];
  /** Share of keys, in percent, whose loss since the previous receipt is a finding. */
  readonly keysLostPercent: number;
  /** Of the function alone: everything in it is removed first and last. */
  readonly directory: string;
  readonly readSnapshot: (file: string, options: { readonly trailerSha256?: string }) => SnapshotFacts;
  readonly telemetry: Telemetry;
}

/** One run of the function. */
export interface Invocation {
  /** The same for an asynchronous event and its retries. */
  readonly requestId: string;
  readonly functionName: string;
  readonly functionVersion: string;
}

/** `known`: an earlier delivery of the same event has written the receipt. */
export interface VerifyOutcome {
  readonly outcome: 'verified' | 'known';
  readonly backupId: string;
  readonly versionId: string;
  readonly receipt: string;
  readonly class: RetentionClass;
  readonly findings: readonly string[];
}

/** Proves one version of a snapshot, writes its receipt, tags and locks it. Every error says what to do; the platform retries. */
export async function verify(deps: VerifyDeps, event: unknown, invocation: Invocation): Promise<VerifyOutcome> {
  const request = readEvent(event, deps.store.bucket);
  const run = new Run(deps, invocation, request.backupId);
  try {
    // A run that Lambda killed leaves its decompressed database on this disk.
    await emptyDisk(deps.directory);
    return await prove(run, request);
  } finally {
    await emptyDisk(deps.directory);
    deps.telemetry.publish();
  }
}

class Run {
  readonly startedAt: Date;

  constructor(
    readonly deps: VerifyDeps,
    readonly invocation: Invocation,
    readonly backupId: string,
  ) {
    this.startedAt = deps.now();
  }

  secondsSince(time: Date): number {
    return (this.deps.now().getTime() - time.getTime()) / 1000;
  }

  /** Runs one phase: one log line and one duration, whatever comes of it. */
  async inPhase<T>(phase: string, work: () => Promise<readonly [T, Fields]>): Promise<T> {
    const { deps, backupId } = this;
    const started = deps.now();
    try {
      const [result, fields] = await work();
      deps.telemetry.phaseDone(phase, this.secondsSince(started), { backupId, ...fields });
      return result;
    } catch (error) {
      deps.telemetry.phaseFailed(phase, this.secondsSince(started), {
        backupId,
        error: describeError(error),
        requestId: this.invocation.requestId,
      });
      throw error;
    }
  }
}

/** The version that is to be verified, or was. */
interface Target {
  readonly version: ObjectVersion;
  /** What speaks against it before a byte of it is read. */
  readonly reasons: readonly Reason[];
  /** Undefined where reasons say why. */
  readonly signed: SignedSnapshot | undefined;
  /** The receipt of this very version, from an earlier run. */
  readonly receipt: Receipt | undefined;
  /** What the version carried when this run began. */
  readonly tag: string | undefined;
  readonly deleteMarkers: number;
  readonly otherVersions: number;
}

async function prove(run: Run, request: Request): Promise<VerifyOutcome> {
  const { deps } = run;
  const target = await run.inPhase('identify', () => identify(run, request));
  if (target.receipt !== undefined) {
    return finish(run, target, target.receipt, 'known');
  }
  if (target.signed === undefined || target.reasons.length > 0) {
    return refuse(run, target, target.reasons);
  }
  const starts = await findTimelineStarts(deps.store, deps.acknowledgedTimelines);
  const proof = await proveVersion(run, target, target.signed, starts);
  if ('reasons' in proof) {
    return refuse(run, target, proof.reasons);
  }
  const { receipt, created } = await run.inPhase('receipt', () => writeReceipt(run, proof.receipt));
  return finish(run, target, receipt, created ? 'verified' : 'known');
}

async function identify(run: Run, request: Request): Promise<readonly [Target, Fields]> {
  const { deps, backupId } = run;
  const list = await listVersions(deps.store, `snapshots/${backupId}.db.`);
  const ofBackup = ({ key }: { readonly key: string }) => backupIdOfSnapshot(key) === backupId;
  const versions = list.versions.filter(ofBackup).toSorted((a, b) => a.storedAt.getTime() - b.storedAt.getTime());
  const asked = request.version;
  const requested = versions.find(({ key, versionId }) => asked?.key === key && asked.versionId === versionId);
  const [oldest] = versions;
  if (oldest === undefined || (asked !== undefined && requested === undefined)) {
    throw new EventError(
      [
        `${asked === undefined ? `backupId: got ${backupId}` : `detail.object: got ${asked.key} version ${asked.versionId}`}, expected what is in the bucket; there are ${String(versions.length)} versions of this backup`,
      ],
      NEXT,
    );
  }
  const { receipt } = await findReceipt(deps, backupId);
  const proven = versions.find((one) => isOf(receipt, one));
  const isProven = proven !== undefined && (requested ?? proven) === proven;
  // What is proven needs its announcement no more, which expires before it.
  const { signed, unsigned } = isProven ? NONE_SIGNED : await firstSigned(deps, backupId, versions);
  const version = requested ?? proven ?? signed?.version ?? oldest;
  const target: Target = {
    version,
    reasons: isProven ? [] : whyNot(version, { signed, unsigned, receipt }),
    signed: signed?.version === version ? signed : undefined,
    receipt: isProven ? receipt : undefined,
    tag: await getRetentionTag(deps.store, version),
    deleteMarkers: list.deleteMarkers.filter(ofBackup).length,
    otherVersions: versions.length - 1,
  };
  return [
    target,
    {
      key: version.key,
      versionId: version.versionId,
      versions: versions.length,
      deleteMarkers: target.deleteMarkers,
      known: isProven,
    },
  ];
}

interface Signed {
  readonly signed: SignedSnapshot | undefined;
  /** Versions that come before it, and why each does not count. */
  readonly unsigned: ReadonlyMap<ObjectVersion, string>;
}

const NONE_SIGNED: Signed = { signed: undefined, unsigned: new Map() };

function isOf(receipt: Receipt | undefined, { key, versionId }: ObjectVersion): boolean {
  return receipt?.key === key && receipt.versionId === versionId;
}

/** The oldest version that is signed: what was written over it does not count, and neither does what was there before. */
async function firstSigned(deps: VerifyDeps, backupId: string, versions: readonly ObjectVersion[]): Promise<Signed> {
  const unsigned = new Map<ObjectVersion, string>();
  for (const version of versions) {
    try {
      return { signed: await readSignedSnapshot(deps, backupId, version), unsigned };
    } catch (error) {
      if (!(error instanceof AnnouncementError)) {
        throw error;
      }
      unsigned.set(version, error.message);
    }
  }
  return { signed: undefined, unsigned };
}

function whyNot(
  version: ObjectVersion,
  { signed, unsigned, receipt }: Signed & { readonly receipt: Receipt | undefined },
): Reason[] {
  const why = unsigned.get(version);
  return [
    ...(receipt === undefined
      ? []
      : [
          {
            reason: 'verified-version-exists' as const,
            sentence: `version ${version.versionId}: got another than the one that was verified, expected ${receipt.versionId} of ${receipt.key}, which stays what it is; find out in CloudTrail who wrote this one`,
          },
        ]),
    ...(why === undefined ? [] : [{ reason: 'unsigned' as const, sentence: why }]),
    ...(receipt !== undefined || why !== undefined || signed === undefined || signed.version === version
      ? []
      : [
          {
            reason: 'later-version' as const,
            sentence: `version ${version.versionId}: got one that is later than the signed version ${signed.version.versionId} of ${signed.version.key}, expected only that one; find out in CloudTrail who wrote this one`,
          },
        ]),
  ];
}

async function proveVersion(
  run: Run,
  target: Target,
  signed: SignedSnapshot,
  starts: readonly TimelineStart[],
): Promise<{ readonly receipt: Receipt } | { readonly reasons: readonly Reason[] }> {
  const { deps, backupId } = run;
  const { announcement, version } = signed;
  const stored = checkStoredBytes(announcement, version.bytes);
  if (stored.length > 0) {
    return { reasons: stored };
  }
  const place = placeOf(announcement);
  const { previous, untrusted } = await run.inPhase('previous', async () => {
    const found = await findPreviousReceipt(deps, backupId);
    return [
      found,
      {
        previous: found.previous?.backupId ?? null,
        timeline: timelineOf(place, starts),
        untrusted: found.untrusted.slice(0, 5),
      },
    ] as const;
  });
  const { next } = await findNextReceipt(deps, backupId);
  const read = await readObject(run, signed);
  if (read.facts === undefined) {
    return { reasons: read.reasons };
  }
  const { facts, downloaded } = read;
  const canCompare = comparable(previous?.backupId ?? backupId, place, starts);
  const reasons = [
    ...read.reasons,
    ...checkContent(announcement, facts),
    ...(previous === undefined
      ? []
      : checkAgainst(previous, { identity: identityOf(signed, facts), facts }, canCompare)),
  ];
  if (reasons.length > 0) {
    return { reasons };
  }
  const findings = findFindings({
    announcement,
    facts,
    previous,
    comparable: canCompare,
    keysLostPercent: deps.keysLostPercent,
    others: target,
    untrustedReceipts: untrusted,
    // Verified before this one, although it is later.
    next:
      next !== undefined && place.restoreId === undefined && comparable(backupId, next, starts).revision
        ? next
        : undefined,
  });
  const newestOfClass = newestOfClassAfter(previous);
  // Later ids that were verified before this one have taken their classes.
  const later = await readVerified(deps, await listReceiptIds(deps.store, backupId));
  const verified = [...holders(newestOfClass), ...later];
  const verifiedAt = deps.now();
  return {
    receipt: makeReceipt({
      snapshot: signed,
      downloaded,
      facts,
      findings,
      previous,
      compared: previous === undefined ? { identity: false, revision: false } : canCompare,
      class: classOf({ backupId, kind: announcement.trigger.kind }, verified, deps.keep),
      timeline: timelineOf(place, starts),
      newestOfClass,
      verifiedAt,
      verifiedBy: { function: run.invocation.functionName, version: run.invocation.functionVersion },
      seconds: {
        download: read.downloadSeconds,
        read: read.readSeconds,
        verify: run.secondsSince(run.startedAt),
        triggerToReceipt: run.secondsSince(triggeredAt(announcement)),
      },
    }),
  };
}

function placeOf({ trigger, backupId }: SignedSnapshot['announcement']): Place {
  return { backupId, restoreId: trigger.kind === 'pre-restore' ? trigger.restoreId : undefined };
}

/** The id of a backup that has no schedule is the second in which it was asked for. */
function triggeredAt({ trigger, backupId }: SignedSnapshot['announcement']): Date {
  return trigger.kind === 'schedule' ? new Date(trigger.scheduledTime) : timeOf(backupId);
}

/** What came of reading an object: facts where the file is sound, reasons where something is not as announced. */
interface ReadObject {
  readonly downloaded: Downloaded;
  readonly facts: SnapshotFacts;
  readonly reasons: readonly Reason[];
  readonly downloadSeconds: number;
  readonly readSeconds: number;
}

async function readObject(
  run: Run,
  signed: SignedSnapshot,
): Promise<ReadObject | { readonly facts: undefined; readonly reasons: readonly Reason[] }> {
  const { deps, backupId } = run;
  const { announcement, version } = signed;
  const file = join(deps.directory, `${backupId}.db`);
  await prepareDisk(deps.directory, announcement.sizeBytes);
  try {
    const started = deps.now();
    const downloaded = await run.inPhase('download', async () => {
      const got = await orDamage(() => download(deps.store, { ...announcement, version }, file));
      return [
        got,
        got instanceof SnapshotDamagedError
          ? { damage: got.damage }
          : { compressedBytes: version.bytes, sizeBytes: got.sizeBytes, resumed: got.resumed },
      ] as const;
    });
    const downloadSeconds = run.secondsSince(started);
    if (downloaded instanceof SnapshotDamagedError) {
      return { facts: undefined, reasons: [reasonOf(downloaded)] };
    }
    const reasons = checkBytes(announcement, { ...downloaded, storedSha256: await storedSha256(run, signed) });
    // A file that is shorter than announced has its trailer elsewhere.
    const known = downloaded.bodySha256 === undefined ? {} : { trailerSha256: downloaded.bodySha256 };
    const readFrom = deps.now();
    const facts = await run.inPhase('read', async () => {
      const got = await orDamage(() => deps.readSnapshot(file, known));
      return [
        got,
        got instanceof SnapshotDamagedError ? { damage: got.damage } : { hash: got.hash, revision: got.revision },
      ] as const;
    });
    if (facts instanceof SnapshotDamagedError) {
      return { facts: undefined, reasons: [...reasons, reasonOf(facts)] };
    }
    return { downloaded, facts, reasons, downloadSeconds, readSeconds: run.secondsSince(readFrom) };
  } finally {
    await emptyDisk(deps.directory);
  }
}

/** What S3 computed when it stored the version. That it does not say is no word on the snapshot. */
async function storedSha256({ deps }: Run, { version, storedSha256: known }: SignedSnapshot): Promise<string> {
  const sha256 = known ?? (await headVersion(deps.store, version)).sha256;
  if (sha256 === undefined) {
    throw new StoreError(
      `HeadObject s3://${deps.store.bucket}/${version.key} version ${version.versionId}: got no x-amz-checksum-sha256, expected the one that the upload was checked with; verify it again, and look what answers in place of S3`,
    );
  }
  return sha256;
}

/** Damage is a result here; anything else that goes wrong says nothing about the snapshot. */
async function orDamage<T>(work: () => T | Promise<T>): Promise<T | SnapshotDamagedError> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SnapshotDamagedError) {
      return error;
    }
    throw error;
  }
}

function reasonOf({ damage, message }: SnapshotDamagedError): Reason {
  return { reason: damage, sentence: message };
}

async function writeReceipt(
  run: Run,
  receipt: Receipt,
): Promise<readonly [{ readonly receipt: Receipt; readonly created: boolean }, Fields]> {
  const { store, kms, receiptKeyArn } = run.deps;
  const key = receiptKey(receipt.backupId);
  const body = receiptBytes(receipt);
  const signature = await signReceipt(kms, receiptKeyArn, receipt, body);
  const metadata = {
    'receipt-signature': signature,
    'receipt-sha256': sha256Hex(body),
    'backup-id': receipt.backupId,
    cluster: receipt.cluster,
  };
  const fields = { receipt: key, class: receipt.class, findings: receipt.findings.map(({ finding }) => finding) };
  if ((await putNew(store, { key, body, metadata })) === 'created') {
    return [
      { receipt, created: true },
      { ...fields, created: true },
    ];
  }
  // Another delivery of the same event was faster; what it proved of this version holds.
  const found = await findReceipt(run.deps, receipt.backupId);
  if (found.receipt?.key === receipt.key && found.receipt.versionId === receipt.versionId) {
    return [
      { receipt: found.receipt, created: false },
      { ...fields, created: false },
    ];
  }
  throw new ReceiptError(
    `s3://${store.bucket}/${key}: got ${found.receipt === undefined ? `an object that is no receipt of ours (${found.untrusted[0] ?? 'gone again'})` : `the receipt of version ${found.receipt.versionId}`}, expected none or that of version ${receipt.versionId}; find out in CloudTrail who wrote it`,
  );
}

async function finish(
  run: Run,
  target: Target,
  receipt: Receipt,
  outcome: 'verified' | 'known',
): Promise<VerifyOutcome> {
  // Before settling, so that nothing that is wrong with the tags of others hides that this one is proven. What has its tag was measured.
  if (outcome === 'verified' || UNPROVEN.includes(target.tag)) {
    measure(run.deps.telemetry, receipt);
  }
  await run.inPhase('settle', async () => {
    const done = await settleRecent(run.deps, receipt);
    return [done, { tags: done.tags.map(({ backupId, tag }) => `${backupId}=${tag}`), locks: done.locks }] as const;
  });
  return {
    outcome,
    backupId: receipt.backupId,
    versionId: receipt.versionId,
    receipt: receiptKey(receipt.backupId),
    class: receipt.class,
    findings: receipt.findings.map(({ finding }) => finding),
  };
}

function measure(telemetry: Telemetry, receipt: Receipt): void {
  telemetry.measure('Verified', MetricUnit.Count, 1);
  telemetry.measure('VerifyFailed', MetricUnit.Count, 0);
  telemetry.measure('VerifySeconds', MetricUnit.Seconds, receipt.seconds.verify);
  telemetry.measure('TriggerToReceiptSeconds', MetricUnit.Seconds, receipt.seconds.triggerToReceipt);
  telemetry.measure('SnapshotBytes', MetricUnit.Bytes, receipt.sizeBytes);
  telemetry.measure('CompressedBytes', MetricUnit.Bytes, receipt.compressedBytes);
  telemetry.measure('LiveObjects', MetricUnit.Count, receipt.inventory.objects);
  telemetry.measure('Revision', MetricUnit.NoUnit, receipt.snapshot.revision);
  const urgencies = receipt.findings.map(({ finding }) => urgencyOf(finding));
  telemetry.measure('UrgentFindings', MetricUnit.Count, urgencies.filter((urgency) => urgency === 'urgent').length);
  telemetry.measure('FindingsToCorrect', MetricUnit.Count, urgencies.filter((urgency) => urgency === 'correct').length);
  for (const metric of new Set(receipt.findings.map(({ finding }) => findingMetric(finding)))) {
    telemetry.measure(metric, MetricUnit.Count, 1);
  }
}

function nameOf({ deps }: Run, { key, versionId }: ObjectVersion): string {
  return `s3://${deps.store.bucket}/${key} version ${versionId}`;
}

// What a version may carry that is tagged `failed`: anything else says that it was proven.
const UNPROVEN: readonly (string | undefined)[] = [undefined, 'pending', 'failed'];

/** Says why, tags the version, and throws; unless another run has proven this very version in the meantime. */
async function refuse(run: Run, target: Target, reasons: readonly Reason[]): Promise<VerifyOutcome> {
  const { store, telemetry } = run.deps;
  const { version } = target;
  const { receipt } = await findReceipt(run.deps, run.backupId);
  if (receipt !== undefined && isOf(receipt, version)) {
    return finish(run, target, receipt, 'known');
  }
  const sentences = reasons.map(({ reason, sentence }) => `${reason}: ${sentence}`);
  // Lambda's retries come to the same, so that the failure queue has the reasons too; they are one failure.
  if (target.tag !== 'failed') {
    telemetry.measure('Verified', MetricUnit.Count, 0);
    telemetry.measure('VerifyFailed', MetricUnit.Count, 1);
    for (const metric of new Set(reasons.map(({ reason }) => reason))) {
      if (FINDING_WORDS.includes(metric)) {
        telemetry.measure(findingMetric(metric), MetricUnit.Count, 1);
      }
    }
  }
  telemetry.phaseFailed('verify', run.secondsSince(run.startedAt), {
    backupId: run.backupId,
    key: version.key,
    versionId: version.versionId,
    reasons: sentences,
    requestId: run.invocation.requestId,
  });
  const tag = await getRetentionTag(store, version);
  if (!UNPROVEN.includes(tag)) {
    throw new ReceiptError(
      `${nameOf(run, version)}: got the tag '${String(tag)}', which only a proven version has, and no receipt that can be trusted; now it is ${sentences.join('; ')}; expected its receipt; the tag stays: if the receipt key was replaced, give the old one back as existingReceiptKeyArn`,
    );
  }
  await putRetentionTag(store, version, 'failed');
  throw new VerificationFailedError(nameOf(run, version), sentences);
}
