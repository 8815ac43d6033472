import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { steps } from '../../../activities/steps/index.js';
import { packageRoot } from '../../../config.js';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { upsertSeen } from '../../../db/models.js';
import { type Catalogue, loadCatalogue } from '../../../templates/catalogue.js';
import { silent } from '../api/api-under-test.js';
import { type DashboardUnderTest, dashboardUnderTest, type OpenPage, overflowOf, seriousFaults } from './dashboard-under-test.js';

const script = '<img src=x onerror=alert(1)><script>alert(2)</script>';

const everyField = `name: every-field
description: "${script}"
parameters:
  - { name: title, type: string, required: true, min: 2, max: 5, description: "${script}" }
  - { name: code, type: string, pattern: '^[A-Z]{3}$' }
  - { name: notes, type: string, default: "" }
  - { name: count, type: integer, required: true, min: 1, max: 9 }
  - { name: ratio, type: number, default: 0.5 }
  - { name: sure, type: boolean, default: false }
  - { name: maybe, type: boolean }
  - { name: size, type: integer, enum: [10, 20], required: true }
  - { name: labels, type: array, required: true, min: 2 }
  - { name: history, type: array, default: [] }
  - { name: files, type: array }
  - { name: data, type: object }
  - { name: model, type: string, required: true }
steps:
  - { id: read, type: read_files, files: "{{ files | default(['a.txt']) }}", when: files is defined }
  - { id: ask, type: ollama_generate, model: "{{ model }}", prompt: "{{ title }} {{ notes }}" }
  - { id: output, type: format_output, format: text, data: "{{ steps.ask.text }}" }
`;

let dashboard: DashboardUnderTest;
let folder: string;
let catalogue: Catalogue;
const load = (before: Catalogue | null) =>
  loadCatalogue(
    [
      { path: path.join(packageRoot(), 'templates'), source: 'built-in' },
      { path: path.join(packageRoot(), 'templates', 'community'), source: 'community' },
      { path: folder, source: 'local' },
    ],
    steps,
    silent,
    before,
  );

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'templates-'));
  await writeFile(path.join(folder, 'every-field.yaml'), everyField);
  catalogue = await load(null);
  dashboard = await dashboardUnderTest({ deps: { catalogue: () => catalogue } });
});
afterAll(async () => {
  await dashboard.stop();
  await rm(folder, { recursive: true });
});
beforeEach(async () => dashboard.api.database.empty('tasks', 'queue_pauses', 'hosts', 'engines', 'models', 'duration_stats', 'idempotency_keys'));

/** A host with two models, one of them in memory. */
async function host(): Promise<void> {
  const { sql } = dashboard.api.database;
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:11434', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, true, {}, { modelsMax: 2, roomBytes: null, budgetBytes: null, spillBytes: 0 });
  await upsertSeen(sql, 'gpu-1', {
    installed: [
      { name: 'llama3.1:8b', digest: 'sha256:1', sizeBytes: 4_939_212_390, details: {} },
      { name: 'qwen3:4b', digest: 'sha256:2', sizeBytes: 2_791_728_742, details: {} },
    ],
    loaded: [{ name: 'qwen3:4b', digest: 'sha256:2', memoryBytes: 3 * 1_024 ** 3, vramBytes: 0, contextLength: 4_096, expiresAtMs: null, runner: 'sha256:2' }],
    usedAtMs: new Map(),
  });
  await sql`update hosts set lease_until = now() + interval '1 hour'`; // a slow machine is no silent host
}
const tasks = async () => dashboard.api.database.sql<{ id: string; parameters: object; priority: number; name: string; request: object }[]>`
  select id, parameters, priority_level as priority, name, request from tasks order by created_at`;
const submit = ({ page }: OpenPage) => page.getByRole('button', { name: 'Submit' });
/** The task's own page is another one; here only that it is gone to. */
const arrived = async ({ page }: OpenPage) => page.waitForURL(/\/tasks\/[0-9a-f-]{36}$/);

