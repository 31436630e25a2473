import { Validations } from 'aws-cdk-lib';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { AwsSolutionsChecks } from 'cdk-nag';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CfnTemplate,
  exampleApp,
  exampleStack,
  exampleTemplate,
  resourcesOfType,
  theFunction,
  theResource,
} from './lib/example-stack';
import {
  bucketPolicy,
  deployed,
  everyPolicy,
  policiesOf,
  type Policy,
  roleArn,
  type Statement,
} from './lib/simulated-iam';

const template = exampleTemplate();

interface DocumentContent {
  readonly parameters: Record<
    string,
    { type: string; interpolationType: string; allowedPattern: string; maxChars: number }
  >;
  readonly mainSteps: { readonly inputs: { readonly runCommand: string[] } }[];
}

const documents = resourcesOfType(template, 'AWS::SSM::Document').map(
  ([id, { Properties }]) => [id, deployed(template, Properties['Content']) as DocumentContent] as const,
);

/** Of all roles, and of the policies that are there to be attached to people's. */
function statementsOf(from: CfnTemplate): Statement[] {
  const managed = resourcesOfType(from, 'AWS::IAM::ManagedPolicy').map(
    ([, { Properties }]) => deployed(from, Properties['PolicyDocument']) as Policy,
  );
  return [...everyPolicy(from), ...managed].flatMap(({ Statement }) => Statement);
}

function deletingActions(from: CfnTemplate): string[] {
  return (
    statementsOf(from)
      .flatMap(({ Action }) => Action)
      .filter((action) =>
        /:(Delete|Bypass|Schedule|Disable|PutObjectLegalHold|PutBucket|PutReplication|PutLifecycle|Remove|Replicate|Terminate|UpdateObjectEncryption)/.test(
          action,
        ),
      )
      // The delivery of a machine's own log, which Step Functions sets up and takes down with the role of the machine.
      .filter((action) => action !== 'logs:DeleteLogDelivery')
  );
}

/** Without what changes with every edit of a script or a function, which have tests of their own. */
function normalised(from: CfnTemplate): CfnTemplate {
  const copy = structuredClone(from);
  for (const [, { Properties }] of resourcesOfType(copy, 'AWS::SSM::Document')) {
    for (const step of (Properties['Content'] as DocumentContent).mainSteps) {
      Object.assign(step.inputs, { runCommand: ['<script>'] });
    }
  }
  for (const [, { Properties }] of resourcesOfType(copy, 'AWS::Lambda::Function')) {
    Object.assign(Properties['Code'] as object, { S3Key: '<asset>' });
  }
  return copy;
}

