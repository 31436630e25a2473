import {
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketNotificationConfigurationCommand,
  GetBucketPolicyCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  GetPublicAccessBlockCommand,
  type ObjectLockConfiguration,
  type PublicAccessBlockConfiguration,
  type ServerSideEncryptionConfiguration,
} from '@aws-sdk/client-s3';
import { check } from '../shared/check';
import { describeError, StoreError } from '../shared/errors';
import type { Store } from '../shared/store';
import { policySchema } from './event';
import { type ExpectedLifecycle, lifecycleRisks } from './lifecycle';
import { type Policy, policyRisks } from './policy';
import { type Looked, lookAtEach } from './risks';

/** How the bucket has to be. */
export interface ExpectedBucket {
  /** Somebody else owns it: what the stack does not ask of it is not looked at. */
  readonly adopted: boolean;
  /** The least days of the default lock. */
  readonly lockDays: number;
  readonly expiry: ExpectedLifecycle;
  /** Undefined: it is not known, which is a problem. */
  readonly policy: Policy | undefined;
}

/** Looks at everything that protects what lies in the bucket. */
export function lookAtBucket(store: Store, expected: ExpectedBucket): Promise<Looked> {
  const { s3 } = store;
  const bucket = { Bucket: store.bucket, ExpectedBucketOwner: store.bucketOwner };
  const ask = <Answer>(operation: string, none: string | undefined, work: () => Promise<Answer>) =>
    askS3(store, operation, none, work);
  return lookAtEach(
    [
      async () => {
        const answer = await ask('GetObjectLockConfiguration', 'ObjectLockConfigurationNotFoundError', () =>
          s3.send(new GetObjectLockConfigurationCommand(bucket)),
        );
        return lockRisks(answer?.ObjectLockConfiguration, expected.lockDays);
      },
      async () => {
        const answer = await ask('GetBucketVersioning', undefined, () =>
          s3.send(new GetBucketVersioningCommand(bucket)),
        );
        return versioningRisks(answer?.Status);
      },
      async () => {
        const answer = await ask('GetPublicAccessBlock', 'NoSuchPublicAccessBlockConfiguration', () =>
          s3.send(new GetPublicAccessBlockCommand(bucket)),
        );
        return publicAccessRisks(answer?.PublicAccessBlockConfiguration);
      },
      async () => {
        const answer = await ask('GetBucketEncryption', 'ServerSideEncryptionConfigurationNotFoundError', () =>
          s3.send(new GetBucketEncryptionCommand(bucket)),
        );
        return encryptionRisks(answer?.ServerSideEncryptionConfiguration, store.snapshotKeyArn, expected.adopted);
      },
      async () => {
        const answer = await ask('GetBucketLifecycleConfiguration', 'NoSuchLifecycleConfiguration', () =>
          s3.send(new GetBucketLifecycleConfigurationCommand(bucket)),
        );
        return lifecycleRisks(answer?.Rules ?? [], expected.expiry);
      },
      async () => {
        const answer = await ask('GetBucketNotificationConfiguration', undefined, () =>
          s3.send(new GetBucketNotificationConfigurationCommand(bucket)),
        );
        return answer?.EventBridgeConfiguration === undefined
          ? [
              'events: the bucket sends none to EventBridge, so no snapshot is verified when it is stored; switch them on',
            ]
          : [];
      },
      async () => {
        const answer = await ask('GetBucketPolicy', 'NoSuchBucketPolicy', () =>
          s3.send(new GetBucketPolicyCommand(bucket)),
        );
        if (expected.policy === undefined) {
          throw new StoreError(
            'bucket policy: got none in the event, expected the one to compare with; send what the schedule of the function has as its input',
          );
        }
        return policyRisks(readPolicy(store, answer?.Policy), expected.policy, expected.adopted);
      },
    ],
    (look) => look(),
  );
}

/** What S3 answers; undefined when its error says that there is none. */
async function askS3<Answer>(
  store: Store,
  operation: string,
  none: string | undefined,
  work: () => Promise<Answer>,
): Promise<Answer | undefined> {
  try {
    return await work();
  } catch (error) {
    if (none !== undefined && error instanceof Error && error.name === none) {
      return undefined;
    }
    throw new StoreError(
      `${operation} of ${store.bucket}: got ${describeError(error)}, expected how it is set up; check the function's role and the bucket's policy`,
      error,
    );
  }
}

export function lockRisks(lock: ObjectLockConfiguration | undefined, days: number): string[] {
  const retention = lock?.Rule?.DefaultRetention;
  if (lock?.ObjectLockEnabled !== 'Enabled') {
    return ['object lock: the bucket has none, expected it to be on'];
  }
  const got = retention?.Days ?? (retention?.Years ?? 0) * 365;
  return retention?.Mode !== undefined && got >= days
    ? []
    : [
        `object lock: what is stored is locked for ${String(got)} days, expected at least ${String(days)}; deploy the stack again`,
      ];
}

export function versioningRisks(status: string | undefined): string[] {
  return status === 'Enabled' ? [] : [`versioning: got '${status ?? 'never switched on'}', expected 'Enabled'`];
}

export function publicAccessRisks(block: PublicAccessBlockConfiguration | undefined): string[] {
  const off = (['BlockPublicAcls', 'BlockPublicPolicy', 'IgnorePublicAcls', 'RestrictPublicBuckets'] as const).filter(
    (setting) => block?.[setting] !== true,
  );
  return off.length === 0 ? [] : [`public access: ${off.join(', ')} are off, expected all four to be on`];
}

/** An adopted bucket may encrypt others' objects as its owner likes: what is put here names its key. */
export function encryptionRisks(
  configuration: ServerSideEncryptionConfiguration | undefined,
  keyArn: string,
  adopted: boolean,
): string[] {
  const [rule] = configuration?.Rules ?? [];
  const { SSEAlgorithm, KMSMasterKeyID } = rule?.ApplyServerSideEncryptionByDefault ?? {};
  return [
    ...(rule?.BucketKeyEnabled === true
      ? ['encryption: the Bucket Key is on, expected it off: with it no role is held to a prefix any more']
      : []),
    ...(adopted || (SSEAlgorithm === 'aws:kms' && KMSMasterKeyID === keyArn)
      ? []
      : [
          `encryption: got ${SSEAlgorithm ?? 'none'} with ${KMSMasterKeyID?.slice(0, 200) ?? 'no key'}, expected aws:kms with ${keyArn}`,
        ]),
  ];
}

function readPolicy({ bucket }: Store, json: string | undefined): Policy | undefined {
  if (json === undefined) {
    return undefined;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    parsed = undefined;
  }
  const checked = check(policySchema, parsed);
  if (!checked.ok) {
    throw new StoreError(
      `GetBucketPolicy of ${bucket}: ${checked.problems.slice(0, 3).join('; ')}; find out what answers in place of S3`,
    );
  }
  return checked.value;
}
