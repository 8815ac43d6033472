import { pino } from 'pino';
import type { ModelBackend } from '../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../activities/backends/ollama.js';
import { defaultRegistries } from '../../contract/model-name.js';
import { type Channel, listen } from '../../db/listen.js';
import type { HostDeps } from '../../host/host.js';

// What a host needs, for tests and for the processes that tests start; so nothing here comes from vitest.

export const testLog = pino({ level: 'silent' });

/** @param pullFrom the registry that models may be pulled from; without one a missing model is missing for good */
export function backendOf(url: string, pullFrom?: string): ModelBackend {
  const registries = pullFrom === undefined ? defaultRegistries : [...defaultRegistries, pullFrom];
  return createOllamaBackend({ address: url, registries, allowPull: pullFrom !== undefined, timeouts: defaultOllamaTimeouts, log: testLog });
}

/** One connection for each channel, which is enough for a test. */
export function listenTo(url: string): HostDeps['listen'] {
  return async (channel, onNotify) => {
    const listener = listen(url, [channel], (_channel: Channel, payload) => onNotify(payload), { onReconnect: () => onNotify(''), log: testLog });
    return { stop: () => listener.close() };
  };
}
