import { App } from 'aws-cdk-lib';
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { readClusters, readReplicas } from '../lib/config';
import { ReplicaStack } from '../lib/replica';
import { EtcdBackupStack } from '../lib/stack';

const PROJECT = join(__dirname, '..');
const ACKNOWLEDGED = join(__dirname, 'template-findings.json');

/** What cfn-lint or checkov says of one resource. */
interface Finding {
  readonly rule: string;
  /** Type and logical id without the CDK's hash, for example `AWS::S3::Bucket Bucket`. */
  readonly resource: string;
  readonly message: string;
}

/** What is known of a rule, and why it is so. */
interface Acknowledged {
  readonly rule: string;
  readonly reason: string;
  readonly resources: readonly string[];
}

/** Every finding that is not acknowledged, and every acknowledgement that is too much. */
function problems(findings: readonly Finding[], acknowledged: readonly Acknowledged[]): string[] {
  const named = (rule: string, resource: string) => `${rule} ${resource}`;
  const known = acknowledged.flatMap(({ rule, resources }) => resources.map((resource) => named(rule, resource)));
  const found = new Set(findings.map(({ rule, resource }) => named(rule, resource)));
  return [
    ...acknowledged.filter(({ reason }) => reason.length < 20).map(({ rule }) => `${rule}: no reason is given`),
    ...findings
      .filter(({ rule, resource }) => !known.includes(named(rule, resource)))
      .map(({ rule, resource, message }) => `${named(rule, resource)}: ${message}`),
    ...known.filter((one) => !found.has(one)).map((one) => `${one}: is acknowledged, and nothing says it`),
    ...known.filter((one, index) => known.indexOf(one) !== index).map((one) => `${one}: is acknowledged twice`),
  ];
}

interface CfnLintMatch {
  readonly Rule: { readonly Id: string };
  readonly Location: { readonly Path: readonly (string | number)[] | null };
  readonly Filename: string;
  readonly Message: string;
}

/** Of `cfn-lint --format json`. */
function cfnLintFindings(matches: readonly CfnLintMatch[]): Finding[] {
  return matches.map(({ Rule, Location, Filename, Message }) => {
    const [section, id] = Location.Path ?? [];
    const type = section === 'Resources' ? typeOf(Filename, String(id)) : String(section);
    return { rule: Rule.Id, resource: `${type} ${nameOf(String(id))}`, message: Message };
  });
}

function typeOf(file: string, id: string): string {
  const { Resources } = readJson(file) as { readonly Resources: Readonly<Record<string, { readonly Type: string }>> };
  return Resources[id]?.Type ?? 'unknown';
}

interface CheckovReport {
  readonly summary: { readonly passed: number; readonly parsing_errors: number; readonly resource_count: number };
  readonly results: {
    readonly failed_checks: readonly {
      readonly check_id: string;
      readonly check_name: string;
      readonly resource: string;
    }[];
  };
}

/** Of `checkov --output json`. */
function checkovFindings({ results, summary }: CheckovReport): Finding[] {
  // One that it cannot read has no findings, and neither has nothing.
  if (summary.parsing_errors > 0 || summary.passed === 0 || summary.resource_count === 0) {
    throw new Error(
      `checkov: got ${JSON.stringify(summary)}, expected templates that it can read, with checks that pass`,
    );
  }
  return results.failed_checks.map(({ check_id, check_name, resource }) => {
    const [type = '', id = ''] = resource.split('.');
    return { rule: check_id, resource: `${type} ${nameOf(id)}`, message: check_name };
  });
}

/** A logical id without the hash that the CDK puts behind it. */
function nameOf(id: string): string {
  return id.replace(/[0-9A-F]{8}$/, '');
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Of cfn-lint, and of checkov. Returns whether all is well. */
function compare(cfnLint: string, checkov: string): boolean {
  const lines = (text: string) => (text === '' ? [] : text.split('\n'));
  let failed = 0;
  const acknowledged = readJson(ACKNOWLEDGED) as Readonly<Record<'cfn-lint' | 'checkov', readonly Acknowledged[]>>;
  for (const [tool, findings] of [
    ['cfn-lint', cfnLintFindings(readJson(cfnLint) as readonly CfnLintMatch[])],
    ['checkov', checkovFindings(readJson(checkov) as CheckovReport)],
  ] as const) {
    const wrong = [...new Set(problems(findings, acknowledged[tool]))].sort();
    for (const line of lines(wrong.join('\n'))) {
      console.log(`  ${line}`);
    }
    const count = `${String(findings.length)} findings acknowledged`;
    console.log(
      wrong.length === 0
        ? `ok      ${tool} (${count})`
        : `FAILED  ${tool}: correct the above, or acknowledge it with a reason in ${relative(PROJECT, ACKNOWLEDGED)}`,
    );
    failed += Number(wrong.length > 0);
  }
  console.log(`${String(2 - failed)} passed, ${String(failed)} failed`);
  return failed === 0;
}

/** Writes the stacks of the table of clusters, and those of a cluster with everything that can be switched on. */
async function synthesize(directory: string): Promise<void> {
  const { context } = readJson(join(PROJECT, 'cdk.json')) as { readonly context: Readonly<Record<string, unknown>> };
  // Functions stay empty: neither tool looks into them.
  const settings = { ...context, 'aws:cdk:bundling-stacks': [] };
  process.env['CDK_OUTDIR'] = join(directory, 'table');
  process.env['CDK_CONTEXT_JSON'] = JSON.stringify(settings);
  // An app whose directory is given writes it when the process ends.
  await import('../bin/etcd-backup.js');

  const app = new App({ outdir: join(directory, 'everything'), autoSynth: false, context: settings });
  const place = { account: '111122223333', region: 'eu-central-1' };
  const elsewhere = { account: '444455556666', region: 'eu-west-1' };
  const clusters = readClusters([
    {
      name: 'everything',
      controlPlaneTags: { 'kubernetes.io/cluster/everything': 'owned' },
      notify: { emails: ['oncall@example.com'] },
      ...place,
      monthlyStorageClass: 'STANDARD_IA',
      pkiBundle: true,
      replica: {
        bucketName: 'replica',
        keyArn: `arn:aws:kms:${elsewhere.region}:${elsewhere.account}:key/1234abcd-12ab-34cd-56ef-1234567890ab`,
      },
    },
  ]);
  for (const cluster of clusters) {
    new EtcdBackupStack(app, 'everything', { cluster });
  }
  for (const replica of readReplicas([{ name: 'everything', ...elsewhere }], clusters)) {
    new ReplicaStack(app, 'everything-replica', { replica });
  }
  app.synth();
}

async function main([command, ...files]: readonly string[]): Promise<void> {
  const [first, second] = files;
  if (command === 'synthesize' && first !== undefined) {
    await synthesize(first);
  } else if (command === 'compare' && first !== undefined && second !== undefined) {
    process.exitCode = compare(first, second) ? 0 : 1;
  } else {
    throw new Error(
      `arguments: got '${[command, ...files].join(' ')}', expected synthesize DIRECTORY or compare CFN-LINT-JSON CHECKOV-JSON`,
    );
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
