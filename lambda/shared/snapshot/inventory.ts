import { Fields, type KeyValue } from './key-value';
import { largestFirst, LiveSet, type LiveSetListener } from './live-set';
import type { Inventory, KubernetesFacts } from './facts';
import { sumOfHashes } from './live-hash';

const REGISTRY = Buffer.from('/registry/');
const SECRETS = Buffer.from('/registry/secrets/');
const NODES = Buffer.from('/registry/minions/');
const KUBE_SYSTEM = Buffer.from('/registry/namespaces/kube-system');
const ENCRYPTED = Buffer.from('k8s:enc:');
const KUBERNETES_PROTOBUF = Buffer.from('k8s\0');
const SLASH = 0x2f;
// Longer than any group, resource and namespace of Kubernetes together.
const MAX_PREFIX_BYTES = 512;
// What is counted by name: a cluster with ten kinds in each of 6,000 namespaces fits.
const MAX_GROUPS = 65_536;
// What is named in the end: the largest of these. A receipt has to have room for them.
const MAX_KINDS = 1000;
const MAX_NAMESPACES = 5000;
const LARGEST = 10;
const MAX_NODES = 500;
// Kubernetes is made for 5,000 nodes. Of more than this at one time the rest is left out: some 6 MB at most.
const MAX_NODES_KEPT = 20_000;
// A DNS name (RFC 1123), as the API server demands of a node.
const MAX_NODE_NAME_BYTES = 253;
const MAX_KEY_CHARACTERS = 512;
// A namespace object has some kilobytes. JSON.parse needs many times the memory of what it reads.
const MAX_NAMESPACE_BYTES = 64 * 1024;
const KEY_TAG = (1 << 3) | 2;

const OTHER = 0;
const EVENTS = 1;
const OTHER_KIND = '(other)';
/** In place of a namespace: objects of a kind in namespaces that have no group of their own. No namespace has such a name. */
const BEYOND = '(beyond)';

const LEASED = 1;
const SECRET = 2;
const PLAIN_TEXT = 4;

/** Objects of one kind in one namespace. */
interface Group {
  readonly kind: string;
  /** Undefined: they are in none. */
  readonly namespace: string | undefined;
  objects: number;
  bytes: number;
}

/** Takes in the rows of etcd's `key` bucket, and knows at the end which objects of Kubernetes are alive. Keeps no value. */
export class InventoryReader implements LiveSetListener {
  private readonly live: LiveSet;
  private readonly groups: Group[] = [
    { kind: OTHER_KIND, namespace: undefined, objects: 0, bytes: 0 },
    { kind: 'events', namespace: undefined, objects: 0, bytes: 0 },
  ];
  private readonly groupByPrefix = new Map<string, number>();
  /** The group of a kind for namespaces beyond the bound. */
  private readonly beyondByKind = new Map<string, number>();
  private objects = 0;
  private bytes = 0;
  private hash = 0;
  private leased = 0;
  private secrets = 0;
  private plainTextSecrets = 0;
  private emptyKey = false;
  /** Value of the newest kube-system namespace; null when there is none. */
  private kubeSystem: Buffer | null = null;
  private readonly nodes = new Set<string>();
  private largest: { readonly bytes: number; readonly position: number }[] = [];

  constructor(maxSlots?: number) {
    this.live = new LiveSet(this, maxSlots);
  }

  /** A row that is no deletion. `position`: where in the file its value lies. `hash`: CRC-32C of that value. */
  put(bytes: Buffer, row: KeyValue, position: number, hash: number): void {
    const { keyStart, keyEnd, valueStart, valueEnd } = row;
    if (keyStart === keyEnd) {
      // Not a key of a user: `snapshot restore --bump-revision` writes such a row to raise the revision.
      this.emptyKey = true;
      return;
    }
    let marks = row.hasLease ? LEASED : 0;
    if (startsWith(bytes, keyStart, keyEnd, SECRETS)) {
      marks |= SECRET | (startsWith(bytes, valueStart, valueEnd, ENCRYPTED) ? 0 : PLAIN_TEXT);
    }
    this.live.put(bytes, keyStart, keyEnd, {
      group: this.groupOf(bytes, keyStart, keyEnd),
      bytes: keyEnd - keyStart + valueEnd - valueStart,
      marks,
      position,
      hash,
    });
    if (isKubeSystem(bytes, keyStart, keyEnd)) {
      this.kubeSystem = Buffer.from(
        bytes.subarray(valueStart, Math.min(valueEnd, valueStart + MAX_NAMESPACE_BYTES + 1)),
      );
    }
    const node = nodeName(bytes, keyStart, keyEnd);
    if (node !== undefined && this.nodes.size < MAX_NODES_KEPT) {
      this.nodes.add(node);
    }
  }

