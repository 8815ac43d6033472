-- Up Migration
-- The last forecast of the whole line, one row: an array in the order of predicted starts, with times in milliseconds from made_at (contract/forecast.ts).
create table forecasts (
  id integer primary key default 1 check (id = 1),
  version bigint not null,
  made_at timestamptz not null,
  entries jsonb not null
);

-- How long steps take: one row per group of like steps, from the narrow (template, step, model) to the wide (type), see scheduling/durations.ts.
create table duration_stats (
  group_id text primary key,
  samples double precision not null,
  log_mean double precision not null,
  log_variance double precision not null,
  -- by how much the spread below and above the middle has to be stretched so that 80 of 100 steps end inside
  stretch_low double precision not null,
  stretch_high double precision not null,
  updated_at timestamptz not null default now()
);

-- Up to which transaction the finished steps are learned from.
create table forecast_cursor (one boolean primary key default true check (one), txid bigint not null);
insert into forecast_cursor (txid) values (0);

-- What was predicted of a step when it was first seen in the line, until it ends and the prediction is judged.
create table forecast_promises (
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  step text not null,
  made_at timestamptz not null,
  -- of the start and of the end, in milliseconds from made_at: expected value and standard deviation before any stretching
  start_ms double precision not null,
  start_sd_ms double precision not null,
  finish_ms double precision not null,
  finish_sd_ms double precision not null,
  primary key (task_id, attempt, step)
);

-- How far intervals have to be stretched, by how far ahead they look; learned from promises.
create table forecast_stretch (
  -- start or finish
  kind text not null,
  -- the predicted time ahead is below 10 s, 1 min, 10 min, 1 h, or more: 0 to 4
  horizon integer not null,
  low double precision not null,
  high double precision not null,
  -- promises judged, and those of them that were kept
  judged bigint not null,
  kept bigint not null,
  primary key (kind, horizon)
);
