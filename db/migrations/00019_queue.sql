-- Up Migration
-- What people do to the order of the queue: moves beside another task, hold and release, pause and resume.

-- Counts every change that a person makes to the order, so that whoever has looked at the queue can tell which one was seen. Whoever changes the order
-- locks this row first, before any task: two moves to one place see each other, and a version that is read is that of the order read with it.
create table queue_state (
  id integer primary key default 1 check (id = 1),
  version bigint not null default 1,
  changed_at timestamptz not null default clock_timestamp()
);
insert into queue_state default values;

-- the version of the queue that placed the task, and when that was
alter table tasks add column placed_version bigint not null default 0;
alter table tasks add column placed_at timestamptz;
-- since when a moved task counts as waiting, as the one beside which it stands does
alter table tasks add column stands_since timestamptz;

-- A moved task has a place between whole numbers, so that tasks that were never moved pay nothing for this.
create function line_stands() returns trigger language plpgsql as $$
declare
  v_since timestamptz;
begin
  select stands_since into v_since from tasks where id = new.task_id and status = 'queued';
  new.entered_at := least(new.entered_at, v_since);
  return new;
end $$;
create trigger line_stands before insert on line for each row when (new.pos <> trunc(new.pos)) execute function line_stands();
create trigger line_stands_released before update of not_before on line for each row
  when (new.state = 'waiting' and old.not_before = 'infinity' and new.not_before < 'infinity' and new.pos <> trunc(new.pos)) execute function line_stands();

-- Locks the order of the queue until the end of the transaction.
create function queue_lock() returns bigint language sql volatile as $$
  select version from queue_state where id = 1 for update
$$;

create function queue_changed() returns bigint language sql volatile as $$
  update queue_state set version = version + 1, changed_at = clock_timestamp() where id = 1 returning version
$$;

-- As in 00004_moves.sql, and counted. p_pos null: the place among tasks of the same priority stays.
create or replace function task_prioritise(p_task uuid, p_user text, p_exact integer, p_pos numeric) returns jsonb language plpgsql as $$
declare
  t record;
  v_level integer;
begin
  perform queue_lock();
  select status, priority, pos into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if t.priority = p_exact and (p_pos is null or p_pos = t.pos) then return jsonb_build_object('outcome', 'unchanged'); end if;
  update tasks set priority = p_exact, pos = coalesce(p_pos, pos), placed_version = queue_changed(), placed_at = clock_timestamp(), updated_at = clock_timestamp()
  where id = p_task returning priority_level into v_level;
  perform 1 from line where task_id = p_task and state = 'waiting' order by id for update;
  update line set level = v_level, exact = p_exact, pos = coalesce(p_pos, pos) where task_id = p_task and state = 'waiting';
  insert into task_events (task_id, kind, data) values (p_task, 'priority_changed', jsonb_build_object('from', t.priority, 'to', p_exact, 'moved', p_pos is not null));
  if t.priority <> p_exact then
    insert into outbox (kind, workflow_id, task_id, payload)
    values ('signal', 'task-' || p_task, p_task, jsonb_build_object('name', 'priority', 'args', jsonb_build_array(p_exact)));
    perform pg_notify('outbox', '');
  end if;
  perform pg_notify('line', '');
  return jsonb_build_object('outcome', 'changed');
end $$;

-- Whether something of a task waits: a step in the line, or all of it, since it has not begun.
create function task_waits(p_task uuid, p_status text) returns boolean language sql stable as $$
  select exists (select 1 from line where task_id = p_task and state = 'waiting')
    or (p_status = 'queued' and not exists (select 1 from line where task_id = p_task and state in ('granted', 'running')))
$$;

-- The number with the fewest digits about half-way between two others. Halving alone takes a digit each time, this a third of one.
create function pos_between(p_low numeric, p_high numeric) returns numeric language sql immutable as $$
  select trim_scale(round((p_low + p_high) * 0.5, greatest(0, ceil(-log(p_high - p_low))::integer + 1)))
$$;

-- Gives the tasks between two neighbouring whole numbers new places there, in the same order, with few digits. Never waits: what somebody else
-- changes just now is left for the next time. The caller holds the order of the queue.
create function pos_renumber(p_unit numeric) returns boolean language plpgsql as $$
declare
  v_all uuid[];
  v_locked uuid[];
  v_digits integer;
begin
  v_all := array(select id from tasks where status in ('queued', 'running') and pos > p_unit and pos < p_unit + 1 order by pos, id);
  v_locked := array(select id from tasks where id = any(v_all) for no key update skip locked);
  if cardinality(v_locked) < cardinality(v_all) then return false; end if;
  perform 1 from line where task_id = any(v_all) and state = 'waiting' order by id for update;
  v_digits := ceil(log(cardinality(v_all) + 1)) + 1;
  update tasks t set pos = p_unit + round(n::numeric / (cardinality(v_all) + 1), v_digits) from unnest(v_all) with ordinality a (id, n) where t.id = a.id;
  update line l set pos = t.pos from tasks t where t.id = l.task_id and l.task_id = any(v_all) and l.state = 'waiting';
  return true;
end $$;

drop function task_move(uuid, text, uuid, text);

