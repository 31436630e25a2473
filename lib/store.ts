import {
  type CfnElement,
  CfnOutput,
  Duration,
  type IResolvable,
  Lazy,
  RemovalPolicy,
  Stack,
  Validations,
} from 'aws-cdk-lib';
import type { Metric } from 'aws-cdk-lib/aws-cloudwatch';
import {
  AnyPrincipal,
  Effect,
  type IRole,
  PolicyDocument,
  PolicyStatement,
  type PolicyStatementProps,
} from 'aws-cdk-lib/aws-iam';
import { type IKey, Key, KeySpec, KeyUsage } from 'aws-cdk-lib/aws-kms';
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  type CfnBucket,
  CfnBucketPolicy,
  type IBucket,
  type LifecycleRule,
  ObjectLockRetention,
  ObjectOwnership,
  StorageClass,
} from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { keptDays, type Retention, type RetentionClass, RETENTIONS } from '../lambda/shared/retention';
import { type Cluster, longestDays, MONTHLY_TRANSITION_DAYS } from './config';
import { Replication } from './replication';
import { acknowledgeWildcard } from './wildcard';

/** What lies under one prefix of the bucket, each written by one role only; what another may put there as well has names of its own. */
export type Prefix = 'snapshots' | 'announcements' | 'receipts' | 'restores' | 'tools' | 'drills' | 'pki';

/** What the steps need to know of the bucket, created or adopted. */
export type StoreBucket = Pick<IBucket, 'arnForObjects' | 'bucketArn' | 'bucketName'>;

export interface StoreProps {
  readonly cluster: Cluster;
}

/** Expiry puts a delete marker first; this is how long the version under it can still be brought back. */
export const NONCURRENT = Duration.days(7);

// Verify itself may be broken for weeks before somebody repairs it.
const PENDING_DAYS = 35;
// For a look at what is wrong with it.
const FAILED_DAYS = 7;

// A snapshot of any age is restored with the encryption configuration and the CAs of its time, so no bundle goes before the snapshots beside it; and
// the function that makes them may be broken as long as verify.
const PKI_DAYS_MORE = PENDING_DAYS;

/**
 * What expires, by the tag `retention` that a snapshot carries. No rule that expires versions is without a tag under `snapshots/`, so
 * the newest verified backup (`latest`) outlives any outage, even when somebody puts a delete marker over it. Receipts and tools have no
 * rule: they are small, and a receipt is the record of what was proven.
 */
export function lifecycleRules(cluster: Cluster): LifecycleRule[] {
  return [
    ...RETENTIONS.filter((retention) => retention !== 'latest').map((retention) => expireSnapshots(retention, cluster)),
    {
      id: 'announcements',
      prefix: 'announcements/',
      // Read by verify at the latest while a snapshot is pending; what matters of it afterwards is in the receipt.
      expiration: Duration.days(PENDING_DAYS),
      noncurrentVersionExpiration: NONCURRENT,
    },
    {
      // Also where bundles are off: those of the time when they were on have to go.
      id: 'pki',
      prefix: 'pki/',
      expiration: Duration.days(longestDays(cluster) + PKI_DAYS_MORE),
      noncurrentVersionExpiration: NONCURRENT,
    },
    // Removes no version: only markers that hide nothing any more, and parts that no upload will use.
    { id: 'leftovers', expiredObjectDeleteMarker: true, abortIncompleteMultipartUploadAfter: Duration.days(1) },
  ];
}

function expireSnapshots(retention: Exclude<Retention, 'latest'>, cluster: Cluster): LifecycleRule {
  const storageClass = retention === 'monthly' ? cluster.monthlyStorageClass : undefined;
  return {
    id: `snapshots-${retention}`,
    prefix: 'snapshots/',
    tagFilters: { retention },
    // Also for a class that is off: objects of the time when it was on have to go, once their lock lets them.
    expiration: Duration.days(expiryDays(retention, cluster)),
    noncurrentVersionExpiration: NONCURRENT,
    ...(storageClass === undefined
      ? {}
      : {
          transitions: [
            {
              storageClass: new StorageClass(storageClass),
              transitionAfter: Duration.days(MONTHLY_TRANSITION_DAYS),
            },
          ],
        }),
  };
}

