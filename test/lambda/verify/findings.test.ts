import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Findable,
  FINDING_WORDS,
  findFindings,
  findingMetric,
  urgencyOf,
  type PreviousFacts,
  quotaBytes,
} from '../../../lambda/verify/findings';
import { snapshotResult } from '../backup/cloud';
import { snapshotFacts } from './world';

const ID = '20261120T140000Z';
const result = snapshotResult(ID);
const announcement: Findable['announcement'] = { ...result, databaseBytes: result.dbSize };
const [one, two, three] = result.members as [
  Findable['announcement']['members'][number],
  Findable['announcement']['members'][number],
  Findable['announcement']['members'][number],
];
const previous: PreviousFacts = {
  backupId: ID,
  knownIdentity: { kubeSystemUid: 'uid-1', etcdCaSha256: result.identity.etcdCaSha256 },
  snapshot: { totalKey: { live: 9876 } },
  inventory: { events: { objects: 876 } },
  announced: { etcdVersion: '3.6.5', members: [one, two, three] },
};

interface Change {
  readonly announcement?: Partial<Findable['announcement']>;
  readonly facts?: Parameters<typeof snapshotFacts>[0];
  readonly previous?: Partial<PreviousFacts> | 'none';
  readonly input?: Partial<Findable>;
}

const findings = (change: Change) =>
  findFindings({
    announcement: { ...announcement, ...change.announcement },
    facts: snapshotFacts(change.facts),
    previous: change.previous === 'none' ? undefined : { ...previous, ...change.previous },
    comparable: { identity: true, revision: true },
    keysLostPercent: 20,
    others: { deleteMarkers: 0, otherVersions: 0 },
    untrustedReceipts: [],
    next: undefined,
    ...change.input,
  });

const GIB = 1024 ** 3;
const kubernetes = snapshotFacts().kubernetes;
const { inventory, pages } = snapshotFacts();
const keys = (live: number, events = 876) => ({
  totalKey: { rows: 20_000, live },
  inventory: { ...inventory, events: { objects: events, bytes: 1 } },
});
const days = (daysLeft: number) => ({ certificates: [{ file: '/etc/kubernetes/pki/etcd/server.crt', daysLeft }] });
const noUid = { kubernetes: { ...kubernetes, kubeSystemUid: null } };
const { liveRevision } = announcement;
const rows = (compactedRevision: number | null) => ({ tombstones: 0, compactedRevision });
const later = (revision: number) =>
  ({ backupId: '20261120T150000Z', snapshot: { revision, mvcc: rows(null) } }) as Findable['next'];
const noCa = { identity: { ...result.identity, etcdCaSha256: null } };

