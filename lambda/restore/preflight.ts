import { listTools, type StoredTool, toolUrls } from '../backup/tool-parameters';
import { NodeResultError } from '../shared/errors';
import type { OfficialTools } from '../shared/official-tools';
import type { ChosenSnapshot, RestoreNode, RestoreState } from '../shared/restore-state';
import type { Failure } from './failure';
import { type NodeResults, resultOf } from './node-results';
import type { PhaseResult, Run } from './run';
import { failedOf, nameOf, nodesFailed, runOnAll, valuesOf } from './run-on-all';
import { presignGet, seal } from './seal';

const PATIENCE_SECONDS = 120;
// As the document has them (lib/restore.ts).
const TOOL_URLS_MAX_CHARS = 4600;
const TOOL_PINS_MAX_CHARS = 1500;

/**
 * Each node makes a key, gets a URL that only that key can use, downloads and stages the whole restored data directory. Nothing that runs
 * is touched. The staged databases have to be equal on all nodes.
 */
export async function preflight(run: Run): Promise<PhaseResult> {
  const { state, deps } = run;
  const { snapshot } = state;
  if (snapshot === null) {
    return {
      done: true,
      ok: false,
      error: 'PreflightFailed',
      cause:
        'snapshot in the state of the execution: got none, expected the one that was chosen; start a new execution',
    };
  }
  const tooLong = whyPinsDoNotFit(run);
  if (tooLong !== undefined) {
    return { done: true, ok: false, error: 'PreflightFailed', cause: tooLong };
  }
  const change = { bump: bumpOf(state, snapshot), token: `${deps.clusterName}-${state.restoreId}` };
  const keys = await runOnAll(run, {
    document: deps.documents.preflight,
    comment: `${state.restoreId} PreflightKey`,
    parameters: () => Promise.resolve({ RestoreId: state.restoreId, Step: 'key', ...NOT_YET }),
    read: resultOf('key', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  if (!keys.done) {
    return { done: false, change };
  }
  const ready = valuesOf(keys.outcomes);
  if (ready === undefined) {
    return { done: true, ok: false, ...nodesFailed(run, failedOf(keys.outcomes)), change };
  }
  const unusable = ready.flatMap(({ node, value }) => whyUnusable(node, value));
  if (unusable.length > 0) {
    return { done: true, ok: false, error: 'PreflightFailed', cause: unusable.join('; '), change };
  }
  const publicKeys = new Map(ready.map(({ node, value }) => [node.instanceId, value.publicKey]));
  const tools = await listTools(deps.store);
  const stages = await runOnAll(run, {
    document: deps.documents.preflight,
    comment: `${state.restoreId} PreflightStage`,
    parameters: (node) =>
      stageParameters(run, node, { snapshot, ...change, tools, publicKey: publicKeys.get(node.instanceId) ?? '' }),
    read: resultOf('stage', state.restoreId),
    patienceSeconds: PATIENCE_SECONDS,
  });
  if (!stages.done) {
    return { done: false, change };
  }
  const staged = valuesOf(stages.outcomes);
  if (staged === undefined) {
    return { done: true, ok: false, ...nodesFailed(run, failedOf(stages.outcomes)), change };
  }
  const failure = checkStaged(staged, snapshot.revision + change.bump);
  if (failure !== undefined) {
    return { done: true, ok: false, ...failure, change };
  }
  const removed = staged.flatMap(({ node, value }) =>
    value.removedKept.map((id) => `${nameOf(node)}: the data that restore ${id} had kept was removed to make room`),
  );
  return { done: true, ok: true, change: { ...change, warnings: [...state.warnings, ...removed] } };
}

/** Parameters of the document that its first step does not look at. */
const NOT_YET = {
  SnapshotUrl: '',
  SealedSignature: '',
  Compression: '',
  CompressedBytes: '',
  CompressedSha256: '',
  SizeBytes: '',
  Sha256: '',
  Revision: '',
  Bump: '',
  InitialCluster: '',
  Token: '',
  ToolPins: '',
  ToolUrls: '',
  EtcdVersion: '',
  DiskLimitPercent: '',
  AllowQuota: '',
};

// Members write on after they were looked at; a thousand million is more than any writes in the time.
const BUMP = 1_000_000_000;

/** What is added to the snapshot's revision: the restored cluster begins above every revision that was seen anywhere. */
export function bumpOf(
  state: Pick<RestoreState, 'highestRevision'>,
  snapshot: Pick<ChosenSnapshot, 'revision'>,
): number {
  return Math.max(snapshot.revision, state.highestRevision) + BUMP - snapshot.revision;
}

/** `--initial-cluster`: every URL of every member. */
export function initialCluster(nodes: readonly RestoreNode[]): string {
  return nodes
    .flatMap(({ memberName, peerUrls }) => peerUrls.split(',').map((url) => `${memberName}=${url}`))
    .join(',');
}

// What a node restores with; it never runs etcd itself.
const TOOL_NAMES = ['etcdctl', 'etcdutl'] as const;
// No file has this SHA-256.
const NO_HASH = '0'.repeat(64);

/** The parameter ToolPins: every hash that a node's tools may have. Unlike in a backup, a tool without one may not run. */
export function expectedPins(
  node: Pick<RestoreNode, 'arch' | 'etcdVersion'>,
  official: OfficialTools,
  acknowledged: readonly string[],
): string {
  return TOOL_NAMES.flatMap((name) => {
    const hashes = [...hashOf(official, node, name), ...acknowledged];
    return (hashes.length === 0 ? [NO_HASH] : hashes).map(
      (sha256) => `${node.etcdVersion}/${node.arch}/${name}=${sha256}`,
    );
  }).join(' ');
}

function hashOf(official: OfficialTools, node: Pick<RestoreNode, 'arch' | 'etcdVersion'>, name: string): string[] {
  const sha256 = official[node.etcdVersion]?.[node.arch]?.[name];
  return sha256 === undefined ? [] : [sha256];
}

interface Stage {
  readonly snapshot: ChosenSnapshot;
  readonly bump: number;
  readonly token: string;
  readonly tools: readonly StoredTool[];
  readonly publicKey: string;
}

async function stageParameters(run: Run, node: RestoreNode, stage: Stage): Promise<Record<string, string>> {
  const { deps, state } = run;
  const { snapshot, tools } = stage;
  const forced = state.request.forced.includes('unknown-tool');
  const usable = tools.filter(
    ({ version, sha256, name }) =>
      version === node.etcdVersion &&
      (forced || hashOf(deps.officialTools, node, name).includes(sha256) || deps.acknowledgedTools.includes(sha256)),
  );
  const { url, signature } = await presignGet(deps.store.s3, { bucket: deps.store.bucket, ...snapshot });
  return {
    RestoreId: state.restoreId,
    Step: 'stage',
    SnapshotUrl: url,
    SealedSignature: seal(stage.publicKey, signature),
    Compression: snapshot.compression,
    CompressedBytes: String(snapshot.compressedBytes),
    CompressedSha256: snapshot.compressedSha256,
    SizeBytes: String(snapshot.sizeBytes),
    Sha256: snapshot.sha256,
    Revision: String(snapshot.revision),
    Bump: String(stage.bump),
    InitialCluster: initialCluster(state.nodes),
    Token: stage.token,
    ToolPins: pinsOf(run, node),
    ToolUrls: await toolUrls(deps.store, {
      tools: usable,
      arch: node.arch,
      etcdVersion: node.etcdVersion,
      maxChars: TOOL_URLS_MAX_CHARS,
    }),
    EtcdVersion: node.etcdVersion,
    DiskLimitPercent: String(deps.diskLimitPercent),
    AllowQuota: state.request.forced.includes('quota') ? 'yes' : 'no',
  };
}

/** Of a node in this restore: none when every tool may run. */
function pinsOf({ deps, state }: Run, node: RestoreNode): string {
  return state.request.forced.includes('unknown-tool')
    ? ''
    : expectedPins(node, deps.officialTools, deps.acknowledgedTools);
}

/** SSM would only say that a parameter is not valid. */
function whyPinsDoNotFit(run: Run): string | undefined {
  const node = run.state.nodes.find((candidate) => pinsOf(run, candidate).length > TOOL_PINS_MAX_CHARS);
  return node === undefined
    ? undefined
    : `hashes that tools of ${nameOf(node)} may have: got ${String(pinsOf(run, node).length)} characters for etcd ${node.etcdVersion}, expected at most ${String(TOOL_PINS_MAX_CHARS)}; nothing was changed: remove from acknowledgedTools those that no node has any more, deploy, and start again, or force it with "forceUnknownTool": true`;
}

function whyUnusable(node: RestoreNode, { publicKey }: NodeResults['key']): string[] {
  try {
    seal(publicKey, '');
    return [];
  } catch (error) {
    if (!(error instanceof NodeResultError)) {
      throw error;
    }
    return [`${nameOf(node)}: ${error.message}`];
  }
}

/** Whether every node staged the same database, at the revision that the restored cluster begins with. */
export function checkStaged(
  staged: readonly { readonly node: RestoreNode; readonly value: Pick<NodeResults['stage'], 'staged'> }[],
  expectedRevision: number,
): Failure | undefined {
  const different = new Set(staged.map(({ value }) => value.staged.hash)).size > 1;
  const wrong = staged.filter(({ value }) => value.staged.revision !== expectedRevision);
  if (!different && wrong.length === 0) {
    return undefined;
  }
  const each = staged
    .map(
      ({ node, value }) =>
        `${nameOf(node)} hash ${String(value.staged.hash)} revision ${String(value.staged.revision)}`,
    )
    .join('; ');
  return {
    error: 'PreflightFailed',
    cause: `staged databases: got ${each}, expected one hash on all nodes and revision ${String(expectedRevision)}; nothing was stopped: look for nodes whose etcd tools differ in version, and start again`,
  };
}
