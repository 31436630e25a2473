import { plan } from '../../../lambda/plan/plan';
import { executionOf, nodeOf, PlanCloud } from './cloud';
import { journalOf, liveMember } from './situation';

let cloud: PlanCloud;
beforeEach(async () => {
  cloud = new PlanCloud();
  await cloud.verified('20261120T140000Z');
});
afterEach(() => {
  cloud.world.remove();
});

const ID = '20261120T140000Z';
const RESTORE = '20261120T143000Z';
const withoutQuorum = liveMember({ linearizable: false, leaderId: '0', alarms: null, revision: 123_600 });
const stopped = (number: number) => ({ etcd: { ...nodeOf(number).etcd, running: false, member: null } });

describe('{}', () => {
  test('shows the plan, in which the exact input to confirm with stands', async () => {
    const state = await cloud.plan({}, 'plan');
    expect(state).toMatchObject({
      mode: 'plan',
      highestRevision: 123_500,
      clusterIdsBefore: ['cdf818194e3a8c32', 'c1'],
      survivor: { instanceId: 'i-1', revision: 123_500 },
      step: { name: 'Inspect', done: true, ok: true },
    });
    expect(state.plan).toMatchObject({
      summary: `would restore backup ${ID}, 1 h 0 min old, on 3 of 3 running nodes of lab; nothing speaks against it`,
      canBeRestored: true,
      refusals: [],
      backup: {
        id: ID,
        age: '1 h 0 min',
        isNewest: true,
        revision: 123_456,
        verified: expect.stringContaining('by verify version 7') as string,
      },
      lost: { revisions: 44 },
      contents: { objects: 9876, kinds: { pods: 300 } },
      durations: { lastRestore: null, lastDrill: null },
      next: { toRestoreThis: `{"confirm":"lab","snapshot":"${ID}","requestedBy":"your name","reason":"why"}` },
    });
  });

  test('runs nothing on a node but the document that reads, once on each', async () => {
    await cloud.plan({}, 'plan');
    expect(cloud.sent.map(({ instanceId, comment }) => `${instanceId} ${comment}`).sort()).toEqual(
      ['i-1', 'i-2', 'i-3'].map((instanceId) => `${instanceId} 20261120T150000Z Inspect`),
    );
    expect(cloud.sent[0]?.parameters).toEqual({ ClusterName: ['lab'], Peers: [''] });
  });

  test('is kept as a record, and as nothing that begins a timeline', async () => {
    const { plan: shown } = await cloud.plan({}, 'plan');
    expect(cloud.written).toEqual(['restores/20261120T150000Z/plan.json']);
    const stored = cloud.world.stored.find(({ key }) => key === 'restores/20261120T150000Z/plan.json');
    expect(JSON.parse(String(stored?.bytes))).toMatchObject({ schema: 1, cluster: 'lab', mode: 'plan', plan: shown });
    // The same state once more, as after a time-out.
    expect(await cloud.plan({}, 'plan')).toMatchObject({ mode: 'plan', snapshot: { backupId: ID } });
  });

  test('asks nobody whether another restore runs', async () => {
    cloud.running.unshift({ executionArn: executionOf('older'), startDate: new Date(0), input: '{"confirm":"lab"}' });
    expect((await cloud.plan({})).mode).toBe('plan');
  });

  test('shows what would be refused, with the field that forces it, and offers no input that just restores', async () => {
    cloud.node(2, { apiServer: { ...nodeOf(2).apiServer, version: 'v1.34.0' } });
    const { plan: shown } = await cloud.plan({});
    expect(shown?.['next']).not.toHaveProperty('toRestoreThis');
    expect(shown).toMatchObject({
      canBeRestored: false,
      summary: expect.stringContaining('it would be refused: kubernetes-version') as string,
      refusals: [{ name: 'kubernetes-version', force: '"forceKubernetesVersion":true' }],
      next: {
        correct: 'what the refusals say, then start with {} again',
        forces: 'kubernetes-version',
        toForceAllOfThis: `{"confirm":"lab","snapshot":"${ID}","forceKubernetesVersion":true,"requestedBy":"your name","reason":"why"}`,
      },
    });
  });

  test('keeps in the input what was forced already', async () => {
    cloud.node(2, { apiServer: { ...nodeOf(2).apiServer, version: 'v1.34.0' } });
    const { plan: shown } = await cloud.plan({ forceKubernetesVersion: true });
    expect(shown).toMatchObject({
      canBeRestored: true,
      warnings: [expect.stringMatching(/^forced \(kubernetes-version\): /)],
      next: {
        toRestoreThis: `{"confirm":"lab","snapshot":"${ID}","forceKubernetesVersion":true,"requestedBy":"your name","reason":"why"}`,
      },
    });
  });

  test('gives no input to confirm with where something cannot be forced', async () => {
    cloud.node(2, { kubelet: { installed: false, active: false, version: null } });
    const next = (await cloud.plan({})).plan?.['next'];
    expect(next).toMatchObject({ correct: expect.stringContaining('refusals') as string });
    expect(next).not.toHaveProperty('toRestoreThis');
    expect(next).not.toHaveProperty('toForceAllOfThis');
  });

  test('an older backup is held against the newest', async () => {
    const { backup, verified } = { backup: '20261120T144500Z', verified: cloud.world.receipt(ID) };
    cloud.world.reader = () => ({
      ...FACTS,
      revision: 123_480,
      inventory: {
        ...FACTS.inventory,
        objects: 9900,
        kinds: [{ kind: 'pods', objects: 324, bytes: 1, namespaces: [] }],
        nodes: ['cp1', 'cp2', 'cp3', 'worker9'],
      },
    });
    await cloud.verified(backup, { result: { revision: 123_480, liveRevision: 123_490 } });
    const { plan: shown } = await cloud.plan({ snapshot: ID });
    expect(verified.snapshot.revision).toBe(123_456);
    expect(shown).toMatchObject({
      backup: { id: ID, isNewest: false, newest: backup },
      contents: { againstNewest: { objects: 24, kinds: ['pods: 300 here, 324 there'] } },
    });
  });

  test('names the nodes of Kubernetes that are gone, and those that joined since', async () => {
    const nodes = (names: string[]) => () => ({ ...FACTS, inventory: { ...FACTS.inventory, nodes: names } });
    cloud.world.reader = nodes(['cp1', 'cp2', 'cp3', 'worker1']);
    await cloud.verified('20261120T144000Z');
    cloud.world.reader = nodes(['cp1', 'cp2', 'cp3', 'worker2']);
    await cloud.verified('20261120T145000Z');
    const { plan: shown } = await cloud.plan({ snapshot: '20261120T144000Z' });
    expect(shown?.['kubernetesNodes']).toEqual({ inBackup: 4, gone: ['worker1'], joinedAfterTheBackup: ['worker2'] });
  });

  test('says nothing of nodes that are gone where kubelets have names of their own', async () => {
    cloud.world.reader = () => ({ ...FACTS, inventory: { ...FACTS.inventory, nodes: ['one', 'two'] } });
    await cloud.verified('20261120T144000Z');
    expect((await cloud.plan({})).plan?.['kubernetesNodes']).toMatchObject({ inBackup: 2, gone: null });
  });

  test('says how long the last restore and the last drill took', async () => {
    const put = (key: string, record: unknown) => cloud.world.put(key, Buffer.from(JSON.stringify(record)), {});
    put('restores/20261120T130000Z.json', { seconds: { Preflight: 20 }, downtimeSeconds: 9.5, revisionAfter: 100_000 });
    put('drills/20261119T030000Z.json', { seconds: { total: 31 } });
    await cloud.verified('20261120T144000Z');
    expect((await cloud.plan({})).plan?.['durations']).toEqual({
      lastRestore: { restoreId: '20261120T130000Z', downtimeSeconds: 9.5, seconds: { Preflight: 20 } },
      lastDrill: { drill: '20261119T030000Z', seconds: { total: 31 } },
    });
  });

  test('is at most 20 KB, however much there is to say', async () => {
    const problems = Array.from({ length: 20 }, (_, index) => `problem ${String(index)} ${'x'.repeat(1900)}`);
    for (const number of [1, 2, 3]) {
      cloud.node(number, {
        problems,
        data: {
          ...nodeOf(1).data,
          kept: Array.from(
            { length: 100 },
            (_, index) => `202611${String(10 + (index % 10))}T0000${String(10 + (index % 40))}Z`,
          ),
        },
      });
    }
    const { plan: shown } = await cloud.plan({});
    expect(Buffer.byteLength(JSON.stringify(shown))).toBeLessThanOrEqual(20_000);
    expect(shown).toMatchObject({ canBeRestored: false, backup: { id: ID } });
  });
});

