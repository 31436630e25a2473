import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './run';

const CA_DAYS = 3650;
const CERTIFICATE_DAYS = 365;

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
  ]);
};
