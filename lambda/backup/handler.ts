import { EC2Client } from '@aws-sdk/client-ec2';
import { KMSClient } from '@aws-sdk/client-kms';
import { S3Client } from '@aws-sdk/client-s3';
import { SSMClient } from '@aws-sdk/client-ssm';
import type { Context } from 'aws-lambda';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envHashes, envNumber, envRecord } from '../shared/env';
import { officialTools } from '../shared/official-tools';
import { createTelemetry } from '../shared/telemetry';
import { backup, type BackupDeps } from './backup';

const sleep = (milliseconds: number): Promise<void> => setTimeout(milliseconds);

const deps: BackupDeps = {
  clusterName: env('CLUSTER_NAME'),
  controlPlaneTags: envRecord('CONTROL_PLANE_TAGS'),
  acknowledgedMembers: envNumber('ACKNOWLEDGED_MEMBERS'),
  acknowledgedTools: envHashes('ACKNOWLEDGED_TOOLS'),
  maxKeepDays: envNumber('MAX_KEEP_DAYS'),
  snapshotDocument: { name: env('SNAPSHOT_DOCUMENT'), version: env('SNAPSHOT_DOCUMENT_VERSION') },
  uploadDocument: { name: env('UPLOAD_DOCUMENT'), version: env('UPLOAD_DOCUMENT_VERSION') },
  toolsDocument: { name: env('TOOLS_DOCUMENT'), version: env('TOOLS_DOCUMENT_VERSION') },
  announcementKeyArn: env('ANNOUNCEMENT_KEY_ARN'),
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
  officialTools,
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  sleep,
};

/** Entry point of the backup function. */
export const handler = (event: unknown, context: Context) =>
  backup(deps, event, {
    requestId: context.awsRequestId,
    remainingMilliseconds: () => context.getRemainingTimeInMillis(),
  });
