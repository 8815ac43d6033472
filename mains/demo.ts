import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createTinyModel } from '../activities/backends/server/tiny-model.js';
import { askOllamaVersion } from '../activities/backends/server/ollama-command.js';
import type { Client } from '../client/client.js';
import { ApiUnreachable } from '../client/problem.js';
import { type Config, ConfigFault, loadConfig } from '../config.js';
import type { TaskView } from '../contract/schemas/task.js';
import { visibleJson, visibleLine } from '../contract/visible.js';
import { livePort } from './process-file.js';
import { StartFault } from './run-main.js';

export interface DemoOptions {
  readonly model?: string;
  /** without it git-script-execution is left out */
  readonly repo?: string;
  readonly script: string;
}

/** A model that nobody would mistake for one that knows something. */
const toyModel = 'orchestra-toy:latest';
const loopback = new Set(['127.0.0.1', 'localhost', '[::1]']);
const pollEveryMs = 500;
const waitMs = 10 * 60_000;

/** How long an API that was there may be away, while it is started again, before the demonstration gives up. */
const awayMs = 30_000;

const say = (line: string) => void process.stdout.write(`${line}\n`);

/**
 * `orchestra demo`: the built-in templates on a running installation. Exit code 0 when every task completed.
 * @param client of the installation, with the key that the caller gave
 * @throws what the client throws, and StartFault
 */
export async function runDemo(client: Client, options: DemoOptions): Promise<void> {
  let config: Config;
  try {
    config = loadConfig();
  } catch (error) {
    if (!(error instanceof ConfigFault)) throw error;
    process.stderr.write(`orchestra demo: ${error.message}\n`);
    process.exitCode = 2;
    return;
  }
  const model = options.model ?? (await anyModel(config, client));
  const tasks = await submit(config, client, model, options);
  if (!(await follow(client, tasks))) process.exitCode = 1;
}

/** A model that is installed, else the toy, made for the purpose. */
async function anyModel(config: Config, client: Client): Promise<string> {
  const { items, hosts } = await client.models.list();
  const installed = items.map(({ name }) => name).sort();
  const known = installed.find((name) => name !== toyModel) ?? installed[0];
  if (known !== undefined) {
    say(`Model: ${visibleLine(known)}${known === toyModel ? ', a generated toy that writes noise' : ', which is installed'}`);
    return known;
  }
  const own = await livePort(config.home, 'ollama');
  // The server that the installation uses, which may have been started with another address than this command.
  const used = hosts.find(({ address }) => loopback.has(new URL(address).hostname))?.address;
  const ollama = own === null ? (used ?? config.models.address ?? 'http://127.0.0.1:11434') : `http://127.0.0.1:${own}`;
  if ((await askOllamaVersion(ollama)) === null) {
    throw new StartFault(
      'There is no model, and no Ollama answers in which one could be made: wait until it is built, start one, or name a model with --model and let its tasks wait.',
    );
  }
  await createTinyModel(ollama, toyModel);
  say(`Model: none is installed, so ${toyModel} was generated: a toy with random weights that writes noise`);
  return toyModel;
}

async function submit(config: Config, client: Client, model: string, options: DemoOptions): Promise<readonly TaskView[]> {
  const root = config.files.roots[0] as string;
  const folder = join(root, 'demo');
  await mkdir(folder, { recursive: true });
  const texts = {
    'first.txt': 'The quick brown fox jumps over the lazy dog.\n',
    'second.txt': 'Tasks wait in one line, and the line knows which model is loaded.\n',
  };
  const files = Object.keys(texts).map((name) => join(folder, name));
  await Promise.all(Object.entries(texts).map(([name, text]) => writeFile(join(folder, name), text)));

  const wanted = [
    { template: 'ollama-inference', parameters: { model, prompt: 'Say hello in one sentence.' } },
    { template: 'file-processing', parameters: { input_files: files, analysis_model: model, output_format: 'json' } },
    ...(options.repo === undefined
      ? []
      : [{ template: 'git-script-execution', parameters: { repo_url: options.repo, script_path: options.script, output_path: 'demo/result.json' } }]),
  ];
  if (options.repo === undefined) say('git-script-execution is left out: name a repository with --repo, and its script with --script');
  const tasks: TaskView[] = [];
  for (const request of wanted) {
    const task = await client.tasks.create({ ...request, name: `demo: ${request.template}` });
    say(`Submitted ${visibleLine(task.name)}: ${client.baseUrl}/api/v1/tasks/${task.id}`);
    tasks.push(task);
  }
  return tasks;
}

/** Shows each change of the tasks until all have ended. @returns whether all completed */
async function follow(client: Client, tasks: readonly TaskView[]): Promise<boolean> {
  const shown = new Map<string, string>();
  const deadlineMs = performance.now() + waitMs;
  let heardAtMs = performance.now();
  for (;;) {
    const now = await Promise.all(tasks.map(({ id }) => client.tasks.get(id))).catch((error: unknown) => {
      if (!(error instanceof ApiUnreachable) || performance.now() - heardAtMs > awayMs) throw error;
      return null;
    });
    if (now === null) {
      await delay(pollEveryMs);
      continue;
    }
    heardAtMs = performance.now();
    for (const task of now) {
      const state = task.status_detail === null ? task.status : `${task.status} (${task.status_detail})`;
      if (shown.get(task.id) === state) continue;
      shown.set(task.id, state);
      say(visibleLine(`${task.name}: ${state}${task.error === null ? '' : `: ${task.error.message}`}`));
      if (task.status === 'completed') say(`  ${visibleJson(task.result, 0).slice(0, 300)}`);
    }
    if (now.every(({ status }) => ['completed', 'failed', 'cancelled'].includes(status))) return now.every(({ status }) => status === 'completed');
    if (performance.now() > deadlineMs) throw new StartFault(`Not every task ended within ${waitMs / 60_000} minutes; they go on.`);
    await delay(pollEveryMs);
  }
}
