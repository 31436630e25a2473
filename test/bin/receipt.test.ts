import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { receipt } from '../../bin/receipt';
import { receiptBytes, signedPayload } from '../../lambda/shared/receipt';
import { fileOf, World } from '../lambda/verify/world';

const ID = '20261120T140000Z';
const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const otherKeys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

let dir: string;
let file: string;
let publicKey: string;
let signature: string;
let stored: Buffer;

beforeAll(async () => {
  const world = new World();
  const { event, stored: object } = world.backup(ID);
  await world.verify(event);
  const proven = world.receipt(ID);
  stored = object.bytes;
  world.remove();

  dir = mkdtempSync(join(tmpdir(), 'receipt-'));
  file = join(dir, 'receipt.json');
  publicKey = join(dir, 'receipt-key.pem');
  const bytes = receiptBytes(proven);
  writeFileSync(file, bytes);
  writeFileSync(publicKey, keys.publicKey.export({ type: 'spki', format: 'pem' }));
  signature = sign('sha256', signedPayload(proven, bytes), keys.privateKey).toString('base64');
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});

function written(name: string, bytes: Buffer | string): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

describe('npx etcd-backup receipt', () => {
  test('says of which object what was proven, and when', async () => {
    const { exitCode, stdout } = await receipt({ file, signature, publicKey });
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/receipt\.json: signed by this key\n/);
    expect(stdout).toMatch(/object +s3:\/\/lab-backups\/snapshots\/20261120T140000Z\.db\.zst version /);
    expect(stdout).toMatch(/revision +123456, timeline first\n/);
  });

  test.each([
    ['as stored', () => stored],
    ['decompressed', () => fileOf(ID)],
  ])('knows the snapshot that was proven, %s', async (form, bytes) => {
    const snapshot = written('snapshot', bytes());
    const { exitCode, stdout } = await receipt({ file, signature, publicKey, snapshot });
    expect(stdout).toContain(`${snapshot}: the snapshot that was proven (${form})\n`);
    expect(exitCode).toBe(0);
  });

  test('ends with 21 for another snapshot, and names the version that was proven', async () => {
    const { exitCode, stdout, stderr } = await receipt({
      file,
      signature,
      publicKey,
      snapshot: written('other', Buffer.concat([stored, Buffer.alloc(1)])),
    });
    expect(stderr).toMatch(
      /SHA-256: got [0-9a-f]{64}, expected [0-9a-f]{64} as stored, or [0-9a-f]{64} decompressed; get version /,
    );
    expect([exitCode, stdout]).toEqual([21, '']);
  });

  test.each([
    [
      'with one byte changed',
      () => ({ file: written('changed.json', changedByte()) }),
      /got one that does not fit the receipt and the public key/,
    ],
    [
      'signed with another key',
      () => ({ publicKey: written('other.pem', otherKeys.publicKey.export({ type: 'spki', format: 'pem' })) }),
      /got one that does not fit the receipt and the public key/,
    ],
    ['that is none', () => ({ file: written('none.json', '{}') }), /expected the fields of schema 1/],
    ['without a signature', () => ({ signature: '' }), /signature: got '', expected base64/],
    [
      'and a public key that is none',
      () => ({ publicKey: written('none.pem', 'x') }),
      /public key: got .*expected a public key in PEM/,
    ],
  ])('ends with 20 for a receipt %s', async (_name, change, message) => {
    const { exitCode, stdout, stderr } = await receipt({ file, signature, publicKey, ...change() });
    expect(stderr).toMatch(message);
    expect([exitCode, stdout]).toEqual([20, '']);
  });

  function changedByte(): Buffer {
    const bytes = readFileSync(file);
    bytes.write('9', bytes.indexOf('"revision":123456') + '"revision":'.length);
    return bytes;
  }
});
