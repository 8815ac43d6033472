-- Up Migration
-- What a decision sees of orders is never newer than what it sees of all else, so that one that ends or turns to fetching its model meanwhile is still
-- taken for what it was. Each query of a volatile function sees what was committed before it began: seen in one query beside decide_read(), an order that had just
-- turned to fetching neither kept its host busy nor its model from being fetched a second time.

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
