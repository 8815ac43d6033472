-- Up Migration
-- The first step of a task enters the line in the transaction of the submit where it may run at once, so that the run that is started then has its grant
-- already and needs no call for it. Such a row has no run ('') until a run claims or enters it.

-- Whether any row of a pool waits to be granted. Ordered, since a search for just any row would read the table from its start, through all that is done.
create function line_any_waits(p_pool text) returns boolean language sql volatile as $$
  select (select id from line where pool = p_pool and state = 'waiting' and not held and not_before < 'infinity' and not_before <= clock_timestamp()
    order by pool, key, level desc, exact desc, pos, id limit 1) is not null
$$;

-- A time as workflows are told it, with its microseconds.
create function line_ms(p_at timestamptz) returns double precision language sql immutable as $$
  select extract(epoch from p_at)::double precision * 1000
$$;

-- As in 00003_decide.sql; says when it was given, since signals may come in another order.
create or replace function line_grant_json(p_row bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object('task_id', task_id, 'row', id::text, 'grant_id', grant_id, 'granted_at_ms', line_ms(granted_at), 'pool', pool, 'key', key, 'host', host,
    'host_epoch', host_epoch, 'slot', slot)
  from line where id = p_row
$$;

-- Tasks that were started and are not in the line yet: no run has said that it is there. They are few.
create index tasks_unheard on tasks (id) where status = 'queued' and first_run_id is null;

-- A free place, when so many are kept free.
create function line_free_place(p_pool text, p_key text, p_kept bigint, out host text, out epoch bigint, out slot integer) language plpgsql as $$
begin
  if p_pool = 'general' then
    select 'general', 0, s into host, epoch, slot
    from (select coalesce(sum(slots), 0)::integer as capacity from engines where lease_until > clock_timestamp()) c cross join lateral generate_series(1, c.capacity) s
    where (select count(*) from line where state in ('granted', 'running') and pool = 'general') + p_kept < c.capacity
      and not exists (select 1 from line l where state in ('granted', 'running') and pool = 'general' and l.host = 'general' and host_epoch = 0 and key is null and l.slot = s)
    order by s limit 1;
  elsif p_kept = 0 then
    select h.id, h.epoch, s into host, epoch, slot
    from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch cross join lateral generate_series(1, h.parallel) s
    where c.key = p_key and c.state = 'serving' and h.ready and h.lease_until > clock_timestamp()
      and not exists (select 1 from queue_pauses where scope = 'host:' || h.id)
      and not exists (select 1 from residency_orders o where o.host = h.id and o.state = 'open' and p_key = any(o.unload))
      and not exists (select 1 from line l where state in ('granted', 'running') and pool = 'model' and l.host = h.id and host_epoch = h.epoch and key = p_key and l.slot = s)
    order by s, h.id limit 1
    for share of c skip locked; -- a key that begins to drain takes nothing, and its drain sees what it took before
  end if;
end $$;

-- How many places stay free for tasks that were there before a submit and are not in the line yet. Those that have the grant of their first step are in it.
create function line_starts(p_task uuid) returns bigint language sql volatile as $$
  select greatest(0, (select count(*) from (select 1 from tasks where status = 'queued' and first_run_id is null and id <> p_task limit 2000) t)
    - (select count(*) from line where state in ('granted', 'running') and run_id = ''))
$$;

-- A free place for a step that is not in the line yet, where nobody is passed over by it; takes the decision lock, and finds none where somebody else has it.
-- p_needs: whether its task needs locks or amounts. p_submit: the task is being created, and gives way to those whose runs are about to enter.
create function line_place(p_task uuid, p_pool text, p_key text, p_needs boolean, p_submit boolean, out host text, out epoch bigint, out slot integer) language plpgsql as $$
begin
  -- looked at without the lock too, so that a burst of submits, of which none can be granted, keeps no decision waiting
  if p_submit and (line_any_waits(p_pool) or (select f.slot from line_free_place(p_pool, p_key, line_starts(p_task)) f) is null
    -- nobody would take it up, or back
    or not exists (select 1 from engines where lease_until > clock_timestamp())) then return; end if;
  -- a statement of its own: all that is looked at from here on was committed before it
  if not line_try_lock() then return; end if;
  if line_any_waits(p_pool) or line_paused(p_pool, p_key)
    -- what is kept for somebody else, on whatever it runs, is for a decision to say
    or (p_needs and exists (select 1 from line where state = 'waiting' and not held and not_before < 'infinity' and locks is not null)) then return; end if;
  select f.host, f.epoch, f.slot into host, epoch, slot from line_free_place(p_pool, p_key, case when p_submit then line_starts(p_task) else 0 end) f;
end $$;

-- Puts a new row into the line, granted at once where nobody is passed over. The caller holds the task, or has just made it.
-- p_submit: the row of a task that is being created. It is granted or not there at all (null), and gives way to tasks whose runs are about to enter.
create function line_add(p_task uuid, p_attempt integer, p_run text, p_step text, p_step_attempt integer, p_try integer, p_pool text, p_key text, p_continues boolean,
  p_blocked boolean, p_entered timestamptz, p_submit boolean default false) returns jsonb language plpgsql as $$
declare
  t record;
  n needs;
  v_open boolean;
  v_host text;
  v_epoch bigint;
  v_slot integer;
  v_grant uuid;
  v_granted timestamptz;
  v_row bigint;
begin
  select priority, priority_level, pos, agent_assigned, request -> 'resource_requirements' as requirements, cancel_requested_at is not null as cancelled, held_at is not null as held into t
  from tasks where id = p_task;
  n := task_needs(p_task, p_attempt, t.agent_assigned, t.requirements);
  v_open := not p_blocked and not t.cancelled and not t.held;
  if v_open then
    select host, epoch, slot into v_host, v_epoch, v_slot from line_place(p_task, p_pool, p_key, n.locks is not null, p_submit);
    if v_slot is not null and holds_take(p_task, p_attempt, n.locks, n.amounts) then
      v_grant := gen_random_uuid();
      v_granted := clock_timestamp();
    end if;
  end if;
  if v_grant is null and p_submit then return null; end if;
  insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, locks, amounts, held, continues, not_before, entered_at,
    state, grant_id, host, host_epoch, slot, granted_at)
  values (p_task, p_attempt, p_step, p_try, p_step_attempt, p_run, p_pool, p_key, t.priority_level, t.priority, t.pos, n.locks, n.amounts, t.held, p_continues,
    case when p_blocked or t.cancelled then 'infinity' else '-infinity' end::timestamptz, p_entered,
    case when v_grant is null then 'waiting' else 'granted' end, v_grant, case when v_grant is not null then v_host end, case when v_grant is not null then v_epoch end,
    case when v_grant is not null then v_slot end, v_granted)
  returning id into v_row;
  if v_grant is not null then
    insert into orchestration_decisions (decision_type, task_id, input_data, output_data)
    values ('grant', p_task, jsonb_build_object('row', v_row::text, 'step', p_step, 'attempt', p_attempt, 'pool', p_pool, 'key', p_key, 'level', t.priority_level, 'exact', t.priority, 'waited_ms', 0),
      jsonb_build_object('grant', v_grant, 'host', v_host, 'slot', v_slot, 'reason', 'nobody waits and slot ' || v_slot || ' is free'));
  elsif v_open then
    perform pg_notify('line', '');
  end if;
  return jsonb_build_object('state', case when v_grant is null then 'waiting' else 'granted' end, 'row', v_row::text, 'try', p_try, 'exact', t.priority,
    'grant_id', v_grant, 'granted_at_ms', line_ms(v_granted), 'pool', p_pool, 'key', p_key, 'host', v_host, 'host_epoch', v_epoch, 'slot', v_slot);
