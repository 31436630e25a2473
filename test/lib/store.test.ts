import { type CfnTemplate, exampleTemplate, resourcesOfType, theFunction, theResource } from './example-stack';
import { RETENTIONS } from '../../lambda/shared/retention';
import { bucketPolicy, deployed, type Policy, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };
const BACKUP_ROLE = roleArn(template, 'BackupService');
const VERIFY_ROLE = roleArn(template, 'VerifyService');
const AUDIT_ROLE = roleArn(template, 'AuditService');
const ADMINISTRATOR = 'arn:aws:iam::111122223333:role/Administrator';

const EVERYTHING: Policy = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }],
};

/** What the bucket policy leaves to somebody to whom IAM allows everything. */
function withEveryRight(principal: string, action: string, resource: string, context: Record<string, string> = {}) {
  return simulate({
    principal,
    action,
    resource,
    context,
    identityPolicies: [EVERYTHING],
    resourcePolicy: bucketPolicy(template),
  });
}

describe('the bucket', () => {
  const { Properties: bucket } = theResource(template, 'AWS::S3::Bucket');

  test('is versioned and locked in governance mode as long as the hourly class is kept', () => {
    expect(bucket).toMatchObject({
      VersioningConfiguration: { Status: 'Enabled' },
      ObjectLockEnabled: true,
      ObjectLockConfiguration: {
        ObjectLockEnabled: 'Enabled',
        Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 2 } },
      },
    });
  });

  test('is locked for as many days as the cluster says', () => {
    const locked = exampleTemplate({ lockDays: 9, keep: { hourlyHours: 216, dailyDays: 9 } });
    expect(theResource(locked, 'AWS::S3::Bucket').Properties['ObjectLockConfiguration']).toEqual({
      ObjectLockEnabled: 'Enabled',
      Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 9 } },
    });
  });

  test('blocks all public access and takes no ACL', () => {
    expect(bucket).toMatchObject({
      PublicAccessBlockConfiguration: {
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      },
      OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
    });
  });

  test('encrypts with the snapshot key and without a Bucket Key', () => {
    expect(bucket['BucketEncryption']).toEqual({
      ServerSideEncryptionConfiguration: [
        {
          BucketKeyEnabled: false,
          ServerSideEncryptionByDefault: {
            SSEAlgorithm: 'aws:kms',
            KMSMasterKeyID: { 'Fn::GetAtt': ['SnapshotKey', 'Arn'] },
          },
        },
      ],
    });
  });

  test('sends events to EventBridge', () => {
    expect(bucket['NotificationConfiguration']).toEqual({ EventBridgeConfiguration: { EventBridgeEnabled: true } });
  });

  test('has no name of its own, so that a new one can be made beside a retained one', () => {
    expect(bucket).not.toHaveProperty('BucketName');
  });
});

interface LifecycleRule {
  readonly Id: string;
  readonly Prefix?: string;
  readonly TagFilters?: { Key: string; Value: string }[];
  readonly ExpirationInDays?: number;
  readonly NoncurrentVersionExpiration?: { NoncurrentDays: number };
  readonly Transitions?: unknown;
}

