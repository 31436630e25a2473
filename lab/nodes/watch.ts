import { createInterface } from 'node:readline';
import type { LabNode } from './lab-node';

/** An event of a watch, with the revision of the change; `created` is the first one, with the revision that etcd was at. */
export interface WatchEvent {
  readonly type: 'created' | 'put' | 'delete';
  readonly revision: number;
  readonly key?: string;
}

// The last line of lab/go/lab/watch.
interface Compacted {
  readonly type: 'compacted';
  readonly compactRevision: number;
}

/** A watch that is open. */
export interface LabWatch {
  /** All that it got so far. */
  readonly events: readonly WatchEvent[];
  /**
   * Resolves with the compacted revision once etcd says ErrCompacted: it no longer has what the watch should go on with. Rejects when the
   * watch ends in any other way.
   */
  readonly compacted: Promise<number>;
  /** Ends it. */
  close(): void;
}

/**
 * Opens a watch on a node's member that reconnects for as long as it takes, as an API server's does. Resolves when etcd has confirmed it.
 * `revision` is the one to begin with; without it, the next. Throws when the watch ends before that.
 */
export const openWatch = async (
  node: LabNode,
  options: { readonly prefix?: string; readonly revision?: number } = {},
): Promise<LabWatch> => {
  // prettier-ignore
  const child = node.spawn([
    '/opt/lab/bin/watch', '--endpoints', node.etcdctlEnvironment.ETCDCTL_ENDPOINTS ?? '', '--prefix', options.prefix ?? '/registry/',
    '--revision', String(options.revision ?? 0),
  ]);
  const events: WatchEvent[] = [];
  let end: Compacted | undefined;
  let stderr = '';
  const confirmed = new Promise<void>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as WatchEvent | Compacted;
      if (line.type === 'compacted') end = line;
      else events.push(line);
      resolve();
    });
  });
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const compacted = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0 && end !== undefined) resolve(end.compactRevision);
      else
        reject(
          new Error(
            `the watch on ${node.name} ended with ${String(code ?? signal)}, expected 'compacted': ${stderr.trim()}`,
          ),
        );
    });
  });
  // Who never asks for it need not handle that it was closed.
  compacted.catch(() => undefined);
  await Promise.race([confirmed, compacted]);
  return {
    events,
    compacted,
    close: () => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid ?? 0), 'SIGKILL');
    },
  };
};
