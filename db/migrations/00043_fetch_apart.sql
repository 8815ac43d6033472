-- Up Migration
-- Fetching a model, which may take hours, keeps no host from changing what it holds: an order that fetches is apart from the one that changes memory.
drop index residency_orders_one_open;
create unique index residency_orders_one_open on residency_orders (host) where state = 'open' and pull_model is null;
create index residency_orders_fetching on residency_orders (host) where state = 'open' and pull_model is not null;

-- Where a model is being fetched, or would have to be fetched although another host fetches it already, so that it is loaded nowhere there meanwhile; with how
-- long that is likely to go on.
create function models_fetching() returns table (host text, model text, for_ms double precision) language sql stable as $$
  with fetching as materialized (
    select o.host, o.pull_model as model, o.load_key is not null as wanted, extract(epoch from clock_timestamp() - o.created_at) * 1000 as ms,
      (m.details -> 'pull' ->> 'completed_bytes')::double precision as done, (m.details -> 'pull' ->> 'total_bytes')::double precision as total
    from residency_orders o left join models m on m.host = o.host and m.name = o.pull_model
    where o.state = 'open' and o.pull_model is not null
  )
  select h.id, f.model, min(case when f.done > 0 and f.total >= f.done then f.ms * (f.total - f.done) / f.done else 600000 end)
  from fetching f join hosts h on h.ready and h.lease_until > clock_timestamp()
  where (h.id = f.host and f.wanted) or not exists (select 1 from models m where m.host = h.id and m.name = f.model and m.digest is not null)
  group by h.id, f.model
$$;

-- What a key was measured to take is one thing, and that it did not fit into what was free at some time another, which does not hold for ever.
alter table key_costs add column tight_bytes bigint, add column tight_until timestamptz;
update key_costs set tight_bytes = bytes, tight_until = clock_timestamp() + interval '1 hour', bytes = null where samples = 0;

-- As in 00024_hosts.sql, with what does not fit for now.
create or replace function costs_of(p_keys text[]) returns table (host text, key text, load_ms double precision, bytes bigint, guessed boolean) language plpgsql stable as $$
begin
  return query
  select h.id, k.key, c.load_ms, greatest(coalesce(c.bytes, case when h.spill_bytes > 0 and m.size_bytes * 1.1 <= h.budget_bytes + h.spill_bytes then least(h.room_bytes, (m.size_bytes * 1.1)::bigint)
    else (m.size_bytes * 1.1)::bigint end), case when c.tight_until > clock_timestamp() then c.tight_bytes end), c.bytes is null
  from hosts h cross join unnest(p_keys) k (key)
  left join key_costs c on c.host = h.id and c.key = k.key
  left join models m on m.host = h.id and m.name = key_model(k.key)
  where case when h.ready and h.lease_until > clock_timestamp() then c.key is not null or m.size_bytes is not null
    else m.size_bytes is not null and m.seen_at > clock_timestamp() - interval '5 minutes' end;
end $$;

-- As in 00027_decisions.sql, beside what is fetched.
create or replace function decide_write(p_grants jsonb, p_orders jsonb, p_policy_ms integer) returns jsonb language plpgsql as $$
declare
  g jsonb;
  r record; -- not line%rowtype: PostgreSQL has a geometric type of that name
  o residency_orders%rowtype;
  v_granted jsonb := '[]';
  v_ordered jsonb := '[]';
