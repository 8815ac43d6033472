-- What tasks hold while grants are taken back and given, the general slots of engines that drain, and who asked for a change of models.

-- As in 00021_holds.sql, but a running task takes no lock before it has what it needs: after it gave way it gets all of that at once, and a lock that it took
-- before would count as having it.
create or replace function lock_acquire(p_name text, p_task uuid, p_owner text, p_wait boolean, p_locks_max integer) returns jsonb language plpgsql as $$
declare
  t record;
  v_by record;
  n needs;
begin
  select status, attempt, priority, pos, cancel_requested_at, agent_assigned, request -> 'resource_requirements' as requirements into t from tasks where id = p_task and (p_owner is null or user_id = p_owner) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status <> 'running' or t.cancel_requested_at is not null then return jsonb_build_object('outcome', 'not_running', 'status', t.status); end if;
  if not exists (select 1 from holds where name = p_name and task_id = p_task) then
    if exists (select 1 from given_ways where task_id = p_task and attempt = t.attempt and done_at is null) then return jsonb_build_object('outcome', 'refused', 'holder', null); end if;
    -- a task that needs something gets that first, all of it at once
    n := task_needs(p_task, t.attempt, t.agent_assigned, t.requirements);
    if n.locks is not null and not exists (select 1 from holds where task_id = p_task) and not exists (select 1 from allocations where task_id = p_task) then
      return jsonb_build_object('outcome', 'refused', 'holder', null);
    end if;
    if (select count(*) from holds where task_id = p_task) >= p_locks_max then return jsonb_build_object('outcome', 'too_many'); end if;
    if not exists (select 1 from lock_wishes w join tasks o on o.id = w.task_id
      where w.name = p_name and w.task_id <> p_task and w.asked_at > clock_timestamp() - interval '30 seconds' and (o.priority, -o.pos) > (t.priority, -t.pos)) then
      insert into holds (name, task_id, attempt, asked) values (p_name, p_task, t.attempt, true) on conflict (name) do nothing;
    end if;
    select h.task_id, o.user_id into v_by from holds h join tasks o on o.id = h.task_id where h.name = p_name;
    if not found or v_by.task_id <> p_task then
      if p_wait then
        insert into lock_wishes (name, task_id, attempt) values (p_name, p_task, t.attempt) on conflict (name, task_id) do update set asked_at = clock_timestamp();
      end if;
      return jsonb_build_object('outcome', 'refused', 'holder', case when p_owner is null or v_by.user_id = p_owner then v_by.task_id end);
    end if;
    delete from lock_wishes where name = p_name and task_id = p_task;
    insert into task_events (task_id, kind, data) values (p_task, 'lock_acquired', jsonb_build_object('lock', p_name));
  end if;
  return jsonb_build_object('outcome', 'acquired', 'holder', p_task);
end $$;

-- As in 00021_holds.sql, but those whose steps still run are told again, since whoever runs them may have been away when they were told first.
create or replace function holds_settle() returns integer language plpgsql as $$
declare
  g record;
  t record;
  n needs;
  v_left integer := 0;
begin
  for g in select * from given_ways where done_at is null order by task_id loop
    select status, attempt, agent_assigned, request -> 'resource_requirements' as requirements into t from tasks where id = g.task_id for no key update skip locked;
    if not found then -- somebody moves it right now
      v_left := v_left + 1;
      continue;
    end if;
    if t.attempt <> g.attempt or t.status not in ('queued', 'running') then
      update given_ways set done_at = clock_timestamp() where task_id = g.task_id and attempt = g.attempt;
      continue;
    end if;
    if exists (select 1 from line where task_id = g.task_id and attempt = g.attempt and state in ('granted', 'running')) then
      perform pg_notify('cancel', g.task_id || ' gives way');
      v_left := v_left + 1;
      continue;
    end if;
    perform holds_free(g.task_id);
    update given_ways set done_at = clock_timestamp() where task_id = g.task_id and attempt = g.attempt;
    n := task_needs(g.task_id, g.attempt, t.agent_assigned, t.requirements);
    update line set locks = n.locks, amounts = n.amounts where task_id = g.task_id and attempt = g.attempt and state = 'waiting';
    -- a task of which some steps have ended goes on after them, so it stays `running`
    if not exists (select 1 from line where task_id = g.task_id and attempt = g.attempt and state = 'done') then
      update tasks set status = 'queued', started_at = null, updated_at = clock_timestamp() where id = g.task_id and status = 'running' and cancel_requested_at is null;
    end if;
    insert into task_events (task_id, kind, data) values (g.task_id, 'gave_way', jsonb_build_object('attempt', g.attempt, 'needs', to_jsonb(n.locks)));
    perform pg_notify('line', '');
  end loop;
  return v_left;