describe('with confirm', () => {
  test('the state has what a restore needs', async () => {
    const state = await cloud.plan({ confirm: 'lab', reason: 'a test' });
    expect(state).toMatchObject({ mode: 'restore', snapshot: { backupId: ID }, rollbackId: null, failure: null });
    expect(
      state.nodes.map(({ instanceId, memberName, peerUrls }) => `${instanceId} ${memberName} ${peerUrls}`),
    ).toEqual(['i-1 cp1 https://10.0.0.1:2380', 'i-2 cp2 https://10.0.0.2:2380', 'i-3 cp3 https://10.0.0.3:2380']);
  });

  test('nodes without etcd are in the state as left out', async () => {
    (cloud.instances[1] as { State: { Name: string } }).State.Name = 'stopped';
    cloud.node(3, {
      etcd: { ...nodeOf(3).etcd, manifest: 'missing', running: false, member: null, memberName: '', peerUrls: [] },
      apiServer: { ...nodeOf(3).apiServer, manifest: false },
    });
    const state = await cloud.plan({});
    expect(state.nodes.map(({ instanceId }) => instanceId)).toEqual(['i-1']);
    expect(state.leftOut).toEqual(['i-3']);
  });

  test('every refusal is said at once, and the plan is kept', async () => {
    cloud.node(1, { zstd: false });
    cloud.node(2, { apiServer: { ...nodeOf(2).apiServer, version: 'v1.34.0' } });
    cloud.answers.set('i-3', { kind: 'unknown' });
    const refused = cloud.plan({ confirm: 'lab' });
    await expect(refused).rejects.toMatchObject({ name: 'RestoreRefusedError' });
    await expect(refused).rejects.toThrow(
      /^refused for 3 reasons: unreachable-node: i-3 .*no-zstd: i-1 .*kubernetes-version: i-2 .*restores\/20261120T150000Z\/plan.json; correct each, or force what can be forced with "forceKubernetesVersion":true/,
    );
    expect(cloud.written).toEqual(['restores/20261120T150000Z/plan.json']);
  });

  test('what is forced is a warning in the state, and stands in the request', async () => {
    cloud.node(2, { apiServer: { ...nodeOf(2).apiServer, version: 'v1.34.0' } });
    const state = await cloud.plan({ confirm: 'lab', forceKubernetesVersion: true });
    expect(state.request.forced).toEqual(['kubernetes-version']);
    expect(state.warnings).toContainEqual(expect.stringContaining('forced (kubernetes-version): i-2 (cp2)'));
  });

  test('the survivor that knows most is the source, and has no snapshot yet', async () => {
    cloud.node(1, { etcd: { ...nodeOf(1).etcd, member: withoutQuorum } });
    cloud.node(2, stopped(2));
    cloud.node(3, stopped(3));
    const state = await cloud.plan({ confirm: 'lab', from: 'survivor' });
    expect(state).toMatchObject({
      snapshot: null,
      survivor: { instanceId: 'i-1', revision: 123_600 },
      highestRevision: 123_600,
    });
    expect(state.plan).toMatchObject({
      summary: expect.stringContaining('restores what the member cp1 has, at revision 123600') as string,
      backup: null,
      next: { toRestoreThis: '{"confirm":"lab","from":"survivor","requestedBy":"your name","reason":"why"}' },
    });
  });

  test('the plan of a backup shows what a survivor has beyond it', async () => {
    cloud.node(1, { etcd: { ...nodeOf(1).etcd, member: withoutQuorum } });
    cloud.node(2, stopped(2));
    cloud.node(3, stopped(3));
    cloud.world.put(`tools/3.6.5/amd64/${'d'.repeat(64)}/etcdutl`, Buffer.from('tool'), {});
    const { plan: shown } = await cloud.plan({});
    expect(shown).toMatchObject({
      lost: { revisions: 144 },
      survivors: [
        {
          member: 'cp1',
          revision: 123_600,
          quorum: false,
          beyondNewestBackup: 144,
          wouldLose: expect.stringContaining('0 revisions against the member that knows most') as string,
        },
      ],
      next: {
        toRestoreFromTheSurvivor: '{"confirm":"lab","from":"survivor","requestedBy":"your name","reason":"why"}',
      },
    });
  });

  test('what is lost is said for each case: further, nobody further, a survivor', async () => {
    const lost = async (input: unknown) => (await cloud.plan(input)).plan?.['lost'];
    expect(await lost({})).toEqual({
      revisions: 44,
      sentence: 'cp1 is 44 revisions further: each is a write that a restore takes back',
    });
    cloud.node(1, { etcd: { ...nodeOf(1).etcd, member: withoutQuorum } });
    cloud.node(2, stopped(2));
    cloud.node(3, stopped(3));
    expect(await lost({ from: 'survivor' })).toEqual({
      sentence: 'what cp1 has is kept; what other members had and it had not received is not known',
    });
    cloud.node(1, { etcd: { ...nodeOf(1).etcd, member: { ...withoutQuorum, revision: 3 } } });
    expect(await lost({})).toEqual({
      revisions: 0,
      sentence: expect.stringContaining('no member has more than this backup') as string,
    });
  });

  test('a receipt that is gone between the two states ends it', async () => {
    const state = await cloud.choose({ confirm: 'lab' });
    cloud.world.stored.splice(
      cloud.world.stored.findIndex(({ key }) => key === `receipts/${ID}.json`),
      1,
    );
    await expect(cloud.inspect(state)).rejects.toThrow('its receipt was there a moment ago');
  });
});

