import { backupIdOf } from '../shared/backup-id';
import { statesConsoleUrl } from '../shared/console';
import type { ExecutionEvent, KeyEvent } from './event';
import { at, lines, say } from './words';

/** What a person is told, whatever it is sent by. */
export interface Message {
  /** One line of at most 60 characters, without the cluster's name. */
  readonly title: string;
  /** What happened and what it means, each a line. */
  readonly facts: readonly string[];
  /** What there is to do, each a line. Empty: nothing. */
  readonly next: readonly string[];
  /** Where to look. */
  readonly links: readonly { readonly label: string; readonly url: string }[];
  /** Messages of one restore belong together. */
  readonly thread: string;
}

/** What messages are made with. */
export interface Context {
  readonly clusterName: string;
  /** Where the documentation lies; ends in a slash. */
  readonly docs: string;
}

const CAUSE_CHARACTERS = 3000;
const LINE = { count: 5, max: 300 };

/** What to say of an event; undefined: nothing, because another event will say it. Pure. */
export function messageOf(event: ExecutionEvent | KeyEvent, context: Context): Message | undefined {
  return event.kind === 'key' ? keyMessage(event, context) : executionMessage(event, context);
}

function executionMessage(event: ExecutionEvent, context: Context): Message | undefined {
  const told = toldOf(event, context);
  if (told === undefined) {
    return undefined;
  }
  const { title, facts, next, section } = told;
  const console = statesConsoleUrl(event.executionArn);
  return {
    title,
    facts: facts.filter((fact) => fact !== ''),
    next,
    links: [
      ...(console === undefined ? [] : [{ label: 'Execution', url: console }]),
      { label: 'Runbook', url: `${context.docs}${section}` },
    ],
    thread: `${context.clusterName}-${restoreIdOf(event)}`,
  };
}

type Told = Pick<Message, 'title' | 'facts' | 'next'> & {
  /** Of the documentation. */
  readonly section: string;
};

function toldOf(event: ExecutionEvent, context: Context): Told | undefined {
  const asked = askedOf(event);
  switch (event.status) {
    case 'RUNNING':
      // The plan that it makes is a message of its own, within seconds.
      return asked === 'plan' ? undefined : started(event, context, asked);
    case 'SUCCEEDED':
      return succeeded(event, context);
    case 'FAILED':
      if (asked === 'plan') {
        return planFailed(event, context);
      }
      return event.error === BROKEN_OFF ? stopped(event, context, event.status) : failed(event, context);
    case 'TIMED_OUT':
    case 'ABORTED':
      return asked === 'plan' ? undefined : stopped(event, context, event.status);
  }
}

/** What the execution was started for, as the machine reads its input. What is not known is taken for the most. */
function askedOf({ machine, input }: ExecutionEvent): 'plan' | 'restore' | 'rollback' {
  if (machine === 'plan') {
    return 'plan';
  }
  if (at(input, 'rollback') !== undefined) {
    return 'rollback';
  }
  return input === undefined || at(input, 'confirm') !== undefined ? 'restore' : 'plan';
}

/** The id that the machine gives a restore: when its execution began. */
function restoreIdOf({ startedAt }: ExecutionEvent): string {
  return backupIdOf(startedAt);
}

function started(event: ExecutionEvent, { clusterName }: Context, asked: 'restore' | 'rollback'): Told {
  const { input } = event;
  const forced =
    typeof input === 'object' && input !== null ? Object.keys(input).filter((field) => field.startsWith('force')) : [];
  return {
    title: asked === 'rollback' ? 'Rollback started' : 'Restore started',
    facts: [
      asked === 'rollback'
        ? `The undo of restore ${say(at(input, 'rollback'), 40)} of etcd of ${clusterName} has started.`
        : `A restore of etcd of ${clusterName} has started, with the id ${restoreIdOf(event)}.`,
      input === undefined
        ? 'What it was asked for is not in the event; the execution shows it.'
        : asked === 'restore'
          ? `It restores ${whatOf(input)}.`
          : `It puts back what that restore left unfinished. Of one that has ended it ${at(input, 'confirm') === undefined ? 'only makes the plan' : 'restores what that replaced'}.`,
      forced.length > 0 ? `Refusals that it does not heed: ${forced.map((field) => say(field, 40)).join(', ')}.` : '',
      ...whoOf(input),
      `No backup runs until it has ended.${asked === 'restore' ? ' Nothing is stopped before every node has proven the snapshot.' : ''}`,
    ],
    next: [],
    section:
      asked === 'restore'
        ? 'restore.md#what-it-does-and-how-long'
        : 'restore.md#when-an-execution-was-stopped-or-timed-out',
  };
}

