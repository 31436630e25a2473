import type { Receipt } from '../shared/receipt';
import type { RetentionClass } from '../shared/retention';

/** What of a receipt says which classes are taken. */
export type Classed = Pick<Receipt, 'backupId' | 'class' | 'newestOfClass'>;

const NONE: Receipt['newestOfClass'] = { monthly: null, weekly: null, daily: null };

/**
 * The newest backup of each class up to and with the previous receipt. It goes from receipt to receipt, so that nobody has to read a month of
 * them: a month, week or day is one stretch of ids, so if any earlier backup of a class lies in it, the newest of that class does.
 */
export function newestOfClassAfter(previous: Classed | undefined): Receipt['newestOfClass'] {
  return previous === undefined
    ? NONE
    : {
        ...previous.newestOfClass,
        ...(previous.class in NONE ? { [previous.class]: previous.backupId } : {}),
      };
}

/** The same as a list of verified backups. */
export function holders(newest: Receipt['newestOfClass']): { backupId: string; class: RetentionClass }[] {
  return (['monthly', 'weekly', 'daily'] as const).flatMap((held) => {
    const backupId = newest[held];
    return backupId === null ? [] : [{ backupId, class: held }];
  });
}
