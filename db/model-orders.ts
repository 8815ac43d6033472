import { fetchWaits, orderRevised } from '../contract/residency.js';
import { answered, type Sql } from './connect.js';

export type ModelAction = 'load' | 'unload' | 'pull';

export interface ModelRequest {
  readonly action: ModelAction;
  /** null: the first live host */
  readonly host: string | null;
  /** normalised */
  readonly model: string;
  readonly numCtx: number;
  readonly mayPull: boolean;
  readonly user: string;
}

export type RequestedModel =
  | { readonly outcome: 'ordered'; readonly host: string; readonly order: string }
  /** it is as it was asked for */
  | { readonly outcome: 'unchanged'; readonly host: string }
  | { readonly outcome: 'host_unavailable' }
  /** another change of this host is under way */
  | { readonly outcome: 'busy'; readonly host: string }
  | { readonly outcome: 'unknown_model'; readonly host: string }
  | { readonly outcome: 'in_use'; readonly host: string; readonly tasks: readonly string[] };

/** Orders a change of what a host holds, as the engine's decisions do, in one transaction. A repeat finds the host busy or the model as it was asked for. */
export async function requestModel(sql: Sql, { action, host, model, numCtx, mayPull, user }: ModelRequest): Promise<RequestedModel> {
  const [row] = await answered(
    sql<{ outcome: RequestedModel }[]>`select residency_request(${action}, ${host}, ${model}, ${numCtx}, ${mayPull}, ${user}) as outcome`,
  );
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row.outcome;
}

/** A change of what a host holds. */
export interface ModelOrderRow {
  readonly id: string;
  readonly host: string;
  readonly unload: readonly string[];
  readonly loadModel: string | null;
  readonly pullModel: string | null;
  readonly state: 'open' | 'done' | 'failed';
  readonly reason: string;
  readonly requestedBy: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAt: Date;
  readonly endedAt: Date | null;
}

/** Orders that failed lately, the latest of each host, unless one for the same model went well since; those that only gave way, to urgent work or to other fetches, count as none. Reads. */
export async function readFailedOrders(sql: Sql, { withinMs }: { readonly withinMs: number }): Promise<ModelOrderRow[]> {
  return answered(sql<ModelOrderRow[]>`
    with ended as materialized (
      select * from residency_orders where state <> 'open' and ended_at > clock_timestamp() - ${withinMs} * interval '1 millisecond'
    )
    select distinct on (f.host) ${columns(sql, sql`f`)} from ended f
    where f.state = 'failed' and coalesce(f.error ->> 'code', '') not in (${fetchWaits}, ${orderRevised}) and not exists (select 1 from ended d where d.state = 'done' and d.host = f.host and d.ended_at > f.ended_at
      and coalesce(d.load_model, d.pull_model) is not distinct from coalesce(f.load_model, f.pull_model))
    order by f.host, f.ended_at desc`);
}

/** One order; null when there is none. Reads. */
export async function readModelOrder(sql: Sql, id: string): Promise<ModelOrderRow | null> {
  const [row] = await answered(sql<ModelOrderRow[]>`
    select ${columns(sql, sql`o`)} from residency_orders o where o.id = ${id}`);
  return row ?? null;
}

function columns(sql: Sql, o: ReturnType<Sql>) {
  return sql`${o}.id, ${o}.host, ${o}.unload, ${o}.load_model as "loadModel", ${o}.pull_model as "pullModel", ${o}.state, ${o}.reason, ${o}.requested_by as "requestedBy", ${o}.error,
    ${o}.created_at as "createdAt", ${o}.ended_at as "endedAt"`;
}
