import type { FailureInfo } from '../contract/failure.js';
import type { JsonObject } from '../contract/json.js';
import type { Plan } from '../contract/plan.js';
import type { TaskStatus } from '../contract/status.js';
import { answered, type Sql } from './connect.js';

/** One time that a step stood in the line; times as ISO 8601. */
export interface TryRow {
  readonly attempt: number;
  readonly step: string;
  readonly stepAttempt: number;
  readonly tryNo: number;
  /** null: its row is gone, and its execution tells the rest */
  readonly line: 'waiting' | 'granted' | 'running' | 'done' | 'void' | null;
  /** null: it has not run, or has not ended */
  readonly ended: 'completed' | 'failed' | 'cancelled' | 'void' | null;
  readonly host: string | null;
  readonly enteredAt: string | null;
  readonly grantedAt: string | null;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  /** of a step with a model that runs; null: it has written nothing yet */
  readonly firstOutputAt: string | null;
  readonly cause: string | null;
  readonly executionId: string | null;
  /** the last load of its model that fell into its wait */
  readonly load: { readonly startedAt: string; readonly endedAt: string | null } | null;
}

/** What is known of the steps of a task. */
export interface StepsRow {
  readonly status: TaskStatus;
  readonly attempt: number;
  readonly error: FailureInfo | null;
  readonly plan: Plan;
  /** of all attempts, oldest first */
  readonly tries: readonly TryRow[];
  /** of the present attempt, one for each completed step, latest first; `output` null: it is larger than asked for */
  readonly outputs: readonly { readonly step: string; readonly output: JsonObject | null; readonly bytes: number }[];
}

/** Tries of one task that are shown; one with more is a fault of its own. */
const shownMax = 1_000;

/**
 * The plan of a task with the tries and outputs of its steps; null when there is no such task, or it is not the owner's. Reads.
 * @param outputBytesMax a larger output is left out
 */
export async function readSteps(sql: Sql, taskId: string, owner: string | null, outputBytesMax: number): Promise<StepsRow | null> {
  const [row] = await answered(sql<StepsRow[]>`
    select t.status, t.attempt, t.error, t.plan,
      (select coalesce(jsonb_agg(to_jsonb(r) order by r.attempt, coalesce(r."enteredAt", r."startedAt"), r."tryNo", r.step), '[]') from (
        select coalesce(l.attempt, e.attempt) as attempt, coalesce(l.step, e.step) as step, coalesce(l.step_attempt, e.step_attempt) as "stepAttempt", coalesce(l.try, e.try) as "tryNo",
          l.state as line, e.status as ended, coalesce(e.host, l.engine, l.host) as host, l.entered_at as "enteredAt", l.granted_at as "grantedAt",
          coalesce(l.started_at, e.started_at) as "startedAt", coalesce(l.ended_at, e.completed_at) as "endedAt", coalesce(l.cause, e.error ->> 'code') as cause, e.id as "executionId",
          case when l.state = 'running' and l.pool = 'model' then (select min(o.at) from task_events o where o.task_id = t.id and o.kind = 'output' and o.data ->> 'step' = l.step and o.at >= l.started_at) end as "firstOutputAt",
          case when m.began_at is not null then jsonb_build_object('startedAt', m.began_at, 'endedAt', m.ended_at) end as load
        from (select * from line where task_id = t.id) l
        full join (select * from task_executions where task_id = t.id) e on e.id = l.execution_id
        left join lateral (
          select began_at, ended_at from residency_spans
          where key = l.key and state = 'loading' and (l.host is null or host = l.host) and began_at < coalesce(l.granted_at, l.ended_at, clock_timestamp())
            and coalesce(ended_at, clock_timestamp()) > l.entered_at
          order by began_at desc limit 1) m on l.pool = 'model'
        order by 1, coalesce(l.entered_at, e.started_at) limit ${shownMax}) r) as tries,
      (select coalesce(jsonb_agg(jsonb_build_object('step', o.step, 'output', o.output, 'bytes', o.bytes) order by o.at desc), '[]') from (
        select distinct on (step) step, case when output_bytes <= ${outputBytesMax} then output end as output, output_bytes as bytes, completed_at as at
        from task_executions where task_id = t.id and attempt = t.attempt and status = 'completed' order by step, try desc) o) as outputs
    from tasks t where t.id = ${taskId} and (${owner}::text is null or t.user_id = ${owner})`);
  return row ?? null;
}
