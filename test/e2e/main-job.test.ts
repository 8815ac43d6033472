import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTinyModel } from '../../activities/backends/server/tiny-model.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually, ollamaAddress } from '../support/servers.js';

const model = 'main-job-tiny';
let orchestra: Installation;
let repository: string;

beforeAll(async () => {
  await createTinyModel(ollamaAddress(), model);
  orchestra = await startInstallation({ models: true });
  repository = mkdtempSync(path.join(tmpdir(), 'repository-'));
  writeFileSync(path.join(repository, 'count.sh'), '#!/bin/sh\necho "lines: $(wc -l < words.txt)"\n', { mode: 0o755 });
  writeFileSync(path.join(repository, 'words.txt'), 'one\ntwo\nthree\n');
  const git = (...args: string[]) => execFileSync('git', ['-C', repository, '-c', 'user.name=test', '-c', 'user.email=test@example.invalid', ...args]);
  git('init', '-q', '-b', 'main');
  git('add', '.');
  git('commit', '-q', '-m', 'first');
}, 180_000);

afterAll(async () => {
  await orchestra.stop();
  rmSync(repository, { recursive: true });
});

test('git-script-execution clones a repository, runs its script and stores the result [TPL-05, TASK-22]', async () => {
  const task = await orchestra.finished(
    (await orchestra.submit('git-script-execution', { repo_url: `file://${repository}`, script_path: 'count.sh', output_path: 'out/result.json' })).id,
  );
  expect(task).toMatchObject({
    status: 'completed',
    resource_usage: null,
    result: { steps: { git_clone: { commit: expect.stringMatching(/^[0-9a-f]{40}$/) }, execute_script: { exit_code: 0, stdout: 'lines: 3\n' } } },
  });
  const stored = readFileSync(path.join(orchestra.config.files.resultsRoot, task.id, 'out', 'result.json'), 'utf8');
  expect(JSON.parse(stored)).toMatchObject({ exit_code: 0, stdout: 'lines: 3\n' });
});

test('ollama-inference answers a prompt, and the usage is what the server measured [TPL-06, TASK-05, MODEL-10]', async () => {
  const task = await orchestra.finished((await orchestra.submit('ollama-inference', { model, prompt: 'Say something.' })).id, 60_000);
  expect(task).toMatchObject({
    status: 'completed',
    result: { text: expect.any(String) },
    resource_usage: { model_name: `${model}:latest`, inference_time_seconds: expect.any(Number), memory_used_gb: expect.any(Number) },
  });
  const [execution] = await orchestra.sql`select metrics from task_executions where task_id = ${task.id}`;
  expect(execution?.['metrics']).toMatchObject({ model_name: `${model}:latest`, model_digest: expect.stringMatching(/^(sha256:)?[0-9a-f]{64}$/) });
  expect((task.resource_usage?.inference_time_seconds ?? 0) > 0).toBe(true);
});

describe('file-processing [TPL-07]', () => {
  beforeAll(async () => {
    const root = orchestra.config.files.roots[0] ?? '';
    await mkdir(root, { recursive: true });
    await writeFile(path.join(root, 'first.txt'), 'The first file.');
    await writeFile(path.join(root, 'second.txt'), 'The second file.');
  });

  test.each(['json', 'markdown', 'text', 'csv'])('analyses two files and formats the result as %s', async (format) => {
    const created = await orchestra.submit('file-processing', { input_files: ['first.txt', 'second.txt'], analysis_model: model, output_format: format });
    const task = await orchestra.finished(created.id, 60_000);
    expect(task).toMatchObject({
      status: 'completed',
      result: { format, text: expect.any(String), steps: { read_files: { files: [{ path: 'first.txt' }, { path: 'second.txt' }] } } },
    });
    expect((task.result as { text: string }).text).toContain('first.txt');
  });

  test('one load serves every file of a task and every task of a model [TPL-13, TPL-25]', async () => {
    const loads = await orchestra.sql`select 1 from residency_orders`;
    expect(loads).toHaveLength(1);
  });
});

test('a task for a model that does not exist fails with model_not_found or model_pull_failed, and names the model [bad-41, MODEL-13]', async () => {
  const task = await orchestra.finished(
    (await orchestra.submit('ollama-inference', { model: 'no-such-model', prompt: 'x' }, { retry: { max_attempts: 1 } })).id,
    90_000,
  );
  expect(task).toMatchObject({
    status: 'failed',
    error: { code: expect.stringMatching(/^model_(not_found|pull_failed)$/), message: expect.stringContaining('no-such-model') },
  });
}, 120_000);

test('the models and what they hold are listed [MODEL-15]', async () => {
  await orchestra.finished((await orchestra.submit('ollama-inference', { model, prompt: 'Say something.' })).id, 60_000);
  await eventually(async () => {
    const { body } = await orchestra.request('GET', '/api/v1/models');
    return body.items.some((item: { name: string; loaded: boolean }) => item.name === `${model}:latest` && item.loaded);
  });
});
