import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DecisionListView } from '../../../contract/schemas/decision.js';
import { decideOnce, readSnapshot } from '../../../db/decide.js';
import { noteDecidedBy, readForAgent } from '../../../db/decisions.js';
import { acquireHost, oneModel, registerEngine, setHostReady } from '../../../db/leases.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import { defaultMaxWaitsMs } from '../../../scheduling/waiting-order.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
let mine: string;
let foreign: string;

const model = 'llama3.2:latest';
const get = (key: string, query = '') => api.request(key, 'GET', `/api/v1/decisions${query}`);
const list = async (key: string, query = ''): Promise<DecisionListView> => {
  const answer = await get(key, query);
  expect(answer.status).toBe(200);
  return (await answer.json()) as DecisionListView;
};

async function waiting(key: string, pool: 'model' | 'general', fields: Record<string, unknown> = {}): Promise<string> {
  const { id } = await api.task(key, fields);
  await api.database.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'one', 1, 1, 'run', ${pool}, ${pool === 'model' ? `${model}~ctx4096` : null}, priority_level, priority, pos from tasks where id = ${id}`;
  return id;
}

// Of two users each a step without a model, which gets a slot, and one that a model is loaded for; decided by the policy itself.
beforeAll(async () => {
  api = await apiUnderTest();
  const { sql } = api.database;
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:1', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, true, {}, oneModel);
  await registerEngine(sql, { id: 'engine-1', slots: 9 });
  foreign = await waiting(api.keys.bob, 'general');
  await decideOnce(sql, priorityAffinity());
  await waiting(api.keys.bob, 'model', { priority: 8 });
  await decideOnce(sql, priorityAffinity());
  mine = await waiting(api.keys.ann, 'general');
  await decideOnce(sql, priorityAffinity());
});
afterAll(async () => api.stop());

test('decisions are told newest first with their sentence and what led to them, to users without the slots of others [SCHED-05, SEC-03]', async () => {
  const all = await list(api.keys.admin);
  expect(all.next_cursor).toBeNull();
  expect(all.items.map(({ kind, task_id: task }) => [kind, task])).toEqual([
    ['grant', mine],
    ['residency', expect.any(String)],
    ['grant', foreign],
  ]);
  const [grant, residency] = all.items;
  expect(grant).toMatchObject({ reason: 'first in line, slot 2', step: 'one', model: null, host: 'general', priority: 5, exact: 50, fallback: null });
  expect(residency).toMatchObject({
    reason: `the first waiting step that has no model needs ${model}`,
    step: 'one',
    model,
    unload: [],
    host: 'gpu-1',
    priority: 8,
    exact: 80,
    waited_ms: expect.any(Number),
    terms: [],
    algorithm: 'priority_affinity',
    execution_time_ms: expect.any(Number),
  });
  for (const key of [api.keys.ann, api.keys.viewer]) {
    const own = await list(key);
    expect(own.items.map(({ kind, task_id: task }) => [kind, task])).toEqual([
      ['grant', mine],
      ['residency', null],
    ]);
    expect(own.items[1]).toMatchObject({ step: null, exact: null, waited_ms: null, model });
    expect(JSON.stringify(own)).not.toContain(foreign);
  }
});

test('filters choose by task, kind, host and model, also one that goes, and pages follow each other [SCHED-05]', async () => {
  const { admin } = api.keys;
  const { items } = await list(admin);
  const ids = items.map(({ id }) => id);
  const loadedFor = items[1]?.task_id ?? '';
  const chosen = async (query: string, key = admin) => (await list(key, query)).items.map(({ id }) => ids.indexOf(id));
  expect(await chosen(`?task_id=${mine}`)).toEqual([0]);
  expect(await chosen(`?task_id=${loadedFor}`)).toEqual([1]);
  expect(await chosen(`?task_id=${loadedFor}&kind=grant`)).toEqual([]);
  expect(await chosen('?kind=grant&kind=refusal')).toEqual([0, 2]);
  expect(await chosen('?host=gpu-1')).toEqual([1]);
  expect(await chosen('?model=llama3.2')).toEqual([1]);
  expect(await chosen('?model=phi')).toEqual([]);
  await api.database.sql`update orchestration_decisions set output_data = output_data || '{"unload": ["phi:latest~ctx512"]}' where decision_type = 'residency'`;
  expect(await chosen('?model=phi')).toEqual([1]);
  const pages: number[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: DecisionListView = await list(admin, `?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`);
    pages.push(...page.items.map(({ id }) => ids.indexOf(id)));
    cursor = page.next_cursor;
  }
  expect(pages).toEqual([0, 1, 2]);
  const { next_cursor: cursor } = await list(admin, '?limit=1');
  expect((await get(admin, `?limit=1&kind=grant&cursor=${cursor}`)).status).toBe(422);
  for (const task of [foreign, loadedFor, 'no-id']) expect(await chosen(`?task_id=${task}`, api.keys.ann)).toEqual([]);
});

test('who ordered the line is noted with the decisions of that transaction, and nothing moves what a person has placed [SCHED-18]', async () => {
  const { sql } = api.database;
  const [task, other, elsewhere] = [
    await waiting(api.keys.ann, 'general'),
    await waiting(api.keys.ann, 'general'),
    await waiting(api.keys.ann, 'general', { priority: 4 }),
  ];
  const freedoms = () =>
    sql.begin(async (tx) => {
      const snapshot = await readSnapshot(tx);
      if (snapshot === null) throw new Error('busy');
      const { freedomOf } = await readForAgent(tx, snapshot, defaultMaxWaitsMs);
      return [task, other, elsewhere].map(freedomOf);
    });
  expect(await freedoms()).toEqual(['any', 'any', 'level']);
  expect((await api.request(api.keys.ann, 'POST', '/api/v1/queue/reorder', { task_id: other, before: task })).status).toBe(200);
  expect(await freedoms()).toEqual(['none', 'none', 'level']);

  const by = { algorithm: 'priority_affinity', version: null, instead: 'the learned agent v1 was not used: it is not trained yet' } as const;
  await decideOnce(sql, { decide: (snapshot) => ({ ...priorityAffinity()(snapshot), by }) });
  const told = (await list(api.keys.admin)).items.map(({ algorithm, fallback }) => [algorithm, fallback]);
  expect(told.slice(0, 4)).toEqual([...Array.from({ length: 3 }, () => ['priority_affinity', by.instead]), ['priority_affinity', null]]);
  await sql.begin((tx) => noteDecidedBy(tx, by)); // another transaction has decided nothing
  expect((await list(api.keys.admin)).items.filter(({ fallback }) => fallback !== null)).toHaveLength(3);
});
