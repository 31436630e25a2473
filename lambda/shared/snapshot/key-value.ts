/**
 * The fields of a `mvccpb.KeyValue` (etcd, api/mvccpb/kv.proto) that the proof needs, as places in the bytes that were read: key 1,
 * create_revision 2, mod_revision 3, version 4, value 5, lease 6. One object is used again and again; nothing is copied.
 */
export class KeyValue {
  keyStart = 0;
  keyEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  hasLease = false;

  /** Reads `bytes[start, end)`. False when these bytes are no such message. */
  read(bytes: Uint8Array, start: number, end: number): boolean {
    this.keyStart = this.keyEnd = this.valueStart = this.valueEnd = start;
    this.hasLease = false;
    const fields = new Fields(bytes, start, end);
    while (fields.next()) {
      // Wire types: 0 is a varint, 2 has a length.
      if (fields.field === 1 || fields.field === 5) {
        if (fields.wireType !== 2) {
          return false;
        }
        if (fields.field === 1) {
          this.keyStart = fields.start;
          this.keyEnd = fields.end;
        } else {
          this.valueStart = fields.start;
          this.valueEnd = fields.end;
        }
      } else if (fields.field <= 6) {
        if (fields.wireType !== 0) {
          return false;
        }
        if (fields.field === 6) {
          this.hasLease = fields.isNonZero;
        }
      }
    }
    return fields.sound;
  }
}

/** Goes through the fields of a protobuf message without a schema (protobuf.dev/programming-guides/encoding). */
export class Fields {
  field = 0;
  wireType = 0;
  /** Where the field's content lies; of a varint, its own bytes. */
  start = 0;
  end = 0;
  /** A varint's value is not 0. */
  isNonZero = false;
  /** False when the bytes are no message. */
  sound = true;
  private at: number;

  constructor(
    private readonly bytes: Uint8Array,
    start: number,
    private readonly limit: number,
  ) {
    this.at = start;
  }

  /** Goes to the next field. False at the end, and at what is no field. */
  next(): boolean {
    if (this.at >= this.limit) {
      return false;
    }
    const tag = this.length();
    if (tag === undefined || tag < 8 || tag > 0xffff_ffff) {
      return this.unsound();
    }
    this.field = Math.floor(tag / 8);
    this.wireType = tag & 7;
    this.start = this.at;
    switch (this.wireType) {
      case 0:
        return this.varint();
      case 1:
        return this.skip(8);
      case 2: {
        const length = this.length();
        if (length === undefined) {
          return this.unsound();
        }
        this.start = this.at;
        return this.skip(length);
      }
      case 5:
        return this.skip(4);
      default:
        // Groups: etcd's and Kubernetes' messages have none.
        return this.unsound();
    }
  }

  /** The value of the varint that this field is; a decimal number beyond 2^53 too. */
  bigint(): bigint {
    let value = 0n;
    for (let i = this.end - 1; i >= this.start; i--) {
      value = (value << 7n) | BigInt((this.bytes[i] as number) & 0x7f);
    }
    return BigInt.asUintN(64, value);
  }

  private varint(): boolean {
    this.isNonZero = false;
    for (let i = 0; i < 10 && this.at < this.limit; i++) {
      const byte = this.bytes[this.at++] as number;
      if ((byte & 0x7f) !== 0) {
        this.isNonZero = true;
      }
      if (byte < 0x80) {
        this.end = this.at;
        // The tenth byte holds the last of 64 bits.
        return i < 9 || byte <= 1 || this.unsound();
      }
    }
    return this.unsound();
  }

  private skip(length: number): boolean {
    if (length > this.limit - this.at) {
      return this.unsound();
    }
    this.at += length;
    this.end = this.at;
    return true;
  }

  /** A varint that is a length or a tag: of use up to 2^53. */
  private length(): number | undefined {
    let value = 0;
    for (let i = 0, unit = 1; i < 8 && this.at < this.limit; i++, unit *= 128) {
      const byte = this.bytes[this.at++] as number;
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) {
        return value;
      }
    }
    return undefined;
  }

  private unsound(): false {
    this.sound = false;
    return false;
  }
}
