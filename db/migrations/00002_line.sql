-- Up Migration
-- The moves of the line, one function each, so that a move is one transaction in one round trip.
-- Order of locks, the same in all of them: the task, its parents, its dependency rows, rows of the line by id, holds.
-- Functions that decide for many tasks take rows of the line with `skip locked`, so they never wait for a move.

-- whoever grants holds this lock until its transaction ends; nobody waits for it
create function line_try_lock() returns boolean language sql volatile as $$
  select pg_try_advisory_xact_lock(7032, 1)
$$;

-- Ends live rows as void. Those that ran leave an execution record, so that every try that was claimed is on record.
create function line_void(p_rows bigint[], p_cause text) returns integer language plpgsql as $$
declare
  r record; -- not line%rowtype: PostgreSQL has a geometric type of that name
  v_execution uuid;
  v_count integer := 0;
begin
  for r in select * from line where id = any(p_rows) and state in ('waiting', 'granted', 'running') order by id for update loop
    v_execution := null;
    if r.state = 'running' then
      insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status, error)
      select r.task_id, r.attempt, r.step, coalesce(s ->> 'type', r.step), r.step_attempt, r.try, r.run_id, coalesce(r.engine, r.host), r.started_at, clock_timestamp(),
        case when p_cause = 'cancelled' then 'cancelled' else 'void' end, jsonb_build_object('code', p_cause)
      from tasks t left join lateral (select s from jsonb_array_elements(t.plan -> 'steps') s where s ->> 'id' = r.step) p on true
      where t.id = r.task_id
      returning id into v_execution;
      if p_cause <> 'cancelled' then
        insert into task_events (task_id, kind, data)
        values (r.task_id, 'grant_lost', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'try', r.try, 'host', r.host, 'cause', p_cause));
      end if;
    end if;
    update line set state = 'void', cause = p_cause, ended_at = clock_timestamp(), execution_id = v_execution where id = r.id;
    v_count := v_count + 1;
  end loop;
  if v_count > 0 then perform pg_notify('line', ''); end if;
  return v_count;
end $$;

-- A final task whose run was reset outside goes on. The caller holds the task.
create function task_reopen(p_task uuid, p_run text) returns void language plpgsql as $$
begin
  update tasks set status = 'running', completed_at = null, result = null, error = null, cancel_requested_at = null,
    started_at = coalesce(started_at, clock_timestamp()), runs = runs || p_run, updated_at = clock_timestamp()
  where id = p_task;
  insert into task_events (task_id, kind, data) values (p_task, 'reset_outside', jsonb_build_object('run_id', p_run));
end $$;

-- Lets the waiting rows of tasks go whose parents have all completed. Takes the dependency rows first, so that of two parents that
-- complete at once the second sees the first.
create function line_release(p_children uuid[]) returns integer language plpgsql as $$
declare
  v_count integer;
begin
  perform 1 from task_dependencies where child_task_id = any(p_children) order by id for update;
  with free as (
    select l.id from line l join tasks c on c.id = l.task_id
    where l.task_id = any(p_children) and l.state = 'waiting' and l.not_before = 'infinity' and c.cancel_requested_at is null
      and not exists (select 1 from task_dependencies d join tasks p on p.id = d.parent_task_id where d.child_task_id = l.task_id and p.status <> 'completed')
    order by l.id for update of l)
  update line set not_before = '-infinity', entered_at = clock_timestamp() from free where line.id = free.id;
  get diagnostics v_count = row_count;
  if v_count > 0 then perform pg_notify('line', ''); end if;
  return v_count;
end $$;

create function line_enter(p_task uuid, p_attempt integer, p_run text, p_first_run text, p_step text, p_step_attempt integer, p_pool text, p_key text)
returns jsonb language plpgsql as $$
declare
  t record;
  r record;
  v_try integer := 1;
  v_entered timestamptz := clock_timestamp();
  v_blocked boolean := false;
  v_row bigint;
  v_host text;
  v_epoch bigint;
  v_slot integer;
  v_grant uuid;
  v_hold text;
