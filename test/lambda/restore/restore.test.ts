import type { Phase } from '../../../lambda/restore/run';
import type { RestoreState } from '../../../lambda/shared/restore-state';
import {
  keyMade,
  killed,
  NODE_1,
  NODE_2,
  NODE_3,
  NODES,
  ok,
  refuses,
  RESTORE_ID,
  restoredMember,
  stateAfterInspect,
  undelivered,
  World,
} from './world';

const TO_CHECK_ETCD: readonly Phase[] = [
  'Preflight',
  'KeepCurrentState',
  'StopControlPlane',
  'SwapData',
  'StartEtcd',
  'CheckEtcd',
];
const WHOLE: readonly Phase[] = [
  ...TO_CHECK_ETCD,
  'StartApiServer',
  'StartControllers',
  'CheckCluster',
  'RecordRestore',
  'TakeBackup',
];
const WAY_BACK: readonly Phase[] = ['RollBack', 'CheckRolledBack', 'CleanUp', 'GatherEvidence'];
const RECORD = `restores/${RESTORE_ID}.json`;

/** The machine's way, by what each state answers: to the end, or back. */
async function execute(world: World, start: RestoreState): Promise<{ end: string; state: RestoreState }> {
  let state = start;
  for (const [index, phase] of WHOLE.entries()) {
    state = await world.phase(phase, state);
    if (!state.step.ok) {
      return goBack(world, state, index < 2 ? 'CleanUp' : 'RollBack');
    }
  }
  return { end: 'Restored', state };
}

async function goBack(world: World, failed: RestoreState, from: 'CleanUp' | 'RollBack') {
  let state = failed;
  for (const phase of WAY_BACK.slice(WAY_BACK.indexOf(from))) {
    state = await world.phase(phase, state);
    if (!state.step.ok && phase !== 'CleanUp') {
      return { end: 'RollbackFailed', state: await world.phase('GatherRollbackEvidence', state) };
    }
  }
  return { end: 'RestoreFailed', state };
}

