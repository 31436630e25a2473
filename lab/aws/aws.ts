import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CredentialStore, type Credentials } from './credentials';
import { startEc2 } from './ec2';
import { EventBus } from './events';
import { Fleet, type FleetNode } from './fleet';
import { Iam } from './iam';
import { startKes } from './kes';
import { startKms } from './kms';
import { KmsKeys } from './kms-keys';
import { Lambda, startLambdaApi, type Invocation, type InvokeOptions, type LambdaOptions } from './lambda';
import type { LogLine } from './lambda-process';
import type { Metric } from './metrics';
import { Queues, type Queue } from './queues';
import { createResources, identifyResource } from './resources';
import { s3Client, startMinio } from './s3';
import { startEventReceiver } from './s3-events';
import { sessionPolicy, startSession } from './s3-session';
import { Scheduler, type Delivery, type FireOptions } from './scheduler';
import { startScheduler } from './scheduler-api';
import { startSns } from './sns';
import { StateMachines, type Execution, type ExecutionOptions, type StatesOptions } from './state-machines';
import { startStates } from './states';
import { startSsm } from './ssm';
import { SsmCommands, type SsmTiming } from './ssm-commands';
import type { SsmDocument } from './ssm-document';
import { Topics } from './topics';
import { startTrail } from './trail';
import { readAssembly, Resolver, type Assembly } from './template';

export type { Credentials } from './credentials';
export type { FleetNode } from './fleet';
export type { Invocation, Outcome } from './lambda';
export type { EventDelivery, ExecutionStatusEvent, ObjectCreatedEvent } from './events';
export type { Delivery } from './scheduler';
export type { Mail, TopicMessage } from './topics';
export type { Execution, ExecutionResult, InvokedTask, StateEvent, StateVisit, Task } from './state-machines';

/** Account and region of the lab. */
export const ACCOUNT = '000000000000';
export const REGION = 'us-east-1';

/** Ports of the endpoints; one left out is free and chosen anew. */
export interface Ports {
  readonly s3?: number;
  readonly kms?: number;
  readonly ssm?: number;
  readonly ec2?: number;
  readonly lambda?: number;
  readonly sfn?: number;
  readonly scheduler?: number;
  readonly cloudtrail?: number;
  readonly sns?: number;
}

/** What the AWS side of the lab is made of. */
export interface AwsOptions {
  /** Folder for all that it writes. Kept keys and objects are found again there. */
  readonly dir: string;
  /** Folder of the cloud assembly, or an assembly already read. */
  readonly cdkOut: string | Assembly;
  readonly stackName: string;
  readonly nodes: readonly FleetNode[];
  readonly ports?: Ports;
  /** Address that S3 listens on, which the nodes must reach. @default 127.0.0.1 */
  readonly s3Host?: string;
  readonly ssm?: SsmTiming;
  readonly lambda?: LambdaOptions;
  readonly states?: StatesOptions;
}

/** URLs of the endpoints. */
export interface Endpoints {
  readonly s3: string;
  readonly kms: string;
  readonly ssm: string;
  readonly ec2: string;
  readonly lambda: string;
  readonly sfn: string;
  readonly scheduler: string;
  readonly cloudtrail: string;
  readonly sns: string;
}

