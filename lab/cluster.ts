import type { ClusterEntry } from '../lib/config';

/** The lab's entry in the table of clusters. */
export const CLUSTER: ClusterEntry = {
  name: 'lab',
  controlPlaneTags: { 'kubernetes.io/cluster/lab': 'owned', 'k8s.io/role/control-plane': '1' },
  notify: { emails: ['oncall@example.com'] },
};

/** Name of its stack. */
export const STACK_NAME = `etcd-backup-${CLUSTER.name}`;
