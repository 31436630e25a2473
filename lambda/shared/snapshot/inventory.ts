import { Fields, type KeyValue } from './key-value';
import { LiveSet, type LiveSetListener } from './live-set';
import type { Inventory, KubernetesFacts } from './facts';

const REGISTRY = Buffer.from('/registry/');
const KUBE_SYSTEM = Buffer.from('/registry/namespaces/kube-system');
const ENCRYPTED = Buffer.from('k8s:enc:');
const KUBERNETES_PROTOBUF = Buffer.from('k8s\0');
const SLASH = 0x2f;
// Longer than any group, resource and namespace of Kubernetes together.
const MAX_PREFIX_BYTES = 512;
const MAX_GROUPS = 5000;
const LARGEST = 10;
const MAX_KEY_CHARACTERS = 512;

const BEYOND_BOUNDS = 0;
const OTHER = 1;
const EVENTS = 2;

const LEASED = 1;
const SECRET = 2;
const PLAIN_TEXT = 4;

interface Group {
  readonly kind: string;
  readonly namespace: string | undefined;
  objects: number;
  bytes: number;
}

/** Takes in the rows of etcd's `key` bucket, and knows at the end which objects of Kubernetes are alive. Keeps no value. */
export class InventoryReader implements LiveSetListener {
  private readonly live: LiveSet;
  private readonly groups: Group[] = [
    { kind: '', namespace: undefined, objects: 0, bytes: 0 },
    { kind: '(other)', namespace: undefined, objects: 0, bytes: 0 },
    { kind: 'events', namespace: undefined, objects: 0, bytes: 0 },
  ];
  private readonly groupByPrefix = new Map<string, number>();
  private objects = 0;
  private bytes = 0;
  private leased = 0;
  private secrets = 0;
  private plainTextSecrets = 0;
  private emptyKey = false;
  private kubeSystemUid: string | null = null;
  private kubeSystemEncrypted = false;
  private largest: { readonly bytes: number; readonly position: number }[] = [];

  constructor(maxSlots?: number) {
    this.live = new LiveSet(this, maxSlots);
  }

  /** A row that is no deletion. `position`: where in the file its value lies. */
  put(bytes: Buffer, row: KeyValue, position: number): void {
    const { keyStart, keyEnd, valueStart, valueEnd } = row;
    if (keyStart === keyEnd) {
      // Not a key of a user: `snapshot restore --bump-revision` writes such a row to raise the revision.
      this.emptyKey = true;
      return;
    }
    const group = this.groupOf(bytes, keyStart, keyEnd);
    let marks = row.hasLease ? LEASED : 0;
    if (this.groups[group]?.kind === 'secrets') {
      marks |= SECRET | (startsWith(bytes, valueStart, valueEnd, ENCRYPTED) ? 0 : PLAIN_TEXT);
    }
    this.live.put(bytes, keyStart, keyEnd, {
      group,
      bytes: keyEnd - keyStart + valueEnd - valueStart,
      marks,
      position,
    });
    if (keyEnd - keyStart === KUBE_SYSTEM.length && startsWith(bytes, keyStart, keyEnd, KUBE_SYSTEM)) {
      this.kubeSystemEncrypted = startsWith(bytes, valueStart, valueEnd, ENCRYPTED);
      this.kubeSystemUid = this.kubeSystemEncrypted ? null : uidOf(bytes, valueStart, valueEnd);
    }
  }

  /** A row that deletes its key. */
  delete(bytes: Buffer, { keyStart, keyEnd }: KeyValue): void {
    if (keyStart === keyEnd) {
      this.emptyKey = false;
      return;
    }
    this.live.delete(bytes, keyStart, keyEnd);
    if (keyEnd - keyStart === KUBE_SYSTEM.length && startsWith(bytes, keyStart, keyEnd, KUBE_SYSTEM)) {
      this.kubeSystemUid = null;
      this.kubeSystemEncrypted = false;
    }
  }

