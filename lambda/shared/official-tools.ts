import list from '../../lib/official-tools.json';

/**
 * SHA-256 of the tools in etcd's official releases, as `{ "3.6.5": { "amd64": { "etcdctl": "<64 hex digits>" } } }`. The committed file
 * is the pin; `npm run tools -- add <version>` adds to it from the release's SHA256SUMS.
 */
export type OfficialTools = Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, string>>>>>>;

/** The list that was committed with this version of the function. */
export const officialTools: OfficialTools = list;

/** Whether this SHA-256 is that of the named tool in the official release. */
export function isOfficial(
  tools: OfficialTools,
  tool: { readonly version: string; readonly arch: string; readonly name: string; readonly sha256: string },
): boolean {
  return tools[tool.version]?.[tool.arch]?.[tool.name] === tool.sha256;
}
