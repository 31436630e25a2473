import { readInspection } from '../../../lambda/shared/inspection';
import { inspection, journalOf } from './situation';

const line = (change: object) => `${JSON.stringify({ ...inspection(1), ...change })}\n`;

test('what a healthy node prints is read', () => {
  expect(readInspection(line({}))).toEqual(inspection(1));
});

test('a journal that does not know yet how many members there will be is read', () => {
  const journal = journalOf('20261119T000000Z', { nodes: null });
  expect(readInspection(line({ journal })).journal).toEqual(journal);
});

test('a node without etcd, as it comes from a template, is read', () => {
  const etcd = {
    ...inspection(1).etcd,
    manifest: 'missing',
    version: null,
    running: false,
    memberName: '',
    dataDir: '',
    hostDataDir: '',
    quotaBytes: 0,
    initialCluster: [],
    peerUrls: [],
    clientUrls: [],
    image: null,
    member: null,
  };
  expect(readInspection(line({ etcd, disk: { size: 0, available: 0 } })).etcd.manifest).toBe('missing');
});

test.each<[string, object, string]>([
  [
    'an id that is a number',
    { etcd: { ...inspection(1).etcd, member: { ...inspection(1).etcd.member, clusterId: 1 } } },
    'etcd.member.clusterId: got 1',
  ],
  [
    'an index that would lose digits',
    { etcd: { ...inspection(1).etcd, member: { ...inspection(1).etcd.member, raftAppliedIndex: 1 } } },
    'raftAppliedIndex: got 1, expected a decimal number in quotes',
  ],
  [
    'a name with a line break',
    { hostname: 'a\nb' },
    'hostname: got "a\\nb", expected up to 253 printable ASCII characters',
  ],
  ['a tool that is no hash', { tools: [{ ...inspection(1).tools[0], sha256: 'x' }] }, 'tools.0.sha256'],
  [
    'more peers than anybody asked for',
    { peers: Array.from({ length: 101 }, () => ({ url: 'https://a:2380', answers: true })) },
    'a list of at most 100',
  ],
  [
    'a held component that is none',
    { held: [{ component: 'etcd', restoreId: '20261119T000000Z' }] },
    'held.0.component',
  ],
  ['a restore that is no id', { journal: journalOf('../x') }, 'journal.restoreId: got "../x"'],
  ...(['stopped', 'started', 'served', 'checked', 'undone', 'nodes'] as const).map(
    (field): [string, object, string] => [
      `a journal that does not say '${field}'`,
      { journal: { ...journalOf('20261119T000000Z'), [field]: undefined } },
      `journal.${field}: got nothing`,
    ],
  ),
])('%s is refused', (_, change, message) => {
  expect(() => readInspection(line(change))).toThrow(message);
});
