import { PALETTES } from '../../../lambda/dashboard/style';
import type { DashboardModel } from '../../../lambda/dashboard/model';
import { renderFailure, renderPage } from '../../../lambda/dashboard/render';
import type { WidgetContext } from '../../../lambda/dashboard/widget-context';
import { readRequest } from '../../../lambda/plan/request';
import { drillOf, hourly, MACHINE, modelOf, SCENARIOS, verifiedLine } from './models';

const WIDE: WidgetContext = { theme: 'light', width: 1400, offsetMinutes: 0 };
const PAGE =
  'https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/statemachines/view/arn:aws:states:eu-central-1:111122223333:stateMachine:RestoreMachine-1A2B';

// Every element and attribute that the page is made of; nothing in here runs, loads or submits anything.
const ELEMENTS: Readonly<Record<string, readonly string[]>> = {
  a: ['href', 'target', 'rel'],
  b: ['class'],
  bdi: [],
  circle: ['cx', 'cy', 'r'],
  'cwdb-action': ['action', 'display'],
  div: ['class', 'lang', 'dir', 'role'],
  i: [],
  li: [],
  ol: [],
  p: ['class'],
  path: ['d'],
  pre: ['class'],
  span: ['class', 'title'],
  style: [],
  svg: [
    'class',
    'width',
    'height',
    'viewBox',
    'fill',
    'stroke',
    'stroke-width',
    'stroke-linecap',
    'stroke-linejoin',
    'aria-hidden',
  ],
  table: ['class'],
  tbody: [],
  td: ['class', 'colspan'],
  th: ['scope', 'class'],
  thead: [],
  tr: [],
  ul: [],
};
const EMPTY = ['circle', 'path'];

/** Throws unless every tag is known, has known attributes only, and is closed where it was opened. Returns the links. */
function readHtml(html: string): string[] {
  const open: string[] = [];
  const links: string[] = [];
  const rest = html.replace(/<(\/?)([A-Za-z][A-Za-z0-9-]*)((?: [A-Za-z-]+="[^"<>]*")*) ?(\/?)>/g, (tag, ...groups) => {
    const [closing, name, attributes, empty] = groups as [string, string, string, string];
    const known = ELEMENTS[name];
    if (known === undefined) {
      throw new Error(`element: got ${tag}, expected one of ${Object.keys(ELEMENTS).join(', ')}`);
    }
    for (const [, attribute = '', value = ''] of attributes.matchAll(/ ([A-Za-z-]+)="([^"]*)"/g)) {
      if (!known.includes(attribute)) {
        throw new Error(`attribute: got ${tag}, expected one of ${known.join(', ')}`);
      }
      if (attribute === 'href') {
        links.push(value.replaceAll('&amp;', '&'));
      }
    }
    if (closing === '/') {
      if (open.pop() !== name) {
        throw new Error(`end: got ${tag}, expected that of what was opened last`);
      }
    } else if (empty === '' && !EMPTY.includes(name)) {
      open.push(name);
    }
    return '';
  });
  if (open.length > 0) {
    throw new Error(`open at the end: got ${open.join(', ')}, expected none`);
  }
  const withoutCss = rest.replace(/\.eb-[^\n]*\n/g, '');
  if (/[<>]/.test(withoutCss)) {
    throw new Error(`text: got ${/.{0,50}[<>].{0,50}/.exec(withoutCss)?.[0] ?? ''}, expected no < or >`);
  }
  return links;
}

/** What of the page is read, without what opens beside backups. */
function words(html: string): string {
  return unescapeHtml(
    html
      .replace(/<style>[^]*?<\/style>/g, '')
      .replace(/<cwdb-action[^]*?<\/cwdb-action>/g, '')
      .replace(/<div/g, ' <div')
      .replace(/<\/(?:td|th|div|p|li|tr|pre)>/g, ' ')
      .replace(/<[^>]*>/g, ''),
  ).replace(/\s+/g, ' ');
}

function unescapeHtml(html: string): string {
  return html
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&');
}

function rowsOf(html: string): string[] {
  return [...html.matchAll(/<tr>([^]*?)<\/tr>/g)].slice(1).map(([, row = '']) => words(row).trim());
}

function inputsOf(html: string): Record<string, unknown>[] {
  return [...html.matchAll(/<pre class="eb-json">([^<]*)<\/pre>/g)].map(
    ([, json = '']) => JSON.parse(unescapeHtml(json)) as Record<string, unknown>,
  );
}

const CONTEXTS = (['light', 'dark'] as const).flatMap((theme) =>
  [320, 999, 1000, 2400].map((width): WidgetContext => ({ theme, width, offsetMinutes: 60 })),
);

