/** Text from outside in one line: no control or invisible characters, blanks collapsed, cut after `max` characters. */
export function say(value: unknown, max: number): string {
  const text = typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';
  const line = text
    // Line breaks could look like lines of ours; invisible ones turn around or hide what stands beside them.
    .replace(/[\p{C}\p{Z}]+/gu, ' ')
    .trim();
  const characters = Array.from(line);
  return characters.length <= max ? line : `${characters.slice(0, max - 1).join('')}…`;
}

/** The field of something from outside; undefined when it has none. */
export function at(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, field)
    ? (value as Record<string, unknown>)[field]
    : undefined;
}

/** The lines in a list from outside, at most so many; what is no text is left out. */
export function lines(value: unknown, { count, max }: { readonly count: number; readonly max: number }): string[] {
  if (!Array.isArray(value)) {
    return [];
  }
  const texts = value.map((item: unknown) => say(item, max)).filter((line) => line !== '');
  return texts.length <= count ? texts : [...texts.slice(0, count), `and ${String(texts.length - count)} more`];
}
