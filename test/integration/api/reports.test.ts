import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ErrorGroupsView, TrendsView } from '../../../contract/schemas/reports.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());
beforeEach(async () => api.database.empty('tasks'));

interface Ended {
  readonly template?: string;
  readonly status?: 'completed' | 'failed' | 'cancelled';
  readonly user?: string;
  /** hours ago */
  readonly ago?: number;
  /** seconds; null: it never started */
  readonly ran?: number | null;
  readonly waited?: number;
  readonly error?: { readonly code: string; readonly message: string; readonly step: string | null };
}

/** A task that has ended. @returns its id */
async function ended({ template = 'a', status = 'completed', user = 'ann', ago = 0.01, ran = 10, waited = 5, error }: Ended = {}): Promise<string> {
  const { sql } = api.database;
  const failure = error === undefined ? null : sql.json({ attempt: 1, ...error });
  const [row] = await sql<{ id: string }[]>`
    insert into tasks (name, type, template, template_hash, plan, user_id, status, completed_at, started_at, created_at, error)
    select 'ended', ${template}, ${template}, 'h', '{}', ${user}, ${status}, at, at - ${ran} * interval '1 second', at - ${(ran ?? 0) + waited} * interval '1 second', ${failure}
    from (select now() - ${ago} * interval '1 hour' as at) t returning id::text`;
  return row?.id ?? '';
}

describe('trends [DASH-09]', () => {
  const trends = async (query = '', key = api.keys.ann) => (await (await api.request(key, 'GET', `/api/v1/reports/trends${query}`)).json()) as TrendsView;

  test('tell by template how tasks ended, how long they ran and waited, in the range alone', async () => {
    for (const ran of [10, 20, 30]) await ended({ ran, ago: 2 });
    await ended({ status: 'failed', ran: 1_000, waited: 500 });
    await ended({ status: 'cancelled', ran: null });
    await ended({ template: 'b', ago: 30 });
    const day = await trends();
    expect(day).toMatchObject({ complete: true, bucket_seconds: 3_600 });
    expect(day.templates).toHaveLength(1);
    const [template] = day.templates;
    expect(template).toMatchObject({ template: 'a', completed: 3, failed: 1, cancelled: 1, ran: { median: 20, p90: 28 }, waited: { median: 5 } });
    expect(template?.buckets.reduce((sum, { completed, failed, cancelled }) => sum + completed + failed + cancelled, 0)).toBe(5);
    const ats = template?.buckets.map(({ at }) => at) ?? [];
    expect(ats).toEqual(ats.toSorted());
    for (const at of ats) expect(Date.parse(at) % 3_600_000).toBe(0);
    const week = await trends('?range=7d');
    expect(week.templates.map((each) => each.template)).toEqual(['a', 'b']);
    expect((await trends('?range=30d&template=b')).templates.map((each) => each.template)).toEqual(['b']);
  });

  test('a template of which nothing completed has no duration', async () => {
    await ended({ template: 'never', status: 'cancelled', ran: null });
    const { templates } = await trends('?range=30d&template=never');
    expect(templates[0]).toMatchObject({ cancelled: 1, ran: { median: null, p90: null }, waited: { median: null, p90: null } });
  });

  test('the slowest steps come first, with what failed of them', async () => {
    const { sql } = api.database;
    const id = await ended({ template: 'steps' });
    for (const [step, seconds, status] of [
      ['quick', 1, 'completed'],
      ['slow', 60, 'completed'],
      ['slow', 5, 'failed'],
      ['taken back', 900, 'void'],
    ] as const) {
      await sql`insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status)
        values (${id}, 1, ${step}, 'shell', 1, 1, ${step + status}, 'h', now() - ${seconds} * interval '1 second', now(), ${status})`;
    }
    const { steps } = await trends('?template=steps');
    expect(steps).toEqual([
      { template: 'steps', step: 'slow', step_type: 'shell', runs: 2, failed: 1, ran: { median: 60, p90: 60 } },
      { template: 'steps', step: 'quick', step_type: 'shell', runs: 1, failed: 0, ran: { median: 1, p90: 1 } },
    ]);
  });

  test('users see their own tasks, administrators those of everybody', async () => {
    await ended({ template: 'hers', user: 'ann' });
    await ended({ template: 'his', user: 'bob' });
    expect((await trends('?range=7d&template=his&template=hers')).templates.map(({ template }) => template)).toEqual(['hers']);
    expect((await trends('?range=7d&template=his&template=hers', api.keys.admin)).templates).toHaveLength(2);
  });

  test('another range is refused', async () => {
    const answer = await api.request(api.keys.ann, 'GET', '/api/v1/reports/trends?range=1y');
    expect([answer.status, await answer.json()]).toMatchObject([422, { errors: [{ path: 'query.range' }] }]);
  });
});

describe('groups of errors [DASH-07]', () => {
  const errors = async (query = '', key = api.keys.ann) => (await (await api.request(key, 'GET', `/api/v1/reports/errors${query}`)).json()) as ErrorGroupsView;
  const exit = (code: number) => ({ code: 'step_failed', step: 'run', message: `exit code ${code}` });

  test('have the failures of one kind, and name the tasks to retry together', async () => {
    const ids = [
      await ended({ status: 'failed', error: exit(1), ago: 3 }),
      await ended({ status: 'failed', error: exit(2), ago: 2 }),
      await ended({ status: 'failed', error: exit(1), ago: 1 }),
    ];
    await ended({ status: 'failed', error: { code: 'timeout', step: null, message: 'too long' } });
    const all = await errors();
    expect(all).toMatchObject({ complete: true, failed: 4 });
    expect(all.items).toHaveLength(2);
    expect(all.items[0]).toMatchObject({
      template: 'a',
      step: 'run',
      code: 'step_failed',
      pattern: 'exit code <n>',
      message: 'exit code 1',
      count: 3,
      task_ids: [ids[2]],
    });
    expect(all.items[1]).toMatchObject({ step: null, code: 'timeout', count: 1 });
    const one = await errors(`?group=${encodeURIComponent(all.items[0]?.key ?? '')}&ids=1000`);
    expect(one.items).toHaveLength(1);
    expect(one.items[0]?.task_ids.toSorted()).toEqual(ids.toSorted());
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks/bulk', { action: 'retry', ids: one.items[0]?.task_ids });
    expect(await answer.json()).toMatchObject({ changed: 3 });
    expect((await errors()).failed).toBe(1); // what is retried has not failed any more
  });

  test('hold for the range, the templates and the caller', async () => {
    await ended({ status: 'failed', error: exit(1), ago: 30 });
    await ended({ status: 'failed', error: exit(1), template: 'b' });
    await ended({ status: 'failed', error: exit(1), user: 'bob' });
    expect((await errors()).failed).toBe(1);
    expect((await errors('?range=7d')).failed).toBe(2);
    expect((await errors('?range=7d&template=b')).items.map(({ template }) => template)).toEqual(['b']);
    expect((await errors('', api.keys.admin)).failed).toBe(2);
  });

  test('a failure without a message has a group too, and a faulty query is refused', async () => {
    await ended({ status: 'failed' });
    expect((await errors()).items).toMatchObject([{ code: '', pattern: '', message: '', step: null }]);
    expect((await api.request(api.keys.ann, 'GET', '/api/v1/reports/errors?ids=1001')).status).toBe(422);
  });
});