/** The AWS side of the lab, up. */
export interface LabAws {
  readonly endpoints: Endpoints;
  readonly account: string;
  readonly region: string;
  /** The administrator's credentials: allowed everything, MinIO's root. */
  readonly credentials: Credentials;
  /** AWS_* variables for the CLI and SDKs, as administrator. */
  environment(): Record<string, string>;
  /** Credentials of a function's role, as the function itself has them. */
  functionCredentials(functionLogicalId: string): Credentials;
  /** Delivers a schedule's trigger to its own target; the logical id may be left out when there is one schedule. */
  fireSchedule(logicalId?: string, options?: FireOptions): Promise<Delivery>;
  /** Enables or disables a schedule, as in the console. */
  setScheduleState(logicalId: string, state: 'ENABLED' | 'DISABLED'): void;
  /** What S3 sends to EventBridge, and what the template's rules make of it. */
  readonly events: EventBus;
  /** Runs a function; as type Event (retries, on-failure destination) with `async`. */
  invoke(functionLogicalId: string, event: unknown, options?: InvokeOptions & { readonly async?: boolean }): Invocation;
  /** Starts an execution of a state machine, by logical id, name or ARN, as administrator. */
  startExecution(stateMachine: string, input: unknown, options?: ExecutionOptions): Execution;
  /** Stops an execution, as administrator: ABORTED; what its function does now goes on. Returns when its status event was delivered. */
  stopExecution(executionArn: string): Promise<void>;
  readonly stateMachines: StateMachines;
  /** Credentials of somebody who has this managed policy of the template and no other right; not for S3. */
  policyCredentials(managedPolicyLogicalId: string): Credentials;
  /** Logical id to what Ref gives. */
  readonly resources: ReadonlyMap<string, string>;
  /** Values of the template's outputs. */
  readonly outputs: ReadonlyMap<string, string>;
  readonly queues: readonly Queue[];
  /** What was published, and what of it people would have read. */
  readonly topics: Topics;
  readonly metrics: readonly Metric[];
  readonly logs: readonly LogLine[];
  readonly keys: KmsKeys;
  readonly commands: SsmCommands;
  readonly iam: Iam;
  readonly bucketPolicies: ReadonlyMap<string, unknown>;
  /** What of the template this lab does not enforce, in sentences. */
  readonly notApplied: readonly string[];
  readonly s3DataDir: string;
  stop(): Promise<void>;
}

const newCredentials = (): Credentials => ({
  accessKeyId: `AKIA${randomBytes(8).toString('hex').toUpperCase()}`,
  secretAccessKey: randomBytes(20).toString('hex'),
});

