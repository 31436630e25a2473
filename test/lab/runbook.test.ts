import { ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { s3Client } from '../../lab/aws/s3';
import type { LabNode } from '../../lab/nodes/lab-node';
import { loadData } from '../../lab/nodes/load';
import { WAL_MOUNT } from '../../lab/nodes/manifests';
import {
  backUp,
  contentsAt,
  lookBefore,
  output,
  type Proven,
  revisionOf,
  startRestore,
  strike,
} from '../../lab/restores';
import {
  awsCli,
  type Commands,
  commandsOf,
  fillIn,
  machineShell,
  nodeShell,
  prepareNode,
  type Shell,
} from '../../lab/runbook';
import { type Lab, startLab } from '../../lab/start-lab';

// What docs/restore.md has people type at three in the morning, taken out of the page and typed: by nobody who is root, with the real AWS CLI.

const ROOT = join(__dirname, '..', '..');
const PAGE = readFileSync(join(ROOT, 'docs', 'restore.md'), 'utf8');
const BUMP = 1_000_000_000;
const TOKEN = 'hand-20261121T0312Z';
// Written after each backup of the lab: no restore of one has it.
const LATER = '/registry/configmaps/default/written-after-the-backup';
const CONTROL_PLANE = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;

let lab: Lab;
let proven: Proven;
let dir: string;
let machine: Shell;
let shells: ReadonlyMap<LabNode, Shell>;
/** A restore whose data was served, and a revision of what was there before it. */
let served: { readonly restoreId: string; readonly revision: number };

const nodes = (): readonly LabNode[] => lab.controlPlane.nodes;
/** The one of them whose WAL lies on a volume of its own. */
const withWal = (): LabNode => nodes()[1] as LabNode;

/** Types a block where the page says. Gives what was printed, of the nodes in their order. */
async function type(commands: Commands, values: (node?: LabNode) => ReadonlyMap<string, string>): Promise<string[]> {
  const { place, text } = commands;
  const printed: string[] = [];
  if (place === 'on your machine') printed.push(await machine.type(fillIn(text, values())));
  else {
    // One node after the other: what waited for the next node would wait for ever.
    for (const [node, shell] of place === 'on one node' ? [...shells].slice(-1) : shells)
      printed.push(await shell.type(fillIn(text, values(node))));
  }
  return printed;
}

/** Logs in anew: a shell knows nothing of what was typed another day. */
function logIn(): void {
  for (const shell of shells.values()) shell.close();
  shells = new Map(nodes().map((node) => [node, nodeShell(node)]));
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited 60 s for ${what}`);
    await sleep(100);
  }
}

/** Nothing lies where it would be in the way of the next restore or backup. */
function expectTidy(node: LabNode): void {
  expect(readdirSync(node.path('/etc/kubernetes/manifests')).sort()).toEqual(
    CONTROL_PLANE.map((component) => `${component}.yaml`),
  );
  expect(readdirSync(node.path('/etc/kubernetes')).filter((name) => /aside|before/.test(name))).toEqual([]);
  const ofRestores = node.path('/var/lib/etcd-backup/restore');
  expect(existsSync(ofRestores) ? readdirSync(ofRestores) : []).toEqual([]);
}

/** All that runs on these nodes, and each is tidy. */
async function expectWhole(of: readonly LabNode[] = nodes()): Promise<void> {
  await lab.controlPlane.waitHealthy(of);
  await lab.controlPlane.waitApiReady(of);
  for (const node of of) {
    expectTidy(node);
    for (const component of CONTROL_PLANE)
      await until(`${component} of ${node.name}`, () => node.pidsOf(component).length === 1);
  }
}

/** Types the page's very first line on a node. */
async function firstAid(node: LabNode): Promise<void> {
  const line = /\*\*Is data lost [^`]*`[^`]*`[^`]*`[^`]*`[^`]*`([^`]+)`\.\*\*/.exec(PAGE)?.[1];
  await shells.get(node)?.type(`${String(line)}\n`);
  await until(`the API server of ${node.name} to end`, () => node.pidsOf('kube-apiserver').length === 0);
  expect(node.pidsOf('kubelet')).toEqual([]);
}

/** What *Without this stack* has the reader look up: the bucket, the backup's receipt and the tool of its version, the nodes. */
async function lookedUp(): Promise<Map<string, string>> {
  const { bucket } = proven.receipt;
  const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  const versions = async (Prefix: string) =>
    (await s3.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix }))).Versions ?? [];
  const [receipt] = await versions(`receipts/${proven.backupId}.json`);
  const tool = (await versions('tools/')).map(({ Key = '' }) => Key).find((key) => key.endsWith('/etcdutl')) ?? '';
  s3.destroy();
  const [, version = '', architecture = '', sha256 = ''] = tool.split('/');
  return new Map([
    ['bucket', bucket],
    ['id', proven.backupId],
    ['receipt version', receipt?.VersionId ?? ''],
    ['receipt key', output(lab, 'ReceiptKeyArn')],
    ['clone', ROOT],
    ['etcd version', version],
    ['architecture', architecture],
    ['tool SHA-256', sha256],
    [
      'nodes',
      nodes()
        .map(({ name }) => name)
        .join(' '),
    ],
  ]);
}

/** Types blocks of *Without this stack* in their order. Gives all that was printed. */
async function typeAll(blocks: readonly Commands[], values: Map<string, string>): Promise<string> {
  const said: string[] = [];
  for (const commands of blocks) {
    const printed = await type(commands, () => values);
    said.push(...printed);
    // What the page has the reader put together out of what it printed.
    if (commands.text.includes('printf'))
      values.set('members', printed.map((each) => each.split('\n')[0]?.trim() ?? '').join(','));
  }
  return said.join('\n');
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runbook-'));
  const [cli] = await Promise.all([
    awsCli(),
    startLab({
      name: 'runbook',
      cdkOut: process.env['CDK_OUT'] as string,
      members: 3,
      etcd: '3.6',
      apiServer: true,
      aws: { lambda: { retryDelaysMs: [200, 200] }, ssm: { deliverySecondMs: 100 }, states: { waitFactor: 0.1 } },
    }).then((up) => {
      lab = up;
    }),
  ]);
  for (const node of nodes()) await prepareNode(node);
  shells = new Map(nodes().map((node) => [node, nodeShell(node)]));
  machine = await machineShell({ dir, nodes: nodes(), cli, env: lab.aws.environment() });
  await loadData(lab.controlPlane, { sizeBytes: 2_000_000 });
  proven = await backUp(lab);
});

afterAll(async () => {
  for (const shell of [machine, ...shells.values()]) shell.close();
  await lab.down();
  await rm(dir, { recursive: true, force: true });
});

test('a value that nobody knows, and a place that nobody says, are mistakes of the page', () => {
  expect(() => fillIn('rm <what>', new Map([['id', '1']]))).toThrow(/<what>: got no value for it, expected one of id/);
  const block = '```bash\ntrue\n```\n';
  expect(() => commandsOf(`## A\n\nSomewhere:\n\n${block}`, '## A')).toThrow(/line 5: .* says 0 places/);
  expect(() => commandsOf(`## A\n\n**On one node** or **on every node**:\n\n${block}`, '## A')).toThrow(/2 places/);
  expect(() => commandsOf('## A\n\nText.\n', '## A')).toThrow(/got no commands/);
  expect(() => commandsOf('## A\n', '## B')).toThrow(/no line that begins with/);
});

