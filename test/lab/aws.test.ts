import { DescribeInstancesCommand, EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import {
  CreateKeyCommand,
  DescribeKeyCommand,
  GetPublicKeyCommand,
  KMSClient,
  SignCommand,
  VerifyCommand,
} from '@aws-sdk/client-kms';
import { InvokeCommand, LambdaClient, ListFunctionsCommand } from '@aws-sdk/client-lambda';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  PutObjectCommand,
  type PutObjectCommandInput,
  PutObjectRetentionCommand,
  PutObjectTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import {
  ListTopicsCommand,
  PublishCommand,
  type PublishCommandInput,
  type PublishCommandOutput,
  SNSClient,
} from '@aws-sdk/client-sns';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import {
  CancelCommandCommand,
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  type GetCommandInvocationCommandOutput,
  ListCommandInvocationsCommand,
  ListCommandsCommand,
  SendCommandCommand,
  type SendCommandCommandInput,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { App } from 'aws-cdk-lib';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AwsOptions, type Credentials, type FleetNode, type LabAws, startAws } from '../../lab/aws/aws';
import { matches, readPattern } from '../../lab/aws/event-pattern';
import { s3Client, startVersitygw } from '../../lab/aws/s3';
import { fillContext } from '../../lab/aws/scheduler';
import { readAssembly } from '../../lab/aws/template';
import { readClusters } from '../../lib/config';
import { EtcdBackupStack } from '../../lib/stack';
import { fixtureAssembly, fixtureTemplate, folder, hostNode, REGION, removeFolders } from './aws-fixture';

const VISIBLE_AFTER_MS = 300;
const [CP1, CP2, OLD, WORKER] = [
  'i-0000000000000001a',
  'i-0000000000000002b',
  'i-0000000000000003c',
  'i-0000000000000004d',
] as const;

let aws: LabAws;
let nodes: FleetNode[];
let ssm: SSMClient;
let s3: S3Client;
let kms: KMSClient;
let ec2: EC2Client;
let bucket: string;

const common = (
  endpoint: string,
  credentials: Credentials,
): { endpoint: string; region: string; credentials: Credentials; maxAttempts: number } => ({
  endpoint,
  region: REGION,
  credentials,
  maxAttempts: 1,
});

const start = (more: Partial<AwsOptions> = {}): Promise<LabAws> =>
  startAws({
    dir: folder(),
    cdkOut: fixtureAssembly(),
    stackName: 'lab',
    nodes: [],
    lambda: { retryDelaysMs: [50, 50] },
    ...more,
  });

const ref = (logicalId: string): string => aws.resources.get(logicalId) ?? '';

beforeAll(async () => {
  const orchestration = folder();
  nodes = [
    hostNode(CP1, orchestration),
    hostNode(CP2, orchestration),
    hostNode(OLD, orchestration, { agentVersion: '3.3.2745.9' }),
    hostNode(WORKER, orchestration, {
      tags: { role: 'worker' },
      state: 'running',
      privateIp: '10.0.0.4',
      privateDnsName: 'ip-10-0-0-4.ec2.internal',
    }),
  ];
  // A second lasts 50 ms for time limits, so that the 30 s of a delivery and the 60 s of a step end in a test's time.
  aws = await start({ nodes, ssm: { visibleAfterMs: VISIBLE_AFTER_MS, deliverySecondMs: 50, executionSecondMs: 50 } });
  ssm = new SSMClient(common(aws.endpoints.ssm, aws.credentials));
  kms = new KMSClient(common(aws.endpoints.kms, aws.credentials));
  ec2 = new EC2Client(common(aws.endpoints.ec2, aws.credentials));
  s3 = s3Client(aws.endpoints.s3, aws.credentials, REGION);
  bucket = ref('Bucket');
});

afterAll(async () => {
  await aws.stop();
  removeFolders();
});

describe('S3', () => {
  const put = (Key: string, more: Partial<PutObjectCommandInput> = {}, client = s3): Promise<unknown> =>
    client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'the plain text of a snapshot', ...more }));

  const filesUnder = (path: string): string[] =>
    readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));

  it("encrypts with the bucket's key, and nothing on disk is plain text", async () => {
    await put('snapshots/encrypted');
    const head = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: 'snapshots/encrypted' }));
    expect(head.ServerSideEncryption).toBe('aws:kms');
    expect(head.SSEKMSKeyId).toBe(`arn:aws:kms:${REGION}:${aws.account}:key/${ref('Key')}`);
    const stored = filesUnder(join(aws.s3DataDir, bucket, 'snapshots'));
    expect(stored).not.toHaveLength(0);
    for (const file of stored) expect(readFileSync(file).includes('plain text')).toBe(false);
    const body = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: 'snapshots/encrypted' }));
    await expect(body.Body?.transformToString()).resolves.toBe('the plain text of a snapshot');
  });

  it('fails to read and to write while the key is disabled', async () => {
    await put('snapshots/disabled-later');
    aws.keys.setEnabled(ref('Key'), false);
    try {
      await expect(put('snapshots/disabled')).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } });
      await expect(
        s3.send(new GetObjectCommand({ Bucket: bucket, Key: 'snapshots/disabled-later' })),
      ).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } });
    } finally {
      aws.keys.setEnabled(ref('Key'), true);
    }
    await expect(
      s3.send(new GetObjectCommand({ Bucket: bucket, Key: 'snapshots/disabled-later' })),
    ).resolves.toMatchObject({ ContentLength: 28 });
  });

  it('fails for a key that KMS does not have', async () => {
    const SSEKMSKeyId = `arn:aws:kms:${REGION}:${aws.account}:key/00000000-0000-4000-8000-000000000000`;
    await expect(put('snapshots/other-key', { ServerSideEncryption: 'aws:kms', SSEKMSKeyId })).rejects.toMatchObject({
      name: 'kms:KeyNotFound',
    });
  });

  it('stores a key once with If-None-Match, also when eight writers race', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) => put('snapshots/once', { IfNoneMatch: '*', Body: String(index) })),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    await expect(put('snapshots/once', { IfNoneMatch: '*' })).rejects.toMatchObject({
      name: 'PreconditionFailed',
      $metadata: { httpStatusCode: 412 },
    });
  });

  it('fails for a body that does not have the checksum', async () => {
    const ChecksumSHA256 = createHash('sha256').update('another body').digest('base64');
    await expect(put('snapshots/checksum', { ChecksumSHA256 })).rejects.toMatchObject({
      $metadata: { httpStatusCode: 400 },
    });
  });

  it('locks every version by default, and lets a delete marker hide it', async () => {
    const { VersionId } = await s3.send(new PutObjectCommand({ Bucket: bucket, Key: 'snapshots/locked', Body: 'x' }));
    const lock = await s3.send(new GetObjectLockConfigurationCommand({ Bucket: bucket }));
    expect(lock.ObjectLockConfiguration?.Rule?.DefaultRetention).toEqual({ Mode: 'GOVERNANCE', Days: 2 });
    // S3 says AccessDenied here; MinIO has a name of its own for it.
    const version = { Bucket: bucket, Key: 'snapshots/locked', VersionId };
    await expect(s3.send(new DeleteObjectCommand(version))).rejects.toMatchObject({
      name: 'InvalidRequest',
      message: expect.stringContaining('WORM') as string,
    });
    await expect(s3.send(new HeadObjectCommand(version))).resolves.toMatchObject({ ContentLength: 1 });
    await expect(s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'snapshots/locked' }))).resolves.toMatchObject({
      DeleteMarker: true,
    });
  });

  it("holds a function to its role's S3 statements", async () => {
    const credentials = aws.functionCredentials('Function');
    expect(credentials.sessionToken).toBeDefined();
    const own = s3Client(aws.endpoints.s3, credentials, REGION);
    await put('snapshots/by-function', {}, own);
    await expect(put('receipts/by-function', {}, own)).rejects.toMatchObject({ name: 'AccessDenied' });
    await expect(
      own.send(new GetObjectCommand({ Bucket: bucket, Key: 'snapshots/by-function' })),
    ).rejects.toMatchObject({ name: 'AccessDenied' });
    await expect(
      own.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'snapshots/by-function' })),
    ).rejects.toMatchObject({ name: 'AccessDenied' });
  });

  it("holds a function to its role's rights to versions: their tags by value, their locks, their list by prefix", async () => {
    const own = s3Client(aws.endpoints.s3, aws.functionCredentials('Function'), REGION);
    const Key = 'snapshots/versions';
    const { VersionId } = await s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'x' }));
    const version = { Bucket: bucket, Key, VersionId };
    const tag = (Value: string): Promise<unknown> =>
      own.send(new PutObjectTaggingCommand({ ...version, Tagging: { TagSet: [{ Key: 'retention', Value }] } }));
    await tag('latest');
    await expect(tag('pending')).rejects.toMatchObject({ name: 'AccessDenied' });
    await expect(own.send(new GetObjectTaggingCommand(version))).resolves.toMatchObject({
      TagSet: [{ Key: 'retention', Value: 'latest' }],
    });
    const until = new Date(Math.ceil(Date.now() / 1000) * 1000 + 10 * 86_400_000);
    const retain = (RetainUntilDate: Date): Promise<unknown> =>
      own.send(new PutObjectRetentionCommand({ ...version, Retention: { Mode: 'GOVERNANCE', RetainUntilDate } }));
    await retain(until);
    await expect(own.send(new GetObjectRetentionCommand(version))).resolves.toMatchObject({
      Retention: { Mode: 'GOVERNANCE', RetainUntilDate: until },
    });
    // Shorter needs BypassGovernanceRetention, which nobody has. S3 says AccessDenied here.
    await expect(retain(new Date(until.getTime() - 86_400_000))).rejects.toMatchObject({
      name: 'InvalidRequest',
      message: expect.stringContaining('WORM') as string,
    });
    const list = (Prefix: string): Promise<ListObjectVersionsCommandOutput> =>
      own.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix }));
    expect((await list('snapshots/versions')).Versions).toHaveLength(1);
    await expect(list('receipts/')).rejects.toMatchObject({ name: 'AccessDenied' });
  });

  it('fails for a presigned PUT whose signed header was changed', async () => {
    const url = await getSignedUrl(
      s3,
      new PutObjectCommand({ Bucket: bucket, Key: 'snapshots/presigned', Tagging: 'retention=pending' }),
      { unhoistableHeaders: new Set(['x-amz-tagging']) },
    );
    const send = (tagging: string): Promise<Response> =>
      fetch(url, { method: 'PUT', body: 'x', headers: { 'x-amz-tagging': tagging } });
    await expect(send('retention=latest')).resolves.toMatchObject({ status: 403 });
    await expect(send('retention=pending')).resolves.toMatchObject({ status: 200 });
  });

  it('takes, unlike S3, a header that the signature does not cover and another expected owner', async () => {
    const url = await getSignedUrl(s3, new PutObjectCommand({ Bucket: bucket, Key: 'snapshots/unsigned-header' }));
    const response = await fetch(url, { method: 'PUT', body: 'x', headers: { 'x-amz-tagging': 'retention=latest' } });
    expect(response.status).toBe(200);
    await put('snapshots/other-owner', { ExpectedBucketOwner: '111111111111' });
  });

  it('versitygw, the second checker, refuses an x-amz- header that the signature does not cover', async () => {
    const dir = folder();
    const credentials = { accessKeyId: 'AKIAVERSITYGW0000000', secretAccessKey: 'secret-of-the-second-checker' };
    const server = await startVersitygw({ dir, region: REGION, credentials });
    try {
      const client = s3Client(server.url, credentials, REGION);
      mkdirSync(join(server.dataDir, 'second'));
      const url = await getSignedUrl(client, new PutObjectCommand({ Bucket: 'second', Key: 'k' }), {});
      const unsigned = await fetch(url, {
        method: 'PUT',
        body: 'x',
        headers: { 'x-amz-object-lock-legal-hold': 'ON' },
      });
      expect(unsigned.status).toBe(403);
      const plain = await fetch(url, { method: 'PUT', body: 'x' });
      expect(plain.status).toBe(200);
    } finally {
      await server.stop();
    }
  });
});

