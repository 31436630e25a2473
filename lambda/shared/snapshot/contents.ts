import { crc32c } from './crc32c';
import { SnapshotDamagedError } from './damage';
import type { SnapshotFacts } from './facts';
import type { InventoryReader } from './inventory';
import { KEY_BUCKET, KeyRows } from './key-rows';
import type { Extent } from './page-file';
import { SmallBuckets } from './small-buckets';
import type { Visitor } from './tree';

interface BucketFact {
  readonly name: string;
  rows: number;
  bytes: number;
}

// etcd has ten.
const MAX_BUCKETS = 100;
// Every etcd creates these at its first start.
const REQUIRED_BUCKETS = [KEY_BUCKET, 'meta'];

/** What the first walk over a snapshot gives: the hash over everything, in etcdutl's order, and what etcd's buckets say. */
export class Contents implements Visitor {
  private crc = 0;
  private current: BucketFact = { name: '', rows: 0, bytes: 0 };
  private readonly buckets: BucketFact[] = [];
  private readonly keyRows: KeyRows;
  private readonly small = new SmallBuckets();

  constructor(private readonly inventory: InventoryReader) {
    this.keyRows = new KeyRows(inventory);
  }

  bucket(_depth: number, extent: Extent, name: number, end: number): void {
    if (this.buckets.length >= MAX_BUCKETS) {
      throw new SnapshotDamagedError(
        'bad-content',
        `root bucket: got more than ${String(MAX_BUCKETS)} buckets, expected etcd's ten`,
      );
    }
    this.crc = crc32c(this.crc, extent.bytes, extent.words, name, end);
    this.current = {
      name: extent.bytes.toString('latin1', name, Math.min(end, name + 128)).replace(/[^ -~]/g, '?'),
      rows: 0,
      bytes: 0,
    };
    this.buckets.push(this.current);
  }

  row(depth: number, extent: Extent, key: number, value: number, end: number): void {
    if (depth === 0) {
      throw new SnapshotDamagedError('bad-content', 'root bucket: got a value, expected buckets only');
    }
    // etcdutl does not look into buckets within buckets, of which etcd has none.
    if (depth > 1) {
      return;
    }
    const { current } = this;
    current.rows++;
    current.bytes += end - key;
    if (current.name === KEY_BUCKET) {
      this.keyRows.read(extent, key, value, end);
    } else {
      this.small.read(current.name, extent, key, value, end);
    }
  }

  rows(depth: number, { bytes, words }: Extent, start: number, end: number): void {
    if (depth === 1) {
      this.crc = crc32c(this.crc, bytes, words, start, end);
    }
  }

  nested(depth: number, extent: Extent, key: number, end: number): void {
    if (this.current.name === KEY_BUCKET) {
      throw new SnapshotDamagedError('bad-content', "bucket 'key': got a bucket in it, expected rows only");
    }
    if (depth === 1) {
      this.current.rows++;
      this.current.bytes += end - key;
      this.crc = crc32c(this.crc, extent.bytes, extent.words, key, end);
    }
  }

  /** Throws SnapshotDamagedError when the file is none of etcd's, however sound it is. */
  facts(): Omit<
    SnapshotFacts,
    'sizeBytes' | 'trailerSha256' | 'pageSizeBytes' | 'totalSizeBytes' | 'pages' | 'inventory' | 'kubernetes'
  > {
    const missing = REQUIRED_BUCKETS.filter((name) => !this.buckets.some((bucket) => bucket.name === name));
    if (missing.length > 0) {
      throw new SnapshotDamagedError(
        'bad-content',
        `root bucket: got no bucket ${missing.map((name) => `'${name}'`).join(' and ')}, expected both ${REQUIRED_BUCKETS.map((name) => `'${name}'`).join(' and ')}; the file is not etcd's`,
      );
    }
    const rowsOf = (name: string) => this.buckets.find((bucket) => bucket.name === name)?.rows ?? 0;
    const { compactedRevision, ...small } = this.small.facts(rowsOf('authUsers'), rowsOf('authRoles'));
    return {
      ...small,
      hash: this.crc,
      liveHash: this.inventory.liveHash,
      revision: this.keyRows.revision,
      totalKey: { rows: this.buckets.reduce((sum, { rows }) => sum + rows, 0), live: this.inventory.liveKeys },
      buckets: this.buckets,
      mvcc: { tombstones: this.keyRows.tombstones, compactedRevision },
      leases: rowsOf('lease'),
    };
  }
}
