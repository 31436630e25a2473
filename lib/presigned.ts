import { Fn, Stack, Token } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import type { ScriptParameter } from './script-document';
import type { Prefix, StoreBucket } from './store';

/**
 * What a presigned URL of an object under this prefix looks like, as a piece of a pattern: it leads into this bucket and nowhere else, by the
 * name that the SDK gives it, `https://<bucket>.s3.<region>.<suffix of the partition>/<prefix>/…`. A document with this pattern cannot be used to
 * have a node send what it holds to somebody else.
 */
export function objectUrlPattern(scope: Construct, bucket: StoreBucket, prefix: Prefix): string {
  const { region, urlSuffix } = Stack.of(scope);
  const host = `s3[.]${region}[.]${literally(urlSuffix)}`;
  const name = bucket.bucketName;
  // No certificate of S3 fits a host with a dot in the bucket's name, so the SDK has such a name in the path. CloudFormation makes none.
  const origin = !Token.isUnresolved(name) && name.includes('.') ? `${host}/${literally(name)}` : `${name}[.]${host}`;
  return `https://${origin}/${prefix}/[A-Za-z0-9.:/?&=%~_+-]+`;
}

/** Text that may be known only when the stack is deployed, so that a dot in it is a dot of the pattern. */
function literally(text: string): string {
  return Fn.join('[.]', Fn.split('.', text));
}

// Those that the presigner signs. Not host: S3 takes the bucket from it, whatever the URL says.
const HEADER = '(if-none-match|x-amz-[a-z0-9-]+): [A-Za-z0-9:;,=/+._ *()-]+';

/** The headers of a presigned PUT, as lambda/backup/presign.ts joins them. */
export const HEADERS_PARAMETER: ScriptParameter = {
  description: 'Signed headers that the PUT must send: name: value, joined by |',
  allowedPattern: `^${HEADER}([|]${HEADER})*$`,
  maxChars: 6000,
};

/** The same, where there may be none. */
export const OPTIONAL_HEADERS_PARAMETER: ScriptParameter = {
  ...HEADERS_PARAMETER,
  allowedPattern: `^(${HEADER}([|]${HEADER})*)?$`,
  default: '',
};
