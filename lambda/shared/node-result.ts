import * as z from 'zod/mini';
import { check, printable, text, wholeNumber } from './check';
import { NodeResultError } from './errors';

// What a node says is input from outside: whoever owns a node can print what they like. Bounds keep it out of headers and logs.
const sha256 = text(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
const id = text(/^[0-9a-f]{1,16}$/, '1 to 16 lower-case hex digits');
const etcdVersion = text(/^\d{1,4}\.\d{1,4}\.\d{1,4}[A-Za-z0-9.+-]{0,32}$/, "a version such as '3.6.5'");
const arch = z.enum(['amd64', 'arm64'], "'amd64' or 'arm64'");
const flag = z.boolean('true or false');
const seconds = z.number('a number of seconds').check(z.gte(0, 'a number of seconds from 0 on'));
const list = <Item extends z.core.$ZodType>(item: Item, max: number) =>
  z.array(item, `a list of at most ${String(max)}`).check(z.maxLength(max, `a list of at most ${String(max)}`));
const word = text(/^[a-z0-9-]{1,64}$/, 'a word in kebab-case');

const member = z.object(
  {
    id,
    name: printable(253),
    peerUrls: list(printable(500), 20),
    clientUrls: list(printable(500), 20),
    isLearner: flag,
  },
  'a member',
);

const toolName = z.enum(['etcd', 'etcdctl', 'etcdutl'], "'etcd', 'etcdctl' or 'etcdutl'");

const tool = z.object(
  {
    name: toolName,
    version: etcdVersion,
    arch,
    sha256,
    source: z.enum(['image', 'bucket'], "'image' or 'bucket'"),
  },
  'a tool',
);

// Of the image: the etcd server of 3.6 has 25 MB, and the largest that the bucket takes 500 MB (lambda/backup/event.ts).
const imageTool = z.object({ name: toolName, sha256, bytes: wholeNumber(1, 500_000_000) }, 'a tool');

const snapshotResult = z.object(
  {
    ok: z.literal(true, 'true'),
    backupId: text(/^\d{8}T\d{6}Z$/, 'a backup id'),
    file: printable(500),
    compression: z.enum(['zstd', 'gzip'], "'zstd' or 'gzip'"),
    size: wholeNumber(1),
    sha256,
    // The largest single PUT of S3.
    compressedSize: wholeNumber(1, 5_368_709_120),
    compressedSha256: sha256,
    hash: z.nullable(wholeNumber(0, 0xffff_ffff)),
    revision: z.nullable(wholeNumber(0)),
    totalKey: z.nullable(wholeNumber(0)),
    totalSize: z.nullable(wholeNumber(0)),
    etcdVersion,
    clusterVersion: printable(64),
    kubernetesVersion: z.nullable(printable(64)),
    arch,
    memberId: id,
    memberName: printable(253),
    clusterId: id,
    leaderId: id,
    isLeader: flag,
    members: list(member, 50),
    raftTerm: wholeNumber(0),
    raftIndex: text(/^\d{1,20}$/, 'a decimal number in quotes'),
    dbSize: wholeNumber(0),
    dbSizeInUse: z.nullable(wholeNumber(0)),
    liveRevision: wholeNumber(0),
    flags: list(printable(4096), 200),
    dataDir: printable(4096),
    hostDataDir: printable(4096),
    identity: z.object(
      {
        etcdCaSha256: z.nullable(sha256),
        clusterCaSha256: z.nullable(sha256),
        saPubSha256: z.nullable(sha256),
        encryptionConfigSha256: z.nullable(sha256),
      },
      'fingerprints',
    ),
    certificates: list(z.object({ file: printable(4096), daysLeft: z.int('a whole number') }, 'a certificate'), 50),
    alarms: list(text(/^[A-Z]{1,32}$/, 'an alarm such as NOSPACE'), 50),
    leaderChanges: z.int('a whole number'),
    walFsyncP99Seconds: z.nullable(seconds),
    /** What ran. */
    tools: list(tool, 10),
    /** What the member's image has of etcd, etcdctl and etcdutl. */
    imageTools: list(imageTool, 3),
    findings: list(word, 50),
    seconds: z.object({ inspect: seconds, save: seconds, prove: seconds, total: seconds }, 'seconds by phase'),
    peakBytesStaged: wholeNumber(0),
  },
  "the snapshot script's result",
);

const uploadResult = z.object(
  {
    ok: z.literal(true, 'true'),
    backupId: text(/^\d{8}T\d{6}Z$/, 'a backup id'),
    compressedSize: wholeNumber(1),
    seconds,
  },
  "the upload script's result",
);

const toolsResult = z.object(
  {
    ok: z.literal(true, 'true'),
    backupId: text(/^\d{8}T\d{6}Z$/, 'a backup id'),
    stored: list(toolName, 3),
    existed: list(toolName, 3),
    seconds,
  },
  "the tools script's result",
);

const failure = z.object(
  {
    ok: z.literal(false, 'false'),
    code: wholeNumber(1, 99),
    error: word,
    message: printable(4000),
  },
  "a script's failure",
);

/** What the snapshot script printed. Sizes in bytes, ids in hex. */
export type SnapshotResult = z.output<typeof snapshotResult>;

/** What the upload script printed. Size in bytes. */
export type UploadResult = z.output<typeof uploadResult>;

/** What the tools script printed: which tools it stored, and which were there already. */
export type ToolsResult = z.output<typeof toolsResult>;

/** Why a script refused. */
export type NodeFailure = z.output<typeof failure>;

/** The snapshot script's result line. Throws NodeResultError when it is not one, or is another backup's. */
export function readSnapshotResult(stdout: string, backupId: string): SnapshotResult {
  return ofBackup(readLine(snapshotResult, stdout), backupId);
}

/** The upload script's result line. Throws NodeResultError when it is not one, or is another backup's. */
export function readUploadResult(stdout: string, backupId: string): UploadResult {
  return ofBackup(readLine(uploadResult, stdout), backupId);
}

/** The tools script's result line. Throws NodeResultError when it is not one, or is another backup's. */
export function readToolsResult(stdout: string, backupId: string): ToolsResult {
  return ofBackup(readLine(toolsResult, stdout), backupId);
}

/** The result line of a script that refused. Throws NodeResultError when it is not one. */
export function readFailure(stdout: string): NodeFailure {
  return readLine(failure, stdout);
}

/** A script's one line, held against what it should be. Throws NodeResultError when it is not that. */
export function readLine<Schema extends z.core.$ZodType>(schema: Schema, stdout: string): z.output<Schema> {
  const line = stdout.trim();
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (error) {
    throw new NodeResultError(
      `stdout of the script: got ${String(stdout.length)} characters beginning with '${clean(line)}', expected exactly one JSON line of at most 24000 characters; look at the command's output in SSM`,
      error,
    );
  }
  const checked = check(schema, parsed);
  if (!checked.ok) {
    throw new NodeResultError(
      `result line of the script: ${checked.problems.join('; ')}; deploy the documents and the function of one version`,
    );
  }
  return checked.value;
}

function ofBackup<Result extends { readonly backupId: string }>(result: Result, backupId: string): Result {
  if (result.backupId !== backupId) {
    throw new NodeResultError(
      `backupId in the result line: got ${result.backupId}, expected ${backupId}; find out what else runs this document`,
    );
  }
  return result;
}

/** The first characters of untrusted text, printable only. */
export function clean(untrusted: string, maxLength = 200): string {
  return untrusted.slice(0, maxLength).replace(/[^ -~]/g, '?');
}
