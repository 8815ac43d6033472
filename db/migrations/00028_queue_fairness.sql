-- Up Migration
-- What moves, checkpoints and holds must not do to others.

-- The place by which a moved task is compared with others of the highest priority: the one of its arrival, or the one that an administrator gave. Counts
-- only while the task stands between whole numbers; null there: where it stands.
alter table tasks add column came_pos numeric;

create function came_at(p_pos numeric, p_came numeric) returns numeric language sql immutable as $$
  select case when p_pos = trunc(p_pos) then p_pos else coalesce(p_came, p_pos) end
$$;

-- Whether a task of the highest priority would stand before one of another user that came first and waits with the same priority.
create function overtakes_others(p_user text, p_pos numeric, p_came numeric) returns boolean language sql stable as $$
  select exists (select 1 from tasks o where o.status in ('queued', 'running') and o.priority = 100 and o.user_id <> p_user
    and o.pos > p_pos and o.pos < p_came and task_waits(o.id, o.status))
$$;

-- As in 00019_queue.sql. A user's task that was moved forward and is given the highest priority afterwards goes back to the place of its arrival, where it
-- would overtake others otherwise: a move and a priority together give no more than the priority alone.
create or replace function task_prioritise(p_task uuid, p_user text, p_exact integer, p_pos numeric) returns jsonb language plpgsql as $$
declare
  t record;
  v_level integer;
begin
  perform queue_lock();
  select status, priority, pos, came_at(pos, came_pos) as came into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if p_user is not null and p_pos is null and p_exact = 100 and t.priority < 100 and overtakes_others(p_user, t.pos, t.came) then p_pos := t.came; end if;
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

-- As in 00019_queue.sql; a place that an administrator gave stays one.
create or replace function pos_renumber(p_unit numeric) returns boolean language plpgsql as $$
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
  update tasks t set pos = p_unit + round(n::numeric / (cardinality(v_all) + 1), v_digits),
    came_pos = case when t.came_pos = t.pos then p_unit + round(n::numeric / (cardinality(v_all) + 1), v_digits) else t.came_pos end
  from unnest(v_all) with ordinality a (id, n) where t.id = a.id;
  update line l set pos = t.pos from tasks t where t.id = l.task_id and l.task_id = any(v_all) and l.state = 'waiting';
  return true;
end $$;

-- As in 00019_queue.sql; what others of the highest priority are asked for is the place of arrival, so that several moves give no more than one.
create or replace function task_move(p_task uuid, p_user text, p_neighbour uuid, p_side text, p_version bigint) returns jsonb language plpgsql as $$
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
  select status, priority, pos, came_at(pos, came_pos) as came, placed_version into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
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
    select pos, came_at(pos, came_pos) into t.pos, t.came from tasks where id = p_task;
    select pos into n.pos from tasks where id = p_neighbour;
  end loop;
  if p_user is not null and n.priority = 100 and overtakes_others(p_user, v_pos, t.came) then return jsonb_build_object('outcome', 'overtakes'); end if;

  -- one that has not entered, or whose dependencies are open, waits from now on, as this one does then
  select coalesce(min(entered_at), n.stands_since, clock_timestamp()) into v_since from line where task_id = p_neighbour and state = 'waiting' and not_before < 'infinity';
  v_done := task_prioritise(p_task, p_user, n.priority, v_pos);
  if v_done ->> 'outcome' in ('changed', 'unchanged') then
    update tasks set stands_since = v_since, came_pos = case when p_user is null then v_pos else t.came end where id = p_task;
    update line set entered_at = v_since where task_id = p_task and state = 'waiting';
    v_done := v_done || jsonb_build_object('version', (select version from queue_state));
  end if;
  return v_done;
end $$;

-- As in 00011_checkpoints.sql. The order of the queue is locked first, as everybody does; where another task stands by now, it goes directly before it.
create or replace function checkpoint_restore_task(p_task uuid, p_exact integer, p_pos numeric) returns text language plpgsql as $$
declare
  t record;
  v_pos numeric := p_pos;
  v_outcome jsonb;
begin
  perform queue_lock();
  select status into t from tasks where id = p_task for no key update;
  if not found then return 'gone'; end if;
  if t.status in ('running', 'completed') then return 'went_on'; end if;
  if exists (select 1 from tasks where status in ('queued', 'running') and pos = p_pos and id <> p_task) then
    select pos_between(greatest(max(pos), ceil(p_pos) - 1), p_pos) into v_pos from tasks where status in ('queued', 'running') and pos < p_pos and id <> p_task;
  end if;
  if t.status in ('failed', 'cancelled') then
    perform task_retry(p_task, null);
    perform task_prioritise(p_task, null, p_exact, v_pos);
    return 'queued_again';
  end if;
  v_outcome := task_prioritise(p_task, null, p_exact, v_pos);
  return case v_outcome ->> 'outcome' when 'changed' then 'moved' else 'unchanged' end;
end $$;

-- As in 00021_holds.sql. A task that waits for what a held task has, or one whose steps are paused, neither starts nor keeps anything from others: nobody can
-- tell when a person lets that one go on.
create or replace function line_needing(p_now timestamptz, p_held held_now) returns table (id bigint, lacks boolean) language plpgsql stable as $$
declare
  v_paused boolean;
  v_stuck uuid[];
  v_locks text[];
  v_amounts jsonb;
begin
  if not exists (select 1 from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null) then return; end if;
  v_paused := exists (select 1 from queue_pauses);
  v_stuck := array(
    select t.id from tasks t where t.id = any(p_held.holders) and not exists (select 1 from line l where l.task_id = t.id and l.state in ('granted', 'running'))
      and (t.held_at is not null or (v_paused and (select bool_and(line_paused(l.pool, l.key)) from line l where l.task_id = t.id and l.state = 'waiting'))));
  v_locks := array(select h.name from holds h where h.task_id = any(v_stuck));
  select coalesce(jsonb_object_agg(a.pool, a.amount), '{}') into v_amounts from (select o.pool, sum(o.amount) as amount from allocations o where o.task_id = any(v_stuck) group by o.pool) a;
  return query
  with needing as materialized (
    select l.id, l.level, l.exact, l.pos, l.entered_at,
      case
        when l.amounts is not null and exists (select 1 from jsonb_each_text(l.amounts) a
          where (p_held.pools -> a.key ->> 'total')::numeric - coalesce((v_amounts ->> a.key)::numeric, 0) < a.value::numeric) then null
        when l.locks && v_locks then null
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
