import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DashboardUnderTest, dashboardUnderTest } from './dashboard-under-test.js';

const password = 'correct horse battery';
let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
  const admin = { userId: 'root', role: 'admin', keyId: 'x' } as const;
  await dashboard.api.services.createUser(admin, { id: 'ann', role: 'user', password });
});
afterAll(async () => dashboard.stop());

const pathOf = (url: string) => url.slice(dashboard.url.length);

test('whoever has not signed in is led to where that is done, and to the page that was asked for afterwards [DASH-15]', async () => {
  const { page, close } = await dashboard.open(null, '/?model=x');
  expect(pathOf(page.url())).toBe('/sign-in?to=%2F%3Fmodel%3Dx');
  await page.getByLabel('User').fill('ann');
  await page.getByLabel('Password').fill('wrong horse battery');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('no user with this name and this password').waitFor();
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${dashboard.url}/?model=x`);
  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ name: 'orchestra_session', httpOnly: true, sameSite: 'Lax' });
  await close();
});

test('an address with a ticket signs in once, and the ticket does not stay in the address [DASH-15]', async () => {
  const caller = await dashboard.api.services.verifyKey(dashboard.api.keys.bob);
  if (caller === null) throw new Error('no caller');
  const { ticket } = await dashboard.api.services.createTicket(caller);
  const first = await dashboard.open(null, `/sign-in?ticket=${ticket}`);
  await first.page.waitForURL(`${dashboard.url}/`);
  expect(first.faults).toEqual([]);
  const second = await dashboard.open(null, `/sign-in?ticket=${ticket}`);
  await second.page.getByRole('alert').getByText('used or too old').waitFor();
  expect(pathOf(second.page.url())).toBe('/sign-in');
  await Promise.all([first.close(), second.close()]);
});

test('a page that is signed in changes things, and one of another server in the same browser changes nothing [DASH-21]', async () => {
  const { id } = await dashboard.api.task(dashboard.api.keys.ann);
  const { page, close } = await dashboard.open(null, '/sign-in');
  await page.getByLabel('User').fill('ann');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${dashboard.url}/`);
  const statusOf = (url: string, method: string) =>
    page.evaluate(async ([address, verb]) => (await fetch(address, { method: verb, credentials: 'include' })).status, [url, method] as const);
  expect(await statusOf(`/api/v1/tasks/${id}/hold`, 'POST')).toBe(200);
  expect(await statusOf('/api/v1/sessions/current', 'GET')).toBe(200);

  // Of the same site, since cookies know no ports: the browser sends the session along, and only keeps the answers from the page.
  const elsewhere = createServer((_request, response) => response.setHeader('Content-Type', 'text/html').end('<title>elsewhere</title>')).listen(
    0,
    '127.0.0.1',
  );
  await once(elsewhere, 'listening');
  await page.goto(`http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`);
  const ended: string[] = [];
  page.on('requestfinished', (request) => void ended.push(request.method()));
  page.on('requestfailed', (request) => void ended.push(request.method()));
  await page.evaluate(
    async (address) => void (await fetch(`${address}/release`, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => {})),
    `${dashboard.url}/api/v1/tasks/${id}`,
  );
  await expect.poll(() => ended).toEqual(['POST']);
  expect(await dashboard.api.database.sql`select held_at is not null as held from tasks where id = ${id}`).toEqual([{ held: true }]);
  elsewhere.closeAllConnections();
  elsewhere.close();
  await close();
});
