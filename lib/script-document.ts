import { type Duration, Stack } from 'aws-cdk-lib';
import { CfnDocument } from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const NODE_SCRIPTS = join(__dirname, '..', 'node');

// SSM counts the document and the parameters of a call together.
const DOCUMENT_LIMIT_BYTES = 64 * 1024;

/** A parameter of a script: it reaches the node as the environment variable `SSM_<name>`, never as text inside the script. */
export interface ScriptParameter {
  readonly description: string;
  /** Read as a Java pattern by the API and as an RE2 pattern by the agent. */
  readonly allowedPattern: string;
  readonly maxChars: number;

  /**
   * Value when a call does not give one.
   *
   * @default - every call must give one
   */
  readonly default?: string;
}

export interface ScriptDocumentProps {
  /** Name of the script without `.sh`. */
  readonly script: string;
  readonly description: string;
  /** Keys are parameter names. */
  readonly parameters: Readonly<Record<string, ScriptParameter>>;
  /** The agent kills the script after this time. */
  readonly timeout: Duration;

  /**
   * Folder of the script and of `contract.sh`.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

/** Our one SSM document: a script of `node/` with its contract, as one command document. */
export class ScriptDocument extends Construct {
  /** Changes with every change of the content, so version 1 of a name is always the same script. */
  readonly documentName: string;
  readonly documentVersion = '1';
  readonly documentArn: string;

  constructor(scope: Construct, id: string, props: ScriptDocumentProps) {
    super(scope, id);

    const content = documentContent(id, props);
    checkDocumentSize(content, props);

    const document = new CfnDocument(this, 'Document', {
      content,
      documentFormat: 'JSON',
      documentType: 'Command',
      targetType: '/AWS::EC2::Instance',
      // No fixed name: CloudFormation cannot replace a document that has one, and NewVersion does not move the default version.
      updateMethod: 'Replace',
    });
    this.documentName = document.ref;
    this.documentArn = Stack.of(this).formatArn({
      service: 'ssm',
      resource: 'document',
      resourceName: this.documentName,
    });
  }
}

function documentContent(stepName: string, props: ScriptDocumentProps) {
  for (const [name, parameter] of Object.entries(props.parameters)) {
    checkPattern(name, parameter);
  }
  return {
    schemaVersion: '2.2',
    description: props.description,
    parameters: Object.fromEntries(
      Object.entries(props.parameters).map(([name, parameter]) => [
        name,
        { type: 'String', interpolationType: 'ENV_VAR', ...parameter },
      ]),
    ),
    mainSteps: [
      {
        action: 'aws:runShellScript',
        name: stepName,
        precondition: { StringEquals: ['platformType', 'Linux'] },
        inputs: {
          // A value that the agent cannot read becomes an hour without a word, so it is a plain number here.
          timeoutSeconds: String(props.timeout.toSeconds()),
          runCommand: scriptLines(props.script, props.scriptDir),
        },
      },
    ],
  };
}

/**
 * The contract and a script of `node/` as the lines of one bash script, as nodes get it: comments become empty lines, because they count
 * towards the limit of a document and line numbers should stay.
 *
 * @throws Error when the script does not begin as bash, does not source its contract exactly once, or holds `{{` or a here-document
 */
export function scriptLines(script: string, folder = NODE_SCRIPTS): string[] {
  const file = `${script}.sh`;
  const contract = readLines(join(folder, 'contract.sh'));
  const own = readLines(join(folder, file));
  for (const [name, lines] of [
    ['contract.sh', contract],
    [file, own],
  ] as const) {
    if (lines[0] !== '#!/bin/bash') {
      // The agent starts scripts with sh; only this first line makes it bash.
      throw new Error(`first line of ${name}: got '${lines[0] ?? ''}', expected '#!/bin/bash'`);
    }
  }
  const body = own.slice(1).filter((line) => !/^\s*(source|\.)\s.*contract\.sh/.test(line));
  const sourced = own.length - 1 - body.length;
  if (sourced !== 1) {
    throw new Error(`lines of ${file} that source contract.sh: got ${String(sourced)}, expected exactly 1`);
  }
  const joined = [...contract, ...body];
  const interpolated = joined.findIndex((line) => line.includes('{{'));
  if (interpolated >= 0) {
    throw new Error(
      `line ${String(interpolated + 1)} of contract.sh + ${file}: got '${joined[interpolated] ?? ''}', expected no '{{', which SSM would replace`,
    );
  }
  const hereDocument = joined.findIndex((line) => /(^|[^<])<<([^<]|$)/.test(line));
  if (hereDocument >= 0) {
    throw new Error(
      `line ${String(hereDocument + 1)} of contract.sh + ${file}: got '${joined[hereDocument] ?? ''}', expected no here-document, in which a line that begins with # is no comment; use printf`,
    );
  }
  return joined.map((line, index) => (index > 0 && /^\s*#/.test(line) ? '' : line));
}

function readLines(path: string): string[] {
  return readFileSync(path, 'utf8').trimEnd().split('\n');
}

function checkPattern(name: string, { allowedPattern, default: defaultValue, maxChars }: ScriptParameter): void {
  const unsupported = /\(\?|\\[1-9k]|[*+?}][+]/.exec(allowedPattern);
  if (unsupported !== null) {
    throw new Error(
      `pattern of ${name}: got '${allowedPattern}', expected one without '${unsupported[0]}', which RE2 or Java does not know`,
    );
  }
  const tooMany = [...allowedPattern.matchAll(/\{(\d+)(?:,(\d*))?\}/g)].find((repeat) =>
    [repeat[1], repeat[2]].some((count) => Number(count ?? 0) > 1000),
  );
  if (tooMany !== undefined) {
    throw new Error(
      `pattern of ${name}: got ${tooMany[0]}, expected at most 1000 repeats (RE2's limit); use + and maxChars`,
    );
  }
  if (!allowedPattern.startsWith('^') || !allowedPattern.endsWith('$')) {
    throw new Error(`pattern of ${name}: got '${allowedPattern}', expected one from ^ to $`);
  }
  if (
    defaultValue !== undefined &&
    (!new RegExp(allowedPattern).test(defaultValue) || defaultValue.length > maxChars)
  ) {
    throw new Error(
      `default of ${name}: got '${defaultValue}', expected at most ${String(maxChars)} characters that match ${allowedPattern}`,
    );
  }
}

function checkDocumentSize(content: object, props: ScriptDocumentProps): void {
  const document = Buffer.byteLength(JSON.stringify(content));
  const parameters = Object.entries(props.parameters).reduce(
    (sum, [name, { maxChars }]) => sum + name.length + maxChars,
    0,
  );
  if (document + parameters > DOCUMENT_LIMIT_BYTES) {
    throw new Error(
      `size of ${props.script}: got ${String(document)} bytes of document and up to ${String(parameters)} of parameters, expected at most ${String(DOCUMENT_LIMIT_BYTES)} together`,
    );
  }
}
