import { CloudTrailClient } from '@aws-sdk/client-cloudtrail';
import { KMSClient } from '@aws-sdk/client-kms';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { SchedulerClient } from '@aws-sdk/client-scheduler';
import { SFNClient } from '@aws-sdk/client-sfn';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { audit } from '../lambda/audit/audit';
import { emptyMemory } from '../lambda/audit/stored';
import { type AlarmTemplate, type Datapoint, runAlarms, watchedMetrics } from './alarm-clock';
import type { ObjectCreatedEvent, Outcome } from './aws/aws';
import { s3Client } from './aws/s3';
import { readAssembly } from './aws/template';
import { STACK_NAME } from './cluster';
import type { LabNode } from './nodes/lab-node';
import { loadData } from './nodes/load';
import { killMember, output, prove } from './restores';
import { type Lab, labDir, startLab, synthesize } from './start-lab';

// `npm run alarms`: breaks one thing after the other in the lab, lets the project's own functions run into it, and says which alarms of the
// synthesized template ring, and after how long. CloudWatch is not there: what the functions emit, and what Lambda would count of them, is laid on a
// simulated clock, on which audit itself runs every few minutes (it is told the time), and the alarms are evaluated by the template's own words.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
// The next trigger of the hourly schedule after the break.
const TRIGGER = 40 * MINUTE;
const UNTIL = 4 * HOUR;
// MinIO knows no public access block, no bucket policy and no EventBridge, so audit misses those in every run here.
const BY_THE_LAB = ['bucket-at-risk', 'audit-failing'];