-- Places a task directly before or after another one that waits, with that one's priority and its waiting, so that nothing gets between the two however
-- long they wait. All open tasks count, whatever their priority: among raised steps place alone decides. A place lies between the same two whole numbers
-- as before, so that later arrivals, which get whole numbers, are behind.
-- p_user not null: both have to be tasks of that user's, and no task of others of the highest priority may be overtaken that this priority alone would
-- not overtake. p_version: the queue as it was seen; null: whatever it is now.
create function task_move(p_task uuid, p_user text, p_neighbour uuid, p_side text, p_version bigint) returns jsonb language plpgsql as $$
declare
  t record;
  n record;
  v_low numeric;
  v_high numeric;
  v_pos numeric;
  v_since timestamptz;
  v_done jsonb;
begin
  perform queue_lock();
  select status, priority, pos, placed_version into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if not task_waits(p_task, t.status) then return jsonb_build_object('outcome', 'started'); end if;
  -- not locked: what happens to it meanwhile happens after this move
  select status, priority, pos, placed_version, stands_since into n from tasks where id = p_neighbour and id <> p_task and (p_user is null or user_id = p_user);
  if not found then return jsonb_build_object('outcome', 'neighbour_unknown'); end if;
  if n.status in ('completed', 'failed', 'cancelled') or not task_waits(p_neighbour, n.status) then return jsonb_build_object('outcome', 'neighbour_gone'); end if;
  if greatest(t.placed_version, n.placed_version) > p_version then return jsonb_build_object('outcome', 'changed_meanwhile'); end if;

  for v_try in 1..2 loop
    if p_side = 'before' then
      v_high := n.pos;
      select max(pos) into v_low from tasks where status in ('queued', 'running') and pos < n.pos and id <> p_task;
      v_low := greatest(v_low, ceil(n.pos) - 1);
    else
      v_low := n.pos;
      select min(pos) into v_high from tasks where status in ('queued', 'running') and pos > n.pos and id <> p_task;
      v_high := least(v_high, floor(n.pos) + 1);
    end if;
    v_pos := case when t.pos > v_low and t.pos < v_high then t.pos else pos_between(v_low, v_high) end;
    exit when scale(v_pos) <= 60 or v_try = 2 or not pos_renumber(floor(v_low));
    select pos into t.pos from tasks where id = p_task;
    select pos into n.pos from tasks where id = p_neighbour;
  end loop;
  if p_user is not null and n.priority = 100 and exists (select 1 from tasks o where o.status in ('queued', 'running') and o.priority = 100 and o.user_id <> p_user
    and o.pos > v_pos and o.pos < t.pos and task_waits(o.id, o.status)) then return jsonb_build_object('outcome', 'overtakes'); end if;

  -- one that has not entered, or whose dependencies are open, waits from now on, as this one does then
  select coalesce(min(entered_at), n.stands_since, clock_timestamp()) into v_since from line where task_id = p_neighbour and state = 'waiting' and not_before < 'infinity';
  v_done := task_prioritise(p_task, p_user, n.priority, v_pos);
  if v_done ->> 'outcome' in ('changed', 'unchanged') then
    update tasks set stands_since = v_since where id = p_task;
    update line set entered_at = v_since where task_id = p_task and state = 'waiting';
    v_done := v_done || jsonb_build_object('version', (select version from queue_state));
  end if;
  return v_done;
end $$;

-- A held task is granted nothing until it is released; what runs of it goes on. The trigger of 00018_scheduling.sql lets its steps follow.
create function task_hold(p_task uuid, p_user text, p_held boolean, p_by text) returns jsonb language plpgsql as $$
declare
  t record;
begin
  perform queue_lock();
  select status, held_at into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if (t.held_at is not null) = p_held then return jsonb_build_object('outcome', 'unchanged'); end if;
  perform queue_changed();
  update tasks set held_at = case when p_held then clock_timestamp() end, placed_at = clock_timestamp(), updated_at = clock_timestamp() where id = p_task;
  insert into task_events (task_id, kind, data) values (p_task, case when p_held then 'held' else 'released' end, jsonb_build_object('by', p_by));
  return jsonb_build_object('outcome', case when p_held then 'held' else 'released' end);
end $$;

-- Pauses a scope: `queue`, `host:<id>` or `model:<name>`. A second time only a reason that is given is taken.
create function queue_pause(p_scope text, p_by text, p_reason text) returns jsonb language plpgsql as $$
declare
  v_new boolean;
begin
  if p_scope like 'host:%' and not exists (select 1 from hosts where id = substr(p_scope, 6)) then return jsonb_build_object('outcome', 'unknown_host'); end if;
  perform queue_lock();
  insert into queue_pauses as p (scope, by_user, reason) values (p_scope, p_by, p_reason)
  on conflict (scope) do update set reason = coalesce(excluded.reason, p.reason)
  returning xmax = 0 into v_new;
  if v_new then
    perform queue_changed();
    insert into audit_log (action, user_id, details) values ('queue_paused', p_by, jsonb_build_object('scope', p_scope, 'reason', p_reason));
    perform pg_notify('line', '');
  end if;
  return jsonb_build_object('outcome', case when v_new then 'paused' else 'unchanged' end);
end $$;

create function queue_resume(p_scope text, p_by text) returns jsonb language plpgsql as $$
begin
  perform queue_lock();
  delete from queue_pauses where scope = p_scope;
  if not found then return jsonb_build_object('outcome', 'unchanged'); end if;
  perform queue_changed();
  insert into audit_log (action, user_id, details) values ('queue_resumed', p_by, jsonb_build_object('scope', p_scope));
  perform pg_notify('line', '');
  return jsonb_build_object('outcome', 'resumed');
end $$;
