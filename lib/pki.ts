import { CfnOutput, Duration, Size, Stack } from 'aws-cdk-lib';
import { ManagedPolicy, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { ContextAttribute, ScheduleExpression, ScheduleTargetInput, type Schedule } from 'aws-cdk-lib/aws-scheduler';
import type { Queue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import { FunctionSchedule } from './function-schedule';
import { objectUrlPattern, OPTIONAL_HEADERS_PARAMETER } from './presigned';
import { BACKUP_ID_PARAMETER, grantRunDocuments } from './run-document';
import { ScriptDocument } from './script-document';
import { ServiceFunction } from './service-function';
import type { Store } from './store';
import { acknowledgeWildcard } from './wildcard';

// Off the full hour, at which backups hold the lock of a node.
const DAILY = ScheduleExpression.cron({ minute: '20', hour: '3' });

export interface PkiProps {
  readonly cluster: Cluster;
  /** With a key for bundles: the cluster has `pkiBundle`. */
  readonly store: Store;

  /**
   * Folder of the node scripts.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

/**
 * The function that has a node's PKI, manifests and configuration stored every day under a key of its own, and the one document that it may run.
 * Neither the function nor any other role of the stack can read a bundle: the managed policy `PkiReader` can, which nobody has until it is attached.
 */
export class Pki extends Construct {
  readonly document: ScriptDocument;
  readonly service: ServiceFunction;
  readonly schedule: Schedule;
  /** Receives every trigger that Scheduler could not hand over. */
  readonly deadLetters: Queue;
  /** May find, get and decrypt bundles, and no snapshot. */
  readonly reader: ManagedPolicy;

  constructor(scope: Construct, id: string, props: PkiProps) {
    super(scope, id);
    const { cluster, store } = props;
    const { pkiKey } = store;
    if (pkiKey === undefined) {
      throw new Error(`key for the PKI bundles of ${cluster.name}: got none, expected pkiBundle to be on`);
    }

    this.document = new ScriptDocument(this, 'Bundle', {
      ...(props.scriptDir === undefined ? {} : { scriptDir: props.scriptDir }),
      script: 'pki',
      description:
        'Announces the bundle of PKI, manifests and configuration of this control-plane node, or uploads what was announced',
      timeout: Duration.minutes(15),
      parameters: {
        BundleId: { ...BACKUP_ID_PARAMETER, description: 'Id of the bundle: the time of its trigger, UTC' },
        Sha256: {
          description: 'SHA-256 of the bundle as announced, in hex; empty to announce it',
          allowedPattern: '^([0-9a-f]{64})?$',
          maxChars: 64,
          default: '',
        },
        Url: {
          description: 'Presigned PUT, bound to length, checksum, key and metadata of the bundle; empty to announce it',
          allowedPattern: `^(${objectUrlPattern(this, store.bucket, 'pki')})?$`,
          maxChars: 8000,
          default: '',
        },
        Headers: {
          ...OPTIONAL_HEADERS_PARAMETER,
          description: 'Signed headers that the PUT must send: name: value, joined by |; empty to announce the bundle',
        },
      },
    });

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'pki',
      description: 'Has the PKI bundle of one control-plane node stored',
      timeout: Duration.minutes(15),
      memory: Size.mebibytes(512),
      environment: {
        CONTROL_PLANE_TAGS: JSON.stringify(cluster.controlPlaneTags),
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        PKI_KEY_ARN: pkiKey.keyArn,
        PKI_DOCUMENT: this.document.documentName,
        PKI_DOCUMENT_VERSION: this.document.documentVersion,
      },
    });
    const { role } = this.service;
    grantRunDocuments(role, cluster, [this.document]);
    store.grantPut(role, ['pki']);
    // To see that a bundle is there, and its metadata; without a right to decrypt that is all.
    store.grantHead(role, ['pki']);

    const schedule = new FunctionSchedule(this, 'Schedule', {
      description: `Bundles the PKI of ${cluster.name}`,
      expression: DAILY,
      target: this.service.function,
      input: ScheduleTargetInput.fromObject({
        // Equal for every delivery of one trigger, so it is the id of the bundle.
        scheduledTime: ContextAttribute.scheduledTime,
        scheduleArn: ContextAttribute.scheduleArn,
      }),
      // A bundle that is late is as good as one on time.
      maxEventAge: Duration.hours(6),
      retryAttempts: 10,
    });
    this.schedule = schedule.schedule;
    this.deadLetters = schedule.deadLetters;

    const bundles = store.bucket.arnForObjects('pki/*');
    this.reader = new ManagedPolicy(this, 'PkiReader', {
      description: `Reads the PKI bundles of ${cluster.name}: every private key of its control plane`,
      statements: [
        new PolicyStatement({ actions: ['s3:GetObject', 's3:GetObjectVersion'], resources: [bundles] }),
        new PolicyStatement({
          actions: ['s3:ListBucket', 's3:ListBucketVersions'],
          resources: [store.bucket.bucketArn],
          conditions: { StringLike: { 's3:prefix': 'pki/*' } },
        }),
        new PolicyStatement({
          actions: ['kms:Decrypt'],
          resources: [pkiKey.keyArn],
          conditions: { StringLike: { 'kms:EncryptionContext:aws:s3:arn': bundles } },
        }),
      ],
    });
    acknowledgeWildcard(this.reader, bundles, 'every bundle has its own key, so the policy is held to the prefix');
    new CfnOutput(this, 'PkiReaderArn', { value: this.reader.managedPolicyArn }).overrideLogicalId('PkiReaderArn');
    new CfnOutput(this, 'PkiFunctionName', { value: this.service.function.functionName }).overrideLogicalId(
      'PkiFunctionName',
    );
  }
}
