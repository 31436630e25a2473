import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  SendCommandCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { mockClient } from 'aws-sdk-client-mock';
import { createHash } from 'node:crypto';
import { type BundleOutcome, type PkiDeps, storeBundle } from '../../../lambda/pki/store-bundle';
import type { Fields } from '../../../lambda/shared/telemetry';
import { VirtualTime } from '../backup/virtual-time';

const PKI_KEY_ARN = 'arn:aws:kms:us-east-1:000000000000:key/33333333-3333-3333-3333-333333333333';
const ID = '20261121T032000Z';
const KEY = `pki/${ID}.tar.zst`;
const SCHEDULED = { scheduledTime: '2026-11-21T03:20:00Z', scheduleArn: 'arn:aws:scheduler:::schedule/g/pki' };
const SHA256 = createHash('sha256').update('a bundle').digest('hex');
const NODES = ['i-00000000000000001', 'i-00000000000000002'] as const;

const announcement = (change: Record<string, unknown> = {}) => ({
  ok: true,
  bundleId: ID,
  node: 'ip-10-0-0-1.ec2.internal',
  compression: 'zstd',
  size: 61_234,
  sha256: SHA256,
  files: 41,
  bytes: 98_765,
  missing: [],
  leftOut: [],
  seconds: 0.4,
  ...change,
});
const uploaded = { ok: true, bundleId: ID, size: 61_234, seconds: 0.9, attempts: 1 };
const refusal = (code: number, error: string) => ({ ok: false, code, error, message: 'got this, expected that' });

interface Sent {
  readonly instanceId: string;
  readonly comment: string;
  readonly document: string;
  readonly parameters: Readonly<Record<string, string>>;
}

type Line = Readonly<Record<string, unknown>> | 'nothing' | 'undelivered';

/** Two nodes, an empty bucket, and what each node prints next; when that is used up it is healthy. */
class World {
  readonly time = new VirtualTime('2026-11-21T03:20:04Z');
  readonly objects = new Map<string, Record<string, string>>();
  readonly sent: Sent[] = [];
  readonly lines: Record<string, Line[]> = {};
  readonly measured: Record<string, number> = {};
  readonly logged: Fields[] = [];
  published = 0;
  /** false: S3 has nothing, whatever a node says. */
  stores = true;
  readonly ec2Mock = mockClient(EC2Client);
  readonly ssmMock = mockClient(SSMClient);
  readonly s3Mock = mockClient(S3Client);

  constructor(readonly instances: readonly string[] = NODES) {
    this.ec2Mock.on(DescribeInstancesCommand).callsFake(() => ({
      Reservations: [{ Instances: instances.map((InstanceId) => ({ InstanceId, Architecture: 'x86_64' })) }],
    }));
    this.ssmMock.on(DescribeInstanceInformationCommand).callsFake(() => ({
      InstanceInformationList: instances.map((InstanceId) => ({
        InstanceId,
        AgentVersion: '3.3.2746.0',
        PingStatus: 'Online',
      })),
    }));
    this.ssmMock
      .on(SendCommandCommand)
      .callsFake(
        (input: {
          InstanceIds: string[];
          Comment: string;
          DocumentName: string;
          Parameters: Record<string, string[]>;
        }) => {
          const parameters = Object.fromEntries(
            Object.entries(input.Parameters).map(([name, [value]]) => [name, value as string]),
          );
          const instanceId = input.InstanceIds[0] as string;
          this.sent.push({ instanceId, comment: input.Comment, document: input.DocumentName, parameters });
          return { Command: { CommandId: String(this.sent.length - 1), RequestedDateTime: this.time.now() } };
        },
      );
    const answers = new Map<string, Line>();
    this.ssmMock.on(GetCommandInvocationCommand).callsFake(({ CommandId }: { CommandId: string }) => {
      const { instanceId, parameters } = this.sent[Number(CommandId)] as Sent;
      const line =
        answers.get(CommandId) ?? this.lines[instanceId]?.shift() ?? (parameters['Url'] ? uploaded : announcement());
      answers.set(CommandId, line);
      if (line === 'undelivered') {
        return { Status: 'Pending' };
      }
      const succeeded = line !== 'nothing' && line['ok'] === true;
      if (succeeded && parameters['Url'] !== undefined && this.stores) {
        this.#put(parameters);
      }
      return {
        Status: succeeded ? 'Success' : 'Failed',
        StatusDetails: succeeded ? 'Success' : 'Failed',
        ResponseCode: succeeded ? 0 : 1,
        StandardOutputContent: line === 'nothing' ? '' : `${JSON.stringify(line)}\n`,
        StandardErrorContent: 'its last words',
      };
    });
    this.s3Mock.on(HeadObjectCommand).callsFake(({ Key }: { Key: string }) => {
      const metadata = this.objects.get(Key);
      if (metadata === undefined) {
        throw Object.assign(new Error('NotFound'), { name: 'NotFound', $metadata: { httpStatusCode: 404 } });
      }
      return { Metadata: metadata };
    });
  }

