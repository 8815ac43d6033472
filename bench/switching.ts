import { createTinyModel, slowToLoadShape } from '../activities/backends/server/tiny-model.js';
import { type BenchInstallation, startBenchInstallation } from './installation.js';
import type { Figure, Section } from './report.js';
import { inUnits, median, timeMany } from './statistics.js';
import { generateStraight, loadedAtLeastMs, unloadAll } from './straight-to-ollama.js';

const models = ['bench-a', 'bench-b', 'bench-c', 'bench-d'] as const;
const [a, b] = models;
const tokens = 2;

/**
 * What knowing the models saves, on a real Ollama that holds one model at a time: the same requests through the product and straight to the same server.
 * R6, R7, R8 and R10 of the suite.
 */
export async function benchSwitching(scale: number): Promise<Section> {
  const bench = await startBenchInstallation({ models: true, env: { MODEL_MAX_LOADED: '1' } });
  try {
    const [host] = await bench.sql<{ address: string }[]>`select address from hosts`;
    const address = host?.address ?? '';
    for (const [index, model] of models.entries()) await createTinyModel(address, model, { ...slowToLoadShape, endless: true, seed: index + 1 });
    const figures: Figure[] = [];
    figures.push(...(await thrash(bench, address, Math.max(12, Math.round(200 * scale)))));
    figures.push(...(await starvation(bench, address)));
    figures.push(...(await urgent(bench)));
    figures.push(await overflow(bench, address, Math.max(50, Math.round(1_000 * scale))));
    return {
      title: 'Switching between models',
      method: `Generated models of 412 MB on Ollama, one in memory at a time, ${tokens} tokens a request; the peer is the same requests straight to the same Ollama, in the order of their arrival.`,
      peer: 'Ollama alone',
      figures,
    };
  } finally {
    await bench.stop();
  }
}

/** R6: four models in turn, all requests there at once. */
async function thrash(bench: BenchInstallation, address: string, count: number): Promise<Figure[]> {
  const wanted = Array.from({ length: count }, (_, index) => models[index % models.length] ?? a);
  await settled(bench, address);
  const straight = [];
  const straightStartedMs = performance.now();
  for (const model of wanted) straight.push(await generateStraight(address, { model, tokens }));
  const straightMs = performance.now() - straightStartedMs;
  const straightLoads = straight.filter(({ loadMs }) => loadMs >= loadedAtLeastMs);
  const loadMs = median(straightLoads.map((answer) => answer.loadMs));
  const serviceMs = median(straight.map((answer) => answer.tookMs - answer.loadMs));

  await settled(bench, address);
  const [{ now } = { now: new Date() }] = await bench.sql<{ now: Date }[]>`select clock_timestamp() as now`;
  const startedMs = performance.now();
  const ids = await batch(bench, wanted);
  await finished(bench, ids);
  const tookMs = performance.now() - startedMs;
  const loads = await loadsSince(bench, now);
  const failed = await failedOf(bench, ids);
  const ratio = loadMs / serviceMs;
  const [f0, f1] = [straightLoads.length / count, loads.count / count];
  const expected = (1 + f0 * ratio) / (1 + f1 * ratio) - 1;
  const gain = straightMs / tookMs - 1;
  const share = (part: number, whole: number) => `${((100 * part) / whole).toFixed(1)} %`;
  return [
    {
      name: `R6 ${count} tasks on 4 models in turn: loads`,
      ours: String(loads.count),
      peer: String(straightLoads.length),
      ratio: (loads.count / straightLoads.length).toFixed(2),
      bar: `at most ${models.length + 1}`,
      met: loads.count <= models.length + 1,
    },
    {
      name: 'R6 requests without an answer',
      ours: String(failed),
      peer: String(straight.filter(({ ok }) => !ok).length),
      ratio: '',
      bar: '0',
      met: failed === 0,
    },
    {
      name: 'R6 makespan',
      ours: inUnits(tookMs),
      peer: inUnits(straightMs),
      ratio: (tookMs / straightMs).toFixed(2),
      bar: `gain at least 0.9 of ${(100 * expected).toFixed(0)} %, the formula's at S/e = ${ratio.toFixed(1)}; it is ${(100 * gain).toFixed(0)} %`,
      met: gain >= 0.9 * expected,
    },
    {
      name: 'R6 share of the time lost to loading',
      ours: share(loads.tookMs, tookMs),
      peer: share(
        straightLoads.reduce((sum, answer) => sum + answer.loadMs, 0),
        straightMs,
      ),
      ratio: '',
      bar: '',
      met: null,
    },
    {
      name: 'R6 time that the model server works on requests, of all time [PERF-13]',
      ours: share(await serviceOf(bench, ids), tookMs),
      peer: share(
        straight.reduce((sum, answer) => sum + answer.tookMs - answer.loadMs, 0),
        straightMs,
      ),
      ratio: '',
      bar: '',
      met: null,
    },
  ];
}

