import { timeOf } from '../shared/backup-id';
import { statesConsoleUrl } from '../shared/console';
import { type BackupLine, type DashboardModel, drillSeconds, type Remark } from './model';
import { styleSheet } from './style';
import type { WidgetContext } from './widget-context';
import { attribute, bytes, escape, moment, number, span, text, took, zone } from './words';

// Below this there is no room for a column for each thing.
const NARROW = 1000;
const WARNINGS_SHOWN = 2;
// Of a backup's remarks; the others are in what opens beside it.
const WORDS_SHOWN = 4;
const SENTENCES_SHOWN = 12;
// Verify takes minutes, and is called again by audit after an hour.
const PENDING_SECONDS = 60 * 60;

type Tone = 'good' | 'bad' | 'warn' | 'quiet';

/** The page, as HTML without scripts and without anything from elsewhere. Everything that others wrote is escaped. */
export function renderPage(model: DashboardModel, context: WidgetContext): string {
  return page(
    context,
    [
      facts(model, context),
      leftOut(model.warnings),
      model.lines.length === 0 ? noBackups(model) : table(model, context),
      restoreHints(model),
    ].join('\n'),
  );
}

/** The page when S3 or KMS do not answer: what happened, what that says and what it does not, and what to do. */
export function renderFailure(
  failure: { readonly message: string; readonly cluster: string; readonly restoreMachineArn: string },
  context: WidgetContext,
): string {
  return page(
    context,
    block('bad', 'The list of backups could not be read', [
      `<span class="eb-mono">${text(failure.message, 900)}</span>`,
      '<b>This says nothing about the backups themselves.</b> What to do:',
      `<ol>
<li>Reload this widget.</li>
<li>Look at the alarms at the top of this dashboard: the audit reads the same bucket every 5 minutes, from another function. When they are green, only this function is ill: see its log.</li>
<li>When they are not: correct what the message says (the function's role, the bucket's policy, the state of the keys).</li>
<li>A restore does not need this page: ${machineLink(failure.restoreMachineArn, 'open the restore state machine')}, <i>Start execution</i>, with this input for the plan, which writes nothing:${json({})}</li>
</ol>`,
    ]),
  );
}

function page({ theme }: WidgetContext, content: string): string {
  // The style comes after the element that it is for: cleaners of HTML drop a style that comes first.
  return `<div class="cwdb-no-default-styles eb-page" lang="en" dir="ltr">
${styleSheet(theme)}
${content}
</div>`;
}

function block(tone: 'bad' | 'warn', title: string, paragraphs: readonly string[]): string {
  return `<div class="eb-block${tone === 'warn' ? ' eb-block-warn' : ''}" role="alert">
<div class="eb-title eb-${tone}">${icon(tone)}${title}</div>
${paragraphs.map((paragraph) => (paragraph.startsWith('<ol>') ? paragraph : `<p>${paragraph}</p>`)).join('\n')}
</div>`;
}

function leftOut(warnings: readonly string[]): string {
  const more = warnings.length - WARNINGS_SHOWN;
  return warnings.length === 0
    ? ''
    : block(
        'warn',
        warnings.length === 1 ? 'A record is left out' : `${String(warnings.length)} records are left out`,
        [
          ...warnings.slice(0, WARNINGS_SHOWN).map((warning) => text(warning)),
          ...(more > 0 ? [`and ${String(more)} more, as the like`] : []),
        ],
      );
}

function facts(model: DashboardModel, context: WidgetContext): string {
  return `<div class="eb-facts">
${[proofFact(model, context), drillFact(model, context), ...pkiFact(model, context), storedFact(model)].join('\n')}
</div>`;
}

function fact(label: string, tone: Tone, value: string, note: string): string {
  return `<div class="eb-fact"><div class="eb-quiet">${label}</div><div class="eb-value eb-${tone}">${tone === 'quiet' ? '' : icon(tone)}${value}</div><div class="eb-small eb-quiet">${note}</div></div>`;
}

