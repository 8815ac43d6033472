-- Up Migration
-- Who changed what; entries are added and never changed.
create table audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- such as configuration_changed
  action text not null,
  -- null: the system itself
  user_id text,
  details jsonb not null default '{}',
  request_id text,
  address text
);
create index audit_log_action on audit_log (action, id);
create index audit_log_user on audit_log (user_id, id);

-- The configuration with which each main started last, so that a change is seen.
create table configurations (
  -- api, engine, host:<id>
  main text primary key,
  -- by key: what may be shown of the value, and a hash where that hides something
  settings jsonb not null,
  -- of those hashes
  salt bytea not null,
  seen_at timestamptz not null default clock_timestamp()
);
