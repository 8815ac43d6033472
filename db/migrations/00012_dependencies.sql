-- Up Migration
-- Dependencies that come and go after a task was stored. Whoever adds one holds this lock until its transaction ends, since of two that
-- close a circle from both sides the second has to see the first.
create function graph_lock() returns void language sql volatile as $$
  select pg_advisory_xact_lock(7032, 3)
$$;

-- A task and all that it waits for, directly or not. A chain is walked by the index, one task at a time: without statistics the planner would
-- read the whole table for each of them.
create function task_ancestors(p_task uuid) returns setof uuid language sql stable set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
  with recursive up (id) as (select p_task union select d.parent_task_id from up join task_dependencies d on d.child_task_id = up.id)
  select id from up
$$;

-- p_owner: whose tasks may be named; null: anybody's. Order of locks as in 00002_line.sql: the task, its parent, its dependencies, its rows of the line.
create function task_add_dependency(p_task uuid, p_owner text, p_parent uuid, p_type text) returns jsonb language plpgsql as $$
declare
  t record;
  v_status text;
  v_ancestors uuid[];
begin
  perform graph_lock();
  select status, attempt into t from tasks where id = p_task and (p_owner is null or user_id = p_owner) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if p_parent = p_task then return jsonb_build_object('outcome', 'itself'); end if;
  select status into v_status from tasks where id = p_parent and (p_owner is null or user_id = p_owner) for share;
  if not found then return jsonb_build_object('outcome', 'unknown_dependency'); end if;
  if exists (select 1 from task_dependencies where parent_task_id = p_parent and child_task_id = p_task) then return jsonb_build_object('outcome', 'unchanged'); end if;

  perform 1 from line where task_id = p_task and attempt = t.attempt order by id for update; -- nothing is granted from here on
  if t.status <> 'queued' or exists (select 1 from line where task_id = p_task and attempt = t.attempt and state in ('granted', 'running', 'done')) then
    return jsonb_build_object('outcome', 'started', 'status', t.status);
  end if;

  v_ancestors := array(select task_ancestors(p_parent));
  if p_task = any(v_ancestors) then
    -- what the circle is made of; whoever asked finds it there
    return jsonb_build_object('outcome', 'cycle', 'edges', (
      select jsonb_agg(jsonb_build_object('parent', parent_task_id, 'child', child_task_id)) from task_dependencies where child_task_id = any(v_ancestors)));
  end if;

  insert into task_dependencies (parent_task_id, child_task_id, dependency_type) values (p_parent, p_task, p_type);
  update tasks set updated_at = clock_timestamp() where id = p_task;
  if v_status <> 'completed' then
    update line set not_before = 'infinity' where task_id = p_task and attempt = t.attempt and state = 'waiting';
  end if;
  insert into task_events (task_id, kind, data) values (p_task, 'dependency_added', jsonb_build_object('depends_on', p_parent, 'type', p_type));
  perform pg_notify('line', '');
  return jsonb_build_object('outcome', 'changed');
end $$;

create function task_remove_dependency(p_task uuid, p_owner text, p_parent uuid) returns jsonb language plpgsql as $$
declare
  t record;
begin
  select status into t from tasks where id = p_task and (p_owner is null or user_id = p_owner) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if not exists (select 1 from task_dependencies where parent_task_id = p_parent and child_task_id = p_task) then return jsonb_build_object('outcome', 'unchanged'); end if;
  if t.status <> 'queued' then return jsonb_build_object('outcome', 'started', 'status', t.status); end if;
  delete from task_dependencies where parent_task_id = p_parent and child_task_id = p_task;
  update tasks set updated_at = clock_timestamp() where id = p_task;
  insert into task_events (task_id, kind, data) values (p_task, 'dependency_removed', jsonb_build_object('depends_on', p_parent));
  perform line_release(array[p_task]);
  perform pg_notify('line', '');
  return jsonb_build_object('outcome', 'changed');
end $$;

-- As in 00005_create.sql, and refused when `queue_max` tasks are queued. Tasks that are stored at the same moment do not see each other, so
-- there may be as many more as there are such requests.
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
begin
  select jsonb_agg(asked.id) into v_unknown from unnest(p_depends_on) as asked (id)
  where not exists (select 1 from tasks t where t.id = asked.id and (p_owner is null or t.user_id = p_owner));
  if v_unknown is not null then return jsonb_build_object('outcome', 'unknown_dependencies', 'ids', v_unknown); end if;

  -- a new task is behind all of its priority
  select count(*) filter (where priority >= (p_task ->> 'exact')::integer and id <> v_id), count(*) filter (where id <> v_id) into v_ahead, v_queued from tasks where status = 'queued';
  if v_queued >= (p_task ->> 'queue_max')::integer then return jsonb_build_object('outcome', 'queue_full', 'queued', v_queued); end if;

  if p_key is not null then
    -- another transaction that takes the same key waits here for this one
    insert into idempotency_keys (user_id, key, body_hash, task_id) values (v_user, p_key, p_body_hash, v_id)
    on conflict (user_id, key) do update set body_hash = excluded.body_hash, task_id = excluded.task_id, created_at = now()
      where idempotency_keys.created_at <= now() - interval '24 hours' or idempotency_keys.task_id = excluded.task_id;
    if not found then return jsonb_build_object('outcome', 'key_taken'); end if;
  end if;

  insert into tasks (id, name, type, description, priority, user_id, template, template_hash, parameters, plan, request, metadata, agent_assigned)
  values (v_id, p_task ->> 'name', p_task ->> 'template', p_task ->> 'description', (p_task ->> 'exact')::integer, v_user, p_task ->> 'template', p_task ->> 'template_hash',
    p_task -> 'parameters', p_task -> 'plan', p_task -> 'request', p_task -> 'metadata', p_task ->> 'agent_assigned')
  on conflict (id) do nothing returning created_at into v_created;
  if v_created is null then
    select created_at into v_created from tasks where id = v_id;
  else
    insert into task_dependencies (parent_task_id, child_task_id) select parent, v_id from unnest(p_depends_on) as parent;
    insert into outbox (kind, workflow_id, task_id, payload, next_at) values ('start', 'task-' || v_id, v_id, '{"attempt": 1}', clock_timestamp() + p_grace);
    insert into task_events (task_id, kind, data) values (v_id, 'queued', jsonb_build_object('attempt', 1, 'priority', p_task -> 'exact'));
    if p_grace <= interval '0' then perform pg_notify('outbox', ''); end if;
  end if;
  if cardinality(p_depends_on) > 0 then
    select coalesce(jsonb_agg(id order by id) filter (where status <> 'completed'), '[]'), bool_or(status in ('failed', 'cancelled')) into v_open, v_failed
    from tasks where id = any(p_depends_on);
  end if;
  return jsonb_build_object('outcome', 'created', 'createdAt', v_created, 'blockedBy', v_open, 'blocked', v_failed, 'position', v_ahead + 1);
end $$;
