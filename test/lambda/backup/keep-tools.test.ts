import { missingTools, toolsParameters } from '../../../lambda/backup/keep-tools';
import { type Answer, Cloud, hex, NODE_1, refusal, scheduled, snapshotResult, undelivered } from './cloud';

const TRIGGER = scheduled('2026-11-20T14:00:00Z');
const ID = '20261120T140000Z';
const IMAGE = (['etcd', 'etcdctl', 'etcdutl'] as const).map((name) => ({ name, sha256: hex(name), bytes: 20_000_000 }));
const keyOf = (name: string) => `tools/3.6.5/amd64/${hex(name)}/${name}`;

function cloudWithTools(): Cloud {
  const cloud = new Cloud();
  cloud.snapshots[NODE_1] = [withTools(ID)];
  return cloud;
}

const withTools = (backupId: string): Answer => ({
  seconds: 5,
  status: 'Success',
  responseCode: 0,
  stdout: JSON.stringify(snapshotResult(backupId, { imageTools: IMAGE })),
});

const findings = (cloud: Cloud) => cloud.measured.filter(({ name }) => name === 'FindingToolsNotKept');

describe('what is missing', () => {
  const stored = { version: '3.6.5', arch: 'amd64', name: 'etcdctl', sha256: hex('etcdctl') };
  const result = snapshotResult(ID, { imageTools: IMAGE });

  test.each([
    ['nothing is stored', [], ['etcd', 'etcdctl', 'etcdutl']],
    ['one is stored', [stored], ['etcd', 'etcdutl']],
    ['it is stored of another version', [{ ...stored, version: '3.6.4' }], ['etcd', 'etcdctl', 'etcdutl']],
    ['it is stored for another architecture', [{ ...stored, arch: 'arm64' }], ['etcd', 'etcdctl', 'etcdutl']],
    ['one of its name has another hash', [{ ...stored, sha256: hex('x') }], ['etcd', 'etcdctl', 'etcdutl']],
    ['another tool has its hash', [{ ...stored, name: 'etcd' }], ['etcd', 'etcdctl', 'etcdutl']],
  ])('is by version, architecture, name and hash: %s', (_, inBucket, expected) => {
    expect(missingTools(result, inBucket).map(({ name }) => name)).toEqual(expected);
  });
});

test('the parameters name each tool with its hash and a URL of its own, and hold the headers once, without the checksum', async () => {
  const tools = missingTools(snapshotResult(ID, { imageTools: IMAGE }), []);
  const { Uploads, Headers } = await toolsParameters(new Cloud().deps.store, tools);
  const entries = Uploads.split(' ').map((entry) => /^(\w+)=([0-9a-f]{64})=(https:.*)$/.exec(entry)?.slice(1) ?? []);
  expect(entries.map(([name, sha256]) => [name, sha256])).toEqual(IMAGE.map(({ name, sha256 }) => [name, sha256]));
  for (const [name, , url] of entries) {
    expect(new URL(url as string).pathname).toBe(`/${keyOf(name as string)}`);
    // The script makes the header of the hash that it finds: other bytes fit no signature.
    expect(new URL(url as string).searchParams.get('X-Amz-SignedHeaders')).toContain(
      'content-length;host;if-none-match;x-amz-checksum-sha256',
    );
  }
  expect(Headers).toMatch(/^if-none-match: \*\|x-amz-expected-bucket-owner: 000000000000\|/);
  expect(Headers).not.toContain('checksum');
  // As the document allows them.
  expect(Uploads).toMatch(/^[A-Za-z0-9.:/?&=%~_ +-]+$/);
  expect(Headers).toMatch(/^[A-Za-z0-9:;,=/+._| *()-]+$/);
});

test('throws rather than cut off what does not fit the parameter', async () => {
  const tools = Array.from({ length: 30 }, () => ({ version: '3.6.5', arch: 'amd64', ...IMAGE[0] })) as never;
  await expect(toolsParameters(new Cloud().deps.store, tools)).rejects.toMatchObject({ name: 'PresignError' });
});

describe('after a stored backup', () => {
  test("the node sends what the bucket lacks of its image's tools, by one command, once", async () => {
    const cloud = cloudWithTools();
    cloud.objects.set(keyOf('etcdctl'), { bytes: Buffer.alloc(0), metadata: {} });
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
    expect(cloud.sent('Tools')).toMatchObject([{ instanceId: NODE_1, comment: ID, parameters: { BackupId: ID } }]);
    expect(cloud.keys('tools/')).toEqual(['etcd', 'etcdctl', 'etcdutl'].map(keyOf).sort());
    expect(findings(cloud)).toEqual([]);
    expect(cloud.lines.at(-1)).toMatchObject({ message: 'phase done', phase: 'tools', stored: ['etcd'] });

    cloud.time.advance(3600);
    cloud.snapshots[NODE_1] = [withTools('20261120T150000Z')];
    await cloud.backup(scheduled('2026-11-20T15:00:00Z'), { requestId: 'next' });
    expect(cloud.sent('Tools')).toHaveLength(1);
  });

  test('the announcement says what the image has', async () => {
    const cloud = cloudWithTools();
    await cloud.backup(TRIGGER);
    expect(cloud.json(`announcements/${ID}.json`)).toMatchObject({ imageTools: IMAGE });
  });

  test.each<[string, (cloud: Cloud) => void]>([
    ['the node refuses', (cloud) => (cloud.tools[NODE_1] = [refusal(70, 'upload-refused', 'S3 said AccessDenied')])],
    ['no agent takes the command', (cloud) => (cloud.tools[NODE_1] = [undelivered()])],
    ['the node answers nonsense', (cloud) => (cloud.tools[NODE_1] = [{ ...withTools(ID), stdout: 'hello' }])],
  ])('%s: the backup is stored, and that is a finding', async (_, prepare) => {
    const cloud = cloudWithTools();
    prepare(cloud);
    await expect(cloud.backup(TRIGGER)).resolves.toMatchObject({ outcome: 'stored' });
    expect(findings(cloud)).toEqual([{ name: 'FindingToolsNotKept', unit: 'Count', value: 1 }]);
    expect(cloud.lines.at(-1)).toMatchObject({
      message: 'phase failed',
      phase: 'tools',
      error: expect.stringMatching(
        /^ToolsNotKeptError: tools etcd 3\.6\.5, .* of i-.*: got .*, expected them in/,
      ) as unknown,
    });
  });

  test('whose time is over while the tools are on their way is stored, with the finding', async () => {
    const cloud = cloudWithTools();
    await expect(cloud.backup(TRIGGER, { seconds: 70 })).resolves.toMatchObject({ outcome: 'stored' });
    expect(findings(cloud)).toHaveLength(1);
    expect(cloud.lines.at(-1)).toMatchObject({
      phase: 'tools',
      error: expect.stringMatching(/^TimeLeftError/) as unknown,
    });
  });

  test('two deliveries of one trigger send them once', async () => {
    const cloud = cloudWithTools();
    const results = await cloud.invoke({ event: TRIGGER, requestId: 'a' }, { event: TRIGGER, requestId: 'b' });
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(cloud.sent('Tools')).toHaveLength(1);
    expect(findings(cloud)).toEqual([]);
  });
});
