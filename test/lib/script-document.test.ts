import { App, Aws, Duration, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ScriptDocument, scriptLines, type ScriptParameter } from '../../lib/script-document';

const CONTRACT = '#!/bin/bash\n# the contract\nset -Eeuo pipefail\n';
const SCRIPT = '#!/bin/bash\nsource "$(dirname "$0")/contract.sh"\nmain() {\n  echo "$SSM_BackupId"\n}\nmain\n';
const BACKUP_ID: ScriptParameter = {
  description: 'Id of the backup',
  allowedPattern: '^[0-9]{8}T[0-9]{6}Z$',
  maxChars: 16,
};

let scriptDir = '';
beforeEach(() => {
  scriptDir = mkdtempSync(join(tmpdir(), 'etcd-backup-scripts-'));
  write({ 'contract.sh': CONTRACT, 'snapshot.sh': SCRIPT });
});
afterEach(() => {
  rmSync(scriptDir, { recursive: true });
});

function write(files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(scriptDir, name), content);
  }
}

function synthesize(parameters: Record<string, ScriptParameter> = { BackupId: BACKUP_ID }) {
  const stack = new Stack(new App(), 'test');
  const document = new ScriptDocument(stack, 'Snapshot', {
    script: 'snapshot',
    description: 'Takes a snapshot',
    timeout: Duration.minutes(40),
    parameters,
    scriptDir,
  });
  return { document, stack, template: Template.fromStack(stack) };
}

