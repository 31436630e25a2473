import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import { type ControlPlane, startControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { reissue } from './reissue';
import { BACKUP_ID, runScript, scriptEnvironment, scriptText } from './run-script';

const RESTORE_ID = '20261120T135900Z';
const PKI = '/etc/kubernetes/pki';
const MANIFEST = '/etc/kubernetes/manifests/etcd.yaml';
const HOME = '/var/lib/etcd-backup';
const TLS = [
  `--cacert=${PKI}/etcd/ca.crt`,
  `--cert=${PKI}/etcd/healthcheck-client.crt`,
  `--key=${PKI}/etcd/healthcheck-client.key`,
];

let cluster: ControlPlane;
let cp1: LabNode;
let cp2: LabNode;
let cp3: LabNode;

beforeAll(async () => {
  cluster = await startControlPlane({ name: 'snap36', members: 3, etcd: '3.6', etcdutlInImage: true });
  [cp1, cp2, cp3] = cluster.nodes as [LabNode, LabNode, LabNode];
  for (let i = 0; i < 20; i += 1) {
    await cp1.etcdctl(['put', `/registry/configmaps/default/object-${String(i)}`, 'x'.repeat(10_000)]);
  }
});

afterAll(async () => {
  await cluster.down();
});

function staged(node: LabNode): string[] {
  const folder = node.path(`${HOME}/staging`);
  return existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [];
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Changes files of a node for the time of one check and puts them back byte for byte. */
async function withFiles(node: LabNode, paths: readonly string[], work: () => Promise<void>): Promise<void> {
  const kept = paths.map((path) => ({ path: node.path(path), bytes: readFileSync(node.path(path)) }));
  try {
    await work();
  } finally {
    for (const { path, bytes } of kept) {
      writeFileSync(path, bytes);
    }
  }
}

const CLIENT_CERTIFICATES = ['etcd/healthcheck-client', 'apiserver-etcd-client', 'etcd/server'].map(
  (name) => `${PKI}/${name}.crt`,
);

describe('a snapshot on a node', () => {
  test('is saved, proven, compressed and described in one line', async () => {
    const { code, result } = await runScript(cp1, 'snapshot', { parameters: { MembersBefore: '3' } });
    expect(result).toMatchObject({
      ok: true,
      backupId: BACKUP_ID,
      compression: 'zstd',
      memberName: cp1.name,
      kubernetesVersion: 'v1.33.1',
      alarms: [],
      findings: [],
    });
    expect(code).toBe(0);
    const packed = readFileSync(cp1.path(String(result.file)));
    expect(sha256(packed)).toBe(result.compressedSha256);
    const snapshot = zstdDecompressSync(packed);
    expect(sha256(snapshot)).toBe(result.sha256);
    expect(snapshot.length).toBe(result.size);
    // etcd's own tool, outside of the script, on the bytes that would be uploaded.
    writeFileSync(cp1.path('/tmp/check.db'), snapshot);
    const status = await cp1.exec([`${cp1.imageBin}/etcdutl`, 'snapshot', 'status', '-w', 'json', '/tmp/check.db']);
    const { hash, revision, totalKey, totalSize } = JSON.parse(status.stdout) as Record<string, number>;
    expect(result).toMatchObject({ hash, revision, totalKey, totalSize });
    expect((result.members as { name: string }[]).map(({ name }) => name).sort()).toEqual(
      cluster.nodes.map(({ name }) => name),
    );
    expect(Object.values(result.identity as Record<string, string>)).toEqual(
      Array(4).fill(expect.stringMatching(/^[0-9a-f]{64}$/)),
    );
    expect(staged(cp1).sort()).toEqual([BACKUP_ID, `${BACKUP_ID}/ready`, `${BACKUP_ID}/snapshot.db.zst`]);
  });

  test('works on leader and followers alike', async () => {
    for (const node of cluster.nodes) {
      const { result } = await runScript(node, 'snapshot');
      expect(result).toMatchObject({ ok: true, memberName: node.name });
    }
  });

  test("is not disturbed by ETCDCTL_ variables in root's environment", async () => {
    const environment = {
      ETCDCTL_ENDPOINTS: 'http://127.0.0.1:1',
      ETCDCTL_CACERT: '/nowhere',
      ETCDCTL_WRITE_OUT: 'table',
      ETCDCTL_USER: 'a:b',
    };
    expect((await runScript(cp1, 'snapshot', { environment })).result).toMatchObject({ ok: true });
  });

  test('is compressed with gzip where the node has no zstd', async () => {
    // The script's PATH is fixed: a tmpfs over zstd's place is what a node without it looks like.
    const text = scriptText('snapshot').replace('type -P zstd', 'type -P no-such-zstd');
    const outcome = await cp1.exec(['bash', '-c', text], { env: scriptEnvironment('snapshot'), timeoutMs: 60_000 });
    const result = JSON.parse(outcome.stdout) as Record<string, unknown>;
    expect(result).toMatchObject({ ok: true, compression: 'gzip' });
    const unpacked = execFileSync('gzip', ['-dc', cp1.path(String(result.file))], { maxBuffer: 1e9 });
    expect(sha256(unpacked)).toBe(result.sha256);
  });

  describe('beside another etcd on the host', () => {
    const URLS = [
      '--listen-client-urls=http://127.0.0.1:4379',
      '--advertise-client-urls=http://127.0.0.1:4379',
      '--listen-peer-urls=http://127.0.0.1:4380',
      '--initial-advertise-peer-urls=http://127.0.0.1:4380',
    ];

    // `wrap` is put before the binary, which is called etcd as any user's may be.
    async function besides(wrap: string[], name: string, dataDir: string, work: () => Promise<void>): Promise<void> {
      await cp2.must([
        'bash',
        '-c',
        `mkdir -p /tmp/other && cp ${cp2.imageBin}/etcd /tmp/other/etcd && chmod 755 /tmp/other`,
      ]);
      const other = cp2.spawn([
        ...wrap,
        '/tmp/other/etcd',
        `--name=${name}`,
        `--data-dir=${dataDir}`,
        ...URLS,
        `--initial-cluster=${name}=http://127.0.0.1:4380`,
      ]);
      try {
        const script =
          'for i in {1..100}; do (: </dev/tcp/127.0.0.1/4379) 2>/dev/null && exit; sleep 0.1; done; exit 1';
        await cp2.must(['bash', '-c', script]);
        await work();
      } finally {
        process.kill(-(other.pid ?? 0), 'SIGKILL');
        await cp2.must(['rm', '-rf', '/tmp/other']);
      }
    }

    async function expectOurs(): Promise<void> {
      const { result } = await runScript(cp2, 'snapshot', { parameters: { MembersBefore: '3' } });
      expect(result).toMatchObject({ ok: true, memberName: cp2.name, hostDataDir: '/var/lib/etcd' });
    }

    test('finds the one of the manifest: the other has a name and a folder of its own', async () => {
      await besides([], 'other', '/tmp/other/data', expectOurs);
    });

    test('finds the one of the manifest: the other has the same name and data directory, over other data', async () => {
      const mount = 'mkdir -p /tmp/other/twin && mount --bind /tmp/other/twin /var/lib/etcd && exec "$@"';
      await besides(['unshare', '--mount', '--', 'bash', '-c', mount, 'bash'], 'cp2', '/var/lib/etcd', expectOurs);
    });

    test('takes no process of an ordinary user for the kubelet or for etcd, whatever it says of itself', async () => {
      await cp2.must(['install', '-d', '-m', '0777', '/tmp/users']);
      // comm is the name of what was executed, so each is a copy of bash under that name.
      const pretend = (name: string, ...flags: string[]) =>
        cp2.spawn([
          ...['setpriv', '--reuid=65534', '--clear-groups', 'bash', '-c'],
          `cp /usr/bin/bash /tmp/users/${name} && exec /tmp/users/${name} -c 'sleep 30; :' "$@"`,
          ...['bash', name, ...flags],
        ]);
      const users = [
        pretend('kubelet', '--pod-manifest-path=/tmp/users'),
        pretend('etcd', '--name=cp2', '--data-dir=/var/lib/etcd'),
      ];
      await new Promise((resolve) => setTimeout(resolve, 500));
      try {
        await expectOurs();
      } finally {
        users.forEach((user) => process.kill(-(user.pid ?? 0), 'SIGKILL'));
      }
    });
  });

  test('goes on under NOSPACE, and reports the alarm', async () => {
    const body = JSON.stringify({ action: 1, memberID: '0', alarm: 1 });
    await curlEtcd(cp1, '/v3/maintenance/alarm', body);
    try {
      await expect(cp1.etcdctl(['put', '/registry/x', 'y'])).rejects.toThrow('database space exceeded');
      expect((await runScript(cp1, 'snapshot')).result).toMatchObject({ ok: true, alarms: ['NOSPACE'] });
    } finally {
      await cp1.etcdctl(['alarm', 'disarm']);
    }
  });

  test('goes on under a CORRUPT alarm on a member that agrees with the majority, and reports it', async () => {
    await curlEtcd(cp1, '/v3/maintenance/alarm', JSON.stringify({ action: 1, memberID: '0', alarm: 2 }));
    try {
      expect((await runScript(cp1, 'snapshot')).result).toMatchObject({
        ok: true,
        alarms: ['CORRUPT'],
        findings: ['corrupt-alarm'],
      });
    } finally {
      await cp1.etcdctl(['alarm', 'disarm']);
    }
  });
});

describe('what a restore is about to replace', () => {
  const journal = (node: LabNode) => node.path(`${HOME}/restore/journal`);

  beforeEach(() => {
    mkdirSync(cp3.path(`${HOME}/restore`), { recursive: true });
    writeFileSync(journal(cp3), `restore ${RESTORE_ID}\n`);
  });

  afterEach(() => {
    rmSync(cp3.path(`${HOME}/restore`), { recursive: true });
    rmSync(cp3.path(`${HOME}/staging`), { recursive: true, force: true });
  });

  test('is saved whole from a member without quorum, past the journal of that restore', async () => {
    await cp1.etcdctl(['put', '/registry/configmaps/default/before-the-loss', 'x']);
    const healthy = await runScript(cp1, 'snapshot', { parameters: { MembersBefore: '3' } });
    await cp3.linkDown();
    try {
      const parameters = { RestoreId: RESTORE_ID, MembersBefore: '5' };
      await untilNoLeader(cp3);
      const { result } = await runScript(cp3, 'snapshot', { parameters });
      expect(result).toMatchObject({
        ok: true,
        leaderId: '0',
        isLeader: false,
        alarms: [],
        findings: ['no-leader'],
        clusterId: healthy.result.clusterId,
        members: healthy.result.members,
        // Nobody wrote in between: all that the healthy member had is in it.
        totalKey: healthy.result.totalKey,
        revision: healthy.result.revision,
      });
      const snapshot = zstdDecompressSync(readFileSync(cp3.path(String(result.file))));
      expect(sha256(snapshot)).toBe(result.sha256);
      expect(snapshot.includes('before-the-loss')).toBe(true);
    } finally {
      await cp3.linkUp();
      await cluster.waitHealthy();
    }
    expect(readFileSync(journal(cp3), 'utf8')).toBe(`restore ${RESTORE_ID}\n`);
  });

  test('is uploaded past that journal too, and nothing else is', async () => {
    expect((await runScript(cp3, 'upload')).result).toMatchObject({ code: 13, error: 'restore-running' });
    const { result } = await runScript(cp3, 'upload', { parameters: { RestoreId: RESTORE_ID } });
    expect(result).toMatchObject({ code: 74, error: 'nothing-staged' });
  });
});

async function untilNoLeader(node: LabNode): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const status = await node.exec([`${node.imageBin}/etcdctl`, 'endpoint', 'status', '-w', 'json'], {
      env: node.etcdctlEnvironment,
    });
    // JSON leaves out what is 0.
    if (status.stdout.includes('"raftTerm"') && !status.stdout.includes('"leader"')) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${node.name} still knew a leader after 20 s`);
}

async function curlEtcd(node: LabNode, path: string, body: string): Promise<string> {
  const tls = [
    '--cacert',
    `${PKI}/etcd/ca.crt`,
    '--cert',
    `${PKI}/etcd/healthcheck-client.crt`,
    '--key',
    `${PKI}/etcd/healthcheck-client.key`,
  ];
  return node.must(['curl', '-sSf', ...tls, '-d', body, `https://127.0.0.1:2379${path}`]);
}

describe('the snapshot script refuses', () => {
  async function refusal(node: LabNode, parameters: Record<string, string> = {}, wrap: string[] = []) {
    rmSync(node.path(`${HOME}/staging`), { recursive: true, force: true });
    const { code, result, stderr } = await runScript(node, 'snapshot', { parameters, wrap });
    expect(result).toMatchObject({ ok: false, code });
    expect(stderr).toContain(String(result.message));
    // What was got, what was expected, what to do.
    expect(result.message).toMatch(/expected/);
    expect(staged(node)).toEqual([]);
    return { code, error: result.error, message: String(result.message) };
  }

  afterEach(async () => {
    await cluster.waitHealthy();
  });

  test('to run as another user than root', async () => {
    expect(await refusal(cp1, {}, ['setpriv', '--reuid=65534', '--clear-groups'])).toMatchObject({
      code: 10,
      error: 'not-root',
    });
  });

  test.each([
    ['BackupId', '20261120T140000Z; touch /tmp/owned'],
    ['BackupId', '$(touch /tmp/owned)'],
    ['ClusterName', 'lab`touch /tmp/owned`'],
    ['ClusterName', 'lab\'"; touch /tmp/owned #'],
    ['ToolPins', '$(touch /tmp/owned)'],
    ['ToolUrls', 'a=b=http://x/\ntouch /tmp/owned'],
    ['MembersBefore', 'a[$(touch /tmp/owned)]'],
    ['DiskLimitPercent', '80+a[$(touch /tmp/owned)]'],
    ['RestoreId', '20261120T140000Z$(touch /tmp/owned)'],
  ])('a %s that tries to become code: %j', async (name, value) => {
    expect(await refusal(cp1, { [name]: value })).toMatchObject({ code: 11, error: 'bad-parameter' });
    expect(existsSync(cp1.path('/tmp/owned'))).toBe(false);
  });

  test('a parameter that never came, as from an agent before 3.3.2746.0', async () => {
    const { code, stdout } = await cp1.exec(['bash', '-c', scriptText('snapshot')], { env: {} });
    expect(code).toBe(11);
    expect(stdout).toContain('3.3.2746.0');
  });

  test('while another script holds the lock', async () => {
    const holder = cp1.spawn(['flock', `${HOME}/lock`, 'sleep', '60']);
    await new Promise((resolve) => setTimeout(resolve, 500));
    try {
      expect(await refusal(cp1)).toMatchObject({ code: 12, error: 'already-running' });
    } finally {
      process.kill(-(holder.pid ?? 0), 'SIGKILL');
    }
  });

  test('while a restore is under way, and leaves its journal alone', async () => {
    const journal = cp1.path(`${HOME}/restore/journal`);
    mkdirSync(cp1.path(`${HOME}/restore`), { recursive: true });
    writeFileSync(journal, `restore ${RESTORE_ID}\n`);
    try {
      for (const RestoreId of ['', '20261120T135959Z']) {
        expect(await refusal(cp1, { RestoreId })).toMatchObject({ code: 13, error: 'restore-running' });
      }
      expect(readFileSync(journal, 'utf8')).toBe(`restore ${RESTORE_ID}\n`);
    } finally {
      rmSync(cp1.path(`${HOME}/restore`), { recursive: true });
    }
  });

  test("a node without etcd's manifest", async () => {
    await cp3.stopEtcd();
    try {
      expect(await refusal(cp3)).toMatchObject({ code: 20, error: 'no-etcd' });
    } finally {
      await cp3.startEtcd();
    }
  });

  test('a manifest that names another data directory than the process has', async () => {
    await signalKubelet(cp3, 'STOP');
    try {
      await withFiles(cp3, [MANIFEST], async () => {
        const file = cp3.path(MANIFEST);
        writeFileSync(
          file,
          readFileSync(file, 'utf8').replace('--data-dir=/var/lib/etcd', '--data-dir=/var/lib/elsewhere'),
        );
        const refused = await refusal(cp3);
        expect(refused).toMatchObject({ code: 21, error: 'not-as-manifest' });
        expect(refused.message).toContain('/var/lib/elsewhere');
      });
    } finally {
      await signalKubelet(cp3, 'CONT');
    }
  });

  test('--config-file', async () => {
    await signalKubelet(cp3, 'STOP');
    try {
      await withFiles(cp3, [MANIFEST], async () => {
        const file = cp3.path(MANIFEST);
        writeFileSync(
          file,
          readFileSync(file, 'utf8').replace('- --data-dir', '- --config-file=/etc/etcd.yaml\n    - --data-dir'),
        );
        expect(await refusal(cp3)).toMatchObject({ code: 22, error: 'config-file' });
      });
    } finally {
      await signalKubelet(cp3, 'CONT');
    }
  });

  test('client certificates that are missing', async () => {
    await withFiles(cp3, CLIENT_CERTIFICATES, async () => {
      CLIENT_CERTIFICATES.forEach((file) => {
        rmSync(cp3.path(file));
      });
      expect(await refusal(cp3)).toMatchObject({ code: 30, error: 'certificate-missing' });
    });
  });

  test('client certificates that cannot be read', async () => {
    await withFiles(cp3, CLIENT_CERTIFICATES, async () => {
      CLIENT_CERTIFICATES.forEach((file) => {
        writeFileSync(cp3.path(file), 'not a certificate');
      });
      expect(await refusal(cp3)).toMatchObject({ code: 31, error: 'certificate-unreadable' });
    });
  });

  test('client certificates without clientAuth', async () => {
    await withFiles(cp3, CLIENT_CERTIFICATES, async () => {
      CLIENT_CERTIFICATES.forEach((file) => {
        reissue(cp3, file, { usage: 'serverAuth', end: '20491231000000Z' });
      });
      expect(await refusal(cp3)).toMatchObject({ code: 32, error: 'certificate-no-client-auth' });
    });
  });

  test('client certificates that expired, and says how many days ago', async () => {
    await withFiles(cp3, CLIENT_CERTIFICATES, async () => {
      CLIENT_CERTIFICATES.forEach((file) => {
        reissue(cp3, file, { usage: 'clientAuth', end: '20250101000000Z' });
      });
      const refused = await refusal(cp3);
      expect(refused).toMatchObject({ code: 33, error: 'certificate-expired' });
      const days = Math.floor((Date.now() - Date.parse('2025-01-01T00:00:00Z')) / 86_400_000) + 1;
      expect(refused.message).toContain(`expired ${String(days)} days ago`);
    });
  });

  test('an expired first choice only when the others cannot be used either', async () => {
    const [first] = CLIENT_CERTIFICATES as [string];
    await withFiles(cp3, [first], async () => {
      reissue(cp3, first, { usage: 'clientAuth', end: '20250101000000Z' });
      const { result } = await runScript(cp3, 'snapshot');
      expect(result).toMatchObject({ ok: true });
      expect(result.certificates).toContainEqual({ file: first, daysLeft: expect.any(Number) as number });
    });
  });

  test('a member list that is shorter than last time', async () => {
    expect(await refusal(cp1, { MembersBefore: '5' })).toMatchObject({ code: 43, error: 'fewer-members' });
  });

  test('a member that is cut off from the others, though etcdctl saves there', async () => {
    await cp3.linkDown();
    try {
      expect(await refusal(cp3)).toMatchObject({ code: 41, error: 'no-quorum' });
      const byHand = await cp3.exec([
        `${cp3.imageBin}/etcdctl`,
        '--endpoints=https://127.0.0.1:2379',
        ...TLS,
        'snapshot',
        'save',
        '/tmp/stale.db',
      ]);
      // This is why the script reads linearizably first: a stale snapshot is saved without any complaint.
      expect(byHand.code).toBe(0);
      expect((await runScript(cp1, 'snapshot')).result).toMatchObject({ ok: true });
    } finally {
      await cp3.linkUp();
    }
  });

  test('a disk that would be filled past the limit, and says needed and free', async () => {
    const refused = await refusal(cp1, { DiskLimitPercent: '1' });
    expect(refused).toMatchObject({ code: 50, error: 'disk' });
    expect(refused.message).toMatch(/needs \d+ bytes .* and \d+ of \d+ are free/);
  });

  test('a tool whose hash is not the one known for its version, and does not run it', async () => {
    const { result } = await runScript(cp1, 'snapshot');
    const [tool] = result.tools as { version: string; arch: string; sha256: string }[];
    const pin = `${String(tool?.version)}/${String(tool?.arch)}/etcdctl=`;
    expect(
      (
        await runScript(cp1, 'snapshot', {
          parameters: { ToolPins: `${pin}${'0'.repeat(64)} ${pin}${String(tool?.sha256)}` },
        })
      ).result,
    ).toMatchObject({ ok: true });
    expect(await refusal(cp1, { ToolPins: `${pin}${'0'.repeat(64)}` })).toMatchObject({
      code: 52,
      error: 'tool-changed',
    });
  });

  describe('what its tools make of it', () => {
    /** Puts a bash wrapper in the place of a tool in the running container; `$REAL` is the real one. */
    async function withTool(
      name: 'etcdctl' | 'etcdutl',
      body: string | null,
      work: () => Promise<void>,
    ): Promise<void> {
      const place = `/proc/${String(cp2.etcdPid())}/root/usr/local/bin/${name}`;
      await cp2.must(['cp', place, `/tmp/${name}.real`]);
      try {
        await cp2.must(['rm', place]);
        if (body !== null) {
          await cp2.must(['bash', '-c', 'cat >"$1"; chmod 755 "$1"', 'bash', place], {
            input: `#!/bin/bash\nPATH=/usr/bin:/bin REAL=/tmp/${name}.real\n${body}\n`,
          });
        }
        await work();
      } finally {
        await cp2.must(['rm', '-f', place]);
        await cp2.must(['cp', `/tmp/${name}.real`, place]);
      }
    }

    test('no etcdctl in the image nor in the bucket', async () => {
      await withTool('etcdctl', null, async () => {
        expect(await refusal(cp2)).toMatchObject({ code: 51, error: 'no-tool' });
      });
    });

    test('a save that fails', async () => {
      await withTool(
        'etcdctl',
        '[[ $* != *"snapshot save"* ]] || { echo "Error: no space left" >&2; exit 137; }\nexec "$REAL" "$@"',
        async () => {
          expect(await refusal(cp2)).toMatchObject({ code: 60, error: 'save-failed' });
        },
      );
    });

    test('a snapshot with a flipped bit, by its trailer or by status', async () => {
      const flip =
        '"$REAL" "$@" || exit\n[[ $* == *"snapshot save"* ]] || exit 0\nfile=${*: -1}\nprintf "\\377" | dd of="$file" bs=1 seek=$(( $(stat -c %s "$file") - 5 )) conv=notrunc 2>/dev/null';
      await withTool('etcdctl', flip, async () => {
        expect(await refusal(cp2)).toMatchObject({ code: 61, error: 'trailer' });
      });
    });

    test('a snapshot with a flipped bit in its data', async () => {
      const flip =
        '"$REAL" "$@" || exit\n[[ $* == *"snapshot save"* ]] || exit 0\nfile=${*: -1}\nprintf "\\377" | dd of="$file" bs=1 seek=$(( $(stat -c %s "$file") / 2 )) conv=notrunc 2>/dev/null';
      await withTool('etcdctl', flip, async () => {
        expect(await refusal(cp2)).toMatchObject({ code: 61, error: 'trailer' });
      });
    });

    test('a snapshot that is damaged and has a trailer that fits: only status sees it', async () => {
      const damage =
        '"$REAL" "$@" || exit\n[[ $* == *"snapshot save"* ]] || exit 0\nfile=${*: -1}\ntruncate -s -32 "$file"\ndd if=/dev/zero of="$file" bs=4096 count=2 conv=notrunc 2>/dev/null\nopenssl dgst -sha256 -binary "$file" >>"$file"';
      await withTool('etcdctl', damage, async () => {
        expect(await refusal(cp2)).toMatchObject({ code: 62, error: 'status' });
      });
    });

    test('a snapshot that lost its trailer', async () => {
      await withTool(
        'etcdctl',
        '"$REAL" "$@" || exit\n[[ $* == *"snapshot save"* ]] || exit 0\ntruncate -s -32 "${*: -1}"',
        async () => {
          expect(await refusal(cp2)).toMatchObject({ code: 61, error: 'trailer' });
        },
      );
    });

    test('a status that fails', async () => {
      await withTool('etcdutl', 'echo "Error: page 7 is unreachable" >&2; exit 169', async () => {
        const refused = await refusal(cp2);
        expect(refused).toMatchObject({ code: 62, error: 'status' });
        expect(refused.message).toContain('page 7 is unreachable');
      });
    });

    test('nothing about an image without etcdutl: the backup goes on and says that it cannot be restored here', async () => {
      await withTool('etcdutl', null, async () => {
        const { result } = await runScript(cp2, 'snapshot');
        expect(result).toMatchObject({ ok: true, hash: null, revision: null, findings: ['tools-missing'] });
      });
    });
  });

  test('a member whose data differs from the majority under a CORRUPT alarm, and only that one', async () => {
    await cp1.etcdctl(['put', '/registry/corrupt-me', 'the-bytes-that-will-differ']);
    const file = cp3.path('/var/lib/etcd/member/snap/db');
    // The database is mapped into memory, so a changed byte of the file is a changed byte of the member.
    const change = (from: string, to: string) => {
      const bytes = readFileSync(file);
      const handle = openSync(file, 'r+');
      for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1)) {
        writeSync(handle, to, at);
      }
      closeSync(handle);
    };
    // etcd writes its batch to the file every 100 ms.
    await new Promise((resolve) => setTimeout(resolve, 500));
    change('the-bytes-that-will-differ', 'THE-bytes-that-will-differ');
    await curlEtcd(cp1, '/v3/maintenance/alarm', JSON.stringify({ action: 1, memberID: '0', alarm: 2 }));
    try {
      expect(await refusal(cp3)).toMatchObject({ code: 44, error: 'corrupt' });
      expect((await runScript(cp1, 'snapshot')).result).toMatchObject({ ok: true, findings: ['corrupt-alarm'] });
    } finally {
      change('THE-bytes-that-will-differ', 'the-bytes-that-will-differ');
      await cp1.etcdctl(['alarm', 'disarm']);
    }
  });

  test("a client certificate that etcd's auth does not know", async () => {
    await cp1.etcdctl(['user', 'add', 'root:secret']);
    await cp1.etcdctl(['user', 'grant-role', 'root', 'root']);
    await cp1.etcdctl(['auth', 'enable']);
    try {
      expect(await refusal(cp1)).toMatchObject({ code: 40, error: 'auth' });
    } finally {
      await cp1.etcdctl(['--user=root:secret', 'auth', 'disable']);
      await cp1.etcdctl(['user', 'delete', 'root']);
    }
  });

  test('a learner', async () => {
    const member = (await cp1.etcdctl(['member', 'list'])).split('\n').find((line) => line.includes(cp3.name)) ?? '';
    const peer = /https:\/\/[^,]*:2380/.exec(member)?.[0] ?? '';
    await cp1.etcdctl(['member', 'remove', member.split(',')[0] ?? '']);
    await cp3.stopEtcd();
    rmSync(cp3.path('/var/lib/etcd/member'), { recursive: true });
    await cp1.etcdctl(['member', 'add', cp3.name, '--learner', `--peer-urls=${peer}`]);
    await cp3.startEtcd();
    try {
      for (const RestoreId of ['', RESTORE_ID]) {
        expect(await refusal(cp3, { RestoreId })).toMatchObject({ code: 42, error: 'learner' });
      }
    } finally {
      const learner = (await cp1.etcdctl(['member', 'list'])).split('\n').find((line) => line.includes(peer)) ?? '';
      await promote(cp1, learner.split(',')[0] ?? '');
    }
  });
});

