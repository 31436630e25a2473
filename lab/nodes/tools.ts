import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The etcd minors that the lab can run. */
export const ETCD_MINORS = ['3.5', '3.6', '3.7'] as const;

/** One of the etcd minors that the lab can run. */
export type EtcdMinor = (typeof ETCD_MINORS)[number];

/** An etcd that lab/setup.sh built, downloaded, or was pointed to. */
export interface EtcdTools {
  readonly version: string;
  readonly etcd: string;
  readonly etcdctl: string;
  readonly etcdutl: string;
}

const GO = join(__dirname, '..', 'go');

const cacheDir = (): string => process.env.ETCD_BACKUP_CACHE ?? join(homedir(), '.cache', 'etcd-backup');

const existing = (file: string): string => {
  if (!existsSync(file)) throw new Error(`${file} does not exist, expected a tool of the lab; run 'bash lab/setup.sh'`);
  return file;
};

/** The version of an etcd minor that lab/go pins, for example 3.6.16. */
export const etcdVersion = (minor: EtcdMinor): string => {
  const file = join(GO, `etcd-${minor}`, 'go.mod');
  const version = /go\.etcd\.io\/etcd\/server\/v3 v(\S+)/.exec(readFileSync(file, 'utf8'))?.[1];
  if (version === undefined) throw new Error(`${file} names no go.etcd.io/etcd/server/v3, expected its pinned version`);
  return version;
};

const etcdDir = (minor: EtcdMinor): string =>
  process.env[`ETCD_${minor.replace('.', '_')}_BIN`] ?? join(cacheDir(), `etcd-${minor}`, etcdVersion(minor));

/** The etcd minors that were set up. */
export const etcdMinorsHere = (): EtcdMinor[] => ETCD_MINORS.filter((minor) => existsSync(etcdDir(minor)));

/** Finds an etcd: the directory in ETCD_3_6_BIN (and the like), else what lab/setup.sh put into the cache. Throws when there is none. */
export const etcdTools = (minor: EtcdMinor): EtcdTools => {
  const dir = etcdDir(minor);
  return {
    version: etcdVersion(minor),
    etcd: existing(join(dir, 'etcd')),
    etcdctl: existing(join(dir, 'etcdctl')),
    etcdutl: existing(join(dir, 'etcdutl')),
  };
};

/**
 * Finds etcd 3.4, which has no etcdutl: the directory in ETCD_3_4_BIN, else what lab/setup.sh put into the cache. No node of the lab runs it;
 * its snapshots are only read. Throws when there is none.
 */
export const etcd34Tools = (): Omit<EtcdTools, 'etcdutl'> => {
  const cached = existing(process.env.ETCD_3_4_BIN ?? join(cacheDir(), 'etcd-3.4'));
  const version =
    process.env.ETCD_3_4_BIN === undefined
      ? readdirSync(cached)
          .filter((name) => /^3\.4\./.test(name))
          .sort()
          .at(-1)
      : '3.4';
  if (version === undefined)
    throw new Error(`${cached} holds no etcd 3.4, expected one; run 'bash lab/setup.sh etcd-3.4'`);
  const dir = process.env.ETCD_3_4_BIN ?? join(cached, version);
  return { version, etcd: existing(join(dir, 'etcd')), etcdctl: existing(join(dir, 'etcdctl')) };
};

/** Finds the lab's own program, built from exactly the sources that lie in lab/go/lab. Throws when it was not built. */
export const labBinary = (): string => {
  const dir = join(GO, 'lab');
  const files = globSync(['**/*.go', 'go.mod', 'go.sum'], { cwd: dir }).sort();
  const hash = createHash('sha256');
  // The same as lab/setup.sh computes: names and contents, in byte order of the names.
  for (const file of files) hash.update(`${file}\n`).update(readFileSync(join(dir, file)));
  return existing(join(cacheDir(), 'lab', hash.digest('hex').slice(0, 16), 'lab'));
};
