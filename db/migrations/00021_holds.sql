-- Up Migration
-- What tasks hold beside slots: locks, and amounts of resource pools. All of it belongs to (task, attempt), is taken all or nothing together with the
-- first grant, lasts until the task ends, and is freed by the transaction that writes its end. Nothing is ever counted: what is held are rows.
-- Order of locks: the task, its rows of the line, pools by name, holds.

-- taken by a running task beside what it needed at its start; only this may be given back before the task ends
alter table holds add column asked boolean not null default false;

create table allocations (
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  pool text not null,
  amount numeric not null check (amount > 0),
  acquired_at timestamptz not null default now(),
  primary key (task_id, pool)
);
create index allocations_pool on allocations (pool);

-- What there is of each pool: one row for each machine that tells of it, and under '' what the configuration says.
create table resource_shares (
  machine text not null,
  pool text not null,
  total numeric not null check (total >= 0),
  -- measured, of all programs
  used numeric check (used >= 0),
  seen_at timestamptz not null default clock_timestamp(),
  primary key (machine, pool)
);

-- Locks that running tasks have asked for and were refused. A wish that is not repeated within 30 seconds counts no more.
create table lock_wishes (
  name text not null,
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  since timestamptz not null default clock_timestamp(),
  asked_at timestamptz not null default clock_timestamp(),
  primary key (name, task_id)
);
create index lock_wishes_task on lock_wishes (task_id);

-- Tasks that gave way in a deadlock, with the locks that they need at their next grant since they had or wanted them; `done_at` null: their steps are
-- being stopped, and until then they take no grant.
create table given_ways (
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  locks text[] not null,
  cause jsonb not null,
  marked_at timestamptz not null default clock_timestamp(),
  done_at timestamptz,
  primary key (task_id, attempt)
);
create index given_ways_open on given_ways (marked_at) where done_at is null;

-- What a step's task has to have. Null: nothing; `amounts` alone come with an empty array.
alter table line add column locks text[];
alter table line add column amounts jsonb;
update line set locks = array[hold] where hold is not null and state in ('waiting', 'granted', 'running');
alter table line drop column hold;
alter table line add constraint line_needs check (amounts is null or locks is not null);
create index line_needing on line (level, exact desc, pos, id) where state = 'waiting' and not held and not_before < 'infinity' and locks is not null;

-- `resource_requirements` of a request as amounts by pool; null: none.
create function required_amounts(p_requirements jsonb) returns jsonb language sql immutable as $$
  select jsonb_object_agg(pool, amount) from (
    select pool, (p_requirements ->> field)::numeric as amount from (values ('cpu', 'cpu_cores'), ('memory', 'memory_gb'), ('disk', 'disk_gb'), ('gpu', 'gpu_count')) f (pool, field)
    union all
    select key, value::numeric from jsonb_each_text(p_requirements -> 'resources')) a
  where amount > 0
$$;

create type needs as (locks text[], amounts jsonb);

-- What a task needs, sorted. The name of a task that is giving way is a lock that nobody gets.
create function task_needs(p_task uuid, p_attempt integer, p_agent text, p_requirements jsonb) returns needs language plpgsql stable as $$
declare
  w record;
  n needs;
begin
  select locks, done_at into w from given_ways where task_id = p_task and attempt = p_attempt;
  if not found and p_agent is null and p_requirements is null then return n; end if;
  n.amounts := required_amounts(p_requirements);
  n.locks := array(select distinct name from (
    select 'agent:' || p_agent as name
    union all select jsonb_array_elements_text(p_requirements -> 'locks')
    union all select unnest(w.locks)
    union all select 'gives way:' || p_task where w.locks is not null and w.done_at is null) l where name is not null order by name);
  if n.amounts is null and cardinality(n.locks) = 0 then n.locks := null; end if;
  return n;
end $$;

-- Each pool with what there is, what tasks hold and what is in use. A machine that was not heard of for 30 seconds is not there.
create function resource_pools() returns table (pool text, total numeric, allocated numeric, used numeric) language sql stable as $$
  select coalesce(s.pool, a.pool), coalesce(s.total, 0), coalesce(a.allocated, 0), s.used
  from (
    select r.pool, sum(r.total) as total, sum(r.used) as used from resource_shares r
    where r.machine = '' or (r.seen_at > clock_timestamp() - interval '30 seconds' and not exists (select 1 from resource_shares c where c.machine = '' and c.pool = r.pool))
    group by r.pool) s
  full join (select o.pool, sum(o.amount) as allocated from allocations o group by o.pool) a on a.pool = s.pool
