import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { scriptLines } from '../../lib/script-document';

const BUNDLE_ID = '20261121T032000Z';
const STAGING = '/var/lib/etcd-backup/staging';
const JOURNAL = '/var/lib/etcd-backup/restore/journal';
const PKI = '/etc/kubernetes/pki';
const MANIFEST = '/etc/kubernetes/manifests/kube-apiserver.yaml';
const TEXT = `${scriptLines('pki').join('\n')}\n`;

let cluster: ControlPlane;
let node: LabNode;
let sink: Server;
let dir: string;
/** What the sink was sent; what it answers with. */
let received: { readonly body: Buffer; readonly headers: Record<string, unknown> }[] = [];
let status = 200;

function write(path: string, text: string, { mode = 0o600, owner = 0 } = {}): void {
  const file = node.path(path);
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  writeFileSync(file, text);
  chmodSync(file, mode);
  chownSync(file, owner, owner);
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'pki-'));
  sink = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      received.push({ body: Buffer.concat(chunks), headers: request.headers });
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => sink.listen(0, '127.0.0.1', resolve));
  cluster = await startControlPlane({ name: 'pki36', members: 1, etcd: '3.6' });
  node = cluster.nodes[0] as LabNode;
  await node.forward((sink.address() as AddressInfo).port);

  // As clusters have it that were looked after: encryption, audit and admission configured, each elsewhere, and a log.
  const encryption = readFileSync(node.path('/etc/kubernetes/enc/enc.yaml'), 'utf8');
  rmSync(node.path('/etc/kubernetes/enc'), { recursive: true });
  write('/opt/secrets/enc.yaml', encryption, { mode: 0o640, owner: 998 });
  write('/opt/secrets/not-named', 'nobody names this file');
  write('/etc/audit-policy.yaml', 'kind: Policy\n', { mode: 0o644 });
  write('/etc/kubernetes/admission/admission.yaml', 'path: pod-security.yaml\n');
  write('/etc/kubernetes/admission/pod-security.yaml', 'kind: PodSecurityConfiguration\n');
  write('/var/log/audit/audit.log', '{"kind":"Event"}\n');
  const manifest = readFileSync(node.path(MANIFEST), 'utf8')
    .replace(
      '    - --etcd-cafile=',
      [
        '    - --audit-policy-file',
        '    - "/policy/audit-policy.yaml"',
        '    - --audit-log-path=/var/log/audit/audit.log',
        '    - --admission-control-config-file=/etc/kubernetes/admission/admission.yaml',
        '    - --tls-sni-cert-key=/etc/kubernetes/pki/sni.crt,/etc/kubernetes/pki/gone.key:example.com',
        '    - --authorization-always-allow-paths=/healthz,/readyz',
        '    - --etcd-cafile=',
      ].join('\n'),
    )
    .replace('path: /etc/kubernetes/enc\n', 'path: /opt/secrets\n')
    .replace(
      '    volumeMounts:\n',
      [
        '    volumeMounts:',
        '    - mountPath: /policy/audit-policy.yaml\n      name: policy',
        '    - mountPath: /var/log/audit\n      name: log',
        '    - mountPath: /etc/kubernetes/admission\n      name: admission\n',
      ].join('\n'),
    )
    .replace(
      '  volumes:\n',
      [
        '  volumes:',
        '  - hostPath:\n      path: /etc/audit-policy.yaml\n      type: File\n    name: policy',
        '  - hostPath:\n      path: /var/log/audit\n      type: DirectoryOrCreate\n    name: log',
        '  - hostPath:\n      path: /etc/kubernetes/admission\n      type: DirectoryOrCreate\n    name: admission\n',
      ].join('\n'),
    );
  writeFileSync(node.path(MANIFEST), manifest);

  // What the kubelet turns by itself, a folder that is a link, and a name that nobody should have.
  write('/var/lib/kubelet/pki/kubelet-client-2026-11-20.pem', 'a certificate and its key\n');
  symlinkSync('kubelet-client-2026-11-20.pem', node.path('/var/lib/kubelet/pki/kubelet-client-current.pem'));
  write('/var/lib/kubelet/kubeadm-flags.env', 'KUBELET_KUBEADM_ARGS=""\n', { mode: 0o644 });
  write(
    '/etc/kubernetes/kubelet.conf',
    'users:\n- name: default-auth\n  user:\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n',
  );
  write('/srv/sni/sni.crt', 'a certificate\n', { mode: 0o444, owner: 1234 });
  symlinkSync('/srv/sni', node.path('/srv/certificates'));
  symlinkSync('../../../srv/certificates/sni.crt', node.path(`${PKI}/sni.crt`));
  write(`${PKI}/.a name "with" $(everything) — in it`, 'x');
  write(`${PKI}/large.bin`, 'x'.repeat(1024 * 1024 + 1));
  for (const name of ['kube-controller-manager', 'kube-scheduler', 'kube-vip']) {
    write(`/etc/kubernetes/manifests/${name}.yaml`, 'kind: Pod\nmetadata:\n  annotations:\n    lab/run: "never"\n');
  }
  for (const name of ['admin', 'controller-manager', 'scheduler']) {
    write(`/etc/kubernetes/${name}.conf`, 'kind: Config\n');
  }
});

