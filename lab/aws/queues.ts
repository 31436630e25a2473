import { randomUUID } from 'node:crypto';

/** A message that a queue holds; the lab keeps every one. */
export interface QueueMessage {
  readonly messageId: string;
  readonly body: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly sentAt: Date;
}

/** One SQS queue of the template. */
export interface Queue {
  readonly logicalId: string;
  readonly name: string;
  readonly url: string;
  readonly arn: string;
  readonly messages: QueueMessage[];
}

/** The queues of the lab. Nothing consumes from them. */
export class Queues {
  readonly all: Queue[] = [];
  readonly #policies = new Map<string, unknown>();

  /** Throws when the template has no such queue. */
  byArn(arn: string): Queue {
    const queue = this.all.find((candidate) => candidate.arn === arn);
    if (queue === undefined)
      throw new Error(
        `no queue ${arn} in the template, expected one of ${this.all.map((candidate) => candidate.arn).join(', ')}`,
      );
    return queue;
  }

  /** Throws when the template has no such queue. */
  setPolicy(url: string, policy: unknown): void {
    const queue = this.all.find((candidate) => candidate.url === url);
    if (queue === undefined)
      throw new Error(
        `no queue ${url} in the template, expected one of ${this.all.map((candidate) => candidate.url).join(', ')}`,
      );
    this.#policies.set(queue.arn, policy);
  }

  /** Undefined for a queue without one. */
  policyOf(arn: string): unknown {
    return this.#policies.get(arn);
  }

  send(arn: string, body: string, attributes: Readonly<Record<string, string>> = {}): QueueMessage {
    const message = { messageId: randomUUID(), body, attributes, sentAt: new Date() };
    this.byArn(arn).messages.push(message);
    return message;
  }
}
