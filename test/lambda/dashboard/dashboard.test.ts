import { GetObjectCommand, GetObjectTaggingCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { dashboard, type DashboardDeps } from '../../../lambda/dashboard/dashboard';
import { readNewestBackups, SHOWN } from '../../../lambda/dashboard/newest-backups';
import { timeOf } from '../../../lambda/shared/backup-id';
import { backupIdBefore } from '../../../lambda/shared/backup-id';
import { RECEIPT_KEY, World } from '../verify/world';
import { drillOf, MACHINE } from './models';

let world: World;
let change: Partial<DashboardDeps>;
beforeEach(() => {
  world = new World();
  change = {};
});
afterEach(() => {
  world.remove();
});

const id = (hour: number) => `20261120T${String(hour).padStart(2, '0')}0000Z`;

function deps(): DashboardDeps {
  const { clusterName, store, kms, telemetry } = world.deps;
  return {
    clusterName,
    store,
    kms,
    telemetry,
    receiptKeyArn: RECEIPT_KEY,
    restoreMachineArn: MACHINE,
    recoveryPointSeconds: 7200,
    drillTooOldSeconds: 172_800,
    pkiTooOldSeconds: undefined,
    expiry: {
      days: {
        pending: 35,
        failed: 7,
        hourly: 2,
        daily: 7,
        weekly: 28,
        monthly: 186,
        'on-demand': 30,
        'pre-restore': 30,
      },
      noncurrentDays: 7,
    },
    now: () => world.now,
    wait: (_milliseconds, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('aborted'));
        });
      }),
    ...change,
  };
}

async function verified(backupId: string, backup: Parameters<World['backup']>[1] = {}) {
  const put = world.backup(backupId, backup);
  await world.verify(put.event);
  return put.stored;
}

/** A snapshot as it lies there before anybody looked at it. */
function pending(backupId: string) {
  return world.put(`snapshots/${backupId}.db.zst`, Buffer.from('x'), {}, { tag: 'pending' }).stored;
}

function putDrill(backupId: string, drillId: string, changed: object = {}, storedAt = timeOf(drillId)) {
  const now = world.now;
  world.now = storedAt;
  const record = { ...drillOf(backupId, drillId), cluster: 'lab', ...changed };
  world.put(`drills/${drillId}.json`, Buffer.from(JSON.stringify(record)), {});
  world.now = now;
}

async function linesOf() {
  const { lines } = await readNewestBackups(deps());
  return lines.map(({ backupId, proof, remarks }) => [backupId, proof.kind, ...remarks.map(({ word }) => word)]);
}

const FOUND = ['tool-acknowledged', 'tool-unknown'];

/** Without what verify finds in every backup of its tests. */
async function newsOf() {
  return (await linesOf()).map(([backupId, kind, ...found]) => [
    backupId,
    kind,
    ...found.filter((word) => !FOUND.includes(word)),
  ]);
}

