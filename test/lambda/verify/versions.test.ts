import {
  GetObjectRetentionCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3';
import { extendLock, getVersion, headVersion, listVersions } from '../../../lambda/shared/store';
import { World } from './world';

let world: World;

beforeEach(() => {
  world = new World();
});

afterEach(() => {
  world.remove();
});

test('lists every version on every page, by key and the oldest first, and markers apart', async () => {
  for (const key of ['receipts/b', 'receipts/a', 'receipts/b', 'receipts/b', 'receipts/c', 'receipts/a']) {
    world.put(key, Buffer.from('x'), {});
  }
  world.deleteMarker('receipts/b');
  const { versions, deleteMarkers } = await listVersions(world.deps.store, 'receipts/');
  expect(versions.map(({ key, versionId }) => `${key} ${versionId}`)).toEqual([
    'receipts/a v2',
    'receipts/a v6',
    'receipts/b v1',
    'receipts/b v3',
    'receipts/b v4',
    'receipts/c v5',
  ]);
  expect(deleteMarkers).toEqual([{ key: 'receipts/b', versionId: 'v7' }]);
  const after = await listVersions(world.deps.store, 'receipts/', 'receipts/a');
  expect(after.versions.map(({ key }) => key)).toEqual(['receipts/b', 'receipts/b', 'receipts/b', 'receipts/c']);
});

test('gives up a list that never ends', async () => {
  world.s3Mock.on(ListObjectVersionsCommand).resolves({ IsTruncated: true, NextKeyMarker: 'x' });
  await expect(listVersions(world.deps.store, 'receipts/')).rejects.toThrow(
    /expected fewer; find out what else writes/,
  );
  expect(world.s3Mock.commandCalls(ListObjectVersionsCommand)).toHaveLength(500);
});

test('throws when a list has a version without an id', async () => {
  world.s3Mock.on(ListObjectVersionsCommand).resolves({ Versions: [{ Key: 'receipts/a' }] });
  await expect(listVersions(world.deps.store, 'receipts/')).rejects.toThrow(
    /got a version without key, id, time or size/,
  );
});

test('asks S3 for the checksum of what is stored', async () => {
  const { stored } = world.put('snapshots/a', Buffer.from('x'), { a: 'b' });
  await expect(headVersion(world.deps.store, stored)).resolves.toEqual({
    metadata: { a: 'b' },
    bytes: 1,
    sha256: '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',
  });
  expect(world.s3Mock.commandCalls(HeadObjectCommand)[0]?.args[0].input).toMatchObject({
    ChecksumMode: 'ENABLED',
    VersionId: stored.versionId,
    ExpectedBucketOwner: '000000000000',
  });
});

test('reads no more into memory than it was told to', async () => {
  const { stored } = world.put('receipts/a', Buffer.alloc(11), {});
  await expect(getVersion(world.deps.store, stored, 10)).rejects.toThrow(/got 11 bytes, expected at most 10/);
  await expect(getVersion(world.deps.store, stored, 11)).resolves.toMatchObject({ bytes: Buffer.alloc(11) });
});

test.each([
  ['GOVERNANCE', 'GOVERNANCE'],
  ['COMPLIANCE', 'COMPLIANCE'],
] as const)('extends a lock of mode %s as %s, and never shortens it', async (mode, written) => {
  const { stored } = world.put('snapshots/a', Buffer.from('x'), {});
  const current = new Date('2026-12-01T00:00:00Z');
  world.s3Mock.on(GetObjectRetentionCommand).resolves({ Retention: { Mode: mode, RetainUntilDate: current } });
  for (const until of [current, new Date('2026-11-30T00:00:00Z')]) {
    await expect(extendLock(world.deps.store, stored, until)).resolves.toBe(false);
  }
  const later = new Date('2026-12-02T00:00:00Z');
  await expect(extendLock(world.deps.store, stored, later)).resolves.toBe(true);
  expect(world.s3Mock.commandCalls(PutObjectRetentionCommand).map(({ args }) => args[0].input)).toEqual([
    expect.objectContaining({
      VersionId: stored.versionId,
      Retention: { Mode: written, RetainUntilDate: later },
    }),
  ]);
});

test('locks what has no lock at all', async () => {
  const { stored } = world.put('snapshots/a', Buffer.from('x'), {});
  stored.lock = undefined;
  await expect(extendLock(world.deps.store, stored, new Date('2026-12-02T00:00:00Z'))).resolves.toBe(true);
  expect(stored.lock).toEqual(new Date('2026-12-02T00:00:00Z'));
});
