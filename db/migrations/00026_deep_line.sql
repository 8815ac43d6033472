-- Up Migration
-- A forecast of a long line is written every few seconds and read by every API process. It is kept as few texts of JSON, each of many entries in order, which
-- cost neither a row nor a conversion for each entry. They can be made again at any time, so they are not logged: after a crash they are gone, and so few are
-- there that whoever reads them sees it (forecasts.chunks).
alter table forecasts drop column entries;
delete from forecasts;
alter table forecasts add column chunks integer not null;
create unlogged table forecast_entries (
  chunk integer primary key,
  -- db/forecast-text.ts
  entries text not null
);

create function forecast_write(p_made_at timestamptz, p_texts text[]) returns bigint language plpgsql volatile as $$
declare
  v_version bigint;
begin
  insert into forecasts (version, made_at, chunks) values (1, p_made_at, cardinality(p_texts))
  on conflict (id) do update set version = forecasts.version + 1, made_at = excluded.made_at, chunks = excluded.chunks returning version into v_version;
  insert into forecast_entries (chunk, entries) select n, entries from unnest(p_texts) with ordinality t (entries, n)
  on conflict (chunk) do update set entries = excluded.entries;
  delete from forecast_entries where chunk > cardinality(p_texts);
  return v_version;
end $$;

-- What decisions about the line look at, beside its rows; for the forecast. No lock is taken, so it may be a moment apart from what a decision sees.
create function forecast_state() returns jsonb language plpgsql stable as $$
declare
  v_now timestamptz := clock_timestamp();
  v_keys text[] := array(select key from line where state in ('waiting', 'granted', 'running') and key is not null union select key from residency);
begin
  return jsonb_build_object(
    -- tasks between two steps, or between two attempts of one
    'between', (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'attempt', attempt, 'level', priority_level, 'exact', priority, 'held', held_at is not null)), '[]') from (
      select * from tasks t where t.status = 'running' and t.cancel_requested_at is null
        and not exists (select 1 from line l where l.task_id = t.id and l.attempt = t.attempt and l.state in ('waiting', 'granted', 'running')) order by pos limit 1000) b),
    'dependencies', (select coalesce(jsonb_agg(jsonb_build_array(d.child_task_id, d.parent_task_id, p.status in ('failed', 'cancelled'))), '[]') from (
        select distinct task_id from line where state = 'waiting' and not_before = 'infinity' limit 20000) w
      join task_dependencies d on d.child_task_id = w.task_id join tasks p on p.id = d.parent_task_id where p.status <> 'completed'),
    'rights', (select coalesce(jsonb_agg(jsonb_build_array(name, task_id)), '[]') from holds),
    'generalSlots', (select coalesce(sum(slots), 0) from engines where lease_until > v_now),
    'hosts', (select coalesce(jsonb_agg(jsonb_build_object('host', id, 'hostEpoch', epoch, 'parallel', parallel, 'modelsMax', models_max, 'roomBytes', room_bytes,
        'budgetBytes', budget_bytes, 'paused', exists (select 1 from queue_pauses where scope = 'host:' || id)) order by id), '[]')
      from hosts where ready and lease_until > v_now),
    'residency', (select coalesce(jsonb_agg(jsonb_build_object('host', c.host, 'hostEpoch', c.host_epoch, 'key', c.key, 'model', jsonb_build_object('name', c.model, 'numCtx', c.num_ctx),
        'state', c.state, 'sinceMs', greatest(0, extract(epoch from v_now - c.since) * 1000),
        'servedMs', coalesce(s.served_ms, 0) + coalesce((select sum(greatest(0, extract(epoch from v_now - l.started_at))) * 1000 / h.parallel from line l
          where l.state in ('granted', 'running') and l.pool = 'model' and l.host = c.host and l.host_epoch = c.host_epoch and l.key = c.key), 0))), '[]')
      from residency c join hosts h on h.id = c.host and h.epoch = c.host_epoch
      left join residency_service s on s.host = c.host and s.host_epoch = c.host_epoch and s.key = c.key where h.lease_until > v_now),
    'openOrders', (select coalesce(jsonb_agg(residency_order_json(o) || jsonb_build_object('forMs',
        coalesce((select greatest(0, extract(epoch from v_now - c.since) * 1000) from residency c where c.host = o.host and c.key = o.load_key and c.state = 'loading'), 0))), '[]')
      from residency_orders o where o.state = 'open'),
    'costs', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key, 'loadMs', load_ms, 'bytes', bytes)), '[]') from costs_of(v_keys)),
    'backingOff', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'key', key, 'forMs', extract(epoch from until - v_now) * 1000)), '[]') from residency_backoff where until > v_now),
    'paused', exists (select 1 from queue_pauses where scope = 'queue'),
    'pausedModels', (select coalesce(jsonb_agg(substr(scope, 7)), '[]') from queue_pauses where scope like 'model:%'));
end $$;

-- The live rows of the line, as arrays in texts of so many each, so that whoever reads a long line takes one text apart at a time. Rows beyond p_limit are left
-- out, the last ones of the line first.
create function forecast_rows(p_limit integer, p_chunk integer) returns setof text language sql stable as $$
  with live as materialized (
    select l.*, row_number() over (order by l.pos, l.id) as place from line l where l.state in ('waiting', 'granted', 'running')
    order by l.state in ('granted', 'running') desc, l.level desc, l.exact desc, l.pos, l.id limit p_limit
  ), clock as materialized (select clock_timestamp() as now, held_now() as holds)
  select json_agg(json_build_array(task_id, attempt, step, pool, key, state, level, exact, place, floor(greatest(0, extract(epoch from clock.now - entered_at)) * 1000)::bigint, continues, held,
      locks, case when locks is not null and state = 'waiting' and not task_id = any((clock.holds).holders) then needs_lack(locks, amounts, clock.holds) end, host,
      floor(greatest(0, extract(epoch from clock.now - coalesce(started_at, clock.now))) * 1000)::bigint,
      case when not_before = 'infinity' then null when not_before > clock.now then ceil(extract(epoch from not_before - clock.now) * 1000)::bigint else 0 end))::text
  from live, clock group by (place - 1) / p_chunk
$$;
drop function forecast_read(integer);
