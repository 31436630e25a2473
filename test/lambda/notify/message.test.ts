import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readEvent } from '../../../lambda/notify/event';
import { type Message, messageOf } from '../../../lambda/notify/message';
import { render } from '../../../lambda/notify/render';

const CONTEXT = { clusterName: 'prod-eu', docs: 'https://example.com/docs/' };
const RESTORE_MACHINE = 'arn:aws:states:eu-central-1:111122223333:stateMachine:Restore';
const PLAN_MACHINE = 'arn:aws:states:eu-central-1:111122223333:stateMachine:Plan';
const EXECUTION = 'arn:aws:states:eu-central-1:111122223333:execution:Restore:one';
const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

/** As https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html shows them. */
function execution(detail: object, machine = RESTORE_MACHINE): unknown {
  return {
    version: '0',
    source: 'aws.states',
    'detail-type': 'Step Functions Execution Status Change',
    detail: {
      executionArn: EXECUTION,
      stateMachineArn: machine,
      name: 'one',
      startDate: Date.UTC(2026, 10, 21, 14, 0, 5),
      stopDate: Date.UTC(2026, 10, 21, 14, 4, 5),
      input: '{}',
      inputDetails: { included: true },
      output: null,
      error: null,
      cause: null,
      ...detail,
    },
  };
}

function messageFor(event: unknown): Message | undefined {
  return messageOf(readEvent(event, PLAN_MACHINE), CONTEXT);
}

/** What a person reads in an e-mail: the subject, then the text. */
function mail(event: unknown): string {
  const message = messageFor(event);
  if (message === undefined) {
    throw new Error('message: got none, expected one');
  }
  const { subject, message: body } = render(message, CONTEXT.clusterName);
  return `${subject}\n\n${(JSON.parse(body) as { default: string }).default}`;
}

interface Chat {
  readonly version: string;
  readonly source: string;
  readonly content: {
    readonly textType: string;
    readonly title: string;
    readonly description: string;
    readonly nextSteps?: readonly string[];
  };
  readonly metadata: { readonly threadId: string };
}

function chat(event: unknown): Chat {
  const { message } = render(messageFor(event) as Message, CONTEXT.clusterName);
  return JSON.parse((JSON.parse(message) as { https: string }).https) as Chat;
}

const CONFIRMED = { confirm: 'prod-eu', requestedBy: 'jo@example.com', reason: 'etcd lost quorum' };
const PLAN = {
  result: 'Plan',
  summary:
    'would restore backup 20261121T140000Z, 5 min old, on 3 of 3 running nodes of prod-eu; nothing speaks against it',
  canBeRestored: true,
  refusals: [],
  warnings: ['drills are three days old'],
  lost: { revisions: 12, sentence: 'cp-1 is 12 revisions further: each is a write that a restore takes back' },
  next: { toRestoreThis: '{"confirm":"prod-eu","snapshot":"20261121T140000Z"}' },
};
const RESTORED = {
  result: 'Restored',
  restoreId: '20261121T140005Z',
  snapshot: { backupId: '20261121T130000Z', revision: 1234 },
  nodes: ['cp-1 (i-1)', 'cp-2 (i-2)', 'cp-3 (i-3)'],
  downtimeSeconds: 31.4,
  keptBackupId: '20261121T140006Z',
  warnings: ['i-3 was slow'],
  next: ['nodes that joined after the backup need a restart of their kubelet'],
};