afterAll(async () => {
  await cluster.down();
  await new Promise((resolve) => sink.close(resolve));
  rmSync(dir, { recursive: true });
});

beforeEach(() => {
  received = [];
  status = 200;
});

function environment(parameters: Readonly<Record<string, string>>): Record<string, string> {
  const all = { BundleId: BUNDLE_ID, Sha256: '', Url: '', Headers: '', ...parameters };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [`SSM_${name}`, value]));
}

async function run(parameters: Readonly<Record<string, string>> = {}, text = TEXT) {
  const { code, stdout, stderr } = await node.exec(['bash', '-c', text], {
    env: environment(parameters),
    timeoutMs: 120_000,
  });
  expect(existsSync(node.path(STAGING))).toBe(false);
  return { code, result: JSON.parse(stdout) as Record<string, unknown>, stdout, stderr };
}

function toSink(Sha256: unknown): Record<string, string> {
  return {
    Sha256: String(Sha256),
    Url: `http://127.0.0.1:${String((sink.address() as AddressInfo).port)}/pki?X-Amz-Signature=0`,
    Headers: 'if-none-match: *|x-amz-meta-cluster: lab',
  };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** What there is to one file: type and mode, owner, and its bytes or where it leads. */
function describeFile(file: string): string {
  const about = lstatSync(file);
  const owner = `${String(about.uid)}:${String(about.gid)}`;
  if (about.isSymbolicLink()) {
    return `-> ${readlinkSync(file)} ${owner}`;
  }
  return `${about.mode.toString(8)} ${owner} ${about.isDirectory() ? '' : sha256(readFileSync(file))}`;
}

/** The same of everything under a folder, by its path from `root`. */
function describeTree(root: string, folder = ''): Record<string, string> {
  return Object.fromEntries(
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => {
      const path = join(folder, name);
      return [path, describeFile(join(root, path))];
    }),
  );
}

