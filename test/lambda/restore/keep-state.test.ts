import { keptId } from '../../../lambda/restore/keep-state';
import { chosenFromReceipt, highestRevisionOf } from '../../../lambda/shared/chosen-snapshot';
import type { Receipt } from '../../../lambda/shared/receipt';
import { World as VerifyWorld } from '../verify/world';
import { NODE_2, RESTORE_ID, stateAfterInspect, World } from './world';

const KEPT = '20261120T140001Z';
const TIME_LEFT = { errorType: 'TimeLeftError', errorMessage: 'phase upload: 59 s are left' };
const REFUSED = { errorType: 'AllNodesFailedError', errorMessage: 'no node could back up etcd: i-1: no-quorum (41)' };

describe('KeepCurrentState', () => {
  test('keeps what is there as a backup of the restore', async () => {
    const world = new World();
    const state = await world.phase('KeepCurrentState', stateAfterInspect());
    expect(state).toMatchObject({ keptBackupId: KEPT, warnings: [], step: { ok: true } });
  });

  test('does nothing when the survivor was kept before', async () => {
    const world = new World();
    const state = await world.phase('KeepCurrentState', stateAfterInspect({ keptBackupId: KEPT }));
    expect(state.step.ok).toBe(true);
    expect(world.invoked).toHaveLength(0);
  });

  test('goes on with a warning when no member serves', async () => {
    const world = new World();
    const state = await world.phase('KeepCurrentState', stateAfterInspect({ survivor: null }));
    expect(state).toMatchObject({ keptBackupId: null, step: { ok: true } });
    expect(state.warnings).toEqual([expect.stringContaining('no member serves')]);
    expect(world.invoked).toHaveLength(0);
  });

  test('goes on with a warning when the backup is refused', async () => {
    const world = new World();
    world.backups.push(REFUSED);
    const state = await world.phase('KeepCurrentState', stateAfterInspect());
    expect(state).toMatchObject({ keptBackupId: null, step: { ok: true } });
    expect(state.warnings).toEqual([expect.stringContaining('AllNodesFailedError: no node could back up etcd')]);
    expect(world.invoked).toHaveLength(1);
  });

  test.each([TIME_LEFT, { thrown: 'TimeoutError' }, { thrown: 'TooManyRequestsException' }])(
    'asks for the same backup again after %j',
    async (answer) => {
      const world = new World();
      world.backups.push(answer);
      const state = await world.phase('KeepCurrentState', stateAfterInspect());
      expect(state.keptBackupId).toBe(KEPT);
      expect(world.invoked[1]).toEqual(world.invoked[0]);
    },
  );

  test('does not ask for ever', async () => {
    const world = new World();
    world.backups.push(...Array.from({ length: 300 }, () => TIME_LEFT));
    let state = stateAfterInspect();
    for (let calls = 1; calls <= 10 && !(state.step.done && calls > 1); calls++) {
      world.advance(600);
      state = await world.callPhase('KeepCurrentState', state);
    }
    expect(state.step).toMatchObject({ done: true, ok: true });
    expect(state.warnings).toHaveLength(1);
  });

  test.each([
    [{ stored: 'yesterday' }, /backupId: got "yesterday", expected a backup id/],
    [{ thrown: 'AccessDeniedException' }, /lambda:InvokeFunction of backup-function: got AccessDeniedException/],
  ])('goes on with a warning after the answer %j', async (answer, message) => {
    const world = new World();
    world.backups.push(answer);
    const state = await world.phase('KeepCurrentState', stateAfterInspect());
    expect(state.keptBackupId).toBeNull();
    expect(state.warnings).toEqual([expect.stringMatching(message)]);
  });
});

describe('TakeBackup', () => {
  test('goes on with a warning, in the summary too, when no backup can be taken', async () => {
    const world = new World();
    world.backups.push(REFUSED);
    const state = await world.phase('TakeBackup', stateAfterInspect({ plan: { result: 'Restored', warnings: [] } }));
    expect(state.step.ok).toBe(true);
    expect(state.warnings).toEqual([expect.stringContaining('no backup was taken after the restore')]);
    expect(state.plan).toEqual({ result: 'Restored', warnings: state.warnings });
  });
});

