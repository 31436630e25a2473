import { App } from 'aws-cdk-lib';
import { readClusters } from '../lib/config';
import { EtcdBackupStack } from '../lib/stack';
import { CLUSTER } from './cluster';

// The same stack as bin/etcd-backup.ts makes, for the lab's own cluster.
const app = new App();
for (const cluster of readClusters([CLUSTER])) {
  new EtcdBackupStack(app, `etcd-backup-${cluster.name}`, { cluster });
}
