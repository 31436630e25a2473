// Numbers and times as they are read at a glance. The page is in English, and so are its numbers, whatever the console's language is: a
// decimal comma in an English sentence is read as thousands.

/** `1234567` as `1,234,567`. */
export function number(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** `52428800` as `52.4 MB`. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.max(value, 1)) / 3), 0), units.length - 1);
  const scaled = value / 1000 ** power;
  return `${scaled.toFixed(power === 0 || scaled >= 100 ? 0 : 1)} ${units[power] ?? ''}`;
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** `7500` seconds as `2 h 5 min`: the two largest units, rounded down. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) {
    return `${String(whole)} s`;
  }
  if (whole < HOUR) {
    return `${String(Math.floor(whole / MINUTE))} min`;
  }
  const [large, unit, small, smallUnit] =
    whole < DAY ? ([HOUR, 'h', MINUTE, 'min'] as const) : ([DAY, 'd', HOUR, 'h'] as const);
  const rest = Math.floor((whole % large) / small);
  return `${String(Math.floor(whole / large))} ${unit}${rest === 0 ? '' : ` ${String(rest)} ${smallUnit}`}`;
}

/** How long something took: `3.21` as `3.2 s`, `41.4` as `41 s`, `75` as `1 min 15 s`. */
export function took(seconds: number): string {
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  if (whole < MINUTE || whole >= HOUR) {
    return span(whole);
  }
  return `${String(Math.floor(whole / MINUTE))} min${whole % MINUTE === 0 ? '' : ` ${String(whole % MINUTE)} s`}`;
}

/** A moment in the dashboard's time zone, `2026-11-20 14:00`; with seconds where it has any. What names none must not take the page along. */
export function moment(time: Date, offsetMinutes: number): string {
  if (Number.isNaN(time.getTime())) {
    return 'no time';
  }
  const local = new Date(time.getTime() + offsetMinutes * MINUTE * 1000).toISOString();
  return `${local.slice(0, 10)} ${local.slice(11, local.slice(17, 19) === '00' ? 16 : 19)}`;
}

/** `UTC`, `UTC+01:00`. */
export function zone(offsetMinutes: number): string {
  if (offsetMinutes === 0) {
    return 'UTC';
  }
  const distance = Math.abs(offsetMinutes);
  const two = (value: number) => String(value).padStart(2, '0');
  return `UTC${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(distance / 60))}:${two(distance % 60)}`;
}

// What turns the direction of text around it, and what has no width or is no character: none of it may pass for what we say.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text of others as HTML: as `attribute` has it, and in a direction of its own. */
export function text(value: string, maxLength = 300): string {
  return `<bdi>${attribute(value, maxLength)}</bdi>`;
}

/** The same for an attribute in quotes: escaped, at most `maxLength` characters, and nothing in it that is not seen. */
export function attribute(value: string, maxLength = 300): string {
  const characters = Array.from(value.replace(/\s+/gu, ' '));
  const shown = `${characters.slice(0, maxLength).join('')}${characters.length > maxLength ? '…' : ''}`;
  return escape(shown.replace(INVISIBLE, '\uFFFD'));
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Our own text as HTML, also inside an attribute in quotes. */
export function escape(value: string): string {
  return value.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