function proofFact({ newestProof, now, recoveryPointSeconds, lines }: DashboardModel, context: WidgetContext): string {
  const allowed = span(recoveryPointSeconds);
  if (newestProof === undefined) {
    return fact(
      'Newest proven backup',
      'bad',
      'None',
      lines.length === 0
        ? 'nothing could be restored'
        : `none of the newest backups is verified on the current timeline; ${allowed} is the recovery point objective`,
    );
  }
  const age = secondsSince(newestProof.time, now);
  const isOld = age > recoveryPointSeconds;
  return fact(
    'Newest proven backup',
    isOld ? 'bad' : 'good',
    `${span(age)} old`,
    `of ${moment(newestProof.time, context.offsetMinutes)}; ${isOld ? `<b class="eb-bad">older than the recovery point objective of ${allowed}</b>` : `the recovery point objective is ${allowed}`}`,
  );
}

function drillFact({ lastDrill, now, drillTooOldSeconds }: DashboardModel, context: WidgetContext): string {
  const label = 'Last drill: download, restore, start';
  if (lastDrill === undefined) {
    return fact(label, 'warn', 'None yet', 'no stored backup was restored by a drill so far');
  }
  const age = secondsSince(timeOf(lastDrill.drillId), now);
  const ago = `${span(age)} ago, of the backup of ${moment(timeOf(lastDrill.backupId), context.offsetMinutes)}`;
  const seconds = drillSeconds(lastDrill);
  switch (lastDrill.outcome) {
    case 'proven':
      return fact(
        label,
        age > drillTooOldSeconds ? 'warn' : 'good',
        seconds === undefined ? 'Proven' : took(seconds),
        `proven ${ago}${age > drillTooOldSeconds ? `; <b class="eb-warn">more than ${span(drillTooOldSeconds)}</b>` : ''}`,
      );
    case 'failed':
      return fact(label, 'bad', 'Failed', `${text(lastDrill.reason ?? '', 64)}, ${ago}`);
    case 'not-possible':
      return fact(label, 'warn', 'Not possible', `${text(lastDrill.reason ?? '', 64)}, ${ago}`);
  }
}

function pkiFact({ pki, now }: DashboardModel, context: WidgetContext): string[] {
  const label = 'Newest PKI bundle';
  if (pki === undefined) {
    return [];
  }
  if (pki.newest === undefined) {
    return [fact(label, 'warn', 'None yet', 'the cluster could not be built anew from nothing')];
  }
  const age = secondsSince(pki.newest, now);
  const isOld = age > pki.tooOldSeconds;
  const note = isOld ? `; <b class="eb-warn">more than ${span(pki.tooOldSeconds)}</b>` : '';
  return [
    fact(label, isOld ? 'warn' : 'good', `${span(age)} old`, `of ${moment(pki.newest, context.offsetMinutes)}${note}`),
  ];
}

function storedFact({ stored, lines, markedDeleted }: DashboardModel): string {
  const unproven = lines.filter(({ proof }) => proof.kind !== 'verified').length;
  const notes = [
    ...(stored > lines.length ? [`the newest ${String(lines.length)} are below`] : []),
    ...(unproven > 0 ? [`${String(unproven)} of those below ${unproven === 1 ? 'is' : 'are'} not proven`] : []),
    ...(markedDeleted > 0 ? [`${number(markedDeleted)} expired or deleted, not yet gone`] : []),
  ];
  return fact(
    'Stored',
    'quiet',
    `<span class="eb-plain">${stored === 1 ? '1 backup' : `${number(stored)} backups`}</span>`,
    notes.length === 0 && stored > 0 ? 'all of them below' : notes.join('; '),
  );
}

function noBackups({ cluster }: DashboardModel): string {
  return block('bad', `No backup of ${text(cluster, 64)} is stored`, [
    'The first one comes with the next trigger of the schedule. To take one now, invoke the backup function with <span class="eb-mono">{}</span> (its name is the output <span class="eb-mono">BackupFunctionName</span> of the stack). If triggers have passed: its log and the failure queues say why.',
  ]);
}

interface Column {
  readonly head: string;
  readonly kind: '' | 'eb-number' | 'eb-keep' | 'eb-last';
  /** A thing that only a receipt knows: without one, what is said of the proof takes its room. */
  readonly isOfReceipt?: true;
  readonly cell: (line: BackupLine, model: DashboardModel, context: WidgetContext) => string;
}

const NOTHING = '<span class="eb-quiet">–</span>';

