import { execFile } from 'node:child_process';

/** Runs a program of the host to its end and gives its stdout. Throws with its stderr when it fails. */
export const run = (
  command: string,
  args: readonly string[],
  options: { readonly input?: string; readonly cwd?: string } = {},
): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { maxBuffer: 64 * 1024 * 1024, cwd: options.cwd },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else
          reject(
            new Error(
              `'${command} ${args.join(' ')}' failed: ${stderr.trim() === '' ? error.message : stderr.trim()}`,
              {
                cause: error,
              },
            ),
          );
      },
    );
    // A program that ends without reading its input is not an error of ours.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
  });
