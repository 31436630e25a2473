import * as z from 'zod/mini';
import { BACKUP_ID_PATTERN } from '../shared/backup-id';
import { printable, text, wholeNumber } from '../shared/check';
import { NodeResultError } from '../shared/errors';
import { readLine } from '../shared/node-result';

// As in lambda/shared/node-result.ts: whoever owns a node can print what they like, so everything has bounds.
const id = text(/^[0-9a-f]{1,16}$/, '1 to 16 lower-case hex digits');
const restoreId = text(BACKUP_ID_PATTERN, 'the id of a restore');
const flag = z.boolean('true or false');
// Only printed when it is so.
const said = z.optional(z.literal(true, 'true, or no such field'));
const seconds = z.number('a number of seconds').check(z.gte(0, 'a number of seconds from 0 on'));
const hash = wholeNumber(0, 0xffff_ffff);
const list = <Item extends z.core.$ZodType>(item: Item, max: number) =>
  z.array(item, `a list of at most ${String(max)}`).check(z.maxLength(max, `a list of at most ${String(max)}`));
const object = <Shape extends z.core.$ZodShape>(shape: Shape) => z.object(shape, 'an object');
const component = text(
  /^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$/,
  'a component of the control plane',
);
const common = { ok: z.literal(true, 'true'), restoreId };

const member = object({
  id,
  name: printable(253),
  peerUrls: list(printable(500), 20),
  clientUrls: list(printable(500), 20),
  isLearner: flag,
});

const schemas = {
  key: object({
    ...common,
    publicKey: text(/^[A-Za-z0-9+/]{400,1000}={0,2}$/, 'a public key in base64'),
  }),
  stage: object({
    ...common,
    staged: object({ hash, revision: wholeNumber(0), totalKey: wholeNumber(0) }),
    seconds: object({ check: seconds, download: seconds, restore: seconds, total: seconds }),
    /** Restores whose kept data was removed to make room. */
    removedKept: list(restoreId, 100),
  }),
  stop: object({ ...common, seconds, killed: list(printable(64), 20) }),
  swap: object({ ...common, kept: flag }),
  start: object({
    ...common,
    component: z.enum(['etcd', 'api-server', 'controllers'], 'the component that was started'),
  }),
  etcd: object({
    ...common,
    member: object({
      id,
      clusterId: id,
      leaderId: id,
      revision: wholeNumber(0),
      hashKv: hash,
      hashRevision: wholeNumber(0),
      isLearner: flag,
      members: list(member, 50),
      alarms: list(object({ memberId: id, alarm: printable(32) }), 50),
    }),
    wrote: flag,
  }),
  cluster: object({
    ...common,
    ready: flag,
    running: list(component, 10),
    /** Addresses by which this node's API server may announce itself; none without one. */
    advertised: list(printable(253), 20),
    /** Addresses by which API servers are announced, once the leases of those that are gone have had the time to end. */
    masterleases: list(printable(253), 100),
  }),
  before: object({ ...common, healthy: list(printable(64), 10), leftStopped: said }),
  rollback: object({
    ...common,
    undone: flag,
    finishedForward: flag,
    /** The node has no data, and etcd would begin an empty cluster there. */
    leftStopped: said,
    /** Controllers are held back, as the restore was told. */
    held: said,
  }),
  cleanup: object({ ...common, kept: list(restoreId, 100) }),
  evidence: object({
    ...common,
    evidence: z.record(
      text(/^[A-Za-z0-9_.-]{1,64}$/, 'a name'),
      z.string('text').check(z.maxLength(24_000, 'at most 24,000 characters')),
    ),
  }),
};

/** What the scripts of a restore print. Ids in hex, seconds as numbers. */
export type NodeResults = { readonly [Name in keyof typeof schemas]: z.output<(typeof schemas)[Name]> };

/** A restored member as the check script saw it. */
export type RestoredMember = NodeResults['etcd']['member'];

/** Reads one script's result line. Throws NodeResultError when it is not one, or is another restore's. */
export function resultOf<Name extends keyof NodeResults>(
  name: Name,
  expectedId: string,
): (stdout: string) => NodeResults[Name] {
  return (stdout) => {
    const result = readLine(schemas[name], stdout) as NodeResults[Name];
    if (result.restoreId !== expectedId) {
      throw new NodeResultError(
        `restoreId in the result line: got ${result.restoreId}, expected ${expectedId}; find out what else runs this document`,
      );
    }
    return result;
  };
}
