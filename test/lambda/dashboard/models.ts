import type { BackupLine, DashboardModel } from '../../../lambda/dashboard/model';
import { timeOf } from '../../../lambda/shared/backup-id';
import { backupIdBefore, backupIdOf } from '../../../lambda/shared/backup-id';
import type { DrillRecord } from '../../../lambda/shared/drill-record';
import type { Receipt } from '../../../lambda/shared/receipt';

export const MACHINE = 'arn:aws:states:eu-central-1:111122223333:stateMachine:RestoreMachine-1A2B';
export const NOW = new Date('2026-11-20T14:34:00Z');

/** As much of a receipt as the page looks at. */
export function receiptOf(backupId: string, change: Partial<Receipt> = {}): Receipt {
  const seed = Number(backupId.slice(6, 8)) * 24 + Number(backupId.slice(9, 11));
  const receipt = {
    backupId,
    cluster: 'prod-eu',
    key: `snapshots/${backupId}.db.zst`,
    versionId: `v-${backupId}`,
    kind: 'schedule',
    class: backupId.endsWith('T000000Z') ? 'daily' : 'hourly',
    timeline: 'first',
    compressedBytes: 131_072_000 + seed * 11_000,
    sizeBytes: 524_288_032 + seed * 40_000,
    snapshot: { revision: 48_112_345 + seed * 5_213, totalKey: { rows: 301_222, live: 214_000 + ((seed * 37) % 900) } },
    findings: [],
    ...change,
  };
  return receipt as unknown as Receipt;
}

export function verifiedLine(
  backupId: string,
  change: Partial<BackupLine> & { receipt?: Partial<Receipt> } = {},
): BackupLine {
  const { receipt: receiptChange, ...rest } = change;
  const receipt = receiptOf(backupId, receiptChange);
  return {
    backupId,
    time: timeOf(backupId),
    proof: { kind: 'verified', receipt },
    compressedBytes: receipt.compressedBytes,
    remarks: receipt.findings.map(({ finding, sentence }) => ({ word: finding, sentence })),
    drill: undefined,
    ...rest,
  };
}

export function drillOf(backupId: string, drillId: string, change: Partial<DrillRecord> = {}): DrillRecord {
  return {
    schema: 1,
    drillId,
    cluster: 'prod-eu',
    backupId,
    versionId: `v-${backupId}`,
    outcome: 'proven',
    reason: null,
    sentence: null,
    etcdVersion: '3.6.5',
    tools: {},
    seconds: { download: 12.4, restore: 21.7, boot: 6.9, read: 8.2, total: 49.2 },
    measured: null,
    startedAt: '2026-11-20T04:30:00.000Z',
    finishedAt: '2026-11-20T04:31:00.000Z',
    ...change,
  };
}

/** Ids of hourly backups, newest first. */
export function hourly(count: number, newest = '20261120T140000Z'): string[] {
  return Array.from({ length: count }, (_, index) => backupIdBefore(newest, index * 3600));
}

export function modelOf(lines: readonly BackupLine[], change: Partial<DashboardModel> = {}): DashboardModel {
  return {
    cluster: 'prod-eu',
    now: NOW,
    recoveryPointSeconds: 7200,
    drillTooOldSeconds: 48 * 3600,
    lines,
    newestProof: lines.find(({ proof }) => proof.kind === 'verified'),
    stored: lines.length,
    markedDeleted: 0,
    restores: [],
    lastDrill: undefined,
    pki: undefined,
    warnings: [],
    restoreMachineArn: MACHINE,
    ...change,
  };
}

const HOSTILE = `"><script>alert(1)</script><img src=x onerror=alert(2)>'\u202Eevil\u2066\u200B</bdi></pre></cwdb-action>`;

/** Every state that the page has to be read in, by name. */
export const SCENARIOS: Readonly<Record<string, DashboardModel>> = {
  none: modelOf([]),
  one: modelOf([verifiedLine('20261120T140000Z', { receipt: { class: 'monthly' } })]),
  hundreds: hundreds(),
  trouble: trouble(),
  broken: broken(),
  hostile: hostile(),
};

function hundreds(): DashboardModel {
  const drill = drillOf('20261120T040000Z', '20261120T043000Z');
  const lines = hourly(20).map((id) =>
    verifiedLine(id, {
      ...(id === drill.backupId ? { drill } : {}),
      ...(id === '20261120T090000Z'
        ? { remarks: [{ word: 'leader-changed', sentence: 'the leader changed while the snapshot was saved' }] }
        : {}),
    }),
  );
  return modelOf(lines, { stored: 312, lastDrill: drill });
}

