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
   * Folder of the script and of what it sources.
   *
   * @default - `node/`
   */
  readonly scriptDir?: string;
}

/** Our one SSM document: a script of `node/` with all that it sources, as one command document. */
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

/** How a script of `node/` sources another one: on a line of its own. */
const SOURCE_LINE = /^\s*(?:source|\.)\s.*?([A-Za-z0-9._-]+\.sh)"?\s*$/;

/**
 * A script of `node/` behind all that it sources, as the lines of one bash script, as nodes get it. What counts towards the limit of a document
 * and does nothing is left out: indentation, comments, empty lines, and functions whose name appears nowhere in what the script runs. So the name
 * of a function must not be put together at run time, a function begins and ends at the beginning of a line, and no string goes on in a next line
 * that is empty or begins with blanks. Line numbers in a node's messages are those of the document, as SSM shows it.
 *
 * @throws Error when a file does not begin as bash or sources another one where it may not, when the script does not source its contract
 * first and each file once, or when a line holds `{{` or a here-document
 */
export function scriptLines(script: string, folder = NODE_SCRIPTS): string[] {
  const file = `${script}.sh`;
  const own = readLines(folder, file);
  const sourced = sourcedFiles(own);
  for (const name of new Set(['contract.sh', ...sourced])) {
    const times = sourced.filter((other) => other === name).length;
    if (times !== 1) {
      throw new Error(`lines of ${file} that source ${name}: got ${String(times)}, expected exactly 1`);
    }
  }
  if (sourced[0] !== 'contract.sh') {
    throw new Error(`first file that ${file} sources: got ${sourced[0] ?? ''}, expected contract.sh`);
  }
  const libraries = sourced.map((name) => {
    const lines = readLines(folder, name);
    const [nested] = sourcedFiles(lines);
    if (nested !== undefined) {
      throw new Error(`what ${name} sources: got ${nested}, expected nothing; source it in ${file} itself`);
    }
    return lines;
  });
  const body = own.filter((line) => !SOURCE_LINE.test(line));
  const joined = ['#!/bin/bash', ...[...libraries, body].flatMap((lines) => lines.slice(1))];
  const all = [...sourced, file].join(' + ');
  const interpolated = joined.findIndex((line) => line.includes('{{'));
  if (interpolated >= 0) {
    throw new Error(
      `line ${String(interpolated + 1)} of ${all}: got '${joined[interpolated] ?? ''}', expected no '{{', which SSM would replace`,
    );
  }
  const hereDocument = joined.findIndex((line) => /(^|[^<])<<([^<]|$)/.test(line));
  if (hereDocument >= 0) {
    throw new Error(
      `line ${String(hereDocument + 1)} of ${all}: got '${joined[hereDocument] ?? ''}', expected no here-document, in which a line that begins with # is no comment; use printf`,
    );
  }
  const code = joined.map((line, index) => (index > 0 && /^\s*#/.test(line) ? '' : line));
  return withoutUnused(code)
    .map((line) => line.trimStart())
    .filter((line) => line !== '');
}

function withoutUnused(lines: readonly string[]): string[] {
  const functionAt: (string | undefined)[] = [];
  const names = new Set<string>();
  let current: string | undefined;
  for (const line of lines) {
    current ??= /^([A-Za-z0-9_]+)\(\) [{(]$/.exec(line)?.[1];
    functionAt.push(current);
    if (current !== undefined) {
      names.add(current);
    }
    if (/^[})]/.test(line)) {
      current = undefined;
    }
  }
  const mentionedIn = (name?: string): string[] =>
    lines
      .filter((_, index) => functionAt[index] === name)
      .flatMap((line) => line.match(/\w+/g) ?? [])
      .filter((word) => word !== name && names.has(word));
  const used = new Set(mentionedIn());
  // A set that grows while it is walked hands out what was added.
  for (const name of used) {
    for (const mentioned of mentionedIn(name)) {
      used.add(mentioned);
    }
  }
  return lines.map((line, index) => {
    const name = functionAt[index];
    return name === undefined || used.has(name) ? line : '';
  });
}

function sourcedFiles(lines: readonly string[]): string[] {
  return lines.flatMap((line) => SOURCE_LINE.exec(line)?.[1] ?? []);
}

/** The lines of a script, whose first one makes it bash: the agent starts scripts with sh. */
function readLines(folder: string, file: string): string[] {
  const lines = readFileSync(join(folder, file), 'utf8').trimEnd().split('\n');
  if (lines[0] !== '#!/bin/bash') {
    throw new Error(`first line of ${file}: got '${lines[0] ?? ''}', expected '#!/bin/bash'`);
  }
  return lines;
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

// What is known only when the stack is deployed is the name of the bucket, of the region or of AWS's domain: the first can be the longest.
const TOKEN = /\$\{Token\[[^\]]*\]\}/g;
const LONGEST_NAME = '-'.repeat(63);

function checkDocumentSize(content: object, props: ScriptDocumentProps): void {
  const document = Buffer.byteLength(JSON.stringify(content).replace(TOKEN, LONGEST_NAME));
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