/** For how many days an object with this tag does not expire. */
export function expiryDays(retention: Exclude<Retention, 'latest'>, { keep }: Cluster): number {
  if (retention === 'pending') {
    return PENDING_DAYS;
  }
  return retention === 'failed' ? FAILED_DAYS : keptDays(retention satisfies RetentionClass, keep);
}

const TAG_ACTIONS = ['s3:PutObjectTagging', 's3:PutObjectVersionTagging'];

// Lifecycle reads tags, so who may change a tag may expire a snapshot: the first tag is written by the same role as the object.
const WRITE_ACTIONS = ['s3:PutObject', ...TAG_ACTIONS];

/**
 * The bucket, the key that encrypts what is in it, the keys that sign announcements and receipts, and who may write where.
 *
 * Each of the four can be adopted instead, for instance after the stack was deleted, which keeps them. The stack changes nothing on what
 * it adopts, so its owner sees to the following.
 *
 * - Bucket: versioning, Object Lock with a default retention of `lockDays` in governance mode, all public access blocked, Bucket Key off (a put would have
 *   the wrong encryption context and be denied), events to EventBridge (without them nothing is ever verified), the lifecycle rules of
 *   this file, one for each value of the tag `retention` but `latest`, and a bucket policy with the statements of the output
 *   `BucketPolicy`. Rules and policy follow `keep`: when that changes, they have to. Its replication is its owner's.
 * - Snapshot key: symmetric, with rotation; its policy leaves the decision to IAM (`kms:*` for the account's root, as in a new key)
 *   and names no service principal.
 * - Announcement key and receipt key: ECC_NIST_P256 for SIGN_VERIFY, with the same policy.
 *
 * Where the cluster keeps PKI bundles there is one more key, which is always the stack's own: it encrypts them and nothing else.
 */
export class Store extends Construct {
  readonly bucket: StoreBucket;
  readonly snapshotKey: IKey;
  readonly announcementKey: IKey;
  readonly receiptKey: IKey;
  /** Encrypts what is under `pki/` and nothing else; undefined where the cluster keeps no PKI bundles. */
  readonly pkiKey: Key | undefined;
  /** What S3 could not copy to the replica, by what it copies; empty where there is none. */
  readonly failedCopies: Readonly<Record<string, Metric>> = {};
  /** The one role that may write under each prefix, and those that may put some of it, by its names; a prefix in neither takes nothing from anybody. */
  private readonly writers = new Map<Prefix, IRole>();
  private readonly partialWriters = new Map<Prefix, Map<string, IRole>>();
  /** The one role that may replace a tag, and lock what it tags; without it nobody may. */
  private keeper: { readonly role: IRole; readonly prefix: Prefix } | undefined;
  /** The one other role that may lock. */
  private locker: IRole | undefined;
  private readonly cluster: Cluster;

  constructor(scope: Construct, id: string, props: StoreProps) {
    super(scope, id);

    const { cluster } = props;
    this.cluster = cluster;

    this.snapshotKey =
      cluster.existingSnapshotKeyArn === undefined
        ? this.createSnapshotKey(cluster)
        : Key.fromKeyArn(this, 'SnapshotKey', cluster.existingSnapshotKeyArn);
    this.announcementKey =
      cluster.existingAnnouncementKeyArn === undefined
        ? this.createAnnouncementKey(cluster)
        : Key.fromKeyArn(this, 'AnnouncementKey', cluster.existingAnnouncementKeyArn);
    this.receiptKey =
      cluster.existingReceiptKeyArn === undefined
        ? this.createReceiptKey(cluster)
        : Key.fromKeyArn(this, 'ReceiptKey', cluster.existingReceiptKeyArn);
    this.bucket =
      cluster.existingBucketName === undefined
        ? this.createBucket(cluster)
        : this.adoptBucket(cluster.existingBucketName);
    this.pkiKey = cluster.pkiBundle ? this.createPkiKey(cluster) : undefined;

    new CfnOutput(this, 'BucketName', { value: this.bucket.bucketName }).overrideLogicalId('BucketName');
    new CfnOutput(this, 'SnapshotKeyArn', { value: this.snapshotKey.keyArn }).overrideLogicalId('SnapshotKeyArn');
    new CfnOutput(this, 'AnnouncementKeyArn', { value: this.announcementKey.keyArn }).overrideLogicalId(
      'AnnouncementKeyArn',
    );
    new CfnOutput(this, 'ReceiptKeyArn', { value: this.receiptKey.keyArn }).overrideLogicalId('ReceiptKeyArn');
    if (this.pkiKey !== undefined) {
      new CfnOutput(this, 'PkiKeyArn', { value: this.pkiKey.keyArn }).overrideLogicalId('PkiKeyArn');
    }
  }

