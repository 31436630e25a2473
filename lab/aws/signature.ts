import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { AwsError } from './aws-error';
import type { Caller, CredentialStore, Credentials } from './credentials';

const ALGORITHM = 'AWS4-HMAC-SHA256';
// AWS takes requests whose clock is off by up to five minutes.
const MAX_SKEW_SECONDS = 300;

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

// RFC 3986: encodeURIComponent leaves four characters that SigV4 encodes.
const encode = (value: string): string =>
  encodeURIComponent(value).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );

const canonicalQuery = (parameters: URLSearchParams): string =>
  [...parameters]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');

interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

interface Scope {
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: string;
}

const sign = (request: Request, amzDate: string, scope: Scope, credentials: Credentials): string => {
  const url = new URL(request.url, 'http://localhost');
  const headers = scope.signedHeaders
    .split(';')
    .map(
      (name) =>
        `${name}:${String(request.headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}\n`,
    )
    .join('');
  const canonical = [
    request.method,
    // Every service but S3 encodes each segment of the path, as it was sent, once more.
    url.pathname.split('/').map(encode).join('/'),
    canonicalQuery(url.searchParams),
    headers,
    scope.signedHeaders,
    sha256(request.body),
  ].join('\n');
  const credentialScope = `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
  const toSign = [ALGORITHM, amzDate, credentialScope, sha256(canonical)].join('\n');
  const key = [scope.region, scope.service, 'aws4_request'].reduce<Buffer>(
    (previous, part) => hmac(previous, part),
    hmac(`AWS4${credentials.secretAccessKey}`, scope.date),
  );
  return hmac(key, toSign).toString('hex');
};

/** Checks the SigV4 signature, service, region, date and session token of a request, and says who called. */
export const authenticate = (request: Request, service: string, region: string, store: CredentialStore): Caller => {
  const header = request.headers.authorization ?? '';
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      header,
    );
  if (parts === null) {
    throw new AwsError(
      'MissingAuthenticationTokenException',
      'Missing Authentication Token: expected an Authorization header with an AWS4-HMAC-SHA256 signature',
      403,
    );
  }
  const [, accessKeyId = '', date = '', signedRegion = '', signedService = '', signedHeaders = '', signature = ''] =
    parts;
  if (signedService !== service || signedRegion !== region) {
    throw new AwsError(
      'InvalidSignatureException',
      `Credential should be scoped to ${region}/${service}, got ${signedRegion}/${signedService}`,
      403,
    );
  }
  const { credentials, caller } = store.find(accessKeyId);
  const amzDate = String(request.headers['x-amz-date'] ?? '');
  const sentAt = Date.parse(amzDate.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!(Math.abs(Date.now() - sentAt) <= MAX_SKEW_SECONDS * 1000)) {
    throw new AwsError(
      'InvalidSignatureException',
      `Signature expired or not yet current: x-amz-date is ${amzDate}, expected within ${String(MAX_SKEW_SECONDS)} s of now`,
      403,
    );
  }
  if (!signedHeaders.split(';').includes('host')) {
    throw new AwsError('InvalidSignatureException', `the host header must be signed, got ${signedHeaders}`, 403);
  }
  if ((credentials.sessionToken ?? '') !== (request.headers['x-amz-security-token'] ?? '')) {
    throw new AwsError('UnrecognizedClientException', 'The security token included in the request is invalid', 403);
  }
  const expected = sign(request, amzDate, { date, region, service, signedHeaders }, credentials);
  if (!timingSafeEqual(Buffer.from(expected), Buffer.from(signature))) {
    throw new AwsError(
      'InvalidSignatureException',
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.',
      403,
    );
  }
  return caller;
};

/** Headers that sign a request of the lab itself, for a service the SDK clients at hand do not cover. */
export const signedHeadersFor = (
  request: {
    readonly method: string;
    readonly url: string;
    readonly body: Buffer;
    readonly headers: Readonly<Record<string, string>>;
  },
  service: string,
  region: string,
  credentials: Credentials,
): Record<string, string> => {
  const amzDate = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
  const headers: Record<string, string> = {
    ...request.headers,
    host: new URL(request.url).host,
    'x-amz-date': amzDate,
    'x-amz-content-sha256': sha256(request.body),
  };
  const scope = { date: amzDate.slice(0, 8), region, service, signedHeaders: Object.keys(headers).sort().join(';') };
  const signature = sign({ ...request, headers }, amzDate, scope, credentials);
  const credential = `${credentials.accessKeyId}/${scope.date}/${region}/${service}/aws4_request`;
  return {
    ...headers,
    authorization: `${ALGORITHM} Credential=${credential}, SignedHeaders=${scope.signedHeaders}, Signature=${signature}`,
  };
};
