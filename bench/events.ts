import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { apiKeyUseCases } from '../service/api-keys.js';
import { framesOf } from '../test/support/read-events.js';
import { startBenchInstallation } from './installation.js';
import type { Section } from './report.js';
import { inUnits, quantile } from './statistics.js';

/** ten for each key */
const clients = 100;
/** The first ones fill the heap to what this load needs; what the last one adds would go on for ever. */
const rounds = 4;

/**
 * SSE from a change to its readers: 100 of them follow everything while tasks run and priorities change. The time is from the event's own time, which the
 * database gave it inside its transaction, to its arrival, so the commit is in it; all clocks are those of one machine.
 */
export async function benchEvents(scale: number): Promise<Section> {
  const tasks = rounds * Math.max(10, Math.round(200 * scale));
  const installation = await startBenchInstallation({ models: false, env: { LOG_LEVEL: 'ERROR' } });
  try {
    const headers = await installation.product.headers();
    const { createKey } = apiKeyUseCases({ sql: installation.sql, log: pino({ level: 'error' }) });
    const keys = await Promise.all(Array.from({ length: clients / 10 }, () => createKey({ name: 'bench', userId: 'admin', role: 'admin', expiresAt: null })));
    const ending = new AbortController();
    const latencies: number[] = [];
    let received = 0;
    let dropped = 0;
    const reading = Array.from({ length: clients }, async (_, index) => {
      try {
        const answer = await fetch(`${installation.product.api}/api/v1/events`, {
          headers: { 'x-api-key': keys[index % keys.length]?.key ?? '' },
          signal: ending.signal,
        });
        for await (const { data } of framesOf(answer)) {
          if (data === null) continue;
          received += 1;
          latencies.push(Date.now() - Date.parse(data.at));
        }
        dropped += 1;
      } catch {
        if (!ending.signal.aborted) dropped += 1;
      }
    });
    await delay(2_000);
    const memory = [await apiMemory(installation)];
    for (let count = 0; count < tasks; count += 1) {
      const { id } = await installation.post({ template: 'bench-format', parameters: { text: 'x' } });
      if (count % 4 === 0) {
        const body = JSON.stringify({ priority: 1 + (count % 10) });
        await fetch(`${installation.product.api}/api/v1/tasks/${id}/priority`, { method: 'PATCH', headers, body });
      }
      await delay(100);
      if ((count + 1) % (tasks / rounds) === 0) memory.push(await apiMemory(installation));
    }
    await delay(2_000);
    const [{ events } = { events: 0 }] = await installation.sql<{ events: number }[]>`select count(*)::integer as events from task_events`;
    ending.abort();
    await Promise.all(reading);
    const at = (share: number) => inUnits(quantile(latencies, share));
    const p95 = quantile(latencies, 0.95);
    return {
      title: 'Events',
      method: `${clients} readers of \`GET /api/v1/events\` on one API process, ${tasks} one-step tasks at 10 a second and a change of priority for every fourth, all on this machine.`,
      figures: [
        { name: 'from an event to its readers, p50', ours: at(0.5), peer: '', ratio: '', bar: '', met: null },
        { name: 'from an event to its readers, p95', ours: at(0.95), peer: '', ratio: '', bar: 'under 200 ms', met: p95 < 200 },
        { name: 'from an event to its readers, p99', ours: at(0.99), peer: '', ratio: '', bar: '', met: null },
        {
          name: 'events received of those written',
          ours: `${received} of ${events * clients}`,
          peer: '',
          ratio: '',
          bar: 'all',
          met: received === events * clients,
        },
        { name: 'readers that were let go', ours: String(dropped), peer: '', ratio: '', bar: '0', met: dropped === 0 },
        {
          name: 'memory of the API at the start and after each quarter',
          ours: `${memory.join(', ')} MiB`,
          peer: '',
          ratio: '',
          bar: 'the last adds at most 15 MiB',
          met: (memory.at(-1) ?? 0) - (memory.at(-2) ?? 0) <= 15,
        },
      ],
    };
  } finally {
    await installation.stop();
  }
}

async function apiMemory(installation: { memory(): Promise<ReadonlyMap<string, number>> }): Promise<number> {
  return (await installation.memory()).get('api') ?? 0;
}
