import { KMSClient } from '@aws-sdk/client-kms';
import { S3Client } from '@aws-sdk/client-s3';
import type { Context } from 'aws-lambda';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envNumber } from '../shared/env';
import { createTelemetry } from '../shared/telemetry';
import { envExpiry } from '../audit/settings';
import { dashboard, type DashboardDeps } from './dashboard';

const deps: DashboardDeps = {
  clusterName: env('CLUSTER_NAME'),
  receiptKeyArn: env('RECEIPT_KEY_ARN'),
  restoreMachineArn: env('RESTORE_MACHINE_ARN'),
  recoveryPointSeconds: envNumber('RECOVERY_POINT_SECONDS'),
  drillTooOldSeconds: envNumber('DRILL_TOO_OLD_SECONDS'),
  pkiTooOldSeconds: process.env['PKI_TOO_OLD_SECONDS'] === undefined ? undefined : envNumber('PKI_TOO_OLD_SECONDS'),
  expiry: envExpiry(),
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
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  wait: (milliseconds, signal) => setTimeout(milliseconds, undefined, { signal }),
};

/** Entry point of the dashboard function: what CloudWatch's custom widget calls. */
export const handler = (event: unknown, context: Context) =>
  dashboard(deps, event, { requestId: context.awsRequestId });
