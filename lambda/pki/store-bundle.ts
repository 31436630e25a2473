import type { EC2Client } from '@aws-sdk/client-ec2';
import type { SSMClient } from '@aws-sdk/client-ssm';
import { chooseNodes } from '../backup/choose-nodes';
import { findNodes } from '../backup/find-nodes';
import { headersParameter, presignPut } from '../backup/presign';
import { requireOwnCluster } from '../backup/previous-backup';
import { describeError, NodeResultError, NoNodeError, PkiBundleFailedError, TimeLeftError } from '../shared/errors';
import { afterExitCode } from '../shared/exit-codes';
import { clean, readFailure } from '../shared/node-result';
import { type Document, type RunCommandDeps, sendDocument, waitForCommand } from '../shared/run-document';
import { headObject, putInput, type Store } from '../shared/store';
import { type Fields, MetricUnit, type Telemetry } from '../shared/telemetry';
import { type AnnouncedBundle, readAnnounced, readUploaded } from './bundle-result';
import { bundleIdOf } from './event';

/** What the function works with. */
export interface PkiDeps {
  readonly clusterName: string;
  readonly controlPlaneTags: Readonly<Record<string, string>>;
  readonly document: Document;
  /** Its key is that of the bundles. */
  readonly store: Store;
  readonly ec2: EC2Client;
  readonly ssm: SSMClient;
  /** Sends each request once. */
  readonly ssmOnce: SSMClient;
  readonly telemetry: Telemetry;
  readonly now: () => Date;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** `exists`: an earlier delivery of the same trigger has stored it. */
export type BundleOutcome =
  | { readonly outcome: 'exists'; readonly bundleId: string; readonly key: string }
  | {
      readonly outcome: 'stored';
      readonly bundleId: string;
      readonly key: string;
      readonly instanceId: string;
      /** Of the bundle, in bytes. */
      readonly size: number;
      readonly sha256: string;
      readonly files: number;
      /** Files that a manifest or kubeadm's layout names and that are not there, 20 at most. */
      readonly missing: readonly string[];
      /** Files that are too large, or where no configuration lies, 20 at most. */
      readonly leftOut: readonly string[];
    };

// The function is killed when its time is over; before that it says so.
const RESERVE_SECONDS = 30;

const COMPRESSIONS = ['zstd', 'gzip'] as const;

/** The key under which a bundle is stored. */
export function bundleKey(bundleId: string, compression: 'zstd' | 'gzip'): string {
  return `pki/${bundleId}.tar.${compression === 'zstd' ? 'zst' : 'gz'}`;
}

/**
 * Stores the PKI bundle of one control-plane node. Every error says what to do; the platform retries.
 *
 * @throws EventError, NoNodeError, TimeLeftError, PkiBundleFailedError, or what S3 and SSM answer otherwise than expected
 */
export async function storeBundle(
  deps: PkiDeps,
  event: unknown,
  invocation: { readonly remainingMilliseconds: () => number },
): Promise<BundleOutcome> {
  const bundleId = bundleIdOf(event, deps.now());
  const { telemetry, now } = deps;
  const started = now().getTime();
  const seconds = () => (now().getTime() - started) / 1000;
  const run: RunCommandDeps = {
    ssm: deps.ssm,
    ssmOnce: deps.ssmOnce,
    now,
    pause: async (milliseconds) => {
      requireTime(invocation.remainingMilliseconds() - milliseconds);
      await deps.sleep(milliseconds);
    },
  };
  try {
    const outcome = (await findStored(deps, bundleId)) ?? (await askNodes(deps, run, bundleId));
    telemetry.phaseDone('pkiBundle', seconds(), { ...outcome } satisfies Fields);
    telemetry.measure('PkiBundleStored', MetricUnit.Count, 1);
    if (outcome.outcome === 'stored') {
      telemetry.measure('PkiBundleBytes', MetricUnit.Bytes, outcome.size);
      telemetry.measure('PkiBundleFiles', MetricUnit.Count, outcome.files);
      telemetry.measure('PkiBundleIncomplete', MetricUnit.Count, outcome.missing.length + outcome.leftOut.length);
    }
    return outcome;
  } catch (error) {
    telemetry.phaseFailed('pkiBundle', seconds(), { bundleId, error: describeError(error) });
    telemetry.measure('PkiBundleStored', MetricUnit.Count, 0);
    throw error;
  } finally {
    telemetry.publish();
  }
}

function requireTime(milliseconds: number): void {
  const left = milliseconds / 1000;
  if (left <= RESERVE_SECONDS) {
    throw new TimeLeftError(
      'pkiBundle',
      `phase pkiBundle: ${left.toFixed(0)} s of the function's time are left, expected more than ${String(RESERVE_SECONDS)}; the asynchronous retry begins anew; when it fails too, see what slows the nodes' agents down`,
    );
  }
}

/** What an earlier delivery of the same trigger has stored, whichever node it came from. */
async function findStored(deps: PkiDeps, bundleId: string): Promise<BundleOutcome | undefined> {
  for (const compression of COMPRESSIONS) {
    const key = bundleKey(bundleId, compression);
    const metadata = await headObject(deps.store, key);
    if (metadata !== undefined) {
      requireOwnCluster(deps, key, metadata['cluster']);
      return { outcome: 'exists', bundleId, key };
    }
  }
  return undefined;
}

async function askNodes(deps: PkiDeps, run: RunCommandDeps, bundleId: string): Promise<BundleOutcome> {
  const { nodes } = await findNodes(deps, []);
  const { order, unusable } = chooseNodes({ nodes, failedLast: [], failedBefore: [], leaderInstanceId: undefined });
  if (order.length === 0) {
    throw new NoNodeError(
      nodes.length === 0
        ? `running EC2 instances with all the tags ${JSON.stringify(deps.controlPlaneTags)}: got none, expected the control-plane nodes of ${deps.clusterName}; correct controlPlaneTags in the table of clusters, or the tags of the instances`
        : `control-plane nodes of ${deps.clusterName} that can be asked for a PKI bundle: got none of ${String(nodes.length)}, expected at least one; ${unusable.join('; ')}`,
    );
  }
  const failures: string[] = [];
  for (const { instanceId } of order) {
    const answer = await askNode(deps, run, { bundleId, instanceId });
    if (answer.ok) {
      return answer.value;
    }
    failures.push(`${instanceId}: ${answer.reason}`);
    if (answer.code !== undefined && afterExitCode(answer.code) === 'stop') {
      break;
    }
  }
  throw new PkiBundleFailedError(failures);
}

type Answer<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string; readonly code?: number };

