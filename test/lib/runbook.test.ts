import { docsBase, repositoryOf, runbook } from '../../lib/runbook';

test.each([
  ['{}', undefined],
  ['{"repository":"https://github.com/a/b"}', 'https://github.com/a/b'],
  ['{"repository":"https://github.com/a/b/"}', 'https://github.com/a/b'],
  ['{"repository":{"type":"git","url":"git+https://github.com/a/b.git"}}', 'https://github.com/a/b'],
  ['{"repository":"git@github.com:a/b.git"}', undefined],
  ['{"repository":{"url":"https://exa mple.com"}}', undefined],
])('the repository in %s is %s', (json, url) => {
  expect(repositoryOf(json)).toBe(url);
});

test('the runbook is a page of the repository, or a path where the package names none', () => {
  expect(docsBase('https://github.com/a/b')).toBe('https://github.com/a/b/blob/main/docs/');
  expect(docsBase(undefined)).toMatch(/docs\/$/);
  expect(runbook('alarms.md#key-at-risk')).toMatch(/docs\/alarms\.md#key-at-risk$/);
});