begin
  select status, attempt, runs, priority, priority_level, pos, agent_assigned, cancel_requested_at into t
  from tasks where id = p_task for no key update;
  if not found or t.attempt <> p_attempt then return jsonb_build_object('state', 'stale'); end if;

  if p_run = any(t.runs) then
    -- a run that was superseded by a reset, or that has ended its task, is not heard any more
    if t.runs[cardinality(t.runs)] <> p_run or t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('state', 'stale'); end if;
  else
    if t.status in ('completed', 'failed', 'cancelled') then
      if p_run = p_first_run then return jsonb_build_object('state', 'stale'); end if;
      perform task_reopen(p_task, p_run);
      t.status := 'running';
      t.cancel_requested_at := null;
    else
      update tasks set runs = runs || p_run, first_run_id = coalesce(first_run_id, p_run), updated_at = clock_timestamp() where id = p_task;
    end if;
    if cardinality(t.runs) > 0 then
      perform line_void(array(select id from line where task_id = p_task and attempt = p_attempt and state in ('waiting', 'granted', 'running')), 'superseded');
    end if;
  end if;

  if t.status = 'queued' and exists (select 1 from task_dependencies where child_task_id = p_task) then
    select coalesce(bool_or(s.status <> 'completed'), false) into v_blocked from (
      select p.status from tasks p where p.id in (select parent_task_id from task_dependencies where child_task_id = p_task) order by p.id for share) s;
  end if;

  select l.*, e.output_bytes into r from line l left join task_executions e on e.id = l.execution_id
  where l.task_id = p_task and l.attempt = p_attempt and l.step = p_step order by l.try desc limit 1;
  if found then
    -- a first run that finds another's result follows a loss of Temporal: it goes on after the last recorded step
    if r.state = 'done' and (r.run_id = p_run or p_run = p_first_run) then
      return jsonb_build_object('state', 'done', 'execution_id', r.execution_id, 'output_bytes', r.output_bytes);
    end if;
    if r.state in ('waiting', 'granted') then
      return jsonb_build_object('state', r.state, 'row', r.id::text, 'try', r.try, 'exact', r.exact,
        'grant_id', r.grant_id, 'pool', r.pool, 'key', r.key, 'host', r.host, 'host_epoch', r.host_epoch, 'slot', r.slot);
    end if;
    if r.state = 'running' then perform line_void(array[r.id], 'superseded'); end if;
    v_try := r.try + 1;
    if r.step_attempt = p_step_attempt and r.state in ('void', 'running') then v_entered := r.entered_at; end if; -- a lost slot costs no place
  end if;

  v_hold := 'agent:' || t.agent_assigned;
  insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, hold, not_before, entered_at)
  values (p_task, p_attempt, p_step, v_try, p_step_attempt, p_run, p_pool, p_key, t.priority_level, t.priority, t.pos, v_hold,
    case when v_blocked or t.cancel_requested_at is not null then 'infinity' else '-infinity' end::timestamptz, v_entered)
  returning id into v_row;

  if not v_blocked and t.cancel_requested_at is null then
    if line_try_lock()
      -- ordered, since a search for just any row would read the table from its start, through all that is done
      and (select id from line where pool = p_pool and state = 'waiting' and not_before < 'infinity' and not_before <= clock_timestamp() and id <> v_row
        order by level desc, exact desc, pos, id limit 1) is null
      and not exists (select 1 from holds where name = v_hold and (task_id, attempt) is distinct from (p_task, p_attempt)) then
      if p_pool = 'general' then
        select 'general', 0, s into v_host, v_epoch, v_slot
        from generate_series(1, (select coalesce(sum(slots), 0)::integer from engines where lease_until > clock_timestamp())) s
        where not exists (select 1 from line where state in ('granted', 'running') and pool = 'general' and host = 'general' and host_epoch = 0 and key is null and slot = s)
        order by s limit 1;
      else
        select h.id, h.epoch, s into v_host, v_epoch, v_slot
        from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch cross join lateral generate_series(1, h.parallel) s
        where c.key = p_key and c.state = 'serving' and h.ready and h.lease_until > clock_timestamp()
          and not exists (select 1 from residency_orders o where o.host = h.id and o.state = 'open' and p_key = any(o.unload))
          and not exists (select 1 from line where state in ('granted', 'running') and pool = 'model' and host = h.id and host_epoch = h.epoch and key = p_key and slot = s)
        order by s, h.id limit 1
        for share of c skip locked; -- a key that begins to drain takes nothing, and its drain sees what it took before
      end if;
    end if;
    if v_slot is not null then
      v_grant := gen_random_uuid();
      update line set state = 'granted', grant_id = v_grant, host = v_host, host_epoch = v_epoch, slot = v_slot, granted_at = clock_timestamp() where id = v_row;
      if v_hold is not null then insert into holds (name, task_id, attempt) values (v_hold, p_task, p_attempt) on conflict (name) do nothing; end if;
      insert into orchestration_decisions (decision_type, task_id, input_data, output_data)
      values ('grant', p_task, jsonb_build_object('row', v_row::text, 'step', p_step, 'attempt', p_attempt, 'pool', p_pool, 'key', p_key, 'exact', t.priority),
        jsonb_build_object('grant', v_grant, 'host', v_host, 'slot', v_slot, 'reason', 'nobody waits and slot ' || v_slot || ' is free'));
    else
      perform pg_notify('line', '');
    end if;
  end if;
  return jsonb_build_object('state', case when v_grant is null then 'waiting' else 'granted' end, 'row', v_row::text, 'try', v_try, 'exact', t.priority,
    'grant_id', v_grant, 'pool', p_pool, 'key', p_key, 'host', v_host, 'host_epoch', v_epoch, 'slot', v_slot);
