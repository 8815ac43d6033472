import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isLive, processStartTime, readProcessFile } from '../../../mains/process-file.js';
import { eventually } from '../../support/servers.js';

interface Run {
  readonly process: ChildProcess;
  readonly printed: () => string;
  readonly ended: Promise<number | null>;
}

const names = ['postgres', 'temporal', 'engine', 'host', 'api'] as const;

/** `orchestra` as a person starts it, save that the servers of the machine are left alone. */
function orchestra(args: readonly string[], env: Record<string, string>): Run {
  const cli = join(import.meta.dirname, '../../../cli/main.ts');
  const { DATABASE_URL: _database, TEMPORAL_ADDRESS: _temporal, ...surroundings } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', cli, ...args], {
    env: { ...surroundings, OLLAMA_HOST: '127.0.0.1:9', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
  }
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { process: child, printed: () => text, ended };
}

async function newHome(): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'orchestra-up-'));
  await chmod(home, 0o755);
  onTestFinished(async () => {
    for (const name of ['up', ...names]) {
      const file = await readProcessFile(home, name);
      if (file !== null && (await isLive(file))) process.kill(file.pid, 'SIGKILL');
    }
    await rm(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  });
  return home;
}

async function ready(run: Run): Promise<string> {
  await eventually(
    () => {
      if (run.process.exitCode !== null) throw new Error(run.printed());
      return run.printed().includes('is ready.');
    },
    { timeoutMs: 240_000 },
  );
  return /Dashboard and API +(http:\S+)/.exec(run.printed())?.[1] ?? '';
}

