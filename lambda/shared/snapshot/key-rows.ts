import { SnapshotDamagedError } from './damage';
import type { InventoryReader } from './inventory';
import { KeyValue } from './key-value';
import { hashOfKeyValue } from './live-hash';
import type { Extent } from './page-file';
import type { Visitor } from './tree';

/** Name of the bucket that holds every revision of every key. */
export const KEY_BUCKET = 'key';

// A row's key: main revision u64, '_', sub revision u64, big endian; behind that of a deletion a 't' (etcd, server/storage/mvcc/revision.go).
const REVISION_BYTES = 17;
const UNDERSCORE = 0x5f;
const TOMBSTONE = 0x74;

/** Reads the rows of the `key` bucket in the order of their revisions. */
export class KeyRows {
  /** The newest main revision so far. */
  revision = 0;
  tombstones = 0;
  private readonly keyValue = new KeyValue();

  constructor(private readonly inventory: InventoryReader) {}

  /** Throws SnapshotDamagedError when the row is none that etcd writes. */
  read({ bytes, words, position }: Extent, key: number, value: number, end: number): void {
    this.revision = readRevision(bytes, key, value);
    const { keyValue } = this;
    if (!keyValue.read(bytes, value, end)) {
      throw new SnapshotDamagedError(
        'bad-content',
        `revision ${String(this.revision)}: got ${String(end - value)} bytes that are no key and value, expected etcd's mvccpb.KeyValue`,
      );
    }
    if (value - key > REVISION_BYTES) {
      this.tombstones++;
      this.inventory.delete(bytes, keyValue);
    } else {
      this.inventory.put(bytes, keyValue, position + value, hashOfKeyValue(bytes, words, value, end));
    }
  }
}

/** Walks the `key` bucket and nothing else, for what did not fit into memory in one walk. */
export class KeyRowsAgain implements Visitor {
  private isKeyBucket = false;
  private readonly rowsOfKeys: KeyRows;

  constructor(inventory: InventoryReader) {
    this.rowsOfKeys = new KeyRows(inventory);
  }

  bucket(_depth: number, { bytes }: Extent, name: number, end: number): void {
    this.isKeyBucket = bytes.toString('latin1', name, end) === KEY_BUCKET;
  }

  row(depth: number, extent: Extent, key: number, value: number, end: number): void {
    if (this.isKeyBucket && depth === 1) {
      this.rowsOfKeys.read(extent, key, value, end);
    }
  }

  rows(): void {
    // The hash is known from the first walk.
  }

  nested(): void {
    // Has no value.
  }
}

function readRevision(bytes: Buffer, start: number, end: number): number {
  const length = end - start;
  const isTombstone = length === REVISION_BYTES + 1 && bytes[end - 1] === TOMBSTONE;
  const main = length < 8 ? -1 : bytes.readInt32BE(start) * 2 ** 32 + bytes.readUInt32BE(start + 4);
  if (
    !(isTombstone || length === REVISION_BYTES) ||
    bytes[start + 8] !== UNDERSCORE ||
    (bytes[start + 9] as number) >= 0x80 ||
    main < 0 ||
    main > Number.MAX_SAFE_INTEGER
  ) {
    throw new SnapshotDamagedError(
      'bad-content',
      `bucket 'key': got a row whose key of ${String(length)} bytes is no revision, expected ${String(REVISION_BYTES)} bytes of etcd's form, or ${String(REVISION_BYTES + 1)} for a deletion`,
    );
  }
  return main;
}
