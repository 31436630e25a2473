import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { check } from '../shared/check';
import { EventError } from '../shared/errors';
import { SnapshotDamagedError } from '../shared/snapshot/damage';
import { decompress } from '../shared/snapshot/decompress';
import { emptyDirectory, makeDirectory, usedBytes } from './disk';
import { Etcd, etcdctl, freeAddresses, MEMBER, type Addresses } from './etcd';
import { asFullDisk, RunError } from './failure';
import { type FetchDeps, readObject } from './fetch';
import { neededDisk } from './needed-disk';
import { type Answer, type Order, orderSchema, type ProvenAnswer, TOOL_NAMES, type ToolName } from './order';
import { endProcessesOf, runTool } from './processes';
import { readBack, UnreadableAnswerError } from './read-back';
import { downloadTools, required, restoreTool, type Tools } from './tools';

/** Writes a line. */
export interface Log {
  info(message: string, fields: Readonly<Record<string, string | number>>): void;
  error(message: string, fields: Readonly<Record<string, string | number>>): void;
}

/** What the function works with. It has no client of AWS: there is nothing that it may ask for. */
export interface DrillRunDeps {
  /** Of the function alone: everything in it is removed first and last. */
  readonly directory: string;
  readonly fetch: typeof fetch;
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** Node's name of the architecture: `x64` or `arm64`. */
  readonly arch: string;
  /** Lines of the function's own log. It emits no metrics: those are the drill function's, under names of their own. */
  readonly log: Log;
}

// What is left for the answer when the time is over.
const REST_MILLISECONDS = 15_000;

/**
 * Restores one snapshot with the binaries that it is told, boots etcd on it, and reads every key back. What goes wrong with snapshot, binaries
 * or disk is an answer; thrown is only what should not be possible. Throws EventError for an event that is no order.
 */
export async function drillRun(
  deps: DrillRunDeps,
  event: unknown,
  remainingMilliseconds: () => number,
): Promise<Answer> {
  const checked = check(orderSchema, event);
  if (!checked.ok) {
    throw new EventError(
      checked.problems.map((problem) => problem.slice(0, problem.indexOf(':'))),
      'only the drill function invokes this one: send {} to that',
    );
  }
  const timeOver = AbortSignal.timeout(Math.max(1, remainingMilliseconds() - REST_MILLISECONDS));
  const run = new Run(deps, checked.value, timeOver);
  try {
    // A run that Lambda killed leaves its files on this disk, and a frozen etcd in this environment.
    await endLeftovers(deps.directory);
    return await run.prove();
  } catch (error) {
    const failure = whyItFailed(error, timeOver);
    if (failure === undefined) {
      throw error;
    }
    return run.failed(failure);
  } finally {
    await endLeftovers(deps.directory);
  }
}

async function endLeftovers(directory: string): Promise<void> {
  await endProcessesOf(TOOL_NAMES.map((name) => join(toolsIn(directory), name)));
  await emptyDirectory(directory);
}

function toolsIn(directory: string): string {
  return join(directory, 'tools');
}

function whyItFailed(error: unknown, timeOver: AbortSignal): RunError | undefined {
  if (timeOver.aborted) {
    return new RunError(
      'out-of-time',
      'time of the function: got its end, expected the end of the drill before it',
      {},
      error,
    );
  }
  if (error instanceof RunError) {
    return error;
  }
  if (error instanceof SnapshotDamagedError) {
    return new RunError('snapshot-damaged', error.message, {}, error);
  }
  if (error instanceof UnreadableAnswerError) {
    return new RunError('read-failed', error.message, { tool: 'etcdctl' }, error);
  }
  return asFullDisk(error);
}

type Phase = 'download' | 'restore' | 'boot' | 'read';

class Run {
  private readonly started = performance.now();
  private readonly seconds: Partial<Record<Phase, number>> = {};
  private readonly snapshotFile: string;
  private readonly dataDir: string;
  private diskBytes = 0;

  constructor(
    private readonly deps: DrillRunDeps,
    private readonly order: Order,
    private readonly signal: AbortSignal,
  ) {
    this.snapshotFile = join(deps.directory, 'snapshot.db');
    this.dataDir = join(deps.directory, 'data');
  }

