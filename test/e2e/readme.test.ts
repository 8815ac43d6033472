import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createTinyModel } from '../../activities/backends/server/tiny-model.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { eventually, ollamaAddress } from '../support/servers.js';

// The README's examples, executed in their order in one folder, as a new user does who copies them into a terminal. What a test cannot have is
// replaced: the model by a generated one of the same name, the repository by one on this disk, the port by a free one.

const root = path.join(import.meta.dirname, '..', '..');
const run = promisify(execFile);
const readme = await readFile(path.join(root, 'README.md'), 'utf8');

interface Block {
  readonly language: string;
  readonly line: number;
  readonly text: string;
}

const blocks: readonly Block[] = [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map((match) => ({
  language: match[1] ?? '',
  line: readme.slice(0, match.index).split('\n').length,
  text: match[2] ?? '',
}));
const ofLanguage = (language: string) => blocks.filter((block) => block.language === language).map((block) => [`line ${block.line}`, block] as const);

/** Whatever looks like the name of a model that Ollama's library has. */
const models = [...new Set([...readme.matchAll(/"?(?:model|analysis_model)"?[:=] ?"?([a-z0-9.-]+:[a-z0-9.-]+)/g)].map(([, name]) => name ?? ''))];
const templateOf = (text: string) => {
  const content = parse(text) as { name?: string; steps?: unknown[]; parameters?: { name: string; type: string; required?: boolean }[] };
  return Array.isArray(content.steps) && content.name !== undefined ? { ...content, name: content.name } : undefined;
};

/** `<template>.test` for a test file. */
const testedBy = (text: string) => {
  const content = parse(text) as { template?: string; cases?: unknown[] };
  return Array.isArray(content.cases) && content.template !== undefined ? `${content.template}.test` : undefined;
};

let folder: string;
let product: ChildProcess;
let printed = '';
let address: string;
let env: Record<string, string | undefined>;
let seenTask: string | undefined;

beforeAll(async () => {
  for (const model of models) await createTinyModel(ollamaAddress(), model);
  folder = await mkdtemp(path.join(tmpdir(), 'orchestra-readme-'));
  await chmod(folder, 0o755); // PostgreSQL runs as another user when this one is root
  await createRepository();
  await createPrograms();
  await mkdir(path.join(folder, 'my-templates'));
  for (const [, { text }] of ofLanguage('yaml')) {
    const file = templateOf(text)?.name ?? testedBy(text);
    if (file !== undefined) await writeFile(path.join(folder, 'my-templates', `${file}.yaml`), text);
  }
  const port = await freePort();
  address = `http://127.0.0.1:${port}`;
  const { DATABASE_URL: _database, TEMPORAL_ADDRESS: _temporal, ...surroundings } = process.env;
  env = {
    ...surroundings,
    PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`,
    ORCHESTRA_HOME: path.join(folder, '.orchestra'),
    PORT: String(port),
    OLLAMA_HOST: ollamaAddress(),
    TEMPLATES_DIRECTORY: path.join(folder, 'my-templates'),
    GIT_ALLOWED_SCHEMES: 'https,file',
  };
  product = spawn('npx', ['orchestra', 'up'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [product.stdout, product.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
  }
  await eventually(
    async () => {
      if (product.exitCode !== null) throw new Error(printed);
      return (await fetch(`${address}/readyz`)).ok;
    },
    { timeoutMs: 240_000 },
  );
}, 300_000);

afterAll(async () => {
  await api('POST', '/api/v1/tasks/bulk', { action: 'cancel', filter: { status: ['queued', 'running'] } }); // what sleeps would hold up the end
  const ended = once(product, 'exit');
  if (product.kill('SIGTERM')) await ended;
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}, 120_000);

test('the README has examples of the shell and a template', () => {
  expect(ofLanguage('sh').length).toBeGreaterThan(3);
  expect(ofLanguage('yaml').length).toBeGreaterThan(0);
  expect(models.length).toBeGreaterThan(0);
  for (const { language } of blocks) expect(['sh', 'yaml', 'text', 'json']).toContain(language);
});

describe('the shell', () => {
  test.each(ofLanguage('sh'))('%s of the README works [OPS-05]', async (_line, block) => {
    const id = await idFor(block.text);
    const script = path.join(folder, 'example.sh');
    const state = path.join(folder, 'example.env');
    // What a block exports is there in the next one, as in one terminal.
    await writeFile(script, `${here(block.text)}\nexport -p > ${state}\n`);
    const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', `if [ -f ${state} ]; then . ${state}; fi; export ID='${id ?? ''}'; . ${script}`], {
      cwd: folder,
      env: env as NodeJS.ProcessEnv,
      timeout: 50_000,
    });
    const ids = [...stdout.matchAll(/\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b/g)].map(([id]) => id);
    const created = /"id":\s*"([0-9a-f-]{36})"/.exec(stdout)?.[1] ?? ids[0];
    if (created !== undefined && id === undefined) seenTask = created;
  });

  test('and the tasks that it created complete', async () => {
    const { items } = (await api('GET', '/api/v1/tasks?limit=100')) as { items: readonly TaskView[] };
    const own = items.filter(({ name }) => name !== waiting);
    expect(own.length).toBeGreaterThan(2);
    for (const { id } of own) expect(await finished(id)).toMatchObject({ status: 'completed', error: null });
  });
});

describe('a template', () => {
  test.each(ofLanguage('yaml'))('%s of the README is valid, and a task of it completes [TPL-01]', async (_line, { text }) => {
    const template = templateOf(text);
    if (template === undefined) return void parse(text);
    expect(await api('POST', '/api/v1/templates/validate', { yaml: text, file_name: `${template.name}.yaml` })).toMatchObject({ valid: true, faults: [] });
    const parameters = Object.fromEntries((template.parameters ?? []).filter(({ required }) => required).map(({ name }) => [name, 'The pump failed twice.']));
    const { id } = (await api('POST', '/api/v1/tasks', { template: template.name, parameters })) as TaskView;
    expect(await finished(id)).toMatchObject({ status: 'completed', error: null });
  });
});

const waiting = 'README: waits';

/** The task that an example speaks of: one that still waits where the example changes it, else the last that an example created. */
async function idFor(text: string): Promise<string | undefined> {
  if (!/\$\{?ID\b|<id>/.test(text)) return undefined;
  if (!/PATCH|DELETE|\/retry|orchestra (?:cancel|priority|retry|hold)/.test(text)) {
    if (seenTask === undefined) throw new Error('the example speaks of a task before one was created');
    await finished(seenTask);
    return seenTask;
  }
  const script = {
    template: 'git-script-execution',
    name: waiting,
    parameters: { repo_url: repositoryUrl(), script_path: 'scripts/long.sh', output_path: 'x.json' },
  };
  const { id } = (await api('POST', '/api/v1/tasks', script)) as TaskView;
  return ((await api('POST', '/api/v1/tasks', { ...script, depends_on: [id] })) as TaskView).id;
}

const repositoryUrl = () => `file://${path.join(folder, 'repository')}`;
const here = (text: string) =>
  text
    .replaceAll(/https:\/\/github\.com\/<[^/]+\/<[^>]+>(?:\.git)?/g, repositoryUrl())
    .replaceAll('127.0.0.1:8080', new URL(address).host)
    .replaceAll('localhost:8080', new URL(address).host)
    .replaceAll('<id>', '$ID');

async function api(method: string, url: string, body?: object): Promise<unknown> {
  const key = (await readFile(path.join(folder, '.orchestra', 'admin.key'), 'utf8')).trim();
  const answer = await fetch(`${address}${url}`, {
    method,
    headers: { 'X-API-Key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${url}: ${await answer.text()}`);
  return answer.json();
}

async function finished(id: string): Promise<TaskView> {
  return eventually(
    async () => {
      const task = (await api('GET', `/api/v1/tasks/${id}`)) as TaskView;
      return ['completed', 'failed', 'cancelled'].includes(task.status) ? task : undefined;
    },
    { timeoutMs: 60_000 },
  );
}

async function createRepository(): Promise<void> {
  const repository = path.join(folder, 'repository');
  await mkdir(path.join(repository, 'scripts'), { recursive: true });
  for (const [name, body] of [
    ['report', 'echo "12 lines"'],
    ['long', 'sleep 600'],
  ]) {
    await writeFile(path.join(repository, 'scripts', `${name}.sh`), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }
  const git = (...args: string[]) => run('git', ['-C', repository, '-c', 'user.name=test', '-c', 'user.email=test@localhost', ...args]);
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '.');
  await git('commit', '--quiet', '--message', 'scripts');
}

/** Programs that the examples find before those of this machine: this checkout is the product, and an answer of the API that is a problem is a failure. */
async function createPrograms(): Promise<void> {
  const { stdout } = await run('bash', ['-c', 'command -v curl']);
  const scripts = Object.keys((JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as { scripts: object }).scripts);
  const programs = {
    npx: `[ "$1" = orchestra ] || exit 64\nshift\nexec ${process.execPath} --import ${import.meta.resolve('tsx')} ${path.join(root, 'cli', 'main.ts')} "$@"`,
    curl: `exec ${stdout.trim()} --fail-with-body "$@"`,
    // The product is installed and runs; what is left to check is that the script exists.
    npm: `[ "$1" = run ] && shift\ncase "$1" in ci|install|${scripts.join('|')}) ;; *) echo "no script $1" >&2; exit 64 ;; esac`,
  };
  await mkdir(path.join(folder, 'bin'));
  for (const [name, body] of Object.entries(programs)) await writeFile(path.join(folder, 'bin', name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const closed = once(server, 'close');
  server.close();
  await closed;
  return port;
}
