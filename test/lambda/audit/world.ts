import { CloudTrailClient, LookupEventsCommand } from '@aws-sdk/client-cloudtrail';
import { DescribeKeyCommand } from '@aws-sdk/client-kms';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import {
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketNotificationConfigurationCommand,
  GetBucketPolicyCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  GetPublicAccessBlockCommand,
  type LifecycleRule,
} from '@aws-sdk/client-s3';
import { GetScheduleCommand, SchedulerClient } from '@aws-sdk/client-scheduler';
import { ListExecutionsCommand, SFNClient } from '@aws-sdk/client-sfn';
import { mockClient } from 'aws-sdk-client-mock';
import { audit, type AuditDeps } from '../../../lambda/audit/audit';
import { emptyMemory } from '../../../lambda/audit/stored';
import { CREDENTIALS } from '../backup/cloud';
import { ANNOUNCEMENT_KEY, type Put, RECEIPT_KEY, World } from '../verify/world';

export const MACHINE = 'arn:aws:states:us-east-1:000000000000:stateMachine:restore';
export const TOPIC_KEY = 'arn:aws:kms:us-east-1:000000000000:key/topic';
export const SNAPSHOT_KEY = 'arn:aws:kms:us-east-1:000000000000:key/snapshot';
export const EXPIRY = {
  days: {
    pending: 35,
    failed: 7,
    hourly: 2,
    daily: 7,
    weekly: 28,
    monthly: 186,
    'on-demand': 30,
    'pre-restore': 30,
  },
  prefixDays: { 'announcements/': 35, 'pki/': 221 },
  noncurrentDays: 7,
};

const CONFIG = { region: 'us-east-1', credentials: CREDENTIALS };

/** The bucket policy as the schedule passes it. */
export const POLICY = {
  Version: '2012-10-17',
  Statement: [
    {
      Sid: 'DenyDeleteAndBypass',
      Effect: 'Deny',
      Principal: { AWS: '*' },
      Action: ['s3:DeleteObject*', 's3:BypassGovernanceRetention'],
      Resource: 'arn:aws:s3:::lab-backups/*',
    },
    {
      Sid: 'DenyOtherLocks',
      Effect: 'Deny',
      Principal: { AWS: '*' },
      Action: 's3:PutObjectRetention',
      Resource: 'arn:aws:s3:::lab-backups/*',
      Condition: {
        ArnNotEquals: {
          'aws:PrincipalArn': ['arn:aws:iam::000000000000:role/verify', 'arn:aws:iam::000000000000:role/audit'],
        },
      },
    },
  ],
};

/** The lifecycle rules of the stack, as S3 gives them back. */
export function lifecycleRules(): LifecycleRule[] {
  return [
    ...Object.entries(EXPIRY.days).map(([retention, days]): LifecycleRule => ({
      ID: `snapshots-${retention}`,
      Status: 'Enabled',
      Filter: { And: { Prefix: 'snapshots/', Tags: [{ Key: 'retention', Value: retention }] } },
      Expiration: { Days: days },
      NoncurrentVersionExpiration: { NoncurrentDays: 7 },
    })),
    ...Object.entries(EXPIRY.prefixDays).map(([prefix, days]): LifecycleRule => ({
      ID: prefix.slice(0, -1),
      Status: 'Enabled',
      Filter: { Prefix: prefix },
      Expiration: { Days: days },
      NoncurrentVersionExpiration: { NoncurrentDays: 7 },
    })),
    {
      ID: 'leftovers',
      Status: 'Enabled',
      Filter: {},
      Expiration: { ExpiredObjectDeleteMarker: true },
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
    },
  ];
}

export const failure = (name: string, status = 400) =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });

interface Execution {
  readonly executionArn: string;
  readonly startDate: Date;
}

