import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createLogger, createRotatingFile } from '../../../logging.js';

function logger(format: 'json' | 'text', level: 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR' = 'INFO') {
  const lines: string[] = [];
  const log = createLogger({ level, format, handlers: [], file: { path: '', maxSizeBytes: 1, backupCount: 0 } }, 'api', [
    { write: (line) => lines.push(line) },
  ]);
  return { log, lines, last: () => JSON.parse(lines.at(-1) as string) as Record<string, unknown> };
}

const task = '0192f3a4-0000-7000-8000-000000000001';

test('a JSON line carries task_id and workflow_id, however its writer calls them [OBS-07] [OBS-08]', () => {
  const { log, last } = logger('json');
  log.info({ taskId: task, queue: 'general' }, 'granted');
  expect(last()).toMatchObject({
    level: 'INFO',
    name: 'Orchestrator',
    main: 'api',
    msg: 'granted',
    task_id: task,
    workflow_id: `task-${task}`,
    queue: 'general',
  });
  log.child({ task_id: task, workflowId: 'other' }).warn('late');
  expect(last()).toMatchObject({ level: 'WARNING', task_id: task, workflow_id: 'other' });
});

test('a text line is time - name - level - message, and an error names its task and workflow [OBS-07]', () => {
  const { log, lines } = logger('text', 'DEBUG');
  log.debug('looking');
  expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z - Orchestrator - DEBUG - looking\n$/);
  log.error({ err: new Error('no answer'), taskId: task }, 'step failed');
  expect(lines[1]).toContain(` - Orchestrator - ERROR - Error: step failed: no answer | Task ID: ${task} | Workflow ID: task-${task}\n`);
  log.error(new Error('gone'));
  expect(lines[2]).toMatch(/ - ERROR - Error: gone \| Task ID: - \| Workflow ID: -\n$/);
});

test('a text line about a request says what was asked, how it was answered, and under which id [OBS-07]', () => {
  const { log, lines } = logger('text');
  const request = log.child({ request_id: 'b1c2d3e4-0000' });
  request.error({ err: new Error('boom') }, 'unexpected error');
  request.info({ method: 'GET', path: '/api/v1/tasks', status: 500, milliseconds: 3 }, 'request');
  expect(lines[0]).toContain('Error: unexpected error: boom | Task ID: - | Workflow ID: - | Request ID: b1c2d3e4-0000\n');
  expect(lines[1]).toContain(' - INFO - request GET /api/v1/tasks 500 in 3 ms | Request ID: b1c2d3e4-0000\n');
});

test('a text line gives the reason with which a step failed, and the place of a fault in a template [OBS-08]', () => {
  const { log, lines } = logger('text');
  log.warn({ taskId: task, step: 'run', code: 'script_failed', reason: 'exit code 3' }, 'step did not finish');
  log.error({ file: 'a.yaml', faults: [{ message: 'a.yaml:4:27: unknown type' }] }, 'template is broken');
  expect(lines[0]).toContain(`step did not finish {"step":"run","code":"script_failed","reason":"exit code 3"} | Task ID: ${task}\n`);
  expect(lines[1]).toContain('a.yaml:4:27: unknown type');
});

test('lines below the level are not written', () => {
  const { log, lines } = logger('json', 'WARNING');
  log.info('quiet');
  log.warn('loud');
  expect(lines).toHaveLength(1);
});

test('secrets are never written, wherever they stand', () => {
  for (const format of ['json', 'text'] as const) {
    const { log, lines } = logger(format);
    const err = new Error('clone of https://me:hunter2@git.example/x failed', { cause: new Error('Authorization: Bearer hunter2hunter2') });
    log.error(
      { password: 'hunter2', nested: { apiKey: 'hunter2', list: [{ 'x-api-key': 'hunter2' }] }, url: 'postgres://o:hunter2@db/o', err },
      'failed at https://hunter2@git.example/',
    );
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).toContain('git.example');
  }
});

test('control characters are escaped: one event is one line and moves no cursor', () => {
  const evil = 'a\nb\u001b[31mc\u009bd\u2028e\u202ef';
  for (const format of ['json', 'text'] as const) {
    const { log, lines } = logger(format);
    log.error({ evil, err: new Error(evil) }, evil);
    expect(lines).toHaveLength(1);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(lines[0]?.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
  }
  const { log, last } = logger('json');
  log.info({ evil }, 'x');
  expect(last()['evil']).toBe(evil);
});

test('long fields, deep objects and long messages are cut', () => {
  const { log, lines, last } = logger('json');
  const deep: Record<string, unknown> = {};
  deep['self'] = deep;
  log.info({ output: 'x'.repeat(100_000), deep }, 'done');
  expect(String(last()['output']).length).toBeLessThan(9_000);
  log.info({ taskId: task, many: Array.from({ length: 50 }, () => 'z'.repeat(5_000)) }, 'y'.repeat(200_000));
  expect(lines.at(-1)?.length).toBeLessThan(10_000);
  expect(last()).toMatchObject({ task_id: task, truncated: true });
});

test('a log file is rotated at its size and keeps as many as it may [OBS-06]', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'log-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = createRotatingFile({ path: join(directory, 'deep', 'app.log'), maxSizeBytes: 10, backupCount: 2 });
  for (const line of ['one-----\n', 'two-----\n', 'three---\n', 'four----\n']) file.write(line);
  expect((await readdir(join(directory, 'deep'))).sort()).toEqual(['app.log', 'app.log.1', 'app.log.2']);
  expect(await readFile(join(directory, 'deep', 'app.log'), 'utf8')).toBe('four----\n');
  expect(await readFile(join(directory, 'deep', 'app.log.2'), 'utf8')).toBe('two-----\n');
});
