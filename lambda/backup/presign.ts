import { PutObjectCommand, type PutObjectCommandInput, type S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { PresignError } from '../shared/errors';

/** A URL that stores exactly one object's bytes, and the headers that the PUT must send beside host and content-length. */
export interface PresignedPut {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** How long a presigned PUT can be begun: 15 minutes. */
export const PUT_SECONDS = 15 * 60;

/** All that may be in the query with an x-amz- name. S3 ignores or drops any other header that is moved there. */
const SIGNING_SET: readonly string[] = [
  'x-amz-algorithm',
  'x-amz-content-sha256',
  'x-amz-credential',
  'x-amz-date',
  'x-amz-expires',
  'x-amz-security-token',
  'x-amz-signature',
  'x-amz-signedheaders',
];

// curl sets these two itself, from the URL and the file.
const SENT_BY_CURL: readonly string[] = ['host', 'content-length'];

/** Presigns a PUT that binds every header of the input. Throws PresignError when something would stay unbound. */
export async function presignPut(
  s3: S3Client,
  input: PutObjectCommandInput & { readonly ContentLength: number },
): Promise<PresignedPut> {
  const command = new PutObjectCommand(input);
  const sent = new Map<string, string>();
  // By default the presigner moves most x-amz-* headers into the query. The set below is read after this step has filled it.
  const unhoistableHeaders = new Set<string>();
  command.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { readonly headers: Readonly<Record<string, string>> };
      for (const [name, value] of Object.entries(headers)) {
        sent.set(name.toLowerCase(), value);
        if (name.toLowerCase().startsWith('x-amz-')) {
          unhoistableHeaders.add(name.toLowerCase());
        }
      }
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'keepHeadersOutOfQuery' },
  );
  const url = await getSignedUrl(s3, command, { expiresIn: PUT_SECONDS, unhoistableHeaders });
  const { searchParams } = new URL(url);

  const moved = [...searchParams.keys()].filter(
    (name) => name.toLowerCase().startsWith('x-amz-') && !SIGNING_SET.includes(name.toLowerCase()),
  );
  if (moved.length > 0) {
    throw new PresignError(
      `query of the presigned PUT: got ${moved.join(', ')}, expected no x-amz- name but those of the signature, because S3 does not heed them there; pin the SDK version that was tested`,
    );
  }
  const signed = (searchParams.get('X-Amz-SignedHeaders') ?? '').split(';');
  const unsigned = [...sent.keys()].filter(
    (name) => name.startsWith('x-amz-') && bindsObject(name) && !signed.includes(name),
  );
  const missing = [
    ...unsigned,
    ...['host', 'content-length', 'if-none-match'].filter((name) => !signed.includes(name)),
  ];
  if (missing.length > 0) {
    throw new PresignError(
      `X-Amz-SignedHeaders of the presigned PUT: got ${signed.join(';')}, expected ${missing.join(', ')} in it as well; pin the SDK version that was tested`,
    );
  }
  return {
    url,
    headers: Object.fromEntries(
      signed.filter((name) => !SENT_BY_CURL.includes(name)).map((name) => [name, sent.get(name) ?? '']),
    ),
  };
}

/** The SDK's word about itself says nothing about the object. */
function bindsObject(header: string): boolean {
  return header !== 'x-amz-user-agent';
}

/** The parameter Headers of the upload document: `name: value`, joined by `|`. Throws PresignError when a value does not fit. */
export function headersParameter(headers: Readonly<Record<string, string>>): string {
  for (const [name, value] of Object.entries(headers)) {
    if (!/^[A-Za-z0-9:;,=/+._ *()-]+$/.test(value)) {
      throw new PresignError(
        `header ${name} of the presigned PUT: got ${JSON.stringify(value)}, expected only letters, digits and :;,=/+._ *()- as the upload document allows; change the name it comes from`,
      );
    }
  }
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join('|');
}