end $$;

create function line_claim(p_row bigint, p_grant uuid, p_host text, p_epoch bigint, p_engine text) returns jsonb language plpgsql as $$
declare
  r record;
  t record;
  v_task uuid;
  v_needs text[];
  v_step jsonb;
  v_outputs jsonb := '[]';
begin
  select task_id into v_task from line where id = p_row and grant_id = p_grant and state = 'granted';
  if not found then return null; end if;
  select status, user_id, plan into t from tasks where id = v_task for no key update;
  update line set state = 'running', claim_token = gen_random_uuid(), started_at = clock_timestamp(), engine = p_engine
  where id = p_row and grant_id = p_grant and state = 'granted'
    and (pool = 'general' or (host = p_host and host_epoch = p_epoch
      and exists (select 1 from hosts h where h.id = p_host and h.epoch = p_epoch and h.lease_until > clock_timestamp())))
  returning * into r;
  if not found then return null; end if;
  if t.status = 'queued' then
    update tasks set status = 'running', started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp() where id = v_task;
    insert into task_events (task_id, kind, data) values (v_task, 'started', jsonb_build_object('attempt', r.attempt));
  end if;
  insert into task_events (task_id, kind, data)
  values (v_task, 'step_started', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'step_attempt', r.step_attempt, 'try', r.try, 'host', coalesce(r.engine, r.host), 'slot', r.slot, 'key', r.key));

  select s into v_step from jsonb_array_elements(t.plan -> 'steps') s where s ->> 'id' = r.step;
  v_needs := array(select jsonb_array_elements_text(v_step -> 'needs'));
  if jsonb_array_length(v_step -> 'deferred') = 0 and cardinality(v_needs) > 0 then
    -- nothing is rendered, so only the output before is wanted; where all direct ones were skipped, it is among the rest
    v_outputs := line_outputs(v_task, r.attempt, v_needs, 1);
  end if;
  if v_outputs = '[]' and (cardinality(v_needs) > 0 or jsonb_array_length(v_step -> 'deferred') > 0) then
    v_outputs := line_outputs(v_task, r.attempt, null, null);
  end if;
  return jsonb_build_object('row', r.id::text, 'token', r.claim_token, 'task_id', v_task, 'attempt', r.attempt, 'step_attempt', r.step_attempt,
    'try', r.try, 'run_id', r.run_id, 'step', r.step, 'user_id', t.user_id, 'plan', t.plan, 'outputs', v_outputs);
end $$;

