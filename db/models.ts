import type { Sql } from 'postgres';
import type { JsonObject } from '../contract/json.js';
import type { ResidencyState } from '../contract/residency.js';

/** What a model server said of itself. */
export interface SeenModels {
  readonly installed: readonly { readonly name: string; readonly digest: string; readonly sizeBytes: number; readonly details: JsonObject }[];
  readonly loaded: readonly {
    readonly name: string;
    readonly digest: string;
    readonly memoryBytes: number;
    readonly vramBytes: number;
    readonly contextLength: number | null;
    readonly expiresAtMs: number | null;
    readonly runner: string;
    readonly mark?: string;
  }[];
  /** when this host last ran each model, by name */
  readonly usedAtMs: ReadonlyMap<string, number>;
}

/** A model on one host, as the API shows it. */
export interface ModelStatus {
  readonly host: string;
  readonly name: string;
  readonly digest: string | null;
  readonly sizeBytes: number | null;
  /** what the server says of it; `pull` holds the progress of a pull: status, completed_bytes, total_bytes */
  readonly details: JsonObject;
  /** in the server's memory, whoever loaded it */
  readonly loaded: boolean;
  readonly memoryBytes: number | null;
  readonly vramBytes: number | null;
  readonly contextLength: number | null;
  readonly expiresAt: Date | null;
  /** names with the same one share that memory; null: not in memory */
  readonly runner: string | null;
  readonly lastUsedAt: Date | null;
  /** what the engine wants with it, null when nothing */
  readonly residency: ResidencyState | null;
  /** steps that wait for this model, on whatever host it will be */
  readonly queueDepth: number;
  /** steps that run on it, on this host */
  readonly running: number;
  /** by tasks of this installation, on whatever host */
  readonly usage: { readonly inferences: number; readonly inferenceTimeSeconds: number; readonly promptTokens: number; readonly outputTokens: number };
  readonly seenAt: Date;
}

/** Replaces what is known of a host's models by what its server says now. May be repeated. */
export async function upsertSeen(sql: Sql, host: string, seen: SeenModels): Promise<void> {
  const models = new Map<string, JsonObject>();
  for (const { name, digest, sizeBytes, details } of seen.installed) models.set(name, { name, digest, size_bytes: sizeBytes, details, loaded: false });
  for (const model of seen.loaded) {
    models.set(model.name, {
      ...(models.get(model.name) ?? { name: model.name, size_bytes: null, details: {} }),
      digest: model.digest,
      loaded: true,
      memory_bytes: model.memoryBytes,
      vram_bytes: model.vramBytes,
      context_length: model.contextLength,
      expires_at: model.expiresAtMs === null ? null : new Date(model.expiresAtMs).toISOString(),
      mark: model.mark ?? null,
      runner: model.runner,
    });
  }
  for (const [name, atMs] of seen.usedAtMs) {
    const model = models.get(name);
    if (model) model['last_used_at'] = new Date(atMs).toISOString();
  }
  await sql.begin(async (tx) => {
    await tx`
      insert into models (host, name, digest, size_bytes, details, loaded, memory_bytes, vram_bytes, context_length, expires_at, last_used_at, mark, runner)
      select ${host}, m.name, m.digest, m.size_bytes, m.details, m.loaded, m.memory_bytes, m.vram_bytes, m.context_length, m.expires_at, m.last_used_at, m.mark, m.runner
      from jsonb_to_recordset(${sql.json([...models.values()])}) as m(
        name text, digest text, size_bytes bigint, details jsonb, loaded boolean, memory_bytes bigint, vram_bytes bigint,
        context_length integer, expires_at timestamptz, last_used_at timestamptz, mark text, runner text)
      on conflict (host, name) do update set
        digest = excluded.digest, size_bytes = coalesce(excluded.size_bytes, models.size_bytes), details = excluded.details, loaded = excluded.loaded,
        memory_bytes = excluded.memory_bytes, vram_bytes = excluded.vram_bytes, context_length = excluded.context_length,
        expires_at = excluded.expires_at, last_used_at = greatest(excluded.last_used_at, models.last_used_at), mark = excluded.mark, runner = excluded.runner, seen_at = now()`;
    // A model that is being pulled is not in the server's list yet.
    await tx`
      delete from models
      where host = ${host} and not (details ? 'pull') and name not in (select jsonb_array_elements_text(${sql.json([...models.keys()])}))`;
  });
}

/** Nothing is loaded on a host whose server does not answer. May be repeated. */
export async function markAllUnloaded(sql: Sql, host: string): Promise<void> {
  await sql`
    update models set loaded = false, memory_bytes = null, vram_bytes = null, context_length = null, expires_at = null, mark = null, runner = null
    where host = ${host} and loaded`;
}

