import {
  CreateBucketCommand,
  PutBucketEncryptionCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketNotificationConfigurationCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
  type BucketLifecycleConfiguration,
  type Event,
  type ObjectLockConfiguration,
} from '@aws-sdk/client-s3';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Credentials } from './credentials';
import { LOOPBACK } from './endpoint';
import { MINIO_KEY, type KesFiles } from './kes';
import { freePort, startServer } from './process';
import { CREATED_EVENTS, WEBHOOK, type EventReceiver } from './s3-events';
import { toolBinary } from './tool-binary';

/** A running S3 server. */
export interface S3Server {
  readonly url: string;
  readonly dataDir: string;
  stop(): Promise<void>;
}

/** A client for one of the lab's S3 servers; path style, as an address has no subdomains. */
export const s3Client = (url: string, credentials: Credentials, region: string): S3Client =>
  new S3Client({ endpoint: url, region, credentials, forcePathStyle: true });

const answers = async (url: string, expected: (status: number) => boolean): Promise<boolean> => {
  try {
    return expected((await fetch(url)).status);
  } catch {
    // Not listening yet; startServer bounds the wait and shows the server's output.
    return false;
  }
};

/** Starts MinIO on one address, encrypting with the keys that KES serves; no console, no update check, no call outside. */
export const startMinio = async (options: {
  readonly dir: string;
  /** Loopback, or the address of the lab's own bridge that the nodes reach. */
  readonly host?: string;
  readonly port?: number;
  readonly region: string;
  readonly credentials: Credentials;
  readonly kes: { readonly url: string; readonly files: KesFiles };
  /** Where it sends what happens in buckets that send to EventBridge; without it, no bucket may. */
  readonly events?: EventReceiver;
}): Promise<S3Server> => {
  const host = options.host ?? LOOPBACK;
  const dataDir = join(options.dir, 'data');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort(host));
  const url = `http://${host}:${String(port)}`;
  const server = await startServer({
    command: toolBinary('minio'),
    args: [
      'server',
      '--quiet',
      '--address',
      `${host}:${String(port)}`,
      '--certs-dir',
      join(options.dir, 'certs'),
      dataDir,
    ],
    cwd: options.dir,
    env: {
      HOME: options.dir,
      PATH: process.env.PATH ?? '',
      MINIO_ROOT_USER: options.credentials.accessKeyId,
      MINIO_ROOT_PASSWORD: options.credentials.secretAccessKey,
      MINIO_SITE_REGION: options.region,
      MINIO_BROWSER: 'off',
      MINIO_UPDATE: 'off',
      MINIO_CALLHOME_ENABLE: 'off',
      ...(options.events === undefined
        ? {}
        : {
            [`MINIO_NOTIFY_WEBHOOK_ENABLE_${WEBHOOK}`]: 'on',
            [`MINIO_NOTIFY_WEBHOOK_ENDPOINT_${WEBHOOK}`]: options.events.url,
            [`MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_${WEBHOOK}`]: options.events.token,
          }),
      MINIO_KMS_KES_ENDPOINT: options.kes.url,
      MINIO_KMS_KES_KEY_NAME: MINIO_KEY,
      MINIO_KMS_KES_CAPATH: options.kes.files.ca,
      MINIO_KMS_KES_CERT_FILE: options.kes.files.clientCertificate,
      MINIO_KMS_KES_KEY_FILE: options.kes.files.clientKey,
    },
    log: join(options.dir, 'minio.log'),
    ready: () => answers(`${url}/minio/health/ready`, (status) => status === 200),
  });
  return { url, dataDir, stop: () => server.stop() };
};

/** Starts versitygw, a second S3 server that, unlike MinIO, refuses x-amz- headers which the signature does not cover. */
export const startVersitygw = async (options: {
  readonly dir: string;
  readonly port?: number;
  readonly region: string;
  readonly credentials: Credentials;
}): Promise<S3Server> => {
  const dataDir = join(options.dir, 'data');
  const versions = join(options.dir, 'versions');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  mkdirSync(versions, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort(LOOPBACK));
  const url = `http://${LOOPBACK}:${String(port)}`;
  const server = await startServer({
    command: toolBinary('versitygw'),
    args: [
      '--port',
      `${LOOPBACK}:${String(port)}`,
      '--region',
      options.region,
      '--health',
      '/health',
      'posix',
      '--versioning-dir',
      versions,
      dataDir,
    ],
    cwd: options.dir,
    env: {
      HOME: options.dir,
      PATH: process.env.PATH ?? '',
      ROOT_ACCESS_KEY: options.credentials.accessKeyId,
      ROOT_SECRET_KEY: options.credentials.secretAccessKey,
    },
    log: join(options.dir, 'versitygw.log'),
    ready: () => answers(`${url}/health`, (status) => status === 200),
  });
  return { url, dataDir, stop: () => server.stop() };
};

/** What of a bucket's properties the S3 server applies. */
export interface BucketSettings {
  readonly bucket: string;
  readonly versioning: boolean;
  readonly objectLock?: ObjectLockConfiguration;
  readonly kmsKeyArn?: string;
  readonly lifecycle?: BucketLifecycleConfiguration;
  /** Sends "Object Created" to EventBridge. */
  readonly eventBridge: boolean;
}

/** Creates a bucket, or takes it as it is when the lab made it before, and applies its settings. */
export const applyBucket = async (client: S3Client, region: string, settings: BucketSettings): Promise<void> => {
  const Bucket = settings.bucket;
  try {
    await client.send(
      new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: settings.objectLock !== undefined }),
    );
  } catch (error) {
    if ((error as Error).name !== 'BucketAlreadyOwnedByYou')
      throw new Error(`bucket ${Bucket} cannot be created: ${String(error)}`, { cause: error });
  }
  if (settings.versioning)
    await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  if (settings.objectLock?.Rule !== undefined)
    await client.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration: settings.objectLock }));
  if (settings.kmsKeyArn !== undefined) {
    const ServerSideEncryptionConfiguration = {
      Rules: [
        {
          ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' as const, KMSMasterKeyID: settings.kmsKeyArn },
        },
      ],
    };
    await client.send(new PutBucketEncryptionCommand({ Bucket, ServerSideEncryptionConfiguration }));
  }
  if (settings.lifecycle !== undefined)
    await client.send(
      new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration: settings.lifecycle }),
    );
  if (settings.eventBridge) {
    const queue = { QueueArn: `arn:minio:sqs:${region}:${WEBHOOK}:webhook`, Events: CREATED_EVENTS as Event[] };
    await client.send(
      new PutBucketNotificationConfigurationCommand({
        Bucket,
        NotificationConfiguration: { QueueConfigurations: [queue] },
      }),
    );
  }
};