/** R7: work for one model without an end, and one task for another. */
async function starvation(bench: BenchInstallation, address: string): Promise<Figure[]> {
  const patienceMs = 45_000;
  const straight = async (keepAlive?: number) => {
    await settled(bench, address);
    const ending = new AbortController();
    const streams = Array.from({ length: 3 }, async () => {
      while (!ending.signal.aborted)
        await generateStraight(address, { model: a, tokens: 10, signal: ending.signal, ...(keepAlive === undefined ? {} : { keepAlive }) }).catch(() => {});
    });
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const startedMs = performance.now();
    const served = await generateStraight(address, { model: b, tokens, signal: AbortSignal.timeout(patienceMs) }).then(
      () => true,
      () => false,
    );
    const waitedMs = performance.now() - startedMs;
    ending.abort();
    await Promise.all(streams);
    return served ? inUnits(waitedMs) : `not within ${patienceMs / 1_000} s`;
  };
  const peers = [await straight(), await straight(-1)];

  await settled(bench, address);
  let ending = false;
  const stream: string[] = [];
  const feed = (async () => {
    while (!ending) {
      const open = await unfinished(bench, stream.slice(-50));
      for (let missing = 10 - open; missing > 0; missing -= 1)
        stream.push((await bench.post({ template: 'bench-switch', parameters: { model: a, tokens: 10 } })).id);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  while ((await finishedCount(bench, stream)) < 5) await new Promise((resolve) => setTimeout(resolve, 100));
  const { id } = await bench.post({ template: 'bench-switch', parameters: { model: b, tokens } });
  const waited = async () => {
    const [row] = await bench.sql<
      { waitedMs: number | null }[]
    >`select extract(epoch from started_at - created_at)::float8 * 1000 as "waitedMs" from tasks where id = ${id}`;
    return row?.waitedMs ?? null;
  };
  let waitedMs = await waited();
  for (; waitedMs === null; waitedMs = await waited()) await new Promise((resolve) => setTimeout(resolve, 200));
  ending = true;
  await feed;
  const [cost] = await bench.sql<{ loadMs: number }[]>`select load_ms as "loadMs" from key_costs where key like ${`${a}%`}`;
  const residual = await longest(bench, stream);
  const quantumMs = Math.min(600_000, Math.max(2_000, 19 * (cost?.loadMs ?? 0)));
  const [loadOfB] = await bench.sql<{ loadMs: number }[]>`select load_ms as "loadMs" from key_costs where key like ${`${b}%`}`;
  const boundMs = quantumMs + residual + (loadOfB?.loadMs ?? 0) + 1_000;
  await Promise.all(stream.map((task) => cancel(bench, task)));
  return [
    {
      name: 'R7 one task for B beside endless work for A: wait of B',
      ours: inUnits(waitedMs),
      peer: `${peers[0]}; with keep_alive -1 ${peers[1]}`,
      ratio: '',
      bar: `quantum ${inUnits(quantumMs)} + one inference + one load + 1 s of polls = ${inUnits(boundMs)}`,
      met: waitedMs <= boundMs,
    },
  ];
}

/** R8: one urgent task behind fifty others, and one that becomes urgent while it waits. */
async function urgent(bench: BenchInstallation): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, model, how] of [
    ['same model', a, 'posted'],
    ['other model', b, 'posted'],
    ['same model', a, 'raised'],
    ['other model', b, 'raised'],
  ] as const) {
    const others = await batch(
      bench,
      Array.from({ length: 50 }, () => a),
    );
    while ((await finishedCount(bench, others)) < 3) await new Promise((resolve) => setTimeout(resolve, 20));
    const { id } = await bench.post({ template: 'bench-switch', parameters: { model, tokens }, priority: how === 'posted' ? 10 : 5 });
    if (how === 'raised')
      await fetch(`${bench.product.api}/api/v1/tasks/${id}/priority`, { method: 'PATCH', headers: await bench.product.headers(), body: '{"priority":10}' });
    const [{ at } = { at: new Date() }] = await bench.sql<{ at: Date }[]>`select clock_timestamp() as at`;
    await finished(bench, [id]);
    const [row] = await bench.sql<{ waitedMs: number; before: number }[]>`
      select extract(epoch from l.started_at - ${at})::float8 * 1000 as "waitedMs",
        (select count(*)::integer from line o where o.task_id = any(${others}) and o.started_at > ${at} and o.started_at < l.started_at) as before
      from line l where l.task_id = ${id} and l.state = 'done'`;
    await finished(bench, others);
    figures.push({
      name: `R8 level 10 behind 50 of level 5, ${name}, ${how}: others started before it`,
      ours: `${row?.before} (waited ${inUnits(row?.waitedMs ?? Number.NaN)})`,
      peer: '',
      ratio: '',
      bar: 'at most the one that was granted already',
      met: (row?.before ?? 2) <= 1,
    });
  }
  return figures;
}

