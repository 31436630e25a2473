import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw, createZstdDecompress } from 'node:zlib';
import { type Frame, GzipFrame, ZstdFrame } from './compressed-frame';
import { SnapshotDamagedError } from './damage';

/** A compressed snapshot, as far as it is known before it is read. */
export interface Compressed {
  readonly compression: 'zstd' | 'gzip';
  readonly compressedBytes: number;

  /**
   * How long it is decompressed; what makes more is damage, and not written.
   *
   * @default - as long as it turns out to be
   */
  readonly sizeBytes?: number;
}

/** What decompressing measured. Hashes in hex. */
export interface Decompressed {
  readonly compressedSha256: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Of all but the last 32 bytes, where etcd's own SHA-256 stands; undefined when the size was not known before. */
  readonly bodySha256: string | undefined;
}

const TRAILER_BYTES = 32;
// Each chunk is a round trip to a thread.
const OUTPUT_BYTES = 1024 * 1024;
// With Node's own 16 KB, whoever reads, whoever decompresses and whoever hashes would wait for each other at every chunk.
const AHEAD_BYTES = 8 * 1024 * 1024;
// The stream's options, which zlib passes on, and its types do not know.
const STREAM_OPTIONS: object = {
  chunkSize: OUTPUT_BYTES,
  writableHighWaterMark: AHEAD_BYTES,
  readableHighWaterMark: AHEAD_BYTES,
};

/**
 * Decompresses one whole frame into `file`, and hashes what comes in and what goes out. Throws SnapshotDamagedError('bad-compression') for
 * bytes that are wrong, what `diskError` makes of a disk that fails, and what reading `chunks` throws. `onClose` is called when no more
 * chunks are wanted.
 */
export async function decompress(
  chunks: AsyncIterable<Buffer>,
  { compression, compressedBytes, sizeBytes }: Compressed,
  {
    file,
    diskError = (error) => error,
    onClose = () => undefined,
  }: { readonly file: string; readonly diskError?: (error: unknown) => unknown; readonly onClose?: () => void },
): Promise<Decompressed> {
  const frame: Frame = compression === 'zstd' ? new ZstdFrame() : new GzipFrame(compressedBytes);
  const decoder = compression === 'zstd' ? createZstdDecompress(STREAM_OPTIONS) : createInflateRaw(STREAM_OPTIONS);
  // The pipeline waits for its source: whatever closes the decoder lets go of a connection that may be silent.
  decoder.once('close', onClose);
  const onDisk = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw diskError(error);
    }
  };
  const compressed = createHash('sha256');
  const whole = createHash('sha256');
  let bodySha256: string | undefined;
  let size = 0;
  let fed = 0;
  const handle = await onDisk(() => open(file, 'w', 0o600));
  try {
    await pipeline(
      async function* () {
        for await (const bytes of chunks) {
          compressed.update(bytes);
          const taken = frame.take(bytes);
          fed += taken.length;
          if (taken.length > 0) {
            yield taken;
          }
        }
      },
      decoder,
      async (decompressed: AsyncIterable<Buffer>) => {
        let written = Promise.resolve();
        for await (const bytes of decompressed) {
          if (sizeBytes !== undefined && size + bytes.length > sizeBytes) {
            throw new SnapshotDamagedError(
              'bad-compression',
              `compressed file: got more than ${String(sizeBytes)} bytes out of it, expected as many as the node announced; what follows was not decompressed`,
            );
          }
          await written;
          written = onDisk(() => writeAll(handle, bytes, size));
          // Awaited with the next chunk; until then nobody else looks at it.
          written.catch(() => undefined);
          frame.gave(bytes);
          const body =
            sizeBytes === undefined
              ? bytes.length
              : Math.min(bytes.length, Math.max(0, sizeBytes - TRAILER_BYTES - size));
          whole.update(bytes.subarray(0, body));
          if (body < bytes.length) {
            bodySha256 ??= whole.copy().digest('hex');
            whole.update(bytes.subarray(body));
          }
          size += bytes.length;
        }
        await written;
      },
    );
    if (decoder.bytesWritten < fed) {
      throw behindTheEnd();
    }
    frame.end();
  } catch (error) {
    throw explain(error);
  } finally {
    await onDisk(() => handle.close());
  }
  return {
    compressedSha256: compressed.digest('hex'),
    sizeBytes: size,
    sha256: whole.digest('hex'),
    bodySha256,
  };
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/**
 * zlib names its errors Z_…, zstd ZSTD_error_…; a decoder that is done refuses further bytes as any stream does. What connection and disk do
 * wrong has errors of its own, which come first.
 */
function explain(error: unknown): unknown {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  if (['Z_MEM_ERROR', 'ZSTD_error_memory_allocation'].includes(code)) {
    return error;
  }
  if (/^(Z_|ZSTD_error_)/.test(code)) {
    return new SnapshotDamagedError(
      'bad-compression',
      `compressed file: got ${code}, expected one whole frame; what is stored is not what a node compressed`,
      undefined,
      error,
    );
  }
  if (/^ERR_STREAM_(PREMATURE_CLOSE|WRITE_AFTER_END|DESTROYED)$/.test(code)) {
    return behindTheEnd(error);
  }
  return error;
}

function behindTheEnd(cause?: unknown): SnapshotDamagedError {
  return new SnapshotDamagedError(
    'bad-compression',
    'compressed file: got bytes behind the end of its data, expected one whole frame and nothing after it',
    undefined,
    cause,
  );
}
