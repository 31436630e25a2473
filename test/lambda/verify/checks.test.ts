import {
  checkAgainst,
  checkBytes,
  checkContent,
  checkIdentity,
  checkRevision,
  checkStoredBytes,
  countingOf,
  type Identity,
  newestRevision,
} from '../../../lambda/verify/checks';

const words = (reasons: readonly { readonly reason: string }[]) => reasons.map(({ reason }) => reason);

const announced = { compressedBytes: 9, compressedSha256: 'c'.repeat(64), sizeBytes: 50, sha256: 'd'.repeat(64) };
const measured = { ...announced, storedSha256: announced.compressedSha256 };

test.each([
  [{}, []],
  [{ storedSha256: 'e'.repeat(64) }, ['stored-sha256']],
  [{ storedSha256: undefined }, ['stored-sha256']],
  [{ compressedSha256: 'e'.repeat(64) }, ['compressed-sha256']],
  [{ sizeBytes: 49 }, ['size']],
  [{ sha256: 'e'.repeat(64) }, ['sha256']],
  [
    { storedSha256: 'x', compressedSha256: 'x', sizeBytes: 1, sha256: 'x' },
    ['stored-sha256', 'compressed-sha256', 'size', 'sha256'],
  ],
])('bytes that differ by %j are refused for %j', (change, reasons) => {
  expect(words(checkBytes(announced, { ...measured, ...change }))).toEqual(reasons);
});

test.each([
  [9, []],
  [8, ['stored-bytes']],
  [10, ['stored-bytes']],
])('%i stored bytes where 9 were announced are refused for %j', (bytes, reasons) => {
  expect(words(checkStoredBytes(announced, bytes))).toEqual(reasons);
});

const tool = (name: string, version: string) => ({
  name,
  version,
  arch: 'amd64',
  sha256: 'a'.repeat(64),
  source: 'image',
  official: true,
});
const said = {
  hash: 1,
  revision: 2,
  totalKey: 3,
  totalSizeBytes: 4,
  etcdVersion: '3.6.5',
  tools: [tool('etcdctl', '3.6.5'), tool('etcdutl', '3.6.5')],
};
const facts = { hash: 1, revision: 2, totalKey: { rows: 30, live: 3 }, totalSizeBytes: 4 };

test.each([
  [{}, {}, []],
  [{}, { hash: 0 }, ['hash']],
  [{}, { revision: 1 }, ['revision']],
  [{}, { totalKey: { rows: 3, live: 30 } }, ['total-key']],
  [{}, { totalSizeBytes: 5 }, ['total-size']],
  [{ hash: null }, { hash: 0 }, []],
  [{ revision: null }, { revision: 0 }, []],
  [{ totalKey: null }, { totalKey: { rows: 0, live: 0 } }, []],
  [{ totalSizeBytes: null }, { totalSizeBytes: 0 }, []],
  [{ totalKey: 30, tools: [tool('etcdutl', '3.5.30')] }, {}, []],
  [{ tools: [tool('etcdutl', '3.5.30')] }, {}, ['total-key']],
])('content announced with %j and found with %j is refused for %j', (announcement, found, reasons) => {
  expect(words(checkContent({ ...said, ...announcement }, { ...facts, ...found }))).toEqual(reasons);
});

test.each([
  [[tool('etcdutl', '3.6.0')], '3.5.9', 'live'],
  [[tool('etcdutl', '3.5.30')], '3.6.5', 'rows'],
  [[tool('etcdctl', '3.5.9')], '3.5.9', 'rows'],
  [[tool('etcdctl', '3.5.9'), tool('etcdutl', '3.6.5')], '3.5.9', 'live'],
  [[], '3.4.30', 'rows'],
  [[], '3.7.0-rc.0', 'live'],
  [[], '4.0.0', 'live'],
] as const)('tools %j of etcd %s count keys as %s', (tools, etcdVersion, counting) => {
  expect(countingOf({ tools: [...tools], etcdVersion })).toBe(counting);
});

const identity: Identity = {
  kubeSystemUid: 'uid-1',
  kubeSystemEncrypted: false,
  etcdCaSha256: 'a'.repeat(64),
  clusterCaSha256: null,
  saPubSha256: null,
  encryptionConfigSha256: null,
};
const CHANGED = ['identity-changed'];

test.each<[string, Partial<Identity>, Partial<Identity>, string[]]>([
  ['the same', {}, {}, []],
  ['another UID', { kubeSystemUid: 'uid-2' }, {}, CHANGED],
  ['no UID any more', { kubeSystemUid: null }, {}, CHANGED],
  ['a UID that is encrypted now', { kubeSystemUid: null, kubeSystemEncrypted: true }, {}, []],
  [
    'an encrypted UID and another CA',
    { kubeSystemUid: null, kubeSystemEncrypted: true, etcdCaSha256: 'b' },
    {},
    CHANGED,
  ],
  ['a UID for the first time', {}, { kubeSystemUid: null }, []],
  ['another CA', { etcdCaSha256: 'b' }, {}, CHANGED],
  ['no CA any more', { etcdCaSha256: null }, {}, CHANGED],
  ['a CA for the first time', {}, { etcdCaSha256: null }, []],
  ['another UID and another CA', { kubeSystemUid: 'uid-2', etcdCaSha256: 'b' }, {}, [...CHANGED, ...CHANGED]],
  ["another service account key, which is not the cluster's identity", { saPubSha256: 'b' }, {}, []],
])('a cluster with %s', (_, now, before, reasons) => {
  const { kubeSystemUid, etcdCaSha256 } = { ...identity, ...before };
  const previous = { backupId: '20261120T140000Z', knownIdentity: { kubeSystemUid, etcdCaSha256 } };
  const found = checkIdentity({ ...identity, ...now }, previous);
  expect(words(found)).toEqual(reasons);
  // The UID comes out of etcd, and these go into logs.
  expect(JSON.stringify(found)).not.toMatch(/uid-/);
});

const revisions = (revision: number, compactedRevision: number | null) => ({
  revision,
  mvcc: { tombstones: 0, compactedRevision },
});

test.each([
  [revisions(5, null), revisions(5, null), []],
  [revisions(6, 2), revisions(5, null), []],
  [revisions(4, null), revisions(5, null), ['revision-went-back']],
  // The deletion that was revision 5 was compacted away.
  [revisions(4, 5), revisions(5, null), []],
  [revisions(4, 4), revisions(3, 5), ['revision-went-back']],
])('revisions %j after %j are refused for %j', (now, before, reasons) => {
  expect(words(checkRevision(now, { backupId: '20261120T140000Z', snapshot: before }))).toEqual(reasons);
  expect(newestRevision(now)).toBe(Math.max(now.revision, now.mvcc.compactedRevision ?? 0));
});

test.each([
  [{ identity: true, revision: true }, ['identity-changed', 'revision-went-back']],
  [{ identity: true, revision: false }, ['identity-changed']],
  [{ identity: false, revision: false }, []],
])('as far as comparable is %j, another cluster with an older revision is refused for %j', (comparable, reasons) => {
  const previous = { backupId: '20261120T140000Z', knownIdentity: identity, snapshot: revisions(5, null) };
  const now = { identity: { ...identity, kubeSystemUid: 'uid-2' }, facts: revisions(4, null) };
  expect(words(checkAgainst(previous as never, now, comparable))).toEqual(reasons);
});