describe('the newest backups', () => {
  test('none: nothing is read but lists', async () => {
    const model = await readNewestBackups(deps());
    expect(model).toMatchObject({ lines: [], newestProof: undefined, stored: 0, restores: [], lastDrill: undefined });
    expect(world.s3Mock.commandCalls(GetObjectCommand)).toHaveLength(0);
  });

  test('are listed from the newest on, by what is proven of them', async () => {
    await verified(id(9));
    const failed = world.backup(id(10), { body: Buffer.from('damaged') });
    await expect(world.verify(failed.event)).rejects.toThrow('not verified');
    await verified(id(11));
    world.backup(id(12));
    expect(await newsOf()).toEqual([
      [id(12), 'pending'],
      [id(11), 'verified'],
      [id(10), 'failed'],
      [id(9), 'verified'],
    ]);
    const model = await readNewestBackups(deps());
    expect(model).toMatchObject({ cluster: 'lab', stored: 4, markedDeleted: 0, warnings: [] });
    expect(model.newestProof).toBe(model.lines[1]);
  });

  test('a forged receipt, an unsigned one and one of another cluster prove nothing', async () => {
    for (const hour of [9, 10, 11, 12]) {
      await verified(id(hour));
    }
    const changeReceipt = (hour: number, rewrite: (text: string) => string, metadata?: Record<string, string>) => {
      const at = world.stored.findIndex(({ key }) => key === `receipts/${id(hour)}.json`);
      const stored = world.stored[at];
      if (stored === undefined) {
        throw new Error('no receipt');
      }
      world.stored[at] = {
        ...stored,
        bytes: Buffer.from(rewrite(stored.bytes.toString())),
        metadata: metadata ?? stored.metadata,
      };
    };
    changeReceipt(12, (text) => text.replace('"revision":123456', '"revision":123457'));
    changeReceipt(11, (text) => text, {});
    changeReceipt(10, () => 'no JSON');
    const { lines, newestProof } = await readNewestBackups(deps());
    expect(lines.map(({ proof }) => ('why' in proof ? `${proof.kind}: ${proof.why}` : proof.kind))).toEqual([
      expect.stringMatching(/^not-trusted: signature of receipts\/20261120T120000Z.json: got one that .* did not make/),
      expect.stringMatching(/^not-trusted: signature of .*: got none/),
      expect.stringMatching(/^not-trusted: .* bytes that are no JSON/),
      'verified',
    ]);
    expect(newestProof?.backupId).toBe(id(9));
    change = { clusterName: 'other' };
    expect((await linesOf()).map(([, kind]) => kind)).not.toContain('verified');
  });

  test('what lies over a proven version hides nothing, and is told', async () => {
    const stored = await verified(id(10));
    world.put(stored.key, Buffer.from('forged'), {});
    world.deleteMarker(stored.key);
    world.put(`receipts/${id(10)}.json`, Buffer.from('{}'), {});
    world.deleteMarker(`receipts/${id(10)}.json`);
    expect(await newsOf()).toEqual([[id(10), 'verified', 'delete-marker', 'other-version']]);
    const model = await readNewestBackups(deps());
    expect(model.markedDeleted).toBe(1);
    expect(model.newestProof).toBe(model.lines[0]);
  });

  test('a signed receipt under a forged one is found, and the forged one told', async () => {
    await verified(id(10));
    world.put(`receipts/${id(10)}.json`, Buffer.from('{}'), {});
    const at = world.stored.findIndex(({ key }) => key.startsWith('receipts/'));
    const [signed] = world.stored.splice(at, 1);
    if (signed === undefined) {
      throw new Error('no receipt');
    }
    // S3 lists the forged one as the older.
    world.stored.push(signed);
    expect(await newsOf()).toEqual([[id(10), 'verified', 'receipt-untrusted']]);
  });

  test('a marker is expiry once the days of the class are over, and before that it is not', async () => {
    const stored = await verified(id(10));
    await verified(id(11));
    world.deleteMarker(stored.key);
    const days = world.receipt(id(10)).class === 'monthly' ? 186 : 0;
    world.now = new Date(stored.storedAt.getTime() + (days * 24 - 1) * 3_600_000);
    expect((await newsOf())[1]).toEqual([id(10), 'verified', 'delete-marker']);
    world.now = new Date(stored.storedAt.getTime() + days * 86_400_000);
    expect((await newsOf())[1]).toEqual([id(10), 'verified', 'expired']);
  });

  test('a proven version that is gone, or as long as it was not, is not called verified', async () => {
    const stored = await verified(id(10));
    const at = world.stored.indexOf(stored);
    world.stored[at] = { ...stored, bytes: Buffer.from('shorter') };
    expect(await newsOf()).toEqual([[id(10), 'gone']]);
    world.stored[at] = { ...stored, versionId: 'another' };
    expect(await newsOf()).toEqual([[id(10), 'gone']]);
    expect((await readNewestBackups(deps())).newestProof).toBeUndefined();
  });

  test('one whose receipt was removed, and one that nobody here tagged, are unproven', async () => {
    await verified(id(10));
    world.stored.splice(
      world.stored.findIndex(({ key }) => key.startsWith('receipts/')),
      1,
    );
    world.put(`snapshots/${id(11)}.db.zst`, Buffer.from('x'), {});
    const { lines } = await readNewestBackups(deps());
    expect(lines.map(({ proof }) => proof)).toEqual([
      { kind: 'unproven', why: expect.stringContaining('neither a receipt nor a tag') as string },
      { kind: 'unproven', why: expect.stringContaining("its tag says 'latest'") as string },
    ]);
  });

  test('keys that are none of ours are no backups', async () => {
    world.put('snapshots/../x.db.zst', Buffer.from('x'), {});
    world.put('snapshots/20261120T100000Z.exe', Buffer.from('x'), {});
    world.deleteMarker(`snapshots/${id(10)}.db.zst`);
    expect(await readNewestBackups(deps())).toMatchObject({ stored: 0, lines: [] });
  });
});