  /** Ends a walk over all rows. True when they have to be walked once more. */
  endWalk(): boolean {
    this.largest = [...this.largest, ...this.live.largest(LARGEST)]
      .sort((a, b) => b.bytes - a.bytes || a.position - b.position)
      .slice(0, LARGEST);
    return this.live.nextShare();
  }

  added(group: number, bytes: number, marks: number): void {
    this.count(group, 1, bytes, marks);
  }

  removed(group: number, bytes: number, marks: number): void {
    this.count(group, -1, -bytes, marks);
  }

  /** Live keys as etcdutl counts them, which takes an empty key for one. */
  get liveKeys(): number {
    return this.objects + (this.emptyKey ? 1 : 0);
  }

  kubernetes(): KubernetesFacts {
    return {
      kubeSystemUid: this.kubeSystemUid,
      kubeSystemEncrypted: this.kubeSystemEncrypted,
      secrets: { total: this.secrets, plainText: this.plainTextSecrets },
    };
  }

  /** `readRow` reads the first bytes of a row's value at a place in the file. */
  inventory(readRow: (position: number) => Buffer): Inventory {
    const beyond = this.groups[BEYOND_BOUNDS] as Group;
    const events = this.groups[EVENTS] as Group;
    const kinds = new Map<string, { objects: number; bytes: number; namespaces: Group[] }>();
    for (const group of this.groups.slice(OTHER)) {
      if (group === events || group.objects === 0) {
        continue;
      }
      const kind = kinds.get(group.kind) ?? { objects: 0, bytes: 0, namespaces: [] };
      kind.objects += group.objects;
      kind.bytes += group.bytes;
      if (group.namespace !== undefined) {
        kind.namespaces.push(group);
      }
      kinds.set(group.kind, kind);
    }
    return {
      objects: this.objects,
      bytes: this.bytes,
      leased: this.leased,
      kinds: [...kinds]
        .map(([kind, { objects, bytes, namespaces }]) => ({
          kind,
          objects,
          bytes,
          namespaces: namespaces
            .map((group) => ({ namespace: group.namespace ?? '', objects: group.objects, bytes: group.bytes }))
            .sort((a, b) => b.bytes - a.bytes || compareText(a.namespace, b.namespace)),
        }))
        .sort((a, b) => b.bytes - a.bytes || compareText(a.kind, b.kind)),
      beyondBounds: { objects: beyond.objects, bytes: beyond.bytes },
      events: { objects: events.objects, bytes: events.bytes },
      largest: this.largest.map(({ bytes, position }) => ({ key: keyAt(readRow(position)), bytes })),
    };
  }

  private count(group: number, objects: number, bytes: number, marks: number): void {
    const counted = this.groups[group] as Group;
    counted.objects += objects;
    counted.bytes += bytes;
    this.objects += objects;
    this.bytes += bytes;
    if ((marks & LEASED) !== 0) {
      this.leased += objects;
    }
    if ((marks & SECRET) !== 0) {
      this.secrets += objects;
    }
    if ((marks & PLAIN_TEXT) !== 0) {
      this.plainTextSecrets += objects;
    }
  }

