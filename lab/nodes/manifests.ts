import { randomBytes } from 'node:crypto';
import type { EtcdMinor } from './tools';

/** Kubernetes' version in the lab's images and manifests. */
export const KUBERNETES_VERSION = 'v1.33.1';

/** What is mounted for the WAL where it does not lie with the data. etcd makes the WAL by a rename, which needs a directory inside. */
export const WAL_MOUNT = '/var/lib/etcd-wal';

/** What an etcd.yaml says about one member. */
export interface EtcdMember {
  readonly name: string;
  readonly ip: string;
  /** Host in URLs that others use: an address, or a name. Listen URLs always need an address. */
  readonly host: string;
  readonly minor: EtcdMinor;
  readonly image: string;
  /** `name=peer URL`, itself included. */
  readonly initialCluster: readonly string[];
  /** Joins a cluster that is already there, as `kubeadm join` writes it. */
  readonly joins: boolean;
  /** `--name=value` or `--name`; wins over what kubeadm writes for the same name. */
  readonly extraFlags: readonly string[];
  /** The WAL lies in /var/lib/etcd-wal/wal, on a volume of its own. */
  readonly walDir: boolean;
}

/** Folder of static pods on a node. */
export const MANIFESTS = '/etc/kubernetes/manifests';

/** The static pods of a control plane, by the names of their manifests and programs. */
export const COMPONENTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;

/** One of the static pods of a control plane. */
export type Component = (typeof COMPONENTS)[number];

/** The image of a component of Kubernetes. */
export const kubernetesImage = (component: Exclude<Component, 'etcd'>): string =>
  `registry.k8s.io/${component}:${KUBERNETES_VERSION}`;

const loopback = (ip: string): string => (ip.includes(':') ? '::1' : '127.0.0.1');

const inUrl = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** The URL of a member's peer port. */
export const peerUrl = (host: string): string => `https://${inUrl(host)}:2380`;

/** The URL of a member's client port. */
export const clientUrl = (host: string): string => `https://${inUrl(host)}:2379`;

const flagName = (flag: string): string => flag.split('=', 1)[0] ?? flag;

/** The flags of etcd in the order and form in which kubeadm writes them for that minor. */
export const etcdFlags = (member: EtcdMember): readonly string[] => {
  const local = loopback(member.ip);
  const flags = [
    `--advertise-client-urls=${clientUrl(member.host)}`,
    '--cert-file=/etc/kubernetes/pki/etcd/server.crt',
    '--client-cert-auth=true',
    '--data-dir=/var/lib/etcd',
    // 3.6 turned the two experimental flags into a feature gate and a flag; kubeadm follows by etcd's version.
    ...(member.minor === '3.5'
      ? ['--experimental-initial-corrupt-check=true', '--experimental-watch-progress-notify-interval=5s']
      : ['--feature-gates=InitialCorruptCheck=true', '--watch-progress-notify-interval=5s']),
    `--initial-advertise-peer-urls=${peerUrl(member.host)}`,
    `--initial-cluster=${member.initialCluster.join(',')}`,
    ...(member.joins ? ['--initial-cluster-state=existing'] : []),
    '--key-file=/etc/kubernetes/pki/etcd/server.key',
    `--listen-client-urls=${clientUrl(local)},${clientUrl(member.ip)}`,
    `--listen-metrics-urls=http://${inUrl(local)}:2381`,
    `--listen-peer-urls=${peerUrl(member.ip)}`,
    `--name=${member.name}`,
    '--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt',
    '--peer-client-cert-auth=true',
    '--peer-key-file=/etc/kubernetes/pki/etcd/peer.key',
    '--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt',
    '--snapshot-count=10000',
    '--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt',
    ...(member.walDir ? [`--wal-dir=${WAL_MOUNT}/wal`] : []),
  ];
  const extra = new Set(member.extraFlags.map(flagName));
  return [...flags.filter((flag) => !extra.has(flagName(flag))), ...member.extraFlags].sort((left, right) =>
    flagName(left) < flagName(right) ? -1 : 1,
  );
};

// A colon at the end would make a mapping of it.
const command = (words: readonly string[]): string =>
  words.map((word) => `    - ${word.endsWith(':') ? `'${word}'` : word}`).join('\n');

/** /etc/kubernetes/manifests/etcd.yaml, as kubeadm writes it. */
export const etcdManifest = (member: EtcdMember): string => `apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: ${clientUrl(member.host)}
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
${command(etcdFlags(member))}
    image: ${member.image}
    imagePullPolicy: IfNotPresent
    livenessProbe:
      failureThreshold: 8
      httpGet:
        host: ${loopback(member.ip)}
        path: /livez
        port: probe-port
        scheme: HTTP
      initialDelaySeconds: 10
      periodSeconds: 10
      timeoutSeconds: 15
    name: etcd
    ports:
    - containerPort: 2381
      name: probe-port
      protocol: TCP
    resources:
      requests:
        cpu: 100m
        memory: 100Mi
    volumeMounts:
    - mountPath: /var/lib/etcd
      name: etcd-data
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
${member.walDir ? `    - mountPath: ${WAL_MOUNT}\n      name: etcd-wal\n` : ''}  hostNetwork: true
  priority: 2000001000
  priorityClassName: system-node-critical
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki/etcd
      type: DirectoryOrCreate
    name: etcd-certs
  - hostPath:
      path: /var/lib/etcd
      type: DirectoryOrCreate
    name: etcd-data
${member.walDir ? `  - hostPath:\n      path: ${WAL_MOUNT}\n      type: DirectoryOrCreate\n    name: etcd-wal\n` : ''}status: {}
`;

