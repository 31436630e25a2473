import { AwsError } from './aws-error';
import type { Caller, CredentialStore } from './credentials';
import { startService, type Endpoint } from './endpoint';
import type { Iam } from './iam';
import type { KmsKeys } from './kms-keys';
import type { Topic, TopicMessage, Topics } from './topics';
import { element, text } from './xml';

// The query protocol: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const VERSION = '2010-03-31';
const NAMESPACE = `http://sns.amazonaws.com/doc/${VERSION}/`;
const CONTENT_TYPE = { 'content-type': 'text/xml' };
// A topic's MaximumMessageSize when it has none of its own, in bytes.
const MESSAGE_BYTES = 262_144;
const TOPIC_ARN = /^arn:aws:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}$/;
const PARAMETERS = ['Action', 'Version', 'TopicArn', 'Message', 'Subject', 'MessageStructure'];
// SNS has its own names for what other services call otherwise.
const CODES: Readonly<Record<string, readonly [code: string, status: number]>> = {
  AccessDeniedException: ['AuthorizationError', 403],
  UnrecognizedClientException: ['InvalidClientTokenId', 403],
  InvalidSignatureException: ['SignatureDoesNotMatch', 403],
  MissingAuthenticationTokenException: ['MissingAuthenticationToken', 403],
};
const KMS_CODES: Readonly<Record<string, string>> = {
  AccessDeniedException: 'KMSAccessDenied',
  DisabledException: 'KMSDisabled',
  NotFoundException: 'KMSNotFound',
};

const invalid = (what: string): AwsError => new AwsError('InvalidParameter', `Invalid parameter: ${what}`);

interface Publish {
  readonly topicArn: string;
  readonly subject: string | undefined;
  readonly texts: TopicMessage['texts'];
}

/** Reads a message, or one for each protocol; what is no text is ignored, as SNS does. */
const readTexts = (message: string, structure: string | null): TopicMessage['texts'] => {
  if (message === '') throw invalid('Empty message');
  if (Buffer.byteLength(message) > MESSAGE_BYTES) throw invalid('Message too long');
  if (structure === null) return { default: message };
  if (structure !== 'json') throw invalid('MessageStructure');
  let parsed: unknown;
  try {
    parsed = JSON.parse(message);
  } catch {
    // Said below, as of everything else that is no object.
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw invalid('Message Structure - JSON message body failed to parse');
  const texts = Object.fromEntries(
    Object.entries(parsed).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
  const { default: fallback } = texts;
  if (fallback === undefined) throw invalid('Message Structure - No default entry in JSON message body');
  return { ...texts, default: fallback };
};

/** Reads the parameters of Publish. Throws InvalidParameter for what SNS refuses, and for what this stand-in does not know. */
const readPublish = (form: URLSearchParams): Publish => {
  const unknown = [...form.keys()].filter((name) => !PARAMETERS.includes(name));
  if (unknown.length > 0) throw invalid(`${unknown.join(', ')}: this stand-in knows ${PARAMETERS.join(', ')}`);
  const topicArn = form.get('TopicArn') ?? '';
  if (!TOPIC_ARN.test(topicArn)) throw invalid('TopicArn');
  const subject = form.get('Subject') ?? undefined;
  // Less than 100 characters, as documented; SNS itself has been seen to take 100.
  if (subject !== undefined && !/^\P{Cc}{1,99}$/u.test(subject)) throw invalid('Subject');
  return { topicArn, subject, texts: readTexts(form.get('Message') ?? '', form.get('MessageStructure')) };
};

/** Starts the SNS stand-in: Publish to a topic of the template. */
export const startSns = (options: {
  readonly topics: Topics;
  readonly keys: KmsKeys;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> => {
  const { topics, keys, iam } = options;

  // SNS asks for the data key in the publisher's name: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
  const encrypt = async (caller: Caller, keyArn: string): Promise<void> => {
    try {
      const { policy } = keys.find(keyArn);
      const of = (action: string) => ({ action, resource: keyArn, resourcePolicy: policy });
      await iam.authorize(caller, [of('kms:GenerateDataKey'), of('kms:Decrypt')]);
      keys.usable(keyArn);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      throw new AwsError(KMS_CODES[error.code] ?? error.code, `${error.message} (Service: AWSKMS)`);
    }
  };

  const authorized = async (caller: Caller, topicArn: string): Promise<Topic> => {
    const resourcePolicy = topics.policyOf(topicArn);
    await iam.authorize(caller, [
      { action: 'sns:Publish', resource: topicArn, ...(resourcePolicy === undefined ? {} : { resourcePolicy }) },
    ]);
    const topic = topics.find(topicArn);
    if (topic === undefined) throw new AwsError('NotFound', 'Topic does not exist', 404);
    return topic;
  };

  return startService({
    service: 'sns',
    region: options.region,
    port: options.port,
    credentials: options.credentials,
    handle: async ({ method, body, caller }) => {
      const form = new URLSearchParams(body.toString('utf8'));
      const action = form.get('Action') ?? '';
      if (method !== 'POST' || action !== 'Publish' || form.get('Version') !== VERSION)
        throw new AwsError(
          'InvalidAction',
          `this stand-in knows POST Publish ${VERSION}; got ${method} ${action} ${form.get('Version') ?? ''}`,
        );
      const { topicArn, subject, texts } = readPublish(form);
      const topic = await authorized(caller, topicArn);
      if (topic.keyArn !== undefined) await encrypt(caller, topic.keyArn);
      const { messageId } = topics.publish(topic, subject, texts);
      return {
        headers: CONTENT_TYPE,
        body: `<PublishResponse xmlns="${NAMESPACE}">${element('PublishResult', text('MessageId', messageId))}</PublishResponse>`,
      };
    },
    renderError: (error, requestId) => {
      const [code, status] = CODES[error.code] ?? [error.code, error.status];
      const type = status < 500 ? 'Sender' : 'Receiver';
      return {
        status,
        headers: CONTENT_TYPE,
        body: `<ErrorResponse xmlns="${NAMESPACE}">${element('Error', text('Type', type) + text('Code', code) + text('Message', error.message))}${text('RequestId', requestId)}</ErrorResponse>`,
      };
    },
  });
};
