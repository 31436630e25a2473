import { randomBytes } from 'node:crypto';
import type { EtcdMinor } from './tools';

/** Kubernetes' version in the lab's images and manifests. */
export const KUBERNETES_VERSION = 'v1.33.1';

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
}

const inUrl = (host: string): string => (host.includes(':') ? `[${host}]` : host);

/** The URL of a member's peer port. */
export const peerUrl = (host: string): string => `https://${inUrl(host)}:2380`;

/** The URL of a member's client port. */
export const clientUrl = (host: string): string => `https://${inUrl(host)}:2379`;

const flagName = (flag: string): string => flag.split('=', 1)[0] ?? flag;

/** The flags of etcd in the order and form in which kubeadm writes them for that minor. */
export const etcdFlags = (member: EtcdMember): readonly string[] => {
  const loopback = member.ip.includes(':') ? '::1' : '127.0.0.1';
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
    `--listen-client-urls=${clientUrl(loopback)},${clientUrl(member.ip)}`,
    `--listen-metrics-urls=http://${inUrl(loopback)}:2381`,
    `--listen-peer-urls=${peerUrl(member.ip)}`,
    `--name=${member.name}`,
    '--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt',
    '--peer-client-cert-auth=true',
    '--peer-key-file=/etc/kubernetes/pki/etcd/peer.key',
    '--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt',
    '--snapshot-count=10000',
    '--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt',
  ];
  const extra = new Set(member.extraFlags.map(flagName));
  return [...flags.filter((flag) => !extra.has(flagName(flag))), ...member.extraFlags].sort((left, right) =>
    flagName(left) < flagName(right) ? -1 : 1,
  );
};

const command = (words: readonly string[]): string => words.map((word) => `    - ${word}`).join('\n');

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
        host: ${member.ip.includes(':') ? '::1' : '127.0.0.1'}
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
  hostNetwork: true
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
status: {}
`;

/** /etc/kubernetes/manifests/kube-apiserver.yaml: read by scripts, never run here (annotation `lab/run: "never"`). */
export const apiServerManifest = (member: Pick<EtcdMember, 'ip'>): string => `apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: ${member.ip.includes(':') ? `'[${member.ip}]:6443'` : `${member.ip}:6443`}
    lab/run: "never"
  labels:
    component: kube-apiserver
    tier: control-plane
  name: kube-apiserver
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=${member.ip}
    - --allow-privileged=true
    - --authorization-mode=Node,RBAC
    - --client-ca-file=/etc/kubernetes/pki/ca.crt
    - --enable-admission-plugins=NodeRestriction
    - --encryption-provider-config=/etc/kubernetes/enc/enc.yaml
    - --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt
    - --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt
    - --etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key
    - --etcd-servers=${clientUrl(member.ip.includes(':') ? '::1' : '127.0.0.1')}
    - --secure-port=6443
    - --service-account-issuer=https://kubernetes.default.svc.cluster.local
    - --service-account-key-file=/etc/kubernetes/pki/sa.pub
    - --service-account-signing-key-file=/etc/kubernetes/pki/sa.key
    - --service-cluster-ip-range=10.96.0.0/12
    image: registry.k8s.io/kube-apiserver:${KUBERNETES_VERSION}
    imagePullPolicy: IfNotPresent
    name: kube-apiserver
    volumeMounts:
    - mountPath: /etc/kubernetes/enc
      name: enc
      readOnly: true
    - mountPath: /etc/kubernetes/pki
      name: k8s-certs
      readOnly: true
  hostNetwork: true
  priority: 2000001000
  priorityClassName: system-node-critical
  volumes:
  - hostPath:
      path: /etc/kubernetes/enc
      type: DirectoryOrCreate
    name: enc
  - hostPath:
      path: /etc/kubernetes/pki
      type: DirectoryOrCreate
    name: k8s-certs
status: {}
`;

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
