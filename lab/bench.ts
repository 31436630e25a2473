import { PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { s3Client } from './aws/s3';
import { benchVerify } from './bench-verify';
import { type Measured, median, medianPhases, megabytes, peakOf, ratio, watchMemory } from './measure';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import { type Lab, startLab } from './start-lab';

// `npm run bench`: a whole backup, from the schedule to the object in S3, against what a user would type instead on the same node with
// the same data: etcdctl snapshot save, etcdutl snapshot status, gzip, one upload. Then the proof of each (bench-verify.ts). In turns, so that
// a slow moment hits both. `--only verify` leaves the first part's plain tools out.

// What runs on a node without us.
const OWN_PROCESSES = new Set(['lab', 'kubelet', 'etcd']);

const PLAIN = String.raw`
set -euo pipefail
umask 077
cd /var/lib/etcd-backup
trap 'rm -f plain.db plain.db.gz' EXIT
lap() { date +%s.%N; }
a=$(lap)
"$BIN/etcdctl" snapshot save plain.db >&2
b=$(lap)
env -i "$BIN/etcdutl" snapshot status plain.db >&2
c=$(lap)
gzip plain.db
d=$(lap)
curl -sSf -T plain.db.gz "$URL" >&2
e=$(lap)
printf '{"save":[%s,%s],"status":[%s,%s],"gzip":[%s,%s],"upload":[%s,%s],"bytes":%s}' "$a" "$b" "$b" "$c" "$c" "$d" "$d" "$e" "$(stat -c %s plain.db.gz)"
`;

interface Stored extends Measured {
  readonly bytes: number;
}

/** Watches what runs on a node besides etcd and the kubelet. */
function watchNode(node: LabNode): ReturnType<typeof watchMemory> {
  // The node's own /proc: it shows the node's processes and no others.
  const proc = `/proc/${String(node.pid)}/root/proc`;
  return watchMemory(proc, (pid) => !OWN_PROCESSES.has(readFileSync(`${proc}/${pid}/comm`, 'utf8').trim()));
}

async function plain(lab: Lab, node: LabNode, round: number): Promise<Stored> {
  const { aws } = lab;
  const s3 = s3Client(aws.endpoints.s3, aws.credentials, aws.region);
  const url = await getSignedUrl(
    s3,
    new PutObjectCommand({ Bucket: aws.outputs.get('BucketName'), Key: `plain-${String(round)}.db.gz` }),
  );
  s3.destroy();
  const memory = watchNode(node);
  const text = await node.must(['bash', '-c', PLAIN], {
    env: { ...node.etcdctlEnvironment, BIN: node.imageBin, URL: url },
  });
  const peak = memory.stop();
  const { bytes, ...laps } = JSON.parse(text) as { bytes: number } & Record<string, [number, number]>;
  const phases = Object.fromEntries(
    Object.entries(laps as Record<string, [number, number]>).map(([name, [from, to]]) => [name, to - from]),
  );
  return { seconds: Object.values(phases).reduce((sum, each) => sum + each, 0), phases, bytes, peak };
}

async function ours(
  lab: Lab,
  node: LabNode,
  round: number,
): Promise<Stored & { functionBytes: number; sizeBytes: number }> {
  const { aws } = lab;
  const earlier = aws.logs.length;
  const memory = watchNode(node);
  const started = Date.now();
  const delivery = await aws.fireSchedule(undefined, { scheduledTime: new Date(Date.UTC(2026, 10, 20, round)) });
  if (!delivery.delivered) {
    throw delivery.error;
  }
  const outcome = await delivery.invocation.done;
  const seconds = (Date.now() - started) / 1000;
  const peak = memory.stop();
  const result = outcome.result as { compressedBytes: number; instanceId: string } | undefined;
  if (!outcome.ok || result?.instanceId !== node.instanceId) {
    throw new Error(
      `backup ${String(round)}: got ${JSON.stringify(outcome.error ?? outcome.result)}, expected it to be stored by ${node.name}`,
    );
  }
  const lines = aws.logs
    .slice(earlier)
    .flatMap(({ line }) => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : []));
  const done = lines.filter(({ message }) => message === 'phase done');
  return {
    seconds,
    phases: Object.fromEntries(done.map(({ phase, seconds: each }) => [String(phase), Number(each)])),
    bytes: result.compressedBytes,
    peak,
    functionBytes: Math.max(...outcome.attempts.map(({ peakRssBytes }) => peakRssBytes)),
    sizeBytes: Number(done.find(({ phase }) => phase === 'snapshot')?.sizeBytes),
  };
}

