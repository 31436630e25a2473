import { chooseTools, type DrillTool } from '../../../lambda/drill/choose-tools';
import { keysPerPage, planDrill } from '../../../lambda/drill/plan-drill';
import type { ToolName } from '../../../lambda/drill-run/order';
import { hash, receipt } from '../plan/situation';

const tool = (name: ToolName, sha256 = hash('a'), storedAt = '2026-11-01T00:00:00Z'): DrillTool => ({
  name,
  version: '3.6.5',
  arch: 'amd64',
  sha256,
  key: `tools/3.6.5/amd64/${sha256}/${name}`,
  versionId: 'v1',
  bytes: 20_000_000,
  storedAt: new Date(storedAt),
});

const all = [tool('etcd'), tool('etcdctl'), tool('etcdutl')];
const config = { arch: 'amd64' as const, officialTools: {}, acknowledgedTools: [] };

describe('the binaries', () => {
  const chosen = (stored: DrillTool[], official = {}, acknowledged: string[] = []) => {
    const choice = chooseTools(stored, '3.6.5', official, acknowledged);
    return 'tools' in choice ? choice.tools.map(({ name, sha256 }) => `${name} ${sha256.slice(0, 1)}`) : choice.missing;
  };

  test('are one of each name', () => {
    expect(chosen(all)).toEqual(['etcd a', 'etcdctl a', 'etcdutl a']);
  });

  test('are those of the official release, else acknowledged ones, else what was stored last', () => {
    const stored = [
      ...all,
      tool('etcd', hash('b'), '2026-11-02T00:00:00Z'),
      tool('etcdctl', hash('b'), '2026-11-02T00:00:00Z'),
      tool('etcdutl', hash('b'), '2026-11-02T00:00:00Z'),
    ];
    expect(chosen(stored)).toEqual(['etcd b', 'etcdctl b', 'etcdutl b']);
    expect(chosen(stored, { '3.6.5': { amd64: { etcdctl: hash('a') } } }, [])).toEqual([
      'etcd b',
      'etcdctl a',
      'etcdutl b',
    ]);
    expect(chosen(stored, { '3.6.5': { amd64: { etcd: hash('b') } } }, [hash('a')])).toEqual([
      'etcd b',
      'etcdctl a',
      'etcdutl a',
    ]);
  });

  // As node/preflight.sh: etcdctl has `snapshot restore` with the flags for the revision from 3.5.10 on, and no more from 3.6 on.
  test.each([
    ['3.6.5', ['etcdutl']],
    ['3.5.9', ['etcdutl']],
    ['3.5.10', []],
    ['3.5.35', []],
    ['3.4.30', ['etcdutl']],
  ])('of %s without etcdutl lack %j', (version, missing) => {
    const choice = chooseTools([tool('etcd'), tool('etcdctl')], version, {}, []);
    expect('missing' in choice ? choice.missing : []).toEqual(missing);
  });

  test('are named when they are not there', () => {
    expect(chosen([])).toEqual(['etcd', 'etcdctl', 'etcdutl']);
  });
});

describe('a drill', () => {
  test('is possible with binaries for the version of the backup', () => {
    expect(planDrill(receipt(), all, config)).toMatchObject({ tools: all });
  });

  test.each([
    ['other-architecture', receipt(), all, { arch: 'arm64' as const }, /got amd64 from the node, expected arm64/],
    [
      'authentication-on',
      receipt({ snapshot: { ...receipt().snapshot, auth: { enabled: true, users: 1, roles: 1 } } }),
      all,
      {},
      /etcd's authentication on/,
    ],
    ['tools-missing', receipt(), [tool('etcdctl')], {}, /no etcd and no etcdutl in the bucket's tools\/.*add 3\.6\.5/],
    [
      'too-large',
      receipt({ sizeBytes: 5_400_000_000 }),
      all,
      {},
      /needs a disk of \d+, expected at most the 10737418240/,
    ],
  ])('is not possible (%s), and says what to do', (reason, of, stored, change, sentence) => {
    const plan = planDrill(of, stored, { ...config, ...change });
    expect(plan).toMatchObject({ reason, sentence: expect.stringMatching(sentence) as string });
  });

  test('is possible for databases of 4.5 GB', () => {
    expect(planDrill(receipt({ sizeBytes: 4_500_000_000 }), all, config)).toMatchObject({ tools: all });
  });
});

describe('a page', () => {
  test.each([
    [[], 20_000],
    [[500, 400, 300], 20_000],
    [Array.from({ length: 10 }, () => 1_000_000), 124],
    [[1_500_000, 9_000, 8_000, 7_000], 18_956],
    [Array.from({ length: 10 }, () => 20_000_000), 16],
  ])('of keys of which the largest have %j bytes has %d keys, and never more than fits the memory', (largest, keys) => {
    expect(keysPerPage(largest)).toBe(keys);
  });
});
