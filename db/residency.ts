import { failureCodes } from '../contract/failure.js';
import type { Refusal } from '../contract/line.js';
import { orderWorkflowId, taskWorkflowId } from '../contract/ids.js';
import type { ModelNeed, ResidencyKey } from '../contract/queues.js';
import { type DrainState, fetchWaits, hostLost, type OrderFailure, type ResidencyOrder, type ResidencyRow } from '../contract/residency.js';
import { answered, type Sql } from './connect.js';
import { putOutbox } from './outbox.js';
import { storedJson } from './stored-json.js';

/** An order as those who carry it out name it. */
export interface OrderId {
  readonly orderId: string;
  readonly host: string;
  readonly hostEpoch: number;
}

/** What a model server says of a model that it has loaded. */
export interface LoadedKey {
  readonly digest: string;
  /** in all, and the part of it on a GPU */
  readonly memoryBytes: number;
  readonly vramBytes?: number;
  /** how long the load itself took; absent: it was in memory before, so nothing was measured */
  readonly loadMs?: number;
}

export type Transaction = Parameters<Parameters<Sql['begin']>[1]>[0];

/** Share that one more load has in what is known of a load's duration, once there are a few. */
const newestShare = 0.3;

/** The order as a condition: open, and of the host's present epoch. */
const isOpen = (sql: Sql, order: OrderId) => sql`exists (
  select 1 from residency_orders o join hosts h on h.id = o.host and h.epoch = o.host_epoch
  where o.id = ${order.orderId} and o.host = ${order.host} and o.host_epoch = ${order.hostEpoch} and o.state = 'open')`;

/** Whether an order is to be carried out: not ended, and its host has not begun anew since. */
export async function isOrderOpen(sql: Sql, order: OrderId): Promise<boolean> {
  const [row] = await answered(sql<{ open: boolean }[]>`select ${isOpen(sql, order)} as open`);
  return row?.open ?? false;
}

/** Orders that are open for at least so long and that their workflow was told of. */
export async function openOrders(sql: Sql, olderThanMs: number): Promise<ResidencyOrder[]> {
  const rows = await answered(sql<{ order: ResidencyOrder }[]>`
    select residency_order_json(o) as "order" from residency_orders o
    where state = 'open' and created_at <= clock_timestamp() - ${olderThanMs} * interval '1 millisecond'
      and not exists (select 1 from outbox where kind = 'residency' and payload ->> 'id' = o.id::text)`);
  return rows.map(({ order }) => order);
}

/** Lets keys take no more grants. @returns those of them that have a row; none when the order is stale */
export async function drainKeys(sql: Sql, order: OrderId, keys: readonly ResidencyKey[]): Promise<ResidencyKey[]> {
  const rows = await answered(sql<{ key: ResidencyKey }[]>`
    with moved as (
      update residency set state = 'draining', order_id = ${order.orderId}, since = case state when 'draining' then since else clock_timestamp() end
      from (select 1 from residency_orders where id = ${order.orderId} and state = 'open' for share) o
      where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = any(${keys as string[]}) and ${isOpen(sql, order)}
      returning key),
    told as (select count(pg_notify('residency', ${order.host})) as n from moved)
    select key from moved, told`);
  return rows.map((row) => row.key);
}

/** How far a key of this host and epoch is from being unloaded: a step is granted or running on it, or not; `stale` when the order is, so that it is not unloaded. */
export async function drainState(sql: Sql, order: OrderId, key: ResidencyKey): Promise<DrainState> {
  const [row] = await answered(sql<{ open: boolean; busy: boolean }[]>`
    select ${isOpen(sql, order)} as open,
      exists (select 1 from line where state in ('granted', 'running') and pool = 'model' and host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key}) as busy`);
  return row?.open !== true ? 'stale' : row.busy ? 'busy' : 'idle';
}

/** Notes that a drained key is being unloaded; from then on its order is not given up. @returns false when the order is stale: it is not to be unloaded */
export async function beginUnload(sql: Sql, order: OrderId, key: ResidencyKey): Promise<boolean> {
  const rows = await answered(sql`
    update residency set unloading = true
    from (select 1 from residency_orders where id = ${order.orderId} and state = 'open' for share) o
    where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key} and state = 'draining' and ${isOpen(sql, order)}`);
  return rows.count === 1;
}

