import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { settleAlerts } from '../../../db/alerts.js';
import { acquireHost, registerEngine, setHostReady } from '../../../db/leases.js';
import { keepProbe, keepSample } from '../../../db/observations.js';
import { type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());
beforeEach(async () => {
  await dashboard.api.database.empty('tasks', 'engines', 'hosts', 'machine_samples', 'performance_metrics', 'system_state', 'alerts', 'availability_probes');
});

const mib = 1_024 ** 2;
const gpu = { index: 0, name: 'NVIDIA <b>L4</b>', utilization: 0.5, usedBytes: 6_000 * mib, totalBytes: 24_000 * mib, celsius: 61, watts: 55.4 };

/** Samples of a machine, one every five minutes, and of what was done. */
async function samples(machine: string, gpus: readonly (typeof gpu)[]): Promise<void> {
  const { sql } = dashboard.api.database;
  const note = gpus.length === 0 ? `nvidia-smi was not found on ${machine}` : null;
  for (let ago = 10; ago >= 0; ago--) {
    await keepSample(sql, machine, null, { cpu: 0.1 + ago / 20, memory: 0.4, memoryBytes: 64_000 * mib, gpus, gpuNote: note });
    await sql`update machine_samples set at = at - ${ago * 5} * interval '1 minute' where machine = ${machine} and at > now() - interval '1 minute'`;
    await sql`
      insert into performance_metrics (name, value, at)
      select name, value, now() - ${ago * 5} * interval '1 minute' from (values ('tasks_per_minute', 12.5), ('tokens_per_second', 340), ('loading_share', 0.12)) v (name, value)`;
  }
  await keepSample(sql, machine, null, { cpu: 0.25, memory: 0.5, memoryBytes: 64_000 * mib, gpus, gpuNote: note });
}

/** An engine, a host whose model server is away, an alert, and a step that waits. */
async function troubled(): Promise<void> {
  const { sql } = dashboard.api.database;
  await registerEngine(sql, { id: 'engine-1', slots: 10, info: { sandbox: 'bwrap' } });
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:11434', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, false, { version: '0.24.0', why: 'Ollama does not answer' });
  await settleAlerts(sql, [
    { rule: 'high_error_rate', subject: '', message: '12 % of the attempts of steps failed; more than 5 % is too much.', value: 0.12, threshold: 0.05 },
    { rule: 'low_accuracy', subject: '', message: 'predictions held seldom', value: 0.5, threshold: 0.75 },
  ]);
  await keepProbe(sql, 'api', true);
  await sql`update availability_probes set minute = minute - interval '1 minute'`;
}

test('each machine shows processor, memory and GPUs over time, and what was done [DASH-05, DASH-06]', async () => {
  await samples('gpu-machine', [gpu]);
  const { page, faults, close } = await dashboard.open('ann', '/resources');
  const card = page.locator('#machine-gpu-machine');
  expect(await card.locator('svg.lines path').count()).toBe(4);
  expect(await card.textContent()).toContain('0 · NVIDIA <b>L4</b>');
  expect(await card.locator('table').first().textContent()).toMatch(/50 %[\s\S]*5\.9 GiB of 23\.4 GiB[\s\S]*61 °C[\s\S]*55 W/);
  expect(await page.locator('#flow figcaption').allTextContents()).toEqual([
    'Tasks that ended, per minute',
    'Tokens per second',
    'Time of hosts lost to loading models',
  ]);
  expect(await page.locator('#numbers-flow tbody tr').first().textContent()).toMatch(/12\.5[\s\S]*340[\s\S]*12 %/);
  await page.getByRole('link', { name: '24 h' }).click();
  expect(await page.locator('.choice [aria-current]').textContent()).toBe('24 h');
  expect(faults).toEqual([]);
  await close();
});

test('without a GPU the page says so and why, and without a machine how to get one [DASH-05]', async () => {
  const empty = await dashboard.open('viewer', '/resources');
  expect(await empty.page.locator('.empty').first().textContent()).toContain('npm start');
  await empty.close();
  await samples('plain', []);
  const { page, close } = await dashboard.open('viewer', '/resources');
  expect(await page.locator('#machine-plain').textContent()).toContain('No GPU is visible here: nvidia-smi was not found on plain.');
  await page.goto(`${dashboard.url}/resources?minutes=7`);
  expect(await page.locator('main').textContent()).toContain('one of 60, 360, 1440');
  await close();
});

