import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { KMSClient, VerifyCommand } from '@aws-sdk/client-kms';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import {
  GetObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  ListCommandsCommand,
  SendCommandCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { mockClient } from 'aws-sdk-client-mock';
import { generateKeyPairSync } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { restore } from '../../../lambda/restore/restore';
import type { Phase, RestoreDeps } from '../../../lambda/restore/run';
import type { OfficialTools } from '../../../lambda/shared/official-tools';
import type { ChosenSnapshot, RestoreNode, RestoreState } from '../../../lambda/shared/restore-state';
import type { Fields } from '../../../lambda/shared/telemetry';
import { CREDENTIALS, hex } from '../backup/cloud';

export const RESTORE_ID = '20261120T140000Z';
export const NODES = [1, 2, 3].map((number): RestoreNode => ({
  instanceId: `i-0000000000000000${String(number)}`,
  memberName: `cp${String(number)}`,
  peerUrls: `https://10.0.0.${String(number)}:2380`,
  arch: 'amd64',
  etcdVersion: '3.6.5',
  before: { etcd: true, apiServer: true, kubelet: true },
}));
export const [NODE_1, NODE_2, NODE_3] = NODES.map(({ instanceId }) => instanceId) as [string, string, string];

/** The key pair that every node of these tests makes: making one takes a second. */
export const NODE_KEYS = generateKeyPairSync('rsa', { modulusLength: 3072 });

export const SNAPSHOT: ChosenSnapshot = {
  backupId: '20261120T130000Z',
  key: 'snapshots/20261120T130000Z.db.zst',
  versionId: 'v1+/=',
  compression: 'zstd',
  compressedBytes: 9_000_000,
  compressedSha256: hex('compressed'),
  sizeBytes: 50_000_032,
  sha256: hex('snapshot'),
  revision: 1000,
  hash: 42,
  etcdVersion: '3.6.5',
  kubernetesVersion: 'v1.33.1',
};

/** What Inspect leaves for a restore of three healthy nodes. */
export function stateAfterInspect(change: Partial<RestoreState> = {}): RestoreState {
  return {
    restoreId: RESTORE_ID,
    executionArn: 'arn:aws:states:us-east-1:000000000000:execution:Restore:one',
    mode: 'restore',
    request: {
      confirm: true,
      snapshot: { kind: 'newest' },
      from: 'backup',
      hold: null,
      requestedBy: 'somebody',
      reason: 'a test',
      forced: [],
    },
    rollbackId: null,
    snapshot: SNAPSHOT,
    nodes: NODES,
    survivor: { instanceId: NODE_2, revision: 1500 },
    plan: { plan: 'as made' },
    highestRevision: 1500,
    bump: 0,
    token: '',
    keptBackupId: null,
    served: false,
    step: { name: 'Inspect', done: true, ok: true },
    failure: null,
    warnings: [],
    seconds: {},
    stoppedAt: null,
    servedAt: null,
    clusterIdsBefore: ['cdf818194e3a8c32'],
    ...change,
  };
}

/** How a node answers one command. */
export interface Answer {
  /** Until it ends; Infinity: never. */
  readonly seconds: number;
  readonly status: 'Success' | 'Failed' | 'TimedOut';
  readonly statusDetails?: string;
  readonly responseCode: number;
  readonly stdout: string;
  readonly stderr?: string;
  /** No agent takes the command. */
  readonly undelivered?: true;
}

export const ok = (result: object, seconds = 1): Answer => ({
  seconds,
  status: 'Success',
  responseCode: 0,
  stdout: `${JSON.stringify({ ok: true, restoreId: RESTORE_ID, ...result })}\n`,
});

/** What a node prints when it has made its key. */
export const keyMade = (): Answer =>
  ok({ publicKey: NODE_KEYS.publicKey.export({ format: 'der', type: 'spki' }).toString('base64') });

export const refuses = (code: number, error: string, message = 'got this, expected that; do something'): Answer => ({
  seconds: 1,
  status: 'Failed',
  responseCode: code,
  stdout: `${JSON.stringify({ ok: false, code, error, message })}\n`,
});

export const killed = (): Answer => ({ seconds: 3, status: 'Failed', responseCode: 137, stdout: '', stderr: 'Killed' });

export const timedOut = (): Answer => ({
  seconds: 600,
  status: 'TimedOut',
  statusDetails: 'ExecutionTimedOut',
  responseCode: 137,
  stdout: '',
});

/** A command that no agent takes: AWS says Pending until delivery and execution timeout have passed. */
export const undelivered = (): Answer => ({
  seconds: 30 + 2400,
  status: 'TimedOut',
  statusDetails: 'DeliveryTimedOut',
  responseCode: -1,
  stdout: '',
  undelivered: true,
});

export interface Sent {
  readonly commandId: string;
  readonly document: string;
  readonly version: string;
  readonly instanceId: string;
  readonly comment: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly at: number;
  readonly answer: Answer;
}

const named = (name: string, message = name): Error => Object.assign(new Error(message), { name });
const withStatus = (status: number, name: string): Error =>
  Object.assign(named(name), { $metadata: { httpStatusCode: status } });

type DocumentName = keyof RestoreDeps['documents'];

/** SSM, EC2, S3, Lambda and KMS in memory, on a clock that moves when everybody waits: three nodes, all well unless told otherwise. */
export class World {
  #now = Date.parse('2026-11-20T14:00:30Z');
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];
  readonly commands: Sent[] = [];
  /** Answers of a node to its next commands of a document; when used up, it is well. */
  readonly answers = new Map<string, Answer[]>();
  /** Instances that SendCommand refuses. */
  readonly invalid = new Set<string>();
  /** Instances that EC2 does not list as running. */
  readonly gone = new Set<string>();
  /** Instances that EC2 lists beside the nodes. */
  readonly strangers = new Set<string>();
  /** EC2 answers nothing. */
  ec2Down = false;
  /** EC2 answers calls by id only, as while an availability zone is disrupted. */
  searchFails = false;
  /** The next SendCommands are carried out, and their answers get lost. */
  lostAnswers = 0;
  /** The next requests for a list of commands fail. */
  failingLists = 0;
  readonly objects = new Map<string, { readonly body: Buffer; readonly metadata: Record<string, string> }>();
  /** S3 takes nothing until then. */
  s3DownUntil = 0;
  /** What the backup function answers; when used up, it stores a backup. */
  readonly backups: (
    | { readonly stored: string }
    | { readonly errorType: string; readonly errorMessage: string }
    | { readonly thrown: string }
  )[] = [];
  readonly invoked: Record<string, unknown>[] = [];
  readonly measured: Record<string, number[]> = {};
  readonly lines: ({ readonly message: string; readonly phase: string } & Fields)[] = [];
  published = 0;
  officialTools: OfficialTools = {
    '3.6.5': { amd64: { etcd: hex('etcd'), etcdctl: hex('ctl'), etcdutl: hex('utl') } },
  };
  acknowledgedTools: string[] = [];
  readonly ssmMock = mockClient(SSMClient);
  readonly ec2Mock = mockClient(EC2Client);
  readonly s3Mock = mockClient(S3Client);
  readonly lambdaMock = mockClient(LambdaClient);
  readonly kmsMock = mockClient(KMSClient);

  constructor() {
    this.#answerSsm();
    this.#answerOthers();
  }

  readonly now = (): Date => new Date(this.#now);

  advance(seconds: number): void {
    this.#now += seconds * 1000;
  }

  get deps(): RestoreDeps {
    const config = { region: 'us-east-1', credentials: CREDENTIALS };
    const document = (name: string) => ({ name: `${name}-1A2B`, version: '1' });
    return {
      clusterName: 'lab',
      controlPlaneTags: { 'etcd-backup': 'lab' },
      acknowledgedTools: this.acknowledgedTools,
      diskLimitPercent: 80,
      documents: {
        preflight: document('preflight'),
        stop: document('stop'),
        swap: document('swap'),
        start: document('start'),
        check: document('check'),
        rollback: document('rollback'),
        cleanup: document('cleanup'),
        diagnose: document('diagnose'),
      },
      backupFunction: 'backup-function',
      receiptKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/receipt',
      store: {
        s3: new S3Client({
          ...config,
          requestChecksumCalculation: 'WHEN_REQUIRED',
          responseChecksumValidation: 'WHEN_REQUIRED',
        }),
        bucket: 'lab-backups',
        bucketOwner: '000000000000',
        snapshotKeyArn: 'arn:aws:kms:us-east-1:000000000000:key/snapshot',
        sleep: this.#sleep,
      },
      ec2: new EC2Client(config),
      kms: new KMSClient(config),
      ssm: new SSMClient(config),
      ssmOnce: new SSMClient({ ...config, maxAttempts: 1 }),
      lambda: new LambdaClient({ ...config, maxAttempts: 1 }),
      officialTools: this.officialTools,
      telemetry: {
        phaseDone: (phase, seconds, fields) => {
          this.lines.push({ message: 'phase done', phase, seconds, ...fields });
        },
        phaseFailed: (phase, seconds, fields) => {
          this.lines.push({ message: 'phase failed', phase, seconds, ...fields });
        },
        measure: (name, _, value) => {
          (this.measured[name] ??= []).push(value);
        },
        publish: () => {
          this.published++;
        },
      },
      now: this.now,
      sleep: this.#sleep,
    };
  }

  /** One call of the function, which has 15 minutes; the clock moves on while all of its work waits. */
  async call(event: unknown): Promise<unknown> {
    const end = this.#now + 900_000;
    const call = { running: true };
    const work = restore(this.deps, event, { remainingMilliseconds: () => end - this.#now }).finally(() => {
      call.running = false;
    });
    const settled = Promise.allSettled([work]);
    while (call.running) {
      await setImmediate();
      await setImmediate();
      const next = Math.min(...this.#sleepers.map(({ at }) => at));
      if (Number.isFinite(next)) {
        this.#now = Math.max(this.#now, next);
        const due = this.#sleepers.filter(({ at }) => at <= this.#now);
        this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#now);
        for (const { wake } of due) {
          wake();
        }
      }
    }
    await settled;
    return work;
  }

  /** One call for a state of the machine. */
  async callPhase(phase: Phase, state: RestoreState): Promise<RestoreState> {
    // As between two states of the machine: nothing but JSON passes.
    return (await this.call({ phase, state: JSON.parse(JSON.stringify(state)) as unknown })) as RestoreState;
  }

  /** Calls until the state says that it is done, as the machine's Choice does. */
  async phase(phase: Phase, state: RestoreState): Promise<RestoreState> {
    let next = state;
    for (let calls = 1; calls <= 60; calls++) {
      next = await this.callPhase(phase, next);
      if (next.step.done) {
        return next;
      }
    }
    throw new Error(`${phase} is not done after 60 calls`);
  }

  /** These states one after the other, each to its end. */
  async phases(phases: readonly Phase[], state: RestoreState): Promise<RestoreState> {
    let next = state;
    for (const phase of phases) {
      next = await this.phase(phase, next);
    }
    return next;
  }

  answer(document: DocumentName, instanceId: string, ...answers: Answer[]): void {
    const key = `${document} ${instanceId}`;
    this.answers.set(key, [...(this.answers.get(key) ?? []), ...answers]);
  }

  sent(document: DocumentName, instanceId?: string): Sent[] {
    return this.commands.filter(
      (command) =>
        command.document === `${document}-1A2B` && (instanceId === undefined || command.instanceId === instanceId),
    );
  }

  json(key: string): Record<string, unknown> {
    const object = this.objects.get(key);
    if (object === undefined) {
      throw new Error(`no object ${key}; there are ${[...this.objects.keys()].join(', ')}`);
    }
    return JSON.parse(object.body.toString()) as Record<string, unknown>;
  }

  readonly #sleep = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => this.#sleepers.push({ at: this.#now + milliseconds, wake: resolve }));

  #answerSsm(): void {
    this.ssmMock.on(DescribeInstanceInformationCommand).callsFake(() => ({
      InstanceInformationList: NODES.map(({ instanceId }) => ({
        InstanceId: instanceId,
        AgentVersion: '3.3.2746.0',
        PingStatus: 'Online',
      })),
    }));
    this.ssmMock
      .on(SendCommandCommand)
      .callsFake(
        (input: {
          DocumentName: string;
          DocumentVersion: string;
          InstanceIds: string[];
          Comment: string;
          Parameters: Record<string, string[]>;
        }) => {
          const [instanceId = ''] = input.InstanceIds;
          if (this.invalid.has(instanceId)) {
            throw named('InvalidInstanceId', 'Instances not in a valid state for account');
          }
          const parameters = Object.fromEntries(
            Object.entries(input.Parameters).map(([name, [value = '']]) => [name, value]),
          );
          const document = input.DocumentName.replace('-1A2B', '') as DocumentName;
          const command: Sent = {
            commandId: `${String(this.commands.length + 1).padStart(8, '0')}-0000-0000-0000-000000000000`,
            document: input.DocumentName,
            version: input.DocumentVersion,
            instanceId,
            comment: input.Comment,
            parameters,
            at: this.#now,
            answer: this.answers.get(`${document} ${instanceId}`)?.shift() ?? healthy(document, parameters),
          };
          this.commands.push(command);
          if (this.lostAnswers > 0) {
            this.lostAnswers--;
            throw named('TimeoutError', 'socket hang up');
          }
          return { Command: { CommandId: command.commandId, RequestedDateTime: new Date(command.at) } };
        },
      );
    this.ssmMock.on(ListCommandsCommand).callsFake((input: { Filters: { key: string; value: string }[] }) => {
      if (this.failingLists > 0) {
        this.failingLists--;
        throw named('InternalServerError');
      }
      const value = (name: string) => input.Filters.find(({ key }) => key === name)?.value ?? '';
      return {
        Commands: this.commands
          .filter(({ document, at }) => document === value('DocumentName') && at >= Date.parse(value('InvokedAfter')))
          .map((command) => ({
            CommandId: command.commandId,
            Comment: command.comment,
            InstanceIds: [command.instanceId],
            RequestedDateTime: new Date(command.at),
            Status: this.#status(command),
          }))
          .reverse(),
      };
    });
    this.ssmMock.on(GetCommandInvocationCommand).callsFake(({ CommandId }: { CommandId: string }) => {
      const command = this.commands.find(({ commandId }) => commandId === CommandId);
      // Eventually consistent: at first nobody knows the invocation.
      if (command === undefined || this.#now - command.at < 400) {
        throw named('InvocationDoesNotExist');
      }
      const ended = this.#ended(command);
      const status = this.#status(command);
      return {
        Status: status,
        StatusDetails: ended ? (command.answer.statusDetails ?? status) : status,
        ResponseCode: ended ? command.answer.responseCode : -1,
        StandardOutputContent: ended ? command.answer.stdout : '',
        StandardErrorContent: ended ? (command.answer.stderr ?? '') : '',
      };
    });
  }

  #ended({ at, answer }: Sent): boolean {
    return (this.#now - at) / 1000 >= answer.seconds;
  }

  #status(command: Sent): string {
    if (this.#ended(command)) {
      return command.answer.status;
    }
    return command.answer.undelivered === true ? 'Pending' : 'InProgress';
  }

  #answerOthers(): void {
    this.ec2Mock.on(DescribeInstancesCommand).callsFake(({ InstanceIds }: { InstanceIds?: string[] }) => {
      if (this.ec2Down || (this.searchFails && InstanceIds === undefined)) {
        throw named('RequestLimitExceeded');
      }
      const all = [...NODES.map(({ instanceId }) => instanceId), ...this.strangers];
      const ids = (InstanceIds ?? all).filter((id) => !this.gone.has(id));
      return { Reservations: ids.map((id) => ({ Instances: [{ InstanceId: id, Architecture: 'x86_64' }] })) };
    });
    this.kmsMock.on(VerifyCommand).resolves({ SignatureValid: true });
    this.lambdaMock.on(InvokeCommand).callsFake(({ Payload }: { Payload: Uint8Array }) => {
      const event = JSON.parse(Buffer.from(Payload).toString()) as Record<string, unknown>;
      this.invoked.push(event);
      const given = (event['preRestore'] as { backupId: string } | undefined)?.backupId;
      const answer = this.backups.shift() ?? { stored: given ?? '20261120T141500Z' };
      if ('thrown' in answer) {
        throw named(answer.thrown);
      }
      return 'stored' in answer
        ? { Payload: Buffer.from(JSON.stringify({ outcome: 'stored', backupId: answer.stored, key: 'k' })) }
        : { FunctionError: 'Unhandled', Payload: Buffer.from(JSON.stringify(answer)) };
    });
    this.s3Mock
      .on(PutObjectCommand)
      .callsFake((input: { Key: string; Body: Buffer; Metadata?: Record<string, string>; IfNoneMatch?: string }) => {
        if (this.#now < this.s3DownUntil) {
          throw withStatus(503, 'SlowDown');
        }
        if (input.IfNoneMatch !== '*') {
          throw withStatus(403, 'AccessDenied');
        }
        if (this.objects.has(input.Key)) {
          throw withStatus(412, 'PreconditionFailed');
        }
        this.objects.set(input.Key, { body: input.Body, metadata: input.Metadata ?? {} });
        return {};
      });
    this.s3Mock.on(ListObjectsV2Command).callsFake(({ Prefix }: { Prefix: string }) => ({
      Contents: [...this.objects.keys()]
        .filter((key) => key.startsWith(Prefix))
        .map((Key) => ({ Key, LastModified: this.now() })),
    }));
    this.s3Mock.on(ListObjectVersionsCommand).callsFake(({ Prefix }: { Prefix: string }) => ({
      Versions: [...this.objects]
        .filter(([key]) => key.startsWith(Prefix))
        .map(([key, { body }]) => ({ Key: key, VersionId: 'v1', LastModified: this.now(), Size: body.length })),
    }));
    this.s3Mock.on(GetObjectCommand).callsFake(({ Key }: { Key: string }) => {
      const object = this.objects.get(Key);
      if (object === undefined) {
        throw withStatus(404, 'NoSuchKey');
      }
      return {
        ContentLength: object.body.length,
        Metadata: object.metadata,
        Body: { transformToByteArray: () => Promise.resolve(object.body) },
      };
    });
  }
}

