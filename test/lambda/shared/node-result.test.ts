import { readFailure, readSnapshotResult, readToolsResult, readUploadResult } from '../../../lambda/shared/node-result';
import { snapshotResult } from '../backup/cloud';

const ID = '20261120T140000Z';
const line = (change: object = {}) => `${JSON.stringify({ ...snapshotResult(ID), ...change })}\n`;

test('reads the result lines of all scripts, and a refusal', () => {
  expect(readSnapshotResult(line(), ID)).toEqual(snapshotResult(ID));
  expect(
    readUploadResult(JSON.stringify({ ok: true, backupId: ID, compressedSize: 9, seconds: 0.25, attempts: 1 }), ID),
  ).toEqual({
    ok: true,
    backupId: ID,
    compressedSize: 9,
    seconds: 0.25,
  });
  const tools = { ok: true, backupId: ID, stored: ['etcd'], existed: ['etcdctl'], seconds: 1.5 };
  expect(readToolsResult(JSON.stringify(tools), ID)).toEqual(tools);
  expect(readFailure('{"ok":false,"code":41,"error":"no-quorum","message":"got a, expected b"}')).toEqual({
    ok: false,
    code: 41,
    error: 'no-quorum',
    message: 'got a, expected b',
  });
});

test('drops fields that it does not know', () => {
  expect(readSnapshotResult(line({ extra: 'x' }), ID)).not.toHaveProperty('extra');
});

test.each([
  [
    'a size over 5 GB',
    { compressedSize: 5_368_709_121 },
    /compressedSize: got 5368709121, expected a whole number from 1 to 5368709120/,
  ],
  ['an empty file', { size: 0 }, /size: got 0, expected/],
  ['a hash that is no uint32', { hash: 4_294_967_296 }, /hash: got 4294967296, expected/],
  [
    'an id of 17 digits',
    { clusterId: '1'.repeat(17) },
    /clusterId: got "1{17}", expected 1 to 16 lower-case hex digits/,
  ],
  ['an id with capitals', { memberId: 'AB' }, /memberId: got "AB"/],
  [
    'a SHA-256 that is short',
    { compressedSha256: 'ab' },
    /compressedSha256: got "ab", expected 64 lower-case hex digits/,
  ],
  [
    'a name with a line break',
    { memberName: 'cp1\nx' },
    /memberName: got "cp1\\nx", expected up to 253 printable ASCII characters/,
  ],
  [
    'an endless list',
    { flags: Array.from({ length: 201 }, () => '--a') },
    /flags: got .*, expected a list of at most 200/,
  ],
  [
    'a tool that is none of etcd',
    { imageTools: [{ name: 'sh', sha256: 'a'.repeat(64), bytes: 1 }] },
    /imageTools\.0\.name: got "sh", expected 'etcd', 'etcdctl' or 'etcdutl'/,
  ],
  ['an unknown compression', { compression: 'xz' }, /compression: got "xz", expected 'zstd' or 'gzip'/],
  ['an unknown architecture', { arch: 's390x' }, /arch: got "s390x", expected 'amd64' or 'arm64'/],
  [
    'a finding that is no word',
    { findings: ['<script>'] },
    /findings\.0: got "<script>", expected a word in kebab-case/,
  ],
  ['success that is no boolean', { ok: 'true' }, /ok: got "true", expected true/],
])('throws on %s', (_, change, expected) => {
  expect(() => readSnapshotResult(line(change), ID)).toThrow(expected);
});

test('throws with every problem at once, cut to a readable length', () => {
  expect(() => readSnapshotResult(line({ memberId: 'x'.repeat(500), arch: 1 }), ID)).toThrow(
    /^result line of the script: arch: got 1, expected .*; memberId: got "x{99}…, expected .*; deploy the documents and the function of one version$/,
  );
});

test('never shows control characters of an output that is no JSON', () => {
  expect(() => readSnapshotResult('\u001b[2Jhello\u0007', ID)).toThrow(
    /beginning with '\?\[2Jhello\?', expected exactly one JSON line/,
  );
});

test('throws on a refusal with a code outside 1 to 99', () => {
  expect(() => readFailure('{"ok":false,"code":137,"error":"killed","message":"m"}')).toThrow(
    /code: got 137, expected a whole number from 1 to 99/,
  );
});
