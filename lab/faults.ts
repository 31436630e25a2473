import type { ChildProcess } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Execution, ExecutionResult, FleetNode, StateVisit } from './aws/aws';
import type { Random } from './damage';
import type { LabNode } from './nodes/lab-node';
import { COMPONENTS } from './nodes/manifests';
import {
  compare,
  contentsAt,
  leftBehind,
  lookBefore,
  named,
  output,
  type Proven,
  revisionOf,
  type Seen,
  startRestore,
} from './restores';
import type { Lab } from './start-lab';

// What can go wrong in the middle of a restore, done to a restore that runs, and what has to be true whatever that was: the control plane is
// restored, or exactly what it was, or the cause says on which node what is left to do, and doing that makes it what it was.

/** States of the machine in which something runs on nodes, in their order. */
export const STATES = [
  'Preflight',
  'KeepCurrentState',
  'StopControlPlane',
  'SwapData',
  'StartEtcd',
  'CheckEtcd',
  'StartApiServer',
  'StartControllers',
  'CheckCluster',
  'RecordRestore',
] as const;

/** States of the way back. */
export const STATES_BACK = ['RollBack', 'CheckRolledBack', 'CleanUp'] as const;

/** A state that something can go wrong in. */
export type State = (typeof STATES)[number] | (typeof STATES_BACK)[number];

/**
 * What can go wrong in a state, on one node where it is of a node. `always`: as often as it is tried; for a function that is three times, and
 * on the way back it is tried more often.
 */
export const FAULTS = [
  'script killed',
  'script killed always',
  'etcd killed',
  'node cut off',
  'node cut off for good',
  'function killed',
  'function killed three times',
  'function timed out',
  'stopped',
  'disk full',
  'disk full on the way',
  'S3 not reached',
  'S3 silent',
  'download corrupted',
  'object corrupted',
] as const;

/** What can go wrong. */
export type Fault = (typeof FAULTS)[number];

/** One thing that goes wrong in one state. */
export interface Strike {
  readonly state: State;
  readonly fault: Fault;
}

/** One restore and what goes wrong in it, in order. */
export interface Case {
  readonly name: string;
  readonly strikes: readonly Strike[];
}

/**
 * How a case can end. `RestoredToTidy`: restored, and a warning said that {"rollback": …} is left to be sent, which took away what stood in the way of
 * the next restore. `LeftToDo`: the cause said that {"rollback": …} is left to do, and it led to the old state. `ServedOn`: clients had seen the
 * restored data, so it stays, and runs on every node; the cause says how to go back.
 */
export type End = 'Restored' | 'RestoredToTidy' | 'OldState' | 'LeftToDo' | 'ServedOn' | 'OTHER';

/** How a case ended. */
export interface Outcome {
  readonly name: string;
  readonly end: End;
  /** Last state of the machine. */
  readonly last: string;
  readonly seconds: number;
  /** What was struck, and what was found where the end is OTHER. */
  readonly note: string;
}

const STATE_DATA = '/var/lib/etcd-backup';
const FILLER = `${STATE_DATA}/filler`;
const LAB_CURL = '/opt/lab/sbin/curl';
// Longer than an agent takes to reconnect, shorter than a command waits for one.
const CUT_OFF_SECONDS = 12;
// More than the two minutes that Preflight and StopControlPlane wait for a node.
const CUT_OFF_FOR_GOOD_SECONDS = 200;
const SILENT_SECONDS = 15;
// A function whose execution was stopped goes on, and sends its next script.
const STARTING_SECONDS = 30;
const FUNCTION_START_MS = 800;
const POLL_MS = 20;
const CASE_MINUTES = 15;
const RUNNING_MS = 30_000;

