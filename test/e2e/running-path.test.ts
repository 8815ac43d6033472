import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Installation, startInstallation } from '../support/installation.js';

let orchestra: Installation;

beforeAll(async () => {
  orchestra = await startInstallation({
    templates: {
      'format-one': [
        'name: format-one',
        'description: Format a text',
        'parameters:',
        '  - { name: text, type: string, required: true }',
        'steps:',
        '  - { type: format_output, format: text, data: "{{text}}" }',
      ].join('\n'),
    },
  });
}, 120_000);
afterAll(() => orchestra.stop());

test('a task posted over HTTP goes through line, grant, claim and finish, and its result is read back [TASK-22]', async () => {
  const created = await orchestra.submit('format-one', { text: 'hello' });
  expect(created.status).toBe('queued');
  const task = await orchestra.finished(created.id);
  expect(task).toMatchObject({ status: 'completed', error: null, result: { text: 'hello', steps: { format_output: { text: 'hello' } } } });
  const rows = await orchestra.sql`select state from line where task_id = ${created.id}`;
  expect(rows.map((row) => row['state'])).toEqual(['done']);
});
