import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { isFinal, type TaskStatus } from '../../contract/status.js';
import type { Sql } from '../../db/connect.js';
import { checkInvariants } from '../../db/invariants.js';
import { readProcessFile } from '../../mains/process-file.js';
import type { Entry } from './ledger.js';
import type { Product } from './product.js';

interface TaskRow {
  readonly id: string;
  readonly status: TaskStatus;
  readonly token: string;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** Remembers each end it has seen, and notices when a task leaves it. */
export interface Watch {
  look(sql: Sql): Promise<void>;
  readonly breaches: readonly string[];
}

export function watchEnds(): Watch {
  const ends = new Map<string, TaskStatus>();
  const breaches: string[] = [];
  return {
    breaches,
    async look(sql) {
      for (const { id, status } of await readTasks(sql)) {
        const before = ends.get(id);
        if (before !== undefined && before !== status) breaches.push(`task ${id} was ${before} and is ${status} now`);
        if (isFinal(status)) ends.set(id, status);
      }
    },
  };
}

export async function readTasks(sql: Sql): Promise<readonly TaskRow[]> {
  return sql<TaskRow[]>`select id, status, parameters ->> 'token' as token, error from tasks`;
}

/** Every promise that a quiet installation can be held to. @returns a sentence for each breach */
export async function judge(product: Product, sql: Sql, entries: readonly Entry[], namespace: string): Promise<readonly string[]> {
  const tasks = await readTasks(sql);
  const breaches = [...(await checkInvariants(sql))];
  for (const entry of entries) {
    const found = tasks.filter((task) => task.token === entry.token);
    if (found.length !== 1) breaches.push(`${entry.token} was accepted and is there ${found.length} times`);
    const [task] = found;
    if (task === undefined) continue;
    if (task.id !== entry.id) breaches.push(`${entry.token} was answered as ${entry.id} and is ${task.id}`);
    breaches.push(...(await judgeEnd(product, entry, task)));
  }
  if (tasks.length !== entries.length) breaches.push(`${entries.length} tasks were asked for and ${tasks.length} are there`);
  breaches.push(...(await judgeCommits(sql)), ...(await judgeTemporal(product, namespace)));
  return breaches;
}

async function judgeEnd(product: Product, entry: Entry, task: TaskRow): Promise<readonly string[]> {
  const what = `${entry.template} ${task.id}`;
  if (entry.cancelled === 200 && task.status !== 'cancelled') return [`${what} was cancelled before it started and is ${task.status}`];
  if (entry.cancelled === 202 && task.status === 'cancelled') return [];
  if (entry.cancelled === 200) return [];
  if (task.status !== 'completed') return [`${what} is ${task.status}: ${task.error?.code ?? 'no error'} ${task.error?.message ?? ''}`];
  const stored = await readFile(path.join(product.home, 'results', task.id, 'note.txt'), 'utf8').catch(() => '');
  return stored.includes(entry.token) ? [] : [`${what} is completed and its file is ${JSON.stringify(stored)}`];
}

/** A task's attempt has at most one committed result for each step, and a completed one has all of them. */
async function judgeCommits(sql: Sql): Promise<readonly string[]> {
  const rows = await sql<{ breach: string }[]>`
    select format('step %s of task %s is committed %s times', step, task_id, count(*)) as breach
    from task_executions where status = 'completed' group by task_id, attempt, step having count(*) > 1
    union all
    select format('%s is held by task %s after the end', name, task_id) from (select name, task_id from holds union all select pool, task_id from allocations) h
    union all
    select format('task %s is completed with %s of %s steps committed', t.id, count(e.id), jsonb_array_length(t.plan -> 'steps'))
    from tasks t left join task_executions e on e.task_id = t.id and e.attempt = t.attempt and e.status = 'completed'
    where t.status = 'completed' group by t.id having count(e.id) <> jsonb_array_length(t.plan -> 'steps')`;
  return rows.map(({ breach }) => breach);
}

async function judgeTemporal(product: Product, namespace: string): Promise<readonly string[]> {
  const file = await readProcessFile(product.home, 'temporal');
  const connection = await Connection.connect({ address: `127.0.0.1:${file?.port}` });
  try {
    const client = new Client({ connection, namespace });
    const open: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query: `ExecutionStatus = "Running"` })) {
      if (workflowId.startsWith('task-')) open.push(`workflow ${workflowId} still runs`);
    }
    return open;
  } finally {
    await connection.close();
  }
}