function report(own: readonly Awaited<ReturnType<typeof ours>>[], theirs: readonly Stored[]): void {
  const seconds = (runs: readonly Measured[]): string => median(runs.map((each) => each.seconds)).toFixed(1);
  const [first] = own;
  console.log(`
snapshot of ${megabytes(first?.sizeBytes ?? 0)}, medians of ${String(own.length)} rounds in turns
  etcd-backup   schedule to stored ${seconds(own)} s (${medianPhases(own)})
                stored ${megabytes(first?.bytes ?? 0)}; peak on the node ${peakOf(own)}; function ${megabytes(median(own.map(({ functionBytes }) => functionBytes)))}
  plain tools   save to stored ${seconds(theirs)} s (${medianPhases(theirs)})
                stored ${megabytes(theirs[0]?.bytes ?? 0)}; peak on the node ${peakOf(theirs)}
  ratio         ${ratio(own, theirs)}
`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '1000MB' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string', default: 'all' },
    },
  });
  const size = Number(/^(\d+)MB$/.exec(values.size)?.[1]);
  const rounds = Number(values.rounds);
  if (!(size >= 1 && size <= 6000) || !Number.isInteger(rounds) || rounds < 1 || rounds > 20) {
    throw new Error(`--size is '${values.size}' and --rounds '${values.rounds}', expected 1MB to 6000MB and 1 to 20`);
  }
  if (values.only !== 'all' && values.only !== 'verify') {
    throw new Error(`--only is '${values.only}', expected verify, or left out for all`);
  }
  const lab = await startLab({
    name: 'bench',
    etcd: '3.6',
    quotaBytes: 8e9,
    // Loading a gigabyte with fsync takes many minutes; what is measured below only reads the database.
    extraEtcdFlags: ['--unsafe-no-fsync=true'],
    onProgress: (line) => {
      console.log(line);
    },
  });
  try {
    console.log(`loading ${values.size} of Kubernetes-like objects (minutes)`);
    const data = await loadData(lab.controlPlane, { sizeBytes: size * 1e6 });
    console.log(`loaded ${String(data.keys)} objects, database ${megabytes(data.dbSize)}`);
    // One node for both: always the same disk and the same caches.
    const node = lab.controlPlane.nodes.find(
      ({ instanceId }) => instanceId === [...lab.fleet].map((each) => each.instanceId).sort()[0],
    );
    if (node === undefined) {
      throw new Error('no node, expected three');
    }
    for (const each of lab.fleet) {
      each.agentVersion = each.instanceId === node.instanceId ? each.agentVersion : '3.3.1.0';
    }
    // Each proof has its turn later; it must not run beside what is measured now.
    lab.aws.events.hold();
    const theirs: Stored[] = [];
    const own: Awaited<ReturnType<typeof ours>>[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      own.push(await ours(lab, node, round));
      if (values.only === 'verify') {
        continue;
      }
      theirs.push(await plain(lab, node, round));
      const [a, b] = [own.at(-1)?.seconds ?? NaN, theirs.at(-1)?.seconds ?? NaN];
      console.log(
        `round ${String(round)}: etcd-backup ${a.toFixed(1)} s, plain tools ${b.toFixed(1)} s, ratio ${(a / b).toFixed(2)}`,
      );
    }
    if (theirs.length > 0) {
      report(own, theirs);
    }
    const snapshots = lab.aws.events.release().filter(({ detail }) => detail.object.key.startsWith('snapshots/'));
    await benchVerify(lab, snapshots);
  } finally {
    await lab.down();
  }
}

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
