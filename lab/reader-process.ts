import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { readSnapshot as ReadSnapshot } from '../lambda/shared/snapshot/read-snapshot';

// Reads snapshots in a process of its own, which can be killed when it hangs and whose memory can be seen: a path per line in, an answer per
// line out. The argument is the module of the reader.

/** What the reader made of a file, as one line of JSON. `maxRssBytes`: of this process since it began. */
export type ReaderAnswer = { readonly maxRssBytes: number } & (
  | {
      readonly ok: true;
      readonly hash: number;
      readonly revision: number;
      readonly rows: number;
      readonly live: number;
      readonly totalSize: number;
      readonly pageSize: number;
      readonly buckets: number;
    }
  /** `error`: the error's name. `damage` of a SnapshotDamagedError. */
  | { readonly ok: false; readonly error: string; readonly damage: string | null; readonly message: string }
);

type Outcome = ReaderAnswer extends infer Answer
  ? Answer extends unknown
    ? Omit<Answer, 'maxRssBytes'>
    : never
  : never;

function read(readSnapshot: typeof ReadSnapshot, file: string): Outcome {
  try {
    const facts = readSnapshot(file);
    return {
      ok: true,
      hash: facts.hash,
      revision: facts.revision,
      rows: facts.totalKey.rows,
      live: facts.totalKey.live,
      totalSize: facts.totalSizeBytes,
      pageSize: facts.pageSizeBytes,
      buckets: facts.buckets.length,
    };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : { name: typeof error, message: String(error) };
    const damage =
      error instanceof Error && 'damage' in error && typeof error.damage === 'string' ? error.damage : null;
    return { ok: false, error: name, damage, message };
  }
}

async function main(): Promise<void> {
  const module = process.argv[2];
  if (module === undefined) throw new Error('got no argument, expected the module that exports readSnapshot');
  const { readSnapshot } = (await import(module)) as { readSnapshot: typeof ReadSnapshot };
  for await (const file of createInterface({ input: process.stdin })) {
    const outcome = read(readSnapshot, file);
    // Not that of resourceUsage: it counts what the parent had when it started this process.
    const maxRssBytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
    process.stdout.write(`${JSON.stringify({ ...outcome, maxRssBytes })}\n`);
  }
}

void main();
