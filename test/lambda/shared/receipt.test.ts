import { SignCommand } from '@aws-sdk/client-kms';
import { createHash, generateKeyPairSync, sign as signData } from 'node:crypto';
import {
  findReceipt,
  readReceipt,
  type Receipt,
  receiptBytes,
  signedPayload,
  signReceipt,
  verifyReceiptOffline,
} from '../../../lambda/shared/receipt';
import { sign as signAsWorld, RECEIPT_KEY, World } from '../verify/world';

const ID = '20261120T140000Z';
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = (key: typeof publicKey) => key.export({ type: 'spki', format: 'pem' }) as string;

let receipt: Receipt;
let bytes: Buffer;
let signature: string;

beforeAll(async () => {
  const world = new World();
  await world.verify(world.backup(ID).event);
  receipt = world.receipt(ID);
  bytes = receiptBytes(receipt);
  signature = signData('sha256', signedPayload(receipt, bytes), privateKey).toString('base64');
  world.remove();
});

const offline = (change: Partial<Parameters<typeof verifyReceiptOffline>[0]> = {}) =>
  verifyReceiptOffline({ receiptBytes: bytes, signatureBase64: signature, publicKeyPem: pem(publicKey), ...change });
const problems = (...expected: RegExp[]) => ({
  ok: false,
  problems: expected.map((problem) => expect.stringMatching(problem) as unknown),
});

test('a receipt is proven with nothing but its signature and the public key', () => {
  expect(offline()).toEqual({
    ok: true,
    receipt,
    receiptSha256: createHash('sha256').update(bytes).digest('hex'),
  });
  expect(offline({ signatureBase64: `${signature}\n` })).toMatchObject({ ok: true });
});

test('every changed byte of a receipt is seen', () => {
  for (let at = 0; at < bytes.length; at += 13) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    expect([at, offline({ receiptBytes: changed }).ok]).toEqual([at, false]);
  }
  expect(offline({ receiptBytes: Buffer.concat([bytes, Buffer.from(' ')]) })).toEqual(
    problems(/does not fit the receipt/),
  );
});

test.each<[keyof Receipt, unknown]>([
  ['bucket', 'other'],
  ['key', 'snapshots/x'],
  ['versionId', 'other'],
  ['sha256', 'e'.repeat(64)],
  ['class', 'daily'],
])('a receipt with another %s has another signature', (field, value) => {
  const receiptBytesOfOther = receiptBytes({ ...receipt, [field]: value });
  expect(offline({ receiptBytes: receiptBytesOfOther })).toEqual(
    problems(/does not fit the receipt and the public key/),
  );
});

test('another key, and what is no key or no signature, is refused with every problem', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;
  expect(offline({ publicKeyPem: pem(other) })).toEqual(problems(/does not fit/));
  expect(offline({ publicKeyPem: pem(rsa) })).toEqual(problems(/^public key: got rsa, expected an EC key on P-256/));
  expect(offline({ publicKeyPem: pem(p384) })).toEqual(problems(/^public key: got ec on secp384r1, expected/));
  expect(offline({ publicKeyPem: 'x', signatureBase64: '!', receiptBytes: Buffer.from('{}') })).toEqual(
    problems(/^public key: got .*expected a public key in PEM/, /^signature: got '!'/, /^receipt: got other than/),
  );
});

test('what is signed is the object, the snapshot, the identity and the exact bytes', async () => {
  const world = new World();
  await expect(signReceipt(world.deps.kms, RECEIPT_KEY, receipt, bytes)).resolves.toBe(
    signAsWorld(RECEIPT_KEY, createHash('sha256').update(signedPayload(receipt, bytes)).digest()).toString('base64'),
  );
  expect(Object.keys(JSON.parse(signedPayload(receipt, bytes).toString()) as object)).toEqual([
    'bucket',
    'identity',
    'key',
    'receiptSha256',
    'schema',
    'sha256',
    'type',
    'versionId',
  ]);
  expect(world.kmsMock.commandCalls(SignCommand)[0]?.args[0].input).toMatchObject({
    KeyId: RECEIPT_KEY,
    MessageType: 'DIGEST',
    SigningAlgorithm: 'ECDSA_SHA_256',
  });
  world.remove();
});

test('an error about a receipt names fields, and never what is in them', () => {
  const broken = { ...receipt, inventory: { ...receipt.inventory, largest: '/registry/secrets/a/b' }, schema: 2 };
  expect(() => readReceipt('receipts/x.json', Buffer.from(JSON.stringify(broken)))).toThrow(
    expect.objectContaining({
      name: 'ReceiptError',
      message: expect.stringMatching(
        /^receipts\/x\.json: got other than what a receipt has in schema, inventory\.largest, expected/,
      ) as unknown,
    }) as Error,
  );
  const text = Buffer.from('"/registry/secrets/a/b');
  expect(() => readReceipt('receipts/x.json', text)).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining('registry') as unknown, cause: undefined }) as Error,
  );
});

test('a receipt of more than 1 MB is not made', () => {
  const dataDir = 'x'.repeat(1_000_000);
  expect(() => receiptBytes({ ...receipt, announced: { ...receipt.announced, dataDir } })).toThrow(
    /got \d+ bytes, expected at most 1000000/,
  );
});

test.each<[string, Partial<Receipt>, RegExp]>([
  ['backup', { backupId: '20261120T150000Z' }, /^backupId of .*: got '20261120T150000Z', expected '20261120T140000Z'/],
  ['cluster', { cluster: 'prod' }, /^cluster of .*: got 'prod', expected 'lab'/],
  ['bucket', { bucket: 'other' }, /^bucket of .*: got 'other', expected 'lab-backups'/],
])('a signed receipt of another %s proves nothing here', async (_, change, problem) => {
  const world = new World();
  const other = { ...receipt, ...change };
  const body = receiptBytes(other);
  world.put(`receipts/${ID}.json`, body, {
    'receipt-signature': await signReceipt(world.deps.kms, RECEIPT_KEY, other, body),
  });
  await expect(findReceipt(world.deps, ID)).resolves.toEqual({
    receipt: undefined,
    untrusted: [expect.stringMatching(problem)],
  });
  world.remove();
});

test.each<[string, Record<string, string>, RegExp]>([
  ['no signature', {}, /got none, expected one in base64/],
  ['a signature that is none', { 'receipt-signature': '*' }, /got one that is no base64/],
  ["another key's signature", { 'receipt-signature': 'AAAA' }, /got one that .*receipt did not make/],
])('a receipt with %s is not trusted', async (_, metadata, problem) => {
  const world = new World();
  world.put(`receipts/${ID}.json`, bytes, metadata);
  await expect(findReceipt(world.deps, ID)).resolves.toEqual({
    receipt: undefined,
    untrusted: [expect.stringMatching(problem)],
  });
  world.remove();
});

test('whether a receipt can be trusted is not answered while KMS is down', async () => {
  const world = new World();
  world.put(`receipts/${ID}.json`, bytes, { 'receipt-signature': 'AAAA' });
  world.kmsDown = true;
  await expect(findReceipt(world.deps, ID)).rejects.toMatchObject({ name: 'SigningKeyError' });
  world.remove();
});