describe('the stack', () => {
  test('is as the snapshot has it', () => {
    expect(normalised(template)).toMatchSnapshot();
  });

  test('passes every rule of AwsSolutions, or says beside the code why not', () => {
    const app = exampleApp();
    Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
    exampleStack(app);
    expect(() => app.synth()).not.toThrow();
  });

  test('passes them in a fixed account and region with adopted resources, where ARNs read otherwise', () => {
    const app = exampleApp();
    Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
    exampleStack(app, {
      account: '111122223333',
      region: 'eu-central-1',
      existingBucketName: 'kept-backups',
      existingSnapshotKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555',
      existingAnnouncementKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/66666666-7777-8888-9999-000000000000',
      existingReceiptKeyArn: 'arn:aws:kms:eu-central-1:111122223333:key/99999999-7777-8888-9999-000000000000',
    });
    expect(() => app.synth()).not.toThrow();
  });

  test('fails the rules when a resource breaks one, so the two tests above can fail', () => {
    const app = exampleApp();
    Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
    const stack = exampleStack(app);
    // A queue without TLS and without a dead-letter queue.
    new Queue(stack, 'Open');
    expect(() => app.synth()).toThrow();
  });

  test('cannot be deleted by accident', () => {
    const app = exampleApp();
    const stack = exampleStack(app);
    expect(app.synth().getStackByName(stack.stackName).terminationProtection).toBe(true);
  });

  test('deploys no custom resource', () => {
    const types = Object.values(template.Resources).map(({ Type }) => Type);
    expect(
      types.filter((type) => type.startsWith('Custom::') || type === 'AWS::CloudFormation::CustomResource'),
    ).toEqual([]);
    expect(types.filter((type) => type === 'AWS::Lambda::Function')).toHaveLength(9);
  });

  test.each([
    ['AWS::S3::Bucket', ['Bucket']],
    ['AWS::KMS::Key', ['SnapshotKey', 'AnnouncementKey', 'ReceiptKey']],
  ])('keeps %s under the same logical id for ever: another one would be a new, empty resource', (type, ids) => {
    const found = resourcesOfType(template, type).map(([id]) => id);
    // The key of the topic encrypts nothing that is kept.
    expect(found.filter((id) => !id.startsWith('Notify'))).toEqual(ids);
  });

  test.each(['Bucket', 'SnapshotKey', 'AnnouncementKey', 'ReceiptKey'])(
    'retains %s when it is deleted or replaced',
    (id) => {
      expect(template.Resources[id]).toMatchObject({ DeletionPolicy: 'Retain', UpdateReplacePolicy: 'Retain' });
    },
  );

  test('prints the bucket, the keys, the functions, the machines and who may start them', () => {
    expect(Object.keys(template.Outputs).sort()).toEqual([
      'AnnouncementKeyArn',
      'AuditFunctionName',
      'BackupFunctionName',
      'BucketName',
      'DashboardName',
      'DrillFunctionName',
      'DrillRunFunctionName',
      'PlanFunctionName',
      'PlanMachineArn',
      'ReceiptKeyArn',
      'RestoreFunctionName',
      'RestoreMachineArn',
      'RestoreOperatorArn',
      'RestorePlannerArn',
      'SnapshotKeyArn',
      'VerifyFunctionName',
    ]);
  });

  test('deploys to the account and region that its cluster names', () => {
    const app = exampleApp();
    const stack = exampleStack(app, { account: '111122223333', region: 'eu-central-1' });
    expect(app.synth().getStackByName(stack.stackName).environment).toMatchObject({
      account: '111122223333',
      region: 'eu-central-1',
    });
  });

  test('puts the tags of its cluster on everything', () => {
    const tagged = exampleTemplate({ tags: { team: 'platform' } });
    expect(theResource(tagged, 'AWS::S3::Bucket').Properties['Tags']).toEqual([{ Key: 'team', Value: 'platform' }]);
  });
});

describe('bin/etcd-backup.ts', () => {
  test('synthesizes the table of clusters that it comes with', () => {
    const project = join(__dirname, '..');
    const outdir = mkdtempSync(join(tmpdir(), 'etcd-backup-bin-'));
    try {
      execFileSync(process.execPath, ['--import', 'tsx', 'bin/etcd-backup.ts'], {
        cwd: project,
        env: {
          PATH: process.env['PATH'],
          CDK_OUTDIR: outdir,
          CDK_CONTEXT_JSON: JSON.stringify({ 'aws:cdk:bundling-stacks': [] }),
        },
      });
      expect(readdirSync(outdir)).toContain('etcd-backup-example.template.json');
    } finally {
      rmSync(outdir, { recursive: true });
    }
  });
});