  #put({ Url, Headers }: Readonly<Record<string, string>>): void {
    const metadata = (Headers ?? '')
      .split('|')
      .map((header) => header.split(': '))
      .flatMap(([name = '', value = '']) => (name.startsWith('x-amz-meta-') ? [[name.slice(11), value]] : []));
    this.objects.set(new URL(Url ?? '').pathname.slice(1), Object.fromEntries(metadata) as Record<string, string>);
  }

  get deps(): PkiDeps {
    const client = {
      region: 'us-east-1',
      credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret', sessionToken: 'session' },
    };
    return {
      clusterName: 'lab',
      controlPlaneTags: { role: 'control-plane' },
      document: { name: 'Pki-1A2B', version: '1' },
      store: {
        s3: new S3Client({ ...client, requestChecksumCalculation: 'WHEN_REQUIRED' }),
        bucket: 'lab-backups',
        bucketOwner: '000000000000',
        snapshotKeyArn: PKI_KEY_ARN,
        sleep: this.time.sleep,
      },
      ec2: new EC2Client(client),
      ssm: new SSMClient(client),
      ssmOnce: new SSMClient({ ...client, maxAttempts: 1 }),
      telemetry: {
        phaseDone: (_phase, _seconds, fields) => this.logged.push(fields),
        phaseFailed: (_phase, _seconds, fields) => this.logged.push(fields),
        measure: (name, _unit, value) => {
          this.measured[name] = value;
        },
        publish: () => {
          this.published += 1;
        },
      },
      now: this.time.now,
      sleep: this.time.sleep,
    };
  }

  async store(event: unknown = SCHEDULED, seconds = 900): Promise<BundleOutcome> {
    const end = this.time.now().getTime() + seconds * 1000;
    const invocation = { remainingMilliseconds: () => end - this.time.now().getTime() };
    const [result] = await this.time.run(() => storeBundle(this.deps, event, invocation));
    expect(this.published).toBe(1);
    if (result?.status !== 'fulfilled') {
      throw result?.reason;
    }
    return result.value;
  }
}

