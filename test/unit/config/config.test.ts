import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigFault, effectiveConfiguration, loadConfig, noticesOf, shownValue } from '../../../config.js';
import { withTable } from '../../../config/describe.js';
import { declaredKeys } from '../../../config/schema.js';

let configDir: string;
beforeAll(async () => {
  configDir = await mkdtemp(join(tmpdir(), 'config-'));
});
afterAll(() => rm(configDir, { recursive: true }));

async function load(yaml: string, env: Record<string, string> = {}) {
  await writeFile(join(configDir, 'test.yaml'), yaml);
  return loadConfig({ ORCHESTRA_ENV: 'test', HOME: '/home/me', ...env }, { configDir, cwd: '/srv/app' });
}

async function faultsOf(yaml: string, env: Record<string, string> = {}): Promise<readonly string[]> {
  const error = await load(yaml, env).catch((fault: unknown) => fault);
  expect(error).toBeInstanceOf(ConfigFault);
  return (error as ConfigFault).faults;
}

test('an empty file and environment give the defaults of one machine', async () => {
  expect(await load('')).toMatchObject({
    home: '/srv/app/.orchestra',
    cacheDir: '/home/me/.cache/ai-task-orchestra',
    api: { host: '127.0.0.1', port: null },
    database: { url: null, poolSize: 20, maxOverflow: 30 },
    temporal: { address: null, namespace: 'orchestra', priorityLevels: 5 },
    models: { address: null, allowPull: true, numCtx: 4096, keepAliveMs: 600_000 },
    engine: { slots: 10 },
    host: { id: 'local' },
    git: { allowedSchemes: ['https', 'ssh'], allowedHosts: [] },
    files: { roots: ['/srv/app/.orchestra/files'] },
    security: { apiKeyHeader: 'X-API-Key' },
  });
});

test('a script may use half of the memory of the machine unless the file says otherwise [bad-30]', async () => {
  expect((await load('')).limits.memoryBytes).toBe(Math.floor(totalmem() / 2));
  expect((await load('limits: { memory: 2GB }')).limits.memoryBytes).toBe(2e9);
  expect((await load('limits: { memory: 0 }')).limits.memoryBytes).toBe(0);
});

test('how much a model is given has limits of its own [bad-42, bad-43]', async () => {
  expect((await load('')).limits).toMatchObject({ promptChars: 1_000_000, imagesMax: 8, imageBytes: 10 * 1024 ** 2, embedInputs: 1_000 });
  const set = await load('limits: { prompt_chars: 5000, images_max: 2, image_bytes: 1MB, embed_inputs: 10 }');
  expect(set.limits).toMatchObject({ promptChars: 5_000, imagesMax: 2, imageBytes: 1e6, embedInputs: 10 });
  await expect(load('limits: { prompt_chars: 0, images_max: 1000 }')).rejects.toThrow(/prompt_chars[\s\S]*images_max/);
});

test.each(['development', 'production'])('the shipped %s file is without fault [CFG-01]', (environment) => {
  expect(loadConfig({ ORCHESTRA_ENV: environment }).environment).toBe(environment);
});

test('scripts are fenced by bubblewrap or refused, unless somebody says that weaker is enough [SEC-14]', async () => {
  expect((await load('')).isolation).toEqual({ sandbox: 'auto', minimum: 'bwrap' });
  for (const environment of ['development', 'production']) expect(loadConfig({ ORCHESTRA_ENV: environment }).isolation.minimum).toBe('bwrap');
  expect((await load('', { SANDBOX_MIN: 'uid' })).isolation.minimum).toBe('uid');
});

test('the database is named by its parts, from the environment [CFG-06]', () => {
  const env = { ORCHESTRA_ENV: 'production', DB_HOST: 'db.example', DB_PORT: '5433', DB_NAME: 'tasks', DB_USER: 'me', DB_PASSWORD: 'p@ss/word' };
  expect(loadConfig(env).database).toEqual({ url: 'postgres://me:p%40ss%2Fword@db.example:5433/tasks', poolSize: 20, maxOverflow: 30 });
});

test('values come from the environment by name, with what to use otherwise [CFG-01]', async () => {
  const config = await load('home: ${BASE}/orchestra\nhost: { id: "${NODE:-gpu-1}" }\n', { BASE: '/data' });
  expect(config).toMatchObject({ home: '/data/orchestra', host: { id: 'gpu-1' } });
});

test('the environment wins over the file, and an empty variable counts as not set', async () => {
  const config = await load('api: { port: 9000 }\nmodels: { allow_pull: true }\n', { PORT: '0', MODEL_ALLOW_PULL: 'false', TEMPORAL_ADDRESS: '' });
  expect(config.api.port).toBe(0);
  expect(config.models.allowPull).toBe(false);
  expect(config.temporal.address).toBeNull();
});

