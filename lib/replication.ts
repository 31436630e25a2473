import { Duration, Stack } from 'aws-cdk-lib';
import { Metric, Stats } from 'aws-cdk-lib/aws-cloudwatch';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { Bucket, CfnBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { type Cluster, placeOf, type ReplicaTarget } from './config';
import type { Prefix } from './store';
import { acknowledgeWildcard } from './wildcard';

const RULE_ID = 'replica';

// Beside the snapshots, under the one key that the replica has, private keys would be where they must not be.
const WITHOUT_BUNDLES: Readonly<Record<Exclude<Prefix, 'pki'>, true>> = {
  snapshots: true,
  announcements: true,
  receipts: true,
  restores: true,
  tools: true,
  drills: true,
};

/** What is copied: everything by one rule or, as S3 knows no exceptions, everything but PKI bundles by one rule for each other prefix. */
function replicated({ pkiBundle }: Cluster): { readonly ruleId: string; readonly prefix: string }[] {
  return pkiBundle
    ? Object.keys(WITHOUT_BUNDLES).map((prefix) => ({ ruleId: `${RULE_ID}-${prefix}`, prefix: `${prefix}/` }))
    : [{ ruleId: RULE_ID, prefix: '' }];
}

/** Name of the role that S3 replicates with: fixed, so that the other account can name it before it is there. */
export function replicationRoleName(clusterName: string): string {
  return `etcd-backup-${clusterName}-replication`;
}

export interface ReplicationProps {
  readonly cluster: Cluster;
  readonly replica: ReplicaTarget;
  readonly bucket: Bucket;
  /** Encrypts what is in the bucket. */
  readonly key: IKey;
}

/**
 * Has S3 copy everything in the bucket to the replica: objects, their tags and their locks. Not delete markers, and not what was there
 * before. What of it fails is an alarm: S3 tries it no more, and expires neither that version nor anything else of a pending one.
 *
 * That is the one replication metric that S3 publishes in the region of the source; latency and what is pending it publishes in that of
 * the replica (https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html), where no alarm of this stack can be.
 */
export class Replication extends Construct {
  /** What S3 could not copy in five minutes, for each rule by what it copies. */
  readonly failed: Readonly<Record<string, Metric>>;

  constructor(scope: Construct, id: string, props: ReplicationProps) {
    super(scope, id);
    const { cluster, replica, bucket, key } = props;
    const { region, partition } = Stack.of(this);
    const target = placeOf(replica.keyArn);
    if (target === undefined) {
      throw new Error(`replica of ${cluster.name}: got key '${replica.keyArn}', expected the ARN of a KMS key`);
    }
    const targetBucketArn = `arn:${partition}:s3:::${replica.bucketName}`;

    const role = new Role(this, 'Role', {
      roleName: replicationRoleName(cluster.name),
      description: `Lets S3 copy the backups of ${cluster.name} to its replica`,
      assumedBy: new ServicePrincipal('s3.amazonaws.com'),
    });
    const reason = 'every backup has its own key, and all of them are replicated';
    const allow = (actions: string[], resource: string, conditions: Record<string, Record<string, string>> = {}) => {
      role.addToPrincipalPolicy(new PolicyStatement({ actions, resources: [resource], conditions }));
      if (resource.endsWith('*')) {
        acknowledgeWildcard(role, resource, reason);
      }
    };
    allow(['s3:GetReplicationConfiguration', 's3:ListBucket'], bucket.bucketArn);
    allow(
      [
        's3:GetObjectVersionForReplication',
        's3:GetObjectVersionAcl',
        's3:GetObjectVersionTagging',
        // A bucket with Object Lock is replicated with its locks only.
        's3:GetObjectRetention',
        's3:GetObjectLegalHold',
      ],
      bucket.arnForObjects('*'),
    );
    allow(['s3:ReplicateObject', 's3:ReplicateTags', 's3:ObjectOwnerOverrideToBucketOwner'], `${targetBucketArn}/*`);
    allow(['kms:Decrypt'], key.keyArn, {
      StringEquals: { 'kms:ViaService': `s3.${region}.amazonaws.com` },
      StringLike: { 'kms:EncryptionContext:aws:s3:arn': bucket.arnForObjects('*') },
    });
    allow(['kms:Encrypt'], replica.keyArn, {
      StringEquals: { 'kms:ViaService': `s3.${target.region}.amazonaws.com` },
      StringLike: { 'kms:EncryptionContext:aws:s3:arn': `${targetBucketArn}/*` },
    });

    const rules = replicated(cluster);
    const configuration: CfnBucket.ReplicationConfigurationProperty = {
      role: role.roleArn,
      rules: rules.map(({ ruleId, prefix }, position) => ({
        id: ruleId,
        priority: position + 1,
        status: 'Enabled',
        filter: { prefix },
        // Who marks everything here as deleted does not do so there.
        deleteMarkerReplication: { status: 'Disabled' },
        // Without it S3 leaves out what is encrypted with KMS, which is everything.
        sourceSelectionCriteria: { sseKmsEncryptedObjects: { status: 'Enabled' } },
        destination: {
          bucket: targetBucketArn,
          account: target.account,
          encryptionConfiguration: { replicaKmsKeyId: replica.keyArn },
          metrics: { status: 'Enabled' },
          ...(target.account === cluster.account ? {} : { accessControlTranslation: { owner: 'Destination' } }),
        },
      })),
    };
    (bucket.node.defaultChild as CfnBucket).replicationConfiguration = configuration;

    this.failed = Object.fromEntries(
      rules.map(({ ruleId, prefix }) => [
        prefix === '' ? 'all' : prefix.slice(0, -1),
        new Metric({
          namespace: 'AWS/S3',
          metricName: 'OperationsFailedReplication',
          statistic: Stats.SUM,
          period: Duration.minutes(5),
          dimensionsMap: { SourceBucket: bucket.bucketName, DestinationBucket: replica.bucketName, RuleId: ruleId },
        }),
      ]),
    );
  }
}
