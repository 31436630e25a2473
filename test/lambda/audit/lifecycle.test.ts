import type { LifecycleRule } from '@aws-sdk/client-s3';
import { lifecycleRisks } from '../../../lambda/audit/lifecycle';
import { EXPIRY, lifecycleRules } from './world';

const tagged = (retention: string, rule: Partial<LifecycleRule>): LifecycleRule => ({
  ID: 'mine',
  Status: 'Enabled',
  Filter: { And: { Prefix: 'snapshots/', Tags: [{ Key: 'retention', Value: retention }] } },
  ...rule,
});
const everything = (rule: Partial<LifecycleRule>): LifecycleRule => ({
  ID: 'mine',
  Status: 'Enabled',
  Filter: {},
  ...rule,
});
const without = (id: string) => lifecycleRules().filter(({ ID }) => ID !== id);

test('the stack’s own rules are as expected', () => {
  expect(lifecycleRisks(lifecycleRules(), EXPIRY)).toEqual([]);
});

describe('nothing is wrong with', () => {
  test.each<[string, LifecycleRule]>([
    ['a rule that is switched off', everything({ Status: 'Disabled', Expiration: { Days: 1 } })],
    ['a rule that only moves objects', everything({ Transitions: [{ Days: 30, StorageClass: 'STANDARD_IA' }] })],
    [
      'a rule for objects with another tag',
      { ...everything({ Expiration: { Days: 1 } }), Filter: { Tag: { Key: 'team', Value: 'a' } } },
    ],
    ['a rule for another prefix', { ...everything({ Expiration: { Days: 1 } }), Filter: { Prefix: 'other/' } }],
    ['a rule that keeps for longer, beside the stack’s', tagged('hourly', { Expiration: { Days: 30 } })],
    [
      'a rule for bundles that carry a tag, of which there are none',
      tagged('hourly', {
        Filter: { And: { Prefix: 'pki/', Tags: [{ Key: 'retention', Value: 'hourly' }] } },
        Expiration: { Days: 1 },
      }),
    ],
  ])('%s', (_what, rule) => {
    expect(lifecycleRisks([...lifecycleRules(), rule], EXPIRY)).toEqual([]);
  });

  test('rules of one tag and no prefix', () => {
    const rules = lifecycleRules().map((rule) =>
      rule.Filter?.And?.Tags?.[0] === undefined ? rule : { ...rule, Filter: { Tag: rule.Filter.And.Tags[0] } },
    );
    expect(lifecycleRisks(rules, EXPIRY)).toEqual([]);
  });
});

describe('the rules are at risk', () => {
  test.each<[string, LifecycleRule[], RegExp[]]>([
    [
      'when one expires the newest verified backup',
      [...lifecycleRules(), tagged('latest', { Expiration: { Days: 400 } })],
      [/the rule mine expires the newest verified backup/],
    ],
    [
      'when one removes what was under a delete marker over it',
      [...lifecycleRules(), tagged('latest', { NoncurrentVersionExpiration: { NoncurrentDays: 1 } })],
      [/the rule mine expires the newest verified backup/],
    ],
    [
      'when one expires everything',
      [...lifecycleRules(), everything({ Expiration: { Days: 1000 } })],
      [/newest verified backup/, /expires receipts\//, /expires tools\//, /expires restores\//, /expires drills\//],
    ],
    [
      'when one expires all snapshots on a date',
      [
        ...lifecycleRules(),
        { ...everything({ Expiration: { Date: new Date('2027-01-01T00:00:00Z') } }), Filter: { Prefix: 'snap' } },
      ],
      [
        /newest verified backup/,
        ...Object.keys(EXPIRY.days).map((tag) => new RegExp(`what is ${tag} expires on a date`)),
      ],
    ],
    [
      'when one expires receipts, by the old form of a prefix',
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- what S3 still takes, it also gives back
      [...lifecycleRules(), { ID: 'old', Status: 'Enabled', Prefix: 'receipts/2026', Expiration: { Days: 1 } }],
      [/the rule old expires receipts\//],
    ],
    [
      'when one expires PKI bundles too early',
      [...lifecycleRules(), { ...everything({ Expiration: { Days: 1 } }), Filter: { Prefix: 'pki/' } }],
      [/what is under pki\/ expires after 1 days, expected 221/],
    ],
    [
      'when one expires everything early that has no tag',
      [...lifecycleRules(), { ...everything({ Expiration: { Days: 1 } }), Filter: { ObjectSizeGreaterThan: 1 } }],
      [
        /newest verified backup/,
        ...['receipts', 'tools', 'restores', 'drills'].map((prefix) => new RegExp(`expires ${prefix}/`)),
        ...Object.keys(EXPIRY.days).map((tag) => new RegExp(`what is ${tag} expires after 1 days`)),
        /what is under announcements\/ expires after 1 days, expected 35/,
        /what is under pki\/ expires after 1 days, expected 221/,
      ],
    ],
    [
      'when the rule of announcements is another',
      [
        ...without('announcements'),
        { ...everything({ Expiration: { Days: 20 } }), Filter: { Prefix: 'announcements/' } },
      ],
      [
        /what is under announcements\/ expires after 20 days, expected 35/,
        /what is under announcements\/ is removed, once it has expired, after no time at all: no rule does it, expected 7/,
      ],
    ],
    [
      'when the rule of PKI bundles is gone',
      without('pki'),
      [/what is under pki\/ expires after no time at all: no rule does it, expected 221/, /pki\/ is removed.* no rule/],
    ],
    [
      'when what expired of PKI bundles is gone early',
      [
        ...lifecycleRules(),
        {
          ...everything({ NoncurrentVersionExpiration: { NoncurrentDays: 1 } }),
          Filter: { And: { Prefix: 'pki/2026', ObjectSizeLessThan: 1_000_000 } },
        },
      ],
      [/what is under pki\/ is removed, once it has expired, after 1 days, expected 7/],
    ],
    [
      'when one expires PKI bundles on a date',
      [
        ...lifecycleRules(),
        { ...everything({ Expiration: { Date: new Date('2027-01-01T00:00:00Z') } }), Filter: { Prefix: 'pki/' } },
      ],
      [/what is under pki\/ expires on a date, expected after 221 days/],
    ],
    [
      'when a class expires too early',
      [...lifecycleRules(), tagged('monthly', { Expiration: { Days: 7 } })],
      [/what is monthly expires after 7 days, expected 186/],
    ],
    [
      'when a class is gone early once it has expired',
      [...lifecycleRules(), tagged('weekly', { NoncurrentVersionExpiration: { NoncurrentDays: 1 } })],
      [/what is weekly is removed, once it has expired, after 1 days, expected 7/],
    ],
    [
      'when a rule is missing, so that nothing of it ever expires',
      without('snapshots-hourly'),
      [
        /what is hourly expires after no time at all: no rule does it, expected 2/,
        /what is hourly is removed.* no rule/,
      ],
    ],
    [
      'when a rule is switched off',
      [...without('snapshots-failed'), tagged('failed', { Status: 'Disabled', Expiration: { Days: 7 } })],
      [/what is failed expires after no time/, /what is failed is removed/],
    ],
  ])('%s', (_what, rules, sentences) => {
    expect(lifecycleRisks(rules, EXPIRY)).toEqual(
      sentences.map((sentence) => expect.stringMatching(sentence) as unknown),
    );
  });

  test('when there are none', () => {
    const { days, prefixDays } = EXPIRY;
    expect(lifecycleRisks([], EXPIRY)).toHaveLength(2 * Object.keys({ ...days, ...prefixDays }).length);
  });
});
