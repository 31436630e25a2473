import type { CredentialStore } from './credentials';
import { startJsonService, type Endpoint } from './endpoint';
import type { Iam } from './iam';
import { check, type Field } from './shape';
import type { StateMachines } from './state-machines';

const time: Field = { type: 'integer' };

/** Starts the CloudTrail stand-in: LookupEvents, whose history has one event for each execution that was started. */
export const startTrail = (options: {
  readonly stateMachines: StateMachines;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> =>
  startJsonService({
    service: 'cloudtrail',
    prefix: 'CloudTrail_20131101',
    region: options.region,
    port: options.port,
    credentials: options.credentials,
    operations: {
      LookupEvents: async (input, caller) => {
        check(input, {
          LookupAttributes: {
            type: 'list',
            max: 1,
            of: {
              type: 'object',
              fields: {
                AttributeKey: { type: 'string', required: true, values: ['EventName'] },
                AttributeValue: { type: 'string', required: true, min: 1, max: 2000 },
              },
            },
          },
          StartTime: time,
          EndTime: time,
          MaxResults: { type: 'integer', min: 1, max: 50 },
          NextToken: { type: 'string' },
        });
        await options.iam.authorize(caller, [{ action: 'cloudtrail:LookupEvents', resource: '*' }]);
        const [attribute] = (input.LookupAttributes ?? []) as { AttributeValue: string }[];
        const from = (input.StartTime as number | undefined) ?? 0;
        const to = (input.EndTime as number | undefined) ?? Infinity;
        const executions = options.stateMachines.executions.filter(({ startDate }) => {
          const at = startDate.getTime() / 1000;
          return at >= from && at <= to;
        });
        return {
          Events: (attribute?.AttributeValue === 'StartExecution' ? executions : [])
            .toReversed()
            .slice(0, (input.MaxResults as number | undefined) ?? 50)
            .map(({ executionArn, startDate, startedBy }) => ({
              EventId: executionArn,
              EventName: 'StartExecution',
              EventTime: startDate.getTime() / 1000,
              CloudTrailEvent: JSON.stringify({
                eventID: executionArn,
                eventName: 'StartExecution',
                eventTime: startDate.toISOString(),
                userIdentity: { arn: startedBy },
                responseElements: { executionArn },
              }),
            })),
        };
      },
    },
  });