$$;

-- What of it is more than there is, or of a pool that is not there; null: nothing. Before any engine has told what there is, everything may be asked for.
create function required_too_much(p_requirements jsonb) returns jsonb language sql stable as $$
  select jsonb_agg(jsonb_build_object('pool', a.key, 'amount', a.value::numeric, 'total', p.total) order by a.key)
  from jsonb_each_text(required_amounts(p_requirements)) a left join resource_pools() p on p.pool = a.key
  where case
    when exists (select 1 from resource_shares s where s.pool = a.key and (s.machine = '' or s.seen_at > clock_timestamp() - interval '30 seconds')) then a.value::numeric > p.total
    else a.key not in ('cpu', 'memory', 'disk', 'gpu') and exists (select 1 from resource_shares)
  end
$$;

create type held_now as (taken text[], holders uuid[], pools jsonb);

-- What is taken: locks, those that a running task waits for, and names of tasks that give way; who has all it needs; and what the pools have left.
create function held_now() returns held_now language sql stable as $$
  select
    array(select name from holds
      union select name from lock_wishes where asked_at > clock_timestamp() - interval '30 seconds'
      union select 'gives way:' || task_id from given_ways where done_at is null),
    array((select task_id from holds union select task_id from allocations) except select task_id from given_ways where done_at is null),
    (select coalesce(jsonb_object_agg(pool, jsonb_build_object('total', total, 'free', total - allocated)), '{}') from resource_pools())
$$;

-- What of it a task cannot have: 'never' where a pool is too small, else 'lock', 'resource', or null when all is free.
create function needs_lack(p_locks text[], p_amounts jsonb, p_held held_now) returns text language sql immutable as $$
  select case
    when exists (select 1 from jsonb_each_text(p_amounts) a where (p_held.pools -> a.key ->> 'total')::numeric < a.value::numeric) then 'never'
    when p_locks && p_held.taken then 'lock'
    when exists (select 1 from jsonb_each_text(p_amounts) a where coalesce((p_held.pools -> a.key ->> 'free')::numeric, 0) < a.value::numeric) then 'resource'
  end
$$;

-- As needs_lack, for a waiting row of a task; null also when it has what it needs.
create function line_lack(p_task uuid, p_locks text[], p_amounts jsonb) returns text language plpgsql stable as $$
declare
  v_held held_now := held_now();
begin
  if p_locks is null or p_task = any(v_held.holders) then return null; end if;
  return needs_lack(p_locks, p_amounts, v_held);
end $$;

-- Gives a task all that it needs, or nothing. Only under the decision lock.
create function holds_take(p_task uuid, p_attempt integer, p_locks text[], p_amounts jsonb) returns boolean language plpgsql as $$
declare
  v_held held_now;
  v_new text[];
begin
  if p_locks is null then return true; end if;
  v_held := held_now();
  if p_task = any(v_held.holders) then return true; end if;
  if needs_lack(p_locks, p_amounts, v_held) is not null then return false; end if;
  -- a running task may take a lock at the same moment: then this one gets nothing
  with new as (
    insert into holds (name, task_id, attempt) select name, p_task, p_attempt from unnest(p_locks) name order by name on conflict (name) do nothing returning name)
  select coalesce(array_agg(name), '{}') into v_new from new;
  if cardinality(v_new) < cardinality(p_locks) then
    delete from holds where name = any(v_new);
    return false;
  end if;
  insert into allocations (task_id, attempt, pool, amount) select p_task, p_attempt, key, value::numeric from jsonb_each_text(p_amounts);
  return true;
end $$;

-- Frees all that a task holds. @returns whether it held anything
create function holds_free(p_task uuid) returns boolean language plpgsql as $$
declare
  v_any boolean;
begin
  delete from holds where task_id = p_task;
  v_any := found;
  delete from allocations where task_id = p_task;
  v_any := v_any or found;
  delete from lock_wishes where task_id = p_task;
  return v_any or found;
end $$;

