import { createHash } from 'node:crypto';
import { AwsError } from './aws-error';
import { objectProblems, type Field } from './shape';

// The API counts the document and the parameters of a call together.
const LIMIT_BYTES = 64 * 1024;
// The agent replaces a time outside of these bounds by the default, without a word.
const TIMEOUT_SECONDS = { min: 5, max: 172_800, default: 3600 };
// The first agent that hands parameters over as environment variables.
const ENV_VAR_AGENT = [3, 3, 2746, 0];

/** A parameter of a command document. */
export interface DocumentParameter {
  readonly type: 'String';
  readonly interpolationType?: 'ENV_VAR';
  readonly default?: string;
  readonly allowedPattern?: string;
  readonly allowedValues?: readonly string[];
  readonly minChars?: number;
  readonly maxChars?: number;
}

/** A command document as this stand-in runs it: one aws:runShellScript step. */
export interface SsmDocument {
  readonly name: string;
  readonly version: '1';
  readonly arn: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly step: string;
  readonly script: string;
  readonly timeoutSeconds: number;
  readonly parameters: Readonly<Record<string, DocumentParameter>>;
}

const string: Field = { type: 'string', required: true };
const CONTENT: Readonly<Record<string, Field>> = {
  schemaVersion: { type: 'string', required: true, values: ['2.2'] },
  description: { type: 'string' },
  parameters: {
    type: 'map',
    of: {
      type: 'object',
      fields: {
        type: { type: 'string', required: true, values: ['String'] },
        interpolationType: { type: 'string', values: ['ENV_VAR'] },
        description: { type: 'string' },
        default: { type: 'string' },
        allowedPattern: { type: 'string' },
        allowedValues: { type: 'list', of: string },
        minChars: { type: 'integer', min: 0 },
        maxChars: { type: 'integer', min: 1 },
      },
    },
  },
  mainSteps: {
    type: 'list',
    required: true,
    min: 1,
    max: 1,
    of: {
      type: 'object',
      fields: {
        action: { type: 'string', required: true, values: ['aws:runShellScript'] },
        name: { type: 'string', required: true, min: 1 },
        precondition: {
          type: 'object',
          fields: { StringEquals: { type: 'list', required: true, min: 2, max: 2, of: string } },
        },
        inputs: {
          type: 'object',
          required: true,
          fields: {
            runCommand: { type: 'list', required: true, min: 1, of: string },
            timeoutSeconds: { type: 'string' },
          },
        },
      },
    },
  },
};

interface Content {
  readonly parameters?: Readonly<Record<string, DocumentParameter>>;
  readonly mainSteps: readonly [
    {
      readonly name: string;
      readonly precondition?: { readonly StringEquals: readonly string[] };
      readonly inputs: { readonly runCommand: readonly string[]; readonly timeoutSeconds?: string };
    },
  ];
}

const stepTimeout = (value: string | undefined): number => {
  const seconds = Number(value ?? NaN);
  return Number.isInteger(seconds) && seconds >= TIMEOUT_SECONDS.min && seconds <= TIMEOUT_SECONDS.max
    ? seconds
    : TIMEOUT_SECONDS.default;
};

/**
 * Content in whose patterns the names that S3's buckets have at AWS are those at the lab's S3 server, as AWS_ENDPOINT_URL_S3 has them in the
 * functions' URLs: an address has no subdomains, so the bucket is in the path.
 */
export const withS3At = (content: unknown, s3Url: string, region: string): unknown =>
  JSON.parse(
    JSON.stringify(content).replaceAll(
      new RegExp(`https://([a-z0-9-]+)\\[[.]\\]s3\\[[.]\\]${region}\\[[.]\\]amazonaws\\[[.]\\]com/`, 'g'),
      (_, bucket: string) => `${s3Url}/${bucket}/`.replaceAll('.', '[.]'),
    ),
  );