describe('the lifecycle', () => {
  function rulesOf(from: CfnTemplate): LifecycleRule[] {
    return (theResource(from, 'AWS::S3::Bucket').Properties['LifecycleConfiguration'] as { Rules: LifecycleRule[] })
      .Rules;
  }

  const rules = rulesOf(template);
  const deleting = rules.filter((rule) => 'ExpirationInDays' in rule || 'NoncurrentVersionExpiration' in rule);

  /** The ids of the rules that would delete an object, current or not. */
  function rulesFor(key: string, tags: Record<string, string>): string[] {
    return deleting
      .filter(({ Prefix }) => key.startsWith(Prefix ?? ''))
      .filter(({ TagFilters }) => (TagFilters ?? []).every(({ Key, Value }) => tags[Key] === Value))
      .map(({ Id }) => Id);
  }

  test.each([['keeps an announcement for 35 days', 'announcements/a.json', 'none', ['announcements'], 35]])(
    '%s',
    (_what, key, retention, expected, days) => {
      expect(rulesFor(key, { retention })).toEqual(expected);
      expect(rules.find(({ Id }) => Id === expected[0])?.ExpirationInDays).toBe(days);
    },
  );

  test.each<[string, number]>([
    ['pending', 35],
    ['failed', 7],
    ['hourly', 2],
    ['daily', 7],
    ['weekly', 28],
    ['monthly', 186],
    ['on-demand', 30],
    ['pre-restore', 30],
  ])('keeps a snapshot that is %s for %d days, by one rule', (retention, days) => {
    expect(rulesFor('snapshots/a.db.zst', { retention })).toEqual([`snapshots-${retention}`]);
    expect(rules.find(({ Id }) => Id === `snapshots-${retention}`)?.ExpirationInDays).toBe(days);
  });

  test('has a rule for each value of the tag but latest', () => {
    expect(RETENTIONS.filter((retention) => rulesFor('snapshots/a.db.zst', { retention }).length !== 1)).toEqual([
      'latest',
    ]);
  });

  test('keeps each class as long as the cluster says, and one that is off as shortly as S3 can', () => {
    const keep = {
      hourlyHours: 25,
      dailyDays: 14,
      weeklyWeeks: 0,
      monthlyMonths: 12,
      onDemandDays: 3,
      preRestoreDays: 5,
    };
    const days = rulesOf(exampleTemplate({ keep })).flatMap(({ Id, ExpirationInDays }) =>
      Id.startsWith('snapshots-') ? [[Id.slice('snapshots-'.length), ExpirationInDays]] : [],
    );
    expect(Object.fromEntries(days)).toEqual({
      pending: 35,
      failed: 7,
      hourly: 2,
      daily: 14,
      weekly: 1,
      monthly: 372,
      'on-demand': 3,
      'pre-restore': 5,
    });
  });

  test.each(['STANDARD_IA', 'GLACIER_IR'] as const)(
    'moves monthly snapshots, and no others, to %s after 30 days when asked',
    (storageClass) => {
      const moving = rulesOf(exampleTemplate({ monthlyStorageClass: storageClass })).filter(
        ({ Transitions }) => Transitions !== undefined,
      );
      expect(moving.map(({ Id, Transitions }) => [Id, Transitions])).toEqual([
        ['snapshots-monthly', [{ StorageClass: storageClass, TransitionInDays: 30 }]],
      ]);
      expect(rules.filter(({ Transitions }) => Transitions !== undefined)).toEqual([]);
    },
  );

  test.each([
    ['the newest verified snapshot', 'snapshots/a.db.zst', { retention: 'latest' }],
    ['a snapshot without a tag', 'snapshots/a.db.zst', {}],
    ['a receipt', 'receipts/a.json', {}],
    ['a tool', 'tools/3.6.16/amd64/aa/etcdutl', {}],
  ])('never deletes %s', (_what, key, tags) => {
    expect(rulesFor(key, tags)).toEqual([]);
  });

  test('keeps an expired version for a week before it is gone', () => {
    expect(deleting.map((rule) => rule.NoncurrentVersionExpiration)).toEqual(
      deleting.map(() => ({ NoncurrentDays: 7 })),
    );
  });

  test('clears markers that hide nothing and uploads that were never completed', () => {
    expect(rules).toContainEqual({
      Id: 'leftovers',
      Status: 'Enabled',
      ExpiredObjectDeleteMarker: true,
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
    });
  });
});

