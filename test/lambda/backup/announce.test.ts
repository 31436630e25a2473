import { makeAnnouncement, publishAnnouncement, snapshotMetadata } from '../../../lambda/backup/announce';
import {
  type Announcement,
  announcementBytes,
  canonicalJson,
  readAnnouncement,
} from '../../../lambda/shared/announcement';
import { Cloud, hex, NODE_1, snapshotResult } from './cloud';

const ID = '20261120T140000Z';

const announcement = (change: Partial<Parameters<typeof makeAnnouncement>[0]> = {}): Announcement =>
  makeAnnouncement({
    result: snapshotResult(ID),
    command: { instanceId: NODE_1, commandId: 'c-1' },
    earlierCommands: [],
    trigger: { kind: 'schedule', scheduledTime: '2026-11-20T14:00:00Z' },
    clusterName: 'lab',
    bucket: 'lab-backups',
    previous: undefined,
    officialTools: {},
    acknowledgedTools: [],
    controlPlane: [],
    findings: [],
    ...change,
  });

test('equal content has equal bytes, whatever order its fields came in', () => {
  const { backupId, ...rest } = announcement();
  expect(announcementBytes({ ...rest, backupId })).toEqual(announcementBytes(announcement()));
  expect(canonicalJson({ b: [1, { d: null, c: 'x' }], a: true })).toBe('{"a":true,"b":[1,{"c":"x","d":null}]}');
});

test('an announcement can be read back as it was made', () => {
  expect(readAnnouncement('k', announcementBytes(announcement()))).toEqual(announcement());
});

test.each([
  ['no JSON', '<xml/>', /announcements\/a\.json: got 6 bytes that are no JSON, expected an announcement/],
  [
    'another schema',
    JSON.stringify({ ...announcement(), schema: 2 }),
    /announcements\/a\.json: schema: got 2, expected 1/,
  ],
])('throws on an announcement that is %s', (_, bytes, expected) => {
  expect(() => readAnnouncement('announcements/a.json', Buffer.from(bytes))).toThrow(expected);
});

test('a tool on the list of official releases is official, any other is a finding', () => {
  const officialTools = { '3.6.5': { amd64: { etcdctl: hex('etcdctl 3.6.5') } } };
  expect(announcement({ officialTools })).toMatchObject({ tools: [{ official: true }], findings: [] });
  expect(announcement()).toMatchObject({ tools: [{ official: false }], findings: ['tool-unknown'] });
});

test('findings are in order and named once', () => {
  const result = snapshotResult(ID, { findings: ['tools-missing', 'corrupt-alarm', 'tool-unknown'] });
  expect(announcement({ result, findings: ['scale-down-acknowledged'] }).findings).toEqual([
    'corrupt-alarm',
    'scale-down-acknowledged',
    'tool-unknown',
    'tools-missing',
  ]);
});

test('metadata stays under 2 KB with the largest values that a node may say', async () => {
  const cloud = new Cloud();
  const result = snapshotResult(ID, {
    revision: Number.MAX_SAFE_INTEGER,
    totalKey: Number.MAX_SAFE_INTEGER,
    size: Number.MAX_SAFE_INTEGER,
    hash: 0xffff_ffff,
    etcdVersion: `1234.1234.1234-${'x'.repeat(31)}`,
  });
  const published = await publishAnnouncement(cloud.deps, announcement({ result, clusterName: 'x'.repeat(32) }));
  const bytes = Object.entries(snapshotMetadata({ ...published, key: `announcements/${ID}.9.json` }))
    .map(([name, value]) => Buffer.byteLength(name) + Buffer.byteLength(value))
    .reduce((sum, length) => sum + length, 0);
  expect(bytes).toBeLessThan(2048);
});

describe('numbers of announcements', () => {
  test('the same content again is the same announcement, with the signature that is stored', async () => {
    const cloud = new Cloud();
    const first = await publishAnnouncement(cloud.deps, announcement());
    const second = await publishAnnouncement(cloud.deps, announcement());

    expect(first).toMatchObject({ key: `announcements/${ID}.json`, created: true });
    expect(second).toEqual({ ...first, created: false });
  });

  test('other content gets the next number, up to nine', async () => {
    const cloud = new Cloud();
    const keys = [];
    for (let number = 1; number <= 9; number++) {
      const result = snapshotResult(ID, { revision: number });
      keys.push((await publishAnnouncement(cloud.deps, announcement({ result }))).key);
    }
    expect(keys.slice(0, 3)).toEqual([
      `announcements/${ID}.json`,
      `announcements/${ID}.2.json`,
      `announcements/${ID}.3.json`,
    ]);
    await expect(publishAnnouncement(cloud.deps, announcement())).rejects.toThrow(
      /announcements of 20261120T140000Z: got 9 with other contents, expected at most one per node/,
    );
  });

  test('throws when the same content is there with a signature that is not ours', async () => {
    const cloud = new Cloud();
    const { key } = await publishAnnouncement(cloud.deps, announcement());
    const stored = cloud.objects.get(key);
    cloud.objects.set(key, { bytes: stored?.bytes ?? Buffer.alloc(0), metadata: { signature: 'Zm9yZ2Vk' } });
    await expect(publishAnnouncement(cloud.deps, announcement())).rejects.toMatchObject({ name: 'AnnouncementError' });
  });
});