/** Brings a synthesized stack up on loopback. Throws, and stops what it started, when the template holds anything that the lab does not know. */
export const startAws = async (options: AwsOptions): Promise<LabAws> => {
  const { dir, ports = {} } = options;
  const assembly =
    typeof options.cdkOut === 'string' ? readAssembly(options.cdkOut, options.stackName) : options.cdkOut;
  const environment = { account: ACCOUNT, region: REGION, stackName: options.stackName };
  const running: { stop(): Promise<void> }[] = [];
  const started = <Server extends { stop(): Promise<void> }>(server: Server): Server => {
    running.push(server);
    return server;
  };
  const stop = async (): Promise<void> => {
    // Last first: functions before what they call, MinIO before its keys.
    while (running.length > 0) await running.pop()?.stop();
  };

  try {
    for (const folder of ['s3', 'lambda']) mkdirSync(join(dir, folder), { recursive: true, mode: 0o700 });
    const administrator = newCredentials();
    const credentials = new CredentialStore();
    credentials.add(administrator);
    const iam = new Iam(ACCOUNT);
    const fleet = new Fleet(options.nodes);
    const keys = new KmsKeys(join(dir, 'kms'));
    const queues = new Queues();
    const topics = new Topics();
    const documents = new Map<string, SsmDocument>();
    const commands = new SsmCommands(fleet, REGION, options.ssm ?? {});
    const lambda = new Lambda(join(dir, 'lambda'), queues, iam, options.lambda ?? {});
    const scheduler = new Scheduler(lambda, queues, iam);
    const events = new EventBus(lambda, queues, iam);
    const stateMachines = new StateMachines(lambda, events, iam, environment, options.states ?? {});
    const bucketPolicies = new Map<string, unknown>();
    const policyHolders = new Map<string, string>();
    const notApplied: string[] = [];

    const kes = started(await startKes({ dir: join(dir, 'kes'), keys, port: 0 }));
    const receiver = started(
      await startEventReceiver({
        environment,
        onEvent: (event) => events.put(event),
        onFault: (fault) => {
          events.fail(fault);
        },
      }),
    );
    const minio = started(
      await startMinio({
        dir: join(dir, 's3'),
        region: REGION,
        credentials: administrator,
        kes,
        events: receiver,
        ...(options.s3Host === undefined ? {} : { host: options.s3Host }),
        ...(ports.s3 === undefined ? {} : { port: ports.s3 }),
      }),
    );
    const s3 = s3Client(minio.url, administrator, REGION);
    const service = { iam, credentials, region: REGION };
    const kms = started(await startKms({ ...service, keys, port: ports.kms ?? 0 }));
    const ec2 = started(await startEc2({ ...service, fleet, port: ports.ec2 ?? 0 }));
    const ssm = started(await startSsm({ ...service, commands, documents, fleet, port: ports.ssm ?? 0 }));
    const lambdaApi = started(await startLambdaApi({ ...service, lambda, port: ports.lambda ?? 0 }));
    const states = started(await startStates({ ...service, stateMachines, port: ports.sfn ?? 0 }));
    const schedulerApi = started(await startScheduler({ ...service, scheduler, port: ports.scheduler ?? 0 }));
    const trail = started(await startTrail({ ...service, stateMachines, port: ports.cloudtrail ?? 0 }));
    const sns = started(await startSns({ ...service, topics, keys, port: ports.sns ?? 0 }));
    started(lambda);
    started(stateMachines);

    const resolver = new Resolver(assembly.template, environment, identifyResource(environment));
    await createResources(resolver, {
      environment,
      assembly,
      keys,
      iam,
      lambda,
      queues,
      topics,
      scheduler,
      events,
      stateMachines,
      documents,
      s3,
      s3Url: minio.url,
      bucketPolicies,
      policyHolders,
      notApplied,
    });
    s3.destroy();

    for (const roleArn of new Set(lambda.functions.map((fn) => fn.roleArn))) {
      const { policy, leftOut } = sessionPolicy(iam.policiesOf(roleArn));
      notApplied.push(...leftOut.map((condition) => `role ${roleArn}: ${condition} (MinIO knows no such condition)`));
      const session = await startSession({ url: minio.url, region: REGION, root: administrator, policy });
      credentials.add(session, roleArn);
      lambda.setSession(roleArn, session);
    }

    const policyCredentials = new Map(
      [...policyHolders].map(([logicalId, roleArn]) => {
        const own = newCredentials();
        credentials.add(own, roleArn);
        return [logicalId, own];
      }),
    );

    const endpoints: Endpoints = {
      s3: minio.url,
      kms: kms.url,
      ssm: ssm.url,
      ec2: ec2.url,
      lambda: lambdaApi.url,
      sfn: states.url,
      scheduler: schedulerApi.url,
      cloudtrail: trail.url,
      sns: sns.url,
    };
    const endpointVariables = {
      AWS_REGION: REGION,
      AWS_DEFAULT_REGION: REGION,
      ...Object.fromEntries(
        Object.entries(endpoints).map(([name, url]) => [`AWS_ENDPOINT_URL_${name.toUpperCase()}`, url as string]),
      ),
    };
    lambda.environment = endpointVariables;

    return {
      endpoints,
      account: ACCOUNT,
      region: REGION,
      credentials: administrator,
      environment: () => ({
        ...endpointVariables,
        AWS_ACCESS_KEY_ID: administrator.accessKeyId,
        AWS_SECRET_ACCESS_KEY: administrator.secretAccessKey,
      }),
      functionCredentials: (id) => lambda.sessionOf(lambda.find(id)),
      events,
      fireSchedule: (logicalId, fireOptions) => scheduler.fire(logicalId, fireOptions),
      setScheduleState: (logicalId, state) => {
        scheduler.find(logicalId).state = state;
      },
      invoke: (id, event, { async = false, ...invokeOptions } = {}) =>
        async ? lambda.invokeAsync(id, event, invokeOptions) : lambda.invoke(id, event, invokeOptions),
      startExecution: (id, input, executionOptions) =>
        stateMachines.start(stateMachines.find(id), JSON.stringify(input), executionOptions),
      stopExecution: async (executionArn) => {
        await stateMachines.stopExecution(executionArn);
      },
      stateMachines,
      policyCredentials: (logicalId) => {
        const own = policyCredentials.get(logicalId);
        if (own === undefined)
          throw new Error(
            `managed policy: got ${logicalId}, expected one of ${[...policyCredentials.keys()].join(', ')}`,
          );
        return own;
      },
      resources: new Map(resolver.logicalIds().map((logicalId) => [logicalId, resolver.identity(logicalId).ref])),
      outputs: new Map(
        Object.entries(assembly.template.Outputs ?? {}).map(([name, { Value }]) => [name, resolver.text(Value)]),
      ),
      queues: queues.all,
      topics,
      metrics: lambda.metrics,
      logs: lambda.logs,
      keys,
      commands,
      iam,
      bucketPolicies,
      notApplied,
      s3DataDir: minio.dataDir,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
};
