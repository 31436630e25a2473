import { randomUUID } from 'node:crypto';
import { AwsError } from './aws-error';
import type { Iam } from './iam';
import type { Invocation, InvokeOptions, Lambda } from './lambda';
import type { QueueMessage, Queues } from './queues';

/** A schedule as the template has it. */
export interface Schedule {
  readonly logicalId: string;
  readonly arn: string;
  /** May be changed while the lab runs, as in the console. */
  state: 'ENABLED' | 'DISABLED';
  readonly expression: string;
  readonly targetArn: string;
  readonly roleArn: string;
  readonly input: string;
  readonly deadLetterArn?: string;
}

/** What became of one trigger: an asynchronous invocation, or a message in the dead-letter queue. */
export type Delivery =
  | { readonly delivered: true; readonly event: unknown; readonly invocation: Invocation }
  | { readonly delivered: false; readonly error: AwsError; readonly deadLetter: QueueMessage | undefined };

/** Options of one trigger. */
export interface FireOptions extends InvokeOptions {
  /** The time that the trigger was due, not that of its delivery. @default now, to the minute */
  readonly scheduledTime?: Date;
}

const seconds = (time: Date): string => time.toISOString().replace(/\.\d{3}Z$/, 'Z');

/** Fills the context attributes into a schedule's input. Throws for one that Scheduler does not know. */
export const fillContext = (input: string, schedule: Pick<Schedule, 'arn'>, scheduledTime: Date): string => {
  const attributes: Readonly<Record<string, string>> = {
    'schedule-arn': schedule.arn,
    'scheduled-time': seconds(scheduledTime),
    'execution-id': randomUUID(),
    'attempt-number': '1',
  };
  return input.replace(/<aws\.scheduler\.([^>]*)>/g, (whole, name: string) => {
    const value = attributes[name];
    if (value === undefined)
      throw new Error(
        `input of schedule ${schedule.arn}: got ${whole}, expected one of ${Object.keys(attributes).join(', ')}`,
      );
    return value;
  });
};

const thisMinute = (): Date => new Date(Math.floor(Date.now() / 60_000) * 60_000);

/** The schedules of the template; the lab fires them when told to, never by their expressions. */
export class Scheduler {
  readonly schedules: Schedule[] = [];

  constructor(
    private readonly lambda: Lambda,
    private readonly queues: Queues,
    private readonly iam: Iam,
  ) {}

  /**
   * By logical id; without one, the only schedule, or that of the construct `Schedule`, which starts backups. Throws when that is not exactly one.
   */
  find(logicalId?: string): Schedule {
    const found = this.schedules.filter((schedule) =>
      logicalId === undefined
        ? this.schedules.length === 1 || schedule.logicalId.startsWith('Schedule')
        : schedule.logicalId === logicalId,
    );
    const [schedule] = found;
    if (schedule === undefined || found.length > 1) {
      throw new Error(
        `schedule: got ${logicalId ?? 'no logical id'}, expected one of ${this.schedules.map((candidate) => candidate.logicalId).join(', ')}`,
      );
    }
    return schedule;
  }

  /** Delivers one trigger to the schedule's own target, with the schedule's own role. Throws for a disabled schedule. */
  async fire(logicalId?: string, options: FireOptions = {}): Promise<Delivery> {
    const schedule = this.find(logicalId);
    if (schedule.state !== 'ENABLED')
      throw new Error(`schedule ${schedule.logicalId} is ${schedule.state}, expected ENABLED`);
    const scheduledTime = options.scheduledTime ?? thisMinute();
    const event: unknown = JSON.parse(fillContext(schedule.input, schedule, scheduledTime));
    const caller = { accessKeyId: '', roleArn: schedule.roleArn };
    try {
      await this.iam.authorize(caller, [{ action: 'lambda:InvokeFunction', resource: schedule.targetArn }]);
      return { delivered: true, event, invocation: this.lambda.invokeAsync(schedule.targetArn, event, options) };
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return { delivered: false, error, deadLetter: await this.#deadLetter(schedule, error, event, scheduledTime) };
    }
  }

  async #deadLetter(
    schedule: Schedule,
    error: AwsError,
    event: unknown,
    scheduledTime: Date,
  ): Promise<QueueMessage | undefined> {
    const { deadLetterArn } = schedule;
    if (deadLetterArn === undefined) return undefined;
    await this.iam.authorize({ accessKeyId: '', roleArn: schedule.roleArn }, [
      { action: 'sqs:SendMessage', resource: deadLetterArn },
    ]);
    return this.queues.send(deadLetterArn, JSON.stringify(event), {
      ERROR_CODE: error.code,
      ERROR_MESSAGE: error.message,
      EXECUTION_ID: randomUUID(),
      EXHAUSTED_RETRY_CONDITION: 'MaximumRetryAttempts',
      SCHEDULED_TIME: seconds(scheduledTime),
      SCHEDULE_ARN: schedule.arn,
      TARGET_ARN: schedule.targetArn,
    });
  }
}
