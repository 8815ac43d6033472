-- Up Migration
-- What a decision sees of orders is never newer than what it sees of all else, so that one that ends or turns to fetching its model meanwhile is still
-- taken for what it was. Each query of a volatile function sees what was committed before it began: seen in one query beside decide_read(), an order that had just
-- turned to fetching neither kept its host busy nor its model from being fetched a second time.

-- Read whole by each decision, however many have ended.
create index residency_orders_open on residency_orders (host) where state = 'open';

-- A model that is being unloaded no longer serves again: nobody may give its order up then.
alter table residency add column unloading boolean not null default false;

-- What is fetched now, and where.
create function fetching_now() returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(jsonb_build_object('host', host, 'model', model, 'forMs', for_ms)), '[]') from models_fetching()
$$;

-- As decide_read(), beside the orders that may still be revised and what is fetched.
create function decide_see(p_max_waits double precision[]) returns jsonb language plpgsql volatile as $$
declare
  v_orders jsonb;
  v_fetching jsonb;
begin
  if not line_try_lock() then return null; end if;
  select jsonb_build_object(
    'openOrders', coalesce(jsonb_agg(residency_order_json(o) order by o.host) filter (where o.pull_model is null), '[]'),
    'revisable', coalesce(jsonb_agg(o.id) filter (where o.pull_model is null and o.requested_by is null and o.load_key is not null
      and not exists (select 1 from residency c where c.host = o.host and c.order_id = o.id and c.state = 'loading')), '[]')),
    fetching_now()
  into v_orders, v_fetching from residency_orders o where o.state = 'open';
  return jsonb_build_object('snapshot', decide_read(p_max_waits) || v_orders, 'fetching', v_fetching);
end $$;

-- Gives up an open order that neither unloads nor loads at this moment: what it was still to unload, or has begun to drain, serves again. p_key: what urgent work
-- needs of it. No effect on an order that is over, that a person gave, or that is just changing memory.
create function order_keep(p_order uuid, p_host text, p_key text, p_reason text, p_policy_ms integer) returns boolean language plpgsql as $$
declare
  o residency_orders%rowtype;
begin
  -- loads and unloads wait for this row before they begin, so either one has begun or it never will
  select * into o from residency_orders where id = p_order and host = p_host and state = 'open' and pull_model is null and requested_by is null for update;
  if not found or exists (select 1 from residency where host = p_host and order_id = p_order and (state = 'loading' or unloading)) then return false; end if;
  update residency_orders set state = 'failed', ended_at = clock_timestamp(), error = jsonb_build_object('code', 'revised', 'message', p_reason, 'retryable', true)
  where id = p_order;
  update residency set state = 'serving', since = clock_timestamp() where host = p_host and host_epoch = o.host_epoch and order_id = p_order and state = 'draining';
  insert into orchestration_decisions (decision_type, input_data, output_data, execution_time_ms)
  values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'terms', '[]'::jsonb, 'first', (
      select jsonb_build_object('row', l.id::text, 'level', l.level, 'exact', l.exact, 'waited_ms', greatest(0, floor(extract(epoch from clock_timestamp() - l.entered_at) * 1000)))
      from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key = p_key
      order by l.level desc, l.exact desc, l.pos, l.id limit 1)),
    jsonb_build_object('id', o.id, 'host', o.host, 'hostEpoch', o.host_epoch, 'unload', '[]'::jsonb, 'load', null, 'reason', p_reason), p_policy_ms);
  perform pg_notify('residency', p_host), pg_notify('line', '');
  return true;
end $$;