test.each<[string, Change, string[]]>([
  ['a healthy cluster', {}, []],
  ['the first backup', { previous: 'none' }, []],
  ['nothing under /registry/', { facts: { kubernetes: { ...kubernetes, objects: 0 } } }, ['no-kubernetes-objects']],
  [
    'one Secret in plain text',
    { facts: { kubernetes: { ...kubernetes, secrets: { total: 9, plainText: 1 } } } },
    ['secrets-in-plain-text'],
  ],
  ['20 % of the keys gone', { facts: keys(876 + 7200) }, []],
  ['more than 20 % of the keys gone', { facts: keys(876 + 7199) }, ['keys-lost']],
  ['all keys gone', { facts: keys(0, 0) }, ['keys-lost']],
  ['all events gone', { facts: keys(9000, 0) }, []],
  ['events in place of keys', { facts: keys(9876, 9876) }, ['keys-lost']],
  ['keys gone over a restore', { facts: keys(0, 0), input: { comparable: { identity: true, revision: false } } }, []],
  ['half of the keys gone where 50 % may go', { facts: keys(876 + 4500), input: { keysLostPercent: 50 } }, []],
  ['a database below 80 % of its quota', { announcement: { databaseBytes: 0.8 * 2 * GIB - 1 } }, []],
  ['a database at 80 % of its quota', { announcement: { databaseBytes: 0.8 * 2 * GIB } }, ['database-near-quota']],
  [
    'the same with a larger quota',
    { announcement: { databaseBytes: 0.8 * 2 * GIB, flags: ['--quota-backend-bytes=8589934592'] } },
    [],
  ],
  ['a certificate with 30 days', { announcement: days(30) }, []],
  ['a certificate with 29 days', { announcement: days(29) }, ['certificates-near-end']],
  ['a certificate that ended', { announcement: days(-3) }, ['certificates-near-end']],
  ['half of the pages free', { facts: { pages: { ...pages, total: 100_000, free: 50_000 } } }, []],
  [
    'over half of the pages free',
    { facts: { pages: { ...pages, total: 100_000, free: 50_001 } } },
    ['mostly-free-pages'],
  ],
  ['over half of few pages free', { facts: { pages: { ...pages, total: 24_000, free: 24_000 } } }, []],
  [
    'over half of few but large pages free',
    { facts: { pageSizeBytes: 65_536, pages: { ...pages, total: 2000, free: 1999 } } },
    ['mostly-free-pages'],
  ],
  ['another etcd version', { announcement: { etcdVersion: '3.6.6' } }, ['etcd-version-changed']],
  [
    'etcd 3.5.2',
    { announcement: { etcdVersion: '3.5.2' }, previous: 'none' },
    ['etcd-version-corrupts', 'etcd-version-too-old'],
  ],
  [
    'etcd 3.5.0',
    { announcement: { etcdVersion: '3.5.0' }, previous: 'none' },
    ['etcd-version-corrupts', 'etcd-version-too-old'],
  ],
  ['etcd 3.5.3', { announcement: { etcdVersion: '3.5.3' }, previous: 'none' }, ['etcd-version-too-old']],
  ['etcd 3.5.9', { announcement: { etcdVersion: '3.5.9' }, previous: 'none' }, ['etcd-version-too-old']],
  ['etcd 3.4.35', { announcement: { etcdVersion: '3.4.35' }, previous: 'none' }, ['etcd-version-too-old']],
  ['etcd 3.5.10', { announcement: { etcdVersion: '3.5.10' }, previous: 'none' }, []],
  ['etcd 3.6.0', { announcement: { etcdVersion: '3.6.0' }, previous: 'none' }, []],
  ['two members of three', { announcement: { members: [one, two] } }, ['redundancy-lost']],
  ['two members, for the first time', { announcement: { members: [one, two] }, previous: 'none' }, ['redundancy-lost']],
  [
    'one member as ever',
    { announcement: { members: [one] }, previous: { announced: { etcdVersion: '3.6.5', members: [one] } } },
    [],
  ],
  ['one member of three', { announcement: { members: [one] } }, ['redundancy-lost']],
  [
    'a third that only learns',
    { announcement: { members: [one, two, { ...three, isLearner: true }] } },
    ['redundancy-lost'],
  ],
  [
    'a third that never started',
    { announcement: { members: [one, two, { ...three, name: '' }] } },
    ['redundancy-lost'],
  ],
  [
    'a fourth that never started',
    { announcement: { members: [one, two, three, { ...three, name: '' }] } },
    ['redundancy-lost'],
  ],
  ['a fourth that learns', { announcement: { members: [one, two, three, { ...three, isLearner: true }] } }, []],
  [
    'four members of five',
    {
      announcement: { members: [one, two, three, three] },
      previous: { announced: { etcdVersion: '3.6.5', members: [one, two, three, three, three] } },
    },
    ['redundancy-lost'],
  ],
  ['a new leader', { announcement: { leaderChanges: 1 } }, ['leader-changed']],
  [
    'a new leader that the node told of, too',
    { announcement: { leaderChanges: 1, findings: ['leader-changed'] } },
    ['leader-changed'],
  ],
  ['unknown leader changes', { announcement: { leaderChanges: -1 } }, []],
  ['missing tools', { announcement: { hash: null, findings: ['tools-missing'] } }, ['not-compared', 'tools-missing']],
  ['no UID and no CA', { announcement: noCa, facts: noUid }, ['identity-not-compared']],
  ['no UID', { facts: noUid }, []],
  ['no CA', { announcement: noCa }, []],
  [
    'no UID, and no CA before',
    { facts: noUid, previous: { knownIdentity: { kubeSystemUid: 'x', etcdCaSha256: null } } },
    ['identity-not-compared'],
  ],
  ['a delete marker', { input: { others: { deleteMarkers: 1, otherVersions: 0 } } }, ['delete-marker']],
  ['another version', { input: { others: { deleteMarkers: 0, otherVersions: 2 } } }, ['other-version']],
  ['receipts that were passed over', { input: { untrustedReceipts: ['a', 'b'] } }, ['receipt-untrusted']],
  [
    'a snapshot that ends before the revision it was to begin with',
    { facts: { revision: 99, mvcc: rows(98) } },
    ['revision-behind'],
  ],
  ['a snapshot whose last revision was compacted away', { facts: { revision: 99, mvcc: rows(liveRevision) } }, []],
  ['an empty etcd', { announcement: { liveRevision: 1 }, facts: { revision: 0, mvcc: rows(null) } }, []],
  ['a later backup that is behind', { input: { next: later(99) } }, ['revision-went-back']],
  ['a later backup that is not behind', { input: { next: later(200_000) } }, []],
  ['words of a node', { announcement: { findings: ['corrupt-alarm', 'new-word'] } }, ['corrupt-alarm', 'new-word']],
])('%s', (_, change, expected) => {
  const found = findings(change);
  expect(found.map(({ finding }) => finding)).toEqual(expected);
  for (const { sentence } of found) {
    expect(sentence.length).toBeGreaterThan(40);
  }
});

