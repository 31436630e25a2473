import * as z from 'zod/mini';
import { printable, text, wholeNumber } from '../shared/check';
import { NodeResultError } from '../shared/errors';
import { readLine } from '../shared/node-result';

// What a node says is input from outside; the limits are those of node/pki.sh.
const bundleId = text(/^\d{8}T\d{6}Z$/, 'the id of a bundle');
const seconds = z.number('a number of seconds').check(z.gte(0, 'a number of seconds from 0 on'));
const NAMES = 'a list of at most 20 names of files';
const names = z.array(printable(4096), NAMES).check(z.maxLength(20, NAMES));

const announced = z.object(
  {
    ok: z.literal(true, 'true'),
    bundleId,
    node: printable(253),
    compression: z.enum(['zstd', 'gzip'], "'zstd' or 'gzip'"),
    /** Of the bundle, in bytes. Of files that nothing can compress it is a little more than they have. */
    size: wholeNumber(1, 32 * 1024 * 1024),
    sha256: text(/^[0-9a-f]{64}$/, '64 lower-case hex digits'),
    files: wholeNumber(1, 1000),
    /** Of the files, before compression. */
    bytes: wholeNumber(1, 16 * 1024 * 1024),
    missing: names,
    leftOut: names,
    seconds,
  },
  "the bundle script's announcement",
);

const uploaded = z.object(
  { ok: z.literal(true, 'true'), bundleId, size: wholeNumber(1), seconds, attempts: wholeNumber(1, 100) },
  "the bundle script's result",
);

/**
 * What the bundle script printed of a bundle that it could store: `files` (links are not counted), what a manifest or kubeadm's layout names and
 * is not there (`missing`), and what is there and is no configuration by its size or place (`leftOut`), at most 20 names each.
 */
export type AnnouncedBundle = z.output<typeof announced>;

/** What the bundle script printed after its upload. */
export type UploadedBundle = z.output<typeof uploaded>;

/** The script's line about a bundle. Throws NodeResultError when it is not one, or is another bundle's. */
export function readAnnounced(stdout: string, id: string): AnnouncedBundle {
  return ofBundle(readLine(announced, stdout), id);
}

/** The script's line about an upload. Throws NodeResultError when it is not one, or is another bundle's. */
export function readUploaded(stdout: string, id: string): UploadedBundle {
  return ofBundle(readLine(uploaded, stdout), id);
}

function ofBundle<Result extends { readonly bundleId: string }>(result: Result, id: string): Result {
  if (result.bundleId !== id) {
    throw new NodeResultError(
      `bundleId in the result line: got ${result.bundleId}, expected ${id}; find out what else runs this document`,
    );
  }
  return result;
}
