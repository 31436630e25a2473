import { mkdir, rm, statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { describeError, FunctionDiskError, StoreError } from '../shared/errors';
import { decompress, type Decompressed } from '../shared/snapshot/decompress';
import { openVersion, type Store, type VersionId } from '../shared/store';

/** What is to be downloaded, with what was announced of it. */
export interface Announced {
  readonly version: VersionId;
  readonly compression: 'zstd' | 'gzip';
  readonly compressedBytes: number;
  readonly sizeBytes: number;
}

/** What a download measured. */
export interface Downloaded extends Decompressed {
  /** How often the connection broke and was taken up again. */
  readonly resumed: number;
}

// Chunks of the body are some 64 KB; each one that goes into the decoder is a round trip to a thread.
const INPUT_BYTES = 1024 * 1024;
// What the file system needs beside the file.
const DISK_RESERVE_BYTES = 16 * 1024 * 1024;
const RESUMES = 8;
const RESUME_PAUSE_MILLISECONDS = 500;
const SILENCE_MILLISECONDS = 30_000;

/**
 * Reads a version once: hashes what is stored, decompresses it into `file`, and hashes that. Only bytes that are wrong are a
 * SnapshotDamagedError; a connection that does not come back is a StoreError, and a disk that fails a FunctionDiskError.
 */
export async function download(store: Store, announced: Announced, file: string): Promise<Downloaded> {
  const source = new VersionSource(store, announced);
  const decompressed = await decompress(source.read(), announced, {
    file,
    diskError: asDiskError,
    onClose: () => {
      source.stop();
    },
  });
  return { ...decompressed, resumed: source.resumed };
}

/** Removes what an earlier run left, and what this one made. */
export async function emptyDisk(directory: string): Promise<void> {
  await onDisk(() => rm(directory, { recursive: true, force: true }));
}

/** Makes the directory for `bytes`. Throws FunctionDiskError when there is less room. */
export async function prepareDisk(directory: string, bytes: number): Promise<void> {
  await emptyDisk(directory);
  const { bavail, bsize } = await onDisk(async () => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return statfs(directory);
  });
  if (bavail * bsize < bytes + DISK_RESERVE_BYTES) {
    throw new FunctionDiskError(
      `disk of the function: got ${String(bavail * bsize)} bytes free, expected ${String(bytes + DISK_RESERVE_BYTES)} for the decompressed snapshot; compact and defragment etcd: Lambda gives a function 10,240 MB at most`,
    );
  }
}

/** The bytes of one version, in chunks of about 1 MB, whatever becomes of single connections. */
class VersionSource {
  resumed = 0;
  private body: Readable | undefined;
  private stopped = false;

  constructor(
    private readonly store: Store,
    private readonly announced: Announced,
  ) {}

  /** Whoever decodes has had enough: nothing more is read, and nothing is asked for again. */
  stop(): void {
    this.stopped = true;
    this.body?.destroy();
  }

  async *read(): AsyncGenerator<Buffer> {
    let done = 0;
    let failures = 0;
    while (done < this.announced.compressedBytes) {
      try {
        this.body = await this.open(done);
        for await (const bytes of gathered(this.body)) {
          done += bytes.length;
          yield bytes;
        }
        if (done >= this.announced.compressedBytes) {
          return;
        }
        throw new Error(`the connection ended after ${String(done)} bytes`);
      } catch (error) {
        // What S3 answered in words was tried again by the SDK; only what broke on the way is ours to take up.
        if (this.stopped) {
          return;
        }
        if (error instanceof StoreError || ++failures > RESUMES) {
          throw error instanceof StoreError ? error : this.brokenFor(done, error);
        }
        this.resumed++;
        await this.store.sleep(failures * RESUME_PAUSE_MILLISECONDS);
      }
    }
  }

  private async open(from: number): Promise<Readable> {
    const { version, compressedBytes } = this.announced;
    const answer = await openVersion(this.store, version, from);
    const expected =
      from === 0 ? undefined : `bytes ${String(from)}-${String(compressedBytes - 1)}/${String(compressedBytes)}`;
    if (
      answer.ContentLength !== compressedBytes - from ||
      answer.ContentRange !== expected ||
      answer.Body === undefined
    ) {
      (answer.Body as Readable | undefined)?.destroy();
      throw new StoreError(
        `GetObject s3://${this.store.bucket}/${version.key} version ${version.versionId} from byte ${String(from)}: got ${String(answer.ContentLength ?? 'no')} bytes (${answer.ContentRange ?? 'no range'}), expected ${String(compressedBytes - from)}${expected === undefined ? '' : ` (${expected})`}; find out what answers in place of S3`,
      );
    }
    return answer.Body as Readable;
  }

  private brokenFor(done: number, error: unknown): StoreError {
    const { version, compressedBytes } = this.announced;
    return new StoreError(
      `GetObject s3://${this.store.bucket}/${version.key} version ${version.versionId}: got ${describeError(error)} after ${String(done)} of ${String(compressedBytes)} bytes, for the ${String(RESUMES + 1)}th time, expected all of them; the asynchronous retry starts again; look for what breaks the function's connections`,
      error,
    );
  }
}

/** A body's chunks joined to larger ones. What was read before a break is given out before the error is thrown. */
async function* gathered(body: Readable): AsyncGenerator<Buffer> {
  let chunks: Buffer[] = [];
  let length = 0;
  const silence = setTimeout(() => {
    body.destroy(new Error(`no byte for ${String(SILENCE_MILLISECONDS / 1000)} s`));
  }, SILENCE_MILLISECONDS);
  let broken: { readonly error: unknown } | undefined;
  try {
    for await (const chunk of body) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      if (length >= INPUT_BYTES) {
        yield Buffer.concat(chunks, length);
        chunks = [];
        length = 0;
      }
      silence.refresh();
    }
  } catch (error) {
    broken = { error };
  } finally {
    clearTimeout(silence);
  }
  if (length > 0) {
    yield Buffer.concat(chunks, length);
  }
  if (broken !== undefined) {
    throw broken.error;
  }
}

async function onDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asDiskError(error);
  }
}

function asDiskError(error: unknown): FunctionDiskError {
  return new FunctionDiskError(
    `disk of the function: got ${describeError(error)}, expected success; the asynchronous retry starts again, on an emptied disk`,
    error,
  );
}
