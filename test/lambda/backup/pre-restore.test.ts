import { Cloud, NODE_1, NODE_2, NODE_3, refusal, scheduled, snapshotResult } from './cloud';

// The restore began a minute before; its journal lies on the nodes.
const RESTORE = '20261120T135900Z';
const ID = '20261120T140000Z';
const EVENT = { preRestore: { restoreId: RESTORE, instanceId: NODE_2, backupId: ID } };

describe('a backup of what a restore is about to replace', () => {
  test('is taken from that one instance, whose journal it may pass by, and says of which restore it is', async () => {
    const cloud = new Cloud();
    await expect(cloud.backup(EVENT)).resolves.toMatchObject({ outcome: 'stored', backupId: ID, instanceId: NODE_2 });
    expect(cloud.commands.map(({ document, instanceId }) => [document, instanceId])).toEqual([
      ['Snapshot-1A2B', NODE_2],
      ['Upload-3C4D', NODE_2],
    ]);
    expect(cloud.commands.map(({ parameters }) => parameters['RestoreId'])).toEqual([RESTORE, RESTORE]);
    expect(cloud.json(`announcements/${ID}.json`)).toMatchObject({
      trigger: { kind: 'pre-restore', restoreId: RESTORE },
      controlPlane: [NODE_1, NODE_2, NODE_3],
    });
  });

  test('falls over to no other node', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_2] = [refusal(23, 'no-endpoint')];
    await expect(cloud.backup(EVENT)).rejects.toMatchObject({ name: 'AllNodesFailedError' });
    expect(cloud.sent('Snapshot').map(({ instanceId }) => instanceId)).toEqual([NODE_2]);
  });

  test('asked for twice is one backup', async () => {
    const cloud = new Cloud();
    await cloud.backup(EVENT, { requestId: 'first' });
    await expect(cloud.backup(EVENT, { requestId: 'second' })).resolves.toEqual({
      outcome: 'exists',
      backupId: ID,
      key: `snapshots/${ID}.db.zst`,
    });
    expect(cloud.sent('Snapshot')).toHaveLength(1);
  });

  test('is asked for again when the first try failed, and then sends a command of its own', async () => {
    const cloud = new Cloud();
    cloud.snapshots[NODE_2] = [refusal(12, 'already-running')];
    await expect(cloud.backup(EVENT, { requestId: 'first' })).rejects.toMatchObject({ name: 'AllNodesFailedError' });
    await expect(cloud.backup(EVENT, { requestId: 'second' })).resolves.toMatchObject({ outcome: 'stored' });
    expect(cloud.sent('Snapshot')).toHaveLength(2);
  });

  test('of a member without a leader is announced as it is', async () => {
    const cloud = new Cloud();
    const result = snapshotResult(ID, { leaderId: '0', findings: ['no-leader'] });
    cloud.snapshots[NODE_2] = [{ seconds: 5, status: 'Success', responseCode: 0, stdout: JSON.stringify(result) }];
    await cloud.backup(EVENT);
    expect(cloud.json(`announcements/${ID}.json`)).toMatchObject({
      leaderId: '0',
      isLeader: false,
      findings: ['no-leader', 'tool-unknown'],
    });
  });

  test.each([
    ['is stored', true],
    ['is only begun', false],
  ])('fails with the id of another backup, which %s', async (_, isStored) => {
    const cloud = new Cloud();
    cloud.uploads[NODE_1] = isStored ? [] : [refusal(73, 'upload-failed')];
    cloud.snapshots[NODE_2] = isStored ? [] : [refusal(64, 'too-large')];
    const first = cloud.backup(scheduled('2026-11-20T14:00:00Z'), { requestId: 'scheduled' });
    await (isStored ? first : expect(first).rejects.toMatchObject({ name: 'BackupRefusedError' }));
    const sent = cloud.commands.length;
    await expect(cloud.backup(EVENT, { requestId: 'restore' })).rejects.toMatchObject({
      name: 'EventError',
      message: expect.stringMatching(
        /preRestore\.backupId: got "20261120T140000Z", which is the id of another backup \(schedule\).*another second/,
      ) as unknown,
    });
    expect(cloud.commands).toHaveLength(sent);
  });

  test('fails for an instance that is no running control-plane node, and names those that are', async () => {
    const cloud = new Cloud();
    const event = { preRestore: { ...EVENT.preRestore, instanceId: 'i-0000000000000000f' } };
    await expect(cloud.backup(event)).rejects.toMatchObject({
      name: 'NoNodeError',
      message: expect.stringMatching(
        /instance i-0000000000000000f: got none .* among i-.*1, i-.*2, i-.*3, expected/,
      ) as unknown,
    });
    expect(cloud.commands).toEqual([]);
  });

  test('is not stopped by earlier announcements that nobody can trust, which stop every other backup', async () => {
    const cloud = new Cloud();
    cloud.objects.set('snapshots/20261120T130000Z.db.zst', { bytes: Buffer.alloc(0), metadata: { cluster: 'lab' } });
    await expect(cloud.backup({}, { requestId: 'on-demand' })).rejects.toMatchObject({ name: 'AnnouncementError' });
    await expect(cloud.backup(EVENT, { requestId: 'restore' })).resolves.toMatchObject({ outcome: 'stored' });
    expect(cloud.json(`announcements/${ID}.json`)).toMatchObject({
      findings: ['previous-announcement-untrusted', 'tool-unknown'],
    });
  });

  test('sends no tools: the node is about to be stopped', async () => {
    const cloud = new Cloud();
    const result = snapshotResult(ID, { imageTools: [{ name: 'etcd', sha256: 'a'.repeat(64), bytes: 25_000_000 }] });
    cloud.snapshots[NODE_2] = [{ seconds: 5, status: 'Success', responseCode: 0, stdout: JSON.stringify(result) }];
    await cloud.backup(EVENT);
    expect(cloud.sent('Tools')).toEqual([]);
  });
});

