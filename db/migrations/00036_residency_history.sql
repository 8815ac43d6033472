-- Up Migration
-- What hosts had in memory and when, for people who look back. Kept by triggers, since residency rows are removed by a drain, a lost host and a correction.
create table residency_spans (
  id bigint generated always as identity primary key,
  host text not null,
  key text not null,
  model text not null,
  state text not null check (state in ('loading', 'serving', 'draining')),
  size_bytes bigint,
  began_at timestamptz not null default clock_timestamp(),
  -- null: it is so now
  ended_at timestamptz
);
create unique index residency_spans_open on residency_spans (host, key) where ended_at is null;
create index residency_spans_time on residency_spans (host, began_at);

create function residency_span() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and new.state = old.state then return null; end if;
  update residency_spans set ended_at = clock_timestamp() where host = coalesce(new.host, old.host) and key = coalesce(new.key, old.key) and ended_at is null;
  if tg_op = 'DELETE' then return null; end if;
  insert into residency_spans (host, key, model, state, size_bytes) values (new.host, new.key, new.model, new.state, new.size_bytes);
  return null;
end $$;
create trigger residency_span after insert or update of state or delete on residency for each row execute function residency_span();

insert into residency_spans (host, key, model, state, size_bytes, began_at) select host, key, model, state, size_bytes, since from residency;
create index task_executions_completed on task_executions (completed_at);
