import { Duration, Size, Stack } from 'aws-cdk-lib';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import { CLUSTER_NAME_PARAMETER, grantRunDocuments } from './run-document';
import { ScriptDocument } from './script-document';
import { ServiceFunction } from './service-function';
import type { Store } from './store';

export interface PlanProps {
  readonly cluster: Cluster;
  readonly store: Store;

  /**
   * Folder of the node scripts.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

/**
 * The function that chooses a backup and looks at the nodes, and the one document that it may run there, which only reads. It cannot read a
 * snapshot: whoever may make plans gets none.
 */
export class Plan extends Construct {
  readonly inspectDocument: ScriptDocument;
  readonly service: ServiceFunction;

  constructor(scope: Construct, id: string, props: PlanProps) {
    super(scope, id);
    const { cluster, store } = props;

    this.inspectDocument = new ScriptDocument(this, 'Inspect', {
      ...(props.scriptDir === undefined ? {} : { scriptDir: props.scriptDir }),
      script: 'inspect',
      description: 'Looks at etcd, the API server and the disk of this control-plane node, and writes nothing',
      timeout: Duration.minutes(2),
      parameters: {
        ClusterName: CLUSTER_NAME_PARAMETER,
        Peers: {
          description: 'Peer URLs of other members to knock at, separated by spaces',
          allowedPattern: '^[A-Za-z0-9.:/ _%\\[\\]-]*$',
          maxChars: 4000,
        },
      },
    });

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'plan',
      description: 'Chooses the backup to restore and looks at the control-plane nodes, read only',
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
        INSPECT_DOCUMENT: this.inspectDocument.documentName,
        INSPECT_DOCUMENT_VERSION: this.inspectDocument.documentVersion,
      },
    });

    const { role } = this.service;
    grantRunDocuments(role, cluster, [this.inspectDocument]);
    // Of snapshots and tools it only sees that they are there.
    store.grantListVersions(role, ['snapshots', 'receipts', 'announcements', 'restores', 'drills']);
    store.grantList(role, ['tools']);
    store.grantGetVersions(role, ['receipts', 'announcements', 'restores', 'drills']);
    store.grantDecrypt(role, ['receipts', 'announcements', 'restores', 'drills']);
    store.grantPutOnly(role, 'restores', '*/plan.json');
    store.receiptKey.grant(role, 'kms:Verify');
  }
}