describe('the backup after it', () => {
  const hourly = (cloud: Cloud, hour: number) => {
    const time = `2026-11-20T${String(hour)}:00:00Z`;
    return cloud.backup(scheduled(time), { requestId: time });
  };

  test('is held against the last backup that is none of a restore', async () => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    await hourly(cloud, 13);
    cloud.time.advance(3600);
    const members = snapshotResult(ID).members.slice(0, 1);
    const result = snapshotResult(ID, { members });
    cloud.snapshots[NODE_2] = [{ seconds: 5, status: 'Success', responseCode: 0, stdout: JSON.stringify(result) }];
    await cloud.backup(EVENT, { requestId: 'restore' });
    cloud.time.advance(3600);
    await hourly(cloud, 15);
    expect(cloud.sent('Snapshot').at(-1)?.parameters).toMatchObject({ MembersBefore: '3', RestoreId: '' });
  });

  test.each([
    [`restores/${RESTORE}.json`, '2026-11-20T14:20:00Z', '0', 'a restore that was done since: members may be fewer'],
    [`restores/${RESTORE}.json`, '2026-11-20T12:59:00Z', '3', 'a restore that was done before the last backup'],
    [`restores/${RESTORE}/plan.json`, '2026-11-20T14:20:00Z', '3', 'a plan'],
    [`restores/${RESTORE}/failed.json`, '2026-11-20T14:20:00Z', '3', 'a restore that failed'],
  ])('with %s of %s in the bucket asks for at least %s members: %s', async (key, storedAt, expected) => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    await hourly(cloud, 13);
    cloud.objects.set(key, { bytes: Buffer.from('{}'), metadata: {}, storedAt: new Date(storedAt) });
    cloud.time.advance(2 * 3600);
    await hourly(cloud, 15);
    expect(cloud.sent('Snapshot').at(-1)?.parameters['MembersBefore']).toBe(expected);
  });
});
