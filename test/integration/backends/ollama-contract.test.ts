import { pino } from 'pino';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { describeModelBackend } from '../../contracts/model-backend.js';
import { startFaultProxy } from '../../support/fault-proxy.js';
import { startHttpFaultProxy } from '../../support/http-fault-proxy.js';
import { cpuTicks, startOwnOllama } from '../../support/own-ollama.js';

const models = ['contract-one:latest', 'contract-two:latest'] as const;
const alias = 'contract-uno:latest';

describeModelBackend('ollama', async () => {
  const server = await startOwnOllama();
  for (const [index, name] of models.entries()) await createTinyModel(server.url, name, { ...tinyShape, endless: true, seed: 10 + index });
  await fetch(`${server.url}/api/copy`, { method: 'POST', body: JSON.stringify({ source: models[0], destination: alias }) });
  const http = await startHttpFaultProxy(server.url);
  const tcp = await startFaultProxy({ host: '127.0.0.1', port: Number(new URL(http.url).port) });
  const backend = createOllamaBackend({
    address: `127.0.0.1:${tcp.port}`,
    registries: defaultRegistries,
    allowPull: true,
    timeouts: { ...defaultOllamaTimeouts, firstTokenMs: 30_000, idleMs: 2_000 },
    log: pino({ level: 'silent' }),
  });
  /** Work is CPU time of a runner; an idle one uses at most a tick or two in such a while. */
  const busy = async () => {
    const runners = await server.runners();
    const before = await Promise.all(runners.map(cpuTicks));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const after = await Promise.all(runners.map(cpuTicks));
    return after.some((ticks, index) => ticks - (before[index] ?? 0) > 3);
  };
  return {
    backend,
    models,
    alias,
    missing: 'contract-absent:latest',
    busy,
    residence: async () => (await server.runners()).join(),
    harm: {
      away: async () => tcp.fault({ kind: 'refuse' }),
      stall: (afterPieces) => http.fault('/api/generate', { kind: 'stall', afterLines: afterPieces }),
      cut: (afterPieces) => http.fault('/api/generate', { kind: 'cut', afterLines: afterPieces }),
      error: (afterPieces, message) => http.fault('/api/generate', { kind: 'line', afterLines: afterPieces, line: JSON.stringify({ error: message }) }),
      end: (afterPieces) => http.fault('/api/generate', { kind: 'line', afterLines: afterPieces, line: '{"response":"x","done":false}' }),
      full: () =>
        http.fault('/api/generate', { kind: 'answer', status: 503, body: '{"error":"server busy, please try again.  maximum pending requests exceeded"}' }),
      async heal() {
        tcp.heal();
        http.heal();
      },
    },
    async stop() {
      await tcp.close();
      await http.close();
      await server.stop();
    },
  };
});
