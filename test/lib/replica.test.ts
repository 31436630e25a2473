import { Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { type ClusterEntry, readClusters, readReplicas } from '../../lib/config';
import { ReplicaStack } from '../../lib/replica';
import {
  type CfnTemplate,
  exampleApp,
  exampleStack,
  exampleTemplate,
  resourcesOfType,
  theResource,
} from './example-stack';
import { deployed, keyPolicy, policiesOf, type Policy, roleArn, simulate } from './simulated-iam';

const SOURCE_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const TARGET_KEY = 'arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const SOURCE = { account: '111122223333', region: 'eu-central-1' } as const;
const WITH_REPLICA: Partial<ClusterEntry> = { ...SOURCE, replica: { bucketName: 'copies', keyArn: TARGET_KEY } };
const ROLE = 'arn:aws:iam::111122223333:role/etcd-backup-example-replication';

const template = exampleTemplate(WITH_REPLICA);

describe('without a replica', () => {
  const plain = exampleTemplate();

  test('there is no replication, no role for it and no alarm', () => {
    expect(theResource(plain, 'AWS::S3::Bucket').Properties).not.toHaveProperty('ReplicationConfiguration');
    expect(resourcesOfType(plain, 'AWS::CloudWatch::Alarm').filter(([id]) => id.includes('Replication'))).toEqual([]);
    expect(resourcesOfType(plain, 'AWS::IAM::Role').filter(([id]) => id.includes('Replication'))).toEqual([]);
  });
});

describe('the replication', () => {
  test('copies everything under the replica’s own key, and no delete marker', () => {
    expect(deployed(template, theResource(template, 'AWS::S3::Bucket').Properties['ReplicationConfiguration'])).toEqual(
      {
        Role: roleArn(template, 'ReplicationRole'),
        Rules: [
          {
            Id: 'replica',
            Priority: 1,
            Status: 'Enabled',
            Filter: { Prefix: '' },
            DeleteMarkerReplication: { Status: 'Disabled' },
            SourceSelectionCriteria: { SseKmsEncryptedObjects: { Status: 'Enabled' } },
            Destination: {
              Bucket: 'arn:aws:s3:::copies',
              Account: '444455556666',
              AccessControlTranslation: { Owner: 'Destination' },
              EncryptionConfiguration: { ReplicaKmsKeyID: TARGET_KEY },
              Metrics: { Status: 'Enabled' },
            },
          },
        ],
      },
    );
  });

  test('leaves the owner as it is within one account', () => {
    const [rule] = (
      theResource(exampleTemplate({ ...WITH_REPLICA, account: '444455556666' }), 'AWS::S3::Bucket').Properties[
        'ReplicationConfiguration'
      ] as { Rules: { Destination: object }[] }
    ).Rules;
    expect(rule?.Destination).not.toHaveProperty('AccessControlTranslation');
  });

  test('uses a role with the name that the other account lets in', () => {
    const [, role] = resourcesOfType(template, 'AWS::IAM::Role').find(([id]) => id.includes('ReplicationRole')) ?? [];
    expect(role?.Properties).toMatchObject({
      RoleName: 'etcd-backup-example-replication',
      AssumeRolePolicyDocument: {
        Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 's3.amazonaws.com' } }],
      },
    });
  });

  const BUCKET = 'arn:aws:s3:::bucket';

  function mayReplicate(action: string, resource: string, context: Record<string, string> = {}) {
    return simulate({
      principal: roleArn(template, 'ReplicationRole'),
      action,
      resource,
      context,
      identityPolicies: policiesOf(template, 'ReplicationRole'),
      ...(action.startsWith('kms:') ? { resourcePolicy: keyPolicy(template, 'SnapshotKey') } : {}),
    });
  }

  test.each([
    ['s3:GetReplicationConfiguration', BUCKET, {}],
    ['s3:ListBucket', BUCKET, {}],
    ['s3:GetObjectVersionForReplication', `${BUCKET}/snapshots/a`, {}],
    ['s3:GetObjectVersionAcl', `${BUCKET}/snapshots/a`, {}],
    ['s3:GetObjectVersionTagging', `${BUCKET}/snapshots/a`, {}],
    ['s3:GetObjectRetention', `${BUCKET}/snapshots/a`, {}],
    ['s3:GetObjectLegalHold', `${BUCKET}/snapshots/a`, {}],
    [
      'kms:Decrypt',
      SOURCE_KEY,
      {
        'kms:ViaService': 's3.eu-central-1.amazonaws.com',
        'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/snapshots/a`,
      },
    ],
  ])('may %s in the bucket', async (action, resource, context) => {
    await expect(mayReplicate(action, resource, context as Record<string, string>)).resolves.toBe('Allowed');
  });

  test('has exactly these actions', () => {
    const actions = policiesOf(template, 'ReplicationRole').flatMap(({ Statement }) =>
      Statement.flatMap(({ Action }) => Action),
    );
    expect(actions.sort()).toEqual([
      'kms:Decrypt',
      'kms:Encrypt',
      's3:GetObjectLegalHold',
      's3:GetObjectRetention',
      's3:GetObjectVersionAcl',
      's3:GetObjectVersionForReplication',
      's3:GetObjectVersionTagging',
      's3:GetReplicationConfiguration',
      's3:ListBucket',
      's3:ObjectOwnerOverrideToBucketOwner',
      's3:ReplicateObject',
      's3:ReplicateTags',
    ]);
  });

  test.each([
    ['decrypt without S3', 'kms:Decrypt', SOURCE_KEY, { 'kms:EncryptionContext:aws:s3:arn': `${BUCKET}/snapshots/a` }],
    [
      'encrypt with the key of the source',
      'kms:Encrypt',
      SOURCE_KEY,
      { 'kms:ViaService': 's3.eu-central-1.amazonaws.com' },
    ],
    ['read a snapshot as everybody does', 's3:GetObjectVersion', `${BUCKET}/snapshots/a`, {}],
    ['replicate back', 's3:ReplicateObject', `${BUCKET}/snapshots/a`, {}],
    ['replicate deletes', 's3:ReplicateDelete', 'arn:aws:s3:::copies/snapshots/a', {}],
    ['put', 's3:PutObject', 'arn:aws:s3:::copies/snapshots/a', {}],
  ])('may not %s', async (_what, action, resource, context) => {
    await expect(mayReplicate(action, resource, context as Record<string, string>)).resolves.not.toBe('Allowed');
  });

  test('rings when something failed, by the one metric that S3 publishes in this region, and by no other', () => {
    const alarms = resourcesOfType(template, 'AWS::CloudWatch::Alarm')
      .map(([, { Properties }]) => Properties)
      .filter(({ Namespace }) => Namespace === 'AWS/S3');
    expect(alarms).toEqual([
      expect.objectContaining({
        Namespace: 'AWS/S3',
        MetricName: 'OperationsFailedReplication',
        Statistic: 'Sum',
        Threshold: 1,
        EvaluationPeriods: 1,
        Period: 300,
        ComparisonOperator: 'GreaterThanOrEqualToThreshold',
        TreatMissingData: 'notBreaching',
        AlarmActions: [{ Ref: expect.stringMatching(/^NotifyTopic/) as string }],
        Dimensions: [
          { Name: 'DestinationBucket', Value: 'copies' },
          { Name: 'RuleId', Value: 'replica' },
          { Name: 'SourceBucket', Value: { Ref: 'Bucket' } },
        ],
        AlarmName: 'etcd-backup-example-replication-failed',
      }),
    ]);
  });
});

