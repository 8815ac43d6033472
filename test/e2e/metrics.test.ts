import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Installation, startInstallation } from '../support/installation.js';
import { type Family, parsePrometheus, sampleOf } from '../support/prometheus.js';
import { eventually } from '../support/servers.js';

let installation: Installation;
beforeAll(async () => {
  installation = await startInstallation({
    templates: {
      quick: 'name: quick\ndescription: No model\nsteps:\n  - { type: format_output, format: text, data: done }\n',
      broken: 'name: broken\ndescription: Reads nothing\nsteps:\n  - { type: read_files, files: [nowhere.txt], retry: { max_attempts: 1 } }\n',
    },
  });
});
afterAll(async () => installation.stop());

async function scrape(): Promise<ReadonlyMap<string, Family>> {
  const { status, headers, body } = await installation.request('GET', '/metrics');
  expect(status).toBe(200);
  expect(headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  return parsePrometheus(body as string);
}

test('values move with a known load, once for each task, and do not fall when tasks are removed [OBS-01, OBS-02, OBS-04]', async () => {
  const good = await Promise.all([1, 2, 3].map(() => installation.submit('quick', {})));
  const bad = await installation.submit('broken', {});
  for (const { id } of good) expect((await installation.finished(id)).status).toBe('completed');
  expect((await installation.finished(bad.id)).status).toBe('failed');
  const seen = await eventually(async () => {
    const families = await scrape();
    return (
      sampleOf(families, 'tasks_completed_total', { status: 'completed' }) === 3 &&
      sampleOf(families, 'tasks_completed_total', { status: 'failed' }) === 1 &&
      families
    );
  });
  expect(sampleOf(seen, 'tasks_scheduled_total')).toBe(4);
  expect(sampleOf(seen, 'scheduling_latency_ms_count')).toBeGreaterThan(0);
  expect(sampleOf(seen, 'task_duration_seconds_count')).toBe(4);
  expect(sampleOf(seen, 'queue_wait_seconds_count')).toBe(4);
  expect(sampleOf(seen, 'step_duration_seconds_count', { step_type: 'format_output', status: 'completed' })).toBe(3);
  expect(seen.get('errors_total')?.samples.reduce((sum, { value }) => sum + value, 0)).toBe(1);
  expect(sampleOf(seen, 'http_requests_total', { route: '/api/v1/tasks', method: 'POST', status: '201' })).toBe(4);
  expect(sampleOf(seen, 'scheduling_errors_total')).toBe(0);
  for (const gauge of ['active_tasks', 'queue_size', 'tasks_in_progress', 'workflows_in_progress']) expect(sampleOf(seen, gauge)).toBe(0);

  await installation.sql`delete from tasks`;
  await installation.submit('quick', {}).then(({ id }) => installation.finished(id));
  const later = await eventually(async () => {
    const families = await scrape();
    return sampleOf(families, 'tasks_completed_total', { status: 'completed' }) === 4 && families;
  });
  expect(sampleOf(later, 'task_duration_seconds_count')).toBe(5);
});

test('routes are labels by their pattern, and what a stranger sends makes no new ones [OBS-01]', async () => {
  for (const path of ['/api/v1/tasks/00000000-0000-4000-8000-000000000000', '/api/v1/tasks/00000000-0000-4000-8000-000000000001', '/nowhere/1', '/nowhere/2'])
    await installation.request('GET', path);
  const families = await eventually(async () => {
    const found = await scrape();
    return sampleOf(found, 'http_requests_total', { route: 'other', method: 'GET', status: '404' }) === 2 && found;
  });
  expect(sampleOf(families, 'http_requests_total', { route: '/api/v1/tasks/{taskId}', method: 'GET', status: '404' })).toBe(2);
  expect(JSON.stringify(families.get('http_requests_total')?.samples)).not.toMatch(/nowhere|0000-4000/);
});
