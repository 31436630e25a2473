import { type CfnTemplate, resourcesOfType } from './example-stack';
import { deployed } from './simulated-iam';

/** A state of the Amazon States Language, as far as the tests read it. */
export interface State {
  readonly Type: 'Task' | 'Choice' | 'Pass' | 'Succeed' | 'Fail' | 'Wait' | 'Map' | 'Parallel';
  readonly Comment?: string;
  readonly Next?: string;
  readonly Default?: string;
  readonly Choices?: readonly { readonly Next: string; readonly Variable: string }[];
  readonly Retry?: readonly { readonly ErrorEquals: readonly string[]; readonly MaxAttempts: number }[];
  readonly Catch?: readonly {
    readonly ErrorEquals: readonly string[];
    readonly ResultPath: string;
    readonly Next: string;
  }[];
  readonly Resource?: string;
  readonly Parameters?: Readonly<Record<string, unknown>>;
  readonly TimeoutSeconds?: number;
  readonly Error?: string;
  readonly Cause?: string;
  readonly ErrorPath?: string;
  readonly CausePath?: string;
  readonly OutputPath?: string;
  readonly ResultPath?: string;
}

export interface Definition {
  readonly StartAt: string;
  readonly Comment: string;
  readonly States: Readonly<Record<string, State>>;
  readonly TimeoutSeconds?: number;
}

/** The definition of the one state machine whose logical id begins with `machine`, as deployed. */
export function definitionOf(template: CfnTemplate, machine: string): Definition {
  const [found] = resourcesOfType(template, 'AWS::StepFunctions::StateMachine').filter(([id]) =>
    id.startsWith(machine),
  );
  if (found === undefined) {
    throw new Error(`state machines ${machine}…: got none, expected 1`);
  }
  return JSON.parse(deployed(template, found[1].Properties['DefinitionString']) as string) as Definition;
}

/** Where a state can go on to, errors included. */
export function nextOf({ States }: Definition, name: string): string[] {
  const state = States[name];
  return [
    ...(state?.Next === undefined ? [] : [state.Next]),
    ...(state?.Choices ?? []).map(({ Next }) => Next),
    ...(state?.Default === undefined ? [] : [state.Default]),
    ...(state?.Catch ?? []).map(({ Next }) => Next),
  ];
}

/** All that can come after a state, without passing through `but`. */
export function reachableFrom(
  definition: Definition,
  starts: readonly string[],
  but: readonly string[] = [],
): Set<string> {
  const reached = new Set(starts.filter((name) => !but.includes(name)));
  // A set that grows while it is walked hands out what was added.
  for (const name of reached) {
    for (const next of nextOf(definition, name)) {
      if (!but.includes(next)) {
        reached.add(next);
      }
    }
  }
  return reached;
}
