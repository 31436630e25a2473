import { PlanCloud } from './cloud';
import { snapshotFacts } from '../verify/world';

let cloud: PlanCloud;
beforeEach(() => {
  cloud = new PlanCloud();
});
afterEach(() => {
  cloud.world.remove();
});

const id = (hour: number) => `20261120T${String(hour).padStart(2, '0')}0000Z`;
const chosen = async (input: unknown) => (await cloud.choose(input)).snapshot?.backupId;
/** A restore that ended well: its record begins a timeline. */
const restored = (restoreId: string, record: object = {}) => {
  cloud.world.put(`restores/${restoreId}.json`, Buffer.from(JSON.stringify({ schema: 1, restoreId, ...record })), {});
};

test('the newest verified backup is chosen by its version, with what its receipt says', async () => {
  await cloud.verified(id(10));
  const { stored } = await cloud.verified(id(11));
  const { snapshot, warnings } = await cloud.choose({});
  const receipt = cloud.world.receipt(id(11));
  expect(warnings).toEqual([]);
  expect(snapshot).toEqual({
    backupId: id(11),
    key: stored.key,
    versionId: stored.versionId,
    compression: 'zstd',
    compressedBytes: stored.bytes.length,
    compressedSha256: receipt.compressedSha256,
    sizeBytes: receipt.sizeBytes,
    sha256: receipt.sha256,
    revision: 123_456,
    hash: 2_912_345_678,
    etcdVersion: '3.6.5',
    kubernetesVersion: 'v1.33.1',
  });
});

test('a newer one that was not verified is passed over and told', async () => {
  await cloud.verified(id(10));
  cloud.world.backup(id(11));
  const { snapshot, warnings } = await cloud.choose({});
  expect(snapshot?.backupId).toBe(id(10));
  expect(warnings).toEqual([
    `a newer backup was passed over: ${id(11)}: it has no receipt: it was not verified, or not yet`,
  ]);
});

test('however many newer ones were not verified, the newest that was is chosen', async () => {
  await cloud.verified(id(10));
  for (let second = 0; second < 301; second++) {
    const time = `${String(Math.floor(second / 60)).padStart(2, '0')}${String(second % 60).padStart(2, '0')}`;
    cloud.world.put(`snapshots/20261120T11${time}Z.db.zst`, Buffer.from('x'), {});
  }
  const { snapshot, warnings } = await cloud.choose({});
  expect(snapshot?.backupId).toBe(id(10));
  expect(warnings.at(-1)).toBe('and 296 more');
});

test('a backup that is asked for by its id and has no receipt is refused, and the newest that could be is named', async () => {
  await cloud.verified(id(10));
  cloud.world.backup(id(11));
  await expect(cloud.choose({ snapshot: id(11) })).rejects.toThrow(
    new RegExp(
      `backup ${id(11)}: got a stored snapshot without a receipt.*the newest that can be restored is ${id(10)}`,
    ),
  );
  await expect(cloud.choose({ snapshot: id(9) })).rejects.toThrow(`backup ${id(9)}: got no snapshot with this id`);
});

describe('a receipt that cannot be trusted', () => {
  const forge = (change: (receipt: Record<string, unknown>) => Record<string, unknown>, metadata = true) => {
    const index = cloud.world.stored.findIndex(({ key }) => key === `receipts/${id(11)}.json`);
    const stored = cloud.world.stored[index];
    if (stored === undefined) {
      throw new Error('no receipt');
    }
    const bytes = Buffer.from(JSON.stringify(change(JSON.parse(stored.bytes.toString()) as Record<string, unknown>)));
    cloud.world.stored[index] = { ...stored, bytes, metadata: metadata ? stored.metadata : {} };
  };

  test.each<[string, (receipt: Record<string, unknown>) => Record<string, unknown>, boolean, string]>([
    ['forged', (receipt) => ({ ...receipt, findings: [], class: 'monthly', timeline: 'x' }), true, 'did not make'],
    ['unsigned', (receipt) => receipt, false, 'got none, expected one in base64'],
    ['of another version', (receipt) => ({ ...receipt, schema: 2 }), true, 'expected the fields of schema 1'],
  ])('%s: refused by id, passed over as newest', async (_, change, metadata, why) => {
    await cloud.verified(id(10));
    await cloud.verified(id(11));
    forge(change, metadata);
    await expect(cloud.choose({ snapshot: id(11) })).rejects.toThrow(why);
    await expect(cloud.choose({ snapshot: id(11), confirm: 'lab' })).rejects.toMatchObject({
      name: 'RestoreRefusedError',
    });
    const { snapshot, warnings } = await cloud.choose({});
    expect(snapshot?.backupId).toBe(id(10));
    expect(warnings[0]).toContain(why);
    expect(cloud.sent).toEqual([]);
  });

  test("another cluster's, copied here with its signature, is refused", async () => {
    await cloud.verified(id(10));
    await cloud.verified(id(11));
    cloud.change = { clusterName: 'other' };
    await expect(cloud.choose({ snapshot: id(11) })).rejects.toThrow(
      "cluster of receipts/20261120T110000Z.json: got 'lab', expected 'other'",
    );
  });
});

