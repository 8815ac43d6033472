import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { backendOf } from '../../support/host-parts.js';
import { type HostRig, keyOf, startHostRig } from '../../support/host-rig.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually, temporalAddress } from '../../support/servers.js';

const [before, after] = ['host-before:latest', 'host-after:latest'] as const;

let rig: HostRig;
let ollama: OwnOllama;
let child: ChildProcess;

beforeAll(async () => {
  [rig, ollama] = await Promise.all([startHostRig(), startOwnOllama()]);
  for (const [index, name] of [before, after].entries()) await createTinyModel(ollama.url, name, { ...tinyShape, seed: index + 1 });
}, 120_000);

afterAll(async () => {
  child?.kill('SIGKILL');
  await rig?.stop();
  await ollama?.stop();
});

test('a host that is killed between an unload and a load goes on from what the server holds, and loads the model once [fault-31]', async () => {
  const settings = { host: rig.host, database: rig.url, address: temporalAddress(), namespace: rig.namespace, ollama: ollama.url };
  const file = path.join(import.meta.dirname, 'host-process.ts');
  child = spawn(process.execPath, ['--import', 'tsx', file, JSON.stringify(settings)], { stdio: ['ignore', 'ignore', 'inherit'] });
  const died = once(child, 'exit');

  const first = await rig.waitFor(keyOf(before));
  await eventually(async () => (await rig.residency())[keyOf(before)] === 'serving', { timeoutMs: 40_000 });
  const second = await rig.waitFor(keyOf(after));
  await rig.endRow(first);
  expect((await died)[1]).toBe('SIGKILL');
  expect(await rig.residency()).toEqual({});

  const models = backendOf(ollama.url);
  const loads: string[] = [];
  const unloads: string[] = [];
  await rig.startHost({
    models: {
      ...models,
      load: (need, keepAliveMs, signal) => {
        loads.push(need.name);
        return models.load(need, keepAliveMs, signal);
      },
      unload: (name, signal) => {
        unloads.push(name);
        return models.unload(name, signal);
      },
    },
  });
  await eventually(async () => (await rig.sql`select 1 from line where id = ${second} and state = 'granted'`).count === 1);
  expect(await rig.residency()).toEqual({ [keyOf(after)]: 'serving' });
  expect(loads).toEqual([after]);
  expect(unloads).toEqual([]);
  const orders = await rig.sql<{ state: string; code: string | null }[]>`select state, error ->> 'code' as code from residency_orders order by created_at`;
  expect(orders.map(({ state, code }) => code ?? state)).toEqual(['done', 'host_lost', 'done']);
});
