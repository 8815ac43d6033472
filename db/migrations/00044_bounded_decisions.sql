-- Up Migration
-- What a decision looks at stays bounded however many models are waited for, and however many tasks wait for one that runs.

-- Where the walk by turns through more than 300 keys has come to.
create table key_walk (one boolean primary key default true check (one), after text not null);
insert into key_walk (after) values ('');

-- The keys that a decision looks at: all that are served, and of those that steps wait for all, or where there are more than 300, the next 300 by turns. So one
-- who waits for a model that few wait for is passed over for some decisions at most. p_free: as in line_heads.
create function line_keys(p_free jsonb) returns text[] language plpgsql as $$
declare
  v_keys text[];
  v_after text;
begin
  -- of a query without end only as much is done as is taken
  v_keys := array(with recursive keys (key) as (
      (select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' order by l.key limit 1)
      union all
      select n.key from keys k cross join lateral (
        select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key > k.key order by l.key limit 1) n
    ) select k.key from keys k limit 301);
  if cardinality(v_keys) <= 300 then return v_keys; end if;
  select w.after into v_after from key_walk w;
  v_keys := array(with recursive keys (key) as (
      (select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key > v_after order by l.key limit 1)
      union all
      select n.key from keys k cross join lateral (
        select l.key from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.pool = 'model' and l.key > k.key order by l.key limit 1) n
    ) select k.key from keys k limit 300)
    || case when v_after = '' then '{}' else v_keys[1:300] end;
  v_keys := v_keys[1:300];
  update key_walk set after = v_keys[300];
  return array(select distinct k.key from (select unnest(v_keys) as key union select jsonb_object_keys(p_free)) k where k.key <> '');
end $$;

-- As in 00021_holds.sql, of the keys that line_keys gives.
create or replace function line_heads(p_now timestamptz, p_free jsonb, p_max_waits double precision[]) returns setof bigint language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  v_held held_now := held_now();
  v_keys text[] := line_keys(p_free);
begin
  -- not a function of SQL: its plan is kept
  return query
  with keys (key) as (
    select unnest(v_keys)
  ), wanted as materialized (
    select k.key, p_free ? k.key as served, greatest(1, coalesce((p_free ->> k.key)::integer, 1)) as n
    from keys k where not exists (select 1 from queue_pauses where scope = 'model:' || key_model(k.key))
  ), general as materialized (
    select (p_free ->> '')::integer as n where (p_free ->> '')::integer > 0
  ), levels as materialized (
    select level, p_max_waits[level] as wait_ms, p_now - p_max_waits[level] * interval '1 millisecond' as raised_before, greatest(1, 8 - level) as raises_max
    from generate_series(1, 10) level
  ), oldest as materialized (
    select w.key, w.served, v.level, w.n, v.wait_ms, v.raises_max, a.id, a.pos, a.entered_at from wanted w cross join levels v cross join lateral (
      select l.id, l.pos, l.entered_at from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key and l.level = v.level and l.entered_at <= v.raised_before
        and (l.locks is null or l.task_id = any(v_held.holders))
      order by l.entered_at limit w.n) a
    where v.level <= 8
    union all
    select null, true, v.level, g.n, v.wait_ms, v.raises_max, a.id, a.pos, a.entered_at from general g cross join levels v cross join lateral (
      select l.id, l.pos, l.entered_at from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level and l.entered_at <= v.raised_before
        and (l.locks is null or l.task_id = any(v_held.holders))
      order by l.key, l.entered_at limit g.n) a
    where v.level <= 8
  ), best as materialized (
    -- where all places can be filled with raised rows: before which moment those entered that were raised as often as the last of them
    select key, level, n, p_now - wait_ms * least(floor(extract(epoch from p_now - max(entered_at)) * 1000 / wait_ms), raises_max) * interval '1 millisecond' as before
    from oldest where served group by key, level, n, wait_ms, raises_max having count(*) >= n
  )
  select id from oldest where served
  union
  select id from (select distinct on (key) id from oldest where not served
    order by key, least(8, level + least(floor(extract(epoch from p_now - entered_at) * 1000 / wait_ms), raises_max)) desc, pos) o
  union
  select a.id from best b cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = b.key and l.level = b.level and l.entered_at <= b.before
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.pos, l.id limit b.n) a
  where b.key is not null
  union
  select a.id from best b cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = b.level and l.entered_at <= b.before
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.key, l.pos, l.id limit b.n) a
  where b.key is null
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit 1) a
  where not w.served
  union
  select a.id from wanted w cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'model' and l.key = w.key and l.level = v.level
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served
  union
  select a.id from general g cross join levels v cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.pool = 'general' and l.key is null and l.level = v.level
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.key, l.level desc, l.exact desc, l.pos, l.id limit g.n) a
  union
  select a.id from wanted w cross join lateral (
    select l.id from line l
    where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.not_before <= p_now and l.continues and l.key = w.key
      and (l.locks is null or l.task_id = any(v_held.holders))
    order by l.level desc, l.exact desc, l.pos, l.id limit w.n) a
  where w.served;
end $$;

-- As in 00018_scheduling.sql; of the tasks that wait for one that runs a hundred are looked at.
create or replace function line_soon() returns table (key text, in_ms double precision) language plpgsql stable as $$
begin
  return query
  with running as (
    select l.task_id, l.attempt, l.step, t.plan -> 'steps' as steps,
      greatest(0, 10000 - extract(epoch from clock_timestamp() - coalesce(l.started_at, l.granted_at, clock_timestamp())) * 1000)::double precision as left_ms
    from line l join tasks t on t.id = l.task_id and t.attempt = l.attempt
    where l.state in ('granted', 'running') and t.cancel_requested_at is null
  ), later as (
    select s -> 'model' as model, r.left_ms + 10000 * greatest(0, p.n - 1 - here.n) as in_ms
    from running r
    cross join lateral (select n from jsonb_array_elements(r.steps) with ordinality h (s, n) where s ->> 'id' = r.step) here
    cross join lateral jsonb_array_elements(r.steps) with ordinality p (s, n)
    where p.n > here.n and p.s ->> 'pool' = 'model'
      and not exists (select 1 from line x where x.task_id = r.task_id and x.attempt = r.attempt and x.step = p.s ->> 'id')
  ), dependent as (
    select w.key, max(r.left_ms + 10000 * (jsonb_array_length(r.steps) - 1)) as in_ms
    from running r cross join lateral (
      select w.id, w.key from task_dependencies d
      join line w on w.task_id = d.child_task_id and w.state = 'waiting' and w.pool = 'model' and w.not_before = 'infinity' and not w.held
      where d.parent_task_id = r.task_id and not exists (select 1 from task_dependencies o join tasks p on p.id = o.parent_task_id
        where o.child_task_id = d.child_task_id and p.status not in ('running', 'completed'))
      limit 100) w
    group by w.id, w.key
  )
  select needed.key, min(needed.in_ms) from (
    select (l.model ->> 'name') || '~ctx' || (l.model ->> 'numCtx') as key, l.in_ms from later l
    union all select d.key, d.in_ms from dependent d) needed
  where needed.key is not null group by needed.key;
end $$;
