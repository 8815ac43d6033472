import type { JsonObject } from '../contract/json.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** How long an engine or a host counts as alive after it was last heard of. */
export const leaseMs = 10_000;

/** Another process holds the lease of this host, or manages its model server under another host id. */
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
  /** which server that is, whatever it is called where; left out: not known, so whether another host manages it is not asked */
  readonly server?: string;
  /** concurrent inferences of one resident key */
  readonly parallel: number;
}

/**
 * Takes the lease of a host with a new epoch; what the old epoch held goes back to the line with the next decision.
 * @returns the new epoch
 * @throws {HostTaken} while somebody else's lease lasts, or that of another host with the same model server
 */
export async function acquireHost(sql: Sql, { host, address, server, parallel }: HostIdentity): Promise<number> {
  const [taken] = await answered(
    sql.begin(async (tx) => {
      // Two hosts that want one server at the same moment come one after the other.
      if (server !== undefined) await tx`select pg_advisory_xact_lock(hashtextextended(${`model server ${server}`}, 0))`;
      return tx<{ epoch: string }[]>`
        insert into hosts (id, address, server, parallel, lease_until)
        select ${host}, ${address}, ${server ?? null}::text, ${parallel}::integer, ${until(sql)}
        where not exists (select 1 from hosts o where o.server = ${server ?? null}::text and o.id <> ${host} and o.lease_until > clock_timestamp())
        on conflict (id) do update set epoch = hosts.epoch + 1, address = excluded.address, server = excluded.server, parallel = excluded.parallel,
          lease_until = excluded.lease_until, ready = false, info = '{}', started_at = now()
        where hosts.lease_until <= clock_timestamp()
        returning epoch`;
    }),
  );
  if (!taken) throw new HostTaken(`another process serves the models of host ${host}`);
  return Number(taken.epoch);
}

/** Who is in the way of a host: a process with its id, or another host with its model server. */
export interface HostHolder {
  readonly host: string;
  readonly address: string;
  /** its lease, as a text that changes with each renewal */
  readonly lease: string;
}

/** Who holds the lease now, of this host or of another one with the same model server; null when nobody does. */
export async function hostHolder(sql: Sql, { host, server }: Pick<HostIdentity, 'host' | 'server'>): Promise<HostHolder | null> {
  const [held] = await answered(sql<HostHolder[]>`
    select id as host, address, epoch || ' ' || lease_until as lease from hosts
    where (id = ${host} or server = ${server ?? null}::text) and lease_until > clock_timestamp() order by id = ${host} desc, id limit 1`);
  return held ?? null;
}

/**
 * Another host that manages the very server that this host looks at, as what is in its memory shows; null: none does. Of two such hosts the one that began
 * later is told of the other.
 * @param marks of the models that the server holds, see `LoadedModel.mark`
 */
export async function hostOfSameServer(sql: Sql, host: string, epoch: number, marks: readonly string[]): Promise<Omit<HostHolder, 'lease'> | null> {
  if (marks.length === 0) return null;
  const [other] = await answered(sql<Omit<HostHolder, 'lease'>[]>`
    select o.id as host, o.address from hosts me
    join hosts o on o.id <> me.id and o.lease_until > clock_timestamp() and (o.started_at, o.id) < (me.started_at, me.id)
    where me.id = ${host} and me.epoch = ${epoch} and exists (select 1 from models m where m.host = o.id and m.loaded and m.mark = any(${marks as string[]}))
    order by o.started_at limit 1`);
  return other ?? null;
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