begin
  for g in select * from jsonb_array_elements(p_grants) loop
    select * into r from line where id = (g ->> 'row')::bigint and state = 'waiting' for update skip locked;
    continue when not found or r.held;
    continue when exists (select 1 from line where state in ('granted', 'running') and pool = r.pool and host = g ->> 'host' and host_epoch = (g ->> 'hostEpoch')::bigint
      and key is not distinct from r.key and slot = (g ->> 'slot')::integer);
    if r.pool = 'model' then
      -- a key that begins to drain takes nothing, and its drain sees what it took before
      perform 1 from residency where host = g ->> 'host' and host_epoch = (g ->> 'hostEpoch')::bigint and key = r.key and state = 'serving' for share skip locked;
      continue when not found;
    end if;
    continue when not holds_take(r.task_id, r.attempt, r.locks, r.amounts);
    update line set state = 'granted', grant_id = gen_random_uuid(), host = g ->> 'host', host_epoch = (g ->> 'hostEpoch')::bigint, slot = (g ->> 'slot')::integer,
      granted_at = clock_timestamp(), signals = 0
    where id = r.id returning * into r;
    insert into orchestration_decisions (decision_type, task_id, input_data, output_data, execution_time_ms)
    values ('grant', r.task_id, jsonb_build_object('row', r.id::text, 'step', r.step, 'attempt', r.attempt, 'pool', r.pool, 'key', r.key, 'level', r.level, 'exact', r.exact,
        'waited_ms', greatest(0, floor(extract(epoch from r.granted_at - r.entered_at) * 1000)), 'continues', r.continues),
      jsonb_build_object('grant', r.grant_id, 'host', r.host, 'slot', r.slot, 'reason', g ->> 'reason'), p_policy_ms);
    v_granted := v_granted || line_grant_json(r.id);
  end loop;

  for g in select * from jsonb_array_elements(p_orders) loop
    continue when not exists (select 1 from hosts where id = g ->> 'host' and epoch = (g ->> 'hostEpoch')::bigint and lease_until > clock_timestamp());
    if g ->> 'revises' is not null then
      -- its load waits for this row before it begins, so either it has begun or it never will
      perform 1 from residency_orders where id = (g ->> 'revises')::uuid and host = g ->> 'host' and state = 'open' and requested_by is null for update;
      continue when not found or exists (select 1 from residency where host = g ->> 'host' and order_id = (g ->> 'revises')::uuid and state = 'loading');
      update residency_orders set state = 'failed', ended_at = clock_timestamp(),
        error = jsonb_build_object('code', 'revised', 'message', g ->> 'reason', 'retryable', true) where id = (g ->> 'revises')::uuid;
    end if;
    insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, reason, terms)
    values (g ->> 'host', (g ->> 'hostEpoch')::bigint, array(select jsonb_array_elements_text(g -> 'unload')), g -> 'load' ->> 'key',
      g -> 'load' -> 'model' ->> 'name', (g -> 'load' -> 'model' ->> 'numCtx')::integer, g ->> 'reason', g -> 'terms')
    on conflict (host) where state = 'open' and pull_model is null do nothing
    returning * into o;
    continue when not found;
    if g ->> 'revises' is not null then
      update residency set order_id = o.id where host = o.host and order_id = (g ->> 'revises')::uuid and state = 'draining'; -- and serve again if this one fails
    end if;
    insert into outbox (kind, workflow_id, payload) values ('residency', 'residency-' || o.host, residency_order_json(o));
    insert into orchestration_decisions (decision_type, input_data, output_data, execution_time_ms)
    values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'terms', coalesce(o.terms, '[]'), 'first', (
        select jsonb_build_object('row', l.id::text, 'level', l.level, 'exact', l.exact, 'waited_ms', greatest(0, floor(extract(epoch from clock_timestamp() - l.entered_at) * 1000)))
        from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key = o.load_key
        order by l.level desc, l.exact desc, l.pos, l.id limit 1)), residency_order_json(o) || jsonb_build_object('reason', o.reason), p_policy_ms);
    v_ordered := v_ordered || residency_order_json(o);
  end loop;
  if v_ordered <> '[]' then perform pg_notify('outbox', ''); end if;
  return jsonb_build_object('granted', v_granted, 'ordered', v_ordered);
end $$;

-- As in 00024_hosts.sql; a model is fetched while its host changes others, and the sentence does not name who asked for it.
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
  v_reason text := p_action || ' ' || p_model;
begin
  select x.id, x.epoch, x.models_max, x.room_bytes into h from hosts x where (p_host is null or x.id = p_host) and x.ready and x.lease_until > clock_timestamp()
  order by exists (select 1 from residency c where c.host = x.id and c.host_epoch = x.epoch and case when p_action = 'unload' then c.model = p_model else c.key = v_key end) desc,
    exists (select 1 from models m where m.host = x.id and m.name = p_model and m.digest is not null) desc,
    exists (select 1 from residency_orders r where r.host = x.id and r.state = 'open' and r.pull_model is null),
    x.models_max - (select count(*) from residency c where c.host = x.id and c.host_epoch = x.epoch) desc, x.id limit 1;
  if not found then return jsonb_build_object('outcome', 'host_unavailable'); end if;
  if p_action = 'pull' then
    if (select count(*) from residency_orders where host = h.id and state = 'open' and pull_model is not null and requested_by is not null) >= 8 then
      return jsonb_build_object('outcome', 'busy', 'host', h.id);
    end if;
  elsif exists (select 1 from residency_orders where host = h.id and state = 'open' and (pull_model is null or requested_by is not null and load_key = v_key)) then
    return jsonb_build_object('outcome', 'busy', 'host', h.id);
  end if;

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
  on conflict (host) where state = 'open' and pull_model is null do nothing
  returning * into o;
  if not found then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;
  insert into outbox (kind, workflow_id, payload) values ('residency', case when o.pull_model is null then 'residency-' || o.host else 'fetch-' || o.id end, residency_order_json(o));
  insert into orchestration_decisions (decision_type, input_data, output_data)
  values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'requested_by', p_user), residency_order_json(o) || jsonb_build_object('reason', o.reason));
  perform pg_notify('outbox', '');
  return jsonb_build_object('outcome', 'ordered', 'host', o.host, 'order', o.id);
end $$;
