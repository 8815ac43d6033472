import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TaskView } from '../../../contract/schemas/task.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const body = (fields: object = {}) => ({ template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' }, ...fields });
const post = (fields: object = {}, headers: Record<string, string> = {}) =>
  api.request(api.keys.ann, 'POST', '/api/v1/tasks', { ...body(), ...fields }, headers);
const countTasks = async () => Number((await api.database.sql`select count(*) from tasks`)[0]?.['count']);
const run = (id: string) => api.temporal.workflow.getHandle(`task-${id}`).describe();
const absentId = '00000000-0000-4000-8000-000000000000';

/** Puts a stored task into a final or running state, as its run would. */
async function put(id: string, status: string): Promise<void> {
  await api.database.sql`
    update tasks set status = ${status}, started_at = now(), completed_at = case when ${status} = 'running' then null else now() end,
      result = case when ${status} = 'completed' then '{"text":"hi","steps":{}}'::jsonb end,
      error = case when ${status} = 'failed' then '{"code":"step_failed","message":"exit code 2","step":"x","attempt":1}'::jsonb end
    where id = ${id}`;
}

describe('create', () => {
  test.each([
    ['ollama-inference', { model: 'llama3.2', prompt: 'hello' }],
    ['file-processing', { input_files: ['a.txt'], analysis_model: 'llama3.2', output_format: 'json' }],
    ['git-script-execution', { repo_url: 'https://example.com/r.git', script_path: 'run.sh', output_path: 'out.json' }],
  ])('a task of %s is stored and its Temporal workflow runs under the id task-<id> [TASK-01, TASK-13]', async (template, parameters) => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', { template, parameters });
    expect(answer.status).toBe(201);
    const task = (await answer.json()) as TaskView;
    expect(answer.headers.get('location')).toBe(`/api/v1/tasks/${task.id}`);
    expect(task).toMatchObject({
      status: 'queued',
      priority: 5,
      template,
      type: template,
      name: template,
      parameters,
      depends_on: [],
      attempt: 1,
      user_id: 'ann',
    });
    const description = await run(task.id);
    expect(description.status.name).toBe('RUNNING');
    expect(description.type).toBe('runTask');
    expect(description.taskQueue).toBe('workflows');
    expect(description.memo).toMatchObject({ task: task.id, template });
  });

  test('a task object has exactly the documented fields, with times in UTC [TASK-04, TASK-07]', async () => {
    const task = await api.task(api.keys.ann, { metadata: { ticket: 7 }, name: 'first' });
    expect(Object.keys(task).sort()).toEqual(
      [
        'id',
        'status',
        'priority',
        'created_at',
        'started_at',
        'completed_at',
        'template',
        'parameters',
        'result',
        'resource_usage',
        'name',
        'type',
        'depends_on',
        'blocked_by',
        'status_detail',
        'attempt',
        'error',
        'estimated_start_time',
        'estimated_completion_time',
        'queue_position',
        'user_id',
        'metadata',
        'models',
        'template_hash',
        'replayed_from',
        'origin_id',
      ].sort(),
    );
    expect(task.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(task).toMatchObject({ started_at: null, completed_at: null, result: null, error: null, resource_usage: null, metadata: { ticket: 7 } });
  });

  test('level p is stored as 10 p, and shown as p [C1]', async () => {
    const task = await api.task(api.keys.ann, { priority: 7 });
    expect(task.priority).toBe(7);
    expect(await api.database.sql`select priority, priority_level from tasks where id = ${task.id}`).toMatchObject([{ priority: 70, priority_level: 7 }]);
  });

  test('every status is shown by its name [TASK-04, TASK-06, C2]', async () => {
    for (const status of ['running', 'completed', 'failed', 'cancelled']) {
      const { id } = await api.task(api.keys.ann);
      await put(id, status);
      const task = (await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${id}`)).json()) as TaskView;
      expect(task.status).toBe(status);
      expect(task.queue_position).toBeNull();
      expect(task.completed_at === null).toBe(status === 'running');
      expect(task.result).toEqual(status === 'completed' ? { text: 'hi', steps: {} } : null);
      expect(task.error?.code).toBe(status === 'failed' ? 'step_failed' : undefined);
    }
  });

  test.each([['nothing-like-it'], ['Ollama-Inference'], ['../x']])(
    'the unknown template %s is refused and nothing is stored [TASK-02, bad-11]',
    async (template) => {
      const before = await countTasks();
      const answer = await post({ template });
      expect(answer.status).toBe(422);
      expect(await answer.json()).toMatchObject({ code: 'template_not_found', detail: expect.stringContaining(`"${template}"`), errors: [{ got: template }] });
      expect(await countTasks()).toBe(before);
    },
  );

  test('a template name of 1,000 characters is refused [bad-11]', async () => {
    expect((await post({ template: 'x'.repeat(1000) })).status).toBe(422);
  });

  test('every fault of the parameters is listed, and nothing is stored or started [TASK-02, bad-12]', async () => {
    const before = await countTasks();
    const answer = await post({ parameters: { model: 7, extra: true } });
    expect(answer.status).toBe(422);
    const problem = (await answer.json()) as { code: string; errors: { path: string }[] };
    expect(problem.code).toBe('invalid_parameters');
    expect(problem.errors.map((fault) => fault.path).sort()).toEqual(['parameters.extra', 'parameters.model', 'parameters.prompt']);
    expect(await countTasks()).toBe(before);
  });

  test.each([
    ['a text where an array belongs', 'a.txt'],
    ['an array of a million', Array.from({ length: 1_000_000 }, () => 1)],
  ])('%s is refused [bad-12]', async (_what, files) => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', {
      template: 'file-processing',
      parameters: { input_files: files, analysis_model: 'llama3.2', output_format: 'json' },
    });
    expect([413, 422]).toContain(answer.status);
  });

  test.each([[0], [11], [5.5], ['5'], [null], [-1]])('priority %j is refused, never clamped [C1, bad-13]', async (priority) => {
    const answer = await post({ priority });
    expect(answer.status).toBe(422);
    expect(await answer.json()).toMatchObject({ code: 'invalid_request', errors: [{ path: 'priority' }] });
  });

  test('parameters of 3 MB are refused before they reach Temporal [bad-16]', async () => {
    const answer = await post({ parameters: { model: 'llama3.2', prompt: 'x'.repeat(3_000_000) } });
    expect(answer.status).toBe(413);
    expect(await answer.json()).toMatchObject({ code: 'payload_too_large' });
  });

  test.each([
    ['git-script-execution', { repo_url: '--upload-pack=touch /tmp/x', script_path: 'run.sh', output_path: 'o.json' }, 31],
    ['git-script-execution', { repo_url: 'ext::sh -c id', script_path: 'run.sh', output_path: 'o.json' }, 32],
    ['git-script-execution', { repo_url: 'ssh://-oProxyCommand=id/x', script_path: 'run.sh', output_path: 'o.json' }, 32],
    ['git-script-execution', { repo_url: 'file:///etc', script_path: 'run.sh', output_path: 'o.json' }, 32],
    ['git-script-execution', { repo_url: '/etc', script_path: 'run.sh', output_path: 'o.json' }, 32],
    ['ollama-inference', { model: '../../x', prompt: 'p' }, 40],
    ['ollama-inference', { model: 'a b', prompt: 'p' }, 40],
    ['ollama-inference', { model: 'm'.repeat(500), prompt: 'p' }, 40],
    ['ollama-inference', { model: 'evil.com/x/y', prompt: 'p' }, 40],
    ['ollama-inference', { model: 'http://169.254.169.254/a/b', prompt: 'p' }, 40],
    ['ollama-inference', { model: 'gpt-oss:120b-cloud', prompt: 'p' }, 40],
    ['ollama-inference', { model: 'llama3.2', prompt: '' }, 43],
    ['git-script-execution', { repo_url: 'https://example.com/r.git', script_path: 'run.sh', output_path: '../../etc/cron.d/x' }, 46],
    ['git-script-execution', { repo_url: 'https://example.com/r.git', script_path: 'run.sh', output_path: '/etc/passwd' }, 46],
  ])('%s with %j is refused when it is submitted [bad-%i]', async (template, parameters, _row) => {
    const before = await countTasks();
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', { template, parameters });
    expect(answer.status).toBe(422);
    expect(await answer.json()).toMatchObject({ code: 'invalid_parameters' });
    expect(await countTasks()).toBe(before);
  });

  test.each([
    [{ num_ctx: 1e9 }],
    [{ num_predict: -1 }],
    [{ keep_alive: -1 }],
    [{ num_gpu: 99 }],
    [{ host: 'x' }],
    [{ raw: true }],
    [{ images: ['x'] }],
    [{ unheard_of: 1 }],
  ])('the model options %j are refused when they are submitted [bad-42]', async (options) => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', { template: 'with-options', parameters: { options } });
    expect(answer.status).toBe(422);
    expect(await answer.json()).toMatchObject({ code: 'invalid_parameters', errors: [{ path: 'parameters.options' }] });
  });

  test('options within their bounds are taken [bad-42]', async () => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', {
      template: 'with-options',
      parameters: { options: { num_ctx: 2048, temperature: 0 } },
    });
    expect(answer.status).toBe(201);
  });

  test('a task is found in the Temporal Web UI by its id, template, model and owner, and carries its priority [C1, TASK-13]', async () => {
    const { id } = await api.task(api.keys.ann, { priority: 10, name: 'é'.repeat(200) });
    const { searchAttributes, raw } = await run(id);
    expect(searchAttributes).toMatchObject({ TaskId: [id], Template: ['ollama-inference'], Model: ['llama3.2:latest'], Owner: ['ann'] });
    expect(raw.workflowExecutionInfo?.priority?.priorityKey).toBe(1);
  });

  test('a password in a repository address does not come back in the error [bad-34, SEC-13]', async () => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', {
      template: 'git-script-execution',
      parameters: { repo_url: 'ftp://me:hunter2secret@example.com/r', script_path: 'run.sh', output_path: 'o.json' },
    });
    expect(answer.status).toBe(422);
    expect(await answer.text()).not.toContain('hunter2secret');
  });

  test.each([
    'https://me:hunter2secret@example.com/r.git',
    'https://hunter2secret@example.com/r.git',
    'https://oauth2:hunter2secret@example.com/r.git',
    'https://example.com/r.git?private_token=hunter2secret',
  ])('%s is refused, and its secret is stored nowhere [bad-34, SEC-13]', async (repo) => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', {
      template: 'git-script-execution',
      parameters: { repo_url: repo, script_path: 'run.sh', output_path: 'o.json' },
    });
    expect(answer.status).toBe(422);
    const body = await answer.text();
    expect(JSON.parse(body)).toMatchObject({
      code: 'invalid_parameters',
      errors: [{ path: 'parameters.repo_url', message: expect.stringContaining('by ssh') }],
    });
    expect(body).not.toContain('hunter2secret');
    expect(await api.database.sql`select 1 from tasks where tasks::text like '%hunter2secret%'`).toEqual([]);
  });

  test.each(['git@example.com:a/b.git', 'ssh://git@example.com/a/b.git', 'https://example.com/a/b.git?x=1'])(
    '%s names no secret and is taken [bad-34]',
    async (repo) => {
      const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', {
        template: 'git-script-execution',
        parameters: { repo_url: repo, script_path: 'run.sh', output_path: 'o.json' },
      });
      expect(answer.status).toBe(201);
    },
  );

  test('a limit that would not be enforced is refused [TASK-16]', async () => {
    const answer = await post({ limits: { cpu_cores: 1 } });
    expect(answer.status).toBe(422);
    expect(await answer.json()).toMatchObject({ errors: [{ path: expect.stringContaining('cpu_cores') }] });
    expect((await post({ limits: { memory_gb: 1, timeout_seconds: 60 } })).status).toBe(201);
  });

  test('names that hide or reorder text are refused [bad-5]', async () => {
    for (const name of ['a\u202eb', 'a\u0007b', 'line\nbreak', '']) expect((await post({ name })).status).toBe(422);
    expect((await post({ name: 'Prüfung 試験' })).status).toBe(201);
  });

  test('SQL in any text is only text [SEC-10]', async () => {
    const name = `'; drop table tasks; --`;
    const task = await api.task(api.keys.ann, { name, metadata: { "x'); delete from tasks; --": name } });
    expect(task.name).toBe(name);
    const answer = await api.request(api.keys.ann, 'GET', `/api/v1/tasks?template=${encodeURIComponent(name)}`);
    expect(await answer.json()).toMatchObject({ items: [], total: 0 });
    expect(await countTasks()).toBeGreaterThan(0);
  });
});

describe('dependencies', () => {
  test('a task waits for those it names, and says for which [SCHED-06]', async () => {
    const [parent, done] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
    await put(done.id, 'completed');
    const task = await api.task(api.keys.ann, { depends_on: [`task-${parent.id}`, done.id.toUpperCase()] });
    expect([...task.depends_on].sort()).toEqual([parent.id, done.id].sort());
    expect(task.blocked_by).toEqual([parent.id]);
    expect(task.status_detail).toBe('waiting_dependency');
    await put(parent.id, 'failed');
    const later = (await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${task.id}`)).json()) as TaskView;
    expect(later.status_detail).toBe('blocked');
  });

  test('an unknown id, another user’s id, no id and a double one are refused [SCHED-06, bad-14]', async () => {
    const own = await api.task(api.keys.ann);
    const other = await api.task(api.keys.bob);
    const before = await countTasks();
    const refusals = [];
    for (const depends_on of [[absentId], [other.id], ['itself'], [own.id, own.id]]) {
      const answer = await post({ depends_on });
      expect(answer.status).toBe(422);
      refusals.push((await answer.json()) as { code: string; detail: string });
    }
    expect(refusals.map(({ code }) => code)).toEqual(Array(4).fill('invalid_dependency'));
    expect(refusals[0]?.detail).toBe(refusals[1]?.detail);
    expect(await countTasks()).toBe(before);
  });

  test('10,000 dependencies are refused [bad-14]', async () => {
    expect((await post({ depends_on: Array(10_000).fill(absentId) })).status).toBe(422);
  });
});

describe('idempotency', () => {
  test('the same key and body give the same task, also in another spelling; another body is refused [TASK-23, bad-15, fault-2]', async () => {
    const headers = { 'Idempotency-Key': 'nightly-1' };
    const first = await post({ priority: 3, metadata: { a: 1, b: 2 } }, headers);
    const second = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', { metadata: { b: 2, a: 1 }, priority: 3, depends_on: [], ...body() }, headers);
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(((await second.json()) as TaskView).id).toBe(((await first.json()) as TaskView).id);
    const third = await post({ priority: 4 }, headers);
    expect(third.status).toBe(409);
    expect(await third.json()).toMatchObject({ code: 'idempotency_conflict' });
  });

  test('a key of one user says nothing about another’s [TASK-23]', async () => {
    const headers = { 'Idempotency-Key': 'shared-word' };
    const ann = await post({}, headers);
    const bob = await api.request(api.keys.bob, 'POST', '/api/v1/tasks', body(), headers);
    expect([ann.status, bob.status]).toEqual([201, 201]);
  });

  test('of 20 posts at the same time one makes a task, and all name it [TASK-23, bad-15]', async () => {
    const before = await countTasks();
    const answers = await Promise.all(Array.from({ length: 20 }, () => post({}, { 'Idempotency-Key': 'all-at-once' })));
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(19).fill(200), 201]);
    expect(new Set(await Promise.all(answers.map(async (answer) => ((await answer.json()) as TaskView).id))).size).toBe(1);
    expect(await countTasks()).toBe(before + 1);
  });

  test.each([['has blank'], ['x'.repeat(256)], ['']])('the key "%s" is refused', async (key) => {
    expect((await post({}, { 'Idempotency-Key': key })).status).toBe(422);
  });
});

describe('read', () => {
  test.each([['not-a-uuid'], [absentId], ['x'.repeat(1001)], ["' or 1=1"]])('%s is no task [TASK-03, bad-18]', async (id) => {
    for (const [method, path, payload] of [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['PATCH', '/priority', { priority: 3 }],
      ['POST', '/retry', undefined],
    ] as const) {
      const answer = await api.request(api.keys.ann, method, `/api/v1/tasks/${encodeURIComponent(id)}${path}`, payload);
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({ code: 'task_not_found' });
    }
  });

  test('another user’s task is answered like one that does not exist; an administrator sees it [bad-18]', async () => {
    const task = await api.task(api.keys.bob);
    const strip = async (answer: Response) => ({ ...((await answer.json()) as object), instance: '', request_id: '' });
    for (const [method, path, payload] of [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['PATCH', '/priority', { priority: 3 }],
      ['POST', '/retry', undefined],
    ] as const) {
      const other = await api.request(api.keys.ann, method, `/api/v1/tasks/${task.id}${path}`, payload);
      const absent = await api.request(api.keys.ann, method, `/api/v1/tasks/${absentId}${path}`, payload);
      expect(other.status).toBe(404);
      expect(await strip(other)).toEqual(await strip(absent));
    }
    expect((await api.request(api.keys.admin, 'GET', `/api/v1/tasks/${task.id}`)).status).toBe(200);
  });

  test('a task is found with the prefix of its workflow and in any case [C8]', async () => {
    const task = await api.task(api.keys.ann);
    for (const id of [`task-${task.id}`, task.id.toUpperCase()]) expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${id}`)).status).toBe(200);
  });
});

