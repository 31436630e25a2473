import { crc32 } from 'node:zlib';
import { SnapshotDamagedError } from './damage';

/**
 * Follows a compressed file from outside of its decoder. Node's decoders pass over bytes behind the end of a frame, or go on with a
 * second frame, depending on where a chunk happens to end; here both are damage, as every node makes exactly one frame.
 */
export interface Frame {
  /** The part of the next bytes that goes into the decoder. Throws SnapshotDamagedError when they are not what a frame has there. */
  take(bytes: Buffer): Buffer;
  /** Follows what comes out of the decoder. */
  gave(bytes: Buffer): void;
  /** After the last byte. Throws SnapshotDamagedError when the frame is not complete, or does not fit what came out. */
  end(): void;
}

const ZSTD_MAGIC = 0xfd2f_b528;
const ZSTD_RESERVED_BLOCK = 3;
const ZSTD_RLE_BLOCK = 1;
const ZSTD_LARGEST_HEADER = 18;

/** One Zstandard frame, by the lengths that its blocks say (RFC 8878, section 3.1.1). */
export class ZstdFrame implements Frame {
  /** Bytes of a header whose rest is still to come. */
  private header = Buffer.alloc(0);
  /** Bytes to pass until the next header. */
  private skip = 0;
  private position = 0;
  private state: 'frame' | 'block' | 'done' = 'frame';
  private hasChecksum = false;

  take(bytes: Buffer): Buffer {
    let at = 0;
    while (at < bytes.length) {
      const skipped = Math.min(this.skip, bytes.length - at);
      this.skip -= skipped;
      at += skipped;
      if (at === bytes.length) {
        break;
      }
      if (this.state === 'done') {
        throw damaged(
          `byte ${String(this.position + at)}: got more bytes, expected the end of the file, where its one frame ends`,
        );
      }
      const length = this.state === 'block' ? 3 : this.frameHeaderLength();
      const taken = Math.min(length - this.header.length, bytes.length - at);
      this.header = Buffer.concat([this.header, bytes.subarray(at, at + taken)]);
      at += taken;
      if (this.state === 'frame' && this.header.length >= 4 && this.header.readUInt32LE(0) !== ZSTD_MAGIC) {
        throw damaged(
          `byte 0: got ${this.header.subarray(0, 4).toString('hex')}, expected 28b52ffd, as zstd files begin`,
        );
      }
      if (this.header.length === length && (this.state === 'block' || length > 5)) {
        this.readHeader(this.position + at);
      }
    }
    this.position += bytes.length;
    return bytes;
  }

  gave(): void {
    // The decoder holds what it makes against the frame's own checksum.
  }

  end(): void {
    if (this.state !== 'done' || this.skip > 0) {
      throw damaged(
        `byte ${String(this.position)}: got the end of the file, expected more bytes of its frame; something cut it`,
      );
    }
  }

  /** As far as it is known: the fifth byte says how long the header is. */
  private frameHeaderLength(): number {
    const descriptor = this.header[4];
    if (descriptor === undefined) {
      return 5;
    }
    const singleSegment = (descriptor & 0x20) !== 0;
    const dictionary = [0, 1, 2, 4][descriptor & 3] as number;
    const contentSize = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
    return Math.min(5 + (singleSegment ? 0 : 1) + dictionary + contentSize, ZSTD_LARGEST_HEADER);
  }

  private readHeader(position: number): void {
    if (this.state === 'frame') {
      this.hasChecksum = ((this.header[4] as number) & 4) !== 0;
      this.state = 'block';
    } else {
      const block = this.header.readUIntLE(0, 3);
      const type = (block >> 1) & 3;
      if (type === ZSTD_RESERVED_BLOCK) {
        throw damaged(`byte ${String(position - 3)}: got a block of the reserved type 3, expected 0 to 2`);
      }
      this.skip = type === ZSTD_RLE_BLOCK ? 1 : block >> 3;
      if ((block & 1) === 1) {
        this.state = 'done';
        this.skip += this.hasChecksum ? 4 : 0;
      }
    }
    this.header = Buffer.alloc(0);
  }
}

const GZIP_TRAILER_BYTES = 8;
// What a name or a comment in the header may at most have; gzip itself writes a file's name.
const GZIP_HEADER_LIMIT = 64 * 1024;

/** One gzip member whose length is known (RFC 1952): what goes into the decoder is the raw deflate stream in it. */
export class GzipFrame implements Frame {
  private header: Buffer | undefined = Buffer.alloc(0);
  private position = 0;
  private trailer = Buffer.alloc(0);
  private crc = 0;
  private made = 0;

  /** `length`: of the whole file. */
  constructor(private readonly length: number) {}

  take(bytes: Buffer): Buffer {
    let rest = bytes;
    if (this.header !== undefined) {
      const all = Buffer.concat([this.header, bytes]);
      const headerLength = gzipHeaderLength(all);
      if (headerLength === undefined) {
        if (all.length > GZIP_HEADER_LIMIT) {
          throw damaged(`byte 0: got no end of the gzip header in ${String(all.length)} bytes, expected fewer`);
        }
        this.header = all;
        return Buffer.alloc(0);
      }
      this.position = headerLength;
      this.header = undefined;
      rest = all.subarray(headerLength);
    }
    const deflated = Math.max(0, Math.min(rest.length, this.length - GZIP_TRAILER_BYTES - this.position));
    this.position += rest.length;
    this.trailer = Buffer.concat([this.trailer, rest.subarray(deflated)]);
    return rest.subarray(0, deflated);
  }

  gave(bytes: Buffer): void {
    this.crc = crc32(bytes, this.crc);
    this.made += bytes.length;
  }

  end(): void {
    if (this.trailer.length !== GZIP_TRAILER_BYTES) {
      throw damaged(
        `byte ${String(this.position)}: got the end of the file, expected a gzip header, data and 8 bytes after it; something cut it`,
      );
    }
    const crc = this.trailer.readUInt32LE(0);
    const size = this.trailer.readUInt32LE(4);
    if (crc !== this.crc || size !== this.made % 2 ** 32) {
      throw damaged(
        `gzip trailer: got CRC-32 ${crc.toString(16)} and length ${String(size)}, expected ${this.crc.toString(16)} and ${String(this.made % 2 ** 32)}, as the ${String(this.made)} decompressed bytes have`,
      );
    }
  }
}

/** Undefined: not all of it is there yet. */
function gzipHeaderLength(bytes: Buffer): number | undefined {
  if (bytes.length < 10) {
    return undefined;
  }
  const flags = bytes[3] as number;
  if (bytes.readUInt16BE(0) !== 0x1f8b || bytes[2] !== 8 || (flags & 0xe0) !== 0) {
    throw damaged(
      `byte 0: got ${bytes.subarray(0, 4).toString('hex')}, expected 1f8b08 and flags, as gzip files begin`,
    );
  }
  let length = 10;
  if ((flags & 4) !== 0) {
    if (bytes.length < length + 2) {
      return undefined;
    }
    length += 2 + bytes.readUInt16LE(length);
  }
  for (const text of [8, 16]) {
    if ((flags & text) !== 0) {
      const end = bytes.indexOf(0, length);
      if (end < 0) {
        return undefined;
      }
      length = end + 1;
    }
  }
  length += (flags & 2) !== 0 ? 2 : 0;
  return bytes.length < length ? undefined : length;
}

function damaged(message: string): SnapshotDamagedError {
  return new SnapshotDamagedError('bad-compression', `compressed file, ${message}`);
}
