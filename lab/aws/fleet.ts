import type { ChildProcess } from 'node:child_process';
import { AwsError } from './aws-error';

/** One control-plane node as EC2 and SSM see it. Fields that change while a lab runs may be set at any time. */
export interface FleetNode {
  readonly instanceId: string;
  readonly privateIp: string;
  readonly privateDnsName: string;
  readonly arch: 'x86_64' | 'arm64';
  readonly tags: Readonly<Record<string, string>>;
  agentVersion: string;
  /** What SSM believes; the heartbeat behind it is five minutes apart, so it may be wrong. */
  pingStatus: 'Online' | 'ConnectionLost';
  /** EC2's state; left out it is running. Of the node itself it changes nothing, but its agent takes no commands unless it is running. */
  state?: 'running' | 'stopped' | 'terminated';
  /** Whether SSM and the agent do not reach each other, as with a cut link: what runs goes on, and is reported when they do again. */
  agentDown?: boolean;
  /** Folder inside the node for the agent's script files; left out it is the agent's own, under /var/lib/amazon/ssm. */
  readonly orchestrationDir?: string;
  /** Starts a program as root inside the node, all three streams piped, in a process group of its own whose id is the pid. */
  spawn(argv: readonly string[], options: { readonly env: Readonly<Record<string, string>> }): ChildProcess;
}

/** Whether SSM and the node's agent reach each other. */
export const reachesAgent = ({ state = 'running', agentDown = false }: FleetNode): boolean =>
  state === 'running' && !agentDown;

/** The nodes of the lab, by instance id. */
export class Fleet {
  readonly #nodes = new Map<string, FleetNode>();

  constructor(nodes: readonly FleetNode[]) {
    for (const node of nodes) {
      if (!/^i-[0-9a-f]{8,17}$/.test(node.instanceId))
        throw new Error(`instance id of a node: got '${node.instanceId}', expected i- and 8 to 17 hex digits`);
      if (this.#nodes.has(node.instanceId)) throw new Error(`instance id ${node.instanceId}: got twice, expected once`);
      this.#nodes.set(node.instanceId, node);
    }
  }

  all(): FleetNode[] {
    return [...this.#nodes.values()];
  }

  find(instanceId: string): FleetNode | undefined {
    return this.#nodes.get(instanceId);
  }
}

/** One page of a list. Throws the given error for a token that was not handed out. */
export const page = <Item>(
  items: readonly Item[],
  size: number,
  token: string | undefined,
  tokenError: string,
): { readonly items: readonly Item[]; readonly next: string | undefined } => {
  const start =
    token === undefined ? 0 : Number(/^page-(\d+)$/.exec(Buffer.from(token, 'base64url').toString())?.[1] ?? NaN);
  if (!Number.isInteger(start) || start > items.length)
    throw new AwsError(tokenError, `the token '${token ?? ''}' is not one that this list gave`);
  const next =
    start + size < items.length ? Buffer.from(`page-${String(start + size)}`).toString('base64url') : undefined;
  return { items: items.slice(start, start + size), next };
};
