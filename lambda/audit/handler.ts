import { CloudTrailClient } from '@aws-sdk/client-cloudtrail';
import { KMSClient } from '@aws-sdk/client-kms';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { S3Client } from '@aws-sdk/client-s3';
import { SchedulerClient } from '@aws-sdk/client-scheduler';
import { SFNClient } from '@aws-sdk/client-sfn';
import { setTimeout } from 'node:timers/promises';
import { TIMEOUTS } from '../shared/clients';
import { env, envNumber } from '../shared/env';
import { createTelemetry } from '../shared/telemetry';
import { audit, type AuditDeps } from './audit';
import { envAdopted, envLifecycle, envSchedules } from './settings';
import { emptyMemory } from './stored';

// Three attempts of one call, on each of the few ways that are gone at once, have to be over before the function's time is.
const SHORT = { requestHandler: { ...TIMEOUTS.requestHandler, requestTimeout: 10_000 } };

const deps: AuditDeps = {
  clusterName: env('CLUSTER_NAME'),
  receiptKeyArn: env('RECEIPT_KEY_ARN'),
  verifyFunction: env('VERIFY_FUNCTION'),
  restoreMachineArn: env('RESTORE_MACHINE_ARN'),
  keys: [
    { name: 'snapshot key', arn: env('SNAPSHOT_KEY_ARN'), without: 'without it no backup can be read' },
    { name: 'announcement key', arn: env('ANNOUNCEMENT_KEY_ARN'), without: 'without it no backup can be taken' },
    { name: 'receipt key', arn: env('RECEIPT_KEY_ARN'), without: 'without it no backup can be verified or restored' },
    // Only where the cluster keeps PKI bundles.
    ...(process.env['PKI_KEY_ARN'] === undefined
      ? []
      : [{ name: 'PKI key', arn: env('PKI_KEY_ARN'), without: 'without it no PKI bundle can be stored or read' }]),
    // Only where the stack has a topic of its own.
    ...(process.env['TOPIC_KEY_ARN'] === undefined
      ? []
      : [
          {
            name: "topic's key",
            arn: env('TOPIC_KEY_ARN'),
            without: 'without it no alarm and no message reaches anybody',
          },
        ]),
  ],
  schedules: envSchedules(),
  bucket: { adopted: envAdopted(), lockDays: envNumber('LOCK_DAYS'), expiry: envLifecycle() },
  store: {
    // SHA-256 is the checksum here; by default the SDK would add a CRC32.
    s3: new S3Client({
      ...SHORT,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    }),
    bucket: env('BUCKET'),
    bucketOwner: env('BUCKET_OWNER'),
    snapshotKeyArn: env('SNAPSHOT_KEY_ARN'),
    sleep: (milliseconds) => setTimeout(milliseconds),
  },
  kms: new KMSClient(SHORT),
  lambda: new LambdaClient(SHORT),
  sfn: new SFNClient(SHORT),
  scheduler: new SchedulerClient(SHORT),
  cloudTrail: new CloudTrailClient(SHORT),
  memory: emptyMemory(),
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
  wait: (milliseconds, signal) => setTimeout(milliseconds, undefined, { signal }),
};

/** Entry point of the audit function. */
export const handler = (event: unknown) => audit(deps, event);
