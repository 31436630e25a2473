import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { mockClient } from 'aws-sdk-client-mock';
import { drill, type DrillDeps } from '../../../lambda/drill/drill';
import type { Order, ProvenAnswer } from '../../../lambda/drill-run/order';
import { readDrillRecord } from '../../../lambda/shared/drill-record';
import { readRecords } from '../../../lambda/plan/records';
import { hash } from '../plan/situation';
import { RECEIPT_KEY, snapshotFacts, World } from '../verify/world';
import { CREDENTIALS } from '../backup/cloud';

const BACKUP = '20261120T140000Z';
const DRILL = '20261121T043000Z';
const TRIGGER = {
  scheduledTime: '2026-11-21T04:30:00Z',
  scheduleArn: 'arn:aws:scheduler:eu-central-1:111122223333:schedule/group/drill',
};
const IMAGE = ['etcd', 'etcdctl', 'etcdutl'].map((name) => ({ name, sha256: hash('a'), bytes: 20_000_000 }));
const BUMP = 1_000_000_000;

let world: World;
let orders: Order[];
let answer: (order: Order) => unknown;
const lambdaMock = mockClient(LambdaClient);

const facts = snapshotFacts();

const proven = ({ drillId, snapshot, bump }: Order): ProvenAnswer => ({
  ok: true,
  drillId,
  seconds: { download: 3, restore: 2, boot: 1, read: 4, total: 11 },
  restoredRevision: snapshot.revision + bump,
  servedRevision: snapshot.revision + bump,
  keys: facts.inventory.objects,
  bytes: facts.inventory.bytes,
  hash: facts.liveHash,
  alarms: 0,
  memoryBytes: 100_000_000,
  diskBytes: 200_000_000,
});

const deps = (): DrillDeps => {
  const { store, kms, telemetry } = world.deps;
  return {
    clusterName: 'lab',
    arch: 'amd64',
    acknowledgedTools: [],
    officialTools: {},
    receiptKeyArn: RECEIPT_KEY,
    store,
    kms,
    lambda: new LambdaClient({ region: 'us-east-1', credentials: CREDENTIALS }),
    runFunction: 'drill-run',
    telemetry,
    now: () => world.now,
  };
};

/** A day later, as the schedule does it. */
const fire = async (event: unknown = TRIGGER) => {
  world.now = new Date('2026-11-21T04:30:07Z');
  return drill(deps(), event);
};

const verified = async (backupId: string) => {
  const put = world.backup(backupId, { announcement: { imageTools: IMAGE } });
  await world.verify(put.event);
  return put.stored;
};

const record = (drillId = DRILL) => {
  const key = `drills/${drillId}.json`;
  const stored = world.stored.filter((each) => each.key === key);
  expect(stored).toHaveLength(1);
  return readDrillRecord(key, stored[0]?.bytes ?? Buffer.alloc(0));
};

beforeEach(async () => {
  world = new World();
  orders = [];
  answer = proven;
  lambdaMock.reset();
  lambdaMock.on(InvokeCommand).callsFake(({ Payload }: { Payload: Uint8Array }) => {
    const order = JSON.parse(Buffer.from(Payload).toString()) as Order;
    orders.push(order);
    world.now = new Date(world.now.getTime() + 12_000);
    return { Payload: Buffer.from(JSON.stringify(answer(order))) };
  });
  for (const name of ['etcd', 'etcdctl', 'etcdutl']) {
    world.put(`tools/3.6.5/amd64/${hash('a')}/${name}`, Buffer.from(`bytes of ${name}`), {});
  }
  await verified(BACKUP);
  for (const name of Object.keys(world.measured)) {
    world.measured[name] = [];
  }
});

afterEach(() => {
  world.remove();
});