-- The latest output of each completed step of an attempt, latest first.
create function line_outputs(p_task uuid, p_attempt integer, p_steps text[], p_limit integer) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(jsonb_build_object('step', step, 'output', output) order by completed_at desc), '[]')
  from (
    select * from (
      select distinct on (step) step, output, completed_at from task_executions
      where task_id = p_task and attempt = p_attempt and status = 'completed' and (p_steps is null or step = any(p_steps))
      order by step, try desc) latest
    order by completed_at desc limit p_limit) o
$$;

-- Writes a try's execution record and adds what it used to the task.
create function line_record(p_row bigint, p_status text, p_type text, p_output jsonb, p_output_bytes integer, p_error jsonb, p_usage jsonb) returns uuid language plpgsql as $$
declare
  r record;
  v_id uuid;
begin
  select * into r from line where id = p_row;
  insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status,
    cpu_used, memory_used, exit_code, logs, metrics, output, output_bytes, error)
  values (r.task_id, r.attempt, r.step, p_type, r.step_attempt, r.try, r.run_id, coalesce(r.engine, r.host), r.started_at, clock_timestamp(), p_status,
    (p_usage ->> 'cpuSeconds')::double precision, (p_usage ->> 'memoryUsedGb')::double precision, (p_usage ->> 'exitCode')::integer, p_usage ->> 'logs',
    coalesce(p_usage -> 'metrics', '{}') || jsonb_strip_nulls(jsonb_build_object('model_name', p_usage -> 'modelName', 'model_digest', p_usage -> 'modelDigest',
      'inference_time_seconds', p_usage -> 'inferenceTimeSeconds')),
    p_output, p_output_bytes, p_error)
  returning id into v_id;
  if p_usage ? 'inferenceTimeSeconds' then
    update tasks set updated_at = clock_timestamp(), resource_usage = jsonb_build_object(
      'model_name', coalesce(p_usage ->> 'modelName', resource_usage ->> 'model_name'),
      'inference_time_seconds', coalesce((resource_usage ->> 'inference_time_seconds')::double precision, 0) + (p_usage ->> 'inferenceTimeSeconds')::double precision,
      'memory_used_gb', greatest((resource_usage ->> 'memory_used_gb')::double precision, (p_usage ->> 'memoryUsedGb')::double precision))
    where id = r.task_id;
  end if;
  return v_id;
end $$;

-- p_last: every other step has ended, so the task completes in the same transaction, and its dependents are woken by it.
create function line_finish(p_row bigint, p_token uuid, p_type text, p_output jsonb, p_output_bytes integer, p_usage jsonb, p_next_key text, p_last boolean) returns jsonb language plpgsql as $$
declare
  r record;
  v_execution uuid;
begin
  perform 1 from tasks where id = (select task_id from line where id = p_row) for no key update;
  select * into r from line where id = p_row and claim_token = p_token and state in ('running', 'done') for update;
  if not found then return null; end if;
  if r.state = 'done' then
    return (select jsonb_build_object('execution_id', e.id, 'output_bytes', e.output_bytes, 'closed', p_last and t.status = 'completed')
      from task_executions e join tasks t on t.id = e.task_id where e.id = r.execution_id);
  end if;
  v_execution := line_record(p_row, 'completed', p_type, p_output, p_output_bytes, null, p_usage);
  update line set state = 'done', ended_at = clock_timestamp(), execution_id = v_execution, next_key = p_next_key where id = p_row;
  insert into task_events (task_id, kind, data)
  values (r.task_id, 'step_finished', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'step_attempt', r.step_attempt, 'try', r.try, 'execution_id', v_execution));
  perform pg_notify('line', '');
  if p_last then p_last := line_close(r.task_id, r.attempt, r.run_id, r.run_id, 'completed', null); end if;
  return jsonb_build_object('execution_id', v_execution, 'output_bytes', p_output_bytes, 'closed', p_last);
end $$;

create function line_fail(p_row bigint, p_token uuid, p_type text, p_status text, p_error jsonb, p_usage jsonb) returns boolean language plpgsql as $$
declare
  r record;
  v_execution uuid;
