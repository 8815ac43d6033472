import type { TaskStatus } from '../contract/status.js';
import { answered, type Sql } from './connect.js';

export interface RelatedTask {
  readonly id: string;
  readonly name: string;
  readonly status: TaskStatus;
}

export interface Relations {
  readonly dependsOn: readonly RelatedTask[];
  readonly dependents: readonly RelatedTask[];
  readonly replayedFrom: RelatedTask | null;
  readonly replays: readonly RelatedTask[];
}

/**
 * Tasks that a task waits for, that wait for it, whose input it repeats and that repeat its own; those of other people are left out.
 * Null when there is no such task, or it is not the owner's. Reads.
 * @param max tasks of each kind
 */
export async function readRelations(sql: Sql, taskId: string, owner: string | null, max: number): Promise<Relations | null> {
  const [row] = await answered(sql<Relations[]>`
    select
      (select coalesce(jsonb_agg(r.task order by r.at, r.id), '[]') from (
        select e.created_at as at, p.id, jsonb_build_object('id', p.id, 'name', p.name, 'status', p.status) as task
        from task_dependencies e join tasks p on p.id = e.parent_task_id where e.child_task_id = t.id and (${owner}::text is null or p.user_id = ${owner}) order by 1, 2 limit ${max}) r) as "dependsOn",
      (select coalesce(jsonb_agg(r.task order by r.at, r.id), '[]') from (
        select c.created_at as at, c.id, jsonb_build_object('id', c.id, 'name', c.name, 'status', c.status) as task
        from task_dependencies e join tasks c on c.id = e.child_task_id where e.parent_task_id = t.id and (${owner}::text is null or c.user_id = ${owner}) order by 1, 2 limit ${max}) r) as dependents,
      (select jsonb_build_object('id', s.id, 'name', s.name, 'status', s.status) from tasks s where s.id = t.replayed_from and (${owner}::text is null or s.user_id = ${owner})) as "replayedFrom",
      (select coalesce(jsonb_agg(r.task order by r.at, r.id), '[]') from (
        select c.created_at as at, c.id, jsonb_build_object('id', c.id, 'name', c.name, 'status', c.status) as task
        from tasks c where c.replayed_from = t.id and (${owner}::text is null or c.user_id = ${owner}) order by 1, 2 limit ${max}) r) as replays
    from tasks t where t.id = ${taskId} and (${owner}::text is null or t.user_id = ${owner})`);
  return row ?? null;
}
