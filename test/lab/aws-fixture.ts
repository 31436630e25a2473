import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ACCOUNT, REGION } from '../../lab/aws/aws';
import type { FleetNode } from '../../lab/aws/fleet';
import type { Assembly, Template } from '../../lab/aws/template';

/** Folders that a test made, removed by `removeFolders`. */
const folders: string[] = [];

export const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'lab-aws-'));
  folders.push(made);
  return made;
};

export const removeFolders = (): void => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true, force: true });
};

/** A node that runs what it is given on this host, each in a process group of its own. */
export const hostNode = (instanceId: string, orchestrationDir: string, more: Partial<FleetNode> = {}): FleetNode => ({
  instanceId,
  privateIp: '10.0.0.1',
  privateDnsName: 'ip-10-0-0-1.ec2.internal',
  arch: 'x86_64',
  tags: { role: 'control-plane' },
  agentVersion: '3.3.2746.0',
  pingStatus: 'Online',
  orchestrationDir,
  spawn: ([command = '', ...args], { env }) => spawn(command, args, { env, detached: true, stdio: 'pipe' }),
  ...more,
});

// What the function is told to do comes with the event, so that one fixture serves every test.
const FUNCTION = `
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
class NodeGoneError extends Error { name = 'NodeGoneError'; }
const asked = async (event, context) => {
  if (event.write) writeFileSync('/tmp/' + event.write, 'x');
  if (event.empty) for (const name of readdirSync('/tmp')) rmSync('/tmp/' + name, { recursive: true });
  if (event.look) return { tmp: readdirSync('/tmp'), task: readdirSync(process.env.LAMBDA_TASK_ROOT), memory: /VmRSS:.*/.exec(readFileSync('/proc/self/status', 'utf8'))[0] };
  if (event.spin) for (;;) {}
  if (event.exit !== undefined) process.exit(event.exit);
  if (event.fail) throw new NodeGoneError(event.fail);
  if (event.fill) globalThis.kept = Buffer.alloc(event.fill, 1);
  if (event.waitMs) await new Promise((resolve) => setTimeout(resolve, event.waitMs));
  if (event.failTimes) {
    const earlier = readdirSync('/tmp').filter((name) => name.startsWith('failed-')).length;
    if (earlier < event.failTimes) {
      writeFileSync('/tmp/failed-' + earlier, '');
      throw new NodeGoneError('attempt ' + (earlier + 1));
    }
  }
  if (event.large) return 'x'.repeat(event.large);
  if ('answer' in event) return event.answer;
  if (event.metric) console.log(JSON.stringify({ _aws: { Timestamp: 1, CloudWatchMetrics: [{ Namespace: 'N', Dimensions: [['cluster']], Metrics: [{ Name: 'Bytes', Unit: 'Bytes' }] }] }, cluster: 'lab', Bytes: event.metric }));
  return { event, requestId: context.awsRequestId, remaining: context.getRemainingTimeInMillis(), env: process.env, versions: process.versions.node };
};
export const handler = asked;
`;

const getAtt = (logicalId: string, attribute = 'Arn'): unknown => ({ 'Fn::GetAtt': [logicalId, attribute] });

const document = (lines: readonly string[], timeoutSeconds: string): unknown => ({
  Type: 'AWS::SSM::Document',
  Properties: {
    DocumentType: 'Command',
    DocumentFormat: 'JSON',
    TargetType: '/AWS::EC2::Instance',
    UpdateMethod: 'Replace',
    Content: {
      schemaVersion: '2.2',
      parameters: {
        Word: {
          type: 'String',
          interpolationType: 'ENV_VAR',
          allowedPattern: '^[a-z0-9 ]+$',
          minChars: 2,
          maxChars: 20,
        },
        More: { type: 'String', interpolationType: 'ENV_VAR', default: 'default', maxChars: 90_000 },
      },
      mainSteps: [
        {
          action: 'aws:runShellScript',
          name: 'Step',
          precondition: { StringEquals: ['platformType', 'Linux'] },
          inputs: { timeoutSeconds, runCommand: ['#!/bin/bash', ...lines] },
        },
      ],
    },
  },
});

