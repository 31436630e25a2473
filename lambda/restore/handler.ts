import { EC2Client } from '@aws-sdk/client-ec2';
import { KMSClient } from '@aws-sdk/client-kms';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { S3Client } from '@aws-sdk/client-s3';
import { SSMClient } from '@aws-sdk/client-ssm';
import type { Context } from 'aws-lambda';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envHashes, envNumber, envRecord } from '../shared/env';
import { officialTools } from '../shared/official-tools';
import type { Document } from '../shared/run-document';
import { createTelemetry } from '../shared/telemetry';
import { BACKUP_TIMEOUT_MILLISECONDS } from './invoke-backup';
import { restore } from './restore';
import type { RestoreDeps } from './run';

const sleep = (milliseconds: number): Promise<void> => setTimeout(milliseconds);

const document = (name: string): Document => ({
  name: env(`${name}_DOCUMENT`),
  version: env(`${name}_DOCUMENT_VERSION`),
});

const deps: RestoreDeps = {
  clusterName: env('CLUSTER_NAME'),
  controlPlaneTags: envRecord('CONTROL_PLANE_TAGS'),
  acknowledgedTools: envHashes('ACKNOWLEDGED_TOOLS'),
  diskLimitPercent: envNumber('DISK_LIMIT_PERCENT'),
  documents: {
    preflight: document('PREFLIGHT'),
    stop: document('STOP'),
    swap: document('SWAP'),
    start: document('START'),
    check: document('CHECK'),
    rollback: document('ROLLBACK'),
    cleanup: document('CLEANUP'),
    diagnose: document('DIAGNOSE'),
  },
  backupFunction: env('BACKUP_FUNCTION'),
  receiptKeyArn: env('RECEIPT_KEY_ARN'),
  store: {
    // SHA-256 is the checksum here; by default the SDK would add a CRC32, also to presigned URLs.
    s3: new S3Client({
      ...TIMEOUTS,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
    bucket: env('BUCKET'),
    bucketOwner: env('BUCKET_OWNER'),
    snapshotKeyArn: env('SNAPSHOT_KEY_ARN'),
    sleep,
  },
  ec2: new EC2Client(TIMEOUTS),
  kms: new KMSClient(TIMEOUTS),
  ssm: new SSMClient(TIMEOUTS),
  ssmOnce: new SSMClient({ ...TIMEOUTS, maxAttempts: 1 }),
  // Answers when the backup is stored. A call that is repeated after a lost answer would be a second backup.
  lambda: new LambdaClient({
    requestHandler: { ...TIMEOUTS.requestHandler, requestTimeout: BACKUP_TIMEOUT_MILLISECONDS },
    maxAttempts: 1,
  }),
  officialTools,
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  sleep,
};

/** Entry point of the restore function. */
export const handler = (event: unknown, context: Context) =>
  restore(deps, event, { remainingMilliseconds: () => context.getRemainingTimeInMillis() });