describe('a bundle', () => {
  let announced: Awaited<ReturnType<typeof run>>;

  beforeAll(async () => {
    announced = await run();
  });

  test('is announced, then stored, and unpacks to what the node has, byte for byte, with modes and owners', async () => {
    expect(announced.result).toMatchObject({
      ok: true,
      bundleId: BUNDLE_ID,
      node: node.name,
      compression: 'zstd',
      missing: [`${PKI}/gone.key`],
      leftOut: [`${PKI}/large.bin`],
    });
    const stored = await run(toSink(announced.result.sha256));
    expect(stored).toMatchObject({
      code: 0,
      result: { ok: true, bundleId: BUNDLE_ID, size: announced.result.size, attempts: 1 },
    });
    expect(received.map(({ body }) => sha256(body))).toEqual([announced.result.sha256]);
    expect(received[0]?.headers).toMatchObject({ 'if-none-match': '*', 'x-amz-meta-cluster': 'lab' });

    const archive = join(dir, 'bundle.tar.zst');
    const unpacked = join(dir, 'unpacked');
    writeFileSync(archive, received[0]?.body ?? '');
    mkdirSync(unpacked);
    execFileSync('tar', ['-xp', '--zstd', '--numeric-owner', '-C', unpacked, '-f', archive]);
    const found = describeTree(unpacked);
    const { [PKI.slice(1) + '/large.bin']: large, ...pki } = describeTree(node.path('/'), PKI.slice(1));
    expect(large).toBeDefined();
    expect(Object.keys(pki).length).toBeGreaterThan(15);
    expect(found).toMatchObject(pki);
    const others = [
      'etc/audit-policy.yaml',
      'etc/kubernetes',
      'etc/kubernetes/admin.conf',
      'etc/kubernetes/admission',
      'etc/kubernetes/admission/admission.yaml',
      'etc/kubernetes/admission/pod-security.yaml',
      'etc/kubernetes/controller-manager.conf',
      'etc/kubernetes/kubelet.conf',
      'etc/kubernetes/manifests',
      ...['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-vip'].map(
        (name) => `etc/kubernetes/manifests/${name}.yaml`,
      ),
      PKI.slice(1),
      'etc/kubernetes/scheduler.conf',
      'opt/secrets',
      'opt/secrets/enc.yaml',
      'srv/certificates',
      'srv/sni',
      'srv/sni/sni.crt',
      'var/lib/kubelet',
      'var/lib/kubelet/config.yaml',
      'var/lib/kubelet/kubeadm-flags.env',
      'var/lib/kubelet/pki',
      'var/lib/kubelet/pki/kubelet-client-2026-11-20.pem',
      'var/lib/kubelet/pki/kubelet-client-current.pem',
    ];
    expect(found).toMatchObject(Object.fromEntries(others.map((path) => [path, describeFile(node.path(path))])));
    // Nothing else: no file that is not named, no log, no data of etcd. Folders of every machine have no mode of theirs in it.
    const folders = ['etc', 'opt', 'srv', 'var', 'var/lib'];
    expect(Object.keys(found).sort()).toEqual([...Object.keys(pki), ...others, ...folders].sort());
  });

  test('says nothing of what is in it, but the names of files', async () => {
    const { stdout, stderr } = await run(toSink('0'.repeat(64)));
    const secret = /secret: (\S+)/.exec(readFileSync(node.path('/opt/secrets/enc.yaml'), 'utf8'))?.[1] ?? '';
    const [, line] = readFileSync(node.path(`${PKI}/ca.key`), 'utf8').split('\n');
    expect(secret.length).toBeGreaterThan(20);
    expect(stdout + stderr).not.toContain(secret);
    expect(stdout + stderr).not.toContain(line);
    expect(stdout + stderr).not.toMatch(/PRIVATE|BEGIN|X-Amz-Signature/);
    expect(stdout.length).toBeLessThan(1000);
    expect(received).toEqual([]);
  });

  test('is packed with gzip where the node has no zstd, the same bytes each time', async () => {
    const text = TEXT.replace('type -P zstd', 'type -P no-such-zstd');
    const first = await run({}, text);
    expect(first.result).toMatchObject({ ok: true, compression: 'gzip' });
    expect((await run({}, text)).result).toMatchObject({ sha256: first.result.sha256 });
  });

  test('that S3 refuses says so', async () => {
    status = 403;
    expect(await run(toSink(announced.result.sha256))).toMatchObject({ code: 70, result: { error: 'upload-refused' } });
  });

  test('that is another one than was announced is not sent', async () => {
    const { result } = announced;
    write(`${PKI}/apiserver.key`, 'renewed meanwhile\n');
    expect(await run(toSink(result.sha256))).toMatchObject({ code: 74, result: { error: 'nothing-staged' } });
    expect(received).toEqual([]);
  });

  test('is not made while a restore is under way', async () => {
    write(JOURNAL, 'restore 20261121T031500Z\n');
    try {
      expect(await run()).toMatchObject({ code: 13, result: { error: 'restore-running' } });
    } finally {
      rmSync(node.path(dirname(JOURNAL)), { recursive: true });
    }
  });

  test('is not made of a folder that holds anything but configuration', async () => {
    const text = TEXT.replace('BUNDLE_LIMIT_ENTRIES=1000', 'BUNDLE_LIMIT_ENTRIES=20');
    expect(await run({}, text)).toMatchObject({ code: 64, result: { error: 'too-large' } });
    symlinkSync('/etc/kubernetes/pki', node.path(`${PKI}/circle`));
    try {
      expect(await run()).toMatchObject({ code: 64, result: { error: 'too-large' } });
    } finally {
      rmSync(node.path(`${PKI}/circle`));
    }
  });

  test.each([
    ['Sha256', { Sha256: 'a'.repeat(64) }],
    ['Url', { Url: 'http://127.0.0.1:1/' }],
    ['Headers', { Headers: 'a: b' }],
  ])('is neither announced nor stored with %s alone', async (_name, parameters) => {
    expect(await run(parameters)).toMatchObject({ code: 11, result: { error: 'bad-parameter' } });
  });
});

describe('a run that is killed', () => {
  const SBIN = '/opt/lab/sbin';
  let sha256Now: unknown;

  beforeAll(async () => {
    sha256Now = (await run()).result.sha256;
  });

  /** Runs the script with a program in place of another, which says that it was reached and then hangs, and kills all of it there. */
  async function killedAt(program: 'tar' | 'curl', signal: 'SIGKILL' | 'SIGTERM') {
    write(`${SBIN}/${program}`, '#!/bin/bash\n: >/tmp/reached\nexec sleep 60\n', { mode: 0o755 });
    const child = node.spawn(['bash', '-c', TEXT], { env: environment(toSink(sha256Now)) });
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdin.end();
    child.stdout.resume();
    child.stderr.resume();
    try {
      const deadline = Date.now() + 60_000;
      while (!existsSync(node.path('/tmp/reached')) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      expect(existsSync(node.path('/tmp/reached'))).toBe(true);
      process.kill(-(child.pid ?? 0), signal);
      await ended;
    } finally {
      rmSync(node.path(`${SBIN}/${program}`));
      rmSync(node.path('/tmp/reached'), { force: true });
    }
  }

  test.each(['tar', 'curl'] as const)('in %s leaves what only root can read', async (program) => {
    await killedAt(program, 'SIGKILL');
    expect(readdirSync(node.path(STAGING))).toEqual(['pki']);
    expect(lstatSync(node.path(STAGING)).mode & 0o077).toBe(0);
  });

  test('is cleaned up after by the next one', async () => {
    expect(readdirSync(node.path(STAGING))).toEqual(['pki']);
    expect((await run()).result).toMatchObject({ ok: true, sha256: sha256Now });
  });

  test('by a signal that can be caught leaves nothing', async () => {
    await killedAt('curl', 'SIGTERM');
    expect(existsSync(node.path(STAGING))).toBe(false);
  });
});
