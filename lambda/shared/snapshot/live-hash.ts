import { crc32c } from './crc32c';

/**
 * A hash over live keys in any order: the sum, modulo 2^32, of the CRC-32C of each one's `mvccpb.KeyValue` (key, revisions, version, value and
 * lease). etcd stores those bytes as a row's value and answers a read with the very same, so that the file and a client can be compared.
 */
export function sumOfHashes(sum: number, hash: number): number {
  return (sum + hash) >>> 0;
}

/** The hash of the one message `bytes[start, end)`. `words` is the same memory as `bytes`, as little-endian words. */
export function hashOfKeyValue(bytes: Uint8Array, words: Uint32Array, start: number, end: number): number {
  return crc32c(0, bytes, words, start, end);
}
