/** What is wrong with a snapshot, each with an exit code of `etcd-backup verify`. */
export const DAMAGE = {
  /** The file is empty, or shorter than any snapshot. */
  'too-short': 10,
  /** The file's length is none that a snapshot with its trailer has. */
  'bad-length': 11,
  /** The SHA-256 at the end is not that of the bytes before it. */
  'bad-trailer': 12,
  /** Neither meta page is valid. */
  'bad-meta': 13,
  /** A page is not what its place says, or what is in it lies outside of it. */
  'bad-page': 14,
  /** A page is reachable twice, or free and reachable, or neither. */
  'bad-page-graph': 15,
  /** Keys are not in strict order. */
  'bad-key-order': 16,
  /** The free list is not one. */
  'bad-free-list': 17,
  /** The bbolt file is sound, but what is in it is not etcd's. */
  'bad-content': 18,
  /** The compressed file cannot be decompressed. */
  'bad-compression': 19,
} as const;

export type Damage = keyof typeof DAMAGE;

/** The bytes are no sound snapshot. The message names the page and what is wrong, and holds no key or value of etcd. */
export class SnapshotDamagedError extends Error {
  override readonly name = 'SnapshotDamagedError';

  constructor(
    readonly damage: Damage,
    message: string,
    /** Number of the page, where one is to blame. */
    readonly page?: number,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}
