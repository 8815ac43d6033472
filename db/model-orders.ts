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

/** One order; null when there is none. Reads. */
export async function readModelOrder(sql: Sql, id: string): Promise<ModelOrderRow | null> {
  const [row] = await answered(sql<ModelOrderRow[]>`
    select id, host, unload, load_model as "loadModel", pull_model as "pullModel", state, reason, requested_by as "requestedBy", error, created_at as "createdAt", ended_at as "endedAt"
    from residency_orders where id = ${id}`);
  return row ?? null;
}
