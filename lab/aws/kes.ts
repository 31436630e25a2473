import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { AwsError } from './aws-error';
import { listen, LOOPBACK, readBody, type Endpoint } from './endpoint';
import type { KmsKey, KmsKeys } from './kms-keys';

/** Name of the key that MinIO encrypts its own configuration with; no object of the stack is under it. */
export const MINIO_KEY = 'minio';
// MinIO strips this from a key ARN, and puts it before the name again when it answers.
const ARN_PREFIX = 'arn:aws:kms:';
const DATA_KEY_BYTES = 32;

/** Files for mutual TLS between MinIO and the KES side of the KMS stand-in. */
export interface KesFiles {
  readonly ca: string;
  readonly clientCertificate: string;
  readonly clientKey: string;
}

const KEY_SPEC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30'];

const makeCertificates = (dir: string): KesFiles & { readonly certificate: string; readonly key: string } => {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  openssl(
    'req',
    '-x509',
    ...KEY_SPEC,
    '-subj',
    '/CN=lab KES',
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.crt'),
    '-addext',
    'basicConstraints=critical,CA:TRUE',
  );
  for (const [name, usage] of [
    ['server', 'serverAuth'],
    ['client', 'clientAuth'],
  ] as const) {
    writeFileSync(file(`${name}.ext`), `subjectAltName=IP:${LOOPBACK}\nextendedKeyUsage=${usage}\n`);
    openssl(
      'req',
      ...KEY_SPEC,
      '-subj',
      `/CN=lab ${name}`,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.csr`),
    );
    openssl(
      'x509',
      '-req',
      '-in',
      file(`${name}.csr`),
      '-CA',
      file('ca.crt'),
      '-CAkey',
      file('ca.key'),
      '-CAcreateserial',
      '-days',
      '30',
      '-extfile',
      file(`${name}.ext`),
      '-out',
      file(`${name}.crt`),
    );
  }
  return {
    ca: file('ca.crt'),
    certificate: file('server.crt'),
    key: file('server.key'),
    clientCertificate: file('client.crt'),
    clientKey: file('client.key'),
  };
};

const bytes = (value: unknown, field: string): Buffer => {
  if (value === undefined || value === null) return Buffer.alloc(0);
  if (typeof value !== 'string') throw new AwsError('BadRequest', `${field}: expected base64`);
  return Buffer.from(value, 'base64');
};

/** Starts the KES protocol (TLS, client certificate) over the lab's KMS keys, so that S3's encryption hangs on the key of the template. */
export const startKes = async (options: {
  readonly dir: string;
  readonly keys: KmsKeys;
  readonly port: number;
}): Promise<Endpoint & { readonly files: KesFiles }> => {
  const files = makeCertificates(options.dir);
  const own = options.keys.create({
    keyId: MINIO_KEY,
    arn: `${ARN_PREFIX}${MINIO_KEY}`,
    spec: 'SYMMETRIC_DEFAULT',
    usage: 'ENCRYPT_DECRYPT',
    description: 'configuration of MinIO itself',
    policy: undefined,
    enabled: true,
  });
  const startedAt = Date.now();

  const find = (name: string): KmsKey => {
    try {
      const key = options.keys.usable(`${ARN_PREFIX}${name}`);
      if (key.usage !== 'ENCRYPT_DECRYPT')
        throw new AwsError('NotAllowed', 'not authorized: insufficient permissions', 403);
      return key;
    } catch (error) {
      // The two texts are KES' own: MinIO turns them into S3's errors by comparing them.
      if (error instanceof AwsError && error.code === 'NotFoundException')
        throw new AwsError('NotFound', 'key does not exist', 404);
      if (error instanceof AwsError && error.code === 'DisabledException')
        throw new AwsError('NotAllowed', 'not authorized: insufficient permissions', 403);
      throw error;
    }
  };

  const answer = async (request: IncomingMessage): Promise<unknown> => {
    const { pathname } = new URL(request.url ?? '/', `https://${LOOPBACK}`);
    const body = await readBody(request);
    const input = (body.length === 0 ? {} : JSON.parse(body.toString('utf8'))) as Record<string, unknown>;
    const [, operation = pathname, encodedName = ''] = /^(\/v1\/key\/[a-z]+)\/(.+)$/.exec(pathname) ?? [];
    const name = decodeURIComponent(encodedName);
    switch (`${request.method ?? ''} ${operation}`) {
      case 'GET /version':
        return { version: 'lab' };
      case 'GET /v1/status':
        return {
          version: 'lab',
          os: process.platform,
          arch: process.arch,
          uptime: Math.round((Date.now() - startedAt) / 1000),
          num_cpu: 1,
          num_cpu_used: 1,
        };
      case 'GET /v1/key/describe': {
        const key = find(name);
        return { name, algorithm: 'AES256', created_at: key.createdAt.toISOString(), created_by: own.keyId };
      }
      case 'POST /v1/key/generate': {
        const key = find(name);
        const plaintext = randomBytes(DATA_KEY_BYTES);
        const ciphertext = options.keys.encrypt(key, plaintext, bytes(input.context, 'context'));
        return { plaintext: plaintext.toString('base64'), ciphertext: ciphertext.toString('base64') };
      }
      case 'POST /v1/key/decrypt': {
        const key = find(name);
        const plaintext = options.keys.decrypt(
          key,
          bytes(input.ciphertext, 'ciphertext'),
          bytes(input.context, 'context'),
        );
        return { plaintext: plaintext.toString('base64') };
      }
      default:
        throw new AwsError('NotImplemented', `this stand-in does not know ${request.method ?? ''} ${pathname}`, 501);
    }
  };

  const server = createServer(
    {
      ca: readFileSync(files.ca),
      cert: readFileSync(files.certificate),
      key: readFileSync(files.key),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
    },
    (request, response) => {
      void answer(request)
        .then((output) => ({ status: 200, output }))
        .catch((error: unknown) => {
          const message =
            error instanceof AwsError && error.code === 'InvalidCiphertextException'
              ? 'decryption failed: ciphertext is not authentic'
              : (error as Error).message;
          return { status: error instanceof AwsError ? error.status : 500, output: { message } };
        })
        .then(({ status, output }) => {
          response.writeHead(status, { 'content-type': 'application/json' });
          response.end(JSON.stringify(output));
        });
    },
  );
  const endpoint = await listen(server, options.port);
  return { ...endpoint, url: endpoint.url.replace('http://', 'https://'), files };
};