describe('the bucket policy', () => {
  test('lets the backup role put a new object with the snapshot key', async () => {
    await expect(withEveryRight(BACKUP_ROLE, 's3:PutObject', SNAPSHOT, PUT)).resolves.toBe('Allowed');
  });

  test.each(['s3:PutObjectTagging', 's3:PutObjectVersionTagging'])(
    'lets the backup role put the first tag on a snapshot: %s',
    async (action) => {
      await expect(
        withEveryRight(BACKUP_ROLE, action, SNAPSHOT, { 's3:RequestObjectTag/retention': 'pending' }),
      ).resolves.toBe('Allowed');
    },
  );

  test.each([
    [
      'call a pending snapshot latest',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'pending', 's3:RequestObjectTag/retention': 'latest' },
    ],
    [
      'give the one that was latest its class',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'hourly' },
    ],
    [
      'tag a snapshot that has none',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'call a pending snapshot failed',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'pending', 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'call a failed snapshot failed again',
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'failed', 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'lock as long as the longest class',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'GOVERNANCE', 's3:object-lock-remaining-retention-days': '186' },
    ],
    ['put a receipt', 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    [
      'put a receipt in a bucket that locks it by default',
      's3:PutObject',
      `${BUCKET}/receipts/a.json`,
      { ...PUT, 's3:object-lock-remaining-retention-days': '2' },
    ],
  ])('lets the verify role %s', async (_what, action, resource, context) => {
    await expect(withEveryRight(VERIFY_ROLE, action, resource, context as Record<string, string>)).resolves.toBe(
      'Allowed',
    );
  });

  test.each([
    [
      'lock a snapshot for longer',
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'GOVERNANCE', 's3:object-lock-remaining-retention-days': '186' },
    ],
    ['say who started a restore', 's3:PutObject', `${BUCKET}/restores/20261120T140000Z/caller.json`, PUT],
  ])('lets the audit role %s', async (_what, action, resource, context) => {
    await expect(withEveryRight(AUDIT_ROLE, action, resource, context as Record<string, string>)).resolves.toBe(
      'Allowed',
    );
  });

  test.each([
    ['the longest class', { keep: { monthlyMonths: 12 } }, '372'],
    ['on-demand backups', { keep: { onDemandDays: 400 } }, '400'],
    ['what a restore replaced', { keep: { preRestoreDays: 500 } }, '500'],
    [
      'the hourly class, when all others are off',
      { keep: { hourlyHours: 2400, dailyDays: 0, weeklyWeeks: 0, monthlyMonths: 0 } },
      '100',
    ],
  ])('lets locks be as long as %s', (_what, entry, days) => {
    expect(bucketPolicy(exampleTemplate(entry)).Statement).toContainEqual(
      expect.objectContaining({
        Sid: 'DenyLongLocks',
        Condition: { NumericGreaterThan: { 's3:object-lock-remaining-retention-days': days } },
      }),
    );
  });

  test('lets an administrator read', async () => {
    await expect(withEveryRight(ADMINISTRATOR, 's3:GetObject', SNAPSHOT)).resolves.toBe('Allowed');
  });

  test.each([
    ['any request without TLS', BACKUP_ROLE, 's3:GetObject', SNAPSHOT, { 'aws:SecureTransport': 'false' }],
    ['a listing without TLS', BACKUP_ROLE, 's3:ListBucket', BUCKET, { 'aws:SecureTransport': 'false' }],
    ['a put without TLS', BACKUP_ROLE, 's3:PutObject', SNAPSHOT, { ...PUT, 'aws:SecureTransport': 'false' }],
    ['a put that is not encrypted with KMS', BACKUP_ROLE, 's3:PutObject', SNAPSHOT, { 's3:if-none-match': '*' }],
    [
      'a put with another key',
      BACKUP_ROLE,
      's3:PutObject',
      SNAPSHOT,
      { ...PUT, 's3:x-amz-server-side-encryption-aws-kms-key-id': 'arn:aws:kms:eu-central-1:111122223333:key/other' },
    ],
    [
      'a put that may overwrite, and with it every part of a multipart upload',
      BACKUP_ROLE,
      's3:PutObject',
      SNAPSHOT,
      { 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY },
    ],
    ['a snapshot by another role', ADMINISTRATOR, 's3:PutObject', SNAPSHOT, PUT],
    ['an announcement by another role', ADMINISTRATOR, 's3:PutObject', `${BUCKET}/announcements/a.json`, PUT],
    ['a tool by another role', ADMINISTRATOR, 's3:PutObject', `${BUCKET}/tools/3.6.16/amd64/aa/etcdutl`, PUT],
    ['another tag, and with it another expiry, by another role', ADMINISTRATOR, 's3:PutObjectTagging', SNAPSHOT, {}],
    ['another tag on one version by another role', ADMINISTRATOR, 's3:PutObjectVersionTagging', SNAPSHOT, {}],
    ['a receipt by another role', BACKUP_ROLE, 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    ['a snapshot by the verify role', VERIFY_ROLE, 's3:PutObject', SNAPSHOT, PUT],
    ['an announcement by the verify role', VERIFY_ROLE, 's3:PutObject', `${BUCKET}/announcements/a.json`, PUT],
    ['a put under a prefix that nobody writes', BACKUP_ROLE, 's3:PutObject', `${BUCKET}/drills/a.json`, PUT],
    ['a record of a restore by another role', BACKUP_ROLE, 's3:PutObject', `${BUCKET}/restores/a.json`, PUT],
    [
      'a tag outside the snapshots by the verify role',
      VERIFY_ROLE,
      's3:PutObjectVersionTagging',
      `${BUCKET}/tools/a`,
      {},
    ],
    [
      'a tag on an announcement by the verify role',
      VERIFY_ROLE,
      's3:PutObjectVersionTagging',
      `${BUCKET}/announcements/a.json`,
      {},
    ],
    [
      'another class by an administrator',
      ADMINISTRATOR,
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'a longer lock by an administrator',
      ADMINISTRATOR,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '3' },
    ],
    [
      'a longer lock by the backup role',
      BACKUP_ROLE,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '3' },
    ],
    [
      'a lock longer than any class by the verify role',
      VERIFY_ROLE,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '187' },
    ],
    [
      'that whatever version of it is the newest is called failed',
      VERIFY_ROLE,
      's3:PutObjectTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'failed' },
    ],
    [
      'a lock that nobody could end, by the verify role',
      VERIFY_ROLE,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-mode': 'COMPLIANCE', 's3:object-lock-remaining-retention-days': '2' },
    ],
    [
      'a put that brings such a lock along',
      BACKUP_ROLE,
      's3:PutObject',
      SNAPSHOT,
      { ...PUT, 's3:object-lock-mode': 'COMPLIANCE', 's3:object-lock-remaining-retention-days': '2' },
    ],
    [
      'a put that brings a lock along that is longer than any class',
      BACKUP_ROLE,
      's3:PutObject',
      SNAPSHOT,
      { ...PUT, 's3:object-lock-remaining-retention-days': '187' },
    ],
    [
      'a lock by an event hold, which has no end',
      VERIFY_ROLE,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-event-hold': 'ON' },
    ],
    ['a put with an event hold', BACKUP_ROLE, 's3:PutObject', SNAPSHOT, { ...PUT, 's3:object-lock-event-hold': 'ON' }],
    [
      'a legal hold by the verify role',
      VERIFY_ROLE,
      's3:PutObjectLegalHold',
      SNAPSHOT,
      { 's3:object-lock-legal-hold': 'ON' },
    ],
    ['a delete by the verify role', VERIFY_ROLE, 's3:DeleteObjectVersion', SNAPSHOT, {}],
    ['a bypass of governance by the verify role', VERIFY_ROLE, 's3:BypassGovernanceRetention', SNAPSHOT, {}],
    [
      'that the newest verified snapshot loses its tag by the audit role',
      AUDIT_ROLE,
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'hourly' },
    ],
    ['a first tag by the audit role', AUDIT_ROLE, 's3:PutObjectVersionTagging', SNAPSHOT, {}],
    [
      'a lock longer than any class by the audit role',
      AUDIT_ROLE,
      's3:PutObjectRetention',
      SNAPSHOT,
      { 's3:object-lock-remaining-retention-days': '187' },
    ],
    ['a receipt by the audit role', AUDIT_ROLE, 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
    ['a snapshot by the audit role', AUDIT_ROLE, 's3:PutObject', SNAPSHOT, PUT],
    ['the record of a drill by the audit role', AUDIT_ROLE, 's3:PutObject', `${BUCKET}/drills/a.json`, PUT],
    ['a put outside any prefix', ADMINISTRATOR, 's3:PutObject', `${BUCKET}/a.json`, PUT],
    ['a delete', ADMINISTRATOR, 's3:DeleteObject', SNAPSHOT, {}],
    ['a delete by the backup role', BACKUP_ROLE, 's3:DeleteObject', SNAPSHOT, {}],
    ['a delete by the account’s root', 'arn:aws:iam::111122223333:root', 's3:DeleteObject', SNAPSHOT, {}],
    ['a delete of one version', ADMINISTRATOR, 's3:DeleteObjectVersion', SNAPSHOT, {}],
    ['a delete of the tags', ADMINISTRATOR, 's3:DeleteObjectTagging', SNAPSHOT, {}],
    ['a bypass of governance', ADMINISTRATOR, 's3:BypassGovernanceRetention', SNAPSHOT, {}],
    [
      'that the newest verified snapshot is called pending, and expires',
      BACKUP_ROLE,
      's3:PutObjectTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'pending' },
    ],
    [
      'that one version of it is called pending',
      BACKUP_ROLE,
      's3:PutObjectVersionTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'latest', 's3:RequestObjectTag/retention': 'pending' },
    ],
    [
      'that a tag is taken away by putting others',
      BACKUP_ROLE,
      's3:PutObjectTagging',
      SNAPSHOT,
      { 's3:ExistingObjectTag/retention': 'monthly' },
    ],
    ['a replica as a way around a put', ADMINISTRATOR, 's3:ReplicateObject', SNAPSHOT, {}],
    ['a replicated delete', ADMINISTRATOR, 's3:ReplicateDelete', SNAPSHOT, {}],
    ['replicated tags', ADMINISTRATOR, 's3:ReplicateTags', SNAPSHOT, {}],
    ['another key for what is stored', ADMINISTRATOR, 's3:UpdateObjectEncryption', SNAPSHOT, {}],
  ])('denies %s, whatever IAM allows', async (_what, principal, action, resource, context) => {
    await expect(withEveryRight(principal, action, resource, context as Record<string, string>)).resolves.toBe(
      'ExplicitlyDenied',
    );
  });

  test.each(RETENTIONS.filter((retention) => retention !== 'pending' && retention !== 'failed'))(
    'denies the verify role to call a proven snapshot failed that is called %s',
    async (existing) => {
      const context = { 's3:ExistingObjectTag/retention': existing, 's3:RequestObjectTag/retention': 'failed' };
      await expect(withEveryRight(VERIFY_ROLE, 's3:PutObjectVersionTagging', SNAPSHOT, context)).resolves.toBe(
        'ExplicitlyDenied',
      );
    },
  );

  test('only denies, so that it gives nobody a right', () => {
    expect(new Set(bucketPolicy(template).Statement.map(({ Effect }) => Effect))).toEqual(new Set(['Deny']));
  });

  test('stays on the retained bucket when the stack is deleted', () => {
    expect(theResource(template, 'AWS::S3::BucketPolicy')).toMatchObject({
      DeletionPolicy: 'Retain',
      UpdateReplacePolicy: 'Retain',
    });
  });
});

