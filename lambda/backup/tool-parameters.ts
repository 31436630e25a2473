import { GetObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { Announcement, KnownTool } from '../shared/announcement';
import { isOfficial, type OfficialTools } from '../shared/official-tools';
import { listKeys, type Store } from '../shared/store';
import { compareVersions } from './choose-nodes';

const TOOL_KEY = /^tools\/(\d+\.\d+\.\d+[A-Za-z0-9.+-]*)\/(amd64|arm64)\/([0-9a-f]{64})\/(etcd|etcdctl|etcdutl)$/;

// The same numbers as the document's maxChars (lib/backup.ts).
const PINS_MAX_CHARS = 4000;
const URLS_MAX_CHARS = 12000;
const MAX_URLS = 4;
const URL_SECONDS = 15 * 60;

/** A tool that lies in the bucket. */
export type StoredTool = KnownTool & { readonly key: string };

/** The tools in the bucket. */
export async function listTools(store: Store): Promise<StoredTool[]> {
  return (await listKeys(store, 'tools/')).flatMap((key) => toolOfKey(key) ?? []);
}

/** The tool whose key this is; undefined when it is none. */
export function toolOfKey(key: string): StoredTool | undefined {
  const [, version, arch, sha256, name] = TOOL_KEY.exec(key) ?? [];
  return version === undefined || arch === undefined || sha256 === undefined || name === undefined
    ? undefined
    : { key, version, arch, sha256, name };
}

/**
 * Of the tools in the bucket those that a node may be given: nodes put the tools of their own images there, and what one node may have
 * changed must not run on another.
 */
export function trustedTools<Tool extends KnownTool>(
  stored: readonly Tool[],
  official: OfficialTools,
  acknowledged: readonly string[],
): Tool[] {
  return stored.filter((tool) => isOfficial(official, tool) || acknowledged.includes(tool.sha256));
}

/**
 * The parameter ToolPins: what a tool of a node's image may be. A name, version and architecture that no backup has seen yet has no
 * pin, so that an image of somebody else's making is a finding and not a refusal; once seen, only the same, an acknowledged or the official one passes.
 */
export function toolPins(
  previous: Announcement | undefined,
  official: OfficialTools,
  acknowledged: readonly string[],
): string {
  const known = previous?.knownTools ?? [];
  const seen = new Set(known.map(nameOf));
  const alternatives = listOfficial(official).filter((tool) => seen.has(nameOf(tool)));
  // The newest first, so that the length bound cuts off what is least likely to be used.
  const intended = known.flatMap((tool) => acknowledged.map((sha256) => ({ ...tool, sha256 })));
  const pins = new Set<string>();
  let length = 0;
  for (const tool of [...known, ...intended, ...alternatives]) {
    const pin = `${nameOf(tool)}=${tool.sha256}`;
    if (pins.has(pin) || !/^[A-Za-z0-9.=/_+-]+$/.test(pin)) {
      continue;
    }
    if (length + pin.length + 1 > PINS_MAX_CHARS) {
      break;
    }
    length += pin.length + 1;
    pins.add(pin);
  }
  return [...pins].join(' ');
}

/**
 * The parameter ToolUrls: where this node gets etcdutl and etcdctl if its image lacks them, the last backup's version first. `tools` are
 * those that it may be given.
 */
export async function toolUrls(
  store: Store,
  choice: {
    readonly tools: readonly StoredTool[];
    readonly arch: string;
    readonly etcdVersion: string | undefined;
    /** What the document's parameter takes. */
    readonly maxChars?: number;
  },
): Promise<string> {
  const candidates = choice.tools
    .filter(({ arch, name }) => arch === choice.arch && (name === 'etcdutl' || name === 'etcdctl'))
    .toSorted(
      (a, b) =>
        Number(b.version === choice.etcdVersion) - Number(a.version === choice.etcdVersion) ||
        compareVersions(b.version, a.version) ||
        // etcdutl first: it is the one that images lack.
        (a.name > b.name ? -1 : 1),
    )
    .slice(0, MAX_URLS);
  const entries: string[] = [];
  for (const tool of candidates) {
    const url = await getSignedUrl(store.s3, new GetObjectCommand({ Bucket: store.bucket, Key: tool.key }), {
      expiresIn: URL_SECONDS,
    });
    const entry = `${nameOf(tool)}=${tool.sha256}=${url}`;
    if ([...entries, entry].join(' ').length <= (choice.maxChars ?? URLS_MAX_CHARS)) {
      entries.push(entry);
    }
  }
  return entries.join(' ');
}

const KNOWN_TOOLS = 20;

/** This backup's tools before those that were known, each once, the 20 newest: it goes into the announcement. */
export function rememberTools(tools: readonly KnownTool[], previous: Announcement | undefined): KnownTool[] {
  const all = [...tools, ...(previous?.knownTools ?? [])].map(({ version, arch, name, sha256 }) => ({
    version,
    arch,
    name,
    sha256,
  }));
  return all
    .filter(
      (tool, index) =>
        all.findIndex((other) => nameOf(other) === nameOf(tool) && other.sha256 === tool.sha256) === index,
    )
    .slice(0, KNOWN_TOOLS);
}

/** Each tool with whether it is on the list of official releases. */
export function markOfficial<Tool extends KnownTool>(
  tools: readonly Tool[],
  official: OfficialTools,
): (Tool & { official: boolean })[] {
  return tools.map((tool) => ({ ...tool, official: isOfficial(official, tool) }));
}

function nameOf({ version, arch, name }: KnownTool): string {
  return `${version}/${arch}/${name}`;
}

function listOfficial(official: OfficialTools): KnownTool[] {
  return Object.entries(official).flatMap(([version, byArch]) =>
    Object.entries(byArch).flatMap(([arch, byName]) =>
      Object.entries(byName).map(([name, sha256]) => ({ version, arch, name, sha256 })),
    ),
  );
}
