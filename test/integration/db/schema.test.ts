import { randomUUID } from 'node:crypto';
import pino from 'pino';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { migrate } from '../../../db/migrate.js';

const log = pino({ level: 'silent' });
const name = `test_${randomUUID().replaceAll('-', '')}`;
let admin: postgres.Sql;
let sql: postgres.Sql;
let url: string;
let starters: string[][];

beforeAll(async () => {
  const adminUrl = inject('servers').postgres;
  admin = postgres(adminUrl, { max: 1, onnotice: () => {} });
  await admin`create database ${admin(name)}`;
  url = Object.assign(new URL(adminUrl), { pathname: `/${name}` }).href;
  starters = await Promise.all(Array.from({ length: 4 }, () => migrate(url, log)));
  sql = postgres(url, { max: 2, onnotice: () => {} });
});
afterAll(async () => {
  await sql.end({ timeout: 5 });
  await admin`drop database if exists ${admin(name)} with (force)`;
  await admin.end({ timeout: 5 });
});

describe('migrations [DATA-16]', () => {
  test('several starters on an empty database: each migration is run once, by one of them', async () => {
    const applied = await sql<{ name: string }[]>`select name from migrations order by id`;
    const names = applied.map((row) => row.name);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(names.toSorted());
    expect(starters.flat()).toEqual(names);
  });

  test('a later start finds nothing to do', async () => {
    expect(await migrate(url, log)).toEqual([]);
  });
});

const columnsOf = async (table: string) => {
  const rows = await sql<{ column: string; type: string; nullable: string; fallback: string | null }[]>`
    select column_name as column, data_type || coalesce('(' || character_maximum_length || ')', '') as type, is_nullable as nullable, column_default as fallback
    from information_schema.columns where table_schema = 'public' and table_name = ${table}`;
  return Object.fromEntries(
    rows.map(({ column, type, nullable, fallback }) => [
      column,
      `${type}${nullable === 'NO' ? ' not null' : ''}${fallback === null ? '' : ` default ${fallback}`}`,
    ]),
  );
};

describe('tables', () => {
  test('tasks [DATA-01]', async () => {
    expect(await columnsOf('tasks')).toMatchObject({
      id: 'uuid not null default gen_random_uuid()',
      name: 'character varying(255) not null',
      type: 'character varying(100) not null',
      priority: 'integer not null default 0',
      priority_level: 'integer not null',
      status: expect.stringMatching(/^character varying\(50\) not null default 'queued'/),
      created_at: 'timestamp with time zone not null default now()',
      updated_at: 'timestamp with time zone not null default now()',
      metadata: "jsonb not null default '{}'::jsonb",
    });
  });

  test.each([
    [0, 1],
    [10, 1],
    [11, 2],
    [50, 5],
    [51, 6],
    [91, 10],
    [100, 10],
  ])('priority %i is level %i [DATA-01]', async (exact, level) => {
    const [row] = await sql`
      insert into tasks (name, type, priority, user_id, template, template_hash, plan) values ('x', 'x', ${exact}, 'u', 't', 'h', '{}') returning priority_level`;
    expect(row).toEqual({ priority_level: level });
  });

  test('a status outside the five is refused [TASK-06]', async () => {
    const insert = sql`insert into tasks (name, type, status, user_id, template, template_hash, plan) values ('x', 'x', 'paused', 'u', 't', 'h', '{}')`;
    await expect(insert).rejects.toMatchObject({ code: '23514' });
  });

  test('task_executions [DATA-02]', async () => {
    expect(await columnsOf('task_executions')).toMatchObject({
      id: expect.stringMatching(/^uuid not null/),
      task_id: 'uuid not null',
      started_at: expect.stringMatching(/^timestamp with time zone/),
      completed_at: expect.stringMatching(/^timestamp with time zone/),
      status: expect.stringMatching(/^character varying\(50\)/),
      cpu_used: 'double precision',
      memory_used: 'double precision',
      exit_code: 'integer',
      logs: 'text',
      metrics: "jsonb not null default '{}'::jsonb",
    });
  });

  test('task_dependencies, a pair once [DATA-03]', async () => {
    expect(await columnsOf('task_dependencies')).toMatchObject({
      id: expect.stringMatching(/^uuid not null/),
      parent_task_id: 'uuid not null',
      child_task_id: 'uuid not null',
      dependency_type: expect.stringMatching(/^character varying\(50\) not null default 'sequential'/),
      created_at: 'timestamp with time zone not null default now()',
    });
    const [parent, child] = await sql<{ id: string }[]>`
      insert into tasks (name, type, user_id, template, template_hash, plan) select 'x', 'x', 'u', 't', 'h', '{}' from generate_series(1, 2) returning id`;
    const pair = () => sql`insert into task_dependencies (parent_task_id, child_task_id) values (${parent?.id ?? null}, ${child?.id ?? null})`;
    await pair();
    await expect(pair()).rejects.toMatchObject({ code: '23505' });
  });

  test('orchestration_decisions [DATA-04]', async () => {
    expect(await columnsOf('orchestration_decisions')).toMatchObject({
      id: expect.stringMatching(/^uuid not null/),
      decision_type: 'character varying(50) not null',
      task_id: 'uuid',
      input_data: 'jsonb not null',
      output_data: 'jsonb not null',
      confidence_score: 'double precision',
      execution_time_ms: 'integer',
      model_version: 'character varying(50)',
      created_at: 'timestamp with time zone not null default now()',
    });
  });

  test('indexes on tasks, executions and decisions [DATA-09] [DATA-10]', async () => {
    const rows = await sql<{ indexname: string; indexdef: string }[]>`select indexname, indexdef from pg_indexes where schemaname = 'public'`;
    const columns = Object.fromEntries(rows.map(({ indexname, indexdef }) => [indexname, indexdef.replace(/^.*USING btree /, '')]));
    expect(columns).toMatchObject({
      idx_tasks_status_priority: '(status, priority DESC)',
      idx_task_executions_task_id_started: '(task_id, started_at)',
      idx_task_dependencies_parent: '(parent_task_id)',
      idx_task_dependencies_child: '(child_task_id)',
      idx_orchestration_decisions_task_id: '(task_id)',
      idx_orchestration_decisions_type_time: '(decision_type, created_at)',
    });
  });
});

