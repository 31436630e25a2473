import { KeyValue } from '../shared/snapshot/key-value';
import { hashOfKeyValue, sumOfHashes } from '../shared/snapshot/live-hash';

/** What was read back. */
export interface ReadBack {
  readonly keys: number;
  /** Of keys and values. */
  readonly bytes: number;
  /** As `liveHash` of a snapshot. */
  readonly hash: number;
}

/** One page: runs `etcdctl get <start> --from-key --limit <limit> -w protobuf`, and passes on what it writes. */
export type ReadPage = (start: string, limit: number, onOutput: (chunk: Buffer) => void) => Promise<void>;

/** What etcdctl wrote is no answer to a read. */
export class UnreadableAnswerError extends Error {
  override readonly name = 'UnreadableAnswerError';
}

/** Reads every key through etcdctl, page after page. Memory holds one key and its value, whatever the database has. */
export async function readBack(readPage: ReadPage, keysPerPage: number): Promise<ReadBack> {
  const total = new Total();
  for (let limit = keysPerPage; ;) {
    const page = new PageReader(total);
    const before = total.keys;
    await readPage(startFrom(total.lastKey), limit, (chunk) => {
      page.take(chunk);
    });
    if (!page.end()) {
      return { keys: total.keys, bytes: total.bytes, hash: total.hash };
    }
    // Only when more keys than a page has share what of the last one can be said on a command line.
    limit = total.keys === before ? limit * 2 : keysPerPage;
  }
}

/** Goes through keys in their order; one that was counted is not counted again. */
class Total {
  keys = 0;
  bytes = 0;
  hash = 0;
  /** undefined: none yet. */
  lastKey: Buffer | undefined;
  private readonly keyValue = new KeyValue();

  /** One mvccpb.KeyValue in `bytes[start, end)`; `words` is the same memory. */
  add(bytes: Buffer, words: Uint32Array, start: number, end: number): void {
    const { keyValue } = this;
    if (!keyValue.read(bytes, start, end)) {
      throw new UnreadableAnswerError('etcdctl get: got bytes that are no key and value, expected mvccpb.KeyValue');
    }
    const { keyStart, keyEnd, valueStart, valueEnd } = keyValue;
    const key = bytes.subarray(keyStart, keyEnd);
    if (this.lastKey !== undefined && Buffer.compare(key, this.lastKey) <= 0) {
      return;
    }
    // A copy: the page's memory is used again.
    this.lastKey = Buffer.from(key);
    this.keys++;
    this.bytes += key.length + valueEnd - valueStart;
    this.hash = sumOfHashes(this.hash, hashOfKeyValue(bytes, words, start, end));
  }
}

/**
 * Where the next page begins, as far as a command line can say it: arguments hold no NUL, and Node gives them as UTF-8. What is cut off only
 * means that the page begins earlier.
 */
export function startFrom(lastKey: Buffer | undefined): string {
  if (lastKey === undefined) {
    return '';
  }
  const nul = lastKey.indexOf(0);
  const clean = nul === -1 ? lastKey : lastKey.subarray(0, nul);
  const text = clean.toString('utf8');
  // Bytes that are no UTF-8 become this character, which would stand for others.
  const broken = Buffer.from(text).equals(clean) ? -1 : text.indexOf('\uFFFD');
  return broken === -1 ? text : text.slice(0, broken);
}

// RangeResponse (etcd, api/etcdserverpb/rpc.proto): header 1, kvs 2, more 3, count 4.
const KVS = 2;
const MORE = 3;

/** Reads an `etcdserverpb.RangeResponse` as it comes, and keeps of it what is not complete. */
class PageReader {
  private rest: Buffer = Buffer.alloc(0);
  private more = false;

  constructor(private readonly total: Total) {}

  take(chunk: Buffer): void {
    // Memory of its own, because the hash reads it as words.
    const memory = new ArrayBuffer(Math.ceil((this.rest.length + chunk.length) / 4) * 4);
    const bytes = Buffer.from(memory, 0, this.rest.length + chunk.length);
    this.rest.copy(bytes);
    chunk.copy(bytes, this.rest.length);
    const words = new Uint32Array(memory);
    let at = 0;
    for (;;) {
      const field = fieldAt(bytes, at);
      if (field === undefined) {
        break;
      }
      if (field.number === KVS && field.wireType === 2) {
        this.total.add(bytes, words, field.start, field.end);
      } else if (field.number === MORE && field.wireType === 0) {
        this.more = bytes[field.start] === 1;
      }
      at = field.end;
    }
    this.rest = bytes.subarray(at);
  }

  /** Whether etcd has more keys than it was to answer. */
  end(): boolean {
    if (this.rest.length > 0) {
      throw new UnreadableAnswerError(
        `etcdctl get: got an answer whose last ${String(this.rest.length)} bytes are no whole field, expected an etcdserverpb.RangeResponse`,
      );
    }
    return this.more;
  }
}

interface Field {
  readonly number: number;
  readonly wireType: number;
  readonly start: number;
  readonly end: number;
}

/** The field that begins at `at`; undefined when it is not complete yet. */
function fieldAt(bytes: Buffer, at: number): Field | undefined {
  const tag = varintAt(bytes, at);
  if (tag === undefined) {
    return undefined;
  }
  const number = Math.floor(tag.value / 8);
  const wireType = tag.value % 8;
  if (wireType !== 0 && wireType !== 2) {
    throw new UnreadableAnswerError(
      `etcdctl get: got a field of wire type ${String(wireType)}, expected an etcdserverpb.RangeResponse`,
    );
  }
  const content = varintAt(bytes, tag.end);
  if (content === undefined) {
    return undefined;
  }
  if (wireType === 0) {
    return { number, wireType, start: tag.end, end: content.end };
  }
  if (content.value > MAX_MESSAGE_BYTES) {
    throw new UnreadableAnswerError(
      `etcdctl get: got a field of ${String(content.value)} bytes, expected at most ${String(MAX_MESSAGE_BYTES)}`,
    );
  }
  const end = content.end + content.value;
  return end > bytes.length ? undefined : { number, wireType, start: content.end, end };
}

const MAX_VARINT_BYTES = 10;
// etcd's own limit for a request is 1.5 MB by default; what is longer than this is no key of anybody.
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;

function varintAt(bytes: Buffer, at: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let i = 0, unit = 1; i < MAX_VARINT_BYTES; i++, unit *= 128) {
    const byte = bytes[at + i];
    if (byte === undefined) {
      return undefined;
    }
    value += (byte & 0x7f) * unit;
    if (byte < 0x80) {
      return { value, end: at + i + 1 };
    }
  }
  throw new UnreadableAnswerError(
    'etcdctl get: got a number of more than ten bytes, expected an etcdserverpb.RangeResponse',
  );
}