describe('a restore of three healthy nodes', () => {
  test('proves, keeps, stops, swaps, starts and checks, in this order on all nodes', async () => {
    const world = new World();
    const { end, state } = await execute(world, stateAfterInspect());
    expect(end).toBe('Restored');
    expect(state.failure).toBeNull();
    const order = world.commands.map(
      ({ document, comment, parameters }) =>
        `${document.replace('-1A2B', '')} ${parameters['Step'] ?? parameters['Component'] ?? parameters['Outcome'] ?? ''}`.trim() +
        ` (${comment.replace(`${RESTORE_ID} `, '')})`,
    );
    expect(order.filter((_, index) => index % 3 === 0)).toEqual([
      'preflight key (PreflightKey)',
      'preflight stage (PreflightStage)',
      'stop (StopControlPlane)',
      'swap (SwapData)',
      'start etcd (StartEtcd)',
      'check etcd (CheckEtcd)',
      'start api-server (StartApiServer)',
      'start controllers (StartControllers)',
      'check cluster (CheckCluster)',
      'cleanup restored (RecordRestore)',
    ]);
    expect(order).toHaveLength(30);
  });

  test('raises the revision above every one that was seen, and checks for exactly that', async () => {
    const world = new World();
    const { state } = await execute(world, stateAfterInspect({ highestRevision: 5000 }));
    expect(state.bump).toBe(4000 + 1_000_000_000);
    expect(state.clusterId).toBe('ffff000011112222');
    expect(world.sent('preflight', NODE_1)[1]?.parameters).toMatchObject({ Revision: '1000', Bump: '1000004000' });
    expect(world.sent('check', NODE_1)[0]?.parameters).toEqual({
      RestoreId: RESTORE_ID,
      Component: 'etcd',
      WaitSeconds: '300',
      Revision: '1000005000',
    });
  });

  test('leaves a record, metrics, and a summary for the console', async () => {
    const world = new World();
    const { state } = await execute(world, stateAfterInspect());
    expect(world.json(RECORD)).toMatchObject({
      schema: 1,
      restoreId: RESTORE_ID,
      cluster: 'lab',
      outcome: 'restored',
      snapshot: { backupId: '20261120T130000Z', versionId: 'v1+/=' },
      revisionAfter: 1_000_001_500,
      bump: 1_000_000_500,
      clusterId: 'ffff000011112222',
      failure: null,
      keptBackupId: '20261120T140001Z',
      request: { requestedBy: 'somebody', reason: 'a test' },
      downtimeSeconds: expect.any(Number) as number,
      startedAt: '2026-11-20T14:00:00.000Z',
    });
    expect(state.plan).toMatchObject({
      result: 'Restored',
      restoreId: RESTORE_ID,
      revision: 1_000_001_500,
      keptBackupId: '20261120T140001Z',
      backupAfter: '20261120T141500Z',
      keptData: [RESTORE_ID],
      warnings: [],
    });
    const downtime = (Date.parse(state.servedAt ?? '') - Date.parse(state.stoppedAt ?? '')) / 1000;
    expect(downtime).toBeGreaterThan(4);
    expect(world.measured['RestoreDowntimeSeconds']).toEqual([downtime]);
    expect(state.stoppedAt).toBe(new Date(world.sent('stop')[0]?.at ?? 0).toISOString());
    expect(world.measured['RestoreSeconds']?.[0]).toBeGreaterThan(downtime);
    expect(Object.keys(state.seconds)).toEqual(WHOLE);
    expect(world.lines.map(({ message, phase }) => `${message} ${phase}`)).toEqual(
      WHOLE.map((phase) => `phase done ${phase.charAt(0).toLowerCase()}${phase.slice(1)}`),
    );
    expect(world.published).toBeGreaterThanOrEqual(WHOLE.length);
  });

  test('takes a backup before and one after', async () => {
    const world = new World();
    await execute(world, stateAfterInspect());
    expect(world.invoked).toEqual([
      { preRestore: { restoreId: RESTORE_ID, instanceId: NODE_2, backupId: '20261120T140001Z' } },
      { reason: `after restore ${RESTORE_ID}` },
    ]);
  });

  test('holds the controllers back when that is asked for, and says how to let them go', async () => {
    const world = new World();
    const asked = stateAfterInspect();
    const { end, state } = await execute(world, { ...asked, request: { ...asked.request, hold: 'controllers' } });
    expect(end).toBe('Restored');
    expect(world.sent('stop')[0]?.parameters).toEqual({ RestoreId: RESTORE_ID, Hold: 'controllers' });
    expect(world.sent('start').map(({ parameters }) => parameters['Component'])).not.toContain('controllers');
    expect(world.sent('cleanup')[0]?.parameters).toEqual({ RestoreId: RESTORE_ID, Outcome: 'held' });
    expect(JSON.stringify(state.plan)).toContain(`manifests.before-${RESTORE_ID}/*.yaml`);
  });

  test('is the same when every state is run twice', async () => {
    const world = new World();
    let state = stateAfterInspect();
    for (const phase of WHOLE) {
      const first = await world.phase(phase, state);
      const second = await world.phase(phase, state);
      expect({ ...second, seconds: {}, plan: {} }).toEqual({
        ...first,
        seconds: {},
        servedAt: second.servedAt,
        plan: {},
      });
      state = first;
    }
    expect(world.commands).toHaveLength(30);
    expect(world.invoked.map((event) => JSON.stringify(event))).toHaveLength(4);
    expect(new Set(world.invoked.slice(0, 2).map((event) => JSON.stringify(event))).size).toBe(1);
  });

  test('reports masterleases of nodes that are gone', async () => {
    const world = new World();
    world.answer(
      'check',
      NODE_1,
      ok({ member: restoredMember(), wrote: true }),
      ok({ ready: true, running: ['etcd'], advertised: ['10.0.0.1'], masterleases: ['10.0.0.1', '10.0.0.9'] }),
    );
    const { state } = await execute(world, stateAfterInspect());
    expect(state.warnings).toEqual([expect.stringMatching(/^masterleases: got 10\.0\.0\.9 beside/)]);
    expect(state.plan?.['warnings']).toEqual(state.warnings);
  });
});

describe('a control-plane instance that came after Inspect', () => {
  const NEW = 'i-00000000000000009';

  test('ends the restore before anything is stopped', async () => {
    const world = new World();
    world.strangers.add(NEW);
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(false);
    expect(state.failure).toEqual({
      error: 'StopControlPlaneFailed',
      cause: expect.stringMatching(
        new RegExp(`^running control-plane nodes: got also ${NEW}, expected .*start again.*; nothing was stopped$`),
      ) as string,
    });
    expect(world.commands).toHaveLength(0);
  });

  test('does not end it between the stops of the nodes', async () => {
    const world = new World();
    world.strangers.add(NEW);
    const state = await world.phase('StopControlPlane', stateAfterInspect({ stoppedAt: '2026-11-20T14:00:10.000Z' }));
    expect(state.step.ok).toBe(true);
  });

  test('ends it before clients see the restored data', async () => {
    const world = new World();
    const before = await world.phases(TO_CHECK_ETCD.slice(0, -1), stateAfterInspect());
    world.strangers.add(NEW);
    const state = await world.phase('CheckEtcd', before);
    expect(state.failure).toMatchObject({
      error: 'CheckEtcdFailed',
      cause: expect.stringContaining(`got also ${NEW}`) as string,
    });
    expect(state.served).toBe(false);
  });

  test('is none when Inspect has seen that it has no etcd', async () => {
    const world = new World();
    world.strangers.add(NEW);
    const state = await world.phase('StopControlPlane', stateAfterInspect({ leftOut: [NEW] }));
    expect(state.step.ok).toBe(true);
  });

  test('is not looked for when EC2 does not answer, because then one restores, too', async () => {
    const world = new World();
    world.ec2Down = true;
    const state = await world.phase('StopControlPlane', stateAfterInspect());
    expect(state.step.ok).toBe(true);
    expect(world.sent('stop')).toHaveLength(3);
  });
});

