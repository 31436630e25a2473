import { createHash } from 'node:crypto';
import { AwsError, validation } from './aws-error';
import type { Caller, CredentialStore } from './credentials';
import { startJsonService, type Endpoint, type Operation } from './endpoint';
import type { Iam } from './iam';
import type { KmsKey, KmsKeys } from './kms-keys';
import { check, type Field } from './shape';

const DIGEST_BYTES = 32;
const keyId: Field = { type: 'string', required: true, min: 1, max: 2048 };
const algorithm: Field = { type: 'string', required: true, values: ['ECDSA_SHA_256'] };
const messageType: Field = { type: 'string', values: ['RAW', 'DIGEST'] };
const blob: Field = { type: 'string', required: true, min: 4, pattern: /^[A-Za-z0-9+/]+={0,2}$/ };

const digestOf = (input: Record<string, unknown>): Buffer => {
  const message = Buffer.from(input.Message as string, 'base64');
  if (message.length > 4096)
    throw validation(`input.Message: got ${String(message.length)} bytes, expected at most 4096`);
  if (input.MessageType !== 'DIGEST') return createHash('sha256').update(message).digest();
  if (message.length !== DIGEST_BYTES)
    throw validation(
      `Digest is invalid length for algorithm ECDSA_SHA_256: got ${String(message.length)} bytes, expected 32`,
    );
  return message;
};

const metadata = (key: KmsKey, account: string): unknown => ({
  AWSAccountId: account,
  KeyId: key.keyId,
  Arn: key.arn,
  CreationDate: key.createdAt.getTime() / 1000,
  Enabled: key.enabled,
  Description: key.description,
  KeyUsage: key.usage,
  KeyState: key.enabled ? 'Enabled' : 'Disabled',
  Origin: 'AWS_KMS',
  KeyManager: 'CUSTOMER',
  CustomerMasterKeySpec: key.spec,
  KeySpec: key.spec,
  ...(key.usage === 'SIGN_VERIFY'
    ? { SigningAlgorithms: ['ECDSA_SHA_256'] }
    : { EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'] }),
  MultiRegion: false,
});

/** Starts the KMS stand-in: Sign, Verify, GetPublicKey, DescribeKey, EnableKey, DisableKey. */
export const startKms = (options: {
  readonly keys: KmsKeys;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> => {
  const { keys, iam } = options;

  const authorized = async (
    caller: Caller,
    action: string,
    key: KmsKey,
    context: Record<string, string> = {},
  ): Promise<KmsKey> => {
    await iam.authorize(caller, [{ action: `kms:${action}`, resource: key.arn, context, resourcePolicy: key.policy }]);
    return key;
  };

  const signingKey = async (caller: Caller, action: string, input: Record<string, unknown>): Promise<KmsKey> => {
    const found = keys.find(input.KeyId as string);
    const key = await authorized(caller, action, found, {
      ...(input.SigningAlgorithm === undefined ? {} : { 'kms:SigningAlgorithm': input.SigningAlgorithm as string }),
      ...(action === 'GetPublicKey' ? {} : { 'kms:MessageType': (input.MessageType as string | undefined) ?? 'RAW' }),
    });
    if (key.usage !== 'SIGN_VERIFY') {
      throw new AwsError(
        'InvalidKeyUsageException',
        `${key.arn} key usage is ${key.usage} which is not valid for ${action}.`,
      );
    }
    return keys.usable(key.arn);
  };

  const operations: Record<string, Operation> = {
    Sign: async (input, caller) => {
      check(input, { KeyId: keyId, Message: blob, MessageType: messageType, SigningAlgorithm: algorithm });
      const key = await signingKey(caller, 'Sign', input);
      const signature = await keys.signDigest(key, digestOf(input));
      return { KeyId: key.arn, Signature: signature.toString('base64'), SigningAlgorithm: 'ECDSA_SHA_256' };
    },
    Verify: async (input, caller) => {
      check(input, {
        KeyId: keyId,
        Message: blob,
        MessageType: messageType,
        Signature: blob,
        SigningAlgorithm: algorithm,
      });
      const key = await signingKey(caller, 'Verify', input);
      if (!(await keys.verifyDigest(key, digestOf(input), Buffer.from(input.Signature as string, 'base64')))) {
        throw new AwsError('KMSInvalidSignatureException', 'the signature does not match the message');
      }
      return { KeyId: key.arn, SignatureValid: true, SigningAlgorithm: 'ECDSA_SHA_256' };
    },
    GetPublicKey: async (input, caller) => {
      check(input, { KeyId: keyId });
      const key = await signingKey(caller, 'GetPublicKey', input);
      return {
        KeyId: key.arn,
        PublicKey: keys.publicKey(key).toString('base64'),
        CustomerMasterKeySpec: key.spec,
        KeySpec: key.spec,
        KeyUsage: key.usage,
        SigningAlgorithms: ['ECDSA_SHA_256'],
      };
    },
    DescribeKey: async (input, caller) => {
      check(input, { KeyId: keyId });
      const key = await authorized(caller, 'DescribeKey', keys.find(input.KeyId as string));
      return { KeyMetadata: metadata(key, iam.account) };
    },
    EnableKey: async (input, caller) => {
      check(input, { KeyId: keyId });
      keys.setEnabled((await authorized(caller, 'EnableKey', keys.find(input.KeyId as string))).arn, true);
      return {};
    },
    DisableKey: async (input, caller) => {
      check(input, { KeyId: keyId });
      keys.setEnabled((await authorized(caller, 'DisableKey', keys.find(input.KeyId as string))).arn, false);
      return {};
    },
  };

  return startJsonService({
    service: 'kms',
    prefix: 'TrentService',
    operations,
    region: options.region,
    port: options.port,
    credentials: options.credentials,
  });
};
