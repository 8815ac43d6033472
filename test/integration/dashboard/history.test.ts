import { readFile } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { answerQuestion, type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.empty('tasks'));

interface Past {
  readonly name: string;
  readonly status?: string;
  readonly template?: string;
  readonly user?: string;
  /** hours ago */
  readonly ago?: number;
  readonly message?: string;
  readonly code?: string;
}

/** A task of the past; one that has not ended waits. @returns its id */
async function past({
  name,
  status = 'completed',
  template = 'ollama-inference',
  user = 'ann',
  ago = 0.5,
  message = 'exit code 1',
  code = 'step_failed',
}: Past): Promise<string> {
  const { sql } = dashboard.api.database;
  const over = ['completed', 'failed', 'cancelled'].includes(status);
  const ran = over && status !== 'cancelled';
  const [row] = await sql<{ id: string }[]>`
    insert into tasks (name, type, template, template_hash, plan, user_id, status, created_at, started_at, completed_at, error, result, resource_usage)
    select ${name}, ${template}, ${template}, 'h', '{"steps":[]}', ${user}, ${status}, at - interval '70 seconds', ${ran ? sql`at - interval '65 seconds'` : null}, ${over ? sql`at` : null},
      ${status === 'failed' ? sql.json({ code, message, step: 'run', attempt: 1 }) : null}, ${status === 'completed' ? sql.json({ text: `result of ${name}`, steps: {} }) : null},
      ${ran ? sql.json({ model_name: 'llama3.1:8b', inference_time_seconds: 45.2, memory_used_gb: 8.1 }) : null}
    from (select now() - ${ago} * interval '1 hour' as at) t returning id::text`;
  const id = row?.id ?? '';
  if (ran) {
    await sql`insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, status, metrics)
      values (${id}, 1, 'run', 'ollama_generate', 1, 1, 'r', 'h', now(), ${status}, '{"prompt_tokens":1200,"output_tokens":34}')`;
  }
  return id;
}

/** A redraw that was under way with the filter before is made good by the next, a second later. */
const patience = { timeout: 8_000 };
const names = (page: Page) => page.locator('#tasks tbody .name').allTextContents();
const statuses = async () => (await dashboard.api.database.sql<{ status: string }[]>`select status from tasks order by name`).map(({ status }) => status);

