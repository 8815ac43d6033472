import { execFile } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { type ApiServer, listen } from '../../../api/server.js';
import type { ErrorGroupsView } from '../../../contract/schemas/reports.js';
import { settleAlerts } from '../../../db/alerts.js';
import { apiKeyUseCases } from '../../../service/api-keys.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from '../api/api-under-test.js';

// Commands that need an API or a database, and nothing that runs tasks.

const root = path.join(import.meta.dirname, '..', '..', '..');
let api: ApiUnderTest;
let server: ApiServer;
beforeAll(async () => {
  api = await apiUnderTest();
  server = await listen(createApp({ services: api.services, log: silent, config: apiConfig }), { hostname: '127.0.0.1', port: 0, log: silent });
});
afterAll(async () => {
  await server.close();
  await api.stop();
});

async function orchestra(args: readonly string[], key = api.keys.admin, input = '') {
  const env = {
    ...process.env,
    ORCHESTRA_API: `http://127.0.0.1:${server.port}`,
    ORCHESTRA_KEY: key,
    DATABASE_URL: api.database.url,
    ORCHESTRA_ENV: 'development',
  };
  return new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const child = execFile(process.execPath, ['--import', 'tsx', path.join(root, 'cli', 'main.ts'), ...args], { cwd: root, env }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    );
    child.stdin?.end(input);
  });
}

test('a key that is made lets its user in, is shown this once, and lets nobody in when it was revoked [MGR-10, SEC-04]', async () => {
  const made = await orchestra(['keys', 'create', 'carol', '--role', 'viewer', '--name', 'for the wall', '--expires', '90d']);
  expect(made).toMatchObject({ code: 0, err: expect.stringContaining('role viewer') });
  const key = made.out.trim();
  expect((await orchestra(['list'], key)).code).toBe(0);
  const listed = await orchestra(['keys', 'list']);
  expect(listed.out).toMatch(/\tcarol\tviewer\tvalid\tfor the wall\t/);
  expect(listed.out + listed.err).not.toContain(key.split('_')[2]);
  const id = key.split('_')[1] ?? '';
  expect((await orchestra(['keys', 'revoke', id])).code).toBe(0);
  expect((await apiKeyUseCases({ sql: api.database.sql, log: silent }).verifyKey(key))?.userId).toBeUndefined();
  expect((await orchestra(['keys', 'list'])).out).toMatch(/\tcarol\tviewer\trevoked\t/);
});

test('a user who is added signs in with the password that came on standard input, until another one is set [DASH-15, MGR-10]', async () => {
  const signIn = (password: string) => api.services.signIn({ kind: 'password', user: 'dora', password });
  const added = await orchestra(['users', 'add', 'dora', '--role', 'viewer'], undefined, 'correct horse battery\n');
  expect(added).toMatchObject({ code: 0, err: expect.stringContaining('dora may sign in') });
  expect(await signIn('correct horse battery')).toMatchObject({ caller: { userId: 'dora', role: 'viewer' } });
  expect((await orchestra(['users', 'passwd', 'dora'], undefined, 'staple correct horse')).code).toBe(0);
  await expect(signIn('correct horse battery')).rejects.toMatchObject({ code: 'unauthorized' });
  expect(await signIn('staple correct horse')).toMatchObject({ caller: { userId: 'dora' } });
  expect(await orchestra(['users', 'add', 'dora'], undefined, 'another password')).toMatchObject({ code: 1, err: expect.stringContaining('user_exists') });
  expect(await orchestra(['users', 'add', 'eve'], undefined, 'short')).toMatchObject({ code: 2, err: expect.stringContaining('at least 8') });
  expect(await orchestra(['users', 'remove', 'nobody'])).toMatchObject({ code: 3, err: expect.stringContaining('unknown_user') });
});

test('an address of the dashboard signs in once, with the rights of the key [DASH-15]', async () => {
  const { out } = await orchestra(['dashboard'], api.keys.viewer);
  const ticket = new URLSearchParams(new URL(out.trim()).hash.slice(1)).get('ticket') ?? '';
  expect(await api.services.signIn({ kind: 'ticket', ticket })).toMatchObject({ caller: { userId: 'ann', role: 'viewer' } });
  await expect(api.services.signIn({ kind: 'ticket', ticket })).rejects.toMatchObject({ code: 'unauthorized' });
});

