import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { listModels } from '../../../db/models.js';
import { backendOf } from '../../support/host-parts.js';
import { type HostRig, keyOf, startHostRig } from '../../support/host-rig.js';
import { type ModelRegistry, startModelRegistry } from '../../support/model-registry.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually } from '../../support/servers.js';

let rig: HostRig;
let ollama: OwnOllama;
let registry: ModelRegistry;
const pulls: string[] = [];

beforeAll(async () => {
  [rig, ollama, registry] = await Promise.all([startHostRig(), startOwnOllama(), startModelRegistry()]);
  const backend = backendOf(ollama.url, registry.host);
  const counted: ModelBackend = {
    ...backend,
    pull: (name, signal, onProgress) => {
      pulls.push(name);
      return backend.pull(name, signal, onProgress);
    },
  };
  await rig.startHost({ models: counted });
}, 120_000);

afterAll(async () => {
  await rig?.stop();
  await ollama?.stop();
  await registry?.close();
});

test('ten waiting steps bring one pull, and each task is told how far it is [MODEL-04]', async () => {
  const name = registry.publish('ten', { ...tinyShape, seed: 40 });
  const downloads = registry.hold();
  const rows = await Promise.all(Array.from({ length: 10 }, () => rig.waitFor(keyOf(name))));
  const pulling = await eventually(async () => (await listModels(rig.sql)).find((model) => model.name === name && 'pull' in model.details));
  expect(pulling).toMatchObject({ loaded: false, residency: null, queueDepth: 10 });
  downloads.go();

  await eventually(async () => (await rig.sql`select 1 from line where id = any(${rows}::bigint[]) and state = 'granted'`).count === 1);
  expect(pulls).toEqual([name]);
  expect(registry.manifests('ten')).toBe(1);
  const told = await rig.sql<{ tasks: string }[]>`select count(distinct task_id) as tasks from task_events where kind = 'model_pull'`;
  expect(told[0]?.tasks).toBe('10');
  await eventually(async () => (await listModels(rig.sql)).find((model) => model.name === name && model.loaded && !('pull' in model.details)));
});

test('while a model is fetched its host serves what it holds, and loads others [MODEL-04, SCHED-09]', async () => {
  const [resident, urgent] = ['pull-resident:latest', 'pull-urgent:latest'];
  for (const [index, name] of [resident, urgent].entries()) await createTinyModel(ollama.url, name, { ...tinyShape, seed: 50 + index });
  const granted = (row: string) => eventually(async () => (await rig.sql`select 1 from line where id = ${row} and state = 'granted'`).count === 1);
  await rig.sql`update line set state = 'void', cause = 'left', ended_at = now() where state in ('waiting', 'granted')`;
  const first = await rig.waitFor(keyOf(resident));
  await granted(first);
  await rig.endRow(first);

  const name = registry.publish('slow', { ...tinyShape, seed: 41 });
  const downloads = registry.hold();
  const fetched = await rig.waitFor(keyOf(name));
  await eventually(async () => (await rig.sql`select 1 from residency_orders where state = 'open' and pull_model = ${name}`).count === 1);
  expect(await rig.residency()).toEqual({ [keyOf(resident)]: 'serving' });
  const again = await rig.waitFor(keyOf(resident));
  await granted(again);
  await rig.endRow(again);
  const other = await rig.waitFor(keyOf(urgent));
  await granted(other);
  await rig.endRow(other);
  expect(pulls.filter((pulled) => pulled === name)).toHaveLength(1);
  downloads.go();
  await granted(fetched);
  expect(await rig.sql`select 1 from residency_orders where state = 'open'`).toHaveLength(0);
  await rig.endRow(fetched);
});

test('one that is nowhere to be had ends those who wait for it, and nothing is unloaded for it [MODEL-13]', async () => {
  const before = await rig.residency();
  const row = await rig.waitFor(keyOf(`${registry.host}/test/nowhere:latest`));
  await eventually(async () => (await rig.sql`select 1 from line where id = ${row} and state = 'void'`).count === 1);
  expect(await rig.residency()).toEqual(before);
});
