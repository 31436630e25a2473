import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabNode } from './nodes/lab-node';
import { run } from './nodes/run';

// Takes the commands out of a page of docs/ and types them, as the page says to whom they are: into a shell on the reader's machine, or on nodes.

/** Whom a paragraph tells to type what follows it. */
export const PLACES = ['on your machine', 'on every node', 'on one node'] as const;

/** One of PLACES. */
export type Place = (typeof PLACES)[number];

/** A fenced block of commands, with its place as the paragraph before it says it in bold, and its line in the file. */
export interface Commands {
  readonly line: number;
  readonly place: Place;
  readonly text: string;
}

/**
 * The blocks of commands between a heading (or any other line that begins so) and the next heading, in order. Throws when there is no such
 * line, no block, or a block whose paragraph does not say in bold, once, where it is typed.
 */
export const commandsOf = (page: string, beginning: string): readonly Commands[] => {
  const lines = page.split('\n');
  const from = lines.findIndex((line) => line.startsWith(beginning));
  if (from === -1) throw new Error(`the page has no line that begins with '${beginning}', expected its commands there`);
  const found: Commands[] = [];
  let paragraph = '';
  for (let at = from; at < lines.length; at++) {
    const line = lines[at] as string;
    if (at > from && /^#+ /.test(line)) break;
    const indent = /^( *)```bash$/.exec(line)?.[1];
    if (indent === undefined) {
      if (line.trim() !== '') paragraph += `${line.trim()} `;
      // The empty line before a block ends no paragraph that is about it.
      else if (!/^ *```bash$/.test(lines[at + 1] ?? '')) paragraph = '';
      continue;
    }
    const end = lines.indexOf(`${indent}\`\`\``, at);
    if (end === -1) throw new Error(`line ${String(at + 1)}: a block that never ends, expected \`\`\``);
    const places = PLACES.filter((place) => paragraph.toLowerCase().includes(`**${place}**`));
    const [place] = places;
    if (place === undefined || places.length > 1)
      throw new Error(
        `line ${String(at + 1)}: the paragraph before the commands says ${String(places.length)} places ('${paragraph.trim()}'), expected one of ${PLACES.join(', ')} in bold`,
      );
    const text = lines.slice(at + 1, end).map((each) => each.slice(indent.length));
    found.push({ line: at + 1, place, text: `${text.join('\n')}\n` });
    paragraph = '';
    at = end;
  }
  if (found.length === 0) throw new Error(`'${beginning}': got no commands, expected some`);
  return found;
};

/** The commands with the reader's values in the place of `<…>`. Throws when one of them has no value: then nobody knows what to type there. */
export const fillIn = (text: string, values: ReadonlyMap<string, string>): string =>
  text.replaceAll(/<([A-Za-z][A-Za-z0-9 -]*)>/g, (placeholder, name: string) => {
    const value = values.get(name);
    if (value === undefined)
      throw new Error(`${placeholder}: got no value for it, expected one of ${[...values.keys()].join(', ')}`);
    return value;
  });

const BLOCK_TIMEOUT_MS = 120_000;

/** A shell that somebody types into: interactive, one for all, line by line, and whatever reads its input reads what is typed next. */
export class Shell {
  private readonly child: ChildProcessWithoutNullStreams;
  private output = '';
  private blocks = 0;
  private closed = false;
  private said: () => void = () => undefined;

  /** `start` gets the words of the shell and starts them where it is. */
  constructor(
    readonly name: string,
    start: (argv: readonly string[]) => ChildProcessWithoutNullStreams,
  ) {
    // Privileged: otherwise it would become root again, whose it is (see prepareNode).
    this.child = start(['bash', '--norc', '--noprofile', '--noediting', '-p', '-i']);
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        this.said();
      });
    this.child.once('close', () => {
      this.closed = true;
      this.said();
    });
    this.child.stdin.on('error', () => undefined);
    this.child.stdin.write(
      `PS1= PS2= HISTFILE= PROMPT_COMMAND='__status=$?; [ $__status = 0 ] || echo "::failed $__status"'\nexec 2>&1\n`,
    );
  }

  /** Types the lines and gives what was printed. Throws when a command fails, the shell ends, or nothing ends for two minutes. */
  async type(text: string): Promise<string> {
    const end = `::end ${String(++this.blocks)}`;
    this.output = '';
    this.child.stdin.write(`${text}echo "${end}"\n`);
    const controller = new AbortController();
    const late = await Promise.race([
      new Promise<false>((resolve) => {
        this.said = () => {
          if (this.output.includes(`${end}\n`) || this.closed) resolve(false);
        };
        this.said();
      }),
      sleep(BLOCK_TIMEOUT_MS, true as const, { signal: controller.signal }),
    ]);
    controller.abort();
    if (late || this.closed || /^::failed/m.test(this.output))
      throw new Error(
        `typed on ${this.name}: ${late ? 'no end after two minutes' : this.closed ? 'the shell ended' : 'a command failed'}\n${text}printed:\n${this.output}`,
      );
    return this.output.slice(0, this.output.indexOf(end));
  }

  close(): void {
    if (this.child.exitCode === null && this.child.signalCode === null) process.kill(-(this.child.pid ?? 0), 'SIGKILL');
  }
}

