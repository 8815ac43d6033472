-- Up Migration
-- What a decision that knows the models looks at: how much service each residency gave, what loads cost, how much memory a host has, and what people
-- have held or paused.

-- Reported by a host with each look at its server. Until it does, it holds one model, whatever its size.
alter table hosts add column models_max integer not null default 1 check (models_max >= 1);
-- bytes that our models may take now, and what that would be without any other program; null: not limited by bytes
alter table hosts add column room_bytes bigint;
alter table hosts add column budget_bytes bigint;
-- beyond the budget, for a model that is loaded alone: main memory beside that of a GPU
alter table hosts add column spill_bytes bigint not null default 0;

-- Service since the load of a key, divided by the slots of its host. A table of its own, since grants lock the rows of `residency`.
create table residency_service (
  host text not null,
  host_epoch bigint not null,
  key text not null,
  served_ms double precision not null default 0,
  primary key (host, host_epoch, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- What loads of a key cost on a host, as they were measured.
create table key_costs (
  host text not null,
  key text not null,
  -- of the load alone, without what was unloaded or pulled for it
  load_ms double precision,
  -- in memory; after a load for which the memory did not suffice, more than what was free then
  bytes bigint,
  -- loads that were measured
  samples integer not null default 0,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (host, key)
);

-- The score terms of what is unloaded.
alter table residency_orders add column terms jsonb;

-- What takes no grants until it is resumed: `queue`, `host:<id>`, `model:<name>`.
create table queue_pauses (
  scope text primary key,
  by_user text,
  reason text,
  at timestamptz not null default clock_timestamp()
);

-- A held task is granted nothing; its rows of the line follow.
alter table tasks add column held_at timestamptz;
alter table line add column held boolean not null default false;
-- the step before it ran on the same key, so that both are to share one residency
alter table line add column continues boolean not null default false;

create function task_held() returns trigger language plpgsql as $$
begin
  perform 1 from line where task_id = new.id and state in ('waiting', 'granted', 'running') order by id for update;
  update line set held = new.held_at is not null where task_id = new.id and state in ('waiting', 'granted', 'running');
  perform pg_notify('line', '');
  return null;
end $$;
create trigger task_held after update of held_at on tasks for each row when ((old.held_at is null) <> (new.held_at is null)) execute function task_held();

-- Without those that are held or whose dependencies are open, so that a head is found at once however many there are. One index for each order in
-- which a level is read: by exact value, by arrival, by how long it waits.
drop index line_waiting;
drop index line_waiting_key;
create index line_waiting on line (pool, key, level desc, exact desc, pos, id) where state = 'waiting' and not held and not_before < 'infinity';
create index line_waiting_place on line (pool, key, level, pos, id) where state = 'waiting' and not held and not_before < 'infinity';
create index line_waiting_age on line (pool, key, level, entered_at) where state = 'waiting' and not held and not_before < 'infinity';
create index line_waiting_continuing on line (key, level desc, exact desc, pos, id) where state = 'waiting' and not held and not_before < 'infinity' and continues;

-- The model of a residency key.
create function key_model(p_key text) returns text language sql immutable parallel safe as $$
  select regexp_replace(p_key, '~ctx[0-9]+$', '')
$$;

-- Whether a person has paused a step's pool, model or host.
create function line_paused(p_pool text, p_key text) returns boolean language sql stable as $$
  select exists (select 1 from queue_pauses where scope = 'queue' or (p_pool = 'model' and scope = 'model:' || key_model(p_key)))
$$;

-- Adds what a step that ends has taken of its model's service. The row is locked after the task and its rows of the line; who ends several steps at
-- once (p_wait false) passes over what somebody else writes just now, so that no two wait for each other.
create function line_served(p_row bigint, p_wait boolean) returns void language plpgsql as $$
declare
  l record;
  v_ms double precision;
begin
  select * into l from line where id = p_row;
  if l.pool <> 'model' or l.started_at is null or l.host_epoch is null then return; end if;
  select extract(epoch from coalesce(l.ended_at, clock_timestamp()) - l.started_at) * 1000 / h.parallel into v_ms from hosts h where h.id = l.host and h.epoch = l.host_epoch;
  if v_ms is null then return; end if;
  if not p_wait then
    perform 1 from residency_service where host = l.host and host_epoch = l.host_epoch and key = l.key for update skip locked;
    if not found then return; end if;
  end if;
  insert into residency_service as s (host, host_epoch, key, served_ms) values (l.host, l.host_epoch, l.key, v_ms)
  on conflict (host, host_epoch, key) do update set served_ms = s.served_ms + excluded.served_ms;
end $$;

-- As in 00002_line.sql, and counts the service.
create or replace function line_void(p_rows bigint[], p_cause text) returns integer language plpgsql as $$
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
    if r.state = 'running' then perform line_served(r.id, false); end if;
    v_count := v_count + 1;
  end loop;
  if v_count > 0 then perform pg_notify('line', ''); end if;
  return v_count;
end $$;

-- As in 00013_events.sql, and counts the service.
create or replace function line_finish(p_row bigint, p_token uuid, p_type text, p_output jsonb, p_output_bytes integer, p_usage jsonb, p_next_key text, p_last boolean, p_events jsonb default '[]')
returns jsonb language plpgsql as $$
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
  if p_events <> '[]' then perform line_note(p_row, p_token, p_events); end if;
  v_execution := line_record(p_row, 'completed', p_type, p_output, p_output_bytes, null, p_usage);
  update line set state = 'done', ended_at = clock_timestamp(), execution_id = v_execution, next_key = p_next_key where id = p_row;
  insert into task_events (task_id, kind, data)
  values (r.task_id, 'step_finished', jsonb_build_object('step', r.step, 'attempt', r.attempt, 'step_attempt', r.step_attempt, 'try', r.try, 'execution_id', v_execution));
  perform pg_notify('line', '');
  perform line_served(p_row, true); -- before the task is closed, which may end other steps
  if p_last then p_last := line_close(r.task_id, r.attempt, r.run_id, r.run_id, 'completed', null); end if;
  return jsonb_build_object('execution_id', v_execution, 'output_bytes', p_output_bytes, 'closed', p_last);
end $$;

create or replace function line_fail(p_row bigint, p_token uuid, p_type text, p_status text, p_error jsonb, p_usage jsonb, p_events jsonb default '[]') returns boolean language plpgsql as $$
declare
  r record;
  v_execution uuid;
begin
  perform 1 from tasks where id = (select task_id from line where id = p_row) for no key update;
  select * into r from line where id = p_row and claim_token = p_token and state in ('running', 'void') for update;
  if not found then return false; end if;
  -- a repeat finds its own record; a row that somebody else took back has another cause
  if r.state = 'void' then return r.cause = p_error ->> 'code'; end if;
  if p_events <> '[]' then perform line_note(p_row, p_token, p_events); end if;
  v_execution := line_record(p_row, p_status, p_type, null, null, p_error, p_usage);
  update line set state = 'void', cause = p_error ->> 'code', ended_at = clock_timestamp(), execution_id = v_execution where id = p_row;
  if p_status <> 'cancelled' then
    insert into task_events (task_id, kind, data)
    values (r.task_id, case p_status when 'void' then 'grant_lost' else 'step_failed' end,
      jsonb_build_object('step', r.step, 'attempt', r.attempt, 'step_attempt', r.step_attempt, 'try', r.try, 'error', p_error, 'execution_id', v_execution));
  end if;
  perform line_served(p_row, true);
  perform pg_notify('line', '');
  return true;
end $$;

-- As in 00002_line.sql, with what is held, paused or continues.
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
  v_hold text;
  v_continues boolean := false;
begin
  select status, attempt, runs, priority, priority_level, pos, agent_assigned, cancel_requested_at, held_at into t
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
  v_hold := 'agent:' || t.agent_assigned;
  insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, hold, held, continues, not_before, entered_at)
  values (p_task, p_attempt, p_step, v_try, p_step_attempt, p_run, p_pool, p_key, t.priority_level, t.priority, t.pos, v_hold, t.held_at is not null, coalesce(v_continues, false),
    case when v_blocked or t.cancel_requested_at is not null then 'infinity' else '-infinity' end::timestamptz, v_entered)
  returning id into v_row;

  if not v_blocked and t.cancel_requested_at is null and t.held_at is null then
    if line_try_lock()
      -- ordered, since a search for just any row would read the table from its start, through all that is done
      and (select id from line where pool = p_pool and state = 'waiting' and not held and not_before < 'infinity' and not_before <= clock_timestamp() and id <> v_row
        order by pool, key, level desc, exact desc, pos, id limit 1) is null
      and not line_paused(p_pool, p_key)
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
          and not exists (select 1 from queue_pauses where scope = 'host:' || h.id)
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
      values ('grant', p_task, jsonb_build_object('row', v_row::text, 'step', p_step, 'attempt', p_attempt, 'pool', p_pool, 'key', p_key, 'level', t.priority_level, 'exact', t.priority, 'waited_ms', 0),
        jsonb_build_object('grant', v_grant, 'host', v_host, 'slot', v_slot, 'reason', 'nobody waits and slot ' || v_slot || ' is free'));
    else
      perform pg_notify('line', '');
    end if;
  end if;
  return jsonb_build_object('state', case when v_grant is null then 'waiting' else 'granted' end, 'row', v_row::text, 'try', v_try, 'exact', t.priority,
    'grant_id', v_grant, 'pool', p_pool, 'key', p_key, 'host', v_host, 'host_epoch', v_epoch, 'slot', v_slot);
end $$;

-- Keys that steps which have not entered the line yet are going to need: later steps of plans that run now, and of tasks whose dependencies all run.
-- Bounded by what runs. in_ms: milliseconds from now, as far as it can be told; 10 s for a step of which nothing is known.
create function line_soon() returns table (key text, in_ms double precision) language plpgsql stable as $$
begin
  return query
  with running as (
    select l.task_id, l.attempt, l.step, t.plan -> 'steps' as steps,
      greatest(0, 10000 - extract(epoch from clock_timestamp() - coalesce(l.started_at, l.granted_at, clock_timestamp())) * 1000)::double precision as left_ms
    from line l join tasks t on t.id = l.task_id and t.attempt = l.attempt
    where l.state in ('granted', 'running') and t.cancel_requested_at is null
  ), later as (
    select s -> 'model' as model, r.left_ms + 10000 * greatest(0, p.n - 1 - here.n) as in_ms
    from running r
    cross join lateral (select n from jsonb_array_elements(r.steps) with ordinality h (s, n) where s ->> 'id' = r.step) here
    cross join lateral jsonb_array_elements(r.steps) with ordinality p (s, n)
    where p.n > here.n and p.s ->> 'pool' = 'model'
      and not exists (select 1 from line x where x.task_id = r.task_id and x.attempt = r.attempt and x.step = p.s ->> 'id')
  ), dependent as (
    select w.key, max(r.left_ms + 10000 * (jsonb_array_length(r.steps) - 1)) as in_ms
    from running r join task_dependencies d on d.parent_task_id = r.task_id
    join line w on w.task_id = d.child_task_id and w.state = 'waiting' and w.pool = 'model' and w.not_before = 'infinity' and not w.held
    where not exists (select 1 from task_dependencies o join tasks p on p.id = o.parent_task_id
      where o.child_task_id = d.child_task_id and p.status not in ('running', 'completed'))
    group by w.id, w.key
  )
  select needed.key, min(needed.in_ms) from (
    select (l.model ->> 'name') || '~ctx' || (l.model ->> 'numCtx') as key, l.in_ms from later l
    union all select d.key, d.in_ms from dependent d) needed
  where needed.key is not null group by needed.key;
end $$;

-- Whether there is anything to decide: a row that may be granted, or a model that will be needed and that some host has a place for.
create or replace function decide_any() returns boolean language plpgsql stable as $$
begin
  if exists (select 1 from queue_pauses where scope = 'queue') then return false; end if;
  if exists (select 1 from (select 1 from line where state = 'waiting' and not held and pool = 'general' and not_before < 'infinity' and not_before <= clock_timestamp() limit 1) g)
    or exists (select 1 from (select 1 from line where state = 'waiting' and not held and pool = 'model' and not_before < 'infinity' and not_before <= clock_timestamp() limit 1) m)
  then return true; end if;
  return exists (select 1 from hosts h where h.ready and h.models_max > (select count(*) from residency c where c.host = h.id and c.host_epoch = h.epoch))
    and exists (select 1 from line_soon() s where not exists (select 1 from residency c where c.key = s.key));
end $$;

-- The rows (their ids) that a decision looks at: of the general pool and of each served key the first ones of each level, by exact value and arrival, those
-- whose plan goes on with the key, and the first ones of those that are raised; of any other key the first one, and the one that was raised most. p_free: free
-- places by key, '' for the general pool. p_max_waits: milliseconds after which each level counts as one more. Of raised rows those that waited longest
-- are all there, and the first ones by arrival of those with as many raises as the last of them: no other can be before the first ones.
create function line_heads(p_now timestamptz, p_free jsonb, p_max_waits double precision[]) returns setof bigint language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
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
        and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
      order by l.entered_at limit w.n) a
    where v.level <= 8
    union all
    select null, true, v.level, g.n, v.wait_ms, v.raises_max, a.id, a.pos, a.entered_at from general g cross join levels v cross join lateral (
      select l.id, l.pos, l.entered_at from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level and l.entered_at <= v.raised_before
        and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
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
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.pos, l.id limit b.n) a
  where b.key is not null
  union
  select a.id from best b cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = b.level and l.entered_at <= b.before
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.key, l.pos, l.id limit b.n) a
  where b.key is null
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.level desc, l.exact desc, l.pos, l.id limit 1) a
  where not w.served
  union
  select a.id from wanted w cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key and l.level = v.level
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served
  union
  select a.id from general g cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.key, l.level desc, l.exact desc, l.pos, l.id limit g.n) a
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.continues and l.key = w.key
      and not exists (select 1 from holds o where o.name = l.hold and (o.task_id, o.attempt) is distinct from (l.task_id, l.attempt))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served;