describe('the newest proof', () => {
  test('is what a restore would choose: never what a restore replaced, and on the current timeline', async () => {
    await verified(id(9));
    await verified(id(10));
    world.put(`restores/${backupIdBefore(id(10), 1800)}.json`, Buffer.from('{"schema":1}'), {});
    expect((await readNewestBackups(deps())).newestProof?.backupId).toBeUndefined();
    await verified(id(11));
    const model = await readNewestBackups(deps());
    expect(model.newestProof?.backupId).toBe(id(11));
    expect(model.restores).toEqual(['20261120T093000Z']);
  });

  test('is found however many newer ones are not verified, and the list stays as long as it is', async () => {
    await verified(id(8));
    await verified(id(9));
    for (let second = 0; second < 45; second++) {
      pending(`20261120T1100${String(second).padStart(2, '0')}Z`);
    }
    const model = await readNewestBackups(deps());
    expect(model.stored).toBe(47);
    expect(model.lines).toHaveLength(SHOWN);
    expect(new Set(model.lines.map(({ proof }) => proof.kind))).toEqual(new Set(['pending']));
    expect(model.newestProof).toMatchObject({ backupId: id(9), proof: { kind: 'verified' } });
  });

  test('of hundreds takes a bounded number of requests', async () => {
    await verified(id(9));
    for (let minute = 0; minute < 300; minute++) {
      pending(backupIdBefore(id(8), minute * 60));
    }
    world.s3Mock.resetHistory();
    world.kmsMock.resetHistory();
    const model = await readNewestBackups(deps());
    expect(model).toMatchObject({ stored: 301, newestProof: { backupId: id(9) } });
    // Two looks at the one receipt; the lists of these tests have three entries a page.
    expect(world.s3Mock.commandCalls(GetObjectCommand)).toHaveLength(2);
    expect(world.s3Mock.commandCalls(GetObjectTaggingCommand)).toHaveLength(SHOWN - 1);
    expect(world.s3Mock.commandCalls(ListObjectVersionsCommand).length).toBeLessThan(301 / 3 + 15);
    expect(world.kmsMock.calls()).toHaveLength(2);
  });
});

describe('drills', () => {
  test('the newest one of a version is told beside it, and the newest of all at the top', async () => {
    const { versionId } = await verified(id(9));
    await verified(id(10));
    putDrill(id(9), '20261120T093000Z', { versionId, outcome: 'failed', reason: 'keys-differ' });
    putDrill(id(9), '20261120T094500Z', { versionId });
    putDrill(id(10), '20261120T103000Z', { versionId: 'another', outcome: 'failed', reason: 'keys-differ' });
    const { lines, lastDrill } = await readNewestBackups(deps());
    expect(lines.map(({ drill }) => drill?.drillId)).toEqual([undefined, '20261120T094500Z']);
    expect(lastDrill?.drillId).toBe('20261120T103000Z');
  });

  test('what was put over a record later says nothing', async () => {
    const { versionId } = await verified(id(9));
    putDrill(id(9), '20261120T093000Z', { versionId, outcome: 'failed', reason: 'keys-differ' });
    putDrill(id(9), '20261120T093000Z', { versionId });
    world.deleteMarker('drills/20261120T093000Z.json');
    expect((await readNewestBackups(deps())).lastDrill).toMatchObject({ outcome: 'failed' });
  });

  test('a record that cannot be read, is too large or of another cluster is left out, and that is said', async () => {
    world.put('drills/20261120T093000Z.json', Buffer.from('{}'), {});
    world.put('drills/20261120T094000Z.json', Buffer.alloc(200_000), {});
    putDrill(id(9), '20261120T095000Z', { cluster: 'other' });
    world.put('drills/note.txt', Buffer.from('x'), {});
    const { lastDrill, warnings } = await readNewestBackups(deps());
    expect(lastDrill).toBeUndefined();
    expect(warnings).toEqual([
      expect.stringContaining('drills/20261120T093000Z.json: '),
      expect.stringContaining('got 200000 bytes'),
      expect.stringContaining("cluster 'other', expected 'lab'"),
    ]);
  });
});

