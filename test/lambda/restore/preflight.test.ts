import { constants, privateDecrypt } from 'node:crypto';
import { bumpOf, checkStaged, expectedPins, initialCluster } from '../../../lambda/restore/preflight';
import { hex } from '../backup/cloud';
import {
  keyMade,
  killed,
  NODE_1,
  NODE_2,
  NODE_KEYS,
  NODES,
  ok,
  RESTORE_ID,
  SNAPSHOT,
  stateAfterInspect,
  World,
} from './world';

describe('the parameters of the stage', () => {
  test('name the snapshot as the receipt has it, the whole cluster, and what the tools may be', async () => {
    const world = new World();
    const state = await world.phase('Preflight', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(state).toMatchObject({ bump: 1_000_000_500, token: `lab-${RESTORE_ID}` });
    const [key, stage] = world.sent('preflight', NODE_2);
    expect(Object.values({ ...key?.parameters, RestoreId: '', Step: '' }).join('')).toBe('');
    expect(key?.parameters).toMatchObject({ RestoreId: RESTORE_ID, Step: 'key' });
    expect(Object.keys(stage?.parameters ?? {}).sort()).toEqual(Object.keys(key?.parameters ?? {}).sort());
    expect(stage?.parameters).toMatchObject({
      Step: 'stage',
      Compression: 'zstd',
      CompressedBytes: '9000000',
      CompressedSha256: SNAPSHOT.compressedSha256,
      SizeBytes: '50000032',
      Sha256: SNAPSHOT.sha256,
      Revision: '1000',
      Bump: '1000000500',
      InitialCluster: 'cp1=https://10.0.0.1:2380,cp2=https://10.0.0.2:2380,cp3=https://10.0.0.3:2380',
      Token: `lab-${RESTORE_ID}`,
      ToolPins: `3.6.5/amd64/etcdctl=${hex('ctl')} 3.6.5/amd64/etcdutl=${hex('utl')}`,
      ToolUrls: '',
      EtcdVersion: '3.6.5',
      DiskLimitPercent: '80',
      AllowQuota: 'no',
    });
  });

  test('have the URL of the proven version, and its signature only sealed', async () => {
    const world = new World();
    await world.phase('Preflight', stateAfterInspect());
    const [, stage] = world.sent('preflight', NODE_1);
    const { SnapshotUrl: url = '', SealedSignature: sealed = '' } = stage?.parameters ?? {};
    expect(new URL(url).searchParams.get('versionId')).toBe(SNAPSHOT.versionId);
    expect(url).toMatch(/X-Amz-Signature=$/);
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    const opened = privateDecrypt(
      { key: NODE_KEYS.privateKey, padding, oaepHash: 'sha256' },
      Buffer.from(sealed, 'base64'),
    ).toString();
    expect(opened).toMatch(/^[0-9a-f]{64}$/);
    const everything = JSON.stringify([world.lines, world.commands]);
    expect(everything).not.toContain(opened);
  });

  test('have a URL as young as the command', async () => {
    const world = new World();
    world.answer('preflight', NODE_1, keyMade(), killed());
    await world.phase('Preflight', stateAfterInspect());
    const sealed = world
      .sent('preflight', NODE_1)
      .slice(1)
      .map(({ parameters }) => parameters['SealedSignature']);
    expect(sealed).toHaveLength(2);
    expect(new Set(sealed).size).toBe(2);
  });

  test('let a tool of unknown origin and a database over quota pass when that is forced', async () => {
    const world = new World();
    world.objects.set(`tools/3.6.5/amd64/${hex('mine')}/etcdutl`, { body: Buffer.alloc(1), metadata: {} });
    const asked = stateAfterInspect();
    await world.phase('Preflight', { ...asked, request: { ...asked.request, forced: ['unknown-tool', 'quota'] } });
    const { ToolPins, ToolUrls, AllowQuota } = world.sent('preflight', NODE_1)[1]?.parameters ?? {};
    expect(ToolPins).toBe('');
    expect(ToolUrls).toContain(`3.6.5/amd64/etcdutl=${hex('mine')}=https://`);
    expect(AllowQuota).toBe('yes');
  });

  test('have URLs of those tools in the bucket that may run, in the version of the node', async () => {
    const world = new World();
    world.acknowledgedTools = [hex('acknowledged')];
    for (const [version, sha256] of [
      ['3.6.5', hex('utl')],
      ['3.6.5', hex('acknowledged')],
      ['3.6.5', hex('unknown')],
      ['3.6.6', hex('acknowledged')],
    ] as const) {
      world.objects.set(`tools/${version}/amd64/${sha256}/etcdutl`, { body: Buffer.alloc(1), metadata: {} });
    }
    await world.phase('Preflight', stateAfterInspect());
    const urls = world.sent('preflight', NODE_1)[1]?.parameters['ToolUrls'] ?? '';
    expect(
      urls
        .split(' ')
        .map((entry) => entry.split('=').slice(0, 2).join('='))
        .sort(),
    ).toEqual([hex('utl'), hex('acknowledged')].map((sha256) => `3.6.5/amd64/etcdutl=${sha256}`).sort());
  });
});

describe('Preflight', () => {
  test('says which hashes are too many for a call, before anything is sent', async () => {
    const world = new World();
    world.acknowledgedTools = Array.from({ length: 12 }, (_, index) => hex(String(index)));
    const state = await world.phase('Preflight', stateAfterInspect());
    expect(state.failure).toEqual({
      error: 'PreflightFailed',
      cause: expect.stringMatching(
        /^hashes that tools of i-\S+ \(cp1\) may have: got 2209 characters for etcd 3\.6\.5, expected at most 1500; .*acknowledgedTools/,
      ) as string,
    });
    expect(world.commands).toHaveLength(0);
    const asked = stateAfterInspect();
    const forced = { ...asked, request: { ...asked.request, forced: ['unknown-tool' as const] } };
    expect((await world.phase('Preflight', forced)).step.ok).toBe(true);
  });

  test('stages nothing anywhere when one node makes no key', async () => {
    const world = new World();
    world.answer('preflight', NODE_2, ok({ publicKey: 'A'.repeat(500) }));
    const state = await world.phase('Preflight', stateAfterInspect());
    expect(state.failure).toEqual({
      error: 'PreflightFailed',
      cause: expect.stringContaining(`${NODE_2} (cp2): public key of the node: got`) as string,
    });
    expect(world.sent('preflight')).toHaveLength(3);
  });

  test('fails when one node staged another database', async () => {
    const world = new World();
    const staged = { hash: 1, revision: 1_000_001_500, totalKey: 12 };
    const seconds = { check: 0, download: 1, restore: 1, total: 2 };
    world.answer('preflight', NODE_2, keyMade(), ok({ staged, seconds, removedKept: [], tools: [] }));
    const state = await world.phase('Preflight', stateAfterInspect());
    expect(state.step.ok).toBe(false);
    expect(state.failure?.cause).toContain(`${NODE_2} (cp2) hash 1 revision 1000001500`);
  });

  test('says whose kept data was removed to make room', async () => {
    const world = new World();
    const staged = { hash: 4711, revision: 1_000_001_500, totalKey: 12 };
    const seconds = { check: 0, download: 1, restore: 1, total: 2 };
    world.answer('preflight', NODE_2, keyMade(), ok({ staged, seconds, removedKept: ['20260101T000000Z'] }));
    const state = await world.phase('Preflight', stateAfterInspect());
    expect(state.warnings).toEqual([
      `${NODE_2} (cp2): the data that restore 20260101T000000Z had kept was removed to make room`,
    ]);
  });

  test('fails without a snapshot, and asks no node', async () => {
    const world = new World();
    const state = await world.phase('Preflight', stateAfterInspect({ snapshot: null }));
    expect(state.failure?.cause).toMatch(/^snapshot in the state of the execution: got none/);
    expect(world.commands).toHaveLength(0);
  });

  test('goes on in a second call while one node still stages', async () => {
    const world = new World();
    const staged = { hash: 4711, revision: 1_000_001_500, totalKey: 12 };
    const seconds = { check: 0, download: 1, restore: 1, total: 2 };
    world.answer('preflight', NODE_2, keyMade(), ok({ staged, seconds, removedKept: [] }, 1300));
    const first = await world.callPhase('Preflight', stateAfterInspect());
    expect(first.step.done).toBe(false);
    const last = await world.phase('Preflight', first);
    expect(last.step.ok).toBe(true);
    expect(world.sent('preflight')).toHaveLength(6);
  });
});

test.each([
  [1000, 0, 1_000_000_000],
  [1000, 999, 1_000_000_000],
  [1000, 5000, 1_000_004_000],
])('a snapshot of revision %i, with %i the highest seen, is raised by %i', (revision, highestRevision, bump) => {
  expect(bumpOf({ highestRevision }, { revision })).toBe(bump);
});

test('restored twice, one backup begins above all that the first restore had', () => {
  const first = 1000 + bumpOf({ highestRevision: 1500 }, SNAPSHOT);
  const second = 1000 + bumpOf({ highestRevision: first + 20 }, SNAPSHOT);
  expect(second).toBeGreaterThan(first + 1_000_000_000);
});

test('every URL of a member that has two is in the initial cluster', () => {
  const [node] = NODES;
  expect(
    initialCluster(node === undefined ? [] : [{ ...node, peerUrls: 'https://a:2380,https://[fd00::1]:2380' }]),
  ).toBe('cp1=https://a:2380,cp1=https://[fd00::1]:2380');
});

describe('pins', () => {
  const node = { arch: 'arm64' as const, etcdVersion: '3.5.30' };

  test('let no tool run that neither the official list nor the configuration names', () => {
    expect(expectedPins(node, {}, []).split(' ')).toEqual(
      ['etcdctl', 'etcdutl'].map((name) => `3.5.30/arm64/${name}=${'0'.repeat(64)}`),
    );
  });

  test('have the official hash and the acknowledged ones', () => {
    const official = { '3.5.30': { arm64: { etcdctl: hex('official') }, amd64: { etcdutl: hex('other') } } };
    expect(expectedPins(node, official, [hex('mine')]).split(' ')).toEqual([
      `3.5.30/arm64/etcdctl=${hex('official')}`,
      `3.5.30/arm64/etcdctl=${hex('mine')}`,
      `3.5.30/arm64/etcdutl=${hex('mine')}`,
    ]);
  });
});

test.each([
  ['equal ones at the expected revision', [1, 1, 1], 7, true],
  ['one that differs', [1, 2, 1], 7, false],
  ['another revision', [1, 1, 1], 8, false],
])('staged databases: %s', (_, hashes, revision, fine) => {
  const staged = NODES.map((node, index) => ({
    node,
    value: { staged: { hash: hashes[index] ?? 0, revision: 7, totalKey: 1 } },
  }));
  expect(checkStaged(staged, revision) === undefined).toBe(fine);
});