/** R10: more requests at once than Ollama queues. */
async function overflow(bench: BenchInstallation, address: string, count: number): Promise<Figure> {
  await settled(bench, address);
  const answers: boolean[] = [];
  await timeMany(count, count, async () => void answers.push((await generateStraight(address, { model: b, tokens: 1 }).catch(() => ({ ok: false }))).ok));
  await settled(bench, address);
  const ids = await batch(
    bench,
    Array.from({ length: count }, () => b),
    1,
  );
  await finished(bench, ids);
  const failed = await failedOf(bench, ids);
  return {
    name: `R10 ${count} at once on a model that is not loaded: errors`,
    ours: String(failed),
    peer: String(answers.filter((ok) => !ok).length),
    ratio: '',
    bar: '0',
    met: failed === 0,
  };
}

async function failedOf(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  const [row] = await bench.sql<{ failed: number }[]>`select count(*)::integer as failed from tasks where id = any(${ids}) and status <> 'completed'`;
  return row?.failed ?? ids.length;
}

async function batch(bench: BenchInstallation, wanted: readonly string[], each = tokens): Promise<string[]> {
  const tasks = wanted.map((model) => ({ template: 'bench-switch', parameters: { model, tokens: each } }));
  const answer = await fetch(`${bench.product.api}/api/v1/tasks/batch`, {
    method: 'POST',
    headers: await bench.product.headers(),
    body: JSON.stringify({ tasks }),
  });
  const { items, refused } = (await answer.json()) as { items: { task: { id: string } | null }[]; refused: number };
  if (refused > 0) throw new Error(`${refused} tasks were refused`);
  return items.flatMap(({ task }) => (task === null ? [] : [task.id]));
}

/** Nothing runs or is loaded, on the server and in the engine's own books. */
async function settled(bench: BenchInstallation, address: string): Promise<void> {
  const headers = await bench.product.headers();
  for (const [model] of models.entries()) {
    await fetch(`${bench.product.api}/api/v1/models/${models[model]}/unload`, { method: 'POST', headers, body: '{}' });
    while ((await bench.sql`select 1 from residency_orders where state = 'open'`).length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await unloadAll(address);
}

async function loadsSince(bench: BenchInstallation, since: Date): Promise<{ count: number; tookMs: number }> {
  const rows = await bench.sql<{ tookMs: number }[]>`
    select extract(epoch from ended_at - created_at)::float8 * 1000 as "tookMs" from residency_orders where created_at >= ${since} and load_key is not null and state = 'done'`;
  return { count: rows.length, tookMs: rows.reduce((sum, row) => sum + row.tookMs, 0) };
}

async function serviceOf(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  const [row] = await bench.sql<{ ms: number }[]>`
    select coalesce(sum((metrics ->> 'inference_time_seconds')::float8), 0) * 1000 as ms from task_executions where task_id = any(${ids as string[]}) and status = 'completed'`;
  return row?.ms ?? 0;
}

async function longest(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  const [row] = await bench.sql<{ ms: number | null }[]>`
    select max(extract(epoch from ended_at - started_at))::float8 * 1000 as ms from line where task_id = any(${ids as string[]}) and state = 'done'`;
  return row?.ms ?? 0;
}

async function cancel(bench: BenchInstallation, id: string): Promise<void> {
  await fetch(`${bench.product.api}/api/v1/tasks/${id}`, { method: 'DELETE', headers: await bench.product.headers() });
}

async function finished(bench: BenchInstallation, ids: readonly string[]): Promise<void> {
  while ((await unfinished(bench, ids)) > 0) await new Promise((resolve) => setTimeout(resolve, 100));
}

async function unfinished(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  return (await bench.sql`select 1 from tasks where id = any(${ids as string[]}) and status in ('queued', 'running')`).length;
}

async function finishedCount(bench: BenchInstallation, ids: readonly string[]): Promise<number> {
  return ids.length - (await unfinished(bench, ids));
}