test('every fault is named with its path, all at once, and no value is shown [CFG-01]', async () => {
  const faults = await faultsOf(
    'api: { port: 99999, hots: secret-1 }\ndatabase: { pool_size: secret-2, host: "${NOWHERE}" }\nlogging: { level: secret-3 }\nmodels: { allow_pull: secret-4 }\nunknown: 1\nlimits: { output: 1 parsec }\n',
    { TEMPORAL_ADDRESS: 'secret-5', MAX_WORKERS: '-1' },
  );
  for (const path of [
    'api.port',
    'api.hots',
    'database.pool_size',
    'database.host',
    'logging.level',
    'models.allow_pull',
    'unknown',
    'limits.output',
    'temporal.address (TEMPORAL_ADDRESS)',
    'concurrency.max_workers (MAX_WORKERS)',
  ]) {
    expect(faults).toContainEqual(expect.stringMatching(new RegExp(`^${path.replaceAll(/[().]/g, '\\$&')}: .+`)));
  }
  expect(faults).toHaveLength(10);
  expect(faults).toContain('database.host: the environment variable NOWHERE is not set');
  expect(faults.join('\n')).not.toMatch(/secret|parsec|99999/);
});

test.each([
  ['true', true],
  ['1', true],
  ['on', true],
  ['false', false],
  ['0', false],
  ['no', false],
])('a flag written as %s in the environment is %s', async (word, value) => {
  expect((await load('', { MODEL_ALLOW_PULL: word })).models.allowPull).toBe(value);
});

test.each([
  ['100MB', 100_000_000],
  ['64MiB', 67_108_864],
  ['2 kb', 2_000],
  ['1048576', 1_048_576],
])('a size written as %s is %i bytes', async (size, bytes) => {
  expect((await load(`limits: { file: "${size}" }`)).limits.fileBytes).toBe(bytes);
});

test('lists are YAML lists or comma-separated', async () => {
  expect((await load('git: { allowed_schemes: [https] }')).git.allowedSchemes).toEqual(['https']);
  expect((await load('', { GIT_ALLOWED_SCHEMES: 'https, file' })).git.allowedSchemes).toEqual(['https', 'file']);
  expect(await faultsOf('', { GIT_ALLOWED_SCHEMES: 'https,ext' })).toEqual([expect.stringContaining('git.allowed_schemes')]);
});

test.each([
  ['a broken file', 'api: { port: secret', 'config/test.yaml: not readable as YAML, line 1'],
  ['a list', '- 1', 'config/test.yaml: expected keys and values'],
])('%s is one fault that names it', async (_case, yaml, fault) => {
  expect(await faultsOf(yaml)).toEqual([fault]);
});

test('an environment without a file, or with a path for a name, is refused', () => {
  expect(() => loadConfig({ ORCHESTRA_ENV: 'staging' }, { configDir })).toThrow('config/staging.yaml: there is no such file');
  expect(() => loadConfig({ ORCHESTRA_ENV: '../test' }, { configDir })).toThrow('ORCHESTRA_ENV');
});

test('the production file has the log settings of the requirements [CFG-08, OBS-06]', async () => {
  expect(loadConfig({ ORCHESTRA_ENV: 'production' }).logging).toEqual({
    level: 'INFO',
    format: 'json',
    handlers: ['console', 'file'],
    file: { path: '/var/log/orchestration/app.log', maxSizeBytes: 100_000_000, backupCount: 5 },
  });
  expect(await readFile('config/production.yaml', 'utf8')).toContain('${DB_HOST');
});