describe('no role', () => {
  const statements = statementsOf(template);
  const actions = statements.flatMap(({ Action }) => Action);

  test('can delete anything, or undo a lock', () => {
    expect(deletingActions(template)).toEqual([]);
    expect(actions.length).toBeGreaterThan(0);
  });

  test.each([
    ['in a policy of its own', 'AWS::IAM::Policy'],
    ['in the role itself', 'AWS::IAM::Role'],
    ['in a policy for people', 'AWS::IAM::ManagedPolicy'],
  ])('is given such a right %s without a failing test', (_where, type) => {
    const copy = structuredClone(template);
    const document = {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: 's3:DeleteObject', Resource: '*' }],
    };
    const [, { Properties }] = resourcesOfType(copy, type)[0] ?? ['', { Properties: {} }];
    Object.assign(
      Properties,
      type === 'AWS::IAM::Role'
        ? { Policies: [{ PolicyName: 'inline', PolicyDocument: document }] }
        : { PolicyDocument: document },
    );
    expect(deletingActions(copy)).toEqual(['s3:DeleteObject']);
  });

  test('but that of verify can have a stored snapshot expire: a first tag is pending, and none replaces another', () => {
    const tagging = statements.filter(({ Action }) => [Action].flat().some((action) => /Put.*Tagging/.test(action)));
    expect(tagging.map(({ Action, Condition }) => [Action, Condition])).toEqual([
      ['s3:PutObjectTagging', { StringEquals: { 's3:RequestObjectTag/retention': 'pending' } }],
      [
        's3:PutObjectVersionTagging',
        {
          StringEquals: {
            's3:RequestObjectTag/retention': [
              'failed',
              'latest',
              'hourly',
              'daily',
              'weekly',
              'monthly',
              'on-demand',
              'pre-restore',
            ],
          },
        },
      ],
    ]);
    // Nor that of verify, once it is proven.
    expect(bucketPolicy(template).Statement).toContainEqual(
      expect.objectContaining({
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Action: ['s3:PutObjectTagging', 's3:PutObjectVersionTagging'],
        Condition: {
          StringEquals: { 's3:RequestObjectTag/retention': 'failed' },
          StringNotEquals: { 's3:ExistingObjectTag/retention': ['pending', 'failed'] },
          Null: { 's3:ExistingObjectTag/retention': 'false' },
        },
      }),
    );
    expect(bucketPolicy(template).Statement).toContainEqual(
      expect.objectContaining({
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Action: ['s3:PutObjectTagging', 's3:PutObjectVersionTagging'],
        Condition: {
          Null: { 's3:ExistingObjectTag/retention': 'false' },
          ArnNotEquals: { 'aws:PrincipalArn': [roleArn(template, 'VerifyService')] },
        },
      }),
    );
  });

  test('but those of verify and audit can lock, and none can do so for longer than the longest class', () => {
    const locking = (policies: ReturnType<typeof everyPolicy>) =>
      policies
        .flatMap(({ Statement }) => Statement)
        .filter(({ Action }) => [Action].flat().includes('s3:PutObjectRetention'));
    expect(locking(everyPolicy(template))).toEqual(
      ['VerifyService', 'AuditService'].flatMap((role) => locking(policiesOf(template, role))),
    );
    expect(locking(everyPolicy(template))).toHaveLength(2);
    expect(bucketPolicy(template).Statement).toContainEqual(
      expect.objectContaining({
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Condition: { NumericGreaterThan: { 's3:object-lock-remaining-retention-days': '186' } },
      }),
    );
  });

  test('has a right to actions by wildcard, or to all but some', () => {
    expect(actions.filter((action) => action.includes('*'))).toEqual([]);
    expect(statements.filter((statement) => 'NotAction' in statement || 'NotResource' in statement)).toEqual([]);
  });
});

/** A script as bash understands it, in lines that do not depend on how it was written. */
function parsed(script: string): string[] {
  const { stdout, stderr } = spawnSync(
    'bash',
    ['-c', 'eval "$(printf "script() {\\n%s\\n}" "$0")"; declare -f script', script],
    {
      encoding: 'utf8',
    },
  );
  expect(stderr).toBe('');
  // bash ends the last command of a list without the semicolon that the others have.
  return stdout.split('\n').map((line) => line.trim().replace(/;$/, ''));
}