describe('one at a time', () => {
  const beside = (startDate: string, input: string) =>
    cloud.running.push({ executionArn: executionOf('beside'), startDate: new Date(startDate), input });

  test.each(['{"confirm":"lab"}', '{"rollback":"20261120T143000Z"}', 'no JSON'])(
    'an older execution with %s goes first',
    async (input) => {
      beside('2026-11-20T14:59:59Z', input);
      const refused = cloud.choose({ confirm: 'lab' });
      await expect(refused).rejects.toMatchObject({ name: 'RestoreRefusedError' });
      await expect(refused).rejects.toThrow(
        `another restore is under way: ${executionOf('beside')}, which runs since 2026-11-20T14:59:59.000Z`,
      );
      await expect(cloud.choose({ rollback: RESTORE })).rejects.toThrow('another restore is under way');
    },
  );

  test('an older plan and a younger restore do not count', async () => {
    beside('2026-11-20T14:59:59Z', '{}');
    beside('2026-11-20T15:00:01Z', '{"confirm":"lab"}');
    expect((await cloud.choose({ confirm: 'lab' })).mode).toBe('restore');
  });

  test('of two that began in the same moment exactly one goes on', async () => {
    beside('2026-11-20T15:00:00Z', '{"confirm":"lab"}');
    await expect(cloud.choose({ confirm: 'lab' })).rejects.toThrow('another restore is under way');
    cloud.running[1] = { ...cloud.running[1], executionArn: executionOf('zzz') } as (typeof cloud.running)[number];
    expect((await cloud.choose({ confirm: 'lab' })).mode).toBe('restore');
  });

  test('one that Step Functions did not list at first is seen before any node is asked', async () => {
    const state = await cloud.choose({ confirm: 'lab' });
    beside('2026-11-20T14:59:59Z', '{"confirm":"lab"}');
    await expect(cloud.inspect(state)).rejects.toThrow('another restore is under way');
    expect(cloud.sent).toEqual([]);
  });

  test('one that is not listed itself lets every other go first', async () => {
    cloud.running.shift();
    beside('2026-11-20T15:00:01Z', '{"confirm":"lab"}');
    await expect(cloud.choose({ confirm: 'lab' })).rejects.toThrow('another restore is under way');
  });
});