/** Names of the other models of the host that are served or being loaded. Reads. */
export async function keptBeside(sql: Sql, order: OrderId, key: ResidencyKey): Promise<string[]> {
  const rows = await answered(sql<{ model: string }[]>`
    select model from residency where host = ${order.host} and host_epoch = ${order.hostEpoch} and key <> ${key} and state in ('loading', 'serving')`);
  return rows.map(({ model }) => model);
}

/** Removes a key that has been unloaded. */
export async function removeDrained(sql: Sql, order: OrderId, key: ResidencyKey): Promise<void> {
  await answered(sql`
    with gone as (
      delete from residency where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key} and state = 'draining' and ${isOpen(sql, order)} returning host),
    served as (delete from residency_service where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key} and exists (select 1 from gone))
    select pg_notify('residency', host) from gone`);
}

/** Ends an order as done. */
export async function endOrder(sql: Sql, order: OrderId): Promise<void> {
  await answered(sql`
    with ended as (
      update residency_orders set state = 'done', ended_at = clock_timestamp() where id = ${order.orderId} and ${isOpen(sql, order)} returning id)
    select pg_notify('line', '') from ended`);
}

/** Notes a key as loading; from then on nothing else takes the place of the order. @returns false when the order is stale */
export async function beginLoad(sql: Sql, order: OrderId, key: ResidencyKey, model: ModelNeed): Promise<boolean> {
  const rows = await answered(sql`
    insert into residency (host, host_epoch, key, model, num_ctx, state, order_id)
    select ${order.host}, ${order.hostEpoch}, ${key}, ${model.name}, ${model.numCtx}, 'loading', ${order.orderId}
    from (select 1 from residency_orders where id = ${order.orderId} and state = 'open' for share) o where ${isOpen(sql, order)}
    on conflict (host, key) do update set host_epoch = excluded.host_epoch, state = 'loading', unloading = false, order_id = excluded.order_id, since = clock_timestamp(), digest = null, size_bytes = null
    returning key`);
  return rows.count === 1;
}

/** loading -> serving, and the order is done; its service begins at 0, and what its load took is learned. @returns false when the order is stale; true also for a repeat */
export async function serveKey(sql: Sql, order: OrderId, key: ResidencyKey, loaded: LoadedKey): Promise<boolean> {
  return answered(
    sql.begin(async (tx) => {
      const [open] = await tx<{ state: string }[]>`
        select o.state from residency_orders o join hosts h on h.id = o.host and h.epoch = o.host_epoch
        where o.id = ${order.orderId} and o.host = ${order.host} and o.host_epoch = ${order.hostEpoch} for update of o`;
      if (open?.state === 'open') {
        const served = await tx`
          update residency set state = 'serving', digest = ${loaded.digest}, size_bytes = ${loaded.memoryBytes}, since = clock_timestamp()
          where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key} and order_id = ${order.orderId} and state = 'loading'`;
        if (served.count === 0) return false;
        await tx`update residency_orders set state = 'done', ended_at = clock_timestamp() where id = ${order.orderId}`;
        await tx`delete from residency_backoff where host = ${order.host} and key = ${key}`;
        await tx`
          insert into residency_service (host, host_epoch, key) values (${order.host}, ${order.hostEpoch}, ${key})
          on conflict (host, host_epoch, key) do update set served_ms = 0`;
        if (loaded.loadMs !== undefined) await learnLoad(tx, order.host, key, loaded.vramBytes || loaded.memoryBytes, loaded.loadMs);
        await tx`select pg_notify('residency', ${order.host}), pg_notify('line', '')`;
        return true;
      }
      const [serving] = await tx`
        select 1 from residency where host = ${order.host} and host_epoch = ${order.hostEpoch} and key = ${key} and order_id = ${order.orderId} and state = 'serving'`;
      return serving !== undefined;
    }),
  );
}