describe('served', () => {
  test('is true in the state that enters StartApiServer, and not before', async () => {
    const world = new World();
    const before = await world.phases(TO_CHECK_ETCD.slice(0, -1), stateAfterInspect());
    expect(before.served).toBe(false);
    const after = await world.phase('CheckEtcd', before);
    expect(after.served).toBe(true);
    expect(world.sent('start').map(({ parameters }) => parameters['Component'])).not.toContain('api-server');
  });

  test('stays false when CheckEtcd fails', async () => {
    const world = new World();
    world.answer('check', NODE_2, refuses(90, 'not-healthy'));
    const state = await world.phases(TO_CHECK_ETCD, stateAfterInspect());
    expect(state.served).toBe(false);
  });
});

/** States, with the document that fails there and the way back. */
const FAILURES = [
  ['Preflight', 'preflight', 'CleanUp'],
  ['StopControlPlane', 'stop', 'RollBack'],
  ['SwapData', 'swap', 'RollBack'],
  ['StartEtcd', 'start', 'RollBack'],
  ['CheckEtcd', 'check', 'RollBack'],
] as const;

describe.each(FAILURES)('when one node fails in %s', (phase, document, way) => {
  test.each([
    ['refuses', () => [refuses(90, 'some-reason')]],
    ['is killed again and again', () => [killed(), killed(), killed()]],
    ['cannot be reached', () => Array.from({ length: 10 }, undelivered)],
  ])('because it %s, everything is put back and the restore has failed', async (_, answers) => {
    const world = new World();
    world.answer(document, NODE_2, ...(phase === 'Preflight' ? [keyMade()] : []), ...answers());
    const { end, state } = await execute(world, stateAfterInspect());
    expect(end).toBe('RestoreFailed');
    expect(state.failure?.error).toBe(`${phase}Failed`);
    expect(state.failure?.cause).toContain(`${phase} failed on 1 of 3 nodes: ${NODE_2} (cp2)`);
    expect(world.sent('rollback')).toHaveLength(way === 'RollBack' ? 3 : 0);
    expect(world.sent('stop').length > 0).toBe(way === 'RollBack');
    expect(world.sent('cleanup').map(({ parameters }) => parameters['Outcome'])).toEqual([
      'failed',
      'failed',
      'failed',
    ]);
    expect([...world.objects.keys()]).toEqual([`restores/${RESTORE_ID}/evidence.json`]);
    expect(world.measured['RestoresFailed']).toEqual([1]);
    expect(world.measured['RollbacksFailed']).toBeUndefined();
  });
});

describe.each(['StartApiServer', 'StartControllers', 'CheckCluster'] as const)('when one node fails in %s', (phase) => {
  test('nothing is renamed back, everything is started on the restored data, and that is said', async () => {
    const world = new World();
    let state = stateAfterInspect();
    for (const before of WHOLE.slice(0, WHOLE.indexOf(phase))) {
      state = await world.phase(before, state);
    }
    world.answer(phase === 'CheckCluster' ? 'check' : 'start', NODE_3, refuses(89, 'not-started'));
    state = await world.phase(phase, state);
    expect(state.step.ok).toBe(false);
    const back = await goBack(world, state, 'RollBack');
    expect(back.end).toBe('RollbackFailed');
    expect(world.sent('rollback').map(({ parameters }) => parameters['Served'])).toEqual(['yes', 'yes', 'yes']);
    expect(world.sent('cleanup').map(({ parameters }) => parameters['Outcome'])).toEqual([
      'restored',
      'restored',
      'restored',
    ]);
    expect(back.state.failure?.error).toBe('RollbackFailed');
    expect(back.state.failure?.cause).toMatch(/^the old data was not put back, because API servers had served/);
    expect(back.state.failure?.cause).toContain(`{"confirm":"lab","rollback":"${RESTORE_ID}"}`);
    expect(back.state.failure?.cause).toContain(`the restore had failed with ${phase}Failed`);
    expect(world.json(RECORD)).toMatchObject({ revisionAfter: 1_000_001_500, failure: { error: 'RollbackFailed' } });
    expect(world.measured['RollbacksFailed']).toEqual([1]);
  });
});