  /** A row that deletes its key. */
  delete(bytes: Buffer, { keyStart, keyEnd }: KeyValue): void {
    if (keyStart === keyEnd) {
      this.emptyKey = false;
      return;
    }
    this.live.delete(bytes, keyStart, keyEnd);
    if (isKubeSystem(bytes, keyStart, keyEnd)) {
      this.kubeSystem = null;
    }
    const node = nodeName(bytes, keyStart, keyEnd);
    if (node !== undefined) {
      this.nodes.delete(node);
    }
  }

  /** Ends a walk over all rows. True when they have to be walked once more. */
  endWalk(): boolean {
    this.largest = [...this.largest, ...this.live.largest(LARGEST)].sort(largestFirst).slice(0, LARGEST);
    return this.live.nextShare();
  }

  added(group: number, bytes: number, marks: number, hash: number): void {
    this.count(group, 1, bytes, marks);
    this.hash = sumOfHashes(this.hash, hash);
  }

  removed(group: number, bytes: number, marks: number, hash: number): void {
    this.count(group, -1, -bytes, marks);
    this.hash = sumOfHashes(this.hash, -hash);
  }

  /** Live keys as etcdutl counts them, which takes an empty key for one. */
  get liveKeys(): number {
    return this.objects + (this.emptyKey ? 1 : 0);
  }

  /** Over the live keys, but for an empty one, which no client can read. */
  get liveHash(): number {
    return this.hash;
  }

  kubernetes(): KubernetesFacts {
    const { kubeSystem } = this;
    const kubeSystemEncrypted = kubeSystem !== null && startsWith(kubeSystem, 0, kubeSystem.length, ENCRYPTED);
    return {
      kubeSystemUid: kubeSystem === null || kubeSystemEncrypted ? null : uidOf(kubeSystem),
      kubeSystemEncrypted,
      objects: this.objects - (this.groups[OTHER] as Group).objects,
      secrets: { total: this.secrets, plainText: this.plainTextSecrets },
    };
  }

