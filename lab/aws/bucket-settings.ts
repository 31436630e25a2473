import type { LifecycleRule, ObjectLockConfiguration, ObjectLockRetentionMode } from '@aws-sdk/client-s3';
import type { Properties } from './properties';
import type { BucketSettings } from './s3';

const lockConfiguration = (properties: Properties): ObjectLockConfiguration | undefined => {
  const enabled = properties.optionalBoolean('ObjectLockEnabled') ?? false;
  const configuration = properties.optionalObject('ObjectLockConfiguration');
  if (!enabled) {
    configuration?.done();
    return undefined;
  }
  configuration?.only('ObjectLockEnabled', 'Enabled');
  const rule = configuration?.optionalObject('Rule');
  const retention = rule?.object('DefaultRetention');
  const mode = retention?.text('Mode');
  const days = retention?.optionalNumber('Days');
  const years = retention?.optionalNumber('Years');
  for (const taken of [configuration, rule, retention]) taken?.done();
  return {
    ObjectLockEnabled: 'Enabled',
    ...(mode === undefined
      ? {}
      : {
          Rule: {
            DefaultRetention: {
              Mode: mode as ObjectLockRetentionMode,
              ...(days === undefined ? {} : { Days: days }),
              ...(years === undefined ? {} : { Years: years }),
            },
          },
        }),
  };
};

const keyArn = (properties: Properties): string | undefined => {
  const encryption = properties.optionalObject('BucketEncryption');
  if (encryption === undefined) return undefined;
  const rules = encryption.list('ServerSideEncryptionConfiguration');
  const [rule] = rules;
  if (rule === undefined || rules.length > 1)
    throw new Error(`BucketEncryption: got ${String(rules.length)} rules, expected one`);
  rule.only('BucketKeyEnabled', false);
  const byDefault = rule.object('ServerSideEncryptionByDefault');
  byDefault.only('SSEAlgorithm', 'aws:kms');
  const arn = byDefault.text('KMSMasterKeyID');
  for (const taken of [encryption, rule, byDefault]) taken.done();
  return arn;
};

const lifecycleRule = (rule: Properties, notApplied: string[]): LifecycleRule | undefined => {
  const id = rule.text('Id');
  const prefix = rule.optionalText('Prefix') ?? '';
  const tags = rule.list('TagFilters').map((tag) => {
    const found = { Key: tag.text('Key'), Value: tag.text('Value') };
    tag.done();
    return found;
  });
  const days = rule.optionalNumber('ExpirationInDays');
  const markers = rule.optionalBoolean('ExpiredObjectDeleteMarker');
  const noncurrent = rule.optionalObject('NoncurrentVersionExpiration');
  const noncurrentDays = noncurrent?.optionalNumber('NoncurrentDays');
  noncurrent?.done();
  const status = rule.text('Status');
  for (const name of ['Transitions', 'NoncurrentVersionTransitions'])
    if (rule.any(name) !== undefined)
      notApplied.push(`lifecycle rule ${id}: ${name} (MinIO has no storage classes of S3)`);
  if (rule.any('AbortIncompleteMultipartUpload') !== undefined)
    notApplied.push(`lifecycle rule ${id}: AbortIncompleteMultipartUpload (MinIO knows no such action)`);
  rule.done();
  if (days === undefined && markers === undefined && noncurrentDays === undefined) return undefined;
  return {
    ID: id,
    Status: status as 'Enabled' | 'Disabled',
    Filter: tags.length === 0 ? { Prefix: prefix } : { And: { Prefix: prefix, Tags: tags } },
    ...(days === undefined ? {} : { Expiration: { Days: days } }),
    ...(markers === undefined ? {} : { Expiration: { ExpiredObjectDeleteMarker: markers } }),
    ...(noncurrentDays === undefined ? {} : { NoncurrentVersionExpiration: { NoncurrentDays: noncurrentDays } }),
  };
};

/** What of an AWS::S3::Bucket the S3 server applies; the rest is added to `notApplied`. Throws for a property that the lab does not know. */
export const bucketSettings = (bucket: string, properties: Properties, notApplied: string[]): BucketSettings => {
  const versioning = properties.optionalObject('VersioningConfiguration');
  const versioned = versioning?.optionalText('Status') === 'Enabled';
  versioning?.done();
  const objectLock = lockConfiguration(properties);
  const kmsKeyArn = keyArn(properties);
  const notification = properties.optionalObject('NotificationConfiguration');
  const toEventBridge = notification?.optionalObject('EventBridgeConfiguration');
  const eventBridge = toEventBridge !== undefined && (toEventBridge.optionalBoolean('EventBridgeEnabled') ?? true);
  for (const taken of [toEventBridge, notification]) taken?.done();
  const lifecycle = properties.optionalObject('LifecycleConfiguration');
  const Rules = (lifecycle?.list('Rules') ?? [])
    .map((rule) => lifecycleRule(rule, notApplied))
    .filter((rule) => rule !== undefined);
  lifecycle?.done();
  for (const name of [
    'PublicAccessBlockConfiguration',
    'OwnershipControls',
    'ReplicationConfiguration',
    'LoggingConfiguration',
  ]) {
    if (properties.any(name) !== undefined) notApplied.push(`bucket ${bucket}: ${name} (MinIO knows no such setting)`);
  }
  properties.ignore('BucketName', 'Tags');
  properties.done();
  return {
    bucket,
    versioning: versioned,
    eventBridge,
    ...(objectLock === undefined ? {} : { objectLock }),
    ...(kmsKeyArn === undefined ? {} : { kmsKeyArn }),
    ...(Rules.length === 0 ? {} : { lifecycle: { Rules } }),
  };
};
