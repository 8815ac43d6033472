import { z } from 'zod';
import { type DeclaredKey, key, keysOf, section } from './key.js';
import { amountMax, poolForm } from '../contract/holds.js';
import { collectedMetrics } from '../contract/metrics.js';
import { aliasForm } from '../contract/model-alias.js';
import { ModelProfile } from '../contract/schemas/model-options.js';
import { laterSections } from './later.js';
import { bytes, flag, int, list, text, upperWord } from './values.js';

export const defaultMetricsPort = 8000;
const sandboxLevels = ['bwrap', 'uid', 'none'] as const;

/**
 * Every key that a file may have, in the order of the documentation. A key goes here: its form, its default, what it means and which variable sets it.
 * What the mains get of it is built in config.ts; docs/configuration.md follows with `npm run config-docs`. Sections whose parts are
 * not built yet are in later.ts.
 */
const shape = {
  home: key(text.default('.orchestra'), 'folder of everything that belongs to this installation', { variable: 'ORCHESTRA_HOME' }),
  api: section({
    host: key(text.default('127.0.0.1'), 'address that the API listens on', { variable: 'API_HOST' }),
    port: key(int(0, 65_535).optional(), 'its port; 0: any free one', { variable: 'PORT', unset: '8080, or a free one when that is taken' }),
    body_limit: key(bytes.default(1024 ** 2), 'bytes of a request body at most'),
    request_timeout_seconds: key(int(1, 600).default(30), 'a request that is not answered by then gets 503'),
    allowed_hosts: key(
      list(text).default([]),
      'names of this server, beside those of the loopback, that a browser may show its pages under, without port; `*`: any',
      {
        variable: 'ALLOWED_HOSTS',
      },
    ),
    public_docs: key(flag.default(true), 'whether `/docs` and `/openapi.json` are open to everybody'),
  }),
  database: section({
    url: key(
      z
        .string()
        .regex(/^postgres(ql)?:\/\//, 'expected postgres://...')
        .optional(),
      'address of PostgreSQL; wins over the parts below',
      { variable: 'DATABASE_URL', unset: '`orchestra up` starts one' },
    ),
    host: key(text.optional(), 'its host', { variable: 'DB_HOST' }),
    port: key(int(1, 65_535).default(5432), 'its port', { variable: 'DB_PORT' }),
    name: key(text.default('orchestra'), 'its database', { variable: 'DB_NAME' }),
    user: key(text.default('orchestra'), 'its user', { variable: 'DB_USER' }),
    password: key(z.string().default(''), "the user's password", { variable: 'DB_PASSWORD', secret: true }),
    pool_size: key(int(1, 500).default(20), 'connections of one process that are kept for use again and again'),
    max_overflow: key(int(0, 500).default(30), 'connections beyond `pool_size` that a process may open under load; idle ones are closed after 3 s'),
  }),
  temporal: section({
    address: key(
      z
        .string()
        .regex(/^[^\s/]+:\d+$/, 'expected host:port')
        .optional(),
      'host:port of Temporal',
      { variable: 'TEMPORAL_ADDRESS', unset: '`orchestra up` starts one; else 127.0.0.1:7233' },
    ),
    namespace: key(text.default('orchestra'), 'its namespace; made when it is missing', { variable: 'TEMPORAL_NAMESPACE' }),
    tls: key(flag.optional(), 'whether the connection is TLS', { variable: 'TEMPORAL_TLS', unset: 'TLS when `api_key` is set' }),
    api_key: key(text.optional(), 'key for Temporal Cloud or a gateway', { variable: 'TEMPORAL_API_KEY', secret: true }),
    priority_levels: key(int(1, 60).default(5), "the server's `matching.priorityLevels`; 60 where it has our dynamic configuration", {
      variable: 'TEMPORAL_PRIORITY_LEVELS',
    }),
    ui_address: key(z.url().optional(), 'base of the pages of its Web UI, for links', { variable: 'TEMPORAL_UI_ADDRESS' }),
    ui: key(flag.default(true), 'whether the server that `orchestra up` starts serves its Web UI', { variable: 'TEMPORAL_UI' }),
    max_connections: key(int(1, 10_000).default(100), 'connections to Temporal; one carries everything today', { notInForce: 'told when changed' }),
  }),
  models: section({
    address: key(text.optional(), 'address of Ollama', { variable: 'OLLAMA_HOST', unset: '`orchestra up` finds or starts one; else 127.0.0.1:11434' }),
    registries: key(list(text).default(['registry.ollama.ai', 'hf.co']), 'where models may be pulled from', { variable: 'MODEL_REGISTRIES' }),
    allow_pull: key(flag.default(true), 'whether a missing model is pulled', { variable: 'MODEL_ALLOW_PULL' }),
    num_ctx: key(int(128, 1_048_576).default(4096), 'tokens of context of a step that names none'),
    keep_alive_seconds: key(int(10, 86_400).default(600), 'how long a model stays in memory without being renewed, so that a dead host pins none'),
    parallel: key(int(1, 64).default(1), 'inferences of one model at the same time', { variable: 'MODEL_PARALLEL' }),
    max_loaded: key(int(1, 64).optional(), 'models in memory at the same time; an Ollama of your own has to allow as many', {
      variable: 'MODEL_MAX_LOADED',
      unset: '3; 1 where the memory of the server is not known',
    }),
    memory_budget: key(bytes.optional(), 'bytes of memory for models', {
      variable: 'MODEL_MEMORY_BUDGET',
      unset: 'that of the GPUs as `nvidia-smi` tells it, else 80 % of the main memory; not known of a server on another machine',
    }),
    aliases: key(
      z.record(z.string().regex(aliasForm, 'expected a short name: letters, digits, "_" and "-"'), text).default({}),
      'short names of models, such as `fast: llama3.1:8b`; one may stand for another one, and for a model with its digest',
    ),
    profiles: key(
      z.record(text, ModelProfile).default({}),
      'what steps of a model, by its name or alias, have unless they say otherwise: `options` with the names of Ollama, and `system`',
    ),
  }),
  concurrency: section({
    max_workers: key(int(1, 1_000).default(10), 'steps without a model at a time, for each engine', { variable: 'MAX_WORKERS' }),
    pools: key(
      z.record(z.string().regex(poolForm, 'expected lower-case letters, digits, "_" and "-"'), z.number().min(0).max(amountMax)).default({}),
      'amounts of which tasks may ask for a part, such as `licences: 3`; `cpu`, `memory`, `disk` and `gpu` replace what is found on the machines',
    ),
  }),
  events: section({
    streams_max: key(int(1, 100_000).default(500), 'streams of events that one API process serves'),
    streams_per_key: key(int(1, 100_000).default(20), 'streams of events for one key, or for one user who has signed in'),
    output_per_try: key(bytes.default(256 * 1024), 'characters of output that one try of a step tells while it runs'),
  }),
  ...laterSections,
  host: section({
    id: key(
      z
        .string()
        .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'expected lower-case letters, digits, dots and dashes, at most 63')
        .default('local'),
      'name of this machine among the hosts; no two may have the same',
      { variable: 'HOST_ID' },
    ),
  }),
  isolation: section({
    sandbox: key(z.enum(['auto', 'require', 'off']).default('auto'), 'how scripts are fenced: `auto`, `require`, `off`', { variable: 'SANDBOX' }),
    minimum: key(z.enum(sandboxLevels).default('bwrap'), 'the weakest fence that is accepted: `bwrap`, `uid`, `none`', { variable: 'SANDBOX_MIN' }),
  }),
  git: section({
    allowed_schemes: key(list(z.enum(['https', 'http', 'ssh', 'git', 'file'])).default(['https', 'ssh']), 'how repositories may be fetched', {
      variable: 'GIT_ALLOWED_SCHEMES',
    }),
    allowed_hosts: key(list(text).default([]), 'hosts of repositories that may have private addresses', { variable: 'GIT_ALLOWED_HOSTS' }),
  }),
  files: section({
    roots: key(list(text).optional(), 'folders that `read_files` may read', { variable: 'FILE_ROOTS', unset: '`files` in the home' }),
  }),
  limits: section({
    output: key(bytes.default(1024 ** 2), "bytes of a step's output"),
    file: key(bytes.default(10 * 1024 ** 2), 'bytes of one file that is read'),
    files: key(bytes.default(50 * 1024 ** 2), 'bytes of all files that one step reads'),
    files_max: key(int(1, 100_000).default(1_000), 'files that one step reads'),
    prompt_chars: key(int(1, 10_000_000).default(1_000_000), 'characters of one prompt, all messages of a chat together'),
    images_max: key(int(1, 100).default(8), 'images of one inference'),
    image_bytes: key(bytes.default(10 * 1024 ** 2), 'bytes of one image'),
    embed_inputs: key(int(1, 10_000).default(1_000), 'texts that one step may embed'),
    disk: key(bytes.default(1024 ** 3), 'bytes that one script may write'),
    memory: key(bytes.optional(), "bytes of memory of one script's processes together; 0: unlimited", { unset: "half of the machine's" }),
    timeout_seconds_max: key(int(1, 31_536_000).default(86_400), 'longest time that a step or a task may ask for'),
  }),
  logging: section({
    level: key(upperWord(['DEBUG', 'INFO', 'WARNING', 'ERROR']).default('INFO'), 'lines of this level and above are written; read again on SIGHUP', {
      variable: 'LOG_LEVEL',
    }),
    format: key(z.enum(['json', 'text']).default('json'), '`json` or `text`', { variable: 'LOG_FORMAT' }),
    handlers: key(list(z.enum(['console', 'file'])).default(['console']), 'where lines go: `console`, `file`', { variable: 'LOG_HANDLERS' }),
    file_config: section({
      path: key(text.optional(), 'the file; each main puts its own name before the ending, as in `app.api.log`', { unset: '`logs/app.log` in the home' }),
      max_size: key(bytes.default(100e6), 'bytes from which a new file is begun'),
      backup_count: key(int(0, 100).default(5), 'older files that are kept'),
    }),
  }),
  monitoring: section({
    port: key(
      z.union([z.literal('off'), int(0, 65_535)]).default(defaultMetricsPort),
      'port of `/metrics` alone, on the address of the API; 0: any free one; `off`: none. Under `orchestra up` a free one when it is taken',
      { variable: 'METRICS_PORT' },
    ),
    public_metrics: key(flag.default(true), 'whether `/metrics` on the port of the API is open to everybody; its own port always is'),
    alert_rules: key(
      z
        .record(
          z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, 'expected lower-case letters, digits and "_"'),
          z
            .strictObject({ metric: z.enum(collectedMetrics), above: z.number().optional(), below: z.number().optional() })
            .refine(({ above, below }) => (above === undefined) !== (below === undefined), 'expected one of above and below'),
        )
        .default({}),
      `alerts beside those of \`alert_thresholds\`, such as \`long_queue: { metric: queue_size, above: 500 }\`; metrics: ${collectedMetrics.join(', ')}`,
    ),
  }),
  templates: section({ directory: key(text.optional(), 'folder of your own templates', { variable: 'TEMPLATES_DIRECTORY' }) }),
  shutdown: section({
    grace_seconds: key(int(0, 3_600).default(30), 'time for running steps when a process is asked to end', { variable: 'SHUTDOWN_GRACE_SECONDS' }),
  }),
};

/** The file as it is written. A key that is not here is refused, since nothing would read it. */
export const schema = z.strictObject(shape);

/** Every key, in the order of the documentation. */
export const declaredKeys: readonly DeclaredKey[] = keysOf(shape);
