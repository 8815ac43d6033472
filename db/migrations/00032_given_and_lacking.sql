-- Up Migration
-- Whether somebody chose the priority of a task. Where nobody did, a learned agent may choose it; how a task came by its priority before is not known, so that
-- all of those count as given.
alter table tasks add column priority_given boolean not null default true;

-- As in 00021_holds.sql; keeps whether the caller gave a priority.
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
  end if;
  if cardinality(p_depends_on) > 0 then
    select coalesce(jsonb_agg(id order by id) filter (where status <> 'completed'), '[]'), bool_or(status in ('failed', 'cancelled')) into v_open, v_failed
    from tasks where id = any(p_depends_on);
  end if;
  return jsonb_build_object('outcome', 'created', 'createdAt', v_created, 'blockedBy', v_open, 'blocked', v_failed, 'position', v_ahead + 1);
end $$;

-- As in 00028_queue_fairness.sql. Whoever sets a priority, be it the one that the task has, or places the task, has given it one.
create or replace function task_prioritise(p_task uuid, p_user text, p_exact integer, p_pos numeric) returns jsonb language plpgsql as $$
declare
  t record;
  v_level integer;
begin
  perform queue_lock();
  select status, priority, priority_given, pos, came_at(pos, came_pos) as came into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if p_user is not null and p_pos is null and p_exact = 100 and t.priority < 100 and overtakes_others(p_user, t.pos, t.came) then p_pos := t.came; end if;
  if t.priority = p_exact and (p_pos is null or p_pos = t.pos) then
    if t.priority_given then return jsonb_build_object('outcome', 'unchanged'); end if;
    update tasks set priority_given = true, updated_at = clock_timestamp() where id = p_task;
    return jsonb_build_object('outcome', 'changed');
  end if;
  update tasks set priority = p_exact, priority_given = true, pos = coalesce(p_pos, pos), placed_version = queue_changed(), placed_at = clock_timestamp(), updated_at = clock_timestamp()
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

-- As in 00011_checkpoints.sql; keeps whether the priority was given.
create or replace function checkpoint_create(p_name text, p_user text, p_definitions jsonb) returns setof checkpoints language sql volatile as $$
  insert into checkpoints (name, created_by, content)
  select p_name, p_user, jsonb_build_object(
    'definitions', p_definitions,
    'queue', (select coalesce(jsonb_agg(jsonb_build_object('task_id', t.id, 'name', t.name, 'template', t.template, 'template_hash', t.template_hash, 'status', t.status, 'attempt', t.attempt,
        'exact', t.priority, 'priority_given', t.priority_given, 'pos', t.pos::text, 'agent_assigned', t.agent_assigned,
        'depends_on', (select coalesce(jsonb_agg(d.parent_task_id order by d.parent_task_id), '[]') from task_dependencies d where d.child_task_id = t.id))
        order by t.status = 'running' desc, t.priority desc, t.pos, t.id), '[]')
      from tasks t where t.status in ('queued', 'running')),
    'locks', (select coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'task_id', h.task_id) order by h.name), '[]') from holds h))
  returning *
$$;

-- As in 00028_queue_fairness.sql; whether the priority was given is as it was. Checkpoints that do not say so are of tasks that all count as having one.
drop function checkpoint_restore_task(uuid, integer, numeric);
create function checkpoint_restore_task(p_task uuid, p_exact integer, p_pos numeric, p_given boolean default true) returns text language plpgsql as $$
declare
  t record;
  v_pos numeric := p_pos;
  v_outcome jsonb;
begin
  perform queue_lock();
  select status, priority_given into t from tasks where id = p_task for no key update;
  if not found then return 'gone'; end if;
  if t.status in ('running', 'completed') then return 'went_on'; end if;
  if exists (select 1 from tasks where status in ('queued', 'running') and pos = p_pos and id <> p_task) then
    select pos_between(greatest(max(pos), ceil(p_pos) - 1), p_pos) into v_pos from tasks where status in ('queued', 'running') and pos < p_pos and id <> p_task;
  end if;
  if t.status in ('failed', 'cancelled') then perform task_retry(p_task, null); end if;
  -- first, so that what task_prioritise tells is about value and place alone
  update tasks set priority_given = true where id = p_task and not priority_given;
  v_outcome := task_prioritise(p_task, null, p_exact, v_pos);
  update tasks set priority_given = false where id = p_task and not p_given;
  if t.status in ('failed', 'cancelled') then return 'queued_again'; end if;
  return case when v_outcome ->> 'outcome' = 'changed' or t.priority_given <> p_given then 'moved' else 'unchanged' end;
end $$;

-- As in 00028_queue_fairness.sql, but of those that lack something one for each model, since one whose model no host can serve keeps nothing from others, and
-- so must not stand before the one that does.
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
    select l.id, l.level, l.exact, l.pos, l.entered_at, l.key,
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
    select n.id, n.lacks, row_number() over (partition by n.level, n.lacks, case when n.lacks then n.key end order by n.exact desc, n.pos, n.id) as by_order,
      row_number() over (partition by n.level, n.lacks, case when n.lacks then n.key end order by n.entered_at) as by_arrival
    from needing n where n.lacks is not null
  )
  select r.id, r.lacks from ranked r where least(r.by_order, r.by_arrival) <= case when r.lacks then 1 else 64 end;
end $$;