-- A running task takes a lock, or is told that it is taken; p_wait: the refusal is remembered, and the lock kept for it when it is free. May be repeated.
create function lock_acquire(p_name text, p_task uuid, p_owner text, p_wait boolean, p_locks_max integer) returns jsonb language plpgsql as $$
declare
  t record;
  v_by record;
begin
  select status, attempt, priority, pos, cancel_requested_at into t from tasks where id = p_task and (p_owner is null or user_id = p_owner) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status <> 'running' or t.cancel_requested_at is not null then return jsonb_build_object('outcome', 'not_running', 'status', t.status); end if;
  if not exists (select 1 from holds where name = p_name and task_id = p_task) then
    if exists (select 1 from given_ways where task_id = p_task and attempt = t.attempt and done_at is null) then return jsonb_build_object('outcome', 'refused', 'holder', null); end if;
    -- a task that waits in the line for what it needs gets that first, all of it at once
    if exists (select 1 from line where task_id = p_task and attempt = t.attempt and state = 'waiting' and locks is not null)
      and not exists (select 1 from holds where task_id = p_task) and not exists (select 1 from allocations where task_id = p_task) then
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

-- Gives back a lock that a running task took; one that it needed at its start lasts until its end. Forgets that it waits for it. May be repeated.
create function lock_release(p_name text, p_task uuid, p_owner text) returns jsonb language plpgsql as $$
declare
  v_released boolean;
begin
  perform 1 from tasks where id = p_task and (p_owner is null or user_id = p_owner) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  delete from lock_wishes where name = p_name and task_id = p_task;
  delete from holds where name = p_name and task_id = p_task and asked;
  v_released := found;
  if v_released then
    insert into task_events (task_id, kind, data) values (p_task, 'lock_released', jsonb_build_object('lock', p_name));
    perform pg_notify('line', '');
  end if;
  return jsonb_build_object('outcome', case when v_released then 'released' else 'not_held' end);
end $$;

-- What running tasks hold and wait for; null when nobody waits, or gives way.
create function waits_read() returns jsonb language plpgsql stable as $$
begin
  if not exists (select 1 from lock_wishes where asked_at > clock_timestamp() - interval '30 seconds') and not exists (select 1 from given_ways where done_at is null) then
    return null;
  end if;
  return jsonb_build_object(
    'givingWay', (select count(*) from given_ways where done_at is null),
    'totals', (select coalesce(jsonb_object_agg(pool, total), '{}') from resource_pools()),
    'tasks', (select coalesce(jsonb_agg(jsonb_build_object('taskId', t.id, 'exact', t.priority, 'place', t.place, 'holds', jsonb_build_object(
        'locks', (select coalesce(jsonb_agg(h.name order by h.name), '[]') from holds h where h.task_id = t.id),
        'amounts', (select coalesce(jsonb_object_agg(a.pool, a.amount), '{}') from allocations a where a.task_id = t.id)),
      'wants', (select case when count(*) > 0 then jsonb_build_object('locks', jsonb_agg(w.name order by w.name), 'amounts', '{}'::jsonb) end
        from lock_wishes w where w.task_id = t.id and w.asked_at > clock_timestamp() - interval '30 seconds')) order by t.place), '[]')
      from (select id, priority, row_number() over (order by pos, id) as place from tasks
        where status in ('queued', 'running') and (id in (select task_id from holds union select task_id from allocations union select task_id from lock_wishes))
          and id not in (select task_id from given_ways where done_at is null)) t));
end $$;

-- Lets a task give way in a deadlock: it takes no further grant, and its steps are stopped. What it holds is freed when they have, by holds_settle.
-- @returns false when it no longer waits for what others hold, or somebody decides right now
create function holds_give_way(p_task uuid, p_cause jsonb) returns boolean language plpgsql as $$
declare
  t record;
  r record;
  v_member uuid;
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
  for v_member in select id from tasks where id in (select jsonb_array_elements_text(p_cause -> 'members')::uuid) order by id loop
    insert into task_events (task_id, kind, data) values (v_member, 'deadlock', p_cause || jsonb_build_object('gives_way', p_task));
  end loop;
  perform pg_notify('cancel', p_task || ' gives way');
  return true;
end $$;

-- Frees what tasks hold that give way and whose steps have stopped, and queues them again: the same attempt, in the same place. @returns how many still stop
create function holds_settle() returns integer language plpgsql as $$
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