describe('the keys', () => {
  test('rotate where AWS can rotate them', () => {
    expect(template.Resources['SnapshotKey']?.Properties).toMatchObject({ EnableKeyRotation: true });
  });

  test.each(['AnnouncementKey', 'ReceiptKey'])('sign with ECDSA on P-256: %s', (id) => {
    expect(template.Resources[id]?.Properties).toMatchObject({
      KeySpec: 'ECC_NIST_P256',
      KeyUsage: 'SIGN_VERIFY',
    });
  });

  test.each(['SnapshotKey', 'AnnouncementKey', 'ReceiptKey'])(
    'name no service principal in the policy of %s',
    (logicalId) => {
      const { Statement } = template.Resources[logicalId]?.Properties['KeyPolicy'] as Policy;
      expect(
        deployed(
          template,
          Statement.map(({ Principal }) => Principal),
        ),
      ).toEqual([{ AWS: 'arn:aws:iam::111122223333:root' }]);
    },
  );
});

describe('adoption', () => {
  const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555';
  const RECEIPT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/99999999-7777-8888-9999-000000000000';
  const SIGNING_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/66666666-7777-8888-9999-000000000000';

  function ids(from: CfnTemplate, type: string): string[] {
    return (
      resourcesOfType(from, type)
        .map(([id]) => id)
        // The topic of alarms has a key of its own, with which nothing in the bucket has to do.
        .filter((id) => !id.startsWith('Notify'))
    );
  }

  const adopting = exampleTemplate({
    existingBucketName: 'kept-backups',
    existingSnapshotKeyArn: KEY,
    existingAnnouncementKeyArn: SIGNING_KEY,
    existingReceiptKeyArn: RECEIPT_KEY,
  });

  test('creates neither a bucket nor a policy nor a key', () => {
    expect([
      ids(adopting, 'AWS::S3::Bucket'),
      ids(adopting, 'AWS::S3::BucketPolicy'),
      ids(adopting, 'AWS::KMS::Key'),
    ]).toEqual([[], [], []]);
  });

  test('gives both functions the adopted bucket and keys', () => {
    const adopted = { BUCKET: 'kept-backups', SNAPSHOT_KEY_ARN: KEY, ANNOUNCEMENT_KEY_ARN: SIGNING_KEY };
    expect(theFunction(adopting, 'backup').Properties['Environment']).toMatchObject({ Variables: adopted });
    expect(theFunction(adopting, 'verify').Properties['Environment']).toMatchObject({
      Variables: { ...adopted, RECEIPT_KEY_ARN: RECEIPT_KEY },
    });
  });

  test('prints the policy that the bucket must have, equal to that of a new one', () => {
    const policy = JSON.parse(String(deployed(adopting, adopting.Outputs['BucketPolicy']?.Value))) as Policy;
    const ofNew = JSON.stringify(bucketPolicy(template))
      .replaceAll(BUCKET, 'arn:aws:s3:::kept-backups')
      .replaceAll(SNAPSHOT_KEY, KEY);
    expect(policy).toEqual(JSON.parse(ofNew));
  });

  test('prints no policy for a bucket of its own', () => {
    expect(Object.keys(template.Outputs)).not.toContain('BucketPolicy');
  });

  test('takes a key alone, for a new bucket', () => {
    const withKey = exampleTemplate({ existingSnapshotKeyArn: KEY });
    expect(ids(withKey, 'AWS::KMS::Key')).toEqual(['AnnouncementKey', 'ReceiptKey']);
    expect(bucketPolicy(withKey).Statement).toContainEqual(
      expect.objectContaining({
        Condition: { ArnNotEqualsIfExists: { 's3:x-amz-server-side-encryption-aws-kms-key-id': KEY } },
      }),
    );
  });
});
