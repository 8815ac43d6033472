-- Up Migration
-- What people have placed anew since a moment, for a look at a long queue that has seen the rest of it.
create index tasks_placed on tasks (placed_at) where placed_at is not null;

-- As in 00028_queue_fairness.sql; a task with a new place counts as placed.
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
    came_pos = case when t.came_pos = t.pos then p_unit + round(n::numeric / (cardinality(v_all) + 1), v_digits) else t.came_pos end,
    placed_at = clock_timestamp()
  from unnest(v_all) with ordinality a (id, n) where t.id = a.id;
  update line l set pos = t.pos from tasks t where t.id = l.task_id and l.task_id = any(v_all) and l.state = 'waiting';
  return true;
end $$;
