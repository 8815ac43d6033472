import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createTinyModel } from '../activities/backends/server/tiny-model.js';
import { askOllamaVersion } from '../activities/backends/server/ollama-command.js';
import { type Config, ConfigFault, loadConfig } from '../config.js';
import { isLive, readProcessFile } from './process-file.js';
import { StartFault } from './run-main.js';

export interface DemoOptions {
  /** default: the installation in ORCHESTRA_HOME */
  readonly api?: string;
  readonly model?: string;
  /** without it git-script-execution is left out */
  readonly repo?: string;
  readonly script: string;
}

/** A model that nobody would mistake for one that knows something. */
const toyModel = 'orchestra-toy:latest';
const pollEveryMs = 500;
const waitMs = 10 * 60_000;

/** How long an API that was there may be away, while it is started again, before the demonstration gives up. */
const awayMs = 30_000;

class Unreachable extends StartFault {}

interface Task {
  readonly id: string;
  readonly name: string;
  readonly template: string;
  readonly status: string;
  readonly status_detail: string | null;
  readonly result: unknown;
  readonly error: { readonly code: string; readonly message: string } | null;
}

interface Api {
  readonly address: string;
  request<Answer>(method: string, path: string, body?: object): Promise<Answer>;
}

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** `orchestra demo`: the built-in templates on a running installation. Exit code 0 when every task completed. */
export async function runDemo(options: DemoOptions): Promise<void> {
  try {
    const config = loadConfig();
    const api = await openApi(config, options.api);
    const model = options.model ?? (await anyModel(config, api));
    const tasks = await submit(config, api, model, options);
    if (!(await follow(api, tasks))) process.exitCode = 1;
  } catch (error) {
    process.stderr.write(`orchestra demo: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof ConfigFault ? 2 : 1;
  }
}

async function openApi(config: Config, given: string | undefined): Promise<Api> {
  const address = given?.replace(/\/+$/, '') ?? (await runningApi(config));
  const keyFile = join(config.home, 'admin.key');
  const key = await readFile(keyFile, 'utf8').catch(() => {
    throw new StartFault(`${keyFile} cannot be read: start the installation with \`orchestra up\`, or set ORCHESTRA_HOME to its folder.`);
  });
  return {
    address,
    async request<Answer>(method: string, path: string, body?: object): Promise<Answer> {
      const headers = { [config.security.apiKeyHeader]: key.trim(), ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
      const response = await fetch(`${address}/api/v1${path}`, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }).catch(
        (cause: unknown) => {
          throw new Unreachable(`No installation answers at ${address}: start it with \`orchestra up\`.`, { cause });
        },
      );
      const answer: unknown = await response.json();
      if (!response.ok)
        throw new StartFault(`${method} ${path} was answered with ${response.status}: ${(answer as { detail?: string }).detail ?? 'no reason given'}`);
      return answer as Answer;
    },
  };
}

async function runningApi(config: Config): Promise<string> {
  const file = await readProcessFile(config.home, 'api');
  if (file === null || file.port === null || !(await isLive(file))) {
    throw new StartFault(`No installation runs in ${config.home}: start it with \`orchestra up\`, or name its API with --api.`);
  }
  return `http://127.0.0.1:${file.port}`;
}

/** A model that is installed, else the toy, made for the purpose. */
async function anyModel(config: Config, api: Api): Promise<string> {
  const { items } = await api.request<{ items: readonly { readonly name: string }[] }>('GET', '/models');
  const installed = items.map(({ name }) => name).sort();
  const known = installed.find((name) => name !== toyModel) ?? installed[0];
  if (known !== undefined) {
    say(`Model: ${known}${known === toyModel ? ', a generated toy that writes noise' : ', which is installed'}`);
    return known;
  }
  const server = await readProcessFile(config.home, 'ollama');
  const ollama =
    server !== null && server.port !== null && (await isLive(server)) ? `http://127.0.0.1:${server.port}` : (config.models.address ?? 'http://127.0.0.1:11434');
  if ((await askOllamaVersion(ollama)) === null) {
    throw new StartFault(
      'There is no model, and no Ollama answers in which one could be made: wait until it is built, start one, or name a model with --model and let its tasks wait.',
    );
  }
  await createTinyModel(ollama, toyModel);
  say(`Model: none is installed, so ${toyModel} was generated: a toy with random weights that writes noise`);
  return toyModel;
}

async function submit(config: Config, api: Api, model: string, options: DemoOptions): Promise<readonly Task[]> {
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
  const tasks: Task[] = [];
  for (const request of wanted) {
    const task = await api.request<Task>('POST', '/tasks', { ...request, name: `demo: ${request.template}` });
    say(`Submitted ${task.name}: ${api.address}/api/v1/tasks/${task.id}`);
    tasks.push(task);
  }
  return tasks;
}

/** Shows each change of the tasks until all have ended. @returns whether all completed */
async function follow(api: Api, tasks: readonly Task[]): Promise<boolean> {
  const shown = new Map<string, string>();
  const deadlineMs = Date.now() + waitMs;
  let heardAtMs = Date.now();
  for (;;) {
    const now = await Promise.all(tasks.map(({ id }) => api.request<Task>('GET', `/tasks/${id}`))).catch((error: unknown) => {
      if (!(error instanceof Unreachable) || Date.now() - heardAtMs > awayMs) throw error;
      return null;
    });
    if (now === null) {
      await delay(pollEveryMs);
      continue;
    }
    heardAtMs = Date.now();
    for (const task of now) {
      const state = task.status_detail === null ? task.status : `${task.status} (${task.status_detail})`;
      if (shown.get(task.id) === state) continue;
      shown.set(task.id, state);
      say(`${task.name}: ${state}${task.error === null ? '' : `: ${task.error.message}`}`);
      if (task.status === 'completed') say(`  ${JSON.stringify(task.result).slice(0, 300)}`);
    }
    if (now.every(({ status }) => ['completed', 'failed', 'cancelled'].includes(status))) return now.every(({ status }) => status === 'completed');
    if (Date.now() > deadlineMs) throw new StartFault(`Not every task ended within ${waitMs / 60_000} minutes; they go on.`);
    await delay(pollEveryMs);
  }
}
