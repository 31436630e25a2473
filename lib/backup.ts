import { Duration, Size, Stack } from 'aws-cdk-lib';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { type Cluster, longestDays } from './config';
import { ScriptDocument } from './script-document';
import { ServiceFunction } from './service-function';
import type { Store } from './store';
import { acknowledgeWildcard } from './wildcard';

export interface BackupProps {
  readonly cluster: Cluster;
  readonly store: Store;

  /**
   * Folder of the node scripts.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

/** The backup function, the two documents that it may run on this cluster's control-plane nodes, and its rights. */
export class Backup extends Construct {
  readonly snapshotDocument: ScriptDocument;
  readonly uploadDocument: ScriptDocument;
  readonly service: ServiceFunction;

  constructor(scope: Construct, id: string, props: BackupProps) {
    super(scope, id);
    const { cluster, store } = props;
    const scriptDir = props.scriptDir === undefined ? {} : { scriptDir: props.scriptDir };

    const backupId = {
      description: 'Id of the backup: the time of its trigger, UTC',
      allowedPattern: '^[0-9]{8}T[0-9]{6}Z$',
      maxChars: 16,
    };
    this.snapshotDocument = new ScriptDocument(this, 'Snapshot', {
      ...scriptDir,
      script: 'snapshot',
      description:
        'Takes and proves a snapshot of the etcd member on this control-plane node, and stages it compressed',
      // The agent kills with SIGKILL; 40 minutes are for 8 GB on a slow disk.
      timeout: Duration.minutes(40),
      parameters: {
        BackupId: backupId,
        ClusterName: {
          description: 'Name of the cluster in the table of clusters',
          allowedPattern: '^[a-z][a-z0-9-]*$',
          maxChars: 32,
        },
        MembersBefore: {
          description: 'Number of members at the last backup; 0 when nothing is known',
          allowedPattern: '^[0-9]+$',
          maxChars: 2,
          default: '0',
        },
        ToolPins: {
          description: 'Known tools: version/arch/name=sha256, separated by spaces',
          allowedPattern: '^[A-Za-z0-9.=/ _+-]*$',
          // Some 40 tools. What a call may pass counts towards the size of the document.
          maxChars: 4000,
          default: '',
        },
        ToolUrls: {
          description: 'Where to get tools that the image lacks: version/arch/name=sha256=url, separated by spaces',
          allowedPattern: '^[A-Za-z0-9.:/?&=%~_ +-]*$',
          maxChars: 12000,
          default: '',
        },
        DiskLimitPercent: {
          description: 'Refuse when the snapshot would fill the disk beyond this percentage',
          allowedPattern: '^[0-9]+$',
          maxChars: 2,
          default: String(cluster.diskLimitPercent),
        },
      },
    });
    this.uploadDocument = new ScriptDocument(this, 'Upload', {
      ...scriptDir,
      script: 'upload',
      description: 'Uploads the snapshot that was announced to the one URL that stores exactly its bytes',
      timeout: Duration.minutes(15),
      parameters: {
        BackupId: backupId,
        Url: {
          description: 'Presigned PUT, bound to length, checksum, key, tag and metadata of the announced snapshot',
          allowedPattern: '^https?://[A-Za-z0-9.:/?&=%~_+-]+$',
          maxChars: 8000,
        },
        Headers: {
          description: 'Signed headers that the PUT must send: name: value, joined by |',
          allowedPattern: '^[A-Za-z0-9:;,=/+._| *()-]+$',
          maxChars: 6000,
        },
      },
    });

    this.service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'backup',
      description: 'Takes an etcd snapshot on one control-plane node and has it uploaded',
      // All that Lambda gives: what is not done by then, the retry attaches to.
      timeout: Duration.minutes(15),
      memory: Size.mebibytes(512),
      environment: {
        CONTROL_PLANE_TAGS: JSON.stringify(cluster.controlPlaneTags),
        ACKNOWLEDGED_MEMBERS: String(cluster.acknowledgedMembers ?? 0),
        ACKNOWLEDGED_TOOLS: cluster.acknowledgedTools.join(' '),
        MAX_KEEP_DAYS: String(longestDays(cluster)),
        BUCKET: store.bucket.bucketName,
        BUCKET_OWNER: Stack.of(this).account,
        SNAPSHOT_KEY_ARN: store.snapshotKey.keyArn,
        ANNOUNCEMENT_KEY_ARN: store.announcementKey.keyArn,
        SNAPSHOT_DOCUMENT: this.snapshotDocument.documentName,
        SNAPSHOT_DOCUMENT_VERSION: this.snapshotDocument.documentVersion,
        UPLOAD_DOCUMENT: this.uploadDocument.documentName,
        UPLOAD_DOCUMENT_VERSION: this.uploadDocument.documentVersion,
      },
    });

    this.grantRunCommand(cluster);
    store.grantPut(this.service.role, ['announcements', 'snapshots', 'tools']);
    store.grantTag(this.service.role, { prefix: 'snapshots', retention: 'pending' });
    store.grantHead(this.service.role, ['announcements', 'snapshots', 'tools']);
    // Not snapshots: this function has no use for what is in etcd.
    store.grantDecrypt(this.service.role, ['announcements', 'tools']);
    store.announcementKey.grant(this.service.role, 'kms:Sign', 'kms:Verify');
  }

  private grantRunCommand(cluster: Cluster): void {
    const { role } = this.service;
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['ssm:SendCommand'],
        resources: [this.snapshotDocument.documentArn, this.uploadDocument.documentArn],
      }),
    );
    const instances = Stack.of(this).formatArn({ service: 'ec2', resource: 'instance', resourceName: '*' });
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: ['ssm:SendCommand'],
        resources: [instances],
        conditions: {
          StringEquals: Object.fromEntries(
            Object.entries(cluster.controlPlaneTags).map(([tag, value]) => [`ssm:resourceTag/${tag}`, value]),
          ),
        },
      }),
    );
    acknowledgeWildcard(
      role,
      instances,
      'control-plane nodes come and go; the condition on their tags is what limits the right',
    );
    role.addToPrincipalPolicy(
      new PolicyStatement({
        actions: [
          'ec2:DescribeInstances',
          'ssm:DescribeInstanceInformation',
          'ssm:GetCommandInvocation',
          'ssm:ListCommands',
        ],
        resources: ['*'],
      }),
    );
    acknowledgeWildcard(
      role,
      '*',
      'these actions of EC2 and SSM know no resource-level permissions; all of them only read',
    );
  }
}
