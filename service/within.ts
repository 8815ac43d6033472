import { setTimeout as delay } from 'node:timers/promises';

/**
 * Waits for an answer, for a limited time. The work itself goes on and its later failure is nobody's error.
 * @throws Error `<what> did not answer within <timeoutMs> ms`
 */
export async function within<T>(timeoutMs: number, what: string, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = delay(timeoutMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} did not answer within ${timeoutMs} ms`);
  });
  late.catch(() => {});
  work.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}
