import { Ollama } from 'ollama';
import { Agent, fetch as undiciFetch } from 'undici';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { failureOfAnswer, failureOfConnection, OllamaAnswer, type OllamaCall } from './ollama-errors.js';
import type { OllamaAddress } from './server/ollama-address.js';

/** Bytes of an error answer that are read. */
const errorBytesMax = 65_536;

export interface CallDeadlines {
  /** until the first piece of the answer */
  readonly firstMs: number;
  /** between two pieces */
  readonly idleMs: number;
  /** for the whole call */
  readonly totalMs: number;
}

const silences = { first: 'no answer within', idle: 'the stream was silent for', total: 'the whole call took longer than' };

export interface Call {
  readonly kind: OllamaCall;
  /** for messages */
  readonly model: string | null;
  readonly address: OllamaAddress;
  readonly deadlines: CallDeadlines;
  readonly signal: AbortSignal;
  /** code of the failure when a deadline passes */
  readonly timeoutCode?: string;
}

/**
 * Makes one call to Ollama with a client and a connection of its own, which are gone when this returns, however it ends:
 * leaving the loop over a stream does not stop the server's work, closing the connection does, and `client.abort()` does not
 * reach a request whose model is still loading.
 * @param work gets the client, and `alive`, to be called for each piece of the answer that arrives
 * @throws {StepFailure} named after what happened; when `signal` aborts, its reason
 */
export async function callOllama<Result>(call: Call, work: (client: Ollama, alive: () => void) => Promise<Result>): Promise<Result> {
  call.signal.throwIfAborted();
  const { firstMs, idleMs, totalMs } = call.deadlines;
  // Node's own fetch ends every call that has no headers after 300 s, and a model may load longer than that. No pooling: a connection
  // that idled through a restart of the server would fail the next call.
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, pipelining: 0, connect: { timeout: 10_000 } });
  // Not AbortSignal.any: a signal that lives as long as the process would keep a trace of every call.
  const ending = new AbortController();
  const passOn = () => ending.abort(call.signal.reason);
  call.signal.addEventListener('abort', passOn, { once: true });
  const expireAfter = (which: keyof typeof silences, afterMs: number) =>
    setTimeout(() => {
      const message = `Ollama${call.model === null ? '' : `, model ${call.model}`}: ${silences[which]} ${afterMs / 1000} s`;
      ending.abort(new StepFailure(call.timeoutCode ?? failureCodes.timeout, message, { retryable: true, details: { deadline: which, afterMs } }));
    }, afterMs);
  const total = expireAfter('total', totalMs);
  let quiet = expireAfter('first', firstMs);
  const alive = () => {
    clearTimeout(quiet);
    quiet = expireAfter('idle', idleMs);
  };
  const { signal } = ending;
  const request = async (url: string, init: Parameters<typeof undiciFetch>[1]) => {
    const response = await undiciFetch(url, { ...init, dispatcher: agent, signal, redirect: 'error' });
    if (!response.ok) throw new OllamaAnswer(response.status, await errorText(response));
    return response;
  };
  const client = new Ollama({
    host: call.address.url,
    // The client's type names the fetch of Node's globals; undici's own differs from it only in its newer declarations.
    fetch: request as unknown as typeof fetch,
    ...(call.address.authorization === undefined ? {} : { headers: { authorization: call.address.authorization } }),
  });
  try {
    // A connection that hangs in a read is not always ended by its signal at once, so the wait itself ends with the signal too.
    return await Promise.race([work(client, alive), aborted(signal)]);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof StepFailure) throw error;
    if (error instanceof OllamaAnswer) throw failureOfAnswer(call.kind, error, call.model);
    throw failureOfConnection(call.address.url, error);
  } finally {
    clearTimeout(total);
    clearTimeout(quiet);
    call.signal.removeEventListener('abort', passOn);
    await agent.destroy();
  }
}

/**
 * Reads a stream of the client to its end.
 * @throws {OllamaAnswer} for an error line, which can follow a status of 200
 */
export async function eachLine<Line extends object>(stream: AsyncIterable<Line>, alive: () => void, onLine: (line: Line) => void): Promise<void> {
  const lines = stream[Symbol.asyncIterator]();
  for (;;) {
    const next = await nextLine(lines);
    if (next.done) return;
    alive();
    onLine(next.value);
  }
}

/** The client has a plain Error for an error line, and for a stream that the server ended in good order but without its last line. */
async function nextLine<Line>(lines: AsyncIterator<Line>): Promise<IteratorResult<Line>> {
  try {
    return await lines.next();
  } catch (error) {
    if (error instanceof Error && error.constructor === Error && error.cause === undefined) throw new OllamaAnswer(200, error.message);
    throw error; // the connection broke: a TypeError of fetch with its cause
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

async function errorText(response: Awaited<ReturnType<typeof undiciFetch>>): Promise<string> {
  const text = (await response.text()).slice(0, errorBytesMax);
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && 'error' in body) return typeof body.error === 'string' ? body.error : JSON.stringify(body.error);
  } catch {
    // Not JSON: a proxy's page, or a server that is no Ollama. The text itself is the best there is.
  }
  return text.trim() || `status ${response.status}`;
}
