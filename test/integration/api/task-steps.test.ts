import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { TaskRelationsView } from '../../../contract/schemas/task-relations.js';
import type { TaskStepsView } from '../../../contract/schemas/task-steps.js';
import { inferenceUsage, movedSteps } from '../../support/moved-steps.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
let moves: ReturnType<typeof movedSteps>;
beforeAll(async () => {
  api = await apiUnderTest();
  moves = movedSteps(api.database.sql);
});
afterAll(async () => api.stop());
beforeEach(async () => {
  await api.database.empty('tasks', 'hosts', 'engines', 'residency', 'residency_spans');
  await moves.ready();
});

async function get<View>(key: string, url: string): Promise<View> {
  const answer = await api.request(key, 'GET', `/api/v1/tasks/${url}`);
  expect(answer.status).toBe(200);
  return (await answer.json()) as View;
}
const stepsOf = (id: string, key = api.keys.ann) => get<TaskStepsView>(key, `${id}/steps`);
const files = { template: 'file-processing', parameters: { input_files: ['notes.md'], analysis_model: 'llama3.2', output_format: 'markdown' } };

describe('GET /api/v1/tasks/{id}/steps', () => {
  test('the steps of a task that was only submitted are pending, with what they are to do and where they stand in the template [DASH-18]', async () => {
    await api.database.sql`delete from engines`; // else its first step is granted with it
    const { id } = await api.task(api.keys.ann, files);
    const { attempt, template, failed_at: failedAt, items } = await stepsOf(id);
    expect({ attempt, template, failedAt }).toEqual({
      attempt: 1,
      template: { name: 'file-processing', file: 'file-processing.yaml', current: true },
      failedAt: null,
    });
    expect(items.map(({ id: step, type, state, needs, place, tries }) => [step, type, state, needs, place?.line, tries])).toEqual([
      ['read_files', 'read_files', 'pending', [], 9, []],
      ['ollama_analyze', 'ollama_analyze', 'pending', ['read_files'], 10, []],
      ['format_output', 'format_output', 'pending', ['ollama_analyze'], 11, []],
    ]);
    expect(items[0]).toMatchObject({ input: { files: ['notes.md'] }, rendered: true, output: null });
  });

  test('each try is told from its entry into the line to its end, with the load that it waited for [DASH-18]', async () => {
    const { sql } = api.database;
    const { id } = await api.task(api.keys.ann);
    const run = await moves.run(id);
    const claim = await moves.begin(run);
    await sql`update line set entered_at = entered_at - interval '20 seconds' where task_id = ${id}`;
    await sql`
      insert into residency_spans (host, key, model, state, began_at, ended_at)
      select host, key, 'llama3.2:latest', 'loading', entered_at + interval '5 seconds', entered_at + interval '9 seconds' from line where task_id = ${id}`;
    await moves.line.fail(claim, { code: 'backend_unavailable', message: 'away' }, {});
    const [lost] = (await stepsOf(id)).items;
    expect(lost).toMatchObject({ state: 'waiting', tries: [{ try: 1, state: 'failed', cause: 'backend_unavailable', host: 'engine-1' }] });
    await moves.enter(run, undefined, 2);
    const [row] = await sql<{ id: string }[]>`select id::text from line where task_id = ${id} and try = 2`;
    expect((await stepsOf(id)).items[0]?.tries[1]).toMatchObject({ try: 2, step_attempt: 2, state: 'waiting', execution_id: null });
    const grant = await moves.line.enter({ run, step: claim.step, stepAttempt: 2 });
    if (grant.state !== 'granted') throw new Error(`row ${row?.id} waits`);
    const again = await moves.line.claim(grant.grant, null);
    if (again === null) throw new Error('no claim');
    expect((await stepsOf(id)).items[0]).toMatchObject({ state: 'running', tries: [{}, { state: 'running' }] });
    await moves.finish(again, { text: 'A queue keeps order.' }, inferenceUsage);
    const [done] = (await stepsOf(id)).items;
    expect(done).toMatchObject({
      state: 'completed',
      output: { text: 'A queue keeps order.' },
      tries: [{ state: 'failed' }, { state: 'completed', cause: null }],
    });
    const [first] = done?.tries ?? [];
    const ms = (at: string | null | undefined) => Date.parse(at ?? '');
    expect(ms(first?.model_load?.ended_at) - ms(first?.model_load?.started_at)).toBe(4_000);
    expect(ms(first?.model_load?.started_at) - ms(first?.entered_at)).toBe(5_000);
    expect(first?.execution_id).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('what a step took from the outputs before it is in its input once it has begun [DASH-18]', async () => {
    const { id } = await api.task(api.keys.ann, { template: 'takes-outputs', parameters: { topic: 'queues' } });
    const run = await moves.run(id);
    expect((await stepsOf(id)).items[1]).toMatchObject({ rendered: false, deferred: [{ path: ['prompt'], template: 'Shorten: {{ steps.draft.text }}' }] });
    await moves.finish(await moves.begin(run, 'draft'), { text: 'A long text about queues.' });
    await moves.begin(run, 'short');
    expect((await stepsOf(id)).items[1]).toMatchObject({ state: 'running', rendered: true, input: { prompt: 'Shorten: A long text about queues.' } });
  });

  test('a step that failed is found in the file of its template, to the field where that is known [DASH-18, TPL-18]', async () => {
    const { id } = await api.task(api.keys.ann, { template: 'takes-outputs', parameters: { topic: 'queues' } });
    const run = await moves.run(id);
    await moves.finish(await moves.begin(run, 'draft'), { text: 'x' });
    await moves.fail(run, await moves.begin(run, 'short'), { code: 'template_error', message: 'no value', details: { step: 'short', field: 'prompt' } });
    const { failed_at: failedAt, template, items } = await stepsOf(id);
    expect(failedAt).toEqual({ file: 'takes-outputs.yaml', line: 11, column: 13, field: 'prompt' });
    expect(template.current).toBe(true);
    expect(items.map(({ state }) => state)).toEqual(['completed', 'failed']);
  });

  test('a template that has changed since is told, and one that is gone has no places [DASH-18]', async () => {
    const { sql } = api.database;
    const { id } = await api.task(api.keys.ann);
    await sql`update tasks set plan = jsonb_set(plan, '{templateHash}', '"other"') where id = ${id}`;
    expect((await stepsOf(id)).template).toEqual({ name: 'ollama-inference', file: 'ollama-inference.yaml', current: false });
    await sql`update tasks set plan = jsonb_set(plan, '{template}', '"gone"'), status = 'failed', error = '{"code":"x","message":"y","step":"ollama_generate","attempt":1}' where id = ${id}`;
    expect(await stepsOf(id)).toMatchObject({ template: { file: null, current: false }, failed_at: null, items: [{ place: null }] });
  });

  test('secrets in an input are not shown, and a large output is left to the result [DASH-18, SEC-13]', async () => {
    const { id } = await api.task(api.keys.ann, { parameters: { model: 'llama3.2', prompt: 'Read https://ann:hunter2@example.com/notes' } });
    const claim = await moves.begin(await moves.run(id));
    await moves.finish(claim, { text: 'x'.repeat(70_000) });
    const [step] = (await stepsOf(id)).items;
    expect(step).toMatchObject({ input: { prompt: 'Read https://[redacted]@example.com/notes' }, output: null, output_bytes: 70_011 });
  });

  test('a task of somebody else, and one that is not there, is not found [SEC-05, TASK-25]', async () => {
    const { id } = await api.task(api.keys.ann);
    for (const rest of ['steps', 'relations']) {
      const answer = await api.request(api.keys.bob, 'GET', `/api/v1/tasks/${id}/${rest}`);
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([404, 'task_not_found']);
    }
    expect((await stepsOf(id, api.keys.viewer)).items).toHaveLength(1);
    expect((await stepsOf(id, api.keys.admin)).items).toHaveLength(1);
  });
});

test('a task names those that it waits for, that wait for it, and that repeat it, but none of other people [DASH-18]', async () => {
  const parent = await api.task(api.keys.ann, { name: 'parent' });
  const { id } = await api.task(api.keys.ann, { name: 'middle', depends_on: [parent.id] });
  const child = await api.task(api.keys.ann, { name: 'child', depends_on: [id] });
  const foreign = await api.task(api.keys.admin, { name: 'of root', depends_on: [id] });
  const replay = (await (await api.request(api.keys.ann, 'POST', `/api/v1/tasks/${id}/replay`, {})).json()) as { id: string };
  const relations = (key: string, of: string) => get<TaskRelationsView>(key, `${of}/relations`);
  expect(await relations(api.keys.ann, id)).toEqual({
    depends_on: [{ id: parent.id, name: 'parent', status: 'queued' }],
    dependents: [{ id: child.id, name: 'child', status: 'queued' }],
    replayed_from: null,
    replays: [{ id: replay.id, name: 'middle', status: 'queued' }],
  });
  expect((await relations(api.keys.admin, id)).dependents.map(({ id: each }) => each)).toEqual([child.id, foreign.id]);
  expect((await relations(api.keys.ann, replay.id)).replayed_from).toMatchObject({ id });
});
