import { InvokeCommand, LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';
import { mockClient } from 'aws-sdk-client-mock';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addTools, parseCommand, type ToolsDeps } from '../../bin/tools';

const NAMES = ['etcd', 'etcdctl', 'etcdutl'];
const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex');

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tools-test-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A release as GitHub has it: tarballs and SHA256SUMS. */
function makeRelease(version: string, names = NAMES): string {
  const release = join(folder, `release-${version}`);
  mkdirSync(release);
  const sums = ['amd64', 'arm64'].map((arch) => {
    const name = `etcd-v${version}-linux-${arch}`;
    mkdirSync(join(release, name));
    for (const tool of names) {
      writeFileSync(join(release, name, tool), `${tool} ${version} ${arch}`);
    }
    const tarball = join(release, `${name}.tar.gz`);
    execFileSync('tar', ['-czf', tarball, '-C', release, name]);
    return `${sha256(readFileSync(tarball))}  ${name}.tar.gz\n`;
  });
  writeFileSync(join(release, 'SHA256SUMS'), `${'0'.repeat(64)}  etcd-v${version}-darwin-amd64.zip\n${sums.join('')}`);
  return release;
}

/** A deployed function that knows what is on the list, and an S3 that takes each key once. */
function deployed(list: object = {}) {
  const listPath = join(folder, 'official-tools.json');
  writeFileSync(listPath, JSON.stringify(list));
  const lambda = mockClient(LambdaClient);
  const stored = new Map<string, string>();
  const printed: string[] = [];
  lambda.on(ListFunctionsCommand).resolves({
    Functions: ['lab', 'prod'].map((cluster) => ({
      FunctionName: `${cluster}-Service`,
      Environment: {
        Variables: {
          POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
          POWERTOOLS_SERVICE_NAME: 'backup',
          CLUSTER_NAME: cluster,
        },
      },
    })),
  });
  lambda.on(InvokeCommand).callsFake(({ Payload }: { Payload: Uint8Array }) => {
    const { tools } = JSON.parse(Buffer.from(Payload).toString()) as {
      tools: { version: string; arch: string; files: { name: string; sha256: string; bytes: number }[] };
    };
    const uploads = tools.files.map((file) => {
      const key = `tools/${tools.version}/${tools.arch}/${file.sha256}/${file.name}`;
      return { name: file.name, key, url: `https://bucket/${key}`, headers: { 'if-none-match': '*' } };
    });
    return { Payload: Buffer.from(JSON.stringify({ uploads })) };
  });
  const put = (url: unknown, init?: RequestInit): Promise<Response> => {
    const key = String(url).replace('https://bucket/', '');
    if (stored.has(key)) {
      return Promise.resolve(new Response('<Error><Code>PreconditionFailed</Code></Error>', { status: 412 }));
    }
    expect(init).toMatchObject({ method: 'PUT', headers: { 'if-none-match': '*' } });
    stored.set(key, Buffer.from(init?.body as Uint8Array).toString());
    return Promise.resolve(new Response(''));
  };
  const deps: ToolsDeps = {
    lambda: new LambdaClient({ region: 'us-east-1' }),
    fetch: put,
    listPath,
    print: (line) => printed.push(line),
  };
  return { deps, lambda, stored, printed, list: () => JSON.parse(readFileSync(listPath, 'utf8')) as unknown };
}

const amd64 = (version: string) => Object.fromEntries(NAMES.map((name) => [name, sha256(`${name} ${version} amd64`)]));

describe('the command line', () => {
  test('asks for both architectures of the official release by default', () => {
    expect(parseCommand(['add', 'v3.6.5'])).toEqual({
      version: '3.6.5',
      architectures: ['amd64', 'arm64'],
      from: 'https://github.com/etcd-io/etcd/releases/download',
    });
  });

  test('takes architecture, cluster and source', () => {
    expect(parseCommand(['add', '3.6.5', '--arch', 'arm64', '--cluster', 'lab', '--from', '/mirror'])).toEqual({
      version: '3.6.5',
      architectures: ['arm64'],
      cluster: 'lab',
      from: '/mirror',
    });
  });

  test.each([[[]], [['--help']], [['add', '3.6.5', '-h']]])('asks for help with %j', (args) => {
    expect(parseCommand(args)).toBeUndefined();
  });

  test('throws with every problem at once, and the usage', () => {
    expect(() => parseCommand(['remove', '3.6', 'x', '--arch', 'x86', '--cluster', 'a', '--function', 'b'])).toThrow(
      /command: got 'remove', expected 'add'\nversion: got '3\.6', expected one such as 3\.6\.5\nargument: got 'x', expected none after the version\n--arch: got 'x86', expected amd64 or arm64\n--cluster and --function: got both, expected one of them\n\nnpm run tools/,
    );
    expect(() => parseCommand(['add', '3.6.5', '--nope'])).toThrow(/'--nope'[\s\S]*npm run tools/);
  });
});

