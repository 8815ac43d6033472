-- Up Migration
-- A replay is a task of its own, made of another one's input; the chain of replays has one first task.
alter table tasks add column replayed_from uuid references tasks (id) on delete set null;
alter table tasks add column origin_id uuid references tasks (id) on delete set null;
create index tasks_replayed_from on tasks (replayed_from) where replayed_from is not null;
create index tasks_origin on tasks (origin_id) where origin_id is not null;

-- Lists are filtered in the index alone, and only the rows of a page are read: a row with its plan has kilobytes.
create index tasks_list on tasks (created_at desc, id desc) include (status, template, type, priority_level, user_id);
create index tasks_user_list on tasks (user_id, created_at desc, id desc) include (status, template, type, priority_level);
create index tasks_template_list on tasks (template, created_at desc, id desc) include (status, type, priority_level, user_id);
drop index tasks_created;
drop index tasks_user_created;
-- the queue in its order
create index tasks_queue on tasks (priority desc, pos, id) where status = 'queued';

-- As in 00012_dependencies.sql, with the task that this one replays. Without `queue_max` neither the bound nor the position is looked at.
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

-- Stores several tasks in one transaction, each as task_create does, in the order given; the outbox starts them. An item beyond the bound of the
-- queue, or with a taken key, is told so and harms no other. p_items: [{task, depends_on, key, body_hash}], the hash as base64.
create function task_create_many(p_items jsonb, p_owner text, p_queue_max integer) returns jsonb language plpgsql as $$
declare
  i jsonb;
  v_one jsonb;
  v_done jsonb := '[]';
  v_queued integer;
  v_ahead jsonb;
begin
  select count(*) into v_queued from tasks where status = 'queued';
  -- how many are queued of each priority, to tell the positions of the new ones
  select coalesce(jsonb_object_agg(priority, count), '{}') into v_ahead from (select priority, count(*) as count from tasks where status = 'queued' group by priority) q;
  for i in select * from jsonb_array_elements(p_items) loop
    if v_queued >= p_queue_max then
      v_one := jsonb_build_object('outcome', 'queue_full', 'queued', v_queued);
    else
      v_one := task_create(i -> 'task', array(select jsonb_array_elements_text(i -> 'depends_on'))::uuid[], p_owner, i ->> 'key', decode(i ->> 'body_hash', 'base64'), interval '0');
      if v_one ->> 'outcome' = 'created' then
        v_queued := v_queued + 1;
        v_ahead := jsonb_set(v_ahead, array[i -> 'task' ->> 'exact'], to_jsonb(coalesce((v_ahead ->> (i -> 'task' ->> 'exact'))::integer, 0) + 1));
        v_one := v_one || jsonb_build_object('position',
          (select sum(value::integer) from jsonb_each_text(v_ahead) where key::integer >= (i -> 'task' ->> 'exact')::integer));
      end if;
    end if;
    v_done := v_done || jsonb_build_array(v_one);
  end loop;
  return v_done;
end $$;
