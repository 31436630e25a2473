import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { PHASES } from '../../lambda/restore/run';
import { ONLY_LOGGED } from '../../lambda/shared/telemetry';
import { FINDING_WORDS, findingMetric } from '../../lambda/verify/findings';

const LAMBDA = join(__dirname, '..', '..', 'lambda');
const MEASURING = ['measure', 'gauge', 'risk'];
const TIMING = ['inPhase', 'phaseDone', 'phaseFailed'];

/**
 * Names of the metrics in namespace EtcdBackup that functions emit, out of their source: what is given to `measure`, and the phases, which
 * become durations. The dashboard's own function does not count.
 */
export function emittedMetrics(): ReadonlySet<string> {
  const names = new Set<string>();
  for (const file of globSync('**/*.ts', { cwd: LAMBDA }).filter((path) => !path.startsWith('dashboard/'))) {
    const source = ts.createSourceFile(file, readFileSync(join(LAMBDA, file), 'utf8'), ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node)) {
        const called = calledName(node);
        if (MEASURING.includes(called)) {
          namesIn(node, source).forEach((name) => names.add(name));
        } else if (TIMING.includes(called)) {
          node.arguments
            .filter(ts.isStringLiteral)
            .filter(({ text }) => !ONLY_LOGGED.includes(text))
            .forEach(({ text }) => names.add(durationOf(text)));
        }
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  PHASES.forEach((phase) => names.add(durationOf(phase)));
  [...FINDING_WORDS, 'a word of another version'].forEach((word) => names.add(findingMetric(word)));
  return names;
}

function durationOf(phase: string): string {
  return `${phase.charAt(0).toUpperCase()}${phase.slice(1)}Seconds`;
}

function calledName({ expression }: ts.CallExpression): string {
  return ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText();
}

/** The literals in the first argument; where that is none, those of the table that it is taken from, or of the loop that it is in. */
function namesIn(call: ts.CallExpression, source: ts.SourceFile): string[] {
  const [first] = call.arguments;
  const direct = first === undefined ? [] : literalsIn(first);
  if (first === undefined || direct.length > 0) {
    return direct;
  }
  if (ts.isElementAccessExpression(first)) {
    const table = first.expression.getText();
    const declared = source.statements
      .filter(ts.isVariableStatement)
      .flatMap(({ declarationList }) => [...declarationList.declarations])
      .find(({ name }) => name.getText() === table);
    return declared === undefined ? [] : literalsIn(declared);
  }
  const loop = ts.findAncestor(call, ts.isForOfStatement);
  return loop === undefined ? [] : literalsIn(loop.expression);
}

function literalsIn(node: ts.Node): string[] {
  const found: string[] = [];
  const visit = (child: ts.Node): void => {
    if (ts.isStringLiteral(child)) {
      found.push(child.text);
    }
    ts.forEachChild(child, visit);
  };
  visit(node);
  return found;
}
