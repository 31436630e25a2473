// CRC-32C (Castagnoli, RFC 3720 appendix B.4), sixteen bytes a step: table n holds what a byte does n places further on.
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(16 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
    }
    tables[byte] = crc;
  }
  for (let place = 256; place < tables.length; place++) {
    const before = at(tables, place - 256);
    tables[place] = (before >>> 8) ^ at(tables, before & 0xff);
  }
  return tables;
}

function at(tables: Int32Array, index: number): number {
  return tables[index] as number;
}

/**
 * Goes on with a CRC-32C over `bytes[start, end)`; begin with 0. `words` is the same memory as `bytes`, as little-endian words. Returns
 * an unsigned number of 32 bits.
 */
export function crc32c(crc: number, bytes: Uint8Array, words: Uint32Array, start: number, end: number): number {
  const t = TABLES;
  let c = ~crc;
  let i = start;
  for (; i < end && (i & 3) !== 0; i++) {
    c = (c >>> 8) ^ (t[(c ^ (bytes[i] as number)) & 0xff] as number);
  }
  for (let w = i >> 2; i + 16 <= end; i += 16, w += 4) {
    c ^= words[w] as number;
    const d = words[w + 1] as number;
    const e = words[w + 2] as number;
    const f = words[w + 3] as number;
    c =
      (t[3840 | (c & 0xff)] as number) ^
      (t[3584 | ((c >>> 8) & 0xff)] as number) ^
      (t[3328 | ((c >>> 16) & 0xff)] as number) ^
      (t[3072 | (c >>> 24)] as number) ^
      (t[2816 | (d & 0xff)] as number) ^
      (t[2560 | ((d >>> 8) & 0xff)] as number) ^
      (t[2304 | ((d >>> 16) & 0xff)] as number) ^
      (t[2048 | (d >>> 24)] as number) ^
      (t[1792 | (e & 0xff)] as number) ^
      (t[1536 | ((e >>> 8) & 0xff)] as number) ^
      (t[1280 | ((e >>> 16) & 0xff)] as number) ^
      (t[1024 | (e >>> 24)] as number) ^
      (t[768 | (f & 0xff)] as number) ^
      (t[512 | ((f >>> 8) & 0xff)] as number) ^
      (t[256 | ((f >>> 16) & 0xff)] as number) ^
      (t[f >>> 24] as number);
  }
  for (; i < end; i++) {
    c = (c >>> 8) ^ (t[(c ^ (bytes[i] as number)) & 0xff] as number);
  }
  return ~c >>> 0;
}