test('the system page tells of every part, its version and its lease, and of alerts and availability [DASH-10, DASH-11, DASH-12, OBS-05, OBS-10, OBS-15]', async () => {
  await troubled();
  const { page, faults, close } = await dashboard.open('admin', '/system');
  expect(await page.locator('#checks tbody tr').count()).toBe(5);
  expect(await page.locator('#check-ollama').textContent()).toMatch(/does not work[\s\S]*Ollama does not answer/);
  expect(await page.locator('#check-database_connection').textContent()).toContain('works');
  expect(await page.locator('#alerts tbody tr', { hasText: 'of the attempts' }).textContent()).toMatch(/firing[\s\S]*high_error_rate[\s\S]*12 %/);
  expect(await page.locator('#workers').textContent()).toMatch(/engine-1[\s\S]*runs[\s\S]*bwrap[\s\S]*gpu-1[\s\S]*not ready/);
  expect(await page.locator('#versions').textContent()).toMatch(/Temporal[\s\S]*\d+\.\d+[\s\S]*PostgreSQL[\s\S]*\d+[\s\S]*Ollama on gpu-1[\s\S]*0\.24\.0/);
  expect(await page.locator('#availability tbody tr').textContent()).toMatch(/api[\s\S]*100\.00 %/);
  expect(await page.getByRole('link', { name: 'Configuration' }).count()).toBe(1);
  expect(faults).toEqual([]);
  await close();
});

test('every page says when work waits for nobody, when Ollama is away, and when an alert fires [DASH-10, DASH-12]', async () => {
  const quiet = await dashboard.open('viewer', '/');
  // an answer is kept for a moment, so what the test before left may be shown once more
  await expect.poll(async () => (await quiet.page.reload(), quiet.page.locator('#troubles').count())).toBe(0);
  await quiet.close();
  const { api } = dashboard;
  const { id } = await api.task(api.keys.ann);
  await api.database.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'ollama_generate', 1, 1, 'run', 'model', 'llama3.2:latest~ctx4096', priority_level, priority, pos from tasks where id = ${id}`;
  const { page, close } = await dashboard.open('viewer', '/models');
  await expect
    .poll(
      async () => (
        await page.reload(),
        page
          .locator('#troubles')
          .textContent({ timeout: 5_000 })
          .catch(() => '')
      ),
    )
    .toContain('No engine is running: 1 step waits');
  await troubled();
  await expect
    .poll(async () => (await page.reload(), page.locator('#troubles').textContent()))
    .toMatch(/No model server takes work[\s\S]*Ollama does not answer\.[\s\S]*12 % of the attempts/);
  expect(await page.locator('#troubles').textContent()).not.toContain('predictions'); // on which nobody has to act
  expect(await page.locator('#troubles').textContent()).not.toContain('No engine');
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with long names [DASH-14]', async () => {
    await samples('a-machine-with-a-name-that-is-very-long-and-has-no-end-at-all-so-it-seems'.repeat(2), [gpu]);
    await troubled();
    for (const path of ['/resources', '/system']) {
      const { page, close } = await dashboard.open('admin', path, { width, dark: true });
      expect(await overflowOf(page)).toBe(0);
      await close();
    }
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  await samples('gpu-machine', [gpu]);
  await troubled();
  for (const path of ['/resources', '/system']) {
    const { page, close } = await dashboard.open('admin', path, { dark });
    expect(await seriousFaults(page)).toEqual([]);
    await close();
  }
});

test('without scripts everything can be read [DASH-17]', async () => {
  await samples('gpu-machine', [gpu]);
  const { page, close } = await dashboard.open('ann', '/resources', { scripts: false });
  expect(await page.locator('#numbers-gpu-machine tbody tr').count()).toBeGreaterThan(5);
  await page.goto(`${dashboard.url}/system`);
  expect(await page.locator('#checks tbody tr').count()).toBe(5);
  expect(await page.getByRole('link', { name: 'Configuration' }).count()).toBe(0); // administrators alone
  await close();
});