test.each([
  [['keys', 'revoke', 'nothing'], 3, 'There is no API key with this id.'],
  [['keys', 'create', 'a b'], 2, 'A user is named by'],
  [['keys', 'create', 'carol', '--expires', 'yesterday'], 2, 'is no time to come'],
  [['keys', 'create', 'carol', '--role', 'king'], 2, 'Allowed choices are'],
  [['depend', '00000000-0000-4000-8000-000000000000'], 2, '--on or --not-on'],
  [['checkpoint', 'show', '999'], 3, 'checkpoint'],
] as const)('%j ends with %i', async (args, code, said) => {
  expect(await orchestra(args)).toMatchObject({ code, err: expect.stringContaining(said) });
});

test('a task waits for another one, and for none again [MGR-10, TASK-20]', async () => {
  const [one, other] = await Promise.all([api.task(api.keys.ann), api.task(api.keys.ann)]);
  expect(await orchestra(['depend', one.id, '--on', other.id])).toMatchObject({ code: 0, out: `${one.id} waits for ${other.id}\n` });
  expect(await orchestra(['depend', one.id, '--not-on', other.id])).toMatchObject({ code: 0, out: `${one.id} waits for no other task\n` });
});

test('a checkpoint shows the queue that it keeps [MGR-10, DUR-03]', async () => {
  const { id } = await api.task(api.keys.ann, { name: 'kept' });
  const made = await orchestra(['checkpoint', 'create']);
  expect((await orchestra(['checkpoint', 'show', made.out.trim()])).out).toContain(`${id}\tkept\tqueued\t5`);
});

test('the parts of an installation are told one by one, and one that is away makes the exit code 1 [MGR-10]', async () => {
  const { code, out } = await orchestra(['status']);
  expect(out).toMatch(/^database connection\tok/m);
  expect(out).toMatch(/^ollama\t(down|degraded)/m);
  expect(code).toBe(1);
});

test('the tasks of a group of errors are named for a retry, and trends and performance count how tasks ended [MGR-10, DASH-09, OBS-12]', async () => {
  const { sql } = api.database;
  const { id } = await api.task(api.keys.ann);
  const error = { attempt: 1, step: 'read', code: 'no_file', message: 'no file /tmp/a' };
  await sql`update tasks set status = 'failed', started_at = created_at, completed_at = now(), error = ${sql.json(error)} where id = ${id}`;
  const groups = JSON.parse((await orchestra(['--json', 'errors'])).out) as ErrorGroupsView;
  const key = groups.items[0]?.key ?? '';
  expect(await orchestra(['errors', '--group', key])).toMatchObject({ code: 0, out: `${id}\n`, err: expect.stringContaining('no_file') });
  expect(await orchestra(['errors', '--group', 'none'])).toMatchObject({ code: 3, out: '', err: expect.stringContaining('There is no group none') });
  expect((await orchestra(['trends'])).out).toMatch(/^[\w-]+\t0\t1\t0\t/);
  expect((await orchestra(['performance', '--since', '2h'])).out).toMatch(/^tasks_completed\t0$/m);
});

test('an alert makes the exit code 1 as long as it holds [MGR-10, OBS-10]', async () => {
  const { sql } = api.database;
  await settleAlerts(sql, [{ rule: 'long_queue', subject: '', message: 'queue_size is 600, above 500.', value: 600, threshold: 500 }]);
  expect(await orchestra(['alerts'])).toMatchObject({ code: 1, out: expect.stringMatching(/^long_queue\t.*\tqueue_size is 600, above 500\.\n$/) });
  await settleAlerts(sql, []);
  expect(await orchestra(['alerts'])).toMatchObject({ code: 0, out: '', err: expect.stringContaining('--all') });
  expect(await orchestra(['alerts', '--all'])).toMatchObject({ code: 0, out: expect.stringMatching(/^long_queue\t/) });
});