describe('a script document', () => {
  test('is a command of one bash step for Linux', () => {
    synthesize().template.hasResourceProperties('AWS::SSM::Document', {
      DocumentType: 'Command',
      DocumentFormat: 'JSON',
      TargetType: '/AWS::EC2::Instance',
      UpdateMethod: 'Replace',
      Content: {
        schemaVersion: '2.2',
        description: 'Takes a snapshot',
        parameters: {
          BackupId: {
            type: 'String',
            interpolationType: 'ENV_VAR',
            description: 'Id of the backup',
            allowedPattern: '^[0-9]{8}T[0-9]{6}Z$',
            maxChars: 16,
          },
        },
        mainSteps: [
          {
            action: 'aws:runShellScript',
            name: 'Snapshot',
            precondition: { StringEquals: ['platformType', 'Linux'] },
            inputs: {
              timeoutSeconds: '2400',
              runCommand: ['#!/bin/bash', 'set -Eeuo pipefail', 'main() {', 'echo "$SSM_BackupId"', '}', 'main'],
            },
          },
        ],
      },
    });
  });

  test('has no fixed name, so that new content gets a new name whose version 1 it is', () => {
    const { document, template } = synthesize();
    expect(Object.values(template.findResources('AWS::SSM::Document'))[0]).not.toHaveProperty('Properties.Name');
    expect(document.documentVersion).toBe('1');
  });

  test('has an ARN of this account and region', () => {
    const { document, stack } = synthesize();
    expect(JSON.stringify(stack.resolve(document.documentArn))).toContain(':document/');
  });

  test.each([
    [
      'the script has no #!/bin/bash',
      { 'snapshot.sh': 'echo\n' },
      "first line of snapshot.sh: got 'echo', expected '#!/bin/bash'",
    ],
    [
      'the contract is for another shell',
      { 'contract.sh': '#!/bin/sh\n' },
      "first line of contract.sh: got '#!/bin/sh', expected '#!/bin/bash'",
    ],
    [
      'the script does not source the contract',
      { 'snapshot.sh': '#!/bin/bash\nmain\n' },
      'lines of snapshot.sh that source contract.sh: got 0, expected exactly 1',
    ],
    [
      'the script sources its contract twice',
      { 'snapshot.sh': SCRIPT.replace('main()', 'source "$(dirname "$0")/contract.sh"\nmain()') },
      'lines of snapshot.sh that source contract.sh: got 2, expected exactly 1',
    ],
    [
      'something comes before the contract',
      { 'etcd.sh': '#!/bin/bash\n', 'snapshot.sh': SCRIPT.replace('source', '. ./etcd.sh\nsource') },
      'first file that snapshot.sh sources: got etcd.sh, expected contract.sh',
    ],
    [
      'what it sources is for another shell',
      { 'etcd.sh': '#!/bin/sh\n', 'snapshot.sh': SCRIPT.replace('main()', '. ./etcd.sh\nmain()') },
      "first line of etcd.sh: got '#!/bin/sh', expected '#!/bin/bash'",
    ],
    [
      'what it sources sources something itself',
      {
        'etcd.sh': '#!/bin/bash\nsource "$(dirname "$0")/tools.sh"\n',
        'snapshot.sh': SCRIPT.replace('main()', '. ./etcd.sh\nmain()'),
      },
      'what etcd.sh sources: got tools.sh, expected nothing; source it in snapshot.sh itself',
    ],
    [
      'SSM would replace something in the script',
      { 'snapshot.sh': `${SCRIPT}echo '{{ global:DATE }}'\n` },
      "line 8 of contract.sh + snapshot.sh: got 'echo '{{ global:DATE }}'', expected no '{{', which SSM would replace",
    ],
    [
      'a line of the script may look like a comment and be none',
      { 'snapshot.sh': `${SCRIPT}cat <<'END'\n# kept\nEND\n` },
      "line 8 of contract.sh + snapshot.sh: got 'cat <<'END'', expected no here-document",
    ],
    [
      'the document with its parameters is over 64 KB',
      { 'snapshot.sh': `${SCRIPT}: ${'x'.repeat(65_500)}\n` },
      /^size of snapshot: got \d+ bytes of document and up to 24 of parameters, expected at most 65536 together$/,
    ],
  ])('throws when %s', (_what, files, message) => {
    write(files);
    expect(() => synthesize()).toThrow(message);
  });

  test('leaves comments and empty lines out, and nothing else that has a #', () => {
    write({ 'snapshot.sh': `${SCRIPT}  # why\n\necho "\${#SSM_BackupId}" # beside code\n` });
    const [document] = Object.values(synthesize().template.findResources('AWS::SSM::Document'));
    const { Content } = document?.['Properties'] as { Content: { mainSteps: { inputs: { runCommand: string[] } }[] } };
    expect(Content.mainSteps[0]?.inputs.runCommand.slice(-2)).toEqual([
      'main',
      'echo "${#SSM_BackupId}" # beside code',
    ]);
  });

  test('is all files that the script sources, in that order, then the script, each behind one #!/bin/bash', () => {
    write({
      'contract.sh': `${CONTRACT}one() {\n  :\n}\n`,
      'etcd.sh': '#!/bin/bash\ntwo() {\n  one\n}\n',
      'snapshot.sh': SCRIPT.replace('main()', 'source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"\nmain()').replace(
        'echo',
        'two; echo',
      ),
    });
    expect(scriptLines('snapshot', scriptDir)).toEqual([
      '#!/bin/bash',
      'set -Eeuo pipefail',
      'one() {',
      ':',
      '}',
      'two() {',
      'one',
      '}',
      'main() {',
      'two; echo "$SSM_BackupId"',
      '}',
      'main',
    ]);
  });

  test('leaves functions out that nothing names which runs, also when one such names another', () => {
    write({
      'contract.sh': `${CONTRACT}used() {\n  :\n}\nby_trap() (\n  :\n)\nunused() {\n  used_by_unused\n}\nused_by_unused() {\n  unused\n}\ntrap by_trap EXIT\n`,
      'snapshot.sh': SCRIPT.replace('echo', 'used; echo'),
    });
    const lines = scriptLines('snapshot', scriptDir);
    expect(lines.filter((line) => line.includes('used') || line.includes('by_trap'))).toEqual([
      'used() {',
      'by_trap() (',
      'trap by_trap EXIT',
      'used; echo "$SSM_BackupId"',
    ]);
  });

  test('counts the name of a bucket, which is known only when the stack is deployed, as the longest that there may be', () => {
    const unknown = (times: number) => `^${Aws.REGION.repeat(times)}$`;
    const room = { ...BACKUP_ID, maxChars: 64_000 };
    expect(() => synthesize({ Name: { ...room, allowedPattern: unknown(1) } })).not.toThrow();
    expect(() => synthesize({ Name: { ...room, allowedPattern: unknown(20) } })).toThrow(
      /size of snapshot: got \d{4} bytes/,
    );
  });

  test('counts what a call may pass towards the 64 KB', () => {
    const large = { ...BACKUP_ID, allowedPattern: '^[a-z]+$', maxChars: 65_500 };
    expect(() => synthesize({ Large: large })).toThrow(/up to 65505 of parameters/);
  });

  test.each([
    ['a look-ahead', '^(?!x)[a-z]+$', "expected one without '(?'"],
    ['a back-reference', '^([a-z])\\1$', "expected one without '\\1'"],
    ['a possessive repeat', '^[a-z]++$', "expected one without '++'"],
    ['more than 1000 repeats', '^[a-z]{1,8000}$', 'got {1,8000}, expected at most 1000 repeats'],
    ['no anchors', '[a-z]+', 'expected one from ^ to $'],
  ])('throws for a pattern with %s, which Java or RE2 reads otherwise', (_what, allowedPattern, message) => {
    expect(() => synthesize({ Name: { ...BACKUP_ID, allowedPattern } })).toThrow(message);
  });

  test.each([
    ['does not match its pattern', 'now'],
    ['is longer than its limit', '20261120T140000Z20261120T140000Z'],
  ])('throws for a default that %s', (_what, value) => {
    const parameter = { ...BACKUP_ID, allowedPattern: '^[0-9TZ]+$', default: value };
    expect(() => synthesize({ BackupId: parameter })).toThrow(`default of BackupId: got '${value}'`);
  });
});
