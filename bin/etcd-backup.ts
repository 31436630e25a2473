import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { type ClusterEntry, readClusters } from '../lib/config';
import { EtcdBackupStack } from '../lib/stack';

/** The table of clusters, one stack per entry. Everything that can be set, and what happens when it is not: lib/config.ts. */
const clusters: ClusterEntry[] = [
  {
    name: 'example',
    controlPlaneTags: {
      'kubernetes.io/cluster/example': 'owned',
      'k8s.io/role/control-plane': '1',
    },
  },
];

const app = new App();
Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
for (const cluster of readClusters(clusters)) {
  new EtcdBackupStack(app, `etcd-backup-${cluster.name}`, { cluster });
}
