-- Up Migration
-- What was decided for a task, the loads that were ordered for one of its steps included.
create index orchestration_decisions_first on orchestration_decisions ((input_data -> 'first' ->> 'row')) where decision_type = 'residency';

-- As in 00021_holds.sql; an order may take the place of one whose load has not begun.
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
    on conflict (host) where state = 'open' do nothing
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
