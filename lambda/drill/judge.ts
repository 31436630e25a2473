import type { FailedAnswer, Order, ProvenAnswer, RunFailure } from '../drill-run/order';
import type { DrillRecord } from '../shared/drill-record';
import type { Receipt } from '../shared/receipt';
import type { Invoked } from './invoke-run';

/** What a drill came to, as its record says it. */
export type Verdict = Pick<DrillRecord, 'outcome' | 'reason' | 'sentence' | 'seconds' | 'measured'>;

/** What of a receipt a drill is held against. */
export type Expected = Pick<Receipt, 'backupId' | 'snapshot' | 'inventory'>;

// The two functions have clocks of their own.
const CLOCK_SECONDS = 2;

/**
 * Holds what drill-run answered against the receipt. Whatever it answers, it cannot be more than the numbers of a snapshot that it had in its
 * hands: docs/drill.md says what that proves, and what it does not.
 *
 * @param seconds how long the answer took, by this function's clock
 */
export function judge(expected: Expected, order: Pick<Order, 'bump'>, invoked: Invoked, seconds: number): Verdict {
  switch (invoked.kind) {
    case 'no-answer':
      return failed(
        'no-answer',
        `drill-run: got ${invoked.errorType} after ${seconds.toFixed(0)} s, expected an answer; its own log says more; Sandbox.Timedout is a database too large for its time, Runtime.OutOfMemory or Runtime.ExitError one too large for its memory`,
        {},
      );
    case 'bad-answer':
      return failed(
        'bad-answer',
        `answer of drill-run: got something else in ${invoked.problems.join(', ')}, expected what docs/drill.md says; a binary of the bucket's tools/ may have answered in its place: compare their SHA-256 with etcd's release`,
        {},
      );
    case 'answer':
      return invoked.answer.ok
        ? judgeProven(expected, order, invoked.answer, seconds)
        : judgeFailed(expected, invoked.answer);
  }
}

function judgeProven(
  { backupId, snapshot, inventory }: Expected,
  { bump }: Pick<Order, 'bump'>,
  answer: ProvenAnswer,
  seconds: number,
): Verdict {
  const revision = snapshot.revision + bump;
  const differences: { readonly reason: string; readonly sentence: string }[] = [];
  const differ = (reason: string, what: string, got: number, wanted: string) => {
    differences.push({ reason, sentence: `${what}: got ${String(got)}, expected ${wanted}` });
  };
  const phases = answer.seconds.download + answer.seconds.restore + answer.seconds.boot + answer.seconds.read;
  if (answer.seconds.total > seconds + CLOCK_SECONDS || phases > answer.seconds.total + CLOCK_SECONDS) {
    differ(
      'bad-answer',
      'seconds',
      answer.seconds.total,
      `no more than the ${seconds.toFixed(1)} that the answer took`,
    );
  }
  if (answer.restoredRevision !== revision) {
    differ(
      'other-revision',
      'revision of the restored database',
      answer.restoredRevision,
      `${String(revision)}, which is ${String(snapshot.revision)} raised by ${String(bump)}`,
    );
  }
  // A lease that has ended since takes its keys along, each at a revision of its own.
  if (answer.servedRevision !== revision && (answer.servedRevision < revision || snapshot.leases === 0)) {
    differ('other-revision', 'revision that etcd served', answer.servedRevision, String(revision));
  }
  if (answer.keys !== inventory.objects) {
    differ('other-keys', 'keys read back', answer.keys, `${String(inventory.objects)} as the receipt says`);
  }
  if (answer.bytes !== inventory.bytes) {
    differ(
      'other-contents',
      'bytes of keys and values read back',
      answer.bytes,
      `${String(inventory.bytes)} as the receipt says`,
    );
  }
  // Receipts of older versions have none.
  if (snapshot.liveHash !== undefined && answer.hash !== snapshot.liveHash) {
    differ(
      'other-contents',
      'hash over what was read back',
      answer.hash,
      `${String(snapshot.liveHash)} as the receipt says`,
    );
  }
  if (answer.alarms > snapshot.alarms.length) {
    differ(
      'alarm',
      'alarms of the restored etcd',
      answer.alarms,
      `${String(snapshot.alarms.length)} as in the snapshot`,
    );
  }
  const [first] = differences;
  const measured = {
    revision: snapshot.revision,
    servedRevision: answer.servedRevision,
    keys: answer.keys,
    bytes: answer.bytes,
    hash: answer.hash,
    memoryBytes: answer.memoryBytes,
    diskBytes: answer.diskBytes,
  };
  if (first === undefined) {
    return { outcome: 'proven', reason: null, sentence: null, seconds: answer.seconds, measured };
  }
  return {
    ...failed(
      first.reason,
      `${differences.map(({ sentence }) => sentence).join('; ')}; backup ${backupId} does not restore to what was verified: drill an older one with {"snapshot": …}, and if that is proven, look at the version of etcd and its binaries`,
      answer.seconds,
    ),
    measured,
  };
}

