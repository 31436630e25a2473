import { StateMachine, type StateMachineDefinition } from 'aws-local-stepfunctions';

/** A state machine's definition that the interpreter runs as AWS does. */
export interface Definition {
  readonly json: StateMachineDefinition;
  /** Name of each Task state to the ARN of the function that it invokes. */
  readonly tasks: ReadonlyMap<string, string>;
}

type Json = Readonly<Record<string, unknown>>;

const MACHINE = ['StartAt', 'States', 'Comment', 'Version', 'TimeoutSeconds', 'QueryLanguage'];
const PATHS = ['InputPath', 'OutputPath'];
const NEXT = ['Next', 'End'];
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  // prettier-ignore
  Task: [...PATHS, ...NEXT, 'Resource', 'Parameters', 'ResultSelector', 'ResultPath', 'TimeoutSeconds', 'Retry', 'Catch'],
  Choice: [...PATHS, 'Choices', 'Default'],
  Pass: [...PATHS, ...NEXT, 'Parameters', 'Result', 'ResultPath'],
  Wait: [...PATHS, ...NEXT, 'Seconds'],
  Succeed: PATHS,
  Fail: ['Error', 'Cause', 'ErrorPath', 'CausePath'],
};
const RETRIER = ['ErrorEquals', 'IntervalSeconds', 'MaxAttempts', 'BackoffRate', 'MaxDelaySeconds', 'JitterStrategy'];
const CATCHER = ['ErrorEquals', 'Next', 'ResultPath'];
// The interpreter answers false for the opposite of each, whatever the value: {"Not": {…}} says the same and works.
const TYPE_TESTS = ['IsPresent', 'IsNull', 'IsString', 'IsNumeric', 'IsBoolean', 'IsTimestamp'];
// What the lab fills into the context object.
const CONTEXT = [
  '$$.Execution.Id',
  '$$.Execution.Input',
  '$$.Execution.Name',
  '$$.Execution.RoleArn',
  '$$.Execution.StartTime',
  '$$.StateMachine.Id',
  '$$.StateMachine.Name',
];
const FUNCTION_ARN = /^arn:aws:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]+(:\$LATEST)?$/;
const DEFAULT_INTERVAL_SECONDS = 1;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const objects = (value: unknown): readonly Json[] => (Array.isArray(value) ? value.filter(isObject) : []);

const unknownFields = (path: string, value: Json, known: readonly string[]): string[] =>
  Object.keys(value)
    .filter((field) => field !== 'Comment' && !known.includes(field))
    .map((field) => `${path}.${field}: the lab knows only ${known.join(', ')}`);

const queryLanguage = (path: string, { QueryLanguage = 'JSONPath' }: Json): string[] =>
  QueryLanguage === 'JSONPath' ? [] : [`${path}.QueryLanguage: got ${String(QueryLanguage)}, expected JSONPath`];

const resultPath = (path: string, value: Json): string[] =>
  value.ResultPath === '$' ? [`${path}.ResultPath: got $, expected none, which means the same`] : [];

const ruleProblems = (path: string, rule: Json): string[] => [
  ...TYPE_TESTS.filter((test) => rule[test] === false).map(
    (test) => `${path}.${test}: got false, expected {"Not": {…, "${test}": true}}`,
  ),
  ...['And', 'Or'].flatMap((name) =>
    objects(rule[name]).flatMap((inner, index) => ruleProblems(`${path}.${name}[${String(index)}]`, inner)),
  ),
  ...(isObject(rule.Not) ? ruleProblems(`${path}.Not`, rule.Not) : []),
];

