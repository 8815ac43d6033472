import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeForecast } from '../../../db/forecasts.js';
import { forecastEntry } from '../../support/forecast-entry.js';
import { answerQuestion, type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.empty('tasks', 'queue_pauses', 'hosts', 'residency_orders', 'forecasts', 'forecast_entries'));

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
/** The order of the line, as it is and not as a page shows it. */
async function order(): Promise<string[]> {
  const rows = await dashboard.api.database.sql<{ name: string }[]>`select name from tasks where status = 'queued' order by priority desc, pos`;
  return rows.map(({ name }) => name);
}

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

async function dragThirdToTop(page: Page): Promise<void> {
  const rows = page.locator('#queue tbody tr');
  await rows
    .nth(2)
    .locator('.grip')
    .dragTo(rows.nth(0), { targetPosition: { x: 60, y: 4 } });
  await page.locator('.toast').waitFor();
}

test('a row is dragged to another place, and the order holds after a reload [DASH-02]', async () => {
  for (const name of ['a', 'b', 'c']) await waiting(name);
  const { page, faults, close } = await dashboard.open('ann', '/');
  await dragThirdToTop(page);
  expect(await page.locator('.toast').first().textContent()).toBe('Moved.');
  await page.reload();
  expect(await page.locator(names).allTextContents()).toEqual(['c', 'a', 'b']);
  expect(faults).toEqual([]);
  await close();
});

/** In the order of their predicted starts, which is not that of the line: the model of the first is in memory. */
async function predicted(...ids: string[]): Promise<void> {
  const entries = ids.map((id, index) => forecastEntry(id, { key: 'llama3.2:latest~ctx4096', start_ms: 10_000 * (index + 1), position: index + 1 }));
  const { sql } = dashboard.api.database;
  await writeForecast(sql, new Date(), entries);
  forecasts += 1;
  await sql`update forecasts set version = version + ${forecasts}`; // one that the page has not seen, although the table was emptied
}
let forecasts = 0;

test('a row that is dragged forward past rows of other priorities goes before all of them, and never back; what it takes for it is told [DASH-02]', async () => {
  const [low, high, mine, urgent] = [
    await waiting('low', { priority: 4 }),
    await waiting('high', { priority: 8 }),
    await waiting('mine', { priority: 6 }),
    await waiting('urgent', { priority: 9 }),
  ];
  await predicted(low, high, mine, urgent);
  const { page, faults, close } = await dashboard.open('ann', '/');
  expect(await page.locator(names).allTextContents()).toEqual(['low', 'high', 'mine', 'urgent']);
  await dragThirdToTop(page);
  expect(await page.locator('.toast').first().textContent()).toBe('Moved, with priority 8.');
  expect(await order()).toEqual(['urgent', 'mine', 'high', 'low']);
  // One that stands before all that it would pass waits for something else.
  const grip = page.getByRole('button', { name: 'Move urgent:' });
  await grip.press('ArrowUp');
  await expect.poll(() => page.locator('#preview').textContent()).toContain('It goes before these already');
  await grip.press('Enter');
  await page.locator('.toast.problem').waitFor();
  expect(await order()).toEqual(['urgent', 'mine', 'high', 'low']);
  await page.getByRole('button', { name: 'Move urgent to the top' }).click();
  await expect.poll(() => page.locator('.toast').allTextContents()).toContainEqual('It goes before all others already; its row tells what it waits for.');
  expect(faults).toEqual([]);
  await close();
});

test('“Top” goes before the first of the line, also where another of the same priority starts sooner [DASH-02]', async () => {
  const [older, loaded, mine] = [await waiting('older'), await waiting('loaded'), await waiting('mine')];
  await predicted(loaded, older, mine);
  const { page, close } = await dashboard.open('ann', '/');
  expect(await page.locator(names).allTextContents()).toEqual(['loaded', 'older', 'mine']);
  await page.getByRole('button', { name: 'Move mine to the top' }).click();
  await expect.poll(order).toEqual(['mine', 'older', 'loaded']);
  await close();
});

test('a table that is drawn anew many times is made draggable once, so that a page may stay open for days, and a drag is one move [DASH-02, DASH-13]', async () => {
  for (const name of ['a', 'b', 'c']) await waiting(name);
  const { page, faults, close } = await dashboard.open('ann', '/');
  await page.evaluate(
    'window.made = 0; { const { create } = Sortable; Sortable.create = (...given) => { window.made += 1; return create.apply(Sortable, given); }; }',
  );
  for (let round = 0; round < 4; round += 1) {
    await waiting(`more ${round}`, { priority: 1 });
    await expect.poll(() => page.locator(names).count()).toBe(4 + round);
  }
  expect(await page.evaluate('window.made')).toBe(0);
  const moves: string[] = [];
  page.on('request', (request) => void (request.url().endsWith('/queue/reorder') && moves.push(request.url())));
  await dragThirdToTop(page);
  expect(moves).toHaveLength(1);
  expect((await order()).slice(0, 3)).toEqual(['c', 'a', 'b']);
  expect(faults).toEqual([]);
  await close();
});