async function promote(node: LabNode, id: string): Promise<void> {
  for (let attempt = 0; attempt < 30; attempt += 1) {
    const promoted = await node.exec([`${node.imageBin}/etcdctl`, 'member', 'promote', id], {
      env: node.etcdctlEnvironment,
    });
    if (promoted.code === 0) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  throw new Error(`learner ${id} was not promoted within 30 s`);
}

/** Freezes or thaws the kubelet, so that a manifest can be changed under a running etcd. */
async function signalKubelet(node: LabNode, signal: 'STOP' | 'CONT'): Promise<void> {
  const script =
    'for comm in /proc/[0-9]*/comm; do [[ $(<"$comm") != kubelet ]] || kill -"$1" "${comm//[!0-9]/}"; done';
  await node.must(['bash', '-c', script, 'bash', signal]);
}

describe('what etcd writes about itself', () => {
  /** Runs a few lines with the script's own functions. */
  async function withFunctions(lines: string): Promise<string> {
    const functions = scriptText('snapshot').replace(/\nmain\n$/, '\n');
    const { stdout } = await cp1.exec(['bash', '-c', `${functions}\n${lines}\n`]);
    return stdout.trim();
  }

  test.each([
    ['0', '0'],
    ['999999', '999999'],
    ['1e+06', '1000000'],
    ['1.000001e+06', '1000001'],
    ['1.2345678e+07', '12345678'],
    ['9.00719925474099e+15', '9007199254740990'],
    ['NaN', ''],
    ['-1', ''],
    ['EUID[$(touch /tmp/owned)]', ''],
  ])('is read as a whole number and never run: %s', async (text, whole) => {
    expect(await withFunctions(`whole '${text}'; result "$WHOLE"`)).toBe(whole);
    expect(existsSync(cp1.path('/tmp/owned'))).toBe(false);
  });

  test('gives the 99th percentile of the fsyncs between two readings, past a million of them too', async () => {
    const before = '0.001=900000 0.002=1000000 0.004=1000100 +Inf=1000100';
    const after = '0.001=900050 0.002=1000098 0.004=1000200 +Inf=1000200';
    expect(await withFunctions(`fsync_p99 '${before}' '${after}'; result "$P99"`)).toBe('0.004');
    expect(await withFunctions(`fsync_p99 '${before}' '${before}'; result "$P99"`)).toBe('null');
  });

  test('cannot end the script without its one line', async () => {
    const said = JSON.parse(await withFunctions('set -u; echo "$NO_SUCH_VARIABLE"')) as Record<string, unknown>;
    expect(said).toMatchObject({ ok: false, code: 99, error: 'unexpected' });
  });
});

test('a finished snapshot is left alone by the next backup while it waits for its upload', async () => {
  expect((await runScript(cp1, 'snapshot')).result).toMatchObject({ ok: true });
  const other = await runScript(cp1, 'snapshot', { parameters: { BackupId: '20261120T150000Z' } });
  expect(other.result).toMatchObject({ ok: false, code: 12, error: 'already-running' });
  expect(staged(cp1)).toContain(`${BACKUP_ID}/snapshot.db.zst`);
  // Its upload did not come for five minutes: the next backup takes its place.
  await cp1.must(['touch', '-d', '-301 seconds', `${HOME}/staging/${BACKUP_ID}/ready`]);
  const later = await runScript(cp1, 'snapshot', { parameters: { BackupId: '20261120T150000Z' } });
  expect(later.result).toMatchObject({ ok: true });
  expect(staged(cp1).filter((path) => path.startsWith(BACKUP_ID))).toEqual([]);
  rmSync(cp1.path(`${HOME}/staging`), { recursive: true });
});

describe('a SIGKILL', () => {
  test.each([
    ['while it inspects', 'etcdctl() {', 'etcdctl() {\n  kill -KILL 0'],
    ['before it saves', 'save() {', 'save() {\n  kill -KILL 0'],
    ['after it saved', '\nSIZE=$(stat', '\nkill -KILL 0\nSIZE=$(stat'],
    ['while it compresses', 'tee "$PACKED"', '{ head -c 1000 >"$PACKED"; kill -KILL 0; }'],
    ['before it speaks', '\nresult "$line"', '\nkill -KILL 0'],
  ])('%s leaves what the next run removes, and the next run succeeds', async (_phase, place, kill) => {
    const text = scriptText('snapshot');
    expect(text.split(place).length).toBe(2);
    const killed = await cp1.exec(['bash', '-c', text.replace(place, () => kill)], {
      env: scriptEnvironment('snapshot', { BackupId: '20261120T130000Z' }),
      timeoutMs: 60_000,
    });
    expect(killed.stdout === '' || killed.stdout.includes('"ok":false')).toBe(true);
    expect((await runScript(cp1, 'snapshot')).result).toMatchObject({ ok: true });
    expect(staged(cp1).sort()).toEqual([BACKUP_ID, `${BACKUP_ID}/ready`, `${BACKUP_ID}/snapshot.db.zst`]);
  });
});

describe('the upload script refuses', () => {
  test('when nothing is staged under this id', async () => {
    const { code, result } = await runScript(cp3, 'upload', { parameters: { BackupId: '20200101T000000Z' } });
    expect(result).toMatchObject({ ok: false, code: 74, error: 'nothing-staged' });
    expect(code).toBe(74);
  });

  test('when S3 cannot be reached, and leaves nothing behind', async () => {
    await runScript(cp1, 'snapshot');
    const { result } = await runScript(cp1, 'upload');
    expect(result).toMatchObject({ ok: false, code: 73, error: 'upload-failed' });
    expect(staged(cp1)).toEqual([]);
  });

  test.each([
    ['Url', 'http://x/"\nupload-file = "/etc/shadow'],
    ['Url', 'file:///etc/shadow'],
    ['Headers', 'a: b"\noutput = "/etc/passwd'],
    ['Headers', 'a: $(id)'],
  ])('a %s that tries to become configuration: %j', async (name, value) => {
    await runScript(cp1, 'snapshot');
    const { result } = await runScript(cp1, 'upload', { parameters: { [name]: value } });
    expect(result).toMatchObject({ ok: false, code: 11, error: 'bad-parameter' });
  });
});

describe('an emptied cluster', () => {
  test('is refused: a wiped first node that came back with its old manifest passes every other check', async () => {
    const single = await startControlPlane({ name: 'wiped', members: 1, etcd: '3.6', etcdutlInImage: true });
    try {
      const [node] = single.nodes as [LabNode];
      const before = await runScript(node, 'snapshot');
      await node.wipe();
      await single.waitHealthy();
      const after = await runScript(node, 'snapshot');
      // etcd's cluster id is a hash of the initial members: it repeats, so it proves nothing.
      expect(after.result).toMatchObject({ ok: true, clusterId: before.result.clusterId });
      expect((await runScript(node, 'snapshot', { parameters: { MembersBefore: '3' } })).result).toMatchObject({
        ok: false,
        error: 'fewer-members',
      });
    } finally {
      await single.down();
    }
  });
});

describe('a disk for staging that fills up', () => {
  let single: ControlPlane;
  let node: LabNode;

  beforeAll(async () => {
    single = await startControlPlane({ name: 'diskfull', members: 1, etcd: '3.6', stagingBytes: 300_000_000 });
    node = single.nodes[0] as LabNode;
    for (let i = 0; i < 20; i += 1) {
      await node.etcdctl(['put', `/registry/configmaps/default/object-${String(i)}`, 'x'.repeat(10_000)]);
    }
  });
  afterAll(async () => {
    await single.down();
  });

  // dd ends with an error when nothing is left, which is what it is for.
  const fill = `dd if=/dev/zero of=${HOME}/filler bs=64K 2>/dev/null; sync`;

  async function expectClean(): Promise<void> {
    expect(
      (await node.must(['ls', '-A', HOME])).split('\n').filter((name) => !['', 'filler', 'lock'].includes(name)),
    ).toEqual([]);
    await node.must(['rm', '-f', `${HOME}/filler`]);
    // etcd itself is not disturbed: it writes, and the next backup succeeds.
    await node.etcdctl(['put', '/registry/after', 'x']);
    expect((await runScript(node, 'snapshot')).result).toMatchObject({ ok: true });
  }

  test('is refused before anything is written', async () => {
    await node.must(['bash', '-c', fill]);
    const { result } = await runScript(node, 'snapshot');
    expect(result).toMatchObject({ ok: false, error: 'disk' });
    await expectClean();
  });

  test.each([
    ['while it saves', 60, 'save-failed', `${fill}; exec "$REAL" "$@"`],
    ['while it compresses', 63, 'compress-failed', `"$REAL" "$@" || exit; ${fill}`],
  ])('fails cleanly in the middle: %s', async (_when, code, error, body) => {
    const place = `/proc/${String(node.etcdPid())}/root/usr/local/bin/etcdctl`;
    const wrapper = `#!/bin/bash\nPATH=/usr/bin:/bin REAL=/tmp/etcdctl.real\n[[ $* == *"snapshot save"* ]] || exec "$REAL" "$@"\n${body}\n`;
    await node.must(['cp', place, '/tmp/etcdctl.real']);
    await node.must(['bash', '-c', 'rm "$1"; cat >"$1"; chmod 755 "$1"', 'bash', place], { input: wrapper });
    const { result } = await runScript(node, 'snapshot');
    await node.must(['bash', '-c', 'rm "$1"; cp /tmp/etcdctl.real "$1"', 'bash', place]);
    expect(result).toMatchObject({ ok: false, code, error });
    await expectClean();
  });
});

test('the log of a run says on stderr what happened and stdout has only the result', async () => {
  const { stdout, stderr } = await runScript(cp1, 'snapshot');
  expect(stdout.split('\n')).toHaveLength(2);
  expect(stderr).toContain('is fit: revision');
});