test('what has ended is shown with result, error, durations and what it used, newest first, and more appears by itself [DASH-07, DASH-08, DASH-13]', async () => {
  await past({ name: 'done', ago: 1 });
  await past({ name: 'broken', status: 'failed', message: 'exit code 2 of run' });
  await past({ name: 'stopped', status: 'cancelled', ago: 2 });
  const id = await past({ name: 'still waits', status: 'queued' });
  const { page, faults, close } = await dashboard.open('ann', '/history');
  expect(await names(page)).toEqual(['broken', 'done', 'stopped']);
  const rows = await page.locator('#tasks tbody tr').allTextContents();
  expect(rows[0]).toMatch(/failed[\s\S]*step failed[\s\S]*exit code 2 of run/);
  expect(rows[1]).toMatch(
    /completed[\s\S]*result of done[\s\S]*llama3\.1:8b[\s\S]*5\.0 s[\s\S]*1 min 5 s[\s\S]*1 200 → 34[\s\S]*45 s[\s\S]*7\.5 GiB[\s\S]*1 h ago/,
  );
  expect(rows[2]).toMatch(/cancelled[\s\S]*–[\s\S]*none/);
  await expect.poll(() => page.locator('#live').textContent()).toBe('live');
  await dashboard.api.request(dashboard.api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
  await expect.poll(() => names(page), patience).toContain('still waits');
  expect(faults).toEqual([]);
  await close();
});

test('filters stand in the address, and days, names and statuses find what they say [DASH-07, DASH-17]', async () => {
  await past({ name: 'Nightly one', ago: 49 });
  await past({ name: 'nightly two', status: 'failed' });
  await past({ name: 'other', template: 'file-processing' });
  await past({ name: 'waits', status: 'queued' });
  const { page, close } = await dashboard.open('ann', '/history');
  await page.locator('input[name="name"]').fill('nightly');
  await page.locator('input[name="name"]').press('Tab');
  await expect.poll(() => names(page), patience).toEqual(['nightly two', 'Nightly one']);
  await page.locator('select[name="status"]').selectOption('failed');
  await expect.poll(() => names(page), patience).toEqual(['nightly two']);
  expect(page.url()).toContain('name=nightly&status=failed');
  await page.getByRole('link', { name: 'Clear' }).click();
  await expect.poll(() => names(page), patience).toHaveLength(3);
  await page.goto(`${dashboard.url}/history?status=all&template=file-processing`);
  expect(await names(page)).toEqual(['other']);
  await page.goto(`${dashboard.url}/history?status=queued`);
  expect(await names(page)).toEqual(['waits']);
  const dayBeforeTheOthers = new Date(Date.now() - 25 * 3_600_000).toISOString().slice(0, 10);
  await page.goto(`${dashboard.url}/history?to=${dayBeforeTheOthers}`);
  expect(await names(page)).toEqual(['Nightly one']);
  await page.goto(`${dashboard.url}/history?from=${dayBeforeTheOthers}&to=2026-03-01`); // the last day before the first
  expect(await names(page)).toEqual(['Nightly one']);
  await close();
});

test('what ended last is on top, whenever it was created, and days are those of the end; what has not ended stands by its creation [DASH-07]', async () => {
  await past({ name: 'young', ago: 1 });
  const old = await past({ name: 'old', status: 'failed', ago: 0.1 });
  await past({ name: 'waits', status: 'queued' });
  await dashboard.api.database.sql`update tasks set created_at = now() - interval '9 days' where id = ${old}`;
  const { page, close } = await dashboard.open('ann', '/history');
  expect(await names(page)).toEqual(['old', 'young']);
  expect(await page.locator('#tasks th').allTextContents()).toContain('Ended');
  const today = new Date().toISOString().slice(0, 10);
  await page.goto(`${dashboard.url}/history?from=${new Date(Date.now() - 3 * 86_400_000).toISOString().slice(0, 10)}&to=${today}`);
  expect(await names(page)).toEqual(['old', 'young']);
  expect(await page.locator('#csv').getAttribute('href')).toContain('ended_after=');
  await page.goto(`${dashboard.url}/history?status=all`);
  expect(await names(page)).toEqual(['waits', 'young', 'old']);
  expect(await page.locator('#tasks th').allTextContents()).toContain('Created');
  await close();
});

test('pages follow each other without a gap, and keep the filter [DASH-07]', async () => {
  await dashboard.api.database.sql`
    insert into tasks (name, type, template, template_hash, plan, user_id, status, created_at, completed_at)
    select 'many ' || n, 't', 't', 'h', '{}', 'ann', 'completed', now() - n * interval '1 minute', now() - n * interval '10 seconds' from generate_series(1, 120) n`;
  const { page, close } = await dashboard.open('ann', '/history?name=many');
  expect(await page.locator('.sub').textContent()).toBe('120 tasks');
  const seen = await names(page);
  for (let pages = 1; pages < 3; pages += 1) {
    await page.getByRole('link', { name: 'Next page' }).click();
    await expect.poll(async () => (await names(page))[0]).toBe(`many ${pages * 50 + 1}`);
    seen.push(...(await names(page)));
  }
  expect(seen).toEqual(Array.from({ length: 120 }, (_, index) => `many ${index + 1}`));
  expect(await page.getByRole('link', { name: 'Next page' }).count()).toBe(0);
  await close();
});

test('all failed tasks of the filter are retried after a question with their number, and no others [DASH-07]', async () => {
  await past({ name: 'a', status: 'failed' });
  await past({ name: 'b', status: 'failed' });
  await past({ name: 'c', status: 'failed', template: 'file-processing' });
  await past({ name: 'd', status: 'cancelled' });
  await past({ name: 'e', status: 'failed', user: 'bob' });
  const { page, close } = await dashboard.open('ann', '/history?template=ollama-inference');
  const button = page.getByRole('button', { name: 'Retry all that failed' });
  await button.click();
  const asked = await answerQuestion(page, 'no');
  expect(asked).toContain('Retry 2 tasks?');
  expect(asked).toContain('Your tasks with status failed, template ollama-inference.');
  await expect.poll(() => button.isEnabled()).toBe(true);
  expect(await statuses()).toEqual(['failed', 'failed', 'failed', 'cancelled', 'failed']); // nothing was done
  await button.click();
  await answerQuestion(page, 'yes');
  await page.locator('.toast.done').waitFor();
  expect(await page.locator('.toast.done').textContent()).toBe('2 tasks retried.');
  expect(await statuses()).toEqual(['queued', 'queued', 'failed', 'cancelled', 'failed']);
  await expect.poll(() => names(page), patience).toEqual(['d']);
  await close();
});

test('all that have not ended are cancelled, one is retried by its row, and where nothing is left it is said [DASH-07]', async () => {
  await past({ name: 'a', status: 'queued' });
  await past({ name: 'b', status: 'queued' });
  await past({ name: 'c', status: 'failed' });
  const { page, close } = await dashboard.open('ann', '/history?status=all');
  await page.getByRole('button', { name: 'Cancel all that have not ended' }).click();
  await answerQuestion(page, 'yes');
  await expect.poll(statuses, patience).toEqual(['cancelled', 'cancelled', 'failed']);
  await page.getByRole('button', { name: 'Retry c' }).click();
  await expect.poll(statuses, patience).toEqual(['cancelled', 'cancelled', 'queued']);
  await page.getByRole('button', { name: 'Retry all that failed' }).click();
  await page.locator('.toast', { hasText: 'nothing left' }).waitFor();
  await close();
});

test('the report is exported as CSV and JSON with the filter, and what a spreadsheet would take for a formula is a text [DASH-16]', async () => {
  await past({ name: '=HYPERLINK("http://evil.example")', status: 'failed', message: '@SUM(A1)' });
  await past({ name: 'not in it' });
  const { page, close } = await dashboard.open('ann', '/history?status=failed');
  const saved = async (id: string) => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator(id).click()]);
    return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') };
  };
  const csv = await saved('#csv');
  expect(csv.name).toBe('tasks.csv');
  expect(csv.text.trim().split('\r\n')).toHaveLength(2);
  expect(csv.text).toContain(`,"'=HYPERLINK(""http://evil.example"")",`);
  expect(csv.text).toContain(`,'@SUM(A1)`);
  const json = await saved('#json');
  expect(json.name).toBe('tasks.json');
  expect((JSON.parse(json.text) as { items: { name: string }[] }).items.map(({ name }) => name)).toEqual(['=HYPERLINK("http://evil.example")']);
  await close();
});

