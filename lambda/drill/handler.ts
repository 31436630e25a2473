import { KMSClient } from '@aws-sdk/client-kms';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { S3Client } from '@aws-sdk/client-s3';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envHashes } from '../shared/env';
import { EnvironmentError } from '../shared/errors';
import { officialTools } from '../shared/official-tools';
import { createTelemetry } from '../shared/telemetry';
import { drill, type DrillDeps } from './drill';
import { RUN_TIMEOUT_MILLISECONDS } from './invoke-run';

function envArch(): DrillDeps['arch'] {
  const arch = env('ARCHITECTURE');
  if (arch !== 'amd64' && arch !== 'arm64') {
    throw new EnvironmentError(
      `environment variable ARCHITECTURE: got '${arch}', expected amd64 or arm64; deploy again`,
    );
  }
  return arch;
}

const deps: DrillDeps = {
  clusterName: env('CLUSTER_NAME'),
  arch: envArch(),
  acknowledgedTools: envHashes('ACKNOWLEDGED_TOOLS'),
  officialTools,
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
    sleep: (milliseconds) => setTimeout(milliseconds),
  },
  kms: new KMSClient(TIMEOUTS),
  // Answers when the drill is over. A call that is repeated after a lost answer would be a second drill.
  lambda: new LambdaClient({
    requestHandler: { ...TIMEOUTS.requestHandler, requestTimeout: RUN_TIMEOUT_MILLISECONDS },
    maxAttempts: 1,
  }),
  runFunction: env('RUN_FUNCTION'),
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
};

/** Entry point of the drill function. */
export const handler = (event: unknown) => drill(deps, event);
