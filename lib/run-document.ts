import { Stack } from 'aws-cdk-lib';
import { PolicyStatement, type Role } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import type { Cluster } from './config';
import { objectUrlPattern } from './presigned';
import type { ScriptDocument, ScriptParameter } from './script-document';
import type { StoreBucket } from './store';
import { acknowledgeWildcard } from './wildcard';

/** Allows a role to find a cluster's control-plane nodes, to run these documents there, and no other, and to see what came of it. */
export function grantRunDocuments(role: Role, cluster: Cluster, documents: readonly ScriptDocument[]): void {
  role.addToPrincipalPolicy(
    new PolicyStatement({
      actions: ['ssm:SendCommand'],
      resources: documents.map(({ documentArn }) => documentArn),
    }),
  );
  const instances = Stack.of(role).formatArn({ service: 'ec2', resource: 'instance', resourceName: '*' });
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

/** Parameters that several documents take. */
export const BACKUP_ID_PARAMETER = {
  description: 'Id of the backup: the time of its trigger, UTC',
  allowedPattern: '^[0-9]{8}T[0-9]{6}Z$',
  maxChars: 16,
};

export const CLUSTER_NAME_PARAMETER = {
  description: 'Name of the cluster in the table of clusters',
  allowedPattern: '^[a-z][a-z0-9-]*$',
  maxChars: 32,
};

/**
 * Which tools may run, and where in the bucket those are that a node's image lacks.
 *
 * @param trusted SHA-256 of all that a node may be given; any when left out
 */
export function toolParameters(scope: Construct, bucket: StoreBucket, trusted?: readonly string[]) {
  const sha256 = trusted === undefined ? '[0-9a-f]{64}' : `(${trusted.join('|')})`;
  const tool = `[A-Za-z0-9.+-]+/[a-z0-9]+/[a-z]+=${sha256}=${objectUrlPattern(scope, bucket, 'tools')}`;
  return {
    ToolPins: {
      description: 'Known tools: version/arch/name=sha256, separated by spaces',
      allowedPattern: '^[A-Za-z0-9.=/ _+-]*$',
      // Some 40 tools. What a call may pass counts towards the size of the document.
      maxChars: 4000,
      default: '',
    },
    ToolUrls: {
      description: 'Where to get tools that the image lacks: version/arch/name=sha256=url, separated by spaces',
      allowedPattern: trusted?.length === 0 ? '^$' : `^(${tool}( |$))*$`,
      maxChars: 12000,
      default: '',
    },
  } satisfies Record<string, ScriptParameter>;
}
