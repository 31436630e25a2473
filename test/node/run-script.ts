import { scriptLines } from '../../lib/script-document';
import type { LabNode } from '../../lab/nodes/lab-node';

/** What a script said: its one line, its exit status, and everything it wrote to stderr. */
export interface ScriptOutcome {
  readonly code: number | null;
  readonly result: Record<string, unknown>;
  readonly stdout: string;
  readonly stderr: string;
}

export const BACKUP_ID = '20261120T140000Z';

const DEFAULTS: Record<string, Readonly<Record<string, string>>> = {
  snapshot: {
    BackupId: BACKUP_ID,
    ClusterName: 'lab',
    MembersBefore: '0',
    ToolPins: '',
    ToolUrls: '',
    DiskLimitPercent: '95',
    RestoreId: '',
  },
  upload: { BackupId: BACKUP_ID, Url: 'http://127.0.0.1:1/', Headers: 'if-none-match: *', RestoreId: '' },
  tools: {
    BackupId: BACKUP_ID,
    Uploads: `etcd=${'0'.repeat(64)}=http://127.0.0.1:1/`,
    Headers: 'if-none-match: *',
  },
};

/** The text of a script as its SSM document has it. */
export function scriptText(script: 'snapshot' | 'upload' | 'tools'): string {
  return `${scriptLines(script).join('\n')}\n`;
}

/** Environment that the SSM agent would give a script. */
export function scriptEnvironment(
  script: 'snapshot' | 'upload' | 'tools',
  parameters: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const all = { ...DEFAULTS[script], ...parameters };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [`SSM_${name}`, value]));
}

/** Runs a script on a node as the agent does. A `wrap` is put before `bash` (for instance `setpriv`). */
export async function runScript(
  node: LabNode,
  script: 'snapshot' | 'upload' | 'tools',
  options: {
    parameters?: Readonly<Record<string, string>>;
    environment?: Record<string, string>;
    wrap?: string[];
  } = {},
): Promise<ScriptOutcome> {
  const { code, stdout, stderr } = await node.exec([...(options.wrap ?? []), 'bash', '-c', scriptText(script)], {
    env: { ...options.environment, ...scriptEnvironment(script, options.parameters) },
    timeoutMs: 120_000,
  });
  const lines = stdout.trimEnd().split('\n');
  if (lines.length !== 1) {
    throw new Error(`got ${String(lines.length)} lines on stdout, expected exactly one: ${stdout}\n${stderr}`);
  }
  return { code, result: JSON.parse(stdout) as Record<string, unknown>, stdout, stderr };
}