describe('cancel', () => {
  test('a queued task is cancelled at once, stays so when asked again, and its workflow ends [TASK-09, TASK-11, bad-19]', async () => {
    const { id } = await api.task(api.keys.ann);
    const first = await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
    expect(first.status).toBe(200);
    const task = (await first.json()) as TaskView;
    expect(task.status).toBe('cancelled');
    expect(task.completed_at).not.toBeNull();
    const second = await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
    expect(second.status).toBe(200);
    expect(await second.json()).toEqual(task);
  });

  test('a running task is told to stop [TASK-10]', async () => {
    const { id } = await api.task(api.keys.ann);
    await put(id, 'running');
    const answer = await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
    expect(answer.status).toBe(202);
    expect(await answer.json()).toMatchObject({ status: 'running', status_detail: 'cancelling' });
    const history = await api.temporal.workflow.getHandle(`task-${id}`).fetchHistory();
    expect(history.events?.some((event) => event.workflowExecutionCancelRequestedEventAttributes != null)).toBe(true);
  });

  test.each([['completed'], ['failed']])('a %s task is not cancelled [TASK-11, bad-19]', async (status) => {
    const { id } = await api.task(api.keys.ann);
    await put(id, status);
    const answer = await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
    expect(answer.status).toBe(409);
    expect(await answer.json()).toMatchObject({ code: 'task_finished' });
  });
});