end $$;

-- What is known of keys on the live hosts: what was measured; for the bytes of what was never loaded, the size of its file and a tenth more, of which a
-- GPU takes what it has when the rest of it finds place in main memory.
create function costs_of(p_keys text[]) returns table (host text, key text, load_ms double precision, bytes bigint, guessed boolean) language plpgsql stable as $$
begin
  return query
  select h.id, k.key, c.load_ms, coalesce(c.bytes, case when h.spill_bytes > 0 and m.size_bytes * 1.1 <= h.budget_bytes + h.spill_bytes then least(h.room_bytes, (m.size_bytes * 1.1)::bigint)
    else (m.size_bytes * 1.1)::bigint end), c.bytes is null
  from hosts h cross join unnest(p_keys) k (key)
  left join key_costs c on c.host = h.id and c.key = k.key
  left join models m on m.host = h.id and m.name = key_model(k.key)
  where h.ready and h.lease_until > clock_timestamp() and (c.key is not null or m.size_bytes is not null);
end $$;

drop function decide_read(integer);
-- The snapshot of scheduling/policy.ts, under the lock; null when somebody else decides. A function, so that its queries see what was committed before
-- the lock was had; one plain statement would look from before it. p_max_waits: as in line_heads.
create function decide_read(p_max_waits double precision[]) returns jsonb language plpgsql as $$
declare
  v_now timestamptz;
  v_paused boolean;
  v_capacity integer;
  v_taken jsonb;
  v_free jsonb;
  v_slots jsonb;
  v_hosts jsonb;
  v_heads jsonb := '[]';
  v_residency jsonb;
  v_soon jsonb;
  v_ids bigint[];
  v_keys text[];
