import { S3Client } from '@aws-sdk/client-s3';
import { execFileSync } from 'node:child_process';
import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GET_SECONDS, presignGet, seal } from '../../../lambda/restore/seal';
import { CREDENTIALS } from '../backup/cloud';
import { NODE_KEYS } from './world';

const spki = (key: { export: (options: { format: 'der'; type: 'spki' }) => Buffer }) =>
  key.export({ format: 'der', type: 'spki' }).toString('base64');
const VERSION = { bucket: 'lab-backups', key: 'snapshots/20261120T130000Z.db.zst', versionId: 'a+b/c=' };
const s3 = (config = {}) =>
  new S3Client({
    region: 'us-east-1',
    credentials: CREDENTIALS,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...config,
  });

describe('a presigned GET', () => {
  test('is of one version, holds 15 minutes, and ends where its signature was', async () => {
    const { url, signature } = await presignGet(s3(), VERSION);
    expect(url).toMatch(/[?&]X-Amz-Signature=$/);
    expect(url.match(/X-Amz-Signature/g)).toHaveLength(1);
    expect(signature).toMatch(/^[0-9a-f]{64}$/);
    expect(url).not.toContain(signature);
    const { searchParams, pathname } = new URL(url);
    expect(pathname).toBe('/snapshots/20261120T130000Z.db.zst');
    expect(searchParams.get('versionId')).toBe('a+b/c=');
    expect(searchParams.get('X-Amz-Expires')).toBe(String(GET_SECONDS));
    expect(searchParams.get('X-Amz-SignedHeaders')).toBe('host');
  });

  test('passes the pattern of the document', async () => {
    const { url } = await presignGet(s3(), VERSION);
    expect(url).toMatch(/^https?:\/\/[A-Za-z0-9.:/?&=%~_+-]+X-Amz-Signature=$/);
  });

  test('throws when a header would have to be sent beside it', async () => {
    const client = s3();
    client.middlewareStack.add(
      (next) => (args) => {
        (args.request as { headers: Record<string, string> }).headers['range'] = 'bytes=0-1';
        return next(args);
      },
      { step: 'build' },
    );
    await expect(presignGet(client, VERSION)).rejects.toMatchObject({
      name: 'PresignError',
      message: expect.stringContaining('expected host alone') as string,
    });
  });
});

describe('a sealed signature', () => {
  const secret = 'ab'.repeat(32);

  test('opens with the private key alone, and is another one each time', () => {
    const publicKey = spki(NODE_KEYS.publicKey);
    const sealed = seal(publicKey, secret);
    expect(sealed).toMatch(/^[A-Za-z0-9+/=]{512}$/);
    expect(seal(publicKey, secret)).not.toBe(sealed);
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    const open = (key = NODE_KEYS.privateKey) =>
      privateDecrypt({ key, padding, oaepHash: 'sha256' }, Buffer.from(sealed, 'base64')).toString();
    expect(open()).toBe(secret);
    expect(() => open(generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey)).toThrow(
      /oaep|padding|data too large/i,
    );
  });

  test('opens with the words in which the node asks openssl', () => {
    const folder = mkdtempSync(join(tmpdir(), 'seal-test-'));
    try {
      const pem = join(folder, 'key.pem');
      writeFileSync(pem, NODE_KEYS.privateKey.export({ format: 'pem', type: 'pkcs8' }));
      const options = ['-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt', 'rsa_oaep_md:sha256'];
      const opened = execFileSync('openssl', ['pkeyutl', '-decrypt', '-inkey', pem, ...options], {
        input: Buffer.from(seal(spki(NODE_KEYS.publicKey), secret), 'base64'),
      });
      expect(opened.toString()).toBe(secret);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each([
    ['no key', 'AAAA', /public key of the node: got /],
    ['a short RSA key', spki(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey), /got rsa of 2048 bits/],
    ['an EC key', spki(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey), /got ec of 0 bits/],
  ])('is refused to %s', (_, key, message) => {
    expect(() => seal(key, secret)).toThrow(
      expect.objectContaining({ name: 'NodeResultError', message: expect.stringMatching(message) as string }) as Error,
    );
  });
});
