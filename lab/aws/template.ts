import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One resource as the template has it. */
export interface TemplateResource {
  readonly Type: string;
  readonly Properties?: Readonly<Record<string, unknown>>;
  readonly Condition?: string;
  readonly DependsOn?: string | readonly string[];
  readonly DeletionPolicy?: string;
  readonly UpdateReplacePolicy?: string;
  readonly Metadata?: unknown;
}

/** A synthesized template. */
export interface Template {
  readonly Resources: Readonly<Record<string, TemplateResource>>;
  readonly Description?: string;
  readonly Parameters?: Readonly<Record<string, { readonly Type: string; readonly Default?: string }>>;
  readonly Conditions?: Readonly<Record<string, unknown>>;
  readonly Mappings?: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, unknown>>>>>>;
  readonly Outputs?: Readonly<Record<string, { readonly Value: unknown; readonly Condition?: string }>>;
  readonly Rules?: unknown;
  readonly Metadata?: unknown;
}

/** A stack of a cloud assembly: its template, and the folder behind each code asset's S3 key. */
export interface Assembly {
  readonly stackName: string;
  readonly template: Template;
  readonly codeDirs: ReadonlyMap<string, string>;
}

const SECTIONS = new Set([
  'Resources',
  'Description',
  'Parameters',
  'Conditions',
  'Mappings',
  'Outputs',
  'Rules',
  'Metadata',
  'AWSTemplateFormatVersion',
]);

const readJson = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));

interface Manifest {
  readonly artifacts: Readonly<
    Record<
      string,
      { readonly type: string; readonly properties?: { readonly templateFile?: string; readonly stackName?: string } }
    >
  >;
}

interface AssetManifest {
  readonly files: Readonly<
    Record<
      string,
      {
        readonly source: { readonly path: string; readonly packaging: string };
        readonly destinations: Readonly<Record<string, { readonly objectKey: string }>>;
      }
    >
  >;
}

/** Reads one stack out of cdk.out. Throws when it is not there. */
export const readAssembly = (cdkOut: string, stackName: string): Assembly => {
  const manifestFile = join(cdkOut, 'manifest.json');
  if (!existsSync(manifestFile))
    throw new Error(`no cloud assembly in ${cdkOut}, expected manifest.json; run cdk synth`);
  const stacks = Object.entries((readJson(manifestFile) as Manifest).artifacts).filter(
    ([, { type }]) => type === 'aws:cloudformation:stack',
  );
  const found = stacks.find(([id, { properties }]) => (properties?.stackName ?? id) === stackName);
  const templateFile = found?.[1].properties?.templateFile;
  if (templateFile === undefined)
    throw new Error(`no stack ${stackName} in ${cdkOut}, expected one of ${stacks.map(([id]) => id).join(', ')}`);
  const codeDirs = new Map<string, string>();
  for (const file of readdirSync(cdkOut).filter((name) => name.endsWith('.assets.json'))) {
    for (const { source, destinations } of Object.values((readJson(join(cdkOut, file)) as AssetManifest).files)) {
      if (source.packaging !== 'zip') continue;
      for (const { objectKey } of Object.values(destinations)) codeDirs.set(objectKey, join(cdkOut, source.path));
    }
  }
  return { stackName, template: readJson(join(cdkOut, templateFile)) as Template, codeDirs };
};

/** What Ref and Fn::GetAtt of a resource give. */
export interface Identity {
  readonly ref: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Where the stack is deployed. */
export interface Environment {
  readonly account: string;
  readonly region: string;
  readonly stackName: string;
}

const NO_VALUE = Symbol('AWS::NoValue');

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const describe = (value: unknown): string => JSON.stringify(value).slice(0, 300);

/** Resolves the intrinsic functions of one template. Whatever it does not know is an error. */
export class Resolver {
  readonly #identities = new Map<string, Identity>();
  readonly #resolving = new Set<string>();

  constructor(
    private readonly template: Template,
    private readonly environment: Environment,
    private readonly identify: (logicalId: string, resource: TemplateResource, resolver: Resolver) => Identity,
  ) {
    const unknown = Object.keys(template).filter((section) => !SECTIONS.has(section));
    if (unknown.length > 0)
      throw new Error(`sections of the template: got ${unknown.join(', ')}, expected only ${[...SECTIONS].join(', ')}`);
  }