const RESTORE: Column = { head: 'Restore', kind: 'eb-last', cell: restoreCell };

const WIDE: readonly Column[] = [
  { head: 'Time', kind: 'eb-keep', cell: timeCell },
  { head: 'Age', kind: 'eb-keep', cell: ({ time }, { now }) => span(secondsSince(time, now)) },
  { head: 'Proof', kind: '', cell: proofCell },
  ofReceipt('Class', 'eb-keep', (receipt) => receipt.class),
  ofReceipt('Revision', 'eb-number', (receipt) => number(receipt.snapshot.revision)),
  ofReceipt('Keys', 'eb-number', (receipt) => number(receipt.snapshot.totalKey.live)),
  ofReceipt('Size', 'eb-number', (receipt) => bytes(receipt.sizeBytes)),
  { head: 'Stored', kind: 'eb-number', cell: ({ compressedBytes }) => bytes(compressedBytes) },
  { head: 'Drill', kind: '', cell: drillCell },
  { head: 'Findings', kind: '', cell: (line) => wordsOf(line.remarks) || NOTHING },
  RESTORE,
];

const SMALL: readonly Column[] = [
  {
    head: 'Time',
    kind: '',
    cell: (line, model, context) =>
      timeCell(line, model, context) +
      note(`<span class="eb-keep">${span(secondsSince(line.time, model.now))} old</span>`),
  },
  {
    head: 'Proof, class, drill, findings',
    kind: '',
    cell: (line, model) =>
      [
        proofCell(line, model),
        ...(line.proof.kind === 'verified' ? [`<div class="eb-small">${line.proof.receipt.class}</div>`] : []),
        ...(line.drill === undefined ? [] : [`<div>${drillCell(line, model)}</div>`]),
        wordsOf(line.remarks),
      ].join(''),
  },
  {
    head: 'Content',
    kind: 'eb-number',
    cell: ({ proof, compressedBytes }) =>
      proof.kind === 'verified'
        ? `${bytes(proof.receipt.sizeBytes)}<div class="eb-small eb-quiet">${number(proof.receipt.snapshot.totalKey.live)} keys</div><div class="eb-small eb-quiet">rev. ${number(proof.receipt.snapshot.revision)}</div>`
        : `<span class="eb-quiet">${bytes(compressedBytes)}</span>`,
  },
  RESTORE,
];

type VerifiedReceipt = Extract<BackupLine['proof'], { kind: 'verified' }>['receipt'];

function timeCell({ backupId, time }: BackupLine, _: DashboardModel, { offsetMinutes }: WidgetContext): string {
  return `<span title="${backupId}">${moment(time, offsetMinutes)}</span>`;
}

function ofReceipt(head: string, kind: Column['kind'], show: (receipt: VerifiedReceipt) => string): Column {
  return { head, kind, isOfReceipt: true, cell: ({ proof }) => (proof.kind === 'verified' ? show(proof.receipt) : '') };
}

function table(model: DashboardModel, context: WidgetContext): string {
  const columns = context.width < NARROW ? SMALL : WIDE;
  const { lines, newestProof, stored } = model;
  const rows: string[] = [];
  if (newestProof !== undefined && !lines.includes(newestProof)) {
    rows.push(
      between(columns, 'The newest proven backup. None of the newer ones below it can be restored as the newest:'),
    );
    rows.push(row(columns, newestProof, model, context));
    rows.push(between(columns, 'The newest that are stored:'));
  }
  for (const [index, line] of lines.entries()) {
    // Ids sort as their times do.
    const newer = lines[index - 1]?.backupId;
    for (const restore of model.restores.toReversed()) {
      if (restore > line.backupId && (newer === undefined || restore <= newer)) {
        rows.push(
          between(
            columns,
            `A restore at ${moment(timeOf(restore), context.offsetMinutes)} began a new timeline: what is below was saved before it`,
          ),
        );
      }
    }
    rows.push(row(columns, line, model, context));
  }
  const further = stored - lines.length;
  if (further > 0) {
    rows.push(
      between(
        columns,
        `${number(further)} more ${further === 1 ? 'is' : 'are'} stored. Each can be restored by its id, its time in UTC as <span class="eb-mono">20261120T140000Z</span>, or by <span class="eb-mono">"snapshot": "newest before 2026-11-20T14:00:00Z"</span>`,
      ),
    );
  }
  return `<table class="eb-table">
<thead><tr>${columns
    .map(
      ({ head, kind }) =>
        `<th scope="col"${classes(kind)}>${head === 'Time' ? `Time (${zone(context.offsetMinutes)})` : head}</th>`,
    )
    .join('')}</tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>`;
}

