import type { ControlPlane } from './control-plane';

// Up to here each write is a revision of its own, as with an API server; a gigabyte written like that takes minutes.
const SINGLE_WRITES_UP_TO_BYTES = 200_000_000;
const BATCH = 32;
const TIMEOUT_MS = 20 * 60_000;

/** What was loaded, as lab/go/lab/load prints it. Sizes in bytes. */
export interface LoadSummary {
  readonly keys: number;
  readonly revision: number;
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  readonly written: Readonly<Record<string, number>>;
  readonly updates: number;
  readonly deletes: number;
  readonly secrets: 'encrypted' | 'plain';
  readonly kubeSystemUid: string;
  readonly seconds: number;
}

/**
 * Fills etcd with Kubernetes-like objects until its database has `sizeBytes`. Secrets are stored encrypted by the nodes' own
 * encryption configuration unless `plainSecrets`. Throws when a write fails.
 */
export const loadData = async (
  controlPlane: ControlPlane,
  options: { readonly sizeBytes: number; readonly plainSecrets?: boolean; readonly seed?: number },
): Promise<LoadSummary> => {
  const leader = await controlPlane.leader();
  const others = controlPlane.nodes.filter((node) => node !== leader);
  // prettier-ignore
  const summary = await leader.must(
    [
      '/opt/lab/bin/load', '--size', String(options.sizeBytes), '--secrets', options.plainSecrets === true ? 'plain' : 'encrypted',
      '--endpoints', [leader, ...others].map((node) => node.clientUrl).join(','),
      '--masters', controlPlane.nodes.map((node) => node.ip).join(','), '--seed', String(options.seed ?? 1),
      '--batch', String(options.sizeBytes > SINGLE_WRITES_UP_TO_BYTES ? BATCH : 1),
    ],
    { timeoutMs: TIMEOUT_MS },
  );
  return JSON.parse(summary) as LoadSummary;
};