describe('a message', () => {
  test('that a restore has started says what is restored, for whom and why', () => {
    expect(mail(execution({ status: 'RUNNING', input: JSON.stringify({ ...CONFIRMED, forceQuota: true }) }))).toBe(
      `etcd of prod-eu: Restore started

A restore of etcd of prod-eu has started, with the id 20261121T140005Z.
It restores the newest verified backup.
Refusals that it does not heed: forceQuota.
Asked for, as the input says, by: jo@example.com
Reason, as the input says: etcd lost quorum
No backup runs until it has ended. Nothing is stopped before every node has proven the snapshot.

Execution: https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/${EXECUTION}
Runbook: https://example.com/docs/restore.md#what-it-does-and-how-long
`,
    );
  });

  test('that a restore has ended says what runs now, how long it was down and what is left to do', () => {
    const text = mail(
      execution({ status: 'SUCCEEDED', input: JSON.stringify(CONFIRMED), output: JSON.stringify(RESTORED) }),
    );
    expect(text).toContain(
      `etcd of prod-eu: Restored

etcd of prod-eu runs on the data of backup 20261121T130000Z, on cp-1 (i-1), cp-2 (i-2), cp-3 (i-3).
No API server answered for 31 s; the restore took 4 min in all.
What was there before is backup 20261121T140006Z.
Warning: i-3 was slow

What to do:
- nodes that joined after the backup need a restart of their kubelet
`,
    );
    expect(text).toContain('docs/restore.md#after-it-is-restored');
  });

  test.each<[string, object, string[], string[]]>([
    [
      'of another backup',
      { input: '{"confirm":"prod-eu","snapshot":"20261120T140000Z"}' },
      ["It restores the backup '20261120T140000Z'."],
      [],
    ],
    [
      'from a survivor',
      { input: '{"confirm":"prod-eu","from":"survivor"}' },
      ['It restores what the surviving member'],
      [],
    ],
    [
      'by nobody in particular',
      { input: '{"confirm":"prod-eu"}' },
      ['The input does not say who asked for it.'],
      ['Reason'],
    ],
    [
      'whose input had no room in the event',
      { input: null },
      ['Restore started', 'not in the event; the execution shows it'],
      [],
    ],
    ['whose input is no JSON', { input: '{' }, ['Restore started', 'not in the event'], []],
    [
      'that undoes another',
      { input: '{"rollback":"20261120T140000Z"}' },
      [
        'Rollback started',
        'The undo of restore 20261120T140000Z',
        'Of one that has ended it only makes the plan.',
        'restore.md#when-an-execution-was-stopped-or-timed-out',
      ],
      ['It restores', 'Nothing is stopped before'],
    ],
    [
      'that undoes another, ended or not',
      { input: '{"rollback":"20261120T140000Z","confirm":"prod-eu"}' },
      ['Rollback started', 'Of one that has ended it restores what that replaced.'],
      ['only makes the plan', 'Nothing is stopped before'],
    ],
  ])('of the start of a restore %s says so', (_what, detail, there, notThere) => {
    const text = mail(execution({ status: 'RUNNING', ...detail }));
    for (const words of there) {
      expect(text).toContain(words);
    }
    for (const words of notThere) {
      expect(text).not.toContain(words);
    }
  });

  test.each<[string, string, unknown]>([
    ['on the restore machine', RESTORE_MACHINE, '{}'],
    ["with the console's own sample input", RESTORE_MACHINE, '{"Comment":"Insert your JSON here"}'],
    ['on the machine for planning, without its input', PLAN_MACHINE, null],
  ])('of a plan is the plan in short, %s', (_what, machine, input) => {
    expect(messageFor(execution({ status: 'RUNNING', input: input ?? '{}' }, machine))).toBeUndefined();
    const text = mail(execution({ status: 'SUCCEEDED', input, output: JSON.stringify(PLAN) }, machine));
    expect(text).toContain('etcd of prod-eu: Restore planned\n');
    expect(text).toContain(`Nothing was changed. The plan ${PLAN.summary}.`);
    expect(text).toContain(PLAN.lost.sentence);
    expect(text).toContain('Warning: drills are three days old');
    expect(text).toContain(`- To do it, start with: ${PLAN.next.toRestoreThis}`);
  });

  test('of a plan that would be refused has the reasons, and how many more there are', () => {
    const refusals = Array.from({ length: 7 }, (_, number) => ({
      name: `reason-${String(number)}`,
      sentence: 'because',
    }));
    const output = { ...PLAN, canBeRestored: false, refusals, next: { correct: 'what the refusals say' } };
    const text = mail(execution({ status: 'SUCCEEDED', output: JSON.stringify(output) }));
    expect(text).toContain('Restore planned: it would be refused');
    expect(text).toContain('Refused: reason-4: because\nRefused: and 2 more\n');
    expect(text).toContain('- Correct what is refused, then make the plan again.');
  });

  test('of a plan that would be refused says what its input forces, and not that it is the way to do it', () => {
    const toForceAllOfThis = '{"confirm":"prod-eu","forceIdentity":true,"forceQuota":true}';
    const next = { correct: 'what the refusals say', forces: 'other-cluster-ca, quota', toForceAllOfThis };
    const refusals = [{ name: 'quota', sentence: 'because' }];
    const output = { ...PLAN, canBeRestored: false, refusals, next };
    const text = mail(execution({ status: 'SUCCEEDED', output: JSON.stringify(output) }));
    expect(text).not.toContain('To do it');
    expect(text).toContain(
      `What to do:
- Correct what is refused, then make the plan again.
- Only where each of these is known and meant (other-cluster-ca, quota): this input forces all of them: ${toForceAllOfThis}
`,
    );
  });

  test('of a plan that failed says why, from what Lambda says', () => {
    const cause = JSON.stringify({ errorType: 'NoNodeError', errorMessage: 'got no node', trace: ['secret path'] });
    const text = mail(execution({ status: 'FAILED', error: 'NoNodeError', cause }, PLAN_MACHINE));
    expect(text).toContain('No plan could be made');
    expect(text).toContain('Error: NoNodeError\nCause: got no node\n');
    expect(text).not.toContain('secret path');
  });

  test.each<[string, string, string, string]>([
    ['RollbackFailed', 'ROLLBACK FAILED: act now', 'Nodes may be stopped', 'when-it-ends-in-rollbackfailed'],
    ['RestoredWithoutBackup', 'Restored, but no backup after it', 'runs on the restored data', 'after-it-is-restored'],
    ['RestoreRefusedError', 'Restore refused', 'Nothing was changed', 'when-it-ends-in-restorefailed'],
    ['PreflightFailed', 'Restore failed', 'or all of it was put back', 'when-it-ends-in-restorefailed'],
    [
      'States.Runtime',
      'RESTORE BROKEN OFF: act now',
      'with {"rollback":"20261121T140005Z"}',
      'when-an-execution-was-stopped-or-timed-out',
    ],
  ])('of a restore that ended in %s is titled "%s"', (error, title, meaning, section) => {
    const cause = 'i-2 (cp-2) did not answer; what is left to do: start its kubelet';
    const text = mail(execution({ status: 'FAILED', input: JSON.stringify(CONFIRMED), error, cause }));
    for (const words of [title, meaning, cause, 'jo@example.com', `docs/restore.md#${section}`]) {
      expect(text).toContain(words);
    }
  });

  test.each<[string, string, string]>([
    ['RestoreRefusedError', 'Rollback did not start', 'prod-eu was refused. Restore 20261120T140000Z is as it was'],
    [
      'States.Timeout',
      'Rollback failed',
      'prod-eu failed. Unless the cause says otherwise, restore 20261120T140000Z is',
    ],
  ])('of an undo that ended in %s is titled "%s", and leads back to it', (error, title, meaning) => {
    const cause = 'i-2 (cp-2) does not answer, expected every running node to say whether that restore is under way';
    const input = '{"rollback":"20261120T140000Z","requestedBy":"jo@example.com"}';
    const text = mail(execution({ status: 'FAILED', input, error, cause }));
    for (const words of [
      `etcd of prod-eu: ${title}\n`,
      meaning,
      'nodes may be stopped',
      cause,
      'jo@example.com',
      '- Correct what the cause says, then send {"rollback":"20261120T140000Z"} again.',
      'docs/restore.md#when-an-execution-was-stopped-or-timed-out',
    ]) {
      expect(text).toContain(words);
    }
    expect(text).not.toMatch(/Nothing (was|is) changed|make a plan/);
  });

  test('of an undo that could not put everything back, or restored and took no backup, says that', () => {
    const undo = (error: string) =>
      mail(execution({ status: 'FAILED', input: '{"rollback":"20261120T140000Z"}', error }));
    expect(undo('RollbackFailed')).toContain('ROLLBACK FAILED: act now');
    expect(undo('RollbackFailed')).toContain(
      'The undo of restore 20261120T140000Z of prod-eu failed, and not everything',
    );
    expect(undo('RestoredWithoutBackup')).toContain('Restored, but no backup after it');
  });

  test('of an undo whose input names no restore has a place for its id', () => {
    const text = mail(execution({ status: 'FAILED', input: '{"rollback":{}}', error: 'RestoreRequestError' }));
    expect(text).toContain('{"rollback":"<restore id>"}');
  });

  test('of a failure without error and cause says that none was given', () => {
    const text = mail(execution({ status: 'FAILED', input: JSON.stringify(CONFIRMED) }));
    expect(text).toContain('Error: none was given\nCause: none was given; see the execution');
  });

  test.each([
    ['ABORTED', 'RESTORE STOPPED: act now', 'was stopped by somebody'],
    ['TIMED_OUT', 'RESTORE TIMED OUT: act now', 'timed out'],
  ])('of a restore that is %s says how to undo it', (status, title, words) => {
    const text = mail(execution({ status, input: JSON.stringify(CONFIRMED), error: 'x', cause: 'y' }));
    expect(text).toContain(title);
    expect(text).toContain(words);
    expect(text).toContain('{"rollback":"20261121T140005Z"}');
    const undo = mail(execution({ status, input: '{"rollback":"20261120T140000Z"}' }));
    expect(undo).toContain('with {"rollback":"20261120T140000Z"}');
    expect(messageFor(execution({ status, input: '{}' }))).toBeUndefined();
  });

  test('of a restore that no state could take over is that of one that was stopped, and of a plan it is not', () => {
    const ended = (input: string) => mail(execution({ status: 'FAILED', input, error: 'States.Runtime', cause: 'y' }));
    expect(ended(JSON.stringify(CONFIRMED))).toContain(
      'was ended by Step Functions itself. No state could undo anything',
    );
    expect(ended('{"rollback":"20261120T140000Z"}')).toContain('with {"rollback":"20261120T140000Z"}');
    expect(ended('{}')).toContain('No plan could be made');
  });

  test.each([
    ['RolledBack', 'Rolled back'],
    ['FinishedForward', 'Not rolled back, but brought to its end'],
  ])('of an undo that came to %s has its text and what is next', (result, title) => {
    const output = { result, text: 'restore 20261120T140000Z was dealt with', warnings: ['w'], next: ['n'] };
    const text = mail(
      execution({ status: 'SUCCEEDED', input: '{"rollback":"20261120T140000Z"}', output: JSON.stringify(output) }),
    );
    for (const words of [title, output.text, 'Warning: w', '- n']) {
      expect(text).toContain(words);
    }
  });

  test.each([null, '"text"', '[]', '{"result":7}', '{'])(
    'of a success with the output %j sends to the execution',
    (output) => {
      const text = mail(execution({ status: 'SUCCEEDED', input: JSON.stringify(CONFIRMED), output }));
      expect(text).toContain('Restore ended well');
      expect(text).toContain('- Open the execution and look at its output.');
    },
  );
});