describe('the list [DASH-20]', () => {
  test('shows every template with what it is for, its steps and what it needs, and searches in all of it', async () => {
    const { page, faults, close } = await dashboard.open('viewer', '/templates');
    expect(await page.locator('article.template').count()).toBe(catalogue.list().length);
    expect(await page.locator('.template-group > h2').allTextContents()).toEqual([
      expect.stringContaining('Your own'),
      expect.stringContaining('Built in'),
      expect.stringContaining('From the community'),
    ]);
    const card = page.locator('#template-file-processing');
    expect(await card.textContent()).toContain('Process files with AI analysis');
    expect(await card.locator('.chain li').allTextContents()).toEqual(['read_files', 'ollama_analyze', 'format_output']);
    expect(await card.locator('.takes').textContent()).toContain('input_files, analysis_model, output_format');
    await page.locator('#search').pressSequentially('git clone');
    await expect.poll(() => page.locator('article.template h3').allTextContents()).toEqual(expect.arrayContaining(['git-script-execution']));
    await expect.poll(() => page.locator('#template-ollama-inference').count()).toBe(0);
    await expect.poll(() => page.url()).toContain('q=git+clone');
    expect(await page.locator('#search').inputValue()).toBe('git clone');
    await page.locator('#search').fill('nothing has this');
    await expect.poll(() => page.locator('.empty').textContent()).toContain('No template fits');
    await page.getByRole('link', { name: 'Show all templates' }).click();
    await page.locator('#source').selectOption('built-in');
    await expect.poll(() => page.locator('article.template').count()).toBe(3);
    await page.locator('#template-ollama-inference a').click();
    await page.waitForURL(/\/templates\/ollama-inference$/);
    expect(faults).toEqual([]);
    await close();
  });

  test('tells files that give no template, with line and column, and marks those that are served as they were before', async () => {
    const [broken, stale] = [path.join(folder, 'broken.yaml'), path.join(folder, 'every-field.yaml')];
    await writeFile(broken, `name: broken\nsteps:\n  - { type: "${script.replaceAll('"', '')}" }\n`);
    await writeFile(stale, everyField.replace('name: every-field', 'nam: every-field'));
    const before = catalogue;
    catalogue = await load(before);
    const list = await dashboard.open('ann', '/templates');
    expect(await list.page.locator('.banner.bad').allTextContents()).toEqual([
      expect.stringMatching(/broken\.yaml gives no template[\s\S]*broken\.yaml:3:\d+:/),
    ]);
    expect(await list.page.locator('#template-every-field').textContent()).toMatch(/stale[\s\S]*every-field\.yaml:\d+:\d+:/);
    expect(await list.page.locator('main img, main script').count()).toBe(0);
    await list.close();
    const one = await dashboard.open('ann', '/templates/every-field');
    expect(await one.page.locator('.banner.warn').textContent()).toContain('Its file has faults');
    await one.close();
    catalogue = before;
    await writeFile(stale, everyField);
    await rm(broken);
  });
});

