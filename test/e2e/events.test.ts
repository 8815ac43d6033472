import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel } from '../../activities/backends/server/tiny-model.js';
import type { EventView } from '../../contract/schemas/event.js';
import type { EventStream } from '../../service/events.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { ollamaAddress } from '../support/servers.js';

const run = promisify(execFile);
const model = 'events-tiny:latest';
let installation: Installation;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'events-'));
  await createTinyModel(ollamaAddress(), model);
  installation = await startInstallation({ models: true });
});
afterAll(async () => {
  await installation.stop();
  await rm(folder, { recursive: true, force: true });
});

const admin = { userId: 'admin', role: 'admin' as const, keyId: 'test' };
async function follow(id: string): Promise<AsyncGenerator<EventView | null>> {
  const stream = (await installation.services.events.streamTaskEvents(admin, id, null)) as EventStream;
  return stream.read(new AbortController().signal);
}

/** A repository on this machine with one script. */
async function repositoryOf(script: string): Promise<string> {
  const repository = await mkdtemp(path.join(folder, 'repository-'));
  await writeFile(path.join(repository, 'run.sh'), script, { mode: 0o755 });
  const git = (...args: string[]) => run('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd: repository });
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-q', '-m', 'one');
  return `file://${repository}`;
}

test('what a model writes arrives while it writes, and all of it together is its answer [TASK-21, MODEL-03]', async () => {
  const { id } = await installation.submit('ollama-inference', { model, prompt: 'hello' });
  const seen: EventView[] = [];
  for await (const event of await follow(id)) if (event !== null) seen.push(event);
  const task = await installation.task(id);
  expect(task.status).toBe('completed');
  const told = seen.filter(({ kind }) => kind === 'output').map(({ data }) => data as { stream: string; text: string; step: string });
  expect(told.length).toBeGreaterThan(0);
  expect(told.every(({ stream, step }) => stream === 'text' && step === 'ollama_generate')).toBe(true);
  // PostgreSQL keeps neither NUL nor half a character, and a model of noise may give both.
  expect(told.map(({ text }) => text).join('')).toBe(task.result?.['text']);
  const kinds = seen.map(({ kind }) => kind);
  expect(kinds[0]).toBe('queued');
  expect(kinds.at(-1)).toBe('completed');
  expect(kinds.indexOf('step_started')).toBeLessThan(kinds.indexOf('output'));
  expect(kinds.lastIndexOf('output')).toBeLessThan(kinds.indexOf('step_finished'));
});

test('what a script prints arrives while it runs, each stream under its name and whole characters only [TASK-21]', async () => {
  const repository = await repositoryOf("#!/bin/sh\nprintf 'first \\303'\nsleep 1\nprintf '\\251\\n'\necho oops >&2\nsleep 1\necho last\n");
  const { id } = await installation.submit('git-script-execution', { repo_url: repository, script_path: 'run.sh', output_path: 'out.json' });
  const outputs: { stream: string; text: string }[] = [];
  let whileRunning = false;
  for await (const event of await follow(id)) {
    if (event?.kind !== 'output') continue;
    outputs.push(event.data as { stream: string; text: string });
    if (event.data['text'] === 'first ') whileRunning = (await installation.task(id)).status === 'running';
  }
  expect(whileRunning).toBe(true);
  const of = (stream: string) => outputs.filter((output) => output.stream === stream).map(({ text }) => text);
  expect(of('stdout').join('')).toBe('first é\nlast\n');
  expect(of('stderr').join('')).toBe('oops\n');
});

test('a step that prints without end tells a bounded part of it, and says so [TASK-21, bad-28]', async () => {
  const repository = await repositoryOf('#!/bin/sh\nhead -c 600000 /dev/zero | tr "\\0" x\n');
  const { id } = await installation.submit('git-script-execution', { repo_url: repository, script_path: 'run.sh', output_path: 'out.json' });
  expect(await installation.finished(id)).toMatchObject({ status: 'completed' });
  const { body } = await installation.request('GET', `/api/v1/tasks/${id}/events?limit=500`, undefined, { Accept: 'application/json' });
  const outputs = (body as { items: EventView[] }).items.filter(({ kind }) => kind === 'output');
  const characters = outputs.reduce((sum, { data }) => sum + String(data['text']).length, 0);
  expect(characters).toBe(installation.config.events.toldCharsMax);
  expect(outputs.at(-1)?.data).toMatchObject({ truncated: true });
});
