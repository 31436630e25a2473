import { InvokeCommand, type InvokeCommandOutput, type LambdaClient } from '@aws-sdk/client-lambda';
import * as z from 'zod/mini';
import { type Answer, answerSchema, type Order } from '../drill-run/order';
import { check, text } from '../shared/check';
import { describeError, DrillRunError } from '../shared/errors';

/** How long drill-run's answer is waited for: longer than that function may run (lib/drill.ts), shorter than this one may. */
export const RUN_TIMEOUT_MILLISECONDS = 820_000;

/** What came back. */
export type Invoked =
  | { readonly kind: 'answer'; readonly answer: Answer }
  /** It was ended, or threw. `errorType`: the platform's word for it. */
  | { readonly kind: 'no-answer'; readonly errorType: string }
  /** Where binaries of nodes ran, something answered what drill-run does not. */
  | { readonly kind: 'bad-answer'; readonly problems: readonly string[] };

// An answer has a few hundred characters.
const MAX_ANSWER_BYTES = 10_000;
const MAX_PROBLEMS = 5;

const functionError = z.object({ errorType: text(/^[A-Za-z][A-Za-z.]{0,63}$/, "an error's name") });

/** Invokes drill-run once and waits. Throws DrillRunError when Lambda does not let it run. */
export async function invokeRun(
  { lambda, runFunction }: { readonly lambda: LambdaClient; readonly runFunction: string },
  order: Order,
): Promise<Invoked> {
  let output: InvokeCommandOutput;
  try {
    output = await lambda.send(
      new InvokeCommand({
        FunctionName: runFunction,
        InvocationType: 'RequestResponse',
        Payload: Buffer.from(JSON.stringify(order)),
      }),
    );
  } catch (error) {
    throw new DrillRunError(
      `lambda:InvokeFunction of ${runFunction}: got ${describeError(error)}, expected its answer within ${String(RUN_TIMEOUT_MILLISECONDS / 1000)} s; the retry begins the drill again; if it repeats, look at this function's role and at the account's concurrency`,
      error,
    );
  }
  return readOutput(output, order.drillId);
}

function readOutput({ FunctionError, Payload }: InvokeCommandOutput, drillId: string): Invoked {
  const bytes = Buffer.from(Payload ?? []);
  if (bytes.length > MAX_ANSWER_BYTES) {
    return {
      kind: 'bad-answer',
      problems: [`got ${String(bytes.length)} bytes, expected at most ${String(MAX_ANSWER_BYTES)}`],
    };
  }
  let payload: unknown;
  try {
    payload = JSON.parse(bytes.toString('utf8'));
  } catch {
    return { kind: 'bad-answer', problems: [`got ${String(bytes.length)} bytes that are no JSON, expected an object`] };
  }
  if (FunctionError !== undefined) {
    const checked = check(functionError, payload);
    return { kind: 'no-answer', errorType: checked.ok ? checked.value.errorType : 'an error without a name' };
  }
  const checked = check(answerSchema, payload);
  if (!checked.ok) {
    // Only where: what is there is not ours.
    return {
      kind: 'bad-answer',
      problems: checked.problems.slice(0, MAX_PROBLEMS).map((problem) =>
        problem
          .slice(0, problem.indexOf(':'))
          .replace(/[^A-Za-z.]/g, '?')
          .slice(0, 100),
      ),
    };
  }
  return checked.value.drillId === drillId
    ? { kind: 'answer', answer: checked.value }
    : { kind: 'bad-answer', problems: ['drillId'] };
}
