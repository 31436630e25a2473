import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const PACKAGE = join(__dirname, '..', 'package.json');

/**
 * Where the documentation lies, ending in `docs/`: in the repository that package.json names (its field `repository`, a URL), on the branch
 * `main`; without one, the path inside the project.
 */
export function docsBase(repository = repositoryOf(readFileSync(PACKAGE, 'utf8'))): string {
  return repository === undefined ? 'docs/' : `${repository}/blob/main/docs/`;
}

/** The place in the documentation that says what to do, such as `alarms.md#no-verified-backup`. */
export function runbook(section: string): string {
  return `${docsBase()}${section}`;
}

/** The https URL of the repository in a package.json, without `git+` and `.git`; undefined when it names none. */
export function repositoryOf(packageJson: string): string | undefined {
  const { repository } = JSON.parse(packageJson) as { readonly repository?: string | { readonly url?: string } };
  const url = typeof repository === 'string' ? repository : repository?.url;
  return /^(?:git\+)?(https:\/\/[^#?\s]+?)(?:\.git)?\/?$/.exec(url ?? '')?.[1];
}