describe('KeepSurvivor', () => {
  const asked = stateAfterInspect();
  const fromSurvivor = { ...asked, snapshot: null, request: { ...asked.request, from: 'survivor' as const } };

  /** The receipt of the survivor's backup, as verify signs it. */
  async function proven() {
    const verifying = new VerifyWorld();
    await verifying.verify(verifying.backup(KEPT).event);
    const receipt = verifying.stored.find(({ key }) => key === `receipts/${KEPT}.json`);
    verifying.remove();
    if (receipt === undefined) {
      throw new Error('verify wrote no receipt');
    }
    return receipt;
  }

  test('takes the snapshot of the survivor, waits for its proof, and restores that one', async () => {
    const receipt = await proven();
    const world = new World();
    const first = await world.callPhase('KeepSurvivor', fromSurvivor);
    expect(first).toMatchObject({ keptBackupId: KEPT, snapshot: null, step: { done: false } });
    expect(world.invoked).toEqual([{ preRestore: { restoreId: RESTORE_ID, instanceId: NODE_2, backupId: KEPT } }]);
    const waiting = await world.callPhase('KeepSurvivor', first);
    expect(waiting.step.done).toBe(false);
    world.objects.set(receipt.key, { body: receipt.bytes, metadata: receipt.metadata });
    const last = await world.phase('KeepSurvivor', waiting);
    expect(last.step).toMatchObject({ done: true, ok: true });
    expect(last.snapshot).toEqual(chosenFromReceipt(JSON.parse(receipt.bytes.toString()) as Receipt));
    expect(last.snapshot).toMatchObject({ backupId: KEPT, versionId: 'v2', revision: 123_456, hash: 2_912_345_678 });
    expect(last.highestRevision).toBe(123_456);
    expect(last.clusterIdsBefore).toEqual(['cdf818194e3a8c32']);
    expect(world.invoked).toHaveLength(1);
    expect(world.commands).toHaveLength(0);
  });

  test('fails when the snapshot cannot be taken', async () => {
    const world = new World();
    world.backups.push(REFUSED);
    const state = await world.phase('KeepSurvivor', fromSurvivor);
    expect(state.failure).toEqual({
      error: 'KeepSurvivorFailed',
      cause: expect.stringMatching(/^snapshot of the survivor .*no-quorum.*; nothing was changed/) as string,
    });
  });

  test('fails when no proof comes', async () => {
    const world = new World();
    const state = await world.phase('KeepSurvivor', fromSurvivor);
    expect(state.failure?.cause).toMatch(/^receipts\/20261120T140001Z\.json: got none that can be trusted, expected/);
    expect(state.seconds['KeepSurvivor']).toBeLessThan(1300);
  });

  test('fails when what lies there is no receipt, and says so', async () => {
    const world = new World();
    world.objects.set(`receipts/${KEPT}.json`, { body: Buffer.from('{}'), metadata: {} });
    const state = await world.phase('KeepSurvivor', fromSurvivor);
    expect(state.failure?.cause).toContain('got other than what a receipt has');
  });

  test('fails without a survivor', async () => {
    const world = new World();
    const state = await world.phase('KeepSurvivor', { ...fromSurvivor, survivor: null });
    expect(state.failure?.cause).toMatch(/^members that serve a snapshot: got none/);
  });
});

test.each([
  ['20261120T140000Z', '20261120T140001Z'],
  ['20261120T140059Z', '20261120T140101Z'],
  ['20261231T235959Z', '20270101T000001Z'],
])('the backup before restore %s is %s, which no schedule takes', (restoreId, backupId) => {
  expect(keptId(restoreId)).toBe(backupId);
});

test.each([
  [10, null, 5, 10],
  [10, 12, 5, 12],
  [10, 12, 15, 15],
])('of revision %s, compaction %s and live revision %s the highest is %s', (revision, compacted, live, highest) => {
  const receipt = {
    snapshot: { revision, mvcc: { tombstones: 0, compactedRevision: compacted } },
    announced: { liveRevision: live },
  } as unknown as Receipt;
  expect(highestRevisionOf(receipt)).toBe(highest);
});