function row(columns: readonly Column[], line: BackupLine, model: DashboardModel, context: WidgetContext): string {
  const shown = columns.filter(({ isOfReceipt }) => line.proof.kind === 'verified' || isOfReceipt !== true);
  const room = columns.length - shown.length;
  const cells = shown.map(({ kind, cell }) => {
    const wide = cell === proofCell && room > 0 ? ` colspan="${String(room + 1)}"` : '';
    return `<td${classes(kind)}${wide}>${cell(line, model, context)}</td>`;
  });
  return `<tr>${cells.join('')}</tr>`;
}

function between(columns: readonly Column[], content: string): string {
  return `<tr><td class="eb-between" colspan="${String(columns.length)}">${content}</td></tr>`;
}

function classes(kind: Column['kind']): string {
  return kind === '' ? '' : ` class="${kind}"`;
}

function proofCell(line: BackupLine, { now, newestProof }: DashboardModel): string {
  const { proof, time } = line;
  const pending = secondsSince(time, now);
  switch (proof.kind) {
    case 'verified':
      return (
        status('good', 'Verified') +
        (line === newestProof ? ' <span class="eb-word">newest proof</span>' : '') +
        (proof.receipt.kind === 'pre-restore' ? note('what a restore replaced') : '')
      );
    case 'pending':
      return pending > PENDING_SECONDS
        ? status('warn', 'Not verified') + note(`pending for ${span(pending)}: look at the verify function`)
        : status('quiet', 'Pending') + note('verify reads it back');
    case 'failed':
      return status('bad', 'NOT verified') + note('verify refused it: its log says why');
    case 'not-trusted':
      return status('bad', 'NOT verified') + note(`its receipt cannot be trusted: ${text(proof.why, 240)}`);
    case 'gone':
      return status('bad', 'Gone') + note(text(proof.why, 200));
    case 'unproven':
      return status('bad', 'NOT verified') + note(text(proof.why, 200));
  }
}

function status(tone: Tone, word: string): string {
  return `<span class="eb-${tone} eb-keep">${icon(tone)}${word}</span>`;
}

function note(content: string): string {
  return `<div class="eb-small eb-quiet">${content}</div>`;
}

function drillCell({ drill }: BackupLine, { now }: DashboardModel): string {
  if (drill === undefined) {
    return NOTHING;
  }
  const seconds = drillSeconds(drill);
  const ago = note(`${span(secondsSince(timeOf(drill.drillId), now))} ago`);
  switch (drill.outcome) {
    case 'proven':
      return status('good', seconds === undefined ? 'Proven' : `Proven, ${took(seconds)}`) + ago;
    case 'failed':
      return status('bad', 'Failed') + note(text(drill.reason ?? '', 64)) + ago;
    case 'not-possible':
      return status('warn', 'Not possible') + note(text(drill.reason ?? '', 64)) + ago;
  }
}

// What somebody did, rather than what etcd is like.
const GRAVE: readonly string[] = [
  'delete-marker',
  'other-version',
  'receipt-untrusted',
  'keys-lost',
  'revision-went-back',
];

function wordsOf(remarks: readonly Remark[]): string {
  const shown = remarks.slice(0, WORDS_SHOWN);
  const more = remarks.length - shown.length;
  return (
    shown
      .map(
        ({ word, sentence }) =>
          `<span class="eb-word${GRAVE.includes(word) ? ' eb-bad' : ''}" title="${attribute(sentence)}">${text(word, 40)}</span>`,
      )
      .join('') + (more > 0 ? `<span class="eb-small eb-quiet">and ${String(more)} more</span>` : '')
  );
}

function restoreCell(line: BackupLine, model: DashboardModel, context: WidgetContext): string {
  if (line.proof.kind !== 'verified') {
    return NOTHING;
  }
  return `<a>Restore…</a><cwdb-action action="html" display="popup">${restorePopup(line, model, context)}</cwdb-action>`;
}

