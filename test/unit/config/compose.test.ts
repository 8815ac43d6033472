import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../../config.js';
import { temporalDynamicConfig } from '../../../temporal/server/temporal-command.js';

interface Service {
  readonly image?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
}

async function compose(): Promise<{ services: Readonly<Record<string, Service>>; volumes: Readonly<Record<string, unknown>> }> {
  return parse(await readFile('docker-compose.yml', 'utf8'), { merge: true });
}

test('the compose file has every service, each with a health check [OPS-01]', async () => {
  const { services } = await compose();
  expect(Object.keys(services).sort()).toEqual(['api', 'engine', 'host', 'ollama', 'postgres', 'temporal', 'temporal-ui']);
  const unchecked = Object.entries(services).filter(([, { healthcheck }]) => healthcheck?.test === undefined);
  expect(unchecked).toEqual([]);
});

test('services wait for what they need, and what they wait for exists [OPS-01]', async () => {
  const { services } = await compose();
  for (const name of ['api', 'engine', 'host'])
    expect(services[name]?.depends_on).toMatchObject({ postgres: { condition: 'service_healthy' }, temporal: { condition: 'service_healthy' } });
  for (const service of Object.values(services)) for (const needed of Object.keys(service.depends_on ?? {})) expect(services).toHaveProperty(needed);
});

test('data outlives its containers [OPS-01]', async () => {
  const { services, volumes } = await compose();
  for (const name of ['api', 'engine', 'host', 'postgres', 'ollama']) {
    const volume = services[name]?.volumes?.[0]?.split(':')[0] ?? '';
    expect(Object.keys(volumes)).toContain(volume);
  }
});

test('nothing is published beyond the loopback [OPS-01]', async () => {
  const { services } = await compose();
  for (const service of Object.values(services)) for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
});

test('the Temporal server of the compose file has the dynamic configuration of our own', async () => {
  const file = parse(await readFile('temporal/dynamicconfig/orchestra.yaml', 'utf8')) as Record<string, readonly { value: unknown }[]>;
  expect(Object.fromEntries(Object.entries(file).map(([key, [entry]]) => [key, entry?.value]))).toEqual(temporalDynamicConfig);
  const { services } = await compose();
  expect(services['temporal']?.environment?.['DYNAMIC_CONFIG_FILE_PATH']).toMatch(/orchestra\.yaml$/);
  expect(services['temporal']?.volumes).toContainEqual(expect.stringMatching(/^\.\/temporal\/dynamicconfig:/));
});

test('the environment of the mains is one that the configuration takes', async () => {
  const { services } = await compose();
  for (const name of ['api', 'engine', 'host']) {
    const env = Object.fromEntries(Object.entries(services[name]?.environment ?? {}).map(([key, value]) => [key, value.replace(/\$\{\w+:-([^}]*)\}/, '$1')]));
    const config = loadConfig(env);
    expect(config.database.url).toBe('postgres://orchestra:orchestra@postgres:5432/orchestra');
    expect(config.temporal).toMatchObject({ address: 'temporal:7233', priorityLevels: 60 });
    expect(config.isolation.minimum).toBe('bwrap'); // weaker only by an explicit SANDBOX_MIN
    expect(services[name]?.command).toEqual([name]);
  }
});
