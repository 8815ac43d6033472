-- Up Migration
-- What each model was used for, added up as executions are recorded, so that nobody has to add up all executions.
create table model_usage (
  name text primary key,
  inferences bigint not null default 0,
  inference_time_seconds double precision not null default 0,
  prompt_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  updated_at timestamptz not null default now()
);

-- A model that an order only fetches.
alter table residency_orders add column pull_model text;
-- Who asked for it; null: the engine decided it.
alter table residency_orders add column requested_by text;

create or replace function residency_order_json(o residency_orders) returns jsonb language sql immutable as $$
  select jsonb_build_object('id', o.id, 'host', o.host, 'hostEpoch', o.host_epoch, 'unload', to_jsonb(o.unload),
    'load', case when o.load_key is null then null else jsonb_build_object('key', o.load_key, 'model', jsonb_build_object('name', o.load_model, 'numCtx', o.load_num_ctx)) end)
    || case when o.pull_model is null then '{}' else jsonb_build_object('pull', o.pull_model) end
$$;

-- As in 00002_line.sql, and adds to the use of the model.
create or replace function line_record(p_row bigint, p_status text, p_type text, p_output jsonb, p_output_bytes integer, p_error jsonb, p_usage jsonb) returns uuid language plpgsql as $$
declare
  r record;
  v_id uuid;
begin
  select * into r from line where id = p_row;
  insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status,
    cpu_used, memory_used, exit_code, logs, metrics, output, output_bytes, error)
  values (r.task_id, r.attempt, r.step, p_type, r.step_attempt, r.try, r.run_id, coalesce(r.engine, r.host), r.started_at, clock_timestamp(), p_status,
    (p_usage ->> 'cpuSeconds')::double precision, (p_usage ->> 'memoryUsedGb')::double precision, (p_usage ->> 'exitCode')::integer, p_usage ->> 'logs',
    coalesce(p_usage -> 'metrics', '{}') || jsonb_strip_nulls(jsonb_build_object('model_name', p_usage -> 'modelName', 'model_digest', p_usage -> 'modelDigest',
      'inference_time_seconds', p_usage -> 'inferenceTimeSeconds')),
    p_output, p_output_bytes, p_error)
  returning id into v_id;
  if p_usage ? 'inferenceTimeSeconds' then
    update tasks set updated_at = clock_timestamp(), resource_usage = jsonb_build_object(
      'model_name', coalesce(p_usage ->> 'modelName', resource_usage ->> 'model_name'),
      'inference_time_seconds', coalesce((resource_usage ->> 'inference_time_seconds')::double precision, 0) + (p_usage ->> 'inferenceTimeSeconds')::double precision,
      'memory_used_gb', greatest((resource_usage ->> 'memory_used_gb')::double precision, (p_usage ->> 'memoryUsedGb')::double precision))
    where id = r.task_id;
    if p_usage ->> 'modelName' is not null then
      insert into model_usage as m (name, inferences, inference_time_seconds, prompt_tokens, output_tokens)
      values (p_usage ->> 'modelName', coalesce((p_usage -> 'metrics' ->> 'inferences')::numeric, 1)::bigint, (p_usage ->> 'inferenceTimeSeconds')::double precision,
        coalesce((p_usage -> 'metrics' ->> 'prompt_tokens')::numeric, 0)::bigint, coalesce((p_usage -> 'metrics' ->> 'output_tokens')::numeric, 0)::bigint)
      on conflict (name) do update set inferences = m.inferences + excluded.inferences, inference_time_seconds = m.inference_time_seconds + excluded.inference_time_seconds,
        prompt_tokens = m.prompt_tokens + excluded.prompt_tokens, output_tokens = m.output_tokens + excluded.output_tokens, updated_at = clock_timestamp();
    end if;
  end if;
  return v_id;
end $$;

-- Orders what a person asks of a host's model server: load, unload or pull. One order of a host is open at a time, by its index; the engine's decisions
-- respect that too. p_host null: the first live host that is ready.
create function residency_request(p_action text, p_host text, p_model text, p_num_ctx integer, p_may_pull boolean, p_user text) returns jsonb language plpgsql as $$
declare
  h record;
  o residency_orders%rowtype;
  v_key text := p_model || '~ctx' || p_num_ctx;
  v_unload text[] := '{}';
  v_busy jsonb;
  v_reason text := p_action || ' ' || p_model || ', asked for by ' || p_user;
begin
  select id, epoch into h from hosts where (p_host is null or id = p_host) and ready and lease_until > clock_timestamp() order by id limit 1;
  if not found then return jsonb_build_object('outcome', 'host_unavailable'); end if;
  if exists (select 1 from residency_orders where host = h.id and state = 'open') then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;

  if p_action = 'unload' then
    v_unload := array(select key from residency where host = h.id and host_epoch = h.epoch and model = p_model);
    if cardinality(v_unload) = 0 then return jsonb_build_object('outcome', 'unchanged', 'host', h.id); end if;
    select jsonb_agg(distinct l.task_id) into v_busy from line l where l.state in ('waiting', 'granted', 'running') and l.pool = 'model' and l.key = any(v_unload);
  elsif p_action = 'load' then
    if exists (select 1 from residency where host = h.id and host_epoch = h.epoch and key = v_key and state = 'serving') then
      return jsonb_build_object('outcome', 'unchanged', 'host', h.id);
    end if;
    if not p_may_pull and not exists (select 1 from models where host = h.id and name = p_model and digest is not null) then
      return jsonb_build_object('outcome', 'unknown_model', 'host', h.id);
    end if;
    -- one model a host, as the policy has it
    v_unload := array(select key from residency where host = h.id and host_epoch = h.epoch and key <> v_key);
    select jsonb_agg(distinct l.task_id) into v_busy from line l where l.state in ('granted', 'running') and l.pool = 'model' and l.host = h.id and l.key = any(v_unload);
  elsif not p_may_pull then
    return jsonb_build_object('outcome', 'unknown_model', 'host', h.id);
  end if;
  if v_busy is not null then return jsonb_build_object('outcome', 'in_use', 'host', h.id, 'tasks', v_busy); end if;

  insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, pull_model, reason, requested_by)
  values (h.id, h.epoch, v_unload, case when p_action = 'load' then v_key end, case when p_action = 'load' then p_model end, case when p_action = 'load' then p_num_ctx end,
    case when p_action = 'pull' then p_model end, v_reason, p_user)
  on conflict (host) where state = 'open' do nothing
  returning * into o;
  if not found then return jsonb_build_object('outcome', 'busy', 'host', h.id); end if;
  insert into outbox (kind, workflow_id, payload) values ('residency', 'residency-' || o.host, residency_order_json(o));
  insert into orchestration_decisions (decision_type, input_data, output_data)
  values ('residency', jsonb_build_object('host', o.host, 'host_epoch', o.host_epoch, 'requested_by', p_user), residency_order_json(o) || jsonb_build_object('reason', o.reason));
  perform pg_notify('outbox', '');
  return jsonb_build_object('outcome', 'ordered', 'host', o.host, 'order', o.id);
end $$;
