import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeForecast } from '../../../db/forecasts.js';
import { forecastEntry } from '../../support/forecast-entry.js';
import { inferenceUsage, movedSteps } from '../../support/moved-steps.js';
import { answerQuestion, type DashboardUnderTest, dashboardUnderTest, overflowOf, seriousFaults } from './dashboard-under-test.js';

let dashboard: DashboardUnderTest;
let moves: ReturnType<typeof movedSteps>;
beforeAll(async () => {
  dashboard = await dashboardUnderTest();
  moves = movedSteps(dashboard.api.database.sql);
});
afterAll(async () => dashboard.stop());
beforeEach(async () => {
  await dashboard.api.database.empty('tasks', 'queue_pauses', 'hosts', 'engines', 'residency', 'residency_spans', 'forecasts', 'forecast_entries');
  await moves.ready();
});

const submit = (fields: Record<string, unknown> = {}, who: 'ann' | 'bob' = 'ann') => dashboard.api.task(dashboard.api.keys[who], fields);
const open = (id: string, options: Parameters<DashboardUnderTest['open']>[2] = {}, who: 'admin' | 'ann' | 'bob' | 'viewer' = 'ann') =>
  dashboard.open(who, `/tasks/${id}`, options);
const files = { template: 'git-script-execution', parameters: { repo_url: 'https://example.com/a.git', script_path: 'run.sh', output_path: 'out.txt' } };

/** A task that waited for its model and then wrote a text. */
async function completed(fields: Record<string, unknown> = {}, text = 'A queue keeps order.'): Promise<string> {
  const { sql } = dashboard.api.database;
  const { id } = await submit(fields);
  const run = await moves.run(id);
  const claim = await moves.begin(run);
  await moves.tell(claim, text);
  await sql`update tasks set created_at = created_at - interval '60 seconds', started_at = started_at - interval '10 seconds' where id = ${id}`;
  await sql`update line set entered_at = entered_at - interval '60 seconds', started_at = started_at - interval '10 seconds', granted_at = granted_at - interval '10 seconds' where task_id = ${id}`;
  await sql`insert into residency_spans (host, key, model, state, began_at, ended_at) select host, key, 'llama3.2:latest', 'loading', entered_at + interval '30 seconds', entered_at + interval '42 seconds' from line where task_id = ${id}`;
  await moves.finish(claim, { text, prompt_tokens: 40, output_tokens: 120 }, inferenceUsage);
  return id;
}

/** A task whose script failed. */
async function failed(message = 'the script run.sh ended with exit code 2'): Promise<string> {
  const { id } = await submit(files);
  const run = await moves.run(id);
  await moves.finish(await moves.begin(run, 'git_clone'), { path: 'repository' });
  const claim = await moves.begin(run, 'execute_script');
  await moves.tell(claim, 'collecting tests\n', 'stdout');
  await moves.tell(claim, '1 of 40 failed\n', 'stderr');
  await moves.fail(
    run,
    claim,
    { code: 'script_failed', message, details: { exit_code: 2 } },
    { exitCode: 2, cpuSeconds: 1.5, logs: 'collecting tests\n1 of 40 failed\n' },
  );
  return id;
}

