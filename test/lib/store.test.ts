import { type CfnTemplate, exampleTemplate, resourcesOfType, theResource } from './example-stack';
import { bucketPolicy, deployed, type Policy, roleArn, simulate } from './simulated-iam';

const template = exampleTemplate();

const BUCKET = 'arn:aws:s3:::bucket';
const SNAPSHOT = `${BUCKET}/snapshots/20261120T140000Z.db.zst`;
const SNAPSHOT_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/SnapshotKey';
const PUT = { 's3:if-none-match': '*', 's3:x-amz-server-side-encryption-aws-kms-key-id': SNAPSHOT_KEY };
const BACKUP_ROLE = roleArn(template, 'BackupService');
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
    const locked = exampleTemplate({ lockDays: 9 });
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
}

describe('the lifecycle', () => {
  const { Rules: rules } = theResource(template, 'AWS::S3::Bucket').Properties['LifecycleConfiguration'] as {
    Rules: LifecycleRule[];
  };
  const deleting = rules.filter((rule) => 'ExpirationInDays' in rule || 'NoncurrentVersionExpiration' in rule);

  /** The ids of the rules that would delete an object, current or not. */
  function rulesFor(key: string, tags: Record<string, string>): string[] {
    return deleting
      .filter(({ Prefix }) => key.startsWith(Prefix ?? ''))
      .filter(({ TagFilters }) => (TagFilters ?? []).every(({ Key, Value }) => tags[Key] === Value))
      .map(({ Id }) => Id);
  }

  test.each([
    ['keeps a pending snapshot for 35 days', 'snapshots/a.db.zst', 'pending', ['snapshots-pending'], 35],
    ['keeps a failed snapshot for 7 days', 'snapshots/a.db.zst', 'failed', ['snapshots-failed'], 7],
    ['keeps an announcement for 35 days', 'announcements/a.json', 'none', ['announcements'], 35],
  ])('%s', (_what, key, retention, expected, days) => {
    expect(rulesFor(key, { retention })).toEqual(expected);
    expect(rules.find(({ Id }) => Id === expected[0])?.ExpirationInDays).toBe(days);
  });

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
    ['a put under a prefix that nobody writes', BACKUP_ROLE, 's3:PutObject', `${BUCKET}/receipts/a.json`, PUT],
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

  test('sign announcements with ECDSA on P-256', () => {
    expect(template.Resources['AnnouncementKey']?.Properties).toMatchObject({
      KeySpec: 'ECC_NIST_P256',
      KeyUsage: 'SIGN_VERIFY',
    });
  });

  test.each(['SnapshotKey', 'AnnouncementKey'])('name no service principal in the policy of %s', (logicalId) => {
    const { Statement } = template.Resources[logicalId]?.Properties['KeyPolicy'] as Policy;
    expect(
      deployed(
        template,
        Statement.map(({ Principal }) => Principal),
      ),
    ).toEqual([{ AWS: 'arn:aws:iam::111122223333:root' }]);
  });
});

describe('adoption', () => {
  const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555';
  const SIGNING_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/66666666-7777-8888-9999-000000000000';

  function ids(from: CfnTemplate, type: string): string[] {
    return resourcesOfType(from, type).map(([id]) => id);
  }

  const adopting = exampleTemplate({
    existingBucketName: 'kept-backups',
    existingSnapshotKeyArn: KEY,
    existingAnnouncementKeyArn: SIGNING_KEY,
  });

  test('creates neither a bucket nor a policy nor a key', () => {
    expect([
      ids(adopting, 'AWS::S3::Bucket'),
      ids(adopting, 'AWS::S3::BucketPolicy'),
      ids(adopting, 'AWS::KMS::Key'),
    ]).toEqual([[], [], []]);
  });

  test('gives the function the adopted bucket and keys', () => {
    expect(theResource(adopting, 'AWS::Lambda::Function').Properties['Environment']).toMatchObject({
      Variables: { BUCKET: 'kept-backups', SNAPSHOT_KEY_ARN: KEY, ANNOUNCEMENT_KEY_ARN: SIGNING_KEY },
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
    expect(ids(withKey, 'AWS::KMS::Key')).toEqual(['AnnouncementKey']);
    expect(bucketPolicy(withKey).Statement).toContainEqual(
      expect.objectContaining({
        Condition: { ArnNotEqualsIfExists: { 's3:x-amz-server-side-encryption-aws-kms-key-id': KEY } },
      }),
    );
  });
});
