import { AwsError } from './aws-error';
import type { CredentialStore } from './credentials';
import { startService, type Endpoint } from './endpoint';
import type { Iam } from './iam';
import type { Scheduler } from './scheduler';

/** Starts the EventBridge Scheduler stand-in: GetSchedule. */
export const startScheduler = (options: {
  readonly scheduler: Scheduler;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> =>
  startService({
    service: 'scheduler',
    region: options.region,
    port: options.port,
    credentials: options.credentials,
    handle: async ({ method, url, caller }) => {
      const [, encoded] = /^\/schedules\/([^/]+)$/.exec(url.pathname) ?? [];
      const group = url.searchParams.get('groupName') ?? 'default';
      if (method !== 'GET' || encoded === undefined)
        throw new AwsError(
          'UnknownOperationException',
          `this stand-in knows GetSchedule; got ${method} ${url.pathname}`,
        );
      const name = decodeURIComponent(encoded);
      const arn = `arn:aws:scheduler:${options.region}:${options.iam.account}:schedule/${group}/${name}`;
      await options.iam.authorize(caller, [{ action: 'scheduler:GetSchedule', resource: arn }]);
      const schedule = options.scheduler.schedules.find((candidate) => candidate.arn === arn);
      if (schedule === undefined)
        throw new AwsError('ResourceNotFoundException', `Schedule ${name} does not exist.`, 404);
      const { state, expression, targetArn, roleArn, input } = schedule;
      return {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          Arn: arn,
          GroupName: group,
          Name: name,
          ScheduleExpression: expression,
          State: state,
          Target: { Arn: targetArn, RoleArn: roleArn, Input: input },
        }),
      };
    },
    renderError: (error) => ({
      status: error.status,
      headers: { 'content-type': 'application/json', 'x-amzn-errortype': error.code },
      body: JSON.stringify({ Message: error.message }),
    }),
  });
