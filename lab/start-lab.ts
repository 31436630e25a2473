import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { startAws, type AwsOptions, type FleetNode, type LabAws } from './aws/aws';
import { CLUSTER, STACK_NAME } from './cluster';
import { startControlPlane, type ControlPlane, type ControlPlaneOptions } from './nodes/control-plane';
import type { LabNode } from './nodes/lab-node';
import { run } from './nodes/run';

// The first agent that gives parameters as environment is 3.3.2746.0.
const AGENT_VERSION = '3.3.3050.0';

/** What the whole lab can be: its control plane's options, and the AWS side's. */
export interface LabOptions extends Omit<ControlPlaneOptions, 'persist'> {
  /**
   * Folder of a cloud assembly with the stack `etcd-backup-lab`.
   *
   * @default - lab/app.ts is synthesized
   */
  readonly cdkOut?: string;

  /** Options of the AWS side but for those that the lab itself knows. */
  readonly aws?: Partial<Omit<AwsOptions, 'dir' | 'cdkOut' | 'stackName' | 'nodes'>>;

  /**
   * Gets a sentence before each step that takes a while.
   *
   * @default - nothing is said
   */
  readonly onProgress?: (sentence: string) => void;
}

/** The lab that is up: real nodes, and the synthesized stack on the AWS side. */
export interface Lab {
  readonly dir: string;
  readonly controlPlane: ControlPlane;
  readonly aws: LabAws;
  /** The nodes as EC2 and SSM see them, in the order of `controlPlane.nodes`. */
  readonly fleet: readonly FleetNode[];
  /** Ends everything and removes the directory. */
  down(): Promise<void>;
}

/** Directory of a lab by its name. */
export const labDir = (name = 'lab'): string => join(__dirname, '..', '.lab', name);

/** Directory of a lab's control plane, for attachControlPlane. */
export const controlPlaneDir = (dir = labDir()): string => join(dir, 'control-plane');

/** Synthesizes the lab's stack into `directory`. Throws with the CDK's words when it cannot. */
export const synthesize = async (directory: string): Promise<void> => {
  const root = join(__dirname, '..');
  const bin = join(root, 'node_modules', '.bin');
  await run(
    join(bin, 'cdk'),
    [
      'synth',
      '--quiet',
      '--no-version-reporting',
      '--app',
      `${join(bin, 'tsx')} ${join(__dirname, 'app.ts')}`,
      '--output',
      directory,
    ],
    {
      cwd: root,
    },
  );
};

/** A node as EC2 and SSM see it, with the tags by which the lab's cluster is found. */
export const fleetNode = (node: LabNode): FleetNode => ({
  instanceId: node.instanceId,
  privateIp: node.ip,
  privateDnsName: node.privateDnsName,
  arch: node.arch === 'arm64' ? 'arm64' : 'x86_64',
  tags: { ...CLUSTER.controlPlaneTags, Name: node.name },
  agentVersion: AGENT_VERSION,
  pingStatus: 'Online',
  spawn: (argv, options) => node.spawn(argv, options),
});

/** Brings up control plane and AWS side. It lives as long as this process. Throws, and takes down what was up, when a part does not come up. */
export const startLab = async (options: LabOptions = {}): Promise<Lab> => {
  const { cdkOut, aws: awsOptions, onProgress = () => undefined, ...nodes } = options;
  const dir = resolve(options.dir ?? labDir(options.name));
  onProgress(
    `starting ${String(options.members ?? 3)} control-plane nodes with etcd ${options.etcd ?? '3.6'} (10 to 20 s)`,
  );
  const controlPlane = await startControlPlane({ ...nodes, dir: controlPlaneDir(dir) });
  let aws: LabAws | undefined;
  const down = async (): Promise<void> => {
    await aws?.stop();
    await controlPlane.down();
    await rm(dir, { recursive: true, force: true });
  };
  try {
    const assembly = cdkOut ?? join(dir, 'cdk.out');
    if (cdkOut === undefined) {
      onProgress('synthesizing the stack (5 to 20 s)');
      await synthesize(assembly);
    }
    onProgress(`bringing up the stack ${STACK_NAME}: S3 (MinIO), KMS, SSM, EC2, Lambda, Step Functions, Scheduler`);
    await mkdir(join(dir, 'aws'), { recursive: true, mode: 0o700 });
    const fleet = controlPlane.nodes.map(fleetNode);
    aws = await startAws({
      ...awsOptions,
      dir: join(dir, 'aws'),
      cdkOut: assembly,
      stackName: STACK_NAME,
      nodes: fleet,
    });
    // S3 is all that a node ever talks to.
    for (const node of controlPlane.nodes) await node.forward(Number(new URL(aws.endpoints.s3).port));
    return { dir, controlPlane, aws, fleet, down };
  } catch (error) {
    await down();
    throw error;
  }
};
