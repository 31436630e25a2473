import { findNodes } from '../backup/find-nodes';
import { NoNodeError } from '../shared/errors';
import type { Run } from './run';

/**
 * Why the restore must not go on: control-plane instances that run now and were not there when Inspect looked, up to hours ago. Their etcd
 * and API server would run on the old data beside the restored cluster. undefined: there are none, or EC2 does not say.
 */
export async function strangersOf({ deps, state }: Run): Promise<string | undefined> {
  const known = [...state.nodes.map(({ instanceId }) => instanceId), ...(state.leftOut ?? [])];
  let running;
  try {
    ({ nodes: running } = await findNodes(deps, known));
  } catch (error) {
    // One restores while EC2 is disturbed, too: then what Inspect saw has to do.
    if (error instanceof NoNodeError) {
      return undefined;
    }
    throw error;
  }
  const strangers = running.map(({ instanceId }) => instanceId).filter((id) => !known.includes(id));
  return strangers.length === 0
    ? undefined
    : `running control-plane nodes: got also ${strangers.join(', ')}, expected only those that Inspect has seen: what runs there would go on with the old data; start again, which includes them, or stop those instances first`;
}