describe('a task that has ended', () => {
  test('shows what each step waited for and did, what it wrote from the beginning on, and its result [DASH-18, DASH-08]', async () => {
    const id = await completed({ name: 'notes' });
    const { page, faults, close } = await open(id);
    expect(await page.locator('h1').textContent()).toBe('notes');
    expect(await page.locator('#status').textContent()).toBe('completed');
    const told = (await page.locator('#step-1-ollama_generate .try').textContent()) ?? '';
    expect(told).toMatch(/waited \d+ s · model load 12 s · prompt 1\.0 s · generated 8\.0 s · other/);
    for (const kind of ['wait', 'load', 'prompt', 'generate']) expect(await page.locator(`svg.bars .bar-${kind}`).count()).toBeGreaterThan(0);
    await expect.poll(() => page.locator('#output').textContent()).toContain('A queue keeps order.');
    await expect.poll(() => page.locator('#live').textContent()).toBe('ended');
    expect(await page.locator('#result pre').textContent()).toBe('A queue keeps order.');
    const facts = (await page.locator('#facts').textContent()) ?? '';
    for (const part of ['40 read, 120 generated', '15.0 per second', '2.2 GiB', 'llama3.2:latest', '9.4 s']) expect(facts).toContain(part);
    await page.locator('#step-1-ollama_generate summary').first().click();
    expect(await page.locator('#step-1-ollama_generate .step-body').textContent()).toContain('ollama-inference.yaml:9:5');
    expect(await page.locator('#temporal').getAttribute('href')).toBe(`http://127.0.0.1:8233/namespaces/default/workflows/task-${id}`);
    expect(await page.getByRole('link', { name: 'Run again' }).getAttribute('href')).toBe(`/templates/ollama-inference?from=${id}`);
    expect(await page.locator('button', { hasText: 'Copy as curl' }).getAttribute('data-copy')).toContain('/api/v1/tasks');
    expect(await page.locator('button', { hasText: 'Copy as command' }).getAttribute('data-copy')).toMatch(
      /^npx orchestra --api http:\/\/127\.0\.0\.1:\d+ submit ollama-inference \\\n {2}-p model=llama3\.2 /,
    );
    expect(await page.locator('button', { hasText: 'Cancel' }).count()).toBe(0);
    expect(faults).toEqual([]);
    await close();
  });

  test('a failed one shows the error, its place in the template, the log, and is retried, after which both attempts are shown [DASH-18, TPL-18]', async () => {
    const id = await failed();
    const { page, faults, close } = await open(id);
    const error = page.locator('#error');
    expect(await error.textContent()).toContain('the script run.sh ended with exit code 2');
    expect(await page.locator('#failed-at').textContent()).toBe('git-script-execution.yaml:10:5');
    expect(await error.locator('.here').textContent()).toContain('execute_script');
    expect(await page.locator('#step-1-store_result').textContent()).toContain('was not reached');
    await page.locator('#step-1-execute_script summary').first().click();
    const body = (await page.locator('#step-1-execute_script .step-body').textContent()) ?? '';
    for (const part of ['1 of 40 failed', 'script_failed', '1.5 s', 'run.sh']) expect(body).toContain(part);
    expect(await page.locator('#output .stderr').textContent()).toContain('1 of 40 failed');
    await page.getByRole('button', { name: 'Retry' }).click();
    await expect.poll(() => page.locator('#status').textContent()).toBe('queued');
    await expect.poll(() => page.locator('#attempt-1').count()).toBe(1);
    await expect.poll(() => page.locator('#live').textContent()).toBe('live');
    expect(await page.locator('#error').count()).toBe(0);
    await page.locator('#attempt-1 > summary').click();
    expect(await page.locator('#attempt-1').textContent()).toContain('execute_script');
    expect(faults).toEqual([]);
    await close();
  });

  test('the commands that it offers submit it as it was, with all that it needs, at the address of this page [DASH-18]', async () => {
    const before = await submit();
    const { id } = await submit({
      metadata: { team: 'docs' },
      depends_on: [before.id],
      resource_requirements: { locks: ['deploy'] },
      retry: { max_attempts: 4 },
      priority: 7,
    });
    const { page, close } = await open(id);
    const curl = (await page.locator('button', { hasText: 'Copy as curl' }).getAttribute('data-copy')) ?? '';
    expect(curl).toContain(`curl -sS ${dashboard.url}/api/v1/tasks -H "X-API-Key: $ORCHESTRA_KEY"`);
    const request = JSON.parse(curl.slice(curl.indexOf("'{") + 1, -1)) as Record<string, unknown>;
    expect(request).toMatchObject({
      template: 'ollama-inference',
      priority: 7,
      metadata: { team: 'docs' },
      depends_on: [before.id],
      resource_requirements: { locks: ['deploy'] },
      retry: { max_attempts: 4 },
    });
    const command = (await page.locator('button', { hasText: 'Copy as command' }).getAttribute('data-copy')) ?? '';
    for (const part of [`--depends-on ${before.id}`, '--lock deploy', '--retry-attempts 4', `--metadata='{"team":"docs"}'`]) expect(command).toContain(part);
    expect(await page.locator('#facts .hint').textContent()).toContain('ORCHESTRA_KEY');
    await close();
  });

  test('it cannot be run again when its template is gone, which is said [DASH-18]', async () => {
    const { id } = await submit();
    await dashboard.api.database.sql`update tasks set template = 'gone', plan = jsonb_set(plan, '{template}', '"gone"') where id = ${id}`;
    const { page, close } = await open(id);
    const again = page.getByRole('button', { name: 'Run again…' });
    expect(await again.isDisabled()).toBe(true);
    expect(await again.getAttribute('title')).toBe('There is no template gone any more');
    await close();
  });

  test('files that it stored are listed [DASH-18]', async () => {
    const { id } = await submit(files);
    const run = await moves.run(id);
    await moves.finish(await moves.begin(run, 'git_clone'), {});
    await moves.finish(await moves.begin(run, 'execute_script'), { stdout: 'ok' });
    await moves.finish(await moves.begin(run, 'store_result'), { path: `${id}/out.txt`, size_bytes: 2_048, sha256: 'a'.repeat(64) });
    const { page, close } = await open(id);
    const told = (await page.locator('#files').textContent()) ?? '';
    for (const part of [`${id}/out.txt`, '2.0 KiB']) expect(told).toContain(part);
    await close();
  });
});