describe('KMS', () => {
  const digest = createHash('sha256').update('announcement').digest();
  const signing = (Message: Uint8Array = digest): SignCommand =>
    new SignCommand({ KeyId: ref('SigningKey'), Message, MessageType: 'DIGEST', SigningAlgorithm: 'ECDSA_SHA_256' });

  it('signs a digest so that anybody with the public key can check it', async () => {
    const { Signature = new Uint8Array() } = await kms.send(signing());
    const { PublicKey = new Uint8Array() } = await kms.send(new GetPublicKeyCommand({ KeyId: 'alias/signing' }));
    const key = createPublicKey({ key: Buffer.from(PublicKey), format: 'der', type: 'spki' });
    expect(verify('sha256', Buffer.from('announcement'), key, Signature)).toBe(true);
    const checked = {
      KeyId: ref('SigningKey'),
      Signature,
      MessageType: 'DIGEST',
      SigningAlgorithm: 'ECDSA_SHA_256',
    } as const;
    await expect(kms.send(new VerifyCommand({ ...checked, Message: digest }))).resolves.toMatchObject({
      SignatureValid: true,
    });
    const other = createHash('sha256').update('forged').digest();
    await expect(kms.send(new VerifyCommand({ ...checked, Message: other }))).rejects.toMatchObject({
      name: 'KMSInvalidSignatureException',
    });
  });

  it.each([
    ['a digest of another length', () => signing(Buffer.alloc(20)), 'ValidationException'],
    [
      'an encryption key',
      () =>
        new SignCommand({
          KeyId: ref('Key'),
          Message: digest,
          MessageType: 'DIGEST',
          SigningAlgorithm: 'ECDSA_SHA_256',
        }),
      'InvalidKeyUsageException',
    ],
    [
      'another algorithm',
      () => new SignCommand({ KeyId: ref('SigningKey'), Message: digest, SigningAlgorithm: 'RSASSA_PSS_SHA_256' }),
      'ValidationException',
    ],
    [
      'a field that it does not know',
      () =>
        new SignCommand({ KeyId: ref('SigningKey'), Message: digest, SigningAlgorithm: 'ECDSA_SHA_256', DryRun: true }),
      'ValidationException',
    ],
    [
      'a key that is not there',
      () => new SignCommand({ KeyId: 'alias/none', Message: digest, SigningAlgorithm: 'ECDSA_SHA_256' }),
      'NotFoundException',
    ],
  ])('fails for %s', async (_, command, name) => {
    await expect(kms.send(command())).rejects.toMatchObject({ name });
  });

  it('fails for an operation that it does not know', async () => {
    await expect(kms.send(new CreateKeyCommand({}))).rejects.toMatchObject({ name: 'UnknownOperationException' });
  });

  it('fails while the key is disabled', async () => {
    aws.keys.setEnabled(ref('SigningKey'), false);
    try {
      await expect(kms.send(signing())).rejects.toMatchObject({ name: 'DisabledException' });
    } finally {
      aws.keys.setEnabled(ref('SigningKey'), true);
    }
  });

  it('holds a function to its role: it may sign, and not describe', async () => {
    const own = new KMSClient(common(aws.endpoints.kms, aws.functionCredentials('Function')));
    await expect(own.send(signing())).resolves.toMatchObject({ SigningAlgorithm: 'ECDSA_SHA_256' });
    await expect(own.send(new DescribeKeyCommand({ KeyId: ref('SigningKey') }))).rejects.toMatchObject({
      name: 'AccessDeniedException',
      message: expect.stringContaining('kms:DescribeKey') as string,
    });
  });

  it.each([
    ['an unknown access key', { accessKeyId: 'AKIANOTOFTHISLAB', secretAccessKey: 'x' }, 'UnrecognizedClientException'],
    ['another secret', { secretAccessKey: 'not the secret' }, 'InvalidSignatureException'],
    ['a session token that was not given', { sessionToken: 'forged' }, 'UnrecognizedClientException'],
  ])('fails for %s', async (_, changed, name) => {
    const forged = new KMSClient(common(aws.endpoints.kms, { ...aws.credentials, ...changed }));
    await expect(forged.send(signing())).rejects.toMatchObject({ name });
  });
});