describe('a roll-back', () => {
  const failed = () =>
    stateAfterInspect({
      step: { name: 'CheckEtcd', done: true, ok: false },
      failure: { error: 'CheckEtcdFailed', cause: 'it was not what it had to be' },
      bump: 1,
    });

  test('says in the end that everything is as it was', async () => {
    const world = new World();
    const { end, state } = await goBack(world, failed(), 'RollBack');
    expect(end).toBe('RestoreFailed');
    expect(state.failure?.error).toBe('CheckEtcdFailed');
    expect(state.failure?.cause).toMatch(
      /^it was not what it had to be; restore 20261120T140000Z was undone: .* on all 3 nodes, .*; logs and status of each node: s3:\/\/lab-backups\/restores\/20261120T140000Z\/evidence\.json$/,
    );
    expect(world.sent('check')[0]?.parameters).toEqual({
      RestoreId: RESTORE_ID,
      Component: 'before',
      WaitSeconds: '300',
      Revision: '0',
    });
  });

  test('tries a node that cannot be reached for half an hour, and goes on when it comes back', async () => {
    const world = new World();
    world.answer('rollback', NODE_2, ...Array.from({ length: 25 }, undelivered));
    const begun = world.now().getTime();
    const { end } = await goBack(world, failed(), 'RollBack');
    expect(end).toBe('RestoreFailed');
    expect((world.now().getTime() - begun) / 1000).toBeGreaterThan(1200);
    expect(world.sent('rollback', NODE_2)).toHaveLength(26);
  });

  test('has all of its patience when the state before was cut off after a long time', async () => {
    const world = new World();
    world.answer('rollback', NODE_2, undelivered(), undelivered());
    const step = { name: 'SwapData', done: false, ok: false, startedAt: '2026-11-20T12:00:00.000Z' };
    const state = await world.phase('RollBack', { ...failed(), step });
    expect(state.step.ok).toBe(true);
    expect(world.sent('rollback', NODE_2)).toHaveLength(3);
  });

  test('says what is left to do on a node that does not come back', async () => {
    const world = new World();
    world.invalid.add(NODE_2);
    const { end, state } = await goBack(world, failed(), 'RollBack');
    expect(end).toBe('RollbackFailed');
    expect(state.failure?.error).toBe('RollbackFailed');
    expect(state.failure?.cause).toMatch(
      /^RollBack failed on 1 of 3 nodes: .*\(cp2\) unreachable: .*; tried for 1[89]\d\d s; the other nodes are rolled back; what is left to do there: .*start an execution for lab with \{"rollback":"20261120T140000Z"\}.*; the restore had failed with CheckEtcdFailed: it was not/,
    );
    expect(world.sent('cleanup')).toHaveLength(0);
    expect(world.json(`restores/${RESTORE_ID}/evidence.json`)).toMatchObject({ outcome: 'rollback-failed' });
  });

  test.each([
    [true, { undone: true, finishedForward: false }, 'put the old data back, expected the restored data to stay'],
    [false, { undone: false, finishedForward: true }, 'started everything on the restored data, expected the old data'],
  ])('believes no node that went another way than the others, served: %p', async (served, value, words) => {
    const world = new World();
    world.answer('rollback', NODE_2, ok(value));
    const state = await world.phase('RollBack', { ...failed(), served });
    expect(state.step.ok).toBe(false);
    expect(state.failure?.error).toBe('RollbackFailed');
    expect(state.failure?.cause).toContain(`${NODE_2} (cp2) ${words}`);
    expect(state.failure?.cause).toContain(`and .restore-${RESTORE_ID}/member the restored one`);
    expect(world.sent('cleanup')).toHaveLength(0);
    expect(world.objects.size).toBe(0);
  });

  test('keeps held controllers out when the data was served', async () => {
    const world = new World();
    const state = failed();
    const held = { ...state, served: true, request: { ...state.request, hold: 'controllers' as const } };
    world.answer('rollback', NODE_1, ok({ undone: false, finishedForward: true, held: true }));
    const back = await world.phase('RollBack', held);
    expect(world.sent('rollback').map(({ parameters }) => parameters['Served'])).toEqual(['held', 'held', 'held']);
    expect(world.sent('cleanup').map(({ parameters }) => parameters['Outcome'])).toEqual(['held', 'held', 'held']);
    expect(back.failure?.cause).toContain('every component but the held controllers was started');
    expect(back.failure?.cause).toContain(`held back on ${NODE_1} (cp1): when you have looked at the cluster, run`);
  });

  test('undoes a restore with held controllers like any other before its data is served', async () => {
    const world = new World();
    const state = failed();
    await world.phase('RollBack', { ...state, request: { ...state.request, hold: 'controllers' } });
    expect(world.sent('rollback')[0]?.parameters['Served']).toBe('no');
  });

  test('names a node that was left stopped because it has no data, and does not say that all of it is back', async () => {
    const world = new World();
    world.answer('rollback', NODE_2, ok({ undone: true, finishedForward: false, leftStopped: true }));
    world.answer('check', NODE_2, ok({ healthy: [], leftStopped: true }));
    const { end, state } = await goBack(world, failed(), 'RollBack');
    expect(end).toBe('RestoreFailed');
    expect(state.failure?.cause).toContain(
      'manifests are back on all 3 nodes, the old data and the components on those',
    );
    expect(state.failure?.cause).toMatch(
      new RegExp(`${NODE_2} \\(cp2\\) has no data: its kubelet is left stopped, because .*; restore a backup, or run`),
    );
    expect(state.failure?.cause).not.toContain(`${NODE_1} (cp1) has no data`);
  });

  test.each([
    ['another node cannot be rolled back', 'rollback', 'RollBack'],
    ['another node is not healthy again', 'check', 'CheckRolledBack'],
  ] as const)('names it as well when %s', async (_, document, phase) => {
    const world = new World();
    world.answer('rollback', NODE_2, ok({ undone: true, finishedForward: false, leftStopped: true }));
    world.answer('check', NODE_2, ok({ healthy: [], leftStopped: true }));
    world.answer(document, NODE_1, refuses(89, 'not-started'));
    const state = await world.phase(phase, failed());
    expect(state.failure?.error).toBe('RollbackFailed');
    expect(state.failure?.cause).toContain(`${NODE_2} (cp2) has no data: its kubelet is left stopped`);
  });

  test('fails when what was healthy before is not healthy again', async () => {
    const world = new World();
    world.answer('check', NODE_1, refuses(90, 'not-healthy', 'after 300 s: etcd does not answer'));
    const { end, state } = await goBack(world, failed(), 'RollBack');
    expect(end).toBe('RollbackFailed');
    expect(state.failure?.cause).toContain('etcd does not answer');
    expect(state.failure?.cause).toContain('the old data is back on all nodes');
    expect(state.failure?.cause).toContain(`then send {"rollback":"${RESTORE_ID}"}, which removes the journals`);
  });

  test('that was served and cannot be finished on a node leaves no record, and says what starts the rest', async () => {
    const world = new World();
    world.answer('rollback', NODE_3, refuses(89, 'not-started', 'the kubelet does not start'));
    const state = await world.phase('RollBack', { ...failed(), served: true });
    expect(state.step.ok).toBe(false);
    expect(state.failure?.cause).toContain('the data is the restored one on every node');
    expect(state.failure?.cause).toContain(`{"rollback":"${RESTORE_ID}"}`);
    expect(world.objects.size).toBe(0);
  });

  test('that was served says so, too, when S3 takes no record', async () => {
    const world = new World();
    world.s3DownUntil = Infinity;
    const state = await world.phase('RollBack', { ...failed(), served: true });
    expect(state.failure?.cause).toContain('the old data was not put back');
    expect(state.failure?.cause).toContain(`${RECORD} was not written`);
    expect(state.failure?.cause).toContain(`add ${RESTORE_ID} to acknowledgedTimelines`);
  });
});

