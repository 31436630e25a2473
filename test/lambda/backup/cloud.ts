import { DescribeInstancesCommand, EC2Client, type Instance } from '@aws-sdk/client-ec2';
import { KMSClient, SignCommand, VerifyCommand } from '@aws-sdk/client-kms';
import {
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  type InstanceInformation,
  ListCommandsCommand,
  SendCommandCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { mockClient } from 'aws-sdk-client-mock';
import { createHash, createHmac } from 'node:crypto';
import { backup, type BackupDeps, type Invocation } from '../../../lambda/backup/backup';
import type { SnapshotResult } from '../../../lambda/shared/node-result';
import type { OfficialTools } from '../../../lambda/shared/official-tools';
import type { Fields, Telemetry } from '../../../lambda/shared/telemetry';
import { VirtualTime } from './virtual-time';

export const SNAPSHOT_KEY_ARN = 'arn:aws:kms:us-east-1:000000000000:key/11111111-1111-1111-1111-111111111111';
export const ANNOUNCEMENT_KEY_ARN = 'arn:aws:kms:us-east-1:000000000000:key/22222222-2222-2222-2222-222222222222';
export const SCHEDULE_ARN = 'arn:aws:scheduler:us-east-1:000000000000:schedule/lab/hourly';
export const CREDENTIALS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret', sessionToken: 'session' };

export const hex = (text: string): string => createHash('sha256').update(text).digest('hex');

/** What a healthy node prints after a snapshot. */
export function snapshotResult(backupId: string, change: Partial<SnapshotResult> = {}): SnapshotResult {
  return {
    ok: true,
    backupId,
    file: `/var/lib/etcd-backup/staging/${backupId}/snapshot.db.zst`,
    compression: 'zstd',
    size: 50_000_032,
    sha256: hex('snapshot'),
    compressedSize: 9_000_000,
    compressedSha256: hex(`compressed ${backupId}`),
    hash: 2_912_345_678,
    revision: 123_456,
    totalKey: 9876,
    totalSize: 49_999_872,
    etcdVersion: '3.6.5',
    clusterVersion: '3.6.0',
    kubernetesVersion: 'v1.33.1',
    arch: 'amd64',
    memberId: 'a1',
    memberName: 'cp1',
    clusterId: 'cdf818194e3a8c32',
    leaderId: 'a3',
    isLeader: false,
    members: [1, 2, 3].map((number) => ({
      id: `a${String(number)}`,
      name: `cp${String(number)}`,
      peerUrls: [`https://10.0.0.${String(number)}:2380`],
      clientUrls: [`https://10.0.0.${String(number)}:2379`],
      isLearner: false,
    })),
    raftTerm: 4,
    raftIndex: '130000',
    dbSize: 50_000_000,
    dbSizeInUse: 48_000_000,
    liveRevision: 123_456,
    flags: ['--name=cp1'],
    dataDir: '/var/lib/etcd',
    hostDataDir: '/var/lib/etcd',
    identity: {
      etcdCaSha256: hex('etcd ca'),
      clusterCaSha256: hex('cluster ca'),
      saPubSha256: hex('sa.pub'),
      encryptionConfigSha256: null,
    },
    certificates: [{ file: '/etc/kubernetes/pki/etcd/server.crt', daysLeft: 200 }],
    alarms: [],
    leaderChanges: 0,
    walFsyncP99Seconds: 0.004,
    tools: [{ name: 'etcdctl', version: '3.6.5', arch: 'amd64', sha256: hex('etcdctl 3.6.5'), source: 'image' }],
    imageTools: [],
    findings: [],
    seconds: { inspect: 0.5, save: 1, prove: 1.5, total: 3 },
    peakBytesStaged: 59_000_032,
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
  /** Happens when the command ends. */
  readonly onEnd?: () => void;
  /** No agent takes the command. */
  readonly undelivered?: true;
}

/** A refusal as the scripts print it. */
export function refusal(code: number, error: string, message = 'got this, expected that; do something'): Answer {
  return {
    seconds: 2,
    status: 'Failed',
    responseCode: code,
    stdout: `${JSON.stringify({ ok: false, code, error, message })}\n`,
  };
}

/** A command that no agent takes: AWS says Pending until delivery and execution timeout have passed. */
export function undelivered(): Answer {
  return {
    seconds: 30 + 2400,
    status: 'TimedOut',
    statusDetails: 'DeliveryTimedOut',
    responseCode: -1,
    stdout: '',
    undelivered: true,
  };
}

interface SentCommand {
  readonly commandId: string;
  readonly document: string;
  readonly version: string;
  readonly instanceId: string;
  readonly comment: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly at: Date;
  readonly answer: Answer;
  finished: boolean;
}

interface StoredObject {
  readonly bytes: Buffer;
  readonly metadata: Record<string, string>;
  /** Undefined: long ago. */
  readonly storedAt?: Date;
}

/** S3, SSM, KMS and EC2 in memory, on a virtual clock: three control-plane nodes, all healthy unless told otherwise. */
export class Cloud {
  readonly time: VirtualTime;
  readonly objects = new Map<string, StoredObject>();
  readonly commands: SentCommand[] = [];
  readonly measured: { readonly name: string; readonly unit: string; readonly value: number }[] = [];
  readonly lines: ({ readonly message: string; readonly phase: string } & Fields)[] = [];
  readonly instances: Instance[] = [1, 2, 3].map((number) => ({
    InstanceId: `i-0000000000000000${String(number)}`,
    Architecture: 'x86_64',
    PrivateIpAddress: `10.0.0.${String(number)}`,
  }));
  readonly agents: InstanceInformation[] = this.instances.map(({ InstanceId }) => ({
    InstanceId: InstanceId as string,
    AgentVersion: '3.3.2746.0',
    PingStatus: 'Online',
  }));
  /** Answers of a node to its next snapshot commands; when used up, it is healthy. */
  readonly snapshots: Record<string, Answer[]> = {};
  /** The same for uploads. `stores`: the object gets there whatever the answer says. */
  readonly uploads: Record<string, (Answer & { readonly stores?: boolean })[]> = {};
  /** The same for tools documents. */
  readonly tools: Record<string, Answer[]> = {};
  /** Instances that SendCommand refuses. */
  readonly invalid = new Set<string>();
  officialTools: OfficialTools = {};
  acknowledgedMembers = 0;
  acknowledgedTools: readonly string[] = [];
  readonly ec2Mock = mockClient(EC2Client);
  readonly s3Mock = mockClient(S3Client);
  readonly ssmMock = mockClient(SSMClient);
  readonly kmsMock = mockClient(KMSClient);

  constructor(start = '2026-11-20T14:00:05Z') {
    this.time = new VirtualTime(start);
    this.#answerS3();
    this.#answerSsm();
    this.#answerKmsAndEc2();
  }

  get deps(): BackupDeps {
    return {
      clusterName: 'lab',
      controlPlaneTags: { 'etcd-backup': 'lab' },
      acknowledgedMembers: this.acknowledgedMembers,
      maxKeepDays: 186,
      acknowledgedTools: this.acknowledgedTools,
      snapshotDocument: { name: 'Snapshot-1A2B', version: '1' },
      uploadDocument: { name: 'Upload-3C4D', version: '1' },
      toolsDocument: { name: 'Tools-5E6F', version: '1' },
      announcementKeyArn: ANNOUNCEMENT_KEY_ARN,
      store: {
        s3: new S3Client({
          region: 'us-east-1',
          credentials: CREDENTIALS,
          requestChecksumCalculation: 'WHEN_REQUIRED',
          responseChecksumValidation: 'WHEN_REQUIRED',
        }),
        bucket: 'lab-backups',
        bucketOwner: '000000000000',
        snapshotKeyArn: SNAPSHOT_KEY_ARN,
        sleep: this.time.sleep,
      },
      ec2: new EC2Client({ region: 'us-east-1', credentials: CREDENTIALS }),
      kms: new KMSClient({ region: 'us-east-1', credentials: CREDENTIALS }),
      ssm: new SSMClient({ region: 'us-east-1', credentials: CREDENTIALS }),
      ssmOnce: new SSMClient({ region: 'us-east-1', credentials: CREDENTIALS, maxAttempts: 1 }),
      officialTools: this.officialTools,
      telemetry: this.#telemetry(),
      now: this.time.now,
      sleep: this.time.sleep,
    };
  }

  /** One invocation that begins now and has `seconds` of time. */
  invocation(requestId: string, seconds = 900): Invocation {
    const end = this.time.now().getTime() + seconds * 1000;
    return { requestId, remainingMilliseconds: () => end - this.time.now().getTime() };
  }

  /** Runs invocations side by side to their ends. */
  async invoke(...events: { readonly event: unknown; readonly requestId?: string; readonly seconds?: number }[]) {
    const deps = this.deps;
    return this.time.run(
      ...events.map(
        ({ event, requestId = 'request-1', seconds }) =>
          () =>
            backup(deps, event, this.invocation(requestId, seconds)),
      ),
    );
  }

  /** One invocation; its result, or what it throws. */
  async backup(event: unknown, options: { readonly requestId?: string; readonly seconds?: number } = {}) {
    const [result] = await this.invoke({ event, ...options });
    if (result?.status !== 'fulfilled') {
      throw result?.reason;
    }
    return result.value;
  }

  sent(document: 'Snapshot' | 'Upload' | 'Tools'): SentCommand[] {
    return this.commands.filter((command) => command.document.startsWith(document));
  }

  keys(prefix: string): string[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  json(key: string): Record<string, unknown> {
    const object = this.objects.get(key);
    if (object === undefined) {
      throw new Error(`no object ${key}; there are ${[...this.objects.keys()].join(', ')}`);
    }
    return JSON.parse(object.bytes.toString()) as Record<string, unknown>;
  }

  /** A signature as the fake key makes it: as long as an ECDSA P-256 one in DER. */
  sign(digest: Uint8Array): Buffer {
    const mac = createHmac('sha256', 'announcement key').update(digest).digest();
    return Buffer.concat([mac, mac, mac.subarray(0, 8)]);
  }

  #telemetry(): Telemetry {
    return {
      phaseDone: (phase, seconds, fields) => {
        this.lines.push({ message: 'phase done', phase, seconds, ...fields });
      },
      phaseFailed: (phase, seconds, fields) => {
        this.lines.push({ message: 'phase failed', phase, seconds, ...fields });
      },
      measure: (name, unit, value) => {
        this.measured.push({ name, unit, value });
      },
      publish: () => {
        this.measured.push({ name: 'published', unit: 'None', value: 1 });
      },
    };
  }

  #answerS3(): void {
    const failure = (status: number, name: string) =>
      Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
    this.s3Mock.on(HeadObjectCommand).callsFake(({ Key }: { Key: string }) => {
      const object = this.objects.get(Key);
      if (object === undefined) {
        throw failure(404, 'NotFound');
      }
      return { Metadata: object.metadata };
    });
    this.s3Mock.on(GetObjectCommand).callsFake(({ Key }: { Key: string }) => {
      const object = this.objects.get(Key);
      if (object === undefined) {
        throw failure(404, 'NoSuchKey');
      }
      return { Metadata: object.metadata, Body: { transformToByteArray: () => Promise.resolve(object.bytes) } };
    });
    this.s3Mock
      .on(PutObjectCommand)
      .callsFake((input: { Key: string; Body: Buffer; Metadata?: Record<string, string>; IfNoneMatch?: string }) => {
        if (input.IfNoneMatch !== '*') {
          throw failure(403, 'AccessDenied');
        }
        if (this.objects.has(input.Key)) {
          throw failure(412, 'PreconditionFailed');
        }
        this.objects.set(input.Key, {
          bytes: input.Body,
          metadata: input.Metadata ?? {},
          storedAt: this.time.now(),
        });
        return {};
      });
    this.s3Mock
      .on(ListObjectsV2Command)
      .callsFake((input: { Prefix: string; StartAfter?: string; ContinuationToken?: string }) => {
        const after = input.ContinuationToken ?? input.StartAfter ?? '';
        const keys = this.keys(input.Prefix).filter((key) => key > after);
        // Small pages, so that everything that lists has to turn them.
        const page = keys.slice(0, 3);
        return {
          Contents: page.map((Key) => ({ Key, LastModified: this.objects.get(Key)?.storedAt ?? new Date(0) })),
          ...(keys.length > page.length ? { NextContinuationToken: page.at(-1) } : {}),
        };
      });
  }

  #answerSsm(): void {
    this.ssmMock.on(DescribeInstanceInformationCommand).callsFake(() => ({ InstanceInformationList: this.agents }));
    this.ssmMock
      .on(SendCommandCommand)
      .callsFake(
        (input: {
          DocumentName: string;
          DocumentVersion: string;
          InstanceIds: string[];
          Comment: string;
          TimeoutSeconds: number;
          Parameters: Record<string, string[]>;
        }) => {
          const instanceId = input.InstanceIds[0] as string;
          if (this.invalid.has(instanceId)) {
            throw Object.assign(new Error('Instances not in a valid state for account'), { name: 'InvalidInstanceId' });
          }
          const parameters = Object.fromEntries(
            Object.entries(input.Parameters).map(([name, values]) => [name, values[0] as string]),
          );
          const command: SentCommand = {
            commandId: `${String(this.commands.length + 1).padStart(8, '0')}-0000-0000-0000-000000000000`,
            document: input.DocumentName,
            version: input.DocumentVersion,
            instanceId,
            comment: input.Comment,
            parameters,
            timeoutSeconds: input.TimeoutSeconds,
            at: this.time.now(),
            answer: this.#answer(input.DocumentName, instanceId, input.Comment),
            finished: false,
          };
          this.commands.push(command);
          return { Command: { CommandId: command.commandId, RequestedDateTime: command.at } };
        },
      );
    this.ssmMock.on(ListCommandsCommand).callsFake((input: { Filters: { key: string; value: string }[] }) => {
      const value = (name: string) => input.Filters.find(({ key }) => key === name)?.value as string;
      this.#finishDue();
      return {
        Commands: this.commands
          .filter(({ document, at }) => document === value('DocumentName') && at >= new Date(value('InvokedAfter')))
          .map((command) => ({
            CommandId: command.commandId,
            Comment: command.comment,
            InstanceIds: [command.instanceId],
            RequestedDateTime: command.at,
            Status: this.#status(command),
          }))
          .reverse(),
      };
    });
    this.ssmMock.on(GetCommandInvocationCommand).callsFake(({ CommandId }: { CommandId: string }) => {
      const command = this.commands.find(({ commandId }) => commandId === CommandId);
      // Eventually consistent: within the first second nobody knows the invocation.
      if (command === undefined || this.time.now().getTime() - command.at.getTime() < 1000) {
        throw Object.assign(new Error('InvocationDoesNotExist'), { name: 'InvocationDoesNotExist' });
      }
      this.#finishDue();
      const status = this.#status(command);
      const ended = command.finished;
      return {
        Status: status,
        StatusDetails: ended ? (command.answer.statusDetails ?? status) : status,
        ResponseCode: ended ? command.answer.responseCode : -1,
        StandardOutputContent: ended ? command.answer.stdout : '',
        StandardErrorContent: ended ? (command.answer.stderr ?? '') : '',
      };
    });
  }

  #answer(document: string, instanceId: string, backupId: string): Answer {
    if (document.startsWith('Snapshot')) {
      return (
        this.snapshots[instanceId]?.shift() ?? {
          seconds: 5,
          status: 'Success',
          responseCode: 0,
          stdout: `${JSON.stringify(snapshotResult(backupId))}\n`,
        }
      );
    }
    if (document.startsWith('Tools')) {
      return (
        this.tools[instanceId]?.shift() ?? {
          seconds: 3,
          status: 'Success',
          responseCode: 0,
          stdout: `${JSON.stringify({ ok: true, backupId, stored: ['etcd'], existed: [], seconds: 2.1 })}\n`,
        }
      );
    }
    return (
      this.uploads[instanceId]?.shift() ?? {
        seconds: 4,
        status: 'Success',
        responseCode: 0,
        stdout: `${JSON.stringify({ ok: true, backupId, compressedSize: 9_000_000, seconds: 3.2 })}\n`,
      }
    );
  }

  #status(command: SentCommand): string {
    if (command.finished) {
      return command.answer.status;
    }
    return command.answer.undelivered === true ? 'Pending' : 'InProgress';
  }

  #finishDue(): void {
    for (const command of this.commands) {
      const age = (this.time.now().getTime() - command.at.getTime()) / 1000;
      if (command.finished || age < command.answer.seconds) {
        continue;
      }
      command.finished = true;
      command.answer.onEnd?.();
      const stores = (command.answer as { stores?: boolean }).stores ?? command.answer.status === 'Success';
      if (command.document.startsWith('Upload') && stores) {
        this.#put(command);
      }
      if (command.document.startsWith('Tools') && command.answer.status === 'Success') {
        for (const entry of command.parameters['Uploads']?.split(' ') ?? []) {
          const url = entry.replace(/^[^=]*=[^=]*=/, '');
          this.objects.set(new URL(url).pathname.slice(1), { bytes: Buffer.alloc(0), metadata: {} });
        }
      }
    }
  }

  /** What curl and S3 make of an upload command. */
  #put(command: SentCommand): void {
    const { pathname } = new URL(command.parameters['Url'] as string);
    const headers = Object.fromEntries(
      (command.parameters['Headers'] as string).split('|').map((header) => header.split(': ') as [string, string]),
    );
    const key = pathname.replace(/^\//, '');
    if (!this.objects.has(key)) {
      const metadata = Object.entries(headers).flatMap(([name, value]) =>
        name.startsWith('x-amz-meta-') ? [[name.slice('x-amz-meta-'.length), value]] : [],
      );
      this.objects.set(key, {
        bytes: Buffer.alloc(0),
        metadata: Object.fromEntries(metadata) as Record<string, string>,
      });
    }
  }

  #answerKmsAndEc2(): void {
    this.kmsMock
      .on(SignCommand)
      .callsFake(({ Message }: { Message: Uint8Array }) => ({ Signature: this.sign(Message) }));
    this.kmsMock
      .on(VerifyCommand)
      .callsFake(({ Message, Signature }: { Message: Uint8Array; Signature: Uint8Array }) => {
        if (!this.sign(Message).equals(Buffer.from(Signature))) {
          throw Object.assign(new Error('invalid'), { name: 'KMSInvalidSignatureException' });
        }
        return { SignatureValid: true };
      });
    this.ec2Mock
      .on(DescribeInstancesCommand)
      .callsFake(() => ({ Reservations: this.instances.map((instance) => ({ Instances: [instance] })) }));
  }
}

export const NODE_1 = 'i-00000000000000001';
export const NODE_2 = 'i-00000000000000002';
export const NODE_3 = 'i-00000000000000003';

/** A scheduled event. */
export function scheduled(scheduledTime: string): { scheduledTime: string; scheduleArn: string } {
  return { scheduledTime, scheduleArn: SCHEDULE_ARN };
}