test('the arrow keys lift a row and tell what its place would do; Escape puts it back, a pause drops it [DASH-02, DASH-17]', async () => {
  for (const name of ['a', 'b', 'c']) await waiting(name);
  const { page, faults, close } = await dashboard.open('ann', '/');
  const grip = page.getByRole('button', { name: 'Move c:' });
  const told = page.locator('#preview');
  await grip.press('ArrowUp');
  await grip.press('ArrowUp');
  await expect.poll(() => told.textContent()).toBe('Row 1 of 3. No start changes. Enter drops it, Escape puts it back.');
  expect(await page.locator(names).allTextContents()).toEqual(['c', 'a', 'b']);
  expect(await order()).toEqual(['a', 'b', 'c']);
  await grip.press('Escape');
  expect(await page.locator(names).allTextContents()).toEqual(['a', 'b', 'c']);
  expect(await order()).toEqual(['a', 'b', 'c']);
  expect(await page.locator('.toast').count()).toBe(0);
  await grip.press('ArrowUp');
  await expect.poll(order).toEqual(['a', 'c', 'b']);
  await expect.poll(() => page.locator('.toast').allTextContents()).toEqual(['Moved.']);
  expect(faults).toEqual([]);
  await close();
});

test('several moves by the keyboard follow each other without waiting for the page, and the focus stays on the row [DASH-02, DASH-17]', async () => {
  for (const name of ['a', 'b', 'c', 'd']) await waiting(name);
  const { page, close } = await dashboard.open('ann', '/');
  await page.getByRole('button', { name: 'Move d:' }).focus();
  for (const key of ['ArrowUp', 'Enter', 'ArrowUp', 'Enter', 'ArrowUp', 'Enter', 'ArrowDown', 'Enter']) await page.keyboard.press(key);
  await expect.poll(order).toEqual(['a', 'd', 'b', 'c']);
  await expect.poll(() => page.locator('.toast').allTextContents()).toEqual(['Moved.', 'Moved.', 'Moved.', 'Moved.']);
  await expect.poll(() => page.locator('#queue').getAttribute('data-version')).not.toBe('0');
  await page.waitForFunction(
    () => (globalThis as unknown as { document: { body: { dataset: Record<string, string> } } }).document.body.dataset['busy'] === undefined,
  );
  await waiting('e'); // the page is drawn anew
  await expect.poll(() => page.locator(names).allTextContents()).toEqual(['a', 'd', 'b', 'c', 'e']);
  expect(await page.evaluate('document.activeElement.getAttribute("aria-label")')).toContain('Move d:');
  await close();
});

test('a preview that is refused tells so in its line, and the row goes back [DASH-02]', async () => {
  await waiting('top', { priority: 10 });
  await waiting('of bob', { who: 'bob', priority: 10 });
  await waiting('mine');
  const { page, close } = await dashboard.open('ann', '/');
  const grip = page.locator('#queue tbody tr', { hasText: 'mine' }).locator('.grip');
  await grip.press('ArrowUp');
  await expect.poll(() => page.locator('#preview').textContent()).toContain('before tasks of others');
  expect(await page.locator('.toast').count()).toBe(0);
  await grip.press('Enter');
  await page.locator('.toast.problem').waitFor();
  await expect.poll(() => page.locator('#queue tbody tr').last().textContent()).toContain('mine');
  await close();
});

test('“Top” is the top of the whole queue, from another page and with filters; of users, of their own tasks [DASH-02]', async () => {
  await waiting('first', { priority: 7 });
  for (let n = 1; n <= 50; n += 1) await waiting(`n${n}`);
  await waiting('last', { priority: 3 });
  const { page, close } = await dashboard.open('admin', '/');
  await page.getByRole('link', { name: 'Next page' }).click();
  await page.getByRole('button', { name: 'Move last to the top of the queue' }).click();
  await expect.poll(async () => (await order()).slice(0, 2)).toEqual(['last', 'first']);
  expect(await page.locator('.toast').textContent()).toBe('Moved to the top of the queue.');
  await close();
  await waiting('of bob', { who: 'bob', priority: 9 });
  const own = await dashboard.open('ann', '/?priority=5&template=ollama-inference');
  await own.page.getByRole('button', { name: 'Move n9 to the top of your tasks' }).click();
  await expect.poll(async () => (await order()).slice(0, 3)).toEqual(['of bob', 'n9', 'last']);
  await own.page.goto(dashboard.url);
  await own.page.getByRole('button', { name: 'Move n20 to the top of your tasks' }).press('Enter');
  await expect.poll(() => own.page.locator(names).first().textContent(), { timeout: 8_000 }).toBe('n20');
  expect(await own.page.evaluate('document.activeElement.getAttribute("aria-label")')).toBe('Move n20 to the top of your tasks');
  await own.close();
});

