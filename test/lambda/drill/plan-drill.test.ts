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
/** A receipt of a backup whose node had these in its image. */
const receiptWith = (...tools: DrillTool[]) =>
  receipt({
    announced: {
      ...receipt().announced,
      imageTools: tools.map(({ name, sha256, bytes }) => ({ name, sha256, bytes })),
    },
  });

const config = { arch: 'amd64' as const, officialTools: {}, acknowledgedTools: [] };

describe('the binaries', () => {
  const chosen = (stored: DrillTool[], image: DrillTool[], official = {}, acknowledged: string[] = []) => {
    const choice = chooseTools(stored, receiptWith(...image).announced, official, acknowledged);
    return 'tools' in choice
      ? choice.tools.map(({ name, sha256, trust }) => `${name} ${sha256.slice(0, 1)} ${trust}`)
      : choice.missing;
  };

  /** What somebody stored later under the same version. */
  const later = [
    tool('etcd', hash('b'), '2026-11-02T00:00:00Z'),
    tool('etcdctl', hash('b'), '2026-11-02T00:00:00Z'),
    tool('etcdutl', hash('b'), '2026-11-02T00:00:00Z'),
  ];
  const inImage = ['etcd a image', 'etcdctl a image', 'etcdutl a image'];

  test('are one of each name, as the image of the node had them that the backup was taken on', () => {
    expect(chosen(all, all)).toEqual(inImage);
  });

  test('are those of the official release, else acknowledged ones, else those of the image', () => {
    expect(chosen([...all, ...later], all, { '3.6.5': { amd64: { etcdctl: hash('b') } } })).toEqual([
      'etcd a image',
      'etcdctl b official',
      'etcdutl a image',
    ]);
    expect(chosen([...all, ...later], all, { '3.6.5': { amd64: { etcd: hash('b') } } }, [hash('a')])).toEqual([
      'etcd b official',
      'etcdctl a acknowledged',
      'etcdutl a acknowledged',
    ]);
  });

  test('are of two acknowledged ones what was stored last', () => {
    expect(chosen([...all, ...later], [], {}, [hash('a'), hash('b')])).toEqual([
      'etcd b acknowledged',
      'etcdctl b acknowledged',
      'etcdutl b acknowledged',
    ]);
  });

  test('are never what lies in the bucket and no receipt of the backup names', () => {
    expect(chosen(all, [])).toEqual(['etcd', 'etcdctl', 'etcdutl']);
    expect(chosen([...all, ...later], all)).toEqual(inImage);
    // A stolen node stores what the images of the others lack.
    expect(chosen([...all.slice(0, 2), ...later.slice(2)], all.slice(0, 2))).toEqual(['etcdutl']);
  });

  test('are never such a one in the name of another', () => {
    expect(chosen(all, [tool('etcdctl'), tool('etcdutl')])).toEqual(['etcd']);
    expect(chosen([tool('etcd', hash('c')), ...all.slice(1)], [tool('etcdctl', hash('c')), ...all])).toEqual(['etcd']);
  });

  test('are never what was changed later, whatever the node says of its image, until somebody acknowledges it', () => {
    expect(chosen([...all, ...later], later)).toEqual(['etcd', 'etcdctl', 'etcdutl']);
    expect(chosen([...all, later[0] as DrillTool], [later[0] as DrillTool, ...all.slice(1)])).toEqual(['etcd']);
    expect(chosen([...all, ...later], later, {}, [hash('b')])).toEqual([
      'etcd b acknowledged',
      'etcdctl b acknowledged',
      'etcdutl b acknowledged',
    ]);
  });

  test('may be those of the image beside acknowledged or official ones that were stored before them', () => {
    expect(chosen([...all, ...later], later, {}, [])).toEqual(['etcd', 'etcdctl', 'etcdutl']);
    const etcdOnly = tool('etcd', hash('d'), '2026-10-01T00:00:00Z');
    expect(chosen([etcdOnly, ...all], all, { '3.6.5': { amd64: { etcd: hash('d') } } })[0]).toBe('etcd d official');
  });

  // As node/preflight.sh: etcdctl has `snapshot restore` with the flags for the revision from 3.5.10 on, and no more from 3.6 on.
  test.each([
    ['3.6.5', ['etcdutl']],
    ['3.5.9', ['etcdutl']],
    ['3.5.10', []],
    ['3.5.35', []],
    ['3.4.30', ['etcdutl']],
  ])('of %s without etcdutl lack %j', (version, missing) => {
    const choice = chooseTools([tool('etcd'), tool('etcdctl')], { etcdVersion: version, imageTools: all }, {}, []);
    expect('missing' in choice ? choice.missing : []).toEqual(missing);
  });

  test('are named when they are not there', () => {
    expect(chosen([], all)).toEqual(['etcd', 'etcdctl', 'etcdutl']);
  });
});

describe('a drill', () => {
  test('is possible with binaries for the version of the backup', () => {
    expect(planDrill(receiptWith(...all), all, config)).toMatchObject({ tools: all });
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
    [
      'tools-missing',
      receiptWith(...all),
      [tool('etcdctl')],
      {},
      /no etcd and no etcdutl in the bucket's tools\/.*add 3\.6\.5/,
    ],
    ['tools-missing', receipt(), [tool('etcdctl')], {}, /got no etcd and no etcdutl in the bucket/],
    [
      'tools-unknown',
      receiptWith(...all.slice(1)),
      all,
      {},
      /got etcd with SHA-256 a{64}, expected .*add 3\.6\.5'.*\(acknowledgedTools\) and deploy$/,
    ],
    [
      'too-large',
      { ...receiptWith(...all), sizeBytes: 5_400_000_000 },
      all,
      {},
      /needs a disk of \d+, expected at most the 10737418240/,
    ],
  ])('is not possible (%s), and says what to do', (reason, of, stored, change, sentence) => {
    const plan = planDrill(of, stored, { ...config, ...change });
    expect(plan).toMatchObject({ reason, sentence: expect.stringMatching(sentence) as string });
  });

  test('is possible for databases of 4.5 GB', () => {
    expect(planDrill({ ...receiptWith(...all), sizeBytes: 4_500_000_000 }, all, config)).toMatchObject({ tools: all });
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
