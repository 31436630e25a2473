import { PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { s3Client } from './aws/s3';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import { type Lab, startLab } from './start-lab';

// `npm run bench`: a whole backup, from the schedule to the object in S3, against what a user would type instead on the same node with
// the same data: etcdctl snapshot save, etcdutl snapshot status, gzip, one upload. In turns, so that a slow moment hits both.

// What runs on a node without us.
const OWN_PROCESSES = new Set(['lab', 'kubelet', 'etcd']);
const SAMPLE_MS = 100;

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

interface Measured {
  readonly seconds: number;
  readonly phases: Readonly<Record<string, number>>;
  readonly bytes: number;
  /** Highest sum of memory of its own, and of all it has mapped, over the processes that it runs on the node. */
  readonly peak: Peak;
}

interface Peak {
  anonymousBytes: number;
  mappedBytes: number;
}

/** Watches the memory of what runs on a node besides etcd and the kubelet, as each process's share of what it uses. */
function watchMemory(node: LabNode): { stop(): Peak } {
  // The node's own /proc: it shows the node's processes and no others.
  const proc = `/proc/${String(node.pid)}/root/proc`;
  const peak: Peak = { anonymousBytes: 0, mappedBytes: 0 };
  const sample = (): void => {
    let anonymousBytes = 0;
    let mappedBytes = 0;
    for (const pid of readdirSync(proc).filter((entry) => /^\d+$/.test(entry))) {
      try {
        if (OWN_PROCESSES.has(readFileSync(`${proc}/${pid}/comm`, 'utf8').trim())) {
          continue;
        }
        const rollup = readFileSync(`${proc}/${pid}/smaps_rollup`, 'utf8');
        mappedBytes += Number(/^Pss: +(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
        anonymousBytes += Number(/^Pss_Anon: +(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
      } catch (error) {
        // It ended while we looked.
        if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) {
          throw error;
        }
      }
    }
    peak.anonymousBytes = Math.max(peak.anonymousBytes, anonymousBytes);
    peak.mappedBytes = Math.max(peak.mappedBytes, mappedBytes);
  };
  const timer = setInterval(sample, SAMPLE_MS);
  return {
    stop: () => {
      clearInterval(timer);
      return peak;
    },
  };
}

async function plain(lab: Lab, node: LabNode, round: number): Promise<Measured> {
  const { aws } = lab;
  const s3 = s3Client(aws.endpoints.s3, aws.credentials, aws.region);
  const url = await getSignedUrl(
    s3,
    new PutObjectCommand({ Bucket: aws.outputs.get('BucketName'), Key: `plain-${String(round)}.db.gz` }),
  );
  s3.destroy();
  const memory = watchMemory(node);
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
): Promise<Measured & { functionBytes: number; sizeBytes: number }> {
  const { aws } = lab;
  const earlier = aws.logs.length;
  const memory = watchMemory(node);
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

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

function medians(runs: readonly Measured[]): string {
  const names = Object.keys(runs[0]?.phases ?? {});
  return names
    .map((name) => [name, median(runs.map(({ phases }) => phases[name] ?? 0))] as const)
    .filter(([, seconds]) => seconds >= 0.05)
    .map(([name, seconds]) => `${name} ${seconds.toFixed(1)} s`)
    .join(', ');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { size: { type: 'string', default: '1000MB' }, rounds: { type: 'string', default: '3' } },
  });
  const size = Number(/^(\d+)MB$/.exec(values.size)?.[1]);
  const rounds = Number(values.rounds);
  if (!(size >= 1 && size <= 6000) || !Number.isInteger(rounds) || rounds < 1 || rounds > 20) {
    throw new Error(`--size is '${values.size}' and --rounds '${values.rounds}', expected 1MB to 6000MB and 1 to 20`);
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
    const theirs: Measured[] = [];
    const own: Awaited<ReturnType<typeof ours>>[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      own.push(await ours(lab, node, round));
      theirs.push(await plain(lab, node, round));
      const [a, b] = [own.at(-1)?.seconds ?? NaN, theirs.at(-1)?.seconds ?? NaN];
      console.log(
        `round ${String(round)}: etcd-backup ${a.toFixed(1)} s, plain tools ${b.toFixed(1)} s, ratio ${(a / b).toFixed(2)}`,
      );
    }
    const ratios = own.map(({ seconds }, index) => seconds / (theirs[index]?.seconds ?? NaN));
    const first = own[0];
    console.log(`
snapshot of ${megabytes(first?.sizeBytes ?? 0)}, medians of ${String(rounds)} rounds in turns
  etcd-backup   schedule to stored ${median(own.map(({ seconds }) => seconds)).toFixed(1)} s (${medians(own)})
                stored ${megabytes(first?.bytes ?? 0)}; peak on the node ${megabytes(median(own.map(({ peak }) => peak.anonymousBytes)))} of its own, ${megabytes(median(own.map(({ peak }) => peak.mappedBytes)))} with mapped files; function ${megabytes(median(own.map(({ functionBytes }) => functionBytes)))}
  plain tools   save to stored ${median(theirs.map(({ seconds }) => seconds)).toFixed(1)} s (${medians(theirs)})
                stored ${megabytes(theirs[0]?.bytes ?? 0)}; peak on the node ${megabytes(median(theirs.map(({ peak }) => peak.anonymousBytes)))} of its own, ${megabytes(median(theirs.map(({ peak }) => peak.mappedBytes)))} with mapped files
  ratio         ${median(ratios).toFixed(2)} (from ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`);
  } finally {
    await lab.down();
  }
}

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
