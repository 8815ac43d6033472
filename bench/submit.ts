import { startBenchInstallation } from './installation.js';
import type { Section } from './report.js';
import { timeMany } from './statistics.js';

const clients = 50;
const batchSize = 1_000;

/** Tasks a second by batches of 1,000 beside single requests of 50 clients; the engine runs what is submitted meanwhile, in both cases. */
export async function benchSubmit(scale: number): Promise<Section> {
  const singles = Math.max(100, Math.round(1_000 * scale));
  const batches = Math.max(1, Math.round(3 * scale));
  const installation = await startBenchInstallation({ models: false, env: { LOG_LEVEL: 'ERROR' } });
  try {
    const headers = await installation.product.headers();
    const task = { template: 'bench-format', parameters: { text: 'x' } };
    const emptied = async () => {
      while ((await installation.sql`select 1 from tasks where status in ('queued', 'running') limit 1`).length > 0)
        await new Promise((resolve) => setTimeout(resolve, 200));
    };
    const singleSeconds = await seconds(() => timeMany(singles, clients, () => installation.post(task)));
    await emptied();
    let created = 0;
    let batchSeconds = 0;
    for (let count = 0; count < batches; count += 1) {
      batchSeconds += await seconds(async () => {
        const body = JSON.stringify({ tasks: Array.from({ length: batchSize }, () => task) });
        const answer = await fetch(`${installation.product.api}/api/v1/tasks/batch`, { method: 'POST', headers, body });
        if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`);
        created += ((await answer.json()) as { created: number }).created;
      });
      await emptied();
    }
    const single = singles / singleSeconds;
    const batch = created / batchSeconds;
    return {
      title: 'Submits',
      peer: 'single requests',
      method: `${singles} single requests of ${clients} clients without a pause, then ${batches} batches of ${batchSize}, on an installation with an empty queue.`,
      figures: [
        { name: 'submits by batch', ours: `${batch.toFixed(0)}/s`, peer: `${single.toFixed(0)}/s`, ratio: (batch / single).toFixed(1), bar: '', met: null },
      ],
    };
  } finally {
    await installation.stop();
  }
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1_000;
}