describe('an execution that undoes an earlier restore', () => {
  const OTHER = '20261119T090000Z';
  const asked = (change: Partial<RestoreState> = {}) =>
    stateAfterInspect({ mode: 'rollback', rollbackId: OTHER, snapshot: null, ...change });

  test('names the earlier restore to the nodes, and itself in the comments', async () => {
    const world = new World();
    const state = await world.phases(['RollBack', 'CheckRolledBack', 'CleanUp'], asked());
    expect(state.step.ok).toBe(true);
    expect(state.failure).toBeNull();
    expect(state.plan).toMatchObject({ result: 'RolledBack', restoreId: OTHER });
    expect(new Set(world.commands.map(({ parameters }) => parameters['RestoreId']))).toEqual(new Set([OTHER]));
    expect(world.commands.every(({ comment }) => comment.startsWith(`${RESTORE_ID} `))).toBe(true);
  });

  test('brings that one to its end when its data had been served, says so, and has not failed', async () => {
    const world = new World();
    const state = await world.phases(['RollBack', 'CheckRolledBack', 'CleanUp'], asked({ served: true }));
    expect(state.step.ok).toBe(true);
    expect(state.failure).toBeNull();
    expect(state.plan).toMatchObject({ result: 'FinishedForward', restoreId: OTHER, warnings: [] });
    expect(JSON.stringify(state.plan)).toContain('was not undone');
    expect(world.sent('rollback').map(({ parameters }) => parameters['Served'])).toEqual(['yes', 'yes', 'yes']);
    expect(world.sent('check')).toHaveLength(0);
    expect(world.sent('cleanup').map(({ parameters }) => parameters['Outcome'])).toEqual([
      'restored',
      'restored',
      'restored',
    ]);
    expect(world.json(`restores/${OTHER}.json`)).toMatchObject({ restoreId: OTHER, snapshot: null, failure: null });
  });

  test('says in its output which node was left stopped because it has no data', async () => {
    const world = new World();
    world.answer('check', NODE_3, ok({ restoreId: OTHER, healthy: [], leftStopped: true }));
    const state = await world.phases(['RollBack', 'CheckRolledBack', 'CleanUp'], asked());
    expect(state.plan).toMatchObject({ result: 'RolledBack' });
    expect(state.plan?.['text']).toContain(`${NODE_3} (cp3) has no data: its kubelet is left stopped`);
  });

  test('says which nodes hold controllers back, as that one was told, and how they are let go', async () => {
    const world = new World();
    for (const node of [NODE_1, NODE_2]) {
      world.answer('rollback', node, ok({ restoreId: OTHER, undone: false, finishedForward: true, held: true }));
    }
    const state = await world.phase('RollBack', asked({ served: true }));
    expect(state.plan).toMatchObject({ result: 'FinishedForward' });
    expect(state.plan?.['text']).toContain('every component but the held controllers was started');
    expect((state.plan?.['next'] as string[])[0]).toBe(
      `controller manager and scheduler are held back on ${NODE_1} (cp1), ${NODE_2} (cp2): when you have looked at the cluster, run on each of them: cd /etc/kubernetes && mv manifests.before-${OTHER}/*.yaml manifests/ && rmdir manifests.before-${OTHER}`,
    );
  });

  test('takes nodes that are at their end already as that', async () => {
    const world = new World();
    for (const node of [NODE_2, NODE_3]) {
      world.answer('rollback', node, ok({ restoreId: OTHER, undone: false, finishedForward: false }));
    }
    const state = await world.phase('RollBack', asked({ served: true }));
    expect(state.plan).toMatchObject({ result: 'FinishedForward' });
  });

  test('has failed when a journal stays behind', async () => {
    const world = new World();
    world.answer('cleanup', NODE_2, refuses(89, 'not-started'));
    const state = await world.phase('RollBack', asked({ served: true }));
    expect(state.step.ok).toBe(false);
    expect(state.failure).toMatchObject({ error: 'RollbackFailed', cause: expect.stringContaining('(cp2)') as string });
  });

  test('warns when S3 takes no record of what it brought to its end', async () => {
    const world = new World();
    world.s3DownUntil = Infinity;
    const state = await world.phase('RollBack', asked({ served: true }));
    expect(state.step.ok).toBe(true);
    expect(state.plan?.['warnings']).toEqual([expect.stringContaining(`restores/${OTHER}.json was not written`)]);
  });

  test.each([
    [1500, { revisionAfter: 1500 }],
    [0, {}],
  ])('records of it the highest revision that was seen: %d', async (highestRevision, expected) => {
    const world = new World();
    await world.phase('RollBack', asked({ served: true, highestRevision }));
    const { revisionAfter } = world.json(`restores/${OTHER}.json`);
    expect(revisionAfter === undefined ? {} : { revisionAfter }).toEqual(expected);
  });
});