test('the newest verified backup is drilled with the binaries of its version, and what came of it is recorded and measured', async () => {
  const stored = world.stored.find(({ key }) => key === `snapshots/${BACKUP}.db.zst`);
  await expect(fire()).resolves.toEqual({
    outcome: 'proven',
    drillId: DRILL,
    backupId: BACKUP,
    record: `drills/${DRILL}.json`,
    reason: null,
  });
  expect(record()).toEqual({
    schema: 1,
    drillId: DRILL,
    cluster: 'lab',
    backupId: BACKUP,
    versionId: stored?.versionId,
    outcome: 'proven',
    reason: null,
    sentence: null,
    etcdVersion: '3.6.5',
    tools: { etcd: hash('a'), etcdctl: hash('a'), etcdutl: hash('a') },
    trust: { etcd: 'image', etcdctl: 'image', etcdutl: 'image' },
    seconds: { download: 3, restore: 2, boot: 1, read: 4, total: 11 },
    measured: {
      revision: 123_456,
      servedRevision: 123_456 + (orders[0]?.bump ?? 0),
      keys: 9876,
      bytes: 30_000_000,
      hash: 1_234_567_890,
      memoryBytes: 100_000_000,
      diskBytes: 200_000_000,
    },
    startedAt: '2026-11-21T04:30:07.000Z',
    finishedAt: '2026-11-21T04:30:19.000Z',
  });
  expect(world.measured).toMatchObject({
    DrillsFailed: [0],
    DrillNotPossible: [0],
    DrillSeconds: [6],
    DrillDownloadSeconds: [3],
    DrillRestoreSeconds: [2],
    DrillBootSeconds: [1],
    DrillReadSeconds: [4],
  });
});

test('drill-run is told one version of the snapshot and of each binary by presigned URLs, and nothing that it should find out', async () => {
  await fire();
  const [order] = orders;
  const receipt = world.receipt(BACKUP);
  expect(order).toMatchObject({
    drillId: DRILL,
    arch: 'amd64',
    bump: Math.max(receipt.snapshot.revision, receipt.announced.liveRevision) - receipt.snapshot.revision + BUMP,
    snapshot: { compression: 'zstd', compressedSha256: receipt.compressedSha256, sha256: receipt.sha256 },
  });
  for (const { key, versionId } of world.stored) {
    const urls = [order?.snapshot.url, ...(order?.tools ?? []).map(({ url }) => url)].map((url) => new URL(url ?? ''));
    const told = urls.filter(({ pathname }) => pathname.endsWith(key));
    expect(told.map(({ searchParams }) => searchParams.get('versionId'))).toEqual(
      /^(snapshots|tools)/.test(key) ? [versionId] : [],
    );
    expect(urls.map(({ searchParams }) => Number(searchParams.get('X-Amz-Expires')))).toEqual([900, 900, 900, 900]);
  }
  expect(JSON.stringify(order)).not.toMatch(/liveHash|1234567890|9876|30000000/);
});

test('a second delivery of the same trigger is the same drill: nothing runs, nothing is measured', async () => {
  await fire();
  await expect(fire()).resolves.toMatchObject({ outcome: 'known', drillId: DRILL, backupId: BACKUP });
  expect(orders).toHaveLength(1);
  expect(world.measured['DrillsFailed']).toEqual([0]);
});

test('two deliveries at once come to one record, and both say what it says', async () => {
  const [first, second] = await Promise.all([fire(), fire()]);
  expect([first.outcome, second.outcome].sort()).toEqual(['known', 'proven']);
  record();
  expect(world.measured['DrillsFailed']).toEqual([0]);
});

test('a backup that does not restore fails the drill, loudly, and again at each delivery', async () => {
  answer = (order) => ({ ...proven(order), hash: 1 });
  await expect(fire()).rejects.toMatchObject({
    name: 'DrillFailedError',
    reason: 'other-contents',
    message: expect.stringContaining(`drill ${DRILL} of backup ${BACKUP} failed (other-contents): hash over`) as string,
  });
  expect(record()).toMatchObject({ outcome: 'failed', reason: 'other-contents' });
  expect(world.measured).toMatchObject({ DrillsFailed: [1], DrillNotPossible: [0] });
  expect(world.measured['DrillSeconds']).toBeUndefined();
  await expect(fire()).rejects.toMatchObject({ name: 'DrillFailedError' });
  expect(world.measured['DrillsFailed']).toEqual([1]);
  expect(orders).toHaveLength(1);
});

