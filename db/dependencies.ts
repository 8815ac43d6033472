import type { DagEdge } from '../scheduling/dag.js';
import { answered, type Sql } from './connect.js';
import type { Owner } from './moves.js';

export type DependencyType = 'sequential' | 'data';

export type DependencyOutcome =
  | { readonly outcome: 'not_found' | 'unchanged' | 'changed' }
  /** the task named itself */
  | { readonly outcome: 'itself' }
  /** there is no such task, or it is not the owner's */
  | { readonly outcome: 'unknown_dependency' }
  /** a step of it was granted, or it has ended */
  | { readonly outcome: 'started' }
  /** the tasks would wait for each other; what their circle is made of, without the edge that was asked for */
  | { readonly outcome: 'cycle'; readonly edges: readonly DagEdge[] };

/** Lets a task that has not started wait for another one. May be repeated: the second time changes nothing. */
export async function addDependency(sql: Sql, taskId: string, owner: Owner, parent: string, type: DependencyType): Promise<DependencyOutcome> {
  const [row] = await answered(sql<{ outcome: DependencyOutcome }[]>`select task_add_dependency(${taskId}, ${owner}, ${parent}, ${type}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

/** Lets a task that has not started no longer wait for another one; it may go when that was the last. May be repeated. */
export async function removeDependency(sql: Sql, taskId: string, owner: Owner, parent: string): Promise<DependencyOutcome> {
  const [row] = await answered(sql<{ outcome: DependencyOutcome }[]>`select task_remove_dependency(${taskId}, ${owner}, ${parent}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

/** What each of the tasks waits for; those that wait for nothing have no entry. Reads. */
export async function readDependencies(sql: Sql, taskIds: readonly string[]): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const rows = await answered(sql<{ child: string; parents: string[] }[]>`
    select child_task_id as child, array_agg(parent_task_id::text) as parents from task_dependencies where child_task_id = any(${taskIds as string[]}::uuid[]) group by 1`);
  return new Map(rows.map(({ child, parents }) => [child, new Set(parents)]));
}