const policy = (role: string, statements: readonly unknown[]): unknown => ({
  Type: 'AWS::IAM::Policy',
  Properties: {
    PolicyName: `${role}Policy`,
    PolicyDocument: { Version: '2012-10-17', Statement: statements },
    Roles: [{ Ref: role }],
  },
});

/** A template with one resource of each kind that the stack has. */
export const fixtureTemplate = (): Template & {
  readonly Resources: Record<string, { Type: string; Properties: Record<string, unknown> }>;
} => ({
  Resources: JSON.parse(
    JSON.stringify({
      Key: {
        Type: 'AWS::KMS::Key',
        Properties: {
          KeyPolicy: {
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Principal: { AWS: { 'Fn::Sub': 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root' } },
                Action: 'kms:*',
                Resource: '*',
              },
            ],
          },
        },
      },
      SigningKey: {
        Type: 'AWS::KMS::Key',
        Properties: {
          KeySpec: 'ECC_NIST_P256',
          KeyUsage: 'SIGN_VERIFY',
          KeyPolicy: {
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Principal: { AWS: { 'Fn::Sub': 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root' } },
                Action: 'kms:*',
                Resource: '*',
              },
            ],
          },
        },
      },
      Alias: { Type: 'AWS::KMS::Alias', Properties: { AliasName: 'alias/signing', TargetKeyId: getAtt('SigningKey') } },
      Bucket: {
        Type: 'AWS::S3::Bucket',
        Properties: {
          VersioningConfiguration: { Status: 'Enabled' },
          ObjectLockEnabled: true,
          ObjectLockConfiguration: {
            ObjectLockEnabled: 'Enabled',
            Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 2 } },
          },
          BucketEncryption: {
            ServerSideEncryptionConfiguration: [
              {
                BucketKeyEnabled: false,
                ServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: getAtt('Key') },
              },
            ],
          },
          NotificationConfiguration: { EventBridgeConfiguration: { EventBridgeEnabled: true } },
          LifecycleConfiguration: {
            Rules: [
              {
                Id: 'monthly',
                Status: 'Enabled',
                Prefix: 'snapshots/',
                TagFilters: [{ Key: 'retention', Value: 'monthly' }],
                ExpirationInDays: 186,
                Transitions: [{ StorageClass: 'GLACIER_IR', TransitionInDays: 1 }],
              },
              {
                Id: 'pending',
                Status: 'Enabled',
                Prefix: 'snapshots/',
                TagFilters: [{ Key: 'retention', Value: 'pending' }],
                ExpirationInDays: 35,
              },
            ],
          },
        },
      },
      Queue: { Type: 'AWS::SQS::Queue', Properties: {} },
      DeadLetters: { Type: 'AWS::SQS::Queue', Properties: {} },
      TopicKey: {
        Type: 'AWS::KMS::Key',
        Properties: {
          KeyPolicy: {
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Principal: { AWS: { 'Fn::Sub': 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root' } },
                Action: 'kms:*',
                Resource: '*',
              },
            ],
          },
        },
      },
      Topic: { Type: 'AWS::SNS::Topic', Properties: { KmsMasterKeyId: getAtt('TopicKey') } },
      ForeignKeyTopic: { Type: 'AWS::SNS::Topic', Properties: { KmsMasterKeyId: getAtt('Key') } },
      PlainTopic: { Type: 'AWS::SNS::Topic', Properties: {} },
      ForbiddenTopic: { Type: 'AWS::SNS::Topic', Properties: {} },
      ForbiddenTopicPolicy: {
        Type: 'AWS::SNS::TopicPolicy',
        Properties: {
          Topics: [{ Ref: 'ForbiddenTopic' }],
          PolicyDocument: {
            Version: '2012-10-17',
            Statement: [{ Effect: 'Deny', Principal: '*', Action: 'sns:Publish', Resource: { Ref: 'ForbiddenTopic' } }],
          },
        },
      },
      OnCall: {
        Type: 'AWS::SNS::Subscription',
        Properties: { Protocol: 'email', TopicArn: { Ref: 'Topic' }, Endpoint: 'oncall@example.com' },
      },
      Role: { Type: 'AWS::IAM::Role', Properties: { AssumeRolePolicyDocument: {} } },
      RolePolicy: policy('Role', [
        { Effect: 'Allow', Action: 's3:PutObject', Resource: { 'Fn::Join': ['', [getAtt('Bucket'), '/snapshots/*']] } },
        {
          Effect: 'Allow',
          Action: ['s3:GetObjectVersionTagging', 's3:PutObjectRetention', 's3:GetObjectRetention'],
          Resource: { 'Fn::Join': ['', [getAtt('Bucket'), '/snapshots/*']] },
        },
        {
          Effect: 'Allow',
          Action: 's3:PutObjectVersionTagging',
          Resource: { 'Fn::Join': ['', [getAtt('Bucket'), '/snapshots/*']] },
          Condition: { StringEquals: { 's3:RequestObjectTag/retention': ['latest', 'hourly'] } },
        },
        {
          Effect: 'Allow',
          Action: 's3:ListBucketVersions',
          Resource: getAtt('Bucket'),
          Condition: { StringLike: { 's3:prefix': ['snapshots/*'] } },
        },
        { Effect: 'Allow', Action: 'sqs:SendMessage', Resource: getAtt('Queue') },
        { Effect: 'Allow', Action: 'kms:Sign', Resource: getAtt('SigningKey') },
        {
          Effect: 'Allow',
          Action: 'sns:Publish',
          Resource: [{ Ref: 'Topic' }, { Ref: 'ForeignKeyTopic' }, { Ref: 'ForbiddenTopic' }],
        },
        { Effect: 'Allow', Action: ['kms:GenerateDataKey', 'kms:Decrypt'], Resource: getAtt('TopicKey') },
        {
          Effect: 'Allow',
          Action: 'ssm:SendCommand',
          Resource: { 'Fn::Sub': 'arn:aws:ssm:${AWS::Region}:${AWS::AccountId}:document/${Echo}' },
        },
        {
          Effect: 'Allow',
          Action: 'ssm:SendCommand',
          Resource: 'arn:aws:ec2:*:*:instance/*',
          Condition: { StringEquals: { 'ssm:resourceTag/role': 'control-plane' } },
        },
      ]),
      Echo: document(
        [
          'echo "Word=$SSM_Word More=${SSM_More-absent} command=$SSM_COMMAND_ID instance=$AWS_SSM_INSTANCE_ID region=$AWS_SSM_REGION_NAME bash=${BASH_VERSION:+yes}"',
        ],
        '60',
      ),
      Exit: document(['exit "$SSM_Word"'], '60'),
      Slow: document(['trap "echo trapped" EXIT', 'sleep 300 & echo "$! $$"', 'wait'], '20'),
      Chatty: document(["head -c 30000 /dev/zero | tr '\\0' a", "head -c 30000 /dev/zero | tr '\\0' b >&2"], '60'),
      Nap: document(['date +%s%N', 'sleep 0.7', 'date +%s%N'], '60'),
      Function: {
        Type: 'AWS::Lambda::Function',
        Properties: {
          Code: { S3Bucket: { 'Fn::Sub': 'assets-${AWS::AccountId}' }, S3Key: 'function.zip' },
          Handler: 'index.handler',
          Runtime: 'nodejs24.x',
          Role: getAtt('Role'),
          Timeout: 30,
          MemorySize: 256,
          Environment: { Variables: { BUCKET: { Ref: 'Bucket' } } },
        },
      },
      FunctionEvents: {
        Type: 'AWS::Lambda::EventInvokeConfig',
        Properties: {
          FunctionName: { Ref: 'Function' },
          Qualifier: '$LATEST',
          MaximumRetryAttempts: 2,
          DestinationConfig: { OnFailure: { Destination: getAtt('Queue') } },
        },
      },
      FunctionPermission: {
        Type: 'AWS::Lambda::Permission',
        Properties: {
          Action: 'lambda:InvokeFunction',
          FunctionName: getAtt('Function'),
          Principal: 'events.amazonaws.com',
          SourceArn: getAtt('Rule'),
        },
      },
      Rule: {
        Type: 'AWS::Events::Rule',
        Properties: {
          EventPattern: {
            source: ['aws.s3'],
            'detail-type': ['Object Created'],
            detail: { bucket: { name: [{ Ref: 'Bucket' }] }, object: { key: [{ prefix: 'snapshots/events/' }] } },
          },
          State: 'ENABLED',
          Targets: [
            {
              Id: 'Target0',
              Arn: getAtt('Function'),
              DeadLetterConfig: { Arn: getAtt('DeadLetters') },
              RetryPolicy: { MaximumEventAgeInSeconds: 3600, MaximumRetryAttempts: 185 },
            },
          ],
        },
      },
      DeadLettersPolicy: {
        Type: 'AWS::SQS::QueuePolicy',
        Properties: {
          Queues: [{ Ref: 'DeadLetters' }],
          PolicyDocument: {
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Principal: { Service: 'events.amazonaws.com' },
                Action: 'sqs:SendMessage',
                Resource: getAtt('DeadLetters'),
                Condition: { ArnEquals: { 'aws:SourceArn': getAtt('Rule') } },
              },
            ],
          },
        },
      },
      Alarm: {
        Type: 'AWS::CloudWatch::Alarm',
        Properties: { ComparisonOperator: 'LessThanThreshold', EvaluationPeriods: 1 },
      },
      ScheduleRole: { Type: 'AWS::IAM::Role', Properties: { AssumeRolePolicyDocument: {} } },
      ScheduleRolePolicy: policy('ScheduleRole', [
        { Effect: 'Allow', Action: 'lambda:InvokeFunction', Resource: getAtt('Function') },
        { Effect: 'Allow', Action: 'sqs:SendMessage', Resource: getAtt('DeadLetters') },
      ]),
      Schedule: {
        Type: 'AWS::Scheduler::Schedule',
        Properties: {
          FlexibleTimeWindow: { Mode: 'OFF' },
          ScheduleExpression: 'cron(0 * * * ? *)',
          Target: {
            Arn: getAtt('Function'),
            RoleArn: getAtt('ScheduleRole'),
            Input: '{"scheduledTime":"<aws.scheduler.scheduled-time>","scheduleArn":"<aws.scheduler.schedule-arn>"}',
            DeadLetterConfig: { Arn: getAtt('DeadLetters') },
          },
        },
      },
    }),
  ) as Record<string, { Type: string; Properties: Record<string, unknown> }>,
});

