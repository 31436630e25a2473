import { InvokeCommand, type InvokeCommandOutput } from '@aws-sdk/client-lambda';
import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { check, text } from '../shared/check';
import { describeError } from '../shared/errors';
import type { RestoreDeps } from './run';

/** How long the backup function's answer is waited for: shorter than a state's time, longer than most backups. */
export const BACKUP_TIMEOUT_MILLISECONDS = 660_000;

/** What a backup came to. `again`: the same call attaches to what runs, or meets a service that was disturbed. */
export type BackupAnswer =
  | { readonly kind: 'stored'; readonly backupId: string }
  | { readonly kind: 'failed'; readonly again: boolean; readonly reason: string };

const outcome = z.object({
  outcome: z.enum(['stored', 'exists'], "'stored' or 'exists'"),
  backupId: text(BACKUP_ID_PATTERN, 'a backup id'),
});

const functionError = z.object({ errorType: z.string('a name'), errorMessage: z.string('a message') });

// The platform's words for a function that was killed, and the function's own for one that will attach.
const AGAIN: readonly string[] = ['TimeLeftError', 'RunCommandError', 'Sandbox.Timedout', 'Runtime.ExitError'];
// The call itself: no answer in time, or not now.
const CALL_AGAIN: readonly string[] = [
  'TimeoutError',
  'TooManyRequestsException',
  'ServiceException',
  'ECONNRESET',
  'EC2ThrottledException',
];

/** Invokes the backup function and waits for its answer. Nothing of a backup that fails is thrown. */
export async function invokeBackup(
  { lambda, backupFunction }: Pick<RestoreDeps, 'lambda' | 'backupFunction'>,
  event: Readonly<Record<string, unknown>>,
): Promise<BackupAnswer> {
  let answer: InvokeCommandOutput;
  try {
    answer = await lambda.send(
      new InvokeCommand({
        FunctionName: backupFunction,
        InvocationType: 'RequestResponse',
        Payload: Buffer.from(JSON.stringify(event)),
      }),
    );
  } catch (error) {
    return {
      kind: 'failed',
      again: error instanceof Error && CALL_AGAIN.includes(error.name),
      reason: `lambda:InvokeFunction of ${backupFunction}: got ${describeError(error)}, expected its answer within ${String(BACKUP_TIMEOUT_MILLISECONDS / 60_000)} minutes`,
    };
  }
  return readAnswer(answer);
}

function readAnswer({ FunctionError, Payload }: InvokeCommandOutput): BackupAnswer {
  const text = Buffer.from(Payload ?? []).toString('utf8');
  let payload: unknown;
  try {
    payload = JSON.parse(text);
  } catch {
    return {
      kind: 'failed',
      again: false,
      reason: `the backup function answered ${String(text.length)} characters that are no JSON`,
    };
  }
  if (FunctionError === undefined) {
    const checked = check(outcome, payload);
    return checked.ok
      ? { kind: 'stored', backupId: checked.value.backupId }
      : { kind: 'failed', again: false, reason: `the backup function's answer: ${checked.problems.join('; ')}` };
  }
  const checked = check(functionError, payload);
  const { errorType, errorMessage } = checked.ok
    ? checked.value
    : { errorType: FunctionError, errorMessage: 'it said nothing else' };
  return { kind: 'failed', again: AGAIN.includes(errorType), reason: `${errorType}: ${errorMessage.slice(0, 1500)}` };
}