test.each([
  [[], 2 * GIB],
  [['--quota-backend-bytes=8589934592'], 8 * GIB],
  [['-quota-backend-bytes=8589934592'], 8 * GIB],
  [['--quota-backend-bytes', '8589934592'], 8 * GIB],
  [['--quota-backend-bytes=1', '--quota-backend-bytes=8589934592'], 8 * GIB],
  [['ETCD_QUOTA_BACKEND_BYTES=8589934592'], 8 * GIB],
  [['--quota-backend-bytes=8589934592', 'ETCD_QUOTA_BACKEND_BYTES=1'], 8 * GIB],
  [['--quota-backend-bytes=0'], 2 * GIB],
  [['--quota-backend-bytes=-1'], undefined],
])('with flags %j the quota is %s', (flags, bytes) => {
  expect(quotaBytes(flags)).toBe(bytes);
});

test('each known word has its metric, and all others share one', () => {
  expect(findingMetric('secrets-in-plain-text')).toBe('FindingSecretsInPlainText');
  expect(findingMetric('compressed-over-4gb')).toBe('FindingCompressedOver4gb');
  expect(findingMetric('whatever-a-node-says')).toBe('FindingUnknown');
  expect(new Set(FINDING_WORDS.map(findingMetric)).size).toBe(FINDING_WORDS.length);
});

test('docs/findings.md has every word, and no other', () => {
  const page = readFileSync(join(__dirname, '../../../docs/findings.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `([a-z0-9-]+)` \|/gm)].map(([, word]) => word);
  // A word may be a finding in one case and a reason in another.
  expect([...new Set(documented)].sort()).toEqual([...FINDING_WORDS].sort());
});

test('docs/findings.md says which findings ring at once, which are to be corrected, and that all others ask for nothing', () => {
  const page = readFileSync(join(__dirname, '../../../docs/findings.md'), 'utf8');
  const wordsAfter = (start: string) =>
    [...((page.split(start)[1] ?? '').split('\n\n')[0] ?? '').matchAll(/`([a-z0-9-]+)`/g)]
      .map(([, word]) => word ?? '')
      .sort();
  const known = (urgency: string) => FINDING_WORDS.filter((word) => urgencyOf(word) === urgency).sort();
  expect(wordsAfter('alarm `finding-urgent`)')).toEqual(known('urgent'));
  expect(wordsAfter('alarm `finding-to-correct`)')).toEqual(known('correct'));
  expect(wordsAfter('**Only noted**:')).toEqual(known('noted'));
  expect(urgencyOf('made-up')).toBe('correct');
});