/** As https://docs.aws.amazon.com/kms/latest/developerguide/ct-disablekey.html shows them. */
function keyCall(detail: object): unknown {
  return {
    source: 'aws.kms',
    'detail-type': 'AWS API Call via CloudTrail',
    detail: {
      eventSource: 'kms.amazonaws.com',
      eventName: 'DisableKey',
      eventTime: '2026-11-21T14:00:00Z',
      userIdentity: { type: 'IAMUser', arn: 'arn:aws:iam::111122223333:user/Alice' },
      requestParameters: { keyId: KEY },
      ...detail,
    },
  };
}

describe('a message of a key', () => {
  test.each([
    ['DisableKey', 'was disabled', `aws kms enable-key --key-id ${KEY}`],
    [
      'ScheduleKeyDeletion',
      'was scheduled for deletion',
      `aws kms cancel-key-deletion --key-id ${KEY} && aws kms enable-key`,
    ],
  ])('that %s was called for says who it was and how to undo it', (eventName, what, undo) => {
    const text = mail(keyCall({ eventName }));
    for (const words of [
      `KEY AT RISK: ${eventName}`,
      what,
      KEY,
      'By arn:aws:iam::111122223333:user/Alice, at 2026-11-21T14:00:00Z.',
      undo,
      'alarms.md#key-at-risk',
    ]) {
      expect(text).toContain(words);
    }
  });

  test('says when it was only tried', () => {
    const text = mail(keyCall({ errorCode: 'AccessDenied', userIdentity: null }));
    expect(text).toContain('Somebody tried: DisableKey');
    expect(text).toContain('KMS refused (AccessDenied)');
    expect(text).toContain('By a caller that CloudTrail does not name');
    expect(text).not.toContain('enable-key');
  });
});

