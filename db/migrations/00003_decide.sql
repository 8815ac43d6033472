-- Up Migration
-- Whether any row may be granted now.
create function decide_any() returns boolean language sql stable as $$
  select exists (select 1 from (select 1 from line where state = 'waiting' and pool = 'general' and not_before < 'infinity' and not_before <= clock_timestamp() limit 1) g)
    or exists (select 1 from (select 1 from line where state = 'waiting' and pool = 'model' and not_before < 'infinity' and not_before <= clock_timestamp() limit 1) m)
$$;

-- What the decide loop reads, under the lock; null when somebody else decides. A function, so that its queries see what was
-- committed before the lock was had; one plain statement would look from before it.
create function decide_read(p_spare integer) returns jsonb language plpgsql as $$
declare
  v_now timestamptz;
  v_capacity integer;
  v_taken jsonb;
  v_general integer;
  v_slots jsonb;
  v_hosts jsonb;
  v_model integer;
  v_heads jsonb;
begin
  if not line_try_lock() then return null; end if;
  v_now := clock_timestamp();

  select coalesce(sum(slots), 0) into v_capacity from engines where lease_until > v_now;
  select coalesce(jsonb_agg(slot order by slot), '[]'), v_capacity - count(*) into v_taken, v_general
  from line where state in ('granted', 'running') and pool = 'general';
  select coalesce(jsonb_agg(jsonb_build_object('host', id, 'hostEpoch', epoch, 'parallel', parallel) order by id), '[]'), coalesce(sum(parallel), 0) into v_hosts, v_model
  from hosts where ready and lease_until > v_now;
  select coalesce(jsonb_agg(jsonb_build_object('pool', 'model', 'host', c.host, 'hostEpoch', c.host_epoch, 'key', c.key, 'capacity', h.parallel,
    'taken', array(select slot from line where state in ('granted', 'running') and pool = 'model' and host = c.host and host_epoch = c.host_epoch and key = c.key order by slot))
    order by c.host, c.key), '[]') into v_slots
  from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch
  where c.state = 'serving' and h.ready and h.lease_until > v_now;

  -- Per level, since a policy may raise what has waited long; per key, since it may serve a key that is not first. Rows whose hold is taken are passed over.
  with recursive keys as (
    (select key from line where state = 'waiting' and pool = 'model' and not_before < 'infinity' and v_model > 0 order by key limit 1)
    union all
    select (select l.key from line l where l.state = 'waiting' and l.pool = 'model' and l.not_before < 'infinity' and l.key > keys.key order by l.key limit 1)
    from keys where keys.key is not null
  ), found as (
    select h.* from generate_series(1, 10) level_no cross join lateral (
      select l.* from line l
      where l.state = 'waiting' and l.pool = 'general' and l.not_before < 'infinity' and l.not_before <= v_now and l.level = level_no
        and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
      order by l.level desc, l.exact desc, l.pos, l.id limit greatest(v_general, 0)) h
    union
    select h.* from generate_series(1, 10) level_no cross join lateral (
      select l.* from line l
      where l.state = 'waiting' and l.pool = 'model' and l.not_before < 'infinity' and l.not_before <= v_now and l.level = level_no
        and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
      order by l.level desc, l.exact desc, l.pos, l.id limit case when v_model > 0 then v_model + p_spare else 0 end) h
    union
    select h.* from keys cross join lateral (
      select l.* from line l
      where l.state = 'waiting' and l.pool = 'model' and l.not_before < 'infinity' and l.not_before <= v_now and l.key = keys.key
        and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
      order by l.level desc, l.exact desc, l.pos, l.id limit v_model) h
    where keys.key is not null
  )
  select coalesce(jsonb_agg(jsonb_build_object('row', id::text, 'taskId', task_id, 'pool', pool, 'key', key, 'level', level, 'exact', exact, 'pos', pos::text,
    'waitedMs', greatest(0, floor(extract(epoch from v_now - entered_at) * 1000))) order by pool, level desc, exact desc, pos, id), '[]') into v_heads
  from found;

  return jsonb_build_object(
    'heads', v_heads,
    'slots', jsonb_build_array(jsonb_build_object('pool', 'general', 'host', 'general', 'hostEpoch', 0, 'key', null, 'capacity', v_capacity, 'taken', v_taken)) || v_slots,
    'hosts', v_hosts,
    'residency', (select coalesce(jsonb_agg(jsonb_build_object('host', c.host, 'hostEpoch', c.host_epoch, 'key', c.key, 'model', jsonb_build_object('name', c.model, 'numCtx', c.num_ctx),
        'state', c.state, 'sinceMs', greatest(0, floor(extract(epoch from v_now - c.since) * 1000))) order by c.host, c.key), '[]')
      from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch where h.lease_until > v_now),
    'openOrders', (select coalesce(jsonb_agg(residency_order_json(o) order by o.host), '[]') from residency_orders o where o.state = 'open'),
    'continuations', (select coalesce(jsonb_agg(jsonb_build_object('key', l.next_key, 'host', l.host, 'agoMs', greatest(0, floor(extract(epoch from v_now - l.ended_at) * 1000)))), '[]')
      from line l join tasks t on t.id = l.task_id and t.attempt = l.attempt
      where l.state = 'done' and l.next_key is not null and l.ended_at > v_now - interval '2 seconds' and t.status = 'running' and t.cancel_requested_at is null
        and not exists (select 1 from line later where later.task_id = l.task_id and later.attempt = l.attempt and later.id > l.id)),
    'backingOff', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key)), '[]') from residency_backoff where until > v_now));
