import { createTinyModel, tinyShape } from '../activities/backends/server/tiny-model.js';
import { type BenchInstallation, startBenchInstallation } from './installation.js';
import { startRawTemporal } from './raw-temporal.js';
import type { Figure, Section } from './report.js';
import { inUnits, quantile, timeMany } from './statistics.js';

/** How long a free slot of a resident model stays empty while steps wait for it. */
export async function benchHandover(scale: number): Promise<Section> {
  const bench = await startBenchInstallation({ models: true });
  try {
    const figures: Figure[] = [];
    for (const queued of [200, 400]) figures.push(await handover(bench, Math.max(5, Math.round(queued * scale))));
    return {
      title: 'Handover on a resident model',
      method:
        'A generated model of 254 KB on Ollama, one slot, one token a task. A long inference holds the slot until every task stands in the line. Raw Temporal is as many workflows that wait for a signal before their one activity, ' +
        'each signalled when the activity of the one before ends: the floor of any handover by signal, without a store, a decision or a model.',
      figures,
    };
  } finally {
    await bench.stop();
  }
}

/**
 * From one step's end to the next one's start on a resident model with one slot, as PostgreSQL's own clock has them. A long inference
 * holds the slot until all tasks stand in the line, so that what is measured is the handover and not the submits beside it.
 */
async function handover(bench: BenchInstallation, queued: number): Promise<Figure> {
  const model = 'bench-handover';
  const [host] = await bench.sql<{ address: string }[]>`select address from hosts`;
  await createTinyModel(host?.address ?? '', model, { ...tinyShape, endless: true });
  const task = (tokens: number) => ({ template: 'bench-generate', parameters: { model, tokens } });
  await finished(bench, [(await bench.post(task(1))).id]); // now it is resident
  const holders = await Promise.all([bench.post(task(6_000)), bench.post(task(6_000))]);
  const ids: string[] = [];
  await timeMany(queued, 20, async () => void ids.push((await bench.post(task(1))).id));
  const waiting = async () => (await bench.sql`select 1 from line where task_id = any(${ids}) and state = 'waiting'`).length;
  let most = 0;
  while (
    most < queued &&
    (await unfinished(
      bench,
      holders.map((task) => task.id),
    )) > 0
  )
    most = Math.max(most, await waiting());
  await finished(bench, ids);
  const rows = await bench.sql<{ gap: number }[]>`
    with steps as (select started_at, lag(ended_at) over (order by started_at) as before from line where task_id = any(${ids}) and state = 'done')
    select extract(epoch from started_at - before)::double precision * 1000 as gap from steps where before is not null`;
  const gaps = rows.map((row) => row.gap);
  const [p50, p99] = [quantile(gaps, 0.5), quantile(gaps, 0.99)];
  const raw = await rawHandover(bench, queued);
  return {
    name: `handover on a resident model, ${most} of ${queued} tasks waiting, p50 / p99`,
    ours: `${inUnits(p50)} / ${inUnits(p99)}`,
    peer: `${inUnits(quantile(raw, 0.5))} / ${inUnits(quantile(raw, 0.99))}`,
    ratio: (p50 / quantile(raw, 0.5)).toFixed(2),
    bar: 'under 50 ms / 200 ms',
    met: p50 < 50 && p99 < 200,
  };
}

/** @returns milliseconds from the end of one activity to the start of the next */
async function rawHandover(bench: BenchInstallation, queued: number): Promise<number[]> {
  const gaps: number[] = [];
  const waiting: { go(): Promise<void>; result(): Promise<unknown> }[] = [];
  let next = 0;
  let endedMs: number | undefined;
  const signals: Promise<void>[] = [];
  const raw = await startRawTemporal(bench.temporal, 1, async (text) => {
    if (endedMs !== undefined) gaps.push(performance.now() - endedMs);
    endedMs = performance.now();
    const handle = waiting[next++];
    if (handle !== undefined) signals.push(handle.go());
    return text;
  });
  try {
    await timeMany(queued, 20, async () => void waiting.push(await raw.startOnSignal()));
    await waiting[next++]?.go();
    await Promise.all(waiting.map((handle) => handle.result()));
    await Promise.all(signals);
    return gaps;
  } finally {
    await raw.stop();
  }
}

async function finished(bench: BenchInstallation, ids: readonly string[]): Promise<void> {
  while ((await unfinished(bench, ids)) > 0) await new Promise((resolve) => setTimeout(resolve, 100));
}

async function unfinished(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  return (await bench.sql`select 1 from tasks where id = any(${ids as string[]}) and status in ('queued', 'running')`).length;
}
