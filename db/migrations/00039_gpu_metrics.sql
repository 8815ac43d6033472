-- Up Migration
-- Counts the events since the last call, each of them once, whoever calls and whenever a process dies: what is counted and up to where is one
-- transaction. So no task takes a step for its metrics. p_buckets: upper bounds by histogram. True: there is more to count.
create or replace function metrics_collect(p_buckets jsonb) returns boolean language plpgsql volatile as $$
declare
  v_horizon bigint := task_events_horizon();
  v_from bigint;
  v_to bigint;
begin
  if not pg_try_advisory_xact_lock(7032, 4) then return false; end if;
  -- a database that was restored into another cluster has a cursor of that one
  select least(txid, v_horizon) into v_from from metric_cursor;
  select txid into v_to from task_events where txid >= v_from and txid < v_horizon order by txid, id offset 5000 limit 1;
  v_to := least(coalesce(v_to + 1, v_horizon), v_horizon);
  with e as materialized (
    select ev.kind, ev.at, ev.data, t.created_at, t.started_at, (ev.data ->> 'execution_id')::uuid as execution_id
    from task_events ev join tasks t on t.id = ev.task_id where ev.txid >= v_from and ev.txid < v_to
  ), x as materialized (
    select e.kind, x.step_type, x.metrics, extract(epoch from x.completed_at - x.started_at) as seconds from e join task_executions x on x.id = e.execution_id
    where e.kind in ('step_finished', 'step_failed')
  ), o as (
    update residency_orders set counted = true where not counted and state <> 'open' returning *
  ), counted as (
    select 'tasks_scheduled_total' as name, '{}'::jsonb as labels, count(*)::double precision as value from e where kind = 'step_started'
    union all select 'tasks_completed_total', jsonb_build_object('status', kind), count(*) from e where kind in ('completed', 'failed', 'cancelled') group by kind
    union all select 'errors_total', jsonb_build_object('code', coalesce(data -> 'error' ->> 'code', 'unexpected')), count(*) from e where kind = 'step_failed' group by 2
    union all select 'tokens_total', jsonb_build_object('kind', k, 'model', coalesce(metrics ->> 'model_name', '')), sum((metrics ->> (k || '_tokens'))::double precision)
      from x, unnest(array['prompt', 'output']) k where jsonb_typeof(metrics -> (k || '_tokens')) = 'number' group by 2
    union all select 'model_loads_total', jsonb_build_object('result', case state when 'done' then 'loaded' else 'failed' end), count(*) from o where load_key is not null group by 2
    union all select 'model_switches_total', '{}', count(*) from o where load_key is not null and state = 'done' and cardinality(unload) > 0
    union all select 'model_unloads_total', '{}', sum(cardinality(unload)) from o where state = 'done'
  ), observed as (
    select 'task_duration_seconds' as name, '{}'::jsonb as labels, extract(epoch from at - started_at)::double precision as value
      from e where kind in ('completed', 'failed', 'cancelled') and started_at is not null
    union all select 'queue_wait_seconds', '{}', extract(epoch from at - created_at) from e where kind = 'started' and data ->> 'attempt' = '1'
    union all select 'step_duration_seconds', jsonb_build_object('step_type', step_type, 'status', case kind when 'step_finished' then 'completed' else 'failed' end), seconds from x
    union all select 'inference_seconds', jsonb_build_object('model', coalesce(metrics ->> 'model_name', '')), (metrics ->> 'inference_time_seconds')::double precision
      from x where jsonb_typeof(metrics -> 'inference_time_seconds') = 'number'
    union all select 'model_load_seconds', '{}', extract(epoch from ended_at - created_at) from o where load_key is not null and state = 'done'
  ), bounded as (select name, labels, greatest(value, 0) as value from observed where value is not null),
  series as (
    select name, labels, value from counted where value > 0
    union all select name || '_count', labels, count(*) from bounded group by 1, 2
    union all select name || '_sum', labels, sum(value) from bounded group by 1, 2
    union all select b.name || '_bucket', b.labels || jsonb_build_object('le', le), count(*)
      from bounded b, jsonb_array_elements_text(p_buckets -> b.name) le where b.value <= le::double precision group by 1, 2
  )
  insert into metric_series as m (name, labels, value) select name, labels, value from series order by name, labels
  on conflict (name, labels) do update set value = m.value + excluded.value;
  update metric_cursor set txid = v_to;
  return v_to < v_horizon;
end $$;

-- What is now, for the gauges, and every series.
create or replace function metrics_now() returns jsonb language sql stable as $$
  select jsonb_build_object(
    'queued', (select count(*) from tasks where status = 'queued'),
    'running', (select count(*) from tasks where status = 'running'),
    'unstarted', (select count(*) from outbox where kind = 'start'),
    'waiting', (select count(*) from line where state = 'waiting'),
    'slots', (select coalesce(sum(slots), 0) from engines where lease_until > clock_timestamp()),
    'slotsTaken', (select count(*) from line where state in ('granted', 'running') and pool = 'general'),
    'gpus', (select coalesce(jsonb_agg(g || jsonb_build_object('machine', s.machine)), '[]') from (
        select distinct on (machine) machine, gpus from machine_samples where at > clock_timestamp() - interval '1 minute' order by machine, at desc) s,
      jsonb_array_elements(s.gpus) g),
    'judged', (select coalesce(sum(judged), 0) from forecast_stretch),
    'kept', (select coalesce(sum(kept), 0) from forecast_stretch),
    'series', (select coalesce(jsonb_agg(jsonb_build_object('name', name, 'labels', labels, 'value', value) order by name, labels), '[]') from metric_series))
$$;