/** What a GPU holds of a model is what its budget is about. The newest load counts as much as all before it while there are few of them, and less afterwards; memory is what it was last. */
async function learnLoad(tx: Transaction, host: string, key: ResidencyKey, bytes: number, loadMs: number): Promise<void> {
  await tx`
    insert into key_costs as c (host, key, load_ms, bytes, samples) values (${host}, ${key}, ${loadMs}, ${Math.round(bytes)}, 1)
    on conflict (host, key) do update set bytes = excluded.bytes, samples = c.samples + 1, updated_at = clock_timestamp(), tight_bytes = null, tight_until = null,
      load_ms = coalesce(c.load_ms + (excluded.load_ms - c.load_ms) * greatest(${newestShare}::double precision, 1.0 / (c.samples + 1)), excluded.load_ms)`;
}

/** For how long it is believed that a key does not fit: memory that others take is given back, also what no list of a server shows. Longer where it has never fitted. */
const tightMs = 3_600_000;
const neverFittedMs = 6 * tightMs;

/**
 * The memory of a host did not suffice for a key: it takes more than what was free then, so that the same is not tried again before there is more, or before
 * that may have changed. Where a key has fitted before and was alone, the first time is put down to what the server has not given back yet.
 * @returns whether to try again: without the others beside which it was loaded, or since it has fitted before
 */
async function learnTooLarge(tx: Transaction, order: ResidencyOrder, key: ResidencyKey): Promise<boolean> {
  const [room] = await tx<{ others: number; free: string | null; fitted: boolean; again: boolean }[]>`
    select count(c.key)::integer as others, (h.room_bytes - coalesce(sum(k.bytes), 0))::bigint as free,
      coalesce(max(mine.samples), 0) > 0 as fitted, coalesce(max(mine.tight_until) > clock_timestamp(), false) as again
    from hosts h left join residency c on c.host = h.id and c.host_epoch = h.epoch and c.key <> ${key}
    left join key_costs k on k.host = c.host and k.key = c.key
    left join key_costs mine on mine.host = h.id and mine.key = ${key}
    where h.id = ${order.host} and h.epoch = ${order.hostEpoch} group by h.id`;
  if (room === undefined) return false;
  const spared = room.fitted && room.others === 0 && !room.again;
  // not limited by bytes: nothing would keep it from being tried again in the same way
  const tight = room.free === null || spared ? null : Math.max(0, Number(room.free)) + 1;
  await tx`
    insert into key_costs as c (host, key, tight_bytes, tight_until)
    values (${order.host}, ${key}, ${tight}, clock_timestamp() + ${room.fitted ? tightMs : neverFittedMs} * interval '1 millisecond')
    on conflict (host, key) do update set tight_bytes = greatest(case when c.tight_until > clock_timestamp() then c.tight_bytes end, excluded.tight_bytes),
      tight_until = excluded.tight_until, updated_at = clock_timestamp()`;
  return spared || (room.free !== null && room.others > 0);
}

/** What the decisions of the engine fetch to one host at the same time; a person who asks is not kept waiting by them. */
const fetchesMax = 2;

/**
 * Makes an open order one that only fetches its model: its host may change other models meanwhile, and nothing is unloaded before the model is there. Where
 * the host fetches as many as it may, the order ends and its key is ordered again later. No effect on an order that is closed.
 */
export async function fetchFirst(sql: Sql, order: ResidencyOrder): Promise<void> {
  await answered(
    sql.begin(async (tx) => {
      const [apart] = await tx<{ order: ResidencyOrder }[]>`
        update residency_orders o set pull_model = load_model, unload = case when requested_by is null then '{}' else unload end
        where id = ${order.id} and state = 'open' and load_key is not null and pull_model is null and (requested_by is not null or ${fetchesMax} > (
          select count(*) from residency_orders f where f.host = o.host and f.state = 'open' and f.pull_model is not null))
        returning residency_order_json(o) as "order"`;
      if (apart === undefined) {
        await abandon(tx, order, { code: fetchWaits, message: 'other models are being fetched first', retryable: true });
        return;
      }
      await giveBack(tx, order);
      await putOutbox(tx, { kind: 'residency', workflowId: orderWorkflowId(apart.order), taskId: null, payload: apart.order });
      await tx`select pg_notify('residency', ${order.host}), pg_notify('line', '')`;
    }),
  );
}

