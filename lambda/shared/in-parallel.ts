const CONCURRENCY = 16;

/** Does the work for each input, 16 at a time, and returns the results in the order of the inputs. Throws the first error. */
export async function inParallel<In, Out>(inputs: readonly In[], work: (input: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  const queue = inputs.entries();
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      // One iterator for all: each input is taken once.
      for (const [index, input] of queue) {
        results[index] = await work(input);
      }
    }),
  );
  return results;
}
