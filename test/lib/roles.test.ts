import { App } from 'aws-cdk-lib';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ClusterEntry, readClusters, readReplicas } from '../../lib/config';
import { ReplicaStack } from '../../lib/replica';
import { type CfnTemplate, exampleApp, exampleTemplate } from './example-stack';
import { ACCOUNT, REPLICA_ACCOUNT, resourcePoliciesOf, type Right, roleNames, rolesOf } from './rights';

const PAGE = join(__dirname, '..', '..', 'docs', 'security.md');

const SOURCE = { account: ACCOUNT, region: 'eu-central-1' };
const REPLICA = { account: REPLICA_ACCOUNT, region: 'eu-west-1' };

/** Everything that brings a right with it is on. */
const EVERYTHING: Partial<ClusterEntry> = {
  ...SOURCE,
  pkiBundle: true,
  replica: {
    bucketName: 'replica',
    keyArn: `arn:aws:kms:${REPLICA.region}:${REPLICA.account}:key/1234abcd-12ab-34cd-56ef-1234567890ab`,
  },
};

function replicaTemplate(): CfnTemplate {
  const app: App = exampleApp();
  const clusters = readClusters([
    { name: 'example', controlPlaneTags: { 'kubernetes.io/cluster/example': 'owned' }, notify: 'nobody', ...SOURCE },
  ]);
  const [replica] = readReplicas([{ name: 'example', ...REPLICA }], clusters);
  if (replica === undefined) {
    throw new Error('replicas: got none, expected the example');
  }
  const { stackName } = new ReplicaStack(app, 'replica', { replica });
  return app.synth().getStackByName(stackName).template as CfnTemplate;
}

/** The rows under the headings between `## Every right, line by line` and the next of its kind. A heading's name is the first code in it. */
function documented(page: string): (Right & { readonly why: string })[] {
  const [, section = ''] = page.split('\n## Every right, line by line\n');
  const [part = ''] = section.split('\n## ');
  let holder = '';
  return part.split('\n').flatMap((line) => {
    holder = /^### .*`([^`]+)`/.exec(line)?.[1] ?? holder;
    const cells =
      /^\| (.*) \|$/
        .exec(line)?.[1]
        ?.split(' | ')
        .map((cell) => cell.trim()) ?? [];
    // The head of a table has no code in it.
    return cells.some((cell) => cell.includes('`'))
      ? [{ holder, cells: cells.slice(0, -1), why: cells.at(-1) ?? '' }]
      : [];
  });
}

/** As they stand in the page, so that a difference can be read and copied. */
function rows(rights: readonly Right[]): string[] {
  return rights.map(({ holder, cells }) => `${holder}: | ${cells.join(' | ')} |`).sort();
}

describe('the tables of rights in docs/security.md', () => {
  const page = readFileSync(PAGE, 'utf8');
  const template = exampleTemplate(EVERYTHING);
  const replica = replicaTemplate();

  test('list every action of every role, and what each policy of a resource allows or denies', () => {
    expect(rows(documented(page))).toEqual(
      rows([
        ...rolesOf(template),
        ...resourcePoliciesOf(template),
        ...rolesOf(replica),
        ...resourcePoliciesOf(replica),
      ]),
    );
  });

  test('say why for each', () => {
    expect(documented(page).filter(({ why }) => !/^[A-Z].{9,}/.test(why))).toEqual([]);
  });

  test('have a heading for each role', () => {
    const headings = new Set(documented(page).map(({ holder }) => holder));
    expect([...roleNames(template), ...roleNames(replica)].filter((name) => !headings.has(name))).toEqual([]);
  });

  test('hold for a cluster with nothing but defaults, too: no role has a right that is not in them', () => {
    const known = new Set(rolesOf(template).flatMap(single));
    expect(
      rolesOf(exampleTemplate())
        .flatMap(single)
        .filter((right) => !known.has(right)),
    ).toEqual([]);
  });
});

/** One for each role and resource of a row. */
function single({ holder, cells }: Right): string[] {
  const onlyIf = cells.at(-1) ?? '';
  return cells
    .slice(0, -1)
    .reduce<string[]>(
      (found, cell) => found.flatMap((start) => cell.split(', ').map((one) => `${start} | ${one}`)),
      [holder],
    )
    .map((right) => `${right} | ${onlyIf}`);
}