/**
 * Ends an order whose model is there now, so that it is loaded as the next decisions see fit. One that a person gave goes on as a change of its host.
 * @returns `busy` while that host changes something else; then it is to be called again
 */
export async function endFetch(sql: Sql, order: ResidencyOrder): Promise<'done' | 'busy'> {
  return answered(
    sql.begin(async (tx) => {
      const [open] = await tx<{ goesOn: boolean; busy: boolean }[]>`
        select requested_by is not null and load_key is not null as "goesOn",
          exists (select 1 from residency_orders b where b.host = o.host and b.state = 'open' and b.pull_model is null) as busy
        from residency_orders o where id = ${order.id} and state = 'open' and pull_model is not null for update`;
      if (open === undefined) return 'done';
      if (!open.goesOn) await tx`update residency_orders set state = 'done', ended_at = clock_timestamp() where id = ${order.id}`;
      else {
        if (open.busy) return 'busy';
        const { pull: _fetched, ...change } = order;
        await tx`update residency_orders set pull_model = null where id = ${order.id}`;
        await putOutbox(tx, { kind: 'residency', workflowId: orderWorkflowId(change), taskId: null, payload: change });
      }
      await fetchEnded(tx, order.host);
      await tx`select pg_notify('line', '')`;
      return 'done';
    }),
  );
}

/** What waited for a fetch to end may be ordered again. */
async function fetchEnded(tx: Transaction, host: string): Promise<void> {
  await tx`delete from residency_backoff where host = ${host} and error ->> 'code' = ${fetchWaits}`;
}

/** Takes back what an order has done to the rows of its host: what was to be loaded is not, and what was to be unloaded serves again. */
async function giveBack(tx: Transaction, order: ResidencyOrder): Promise<void> {
  await tx`delete from residency where host = ${order.host} and host_epoch = ${order.hostEpoch} and order_id = ${order.id} and state = 'loading'`;
  await tx`
    update residency set state = 'serving', unloading = false, since = clock_timestamp()
    where host = ${order.host} and host_epoch = ${order.hostEpoch} and order_id = ${order.id} and state = 'draining'`;
}

/** The writes of {@link OrderActivities}. */
export function orderWrites(sql: Sql) {
  return {
    fetchFirst: (order: ResidencyOrder) => fetchFirst(sql, order),
    fetched: (order: ResidencyOrder) => endFetch(sql, order),
    abandon: (order: ResidencyOrder, failure: OrderFailure) => abandonOrder(sql, order, failure),
  };
}

/**
 * Closes an order that could not be carried out: what was not unloaded serves again, the key is not ordered on this host for a while (2 s, doubled
 * with each failure, at most 5 minutes), and its waiting steps are refused, each told by a signal, unless another host may still serve them.
 * No refusal when only the host was lost, its server is away or does not unload another model, the order's workflow was ended from outside, or other fetches
 * come first, nor when the memory did not suffice beside other models or for the first time: then it is tried again. No effect on an order that is closed.
 */
export async function abandonOrder(sql: Sql, order: ResidencyOrder, failure: OrderFailure): Promise<void> {
  await answered(sql.begin((tx) => abandon(tx, order, failure)));
}

