import { closeSync, createReadStream, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DAMAGE, SnapshotDamagedError } from '../lambda/shared/snapshot/damage';
import { decompress } from '../lambda/shared/snapshot/decompress';
import type { SnapshotFacts } from '../lambda/shared/snapshot/facts';
import { readSnapshot, requireFile } from '../lambda/shared/snapshot/read-snapshot';

/** What `etcdutl snapshot status -w json` prints for a snapshot, each as the etcdutl of the snapshot's own minor counts it. */
export interface SnapshotStatus {
  readonly hash: number;
  readonly revision: number;
  readonly totalKey: number;
  readonly totalSize: number;
  /** From etcd 3.6 on. */
  readonly version?: string;
}

/** What a command prints, and the exit code that goes with it. */
export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Reads a snapshot file, compressed or not, and says whether it is sound. Throws NotAFileError, and the file system's errors as they are. */
export async function verify({
  file,
  json,
}: {
  readonly file: string;
  readonly json: boolean;
}): Promise<CommandResult> {
  let facts: SnapshotFacts;
  try {
    facts = await read(file);
  } catch (error) {
    if (!(error instanceof SnapshotDamagedError)) {
      throw error;
    }
    const { damage, page, message } = error;
    const exitCode = DAMAGE[damage];
    return json
      ? {
          exitCode,
          stdout: `${JSON.stringify({ ok: false, damage, ...(page === undefined ? {} : { page }), error: message })}\n`,
          stderr: '',
        }
      : {
          exitCode,
          stdout: '',
          stderr: `${file}: DAMAGED (${damage})\n${message}\nDo not restore it: take another backup, and read the object again if this is a copy of one.\n`,
        };
  }
  const status = statusOf(facts);
  return {
    exitCode: 0,
    stdout: json ? `${JSON.stringify({ ok: true, ...status, facts })}\n` : describe(file, status, facts),
    stderr: '',
  };
}

async function read(file: string): Promise<SnapshotFacts> {
  const compression = compressionOf(file);
  if (compression === undefined) {
    return readSnapshot(file);
  }
  const dir = mkdtempSync(join(tmpdir(), 'etcd-backup-'));
  try {
    const decompressed = join(dir, 'snapshot.db');
    const chunks = createReadStream(file, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>;
    await decompress(chunks, { compression, compressedBytes: statSync(file).size }, { file: decompressed });
    return readSnapshot(decompressed);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const CHUNK_BYTES = 1024 * 1024;
// How files of each kind begin (RFC 8878 and RFC 1952). A snapshot begins with the number 0 of its first page.
const ZSTD_MAGIC = Buffer.from('28b52ffd', 'hex');
const GZIP_MAGIC = Buffer.from('1f8b', 'hex');

function compressionOf(file: string): 'zstd' | 'gzip' | undefined {
  requireFile(file);
  const fd = openSync(file, 'r');
  try {
    const head = Buffer.alloc(ZSTD_MAGIC.length);
    const bytes = head.subarray(0, readSync(fd, head, 0, head.length, 0));
    if (bytes.equals(ZSTD_MAGIC)) {
      return 'zstd';
    }
    return bytes.subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC) ? 'gzip' : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Up to 3.5, etcdutl counts the rows of all buckets; from 3.6 on, when files began to have a storage version, live keys. */
export function statusOf(facts: SnapshotFacts): SnapshotStatus {
  const { hash, revision, totalKey, totalSizeBytes, storageVersion } = facts;
  return {
    hash,
    revision,
    totalKey: storageVersion === null ? totalKey.rows : totalKey.live,
    totalSize: totalSizeBytes,
    ...(storageVersion === null ? {} : { version: storageVersion }),
  };
}

function describe(file: string, status: SnapshotStatus, facts: SnapshotFacts): string {
  const { pages, inventory, kubernetes } = facts;
  const rows: readonly (readonly [string, string])[] = [
    ['hash', status.hash.toString(16)],
    ['revision', String(status.revision)],
    [
      'total keys',
      `${String(status.totalKey)} (${String(facts.totalKey.live)} alive, ${String(facts.totalKey.rows)} rows)`,
    ],
    ['total size', bytes(status.totalSize)],
    ['etcd', facts.storageVersion ?? facts.clusterVersion ?? 'unknown'],
    ['members', facts.members.map(({ name, id }) => `${name} (${id})`).join(', ') || 'none'],
    ['pages', `${String(pages.total)} of ${bytes(facts.pageSizeBytes)}, ${String(pages.free)} free`],
    ['kube-system', kubernetes.kubeSystemUid ?? (kubernetes.kubeSystemEncrypted ? 'encrypted' : 'none')],
    ['objects', `${String(inventory.objects)}, ${bytes(inventory.bytes)}`],
    ...inventory.kinds
      .slice(0, 5)
      .map(({ kind, objects, bytes: size }) => [`  ${kind}`, `${String(objects)}, ${bytes(size)}`] as const),
    ['trailer', facts.trailerSha256],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [`${file}: sound`, ...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`), ''].join('\n');
}

function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${String(units[unit])}`;
}
