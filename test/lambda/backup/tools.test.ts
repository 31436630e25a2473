import type { Announcement } from '../../../lambda/shared/announcement';
import { rememberTools, toolPins } from '../../../lambda/backup/tool-parameters';
import { Cloud, hex, NODE_1, scheduled, snapshotResult } from './cloud';

const tool = (name: string, version = '3.6.5', arch = 'amd64') => ({
  name,
  version,
  arch,
  sha256: hex(`${name} ${version} ${arch}`),
});
const previous = (knownTools: ReturnType<typeof tool>[]) => ({ knownTools }) as unknown as Announcement;
const pin = (...args: Parameters<typeof tool>) => {
  const { name, version, arch, sha256 } = tool(...args);
  return `${version}/${arch}/${name}=${sha256}`;
};

describe('ToolPins', () => {
  test('are what earlier backups saw', () => {
    expect(toolPins(previous([tool('etcdctl'), tool('etcdutl')]), {}, [])).toBe(`${pin('etcdctl')} ${pin('etcdutl')}`);
  });

  test('also allow the official tool and an acknowledged one, of what was seen before', () => {
    const official = { '3.6.5': { amd64: { etcdctl: hex('official'), etcdutl: hex('not seen') } } };
    expect(toolPins(previous([tool('etcdctl')]), official, [hex('acknowledged')])).toBe(
      `${pin('etcdctl')} 3.6.5/amd64/etcdctl=${hex('acknowledged')} 3.6.5/amd64/etcdctl=${hex('official')}`,
    );
  });

  test('do not exist for what no backup has seen: an image of other making is a finding, no refusal', () => {
    expect(toolPins(undefined, { '3.6.5': { amd64: { etcdctl: hex('official') } } }, [])).toBe('');
  });

  test('are given for a custom build too', () => {
    expect(toolPins(previous([tool('etcdctl', '3.6.5+k1')]), {}, [])).toBe(pin('etcdctl', '3.6.5+k1'));
  });

  test('fit the pattern and the 4000 characters of the document', () => {
    const many = Array.from({ length: 100 }, (_, patch) => tool('etcdctl', `3.5.${String(patch)}`));
    const pins = toolPins(previous(many), {}, []);
    expect(pins.length).toBeGreaterThan(3900);
    expect(pins.length).toBeLessThanOrEqual(4000);
    expect(pins).toMatch(/^[A-Za-z0-9.=/ _-]*$/);
  });
});

test('tools are remembered once each, the newest first, twenty at most', () => {
  const old = Array.from({ length: 20 }, (_, patch) => tool('etcdctl', `3.5.${String(patch)}`));
  const remembered = rememberTools([tool('etcdctl', '3.5.3'), tool('etcdctl', '3.6.5')], previous(old));
  expect(remembered).toHaveLength(20);
  expect(remembered.slice(0, 3)).toEqual([
    tool('etcdctl', '3.5.3'),
    tool('etcdctl', '3.6.5'),
    tool('etcdctl', '3.5.0'),
  ]);
});

