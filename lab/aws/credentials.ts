import { AwsError } from './aws-error';

/** Credentials of one principal of the lab; a session token as Lambda's have. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** Who signed a request. Without a role it is the lab's administrator, who may do everything. */
export interface Caller {
  readonly accessKeyId: string;
  readonly roleArn?: string;
}

/** All access keys of the lab, so that each stand-in can check a signature and knows who called. */
export class CredentialStore {
  readonly #known = new Map<string, { credentials: Credentials; caller: Caller }>();

  add(credentials: Credentials, roleArn?: string): void {
    const { accessKeyId } = credentials;
    this.#known.set(accessKeyId, {
      credentials,
      caller: roleArn === undefined ? { accessKeyId } : { accessKeyId, roleArn },
    });
  }

  /** Throws UnrecognizedClientException for an access key that the lab did not hand out. */
  find(accessKeyId: string): { credentials: Credentials; caller: Caller } {
    const found = this.#known.get(accessKeyId);
    if (found === undefined) {
      throw new AwsError(
        'UnrecognizedClientException',
        `The security token included in the request is invalid: access key ${accessKeyId} is not one of this lab's, use those that environment() gives`,
        403,
      );
    }
    return found;
  }
}