describe('{"rollback": …}', () => {
  const journal = (served: boolean, started = false) => journalOf(RESTORE, { served, started });

  test('undoes at once what has not ended, on every node, also one that does not answer', async () => {
    cloud.node(1, { journal: journal(false), etcd: { ...nodeOf(1).etcd, manifest: 'aside' } });
    cloud.answers.set('i-3', { kind: 'silent' });
    const state = await cloud.plan({ rollback: RESTORE });
    expect(state).toMatchObject({ mode: 'rollback', rollbackId: RESTORE, served: false, snapshot: null });
    expect(state.nodes.map(({ instanceId, memberName }) => `${instanceId} ${memberName}`)).toEqual([
      'i-1 cp1',
      'i-2 cp2',
      'i-3 i-3',
    ]);
    expect(state.plan).toMatchObject({ result: 'RollBack', rollback: RESTORE });
  });

  test('waits for a node that does not answer once etcd was started: it may be the one that has served', async () => {
    cloud.node(1, { journal: journal(false, true) });
    cloud.answers.set('i-3', { kind: 'silent' });
    await expect(cloud.plan({ rollback: RESTORE })).rejects.toThrow(/i-3 does not answer .* had started etcd/);
    cloud.node(2, { journal: journal(true, true) });
    expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: true });
  });

  test('needs nothing of the bucket for that', async () => {
    cloud.node(2, { journal: journal(false) });
    cloud.world.s3Mock.reset().rejects(new Error('S3 is down'));
    cloud.world.kmsDown = true;
    expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({
      mode: 'rollback',
      served: false,
      warnings: [expect.stringMatching(/^whether restores\/20261120T143000Z.json is there is not known.*S3 is down/)],
    });
  });

  describe('while EC2 answers no search', () => {
    const planned = (ids: readonly string[]) =>
      cloud.world.put(
        `restores/${RESTORE}/plan.json`,
        Buffer.from(JSON.stringify({ schema: 1, plan: { nodes: ids.map((instanceId) => ({ instanceId })) } })),
        {},
      );
    const undone = async () => {
      const { mode, served, nodes, warnings } = await cloud.plan({ rollback: RESTORE });
      return { mode, served, nodes: nodes.map(({ instanceId }) => instanceId), warnings };
    };
    const lookedUp = (from: string) =>
      expect.stringMatching(`^nodes were looked up by the ids in ${from}: ec2:`) as string;
    beforeEach(() => {
      cloud.node(2, { journal: journal(false) });
      cloud.searchFails = true;
    });

    test('undoes it on the nodes that its plan names', async () => {
      planned(['i-1', 'i-2', 'i-3', 'i-forgotten']);
      // What is put over it later says nothing.
      cloud.world.put(`restores/${RESTORE}/plan.json`, Buffer.from('{"plan":{"nodes":[]}}'), {});
      expect(await undone()).toEqual({
        mode: 'rollback',
        served: false,
        nodes: ['i-1', 'i-2', 'i-3'],
        warnings: [lookedUp(`restores/${RESTORE}/plan.json`)],
      });
    });

    test.each<[string, readonly string[]]>([
      ['that is none', []],
      ['that is no record', ['{"plan":{']],
    ])('and of a plan %s, on those of the newest backup', async (_, plans) => {
      plans.forEach((text) => cloud.world.put(`restores/${RESTORE}/plan.json`, Buffer.from(text), {}));
      await cloud.verified('20261120T144000Z', { announcement: { controlPlane: ['i-1', 'i-2'] } });
      expect(await undone()).toEqual({
        mode: 'rollback',
        served: false,
        nodes: ['i-1', 'i-2'],
        warnings: [
          ...plans.map(() => expect.stringContaining('plan.json is no record that this version reads') as string),
          lookedUp('the backup 20261120T144000Z'),
        ],
      });
    });

    test('says what to do, and promises no trigger, where S3 does not answer either', async () => {
      cloud.world.s3Mock.reset().rejects(new Error('S3 is down'));
      const failed = cloud.plan({ rollback: RESTORE });
      await expect(failed).rejects.toMatchObject({ name: 'NoNodeError' });
      await expect(failed).rejects.toThrow(
        /start it again when EC2 answers; the bucket was asked for the ids, too: got .*S3 is down.*, expected those in restores\/20261120T143000Z\/plan.json$/,
      );
      await expect(failed).rejects.not.toThrow('trigger');
    });

    test('says what to do where EC2 answers nothing at all', async () => {
      planned(['i-1']);
      cloud.ec2Fails = true;
      await expect(cloud.plan({ rollback: RESTORE })).rejects.toThrow(
        /^ec2:DescribeInstances of i-1, which is known from before, .*nothing was changed: start it again when EC2 answers$/,
      );
    });
  });

  describe('finishes forward on a node that was away while the others ended', () => {
    const record = (key: string) => cloud.world.put(key, Buffer.from('{"revisionAfter":100000}'), {});

    test('as what they keep without a journal says', async () => {
      cloud.node(1, { journal: journal(false, true) });
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: false });
      cloud.node(2, { data: { ...nodeOf(2).data, kept: ['20261119T000000Z', RESTORE] } });
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ mode: 'rollback', served: true });
    });

    test('as its record in the bucket says, whatever lies over it', async () => {
      cloud.node(1, { journal: journal(false, true) });
      record(`restores/${RESTORE}.json.old`);
      record(`restores/${RESTORE}/evidence.json`);
      record('restores/20261120T143001Z.json');
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: false });
      record(`restores/${RESTORE}.json`);
      cloud.world.deleteMarker(`restores/${RESTORE}.json`);
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ mode: 'rollback', served: true, warnings: [] });
    });

    test('and data that is kept beside its own journal says nothing of that kind', async () => {
      for (const number of [1, 2, 3]) {
        cloud.node(number, { journal: journal(false, true), data: { ...nodeOf(number).data, kept: [RESTORE] } });
      }
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: false });
    });
  });

  describe('where a node is gone', () => {
    const checked = journalOf(RESTORE, { started: true, checked: true });
    const both = (first: object, second: object = first) => {
      cloud.node(1, { journal: { ...checked, ...first }, etcd: { ...nodeOf(1).etcd, member: null } });
      cloud.node(2, { journal: { ...checked, ...second }, etcd: { ...nodeOf(2).etcd, member: null } });
    };
    beforeEach(() => {
      (cloud.instances[2] as { State: { Name: string } }).State.Name = 'stopped';
    });

    test.each<[string, object, object, boolean]>([
      ['all of the others were checked: it may have served', {}, {}, true],
      ['one of the others was not checked: nobody has served', {}, { checked: false }, false],
      ['one of the others was undone: nobody had served', {}, { undone: true }, false],
      ['there were not more members than these', { nodes: 2 }, { nodes: 2 }, false],
      ['one does not know how many there were, and the other does', { nodes: null }, {}, true],
    ])('and %s', async (_, first, second, served) => {
      both(first, second);
      const state = await cloud.plan({ rollback: RESTORE });
      expect(state).toMatchObject({ mode: 'rollback', served });
      expect(String(state.plan?.['summary']).includes('or one that is gone may have: nothing is put back')).toBe(
        served,
      );
    });

    test('and a node without etcd has its place, it still may have served', async () => {
      both({});
      (cloud.instances[2] as { State: { Name: string } }).State.Name = 'running';
      cloud.node(3, { etcd: { ...nodeOf(3).etcd, manifest: 'missing', running: false, member: null } });
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: true });
    });

    test('and only silent, it is waited for', async () => {
      both({});
      (cloud.instances[2] as { State: { Name: string } }).State.Name = 'running';
      cloud.answers.set('i-3', { kind: 'silent' });
      await expect(cloud.plan({ rollback: RESTORE })).rejects.toThrow(/i-3 does not answer/);
    });

    test('and came back after the others were undone, it is undone as well', async () => {
      both({});
      cloud.node(2);
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: false });
    });
  });

  describe('is refused where it was undone on one node', () => {
    const refused = async () => {
      const asked = cloud.plan({ rollback: RESTORE });
      await expect(asked).rejects.toMatchObject({ name: 'RestoreRefusedError' });
      return asked.then(String, String);
    };
    beforeEach(() => {
      cloud.node(1, { journal: journalOf(RESTORE, { undone: true, started: true }) });
    });

    test('and has served on another', async () => {
      cloud.node(2, { journal: journal(true, true) });
      expect(await refused()).toContain(`restore ${RESTORE} was undone on i-1 and its data was served on i-2`);
    });

    test('and has ended on another', async () => {
      cloud.node(3, { data: { ...nodeOf(3).data, kept: [RESTORE] } });
      expect(await refused()).toContain(`restore ${RESTORE} was undone on i-1 and its data was served on i-3`);
    });

    test('and has a record', async () => {
      cloud.world.put(`restores/${RESTORE}.json`, Buffer.from('{}'), {});
      expect(await refused()).toContain(`its data was served as restores/${RESTORE}.json says`);
    });

    test('but not where it is only half undone', async () => {
      cloud.node(2, { journal: journal(false, true) });
      expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ mode: 'rollback', served: false });
    });
  });

  test('is refused while no journal is found and a node does not answer: it may have one', async () => {
    cloud.answers.set('i-3', { kind: 'silent' });
    const refused = cloud.plan({ rollback: RESTORE });
    await expect(refused).rejects.toMatchObject({ name: 'RestoreRefusedError' });
    await expect(refused).rejects.toThrow(
      /i-3 does not answer .*, and no other node has a journal of restore 20261120T143000Z, expected every running node to say whether that restore is under way; nothing was changed anywhere; bring it back, or stop its instance/,
    );
  });

  test("leaves a node with another restore's journal alone, and names it", async () => {
    cloud.node(1, { journal: journal(false) });
    cloud.node(2, { journal: journalOf('20261119T000000Z') });
    const state = await cloud.plan({ rollback: RESTORE });
    expect(state.nodes.map(({ instanceId }) => instanceId)).toEqual(['i-1', 'i-3']);
    expect(state.plan).toMatchObject({
      summary: expect.stringContaining('on 2 nodes') as string,
      nodes: [
        { instanceId: 'i-1' },
        { instanceId: 'i-2', journal: '20261119T000000Z', leftAlone: 'it has the journal of another restore' },
        { instanceId: 'i-3', journal: null },
      ],
    });
  });

  test('keeps the highest revision that clients may have seen', async () => {
    const serving = (number: number, revision: number) => {
      const etcd = { ...nodeOf(number).etcd, member: liveMember({ revision }) };
      cloud.node(number, { journal: journal(true, true), etcd });
    };
    serving(1, 1_000_123_456);
    serving(2, 1_000_123_499);
    serving(3, 1_000_123_400);
    expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ served: true, highestRevision: 1_000_123_499 });
  });

  test('knows of no revision where no member answers', async () => {
    for (const number of [1, 2, 3]) {
      cloud.node(number, { journal: journal(true, true), etcd: { ...nodeOf(number).etcd, member: null } });
    }
    expect(await cloud.plan({ rollback: RESTORE })).toMatchObject({ highestRevision: 0 });
  });

  test('puts nothing back where the restored data was served', async () => {
    cloud.node(1, { journal: journal(false) });
    cloud.node(2, { journal: journal(true) });
    const state = await cloud.plan({ rollback: RESTORE });
    expect(state).toMatchObject({ mode: 'rollback', served: true });
    expect(state.plan?.['summary']).toContain('everything is started on the restored data');
  });

  test("another restore's journal is not undone by it", async () => {
    cloud.node(1, { journal: journalOf('20261119T000000Z') });
    await expect(cloud.plan({ rollback: RESTORE })).rejects.toThrow(
      `restore ${RESTORE} is not under way on any node (right after an execution was stopped, its scripts may still be starting: try again in a minute), and no verified backup holds what was there before it`,
    );
  });

  describe('of a restore that has ended', () => {
    const before = '20261120T143100Z';
    beforeEach(async () => {
      cloud.world.put(
        `restores/${RESTORE}.json`,
        Buffer.from(JSON.stringify({ revisionAfter: 100_000, keptBackupId: before })),
        {},
      );
      await cloud.verified(before, { trigger: { kind: 'pre-restore', restoreId: RESTORE } });
      cloud.now = new Date('2026-11-20T15:00:05Z');
    });

    test('is the plan of its pre-restore backup', async () => {
      const state = await cloud.plan({ rollback: RESTORE });
      expect(state).toMatchObject({ mode: 'plan', rollbackId: null, snapshot: { backupId: before } });
      expect(state.plan).toMatchObject({
        wayBackOf: RESTORE,
        backup: { id: before, kind: 'pre-restore' },
        next: { toRestoreThis: `{"confirm":"lab","rollback":"${RESTORE}","requestedBy":"your name","reason":"why"}` },
      });
    });

    test('with confirm is its restore', async () => {
      const state = await cloud.plan({ rollback: RESTORE, confirm: 'lab' });
      expect(state).toMatchObject({ mode: 'restore', rollbackId: null, snapshot: { backupId: before } });
    });

    test("another restore's pre-restore backup is not taken for it", async () => {
      await expect(cloud.plan({ rollback: '20261120T143050Z' })).rejects.toThrow(
        'no verified backup holds what was there before it',
      );
    });
  });
});

