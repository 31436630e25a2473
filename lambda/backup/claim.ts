import * as z from 'zod/mini';
import { trigger } from '../shared/announcement';
import { BACKUP_ID_PATTERN, backupIdBefore } from '../shared/backup-id';
import { check, printable, text } from '../shared/check';
import { StoreError } from '../shared/errors';
import { getObject, listKeys, putNew, type Store } from '../shared/store';

const claimSchema = z.object(
  {
    backupId: text(BACKUP_ID_PATTERN, 'a backup id'),
    requestId: printable(100),
    startedAt: text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/, 'a time in UTC'),
    trigger,
    /** Instance ids that the first run found; it and `findings` are kept here so that every run announces the same bytes. */
    controlPlane: z.optional(z.array(printable(32), 'a list')),
    /** Findings of the first run before it asked a node. */
    findings: z.optional(z.array(printable(64), 'a list')),
  },
  'a claim',
);

/** Who started a backup, when (ISO 8601) and why. There is one per backup id. */
export type Claim = z.output<typeof claimSchema>;

/** The key of a backup's claim. */
export function claimKey(backupId: string): string {
  return `announcements/${backupId}.started.json`;
}

/** Writes the claim, or reads the one that was there first. Only who won sends commands at once. */
export async function claimBackup(
  store: Store,
  claim: Claim,
): Promise<{ readonly won: boolean; readonly claim: Claim }> {
  const key = claimKey(claim.backupId);
  if ((await putNew(store, { key, body: Buffer.from(JSON.stringify(claim)) })) === 'created') {
    return { won: true, claim };
  }
  const existing = await readClaim(store, claim.backupId);
  if (existing === undefined) {
    throw new StoreError(
      `s3://${store.bucket}/${key}: got 'exists' and then none, expected a claim; run the backup again`,
    );
  }
  return { won: false, claim: existing };
}

// A function's asynchronous event lives for an hour at most; its last retry may start that late.
const RETRY_WINDOW_SECONDS = 70 * 60;

/** The id that an earlier run of this same invocation claimed, or undefined: an asynchronous retry has the request id of its first run. */
export async function findOwnBackupId(store: Store, requestId: string, nowId: string): Promise<string | undefined> {
  const after = `announcements/${backupIdBefore(nowId, RETRY_WINDOW_SECONDS)}`;
  const keys = (await listKeys(store, 'announcements/', after)).filter((key) => key.endsWith('.started.json'));
  // Newest first: a retry comes one or two minutes after its first run.
  for (const key of keys.reverse()) {
    const claim = await readClaim(store, key.slice('announcements/'.length, -'.started.json'.length));
    if (claim?.requestId === requestId && claim.trigger.kind === 'on-demand') {
      return claim.backupId;
    }
  }
  return undefined;
}

/** A backup's claim, or undefined when there is none. */
export async function readClaim(store: Store, backupId: string): Promise<Claim | undefined> {
  const key = claimKey(backupId);
  const object = await getObject(store, key);
  if (object === undefined) {
    return undefined;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(object.bytes.toString('utf8'));
  } catch (error) {
    throw new StoreError(
      `s3://${store.bucket}/${key}: got ${String(object.bytes.length)} bytes that are no JSON, expected a claim; find out who wrote it`,
      error,
    );
  }
  const checked = check(claimSchema, parsed);
  if (!checked.ok) {
    throw new StoreError(`s3://${store.bucket}/${key}: ${checked.problems.join('; ')}; find out who wrote it`);
  }
  return checked.value;
}