end $$;

-- As in 00042_holds_and_sweeps.sql; the row is put there by line_add, and one that was entered with the submit is taken over.
create or replace function line_enter(p_task uuid, p_attempt integer, p_run text, p_first_run text, p_step text, p_step_attempt integer, p_pool text, p_key text)
returns jsonb language plpgsql as $$
declare
  t record;
  r record;
  v_try integer := 1;
  v_entered timestamptz := clock_timestamp();
  v_blocked boolean := false;
  v_continues boolean := false;
begin
  select status, attempt, runs into t
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
    if r.run_id = '' then
      -- entered with the submit, before there was a run; what was put off, since nobody answered, is not any more
      update line set run_id = p_run, misses = 0, not_before = case when not_before < 'infinity' then '-infinity' else not_before end where id = r.id and state in ('waiting', 'granted');
      perform pg_notify('line', '');
    end if;
    if r.state in ('waiting', 'granted') then
      return jsonb_build_object('state', r.state, 'row', r.id::text, 'try', r.try, 'exact', r.exact,
        'grant_id', r.grant_id, 'granted_at_ms', line_ms(r.granted_at), 'pool', r.pool, 'key', r.key, 'host', r.host, 'host_epoch', r.host_epoch, 'slot', r.slot);
    end if;
    if r.state = 'running' then perform line_void(array[r.id], 'superseded'); end if;
    v_try := r.try + 1;
    v_continues := r.continues;
    if r.step_attempt = p_step_attempt and r.state in ('void', 'running') then v_entered := r.entered_at; end if; -- a lost slot costs no place
  end if;

  if p_pool = 'model' and not v_continues then
    -- the one before it in the plan ended on this key, and nothing of the task came since
    select state = 'done' and next_key = p_key into v_continues from line where task_id = p_task and attempt = p_attempt order by id desc limit 1;
  end if;
  return line_add(p_task, p_attempt, p_run, p_step, p_step_attempt, v_try, p_pool, p_key, coalesce(v_continues, false), v_blocked, v_entered);