const templateProblems = (path: string, value: unknown): string[] => {
  if (typeof value === 'string') {
    if (value.startsWith('$$') && !CONTEXT.includes(value))
      return [`${path}: got ${value}, expected one of ${CONTEXT.join(', ')}`];
    // The interpreter takes every backslash out of what these give.
    return /^States\.\w+\(/.test(value) ? [`${path}: got ${value}, expected no intrinsic function`] : [];
  }
  if (Array.isArray(value)) return value.flatMap((item, index) => templateProblems(`${path}[${String(index)}]`, item));
  return isObject(value)
    ? Object.entries(value).flatMap(([name, item]) => templateProblems(`${path}.${name}`, item))
    : [];
};

const taskProblems = (path: string, state: Json): string[] => [
  ...(FUNCTION_ARN.test(String(state.Resource))
    ? []
    : [`${path}.Resource: got ${String(state.Resource)}, expected the ARN of a function (payloadResponseOnly)`]),
  // Without one the interpreter takes a minute, and AWS for ever.
  ...(state.TimeoutSeconds === undefined ? [`${path}.TimeoutSeconds: missing, expected a number of seconds`] : []),
  ...objects(state.Retry).flatMap((retrier, index) =>
    unknownFields(`${path}.Retry[${String(index)}]`, retrier, RETRIER),
  ),
  ...objects(state.Catch).flatMap((catcher, index) => [
    ...unknownFields(`${path}.Catch[${String(index)}]`, catcher, CATCHER),
    ...resultPath(`${path}.Catch[${String(index)}]`, catcher),
  ]),
];

const stateProblems = (name: string, state: unknown): string[] => {
  const path = `States.${name}`;
  if (!isObject(state)) return [`${path}: got ${JSON.stringify(state)}, expected an object`];
  const fields = FIELDS[String(state.Type)];
  if (fields === undefined)
    return [`${path}.Type: got ${String(state.Type)}, expected one of ${Object.keys(FIELDS).join(', ')}`];
  return [
    ...unknownFields(path, state, ['Type', 'QueryLanguage', ...fields]),
    ...queryLanguage(path, state),
    ...resultPath(path, state),
    ...(state.Type === 'Task' ? taskProblems(path, state) : []),
    ...objects(state.Choices).flatMap((rule, index) => ruleProblems(`${path}.Choices[${String(index)}]`, rule)),
    ...(state.Type === 'Pass' && Object.hasOwn(state, 'Result') && !state.Result
      ? [`${path}.Result: got ${JSON.stringify(state.Result)}, which the interpreter takes for none`]
      : []),
    ...['ErrorPath', 'CausePath', 'Parameters', 'ResultSelector', ...PATHS].flatMap((field) =>
      templateProblems(`${path}.${field}`, state[field]),
    ),
  ];
};

/** Reads a definition in JSONPath. Throws, with all problems at once, for what is wrong in it and for what the interpreter does otherwise than AWS. */
export const readDefinition = (text: string): Definition => {
  const json = JSON.parse(text) as unknown;
  if (!isObject(json) || !isObject(json.States)) throw new Error('the definition is not an object with States');
  const states = Object.entries(json.States);
  const problems = [
    ...unknownFields('definition', json, MACHINE),
    ...queryLanguage('definition', json),
    ...states.flatMap(([name, state]) => stateProblems(name, state)),
  ];
  if (problems.length > 0) throw new Error(`definition: ${problems.join('; ')}`);
  const definition = json as unknown as StateMachineDefinition;
  // The interpreter's own validator: structure, reachable states, paths, ARNs.
  new StateMachine(definition);
  return {
    json: definition,
    tasks: new Map(
      states.flatMap(([name, state]) => {
        const { Type, Resource } = state as Json;
        return Type === 'Task' ? [[name, String(Resource)]] : [];
      }),
    ),
  };
};

/** Where the interpreter finds `$$.Execution.StartTime`; under its own name it fills in a time of its own, which is not that of the States API. */
export const START_TIME = 'LabStartTime';

/** The definition for the interpreter, every wait, those of Wait states and those before a retry, times a factor. Time limits stay. */
export const forInterpreter = ({ json }: Definition, factor: number): StateMachineDefinition => {
  const text = JSON.stringify(json).replaceAll('"$$.Execution.StartTime"', `"$$$$.${START_TIME}"`);
  const scaled = JSON.parse(text) as StateMachineDefinition;
  for (const state of Object.values(scaled.States)) {
    if (state.Type === 'Wait') state.Seconds = (state.Seconds ?? 0) * factor;
    if (state.Type !== 'Task') continue;
    for (const retrier of state.Retry ?? []) {
      retrier.IntervalSeconds = (retrier.IntervalSeconds ?? DEFAULT_INTERVAL_SECONDS) * factor;
      if (retrier.MaxDelaySeconds !== undefined) retrier.MaxDelaySeconds *= factor;
    }
  }
  return scaled;
};