describe('names that are no times', () => {
  const context = { requestId: 'request-1' };

  test.each([
    ['a snapshot', () => pending('20269999T999999Z')],
    ['an old snapshot', () => pending('20259999T999999Z')],
    ['the record of a restore', () => world.put('restores/20269999T999999Z.json', Buffer.from('{}'), {})],
    [
      'a drill',
      () => {
        putDrill(id(9), '20269999T999999Z', {}, world.now);
      },
    ],
    [
      'the backup of a drill',
      () => {
        putDrill('20269999T999999Z', '20261120T093000Z');
      },
    ],
    ['a PKI bundle', () => world.put('pki/20269999T999999Z.tar.zst', Buffer.from('x'), {})],
  ])('do not take the page along: %s', async (_what, put) => {
    await verified(id(9));
    put();
    change = { pkiTooOldSeconds: 93_600 };
    const page = await dashboard(deps(), {}, context);
    expect(page).toContain('Restore the backup of 2026-11-20 09:00');
    expect(page).not.toMatch(/NaN|Invalid/);
  });

  test('nor does a proof look young for ever whose id lies ahead: it is as old as it was stored', async () => {
    const now = world.now;
    const { event, stored } = world.backup('20991120T140000Z');
    Object.assign(stored, { storedAt: now });
    world.now = now;
    await world.verify(event);
    world.now = new Date(now.getTime() + 3 * 3_600_000);
    expect((await readNewestBackups(deps())).newestProof?.time).toEqual(now);
    await expect(dashboard(deps(), {}, context)).resolves.toContain('older than the recovery point objective of 2 h');
  });

  test('nor does a drill look young for ever whose id lies ahead: it is left out, and that is said', async () => {
    const { versionId } = await verified(id(9));
    world.now = new Date('2026-11-20T10:00:00Z');
    putDrill(id(9), '20261120T093000Z', { versionId });
    putDrill(id(9), '20991120T093000Z', { versionId }, world.now);
    putDrill(id(9), '20269999T999999Z', { versionId }, world.now);
    const { lastDrill, warnings } = await readNewestBackups(deps());
    expect(lastDrill?.drillId).toBe('20261120T093000Z');
    expect(warnings).toEqual([
      expect.stringMatching(/^drills\/20269999T999999Z.json: got a drill of a time after that at which/),
      expect.stringMatching(/^drills\/20991120T093000Z.json: got a drill of a time after that at which/),
    ]);
  });
});

describe('PKI bundles', () => {
  const bundle = (bundleId: string, ending = 'tar.zst') => world.put(`pki/${bundleId}.${ending}`, Buffer.from('x'), {});

  test('are not looked for where the cluster keeps none', async () => {
    bundle('20261120T060000Z');
    expect((await readNewestBackups(deps())).pki).toBeUndefined();
    expect(world.s3Mock.commandCalls(ListObjectVersionsCommand, { Prefix: 'pki/' })).toHaveLength(0);
  });

  test('are seen by the newest of them, and none is read', async () => {
    change = { pkiTooOldSeconds: 93_600 };
    expect((await readNewestBackups(deps())).pki).toEqual({ newest: undefined, tooOldSeconds: 93_600 });
    world.now = new Date('2026-11-20T07:00:00Z');
    bundle('20261119T060000Z');
    bundle('20261120T060000Z', 'tar.gz');
    // What lies ahead, and what is no bundle.
    bundle('20991120T060000Z', 'json');
    expect((await readNewestBackups(deps())).pki?.newest).toEqual(new Date('2026-11-20T06:00:00Z'));
    expect(world.s3Mock.commandCalls(GetObjectCommand)).toHaveLength(0);
  });
});