const USER = 1000;
const HOME = '/home/operator';
// Not root, and still able to become it: the real ids stay root's, the effective ones decide what a process may. Who forgets `sudo` is refused.
const AS_USER = [
  'env',
  `HOME=${HOME}`,
  'setpriv',
  `--euid=${String(USER)}`,
  `--egid=${String(USER)}`,
  '--clear-groups',
];
// With the strictest umask there is, so that nobody counts on reading what root made.
const SUDO = `#!/bin/bash -p
umask 077
exec setpriv --euid=0 --egid=0 --keep-groups -- env -- "$@"
`;
// The lab's crictl has no exec: into the container's own root, as a runtime does it.
const CRICTL = `#!/bin/bash
if [[ $1 == exec ]]; then
  pid=$(exec -a crictl /opt/lab/bin/lab inspect "$2" | jq .info.pid) && [[ $pid =~ ^[1-9] ]] || exit
  exec nsenter --target "$pid" --mount -- "\${@:3}"
fi
exec -a crictl /opt/lab/bin/lab "$@"
`;

/** Gives a node what commands of the page need and the lab has not: sudo, crictl exec, and a user who is not root. */
export const prepareNode = async (node: LabNode): Promise<void> => {
  for (const [name, text] of [
    ['sudo', SUDO],
    ['crictl', CRICTL],
  ] as const) {
    const file = node.path(`/opt/lab/sbin/${name}`);
    await writeFile(`${file}.next`, text);
    await chmod(`${file}.next`, 0o755);
    await rename(`${file}.next`, file);
  }
  await mkdir(node.path(HOME), { recursive: true });
  await chown(node.path(HOME), USER, USER);
};

/** The user's shell on a node. */
export const nodeShell = (node: LabNode): Shell =>
  new Shell(node.name, (argv) => node.spawn([...AS_USER, 'bash', '-p', '-c', 'cd && exec "$@"', 'login', ...argv]));

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');

/** The shell of the reader's machine, in a directory of its own, with the AWS CLI (see awsCli), and with ssh and scp that reach the nodes. */
export const machineShell = async (options: {
  readonly dir: string;
  readonly nodes: readonly LabNode[];
  readonly cli: string;
  readonly env: Readonly<Record<string, string>>;
}): Promise<Shell> => {
  const { dir, nodes, cli, env } = options;
  const bin = join(dir, 'bin');
  await mkdir(bin, { recursive: true });
  const reach = `reach() {
  case $1 in
${nodes.map((node) => `  ${node.name}) enter=(${quoted(node.enter(AS_USER))}) ;;`).join('\n')}
  *) echo "ssh: Could not resolve hostname $1" >&2; exit 255 ;;
  esac
}`;
  const ssh = `#!/bin/bash
${reach}
[[ $1 == -n ]] || exit 255
reach "$2"
exec "\${enter[@]}" bash -p -c "cd; $3" </dev/null
`;
  const scp = `#!/bin/bash
${reach}
[[ $1 == -p ]] || exit 255
target=\${*: -1}
reach "\${target%%:*}"
for file in "\${@:2:$#-2}"; do
  "\${enter[@]}" bash -p -c "cd; cat >'\${target#*:}'$file && chmod $(stat -c %a "$file") '\${target#*:}'$file" <"$file" || exit
done
`;
  for (const [name, text] of [
    ['ssh', ssh],
    ['scp', scp],
  ] as const) {
    await writeFile(join(bin, name), text);
    await chmod(join(bin, name), 0o755);
  }
  return new Shell('your machine', ([command = '', ...args]) =>
    spawn(command, args, {
      cwd: dir,
      detached: true,
      env: { HOME: dir, LANG: 'C', PATH: `${bin}:${join(cli, 'bin')}:${process.env['PATH'] ?? ''}`, ...env },
      stdio: 'pipe',
    }),
  );
};

const REQUIREMENTS = join(__dirname, 'aws-cli-requirements.txt');

/**
 * Folder of a Python with the real AWS CLI in it (bin/aws), made once under ETCD_BACKUP_CACHE, all or nothing. PYTHON: another than python3.
 * Throws with pip's words when it cannot be installed.
 */
export const awsCli = async (): Promise<string> => {
  const python = process.env['PYTHON'] ?? 'python3';
  const version = (await run(python, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])).trim();
  const wanted = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 16);
  const folder = join(process.env['ETCD_BACKUP_CACHE'] ?? join(homedir(), '.cache', 'etcd-backup'), 'aws-cli');
  const made = join(folder, `${version}-${wanted}`);
  if (existsSync(made)) return made;
  await mkdir(folder, { recursive: true });
  const building = await mkdtemp(join(folder, '.building.'));
  try {
    await run(python, ['-m', 'venv', building]);
    // Each of them by its hash, and nothing that is not named.
    await run(join(building, 'bin', 'python3'), [
      ...[
        '-m',
        'pip',
        'install',
        '--quiet',
        '--no-deps',
        '--only-binary',
        ':all:',
        '--require-hashes',
        '--requirement',
      ],
      REQUIREMENTS,
    ]);
    // pip's own script names the Python of the folder that it was built in.
    await writeFile(join(building, 'bin', 'aws'), `#!/bin/sh\nexec "\${0%/*}/python3" -m awscli "$@"\n`);
    // Two at a time make the same thing: the second one finds it there.
    await rename(building, made).catch((error: unknown) => {
      if (!existsSync(made)) throw error;
    });
    return made;
  } finally {
    await rm(building, { recursive: true, force: true });
  }
};