end $$;

-- An order as the workflow changeResidency takes it.
create function residency_order_json(o residency_orders) returns jsonb language sql immutable as $$
  select jsonb_build_object('id', o.id, 'host', o.host, 'hostEpoch', o.host_epoch, 'unload', to_jsonb(o.unload),
    'load', case when o.load_key is null then null else jsonb_build_object('key', o.load_key, 'model', jsonb_build_object('name', o.load_model, 'numCtx', o.load_num_ctx)) end)
$$;

-- A grant as its workflow is told of it.
create function line_grant_json(p_row bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object('task_id', task_id, 'row', id::text, 'grant_id', grant_id, 'pool', pool, 'key', key, 'host', host, 'host_epoch', host_epoch, 'slot', slot)
  from line where id = p_row
$$;

-- Writes what was decided. A row that moved meanwhile, a taken slot or hold, a key that is not served (any more) are passed over.
create function decide_write(p_grants jsonb, p_orders jsonb) returns jsonb language plpgsql as $$
declare
  g jsonb;
  r record; -- not line%rowtype: PostgreSQL has a geometric type of that name
  o residency_orders%rowtype;
  v_granted jsonb := '[]';
  v_ordered jsonb := '[]';
begin
  for g in select * from jsonb_array_elements(p_grants) loop
    select * into r from line where id = (g ->> 'row')::bigint and state = 'waiting' for update skip locked;
    continue when not found;
    continue when exists (select 1 from line where state in ('granted', 'running') and pool = r.pool and host = g ->> 'host' and host_epoch = (g ->> 'hostEpoch')::bigint
      and key is not distinct from r.key and slot = (g ->> 'slot')::integer);
    if r.pool = 'model' then
      -- a key that begins to drain takes nothing, and its drain sees what it took before
      perform 1 from residency where host = g ->> 'host' and host_epoch = (g ->> 'hostEpoch')::bigint and key = r.key and state = 'serving' for share skip locked;
      continue when not found;
    end if;
    if r.hold is not null then
      insert into holds (name, task_id, attempt) values (r.hold, r.task_id, r.attempt) on conflict (name) do nothing;
      continue when not exists (select 1 from holds where name = r.hold and task_id = r.task_id and attempt = r.attempt);
    end if;
    update line set state = 'granted', grant_id = gen_random_uuid(), host = g ->> 'host', host_epoch = (g ->> 'hostEpoch')::bigint, slot = (g ->> 'slot')::integer,
      granted_at = clock_timestamp(), signals = 0
    where id = r.id returning * into r;
    insert into orchestration_decisions (decision_type, task_id, input_data, output_data)
    values ('grant', r.task_id, jsonb_build_object('row', r.id::text, 'step', r.step, 'attempt', r.attempt, 'pool', r.pool, 'key', r.key, 'exact', r.exact),
      jsonb_build_object('grant', r.grant_id, 'host', r.host, 'slot', r.slot, 'reason', g ->> 'reason'));
    v_granted := v_granted || line_grant_json(r.id);
  end loop;

  for g in select * from jsonb_array_elements(p_orders) loop
    continue when not exists (select 1 from hosts where id = g ->> 'host' and epoch = (g ->> 'hostEpoch')::bigint and lease_until > clock_timestamp());
    insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, reason)
    values (g ->> 'host', (g ->> 'hostEpoch')::bigint, array(select jsonb_array_elements_text(g -> 'unload')), g -> 'load' ->> 'key',
      g -> 'load' -> 'model' ->> 'name', (g -> 'load' -> 'model' ->> 'numCtx')::integer, g ->> 'reason')
    on conflict (host) where state = 'open' do nothing
    returning * into o;
    continue when not found;
    insert into outbox (kind, workflow_id, payload) values ('residency', 'residency-' || o.host, residency_order_json(o));
    insert into orchestration_decisions (decision_type, input_data, output_data)
    values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch), residency_order_json(o) || jsonb_build_object('reason', o.reason));
    v_ordered := v_ordered || residency_order_json(o);
  end loop;
  if v_ordered <> '[]' then perform pg_notify('outbox', ''); end if;
  return jsonb_build_object('granted', v_granted, 'ordered', v_ordered);
