import { existsSync, readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Finds a server's binary: `<NAME>_BIN`, else the newest that lab/setup.sh built. Throws when there is neither. */
export const toolBinary = (name: 'minio' | 'versitygw'): string => {
  const variable = `${name.toUpperCase()}_BIN`;
  const given = process.env[variable];
  if (given !== undefined) {
    if (!existsSync(given)) throw new Error(`${variable} is ${given}, expected an existing file`);
    return given;
  }
  const cache = join(process.env.ETCD_BACKUP_CACHE ?? join(homedir(), '.cache', 'etcd-backup'), name);
  const built = existsSync(cache)
    ? readdirSync(cache)
        .map((version) => join(cache, version, name))
        .filter((file) => existsSync(file))
    : [];
  const newest = built.sort((left, right) => statSync(right).mtimeMs - statSync(left).mtimeMs)[0];
  if (newest === undefined)
    throw new Error(`no ${name} under ${cache}, expected one; run lab/setup.sh or set ${variable}`);
  return newest;
};