/** What each word of drill-run means, and what to do. */
const FAILURES: Readonly<Record<RunFailure, (answer: FailedAnswer, backupId: string) => string>> = {
  'too-large': ({ freeBytes }, backupId) =>
    `disk of drill-run: got ${String(freeBytes ?? 0)} bytes free, expected room for backup ${backupId} and the database made of it; compact and defragment etcd, or restore it by hand now and then as docs/restore.md says`,
  'disk-full': (_answer, backupId) =>
    `disk of drill-run: got no room left while backup ${backupId} was restored, expected what was free at the beginning to be enough; send {} to drill again, and if it repeats, compact and defragment etcd`,
  'other-architecture': () =>
    `architecture of drill-run: got another than its binaries are for, expected the nodes'; set 'architecture' of the cluster to that of its control-plane nodes and deploy`,
  'tool-download': ({ tool, code }) =>
    `download of ${tool ?? 'a binary'}: got ${code === null ? 'a broken connection' : `HTTP ${String(code)}`}, expected it from the bucket's tools/; if it was removed, the next backup or 'npm run tools -- add' stores it again`,
  'tool-changed': ({ tool }) =>
    `${tool ?? 'a binary'} in the bucket's tools/: got other bytes than the SHA-256 in its key says, expected those; it was not run; find out in CloudTrail who wrote it`,
  'snapshot-download': ({ code }, backupId) =>
    `download of backup ${backupId}: got ${code === null ? 'a broken connection' : `HTTP ${String(code)}`}, expected its bytes; send {"snapshot": "${backupId}"} to drill again, and if it repeats, look whether its version is still in the bucket`,
  'snapshot-damaged': (_answer, backupId) =>
    `backup ${backupId}: got other bytes than its receipt says, expected those that were verified; it cannot be restored: take a new backup now, drill an older one, and find out in CloudTrail who touched this one`,
  'restore-failed': ({ tool, code }, backupId) =>
    `restore of backup ${backupId} with ${tool ?? 'etcdutl'}: got ${described(code)}, expected a member; the log of drill-run has its words; drill an older one with {"snapshot": …}`,
  'boot-failed': ({ code }, backupId) =>
    `etcd on what was restored of backup ${backupId}: got ${code === null ? 'no answer in time, or its end' : described(code)}, expected it to serve; the log of drill-run has its words; drill an older one with {"snapshot": …}`,
  'read-failed': ({ code }, backupId) =>
    `reading back backup ${backupId}: got ${described(code)} of etcdctl, expected every key; the log of drill-run has its words; send {"snapshot": "${backupId}"} to drill again`,
  'out-of-time': (_answer, backupId) =>
    `drill of backup ${backupId}: got the end of drill-run's time, expected the end of the drill before it; compact and defragment etcd, or look in the log of drill-run which phase took so long`,
};

function described(code: number | null): string {
  return code === null ? 'no usable answer' : `exit code ${String(code)}`;
}

function judgeFailed({ backupId }: Expected, answer: FailedAnswer): Verdict {
  const { reason, seconds } = answer;
  const verdict = failed(reason, FAILURES[reason](answer, backupId), seconds);
  return reason === 'too-large' ? { ...verdict, outcome: 'not-possible' } : verdict;
}

function failed(reason: string, sentence: string, seconds: Verdict['seconds']): Verdict {
  return { outcome: 'failed', reason, sentence, seconds, measured: null };
}
