import { randomUUID } from 'node:crypto';

/** What one address got. */
export interface Mail {
  readonly to: string;
  /** As SNS puts it there when none was given, too. */
  readonly subject: string;
  readonly text: string;
}

/** A message that was published; the lab keeps every one. */
export interface TopicMessage {
  readonly messageId: string;
  readonly topicArn: string;
  readonly subject: string | undefined;
  /** By protocol; `default` is for those that have no text of their own. */
  readonly texts: Readonly<Record<string, string>> & { readonly default: string };
  /** One for each e-mail subscription. */
  readonly mails: readonly Mail[];
  readonly publishedAt: Date;
}

/** One SNS topic of the template. */
export interface Topic {
  readonly logicalId: string;
  readonly arn: string;
  /** ARN of the key that its messages are encrypted with. */
  readonly keyArn?: string;
  /** Addresses with a subscription. Here none has to be confirmed. */
  readonly emails: string[];
  readonly messages: TopicMessage[];
}

/** The topics of the lab. Nothing leaves it: what an address would have got is kept. */
export class Topics {
  readonly all: Topic[] = [];
  readonly #policies = new Map<string, unknown>();
  readonly #listeners: ((message: TopicMessage) => void)[] = [];

  /** undefined when the template has no such topic. */
  find(arn: string): Topic | undefined {
    return this.all.find((candidate) => candidate.arn === arn);
  }

  /** Throws when the template has no such topic. */
  byArn(arn: string): Topic {
    const topic = this.find(arn);
    if (topic === undefined)
      throw new Error(
        `no topic ${arn} in the template, expected one of ${this.all.map((candidate) => candidate.arn).join(', ')}`,
      );
    return topic;
  }

  /** Throws when the template has no such topic. */
  setPolicy(arn: string, policy: unknown): void {
    this.#policies.set(this.byArn(arn).arn, policy);
  }

  /** Undefined for a topic without one. */
  policyOf(arn: string): unknown {
    return this.#policies.get(arn);
  }

  publish(topic: Topic, subject: string | undefined, texts: TopicMessage['texts']): TopicMessage {
    const message = {
      messageId: randomUUID(),
      topicArn: topic.arn,
      subject,
      texts,
      mails: topic.emails.map((to) => ({
        to,
        subject: subject ?? 'AWS Notification Message',
        text: texts.email ?? texts.default,
      })),
      publishedAt: new Date(),
    };
    topic.messages.push(message);
    for (const listener of this.#listeners) listener(message);
    return message;
  }

  /** Every message of every topic from now on. */
  onMessage(listener: (message: TopicMessage) => void): void {
    this.#listeners.push(listener);
  }
}