// What the pods of Kubernetes' own components have in common, as kubeadm writes it. A mount is a directory that the pod sees at its own path.
const kubernetesManifest = (pod: {
  readonly component: Exclude<Component, 'etcd'>;
  readonly annotations: readonly string[];
  readonly flags: readonly string[];
  readonly mounts: Readonly<Record<string, { readonly path: string; readonly type: string }>>;
}): string => {
  const { component, annotations, flags } = pod;
  const mounts = Object.entries(pod.mounts);
  return `apiVersion: v1
kind: Pod
metadata:
${annotations.length === 0 ? '' : `  annotations:\n${annotations.map((line) => `    ${line}\n`).join('')}`}  labels:
    component: ${component}
    tier: control-plane
  name: ${component}
  namespace: kube-system
spec:
  containers:
  - command:
    - ${component}
${command(flags)}
    image: ${kubernetesImage(component)}
    imagePullPolicy: IfNotPresent
    name: ${component}
    volumeMounts:
${mounts.map(([name, { path }]) => `    - mountPath: ${path}\n      name: ${name}\n      readOnly: true`).join('\n')}
  hostNetwork: true
  priority: 2000001000
  priorityClassName: system-node-critical
  volumes:
${mounts.map(([name, { path, type }]) => `  - hostPath:\n      path: ${path}\n      type: ${type}\n    name: ${name}`).join('\n')}
status: {}
`;
};

/** What a kube-apiserver.yaml says about one node. */
export interface ApiServer {
  readonly ip: string;
  /** False: the manifest is there to be read, and the lab's kubelet leaves it alone (annotation `lab/run: "never"`). */
  readonly runs: boolean;
}

/** /etc/kubernetes/manifests/kube-apiserver.yaml. */
export const apiServerManifest = ({ ip, runs }: ApiServer): string =>
  kubernetesManifest({
    component: 'kube-apiserver',
    annotations: [
      `kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: ${ip.includes(':') ? `'[${ip}]:6443'` : `${ip}:6443`}`,
      ...(runs ? [] : ['lab/run: "never"']),
    ],
    // prettier-ignore
    flags: [
      `--advertise-address=${ip}`,
      '--allow-privileged=true',
      '--anonymous-auth=false',
      '--authorization-mode=Node,RBAC',
      ...(ip.includes(':') ? ['--bind-address=::'] : []),
      '--client-ca-file=/etc/kubernetes/pki/ca.crt',
      '--enable-admission-plugins=NodeRestriction',
      '--encryption-provider-config=/etc/kubernetes/enc/enc.yaml',
      '--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt',
      '--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt',
      '--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key',
      `--etcd-servers=${clientUrl(loopback(ip))}`,
      '--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt',
      '--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key',
      '--secure-port=6443',
      '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
      '--service-account-key-file=/etc/kubernetes/pki/sa.pub',
      '--service-account-signing-key-file=/etc/kubernetes/pki/sa.key',
      '--service-cluster-ip-range=10.96.0.0/12',
      '--tls-cert-file=/etc/kubernetes/pki/apiserver.crt',
      '--tls-private-key-file=/etc/kubernetes/pki/apiserver.key',
    ],
    mounts: {
      enc: { path: '/etc/kubernetes/enc', type: 'DirectoryOrCreate' },
      'k8s-certs': { path: '/etc/kubernetes/pki', type: 'DirectoryOrCreate' },
    },
  });

/** /etc/kubernetes/manifests/kube-controller-manager.yaml or kube-scheduler.yaml. */
export const controllerManifest = (component: 'kube-controller-manager' | 'kube-scheduler'): string => {
  const kubeconfig = `/etc/kubernetes/${component.slice('kube-'.length)}.conf`;
  return kubernetesManifest({
    component,
    annotations: [],
    flags: [
      `--authentication-kubeconfig=${kubeconfig}`,
      `--authorization-kubeconfig=${kubeconfig}`,
      '--bind-address=127.0.0.1',
      `--kubeconfig=${kubeconfig}`,
      '--leader-elect=true',
    ],
    mounts: { kubeconfig: { path: kubeconfig, type: 'FileOrCreate' } },
  });
};

/** One of the kubeconfig files of kubeadm: the certificates are in it, in PEM. */
export const kubeconfig = (ip: string, user: string, ca: string, certificate: string, key: string): string => {
  const data = (pem: string): string => Buffer.from(pem).toString('base64');
  return `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${data(ca)}
    server: https://${inUrl(ip)}:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: ${user}
  name: ${user}@kubernetes
current-context: ${user}@kubernetes
kind: Config
preferences: {}
users:
- name: ${user}
  user:
    client-certificate-data: ${data(certificate)}
    client-key-data: ${data(key)}
`;
};

/** /var/lib/kubelet/config.yaml, as far as anything here reads it. */
export const kubeletConfiguration = (): string => `apiVersion: kubelet.config.k8s.io/v1beta1
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {}
kind: KubeletConfiguration
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
`;

/** /etc/kubernetes/enc/enc.yaml with a key of its own; the same on every node of a cluster. */
export const encryptionConfiguration = (): string => `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - secretbox:
      keys:
      - name: key1
        secret: ${randomBytes(32).toString('base64')}
  - identity: {}
`;