  /** Allows one role, and by the bucket policy no other principal, to put objects under these prefixes, encrypted with the key that is theirs. */
  grantPut(role: IRole, prefixes: readonly Prefix[]): void {
    for (const prefix of prefixes) {
      setOnce(this.writers, prefix, prefix, role);
    }
    this.allowPut(
      role,
      prefixes.map((prefix) => `${prefix}/*`),
    );
  }

  /** Like `grantPut`, beside the one role that may put everything there, for a role that may only put what `names` matches. */
  grantPutOnly(role: IRole, prefix: Prefix, names: string): void {
    const writers = this.partialWriters.get(prefix) ?? new Map<string, IRole>();
    setOnce(writers, prefix, names, role);
    this.partialWriters.set(prefix, writers);
    this.allowPut(role, [`${prefix}/${names}`]);
  }

  private allowPut(role: IRole, keys: readonly string[]): void {
    // Not the bucket's own grants: those add legal holds, retention and aborting of uploads.
    this.allow(role, keys, ['s3:PutObject']);
    // A single PUT needs a data key and no more; kms:Decrypt is only asked for by multipart uploads, which the bucket refuses.
    this.allowKey(role, keys, 'kms:GenerateDataKey');
  }

  /**
   * Allows a role to put this value of the tag `retention`, and no other, on objects under a prefix. By the bucket policy only as long
   * as they have none: a tag that is there is replaced by nobody.
   */
  grantTag(role: IRole, { prefix, retention }: { prefix: Prefix; retention: string }): void {
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['s3:PutObjectTagging'],
        resources: [this.bucket.arnForObjects(`${prefix}/*`)],
        conditions: { StringEquals: { 's3:RequestObjectTag/retention': retention } },
      }),
    );
  }

  /**
   * Allows a role to see that objects are there, and their metadata. Not their bodies: those also need `grantDecrypt`.
   * HeadObject does not, as long as it asks for no checksum.
   */
  grantHead(role: IRole, prefixes: readonly Prefix[]): void {
    this.allow(role, keysUnder(prefixes), ['s3:GetObject']);
    // IfExists: a GET or HEAD carries no prefix, and for a missing key S3 answers 403 instead of 404 to who may not list, which the
    // handlers would take for a lost right. The price: the role may list all keys, by leaving the prefix out.
    this.allowList(role, prefixes, 's3:ListBucket', 'StringLikeIfExists');
  }

  private keep(role: IRole, prefix: Prefix): void {
    if (this.keeper !== undefined && (this.keeper.role !== role || this.keeper.prefix !== prefix)) {
      throw new Error(
        `role that tags and locks: got a second one for ${prefix}/, expected only ${this.keeper.role.node.path} for ${this.keeper.prefix}/`,
      );
    }
    this.keeper = { role, prefix };
  }

  private allowList(
    role: IRole,
    prefixes: readonly Prefix[],
    action: 's3:ListBucket' | 's3:ListBucketVersions',
    operator: 'StringLike' | 'StringLikeIfExists',
  ): void {
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: [action],
        resources: [this.bucket.bucketArn],
        conditions: { [operator]: { 's3:prefix': prefixes.map((prefix) => `${prefix}/*`) } },
      }),
    );
  }

  /**
   * Allows one role, and by the bucket policy no other principal, to replace the tag `retention` of versions under a prefix by one of
   * these values.
   */
  grantRetag(role: IRole, { prefix, retentions }: { prefix: Prefix; retentions: readonly string[] }): void {
    this.keep(role, prefix);
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['s3:PutObjectVersionTagging'],
        resources: [this.bucket.arnForObjects(`${prefix}/*`)],
        conditions: { StringEquals: { 's3:RequestObjectTag/retention': retentions } },
      }),
    );
    this.allow(role, keysUnder([prefix]), ['s3:GetObjectVersionTagging']);
  }

  /**
   * Allows one role, and by the bucket policy no other principal, to lock versions under a prefix for longer: by the bucket policy for no
   * longer than the longest that the configuration keeps anything. Shorter would be a bypass, which nobody has.
   */
  grantLock(role: IRole, prefix: Prefix): void {
    this.keep(role, prefix);
    this.allow(role, keysUnder([prefix]), ['s3:GetObjectRetention', 's3:PutObjectRetention']);
  }

  /**
   * The same beside it for one more role, which replaces no tag: S3 offers no tag of the object to this right, so it is for everything under the
   * prefix.
   */
  grantExtendLock(role: IRole, prefix: Prefix): void {
    if (this.locker !== undefined && this.locker !== role) {
      throw new Error(`other role that locks: got a second one, expected only ${this.locker.node.path}`);
    }
    this.locker = role;
    this.allow(role, keysUnder([prefix]), ['s3:GetObjectRetention', 's3:PutObjectRetention']);
  }

  /** Allows a role to read the tags of versions under a prefix. */
  grantReadTags(role: IRole, prefix: Prefix): void {
    this.allow(role, keysUnder([prefix]), ['s3:GetObjectVersionTagging']);
  }

  /** Allows a role to see how the bucket is set up and the state of each key, and to change nothing of it. */
  grantInspect(role: IRole): void {
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: [
          's3:GetBucketNotification',
          's3:GetBucketObjectLockConfiguration',
          's3:GetBucketPolicy',
          's3:GetBucketPublicAccessBlock',
          's3:GetBucketVersioning',
          's3:GetEncryptionConfiguration',
          's3:GetLifecycleConfiguration',
        ],
        resources: [this.bucket.bucketArn],
      }),
    );
    for (const key of [
      this.snapshotKey,
      this.announcementKey,
      this.receiptKey,
      ...(this.pkiKey === undefined ? [] : [this.pkiKey]),
    ]) {
      key.grant(role, 'kms:DescribeKey');
    }
  }

  /** The bucket policy as it has to be, also of an adopted bucket: known only when every step of the flow is in place. */
  get expectedPolicy(): IResolvable {
    return Lazy.any({ produce: () => this.bucketPolicy(this.bucket).toJSON() as unknown });
  }

  /** Allows a role to see what keys there are under these prefixes, and no more. */
  grantList(role: IRole, prefixes: readonly Prefix[]): void {
    this.allowList(role, prefixes, 's3:ListBucket', 'StringLike');
  }

  /** Allows a role to see all versions and delete markers under these prefixes. */
  grantListVersions(role: IRole, prefixes: readonly Prefix[]): void {
    this.allowList(role, prefixes, 's3:ListBucketVersions', 'StringLike');
  }

  /** Allows a role to get and head objects under these prefixes by version, and by that only; to read them it also needs `grantDecrypt`. */
  grantGetVersions(role: IRole, prefixes: readonly Prefix[]): void {
    this.allow(role, keysUnder(prefixes), ['s3:GetObjectVersion']);
  }

  /** Allows a role to have S3 decrypt objects under these prefixes. */
  grantDecrypt(role: IRole, prefixes: readonly Prefix[]): void {
    this.allowKey(role, keysUnder(prefixes), 'kms:Decrypt');
  }

  private allow(role: IRole, keys: readonly string[], actions: string[]): void {
    const resources = keys.map((key) => this.bucket.arnForObjects(key));
    role.addToPrincipalPolicy(new PolicyStatement({ actions, resources }));
    for (const resource of resources) {
      acknowledgeWildcard(role, resource, 'every backup has its own key, so a role is held to a prefix');
    }
  }

  private allowKey(role: IRole, keys: readonly string[], action: string): void {
    const bundles = keys.filter(isBundle);
    for (const [encryptionKey, under] of [
      [this.snapshotKey, keys.filter((key) => !isBundle(key))],
      [this.pkiKey, bundles],
    ] as const) {
      if (under.length === 0) {
        continue;
      }
      if (encryptionKey === undefined) {
        throw new Error(`key for ${under.join(', ')}: got none, expected pkiBundle to be on for this cluster`);
      }
      role.addToPrincipalPolicy(
        new PolicyStatement({
          actions: [action],
          resources: [encryptionKey.keyArn],
          conditions: {
            // Without a Bucket Key, S3 uses the ARN of the object as encryption context.
            StringLike: {
              'kms:EncryptionContext:aws:s3:arn': under.map((key) => this.bucket.arnForObjects(key)),
            },
          },
        }),
      );
    }
  }

  private createSnapshotKey({ name }: Cluster): Key {
    const key = new Key(this, 'SnapshotKey', {
      description: `Encrypts the etcd backups of ${name}; without it no backup can be read`,
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    pinLogicalId(key, 'SnapshotKey');
    return key;
  }

  /**
   * Beside what IAM decides, as for the other keys: it opens and closes objects under `pki/` of this bucket, through S3, and nothing else. So it
   * cannot become the key of a snapshot, and a bundle that was copied elsewhere under it stays closed.
   */
  private createPkiKey({ name }: Cluster): Key {
    const key = new Key(this, 'PkiKey', {
      description: `Encrypts the PKI bundles of ${name}, and no backup; without it none of them can be read`,
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    pinLogicalId(key, 'PkiKey');
    const actions = ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'];
    key.addToResourcePolicy(
      deny('DenyUseWithoutS3', {
        actions,
        resources: ['*'],
        // In China the name goes on with .cn.
        conditions: { StringNotLike: { 'kms:ViaService': `s3.${Stack.of(this).region}.amazonaws.com*` } },
      }),
    );
    key.addToResourcePolicy(
      deny('DenyUseElsewhere', {
        actions,
        resources: ['*'],
        conditions: { StringNotLike: { 'kms:EncryptionContext:aws:s3:arn': this.bucket.arnForObjects('pki/*') } },
      }),
    );
    return key;
  }

  private createAnnouncementKey({ name }: Cluster): Key {
    const key = new Key(this, 'AnnouncementKey', {
      description: `Signs what nodes of ${name} announce before an upload`,
      keySpec: KeySpec.ECC_NIST_P256,
      keyUsage: KeyUsage.SIGN_VERIFY,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    pinLogicalId(key, 'AnnouncementKey');
    return key;
  }

  private createReceiptKey({ name }: Cluster): Key {
    const key = new Key(this, 'ReceiptKey', {
      description: `Signs what was proven of the backups of ${name}; without it no receipt can be checked in AWS`,
      keySpec: KeySpec.ECC_NIST_P256,
      keyUsage: KeyUsage.SIGN_VERIFY,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    pinLogicalId(key, 'ReceiptKey');
    return key;
  }

  private createBucket(cluster: Cluster): Bucket {
    const bucket = new Bucket(this, 'Bucket', {
      versioned: true,
      objectLockEnabled: true,
      objectLockDefaultRetention: ObjectLockRetention.governance(Duration.days(cluster.lockDays)),
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      encryption: BucketEncryption.KMS,
      encryptionKey: this.snapshotKey,
      // With a Bucket Key the encryption context is the bucket, and no role could be held to objects under one prefix.
      bucketKeyEnabled: false,
      lifecycleRules: lifecycleRules(cluster),
      removalPolicy: RemovalPolicy.RETAIN,
    });
    pinLogicalId(bucket, 'Bucket');
    // The L2 property for this deploys a custom resource with a function and a managed policy of its own.
    (bucket.node.defaultChild as CfnBucket).notificationConfiguration = {
      eventBridgeConfiguration: { eventBridgeEnabled: true },
    };
    Validations.of(bucket).acknowledge({
      id: 'AwsSolutions-S1',
      reason:
        "access logs would need a second bucket that this one cannot lock; CloudTrail data events name the caller of every request and are the account's to switch on",
    });

    if (cluster.replica !== undefined) {
      const replication = new Replication(this, 'Replication', {
        cluster,
        replica: cluster.replica,
        bucket,
        key: this.snapshotKey,
      });
      Object.assign(this.failedCopies, replication.failed);
    }

    const policy = new CfnBucketPolicy(this, 'BucketPolicy', {
      bucket: bucket.bucketName,
      // Lazy: the writers are known only when every step of the flow is in place.
      policyDocument: Lazy.any({ produce: () => this.bucketPolicy(bucket).toJSON() as unknown }),
    });
    // A deleted stack must not leave the retained bucket without its policy.
    policy.applyRemovalPolicy(RemovalPolicy.RETAIN);
    return bucket;
  }

  private adoptBucket(name: string): StoreBucket {
    const bucket = Bucket.fromBucketName(this, 'Bucket', name);
    new CfnOutput(this, 'BucketPolicy', {
      description: 'Statements that the policy of the adopted bucket must have',
      value: Stack.of(this).toJsonString(Lazy.any({ produce: () => this.bucketPolicy(bucket).toJSON() as unknown })),
    }).overrideLogicalId('BucketPolicy');
    return bucket;
  }

  /** Denials only: rights come from roles. S3 Lifecycle is no caller, so it still deletes. */
  private bucketPolicy(bucket: StoreBucket): PolicyDocument {
    const { cluster } = this;
    const objects = bucket.arnForObjects('*');
    const written = [...this.writers.keys()].map((prefix) => bucket.arnForObjects(`${prefix}/*`));
    return new PolicyDocument({
      statements: [
        deny('DenyWithoutTls', {
          actions: ['s3:*'],
          resources: [bucket.bucketArn, objects],
          conditions: { Bool: { 'aws:SecureTransport': 'false' } },
        }),
        deny('DenyDeleteAndBypass', {
          actions: ['s3:DeleteObject*', 's3:BypassGovernanceRetention'],
          resources: [objects],
        }),
        // A replica from elsewhere is a put, a delete or a tag that no statement on those sees. Another key on what is stored makes it
        // unreadable as soon as that key is gone. Replication out of this bucket needs none of these.
        deny('DenyReplicasAndReencryption', {
          actions: ['s3:ReplicateObject', 's3:ReplicateDelete', 's3:ReplicateTags', 's3:UpdateObjectEncryption'],
          resources: [objects],
        }),
        // Calling a verified snapshot pending would expire it. A PUT that brings its tag along still passes: S3 does not offer the tags
        // of an existing object to it, and If-None-Match keeps it from one.
        deny('DenyRetag', {
          actions: TAG_ACTIONS,
          resources: [objects],
          conditions: { Null: { 's3:ExistingObjectTag/retention': 'false' }, ...butBy(this.keeper?.role) },
        }),
        // Whatever goes wrong with the one role that tags: what carries anything else is proven, and does not expire as failed. Null,
        // because an operator with Not also holds for a tag that is not there.
        deny('DenyFailedOfProven', {
          actions: TAG_ACTIONS,
          resources: [objects],
          conditions: {
            StringEquals: { 's3:RequestObjectTag/retention': 'failed' },
            StringNotEquals: { 's3:ExistingObjectTag/retention': ['pending', 'failed'] },
            Null: { 's3:ExistingObjectTag/retention': 'false' },
          },
        }),
        // Who locks what is about to expire has it paid for; a default lock needs no right. A PUT with a lock of its own needs this too.
        deny('DenyOtherLocks', {
          actions: ['s3:PutObjectRetention'],
          resources: [objects],
          conditions: butBy(this.keeper?.role, this.locker),
        }),
        // Whatever goes wrong with a role that locks: nothing is kept longer than the configuration keeps anything.
        deny('DenyLongLocks', {
          actions: ['s3:PutObject', 's3:PutObjectRetention'],
          resources: [objects],
          conditions: {
            NumericGreaterThan: { 's3:object-lock-remaining-retention-days': String(longestDays(cluster)) },
          },
        }),
        // Nobody could end it, whatever its date.
        deny('DenyComplianceLocks', {
          actions: ['s3:PutObject', 's3:PutObjectRetention'],
          resources: [objects],
          conditions: { StringEquals: { 's3:object-lock-mode': 'COMPLIANCE' } },
        }),
        // Two locks that have no end: S3 moves the date of an event hold on for as long as it lasts.
        deny('DenyEventHolds', {
          actions: ['s3:PutObject', 's3:PutObjectRetention'],
          resources: [objects],
          conditions: { StringEquals: { 's3:object-lock-event-hold': 'ON' } },
        }),
        deny('DenyLegalHolds', { actions: ['s3:PutObjectLegalHold'], resources: [objects] }),
        deny('DenyPutWithoutKey', {
          actions: ['s3:PutObject'],
          resources: [objects],
          conditions: { Null: { 's3:x-amz-server-side-encryption-aws-kms-key-id': 'true' } },
        }),
        ...this.denyOtherKeys(bucket),
        // Parts of a multipart upload carry no If-None-Match, so they are refused too: nothing here uploads in parts.
        deny('DenyPutWithoutIfNoneMatch', {
          actions: ['s3:PutObject'],
          resources: [objects],
          conditions: { Null: { 's3:if-none-match': 'true' } },
        }),
        ...[...this.writers].flatMap(([prefix, role]) => this.denyOthers(bucket, prefix, role)),
        deny('DenyWriteElsewhere', {
          actions: WRITE_ACTIONS,
          notResources: written.length > 0 ? written : [bucket.bucketArn],
        }),
      ],
    });
  }

  /** What is under `pki/` has its own key, and only that. */
  private denyOtherKeys(bucket: StoreBucket): PolicyStatement[] {
    const objects = [bucket.arnForObjects('*')];
    const bundles = [bucket.arnForObjects('pki/*')];
    const otherThan = ({ keyArn }: IKey) => ({
      actions: ['s3:PutObject'],
      conditions: { ArnNotEqualsIfExists: { 's3:x-amz-server-side-encryption-aws-kms-key-id': keyArn } },
    });
    return this.pkiKey === undefined
      ? [deny('DenyPutWithOtherKey', { ...otherThan(this.snapshotKey), resources: objects })]
      : [
          deny('DenyPutWithOtherKey', { ...otherThan(this.snapshotKey), notResources: bundles }),
          deny('DenyPkiPutWithOtherKey', { ...otherThan(this.pkiKey), resources: bundles }),
        ];
  }

  /** Puts and tags under a prefix are denied to all but its writer; where another role keeps the tags, those are open to both. */
  private denyOthers(bucket: StoreBucket, prefix: Prefix, writer: IRole): PolicyStatement[] {
    const resources = [bucket.arnForObjects(`${prefix}/*`)];
    const name = `${prefix.charAt(0).toUpperCase()}${prefix.slice(1)}`;
    if (this.keeper?.prefix !== prefix) {
      // Which of it the others may put, their own roles say.
      const conditions = butBy(writer, ...(this.partialWriters.get(prefix)?.values() ?? []));
      return [deny(`DenyOtherWritersOf${name}`, { actions: WRITE_ACTIONS, resources, conditions })];
    }
    return [
      deny(`DenyOtherWritersOf${name}`, { actions: ['s3:PutObject'], resources, conditions: butBy(writer) }),
      deny(`DenyOtherTagsOf${name}`, { actions: TAG_ACTIONS, resources, conditions: butBy(writer, this.keeper.role) }),
    ];
  }
}

function setOnce<Key extends string>(writers: Map<Key, IRole>, prefix: Prefix, key: Key, role: IRole): void {
  if (writers.has(key)) {
    throw new Error(
      `role that writes ${prefix}/: got a second one, expected only ${String(writers.get(key)?.node.path)}`,
    );
  }
  writers.set(key, role);
}

function isBundle(key: string): boolean {
  return key.startsWith('pki/');
}

function keysUnder(prefixes: readonly Prefix[]): string[] {
  return prefixes.map((prefix) => `${prefix}/*`);
}

/** A condition that holds for everybody but this role; without a role for everybody. */
function butBy(...roles: readonly (IRole | undefined)[]): Record<string, unknown> {
  const arns = roles.flatMap((role) => role?.roleArn ?? []);
  return arns.length === 0 ? {} : { ArnNotEquals: { 'aws:PrincipalArn': arns } };
}

/** A denial for everybody, whatever IAM allows. */
export function deny(sid: string, statement: PolicyStatementProps): PolicyStatement {
  return new PolicyStatement({ ...statement, sid, effect: Effect.DENY, principals: [new AnyPrincipal()] });
}

function pinLogicalId(construct: Construct, logicalId: string): void {
  (construct.node.defaultChild as CfnElement).overrideLogicalId(logicalId);
}