  /** `readRow` reads the first bytes of a row's value at a place in the file. */
  inventory(readRow: (position: number) => Buffer): Inventory {
    const events = this.groups[EVENTS] as Group;
    const groups = this.groups.filter((group) => group !== events && group.objects > 0).sort(largestGroupFirst);
    const kinds = Map.groupBy(groups, ({ kind }) => kind);
    const namedKinds = [...kinds]
      .map(([kind, members]) => ({ kind, ...sumOf(members), members }))
      .sort(largestGroupFirst)
      .slice(0, MAX_KINDS);
    const isNamed = new Set(
      groups.filter(({ namespace }) => namespace !== undefined && namespace !== BEYOND).slice(0, MAX_NAMESPACES),
    );
    const namedObjects = new Set(namedKinds.map(({ kind }) => kind));
    return {
      objects: this.objects,
      bytes: this.bytes,
      leased: this.leased,
      kinds: namedKinds.map(({ kind, objects, bytes, members }) => ({
        kind,
        objects,
        bytes,
        namespaces: members
          .filter((group) => isNamed.has(group))
          .map(({ namespace = '', objects: count, bytes: size }) => ({ namespace, objects: count, bytes: size })),
      })),
      beyondBounds: sumOf(
        groups.filter(
          (group) => !namedObjects.has(group.kind) || (group.namespace !== undefined && !isNamed.has(group)),
        ),
      ),
      events: { objects: events.objects, bytes: events.bytes },
      largest: this.largest.map(({ bytes, position }) => ({ key: keyAt(readRow(position)), bytes })),
      nodes: [...this.nodes].sort().slice(0, MAX_NODES),
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
    const group = this.newGroup(
      printable(bytes.toString('latin1', kindStart, kindEnd)),
      namespaceEnd === -1 ? undefined : printable(bytes.toString('latin1', kindEnd + 1, namespaceEnd)),
    );
    if (this.groupByPrefix.size < MAX_GROUPS) {
      this.groupByPrefix.set(prefix, group);
    }
    return group;
  }

  private newGroup(kind: string, namespace: string | undefined): number {
    if (kind === 'events') {
      return EVENTS;
    }
    if (this.groups.length < MAX_GROUPS) {
      return this.addGroup(kind, namespace);
    }
    const known = this.beyondByKind.get(kind);
    if (known !== undefined) {
      return known;
    }
    if (this.beyondByKind.size >= MAX_KINDS) {
      return OTHER;
    }
    const group = this.addGroup(kind, namespace === undefined ? undefined : BEYOND);
    this.beyondByKind.set(kind, group);
    return group;
  }

  private addGroup(kind: string, namespace: string | undefined): number {
    return this.groups.push({ kind, namespace, objects: 0, bytes: 0 }) - 1;
  }
}

/** `metadata.uid` of an object as the API server stores it: in protobuf behind `k8s\0`, or as JSON. Null when there is none to be found. */
function uidOf(value: Buffer): string | null {
  const end = value.length;
  if (startsWith(value, 0, end, KUBERNETES_PROTOBUF)) {
    // runtime.Unknown: raw 2; of an object: metadata 1; of ObjectMeta: uid 5 (k8s.io/apimachinery, generated.proto).
    const raw = fieldOf(value, KUBERNETES_PROTOBUF.length, end, 2);
    const metadata = raw && fieldOf(value, raw.start, raw.end, 1);
    const uid = metadata && fieldOf(value, metadata.start, metadata.end, 5);
    return uid === undefined ? null : uidText(value.toString('latin1', uid.start, uid.end));
  }
  if (end > MAX_NAMESPACE_BYTES) {
    return null;
  }
  try {
    const parsed = JSON.parse(value.toString('utf8')) as { readonly metadata?: { readonly uid?: unknown } } | null;
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

/** The key at the beginning of a KeyValue, of which there may be no more than the beginning. */
function keyAt(value: Buffer): string {
  // etcd writes field 1 first: its tag, its length as a varint, and the key.
  if (value[0] !== KEY_TAG) {
    return '';
  }
  let at = 1;
  let length = 0;
  for (let unit = 1; at < value.length; unit *= 128) {
    const byte = value[at++] as number;
    length += (byte & 0x7f) * unit;
    if (byte < 0x80) {
      break;
    }
  }
  return printable(value.toString('latin1', at, at + Math.min(length, MAX_KEY_CHARACTERS)));
}

function isKubeSystem(bytes: Buffer, start: number, end: number): boolean {
  return end - start === KUBE_SYSTEM.length && startsWith(bytes, start, end, KUBE_SYSTEM);
}

/** The name in the key of a Kubernetes node; undefined when it is another key. */
function nodeName(bytes: Buffer, start: number, end: number): string | undefined {
  const from = start + NODES.length;
  if (!startsWith(bytes, start, end, NODES) || end === from || end - from > MAX_NODE_NAME_BYTES) {
    return undefined;
  }
  return slashFrom(bytes, from, end) === -1 ? printable(bytes.toString('latin1', from, end)) : undefined;
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

function sumOf(groups: readonly Group[]): { objects: number; bytes: number } {
  return groups.reduce((sum, { objects, bytes }) => ({ objects: sum.objects + objects, bytes: sum.bytes + bytes }), {
    objects: 0,
    bytes: 0,
  });
}

function largestGroupFirst(
  a: { readonly kind: string; readonly namespace?: string | undefined; readonly bytes: number },
  b: typeof a,
): number {
  return b.bytes - a.bytes || compareText(a.kind, b.kind) || compareText(a.namespace ?? '', b.namespace ?? '');
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
