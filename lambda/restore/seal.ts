import { GetObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import { describeError, NodeResultError, PresignError } from '../shared/errors';

/** A presigned GET in two parts: the URL reads nothing until the signature is put behind it. */
export interface CutUrl {
  /** Ends in `X-Amz-Signature=`. */
  readonly url: string;
  /** 64 hex digits. A secret for as long as the URL holds. */
  readonly signature: string;
}

/** How long the GET can be begun: 15 minutes. */
export const GET_SECONDS = 15 * 60;

const SIGNATURE = 'X-Amz-Signature=';

/**
 * Presigns the GET of one version. Throws PresignError when it would need headers that curl does not send by itself. The bucket's owner
 * is not in it: S3 heeds that only as a header, and the bytes are held against their SHA-256.
 */
export async function presignGet(
  s3: S3Client,
  version: { readonly bucket: string; readonly key: string; readonly versionId: string },
): Promise<CutUrl> {
  const signed = await getSignedUrl(
    s3,
    new GetObjectCommand({ Bucket: version.bucket, Key: version.key, VersionId: version.versionId }),
    { expiresIn: GET_SECONDS },
  );
  const { searchParams } = new URL(signed);
  const headers = searchParams.get('X-Amz-SignedHeaders');
  if (headers !== 'host') {
    throw new PresignError(
      `X-Amz-SignedHeaders of the presigned GET: got ${headers ?? 'none'}, expected host alone; pin the SDK version that was tested`,
    );
  }
  if (searchParams.get('versionId') !== version.versionId) {
    throw new PresignError(
      'versionId in the presigned GET: got another or none, expected the version that was proven; pin the SDK version that was tested',
    );
  }
  const signature = searchParams.get('X-Amz-Signature') ?? '';
  if (!/^[0-9a-f]{64}$/.test(signature)) {
    throw new PresignError(
      'X-Amz-Signature of the presigned GET: got something else, expected 64 hex digits; pin the SDK version that was tested',
    );
  }
  // A signature covers the query in its own order, so this one's place does not matter to S3.
  return { url: `${signed.replace(`&${SIGNATURE}${signature}`, '')}&${SIGNATURE}`, signature };
}

const KEY_BITS = 3072;

/**
 * A secret that only the holder of the private key can read: RSA-OAEP with SHA-256, in base64.
 *
 * @param publicKey SubjectPublicKeyInfo of an RSA-3072 key, DER in base64, as the node made it for this restore
 * @throws NodeResultError when it is no such key
 */
export function seal(publicKey: string, secret: string): string {
  let key;
  try {
    key = createPublicKey({ key: Buffer.from(publicKey, 'base64'), format: 'der', type: 'spki' });
  } catch (error) {
    throw new NodeResultError(
      `public key of the node: got ${describeError(error)}, expected an RSA-3072 key; run the restore again`,
      error,
    );
  }
  const bits = key.asymmetricKeyDetails?.modulusLength;
  if (key.asymmetricKeyType !== 'rsa' || bits !== KEY_BITS) {
    throw new NodeResultError(
      `public key of the node: got ${key.asymmetricKeyType ?? 'an unknown kind'} of ${String(bits ?? 0)} bits, expected RSA of ${String(KEY_BITS)}; find out what answers in place of the script`,
    );
  }
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return publicEncrypt({ key, padding, oaepHash: 'sha256' }, Buffer.from(secret)).toString('base64');
}