end $$;

-- As in 00042_holds_and_sweeps.sql; also what was entered with the submit and never claimed.
create or replace function line_leave(p_task uuid, p_attempt integer, p_run text, p_step text, p_cause text) returns void language plpgsql as $$
declare
  v_rows bigint[];
  v_needs boolean;
begin
  v_rows := array(select id from line where task_id = p_task and attempt = p_attempt and step = p_step and run_id in ('', p_run) and state in ('waiting', 'granted', 'running'));
  if cardinality(v_rows) = 0 then return; end if;
  v_needs := exists (select 1 from line where id = any(v_rows) and state <> 'running' and locks is not null);
  if v_needs then perform pg_advisory_xact_lock(7032, 1); end if;
  perform 1 from tasks where id = p_task for no key update;
  perform line_void(v_rows, p_cause);
  if v_needs and not exists (select 1 from line where task_id = p_task and attempt = p_attempt and state in ('granted', 'running', 'done'))
    and exists (select 1 from tasks where id = p_task and attempt = p_attempt and status = 'queued') then
    perform holds_free(p_task);
  end if;
end $$;

-- As in 00002_line.sql; the run of a row that was entered with the submit is told, and the promise of its start is kept by now.
drop function line_claim(bigint, uuid, text, bigint, text);
create function line_claim(p_row bigint, p_grant uuid, p_host text, p_epoch bigint, p_engine text, p_run text default null, p_first_run text default null) returns jsonb language plpgsql as $$
declare
  r record;
  t record;
  v_task uuid;
  v_needs text[];
  v_step jsonb;
  v_outputs jsonb := '[]';
  v_runs text[] := '{}';
begin
  select task_id into v_task from line where id = p_row and grant_id = p_grant and state = 'granted';
  if not found then return null; end if;
  select status, user_id, plan, runs into t from tasks where id = v_task for no key update;
  update line set state = 'running', claim_token = gen_random_uuid(), started_at = clock_timestamp(), engine = p_engine,
    run_id = case when run_id = '' then p_run else run_id end
  where id = p_row and grant_id = p_grant and state = 'granted' and (case when p_run is null then run_id <> '' else run_id in ('', p_run) end)
    and (pool = 'general' or (host = p_host and host_epoch = p_epoch
      and exists (select 1 from hosts h where h.id = p_host and h.epoch = p_epoch and h.lease_until > clock_timestamp())))
  returning * into r;
  if not found then return null; end if;
  if p_run is not null and not p_run = any(t.runs) then
    v_runs := array[p_run];
    delete from outbox where kind = 'start' and task_id = v_task and (payload ->> 'attempt')::integer = r.attempt; -- it runs
  end if;
  if t.status = 'queued' or cardinality(v_runs) > 0 then
    update tasks set status = 'running', started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp(), runs = runs || v_runs,
      first_run_id = coalesce(first_run_id, p_first_run) where id = v_task;
  end if;
  if t.status = 'queued' then
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

-- As in 00032_given_and_lacking.sql; enters the first step (`first`: step, pool, key) where it may run at once.
create or replace function task_create(p_task jsonb, p_depends_on uuid[], p_owner text, p_key text, p_body_hash bytea, p_grace interval) returns jsonb language plpgsql as $$
declare
  v_id uuid := (p_task ->> 'id')::uuid;
  v_user text := p_task ->> 'user_id';
  v_created timestamptz;
  v_unknown jsonb;
  v_open jsonb := '[]';
  v_failed boolean := false;
  v_ahead integer;
  v_queued integer;
  v_large jsonb;
  v_grant jsonb;