describe('EC2', () => {
  const ids = async (filters: { Name: string; Values: string[] }[]): Promise<string[]> => {
    const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ Filters: filters }));
    return Reservations.flatMap(({ Instances = [] }) => Instances.map(({ InstanceId = '' }) => InstanceId));
  };

  it('finds instances by tag and state', async () => {
    const running = { Name: 'instance-state-name', Values: ['running'] };
    await expect(ids([running, { Name: 'tag:role', Values: ['control-plane'] }])).resolves.toEqual([CP1, CP2, OLD]);
    await expect(ids([{ Name: 'instance-state-name', Values: ['stopped'] }])).resolves.toEqual([]);
  });

  it('lists a stopped instance with its addresses, and a terminated one without', async () => {
    const node = nodes.find(({ instanceId }) => instanceId === WORKER);
    if (node === undefined) throw new Error('no worker');
    const found = async (Name: string, value: string): Promise<(string | undefined)[][]> => {
      const { Reservations = [] } = await ec2.send(
        new DescribeInstancesCommand({ Filters: [{ Name, Values: [value] }] }),
      );
      return Reservations.flatMap(({ Instances = [] }) =>
        Instances.map(({ State, PrivateIpAddress, PrivateDnsName }) => [State?.Name, PrivateIpAddress, PrivateDnsName]),
      );
    };
    try {
      node.state = 'stopped';
      const stopped = [['stopped', node.privateIp, node.privateDnsName]];
      await expect(found('private-ip-address', node.privateIp)).resolves.toEqual(stopped);
      await expect(found('private-dns-name', node.privateDnsName)).resolves.toEqual(stopped);
      node.state = 'terminated';
      await expect(found('private-ip-address', node.privateIp)).resolves.toEqual([]);
      await expect(found('private-dns-name', node.privateDnsName)).resolves.toEqual([]);
      await expect(found('tag:role', 'worker')).resolves.toEqual([['terminated', undefined, '']]);
    } finally {
      node.state = 'running';
    }
  });

  it('answers in pages', async () => {
    const many = Array.from({ length: 7 }, (_, index) => hostNode(`i-0000000000000000${String(index)}`, ''));
    const lab = await start({ nodes: many });
    try {
      const client = new EC2Client(common(lab.endpoints.ec2, lab.credentials));
      const first = await client.send(new DescribeInstancesCommand({ MaxResults: 5 }));
      expect(first.Reservations).toHaveLength(5);
      const second = await client.send(new DescribeInstancesCommand({ MaxResults: 5, NextToken: first.NextToken }));
      expect(second.Reservations).toHaveLength(2);
      expect(second.NextToken).toBeUndefined();
      await expect(client.send(new DescribeInstancesCommand({ NextToken: 'made-up' }))).rejects.toMatchObject({
        name: 'InvalidNextToken',
      });
    } finally {
      await lab.stop();
    }
  });

  it.each([
    [
      'an unknown filter',
      new DescribeInstancesCommand({ Filters: [{ Name: 'hypervisor', Values: ['xen'] }] }),
      'InvalidParameterValue',
    ],
    ['an unknown parameter', new DescribeInstancesCommand({ DryRun: true }), 'UnknownParameter'],
    [
      'an unknown instance',
      new DescribeInstancesCommand({ InstanceIds: ['i-0badbadbad'] }),
      'InvalidInstanceID.NotFound',
    ],
  ])('fails for %s', async (_, command, name) => {
    await expect(ec2.send(command)).rejects.toMatchObject({ name });
  });

  it('fails for an operation that it does not know, and for a role without the right', async () => {
    await expect(ec2.send(new RunInstancesCommand({ MinCount: 1, MaxCount: 1 }))).rejects.toMatchObject({
      name: 'InvalidAction',
    });
    const own = new EC2Client(common(aws.endpoints.ec2, aws.functionCredentials('Function')));
    await expect(own.send(new DescribeInstancesCommand({}))).rejects.toMatchObject({ name: 'UnauthorizedOperation' });
  });
});