function whatOf(input: unknown): string {
  if (at(input, 'from') === 'survivor') {
    return 'what the surviving member with the highest revision has';
  }
  const snapshot = say(at(input, 'snapshot'), 60);
  return snapshot === '' || snapshot === 'newest' ? 'the newest verified backup' : `the backup '${snapshot}'`;
}

/** As the input says, which nobody checks. */
function whoOf(input: unknown): string[] {
  const by = say(at(input, 'requestedBy'), 200);
  const reason = say(at(input, 'reason'), 200);
  return [
    by === '' ? 'The input does not say who asked for it.' : `Asked for, as the input says, by: ${by}`,
    reason === '' ? '' : `Reason, as the input says: ${reason}`,
  ];
}

function succeeded(event: ExecutionEvent, context: Context): Told {
  const { output } = event;
  switch (at(output, 'result')) {
    case 'Plan':
      return planned(output);
    case 'Restored':
      return restored(event, context);
    case 'RolledBack':
    case 'FinishedForward': {
      const undone = at(output, 'result') === 'RolledBack';
      return {
        title: undone ? 'Rolled back' : 'Not rolled back, but brought to its end',
        facts: [say(at(output, 'text'), 600), ...warningsOf(output)],
        next: lines(at(output, 'next'), LINE),
        section: 'restore.md#when-an-execution-was-stopped-or-timed-out',
      };
    }
    default:
      return {
        title: askedOf(event) === 'plan' ? 'Plan made' : 'Restore ended well',
        facts: [
          `The execution ${restoreIdOf(event)} of ${context.clusterName} has succeeded; what it came to is not in the event.`,
        ],
        next: ['Open the execution and look at its output.'],
        section: 'restore.md#after-it-is-restored',
      };
  }
}

function planned(plan: unknown): Told {
  const refusals = at(plan, 'refusals');
  const reasons = (Array.isArray(refusals) ? refusals : []).map((refusal: unknown) =>
    typeof refusal === 'string' ? refusal : `${say(at(refusal, 'name'), 60)}: ${say(at(refusal, 'sentence'), 300)}`,
  );
  const next = at(plan, 'next');
  const input = say(at(next, 'toRestoreThis'), 500);
  const forced = say(at(next, 'toForceAllOfThis'), 800);
  return {
    title: at(plan, 'canBeRestored') === true ? 'Restore planned' : 'Restore planned: it would be refused',
    facts: [
      `Nothing was changed. The plan ${say(at(plan, 'summary'), 400)}.`,
      say(at(at(plan, 'lost'), 'sentence'), 300),
      ...lines(reasons, LINE).map((reason) => `Refused: ${reason}`),
      ...warningsOf(plan),
    ],
    next:
      input !== ''
        ? [`To do it, start with: ${input}`]
        : [
            'Correct what is refused, then make the plan again.',
            ...(forced === ''
              ? []
              : [
                  `Only where each of these is known and meant (${say(at(next, 'forces'), 300)}): this input forces all of them: ${forced}`,
                ]),
          ],
    section: 'restore.md#in-the-console',
  };
}

function warningsOf(output: unknown): string[] {
  return lines(at(output, 'warnings'), LINE).map((warning) => `Warning: ${warning}`);
}

