-- Up Migration
create sequence task_pos;

create table tasks (
  id uuid primary key default gen_random_uuid(),
  name varchar(255) not null,
  type varchar(100) not null,
  description text,
  -- the exact value, 0 to 100, larger is more urgent
  priority integer not null default 0 check (priority between 0 and 100),
  priority_level integer not null generated always as (greatest(1, ceil(priority / 10.0)::integer)) stored,
  status varchar(50) not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
  user_id text not null,
  template text not null,
  template_hash text not null,
  parameters jsonb not null default '{}',
  plan jsonb not null,
  -- what the caller asked for beside the template: retry, limits, resource_requirements
  request jsonb not null default '{}',
  metadata jsonb not null default '{}',
  agent_assigned text,
  attempt integer not null default 1 check (attempt >= 1),
  -- place in the order of arrival; a later step of a task stands where the task stands
  pos numeric not null default nextval('task_pos'),
  -- the first run of the current attempt, written when it enters the line
  first_run_id text,
  -- every run of the current attempt that spoke to the line; only the last one is heard
  runs text[] not null default '{}',
  cancel_requested_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  result jsonb,
  error jsonb,
  resource_usage jsonb
);
create index idx_tasks_status_priority on tasks (status, priority desc);
create index tasks_created on tasks (created_at desc, id desc);
create index tasks_user_created on tasks (user_id, created_at desc, id desc);
create index tasks_open on tasks (pos) where status in ('queued', 'running');

create table task_dependencies (
  id uuid primary key default gen_random_uuid(),
  -- the child waits for the parent
  parent_task_id uuid not null references tasks (id) on delete cascade,
  child_task_id uuid not null references tasks (id) on delete cascade,
  dependency_type varchar(50) not null default 'sequential' check (dependency_type in ('sequential', 'data')),
  created_at timestamptz not null default now(),
  unique (parent_task_id, child_task_id),
  check (parent_task_id <> child_task_id)
);
create index idx_task_dependencies_parent on task_dependencies (parent_task_id);
create index idx_task_dependencies_child on task_dependencies (child_task_id);

-- one row per try of a step that was claimed and ended
create table task_executions (
  id uuid primary key default gen_random_uuid(),
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  step text not null,
  step_type text not null,
  step_attempt integer not null,
  try integer not null,
  run_id text not null,
  host text not null,
  started_at timestamptz not null,
  completed_at timestamptz not null default now(),
  status varchar(50) not null check (status in ('completed', 'failed', 'cancelled', 'void')),
  cpu_used double precision,
  memory_used double precision,
  exit_code integer,
  logs text,
  metrics jsonb not null default '{}',
  output jsonb,
  output_bytes integer,
  error jsonb
);
create index idx_task_executions_task_id_started on task_executions (task_id, started_at);
create unique index task_executions_committed_once on task_executions (task_id, attempt, step, run_id) where status = 'completed';