describe('SSM', () => {
  const send = async (
    logicalId: string,
    more: Partial<SendCommandCommandInput> = {},
    client = ssm,
  ): Promise<string> => {
    const { Command } = await client.send(
      new SendCommandCommand({
        DocumentName: ref(logicalId),
        InstanceIds: [CP1],
        Parameters: { Word: ['word'] },
        TimeoutSeconds: 30,
        ...more,
      }),
    );
    return Command?.CommandId ?? '';
  };

  const get = (CommandId: string, InstanceId: string = CP1): Promise<GetCommandInvocationCommandOutput> =>
    ssm.send(new GetCommandInvocationCommand({ CommandId, InstanceId }));

  const ended = async (commandId: string, instanceId: string = CP1): Promise<GetCommandInvocationCommandOutput> => {
    await sleep(VISIBLE_AFTER_MS);
    for (;;) {
      const invocation = await get(commandId, instanceId);
      if (invocation.Status !== 'Pending' && invocation.Status !== 'InProgress') return invocation;
      await sleep(50);
    }
  };

  it('hands parameters over as environment, with defaults, and runs the script as bash in the node', async () => {
    const commandId = await send('Echo', { Parameters: { Word: ['hello world'] } });
    const invocation = await ended(commandId);
    expect(invocation).toMatchObject({
      Status: 'Success',
      ResponseCode: 0,
      PluginName: 'Step',
      DocumentVersion: '1',
      StandardErrorContent: '',
    });
    expect(invocation.StandardOutputContent).toBe(
      `Word=hello world More=default command=${commandId} instance=${CP1} region=${REGION} bash=yes\n`,
    );
  });

  it('leaves the variable away for an agent that is older than 3.3.2746.0', async () => {
    const invocation = await ended(await send('Echo', { InstanceIds: [OLD] }), OLD);
    expect(invocation.StandardOutputContent).toContain('Word= More=absent');
  });

  it('says InvocationDoesNotExist for a moment, and shows no output before the end', async () => {
    const commandId = await send('Nap');
    await expect(get(commandId)).rejects.toMatchObject({ name: 'InvocationDoesNotExist' });
    await sleep(VISIBLE_AFTER_MS);
    await expect(get(commandId)).resolves.toMatchObject({
      Status: 'InProgress',
      StandardOutputContent: '',
      ResponseCode: -1,
    });
    await expect(ended(commandId)).resolves.toMatchObject({
      Status: 'Success',
      StandardOutputContent: expect.stringMatching(/^\d+\n\d+\n$/) as string,
    });
  });

  it.each([
    ['00', 'Success', 'Success', 0],
    ['01', 'Failed', 'Failed', 1],
    ['99', 'Failed', 'Failed', 99],
    ['137', 'TimedOut', 'ExecutionTimedOut', 137],
    ['168', 'Success', 'Success', 168],
    ['169', 'Failed', 'Failed', 169],
    ['194', 'Success', 'Success', 194],
  ])('maps exit code %s as the agent does', async (code, Status, StatusDetails, ResponseCode) => {
    const before = aws.commands.reboots.length;
    await expect(ended(await send('Exit', { Parameters: { Word: [code] } }))).resolves.toMatchObject({
      Status,
      StatusDetails,
      ResponseCode,
    });
    expect(aws.commands.reboots).toHaveLength(before + (code === '194' ? 1 : 0));
  });

  it("kills the whole process group at the step's time limit; no trap runs", async () => {
    const invocation = await ended(await send('Slow'));
    expect(invocation).toMatchObject({ Status: 'TimedOut', StatusDetails: 'ExecutionTimedOut', ResponseCode: 137 });
    expect(invocation.StandardOutputContent).toMatch(/^\d+ \d+\n$/);
    for (const pid of (invocation.StandardOutputContent ?? '').trim().split(' '))
      expect(existsSync(`/proc/${pid}/exe`)).toBe(false);
  });

  it('keeps the first 24,000 and 8,000 characters of the output', async () => {
    const { StandardOutputContent, StandardErrorContent } = await ended(await send('Chatty'));
    expect(StandardOutputContent).toBe('a'.repeat(24_000));
    expect(StandardErrorContent).toBe('b'.repeat(8000));
  });

  it('runs five commands of a node at a time', async () => {
    const commandIds = await Promise.all(Array.from({ length: 7 }, () => send('Nap', { TimeoutSeconds: 600 })));
    const spans: [bigint, bigint][] = [];
    for (const commandId of commandIds) {
      const [from = '', to = ''] = ((await ended(commandId)).StandardOutputContent ?? '').trim().split('\n');
      spans.push([BigInt(from), BigInt(to)]);
    }
    const overlapping = spans.map(
      ([from]) => spans.filter(([otherFrom, otherTo]) => otherFrom <= from && from < otherTo).length,
    );
    expect(Math.max(...overlapping)).toBe(5);
  });

  it('leaves a command pending that no agent took in time, until delivery and execution timeout have passed, and does not run it', async () => {
    aws.commands.stopAgent(CP2);
    try {
      const commandId = await send('Echo', { InstanceIds: [CP2] });
      await sleep(VISIBLE_AFTER_MS);
      await expect(get(commandId, CP2)).resolves.toMatchObject({ Status: 'Pending' });
      // 30 s of delivery timeout are 1.5 s here.
      await sleep(1600);
      await expect(get(commandId, CP2)).resolves.toMatchObject({ Status: 'Pending' });
      aws.commands.startAgent(CP2);
      await sleep(VISIBLE_AFTER_MS);
      await expect(get(commandId, CP2)).resolves.toMatchObject({ Status: 'Pending' });
      await expect(ended(commandId, CP2)).resolves.toMatchObject({
        Status: 'TimedOut',
        StatusDetails: 'DeliveryTimedOut',
        ResponseCode: -1,
        ExecutionStartDateTime: '',
      });
    } finally {
      aws.commands.startAgent(CP2);
    }
  });

  it('leaves a command in progress when the agent dies during it, then DeliveryTimedOut', async () => {
    const commandId = await send('Nap', { InstanceIds: [CP2] });
    await sleep(VISIBLE_AFTER_MS);
    await expect(get(commandId, CP2)).resolves.toMatchObject({ Status: 'InProgress' });
    aws.commands.stopAgent(CP2);
    await sleep(1000);
    await expect(get(commandId, CP2)).resolves.toMatchObject({ Status: 'InProgress' });
    aws.commands.startAgent(CP2);
    await expect(ended(commandId, CP2)).resolves.toMatchObject({
      Status: 'TimedOut',
      StatusDetails: 'DeliveryTimedOut',
      StandardOutputContent: '',
    });
  });

  it('leaves a command pending while the agent is not reached, and hears later how it ended meanwhile', async () => {
    const node = nodes.find(({ instanceId }) => instanceId === CP2);
    if (node === undefined) throw new Error('no second node');
    const later = { InstanceIds: [CP2], TimeoutSeconds: 600 };
    node.agentDown = true;
    try {
      const pending = await send('Echo', later);
      await sleep(VISIBLE_AFTER_MS);
      await expect(get(pending, CP2)).resolves.toMatchObject({ Status: 'Pending' });
      node.agentDown = false;
      await expect(ended(pending, CP2)).resolves.toMatchObject({ Status: 'Success' });
      const running = await send('Nap', later);
      await sleep(VISIBLE_AFTER_MS);
      await expect(get(running, CP2)).resolves.toMatchObject({ Status: 'InProgress' });
      node.agentDown = true;
      await sleep(1000);
      await expect(get(running, CP2)).resolves.toMatchObject({ Status: 'InProgress', StandardOutputContent: '' });
      node.agentDown = false;
      const { Status, StandardOutputContent } = await ended(running, CP2);
      expect(Status).toBe('Success');
      expect(StandardOutputContent).toMatch(/^\d+\n\d+\n$/);
    } finally {
      node.agentDown = false;
    }
  });

  it('finds a command by document, time and comment', async () => {
    const before = new Date(Date.now() - 1000).toISOString().replace(/\.\d+Z$/, 'Z');
    const commandId = await send('Echo', { Comment: '20261121T140000Z', InstanceIds: [CP1, CP2] });
    await sleep(VISIBLE_AFTER_MS);
    const Filters = [
      { key: 'InvokedAfter', value: before },
      { key: 'DocumentName', value: ref('Echo') },
    ] as const;
    const { Commands = [] } = await ssm.send(new ListCommandsCommand({ Filters: [...Filters] }));
    expect(Commands.filter(({ Comment }) => Comment === '20261121T140000Z')).toEqual([
      expect.objectContaining({
        CommandId: commandId,
        TargetCount: 2,
        InstanceIds: [CP1, CP2],
        Parameters: { Word: ['word'] },
      }),
    ]);
    const { CommandInvocations = [] } = await ssm.send(
      new ListCommandInvocationsCommand({ CommandId: commandId, InstanceId: CP2, Details: true }),
    );
    expect(CommandInvocations).toEqual([
      expect.objectContaining({ InstanceId: CP2, CommandPlugins: [expect.objectContaining({ Name: 'Step' })] }),
    ]);
  });

  it('tells the agents apart', async () => {
    const { InstanceInformationList = [] } = await ssm.send(
      new DescribeInstanceInformationCommand({ Filters: [{ Key: 'InstanceIds', Values: [CP1, OLD] }] }),
    );
    expect(
      InstanceInformationList.map(({ InstanceId, AgentVersion, PingStatus }) => [InstanceId, AgentVersion, PingStatus]),
    ).toEqual([
      [CP1, '3.3.2746.0', 'Online'],
      [OLD, '3.3.2745.9', 'Online'],
    ]);
  });

  it.each<[string, Partial<SendCommandCommandInput>, string]>([
    ['code in a parameter', { Parameters: { Word: ['$(id)'] } }, 'InvalidParameters'],
    ['a newline in a parameter', { Parameters: { Word: ['word\nword'] } }, 'InvalidParameters'],
    ['a value that is too long', { Parameters: { Word: ['a'.repeat(21)] } }, 'InvalidParameters'],
    ['a value that is too short', { Parameters: { Word: ['a'] } }, 'InvalidParameters'],
    ['two values for one parameter', { Parameters: { Word: ['aa', 'bb'] } }, 'InvalidParameters'],
    ['an unknown parameter', { Parameters: { Word: ['word'], Other: ['x'] } }, 'InvalidParameters'],
    ['a missing parameter', { Parameters: {} }, 'InvalidParameters'],
    [
      'more than 64 KB of parameters',
      { Parameters: { Word: ['word'], More: ['a'.repeat(65_536)] } },
      'InvalidParameters',
    ],
    ['a comment over 100 characters', { Comment: 'a'.repeat(101) }, 'ValidationException'],
    ['a delivery timeout under 30 s', { TimeoutSeconds: 29 }, 'ValidationException'],
    ['an unknown instance', { InstanceIds: ['i-0badbadbadbadbad0'] }, 'InvalidInstanceId'],
    ['an unknown document', { DocumentName: 'AWS-RunShellScript' }, 'InvalidDocument'],
    ['an unknown version', { DocumentVersion: '2' }, 'InvalidDocumentVersion'],
    ['targets by tag', { Targets: [{ Key: 'tag:role', Values: ['control-plane'] }] }, 'ValidationException'],
  ])('fails for %s, and runs nothing', async (_, more, name) => {
    const before = aws.commands.commands.length;
    await expect(send('Echo', more)).rejects.toMatchObject({ name });
    expect(aws.commands.commands).toHaveLength(before);
  });

  it.each<[string, Partial<FleetNode>]>([
    ['lost its connection', { pingStatus: 'ConnectionLost' }],
    ['is stopped', { state: 'stopped' }],
  ])('fails for a node that %s', async (_, changed) => {
    const node = nodes.find(({ instanceId }) => instanceId === WORKER);
    if (node === undefined) throw new Error('the fixture has no worker');
    Object.assign(node, changed);
    try {
      await expect(send('Echo', { InstanceIds: [WORKER] })).rejects.toMatchObject({ name: 'InvalidInstanceId' });
    } finally {
      Object.assign(node, { pingStatus: 'Online', state: 'running' });
    }
  });

  it('holds a function to its role: its document, on nodes with its tags', async () => {
    const own = new SSMClient(common(aws.endpoints.ssm, aws.functionCredentials('Function')));
    await expect(send('Echo', {}, own)).resolves.toMatch(/^[0-9a-f-]{36}$/);
    await expect(send('Nap', {}, own)).rejects.toMatchObject({ name: 'AccessDeniedException' });
    await expect(send('Echo', { InstanceIds: [WORKER] }, own)).rejects.toMatchObject({
      name: 'AccessDeniedException',
      message: expect.stringContaining(WORKER) as string,
    });
    await expect(own.send(new ListCommandsCommand({}))).rejects.toMatchObject({ name: 'AccessDeniedException' });
  });

  it('fails for an operation that it does not know', async () => {
    await expect(
      ssm.send(new CancelCommandCommand({ CommandId: '00000000-0000-0000-0000-000000000000' })),
    ).rejects.toMatchObject({ name: 'UnknownOperationException' });
  });
});

