import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DecisionListView } from '../../contract/schemas/decision.js';
import type { PriorityAgent } from '../../scheduling/learned-order.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually } from '../support/servers.js';

let orchestra: Installation;
/** what the agent does when it is asked */
let propose: PriorityAgent['propose'];
const agent: PriorityAgent = { version: 'newest-first', trained: () => true, propose: (snapshot, freedomOf) => propose(snapshot, freedomOf) };

beforeAll(async () => {
  const note = ['name: note', 'steps:', '  - { type: format_output, format: text, data: hello }'].join('\n');
  orchestra = await startInstallation({ templates: { note }, env: { MAX_WORKERS: '1' }, agent });
}, 180_000);
afterAll(() => orchestra?.stop());

/** Submits one task of each priority (null: without one) while nothing may start, lets them run one after the other, and gives the places in which they started. */
async function order(
  priorities: readonly (number | null)[],
  meanwhile: (ids: readonly string[]) => Promise<void> = async () => {},
): Promise<{ ids: string[]; places: number[] }> {
  await orchestra.sql`insert into queue_pauses (scope) values ('queue')`;
  const ids: string[] = [];
  for (const priority of priorities) ids.push((await orchestra.submit('note', {}, priority === null ? {} : { priority })).id);
  await eventually(async () => (await orchestra.sql`select 1 from line where state = 'waiting'`).length === ids.length);
  await meanwhile(ids);
  await orchestra.sql`delete from queue_pauses`;
  await orchestra.sql`select pg_notify('line', '')`;
  for (const id of ids) expect((await orchestra.finished(id)).status).toBe('completed');
  const started = await orchestra.sql<{ id: string }[]>`select task_id as id from task_executions where task_id = any(${ids}) order by started_at`;
  return { ids, places: started.map(({ id }) => ids.indexOf(id)) };
}

async function decisions(taskId: string | undefined): Promise<DecisionListView['items']> {
  return ((await orchestra.request('GET', `/api/v1/decisions?task_id=${taskId}`)).body as DecisionListView).items;
}

test('an agent chooses the priority of tasks that came without one, until somebody gives them one, and of no other [SCHED-18]', async () => {
  propose = ({ heads }, freedomOf) => new Map(heads.flatMap(({ row, taskId, place }) => (freedomOf(taskId) === 'any' ? [[row, 91 + Math.min(9, place)]] : [])));
  expect((await order([7, null, 9, null])).places).toEqual([3, 1, 2, 0]);

  const given = await order([7, null, 9, null], async (ids) => {
    // the value that it has already, but somebody has chosen it now
    expect((await orchestra.request('PATCH', `/api/v1/tasks/${ids[3]}/priority`, { priority: 5 })).status).toBe(200);
  });
  expect(given.places).toEqual([1, 2, 0, 3]);
  for (const id of given.ids) expect(await decisions(id)).toMatchObject([{ algorithm: 'reinforcement_learning', fallback: null }]);

  propose = ({ heads }) => new Map(heads.map(({ row }) => [row, 100]));
  const free = await order([null, null]);
  for (const id of free.ids) expect(await decisions(id)).toMatchObject([{ algorithm: 'reinforcement_learning' }]);
}, 120_000);

test('an agent orders the tasks of a level; once it errs priority_affinity goes on, no task is lost, and each decision says who it was [SCHED-18]', async () => {
  propose = ({ heads }) => new Map(heads.map(({ row, level, place }) => [row, 10 * level - 9 + Math.min(9, place)]));
  const learned = await order([5, 5, 7, 5]);
  expect(learned.places).toEqual([2, 3, 1, 0]);
  expect(await decisions(learned.ids[3])).toMatchObject([{ kind: 'grant', algorithm: 'reinforcement_learning', model_version: agent.version, fallback: null }]);

  propose = ({ heads }) => new Map(heads.map(({ row }) => [row, 100]));
  const faulty = await order([5, 5, 7, 5]);
  expect(faulty.places).toEqual([2, 0, 1, 3]);
  for (const id of faulty.ids) {
    const [grant] = await decisions(id);
    expect(grant).toMatchObject({
      algorithm: 'priority_affinity',
      model_version: null,
      fallback: expect.stringMatching(/newest-first was not used: it proposed 100 for step/),
    });
  }
}, 120_000);