  async prove(): Promise<ProvenAnswer> {
    const { deps, order } = this;
    if ((deps.arch === 'x64' ? 'amd64' : deps.arch) !== order.arch) {
      throw new RunError(
        'other-architecture',
        `architecture: got ${deps.arch}, expected to run binaries for ${order.arch}`,
      );
    }
    const tools = await this.inPhase('download', () => this.download());
    const addresses = await freeAddresses();
    const restoredRevision = await this.inPhase('restore', () => this.restore(tools, addresses));
    const etcd = await this.inPhase('boot', () => this.boot(tools, addresses));
    try {
      const read = await this.inPhase('read', () => this.read(tools, addresses, restoredRevision));
      const memoryBytes = await etcd.memory();
      await this.measureDisk();
      const { download = 0, restore = 0, boot = 0, read: readSeconds = 0 } = this.seconds;
      return {
        ok: true,
        drillId: order.drillId,
        seconds: { download, restore, boot, read: readSeconds, total: this.total() },
        restoredRevision,
        ...read,
        memoryBytes,
        diskBytes: this.diskBytes,
      };
    } finally {
      await etcd.stop();
    }
  }

  failed({ reason, message, facts }: RunError): Answer {
    this.deps.log.error('drill failed', { drillId: this.order.drillId, reason, error: message, seconds: this.total() });
    return {
      ok: false,
      drillId: this.order.drillId,
      reason,
      tool: facts.tool ?? null,
      code: facts.code ?? null,
      freeBytes: facts.freeBytes ?? null,
      seconds: { ...this.seconds, total: this.total() },
    };
  }

  private total(): number {
    return secondsSince(this.started);
  }