-- As in 00018_scheduling.sql, with what its task needs.
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
        from generate_series(1, (select coalesce(sum(slots), 0)::integer from engines where lease_until > clock_timestamp())) s
        where not exists (select 1 from line where state in ('granted', 'running') and pool = 'general' and host = 'general' and host_epoch = 0 and key is null and slot = s)
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

-- As in 00018_scheduling.sql: what needs nothing, or has it.
create or replace function line_heads(p_now timestamptz, p_free jsonb, p_max_waits double precision[]) returns setof bigint language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  v_held held_now := held_now();
begin
  -- not a function of SQL: its plan is kept
  return query
  with recursive keys (key) as (
    (select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' order by l.key limit 1)
    union all
    select n.key from keys k cross join lateral (
      select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key > k.key order by l.key limit 1) n
  ), wanted as materialized (
    select k.key, p_free ? k.key as served, greatest(1, coalesce((p_free ->> k.key)::integer, 1)) as n
    from keys k where not exists (select 1 from queue_pauses where scope = 'model:' || key_model(k.key))
  ), general as materialized (
    select (p_free ->> '')::integer as n where (p_free ->> '')::integer > 0
  ), levels as materialized (
    select level, p_max_waits[level] as wait_ms, p_now - p_max_waits[level] * interval '1 millisecond' as raised_before, greatest(1, 8 - level) as raises_max
    from generate_series(1, 10) level
  ), oldest as materialized (
    select w.key, w.served, v.level, w.n, v.wait_ms, v.raises_max, a.id, a.pos, a.entered_at from wanted w cross join levels v cross join lateral (
      select l.id, l.pos, l.entered_at from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key and l.level = v.level and l.entered_at <= v.raised_before
        and (l.locks is null or l.task_id = any(v_held.holders))
      order by l.entered_at limit w.n) a
    where v.level <= 8
    union all
    select null, true, v.level, g.n, v.wait_ms, v.raises_max, a.id, a.pos, a.entered_at from general g cross join levels v cross join lateral (
      select l.id, l.pos, l.entered_at from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level and l.entered_at <= v.raised_before
        and (l.locks is null or l.task_id = any(v_held.holders))
      order by l.key, l.entered_at limit g.n) a
    where v.level <= 8
  ), best as materialized (
    -- where all places can be filled with raised rows: before which moment those entered that were raised as often as the last of them
    select key, level, n, p_now - wait_ms * least(floor(extract(epoch from p_now - max(entered_at)) * 1000 / wait_ms), raises_max) * interval '1 millisecond' as before
    from oldest where served group by key, level, n, wait_ms, raises_max having count(*) >= n
  )
  select id from oldest where served
  union
  select id from (select distinct on (key) id from oldest where not served
    order by key, least(8, level + least(floor(extract(epoch from p_now - entered_at) * 1000 / wait_ms), raises_max)) desc, pos) o
  union
  select a.id from best b cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = b.key and l.level = b.level and l.entered_at <= b.before
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.pos, l.id limit b.n) a
  where b.key is not null
  union
  select a.id from best b cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = b.level and l.entered_at <= b.before
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.key, l.pos, l.id limit b.n) a
  where b.key is null
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit 1) a
  where not w.served
  union
  select a.id from wanted w cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key and l.level = v.level
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served
  union
  select a.id from general g cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.key, l.level desc, l.exact desc, l.pos, l.id limit g.n) a
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.continues and l.key = w.key
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served;
end $$;

-- Of each level the first rows in order and the first by arrival whose task needs something: those for whom all is free, and one of those (lacks) that may
-- have it one day. Behind a reservation many may be free that are not to be had, so they do not take the places of line_heads. What is looked at for each
-- row is written out, since a function called for each costs many times as much.
create function line_needing(p_now timestamptz, p_held held_now) returns table (id bigint, lacks boolean) language plpgsql stable as $$
declare
  v_paused boolean;
