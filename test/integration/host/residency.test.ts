import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { modelQueue, workflowQueue } from '../../../contract/queues.js';
import { residencyWorkflowId } from '../../../contract/ids.js';
import { listModels } from '../../../db/models.js';
import { HostTaken } from '../../../db/leases.js';
import type { Host } from '../../../host/host.js';
import { changeResidencyType, orderSignal } from '../../../workflows/change-residency.messages.js';
import { backendOf } from '../../support/host-parts.js';
import { type HostRig, keyOf, startHostRig } from '../../support/host-rig.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually } from '../../support/servers.js';

const [one, two, other, variant] = ['host-one:latest', 'host-two:latest', 'host-other:latest', 'host-variant:latest'] as const;

let rig: HostRig;
let ollama: OwnOllama;
let host: Host;

beforeAll(async () => {
  [rig, ollama] = await Promise.all([startHostRig(), startOwnOllama()]);
  for (const [index, name] of [one, two, other].entries()) await createTinyModel(ollama.url, name, { ...tinyShape, seed: index + 1 });
  host = await rig.startHost({ models: backendOf(ollama.url) });
}, 120_000);

afterAll(async () => {
  await rig?.stop();
  await ollama?.stop();
});

const stateOf = async (row: string) => (await rig.sql<{ state: string; cause: string | null }[]>`select state, cause from line where id = ${row}`)[0];
const granted = (row: string) => eventually(async () => (await stateOf(row))?.state === 'granted');
const hostRow = async () => (await rig.sql<{ epoch: string; ready: boolean }[]>`select epoch, ready from hosts where id = ${rig.host}`)[0]!;

async function inMemory(): Promise<string[]> {
  const { models } = (await (await fetch(`${ollama.url}/api/ps`)).json()) as { models: { name: string }[] };
  return models.map(({ name }) => name).toSorted();
}

async function ask(model: string, keepAlive: number): Promise<void> {
  const answer = await fetch(`${ollama.url}/api/generate`, { method: 'POST', body: JSON.stringify({ model, keep_alive: keepAlive, stream: false }) });
  expect(answer.ok).toBe(true);
}

/** Whether the queue of a model has a Worker: its last poll is newer than the question. */
async function isServed(key: string): Promise<boolean> {
  const { pollers } = await rig.client.workflowService.describeTaskQueue({
    namespace: rig.namespace,
    taskQueue: { name: modelQueue(rig.host, key) },
    taskQueueType: 2,
  });
  return (pollers ?? []).length > 0;
}

test('a living host renews its lease under the same epoch', async () => {
  const lease = async () => (await rig.sql<{ epoch: string; until: string }[]>`select epoch, lease_until::text as until from hosts where id = ${rig.host}`)[0]!;
  const first = await lease();
  const second = await eventually(async () => {
    const now = await lease();
    return now.until !== first.until && now;
  });
  expect(second.epoch).toBe(first.epoch);
});

test('a waiting step brings its model and the worker of its queue, and the next model takes both away [MODEL-05] [MODEL-08]', async () => {
  const first = await rig.waitFor(keyOf(one));
  await granted(first);
  expect(await rig.residency()).toEqual({ [keyOf(one)]: 'serving' });
  expect(await inMemory()).toEqual([one]);
  await eventually(() => isServed(keyOf(one)));

  const second = await rig.waitFor(keyOf(two));
  await rig.endRow(first);
  await granted(second);
  expect(await rig.residency()).toEqual({ [keyOf(two)]: 'serving' });
  expect(await inMemory()).toEqual([two]);
  await eventually(() => isServed(keyOf(two)));
  await eventually(async () => !(await isServed(keyOf(one))));
  await rig.endRow(second);
});