describe('an error that a Catch put into the state', () => {
  const caught = {
    Error: 'StoreError',
    Cause: JSON.stringify({
      errorType: 'StoreError',
      errorMessage: 'PutObject: got 503, expected success',
      trace: ['x'],
    }),
  };

  test('becomes the failure of the next state', async () => {
    const world = new World();
    const state = await world.phase('CleanUp', stateAfterInspect({ error: caught }));
    expect(state.error).toBeUndefined();
    expect(state.failure).toEqual({
      error: 'StoreError',
      cause: 'the state after Inspect ended in StoreError: PutObject: got 503, expected success',
    });
  });

  test.each([
    ['RollBack', 'GatherRollbackEvidence', 'RollbackFailed'],
    ['CheckRolledBack', 'GatherEvidence', 'SwapDataFailed'],
  ] as const)('of a way back that died after %s says to %s what is left to do', async (name, phase, error) => {
    const world = new World();
    const { failure } = await world.phase(
      phase,
      stateAfterInspect({
        step: { name, done: true, ok: true },
        failure: { error: 'SwapDataFailed', cause: 'no' },
        error: { Error: 'Runtime.ExitError', Cause: 'no JSON' },
      }),
    );
    expect(failure?.error).toBe(error);
    for (const words of [`{"rollback":"${RESTORE_ID}"}`, 'has not ended on', 'no backup runs there'])
      expect(failure?.cause).toContain(words);
  });

  test('is told behind a failure that is there already', async () => {
    const world = new World();
    const state = await world.phase(
      'CleanUp',
      stateAfterInspect({
        step: { name: 'RollBack', done: false, ok: false },
        failure: { error: 'SwapDataFailed', cause: 'no' },
        error: { Error: 'States.Timeout', Cause: 'no JSON' },
      }),
    );
    expect(state.failure).toEqual({
      error: 'SwapDataFailed',
      cause: 'no; then States.Timeout: the state RollBack ended in States.Timeout: no JSON',
    });
  });
});

