import { Duration, type Size, Validations } from 'aws-cdk-lib';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, Runtime } from 'aws-cdk-lib/aws-lambda';
import { SqsDestination } from 'aws-cdk-lib/aws-lambda-destinations';
import { Charset, LogLevel, NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { join } from 'node:path';

const PROJECT = join(__dirname, '..');

export interface BareFunctionProps {
  readonly description: string;
  /** Folder under `lambda/` whose `handler.ts` exports `handler`. */
  readonly step: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeout: Duration;
  readonly memory: Size;
  /**
   * Size of `/tmp`.
   *
   * @default - 512 MB, the least that Lambda has
   */
  readonly disk?: Size;
  /** For logs and metrics. */
  readonly clusterName: string;
  /**
   * What it runs on.
   *
   * @default - arm64, which costs less
   */
  readonly architecture?: Architecture;
}

export interface ServiceFunctionProps extends BareFunctionProps {
  /**
   * How often Lambda runs it again when an asynchronous run failed.
   *
   * @default - 2, the most that Lambda does
   */
  readonly retryAttempts?: number;
  /**
   * For how long an asynchronous event waits to be run.
   *
   * @default - an hour
   */
  readonly maxEventAge?: Duration;
}

/** A Lambda function that may do nothing but write its own log: Node 24, bundled with its own SDK, with a log group and a bare role. */
export class BareFunction extends Construct {
  readonly function: NodejsFunction;
  /** Has the right to write to the function's own log group, and no other. */
  readonly role: Role;

  constructor(scope: Construct, id: string, props: BareFunctionProps) {
    super(scope, id);

    const logs = new LogGroup(this, 'Logs', { retention: RetentionDays.THREE_MONTHS });

    // Our own role: the one that CDK would make carries a managed policy that may create and write any log group.
    this.role = new Role(this, 'Role', {
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
      description: `${props.description} (cluster ${props.clusterName})`,
    });
    logs.grantWrite(this.role);

    this.function = new NodejsFunction(this, 'Function', {
      description: `${props.description} (cluster ${props.clusterName})`,
      entry: join(PROJECT, 'lambda', props.step, 'handler.ts'),
      handler: 'handler',
      runtime: Runtime.NODEJS_24_X,
      architecture: props.architecture ?? Architecture.ARM_64,
      timeout: props.timeout,
      memorySize: props.memory.toMebibytes(),
      ...(props.disk === undefined ? {} : { ephemeralStorageSize: props.disk }),
      role: this.role,
      logGroup: logs,
      environment: {
        NODE_OPTIONS: '--enable-source-maps',
        POWERTOOLS_SERVICE_NAME: props.step,
        POWERTOOLS_METRICS_NAMESPACE: 'EtcdBackup',
        CLUSTER_NAME: props.clusterName,
        ...props.environment,
      },
      // No reserved concurrency: an account with a small quota refuses to deploy it. Runs of one backup id meet in S3 instead.
      projectRoot: PROJECT,
      depsLockFilePath: join(PROJECT, 'package-lock.json'),
      bundling: {
        format: OutputFormat.ESM,
        target: 'node24',
        mainFields: ['module', 'main'],
        // The SDK that was tested is the one that runs; the runtime's own changes without notice.
        bundleAwsSDK: true,
        sourceMap: true,
        sourcesContent: false,
        charset: Charset.UTF8,
        logLevel: LogLevel.WARNING,
        // Error names in stack traces are those of the source.
        keepNames: true,
        // Some CommonJS dependencies call require() for Node's own modules, which ES modules do not define.
        banner:
          "import { createRequire as __createRequire } from 'node:module';const require = __createRequire(import.meta.url);",
      },
    });
  }
}

/** Our Lambda function for everything that is invoked by an event: a bare one with a failure queue. */
export class ServiceFunction extends BareFunction {
  /** Receives every asynchronous invocation that failed for good. The role may send to it. */
  readonly failures: Queue;

  constructor(scope: Construct, id: string, props: ServiceFunctionProps) {
    super(scope, id, props);

    this.failures = new Queue(this, 'Failures', {
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
    });
    Validations.of(this.failures).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason:
        'this queue is itself where failed invocations end; what arrives is kept for 14 days for somebody to look at, and nothing consumes it',
    });

    this.function.configureAsyncInvoke({
      retryAttempts: props.retryAttempts ?? 2,
      // Three runs of 15 minutes and the waits of one and two minutes between them fit; after that the next trigger is due.
      maxEventAge: props.maxEventAge ?? Duration.hours(1),
      onFailure: new SqsDestination(this.failures),
    });
  }
}
