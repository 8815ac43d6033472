import { readFileSync } from 'node:fs';
import { homedir, totalmem } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { z } from 'zod';
import { resolveAliases } from './contract/model-alias.js';
import { parseModelName } from './contract/model-name.js';
import type { ModelProfile } from './contract/schemas/model-options.js';
import { declaredKeys, defaultMetricsPort, schema } from './config/schema.js';
import { settingsOf, valueAt } from './config/settings.js';

export { effectiveConfiguration, noticesOf, shownValue } from './config/settings.js';

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
  const written = structuredClone(raw);
  const origins = overlay(raw, env);
  const parsed = schema.safeParse(raw);
  if (!parsed.success) faults.push(...parsed.error.issues.flatMap((issue) => describe(issue, origins)));
  if (parsed.error !== undefined || faults.length > 0 || parsed.data === undefined) throw new ConfigFault(faults);
  const file = parsed.data;
  const aliases = resolveAliases(file.models.aliases, file.models.registries);
  const profiles = profilesOf(file.models.profiles, new Set(Object.keys(file.models.aliases)), file.models.registries);
  faults.push(...aliases.faults.map(({ alias, text }) => `models.aliases.${alias}: ${text}`), ...profiles.faults);
  if (faults.length > 0) throw new ConfigFault(faults);
  const home = resolve(cwd, file.home);
  const at = (path: string) => (isAbsolute(path) ? path : resolve(cwd, path));
  const { performance } = file.orchestration;
  const provided = new Set((env['ORCHESTRA_PROVIDED'] ?? '').split(','));
  return {
    environment,
    /** every key with its value and who set it, secrets included */
    settings: settingsOf(file, (path) => valueAt(written, path) !== undefined, origins, provided),
    /** whether `orchestra up` has started this process */
    underUp: env['ORCHESTRA_PROVIDED'] !== undefined,
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
      /** null: what the machine has room for, see host/room-of.ts */
      maxLoaded: file.models.max_loaded ?? null,
      memoryBudgetBytes: file.models.memory_budget ?? null,
      aliases: aliases.models,
      profiles: profiles.found,
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
    engine: {
      slots: file.concurrency.max_workers,
      /** amounts by pool that replace or join those of the machines */
      pools: file.concurrency.pools,
      /** what is to order the line */
      algorithm: file.orchestration.scheduling.algorithm,
      /** how long what it decided is kept */
      decisionsDays: file.retention.orchestration_decisions,
    },
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
    monitoring: {
      /** of `/metrics` alone; null: none */ port: file.monitoring.port === 'off' ? null : file.monitoring.port,
      /** taken, the default gives way instead of failing */ portGivesWay: file.monitoring.port === defaultMetricsPort,
      publicMetrics: file.monitoring.public_metrics,
      /** how the whole is collected, and when that raises an alert */
      collect: {
        intervalMs: performance.monitoring.metrics_collection_interval * 1_000,
        keptDays: file.retention.performance_metrics,
        alerts: {
          targetLatencyMs: performance.targets.latency_ms,
          highLatencyMs: performance.monitoring.alert_thresholds.high_latency_ms,
          lowAccuracy: performance.monitoring.alert_thresholds.low_accuracy,
          highErrorRate: performance.monitoring.alert_thresholds.high_error_rate,
          rules: file.monitoring.alert_rules,
        },
      },
    },
    templates: { directory: file.templates.directory === undefined ? null : at(file.templates.directory) },
    security: { apiKeyHeader: file.security.api_key.header },
    shutdown: { graceMs: file.shutdown.grace_seconds * 1_000 },
  };
}

/** Profiles by alias or by the one form of a model's name. */
function profilesOf(
  profiles: Readonly<Record<string, ModelProfile>>,
  aliases: ReadonlySet<string>,
  registries: readonly string[],
): { found: ReadonlyMap<string, ModelProfile>; faults: string[] } {
  const found = new Map<string, ModelProfile>();
  const faults: string[] = [];
  for (const [written, profile] of Object.entries(profiles)) {
    const parsed = aliases.has(written) ? { name: written, digest: null } : parseModelName(written, registries);
    if ('problem' in parsed) faults.push(`models.profiles.${written}: neither an alias nor a model: ${parsed.problem}`);
    else if (parsed.digest !== null) faults.push(`models.profiles.${written}: a profile is of a model, not of one digest`);
    else if (found.has(parsed.name)) faults.push(`models.profiles.${written}: ${parsed.name} has a profile already`);
    else found.set(parsed.name, profile);
  }
  return { found, faults };
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

/** Lays the environment's own variables over the file; one that is empty counts as not set. Returns which key came from which variable. */
function overlay(raw: Tree, env: Environment): ReadonlyMap<string, string> {
  const origins = new Map<string, string>();
  for (const { path, variable: name } of declaredKeys) {
    const value = name === undefined ? undefined : env[name];
    if (name === undefined || value === undefined || value === '') continue;
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
