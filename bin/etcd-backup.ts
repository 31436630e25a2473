import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { type ClusterEntry, readClusters, readReplicas, type ReplicaEntry } from '../lib/config';
import { ReplicaStack } from '../lib/replica';
import { EtcdBackupStack } from '../lib/stack';

/** The table of clusters, one stack per entry. Everything that can be set, and what happens when it is not: lib/config.ts. */
const clusters: ClusterEntry[] = [
  {
    name: 'example',
    controlPlaneTags: {
      'kubernetes.io/cluster/example': 'owned',
      'k8s.io/role/control-plane': '1',
    },
    notify: { emails: ['oncall@example.com'] },
  },
];

/** The table of replicas: for each a bucket in another account or region, deployed before its cluster names it as `replica`. */
const replicas: ReplicaEntry[] = [];

const app = new App();
Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
const checked = readClusters(clusters);
for (const cluster of checked) {
  new EtcdBackupStack(app, `etcd-backup-${cluster.name}`, { cluster });
}
for (const replica of readReplicas(replicas, checked)) {
  new ReplicaStack(app, `etcd-backup-${replica.cluster.name}-replica`, { replica });
}
