/** An error as AWS returns it: a code that SDKs turn into the exception's name, a sentence and an HTTP status. */
export class AwsError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 400,
  ) {
    super(message);
    this.name = 'AwsError';
  }
}

/** A request that names, holds or leaves out what the operation does not take. */
export const validation = (message: string): AwsError => new AwsError('ValidationException', message);
