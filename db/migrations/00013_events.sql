-- Up Migration
-- Events are read in the order (txid, id): the number of the transaction that wrote an event, then its own. A reader looks only below the oldest
-- transaction of this database that is still open, so nothing appears behind a place that was read already; ids alone are given before their commit
-- and would not do.
-- Every move of a task locks its row before it writes, so that the events of a task are in the order of its moves.
alter table task_events add column txid bigint not null default 0;
alter table task_events alter column txid set default (pg_current_xact_id()::text::bigint);
create index task_events_order on task_events (txid, id);
create index task_events_task_order on task_events (task_id, txid, id);
drop index task_events_task;

create function task_events_told() returns trigger language plpgsql as $$
begin
  perform pg_notify('events', '');
  return null;
end $$;
create trigger task_events_told after insert on task_events for each statement execute function task_events_told();

-- Numbers of transactions of another cluster, which a restored database has, are beyond those of this one and would hide their events.
create function task_events_adopt() returns bigint language sql volatile as $$
  with adopted as (update task_events set txid = 0 where txid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint returning 1)
  select count(*) from adopted
$$;

-- Below this number every transaction of this database has ended, and a statement that begins later sees what it wrote. Transactions of other
-- databases of the server do not count: one that is open for an hour would hold up every stream. A transaction has its number before a later one
-- gets its own, so that none between the two looks is missed. Needs to see the sessions of the role that writes events, which is our own.
create function task_events_horizon() returns bigint language plpgsql volatile as $$
declare
  v_next bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  v_epoch bigint := (v_next >> 32) << 32;
  v_open bigint;
begin
  -- a session shows the lower half of its number
  select min(case when v_epoch + x > v_next then v_epoch + x - 4294967296 else v_epoch + x end) into v_open
  from (select backend_xid::text::bigint as x from pg_stat_activity where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()) a;
  return least(v_next, v_open);
end $$;

-- One page of events after a place, and how far everything could be seen.
create function task_events_page(p_txid bigint, p_id bigint, p_owner text, p_tasks uuid[], p_kinds text[], p_limit integer, p_bytes_max integer) returns jsonb language plpgsql volatile as $$
declare
  v_horizon bigint := task_events_horizon();
  v_page jsonb;
begin
  -- a statement of its own, so that it sees all that had ended when the horizon was found
  with found as (
    select e.txid, e.id, e.task_id, t.user_id, e.at, e.kind, e.data,
      sum(octet_length(e.data::text)) over (order by e.txid, e.id rows unbounded preceding) - octet_length(e.data::text) as bytes_before
    from (
      select e.* from task_events e
      where (e.txid, e.id) > (p_txid, p_id) and e.txid < v_horizon and (p_tasks is null or e.task_id = any(p_tasks)) and (p_kinds is null or e.kind = any(p_kinds))
        and (p_owner is null or exists (select 1 from tasks o where o.id = e.task_id and o.user_id = p_owner))
      order by e.txid, e.id limit p_limit
    ) e join tasks t on t.id = e.task_id)
  select jsonb_build_object('horizon', v_horizon::text, 'fetched', (select count(*) from found),
    'hidden', exists (select 1 from task_events where txid >= v_horizon),
    'rows', (select coalesce(jsonb_agg(jsonb_build_object('txid', txid::text, 'id', id::text, 'taskId', task_id, 'userId', user_id, 'at', at, 'kind', kind, 'data', data) order by txid, id), '[]')
      from found where bytes_before < p_bytes_max)) into v_page;
  return v_page;
end $$;

-- What a running step tells while it runs: output and progress. Only who holds its claim is heard.
create function line_note(p_row bigint, p_token uuid, p_events jsonb) returns boolean language plpgsql as $$
begin
  insert into task_events (task_id, kind, data)
  select l.task_id, e ->> 'kind', e -> 'data' from line l, jsonb_array_elements(p_events) with ordinality x (e, n)
  where l.id = p_row and l.claim_token = p_token and l.state = 'running' order by n;
  return found;
end $$;

drop function line_finish(bigint, uuid, text, jsonb, integer, jsonb, text, boolean);
-- p_last: every other step has ended, so the task completes in the same transaction, and its dependents are woken by it.
-- p_events: what the step has told and nobody has written yet.
create function line_finish(p_row bigint, p_token uuid, p_type text, p_output jsonb, p_output_bytes integer, p_usage jsonb, p_next_key text, p_last boolean, p_events jsonb default '[]')
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
  if p_last then p_last := line_close(r.task_id, r.attempt, r.run_id, r.run_id, 'completed', null); end if;
  return jsonb_build_object('execution_id', v_execution, 'output_bytes', p_output_bytes, 'closed', p_last);
end $$;

drop function line_fail(bigint, uuid, text, text, jsonb, jsonb);
create function line_fail(p_row bigint, p_token uuid, p_type text, p_status text, p_error jsonb, p_usage jsonb, p_events jsonb default '[]') returns boolean language plpgsql as $$
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
  perform pg_notify('line', '');
  return true;
end $$;
