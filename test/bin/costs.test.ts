import { HeadObjectCommand } from '@aws-sdk/client-s3';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  costs,
  costsPage,
  DEFAULT_USE,
  EXAMPLE,
  heldByClass,
  METRICS,
  readDeployed,
  REQUESTS,
  type Requests,
  sumOf,
} from '../../bin/costs';
import { backupIdOf } from '../../lambda/shared/backup-id';
import { ONLY_LOGGED } from '../../lambda/shared/telemetry';
import { readClusters } from '../../lib/config';
import { AuditWorld } from '../lambda/audit/world';
import { Cloud, scheduled } from '../lambda/backup/cloud';
import { exampleTemplate } from '../lib/example-stack';

const [CLUSTER] = readClusters([EXAMPLE]);
if (CLUSTER === undefined) {
  throw new Error('clusters: got none, expected the example');
}
const cluster = CLUSTER;
const deployed = readDeployed(exampleTemplate(EXAMPLE), cluster);

describe('the bill', () => {
  test('in docs/costs.md is that of the stack which is deployed; else run npm run costs', () => {
    const page = readFileSync(join(__dirname, '..', '..', 'docs', 'costs.md'), 'utf8');
    expect(page).toBe(costsPage(deployed));
  });

  test('is the quantity of each line times its price', () => {
    const lines = costs(deployed, DEFAULT_USE);
    expect(lines.find(({ line }) => line === 'alarms')?.usd).toBeCloseTo(deployed.alarmMetrics / 10, 10);
    expect(lines.find(({ line }) => line === 'keys')).toMatchObject({ quantity: 4, usd: 4 });
    // 730 runs of 10 s on 1,769 MB.
    expect(lines.find(({ line }) => line === 'verify')?.usd).toBeCloseTo(730 * 10 * (1769 / 1024) * 0.0000133334, 10);
    expect(sumOf(lines)).toBeCloseTo(
      lines.reduce((sum, { usd }) => sum + usd, 0),
      10,
    );
  });

  test('grows with the database and with the number of backups', () => {
    const sum = (databaseGb: number, schedule: string) =>
      sumOf(costs({ ...deployed, cluster: { ...cluster, schedule } }, { ...DEFAULT_USE, databaseGb }));
    expect(sum(2, 'rate(4 hours)')).toBeGreaterThan(sum(0.5, 'rate(4 hours)'));
    expect(sum(0.5, 'rate(4 hours)')).toBeGreaterThan(sum(0.5, 'rate(1 day)'));
  });

  test('is refused for a template without the audit', () => {
    expect(() => readDeployed({ Resources: {} }, cluster)).toThrow('expected that of the audit');
  });
});

describe('what is stored', () => {
  const rounded = (change: Partial<Parameters<typeof heldByClass>[0]> = {}) =>
    Object.fromEntries(
      heldByClass({ ...cluster, ...change }).map(({ class: name, current, stored }) => [
        name,
        [current, stored].map(Math.round),
      ]),
    );

  test('is what a year of hourly backups leaves on average', () => {
    // 23 a day for 2.5 days less a minute, and then for 8 in which they can be brought back; the first of each day, week and month has its class.
    expect(rounded()).toMatchObject({ hourly: [57, 241], monthly: [6, 6], weekly: [4, 5] });
  });

  test('stays as long as a longer lock lasts', () => {
    expect(rounded({ lockDays: 30 })['hourly']).toEqual([57, 701]);
  });
});

interface Stub {
  calls(): readonly { readonly args: readonly unknown[] }[];
}