begin
  perform 1 from tasks where id = (select task_id from line where id = p_row) for no key update;
  select * into r from line where id = p_row and claim_token = p_token and state in ('running', 'void') for update;
  if not found then return false; end if;
  -- a repeat finds its own record; a row that somebody else took back has another cause
  if r.state = 'void' then return r.cause = p_error ->> 'code'; end if;
  v_execution := line_record(p_row, p_status, p_type, null, null, p_error, p_usage);
  update line set state = 'void', cause = p_error ->> 'code', ended_at = clock_timestamp(), execution_id = v_execution where id = p_row;
  if p_status <> 'cancelled' then
    insert into task_events (task_id, kind, data)
    values (r.task_id, case p_status when 'void' then 'grant_lost' else 'step_failed' end,
      jsonb_build_object('step', r.step, 'attempt', r.attempt, 'step_attempt', r.step_attempt, 'try', r.try, 'error', p_error, 'execution_id', v_execution));
  end if;
  perform pg_notify('line', '');
  return true;
end $$;

create function line_leave(p_task uuid, p_attempt integer, p_run text, p_step text, p_cause text) returns void language plpgsql as $$
declare
  v_rows bigint[];
begin
  v_rows := array(select id from line where task_id = p_task and attempt = p_attempt and step = p_step and run_id = p_run and state in ('waiting', 'granted', 'running'));
  if cardinality(v_rows) = 0 then return; end if;
  perform 1 from tasks where id = p_task for no key update;
  perform line_void(v_rows, p_cause);
end $$;

-- p_run null: the reconciler closes a task whose workflow ended without writing its end.
create function line_close(p_task uuid, p_attempt integer, p_run text, p_first_run text, p_status text, p_error jsonb) returns boolean language plpgsql as $$
declare
  t record;
  v_result jsonb;
  v_rows bigint[];
  v_children uuid[];
begin
  select status, attempt, runs, plan into t from tasks where id = p_task for no key update;
  if not found or t.attempt <> p_attempt then return false; end if;
  if t.status in ('completed', 'failed', 'cancelled') then return p_run is not null and p_run = t.runs[cardinality(t.runs)] and t.status = p_status; end if;
  if p_run is not null and p_run = any(t.runs) and t.runs[cardinality(t.runs)] <> p_run then return false; end if;

  v_rows := array(select id from line where task_id = p_task and state in ('waiting', 'granted', 'running'));
  if cardinality(v_rows) > 0 then
    perform line_void(v_rows, coalesce(p_error ->> 'code', p_status));
    perform pg_notify('cancel', p_task::text); -- whatever still runs for it stops
  end if;
  if p_status = 'completed' then
    with outputs as (select o ->> 'step' as step, o -> 'output' as output from jsonb_array_elements(line_outputs(p_task, p_attempt, null, null)) o),
      steps as (select s ->> 'id' as step, n, coalesce(output, '{}') as output
        from jsonb_array_elements(t.plan -> 'steps') with ordinality p(s, n) left join outputs on outputs.step = s ->> 'id')
    select (select output from steps order by n desc limit 1) || jsonb_build_object('steps', coalesce(jsonb_object_agg(step, output), '{}')) into v_result from steps;
  end if;
  update tasks set status = p_status, error = p_error, result = v_result, completed_at = clock_timestamp(), updated_at = clock_timestamp(),
    first_run_id = coalesce(first_run_id, p_run), runs = case when p_run is null or p_run = any(runs) then runs else runs || p_run end
  where id = p_task;
  insert into task_events (task_id, kind, data) values (p_task, p_status, jsonb_build_object('attempt', p_attempt) || case when p_error is null then '{}' else jsonb_build_object('error', p_error) end);
  if p_status = 'completed' then
    v_children := array(select child_task_id from task_dependencies where parent_task_id = p_task);
    if cardinality(v_children) > 0 then perform line_release(v_children); end if;
  end if;
  delete from holds where task_id = p_task; -- last, after the rows, so that a grant given meanwhile cannot leave one behind
  if found then perform pg_notify('line', ''); end if;
  return true;
end $$;