begin
  if not line_try_lock() then return null; end if;
  v_now := clock_timestamp();
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
    v_ids := array(select line_heads(v_now, v_free, p_max_waits));
    select coalesce(jsonb_agg(jsonb_build_object('row', id::text, 'taskId', task_id, 'pool', pool, 'key', key, 'level', level, 'exact', exact, 'place', place,
        'waitedMs', greatest(0, floor(extract(epoch from v_now - entered_at) * 1000)), 'continues', continues) order by pool, level desc, exact desc, place), '[]'),
      array_agg(distinct key) filter (where key is not null) into v_heads, v_keys
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
    'soon', v_soon);
end $$;

drop function decide_write(jsonb, jsonb);
-- As in 00003_decide.sql, with the terms of what was decided and how long it took to decide it.
create function decide_write(p_grants jsonb, p_orders jsonb, p_policy_ms integer) returns jsonb language plpgsql as $$
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
    if r.hold is not null then
      insert into holds (name, task_id, attempt) values (r.hold, r.task_id, r.attempt) on conflict (name) do nothing;
      continue when not exists (select 1 from holds where name = r.hold and task_id = r.task_id and attempt = r.attempt);
    end if;
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

-- As in 00003_decide.sql; what no residency is left of is forgotten.
create or replace function line_lose_hosts() returns jsonb language plpgsql as $$
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
  delete from residency_service where (host, host_epoch, key) in (
    select s.host, s.host_epoch, s.key from residency_service s
    where not exists (select 1 from residency c where c.host = s.host and c.host_epoch = s.host_epoch and c.key = s.key) for update skip locked);
  if v_lost <> '[]' then perform pg_notify('line', ''); end if;
  return v_lost;
end $$;

-- As in 00015_models.sql; a load unloads no more than it has to.
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
  v_reason text := p_action || ' ' || p_model || ', asked for by ' || p_user;
begin
  select id, epoch, models_max, room_bytes into h from hosts where (p_host is null or id = p_host) and ready and lease_until > clock_timestamp() order by id limit 1;
  if not found then return jsonb_build_object('outcome', 'host_unavailable'); end if;
  if exists (select 1 from residency_orders where host = h.id and state = 'open') then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;

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
  on conflict (host) where state = 'open' do nothing
  returning * into o;
  if not found then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;
  insert into outbox (kind, workflow_id, payload) values ('residency', 'residency-' || o.host, residency_order_json(o));
  insert into orchestration_decisions (decision_type, input_data, output_data)
  values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'requested_by', p_user), residency_order_json(o) || jsonb_build_object('reason', o.reason));
  perform pg_notify('outbox', '');
  return jsonb_build_object('outcome', 'ordered', 'host', o.host, 'order', o.id);
end $$;