describe('a task that has not ended', () => {
  test('a step with a model shows that it reads its prompt, and from its first word on that it generates [DASH-18]', async () => {
    const { id } = await submit();
    const claim = await moves.begin(await moves.run(id));
    const { sql } = dashboard.api.database;
    await sql`update line set entered_at = entered_at - interval '60 seconds', granted_at = granted_at - interval '20 seconds', started_at = started_at - interval '20 seconds' where task_id = ${id}`;
    const { page, close } = await open(id);
    const told = () => page.locator('#step-1-ollama_generate .try').textContent();
    expect(await told()).toMatch(/waited .* · prompt 2\d s so far/);
    await moves.tell(claim, 'A queue');
    await sql`update task_events set at = at - interval '5 seconds' where task_id = ${id} and kind = 'output'`;
    await page.reload();
    expect(await told()).toMatch(/waited .* · prompt 1\d s · generated \d\.\d s so far/);
    await close();
  });

  test('what it writes appears as it comes, with what was written before, and its end by itself [DASH-18, DASH-13]', async () => {
    const { id } = await submit();
    const run = await moves.run(id);
    const claim = await moves.begin(run);
    await moves.tell(claim, 'Once upon ');
    const { page, faults, close } = await open(id);
    await expect.poll(() => page.locator('#output').textContent()).toContain('Once upon ');
    expect(await page.locator('#status').textContent()).toBe('running');
    await moves.tell(claim, 'a time.');
    await moves.line.note(claim, [{ kind: 'progress', data: { step: 'ollama_generate', attempt: 1, phase: 'llama3.2 answers', done: 5, total: 10 } }]);
    await expect.poll(() => page.locator('#output .text').textContent()).toBe('Once upon a time.');
    await expect.poll(() => page.locator('#progress').textContent()).toContain('llama3.2 answers 5 of 10');
    await moves.finish(claim, { text: 'Once upon a time.' }, inferenceUsage);
    await expect.poll(() => page.locator('#status').textContent()).toBe('completed');
    expect(await page.locator('#progress').textContent()).toBe('');
    expect(await page.locator('#output .text').textContent()).toBe('Once upon a time.');
    expect(faults).toEqual([]);
    await close();
  });

  test('why it waits is told, with place and times, and it is held, released and cancelled [DASH-18]', async () => {
    const { sql } = dashboard.api.database;
    await sql`truncate residency`;
    const { id } = await submit({ name: 'waits' });
    await moves.enter(await moves.run(id));
    await writeForecast(sql, new Date(), [
      forecastEntry(id, {
        key: 'llama3.2:latest~ctx4096',
        start_ms: 20_000,
        start_low_ms: 15_000,
        start_high_ms: 40_000,
        done_ms: 60_000,
        done_low_ms: 50_000,
        done_high_ms: 90_000,
      }),
    ]);
    const { page, faults, close } = await open(id);
    const told = (await page.locator('.banner').textContent()) ?? '';
    expect(told).toMatch(/1st: waits for .*llama3\.2.*Starts in \d+ s \(\d+ s – \d+ s\), the task ends in .*\(/s);
    expect(await page.locator('#step-1-ollama_generate .try').textContent()).toContain('waited');
    await page.getByRole('button', { name: 'Hold' }).click();
    await expect.poll(() => page.locator('#held').count()).toBe(1);
    await page.getByRole('button', { name: 'Release' }).click();
    await expect.poll(() => page.locator('#held').count()).toBe(0);
    await page.getByRole('button', { name: 'Cancel' }).click();
    expect(await answerQuestion(page, 'yes')).toBe('Stop this task?Keep itStop the task');
    await expect.poll(() => page.locator('#status').textContent()).toBe('cancelled');
    await page.locator('.toast.done', { hasText: 'Cancelled.' }).waitFor();
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    expect(faults).toEqual([]);
    await close();
  });

  test('its priority is changed, and a refused change is told and taken back [DASH-18]', async () => {
    const { sql } = dashboard.api.database;
    const { id } = await submit();
    const { page, close } = await open(id);
    await page.locator('#priority').selectOption('9');
    await page.locator('.toast.done').waitFor();
    expect((await sql<{ level: number }[]>`select priority_level as level from tasks where id = ${id}`)[0]?.level).toBe(9);
    await expect.poll(() => page.locator('#priority').getAttribute('data-priority')).toBe('9');
    await page.evaluate(() => {
      (globalThis as unknown as { document: { body: { dataset: Record<string, string> } } }).document.body.dataset['busy'] = '';
    });
    await sql`update tasks set status = 'failed', completed_at = now() where id = ${id}`;
    await page.locator('#priority').selectOption('2');
    await page.locator('.toast.problem').waitFor();
    expect(await page.locator('#priority').inputValue()).toBe('9');
    await close();
  });

  test('tasks that it waits for are linked with their status, and a failed one is told as what to mend [DASH-18]', async () => {
    const parent = await submit({ name: 'parent' });
    const { id } = await submit({ depends_on: [parent.id] });
    await dashboard.api.database.sql`update tasks set status = 'failed', completed_at = now() where id = ${parent.id}`;
    const { page, close } = await open(id);
    expect(await page.locator('#blocked').textContent()).toContain('parent');
    expect(await page.locator('#depends-on').textContent()).toMatch(/parent\s+failed/);
    await page.locator('#depends-on a').click();
    expect(new URL(page.url()).pathname).toBe(`/tasks/${parent.id}`);
    expect(await page.locator('#dependents a').getAttribute('href')).toBe(`/tasks/${id}`);
    await close();
  });
});

test('who scrolls up reads on undisturbed, and follows the end again by a button [DASH-18]', async () => {
  const { id } = await submit();
  const claim = await moves.begin(await moves.run(id));
  await moves.tell(claim, 'line\n'.repeat(200));
  const { page, close } = await open(id);
  const panel = page.locator('#output');
  type Panel = { scrollTop: number; scrollHeight: number; clientHeight: number };
  const below = () =>
    panel.evaluate((node) => (node as unknown as Panel).scrollHeight - (node as unknown as Panel).scrollTop - (node as unknown as Panel).clientHeight);
  await expect.poll(() => panel.textContent()).toContain('line');
  await expect.poll(below).toBeLessThan(5);
  await panel.evaluate((node) => {
    (node as unknown as Panel).scrollTop = 100;
  });
  await page.locator('#follow').waitFor();
  await moves.tell(claim, 'the last line\n');
  await expect.poll(() => panel.textContent()).toContain('the last line');
  expect(await panel.evaluate((node) => (node as unknown as Panel).scrollTop)).toBe(100);
  await page.locator('#follow').click();
  await expect.poll(below).toBeLessThan(5);
  await close();
});

test('of a long output the page keeps the end and says where the rest is [DASH-18, bad-52]', async () => {
  const { id } = await submit();
  const claim = await moves.begin(await moves.run(id));
  for (let piece = 0; piece < 50; piece += 1) await moves.tell(claim, `${piece} ${'x'.repeat(8_000)}\n`);
  const { page, close } = await open(id);
  await expect.poll(() => page.locator('#output').textContent()).toContain('49 xxx');
  expect((await page.locator('#output').textContent())?.length).toBeLessThanOrEqual(200_000);
  expect(await page.locator('#output-left').isVisible()).toBe(true);
  await close();
});

test('scripts in every field are shown as they are [DASH-21, bad-52]', async () => {
  const nasty = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  const id = await completed({ name: nasty, parameters: { model: 'llama3.2', prompt: nasty }, metadata: { note: nasty } }, nasty);
  const { page, faults, close } = await open(id);
  expect(await page.locator('h1').textContent()).toBe(nasty);
  await expect.poll(() => page.locator('#output .text').textContent()).toBe(nasty);
  for (const part of ['#result', '#parameters', '#metadata']) expect(await page.locator(part).textContent()).toContain('<script>');
  expect(await page.locator('main img, main script').count()).toBe(0);
  expect(faults).toEqual([]);
  await close();
});

test('a viewer sees all of it and has no buttons to change it; a task of somebody else, or none, is not there [DASH-15, DASH-17, SEC-05]', async () => {
  const { id } = await submit({ name: 'mine' });
  const viewer = await open(id, {}, 'viewer');
  expect(await viewer.page.locator('h1').textContent()).toBe('mine');
  expect(await viewer.page.locator('main button:not([data-copy]):not([hidden]), #priority').count()).toBe(0);
  await viewer.close();
  for (const [who, missing] of [
    ['bob', id],
    ['ann', randomUUID()],
    ['ann', 'no-id'],
  ] as const) {
    const answer = await fetch(`${dashboard.url}/tasks/${missing}`, { headers: { 'X-API-Key': dashboard.api.keys[who] } });
    expect(answer.status).toBe(404);
    const { page, close } = await open(missing, {}, who);
    expect(await page.locator('main').textContent()).toContain('There is no task with this id');
    await close();
  }
});

test('without scripts it can be read, with the end of its output and the logs [DASH-17]', async () => {
  const id = await failed();
  const { page, close } = await open(id, { scripts: false });
  expect(await page.locator('#output').textContent()).toContain('1 of 40 failed');
  await page.locator('#step-1-execute_script summary').first().click();
  expect(await page.locator('#step-1-execute_script .step-body').textContent()).toContain('collecting tests');
  await close();
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  const bad = await failed();
  const [done, blocked] = [await completed(), await submit({ depends_on: [bad] })];
  for (const id of [bad, done, blocked.id]) {
    const { page, close } = await open(id, { dark });
    await expect.poll(() => page.locator('#live').textContent()).toMatch(/ended|live/);
    for (const step of await page.locator('details.step > summary').all()) await step.click();
    expect(await seriousFaults(page)).toEqual([]);
    await close();
  }
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window, with long names, texts and errors, and before anything has happened [DASH-14]', async () => {
    const long = `${'long-'.repeat(40)}name`;
    const ids = [
      (await submit({ name: long })).id,
      await completed({ name: long, metadata: { [long]: long } }, 'x'.repeat(5_000)),
      await failed('m'.repeat(5_000)),
    ];
    for (const id of ids) {
      const { page, close } = await open(id, { width });
      for (const step of await page.locator('details.step > summary').all()) await step.click();
      expect(await overflowOf(page)).toBeLessThanOrEqual(0);
      await close();
    }
  });
});