describe('Lambda', () => {
  it("runs the bundle under Node 24 with the template's environment and the context", async () => {
    const outcome = await aws.invoke('Function', { hello: 'world' }).done;
    expect(outcome).toMatchObject({
      ok: true,
      result: {
        event: { hello: 'world' },
        requestId: outcome.requestId,
        env: {
          BUCKET: bucket,
          AWS_REGION: REGION,
          AWS_ENDPOINT_URL_S3: aws.endpoints.s3,
          AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
        },
      },
    });
    const { remaining, versions } = outcome.result as { remaining: number; versions: string };
    expect(versions).toMatch(/^24\./);
    expect(remaining).toBeGreaterThan(20_000);
    expect(remaining).toBeLessThanOrEqual(30_000);
    expect(outcome.attempts[0]?.peakRssBytes).toBeGreaterThan(20 * 1024 * 1024);
  });

  it('retries under the same request id, then puts the error by its name into the queue', async () => {
    const outcome = await aws.invoke('Function', { fail: 'it is gone' }, { async: true }).done;
    expect(outcome.attempts.map(({ requestId }) => requestId)).toEqual([
      outcome.requestId,
      outcome.requestId,
      outcome.requestId,
    ]);
    expect(outcome.error).toMatchObject({ errorType: 'NodeGoneError', errorMessage: 'it is gone' });
    const body = JSON.parse(outcome.failureMessage?.body ?? '{}') as unknown;
    expect(body).toMatchObject({
      version: '1.0',
      requestContext: {
        requestId: outcome.requestId,
        condition: 'RetriesExhausted',
        approximateInvokeCount: 3,
        functionArn: expect.stringMatching(/:\$LATEST$/) as string,
      },
      requestPayload: { fail: 'it is gone' },
      responseContext: { statusCode: 200, functionError: 'Unhandled' },
      responsePayload: { errorType: 'NodeGoneError' },
    });
    expect(aws.queues.find(({ logicalId }) => logicalId === 'Queue')?.messages).toContain(outcome.failureMessage);
  });

  it('kills it at its timeout', async () => {
    const outcome = await aws.invoke('Function', { spin: true }, { timeoutSeconds: 1 }).done;
    expect(outcome.error).toMatchObject({
      errorType: 'Sandbox.Timedout',
      errorMessage: expect.stringContaining('Task timed out after 1.00 seconds') as string,
    });
    expect(outcome.attempts[0]?.peakRssBytes).toBeGreaterThan(0);
  });

  it('reports an exit, a kill and too much memory as errors', async () => {
    await expect(aws.invoke('Function', { exit: 3 }).done).resolves.toMatchObject({
      ok: false,
      error: { errorType: 'Runtime.ExitError', errorMessage: expect.stringContaining('exit status 3') as string },
    });
    await expect(aws.invoke('Function', { fill: 300 * 1024 * 1024 }).done).resolves.toMatchObject({
      ok: false,
      error: { errorType: 'Runtime.OutOfMemory' },
    });
    const invocation = aws.invoke('Function', { spin: true });
    await sleep(500);
    invocation.kill();
    await expect(invocation.done).resolves.toMatchObject({
      ok: false,
      error: { errorMessage: expect.stringContaining('SIGKILL') as string },
    });
  });

  it("has a /tmp of its own: a function that empties it touches nothing of the host's", async () => {
    const bystander = join(folder(), 'bystander');
    writeFileSync(bystander, 'x');
    // The code lies under the host's /tmp, too: it must be there all the same.
    const emptied = await aws.invoke('Function', { empty: true, look: true }).done;
    expect(emptied).toMatchObject({ ok: true, result: { tmp: [], task: ['index.mjs'] } });
    expect(existsSync(bystander)).toBe(true);
    expect(existsSync('/var/task/index.mjs')).toBe(false);
  });

  it('keeps /tmp for the next run of the same environment, also after a kill, and for no other', async () => {
    await aws.invoke('Function', { empty: true, look: true }).done;
    const killed = aws.invoke('Function', { write: 'left', spin: true });
    while (!existsSync(join(killed.tmpDir() ?? '', 'left'))) await sleep(20);
    const beside = await aws.invoke('Function', { look: true }).done;
    expect(beside.result).toMatchObject({ tmp: [] });
    killed.kill();
    expect((await killed.done).attempts[0]?.leftInTmp).toEqual(['left']);
    expect(killed.tmpDir()).toBeUndefined();
    await expect(aws.invoke('Function', { look: true }).done).resolves.toMatchObject({ result: { tmp: ['left'] } });
    const cleaned = await aws.invoke('Function', { empty: true, look: true }).done;
    expect(cleaned.attempts[0]?.leftInTmp).toEqual([]);
  });

  it('reads metrics out of the output', async () => {
    await aws.invoke('Function', { metric: 42 }).done;
    expect(aws.metrics).toContainEqual({
      namespace: 'N',
      name: 'Bytes',
      unit: 'Bytes',
      value: 42,
      dimensions: { cluster: 'lab' },
      timestamp: new Date(1),
    });
  });

  it('answers Invoke, and no other operation', async () => {
    const client = new LambdaClient(common(aws.endpoints.lambda, aws.credentials));
    const good = await client.send(new InvokeCommand({ FunctionName: ref('Function'), Payload: '{"hello":1}' }));
    expect(JSON.parse(good.Payload?.transformToString() ?? '')).toMatchObject({ event: { hello: 1 } });
    const bad = await client.send(new InvokeCommand({ FunctionName: ref('Function'), Payload: '{"fail":"x"}' }));
    expect(bad.FunctionError).toBe('Unhandled');
    await expect(client.send(new InvokeCommand({ FunctionName: 'other' }))).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
    await expect(client.send(new ListFunctionsCommand({}))).rejects.toMatchObject({
      name: 'UnknownOperationException',
    });
  });
});

