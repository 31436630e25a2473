import { createHash } from 'node:crypto';
import { SnapshotDamagedError } from './damage';
import type { MemberFact, SnapshotFacts } from './facts';
import { Fields } from './key-value';
import type { Extent } from './page-file';

// Of etcd's own rows the longest is a member with many URLs.
const MAX_VALUE_BYTES = 64 * 1024;
// A cluster has some ten members. The ids of removed ones are kept for ever: those beyond are only counted, in the bucket's rows.
const MAX_LISTED = 1000;
const LEASE_ID_BYTES = 8;

type SmallBucketFacts = Pick<
  SnapshotFacts,
  | 'storageVersion'
  | 'consistentIndex'
  | 'term'
  | 'clusterVersion'
  | 'members'
  | 'removedMembers'
  | 'bootstrapClusterId'
  | 'alarms'
  | 'auth'
> & { readonly compactedRevision: number | null };

/** What etcd's buckets other than `key` say (etcd, server/storage/schema). */
export class SmallBuckets {
  /** Rows with one meaning each, by bucket and key. */
  private readonly values = new Map<string, Buffer>();
  private readonly members: MemberFact[] = [];
  private readonly removedMembers: string[] = [];
  private readonly alarms: { memberId: string; alarm: string }[] = [];

  /** Throws SnapshotDamagedError when the row is none that etcd could read. */
  read(bucket: string, { bytes }: Extent, key: number, value: number, end: number): void {
    switch (bucket) {
      case 'meta':
      case 'cluster':
      case 'auth':
        // etcd has some ten rows in these; what is beyond is nobody's.
        if (this.values.size < MAX_LISTED && value - key < 100 && end - value <= MAX_VALUE_BYTES) {
          this.values.set(`${bucket}/${bytes.toString('latin1', key, value)}`, Buffer.from(bytes.subarray(value, end)));
        }
        return;
      case 'members': {
        this.readMember(bytes, key, value, end);
        return;
      }
      case 'members_removed': {
        add(this.removedMembers, memberId(bucket, bytes, key, value));
        return;
      }
      case 'lease': {
        // etcd does not start with another one (etcd, server/storage/schema/lease.go).
        if (value - key !== LEASE_ID_BYTES) {
          throw content(
            bucket,
            `a row whose key has ${String(value - key)} bytes, expected the ${String(LEASE_ID_BYTES)} of a lease id`,
          );
        }
        requireMessage(bucket, bytes, value, end);
        return;
      }
      case 'authUsers':
      case 'authRoles': {
        requireMessage(bucket, bytes, value, end);
        return;
      }
      case 'alarm': {
        this.readAlarm(bytes, key, value);
        return;
      }
    }
  }

  facts(users: number, roles: number): SmallBucketFacts {
    return {
      storageVersion: this.version('meta/storageVersion'),
      consistentIndex: this.uint64('meta/consistent_index'),
      term: this.uint64('meta/term'),
      clusterVersion: this.version('cluster/clusterVersion'),
      members: this.members,
      removedMembers: this.removedMembers,
      bootstrapClusterId:
        this.members.length === 0 || this.members.length === MAX_LISTED
          ? null
          : bootstrapClusterId(this.members.map(({ id }) => id)),
      alarms: this.alarms,
      auth: { enabled: this.values.get('auth/authEnabled')?.[0] === 1, users, roles },
      compactedRevision: this.compactedRevision(),
    };
  }

  private readMember(bytes: Buffer, key: number, value: number, end: number): void {
    const id = memberId('members', bytes, key, value);
    let parsed: unknown;
    try {
      parsed = end - value <= MAX_VALUE_BYTES ? JSON.parse(bytes.toString('utf8', value, end)) : undefined;
    } catch {
      // Said below: what JSON.parse says would quote etcd's bytes.
    }
    if (typeof parsed !== 'object' || parsed === null) {
      throw content('members', `a member of ${String(end - value)} bytes that is no JSON object, expected etcd's`);
    }
    const member = parsed as Readonly<Record<string, unknown>>;
    add(this.members, {
      id,
      name: typeof member['name'] === 'string' ? printable(member['name'].slice(0, 253)) : '',
      peerUrls: urls(member['peerURLs']),
      clientUrls: urls(member['clientURLs']),
      isLearner: member['isLearner'] === true,
    });
  }