function restored(event: ExecutionEvent, { clusterName }: Context): Told {
  const { output } = event;
  const snapshot = at(output, 'snapshot');
  const downtime = at(output, 'downtimeSeconds');
  const nodes = lines(at(output, 'nodes'), { count: 9, max: 80 });
  const kept = say(at(output, 'keptBackupId'), 40);
  return {
    title: 'Restored',
    facts: [
      `etcd of ${clusterName} runs on ${snapshot === null ? 'the data of a surviving member' : `the data of backup ${say(at(snapshot, 'backupId'), 40)}`}, on ${nodes.join(', ')}.`,
      typeof downtime === 'number'
        ? `No API server answered for ${String(Math.round(downtime))} s; the restore took ${tookOf(event)} in all.`
        : `The restore took ${tookOf(event)}; how long no API server answered is not known.`,
      kept === '' ? 'No backup of what was there before could be taken.' : `What was there before is backup ${kept}.`,
      ...warningsOf(output),
    ],
    next: lines(at(output, 'next'), { count: 9, max: 400 }),
    section: 'restore.md#after-it-is-restored',
  };
}

function tookOf({ startedAt, endedAt }: ExecutionEvent): string {
  if (endedAt === null) {
    return 'a time that is not known';
  }
  const seconds = Math.round((endedAt.getTime() - startedAt.getTime()) / 1000);
  return seconds < 120 ? `${String(seconds)} s` : `${String(Math.round(seconds / 60))} min`;
}

function planFailed(event: ExecutionEvent, { clusterName }: Context): Told {
  return {
    title: 'No plan could be made',
    facts: [`A plan for a restore of ${clusterName} could not be made. Nothing was changed.`, ...failureOf(event)],
    next: ['Correct what the cause says, then start the plan again.'],
    section: 'restore.md#in-the-console',
  };
}

/** What no Catch takes: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html. */
const BROKEN_OFF = 'States.Runtime';

/** Errors of the machine that come before anything was changed. */
const REFUSED: readonly (string | null)[] = ['RestoreRefusedError', 'RestoreRequestError'];

function failed(event: ExecutionEvent, context: Context): Told {
  const { clusterName } = context;
  const isUndo = askedOf(event) === 'rollback';
  const id = restoreIdOf(event);
  const why = [...failureOf(event), ...whoOf(event.input)];
  if (event.error === 'RollbackFailed') {
    return {
      title: 'ROLLBACK FAILED: act now',
      facts: [
        `${isUndo ? `The undo of restore ${undoneBy(event)}` : `The restore ${id}`} of ${clusterName} failed, and not everything could be put back. Nodes may be stopped. Old data is kept on the nodes.`,
        ...why,
      ],
      next: ['Do what the cause says is left to do, node by node.'],
      section: 'restore.md#when-it-ends-in-rollbackfailed',
    };
  }
  if (event.error === 'RestoredWithoutBackup') {
    return {
      title: 'Restored, but no backup after it',
      facts: [`etcd of ${clusterName} runs on the restored data.`, ...why],
      next: ['See to it that the next backup of the schedule is verified, or take one by hand.'],
      section: 'restore.md#after-it-is-restored',
    };
  }
  if (isUndo) {
    return undoFailed(event, context);
  }
  return {
    title: REFUSED.includes(event.error) ? 'Restore refused' : 'Restore failed',
    facts: [
      REFUSED.includes(event.error)
        ? `The restore ${id} of ${clusterName} was refused. Nothing was changed.`
        : `The restore ${id} of ${clusterName} failed. Nothing is changed, or all of it was put back, unless the cause says otherwise.`,
      ...why,
    ],
    next: ['Correct what the cause says, then make a plan with {} before you try again.'],
    section: 'restore.md#when-it-ends-in-restorefailed',
  };
}

