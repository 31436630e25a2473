import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN, isBackupId } from '../shared/backup-id';
import { check, text } from '../shared/check';
import { RestoreRequestError } from '../shared/errors';
import { type Forceable, FORCE_FIELDS, type RestoreRequest } from '../shared/restore-state';

/** What an execution was started with. */
export interface Asked {
  readonly request: RestoreRequest;
  /** The restore that is to be undone; null: none. */
  readonly rollbackId: string | null;
}

const BEFORE = /^newest before (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z)$/;
const words = text(/^[ -~]{1,200}$/, '1 to 200 printable ASCII characters');
const SNAPSHOT = '"newest", a backup id such as "20261120T140000Z", or "newest before 2026-11-20T14:00:00Z"';
const snapshot = z
  .string(SNAPSHOT)
  .check(z.refine((value) => value === 'newest' || isBackupId(value) || isBefore(value), SNAPSHOT));

/** Throws RestoreRequestError with everything that is wrong with the input of an execution. */
export function readRequest(
  input: unknown,
  { clusterName, machine }: { readonly clusterName: string; readonly machine: 'restore' | 'plan' },
): Asked {
  const checked = check(schemaOf(clusterName), input);
  if (!checked.ok) {
    throw new RestoreRequestError(checked.problems, examples(clusterName));
  }
  const { value } = checked;
  const rollbackId = value.rollback ?? null;
  const problems = [
    ...(machine === 'plan' && value.confirm !== undefined
      ? ['confirm: got it on the machine for planning, expected none; use the machine for restoring']
      : []),
    ...(value.from === 'survivor' && value.snapshot !== undefined
      ? [
          'snapshot: got it together with "from":"survivor", expected only one of the two: a survivor is its own snapshot',
        ]
      : []),
    ...(rollbackId === null
      ? []
      : (['snapshot', 'from', 'hold'] as const)
          .filter((field) => value[field] !== undefined)
          .map(
            (field) =>
              `${field}: got it together with rollback, expected rollback alone: what was before a restore is known`,
          )),
    ...(machine === 'plan' && rollbackId !== null
      ? ['rollback: got it on the machine for planning, expected none; use the machine for restoring']
      : []),
  ];
  if (problems.length > 0) {
    throw new RestoreRequestError(problems, examples(clusterName));
  }
  return {
    rollbackId,
    request: {
      confirm: value.confirm !== undefined,
      snapshot: toSelection(value.snapshot ?? 'newest'),
      from: value.from ?? 'backup',
      hold: value.hold ?? null,
      requestedBy: value.requestedBy ?? null,
      reason: value.reason ?? null,
      forced: (Object.keys(FORCE_FIELDS) as Forceable[]).filter((name) => value[FORCE_FIELDS[name]] === true),
    },
  };
}

/** Inputs that the machines take. */
export function examples(clusterName: string): string {
  const confirm = `{"confirm":"${clusterName}","requestedBy":"you@example.com","reason":"etcd lost quorum"}`;
  return `send {} for the plan, ${confirm} to restore the newest verified backup, with "snapshot":"20261120T140000Z" that one, with "from":"survivor" what a surviving member has, or {"rollback":"20261120T140000Z"} to undo that restore`;
}

function schemaOf(clusterName: string) {
  const forceFields = Object.fromEntries(
    Object.values(FORCE_FIELDS).map((field) => [field, z.optional(z.literal(true, 'true, or no such field'))]),
  ) as Record<(typeof FORCE_FIELDS)[Forceable], z.ZodMiniOptional<z.ZodMiniLiteral<true>>>;
  return z.strictObject(
    {
      // The console's own sample input has this field.
      Comment: z.optional(z.unknown()),
      confirm: z.optional(
        z.literal(clusterName, `"${clusterName}", the name of the cluster that is to be overwritten`),
      ),
      snapshot: z.optional(snapshot),
      from: z.optional(z.enum(['backup', 'survivor'], '"backup" or "survivor"')),
      hold: z.optional(z.literal('controllers', '"controllers"')),
      rollback: z.optional(text(BACKUP_ID_PATTERN, 'the id of a restore such as "20261120T140000Z"')),
      requestedBy: z.optional(words),
      reason: z.optional(words),
      ...forceFields,
    },
    'a JSON object such as {}',
  );
}

function toSelection(value: string): RestoreRequest['snapshot'] {
  if (value === 'newest') {
    return { kind: 'newest' };
  }
  const time = BEFORE.exec(value)?.[1];
  return time === undefined ? { kind: 'id', backupId: value } : { kind: 'before', time: new Date(time).toISOString() };
}

function isBefore(value: string): boolean {
  const time = BEFORE.exec(value)?.[1];
  return time !== undefined && isTime(time);
}

/** The 31st of February is a date for `Date`, and another one afterwards. */
function isTime(time: string): boolean {
  const date = new Date(time);
  return !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 19) === time.slice(0, 19);
}
