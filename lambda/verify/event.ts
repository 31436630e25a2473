import * as z from 'zod/mini';
import { isBackupId } from '../shared/backup-id';
import { check, text } from '../shared/check';
import { EventError } from '../shared/errors';

const SNAPSHOT_KEY = /^snapshots\/(\d{8}T\d{6}Z)\.db\.(?:zst|gz)$/;
const A_KEY = 'the key of a snapshot such as snapshots/20261120T140000Z.db.zst';
const A_BACKUP_ID = 'a backup id such as 20261120T140000Z';

// EventBridge adds fields as it likes: only what is used is looked at.
const objectCreated = z.object(
  {
    source: z.literal('aws.s3', "'aws.s3'"),
    'detail-type': z.literal('Object Created', "'Object Created'"),
    detail: z.object(
      {
        bucket: z.object({ name: z.string("a bucket's name") }, 'an object'),
        object: z.object(
          {
            key: z.string(A_KEY).check(z.refine((key) => isBackupId(SNAPSHOT_KEY.exec(key)?.[1] ?? ''), A_KEY)),
            'version-id': text(/^[ -~]{1,1024}$/, 'the id of a version'),
          },
          'an object',
        ),
      },
      'an object',
    ),
  },
  'an object',
);

const byHand = z.strictObject(
  { backupId: z.string(A_BACKUP_ID).check(z.refine(isBackupId, A_BACKUP_ID)) },
  'an object',
);

/** Which snapshot to verify; without a version id the oldest version that is signed. */
export interface Request {
  readonly backupId: string;
  readonly version?: { readonly key: string; readonly versionId: string };
}

/** What may be sent to the function. */
export const NEXT = `send {"backupId": "20261120T140000Z"} to verify a backup again, or let EventBridge deliver S3's event 'Object Created'`;

/** What an event asks for. Throws EventError with everything that is wrong with it. */
export function readEvent(event: unknown, bucket: string): Request {
  if (typeof event !== 'object' || event === null || !('detail' in event || 'source' in event)) {
    return valid(byHand, event);
  }
  const { detail } = valid(objectCreated, event);
  if (detail.bucket.name !== bucket) {
    throw new EventError([`detail.bucket.name: got "${detail.bucket.name.slice(0, 100)}", expected "${bucket}"`], NEXT);
  }
  const { key, 'version-id': versionId } = detail.object;
  return { backupId: backupIdOfSnapshot(key) as string, version: { key, versionId } };
}

/** The backup id in the key of a snapshot; undefined when it is none. */
export function backupIdOfSnapshot(key: string): string | undefined {
  return SNAPSHOT_KEY.exec(key)?.[1];
}

function valid<Schema extends z.core.$ZodType>(schema: Schema, event: unknown): z.output<Schema> {
  const checked = check(schema, event);
  if (!checked.ok) {
    throw new EventError(checked.problems, NEXT);
  }
  return checked.value;
}
