-- Up Migration
-- What a decision looks at of the tasks that need something does not grow with their number.

create index line_needing_age on line (level, entered_at, id) where state = 'waiting' and not held and not_before < 'infinity' and locks is not null;

-- Where the walk by turns through a level of more than 500 such rows has come to, and of each model the row that it has found to lack
-- something. Written under the decision lock alone; lost in a crash, it begins anew.
create unlogged table needing_walk (
  level integer primary key,
  entered_at timestamptz not null,
  id bigint not null,
  lacks bigint[] not null
);

-- As in 00032_given_and_lacking.sql, and of a level at most 1,500 rows are looked at, and one for each model: all of one with at most 500, of a larger one
-- the first 500 in order, the first 500 by arrival, and the 500 by arrival that come next after those of the decision before. So rows that lack something,
-- or that can never have it, hide what is behind them until the walk has come round to it, and no longer; what was found by it to lack something is kept
-- until it does not any more, since a reservation that came and went would fill no pool.
create or replace function line_needing(p_now timestamptz, p_held held_now) returns table (id bigint, lacks boolean) language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
  v_paused boolean;
  v_stuck uuid[];
  v_locks text[];
  v_amounts jsonb;
  v_large integer[];
begin
  if not exists (select 1 from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null) then return; end if;
  v_paused := exists (select 1 from queue_pauses);
  v_stuck := array(
    select t.id from tasks t where t.id = any(p_held.holders) and not exists (select 1 from line l where l.task_id = t.id and l.state in ('granted', 'running'))
      and (t.held_at is not null or (v_paused and (select bool_and(line_paused(l.pool, l.key)) from line l where l.task_id = t.id and l.state = 'waiting'))));
  v_locks := array(select h.name from holds h where h.task_id = any(v_stuck));
  select coalesce(jsonb_object_agg(a.pool, a.amount), '{}') into v_amounts from (select o.pool, sum(o.amount) as amount from allocations o where o.task_id = any(v_stuck) group by o.pool) a;
  v_large := array(
    select v.level from generate_series(1, 10) v (level)
    where exists (select 1 from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and l.level = v.level
      order by l.exact desc, l.pos, l.id offset 500));
  return query
  with looked as materialized (
    select case when v.level = any(v_large) then 1 else 0 end as walk, f.* from generate_series(1, 10) v (level) cross join lateral (
      select l.id, l.level, l.exact, l.pos, l.entered_at, l.not_before, l.task_id, l.pool, l.key, l.locks, l.amounts from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and l.level = v.level
      order by l.exact desc, l.pos, l.id limit 500) f
    union all
    select 2, f.* from unnest(v_large) v (level) cross join lateral (
      select l.id, l.level, l.exact, l.pos, l.entered_at, l.not_before, l.task_id, l.pool, l.key, l.locks, l.amounts from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and l.level = v.level
      order by l.entered_at, l.id limit 500) f
    union all
    select 3, f.* from unnest(v_large) v (level) left join needing_walk w on w.level = v.level cross join lateral (
      select l.id, l.level, l.exact, l.pos, l.entered_at, l.not_before, l.task_id, l.pool, l.key, l.locks, l.amounts from line l
      where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and l.level = v.level
        and (l.entered_at, l.id) > (coalesce(w.entered_at, '-infinity'), coalesce(w.id, 0))
      order by l.entered_at, l.id limit 500) f
    union all
    select 4, l.id, l.level, l.exact, l.pos, l.entered_at, l.not_before, l.task_id, l.pool, l.key, l.locks, l.amounts from needing_walk w cross join unnest(w.lacks) k (id) join line l on l.id = k.id
    where w.level = any(v_large) and l.level = w.level and l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null
  ), asked as materialized (
    -- once for all that ask for the same
    select d.amounts, bool_or((p_held.pools -> a.key ->> 'total')::numeric - coalesce((v_amounts ->> a.key)::numeric, 0) < a.value::numeric) as never,
      bool_or(coalesce((p_held.pools -> a.key ->> 'free')::numeric, 0) < a.value::numeric) as lacks
    from (select distinct l.amounts from looked l where l.amounts is not null) d cross join lateral jsonb_each_text(d.amounts) a group by d.amounts
  ), needing as materialized (
    select l.walk, l.id, l.level, l.exact, l.pos, l.entered_at, l.key,
      case
        when l.not_before > p_now or l.task_id = any(p_held.holders) or 'gives way:' || l.task_id = any(l.locks) or (v_paused and line_paused(l.pool, l.key)) then null
        when a.never or l.locks && v_locks then null
        else coalesce(a.lacks, false) or l.locks && p_held.taken
      end as lacks
    from looked l left join asked a on a.amounts = l.amounts
  ), walked as (
    insert into needing_walk as w (level, entered_at, id, lacks)
    select v.level, coalesce(t.entered_at, '-infinity'), coalesce(t.id, 0), coalesce(k.ids, '{}')
    from unnest(v_large) v (level)
    left join (
      select n.level, (array_agg(n.entered_at order by n.entered_at, n.id))[500] as entered_at, (array_agg(n.id order by n.entered_at, n.id))[500] as id
      from needing n where n.walk = 3 group by n.level) t on t.level = v.level
    left join (
      select f.level, array_agg(f.id) as ids from (
        select distinct on (n.level, n.key) n.level, n.id from needing n where n.walk >= 3 and n.lacks order by n.level, n.key, n.walk desc, n.entered_at, n.id) f
      group by f.level) k on k.level = v.level
    on conflict (level) do update set entered_at = excluded.entered_at, id = excluded.id, lacks = excluded.lacks
  ), ranked as (
    select n.id, n.lacks, row_number() over (partition by n.level, n.lacks, case when n.lacks then n.key end order by n.exact desc, n.pos, n.id) as place from needing n where n.walk <= 1 and n.lacks is not null
    union all
    select n.id, n.lacks, row_number() over (partition by n.walk, n.level, n.lacks, case when n.lacks then n.key end order by n.entered_at, n.id) from needing n where n.walk <> 1 and n.lacks is not null
  )
  select distinct r.id, r.lacks from ranked r where r.place <= case when r.lacks then 1 else 64 end;
end $$;