  /** The key is an etcdserverpb.AlarmMember: memberID 1, alarm 2. */
  private readAlarm(bytes: Buffer, start: number, end: number): void {
    const fields = new Fields(bytes, start, end);
    let member = 0n;
    let alarm = 0n;
    while (fields.next()) {
      if (fields.wireType === 0 && fields.field === 1) {
        member = fields.bigint();
      } else if (fields.wireType === 0 && fields.field === 2) {
        alarm = fields.bigint();
      }
    }
    if (!fields.sound) {
      throw content(
        'alarm',
        `an alarm of ${String(end - start)} bytes that is none of etcd's, expected its AlarmMember`,
      );
    }
    add(this.alarms, {
      memberId: member.toString(16),
      // etcdserverpb.AlarmType.
      alarm: alarm === 1n ? 'NOSPACE' : alarm === 2n ? 'CORRUPT' : String(alarm),
    });
  }

  private version(name: string): string | null {
    const text = this.values.get(name)?.toString('latin1');
    return text !== undefined && /^\d{1,4}\.\d{1,4}\.\d{1,4}[A-Za-z0-9.+-]{0,32}$/.test(text) ? text : null;
  }

  private uint64(name: string): string | null {
    const value = this.values.get(name);
    return value?.length === 8 ? String(value.readBigUInt64BE(0)) : null;
  }

  private compactedRevision(): number | null {
    // Written when a compaction is done; the scheduled one counts too, because etcd finishes it at its next start.
    const revisions = ['meta/finishedCompactRev', 'meta/scheduledCompactRev'].flatMap((name) => {
      const value = this.values.get(name);
      return value !== undefined && value.length >= 8 ? Number(value.readBigInt64BE(0)) : [];
    });
    return revisions.length === 0 ? null : Math.max(...revisions);
  }
}

/** SHA-1 of all member ids, in order, as bytes; its first eight (etcd, server/etcdserver/api/membership/cluster.go, genID). */
function bootstrapClusterId(members: readonly string[]): string {
  const ids = members.map((id) => BigInt(`0x${id}`)).sort((a, b) => (a < b ? -1 : 1));
  const bytes = Buffer.alloc(8 * ids.length);
  ids.forEach((id, index) => bytes.writeBigUInt64BE(id, index * 8));
  return createHash('sha1').update(bytes).digest().readBigUInt64BE(0).toString(16);
}

function memberId(bucket: string, bytes: Buffer, start: number, end: number): string {
  const id = bytes.toString('latin1', start, Math.min(end, start + 17));
  if (!/^[0-9a-f]{1,16}$/.test(id)) {
    throw content(
      bucket,
      `a row whose key of ${String(end - start)} bytes is no member id, expected up to 16 hex digits`,
    );
  }
  return id;
}

/** etcd does not start with a lease, user or role that is no protobuf message. */
function requireMessage(bucket: string, bytes: Buffer, start: number, end: number): void {
  const fields = new Fields(bytes, start, end);
  while (fields.next()) {
    // Only whether it ends where the value does.
  }
  if (!fields.sound) {
    throw content(bucket, `a row of ${String(end - start)} bytes that is no protobuf message, expected etcd's`);
  }
}

function urls(value: unknown): string[] {
  return Array.isArray(value)
    ? value.slice(0, 20).flatMap((url: unknown) => (typeof url === 'string' ? printable(url.slice(0, 500)) : []))
    : [];
}

function add<Item>(list: Item[], item: Item): void {
  if (list.length < MAX_LISTED) {
    list.push(item);
  }
}

function printable(text: string): string {
  return text.replace(/[^ -~]/g, '?');
}

function content(bucket: string, got: string): SnapshotDamagedError {
  return new SnapshotDamagedError('bad-content', `bucket '${bucket}': got ${got}`);
}