interface Asked {
  readonly bundleId: string;
  readonly instanceId: string;
}

async function askNode(deps: PkiDeps, run: RunCommandDeps, asked: Asked): Promise<Answer<BundleOutcome>> {
  const { bundleId } = asked;
  const announced = await runScript(deps, run, asked, {}, (stdout) => readAnnounced(stdout, bundleId));
  if (!announced.ok) {
    return announced;
  }
  const bundle = announced.value;
  const key = bundleKey(bundleId, bundle.compression);
  const uploaded = await runScript(deps, run, asked, await uploadParameters(deps, asked, bundle), (stdout) =>
    readUploaded(stdout, bundleId),
  );
  // Whatever the node says, S3 has the last word: an answer can get lost, and a node can lie.
  const metadata = await headObject(deps.store, key);
  if (metadata === undefined) {
    return uploaded.ok
      ? { ok: false, reason: `the node says that it uploaded ${key}, and S3 has no such object` }
      : uploaded;
  }
  requireOwnCluster(deps, key, metadata['cluster']);
  // The presigned PUT binds this metadata and the checksum together: S3 stored it only because the bytes have this SHA-256. To ask S3 for the
  // checksum itself would need the right to decrypt.
  if (metadata['sha256'] !== bundle.sha256) {
    return { ok: true, value: { outcome: 'exists', bundleId, key } };
  }
  return {
    ok: true,
    value: {
      outcome: 'stored',
      bundleId,
      key,
      instanceId: asked.instanceId,
      size: bundle.size,
      sha256: bundle.sha256,
      files: bundle.files,
      missing: bundle.missing,
      leftOut: bundle.leftOut,
    },
  };
}

async function uploadParameters(deps: PkiDeps, { bundleId, instanceId }: Asked, bundle: AnnouncedBundle) {
  const { url, headers } = await presignPut(deps.store.s3, {
    ...putInput(deps.store, {
      key: bundleKey(bundleId, bundle.compression),
      sha256: bundle.sha256,
      contentLength: bundle.size,
    }),
    ContentLength: bundle.size,
    Metadata: {
      'bundle-id': bundleId,
      sha256: bundle.sha256,
      cluster: deps.clusterName,
      'instance-id': instanceId,
      // What a host name may not have would not pass the document's pattern.
      node: bundle.node.replace(/[^A-Za-z0-9._-]/g, '_'),
      files: String(bundle.files),
    },
  });
  return { Sha256: bundle.sha256, Url: url, Headers: headersParameter(headers) };
}

async function runScript<T>(
  deps: PkiDeps,
  run: RunCommandDeps,
  { bundleId, instanceId }: Asked,
  parameters: Readonly<Record<string, string>>,
  read: (stdout: string) => T,
): Promise<Answer<T>> {
  const sent = await sendDocument(run, {
    document: deps.document,
    instanceId,
    comment: bundleId,
    parameters: { BundleId: bundleId, ...parameters },
  });
  if ('kind' in sent) {
    return { ok: false, reason: sent.reason };
  }
  const end = await waitForCommand(run, sent, () => Promise.resolve(undefined));
  if (end.kind === 'unreachable') {
    return { ok: false, reason: end.reason };
  }
  try {
    if (end.succeeded) {
      return { ok: true, value: read(end.stdout) };
    }
    const { error, code, message } = readFailure(end.stdout);
    return { ok: false, reason: `${error} (${String(code)}): ${message}`, code };
  } catch (notReadable) {
    if (!(notReadable instanceof NodeResultError)) {
      throw notReadable;
    }
    return {
      ok: false,
      reason: `SSM says ${end.statusDetails}, exit status ${String(end.responseCode)}; ${notReadable.message}; stderr ends with '${clean(end.stderr.slice(-300).trim(), 300)}'`,
    };
  }
}
