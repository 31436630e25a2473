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
  const rate = rateMinutes(expression);
  if (rate !== undefined) {
    return rate;
  }
  const times = cronTimes(expression)?.minutesOfDay;
  const first = times?.[0] ?? 0;
  return times === undefined
    ? undefined
    : Math.min(...times.map((time, index) => (times[index + 1] ?? first + MINUTES_PER_DAY) - time));
}

/**
 * The longest time between two triggers of a recurring EventBridge Scheduler expression, in minutes, or undefined when the expression is not
 * one, or never comes twice. Years are not counted: a schedule that ends is told by what it no longer does. Nor is the hour that clocks skip.
 */
export function longestInterval(expression: string): number | undefined {
  const rate = rateMinutes(expression);
  if (rate !== undefined) {
    return rate;
  }
  const cron = cronTimes(expression);
  if (cron === undefined) {
    return undefined;
  }
  const days = daysOf(cron);
  const last = cron.minutesOfDay.at(-1) ?? 0;
  const first = cron.minutesOfDay[0] ?? 0;
  const withinDay = cron.minutesOfDay.map((time, index) => time - (cron.minutesOfDay[index - 1] ?? time));
  const overDays = days.slice(1).map((day, index) => (day - (days[index] ?? day)) * MINUTES_PER_DAY + first - last);
  return overDays.length === 0 ? undefined : [...withinDay, ...overDays].reduce((a, b) => Math.max(a, b));
}

function rateMinutes(expression: string): number | undefined {
  const rate = /^rate\(([1-9][0-9]{0,4}) (minute|hour|day)s?\)$/.exec(expression);
  return rate === null ? undefined : Number(rate[1]) * (UNIT_MINUTES[rate[2] ?? ''] ?? Number.NaN);
}

interface CronTimes {
  /** In ascending order. */
  readonly minutesOfDay: readonly number[];
  readonly dayOfMonth: string;
  readonly month: string;
  readonly dayOfWeek: string;
}

function cronTimes(expression: string): CronTimes | undefined {
  const fields = (/^cron\(([^()]+)\)$/.exec(expression)?.[1] ?? '').split(' ');
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
  const minutesOfDay = hourValues
    .flatMap((hour) => minuteValues.map((minute) => hour * 60 + minute))
    .sort((one, other) => one - other);
  return { minutesOfDay, dayOfMonth: dayOfMonth ?? '', month: month ?? '', dayOfWeek: dayOfWeek ?? '' };
}

const MILLISECONDS_PER_DAY = MINUTES_PER_DAY * 60_000;
// Three leap years, so that even the 29th of February comes twice.
const FIRST_DAY = Date.UTC(2024, 0, 1) / MILLISECONDS_PER_DAY;
const LAST_DAY = Date.UTC(2032, 11, 31) / MILLISECONDS_PER_DAY;

/** The days on which a cron expression triggers, counted from 1 January 1970, over nine years. */
function daysOf({ dayOfMonth, month, dayOfWeek }: CronTimes): number[] {
  const months = new Set(expand(month, MONTH));
  const days: number[] = [];
  for (let day = FIRST_DAY; day <= LAST_DAY; day += 1) {
    const date = new Date(day * MILLISECONDS_PER_DAY);
    if (months.has(date.getUTCMonth() + 1) && isDayOfMonth(date, dayOfMonth) && isDayOfWeek(date, dayOfWeek)) {
      days.push(day);
    }
  }
  return days;
}

function isDayOfMonth(date: Date, field: string): boolean {
  const day = date.getUTCDate();
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  const nearest = /^(?:(L)|([0-9]+))W$/.exec(field);
  if (nearest !== null) {
    const wanted = nearest[1] === undefined ? Number(nearest[2]) : lastDay;
    return wanted <= lastDay && day === nearestWeekday(date, wanted, lastDay);
  }
  return field === '?' || (field === 'L' ? day === lastDay : (expand(field, DAY_OF_MONTH) ?? []).includes(day));
}

/** The Monday to Friday that is closest to a day, within its month. */
function nearestWeekday(date: Date, wanted: number, lastDay: number): number {
  const weekday = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), wanted)).getUTCDay();
  if (weekday === 6) {
    return wanted > 1 ? wanted - 1 : wanted + 2;
  }
  return weekday === 0 ? (wanted < lastDay ? wanted + 1 : wanted - 2) : wanted;
}

function isDayOfWeek(date: Date, field: string): boolean {
  const day = date.getUTCDate();
  const weekday = date.getUTCDay() + 1;
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  const [name = '', nth] = field.split('#');
  if (nth !== undefined) {
    return (expand(name, DAY_OF_WEEK) ?? []).includes(weekday) && Math.ceil(day / 7) === Number(nth);
  }
  if (/^[1-7]L$/.test(field)) {
    return weekday === Number(field[0]) && day + 7 > lastDay;
  }
  // L alone is the last day of the week.
  return field === '?' || (field === 'L' ? weekday === 7 : (expand(field, DAY_OF_WEEK) ?? []).includes(weekday));
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