end $$;

-- As in 00021_holds.sql, but nothing of `general` is given at once while as many steps run as the engines that take some have slots: an engine that drains keeps
-- those that it runs, and they may stand in slots of any number.
create or replace function line_enter(p_task uuid, p_attempt integer, p_run text, p_first_run text, p_step text, p_step_attempt integer, p_pool text, p_key text)
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
  n needs;
  v_continues boolean := false;
begin
  select status, attempt, runs, priority, priority_level, pos, agent_assigned, request -> 'resource_requirements' as requirements, cancel_requested_at, held_at into t
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
    v_continues := r.continues;
    if r.step_attempt = p_step_attempt and r.state in ('void', 'running') then v_entered := r.entered_at; end if; -- a lost slot costs no place
  end if;

  if p_pool = 'model' and not v_continues then
    -- the one before it in the plan ended on this key, and nothing of the task came since
    select state = 'done' and next_key = p_key into v_continues from line where task_id = p_task and attempt = p_attempt order by id desc limit 1;
  end if;
  n := task_needs(p_task, p_attempt, t.agent_assigned, t.requirements);
  insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, locks, amounts, held, continues, not_before, entered_at)
  values (p_task, p_attempt, p_step, v_try, p_step_attempt, p_run, p_pool, p_key, t.priority_level, t.priority, t.pos, n.locks, n.amounts, t.held_at is not null, coalesce(v_continues, false),
    case when v_blocked or t.cancel_requested_at is not null then 'infinity' else '-infinity' end::timestamptz, v_entered)
  returning id into v_row;

  if not v_blocked and t.cancel_requested_at is null and t.held_at is null then
    if line_try_lock()
      -- ordered, since a search for just any row would read the table from its start, through all that is done
      and (select id from line where pool = p_pool and state = 'waiting' and not held and not_before < 'infinity' and not_before <= clock_timestamp() and id <> v_row
        order by pool, key, level desc, exact desc, pos, id limit 1) is null
      and not line_paused(p_pool, p_key)
      -- what is kept for somebody else, on whatever it runs, is for a decision to say
      and (n.locks is null or not exists (select 1 from line where state = 'waiting' and not held and not_before < 'infinity' and locks is not null and id <> v_row)) then
      if p_pool = 'general' then
        select 'general', 0, s into v_host, v_epoch, v_slot
        from (select coalesce(sum(slots), 0)::integer as capacity from engines where lease_until > clock_timestamp()) c cross join lateral generate_series(1, c.capacity) s
        where (select count(*) from line where state in ('granted', 'running') and pool = 'general') < c.capacity
          and not exists (select 1 from line where state in ('granted', 'running') and pool = 'general' and host = 'general' and host_epoch = 0 and key is null and slot = s)
        order by s limit 1;
      else
        select h.id, h.epoch, s into v_host, v_epoch, v_slot
        from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch cross join lateral generate_series(1, h.parallel) s
        where c.key = p_key and c.state = 'serving' and h.ready and h.lease_until > clock_timestamp()
          and not exists (select 1 from queue_pauses where scope = 'host:' || h.id)
          and not exists (select 1 from residency_orders o where o.host = h.id and o.state = 'open' and p_key = any(o.unload))
          and not exists (select 1 from line where state in ('granted', 'running') and pool = 'model' and host = h.id and host_epoch = h.epoch and key = p_key and slot = s)
        order by s, h.id limit 1
        for share of c skip locked; -- a key that begins to drain takes nothing, and its drain sees what it took before
      end if;
    end if;
    if v_slot is not null and holds_take(p_task, p_attempt, n.locks, n.amounts) then
      v_grant := gen_random_uuid();
      update line set state = 'granted', grant_id = v_grant, host = v_host, host_epoch = v_epoch, slot = v_slot, granted_at = clock_timestamp() where id = v_row;
      insert into orchestration_decisions (decision_type, task_id, input_data, output_data)
      values ('grant', p_task, jsonb_build_object('row', v_row::text, 'step', p_step, 'attempt', p_attempt, 'pool', p_pool, 'key', p_key, 'level', t.priority_level, 'exact', t.priority, 'waited_ms', 0),
        jsonb_build_object('grant', v_grant, 'host', v_host, 'slot', v_slot, 'reason', 'nobody waits and slot ' || v_slot || ' is free'));
    else
      perform pg_notify('line', '');
    end if;
  end if;
  return jsonb_build_object('state', case when v_grant is null then 'waiting' else 'granted' end, 'row', v_row::text, 'try', v_try, 'exact', t.priority,
    'grant_id', v_grant, 'pool', p_pool, 'key', p_key, 'host', v_host, 'host_epoch', v_epoch, 'slot', v_slot);