describe('RecordRestore', () => {
  const restored = () =>
    stateAfterInspect({
      served: true,
      bump: 1_000_000_500,
      stoppedAt: '2026-11-20T14:00:10.000Z',
      servedAt: '2026-11-20T14:00:20.000Z',
    });

  test('goes on with a warning when a node keeps its journal', async () => {
    const world = new World();
    world.answer('cleanup', NODE_1, refuses(99, 'unexpected'), refuses(99, 'unexpected'), refuses(99, 'unexpected'));
    const state = await world.phase('RecordRestore', restored());
    expect(state.step.ok).toBe(true);
    expect(state.warnings).toEqual([expect.stringContaining(`send {"rollback":"${RESTORE_ID}"}`)]);
    expect(world.json(RECORD)['warnings']).toEqual(state.warnings);
  });

  test('waits for S3 to come back', async () => {
    const world = new World();
    world.s3DownUntil = world.now().getTime() + 120_000;
    const state = await world.phase('RecordRestore', restored());
    expect(state.warnings).toEqual([]);
    expect(world.json(RECORD)).toMatchObject({ downtimeSeconds: 10 });
  });

  test('goes on with a warning that says what to do when S3 does not come back', async () => {
    const world = new World();
    world.s3DownUntil = Infinity;
    const state = await world.phase('RecordRestore', restored());
    expect(state.step.ok).toBe(true);
    expect(state.warnings).toEqual([expect.stringMatching(/was not written: .*add 20261120T140000Z to acknowledged/)]);
    expect(world.measured['RestoreDowntimeSeconds']).toEqual([10]);
  });

  test('leaves a record that is there', async () => {
    const world = new World();
    await world.phase('RecordRestore', restored());
    const before = world.json(RECORD);
    await world.phase('RecordRestore', restored());
    expect(world.json(RECORD)).toEqual(before);
  });
});

describe('the evidence', () => {
  test('of a rollback that came to no end leads with that, not with what failed first', async () => {
    const world = new World();
    const failure = { error: 'SwapDataFailed', cause: 'no; then Lambda.Unknown: the state RollBack ended' };
    const state = await world.phase('GatherRollbackEvidence', stateAfterInspect({ failure, mode: 'restore' }));
    expect(state.failure?.error).toBe('RollbackFailed');
    expect(state.failure?.cause).toMatch(
      /^the rollback did not come to its end, and nodes may be stopped: start an execution with \{"rollback":"20261120T140000Z"\}; no; then Lambda\.Unknown/,
    );
    expect(world.json(`restores/${RESTORE_ID}/evidence.json`)).toMatchObject({
      outcome: 'rollback-failed',
      state: { failure: { error: 'RollbackFailed' } },
    });
  });

  test('has what each node said, or why it said nothing', async () => {
    const world = new World();
    world.answer('diagnose', NODE_2, undelivered(), undelivered(), undelivered(), undelivered());
    const failure = { error: 'StopControlPlaneFailed', cause: 'why' };
    const state = await world.phase('GatherEvidence', stateAfterInspect({ failure }));
    const evidence = world.json(`restores/${RESTORE_ID}/evidence.json`);
    expect(evidence).toMatchObject({ outcome: 'failed', cluster: 'lab', state: { failure, nodes: NODES } });
    expect(evidence['nodes']).toEqual({
      [`${NODE_1} (cp1)`]: { version: '{"etcdserver":"3.6.5"}', kubelet: 'line 1\nline 2' },
      [`${NODE_2} (cp2)`]: { unreachable: expect.stringContaining('is Pending') as string },
      [`${NODE_3} (cp3)`]: { version: '{"etcdserver":"3.6.5"}', kubelet: 'line 1\nline 2' },
    });
    expect(state.failure?.error).toBe('StopControlPlaneFailed');
  });

  test('hides no failure when it cannot be stored', async () => {
    const world = new World();
    world.s3DownUntil = Infinity;
    const failure = { error: 'StopControlPlaneFailed', cause: 'why' };
    const state = await world.phase('GatherEvidence', stateAfterInspect({ failure }));
    expect(state.step.ok).toBe(true);
    expect(state.failure?.cause).toMatch(/^why; logs and status of the nodes could not be stored: PutObject/);
  });

  test('answers in one call, also when a node answers only after it', async () => {
    const world = new World();
    world.answer('diagnose', NODE_2, ok({ evidence: {} }, 5000));
    const state = await world.callPhase('GatherEvidence', stateAfterInspect());
    expect(state.step).toMatchObject({ done: true });
    expect(state.failure?.error).toBe('RestoreFailed');
    expect(world.json(`restores/${RESTORE_ID}/evidence.json`)['nodes']).toMatchObject({
      [`${NODE_2} (cp2)`]: { waiting: '' },
    });
  });
});

