import { crc32c } from '../../../../lambda/shared/snapshot/crc32c';
import { HalfSipHash } from '../../../../lambda/shared/snapshot/half-sip-hash';

const hashed = (bytes: Uint8Array, start = 0, end = bytes.length, crc = 0): number => {
  const buffer = new ArrayBuffer((bytes.length + 7) & ~3);
  new Uint8Array(buffer).set(bytes);
  return crc32c(crc, new Uint8Array(buffer), new Uint32Array(buffer), start, end);
};

describe('crc32c', () => {
  // RFC 3720, appendix B.4; the last one is the usual check value.
  test.each([
    ['32 bytes of zeroes', new Uint8Array(32), 0x8a91_36aa],
    ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8_ab43],
    ['32 bytes, ascending', Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd_794e],
    ['32 bytes, descending', Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113f_db5c],
    ['123456789', Buffer.from('123456789'), 0xe306_9283],
  ])('%s', (_name, bytes, expected) => {
    expect(hashed(bytes)).toBe(expected);
  });

  test('is the same in pieces as at once, wherever a piece begins and ends', () => {
    const bytes = Uint8Array.from({ length: 200 }, (_, index) => (index * 151) & 0xff);
    const whole = hashed(bytes);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(hashed(bytes, cut, bytes.length, hashed(bytes, 0, cut))).toBe(whole);
    }
  });
});

describe('HalfSipHash', () => {
  // github.com/veorq/SipHash, vectors.h, vectors_hsip64: key 0, 1, … 7, and the message 0, 1, … of the given length.
  test.each([
    [0, '218d1f59b9b83cc8'],
    [1, 'be552412f8387315'],
    [2, '064f39ef7c50eb57'],
  ])('%d bytes', (length, expected) => {
    const hash = new HalfSipHash(0x0302_0100, 0x0706_0504);
    hash.hash(
      Uint8Array.from({ length: 8 }, (_, index) => index),
      0,
      length,
    );
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(hash.low, 0);
    bytes.writeUInt32LE(hash.high, 4);
    expect(bytes.toString('hex')).toBe(expected);
  });

  test('depends on every byte and on the key', () => {
    const bytes = Buffer.from('/registry/pods/kube-system/etcd-1');
    const hashes = new Set<number>();
    const hash = new HalfSipHash(1, 2);
    for (let index = -1; index < bytes.length; index++) {
      const other = Buffer.from(bytes);
      if (index >= 0) {
        other.writeUInt8(other.readUInt8(index) ^ 1, index);
      }
      hash.hash(other, 0, other.length);
      hashes.add(hash.low * 2 ** 20 + (hash.high & 0xf_ffff));
    }
    const rekeyed = new HalfSipHash(1, 3);
    rekeyed.hash(bytes, 0, bytes.length);
    hashes.add(rekeyed.low * 2 ** 20 + (rekeyed.high & 0xf_ffff));
    expect(hashes.size).toBe(bytes.length + 2);
  });
});
