import type { JsonObject } from '../contract/json.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** How long an engine or a host counts as alive after it was last heard of. */
export const leaseMs = 10_000;

/** Another process holds the lease of this host. */
export class HostTaken extends Error {
  override readonly name = 'HostTaken';
}

const until = (sql: Sql) => sql`clock_timestamp() + ${leaseMs} * interval '1 millisecond'`;

/** Notes an engine, or its changed slots, with a fresh lease. May be repeated. */
export async function registerEngine(sql: Sql, engine: { readonly id: string; readonly slots: number; readonly info?: JsonObject }): Promise<void> {
  await answered(sql`
    with engine as (
      insert into engines (id, slots, lease_until, info) values (${engine.id}, ${engine.slots}, ${until(sql)}, ${storedJson(sql, engine.info ?? {})})
      on conflict (id) do update set slots = excluded.slots, lease_until = excluded.lease_until, info = excluded.info
      returning id)
    select pg_notify('line', '') from engine`);
}

/** @returns false when the lease had lapsed: what ran on this engine may be taken back already */
export async function renewEngine(sql: Sql, id: string): Promise<boolean> {
  const renewed = await answered(sql`update engines set lease_until = ${until(sql)} where id = ${id} and lease_until > clock_timestamp()`);
  return renewed.count === 1;
}

/** Ends an engine's lease at once; what it still ran goes back to the line with the next decision. */
export async function releaseEngine(sql: Sql, id: string): Promise<void> {
  await answered(sql`delete from engines where id = ${id}`);
}

export interface HostIdentity {
  readonly host: string;
  /** address of the model server */
  readonly address: string;
  /** concurrent inferences of one resident key */
  readonly parallel: number;
}

/**
 * Takes the lease of a host with a new epoch; what the old epoch held goes back to the line with the next decision.
 * @returns the new epoch
 * @throws {HostTaken} while somebody else's lease lasts
 */
export async function acquireHost(sql: Sql, { host, address, parallel }: HostIdentity): Promise<number> {
  const [taken] = await answered(sql<{ epoch: string }[]>`
    insert into hosts (id, address, parallel, lease_until) values (${host}, ${address}, ${parallel}, ${until(sql)})
    on conflict (id) do update set epoch = hosts.epoch + 1, address = excluded.address, parallel = excluded.parallel, lease_until = excluded.lease_until,
      ready = false, info = '{}', started_at = now()
    where hosts.lease_until <= clock_timestamp()
    returning epoch`);
  if (!taken) throw new HostTaken(`another process serves the models of host ${host}`);
  return Number(taken.epoch);
}

/** The lease that is held now, as a text that changes with each renewal; null when there is none. */
export async function hostHolder(sql: Sql, host: string): Promise<string | null> {
  const [held] = await answered(sql<{ holder: string }[]>`
    select epoch || ' ' || lease_until as holder from hosts where id = ${host} and lease_until > clock_timestamp()`);
  return held?.holder ?? null;
}

/** @returns false when the lease had lapsed or another process has it: what runs under this epoch is void */
export async function renewHost(sql: Sql, host: string, epoch: number): Promise<boolean> {
  const renewed = await answered(sql`update hosts set lease_until = ${until(sql)} where id = ${host} and epoch = ${epoch} and lease_until > clock_timestamp()`);
  return renewed.count === 1;
}

/** Ends the lease at once, so that a successor need not wait. No effect under another epoch. */
export async function releaseHost(sql: Sql, host: string, epoch: number): Promise<void> {
  await answered(sql`
    with released as (
      update hosts set lease_until = clock_timestamp(), ready = false where id = ${host} and epoch = ${epoch} and lease_until > clock_timestamp() returning id)
    select pg_notify('line', '') from released`);
}

/** What a host may hold at the same time. */
export interface HostRoom {
  /** at least 1 */
  readonly modelsMax: number;
  /** bytes that our models may take now; null: not limited by bytes */
  readonly roomBytes: number | null;
  /** the same without any other program */
  readonly budgetBytes: number | null;
  /** bytes beyond the budget that a model which is loaded alone may take: main memory beside that of a GPU */
  readonly spillBytes: number;
}

/** One model, whatever its size. */
export const oneModel: HostRoom = { modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 };

/** Whether a host takes grants, what it says of itself (version, memory, why it is not ready), and what it may hold. No effect under another epoch. */
export async function setHostReady(sql: Sql, host: string, epoch: number, ready: boolean, info: JsonObject, room: HostRoom = oneModel): Promise<void> {
  await answered(sql`
    with host as (update hosts set ready = ${ready}, info = ${storedJson(sql, info)}, models_max = ${room.modelsMax}, room_bytes = ${room.roomBytes}, budget_bytes = ${room.budgetBytes},
        spill_bytes = ${room.spillBytes}
      where id = ${host} and epoch = ${epoch} returning ready)
    select pg_notify('line', '') from host where ready`);
}