describe.each(Object.keys(SCENARIOS))('the page of scenario %s', (name) => {
  const model = SCENARIOS[name] ?? modelOf([]);

  test('has known elements and attributes only, in every theme and width, and links to the restore machine alone', () => {
    for (const context of CONTEXTS) {
      const links = readHtml(renderPage(model, context));
      expect(new Set(links)).toEqual(new Set(name === 'none' || name === 'hostile' ? [] : [PAGE]));
    }
  });

  test('is far below the 6 MB that Lambda answers with', () => {
    for (const context of CONTEXTS) {
      expect(renderPage(model, context).length).toBeLessThan(400_000);
    }
  });

  test('switches the default style off, once it is in its own element', () => {
    expect(renderPage(model, WIDE)).toMatch(
      /^<div class="cwdb-no-default-styles eb-page" lang="en" dir="ltr">\n<style>/,
    );
  });
});

test('a check that reads tags finds what does not belong there', () => {
  for (const html of ['<script>x</script>', '<img src="x">', '<a onclick="x">y</a>', '<div>', '<p></div>', 'a < b']) {
    expect(() => readHtml(html)).toThrow(/expected/);
  }
});

describe('the style', () => {
  const css = /<style>([^]*?)<\/style>/.exec(renderPage(modelOf([]), WIDE))?.[1] ?? '';

  test('loads nothing from elsewhere', () => {
    expect(css).not.toMatch(/url\(|@|image|expression/i);
  });

  test('touches nothing but the page', () => {
    const selectors = [...css.matchAll(/^([^{\n]+)\{/gm)].flatMap(([, list = '']) => list.split(','));
    expect(selectors.length).toBeGreaterThan(20);
    for (const selector of selectors) {
      expect(selector.trim()).toMatch(/^\.eb-/);
    }
  });

  test.each(['light', 'dark'] as const)('has readable contrast in theme %s', (theme) => {
    const palette = PALETTES[theme];
    for (const colour of ['text', 'quiet', 'link', 'good', 'bad', 'warn'] as const) {
      for (const background of ['background', 'raised', 'badRaised'] as const) {
        const ratio = contrast(palette[colour], palette[background]);
        expect({ colour, background, readable: ratio >= 4.5 }).toEqual({ colour, background, readable: true });
      }
    }
  });
});

// https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio
function contrast(one: string, other: string): number {
  const luminance = (colour: string) => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
      const value = parseInt(colour.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

describe('what is at the top', () => {
  const top = (model: Parameters<typeof renderPage>[0]) =>
    words(/<div class="eb-facts">[^]*?\n<\/div>/.exec(renderPage(model, WIDE))?.[0] ?? '');

  test('all is well: ages, seconds and how many', () => {
    expect(top(SCENARIOS['hundreds'] ?? modelOf([]))).toBe(
      ' Newest proven backup 34 min old of 2026-11-20 14:00; the recovery point objective is 2 h ' +
        'Last drill: download, restore, start 41 s proven 10 h 4 min ago, of the backup of 2026-11-20 04:00 ' +
        'Stored 312 backups the newest 20 are below ',
    );
  });

  test('a proof that is older than the recovery point objective is bad', () => {
    const line = verifiedLine('20261120T120000Z');
    const html = renderPage(modelOf([line]), WIDE);
    expect(html).toContain('eb-value eb-bad');
    expect(words(html)).toContain('2 h 34 min old of 2026-11-20 12:00; older than the recovery point objective of 2 h');
    expect(renderPage(modelOf([line], { recoveryPointSeconds: 2.6 * 3600 }), WIDE)).not.toContain('eb-bad"');
  });

  test('nothing is stored', () => {
    const html = renderPage(modelOf([]), WIDE);
    expect(words(html)).toContain('Newest proven backup None nothing could be restored');
    expect(words(html)).toContain('No backup of prod-eu is stored');
    expect(html).not.toContain('<table');
  });

  test.each([
    ['failed', { outcome: 'failed', reason: 'keys-differ' } as const, 'Failed keys-differ, 4 min ago', 'eb-bad'],
    [
      'not possible',
      { outcome: 'not-possible', reason: 'too-large' } as const,
      'Not possible too-large, 4 min',
      'eb-warn',
    ],
  ])('a drill that %s is no time', (_what, change, said, tone) => {
    const html = renderPage(
      modelOf([verifiedLine('20261120T140000Z')], {
        lastDrill: drillOf('20261120T140000Z', '20261120T143000Z', change),
      }),
      WIDE,
    );
    expect(words(html)).toContain(said);
    expect(html).toContain(`eb-value ${tone}`);
  });

  test.each<[string, Partial<DashboardModel>['pki'], string | undefined]>([
    ['not kept', undefined, undefined],
    ['none yet', { newest: undefined, tooOldSeconds: 93_600 }, 'Newest PKI bundle None yet the cluster could not be'],
    [
      'young',
      { newest: new Date('2026-11-20T06:00:00Z'), tooOldSeconds: 93_600 },
      'Newest PKI bundle 8 h 34 min old of 2026-11-20 06:00 Stored',
    ],
    [
      'too old',
      { newest: new Date('2026-11-18T06:00:00Z'), tooOldSeconds: 93_600 },
      'Newest PKI bundle 2 d 8 h old of 2026-11-18 06:00; more than 1 d 2 h',
    ],
  ])('bundles of the PKI: %s', (_what, pki, expected) => {
    const facts = top(modelOf([verifiedLine('20261120T140000Z')], { pki }));
    if (expected === undefined) {
      expect(facts).not.toContain('PKI');
    } else {
      expect(facts).toContain(expected);
    }
  });

  test('a drill that is too old is a warning, whatever it proved', () => {
    const lastDrill = drillOf('20261117T040000Z', '20261117T043000Z');
    const html = renderPage(modelOf([verifiedLine('20261120T140000Z')], { lastDrill }), WIDE);
    expect(words(html)).toContain('41 s proven 3 d 10 h ago, of the backup of 2026-11-17 04:00; more than 2 d');
    expect(html).toContain('eb-value eb-warn');
  });
});

describe('a line', () => {
  const rows = rowsOf(renderPage(SCENARIOS['trouble'] ?? modelOf([]), WIDE));

  test.each<[string, RegExp]>([
    ['a backup that verify is at', /^2026-11-20 14:30:12 3 min Pending verify reads it back 131 MB – – –$/],
    [
      'a backup that verify refused',
      /^2026-11-20 14:00 34 min NOT verified verify refused it: its log says why 131 MB – – –$/,
    ],
    [
      'a backup that waits for verify too long',
      /^2026-11-20 13:00 1 h 34 min Not verified pending for 1 h 34 min: look at the verify function/,
    ],
    [
      'a forged receipt',
      /^2026-11-20 12:00 2 h 34 min NOT verified its receipt cannot be trusted: signature of receipts\/20261120T120000Z.json: got one that .* did not make.* –$/,
    ],
    [
      'the newest proof, with what lies over it',
      /^2026-11-20 11:00 3 h 34 min Verified newest proof hourly 50,671,928 214,167 544 MB 136 MB – delete-markerother-version Restore…$/,
    ],
    [
      'a version that was removed',
      /^2026-11-20 10:00 4 h 34 min Gone the version v-1 that its receipt proves is not in the bucket/,
    ],
    [
      'a receipt that was removed',
      /^2026-11-20 09:00 5 h 34 min NOT verified its tag says 'hourly', which only a verified backup has/,
    ],
    ['an on-demand one', /^2026-11-20 08:00 6 h 34 min Verified on-demand .* Restore…$/],
    ['a drill that failed', /^2026-11-20 07:00 7 h 34 min Verified hourly .* Failed keys-differ 4 h 4 min ago/],
    ['a restore', /^A restore at 2026-11-20 06:15 began a new timeline: what is below was saved before it$/],
    [
      'more findings than there is room for',
      /secrets-in-plain-textcertificates-near-endmostly-free-pagestool-unknownand 1 more Restore…$/,
    ],
    ['what a restore replaced', /^2026-11-20 05:00 9 h 34 min Verified what a restore replaced pre-restore/],
    ['a drill that was not possible', /^2026-11-20 04:00 .* Not possible too-large 5 h 4 min ago/],
    ['how many more there are', /^136 more are stored\. Each can be restored by its id/],
  ])('says it of %s', (what, expected) => {
    const order = [
      'a backup that verify is at',
      'a backup that verify refused',
      'a backup that waits for verify too long',
      'a forged receipt',
      'the newest proof, with what lies over it',
      'a version that was removed',
      'a receipt that was removed',
      'an on-demand one',
      'a drill that failed',
      'a restore',
      'more findings than there is room for',
      'what a restore replaced',
      'a drill that was not possible',
      'how many more there are',
    ];
    expect(rows).toHaveLength(order.length);
    expect(rows[order.indexOf(what)]).toMatch(expected);
  });

  test('only a verified backup can be restored from it', () => {
    const offered = new Set(
      inputsOf(renderPage(SCENARIOS['trouble'] ?? modelOf([]), WIDE)).map(({ snapshot }) => snapshot),
    );
    expect([...offered]).toEqual([
      '20261120T110000Z',
      '20261120T080000Z',
      '20261120T070000Z',
      '20261120T060000Z',
      '20261120T050000Z',
      '20261120T040000Z',
    ]);
  });

  test('says the same in a narrow widget', () => {
    const narrow = rowsOf(renderPage(SCENARIOS['trouble'] ?? modelOf([]), { ...WIDE, width: 480 }));
    expect(narrow).toHaveLength(rows.length);
    expect(narrow[4]).toBe(
      '2026-11-20 11:00 3 h 34 min old Verified newest proof hourly delete-markerother-version 544 MB 214,167 keys rev. 50,671,928 Restore…',
    );
  });

  test('has its time in the zone of the dashboard', () => {
    const html = renderPage(modelOf([verifiedLine('20261120T230000Z')]), { ...WIDE, offsetMinutes: 60 });
    expect(words(html)).toContain('Time (UTC+01:00)');
    expect(rowsOf(html)[0]).toMatch(/^2026-11-21 00:00/);
  });
});

describe('the newest proof', () => {
  test('comes first when it is older than all that are listed', () => {
    const rows = rowsOf(renderPage(SCENARIOS['broken'] ?? modelOf([]), WIDE));
    expect(rows[0]).toMatch(/^The newest proven backup\. None of the newer ones below it/);
    expect(rows[1]).toMatch(/^2026-11-17 09:00 3 d 5 h Verified newest proof .* Restore…$/);
    expect(rows[3]).toMatch(/^2026-11-20 14:00 34 min Pending/);
    expect(rows).toHaveLength(3 + 20 + 1);
  });

  test('is said to be missing when there is none', () => {
    const [id = ''] = hourly(1);
    const html = renderPage(modelOf([{ ...verifiedLine(id), proof: { kind: 'pending' } }]), WIDE);
    expect(words(html)).toContain('None none of the newest backups is verified on the current timeline');
    expect(html).not.toContain('Restore…');
  });
});

describe('what is to be pasted', () => {
  test('is taken by the restore machine: first the plan of that backup, then its restore', () => {
    const inputs = inputsOf(renderPage(modelOf([verifiedLine('20261120T140000Z')]), WIDE));
    const asked = inputs.map((input) => readRequest(input, { clusterName: 'prod-eu', machine: 'restore' }).request);
    expect(asked).toMatchObject([
      { confirm: false, snapshot: { kind: 'id', backupId: '20261120T140000Z' }, requestedBy: null },
      {
        confirm: true,
        snapshot: { kind: 'id', backupId: '20261120T140000Z' },
        requestedBy: '<your name>',
        reason: '<why>',
      },
    ]);
  });

  test('names the cluster as it is, whatever is in its name, and shows what is not seen', () => {
    const cluster = `a"b<c>\u202E\u200B\\`;
    const html = renderPage(modelOf([verifiedLine('20261120T140000Z')], { cluster }), WIDE);
    expect(inputsOf(html)[1]).toMatchObject({ confirm: cluster });
    expect(html).not.toMatch(/[\u202E\u200B]/);
    expect(html).toContain('\\u202e\\u200b');
  });

  test('is without a link where the console of the partition is not known', () => {
    const restoreMachineArn = 'arn:aws-iso:states:us-iso-east-1:111122223333:stateMachine:Restore';
    const html = renderPage(modelOf([verifiedLine('20261120T140000Z')], { restoreMachineArn }), WIDE);
    expect(readHtml(html)).toEqual([]);
    expect(words(html)).toContain(`open the restore state machine (${restoreMachineArn})`);
  });
});

describe('hostile names', () => {
  const html = renderPage(SCENARIOS['hostile'] ?? modelOf([]), WIDE);

  test('are shown as text, cut, and turn nothing around', () => {
    expect(words(html)).toContain('<script>alert(1)</script>');
    expect(/[\u202A-\u202E\u2066-\u2069\u200B]/.test(html)).toBe(false);
    expect(html.includes('x'.repeat(1000))).toBe(false);
  });

  test('do not fill the page', () => {
    expect(words(html)).toContain('4 records are left out');
    expect(words(html)).toContain('and 36 more');
  });
});

describe('the page when S3 or KMS do not answer', () => {
  const failure = {
    message: `StoreError: GetObject s3://b/receipts/x: got <AccessDenied> (HTTP 403), expected success${'y'.repeat(3000)}`,
    cluster: 'prod-eu',
    restoreMachineArn: MACHINE,
  };

  test('says what happened, what that does not say, and what to do', () => {
    for (const context of CONTEXTS) {
      const html = renderFailure(failure, context);
      expect(readHtml(html)).toEqual([PAGE]);
      expect(words(html)).toContain('The list of backups could not be read');
      expect(words(html)).toContain('got <AccessDenied> (HTTP 403)');
      expect(words(html)).toContain('This says nothing about the backups themselves.');
      expect(inputsOf(html)).toEqual([{}]);
      expect(html.length).toBeLessThan(8000);
    }
  });
});