test('a model made from the weights of another takes its place in the same memory, and nothing is unloaded or loaded for it [MODEL-05]', async () => {
  const made = await fetch(`${ollama.url}/api/create`, {
    method: 'POST',
    body: JSON.stringify({ model: variant, from: one, system: 'Answer in verse.', stream: false }),
  });
  expect(made.ok).toBe(true);
  const first = await rig.waitFor(keyOf(one));
  await granted(first);
  const runners = await ollama.runners();
  const second = await rig.waitFor(keyOf(variant));
  await rig.endRow(first);
  await granted(second);
  expect(await rig.residency()).toEqual({ [keyOf(variant)]: 'serving' });
  expect(await ollama.runners()).toEqual(runners);
  await eventually(async () => {
    const seen = (await listModels(rig.sql)).filter(({ loaded }) => loaded);
    expect(seen.map(({ name, runner }) => [name, runner]).toSorted()).toEqual([one, variant].toSorted().map((name) => [name, seen[0]?.runner]));
    return true;
  });
  await rig.endRow(second);
  const last = await rig.waitFor(keyOf(two));
  await granted(last);
  expect(await inMemory()).toEqual([two]); // and with the last of them the memory goes
  await rig.endRow(last);
});

test('urgent work keeps a model that was to be unloaded: nothing is loaded for it [SCHED-09]', async () => {
  const first = await rig.waitFor(keyOf(two));
  await granted(first);
  const behind = await rig.waitFor(keyOf(one));
  await eventually(async () => (await rig.residency())[keyOf(two)] === 'draining');
  const [{ orders } = { orders: 0 }] = await rig.sql<{ orders: number }[]>`select count(*)::integer as orders from residency_orders`;
  const urgent = await rig.waitFor(keyOf(two));
  await rig.sql`update line set level = 10 where id = ${urgent}`;
  await eventually(async () => (await rig.residency())[keyOf(two)] === 'serving');
  expect(await inMemory()).toEqual([two]);
  await rig.endRow(first);
  await granted(urgent);
  expect(await rig.sql`select 1 from residency_orders where load_key = ${keyOf(two)} and state = 'open'`).toHaveLength(0);
  await rig.endRow(urgent);
  await granted(behind);
  expect(await inMemory()).toEqual([one]);
  const later = await rig.sql<{ key: string }[]>`select load_key as key from residency_orders order by created_at offset ${orders}`;
  expect(new Set(later.map(({ key }) => key))).toEqual(new Set([keyOf(one)])); // ordered again after it, once or more
  await rig.endRow(behind);
});

test('a model is not unloaded while a step runs on it [MODEL-06]', async () => {
  const running = await rig.waitFor(keyOf(one));
  await granted(running);
  await rig.sql`update line set state = 'running', claim_token = gen_random_uuid(), started_at = now() where id = ${running}`;
  const next = await rig.waitFor(keyOf(two));
  await eventually(async () => (await rig.residency())[keyOf(one)] === 'draining');
  // An unload would come at once, or with a look 200 ms later; the drain has looked when its workflow says so twice.
  const beats = async () =>
    (await rig.client.workflow.getHandle(residencyWorkflowId(rig.host)).describe()).raw.pendingActivities?.[0]?.lastHeartbeatTime?.seconds?.toString();
  const before = await eventually(beats);
  await eventually(async () => (await beats()) !== before);
  expect(await inMemory()).toEqual([one]);
  expect(await stateOf(next)).toMatchObject({ state: 'waiting' });

  await rig.endRow(running);
  await granted(next);
  expect(await inMemory()).toEqual([two]);
  await rig.endRow(next);
});

test('a load made outside is seen [MODEL-02]', async () => {
  await ask(other, 60);
  const seen = await eventually(async () => (await listModels(rig.sql)).find(({ name, loaded }) => name === other && loaded));
  expect(seen).toMatchObject({ host: rig.host, residency: null, queueDepth: 0 });
  expect(seen.memoryBytes).toBeGreaterThan(0);
  expect(seen.expiresAt).toBeInstanceOf(Date);
  await ask(other, 0);
  await eventually(async () => (await listModels(rig.sql)).find(({ name, loaded }) => name === other && !loaded));
});

test('a served model that somebody unloads is loaded again without a new order [fault-28]', async () => {
  const row = await rig.waitFor(keyOf(one));
  await granted(row);
  const orders = async () => (await rig.sql`select 1 from residency_orders`).count;
  const before = await orders();
  await ask(one, 0);
  await eventually(async () => (await inMemory()).length === 0);
  await eventually(async () => (await inMemory()).includes(one));
  expect(await rig.residency()).toEqual({ [keyOf(one)]: 'serving' });
  expect(await orders()).toBe(before);
  await rig.endRow(row);
});

test('a second process on the same host is refused, and the first goes on [fault-32]', async () => {
  const second = rig.createHost({ models: backendOf(ollama.url) });
  await expect(second.start()).rejects.toThrow(HostTaken);
  expect(await hostRow()).toMatchObject({ ready: true });
});

