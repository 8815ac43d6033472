import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createLogger, createRotatingFile, fileOfMain, withoutFault } from '../../../logging.js';

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

test('each main writes a file of its own, since two processes cannot turn one over [OBS-06]', () => {
  expect(fileOfMain('/var/log/orchestration/app.log', 'api')).toBe('/var/log/orchestration/app.api.log');
  expect(fileOfMain('/var/log/app', 'host')).toBe('/var/log/app.host');
});

test('a file that cannot be written stops nothing, is told once, and is tried again after a while [OBS-06]', () => {
  const told: string[] = [];
  const written: string[] = [];
  let nowMs = 0;
  let full = true;
  const sink = withoutFault(
    () => ({
      write(line) {
        if (full) throw new Error('no space left');
        written.push(line);
      },
    }),
    (text) => told.push(text),
    () => nowMs,
  );
  sink.write('1');
  nowMs = 20_000;
  sink.write('2');
  expect(told).toEqual(['The log file cannot be written: no space left\n']);
  full = false;
  sink.write('3'); // within the pause after the second fault
  nowMs = 40_000;
  sink.write('4');
  expect(written).toEqual(['4']);
});

test('the handler file writes whole JSON lines and keeps as many old files as configured [OBS-06]', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'logs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const log = createLogger(
    { level: 'INFO', format: 'json', handlers: ['file'], file: { path: join(folder, 'app.log'), maxSizeBytes: 400, backupCount: 5 } },
    'api',
  );
  for (let number = 0; number < 20; number++) log.info({ number }, 'turned over');
  const files = (await readdir(folder)).sort();
  expect(files).toEqual(['app.api.log', 'app.api.log.1', 'app.api.log.2', 'app.api.log.3', 'app.api.log.4', 'app.api.log.5']);
  for (const file of files)
    for (const line of (await readFile(join(folder, file), 'utf8')).trim().split('\n')) expect(JSON.parse(line)).toMatchObject({ main: 'api' });
});

test.each(['json', 'text'] as const)('what a stranger writes stays one %s line: escaped, cut and without secrets [bad-54]', (format) => {
  const injected = 'x\n{"level":"info","msg":"forged"}\r\n2026-01-01T00:00:00.000Z - Orchestrator - INFO - forged\u001b[2J\u001b]0;title\u0007';
  const address = 'https://me:hunter22@git.example/x.git?token=hunter22&sig=hunter22 orc_0123456789ab_hunter22hunter22hunter22';
  const filler = 'f'.repeat(8_192 - 20);
  for (const at of ['message', 'field', 'error'] as const) {
    for (const value of [injected, address, `${filler} https://me:hunter22hunter22@git.example/`, 'y'.repeat(1_048_576)]) {
      const { log, lines } = logger(format);
      log.error(at === 'field' ? { [format]: value } : at === 'error' ? { err: new Error(value) } : {}, at === 'message' ? value : 'said');
      const [line = ''] = lines;
      expect(lines).toHaveLength(1);
      expect(line.endsWith('\n') && !line.slice(0, -1).includes('\n')).toBe(true);
      expect(line).not.toMatch(/hunter|\r|\u001b|\u0007/);
      expect(line.length).toBeLessThan(65_536);
      if (format === 'json') expect(JSON.parse(line)).toMatchObject({ level: 'ERROR', main: 'api' });
      else expect(line).toMatch(/^\S+ - Orchestrator - ERROR - Error: /);
    }
  }
});
