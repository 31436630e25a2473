import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
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
    ['Headers', { Headers: 'if-none-match: *' }],
  ])('is neither announced nor stored with %s alone', async (_name, parameters) => {
    expect(await run(parameters)).toMatchObject({ code: 11, result: { error: 'bad-parameter' } });
  });
});

test('a header that would have another host take the bundle is refused', async () => {
  const parameters = { ...toSink('a'.repeat(64)), Headers: 'if-none-match: *|host: elsewhere.example' };
  expect(await run(parameters)).toMatchObject({
    code: 11,
    result: { error: 'bad-parameter', message: expect.stringContaining('parameter Headers is') as string },
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

describe('a control plane that is gone is rebuilt with the commands of docs/restore.md', () => {
  const page = readFileSync(join(__dirname, '..', '..', 'docs', 'restore.md'), 'utf8');
  const [, after = ''] = page.split('\n## Rebuilding from nothing with the PKI bundle\n');
  const [section = ''] = after.split('\n## ');
  const commands = [...section.matchAll(/^ *```bash\n(.*?)^ *```$/gms)].map(([, text = '']) => text);
  const SBIN = '/opt/lab/sbin';
  const WORK = '/root/rebuild';
  const BUCKET = 'etcd-backup-lab';
  const ELSEWHERE = ['etc/audit-policy.yaml', 'opt/secrets/enc.yaml'];
  const FOLDERS = ['etc/kubernetes', 'var/lib/kubelet/pki', 'srv/sni'];
  const FILES = [...ELSEWHERE, 'srv/certificates', 'var/lib/kubelet/config.yaml', 'var/lib/kubelet/kubeadm-flags.env'];
  const files: Record<string, string> = {};
  let identity: Record<'clusterCaSha256' | 'etcdCaSha256' | 'saPubSha256' | 'encryptionConfigSha256', string>;
  let bundle: Buffer;

  beforeAll(async () => {
    // What kubeadm makes beside what the lab needs.
    const frontProxy = `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=front-proxy-ca -days 9 -keyout ${PKI}/front-proxy-ca.key -out ${PKI}/front-proxy-ca.crt`;
    expect((await node.exec(['bash', '-c', frontProxy])).code).toBe(0);
    // From here on what becomes of the node's files is nobody's business but ours.
    expect((await node.exec(['systemctl', 'stop', 'kubelet'])).code).toBe(0);
    bundle = await made(TEXT);
    const certificate = (name: string) => sha256(new X509Certificate(readFileSync(node.path(name))).raw);
    identity = {
      clusterCaSha256: certificate(`${PKI}/ca.crt`),
      etcdCaSha256: certificate(`${PKI}/etcd/ca.crt`),
      saPubSha256: sha256(readFileSync(node.path(`${PKI}/sa.pub`))),
      encryptionConfigSha256: sha256(readFileSync(node.path('/opt/secrets/enc.yaml'))),
    };
    for (const folder of FOLDERS) {
      Object.assign(files, describeTree(node.path('/'), folder));
    }
    for (const name of FILES) {
      files[name] = describeFile(node.path(`/${name}`));
    }
    // S3 and kubeadm are not here: of the one there is what was stored, of the other where it leaves manifests.
    write(
      `${SBIN}/aws`,
      `#!/bin/bash
printf '%s\\n' "$*" >>/tmp/said
case $1/$2 in
  s3api/list-object-versions) printf 'pki/${BUNDLE_ID}.tar.zst\\tv1\\t1\\t2026-11-21T03:20:09+00:00\\n' ;;
  s3api/get-object) cat /tmp/stored >"\${!#}" ;;
  *) exit 252 ;;
esac
`,
      { mode: 0o755 },
    );
    write(
      `${SBIN}/kubeadm`,
      `#!/bin/bash
printf 'kubeadm %s\\n' "$*" >>/tmp/said
[[ $* != 'init phase '@(control-plane|etcd)* ]] || { mkdir -p /etc/kubernetes/manifests && : >"/etc/kubernetes/manifests/$3.yaml"; }
`,
      { mode: 0o755 },
    );
  });

  afterAll(() => {
    for (const name of ['aws', 'kubeadm']) {
      rmSync(node.path(`${SBIN}/${name}`));
    }
  });

  beforeEach(() => {
    for (const name of ['/tmp/said', '/tmp/stored', WORK]) {
      rmSync(node.path(name), { recursive: true, force: true });
    }
    write('/tmp/stored', '');
    writeFileSync(node.path('/tmp/stored'), bundle);
  });

  /** The bundle as the script stores it. */
  async function made(text: string): Promise<Buffer> {
    const { result } = await run({}, text);
    received = [];
    expect(await run(toSink(result.sha256), text)).toMatchObject({ code: 0 });
    return received[0]?.body ?? Buffer.alloc(0);
  }

  const said = () => readFileSync(node.path('/tmp/said'), 'utf8').trimEnd().split('\n');

  /** Runs these commands as somebody pastes them into one shell, each only when the one before succeeded. Returns what they wrote to stdout. */
  async function paste(...texts: readonly string[]): Promise<string> {
    const values: Readonly<Record<string, string>> = {
      bucket: BUCKET,
      id: BUNDLE_ID,
      version: 'v1',
      sha256: sha256(bundle),
      'file of --encryption-provider-config': 'opt/secrets/enc.yaml',
      'files that lie elsewhere, as tar -t names them': ELSEWHERE.join(' '),
    };
    const script = texts.join('').replace(/<([^<>]+)>/g, (whole, name: string) => values[name] ?? whole);
    expect(script.replace(/ # .*$/gm, '')).not.toMatch(/<[^(]/);
    const { code, stdout, stderr } = await node.exec(['bash', '-e', '-o', 'pipefail', '-c', script], {
      timeoutMs: 120_000,
    });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    return stdout;
  }

  const [download = '', compare = '', same = '', other = ''] = commands;

  const withReceipt = (text: string) => `printf '%s' '${JSON.stringify({ identity })}' >receipt.json\n${text}`;

  /** As the machine is that nobody has set up yet. */
  function blank(): void {
    for (const name of [...FOLDERS, ...FILES, 'opt/secrets']) {
      rmSync(node.path(`/${name}`), { recursive: true, force: true });
    }
  }

  const restored = () =>
    Object.fromEntries(
      Object.keys(files).flatMap((name) => {
        try {
          return [[name, describeFile(node.path(`/${name}`))]];
        } catch {
          return [];
        }
      }),
    );

  test('there are four parts: to get it, to hold it against the receipt, and to put it into place on the same or another machine', () => {
    expect(commands).toHaveLength(4);
  });

  test('it is got by its version, held against the hash of its metadata, and unpacked beside the machine', async () => {
    const out = await paste(download);
    expect(said()).toEqual([
      `s3api list-object-versions --bucket ${BUCKET} --prefix pki/ --query Versions[].[Key,VersionId,Size,LastModified] --output text`,
      `s3api get-object --bucket ${BUCKET} --key pki/${BUNDLE_ID}.tar.zst --version-id v1 --checksum-mode ENABLED bundle.tar.zst`,
    ]);
    expect(out).toContain('bundle.tar.zst: OK');
    const look = describeTree(node.path(`${WORK}/look`));
    const { [`${PKI.slice(1)}/large.bin`]: large, ...expected } = files;
    expect(large).toBeDefined();
    expect(look).toMatchObject(expected);
    expect(lstatSync(node.path(WORK)).mode & 0o077).toBe(0);
    expect(lstatSync(node.path(`${WORK}/bundle.tar`)).mode & 0o077).toBe(0);
  });

  test('other bytes than the metadata say are not unpacked', async () => {
    // With a frame at its end that zstd skips: unpacked it would be the same.
    writeFileSync(node.path('/tmp/stored'), Buffer.concat([bundle, Buffer.from('502a4d1800000000', 'hex')]));
    await expect(paste(download)).rejects.toThrow();
    expect(existsSync(node.path(`${WORK}/look`))).toBe(false);
  });

  test('one that was packed with gzip is got as the comment says', async () => {
    const packed = bundle;
    bundle = await made(TEXT.replace('type -P zstd', 'type -P no-such-zstd'));
    writeFileSync(node.path('/tmp/stored'), bundle);
    try {
      const [, instead = ''] = /# a \.tar\.gz: (.*)$/m.exec(download) ?? [];
      expect(instead).toBe('gunzip bundle.tar.gz');
      await paste(download.replaceAll('.tar.zst', '.tar.gz').replace(/zstd -d bundle\.tar\.gz.*$/m, instead));
      expect(describeTree(node.path(`${WORK}/look`))).toHaveProperty(['etc/kubernetes/pki/ca.key']);
    } finally {
      bundle = packed;
    }
  });

  test('its fingerprints are those of the receipt, its keys those of its certificates, and what else is in it is shown', async () => {
    const lines = (await paste(download, withReceipt(compare))).split('\n');
    const hashes = lines.flatMap((line) => /^([0-9a-f]{64}) /.exec(line)?.[1] ?? []);
    const { clusterCaSha256, etcdCaSha256, saPubSha256, encryptionConfigSha256 } = identity;
    expect(hashes.slice(0, 4)).toEqual([clusterCaSha256, etcdCaSha256, saPubSha256, encryptionConfigSha256]);
    const [ca, caKey, etcdCa, etcdCaKey, frontProxy, frontProxyKey, serviceAccount] = hashes.slice(4);
    expect([ca, etcdCa, frontProxy, serviceAccount]).toEqual([caKey, etcdCaKey, frontProxyKey, saPubSha256]);
    expect(new Set([ca, etcdCa, frontProxy]).size).toBe(3);
    for (const [name, hash] of Object.entries(identity)) {
      expect(lines.join('\n')).toContain(`"${name}": "${hash}"`);
    }
    const outside = lines.filter((line) => /^(etc|opt|srv|var)\//.test(line)).filter((line) => !line.endsWith('/'));
    // What tar -tvf has said before is not at the beginning of a line.
    expect(outside.sort()).toEqual([
      'etc/audit-policy.yaml',
      'opt/secrets/enc.yaml',
      'srv/certificates',
      'srv/sni/sni.crt',
    ]);
    expect(lines.join('\n')).toMatch(/manifests\/kube-apiserver\.yaml:\d+: +- --encryption-provider-config=/);
  });

  test('a CA key that is not its certificate’s shows', async () => {
    const swap = `cp look/${PKI.slice(1)}/etcd/ca.key look/${PKI.slice(1)}/ca.key\n`;
    const lines = (await paste(download, swap, withReceipt(compare))).split('\n');
    const [ca, caKey] = lines.flatMap((line) => /^([0-9a-f]{64}) /.exec(line)?.[1] ?? []).slice(4);
    expect(ca).not.toBe(caKey);
  });

  test('on a machine of the same name and address all of it goes into place, and no control plane starts', async () => {
    blank();
    await paste(download, same);
    const moved = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
    const expected = Object.fromEntries(
      Object.entries(files).flatMap(([name, about]) => {
        const isMoved = moved.some((component) => name === `etc/kubernetes/manifests/${component}.yaml`);
        return name.endsWith('/large.bin') || isMoved ? [] : [[name, about]];
      }),
    );
    expect(restored()).toEqual(expected);
    for (const component of moved) {
      expect(describeFile(node.path(`/etc/kubernetes/aside/${component}.yaml`))).toBe(
        files[`etc/kubernetes/manifests/${component}.yaml`],
      );
    }
    expect(said().slice(2)).toEqual([`kubeadm certs check-expiration --cert-dir ${PKI}`]);
  });

  test('on another machine only what all nodes share does, before kubeadm makes the rest', async () => {
    blank();
    await paste(download, other);
    const shared = [
      ...[
        'ca.crt',
        'ca.key',
        'sa.key',
        'sa.pub',
        'front-proxy-ca.crt',
        'front-proxy-ca.key',
        'etcd/ca.crt',
        'etcd/ca.key',
      ].map((name) => `${PKI.slice(1)}/${name}`),
      ...ELSEWHERE,
    ];
    const found = Object.entries(restored()).filter(([, about]) => !about.startsWith('4'));
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(shared.map((name) => [name, files[name]])));
    // Folders that only tar made can be passed by who is not root, as kubeadm makes them.
    expect(['/etc/kubernetes', PKI, '/opt/secrets'].map((name) => lstatSync(node.path(name)).mode & 0o777)).toEqual([
      0o755, 0o755, 0o755,
    ]);
    expect(readdirSync(node.path('/etc/kubernetes/manifests'))).toEqual([]);
    expect(readdirSync(node.path('/etc/kubernetes/aside')).sort()).toEqual(['control-plane.yaml', 'etcd.yaml']);
    expect(said().slice(2)).toEqual([
      'kubeadm init phase certs all --config kubeadm.yaml',
      'kubeadm init phase kubeconfig all --config kubeadm.yaml',
      'kubeadm init phase control-plane all --config kubeadm.yaml',
      'kubeadm init phase etcd local --config kubeadm.yaml',
      'kubeadm init phase kubelet-start --config kubeadm.yaml',
    ]);
  });
});
