-- What a deadlock tells, and predictions of what never ended.

-- A deadlock as the owner of one of its tasks may see it: tasks of others have no id, their locks have their names, as in the list of locks.
create function deadlock_told(p_cause jsonb, p_owner text) returns jsonb language sql stable as $$
  with mine as materialized (select coalesce(array_agg(id::text), '{}') as ids from tasks where user_id = p_owner and id in (select jsonb_array_elements_text(p_cause -> 'members')::uuid))
  select p_cause || jsonb_build_object(
    'members', (select jsonb_agg(case when m #>> '{}' = any(ids) then m end) from jsonb_array_elements(p_cause -> 'members') m),
    'waits', (select jsonb_agg(w || jsonb_build_object('task_id', case when w ->> 'task_id' = any(ids) then w -> 'task_id' end, 'holder', case when w ->> 'holder' = any(ids) then w -> 'holder' end))
      from jsonb_array_elements(p_cause -> 'waits') w),
    'gives_way', case when p_cause ->> 'gives_way' = any(ids) then p_cause -> 'gives_way' end)
  from mine
$$;

-- As in 00021_holds.sql, but each member is told what its owner may know.
create or replace function holds_give_way(p_task uuid, p_cause jsonb) returns boolean language plpgsql as $$
declare
  t record;
  r record;
begin
  if not line_try_lock() then return false; end if;
  select status, attempt into t from tasks where id = p_task for no key update;
  if not found or t.status <> 'running' then return false; end if;
  perform 1 from lock_wishes w join holds h on h.name = w.name and h.task_id <> w.task_id where w.task_id = p_task and w.asked_at > clock_timestamp() - interval '30 seconds';
  if not found then return false; end if;
  insert into given_ways as g (task_id, attempt, locks, cause)
  values (p_task, t.attempt, array(select name from holds where task_id = p_task and name not like 'agent:%' union select name from lock_wishes where task_id = p_task), p_cause)
  on conflict (task_id, attempt) do update set locks = array(select unnest(g.locks) union select unnest(excluded.locks)), cause = excluded.cause, marked_at = clock_timestamp(), done_at = null
    where g.done_at is not null;
  if not found then return false; end if;
  for r in select * from line where task_id = p_task and attempt = t.attempt and state in ('waiting', 'granted') order by id for update loop
    if r.state = 'granted' then perform line_take_back(r.id, '-infinity', r.misses, 'gives_way'); end if;
    update line set locks = array_append(coalesce(locks, '{}'), 'gives way:' || p_task) where id = r.id;
  end loop;
  insert into orchestration_decisions (decision_type, task_id, input_data, output_data)
  values ('deadlock', p_task, p_cause, jsonb_build_object('gives_way', p_task, 'reason', p_cause -> 'reason'));
  for r in select id, user_id from tasks where id in (select jsonb_array_elements_text(p_cause -> 'members')::uuid) order by id loop
    insert into task_events (task_id, kind, data) values (r.id, 'deadlock', deadlock_told(p_cause || jsonb_build_object('gives_way', p_task), r.user_id));
  end loop;
  perform pg_notify('cancel', p_task || ' gives way');
  return true;
end $$;

-- As in 00023_forecast_line.sql, but what was predicted of the steps of tasks that failed or were cancelled goes too.
create or replace function forecast_finished(p_limit integer) returns jsonb language plpgsql volatile as $$
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
  delete from forecast_promises p using task_events ev where ev.txid >= v_from and ev.txid < v_to and ev.kind in ('failed', 'cancelled') and p.task_id = ev.task_id;
  update forecast_cursor set txid = v_to;
  return jsonb_build_object('steps', v_steps, 'more', v_to < v_horizon);
end $$;
