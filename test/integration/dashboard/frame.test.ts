import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Page } from 'playwright-core';
import { createApp } from '../../../api/app.js';
import { serveDashboard } from '../../../dashboard/serve-dashboard.js';
import { connect, disconnect } from '../../../db/connect.js';
import { createServices } from '../../../service/services.js';
import { apiConfig, silent } from '../api/api-under-test.js';
import { type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.empty('tasks'));

/** Puts a page behind others, or before them, as far as the page can tell. */
async function setHidden(page: Page, hidden: boolean): Promise<void> {
  await page.evaluate((is) => {
    const { document, Event } = globalThis as unknown as { document: object & { dispatchEvent(event: object): void }; Event: new (name: string) => object };
    Object.defineProperty(document, 'hidden', { value: is, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}
const badge = (page: Page) => expect.poll(() => page.locator('#live').textContent(), { timeout: 10_000 });

test('of seven open pages in one browser the one that is looked at follows, and another one draws itself anew when its turn comes [DASH-13]', async () => {
  const { id } = await dashboard.api.task(dashboard.api.keys.ann, { name: 'first' });
  const { page: first, close } = await dashboard.open('ann', '/models');
  const context = first.context();
  const pages = [first];
  for (const path of ['/', `/tasks/${id}`, '/models', '/', `/tasks/${id}`, '/']) {
    await setHidden(pages.at(-1) as Page, true);
    const page = await context.newPage();
    await page.goto(dashboard.url + path, { timeout: 10_000 });
    await badge(page).toBe('live');
    pages.push(page);
  }
  const [, , task] = pages as [Page, Page, Page];
  expect((await dashboard.api.request(dashboard.api.keys.ann, 'POST', `/api/v1/tasks/${id}/hold`)).status).toBe(200);
  await setHidden(pages.at(-1) as Page, true);
  await setHidden(task, false);
  await badge(task).toBe('live');
  await task.locator('#output .said').getByText(/held/).waitFor();
  expect(await task.locator('#output .said').getByText('queued').count()).toBe(1);
  await task.locator('#held').waitFor();
  await close();
});

test('the badge says what is so from the beginning on, and that a page is out of date when it cannot be drawn anew [DASH-13]', async () => {
  const { page, close } = await dashboard.open('ann', '/');
  await badge(page).toBe('live');
  await page.route(/\/live/, () => {}); // is not answered
  await page.reload();
  expect(await page.locator('#live').textContent()).toBe('connecting');
  await page.unroute(/\/live/);
  await page.reload();
  await badge(page).toBe('live');
  const away = (url: URL) => url.pathname === '/';
  await page.route(away, (route) => route.fulfill({ status: 503, contentType: 'text/html', body: '<main id="main">away</main>' }));
  await dashboard.api.task(dashboard.api.keys.ann, { name: 'new' });
  await setHidden(page, false);
  await badge(page).toBe('out of date');
  expect(await page.locator('#main').textContent()).not.toContain('away');
  await page.unroute(away);
  await page.route(away, (route) => route.abort());
  await setHidden(page, false);
  await badge(page).toBe('out of date');
  await page.unroute(away);
  await badge(page).toBe('live');
  await close();
});

test('what cannot be shown is told by a page with the navigation to people, and as JSON to programs [DASH-17]', async () => {
  const { page, close } = await dashboard.open('ann', '/nowhere');
  expect(await page.locator('h1').textContent()).toBe('Nothing at this address');
  await page.getByRole('link', { name: 'Models' }).click();
  await page.waitForURL(`${dashboard.url}/models`);
  await close();

  // With a database that is not there.
  const sql = connect('postgres://127.0.0.1:9/nothing', { applicationName: 'away', connectionsMax: 1 });
  const app = createApp({ services: createServices({ ...dashboard.api.deps, sql }), log: silent, config: apiConfig });
  serveDashboard(app);
  const people = { Accept: 'text/html,application/xhtml+xml', Host: 'localhost' };
  const key = { 'X-API-Key': dashboard.api.keys.ann };
  for (const [path, headers, status, words] of [
    ['/models?minutes=15', key, 503, 'The database does not answer'],
    ['/sign-in', { Cookie: `orchestra_session=ors_${'A'.repeat(43)}` }, 503, 'The database does not answer'],
    ['/nowhere', {}, 404, 'There is nothing at this address'],
    ['/', { ...key, Host: 'evil.example' }, 403, 'not known under the name'],
    ['/docs', { Host: 'evil.example' }, 403, 'not known under the name'],
  ] as const) {
    const answer = await app.request(path, { headers: { ...people, ...headers } });
    const text = await answer.text();
    expect([path, answer.status, answer.headers.get('content-type')]).toEqual([path, status, 'text/html; charset=UTF-8']);
    expect(text).toContain(words);
    expect(text).toContain('<nav aria-label="Main">');
    expect(answer.headers.get('content-security-policy')).toContain("script-src 'self'");
    if (status === 503) expect([answer.headers.get('retry-after'), text]).toEqual(['2', expect.stringContaining(`href="${path}">Try again`)]);
    const told = await app.request(path, { headers: { Host: 'localhost', ...headers, Accept: '*/*' } });
    expect([path, told.status, told.headers.get('content-type')]).toEqual([path, status, 'application/problem+json']);
  }
  expect((await app.request('/api/v1/tasks', { headers: { ...people, ...key } })).headers.get('content-type')).toBe('application/problem+json');
  await disconnect(sql);
});

test('a page that takes too long is told as a page [DASH-17]', async () => {
  const services = { ...dashboard.api.services, listQueue: async () => new Promise<never>(() => {}) };
  const app = createApp({ services, log: silent, config: { ...apiConfig, requestTimeoutMs: 100 } });
  serveDashboard(app);
  const answer = await app.request('/', { headers: { Accept: 'text/html', Host: 'localhost', 'X-API-Key': dashboard.api.keys.ann } });
  expect([answer.status, answer.headers.get('content-type')]).toEqual([503, 'text/html; charset=UTF-8']);
  expect(await answer.text()).toContain('No answer within 100 ms');
});

test('problems stay until they are closed or have been there for a while, and the theme is told before it is changed [DASH-17]', async () => {
  const { page, close } = await dashboard.open('ann', '/', { dark: true });
  const theme = page.getByRole('button', { name: 'Theme: as the system' });
  const tip = () =>
    theme.evaluate(
      (element) => (globalThis as unknown as { getComputedStyle(e: unknown, of: string): { display: string } }).getComputedStyle(element, '::after').display,
    );
  expect(await tip()).toBe('none');
  await theme.focus();
  await theme.hover();
  expect(await tip()).toBe('block');
  await theme.click();
  await page.getByRole('button', { name: 'Theme: light' }).waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Theme: light' }).waitFor();
  await page.evaluate(() => {
    (globalThis as unknown as { orchestra: { tell(text: string, kind: string): void } }).orchestra.tell('It did not work.', 'problem');
  });
  expect(await page.locator('.toast.problem').textContent()).toBe('It did not work.');
  expect(await seriousFaults(page)).toEqual([]);
  await page.getByRole('button', { name: 'Close' }).click();
  expect(await page.locator('.toast').count()).toBe(0);
  await close();
});

test.each([600, 768, 1_024, 1_180, 1_440])(
  'at %d pixels nothing of the frame is cut, and every page and the own account are one click away [DASH-14, DASH-17]',
  async (width) => {
    const { page, close } = await dashboard.open('admin', '/system', { width });
    expect(await overflowOf(page)).toBe(0);
    for (const link of await page.locator('.bar a, .bar button').all()) {
      const box = await link.boundingBox();
      expect(box === null ? null : { from: box.x >= 0, to: box.x + box.width <= width }).toEqual({ from: true, to: true });
    }
    await page.getByRole('link', { name: 'System', exact: true }).click({ trial: true });
    await page.locator('.bar .user').click();
    await page.waitForURL(`${dashboard.url}/account`);
    await close();
  },
);
