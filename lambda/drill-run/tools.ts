import { createHash } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { readObject, type FetchDeps } from './fetch';
import { RunError } from './failure';
import type { OrderedTool, ToolName } from './order';

/** Where the binaries of a drill lie. */
export type Tools = Partial<Readonly<Record<ToolName, string>>>;

/** Downloads the binaries. None is made executable whose SHA-256 is another than was told. Throws RunError. */
export async function downloadTools(deps: FetchDeps, tools: readonly OrderedTool[], directory: string): Promise<Tools> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const files: Partial<Record<ToolName, string>> = {};
  for (const tool of tools) {
    const file = join(directory, tool.name);
    await downloadTool(deps, tool, file);
    files[tool.name] = file;
  }
  return files;
}

async function downloadTool(deps: FetchDeps, { name, url, bytes, sha256 }: OrderedTool, file: string): Promise<void> {
  const hash = createHash('sha256');
  const handle = await open(file, 'w', 0o600);
  try {
    for await (const chunk of readObject(deps, { url, bytes, name, reason: 'tool-download', facts: { tool: name } })) {
      hash.update(chunk);
      await handle.writeFile(chunk);
    }
    const got = hash.digest('hex');
    if (got !== sha256) {
      throw new RunError('tool-changed', `${name}: got SHA-256 ${got}, expected ${sha256}; it was not run`, {
        tool: name,
      });
    }
    await handle.chmod(0o700);
  } finally {
    await handle.close();
  }
}

/** What a restore is done with, as node/preflight.sh decides it: etcdutl, else etcdctl, which can do it up to 3.5. */
export function restoreTool(tools: Tools): { readonly name: ToolName; readonly file: string } {
  const { etcdutl, etcdctl } = tools;
  if (etcdutl !== undefined) {
    return { name: 'etcdutl', file: etcdutl };
  }
  return { name: 'etcdctl', file: required(etcdctl, 'etcdctl') };
}

/** Throws RunError('tool-download') for a binary that the order did not have. */
export function required(file: string | undefined, name: ToolName): string {
  if (file === undefined) {
    throw new RunError('tool-download', `${name}: got none in the order, expected it among the tools`, { tool: name });
  }
  return file;
}