describe('adding a release', () => {
  test('writes its hashes into the list, in order, and uploads what is missing', async () => {
    const { deps, stored, printed, list } = deployed({
      '3.10.0': { amd64: { etcd: '1' } },
      '3.5.9': { amd64: { etcd: '2' } },
    });
    const command = { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: makeRelease('3.6.5') };

    await addTools(deps, command);

    expect(list()).toEqual({
      '3.5.9': { amd64: { etcd: '2' } },
      '3.6.5': { amd64: amd64('3.6.5') },
      '3.10.0': { amd64: { etcd: '1' } },
    });
    expect(Object.keys(list() as object)).toEqual(['3.5.9', '3.6.5', '3.10.0']);
    expect(stored.get(`tools/3.6.5/amd64/${sha256('etcdutl 3.6.5 amd64')}/etcdutl`)).toBe('etcdutl 3.6.5 amd64');
    expect(stored.size).toBe(3);

    await addTools(deps, command);
    expect(printed.filter((line) => line.endsWith(': already there'))).toHaveLength(3);
    expect(printed.at(-4)).toMatch(/has these hashes already$/);
  });

  test('takes it from a mirror', async () => {
    const { deps, list } = deployed();
    const release = makeRelease('3.5.21');
    const urls: string[] = [];
    const fetchBoth = (url: unknown, init?: RequestInit) => {
      if (!String(url).startsWith('https://mirror.example/')) {
        return deps.fetch(String(url), init);
      }
      urls.push(String(url));
      return Promise.resolve(new Response(readFileSync(join(release, String(url).split('/').at(-1) ?? ''))));
    };
    await addTools(
      { ...deps, fetch: fetchBoth },
      {
        version: '3.5.21',
        architectures: ['amd64'],
        functionName: 'lab-Service',
        from: 'https://mirror.example/etcd/',
      },
    );
    expect(urls).toEqual([
      'https://mirror.example/etcd/v3.5.21/SHA256SUMS',
      'https://mirror.example/etcd/v3.5.21/etcd-v3.5.21-linux-amd64.tar.gz',
    ]);
    expect(list()).toEqual({ '3.5.21': { amd64: amd64('3.5.21') } });
  });

  test('fails when the tarball is not the one in SHA256SUMS, and writes nothing', async () => {
    const { deps, list, stored } = deployed();
    const from = makeRelease('3.6.5');
    writeFileSync(join(from, 'etcd-v3.6.5-linux-amd64.tar.gz'), 'other bytes');
    await expect(addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from })).rejects.toThrow(
      new RegExp(`got SHA-256 ${sha256('other bytes')}, expected [0-9a-f]{64} as SHA256SUMS says; nothing was written`),
    );
    expect(list()).toEqual({});
    expect(stored.size).toBe(0);
  });

  test('fails when a hash on the list is another one, and changes nothing', async () => {
    const before = { '3.6.5': { amd64: { etcdctl: 'f'.repeat(64) } } };
    const { deps, list, stored } = deployed(before);
    await expect(
      addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: makeRelease('3.6.5') }),
    ).rejects.toThrow(
      new RegExp(
        `etcdctl 3\\.6\\.5 \\(amd64\\): got SHA-256 ${sha256('etcdctl 3.6.5 amd64')}, expected f{64}\nas .* a release never changes`,
      ),
    );
    expect(list()).toEqual(before);
    expect(stored.size).toBe(0);
  });

  test('fails when SHA256SUMS has no line for the tarball, or the tarball lacks a tool', async () => {
    const { deps } = deployed();
    const from = makeRelease('3.6.5', ['etcd', 'etcdctl']);
    await expect(addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from })).rejects.toThrow(
      /expected a tarball with etcd, etcdctl, etcdutl in etcd-v3\.6\.5-linux-amd64\//,
    );
    writeFileSync(join(from, 'SHA256SUMS'), '');
    await expect(addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from })).rejects.toThrow(
      /got no line for etcd-v3\.6\.5-linux-amd64\.tar\.gz, expected one/,
    );
  });

  test('fails with the path when the folder has no such file, and with the status when the mirror has none', async () => {
    const { deps } = deployed();
    await expect(
      addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: folder }),
    ).rejects.toThrow(
      /SHA256SUMS: got Error: ENOENT.*, expected the file of the official release; download it into that folder/,
    );
    const notFound = () => Promise.resolve(new Response('', { status: 404 }));
    await expect(
      addTools(
        { ...deps, fetch: notFound },
        { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: 'https://m.example' },
      ),
    ).rejects.toThrow(/https:\/\/m\.example\/v3\.6\.5\/SHA256SUMS: got HTTP 404, expected 200/);
  });

  test('says to deploy first when the deployed function does not know the hashes', async () => {
    const { deps, lambda, list } = deployed();
    lambda.on(InvokeCommand).resolves({
      FunctionError: 'Unhandled',
      Payload: Buffer.from(
        JSON.stringify({ errorType: 'ToolNotOfficialError', errorMessage: 'etcd 3.6.5 …' }),
      ) as never,
    });
    await expect(
      addTools(deps, { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: makeRelease('3.6.5') }),
    ).rejects.toThrow(
      /lab-Service does not know these hashes yet: commit lib\/official-tools\.json and deploy first, then run this again/,
    );
    expect(list()).toEqual({ '3.6.5': { amd64: amd64('3.6.5') } });
  });

  test.each([
    [
      undefined,
      /got those of lab \(lab-Service\), prod \(prod-Service\), expected one; choose with --cluster or --function/,
    ],
    [
      'other',
      /backup function of cluster other: got none in this account and region \(clusters: lab, prod\), expected one; deploy first/,
    ],
  ])('fails when the cluster is %j of two that are deployed', async (cluster, expected) => {
    const { deps } = deployed();
    const command = { version: '3.6.5', architectures: ['amd64'], from: makeRelease('3.6.5') };
    await expect(addTools(deps, cluster === undefined ? command : { ...command, cluster })).rejects.toThrow(expected);
  });

  test("fails with S3's code when an upload is refused", async () => {
    const { deps } = deployed();
    const refused = () =>
      Promise.resolve(
        new Response('<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>', { status: 403 }),
      );
    await expect(
      addTools(
        { ...deps, fetch: refused },
        { version: '3.6.5', architectures: ['amd64'], cluster: 'lab', from: makeRelease('3.6.5') },
      ),
    ).rejects.toThrow(/PUT of tools\/3\.6\.5\/amd64\/.*\/etcd: got HTTP 403 AccessDenied Access Denied, expected 200/);
  });
});
