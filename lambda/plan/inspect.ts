import type { SSMClient } from '@aws-sdk/client-ssm';
import { chooseNodes, type Node } from '../backup/choose-nodes';
import { NodeResultError, RunCommandError } from '../shared/errors';
import { type Inspection, readInspection } from '../shared/inspection';
import { clean, readFailure } from '../shared/node-result';
import {
  type CommandEnd,
  type Document,
  type RunCommandDeps,
  sendDocument,
  waitForCommand,
} from '../shared/run-document';

/** A running control-plane node with what it said; `inspection` is null where it said nothing, and `problem` then has why. */
export type InspectedNode = Pick<Node, 'instanceId' | 'arch' | 'addresses'> &
  (
    | { readonly inspection: Inspection; readonly problem: null }
    | { readonly inspection: null; readonly problem: string }
  );

/** What running the document needs. */
export interface InspectDeps {
  readonly clusterName: string;
  readonly inspectDocument: Document;
  readonly ssm: SSMClient;
  readonly ssmOnce: SSMClient;
  readonly now: () => Date;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

// The document's own timeout is two minutes.
const LONGEST_SECONDS = 180;
// SSM's agent may be in the middle of a reconnect.
const ATTEMPTS = 2;
// The document's maxChars (lib/plan.ts).
const PEERS_MAX_CHARS = 4000;

/**
 * Asks all nodes side by side what they are; nothing is written there, so a command that an earlier run of the function has sent is not
 * looked for. Nothing of a node is thrown.
 *
 * @param peers URLs at which the nodes are to knock
 */
export async function inspectNodes(
  deps: InspectDeps,
  nodes: readonly Node[],
  { restoreId, peers }: { readonly restoreId: string; readonly peers: readonly string[] },
): Promise<InspectedNode[]> {
  return Promise.all(
    nodes.map(async (node) => {
      const { instanceId, arch, addresses } = node;
      const [unusable] = chooseNodes({
        nodes: [node],
        failedLast: [],
        failedBefore: [],
        leaderInstanceId: undefined,
      }).unusable;
      const said = unusable === undefined ? await inspectNode(deps, instanceId, { restoreId, peers }) : unusable;
      return typeof said === 'string'
        ? { instanceId, arch, addresses, inspection: null, problem: said }
        : { instanceId, arch, addresses, inspection: said, problem: null };
    }),
  );
}

async function inspectNode(
  deps: InspectDeps,
  instanceId: string,
  { restoreId, peers }: { readonly restoreId: string; readonly peers: readonly string[] },
): Promise<Inspection | string> {
  const until = deps.now().getTime() + LONGEST_SECONDS * 1000;
  const runCommand: RunCommandDeps = { ...deps, pause: deps.sleep };
  const overdue = () =>
    Promise.resolve(deps.now().getTime() > until ? `it had run for ${String(LONGEST_SECONDS)} s` : undefined);
  for (let attempt = 1; ; attempt++) {
    let end: CommandEnd;
    try {
      const sent = await sendDocument(runCommand, {
        document: deps.inspectDocument,
        instanceId,
        comment: `${restoreId} Inspect`,
        parameters: { ClusterName: deps.clusterName, Peers: peersParameter(peers) },
      });
      end = 'kind' in sent ? { ...sent, ran: false } : await waitForCommand(runCommand, sent, overdue);
    } catch (error) {
      if (!(error instanceof RunCommandError)) {
        throw error;
      }
      end = { kind: 'unreachable', reason: error.message, ran: false };
    }
    if (end.kind === 'finished') {
      return readEnd(instanceId, end);
    }
    if (attempt === ATTEMPTS || deps.now().getTime() > until) {
      return `${instanceId} does not answer: ${end.reason}; expected its SSM agent to run the command; repair the agent or its route to SSM, or stop the instance in EC2, so that it is known to be down`;
    }
  }
}

function readEnd(instanceId: string, end: CommandEnd & { readonly kind: 'finished' }): Inspection | string {
  try {
    if (end.succeeded) {
      return readInspection(end.stdout);
    }
    const { error, message } = readFailure(end.stdout);
    return `${instanceId} could not be looked at (${error}): ${message}`;
  } catch (error) {
    if (!(error instanceof NodeResultError)) {
      throw error;
    }
    return end.succeeded
      ? `${instanceId}: ${error.message}`
      : `${instanceId} could not be looked at: ${end.statusDetails}, exit status ${String(end.responseCode)}, stderr '${clean(end.stderr)}'; expected a result line; look at the command in SSM`;
  }
}

/** As many URLs as fit the document's parameter, and none that its pattern refuses. */
function peersParameter(peers: readonly string[]): string {
  let parameter = '';
  for (const peer of peers) {
    if (/^[A-Za-z0-9.:/_%[\]-]+$/.test(peer) && parameter.length + 1 + peer.length <= PEERS_MAX_CHARS) {
      parameter += `${parameter === '' ? '' : ' '}${peer}`;
    }
  }
  return parameter;
}
