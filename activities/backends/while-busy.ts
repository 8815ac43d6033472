import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { StepFailure } from '../../contract/failure.js';
import type { ModelBackend } from './backend.js';
import { backendBusy } from './ollama-errors.js';

export interface BusyPauses {
  readonly firstMs: number;
  /** each pause is twice the one before, up to this; half of each is by chance, so that those who wait do not come back all at once */
  readonly longestMs: number;
}

const defaultPauses: BusyPauses = { firstMs: 200, longestMs: 10_000 };

/**
 * The same backend, patient: an inference or a load that finds the server's queue full waits and asks again until it is taken or its
 * signal aborts, which the time limit of its step does at the latest. So a full queue costs time and no attempt.
 */
export function waitWhileBusy(backend: ModelBackend, log: Logger, { firstMs, longestMs }: BusyPauses = defaultPauses): ModelBackend {
  return {
    ...backend,
    load: (need, keepAliveMs, signal) => untilTaken(need.name, signal, () => backend.load(need, keepAliveMs, signal)),
    generate: (request) => untilTaken(request.model.name, request.signal, () => backend.generate(request)),
    chat: (request) => untilTaken(request.model.name, request.signal, () => backend.chat(request)),
    embed: (request) => untilTaken(request.model.name, request.signal, () => backend.embed(request)),
  };

  async function untilTaken<Result>(model: string, signal: AbortSignal, call: () => Promise<Result>): Promise<Result> {
    for (let longMs = firstMs; ; longMs = Math.min(longestMs, longMs * 2)) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof StepFailure) || error.code !== backendBusy) throw error;
        const pauseMs = Math.round(longMs * (0.5 + Math.random() / 2));
        log.info({ model, reason: error.message, pause_ms: pauseMs }, 'the model server is busy; waiting');
        await delay(pauseMs, undefined, { signal }).catch(() => undefined);
        signal.throwIfAborted();
      }
    }
  }
}