test('users see their own tasks, a viewer has no buttons, an administrator all and a filter by user [DASH-15, SEC-05]', async () => {
  await past({ name: 'hers', status: 'failed' });
  await past({ name: 'his', user: 'bob', status: 'failed' });
  const viewer = await dashboard.open('viewer', '/history');
  expect(await names(viewer.page)).toEqual(['hers']);
  expect(await viewer.page.locator('main button:visible').count()).toBe(0);
  await viewer.close();
  const admin = await dashboard.open('admin', '/history');
  expect((await names(admin.page)).toSorted()).toEqual(['hers', 'his']);
  await admin.page.locator('input[name="user_id"]').fill('bob');
  await admin.page.locator('input[name="user_id"]').press('Tab');
  await expect.poll(() => names(admin.page), patience).toEqual(['his']);
  await admin.close();
});

test('names, errors and filters that are scripts are shown as they are [DASH-21, bad-52]', async () => {
  const script = '"><img src=x onerror=alert(1)><script>alert(2)</script>';
  await past({ name: script, status: 'failed', message: script, code: script, template: script });
  const { page, faults, close } = await dashboard.open('ann', `/history?name=${encodeURIComponent(script)}&template=${encodeURIComponent(script)}`);
  expect(await names(page)).toEqual([script]);
  expect(await page.locator('input[name="name"]').inputValue()).toBe(script);
  expect(await page.locator('main img, main script').count()).toBe(0);
  expect(faults).toEqual([]);
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with long texts and without tasks [DASH-14]', async () => {
    const empty = await dashboard.open('ann', '/history', { width });
    expect(await empty.page.locator('.empty').textContent()).toContain('Nothing has ended yet');
    expect(await overflowOf(empty.page)).toBe(0);
    await empty.close();
    await past({ name: 'long-'.repeat(50), status: 'failed', message: 'x'.repeat(10_000) });
    const { page, close } = await dashboard.open('admin', '/history', { width, dark: true });
    expect(await overflowOf(page)).toBe(0);
    await close();
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  for (const status of ['completed', 'failed', 'cancelled', 'queued']) await past({ name: status, status });
  const { page, close } = await dashboard.open('admin', '/history?status=all', { dark });
  expect(await seriousFaults(page)).toEqual([]);
  await close();
});

test('without scripts it can be read and filtered [DASH-17]', async () => {
  await past({ name: 'one' });
  await past({ name: 'two', status: 'failed' });
  const { page, close } = await dashboard.open('ann', '/history', { scripts: false });
  expect(await names(page)).toHaveLength(2);
  await page.locator('select[name="status"]').selectOption('failed');
  await page.getByRole('button', { name: 'Filter' }).click();
  expect(await names(page)).toEqual(['two']);
  await close();
});
