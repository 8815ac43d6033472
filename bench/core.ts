import { isNotFound } from '../temporal/grpc-status.js';
import { taskWorkflowId } from '../contract/ids.js';
import { startCountingProxy } from './counting-proxy.js';
import { type BenchInstallation, startBenchInstallation } from './installation.js';
import { type RawTemporal, startRawTemporal } from './raw-temporal.js';
import type { Figure, Section } from './report.js';
import { inUnits, median, quantile, timeMany } from './statistics.js';
import { callsBetween, temporalCalls } from './temporal-calls.js';

const oneStep = { template: 'bench-format', parameters: { text: 'a short text' } };
/** Slots of the engine, and of the raw worker beside it. */
const slots = 10;

/** The numbers of the core, each beside raw Temporal on the same server in the same run. `scale` below 1 shortens a trial run. */
export async function benchCore(scale: number): Promise<Section> {
  const bench = await startBenchInstallation({ models: false });
  const raw = await startRawTemporal(bench.temporal, slots);
  try {
    const count = (full: number) => Math.max(5, Math.round(full * scale));
    const atRest = await bench.memory();
    const figures: Figure[] = [];
    await warmUp(bench, raw);
    figures.push(await oneStepTask(bench, raw, count(60)));
    figures.push(...(await submit(bench, raw, count(1_000))));
    figures.push(await pacedSubmit(bench, count(20)));
    figures.push(await throughput(bench, raw, count(2_000)));
    const loaded = await bench.memory();
    const counts = await countCalls(bench, count(100));
    await raw.stop();
    const warm = await warmStart(bench);
    figures.push({
      name: 'warm start: from `orchestra up` to the end of the first task',
      ours: inUnits(warm),
      peer: '',
      ratio: '',
      bar: 'under 10 s',
      met: warm < 10_000,
    });
    const memory = [...loaded].map(([name, mib]) => `${name} ${atRest.get(name) ?? '?'} -> ${mib}`).join(', ');
    return {
      title: 'The core',
      method: `An installation of its own, started as \`npm start\` does, with ${slots} slots; raw Temporal is a workflow of one activity on the same server, with the same worker settings.`,
      figures,
      notes: [...counts, `Resident memory in MiB, at rest -> after the load: ${memory}.`],
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`); // what follows may fail too, and hide it
    await raw.stop();
    throw error;
  } finally {
    await bench.stop();
  }
}

async function warmUp(bench: BenchInstallation, raw: RawTemporal): Promise<void> {
  await timeMany(20, 5, async () => (await raw.start()).result());
  await timeMany(20, 5, async () => ended(bench, (await bench.post(oneStep)).id));
}

/** Both are waited for in the same way: by Temporal's long poll for the end of the run. */
async function ended(bench: BenchInstallation, id: string): Promise<void> {
  for (;;) {
    try {
      await bench.client.workflow.getHandle(taskWorkflowId(id)).result();
      return;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 2)); // a submit is answered before its workflow is started
    }
  }
}

async function oneStepTask(bench: BenchInstallation, raw: RawTemporal, count: number): Promise<Figure> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let index = 0; index < count; index += 1) {
    theirs.push(...(await timeMany(1, 1, async () => (await raw.start()).result())));
    ours.push(...(await timeMany(1, 1, async () => ended(bench, (await bench.post(oneStep)).id))));
  }
  const ratio = median(ours) / median(theirs);
  return {
    name: `uncontended one-step task, POST to end, median of ${count}`,
    ours: inUnits(median(ours)),
    peer: inUnits(median(theirs)),
    ratio: ratio.toFixed(2),
    bar: 'ratio at most 1.5',
    met: ratio <= 1.5,
  };
}

async function submit(bench: BenchInstallation, raw: RawTemporal, count: number): Promise<Figure[]> {
  const started: { result(): Promise<unknown> }[] = [];
  const theirs = await timeMany(count, 50, async () => void started.push(await raw.start()));
  await Promise.all(started.map((run) => run.result()));
  const ids: string[] = [];
  const ours = await timeMany(count, 50, async () => void ids.push((await bench.post(oneStep)).id));
  await Promise.all(ids.map((id) => ended(bench, id)));
  const at = (share: number): Figure => ({
    name: `submit with 50 clients without a pause, p${share * 100} of ${count}`,
    ours: inUnits(quantile(ours, share)),
    peer: inUnits(quantile(theirs, share)),
    ratio: (quantile(ours, share) / quantile(theirs, share)).toFixed(2),
    bar: share === 0.95 ? 'under 200 ms [PERF-01]' : '',
    met: share === 0.95 ? quantile(ours, share) < 200 : null,
  });
  return [at(0.5), at(0.95), at(0.99)];
}

/** 50 clients who each post once every two seconds: what people notice, where the closed loop above is the machine's limit. */
async function pacedSubmit(bench: BenchInstallation, seconds: number): Promise<Figure> {
  const clients = 50;
  const everyMs = 2_000;
  const took: number[] = [];
  const ids: string[] = [];
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      await new Promise((resolve) => setTimeout(resolve, (client * everyMs) / clients));
      for (let turn = 0; turn < (seconds * 1_000) / everyMs; turn += 1) {
        const nextMs = performance.now() + everyMs;
        took.push(...(await timeMany(1, 1, async () => void ids.push((await bench.post(oneStep)).id))));
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, nextMs - performance.now())));
      }
    }),
  );
  await Promise.all(ids.map((id) => ended(bench, id)));
  const [p50, p95] = [quantile(took, 0.5), quantile(took, 0.95)];
  return {
    name: `submit with 50 clients, ${(clients * 1_000) / everyMs} a second in all while the tasks run, p50 / p95 of ${took.length}`,
    ours: `${inUnits(p50)} / ${inUnits(p95)}`,
    peer: '',
    ratio: '',
    bar: 'p95 under 200 ms [PERF-01]',
    met: p95 < 200,
  };
}

async function throughput(bench: BenchInstallation, raw: RawTemporal, count: number): Promise<Figure> {
  const perSecond = async (job: () => Promise<unknown>) => {
    const startedMs = performance.now();
    await timeMany(count, 50, job);
    return (count * 1_000) / (performance.now() - startedMs);
  };
  const theirs = await perSecond(async () => (await raw.start()).result());
  const ours = await perSecond(async () => ended(bench, (await bench.post(oneStep)).id));
  return {
    name: `throughput of ${count} one-step tasks, 50 in flight`,
    ours: `${ours.toFixed(1)}/s`,
    peer: `${theirs.toFixed(1)}/s`,
    ratio: (ours / theirs).toFixed(2),
    bar: '',
    met: null,
  };
}

/** Temporal calls of both, and SQL round trips of ours, per one-step task, less what a quiet installation asks in the same time. */
async function countCalls(bench: BenchInstallation, count: number): Promise<string[]> {
  const raw = await startRawTemporal(bench.temporal, slots);
  const measured = async (job: () => Promise<unknown>) => {
    const before = await temporalCalls(bench.temporalMetrics);
    await timeMany(count, 1, job);
    const calls = callsBetween(before, await temporalCalls(bench.temporalMetrics));
    const each = [...calls].map(([operation, times]): [string, number] => [operation, times / count]).filter(([, times]) => times >= 0.05);
    return `${each.reduce((sum, [, times]) => sum + times, 0).toFixed(1)} (${each.map(([operation, times]) => `${operation} ${times.toFixed(1)}`).join(', ')})`;
  };
  const theirs = await measured(async () => (await raw.start()).result());
  await raw.stop();
  const ours = await measured(async () => ended(bench, (await bench.post(oneStep)).id));
  return [`Temporal calls per one-step task, without polls: ours ${ours}; raw ${theirs}.`, await countQueries(bench, count)];
}

async function countQueries(bench: BenchInstallation, count: number): Promise<string> {
  const url = new URL(bench.databaseUrl);
  const proxy = await startCountingProxy({ host: url.hostname, port: Number(url.port) });
  await bench.sql`create database counting`;
  url.port = String(proxy.port);
  url.pathname = '/counting';
  const counted = await startBenchInstallation({ models: false, env: { DATABASE_URL: url.href } });
  try {
    await timeMany(10, 1, async () => ended(counted, (await counted.post(oneStep)).id));
    const quietFrom = proxy.count();
    const quietMs = 5_000;
    await new Promise((resolve) => setTimeout(resolve, quietMs));
    const quiet = (proxy.count() - quietFrom) / quietMs;
    const from = proxy.count();
    const tookMs = (await timeMany(count, 1, async () => ended(counted, (await counted.post(oneStep)).id))).reduce((sum, each) => sum + each, 0);
    const each = (proxy.count() - from - quiet * tookMs) / count;
    return `SQL round trips per one-step task: ${each.toFixed(1)}, beside ${(quiet * 1_000).toFixed(1)} a second of a quiet installation.`;
  } finally {
    await counted.stop();
    await proxy.stop();
  }
}

async function warmStart(bench: BenchInstallation): Promise<number> {
  await bench.product.down();
  const startedMs = performance.now();
  await bench.product.up();
  const { id } = await bench.post(oneStep);
  const headers = await bench.product.headers();
  const status = async () => ((await (await fetch(`${bench.product.api}/api/v1/tasks/${id}`, { headers })).json()) as { status: string }).status;
  while ((await status()) !== 'completed') await new Promise((resolve) => setTimeout(resolve, 20));
  return performance.now() - startedMs;
}
