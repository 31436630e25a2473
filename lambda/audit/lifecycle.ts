import type { LifecycleRule } from '@aws-sdk/client-s3';

/** For how many days the configuration keeps what carries each value of the tag `retention`. */
export interface ExpectedExpiry {
  readonly days: Readonly<Record<string, number>>;
  /** How long a version stays that its expiry has put a delete marker over. */
  readonly noncurrentDays: number;
}

/** The same for everything that expires. */
export interface ExpectedLifecycle extends ExpectedExpiry {
  /** Of what is under each of these prefixes, and carries no tag. */
  readonly prefixDays: Readonly<Record<string, number>>;
}

const TAG = 'retention';
const SNAPSHOTS = 'snapshots/';
// What no rule expires: records of what was proven, done and kept, and the tools to restore with.
const KEPT = ['receipts/', 'tools/', 'restores/', 'drills/'];
/** What expires by its prefix alone. */
export const EXPIRING = ['announcements/', 'pki/'] as const;

/** What is wrong with the rules that delete: what they take too early, and what they do not take. */
export function lifecycleRisks(rules: readonly LifecycleRule[], expected: ExpectedLifecycle): string[] {
  const deleting = rules.filter((rule) => rule.Status === 'Enabled' && deletes(rule));
  const nameOf = ({ ID }: LifecycleRule) => ID?.slice(0, 100) ?? 'without a name';
  return [
    ...deleting
      .filter((rule) => reaches(rule, SNAPSHOTS, 'latest'))
      .map((rule) => `lifecycle: the rule ${nameOf(rule)} expires the newest verified backup, expected none to`),
    ...KEPT.flatMap((prefix) =>
      deleting
        .filter((rule) => reaches(rule, prefix, undefined))
        .map((rule) => `lifecycle: the rule ${nameOf(rule)} expires ${prefix}, expected none to`),
    ),
    ...Object.entries(expected.days).flatMap(([retention, days]) =>
      expiryRisks(
        retention,
        deleting.filter((rule) => reaches(rule, SNAPSHOTS, retention)),
        { days, noncurrentDays: expected.noncurrentDays },
      ),
    ),
    ...Object.entries(expected.prefixDays).flatMap(([prefix, days]) =>
      expiryRisks(
        `under ${prefix}`,
        deleting.filter((rule) => reaches(rule, prefix, undefined)),
        { days, noncurrentDays: expected.noncurrentDays },
      ),
    ),
  ];
}

function expiryRisks(
  which: string,
  rules: readonly LifecycleRule[],
  expected: { readonly days: number; readonly noncurrentDays: number },
): string[] {
  const what = `lifecycle: what is ${which}`;
  const dates = rules.filter(({ Expiration }) => Expiration?.Date !== undefined);
  const days = rules.flatMap(({ Expiration }) => Expiration?.Days ?? []);
  const noncurrent = rules.flatMap(
    ({ NoncurrentVersionExpiration }) => NoncurrentVersionExpiration?.NoncurrentDays ?? [],
  );
  return [
    ...(dates.length === 0 ? [] : [`${what} expires on a date, expected after ${String(expected.days)} days`]),
    ...outside(`${what} expires after`, days, expected.days),
    ...outside(`${what} is removed, once it has expired, after`, noncurrent, expected.noncurrentDays),
  ];
}

/** Of several rules S3 takes the shortest. */
function outside(sentence: string, got: readonly number[], expected: number): string[] {
  const shortest = got.length === 0 ? undefined : Math.min(...got);
  return shortest === expected
    ? []
    : [
        `${sentence} ${shortest === undefined ? 'no time at all: no rule does it' : `${String(shortest)} days`}, expected ${String(expected)}`,
      ];
}

function deletes({ Expiration, NoncurrentVersionExpiration }: LifecycleRule): boolean {
  return Expiration?.Days !== undefined || Expiration?.Date !== undefined || NoncurrentVersionExpiration !== undefined;
}

/** Whether a rule applies to objects under `prefix` that carry this tag and no other, or none. */
function reaches(rule: LifecycleRule, prefix: string, retention: string | undefined): boolean {
  const { Filter } = rule;
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- S3 still takes this form, and deletes by it
  const own = Filter?.And?.Prefix ?? Filter?.Prefix ?? rule.Prefix ?? '';
  const tags = [...(Filter?.And?.Tags ?? []), ...(Filter?.Tag === undefined ? [] : [Filter.Tag])];
  return (
    (own.startsWith(prefix) || prefix.startsWith(own)) &&
    tags.every(({ Key, Value }) => Key === TAG && Value === retention)
  );
}