describe('the stack of a replica', () => {
  const app = exampleApp();
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  const clusters = readClusters([
    {
      ...SOURCE,
      name: 'example',
      controlPlaneTags: { a: 'b' },
      notify: 'nobody',
      keep: { dailyDays: 14 },
      tags: { team: 'platform' },
    },
  ]);
  const [replica] = readReplicas([{ name: 'example', account: '444455556666', region: 'eu-west-1' }], clusters);
  if (replica === undefined) {
    throw new Error('replicas: got none, expected the example');
  }
  const stack = new ReplicaStack(app, 'etcd-backup-example-replica', { replica });
  const artifact = app.synth().getStackByName(stack.stackName);
  const other = artifact.template as CfnTemplate;
  const [bucketId = '', bucket] = resourcesOfType(other, 'AWS::S3::Bucket')[0] ?? [];
  const OBJECT = `arn:aws:s3:::${bucketId.toLowerCase()}/snapshots/a`;
  const policy = deployed(other, theResource(other, 'AWS::S3::BucketPolicy').Properties['PolicyDocument']) as Policy;

  const EVERYTHING: Policy = {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }],
  };

  function withEveryRight(principal: string, action: string, context: Record<string, string> = {}) {
    return simulate({
      principal,
      action,
      resource: OBJECT,
      context,
      identityPolicies: [EVERYTHING],
      resourcePolicy: policy,
      resourceAccount: '444455556666',
    });
  }

  test('lies where the table says, and cannot be deleted by accident', () => {
    expect(artifact.environment).toMatchObject({ account: '444455556666', region: 'eu-west-1' });
    expect(artifact.terminationProtection).toBe(true);
  });

  test('has a bucket that is versioned, locked, and expires as the original does', () => {
    expect(bucket).toMatchObject({
      DeletionPolicy: 'Retain',
      Properties: {
        VersioningConfiguration: { Status: 'Enabled' },
        ObjectLockEnabled: true,
        ObjectLockConfiguration: { Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 2 } } },
        PublicAccessBlockConfiguration: { BlockPublicPolicy: true, RestrictPublicBuckets: true },
        Tags: [{ Key: 'team', Value: 'platform' }],
      },
    });
    expect(bucket?.Properties['LifecycleConfiguration']).toEqual(
      theResource(exampleTemplate({ keep: { dailyDays: 14 } }), 'AWS::S3::Bucket').Properties['LifecycleConfiguration'],
    );
    expect(theResource(other, 'AWS::S3::BucketPolicy')).toMatchObject({ DeletionPolicy: 'Retain' });
  });

  test.each(['s3:ReplicateObject', 's3:ReplicateTags', 's3:ObjectOwnerOverrideToBucketOwner'])(
    'lets the replication role of the cluster %s',
    async (action) => {
      await expect(withEveryRight(ROLE, action)).resolves.toBe('Allowed');
    },
  );

  test.each([
    ['a delete', ROLE, 's3:DeleteObject'],
    ['a delete of a version', 'arn:aws:iam::444455556666:root', 's3:DeleteObjectVersion'],
    ['a replicated delete', ROLE, 's3:ReplicateDelete'],
    ['a bypass', 'arn:aws:iam::444455556666:role/Administrator', 's3:BypassGovernanceRetention'],
    ['a put', 'arn:aws:iam::444455556666:role/Administrator', 's3:PutObject'],
    ['a tag', 'arn:aws:iam::444455556666:role/Administrator', 's3:PutObjectVersionTagging'],
    ['a lock', 'arn:aws:iam::444455556666:role/Administrator', 's3:PutObjectRetention'],
    ['a hold', 'arn:aws:iam::444455556666:role/Administrator', 's3:PutObjectLegalHold'],
    ['a replica of another role', 'arn:aws:iam::111122223333:role/Administrator', 's3:ReplicateObject'],
    ['tags of another role', 'arn:aws:iam::111122223333:role/Administrator', 's3:ReplicateTags'],
  ])('denies %s, whatever IAM allows', async (_what, principal, action) => {
    await expect(withEveryRight(principal, action)).resolves.toBe('ExplicitlyDenied');
  });

  test('lets nobody else of the other account in', async () => {
    await expect(withEveryRight('arn:aws:iam::111122223333:role/Administrator', 's3:GetObject')).resolves.not.toBe(
      'Allowed',
    );
  });

  test('has a key that the replication role may encrypt with, by S3, and nobody of its account decrypt with', () => {
    const { Statement } = deployed(other, theResource(other, 'AWS::KMS::Key').Properties['KeyPolicy']) as Policy;
    expect(Statement.map(({ Action, Principal, Condition }) => ({ Action, Principal, Condition }))).toEqual([
      { Action: 'kms:*', Principal: { AWS: 'arn:aws:iam::444455556666:root' } },
      {
        Action: 'kms:Encrypt',
        Principal: { AWS: 'arn:aws:iam::111122223333:root' },
        Condition: {
          ArnEquals: { 'aws:PrincipalArn': ROLE },
          StringEquals: { 'kms:ViaService': 's3.eu-west-1.amazonaws.com' },
        },
      },
    ]);
  });

  test('prints what the table of clusters needs', () => {
    expect(Object.keys(other.Outputs).sort()).toEqual(['ReplicaBucketName', 'ReplicaKeyArn']);
  });
});

test('a cluster with a replica passes every rule of AwsSolutions', () => {
  const app = exampleApp();
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  exampleStack(app, WITH_REPLICA);
  expect(() => app.synth()).not.toThrow();
});