begin
  if not exists (select 1 from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null) then return; end if;
  v_paused := exists (select 1 from queue_pauses);
  return query
  with needing as materialized (
    select l.id, l.level, l.exact, l.pos, l.entered_at,
      case
        when l.amounts is not null and exists (select 1 from jsonb_each_text(l.amounts) a where (p_held.pools -> a.key ->> 'total')::numeric < a.value::numeric) then null
        when l.locks && p_held.taken then true
        when l.amounts is not null and exists (select 1 from jsonb_each_text(l.amounts) a where coalesce((p_held.pools -> a.key ->> 'free')::numeric, 0) < a.value::numeric) then true
        else false
      end as lacks
    from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.locks is not null
      and not l.task_id = any(p_held.holders) and not 'gives way:' || l.task_id = any(l.locks) and (not v_paused or not line_paused(l.pool, l.key))
  ), ranked as (
    select n.id, n.lacks, row_number() over (partition by n.level, n.lacks order by n.exact desc, n.pos, n.id) as by_order,
      row_number() over (partition by n.level, n.lacks order by n.entered_at) as by_arrival
    from needing n where n.lacks is not null
  )
  select r.id, r.lacks from ranked r where least(r.by_order, r.by_arrival) <= case when r.lacks then 1 else 64 end;
end $$;

-- As in 00018_scheduling.sql, with what tasks hold, and the first ones that lack something.
create or replace function decide_read(p_max_waits double precision[]) returns jsonb language plpgsql as $$
declare
  v_now timestamptz;
  v_paused boolean;
  v_capacity integer;
  v_taken jsonb;
  v_free jsonb;
  v_slots jsonb;
  v_hosts jsonb;
  v_heads jsonb := '[]';
  v_lacking jsonb := '[]';
  v_held held_now;
  v_residency jsonb;
  v_soon jsonb;
  v_ids bigint[];
  v_lacks bigint[];
  v_keys text[];
