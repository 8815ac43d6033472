import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

const password = 'correct horse battery';
let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
const root = { userId: 'root', role: 'admin', keyId: 'x' } as const;
beforeEach(async () => {
  const { sql } = dashboard.api.database;
  await sql`delete from users`;
  await sql`delete from sign_in_failures`;
  await dashboard.api.services.createUser(root, { id: 'dora', role: 'user', password });
});

/** A page of dora, who has signed in with her password. */
async function dora(path: string, scripts = true) {
  const opened = await dashboard.open(null, `/sign-in?to=${encodeURIComponent(path)}`, { scripts });
  await opened.page.getByLabel('User').fill('dora');
  await opened.page.getByLabel('Password').fill(password);
  await opened.page.getByRole('button', { name: 'Sign in' }).click();
  await opened.page.waitForURL(dashboard.url + path);
  return opened;
}
const signIn = async (secret: string, user = 'dora') =>
  dashboard.api.services.signIn({ kind: 'password', user, password: secret }).then(
    ({ caller }) => caller.role,
    () => null,
  );

describe('the account', () => {
  test.each([true, false])('has the own password changed, which takes the present one and two that are alike; with scripts: %s [DASH-15]', async (scripts) => {
    const { page, close } = await dora('/', scripts);
    await page.getByRole('link', { name: 'dora' }).click();
    expect(await page.locator('#who').textContent()).toMatch(/dora[\s\S]*user[\s\S]*a session of this browser/);
    const change = async (present: string, next: string, again = next) => {
      await page.getByLabel('Present password').fill(present);
      await page.getByLabel('New password', { exact: true }).fill(next);
      await page.getByLabel('New password again').fill(again);
      await page.getByRole('button', { name: 'Change the password' }).click();
    };
    await change('wrong horse battery', 'staple correct horse');
    expect(await page.getByRole('alert').textContent()).toBe('The present password is wrong.');
    await change(password, 'staple correct horse', 'staple correct house');
    expect(await page.getByRole('alert').textContent()).toBe('The two new passwords differ.');
    expect(await signIn(password)).toBe('user');
    await change(password, 'staple correct horse');
    await page.waitForURL(`${dashboard.url}/account?done=password`);
    expect(await page.getByRole('status').filter({ hasText: 'Your password is changed' }).count()).toBe(1);
    expect([await signIn(password), await signIn('staple correct horse')]).toEqual([null, 'user']);
    await close();
  });

  test('of somebody with a key alone has no password to change, and says how to get one [DASH-15]', async () => {
    const { page, close } = await dashboard.open('bob', '/account');
    expect(await page.locator('#password').textContent()).toContain('orchestra users add bob');
    expect(await page.locator('#password form').count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Users' }).count()).toBe(0);
    await close();
  });
});

describe('users', () => {
  test.each([true, false])('are added, changed and removed by administrators; with scripts: %s [DASH-15, SEC-05]', async (scripts) => {
    const { page, faults, close } = await dashboard.open('admin', '/account', { scripts });
    await page.waitForURL(`${dashboard.url}/account`);
    await page.getByRole('link', { name: 'Users' }).click();
    await page.getByLabel('User', { exact: true }).fill('eve');
    await page.locator('#new-role').selectOption('viewer');
    await page.locator('#new-password').fill(password);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByText('eve may sign in now.').waitFor();
    expect(await signIn(password, 'eve')).toBe('viewer');
    const row = page.locator('#user-eve');
    await row.getByLabel('Role of eve').selectOption('user');
    await row.getByRole('button', { name: 'Set' }).first().click();
    await page.getByText('The role of eve is changed.').waitFor();
    expect(await signIn(password, 'eve')).toBe('user');
    await row.getByRole('button', { name: 'Disable eve' }).click();
    await page.getByText('eve may not sign in any more').waitFor();
    expect(await signIn(password, 'eve')).toBeNull();
    await row.getByRole('button', { name: 'Allow eve' }).click();
    await page.getByText('eve may sign in again.').waitFor();
    await row.getByText('Set another one').click();
    await row.getByLabel('New password of eve').fill('staple correct horse');
    await row.locator('details').first().getByRole('button', { name: 'Set' }).click();
    await page.getByText('The password of eve is changed').waitFor();
    expect(await signIn('staple correct horse', 'eve')).toBe('user');
    expect(await row.getByRole('button', { name: 'Remove eve' }).isVisible()).toBe(false); // asks first
    await row.getByText('Remove…').click();
    await row.getByRole('button', { name: 'Remove eve' }).click();
    await page.getByText('eve is removed').waitFor();
    expect(await row.count()).toBe(0);
    expect(faults).toEqual([]);
    await close();
  });

  test('that exist, or have too short a password, are not added, and the page says why [SEC-10]', async () => {
    const send = async (fields: Record<string, string>, key = dashboard.api.keys.admin) => {
      const answer = await fetch(`${dashboard.url}/users`, {
        method: 'POST',
        redirect: 'manual',
        headers: { Origin: dashboard.url, 'X-API-Key': key },
        body: new URLSearchParams(fields),
      });
      return [answer.status, /id="refused" role="alert">([^<]*)</.exec(await answer.text())?.[1] ?? null];
    };
    const add = { action: 'add', user: 'dora', role: 'user', password };
    expect(await send(add)).toEqual([409, 'There is a user dora already.']);
    expect(await send({ ...add, user: 'eve', password: 'short' })).toEqual([422, 'Password: expected at least 8 characters.']);
    expect(await send({ ...add, user: 'Eve!', role: 'king' })).toEqual([422, expect.stringMatching(/^User: expected 1 to 50 .* Role: /)]);
    expect(await send({ action: 'remove', user: 'nobody' })).toEqual([404, expect.stringContaining('There is no user of this name')]);
    expect(await send({ action: 'explode', user: 'dora' })).toEqual([422, expect.stringContaining('Action: ')]);
    expect(await send({ action: 'remove', user: 'dora' }, dashboard.api.keys.ann)).toEqual([403, 'Only administrators see this page.']);
    expect(await signIn(password)).toBe('user');
  });

  test('are hidden from everybody else, and nobody shuts themselves out [SEC-05]', async () => {
    const { page, close } = await dora('/users');
    expect(await page.locator('main').textContent()).toContain('Only administrators see this page.');
    await dashboard.api.services.changeUser(root, 'dora', { role: 'admin' });
    await expect.poll(async () => (await page.reload(), page.locator('#user-dora').count())).toBe(1);
    expect(await page.locator('#user-dora').getByRole('button').count()).toBe(0);
    await close();
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything, at every width; dark: %s [DASH-14, DASH-17]', async (dark) => {
  await dashboard.api.services.createUser(root, { id: 'a-long-name-'.repeat(5).slice(0, 50), role: 'admin', password });
  for (const width of [768, 1_440]) {
    for (const path of ['/account', '/users']) {
      const { page, close } = await dashboard.open('admin', path, { dark, width });
      for (const ask of await page.locator('details.ask > summary').all()) await ask.click();
      expect(await overflowOf(page)).toBe(0);
      expect(await seriousFaults(page)).toEqual([]);
      await close();
    }
  }
});