begin
  if p_task -> 'request' ? 'resource_requirements' then
    v_large := required_too_much(p_task -> 'request' -> 'resource_requirements');
    if v_large is not null then return jsonb_build_object('outcome', 'too_large', 'amounts', v_large); end if;
  end if;

  if cardinality(p_depends_on) > 0 then
    select jsonb_agg(asked.id) into v_unknown from unnest(p_depends_on) as asked (id)
    where not exists (select 1 from tasks t where t.id = asked.id and (p_owner is null or t.user_id = p_owner));
    if v_unknown is not null then return jsonb_build_object('outcome', 'unknown_dependencies', 'ids', v_unknown); end if;
  end if;

  if p_task ? 'queue_max' then
    -- a new task is behind all of its priority
    select count(*) filter (where priority >= (p_task ->> 'exact')::integer and id <> v_id), count(*) filter (where id <> v_id) into v_ahead, v_queued from tasks where status = 'queued';
    if v_queued >= (p_task ->> 'queue_max')::integer then return jsonb_build_object('outcome', 'queue_full', 'queued', v_queued); end if;
  end if;

  if p_key is not null then
    -- another transaction that takes the same key waits here for this one
    insert into idempotency_keys (user_id, key, body_hash, task_id) values (v_user, p_key, p_body_hash, v_id)
    on conflict (user_id, key) do update set body_hash = excluded.body_hash, task_id = excluded.task_id, created_at = now()
      where idempotency_keys.created_at <= now() - interval '24 hours' or idempotency_keys.task_id = excluded.task_id;
    if not found then return jsonb_build_object('outcome', 'key_taken'); end if;
  end if;

  insert into tasks (id, name, type, description, priority, user_id, template, template_hash, parameters, plan, request, metadata, agent_assigned, replayed_from, origin_id, priority_given)
  values (v_id, p_task ->> 'name', p_task ->> 'template', p_task ->> 'description', (p_task ->> 'exact')::integer, v_user, p_task ->> 'template', p_task ->> 'template_hash',
    p_task -> 'parameters', p_task -> 'plan', p_task -> 'request', p_task -> 'metadata', p_task ->> 'agent_assigned',
    (p_task ->> 'replayed_from')::uuid, (p_task ->> 'origin_id')::uuid, coalesce((p_task ->> 'priority_given')::boolean, true))
  on conflict (id) do nothing returning created_at into v_created;
  if v_created is null then
    select created_at into v_created from tasks where id = v_id;
  else
    insert into task_dependencies (parent_task_id, child_task_id) select parent, v_id from unnest(p_depends_on) as parent;
    insert into outbox (kind, workflow_id, task_id, payload, next_at) values ('start', 'task-' || v_id, v_id, '{"attempt": 1}', clock_timestamp() + p_grace);
    insert into task_events (task_id, kind, data)
    values (v_id, 'queued', jsonb_strip_nulls(jsonb_build_object('attempt', 1, 'priority', p_task -> 'exact', 'replayed_from', p_task -> 'replayed_from')));
    if p_task ->> 'replayed_from' is not null then
      insert into task_events (task_id, kind, data) values ((p_task ->> 'replayed_from')::uuid, 'replayed', jsonb_build_object('replay', v_id));
    end if;
    if p_grace <= interval '0' then perform pg_notify('outbox', ''); end if;
    if p_task ? 'first' and cardinality(p_depends_on) = 0 then
      v_grant := line_add(v_id, 1, '', p_task -> 'first' ->> 'step', 1, 1, p_task -> 'first' ->> 'pool', p_task -> 'first' ->> 'key', false, false, clock_timestamp(), true);
    end if;
  end if;
  if cardinality(p_depends_on) > 0 then
    select coalesce(jsonb_agg(id order by id) filter (where status <> 'completed'), '[]'), bool_or(status in ('failed', 'cancelled')) into v_open, v_failed
    from tasks where id = any(p_depends_on);
  end if;
  return jsonb_build_object('outcome', 'created', 'createdAt', v_created, 'blockedBy', v_open, 'blocked', v_failed, 'position', v_ahead + 1, 'grant', v_grant);
end $$;
