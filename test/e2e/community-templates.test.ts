import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../activities/backends/server/tiny-model.js';
import { packageRoot } from '../../config.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { pngOf } from '../support/images.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { ollamaAddress } from '../support/servers.js';

const run = promisify(execFile);
const model = 'community-tiny:latest';
const embedder = 'community-embedder:latest';
let orchestra: Installation;
let folder: string;
let repository: string;
const submitted = new Map<string, string>();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'community-'));
  await createTinyModel(ollamaAddress(), model);
  await createTinyModel(ollamaAddress(), embedder, { ...tinyShape, embedsOnly: true });
  orchestra = await startInstallation({ models: true });
  const root = orchestra.config.files.roots[0] ?? '';
  await mkdir(root, { recursive: true });
  await writeFile(path.join(root, 'notes.txt'), 'Costs rose by a tenth.\n');
  await writeFile(path.join(root, 'picture.png'), pngOf(8, 8));
  await writeFile(path.join(folder, 'test.sh'), '#!/bin/sh\necho "3 passed $1"\n', { mode: 0o755 });
  const git = (...args: string[]) => run('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd: folder });
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-q', '-m', 'one');
  repository = `file://${folder}`;
  // All at once, so that each context is loaded once.
  for (const [name, { parameters }] of Object.entries(runs)) {
    const { id } = await orchestra.submit(name, parameters(), { retry: { max_attempts: 1 } });
    submitted.set(name, id);
  }
}, 180_000);
afterAll(async () => {
  await orchestra.stop();
  await rm(folder, { recursive: true, force: true });
});

const text = { text: expect.any(String) };
const stored = (file: string) => ({ path: expect.stringMatching(`/${file}$`), sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
const yesOrNo = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };

interface Run {
  readonly parameters: () => object;
  /** of the result, where the task completes */
  readonly result: object;
  /** its prompts ask for care (a temperature near 0) or for a form: the tiny model, which writes noise, may repeat itself or break the form */
  readonly noisy?: boolean;
  /** how it ends with a model that cannot do what is asked */
  readonly error?: object;
}

/** Small inputs and contexts, so that noise without an end is cut off early. */
const runs: Readonly<Record<string, Run>> = {
  'ask-files': { parameters: () => ({ question: 'What rose?', files: ['notes.txt'], model, num_ctx: 1024 }), result: text, noisy: true },
  'caption-images': { parameters: () => ({ image: 'picture.png', model }), result: {}, error: { code: 'model_lacks_vision', step: 'look', attempt: 1 } },
  'changelog-from-commits': {
    parameters: () => ({ commits: 'a1 add x', version: '1.0.0', date: '2025-03-31', model, num_ctx: 1024 }),
    result: text,
    noisy: true,
  },
  'chat-with-history': {
    parameters: () => ({ message: 'And tea?', history: [{ role: 'user', content: 'Coffee?' }], model, num_ctx: 1024 }),
    result: { text: expect.stringContaining('And tea?') },
  },
  'classify-text': { parameters: () => ({ text: 'It is broken.', labels: ['bug', 'question'], model }), result: text, noisy: true },
  'code-review': { parameters: () => ({ repo_url: repository, files: '*.sh', model, num_ctx: 1024 }), result: stored('review.md'), noisy: true },
  'commit-message': { parameters: () => ({ diff: '+ a', model, num_ctx: 1024 }), result: text, noisy: true },
  'compare-models': {
    parameters: () => ({ prompt: 'What is 2 + 2?', model_a: model, model_b: model, judge: model, num_predict: 5, num_ctx: 1024 }),
    result: text,
    noisy: true,
  },
  'embed-texts': { parameters: () => ({ texts: ['one', 'two'], model: embedder }), result: { ...stored('embeddings.json'), steps: { embed: { count: 2 } } } },
  'extract-json': {
    parameters: () => ({ text: 'Yes.', schema: yesOrNo, model, num_ctx: 1024 }),
    result: { format: 'json', text: expect.stringContaining('"ok"') },
  },
  'log-triage': { parameters: () => ({ files: ['notes.txt'], model, num_ctx: 1024 }), result: text, noisy: true },
  'meeting-notes': { parameters: () => ({ transcript: 'A: I will call them.', model, num_ctx: 1024 }), result: text, noisy: true },
  'readme-from-repository': { parameters: () => ({ repo_url: repository, files: '*.sh', model, num_ctx: 1024 }), result: stored('README.md'), noisy: true },
  'summarize-document': { parameters: () => ({ files: ['notes.txt'], model, num_ctx: 1024 }), result: text, noisy: true },
  'test-a-repository': {
    parameters: () => ({ repo_url: repository, script: 'test.sh', args: ['--fast'], model, num_ctx: 1024 }),
    result: { ...stored('test-report.md'), steps: { tests: { stdout: '3 passed --fast\n' } } },
  },
  'translate-text': { parameters: () => ({ text: 'Good morning', target_language: 'German', model, review: true, num_ctx: 1024 }), result: text, noisy: true },
};

test('every community template has a run here [OPS-14]', () => {
  const names = readdirSync(path.join(packageRoot(), 'templates', 'community')).filter((name) => /^[^.]+\.yaml$/.test(name));
  expect(Object.keys(runs).map((name) => `${name}.yaml`)).toEqual(names.sort());
});

/** How noise may end a task: the answer never kept to its form, or Ollama cut off one token that came over and over. */
const noise = {
  invalid_model_answer: /does not keep to the format/,
  backend_failed: /repeats one token over and over/,
} as Readonly<Record<string, RegExp | undefined>>;

test.each(Object.entries(runs))(
  '%s runs from its submission to its end on a real model [OPS-14]',
  async (name, { result, noisy, error }) => {
    const task: TaskView = await orchestra.finished(submitted.get(name) ?? '', 120_000);
    if (error !== undefined) expect(task).toMatchObject({ status: 'failed', error });
    else if (noisy && task.status === 'failed') expect(task.error?.message).toMatch(noise[task.error?.code ?? ''] ?? 'an end that noise explains');
    else expect(task).toMatchObject({ status: 'completed', error: null, result });
  },
  150_000,
);
