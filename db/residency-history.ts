import type { ResidencyState } from '../contract/residency.js';
import { answered, type Sql } from './connect.js';

/** A stretch of time in which a host held a key in one state. */
export interface ResidencySpan {
  readonly host: string;
  readonly model: string;
  readonly key: string;
  readonly state: ResidencyState;
  readonly beganAt: Date;
  /** null: it is so now */
  readonly endedAt: Date | null;
}

/** A step that a host ran or runs. */
export interface HostStep {
  readonly host: string;
  readonly taskId: string;
  readonly name: string;
  readonly userId: string;
  readonly step: string;
  readonly model: string | null;
  readonly status: 'running' | 'completed' | 'failed' | 'cancelled' | 'void';
  readonly startedAt: Date;
  /** null: it runs */
  readonly endedAt: Date | null;
}

/** Stretches and steps that a look back shows at most; the latest are kept. */
const shownMax = 2_000;

/** What hosts held since a moment, the earliest first. Reads. */
export async function readResidencySpans(sql: Sql, since: Date): Promise<ResidencySpan[]> {
  return answered(sql<ResidencySpan[]>`
    select host, model, key, state, began_at as "beganAt", ended_at as "endedAt" from (
      select * from residency_spans where ended_at is null or ended_at > ${since} order by began_at desc limit ${shownMax}) s order by began_at, id`);
}

/** Names of models that a host has held within so many milliseconds, under whatever epoch. Reads. */
export async function readHeldBefore(sql: Sql, host: string, withinMs: number): Promise<string[]> {
  const rows = await answered(sql<{ model: string }[]>`
    select distinct model from residency_spans
    where host = ${host} and state <> 'loading' and (ended_at is null or ended_at > clock_timestamp() - ${withinMs} * interval '1 millisecond')`);
  return rows.map(({ model }) => model);
}

/** Steps with a model that ended since a moment, and those that run, the earliest first. Reads. */
export async function readHostSteps(sql: Sql, since: Date): Promise<HostStep[]> {
  return answered(sql<HostStep[]>`
    select * from (
      (select e.host, t.id as "taskId", t.name, t.user_id as "userId", e.step, e.metrics ->> 'model' as model, e.status, e.started_at as "startedAt", e.completed_at as "endedAt"
        from task_executions e join tasks t on t.id = e.task_id
        where e.completed_at > ${since} and e.host in (select id from hosts) and e.metrics ? 'model' order by e.completed_at desc limit ${shownMax})
      union all
      select l.host, t.id, t.name, t.user_id, l.step, key_model(l.key), 'running', l.started_at, null
        from line l join tasks t on t.id = l.task_id where l.state = 'running' and l.pool = 'model') s
    order by s."startedAt", s."taskId"`);
}
