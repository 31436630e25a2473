import { App } from 'aws-cdk-lib';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClusterEntry, readClusters } from '../../lib/config';
import { EtcdBackupStack } from '../../lib/stack';

export interface Resource {
  readonly Type: string;
  readonly Properties: Record<string, unknown>;
  readonly DeletionPolicy?: string;
  readonly UpdateReplacePolicy?: string;
}

export interface CfnTemplate {
  readonly Resources: Record<string, Resource>;
  readonly Outputs: Record<string, { readonly Value: unknown }>;
}

const PROJECT = join(__dirname, '..', '..');
const outputs: string[] = [];

afterAll(() => {
  for (const outdir of outputs.splice(0)) {
    rmSync(outdir, { recursive: true });
  }
});

/** The app with the feature flags that `cdk synth` reads; without `bundle` functions are empty, which is much faster. */
export function exampleApp(options: { bundle?: boolean } = {}): App {
  const outdir = mkdtempSync(join(tmpdir(), 'etcd-backup-synth-'));
  outputs.push(outdir);
  const { context } = JSON.parse(readFileSync(join(PROJECT, 'cdk.json'), 'utf8')) as {
    context: Record<string, unknown>;
  };
  return new App({
    outdir,
    context: { ...context, ...(options.bundle === true ? {} : { 'aws:cdk:bundling-stacks': [] }) },
  });
}

/** The stack of one cluster that has nothing but what is required, and what the test adds. */
export function exampleStack(app: App, entry: Partial<ClusterEntry> = {}): EtcdBackupStack {
  const [cluster] = readClusters([
    {
      name: 'example',
      controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned' },
      notify: { emails: ['oncall@example.com'] },
      ...entry,
    },
  ]);
  if (cluster === undefined) {
    throw new Error('clusters: got none, expected the example');
  }
  return new EtcdBackupStack(app, `etcd-backup-${cluster.name}`, { cluster });
}

/** The template that CloudFormation would get. */
export function exampleTemplate(entry: Partial<ClusterEntry> = {}): CfnTemplate {
  const app = exampleApp();
  const stack = exampleStack(app, entry);
  return app.synth().getStackByName(stack.stackName).template as CfnTemplate;
}

export function resourcesOfType(template: CfnTemplate, type: string): [logicalId: string, resource: Resource][] {
  return Object.entries(template.Resources).filter(([, resource]) => resource.Type === type);
}

/** The function of a step, by the service name in its environment. */
export function theFunction(template: CfnTemplate, step: string): Resource {
  const found = resourcesOfType(template, 'AWS::Lambda::Function').find(
    ([, { Properties }]) =>
      (Properties['Environment'] as { Variables: Record<string, unknown> }).Variables['POWERTOOLS_SERVICE_NAME'] ===
      step,
  );
  if (found === undefined) {
    throw new Error(`functions of step ${step}: got none, expected 1`);
  }
  return found[1];
}

export function theResource(template: CfnTemplate, type: string): Resource {
  const [found, ...others] = resourcesOfType(template, type);
  if (found === undefined || others.length > 0) {
    throw new Error(
      `resources of type ${type}: got ${String(others.length + (found === undefined ? 0 : 1))}, expected 1`,
    );
  }
  return found[1];
}
