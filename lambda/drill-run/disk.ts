import { lstat, mkdir, readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { DISK_RESERVE_BYTES } from './needed-disk';
import { RunError } from './failure';

/** Removes what an earlier run left, and what this one made. */
export async function emptyDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}

/** Makes the directory. Throws RunError('too-large') when there is less room than `bytes`. */
export async function makeDirectory(directory: string, bytes: number): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes < bytes) {
    throw new RunError(
      'too-large',
      `disk of the function: got ${String(freeBytes)} bytes free, expected ${String(bytes)} for the binaries, the snapshot, the database made of it and its WAL, ${String(DISK_RESERVE_BYTES)} of them in reserve`,
      { freeBytes },
    );
  }
}

// What stat counts blocks in, whatever the file system's own are.
const BLOCK_BYTES = 512;

/** What a directory and all in it takes on the disk. */
export async function usedBytes(directory: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    sum += entry.isDirectory() ? await usedBytes(path) : (await lstat(path)).blocks * BLOCK_BYTES;
  }
  return sum;
}