describe('the form [DASH-20]', () => {
  test('somebody who has never seen it submits a task from the list with a few clicks', async () => {
    await host();
    const open = await dashboard.open('ann', '/templates');
    const { page, faults } = open;
    await page.locator('#template-ollama-inference a').click();
    await page.waitForURL(/ollama-inference$/);
    expect(await page.locator('#field-model').inputValue()).toBe('qwen3:4b'); // the one in memory
    expect(await page.locator('.choices button').allTextContents()).toEqual(['qwen3:4b 2.6 GiB, in memory', 'llama3.1:8b 4.6 GiB']);
    await page.locator('.choices button').nth(1).click();
    await page.locator('#field-prompt').fill('Why is the sky blue?');
    await page.locator('#task-priority').selectOption('8');
    await submit(open).click();
    await arrived(open);
    expect(await tasks()).toMatchObject([{ parameters: { model: 'llama3.1:8b', prompt: 'Why is the sky blue?' }, priority: 8, name: 'ollama-inference' }]);
    expect(page.url()).toContain((await tasks())[0]?.id ?? '-');
    // The task's page is another one.
    expect(faults.filter((fault) => !fault.includes('404'))).toEqual([]);
    await open.close();
  });

  test('every kind of field reaches the task with its type, and what is left alone is left out', async () => {
    const open = await dashboard.open('ann', '/templates/every-field');
    const { page } = open;
    await page.locator('#field-title').fill('été');
    await page.locator('#field-count').fill('3');
    await page.locator('#field-size').selectOption('20');
    await page.locator('#field-labels').fill('bug\n question \n\n');
    await page.locator('#field-history').fill('[{"role": "user"}]');
    await page.locator('#field-data').fill('{"a": [1, null]}');
    await page.locator('#field-model').fill(' llama3.2:1b ');
    await page.locator('#field-maybe').selectOption('false');
    await page.locator('#task-name').fill('mine');
    await page.locator('#advanced summary').click();
    await page.locator('#task-locks').fill('deploy build');
    await page.locator('#task-attempts').fill('2');
    await submit(open).click();
    await arrived(open);
    expect(await tasks()).toMatchObject([{ name: 'mine', request: { retry: { max_attempts: 2 }, resource_requirements: { locks: ['deploy', 'build'] } } }]);
    expect((await tasks())[0]?.parameters).toEqual({
      title: 'été',
      notes: '',
      count: 3,
      ratio: 0.5,
      sure: false,
      maybe: false,
      size: 20,
      labels: ['bug', 'question'],
      history: [{ role: 'user' }],
      data: { a: [1, null] },
      model: 'llama3.2:1b',
    });
    await open.close();
  });

  test('what is wrong stands beside its field before anything is sent, and the first one has the focus', async () => {
    const open = await dashboard.open('ann', '/templates/every-field');
    const { page } = open;
    await page.locator('#field-title').fill('too long');
    await page.locator('#field-code').fill('abc');
    await page.locator('#field-count').fill('1.5');
    await page.locator('#field-labels').fill('only');
    await page.locator('#field-data').fill('{"a":');
    await page.locator('#advanced summary').click();
    await page.locator('#task-resources').fill('cpu');
    await page.locator('#advanced summary').click();
    await submit(open).click();
    const fault = (name: string) => page.locator(`#fault-${name}`).textContent();
    expect(await page.evaluate('document.activeElement.id')).toBe('field-title');
    expect(await fault('title')).toBe('At most 5 characters; there are 8.');
    expect(await fault('code')).toContain('form that is asked for');
    expect(await fault('count')).toBe('Only whole numbers.');
    expect(await fault('size')).toBe('Choose one.');
    expect(await fault('labels')).toContain('At least 2 items');
    expect(await fault('data')).toContain('no valid JSON');
    expect(await fault('model')).toBe('Fill this in.');
    expect(await page.locator('#task-resources').isVisible()).toBe(true); // opened, since a fault is in it
    expect(await page.locator('#form-problem').textContent()).toBe('8 fields have to be changed.');
    expect(await page.locator('#field-title').getAttribute('aria-invalid')).toBe('true');
    await page.locator('#field-title').fill('good');
    expect(await page.locator('#fault-title').isVisible()).toBe(false);
    expect(await tasks()).toEqual([]);
    await open.close();
  });

  test('what the API refuses stands beside its field too, and nothing that was written is lost', async () => {
    const open = await dashboard.open('ann', '/templates/git-script-execution');
    const { page } = open;
    await page.locator('#field-repo_url').fill('file:///etc');
    await page.locator('#field-script_path').fill('run.sh');
    await page.locator('#field-output_path').fill('out.json');
    await page.locator('#advanced summary').click();
    await page.locator('#task-after').fill('00000000-0000-4000-8000-000000000000');
    await submit(open).click();
    await page.locator('#form-problem').waitFor();
    expect(await page.locator('#form-problem, .fault:not([hidden])').allTextContents()).toEqual(
      expect.arrayContaining([expect.stringMatching(/repository|There is no task/)]),
    );
    await page.locator('#task-after').fill('');
    await page.locator('#task-name').fill('a\u200bb');
    await submit(open).click();
    await expect.poll(() => page.locator('#fault-name').textContent()).toContain('invisible');
    expect(await page.evaluate('document.activeElement.id')).toBe('task-name');
    expect(await page.locator('#field-script_path').inputValue()).toBe('run.sh');
    await open.close();
  });

  test('a double click, and a second try after a lost answer, make one task [TASK-23]', async () => {
    await host();
    const open = await dashboard.open('ann', '/templates/ollama-inference');
    const { page } = open;
    await page.locator('#field-prompt').fill('hello');
    // The first answer never arrives, though the task was made.
    await page.route('**/api/v1/tasks', async (route) => {
      await route.fetch();
      await route.abort();
    });
    await submit(open).dblclick();
    await page.locator('.toast.problem').waitFor();
    expect(await page.locator('.toast.problem').first().textContent()).toContain('does not answer');
    expect(await page.locator('#field-prompt').inputValue()).toBe('hello');
    expect(await tasks()).toHaveLength(1);
    await page.unroute('**/api/v1/tasks');
    await submit(open).click();
    await arrived(open);
    expect(await tasks()).toHaveLength(1);
    // The same form filled in anew is another task.
    await page.goto(`${dashboard.url}/templates/ollama-inference`);
    expect(await page.locator('#field-prompt').inputValue()).toBe('');
    await page.locator('#field-prompt').fill('hello');
    await submit(open).click();
    await arrived(open);
    expect(await tasks()).toHaveLength(2);
    await open.close();
  });

  test('what was written is there again after a reload, and can be cleared', async () => {
    const { page, close } = await dashboard.open('ann', '/templates/ollama-inference');
    await page.locator('#field-prompt').fill('a long thought');
    await page.reload();
    expect(await page.locator('#field-prompt').inputValue()).toBe('a long thought');
    expect(await page.locator('[data-kept]').isVisible()).toBe(true);
    await page.getByRole('button', { name: 'Clear' }).click();
    await expect.poll(() => page.locator('#field-prompt').inputValue()).toBe('');
    await page.reload();
    expect(await page.locator('[data-kept]').isVisible()).toBe(false);
    await close();
  });

  test('it is filled in from an earlier task, of one’s own alone', async () => {
    const { api } = dashboard;
    const prompt = `\n${script}\n"quoted" & more`;
    const { id } = await api.task(api.keys.ann, { name: 'first', priority: 9, parameters: { model: 'llama3.2', prompt } });
    const open = await dashboard.open('ann', `/templates/ollama-inference?from=${id}`);
    const { page, faults } = open;
    expect(await page.locator('.banner.info').textContent()).toContain('first');
    expect(await page.locator('#field-prompt').inputValue()).toBe(prompt);
    expect(await page.locator('#task-priority').inputValue()).toBe('9');
    expect(await page.locator('main img, main script').count()).toBe(0);
    await page.locator('#field-model').fill('llama3.1:8b');
    await submit(open).click();
    await arrived(open);
    expect((await tasks())[1]).toMatchObject({ name: 'first', priority: 9, parameters: { model: 'llama3.1:8b', prompt } });
    expect(faults.filter((fault) => !fault.includes('404'))).toEqual([]);
    await open.close();
    const foreign = await dashboard.open('bob', `/templates/ollama-inference?from=${id}`);
    expect(await foreign.page.locator('main').textContent()).not.toContain('first');
    expect(await foreign.page.locator('h1').textContent()).toMatch(/No such task/);
    await foreign.close();
    const other = await dashboard.open('ann', `/templates/git-script-execution?from=${id}`);
    expect(await other.page.locator('.banner.info').textContent()).toContain('no parameter model, prompt');
    await other.close();
  });

  test('a dry run shows the steps as they would run, their models, what waits for outputs, how long it takes and when it would start', async () => {
    const { sql } = dashboard.api.database;
    await host();
    for (const type of ['read_files', 'ollama_analyze', 'format_output']) {
      await sql`insert into duration_stats (group_id, samples, log_mean, log_variance, stretch_low, stretch_high) values (${JSON.stringify(['type', type])}, 100, ${Math.log(5_000)}, 0.01, 1, 1)`;
    }
    const { page, faults, close } = await dashboard.open('ann', '/templates/file-processing');
    await page.locator('#field-input_files').fill(`${script}\nb.txt`);
    await page.locator('#field-output_format').fill('json');
    await page.getByRole('button', { name: 'Dry run' }).click();
    const shown = page.locator('#dry-run');
    await shown.waitFor();
    expect(await shown.locator('.expected').textContent()).toMatch(/Takesabout 1[4-6] s, 1\d s to \d\d s in 80 of 100 cases/);
    expect(await shown.locator('.expected').textContent()).toContain('Would start');
    expect(await shown.locator('.expected').textContent()).toContain('qwen3:4b');
    expect(await shown.locator('.plan > li strong').allTextContents()).toEqual(['read_files', 'ollama_analyze', 'format_output']);
    expect(await shown.locator('.plan').textContent()).toContain(script);
    expect(await shown.locator('img, script').count()).toBe(0);
    expect(await page.evaluate('document.activeElement.id')).toBe('dry-run');
    expect(await tasks()).toEqual([]);
    expect(await page.locator('#field-output_format').inputValue()).toBe('json');
    expect(await seriousFaults(page)).toEqual([]);
    expect(faults).toEqual([]);
    await close();
  });

  test('the same call as a command line and with curl follows what the form says, quoted for the shell', async () => {
    const { page, close } = await dashboard.open('ann', '/templates/ollama-inference');
    expect(await page.locator('[data-call-cli]').textContent()).toContain(
      `npx orchestra --api ${dashboard.url} submit ollama-inference \\\n  -p model=llama3.2:1b`,
    );
    await page.locator('#field-model').fill('llama3.2:1b');
    await page.locator('#field-prompt').fill("it's @home");
    await page.locator('#task-priority').selectOption('10');
    expect(await page.locator('[data-call-cli]').textContent()).toBe(
      `npx orchestra --api ${dashboard.url} submit ollama-inference \\\n  -p model=llama3.2:1b \\\n  -p 'prompt=it'\\''s @home' \\\n  --priority 10 \\\n  --wait`,
    );
    expect(await page.locator('[data-call-curl]').textContent()).toContain(`${dashboard.url}/api/v1/tasks`);
    expect(await page.getByRole('button', { name: 'Copy the command line' }).getAttribute('data-copy')).toContain('--priority 10');
    await close();
  });

  test('without a model anywhere it says how to get one', async () => {
    const { page, close } = await dashboard.open('ann', '/templates/ollama-inference');
    expect(await page.locator('.field[data-name="model"] .none').textContent()).toContain('No host has a model yet');
    expect(await page.locator('.field[data-name="model"] a[href="/models"]').count()).toBe(1);
    await close();
  });
});

