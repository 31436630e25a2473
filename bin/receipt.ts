import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { type Receipt, verifyReceiptOffline } from '../lambda/shared/receipt';
import type { CommandResult } from './verify';

/** Exit codes of `etcd-backup receipt` besides those of every command. */
const NOT_SIGNED = 20;
const OTHER_SNAPSHOT = 21;

/** Files and text as they come from the command line. */
export interface ReceiptInput {
  readonly file: string;
  /** Base64: the object's metadata `receipt-signature`. */
  readonly signature: string;
  /** File with the public key in PEM. */
  readonly publicKey: string;
  /** A snapshot to hold against the receipt, as stored or decompressed. */
  readonly snapshot?: string;
}

/**
 * Holds a receipt against its signature, and a snapshot against the receipt, with nothing but these files. Throws the file system's
 * errors as they are.
 */
export async function receipt({ file, signature, publicKey, snapshot }: ReceiptInput): Promise<CommandResult> {
  const checked = verifyReceiptOffline({
    receiptBytes: readFileSync(file),
    signatureBase64: signature,
    publicKeyPem: readFileSync(publicKey, 'utf8'),
  });
  if (!checked.ok) {
    return {
      exitCode: NOT_SIGNED,
      stdout: '',
      stderr: `${file}: NOT PROVEN\n${checked.problems.join('\n')}\n`,
    };
  }
  if (snapshot === undefined) {
    return { exitCode: 0, stdout: describe(file, checked.receipt), stderr: '' };
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(snapshot), hash);
  const sha256 = hash.digest('hex');
  const { sha256: whole, compressedSha256 } = checked.receipt;
  if (sha256 !== whole && sha256 !== compressedSha256) {
    return {
      exitCode: OTHER_SNAPSHOT,
      stdout: '',
      stderr: `${snapshot}: NOT THE ONE THAT WAS PROVEN\nSHA-256: got ${sha256}, expected ${compressedSha256} as stored, or ${whole} decompressed; get version ${checked.receipt.versionId} of ${checked.receipt.key}\n`,
    };
  }
  return {
    exitCode: 0,
    stdout: `${describe(file, checked.receipt)}${snapshot}: the snapshot that was proven (${sha256 === whole ? 'decompressed' : 'as stored'})\n`,
    stderr: '',
  };
}

function describe(file: string, proven: Receipt): string {
  return [
    `${file}: signed by this key`,
    `cluster     ${proven.cluster}`,
    `backup      ${proven.backupId} (${proven.class})`,
    `object      s3://${proven.bucket}/${proven.key} version ${proven.versionId}`,
    `revision    ${String(proven.snapshot.revision)}, timeline ${proven.timeline}`,
    `verified    ${proven.verifiedAt}`,
    `findings    ${proven.findings.map(({ finding }) => finding).join(', ') || 'none'}`,
    '',
  ].join('\n');
}
