import { GetObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { s3Client } from './aws/s3';
import { median, ratio } from './measure';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import type { Receipt } from '../lambda/shared/receipt';
import { output, prove, startRestore } from './restores';
import { type Lab, startLab } from './start-lab';

// `npm run bench:restore -- --sizes 50MB,1000MB --rounds 2`: the downtime of a restore until the API server of every node is ready again, as somebody
// sees it who asks all of them the whole time: from the first of them that is not ready, and from the first member of etcd that has stopped. Of this
// project's machine and of the usual procedure by hand: stop, download, restore, start, node after node. Both on the same nodes, in turns. Nobody
// types: the procedure by hand is a script that waits only for what it has to.

const MANIFESTS = '/etc/kubernetes/manifests';
const ASIDE = '/etc/kubernetes/by-hand';
// Higher each time than what the machine made before it.
const BY_HAND_BUMP = 900_000_000_000;

const say = (line: string): void => {
  console.log(`${new Date().toISOString().slice(11, 19)}  ${line}`);
};

interface Downtime {
  /** From the first API server that is not ready. */
  readonly seconds: number;
  /** From the first member that has stopped, as its process says. */
  readonly memberSeconds: number;
  readonly phases: Readonly<Record<string, number>>;
}

// Each look costs a process on the machine whose time is taken.
const PROBE_MS = 250;
const PROCESS_MS = 50;

/** Asks every API server, again and again, whether it is ready. `end` gives the seconds until all were again. */
const watchReadiness = ({ controlPlane }: Lab): { end(): Promise<Omit<Downtime, 'phases'>> } => {
  let over = false;
  let memberDownSince: number | undefined;
  let downSince: number | undefined;
  let upSince: number | undefined;
  const ready = new Map(controlPlane.nodes.map((node) => [node, true]));
  const probes = controlPlane.nodes.map(async (node) => {
    while (!over) {
      const asked = performance.now();
      ready.set(node, await node.apiReady());
      if (![...ready.values()].every(Boolean)) {
        downSince ??= asked;
        upSince = undefined;
      } else upSince ??= performance.now();
      await sleep(PROBE_MS);
    }
  });
  const members = setInterval(() => {
    if (memberDownSince === undefined && controlPlane.nodes.some((node) => node.etcdPid() === undefined))
      memberDownSince = performance.now();
  }, PROCESS_MS);
  return {
    end: async () => {
      await controlPlane.waitApiReady();
      over = true;
      clearInterval(members);
      await Promise.all(probes);
      if (downSince === undefined || upSince === undefined || memberDownSince === undefined)
        throw new Error(
          `API servers ${upSince === undefined ? 'are not ready' : 'were ready the whole time'} during the restore, expected a downtime`,
        );
      return { seconds: (upSince - downSince) / 1000, memberSeconds: (upSince - memberDownSince) / 1000 };
    },
  };
};

/** This project's, and how long each state of the machine was. */
const ours = async (lab: Lab, receipt: Receipt): Promise<Downtime> => {
  const readiness = watchReadiness(lab);
  const execution = startRestore(lab, { confirm: 'lab', snapshot: receipt.backupId });
  const { status, error, cause } = await execution.result;
  if (status !== 'SUCCEEDED') throw new Error(`the restore ended ${status}: ${error ?? ''} ${cause ?? ''}`);
  const downtime = await readiness.end();
  const { snapshot, bump } = execution.visits.find(({ name }) => name === 'CheckEtcd')?.output as {
    snapshot: { revision: number };
    bump: number;
  };
  await holdCount(lab, receipt, snapshot.revision + bump);
  const phases = Object.fromEntries(
    execution.visits
      .filter(({ type, exited }) => type === 'Task' && exited !== undefined)
      .map(({ name, entered, exited }) => [name, ((exited ?? entered).getTime() - entered.getTime()) / 1000]),
  );
  return { ...downtime, phases };
};

/** Number of keys at the revision that the restore made. Throws when it is not the backup's. */
const holdCount = async (lab: Lab, receipt: Receipt, revision: number): Promise<void> => {
  for (const node of lab.controlPlane.nodes) {
    const text = await node.etcdctl([
      'get',
      '',
      '--prefix',
      '--count-only',
      `--rev=${String(revision)}`,
      '--command-timeout=60s',
      '-w',
      'fields',
    ]);
    const count = Number(/"Count" : (\d+)/.exec(text)?.[1]);
    if (count !== receipt.snapshot.totalKey.live)
      throw new Error(
        `keys on ${node.name} after the restore: got ${String(count)}, expected ${String(receipt.snapshot.totalKey.live)}`,
      );
  }
};

/** By hand, as etcd's and Kubernetes' pages describe it. */
const byHand = async (lab: Lab, receipt: Receipt): Promise<Downtime> => {
  const { nodes } = lab.controlPlane;
  const phases: Record<string, number> = {};
  const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  const url = await getSignedUrl(
    s3,
    new GetObjectCommand({ Bucket: output(lab, 'BucketName'), Key: receipt.key, VersionId: receipt.versionId }),
    { expiresIn: 3600 },
  );
  s3.destroy();
  const members = nodes.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
  const readiness = watchReadiness(lab);
  const phase = async (name: string, work: (node: LabNode) => Promise<unknown>): Promise<void> => {
    const from = performance.now();
    for (const node of nodes) await work(node);
    phases[name] = (performance.now() - from) / 1000;
  };
  const shell = (node: LabNode, script: string): Promise<string> =>
    node.must(['bash', '-ec', script], { timeoutMs: 1_200_000 });
  await phase('stop', async (node) => {
    await shell(node, `mkdir -p ${ASIDE}; mv ${MANIFESTS}/*.yaml ${ASIDE}/`);
    await shell(node, `while [ -n "$(crictl ps -q)" ]; do sleep 0.2; done`);
  });
  await phase('download', (node) =>
    shell(node, `curl -sf -o /var/tmp/s.zst '${url}'; zstd -q -d -f --rm /var/tmp/s.zst -o /var/tmp/s.db`),
  );
  await phase('restore', (node) =>
    shell(
      node,
      `mv /var/lib/etcd/member /var/tmp/member.old; ${node.imageBin}/etcdutl snapshot restore /var/tmp/s.db --name ${node.name} --data-dir /var/lib/etcd/new ` +
        `--initial-cluster '${members}' --initial-cluster-token by-hand --initial-advertise-peer-urls ${node.peerUrl} --bump-revision ${String(BY_HAND_BUMP)} --mark-compacted; ` +
        'mv /var/lib/etcd/new/member /var/lib/etcd/member; rmdir /var/lib/etcd/new; rm -rf /var/tmp/s.db /var/tmp/member.old',
    ),
  );
  await phase('start', (node) => shell(node, `mv ${ASIDE}/*.yaml ${MANIFESTS}/; rmdir ${ASIDE}`));
  const from = performance.now();
  await lab.controlPlane.waitApiReady();
  phases['until ready'] = (performance.now() - from) / 1000;
  const downtime = await readiness.end();
  await holdCount(lab, receipt, receipt.snapshot.revision + BY_HAND_BUMP);
  return { ...downtime, phases };
};

const tell = (name: string, { seconds, memberSeconds, phases }: Downtime): void => {
  say(
    `  ${name.padEnd(8)} ${seconds.toFixed(1).padStart(6)} s (${memberSeconds.toFixed(1)} s)  ${Object.entries(phases)
      .map(([each, value]) => `${each} ${value.toFixed(1)}`)
      .join(', ')}`,
  );
};

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: { sizes: { type: 'string', default: '50MB,1000MB' }, rounds: { type: 'string', default: '2' } },
  });
  const rows: string[] = [];
  for (const size of values.sizes.split(',')) {
    const bytes = Number(/^(\d+)MB$/.exec(size)?.[1] ?? NaN) * 1e6;
    if (Number.isNaN(bytes)) throw new Error(`--sizes has '${size}', expected for instance 50MB,1000MB`);
    const lab = await startLab({ name: 'bench-restore', apiServer: true, onProgress: say });
    try {
      await loadData(lab.controlPlane, { sizeBytes: bytes });
      const receipt = await prove(lab, 'the bench');
      say(
        `${size}: database of ${(receipt.snapshot.totalSizeBytes / 1e6).toFixed(0)} MB, ${String(receipt.snapshot.totalKey.live)} keys`,
      );
      const us: Downtime[] = [];
      const hand: Downtime[] = [];
      for (let round = 0; round < Number(values.rounds); round++) {
        us.push(await ours(lab, receipt));
        tell('machine', us.at(-1) as Downtime);
        hand.push(await byHand(lab, receipt));
        tell('by hand', hand.at(-1) as Downtime);
      }
      const fromMember = (runs: readonly Downtime[]): { seconds: number }[] =>
        runs.map(({ memberSeconds }) => ({ seconds: memberSeconds }));
      for (const [from, own, other] of [
        ['API server', us, hand],
        ['member', fromMember(us), fromMember(hand)],
      ] as const) {
        const seconds = (runs: readonly { seconds: number }[]): string =>
          median(runs.map((run) => run.seconds)).toFixed(1);
        rows.push(
          `${size.padEnd(8)} from the first ${from.padEnd(10)}: machine ${seconds(own)} s, by hand ${seconds(other)} s, ratio ${ratio(own, other)}`,
        );
      }
    } finally {
      await lab.down();
    }
  }
  console.log(`\ndowntime, until all API servers are ready\n${rows.join('\n')}`);
};

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  // Those who ask the API servers would go on.
  process.exit(1);
});