test('an order of an old epoch or a closed order has no effect', async () => {
  const { epoch } = await hostRow();
  const closed = (await rig.sql<{ id: string }[]>`select id from residency_orders where state = 'done' limit 1`)[0]!.id;
  const before = await rig.residency();
  for (const order of [
    { id: crypto.randomUUID(), host: rig.host, hostEpoch: Number(epoch) - 1 },
    { id: closed, host: rig.host, hostEpoch: Number(epoch) },
  ]) {
    const signal = { ...order, unload: [keyOf(one)], load: { key: keyOf(other), model: { name: other, numCtx: 512 } } };
    const handle = await rig.client.workflow.signalWithStart(changeResidencyType, {
      workflowId: residencyWorkflowId(rig.host),
      taskQueue: workflowQueue,
      args: [{ host: rig.host }],
      signal: orderSignal,
      signalArgs: [signal],
    });
    await handle.result();
  }
  expect(await rig.residency()).toEqual(before);
});

test('the steps that wait for a model nobody has are refused, and the others go on [MODEL-13]', async () => {
  const refused = await rig.waitFor(keyOf('host-absent:latest'));
  const message = await eventually(async () => (await rig.sql<{ payload: unknown }[]>`select payload from outbox where kind = 'signal'`)[0]?.payload);
  expect(message).toMatchObject({ name: 'refused', args: [{ row: refused, code: 'model_not_found', retryable: false }] });
  expect(await stateOf(refused)).toMatchObject({ state: 'void', cause: 'model_not_found' });
  const next = await rig.waitFor(keyOf(two));
  await granted(next);
  await rig.endRow(next);
});

test('while the server is away steps wait, and go on soon after it is back [MODEL-14] [fault-23] [fault-30]', async () => {
  const before = await rig.waitFor(keyOf(one));
  await granted(before);
  await rig.endRow(before);
  await ollama.kill();
  await eventually(async () => !(await hostRow()).ready);
  expect((await listModels(rig.sql)).filter(({ loaded }) => loaded)).toEqual([]);
  const waiting = await rig.waitFor(keyOf(one));
  // An order that was given just before: it fails, and refuses nobody.
  const { epoch } = await hostRow();
  await rig.sql`
    with given as (
      insert into residency_orders (host, host_epoch, load_key, load_model, load_num_ctx, reason) values (${rig.host}, ${epoch}, ${keyOf(one)}, ${one}, 512, 'test') returning *)
    insert into outbox (kind, workflow_id, payload) select 'residency', ${residencyWorkflowId(rig.host)}, jsonb_build_object('id', id, 'host', host, 'hostEpoch', host_epoch, 'unload', '[]'::jsonb,
      'load', jsonb_build_object('key', load_key, 'model', jsonb_build_object('name', load_model, 'numCtx', load_num_ctx))) from given`;
  await eventually(async () => (await rig.sql`select 1 from residency_orders where error ->> 'code' = 'backend_unavailable'`).count === 1);
  expect(await stateOf(waiting)).toMatchObject({ state: 'waiting' });
  await ollama.start();
  await granted(waiting);
  expect(await inMemory()).toEqual([one]);
  await rig.endRow(waiting);
});

test('a host that lost its lease takes a new epoch, and its old rows are void', async () => {
  const row = await rig.waitFor(keyOf(one));
  await granted(row);
  const { epoch } = await hostRow();
  await rig.sql`update hosts set lease_until = now() - interval '1 second' where id = ${rig.host}`;
  await eventually(async () => Number((await hostRow()).epoch) > Number(epoch) && (await hostRow()).ready);
  // The step waits again, and the model that is still in memory serves it under the new epoch.
  await eventually(async () => (await rig.sql`select 1 from line where id = ${row} and state = 'granted' and host_epoch > ${epoch}`).count === 1);
  await rig.endRow(row);
});

test('a stopped host gives its lease back, so that the next one begins at once', async () => {
  const { epoch } = await hostRow();
  await host.stop();
  expect(await hostRow()).toMatchObject({ ready: false });
  host = await rig.startHost({ models: backendOf(ollama.url) });
  expect(Number((await hostRow()).epoch)).toBe(Number(epoch) + 1);
});
