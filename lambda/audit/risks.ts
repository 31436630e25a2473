import { describeError } from '../shared/errors';

/** What came of looking at several things of one kind. */
export interface Looked {
  /** What is not as it has to be, each in a sentence. */
  readonly risks: readonly string[];
  /** What could not be looked at. */
  readonly problems: readonly string[];
}

/** Looks at each, whatever becomes of the others. */
export async function lookAtEach<Item>(
  items: readonly Item[],
  look: (item: Item) => Promise<readonly string[]>,
): Promise<Looked> {
  const looked = await Promise.all(
    items.map(async (item): Promise<Looked> => {
      try {
        return { risks: await look(item), problems: [] };
      } catch (error) {
        return { risks: [], problems: [error instanceof Error ? error.message : describeError(error)] };
      }
    }),
  );
  return {
    risks: looked.flatMap(({ risks }) => risks),
    problems: looked.flatMap(({ problems }) => problems),
  };
}

/**
 * How many risks to tell; undefined when that is not known. A risk that was seen is told whatever else could not be looked at: it is the
 * least there is.
 */
export function countOf({ risks, problems }: Looked): number | undefined {
  return problems.length === 0 || risks.length > 0 ? risks.length : undefined;
}
