import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DashboardUnderTest, dashboardUnderTest, seriousFaults } from './dashboard-under-test.js';

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

async function ticketOf(who: 'admin' | 'bob'): Promise<string> {
  const caller = await dashboard.api.services.verifyKey(dashboard.api.keys[who]);
  if (caller === null) throw new Error('no caller');
  return (await dashboard.api.services.createTicket(caller)).ticket;
}

test('an address with a ticket signs in once, and the ticket does not stay in the address [DASH-15]', async () => {
  const ticket = await ticketOf('bob');
  const first = await dashboard.open(null, `/sign-in#ticket=${ticket}`);
  await first.page.waitForURL(`${dashboard.url}/`);
  expect(await first.page.locator('.user').textContent()).toBe('bob');
  expect(first.faults).toEqual([]);
  const second = await dashboard.open(null, `/sign-in#ticket=${ticket}`);
  await second.page.getByRole('alert').getByText('used or too old').waitFor();
  expect(pathOf(second.page.url())).toBe('/sign-in');
  expect(await second.page.locator('[name="ticket"]').inputValue()).toBe('');
  // Who has signed in goes on, with the used address too, and from the page of the sign-in itself.
  await first.page.goto(`${dashboard.url}/sign-in?to=/models#ticket=${ticket}`);
  await first.page.waitForURL(`${dashboard.url}/models`);
  await first.page.goto(`${dashboard.url}/sign-in`);
  await first.page.waitForURL(`${dashboard.url}/`);
  await Promise.all([first.close(), second.close()]);
});

test('a ticket in the query of an address, which logs keep, is not taken [DASH-15, SEC-13]', async () => {
  const ticket = await ticketOf('bob');
  const { page, close } = await dashboard.open(null, `/sign-in?ticket=${ticket}`);
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  expect(await page.context().cookies()).toEqual([]);
  await page.goto(`${dashboard.url}/sign-in#ticket=${ticket}`);
  await page.waitForURL(`${dashboard.url}/`);
  await close();
});

test('whoever has signed in is asked before a ticket makes somebody else of them [DASH-21]', async () => {
  const { page, close } = await dashboard.open(null, `/sign-in#ticket=${await ticketOf('bob')}`);
  await page.waitForURL(`${dashboard.url}/`);
  const user = () => page.locator('.user').textContent();
  const planted = `${dashboard.url}/sign-in?to=/models#ticket=${await ticketOf('admin')}`;
  await page.goto(planted);
  await page.getByText('You are signed in as bob. The address that you have opened signs you in as root.').waitFor();
  expect(page.url()).not.toContain('ort_');
  expect(await seriousFaults(page)).toEqual([]);
  await page.getByRole('link', { name: 'Stay bob' }).click();
  await page.waitForURL(`${dashboard.url}/models`);
  expect(await user()).toBe('bob');
  await page.goto(planted);
  await page.getByRole('button', { name: 'Continue as root' }).click();
  await page.waitForURL(`${dashboard.url}/models`);
  expect(await user()).toBe('root');
  // The own one asks nothing.
  await page.goto(`${dashboard.url}/sign-in#ticket=${await ticketOf('admin')}`);
  await page.waitForURL(`${dashboard.url}/`);
  await close();
});