describe('Scheduler', () => {
  it("delivers the schedule's own input to its target, with the trigger's time", async () => {
    const delivery = await aws.fireSchedule(undefined, { scheduledTime: new Date('2026-11-20T14:00:00Z') });
    if (!delivery.delivered) throw delivery.error;
    const expected = {
      scheduledTime: '2026-11-20T14:00:00Z',
      scheduleArn: expect.stringContaining(':schedule/default/') as string,
    };
    await expect(delivery.invocation.done).resolves.toMatchObject({ ok: true, result: { event: expected } });
  });

  it('throws for a context attribute that Scheduler does not know', () => {
    expect(() => fillContext('{"a":"<aws.scheduler.started-at>"}', { arn: 'arn' }, new Date())).toThrow(
      '<aws.scheduler.started-at>',
    );
  });

  it('puts a trigger that its role may not deliver into the dead-letter queue', async () => {
    const template = fixtureTemplate();
    const rolePolicy = template.Resources.ScheduleRolePolicy?.Properties.PolicyDocument as { Statement: unknown[] };
    rolePolicy.Statement.shift();
    const lab = await start({ cdkOut: fixtureAssembly(template) });
    try {
      const delivery = await lab.fireSchedule();
      expect(delivery).toMatchObject({
        delivered: false,
        error: { code: 'AccessDeniedException' },
        deadLetter: {
          attributes: { ERROR_CODE: 'AccessDeniedException', SCHEDULED_TIME: expect.any(String) as string },
        },
      });
      expect(lab.queues.find(({ logicalId }) => logicalId === 'DeadLetters')?.messages).toHaveLength(1);
    } finally {
      await lab.stop();
    }
  });
});

