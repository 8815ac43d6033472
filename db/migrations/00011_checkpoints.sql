-- Up Migration
-- What was queued at a moment, in which order, and what the templates were; numbered from 1 upwards.
create table checkpoints (
  id integer generated always as identity primary key,
  name text,
  created_by text not null,
  created_at timestamptz not null default now(),
  -- {definitions: [...], queue: [...], locks: [...]}
  content jsonb not null
);

-- Writes the present state, read by one statement and so as of one moment. p_definitions: the templates as the caller has them.
create function checkpoint_create(p_name text, p_user text, p_definitions jsonb) returns setof checkpoints language sql volatile as $$
  insert into checkpoints (name, created_by, content)
  select p_name, p_user, jsonb_build_object(
    'definitions', p_definitions,
    'queue', (select coalesce(jsonb_agg(jsonb_build_object('task_id', t.id, 'name', t.name, 'template', t.template, 'template_hash', t.template_hash, 'status', t.status, 'attempt', t.attempt,
        'exact', t.priority, 'pos', t.pos::text, 'agent_assigned', t.agent_assigned,
        'depends_on', (select coalesce(jsonb_agg(d.parent_task_id order by d.parent_task_id), '[]') from task_dependencies d where d.child_task_id = t.id))
        order by t.status = 'running' desc, t.priority desc, t.pos, t.id), '[]')
      from tasks t where t.status in ('queued', 'running')),
    'locks', (select coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'task_id', h.task_id) order by h.name), '[]') from holds h))
  returning *
$$;

-- Gives one task the place that it had. Work that was done is not undone: a task that runs or has completed goes on as it is.
create function checkpoint_restore_task(p_task uuid, p_exact integer, p_pos numeric) returns text language plpgsql as $$
declare
  t record;
  v_outcome jsonb;
begin
  select status, priority, pos into t from tasks where id = p_task for no key update;
  if not found then return 'gone'; end if;
  if t.status in ('running', 'completed') then return 'went_on'; end if;
  if t.status in ('failed', 'cancelled') then
    perform task_retry(p_task, null);
    perform task_prioritise(p_task, null, p_exact, p_pos);
    return 'queued_again';
  end if;
  v_outcome := task_prioritise(p_task, null, p_exact, p_pos);
  return case v_outcome ->> 'outcome' when 'changed' then 'moved' else 'unchanged' end;
end $$;
