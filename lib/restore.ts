import { Duration, Size, Stack, Validations } from 'aws-cdk-lib';
import { Rule } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { IStateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import type { Backup } from './backup';
import type { Cluster } from './config';
import { objectUrlPattern } from './presigned';
import { BACKUP_ID_PARAMETER, grantRunDocuments, toolParameters } from './run-document';
import { ScriptDocument, type ScriptParameter } from './script-document';
import { ServiceFunction } from './service-function';
import type { Store } from './store';

export interface RestoreProps {
  readonly cluster: Cluster;
  readonly store: Store;
  readonly backup: Backup;

  /**
   * Folder of the node scripts.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

const RESTORE_ID: ScriptParameter = {
  ...BACKUP_ID_PARAMETER,
  description: 'Id of the restore: the time of its start, UTC',
};

/** A parameter that the first step of a document leaves empty. */
function optional(description: string, characters: string, maxChars: number): ScriptParameter {
  return { description, allowedPattern: `^[${characters}]*$`, maxChars };
}

function oneOf(description: string, values: readonly string[]): ScriptParameter {
  return {
    description,
    allowedPattern: `^(${values.join('|')})$`,
    maxChars: Math.max(...values.map((value) => value.length)),
  };
}

/** The restore function, the documents that it may run on this cluster's control-plane nodes, and its rights. */
export class Restore extends Construct {
  readonly preflightDocument: ScriptDocument;
  readonly stopDocument: ScriptDocument;
  readonly swapDocument: ScriptDocument;
  readonly startDocument: ScriptDocument;
  readonly checkDocument: ScriptDocument;
  readonly rollbackDocument: ScriptDocument;
  readonly cleanupDocument: ScriptDocument;
  readonly diagnoseDocument: ScriptDocument;
  readonly service: ServiceFunction;

  constructor(scope: Construct, id: string, props: RestoreProps) {
    super(scope, id);
    const { cluster, store, backup } = props;
    const document = (
      name: string,
      description: string,
      timeout: Duration,
      parameters: Record<string, ScriptParameter> = {},
    ): ScriptDocument =>
      new ScriptDocument(this, name, {
        ...(props.scriptDir === undefined ? {} : { scriptDir: props.scriptDir }),
        script: name.toLowerCase(),
        description,
        timeout,
        parameters: { RestoreId: RESTORE_ID, ...parameters },
      });

    const tools = toolParameters(this, store.bucket);
    this.preflightDocument = document(
      'Preflight',
      'Makes a key for this restore, then downloads the snapshot and restores it beside the data, while all runs',
      // For 8 GB on a slow disk, downloaded, written twice and hashed.
      Duration.minutes(60),
      {
        Step: oneOf('key: make it; stage: all else. With key every other parameter is empty', ['key', 'stage']),
        SnapshotUrl: {
          description: 'Presigned GET of one version of the snapshot, but for its signature, which is its last part',
          allowedPattern: `^(${objectUrlPattern(this, store.bucket, 'snapshots')})?$`,
          // With the token of a role's session about half of that. This script is the longest, so its parameters have less room than others.
          maxChars: 3000,
        },
        SealedSignature: optional(
          'The signature, sealed to the key of this node for this restore, base64',
          'A-Za-z0-9+/=',
          512,
        ),
        Compression: { ...oneOf('How the object is compressed', ['zstd', 'gzip']), allowedPattern: '^(zstd|gzip)?$' },
        CompressedBytes: optional('Length of the object', '0-9', 13),
        CompressedSha256: optional('SHA-256 of the object, hex', '0-9a-f', 64),
        SizeBytes: optional('Length of the snapshot', '0-9', 13),
        Sha256: optional('SHA-256 of the snapshot, hex', '0-9a-f', 64),
        Revision: optional('Revision of the snapshot', '0-9', 16),
        Bump: optional('What is added to it, so that no revision is seen twice', '0-9', 16),
        InitialCluster: optional('name=peerUrl of all members, joined by ,', 'A-Za-z0-9.:/=,_%\\[\\]-', 1500),
        Token: optional('--initial-cluster-token', 'A-Za-z0-9._-', 128),
        // Both as lambda/restore/preflight.ts has them.
        ToolPins: { ...tools.ToolPins, maxChars: 1500 },
        ToolUrls: { ...tools.ToolUrls, maxChars: 4600 },
        EtcdVersion: optional('Version of the tools when etcd is dead', 'A-Za-z0-9.+_-', 64),
        DiskLimitPercent: optional('Refuse when the disk would be filled beyond this percentage', '0-9', 2),
        AllowQuota: {
          ...oneOf('Whether a database over quota may be restored', ['yes', 'no']),
          allowedPattern: '^(yes|no)?$',
        },
      },
    );
    this.stopDocument = document(
      'Stop',
      'Takes the manifests away and stops kubelet, API server, controllers and etcd of this node',
      Duration.minutes(10),
      { Hold: oneOf('What is to stay out after the restore, for an undo to know', ['none', 'controllers']) },
    );
    this.swapDocument = document(
      'Swap',
      'Renames the data of etcd, and the restored data into its place',
      Duration.minutes(5),
    );
    this.startDocument = document(
      'Start',
      'Puts the manifests of a component back and starts the kubelet',
      Duration.minutes(10),
      {
        Component: oneOf('What to start', ['etcd', 'api-server', 'controllers']),
      },
    );
    this.checkDocument = document(
      'Check',
      'Waits until a component is well, and says what it finds',
      Duration.minutes(15),
      {
        Component: oneOf('What to check; before: what was healthy before the restore', ['etcd', 'cluster', 'before']),
        WaitSeconds: {
          description: 'How long to wait for it, at most 600',
          allowedPattern: '^(600|[1-5]?[0-9]?[0-9])$',
          maxChars: 3,
        },
        Revision: optional('Revision that etcd must have', '0-9', 16),
      },
    );
    this.rollbackDocument = document(
      'Rollback',
      'Puts back what was there before the restore, or, once it was served, starts everything on the restored data',
      Duration.minutes(20),
      {
        Served: oneOf(
          'Whether an API server may have served the restored data; held: yes, and the controllers stay out',
          ['yes', 'no', 'held'],
        ),
      },
    );
    this.cleanupDocument = document(
      'Cleanup',
      'Removes what the restore staged on this node, its key and its journal; data is not touched',
      Duration.minutes(5),
      { Outcome: oneOf('How the restore ended', ['failed', 'restored', 'held']) },
    );
    this.diagnoseDocument = document(
      'Diagnose',
      'Gathers versions, members, endpoint status and logs of this node, without secrets',
      Duration.minutes(3),
    );

    const documents = {
      PREFLIGHT: this.preflightDocument,
      STOP: this.stopDocument,
      SWAP: this.swapDocument,
      START: this.startDocument,
      CHECK: this.checkDocument,
      ROLLBACK: this.rollbackDocument,
      CLEANUP: this.cleanupDocument,
      DIAGNOSE: this.diagnoseDocument,
    };
    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'restore',
      description: 'Restores etcd on all control-plane nodes, or puts back what was there',
      timeout: Duration.minutes(15),
      memory: Size.mebibytes(512),
      environment: {
        CONTROL_PLANE_TAGS: JSON.stringify(cluster.controlPlaneTags),
        ACKNOWLEDGED_TOOLS: cluster.acknowledgedTools.join(' '),
        DISK_LIMIT_PERCENT: String(cluster.diskLimitPercent),
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        RECEIPT_KEY_ARN: store.receiptKey.keyArn,
        BACKUP_FUNCTION: backup.service.function.functionName,
        ...Object.fromEntries(
          Object.entries(documents).flatMap(([name, { documentName, documentVersion }]) => [
            [`${name}_DOCUMENT`, documentName],
            [`${name}_DOCUMENT_VERSION`, documentVersion],
          ]),
        ),
      },
    });

    const { role } = this.service;
    grantRunDocuments(role, cluster, Object.values(documents));
    store.grantListVersions(role, ['receipts']);
    store.grantGetVersions(role, ['receipts', 'snapshots']);
    store.grantHead(role, ['tools']);
    // Beside verify's the one role that can read snapshots: a URL is worth what its signer may do.
    store.grantDecrypt(role, ['receipts', 'snapshots', 'tools']);
    store.grantPut(role, ['restores']);
    store.receiptKey.grant(role, 'kms:Verify');
    // Not the function's own grant: that adds every version and alias, by a wildcard.
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['lambda:InvokeFunction'],
        resources: [backup.service.function.functionArn],
      }),
    );
  }
}

export interface InterruptedProps {
  readonly cluster: Cluster;
  readonly machine: IStateMachine;
  readonly restore: ServiceFunction;
}

/**
 * What no state of the machine can catch: executions that somebody stopped, whose time was over, or that Step Functions itself ended leave the
 * nodes as they are.
 */
export class Interrupted extends Construct {
  readonly rule: Rule;
  /** Receives what EventBridge could not deliver to the function. */
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, { cluster, machine, restore }: InterruptedProps) {
    super(scope, id);

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
    this.rule = new Rule(this, 'Interrupted', {
      description: `Reports restores of ${cluster.name} that were stopped, timed out or broke off, of which no state knows`,
      eventPattern: {
        source: ['aws.states'],
        detailType: ['Step Functions Execution Status Change'],
        detail: {
          stateMachineArn: [machine.stateMachineArn],
          $or: [
            { status: ['TIMED_OUT', 'ABORTED'] },
            // https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html: no Catch takes it.
            { status: ['FAILED'], error: ['States.Runtime'] },
          ],
        },
      },
      targets: [
        new LambdaFunction(restore.function, {
          deadLetterQueue: this.deadLetters,
          maxEventAge: Duration.hours(24),
          retryAttempts: 185,
        }),
      ],
    });
  }
}
