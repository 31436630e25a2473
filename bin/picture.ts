import { App } from 'aws-cdk-lib';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readClusters } from '../lib/config';
import { EtcdBackupStack } from '../lib/stack';

const FILE = join(__dirname, '..', 'docs', 'restore-machine.md');

/** What a picture needs of a state machine's definition (Amazon States Language). */
export interface MachineDefinition {
  readonly StartAt: string;
  readonly States: Readonly<Record<string, MachineState>>;
}

export interface MachineState {
  readonly Type: string;
  readonly Comment?: string;
  readonly Next?: string;
  readonly Default?: string;
  readonly Choices?: readonly { readonly Next: string; readonly Variable: string }[];
  readonly Catch?: readonly { readonly Next: string }[];
}

/** The page with the picture of a machine and what each of its states says of itself. */
export function picturePage(definition: MachineDefinition): string {
  const order = statesInOrder(definition);
  return [
    '# The restore, state by state',
    '',
    'Made from the definition that is deployed (`npm run picture`); a test fails when it is not that one any more. What to do when: [restore.md](restore.md).',
    '',
    'A thick arrow is the way when all goes well, a dotted one what happens when a node refuses or fails, or the function dies. Each state waits by being',
    'called again until every node is done; that is not drawn.',
    '',
    '```mermaid',
    ...picture(definition, order),
    '```',
    '',
    '| State | What it does |',
    '|---|---|',
    ...order
      .filter((name) => !isWait(definition, name))
      .map((name) => `| \`${name}\` | ${(definition.States[name]?.Comment ?? '').replaceAll('|', '\\|')} |`),
    '',
  ].join('\n');
}

function picture({ States, StartAt }: MachineDefinition, order: readonly string[]): string[] {
  const definition = { States, StartAt };
  const lines = ['flowchart TD'];
  for (const name of order.filter((state) => !isWait(definition, state))) {
    lines.push(`  ${idOf(name)}${SHAPES[States[name]?.Type ?? '']?.(name) ?? `[${name}]`}`);
  }
  for (const name of order.filter((state) => !isWait(definition, state))) {
    const { well, badly } = waysFrom(definition, name);
    lines.push(...well.map((next) => `  ${idOf(name)} ==> ${idOf(next)}`));
    lines.push(...badly.map((next) => `  ${idOf(name)} -.-> ${idOf(next)}`));
  }
  return lines;
}

const SHAPES: Readonly<Record<string, (name: string) => string>> = {
  Choice: (name) => `{"${name}"}`,
  Succeed: (name) => `([${name}])`,
  Fail: (name) => `[[${name}]]`,
};

/** A task and the choice that waits for it are one in the picture. */
function waysFrom(definition: MachineDefinition, name: string): { readonly well: string[]; readonly badly: string[] } {
  const { States } = definition;
  const state = States[name];
  if (state?.Type === 'Choice') {
    return { well: [...new Set([...(state.Choices ?? []).map(({ Next }) => Next), state.Default ?? ''])], badly: [] };
  }
  const wait = state?.Next !== undefined && isWait(definition, state.Next) ? States[state.Next] : undefined;
  const well = wait === undefined ? [state?.Next ?? ''] : (wait.Choices ?? []).map(({ Next }) => Next);
  const badly = [...(wait === undefined ? [] : [wait.Default ?? '']), ...(state?.Catch ?? []).map(({ Next }) => Next)];
  const drawn = (names: readonly string[]): string[] =>
    [...new Set(names)].filter((next) => next !== '' && next !== name);
  return { well: drawn(well), badly: drawn(badly).filter((next) => !well.includes(next)) };
}

function isWait({ States }: MachineDefinition, name: string): boolean {
  return States[name]?.Type === 'Choice' && name.endsWith('Done?');
}

/** From the start along the ways when all goes well, each state before those that follow it; then, in the same way, what is left. */
function statesInOrder(definition: MachineDefinition): string[] {
  const seen = new Set<string>();
  const from = (name: string): string[] => {
    if (seen.has(name)) {
      return [];
    }
    seen.add(name);
    const followers = waysFrom(definition, name).well.map(from);
    return [name, ...followers.reverse().flat()];
  };
  return [definition.StartAt, ...Object.keys(definition.States)].flatMap(from);
}

/** Mermaid takes no signs in ids. */
function idOf(name: string): string {
  return name.endsWith('?') ? `${name.slice(0, -1)}Choice` : name;
}

/** The definition of the restore machine in a template; what CloudFormation fills in is left out. */
export function restoreDefinition(template: {
  readonly Resources: Readonly<
    Record<string, { readonly Type: string; readonly Properties: Readonly<Record<string, unknown>> }>
  >;
}): MachineDefinition {
  const [found] = Object.entries(template.Resources).filter(
    ([id, { Type }]) => Type === 'AWS::StepFunctions::StateMachine' && id.startsWith('RestoreMachine'),
  );
  const text = found?.[1].Properties['DefinitionString'] as { 'Fn::Join'?: [string, unknown[]] } | undefined;
  if (text?.['Fn::Join'] === undefined) {
    throw new Error('definition of RestoreMachine: got none in the template, expected one that CloudFormation joins');
  }
  return JSON.parse(
    text['Fn::Join'][1].map((part) => (typeof part === 'string' ? part : '')).join(''),
  ) as MachineDefinition;
}

function main(): void {
  const outdir = mkdtempSync(join(tmpdir(), 'etcd-backup-picture-'));
  try {
    // Functions stay empty: only the definition is of interest.
    const app = new App({ outdir, context: { 'aws:cdk:bundling-stacks': [] } });
    const [cluster] = readClusters([
      {
        name: 'example',
        controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned' },
        notify: { emails: ['oncall@example.com'] },
      },
    ]);
    if (cluster === undefined) {
      throw new Error('clusters: got none, expected the example');
    }
    const { stackName } = new EtcdBackupStack(app, 'etcd-backup-example', { cluster });
    const template = app.synth().getStackByName(stackName).template as Parameters<typeof restoreDefinition>[0];
    writeFileSync(FILE, picturePage(restoreDefinition(template)));
    console.log('docs/restore-machine.md: written');
  } finally {
    rmSync(outdir, { recursive: true });
  }
}

if (require.main === module) {
  main();
}
