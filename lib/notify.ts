import { ArnFormat, Duration, RemovalPolicy, Size, Stack, Validations } from 'aws-cdk-lib';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { Rule } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { type IKey, Key } from 'aws-cdk-lib/aws-kms';
import { type ITopic, Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import { Queue, QueueEncryption } from 'aws-cdk-lib/aws-sqs';
import type { IStateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import type { Cluster } from './config';
import { docsBase } from './runbook';
import { ServiceFunction } from './service-function';
import type { Store } from './store';

/** The alarms of a cluster have names that begin with this, and only those may use its topic. */
export function alarmPrefix({ name }: Pick<Cluster, 'name'>): string {
  return `etcd-backup-${name}-`;
}

export interface NotifyProps {
  readonly cluster: Cluster;
  /** Whose keys are watched in CloudTrail. */
  readonly store: Pick<Store, 'snapshotKey' | 'announcementKey' | 'receiptKey' | 'pkiKey'>;
  readonly planMachine: IStateMachine;
  readonly restoreMachine: IStateMachine;
}

/** What tells somebody. */
export interface Told {
  /** The stack's own, or the one that the configuration names. */
  readonly topic: ITopic;
  /** Encrypts what goes to the topic; undefined where the configuration names one. */
  readonly key: IKey | undefined;
  /** What an alarm does. */
  readonly action: SnsAction;
  /** The function that turns events into messages. */
  readonly service: ServiceFunction;
  /** Receives what EventBridge could not deliver to the function. */
  readonly deadLetters: Queue;
}

/**
 * The topic that alarms and messages go to, and the function that says in words what restores do and what is done to the keys. Nothing of
 * this hangs on what it watches: the topic has a key of its own that encrypts nothing else, and the function has no right to the bucket.
 */
export class Notify extends Construct {
  /** undefined: the configuration says that nobody is to be told. */
  readonly told: Told | undefined;

  constructor(scope: Construct, id: string, props: NotifyProps) {
    super(scope, id);
    const { cluster } = props;
    if (cluster.notify === 'nobody') {
      this.told = undefined;
      return;
    }
    const { emails = [], topicArn } = cluster.notify;
    const { topic, key } =
      topicArn === undefined
        ? this.createTopic(cluster, emails)
        : { topic: Topic.fromTopicArn(this, 'Topic', topicArn), key: undefined };
    const service = this.createService(props, topic, key);
    const deadLetters = this.createRules(props, service, key);
    this.told = { topic, key, action: new SnsAction(topic), service, deadLetters };
  }

  private createTopic(cluster: Cluster, emails: readonly string[]): { readonly topic: Topic; readonly key: Key } {
    const stack = Stack.of(this);
    const alarms = {
      StringEquals: { 'aws:SourceAccount': stack.account },
      ArnLike: {
        'aws:SourceArn': stack.formatArn({
          service: 'cloudwatch',
          resource: 'alarm',
          resourceName: `${alarmPrefix(cluster)}*`,
          arnFormat: ArnFormat.COLON_RESOURCE_NAME,
        }),
      },
    };
    const principals = [new ServicePrincipal('cloudwatch.amazonaws.com')];

    const key = new Key(this, 'Key', {
      description: `Encrypts messages of the topic that alarms of ${cluster.name} go to, and nothing else`,
      enableKeyRotation: true,
      // What it encrypted has been delivered.
      removalPolicy: RemovalPolicy.DESTROY,
      pendingWindow: Duration.days(7),
    });
    // As https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html has it for alarms. EventBridge is not let in: to its requests
    // those conditions do not apply, so everybody's rules would be; what comes by events goes through our function instead.
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'AlarmsOfThisCluster',
        principals,
        actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
        resources: ['*'],
        conditions: alarms,
      }),
    );

    const topic = new Topic(this, 'Topic', { masterKey: key, enforceSSL: true });
    topic.addToResourcePolicy(
      new PolicyStatement({
        sid: 'AlarmsOfThisCluster',
        principals,
        actions: ['sns:Publish'],
        resources: [topic.topicArn],
        conditions: alarms,
      }),
    );
    for (const email of emails) {
      topic.addSubscription(new EmailSubscription(email));
    }
    return { topic, key };
  }

  private createService({ cluster, planMachine }: NotifyProps, topic: ITopic, key: IKey | undefined): ServiceFunction {
    const service = new ServiceFunction(this, 'Service', {
      clusterName: cluster.name,
      step: 'notify',
      description: 'Says in words what restores do, and what is done to the keys',
      timeout: Duration.minutes(2),
      memory: Size.mebibytes(256),
      environment: { TOPIC_ARN: topic.topicArn, PLAN_MACHINE_ARN: planMachine.stateMachineArn, DOCS: docsBase() },
    });
    service.role.addToPrincipalPolicy(new PolicyStatement({ actions: ['sns:Publish'], resources: [topic.topicArn] }));
    if (key !== undefined) {
      service.role.addToPrincipalPolicy(
        new PolicyStatement({ actions: ['kms:Decrypt', 'kms:GenerateDataKey'], resources: [key.keyArn] }),
      );
    }
    return service;
  }

  private createRules(props: NotifyProps, service: ServiceFunction, topicKey: IKey | undefined): Queue {
    const { cluster, planMachine, restoreMachine } = props;
    const deadLetters = new Queue(this, 'DeadLetters', {
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
    });
    Validations.of(deadLetters).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason:
        'this queue is itself the dead-letter queue of the rules; what arrives is kept for 14 days for somebody to look at, and nothing consumes it',
    });
    const target = (): LambdaFunction =>
      new LambdaFunction(service.function, {
        deadLetterQueue: deadLetters,
        // News of an hour ago is none; that it did not come through is told by an alarm.
        maxEventAge: Duration.hours(1),
        retryAttempts: 185,
      });
    const executions = { source: ['aws.states'], detailType: ['Step Functions Execution Status Change'] };
    new Rule(this, 'Restores', {
      description: `Tells of every restore of ${cluster.name}`,
      eventPattern: {
        ...executions,
        detail: {
          stateMachineArn: [restoreMachine.stateMachineArn],
          status: ['RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'],
        },
      },
      targets: [target()],
    });
    new Rule(this, 'Plans', {
      description: `Tells of every plan for a restore of ${cluster.name}`,
      eventPattern: {
        ...executions,
        detail: { stateMachineArn: [planMachine.stateMachineArn], status: ['SUCCEEDED', 'FAILED'] },
      },
      targets: [target()],
    });
    new Rule(this, 'Keys', {
      description: `Tells at once when somebody disables or deletes a key of the stack of ${cluster.name}`,
      // KMS itself speaks only when a key is gone: https://docs.aws.amazon.com/kms/latest/developerguide/kms-events.html
      eventPattern: {
        source: ['aws.kms'],
        detailType: ['AWS API Call via CloudTrail'],
        detail: {
          eventSource: ['kms.amazonaws.com'],
          eventName: ['DisableKey', 'ScheduleKeyDeletion'],
          // As the caller wrote it, which is one of both.
          requestParameters: { keyId: keysOf(props, topicKey).flatMap(({ keyArn, keyId }) => [keyArn, keyId]) },
        },
      },
      targets: [target()],
    });
    return deadLetters;
  }
}

/** With that of the topic: what was done to it gets out no more, but what was only tried does. */
function keysOf({ store }: NotifyProps, topicKey: IKey | undefined): readonly IKey[] {
  const { snapshotKey, announcementKey, receiptKey, pkiKey } = store;
  return [snapshotKey, announcementKey, receiptKey, pkiKey, topicKey].filter((key) => key !== undefined);
}