/** The cases of one state, the most telling ones first. */
export const casesOf = (state: (typeof STATES)[number]): readonly Case[] => {
  const faults: Fault[] = [
    'script killed',
    'stopped',
    'function killed',
    'script killed always',
    'function killed three times',
    'etcd killed',
    'node cut off',
    'function timed out',
  ];
  if (state === 'Preflight')
    faults.push('disk full on the way', 'S3 not reached', 'download corrupted', 'object corrupted');
  // Later a node writes nothing but lines of its journal, which has its block.
  if (state === 'Preflight' || state === 'KeepCurrentState' || state === 'StopControlPlane') faults.push('disk full');
  if (state === 'Preflight' || state === 'KeepCurrentState' || state === 'RecordRestore') faults.push('S3 silent');
  // Elsewhere the product waits for a node for five minutes and more.
  if (state === 'Preflight' || state === 'StopControlPlane') faults.push('node cut off for good');
  return faults.map((fault) => ({ name: `${state}: ${fault}`, strikes: [{ state, fault }] }));
};

/** A swap that fails, and then something on the way back. */
export const casesBack = (): readonly Case[] =>
  STATES_BACK.flatMap((state) =>
    (
      [
        'script killed',
        'stopped',
        'function killed',
        'script killed always',
        'function killed three times',
        'etcd killed',
        'node cut off',
        'function timed out',
      ] as const
    ).map((fault) => ({
      name: `${state}: ${fault}`,
      strikes: [
        { state: 'SwapData', fault: 'script killed always' },
        { state, fault },
      ],
    })),
  );

/** Three restores that show the most: to be tried whenever anything changes. */
export const TELLING_CASES: readonly Case[] = [
  {
    name: 'in every state a script and the function killed once',
    strikes: STATES.flatMap((state) => [
      { state, fault: 'script killed' } as const,
      { state, fault: 'function killed' } as const,
    ]),
  },
  {
    name: 'a swap that is killed again and again, and then the undo as well',
    strikes: [
      { state: 'SwapData', fault: 'script killed always' },
      { state: 'RollBack', fault: 'script killed always' },
    ],
  },
  {
    name: 'stopped while API servers start',
    strikes: [{ state: 'StartApiServer', fault: 'stopped' }],
  },
];

// ---------------------------------------------------------------- the scripts that run on the nodes

/** A script that the agent of a node has started. */
interface StartedScript {
  readonly instanceId: string;
  readonly comment: string;
  readonly startedAt: number;
  readonly child: ChildProcess;
}

/** Sees every script that an agent starts, from when it is made on. */
export class Scripts {
  readonly #started: StartedScript[] = [];
  constructor(
    lab: Lab,
    /** Milliseconds that the last run of a script took which was not killed, by the state in its comment. */
    readonly lasted = new Map<string, number>(),
  ) {
    for (const node of lab.fleet) this.#watch(lab, node);
  }

  #watch({ aws }: Lab, node: FleetNode): void {
    const spawn = node.spawn.bind(node);
    node.spawn = (argv, options) => {
      const child = spawn(argv, options);
      const commandId = options.env['SSM_COMMAND_ID'];
      const command = aws.commands.commands.find((candidate) => candidate.commandId === commandId);
      if (command !== undefined) {
        const script = { instanceId: node.instanceId, comment: command.comment, startedAt: Date.now(), child };
        this.#started.push(script);
        child.once('close', (code) => {
          if (code !== null) this.lasted.set(stateOf(script), Date.now() - script.startedAt);
        });
      }
      return child;
    };
  }

  /** The next script that a node has started since `since` and that was not given before; undefined when there will be none. */
  async next(
    instanceId: string,
    search: { readonly state: State; readonly since: number; readonly given: Set<ChildProcess>; over(): boolean },
  ): Promise<StartedScript | undefined> {
    for (;;) {
      const found = this.#started.find(
        (script) =>
          script.instanceId === instanceId &&
          script.startedAt >= search.since &&
          !search.given.has(script.child) &&
          // Scripts of the backup function have comments of their own.
          (search.state === 'KeepCurrentState' || stateOf(script).startsWith(search.state)) &&
          // The key is made in no time: what is told of Preflight is its stage.
          !stateOf(script).endsWith('Key'),
      );
      if (found !== undefined) {
        search.given.add(found.child);
        return found;
      }
      if (search.over()) return undefined;
      await sleep(POLL_MS / 4);
    }
  }
}

