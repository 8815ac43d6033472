-- Up Migration
-- By how much predictions have to be moved, as a logarithm, beside being stretched: what arrives later makes everything later.
alter table forecast_stretch add column shift double precision not null default 0;

-- The whole line as it is, for the forecast: its live rows, and what decisions about them look at. No lock is taken, so it may be a moment
-- apart from what a decision sees. Rows beyond p_limit are left out, the last ones of the line first.
create function forecast_read(p_limit integer) returns jsonb language plpgsql stable as $$
declare
  v_now timestamptz := clock_timestamp();
  v_rows jsonb;
  v_keys text[];
begin
  with live as materialized (
    select l.*, row_number() over (order by l.pos, l.id) as place from line l where l.state in ('waiting', 'granted', 'running')
    order by l.state in ('granted', 'running') desc, l.level desc, l.exact desc, l.pos, l.id limit p_limit
  )
  select coalesce(jsonb_agg(jsonb_build_object('id', task_id, 'attempt', attempt, 'step', step, 'pool', pool, 'key', key, 'state', state, 'level', level, 'exact', exact,
      'place', place, 'waitedMs', greatest(0, extract(epoch from v_now - entered_at) * 1000), 'continues', continues, 'held', held, 'locks', coalesce(to_jsonb(locks), '[]'),
      'lack', case when locks is not null and state = 'waiting' then line_lack(task_id, locks, amounts) end, 'host', host,
      'ranMs', greatest(0, extract(epoch from v_now - coalesce(started_at, v_now)) * 1000),
      'dueInMs', case when not_before = 'infinity' then null when not_before > v_now then extract(epoch from not_before - v_now) * 1000 else 0 end)), '[]'),
    coalesce(array_agg(distinct key) filter (where key is not null), '{}') into v_rows, v_keys
  from live;
  v_keys := array(select distinct k from unnest(v_keys || array(select key from residency)) k);

  return jsonb_build_object(
    'rows', v_rows,
    -- tasks between two steps, or between two attempts of one
    'between', (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'attempt', attempt, 'level', priority_level, 'exact', priority, 'held', held_at is not null)), '[]') from (
      select * from tasks t where t.status = 'running' and t.cancel_requested_at is null
        and not exists (select 1 from line l where l.task_id = t.id and l.attempt = t.attempt and l.state in ('waiting', 'granted', 'running')) order by pos limit 1000) b),
    'dependencies', (select coalesce(jsonb_agg(jsonb_build_array(d.child_task_id, d.parent_task_id, p.status in ('failed', 'cancelled'))), '[]') from (
        select distinct task_id from line where state = 'waiting' and not_before = 'infinity' limit 20000) w
      join task_dependencies d on d.child_task_id = w.task_id join tasks p on p.id = d.parent_task_id where p.status <> 'completed'),
    'rights', (select coalesce(jsonb_agg(jsonb_build_array(name, task_id)), '[]') from holds),
    'generalSlots', (select coalesce(sum(slots), 0) from engines where lease_until > v_now),
    'hosts', (select coalesce(jsonb_agg(jsonb_build_object('host', id, 'hostEpoch', epoch, 'parallel', parallel, 'modelsMax', models_max, 'roomBytes', room_bytes,
        'budgetBytes', budget_bytes, 'paused', exists (select 1 from queue_pauses where scope = 'host:' || id)) order by id), '[]')
      from hosts where ready and lease_until > v_now),
    'residency', (select coalesce(jsonb_agg(jsonb_build_object('host', c.host, 'hostEpoch', c.host_epoch, 'key', c.key, 'model', jsonb_build_object('name', c.model, 'numCtx', c.num_ctx),
        'state', c.state, 'sinceMs', greatest(0, extract(epoch from v_now - c.since) * 1000),
        'servedMs', coalesce(s.served_ms, 0) + coalesce((select sum(greatest(0, extract(epoch from v_now - l.started_at))) * 1000 / h.parallel from line l
          where l.state in ('granted', 'running') and l.pool = 'model' and l.host = c.host and l.host_epoch = c.host_epoch and l.key = c.key), 0))), '[]')
      from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch
      left join residency_service s on s.host = c.host and s.host_epoch = c.host_epoch and s.key = c.key where h.lease_until > v_now),
    'openOrders', (select coalesce(jsonb_agg(residency_order_json(o) || jsonb_build_object('forMs',
        coalesce((select greatest(0, extract(epoch from v_now - c.since) * 1000) from residency c where c.host = o.host and c.key = o.load_key and c.state = 'loading'), 0))), '[]')
      from residency_orders o where o.state = 'open'),
    'costs', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key, 'loadMs', load_ms, 'bytes', bytes)), '[]') from costs_of(v_keys)),
    'backingOff', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key, 'forMs', extract(epoch from until - v_now) * 1000)), '[]') from residency_backoff where until > v_now),
    'paused', exists (select 1 from queue_pauses where scope = 'queue'),
    'pausedModels', (select coalesce(jsonb_agg(substr(scope, 7)), '[]') from queue_pauses where scope like 'model:%'));
