import { DescribeInstancesCommand, EC2Client, type Instance } from '@aws-sdk/client-ec2';
import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import { DescribeExecutionCommand, ListExecutionsCommand, SFNClient } from '@aws-sdk/client-sfn';
import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  SendCommandCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { mockClient } from 'aws-sdk-client-mock';
import type { Inspection } from '../../../lambda/shared/inspection';
import { plan, type PlanDeps } from '../../../lambda/plan/plan';
import type { RestoreState } from '../../../lambda/shared/restore-state';
import { hex } from '../backup/cloud';
import { RECEIPT_KEY, World } from '../verify/world';
import { type Change, inspection, liveMember } from './situation';

export const MACHINE = 'arn:aws:states:us-east-1:000000000000:stateMachine:restore-1';
export const executionOf = (name: string) => `arn:aws:states:us-east-1:000000000000:execution:restore-1:${name}`;
const OWN = executionOf('own');

/** How a node answers the inspect document. */
type Answer =
  | { readonly kind: 'says'; readonly stdout: string }
  | { readonly kind: 'refuses'; readonly stdout: string; readonly stderr?: string }
  | { readonly kind: 'silent' | 'unknown' | 'throttled' };

/** The bucket and KMS of verify's tests, and EC2, SSM and Step Functions in memory: three healthy control-plane nodes. */
export class PlanCloud {
  readonly world = new World();
  readonly instances: Instance[] = [1, 2, 3].map((number) => ({
    InstanceId: `i-${String(number)}`,
    Architecture: 'x86_64',
    PrivateIpAddress: `10.0.0.${String(number)}`,
    PrivateDnsName: `cp${String(number)}`,
    State: { Name: 'running' },
    Tags: [{ Key: 'etcd-backup', Value: 'lab' }],
  }));
  readonly agents = new Map([1, 2, 3].map((number) => [`i-${String(number)}`, '3.3.2746.0']));
  readonly answers = new Map<string, Answer>();
  readonly running: { executionArn: string; startDate: Date; input: string }[] = [
    { executionArn: OWN, startDate: new Date('2026-11-20T15:00:00Z'), input: '{}' },
  ];
  readonly sent: {
    readonly instanceId: string;
    readonly comment: string;
    readonly parameters: Record<string, string[]>;
  }[] = [];
  now = new Date('2026-11-20T15:00:05Z');
  /** EC2 answers calls by id only, as while an availability zone is disrupted. */
  searchFails = false;
  /** EC2 answers nothing. */
  ec2Fails = false;
  change: Partial<PlanDeps> = {};

  constructor() {
    for (const number of [1, 2, 3]) {
      this.node(number);
    }
    this.#answerEc2();
    this.#answerSsm();
    this.#answerStates();
    this.world.s3Mock.on(ListObjectsV2Command).callsFake(({ Prefix }: { Prefix: string }) => ({
      Contents: this.world.stored
        .filter(({ key }) => key.startsWith(Prefix))
        .map(({ key, storedAt }) => ({ Key: key, LastModified: storedAt })),
    }));
  }

  /** What a node says from now on: as healthy ones do, with the fingerprints and the tool of verify's tests. */
  node(number: number, change: Change = {}): void {
    this.says(number, nodeOf(number, change));
  }

  says(number: number, said: Inspection): void {
    this.answers.set(`i-${String(number)}`, { kind: 'says', stdout: `${JSON.stringify(said)}\n` });
  }

  /** A proven backup. */
  async verified(backupId: string, backup: Parameters<World['backup']>[1] = {}) {
    const put = this.world.backup(backupId, backup);
    await this.world.verify(put.event);
    return put;
  }

