import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { answerQuestion, type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.empty('tasks'));

/** Tasks that ended, one an hour, each of which ran for 20 seconds and waited for 60. */
async function ended(
  template: string,
  count: number,
  { status = 'completed', message = 'exit code 1', code = 'step_failed', user = 'ann' } = {},
): Promise<void> {
  const { sql } = dashboard.api.database;
  await sql`
    with made as (
      insert into tasks (name, type, template, template_hash, plan, user_id, status, created_at, started_at, completed_at, error)
      select ${template} || ' ' || n, ${template}, ${template}, 'h', '{}', ${user}, ${status}, at - interval '80 seconds', at - interval '20 seconds', at,
        ${status === 'failed' ? sql.json({ code, message, step: 'run', attempt: 1 }) : null}
      from generate_series(1, ${count}) n, lateral (select now() - (n - 0.5) * interval '1 hour' as at) t returning id, started_at, completed_at, status
    )
    insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status)
    select id, 1, 'run', 'shell', 1, 1, 'r', 'h', started_at, completed_at, status from made`;
}

test('each template has its durations, shares and counts, and the slowest steps are named [DASH-09]', async () => {
  await ended('quick', 6);
  await ended('quick', 2, { status: 'failed' });
  await ended('other', 1, { status: 'cancelled' });
  const { page, faults, close } = await dashboard.open('ann', '/trends');
  expect(await page.locator('.sub').textContent()).toBe('9 tasks ended in 24 h, 75 % of those that ran to an end completed');
  const card = page.locator('.trends .card').first();
  expect((await card.locator('.figures').textContent())?.replaceAll(/\s+/g, ' ')).toMatch(
    /completed\s?75 % median\s?20 s 90 % within\s?20 s waits before\s?1 min failed\s?2/,
  );
  expect(await card.locator('circle.dot.median').count()).toBe(6);
  expect(await card.locator('rect.ended.failed').count()).toBe(2);
  expect(await card.locator('.share').textContent()).toContain('75 % waiting, 25 % running');
  expect(await page.locator('.trends .card').nth(1).textContent()).toContain('none of them completed');
  expect(await page.locator('#steps tbody tr').first().textContent()).toMatch(/run[\s\S]*quick[\s\S]*20 s[\s\S]*8[\s\S]*2/);
  await card.locator('.figures a').click();
  await page.waitForURL('**/history?status=failed&template=quick');
  expect(await page.locator('#tasks tbody tr').count()).toBe(2);
  expect(faults).toEqual([]);
  await close();
});

test('the range and the template stand in the address [DASH-09, DASH-17]', async () => {
  await ended('one', 30);
  await ended('two', 2);
  const { page, close } = await dashboard.open('ann', '/trends?range=7d');
  expect(await page.locator('.sub').textContent()).toContain('32 tasks ended in 7 days');
  await page.locator('select[name="template"]').selectOption('two');
  await page.waitForURL('**/trends?range=7d&template=two');
  await expect.poll(() => page.locator('.trends .card').count(), { timeout: 5_000 }).toBe(1);
  await page.getByRole('link', { name: '30 days' }).click();
  await page.waitForURL('**range=30d&template=two');
  await page.goto(`${dashboard.url}/trends?range=1y`);
  expect(await page.locator('main').textContent()).toContain('query.range');
  await close();
});

test('failures are grouped whatever ids and numbers they hold, and a group is retried after a question with its number [DASH-07]', async () => {
  for (const n of [1, 2, 3]) await ended('a', 1, { status: 'failed', message: `no file /tmp/${n}/x after ${n} ms` });
  await ended('a', 1, { status: 'failed', message: 'too long', code: 'timeout' });
  const { page, close } = await dashboard.open('ann', '/trends');
  const rows = page.locator('#errors tbody tr');
  expect(await rows.count()).toBe(2);
  expect(await rows.first().textContent()).toMatch(
    /3[\s\S]*step failed[\s\S]*no file <path> after <n> ms[\s\S]*a[\s\S]*run[\s\S]*30 min ago[\s\S]*Latest task/,
  );
  expect(await rows.first().getByRole('link', { name: 'Latest task' }).getAttribute('href')).toMatch(/^\/tasks\/[0-9a-f-]{36}$/);
  await rows.first().getByRole('button', { name: 'Retry all' }).click();
  const asked = await answerQuestion(page, 'yes');
  expect(asked).toContain('Retry 3 tasks?');
  expect(asked).toContain('Your tasks of a that failed with: no file <path> after <n> ms');
  await page.locator('.toast.done').waitFor();
  expect(await dashboard.api.database.sql`select status, count(*)::integer from tasks group by status order by status`).toEqual([
    { status: 'failed', count: 1 },
    { status: 'queued', count: 3 },
  ]);
  await expect.poll(() => rows.count(), { timeout: 5_000 }).toBe(1);
  await close();
});

test('users see their own tasks, and a viewer retries none [DASH-15, SEC-05]', async () => {
  await ended('of-bob', 3, { user: 'bob', status: 'failed' });
  await ended('hers', 3, { status: 'failed' });
  const { page, close } = await dashboard.open('viewer', '/trends?range=30d');
  expect(await page.locator('main').textContent()).not.toContain('of-bob');
  expect(await page.locator('#errors tbody tr').count()).toBe(1);
  expect(await page.locator('main button:visible').count()).toBe(0);
  await close();
});

test('texts that are scripts are shown as they are, and long ones are cut [DASH-21, bad-52]', async () => {
  const script = '"><img src=x onerror=alert(1)><script>alert(2)</script>';
  await ended(script, 2, { status: 'failed', message: script, code: script });
  await ended('t'.repeat(95), 2, { status: 'failed', message: 'x'.repeat(10_000) });
  const { page, faults, close } = await dashboard.open('ann', '/trends');
  // What was seen of the trends is kept for some seconds.
  await expect
    .poll(async () => {
      await page.reload();
      return page.locator('.trends h2').allTextContents();
    })
    .toContain(script);
  expect(await page.locator('main img, main script').count()).toBe(0);
  expect(await overflowOf(page)).toBe(0);
  expect(faults).toEqual([]);
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with tasks and without [DASH-14]', async () => {
    const empty = await dashboard.open('bob', `/trends?range=30d`, { width });
    expect(await empty.page.locator('.empty').first().textContent()).toContain('Nothing ended in this time');
    expect(await overflowOf(empty.page)).toBe(0);
    await empty.close();
    await ended('one', 5);
    await ended('two', 3, { status: 'failed', message: 'm'.repeat(400) });
    const { page, close } = await dashboard.open('ann', '/trends', { width, dark: true });
    expect(await overflowOf(page)).toBe(0);
    await close();
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything, without scripts too; dark: %s [DASH-17]', async (dark) => {
  await ended('one', 5);
  await ended('one', 2, { status: 'failed' });
  const { page, close } = await dashboard.open('admin', '/trends', { dark });
  expect(await seriousFaults(page)).toEqual([]);
  await close();
  const plain = await dashboard.open('ann', '/trends?range=7d', { scripts: false, dark });
  await plain.page.locator('select[name="template"]').selectOption('one');
  await plain.page.getByRole('button', { name: 'Filter' }).click();
  await plain.page.waitForURL('**/trends?range=7d&template=one');
  await plain.close();
});
