import { randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { listen, LOOPBACK, readBody, type Endpoint } from './endpoint';
import type { ObjectCreatedEvent } from './events';
import type { Environment } from './template';

/** What of MinIO's notification the event needs; its key is encoded as in a query. */
interface MinioRecord {
  readonly eventName: string;
  readonly eventTime: string;
  readonly requestParameters: { readonly sourceIPAddress: string };
  readonly responseElements: { readonly 'x-amz-request-id': string };
  readonly s3: {
    readonly bucket: { readonly name: string; readonly arn: string };
    readonly object: {
      readonly key: string;
      /** Left out for an object without bytes. */
      readonly size?: number;
      readonly eTag: string;
      readonly versionId: string;
      readonly sequencer: string;
    };
  };
}

const REASONS: Readonly<Record<string, ObjectCreatedEvent['detail']['reason']>> = {
  's3:ObjectCreated:Put': 'PutObject',
  's3:ObjectCreated:Post': 'POST Object',
  's3:ObjectCreated:Copy': 'CopyObject',
  's3:ObjectCreated:CompleteMultipartUpload': 'CompleteMultipartUpload',
};

/** MinIO's events that S3 calls "Object Created"; its own s3:ObjectCreated:* has changes of tags and locks besides. */
export const CREATED_EVENTS = Object.keys(REASONS);

/** Name of the webhook in MinIO's configuration. */
export const WEBHOOK = 'LAB';

/** The same event as S3 sends it to EventBridge. Throws for one that is no "Object Created". */
export const objectCreated = (record: MinioRecord, { account, region }: Environment): ObjectCreatedEvent => {
  const reason = REASONS[record.eventName];
  if (reason === undefined) throw new Error(`event ${record.eventName}: expected one of ${CREATED_EVENTS.join(', ')}`);
  const { bucket, object } = record.s3;
  return {
    version: '0',
    id: randomUUID(),
    'detail-type': 'Object Created',
    source: 'aws.s3',
    account,
    time: record.eventTime.replace(/\.\d+Z$/, 'Z'),
    region,
    resources: [bucket.arn],
    detail: {
      version: '0',
      bucket: { name: bucket.name },
      object: {
        key: decodeURIComponent(object.key.replaceAll('+', ' ')),
        size: object.size ?? 0,
        etag: object.eTag,
        'version-id': object.versionId,
        sequencer: object.sequencer,
      },
      'request-id': record.responseElements['x-amz-request-id'],
      requester: account,
      'source-ip-address': record.requestParameters.sourceIPAddress,
      reason,
    },
  };
};

/** Where MinIO sends its notifications: a loopback endpoint that wants a token. */
export interface EventReceiver extends Endpoint {
  readonly token: string;
}

/** Starts the receiver; each notification becomes an event for `onEvent`. */
export const startEventReceiver = async (options: {
  readonly environment: Environment;
  readonly onEvent: (event: ObjectCreatedEvent) => Promise<void>;
  /** Gets what could not be taken: nobody else would see it. */
  readonly onFault: (fault: Error) => void;
}): Promise<EventReceiver> => {
  const token = randomBytes(20).toString('hex');
  const expected = Buffer.from(`Bearer ${token}`);
  const server = createServer((request, response) => {
    const given = Buffer.from(request.headers.authorization ?? '');
    const answer = async (): Promise<number> => {
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 403;
      const { Records } = JSON.parse((await readBody(request)).toString('utf8')) as {
        readonly Records: readonly MinioRecord[];
      };
      for (const record of Records) await options.onEvent(objectCreated(record, options.environment));
      return 200;
    };
    void answer()
      .catch((error: unknown) => {
        options.onFault(error instanceof Error ? error : new Error(String(error)));
        return 500;
      })
      .then((status) => {
        response.writeHead(status);
        response.end();
      });
  });
  const endpoint = await listen(server, 0);
  return { ...endpoint, url: `http://${LOOPBACK}:${String(endpoint.port)}/`, token };
};
