import { Duration, Size, Stack } from 'aws-cdk-lib';
import { Construct } from 'constructs';
import { type OfficialTools, officialTools } from '../lambda/shared/official-tools';
import { type Cluster, longestDays } from './config';
import { HEADERS_PARAMETER, objectUrlPattern } from './presigned';
import { BACKUP_ID_PARAMETER, CLUSTER_NAME_PARAMETER, grantRunDocuments, toolParameters } from './run-document';
import { ScriptDocument, type ScriptParameter } from './script-document';
import { ServiceFunction } from './service-function';
import type { Store } from './store';

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

const RESTORE_ID_OR_NONE: ScriptParameter = {
  description: 'Restore that replaces what this backup keeps; empty for every other backup',
  allowedPattern: '^([0-9]{8}T[0-9]{6}Z)?$',
  maxChars: 16,
  default: '',
};

/** Of what of the bucket's `tools/` a backup may give to nodes, as lambda/backup/tool-parameters.ts chooses it. */
function trustedHashes({ acknowledgedTools }: Cluster): string[] {
  const official = Object.values(officialTools)
    .flatMap((byArch: OfficialTools[string]) => Object.values(byArch))
    .flatMap(({ etcdctl, etcdutl }) => [etcdctl, etcdutl])
    .filter((sha256) => sha256 !== undefined);
  return [...new Set([...official, ...acknowledgedTools])].sort();
}

/** The backup function, the documents that it may run on this cluster's control-plane nodes, and its rights. */
export class Backup extends Construct {
  readonly snapshotDocument: ScriptDocument;
  readonly uploadDocument: ScriptDocument;
  readonly toolsDocument: ScriptDocument;
  readonly service: ServiceFunction;

  constructor(scope: Construct, id: string, props: BackupProps) {
    super(scope, id);
    const { cluster, store } = props;
    const scriptDir = props.scriptDir === undefined ? {} : { scriptDir: props.scriptDir };

    this.snapshotDocument = new ScriptDocument(this, 'Snapshot', {
      ...scriptDir,
      script: 'snapshot',
      description:
        'Takes and proves a snapshot of the etcd member on this control-plane node, and stages it compressed',
      // The agent kills with SIGKILL; 40 minutes are for 8 GB on a slow disk.
      timeout: Duration.minutes(40),
      parameters: {
        BackupId: BACKUP_ID_PARAMETER,
        ClusterName: CLUSTER_NAME_PARAMETER,
        MembersBefore: {
          description: 'Number of members at the last backup; 0 when nothing is known',
          allowedPattern: '^[0-9]+$',
          maxChars: 2,
          default: '0',
        },
        // The document itself has them: what the function's role calls trusted is not to run as root.
        ...toolParameters(this, store.bucket, trustedHashes(cluster)),
        DiskLimitPercent: {
          description: 'Refuse when the snapshot would fill the disk beyond this percentage',
          allowedPattern: '^[0-9]+$',
          maxChars: 2,
          default: String(cluster.diskLimitPercent),
        },
        RestoreId: RESTORE_ID_OR_NONE,
      },
    });
    this.uploadDocument = new ScriptDocument(this, 'Upload', {
      ...scriptDir,
      script: 'upload',
      description: 'Uploads the snapshot that was announced to the one URL that stores exactly its bytes',
      timeout: Duration.minutes(15),
      parameters: {
        BackupId: BACKUP_ID_PARAMETER,
        RestoreId: RESTORE_ID_OR_NONE,
        Url: {
          description: 'Presigned PUT, bound to length, checksum, key, tag and metadata of the announced snapshot',
          allowedPattern: `^${objectUrlPattern(this, store.bucket, 'snapshots')}$`,
          maxChars: 8000,
        },
        Headers: HEADERS_PARAMETER,
      },
    });
    const toolUpload = `(etcd|etcdctl|etcdutl)=[0-9a-f]{64}=${objectUrlPattern(this, store.bucket, 'tools')}`;
    this.toolsDocument = new ScriptDocument(this, 'Tools', {
      ...scriptDir,
      script: 'tools',
      description: 'Uploads the tools of etcd’s image on this node, each to the one URL that stores exactly its bytes',
      timeout: Duration.minutes(15),
      parameters: {
        BackupId: BACKUP_ID_PARAMETER,
        Uploads: {
          description: 'Presigned PUTs of tools: name=sha256=url, separated by spaces',
          allowedPattern: `^${toolUpload}( ${toolUpload})*$`,
          maxChars: 12000,
        },
        Headers: HEADERS_PARAMETER,
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
        TOOLS_DOCUMENT: this.toolsDocument.documentName,
        TOOLS_DOCUMENT_VERSION: this.toolsDocument.documentVersion,
      },
    });

    grantRunDocuments(this.service.role, cluster, [this.snapshotDocument, this.uploadDocument, this.toolsDocument]);
    store.grantPut(this.service.role, ['announcements', 'snapshots', 'tools']);
    store.grantTag(this.service.role, { prefix: 'snapshots', retention: 'pending' });
    // When a restore was is in the name of its record; what is in that is for others.
    store.grantList(this.service.role, ['restores']);
    store.grantHead(this.service.role, ['announcements', 'snapshots', 'tools']);
    // Not snapshots: this function has no use for what is in etcd.
    store.grantDecrypt(this.service.role, ['announcements', 'tools']);
    store.announcementKey.grant(this.service.role, 'kms:Sign', 'kms:Verify');
  }
}
