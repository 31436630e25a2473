import { EC2Client } from '@aws-sdk/client-ec2';
import { S3Client } from '@aws-sdk/client-s3';
import { SSMClient } from '@aws-sdk/client-ssm';
import type { Context } from 'aws-lambda';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envRecord } from '../shared/env';
import { createTelemetry } from '../shared/telemetry';
import { type PkiDeps, storeBundle } from './store-bundle';

const sleep = (milliseconds: number): Promise<void> => setTimeout(milliseconds);

const deps: PkiDeps = {
  clusterName: env('CLUSTER_NAME'),
  controlPlaneTags: envRecord('CONTROL_PLANE_TAGS'),
  document: { name: env('PKI_DOCUMENT'), version: env('PKI_DOCUMENT_VERSION') },
  store: {
    // SHA-256 is the checksum here; by default the SDK would add a CRC32, also to presigned URLs.
    s3: new S3Client({
      ...TIMEOUTS,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
    bucket: env('BUCKET'),
    bucketOwner: env('BUCKET_OWNER'),
    // All that this function puts are bundles.
    snapshotKeyArn: env('PKI_KEY_ARN'),
    sleep,
  },
  ec2: new EC2Client(TIMEOUTS),
  ssm: new SSMClient(TIMEOUTS),
  ssmOnce: new SSMClient({ ...TIMEOUTS, maxAttempts: 1 }),
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  sleep,
};

/** Entry point of the PKI function. */
export const handler = (event: unknown, context: Context) =>
  storeBundle(deps, event, { remainingMilliseconds: () => context.getRemainingTimeInMillis() });
