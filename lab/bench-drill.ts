import { GetObjectCommand } from '@aws-sdk/client-s3';
import { parseArgs } from 'node:util';
import { type DrillRecord, readDrillRecord } from '../lambda/shared/drill-record';
import { s3Client } from './aws/s3';
import { median, megabytes } from './measure';
import { loadData } from './nodes/load';
import { output, prove } from './restores';
import { startLab } from './start-lab';

// `npm run bench:drill -- --sizes 50MB,1000MB --rounds 3`: seconds by phase, memory and disk of a drill, by the real functions in the lab. What Lambda's network
// and processors make of it is another matter: a function gets 625 Mbit/s, so 1 GB takes at least 13 s to download.

const say = (line: string): void => {
  console.log(`${new Date().toISOString().slice(11, 19)}  ${line}`);
};

const PHASES = ['download', 'restore', 'boot', 'read', 'total'] as const;

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: { sizes: { type: 'string', default: '50MB,1000MB' }, rounds: { type: 'string', default: '3' } },
  });
  for (const size of values.sizes.split(',')) {
    const sizeBytes = Number(/^(\d+)MB$/.exec(size)?.[1]) * 1_000_000;
    if (!(sizeBytes > 0)) throw new Error(`--sizes: got '${size}', expected sizes such as 50MB,1000MB`);
    const lab = await startLab({ name: 'bench-drill', members: 1 });
    try {
      await loadData(lab.controlPlane, { sizeBytes });
      const receipt = await prove(lab, 'bench-drill');
      say(
        `${size}: snapshot of ${String(receipt.sizeBytes)} bytes, ${String(receipt.compressedBytes)} compressed, ${String(receipt.inventory.objects)} keys`,
      );
      const records: DrillRecord[] = [];
      for (let round = 0; round < Number(values.rounds); round += 1) {
        const { result, error } = await lab.aws.invoke(output(lab, 'DrillFunctionName'), { snapshot: receipt.backupId })
          .done;
        if (error !== undefined) throw new Error(`${error.errorType}: ${error.errorMessage}`);
        const { record: key } = result as { readonly record: string };
        const s3 = s3Client(lab.aws.endpoints.s3, lab.aws.credentials, lab.aws.region);
        const object = await s3.send(new GetObjectCommand({ Bucket: output(lab, 'BucketName'), Key: key }));
        const record = readDrillRecord(key, Buffer.from((await object.Body?.transformToByteArray()) ?? []));
        s3.destroy();
        if (record.outcome !== 'proven') throw new Error(record.sentence ?? record.outcome);
        records.push(record);
      }
      say(
        `${size}: ${PHASES.map((phase) => `${phase} ${median(records.map(({ seconds }) => seconds[phase] ?? NaN)).toFixed(1)} s`).join(', ')}`,
      );
      say(
        `${size}: etcd had ${megabytes(Math.max(...records.map(({ measured }) => measured?.memoryBytes ?? 0)))} resident, the disk ${megabytes(Math.max(...records.map(({ measured }) => measured?.diskBytes ?? 0)))}`,
      );
    } finally {
      await lab.down();
    }
  }
};

main().catch((error: unknown) => {
  console.error(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