create table line (
  id bigint generated always as identity primary key,
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  step text not null,
  try integer not null,
  step_attempt integer not null,
  run_id text not null,
  pool text not null check (pool in ('general', 'model')),
  key text check ((pool = 'model') = (key is not null)),
  level integer not null,
  exact integer not null,
  pos numeric not null,
  -- the exclusive right that the task needs before its first grant, such as agent:<name>
  hold text,
  -- infinity while a dependency is open; later than now after an unanswered grant
  not_before timestamptz not null default '-infinity',
  state text not null default 'waiting' check (state in ('waiting', 'granted', 'running', 'done', 'void')),
  grant_id uuid,
  host text,
  host_epoch bigint,
  slot integer,
  engine text,
  claim_token uuid,
  cause text,
  -- unanswered grants, and signals sent for the present one
  misses integer not null default 0,
  signals integer not null default 0,
  -- the key that the plan's next step needs, when it is the one of this step
  next_key text,
  entered_at timestamptz not null default now(),
  granted_at timestamptz,
  started_at timestamptz,
  ended_at timestamptz,
  execution_id uuid references task_executions (id) on delete set null,
  unique (task_id, attempt, step, try),
  check (state not in ('granted', 'running') or (grant_id is not null and host is not null and host_epoch is not null and slot is not null)),
  check (state <> 'running' or claim_token is not null),
  check (state <> 'void' or cause is not null)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
create unique index line_one_live on line (task_id, attempt, step) where state in ('waiting', 'granted', 'running');
create unique index line_one_per_slot on line (pool, host, host_epoch, key, slot) nulls not distinct where state in ('granted', 'running');
-- without those whose dependencies are open, so that a head is found at once however many are blocked
create index line_waiting on line (pool, level desc, exact desc, pos, id) where state = 'waiting' and not_before < 'infinity';
create index line_waiting_key on line (key, level desc, exact desc, pos, id) where state = 'waiting' and pool = 'model' and not_before < 'infinity';
create index line_backing_off on line (not_before) where state = 'waiting' and not_before > '-infinity' and not_before < 'infinity';
create index line_granted on line (granted_at) where state = 'granted';
create index line_continuing on line (ended_at) where state = 'done' and next_key is not null;

-- exclusive rights of a task, such as agent:<name>; freed by the transaction that writes its final status
create table holds (
  name text primary key,
  task_id uuid not null references tasks (id) on delete cascade,
  attempt integer not null,
  acquired_at timestamptz not null default now()
);
create index holds_task on holds (task_id);

create table engines (
  id text primary key,
  slots integer not null check (slots >= 0),
  lease_until timestamptz not null,
  started_at timestamptz not null default now(),
  info jsonb not null default '{}'
);

create table hosts (
  id text primary key,
  epoch bigint not null default 1,
  lease_until timestamptz not null,
  -- concurrent inferences of one resident key
  parallel integer not null default 1 check (parallel >= 1),
  -- the model server's address, and whether it answers
  address text not null,
  ready boolean not null default false,
  -- version, memory, why it is not ready
  info jsonb not null default '{}',
  started_at timestamptz not null default now()
);

create table residency (
  host text not null references hosts (id) on delete cascade,
  host_epoch bigint not null,
  key text not null,
  model text not null,
  num_ctx integer not null,
  digest text,
  size_bytes bigint,
  state text not null check (state in ('loading', 'serving', 'draining')),
  order_id uuid not null,
  since timestamptz not null default now(),
  primary key (host, key)
);

create table residency_orders (
  id uuid primary key default gen_random_uuid(),
  host text not null,
  host_epoch bigint not null,
  unload text[] not null default '{}',
  load_key text,
  load_model text,
  load_num_ctx integer,
  state text not null default 'open' check (state in ('open', 'done', 'failed')),
  reason text not null,
  error jsonb,
  created_at timestamptz not null default now(),
  ended_at timestamptz
);
create unique index residency_orders_one_open on residency_orders (host) where state = 'open';

-- keys whose last load failed on a host, and until when they are not ordered again
create table residency_backoff (
  host text not null,
  key text not null,
  failures integer not null default 1,
  until timestamptz not null,
  error jsonb not null,
  primary key (host, key)
);

-- what each model server really has, loads made by others included
create table models (
  host text not null,
  name text not null,
  digest text,
  size_bytes bigint,
  details jsonb not null default '{}',
  loaded boolean not null default false,
  memory_bytes bigint,
  vram_bytes bigint,
  context_length integer,
  expires_at timestamptz,
  last_used_at timestamptz,
  seen_at timestamptz not null default now(),
  primary key (host, name)
);

create table outbox (
  id bigint generated always as identity primary key,
  -- start: StartWorkflow of a task's attempt; cancel: cancel its workflow; signal: name and payload; residency: an order for changeResidency
  kind text not null check (kind in ('start', 'cancel', 'signal', 'residency')),
  workflow_id text not null,
  task_id uuid references tasks (id) on delete cascade,
  payload jsonb not null default '{}',
  attempts integer not null default 0,
  next_at timestamptz not null default now(),
  -- why the last delivery failed
  last_error text,
  created_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
create index outbox_next on outbox (next_at);
create index outbox_workflow on outbox (workflow_id, id);
create index outbox_task on outbox (task_id);

create table orchestration_decisions (
  id uuid primary key default gen_random_uuid(),
  decision_type varchar(50) not null,
  task_id uuid references tasks (id) on delete cascade,
  input_data jsonb not null,
  output_data jsonb not null,
  confidence_score double precision,
  execution_time_ms integer,
  model_version varchar(50),
  created_at timestamptz not null default now()
);
create index idx_orchestration_decisions_task_id on orchestration_decisions (task_id);
create index idx_orchestration_decisions_type_time on orchestration_decisions (decision_type, created_at);

-- written by the same transaction as the change it tells of
create table task_events (
  id bigint generated always as identity primary key,
  task_id uuid not null references tasks (id) on delete cascade,
  at timestamptz not null default now(),
  kind text not null,
  data jsonb not null default '{}'
);
create index task_events_task on task_events (task_id, id);

create table api_keys (
  id text primary key,
  name text not null,
  user_id text not null,
  role text not null check (role in ('admin', 'user', 'viewer')),
  -- SHA-256 of the whole key
  hash bytea not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

create table idempotency_keys (
  user_id text not null,
  key text not null,
  body_hash bytea not null,
  -- checked at the end, since the key is taken before its task is stored
  task_id uuid not null references tasks (id) on delete cascade deferrable initially deferred,
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
