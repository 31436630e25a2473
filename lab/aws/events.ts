import { setTimeout as sleep } from 'node:timers/promises';
import { AwsError } from './aws-error';
import { matches, type EventPattern } from './event-pattern';
import type { Iam } from './iam';
import type { Invocation, Lambda } from './lambda';
import type { QueueMessage, Queues } from './queues';

const PRINCIPAL = 'events.amazonaws.com';
const WAIT_MS = 30_000;
const POLL_MS = 20;

/** An event that S3 sends to EventBridge for a stored object. Source: Amazon S3 User Guide, "EventBridge event message structure". */
export interface ObjectCreatedEvent {
  readonly version: '0';
  readonly id: string;
  readonly 'detail-type': 'Object Created';
  readonly source: 'aws.s3';
  readonly account: string;
  /** To the second. */
  readonly time: string;
  readonly region: string;
  /** ARN of the bucket. */
  readonly resources: readonly string[];
  readonly detail: {
    readonly version: '0';
    readonly bucket: { readonly name: string };
    readonly object: {
      /** As it is; in S3's other notifications it is encoded. */
      readonly key: string;
      readonly size: number;
      readonly etag: string;
      readonly 'version-id': string;
      readonly sequencer: string;
    };
    readonly 'request-id': string;
    readonly requester: string;
    readonly 'source-ip-address': string;
    readonly reason: 'PutObject' | 'POST Object' | 'CopyObject' | 'CompleteMultipartUpload';
  };
}

/** What Step Functions says of an execution. */
export type ExecutionStatus = 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'TIMED_OUT' | 'ABORTED';

/** An event that Step Functions sends when an execution starts and when it ends. Times in its detail are milliseconds. */
export interface ExecutionStatusEvent {
  readonly version: '0';
  readonly id: string;
  readonly 'detail-type': 'Step Functions Execution Status Change';
  readonly source: 'aws.states';
  readonly account: string;
  /** To the second. */
  readonly time: string;
  readonly region: string;
  /** ARN of the execution. */
  readonly resources: readonly string[];
  readonly detail: {
    readonly executionArn: string;
    readonly stateMachineArn: string;
    readonly name: string;
    readonly status: ExecutionStatus;
    readonly startDate: number;
    readonly stopDate: number | null;
    /** JSON texts. */
    readonly input: string;
    readonly inputDetails: { readonly included: true };
    readonly output: string | null;
    readonly outputDetails: { readonly included: true } | null;
    readonly error: string | null;
    readonly cause: string | null;
  };
}

/** A rule as the template has it. */
export interface Rule {
  readonly logicalId: string;
  readonly arn: string;
  readonly state: 'ENABLED' | 'DISABLED';
  readonly pattern: EventPattern;
  readonly targets: readonly { readonly id: string; readonly arn: string; readonly deadLetterArn?: string }[];
}

/** What became of an event at one target: an asynchronous invocation, or a message in the target's dead-letter queue. */
export type EventDelivery<Event = ObjectCreatedEvent> = { readonly event: Event; readonly rule: Rule } & (
  | { readonly delivered: true; readonly invocation: Invocation }
  | { readonly delivered: false; readonly error: AwsError; readonly deadLetter: QueueMessage | undefined }
);

/** The default event bus: what S3 and Step Functions send, by the template's rules, to their targets. */
export class EventBus {
  readonly rules: Rule[] = [];
  /** Every event that came from S3, oldest first; also those that are kept back. */
  readonly arrived: ObjectCreatedEvent[] = [];
  readonly deliveries: EventDelivery[] = [];
  /** Every event that came from Step Functions, oldest first, and what became of it. */
  readonly statusChanges: ExecutionStatusEvent[] = [];
  readonly statusDeliveries: EventDelivery<ExecutionStatusEvent>[] = [];
  #held: ObjectCreatedEvent[] | undefined;
  #fault: Error | undefined;

  constructor(
    private readonly lambda: Lambda,
    private readonly queues: Queues,
    private readonly iam: Iam,
  ) {}

