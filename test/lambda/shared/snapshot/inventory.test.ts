import { InventoryReader } from '../../../../lambda/shared/snapshot/inventory';
import { KeyValue } from '../../../../lambda/shared/snapshot/key-value';
import { field, keyRow } from './bolt-file';

const UID = 'd86af689-a947-49ac-a18d-b672ac7d12ae';

interface Written {
  readonly key: string;
  /** null: a deletion. */
  readonly value: Buffer | string | null;
  readonly lease?: number;
}

function read(written: readonly Written[]) {
  const reader = new InventoryReader();
  const values: Buffer[] = [];
  const keyValue = new KeyValue();
  for (const { key, value, lease = 0 } of written) {
    const row = Buffer.from(keyRow(1, key, value, { lease }).value ?? '');
    expect(keyValue.read(row, 0, row.length)).toBe(true);
    if (value === null) {
      reader.delete(row, keyValue);
    } else {
      reader.put(row, keyValue, values.length, row.length);
    }
    values.push(row);
  }
  expect(reader.endWalk()).toBe(false);
  return {
    inventory: reader.inventory((position) => values[position] ?? Buffer.alloc(0)),
    kubernetes: reader.kubernetes(),
    liveKeys: reader.liveKeys,
  };
}

const namespaceObject = (uid: string): Buffer =>
  Buffer.concat([
    Buffer.from('k8s\0'),
    field(1, field(2, Buffer.from('Namespace'))),
    field(2, field(1, Buffer.concat([field(1, Buffer.from('kube-system')), field(5, Buffer.from(uid))]))),
  ]);

