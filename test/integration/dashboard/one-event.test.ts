import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePrometheus, sampleOf } from '../../support/prometheus.js';
import { type DashboardUnderTest, dashboardUnderTest } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
});
afterAll(async () => dashboard.stop());

test('one event of a task reaches its stream, the metrics and an open page [OBS-09]', async () => {
  const { api } = dashboard;
  const { id } = await api.task(api.keys.ann, { name: 'told everywhere' });
  const { page, close } = await dashboard.open('ann', '/history');
  await expect.poll(() => page.locator('#live').textContent()).toBe('live');
  const stream = await fetch(`${dashboard.url}/api/v1/tasks/${id}/events`, { headers: { 'X-API-Key': api.keys.ann } });
  const streamed = stream.text(); // it ends with the task
  await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
  expect(await streamed).toContain('event: cancelled');
  await expect.poll(() => page.locator('#tasks tbody').textContent()).toContain('told everywhere');
  const families = parsePrometheus(await api.services.metrics());
  expect(sampleOf(families, 'tasks_completed_total', { status: 'cancelled' })).toBe(1);
  await close();
});

test('what somebody changed is in audit_log with who did it, and on the page at the same time [OBS-09]', async () => {
  const { api } = dashboard;
  const { page, close } = await dashboard.open('admin', '/');
  await expect.poll(() => page.locator('#live').textContent()).toBe('live');
  await api.request(api.keys.admin, 'POST', '/api/v1/queue/pauses', { reason: 'maintenance' });
  await page.locator('.banner', { hasText: 'maintenance' }).waitFor();
  expect(await api.database.sql`select action, user_id, details ->> 'reason' as reason from audit_log where action = 'queue_paused'`).toEqual([
    { action: 'queue_paused', user_id: 'root', reason: 'maintenance' },
  ]);
  await close();
});
