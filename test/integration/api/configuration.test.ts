import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { effectiveConfiguration, loadConfig } from '../../../config.js';
import type { ConfigurationView } from '../../../contract/schemas/configuration.js';
import { noteConfiguration } from '../../../service/configuration.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

const secret = 'hunter22-and-more-characters-than-32';
let folder: string;
let api: ApiUnderTest;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'config-'));
  api = await apiUnderTest({
    deps: {
      configuration: await configured('api: { port: 9000 }\nsecurity: { jwt: { secret: "${JWT}" } }', {
        JWT: secret,
        MAX_WORKERS: '3',
        DB_PASSWORD: secret,
        DATABASE_URL: `postgres://me:${secret}@db:5432/x`,
        OLLAMA_HOST: `http://me:${secret}@gpu:11434`,
        TEMPORAL_ADDRESS: '127.0.0.1:7233',
        ORCHESTRA_PROVIDED: 'TEMPORAL_ADDRESS',
      }),
    },
  });
});
afterAll(async () => {
  await api.stop();
  await rm(folder, { recursive: true });
});

async function configured(yaml: string, env: Record<string, string> = {}) {
  await writeFile(path.join(folder, 'test.yaml'), yaml);
  return effectiveConfiguration(loadConfig({ ORCHESTRA_ENV: 'test', ...env }, { configDir: folder }));
}
const entries = async (main: string) =>
  (await api.database.sql<{ action: string; userId: string | null; details: { changes: { key: string; from: unknown; to: unknown }[] } }[]>`
    select action, user_id as "userId", details from audit_log where details ->> 'main' = ${main} order by id`) as unknown as {
    action: string;
    userId: string | null;
    details: { changes: { key: string; from: unknown; to: unknown }[] };
  }[];

test('administrators see every key, who has set it, and no secret [CFG-09]', async () => {
  const answer = await api.request(api.keys.admin, 'GET', '/api/v1/config');
  expect(answer.status).toBe(200);
  const body = (await answer.json()) as ConfigurationView;
  const of = (name: string) => body.items.find(({ key }) => key === name);
  expect(body).toMatchObject({ environment: 'test', file: 'config/test.yaml' });
  expect(of('api.port')).toEqual({ key: 'api.port', value: 9000, default: null, origin: 'file', variable: 'PORT', in_force: true });
  expect(of('concurrency.max_workers')).toMatchObject({ value: 3, default: 10, origin: 'variable', variable: 'MAX_WORKERS' });
  expect(of('temporal.address')).toMatchObject({ origin: 'provided' });
  expect(of('logging.level')).toMatchObject({ value: 'INFO', origin: 'default' });
  expect(of('security.jwt.secret')).toMatchObject({ value: '[redacted]', origin: 'file', in_force: false });
  expect(of('database.password')?.value).toBe('[redacted]');
  expect(of('database.url')?.value).toBe('postgres://me:[redacted]@db:5432/x');
  expect(of('models.address')?.value).toBe('http://me:[redacted]@gpu:11434');
  expect(JSON.stringify(body)).not.toContain('hunter22');
});

test('nobody else sees the configuration [CFG-09, SEC-05]', async () => {
  for (const who of [api.keys.ann, api.keys.viewer]) expect((await api.request(who, 'GET', '/api/v1/config')).status).toBe(403);
  expect((await api.request(null, 'GET', '/api/v1/config')).status).toBe(401);
});

test('a start with another configuration is audited with what changed, of a secret only that it did [CFG-09, SEC-11]', async () => {
  const { sql } = api.database;
  const start = async (yaml: string, env: Record<string, string> = {}) => noteConfiguration(sql, 'engine', await configured(yaml, env));
  const other = `${secret}-new`;
  expect(await start('concurrency: { max_workers: 10 }', { DATABASE_URL: `postgres://me:${secret}@db/x`, JWT_SECRET_KEY: secret })).toEqual([]);
  expect(await start('', { DATABASE_URL: `postgres://me:${secret}@db/x`, JWT_SECRET_KEY: secret })).toEqual([]);
  expect(await start('concurrency: { max_workers: 4 }', { DATABASE_URL: `postgres://me:${other}@db/x`, JWT_SECRET_KEY: other })).toEqual([
    'database.url',
    'concurrency.max_workers',
    'security.jwt.secret',
  ]);
  expect(await start('', {})).toEqual(['database.url', 'concurrency.max_workers', 'security.jwt.secret']);
  const written = await entries('engine');
  expect(written.map(({ action, userId }) => [action, userId])).toEqual([
    ['configuration_changed', null],
    ['configuration_changed', null],
  ]);
  expect(written[0]?.details.changes).toEqual([
    { key: 'database.url', from: 'postgres://me:[redacted]@db/x', to: 'postgres://me:[redacted]@db/x' },
    { key: 'concurrency.max_workers', from: 10, to: 4 },
    { key: 'security.jwt.secret', from: '[redacted]', to: '[redacted]' },
  ]);
  const [kept] = await sql<
    { text: string }[]
  >`select coalesce(string_agg(c::text, ''), '') || (select string_agg(a::text, '') from audit_log a) as text from configurations c`;
  expect(kept?.text).not.toContain('hunter22');
});

test('what `orchestra up` sets anew at each start is no change, and a person taking it over is one [CFG-09]', async () => {
  const start = async (env: Record<string, string>) => noteConfiguration(api.database.sql, 'api', await configured('', env));
  expect(await start({ PORT: '1', ORCHESTRA_PROVIDED: 'PORT' })).toEqual([]);
  expect(await start({ PORT: '2', ORCHESTRA_PROVIDED: 'PORT' })).toEqual([]);
  expect(await start({ PORT: '2' })).toEqual(['api.port']);
});

test('starts at the same time leave one entry [CFG-09]', async () => {
  const { sql } = api.database;
  await noteConfiguration(sql, 'host:a', await configured(''));
  const changed = await configured('models: { parallel: 2 }');
  const found = await Promise.all([1, 2, 3].map(() => noteConfiguration(sql, 'host:a', changed)));
  expect(found.filter((keys) => keys.length > 0)).toEqual([['models.parallel']]);
  expect(await entries('host:a')).toHaveLength(1);
});