/** How far a pull is; also told to the tasks that wait for the model when `tellTasks`. May be repeated, save that each call with `tellTasks` is an event. */
export async function recordPull(
  sql: Sql,
  host: string,
  key: string,
  model: string,
  progress: { readonly status: string; readonly completedBytes: number; readonly totalBytes: number },
  tellTasks: boolean,
): Promise<void> {
  const pull = { status: progress.status, completed_bytes: progress.completedBytes, total_bytes: progress.totalBytes };
  await sql.begin(async (tx) => {
    await tx`
      insert into models (host, name, details) values (${host}, ${model}, ${sql.json({ pull })})
      on conflict (host, name) do update set details = models.details || excluded.details, seen_at = now()`;
    if (!tellTasks) return;
    await tx`
      insert into task_events (task_id, kind, data)
      select distinct task_id, 'model_pull', ${sql.json({ model, host, ...pull })}::jsonb
      from line where state = 'waiting' and pool = 'model' and key = ${key}`;
  });
}

/** Removes the progress of a pull that has ended; what was never there before the pull is forgotten with it. May be repeated. */
export async function endPull(sql: Sql, host: string, model: string): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`delete from models where host = ${host} and name = ${model} and digest is null`;
    await tx`update models set details = details - 'pull' where host = ${host} and name = ${model}`;
  });
}

/** Notes a model that a server has now, before the server is looked at the next time. May be repeated. */
export async function noteInstalled(sql: Sql, host: string, { name, digest, sizeBytes, details }: SeenModels['installed'][number]): Promise<void> {
  await sql`
    insert into models (host, name, digest, size_bytes, details) values (${host}, ${name}, ${digest}, ${sizeBytes}, ${sql.json(details)})
    on conflict (host, name) do update set digest = excluded.digest, size_bytes = excluded.size_bytes, details = excluded.details, seen_at = now()`;
}

/** Every model of every host, loaded ones first, then by name. */
export async function listModels(sql: Sql, filter: { readonly host?: string } = {}): Promise<ModelStatus[]> {
  const rows = await sql<ModelRow[]>`
    with live as (
      select regexp_replace(key, '~ctx[0-9]+$', '') as name, host, state from line
      where pool = 'model' and state in ('waiting', 'granted', 'running')
    )
    select m.host, m.name, m.digest, m.size_bytes::float8 as size_bytes, m.details, m.loaded, case when m.loaded then m.memory_bytes end::float8 as memory_bytes,
      case when m.loaded then m.vram_bytes end::float8 as vram_bytes, case when m.loaded then m.context_length end as context_length,
      case when m.loaded then m.expires_at end as expires_at, case when m.loaded then m.runner end as runner, m.last_used_at, m.seen_at,
      (select r.state from residency r where r.host = m.host and lower(r.model) = lower(m.name) limit 1) as residency,
      (select count(*) from live l where lower(l.name) = lower(m.name) and l.state = 'waiting')::integer as queue_depth,
      (select count(*) from live l where lower(l.name) = lower(m.name) and l.state <> 'waiting' and l.host = m.host)::integer as running,
      coalesce(u.inferences, 0)::float8 as inferences, coalesce(u.inference_time_seconds, 0) as inference_time_seconds,
      coalesce(u.prompt_tokens, 0)::float8 as prompt_tokens, coalesce(u.output_tokens, 0)::float8 as output_tokens
    from (
      -- what a host that is gone had in memory is not known
      select m.host, m.name, m.digest, m.size_bytes, m.details, m.memory_bytes, m.vram_bytes, m.context_length, m.expires_at, m.runner, m.last_used_at, m.seen_at,
        m.loaded and not exists (select 1 from hosts h where h.id = m.host and h.lease_until <= clock_timestamp()) as loaded
      from models m
    ) m left join model_usage u on u.name = m.name
    where ${filter.host === undefined ? sql`true` : sql`m.host = ${filter.host}`}
    order by m.loaded desc, m.name, m.host`;
  return rows.map((row) => ({
    host: row.host,
    name: row.name,
    digest: row.digest,
    sizeBytes: row.size_bytes,
    details: row.details,
    loaded: row.loaded,
    memoryBytes: row.memory_bytes,
    vramBytes: row.vram_bytes,
    contextLength: row.context_length,
    expiresAt: row.expires_at,
    runner: row.runner,
    lastUsedAt: row.last_used_at,
    residency: row.residency,
    queueDepth: row.queue_depth,
    running: row.running,
    usage: {
      inferences: row.inferences,
      inferenceTimeSeconds: row.inference_time_seconds,
      promptTokens: row.prompt_tokens,
      outputTokens: row.output_tokens,
    },
    seenAt: row.seen_at,
  }));
}

interface ModelRow {
  host: string;
  name: string;
  digest: string | null;
  size_bytes: number | null;
  details: JsonObject;
  loaded: boolean;
  memory_bytes: number | null;
  vram_bytes: number | null;
  context_length: number | null;
  expires_at: Date | null;
  runner: string | null;
  last_used_at: Date | null;
  residency: ResidencyState | null;
  queue_depth: number;
  running: number;
  inferences: number;
  inference_time_seconds: number;
  prompt_tokens: number;
  output_tokens: number;
  seen_at: Date;
}
