import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { csvLine } from '../../../api/csv.js';
import type { BatchResultView, BulkResultView, ReportRowView } from '../../../contract/schemas/many.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const item = (fields: object = {}) => ({ template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' }, ...fields });
async function post<Body>(key: string, url: string, body: unknown): Promise<{ status: number; body: Body }> {
  const answer = await api.request(key, 'POST', `/api/v1/tasks/${url}`, body);
  return { status: answer.status, body: (await answer.json()) as Body };
}
const batch = (tasks: unknown[], key = api.keys.ann) => post<BatchResultView & { code?: string; detail?: string }>(key, 'batch', { tasks });
const bulk = (body: object, key = api.keys.ann) => post<BulkResultView & { code?: string; errors?: { path: string }[] }>(key, 'bulk', body);
const put = (ids: readonly string[], status: string) =>
  api.database
    .sql`update tasks set status = ${status}, started_at = now(), completed_at = case when ${status} = 'running' then null else now() end where id = any(${ids as string[]}::uuid[])`;

describe('batch', () => {
  test('each item is told what became of it, as a single request would be, and a refused one harms no other', async () => {
    const theirs = await api.task(api.keys.bob);
    const { status, body } = await batch([
      item({ name: 'good', priority: 9 }),
      item({ template: 'nothing' }),
      item({ parameters: {} }),
      item({ priority: 11 }),
      item({ depends_on: [theirs.id] }),
      item({ depends_on: ['x'] }),
      'not an object',
      item({ surplus: 1 }),
      item({ name: 'good too' }),
    ]);
    expect(status).toBe(200);
    expect(body).toMatchObject({ created: 2, existing: 0, refused: 7 });
    expect(body.items.map(({ index, outcome, problem }) => [index, outcome, problem?.code ?? null])).toEqual([
      [0, 'created', null],
      [1, 'refused', 'template_not_found'],
      [2, 'refused', 'invalid_parameters'],
      [3, 'refused', 'invalid_request'],
      [4, 'refused', 'invalid_dependency'],
      [5, 'refused', 'invalid_dependency'],
      [6, 'refused', 'invalid_request'],
      [7, 'refused', 'invalid_request'],
      [8, 'created', null],
    ]);
    expect(body.items[3]?.problem?.errors[0]).toMatchObject({ path: 'priority', expected: 'at most 10' });
    for (const { task } of body.items.filter(({ outcome }) => outcome === 'created')) {
      const read = await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${task?.id}`)).json();
      expect(task).toEqual(read);
    }
  });

  test('items wait for each other by their names, in whatever order they come [SCHED-06]', async () => {
    const { body } = await batch([item({ depends_on: ['#middle', '#first'] }), item({ ref: 'middle', depends_on: ['#first'] }), item({ ref: 'first' })]);
    const [last, middle, first] = body.items.map(({ task }) => task);
    expect(first?.depends_on).toEqual([]);
    expect(middle?.depends_on).toEqual([first?.id]);
    expect([...(last?.depends_on ?? [])].sort()).toEqual([first?.id, middle?.id].sort());
    expect(last).toMatchObject({ status_detail: 'waiting_dependency' });
  });

  test('a circle of items is refused as a whole and named, and nothing is stored [SCHED-06]', async () => {
    const { sql } = api.database;
    const before = (await sql`select 1 from tasks`).length;
    const refused = await batch([item({ ref: 'a', depends_on: ['#b'] }), item({ ref: 'b', depends_on: ['#a'] }), item()]);
    expect(refused).toMatchObject({ status: 409, body: { code: 'dependency_cycle' } });
    expect(refused.body.detail).toContain('#a');
    expect(await batch([item({ ref: 'self', depends_on: ['#self'] })])).toMatchObject({ status: 409 });
    expect(await sql`select 1 from tasks`).toHaveLength(before);
  });

  test('who waits for a refused item, or for a name that is not there, is refused too, down the chain', async () => {
    const { body } = await batch([
      item({ ref: 'bad', template: 'nothing' }),
      item({ ref: 'next', depends_on: ['#bad'] }),
      item({ depends_on: ['#next'] }),
      item({ depends_on: ['#absent'] }),
      item({ ref: 'twin' }),
      item({ ref: 'twin' }),
    ]);
    expect(body.items.map(({ outcome, problem }) => [outcome, problem?.code ?? null])).toEqual([
      ['refused', 'template_not_found'],
      ['refused', 'invalid_dependency'],
      ['refused', 'invalid_dependency'],
      ['refused', 'invalid_dependency'],
      ['created', null],
      ['refused', 'invalid_request'],
    ]);
    expect(body.items[2]?.problem?.errors[0]).toMatchObject({ path: 'depends_on[0]', got: '#next' });
  });

  test('with a key for every item a repeat creates nothing twice, and another body under a key is refused [TASK-23]', async () => {
    const keys = [randomUUID(), randomUUID()];
    const items = keys.map((idempotency_key, index) => item({ idempotency_key, name: `n${index}`, ref: `r${index}` }));
    const first = await batch(items);
    const again = await batch([...items, item({ depends_on: ['#r0'] })]);
    expect(again.body).toMatchObject({ created: 1, existing: 2, refused: 0 });
    expect(again.body.items.slice(0, 2).map(({ task }) => task?.id)).toEqual(first.body.items.map(({ task }) => task?.id));
    expect(again.body.items[2]?.task?.depends_on).toEqual([first.body.items[0]?.task?.id]);
    const changed = await batch([item({ idempotency_key: keys[0], name: 'another' })]);
    expect(changed.body.items[0]).toMatchObject({ outcome: 'refused', problem: { code: 'idempotency_conflict' } });
    const twice = randomUUID();
    const within = await batch([item({ idempotency_key: twice }), item({ idempotency_key: twice })]);
    expect(within.body).toMatchObject({ created: 1, existing: 1 });
    expect(new Set(within.body.items.map(({ task }) => task?.id)).size).toBe(1);
  });

  test('who waits for an item that turns out to exist waits for the task that has its key, down the chain [TASK-23, SCHED-06]', async () => {
    const [shared, own] = [randomUUID(), randomUUID()];
    const { body } = await batch([
      item({ idempotency_key: shared, ref: 'winner' }),
      item({ idempotency_key: shared, ref: 'same' }),
      item({ depends_on: ['#same', '#winner'], ref: 'next', idempotency_key: own }),
      item({ depends_on: ['#next'] }),
      item({ idempotency_key: shared, ref: 'another', name: 'another body' }),
      item({ depends_on: ['#another', '#same'] }),
    ]);
    expect(body.items.map(({ outcome, problem }) => [outcome, problem?.code ?? null])).toEqual([
      ['created', null],
      ['existing', null],
      ['created', null],
      ['created', null],
      ['refused', 'idempotency_conflict'],
      ['refused', 'invalid_dependency'],
    ]);
    const [winner, same, next, last] = body.items.map(({ task }) => task);
    expect(same?.id).toBe(winner?.id);
    expect(next?.depends_on).toEqual([winner?.id]);
    expect(last?.depends_on).toEqual([next?.id]);
  });

  test('a thousand are taken at once and keep their order, one more is refused', async () => {
    const { body } = await batch(Array.from({ length: 1_000 }, (_, index) => item({ name: `many ${index}` })));
    expect(body).toMatchObject({ created: 1_000, refused: 0 });
    const { sql } = api.database;
    const names = await sql<{ name: string }[]>`select name from tasks where name like 'many %' order by pos`;
    expect(names.map(({ name }) => name)).toEqual(Array.from({ length: 1_000 }, (_, index) => `many ${index}`));
    const positions = body.items.map(({ task }) => task?.queue_position ?? 0);
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    await sql`delete from tasks where name like 'many %'`;
    expect((await batch(Array.from({ length: 1_001 }, () => item()))).status).toBe(422);
    expect((await batch([])).status).toBe(422);
  });

  test('a viewer creates none [SEC-05]', async () => {
    expect((await batch([item()], api.keys.viewer)).status).toBe(403);
  });
});

describe('bulk', () => {
  test('cancels, retries and prioritises by ids, and tells for each what became of it', async () => {
    const [queued, running, done, failed] = await Promise.all([api.task(api.keys.ann), api.task(api.keys.ann), api.task(api.keys.ann), api.task(api.keys.ann)]);
    const theirs = await api.task(api.keys.bob);
    await put([running.id], 'running');
    await put([done.id], 'completed');
    await put([failed.id], 'failed');
    const ids = [queued.id, running.id, done.id, failed.id, theirs.id, 'x', queued.id.toUpperCase()];
    const outcomes = async (body: object) => {
      const answer = await bulk({ ids, ...body });
      expect(answer.status).toBe(200);
      return Object.fromEntries(answer.body.items.map(({ id, outcome }) => [id, outcome]));
    };
    expect(await outcomes({ action: 'priority', priority: 9, dry_run: true })).toEqual({
      [queued.id]: 'would_change',
      [running.id]: 'would_change',
      [done.id]: 'finished',
      [failed.id]: 'finished',
      [theirs.id]: 'not_found',
      x: 'not_found',
    });
    expect(await outcomes({ action: 'priority', priority: 9 })).toEqual({
      [queued.id]: 'changed',
      [running.id]: 'changed',
      [done.id]: 'finished',
      [failed.id]: 'finished',
      [theirs.id]: 'not_found',
      x: 'not_found',
    });
    expect(await outcomes({ action: 'priority', priority: 9 })).toMatchObject({ [queued.id]: 'unchanged' });
    expect(await outcomes({ action: 'priority', priority: 9, dry_run: true })).toMatchObject({ [queued.id]: 'unchanged' });
    expect(await outcomes({ action: 'retry', dry_run: true })).toMatchObject({ [queued.id]: 'not_retryable', [failed.id]: 'would_change' });
    expect(await outcomes({ action: 'retry' })).toMatchObject({ [queued.id]: 'not_retryable', [done.id]: 'not_retryable', [failed.id]: 'retried' });
    expect(await outcomes({ action: 'cancel' })).toMatchObject({
      [queued.id]: 'cancelled',
      [running.id]: 'stopping',
      [done.id]: 'finished',
      [failed.id]: 'cancelled',
    });
    expect(await outcomes({ action: 'cancel' })).toMatchObject({ [queued.id]: 'unchanged' });
    expect(await outcomes({ action: 'cancel', dry_run: true })).toMatchObject({ [queued.id]: 'unchanged', [done.id]: 'finished' });
    expect((await (await api.request(api.keys.bob, 'GET', `/api/v1/tasks/${theirs.id}`)).json()) as object).toMatchObject({ status: 'queued', priority: 5 });
  });

  test('a filter names what the list would, in steps of the limit until none is left', async () => {
    const made = await Promise.all(Array.from({ length: 7 }, () => api.task(api.keys.bob, { priority: 3 })));
    await put(
      made.map(({ id }) => id),
      'failed',
    );
    const filter = { status: ['failed'], priority: [3], template: ['ollama-inference'] };
    expect((await bulk({ action: 'retry', filter, dry_run: true }, api.keys.bob)).body).toMatchObject({ matched: 7, changed: 7, remaining: 0, dry_run: true });
    expect((await bulk({ action: 'retry', filter, limit: 5 }, api.keys.bob)).body).toMatchObject({ matched: 7, changed: 5, skipped: 0, remaining: 2 });
    expect((await bulk({ action: 'retry', filter, limit: 5 }, api.keys.bob)).body).toMatchObject({ matched: 2, changed: 2, remaining: 0 });
    expect((await bulk({ action: 'retry', filter }, api.keys.bob)).body).toMatchObject({ matched: 0, items: [] });
    expect((await bulk({ action: 'cancel', filter: { user_id: ['bob'], priority: [3] } }, api.keys.ann)).body).toMatchObject({ matched: 0 });
    // Tasks that a step has changed already do not stand in the way of the rest, also where they fit the filter still.
    const all = { priority: [3] };
    expect((await bulk({ action: 'cancel', filter: all, limit: 5 }, api.keys.bob)).body).toMatchObject({ matched: 7, changed: 5, remaining: 2 });
    expect((await bulk({ action: 'cancel', filter: all, limit: 5 }, api.keys.bob)).body).toMatchObject({ matched: 2, changed: 2, remaining: 0 });
    expect((await bulk({ action: 'cancel', filter: all }, api.keys.bob)).body).toMatchObject({ matched: 0, items: [] });
  });

  test.each([
    [{ action: 'cancel' }, 'filter'],
    [{ action: 'cancel', ids: ['x'], filter: {} }, 'filter'],
    [{ action: 'priority', ids: ['x'] }, 'priority'],
    [{ action: 'cancel', ids: ['x'], priority: 5 }, 'priority'],
    [{ action: 'delete', ids: ['x'] }, 'action'],
    [{ action: 'cancel', ids: [] }, 'ids'],
    [{ action: 'cancel', filter: { status: ['nothing'] } }, 'filter.status[0]'],
    [{ action: 'cancel', filter: { nam: 'x' } }, 'filter.nam'],
    [{ action: 'cancel', filter: { name: '' } }, 'filter.name'],
    [{ action: 'cancel', filter: { created_after: '2026-02-01T00:00:00Z', created_before: '2026-01-01T00:00:00Z' } }, 'filter.created_after'],
    [{ action: 'retry', filter: { ended_after: '2026-02-01T00:00:00Z', ended_before: '2026-01-01T00:00:00Z' } }, 'filter.ended_after'],
    [{ action: 'cancel', filter: {}, limit: 10_001 }, 'limit'],
    [{ action: 'cancel', filter: { created_after: '9999-12-31T23:59:59.999999999-14:00' } }, 'filter.created_after'],
    [{ action: 'cancel', filter: { created_before: '0001-01-01T00:00:00+14:00' } }, 'filter.created_before'],
  ])('%j is refused at %s', async (body, path) => {
    expect(await bulk(body)).toMatchObject({ status: 422, body: { code: 'invalid_request', errors: [{ path }] } });
  });
});

describe('report', () => {
  const report = (key: string, query = '') => api.request(key, 'GET', `/api/v1/reports/tasks${query}`);

  test('has the tasks of the list under the same filters, as JSON and as CSV with the same values [DASH-16]', async () => {
    const { sql } = api.database;
    const task = await api.task(api.keys.ann, { name: 'reported', priority: 6 });
    const error = { code: 'step_failed', message: '=1+1, "quoted"\nsecond line', step: 'x', attempt: 1 };
    await sql`
      update tasks set status = 'failed', started_at = created_at + interval '2 seconds', completed_at = created_at + interval '5 seconds', error = ${sql.json(error)} where id = ${task.id}`;
    await sql`insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, status, metrics)
      select ${task.id}, 1, 's', 't', n, n, 'r', 'h', now(), 'failed', '{"prompt_tokens":10,"output_tokens":4}' from generate_series(1, 2) n`;
    const answer = await report(api.keys.ann, '?status=failed&priority=6');
    expect(answer.headers.get('content-disposition')).toContain('tasks.json');
    const { items } = (await answer.json()) as { items: ReportRowView[] };
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      id: task.id,
      name: 'reported',
      created_at: task.created_at,
      waited_seconds: 2,
      ran_seconds: 3,
      prompt_tokens: 20,
      output_tokens: 8,
      error_code: 'step_failed',
    });
    const csv = await report(api.keys.ann, '?status=failed&priority=6&format=csv');
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    const text = await csv.text();
    const header = text.split('\r\n')[0]?.split(',') ?? [];
    expect([...header].sort()).toEqual(Object.keys(items[0] ?? {}).sort());
    expect(header.slice(0, 3)).toEqual(['id', 'name', 'template']);
    expect(text).toContain(`"'=1+1, ""quoted""\nsecond line"`);
    expect(text).toContain(`${task.id},reported,ollama-inference`);
  });

  test('a part of a name finds tasks in the list, in the report and for a bulk change, whatever signs it has [DASH-07]', async () => {
    for (const name of ['Nightly 100% run', 'nightly 1000 run', 'other_name', 'otherXname']) await api.task(api.keys.ann, { name });
    const found = async (name: string) => {
      const query = `?name=${encodeURIComponent(name)}`;
      const [list, rows] = [await api.request(api.keys.ann, 'GET', `/api/v1/tasks${query}`), await report(api.keys.ann, query)];
      const names = ((await list.json()) as { items: { name: string }[] }).items.map((task) => task.name);
      expect(((await rows.json()) as { items: { name: string }[] }).items.map((row) => row.name)).toEqual(names);
      expect((await bulk({ action: 'cancel', dry_run: true, filter: { name } })).body).toMatchObject({ matched: names.length });
      return names.toSorted();
    };
    expect(await found('NIGHTLY')).toEqual(['Nightly 100% run', 'nightly 1000 run']);
    expect(await found('100%')).toEqual(['Nightly 100% run']);
    expect(await found('r_n')).toEqual(['other_name']);
    expect(await found('no such')).toEqual([]);
    await api.database.sql`delete from tasks where name ilike '%nightly%' or name like 'other%'`;
  });

  test('a user reports the own tasks only, and an unknown filter or format is refused', async () => {
    await api.task(api.keys.bob, { name: 'theirs' });
    expect(await (await report(api.keys.ann, '?format=csv')).text()).not.toContain('theirs');
    expect(await (await report(api.keys.admin, '?format=csv')).text()).toContain('theirs');
    expect((await report(api.keys.ann, '?format=xml')).status).toBe(422);
    expect((await report(api.keys.ann, '?nam=x')).status).toBe(422);
  });

  test('a time that an offset leads out of the years 1 to 9999 is refused by the list and the report [bad-52]', async () => {
    for (const url of ['/api/v1/tasks', '/api/v1/reports/tasks']) {
      for (const time of ['9999-12-31T23:59:59.999999999-14:00', '0001-01-01T00:00:00+14:00']) {
        const refused = await api.request(api.keys.ann, 'GET', `${url}?created_after=${encodeURIComponent(time)}`);
        expect(await refused.json()).toMatchObject({ status: 422, code: 'invalid_request', errors: [{ path: 'query.created_after' }] });
      }
      const last = await api.request(api.keys.ann, 'GET', `${url}?created_before=9999-12-31T23:59:59.9999999Z&created_after=0001-01-01T00:00:00Z`);
      expect(last.status).toBe(200);
    }
    expect((await bulk({ action: 'cancel', dry_run: true, filter: { created_after: '9999-12-31T23:59:59.9999999Z' } })).status).toBe(200);
  });

  test('a report that cannot be read is answered as a problem and not as a file that breaks off', async () => {
    const broken = await apiUnderTest();
    try {
      await broken.database.sql`alter table tasks rename to tasks_away`;
      for (const format of ['json', 'csv']) {
        const answer = await broken.request(broken.keys.ann, 'GET', `/api/v1/reports/tasks?format=${format}`);
        expect([answer.status, answer.headers.get('content-disposition')]).toEqual([500, null]);
        expect(await answer.json()).toMatchObject({ code: 'unexpected' });
      }
    } finally {
      await broken.stop();
    }
  });

  test('a report of thousands is complete and in order', async () => {
    const { sql } = api.database;
    await sql`insert into tasks (name, type, template, template_hash, plan, user_id, created_at)
      select 'bulk', 't', 'long', 'h', '{}', 'carl', now() - n * interval '1 second' from generate_series(1, 2345) n`;
    const { items } = (await (await report(api.keys.admin, '?template=long')).json()) as { items: ReportRowView[] };
    expect(items).toHaveLength(2_345);
    expect(new Set(items.map(({ id }) => id)).size).toBe(2_345);
    const times = items.map(({ created_at }) => created_at);
    expect(times).toEqual(times.toSorted().reverse());
    await sql`delete from tasks where template = 'long'`;
  });

  test('no cell begins a formula, and a reader of CSV gets back what was written', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('=1', '+1', '-1', '@x', '\tx', '\rx', '"', ',', 'a\nb')), { minLength: 1 }),
        (cells) => {
          const read = readCsvLine(csvLine(cells));
          expect(read.map((cell, index) => (/^'[=+\-@\t\r\n＝＋－＠]/.test(cell) && cells[index] !== cell ? cell.slice(1) : cell))).toEqual(cells);
          for (const cell of read) expect(cell).not.toMatch(/^[=+\-@\t\r\n＝＋－＠]/);
        },
      ),
    );
  });
});

/** RFC 4180, one record. */
function readCsvLine(line: string): string[] {
  const cells: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/gy;
  for (let match = cell.exec(line); match !== null; match = cell.exec(line)) {
    cells.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] === '\r\n') break;
  }
  return cells;
}
