-- Up Migration
-- Stores a task with its dependencies, the promise of its start, its idempotency key and its first event: one transaction in one round trip.
-- The second call with one id finds what the first one stored, since the answer to a commit can get lost.
-- p_owner: whose tasks may be named as dependencies; null: anybody's. p_grace: how long the outbox leaves the start to the creator; zero tells it at once.
create function task_create(p_task jsonb, p_depends_on uuid[], p_owner text, p_key text, p_body_hash bytea, p_grace interval) returns jsonb language plpgsql as $$
declare
  v_id uuid := (p_task ->> 'id')::uuid;
  v_user text := p_task ->> 'user_id';
  v_created timestamptz;
  v_unknown jsonb;
  v_open jsonb := '[]';
  v_failed boolean := false;
  v_ahead integer;
begin
  select jsonb_agg(asked.id) into v_unknown from unnest(p_depends_on) as asked (id)
  where not exists (select 1 from tasks t where t.id = asked.id and (p_owner is null or t.user_id = p_owner));
  if v_unknown is not null then return jsonb_build_object('outcome', 'unknown_dependencies', 'ids', v_unknown); end if;

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
  -- a new task is behind all of its priority
  select count(*) into v_ahead from tasks where status = 'queued' and priority >= (p_task ->> 'exact')::integer and id <> v_id;
  return jsonb_build_object('outcome', 'created', 'createdAt', v_created, 'blockedBy', v_open, 'blocked', v_failed, 'position', v_ahead + 1);
end $$;
