import {
  killed,
  NODE_1,
  NODE_2,
  NODE_3,
  ok,
  refuses,
  RESTORE_ID,
  stateAfterInspect,
  timedOut,
  undelivered,
  World,
} from './world';

const stopped = (seconds = 2) => ok({ killed: [], seconds: 1 }, seconds);

describe('a document on all nodes', () => {
  test('is sent to each by its id, at once, under a comment that names the restore and the state', async () => {
    const world = new World();
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step).toEqual({ name: 'StopControlPlane', done: true, ok: true });
    expect(state.failure).toBeNull();
    expect(world.sent('stop').map(({ instanceId }) => instanceId)).toEqual([NODE_1, NODE_2, NODE_3]);
    expect(new Set(world.sent('stop').map(({ at }) => at)).size).toBe(1);
    expect(world.sent('stop')[0]).toMatchObject({
      comment: `${RESTORE_ID} StopControlPlane`,
      version: '1',
      parameters: { RestoreId: RESTORE_ID },
    });
  });

  test('ends on every node before it fails, and says of each one that failed what it said', async () => {
    const world = new World();
    world.answer('stop', NODE_1, refuses(87, 'not-stopped', 'etcd runs as pid 7'));
    world.answer('stop', NODE_2, stopped(90));
    world.answer('stop', NODE_3, refuses(81, 'not-prepared', 'no journal'));
    const before = world.now().getTime();
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step).toEqual({ name: 'StopControlPlane', done: true, ok: false });
    expect(state.failure).toEqual({
      error: 'StopControlPlaneFailed',
      cause: `StopControlPlane failed on 2 of 3 nodes: ${NODE_1} (cp1) refused: not-stopped (87): etcd runs as pid 7; ${NODE_3} (cp3) refused: not-prepared (81): no journal`,
    });
    expect(world.now().getTime() - before).toBeGreaterThanOrEqual(90_000);
    expect(world.sent('stop')).toHaveLength(3);
  });

  test('fails with a cause of bounded length, whatever nodes print', async () => {
    const world = new World();
    for (const node of [NODE_1, NODE_2, NODE_3]) {
      world.answer('stop', node, refuses(87, 'not-stopped', 'x'.repeat(3900)));
    }
    const { failure } = await world.phase('StopControlPlane', stateAfterInspect());
    expect(failure?.cause.length).toBeLessThanOrEqual(3200);
    for (const node of [NODE_1, NODE_2, NODE_3]) {
      expect(failure?.cause).toContain(node);
    }
  });

  test('is sent again to a node whose agent takes nothing, until its patience is over', async () => {
    const world = new World();
    world.answer('stop', NODE_2, ...Array.from({ length: 20 }, undelivered));
    const before = world.now().getTime();
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.failure?.cause).toMatch(
      new RegExp(`^StopControlPlane failed on 1 of 3 nodes: ${NODE_2} \\(cp2\\) unreachable: command .* is Pending`),
    );
    expect(world.sent('stop', NODE_2).length).toBeGreaterThan(1);
    expect(world.sent('stop')).toHaveLength(2 + world.sent('stop', NODE_2).length);
    const seconds = (world.now().getTime() - before) / 1000;
    expect(seconds).toBeGreaterThanOrEqual(120);
    expect(seconds).toBeLessThan(240);
  });

  test('goes on when such a node comes back in time', async () => {
    const world = new World();
    world.answer('stop', NODE_2, undelivered());
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop', NODE_2)).toHaveLength(2);
  });

  test('tells of a node that SSM does not know', async () => {
    const world = new World();
    world.invalid.add(NODE_3);
    const { failure } = await world.phase('StopControlPlane', stateAfterInspect());
    expect(failure?.cause).toContain(`${NODE_3} (cp3) unreachable: SSM says InvalidInstanceId`);
    expect(world.sent('stop')).toHaveLength(2);
  });

  test.each([
    ['SIGKILL', killed],
    ['the end of its time', timedOut],
    ['something that nobody foresaw', () => refuses(99, 'unexpected', 'stopped by a signal')],
  ])('is sent again after %s', async (_, answer) => {
    const world = new World();
    world.answer('stop', NODE_1, answer(), answer());
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop', NODE_1)).toHaveLength(3);
  });

  test('fails when it is killed a third time', async () => {
    const world = new World();
    world.answer('stop', NODE_1, killed(), killed(), killed());
    const { failure } = await world.phase('StopControlPlane', stateAfterInspect());
    expect(failure?.cause).toMatch(/\(cp1\) killed: SSM says Failed, exit status 137; .* \(sent 3 times\)$/);
    expect(world.sent('stop', NODE_1)).toHaveLength(3);
  });

  test('is not sent a fourth time by a later call either', async () => {
    const world = new World();
    world.answer('stop', NODE_1, killed(), killed(), killed());
    await world.phase('StopControlPlane', stateAfterInspect());
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(false);
    expect(world.sent('stop')).toHaveLength(5);
  });

  test('waits for a node whose lock another script holds', async () => {
    const world = new World();
    world.answer('stop', NODE_1, refuses(12, 'already-running'), refuses(12, 'already-running'));
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop', NODE_1)).toHaveLength(3);
  });

  test('fails on a node whose lock is never free', async () => {
    const world = new World();
    world.answer('stop', NODE_1, ...Array.from({ length: 100 }, () => refuses(12, 'already-running')));
    const { failure } = await world.phase('StopControlPlane', stateAfterInspect());
    expect(failure?.cause).toMatch(/\(cp1\) refused: already-running \(12\): .*; tried for 1[2-9]\d s$/);
  });

  test('is not sent again by a second call: what the first one sent is read', async () => {
    const world = new World();
    world.answer('stop', NODE_2, refuses(87, 'not-stopped'));
    const first = await world.phase('StopControlPlane', stateAfterInspect());
    world.advance(400);
    const second = await world.phase('StopControlPlane', stateAfterInspect());
    expect(second.failure).toEqual(first.failure);
    expect(second.stoppedAt).toBe(first.stoppedAt);
    expect(world.sent('stop')).toHaveLength(3);
  });

  test('is not sent twice when the answer to sending it was lost', async () => {
    const world = new World();
    world.lostAnswers = 3;
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop')).toHaveLength(3);
  });

  test('does not fail because SSM itself does not answer for a while', async () => {
    const world = new World();
    world.failingLists = 9;
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop')).toHaveLength(3);
  });

  test('is waited for over several calls when it takes long', async () => {
    const world = new World();
    world.answer('stop', NODE_3, stopped(1500));
    const first = await world.callPhase('StopControlPlane', stateAfterInspect());
    expect(first.step).toEqual({
      name: 'StopControlPlane',
      done: false,
      ok: false,
      startedAt: '2026-11-20T14:00:30.000Z',
    });
    expect(first.failure).toBeNull();
    const last = await world.phase('StopControlPlane', first);
    expect(last.step.ok).toBe(true);
    expect(last.seconds['StopControlPlane']).toBeGreaterThanOrEqual(1500);
    expect(world.sent('stop')).toHaveLength(3);
  });

  test.each([
    ['', false],
    [', also while EC2 answers no search', true],
  ])(
    'gives up on a node that is gone from EC2 while its script runs, and not on the others%s',
    async (_, searchFails) => {
      const world = new World();
      world.searchFails = searchFails;
      world.answer('stop', NODE_1, stopped(Infinity));
      world.gone.add(NODE_1);
      const { failure } = await world.phase('StopControlPlane', stateAfterInspect());
      expect(failure?.cause).toMatch(/failed on 1 of 3 nodes: .*\(cp1\) unreachable: .* no longer among the running/);
      expect(world.sent('stop')).toHaveLength(3);
    },
  );

  test.each([
    ['no line', ''],
    ['a line of another restore', JSON.stringify({ ok: true, restoreId: '20200101T000000Z', killed: [], seconds: 1 })],
    ['another line', '{"ok":true}'],
  ])('does not take %s for a success', async (_, stdout) => {
    const world = new World();
    world.answer('stop', NODE_2, { ...stopped(), stdout });
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(false);
    expect(state.failure?.cause).toContain(`${NODE_2} (cp2) refused: SSM says Success`);
    expect(world.sent('stop', NODE_2)).toHaveLength(1);
  });

  test('takes commands of another execution for none of its own', async () => {
    const world = new World();
    await world.phase('StopControlPlane', stateAfterInspect());
    await world.phase('StopControlPlane', stateAfterInspect({ restoreId: '20261120T140100Z' })).catch(() => undefined);
    expect(world.sent('stop')).toHaveLength(6);
  });
});
