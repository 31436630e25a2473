import type { Credentials } from './credentials';
import type { NamedPolicy } from './iam';
import { signedHeadersFor } from './signature';

// MinIO refuses a policy with a condition key that it does not know; these are the ones of its policy/condition package that S3 has too.
const KNOWN_CONDITION_KEYS = new Set(
  [
    's3:prefix',
    's3:delimiter',
    's3:max-keys',
    's3:versionid',
    's3:x-amz-server-side-encryption',
    's3:x-amz-server-side-encryption-aws-kms-key-id',
    's3:x-amz-content-sha256',
    's3:x-amz-storage-class',
    's3:object-lock-mode',
    's3:object-lock-retain-until-date',
    's3:object-lock-remaining-retention-days',
    's3:object-lock-legal-hold',
    'aws:securetransport',
  ].map((key) => key.toLowerCase()),
);
// A tag's name is part of the key; the tag is that of the request, as in S3.
const REQUEST_TAG_KEY = /^s3:requestobjecttag\/[^/]+$/;
// MinIO asks for the action without the version also where the request names a version; S3 asks for the one with it.
const ACTIONS_WITHOUT_VERSION: Readonly<Record<string, string>> = {
  's3:GetObjectVersion': 's3:GetObject',
  's3:GetObjectVersionTagging': 's3:GetObjectTagging',
  's3:PutObjectVersionTagging': 's3:PutObjectTagging',
};
// MinIO has no public access block, and refuses a policy that names it.
const UNKNOWN_ACTIONS = new Set(['s3:GetBucketPublicAccessBlock']);
// The operators that MinIO parses; it has no IfExists variants.
const KNOWN_OPERATORS =
  /^(ForAllValues:|ForAnyValue:)?(String(Not)?(Equals|EqualsIgnoreCase|Like)|Null|Bool|(Numeric|Date)(Not)?Equals|(Numeric|Date)(LessThan|GreaterThan)(Equals)?)$/;
const SESSION_SECONDS = 12 * 3600;

interface Statement {
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

const isKnownKey = (key: string): boolean => KNOWN_CONDITION_KEYS.has(key) || REQUEST_TAG_KEY.test(key);

const list = <Item>(value: Item | readonly Item[]): readonly Item[] =>
  Array.isArray(value) ? (value as readonly Item[]) : [value as Item];

/** The S3 part of a role's policies in the form MinIO takes, and the conditions that had to be left out of it. */
export const sessionPolicy = (
  policies: readonly NamedPolicy[],
): { readonly policy: unknown; readonly leftOut: readonly string[] } => {
  const leftOut: string[] = [];
  const statements = policies
    .flatMap(({ policy }) => list((policy as { Statement: Statement | Statement[] }).Statement))
    .flatMap((statement) => {
      const Action = list(statement.Action)
        .filter((action) => (action === '*' || action.startsWith('s3:')) && !UNKNOWN_ACTIONS.has(action))
        .flatMap((action) => [action, ACTIONS_WITHOUT_VERSION[action] ?? []].flat());
      const Resource = list(statement.Resource).filter(
        (resource) => resource === '*' || resource.startsWith('arn:aws:s3:::'),
      );
      if (Action.length === 0 || Resource.length === 0) return [];
      const missing: string[] = [];
      const Condition: Record<string, Record<string, unknown>> = {};
      for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
        for (const [key, value] of Object.entries(keys)) {
          if (KNOWN_OPERATORS.test(operator) && isKnownKey(key.toLowerCase()))
            (Condition[operator] ??= {})[key] = value;
          else missing.push(`${statement.Effect} ${Action.join(' ')}: ${operator} ${key}`);
        }
      }
      leftOut.push(...missing);
      // An Allow without its condition allows more than the role does, which is said; a Deny without it would break what is right.
      if (missing.length > 0 && statement.Effect === 'Deny') return [];
      return [
        { Effect: statement.Effect, Action, Resource, ...(Object.keys(Condition).length === 0 ? {} : { Condition }) },
      ];
    });
  // A session without any statement would be MinIO's "no policy given", which is everything.
  const nothing = { Effect: 'Deny', Action: ['s3:*'], Resource: ['arn:aws:s3:::*'] };
  return { policy: { Version: '2012-10-17', Statement: statements.length === 0 ? [nothing] : statements }, leftOut };
};

/** Credentials with a session token, as Lambda hands them to a function, that MinIO holds to the role's S3 statements. Throws with MinIO's answer. */
export const startSession = async (options: {
  readonly url: string;
  readonly region: string;
  readonly root: Credentials;
  readonly policy: unknown;
}): Promise<Credentials> => {
  const form = new URLSearchParams({
    Action: 'AssumeRole',
    Version: '2011-06-15',
    DurationSeconds: String(SESSION_SECONDS),
    Policy: JSON.stringify(options.policy),
  });
  const body = Buffer.from(form.toString());
  const request = {
    method: 'POST',
    url: `${options.url}/`,
    body,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  };
  const response = await fetch(request.url, {
    method: request.method,
    headers: signedHeadersFor(request, 'sts', options.region, options.root),
    body,
  });
  const xml = await response.text();
  const value = (name: string): string => new RegExp(`<${name}>([^<]+)</${name}>`).exec(xml)?.[1] ?? '';
  const accessKeyId = value('AccessKeyId');
  if (!response.ok || accessKeyId === '')
    throw new Error(
      `MinIO gave no session for ${JSON.stringify(options.policy)}: HTTP ${String(response.status)} ${xml}`,
    );
  return { accessKeyId, secretAccessKey: value('SecretAccessKey'), sessionToken: value('SessionToken') };
};
