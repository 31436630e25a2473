import { type KMSClient, SignCommand, VerifyCommand } from '@aws-sdk/client-kms';
import { createHash } from 'node:crypto';
import { describeError, SigningKeyError } from './errors';

const NEXT = "check that the key is enabled and its policy allows the function's role";

/** Form of a signature in base64: DER of ECDSA P-256 has some 70 bytes. */
export const SIGNATURE_PATTERN = /^[A-Za-z0-9+/]{1,200}={0,2}$/;

/** Signs the SHA-256 of these bytes (ECDSA P-256, DER). Returns base64. Throws SigningKeyError when KMS does not. */
export async function sign(kms: KMSClient, keyArn: string, bytes: Buffer): Promise<string> {
  let signature: Uint8Array | undefined;
  try {
    ({ Signature: signature } = await kms.send(new SignCommand(digestOf(keyArn, bytes))));
  } catch (error) {
    throw new SigningKeyError(
      `kms:Sign with ${keyArn}: got ${describeError(error)}, expected a signature; ${NEXT}`,
      error,
    );
  }
  if (signature === undefined) {
    throw new SigningKeyError(`kms:Sign with ${keyArn}: got no signature, expected one; run the function again`);
  }
  return Buffer.from(signature).toString('base64');
}

/** Whether `signature` (base64) is this key's over these bytes. Throws SigningKeyError when KMS does not say. */
export async function isSigned(
  kms: KMSClient,
  keyArn: string,
  { key, bytes, signature }: { readonly key: string; readonly bytes: Buffer; readonly signature: string },
): Promise<boolean> {
  try {
    const { SignatureValid } = await kms.send(
      new VerifyCommand({ ...digestOf(keyArn, bytes), Signature: Buffer.from(signature, 'base64') }),
    );
    return SignatureValid === true;
  } catch (error) {
    if (error instanceof Error && error.name === 'KMSInvalidSignatureException') {
      return false;
    }
    throw new SigningKeyError(
      `kms:Verify of ${key} with ${keyArn}: got ${describeError(error)}, expected an answer; ${NEXT}`,
      error,
    );
  }
}

function digestOf(keyArn: string, bytes: Buffer) {
  return {
    KeyId: keyArn,
    Message: createHash('sha256').update(bytes).digest(),
    MessageType: 'DIGEST',
    SigningAlgorithm: 'ECDSA_SHA_256',
  } as const;
}
