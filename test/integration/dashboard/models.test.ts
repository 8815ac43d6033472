import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import type { ForecastEntry } from '../../../contract/forecast.js';
import { writeForecast } from '../../../db/forecasts.js';
import { endPull, recordPull, upsertSeen } from '../../../db/models.js';
import { forecastEntry } from '../../support/forecast-entry.js';
import { type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => dashboard.api.database.empty('tasks', 'queue_pauses', 'hosts', 'models', 'residency_orders', 'residency_spans'));

const gib = 1_024 ** 3;

/** A host that serves one model and has another on disk. */
async function host(): Promise<void> {
  const { sql } = dashboard.api.database;
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:11434', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, true, { version: '0.24.0' }, { modelsMax: 2, roomBytes: 14 * gib, budgetBytes: 16 * gib, spillBytes: 0 });
  await upsertSeen(sql, 'gpu-1', {
    installed: [
      { name: 'llama3.1:8b', digest: 'sha256:1', sizeBytes: Math.round(4.6 * gib), details: {} },
      { name: `${'very-long-'.repeat(12)}name:latest`, digest: 'sha256:2', sizeBytes: 1_000, details: {} },
    ],
    loaded: [
      { name: 'llama3.1:8b', digest: 'sha256:1', memoryBytes: 6 * gib, vramBytes: 6 * gib, contextLength: 4_096, expiresAtMs: null, runner: 'sha256:1' },
    ],
    usedAtMs: new Map(),
  });
  await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('gpu-1', ${epoch}, 'llama3.1:8b~ctx4096', 'llama3.1:8b', 4096, 'serving', gen_random_uuid())`;
}

test('each host shows what it holds, of which memory, and what others take of it [DASH-04, DASH-11]', async () => {
  await host();
  const { page, faults, close } = await dashboard.open('admin', '/models');
  const card = page.locator('#host-gpu-1');
  expect(await card.textContent()).toContain('Models 6.0 GiB · other programs 2.0 GiB · free 8.0 GiB of 16.0 GiB');
  expect(await card.textContent()).toContain('version 0.24.0');
  expect(await page.locator('#installed tbody tr').first().textContent()).toMatch(/llama3\.1:8b[\s\S]*serving[\s\S]*6\.0 GiB[\s\S]*4\.6 GiB/);
  expect(await page.locator('svg.timeline rect.held.serving').count()).toBe(1);
  expect(faults).toEqual([]);
  await close();
});

test('an administrator drops a model, pauses one, and is told when a fetch is refused [DASH-11, MODEL-16]', async () => {
  await host();
  const { page, close } = await dashboard.open('admin', '/models');
  const row = page.locator('#installed tbody tr').filter({ hasText: 'llama3.1:8b' });
  await row.getByRole('button', { name: 'Pause' }).click();
  await row.locator('.tag.paused').waitFor();
  await row.getByRole('button', { name: 'Resume' }).click();
  await row.locator('.tag.paused').waitFor({ state: 'detached' });
  await row.getByRole('button', { name: 'Unload' }).click();
  await page.locator('#host-gpu-1 .banner').waitFor();
  expect(await dashboard.api.database.sql`select unload from residency_orders where state = 'open'`).toEqual([{ unload: ['llama3.1:8b~ctx4096'] }]);
  await page.getByLabel('Fetch a model').fill('evil.example/x/y');
  await page.getByRole('button', { name: 'Fetch' }).click();
  await page.locator('.toast.problem').waitFor();
  expect(await page.getByLabel('Fetch a model').inputValue()).toBe('evil.example/x/y');
  await close();
});

/** Ends the order that is open, as its host does. */
async function endOrder(state: 'done' | 'failed', message = 'the disk is full'): Promise<void> {
  const { sql } = dashboard.api.database;
  await sql`update residency_orders set state = ${state}, ended_at = clock_timestamp(), error = ${state === 'failed' ? sql.json({ code: 'model_load_failed', message }) : null} where state = 'open'`;
}

test('a fetch is followed to its end: its progress, then that it is done, or why it failed, also after a reload [MODEL-16, DASH-11]', async () => {
  await host();
  const { sql } = dashboard.api.database;
  const { page, faults, close } = await dashboard.open('admin', '/models');
  const fetchModel = async () => {
    await page.getByLabel('Fetch a model').fill('qwen3:4b');
    await page.getByRole('button', { name: 'Fetch' }).click();
    await page.locator('.toast', { hasText: 'Fetching qwen3:4b…' }).waitFor();
  };
  await fetchModel();
  await page.locator('#host-gpu-1 .banner', { hasText: 'fetches qwen3:4b' }).waitFor();
  await recordPull(sql, 'gpu-1', 'qwen3:4b~ctx4096', 'qwen3:4b', { status: 'downloading', completedBytes: gib, totalBytes: 4 * gib }, false);
  const row = page.locator('#installed tbody tr').filter({ hasText: 'qwen3:4b' });
  await expect.poll(() => row.textContent(), { timeout: 8_000 }).toContain('1.0 GiB of 4.0 GiB');
  expect(await row.locator('progress').getAttribute('value')).toBe(String(gib));
  await endPull(sql, 'gpu-1', 'qwen3:4b');
  await endOrder('failed');
  await page.locator('.toast.problem').waitFor();
  expect(await page.locator('.toast.problem').textContent()).toBe('qwen3:4b could not be fetched on gpu-1: the disk is full.');
  await page.reload();
  expect(await page.locator('#host-gpu-1 .failed-order').textContent()).toContain('qwen3:4bcould not be fetched: the disk is full.');
  expect(await seriousFaults(page)).toEqual([]);
  await fetchModel();
  await endOrder('done');
  await page.locator('.toast', { hasText: 'qwen3:4b is fetched on gpu-1.' }).waitFor();
  await page.locator('.failed-order').waitFor({ state: 'detached' });
  expect(faults).toEqual([]);
  await close();
});

test('a load is told as loaded only when it is, and as failed with the reason [MODEL-16, DASH-11]', async () => {
  await host();
  await dashboard.api.database.sql`insert into models (host, name, digest, size_bytes) values ('gpu-1', 'qwen3:4b', 'sha256:3', ${gib})`;
  const { page, close } = await dashboard.open('admin', '/models');
  const load = page.locator('#installed tbody tr').filter({ hasText: 'qwen3:4b' }).getByRole('button', { name: 'Load' });
  await load.click();
  await page.locator('.toast', { hasText: 'Loading qwen3:4b…' }).waitFor();
  expect(await page.locator('.toast', { hasText: 'is loaded on' }).count()).toBe(0);
  await endOrder('done');
  await page.locator('.toast', { hasText: 'is loaded on gpu-1.' }).waitFor();
  await load.click();
  await expect.poll(async () => (await dashboard.api.database.sql`select 1 from residency_orders where state = 'open'`).length).toBe(1);
  await endOrder('failed', 'there is no room for it');
  await page.locator('.toast.problem', { hasText: 'could not be loaded on gpu-1: there is no room for it.' }).waitFor();
  await close();
});

test('which model a host loads next is said in words, with the time of the step that needs it [DASH-04]', async () => {
  await host();
  const { api } = dashboard;
  const { sql } = api.database;
  const entries: ForecastEntry[] = [];
  for (const model of ['llama3.1:8b', 'qwen3:4b']) {
    const { id } = await api.task(api.keys.ann);
    await sql`delete from line where task_id = ${id}`;
    await sql`
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
      select id, 1, 'ollama_generate', 1, 1, 'run', 'model', ${`${model}~ctx4096`}, priority_level, priority, pos from tasks where id = ${id}`;
    entries.push(forecastEntry(id, { key: `${model}~ctx4096`, host: 'gpu-1', start_ms: 20_000 * (entries.length + 1), position: entries.length + 1 }));
  }
  await writeForecast(sql, new Date(), entries);
  const { page, close } = await dashboard.open('admin', '/models');
  await expect.poll(() => page.locator('#host-gpu-1 .next').textContent(), { timeout: 8_000 }).toMatch(/^Next qwen3:4b, whose first step starts in \d+ s$/);
  await close();
});

test('a failed order is told for an hour, and one that only gave way is none [MODEL-16]', async () => {
  await host();
  const { sql } = dashboard.api.database;
  await sql`insert into residency_orders (host, host_epoch, load_key, load_model, load_num_ctx, state, reason, error, created_at, ended_at)
    values ('gpu-1', 1, 'a~ctx4096', 'old:1b', 4096, 'failed', 'x', '{"code":"c","message":"m"}', now() - interval '2 hours', now() - interval '61 minutes'),
      ('gpu-1', 1, 'b~ctx4096', 'later:1b', 4096, 'failed', 'x', '{"code":"fetch_waits","message":"other models are being fetched first"}', now(), now()),
      ('gpu-1', 1, 'c~ctx4096', 'urgent:1b', 4096, 'failed', 'x', '{"code":"revised","message":"urgent work needs another one"}', now(), now())`;
  const { page, close } = await dashboard.open('admin', '/models');
  expect(await page.locator('.failed-order').count()).toBe(0);
  await close();
});

test('whoever is no administrator sees it all and changes nothing [SEC-05]', async () => {
  await host();
  const { page, close } = await dashboard.open('ann', '/models');
  expect(await page.locator('#installed tbody tr').count()).toBe(2);
  expect(await page.locator('main button, #pull').count()).toBe(0);
  await close();
});

test('without a model server the page says how to get one, and a range that is none is told [DASH-17]', async () => {
  const { page, close } = await dashboard.open('admin', '/models');
  expect(await page.locator('.empty').textContent()).toContain('No model server yet');
  await page.goto(`${dashboard.url}/models?minutes=7`);
  expect(await page.locator('main').textContent()).toContain('one of 15, 60, 360, 1440');
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with long names [DASH-14]', async () => {
    await host();
    const { page, close } = await dashboard.open('admin', '/models', { width });
    expect(await overflowOf(page)).toBe(0);
    await close();
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  await host();
  const { page, close } = await dashboard.open('admin', '/models', { dark });
  expect(await seriousFaults(page)).toEqual([]);
  await close();
});