describe('ten thousand waiting steps', () => {
  beforeAll(async () => {
    await sql`truncate tasks cascade`;
    await sql`
      insert into tasks (name, type, priority, user_id, template, template_hash, plan)
      select 'x', 'x', n % 101, 'u', 't', 'h', '{}' from generate_series(1, 10000) n`;
    await sql`
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, not_before)
      select id, 1, 's', 1, 1, 'r', case when pos % 2 = 0 then 'model' else 'general' end, case when pos % 2 = 0 then 'm' || (pos % 100)::text end, priority_level, priority, pos,
        case when pos % 3 = 0 then 'infinity' else '-infinity' end::timestamptz
      from tasks`;
    await sql`analyze line`;
  });

  async function plan(query: postgres.PendingQuery<postgres.Row[]>): Promise<string> {
    const rows = await sql<{ 'QUERY PLAN': string }[]>`explain ${query}`;
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  }

  test('the first of a level is read from an index, already sorted [DATA-12]', async () => {
    const found = await plan(sql`
      select * from line l where l.state = 'waiting' and not l.held and l.pool = 'general' and l.key is null and l.not_before < 'infinity' and l.not_before <= now() and l.level = 5
      order by l.key, l.level desc, l.exact desc, l.pos, l.id limit 10`);
    expect(found).toContain('Index Scan using line_waiting on line');
    expect(found).not.toContain('Sort');
  });

  test('the first of a key is read from an index, already sorted [DATA-12]', async () => {
    const found = await plan(sql`
      select * from line l where l.state = 'waiting' and not l.held and l.pool = 'model' and l.not_before < 'infinity' and l.not_before <= now() and l.key = 'm10'
      order by l.level desc, l.exact desc, l.pos, l.id limit 10`);
    expect(found).toContain('Index Scan using line_waiting on line');
    expect(found).not.toContain('Sort');
  });

  test('whether a step would pass another is read from an index [DATA-12]', async () => {
    const found = await plan(sql`
      select id from line where pool = 'general' and state = 'waiting' and not held and not_before < 'infinity' and not_before <= now() and id <> 1
      order by pool, key, level desc, exact desc, pos, id limit 1`);
    expect(found).toContain('using line_waiting on line');
  });

  test('the next row to come due is read from an index [DATA-12]', async () => {
    const found = await plan(sql`
      select min(not_before) from line where state = 'waiting' and not_before > '-infinity' and not_before < 'infinity' and not_before > now()`);
    expect(found).toContain('using line_backing_off on line');
  });
});
