import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterExitCode, EXIT_CODES } from '../../../lambda/shared/exit-codes';

const read = (path: string) => readFileSync(join(__dirname, '..', '..', '..', path), 'utf8');

test('the codes are those of node/contract.sh', () => {
  const inContract = [...read('node/contract.sh').matchAll(/\bEXIT_([A-Z0-9_]+)=(\d+)/g)].map(([, name, code]) => ({
    code: Number(code),
    name: name?.toLowerCase().replaceAll('_', '-'),
  }));
  expect(inContract.length).toBeGreaterThan(30);
  expect(EXIT_CODES.map(({ code, name }) => ({ code, name }))).toEqual(inContract);
});

test('codes, names and what follows are those of docs/exit-codes.md', () => {
  const inDocs = [...read('docs/exit-codes.md').matchAll(/^\| (\d+) \| `([a-z-]+)` \|[^|]*\|[^|]*\| ([^|]*) \|/gm)].map(
    ([, code, name, then]) => ({
      code: Number(code),
      name,
      then: then?.startsWith('success if equal') === true ? 'compare' : then,
    }),
  );
  expect(EXIT_CODES).toEqual(inDocs);
});

test('no code is one that SSM reads as something else', () => {
  expect(EXIT_CODES.every(({ code }) => code >= 1 && code <= 99)).toBe(true);
});

test('an unknown code says nothing about other nodes', () => {
  expect(afterExitCode(98)).toBe('next node');
});