begin
  if not line_try_lock() then return null; end if;
  v_now := clock_timestamp();
  v_held := held_now();
  v_paused := exists (select 1 from queue_pauses where scope = 'queue');

  select coalesce(sum(slots), 0) into v_capacity from engines where lease_until > v_now;
  select coalesce(jsonb_agg(slot order by slot), '[]'), jsonb_build_object('', greatest(0, v_capacity - count(*))) into v_taken, v_free
  from line where state in ('granted', 'running') and pool = 'general';
  select coalesce(jsonb_agg(jsonb_build_object('host', id, 'hostEpoch', epoch, 'parallel', parallel, 'modelsMax', models_max, 'roomBytes', room_bytes,
    'budgetBytes', budget_bytes, 'paused', v_paused or exists (select 1 from queue_pauses where scope = 'host:' || id)) order by id), '[]') into v_hosts
  from hosts where ready and lease_until > v_now;

  with served as (
    select c.host, c.host_epoch, c.key, h.parallel,
      array(select slot from line where state in ('granted', 'running') and pool = 'model' and host = c.host and host_epoch = c.host_epoch and key = c.key order by slot) as taken
    from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch
    where c.state = 'serving' and h.ready and h.lease_until > v_now
  )
  select coalesce(jsonb_agg(jsonb_build_object('pool', 'model', 'host', host, 'hostEpoch', host_epoch, 'key', key, 'capacity', parallel, 'taken', taken) order by host, key), '[]'),
    v_free || coalesce((select jsonb_object_agg(key, n) from (select key, greatest(0, sum(parallel - cardinality(taken))) as n from served group by key) f), '{}')
  into v_slots, v_free from served;

  if not v_paused then
    select coalesce(array_agg(id) filter (where lacks), '{}'), coalesce(array_agg(id) filter (where not lacks), '{}') into v_lacks, v_ids from line_needing(v_now, v_held);
    v_ids := v_ids || array(select line_heads(v_now, v_free, p_max_waits)) || v_lacks;
    select coalesce(jsonb_agg(jsonb_build_object('row', id::text, 'taskId', task_id, 'pool', pool, 'key', key, 'level', level, 'exact', exact, 'place', place,
        'waitedMs', greatest(0, floor(extract(epoch from v_now - entered_at) * 1000)), 'continues', continues,
        'needs', case when locks is not null and not task_id = any(v_held.holders) then jsonb_build_object('locks', locks, 'amounts', coalesce(amounts, '{}')) end)
        order by pool, level desc, exact desc, place) filter (where not id = any(v_lacks)), '[]'),
      coalesce(jsonb_agg(jsonb_build_object('row', id::text, 'taskId', task_id, 'pool', pool, 'key', key, 'level', level, 'exact', exact, 'place', place,
        'waitedMs', greatest(0, floor(extract(epoch from v_now - entered_at) * 1000)), 'continues', continues,
        'needs', jsonb_build_object('locks', locks, 'amounts', coalesce(amounts, '{}'))) order by place) filter (where id = any(v_lacks)), '[]'),
      array_agg(distinct key) filter (where key is not null and not id = any(v_lacks)) into v_heads, v_lacking, v_keys
    from (select l.*, row_number() over (order by l.pos, l.id) as place from line l where l.id = any(v_ids)) h;
  end if;

  -- with what their running steps have taken so far
  select coalesce(jsonb_agg(jsonb_build_object('host', c.host, 'hostEpoch', c.host_epoch, 'key', c.key, 'model', jsonb_build_object('name', c.model, 'numCtx', c.num_ctx),
      'state', c.state, 'sinceMs', greatest(0, floor(extract(epoch from v_now - c.since) * 1000)),
      'servedMs', coalesce(s.served_ms, 0) + coalesce((select sum(greatest(0, extract(epoch from v_now - l.started_at))) * 1000 / h.parallel from line l
        where l.state in ('granted', 'running') and l.pool = 'model' and l.host = c.host and l.host_epoch = c.host_epoch and l.key = c.key), 0)) order by c.host, c.key), '[]'),
    coalesce(v_keys, '{}') || coalesce(array_agg(c.key), '{}') into v_residency, v_keys
  from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch
  left join residency_service s on s.host = c.host and s.host_epoch = c.host_epoch and s.key = c.key
  where h.lease_until > v_now;

  select coalesce(jsonb_agg(jsonb_build_object('key', key, 'inMs', in_ms) order by in_ms, key), '[]'), v_keys || coalesce(array_agg(key), '{}') into v_soon, v_keys
  from line_soon() where not line_paused('model', key);
  v_keys := array(select distinct unnest(v_keys));

  return jsonb_build_object(
    'heads', v_heads,
    'slots', jsonb_build_array(jsonb_build_object('pool', 'general', 'host', 'general', 'hostEpoch', 0, 'key', null, 'capacity', v_capacity, 'taken', v_taken)) || v_slots,
    'hosts', v_hosts,
    'residency', v_residency,
    'openOrders', (select coalesce(jsonb_agg(residency_order_json(o) order by o.host), '[]') from residency_orders o where o.state = 'open'),
    'continuations', (select coalesce(jsonb_agg(jsonb_build_object('key', l.next_key, 'host', l.host, 'agoMs', greatest(0, floor(extract(epoch from v_now - l.ended_at) * 1000)), 'level', t.priority_level)), '[]')
      from line l join tasks t on t.id = l.task_id and t.attempt = l.attempt
      where l.state = 'done' and l.next_key is not null and l.ended_at > v_now - interval '2 seconds' and t.status = 'running' and t.cancel_requested_at is null and t.held_at is null
        and not exists (select 1 from line later where later.task_id = l.task_id and later.attempt = l.attempt and later.id > l.id)),
    'backingOff', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key)), '[]') from residency_backoff where until > v_now),
    'costs', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key, 'loadMs', load_ms, 'bytes', bytes)), '[]') from costs_of(v_keys)),
    'backlog', (select coalesce(jsonb_agg(jsonb_build_object('key', k.key, 'waiting', w.n,
        'serviceMs', (select u.inference_time_seconds * 1000 / u.inferences from model_usage u where u.name = key_model(k.key) and u.inferences > 0))), '[]')
      from unnest(v_keys) k (key) cross join lateral (
        select count(*) as n from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key = k.key) w
      where w.n > 0),
    'soon', v_soon,
    'holds', jsonb_build_object('locks', to_jsonb(v_held.taken), 'pools',
      (select coalesce(jsonb_agg(jsonb_build_object('pool', key, 'total', value -> 'total', 'free', value -> 'free')), '[]') from jsonb_each(v_held.pools))),
    'lacking', v_lacking);
end $$;

-- As in 00018_scheduling.sql, with all that a task needs.
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
    insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, reason, terms)
    values (g ->> 'host', (g ->> 'hostEpoch')::bigint, array(select jsonb_array_elements_text(g -> 'unload')), g -> 'load' ->> 'key',
      g -> 'load' -> 'model' ->> 'name', (g -> 'load' -> 'model' ->> 'numCtx')::integer, g ->> 'reason', g -> 'terms')
    on conflict (host) where state = 'open' do nothing
    returning * into o;
    continue when not found;
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

