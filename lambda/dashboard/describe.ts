/**
 * What the console shows at *Get documentation*. No fenced block may be in it: CloudWatch takes the first one for the widget's parameters,
 * and there are none.
 */
export const DOCUMENTATION = `## The newest etcd backups of a cluster

Lists the newest backups that are stored: time, age, class, whether each is verified, revision, keys, size, what the last drill of it came to, and
findings. *Restore…* beside a verified backup opens the input with which the restore state machine restores that very one.

- **Verified** means: its receipt is signed by the receipt key, and the version that it proves lies in the bucket. Whatever is not that is shown as NOT verified.
- It reads lists, receipts and drill records, by version. It can neither read a snapshot nor write or start anything. No key and no value of etcd is on the page.
- It takes no parameters. Theme, width and time zone are those of the dashboard.
- Who looks at the dashboard needs \`lambda:InvokeFunction\` on this function.
`;
