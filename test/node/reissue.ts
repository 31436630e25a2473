import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabNode } from '../../lab/nodes/lab-node';

function openssl(...argv: string[]): void {
  execFileSync('openssl', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Replaces a node's certificate by another one of the same key, signed by the CA whose path this is without `.crt`. `end`: YYYYMMDDhhmmssZ. */
export function reissue(
  node: LabNode,
  certificate: string,
  {
    usage,
    end,
    ca = '/etc/kubernetes/pki/etcd/ca',
  }: { readonly usage: string; readonly end: string; readonly ca?: string },
): void {
  const file = node.path(certificate);
  const key = file.replace(/crt$/, 'key');
  const folder = node.path('/tmp/reissue');
  mkdirSync(folder, { recursive: true });
  const config = join(folder, 'ca.cnf');
  writeFileSync(
    config,
    `[ca]\ndefault_ca=d\n[d]\ndatabase=${folder}/index\nnew_certs_dir=${folder}\nserial=${folder}/serial\ndefault_md=sha256\npolicy=p\nx509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nextendedKeyUsage=${usage}\n`,
  );
  writeFileSync(join(folder, 'index'), '');
  writeFileSync(join(folder, 'serial'), '1000\n');
  openssl('req', '-new', '-key', key, '-subj', '/CN=lab', '-out', join(folder, 'csr'));
  openssl(
    ...['ca', '-batch', '-config', config, '-cert', node.path(`${ca}.crt`), '-keyfile', node.path(`${ca}.key`)],
    ...['-in', join(folder, 'csr')],
    ...['-startdate', '20200101000000Z', '-enddate', end, '-notext', '-out', join(folder, 'crt')],
  );
  copyFileSync(join(folder, 'crt'), file);
  rmSync(folder, { recursive: true });
}