end $$;

-- Gives granted rows back to the line. The hold goes too when nothing of the task has begun, so that a sick workflow holds up nobody.
create function line_take_back(p_row bigint, p_not_before timestamptz, p_misses integer, p_cause text) returns void language plpgsql as $$
declare
  r record;
begin
  update line set state = 'waiting', grant_id = null, host = null, host_epoch = null, slot = null, granted_at = null, signals = 0, not_before = p_not_before, misses = p_misses
  where id = p_row returning * into r;
  insert into task_events (task_id, kind, data)
  values (r.task_id, 'grant_lost', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'try', r.try, 'cause', p_cause));
  delete from holds h where h.name = r.hold and h.task_id = r.task_id and h.attempt = r.attempt
    and not exists (select 1 from line where task_id = r.task_id and attempt = r.attempt and state in ('granted', 'running', 'done'))
    and not exists (select 1 from tasks where id = r.task_id and status <> 'queued');
end $$;

-- Unanswered grants: told again after 2 s and 6 s, back to the line after 15 s. Returns those to be told again.
create function line_expire() returns jsonb language plpgsql as $$
declare
  r record;
  v_again jsonb := '[]';
  v_age interval;
  v_taken_back boolean := false;
begin
  for r in select * from line where state = 'granted' and granted_at < clock_timestamp() - interval '2 seconds' order by id for update skip locked loop
    v_age := clock_timestamp() - r.granted_at;
    if v_age >= interval '15 seconds' then
      perform line_take_back(r.id, clock_timestamp() + least(interval '10 minutes', interval '15 seconds' * power(2, least(r.misses, 10))), r.misses + 1, 'unanswered');
      v_taken_back := true;
    elsif r.signals = 0 or (r.signals = 1 and v_age >= interval '6 seconds') then
      update line set signals = case when v_age >= interval '6 seconds' then 2 else 1 end where id = r.id;
      v_again := v_again || line_grant_json(r.id);
    end if;
  end loop;
  if v_taken_back then perform pg_notify('line', ''); end if;
  return v_again;
end $$;

-- Rows, residency and orders of hosts and engines whose lease is past or that have begun anew. Returns what was lost, one entry each.
create function line_lose_hosts() returns jsonb language plpgsql as $$
declare
  r record;
  v_lost jsonb := '[]';
  v_host text;
  v_key text;
  v_order uuid;
begin
  for r in
    select * from line l
    where (l.state in ('granted', 'running') and l.pool = 'model'
        and not exists (select 1 from hosts h where h.id = l.host and h.epoch = l.host_epoch and h.lease_until > clock_timestamp()))
      or (l.state = 'running' and l.pool = 'general' and not exists (select 1 from engines e where e.id = l.engine and e.lease_until > clock_timestamp()))
    order by id for update skip locked
  loop
    if r.state = 'granted' then perform line_take_back(r.id, '-infinity', r.misses, 'host_lost');
    else perform line_void(array[r.id], 'host_lost');
    end if;
    v_lost := v_lost || jsonb_build_object('kind', r.state, 'host', coalesce(r.engine, r.host), 'row', r.id::text, 'taskId', r.task_id, 'step', r.step);
  end loop;
  for v_host, v_key in
    delete from residency c where not exists (select 1 from hosts h where h.id = c.host and h.epoch = c.host_epoch and h.lease_until > clock_timestamp()) returning c.host, c.key
  loop
    v_lost := v_lost || jsonb_build_object('kind', 'residency', 'host', v_host, 'key', v_key);
    perform pg_notify('residency', v_host);
  end loop;
  for v_host, v_order in
    update residency_orders o set state = 'failed', ended_at = clock_timestamp(), error = jsonb_build_object('code', 'host_lost', 'message', 'the host stopped answering')
    where o.state = 'open' and not exists (select 1 from hosts h where h.id = o.host and h.epoch = o.host_epoch and h.lease_until > clock_timestamp()) returning o.host, o.id
  loop
    v_lost := v_lost || jsonb_build_object('kind', 'order', 'host', v_host, 'order', v_order);
  end loop;
  if v_lost <> '[]' then perform pg_notify('line', ''); end if;
  return v_lost;
end $$;