-- As in 00003_decide.sql; all that it holds goes.
create or replace function line_take_back(p_row bigint, p_not_before timestamptz, p_misses integer, p_cause text) returns void language plpgsql as $$
declare
  r record;
begin
  update line set state = 'waiting', grant_id = null, host = null, host_epoch = null, slot = null, granted_at = null, signals = 0, not_before = p_not_before, misses = p_misses
  where id = p_row returning * into r;
  insert into task_events (task_id, kind, data)
  values (r.task_id, 'grant_lost', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'try', r.try, 'cause', p_cause));
  if r.locks is not null and not exists (select 1 from line where task_id = r.task_id and attempt = r.attempt and state in ('granted', 'running', 'done'))
    and not exists (select 1 from tasks where id = r.task_id and status <> 'queued') then
    perform holds_free(r.task_id);
  end if;
end $$;

-- As in 00002_line.sql; everything that the task holds is freed.
create or replace function line_close(p_task uuid, p_attempt integer, p_run text, p_first_run text, p_status text, p_error jsonb) returns boolean language plpgsql as $$
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
  -- last, after the rows, so that a grant given meanwhile cannot leave anything behind
  if holds_free(p_task) then perform pg_notify('line', ''); end if;
  return true;
end $$;

-- As in 00004_moves.sql; everything that the task holds is freed.
create or replace function task_cancel(p_task uuid, p_user text) returns jsonb language plpgsql as $$
declare
  t record;
  v_rows bigint[];
begin
  select status, attempt, user_id into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if t.status = 'cancelled' then return jsonb_build_object('outcome', 'unchanged'); end if;

  v_rows := array(select id from line where task_id = p_task and state in ('waiting', 'granted'));
  if cardinality(v_rows) > 0 then perform line_void(v_rows, 'cancelled'); end if;
  if t.status = 'queued' then
    delete from outbox where id in (select id from outbox where task_id = p_task and kind = 'start' for update skip locked);
    update tasks set status = 'cancelled', completed_at = clock_timestamp(), cancel_requested_at = clock_timestamp(), updated_at = clock_timestamp() where id = p_task;
    insert into task_events (task_id, kind, data) values (p_task, 'cancelled', jsonb_build_object('attempt', t.attempt));
  else
    update tasks set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), updated_at = clock_timestamp() where id = p_task;
    perform pg_notify('cancel', p_task::text);
  end if;
  if not exists (select 1 from outbox where task_id = p_task and kind = 'cancel') then
    insert into outbox (kind, workflow_id, task_id) values ('cancel', 'task-' || p_task, p_task);
  end if;
  perform pg_notify('outbox', '');
  if t.status = 'queued' then
    perform holds_free(p_task);
    perform pg_notify('line', '');
  end if;
  return jsonb_build_object('outcome', case t.status when 'queued' then 'cancelled' else 'stopping' end);
end $$;

-- As in 00014_many.sql, and refused when it asks for more of a pool than there is, or for a pool that is not there. Before any engine has told what there is, nothing is refused.
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

  insert into tasks (id, name, type, description, priority, user_id, template, template_hash, parameters, plan, request, metadata, agent_assigned, replayed_from, origin_id)
  values (v_id, p_task ->> 'name', p_task ->> 'template', p_task ->> 'description', (p_task ->> 'exact')::integer, v_user, p_task ->> 'template', p_task ->> 'template_hash',
    p_task -> 'parameters', p_task -> 'plan', p_task -> 'request', p_task -> 'metadata', p_task ->> 'agent_assigned',
    (p_task ->> 'replayed_from')::uuid, (p_task ->> 'origin_id')::uuid)
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
  end if;
  if cardinality(p_depends_on) > 0 then
    select coalesce(jsonb_agg(id order by id) filter (where status <> 'completed'), '[]'), bool_or(status in ('failed', 'cancelled')) into v_open, v_failed
    from tasks where id = any(p_depends_on);
  end if;
  return jsonb_build_object('outcome', 'created', 'createdAt', v_created, 'blockedBy', v_open, 'blocked', v_failed, 'position', v_ahead + 1);
end $$;
