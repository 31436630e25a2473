import { runSimulation } from '@cloud-copilot/iam-simulate';
import { AwsError } from './aws-error';
import type { Caller } from './credentials';

/** A policy document with its name, as a role holds it. */
export interface NamedPolicy {
  readonly name: string;
  readonly policy: unknown;
}

/** One thing that a caller wants to do. */
export interface Action {
  readonly action: string;
  readonly resource: string;
  readonly context?: Readonly<Record<string, string>>;
  /** Key policy, where the resource has one. */
  readonly resourcePolicy?: unknown;
}

const NO_STATEMENTS = { Version: '2012-10-17', Statement: [] };

/** Decides by the roles' synthesized policies, with an evaluator that is not ours. */
export class Iam {
  readonly #roles = new Map<string, NamedPolicy[]>();

  constructor(readonly account: string) {}

  addRole(roleArn: string): void {
    this.#roles.set(roleArn, []);
  }

  /** Throws when the role is not in the template. */
  attach(roleArn: string, policy: NamedPolicy): void {
    this.policiesOf(roleArn).push(policy);
  }

  /** Throws when the role is not in the template. */
  policiesOf(roleArn: string): NamedPolicy[] {
    const policies = this.#roles.get(roleArn);
    if (policies === undefined)
      throw new Error(`no role ${roleArn} in the template, expected one of ${[...this.#roles.keys()].join(', ')}`);
    return policies;
  }

  /** Throws AccessDeniedException unless the caller's role allows every action. */
  async authorize(caller: Caller, actions: readonly Action[]): Promise<void> {
    const { roleArn } = caller;
    if (roleArn === undefined) return;
    for (const action of actions) await this.#authorizeOne(roleArn, action);
  }

  /** As authorize, for an AWS service: only the resource's policy counts, and without one it may do nothing. */
  async authorizeService(service: string, action: Action): Promise<void> {
    await this.#decide(service, [], { ...action, resourcePolicy: action.resourcePolicy ?? NO_STATEMENTS });
  }

  async #authorizeOne(roleArn: string, action: Action): Promise<void> {
    await this.#decide(roleArn, this.policiesOf(roleArn), action);
  }

  async #decide(
    principal: string,
    identityPolicies: NamedPolicy[],
    { action, resource, context = {}, resourcePolicy }: Action,
  ): Promise<void> {
    const simulated = await runSimulation(
      {
        request: {
          principal,
          action,
          resource: { resource, accountId: this.account },
          contextVariables: { 'aws:SecureTransport': 'true', ...context },
        },
        identityPolicies,
        serviceControlPolicies: [],
        resourceControlPolicies: [],
        ...(resourcePolicy === undefined ? {} : { resourcePolicy }),
      },
      {},
    );
    if (simulated.resultType === 'error') {
      throw new Error(
        `IAM cannot evaluate ${action} on ${resource} for ${principal}: ${JSON.stringify(simulated.errors)}`,
      );
    }
    if (simulated.overallResult !== 'Allowed') {
      const reason =
        simulated.overallResult === 'ExplicitlyDenied'
          ? 'with an explicit deny in a policy'
          : `because no ${identityPolicies.length === 0 ? 'resource' : 'identity'}-based policy allows the action`;
      throw new AwsError(
        'AccessDeniedException',
        `User: ${principal} is not authorized to perform: ${action} on resource: ${resource} ${reason}`,
      );
    }
  }
}
