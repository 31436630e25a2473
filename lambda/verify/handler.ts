import { KMSClient } from '@aws-sdk/client-kms';
import { S3Client } from '@aws-sdk/client-s3';
import type { Context } from 'aws-lambda';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envNumber } from '../shared/env';
import { readSnapshot } from '../shared/snapshot/read-snapshot';
import { createTelemetry } from '../shared/telemetry';
import { envKeep, envTimelines } from './settings';
import { verify, type VerifyDeps } from './verify';

const deps: VerifyDeps = {
  clusterName: env('CLUSTER_NAME'),
  announcementKeyArn: env('ANNOUNCEMENT_KEY_ARN'),
  receiptKeyArn: env('RECEIPT_KEY_ARN'),
  keep: envKeep(),
  acknowledgedTimelines: envTimelines(),
  keysLostPercent: envNumber('KEYS_LOST_PERCENT'),
  // Not the temporary directory itself: it is emptied, and on a machine that is not Lambda's it is not the function's alone.
  directory: join(tmpdir(), 'etcd-backup-verify'),
  store: {
    // SHA-256 is the checksum here; by default the SDK would add a CRC32.
    s3: new S3Client({
      ...TIMEOUTS,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
    bucket: env('BUCKET'),
    bucketOwner: env('BUCKET_OWNER'),
    snapshotKeyArn: env('SNAPSHOT_KEY_ARN'),
    sleep: (milliseconds) => setTimeout(milliseconds),
  },
  kms: new KMSClient(TIMEOUTS),
  readSnapshot,
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
};

/** Entry point of the verify function. */
export const handler = (event: unknown, context: Context) =>
  verify(deps, event, {
    requestId: context.awsRequestId,
    functionName: context.functionName,
    functionVersion: context.functionVersion,
  });
