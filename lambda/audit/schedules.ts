import { GetScheduleCommand, type SchedulerClient } from '@aws-sdk/client-scheduler';
import { describeError, ScheduleError } from '../shared/errors';
import { type Looked, lookAtEach } from './risks';

/** A schedule by its group and name. */
export interface ScheduleName {
  readonly group: string;
  readonly name: string;
}

/** Looks whether each schedule is there and enabled. */
export function lookAtSchedules(scheduler: SchedulerClient, schedules: readonly ScheduleName[]): Promise<Looked> {
  return lookAtEach(schedules, async ({ group, name }) => {
    try {
      const { State } = await scheduler.send(new GetScheduleCommand({ GroupName: group, Name: name }));
      return State === 'ENABLED'
        ? []
        : [`schedule ${group}/${name}: its state is ${State ?? 'not told'}, expected ENABLED; enable it`];
    } catch (error) {
      if (error instanceof Error && error.name === 'ResourceNotFoundException') {
        return [`schedule ${group}/${name}: it is gone, expected it to be there; deploy the stack again`];
      }
      throw new ScheduleError(
        `scheduler:GetSchedule of ${group}/${name}: got ${describeError(error)}, expected its state; check the function's role`,
        error,
      );
    }
  });
}