describe('ToolUrls', () => {
  test("are presigned GETs for the node's architecture, the last backup's version first, four at most", async () => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    cloud.snapshots[NODE_1] = [
      {
        seconds: 5,
        status: 'Success',
        responseCode: 0,
        stdout: JSON.stringify(snapshotResult('20261120T130000Z', { etcdVersion: '3.5.21' })),
      },
    ];
    await cloud.backup(scheduled('2026-11-20T13:00:00Z'), { requestId: 'first' });
    cloud.time.advance(3600);
    // One of a node's own image, which is on no list, runs on no other node.
    const ofANode = tool('etcdutl', '3.6.12');
    cloud.officialTools = Object.fromEntries(
      ['3.5.9', '3.5.21', '3.6.5', '3.6.10', '3.6.11'].map((version) => [
        version,
        Object.fromEntries(
          ['amd64', 'arm64'].map((arch) => [
            arch,
            Object.fromEntries(['etcd', 'etcdctl', 'etcdutl'].map((name) => [name, tool(name, version, arch).sha256])),
          ]),
        ),
      ]),
    );
    for (const { name, version, arch, sha256 } of [
      tool('etcdctl', '3.5.21'),
      tool('etcdutl', '3.5.21'),
      tool('etcdutl', '3.5.9'),
      tool('etcdutl', '3.6.5'),
      tool('etcdutl', '3.6.10'),
      tool('etcd', '3.6.10'),
      tool('etcdutl', '3.6.11', 'arm64'),
      ofANode,
    ]) {
      cloud.objects.set(`tools/${version}/${arch}/${sha256}/${name}`, { bytes: Buffer.from('x'), metadata: {} });
    }
    cloud.objects.set('tools/readme', { bytes: Buffer.from('x'), metadata: {} });

    await cloud.backup(scheduled('2026-11-20T14:00:00Z'), { requestId: 'second' });

    const urls = cloud.sent('Snapshot')[1]?.parameters['ToolUrls'] ?? '';
    const entries = urls.split(' ');
    expect(entries.map((entry) => entry.slice(0, entry.indexOf('=')))).toEqual([
      '3.5.21/amd64/etcdutl',
      '3.5.21/amd64/etcdctl',
      '3.6.10/amd64/etcdutl',
      '3.6.5/amd64/etcdutl',
    ]);
    const [name, sha256, ...url] = entries[0]?.split('=') ?? [];
    expect(sha256).toBe(tool('etcdutl', '3.5.21').sha256);
    expect(url.join('=')).toContain(
      `/tools/${String(name?.split('/').slice(0, 2).join('/'))}/${String(sha256)}/etcdutl?`,
    );
    expect(urls).toMatch(/^[A-Za-z0-9.:/?&=%~_ +-]*$/);
    expect(urls.length).toBeLessThanOrEqual(12000);
  });
});

describe('a request for tools', () => {
  const request = {
    tools: { version: '3.6.5', arch: 'amd64', files: [{ name: 'etcdutl', sha256: hex('etcdutl'), bytes: 15 }] },
  };

  test('gets one PUT per file that binds hash, length, key and absence', async () => {
    const cloud = new Cloud();
    cloud.officialTools = { '3.6.5': { amd64: { etcdutl: hex('etcdutl') } } };

    const answer = (await cloud.backup(request)) as {
      uploads: { name: string; key: string; url: string; headers: Record<string, string> }[];
    };

    expect(answer.uploads.map(({ name, key }) => ({ name, key }))).toEqual([
      { name: 'etcdutl', key: `tools/3.6.5/amd64/${hex('etcdutl')}/etcdutl` },
    ]);
    expect(answer.uploads[0]?.headers).toMatchObject({
      'if-none-match': '*',
      'x-amz-checksum-sha256': Buffer.from(hex('etcdutl'), 'hex').toString('base64'),
    });
    expect(new URL(answer.uploads[0]?.url ?? '').searchParams.get('X-Amz-SignedHeaders')?.split(';')).toEqual([
      'content-length',
      'host',
      'if-none-match',
      'x-amz-checksum-sha256',
      'x-amz-expected-bucket-owner',
      'x-amz-server-side-encryption',
      'x-amz-server-side-encryption-aws-kms-key-id',
    ]);
    expect(cloud.keys('')).toEqual([]);
  });

  test('fails for a hash that is not on the committed list, and says to deploy', async () => {
    const cloud = new Cloud();
    cloud.officialTools = { '3.6.5': { amd64: { etcdutl: hex('official') } } };
    await expect(cloud.backup(request)).rejects.toMatchObject({
      name: 'ToolNotOfficialError',
      message: expect.stringMatching(
        new RegExp(
          `etcdutl 3\\.6\\.5 \\(amd64\\): got SHA-256 ${hex('etcdutl')}, expected ${hex('official')}; .* deploy, then run it again`,
        ),
      ) as unknown,
    });
  });
});
