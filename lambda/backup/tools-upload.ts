import type { KnownTool } from '../shared/announcement';
import { ToolNotOfficialError } from '../shared/errors';
import { isOfficial, type OfficialTools } from '../shared/official-tools';
import { putInput, type Store } from '../shared/store';
import type { ToolsRequest } from './event';
import { presignPut } from './presign';

/** Presigned PUTs, one per file; 412 from S3 means that the file is there already. */
export interface ToolsUploads {
  readonly uploads: readonly {
    readonly name: string;
    readonly key: string;
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
  }[];
}

/** URLs to upload tools of an official release with. Throws ToolNotOfficialError unless each hash is on the committed list. */
export async function presignTools(
  deps: { readonly store: Store; readonly officialTools: OfficialTools },
  request: ToolsRequest,
): Promise<ToolsUploads> {
  const { version, arch, files } = request;
  const unofficial = files.filter((file) => !isOfficial(deps.officialTools, { ...file, version, arch }));
  if (unofficial.length > 0) {
    throw new ToolNotOfficialError(
      unofficial
        .map(
          ({ name, sha256 }) =>
            `${name} ${version} (${arch}): got SHA-256 ${sha256}, expected ${deps.officialTools[version]?.[arch]?.[name] ?? 'one that this function was deployed with'}`,
        )
        .join('; ') + "; 'npm run tools -- add' writes lib/official-tools.json: commit it, deploy, then run it again",
    );
  }
  const uploads = [];
  for (const { name, sha256, bytes } of files) {
    uploads.push(await presignTool(deps.store, { version, arch, name, sha256, bytes }));
  }
  return { uploads };
}

/** A URL to upload one tool with, to the key that names its version, architecture and SHA-256. */
export async function presignTool(store: Store, tool: KnownTool & { readonly bytes: number }) {
  const { version, arch, name, sha256, bytes } = tool;
  const key = `tools/${version}/${arch}/${sha256}/${name}`;
  const input = putInput(store, { key, sha256, contentLength: bytes });
  return { name, key, ...(await presignPut(store.s3, { ...input, ContentLength: bytes })) };
}
