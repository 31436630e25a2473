import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type MachineDefinition, picturePage, restoreDefinition } from '../../bin/picture';
import { exampleTemplate } from '../lib/example-stack';

const SMALL: MachineDefinition = {
  StartAt: 'Look',
  States: {
    Undo: { Type: 'Task', Comment: 'Undoes it', Next: 'Failed', Catch: [{ Next: 'Failed' }] },
    Look: { Type: 'Task', Comment: 'Looks | around', Next: 'LookDone?', Catch: [{ Next: 'Undo' }, { Next: 'Undo' }] },
    'LookDone?': {
      Type: 'Choice',
      Choices: [
        { Variable: '$.step.done', Next: 'Look' },
        { Variable: '$.step.ok', Next: 'What?' },
      ],
      Default: 'Undo',
    },
    'What?': {
      Type: 'Choice',
      Comment: 'What was asked',
      Choices: [{ Variable: '$.mode', Next: 'Done' }],
      Default: 'Undo',
    },
    Done: { Type: 'Succeed', Comment: 'All is well' },
    Failed: { Type: 'Fail', Comment: 'Nothing is' },
  },
};

describe('the picture of a machine', () => {
  test('shows a task and its wait as one, with a thick arrow for the good way and a dotted one for the other', () => {
    expect(picturePage(SMALL)).toContain(
      [
        '```mermaid',
        'flowchart TD',
        '  Look[Look]',
        '  WhatChoice{"What?"}',
        '  Undo[Undo]',
        '  Failed[[Failed]]',
        '  Done([Done])',
        '  Look ==> WhatChoice',
        '  Look -.-> Undo',
        '  WhatChoice ==> Done',
        '  WhatChoice ==> Undo',
        '  Undo ==> Failed',
        '```',
      ].join('\n'),
    );
  });

  test('has every state’s own words in a table', () => {
    expect(picturePage(SMALL)).toContain('| `Look` | Looks \\| around |');
  });

  test('in docs/restore-machine.md is that of the definition which is deployed; else run npm run picture', () => {
    const page = readFileSync(join(__dirname, '..', '..', 'docs', 'restore-machine.md'), 'utf8');
    expect(page).toBe(picturePage(restoreDefinition(exampleTemplate())));
  });

  test('throws when the template has no such machine', () => {
    expect(() => restoreDefinition({ Resources: {} })).toThrow('definition of RestoreMachine: got none');
  });
});
