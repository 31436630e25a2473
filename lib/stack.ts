import { CfnOutput, Stack, Tags } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { Alarms } from './alarms';
import { Audit } from './audit';
import { Backup } from './backup';
import type { Cluster } from './config';
import { Dashboard } from './dashboard';
import { Drill } from './drill';
import { Notify } from './notify';
import { Pki } from './pki';
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

/** The backup of one cluster, its restore, and what watches both, in the order of the flow. */
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
      // CloudFormation takes 1,000,000 bytes, and the scripts of the documents are most of them.
      suppressTemplateIndentation: true,
    });
    for (const [tag, value] of Object.entries(cluster.tags)) {
      Tags.of(this).add(tag, value);
    }

    const store = new Store(this, 'Store', { cluster });
    const backup = new Backup(this, 'Backup', { cluster, store });
    const schedule = new Schedule(this, 'Schedule', {
      cluster,
      target: backup.service.function,
    });
    const verify = new Verify(this, 'Verify', { cluster, store });
    const plan = new Plan(this, 'Plan', { cluster, store });
    const restore = new Restore(this, 'Restore', { cluster, store, backup });
    const services = { cluster, plan: plan.service, restore: restore.service };
    const planMachine = new PlanMachine(this, 'PlanMachine', services).stateMachine;
    const restoreMachine = new RestoreMachine(this, 'RestoreMachine', services).stateMachine;
    const interrupted = new Interrupted(this, 'Interrupted', { ...services, machine: restoreMachine });
    new RestoreAccess(this, 'RestoreAccess', { ...services, store, planMachine, restoreMachine });
    const drill = new Drill(this, 'Drill', { cluster, store });
    const pki = cluster.pkiBundle ? new Pki(this, 'Pki', { cluster, store }) : undefined;
    const schedules = [schedule.schedule, drill.schedule, ...(pki === undefined ? [] : [pki.schedule])];
    const notify = new Notify(this, 'Notify', { cluster, store, planMachine, restoreMachine });
    const audit = new Audit(this, 'Audit', { cluster, store, verify, restoreMachine, notify, schedules });
    const watched = { schedule, backup, verify, plan, restore, interrupted, restoreMachine, drill, audit };
    const bundles = pki === undefined ? {} : { pki };
    const alarms = new Alarms(this, 'Alarms', { cluster, notify, store, ...watched, ...bundles });
    new Dashboard(this, 'Dashboard', { cluster, store, planMachine, restoreMachine, alarms });

    new CfnOutput(this, 'BackupFunctionName', { value: backup.service.function.functionName });
    new CfnOutput(this, 'VerifyFunctionName', { value: verify.service.function.functionName });
    new CfnOutput(this, 'PlanFunctionName', { value: plan.service.function.functionName });
    new CfnOutput(this, 'RestoreFunctionName', { value: restore.service.function.functionName });
    new CfnOutput(this, 'DrillFunctionName', { value: drill.service.function.functionName });
    new CfnOutput(this, 'DrillRunFunctionName', { value: drill.run.function.functionName });
    new CfnOutput(this, 'AuditFunctionName', { value: audit.service.function.functionName });
    new CfnOutput(this, 'PlanMachineArn', { value: planMachine.stateMachineArn });
    new CfnOutput(this, 'RestoreMachineArn', { value: restoreMachine.stateMachineArn });
  }
}
