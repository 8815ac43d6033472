-- Up Migration
-- Moves that people make, and the reconciler. p_user null: an administrator, who may move every task.
create function task_cancel(p_task uuid, p_user text) returns jsonb language plpgsql as $$
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
    delete from holds where task_id = p_task;
    perform pg_notify('line', '');
  end if;
  return jsonb_build_object('outcome', case t.status when 'queued' then 'cancelled' else 'stopping' end);
end $$;

-- p_pos null: the place among tasks of the same priority stays.
create function task_prioritise(p_task uuid, p_user text, p_exact integer, p_pos numeric) returns jsonb language plpgsql as $$
declare
  t record;
  v_level integer;
begin
  select status, priority, pos into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status in ('completed', 'failed', 'cancelled') then return jsonb_build_object('outcome', 'finished', 'status', t.status); end if;
  if t.priority = p_exact and (p_pos is null or p_pos = t.pos) then return jsonb_build_object('outcome', 'unchanged'); end if;
  update tasks set priority = p_exact, pos = coalesce(p_pos, pos), updated_at = clock_timestamp() where id = p_task returning priority_level into v_level;
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

-- Places a task directly before or after another one that is not final, with the other one's priority.
create function task_move(p_task uuid, p_user text, p_neighbour uuid, p_side text) returns jsonb language plpgsql as $$
declare
  n record;
  v_other numeric;
  v_pos numeric;
begin
  select priority, pos into n from tasks where id = p_neighbour and id <> p_task and status in ('queued', 'running');
  if not found then return jsonb_build_object('outcome', 'neighbour_gone'); end if;
  if p_side = 'before' then
    select max(pos) into v_other from tasks where status in ('queued', 'running') and priority = n.priority and pos < n.pos and id <> p_task;
    v_pos := coalesce((v_other + n.pos) * 0.5, n.pos - 1);
  else
    select min(pos) into v_other from tasks where status in ('queued', 'running') and priority = n.priority and pos > n.pos and id <> p_task;
    v_pos := coalesce((v_other + n.pos) * 0.5, n.pos + 0.5); -- less than the next to arrive
  end if;
  return task_prioritise(p_task, p_user, n.priority, v_pos);
end $$;

create function task_retry(p_task uuid, p_user text) returns jsonb language plpgsql as $$
declare
  t record;
begin
  select status, attempt into t from tasks where id = p_task and (p_user is null or user_id = p_user) for no key update;
  if not found then return jsonb_build_object('outcome', 'not_found'); end if;
  if t.status not in ('failed', 'cancelled') then return jsonb_build_object('outcome', 'not_retryable', 'status', t.status); end if;
  update tasks set status = 'queued', attempt = attempt + 1, pos = nextval('task_pos'), first_run_id = null, runs = '{}', cancel_requested_at = null,
    started_at = null, completed_at = null, result = null, error = null, updated_at = clock_timestamp()
  where id = p_task;
  delete from outbox where task_id = p_task; -- a cancel of the attempt before must not reach this one
  insert into outbox (kind, workflow_id, task_id, payload) values ('start', 'task-' || p_task, p_task, jsonb_build_object('attempt', t.attempt + 1));
  insert into task_events (task_id, kind, data) values (p_task, 'retried', jsonb_build_object('attempt', t.attempt + 1));
  perform pg_notify('outbox', '');
  return jsonb_build_object('outcome', 'retried', 'attempt', t.attempt + 1);
end $$;

-- Gives a task that has no workflow to the outbox again.
create function task_requeue(p_task uuid, p_attempt integer) returns boolean language plpgsql as $$
begin
  perform 1 from tasks where id = p_task and attempt = p_attempt and status in ('queued', 'running') for no key update;
  if not found or exists (select 1 from outbox where task_id = p_task and kind = 'start') then return false; end if;
  insert into outbox (kind, workflow_id, task_id, payload) values ('start', 'task-' || p_task, p_task, jsonb_build_object('attempt', p_attempt));
  perform pg_notify('outbox', '');
  return true;
end $$;

-- A run that was reset outside works for a task that is final.
create function task_reopen_run(p_task uuid, p_attempt integer, p_run text) returns boolean language plpgsql as $$
begin
  perform 1 from tasks where id = p_task and attempt = p_attempt and status in ('completed', 'failed', 'cancelled') and not p_run = any(runs) for no key update;
  if not found then return false; end if;
  perform task_reopen(p_task, p_run);
  return true;
end $$;
