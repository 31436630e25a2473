import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { kubeconfig } from './manifests';
import { run } from './run';

const CA_DAYS = 3650;
const CERTIFICATE_DAYS = 365;
const API_SERVER_NAMES = [
  ...['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local'].map(
    (name) => `DNS:${name}`,
  ),
  'IP:10.96.0.1',
];

interface Certificate {
  readonly dir: string;
  readonly name: string;
  readonly subject: string;
  readonly usages: readonly ('serverAuth' | 'clientAuth')[];
  readonly names: readonly string[];
  /** Days from now; below zero: already expired. */
  readonly days?: number;
}

const write = (file: string, text: string, mode: number): Promise<void> => writeFile(file, text, { mode });

// kubeadm's `encryptionAlgorithm: ECDSA-P256`: a hundred times faster to make than RSA.
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

const makeCa = async (dir: string, subject: string): Promise<void> => {
  await mkdir(dir, { recursive: true });
  // prettier-ignore
  await run('openssl', [
    'req', '-x509', ...NEW_KEY, '-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt'), '-subj', subject,
    '-days', String(CA_DAYS), '-addext', 'basicConstraints=critical,CA:TRUE',
    '-addext', 'keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign',
  ]);
};

/** Makes one certificate and key in `dir`, signed by the CA in `caDir`. */
export const makeCertificate = async (caDir: string, certificate: Certificate): Promise<void> => {
  const { dir, name, subject, usages, names } = certificate;
  // prettier-ignore
  await run('openssl', [
    'req', '-x509', '-CA', join(caDir, 'ca.crt'), '-CAkey', join(caDir, 'ca.key'), ...NEW_KEY,
    '-keyout', join(dir, `${name}.key`), '-out', join(dir, `${name}.crt`), '-subj', subject,
    '-days', String(certificate.days ?? CERTIFICATE_DAYS), '-addext', 'basicConstraints=critical,CA:FALSE',
    '-addext', 'keyUsage=critical,digitalSignature,keyEncipherment', '-addext', `extendedKeyUsage=${usages.join(',')}`,
    ...(names.length === 0 ? [] : ['-addext', `subjectAltName=${names.join(',')}`]),
  ]);
};

/** What all control-plane nodes of a cluster share, made once: both CAs and the key pair of service accounts. */
export const makeClusterPki = async (dir: string): Promise<void> => {
  await makeCa(dir, '/CN=kubernetes');
  await makeCa(join(dir, 'etcd'), '/CN=etcd-ca');
  const saKey = await run('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);
  await write(join(dir, 'sa.key'), saKey, 0o600);
  await write(join(dir, 'sa.pub'), await run('openssl', ['pkey', '-pubout'], { input: saKey }), 0o600);
};

/** Fills a node's /etc/kubernetes/pki as `kubeadm init` and `kubeadm join` do, from the cluster's shared part. */
export const makeNodePki = async (
  cluster: string,
  node: { readonly dir: string; readonly hostname: string; readonly dnsNames: readonly string[]; readonly ip: string },
): Promise<void> => {
  const etcd = join(node.dir, 'etcd');
  await mkdir(etcd, { recursive: true });
  for (const file of ['ca.crt', 'ca.key', 'sa.pub', 'sa.key', 'etcd/ca.crt', 'etcd/ca.key'])
    await write(
      join(node.dir, file),
      await readFile(join(cluster, file), 'utf8'),
      file.endsWith('.crt') ? 0o644 : 0o600,
    );
  const names = [
    ...[...new Set(['localhost', node.hostname, ...node.dnsNames])].map((name) => `DNS:${name}`),
    ...['127.0.0.1', '::1', node.ip].map((ip) => `IP:${ip}`),
  ];
  const both = ['serverAuth', 'clientAuth'] as const;
  const client = ['clientAuth'] as const;
  const masters = '/O=kubeadm:cluster-admins';
  await Promise.all([
    makeCertificate(etcd, { dir: etcd, name: 'server', subject: `/CN=${node.hostname}`, usages: both, names }),
    makeCertificate(etcd, { dir: etcd, name: 'peer', subject: `/CN=${node.hostname}`, usages: both, names }),
    makeCertificate(etcd, {
      dir: etcd,
      name: 'healthcheck-client',
      subject: '/CN=kube-etcd-healthcheck-client',
      usages: client,
      names: [],
    }),
    makeCertificate(etcd, {
      dir: node.dir,
      name: 'apiserver-etcd-client',
      subject: `${masters}/CN=kube-apiserver-etcd-client`,
      usages: client,
      names: [],
    }),
    makeCertificate(node.dir, {
      dir: node.dir,
      name: 'apiserver',
      subject: '/CN=kube-apiserver',
      usages: ['serverAuth'],
      // Not the loopback: kubeadm gives it none.
      names: [...API_SERVER_NAMES, `DNS:${node.hostname}`, `IP:${node.ip}`],
    }),
    makeCertificate(node.dir, {
      dir: node.dir,
      name: 'apiserver-kubelet-client',
      subject: `${masters}/CN=kube-apiserver-kubelet-client`,
      usages: client,
      names: [],
    }),
  ]);
};

// kubeadm's kubeconfig files for people and components of a control plane, with the subjects of their certificates.
const KUBECONFIGS = {
  admin: { user: 'kubernetes-admin', subject: '/O=kubeadm:cluster-admins/CN=kubernetes-admin' },
  'controller-manager': { user: 'system:kube-controller-manager', subject: '/CN=system:kube-controller-manager' },
  scheduler: { user: 'system:kube-scheduler', subject: '/CN=system:kube-scheduler' },
} as const;

/** Writes the node's kubeconfig files into `dir`, its /etc/kubernetes, with certificates of the CA in `dir`/pki. */
export const makeKubeconfigs = async (dir: string, ip: string): Promise<void> => {
  const pki = join(dir, 'pki');
  const ca = await readFile(join(pki, 'ca.crt'), 'utf8');
  const work = await mkdtemp(join(dir, '.kubeconfig-'));
  await Promise.all(
    Object.entries(KUBECONFIGS).map(async ([name, { user, subject }]) => {
      await makeCertificate(pki, { dir: work, name, subject, usages: ['clientAuth'], names: [] });
      const certificate = await readFile(join(work, `${name}.crt`), 'utf8');
      const key = await readFile(join(work, `${name}.key`), 'utf8');
      await write(join(dir, `${name}.conf`), kubeconfig(ip, user, ca, certificate, key), 0o600);
    }),
  );
  await rm(work, { recursive: true });
};