test('a viewer reads what a template does and submits nothing [DASH-15, DASH-20]', async () => {
  const { page, faults, close } = await dashboard.open('viewer', '/templates/file-processing');
  expect(await page.locator('form#new-task, [data-dry-run]').count()).toBe(0);
  expect(await page.locator('#parameters tbody tr').count()).toBe(3);
  expect(await page.locator('#parameters').getAttribute('open')).toBe('');
  expect(faults).toEqual([]);
  await close();
});

test('each template has its documentation: steps, parameters, result and file [DASH-20, TPL-20]', async () => {
  const { page, close } = await dashboard.open('ann', '/templates/every-field');
  expect(await page.locator('.aside .plan').first().locator('li strong').allTextContents()).toEqual(['read', 'ask', 'output']);
  expect(await page.locator('.aside .plan').first().textContent()).toContain('Only when files is defined');
  await page.locator('#parameters summary').click();
  expect(await page.locator('#parameters tbody tr').nth(0).textContent()).toContain('at least 2 characters; at most 5 characters');
  await page.locator('#result summary').click();
  expect(await page.locator('#result tbody').textContent()).toContain('text');
  await page.locator('#yaml summary').click();
  expect(await page.locator('#yaml pre').textContent()).toBe(everyField);
  expect(await page.locator('#yaml a').getAttribute('href')).toBe('/api/v1/templates/every-field/docs');
  expect(await page.locator('main img, main script').count()).toBe(0);
  await close();
});