describe('a bundle', () => {
  test('is announced by one node, and stored by it through a URL that binds its bytes and the key of bundles', async () => {
    const world = new World();
    expect(await world.store()).toEqual({
      outcome: 'stored',
      bundleId: ID,
      key: KEY,
      instanceId: NODES[0],
      size: 61_234,
      sha256: SHA256,
      files: 41,
      missing: [],
      leftOut: [],
    });
    expect(world.sent.map(({ parameters, ...sent }) => [sent, Object.keys(parameters)])).toEqual([
      [{ instanceId: NODES[0], comment: ID, document: 'Pki-1A2B' }, ['BundleId']],
      [{ instanceId: NODES[0], comment: ID, document: 'Pki-1A2B' }, ['BundleId', 'Sha256', 'Url', 'Headers']],
    ]);
    const { Url = '', Headers = '', Sha256 } = world.sent[1]?.parameters ?? {};
    expect(Sha256).toBe(SHA256);
    const url = new URL(Url);
    expect(url.pathname).toBe(`/${KEY}`);
    const headers = Object.fromEntries(Headers.split('|').map((header) => header.split(': ') as [string, string]));
    expect(headers).toEqual({
      'if-none-match': '*',
      'x-amz-checksum-sha256': Buffer.from(SHA256, 'hex').toString('base64'),
      'x-amz-expected-bucket-owner': '000000000000',
      'x-amz-meta-bundle-id': ID,
      'x-amz-meta-cluster': 'lab',
      'x-amz-meta-files': '41',
      'x-amz-meta-instance-id': NODES[0],
      'x-amz-meta-node': 'ip-10-0-0-1.ec2.internal',
      'x-amz-meta-sha256': SHA256,
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': PKI_KEY_ARN,
    });
    expect(url.searchParams.get('X-Amz-SignedHeaders')?.split(';').sort()).toEqual(
      ['content-length', 'host', ...Object.keys(headers)].sort(),
    );
    expect(url.searchParams.get('X-Amz-Expires')).toBe('900');
    expect(world.measured).toEqual({
      PkiBundleStored: 1,
      PkiBundleBytes: 61_234,
      PkiBundleFiles: 41,
      PkiBundleIncomplete: 0,
    });
  });

  test('is never read back: to see that it is stored needs no right to decrypt', async () => {
    const world = new World();
    await world.store();
    expect(world.s3Mock.commandCalls(GetObjectCommand)).toEqual([]);
    const heads = world.s3Mock.commandCalls(HeadObjectCommand).map(({ args: [{ input }] }) => input);
    expect(heads.length).toBeGreaterThan(0);
    expect(heads.filter(({ ChecksumMode }) => ChecksumMode !== undefined)).toEqual([]);
  });

  test('that lacks files is stored, and the metric says how many of them', async () => {
    const world = new World();
    const names = { missing: ['/etc/kubernetes/pki/ca.key'], leftOut: ['/etc/a', '/etc/b'] };
    world.lines[NODES[0]] = [announcement(names)];
    expect(await world.store()).toMatchObject({ outcome: 'stored', ...names });
    expect(world.measured).toMatchObject({ PkiBundleStored: 1, PkiBundleIncomplete: 3 });
    expect(world.logged).toEqual([expect.objectContaining(names)]);
  });

  test('of a host name that no header may have is stored with one that it may', async () => {
    const world = new World();
    world.lines[NODES[0]] = [announcement({ node: 'cp1\'"|x: y' })];
    await world.store();
    expect(world.objects.get(KEY)).toMatchObject({ node: 'cp1___x__y' });
  });

  test('with gzip has another name', async () => {
    const world = new World();
    world.lines[NODES[0]] = [announcement({ compression: 'gzip' })];
    expect(await world.store()).toMatchObject({ outcome: 'stored', key: `pki/${ID}.tar.gz` });
  });

  test.each(['zst', 'gz'])('that an earlier delivery has stored (.%s) is not made again', async (suffix) => {
    const world = new World();
    const key = `pki/${ID}.tar.${suffix}`;
    world.objects.set(key, { cluster: 'lab', sha256: SHA256 });
    expect(await world.store()).toEqual({ outcome: 'exists', bundleId: ID, key });
    expect(world.sent).toEqual([]);
    expect(world.measured).toEqual({ PkiBundleStored: 1 });
  });

  test('that another delivery stored in the meantime stays, whichever node it is of', async () => {
    const world = new World();
    world.stores = false;
    world.lines[NODES[0]] = [announcement(), refusal(72, 'upload-exists')];
    const announced = world.time.now().getTime();
    world.s3Mock.on(HeadObjectCommand).callsFake(({ Key }: { Key: string }) => {
      if (Key !== KEY || world.time.now().getTime() === announced) {
        throw Object.assign(new Error('NotFound'), { name: 'NotFound', $metadata: { httpStatusCode: 404 } });
      }
      return { Metadata: { cluster: 'lab', sha256: 'f'.repeat(64) } };
    });
    // Time passes only while commands run.
    world.ssmMock.on(SendCommandCommand).callsFake((input: { Parameters: Record<string, string[]> }) => {
      world.time.advance(1);
      const parameters = Object.fromEntries(Object.entries(input.Parameters).map(([n, [v]]) => [n, v as string]));
      world.sent.push({ instanceId: NODES[0], comment: ID, document: 'Pki-1A2B', parameters });
      return { Command: { CommandId: String(world.sent.length - 1), RequestedDateTime: world.time.now() } };
    });
    expect(await world.store()).toEqual({ outcome: 'exists', bundleId: ID, key: KEY });
    expect(world.sent).toHaveLength(2);
  });

  test('of another cluster in the same bucket is refused', async () => {
    const world = new World();
    world.objects.set(KEY, { cluster: 'other', sha256: SHA256 });
    await expect(world.store()).rejects.toMatchObject({ name: 'SharedBucketError' });
    expect(world.measured).toEqual({ PkiBundleStored: 0 });
  });
});

