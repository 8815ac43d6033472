-- Up Migration
-- People who sign in with a password. Tasks name their owner by the same id, whether that one came with a key or a password.
create table users (
  id text primary key check (id ~ '^[a-z0-9][a-z0-9._-]{0,49}$'),
  role text not null check (role in ('admin', 'user', 'viewer')),
  -- $pbkdf2-sha256$i=<iterations>$<salt>$<hash>
  password text not null,
  created_at timestamptz not null default now(),
  -- null: may sign in
  disabled_at timestamptz
);

create table sessions (
  -- SHA-256 of the token, which is stored nowhere
  hash bytea primary key,
  -- who gives the session its rights, now and not as they were: a user or an API key
  user_id text references users (id) on delete cascade,
  key_id text references api_keys (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  check (num_nonnulls(user_id, key_id) = 1)
);
create index sessions_user on sessions (user_id);
create index sessions_key on sessions (key_id);
create index sessions_expires on sessions (expires_at);

-- Each opens one session with the rights of the key that it was made with; using it removes it.
create table sign_in_tickets (
  hash bytea primary key,
  key_id text not null references api_keys (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index sign_in_tickets_key on sign_in_tickets (key_id);
create index sign_in_tickets_expires on sign_in_tickets (expires_at);

-- Passwords that were tried lately and not found right. Of the name a hash is kept, since people type passwords into the wrong field.
create table sign_in_failures (
  id bigint generated always as identity primary key,
  name_hash bytea not null,
  at timestamptz not null default clock_timestamp()
);
create index sign_in_failures_name on sign_in_failures (name_hash, at);
create index sign_in_failures_at on sign_in_failures (at);
