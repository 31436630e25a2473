/**
 * HalfSipHash-2-4 with 64 bits of output (github.com/veorq/SipHash, halfsiphash.c). Keyed: whoever may write keys to etcd cannot make
 * two of them collide.
 */
export class HalfSipHash {
  /** The first and the second half of the last hash. */
  low = 0;
  high = 0;

  constructor(
    private readonly key0: number,
    private readonly key1: number,
  ) {}

  hash(bytes: Uint8Array, start: number, end: number): void {
    let v0 = this.key0;
    let v1 = this.key1 ^ 0xee;
    let v2 = 0x6c79_6765 ^ this.key0;
    let v3 = 0x7465_6462 ^ this.key1;
    const words = start + ((end - start) & ~3);
    let last = (end - start) << 24;
    for (let i = words; i < end; i++) {
      last |= (bytes[i] as number) << ((i - words) * 8);
    }
    for (let i = start; i <= words; i += 4) {
      const word =
        i === words
          ? last
          : (bytes[i] as number) |
            ((bytes[i + 1] as number) << 8) |
            ((bytes[i + 2] as number) << 16) |
            ((bytes[i + 3] as number) << 24);
      v3 ^= word;
      for (let round = 0; round < 2; round++) {
        v0 = (v0 + v1) | 0;
        v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
        v0 = (v0 << 16) | (v0 >>> 16);
        v2 = (v2 + v3) | 0;
        v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
        v0 = (v0 + v3) | 0;
        v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
        v2 = (v2 + v1) | 0;
        v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
        v2 = (v2 << 16) | (v2 >>> 16);
      }
      v0 ^= word;
    }
    v2 ^= 0xee;
    for (let half = 0; half < 2; half++) {
      for (let round = 0; round < 4; round++) {
        v0 = (v0 + v1) | 0;
        v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
        v0 = (v0 << 16) | (v0 >>> 16);
        v2 = (v2 + v3) | 0;
        v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
        v0 = (v0 + v3) | 0;
        v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
        v2 = (v2 + v1) | 0;
        v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
        v2 = (v2 << 16) | (v2 >>> 16);
      }
      if (half === 0) {
        this.low = (v1 ^ v3) >>> 0;
        v1 ^= 0xdd;
      } else {
        this.high = (v1 ^ v3) >>> 0;
      }
    }
  }
}