async function abandon(tx: Transaction, order: ResidencyOrder, failure: OrderFailure): Promise<void> {
  const ended = await tx`
    update residency_orders set state = 'failed', ended_at = clock_timestamp(), error = ${storedJson(tx, { ...failure })} where id = ${order.id} and state = 'open'`;
  if (ended.count === 0) return;
  await giveBack(tx, order);
  if (order.pull !== undefined) await fetchEnded(tx, order.host);
  if (order.load && failure.code !== hostLost && failure.code !== failureCodes.endedOutside) {
    const { key } = order.load;
    // A server that is away says nothing about the model, nor does one that holds on to another: steps wait, and go on soon after that has passed.
    const away = failure.code === failureCodes.backendUnavailable;
    const innocent = away || failure.code === fetchWaits || failure.phase === 'draining';
    await tx`
      insert into residency_backoff (host, key, until, error) values (${order.host}, ${key}, clock_timestamp() + interval '2 seconds', ${storedJson(tx, { ...failure })})
      on conflict (host, key) do update set failures = residency_backoff.failures + ${away ? 0 : 1}, error = excluded.error,
        until = clock_timestamp() + case when ${away} then interval '2 seconds' else least(interval '5 minutes', interval '2 seconds' * power(2, least(residency_backoff.failures, 8))) end`;
    const again = failure.code === failureCodes.modelOutOfMemory && (await learnTooLarge(tx, order, key));
    if (!innocent && !again) await refuse(tx, key, failure);
  }
  await tx`select pg_notify('residency', ${order.host}), pg_notify('line', '')`;
}

async function refuse(tx: Transaction, key: ResidencyKey, failure: OrderFailure): Promise<void> {
  const [other] = await tx`
    select 1 from hosts h where h.ready and h.lease_until > clock_timestamp()
      and not exists (select 1 from residency_backoff b where b.host = h.id and b.key = ${key} and b.until > clock_timestamp()) limit 1`;
  if (!other) await refuseWaiting(tx, key, failure, null);
}

/**
 * Ends all that waits for a key; each workflow is told by a signal.
 * @param policyMs how long it took to decide it; null: nobody decided it, its load failed
 * @returns how many steps; those that somebody else moves just now are left for the next time
 */
export async function refuseWaiting(tx: Transaction, key: ResidencyKey, failure: OrderFailure, policyMs: number | null): Promise<number> {
  const rows = await tx<{ id: string; taskId: string }[]>`
    select id, task_id as "taskId" from line
    where pool = 'model' and key = ${key} and state = 'waiting' and not_before < 'infinity' order by id for update skip locked`;
  if (rows.length === 0) return 0;
  await tx`select line_void(${rows.map((row) => row.id)}::bigint[], ${failure.code})`;
  for (const row of rows) {
    const refusal: Refusal = { row: row.id, code: failure.code, message: failure.message, retryable: failure.retryable };
    await putOutbox(tx, { kind: 'signal', workflowId: taskWorkflowId(row.taskId), taskId: row.taskId, payload: { name: 'refused', args: [{ ...refusal }] } });
  }
  if (policyMs !== null) {
    await tx`
      insert into orchestration_decisions (decision_type, input_data, output_data, execution_time_ms)
      values ('refusal', ${storedJson(tx, { key })}, ${storedJson(tx, { reason: failure.message, code: failure.code, steps: rows.length })}, ${policyMs})`;
  }
  return rows.length;
}

/** What the engine wants a host to hold, of one epoch. */
export async function readResidency(sql: Sql, host: string, epoch: number): Promise<ResidencyRow[]> {
  const rows = await answered(sql<{ key: ResidencyKey; model: string; num_ctx: number; state: ResidencyRow['state']; since_ms: number }[]>`
    select key, model, num_ctx, state, greatest(0, floor(extract(epoch from clock_timestamp() - since) * 1000))::double precision as since_ms
    from residency where host = ${host} and host_epoch = ${epoch} order by key`);
  return rows.map((row) => ({
    host,
    hostEpoch: epoch,
    key: row.key,
    model: { name: row.model, numCtx: row.num_ctx },
    state: row.state,
    sinceMs: row.since_ms,
  }));
}

/** Removes a key that the model server no longer holds. No effect under another epoch. */
export async function forgetKey(sql: Sql, host: string, epoch: number, key: ResidencyKey): Promise<void> {
  await answered(sql`
    with gone as (delete from residency where host = ${host} and host_epoch = ${epoch} and key = ${key} returning host),
    served as (delete from residency_service where host = ${host} and host_epoch = ${epoch} and key = ${key} and exists (select 1 from gone))
    select pg_notify('residency', host), pg_notify('line', '') from gone`);
}
