import { describeError } from '../shared/errors';
import { RunError, type FailureFacts } from './failure';

/** One object that is to be read whole, from a URL that reads nothing else. */
export interface Download {
  readonly url: string;
  readonly bytes: number;
  /** For messages: the URL is a secret. */
  readonly name: string;
  readonly reason: 'tool-download' | 'snapshot-download';
  readonly facts?: FailureFacts;
}

/** What a download works with. */
export interface FetchDeps {
  readonly fetch: typeof fetch;
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** The end of the function's time. */
  readonly signal: AbortSignal;
}

const ATTEMPTS = 5;
const PAUSE_MILLISECONDS = 500;
const SILENCE_MILLISECONDS = 30_000;
// Each chunk that goes into a decoder is a round trip to a thread.
const CHUNK_BYTES = 1024 * 1024;

/**
 * The bytes of an object, in chunks of about 1 MB. A connection that breaks, or is silent for 30 s, is taken up again where it broke. Throws
 * RunError when it does not come back, and for every answer but the bytes.
 */
export async function* readObject(deps: FetchDeps, download: Download): AsyncGenerator<Buffer> {
  let done = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      for await (const chunk of readFrom(deps, download, done)) {
        done += chunk.length;
        yield chunk;
      }
      if (done === download.bytes) {
        return;
      }
      throw new Error(`the connection ended after ${String(done)} of ${String(download.bytes)} bytes`);
    } catch (error) {
      if (error instanceof RunError || attempt === ATTEMPTS || deps.signal.aborted) {
        throw error instanceof RunError
          ? error
          : new RunError(
              download.reason,
              `GET of ${download.name}: got ${describeCause(error)} after ${String(done)} of ${String(download.bytes)} bytes and ${String(attempt)} attempts, expected all of them`,
              download.facts,
              error,
            );
      }
      await deps.sleep(attempt * PAUSE_MILLISECONDS);
    }
  }
}

async function* readFrom({ fetch, signal }: FetchDeps, download: Download, from: number): AsyncGenerator<Buffer> {
  const { url, bytes, name, reason, facts } = download;
  const silence = new AbortController();
  const timer = setTimeout(() => {
    silence.abort(new Error(`no byte for ${String(SILENCE_MILLISECONDS / 1000)} s`));
  }, SILENCE_MILLISECONDS);
  try {
    const answer = await fetch(url, {
      redirect: 'error',
      signal: AbortSignal.any([signal, silence.signal]),
      headers: { 'accept-encoding': 'identity', ...(from === 0 ? {} : { range: `bytes=${String(from)}-` }) },
    });
    // S3 answers 5xx when it is busy; then another attempt may do.
    if (answer.status >= 500) {
      throw new Error(`HTTP ${String(answer.status)}`);
    }
    const length = Number(answer.headers.get('content-length'));
    if (answer.status !== (from === 0 ? 200 : 206) || length !== bytes - from || answer.body === null) {
      await answer.body?.cancel();
      throw new RunError(
        reason,
        `GET of ${name}: got HTTP ${String(answer.status)} with ${String(length)} bytes, expected the ${String(bytes - from)} bytes from ${String(from)} on`,
        { ...facts, code: answer.status },
      );
    }
    let chunks: Buffer[] = [];
    let gathered = 0;
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      timer.refresh();
      chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      gathered += chunk.byteLength;
      if (gathered >= CHUNK_BYTES) {
        yield Buffer.concat(chunks, gathered);
        chunks = [];
        gathered = 0;
      }
    }
    if (gathered > 0) {
      yield Buffer.concat(chunks, gathered);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** fetch says only that it failed; why is in the cause. Neither has the URL in it. */
function describeCause(error: unknown): string {
  return describeError(error instanceof TypeError && error.cause !== undefined ? error.cause : error);
}