const retrying = {
  // The caller's own wait between two tries is what waitFactor shortens.
  Retry: [{ ErrorEquals: ['NodeGoneError'], IntervalSeconds: 2, MaxAttempts: 2, BackoffRate: 2 }],
  Catch: [{ ErrorEquals: ['States.ALL'], ResultPath: '$.error', Next: 'Failed' }],
};

// What each task does comes with the input, as in fixtureTemplate. `$.work` and `$.limited` are events for the function.
const DEFINITION = {
  StartAt: 'Context',
  States: {
    Context: {
      Type: 'Task',
      Resource: 'FUNCTION',
      TimeoutSeconds: 60,
      Parameters: {
        answer: {
          'id.$': '$$.Execution.Id',
          'name.$': '$$.Execution.Name',
          'startTime.$': '$$.Execution.StartTime',
          'input.$': '$$.Execution.Input',
          'machine.$': '$$.StateMachine.Id',
        },
      },
      ResultPath: '$.context',
      ...retrying,
      Next: 'Work',
    },
    Work: {
      Type: 'Task',
      Resource: 'FUNCTION',
      TimeoutSeconds: 60,
      InputPath: '$.work',
      ResultPath: '$.result',
      ...retrying,
      Next: 'Again?',
    },
    'Again?': {
      Type: 'Choice',
      Choices: [{ Variable: '$.limited', IsPresent: true, Next: 'Limited' }],
      Default: 'Finished',
    },
    Limited: { Type: 'Task', Resource: 'FUNCTION', TimeoutSeconds: 1, InputPath: '$.limited', Next: 'Finished' },
    Finished: { Type: 'Succeed' },
    Failed: { Type: 'Fail', ErrorPath: '$.error.Error', CausePath: '$.error.Cause' },
  },
};