  /** Runs one phase: one log line and one duration. */
  private async inPhase<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    const seconds = secondsSince(started);
    this.seconds[phase] = seconds;
    this.deps.log.info('phase done', { phase, seconds, drillId: this.order.drillId });
    return result;
  }

  private async measureDisk(): Promise<void> {
    this.diskBytes = Math.max(this.diskBytes, await usedBytes(this.deps.directory));
  }

  private get fetchDeps(): FetchDeps {
    return { fetch: this.deps.fetch, sleep: this.deps.sleep, signal: this.signal };
  }

  private async download(): Promise<Tools> {
    const { directory } = this.deps;
    const { tools, snapshot } = this.order;
    await makeDirectory(
      directory,
      neededDisk(
        snapshot.sizeBytes,
        tools.map(({ bytes }) => bytes),
      ),
    );
    const files = await downloadTools(this.fetchDeps, tools, toolsIn(directory));
    const chunks = readObject(this.fetchDeps, {
      url: snapshot.url,
      bytes: snapshot.compressedBytes,
      name: 'the snapshot',
      reason: 'snapshot-download',
    });
    const got = await decompress(chunks, snapshot, { file: this.snapshotFile });
    if (
      got.compressedSha256 !== snapshot.compressedSha256 ||
      got.sha256 !== snapshot.sha256 ||
      got.sizeBytes !== snapshot.sizeBytes
    ) {
      throw new RunError(
        'snapshot-damaged',
        `snapshot: got ${String(got.sizeBytes)} bytes with SHA-256 ${got.sha256}, compressed ${got.compressedSha256}, expected ${String(snapshot.sizeBytes)} with ${snapshot.sha256}, compressed ${snapshot.compressedSha256}`,
      );
    }
    return files;
  }

  /** As a node's preflight does it, with its flags. Returns the revision of what was made. */
  private async restore(tools: Tools, { peerUrl }: Addresses): Promise<number> {
    const { order, deps, snapshotFile, dataDir, signal } = this;
    const tool = restoreTool(tools);
    const { code, said } = await runTool(
      tool.file,
      [
        'snapshot',
        'restore',
        snapshotFile,
        `--name=${MEMBER}`,
        `--data-dir=${dataDir}`,
        `--initial-cluster=${MEMBER}=${peerUrl}`,
        `--initial-cluster-token=drill-${order.drillId}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        `--bump-revision=${String(order.bump)}`,
        '--mark-compacted',
      ],
      { cwd: deps.directory, signal },
    );
    if (code !== 0) {
      throw new RunError(
        /no space left on device/.test(said) ? 'disk-full' : 'restore-failed',
        `${tool.name} snapshot restore: got ${code === null ? 'its end by a signal' : `exit code ${String(code)}`} (${said}), expected a member`,
        { tool: tool.name, code: code ?? undefined },
      );
    }
    await this.measureDisk();
    await rm(snapshotFile);
    const status = await this.json(tool.name, 'restore-failed', (onOutput) =>
      runTool(tool.file, ['snapshot', 'status', join(dataDir, 'member', 'snap', 'db'), '--write-out=json'], {
        cwd: deps.directory,
        signal,
        onOutput,
      }).then((ended) => {
        if (ended.code !== 0) {
          throw new RunError(
            'restore-failed',
            `${tool.name} snapshot status: got ${ended.code === null ? 'its end by a signal' : `exit code ${String(ended.code)}`} (${ended.said}), expected it to read the restored database`,
            { tool: tool.name, code: ended.code ?? undefined },
          );
        }
      }),
    );
    return numberIn(status, 'revision', 'restore-failed', tool.name);
  }

  private async boot(tools: Tools, addresses: Addresses): Promise<Etcd> {
    const etcd = await Etcd.start(required(tools.etcd, 'etcd'), {
      directory: this.deps.directory,
      dataDir: this.dataDir,
      addresses,
    });
    try {
      await etcd.waitUntilHealthy(addresses.clientUrl, this.signal);
      return etcd;
    } catch (error) {
      await etcd.stop();
      throw error;
    }
  }

  private async read(
    tools: Tools,
    { clientUrl }: Addresses,
    revision: number,
  ): Promise<Pick<ProvenAnswer, 'servedRevision' | 'keys' | 'bytes' | 'hash' | 'alarms'>> {
    const binary = required(tools.etcdctl, 'etcdctl');
    const ask = (args: readonly string[], onOutput: (chunk: Buffer) => void) =>
      etcdctl(binary, args, { clientUrl, cwd: this.deps.directory, signal: this.signal, onOutput });
    const [status] = (await this.json('etcdctl', 'read-failed', (onOutput) =>
      ask(['endpoint', 'status', '--write-out=json'], onOutput),
    )) as readonly unknown[];
    const header = (status as { readonly Status?: { readonly header?: unknown } } | undefined)?.Status?.header;
    const servedRevision = numberIn(header, 'revision', 'read-failed', 'etcdctl');
    const alarms = await this.json('etcdctl', 'read-failed', (onOutput) =>
      ask(['alarm', 'list', '--write-out=json'], onOutput),
    );
    const list = (alarms as { readonly alarms?: unknown }).alarms ?? [];
    const keys = await readBack(
      // At the revision that was restored: leases end meanwhile, and their keys with them.
      (start, limit, onOutput) =>
        ask(
          [
            'get',
            '--from-key',
            `--limit=${String(limit)}`,
            `--rev=${String(revision)}`,
            '--write-out=protobuf',
            '--',
            start,
          ],
          onOutput,
        ),
      this.order.keysPerPage,
    );
    return { servedRevision, ...keys, alarms: Array.isArray(list) ? list.length : 0 };
  }

  /** What a binary prints as JSON: at most 1 MB. */
  private async json(
    tool: ToolName,
    reason: 'restore-failed' | 'read-failed',
    print: (onOutput: (chunk: Buffer) => void) => Promise<void>,
  ): Promise<unknown> {
    const chunks: Buffer[] = [];
    let length = 0;
    await print((chunk) => {
      length += chunk.length;
      if (length <= MAX_JSON_BYTES) {
        chunks.push(chunk);
      }
    });
    try {
      return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
    } catch {
      // No cause: the parser's message quotes what it read.
      throw new RunError(reason, `${tool}: got ${String(length)} bytes that are no JSON, expected its answer`, {
        tool,
      });
    }
  }
}

const MAX_JSON_BYTES = 1_000_000;

function numberIn(value: unknown, field: string, reason: 'restore-failed' | 'read-failed', tool: ToolName): number {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof found !== 'number' || !Number.isSafeInteger(found) || found < 0) {
    throw new RunError(reason, `${tool}: got no whole number as ${field}, expected one`, { tool });
  }
  return found;
}

function secondsSince(started: number): number {
  return Math.round(performance.now() - started) / 1000;
}
