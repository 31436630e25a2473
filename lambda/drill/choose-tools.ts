import { type StoredTool, toolOfKey } from '../backup/tool-parameters';
import { TOOL_NAMES, type ToolName } from '../drill-run/order';
import { isOfficial, type OfficialTools } from '../shared/official-tools';
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

/** The binaries that a drill runs, or the names of those that it lacks. */
export type ToolChoice = { readonly tools: readonly DrillTool[] } | { readonly missing: readonly ToolName[] };

/**
 * Of each name one: of the official release, else one that the configuration acknowledges, else the one that was stored last. Any may run:
 * where it runs it has no right. etcdutl is left out where etcdctl restores as well (3.5.10 and later of 3.5), as node/preflight.sh decides it.
 */
export function chooseTools(
  stored: readonly DrillTool[],
  etcdVersion: string,
  official: OfficialTools,
  acknowledged: readonly string[],
): ToolChoice {
  const rank = (tool: DrillTool) => (isOfficial(official, tool) ? 2 : acknowledged.includes(tool.sha256) ? 1 : 0);
  const best = (name: ToolName) =>
    stored
      .filter((tool) => tool.name === name)
      .toSorted((a, b) => rank(b) - rank(a) || b.storedAt.getTime() - a.storedAt.getTime())[0];
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
  return missing.length > 0 ? { missing } : { tools: [etcd, etcdctl, etcdutl].filter((tool) => tool !== undefined) };
}
