import { CfnOutput, Stack, Tags } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { Backup } from './backup';
import type { Cluster } from './config';
import { Schedule } from './schedule';
import { Store } from './store';
import { Verify } from './verify';

export interface EtcdBackupStackProps {
  readonly cluster: Cluster;
}

/** The backup of one cluster, in the order of the flow. */
export class EtcdBackupStack extends Stack {
  constructor(scope: Construct, id: string, { cluster }: EtcdBackupStackProps) {
    super(scope, id, {
      description: `Backups of etcd of ${cluster.name}`,
      env: {
        // Left out, they are those of the credentials that deploy.
        ...(cluster.account === undefined ? {} : { account: cluster.account }),
        ...(cluster.region === undefined ? {} : { region: cluster.region }),
      },
      terminationProtection: true,
    });
    for (const [tag, value] of Object.entries(cluster.tags)) {
      Tags.of(this).add(tag, value);
    }

    const store = new Store(this, 'Store', { cluster });
    const backup = new Backup(this, 'Backup', { cluster, store });
    new Schedule(this, 'Schedule', { cluster, target: backup.service.function });
    const verify = new Verify(this, 'Verify', { cluster, store });

    new CfnOutput(this, 'BackupFunctionName', { value: backup.service.function.functionName });
    new CfnOutput(this, 'VerifyFunctionName', { value: verify.service.function.functionName });
  }
}
