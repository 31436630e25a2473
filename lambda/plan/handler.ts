import { EC2Client } from '@aws-sdk/client-ec2';
import { KMSClient } from '@aws-sdk/client-kms';
import { S3Client } from '@aws-sdk/client-s3';
import { SFNClient } from '@aws-sdk/client-sfn';
import { SSMClient } from '@aws-sdk/client-ssm';
import type { Context } from 'aws-lambda';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envHashes, envNumber, envRecord } from '../shared/env';
import { officialTools } from '../shared/official-tools';
import { createTelemetry } from '../shared/telemetry';
import { plan, type PlanDeps } from './plan';

const sleep = (milliseconds: number): Promise<void> => setTimeout(milliseconds);

const deps: PlanDeps = {
  clusterName: env('CLUSTER_NAME'),
  controlPlaneTags: envRecord('CONTROL_PLANE_TAGS'),
  acknowledgedTools: envHashes('ACKNOWLEDGED_TOOLS'),
  diskLimitPercent: envNumber('DISK_LIMIT_PERCENT'),
  inspectDocument: { name: env('INSPECT_DOCUMENT'), version: env('INSPECT_DOCUMENT_VERSION') },
  receiptKeyArn: env('RECEIPT_KEY_ARN'),
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
    sleep,
  },
  ec2: new EC2Client(TIMEOUTS),
  kms: new KMSClient(TIMEOUTS),
  sfn: new SFNClient(TIMEOUTS),
  ssm: new SSMClient(TIMEOUTS),
  ssmOnce: new SSMClient({ ...TIMEOUTS, maxAttempts: 1 }),
  officialTools,
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  sleep,
};

/** Entry point of the plan function. */
export const handler = (event: unknown, context: Context) => plan(deps, event, { requestId: context.awsRequestId });
