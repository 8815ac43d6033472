import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../activities/backends/server/tiny-model.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { ollamaAddress } from '../support/servers.js';

const [quick, endless] = ['dashboard-quick', 'dashboard-endless'] as const;
const failing = [
  'name: failing',
  'parameters:',
  '  - { name: text, type: string, required: true }',
  'steps:',
  '  - { id: first, type: format_output, format: text, data: "{{text}}" }',
  '  - { id: broken, type: format_output, format: text, data: "{{ 1 // (steps.first.text | int) }}" }',
].join('\n');

let orchestra: Installation;
let browser: Browser;
let url: string;

beforeAll(async () => {
  orchestra = await startInstallation({ models: true, templates: { failing }, env: { MODEL_MAX_LOADED: '1' }, collectEveryMs: 3_000 });
  await createTinyModel(ollamaAddress(), quick, tinyShape);
  await createTinyModel(ollamaAddress(), endless, { ...tinyShape, endless: true });
  url = await orchestra.serve();
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
}, 180_000);
afterAll(async () => {
  await browser?.close();
  await orchestra?.stop();
});

/** A page of somebody who has opened the address that the start prints. */
async function signedIn(): Promise<Page> {
  const answer = await orchestra.request('POST', '/api/v1/sign-in-tickets', {});
  const page = await (await browser.newContext({ viewport: { width: 1_440, height: 900 } })).newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${url}/sign-in#ticket=${answer.body.ticket}`);
  await page.waitForURL(`${url}/`);
  return page;
}

/** Fills in the form of `ollama-inference` and submits it. @returns the id of the task, whose page is shown then */
async function submit(page: Page, model: string, prompt: string): Promise<string> {
  await page.goto(`${url}/templates/ollama-inference`);
  await page.getByLabel('Model').first().fill(model);
  await page.getByLabel('Prompt', { exact: false }).first().fill(prompt);
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.waitForURL(/\/tasks\/[0-9a-f-]{36}$/);
  return page.url().slice(-36);
}

test('a newcomer submits from a form, watches tokens arrive, sees why another waits, drags it forward, and finds what is in memory [DASH-01, DASH-02, DASH-04, DASH-18, DASH-20]', async () => {
  const page = await signedIn();
  await page.getByRole('link', { name: 'New task' }).click();
  await page.getByRole('link', { name: 'ollama-inference' }).first().click();
  await page.waitForURL(/\/templates\/ollama-inference/);

  const running = await submit(page, endless, 'write without an end');
  const output = page.locator('#output');
  await expect.poll(async () => (await output.textContent())?.length ?? 0, { timeout: 60_000 }).toBeGreaterThan(50);
  const before = (await output.textContent())?.length ?? 0;
  await expect.poll(async () => (await output.textContent())?.length ?? 0, { timeout: 30_000 }).toBeGreaterThan(before);

  const first = await submit(page, quick, 'one');
  const second = await submit(page, quick, 'two');
  await page.goto(url);
  const rows = page.locator('#queue tbody tr');
  await expect.poll(() => rows.count()).toBe(2);
  await expect.poll(() => rows.first().locator('.reason').textContent(), { timeout: 20_000 }).toContain(`waits for ${quick}`);
  expect(await page.locator('#running').textContent()).toContain(endless);
  await rows
    .nth(1)
    .locator('.grip')
    .dragTo(rows.nth(0), { targetPosition: { x: 60, y: 4 } });
  await page.locator('.toast.done').first().waitFor();
  await expect.poll(() => rows.evaluateAll((all) => all.map((row) => row.getAttribute('data-task')))).toEqual([second, first]);

  await page.goto(`${url}/models`);
  // It is to make room for what waits, as soon as what runs on it has ended.
  await page.locator('#installed tbody tr').filter({ hasText: endless }).locator('.tag.draining').waitFor();
  await page.locator('svg.timeline rect.held.planned').first().waitFor({ state: 'attached' });

  await page.goto(`${url}/tasks/${running}`);
  await page.getByRole('button', { name: 'Cancel' }).first().click();
  await page.getByRole('button', { name: 'Stop the task' }).click();
  await page.locator('.tag.cancelled').first().waitFor();
  // What waited goes on by itself, in the order into which it was dragged.
  for (const id of [first, second]) expect((await orchestra.finished(id, 60_000)).status).toBe('completed');
  const started = await orchestra.sql<
    { id: string }[]
  >`select task_id as id from line where task_id in (${first}, ${second}) and state = 'done' order by started_at`;
  expect(started.map(({ id }) => id)).toEqual([second, first]);
  await page.context().close();
}, 240_000);

test('why a task of yesterday failed is found from the history: step, place in the template, words [DASH-07, DASH-18]', async () => {
  const { id } = await orchestra.submit('failing', { text: '0' }, { name: 'nightly report' });
  expect((await orchestra.finished(id)).status).toBe('failed');
  await orchestra.sql`update tasks set created_at = created_at - interval '1 day', started_at = started_at - interval '1 day', completed_at = completed_at - interval '1 day' where id = ${id}`;
  const page = await signedIn();
  await page.getByRole('link', { name: 'History' }).click();
  await page.getByRole('link', { name: 'nightly report' }).click();
  await page.waitForURL(`${url}/tasks/${id}`);
  const text = await page.locator('main').textContent();
  expect(text).toContain('broken');
  expect(text).toMatch(/failing\.yaml:6/);
  await page.context().close();
});

test('steps that fail one after another raise an alert that every page tells, and it clears when they succeed again [OBS-10, DASH-10]', async () => {
  const page = await signedIn();
  const told = async () => (await page.reload(), (await page.locator('#troubles').allTextContents()).join().includes('of the attempts of steps failed'));
  const rule = async () => (await orchestra.request('GET', '/api/v1/alerts')).body.items.find(({ rule: name }: { rule: string }) => name === 'high_error_rate');
  const five = async (text: string, status: string) => {
    const ids = await Promise.all([1, 2, 3, 4, 5].map(async () => (await orchestra.submit('failing', { text })).id));
    for (const id of ids) expect((await orchestra.finished(id)).status).toBe(status);
  };
  expect(await rule()).toBeUndefined();
  await expect.poll(async () => (await five('0', 'failed'), rule()), { timeout: 60_000 }).toMatchObject({ cleared_at: null, threshold: 0.05 });
  expect((await rule()).value).toBeGreaterThan(0.05);
  await expect.poll(async () => (await five('0', 'failed'), told()), { timeout: 60_000 }).toBe(true);
  await expect.poll(async () => (await five('1', 'completed'), (await rule()).cleared_at), { timeout: 60_000 }).not.toBeNull();
  await expect.poll(told, { timeout: 60_000 }).toBe(false);
  await page.context().close();
}, 240_000);
