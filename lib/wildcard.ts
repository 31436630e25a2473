import { Stack, Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

/**
 * Acknowledges for cdk-nag that a role's policy names a resource with a wildcard. A finding's id is the resource as CloudFormation
 * sees it, so it is derived from the very ARN of the statement: the acknowledgement covers that one and no other.
 */
export function acknowledgeWildcard(role: IConstruct, resourceArn: string, reason: string): void {
  const resource = flatten(Stack.of(role).resolve(resourceArn));
  Validations.of(role).acknowledge({ id: `AwsSolutions-IAM5[Resource::${resource}]`, reason });
}

/** `{ "Fn::Join": ["", [{ "Fn::GetAtt": ["Bucket", "Arn"] }, "/a/*"]] }` as cdk-nag writes it: `<Bucket.Arn>/a/*`. */
function flatten(value: unknown): string {
  if (typeof value === 'string') {
    return value;
  }
  const [intrinsic, argument] = Object.entries(value as Record<string, unknown>)[0] ?? [];
  if (intrinsic === 'Ref') {
    return `<${String(argument)}>`;
  }
  if (intrinsic === 'Fn::GetAtt') {
    return `<${(argument as string[]).join('.')}>`;
  }
  if (intrinsic === 'Fn::Join') {
    const [separator, parts] = argument as [string, unknown[]];
    return parts.map(flatten).join(separator);
  }
  throw new Error(
    `resource of a wildcard: got ${JSON.stringify(value)}, expected a string, Ref, Fn::GetAtt or Fn::Join`,
  );
}