/** Reads a document's content. Throws InvalidDocumentContent for whatever this stand-in would not run as the agent does. */
export const parseDocument = (name: string, arn: string, content: unknown): SsmDocument => {
  const refuse = (reason: string): never => {
    throw new AwsError('InvalidDocumentContent', `document ${name}: ${reason}`);
  };
  if (typeof content !== 'object' || content === null) return refuse(`got ${typeof content}, expected an object`);
  const problems = objectProblems(content as Record<string, unknown>, CONTENT, 'content');
  if (problems.length > 0) return refuse(problems.join('; '));
  const { parameters = {}, mainSteps } = content as Content;
  const [{ name: step, precondition, inputs }] = mainSteps;
  if (precondition !== undefined && precondition.StringEquals.join() !== 'platformType,Linux') {
    return refuse(`precondition ${JSON.stringify(precondition)}, expected StringEquals platformType Linux`);
  }
  const script = inputs.runCommand.join('\n');
  if (/\{\{.*?\}\}/s.test(script))
    return refuse('the script holds {{ }}, which SSM would replace by raw text; use ENV_VAR parameters');
  for (const [parameter, { interpolationType, allowedPattern }] of Object.entries(parameters)) {
    if (interpolationType !== 'ENV_VAR')
      return refuse(
        `parameter ${parameter} has no interpolationType ENV_VAR, the only kind that this stand-in hands over`,
      );
    if (allowedPattern !== undefined && /\(\?[=!<]|\\[1-9]/.test(allowedPattern))
      return refuse(
        `allowedPattern of ${parameter}: RE2, which the agent uses, knows no look-around and no back-reference`,
      );
  }
  const json = JSON.stringify(content);
  const bytes = Buffer.byteLength(json);
  if (bytes > LIMIT_BYTES) return refuse(`${String(bytes)} bytes, expected at most ${String(LIMIT_BYTES)}`);
  return {
    name,
    arn,
    version: '1',
    bytes,
    sha256: createHash('sha256').update(json).digest('hex'),
    step,
    script,
    parameters,
    timeoutSeconds: stepTimeout(inputs.timeoutSeconds),
  };
};

const parameterProblem = (name: string, value: string, parameter: DocumentParameter): string | undefined => {
  const { allowedPattern, allowedValues, minChars, maxChars } = parameter;
  if (allowedPattern !== undefined && !new RegExp(`^(?:${allowedPattern})$`).test(value))
    return `Parameter "${name}" value "${value}" does not match allowed pattern ${allowedPattern}`;
  if (allowedValues !== undefined && !allowedValues.includes(value))
    return `Parameter "${name}" value "${value}" is not one of ${allowedValues.join(', ')}`;
  if (minChars !== undefined && value.length < minChars)
    return `Parameter "${name}" has ${String(value.length)} characters, expected at least ${String(minChars)}`;
  if (maxChars !== undefined && value.length > maxChars)
    return `Parameter "${name}" has ${String(value.length)} characters, expected at most ${String(maxChars)}`;
  return undefined;
};

/** The values of a call, with defaults filled in. Throws InvalidParameters, as SendCommand does. */
export const resolveParameters = (
  document: SsmDocument,
  given: Readonly<Record<string, readonly string[]>>,
): Record<string, string> => {
  const problems: string[] = [];
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(document.parameters, name))
      problems.push(`Parameter "${name}" is not in document ${document.name}`);
  }
  const values: Record<string, string> = {};
  for (const [name, parameter] of Object.entries(document.parameters)) {
    const list = given[name];
    if (list !== undefined && list.length !== 1)
      problems.push(`Parameter "${name}" has ${String(list.length)} values, expected 1 for type String`);
    const value = list?.[0] ?? parameter.default;
    if (value === undefined) {
      problems.push(`Parameter "${name}" is required and missing`);
      continue;
    }
    const problem = parameterProblem(name, value, parameter);
    if (problem !== undefined) problems.push(problem);
    values[name] = value;
  }
  if (problems.length > 0) throw new AwsError('InvalidParameters', problems.join('; '));
  const total = document.bytes + Buffer.byteLength(JSON.stringify(given));
  if (total > LIMIT_BYTES)
    throw new AwsError(
      'InvalidParameters',
      `document and parameters have ${String(total)} bytes together, expected at most ${String(LIMIT_BYTES)}`,
    );
  return values;
};

/** Whether an agent of this version sets SSM_<name> for ENV_VAR parameters. */
export const handsOverEnvironment = (agentVersion: string): boolean => {
  const parts = agentVersion.split('.').map(Number);
  for (const [index, wanted] of ENV_VAR_AGENT.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
};
