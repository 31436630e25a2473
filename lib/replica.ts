import { CfnOutput, Duration, RemovalPolicy, Stack, Tags, Validations } from 'aws-cdk-lib';
import { AccountPrincipal, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { BlockPublicAccess, Bucket, BucketEncryption, ObjectLockRetention, ObjectOwnership } from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import type { Replica } from './config';
import { replicationRoleName } from './replication';
import { deny, lifecycleRules } from './store';

export interface ReplicaStackProps {
  readonly replica: Replica;
}

/**
 * The bucket and key that one cluster's backups are copied to. Nobody but S3, with the replication role of that cluster, writes here, and
 * nobody deletes. Deployed before `replica` is set in the table of clusters: what it prints goes there.
 */
export class ReplicaStack extends Stack {
  constructor(scope: Construct, id: string, { replica }: ReplicaStackProps) {
    const { cluster, source, account, region } = replica;
    super(scope, id, {
      description: `Replica of the backups of etcd of ${cluster.name}`,
      env: { account, region },
      terminationProtection: true,
    });
    for (const [tag, value] of Object.entries(cluster.tags)) {
      Tags.of(this).add(tag, value);
    }
    const roleArn = `arn:${this.partition}:iam::${source.account}:role/${replicationRoleName(cluster.name)}`;

    const key = new Key(this, 'ReplicaKey', {
      description: `Encrypts the replicas of the etcd backups of ${cluster.name}; without it no replica can be read`,
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'AllowReplication',
        // The account and a condition, because KMS refuses a role as principal that is not there yet.
        principals: [new AccountPrincipal(source.account)],
        actions: ['kms:Encrypt'],
        resources: ['*'],
        conditions: {
          ArnEquals: { 'aws:PrincipalArn': roleArn },
          StringEquals: { 'kms:ViaService': `s3.${region}.amazonaws.com` },
        },
      }),
    );

    const bucket = new Bucket(this, 'ReplicaBucket', {
      versioned: true,
      objectLockEnabled: true,
      objectLockDefaultRetention: ObjectLockRetention.governance(Duration.days(cluster.lockDays)),
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      encryption: BucketEncryption.KMS,
      encryptionKey: key,
      bucketKeyEnabled: false,
      // Tags are replicated, so what expires there expires here.
      lifecycleRules: lifecycleRules(cluster),
      removalPolicy: RemovalPolicy.RETAIN,
    });
    Validations.of(bucket).acknowledge({
      id: 'AwsSolutions-S1',
      reason:
        "access logs would need a second bucket that this one cannot lock; CloudTrail data events name the caller of every request and are the account's to switch on",
    });
    const objects = bucket.arnForObjects('*');
    const others = { ArnNotEquals: { 'aws:PrincipalArn': roleArn } };
    for (const statement of [
      new PolicyStatement({
        sid: 'AllowReplication',
        principals: [new AccountPrincipal(source.account)],
        actions: ['s3:ReplicateObject', 's3:ReplicateTags', 's3:ObjectOwnerOverrideToBucketOwner'],
        resources: [objects],
        conditions: { ArnEquals: { 'aws:PrincipalArn': roleArn } },
      }),
      deny('DenyWithoutTls', {
        actions: ['s3:*'],
        resources: [bucket.bucketArn, objects],
        conditions: { Bool: { 'aws:SecureTransport': 'false' } },
      }),
      deny('DenyDeleteAndBypass', {
        actions: ['s3:DeleteObject*', 's3:BypassGovernanceRetention', 's3:ReplicateDelete'],
        resources: [objects],
      }),
      // Not the replication role either: a replica is no put, and nothing here is written, tagged or locked otherwise.
      deny('DenyWrites', {
        actions: [
          's3:PutObject',
          's3:PutObjectTagging',
          's3:PutObjectVersionTagging',
          's3:PutObjectLegalHold',
          's3:UpdateObjectEncryption',
        ],
        resources: [objects],
      }),
      deny('DenyOtherReplicas', {
        actions: ['s3:ReplicateObject', 's3:ReplicateTags', 's3:PutObjectRetention'],
        resources: [objects],
        conditions: others,
      }),
    ]) {
      bucket.addToResourcePolicy(statement);
    }
    // A deleted stack must not leave the retained bucket without its policy.
    bucket.policy?.applyRemovalPolicy(RemovalPolicy.RETAIN);

    new CfnOutput(this, 'ReplicaBucketName', { value: bucket.bucketName });
    new CfnOutput(this, 'ReplicaKeyArn', { value: key.keyArn });
  }
}