describe('nodes that do not say what they are', () => {
  const problem = async () => {
    const refusals = (await cloud.plan({})).plan?.['refusals'] as { name: string; sentence: string }[];
    expect(refusals.map(({ name }) => name)).toEqual(['unreachable-node']);
    return refusals[0]?.sentence;
  };

  test('an agent that takes no command is tried twice', async () => {
    cloud.answers.set('i-2', { kind: 'silent' });
    expect(await problem()).toMatch(
      /^i-2 does not answer: command command-i-2-\d is Pending after \d+ s, .*stop the instance in EC2/,
    );
    expect(cloud.sent.filter(({ instanceId }) => instanceId === 'i-2')).toHaveLength(2);
  });

  test('an instance that SSM does not know', async () => {
    cloud.agents.delete('i-2');
    expect(await problem()).toContain('i-2 is not registered with SSM');
  });

  test('an agent that is too old', async () => {
    cloud.agents.set('i-2', '3.3.100.0');
    expect(await problem()).toContain('i-2 has SSM agent 3.3.100.0, expected 3.3.2746.0 or newer');
  });

  test('an SSM that answers nothing', async () => {
    cloud.answers.set('i-2', { kind: 'throttled' });
    expect(await problem()).toContain('ssm:SendCommand of Inspect-1A2B to i-2: got InternalServerError');
  });

  test('a script that refused', async () => {
    cloud.answers.set('i-2', {
      kind: 'refuses',
      stdout: '{"ok":false,"code":14,"error":"missing-command","message":"no curl"}',
    });
    expect(await problem()).toContain('i-2 could not be looked at (missing-command): no curl');
  });

  test('a script that was killed', async () => {
    cloud.answers.set('i-2', { kind: 'refuses', stdout: '', stderr: 'Killed' });
    expect(await problem()).toContain("exit status 11, stderr 'Killed'");
  });

  test('a result line of another version', async () => {
    cloud.answers.set('i-2', { kind: 'says', stdout: '{"ok":true}' });
    expect(await problem()).toContain('hostname: got nothing, expected up to 253 printable ASCII characters');
  });
});