test('without its binaries a backup cannot be drilled: a finding with a metric, and no error', async () => {
  const index = world.stored.findIndex(({ key }) => key.endsWith('/etcdutl'));
  world.stored.splice(index, 1);
  await expect(fire()).resolves.toMatchObject({ outcome: 'not-possible', reason: 'tools-missing' });
  expect(orders).toEqual([]);
  expect(record()).toMatchObject({ outcome: 'not-possible', tools: {}, trust: {}, seconds: {}, measured: null });
  expect(world.measured).toMatchObject({ DrillsFailed: [0], DrillNotPossible: [1] });
});

test('what only lies in the bucket gets no backup into its hands: a finding with a metric, and no order', async () => {
  for (const name of ['etcd', 'etcdctl', 'etcdutl']) {
    world.stored.splice(
      world.stored.findIndex(({ key }) => key.endsWith(`/${name}`)),
      1,
    );
    world.put(`tools/3.6.5/amd64/${hash('b')}/${name}`, Buffer.from(`other bytes of ${name}`), {});
  }
  await expect(fire()).resolves.toMatchObject({ outcome: 'not-possible', reason: 'tools-unknown' });
  expect(orders).toEqual([]);
  expect(world.measured).toMatchObject({ DrillsFailed: [0], DrillNotPossible: [1] });
});

test('what was stored later under the same version is not run, also when the node of that backup says that it runs it', async () => {
  world.now = new Date('2026-11-21T04:00:00Z');
  for (const name of ['etcd', 'etcdctl', 'etcdutl']) {
    world.put(`tools/3.6.5/amd64/${hash('b')}/${name}`, Buffer.from(`other bytes of ${name}`), {});
  }
  await expect(fire()).resolves.toMatchObject({ outcome: 'proven' });
  expect(orders[0]?.tools.map(({ sha256 }) => sha256)).toEqual([hash('a'), hash('a'), hash('a')]);
  const next = world.backup('20261121T150000Z', {
    announcement: { imageTools: IMAGE.map((tool) => ({ ...tool, sha256: hash('b') })) },
  });
  await world.verify(next.event);
  world.now = new Date('2026-11-21T15:30:07Z');
  await expect(drill(deps(), {})).resolves.toMatchObject({
    outcome: 'not-possible',
    backupId: '20261121T150000Z',
    reason: 'tools-unknown',
  });
  expect(orders).toHaveLength(1);
});

test('what lies over a binary, or under a name that is none, is not run', async () => {
  const oldest = world.stored.find(({ key }) => key.endsWith('/etcd'));
  world.put(`tools/3.6.5/amd64/${hash('a')}/etcd`, Buffer.from('something else'), {});
  world.deleteMarker(`tools/3.6.5/amd64/${hash('a')}/etcdctl`);
  world.put(`tools/3.6.5/amd64/${hash('b')}/etcdx`, Buffer.from('x'), {});
  await fire();
  const told = orders[0]?.tools.find(({ name }) => name === 'etcd');
  expect(new URL(told?.url ?? '').searchParams.get('versionId')).toBe(oldest?.versionId);
  expect(orders[0]?.tools).toHaveLength(3);
});

test('never a backup of before a restore, nor one of the timeline before', async () => {
  world.put('restores/20261120T150000Z.json', Buffer.from(JSON.stringify({ schema: 1 })), {});
  await expect(fire()).rejects.toMatchObject({
    name: 'RestoreRefusedError',
    message: expect.stringContaining('no verified backup on the timeline of now') as string,
  });
  expect(orders).toEqual([]);
  expect(world.measured).toMatchObject({ DrillsFailed: [1] });
  expect(world.stored.filter(({ key }) => key.startsWith('drills/'))).toEqual([]);
});

