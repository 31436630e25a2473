import { PublishCommand, type SNSClient } from '@aws-sdk/client-sns';
import type { Telemetry } from '../shared/telemetry';
import { readEvent } from './event';
import { type Context, messageOf } from './message';
import { render } from './render';

/** What the function works with. */
export interface NotifyDeps extends Context {
  readonly planMachineArn: string;
  readonly topicArn: string;
  readonly sns: SNSClient;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
}

/**
 * Tells the topic of an event of Step Functions or CloudTrail, in words; some need none. Throws EventError when the event is another, and
 * what SNS throws.
 */
export async function notify(deps: NotifyDeps, event: unknown): Promise<{ readonly told: string | null }> {
  const started = deps.now().getTime();
  try {
    const message = messageOf(readEvent(event, deps.planMachineArn), deps);
    if (message === undefined) {
      return { told: null };
    }
    const { subject, message: body } = render(message, deps.clusterName);
    await deps.sns.send(
      new PublishCommand({ TopicArn: deps.topicArn, Subject: subject, Message: body, MessageStructure: 'json' }),
    );
    deps.telemetry.phaseDone('notify', (deps.now().getTime() - started) / 1000, { subject });
    return { told: message.title };
  } finally {
    deps.telemetry.publish();
  }
}