test('no snapshot, no announcement and no tool is ever read', async () => {
  await verified(id(9));
  world.backup(id(10));
  world.s3Mock.resetHistory();
  await readNewestBackups(deps());
  const read = world.s3Mock.commandCalls(GetObjectCommand).map(({ args: [{ input }] }) => input.Key?.split('/')[0]);
  expect(new Set(read)).toEqual(new Set(['receipts']));
  expect(world.writes.filter((key) => !key.includes(id(9)))).toEqual([]);
});

describe('the widget', () => {
  const ask = (event: unknown = {}) => dashboard(deps(), event, { requestId: 'request-1' });

  test('shows the page, and logs one line', async () => {
    await verified(id(9));
    world.lines.length = 0;
    expect(await ask({ widgetContext: { theme: 'dark', width: 1400 } })).toMatch(
      /^<div [^]*2026-11-20 09:00[^]*Verified/,
    );
    expect(world.lines).toEqual([
      { message: 'phase done', phase: 'dashboard', seconds: 0, stored: 1, newestProof: id(9), requestId: 'request-1' },
    ]);
  });

  test('holds no key and no value of etcd', async () => {
    await verified(id(9));
    const html = await ask();
    for (const { key } of world.receipt(id(9)).inventory.largest) {
      expect(key).toMatch(/^\/registry\//);
      expect(html).not.toContain(key);
    }
    expect(html).not.toContain('/registry/');
  });

  test('answers with markdown and without asking S3 when it is to describe itself', async () => {
    const documentation = await ask({ describe: true });
    expect(documentation).toMatch(/^## /);
    expect(documentation).toContain('lambda:InvokeFunction');
    // The first fenced block would become the parameters of the widget.
    expect(documentation).not.toContain('```');
    expect(world.s3Mock.calls()).toHaveLength(0);
  });

  test.each([
    ['S3', () => (world.diesAfterWrites = 0), 'StoreError: ListObjectVersions s3://lab-backups/snapshots/'],
    ['KMS', () => (world.kmsDown = true), 'SigningKeyError: kms:Verify of receipts/'],
  ])('shows what to do, and no stack, when %s does not answer, and logs it', async (_what, breakIt, message) => {
    await verified(id(9));
    world.lines.length = 0;
    breakIt();
    const html = await ask();
    expect(html).toContain('The list of backups could not be read');
    expect(html).toContain(message);
    expect(html).not.toMatch(/\bat .*\.ts:|node_modules/);
    expect(world.lines).toEqual([
      expect.objectContaining({
        message: 'phase failed',
        phase: 'dashboard',
        error: expect.stringContaining(message) as string,
      }),
    ]);
  });

  test('does not let anybody wait longer than 20 s', async () => {
    const waited: number[] = [];
    change = {
      wait: (milliseconds) => {
        waited.push(milliseconds);
        return Promise.resolve();
      },
    };
    world.s3Mock.on(ListObjectVersionsCommand).callsFake(() => new Promise(() => undefined));
    expect(await ask()).toContain('got no complete answer within 20 s');
    expect(waited).toEqual([20_000]);
  });

  test('throws what it does not understand, so that the alarm on the function rings, and logs it', async () => {
    const stored = await verified(id(9));
    world.deleteMarker(stored.key);
    world.lines.length = 0;
    change = { expiry: undefined as unknown as DashboardDeps['expiry'] };
    await expect(ask()).rejects.toThrow(TypeError);
    expect(world.lines).toEqual([expect.objectContaining({ message: 'phase failed', phase: 'dashboard' })]);
  });
});
