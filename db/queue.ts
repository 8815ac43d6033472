import { answered, type Sql } from './connect.js';

/** What takes no grants until it is resumed: `queue`, `host:<id>`, `model:<name>`. */
export type PauseScope = 'queue' | `host:${string}` | `model:${string}`;

export interface PauseRow {
  readonly scope: PauseScope;
  readonly by: string | null;
  readonly reason: string | null;
  readonly at: Date;
}

/** Every pause, the oldest first. Reads. */
export async function readPauses(sql: Sql): Promise<PauseRow[]> {
  return answered(sql<PauseRow[]>`select scope, by_user as by, reason, at from queue_pauses order by at, scope`);
}

/** Lets a scope take no grants any more; what runs goes on. A repeat changes the reason, if it gives one. May be repeated. */
export async function pauseQueue(
  sql: Sql,
  scope: PauseScope,
  { by, reason }: { readonly by: string; readonly reason: string | null },
): Promise<'paused' | 'unchanged' | 'unknown_host'> {
  const [row] = await answered(sql<{ done: { outcome: 'paused' | 'unchanged' | 'unknown_host' } }[]>`select queue_pause(${scope}, ${by}, ${reason}) as done`);
  return row?.done.outcome ?? 'unchanged';
}

/** Ends a pause. May be repeated. */
export async function resumeQueue(sql: Sql, scope: PauseScope, by: string): Promise<'resumed' | 'unchanged'> {
  const [row] = await answered(sql<{ done: { outcome: 'resumed' | 'unchanged' } }[]>`select queue_resume(${scope}, ${by}) as done`);
  return row?.done.outcome ?? 'unchanged';
}