describe.each([768, 1_024, 1_440, 2_560])('at %d pixels', (width) => {
  test('nothing is wider than the window [DASH-14]', async () => {
    await host();
    for (const address of ['/templates', '/templates/every-field', '/templates/git-script-execution', '/templates/compare-models']) {
      const { page, close } = await dashboard.open('ann', address, { width });
      for (const summary of await page.locator('main summary').all()) await summary.click();
      expect(await overflowOf(page), address).toBeLessThanOrEqual(0);
      await close();
    }
  });
});

test.each([false, true])('people who cannot see or use a mouse find everything; dark: %s [DASH-17]', async (dark) => {
  await host();
  for (const address of ['/templates', '/templates/every-field', '/templates/ollama-inference']) {
    const { page, close } = await dashboard.open('ann', address, { dark });
    for (const summary of await page.locator('main summary').all()) await summary.click();
    if (address !== '/templates') await page.getByRole('button', { name: 'Submit' }).click();
    expect([address, await seriousFaults(page)]).toEqual([address, []]);
    await close();
  }
});

test('without scripts both pages can be read, and the list searched by a button [DASH-17]', async () => {
  const { page, close } = await dashboard.open('ann', '/templates', { scripts: false });
  await page.locator('#search').fill('git clone');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.locator('#template-git-script-execution a').click();
  expect(await page.locator('main').textContent()).toContain('Clone repository, run script, store results');
  expect(await page.locator('[data-call-cli]').textContent()).toContain('npx orchestra submit git-script-execution');
  expect(await page.locator('noscript').textContent()).toContain('Submitting needs scripts');
  await close();
});

test.each(['/templates/nothing', '/templates/..%2fetc', '/templates/olama-inference', '/templates/ollama-inference?from=x'])(
  '%s is not found [DASH-17]',
  async (address) => {
    const { page, close } = await dashboard.open('ann', address);
    expect(await page.locator('h1').textContent()).toMatch(/No such (task|template)/);
    await close();
  },
);
