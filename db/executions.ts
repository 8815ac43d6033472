import type { JsonObject, JsonValue } from '../contract/json.js';
import { answered, type Sql } from './connect.js';

/** One try of a step, as its end recorded it; without its output. */
export interface ExecutionRow {
  readonly id: string;
  readonly attempt: number;
  readonly step: string;
  readonly stepType: string;
  readonly stepAttempt: number;
  readonly tryNo: number;
  readonly host: string;
  readonly status: 'completed' | 'failed' | 'cancelled' | 'void';
  readonly startedAt: Date;
  readonly completedAt: Date;
  readonly cpuUsed: number | null;
  readonly memoryUsed: number | null;
  readonly exitCode: number | null;
  readonly logs: string | null;
  readonly metrics: JsonObject;
  readonly error: { readonly code: string; readonly message?: string; readonly details?: JsonValue } | null;
  readonly outputBytes: number | null;
}

/** Tries of one task that are shown; one with more is a fault of its own. */
const shownMax = 1_000;

/** Every try of a task of all its attempts, oldest first; null when there is no such task, or it is not the owner's. Reads. */
export async function listExecutions(sql: Sql, taskId: string, owner: string | null): Promise<ExecutionRow[] | null> {
  const rows = await answered(sql<(ExecutionRow | { id: null })[]>`
    select e.id, e.attempt, e.step, e.step_type as "stepType", e.step_attempt as "stepAttempt", e.try as "tryNo", e.host, e.status, e.started_at as "startedAt",
      e.completed_at as "completedAt", e.cpu_used as "cpuUsed", e.memory_used as "memoryUsed", e.exit_code as "exitCode", e.logs, e.metrics, e.error, e.output_bytes as "outputBytes"
    from tasks t left join task_executions e on e.task_id = t.id
    where t.id = ${taskId} and (${owner}::text is null or t.user_id = ${owner})
    order by e.started_at, e.id limit ${shownMax}`);
  if (rows.length === 0) return null;
  return rows.filter((row): row is ExecutionRow => row.id !== null);
}