describe('EventBridge', () => {
  const put = (Key: string): Promise<{ VersionId?: string | undefined }> =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'five!' }));

  it("sends S3's Object Created, in its own shape, to the target of the rule that matches", async () => {
    const Key = 'snapshots/events/ä b+c.db.zst';
    const { VersionId } = await put(Key);
    const delivery = await aws.events.delivered(Key);
    if (!delivery.delivered) throw delivery.error;
    const { ok, result } = await delivery.invocation.done;
    expect(ok).toBe(true);
    expect((result as { event: unknown }).event).toEqual({
      version: '0',
      id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      'detail-type': 'Object Created',
      source: 'aws.s3',
      account: aws.account,
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
      region: REGION,
      resources: [`arn:aws:s3:::${bucket}`],
      detail: {
        version: '0',
        bucket: { name: bucket },
        object: {
          key: Key,
          size: 5,
          etag: expect.any(String) as string,
          'version-id': VersionId,
          sequencer: expect.stringMatching(/^[0-9A-F]+$/) as string,
        },
        'request-id': expect.any(String) as string,
        requester: aws.account,
        'source-ip-address': '127.0.0.1',
        reason: 'PutObject',
      },
    });
  });

  it('sends nothing for tags, locks and delete markers, and what no rule matches goes nowhere', async () => {
    await put('snapshots/elsewhere');
    await aws.events.created('snapshots/elsewhere');
    const { VersionId } = await put('snapshots/events/changed');
    await aws.events.delivered('snapshots/events/changed');
    const version = { Bucket: bucket, Key: 'snapshots/events/changed', VersionId };
    await s3.send(
      new PutObjectTaggingCommand({ ...version, Tagging: { TagSet: [{ Key: 'retention', Value: 'latest' }] } }),
    );
    const RetainUntilDate = new Date(Date.now() + 10 * 86_400_000);
    await s3.send(new PutObjectRetentionCommand({ ...version, Retention: { Mode: 'GOVERNANCE', RetainUntilDate } }));
    await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'snapshots/events/changed' }));
    // MinIO sends in order: what comes after the last one shows that nothing came between.
    await put('snapshots/events/after');
    await aws.events.delivered('snapshots/events/after');
    const keys = aws.events.arrived.map(({ detail }) => detail.object.key);
    expect(keys.filter((key) => key === 'snapshots/events/changed')).toHaveLength(1);
    expect(aws.events.deliveries.some(({ event }) => event.detail.object.key === 'snapshots/elsewhere')).toBe(false);
  });

  it('delivers late, in another order and twice when it is told to', async () => {
    aws.events.hold();
    await put('snapshots/events/first');
    await put('snapshots/events/second');
    for (const name of ['first', 'second']) await aws.events.created(`snapshots/events/${name}`);
    const before = aws.events.deliveries.length;
    const held = aws.events.release();
    expect(aws.events.deliveries).toHaveLength(before);
    for (const event of [...held].reverse()) await aws.events.deliver(event);
    for (const event of held) await aws.events.deliver(event);
    const keys = aws.events.deliveries.slice(before).map(({ event }) => event.detail.object.key.slice(17));
    expect(keys).toEqual(['second', 'first', 'first', 'second']);
  });

  it.each<[string, (resources: Resources) => void, number]>([
    ['has no permission', (resources) => delete resources.FunctionPermission, 1],
    [
      'has only a permission for another rule',
      (resources) =>
        Object.assign(resources.FunctionPermission?.Properties ?? {}, {
          SourceArn: `arn:aws:events:${REGION}:000000000000:rule/other`,
        }),
      1,
    ],
    [
      'has no dead-letter queue either',
      (resources) => {
        delete resources.FunctionPermission;
        delete (resources.Rule?.Properties.Targets as Record<string, unknown>[])[0]?.DeadLetterConfig;
      },
      0,
    ],
  ])('fails to deliver to a function that %s', async (_, change, deadLetters) => {
    const template = fixtureTemplate();
    change(template.Resources);
    const lab = await start({ cdkOut: fixtureAssembly(template) });
    try {
      const client = s3Client(lab.endpoints.s3, lab.credentials, REGION);
      const Bucket = lab.resources.get('Bucket');
      await client.send(new PutObjectCommand({ Bucket, Key: 'snapshots/events/x', Body: 'x' }));
      const delivery = await lab.events.delivered('snapshots/events/x');
      expect(delivery).toMatchObject({ delivered: false, error: { code: 'AccessDeniedException' } });
      const { messages = [] } = lab.queues.find(({ logicalId }) => logicalId === 'DeadLetters') ?? {};
      expect(messages).toHaveLength(deadLetters);
      for (const message of messages) {
        expect(JSON.parse(message.body)).toEqual(delivery.event);
        expect(message.attributes).toMatchObject({ RULE_ARN: delivery.rule.arn, ERROR_CODE: 'NO_PERMISSIONS' });
      }
      client.destroy();
    } finally {
      await lab.stop();
    }
  });

  it('puts nothing into a dead-letter queue whose policy does not let it', async () => {
    const template = fixtureTemplate();
    delete template.Resources.FunctionPermission;
    delete template.Resources.DeadLettersPolicy;
    const lab = await start({ cdkOut: fixtureAssembly(template) });
    try {
      const [event] = aws.events.arrived;
      if (event === undefined) throw new Error('no event came before, expected some');
      const moved = { ...event.detail, object: { ...event.detail.object, key: 'snapshots/events/x' } };
      await expect(lab.events.deliver({ ...event, detail: moved })).rejects.toMatchObject({
        code: 'AccessDeniedException',
        message: expect.stringContaining('sqs:SendMessage') as string,
      });
    } finally {
      await lab.stop();
    }
  });

  it('sends nothing from a bucket that does not send to EventBridge', async () => {
    const template = fixtureTemplate();
    delete template.Resources.Bucket?.Properties.NotificationConfiguration;
    const lab = await start({ cdkOut: fixtureAssembly(template) });
    try {
      const client = s3Client(lab.endpoints.s3, lab.credentials, REGION);
      const Bucket = lab.resources.get('Bucket');
      await client.send(new PutObjectCommand({ Bucket, Key: 'snapshots/events/x', Body: 'x' }));
      await sleep(500);
      expect(lab.events.arrived).toEqual([]);
      client.destroy();
    } finally {
      await lab.stop();
    }
  });

  it.each<[string, unknown, unknown, boolean]>([
    ['an equal text', { a: ['x', 'y'] }, { a: 'y', b: 1 }, true],
    ['another text', { a: ['x'] }, { a: 'xy' }, false],
    ['a prefix', { a: [{ prefix: 'x' }] }, { a: 'xy' }, true],
    ['another prefix', { a: [{ prefix: 'x' }] }, { a: 'yx' }, false],
    ['a field that is not there', { a: [{ prefix: '' }] }, {}, false],
    ['an object in which one field differs', { a: { b: ['x'], c: ['y'] } }, { a: { b: 'x', c: 'z' } }, false],
    ['a text where the pattern has an object', { a: { b: ['x'] } }, { a: 'x' }, false],
    ['a list that holds it', { a: ['x'] }, { a: ['y', 'x'] }, true],
    ['a list that does not', { a: ['x'] }, { a: ['y'] }, false],
    ['the second alternative', { a: { b: ['x'], $or: [{ c: ['y'] }, { c: ['z'] }] } }, { a: { b: 'x', c: 'z' } }, true],
    ['half an alternative', { a: { $or: [{ c: ['y'] }, { c: ['z'], d: ['z'] }] } }, { a: { c: 'z' } }, false],
    [
      'an alternative beside a field that differs',
      { a: { b: ['x'], $or: [{ c: ['y'] }, { c: ['z'] }] } },
      { a: { c: 'z' } },
      false,
    ],
  ])('matches %s as EventBridge does', (_, pattern, event, expected) => {
    expect(matches(readPattern(pattern), event)).toBe(expected);
  });

  it.each<[string, unknown, string]>([
    ['another operator', { a: [{ suffix: '.zst' }] }, 'EventPattern.a: got {"suffix":".zst"}'],
    ['two operators in one', { a: [{ prefix: 'x', suffix: 'y' }] }, 'expected a string or {"prefix"'],
    ['another operator on fields', { $and: [{ a: ['x'] }] }, 'EventPattern.$and: not an operator'],
    [
      'one alternative',
      { a: { $or: [{ a: ['x'] }] } },
      'EventPattern.a.$or: got [{"a":["x"]}], expected a list of two',
    ],
    ['a number in an alternative', { $or: [{ a: ['x'] }, { a: [1] }] }, 'EventPattern.$or.1.a: got 1'],
    ['a number', { a: [1] }, 'EventPattern.a: got 1'],
    ['an empty list', { a: { b: [] } }, 'EventPattern.a.b: got an empty list'],
    ['no list', { a: 'x' }, 'EventPattern.a: got "x", expected an object'],
  ])('throws for a pattern with %s', (_, pattern, message) => {
    expect(() => readPattern(pattern)).toThrow(message);
  });
});

type Resources = Record<string, { Type: string; Properties: Record<string, unknown> }>;

