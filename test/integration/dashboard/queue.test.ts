import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeForecast } from '../../../db/forecasts.js';
import { forecastEntry } from '../../support/forecast-entry.js';
import { type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.sql`truncate tasks, queue_pauses, hosts, residency_orders, forecasts, forecast_entries cascade`);

/** A task whose step waits in the line. */
async function waiting(name: string, { priority = 5, who = 'ann' as 'ann' | 'bob' } = {}): Promise<string> {
  const { api } = dashboard;
  const { id } = await api.task(api.keys[who], { name, priority });
  await api.database.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'ollama_generate', 1, 1, 'run', 'model', 'llama3.2:latest~ctx4096', priority_level, priority, pos from tasks where id = ${id}`;
  return id;
}
const names = '#queue tbody .name';

test('what waits is shown in its order, with priority, reason and predicted start, and new tasks appear by themselves [DASH-01, DASH-13]', async () => {
  const [first] = [await waiting('first'), await waiting('second')];
  await writeForecast(dashboard.api.database.sql, new Date(), [
    forecastEntry(first, { key: 'llama3.2:latest~ctx4096', start_ms: 20_000, start_low_ms: 15_000, start_high_ms: 40_000 }),
  ]);
  const { page, faults, close } = await dashboard.open('ann', '/');
  expect(await page.locator(names).allTextContents()).toEqual(['first', 'second']);
  await expect.poll(() => page.locator('#live').textContent()).toBe('live');
  expect(await page.locator('#queue tbody tr').first().locator('.starts').textContent()).toMatch(/in \d+ s/);
  expect(await page.locator('#queue tbody tr').first().locator('.reason').textContent()).toContain('1st: waits for');
  await waiting('urgent', { priority: 10 });
  await expect.poll(() => page.locator(names).allTextContents()).toEqual(['urgent', 'first', 'second']);
  expect(faults).toEqual([]);
  await close();
});

test('a row is dragged to another place, and the order holds after a reload [DASH-02]', async () => {
  for (const name of ['a', 'b', 'c']) await waiting(name);
  const { page, faults, close } = await dashboard.open('ann', '/');
  const rows = page.locator('#queue tbody tr');
  await rows
    .nth(2)
    .locator('.grip')
    .dragTo(rows.nth(0), { targetPosition: { x: 60, y: 4 } });
  await page.locator('.toast').waitFor();
  expect(await page.locator('.toast').first().textContent()).toBe('Moved.');
  await page.reload();
  expect(await page.locator(names).allTextContents()).toEqual(['c', 'a', 'b']);
  expect(faults).toEqual([]);
  await close();
});

test('the arrow keys move a row, and a refused move goes back with the reason [DASH-02]', async () => {
  const [a, b] = [await waiting('a'), await waiting('b')];
  const { page, close } = await dashboard.open('ann', '/');
  await page.locator('#queue tbody tr').nth(1).locator('.grip').press('ArrowUp');
  await page.locator('.toast.done').waitFor();
  await expect.poll(() => page.locator(names).allTextContents()).toEqual(['b', 'a']);
  // Somebody else moves meanwhile, unseen, since the page is in the middle of something.
  await page.evaluate(() => {
    (globalThis as unknown as { document: { body: { dataset: Record<string, string> } } }).document.body.dataset['busy'] = '';
  });
  expect((await dashboard.api.request(dashboard.api.keys.ann, 'POST', '/api/v1/queue/reorder', { task_id: a, before: b })).status).toBe(200);
  await page.locator('#queue tbody tr').nth(1).locator('.grip').press('ArrowUp');
  await page.locator('.toast.problem').waitFor();
  expect(await page.locator('.toast.problem').textContent()).toMatch(/changed|placed/i);
  await close();
});

test('entries are filtered by template, priority and reason, and the address keeps the filter [DASH-03]', async () => {
  await waiting('low', { priority: 2 });
  await waiting('high', { priority: 9 });
  const { page, close } = await dashboard.open('ann', '/');
  await page.locator('#waiting select[name="priority"]').selectOption('9');
  await expect.poll(() => page.locator(names).allTextContents()).toEqual(['high']);
  expect(page.url()).toContain('priority=9');
  await page.reload();
  expect(await page.locator(names).allTextContents()).toEqual(['high']);
  await page.getByRole('link', { name: 'Clear' }).click();
  await expect.poll(() => page.locator(names).count()).toBe(2);
  await close();
});

test('several are selected and their priority is changed, or they are cancelled, at once [DASH-01]', async () => {
  for (const name of ['a', 'b', 'c']) await waiting(name);
  const { page, close } = await dashboard.open('ann', '/');
  page.on('dialog', (dialog) => void dialog.accept());
  for (const row of [1, 2]) await page.locator('#queue tbody tr').nth(row).locator('input[name="task"]').check();
  expect(await page.locator('[data-selected]').textContent()).toBe('2');
  await page.locator('#selection select').selectOption('8');
  await page.getByRole('button', { name: 'Set priority' }).click();
  await expect.poll(() => page.locator('#queue .level').allTextContents()).toEqual(['8', '8', '5']);
  await page.locator('#all').check();
  await page.locator('[data-bulk="cancel"]').click();
  await expect.poll(() => page.locator('#queue tbody tr').count()).toBe(0);
  await close();
});

test('of other people’s tasks there is a place and nothing else, and a viewer has no buttons [DASH-15]', async () => {
  await waiting('secret of bob', { who: 'bob' });
  await waiting('mine');
  const { page, close } = await dashboard.open('viewer', '/');
  expect(await page.locator('#queue tbody').textContent()).not.toContain('secret of bob');
  expect(await page.locator('#queue tbody tr').count()).toBe(2);
  expect(await page.locator('#queue button, #selection').count()).toBe(0);
  await close();
});

test('a name that is a script is shown as it is [DASH-21, bad-52]', async () => {
  const name = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  await waiting(name);
  const { page, faults, close } = await dashboard.open('ann', '/');
  expect(await page.locator(names).textContent()).toBe(name);
  expect(await page.locator('main img, main script').count()).toBe(0);
  expect(faults).toEqual([]);
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with long names and without tasks [DASH-14]', async () => {
    const empty = await dashboard.open('ann', '/', { width });
    expect(await empty.page.locator('.empty').textContent()).toContain('Nothing waits');
    expect(await overflowOf(empty.page)).toBe(0);
    await empty.close();
    await waiting(`${'long-'.repeat(40)}name`);
    const { page, close } = await dashboard.open('ann', '/', { width, dark: true });
    expect(await overflowOf(page)).toBe(0);
    await close();
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  await waiting('one');
  await dashboard.api.request(dashboard.api.keys.admin, 'POST', '/api/v1/queue/pauses', { reason: 'maintenance' });
  const { page, close } = await dashboard.open('admin', '/', { dark });
  expect(await page.locator('.banner').textContent()).toContain('maintenance');
  expect(await seriousFaults(page)).toEqual([]);
  await close();
});

test('without scripts it can be read, and filtered by a button [DASH-17]', async () => {
  await waiting('one', { priority: 3 });
  const { page, close } = await dashboard.open('ann', '/?priority=9', { scripts: false });
  expect(await page.locator('.empty').textContent()).toContain('fits the filters');
  await page.locator('#waiting select[name="priority"]').selectOption('3');
  await page.getByRole('button', { name: 'Filter' }).click();
  expect(await page.locator(names).allTextContents()).toEqual(['one']);
  await close();
});

test('whoever has not signed in is led to the sign-in, and a faulty filter is told [DASH-15, DASH-17]', async () => {
  const { page, close } = await dashboard.open(null, '/?priority=9');
  expect(new URL(page.url()).pathname).toBe('/sign-in');
  await close();
  const faulty = await dashboard.open('ann', '/?priority=99');
  expect(await faulty.page.locator('main').textContent()).toContain('query.priority');
  await faulty.close();
});