/** What a node prints on which all goes well. */
function healthy(document: DocumentName, parameters: Readonly<Record<string, string>>): Answer {
  const restoreId = parameters['RestoreId'] ?? '';
  const results: Readonly<Record<DocumentName, () => object>> = {
    preflight: () =>
      parameters['Step'] === 'key'
        ? { publicKey: NODE_KEYS.publicKey.export({ format: 'der', type: 'spki' }).toString('base64') }
        : {
            staged: {
              hash: 4711,
              revision: Number(parameters['Revision']) + Number(parameters['Bump']),
              totalKey: 12,
            },
            tools: [],
            seconds: { check: 0.1, download: 1, restore: 1, total: 2.1 },
            removedKept: [],
          },
    stop: () => ({ killed: [], seconds: 2.5 }),
    swap: () => ({ kept: true }),
    start: () => ({ component: parameters['Component'] }),
    check: () => checked(parameters),
    rollback: () =>
      parameters['Served'] === 'no'
        ? { undone: true, finishedForward: false }
        : { undone: false, finishedForward: true },
    cleanup: () => ({ kept: [restoreId] }),
    diagnose: () => ({ evidence: { version: '{"etcdserver":"3.6.5"}', kubelet: 'line 1\nline 2' } }),
  };
  return ok({ restoreId, ...results[document]() });
}