test('the production file has every value of the contract, and each is the default as well [CFG-02, CFG-03, CFG-04, CFG-05, CFG-06, CFG-08]', async () => {
  const production = loadConfig({ ORCHESTRA_ENV: 'production' }).settings;
  const plain = (await load('')).settings;
  const wanted = {
    'orchestration.scheduling.algorithm': 'reinforcement_learning',
    'orchestration.scheduling.rl_config.learning_rate': 0.001,
    'orchestration.scheduling.rl_config.exploration_rate': 0.1,
    'orchestration.scheduling.rl_config.batch_size': 32,
    'orchestration.scheduling.rl_config.memory_size': 10_000,
    'orchestration.scheduling.rl_config.update_frequency': 100,
    'orchestration.scheduling.queue_config.max_queue_size': 10_000,
    'orchestration.scheduling.queue_config.priority_levels': 10,
    'orchestration.scheduling.queue_config.timeout_seconds': 3_600,
    'orchestration.optimization.gnn_config.node_features': 32,
    'orchestration.optimization.gnn_config.edge_features': 16,
    'orchestration.optimization.gnn_config.hidden_layers': [64, 32, 16],
    'orchestration.optimization.gnn_config.dropout_rate': 0.2,
    'orchestration.optimization.analysis_config.bottleneck_threshold': 0.8,
    'orchestration.optimization.analysis_config.optimization_interval': 300,
    'orchestration.optimization.analysis_config.max_parallel_optimizations': 5,
    'orchestration.resource_prediction.lstm_config.input_size': 16,
    'orchestration.resource_prediction.lstm_config.hidden_size': 64,
    'orchestration.resource_prediction.lstm_config.num_layers': 2,
    'orchestration.resource_prediction.lstm_config.dropout_rate': 0.2,
    'orchestration.resource_prediction.prediction_config.prediction_horizon': 3_600,
    'orchestration.resource_prediction.prediction_config.retrain_interval': 86_400,
    'orchestration.resource_prediction.prediction_config.min_training_samples': 1_000,
    'orchestration.performance.targets.latency_ms': 100,
    'orchestration.performance.targets.completion_improvement': 0.3,
    'orchestration.performance.targets.resource_reduction': 0.2,
    'orchestration.performance.targets.prediction_accuracy': 0.85,
    'orchestration.performance.monitoring.metrics_collection_interval': 60,
    'orchestration.performance.monitoring.alert_thresholds.high_latency_ms': 200,
    'orchestration.performance.monitoring.alert_thresholds.low_accuracy': 0.75,
    'orchestration.performance.monitoring.alert_thresholds.high_error_rate': 0.05,
    'database.pool_size': 20,
    'database.max_overflow': 30,
    'temporal.max_connections': 100,
    'retention.task_executions': 90,
    'retention.performance_metrics': 365,
    'retention.orchestration_decisions': 180,
    'retention.logs': 30,
    'security.api_key.header': 'X-API-Key',
    'security.api_key.length': 32,
    'security.jwt.algorithm': 'HS256',
    'security.jwt.expiration_hours': 24,
    'security.rate_limit.requests_per_minute': 1_000,
    'security.rate_limit.burst': 100,
    'security.encryption.algorithm': 'AES-256-GCM',
    'security.encryption.fields': ['api_keys', 'credentials', 'personal_data'],
    'concurrency.max_workers': 10,
    'telemetry.enabled': false,
    'monitoring.port': 8000,
    'logging.level': 'INFO',
    'logging.format': 'json',
    'logging.file_config.max_size': 100_000_000,
    'logging.file_config.backup_count': 5,
  };
  for (const [key, value] of Object.entries(wanted)) {
    expect(production.find((setting) => setting.key === key)).toMatchObject({ key, value, origin: 'file' });
    expect(plain.find((setting) => setting.key === key)).toMatchObject({ key, value, origin: 'default' });
  }
  expect(production.find(({ key }) => key === 'security.cors.origins')?.value).toEqual(['https://app.graph-sitter.com', 'https://api.graph-sitter.com']);
});

test.each([
  ['orchestration: { scheduling: { algorithm: random } }', 'orchestration.scheduling.algorithm'],
  ['orchestration: { scheduling: { rl_config: { exploration_rate: 2 } } }', 'orchestration.scheduling.rl_config.exploration_rate'],
  ['orchestration: { scheduling: { queue_config: { priority_levels: 5 } } }', 'orchestration.scheduling.queue_config.priority_levels'],
  ['orchestration: { optimization: { gnn_config: { hidden_layers: [] } } }', 'orchestration.optimization.gnn_config.hidden_layers'],
  ['orchestration: { performance: { targets: { latency_ms: soon } } }', 'orchestration.performance.targets.latency_ms'],
  ['retention: { logs: 1 eternity }', 'retention.logs'],
  ['security: { jwt: { secret: short } }', 'security.jwt.secret'],
  ['security: { jwt: { algorithm: none } }', 'security.jwt.algorithm'],
  ['security: { cors: { origins: ["*"] } }', 'security.cors.origins.0'],
  ['security: { encryption: { algorithm: ROT13 } }', 'security.encryption.algorithm'],
  ['monitoring: { port: 70000 }', 'monitoring.port'],
  ['redis: { port: x }', 'redis.port'],
])('%s is a fault of the key that has it [CFG-01, SEC-10]', async (yaml, path) => {
  expect(await faultsOf(yaml)).toEqual([expect.stringContaining(`${path}: `)]);
});