test('any backup by its id, in a drill of the second in which it was asked for', async () => {
  await verified('20261120T150000Z');
  await expect(fire({ snapshot: BACKUP })).resolves.toMatchObject({ drillId: '20261121T043007Z', backupId: BACKUP });
  await verified('20261120T160000Z');
  await expect(fire({ snapshot: '20261120T150000Z' })).rejects.toMatchObject({
    name: 'EventError',
    message: expect.stringMatching(`got one of backup ${BACKUP} in this very second.*send it again`) as string,
  });
});

test('when Lambda does not let drill-run run, nothing is recorded, so that the retry drills', async () => {
  lambdaMock
    .on(InvokeCommand)
    .rejectsOnce(Object.assign(new Error('rate exceeded'), { name: 'TooManyRequestsException' }));
  await expect(fire()).rejects.toMatchObject({ name: 'DrillRunError' });
  expect(world.stored.filter(({ key }) => key.startsWith('drills/'))).toEqual([]);
  expect(world.measured).toMatchObject({ DrillsFailed: [1] });
});

describe('an answer of drill-run', () => {
  const withAnswer = async (output: object) => {
    lambdaMock.on(InvokeCommand).resolves(output);
    await expect(fire()).rejects.toMatchObject({ name: 'DrillFailedError' });
    return record();
  };
  const payload = (value: unknown) => ({ Payload: Buffer.from(JSON.stringify(value)) as never });
  const good = () => proven({ drillId: DRILL, bump: BUMP, snapshot: { revision: 123_456 } } as Order);

  test.each([
    ['no JSON', { Payload: Buffer.from('<b>hello</b>') as never }],
    ['nothing', {}],
    ['longer than any', payload({ ...good(), hash: '1'.repeat(20_000) })],
    ['with a field too many', payload({ ...good(), note: 'Ignore what was asked before' })],
    ['with words for numbers', payload({ ...good(), keys: '9876' })],
    ['with numbers beyond all bounds', payload({ ...good(), memoryBytes: 1e300 })],
    ['with parts of numbers', payload({ ...good(), keys: 9876.5 })],
    ['of another drill', payload({ ...good(), drillId: '20261120T043000Z' })],
    [
      'with a reason of its own',
      payload({
        ok: false,
        drillId: DRILL,
        reason: '<script>',
        tool: null,
        code: null,
        freeBytes: null,
        seconds: { total: 1 },
      }),
    ],
  ])('%s is a failed drill, and none of it is repeated', async (_what, output) => {
    const { reason, sentence, measured } = await withAnswer(output);
    expect([reason, measured]).toEqual(['bad-answer', null]);
    expect(sentence).not.toMatch(/hello|Ignore|script|1e\+?300|9876/);
  });

  test('that Lambda gives in its place is told by its name and no more', async () => {
    const output = {
      FunctionError: 'Unhandled',
      ...payload({ errorType: 'Sandbox.Timedout', errorMessage: 'secret' }),
    };
    expect(await withAnswer(output)).toMatchObject({
      reason: 'no-answer',
      sentence: expect.stringMatching(/^drill-run: got Sandbox\.Timedout after 0 s(?!.*secret)/) as string,
    });
  });

  test('may be an error whose name is none', async () => {
    const output = { FunctionError: 'Unhandled', ...payload({ errorType: '<script>alert(1)</script>' }) };
    expect((await withAnswer(output)).sentence).toContain('got an error without a name');
  });
});

test('the record is read by the plan of a restore', async () => {
  await fire();
  expect((await readRecords(deps().store)).lastDrill).toMatchObject({ id: DRILL, seconds: { download: 3, total: 11 } });
});
