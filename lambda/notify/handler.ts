import { SNSClient } from '@aws-sdk/client-sns';
import { TIMEOUTS } from '../shared/clients';
import { env } from '../shared/env';
import { createTelemetry } from '../shared/telemetry';
import { notify, type NotifyDeps } from './notify';

const deps: NotifyDeps = {
  clusterName: env('CLUSTER_NAME'),
  docs: env('DOCS'),
  planMachineArn: env('PLAN_MACHINE_ARN'),
  topicArn: env('TOPIC_ARN'),
  sns: new SNSClient(TIMEOUTS),
  telemetry: createTelemetry(env('CLUSTER_NAME')),
  now: () => new Date(),
};

/** Entry point of the notify function. */
export const handler = (event: unknown) => notify(deps, event);