/** What was asked of S3 and KMS, as AWS counts it. */
function asked(s3: Stub, kms: Stub, options: { readonly turnsPages: boolean }): Requests & { readonly tags: number } {
  const commands = (stub: Stub) =>
    stub
      .calls()
      .map(({ args: [command] }) => command as { constructor: { name: string }; input: Record<string, unknown> });
  // The test's bucket has three versions on a page, S3's has a thousand.
  const requests = commands(s3).filter(
    ({ input }) => options.turnsPages || input['VersionIdMarker'] === undefined || input['KeyMarker'] === undefined,
  );
  const count = (of: readonly { constructor: { name: string } }[], ...names: RegExp[]) =>
    of.filter(({ constructor: { name } }) => names.some((pattern) => pattern.test(name))).length;
  const WRITES = /^(Put|List)/;
  const TAGS = /^GetObjectTagging/;
  const heads = requests.filter(
    (command) => command instanceof HeadObjectCommand && command.input.ChecksumMode === 'ENABLED',
  );
  return {
    write: count(requests, WRITES),
    read: requests.length - count(requests, WRITES, TAGS),
    tags: count(requests, TAGS),
    // S3 asks KMS for the key of each object; tags and locks have none.
    symmetric:
      count(requests, /^PutObjectCommand$/, /^GetObjectCommand$/) + heads.length + count(commands(kms), /^DescribeKey/),
    asymmetric: count(commands(kms), /^(Sign|Verify)/),
  };
}

const phaseMetrics = (phases: readonly string[]) =>
  phases
    .filter((phase) => !ONLY_LOGGED.includes(phase))
    .map((phase) => `${phase.charAt(0).toUpperCase()}${phase.slice(1)}Seconds`);

const sorted = (...names: readonly (readonly string[])[]) => [...new Set(names.flat())].sort();

describe('what runs ask for and measure, when all is well', () => {
  test('is counted for the second of two backups', async () => {
    const cloud = new Cloud('2026-11-20T13:00:05Z');
    await cloud.backup(scheduled('2026-11-20T13:00:00Z'));
    cloud.time.advance(3600);
    for (const mock of [cloud.s3Mock, cloud.kmsMock]) {
      mock.resetHistory();
    }
    cloud.measured.length = 0;
    cloud.lines.length = 0;
    await cloud.backup(scheduled('2026-11-20T14:00:00Z'));

    const { tags, write, symmetric, ...others } = asked(cloud.s3Mock, cloud.kmsMock, { turnsPages: true });
    // The node's own PUT, and its data key.
    expect({ ...others, write: write + 1, symmetric: symmetric + 1 }).toEqual(REQUESTS.backup);
    expect(tags).toBe(0);
    expect(
      sorted(
        cloud.measured.flatMap(({ name }) => (name === 'published' ? [] : name)),
        phaseMetrics(cloud.lines.map(({ phase }) => phase)),
      ),
    ).toEqual(METRICS.backup);
  });

  test('is counted for a verification and an audit after a day of backups', async () => {
    const audit = new AuditWorld();
    const { world } = audit;
    try {
      const at = (hour: number) => backupIdOf(new Date(Date.UTC(2026, 10, 19, 14 + hour)));
      for (let hour = 0; hour < 24; hour++) {
        await world.verify(world.backup(at(hour)).event);
      }
      audit.drill('20261120T043000Z');
      const forget = () => {
        audit.forget();
        world.lines.length = 0;
        world.s3Mock.resetHistory();
        world.kmsMock.resetHistory();
      };
      const { event } = world.backup(at(24));
      forget();
      await world.verify(event);
      const verified = asked(world.s3Mock, world.kmsMock, { turnsPages: false });
      const { tags, ...requests } = verified;
      expect(requests).toEqual(REQUESTS.verify);
      // Of all 25 of the last 48 hours, and twice more of the version itself.
      expect(tags).toBe(25 + 2);
      expect(sorted(Object.keys(world.measured), phaseMetrics(world.lines.map(({ phase }) => phase)))).toEqual(
        METRICS.verify,
      );

      await audit.run();
      world.now = new Date(world.now.getTime() + 300_000);
      forget();
      await audit.run();
      const { tags: changing, ...known } = asked(world.s3Mock, world.kmsMock, { turnsPages: false });
      expect({ ...known, read: known.read + changing }).toEqual(REQUESTS.audit);
      expect(changing).toBe(1);
      expect(sorted(Object.keys(world.measured), phaseMetrics(world.lines.map(({ phase }) => phase)))).toEqual(
        METRICS.audit,
      );
    } finally {
      world.remove();
    }
  }, 120_000);
});
