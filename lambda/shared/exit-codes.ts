/**
 * What the backup function does after an exit code. `compare`: success if the stored object has the announced bytes. `restore only`: no script
 * of a backup ends with it; a restore that hears it from any node goes no further.
 */
export type Then = 'next node' | 'stop' | 'compare' | 'restore only';

/** One meaning of a script's exit status. */
export interface ExitCode {
  readonly code: number;
  readonly name: string;
  readonly then: Then;
}

const nextNode = (code: number, name: string): ExitCode => ({ code, name, then: 'next node' });
const restoreOnly = (code: number, name: string): ExitCode => ({ code, name, then: 'restore only' });
const stop = (code: number, name: string): ExitCode => ({ code, name, then: 'stop' });

/** The table of node/contract.sh and docs/exit-codes.md; a test compares all three. */
export const EXIT_CODES: readonly ExitCode[] = [
  nextNode(10, 'not-root'),
  nextNode(11, 'bad-parameter'),
  nextNode(12, 'already-running'),
  nextNode(13, 'restore-running'),
  nextNode(14, 'missing-command'),
  nextNode(20, 'no-etcd'),
  nextNode(21, 'not-as-manifest'),
  nextNode(22, 'config-file'),
  nextNode(23, 'no-endpoint'),
  nextNode(30, 'certificate-missing'),
  nextNode(31, 'certificate-unreadable'),
  nextNode(32, 'certificate-no-client-auth'),
  nextNode(33, 'certificate-expired'),
  stop(40, 'auth'),
  nextNode(41, 'no-quorum'),
  nextNode(42, 'learner'),
  nextNode(43, 'fewer-members'),
  nextNode(44, 'corrupt'),
  nextNode(45, 'wrong-member'),
  nextNode(50, 'disk'),
  nextNode(51, 'no-tool'),
  nextNode(52, 'tool-changed'),
  nextNode(60, 'save-failed'),
  nextNode(61, 'trailer'),
  nextNode(62, 'status'),
  nextNode(63, 'compress-failed'),
  stop(64, 'too-large'),
  nextNode(70, 'upload-refused'),
  nextNode(71, 'upload-expired'),
  { code: 72, name: 'upload-exists', then: 'compare' },
  nextNode(73, 'upload-failed'),
  nextNode(74, 'nothing-staged'),
  restoreOnly(80, 'other-restore'),
  restoreOnly(81, 'not-prepared'),
  restoreOnly(82, 'seal'),
  restoreOnly(83, 'download'),
  restoreOnly(84, 'snapshot-bytes'),
  restoreOnly(85, 'restore-failed'),
  restoreOnly(86, 'layout'),
  restoreOnly(87, 'not-stopped'),
  restoreOnly(88, 'swap'),
  restoreOnly(89, 'not-started'),
  restoreOnly(90, 'not-healthy'),
  restoreOnly(91, 'already-served'),
  restoreOnly(92, 'not-undone'),
  nextNode(99, 'unexpected'),
];

/** What to do after this exit code; an unknown code says nothing about other nodes, so the next one is tried. */
export function afterExitCode(code: number): Then {
  return EXIT_CODES.find((entry) => entry.code === code)?.then ?? 'next node';
}