  /** Logical ids of the resources whose condition holds. */
  logicalIds(): string[] {
    return Object.entries(this.template.Resources)
      .filter(([, { Condition }]) => Condition === undefined || this.#condition(Condition))
      .map(([logicalId]) => logicalId);
  }

  identity(logicalId: string): Identity {
    const known = this.#identities.get(logicalId);
    if (known !== undefined) return known;
    const resource = this.template.Resources[logicalId];
    if (resource === undefined) throw new Error(`no resource ${logicalId} in the template`);
    if (this.#resolving.has(logicalId))
      throw new Error(`circular reference: ${[...this.#resolving, logicalId].join(' -> ')}`);
    this.#resolving.add(logicalId);
    const identity = this.identify(logicalId, resource, this);
    this.#resolving.delete(logicalId);
    this.#identities.set(logicalId, identity);
    return identity;
  }

  /** A value with every intrinsic function replaced; properties that are AWS::NoValue are gone. */
  resolve(value: unknown): unknown {
    const resolved = this.#resolve(value);
    return resolved === NO_VALUE ? undefined : resolved;
  }

  /** As resolve. Throws unless the result is a string. */
  text(value: unknown): string {
    const resolved = this.resolve(value);
    if (typeof resolved !== 'string')
      throw new Error(`${describe(value)}: got ${describe(resolved)}, expected a string`);
    return resolved;
  }

  #list(value: unknown): unknown[] {
    const resolved = this.resolve(value);
    if (!Array.isArray(resolved)) throw new Error(`${describe(value)}: got ${describe(resolved)}, expected a list`);
    return resolved;
  }

  #resolve(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#resolve(item)).filter((item) => item !== NO_VALUE);
    if (!isObject(value)) return value;
    const [[name, argument] = [], second] = Object.entries(value);
    if (name !== undefined && second === undefined && (name === 'Ref' || name.startsWith('Fn::')))
      return this.#call(name, argument);
    return Object.fromEntries(
      Object.entries(value)
        .map(([key, item]) => [key, this.#resolve(item)] as const)
        .filter(([, item]) => item !== NO_VALUE),
    );
  }

  #call(name: string, argument: unknown): unknown {
    const list = Array.isArray(argument) ? (argument as unknown[]) : [];
    switch (name) {
      case 'Ref':
        return this.#ref(String(argument));
      case 'Fn::GetAtt':
        return this.#attribute(typeof argument === 'string' ? argument.split('.', 2) : list.map(String));
      case 'Fn::Join':
        return this.#list(list[1])
          .map((part) => this.text(part))
          .join(this.text(list[0]));
      case 'Fn::Sub':
        return typeof argument === 'string'
          ? this.#substitute(argument, {})
          : this.#substitute(this.text(list[0]), (list[1] ?? {}) as Record<string, unknown>);
      case 'Fn::Select': {
        const index = Number(this.resolve(list[0]));
        const items = this.#list(list[1]);
        if (!(index in items)) throw new Error(`Fn::Select ${describe(argument)}: no item ${String(index)}`);
        return items[index];
      }
      case 'Fn::Split':
        return this.text(list[1]).split(this.text(list[0]));
      case 'Fn::If':
        return this.#resolve(list[this.#condition(String(list[0])) ? 1 : 2]);
      case 'Fn::FindInMap': {
        const [map = '', top = '', key = ''] = list.map((item) => this.text(item));
        const found = this.template.Mappings?.[map]?.[top]?.[key];
        if (found === undefined) throw new Error(`Fn::FindInMap ${describe(argument)}: not in Mappings`);
        return found;
      }
      default:
        throw new Error(`intrinsic function ${name} of ${describe(argument)}: not one that the lab resolves`);
    }
  }

  #ref(name: string): unknown {
    const { account, region, stackName } = this.environment;
    const pseudo: Readonly<Record<string, unknown>> = {
      'AWS::AccountId': account,
      'AWS::Region': region,
      'AWS::Partition': 'aws',
      'AWS::URLSuffix': 'amazonaws.com',
      'AWS::StackName': stackName,
      'AWS::StackId': `arn:aws:cloudformation:${region}:${account}:stack/${stackName}/lab`,
      'AWS::NoValue': NO_VALUE,
    };
    if (Object.hasOwn(pseudo, name)) return pseudo[name];
    const parameter = this.template.Parameters?.[name];
    if (parameter !== undefined) {
      if (parameter.Default === undefined || parameter.Type.startsWith('AWS::SSM::'))
        throw new Error(`parameter ${name}: the lab has no value of type ${parameter.Type} for it`);
      return parameter.Default;
    }
    return this.identity(name).ref;
  }

  #attribute([logicalId = '', attribute = '']: readonly string[]): string {
    const value = this.identity(logicalId).attributes[attribute];
    if (value === undefined)
      throw new Error(
        `Fn::GetAtt ${logicalId}.${attribute}: ${this.template.Resources[logicalId]?.Type ?? ''} of the lab has only ${Object.keys(this.identity(logicalId).attributes).join(', ')}`,
      );
    return value;
  }

  #substitute(text: string, variables: Readonly<Record<string, unknown>>): string {
    return text.replace(/\$\{(!?)([^}]+)\}/g, (_, literal: string, name: string) => {
      if (literal !== '') return `\${${name}}`;
      if (Object.hasOwn(variables, name)) return this.text(variables[name]);
      return this.text(name.includes('.') && !name.startsWith('AWS::') ? { 'Fn::GetAtt': name } : { Ref: name });
    });
  }

  #condition(name: string): boolean {
    const condition = this.template.Conditions?.[name];
    if (condition === undefined) throw new Error(`no condition ${name} in the template`);
    return this.#evaluate(condition);
  }

  #evaluate(condition: unknown): boolean {
    const [name, argument] = Object.entries(isObject(condition) ? condition : {})[0] ?? [];
    const list = Array.isArray(argument) ? (argument as unknown[]) : [];
    switch (name) {
      case 'Fn::Equals':
        return this.text(list[0]) === this.text(list[1]);
      case 'Fn::And':
        return list.every((item) => this.#evaluate(item));
      case 'Fn::Or':
        return list.some((item) => this.#evaluate(item));
      case 'Fn::Not':
        return !this.#evaluate(list[0]);
      case 'Condition':
        return this.#condition(String(argument));
      case undefined:
      default:
        throw new Error(`condition ${describe(condition)}: not one that the lab evaluates`);
    }
  }
}
