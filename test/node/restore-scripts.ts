import { constants, createHash, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { ControlPlane } from '../../lab/nodes/control-plane';
import type { LabNode } from '../../lab/nodes/lab-node';
import { scriptLines } from '../../lib/script-document';

/** The scripts of a restore. */
export type RestoreScript =
  'inspect' | 'preflight' | 'stop' | 'swap' | 'start' | 'check' | 'rollback' | 'cleanup' | 'diagnose';

/** How a script ended; `result` is undefined when it was killed before it said anything. */
export interface Said {
  readonly node: LabNode;
  readonly code: number | null;
  readonly result: (Record<string, unknown> & { readonly ok: boolean }) | undefined;
  readonly stderr: string;
}

/** A snapshot as the bucket would have it. */
export interface Packed {
  readonly bytes: Buffer;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly revision: number;
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const BUMP = 1_000_000_000;

// What changes something on the node: a script is killed before the Nth of these. $$ is the script, 0 its process group, which is what the
// agent kills; in a subshell of the script the count is not kept, so those are left to their parents.
const KILLER = [
  'set -T',
  '__changes=0',
  '__look() {',
  '  ((BASH_SUBSHELL == 0)) || return 0',
  '  case $1 in',
  '    "mv "* | "rm "* | "rmdir "* | "mkdir "* | "install "* | "chown "* | "systemctl st"* | "kill -"* | "ip "* | "printf \'%s %s"* | "sync "* | "run_tool "* | "result "*)',
  '      __changes=$((__changes + 1))',
  '      if ((__changes == __KILL_AT)); then kill -KILL 0; fi',
  '      ;;',
  '  esac',
  '}',
  'trap \'__look "$BASH_COMMAND"\' DEBUG',
].join('\n');

/** Drives the scripts of a restore on real nodes as the restore function does, one command after the other. */
export class RestoreScripts {
  /** What every script finds in its environment beside its parameters. */
  environment: Readonly<Record<string, string>> = {};
  private server: Server | undefined;
  private readonly signature = randomBytes(32).toString('hex');
  private served: Buffer = Buffer.alloc(0);

  constructor(readonly cluster: ControlPlane) {}

  /** Starts what the nodes download from. */
  async start(): Promise<void> {
    this.server = createServer((request, response) => {
      if (request.url?.endsWith(`X-Amz-Signature=${this.signature}`) !== true) {
        response.writeHead(403).end();
        return;
      }
      response.writeHead(200, { 'content-length': this.served.length }).end(this.served);
    });
    await new Promise<void>((resolve) => this.server?.listen(0, '127.0.0.1', resolve));
    for (const node of this.cluster.nodes) await node.forward(this.port);
  }

  stop(): void {
    this.server?.closeAllConnections();
    this.server?.close();
  }

  private get port(): number {
    return (this.server?.address() as AddressInfo).port;
  }

  /** What the next preflight downloads. */
  serve(bytes: Buffer): void {
    this.served = bytes;
  }

  /** Saves a snapshot of a node's member. */
  async snapshot(node = this.cluster.nodes[0] as LabNode): Promise<Packed> {
    const file = '/var/tmp/snapshot.db';
    await node.etcdctl(['snapshot', 'save', file]);
    // The image of 3.5 has no etcdutl; etcdctl has lost the command in 3.6.
    const tool = this.cluster.etcdVersion.startsWith('3.5.') ? 'etcdctl' : 'etcdutl';
    const status = JSON.parse(
      await node.must([`${node.imageBin}/${tool}`, 'snapshot', 'status', '-w', 'json', file]),
    ) as { revision: number };
    const bytes = readFileSync(node.path(file));
    rmSync(node.path(file));
    return { bytes, sizeBytes: bytes.length, sha256: sha256(bytes), revision: status.revision };
  }

  /** Runs one script on one node; with `killAt` it is killed before its so-manieth change. */
  async run(
    node: LabNode,
    script: RestoreScript,
    parameters: Readonly<Record<string, string>>,
    options: { readonly killAt?: number } = {},
  ): Promise<Said> {
    const [first = '', ...lines] = scriptLines(script);
    const killer = options.killAt === undefined ? [] : [KILLER.replace('__KILL_AT', String(options.killAt))];
    const { code, stdout, stderr } = await node.exec(['bash', '-c', [first, ...killer, ...lines].join('\n')], {
      env: {
        ...(script === 'stop' ? { SSM_Hold: 'none' } : {}),
        ...this.environment,
        ...Object.fromEntries(Object.entries(parameters).map(([name, value]) => [`SSM_${name}`, value])),
      },
      timeoutMs: 120_000,
    });
    if (stdout !== '' && stdout.trimEnd().split('\n').length !== 1) {
      throw new Error(`stdout of ${script}: got ${stdout}, expected one line; ${stderr}`);
    }
    return { node, code, result: stdout === '' ? undefined : (JSON.parse(stdout) as Said['result'] & object), stderr };
  }

  /** The same on all nodes at once. */
  all(
    script: RestoreScript,
    parameters: Readonly<Record<string, string>>,
    nodes: readonly LabNode[] = this.cluster.nodes,
  ): Promise<Said[]> {
    return Promise.all(nodes.map((node) => this.run(node, script, parameters)));
  }

  /** Runs a script on all nodes. Throws with the words of those that do not end well. */
  async must(
    script: RestoreScript,
    parameters: Readonly<Record<string, string>>,
    nodes: readonly LabNode[] = this.cluster.nodes,
  ): Promise<Said[]> {
    const said = await this.all(script, parameters, nodes);
    const bad = said.filter(({ code }) => code !== 0);
    if (bad.length > 0) {
      throw new Error(
        bad
          .map(
            ({ node, code, result, stderr }) =>
              `${script} on ${node.name}: ${String(code)} ${JSON.stringify(result)} ${stderr}`,
          )
          .join('\n'),
      );
    }
    return said;
  }

  /** The parameters of the stage step for one node; the URL's signature is sealed to the key that the node made. */
  async stageParameters(
    node: LabNode,
    restore: {
      readonly restoreId: string;
      readonly packed: Packed;
      readonly bump?: number;
      readonly nodes?: readonly LabNode[];
      readonly change?: Readonly<Record<string, string>>;
    },
  ): Promise<Record<string, string>> {
    const { restoreId, packed } = restore;
    const key = await this.run(node, 'preflight', { RestoreId: restoreId, Step: 'key' });
    if (key.code !== 0) throw new Error(`${JSON.stringify(key.result)} ${key.stderr}`);
    const publicKey = createPublicKey({
      key: Buffer.from(String(key.result?.['publicKey']), 'base64'),
      format: 'der',
      type: 'spki',
    });
    const compressed = gzipSync(packed.bytes, { level: 1 });
    this.serve(compressed);
    return {
      RestoreId: restoreId,
      Step: 'stage',
      SnapshotUrl: `http://127.0.0.1:${String(this.port)}/snapshot?X-Amz-Expires=900&X-Amz-Signature=`,
      SealedSignature: publicEncrypt(
        { key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
        Buffer.from(this.signature),
      ).toString('base64'),
      Compression: 'gzip',
      CompressedBytes: String(compressed.length),
      CompressedSha256: sha256(compressed),
      SizeBytes: String(packed.sizeBytes),
      Sha256: packed.sha256,
      Revision: String(packed.revision),
      Bump: String(restore.bump ?? BUMP),
      InitialCluster: (restore.nodes ?? this.cluster.nodes).map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(','),
      Token: `restore-${restoreId}`,
      EtcdVersion: this.cluster.etcdVersion,
      ToolPins: '',
      ToolUrls: '',
      DiskLimitPercent: '95',
      AllowQuota: 'no',
      ...restore.change,
    };
  }

  /** Preflight on all of these nodes. */
  async prepare(restoreId: string, packed: Packed, nodes: readonly LabNode[] = this.cluster.nodes): Promise<Said[]> {
    return Promise.all(
      nodes.map(async (node) => {
        const said = await this.run(node, 'preflight', await this.stageParameters(node, { restoreId, packed, nodes }));
        if (said.code !== 0) throw new Error(`${node.name}: ${JSON.stringify(said.result)} ${said.stderr}`);
        return said;
      }),
    );
  }

  /** From stop to the end, all nodes step by step; with `hold` the controllers stay out. */
  async restore(
    restoreId: string,
    packed: Packed,
    nodes: readonly LabNode[] = this.cluster.nodes,
    options: { readonly hold?: boolean } = {},
  ): Promise<void> {
    const id = { RestoreId: restoreId };
    await this.prepare(restoreId, packed, nodes);
    await this.must('stop', id, nodes);
    await this.must('swap', id, nodes);
    await this.must('start', { ...id, Component: 'etcd' }, nodes);
    await this.must(
      'check',
      { ...id, Component: 'etcd', WaitSeconds: '60', Revision: String(packed.revision + BUMP) },
      nodes,
    );
    await this.must('start', { ...id, Component: 'api-server' }, nodes);
    if (options.hold !== true) await this.must('start', { ...id, Component: 'controllers' }, nodes);
    await this.must('check', { ...id, Component: 'cluster', WaitSeconds: '60', Revision: '0' }, nodes);
    await this.must('cleanup', { ...id, Outcome: options.hold === true ? 'held' : 'restored' }, nodes);
  }
}