const started = Date.now();
const say = (line: string): void => {
  console.log(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}`);
};

/** Something that breaks. `trigger` and `proof`: whether the next backup, and its proof, are tried for real. */
interface Scenario {
  readonly what: string;
  /** The alarm that has to be among those that ring. */
  readonly rings: string;
  readonly breakIt: (world: World) => Promise<void> | void;
  readonly heal: (world: World) => Promise<void> | void;
  readonly happens: (world: World) => Promise<Ran[]>;
}

/** A function that ran asynchronously, by the step in its logical id. */
interface Ran {
  readonly step: string;
  readonly outcome: Outcome;
  /** How long after the trigger it began, in the simulated time. */
  readonly afterMs: number;
}

class World {
  readonly template: AlarmTemplate;
  /** Simulated times are counted from here. */
  origin = Date.now();

  constructor(
    readonly lab: Lab,
    cdkOut: string,
  ) {
    this.template = readAssembly(cdkOut, STACK_NAME).template;
  }

  get node(): LabNode {
    const [node] = this.lab.controlPlane.nodes;
    if (node === undefined) throw new Error('a lab without nodes, expected one');
    return node;
  }

  idOf(pattern: RegExp): string {
    const id = [...this.lab.aws.resources.keys()].find((candidate) => pattern.test(candidate));
    if (id === undefined) throw new Error(`resource ${String(pattern)}: got none, expected one`);
    return id;
  }

  functionId(step: string): string {
    return this.idOf(new RegExp(`^${step}ServiceFunction[0-9A-F]{8}$`));
  }

  /** What a run of audit emits when it is that late after the break, by the role and the code of the function. */
  async auditAt(afterMs: number): Promise<Datapoint[]> {
    const { aws } = this.lab;
    const time = new Date(this.origin + afterMs);
    const credentials = aws.functionCredentials(this.functionId('Audit'));
    const common = (endpoint: string) => ({ endpoint, region: aws.region, credentials });
    const points: Datapoint[] = [];
    const arnOf = (name: string): string => output(this.lab, name);
    const schedules = ['Schedule', 'DrillSchedule'].map((construct) => {
      const name = aws.resources.get(this.idOf(new RegExp(`^${construct}[0-9A-F]{8}$`))) ?? '';
      const group = aws.resources.get(this.idOf(new RegExp(`^${construct}Group[0-9A-F]{8}$`))) ?? '';
      return { group, name };
    });
    let failed = 0;
    try {
      await audit(
        {
          clusterName: 'lab',
          receiptKeyArn: arnOf('ReceiptKeyArn'),
          verifyFunction: arnOf('VerifyFunctionName'),
          restoreMachineArn: arnOf('RestoreMachineArn'),
          keys: ['SnapshotKeyArn', 'AnnouncementKeyArn', 'ReceiptKeyArn'].map((name) => ({
            name,
            arn: arnOf(name),
            without: '',
          })),
          schedules,
          bucket: { adopted: false, lockDays: 2, expiry: { days: {}, prefixDays: {}, noncurrentDays: 7 } },
          store: {
            s3: s3Client(aws.endpoints.s3, credentials, aws.region),
            bucket: arnOf('BucketName'),
            bucketOwner: aws.account,
            snapshotKeyArn: arnOf('SnapshotKeyArn'),
            sleep: (milliseconds) => sleep(milliseconds),
          },
          kms: new KMSClient(common(aws.endpoints.kms)),
          lambda: new LambdaClient(common(aws.endpoints.lambda)),
          sfn: new SFNClient(common(aws.endpoints.sfn)),
          scheduler: new SchedulerClient(common(aws.endpoints.scheduler)),
          cloudTrail: new CloudTrailClient(common(aws.endpoints.cloudtrail)),
          memory: emptyMemory(),
          telemetry: {
            phaseDone: () => undefined,
            phaseFailed: () => undefined,
            measure: (name, _unit, value) => points.push(this.ours(name, value, time)),
            publish: () => undefined,
          },
          now: () => time,
          wait: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
        },
        {},
      );
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AuditError')) throw error;
      failed = 1;
    }
    return [...points, this.lambda('Audit', 'Invocations', 1, time), this.lambda('Audit', 'Errors', failed, time)];
  }

  ours(name: string, value: number, timestamp: Date): Datapoint {
    return { namespace: 'EtcdBackup', name, dimensions: { cluster: 'lab' }, value, timestamp };
  }

  lambda(step: string, name: string, value: number, timestamp: Date): Datapoint {
    return { namespace: 'AWS/Lambda', name, dimensions: { FunctionName: this.functionId(step) }, value, timestamp };
  }

  /** What Lambda counts of an asynchronous run: it retries after a minute, and after two more. */
  counted({ step, outcome, afterMs }: Ran, trigger: number): Datapoint[] {
    const at = (attempt: number): Date =>
      new Date(trigger + afterMs + ([0, MINUTE, 3 * MINUTE][attempt] ?? 3 * MINUTE));
    return [
      ...outcome.attempts.flatMap(({ ok }, index) => [
        this.lambda(step, 'Invocations', 1, at(index)),
        this.lambda(step, 'Errors', ok ? 0 : 1, at(index)),
      ]),
      ...(outcome.failureMessage === undefined
        ? []
        : [this.lambda(step, 'AsyncEventsDropped', 1, at(outcome.attempts.length - 1))]),
    ];
  }
}

const backUp = async ({ lab }: World): Promise<Ran> => ({
  step: 'Backup',
  outcome: await lab.aws.invoke(output(lab, 'BackupFunctionName'), { reason: 'the alarms' }, { async: true }).done,
  afterMs: 0,
});

/** A backup, and then a proof of what `change` made of it. */
const backUpAndVerify = async (
  world: World,
  change: (event: ObjectCreatedEvent) => Promise<ObjectCreatedEvent>,
  timeoutSeconds?: number,
): Promise<Ran[]> => {
  const { aws } = world.lab;
  aws.events.hold();
  const stored = await backUp(world);
  aws.events.release();
  if (!stored.outcome.ok) throw new Error(`the backup: ${JSON.stringify(stored.outcome.error)}`);
  const { key } = stored.outcome.result as { key: string };
  const event = await change(await aws.events.created(key));
  const options = { async: true, ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }) };
  const outcome = await aws.invoke(output(world.lab, 'VerifyFunctionName'), event, options).done;
  return [stored, { step: 'Verify', outcome, afterMs: 2 * MINUTE }];
};

/** As somebody who may remove locked versions could: other bytes in the place of the newest object. */
const damage =
  ({ lab }: World) =>
  async (event: ObjectCreatedEvent): Promise<ObjectCreatedEvent> => {
    const { aws } = lab;
    const s3 = s3Client(aws.endpoints.s3, aws.credentials, aws.region);
    const { key: Key, 'version-id': VersionId } = event.detail.object;
    const Bucket = output(lab, 'BucketName');
    await s3.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true }));
    const Body = Buffer.from('damaged');
    const ChecksumSHA256 = createHash('sha256').update(Body).digest('base64');
    aws.events.hold();
    const before = aws.events.arrived.length;
    await s3.send(new PutObjectCommand({ Bucket, Key, Body, ChecksumSHA256 }));
    s3.destroy();
    for (;;) {
      const found = aws.events.arrived.slice(before).find(({ detail }) => detail.object.key === Key);
      if (found !== undefined) {
        aws.events.release();
        return found;
      }
      await sleep(20);
    }
  };

const removeReceipts = async ({ lab }: World): Promise<void> => {
  const { aws } = lab;
  const s3 = s3Client(aws.endpoints.s3, aws.credentials, aws.region);
  const Bucket = output(lab, 'BucketName');
  const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'receipts/' }));
  const newest = Versions.toSorted((one, other) => ((one.Key ?? '') < (other.Key ?? '') ? 1 : -1))[0];
  await s3.send(
    new DeleteObjectCommand({
      Bucket,
      Key: newest?.Key ?? '',
      VersionId: newest?.VersionId,
      BypassGovernanceRetention: true,
    }),
  );
  s3.destroy();
};

const nothing = (): void => undefined;
const setSchedule = ({ lab }: World, state: 'ENABLED' | 'DISABLED', id: string): void => {
  lab.aws.setScheduleState(id, state);
};

const SCENARIOS: readonly Scenario[] = [
  {
    what: 'nothing breaks',
    rings: '',
    breakIt: nothing,
    heal: nothing,
    happens: (world) => backUpAndVerify(world, (event) => Promise.resolve(event)),
  },
  {
    what: 'the schedule is disabled',
    rings: 'schedule-at-risk',
    breakIt: (world) => {
      setSchedule(world, 'DISABLED', world.idOf(/^Schedule[0-9A-F]{8}$/));
    },
    heal: (world) => {
      setSchedule(world, 'ENABLED', world.idOf(/^Schedule[0-9A-F]{8}$/));
    },
    happens: () => Promise.resolve([]),
  },
  {
    what: 'the node takes no commands (its role is broken)',
    rings: 'backup-failed',
    breakIt: ({ lab }) => {
      for (const node of lab.fleet) node.agentDown = true;
    },
    heal: ({ lab }) => {
      for (const node of lab.fleet) node.agentDown = false;
    },
    happens: async (world) => [await backUp(world)],
  },
  {
    what: 'quorum is lost',
    rings: 'backup-failed',
    breakIt: ({ node }) => killMember(node),
    heal: async ({ node, lab }) => {
      await node.startKubelet();
      await lab.controlPlane.waitHealthy();
    },
    happens: async (world) => [await backUp(world)],
  },
  {
    what: 'the snapshot key is disabled',
    rings: 'key-at-risk',
    breakIt: ({ lab }) => {
      lab.aws.keys.setEnabled(output(lab, 'SnapshotKeyArn'), false);
    },
    heal: ({ lab }) => {
      lab.aws.keys.setEnabled(output(lab, 'SnapshotKeyArn'), true);
    },
    happens: async (world) => [await backUp(world)],
  },
  {
    what: 'the newest object is damaged before it is verified',
    rings: 'verify-failed',
    breakIt: nothing,
    heal: nothing,
    happens: (world) => backUpAndVerify(world, damage(world)),
  },
  {
    what: 'the receipt of the newest backup is deleted',
    rings: 'backups-unverified',
    breakIt: removeReceipts,
    heal: nothing,
    happens: () => Promise.resolve([]),
  },
  {
    what: 'verify is killed each time',
    rings: 'verify-failed',
    breakIt: nothing,
    heal: nothing,
    happens: (world) => backUpAndVerify(world, (event) => Promise.resolve(event), 0.05),
  },
];

/** Which alarms ring after the break, and after how many minutes, in their order. */
const simulate = async (world: World, scenario: Scenario): Promise<Map<string, number>> => {
  const { lab, template } = world;
  await prove(lab, 'before something breaks');
  world.origin = Date.now();
  const before = await world.auditAt(0);
  const points: Datapoint[] = [];
  let proven = false;
  const lay = (sample: readonly Datapoint[], sampledAt: number, time: number): void => {
    for (const point of sample) {
      // An age that was measured goes on growing until it is measured again.
      const grown = /AgeSeconds$/.test(point.name) ? Math.max(0, (time - sampledAt) / 1000) : 0;
      // Where backups go on being proven, the newest is that of the last full hour; what is stored for real is the first of them.
      const isProven = proven && point.name === 'VerifiedAgeSeconds' && time > TRIGGER + 2 * MINUTE;
      const value = isProven ? ((time - TRIGGER) % HOUR) / 1000 : point.value + grown;
      points.push({ ...point, value, timestamp: new Date(world.origin + time) });
    }
  };
  for (let time = -2 * HOUR; time <= 0; time += 5 * MINUTE) lay(before, time, time);
  await scenario.breakIt(world);
  const count = lab.aws.metrics.length;
  const ran = await scenario.happens(world);
  proven = ran.some(({ step, outcome }) => step === 'Verify' && outcome.ok);
  const emitted = lab.aws.metrics.slice(count).filter(({ namespace }) => namespace === 'EtcdBackup');
  for (let trigger = TRIGGER; trigger < UNTIL && ran.length > 0; trigger += HOUR) {
    const at = world.origin + trigger;
    for (const one of ran) points.push(...world.counted(one, at));
    for (const { namespace, name, dimensions, value } of emitted)
      points.push({ namespace, name, dimensions, value, timestamp: new Date(at + 2 * MINUTE) });
  }
  let sample: Datapoint[] = [];
  let sampledAt = 0;
  for (let time = 3 * MINUTE; time < UNTIL; time += 5 * MINUTE) {
    // Audit for real in the first minutes and then each half hour; in between it would say the same.
    if (time < 15 * MINUTE || (time - 3 * MINUTE) % (30 * MINUTE) === 0) {
      sample = await world.auditAt(time);
      sampledAt = time;
    }
    lay(sample, sampledAt, time);
  }
  await scenario.heal(world);
  const first = new Map<string, number>();
  for (const { alarm, to, at } of runAlarms(template, points, {
    from: new Date(world.origin - 2 * HOUR),
    until: new Date(world.origin + UNTIL),
  })) {
    const name = alarm.replace(`${STACK_NAME}-`, '');
    const minutes = Math.ceil((at.getTime() - world.origin) / MINUTE);
    if (to === 'ALARM' && minutes > 0 && !first.has(name)) first.set(name, minutes);
  }
  return first;
};

const inWords = (minutes: number): string =>
  minutes < 60 ? `${String(minutes)} min` : `${String(Math.floor(minutes / 60))} h ${String(minutes % 60)} min`;

const main = async (): Promise<void> => {
  const cdkOut = process.env['CDK_OUT'] ?? join(labDir('alarms'), 'cdk.out');
  if (process.env['CDK_OUT'] === undefined) {
    say('synthesizing the stack');
    await synthesize(cdkOut);
  }
  const lab = await startLab({
    name: 'alarms',
    members: 1,
    etcd: '3.6',
    cdkOut,
    onProgress: say,
    aws: { ssm: { deliverySecondMs: 100 }, lambda: { retryDelaysMs: [200, 200] } },
  });
  const wrong: string[] = [];
  try {
    await loadData(lab.controlPlane, { sizeBytes: 2_000_000 });
    const world = new World(lab, cdkOut);
    say(`${String(Object.keys(watchedMetrics(world.template)).length)} alarms in the template`);
    await prove(lab, 'for the drill');
    const drilled = await lab.aws.invoke(output(lab, 'DrillFunctionName'), {}).done;
    if (!drilled.ok) throw new Error(`the drill: ${JSON.stringify(drilled.error)}`);
    for (const scenario of SCENARIOS) {
      const rings = await simulate(world, scenario);
      for (const name of BY_THE_LAB) rings.delete(name);
      const told = [...rings].map(([name, minutes]) => `${name} ${inWords(minutes)}`).join(', ');
      say(`${scenario.what.padEnd(52)} ${told === '' ? 'nothing rings' : told}`);
      // The lab's etcd is on no list of official releases, which is a finding of every backup.
      const isAsExpected =
        scenario.rings === ''
          ? [...rings.keys()].every((name) => name === 'finding-to-correct')
          : rings.has(scenario.rings);
      if (!isAsExpected)
        wrong.push(
          `${scenario.what}: got ${told}, expected ${scenario.rings === '' ? 'none but findings' : scenario.rings}`,
        );
    }
  } finally {
    await lab.down();
  }
  for (const line of wrong) console.error(`FAILED: ${line}`);
  if (wrong.length > 0) process.exitCode = 1;
};

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exitCode = 1;
});
