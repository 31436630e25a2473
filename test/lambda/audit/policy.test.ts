import { type Policy, policyRisks } from '../../../lambda/audit/policy';

const BUCKET = 'arn:aws:s3:::backups';
const deletes = {
  Sid: 'DenyDelete',
  Effect: 'Deny',
  Principal: { AWS: '*' },
  Action: ['s3:DeleteObject*', 's3:BypassGovernanceRetention'],
  Resource: `${BUCKET}/*`,
};
const retag = {
  Sid: 'DenyRetag',
  Effect: 'Deny',
  Principal: { AWS: '*' },
  Action: ['s3:PutObjectTagging'],
  Resource: [BUCKET, `${BUCKET}/*`],
  Condition: {
    Null: { 's3:ExistingObjectTag/retention': 'false' },
    ArnNotEquals: { 'aws:PrincipalArn': ['arn:aws:iam::000000000000:role/verify'] },
  },
};
const expected: Policy = { Statement: [deletes, retag] };

const risks = (actual: Policy | undefined, adopted = false) => policyRisks(actual, expected, adopted);

describe('a bucket policy is as expected', () => {
  test.each<[string, Policy]>([
    ['the same', expected],
    ['in another order', { Statement: [retag, deletes] }],
    [
      'with actions and resources in another order',
      {
        Statement: [
          { ...deletes, Action: deletes.Action.toReversed() },
          { ...retag, Resource: retag.Resource.toReversed() },
        ],
      },
    ],
    [
      'with one value where there was a list, and a list where there was one value',
      {
        Statement: [
          { ...deletes, Resource: [deletes.Resource] },
          {
            ...retag,
            Action: 's3:PutObjectTagging',
            Condition: {
              ArnNotEquals: { 'aws:PrincipalArn': 'arn:aws:iam::000000000000:role/verify' },
              Null: { 's3:ExistingObjectTag/retention': false },
            },
          },
        ],
      },
    ],
    [
      'with everybody in short',
      {
        Statement: [
          { ...deletes, Principal: '*' },
          { ...retag, Principal: { AWS: ['*'] } },
        ],
      },
    ],
    [
      'with one more denial',
      {
        Statement: [deletes, retag, { Sid: 'More', Effect: 'Deny', Principal: '*', Action: 's3:*', Resource: BUCKET }],
      },
    ],
  ])('when it is %s', (_what, actual) => {
    expect(risks(actual)).toEqual([]);
  });
});

describe('a bucket policy is at risk', () => {
  const missing = [/the statement DenyDelete is not there, or is another/];

  test.each<[string, Policy | undefined, RegExp[]]>([
    ['when there is none', undefined, [/DenyDelete/, /DenyRetag/]],
    ['without a statement', { Statement: [retag] }, missing],
    ['when it is that one statement alone', { Statement: retag }, missing],
    [
      'when a statement allows',
      { Statement: [{ ...deletes, Effect: 'Allow' }, retag] },
      [...missing, /allows something/],
    ],
    ['with an action less', { Statement: [{ ...deletes, Action: ['s3:DeleteObject*'] }, retag] }, missing],
    ['with another resource', { Statement: [{ ...deletes, Resource: `${BUCKET}/tools/*` }, retag] }, missing],
    [
      'for one principal only',
      { Statement: [{ ...deletes, Principal: { AWS: 'arn:aws:iam::000000000000:role/a' } }, retag] },
      missing,
    ],
    [
      'with one more condition',
      { Statement: [{ ...deletes, Condition: { Bool: { 'aws:MultiFactorAuthPresent': 'false' } } }, retag] },
      missing,
    ],
    [
      'with one more role that is let through',
      {
        Statement: [
          deletes,
          {
            ...retag,
            Condition: {
              ...retag.Condition,
              ArnNotEquals: {
                'aws:PrincipalArn': ['arn:aws:iam::000000000000:role/verify', 'arn:aws:iam::000000000000:role/thief'],
              },
            },
          },
        ],
      },
      [/DenyRetag/],
    ],
    [
      'without a condition',
      { Statement: [deletes, { ...retag, Condition: { Null: retag.Condition.Null } }] },
      [/DenyRetag/],
    ],
    [
      'when it lets somebody in',
      {
        Statement: [
          deletes,
          retag,
          { Sid: 'Share', Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `${BUCKET}/*` },
        ],
      },
      [/the statement Share allows something/],
    ],
  ])('%s', (_what, actual, sentences) => {
    expect(risks(actual)).toEqual(sentences.map((sentence) => expect.stringMatching(sentence) as unknown));
  });

  test('is its owner’s to open when it is adopted', () => {
    const open = { Sid: 'Share', Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `${BUCKET}/*` };
    expect(risks({ Statement: [deletes, retag, open] }, true)).toEqual([]);
    expect(risks({ Statement: [retag, open] }, true)).toHaveLength(1);
  });
});
