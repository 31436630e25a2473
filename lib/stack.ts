import { CfnOutput, Stack, Tags } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { Backup } from './backup';
import type { Cluster } from './config';
import { Plan } from './plan';
import { Interrupted, Restore } from './restore';
import { RestoreAccess } from './restore-access';
import { PlanMachine, RestoreMachine } from './restore-machine';
import { Schedule } from './schedule';
import { Store } from './store';
import { Verify } from './verify';

export interface EtcdBackupStackProps {
  readonly cluster: Cluster;
}

/** The backup of one cluster and its restore, in the order of the flow. */
export class EtcdBackupStack extends Stack {
  constructor(scope: Construct, id: string, { cluster }: EtcdBackupStackProps) {
    super(scope, id, {
      description: `Backups of etcd of ${cluster.name}, and their restore`,
      env: {
        // Left out, they are those of the credentials that deploy.
        ...(cluster.account === undefined ? {} : { account: cluster.account }),
        ...(cluster.region === undefined ? {} : { region: cluster.region }),
      },
      terminationProtection: true,
    });
    for (const [tag, value] of Object.entries(cluster.tags)) {
      Tags.of(this).add(tag, value);
    }

    const store = new Store(this, 'Store', { cluster });
    const backup = new Backup(this, 'Backup', { cluster, store });
    new Schedule(this, 'Schedule', {
      cluster,
      target: backup.service.function,
    });
    const verify = new Verify(this, 'Verify', { cluster, store });
    const plan = new Plan(this, 'Plan', { cluster, store });
    const restore = new Restore(this, 'Restore', { cluster, store, backup });
    const services = { cluster, plan: plan.service, restore: restore.service };
    const planMachine = new PlanMachine(this, 'PlanMachine', services).stateMachine;
    const restoreMachine = new RestoreMachine(this, 'RestoreMachine', services).stateMachine;
    new Interrupted(this, 'Interrupted', { ...services, machine: restoreMachine });
    new RestoreAccess(this, 'RestoreAccess', { ...services, store, planMachine, restoreMachine });

    new CfnOutput(this, 'BackupFunctionName', { value: backup.service.function.functionName });
    new CfnOutput(this, 'VerifyFunctionName', { value: verify.service.function.functionName });
    new CfnOutput(this, 'PlanFunctionName', { value: plan.service.function.functionName });
    new CfnOutput(this, 'RestoreFunctionName', { value: restore.service.function.functionName });
    new CfnOutput(this, 'PlanMachineArn', { value: planMachine.stateMachineArn });
    new CfnOutput(this, 'RestoreMachineArn', { value: restoreMachine.stateMachineArn });
  }
}