describe('hostile words', () => {
  const HOSTILE = 'x\r\n\r\nRestored: all is well\u202e\u0000\u200b <!channel> <https://evil.example|here> &amp; é 🔥';
  const event = execution({
    status: 'RUNNING',
    input: JSON.stringify({
      ...CONFIRMED,
      requestedBy: HOSTILE,
      reason: HOSTILE,
      ['force\nRestored']: true,
      snapshot: HOSTILE,
    }),
  });

  test('stay on one line, and in what is theirs', () => {
    const text = mail(event);
    expect(text).not.toMatch(/^Restored/m);
    expect(['\r', '\u202e', '\u0000', '\u200b'].filter((character) => text.includes(character))).toEqual([]);
    expect(text).toContain('by: x Restored: all is well <!channel>');
  });

  test('call nobody and link nowhere in a chat', () => {
    const { description } = chat(event).content;
    expect(description).not.toContain('<');
    expect(description).toContain('&lt;!channel&gt;');
    expect(description).toContain('&amp;amp;');
  });

  test('do not get into the subject, which is one line of ASCII with less than 100 characters', () => {
    const message: Message = {
      title: `${'ü'.repeat(3)}\n${'a'.repeat(200)}`,
      facts: [],
      next: [],
      links: [],
      thread: 't',
    };
    const { subject } = render(message, 'prod-eu');
    expect(subject).toMatch(/^[ -~]{99}$/);
    expect(subject).toContain('etcd of prod-eu: ?aaa');
  });

  test.each(['__proto__', 'constructor', 'toString'])(
    'that name what every object has, such as %s, are none',
    (name) => {
      const input = `{"confirm":"prod-eu","${name}":{"requestedBy":"evil"},"reason":{"toString":"x"}}`;
      expect(mail(execution({ status: 'RUNNING', input }))).not.toContain('evil');
    },
  );
});