test.each([
  ['90', 90],
  ['90 days', 90],
  ['2 weeks', 14],
  ['6 months', 180],
  ['1 year', 365],
])('a time written as %s is %i days', async (written, value) => {
  const { settings } = await load(`retention: { logs: ${written} }`);
  expect(settings.find(({ key }) => key === 'retention.logs')?.value).toBe(value);
});

test('what is set and not in force is told, by key and without its value [CFG-08]', async () => {
  const notices = async (yaml: string, env: Record<string, string> = {}) => noticesOf((await load(yaml, env)).settings).map(({ message }) => message);
  expect(await notices('')).toEqual([]);
  expect(await notices('telemetry: { enabled: false }\ncache: { ttl_seconds: 300 }')).toEqual([]);
  expect(await notices('telemetry: { enabled: true }\ncache: { ttl_seconds: 60 }')).toEqual([
    'accepted, not in force yet: cache.ttl_seconds, telemetry.enabled',
  ]);
  const secret = 'x'.repeat(40);
  const safety = await notices('security: { rate_limit: { burst: 100 } }\nretention: { logs: 30 }', { JWT_SECRET_KEY: secret, ENCRYPTION_KEY: secret });
  expect(safety).toEqual(['accepted, not in force yet: retention.logs, security.jwt.secret, security.rate_limit.burst, security.encryption.key']);
  expect(await notices('orchestration: { scheduling: { algorithm: reinforcement_learning } }')).toEqual([expect.stringContaining('priority_affinity')]);
  expect(await notices('orchestration: { scheduling: { algorithm: priority_affinity } }')).toEqual([]);
});

test('a learned agent that is configured and not there is shown as not in force, the algorithm that decides instead as in force [SCHED-18]', async () => {
  const shown = async (yaml: string) => effectiveConfiguration(await load(yaml)).settings.find(({ key }) => key === 'orchestration.scheduling.algorithm');
  expect(await shown('')).toMatchObject({ shown: 'reinforcement_learning', inForce: false });
  expect(await shown('orchestration: { scheduling: { algorithm: priority_affinity } }')).toMatchObject({ shown: 'priority_affinity', inForce: true });
});

test('redis is accepted, and a start says what takes the place of each key [CFG-07]', async () => {
  const { settings } = await load('redis: { host: "${REDIS_HOST}", port: "${REDIS_PORT}", password: "${REDIS_PASSWORD}", db: 0, max_connections: 100 }', {
    REDIS_HOST: 'cache.example',
    REDIS_PORT: '6379',
    REDIS_PASSWORD: 'hunter22',
  });
  const [notice] = noticesOf(settings);
  for (const [from, to] of [
    ['redis.host', 'temporal.address'],
    ['redis.port', 'temporal.address'],
    ['redis.password', 'temporal.api_key'],
    ['redis.db', 'temporal.namespace'],
    ['redis.max_connections', 'temporal.max_connections'],
  ])
    expect(notice?.message).toContain(`${from} by ${to}`);
  expect(notice?.message).toContain('cache.max_entries');
  expect(JSON.stringify(noticesOf(settings))).not.toContain('hunter22');
});

test('every key says who set it, and what `orchestra up` sets is nobody’s choice [CFG-09]', async () => {
  const { settings } = await load('api: { port: 9000 }\nmodels: { parallel: 2 }', {
    MODEL_PARALLEL: '3',
    DATABASE_URL: 'postgres://u:p@h/d',
    ORCHESTRA_PROVIDED: 'DATABASE_URL,OLLAMA_HOST',
  });
  const origin = (name: string) => settings.find(({ key }) => key === name)?.origin;
  expect([origin('api.port'), origin('models.parallel'), origin('database.url'), origin('api.host')]).toEqual(['file', 'variable', 'provided', 'default']);
  expect(settings.map(({ key }) => key)).toEqual(declaredKeys.map(({ path }) => path.join('.')));
});

test.each([
  ['postgres://me:hunter22@db:5432/x?sslmode=require', 'postgres://me:[redacted]@db:5432/x?sslmode=require'],
  ['postgres://me:p@hunter22@db/x', 'postgres://me:[redacted]@db/x'],
  ['postgres://db/x?user=me&password=hunter22', 'postgres://db/x?user=me&password=[redacted]'],
  ['http://me@host:1/', 'http://me@host:1/'],
  ['plain', 'plain'],
])('the address %s is shown without its password [CFG-09]', (value, shown) => {
  expect(shownValue({ value, secret: false })).toBe(shown);
});

test('the table of docs/configuration.md is that of the schema; `npm run config-docs` writes it', async () => {
  const page = await readFile('docs/configuration.md', 'utf8');
  expect(page).toBe(withTable(page));
});