/** The world of verify's tests, in which audit looks at everything else as well. All is well to begin with. */
export class AuditWorld {
  readonly world = new World();
  readonly memory = emptyMemory();
  /** What each call of S3's on the bucket answers; an Error is thrown. */
  readonly bucket: Record<string, unknown> = {
    lock: {
      ObjectLockConfiguration: {
        ObjectLockEnabled: 'Enabled',
        Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 2 } },
      },
    },
    versioning: { Status: 'Enabled' },
    publicAccess: {
      PublicAccessBlockConfiguration: {
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      },
    },
    encryption: {
      ServerSideEncryptionConfiguration: {
        Rules: [
          {
            BucketKeyEnabled: false,
            ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: SNAPSHOT_KEY },
          },
        ],
      },
    },
    lifecycle: { Rules: lifecycleRules() },
    events: { EventBridgeConfiguration: {} },
    policy: { Policy: JSON.stringify(POLICY) },
  };
  /** KeyMetadata by ARN; an Error is thrown. */
  readonly keys: Record<string, unknown> = {
    [SNAPSHOT_KEY]: { KeyState: 'Enabled' },
    [ANNOUNCEMENT_KEY]: { KeyState: 'Enabled' },
    [RECEIPT_KEY]: { KeyState: 'Enabled' },
    [TOPIC_KEY]: { KeyState: 'Enabled' },
  };
  readonly schedules: Record<string, unknown> = {
    'backups/hourly': { State: 'ENABLED' },
    'drills/daily': { State: 'ENABLED' },
  };
  executions: Execution[] = [];
  /** Events as CloudTrail keeps them. */
  trail: unknown[] = [];
  /** Keys of the versions that verify was started for. */
  readonly asked: string[] = [];
  /** What verify does when it is started; without it nothing happens. */
  onAsked: ((event: unknown) => Promise<unknown>) | undefined;
  change: Partial<AuditDeps> = {};
  /** The gauges of each time that metrics were written: what was only measured until then reaches nobody. */
  readonly published: Record<string, number | undefined>[] = [];
  readonly #clients = {
    lambda: new LambdaClient(CONFIG),
    scheduler: new SchedulerClient(CONFIG),
    sfn: new SFNClient(CONFIG),
    cloudTrail: new CloudTrailClient(CONFIG),
  };
  readonly lambdaMock = mockClient(LambdaClient);
  readonly schedulerMock = mockClient(SchedulerClient);
  readonly sfnMock = mockClient(SFNClient);
  readonly trailMock = mockClient(CloudTrailClient);

  constructor() {
    const { s3Mock, kmsMock } = this.world;
    const answer = (what: string) => () => {
      const value = this.bucket[what];
      if (value instanceof Error) {
        throw value;
      }
      return value;
    };
    s3Mock.on(GetObjectLockConfigurationCommand).callsFake(answer('lock'));
    s3Mock.on(GetBucketVersioningCommand).callsFake(answer('versioning'));
    s3Mock.on(GetPublicAccessBlockCommand).callsFake(answer('publicAccess'));
    s3Mock.on(GetBucketEncryptionCommand).callsFake(answer('encryption'));
    s3Mock.on(GetBucketLifecycleConfigurationCommand).callsFake(answer('lifecycle'));
    s3Mock.on(GetBucketNotificationConfigurationCommand).callsFake(answer('events'));
    s3Mock.on(GetBucketPolicyCommand).callsFake(answer('policy'));
    kmsMock.on(DescribeKeyCommand).callsFake(({ KeyId }: { KeyId: string }) => {
      const KeyMetadata = this.keys[KeyId];
      if (KeyMetadata instanceof Error) {
        throw KeyMetadata;
      }
      return { KeyMetadata };
    });
    this.schedulerMock.on(GetScheduleCommand).callsFake(({ GroupName, Name }: { GroupName: string; Name: string }) => {
      const schedule = this.schedules[`${GroupName}/${Name}`];
      if (schedule === undefined || schedule instanceof Error) {
        throw schedule ?? failure('ResourceNotFoundException', 404);
      }
      return schedule;
    });
    this.lambdaMock
      .on(InvokeCommand)
      .callsFake(
        async ({
          FunctionName,
          InvocationType,
          Payload,
        }: {
          FunctionName: string;
          InvocationType: string;
          Payload: Uint8Array;
        }) => {
          if (FunctionName !== 'verify' || InvocationType !== 'Event') {
            throw failure('ResourceNotFoundException', 404);
          }
          const event = JSON.parse(Buffer.from(Payload).toString()) as { detail: { object: { key: string } } };
          this.asked.push(event.detail.object.key);
          await this.onAsked?.(event);
          return { StatusCode: 202 };
        },
      );
    this.sfnMock.on(ListExecutionsCommand).callsFake(() => ({ executions: this.executions }));
    this.trailMock
      .on(LookupEventsCommand)
      .callsFake(({ StartTime, EndTime, NextToken }: { StartTime: Date; EndTime: Date; NextToken?: string }) => {
        const inWindow = this.trail.filter((event) => {
          const { eventTime } = event as { eventTime: string };
          return new Date(eventTime) >= StartTime && new Date(eventTime) <= EndTime;
        });
        const from = Number(NextToken ?? 0);
        const page = inWindow.slice(from, from + 2);
        return {
          Events: page.map((event) => ({ CloudTrailEvent: JSON.stringify(event) })),
          ...(from + 2 < inWindow.length ? { NextToken: String(from + 2) } : {}),
        };
      });
  }

  get deps(): AuditDeps {
    const { clusterName, store, kms, receiptKeyArn, telemetry, now } = this.world.deps;
    return {
      clusterName,
      store,
      kms,
      receiptKeyArn,
      telemetry: { ...telemetry, publish: () => this.published.push(this.gauges) },
      now,
      ...this.#clients,
      verifyFunction: 'verify',
      restoreMachineArn: MACHINE,
      keys: [
        { name: 'snapshot key', arn: SNAPSHOT_KEY, without: 'without it no backup can be read' },
        { name: 'announcement key', arn: ANNOUNCEMENT_KEY, without: 'without it no backup can be taken' },
        { name: 'receipt key', arn: RECEIPT_KEY, without: 'without it no backup can be verified' },
        { name: "topic's key", arn: TOPIC_KEY, without: 'without it no alarm reaches anybody' },
      ],
      schedules: [
        { group: 'backups', name: 'hourly' },
        { group: 'drills', name: 'daily' },
      ],
      bucket: { adopted: false, lockDays: 2, expiry: EXPIRY },
      memory: this.memory,
      wait: (_milliseconds, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reject(new Error('aborted'));
          });
        }),
      ...this.change,
    };
  }

  /** One run, as the schedule starts it. */
  run(event: Record<string, unknown> = {}) {
    return audit(this.deps, { scheduledTime: this.world.now.toISOString(), policy: POLICY, ...event });
  }

  /** The runs of an hour from now on, one every five minutes. */
  async hour(): Promise<void> {
    for (let slot = 0; slot < 12; slot++) {
      await this.run();
      this.world.now = new Date(this.world.now.getTime() + 300_000);
    }
  }

  /** The last value of each gauge. */
  get gauges(): Record<string, number | undefined> {
    return Object.fromEntries(Object.entries(this.world.measured).map(([name, values]) => [name, values.at(-1)]));
  }

  /** Forgets what was measured. */
  forget(): void {
    for (const name of Object.keys(this.world.measured)) {
      // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- a gauge that was not emitted has no entry
      delete this.world.measured[name];
    }
  }

  async verified(backupId: string): Promise<Put> {
    const put = this.world.backup(backupId);
    await this.world.verify(put.event);
    return put;
  }

  drill(drillId: string, change: Record<string, unknown> = {}): void {
    const at = drillId.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6.000Z');
    const record = {
      schema: 1,
      drillId,
      cluster: 'lab',
      backupId: '20261120T140000Z',
      versionId: 'v1',
      outcome: 'proven',
      reason: null,
      sentence: null,
      etcdVersion: '3.6.5',
      tools: {},
      seconds: {},
      measured: null,
      startedAt: at,
      finishedAt: at,
      ...change,
    };
    const now = this.world.now;
    this.world.now = new Date(at);
    this.world.put(`drills/${drillId}.json`, Buffer.from(JSON.stringify(record)), {});
    this.world.now = now;
  }
}
