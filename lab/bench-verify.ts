import { GetObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ObjectCreatedEvent } from './aws/aws';
import { s3Client } from './aws/s3';
import { type Measured, median, medianPhases, megabytes, peakOf, ratio, watchMemory } from './measure';
import { etcdTools } from './nodes/tools';
import type { Lab } from './start-lab';

// The verify function against what a user would type instead with the same object: download, zstd -d, sha256sum of both, etcdutl snapshot status.

/** Runs one program to its end and measures it. Throws with its output when it fails. */
async function run(name: string, command: string, args: readonly string[]): Promise<Measured & { stdout: string }> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH ?? '' } });
  const memory = watchMemory('/proc', (pid) => pid === String(child.pid));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const seconds = (performance.now() - started) / 1000;
  const peak = memory.stop();
  if (code !== 0) {
    throw new Error(`${command} ${args.join(' ')}: got exit code ${String(code)}, expected 0: ${stderr}`);
  }
  return { seconds, phases: { [name]: seconds }, peak, stdout };
}

function together(runs: readonly Measured[]): Measured {
  return {
    seconds: runs.reduce((sum, { seconds }) => sum + seconds, 0),
    phases: Object.assign({}, ...runs.map(({ phases }) => phases)) as Record<string, number>,
    // One after the other: the largest counts.
    peak: {
      anonymousBytes: Math.max(...runs.map(({ peak }) => peak.anonymousBytes)),
      mappedBytes: Math.max(...runs.map(({ peak }) => peak.mappedBytes)),
    },
  };
}

interface Plain {
  readonly download: Measured;
  /** Decompression, both SHA-256, status. */
  readonly tools: Measured;
  /** SHA-256 and status of the decompressed file alone. */
  readonly fileOnly: Measured;
  /** `etcd-backup verify` of the decompressed file. */
  readonly cli: Measured;
  readonly sizeBytes: number;
}

async function plain(lab: Lab, event: ObjectCreatedEvent): Promise<Plain> {
  const { bucket, object } = event.detail;
  const dir = join(lab.dir, 'plain');
  await mkdir(dir, { recursive: true });
  const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
  const url = await getSignedUrl(
    s3,
    new GetObjectCommand({ Bucket: bucket.name, Key: object.key, VersionId: object['version-id'] }),
  );
  s3.destroy();
  const [stored, file] = [join(dir, 'plain.db.zst'), join(dir, 'plain.db')];
  try {
    const download = await run('download', 'curl', ['-sSf', '-o', stored, url]);
    const decompress = await run('zstd', 'zstd', ['-d', '-q', stored, '-o', file]);
    const sumStored = await run('sha256sum of the object', 'sha256sum', [stored]);
    const sum = await run('sha256sum', 'sha256sum', [file]);
    const status = await run('status', etcdTools('3.6').etcdutl, ['snapshot', 'status', '-w', 'json', file]);
    const cli = await run('cli', process.execPath, [join(__dirname, '..', 'dist', 'cli.js'), 'verify', file, '--json']);
    const [theirs, ours] = [status.stdout, cli.stdout].map((text) => JSON.parse(text) as Record<string, unknown>);
    for (const field of ['hash', 'revision', 'totalKey', 'totalSize']) {
      if (theirs?.[field] !== ours?.[field]) {
        throw new Error(
          `${field}: got ${JSON.stringify(ours?.[field])} from etcd-backup verify, expected ${JSON.stringify(theirs?.[field])} as etcdutl says`,
        );
      }
    }
    const facts = ours?.facts as { sizeBytes: number };
    return {
      download,
      tools: together([decompress, sumStored, sum, status]),
      fileOnly: together([sum, status]),
      cli,
      sizeBytes: facts.sizeBytes,
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function verify(lab: Lab, event: ObjectCreatedEvent): Promise<Measured & { readonly rssBytes: number }> {
  const { aws } = lab;
  const earlier = aws.logs.length;
  const [delivery] = await aws.events.deliver(event);
  if (delivery?.delivered !== true) {
    throw new Error(
      `the event of ${event.detail.object.key} was not delivered, expected the verify function to get it`,
    );
  }
  const { invocation } = delivery;
  const memory = watchMemory('/proc', (pid) => pid === String(invocation.pid()));
  const outcome = await invocation.done;
  const peak = memory.stop();
  const [attempt] = outcome.attempts;
  if (!outcome.ok || attempt === undefined || outcome.attempts.length > 1) {
    throw new Error(`verify of ${event.detail.object.key}: got ${JSON.stringify(outcome.error)}, expected a receipt`);
  }
  const phases = Object.fromEntries(
    aws.logs
      .slice(earlier)
      .flatMap(({ line }) => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : []))
      .filter(({ message }) => message === 'phase done')
      .map(({ phase, seconds }) => [String(phase), Number(seconds)]),
  );
  return {
    seconds: attempt.durationMs / 1000,
    phases,
    peak,
    rssBytes: attempt.peakRssBytes,
  };
}

/** Verifies one stored snapshot after the other, in turns with the plain tools, and prints what that took. */
export async function benchVerify(lab: Lab, events: readonly ObjectCreatedEvent[]): Promise<void> {
  const own: Awaited<ReturnType<typeof verify>>[] = [];
  const theirs: Plain[] = [];
  for (const event of events) {
    own.push(await verify(lab, event));
    theirs.push(await plain(lab, event));
    const [a, b] = [own.at(-1), theirs.at(-1)];
    console.log(
      `round ${String(own.length)}: verify ${(a?.seconds ?? NaN).toFixed(1)} s, plain tools ${(b?.tools.seconds ?? NaN).toFixed(1)} s and ${(b?.download.seconds ?? NaN).toFixed(1)} s for the download, ratio ${((a?.seconds ?? NaN) / (b?.tools.seconds ?? NaN)).toFixed(2)}`,
    );
  }
  const tools = theirs.map((each) => each.tools);
  const withDownload = theirs.map((each) => together([each.download, each.tools]));
  const fileOnly = theirs.map((each) => each.fileOnly);
  const cli = theirs.map((each) => each.cli);
  const seconds = (runs: readonly Measured[]): string => median(runs.map((each) => each.seconds)).toFixed(1);
  console.log(`
reading back the snapshot of ${megabytes(theirs[0]?.sizeBytes ?? 0)}, medians of ${String(events.length)} rounds in turns
  verify        event to receipt ${seconds(own)} s (${medianPhases(own)}), the function's start and download included
                peak ${peakOf(own)}; resident ${megabytes(median(own.map(({ rssBytes }) => rssBytes)))}
  plain tools   ${seconds(tools)} s (${medianPhases(tools)}), and ${seconds(theirs.map(({ download }) => download))} s to download it
                peak ${peakOf(tools)}
  ratio         ${ratio(own, tools)} without the tools' download, ${ratio(own, withDownload)} with it
  etcd-backup verify FILE  ${seconds(cli)} s, peak ${peakOf(cli)}; sha256sum and status ${seconds(fileOnly)} s; ratio ${ratio(cli, fileOnly)}`);
}