/** What was to be undone is in the way for as long as it is not: nothing of this is harmless. */
function undoFailed(event: ExecutionEvent, { clusterName }: Context): Told {
  const id = undoneBy(event);
  const wasRefused = REFUSED.includes(event.error);
  return {
    title: wasRefused ? 'Rollback did not start' : 'Rollback failed',
    facts: [
      `The undo of restore ${id} of ${clusterName} ${wasRefused ? 'was refused. R' : 'failed. Unless the cause says otherwise, r'}estore ${id} is as it was: nodes may be stopped.`,
      ...failureOf(event),
      ...whoOf(event.input),
    ],
    next: [`Correct what the cause says, then send {"rollback":"${id}"} again.`],
    section: 'restore.md#when-an-execution-was-stopped-or-timed-out',
  };
}

/** The restore that an execution was to undo. */
function undoneBy({ input }: ExecutionEvent): string {
  return say(at(input, 'rollback'), 40) || '<restore id>';
}

function failureOf({ error, cause }: ExecutionEvent): string[] {
  return [
    `Error: ${say(error, 100) || 'none was given'}`,
    `Cause: ${say(causeOf(cause), CAUSE_CHARACTERS) || 'none was given; see the execution'}`,
  ];
}

/** Lambda's cause is JSON with the message and a stack trace. */
function causeOf(cause: string | null): string {
  try {
    const message = at(JSON.parse(cause ?? ''), 'errorMessage');
    return typeof message === 'string' ? message : (cause ?? '');
  } catch {
    return cause ?? '';
  }
}

const HOW_IT_STOPPED = {
  ABORTED: { title: 'RESTORE STOPPED: act now', what: 'was stopped by somebody' },
  TIMED_OUT: { title: 'RESTORE TIMED OUT: act now', what: 'timed out' },
  FAILED: { title: 'RESTORE BROKEN OFF: act now', what: 'was ended by Step Functions itself' },
} as const;

function stopped(event: ExecutionEvent, { clusterName }: Context, status: keyof typeof HOW_IT_STOPPED): Told {
  const id = askedOf(event) === 'rollback' ? undoneBy(event) : restoreIdOf(event);
  const { title, what } = HOW_IT_STOPPED[status];
  return {
    title,
    facts: [
      `The execution ${restoreIdOf(event)} of ${clusterName} ${what}. No state could undo anything: the nodes are as they were at that moment, and may be stopped.`,
      ...failureOf(event),
      ...whoOf(event.input),
    ],
    next: [
      `Start the restore machine with {"rollback":"${id}"}: it puts back what was changed, or says that nothing was.`,
    ],
    section: 'restore.md#when-an-execution-was-stopped-or-timed-out',
  };
}

function keyMessage(event: KeyEvent, { clusterName, docs }: Context): Message {
  const { action, refused } = event;
  const keyId = say(event.keyId, 200);
  const what = action === 'DisableKey' ? 'disable' : 'delete';
  const undo =
    action === 'DisableKey'
      ? [`aws kms enable-key --key-id ${keyId}`]
      : [`aws kms cancel-key-deletion --key-id ${keyId}`, `aws kms enable-key --key-id ${keyId}`];
  return {
    title: refused === null ? `KEY AT RISK: ${action}` : `Somebody tried: ${action}`,
    facts: [
      refused === null
        ? `A key of the stack of ${clusterName} was ${action === 'DisableKey' ? 'disabled' : 'scheduled for deletion'}: ${keyId}`
        : `Somebody tried to ${what} a key of the stack of ${clusterName}, and KMS refused (${say(refused, 100)}): ${keyId}`,
      `By ${say(event.caller, 300) || 'a caller that CloudTrail does not name'}, at ${say(event.at, 40)}.`,
      refused === null
        ? 'While a key of the backups is off, they are not taken, verified or restored; while that of the topic is off, no alarm gets out. What a deleted key encrypted is lost for ever.'
        : '',
    ].filter((fact) => fact !== ''),
    next:
      refused === null
        ? [`If nobody of you meant that: ${undo.join(' && ')}`, 'Find out in CloudTrail who it was.']
        : ['Find out in CloudTrail who it was.'],
    links: [{ label: 'Runbook', url: `${docs}alarms.md#key-at-risk` }],
    thread: `${clusterName}-keys`,
  };
}
