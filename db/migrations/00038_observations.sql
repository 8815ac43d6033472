-- Up Migration
-- What machines were like, every few seconds, for two days: one row for each machine and ten seconds, whoever of its processes was first.
create table machine_samples (
  machine text not null,
  at timestamptz not null,
  -- shares in use, 0 to 1
  cpu real not null,
  memory real not null,
  memory_bytes bigint not null,
  -- what the models of its hosts take; null where no host runs
  models_bytes bigint,
  -- mean of its GPUs; null: none is visible
  gpu real,
  gpu_memory real,
  -- [{index, name, utilization, usedBytes, totalBytes, celsius, watts}]
  gpus jsonb not null default '[]',
  -- why no GPU is visible
  gpu_note text,
  primary key (machine, at)
);
create index machine_samples_at on machine_samples (at);

-- What was collected, each interval: means, rates and shares of that interval.
create table performance_metrics (
  id bigint generated always as identity primary key,
  name text not null,
  labels jsonb not null default '{}',
  value double precision not null,
  at timestamptz not null
);
create index performance_metrics_name on performance_metrics (name, at);
create index performance_metrics_at on performance_metrics using brin (at);

-- How the whole was at each collection, and where its counters stood. The row is also the right to collect that interval.
create table system_state (at timestamptz primary key, state jsonb);

-- A rule that holds for a subject, from when until when.
create table alerts (
  id bigint generated always as identity primary key,
  rule text not null,
  subject text not null,
  message text not null,
  value double precision not null,
  threshold double precision not null,
  fired_at timestamptz not null default clock_timestamp(),
  cleared_at timestamptz
);
create unique index alerts_open on alerts (rule, subject) where cleared_at is null;
create index alerts_fired on alerts (fired_at);

-- Whether a part did its work in a minute. A minute without a row is one in which nobody could say so.
create table availability_probes (
  part text not null,
  minute timestamptz not null,
  ok boolean not null,
  primary key (part, minute)
);