describe.each(documents)('the document %s', (id, content) => {
  const script = content.mainSteps.flatMap(({ inputs }) => inputs.runCommand);

  test('stays under 64 KB with the longest parameters', () => {
    const parameters = Object.entries(content.parameters).reduce(
      (sum, [name, { maxChars }]) => sum + name.length + maxChars,
      0,
    );
    expect(Buffer.byteLength(JSON.stringify(content)) + parameters).toBeLessThanOrEqual(64 * 1024);
  });

  test('is bash without anything that SSM would replace', () => {
    expect(script[0]).toBe('#!/bin/bash');
    expect(script.filter((line) => line.includes('{{'))).toEqual([]);
    expect(script.filter((line) => line.startsWith('#!'))).toHaveLength(1);
  });

  test('has no syntax error once contract and script are one', () => {
    const folder = mkdtempSync(join(tmpdir(), 'etcd-backup-joined-'));
    try {
      writeFileSync(join(folder, 'joined.sh'), script.join('\n'));
      const { status, stderr } = spawnSync('bash', ['-n', join(folder, 'joined.sh')], { encoding: 'utf8' });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('says what the files in node/ say, without what they say nowhere', () => {
    const name = id.replace(/^(Backup|Plan|Restore)|Document[0-9A-F]{8}$/g, '').toLowerCase();
    const read = (file: string) => readFileSync(join(__dirname, '..', 'node', file), 'utf8');
    const own = read(`${name}.sh`);
    const files = [...own.matchAll(/^source .*\/([a-z]+\.sh)"$/gm)].map(([, file]) => read(file ?? ''));
    const whole = parsed([...files, own.replaceAll(/^source .*$/gm, '')].join('\n'));
    const left = parsed(script.join('\n'));
    // Each line of what bash read from the document follows in what it read from the files.
    let at = -1;
    const strange = left.filter((line) => {
      const next = whole.indexOf(line, at + 1);
      at = next < 0 ? at : next;
      return next < 0;
    });
    expect(strange).toEqual([]);
    expect(left.length).toBeGreaterThan(30);
  });

  test('takes every parameter as an environment variable, with a pattern from end to end and a length', () => {
    for (const parameter of Object.values(content.parameters)) {
      expect(parameter).toMatchObject({
        type: 'String',
        interpolationType: 'ENV_VAR',
        maxChars: expect.any(Number) as number,
      });
      expect(parameter.allowedPattern).toMatch(/^\^.*\$$/);
    }
  });

  test.each(['$(reboot)', '`reboot`', 'a"b', "a'b", 'a\nb', 'a\\b', '${IFS}', 'a&&b>c', '{{ssm:x}}'])(
    'refuses %j as the value of any parameter',
    (value) => {
      for (const [name, { allowedPattern }] of Object.entries(content.parameters)) {
        expect([name, new RegExp(allowedPattern).test(value)]).toEqual([name, false]);
      }
    },
  );
});

const bundling = exampleApp({ bundle: true });
const bundled = exampleStack(bundling);
const assembly = bundling.synth();

describe.each([
  ['backup', 'SendCommand'],
  ['verify', 'PutObjectRetention'],
  ['plan', 'ListExecutions'],
  ['restore', 'SendCommand'],
])('the bundle of %s', (step, command) => {
  const { Properties } = theFunction(assembly.getStackByName(bundled.stackName).template as CfnTemplate, step);
  const { S3Key } = Properties['Code'] as { S3Key: string };
  const { Variables } = Properties['Environment'] as { Variables: Record<string, unknown> };
  const file = join(assembly.directory, `asset.${S3Key.replace('.zip', '')}`, 'index.mjs');
  const source = readFileSync(file, 'utf8');

  test('is an ES module that Node loads, with nothing beside it but Node', () => {
    const environment = Object.fromEntries(
      Object.entries(Variables).map(([name, value]) => [
        name,
        typeof value === 'string' ? value : 'arn:aws:test:us-east-1:000000000000:test',
      ]),
    );
    // In a folder without node_modules above it, as in Lambda.
    const output = execFileSync(
      process.execPath,
      ['--input-type=module', '-e', `console.log(typeof (await import(${JSON.stringify(file)})).handler)`],
      { cwd: tmpdir(), encoding: 'utf8', env: { PATH: process.env['PATH'], AWS_REGION: 'us-east-1', ...environment } },
    );
    expect(output.trim().split('\n').at(-1)).toBe('function');
  });

  test('contains the SDK that was tested instead of taking the runtime’s', () => {
    const imported = [...source.matchAll(/^(?:import|export)\b.*?["']([^"']+)["'];/gm)].map(([, name]) => name ?? '');
    expect(imported.filter((name) => !isBuiltin(name))).toEqual([]);
    expect(imported).toContain('node:crypto');
    expect(source).toContain(command);
  });

  test('has a source map, so that a stack trace names our files', () => {
    const map = JSON.parse(readFileSync(`${file}.map`, 'utf8')) as { sources: string[] };
    expect(map.sources.some((path) => path.endsWith(`lambda/${step}/handler.ts`))).toBe(true);
  });
});
