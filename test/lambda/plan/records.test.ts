import { readRecords } from '../../../lambda/plan/records';
import { World } from '../verify/world';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => {
  world.remove();
});

const put = (key: string, record: unknown) =>
  world.put(key, Buffer.from(typeof record === 'string' ? record : JSON.stringify(record)), {});
const read = () => readRecords(world.deps.store);

test('an empty bucket has none', async () => {
  expect(await read()).toEqual({ restored: [], highestRevision: 0, lastDrill: null, warnings: [] });
});

test('restores that were served begin timelines; plans, interruptions and evidence do not', async () => {
  put('restores/20261118T000000Z.json', { revisionAfter: 5000, keptBackupId: null, restoreId: 'x' });
  put('restores/20261119T000000Z.json', { revisionAfter: 4000 });
  put('restores/20261119T000000Z/plan.json', { revisionAfter: 9000 });
  put('restores/20261120T000000Z/interrupted.json', { revisionAfter: 9000 });
  put('restores/notes.json', { revisionAfter: 9000 });
  const { restored, highestRevision, warnings } = await read();
  expect(restored.map(({ id }) => id)).toEqual(['20261118T000000Z', '20261119T000000Z']);
  expect({ highestRevision, warnings }).toEqual({ highestRevision: 5000, warnings: [] });
});

test('a restore that failed after clients had read counts with its revision, one before with none', async () => {
  const evidence = (served: boolean, revision: number) => ({ state: { served, bump: 1000, snapshot: { revision } } });
  put('restores/20261119T000000Z/evidence.json', evidence(true, 700));
  put('restores/20261120T000000Z/evidence.json', evidence(false, 9000));
  put('restores/20261120T010000Z/evidence.json', { state: { served: true, bump: 0, snapshot: null } });
  expect(await read()).toMatchObject({ restored: [], highestRevision: 1700, warnings: [] });
});

test('what the members had come to counts where an execution that only ended a restore has failed', async () => {
  const evidence = (served: boolean, highestRevision: number) => ({
    state: { served, bump: 0, snapshot: null, highestRevision },
  });
  put('restores/20261119T000000Z/evidence.json', evidence(true, 2500));
  put('restores/20261120T000000Z/evidence.json', evidence(false, 9000));
  expect(await read()).toMatchObject({ restored: [], highestRevision: 2500, warnings: [] });
});

test('what was put over a record says nothing', async () => {
  put('restores/20261119T000000Z.json', { revisionAfter: 4000 });
  put('restores/20261119T000000Z.json', { revisionAfter: 1 });
  world.deleteMarker('restores/20261119T000000Z.json');
  expect((await read()).highestRevision).toBe(4000);
});

test('one that cannot be read begins its timeline all the same, and is told', async () => {
  put('restores/20261118T000000Z.json', 'no JSON');
  put('restores/20261119T000000Z.json', { revisionAfter: 'many' });
  put('drills/20261119T000000Z.json', 'x'.repeat(1_000_001));
  const { restored, warnings, lastDrill } = await read();
  expect(restored).toEqual([{ id: '20261118T000000Z' }, { id: '20261119T000000Z' }]);
  expect(lastDrill).toEqual({ id: '20261119T000000Z' });
  expect(warnings).toEqual([
    'restores/20261118T000000Z.json is no record that this version reads; what it says was left out',
    'restores/20261119T000000Z.json is no record that this version reads; what it says was left out',
    'drills/20261119T000000Z.json has 1000001 bytes, expected at most 1 MB; what it says was left out',
  ]);
});
