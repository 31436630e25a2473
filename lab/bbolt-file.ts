import { createHash } from 'node:crypto';
import { run } from './nodes/run';
import { labBinary } from './nodes/tools';

/** What bbolt itself can be asked to write: `lab bbolt write`. */
export interface BboltFile {
  readonly shape: 'empty' | 'small' | 'deep' | 'overflow' | 'nested' | 'free' | 'free-many' | 'keyless' | 'foreign';
  readonly pageSize: 4096 | 16_384 | 65_536;
  /** Through Tx.WriteTo, as etcd serves a snapshot, or the data file itself. Both with a trailer. */
  readonly as: 'snapshot' | 'file';
  /**
   * How bbolt keeps its free pages; none: not in the file.
   *
   * @default 'array'
   */
  readonly freelist?: 'array' | 'hashmap' | 'none';
}

/** Has bbolt write a file. The same input gives the same bytes. */
export async function bboltWrite(file: string, what: BboltFile): Promise<void> {
  const freelist = what.freelist === 'none' ? ['--no-freelist-sync'] : ['--freelist', what.freelist ?? 'array'];
  const args = ['--shape', what.shape, '--page-size', String(what.pageSize), '--as', what.as, ...freelist];
  await run(labBinary(), ['bbolt', 'write', ...args, file]);
}

/** The bytes before the trailer, and a trailer that fits them. */
export function withTrailer(body: Buffer): Buffer {
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}