end $$;

-- As in 00002_line.sql, but a task that has never started keeps nothing when its grant goes, as in line_take_back. The decision lock comes first, as for everybody
-- who waits for a task under it: a decision that counts on what is freed here has ended by then.
create or replace function line_leave(p_task uuid, p_attempt integer, p_run text, p_step text, p_cause text) returns void language plpgsql as $$
declare
  v_rows bigint[];
  v_needs boolean;
begin
  v_rows := array(select id from line where task_id = p_task and attempt = p_attempt and step = p_step and run_id = p_run and state in ('waiting', 'granted', 'running'));
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

-- As in 00025_expire.sql, but under the decision lock: what is taken back may free what its task holds, and a decision under way counts on that.
-- @returns null while somebody else has the lock
create or replace function line_expire() returns jsonb language plpgsql as $$
declare
  r record;
  v_again jsonb := '[]';
  v_age interval;
  v_taken_back boolean := false;
begin
  if not exists (select 1 from line where state = 'granted' and granted_at < clock_timestamp() - interval '2 seconds') then return v_again; end if;
  if not line_try_lock() then return null; end if;
  for r in select * from line where state = 'granted' and granted_at < clock_timestamp() - interval '2 seconds' order by id for update skip locked loop
    v_age := clock_timestamp() - r.granted_at;
    if v_age >= interval '15 seconds' and r.signals < 2 then
      -- an engine that lives has told it twice by now
      update line set granted_at = clock_timestamp(), signals = 0 where id = r.id;
      v_again := v_again || line_grant_json(r.id);
    elsif v_age >= interval '15 seconds' then
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

-- As in 00018_scheduling.sql, but what is taken back is so under the decision lock, as in line_expire. @returns null while somebody else has the lock
create or replace function line_lose_hosts() returns jsonb language plpgsql as $$
declare
  r record;
  v_lost jsonb := '[]';
  v_host text;
  v_key text;
  v_order uuid;
begin
  if exists (
    select 1 from line l
    where (l.state in ('granted', 'running') and l.pool = 'model'
        and not exists (select 1 from hosts h where h.id = l.host and h.epoch = l.host_epoch and h.lease_until > clock_timestamp()))
      or (l.state = 'running' and l.pool = 'general' and not exists (select 1 from engines e where e.id = l.engine and e.lease_until > clock_timestamp())))
    and not line_try_lock() then return null; end if;
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
  delete from residency_service where (host, host_epoch, key) in (
    select s.host, s.host_epoch, s.key from residency_service s
    where not exists (select 1 from residency c where c.host = s.host and c.host_epoch = s.host_epoch and c.key = s.key) for update skip locked);
  if v_lost <> '[]' then perform pg_notify('line', ''); end if;
  return v_lost;
end $$;

-- The sentence of an asked-for change does not name who asked: that is for administrators to know (from 00043_fetch_apart.sql on none is written with the name).
update residency_orders set reason = left(reason, -length(', asked for by ' || requested_by)) where right(reason, length(', asked for by ' || requested_by)) = ', asked for by ' || requested_by;
update orchestration_decisions d set output_data = jsonb_set(d.output_data, '{reason}', to_jsonb(left(d.output_data ->> 'reason', -length(b.by))))
from (select id, ', asked for by ' || (input_data ->> 'requested_by') as by from orchestration_decisions where decision_type = 'residency' and input_data ? 'requested_by') b
where d.id = b.id and d.decision_type = 'residency' and right(d.output_data ->> 'reason', length(b.by)) = b.by;
