/** Shape of a backup id: the time of its trigger in UTC, `20261120T140000Z`. Ids sort as their times do. */
export const BACKUP_ID_PATTERN = /^\d{8}T\d{6}Z$/;

/** The backup id of a moment, to the second. */
export function backupIdOf(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}

/** The id of the moment `seconds` before that of `backupId`. */
export function backupIdBefore(backupId: string, seconds: number): string {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(backupId)?.map(Number) ?? [];
  if (year === undefined || month === undefined || second === undefined) {
    throw new RangeError(`backup id: got '${backupId}', expected one such as 20261120T140000Z`);
  }
  return backupIdOf(new Date(Date.UTC(year, month - 1, day, hour, minute, second - seconds)));
}

/** The moment that an id of a backup, restore or drill names; an invalid date where it names none, as `20269999T000000Z`. */
export function timeOf(id: string): Date {
  return new Date(id.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
}

/** Whether it is a backup id, and the time in it is one. */
export function isBackupId(text: string): boolean {
  return BACKUP_ID_PATTERN.test(text) && backupIdBefore(text, 0) === text;
}
