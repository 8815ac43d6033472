-- Up Migration
-- Which model server a host manages, whatever it is called where: see host/server-identity.ts. Null: not known.
alter table hosts add column server text;

-- What of a loaded model no other server has: the moment at which it expires, as the server writes it. Null: the server does not tell it exactly enough.
-- Two hosts that see the same one look at the same server.
alter table models add column mark text;

-- As in 00018_scheduling.sql; where no host is named, the one that has the model: an unload goes to one that holds it in memory, a load to one that serves it
-- already, else to one on whose disk it is, and of several to the one with the most places for models free.
create or replace function residency_request(p_action text, p_host text, p_model text, p_num_ctx integer, p_may_pull boolean, p_user text) returns jsonb language plpgsql as $$
declare
  h record;
  o residency_orders%rowtype;
  v_key text := p_model || '~ctx' || p_num_ctx;
  v_unload text[] := '{}';
  v_busy jsonb;
  v record;
  v_bytes bigint;
  v_fits boolean;
  v_reason text := p_action || ' ' || p_model || ', asked for by ' || p_user;
begin
  select x.id, x.epoch, x.models_max, x.room_bytes into h from hosts x where (p_host is null or x.id = p_host) and x.ready and x.lease_until > clock_timestamp()
  order by exists (select 1 from residency c where c.host = x.id and c.host_epoch = x.epoch and case when p_action = 'unload' then c.model = p_model else c.key = v_key end) desc,
    exists (select 1 from models m where m.host = x.id and m.name = p_model and m.digest is not null) desc,
    exists (select 1 from residency_orders r where r.host = x.id and r.state = 'open'),
    x.models_max - (select count(*) from residency c where c.host = x.id and c.host_epoch = x.epoch) desc, x.id limit 1;
  if not found then return jsonb_build_object('outcome', 'host_unavailable'); end if;
  if exists (select 1 from residency_orders where host = h.id and state = 'open') then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;

  if p_action = 'unload' then
    v_unload := array(select key from residency where host = h.id and host_epoch = h.epoch and model = p_model);
    if cardinality(v_unload) = 0 then return jsonb_build_object('outcome', 'unchanged', 'host', h.id); end if;
    select jsonb_agg(distinct l.task_id) into v_busy from line l where l.state in ('waiting', 'granted', 'running') and l.pool = 'model' and l.key = any(v_unload);
  elsif p_action = 'load' then
    if exists (select 1 from residency where host = h.id and host_epoch = h.epoch and key = v_key and state = 'serving') then
      return jsonb_build_object('outcome', 'unchanged', 'host', h.id);
    end if;
    if not p_may_pull and not exists (select 1 from models where host = h.id and name = p_model and digest is not null) then
      return jsonb_build_object('outcome', 'unknown_model', 'host', h.id);
    end if;
    -- Only what has to go: another context of the same model, then what nobody waits for, then what came first; what is not known is loaded alone.
    select bytes into v_bytes from costs_of(array[v_key]) c where c.host = h.id;
    for v in
      select c.key, c.model = p_model as same from residency c where c.host = h.id and c.host_epoch = h.epoch and c.key <> v_key
      order by c.model = p_model desc, exists (select 1 from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key = c.key), c.since, c.key
    loop
      select count(*) + 1 <= h.models_max
          and (h.room_bytes is null or count(*) = 0 or coalesce(v_bytes + sum(k.bytes) <= h.room_bytes and count(k.bytes) = count(*), false)) into v_fits
      from residency c left join costs_of(array(select key from residency where host = h.id)) k on k.host = c.host and k.key = c.key
      where c.host = h.id and c.host_epoch = h.epoch and c.key <> v_key and c.key <> all(v_unload);
      exit when v_fits and not v.same;
      v_unload := v_unload || v.key;
    end loop;
    select jsonb_agg(distinct l.task_id) into v_busy from line l where l.state in ('granted', 'running') and l.pool = 'model' and l.host = h.id and l.key = any(v_unload);
  elsif not p_may_pull then
    return jsonb_build_object('outcome', 'unknown_model', 'host', h.id);
  end if;
  if v_busy is not null then return jsonb_build_object('outcome', 'in_use', 'host', h.id, 'tasks', v_busy); end if;

  insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, pull_model, reason, requested_by)
  values (h.id, h.epoch, v_unload, case when p_action = 'load' then v_key end, case when p_action = 'load' then p_model end, case when p_action = 'load' then p_num_ctx end,
    case when p_action = 'pull' then p_model end, v_reason, p_user)
  on conflict (host) where state = 'open' do nothing
  returning * into o;
  if not found then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;
  insert into outbox (kind, workflow_id, payload) values ('residency', 'residency-' || o.host, residency_order_json(o));
  insert into orchestration_decisions (decision_type, input_data, output_data)
  values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'requested_by', p_user), residency_order_json(o) || jsonb_build_object('reason', o.reason));
  perform pg_notify('outbox', '');
  return jsonb_build_object('outcome', 'ordered', 'host', o.host, 'order', o.id);
end $$;

-- As in 00018_scheduling.sql, and of hosts that are not ready what their servers had within the last minutes, so that it is not fetched to another host
-- while one is restarted.
create or replace function costs_of(p_keys text[]) returns table (host text, key text, load_ms double precision, bytes bigint, guessed boolean) language plpgsql stable as $$
begin
  return query
  select h.id, k.key, c.load_ms, coalesce(c.bytes, case when h.spill_bytes > 0 and m.size_bytes * 1.1 <= h.budget_bytes + h.spill_bytes then least(h.room_bytes, (m.size_bytes * 1.1)::bigint)
    else (m.size_bytes * 1.1)::bigint end), c.bytes is null
  from hosts h cross join unnest(p_keys) k (key)
  left join key_costs c on c.host = h.id and c.key = k.key
  left join models m on m.host = h.id and m.name = key_model(k.key)
  where case when h.ready and h.lease_until > clock_timestamp() then c.key is not null or m.size_bytes is not null
    else m.size_bytes is not null and m.seen_at > clock_timestamp() - interval '5 minutes' end;
end $$;
