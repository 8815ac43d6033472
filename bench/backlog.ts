import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { QueueView } from '../contract/schemas/queue.js';
import type { Sql } from '../db/connect.js';
import { type ApiProcess, createScratchDatabase, residentMiB, startApiProcess } from './api-process.js';
import type { EngineMeasures } from './backlog-engine.js';
import { addWaiting, models } from './backlog-line.js';
import { startBenchInstallation } from './installation.js';
import type { Figure, Section } from './report.js';
import { inUnits, quantile } from './statistics.js';

const barMs = 50;
const rounds = 160;
/** memory is looked at after each of these */
const parts = 8;

/** The queue page over HTTP and decisions in PostgreSQL while thousands wait and an engine decides and forecasts [PERF-03, PERF-06, PERF-07]. */
export async function benchBacklog(scale: number): Promise<Section> {
  const waiting = Math.max(1_000, Math.round(10_000 * scale));
  const installation = await startBenchInstallation({ models: false, env: { LOG_LEVEL: 'ERROR' } });
  const home = await mkdtemp(path.join(tmpdir(), 'backlog-'));
  const { url, sql, drop } = await createScratchDatabase(installation.databaseUrl, 'backlog');
  const children: ChildProcess[] = [];
  try {
    await addWaiting(sql, waiting);
    await sql`analyze`;
    const engine = fork(path.join(import.meta.dirname, 'backlog-engine.ts'), [url], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    children.push(engine);
    const process = await startApiProcess(home, url, installation.temporal);
    children.push(process.child);
    const api = queueOf(process);
    while ((await sql`select 1 from forecasts`).length === 0) await delay(100);
    const startedMs = performance.now();
    await api.get('?limit=50');
    const firstMs = performance.now() - startedMs;
    const [looks, memory] = await lookOn(api, [api.pid, engine.pid ?? 0]);
    engine.send('tell');
    const [measures] = (await once(engine, 'message')) as [EngineMeasures];
    return {
      title: 'A long backlog',
      method:
        `${waiting} steps of all levels and of 10 users wait for ${models} models on one host with four slots. One API process is asked over HTTP, each look ${rounds} times in turn, while the decide loop and the forecast loop of an engine run in another process, ten steps a second end and as many come; ` +
        'steps end at once, and changes of models take no time. Decisions are measured from their begin to their commit, reading and writing PostgreSQL included.',
      figures: [...[...looks].map(([look, took]) => pageFigure(look, took)), ...engineFigures(measures), ...memoryFigures(memory)],
      notes: [`The first look of the API process: ${inUnits(firstMs)}.`, await forecastNote(sql)],
    };
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await drop();
    await installation.stop();
    await rm(home, { recursive: true, force: true });
  }
}

interface Api {
  readonly pid: number;
  get(query: string): Promise<QueueView>;
  /** @returns false when one of the two has started meanwhile */
  move(taskId: string, before: string): Promise<boolean>;
}

function queueOf({ pid, address, headers }: ApiProcess): Api {
  const base = `${address}/api/v1/queue`;
  const answered = async (answer: Response) => {
    const body = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${body}`);
    return body;
  };
  return {
    pid,
    get: async (query) => JSON.parse(await answered(await fetch(base + query, { headers }))) as QueueView,
    async move(taskId, before) {
      const answer = await fetch(`${base}/reorder`, { method: 'POST', headers, body: JSON.stringify({ task_id: taskId, before }) });
      if (answer.status === 409) return false;
      await answered(answer);
      return true;
    },
  };
}

/** Asks for each kind of page in turn. @returns milliseconds by look, and memory in MiB of each process after each part */
async function lookOn(api: Api, pids: readonly number[]): Promise<[ReadonlyMap<string, number[]>, number[][]]> {
  const looks = new Map<string, number[]>();
  const look = async (name: string, query: string): Promise<QueueView> => {
    const startedMs = performance.now();
    const page = await api.get(query);
    looks.set(name, [...(looks.get(name) ?? []), performance.now() - startedMs]);
    await delay(20);
    return page;
  };
  const farDown = await cursorAt(api, 16);
  const memory: number[][] = [];
  for (let round = 0; round < rounds; round += 1) {
    const first = await look('50 entries', '?limit=50');
    await look('500 entries', '?limit=500');
    await look('50 entries of one model', `?limit=50&model=model-${round % models}`);
    await look('50 entries of one user', `?limit=50&user=user-${round % 10}`);
    if (farDown !== null) await look('50 entries, far down', `?limit=50&cursor=${farDown}`);
    const [to, from] = [first.items.at(10)?.task_id, first.items.at(-1)?.task_id];
    if (to != null && from != null && (await api.move(from, to))) await look('50 entries, the first look after a move', '?limit=50');
    if ((round + 1) % (rounds / parts) === 0) memory.push(await residentMiB(pids));
  }
  return [looks, memory];
}

async function cursorAt(api: Api, pages: number): Promise<string | null> {
  let cursor: string | null = null;
  for (let page = 0; page < pages; page += 1) {
    const { next_cursor: next }: QueueView = await api.get(`?limit=500${cursor === null ? '' : `&cursor=${cursor}`}`);
    if (next === null) return cursor;
    cursor = next;
  }
  return cursor;
}

function pageFigure(name: string, took: readonly number[]): Figure {
  const p95 = quantile(took, 0.95);
  return { ...plain(`queue page, ${name}, p50 / p95`, `${inUnits(quantile(took, 0.5))} / ${inUnits(p95)}`), bar: `p95 under ${barMs} ms`, met: p95 < barMs };
}

function engineFigures({ decisionsMs, forecastsMs, heldUpMs }: EngineMeasures): Figure[] {
  const p95 = quantile(decisionsMs, 0.95);
  return [
    {
      ...plain(`decision, read to commit, p50 / p95 of ${decisionsMs.length}`, `${inUnits(quantile(decisionsMs, 0.5))} / ${inUnits(p95)}`),
      bar: `p95 under ${barMs} ms [PERF-06]`,
      met: p95 < barMs,
    },
    plain(`forecast, read to commit, p50 / p95 of ${forecastsMs.length}`, `${inUnits(quantile(forecastsMs, 0.5))} / ${inUnits(quantile(forecastsMs, 0.95))}`),
    plain('the loop of the engine is held up, p99 / longest', `${inUnits(heldUpMs.p99)} / ${inUnits(heldUpMs.max)}`),
  ];
}

function memoryFigures(memory: readonly (readonly number[])[]): Figure[] {
  return ['API', 'engine'].map((process, index) => {
    const taken = memory.map((each) => each[index] ?? 0);
    const [last = 0, ...before] = taken.toReversed();
    return {
      ...plain(`memory of the ${process} after each eighth`, `${taken.join(', ')} MiB`),
      bar: 'the last at most 20 MiB above the most before it',
      met: last <= Math.max(...before) + 20,
    };
  });
}

function plain(name: string, ours: string): Figure {
  return { name, ours, peer: '', ratio: '', bar: '', met: null };
}

async function forecastNote(sql: Sql): Promise<string> {
  const [row] = await sql<
    { text: string; stored: string }[]
  >`select sum(octet_length(entries)) as text, sum(pg_column_size(entries)) as stored from forecast_entries`;
  const kiB = (bytes: string | undefined) => Math.round(Number(bytes) / 1_024);
  return `A forecast is ${kiB(row?.text)} KiB of JSON, stored in ${kiB(row?.stored)} KiB that are not logged.`;
}
