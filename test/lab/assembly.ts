import { join } from 'node:path';
import { labDir, synthesize } from '../../lab/start-lab';

/** Synthesizes the lab's stack once for all tests on real nodes; CDK_OUT says where it is, and may name one that is there. */
export default async function assembly(): Promise<void> {
  if (process.env['CDK_OUT'] === undefined) {
    const directory = join(labDir('tests'), 'cdk.out');
    await synthesize(directory);
    process.env['CDK_OUT'] = directory;
  }
}