test('a later version and a delete marker over the proven one hide nothing, and are told', async () => {
  const { stored } = await cloud.verified(id(10));
  cloud.world.put(stored.key, Buffer.from('forged'), {});
  cloud.world.deleteMarker(stored.key);
  for (const input of [{}, { snapshot: id(10) }]) {
    const { snapshot, warnings } = await cloud.choose(input);
    expect(snapshot).toMatchObject({ backupId: id(10), versionId: stored.versionId });
    expect(warnings).toEqual([
      expect.stringContaining('1 other version(s) lie under the key'),
      expect.stringContaining('1 delete marker(s) lie over'),
    ]);
  }
});

test('a delete marker and an unsigned version over the receipt hide nothing either', async () => {
  await cloud.verified(id(10));
  cloud.world.put(`receipts/${id(10)}.json`, Buffer.from('{}'), {});
  cloud.world.deleteMarker(`receipts/${id(10)}.json`);
  expect(await chosen({})).toBe(id(10));
});

test('a backup whose proven version is gone, or is as long as it was not, is refused', async () => {
  await cloud.verified(id(9));
  const { stored } = await cloud.verified(id(10));
  const at = cloud.world.stored.indexOf(stored);
  cloud.world.stored[at] = { ...stored, bytes: Buffer.from('shorter') };
  await expect(cloud.choose({ snapshot: id(10) })).rejects.toThrow(/has 7 bytes, expected \d+ as its receipt says/);
  cloud.world.stored.splice(at, 1);
  await expect(cloud.choose({ snapshot: id(10) })).rejects.toThrow('is not in the bucket any more');
  const { snapshot, warnings } = await cloud.choose({});
  expect(snapshot?.backupId).toBe(id(9));
  expect(warnings[0]).toContain('is not in the bucket any more');
});

test('the newest before a time is strictly before it', async () => {
  await cloud.verified(id(10));
  await cloud.verified(id(11));
  expect(await chosen({ snapshot: 'newest before 2026-11-20T11:00:00Z' })).toBe(id(10));
  expect(await chosen({ snapshot: 'newest before 2026-11-20T11:00:01Z' })).toBe(id(11));
  await expect(cloud.choose({ snapshot: 'newest before 2026-11-20T10:00:00Z' })).rejects.toThrow(
    `no verified backup before ${id(10)} on the timeline of then (the first one)`,
  );
});

describe('timelines', () => {
  const facts = (revision: number) => snapshotFacts({ revision });

  test('after a restore the newest is one of after it; before there is one, those of before are named and not taken', async () => {
    await cloud.verified(id(8));
    await cloud.verified(id(9));
    restored('20261120T093000Z', { revisionAfter: 1_000_123_456, snapshot: { backupId: id(8), sizeBytes: 1 } });
    await expect(cloud.choose({})).rejects.toThrow(
      `no verified backup on the timeline of now (which began with the restore 20261120T093000Z of backup ${id(8)}); nothing was changed anywhere; ${id(9)}, of the timeline before, could be restored`,
    );
    expect(await chosen({ snapshot: id(9) })).toBe(id(9));
    cloud.world.reader = () => facts(1_000_200_000);
    await cloud.verified(id(10), { result: { revision: 1_000_200_000, liveRevision: 1_000_200_000 } });
    expect(await chosen({})).toBe(id(10));
    expect(await chosen({ snapshot: 'newest before 2026-11-20T09:20:00Z' })).toBe(id(9));
  });

  test('a backup that was saved between the start of a restore and its stop is of the timeline before', async () => {
    await cloud.verified(id(9));
    restored('20261120T093000Z', { revisionAfter: 1_000_123_456 });
    // Its id is later than the restore's, its revision is not.
    await cloud.verified('20261120T093001Z');
    await expect(cloud.choose({})).rejects.toThrow('no verified backup on the timeline of now');
  });

  test('a pre-restore backup is never the newest, and can be asked for by its id', async () => {
    await cloud.verified(id(9));
    await cloud.verified(id(10), { trigger: { kind: 'pre-restore', restoreId: '20261120T095900Z' } });
    expect(await chosen({})).toBe(id(9));
    expect(await chosen({ snapshot: id(10) })).toBe(id(10));
  });
});

test('with no backup at all the refusal says so', async () => {
  await expect(cloud.choose({})).rejects.toThrow('no backup can be restored: look at the verify function');
});

test('when S3 or KMS do not answer, nothing is said about backups', async () => {
  await cloud.verified(id(10));
  cloud.world.kmsDown = true;
  await expect(cloud.choose({})).rejects.toMatchObject({ name: 'SigningKeyError' });
});

test('a survivor is its own snapshot: none is chosen, and the state says what was asked for', async () => {
  expect(await cloud.choose({ confirm: 'lab', from: 'survivor', reason: 'quorum lost' })).toMatchObject({
    restoreId: '20261120T150000Z',
    mode: 'restore',
    snapshot: null,
    rollbackId: null,
    plan: null,
    request: { from: 'survivor', reason: 'quorum lost' },
  });
});