const stateMachine = (role: string): unknown => ({
  Type: 'AWS::StepFunctions::StateMachine',
  Properties: {
    RoleArn: getAtt(role),
    StateMachineType: 'STANDARD',
    DefinitionString: {
      'Fn::Join': [
        '',
        JSON.stringify(DEFINITION)
          .split('FUNCTION')
          .flatMap((part, index) => (index === 0 ? [part] : [getAtt('Function'), part])),
      ],
    },
  },
});

/** The fixture template with two state machines, the second of which may not invoke its function, a rule for interrupted executions, and a managed policy. */
export const statesTemplate = (): Template => {
  const template = fixtureTemplate();
  const added = {
    MachineRole: { Type: 'AWS::IAM::Role', Properties: { AssumeRolePolicyDocument: {} } },
    MachineRolePolicy: policy('MachineRole', [
      { Effect: 'Allow', Action: 'lambda:InvokeFunction', Resource: getAtt('Function') },
    ]),
    PowerlessRole: { Type: 'AWS::IAM::Role', Properties: { AssumeRolePolicyDocument: {} } },
    Machine: stateMachine('MachineRole'),
    PowerlessMachine: stateMachine('PowerlessRole'),
    Starter: {
      Type: 'AWS::IAM::ManagedPolicy',
      Properties: {
        Description: 'starts one machine',
        PolicyDocument: {
          Version: '2012-10-17',
          Statement: [
            {
              Effect: 'Allow',
              Action: ['states:StartExecution', 'states:ListExecutions'],
              Resource: { Ref: 'Machine' },
            },
            {
              Effect: 'Allow',
              Action: 'states:DescribeExecution',
              Resource: {
                'Fn::Sub': 'arn:aws:states:${AWS::Region}:${AWS::AccountId}:execution:${Machine.Name}:*',
              },
            },
          ],
        },
      },
    },
    InterruptedRule: {
      Type: 'AWS::Events::Rule',
      Properties: {
        EventPattern: {
          source: ['aws.states'],
          'detail-type': ['Step Functions Execution Status Change'],
          detail: { status: ['TIMED_OUT', 'ABORTED'], stateMachineArn: [{ Ref: 'Machine' }] },
        },
        State: 'ENABLED',
        Targets: [{ Id: 'Target0', Arn: getAtt('Function') }],
      },
    },
    InterruptedPermission: {
      Type: 'AWS::Lambda::Permission',
      Properties: {
        Action: 'lambda:InvokeFunction',
        FunctionName: getAtt('Function'),
        Principal: 'events.amazonaws.com',
        SourceArn: getAtt('InterruptedRule'),
      },
    },
  };
  return { ...template, Resources: { ...template.Resources, ...(added as Template['Resources']) } };
};

/** The fixture template as an assembly, its function written to a folder. */
export const fixtureAssembly = (template: Template = fixtureTemplate()): Assembly => {
  const code = join(folder(), 'code');
  mkdirSync(code);
  writeFileSync(join(code, 'index.mjs'), FUNCTION);
  return { stackName: 'lab', template, codeDirs: new Map([['function.zip', code]]) };
};

export { ACCOUNT, REGION };
