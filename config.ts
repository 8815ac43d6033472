import { readFileSync } from 'node:fs';
import { homedir, totalmem } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { z } from 'zod';
import { RetrySettings } from './contract/schemas/template.js';

/** Every fault of the configuration; each line names its path and never its value. */
export class ConfigFault extends Error {
  override readonly name = 'ConfigFault';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`The configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.faults = faults;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface LoadOptions {
  /** folder of `<environment>.yaml`. Default: config/ of this installation */
  readonly configDir?: string;
  /** what relative paths start from. Default: the working directory */
  readonly cwd?: string;
}

const text = z.string().min(1);
/** `"false"` is truthy to JavaScript, so booleans are read by hand. */
const flag = z.union(
  [z.boolean(), z.enum(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off']).transform((word) => ['true', '1', 'yes', 'on'].includes(word))],
  {
    error: 'expected true or false',
  },
);
const int = (min: number, max: number) =>
  z.union([z.int(), z.string().regex(/^\d+$/, 'expected a whole number').transform(Number)]).pipe(z.int().min(min).max(max));
const units: Readonly<Record<string, number>> = { '': 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KIB: 1024, MIB: 1024 ** 2, GIB: 1024 ** 3 };
const bytes = z.union([
  z.int().min(0),
  z
    .string()
    .regex(/^\d+\s*([KMG]I?)?B?$/i, 'expected bytes, such as 1048576, 100MB or 64MiB')
    .transform((size) => {
      const [, number, unit] = /^(\d+)\s*(\w*)$/.exec(size) ?? [];
      return Number(number) * (units[(unit ?? '').toUpperCase()] ?? 1);
    }),
]);
/** A YAML list, or a comma-separated text of the environment. */
const list = <Item extends z.ZodType<unknown, string>>(item: Item) =>
  z
    .union([
      z.array(item),
      z.string().transform((words) =>
        words
          .split(',')
          .map((word) => word.trim())
          .filter((word) => word !== ''),
      ),
    ])
    .pipe(z.array(item));
const section = <Shape extends z.ZodRawShape>(shape: Shape) => z.preprocess((value) => value ?? {}, z.strictObject(shape));

const levels = ['DEBUG', 'INFO', 'WARNING', 'ERROR'] as const;
const sandboxLevels = ['bwrap', 'uid', 'none'] as const;

/** The file as it is written. Keys that nothing reads yet are refused, so that nobody relies on them. */
const schema = z.strictObject({
  home: text.default('.orchestra'),
  api: section({
    host: text.default('127.0.0.1'),
    // not set: 8080, or a free one when that is taken
    port: int(0, 65_535).optional(),
    body_limit: bytes.default(1024 ** 2),
    request_timeout_seconds: int(1, 600).default(30),
    // names of this server, beside the loopback's, that a browser may show its pages under; `*`: any
    allowed_hosts: list(text).default([]),
    public_docs: flag.default(true),
  }),
  database: section({
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\//, 'expected postgres://...')
      .optional(),
    host: text.optional(),
    port: int(1, 65_535).default(5432),
    name: text.default('orchestra'),
    user: text.default('orchestra'),
    password: z.string().default(''),
    pool_size: int(1, 500).default(20),
    max_overflow: int(0, 500).default(30),
  }),
  temporal: section({
    address: z
      .string()
      .regex(/^[^\s/]+:\d+$/, 'expected host:port')
      .optional(),
    namespace: text.default('orchestra'),
    tls: flag.optional(),
    api_key: text.optional(),
    // 60 where the server has our dynamic configuration; `orchestra up` says so to the mains it starts
    priority_levels: int(1, 60).default(5),
    ui_address: z.url().optional(),
    // whether the server that we start serves its Web UI
    ui: flag.default(true),
  }),
  models: section({
    address: text.optional(),
    registries: list(text).default(['registry.ollama.ai', 'hf.co']),
    allow_pull: flag.default(true),
    num_ctx: int(128, 1_048_576).default(4096),
    keep_alive_seconds: int(10, 86_400).default(600),
    parallel: int(1, 64).default(1),
  }),
  concurrency: section({ max_workers: int(1, 1_000).default(10) }),
  events: section({
    // streams that one API process serves, in all and for one key
    streams_max: int(1, 100_000).default(500),
    streams_per_key: int(1, 100_000).default(20),
    // characters of output that one try of a step tells while it runs
    output_per_try: bytes.default(256 * 1024),
  }),
  orchestration: section({
    scheduling: section({
      queue_config: section({
        // a further task is refused
        max_queue_size: int(1, 1_000_000).default(10_000),
        // the levels of the API are its contract
        priority_levels: int(10, 10).default(10),
        // one attempt's running time, of a step for which nobody names another
        timeout_seconds: int(1, 31_536_000).default(3_600),
      }),
    }),
    // how often steps are attempted where neither step, task nor template says otherwise
    retry: z.preprocess((value) => value ?? {}, RetrySettings),
  }),
  host: section({
    id: z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'expected lower-case letters, digits, dots and dashes, at most 63')
      .default('local'),
  }),
  isolation: section({ sandbox: z.enum(['auto', 'require', 'off']).default('auto'), minimum: z.enum(sandboxLevels).default('bwrap') }),
  git: section({ allowed_schemes: list(z.enum(['https', 'http', 'ssh', 'git', 'file'])).default(['https', 'ssh']), allowed_hosts: list(text).default([]) }),
  files: section({ roots: list(text).optional() }),
  limits: section({
    output: bytes.default(1024 ** 2),
    file: bytes.default(10 * 1024 ** 2),
    files: bytes.default(50 * 1024 ** 2),
    files_max: int(1, 100_000).default(1_000),
    // characters of one prompt, all messages of a chat together
    prompt_chars: int(1, 10_000_000).default(1_000_000),
    // images of one inference, and the size of each
    images_max: int(1, 100).default(8),
    image_bytes: bytes.default(10 * 1024 ** 2),
    // texts that one step may embed
    embed_inputs: int(1, 10_000).default(1_000),
    disk: bytes.default(1024 ** 3),
    // of one script's processes together; 0: unlimited. Not set: half of the machine's, since the servers live there too
    memory: bytes.optional(),
    timeout_seconds_max: int(1, 31_536_000).default(86_400),
  }),
  logging: section({
    level: z.preprocess((word) => (typeof word === 'string' ? word.toUpperCase() : word), z.enum(levels)).default('INFO'),
    format: z.enum(['json', 'text']).default('json'),
    handlers: list(z.enum(['console', 'file'])).default(['console']),
    file_config: section({ path: text.optional(), max_size: bytes.default(100e6), backup_count: int(0, 100).default(5) }),
  }),
  templates: section({ directory: text.optional() }),
  security: section({
    api_key: section({
      header: z
        .string()
        .regex(/^[A-Za-z][A-Za-z0-9-]*$/, 'expected a header name')
        .default('X-API-Key'),
    }),
  }),
  shutdown: section({ grace_seconds: int(0, 3_600).default(30) }),
});

/** Which variable sets which key. A variable that is empty counts as not set. */
const variables: Readonly<Record<string, readonly string[]>> = {
  ORCHESTRA_HOME: ['home'],
  API_HOST: ['api', 'host'],
  ALLOWED_HOSTS: ['api', 'allowed_hosts'],
  PORT: ['api', 'port'],
  DATABASE_URL: ['database', 'url'],
  DB_HOST: ['database', 'host'],
  DB_PORT: ['database', 'port'],
  DB_NAME: ['database', 'name'],
  DB_USER: ['database', 'user'],
  DB_PASSWORD: ['database', 'password'],
  TEMPORAL_ADDRESS: ['temporal', 'address'],
  TEMPORAL_NAMESPACE: ['temporal', 'namespace'],
  TEMPORAL_TLS: ['temporal', 'tls'],
  TEMPORAL_API_KEY: ['temporal', 'api_key'],
  TEMPORAL_PRIORITY_LEVELS: ['temporal', 'priority_levels'],
  TEMPORAL_UI_ADDRESS: ['temporal', 'ui_address'],
  TEMPORAL_UI: ['temporal', 'ui'],
  OLLAMA_HOST: ['models', 'address'],
  MODEL_REGISTRIES: ['models', 'registries'],
  MODEL_ALLOW_PULL: ['models', 'allow_pull'],
  MODEL_PARALLEL: ['models', 'parallel'],
  MAX_WORKERS: ['concurrency', 'max_workers'],
  HOST_ID: ['host', 'id'],
  SANDBOX: ['isolation', 'sandbox'],
  SANDBOX_MIN: ['isolation', 'minimum'],
  GIT_ALLOWED_SCHEMES: ['git', 'allowed_schemes'],
  GIT_ALLOWED_HOSTS: ['git', 'allowed_hosts'],
  FILE_ROOTS: ['files', 'roots'],
  TEMPLATES_DIRECTORY: ['templates', 'directory'],
  LOG_LEVEL: ['logging', 'level'],
  LOG_FORMAT: ['logging', 'format'],
  SHUTDOWN_GRACE_SECONDS: ['shutdown', 'grace_seconds'],
};

/** What every main is built from. Paths are absolute; `null` means that the program provides the part itself. */
export type Config = ReturnType<typeof loadConfig>;

/** The folder of package.json: one above this file, or two when it runs from dist/. */
export function packageRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.endsWith('/dist') ? dirname(here) : here;
}

/**
 * Reads `config/<environment>.yaml` and the environment, once per process.
 * @param env default: the process's own. ORCHESTRA_ENV names the file (default development)
 * @throws {ConfigFault} with every fault at once
 */
export function loadConfig(env: Environment = process.env, options: LoadOptions = {}) {
  const cwd = options.cwd ?? process.cwd();
  const environment = env['ORCHESTRA_ENV'] || 'development';
  const faults: string[] = [];
  const raw = readFile(environment, options.configDir ?? join(packageRoot(), 'config'), env, faults);
  const origins = overlay(raw, env);
  const parsed = schema.safeParse(raw);
  if (!parsed.success) faults.push(...parsed.error.issues.flatMap((issue) => describe(issue, origins)));
  if (parsed.error !== undefined || faults.length > 0 || parsed.data === undefined) throw new ConfigFault(faults);
  const file = parsed.data;
  const home = resolve(cwd, file.home);
  const at = (path: string) => (isAbsolute(path) ? path : resolve(cwd, path));
  return {
    environment,
    home,
    cacheDir: env['ORCHESTRA_CACHE']
      ? at(env['ORCHESTRA_CACHE'])
      : join(env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache'), 'ai-task-orchestra'),
    /** PATH, on which servers are looked for */
    path: env['PATH'] ?? '',
    api: {
      host: file.api.host,
      /** null: 8080, or a free one when that is taken */
      port: file.api.port ?? null,
      bodyLimitBytes: file.api.body_limit,
      requestTimeoutMs: file.api.request_timeout_seconds * 1_000,
      allowedHosts: file.api.allowed_hosts,
      publicDocs: file.api.public_docs,
    },
    database: { url: databaseUrl(file.database), poolSize: file.database.pool_size, maxOverflow: file.database.max_overflow },
    temporal: {
      address: file.temporal.address ?? null,
      namespace: file.temporal.namespace,
      ...(file.temporal.tls === undefined ? {} : { tls: file.temporal.tls }),
      ...(file.temporal.api_key === undefined ? {} : { apiKey: file.temporal.api_key }),
      priorityLevels: file.temporal.priority_levels,
      /** base of the Web UI's pages, for links; null when nobody said where it is */
      uiAddress: file.temporal.ui_address ?? null,
      /** of a server that we start */
      ui: file.temporal.ui,
    },
    models: {
      /** OLLAMA_HOST as it was given */
      address: file.models.address ?? null,
      registries: file.models.registries,
      allowPull: file.models.allow_pull,
      numCtx: file.models.num_ctx,
      keepAliveMs: file.models.keep_alive_seconds * 1_000,
      parallel: file.models.parallel,
    },
    events: {
      streamsMax: file.events.streams_max,
      streamsPerKey: file.events.streams_per_key,
      toldCharsMax: file.events.output_per_try,
    },
    queue: {
      /** tasks that may be queued */
      tasksMax: file.orchestration.scheduling.queue_config.max_queue_size,
    },
    /** how often and how long steps are attempted */
    attempts: { retry: file.orchestration.retry, timeoutSeconds: file.orchestration.scheduling.queue_config.timeout_seconds },
    engine: { slots: file.concurrency.max_workers },
    host: { id: file.host.id },
    isolation: { sandbox: file.isolation.sandbox, minimum: file.isolation.minimum },
    git: { allowedSchemes: file.git.allowed_schemes, /** may have private addresses */ allowedHosts: file.git.allowed_hosts },
    files: {
      /** where `read_files` may read */
      roots: (file.files.roots ?? [join(home, 'files')]).map(at),
      /** where `store_result` writes */
      resultsRoot: join(home, 'results'),
      workspacesRoot: join(home, 'workspaces'),
    },
    limits: {
      outputBytes: file.limits.output,
      fileBytes: file.limits.file,
      filesBytes: file.limits.files,
      filesMax: file.limits.files_max,
      promptChars: file.limits.prompt_chars,
      imagesMax: file.limits.images_max,
      imageBytes: file.limits.image_bytes,
      embedInputs: file.limits.embed_inputs,
      diskBytes: file.limits.disk,
      memoryBytes: file.limits.memory ?? Math.floor(totalmem() / 2),
    },
    /** longest time that a step or a task may ask for */
    timeoutSecondsMax: file.limits.timeout_seconds_max,
    logging: {
      level: file.logging.level,
      format: file.logging.format,
      handlers: file.logging.handlers,
      file: {
        path: at(file.logging.file_config.path ?? join(home, 'logs', 'app.log')),
        maxSizeBytes: file.logging.file_config.max_size,
        backupCount: file.logging.file_config.backup_count,
      },
    },
    templates: { directory: file.templates.directory === undefined ? null : at(file.templates.directory) },
    security: { apiKeyHeader: file.security.api_key.header },
    shutdown: { graceMs: file.shutdown.grace_seconds * 1_000 },
  };
}

type Tree = { [key: string]: unknown };

function readFile(environment: string, configDir: string, env: Environment, faults: string[]): Tree {
  if (!/^[a-z][a-z0-9_-]*$/.test(environment)) {
    faults.push('ORCHESTRA_ENV: expected a name such as development or production');
    return {};
  }
  const name = `config/${environment}.yaml`;
  try {
    const tree: unknown = parse(readFileSync(join(configDir, `${environment}.yaml`), 'utf8'), { maxAliasCount: 0 });
    if (tree === null || tree === undefined) return {};
    if (typeof tree !== 'object' || Array.isArray(tree)) {
      faults.push(`${name}: expected keys and values`);
      return {};
    }
    return expand(tree, env, [], faults) as Tree;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    // The parser's message quotes the text around the fault, which may be a secret.
    const line = (error as { linePos?: [{ line: number }] }).linePos?.[0].line;
    faults.push(missing ? `${name}: there is no such file` : `${name}: not readable as YAML${line === undefined ? '' : `, line ${line}`}`);
    return {};
  }
}

/** Puts the environment's values in place of `${NAME}`; an empty result is a key that is not set. */
function expand(value: unknown, env: Environment, path: readonly string[], faults: string[]): unknown {
  if (typeof value === 'string') {
    const expanded = value.replaceAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g, (_whole, name: string, otherwise?: string) => {
      const found = env[name] || otherwise;
      if (found === undefined) faults.push(`${path.join('.')}: the environment variable ${name} is not set`);
      return found ?? '';
    });
    return expanded === '' && value !== '' ? undefined : expanded;
  }
  if (Array.isArray(value)) return value.map((item, index) => expand(item, env, [...path, String(index)], faults));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, expand(item, env, [...path, key], faults)]));
  }
  return value;
}

/** Lays the environment's own variables over the file. Returns which key came from which variable. */
function overlay(raw: Tree, env: Environment): ReadonlyMap<string, string> {
  const origins = new Map<string, string>();
  for (const [name, path] of Object.entries(variables)) {
    const value = env[name];
    if (value === undefined || value === '') continue;
    let node = raw;
    for (const key of path.slice(0, -1)) {
      const next = node[key];
      node = node[key] = typeof next === 'object' && next !== null && !Array.isArray(next) ? (next as Tree) : {};
    }
    node[path.at(-1) as string] = value;
    origins.set(path.join('.'), name);
  }
  return origins;
}

/** The fault's path and what was expected. zod's messages tell of types and bounds, never of the value. */
function describe(issue: z.core.$ZodIssue, origins: ReadonlyMap<string, string>): readonly string[] {
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => `${path === '' ? key : `${path}.${key}`}: there is no such key`);
  const origin = origins.get(path);
  return [`${path}${origin === undefined ? '' : ` (${origin})`}: ${innermost(issue)}`];
}

function innermost(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_union' || issue.message !== 'Invalid input') return issue.message;
  const branches = issue.errors.flat();
  // The branch that got furthest says most: a pattern or a bound rather than another type.
  const telling = branches.find((branch) => branch.code !== 'invalid_type') ?? branches[0];
  return telling === undefined ? issue.message : innermost(telling);
}

function databaseUrl(database: {
  url?: string | undefined;
  host?: string | undefined;
  port: number;
  name: string;
  user: string;
  password: string;
}): string | null {
  if (database.url !== undefined) return database.url;
  if (database.host === undefined) return null;
  const password = database.password === '' ? '' : `:${encodeURIComponent(database.password)}`;
  return `postgres://${encodeURIComponent(database.user)}${password}@${database.host}:${database.port}/${encodeURIComponent(database.name)}`;
}

/** The environment of a child process: ours, with some variables set otherwise. */
export function childEnvironment(changes: Readonly<Record<string, string>> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries({ ...process.env, ...changes }).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}

/** Sets a variable that a library reads from the environment of this process. */
export function setVariable(name: string, value: string): void {
  process.env[name] = value;
}