describe('SNS', () => {
  let own: SNSClient;
  let sns: SNSClient;

  beforeAll(() => {
    own = new SNSClient(common(aws.endpoints.sns, aws.functionCredentials('Function')));
    sns = new SNSClient(common(aws.endpoints.sns, aws.credentials));
  });

  afterAll(() => {
    own.destroy();
    sns.destroy();
  });

  const publish = (more: Partial<PublishCommandInput>, client = own): Promise<PublishCommandOutput> =>
    client.send(new PublishCommand({ TopicArn: ref('Topic'), Message: 'the text', ...more }));
  const last = () => aws.topics.byArn(ref('Topic')).messages.at(-1);

  it('keeps what a role publishes that may use the topic and its key, as each address would read it', async () => {
    const seen: (string | undefined)[] = [];
    aws.topics.onMessage(({ subject }) => seen.push(subject));
    const text = 'a + b & c = <d>\n100 % ü';
    const { MessageId } = await publish({
      Subject: "it's (a) *subject* ~ ü",
      Message: JSON.stringify({ default: text, https: 'for a chat', lambda: { no: 'text' } }),
      MessageStructure: 'json',
    });
    expect(MessageId).toMatch(/^[0-9a-f-]{36}$/);
    expect(last()).toMatchObject({
      messageId: MessageId,
      topicArn: ref('Topic'),
      texts: { default: text, https: 'for a chat' },
      mails: [{ to: 'oncall@example.com', subject: "it's (a) *subject* ~ ü", text }],
    });
    expect(last()?.texts).not.toHaveProperty('lambda');
    expect(seen).toEqual(["it's (a) *subject* ~ ü"]);
  });

  it('gives an e-mail its own text, and a subject when there is none', async () => {
    await publish({ Message: '{"default":"for all","email":"for e-mail"}', MessageStructure: 'json' });
    expect(last()?.mails).toEqual([
      { to: 'oncall@example.com', subject: 'AWS Notification Message', text: 'for e-mail' },
    ]);
    await publish({ Message: '{"default":"for all"}' });
    expect(last()?.texts).toEqual({ default: '{"default":"for all"}' });
  });

  it('has nobody to tell where nobody has subscribed', async () => {
    await publish({ TopicArn: ref('PlainTopic'), Subject: 'x'.repeat(99) }, sns);
    expect(aws.topics.byArn(ref('PlainTopic')).messages).toMatchObject([{ subject: 'x'.repeat(99), mails: [] }]);
  });

  const subject = 'Invalid parameter: Subject';
  const structure = 'Invalid parameter: Message Structure - ';
  it.each<[string, Partial<PublishCommandInput>, string]>([
    ['a subject of 100 characters', { Subject: 'x'.repeat(100) }, subject],
    ['an empty subject', { Subject: '' }, subject],
    ['a subject of two lines', { Subject: 'one\ntwo' }, subject],
    ['an empty message', { Message: '' }, 'Invalid parameter: Empty message'],
    ['a message of more than 256 KiB', { Message: 'ü'.repeat(131_073) }, 'Invalid parameter: Message too long'],
    ['another structure', { MessageStructure: 'xml' }, 'Invalid parameter: MessageStructure'],
    ['no JSON', { MessageStructure: 'json' }, `${structure}JSON message body failed to parse`],
    ['a list', { MessageStructure: 'json', Message: '[]' }, `${structure}JSON message body failed to parse`],
    [
      'JSON without a text for all',
      { MessageStructure: 'json', Message: '{"default":1}' },
      `${structure}No default entry in JSON message body`,
    ],
    ['what is no topic', { TopicArn: 'oncall' }, 'Invalid parameter: TopicArn'],
    ['a phone number', { PhoneNumber: '+1' }, 'Invalid parameter: PhoneNumber: this stand-in knows '],
  ])('refuses %s', async (_, more, message) => {
    const before = last();
    await expect(publish(more)).rejects.toMatchObject({
      name: 'InvalidParameterException',
      message: expect.stringContaining(message) as string,
      $metadata: { httpStatusCode: 400 },
    });
    expect(last()).toBe(before);
  });

  it('refuses who may not publish, by the role, by the topic and by the key', async () => {
    const refusal = { name: 'AuthorizationErrorException', $metadata: { httpStatusCode: 403 } };
    await expect(publish({ TopicArn: ref('PlainTopic') })).rejects.toMatchObject({
      ...refusal,
      message: expect.stringContaining(`sns:Publish on resource: ${ref('PlainTopic')}`) as string,
    });
    await expect(publish({ TopicArn: ref('ForbiddenTopic') })).rejects.toMatchObject({
      ...refusal,
      message: expect.stringContaining('explicit deny') as string,
    });
    await expect(publish({ TopicArn: ref('ForeignKeyTopic') })).rejects.toMatchObject({
      name: 'KMSAccessDeniedException',
      message: expect.stringContaining('kms:GenerateDataKey') as string,
    });
    expect(aws.topics.byArn(ref('ForbiddenTopic')).messages).toEqual([]);
    expect(aws.topics.byArn(ref('ForeignKeyTopic')).messages).toEqual([]);
  });

  it('encrypts with the key of the topic, and so refuses while that is disabled', async () => {
    aws.keys.setEnabled(ref('TopicKey'), false);
    try {
      await expect(publish({})).rejects.toMatchObject({ name: 'KMSDisabledException' });
    } finally {
      aws.keys.setEnabled(ref('TopicKey'), true);
    }
    await expect(publish({})).resolves.toHaveProperty('MessageId');
  });

  it('fails for a topic that is not there, another operation and another signature', async () => {
    await expect(publish({ TopicArn: `${ref('Topic')}x` }, sns)).rejects.toMatchObject({ name: 'NotFoundException' });
    await expect(sns.send(new ListTopicsCommand({}))).rejects.toMatchObject({ name: 'InvalidAction' });
    const forger = { ...aws.credentials, secretAccessKey: 'another' };
    await expect(publish({}, new SNSClient(common(aws.endpoints.sns, forger)))).rejects.toMatchObject({
      name: 'SignatureDoesNotMatch',
    });
    const stranger = { accessKeyId: 'AKIASTRANGER', secretAccessKey: 'another' };
    await expect(publish({}, new SNSClient(common(aws.endpoints.sns, stranger)))).rejects.toMatchObject({
      name: 'InvalidClientTokenId',
    });
  });
});

describe('template', () => {
  type Change = (resources: Resources) => void;

  it.each<[string, Change, string]>([
    [
      'an unknown resource type',
      (resources) => (resources.Table = { Type: 'AWS::DynamoDB::Table', Properties: {} }),
      'does not know type AWS::DynamoDB::Table',
    ],
    [
      'an unknown property',
      (resources) => Object.assign(resources.Queue?.Properties ?? {}, { FifoQueue: true }),
      'resource Queue (AWS::SQS::Queue): Queue: properties FifoQueue',
    ],
    [
      'an unknown intrinsic function',
      (resources) => Object.assign(resources.Queue?.Properties ?? {}, { QueueName: { 'Fn::Base64': 'x' } }),
      'Fn::Base64',
    ],
    [
      'a reference to nothing',
      (resources) => Object.assign(resources.Queue?.Properties ?? {}, { QueueName: { Ref: 'Nobody' } }),
      'no resource Nobody',
    ],
    [
      'an unknown attribute',
      (resources) =>
        Object.assign(resources.Queue?.Properties ?? {}, { QueueName: { 'Fn::GetAtt': ['Bucket', 'WebsiteURL'] } }),
      'Bucket.WebsiteURL',
    ],
    [
      'a subscription that is no e-mail',
      (resources) => Object.assign(resources.OnCall?.Properties ?? {}, { Protocol: 'sqs' }),
      'expected "email"',
    ],
    [
      'a subscription to nothing',
      (resources) => Object.assign(resources.OnCall?.Properties ?? {}, { TopicArn: 'arn:aws:sns:us-east-1:1:gone' }),
      'no topic arn:aws:sns:us-east-1:1:gone in the template',
    ],
    [
      'another runtime',
      (resources) => Object.assign(resources.Function?.Properties ?? {}, { Runtime: 'nodejs22.x' }),
      'expected "nodejs24.x"',
    ],
    [
      'a document that interpolates',
      (resources) => {
        const content = resources.Echo?.Properties.Content as { mainSteps: { inputs: { runCommand: string[] } }[] };
        content.mainSteps[0]?.inputs.runCommand.push('echo {{ Word }}');
      },
      'the script holds {{ }}',
    ],
  ])('fails for %s', async (_, change, message) => {
    const template = fixtureTemplate();
    change(template.Resources);
    await expect(start({ cdkOut: fixtureAssembly(template) })).rejects.toThrow(message);
  });

  it('brings the synthesized stack up as it is, and its function runs', async () => {
    const outdir = folder();
    const app = new App({ outdir });
    const controlPlaneTags = { 'k8s.io/role/control-plane': '1' };
    const [cluster] = readClusters([{ name: 'lab', controlPlaneTags, notify: { emails: ['oncall@example.com'] } }]);
    if (cluster === undefined) throw new Error('no cluster in the table');
    new EtcdBackupStack(app, 'etcd-backup-lab', { cluster });
    app.synth();
    const lab = await start({ cdkOut: readAssembly(outdir, 'etcd-backup-lab'), stackName: 'etcd-backup-lab' });
    try {
      const delivery = await lab.fireSchedule();
      if (!delivery.delivered) throw delivery.error;
      const outcome = await delivery.invocation.done;
      // There is no node: the function's own answer to that shows that its bundle, environment, rights and endpoints fit together.
      expect(outcome.error?.errorType).toBe('NoNodeError');
      expect(lab.queues.filter(({ messages }) => messages.length === 1)).toHaveLength(1);
      // An object that nobody announced: the rule, the verify function's bundle and its rights show themselves in its refusal.
      const client = s3Client(lab.endpoints.s3, lab.credentials, REGION);
      const Key = 'snapshots/20260306T010000Z.db.zst';
      await client.send(new PutObjectCommand({ Bucket: lab.outputs.get('BucketName'), Key, Body: 'x' }));
      const proof = await lab.events.delivered(Key);
      if (!proof.delivered) throw proof.error;
      await expect(proof.invocation.done).resolves.toMatchObject({
        ok: false,
        error: { errorType: 'VerificationFailedError', errorMessage: expect.stringContaining('unsigned: ') as string },
      });
      client.destroy();
    } finally {
      await lab.stop();
    }
  });
});
