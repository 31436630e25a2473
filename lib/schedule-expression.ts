interface CronField {
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
  /** Forms beyond numbers, lists, ranges and steps, such as `L` for the last day. */
  readonly special?: RegExp;
}

const MONTHS = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const WEEKDAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

const MINUTES: CronField = { min: 0, max: 59 };
const HOURS: CronField = { min: 0, max: 23 };
const DAY_OF_MONTH: CronField = { min: 1, max: 31, special: /^(\?|L|LW|([1-9]|[12][0-9]|3[01])W)$/ };
const MONTH: CronField = { min: 1, max: 12, names: MONTHS };
const DAY_OF_WEEK: CronField = { min: 1, max: 7, names: WEEKDAYS, special: /^(\?|L|[1-7]L|([1-7]|[A-Z]{3})#[1-5])$/ };
const YEAR: CronField = { min: 1970, max: 2199 };

const UNIT_MINUTES: Readonly<Record<string, number>> = { minute: 1, hour: 60, day: 1440 };
const MINUTES_PER_DAY = 1440;

/**
 * The shortest time between two triggers of a recurring EventBridge Scheduler expression, in minutes, or undefined when
 * the expression is not one. Days that a cron expression leaves out are not counted: the answer may be too short, never too long.
 */
export function shortestInterval(expression: string): number | undefined {
  const rate = /^rate\(([1-9][0-9]{0,4}) (minute|hour|day)s?\)$/.exec(expression);
  if (rate !== null) {
    return Number(rate[1]) * (UNIT_MINUTES[rate[2] ?? ''] ?? Number.NaN);
  }
  const cron = /^cron\(([^()]+)\)$/.exec(expression);
  return cron === null ? undefined : shortestCronInterval((cron[1] ?? '').split(' '));
}

function shortestCronInterval(fields: readonly string[]): number | undefined {
  const [minutes, hours, dayOfMonth, month, dayOfWeek, year] = fields;
  if (fields.length !== 6 || minutes === undefined || hours === undefined) {
    return undefined;
  }
  const minuteValues = expand(minutes, MINUTES);
  const hourValues = expand(hours, HOURS);
  const restIsValid =
    isValid(dayOfMonth, DAY_OF_MONTH) &&
    isValid(month, MONTH) &&
    isValid(dayOfWeek, DAY_OF_WEEK) &&
    isValid(year, YEAR) &&
    // AWS wants exactly one of the two day fields to be open.
    (dayOfMonth === '?') !== (dayOfWeek === '?');
  if (minuteValues === undefined || hourValues === undefined || !restIsValid) {
    return undefined;
  }
  const times = hourValues.flatMap((hour) => minuteValues.map((minute) => hour * 60 + minute)).sort((a, b) => a - b);
  const first = times[0] ?? 0;
  return Math.min(...times.map((time, index) => (times[index + 1] ?? first + MINUTES_PER_DAY) - time));
}

function isValid(field: string | undefined, rules: CronField): boolean {
  return field !== undefined && ((rules.special?.test(field) ?? false) || expand(field, rules) !== undefined);
}

/** The values that a list of numbers, names, ranges and steps stands for, or undefined when it is not one. */
function expand(field: string, rules: CronField): number[] | undefined {
  const values = new Set<number>();
  for (const part of field.split(',')) {
    const [range, step, ...tooMany] = part.split('/');
    const every = step === undefined ? 1 : number(step, { min: 1, max: rules.max });
    const bounds = rangeOf(range ?? '', { ...rules, open: step !== undefined });
    if (bounds === undefined || every === undefined || tooMany.length > 0) {
      return undefined;
    }
    for (let value = bounds.first; value <= bounds.last; value += every) {
      values.add(value);
    }
  }
  return [...values];
}

/** `open` says that a single value begins a range, as in `5/15`. */
function rangeOf(range: string, rules: CronField & { open: boolean }): { first: number; last: number } | undefined {
  if (range === '*') {
    return { first: rules.min, last: rules.max };
  }
  const [from, to, ...tooMany] = range.split('-');
  const first = number(from ?? '', rules);
  const last = to === undefined ? (rules.open ? rules.max : first) : number(to, rules);
  return first === undefined || last === undefined || first > last || tooMany.length > 0 ? undefined : { first, last };
}

function number(value: string, rules: CronField): number | undefined {
  const named = rules.names?.indexOf(value.toUpperCase()) ?? -1;
  const parsed = named >= 0 ? named + rules.min : /^[0-9]{1,4}$/.test(value) ? Number(value) : Number.NaN;
  return parsed >= rules.min && parsed <= rules.max ? parsed : undefined;
}