  get deps(): PlanDeps {
    const config = { region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } };
    const { store, kms, telemetry } = this.world.deps;
    return {
      clusterName: 'lab',
      controlPlaneTags: { 'etcd-backup': 'lab' },
      acknowledgedTools: [],
      diskLimitPercent: 80,
      inspectDocument: { name: 'Inspect-1A2B', version: '1' },
      receiptKeyArn: RECEIPT_KEY,
      store,
      kms,
      ec2: new EC2Client(config),
      sfn: new SFNClient(config),
      ssm: new SSMClient(config),
      ssmOnce: new SSMClient({ ...config, maxAttempts: 1 }),
      officialTools: { '3.6.5': { amd64: { etcdutl: hex('etcdutl 3.6.5') } } },
      telemetry,
      now: () => this.now,
      sleep: (milliseconds) => {
        this.now = new Date(this.now.getTime() + milliseconds);
        return Promise.resolve();
      },
      ...this.change,
    };
  }

  /** The state ChooseSnapshot. */
  async choose(input: unknown, machine: 'restore' | 'plan' = 'restore'): Promise<RestoreState> {
    const execution = { id: OWN, startTime: '2026-11-20T15:00:00.123Z', stateMachineId: MACHINE };
    return plan(this.deps, { phase: 'ChooseSnapshot', machine, input, execution }, { requestId: 'request-1' });
  }

  /** Both states, one after the other; the state goes through JSON as in Step Functions. */
  async plan(input: unknown, machine: 'restore' | 'plan' = 'restore'): Promise<RestoreState> {
    return this.inspect(await this.choose(input, machine));
  }

  async inspect(state: RestoreState): Promise<RestoreState> {
    const passed = JSON.parse(JSON.stringify(state)) as RestoreState;
    return plan(this.deps, { phase: 'Inspect', state: passed }, { requestId: 'request-2' });
  }

  /** Keys under restores/ that were written. */
  get written(): string[] {
    return this.world.writes.filter((key) => key.startsWith('restores/'));
  }

  #answerEc2(): void {
    const mock = mockClient(EC2Client);
    mock
      .on(DescribeInstancesCommand)
      .callsFake(
        ({ Filters = [], InstanceIds }: { Filters?: { Name: string; Values: string[] }[]; InstanceIds?: string[] }) => {
          const [id] = InstanceIds ?? [];
          if (this.ec2Fails || (this.searchFails && id === undefined)) {
            throw Object.assign(new Error('unavailable'), { name: 'Unavailable' });
          }
          if (id !== undefined && !this.instances.some(({ InstanceId }) => InstanceId === id)) {
            throw Object.assign(new Error(`The instance ID '${id}' does not exist`), {
              name: 'InvalidInstanceID.NotFound',
            });
          }
          const valueOf = (instance: Instance, name: string): (string | undefined)[] =>
            name.startsWith('tag:')
              ? (instance.Tags ?? []).filter(({ Key }) => `tag:${String(Key)}` === name).map(({ Value }) => Value)
              : name === 'instance-state-name'
                ? [instance.State?.Name]
                : name === 'private-ip-address'
                  ? [instance.PrivateIpAddress]
                  : [instance.PrivateDnsName];
          const found = this.instances.filter(
            (instance) =>
              (id === undefined || instance.InstanceId === id) &&
              Filters.every(({ Name, Values }) =>
                valueOf(instance, Name).some((value) => value !== undefined && Values.includes(value)),
              ),
          );
          return { Reservations: [{ Instances: found }] };
        },
      );
  }

  #answerSsm(): void {
    const mock = mockClient(SSMClient);
    mock.on(DescribeInstanceInformationCommand).callsFake(() => ({
      InstanceInformationList: [...this.agents].map(([InstanceId, AgentVersion]) => ({
        InstanceId,
        AgentVersion,
        PingStatus: 'Online',
      })),
    }));
    mock
      .on(SendCommandCommand)
      .callsFake((input: { InstanceIds: string[]; Comment: string; Parameters: Record<string, string[]> }) => {
        const instanceId = input.InstanceIds[0] as string;
        const answer = this.answers.get(instanceId);
        if (answer?.kind === 'unknown') {
          throw Object.assign(new Error('not in a valid state'), { name: 'InvalidInstanceId' });
        }
        if (answer?.kind === 'throttled') {
          throw Object.assign(new Error('broken'), { name: 'InternalServerError' });
        }
        this.sent.push({ instanceId, comment: input.Comment, parameters: input.Parameters });
        return {
          Command: { CommandId: `command-${instanceId}-${String(this.sent.length)}`, RequestedDateTime: this.now },
        };
      });
    mock.on(GetCommandInvocationCommand).callsFake(({ InstanceId }: { InstanceId: string }) => {
      const answer = this.answers.get(InstanceId);
      switch (answer?.kind) {
        case 'says':
          return { Status: 'Success', StatusDetails: 'Success', ResponseCode: 0, StandardOutputContent: answer.stdout };
        case 'refuses':
          return {
            Status: 'Failed',
            StatusDetails: 'Failed',
            ResponseCode: 11,
            StandardOutputContent: answer.stdout,
            StandardErrorContent: answer.stderr ?? '',
          };
        default:
          return { Status: 'Pending', StatusDetails: 'Pending', ResponseCode: -1 };
      }
    });
  }

  #answerStates(): void {
    const mock = mockClient(SFNClient);
    mock
      .on(ListExecutionsCommand)
      .callsFake((input: { stateMachineArn: string; nextToken?: string; statusFilter: string }) => {
        if (input.stateMachineArn !== MACHINE || input.statusFilter !== 'RUNNING') {
          throw new Error(`listed ${input.stateMachineArn} ${input.statusFilter}`);
        }
        // One each, so that pages have to be turned.
        const index = Number(input.nextToken ?? 0);
        const last = index + 1 >= this.running.length;
        return { executions: this.running.slice(index, index + 1), ...(last ? {} : { nextToken: String(index + 1) }) };
      });
    mock.on(DescribeExecutionCommand).callsFake(({ executionArn }: { executionArn: string }) => ({
      input: this.running.find((execution) => execution.executionArn === executionArn)?.input,
    }));
  }
}

/** A healthy node, with the fingerprints that verify's tests announce and its member at the revision of their snapshots. */
export function nodeOf(number: number, change: Change = {}): Inspection {
  return inspection(number, {
    identity: {
      etcdCaSha256: hex('etcd ca'),
      clusterCaSha256: hex('cluster ca'),
      saPubSha256: hex('sa.pub'),
      encryptionConfigSha256: null,
      ...change.identity,
    },
    tools: [{ name: 'etcdutl', version: '3.6.5', arch: 'amd64', sha256: hex('etcdutl 3.6.5'), source: 'image' }],
    ...change,
    etcd: {
      ...inspection(number).etcd,
      member: liveMember({ id: `a${String(number)}`, revision: 123_500 }),
      ...change.etcd,
    },
  });
}
