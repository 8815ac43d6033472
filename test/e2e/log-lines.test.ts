import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLogger } from '../../logging.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually } from '../support/servers.js';

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly task_id?: string;
  readonly workflow_id?: string;
  readonly [field: string]: unknown;
}

const lines: Line[] = [];
let installation: Installation;
beforeAll(async () => {
  const log = createLogger({ level: 'INFO', format: 'json', handlers: [], file: { path: '', maxSizeBytes: 1, backupCount: 0 } }, 'test', [
    { write: (line) => lines.push(JSON.parse(line) as Line) },
  ]);
  installation = await startInstallation({
    log,
    templates: {
      'reads-twice':
        'name: reads-twice\ndescription: Fails\nsteps:\n  - { id: first, type: format_output, format: text, data: ok }\n  - { id: second, type: read_files, files: [of-nobody.txt], retry: { max_attempts: 1 } }\n',
    },
  });
});
afterAll(async () => installation.stop());

test('a seeded fault is found by the id of its task alone, from the request through the engine to the step that failed and why [OBS-08]', async () => {
  const { id } = await installation.submit('reads-twice', {});
  const other = await installation.submit('reads-twice', {});
  expect((await installation.finished(id)).status).toBe('failed');
  await installation.finished(other.id);
  await installation.request('GET', `/api/v1/tasks/${id}`);
  const found = await eventually(() => {
    const of = lines.filter(({ task_id }) => task_id === id);
    return of.some(({ msg }) => msg === 'step did not finish') && of.some(({ msg }) => msg === 'request') && of;
  });
  expect(found.every(({ workflow_id }) => workflow_id === `task-${id}`)).toBe(true);
  const messages = found.map(({ msg }) => msg);
  expect(messages.filter((msg) => msg === 'step started')).toHaveLength(2);
  expect(messages).toContain('step finished');
  // What happened, where and why, without looking anywhere else.
  expect(found.find(({ msg }) => msg === 'step did not finish')).toMatchObject({
    level: 'WARNING',
    step: 'second',
    step_type: 'read_files',
    reason: expect.stringContaining('of-nobody.txt'),
  });
  // The request that made the task, and the end of its run.
  expect(found.find(({ msg }) => msg === 'request')).toMatchObject({
    method: 'POST',
    path: '/api/v1/tasks',
    status: 201,
    user: 'admin',
    request_id: expect.any(String),
  });
  expect(found.find(({ msg }) => msg === 'task ended')).toMatchObject({ status: 'failed', reason: expect.stringContaining('of-nobody.txt') });
});
