import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { App } from 'aws-cdk-lib';
import { readClusters } from '../lib/config';
import { EtcdBackupStack } from '../lib/stack';
import { CLUSTER } from './cluster';
import { etcdMinorsHere, etcdTools } from './nodes/tools';

// The lab builds its etcd itself, so no list of official releases has its tools: the hashes of those that are run are acknowledged instead.
const acknowledgedTools = etcdMinorsHere()
  .map(etcdTools)
  .flatMap(({ etcdctl, etcdutl }) => [etcdctl, etcdutl])
  .map((file) => createHash('sha256').update(readFileSync(file)).digest('hex'));

// The same stack as bin/etcd-backup.ts makes, for the lab's own cluster.
const app = new App();
for (const cluster of readClusters([{ ...CLUSTER, acknowledgedTools }])) {
  new EtcdBackupStack(app, `etcd-backup-${cluster.name}`, { cluster });
}
