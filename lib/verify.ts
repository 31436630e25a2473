import { Duration, Size, Stack, Validations } from 'aws-cdk-lib';
import { Rule } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { RETENTIONS } from '../lambda/shared/retention';
import type { Cluster } from './config';
import { ServiceFunction } from './service-function';
import type { Store } from './store';

export interface VerifyProps {
  readonly cluster: Cluster;
  readonly store: Store;
}

/** The verify function, the rule that starts it for every stored snapshot, and its rights. */
export class Verify extends Construct {
  readonly service: ServiceFunction;
  /** Starts the function for each object under `snapshots/`. */
  readonly rule: Rule;
  /** Receives what EventBridge could not deliver to the function. */
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, props: VerifyProps) {
    super(scope, id);
    const { cluster, store } = props;

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'verify',
      description: 'Reads each stored etcd snapshot back and proves it',
      timeout: Duration.minutes(15),
      // One whole vCPU; the reader's memory does not grow with the snapshot.
      memory: Size.mebibytes(1769),
      // The most that Lambda has: the decompressed snapshot lies on this disk.
      disk: Size.mebibytes(10_240),
      environment: {
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        ANNOUNCEMENT_KEY_ARN: store.announcementKey.keyArn,
        RECEIPT_KEY_ARN: store.receiptKey.keyArn,
        KEEP: JSON.stringify(cluster.keep),
        ACKNOWLEDGED_TIMELINES: cluster.acknowledgedTimelines.join(' '),
        KEYS_LOST_PERCENT: String(cluster.keysLostPercent),
      },
    });

    const { role } = this.service;
    // When a restore was is in the name of its record; what is in that is for others.
    store.grantListVersions(role, ['snapshots', 'announcements', 'receipts', 'restores']);
    store.grantGetVersions(role, ['snapshots', 'announcements', 'receipts']);
    store.grantDecrypt(role, ['snapshots', 'announcements', 'receipts']);
    store.grantPut(role, ['receipts']);
    store.grantRetag(role, { prefix: 'snapshots', retentions: RETENTIONS.filter((tag) => tag !== 'pending') });
    store.grantLock(role, 'snapshots');
    store.announcementKey.grant(role, 'kms:Verify');
    store.receiptKey.grant(role, 'kms:Sign', 'kms:Verify');

    this.deadLetters = new Queue(this, 'DeadLetters', {
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
    });
    Validations.of(this.deadLetters).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason:
        'this queue is itself the dead-letter queue of the rule; what arrives is kept for 14 days for somebody to look at, and nothing consumes it',
    });
    this.rule = new Rule(this, 'ObjectCreated', {
      description: `Verifies each stored snapshot of ${cluster.name}`,
      eventPattern: {
        source: ['aws.s3'],
        detailType: ['Object Created'],
        detail: { bucket: { name: [store.bucket.bucketName] }, object: { key: [{ prefix: 'snapshots/' }] } },
      },
      targets: [
        new LambdaFunction(this.service.function, {
          deadLetterQueue: this.deadLetters,
          // A snapshot that waits is only pending, and is proven whenever the event comes: all that EventBridge gives.
          maxEventAge: Duration.hours(24),
          retryAttempts: 185,
        }),
      ],
    });
  }
}