describe('the inventory', () => {
  // Where Kubernetes' API server puts objects: its storage prefixes, and <group>/<resource> for custom resources.
  test.each([
    ['/registry/pods/kube-system/etcd-1', 'pods', 'kube-system'],
    ['/registry/minions/node-1', 'minions', undefined],
    ['/registry/namespaces/default', 'namespaces', undefined],
    ['/registry/services/specs/default/kubernetes', 'services/specs', 'default'],
    ['/registry/services/endpoints/default/kubernetes', 'services/endpoints', 'default'],
    ['/registry/ranges/serviceips', 'ranges', undefined],
    ['/registry/cilium.io/ciliumendpoints/default/x', 'cilium.io/ciliumendpoints', 'default'],
    ['/registry/apiregistration.k8s.io/apiservices/v1.', 'apiregistration.k8s.io/apiservices', undefined],
    ['/registry/health', '(other)', undefined],
    ['compact_rev_key', '(other)', undefined],
    ['/registry/pods/a\nb/x', 'pods', 'a?b'],
    [`/registry/${'x'.repeat(600)}/y`, '(other)', undefined],
  ])('counts %s as %s of namespace %s', (key, kind, namespace) => {
    const bytes = Buffer.from(key).length + 3;
    expect(read([{ key, value: 'abc' }]).inventory.kinds).toEqual([
      { kind, objects: 1, bytes, namespaces: namespace === undefined ? [] : [{ namespace, objects: 1, bytes }] },
    ]);
  });

  test('counts what is alive: the newest value of a key, and none of a deleted one', () => {
    const { inventory, liveKeys } = read([
      { key: '/registry/pods/a/x', value: 'x'.repeat(500) },
      { key: '/registry/pods/a/x', value: 'xy' },
      { key: '/registry/pods/b/y', value: 'x' },
      { key: '/registry/pods/b/y', value: null },
      { key: '/registry/configmaps/a/z', value: 'abcdef', lease: 7 },
    ]);
    expect(inventory).toMatchObject({ objects: 2, bytes: 50, leased: 1 });
    expect(inventory.kinds.map(({ kind, objects }) => [kind, objects])).toEqual([
      ['configmaps', 1],
      ['pods', 1],
    ]);
    expect(liveKeys).toBe(2);
  });

  test('keeps events apart, whatever their namespace', () => {
    const { inventory } = read([
      { key: '/registry/events/a/x', value: 'x' },
      { key: '/registry/events/b/y', value: 'xy' },
      { key: '/registry/events/b/y', value: null },
    ]);
    expect(inventory).toMatchObject({ kinds: [], events: { objects: 1, bytes: 21 }, objects: 1 });
  });

  test('names the ten largest objects, in printable characters, the largest first', () => {
    const written = Array.from({ length: 15 }, (_, index) => ({
      key: `/registry/pods/a/${String(index)}\u0001`,
      value: 'x'.repeat(100 * ((index * 7) % 15) + 1),
    }));
    const { largest } = read(written).inventory;
    expect(largest).toHaveLength(10);
    expect(largest[0]).toEqual({ key: '/registry/pods/a/2?', bytes: 1420 });
    expect(largest.map(({ bytes }) => bytes)).toEqual(largest.map(({ bytes }) => bytes).sort((a, b) => b - a));
  });

  test('names the 5,000 largest namespaces, and counts the rest in their kind and without a name', () => {
    const written = Array.from({ length: 5_010 }, (_, index) => ({
      key: `/registry/pods/ns-${String(index)}/x`,
      value: index < 10 ? '' : 'xyz'.repeat(10),
    }));
    const { inventory } = read(written);
    expect(inventory.kinds[0]).toMatchObject({ kind: 'pods', objects: 5_010 });
    expect(inventory.kinds[0]?.namespaces).toHaveLength(5_000);
    expect(inventory).toMatchObject({ objects: 5_010, beyondBounds: { objects: 10 } });
  });

  test('loses neither a kind nor a Secret behind 70,000 namespaces, dead or alive', () => {
    const reader = new InventoryReader();
    const keyValue = new KeyValue();
    const write = (key: string, value: string | null) => {
      const row = Buffer.from(keyRow(1, key, value).value ?? '');
      keyValue.read(row, 0, row.length);
      if (value === null) {
        reader.delete(row, keyValue);
      } else {
        reader.put(row, keyValue, 0, 1);
      }
    };
    for (let index = 0; index < 70_000; index++) {
      const key = `/registry/configmaps/build-${String(index)}/x`;
      write(key, 'x');
      if (index % 2 === 0) {
        write(key, null);
      }
    }
    write('/registry/secrets/prod/x', 'plain');
    write('/registry/minions/node-1', 'x');
    reader.endWalk();
    const { kinds, beyondBounds } = reader.inventory(() => Buffer.alloc(0));
    expect(kinds.map(({ kind, objects, namespaces }) => [kind, objects, namespaces.length])).toEqual([
      ['configmaps', 35_000, 5_000],
      ['secrets', 1, 0],
      ['minions', 1, 0],
    ]);
    expect(beyondBounds.objects).toBe(30_001);
    expect(reader.kubernetes()).toMatchObject({ secrets: { total: 1, plainText: 1 }, objects: 35_002 });
  });

  test("names Kubernetes' live nodes, in order", () => {
    const { inventory } = read([
      { key: '/registry/minions/node-b', value: 'x' },
      { key: '/registry/minions/node-a', value: 'x' },
      { key: '/registry/minions/node-gone', value: 'x' },
      { key: '/registry/minions/node-back', value: 'x' },
      { key: '/registry/minions/node-back', value: null },
      { key: '/registry/minions/node-gone', value: null },
      { key: '/registry/minions/node-back', value: 'y' },
      { key: '/registry/minions/node-a', value: 'y' },
      { key: '/registry/minions/', value: 'no name' },
      { key: '/registry/minions/node-c/status', value: 'not a node' },
      { key: `/registry/minions/${'x'.repeat(254)}`, value: 'longer than a name can be' },
      { key: '/registry/minions-of-others/node-d', value: 'another kind' },
    ]);
    expect(inventory.nodes).toEqual(['node-a', 'node-b', 'node-back']);
  });

  test('names 500 nodes, and counts all', () => {
    const written = Array.from({ length: 510 }, (_, index) => ({
      key: `/registry/minions/node-${String(509 - index).padStart(3, '0')}`,
      value: 'x',
    }));
    const { nodes, kinds } = read(written).inventory;
    expect(nodes).toHaveLength(500);
    expect([nodes[0], nodes.at(-1)]).toEqual(['node-000', 'node-499']);
    expect(kinds).toMatchObject([{ kind: 'minions', objects: 510 }]);
  });

  test('keeps no more than 20,000 names of nodes in memory', () => {
    const written = Array.from({ length: 20_010 }, (_, index) => ({
      key: `/registry/minions/n${String(20_009 - index).padStart(5, '0')}`,
      value: 'x',
    }));
    const { nodes, kinds } = read(written).inventory;
    // The ten that came last were left out; that there are more is what their number says.
    expect(nodes[0]).toBe('n00010');
    expect(kinds).toMatchObject([{ kind: 'minions', objects: 20_010 }]);
  });

  test('counts kinds beyond 1,000 without a name', () => {
    const written = Array.from({ length: 1_005 }, (_, index) => ({
      key: `/registry/kind-${String(index)}/x`,
      value: '',
    }));
    const { inventory } = read(written);
    expect(inventory.kinds).toHaveLength(1_000);
    expect(inventory.beyondBounds.objects).toBe(5);
  });

  test('names a large object by the beginning of its key, however long that is', () => {
    const key = `/registry/pods/a/${'x'.repeat(20_000)}`;
    expect(read([{ key, value: 'v' }]).inventory.largest[0]?.key).toBe(key.slice(0, 512));
  });

  test('leaves out the empty key that a restore with a bump writes, which etcdutl counts', () => {
    const { inventory, liveKeys } = read([
      { key: '', value: '' },
      { key: '/registry/pods/a/x', value: 'x' },
    ]);
    expect([inventory.objects, liveKeys]).toEqual([1, 2]);
  });

  test('holds no value', () => {
    const { inventory, kubernetes } = read([{ key: '/registry/secrets/a/x', value: 'top-secret' }]);
    expect(JSON.stringify({ inventory, kubernetes })).not.toContain('top-secret');
  });
});