test('up starts everything, survives a kill -9 with its children adopted, and ends clean [fault-35] [DUR-11]', async () => {
  const home = await newHome();
  const env = { ORCHESTRA_HOME: home, PORT: '0', SHUTDOWN_GRACE_SECONDS: '5' };
  const first = orchestra(['up', '--no-ollama'], env);
  const address = await ready(first);
  expect(first.printed()).toMatch(/Models +model steps wait: no Ollama answers at http:\/\/127\.0\.0\.1:9 \(OLLAMA_HOST\)/);
  expect((await fetch(`${address}/readyz`)).status).toBe(200);
  expect(await (await fetch(address)).text()).toContain('<html');
  expect((await stat(join(home, 'admin.key'))).mode & 0o777).toBe(0o600);
  expect((await stat(home)).mode & 0o777).toBe(0o711);
  for (const name of ['files', 'results', 'logs', 'run', 'temporal']) expect([name, (await stat(join(home, name))).mode & 0o077]).toEqual([name, 0]);
  const key = (await readFile(join(home, 'admin.key'), 'utf8')).trim();
  expect((await fetch(`${address}/api/v1/tasks`, { headers: { 'x-api-key': key } })).status).toBe(200);
  const ticket = /Sign in \(once\) +http:\S+\/sign-in#ticket=(\S+)/.exec(first.printed())?.[1] ?? '';
  const signIn = async () =>
    fetch(`${address}/api/v1/sessions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ ticket }) });
  expect(await (await signIn()).json()).toMatchObject({ user_id: 'admin', role: 'admin' });
  expect((await signIn()).status).toBe(401);
  const webUi = /Temporal Web UI +(http:\S+)/.exec(first.printed())?.[1] ?? '';
  expect((await fetch(webUi)).status).toBe(200);
  const metrics = /Metrics +(http:\S+)/.exec(first.printed())?.[1] ?? '';
  expect(new URL(metrics).port).not.toBe(new URL(address).port);
  expect(await (await fetch(metrics)).text()).toContain('# TYPE scheduling_latency_ms histogram');

  const second = orchestra(['up', '--no-ollama'], env);
  expect(await second.ended).toBe(1);
  expect(second.printed()).toContain('is in use by process');

  const before = await Promise.all(names.map((name) => readProcessFile(home, name)));
  first.process.kill('SIGKILL');
  await first.ended;
  const again = orchestra(['up', '--no-ollama'], env);
  expect(await ready(again)).toBe(address);
  expect(await Promise.all(names.map((name) => readProcessFile(home, name)))).toEqual(before);

  again.process.kill('SIGTERM');
  expect(await again.ended).toBe(0);
  for (const file of before) expect(await processStartTime(file?.pid ?? 0)).toBeNull();
  for (const name of ['up', ...names]) expect(await readProcessFile(home, name)).toBeNull();
  expect((await readdir(join(home, 'run'))).filter((file) => file.endsWith('.ready'))).toEqual([]);
  for (const name of ['api', 'engine', 'host']) expect(await readFile(join(home, 'logs', `${name}.log`), 'utf8')).not.toContain(' - ERROR - ');
}, 600_000);

test('a second signal cuts: up ends at once with 130, and nothing of it is left [fault-35]', async () => {
  const home = await newHome();
  const run = orchestra(['up', '--no-ollama'], { ORCHESTRA_HOME: home, PORT: '0' });
  await ready(run);
  const files = await Promise.all(names.map((name) => readProcessFile(home, name)));
  run.process.kill('SIGTERM');
  run.process.kill('SIGINT'); // two of the same could be delivered as one
  expect(await run.ended).toBe(130);
  for (const file of files) expect(await processStartTime(file?.pid ?? 0)).toBeNull();
}, 300_000);

test('a template file that is broken is told at the start, and the rest works; Temporal without its Web UI too [TPL-01]', async () => {
  const home = await newHome();
  const templates = join(home, 'own-templates');
  await mkdir(templates);
  await writeFile(join(templates, 'broken.yaml'), 'name: broken\nsteps: []\n');
  const run = orchestra(['up', '--no-ollama'], { ORCHESTRA_HOME: home, PORT: '0', TEMPLATES_DIRECTORY: templates, TEMPORAL_UI: 'off' });
  expect((await fetch(`${await ready(run)}/readyz`)).status).toBe(200);
  const [, file, message] = /WARNING +1 template file is broken: (\S+): (.+); the rest is in the log/.exec(run.printed()) ?? [];
  expect(file).toBe(join(templates, 'broken.yaml'));
  expect(run.printed()).toMatch(/Temporal Web UI +off/);
  const temporal = await readProcessFile(home, 'temporal');
  expect(await readFile(`/proc/${temporal?.pid}/cmdline`, 'utf8')).toContain('--headless');
  const log = await readFile(join(home, 'logs', 'api.log'), 'utf8');
  expect(log).toContain(`"faults":[${JSON.stringify(message)}`);
  expect(log).not.toContain('"column"');
  run.process.kill('SIGTERM');
  expect(await run.ended).toBe(0);
}, 300_000);

test('a database that does not answer is one sentence, without its password, and exit code 1', async () => {
  const run = orchestra(['up', '--no-ollama'], { ORCHESTRA_HOME: await newHome(), DATABASE_URL: 'postgres://o:secret@127.0.0.1:9/o' });
  expect(await run.ended).toBe(1);
  expect(run.printed()).toContain(
    'orchestra up: The PostgreSQL at 127.0.0.1:9/o (DATABASE_URL) does not answer: start it, or unset DATABASE_URL to have one started.',
  );
  expect(run.printed()).not.toContain('secret');
}, 240_000);

test('a fault of the configuration is told by its path and nothing starts [CFG-01]', async () => {
  const run = orchestra(['engine'], { PORT: 'many', LOG_LEVEL: 'loud', ORCHESTRA_HOME: await newHome() });
  expect(await run.ended).toBe(2);
  expect(run.printed()).toMatch(/has 2 faults:\n {2}api\.port \(PORT\): .+\n {2}logging\.level \(LOG_LEVEL\): /);
}, 60_000);

test('a main without a database says what to do', async () => {
  const run = orchestra(['api'], { ORCHESTRA_HOME: await newHome() });
  expect(await run.ended).toBe(1);
  expect(run.printed()).toContain('No database is named: set DATABASE_URL, or start everything with `orchestra up`.');
}, 60_000);

test('a command that does not exist ends with 2 and shows the ones that do', async () => {
  const run = orchestra(['upp'], {});
  expect(await run.ended).toBe(2);
  expect(run.printed()).toContain("unknown command 'upp'");
}, 60_000);
