import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigFault, loadConfig } from '../../../config.js';

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

test('the production file names the log file of the requirements [CFG-08]', async () => {
  expect(loadConfig({ ORCHESTRA_ENV: 'production' }).logging).toEqual({
    level: 'INFO',
    format: 'json',
    handlers: ['console'],
    file: { path: '/var/log/orchestration/app.log', maxSizeBytes: 100_000_000, backupCount: 5 },
  });
  expect(await readFile('config/production.yaml', 'utf8')).toContain('${DB_HOST');
});