test('a move that is refused goes back with the reason [DASH-02]', async () => {
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
  for (const row of [1, 2]) await page.locator('#queue tbody tr').nth(row).locator('input[name="task"]').check();
  expect(await page.locator('[data-selected]').textContent()).toBe('2');
  await page.locator('#selection select').selectOption('8');
  await page.getByRole('button', { name: 'Set priority' }).click();
  await expect.poll(() => page.locator('#queue .level').allTextContents()).toEqual(['8', '8', '5']);
  await page.locator('#all').check();
  await page.locator('[data-bulk="cancel"]').click();
  expect(await answerQuestion(page, 'no')).toContain('Stop 3 tasks?');
  expect(await order()).toHaveLength(3);
  await page.locator('[data-bulk="cancel"]').click();
  await answerQuestion(page, 'yes');
  await expect.poll(() => page.locator('#queue tbody tr').count()).toBe(0);
  await page.locator('.toast', { hasText: '3 tasks cancelled.' }).waitFor();
  await close();
});

test('all that fit the filters are selected beyond the page, and the question names the filters and whose tasks they are [DASH-01]', async () => {
  for (let n = 1; n <= 52; n += 1) await waiting(`n${n}`);
  await waiting('of bob', { who: 'bob' });
  await waiting('other', { priority: 2 });
  const { page, close } = await dashboard.open('admin', '/?priority=5');
  await page.locator('#all').check();
  await page.getByRole('button', { name: 'Select all that fit' }).click();
  await expect.poll(() => page.locator('[data-selected]').textContent()).toBe('53');
  await page.locator('#selection select').selectOption('9');
  await page.getByRole('button', { name: 'Set priority' }).click();
  const asked = await answerQuestion(page, 'yes');
  expect(asked).toContain('Give 53 tasks the priority 9?');
  expect(asked).toContain('Everything that waits with priority 5. These are tasks of all users.');
  await page.locator('.toast', { hasText: '53 tasks set to priority 9.' }).waitFor();
  expect(await dashboard.api.database.sql`select priority_level as level, count(*)::integer as count from tasks group by 1 order by 1`).toEqual([
    { level: 2, count: 1 },
    { level: 9, count: 53 },
  ]);
  await close();
});

test('stopping a task is asked for in words that cannot be mistaken, by the keyboard too, and the answer tells how far it is [DASH-17, DASH-18]', async () => {
  const id = await waiting('one');
  await dashboard.api.database.sql`update tasks set status = 'running', started_at = now() where id = ${id}`;
  const { page, faults, close } = await dashboard.open('ann', '/');
  const button = page.locator('#queue tbody tr').getByRole('button', { name: 'Cancel' });
  await button.press('Enter');
  const question = page.getByRole('dialog', { name: 'Stop one?' });
  await question.waitFor();
  expect(await question.getByRole('button').allTextContents()).toEqual(['Keep it', 'Stop the task']);
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Keep it');
  expect(await seriousFaults(page)).toEqual([]);
  await page.keyboard.press('Escape');
  await question.waitFor({ state: 'detached' });
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Cancel');
  expect(await dashboard.api.database.sql`select 1 from tasks where cancel_requested_at is not null`).toEqual([]);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('.toast.done').waitFor();
  expect(await page.locator('.toast.done').textContent()).toBe('It is being stopped.');
  expect(faults).toEqual([]);
  await close();
});

test('of many steps that run the caller’s own come first, and a link leads to the rest [DASH-01]', async () => {
  for (let n = 0; n < 26; n += 1) await waiting(`bob ${n}`, { who: 'bob' });
  await waiting('mine');
  await dashboard.api.database.sql`
    update line l set state = 'running', host = 'gpu-1', host_epoch = 1, slot = n.n, grant_id = gen_random_uuid(), claim_token = gen_random_uuid(), granted_at = now(), started_at = now()
    from (select id, row_number() over (order by id) as n from line) n where n.id = l.id`;
  await dashboard.api.database.sql`update tasks set status = 'running', started_at = now()`;
  const { page, close } = await dashboard.open('ann', '/');
  expect(await page.locator('.running-step').count()).toBe(24);
  expect(await page.locator('.running-step').first().textContent()).toContain('mine');
  expect(await page.locator('#running-more').textContent()).toContain('and 3 more steps');
  expect(await page.locator('#running-more a').getAttribute('href')).toBe('/history?status=running');
  await close();
});

test('what happens arrives by push, without a reload; where no stream can be opened the page looks by itself [DASH-13]', async () => {
  await waiting('first');
  const pushed = await dashboard.open('ann', '/');
  await expect.poll(() => pushed.page.locator('#live').textContent()).toBe('live');
  await pushed.page.evaluate('window.sameDocument = true');
  await waiting('second');
  await expect.poll(() => pushed.page.locator(names).allTextContents()).toEqual(['first', 'second']);
  expect(await pushed.page.evaluate('window.sameDocument')).toBe(true);
  expect(await pushed.page.locator('#live').textContent()).toBe('live');
  await pushed.page.context().route('**/live?*', (route) => route.abort());
  await pushed.page.reload();
  await expect.poll(() => pushed.page.locator('#live').textContent()).toBe('polling');
  await waiting('third');
  await expect.poll(() => pushed.page.locator(names).allTextContents(), { timeout: 8_000 }).toEqual(['first', 'second', 'third']);
  await pushed.close();
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