function checked(parameters: Readonly<Record<string, string>>): object {
  const results: Readonly<Record<string, object>> = {
    etcd: { member: restoredMember({ revision: Number(parameters['Revision']) }), wrote: true, disarmed: [] },
    cluster: {
      ready: true,
      running: ['kube-controller-manager', 'kube-scheduler', 'kube-apiserver', 'etcd'],
      advertised: ['10.0.0.1', '10.0.0.2', '10.0.0.3'],
      masterleases: ['10.0.0.1', '10.0.0.2', '10.0.0.3'],
    },
    before: { healthy: ['etcd', 'kube-apiserver', 'kubelet'] },
  };
  return results[parameters['Component'] ?? ''] ?? {};
}

/** A member of the restored cluster of three. */
export function restoredMember(change: Record<string, unknown> = {}) {
  return {
    id: 'b1',
    clusterId: 'ffff000011112222',
    revision: 1_000_001_500,
    compactRevision: 1_000_001_500,
    hashKv: 99,
    hashRevision: 1_000_001_500,
    leaderId: 'b2',
    dbSize: 50_000_000,
    isLearner: false,
    members: NODES.map(({ memberName, peerUrls }, index) => ({
      id: `b${String(index + 1)}`,
      name: memberName,
      peerUrls: [peerUrls],
      clientUrls: [peerUrls.replace('2380', '2379')],
      isLearner: false,
    })),
    alarms: [],
    ...change,
  };
}