describe('secrets', () => {
  test('are plain text unless their value begins as the API server marks what it encrypts', () => {
    const { kubernetes } = read([
      { key: '/registry/secrets/a/x', value: 'k8s:enc:aescbc:v1:key1:…' },
      { key: '/registry/secrets/a/y', value: 'k8s\0…' },
      { key: '/registry/secrets/a/z', value: 'k8s\0…' },
      { key: '/registry/secrets/a/z', value: 'k8s:enc:kms:v2:…' },
      { key: '/registry/secrets/b/gone', value: 'k8s\0…' },
      { key: '/registry/secrets/b/gone', value: null },
      { key: '/registry/configmaps/a/x', value: 'k8s\0…' },
    ]);
    expect(kubernetes.secrets).toEqual({ total: 3, plainText: 1 });
  });
});

describe('the UID of kube-system', () => {
  const key = '/registry/namespaces/kube-system';

  test.each([
    ['in protobuf', namespaceObject(UID), UID, false],
    ['as JSON', JSON.stringify({ metadata: { name: 'kube-system', uid: UID } }), UID, false],
    ['encrypted', 'k8s:enc:secretbox:v1:x', null, true],
    ['cut', namespaceObject(UID).subarray(0, 40), null, false],
    ['as a JSON null', 'null', null, false],
    ['as JSON longer than any namespace', `{"metadata":{"uid":"${UID}"},"x":"${'x'.repeat(70_000)}"}`, null, false],
    ['with a UID that is none', namespaceObject('"; rm'), null, false],
  ])('%s', (_name, value, kubeSystemUid, kubeSystemEncrypted) => {
    expect(read([{ key, value }]).kubernetes).toMatchObject({ kubeSystemUid, kubeSystemEncrypted });
  });

  test('is not there in a cluster whose API server has another prefix, which shows in the count of objects', () => {
    const { kubernetes } = read([{ key: '/other/namespaces/kube-system', value: namespaceObject(UID) }]);
    expect(kubernetes).toEqual({
      kubeSystemUid: null,
      kubeSystemEncrypted: false,
      objects: 0,
      secrets: { total: 0, plainText: 0 },
    });
  });

  test('is that of the newest object, and none when it was deleted', () => {
    expect(
      read([
        { key, value: namespaceObject('old') },
        { key, value: namespaceObject(UID) },
      ]).kubernetes.kubeSystemUid,
    ).toBe(UID);
    expect(
      read([
        { key, value: namespaceObject(UID) },
        { key, value: null },
      ]).kubernetes.kubeSystemUid,
    ).toBeNull();
  });

  test('is not that of a namespace whose name begins like it', () => {
    expect(read([{ key: `${key}-2`, value: namespaceObject(UID) }]).kubernetes.kubeSystemUid).toBeNull();
  });
});