/** One of each state that a backup can be in. */
function trouble(): DashboardModel {
  const [a = '', b = '', c = '', d = '', e = '', f = '', g = '', h = '', i = '', j = '', k = ''] = hourly(11);
  const plain = (backupId: string, proof: BackupLine['proof'], remarks: BackupLine['remarks'] = []): BackupLine => ({
    backupId,
    time: timeOf(backupId),
    proof,
    compressedBytes: 131_000_000,
    remarks,
    drill: undefined,
  });
  const failed = drillOf(h, '20261120T103000Z', {
    outcome: 'failed',
    reason: 'keys-differ',
    sentence: 'other keys were read back',
    seconds: { download: 12, restore: 20, boot: 6 },
  });
  const lines = [
    plain('20261120T143012Z', { kind: 'pending' }),
    plain(a, { kind: 'failed' }),
    plain(b, { kind: 'pending' }),
    plain(c, {
      kind: 'not-trusted',
      why: `signature of receipts/${c}.json: got one that arn:aws:kms:eu-central-1:111122223333:key/receipt did not make, expected that key's; find out in CloudTrail who wrote it`,
    }),
    verifiedLine(d, {
      remarks: [
        { word: 'delete-marker', sentence: 'a delete marker lies over it before its time' },
        { word: 'other-version', sentence: '2 versions lie under its key' },
      ],
    }),
    plain(e, {
      kind: 'gone',
      why: 'the version v-1 that its receipt proves is not in the bucket any more; find out in CloudTrail who removed it',
    }),
    plain(f, {
      kind: 'unproven',
      why: "its tag says 'hourly', which only a verified backup has, but its receipt is gone",
    }),
    verifiedLine(g, { receipt: { kind: 'on-demand', class: 'on-demand' } }),
    verifiedLine(h, { drill: failed }),
    verifiedLine(i, {
      remarks: [
        'secrets-in-plain-text',
        'certificates-near-end',
        'mostly-free-pages',
        'tool-unknown',
        'redundancy-lost',
      ].map((word) => ({ word, sentence: `what ${word} means` })),
    }),
    verifiedLine(j, { receipt: { kind: 'pre-restore', class: 'pre-restore' } }),
    verifiedLine(k, {
      drill: drillOf(k, '20261120T093000Z', { outcome: 'not-possible', reason: 'too-large', seconds: {} }),
    }),
  ];
  return modelOf(lines, {
    stored: 148,
    markedDeleted: 3,
    newestProof: lines[4],
    restores: ['20261120T061500Z'],
    lastDrill: failed,
    pki: { newest: new Date('2026-11-18T06:00:00Z'), tooOldSeconds: 93_600 },
  });
}

/** Nothing was verified for days; the newest proof is older than the list. */
function broken(): DashboardModel {
  const lines = hourly(20).map((backupId): BackupLine => ({
    backupId,
    time: timeOf(backupId),
    proof: { kind: 'pending' },
    compressedBytes: 131_000_000,
    remarks: [],
    drill: undefined,
  }));
  const proof = verifiedLine('20261117T090000Z');
  return modelOf(lines, {
    stored: 161,
    newestProof: proof,
    lastDrill: drillOf('20261117T040000Z', '20261117T043000Z'),
  });
}

function hostile(): DashboardModel {
  const long = `${HOSTILE}${'x'.repeat(5000)}`;
  const ids = hourly(20);
  const lines = ids.map((backupId, index) =>
    index % 2 === 0
      ? verifiedLine(backupId, {
          remarks: Array.from({ length: 40 }, (_, n) => ({ word: `${String(n)}${long}`, sentence: long })),
          drill: drillOf(backupId, backupIdOf(NOW), { outcome: 'failed', reason: long, sentence: long }),
        })
      : {
          backupId,
          time: timeOf(backupId),
          proof: { kind: 'not-trusted' as const, why: long },
          compressedBytes: 1,
          remarks: [],
          drill: undefined,
        },
  );
  return modelOf(lines, {
    cluster: HOSTILE,
    stored: 312,
    lastDrill: drillOf(ids[0] ?? '', backupIdOf(NOW), { outcome: 'not-possible', reason: long }),
    warnings: [long, long, long, long],
    restoreMachineArn: `arn:aws:states:eu-central-1:111122223333:stateMachine:${HOSTILE}`,
  });
}