describe('a node that fails', () => {
  test.each<[string, Line[]]>([
    ['refuses to announce', [refusal(13, 'restore-running')]],
    ['prints nothing', ['nothing']],
    ['prints something else', [{ ok: true, bundleId: ID }]],
    ['announces another bundle', [announcement({ bundleId: '20261120T032000Z' })]],
    ['announces more than a bundle may have', [announcement({ size: 32 * 1024 * 1024 + 1 })]],
    ['is not reached', ['undelivered']],
    ['has other files a moment later', [announcement(), refusal(74, 'nothing-staged')]],
    ['cannot upload', [announcement(), refusal(73, 'upload-failed')]],
  ])('because it %s leaves the bundle to the next one', async (_what, lines) => {
    const world = new World();
    world.lines[NODES[0]] = lines;
    expect(await world.store()).toMatchObject({ outcome: 'stored', instanceId: NODES[1] });
    expect(world.measured).toMatchObject({ PkiBundleStored: 1 });
  });

  test('by losing its answer has stored it all the same', async () => {
    const world = new World();
    world.lines[NODES[0]] = [announcement(), 'nothing'];
    world.s3Mock
      .on(HeadObjectCommand)
      .rejects(Object.assign(new Error('NotFound'), { name: 'NotFound', $metadata: { httpStatusCode: 404 } }))
      .on(HeadObjectCommand, { Key: KEY })
      .rejectsOnce(Object.assign(new Error('NotFound'), { name: 'NotFound', $metadata: { httpStatusCode: 404 } }))
      .resolves({ Metadata: { cluster: 'lab', sha256: SHA256 } });
    expect(await world.store()).toMatchObject({ outcome: 'stored', instanceId: NODES[0] });
  });

  test('by saying that it uploaded what S3 does not have is not believed', async () => {
    const world = new World();
    world.stores = false;
    await expect(world.store()).rejects.toMatchObject({
      name: 'PkiBundleFailedError',
      failures: NODES.map((node) => `${node}: the node says that it uploaded ${KEY}, and S3 has no such object`),
    });
    expect(world.measured).toEqual({ PkiBundleStored: 0 });
  });

  test('for a reason that holds everywhere is the last one asked', async () => {
    const world = new World();
    world.lines[NODES[0]] = [refusal(64, 'too-large')];
    await expect(world.store()).rejects.toThrow('too-large (64): got this, expected that');
    expect(world.sent).toHaveLength(1);
    expect(world.measured).toEqual({ PkiBundleStored: 0 });
  });
});

test('without a node there is no bundle, and the message says which tags were looked for', async () => {
  const world = new World([]);
  await expect(world.store()).rejects.toThrow('{"role":"control-plane"}: got none');
  expect(world.measured).toEqual({ PkiBundleStored: 0 });
});

test('the function says so before its time is over', async () => {
  const world = new World();
  world.lines[NODES[0]] = ['undelivered'];
  await expect(world.store(SCHEDULED, 40)).rejects.toMatchObject({ name: 'TimeLeftError' });
  expect(world.measured).toEqual({ PkiBundleStored: 0 });
});
