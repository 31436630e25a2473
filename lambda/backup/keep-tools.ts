import type { KnownTool } from '../shared/announcement';
import { PresignError } from '../shared/errors';
import type { SnapshotResult } from '../shared/node-result';
import type { Store } from '../shared/store';
import { headersParameter } from './presign';
import { presignTool } from './tools-upload';

/** A tool of a member's image that is to be kept in the bucket. */
export type ImageTool = KnownTool & { readonly bytes: number };

/** What of the member's image is not in the bucket yet: by version, architecture and hash. */
export function missingTools(
  { imageTools, etcdVersion: version, arch }: Pick<SnapshotResult, 'imageTools' | 'etcdVersion' | 'arch'>,
  stored: readonly KnownTool[],
): ImageTool[] {
  return imageTools
    .map(({ name, sha256, bytes }) => ({ version, arch, name, sha256, bytes }))
    .filter(
      (tool) =>
        !stored.some(
          (other) =>
            other.version === tool.version &&
            other.arch === tool.arch &&
            other.name === tool.name &&
            other.sha256 === tool.sha256,
        ),
    );
}

// The same number as the document's maxChars (lib/backup.ts).
const UPLOADS_MAX_CHARS = 12_000;
// The one header that differs from tool to tool: the script makes it of the hash that it finds.
const CHECKSUM = 'x-amz-checksum-sha256';

/** The parameters Uploads (`name=sha256=url`, separated by spaces) and Headers of the tools document. Throws PresignError when they do not fit. */
export async function toolsParameters(
  store: Store,
  tools: readonly ImageTool[],
): Promise<{ readonly Uploads: string; readonly Headers: string }> {
  const entries: string[] = [];
  const common = new Set<string>();
  for (const tool of tools) {
    const { url, headers } = await presignTool(store, tool);
    entries.push(`${tool.name}=${tool.sha256}=${url}`);
    common.add(headersParameter(Object.fromEntries(Object.entries(headers).filter(([name]) => name !== CHECKSUM))));
  }
  const [headers] = common;
  const uploads = entries.join(' ');
  if (headers === undefined || common.size > 1 || uploads.length > UPLOADS_MAX_CHARS) {
    throw new PresignError(
      `presigned PUTs of ${tools.map(({ name }) => name).join(', ')}: got ${String(uploads.length)} characters and ${String(common.size)} sets of headers beside ${CHECKSUM}, expected at most ${String(UPLOADS_MAX_CHARS)} and one; pin the SDK version that was tested`,
    );
  }
  return { Uploads: uploads, Headers: headers };
}
