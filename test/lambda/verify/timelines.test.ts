import { comparable, findTimelineStarts, type TimelineStart, timelineOf } from '../../../lambda/verify/timelines';
import { World } from './world';

const restore = (id: string): TimelineStart => ({ id, kind: 'restore' });
const acknowledged = (id: string): TimelineStart => ({ id, kind: 'acknowledged' });

test.each([
  ['20261120T140000Z', [], 'first'],
  ['20261120T140000Z', [restore('20261120T140001Z')], 'first'],
  ['20261120T140000Z', [restore('20261120T140000Z')], '20261120T140000Z'],
  ['20261120T140000Z', [restore('20261001T000000Z'), acknowledged('20261101T000000Z')], '20261101T000000Z'],
])('a backup of %s with starts %j is on timeline %s', (id, starts, timeline) => {
  expect(timelineOf({ backupId: id }, starts)).toBe(timeline);
});

test.each([
  ['its restore has a record', [restore('20261120T140000Z')], 'first'],
  ['its restore has none yet', [], 'first'],
  ['there was a restore before', [restore('20261101T000000Z'), restore('20261120T140000Z')], '20261101T000000Z'],
  ['there was one since', [restore('20261120T140000Z'), restore('20261120T140100Z')], 'first'],
])(
  'a pre-restore backup, whose id is later than its restore, is on the timeline before it: %s',
  (_, starts, timeline) => {
    const backup = { backupId: '20261120T140500Z', restoreId: '20261120T140000Z' };
    expect(timelineOf(backup, starts)).toBe(timeline);
  },
);

test.each<[string, TimelineStart[], boolean, boolean]>([
  ['no start', [], true, true],
  ['a start before both', [acknowledged('20261120T130000Z')], true, true],
  ['a start at the earlier', [restore('20261120T140000Z')], true, true],
  ['a start after both', [acknowledged('20261120T170000Z')], true, true],
  ['a restore between', [restore('20261120T143000Z')], true, false],
  ['a restore at the later', [restore('20261120T150000Z')], true, false],
  ['an acknowledged start between', [acknowledged('20261120T143000Z')], false, false],
  ['both between', [restore('20261120T141500Z'), acknowledged('20261120T143000Z')], false, false],
])('with %s, identity is compared: %s', (_, starts, identity, revision) => {
  expect(comparable('20261120T140000Z', { backupId: '20261120T150000Z' }, starts)).toEqual({ identity, revision });
});

test.each<[string, TimelineStart[], boolean]>([
  ['no start', [], true],
  ['the record of its own restore', [restore('20261120T143000Z')], true],
  ['an acknowledged start before its restore', [acknowledged('20261120T141500Z')], false],
])('with %s, a pre-restore backup is held by identity: %s, and never by revision', (_, starts, identity) => {
  const backup = { backupId: '20261120T150000Z', restoreId: '20261120T143000Z' };
  expect(comparable('20261120T140000Z', backup, starts)).toEqual({ identity, revision: false });
});

test('starts are the restore records, under whatever lies over them, and what is acknowledged, in order', async () => {
  const world = new World();
  world.put('restores/20261120T150000Z.json', Buffer.alloc(0), {});
  world.put('restores/20261120T130000Z.json', Buffer.alloc(0), {});
  world.put('restores/20261120T130000Z.json', Buffer.alloc(0), {});
  world.deleteMarker('restores/20261120T130000Z.json');
  world.put('restores/readme.json', Buffer.alloc(0), {});
  // A plan, and what a failed restore leaves.
  world.put('restores/20261120T160000Z/plan.json', Buffer.alloc(0), {});
  world.put('restores/20261120T160000Z/failed.json', Buffer.alloc(0), {});
  await expect(findTimelineStarts(world.deps.store, ['20261120T140000Z'])).resolves.toEqual([
    restore('20261120T130000Z'),
    acknowledged('20261120T140000Z'),
    restore('20261120T150000Z'),
  ]);
  world.remove();
});