const stateOf = ({ comment }: Pick<StartedScript, 'comment'>): string => comment.split(' ')[1] ?? '';

/** SIGKILL to the whole process group, as the agent does it. Gives whether there was something to kill. */
const killGroup = ({ child }: StartedScript): boolean => {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return false;
  try {
    process.kill(-child.pid, 'SIGKILL');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
};

// ---------------------------------------------------------------- what goes wrong

/** What a fault is done to. */
interface Target {
  readonly lab: Lab;
  readonly scripts: Scripts;
  readonly random: Random;
  readonly execution: Execution;
  readonly visit: StateVisit;
  readonly state: State;
  readonly node: LabNode;
}

/** What was done, in words; `heal` ends what still goes on, after the restore. */
interface Struck {
  readonly said: string;
  readonly heal?: () => Promise<void>;
}

const isOver = ({ execution, visit }: Target): boolean => visit.exited !== undefined || execution.ended !== undefined;

/** Waits, at most so many seconds, until the state is left. */
const leaving = async (target: Target, seconds: number): Promise<void> => {
  const until = Date.now() + seconds * 1000;
  while (!isOver(target) && Date.now() < until) await sleep(POLL_MS);
};

const agentOf = ({ lab, node }: Pick<Target, 'lab' | 'node'>): FleetNode => {
  const agent = lab.fleet.find(({ instanceId }) => instanceId === node.instanceId);
  if (agent === undefined) throw new Error(`node ${node.name} is not in the fleet, expected ${node.instanceId} there`);
  return agent;
};

const s3Port = ({ aws }: Lab): number => Number(new URL(aws.endpoints.s3).port);

const killScripts = async (target: Target, always: boolean): Promise<Struck> => {
  const { scripts, node, state, random, visit } = target;
  const given = new Set<ChildProcess>();
  const since = visit.entered.getTime();
  const said: string[] = [];
  for (;;) {
    const script = await scripts.next(node.instanceId, { state, since, given, over: () => isOver(target) });
    if (script === undefined) break;
    // Somewhere in it; where it is always to be killed, in its first half, or it would end now and then.
    const lasted = scripts.lasted.get(stateOf(script)) ?? 300;
    const delay = random.below(Math.max(1, Math.floor(always ? lasted / 2 : lasted)));
    await sleep(delay);
    said.push(killGroup(script) ? `killed after ${String(delay)} ms` : `had ended after ${String(delay)} ms`);
    if (!always) break;
  }
  return { said: `${node.name}: ${said.length === 0 ? 'no script' : said.join(', ')}` };
};

const killEtcd = async (target: Target): Promise<Struck> => {
  const { node } = target;
  await sleep(somewhereIn(target));
  while (!isOver(target)) {
    const pids = node.pidsOf('etcd');
    if (pids.length > 0) {
      await node.exec(['kill', '-KILL', ...pids.map(String)]);
      return { said: `${node.name}: etcd killed` };
    }
    await sleep(POLL_MS);
  }
  return { said: `${node.name}: no etcd ran` };
};

const cutOff = async (target: Target, seconds: number): Promise<Struck> => {
  const { lab, node } = target;
  const agent = agentOf(target);
  agent.agentDown = true;
  await node.linkDown();
  await node.unforward(s3Port(lab));
  const from = Date.now();
  await leaving(target, seconds);
  // A bit longer than the state, so that the next one begins without it.
  await sleep(2000);
  await node.forward(s3Port(lab));
  await node.linkUp();
  agent.agentDown = false;
  return { said: `${node.name}: cut off for ${((Date.now() - from) / 1000).toFixed(0)} s` };
};

/** Milliseconds that are likely to pass within the state: its function has to start, and then its script runs. */
const somewhereIn = ({ scripts, state, random }: Target): number =>
  random.below(FUNCTION_START_MS + (scripts.lasted.get(state) ?? 300));

const killFunctions = async (target: Target, times: 1 | 3): Promise<Struck> => {
  const { execution, state } = target;
  let killed = 0;
  for (let attempt = 1; attempt <= times; attempt++) {
    const task = await execution.invoked(state, attempt).catch(() => undefined);
    if (task === undefined) break;
    await sleep(times === 1 ? somewhereIn(target) : 100);
    task.invocation.kill();
    const { ok } = await task.invocation.done;
    killed += ok ? 0 : 1;
  }
  return { said: `function killed: ${String(killed)}` };
};

const fillDisk = async ({ node }: Target): Promise<Struck> => {
  await node.exec(['sh', '-c', `dd if=/dev/zero of=${FILLER} bs=4096 2>/dev/null`]);
  return {
    said: `${node.name}: ${STATE_DATA} full`,
    heal: async () => {
      await node.must(['rm', '-f', FILLER]);
    },
  };
};

/** Only once the script has found the disk good. */
const fillDiskLater = async (target: Target): Promise<Struck> => {
  const { node } = target;
  const { restoreId } = target.visit.input as { restoreId: string };
  const packed = `/proc/${String(node.pid)}/root${STATE_DATA}/restore/${restoreId}/snapshot.packed`;
  while (!isOver(target) && !existsSync(packed)) await sleep(POLL_MS / 4);
  return fillDisk(target);
};

const loseS3 = async ({ lab, node }: Target): Promise<Struck> => {
  await node.unforward(s3Port(lab));
  return { said: `${node.name}: no way to S3`, heal: () => node.forward(s3Port(lab)) };
};

const s3Pid = ({ aws }: Lab): number => {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const argv = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      if (argv.includes('server') && argv.some((word) => word.startsWith(aws.s3DataDir))) return Number(entry);
    } catch (error) {
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  throw new Error(`no process serves ${aws.s3DataDir}, expected MinIO`);
};

const silenceS3 = async ({ lab }: Target): Promise<Struck> => {
  const pid = s3Pid(lab);
  process.kill(pid, 'SIGSTOP');
  await sleep(SILENT_SECONDS * 1000);
  process.kill(pid, 'SIGCONT');
  return { said: `S3 did not answer for ${String(SILENT_SECONDS)} s` };
};

/** What arrives on the node is not what was sent: bytes of it are changed before the script looks at it. */
const corruptDownload = async ({ node }: Target): Promise<Struck> => {
  const curl = (await node.must(['sh', '-c', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v curl'])).trim();
  writeFileSync(
    node.path(LAB_CURL),
    [
      '#!/bin/bash',
      `${curl} "$@"`,
      'status=$?',
      'file=',
      'while (($# > 0)); do [[ $1 != --output ]] || file=$2; shift; done',
      '[[ $file != *.packed ]] || printf "corrupted" | dd of="$file" bs=1 seek=5000 conv=notrunc 2>/dev/null',
      'exit "$status"',
      '',
    ].join('\n'),
    { mode: 0o755 },
  );
  return {
    said: `${node.name}: nine bytes of the download changed`,
    heal: () => {
      rmSync(node.path(LAB_CURL));
      return Promise.resolve();
    },
  };
};

/** The object's bytes on S3's disk are changed. */
const corruptObject = ({ lab, execution }: Target): Promise<Struck> => {
  const { snapshot } = execution.visits.find(({ name }) => name === 'Preflight')?.input as {
    snapshot: { key: string };
  };
  const folder = join(lab.aws.s3DataDir, output(lab, 'BucketName'), snapshot.key);
  const [version] = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('part.1'),
  );
  const file = join(folder, version ?? 'xl.meta');
  const sound = readFileSync(file);
  const damaged = Buffer.from(sound);
  damaged.write('corrupted', Math.floor(sound.length / 2));
  writeFileSync(file, damaged);
  return Promise.resolve({
    said: `nine bytes of ${version === undefined ? 'xl.meta' : 'part.1'} changed`,
    heal: () => {
      writeFileSync(file, sound);
      return Promise.resolve();
    },
  });
};

const stop = async (target: Target): Promise<Struck> => {
  const { lab, execution } = target;
  const delay = somewhereIn(target);
  await sleep(delay);
  if (execution.ended === undefined) await lab.aws.stopExecution(execution.executionArn);
  return { said: `stopped after ${String(delay)} ms in ${execution.visits.at(-1)?.name ?? 'no state'}` };
};

const DO: Readonly<Record<Fault, (target: Target) => Promise<Struck>>> = {
  'script killed': (target) => killScripts(target, false),
  'script killed always': (target) => killScripts(target, true),
  'etcd killed': killEtcd,
  'node cut off': (target) => cutOff(target, CUT_OFF_SECONDS),
  'node cut off for good': (target) => cutOff(target, CUT_OFF_FOR_GOOD_SECONDS),
  'function killed': (target) => killFunctions(target, 1),
  'function killed three times': (target) => killFunctions(target, 3),
  // Done where the execution is started: it is an option of the invocation.
  'function timed out': () => Promise.resolve({ said: 'function timed out after 2 s' }),
  stopped: stop,
  'disk full': fillDisk,
  'disk full on the way': fillDiskLater,
  'S3 not reached': loseS3,
  'S3 silent': silenceS3,
  'download corrupted': corruptDownload,
  'object corrupted': corruptObject,
};

// ---------------------------------------------------------------- what has to be true afterwards

/** What a control plane is, as far as a restore could change it. */
export interface OldState {
  /** Every file of /etc/kubernetes on each node with mode, owner, time and bytes. */
  readonly manifests: string;
  /** What lies in etcd's data directory on each node, with mode, owner and inode: the same directory, not one like it. */
  readonly data: string;
  readonly clusterId: string;
  readonly revision: number;
  readonly contents: string;
  readonly running: string;
}

const describeFile = (path: string, withContents: boolean): string => {
  const stat = lstatSync(path);
  const fields = [stat.mode.toString(8), `${String(stat.uid)}:${String(stat.gid)}`];
  if (!withContents) return [path, ...fields, `inode ${String(stat.ino)}`].join(' ');
  if (stat.isFile())
    fields.push(String(stat.mtimeMs), createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16));
  return [path, ...fields].join(' ');
};

const filesOf = (path: string): string[] => [
  path,
  ...readdirSync(path, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => join(path, name)),
];

const dataOf = (node: LabNode): string =>
  [
    '/var/lib/etcd',
    ...readdirSync(node.path('/var/lib/etcd'))
      .sort()
      .map((name) => `/var/lib/etcd/${name}`),
  ]
    .concat(['/var/lib/etcd/member/snap', '/var/lib/etcd/member/wal', '/var/lib/etcd/member/snap/db'])
    .map((path) => describeFile(node.path(path), false))
    .join('\n');

const clusterIdOf = async (node: LabNode): Promise<string> =>
  /"cluster_id":(\d+)/.exec(await node.etcdctl(['endpoint', 'status', '-w', 'json']))?.[1] ?? 'none';

/** Takes down what must be the same again after a restore that did not succeed. All members must serve. */
export const oldState = async ({ controlPlane }: Lab): Promise<OldState> => {
  const { nodes } = controlPlane;
  const [first] = nodes;
  if (first === undefined) throw new Error('a lab without nodes, expected one at least');
  const revision = await revisionOf(first);
  return {
    manifests: nodes
      .flatMap((node) => filesOf(node.path('/etc/kubernetes')).map((path) => describeFile(path, true)))
      .join('\n'),
    data: nodes.map(dataOf).join('\n'),
    clusterId: await clusterIdOf(first),
    revision,
    contents: await contentsAt(first, revision),
    running: nodes.map(runningOn).join('\n'),
  };
};

const runningOn = (node: LabNode): string =>
  [...COMPONENTS, 'kubelet' as const].map((program) => `${program} ${String(node.pidsOf(program).length)}`).join(', ');

const firstDifference = (what: string, got: string, wanted: string): string[] => {
  if (got === wanted) return [];
  const [gotLines, wantedLines] = [got.split('\n'), wanted.split('\n')];
  const missing = wantedLines.filter((line) => !gotLines.includes(line)).slice(0, 3);
  const added = gotLines.filter((line) => !wantedLines.includes(line)).slice(0, 3);
  return [`${what}: got ${added.join(' | ') || 'less'}, expected ${missing.join(' | ') || 'no more'}`];
};

/** What is not as it was; empty when everything is. Waits for members and API servers as long as they may take to start. */
export const differences = async (lab: Lab, before: OldState): Promise<string[]> => {
  const { controlPlane } = lab;
  const said: string[] = [];
  try {
    await controlPlane.waitHealthy();
    await controlPlane.waitApiReady();
  } catch (error) {
    return [`the control plane does not come back: ${String(error)}`];
  }
  // Controllers come up after the API server that is waited for.
  const until = Date.now() + RUNNING_MS;
  while (controlPlane.nodes.map(runningOn).join('\n') !== before.running && Date.now() < until) await sleep(500);
  const now = await oldState(lab);
  said.push(
    ...firstDifference('manifests', now.manifests, before.manifests),
    ...firstDifference('data directory', now.data, before.data),
    ...firstDifference('cluster id', now.clusterId, before.clusterId),
    ...firstDifference('what runs', now.running, before.running),
    ...leftBehind(lab),
  );
  for (const node of controlPlane.nodes) {
    // Of restored data there is nothing at that revision any more.
    const contents = await contentsAt(node, before.revision).catch(String);
    said.push(...firstDifference(`contents on ${node.name}`, contents, before.contents));
  }
  return said;
};

/** What is not as in a control plane that runs on the restored data, whatever the machine said of it. */
const differencesToRestored = async (lab: Lab, execution: Execution, proven: Proven): Promise<string[]> => {
  const { controlPlane } = lab;
  try {
    await controlPlane.waitHealthy();
    await controlPlane.waitApiReady();
  } catch (error) {
    return [`the restored control plane does not run: ${String(error)}`];
  }
  const bump = execution.visits
    .map(({ output: state }) => (state as { bump?: number } | undefined)?.bump)
    .findLast((candidate) => candidate !== undefined && candidate > 0);
  if (bump === undefined) return ['it ended before it had chosen a revision'];
  const said = leftBehind(lab);
  const revision = proven.revision + bump;
  for (const node of controlPlane.nodes) {
    const reached = await revisionOf(node);
    said.push(
      ...(reached < revision
        ? [`revision on ${node.name}: got ${String(reached)}, expected at least ${String(revision)}`]
        : firstDifference(`contents on ${node.name}`, await contentsAt(node, revision), proven.contents)),
    );
  }
  return said;
};

// ---------------------------------------------------------------- one case

/** Runs a restore, does to it what the case says, and finds out how it ended. Throws only when the lab itself fails. */
export const runCase = async (
  lab: Lab,
  run: { readonly case: Case; readonly proven: Proven; readonly scripts: Scripts; readonly random: Random },
): Promise<Outcome> => {
  const started = Date.now();
  const { proven } = run;
  const before = await oldState(lab);
  const seen = await lookBefore(lab);
  const timedOut = run.case.strikes.filter(({ fault }) => fault === 'function timed out');
  const execution = lab.aws.startExecution(
    output(lab, 'RestoreMachineArn'),
    { confirm: 'lab', snapshot: proven.backupId },
    {
      invokeOptions: ({ state, attempt }) =>
        attempt === 1 && timedOut.some((strike) => strike.state === state) ? { timeoutSeconds: 2 } : undefined,
    },
  );
  const node = run.random.pick(lab.controlPlane.nodes);
  const strikes = run.case.strikes.map((strike) => strikeWhenEntered(lab, { ...run, execution, node }, strike));
  const notes: string[] = [];
  const found = await (async (): Promise<Pick<Outcome, 'end' | 'last'>> => {
    try {
      const result = await ended(execution);
      for (const struck of await Promise.all(strikes)) {
        notes.push(struck.said);
        await struck.heal?.();
      }
      const last = execution.visits.at(-1)?.name ?? 'no state';
      return { last, ...(await judgeEnd(lab, { execution, result, last, before, seen, proven, notes })) };
    } finally {
      for (const watch of seen.watches) watch.close();
    }
  })();
  for (const each of lab.controlPlane.nodes) removeKept(each);
  return {
    name: run.case.name,
    ...found,
    seconds: (Date.now() - started) / 1000,
    note: notes.join('; '),
  };
};

const ended = async (execution: Execution): Promise<ExecutionResult> => {
  const controller = new AbortController();
  const late = sleep(CASE_MINUTES * 60_000, undefined, { signal: controller.signal }).then(() => {
    throw new Error(`execution ${execution.name} runs for ${String(CASE_MINUTES)} min, expected it to end`);
  });
  try {
    return await Promise.race([execution.result, late]);
  } finally {
    controller.abort();
    late.catch(() => undefined);
  }
};

const strikeWhenEntered = async (
  lab: Lab,
  run: Pick<Target, 'scripts' | 'random' | 'execution' | 'node'>,
  { state, fault }: Strike,
): Promise<Struck> => {
  let visit: StateVisit;
  try {
    visit = await run.execution.entered(state);
  } catch {
    return { said: `${state} was not reached` };
  }
  const { survivor } = visit.input as { survivor: { instanceId: string } | null };
  // The backup asks this node only.
  const asked =
    state === 'KeepCurrentState'
      ? lab.controlPlane.nodes.find(({ instanceId }) => instanceId === survivor?.instanceId)
      : undefined;
  return DO[fault]({ ...run, lab, visit, state, node: asked ?? run.node });
};

/** What an execution ended with, held against what is there. */
const judgeEnd = async (
  lab: Lab,
  run: {
    readonly execution: Execution;
    readonly result: ExecutionResult;
    readonly last: string;
    readonly before: OldState;
    readonly seen: Seen;
    readonly proven: Proven;
    readonly notes: string[];
  },
): Promise<{ readonly end: End }> => {
  const { execution, result, last, before, seen, proven, notes } = run;
  const other = (...said: string[]): { readonly end: End } => {
    notes.push(...said, `${result.status} ${result.error ?? ''} ${result.cause ?? ''}`);
    return { end: 'OTHER' };
  };
  switch (last) {
    case 'RestoredWithoutBackup':
    case 'Restored': {
      try {
        await compare(lab, { execution, expected: proven, seen, laterKey: 'gone', leftBehind: 'judged by the caller' });
      } catch (error) {
        return other(String(error));
      }
      const { warnings = [], restoreId = '' } = (result.output ?? {}) as { warnings?: string[]; restoreId?: string };
      if (warnings.length > 0) notes.push(`warnings: ${warnings.join('; ')}`);
      return tidyUp(lab, run, restoreId, warnings);
    }
    case 'RestoreFailed': {
      const said = await differences(lab, before);
      if (said.length === 0) return { end: 'OldState' };
      // A node that could not be cleaned: the cause has to say so.
      return undo(lab, run, said);
    }
    case 'RollbackFailed': {
      const { served } = execution.visits.at(-1)?.input as { served: boolean };
      if (!served) return undo(lab, run, ['the rollback failed']);
      if (!(result.cause ?? '').includes('"rollback"')) return other('the cause does not say how to go back');
      const said = await differencesToRestored(lab, execution, proven);
      return said.length === 0 ? { end: 'ServedOn' } : undo(lab, run, said);
    }
    case 'RollbackUnknown': {
      // Said by the machine itself, which does not know the id of the restore.
      if (!(result.cause ?? '').includes('"rollback"')) return other('the cause does not say what is left to do');
      const { end } = await undo(lab, run, []);
      return { end: end === 'OldState' ? 'LeftToDo' : end };
    }
    default:
      if (result.status !== 'ABORTED') return other(`ended in ${last}`);
      return undo(lab, run, []);
  }
};

/** After a restore that is good: nothing is left on any node, or a warning says what removes it, which is then done. */
const tidyUp = async (
  lab: Lab,
  { execution, proven, notes }: Parameters<typeof judgeEnd>[1],
  restoreId: string,
  warnings: readonly string[],
): Promise<{ readonly end: End }> => {
  const left = leftBehind(lab);
  if (left.length === 0) return { end: 'Restored' };
  const rollback = `{"rollback":"${restoreId}"}`;
  if (!warnings.some((warning) => warning.includes(rollback))) {
    notes.push(...left, `no warning says ${rollback}`);
    return { end: 'OTHER' };
  }
  const second = startRestore(lab, { rollback: restoreId });
  const { status, error, cause } = await ended(second);
  const last = second.visits.at(-1)?.name ?? 'no state';
  notes.push(`${rollback}: ${last}`);
  const said = await differencesToRestored(lab, execution, proven);
  if (said.length === 0 && last === 'FinishedForward') return { end: 'RestoredToTidy' };
  notes.push(...said, `${status} ${error ?? ''} ${cause ?? ''}`);
  return { end: 'OTHER' };
};

/** The undo that a cause, or the record of an interrupted execution, asks for. `why`: what a cause had to say; empty after StopExecution. */
const undo = async (
  lab: Lab,
  run: Parameters<typeof judgeEnd>[1],
  why: readonly string[],
): Promise<{ readonly end: End }> => {
  const { execution, result, before, proven, notes } = run;
  const state = execution.visits.findLast(({ name }) => name === 'Preflight')?.input;
  const cause = result.cause ?? '';
  const other = (...said: string[]): { readonly end: End } => {
    notes.push(...why, ...said, `${result.status} ${result.error ?? ''} ${cause}`);
    return { end: 'OTHER' };
  };
  if (state === undefined) return other('it was refused before Preflight');
  const { restoreId, nodes } = state as { restoreId: string; nodes: readonly { instanceId: string }[] };
  const rollback = `{"rollback":"${restoreId}"}`;
  if (why.length > 0 && !cause.includes(rollback)) return other(`the cause does not say ${rollback}`);
  if (why.length > 0 && !nodes.some(({ instanceId }) => cause.includes(instanceId)))
    notes.push('the cause names no node');
  let second = startRestore(lab, { rollback: restoreId });
  let undone = await ended(second);
  if ((undone.cause ?? '').includes('try again in a minute')) {
    notes.push('its scripts were still starting: undone once more');
    await sleep(STARTING_SECONDS * 1000);
    second = startRestore(lab, { rollback: restoreId });
    undone = await ended(second);
  }
  const last = second.visits.at(-1)?.name ?? 'no state';
  notes.push(`${rollback}: ${last}`);
  const said = `${undone.status} ${undone.error ?? ''} ${undone.cause ?? ''}`;
  if (last === 'RolledBack') {
    const left = await differences(lab, before);
    if (left.length > 0) return other(...left, said);
    return { end: why.length > 0 ? 'LeftToDo' : 'OldState' };
  }
  // The restored data was served, so it stays, or the restore had ended and there is only the way back by its backup.
  const left = await differencesToRestored(lab, execution, proven);
  if (left.length === 0 && ['FinishedForward', 'PlanOnly'].includes(last)) return { end: 'ServedOn' };
  const old = await differences(lab, before);
  // Stopped before anything was there to be undone, or when all of it was undone: the backup of what the restore replaced is shown as a plan then.
  if (old.length === 0 && ['RestoreFailed', 'PlanOnly'].includes(last)) return { end: 'OldState' };
  return other(...left, ...old, said);
};

/** As a person does after a restore that is good: three nodes' kept data of each would fill the lab's disk. */
const removeKept = (node: LabNode): void => {
  for (const path of named(node, '/var/lib/etcd', 'member.before-'))
    rmSync(node.path(path), { recursive: true, force: true });
};
