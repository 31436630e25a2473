import { type StoredTool, toolOfKey } from '../backup/tool-parameters';
import { TOOL_NAMES, type ToolName } from '../drill-run/order';
import type { ToolTrust } from '../shared/drill-record';
import { isOfficial, type OfficialTools } from '../shared/official-tools';
import type { Receipt } from '../shared/receipt';
import { listVersions, type ObjectVersion, type Store } from '../shared/store';
import { versionNumbers } from '../verify/etcd-version';

/** A binary in the bucket, by the version under its key that S3 held against the key's SHA-256. */
export type DrillTool = StoredTool & { readonly name: ToolName } & Pick<
    ObjectVersion,
    'versionId' | 'bytes' | 'storedAt'
  >;

/** All binaries of a version and architecture in the bucket. Throws StoreError when S3 does not answer. */
export async function listDrillTools(store: Store, version: string, arch: string): Promise<DrillTool[]> {
  const { versions } = await listVersions(store, `tools/${version}/${arch}/`);
  // The oldest of each key: what somebody put over it later has not the hash in its name.
  return versions
    .filter(({ key }, index) => versions[index - 1]?.key !== key)
    .flatMap(({ key, versionId, bytes, storedAt }) => {
      const tool = toolOfKey(key);
      const name = TOOL_NAMES.find((known) => known === tool?.name);
      return tool === undefined || name === undefined ? [] : [{ ...tool, name, versionId, bytes, storedAt }];
    });
}

/** A binary that a drill runs, and why it may. */
export type ChosenTool = DrillTool & { readonly trust: ToolTrust };

/** The binaries that a drill runs; or the names of those that it lacks, and what lies under these names and may not run. */
export type ToolChoice =
  | { readonly tools: readonly ChosenTool[] }
  | { readonly missing: readonly ToolName[]; readonly unknown: readonly DrillTool[] };

/**
 * Of each name one: of the official release, else one that the configuration acknowledges, else the one that was in the image of the node that
 * the backup was taken on, as its receipt has it, if no other of its name was stored before it. Nodes put into the bucket what they like, and what
 * is run has a whole backup in its hands. So a binary that a stolen node leaves there is run on that node's own backups at most, and not where
 * another was seen first. etcdutl is left out where etcdctl restores as well (3.5.10 and later of 3.5), as node/preflight.sh decides it.
 */
export function chooseTools(
  stored: readonly DrillTool[],
  { etcdVersion, imageTools = [] }: Pick<Receipt['announced'], 'etcdVersion' | 'imageTools'>,
  official: OfficialTools,
  acknowledged: readonly string[],
): ToolChoice {
  const known = (tool: DrillTool): ToolTrust | undefined =>
    isOfficial(official, tool) ? 'official' : acknowledged.includes(tool.sha256) ? 'acknowledged' : undefined;
  const isPinned = (tool: DrillTool) =>
    imageTools.some(({ name, sha256 }) => name === tool.name && sha256 === tool.sha256) &&
    stored.every(
      (other) =>
        other.name !== tool.name || known(other) !== undefined || other === tool || other.storedAt > tool.storedAt,
    );
  const trusted = stored.flatMap((tool) => {
    const trust = known(tool) ?? (isPinned(tool) ? 'image' : undefined);
    return trust === undefined ? [] : [{ ...tool, trust }];
  });
  const best = (name: ToolName) =>
    trusted
      .filter((tool) => tool.name === name)
      .toSorted(
        (a, b) => RANKS.indexOf(a.trust) - RANKS.indexOf(b.trust) || b.storedAt.getTime() - a.storedAt.getTime(),
      )[0];
  const etcd = best('etcd');
  const etcdctl = best('etcdctl');
  const etcdutl = best('etcdutl');
  const [major, minor, patch] = versionNumbers(etcdVersion);
  const etcdctlRestores = major === 3 && minor === 5 && patch >= 10;
  const missing: ToolName[] = [
    ...(etcd === undefined ? (['etcd'] as const) : []),
    ...(etcdctl === undefined ? (['etcdctl'] as const) : []),
    ...(etcdutl === undefined && !etcdctlRestores ? (['etcdutl'] as const) : []),
  ];
  return missing.length > 0
    ? { missing, unknown: stored.filter(({ name }) => missing.includes(name)) }
    : { tools: [etcd, etcdctl, etcdutl].filter((tool) => tool !== undefined) };
}

const RANKS: readonly ToolTrust[] = ['official', 'acknowledged', 'image'];