  /** Takes an event from S3, and delivers it unless events are kept back. */
  async put(event: ObjectCreatedEvent): Promise<void> {
    this.arrived.push(event);
    if (this.#held === undefined) await this.deliver(event);
    else this.#held.push(event);
  }

  /** Takes an event from Step Functions, and delivers it. */
  async putStatus(event: ExecutionStatusEvent): Promise<void> {
    this.statusChanges.push(event);
    this.statusDeliveries.push(...(await this.#deliver(event)));
  }

  /** Takes note of an event that could not be taken; whoever waits for one gets it thrown. */
  fail(fault: Error): void {
    this.#fault ??= fault;
  }

  /** Keeps events of S3 back from now on, as an outage of EventBridge would. */
  hold(): void {
    this.#held ??= [];
  }

  /** Ends `hold`. Returns what was kept back, oldest first, for `deliver`: late, in another order, or never. */
  release(): readonly ObjectCreatedEvent[] {
    const held = this.#held ?? [];
    this.#held = undefined;
    return held;
  }

  /** Delivers an event to the targets of every rule that matches it; an event may be delivered any number of times, as in AWS. */
  async deliver(event: ObjectCreatedEvent): Promise<readonly EventDelivery[]> {
    const deliveries = await this.#deliver(event);
    this.deliveries.push(...deliveries);
    return deliveries;
  }

  /** The newest event of this key; waits for one. Throws when none came within 30 s. */
  created(key: string): Promise<ObjectCreatedEvent> {
    return this.#wait(`an event for ${key}`, () => this.arrived.findLast(({ detail }) => detail.object.key === key));
  }

  /** The newest delivery of an event of this key; waits for one. Throws when none came within 30 s. */
  delivered(key: string): Promise<EventDelivery> {
    return this.#wait(`a delivery of an event for ${key}`, () =>
      this.deliveries.findLast(({ event }) => event.detail.object.key === key),
    );
  }

  async #wait<Found>(what: string, find: () => Found | undefined): Promise<Found> {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (this.#fault !== undefined)
        throw new Error(`${what}: the lab could not take an event: ${this.#fault.message}`, { cause: this.#fault });
      if (Date.now() > deadline) throw new Error(`${what}: got none within ${String(WAIT_MS / 1000)} s, expected one`);
      await sleep(POLL_MS);
    }
  }

  async #deliver<Event extends { readonly account: string }>(event: Event): Promise<EventDelivery<Event>[]> {
    const deliveries: EventDelivery<Event>[] = [];
    for (const rule of this.rules) {
      if (rule.state !== 'ENABLED' || !matches(rule.pattern, event)) continue;
      for (const target of rule.targets) deliveries.push(await this.#deliverTo(event, rule, target));
    }
    return deliveries;
  }

  async #deliverTo<Event extends { readonly account: string }>(
    event: Event,
    rule: Rule,
    target: Rule['targets'][number],
  ): Promise<EventDelivery<Event>> {
    const { account } = event;
    const context = { 'aws:SourceArn': rule.arn, 'aws:SourceAccount': account };
    try {
      await this.iam.authorizeService(PRINCIPAL, {
        action: 'lambda:InvokeFunction',
        resource: target.arn,
        context,
        resourcePolicy: this.lambda.resourcePolicyOf(target.arn),
      });
      return { event, rule, delivered: true, invocation: this.lambda.invokeAsync(target.arn, event) };
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (target.deadLetterArn === undefined) return { event, rule, delivered: false, error, deadLetter: undefined };
      await this.iam.authorizeService(PRINCIPAL, {
        action: 'sqs:SendMessage',
        resource: target.deadLetterArn,
        context,
        resourcePolicy: this.queues.policyOf(target.deadLetterArn),
      });
      // A missing permission is not retried: it goes to the dead-letter queue at once.
      const deadLetter = this.queues.send(target.deadLetterArn, JSON.stringify(event), {
        RULE_ARN: rule.arn,
        TARGET_ARN: target.arn,
        ERROR_CODE: 'NO_PERMISSIONS',
        ERROR_MESSAGE: error.message,
      });
      return { event, rule, delivered: false, error, deadLetter };
    }
  }
}
