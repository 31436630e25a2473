import { bytes, moment, number, span, text, took, zone } from '../../../lambda/dashboard/words';

test.each([
  [0, '0 s'],
  [59.9, '59 s'],
  [60, '1 min'],
  [3599, '59 min'],
  [3600, '1 h'],
  [7500, '2 h 5 min'],
  [86_399, '23 h 59 min'],
  [86_400, '1 d'],
  [279_000, '3 d 5 h'],
  [-30, '0 s'],
])('%d seconds read as %s', (seconds, words) => {
  expect(span(seconds)).toBe(words);
});

test.each([
  [3.21, '3.2 s'],
  [41.4, '41 s'],
  [60, '1 min'],
  [75.4, '1 min 15 s'],
  [7261, '2 h 1 min'],
])('what took %d seconds took %s', (seconds, words) => {
  expect(took(seconds)).toBe(words);
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [52_428_800, '52.4 MB'],
  [524_288_032, '524 MB'],
  [4_500_000_000, '4.5 GB'],
  [8e15, '8000 TB'],
])('%d bytes read as %s', (value, words) => {
  expect(bytes(value)).toBe(words);
});

test('numbers are grouped as in English, which the page is in', () => {
  expect(number(48_112_345)).toBe('48,112,345');
});

test.each([
  [0, '2026-11-20 23:30', 'UTC'],
  [60, '2026-11-21 00:30', 'UTC+01:00'],
  [-210, '2026-11-20 20:00', 'UTC-03:30'],
])('with an offset of %d minutes it is %s %s', (offset, local, name) => {
  expect(moment(new Date('2026-11-20T23:30:00Z'), offset)).toBe(local);
  expect(zone(offset)).toBe(name);
});

test('a time with seconds has them', () => {
  expect(moment(new Date('2026-11-20T14:30:12Z'), 0)).toBe('2026-11-20 14:30:12');
});

test('what names no time is said to be none, rather than that nothing is shown', () => {
  expect(moment(new Date('2026-99-99T99:99:99Z'), 60)).toBe('no time');
});

describe('text of others', () => {
  test('is escaped, also for attributes', () => {
    expect(text(`<b a="1" b='2'>&amp;`)).toBe('<bdi>&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;amp;</bdi>');
  });

  test.each([
    ['turns the direction', '\u202E'],
    ['isolates', '\u2066'],
    ['has no width', '\u200B'],
    ['is a control character', '\u0007'],
    ['is half a character', '\uD83D'],
  ])('shows what %s', (_what, character) => {
    expect(text(`a${character}b`)).toBe('<bdi>a\uFFFDb</bdi>');
  });

  test('is cut between characters, not inside one', () => {
    expect(text('😀😀😀', 2)).toBe('<bdi>😀😀…</bdi>');
    expect(text('😀😀', 2)).toBe('<bdi>😀😀</bdi>');
  });

  test('has its line breaks as blanks', () => {
    expect(text('a\r\n\tb')).toBe('<bdi>a b</bdi>');
  });
});
