import { randomUUID } from 'node:crypto';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { AwsError, validation } from './aws-error';
import type { Caller, CredentialStore } from './credentials';
import { authenticate } from './signature';

/** Every stand-in listens here and nowhere else. */
export const LOOPBACK = '127.0.0.1';
// Larger than any request that the services behind these endpoints take.
const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** An HTTP server on the loopback address. */
export interface Endpoint {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** A request whose signature was checked. */
export interface SignedRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly caller: Caller;
}

/** What a stand-in answers. */
export interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body: string | Buffer;
}

/** Reads a request's body. Throws RequestEntityTooLargeException past 8 MiB. */
export const readBody = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new AwsError('RequestEntityTooLargeException', `got more than ${String(MAX_BODY_BYTES)} bytes`, 413);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

/** Starts a server on the loopback address; port 0 takes a free one. */
export const listen = async (server: Server, port: number): Promise<Endpoint> => {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, LOOPBACK, resolve);
  });
  const actual = (server.address() as AddressInfo).port;
  return {
    url: `http://${LOOPBACK}:${String(actual)}`,
    port: actual,
    stop: () =>
      new Promise((resolve, reject) => {
        server.close((error) => {
          if (error === undefined) resolve();
          else reject(error);
        });
        server.closeAllConnections();
      }),
  };
};

/** Options of a stand-in's endpoint. */
export interface ServiceOptions {
  /** Service name in the signature's scope, as the SDK's: kms, ssm, ec2, lambda, states. */
  readonly service: string;
  readonly region: string;
  readonly port: number;
  readonly credentials: CredentialStore;
  readonly handle: (request: SignedRequest) => Promise<Answer> | Answer;
  /** How this protocol writes an error. */
  readonly renderError: (error: AwsError, requestId: string) => Answer;
}

/** Starts one AWS service endpoint that checks signatures and answers errors in the service's own form. */
export const startService = async (options: ServiceOptions): Promise<Endpoint> => {
  const listener: RequestListener = (request, response) => {
    const requestId = randomUUID();
    const answer = async (): Promise<Answer> => {
      const body = await readBody(request);
      const raw = { method: request.method ?? '', url: request.url ?? '/', headers: request.headers, body };
      const caller = authenticate(raw, options.service, options.region, options.credentials);
      return await options.handle({ ...raw, url: new URL(raw.url, 'http://localhost'), caller });
    };
    void answer()
      .catch((error: unknown) => {
        if (error instanceof AwsError) return options.renderError(error, requestId);
        // A fault of the stand-in itself: said in full, so that a test shows it instead of hanging on retries.
        const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
        return options.renderError(new AwsError('InternalServerError', detail, 500), requestId);
      })
      .then(({ status = 200, headers = {}, body }) => {
        response.writeHead(status, { 'x-amzn-requestid': requestId, ...headers });
        response.end(body);
      });
  };
  return listen(createServer(listener), options.port);
};

/** One operation of a JSON service. */
export type Operation = (input: Record<string, unknown>, caller: Caller) => Promise<unknown>;

/** Starts a JSON service (KMS, SSM, Step Functions): `prefix.Operation` in x-amz-target selects one of `operations`, any other is refused. */
export const startJsonService = (
  options: Omit<ServiceOptions, 'handle' | 'renderError'> & {
    readonly prefix: string;
    readonly operations: Readonly<Record<string, Operation>>;
    /** @default 1.1 */
    readonly version?: '1.0' | '1.1';
  },
): Promise<Endpoint> => {
  const contentType = `application/x-amz-json-${options.version ?? '1.1'}`;
  return startService({
    ...options,
    handle: async ({ method, headers, body, caller }) => {
      const target = String(headers['x-amz-target'] ?? '');
      const [prefix, name = ''] = target.split('.');
      const operation = Object.hasOwn(options.operations, name) ? options.operations[name] : undefined;
      if (method !== 'POST' || prefix !== options.prefix || operation === undefined) {
        throw new AwsError(
          'UnknownOperationException',
          `this stand-in knows ${Object.keys(options.operations).join(', ')}; got ${method} ${target}`,
        );
      }
      let input: unknown;
      try {
        input = JSON.parse(body.toString('utf8') || '{}');
      } catch (error) {
        throw new AwsError('SerializationException', `the body is not JSON: ${String(error)}`);
      }
      if (typeof input !== 'object' || input === null || Array.isArray(input))
        throw validation('the body is not a JSON object');
      const output = await operation(input as Record<string, unknown>, caller);
      return { headers: { 'content-type': contentType }, body: JSON.stringify(output) };
    },
    renderError: (error) => ({
      status: error.status,
      headers: { 'content-type': contentType },
      body: JSON.stringify({ __type: error.code, message: error.message, Message: error.message }),
    }),
  });
};
