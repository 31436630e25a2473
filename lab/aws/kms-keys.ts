import { execFile } from 'node:child_process';
import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AwsError } from './aws-error';

/** The two kinds of key that the stack has. */
export type KeySpec = 'SYMMETRIC_DEFAULT' | 'ECC_NIST_P256';

/** One KMS key, its policy and its state. */
export interface KmsKey {
  readonly keyId: string;
  readonly arn: string;
  readonly spec: KeySpec;
  readonly usage: 'ENCRYPT_DECRYPT' | 'SIGN_VERIFY';
  readonly description: string;
  readonly policy: unknown;
  readonly createdAt: Date;
  enabled: boolean;
  /** Hex of 32 bytes, or a PKCS #8 PEM. */
  readonly material: string;
}

const IV_BYTES = 12;
const TAG_BYTES = 16;

const openssl = (args: readonly string[], input: Buffer): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const child = execFile('openssl', args, { encoding: 'buffer' }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`openssl ${args.join(' ')} failed: ${stderr.toString()}`, { cause: error }));
    });
    child.stdin?.end(input);
  });

/** All keys of the lab. Their material is kept under `dir`, so that a lab brought up again reads its old objects. */
export class KmsKeys {
  readonly #keys = new Map<string, KmsKey>();
  readonly #aliases = new Map<string, string>();

  constructor(private readonly dir: string) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  create(options: Pick<KmsKey, 'keyId' | 'arn' | 'spec' | 'usage' | 'description' | 'policy' | 'enabled'>): KmsKey {
    const key: KmsKey = { ...options, createdAt: new Date(), material: this.#material(options.keyId, options.spec) };
    this.#keys.set(key.arn, key);
    return key;
  }

  addAlias(alias: string, keyArn: string): void {
    this.#aliases.set(alias, keyArn);
  }

  #material(keyId: string, spec: KeySpec): string {
    const file = join(this.dir, `${keyId}.key`);
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    const material =
      spec === 'SYMMETRIC_DEFAULT'
        ? randomBytes(32).toString('hex')
        : generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
            .privateKey.export({ type: 'pkcs8', format: 'pem' })
            .toString();
    writeFileSync(file, material, { mode: 0o600 });
    return material;
  }

  /** By ARN, key id, alias or alias ARN. Throws NotFoundException. */
  find(id: string): KmsKey {
    const alias = this.#aliases.get(id.replace(/^arn:aws:kms:[^:]+:\d+:(?=alias\/)/, ''));
    const found = this.#keys.get(alias ?? id) ?? [...this.#keys.values()].find(({ keyId }) => keyId === id);
    if (found === undefined) throw new AwsError('NotFoundException', `Key '${id}' does not exist`);
    return found;
  }

  /** As find, and throws DisabledException for a disabled key. */
  usable(id: string): KmsKey {
    const key = this.find(id);
    if (!key.enabled) throw new AwsError('DisabledException', `${key.arn} is disabled.`);
    return key;
  }

  setEnabled(id: string, enabled: boolean): void {
    this.find(id).enabled = enabled;
  }

  encrypt(key: KmsKey, plaintext: Buffer, context: Buffer): Buffer {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv('aes-256-gcm', Buffer.from(key.material, 'hex'), iv).setAAD(context);
    const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), sealed]);
  }

  /** Throws InvalidCiphertextException when the ciphertext or its context was changed. */
  decrypt(key: KmsKey, ciphertext: Buffer, context: Buffer): Buffer {
    const decipher = createDecipheriv(
      'aes-256-gcm',
      Buffer.from(key.material, 'hex'),
      ciphertext.subarray(0, IV_BYTES),
      { authTagLength: TAG_BYTES },
    )
      .setAAD(context)
      .setAuthTag(ciphertext.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(ciphertext.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
    } catch (error) {
      throw new AwsError(
        'InvalidCiphertextException',
        `the ciphertext is not of ${key.arn} with this context: ${String(error)}`,
      );
    }
  }

  /** DER of the public key (SubjectPublicKeyInfo). */
  publicKey(key: KmsKey): Buffer {
    return createPublicKey(key.material).export({ type: 'spki', format: 'der' });
  }

  // node:crypto hashes whatever it signs with an EC key; openssl's pkeyutl takes the digest itself, as MessageType DIGEST needs.
  async signDigest(key: KmsKey, digest: Buffer): Promise<Buffer> {
    return openssl(
      ['pkeyutl', '-sign', '-inkey', join(this.dir, `${key.keyId}.key`), '-pkeyopt', 'digest:sha256'],
      digest,
    );
  }

  async verifyDigest(key: KmsKey, digest: Buffer, signature: Buffer): Promise<boolean> {
    const file = join(this.dir, `${randomUUID()}.signature`);
    writeFileSync(file, signature, { mode: 0o600 });
    try {
      await openssl(
        [
          'pkeyutl',
          '-verify',
          '-inkey',
          join(this.dir, `${key.keyId}.key`),
          '-sigfile',
          file,
          '-pkeyopt',
          'digest:sha256',
        ],
        digest,
      );
      return true;
    } catch {
      // pkeyutl exits 1 for a signature that does not match as for one that is no DER; KMS answers both alike.
      return false;
    } finally {
      rmSync(file, { force: true });
    }
  }
}
