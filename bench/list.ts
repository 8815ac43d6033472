import { finalStatuses } from '../contract/status.js';
import type { Sql } from '../db/connect.js';
import { listTasks, readTask, type TaskFilter } from '../db/tasks.js';
import type { Caller } from '../service/caller.js';
import type { ServiceDeps } from '../service/deps.js';
import { listHistoryUseCase } from '../service/list-history.js';
import { createScratchDatabase } from './api-process.js';
import { startBenchInstallation } from './installation.js';
import type { Figure, Section } from './report.js';
import { inUnits, quantile, timeMany } from './statistics.js';

const queued = 10_000;
const barMs = 50;

const none: TaskFilter = { owner: null, statuses: [], templates: [], levels: [], types: [], userIds: [], name: null, createdAfter: null, createdBefore: null };
/** What people look for, each alone and together, as an administrator and as a user. */
const looks: readonly (readonly [name: string, filter: TaskFilter])[] = [
  ['all', none],
  ['status queued', { ...none, statuses: ['queued'] }],
  ['status failed', { ...none, statuses: ['failed'] }],
  ['a rare template', { ...none, templates: ['rare'] }],
  ['one level', { ...none, levels: [7] }],
  ['one user', { ...none, userIds: ['user-3'] }],
  ['own tasks', { ...none, owner: 'user-3' }],
  ['own failed tasks', { ...none, owner: 'user-3', statuses: ['failed'] }],
  ['a part of a name', { ...none, name: '9999' }],
  ['a day', { ...none, createdAfter: new Date(Date.now() - 9 * 86_400_000), createdBefore: new Date(Date.now() - 8 * 86_400_000) }],
  ['failed, common template, level 5', { ...none, statuses: ['failed'], templates: ['common-1'], levels: [5] }],
];

const admin: Caller = { userId: 'root', role: 'admin', keyId: 'bench' };
/** What has ended, by its end, as the page History asks for it. */
const ended: readonly (readonly [name: string, caller: Caller, filter: TaskFilter])[] = [
  ['all', admin, { ...none, statuses: finalStatuses }],
  ['failed', admin, { ...none, statuses: ['failed'] }],
  ['own', { userId: 'user-3', role: 'user', keyId: 'bench' }, { ...none, statuses: finalStatuses }],
  ['a rare template', admin, { ...none, statuses: finalStatuses, templates: ['rare'] }],
  ['a part of a name', admin, { ...none, statuses: finalStatuses, name: '9999' }],
];

/** Lists, filters and reads among 100,000 tasks, by the queries of the API on a database of its own [DATA-12]. */
export async function benchList(scale: number): Promise<Section> {
  const tasks = Math.round(100_000 * scale);
  const installation = await startBenchInstallation({ models: false });
  const { sql, drop } = await createScratchDatabase(installation.databaseUrl, 'list');
  try {
    await seedTasks(sql, tasks);
    const figures: Figure[] = [];
    for (const [look, filter] of looks) {
      const took = await timeMany(60, 1, () => listTasks(sql, filter, { after: null, limit: 50 }));
      figures.push(figureOf(`list 50, ${look}`, took));
    }
    const history = listHistoryUseCase({ sql } as ServiceDeps);
    for (const [look, caller, filter] of ended) {
      figures.push(figureOf(`history 50 by end, ${look}`, await timeMany(60, 1, () => history(caller, { filter, order: 'ended', limit: 50, cursor: null }))));
    }
    const deep = await deepPlace(sql, Math.round(tasks * 0.8));
    figures.push(figureOf('list 50, far down', await timeMany(60, 1, () => listTasks(sql, none, { after: deep, limit: 50 }))));
    const ids = (await sql<{ id: string }[]>`select id from tasks where status = 'queued' order by random() limit 60`).map(({ id }) => id);
    figures.push(figureOf('read a queued task with its position', await timeMany(60, 1, (index) => readTask(sql, ids[index] as string, null))));
    return {
      title: 'Lists',
      method: `${tasks} tasks with plans of 2 KB, ${Math.round(queued * scale)} of them queued, 20 users, 12 templates, 30 days; each query 60 times on a warm database, with the exact total.`,
      figures,
      notes: [`Sequential scans of tasks by all of these queries: ${await sequentialScans(sql)}.`],
    };
  } finally {
    await drop();
    await installation.stop();
  }
}

function figureOf(name: string, took: readonly number[]): Figure {
  const p95 = quantile(took, 0.95);
  return {
    name: `${name}, p50 / p95`,
    ours: `${inUnits(quantile(took, 0.5))} / ${inUnits(p95)}`,
    peer: '',
    ratio: '',
    bar: `p95 under ${barMs} ms [DATA-12]`,
    met: p95 < barMs,
  };
}

/** Fills a database with tasks of all statuses, users and templates of thirty days. */
export async function seedTasks(sql: Sql, tasks: number): Promise<void> {
  await sql`
    insert into tasks (name, type, template, template_hash, plan, parameters, user_id, priority, status, created_at, started_at, completed_at, result)
    select 'task ' || n, t.template, t.template, 'h', jsonb_build_object('steps', jsonb_build_array(jsonb_build_object('id', 's', 'type', 'ollama_generate',
        'model', jsonb_build_object('name', 'm', 'numCtx', 4096), 'input', jsonb_build_object('prompt', repeat('x', 1500))))), jsonb_build_object('prompt', repeat('y', 400)),
      'user-' || n % 20, 10 * (1 + n % 10), s.status, now() - n * interval '26 seconds', now() - n * interval '25.5 seconds', case when s.status in ('completed', 'failed', 'cancelled') then now() - n * interval '25 seconds' end,
      case when s.status = 'completed' then jsonb_build_object('text', repeat('z', 600)) end
    from generate_series(1, ${tasks}) n,
      lateral (select case when n % 1000 = 0 then 'rare' else 'common-' || n % 11 end as template) t,
      lateral (select case when n % 10 = 0 then 'queued' when n % 100 = 1 then 'running' when n % 10 < 7 then 'completed' when n % 10 < 9 then 'failed' else 'cancelled' end as status) s`;
  await sql`
    insert into task_dependencies (parent_task_id, child_task_id)
    select a.id, b.id from (select id, row_number() over (order by pos) n from tasks where status = 'queued') b
    join (select id, row_number() over (order by pos) n from tasks where status = 'completed') a on a.n = b.n where b.n % 5 = 0`;
  await sql`vacuum (analyze) tasks`;
  await sql`vacuum (analyze) task_dependencies`;
  await sql`select pg_stat_reset()`;
}

async function deepPlace(sql: Sql, offset: number) {
  const [row] = await sql<{ id: string; createdAt: string }[]>`
    select id, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdAt" from tasks order by created_at desc, id desc offset ${offset} limit 1`;
  if (row === undefined) throw new Error('no task so far down');
  return row;
}

async function sequentialScans(sql: Sql): Promise<number> {
  await sql`select pg_stat_force_next_flush()`;
  const [row] = await sql<{ scans: number }[]>`select seq_scan::integer as scans from pg_stat_user_tables where relname = 'tasks'`;
  return row?.scans ?? -1;
}