end $$;

-- The plans of tasks without the inputs of their steps, and which of them have ended.
create function forecast_plans(p_tasks uuid[]) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'template', t.template, 'steps', (
    select coalesce(jsonb_agg(jsonb_build_object('id', s -> 'id', 'type', s -> 'type', 'needs', s -> 'needs', 'key', case when s ? 'model' then (s -> 'model' ->> 'name') || '~ctx' || (s -> 'model' ->> 'numCtx') end) order by n), '[]')
    from jsonb_array_elements(t.plan -> 'steps') with ordinality p (s, n)))), '[]')
  from tasks t where t.id = any(p_tasks)
$$;

-- The steps of tasks that have ended in their present attempt.
create function forecast_done(p_tasks uuid[]) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(jsonb_build_array(l.task_id, l.step)), '[]') from line l join tasks t on t.id = l.task_id and t.attempt = l.attempt
  where l.task_id = any(p_tasks) and l.state = 'done'
$$;

-- Steps that have completed since the last call of anybody, with what was predicted of them; the promises are taken away. Null when somebody else
-- learns just now. In the transaction of this call what was learned has to be written, so that each step counts once.
create function forecast_finished(p_limit integer) returns jsonb language plpgsql volatile as $$
declare
  v_horizon bigint := task_events_horizon();
  v_from bigint;
  v_to bigint;
  v_steps jsonb;
begin
  if not pg_try_advisory_xact_lock(7032, 5) then return null; end if;
  select least(txid, v_horizon) into v_from from forecast_cursor;
  select txid into v_to from task_events where txid >= v_from and txid < v_horizon order by txid, id offset p_limit limit 1;
  v_to := least(coalesce(v_to + 1, v_horizon), v_horizon);
  with ended as materialized (
    select x.* from task_events ev join task_executions x on x.id = (ev.data ->> 'execution_id')::uuid
    where ev.txid >= v_from and ev.txid < v_to and ev.kind = 'step_finished'
  ), promised as (
    delete from forecast_promises p using ended e where p.task_id = e.task_id and p.attempt = e.attempt and p.step = e.step returning p.*
  )
  select coalesce(jsonb_agg(jsonb_build_object('template', t.template, 'step', e.step, 'type', e.step_type, 'model', key_model(l.key), 'level', t.priority_level,
      'ms', extract(epoch from e.completed_at - e.started_at) * 1000,
      'promise', case when p.task_id is null then null else jsonb_build_object('startMs', p.start_ms, 'startSdMs', p.start_sd_ms, 'finishMs', p.finish_ms, 'finishSdMs', p.finish_sd_ms,
        'startedMs', extract(epoch from e.started_at - p.made_at) * 1000, 'finishedMs', extract(epoch from e.completed_at - p.made_at) * 1000) end) order by e.completed_at), '[]') into v_steps
  from ended e join tasks t on t.id = e.task_id
  left join line l on l.task_id = e.task_id and l.attempt = e.attempt and l.step = e.step and l.try = e.try
  left join promised p on p.task_id = e.task_id and p.attempt = e.attempt and p.step = e.step;
  update forecast_cursor set txid = v_to;
  return jsonb_build_object('steps', v_steps, 'more', v_to < v_horizon);
end $$;
