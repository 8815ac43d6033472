import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** A template as a checkpoint keeps it. */
export interface KeptDefinition {
  readonly name: string;
  readonly source: string;
  readonly hash: string;
  readonly yaml: string;
}

/** A task that had not ended, in the order of the queue. */
export interface KeptTask {
  readonly task_id: string;
  readonly name: string;
  readonly template: string;
  readonly template_hash: string;
  readonly status: 'queued' | 'running';
  readonly attempt: number;
  /** 0 to 100 */
  readonly exact: number;
  /** absent: the checkpoint is from a time when nobody noted it, and the priority counts as given */
  readonly priority_given?: boolean;
  /** numeric, as text */
  readonly pos: string;
  readonly agent_assigned: string | null;
  readonly depends_on: readonly string[];
}

export interface CheckpointRow {
  readonly id: number;
  readonly name: string | null;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly tasks: number;
  readonly definitions: number;
}

export interface CheckpointContent {
  readonly definitions: readonly KeptDefinition[];
  readonly queue: readonly KeptTask[];
  readonly locks: readonly { readonly name: string; readonly task_id: string }[];
}

export type RestoredTask = 'unchanged' | 'moved' | 'queued_again' | 'went_on' | 'gone';

const columns = (sql: Sql) => sql`
  id, name, created_by as "createdBy", created_at as "createdAt", jsonb_array_length(content -> 'queue') as tasks, jsonb_array_length(content -> 'definitions') as definitions`;

/** Writes a checkpoint of this moment. A repeat writes another one. */
export async function createCheckpoint(
  sql: Sql,
  checkpoint: { readonly name: string | null; readonly user: string; readonly definitions: readonly KeptDefinition[] },
): Promise<CheckpointRow> {
  const [row] = await answered(sql<CheckpointRow[]>`
    select ${columns(sql)} from checkpoint_create(${checkpoint.name}, ${checkpoint.user}, ${storedJson(sql, checkpoint.definitions)})`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row;
}

/** Every checkpoint, newest first, without its content. Reads. */
export async function listCheckpoints(sql: Sql): Promise<CheckpointRow[]> {
  return answered(sql<CheckpointRow[]>`select ${columns(sql)} from checkpoints order by id desc`);
}

/** One checkpoint with its content; null when there is none. Reads. */
export async function readCheckpoint(sql: Sql, id: number): Promise<(CheckpointRow & { readonly content: CheckpointContent }) | null> {
  const [row] = await answered(sql<(CheckpointRow & { content: CheckpointContent })[]>`select ${columns(sql)}, content from checkpoints where id = ${id}`);
  return row ?? null;
}

/** Gives a task the priority and the place that it had, whether or not somebody had chosen them, and queues it again when it has failed or was cancelled. May be repeated. */
export async function restoreTask(sql: Sql, task: Pick<KeptTask, 'task_id' | 'exact' | 'pos' | 'priority_given'>): Promise<RestoredTask> {
  const [row] = await answered(
    sql<
      { outcome: RestoredTask }[]
    >`select checkpoint_restore_task(${task.task_id}, ${task.exact}, ${task.pos}::text::numeric, ${task.priority_given ?? true}) as outcome`,
  );
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row.outcome;
}