  /**
   * `/registry/<resource>/[<namespace>/]<name>`, or `/registry/<group>/<resource>/[<namespace>/]<name>` where the group has a dot in its
   * name; `services` is followed by `specs` or `endpoints` (Kubernetes, pkg/registry/<group>/<resource>/storage, apiserver's generic store).
   */
  private groupOf(bytes: Buffer, start: number, end: number): number {
    if (!startsWith(bytes, start, end, REGISTRY)) {
      return OTHER;
    }
    const kindStart = start + REGISTRY.length;
    let kindEnd = slashFrom(bytes, kindStart, end);
    if (kindEnd === -1) {
      return OTHER;
    }
    if (holdsDot(bytes, kindStart, kindEnd) || isServices(bytes, kindStart, kindEnd)) {
      const second = slashFrom(bytes, kindEnd + 1, end);
      kindEnd = second === -1 ? kindEnd : second;
    }
    const namespaceEnd = slashFrom(bytes, kindEnd + 1, end);
    const prefixEnd = namespaceEnd === -1 ? kindEnd : namespaceEnd;
    if (prefixEnd - kindStart > MAX_PREFIX_BYTES) {
      return OTHER;
    }
    const prefix = bytes.toString('latin1', kindStart, prefixEnd);
    const known = this.groupByPrefix.get(prefix);
    if (known !== undefined) {
      return known;
    }
    const kind = printable(bytes.toString('latin1', kindStart, kindEnd));
    const isKnownLater = this.groupByPrefix.size < MAX_GROUPS;
    if (kind === 'events') {
      if (isKnownLater) {
        this.groupByPrefix.set(prefix, EVENTS);
      }
      return EVENTS;
    }
    if (!isKnownLater) {
      return BEYOND_BOUNDS;
    }
    const namespace = namespaceEnd === -1 ? undefined : printable(bytes.toString('latin1', kindEnd + 1, namespaceEnd));
    this.groups.push({ kind, namespace, objects: 0, bytes: 0 });
    this.groupByPrefix.set(prefix, this.groups.length - 1);
    return this.groups.length - 1;
  }
}

/** `metadata.uid` of an object as the API server stores it: in protobuf behind `k8s\0`, or as JSON. Null when there is none to be found. */
function uidOf(bytes: Buffer, start: number, end: number): string | null {
  if (startsWith(bytes, start, end, KUBERNETES_PROTOBUF)) {
    // runtime.Unknown: raw 2; of an object: metadata 1; of ObjectMeta: uid 5 (k8s.io/apimachinery, generated.proto).
    const raw = fieldOf(bytes, start + KUBERNETES_PROTOBUF.length, end, 2);
    const metadata = raw && fieldOf(bytes, raw.start, raw.end, 1);
    const uid = metadata && fieldOf(bytes, metadata.start, metadata.end, 5);
    return uid === undefined ? null : uidText(bytes.toString('latin1', uid.start, uid.end));
  }
  try {
    const parsed = JSON.parse(bytes.toString('utf8', start, end)) as {
      readonly metadata?: { readonly uid?: unknown };
    } | null;
    const uid = parsed?.metadata?.uid;
    return typeof uid === 'string' ? uidText(uid) : null;
  } catch {
    // Neither form: the identity is unknown, which verify refuses where it was known before.
    return null;
  }
}

function uidText(text: string): string | null {
  return /^[0-9A-Za-z-]{1,64}$/.test(text) ? text : null;
}

function fieldOf(
  bytes: Buffer,
  start: number,
  end: number,
  number: number,
): { readonly start: number; readonly end: number } | undefined {
  const fields = new Fields(bytes, start, end);
  while (fields.next()) {
    if (fields.field === number && fields.wireType === 2) {
      return { start: fields.start, end: fields.end };
    }
  }
  return undefined;
}

/** The key at the beginning of a KeyValue, whose rest may be missing. */
function keyAt(value: Buffer): string {
  const fields = new Fields(value, 0, value.length);
  return fields.next() && fields.field === 1
    ? printable(value.toString('latin1', fields.start, Math.min(fields.end, fields.start + MAX_KEY_CHARACTERS)))
    : '';
}

function startsWith(bytes: Buffer, start: number, end: number, prefix: Buffer): boolean {
  if (end - start < prefix.length) {
    return false;
  }
  for (let i = 0; i < prefix.length; i++) {
    if (bytes[start + i] !== prefix[i]) {
      return false;
    }
  }
  return true;
}

function slashFrom(bytes: Buffer, start: number, end: number): number {
  for (let i = start; i < end; i++) {
    if (bytes[i] === SLASH) {
      return i;
    }
  }
  return -1;
}

const DOT = 0x2e;
const SERVICES = Buffer.from('services');

function holdsDot(bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    if (bytes[i] === DOT) {
      return true;
    }
  }
  return false;
}

function isServices(bytes: Buffer, start: number, end: number): boolean {
  return end - start === SERVICES.length && startsWith(bytes, start, end, SERVICES);
}

function printable(text: string): string {
  return text.replace(/[^ -~]/g, '?');
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
