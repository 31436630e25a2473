import { DescribeKeyCommand, type KMSClient } from '@aws-sdk/client-kms';
import { describeError, SigningKeyError } from '../shared/errors';
import { type Looked, lookAtEach } from './risks';

/** A key of the stack, and what is lost with it. */
export interface GuardedKey {
  readonly name: string;
  readonly arn: string;
  readonly without: string;
}

/** Looks whether each key can be used. */
export function lookAtKeys(kms: KMSClient, keys: readonly GuardedKey[]): Promise<Looked> {
  return lookAtEach(keys, async (key) => {
    try {
      const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: key.arn }));
      return keyRisks(key, KeyMetadata?.KeyState, KeyMetadata?.DeletionDate);
    } catch (error) {
      if (error instanceof Error && error.name === 'NotFoundException') {
        return keyRisks(key, 'gone', undefined);
      }
      throw new SigningKeyError(
        `kms:DescribeKey of the ${key.name} ${key.arn}: got ${describeError(error)}, expected its state; check that the key's policy allows the function's role`,
        error,
      );
    }
  });
}

export function keyRisks(
  { name, arn, without }: GuardedKey,
  state: string | undefined,
  deletionDate: Date | undefined,
): string[] {
  if (state === 'Enabled') {
    return [];
  }
  const until = deletionDate === undefined ? '' : `, to be deleted on ${deletionDate.toISOString()}`;
  return [
    `${name} ${arn}: its state is ${state ?? 'not told'}${until}, expected Enabled; ${without}: cancel its deletion and enable it`,
  ];
}