test('what root has to do is refused to who forgets sudo', async () => {
  const [shell] = shells.values() as unknown as [Shell];
  await expect(shell.type('mv /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/\n')).rejects.toThrow(/denied/);
  await expect(shell.type('ls /var/lib/etcd/member/*\n')).rejects.toThrow(/failed/);
});

test('all data gone, and no stack: the bucket and the commands of the page bring every key back', async () => {
  const seen = await lookBefore(lab);
  await strike(lab, 'all data gone');
  // Of the others only the memory is left; this one has come back as an empty cluster.
  const [emptied] = nodes() as [LabNode];
  await emptied.must(['pkill', '-KILL', '-x', 'etcd']);
  await until('an empty etcd', () => existsSync(emptied.path('/var/lib/etcd/member/wal')));

  for (const node of nodes()) await firstAid(node);
  await withWal().writeManifest({ walDir: true });

  const values = await lookedUp();
  values.set('token', TOKEN);
  const said = await typeAll(commandsOf(PAGE, '## Without this stack'), values);
  expect(said).toContain('Verified OK');
  expect(said).toContain('snapshot.db: OK');
  expect(said).toContain('restored snapshot');
  expect(said).toContain(proven.receipt.key.split('/').at(-1)?.slice(0, 16));

  await expectWhole();
  const revision = proven.revision + BUMP;
  expect(revision).toBeGreaterThan(seen.revision);
  for (const node of nodes()) {
    expect(await contentsAt(node, revision)).toBe(proven.contents);
    expect(readdirSync(node.path('/var/lib/etcd')).sort()).toEqual(
      node === emptied ? ['member', `member.replaced-${TOKEN}`] : ['member'],
    );
    expect(readdirSync(node.path('/home/operator'))).toEqual([]);
  }
  expect(readdirSync(withWal().path('/var/lib/etcd/member'))).toEqual(['snap']);
  // Each watch from before is cut, and told so.
  expect(await Promise.all(seen.watches.map(({ compacted }) => compacted))).toEqual(seen.watches.map(() => revision));
});

test('single objects come out of a backup, on a machine that is no node', async () => {
  // Where the first step of *Without this stack* has left its reader.
  const folder = join(dir, `restore-${proven.backupId}`);
  const values = await lookedUp();
  for (const [name, value] of [
    ['kind', 'configmaps'],
    ['namespace', 'default'],
    ['name', 'written-before-the-backup'],
  ] as const)
    values.set(name, value);
  let found = '';
  for (const commands of commandsOf(PAGE, '### Single objects')) {
    await type(commands, () => values);
    if (commands.text.includes('> object')) found = readFileSync(join(folder, 'object'), 'utf8');
  }
  expect(found).toMatch(/^before 20/);
  expect(readdirSync(folder)).not.toContain('look');
});

