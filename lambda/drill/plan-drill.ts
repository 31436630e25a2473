import { neededDisk } from '../drill-run/needed-disk';
import { DISK_BYTES, type Order } from '../drill-run/order';
import type { OfficialTools } from '../shared/official-tools';
import type { Receipt } from '../shared/receipt';
import { chooseTools, type ChosenTool, type DrillTool } from './choose-tools';

/** Why a backup cannot be drilled: a word of docs/drill.md, and what to do. */
export interface NotPossible {
  readonly reason: 'other-architecture' | 'tools-missing' | 'tools-unknown' | 'too-large' | 'authentication-on';
  readonly sentence: string;
}

// Somebody who owns a node could have stored any number.
const SHOWN = 6;

export type DrillPlan = { readonly tools: readonly ChosenTool[]; readonly keysPerPage: number } | NotPossible;

/** Whether and with what this backup can be drilled. */
export function planDrill(
  receipt: Receipt,
  stored: readonly DrillTool[],
  config: {
    /** Of the nodes, as etcd's releases name it. */
    readonly arch: Order['arch'];
    readonly officialTools: OfficialTools;
    readonly acknowledgedTools: readonly string[];
  },
): DrillPlan {
  const { backupId, sizeBytes, announced, snapshot, inventory } = receipt;
  if (announced.arch !== config.arch) {
    return {
      reason: 'other-architecture',
      sentence: `architecture of backup ${backupId}: got ${announced.arch} from the node, expected ${config.arch} as the configuration says; set 'architecture' of the cluster to that of its control-plane nodes and deploy`,
    };
  }
  if (snapshot.auth.enabled) {
    return {
      reason: 'authentication-on',
      sentence: `backup ${backupId}: got one with etcd's authentication on, expected it off, as Kubernetes has it: a drill knows no user's password; restore it by hand as docs/restore.md says`,
    };
  }
  const choice = chooseTools(stored, announced, config.officialTools, config.acknowledgedTools);
  if ('missing' in choice) {
    const { missing, unknown } = choice;
    const absent = missing.filter((name) => unknown.every((tool) => tool.name !== name));
    if (absent.length === 0) {
      return {
        reason: 'tools-unknown',
        sentence: `binaries of etcd ${announced.etcdVersion} (${config.arch}) in the bucket's tools/: got ${unknown
          .slice(-SHOWN)
          .map(({ name, sha256 }) => `${name} with SHA-256 ${sha256}`)
          .join(
            ', ',
          )}, expected for each name one of the official release, one that is acknowledged, or the one that the image of the backup's node had and no other before it: they get the whole backup into their hands; see where the images come from, then run 'npm run tools -- add ${announced.etcdVersion}', or acknowledge their hashes (acknowledgedTools) and deploy`,
      };
    }
    return {
      reason: 'tools-missing',
      sentence: `binaries of etcd ${announced.etcdVersion} (${config.arch}): got no ${absent.join(' and no ')} in the bucket's tools/, expected those that the nodes run; look why the backup did not store them (finding tools-not-kept), or run 'npm run tools -- add ${announced.etcdVersion}'`,
    };
  }
  const needed = neededDisk(
    sizeBytes,
    choice.tools.map(({ bytes }) => bytes),
  );
  if (needed > DISK_BYTES) {
    return {
      reason: 'too-large',
      sentence: `backup ${backupId}: got ${String(sizeBytes)} bytes, for which a drill needs a disk of ${String(needed)}, expected at most the ${String(DISK_BYTES)} that a Lambda function can have; compact and defragment etcd, or restore it by hand now and then as docs/restore.md says`,
    };
  }
  return { tools: choice.tools, keysPerPage: keysPerPage(inventory.largest.map(({ bytes }) => bytes)) };
}

// etcd, etcdctl and the line between them hold a page several times over.
const PAGE_BYTES = 128 * 1024 * 1024;
const MIN_KEYS = 16;
const MAX_KEYS = 20_000;

/**
 * How many keys can be read at a time.
 *
 * @param largest bytes of the largest keys with their values, largest first: no other is larger than the last of them
 */
export function keysPerPage(largest: readonly number[]): number {
  const others = Math.max(1, largest.at(-1) ?? 1);
  const room = PAGE_BYTES - largest.reduce((sum, bytes) => sum + bytes, 0);
  return Math.min(MAX_KEYS, Math.max(MIN_KEYS, Math.floor(room / others)));
}
