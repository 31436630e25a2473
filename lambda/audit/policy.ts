import type * as z from 'zod/mini';
import type { policySchema } from './event';

/** A bucket policy as IAM's grammar has it, as far as it is looked at. */
export type Policy = z.output<typeof policySchema>;

type Statement = Exclude<Policy['Statement'], readonly unknown[]>;

/**
 * What of the expected bucket policy is not there any more, and, unless somebody else owns the bucket, what lets anybody in. Order, and
 * whether a single value stands in a list, say nothing: S3 gives a policy back as it likes.
 */
export function policyRisks(actual: Policy | undefined, expected: Policy, adopted: boolean): string[] {
  const found = new Set(statementsOf(actual).map(canonical));
  const missing = statementsOf(expected).filter((statement) => !found.has(canonical(statement)));
  const allowing = adopted ? [] : statementsOf(actual).filter(({ Effect }) => Effect !== 'Deny');
  return [
    ...missing.map(
      ({ Sid }) => `bucket policy: the statement ${String(Sid)} is not there, or is another; deploy the stack again`,
    ),
    ...allowing.map(
      ({ Sid }) =>
        `bucket policy: the statement ${Sid?.slice(0, 100) ?? 'without Sid'} allows something, expected only denials; find out in CloudTrail who put it there`,
    ),
  ];
}

function statementsOf(policy: Policy | undefined): readonly Statement[] {
  const statements = policy?.Statement ?? [];
  return Array.isArray(statements) ? statements : [statements];
}

function canonical({ Sid, Effect, Principal, Action, NotAction, Resource, NotResource, Condition }: Statement): string {
  const conditions = Object.entries(Condition ?? {}).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, value]) => JSON.stringify([operator, key, setOf(value)])),
  );
  return JSON.stringify([
    Sid,
    Effect,
    isEverybody(Principal) ? '*' : (Principal ?? null),
    setOf(Action),
    setOf(NotAction),
    setOf(Resource),
    setOf(NotResource),
    conditions.sort(),
  ]);
}

function setOf(value: unknown): string[] {
  const values: readonly unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
  return [...new Set(values.map(String))].sort();
}

function isEverybody(principal: unknown): boolean {
  return (
    principal === '*' ||
    (typeof principal === 'object' &&
      principal !== null &&
      Object.keys(principal).join() === 'AWS' &&
      setOf((principal as Record<string, unknown>)['AWS']).join() === '*')
  );
}