describe('priority', () => {
  const patch = (id: string, priority: unknown) => api.request(api.keys.ann, 'PATCH', `/api/v1/tasks/${id}/priority`, { priority });

  test('a queued task takes a new priority and a new place [TASK-12]', async () => {
    const last = await api.task(api.keys.ann, { priority: 1 });
    const [row] = await api.database.sql`select count(*)::integer as count from tasks where status = 'queued' and priority = 100`;
    const answer = await patch(last.id, 10);
    expect(answer.status).toBe(200);
    const place = 1 + Number(row?.['count']);
    expect(await answer.json()).toMatchObject({ priority: 10, queue_position: place });
    expect(last.queue_position).toBeGreaterThan(place);
  });

  test.each([[0], [11], [5.5], ['5'], [null]])('priority %j is refused [TASK-12, bad-13]', async (priority) => {
    const { id } = await api.task(api.keys.ann);
    expect((await patch(id, priority)).status).toBe(422);
  });

  test('a finished task keeps its priority [TASK-12, bad-20]', async () => {
    const { id } = await api.task(api.keys.ann);
    await put(id, 'completed');
    expect((await patch(id, 3)).status).toBe(409);
  });

  test('of 100 changes at the same time one holds, and all are answered [bad-20]', async () => {
    const { id } = await api.task(api.keys.ann);
    const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => patch(id, 1 + (index % 10))));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    const [row] = await api.database.sql`select priority from tasks where id = ${id}`;
    expect(Number(row?.['priority']) % 10).toBe(0);
  });
});

describe('retry', () => {
  test('a failed task is queued again under its id as the next attempt, and started [TASK-18]', async () => {
    const { id } = await api.task(api.keys.ann);
    await api.temporal.workflow.getHandle(`task-${id}`).terminate();
    await put(id, 'failed');
    const answer = await api.request(api.keys.ann, 'POST', `/api/v1/tasks/${id}/retry`);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ id, status: 'queued', attempt: 2, error: null, completed_at: null });
    const description = await run(id);
    expect(description.status.name).toBe('RUNNING');
    expect(description.memo).toMatchObject({ attempt: 2 });
  });

  test.each([['completed'], ['running'], ['queued']])('a %s task is not retried [TASK-18]', async (status) => {
    const { id } = await api.task(api.keys.ann);
    if (status !== 'queued') await put(id, status);
    const answer = await api.request(api.keys.ann, 'POST', `/api/v1/tasks/${id}/retry`);
    expect(answer.status).toBe(409);
    expect(await answer.json()).toMatchObject({ code: 'task_not_retryable' });
  });
});