describe('the event', () => {
  test.each([
    [
      'of another phase',
      { phase: 'Inspect', state: stateAfterInspect() },
      /phase: got "Inspect", expected one of Keep/,
    ],
    ['without a state', { phase: 'StopControlPlane' }, /state: got nothing/],
    [
      'with a state before Inspect',
      { phase: 'StopControlPlane', state: { ...stateAfterInspect(), nodes: [] } },
      /nodes/,
    ],
    [
      'of a plan',
      { phase: 'StopControlPlane', state: { ...stateAfterInspect(), mode: 'plan' } },
      /state\.mode: got "plan"/,
    ],
    ['of something else', {}, /phase: got nothing/],
  ])('%s is refused before anything is sent', async (_, event, message) => {
    const world = new World();
    await expect(world.call(event)).rejects.toMatchObject({
      name: 'EventError',
      message: expect.stringMatching(message) as string,
    });
    expect(world.commands).toHaveLength(0);
    expect(world.published).toBe(1);
  });
});

describe('an execution that no state ended', () => {
  const event = (status: string, error: string | null = null) => ({
    version: '0',
    source: 'aws.states',
    'detail-type': 'Step Functions Execution Status Change',
    detail: {
      executionArn: 'arn:aws:states:us-east-1:000000000000:execution:Restore:one',
      status,
      startDate: Date.parse('2026-11-20T14:00:00.700Z'),
      stopDate: Date.parse('2026-11-20T14:05:00Z'),
      input: '{"confirm":"lab"}',
      error,
      cause: 'I thought better of it',
    },
  });

  test.each([
    ['ABORTED', null],
    ['TIMED_OUT', null],
    ['FAILED', 'States.Runtime'],
  ])('is counted and recorded with the way to undo it: %s', async (status, error) => {
    const world = new World();
    const answer = await world.call(event(status, error));
    expect(answer).toMatchObject({ restoreId: RESTORE_ID });
    expect(world.json(`restores/${RESTORE_ID}/interrupted.json`)).toMatchObject({
      outcome: 'interrupted',
      status,
      error,
      cause: 'I thought better of it',
      startedAt: '2026-11-20T14:00:00.700Z',
      stoppedAt: '2026-11-20T14:05:00.000Z',
      next: expect.stringContaining(`{"rollback":"${RESTORE_ID}"}`) as string,
    });
    expect(world.measured['RestoresInterrupted']).toEqual([1]);
    expect(world.commands).toHaveLength(0);
  });

  test('is counted again and recorded once when the event comes twice', async () => {
    const world = new World();
    await world.call(event('ABORTED'));
    await world.call(event('ABORTED'));
    expect(world.objects.size).toBe(1);
  });

  test('is counted when its record cannot be written', async () => {
    const world = new World();
    world.s3DownUntil = Infinity;
    await expect(world.call(event('ABORTED'))).rejects.toMatchObject({ name: 'StoreError' });
    expect(world.measured['RestoresInterrupted']).toEqual([1]);
    expect(world.published).toBe(1);
  });

  test.each([
    ['SUCCEEDED', null, 'detail.status: got "SUCCEEDED"'],
    ['FAILED', 'RollbackFailed', `detail.error: got "RollbackFailed", expected 'States.Runtime' where`],
    ['FAILED', null, 'detail.error: got null'],
  ])('throws at an event that the rule does not send: %s with the error %p', async (status, error, message) => {
    const world = new World();
    await expect(world.call(event(status, error))).rejects.toMatchObject({
      name: 'EventError',
      message: expect.stringContaining(message) as string,
    });
  });
});