test('a restore that nobody can roll back any more: by hand, the old data is back on every node that had any', async () => {
  // This stack takes what was restored by hand for the same cluster.
  proven = await backUp(lab, 'for the way back');
  const [first, , emptied] = nodes() as [LabNode, LabNode, LabNode];
  const revision = await revisionOf(first);
  const contents = await contentsAt(first, revision);
  logIn();
  await firstAid(emptied);
  await emptied.must(['pkill', '-KILL', '-x', 'etcd']);
  await until('etcd to end', () => emptied.pidsOf('etcd').length === 0);
  await emptied.wipeData();
  const execution = startRestore(lab, { confirm: 'lab' });
  const { restoreId } = (await execution.entered('StartEtcd')).input as { restoreId: string };
  // No agent answers any more: neither the start nor a way back reaches a node.
  for (const node of lab.fleet) node.agentDown = true;
  await lab.aws.stopExecution(execution.executionArn);
  const kept = (node: LabNode): boolean => existsSync(node.path(`/var/lib/etcd/member.before-${restoreId}`));
  expect(nodes().map(kept)).toEqual([true, true, false]);
  expect(existsSync(emptied.path('/var/lib/etcd/member'))).toBe(true);

  const values = (node?: LabNode) =>
    new Map([
      ['restore id', restoreId],
      ['data', '/var/lib/etcd'],
      ['wal', node === withWal() ? `${WAL_MOUNT}/wal` : ''],
    ]);
  for (const commands of commandsOf(PAGE, '### By hand')) await type(commands, values);

  const others = nodes().filter((node) => node !== emptied);
  await expectWhole(others);
  for (const node of others) {
    expect(await contentsAt(node, revision)).toBe(contents);
    expect(readdirSync(node.path('/var/lib/etcd'))).toContain('member');
  }
  // The restored data is beside the others' members as well, and nothing starts an empty member here.
  for (const node of nodes()) {
    const there = readdirSync(node.path('/var/lib/etcd'));
    expect(there).toContain(`member.restored-${restoreId}`);
    expect(there.filter((name) => name.startsWith('.restore-') || name === `member.before-${restoreId}`)).toEqual([]);
  }
  expectTidy(emptied);
  expect(readdirSync(emptied.path('/var/lib/etcd'))).not.toContain('member');
  expect(emptied.pidsOf('kubelet')).toEqual([]);
  for (const node of lab.fleet) node.agentDown = false;
});

test('controllers that a restore held start by the command of the page', async () => {
  // Also: nothing that the way back by hand has left is in its way, nor in that of its backup at the end; and the emptied node has a member again.
  const [first] = nodes() as [LabNode];
  const revision = await revisionOf(first);
  const execution = startRestore(lab, { confirm: 'lab', hold: 'controllers' });
  const { status, cause, output: summary } = await execution.result;
  expect([status, cause]).toEqual(['SUCCEEDED', undefined]);
  expect(summary).toMatchObject({ result: 'Restored' });
  const { restoreId } = summary as { restoreId: string };
  for (const node of nodes()) expect(node.pidsOf('kube-scheduler')).toEqual([]);
  logIn();
  for (const commands of commandsOf(PAGE, '## After it is Restored'))
    await type(commands, () => new Map([['restore id', restoreId]]));
  await expectWhole();
  served = { restoreId, revision };
});

test('restored data was served and nothing was kept of what it replaced: the old data of one node brings it back', async () => {
  const { restoreId, revision } = served;
  const [first] = nodes() as [LabNode];
  expect(await first.etcdctl(['get', LATER])).toBe('');
  const restored = await revisionOf(first);
  logIn();
  await machine.type(`cd ${dir}\n`);
  const values = await lookedUp();
  for (const [name, value] of [
    ['id', restoreId],
    ['node', first.name],
    ['data', '/var/lib/etcd'],
    ['token', `${TOKEN}-again`],
  ] as const)
    values.set(name, value);
  await typeAll(commandsOf(PAGE, '### The old data of one node'), values);
  const blocks = commandsOf(PAGE, '## Without this stack');
  await typeAll(
    // From step 2 on, with what is other in step 4.
    blocks.slice(blocks.findIndex(({ text }) => text.includes('tools/'))).map((commands) => ({
      ...commands,
      text: commands.text
        .replace('snapshot restore snapshot.db', 'snapshot restore snapshot.db --skip-hash-check')
        .replace('--bump-revision 1000000000', '--bump-revision 2000000000'),
    })),
    values,
  );
  await expectWhole();
  for (const node of nodes()) {
    expect(await node.etcdctl(['get', LATER])).toMatch(/after 20/);
    expect(await revisionOf(node)).toBeGreaterThan(Math.max(revision + 2 * BUMP, restored));
  }
});