/** What opens beside a backup: how to restore that very one. */
function restorePopup(line: BackupLine, model: DashboardModel, context: WidgetContext): string {
  const { cluster, restoreMachineArn, now } = model;
  const { backupId, remarks, time } = line;
  return page(
    context,
    `<div class="eb-title">Restore the backup of ${moment(time, context.offsetMinutes)} (${zone(context.offsetMinutes)})</div>
<p>${span(secondsSince(time, now))} old, id <span class="eb-mono">${backupId}</span>. Everything that was written since is taken back, on all control-plane nodes of <b>${text(cluster, 64)}</b>.</p>
<ol>
<li>${machineLink(restoreMachineArn, 'Open the restore state machine')} and choose <i>Start execution</i>.</li>
<li>First see what it would do; this writes nothing:${json({ snapshot: backupId })}</li>
<li>Then restore this backup, with your name and the reason in place of what is in &lt;&gt;:${json({ confirm: cluster, snapshot: backupId, requestedBy: '<your name>', reason: '<why>' })}</li>
</ol>
${remarks.length === 0 ? '' : `<p><b>Known of it:</b></p>${sentences(remarks)}`}`,
  );
}

function sentences(remarks: readonly Remark[]): string {
  const more = remarks.length - SENTENCES_SHOWN;
  return `<ul>${remarks
    .slice(0, SENTENCES_SHOWN)
    .map(({ word, sentence }) => `<li><b>${text(word, 64)}</b>: ${text(sentence)}</li>`)
    .join('')}${more > 0 ? `<li>and ${String(more)} more in the receipt</li>` : ''}</ul>`;
}

function restoreHints({ newestProof, restoreMachineArn, cluster }: DashboardModel): string {
  if (newestProof === undefined) {
    return '';
  }
  return `<p class="eb-small eb-quiet"><b>To restore the newest proven backup:</b> ${machineLink(restoreMachineArn, 'open the restore state machine')}, choose <i>Start execution</i>, and paste <span class="eb-mono">{}</span> to see the plan, which writes nothing; then <span class="eb-mono">${jsonText({ confirm: cluster })}</span>. A click on a backup's <i>Restore…</i> has the input for that very one.</p>`;
}

function machineLink(arn: string, words: string): string {
  const url = statesConsoleUrl(arn);
  return url === undefined
    ? `${words} (<span class="eb-mono">${text(arn)}</span>)`
    : `<a href="${escape(url)}" target="_blank" rel="noopener noreferrer">${words}</a>`;
}

function json(value: Readonly<Record<string, string>>): string {
  return `<pre class="eb-json">${jsonText(value)}</pre>`;
}

/** JSON to be copied: what is not seen is written as an escape, so that what is read is what is pasted. */
function jsonText(value: Readonly<Record<string, string>>): string {
  const entries = Object.entries(value).map(([key, field]) => `${JSON.stringify(key)}: ${JSON.stringify(field)}`);
  const visible = `{${entries.join(', ')}}`.replace(/[\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (characters) =>
    Array.from(
      { length: characters.length },
      (_, index) => `\\u${characters.charCodeAt(index).toString(16).padStart(4, '0')}`,
    ).join(''),
  );
  return escape(visible);
}

function secondsSince(time: Date, now: Date): number {
  return (now.getTime() - time.getTime()) / 1000;
}

const SHAPES: Readonly<Record<Tone, string>> = {
  good: '<circle cx="8" cy="8" r="7"/><path d="m5 8 2.2 2.5L11 6"/>',
  bad: '<circle cx="8" cy="8" r="7"/><path d="m5.5 5.5 5 5m0-5-5 5"/>',
  warn: '<path d="M8 1.5 15 14H1z"/><path d="M8 6v4m0 1.2v1.3"/>',
  quiet: '<circle cx="8" cy="8" r="7"/><path d="M4.5 8h.01M8 8h.01M11.5 8h.01"/>',
};

/** As the console's own status indicators; the word beside it says the same. */
function icon(tone: Tone): string {
  return `<svg class="eb-icon" width="14" height="14" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${SHAPES[tone]}</svg>`;
}