describe('instances that are gone', () => {
  beforeEach(() => {
    for (const number of [1, 2]) {
      cloud.node(number, {
        etcd: { ...nodeOf(number).etcd, member: liveMember({ revision: 123_500, members: MEMBERS }) },
      });
    }
  });

  const refusals = async () =>
    ((await cloud.plan({})).plan?.['refusals'] as { name: string }[]).map(({ name }) => name);
  const third = () =>
    cloud.instances[2] as { State: { Name: string }; PrivateIpAddress?: string | undefined; PrivateDnsName?: string };

  test('one that is stopped is found by its tags, and its member is left out; the others knocked at its door', async () => {
    third().State.Name = 'stopped';
    expect(await refusals()).toEqual([]);
    expect(cloud.sent.every(({ parameters }) => parameters['Peers']?.[0] === 'https://10.0.0.3:2380')).toBe(true);
  });

  test('one that is terminated has no address any more', async () => {
    third().State.Name = 'terminated';
    delete third().PrivateIpAddress;
    delete third().PrivateDnsName;
    expect(await refusals()).toEqual([]);
  });

  test('one that EC2 has forgotten is known from the announcement that the receipt names', async () => {
    await cloud.verified('20261120T144000Z', { announcement: { controlPlane: ['i-1', 'i-2', 'i-3'] } });
    cloud.instances.pop();
    expect(await refusals()).toEqual([]);
  });

  test('while EC2 answers no search, nodes are known from the announcement that the receipt names', async () => {
    await cloud.verified('20261120T144000Z', { announcement: { controlPlane: ['i-1', 'i-2', 'i-3'] } });
    cloud.searchFails = true;
    const { plan: shown } = await cloud.plan({});
    expect(shown).toMatchObject({ canBeRestored: true, kubernetesNodes: { gone: null } });
    expect(shown?.['warnings']).toContainEqual(
      expect.stringContaining('nodes were looked up by the ids of the last backup'),
    );
  });

  test('all members are looked for while a first node that came back empty names only itself', async () => {
    cloud.node(1, {
      etcd: {
        ...nodeOf(1).etcd,
        initialCluster: [{ name: 'cp1', peerUrl: 'https://10.0.0.1:2380' }],
        member: liveMember({ revision: 3, members: MEMBERS.slice(0, 1) }),
      },
    });
    for (const instance of cloud.instances.slice(1)) {
      Object.assign(instance, { Tags: [], State: { Name: 'stopped' } });
    }
    const { plan: shown } = await cloud.plan({});
    expect(shown).toMatchObject({
      refusals: [],
      absentMembers: [
        expect.stringContaining('i-2 is stopped') as string,
        expect.stringContaining('i-3 is stopped') as string,
      ],
    });
  });

  test('one with the same address in another VPC is none of them', async () => {
    cloud.instances.forEach((instance) => Object.assign(instance, { VpcId: 'vpc-1' }));
    const other = { InstanceId: 'i-9', PrivateIpAddress: '10.0.0.3', State: { Name: 'stopped' as const } };
    cloud.instances[2] = { ...other, VpcId: 'vpc-2' };
    expect(await refusals()).toEqual(['missing-member']);
    cloud.instances[2] = { ...other, VpcId: 'vpc-1' };
    expect(await refusals()).toEqual([]);
  });

  test('where EC2 names no VPC of the control plane, the address alone counts', async () => {
    Object.assign(third(), { Tags: [], State: { Name: 'stopped' }, VpcId: 'vpc-2' });
    expect(await refusals()).toEqual([]);
  });

  test('one that runs without the tags is refused', async () => {
    Object.assign(third(), { Tags: [] });
    const state = await cloud.plan({});
    expect(state.plan?.['refusals']).toEqual([
      expect.objectContaining({
        name: 'missing-member',
        sentence: expect.stringContaining('i-3 with its address is running') as string,
      }),
    ]);
  });
});

test('an event that no machine sends is refused', async () => {
  const invocation = { requestId: 'r' };
  await expect(plan(cloud.deps, {}, invocation)).rejects.toThrow(
    "phase: got nothing, expected 'ChooseSnapshot' or 'Inspect'",
  );
  await expect(plan(cloud.deps, { phase: 'Inspect', state: {} }, invocation)).rejects.toThrow('the state of a restore');
});

const MEMBERS = liveMember().members;
const FACTS = facts();
function facts() {
  const { reader } = new PlanCloud().world;
  return reader('', {});
}
