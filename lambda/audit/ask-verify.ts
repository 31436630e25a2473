import { InvokeCommand, type LambdaClient } from '@aws-sdk/client-lambda';
import { describeError, VerifyNotAskedError } from '../shared/errors';
import { sha256Hex, type VersionId } from '../shared/store';

const SLOT_MINUTES = 5;
const SLOTS = 60 / SLOT_MINUTES;
/** More than these are not asked for in one run: each takes a vCPU, and an account may have few. */
export const MAX_ASKED = 5;

/**
 * Which of these verify is asked for in the run of this time: each has one slot of five minutes in every hour, which its version decides, so that
 * no run has to know of another. The newest first.
 */
export function dueAt<Item extends { readonly version: VersionId }>(items: readonly Item[], at: Date): Item[] {
  const slot = Math.floor(at.getUTCMinutes() / SLOT_MINUTES);
  return items
    .filter(({ version }) => slotOf(version) === slot)
    .toSorted((a, b) => (a.version.key < b.version.key ? 1 : a.version.key > b.version.key ? -1 : 0))
    .slice(0, MAX_ASKED);
}

function slotOf({ key, versionId }: VersionId): number {
  return Number.parseInt(sha256Hex(Buffer.from(`${key} ${versionId}`)).slice(0, 8), 16) % SLOTS;
}

/** Starts verify for a version, with the event that S3 sends when it is stored. Throws VerifyNotAskedError. */
export async function askVerify(
  lambda: LambdaClient,
  functionName: string,
  bucket: string,
  { key, versionId }: VersionId,
): Promise<void> {
  const event = {
    source: 'aws.s3',
    'detail-type': 'Object Created',
    detail: { bucket: { name: bucket }, object: { key, 'version-id': versionId } },
  };
  try {
    await lambda.send(
      new InvokeCommand({
        FunctionName: functionName,
        InvocationType: 'Event',
        Payload: Buffer.from(JSON.stringify(event)),
      }),
    );
  } catch (error) {
    throw new VerifyNotAskedError(
      `lambda:InvokeFunction of ${functionName} for ${key}: got ${describeError(error)}, expected it to be started; check that the function is there and may be invoked by audit's role`,
      error,
    );
  }
}