test('without scripts people sign in, read, and sign out, and no address shows a password [DASH-15, DASH-17]', async () => {
  const { page, close } = await dashboard.open(null, '/models?minutes=15', { scripts: false });
  const addresses: string[] = [];
  page.on('request', (request) => void addresses.push(request.url()));
  await page.getByLabel('User').fill('ann');
  await page.getByLabel('Password').fill('wrong horse battery');
  await page.getByRole('button', { name: 'Sign in' }).click();
  expect(await page.getByRole('alert').textContent()).toBe('There is no user with this name and this password.');
  expect(await page.getByLabel('User').inputValue()).toBe('ann');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${dashboard.url}/models?minutes=15`);
  expect(await page.locator('#live').textContent()).toBe('');
  await page.goto(`${dashboard.url}/sign-in?to=/history`);
  await page.waitForURL(`${dashboard.url}/history`);
  const [cookie] = await page.context().cookies();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(`${dashboard.url}/sign-in`);
  expect(await page.context().cookies()).toEqual([]);
  expect(await dashboard.api.services.verifySession(cookie?.value ?? '')).toBeNull();
  expect(addresses.filter((address) => /horse|password=/.test(address))).toEqual([]);
  await close();
});

test('a form counts only when a page of this server has sent it [DASH-21]', async () => {
  const { token } = await dashboard.api.services.signIn({ kind: 'key', key: dashboard.api.keys.bob });
  const send = async (path: string, headers: Record<string, string>, fields: Record<string, string> = {}) =>
    fetch(dashboard.url + path, {
      method: 'POST',
      redirect: 'manual',
      headers: { Cookie: `orchestra_session=${token}`, Accept: 'text/html', ...headers },
      body: new URLSearchParams(fields),
    });
  const fields = { user: 'ann', password };
  for (const headers of [
    {},
    { Origin: 'null' },
    { Origin: 'http://127.0.0.1:1' },
    { Origin: 'https://elsewhere.example' },
    { 'Sec-Fetch-Site': 'cross-site' },
    { 'Sec-Fetch-Site': 'same-site' },
    { 'Sec-Fetch-Site': 'none' },
  ]) {
    for (const path of ['/sign-in', '/sign-out', '/account', '/users']) {
      const answer = await send(path, headers, fields);
      expect({ path, headers, status: answer.status, cookie: answer.headers.get('set-cookie') }).toEqual({ path, headers, status: 403, cookie: null });
    }
  }
  expect(await dashboard.api.services.verifySession(token)).not.toBeNull();
  for (const to of ['//evil.example', '/.//evil.example', 'https://evil.example/'])
    expect((await send('/sign-in', { Origin: dashboard.url }, { ...fields, to })).headers.get('location')).toBe('/');
  expect((await send('/sign-in', { Origin: dashboard.url }, { user: 'ann' })).status).toBe(401);
  expect((await send('/sign-in', { Origin: dashboard.url })).status).toBe(422);
  expect((await send('/sign-in', { Origin: dashboard.url, 'Content-Type': 'application/json' }, fields)).status).toBe(415);
});

test('a sign-out that fails says so, and the session is still there [DASH-15]', async () => {
  const { page, close } = await dashboard.open(null, `/sign-in#ticket=${await ticketOf('bob')}`);
  await page.waitForURL(`${dashboard.url}/`);
  const { sql } = dashboard.api.database;
  await sql`alter table sessions rename to sessions_away`;
  await page.getByRole('button', { name: 'Sign out' }).click();
  expect(await page.locator('h1').textContent()).toBe('Unexpected error');
  expect(await page.context().cookies()).toHaveLength(1);
  await sql`alter table sessions_away rename to sessions`;
  await page.goto(dashboard.url);
  expect(await page.locator('.user').textContent()).toBe('bob');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(`${dashboard.url}/sign-in`);
  await close();
});

test('what somebody has written into a form is not shown to the next one who signs in here [DASH-15]', async () => {
  const { page, close } = await dashboard.open(null, `/sign-in#ticket=${await ticketOf('bob')}`);
  await page.waitForURL(`${dashboard.url}/`);
  const form = `${dashboard.url}/templates/ollama-inference`;
  const prompt = page.getByLabel('Prompt', { exact: false }).first();
  await page.goto(form);
  await prompt.fill('a secret of bob');
  await page.reload();
  expect(await prompt.inputValue()).toBe('a secret of bob');
  await page.goto(`${dashboard.url}/sign-in#ticket=${await ticketOf('admin')}`);
  await page.getByRole('button', { name: 'Continue as root' }).click();
  await page.waitForURL(`${dashboard.url}/`);
  await page.goto(form);
  expect(await prompt.inputValue()).toBe('');
  await close();
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
