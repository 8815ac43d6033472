import { fetch } from 'undici';

/** What one request to Ollama itself came to. */
export interface StraightAnswer {
  readonly ok: boolean;
  readonly status: number;
  /** what Ollama says that it spent on loading; small for a model that was there */
  readonly loadMs: number;
  readonly tookMs: number;
}

/** A load below this is Ollama's own bookkeeping, not a model that was read. */
export const loadedAtLeastMs = 100;

/**
 * Sends one request past the product, with the options that the product's steps send.
 * @param keepAlive only for what a test says of it; the product sends none either
 */
export async function generateStraight(
  address: string,
  request: { readonly model: string; readonly tokens: number; readonly keepAlive?: number; readonly signal?: AbortSignal },
): Promise<StraightAnswer> {
  const startedMs = performance.now();
  const body = {
    model: request.model,
    prompt: 'x',
    stream: false,
    options: { num_predict: request.tokens, num_ctx: 2048, seed: 1, temperature: 1 },
    ...(request.keepAlive === undefined ? {} : { keep_alive: request.keepAlive }),
  };
  const answer = await fetch(`${address}/api/generate`, {
    method: 'POST',
    body: JSON.stringify(body),
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  });
  const text = await answer.text(); // now and then nothing, with status 200, when another model takes the place of this one
  const { load_duration: loadNs = 0 } = text === '' ? {} : (JSON.parse(text) as { load_duration?: number });
  return { ok: answer.ok && text !== '', status: answer.status, loadMs: loadNs / 1e6, tookMs: performance.now() - startedMs };
}

/** Unloads every model, so that the next measurement starts from an empty server. */
export async function unloadAll(address: string): Promise<void> {
  for (;;) {
    const { models } = (await (await fetch(`${address}/api/ps`)).json()) as { models: { name: string }[] };
    if (models.length === 0) return;
    for (const { name } of models) await fetch(`${address}/api/generate`, { method: 'POST', body: JSON.stringify({ model: name, keep_alive: 0 }) });
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