describe('a message in a chat', () => {
  // https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
  test('keeps to the form and the sizes that Amazon Q Developer takes, whatever the cause is', () => {
    const cause = '<&>'.repeat(20_000);
    const { version, source, content } = chat(
      execution({ status: 'FAILED', input: JSON.stringify(CONFIRMED), error: 'RollbackFailed', cause }),
    );
    expect([version, source, content.textType]).toEqual(['1.0', 'custom', 'client-markdown']);
    expect(content.title).toBe('etcd of prod-eu: ROLLBACK FAILED: act now');
    expect(content.description.length).toBeLessThanOrEqual(8000);
    expect(content.description).not.toMatch(/&[a-z]*$/);
    expect(content.nextSteps).toEqual(['Do what the cause says is left to do, node by node.']);
  });

  test('belongs to the thread of its restore, from start to end', () => {
    const input = JSON.stringify(CONFIRMED);
    const threads = [
      chat(execution({ status: 'RUNNING', input })),
      chat(execution({ status: 'SUCCEEDED', input, output: JSON.stringify(RESTORED) })),
    ].map(({ metadata }) => metadata.threadId);
    expect(threads).toEqual(['prod-eu-20261121T140005Z', 'prod-eu-20261121T140005Z']);
  });

  test('is no longer than SNS takes, with everything as long as it may be', () => {
    const long = 'w'.repeat(1000);
    const output = {
      ...RESTORED,
      warnings: Array(500).fill(long) as string[],
      next: Array(500).fill(long) as string[],
      nodes: Array(500).fill(long) as string[],
    };
    const { message } = render(
      messageFor(
        execution({ status: 'SUCCEEDED', input: JSON.stringify(CONFIRMED), output: JSON.stringify(output) }),
      ) as Message,
      'prod-eu',
    );
    expect(Buffer.byteLength(message)).toBeLessThan(64_000);
  });
});

describe('an event', () => {
  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['another one', { source: 'aws.s3', 'detail-type': 'Object Created', detail: {} }],
    ['one of a redrive', execution({ status: 'PENDING_REDRIVE' })],
    ['another call to KMS', keyCall({ eventName: 'Decrypt' })],
    ['a call without a key', keyCall({ requestParameters: null })],
  ])('that is %s throws', (_what, event) => {
    expect(() => readEvent(event, PLAN_MACHINE)).toThrow(
      /^the event has .* problems?: .*the rules of the stack send such events/,
    );
  });
});

test('every section of the runbook that a message leads to is there', () => {
  const source = readFileSync(join(__dirname, '../../../lambda/notify/message.ts'), 'utf8');
  const links = [...source.matchAll(/(restore|alarms)\.md#([a-z-]+)/g)].map(([, page = '', section = '']) => [
    page,
    section,
  ]);
  expect(links.length).toBeGreaterThan(8);
  for (const [page = '', section = ''] of links) {
    const headings = [...readFileSync(join(__dirname, '../../../docs', `${page}.md`), 'utf8').matchAll(/^#+ (.+)$/gm)];
    const anchors = headings.map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^a-z0-9 -]/g, '')
        .replaceAll(' ', '-'),
    );
    expect(anchors).toContain(section);
  }
});
